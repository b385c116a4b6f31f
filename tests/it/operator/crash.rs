//! `kill -9` in the middle of promotions: the next process ends what this one began, and nothing happens twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sacker::model::EventKind;
use serde_json::json;

use super::bench::{Bench, say};
use super::process::Operator;
use crate::support::cluster::{Cluster, LEDGER, PACKAGE, TAG};
use crate::support::tier;

/// How many promotions there are, and at least as many kills.
const PROMOTIONS: usize = 20;

const TAGS: [&str; 4] = ["alpha", "beta", "gamma", "live"];

#[tokio::test]
async fn twenty_kills_during_twenty_promotions_leave_every_tag_where_it_should_be() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let mut random = fastrand::Rng::with_seed(tier::seed("kill -9 during promotions"));
    let bench = Bench::on(&cluster, None).await;
    bench.versions(5).await;
    let start = || Operator::start(&cluster, &["--cluster-name", "crash", "--lease-duration", "2s"]);
    let mut operator = start();
    let mut wanted: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for tag in TAGS {
        bench.apply_tag(tag, "version: 1");
        bench.until_applied(tag, 1).await;
        wanted.insert(tag, vec![1]);
    }
    let mut kills = 0;
    for round in 0..PROMOTIONS {
        let tag = TAGS[random.usize(..TAGS.len())];
        let targets = wanted.get_mut(tag).expect("it has one");
        let at = *targets.last().expect("it has one");
        let to = (1..=5).filter(|version| *version != at).nth(random.usize(..4)).expect("four others");
        // Where every promotion was needed, every one must be in the history, once.
        bench.until_applied(tag, at).await;
        bench.api.patch(TAG, &bench.namespace, tag, json!({ "spec": { "version": to } })).await;
        targets.push(to);
        // The moment is what the seed is for: from before the pass begins to after its status is written.
        tokio::time::sleep(Duration::from_micros(random.u64(0..120_000))).await;
        operator.kill();
        kills += 1;
        operator = start();
        // Some die young, while they take the lease, read their caches, or finish what the last one left.
        if round % 3 == 0 {
            tokio::time::sleep(Duration::from_micros(random.u64(0..1_000_000))).await;
            operator.kill();
            kills += 1;
            operator = start();
        }
    }
    for (tag, targets) in &wanted {
        let last = *targets.last().expect("it has one");
        bench.until_applied(tag, last).await;
        assert_eq!(bench.points_at(tag).await, Some(last), "{tag}");
        let history = bench.history(tag).await;
        let moves: Vec<i64> = history
            .iter()
            .filter(|event| event.kind == EventKind::Move)
            .filter_map(|event| event.to.map(sacker::model::Version::get))
            .collect();
        assert_eq!(&moves, targets, "{tag}: each promotion once and in order; {history:#?}");
        assert_eq!(history.len(), moves.len(), "{tag}: no other event; {history:#?}");
    }
    say(&format!("{PROMOTIONS} promotions of {} tags through {kills} kills", TAGS.len()));
    operator.terminate();
    assert_eq!(operator.wait(Duration::from_secs(20)), Some(0), "{}", operator.log());
}

#[tokio::test]
async fn a_successor_that_came_while_nobody_looked_is_an_object_of_its_own() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let bench = Bench::on(&cluster, None).await;
    bench.versions(2).await;
    let start = || Operator::start(&cluster, &["--cluster-name", "crash"]);
    let operator = start();
    bench.apply_tag("live", "version: 1, deletionPolicy: Delete");
    let first = bench.until_applied("live", 1).await;
    operator.kill();
    // Gone without the operator's knowledge, and there again with another wish.
    let place = (TAG, bench.namespace.as_str(), "live");
    bench.api.delete(TAG, &bench.namespace, "live").await;
    let nobody = json!({ "metadata": { "finalizers": null } });
    bench.api.patch(TAG, &bench.namespace, "live", nobody).await;
    bench.api.until_gone(place, Duration::from_secs(10)).await;
    bench.apply_tag("live", "version: 2");
    let operator = start();
    let second = bench.until_applied("live", 2).await;
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
    let moves: Vec<_> = bench.history("live").await.iter().map(|event| (event.kind, event.to)).collect();
    let to = |number| (EventKind::Move, sacker::model::Version::new(number));
    assert_eq!(moves, [to(1), to(2)], "what was wished of the one that is gone is over");
    operator.terminate();
    assert_eq!(operator.wait(Duration::from_secs(20)), Some(0), "{}", operator.log());
}

#[tokio::test]
async fn two_operators_at_once_move_every_tag_once_and_come_to_rest() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let bench = Bench::on(&cluster, None).await;
    bench.versions(2).await;
    // Without an election nothing keeps them apart but the ledger's compare-and-swap.
    let arguments = ["--cluster-name", "crash", "--leader-elect=false"];
    let operators = [Operator::start(&cluster, &arguments), Operator::start(&cluster, &arguments)];
    operators.iter().for_each(Operator::until_ready);
    let names: Vec<String> = (0..10).map(|number| format!("tag-{number}")).collect();
    for version in [1, 2, 1, 2] {
        let spec = format!("version: {version}");
        let tags = names.iter().map(|name| bench.tag_yaml(&bench.namespace, name, name, &spec));
        cluster.apply(&tags.collect::<String>());
        for name in &names {
            bench.until_applied(name, version).await;
        }
    }
    bench.apply_package("mirror", "publish: {configMap: artifacts}");
    for name in &names {
        let moves: Vec<_> = bench.history(name).await.iter().map(|event| (event.kind, event.to)).collect();
        let to = |number| (EventKind::Move, sacker::model::Version::new(number));
        assert_eq!(moves, [to(1), to(2), to(1), to(2)], "{name}");
    }
    // They agree, and neither corrects what the other wrote.
    let versions = async || {
        let mut seen = Vec::new();
        for (kind, namespace) in [(TAG, &*bench.namespace), (PACKAGE, &*bench.namespace), (LEDGER, "")] {
            for object in bench.api.list(kind, namespace).await {
                seen.push((
                    object["metadata"]["name"].clone(),
                    object["metadata"]["resourceVersion"].clone(),
                ));
            }
        }
        seen
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    let (mut before, mut since) = (versions().await, Instant::now());
    while since.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = versions().await;
        if now != before {
            assert!(Instant::now() < deadline, "they do not come to rest: {before:?} {now:?}");
            (before, since) = (now, Instant::now());
        }
    }
}
