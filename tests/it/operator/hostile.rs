//! Objects that nobody can act on, and statuses that somebody forged: harmless to the others, corrected, never used.

use serde_json::{Value, json};

use super::bench::{Bench, Conditions, POLL, message, object_yaml};
use super::process::Operator;
use crate::support::cluster::{CRD, CRDS, Cluster, LEDGER, PACKAGE, PATIENCE, TAG};

#[tokio::test]
async fn a_forged_status_is_corrected_and_never_used() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    bench.apply_tag("live", "version: 1");
    bench.apply_package("mirror", "publish: {configMap: artifacts}");
    let tag = bench.until_applied("live", 1).await;
    let package = bench
        .until_package("mirror", "Ready with its tag", |object| {
            Conditions::of(object).is("Ready", "True") && object["status"]["tags"][0]["version"] == 1
        })
        .await;
    let sha = "f".repeat(64);
    let forged = json!({ "status": {
        "version": 2, "sha256": sha, "shortSha256": "ffffffffffff", "seq": 9, "owner": "k8s:x/y/z",
        "previousVersion": 7, "events": [], "by": "mallory",
        // Nothing of ours stands here: it must go all the same.
        "candidate": {
            "version": 9, "since": "2020-01-01T00:00:00Z", "readyAt": "2020-01-01T00:00:00Z"
        },
    } });
    bench.api.patch_status(TAG, &bench.namespace, "live", forged).await;
    let forged = json!({ "status": {
        "latest": { "version": 9, "sha256": sha }, "versionCount": 9,
        "tags": [
            { "name": "live", "version": 9, "sha256": sha }, { "name": "zero", "version": 9, "sha256": sha }
        ],
    } });
    bench.api.patch_status(PACKAGE, &bench.namespace, "mirror", forged).await;

    let corrected = |object: &Value| object["status"] == tag["status"];
    bench.api.until((TAG, &bench.namespace, "live"), "corrected", POLL * 2, corrected).await;
    let corrected = |object: &Value| object["status"] == package["status"];
    bench.api.until((PACKAGE, &bench.namespace, "mirror"), "corrected", POLL * 2, corrected).await;
    assert_eq!((bench.points_at("live").await, bench.history("live").await.len()), (Some(1), 1));

    // Conditions too: kubectl wait must not believe a forged one for longer than that.
    let forged = json!({ "status": { "conditions": [{
        "type": "Ready", "status": "True", "reason": "Applied", "message": "trust me",
        "lastTransitionTime": "2020-01-01T00:00:00Z", "observedGeneration": 1,
    }] } });
    bench.apply_tag("absent", "version: 99");
    bench.until_tag("absent", "Ready", "False", "VersionNotFound").await;
    bench.api.patch_status(TAG, &bench.namespace, "absent", forged).await;
    let corrected = |object: &Value| Conditions::of(object).is("Ready", "False");
    bench.api.until((TAG, &bench.namespace, "absent"), "corrected", POLL * 2, corrected).await;
}

#[tokio::test]
async fn a_forged_status_of_a_ledger_is_corrected() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    let forged = json!({ "status": { "conditions": [{
        "type": "Ready", "status": "False", "reason": "InvalidSpec", "message": "closed",
        "lastTransitionTime": "2020-01-01T00:00:00Z", "observedGeneration": 1,
    }] } });
    bench.api.patch_status(LEDGER, "", &bench.ledger_name, forged).await;
    let corrected = |object: &Value| Conditions::of(object).reason("Ready") == "Reachable";
    bench.api.until((LEDGER, "", &bench.ledger_name), "corrected", POLL * 2, corrected).await;
    bench.apply_tag("live", "version: 2");
    bench.until_applied("live", 2).await;
}

#[tokio::test]
async fn a_forged_owner_in_a_status_wins_no_tag() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    bench.cluster.apply(&bench.tag_yaml(&bench.namespace, "thief", "live", "version: 2"));
    bench.until_tag("thief", "Stalled", "True", "Conflict").await;
    let owner = bench.owner("thief").await;
    bench.api.patch_status(TAG, &bench.namespace, "thief", json!({ "status": { "owner": owner } })).await;
    for name in ["thief", "live"] {
        bench.pass(TAG, &bench.namespace, name).await;
    }
    bench.until_tag("thief", "Stalled", "True", "Conflict").await;
    bench.until_applied("live", 1).await;
    assert_eq!((bench.points_at("live").await, bench.history("live").await.len()), (Some(1), 1));
}

#[tokio::test]
async fn a_tenant_cannot_write_a_status() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    bench.apply_tag("live", "version: 1");
    let before = bench.until_applied("live", 1).await;
    let namespace = &bench.namespace;
    bench
        .cluster
        .kubectl(&[
            "-n",
            namespace,
            "create",
            "role",
            "tenant",
            "--verb=get,list,create,update,patch,delete",
            "--resource=sackertags.sacker.dev,sackerpackages.sacker.dev",
        ])
        .success();
    bench
        .cluster
        .kubectl(&["-n", namespace, "create", "rolebinding", "tenant", "--role=tenant", "--user=tenant"])
        .success();
    let patch = r#"{"status": {"sha256": "evil", "version": 9}}"#;
    let as_tenant = ["-n", namespace, "--as=tenant", "patch", "stag", "live", "--type=merge", "-p", patch];
    let mut arguments = as_tenant.to_vec();
    arguments.push("--subresource=status");
    let message = bench.cluster.kubectl(&arguments).failure();
    assert!(message.contains("Forbidden") || message.contains("forbidden"), "{message}");
    // Through the object itself it is allowed, and has no effect.
    bench.cluster.kubectl(&as_tenant).success();
    let after = bench.api.get(TAG, namespace, "live").await.expect("it is there");
    assert_eq!(after["status"], before["status"]);
}

