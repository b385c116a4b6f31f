//! What is not there yet, or not reachable: said in the condition with what to do, and healed by itself.

use std::time::Duration;

use serde_json::{Value, json};

use super::bench::{Bench, Conditions, message, object_yaml};
use crate::support::cluster::{LEDGER, PACKAGE, PATIENCE, TAG};
use crate::support::faultgate::Gate;
use crate::support::process::Folder;
use crate::support::testbed::{self, free_ports};
use crate::support::unique;

#[tokio::test]
async fn a_version_that_is_not_there_yet_is_waited_for() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    bench.apply_tag("live", "version: 2");
    let object = bench.until_tag("live", "Ready", "False", "VersionNotFound").await;
    assert!(message(&object, "Ready").contains("version 2"), "{object:#}");
    assert!(Conditions::of(&object).has("Reconciling"));
    assert_eq!(bench.points_at("live").await, None);
    bench.add().await;
    bench.until_applied("live", 2).await;
    assert_eq!(bench.points_at("live").await, Some(2));
}

#[tokio::test]
async fn a_package_that_is_not_there_yet_is_waited_for() {
    let Some(bench) = Bench::new().await else { return };
    bench.apply_tag("live", "version: 1");
    bench.apply_package("mirror", "");
    bench.until_tag("live", "Ready", "False", "VersionNotFound").await;
    bench
        .until_package("mirror", "PackageNotFound", |object| {
            Conditions::of(object).reason("Ready") == "PackageNotFound"
        })
        .await;
    bench.add().await;
    bench.until_applied("live", 1).await;
    bench.until_package("mirror", "Ready", |object| Conditions::of(object).is("Ready", "True")).await;
}

#[tokio::test]
async fn a_ledger_that_is_seldom_polled_says_at_once_that_all_was_read() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    let (name, seldom) = (unique("seldom"), "pollInterval: 10m");
    let yaml = bench.ledger_yaml().replace(&bench.ledger_name, &name);
    bench.cluster.apply(&yaml.replace("pollInterval: 1s", seldom));
    let spec = format!("ledger: {name}, package: {}, tag: live, version: 1", bench.package);
    bench.cluster.apply(&object_yaml("SackerTag", &bench.namespace, "seldom", &spec));
    let is_read =
        |object: &Value| object["status"]["packages"] == 1 && object["status"]["lastPollTime"].is_string();
    bench.api.until((LEDGER, "", &name), "all was read", PATIENCE, is_read).await;
}

#[tokio::test]
async fn a_followed_tag_and_its_soak_are_waited_for() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    bench.apply_tag("live", "follow: {tag: canary, soak: 3s}");
    bench.until_tag("live", "Ready", "False", "FollowedTagNotFound").await;
    bench.move_by_hand("canary", 1).await;
    bench.until_tag("live", "Ready", "False", "Soaking").await;
    assert_eq!(bench.points_at("live").await, None);
    bench.until_applied("live", 1).await;
    let [canary] = <[_; 1]>::try_from(bench.history("canary").await).expect("one event");
    let [live] = <[_; 1]>::try_from(bench.history("live").await).expect("one event");
    let soaked = live.at.duration_since(canary.at).unsigned_abs();
    assert!(soaked >= Duration::from_secs(3), "{soaked:?}");
}

#[tokio::test]
async fn a_ledger_object_that_is_not_there_yet_is_waited_for() {
    let Some(mut bench) = Bench::new().await else { return };
    bench.versions(1).await;
    let real = bench.ledger_name.clone();
    bench.ledger_name = unique("later");
    bench.apply_tag("live", "version: 1");
    bench.apply_package("mirror", "");
    let object = bench.until_tag("live", "Ready", "False", "LedgerNotFound").await;
    let text = message(&object, "Ready");
    assert!(text.contains(&bench.ledger_name) && text.contains("administrator"), "{text}");
    bench
        .until_package("mirror", "LedgerNotFound", |object| {
            Conditions::of(object).reason("Ready") == "LedgerNotFound"
        })
        .await;
    bench.cluster.apply(&bench.ledger_yaml());
    bench.until_applied("live", 1).await;
    bench.until_package("mirror", "Ready", |object| Conditions::of(object).is("Ready", "True")).await;
    bench.cluster.kubectl(&["delete", "--wait=false", "sledger", &real]).success();
}

