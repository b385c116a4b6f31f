//! Somebody else changes the tag: moved back, reported, or left alone, as the rules say.

use std::time::Duration;

use sacker::model::{Change, Claim, EventSource};
use serde_json::{Value, json};

use super::bench::{Bench, Conditions, message, version};
use crate::support::cluster::{EVENT, PATIENCE, TAG};
use crate::support::eventually;

/// How often a tag is moved back, at most.
const ENFORCE_INTERVAL: Duration = Duration::from_secs(10);

#[tokio::test]
async fn enforce_moves_back_what_a_2015_client_moved_at_most_once_in_ten_seconds() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(3).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    bench.move_as_in_2015("live", 2);
    let object = bench.until_tag("live", "Drifted", "True", "Drifted").await;
    assert!(message(&object, "Drifted").contains("2015"), "{object:#}");
    // Again and again, while it may not be moved back yet.
    for _ in 0..3 {
        bench.move_as_in_2015("live", 3);
        bench.pass(TAG, &bench.namespace, "live").await;
        assert_eq!(bench.points_at("live").await, Some(3), "not yet");
        bench.move_as_in_2015("live", 2);
        bench.pass(TAG, &bench.namespace, "live").await;
    }
    bench.until_applied("live", 1).await;
    assert_eq!(bench.points_at("live").await, Some(1));
    let history = bench.history("live").await;
    let ours: Vec<_> = history.iter().filter(|event| event.source == EventSource::Operator).collect();
    assert_eq!(ours.len(), 2, "{history:#?}");
    let between = ours[1].at.duration_since(ours[0].at).unsigned_abs();
    assert!(between >= ENFORCE_INTERVAL, "moved back after {between:?}");
    assert!(history.iter().any(|event| event.source == EventSource::Legacy), "{history:#?}");
    eventually("an event names who it was", PATIENCE, async || {
        bench.notes("live", &["Drifted"]).await.iter().any(|note| note.contains("2015"))
    })
    .await;
}

#[tokio::test]
async fn enforce_moves_back_what_a_person_moved() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    bench.change("live", Change::Disown, Claim::TakeOver("cli:alice@laptop".into())).await;
    bench.move_by_hand("live", 2).await;
    bench.until_tag("live", "Drifted", "True", "Drifted").await;
    let object = bench.until_applied("live", 1).await;
    assert!(!Conditions::of(&object).has("Drifted"), "it is as it should be: {object:#}");
    assert_eq!(bench.owner_of("live").await, Some(bench.owner("live").await));
    let notes = async || {
        let events = bench.api.list(EVENT, &bench.namespace).await;
        let drifted = events.iter().filter(|event| event["reason"] == "Drifted");
        drifted.filter_map(|event| event["note"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    eventually("an event names who it was", PATIENCE, async || {
        notes().await.iter().any(|note| note.contains("'alice'"))
    })
    .await;
}

#[tokio::test]
async fn report_leaves_the_tag_where_somebody_moved_it() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(3).await;
    bench.apply_tag("live", "version: 1, driftPolicy: Report");
    bench.until_applied("live", 1).await;
    bench.move_as_in_2015("live", 2);
    let object = bench.until_tag("live", "Drifted", "True", "Drifted").await;
    assert!(Conditions::of(&object).is("Ready", "False"));
    assert_eq!(object["status"]["version"], 2, "the status says what is");
    let operator = bench.operator.expect("the shared one");
    eventually("a metric counts it", PATIENCE, async || {
        let (_, page) = operator.get("/metrics").expect("metrics are served");
        let counted = |line: &str| {
            line.starts_with("sacker_objects{")
                && line.contains("reason=\"Drifted\"")
                && !line.ends_with(" 0")
        };
        page.lines().any(counted)
    })
    .await;
    for _ in 0..3 {
        bench.pass(TAG, &bench.namespace, "live").await;
    }
    assert_eq!(bench.points_at("live").await, Some(2));
    let ours = bench.history("live").await;
    assert_eq!(ours.iter().filter(|event| event.source == EventSource::Operator).count(), 1, "{ours:#?}");

    // A new wish is no drift: it is applied.
    bench.apply_tag("live", "version: 3, driftPolicy: Report");
    let object = bench.until_applied("live", 3).await;
    assert!(!Conditions::of(&object).has("Drifted"));
    assert_eq!(bench.points_at("live").await, Some(3));

    // And what moved the tag back by hand ends the drift.
    bench.move_as_in_2015("live", 1);
    bench.until_tag("live", "Drifted", "True", "Drifted").await;
    bench.move_as_in_2015("live", 3);
    bench.until_applied("live", 3).await;
}

#[tokio::test]
async fn a_tag_that_was_removed_comes_back() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    bench.change("live", Change::Untag, Claim::TakeOver("cli:alice@laptop".into())).await;
    assert_eq!(bench.points_at("live").await, None);
    eventually("it is back", PATIENCE, async || bench.points_at("live").await == Some(1)).await;
    bench.until_applied("live", 1).await;
}

