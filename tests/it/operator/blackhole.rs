//! A ledger that takes every request and answers none: it costs its own objects their freshness and nobody else anything.

use std::time::{Duration, Instant};

use sacker::model::PackageName;
use serde_json::Value;

use super::bench::{Bench, Conditions, object_yaml, say};
use crate::support::cluster::{PACKAGE, PATIENCE};
use crate::support::faultgate::{Action, Gate, Match, Rule};
use crate::support::{eventually, testbed, tier};

/// How long nothing is asked between two rounds, at least: far below an interval.
const PAUSE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_silent_ledger_is_asked_seldom_and_harms_no_other() {
    let Some(minio) = testbed::minio() else { return };
    let gate = Gate::start(&minio.endpoint, tier::seed("a silent ledger"));
    let Some(dead) = Bench::on_s3(&gate.url()).await else { return };
    let Some(healthy) = Bench::new().await else { return };
    let start = Instant::now();
    let count = tier::figure(100, 1_000);
    let mut yaml = String::new();
    for number in 0..count {
        let package = PackageName::existing(format!("package-{number}"));
        dead.add_to(&package).await;
        let spec = format!("ledger: {}, package: {package}", dead.ledger_name);
        yaml += &object_yaml("SackerPackage", &dead.namespace, &format!("package-{number}"), &spec);
    }
    dead.cluster.kubectl_with(&["create", "-f", "-"], &yaml).success();
    let all = async |holds: fn(&Conditions<'_>) -> bool| {
        let objects = dead.api.list(PACKAGE, &dead.namespace).await;
        objects.len() == count && objects.iter().all(|object| holds(&Conditions::of(object)))
    };
    eventually("all are Ready", PATIENCE, async || all(|it| it.is("Ready", "True")).await).await;
    let latest = async || {
        let shown =
            |object: &Value| (object["metadata"]["name"].to_string(), object["status"]["latest"].clone());
        dead.api.list(PACKAGE, &dead.namespace).await.iter().map(shown).collect::<Vec<_>>()
    };
    let before = latest().await;
    healthy.versions(2).await;
    healthy.apply_tag("live", "version: 1");
    healthy.until_applied("live", 1).await;

    // What is under way when the silence begins was asked of a ledger that lives.
    let is_between_rounds = async || {
        gate.take_log();
        tokio::time::sleep(PAUSE).await;
        gate.take_log().is_empty()
    };
    eventually("a pause between two rounds", PATIENCE, is_between_rounds).await;
    gate.set_rules(vec![Rule::new(Match::default(), Action::Blackhole)]);
    let silent = Instant::now();
    let length = tier::figure(Duration::from_secs(30), Duration::from_mins(5));
    let mut slowest = Duration::ZERO;
    let mut moves = 0;
    let mut said = None;
    while silent.elapsed() < length {
        let target = 2 - moves % 2;
        let asked = Instant::now();
        healthy.apply_tag("live", &format!("version: {target}"));
        healthy.until_applied("live", target).await;
        slowest = slowest.max(asked.elapsed());
        moves += 1;
        if said.is_none()
            && all(|it| it.is("Ready", "Unknown") && it.reason("Ready") == "LedgerUnavailable").await
        {
            said = Some(silent.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let requests = gate.take_log().len();
    let limit = usize::try_from(length.as_secs()).expect("small") * 2;
    assert!(requests <= limit, "{requests} requests in {length:?}");
    assert!(said.is_some(), "the objects do not say LedgerUnavailable within {length:?}");
    assert_eq!(latest().await, before, "what is known stays");
    assert!(slowest <= Duration::from_secs(5), "a move on the healthy ledger took {slowest:?}");

    gate.set_rules(Vec::new());
    let back = Instant::now();
    let limit = Duration::from_mins(1);
    eventually("all are Ready again", limit, async || all(|it| it.is("Ready", "True")).await).await;
    let healed = back.elapsed();
    say(&format!(
        "a silent ledger: said after {said:?}, {requests} requests in {length:?}, {moves} moves elsewhere, the slowest \
         {slowest:?}; all Ready {healed:?} after its return"
    ));
    tier::summary(&format!(
        "R7 packages={count} requests={requests} slowest={slowest:?} healed={healed:?} violations=0 seconds={}",
        start.elapsed().as_secs()
    ));
}
