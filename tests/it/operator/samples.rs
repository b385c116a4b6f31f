//! The manifests of `config/samples/`, which the documentation includes: the API server takes each of them, and the operator
//! does what they say. Those of pods run on a node (`tests/it/pods.rs`).

use std::fs;
use std::path::{Path, PathBuf};

use sacker::model::{LedgerUri, PackageName, StoreUri};
use serde_json::Value;

use super::bench::Bench;
use crate::support::cluster::{CONFIG_MAP, Cluster, PATIENCE, TAG};

/// How many samples there are at least, so that a folder that is not found is no success.
const SAMPLES: usize = 18;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples")
}

/// Every manifest.
fn samples() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [folder(), folder().join("pods")] {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        found.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")));
    }
    assert!(found.len() >= SAMPLES, "{found:?}");
    found
}

fn text(name: &str) -> String {
    fs::read_to_string(folder().join(name)).expect("a sample")
}

#[tokio::test]
async fn the_api_server_takes_every_sample() {
    let Some(cluster) = Cluster::shared() else { return };
    // Workloads that this level forbids are warned about.
    let namespace = cluster.namespace(&[("pod-security.kubernetes.io/warn", "restricted")]).await;
    let dry_run = ["-n", &namespace, "apply", "--dry-run=server", "--validate=strict", "-f"];
    for path in samples() {
        let file = path.to_string_lossy();
        let answer = cluster.kubectl(&[&dry_run[..], &[&*file]].concat());
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{file}");
    }
    let typo = text("tag-live.yaml").replace("  version: 23", "  versoin: 23");
    let refused = cluster.kubectl_with(&[&dry_run[..], &["-"]].concat(), &typo).failure();
    assert!(refused.contains("versoin"), "{refused}");
}

/// The API server compares the URIs with a pattern; what sacker itself makes of them says more.
#[test]
fn ledgers_and_stores_are_such_as_sacker_can_use() {
    let mut kinds = Vec::new();
    for path in samples() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.starts_with("ledger-") {
            continue;
        }
        let ledger: Value = serde_saphyr::from_str(&text(&name)).expect("YAML");
        assert_eq!(ledger["kind"], "SackerLedger", "{name}");
        let uri = |key: &str| ledger["spec"][key].as_str().expect("a URI");
        uri("ledger").parse::<LedgerUri>().expect(&name);
        uri("store").parse::<StoreUri>().expect(&name);
        kinds.push(uri("ledger").split_once(':').expect("a scheme").0.to_owned());
    }
    kinds.sort();
    assert_eq!(kinds, ["dynamo", "file", "git+https", "s3", "zk"]);
}

/// Applies a sample in the bench's namespace, for the bench's ledger.
fn apply(bench: &Bench<'_>, name: &str) {
    let sample = text(name);
    let ours = sample.replace("ledger: default", &format!("ledger: {}", bench.ledger_name));
    assert_ne!(ours, sample, "{name} is about the ledger 'default'");
    bench.cluster.kubectl_with(&["-n", &bench.namespace, "apply", "-f", "-"], &ours).success();
}

#[tokio::test]
async fn the_operator_does_what_the_samples_say() {
    let Some(mut bench) = Bench::new().await else { return };
    bench.package = PackageName::existing("frontend-server");
    bench.versions(23).await;
    bench.move_by_hand("live", 22).await;

    for name in ["package.yaml", "tag-canary.yaml", "tag-live.yaml"] {
        apply(&bench, name);
    }
    bench.until_applied("frontend-live", 23).await;
    bench.until_applied("frontend-canary", 23).await;
    let is_pinned = |object: &Value| {
        let pin = object["data"]["live"].as_str().unwrap_or_default();
        pin.starts_with("frontend-server@23+sha256:")
    };
    let published = (CONFIG_MAP, bench.namespace.as_str(), "frontend-artifacts");
    bench.api.until(published, "the pin of live", PATIENCE, is_pinned).await;

    // The canary has stood still for some seconds only.
    apply(&bench, "tag-live-follows.yaml");
    bench.until_tag("frontend-live", "Ready", "False", "Soaking").await;
    apply(&bench, "tag-left-alone.yaml");
    bench.until_tag("frontend-live", "Ready", "Unknown", "Suspended").await;
    assert_eq!(bench.points_at("live").await, Some(23));

    apply(&bench, "tag-of-a-preview.yaml");
    bench.until_applied("frontend-preview-4711", 23).await;
    bench.api.delete(TAG, &bench.namespace, "frontend-preview-4711").await;
    bench.api.until_gone((TAG, &bench.namespace, "frontend-preview-4711"), PATIENCE).await;
    assert_eq!(bench.points_at("preview-4711").await, None);
}
