//! The API server is killed and comes back: the operator lives on, and what was wished happens, once.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use super::bench::{Bench, say};
use super::process::Operator;
use crate::support::cluster::{Cluster, PATIENCE, TAG};
use crate::support::tier;

/// How long everything may take to be as wished once the API server answers again.
const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test]
async fn an_api_server_that_is_killed_costs_no_object_and_doubles_no_write() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let start = Instant::now();
    let mut random = fastrand::Rng::with_seed(tier::seed("kill -9 of the API server"));
    let bench = Bench::on(&cluster, None).await;
    bench.versions(2).await;
    let count = tier::figure(500, 5_000);
    let rounds = tier::figure(1, 5);
    let operator = Operator::start(&cluster, &["--cluster-name", "restart", "--lease-duration", "15s"]);
    operator.until_ready();
    let names: Vec<String> = (0..count).map(|number| format!("tag-{number}")).collect();
    let mut yaml = String::new();
    for name in &names {
        let _ = write!(yaml, "{}", bench.tag_yaml(&bench.namespace, name, name, "version: 1"));
    }
    cluster.kubectl_with(&["create", "-f", "-"], &yaml).success();
    bench.until_all_applied(&bench.namespace, count, 1, LIMIT).await;

    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let target = 2 - round % 2;
        let wish = json!({ "spec": { "version": target } });
        // Killed in the middle of the wave, with half of the moves under way or still to be seen.
        let middle = random.usize(count / 4..count * 3 / 4);
        for name in &names[..middle] {
            bench.api.patch(TAG, &bench.namespace, name, wish.clone()).await;
        }
        cluster.restart_api_server();
        let back = Instant::now();
        for name in &names[middle..] {
            bench.api.patch(TAG, &bench.namespace, name, wish.clone()).await;
        }
        bench.until_all_applied(&bench.namespace, count, target, LIMIT).await;
        slowest = slowest.max(back.elapsed());
        assert!(slowest <= LIMIT, "{slowest:?}");
    }
    assert!(matches!(operator.get("/healthz"), Some((200, _))), "the same process: {}", operator.log());
    let moves = usize::try_from(rounds).expect("small") + 1;
    for name in &names {
        assert_eq!(bench.history(name).await.len(), moves, "{name}: each move once");
    }
    say(&format!("{count} tags as wished {slowest:?} after the API server was back"));
    let seconds = start.elapsed().as_secs();
    tier::summary(&format!(
        "R8 objects={count} kills={rounds} converged={slowest:?} doubled=0 violations=0 seconds={seconds}"
    ));
    operator.terminate();
    assert_eq!(operator.wait(PATIENCE), Some(0), "{}", operator.log());
}