/// A SackerLedger over this URI that grants everybody everything, and a SackerTag on it: their Ready conditions once the
/// ledger's reason is as expected.
async fn broken(bench: &Bench<'_>, uri: &str, reason: &str) -> (String, Value, Value) {
    let name = unique("broken");
    let spec = json!({
        "ledger": uri, "pollInterval": "1s",
        "access": [{ "namespaceSelector": {}, "packages": ["**"], "verbs": ["read", "tag"] }],
    });
    let ledger = json!({
        "apiVersion": "sacker.dev/v1alpha1", "kind": "SackerLedger",
        "metadata": { "name": name }, "spec": spec,
    });
    bench.cluster.apply(&ledger.to_string());
    let spec = format!("ledger: {name}, package: p, tag: live, version: 1");
    bench.cluster.apply(&object_yaml("SackerTag", &bench.namespace, &name, &spec));
    let is = |object: &Value| Conditions::of(object).reason("Ready") == reason;
    let ledger = bench.api.until((LEDGER, "", &name), reason, PATIENCE, is).await;
    let not_ready = |object: &Value| {
        let conditions = Conditions::of(object);
        conditions.has("Ready")
            && !conditions.is("Ready", "True")
            && conditions.reason("Ready").starts_with("Ledger")
            && !message(object, "Ready").contains("has not been looked at yet")
    };
    let place = (TAG, bench.namespace.as_str(), name.as_str());
    let tag = bench.api.until(place, "a reason of its ledger", PATIENCE, not_ready).await;
    (name, ledger, tag)
}

#[tokio::test]
async fn a_broken_ledger_says_what_to_do_and_harms_no_other() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;

    // A setting that nobody knows passes the schema.
    let (unknown, ledger, tag) = broken(&bench, "file:///tmp?colour=blue", "InvalidSpec").await;
    assert!(Conditions::of(&ledger).is("Stalled", "True"));
    assert!(message(&ledger, "Ready").contains("colour"), "{ledger:#}");
    assert_eq!(Conditions::of(&tag).reason("Ready"), "LedgerNotReady");
    assert!(message(&tag, "Ready").contains(&unknown), "{tag:#}");

    let away = Folder::new("ledger");
    let missing = away.path().join("missing");
    let uri = format!("file://{}", missing.display());
    let (absent, ledger, tag) = broken(&bench, &uri, "BackendNotFound").await;
    assert!(Conditions::of(&ledger).is("Ready", "False"));
    assert!(message(&ledger, "Ready").contains("sacker init"), "{ledger:#}");
    assert_eq!(Conditions::of(&tag).reason("Ready"), "LedgerNotReady");

    // Nobody listens there.
    let port = free_ports(1)[0];
    let uri = format!("s3://bucket?endpoint=http://127.0.0.1:{port}");
    let (down, ledger, tag) = broken(&bench, &uri, "LedgerUnavailable").await;
    assert!(Conditions::of(&ledger).is("Ready", "Unknown"));
    assert!(message(&ledger, "Ready").contains(&port.to_string()), "it says where: {ledger:#}");
    assert!(Conditions::of(&tag).is("Ready", "Unknown"));
    assert_eq!(Conditions::of(&tag).reason("Ready"), "LedgerUnavailable");

    // The healthy one goes on meanwhile, and the operator stays ready.
    bench.apply_tag("live", "version: 2");
    bench.until_applied("live", 2).await;
    let ready = bench.operator.and_then(|operator| operator.get("/readyz"));
    assert!(matches!(ready, Some((200, _))), "{ready:?}");

    // What can be mended is seen: here by asking, else within half a minute.
    std::fs::create_dir(&missing).expect("it can be created");
    bench.pass(LEDGER, "", &absent).await;
    let ready = |object: &Value| Conditions::of(object).is("Ready", "True");
    bench.api.until((LEDGER, "", &absent), "Ready", PATIENCE, ready).await;
    let place = (TAG, bench.namespace.as_str(), absent.as_str());
    let waits = |object: &Value| Conditions::of(object).reason("Ready") == "VersionNotFound";
    bench.api.until(place, "it waits for the version now", PATIENCE, waits).await;
    for name in [unknown, absent, down] {
        bench.cluster.kubectl(&["delete", "--wait=false", "sledger", &name]).success();
    }
}

