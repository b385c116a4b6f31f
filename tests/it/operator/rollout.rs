//! Pins in pod templates, with the real controllers of Deployments, StatefulSets and DaemonSets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::bench::Bench;
use super::process::Operator;
use crate::support::cluster::{Cluster, PATIENCE};

const RESOLVED: &str = "resolved.sacker.dev/app";

fn operator(cluster: &Cluster) -> Operator {
    let operator = Operator::start(cluster, &["--controllers", "tag,resolver,ledger,rollout"]);
    operator.until_ready();
    operator
}

/// A workload of this kind, called `name`, that pins `pin`.
fn workload(kind: &str, name: &str, labels: &str, ledger: &str, pin: &str, more: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: {kind}
metadata:
  name: {name}
  labels: {{{labels}}}
  annotations: {{sacker.dev/ledger: {ledger}, pin.sacker.dev/app: '{pin}'}}
spec:
  {more}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
      annotations: {{theirs.example/note: stays}}
    spec: {{containers: [{{name: app, image: app}}]}}
"
    )
}

const ENABLED: &str = "sacker.dev/rollout: enabled";

struct Place<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
}

impl Place<'_> {
    fn apply(&self, yaml: &str) {
        self.cluster.kubectl_with(&["-n", self.namespace, "apply", "-f", "-"], yaml).success();
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(&[&["-n", self.namespace], arguments].concat()).success()
    }

    fn get(&self, what: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "-o", "json"], what].concat());
        serde_json::from_str(&text).expect("JSON")
    }

    fn list(&self, kind: &str) -> Vec<Value> {
        self.get(&[kind])["items"].as_array().cloned().unwrap_or_default()
    }

    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < end, "still not: {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn until_pinned(&self, kind: &str, name: &str, pin: &str) -> Value {
        let mut last = Value::Null;
        self.until(&format!("{kind} '{name}' is pinned to {pin}"), || {
            last = self.get(&[kind, name]);
            pin_of(&last["spec"]["template"]) == pin
        })
        .await;
        last
    }

    /// The field managers that have applied something to a Deployment.
    fn appliers(&self, name: &str) -> BTreeSet<String> {
        let object = self.get(&["deployment", name, "--show-managed-fields"]);
        let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let names = entries.iter().filter(|entry| entry["operation"] == "Apply");
        names.filter_map(|entry| entry["manager"].as_str().map(str::to_owned)).collect()
    }

    /// Waits for an event about a workload.
    async fn until_event(&self, name: &str, reason: &str) -> String {
        let mut note = String::new();
        self.until(&format!("an event {reason} about '{name}'"), || {
            let events = self.list("events.events.k8s.io");
            let about =
                events.iter().find(|event| event["regarding"]["name"] == name && event["reason"] == reason);
            about.and_then(|event| event["note"].as_str()).unwrap_or_default().clone_into(&mut note);
            about.is_some()
        })
        .await;
        note
    }
}

fn pin_of(object: &Value) -> &str {
    object["metadata"]["annotations"][RESOLVED].as_str().unwrap_or_default()
}

/// What a pin says for a version of the bench's package.
async fn pinned(bench: &Bench<'_>, version: i64) -> String {
    let spec = version.to_string().parse().expect("a spec");
    bench.ledger.resolve(&bench.package, &spec).await.expect("it is there").record.pinned().to_string()
}

