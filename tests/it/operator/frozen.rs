//! A leader that is stopped in the middle of promotions for longer than its lease, and goes on while another one leads.
//! Each operator reaches the ledger through a gate of its own, whose log says what it asked for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use sacker::model::{PackageName, TagName, Version, verify_chain};
use serde_json::json;

use super::bench::{Bench, object_yaml};
use super::process::Operator;
use crate::support::cluster::{Cluster, PATIENCE, TAG};
use crate::support::faultgate::{Action, Entry, Gate, Match, Rule, operations};
use crate::support::testbed;
use crate::support::{eventually, tier, unique};

const LEASE: Duration = Duration::from_secs(3);

/// Promotions under way when the leader is stopped.
const TAGS: usize = 20;

/// How long one that lost its lease may take to find out once it runs again.
const NOTICE: Duration = Duration::from_secs(2);

/// What one request takes on its way: so that some are under way whenever the process stops.
const WAY: Duration = Duration::from_millis(20);

struct Replica {
    gate: Gate,
    identity: &'static str,
    operator: Operator,
}

fn start(cluster: &Cluster, gate: &Gate, identity: &str) -> Operator {
    let arguments = ["--cluster-name", "frozen", "--lease-duration", "3s", "--identity", identity];
    let url = gate.url();
    let operator = Operator::start_in(cluster, &arguments, &[("AWS_ENDPOINT_URL_DYNAMODB", &url)]);
    operator.until_ready();
    operator
}

fn is_write(entry: &Entry) -> bool {
    matches!(entry.operation.as_str(), "TransactWriteItems" | "PutItem" | "UpdateItem" | "DeleteItem")
}

fn name(number: usize) -> String {
    format!("package-{number:02}")
}

/// Points all SackerTags at a version.
async fn promote(bench: &Bench<'_>, version: i64) {
    let patch = json!({ "spec": { "version": version } });
    let names: Vec<String> = (0..TAGS).map(name).collect();
    join_all(names.iter().map(|name| bench.api.patch(TAG, &bench.namespace, name, patch.clone()))).await;
}

#[tokio::test]
async fn a_leader_frozen_in_the_middle_of_promotions_writes_nothing_when_it_goes_on() {
    let Some(server) = testbed::dynamodb() else { return };
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let began = Instant::now();
    let seed = tier::seed("a frozen leader");
    let mut random = fastrand::Rng::with_seed(seed);
    let ledger = unique("ledger");
    // Ours go past the gates; where the operators find the ledger stands in their environment.
    let bench = Bench::with(&cluster, None, server.uri(&ledger), &server.connect(), None).await;
    cluster.apply(&bench.ledger_yaml().replace(&bench.uri, &format!("dynamo://us-east-1/{ledger}")));
    let mut yaml = String::new();
    for number in 0..TAGS {
        let package = PackageName::existing(name(number));
        bench.add_to(&package).await;
        bench.add_to(&package).await;
        let spec = format!("ledger: {}, package: {package}, tag: live, version: 1", bench.ledger_name);
        yaml += &object_yaml("SackerTag", &bench.namespace, &name(number), &spec);
    }
    let gates = [seed, seed + 1].map(|seed| Gate::start(&server.endpoint, seed));
    for gate in &gates {
        gate.set_rules(vec![Rule::new(Match::default(), Action::Delay(WAY))]);
    }
    let [one, other] = gates;
    let operator = start(&cluster, &one, "one");
    let mut leader = Replica { gate: one, identity: "one", operator };
    eventually("it leads", PATIENCE, async || leader.operator.metric("sacker_leading") > 0).await;
    let operator = start(&cluster, &other, "other");
    let mut standby = Replica { gate: other, identity: "other", operator };
    cluster.apply(&yaml);
    bench.until_all_applied(&bench.namespace, TAGS, 1, PATIENCE).await;

    let mut wanted = vec![1];
    let rounds = tier::figure(2, 10);
    let (mut attempts, mut slowest, mut left) = (0, Duration::ZERO, 0);
    for round in 0..rounds {
        // Stopped after so many writes were sent, of which some have their answer and some have not.
        let sent = random.usize(1..=TAGS / 2);
        leader.gate.take_log();
        let to = 3 - wanted[wanted.len() - 1];
        promote(&bench, to).await;
        wanted.push(to);
        let end = Instant::now() + PATIENCE;
        while leader.gate.log().iter().filter(|entry| is_write(entry)).count() < sent {
            assert!(Instant::now() < end, "the promotions do not begin");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        leader.operator.freeze();
        let frozen = Instant::now();
        eventually("another one leads", PATIENCE, async || standby.operator.metric("sacker_leading") > 0)
            .await;
        left += TAGS - bench.count_applied(&bench.namespace, to).await;
        bench.until_all_applied(&bench.namespace, TAGS, to, PATIENCE).await;
        // And further, so that all the frozen one knew is old.
        let to = 3 - to;
        promote(&bench, to).await;
        wanted.push(to);
        bench.until_all_applied(&bench.namespace, TAGS, to, PATIENCE).await;
        eventually("two lease times are over", PATIENCE, async || frozen.elapsed() >= LEASE * 2).await;

        leader.gate.take_log();
        leader.operator.thaw();
        let thawed = Instant::now();
        let code = leader.operator.wait(PATIENCE);
        let time = thawed.elapsed();
        assert_eq!(code, Some(7), "it ends, so that a restart can follow: {}", leader.operator.log());
        assert!(time <= NOTICE, "round {round}: it took {time:?} to notice");
        slowest = slowest.max(time);
        let log = leader.gate.take_log();
        let mut tried: BTreeMap<String, usize> = BTreeMap::new();
        for entry in log.iter().filter(|entry| is_write(entry)) {
            assert_ne!(entry.status, Some(200), "round {round}: it was accepted: {entry:?}");
            let package = (0..TAGS).map(name).find(|name| entry.key.contains(name.as_str()));
            *tried.entry(package.unwrap_or_else(|| entry.key.clone())).or_default() += 1;
        }
        attempts += tried.values().sum::<usize>();
        let asked = operations(&log);
        assert!(
            tried.values().all(|count| *count <= 1),
            "round {round}: more than one attempt: {tried:?}; {asked}"
        );

        // It comes back as a standby, and the next one is frozen.
        leader.operator = start(&cluster, &leader.gate, leader.identity);
        std::mem::swap(&mut leader, &mut standby);
    }
    for number in 0..TAGS {
        let package = PackageName::existing(name(number));
        let events = bench.ledger.history(&package, &TagName::existing("live")).await.expect("history");
        verify_chain(&events).expect("one linear chain");
        let moves: Vec<i64> = events.iter().filter_map(|event| event.to.map(Version::get)).collect();
        assert_eq!(moves, wanted, "{package}: each promotion once");
    }
    tier::summary(&format!(
        "R10 seed={seed} rounds={rounds} tags={TAGS} left-to-the-next={left} late-attempts={attempts} accepted=0 \
         slowest-exit={slowest:?} seconds={}",
        began.elapsed().as_secs()
    ));
}