#[tokio::test]
async fn a_ledger_that_goes_down_is_waited_for_and_what_is_known_stays() {
    let Some(minio) = testbed::minio() else { return };
    let gate = Gate::start(&minio.endpoint, 1);
    let Some(bench) = Bench::on_s3(&gate.url()).await else { return };
    bench.versions(2).await;
    bench.apply_tag("live", "version: 1");
    bench.apply_package("mirror", "");
    let before = bench.until_applied("live", 1).await;
    let mirror = bench
        .until_package("mirror", "Ready with the tag", |object| {
            Conditions::of(object).is("Ready", "True") && object["status"]["tags"][0]["version"] == 1
        })
        .await;
    gate.close();
    bench.until_ledger("Unknown").await;
    bench.apply_tag("live", "version: 2");
    let object = bench.until_tag("live", "Ready", "Unknown", "LedgerUnavailable").await;
    for field in ["version", "sha256", "seq", "owner", "events"] {
        assert_eq!(object["status"][field], before["status"][field], "{field} stays");
    }
    let object = bench
        .until_package("mirror", "LedgerUnavailable", |object| {
            Conditions::of(object).reason("Ready") == "LedgerUnavailable"
        })
        .await;
    for field in ["latest", "tags", "versionCount"] {
        assert_eq!(object["status"][field], mirror["status"][field], "{field} stays");
    }
    gate.open();
    bench.until_applied("live", 2).await;
    bench.until_ledger("True").await;
    assert_eq!(bench.points_at("live").await, Some(2));
    assert_eq!(bench.history("live").await.len(), 2);
}

#[tokio::test]
async fn a_directory_that_vanishes_is_not_an_empty_ledger() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    bench.apply_tag("live", "version: 1");
    bench.apply_package("mirror", "publish: {configMap: artifacts}");
    let tag = bench.until_applied("live", 1).await;
    let mirror = bench
        .until_package("mirror", "Ready with the tag", |object| {
            Conditions::of(object).is("Ready", "True") && object["status"]["tags"][0]["version"] == 1
        })
        .await;
    let away = bench.directory().with_extension("away");
    std::fs::rename(bench.directory(), &away).expect("the directory can be moved");
    for (kind, name, before, fields) in [
        (TAG, "live", &tag, &["version", "sha256", "owner"][..]),
        (PACKAGE, "mirror", &mirror, &["latest", "tags", "versionCount"]),
    ] {
        bench.pass(kind, &bench.namespace, name).await;
        let not_ready = |object: &Value| !Conditions::of(object).is("Ready", "True");
        let place = (kind, bench.namespace.as_str(), name);
        let object = bench.api.until(place, "no longer Ready", PATIENCE, not_ready).await;
        for field in fields {
            assert_eq!(object["status"][*field], before["status"][*field], "{name}: {field} stays");
        }
        let reason = Conditions::of(&object).reason("Ready").to_owned();
        assert!(
            ["BackendNotFound", "LedgerNotReady", "LedgerUnavailable"].contains(&reason.as_str()),
            "{name}: {reason}"
        );
    }
    std::fs::rename(&away, bench.directory()).expect("the directory can be moved");
    bench.until_applied("live", 1).await;
    bench.until_package("mirror", "Ready", |object| Conditions::of(object).is("Ready", "True")).await;
    assert_eq!(bench.history("live").await.len(), 1);
}
