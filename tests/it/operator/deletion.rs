//! What becomes of the tag, and of the namespace, when SackerTags are deleted.

use std::time::Duration;

use sacker::model::{Change, Claim, EventKind};
use serde_json::json;

use super::bench::{Bench, message, say, version};
use crate::support::cluster::{EVENT, LEDGER, NAMESPACE, PATIENCE, TAG};
use crate::support::faultgate::Gate;
use crate::support::{eventually, testbed};

async fn delete(bench: &Bench<'_>, name: &str) {
    bench.cluster.kubectl(&["-n", &bench.namespace, "delete", "--wait=false", "stag", name]).success();
    bench.api.until_gone((TAG, &bench.namespace, name), PATIENCE).await;
}

#[tokio::test]
async fn retain_leaves_the_tag_and_gives_up_ownership() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    bench.apply_tag("live", "version: 1");
    let object = bench.until_applied("live", 1).await;
    assert_eq!(object["spec"]["deletionPolicy"], "Retain", "the default");
    assert_eq!(bench.owner_of("live").await, Some(bench.owner("live").await));
    delete(&bench, "live").await;
    assert_eq!(bench.points_at("live").await, Some(1));
    assert_eq!(bench.owner_of("live").await, None);
    let kinds: Vec<_> = bench.history("live").await.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Move, EventKind::Disown]);
    bench.move_by_hand("live", 1).await;
}

#[tokio::test]
async fn delete_removes_the_tag() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    bench.apply_tag("live", "version: 1, deletionPolicy: Delete");
    bench.until_applied("live", 1).await;
    delete(&bench, "live").await;
    assert_eq!(bench.points_at("live").await, None);
    assert_eq!(bench.owner_of("live").await, None);
    let kinds: Vec<_> = bench.history("live").await.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Move, EventKind::Untag]);

    // The history goes on if the tag comes back.
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    assert_eq!(bench.history("live").await.len(), 3);
}

#[tokio::test]
async fn delete_leaves_a_tag_that_is_not_ours_or_held() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    // Never ours.
    let other = "k8s:elsewhere/web/live";
    let to = Change::Move { to: version(1), hold: None };
    bench.change("foreign", to, Claim::Owner(other.to_owned())).await;
    bench.apply_tag("foreign", "version: 1, deletionPolicy: Delete");
    bench.until_tag("foreign", "Stalled", "True", "Owned").await;
    delete(&bench, "foreign").await;
    assert_eq!(
        (bench.points_at("foreign").await, bench.owner_of("foreign").await),
        (Some(1), Some(other.into()))
    );
    assert_eq!(bench.history("foreign").await.len(), 1);

    // Taken over from us.
    bench.apply_tag("taken", "version: 1, deletionPolicy: Delete");
    bench.until_applied("taken", 1).await;
    bench.change("taken", Change::Adopt, Claim::TakeOver(other.to_owned())).await;
    delete(&bench, "taken").await;
    assert_eq!(
        (bench.points_at("taken").await, bench.owner_of("taken").await),
        (Some(1), Some(other.into()))
    );

    // Held: nothing moves or removes it.
    bench.apply_tag("held", "version: 1, deletionPolicy: Delete");
    bench.until_applied("held", 1).await;
    bench.change("held", Change::Hold { reason: "incident 7".into() }, Claim::Nobody).await;
    delete(&bench, "held").await;
    assert_eq!((bench.points_at("held").await, bench.owner_of("held").await), (Some(1), None));
}

