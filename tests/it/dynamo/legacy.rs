//! Beside a client of 2015: its rows are read, taken into the history and removed; ours are what it expects.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use futures::TryStreamExt as _;
use sacker::error::{Meaning, Missing};
use sacker::model::{Change, Claim, EventKind, EventSource, Expected, Spec, TagChange, verify_chain};

use super::{Tables, actor, moving, moving_from, new_version, number, package, row, tag, text, version};

#[tokio::test]
async fn its_versions_are_read() {
    let Some(tables) = Tables::new().await else { return };
    let frontend = package("frontend");
    tables.old_version("frontend", 1, "null").await;
    tables.old_version("frontend", 2, r#"{"commit": "abc", "build": 7}"#).await;
    let records = tables.ledger.versions(&frontend).await.expect("versions");
    assert_eq!(records[0].metadata, BTreeMap::new());
    let expected = BTreeMap::from([("build".to_owned(), "7".to_owned()), ("commit".into(), "abc".into())]);
    assert_eq!(records[1].metadata, expected);
    assert_eq!((records[1].mode, records[1].basename.as_str()), (0o100_644, "app.jar"));
    assert_eq!(tables.ledger.latest(&frontend).await.expect("latest"), records[1]);
    assert_eq!(tables.ledger.add(&frontend, &new_version()).await.expect("add").version, version(3));
}

/// Types and attributes, as its `boto` reads them.
#[tokio::test]
async fn our_rows_are_what_it_reads() {
    let Some(tables) = Tables::new().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    let mut new = new_version();
    new.metadata = BTreeMap::from([("commit".into(), "abc".into())]);
    tables.ledger.add(&frontend, &new).await.expect("add");
    tables.ledger.change_tag(&frontend, &live, &moving(1)).await.expect("move");

    let there = tables.raw_version("frontend", 1).await.expect("there");
    assert_eq!(there["package_name"], text("frontend"));
    assert_eq!(there["version"], number(1));
    assert_eq!(there["basename"], text("app.jar"));
    assert_eq!(there["sha"], text(&new.sha256.to_string()));
    assert_eq!(there["mode"], number(33188));
    assert_eq!(there["metadata"], text(r#"{"commit":"abc"}"#));
    assert_eq!(there["tag_rev"], number(1), "the move is counted");

    let there = tables.raw_tag("frontend", "live").await.expect("there");
    assert_eq!((&there["tag"], &there["version"]), (&text("live"), &number(1)));

    // All rows that a query by package shows are versions and tags, never the history.
    for table in [tables.prefix.clone(), tables.tags()] {
        let query =
            tables.client.query().table_name(table).key_condition_expression("package_name = :package");
        let query = query.expression_attribute_values(":package", text("frontend"));
        assert_eq!(query.send().await.expect("query").count(), 1);
    }
    tables.ledger.change_tag(&frontend, &live, &TagChange::new(Change::Untag, actor())).await.expect("untag");
    assert_eq!(tables.raw_tag("frontend", "live").await, None, "an untagged tag is no row");
}

#[tokio::test]
async fn its_tags_are_read() {
    let Some(tables) = Tables::new().await else { return };
    let frontend = package("frontend");
    tables.old_version("frontend", 1, "null").await;
    tables.old_tag("frontend", "live", number(1)).await;
    tables.old_tag("frontend", "42", number(1)).await;
    tables.old_tag("frontend", "a#b/ä", text("1")).await;
    tables.old_tag("frontend", "gone", number(9)).await;
    tables.old_tag("frontend", "word", text("latest")).await;
    let tags = tables.ledger.tags(&frontend).await.expect("tags");
    let read: Vec<_> = tags.iter().map(|state| (state.tag.as_str(), state.version)).collect();
    let one = Some(version(1));
    assert_eq!(
        read,
        [("42", one), ("a#b/ä", one), ("gone", Some(version(9))), ("live", one), ("word", None)]
    );
    assert!(tags.iter().all(|state| state.event.is_none()));

    let resolved = tables.ledger.resolve(&frontend, &Spec::Tag(tag("live"))).await.expect("resolve");
    assert_eq!(resolved.record.version, version(1));
    let error = tables.ledger.resolve(&frontend, &Spec::Tag(tag("gone"))).await.expect_err("no version 9");
    assert_eq!(error.meaning(), &Meaning::NotFound(Missing::Version(frontend.clone(), version(9))));
    assert_eq!(tables.ledger.history(&frontend, &tag("live")).await.expect("history"), []);
    let view = tables.ledger.view(&frontend).await.expect("view");
    assert_eq!(view.tags.iter().filter(|tag| tag.record.is_some()).count(), 3);
}

#[tokio::test]
async fn moving_its_tag_adopts_it_first() {
    let Some(tables) = Tables::new().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    for number in 1..=2 {
        tables.old_version("frontend", number, "null").await;
    }
    tables.old_tag("frontend", "live", number(1)).await;
    let outcome = tables.ledger.change_tag(&frontend, &live, &moving_from(1, 2)).await.expect("move");
    assert_eq!((outcome.previous, outcome.state.seq()), (Some(version(1)), 2));
    let events = tables.ledger.history(&frontend, &live).await.expect("history");
    verify_chain(&events).expect("one chain");
    let told: Vec<_> = events.iter().map(|event| (event.kind, event.source, event.from, event.to)).collect();
    let (one, two) = (Some(version(1)), Some(version(2)));
    assert_eq!(
        told,
        [(EventKind::Adopt, EventSource::Legacy, None, one), (EventKind::Move, EventSource::Cli, one, two)]
    );
}

#[tokio::test]
async fn its_overwriting_and_deleting_enters_the_history() {
    let Some(tables) = Tables::new().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    for number in 1..=3 {
        tables.old_version("frontend", number, "null").await;
    }
    let robot = "k8s:cluster/web/live";
    let owned = moving(1).claiming(Claim::Owner(robot.into()));
    tables.ledger.change_tag(&frontend, &live, &owned).await.expect("move");

    tables.old_tag("frontend", "live", number(2)).await;
    let state = tables.ledger.tag(&frontend, &live).await.expect("tag").expect("there");
    assert_eq!((state.version, state.event), (Some(version(2)), None));
    let owned = moving(3).claiming(Claim::Owner(robot.into()));
    tables.ledger.change_tag(&frontend, &live, &owned).await.expect("it is still theirs");

    tables.old_untag("frontend", "live").await;
    let state = tables.ledger.tag(&frontend, &live).await.expect("tag").expect("known");
    assert_eq!((state.version, state.event), (None, None));
    let error = tables.ledger.change_tag(&frontend, &live, &moving(1)).await.expect_err("owned");
    assert_eq!(error.meaning(), &Meaning::Owned { owner: robot.into() }, "that client knows no owners");
    let owned = moving(1).claiming(Claim::Owner(robot.into()));
    tables.ledger.change_tag(&frontend, &live, &owned).await.expect("move");

    let events = tables.ledger.history(&frontend, &live).await.expect("history");
    verify_chain(&events).expect("one chain");
    let targets: Vec<_> = events.iter().map(|event| event.to.map(sacker::model::Version::get)).collect();
    assert_eq!(targets, [Some(1), Some(2), Some(3), None, Some(1)]);
    let sources: Vec<_> = events.iter().map(|event| event.source == EventSource::Legacy).collect();
    assert_eq!(sources, [false, true, false, true, false]);
}

#[tokio::test]
async fn its_odd_tags_can_be_removed_but_not_moved() {
    let Some(tables) = Tables::new().await else { return };
    let frontend = package("frontend");
    tables.old_version("frontend", 1, "null").await;
    let odd = [("42", number(1)), ("latest", number(1)), ("a#000000000001", number(1)), ("ä b", text("1"))];
    let broken = [("gone", number(9)), ("word", text("latest")), ("list", AttributeValue::L(Vec::new()))];
    for (name, raw) in odd.iter().chain(&broken) {
        tables.old_tag("frontend", name, raw.clone()).await;
    }
    for (name, _) in &odd {
        let error = tables.ledger.change_tag(&frontend, &tag(name), &moving(1)).await.expect_err(name);
        assert!(matches!(error.meaning(), Meaning::Invalid { .. }), "{error}");
        assert!(tables.raw_tag("frontend", name).await.is_some_and(|row| !row.contains_key("seq")));
    }
    let untag = TagChange::new(Change::Untag, actor());
    let error = tables.ledger.change_tag(&frontend, &tag("latest"), &untag).await.expect_err("it is no tag");
    assert!(matches!(error.meaning(), Meaning::Invalid { .. }), "{error}");
    for (name, _) in odd.iter().chain(&broken).filter(|(name, _)| *name != "latest") {
        let untag = TagChange::new(Change::Untag, actor());
        tables.ledger.change_tag(&frontend, &tag(name), &untag).await.expect(name);
        assert_eq!(tables.raw_tag("frontend", name).await, None, "{name}");
        let events = tables.ledger.history(&frontend, &tag(name)).await.expect(name);
        verify_chain(&events).expect(name);
        assert_eq!(events.last().and_then(|event| event.to), None, "{name}");
    }
    assert_eq!(tables.ledger.tags(&frontend).await.expect("tags"), []);
}

#[tokio::test]
async fn a_broken_target_can_be_left_but_not_chosen() {
    let Some(tables) = Tables::new().await else { return };
    let (frontend, gone) = (package("frontend"), tag("gone"));
    tables.old_version("frontend", 1, "null").await;
    tables.old_tag("frontend", "gone", number(9)).await;
    // Where the tag points already is no excuse.
    let error = tables.ledger.change_tag(&frontend, &gone, &moving(9)).await.expect_err("no version 9");
    assert_eq!(error.meaning(), &Meaning::NotFound(Missing::Version(frontend.clone(), version(9))));
    assert_eq!(tables.ledger.history(&frontend, &gone).await.expect("history"), [], "nothing was written");
    tables.ledger.change_tag(&frontend, &gone, &moving(1)).await.expect("move");
    // Nor is it once the tag is ours.
    let delete = tables.client.delete_item().table_name(&tables.prefix);
    let key = row(&[("package_name", text("frontend")), ("version", number(1))]);
    delete.set_key(Some(key)).send().await.expect("delete");
    tables.old_version("frontend", 2, "null").await;
    let error = tables.ledger.change_tag(&frontend, &gone, &moving(1)).await.expect_err("no version 1");
    assert_eq!(error.meaning(), &Meaning::NotFound(Missing::Version(frontend, version(1))));
}

#[tokio::test]
async fn an_expectation_speaks_of_what_a_reader_saw() {
    let Some(tables) = Tables::new().await else { return };
    let (frontend, live) = (package("frontend"), tag("live"));
    for number in 1..=2 {
        tables.old_version("frontend", number, "null").await;
    }
    tables.old_tag("frontend", "live", number(1)).await;
    let change = |to, expected| moving(to).expecting(expected);
    for wrong in [Expected::Seq(1), Expected::Version(version(2))] {
        let error =
            tables.ledger.change_tag(&frontend, &live, &change(2, wrong)).await.expect_err("conflict");
        assert!(matches!(error.meaning(), Meaning::Conflict { .. }), "{error}");
    }
    assert_eq!(tables.ledger.history(&frontend, &live).await.expect("history"), [], "nothing was written");
    let seen = tables.ledger.tag(&frontend, &live).await.expect("tag").expect("there").seq();
    tables
        .ledger
        .change_tag(&frontend, &live, &change(2, Expected::Seq(seen)))
        .await
        .expect("as it was read");
}

#[tokio::test]
async fn removed_versions_are_not_given_out() {
    let Some(tables) = Tables::new().await else { return };
    let frontend = package("frontend");
    for number in 1..=2 {
        tables.old_version("frontend", number, "null").await;
    }
    let mut tombstone = tables.raw_version("frontend", 2).await.expect("there");
    tombstone.insert("sha".into(), text(&"0".repeat(64)));
    tables.put(&tables.prefix, tombstone).await;

    let removed = Meaning::NotFound(Missing::Removed(frontend.clone(), version(2)));
    assert_eq!(tables.ledger.version(&frontend, version(2)).await.expect_err("removed").meaning(), &removed);
    let moved = tables.ledger.change_tag(&frontend, &tag("live"), &moving(2)).await;
    assert_eq!(moved.expect_err("removed").meaning(), &removed);
    assert_eq!(tables.ledger.latest(&frontend).await.expect("latest").version, version(1));
    let newest = tables.ledger.newest(&frontend, 5).await.expect("newest");
    assert_eq!((newest.records.len(), newest.version_count), (1, 2));
    assert_eq!(tables.ledger.versions(&frontend).await.expect("versions").len(), 2);
    assert_eq!(tables.ledger.add(&frontend, &new_version()).await.expect("add").version, version(3));
}

#[tokio::test]
async fn corrupt_rows_are_named_and_never_overwritten() {
    let Some(tables) = Tables::new().await else { return };
    let frontend = package("frontend");
    tables.old_version("frontend", 1, "null").await;
    let mut broken = tables.raw_version("frontend", 1).await.expect("there");
    broken.insert("version".into(), number(2));
    broken.insert("sha".into(), text("not a sha"));
    tables.put(&tables.prefix, broken.clone()).await;
    let error = tables.ledger.latest(&frontend).await.expect_err("corrupt");
    assert!(matches!(error.meaning(), Meaning::Corrupt { .. }), "{error}");
    assert_eq!(error.key(), Some(format!("table '{}', row 'frontend' / '2'", tables.prefix).as_str()));
    // It does not stop a new version.
    assert_eq!(tables.ledger.add(&frontend, &new_version()).await.expect("add").version, version(3));

    let (live, target) = (tag("live"), moving(1));
    tables.ledger.change_tag(&frontend, &live, &target).await.expect("move");
    let mut edited = tables.raw_tag("frontend", "live").await.expect("there");
    edited.insert("version".into(), number(3));
    tables.put(&tables.tags(), edited.clone()).await;
    for result in [
        tables.ledger.tag(&frontend, &live).await.map(|_| ()),
        tables.ledger.change_tag(&frontend, &live, &moving(3)).await.map(|_| ()),
    ] {
        let error = result.expect_err("corrupt");
        assert!(matches!(error.meaning(), Meaning::Corrupt { .. }), "{error}");
    }
    assert_eq!(tables.raw_tag("frontend", "live").await, Some(edited));
}

#[tokio::test]
async fn names_that_no_table_can_hold_are_not_there() {
    let Some(tables) = Tables::new().await else { return };
    tables.ledger.add(&package("frontend"), &new_version()).await.expect("add");
    tables.ledger.change_tag(&package("frontend"), &tag("live"), &moving(1)).await.expect("move");
    let own = "sacker:history:frontend".to_owned();
    for name in [String::new(), "x".repeat(2049), own.clone()] {
        let name = package(&name);
        assert!(tables.ledger.versions(&name).await.expect_err("absent").is_not_found());
        assert!(tables.ledger.newest(&name, 1).await.expect_err("absent").is_not_found());
        assert!(tables.ledger.version(&name, version(1)).await.expect_err("absent").is_not_found());
        assert!(tables.ledger.tags(&name).await.expect_err("absent").is_not_found());
        assert_eq!(tables.ledger.tag(&name, &tag("live#000000000001")).await.expect("read"), None);
    }
    for name in [String::new(), "x".repeat(1025), "x".repeat(1024)] {
        assert_eq!(tables.ledger.tag(&package("frontend"), &tag(&name)).await.expect("read"), None);
        assert!(
            tables.ledger.history(&package("frontend"), &tag(&name)).await.expect_err("none").is_not_found()
        );
    }
    // The history cannot be edited by the name of its rows.
    let untag = TagChange::new(Change::Untag, actor());
    let error = tables.ledger.change_tag(&package(&own), &tag("live#000000000001"), &untag).await;
    assert!(matches!(error.expect_err("refused").meaning(), Meaning::Invalid { .. }));
    let packages: Vec<_> = tables.ledger.packages().try_collect().await.expect("packages");
    assert_eq!(packages, [package("frontend")]);
}
