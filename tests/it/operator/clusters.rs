//! Two clusters on one ledger: the ledger's owner decides, not the cluster's view of itself.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::bench::{Bench, Conditions, message};
use super::process::Operator;
use crate::support::cluster::{Cluster, PATIENCE, TAG};
use crate::support::{eventually, tier};

#[tokio::test]
async fn one_of_two_clusters_has_the_tag_and_the_other_says_whose_it_is() {
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(Cluster::start);
        (Cluster::start(), other.join().expect("it starts"))
    });
    let (Some(first), Some(second)) = (first, second) else { return };
    let start = Instant::now();
    first.install_crds();
    second.install_crds();
    let here = Bench::on(&first, None).await;
    here.versions(2).await;
    let uri = here.uri.clone();
    let there = Bench::with(&second, None, uri, &sacker::connect::Connect::default(), None).await;
    let operators = [Operator::start(&first, &[]), Operator::start(&second, &[])];
    operators.iter().for_each(Operator::until_ready);
    std::thread::scope(|scope| {
        scope.spawn(|| first.apply(&here.tag_yaml(&here.namespace, "live", "live", "version: 1")));
        scope.spawn(|| second.apply(&there.tag_yaml(&there.namespace, "live", "live", "version: 2")));
    });

    let benches = [&here, &there];
    let mut objects = Vec::new();
    let mut roles = (None, None);
    let settled = async || {
        objects.clear();
        for bench in benches {
            objects.push(bench.api.get(TAG, &bench.namespace, "live").await.unwrap_or_default());
        }
        let place = |holds: fn(&Conditions<'_>) -> bool| {
            objects.iter().position(|object| holds(&Conditions::of(object)))
        };
        roles = (place(|it| it.is("Ready", "True")), place(|it| it.reason("Stalled") == "Owned"));
        roles.0.is_some() && roles.1.is_some()
    };
    eventually("one is Ready, the other's tag is owned by it", PATIENCE, settled).await;
    let (Some(winner), Some(loser)) = roles else { panic!("{objects:#?}") };
    assert_ne!(winner, loser);
    let owner = benches[winner].owner("live").await;
    let text = message(&objects[loser], "Stalled");
    assert!(text.contains(&owner), "it names the owner {owner}: {text}");
    let target = [1, 2][winner];

    let (least, length) = tier::figure((20, Duration::ZERO), (200, Duration::from_mins(5)));
    let mut passes = 0;
    let settled = Instant::now();
    while passes < least || settled.elapsed() < length {
        passes += 1;
        for bench in benches {
            bench.pass(TAG, &bench.namespace, "live").await;
        }
        assert_eq!(here.points_at("live").await, Some(target));
    }
    let writes = here.history("live").await.len();
    assert!(writes <= 2, "{writes} writes");
    let is_owned = |object: &Value| Conditions::of(object).reason("Stalled") == "Owned";
    let place = (TAG, benches[loser].namespace.as_str(), "live");
    benches[loser].api.until(place, "still owned by the other", PATIENCE, is_owned).await;
    benches[winner].until_applied("live", target).await;
    let seconds = start.elapsed().as_secs();
    tier::summary(&format!("R21 clusters=2 passes={passes} writes={writes} violations=0 seconds={seconds}"));
}
