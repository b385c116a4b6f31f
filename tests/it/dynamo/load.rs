//! Many writers at once, and more rows than fit into one page of 1 MB.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use sacker::error::Meaning;
use sacker::model::{PackageView, TagChange, Version, verify_chain};

use super::{Tables, moving, moving_from, new_version, number, package, row, tag, text, version};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_writers_add_fifty_each_without_a_gap() {
    const WRITERS: usize = 8;
    const ADDS: usize = 50;
    let Some(tables) = Tables::new().await else { return };
    let frontend = package("frontend");
    let mut tasks = Vec::new();
    for _ in 0..WRITERS {
        let (ledger, frontend) = (tables.again(&tables.connect).await, frontend.clone());
        tasks.push(tokio::spawn(async move {
            let mut mine = Vec::new();
            for _ in 0..ADDS {
                let new = new_version();
                let record = ledger.add(&frontend, &new).await.expect("add");
                assert_eq!(record.sha256, new.sha256);
                mine.push(record);
            }
            assert!(mine.is_sorted_by(|a, b| a.version < b.version), "one writer's versions increase");
            mine
        }));
    }
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.expect("the writer ends well"));
    }
    acknowledged.sort_by_key(|record| record.version);
    let numbers: Vec<_> = acknowledged.iter().map(|record| record.version.get()).collect();
    assert_eq!(numbers, (1..=400).collect::<Vec<_>>());
    assert_eq!(tables.ledger.versions(&frontend).await.expect("versions"), acknowledged);
}

