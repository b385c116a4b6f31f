//! Access rules: what is not granted causes no call to the ledger, and shows nothing of what it holds.

use std::fmt::Write as _;

use sacker::model::PackageName;
use serde_json::{Value, json};

use super::bench::{Bench, Conditions, message, object_yaml};
use crate::support::cluster::{LEDGER, NAMESPACE, PACKAGE, PATIENCE, TAG};
use crate::support::faultgate::Gate;
use crate::support::{testbed, unique};

/// Whether a status holds anything that only the ledger knows.
fn shows_data(object: &Value) -> bool {
    let known = ["version", "sha256", "basename", "size", "seq", "latest", "tags", "versionCount", "events"];
    known.iter().any(|field| !object["status"][*field].is_null())
}

#[tokio::test]
async fn a_namespace_without_access_causes_no_request() {
    let Some(minio) = testbed::minio() else { return };
    let gate = Gate::start(&minio.endpoint, 1);
    let Some(mut bench) = Bench::on_s3(&gate.url()).await else { return };
    bench.package = PackageName::existing(unique("secret"));
    let package = bench.package.as_str().to_owned();
    bench.versions(1).await;
    bench.move_by_hand("live", 1).await;
    let stranger = bench.cluster.namespace(&[("team", "strangers")]).await;
    let before = gate.about(&package);
    assert!(before > 0, "the library goes through the gate");

    bench.cluster.apply(&bench.tag_yaml(&stranger, "live", "live", "version: 1"));
    let spec = format!("ledger: {}, package: {package}", bench.ledger_name);
    bench.cluster.apply(&object_yaml("SackerPackage", &stranger, "mirror", &spec));
    let what = "no access rule of the ledger selects namespace";
    for (kind, name) in [(TAG, "live"), (PACKAGE, "mirror")] {
        let is_denied = |object: &Value| {
            let conditions = Conditions::of(object);
            conditions.is("Stalled", "True") && conditions.reason("Stalled") == "NotGranted"
        };
        let object = bench.api.until((kind, &stranger, name), "NotGranted", PATIENCE, is_denied).await;
        assert!(Conditions::of(&object).is("Ready", "False"));
        assert!(message(&object, "Ready").contains(what), "{}", message(&object, "Ready"));
        assert!(message(&object, "Ready").contains(&stranger), "{}", message(&object, "Ready"));
        assert!(!shows_data(&object), "{object:#}");
        // Neither does asking for a pass, nor a new spec.
        bench.pass(kind, &stranger, name).await;
    }
    bench.api.patch(TAG, &stranger, "live", json!({ "spec": { "version": 2 } })).await;
    bench.until_tag_in(&stranger, "live", "Stalled", "True", "NotGranted").await;
    // A poll of the ledger comes and goes: another package of the same ledger is granted and followed.
    bench.package = PackageName::existing("granted");
    bench.versions(1).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    let passed = gate.log().len();
    bench.add().await;
    bench.apply_package("mirror", "");
    bench.until_package("mirror", "version 2", |object| object["status"]["latest"]["version"] == 2).await;
    assert!(gate.log().len() > passed);
    assert_eq!(gate.about(&package), before, "no request named '{package}'");

    // Granted later, it becomes Ready by itself.
    bench.package = PackageName::existing(package.clone());
    let grant = json!({ "metadata": { "labels": { "team": bench.team } } });
    bench.api.patch(TAG, &stranger, "live", json!({ "spec": { "version": 1 } })).await;
    bench.api.patch(NAMESPACE, "", &stranger, grant).await;
    bench.until_tag_in(&stranger, "live", "Ready", "True", "Applied").await;
    let is_ready = |object: &Value| Conditions::of(object).is("Ready", "True");
    bench.api.until((PACKAGE, &stranger, "mirror"), "Ready", PATIENCE, is_ready).await;
    assert!(gate.about(&package) > before);

    // Taken away again, nothing more is asked or done.
    let deny = json!({ "metadata": { "labels": { "team": null } } });
    bench.api.patch(NAMESPACE, "", &stranger, deny).await;
    bench.until_tag_in(&stranger, "live", "Stalled", "True", "NotGranted").await;
    bench.cluster.kubectl(&["delete", "--wait=false", "namespace", &stranger]).success();
}

