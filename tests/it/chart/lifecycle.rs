//! An upgrade brings new kinds, and the end of a release ends no kinds, no SackerLedgers and nothing of tenants. Without a node:
//! no pod is waited for.

use std::process::Command;

use super::helm::{CHART, Helm};
use crate::support::cluster::Cluster;

const NAMESPACE: &str = "sacker-system";

/// The chart as a release before this one had it, with a kind that lacks something: its path.
fn older_chart(helm: &Helm) -> String {
    let folder = helm.folder("older");
    let copied = Command::new("cp").arg("-r").arg(CHART).arg(&folder).status().expect("cp runs");
    assert!(copied.success());
    let path = folder.join("files/crds/sackertags.yaml");
    let text = std::fs::read_to_string(&path).expect("it can be read");
    let older = text.replace("    shortNames:\n    - stag\n", "");
    assert_ne!(text, older);
    std::fs::write(&path, older).expect("it can be written");
    folder.to_str().expect("test folders are UTF-8").to_owned()
}

fn field(cluster: &Cluster, object: &[&str], path: &str) -> String {
    let output = format!("jsonpath={{{path}}}");
    cluster.kubectl(&[&["get"], object, &["-o", &output]].concat()).success()
}

#[test]
fn kinds_follow_an_upgrade_and_outlive_the_release() {
    let Some(cluster) = Cluster::start() else { return };
    let Some(helm) = Helm::on(&cluster) else { return };
    let older = older_chart(&helm);
    helm.run(&["install", "sacker", &older, "--namespace", NAMESPACE, "--create-namespace"]).success();
    let kinds =
        ["sackerledgers", "sackerpackages", "sackertags"].map(|kind| format!("crd/{kind}.sacker.dev"));
    let [ledgers, packages, tags] = &kinds;
    cluster
        .kubectl(&["wait", "--for=condition=Established", "--timeout=30s", ledgers, packages, tags])
        .success();
    assert_eq!(field(&cluster, &[tags.as_str()], ".spec.names.shortNames"), "");
    cluster.kubectl(&["create", "namespace", "web"]).success();
    cluster.apply(
        "
apiVersion: sacker.dev/v1alpha1
kind: SackerTag
metadata: {name: live, namespace: web}
spec: {package: frontend, tag: live, version: 1}
",
    );
    let tag = ["sackertags.sacker.dev", "live", "-n", "web"];
    let ledger = ["sackerledgers.sacker.dev", "default"];

    let values = ["--namespace", NAMESPACE, "--set", "ledgers.default.ledger=file:///var/lib/sacker"];
    helm.run(&[&["upgrade", "sacker", CHART], &values[..]].concat()).success();
    assert_eq!(field(&cluster, &[tags.as_str()], ".spec.names.shortNames"), r#"["stag"]"#);
    let uids = || -> Vec<String> {
        let objects: [&[&str]; 5] =
            [&[ledgers.as_str()], &[packages.as_str()], &[tags.as_str()], &tag, &ledger];
        objects.iter().map(|object| field(&cluster, object, ".metadata.uid")).collect()
    };
    let before = uids();

    helm.run(&["uninstall", "sacker", "--namespace", NAMESPACE]).success();
    let deployment = ["get", "deployment", "sacker-operator", "-n", NAMESPACE];
    let gone = cluster.kubectl(&deployment).failure();
    assert!(gone.contains("not found"), "{gone}");
    cluster.kubectl(&["get", "clusterrole", "sacker-operator"]).failure();
    assert_eq!(uids(), before);

    // It comes back to what it left.
    helm.run(&[&["install", "sacker", CHART], &values[..]].concat()).success();
    cluster.kubectl(&deployment).success();
    assert_eq!(uids(), before);
    assert_eq!(field(&cluster, &ledger, ".spec.ledger"), "file:///var/lib/sacker");
}