#[tokio::test]
async fn a_moved_tag_rolls_a_deployment_and_no_replica_set_mixes_two() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let operator = operator(&cluster);
    let bench = Bench::on(&cluster, None).await;
    bench.versions(2).await;
    bench.move_by_hand("live", 1).await;
    let place = Place { cluster: &cluster, namespace: &bench.namespace };
    let (first, second) = (pinned(&bench, 1).await, pinned(&bench, 2).await);
    let pin = format!("{}@live", bench.package);
    place.apply(&workload("Deployment", "app", ENABLED, &bench.ledger_name, &pin, "replicas: 2"));
    place.until_pinned("deployment", "app", &first).await;
    let note = place.until_event("app", "Pinned").await;
    assert!(note.contains(&first), "{note}");

    place.kubectl(&["scale", "deployment", "app", "--replicas=6"]);
    bench.move_by_hand("live", 2).await;
    place.kubectl(&["scale", "deployment", "app", "--replicas=10"]);
    let after = place.until_pinned("deployment", "app", &second).await;
    assert_eq!(after["spec"]["replicas"], 10, "the scale is not ours to change");
    assert_eq!(after["spec"]["template"]["metadata"]["annotations"]["theirs.example/note"], "stays");
    place
        .until("the new ReplicaSet has pods", || place.list("pods").iter().any(|pod| pin_of(pod) == second))
        .await;
    // No pod ever starts here, so the rollout stays where it is: several ReplicaSets with pods, which is what is looked at.
    let sets: BTreeMap<String, String> = place
        .list("replicasets")
        .iter()
        .map(|set| (set["metadata"]["uid"].to_string(), pin_of(&set["spec"]["template"]).to_owned()))
        .collect();
    assert!(sets.values().any(|pin| *pin == second), "{sets:?}");
    let pods = place.list("pods");
    assert!(pods.len() >= 3, "{} pods", pods.len());
    let mut of_sets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for pod in &pods {
        let owner = pod["metadata"]["ownerReferences"][0]["uid"].to_string();
        of_sets.entry(owner).or_default().insert(pin_of(pod).to_owned());
    }
    for (set, pins) in &of_sets {
        assert_eq!(*pins, BTreeSet::from([sets[set].clone()]), "a ReplicaSet has one sha");
    }
    operator.terminate();
    assert_eq!(operator.wait(PATIENCE), Some(0), "{}", operator.log());
}

#[tokio::test]
async fn nothing_but_the_pin_changes_and_nothing_without_need() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let bench = Bench::on(&cluster, None).await;
    bench.versions(12).await;
    bench.move_by_hand("live", 1).await;
    let place = Place { cluster: &cluster, namespace: &bench.namespace };
    let ledger = bench.ledger_name.as_str();
    let package = &bench.package;
    let exact = pinned(&bench, 3).await;
    // A tag, a version that no view shows any more, and exact bytes.
    let rows = [
        ("StatefulSet", format!("{package}@live"), pinned(&bench, 1).await, "serviceName: app"),
        ("DaemonSet", format!("{package}@2"), pinned(&bench, 2).await, "minReadySeconds: 0"),
        ("Deployment", exact.clone(), exact, "replicas: 1"),
    ];
    for (kind, pin, _, more) in &rows {
        place.apply(&workload(kind, "app", ENABLED, ledger, pin, more));
        place.apply(&workload(kind, "other", "app: other", ledger, pin, more));
    }
    let look = |kind: &str, name: &str| {
        let mut object = place.get(&[kind, name]);
        let generation = object["metadata"]["generation"].clone();
        object["spec"]["template"]["metadata"]["annotations"].as_object_mut().expect("one").remove(RESOLVED);
        (object["spec"].clone(), object["metadata"]["labels"].clone(), generation)
    };
    let before: Vec<_> = rows.iter().map(|(kind, ..)| look(kind, "app")).collect();
    let operator = operator(&cluster);
    for (kind, _, pin, _) in &rows {
        place.until_pinned(kind, "app", pin).await;
    }
    let after: Vec<_> = rows.iter().map(|(kind, ..)| look(kind, "app")).collect();
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.0, &before.1), (&after.0, &after.1));
    }
    // A change of the package that is none of theirs wakes them, and changes nothing.
    let passes = operator.metric("sacker_reconcile_total");
    bench.add().await;
    place.until("they are looked at", || operator.metric("sacker_reconcile_total") >= passes + 2).await;
    let quiet: Vec<_> = rows.iter().map(|(kind, ..)| look(kind, "app")).collect();
    assert_eq!(quiet, after);
    for (kind, ..) in &rows {
        let (_, _, generation) = look(kind, "other");
        assert_eq!(generation, 1, "{kind} without the label is nobody's business");
    }
}

