//! Several replicas: one acts, another one follows soon, and none acts that lost the lease. And who is believed about
//! who asked.

use std::time::{Duration, Instant};

use super::bench::{Bench, say};
use super::process::Operator;
use crate::support::cluster::{Cluster, PATIENCE, TAG};
use crate::support::{eventually, tier};

/// Short, so that the tests are.
const LEASE: Duration = Duration::from_secs(3);

fn replica(cluster: &Cluster, identity: &str) -> Operator {
    let arguments = ["--cluster-name", "testbed", "--lease-duration", "3s", "--identity", identity];
    let operator = Operator::start(cluster, &arguments);
    operator.until_ready();
    operator
}

async fn until_leading(operator: &Operator) -> Duration {
    let start = Instant::now();
    eventually("it leads", PATIENCE, async || operator.metric("sacker_leading") > 0).await;
    start.elapsed()
}

#[tokio::test]
async fn another_replica_takes_over() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let bench = Bench::on(&cluster, None).await;
    bench.versions(5).await;
    let first = replica(&cluster, "first");
    until_leading(&first).await;
    let second = replica(&cluster, "second");
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    assert!(second.metric("sacker_leading") < 1, "one of two leads");

    // Killed: its lease has to run out.
    first.kill();
    bench.apply_tag("live", "version: 2");
    let time = until_leading(&second).await;
    say(&format!("after kill -9 of the leader, the next one led within {time:?}"));
    assert!(time <= LEASE + Duration::from_secs(5), "{time:?}");
    bench.until_applied("live", 2).await;

    // Asked to end: it gives the lease up.
    let third = replica(&cluster, "third");
    second.terminate();
    let time = until_leading(&third).await;
    say(&format!("after SIGTERM of the leader, the next one led within {time:?}"));
    assert!(time <= Duration::from_secs(3), "{time:?}");
    assert_eq!(second.wait(PATIENCE), Some(0), "{}", second.log());
    bench.apply_tag("live", "version: 3");
    bench.until_applied("live", 3).await;

    // Restarted under its own name: it goes on at once.
    third.kill();
    let again = replica(&cluster, "third");
    let time = until_leading(&again).await;
    assert!(time < LEASE, "{time:?}");
    bench.apply_tag("live", "version: 4");
    bench.until_applied("live", 4).await;
    assert_eq!(bench.history("live").await.len(), 4, "each move was made once");
}

#[tokio::test]
async fn every_leader_that_is_killed_is_followed_within_its_lease() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let start = Instant::now();
    let bench = Bench::on(&cluster, None).await;
    bench.versions(2).await;
    let mut leader = replica(&cluster, "replica-0");
    until_leading(&leader).await;
    let mut standby = replica(&cluster, "replica-1");
    let mut slowest = [Duration::ZERO; 2];
    let rounds = tier::figure([3, 1], [20, 5]);
    let mut target = 0;
    let mut moves = 0;
    for round in 0..rounds[0] + rounds[1] {
        let is_killed = round < rounds[0];
        if is_killed {
            leader.kill();
        } else {
            leader.terminate();
        }
        target = 1 + target % 2;
        bench.apply_tag("live", &format!("version: {target}"));
        let time = until_leading(&standby).await;
        let limit = if is_killed { LEASE + Duration::from_secs(5) } else { Duration::from_secs(3) };
        assert!(time <= limit, "round {round}: {time:?}");
        let kind = usize::from(!is_killed);
        slowest[kind] = slowest[kind].max(time);
        bench.until_applied("live", target).await;
        moves += 1;
        leader = std::mem::replace(&mut standby, replica(&cluster, &format!("replica-{}", round + 2)));
    }
    assert_eq!(bench.history("live").await.len(), moves, "each move once");
    let [kills, terms] = rounds;
    tier::summary(&format!(
        "R9 kills={kills} slowest={:?} terms={terms} slowest={:?} violations=0 seconds={}",
        slowest[0],
        slowest[1],
        start.elapsed().as_secs()
    ));
}

#[tokio::test]
async fn a_leader_that_was_frozen_acts_no_more() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let bench = Bench::on(&cluster, None).await;
    bench.versions(3).await;
    let first = replica(&cluster, "first");
    until_leading(&first).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    let second = replica(&cluster, "second");

    first.freeze();
    until_leading(&second).await;
    bench.apply_tag("live", "version: 2");
    bench.until_applied("live", 2).await;
    // What it had read is old by now; it must find out before it writes anything.
    first.thaw();
    let code = first.wait(Duration::from_secs(10));
    assert_eq!(code, Some(7), "it ends, so that a restart can follow: {}", first.log());
    bench.apply_tag("live", "version: 3");
    bench.until_applied("live", 3).await;
    let moves: Vec<_> = bench.history("live").await.iter().map(|event| event.to).collect();
    assert_eq!(moves.len(), 3, "{moves:?}");
}

#[tokio::test]
async fn who_asked_is_believed_only_where_a_policy_stamps_it() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let bench = Bench::on(&cluster, None).await;
    bench.versions(2).await;
    let doubting = replica(&cluster, "one");
    let annotation =
        serde_json::json!({ "metadata": { "annotations": { "sacker.dev/requested-by": "mallory" } } });
    bench.apply_tag("live", "version: 1");
    bench.api.patch(TAG, &bench.namespace, "live", annotation).await;
    bench.until_applied("live", 1).await;
    doubting.terminate();
    assert_eq!(doubting.wait(PATIENCE), Some(0), "{}", doubting.log());

    let trusting = Operator::start(&cluster, &["--cluster-name", "testbed", "--trust-requested-by"]);
    trusting.until_ready();
    bench.apply_tag("live", "version: 2, reason: 'because'");
    bench.until_applied("live", 2).await;
    let history = bench.history("live").await;
    let by: Vec<_> = history.iter().map(|event| event.by.as_str()).collect();
    assert_eq!(by, [format!("{}/live", bench.namespace).as_str(), "mallory"]);
    assert_eq!(history[1].reason.as_deref(), Some("because"));
}