#[tokio::test]
async fn an_expectation_that_does_not_hold_writes_nothing() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(3).await;
    bench.move_by_hand("live", 1).await;
    bench.apply_tag("live", "version: 3, expectedVersion: 2");
    let object = bench.until_tag("live", "Stalled", "True", "Conflict").await;
    let text = message(&object, "Stalled");
    assert!(text.contains("at version 1") && text.contains("expectedVersion"), "{text}");
    bench.apply_tag("absent", "version: 3, expectedVersion: 2");
    let object = bench.until_tag("absent", "Stalled", "True", "Conflict").await;
    assert!(message(&object, "Stalled").contains("nowhere"), "{object:#}");
    bench.pass(TAG, &bench.namespace, "live").await;
    assert_eq!(bench.history("live").await.len(), 1, "0 writes");
    assert_eq!((bench.points_at("live").await, bench.owner_of("live").await), (Some(1), None));

    // It holds as soon as somebody else moved the tag there.
    bench.move_by_hand("live", 2).await;
    bench.until_applied("live", 3).await;
    // Where the tag already is as wished, the expectation is of no more interest.
    bench.pass(TAG, &bench.namespace, "live").await;
    bench.until_applied("live", 3).await;
}

#[tokio::test]
async fn a_tag_of_another_owner_is_left_alone() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    let other = "k8s:another-cluster/web/live";
    let to = Change::Move { to: version(1), hold: None };
    bench.change("live", to, Claim::Owner(other.into())).await;
    bench.apply_tag("live", "version: 2");
    let object = bench.until_tag("live", "Stalled", "True", "Owned").await;
    assert!(message(&object, "Stalled").contains(other), "{object:#}");
    for _ in 0..3 {
        bench.pass(TAG, &bench.namespace, "live").await;
    }
    assert_eq!((bench.points_at("live").await, bench.history("live").await.len()), (Some(1), 1));
    // Given up over there, it is taken here.
    bench.change("live", Change::Disown, Claim::Owner(other.into())).await;
    bench.until_applied("live", 2).await;
    assert_eq!(bench.owner_of("live").await, Some(bench.owner("live").await));
}

#[tokio::test]
async fn a_tag_that_is_as_wished_is_adopted() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    bench.move_by_hand("live", 1).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    assert_eq!(bench.owner_of("live").await, Some(bench.owner("live").await));
    assert_eq!(bench.history("live").await.len(), 2);
}

#[tokio::test]
async fn a_held_tag_stays_and_the_wish_waits() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    bench.change("live", Change::Hold { reason: "incident 7".into() }, Claim::Nobody).await;
    let is_shown = |object: &Value| {
        let conditions = Conditions::of(object);
        conditions.is("Held", "True") && conditions.is("Ready", "True")
    };
    let place = (TAG, bench.namespace.as_str(), "live");
    bench.api.until(place, "Held, and Ready since it is in place", PATIENCE, is_shown).await;

    bench.apply_tag("live", "version: 2");
    let object = bench.until_tag("live", "Ready", "False", "Held").await;
    let text = message(&object, "Held");
    assert!(text.contains("'alice'") && text.contains("incident 7"), "{text}");
    assert!(!Conditions::of(&object).has("Stalled"), "a hold is no failure");
    bench.pass(TAG, &bench.namespace, "live").await;
    assert_eq!(bench.points_at("live").await, Some(1));
    assert_eq!(bench.history("live").await.len(), 2, "move and hold");

    bench.change("live", Change::Release, Claim::Nobody).await;
    let object = bench.until_applied("live", 2).await;
    assert!(!Conditions::of(&object).has("Held"));
    assert_eq!(bench.points_at("live").await, Some(2));
}

#[tokio::test]
async fn a_suspended_tag_is_left_alone() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    bench.apply_tag("live", "version: 2, suspend: true");
    let suspended = |object: &Value| Conditions::of(object).reason("Ready") == "Suspended";
    let place = (TAG, bench.namespace.as_str(), "live");
    bench.api.until(place, "Suspended", PATIENCE, suspended).await;
    bench.pass(TAG, &bench.namespace, "live").await;
    assert_eq!(bench.history("live").await.len(), 1);
    bench.api.patch(TAG, &bench.namespace, "live", json!({ "spec": { "suspend": false } })).await;
    bench.until_applied("live", 2).await;
}