#[tokio::test]
async fn a_pin_stays_while_its_ledger_is_away_and_when_it_is_given_back() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let operator = operator(&cluster);
    let bench = Bench::on(&cluster, None).await;
    bench.versions(2).await;
    bench.move_by_hand("live", 1).await;
    let place = Place { cluster: &cluster, namespace: &bench.namespace };
    let ledger = bench.ledger_name.as_str();
    let pin = format!("{}@live", bench.package);
    let first = pinned(&bench, 1).await;
    let second = pinned(&bench, 2).await;
    let of = |name: &str, pin: &str| workload("Deployment", name, ENABLED, ledger, pin, "replicas: 1");
    place.apply(&of("app", &pin));
    place.until_pinned("deployment", "app", &first).await;

    // What cannot be done is said once, and where.
    place.apply(&of("wrong", "no-pin"));
    let note = place.until_event("wrong", "InvalidSpec").await;
    assert!(note.contains("<package>@<version, tag or latest>"), "{note}");
    place.apply(&of("nowhere", &format!("{}@none", bench.package)));
    let note = place.until_event("nowhere", "VersionNotFound").await;
    assert!(note.contains("tag 'none'"), "{note}");
    let other = cluster.namespace(&[]).await;
    let elsewhere = Place { cluster: &cluster, namespace: &other };
    elsewhere.apply(&of("app", &pin));
    let note = elsewhere.until_event("app", "NotGranted").await;
    assert!(note.contains("stays as it is"), "{note}");
    assert_eq!(pin_of(&elsewhere.get(&["deployment", "app"])["spec"]["template"]), "");

    // Away: the directory of the ledger.
    let (here, away) = (bench.directory().to_owned(), bench.directory().with_extension("away"));
    std::fs::rename(&here, &away).expect("it can be moved");
    bench.until_ledger("False").await;
    place.kubectl(&["annotate", "deployment", "app", "touched=yes"]);
    place.kubectl(&["scale", "deployment", "app", "--replicas=3"]);
    assert_eq!(pin_of(&place.get(&["deployment", "app"])["spec"]["template"]), first);
    std::fs::rename(&away, &here).expect("it can be moved back");
    bench.move_by_hand("live", 2).await;
    place.until_pinned("deployment", "app", &second).await;

    // Given back: the pin stays, and is whoever's wants it.
    place.kubectl(&["label", "deployment", "app", "sacker.dev/rollout-"]);
    place.until("it is handed back", || !place.appliers("app").contains("sacker-rollout")).await;
    assert_eq!(pin_of(&place.get(&["deployment", "app"])["spec"]["template"]), second);
    bench.move_by_hand("live", 1).await;
    place.kubectl(&["delete", "deployment", "wrong", "nowhere"]);
    place.until("they are gone", || place.list("deployments").len() == 1).await;
    assert_eq!(pin_of(&place.get(&["deployment", "app"])["spec"]["template"]), second);
    assert!(operator.metric("sacker_reconcile_failures_total") == 0, "{}", operator.log());
}

#[tokio::test]
async fn who_leaves_unseen_is_found_and_who_meddles_does_not_roll_pods_in_circles() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let first = operator(&cluster);
    let bench = Bench::on(&cluster, None).await;
    bench.versions(1).await;
    bench.move_by_hand("live", 1).await;
    let place = Place { cluster: &cluster, namespace: &bench.namespace };
    let pin = format!("{}@live", bench.package);
    let wanted = pinned(&bench, 1).await;
    for name in ["left", "stays"] {
        place.apply(&workload("Deployment", name, ENABLED, &bench.ledger_name, &pin, "replicas: 1"));
        place.until_pinned("deployment", name, &wanted).await;
    }
    first.kill();
    place.kubectl(&["label", "deployment", "left", "sacker.dev/rollout-"]);
    let _second = operator(&cluster);
    place.until("it is handed back", || !place.appliers("left").contains("sacker-rollout")).await;
    assert_eq!(pin_of(&place.get(&["deployment", "left"])["spec"]["template"]), wanted);
    assert!(place.appliers("stays").contains("sacker-rollout"), "the other one is still ours");

    let meddle = json!({ "spec": { "template": { "metadata": { "annotations": { RESOLVED: "theirs" } } } } });
    let mut corrected = Vec::new();
    for _ in 0..2 {
        place.kubectl(&["patch", "deployment", "stays", "--type=merge", "-p", &meddle.to_string()]);
        place.until_pinned("deployment", "stays", &wanted).await;
        corrected.push(Instant::now());
    }
    let between = corrected[1].duration_since(corrected[0]);
    assert!(between >= Duration::from_secs(9), "corrected again after {between:?}");
}