/// Makes the installed schemas accept anything, as those of an old or another sacker might.
pub(super) async fn relax(cluster: &Cluster) {
    let api = cluster.api().await;
    for kind in [LEDGER, PACKAGE, TAG] {
        let name = kind.resource_name();
        let patch = json!([{
            "op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
            "value": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        }]);
        // Fields to select by need a type of their own.
        let remove = json!([{ "op": "remove", "path": "/spec/versions/0/selectableFields" }]);
        for patch in [remove, patch] {
            let patch = patch.to_string();
            cluster.kubectl(&["patch", "crd", &name, "--type=json", "-p", &patch]);
        }
        let open = |object: &Value| {
            let schema = &object["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            schema["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"] == true
        };
        api.until((CRD, "", &name), "relaxed", PATIENCE, open).await;
    }
}

#[tokio::test]
async fn objects_that_cannot_be_read_stop_nobody() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    relax(&cluster).await;
    let bench = Bench::on(&cluster, None).await;
    bench.versions(1).await;
    let namespace = &bench.namespace;
    let ledger = format!("ledger: {}", bench.ledger_name);
    let unreadable = [
        ("word", "package: p, tag: a, version: two"),
        ("list", "package: [p], tag: a, version: 1"),
        ("huge", "package: p, tag: a, version: 99999999999999999999"),
        ("policy", "package: p, tag: a, version: 1, deletionPolicy: Shred"),
        ("empty", ""),
    ];
    // Readable, but broken by the model's rules.
    let unusable = [
        ("latest", "package: p, tag: latest, version: 1"),
        ("number", "package: p, tag: '42', version: 1"),
        ("climb", "package: ../../etc, tag: a, version: 1"),
        ("zero", "package: p, tag: b, version: 0"),
        ("minus", "package: p, tag: c, version: -5"),
        ("neither", "package: p, tag: d"),
    ];
    let mut yaml = String::new();
    for (name, spec) in unreadable.iter().chain(&unusable) {
        let spec = if spec.is_empty() { String::new() } else { format!("{ledger}, {spec}") };
        yaml += &object_yaml("SackerTag", namespace, name, &spec);
    }
    yaml += &object_yaml("SackerPackage", namespace, "bad", "package: {a: b}");
    // The schema accepts it now; a real API server would take hours to notice.
    cluster.kubectl_with(&["apply", "--validate=false", "-f", "-"], &yaml).success();
    let bad_ledger = json!({
        "apiVersion": "sacker.dev/v1alpha1", "kind": "SackerLedger",
        "metadata": { "name": "bad" }, "spec": { "ledger": 7 },
    });
    cluster.kubectl_with(&["apply", "--validate=false", "-f", "-"], &bad_ledger.to_string()).success();
    bench.apply_tag("live", "version: 1");
    bench.apply_package("mirror", "");

    let operator = Operator::start(&cluster, &["--cluster-name", "hostile"]);
    operator.until_ready();
    bench.until_applied("live", 1).await;
    bench.until_package("mirror", "Ready", |object| Conditions::of(object).is("Ready", "True")).await;
    assert_eq!(bench.points_at("live").await, Some(1));
    for (name, _) in unreadable {
        let object = bench.until_tag(name, "Stalled", "True", "InvalidSpec").await;
        assert!(message(&object, "Ready").contains("cannot be read"), "{object:#}");
    }
    for (name, _) in unusable {
        let place = (TAG, namespace.as_str(), name);
        let refused = |object: &Value| {
            let conditions = Conditions::of(object);
            conditions.is("Ready", "False") && !conditions.message("Ready").is_empty()
        };
        bench.api.until(place, "refused", PATIENCE, refused).await;
    }
    let refused = |object: &Value| Conditions::of(object).reason("Stalled") == "InvalidSpec";
    bench.api.until((PACKAGE, namespace, "bad"), "InvalidSpec", PATIENCE, refused).await;
    bench.api.until((LEDGER, "", "bad"), "InvalidSpec", PATIENCE, refused).await;

    // Good ones that come later are served, bad ones can be deleted, and one that is mended works.
    bench.add().await;
    bench.apply_tag("live", "version: 2");
    bench.until_applied("live", 2).await;
    cluster
        .kubectl(&[
            "-n",
            namespace,
            "patch",
            "stag",
            "word",
            "--type=merge",
            "-p",
            r#"{"spec": {"version": 1, "package": "web/frontend"}}"#,
        ])
        .success();
    bench.until_applied("word", 1).await;
    let all = cluster.kubectl(&["-n", namespace, "delete", "--wait=false", "stag,spkg", "--all"]);
    all.success();
    for (name, _) in unreadable.iter().chain(&unusable) {
        bench.api.until_gone((TAG, namespace, name), PATIENCE).await;
    }
    bench.api.until_gone((TAG, namespace, "live"), PATIENCE).await;
    assert!(std::path::Path::new(CRDS).is_dir(), "the committed schemas were not touched");
    assert!(matches!(operator.get("/healthz"), Some((200, _))));
}