#[tokio::test]
async fn read_and_tag_are_granted_apart() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    let access = json!({ "spec": { "access": [
        { "namespaceSelector": { "matchLabels": { "team": bench.team } },
          "packages": ["web/*"], "verbs": ["read"] },
        { "namespaceSelector": { "matchLabels": { "team": format!("{}-tags", bench.team) } },
          "packages": ["web/*"], "verbs": ["tag"] },
    ] } });
    bench.api.patch(LEDGER, "", &bench.ledger_name, access).await;

    // Read only.
    bench.apply_tag("live", "version: 1");
    bench.apply_package("mirror", "");
    let object = bench.until_tag("live", "Stalled", "True", "NotGranted").await;
    assert!(message(&object, "Ready").contains("do not grant the verb 'tag'"), "{object:#}");
    assert!(!shows_data(&object), "{object:#}");
    bench.until_package("mirror", "Ready", |object| Conditions::of(object).is("Ready", "True")).await;
    assert_eq!(bench.points_at("live").await, None);

    // Tag only.
    let taggers = bench.cluster.namespace(&[("team", &format!("{}-tags", bench.team))]).await;
    bench.cluster.apply(&bench.tag_yaml(&taggers, "live", "live", "version: 1"));
    let spec = format!("ledger: {}, package: {}", bench.ledger_name, bench.package);
    bench.cluster.apply(&object_yaml("SackerPackage", &taggers, "mirror", &spec));
    bench.until_tag_in(&taggers, "live", "Ready", "True", "Applied").await;
    let is_denied = |object: &Value| Conditions::of(object).reason("Stalled") == "NotGranted";
    let object = bench.api.until((PACKAGE, &taggers, "mirror"), "NotGranted", PATIENCE, is_denied).await;
    assert!(message(&object, "Ready").contains("do not grant the verb 'read'"), "{object:#}");
    assert!(!shows_data(&object), "{object:#}");

    // The object without access must not block the one that has it: it is the older one.
    assert_eq!(bench.points_at("live").await, Some(1));
    bench.cluster.kubectl(&["delete", "--wait=false", "namespace", &taggers]).success();
}

#[tokio::test]
async fn every_attempt_without_a_matching_rule_is_denied() {
    let Some(minio) = testbed::minio() else { return };
    let gate = Gate::start(&minio.endpoint, 1);
    let Some(bench) = Bench::on_s3(&gate.url()).await else { return };
    let team = &bench.team;
    // The word by which the gate knows what must not be asked for.
    let word = unique("denied").replace('-', "");
    let rules = json!({ "spec": { "access": [
        { "namespaceSelector": { "matchLabels": { "team": team } },
          "packages": [format!("{word}a/*"), format!("{word}one"), format!("{word}x-?")],
          "verbs": ["read", "tag"] },
        { "namespaceSelector": { "matchLabels": { "team": team, "tier": "gold" } },
          "packages": ["**"], "verbs": ["read", "tag"] },
        { "namespaceSelector": { "matchExpressions": [
            { "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["default"] } ] },
          "packages": ["**"], "verbs": ["read", "tag"] },
        // A rule without a selector grants nobody anything.
        { "packages": ["**"], "verbs": ["read", "tag"] },
    ] } });
    bench.api.patch(LEDGER, "", &bench.ledger_name, rules).await;
    // A tenant cannot pass for another namespace: the API server sets this label itself.
    let forged = bench.cluster.namespace(&[("kubernetes.io/metadata.name", "default")]).await;
    let unlabelled = bench.cluster.namespace(&[]).await;
    let wrong_case = bench.cluster.namespace(&[("team", &team.to_uppercase()), ("tier", "gold")]).await;
    let half = bench.cluster.namespace(&[("tier", "gold")]).await;
    let own = bench.namespace.clone();

    let outside =
        ["a", "ab", "a/b/c", "a-b", "b/a/b", "one/two", "ones", "two", "x-", "x-12", "x/1", "A/b", "a/b/"];
    let mut attempts: Vec<(String, String)> = outside
        .iter()
        // A trailing '/' is refused by the schema already.
        .filter(|package| !package.ends_with('/'))
        .map(|package| (own.clone(), format!("{word}{package}")))
        .collect();
    for namespace in [&forged, &unlabelled, &wrong_case, &half] {
        attempts.push((namespace.clone(), format!("{word}one")));
        attempts.push((namespace.clone(), format!("{word}a/b")));
    }
    assert!(attempts.len() >= 20, "{}", attempts.len());

    let mut yaml = String::new();
    for (number, (namespace, package)) in attempts.iter().enumerate() {
        let spec = format!("ledger: {}, package: {package}", bench.ledger_name);
        yaml += &object_yaml(
            "SackerTag",
            namespace,
            &format!("t{number}"),
            &format!("{spec}, tag: live, version: 1"),
        );
        let _ = write!(yaml, "{}", object_yaml("SackerPackage", namespace, &format!("p{number}"), &spec));
    }
    bench.cluster.apply(&yaml);
    for (number, (namespace, package)) in attempts.iter().enumerate() {
        for (kind, name) in [(TAG, format!("t{number}")), (PACKAGE, format!("p{number}"))] {
            let is_denied = |object: &Value| Conditions::of(object).reason("Stalled") == "NotGranted";
            let what = format!("'{package}' is denied to '{namespace}'");
            let object = bench.api.until((kind, namespace, &name), &what, PATIENCE, is_denied).await;
            assert!(!shows_data(&object), "{object:#}");
        }
    }
    assert_eq!(gate.about(&word), 0, "no request named any of them");
    for namespace in [&forged, &unlabelled, &wrong_case, &half] {
        bench.cluster.kubectl(&["delete", "--wait=false", "namespace", namespace]).success();
    }
}