#[tokio::test]
async fn a_namespace_goes_while_its_ledgers_are_down() {
    let Some(minio) = testbed::minio() else { return };
    let gate = Gate::start(&minio.endpoint, 1);
    let Some(unreachable) = Bench::on_s3(&gate.url()).await else { return };
    let Some(bench) = Bench::new().await else { return };
    // Both ledgers serve one namespace.
    let patch = json!({ "metadata": { "labels": { "team": unreachable.team } } });
    let bench_rules = json!({ "spec": { "access": [{
        "namespaceSelector": {}, "packages": ["**"], "verbs": ["read", "tag"],
    }] } });
    bench.api.patch(LEDGER, "", &bench.ledger_name, bench_rules).await;
    bench.api.patch(NAMESPACE, "", &bench.namespace, patch).await;
    bench.versions(1).await;
    unreachable.versions(1).await;
    let mut yaml = String::new();
    for number in 0..25 {
        let name = format!("gone-{number}");
        yaml += &bench.tag_yaml(&bench.namespace, &name, &name, "version: 1");
        let name = format!("down-{number}");
        yaml += &unreachable.tag_yaml(&bench.namespace, &name, &name, "version: 1");
    }
    bench.cluster.apply(&yaml);
    for number in 0..25 {
        bench.until_applied(&format!("gone-{number}"), 1).await;
        bench.until_applied(&format!("down-{number}"), 1).await;
    }

    let away = bench.directory().with_extension("away");
    std::fs::rename(bench.directory(), &away).expect("the directory can be moved");
    gate.close();
    bench.cluster.kubectl(&["delete", "--wait=false", "namespace", &bench.namespace]).success();
    let took = bench.api.until_gone((NAMESPACE, "", &bench.namespace), Duration::from_mins(1)).await;
    say(&format!("a namespace with 50 SackerTags on two ledgers that are down went in {took:?}"));

    std::fs::rename(&away, bench.directory()).expect("the directory can be moved");
    gate.open();
    for number in 0..25 {
        for (bench, name) in [(&bench, format!("gone-{number}")), (&unreachable, format!("down-{number}"))] {
            let events: Vec<_> =
                bench.history(&name).await.iter().map(|event| (event.kind, event.to)).collect();
            assert_eq!(events, [(EventKind::Move, Some(version(1)))], "{name}: the ledger is as it was");
            assert_eq!(bench.points_at(&name).await, Some(1), "{name}");
        }
    }
}

#[tokio::test]
async fn delete_waits_for_a_ledger_that_is_down_and_says_so() {
    let Some(minio) = testbed::minio() else { return };
    let gate = Gate::start(&minio.endpoint, 1);
    let Some(bench) = Bench::on_s3(&gate.url()).await else { return };
    bench.versions(1).await;
    for name in ["live", "given-up"] {
        bench.apply_tag(name, "version: 1, deletionPolicy: Delete");
        bench.until_applied(name, 1).await;
    }
    gate.close();
    for name in ["live", "given-up"] {
        bench.api.delete(TAG, &bench.namespace, name).await;
    }
    let says_so = |object: &serde_json::Value| {
        let message = message(object, "Ready");
        message.contains("removed as soon as possible") && message.contains("Retain")
    };
    bench.api.until((TAG, &bench.namespace, "live"), "it says that it waits", PATIENCE, says_so).await;

    // The documented way to let go.
    let retain = json!({ "spec": { "deletionPolicy": "Retain" } });
    bench.api.patch(TAG, &bench.namespace, "given-up", retain).await;
    bench.api.until_gone((TAG, &bench.namespace, "given-up"), PATIENCE).await;
    assert!(bench.api.get(TAG, &bench.namespace, "live").await.is_some(), "it still waits");

    gate.open();
    bench.api.until_gone((TAG, &bench.namespace, "live"), Duration::from_mins(1)).await;
    assert_eq!(bench.points_at("live").await, None);
    assert_eq!(bench.points_at("given-up").await, Some(1));
}

#[tokio::test]
async fn a_tag_whose_ledger_object_is_gone_can_be_deleted() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    for policy in ["Retain", "Delete"] {
        let name = policy.to_lowercase();
        bench.apply_tag(&name, &format!("version: 1, deletionPolicy: {policy}"));
        bench.until_applied(&name, 1).await;
    }
    bench.cluster.kubectl(&["delete", "sledger", &bench.ledger_name]).success();
    for name in ["retain", "delete"] {
        bench.until_tag(name, "Ready", "False", "LedgerNotFound").await;
        delete(&bench, name).await;
        assert_eq!(bench.points_at(name).await, Some(1), "nothing was asked of the ledger");
    }
}

#[tokio::test]
async fn what_a_deletion_did_is_an_event() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    for (name, policy) in [("kept", "Retain"), ("removed", "Delete")] {
        bench.apply_tag(name, &format!("version: 1, deletionPolicy: {policy}"));
        bench.until_applied(name, 1).await;
        delete(&bench, name).await;
    }
    for (name, reason) in [("kept", "Disowned"), ("removed", "Untagged")] {
        eventually(reason, Duration::from_secs(10), async || {
            let events = bench.api.list(EVENT, &bench.namespace).await;
            events.iter().any(|event| event["reason"] == reason && event["regarding"]["name"] == name)
        })
        .await;
    }
}