/// As the 2015 client adds: the newest by a query, then a put on condition that the next number is free.
async fn old_add(tables: &Tables, name: &str) -> Option<i64> {
    let query =
        tables.client.query().table_name(&tables.prefix).key_condition_expression("package_name = :p");
    let query = query.expression_attribute_values(":p", text(name)).scan_index_forward(false).limit(1);
    let newest = query.consistent_read(true).send().await.expect("query");
    let highest = newest
        .items()
        .first()
        .map_or(0, |item| item["version"].as_n().expect("a number").parse::<i64>().expect("a number"));
    let item = row(&[
        ("package_name", text(name)),
        ("version", number(highest + 1)),
        ("basename", text("app.jar")),
        ("sha", text(&"ab".repeat(32))),
        ("mode", number(33188)),
        ("metadata", text("null")),
    ]);
    let put = tables.client.put_item().table_name(&tables.prefix).set_item(Some(item));
    let put = put.condition_expression("attribute_not_exists(package_name)").send().await;
    put.is_ok().then_some(highest + 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_both_kinds_share_the_numbers() {
    const ADDS: usize = 25;
    let Some(tables) = Tables::new().await else { return };
    let frontend = package("frontend");
    let ours = async {
        let mut mine = Vec::new();
        for _ in 0..ADDS {
            mine.push(tables.ledger.add(&frontend, &new_version()).await.expect("add").version.get());
        }
        mine
    };
    let theirs = async {
        let mut mine = Vec::new();
        while mine.len() < ADDS {
            mine.extend(old_add(&tables, "frontend").await);
        }
        mine
    };
    let (ours, theirs) = tokio::join!(ours, theirs);
    let mut all: Vec<_> = ours.into_iter().chain(theirs).collect();
    all.sort_unstable();
    assert_eq!(all, (1..=2 * i64::try_from(ADDS).expect("small")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_racers_have_one_winner_in_each_of_fifty_rounds() {
    const RACERS: usize = 8;
    const ROUNDS: i64 = 50;
    let Some(tables) = Tables::new().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    for _ in 0..3 {
        tables.ledger.add(&frontend, &new_version()).await.expect("add");
    }
    tables.ledger.change_tag(&frontend, &live, &moving(1)).await.expect("the start");
    let mut ledgers = Vec::new();
    for _ in 0..RACERS {
        ledgers.push(tables.again(&tables.connect).await);
    }
    for round in 0..ROUNDS {
        let (from, to) = (round % 3 + 1, (round + 1) % 3 + 1);
        let tasks: Vec<_> = ledgers
            .iter()
            .map(|ledger| {
                let (ledger, frontend, live) = (ledger.clone(), frontend.clone(), live.clone());
                tokio::spawn(async move { ledger.change_tag(&frontend, &live, &moving_from(from, to)).await })
            })
            .collect();
        let mut winners = 0;
        for task in tasks {
            match task.await.expect("the racer ends well") {
                Ok(outcome) => {
                    assert_eq!(outcome.previous, Some(version(from)));
                    winners += 1;
                }
                Err(error) => assert!(matches!(error.meaning(), Meaning::Conflict { .. }), "{error}"),
            }
        }
        assert_eq!(winners, 1, "round {round}");
    }
    let events = tables.ledger.history(&frontend, &live).await.expect("history");
    verify_chain(&events).expect("one chain");
    assert_eq!(events.len(), 51);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_2015_client_in_the_race_breaks_no_chain() {
    let Some(tables) = Tables::new().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    for _ in 0..3 {
        tables.ledger.add(&frontend, &new_version()).await.expect("add");
    }
    let racer = |offset: i64| {
        let (tables, frontend, live) = (&tables, &frontend, &live);
        async move {
            let mut moved = 0;
            for round in 0..25 {
                let change = moving((round + offset) % 3 + 1);
                let outcome = tables.ledger.change_tag(frontend, live, &change).await.expect("move");
                moved += usize::from(outcome.event.is_some());
            }
            moved
        }
    };
    let old = async {
        for round in 0..25 {
            if round % 5 == 4 {
                tables.old_untag("frontend", "live").await;
            } else {
                tables.old_tag("frontend", "live", number(round % 3 + 1)).await;
            }
        }
    };
    let (one, two, ()) = tokio::join!(racer(0), racer(1), old);
    let events = tables.ledger.history(&frontend, &live).await.expect("history");
    verify_chain(&events).expect("one chain");
    let ours = events.iter().filter(|event| event.by == "alice").count();
    assert_eq!(ours, one + two, "an event for each move that was acknowledged, and none besides");
}

#[tokio::test]
async fn everything_is_read_over_many_pages() {
    const BIG: usize = 150 * 1024;
    let Some(tables) = Tables::new().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    let mut added = Vec::new();
    for _ in 0..20 {
        let mut new = new_version();
        new.metadata = BTreeMap::from([("notes".into(), "x".repeat(BIG))]);
        added.push(tables.ledger.add(&frontend, &new).await.expect("add"));
    }
    let pages = || tables.gate.take_log().iter().filter(|entry| entry.operation == "Query").count();
    pages();
    assert_eq!(tables.ledger.versions(&frontend).await.expect("versions"), added);
    assert!(pages() > 2, "3 MB do not fit into two pages");
    assert_eq!(tables.ledger.latest(&frontend).await.expect("latest"), added[19]);
    let newest = tables.ledger.newest(&frontend, 15).await.expect("newest");
    assert_eq!((newest.records.len(), newest.version_count), (15, 20));
    assert_eq!(newest.records[14], added[5]);
    assert_eq!(tables.ledger.view(&frontend).await.expect("view").recent.len(), PackageView::RECENT);

    let big_move = |to| {
        let mut change: TagChange = moving(to);
        change.actor.reason = Some("x".repeat(BIG));
        change
    };
    for index in 0..10 {
        tables.ledger.change_tag(&frontend, &live, &big_move(index % 2 + 1)).await.expect("move");
        let other = tag(&format!("tag-{index}"));
        tables.ledger.change_tag(&frontend, &other, &big_move(1)).await.expect("move");
    }
    pages();
    assert_eq!(tables.ledger.history(&frontend, &live).await.expect("history").len(), 10);
    assert!(pages() > 1);
    assert_eq!(tables.ledger.tags(&frontend).await.expect("tags").len(), 11);
    assert!(pages() > 1);

    // The newest may have been removed, by the page.
    for record in &added[2..] {
        let mut tombstone = tables.raw_version("frontend", record.version.get()).await.expect("there");
        tombstone.insert("sha".into(), text(&"0".repeat(64)));
        tables.put(&tables.prefix, tombstone).await;
    }
    let newest = tables.ledger.newest(&frontend, 3).await.expect("newest");
    assert_eq!(
        newest.records.iter().map(|record| record.version).collect::<Vec<Version>>(),
        [version(2), version(1)]
    );
    assert_eq!(newest.version_count, 20);
    assert_eq!(tables.ledger.latest(&frontend).await.expect("latest").version, version(2));
}

#[tokio::test]
async fn packages_are_found_without_a_full_scan() {
    let Some(tables) = Tables::new().await else { return };
    for index in 0..50 {
        for number in 1..=5 {
            tables.old_version(&format!("team-{}/package-{index}", index % 3), number, "null").await;
        }
    }
    tables.gate.take_log();
    let mut packages: Vec<_> = tables.ledger.packages().try_collect().await.expect("packages");
    packages.sort();
    packages.dedup();
    assert_eq!(packages.len(), 50);
    let requests = tables.gate.take_log();
    assert!(requests.iter().all(|entry| entry.operation == "Scan"));
    assert_eq!(requests.len(), 50 + 8, "one per package, one per segment");
}
