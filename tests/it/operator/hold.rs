//! A hold stops every robot and every person, says who holds and why, and only a release ends it.

use std::time::{Duration, Instant};

use sacker::model::EventKind;
use serde_json::{Value, json};

use super::bench::{Bench, Conditions, POLL, message};
use crate::support::cluster::{PATIENCE, TAG};
use crate::support::{eventually, tier};

/// How often what is wished is applied again while it may not happen.
const AGAIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_hold_stops_everybody_until_it_is_released() {
    let Some(bench) = Bench::new().await else { return };
    let start = Instant::now();
    let package = bench.package.as_str();
    bench.versions(3).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    bench.move_by_hand("canary", 1).await;
    bench.apply_tag("stable", "follow: {tag: canary}");
    bench.until_applied("stable", 1).await;
    for tag in ["live", "stable"] {
        let (code, text) = bench.sacker(&["hold", package, tag, "--reason", "incident 4711"]);
        assert_eq!(code, Some(0), "{text}");
    }
    // Both wishes change: one by an apply, the other by what it follows.
    bench.move_by_hand("canary", 2).await;
    let end = Instant::now() + tier::figure(Duration::from_secs(20), Duration::from_mins(2));
    let mut applies = 0;
    while Instant::now() < end {
        bench.apply_tag("live", "version: 2");
        applies += 1;
        for tag in ["live", "stable"] {
            let object = bench.until_tag(tag, "Ready", "False", "Held").await;
            assert!(Conditions::of(&object).is("Held", "True"), "{object:#}");
            let text = message(&object, "Held");
            assert!(text.contains("alice") && text.contains("incident 4711"), "{text}");
            let (code, text) = bench.sacker(&["tag", package, "2", tag]);
            assert_eq!(code, Some(4), "{text}");
            // Ownership can be taken over, a hold cannot.
            let (code, text) = bench.sacker(&["tag", package, "3", tag, "--take-over"]);
            assert_eq!(code, Some(4), "{text}");
            assert!(text.contains("incident 4711"), "{text}");
        }
        let next = Instant::now() + AGAIN;
        while Instant::now() < next {
            bench.pass(TAG, &bench.namespace, "live").await;
            assert_eq!((bench.points_at("live").await, bench.points_at("stable").await), (Some(1), Some(1)));
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
    for tag in ["live", "stable"] {
        let kinds: Vec<_> = bench.history(tag).await.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [EventKind::Move, EventKind::Hold], "{tag}");
        let notes = bench.notes(tag, &["Held"]).await;
        assert!(notes.len() <= 2, "{tag}: {notes:?}");
    }
    for tag in ["live", "stable"] {
        let (code, text) = bench.sacker(&["release", package, tag]);
        assert_eq!(code, Some(0), "{text}");
    }
    let released = Instant::now();
    for tag in ["live", "stable"] {
        let object = bench.until_applied(tag, 2).await;
        assert!(!Conditions::of(&object).has("Held"), "{object:#}");
        assert_eq!(bench.points_at(tag).await, Some(2));
    }
    let resumed = released.elapsed();
    assert!(resumed <= POLL * 2, "{resumed:?}");
    tier::summary(&format!(
        "R29 applies={applies} resumed={resumed:?} violations=0 seconds={}",
        start.elapsed().as_secs()
    ));
}

#[tokio::test]
async fn a_rollback_with_a_hold_is_not_enforced_away() {
    let Some(bench) = Bench::new().await else { return };
    let start = Instant::now();
    bench.versions(2).await;
    bench.apply_tag("live", "version: 1, driftPolicy: Enforce");
    bench.until_applied("live", 1).await;
    bench.api.patch(TAG, &bench.namespace, "live", json!({ "spec": { "version": 2 } })).await;
    bench.until_applied("live", 2).await;
    let before = bench.notes("live", &[]).await.len();
    // Move and hold are one write: there is no moment in which the operator could move it back.
    let (code, text) =
        bench.sacker(&["rollback", bench.package.as_str(), "live", "--reason", "incident 4712"]);
    assert_eq!(code, Some(0), "{text}");
    let is_held = |object: &Value| {
        let conditions = Conditions::of(object);
        conditions.is("Held", "True") && conditions.is("Ready", "False") && object["status"]["version"] == 1
    };
    let place = (TAG, bench.namespace.as_str(), "live");
    let object = bench.api.until(place, "held at version 1", PATIENCE, is_held).await;
    let text = message(&object, "Held");
    assert!(text.contains("'alice") && text.contains("incident 4712"), "{text}");
    // Longer than the pause between two enforcements.
    let end = Instant::now() + tier::figure(Duration::from_secs(12), Duration::from_mins(2));
    let mut applies = 0;
    while Instant::now() < end {
        bench.apply_tag("live", "version: 2, driftPolicy: Enforce");
        applies += 1;
        let next = Instant::now() + AGAIN;
        while Instant::now() < next {
            bench.pass(TAG, &bench.namespace, "live").await;
            assert_eq!(bench.points_at("live").await, Some(1));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    assert_eq!(bench.history("live").await.len(), 3, "two moves and the rollback");
    let notes = bench.notes("live", &[]).await;
    let written = notes.len() - before;
    assert!(written <= 2, "{notes:?}");
    let (code, text) = bench.sacker(&["release", bench.package.as_str(), "live"]);
    assert_eq!(code, Some(0), "{text}");
    eventually("it goes on", PATIENCE, async || bench.points_at("live").await == Some(2)).await;
    bench.until_applied("live", 2).await;
    assert_eq!(bench.history("live").await.len(), 5, "and the release, and one move");
    tier::summary(&format!(
        "R29 rollback applies={applies} events={} violations=0 seconds={}",
        written,
        start.elapsed().as_secs()
    ));
}
