//! R27: many pods start while a tag moves. Those of a pinned template see what their ReplicaSet is pinned to; those that
//! resolve a tag themselves see one version or the other, verified, and which one is not promised.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::{Value, json};

use super::home::Home;
use super::samples::{Pods, deployment};
use super::{FETCH_PATIENCE, noise};
use crate::operator::process::Operator;
use crate::support::cluster::POD;
use crate::support::eventually;
use crate::support::tier::{figure, summary};

/// The annotation of the sample that names its pin.
const RESOLVED: &str = "resolved.sacker.dev/app";

/// A SackerLedger that this namespace may read.
fn ledger(pods: &Pods, home: &Home) -> String {
    let Pods { namespace, .. } = pods;
    format!(
        "
apiVersion: sacker.dev/v1alpha1
kind: SackerLedger
metadata: {{name: {namespace}}}
spec:
  ledger: {}
  pollInterval: 1s
  access:
  - namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}
    packages: ['**']
    verbs: [read]
",
        home.ledger
    )
}

/// A sample with so many replicas, which ask for next to nothing: all of them have to fit on the node.
fn replicas(way: &str, count: usize) -> Value {
    let mut workload = deployment(way);
    workload["spec"]["replicas"] = json!(count);
    let init = &mut workload["spec"]["template"]["spec"]["initContainers"][0];
    init["resources"]["requests"] = json!({ "cpu": "1m", "memory": "1Mi" });
    workload
}

/// What the pods of a namespace had in their volumes: by pod, its ReplicaSet, its pin if it has one, and the digest.
type Seen = BTreeMap<String, (String, Option<String>, String)>;

/// Looks into the pods that run and were not looked into yet.
async fn look(pods: &Pods, seen: &mut Seen) {
    let api = pods.site.cluster.api().await;
    for pod in api.list(POD, &pods.namespace).await {
        let name = pod["metadata"]["name"].as_str().expect("a name").to_owned();
        let is_ready = pod["status"]["containerStatuses"][0]["ready"] == true;
        if !is_ready || !pod["metadata"]["deletionTimestamp"].is_null() || seen.contains_key(&name) {
            continue;
        }
        let line = String::from_utf8(pods.in_application(&pod, "sha256sum")).expect("UTF-8");
        // Nothing of one that ended at this moment.
        let Some(digest) = line.split_whitespace().next().map(str::to_owned) else { continue };
        let set = pod["metadata"]["labels"]["pod-template-hash"].as_str().expect("it is of a ReplicaSet");
        let app = pod["metadata"]["labels"]["app"].as_str().expect("a label");
        let pin = pod["metadata"]["annotations"][RESOLVED].as_str().map(str::to_owned);
        seen.insert(name, (format!("{app}-{set}"), pin, digest));
    }
}

#[tokio::test]
async fn pods_that_start_while_a_tag_moves_see_what_they_are_pinned_to() {
    let Some(pods) = Pods::new().await else { return };
    let Some(home) = Home::new() else { return };
    let start = Instant::now();
    let cluster = &pods.site.cluster;
    cluster.install_crds();
    pods.settings(&home, &home.store).await;
    let count = figure(10, 50);
    let mut pins = vec![home.add("frontend-server", &noise(3_000_000))];
    let [access, secret] = home.keys();
    let keys = [("AWS_ACCESS_KEY_ID", access), ("AWS_SECRET_ACCESS_KEY", secret)];
    let controllers = ["--controllers", "ledger,rollout", "--cluster-name", "moves"];
    let operator = Operator::start_in(cluster, &controllers, &keys);
    operator.until_ready();
    cluster.apply(&ledger(&pods, &home));

    let mut pinned = replicas("by-pin", count / 2);
    pinned["metadata"]["labels"] = json!({ "sacker.dev/rollout": "enabled" });
    pinned["metadata"]["annotations"] =
        json!({ "sacker.dev/ledger": pods.namespace, "pin.sacker.dev/app": "frontend-server@live" });
    pinned["spec"]["template"]["metadata"]["annotations"][RESOLVED] = json!(pins[0]);
    pods.create(&pinned);
    pods.create(&replicas("by-spec", count - count / 2));

    let mut seen = Seen::new();
    eventually("a few pods run", FETCH_PATIENCE, async || {
        look(&pods, &mut seen).await;
        seen.len() >= count / 5
    })
    .await;
    pins.push(home.add("frontend-server", &noise(3_000_001)));
    eventually("all pods of the new pin run", FETCH_PATIENCE, async || {
        look(&pods, &mut seen).await;
        let is_new = |pin: &Option<String>| pin.as_ref() == pins.last();
        let new = seen.values().filter(|(_, pin, _)| is_new(pin)).count();
        let unpinned = seen.values().filter(|(_, pin, _)| pin.is_none()).count();
        new >= count / 2 && unpinned >= count - count / 2
    })
    .await;

    let digests: Vec<&str> =
        pins.iter().filter_map(|pin| pin.split_once("+sha256:")).map(|pin| pin.1).collect();
    let mut by_set: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (pod, (set, pin, digest)) in &seen {
        match pin {
            Some(pin) => assert!(pin.ends_with(digest.as_str()), "{pod} is pinned to {pin} and has {digest}"),
            None => assert!(digests.contains(&digest.as_str()), "{pod} has {digest}, none of {digests:?}"),
        }
        by_set.entry(set).or_default().insert(digest);
    }
    let pinned: Vec<_> = by_set.iter().filter(|(set, _)| set.starts_with("by-pin")).collect();
    assert!(pinned.len() == 2 && pinned.iter().all(|(_, digests)| digests.len() == 1), "{by_set:?}");
    summary(&format!(
        "R27 pods={} replicasets={} mixed=0 wrong=0 seconds={}",
        seen.len(),
        by_set.len(),
        start.elapsed().as_secs()
    ));
    operator.terminate();
}
