//! The operator dies before and after each step with which it writes (`src/crash_point.rs`): the next process ends what
//! this one began, and what comes out is what a run without a death leaves.
//!
//! Each round has a namespace and a ledger of its own and is the same story: new objects of every kind, then a change of
//! each. The operator is armed at a point of the first part, after its death at one of the second, and so on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sacker::connect::Connect;
use sacker::crash_point::POINTS;
use sacker::ledger;
use sacker::model::{PackageName, Spec};
use serde_json::{Value, json};

use super::bench::{Bench, Conditions, new_version, object_yaml};
use super::hostile::relax;
use super::process::Operator;
use super::quiet::files;
use crate::support::cluster::{CONFIG_MAP, Cluster, DEPLOYMENT, EVENT, Kind, LEDGER, PACKAGE, PATIENCE, TAG};
use crate::support::process::Folder;
use crate::support::{eventually, tier};

/// Points that the second part of the story is for.
const CHANGES: &[&str] = &[
    "operator.config-map.delete",
    "operator.config-map.replace",
    "operator.finalizer.force",
    "operator.finalizer.remove",
    "operator.rollout.keep",
    "operator.rollout.let-go",
    "operator.status.rest",
    "operator.tag.disown",
    "operator.tag.untag",
];

/// What only an orderly end reaches.
const END: &str = "operator.lease.release";

/// Where a ledger in files keeps what has no name yet.
const TEMPORARY: &str = "_sacker/tmp";

/// How long nothing may be written at the end.
const QUIET: Duration = Duration::from_secs(10);

const PIN: &str = "resolved.sacker.dev/app";

/// As a shell reports SIGKILL.
const KILLED: i32 = 137;

/// The operator's points with this ending, without it.
fn points(ending: &str) -> BTreeSet<&'static str> {
    let ours = POINTS.iter().filter(|name| name.starts_with("operator."));
    ours.filter_map(|name| name.strip_suffix(ending)).collect()
}

/// The operator's points with this ending that a trace has, without it.
fn passed(trace: &Path, ending: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(trace).unwrap_or_default();
    let names = text.lines().filter_map(|line| line.split('\t').next()?.strip_suffix(ending));
    names.filter(|name| name.starts_with("operator.")).map(str::to_owned).collect()
}

/// One story with the operator's lives in it.
struct Round<'a> {
    bench: Bench<'a>,
    arguments: Vec<String>,
    operator: Operator,
    /// Where this life ends.
    armed: Option<String>,
    /// Where the next ones end.
    next: VecDeque<String>,
    trace: Option<PathBuf>,
}

impl<'a> Round<'a> {
    /// Everything is there before the first operator starts.
    async fn begin(
        cluster: &'a Cluster,
        number: usize,
        deaths: VecDeque<String>,
        trace: Option<PathBuf>,
    ) -> Self {
        let bench = Bench::on(cluster, None).await;
        bench.versions(2).await;
        bench.move_by_hand("adopted", 1).await;
        cluster.kubectl_with(&["apply", "--validate=false", "-f", "-"], &story(&bench)).success();
        let lease = format!("round-{number}");
        let arguments = [
            "--cluster-name=crash",
            "--identity=one",
            // Long enough for a busy machine: who comes back under its own name does not wait for it.
            "--lease-duration=9s",
            "--lease-name",
            &lease,
            "--controllers=tag,resolver,ledger,rollout",
        ];
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let mut next = deaths;
        let armed = next.pop_front();
        let operator = start(cluster, &arguments, armed.as_deref(), trace.as_ref());
        Self { bench, arguments, operator, armed, next, trace }
    }

    /// Where the operator died, it is started again, armed at the next point.
    fn revive(&mut self) {
        if self.operator.is_running() {
            return;
        }
        let code = self.operator.wait(PATIENCE);
        assert_eq!(code, Some(KILLED), "{:?}: {}", self.armed, self.operator.log());
        self.armed = self.next.pop_front();
        self.operator =
            start(self.bench.cluster, &self.arguments, self.armed.as_deref(), self.trace.as_ref());
    }

    /// Waits until all of this holds, and until the operator died wherever this part of the story has it die.
    async fn until(&mut self, what: &str, is_last: bool, holds: impl AsyncFn(&Bench<'a>) -> Option<String>) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.revive();
            // What is left for later is where the orderly end goes, or the changes.
            let later = |name: &String| name.starts_with(END) || (!is_last && is_change(name));
            let missing = match &self.armed {
                Some(name) if !later(name) => Some(format!("death at {name}")),
                _ => holds(&self.bench).await,
            };
            let Some(missing) = missing else { return };
            assert!(
                Instant::now() < end,
                "{what}: still not: {missing}; armed at {:?}\n{}",
                self.armed,
                self.operator.log()
            );
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// SIGTERM, and death on the way where that is asked for.
    fn end(self) -> Bench<'a> {
        self.operator.terminate();
        let code = if self.armed.is_some() { KILLED } else { 0 };
        assert_eq!(self.operator.wait(PATIENCE), Some(code), "{:?}: {}", self.armed, self.operator.log());
        assert_eq!(self.next, VecDeque::<String>::new(), "points that were not come to");
        self.bench
    }
}

fn is_change(name: &str) -> bool {
    CHANGES.iter().any(|change| name.strip_prefix(change).is_some_and(|rest| rest.starts_with('.')))
}

fn start(cluster: &Cluster, arguments: &[String], at: Option<&str>, trace: Option<&PathBuf>) -> Operator {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let at = at.map(|name| ("SACKER_CRASH_AT", name));
    let trace = trace.map(|path| ("SACKER_CRASH_TRACE", path.to_str().expect("test folders are UTF-8")));
    let environment: Vec<_> = at.into_iter().chain(trace).collect();
    Operator::start_in(cluster, &arguments, &environment)
}

/// The first part: everything new.
fn story(bench: &Bench<'_>) -> String {
    let Bench { namespace, ledger_name, package, .. } = bench;
    let mut yaml = String::new();
    for (tag, spec) in [
        ("live", "version: 1"),
        ("adopted", "version: 1"),
        ("retained", "version: 1"),
        ("removed", "version: 1, deletionPolicy: Delete"),
    ] {
        yaml += &bench.tag_yaml(namespace, tag, tag, spec);
    }
    // Not readable as a SackerTag, and yet with our finalizer.
    let spec = format!("ledger: {ledger_name}, package: {package}, tag: word, version: two");
    yaml += &object_yaml("SackerTag", namespace, "word", &spec)
        .replace("name: word,", "name: word, finalizers: [sacker.dev/tag],");
    for (name, config_map) in [("mirror", "artifacts"), ("renamed", "before")] {
        let spec = format!("ledger: {ledger_name}, package: {package}, publish: {{configMap: {config_map}}}");
        yaml += &object_yaml("SackerPackage", namespace, name, &spec);
    }
    for (name, pin) in [("app", "live"), ("leaving", "1")] {
        let _ = write!(
            yaml,
            "---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{sacker.dev/rollout: enabled}}
  annotations: {{sacker.dev/ledger: {ledger_name}, pin.sacker.dev/app: '{package}@{pin}'}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: app, image: app}}]}}
"
        );
    }
    yaml
}

/// The second part: a change of each.
async fn change(bench: &Bench<'_>) {
    let (api, namespace) = (&bench.api, &bench.namespace);
    let label = json!({ "metadata": { "labels": { "sacker.dev/rollout": null } } });
    api.patch(DEPLOYMENT, namespace, "leaving", label).await;
    api.patch(TAG, namespace, "live", json!({ "spec": { "version": 2 } })).await;
    let publish = json!({ "spec": { "publish": { "configMap": "after" } } });
    api.patch(PACKAGE, namespace, "renamed", publish).await;
    // What somebody else put into a status, so that it stays where ours is applied again.
    let candidate =
        json!({ "version": 9, "since": "2026-01-01T00:00:00Z", "readyAt": "2026-01-01T00:00:00Z" });
    api.patch_status(TAG, namespace, "adopted", json!({ "status": { "candidate": candidate } })).await;
    for name in ["retained", "removed", "word"] {
        api.delete(TAG, namespace, name).await;
    }
}

/// What is not yet as it should be after the first part.
async fn after_creation(bench: &Bench<'_>) -> Option<String> {
    let Bench { api, namespace, .. } = bench;
    for name in ["live", "adopted", "retained", "removed"] {
        if !is_applied(bench, name, 1).await {
            return Some(format!("{name} is applied"));
        }
    }
    let word = api.get(TAG, namespace, "word").await.expect("it is there");
    if Conditions::of(&word).reason("Ready") != "InvalidSpec" {
        return Some("'word' is refused".into());
    }
    for (name, config_map) in [("mirror", "artifacts"), ("renamed", "before")] {
        if !is_published(bench, name, config_map, "adopted=1 live=1 removed=1 retained=1", "1").await {
            return Some(format!("{name} is published as {config_map}"));
        }
    }
    for name in ["app", "leaving"] {
        if !pin(bench, name).await.contains("@1+") {
            return Some(format!("{name} is pinned"));
        }
    }
    None
}

/// The same after the second part.
async fn after_change(bench: &Bench<'_>) -> Option<String> {
    let Bench { api, namespace, .. } = bench;
    for name in ["retained", "removed", "word"] {
        if api.get(TAG, namespace, name).await.is_some() {
            return Some(format!("{name} is gone"));
        }
    }
    if !is_applied(bench, "live", 2).await || !is_applied(bench, "adopted", 1).await {
        return Some("the tags that stay are applied".into());
    }
    let adopted = api.get(TAG, namespace, "adopted").await.expect("it is there");
    if !adopted["status"]["candidate"].is_null() {
        return Some("what somebody else put into a status is gone".into());
    }
    for (name, config_map) in [("mirror", "artifacts"), ("renamed", "after")] {
        if !is_published(bench, name, config_map, "adopted=1 live=2 retained=1", "2").await {
            return Some(format!("{name} is published as {config_map}"));
        }
    }
    if api.get(CONFIG_MAP, namespace, "before").await.is_some() {
        return Some("the old ConfigMap is gone".into());
    }
    if !pin(bench, "app").await.contains("@2+") {
        return Some("app is pinned anew".into());
    }
    let appliers = api.appliers(DEPLOYMENT, namespace, "leaving").await;
    let expected = ["sacker-rollout-former".to_owned()];
    (!appliers.iter().filter(|name| name.starts_with("sacker")).eq(&expected))
        .then(|| format!("'leaving' is handed back: {appliers:?}"))
}

async fn is_applied(bench: &Bench<'_>, name: &str, version: i64) -> bool {
    let object = bench.api.get(TAG, &bench.namespace, name).await.expect("it is there");
    Conditions::of(&object).is("Ready", "True") && object["status"]["version"] == version
}

async fn is_published(bench: &Bench<'_>, name: &str, config_map: &str, tags: &str, live: &str) -> bool {
    let object = bench.api.get(PACKAGE, &bench.namespace, name).await.expect("it is there");
    let published = bench.api.get(CONFIG_MAP, &bench.namespace, config_map).await;
    Conditions::of(&object).is("Ready", "True")
        && object["status"]["tagSummary"] == tags
        && published.is_some_and(|object| object["data"]["live.version"] == live)
}

async fn pin(bench: &Bench<'_>, name: &str) -> String {
    let object = bench.api.get(DEPLOYMENT, &bench.namespace, name).await.expect("it is there");
    object["spec"]["template"]["metadata"]["annotations"][PIN].as_str().unwrap_or_default().to_owned()
}

/// All that the story leaves, without what differs from one run to the next: names, digests and times. Who moved a tag last
/// stands in a status only as of the last poll.
async fn outcome(bench: &Bench<'_>) -> serde_json::Map<String, Value> {
    let (api, namespace) = (&bench.api, &bench.namespace);
    let mut all = serde_json::Map::new();
    for tag in ["live", "adopted", "retained", "removed"] {
        let events = bench.history(tag).await;
        let events = events.iter().map(|event| {
            json!({
                "kind": event.kind.as_str(), "from": event.from, "to": event.to, "actor": event.by,
                "owner": event.owner, "seq": event.seq,
            })
        });
        all.insert(format!("history of {tag}"), events.collect());
    }
    for kind in [TAG, PACKAGE, CONFIG_MAP, DEPLOYMENT] {
        for object in api.list(kind, namespace).await {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            // Of Kubernetes itself.
            if name == "kube-root-ca.crt" {
                continue;
            }
            let status = if kind == DEPLOYMENT { Value::Null } else { object["status"].clone() };
            let shown = json!({
                "metadata": {
                    "labels": object["metadata"]["labels"], "finalizers": object["metadata"]["finalizers"],
                },
                "spec": object["spec"], "data": object["data"], "status": status,
                "appliers": api.appliers(kind, namespace, name).await,
            });
            all.insert(format!("{} {name}", kind.resource_name()), shown);
        }
    }
    let mut found = BTreeMap::new();
    files(bench.directory(), &mut found);
    let relative = found.keys().map(|path| path.strip_prefix(bench.directory()).expect("below it"));
    // What another pass was writing at the death goes with the next writer: see `sweep`.
    let relative = relative.filter(|path| !path.starts_with(TEMPORARY));
    all.insert("files".into(), relative.map(|path| Value::from(path.display().to_string())).collect());
    let mut all = Value::from(all);
    forget_times(&mut all);
    let mut text = all.to_string();
    for version in 1..=2 {
        let record =
            bench.ledger.resolve(&bench.package, &Spec::Version(super::bench::version(version))).await;
        let sha256 = record.expect("it is there").record.sha256.to_string();
        text = text.replace(&sha256, &format!("digest of {version}"));
        text = text.replace(&sha256[..12], &format!("short digest of {version}"));
    }
    text = text.replace(namespace.as_str(), "namespace").replace(&bench.ledger_name, "ledger");
    serde_json::from_str(&text).expect("JSON")
}

/// The next process that writes to the ledger leaves nothing of those that died while they wrote.
async fn sweep(bench: &Bench<'_>) {
    let uri = bench.uri.parse().expect("a ledger URI");
    let next = ledger::open(&uri, &Connect::default()).await.expect("open");
    next.add(&PackageName::existing("another"), &new_version()).await.expect("add");
    let left = std::fs::read_dir(bench.directory().join(TEMPORARY)).expect("it is there").count();
    assert_eq!(left, 0, "temporary files are left");
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["lastTransitionTime", "since", "addedAt", "at", "by"] {
                fields.remove(name);
            }
            fields.values_mut().for_each(forget_times);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        _ => {}
    }
}

/// Everything that an operator writes, with its versions: the API's and the file system's.
async fn everything(benches: &[Bench<'_>]) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for bench in benches {
        let mut note = |kind: Kind, object: &Value| {
            let metadata = &object["metadata"];
            let place = format!("{} {}/{}", kind.resource_name(), bench.namespace, metadata["name"]);
            seen.insert(place, metadata["resourceVersion"].to_string());
        };
        for kind in [TAG, PACKAGE, CONFIG_MAP, EVENT, DEPLOYMENT] {
            for object in bench.api.list(kind, &bench.namespace).await {
                note(kind, &object);
            }
        }
        let ledger = bench.api.get(LEDGER, "", &bench.ledger_name).await.expect("it is there");
        note(LEDGER, &ledger);
        let mut found = BTreeMap::new();
        files(bench.directory(), &mut found);
        for (path, state) in found {
            seen.insert(path.display().to_string(), format!("{state:?}"));
        }
    }
    seen
}

/// The whole story once, with these deaths.
async fn tell(
    cluster: &Cluster,
    number: usize,
    deaths: VecDeque<String>,
    trace: Option<PathBuf>,
) -> (Bench<'_>, serde_json::Map<String, Value>) {
    let what = format!("round {number}, {deaths:?}");
    let mut round = Round::begin(cluster, number, deaths, trace).await;
    round.until(&what, false, after_creation).await;
    change(&round.bench).await;
    round.until(&what, true, after_change).await;
    if let Some(trace) = &round.trace {
        // Events and renewals come when they come.
        let all = points(".after").len() - 1;
        eventually("every point but the last", PATIENCE, async || passed(trace, ".after").len() >= all).await;
    }
    let bench = round.end();
    let outcome = outcome(&bench).await;
    sweep(&bench).await;
    (bench, outcome)
}

async fn every_point(ending: &str) {
    const { assert!(cfg!(debug_assertions), "crash points are in debug builds only") };
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    relax(&cluster).await;
    let began = Instant::now();
    let folder = Folder::new("trace");
    let trace = folder.path().join("trace");
    let (bench, expected) = tell(&cluster, 0, VecDeque::new(), Some(trace.clone())).await;
    let passed = passed(&trace, ending);
    let all = points(ending);
    assert_eq!(passed, all.iter().map(|name| (*name).to_owned()).collect());

    let first: Vec<&str> =
        all.iter().copied().filter(|name| !CHANGES.contains(name) && *name != END).collect();
    let mut benches = vec![bench];
    let mut deaths = 0;
    for repetition in 0..tier::figure(1, 10) {
        for position in 0..first.len().max(CHANGES.len()) {
            let end = (position == 0).then_some(END);
            let names = [first.get(position).copied(), CHANGES.get(position).copied(), end];
            let names: VecDeque<String> =
                names.into_iter().flatten().map(|name| format!("{name}{ending}")).collect();
            deaths += names.len();
            let what = format!("{names:?}");
            let number = 1 + repetition * 100 + position;
            let (bench, found) = tell(&cluster, number, names, None).await;
            assert_eq!(found.len(), expected.len(), "{what}: {:?}", found.keys());
            for (name, expected) in &expected {
                assert_eq!(found.get(name), Some(expected), "{what}: {name}");
            }
            benches.push(bench);
        }
    }

    // A last one, which has nothing to do.
    let operator =
        Operator::start(&cluster, &["--cluster-name=crash", "--controllers=tag,resolver,ledger,rollout"]);
    operator.until_ready();
    let deadline = Instant::now() + QUIET * 3;
    let look = async || {
        let mut seen = everything(&benches).await;
        // An apply of what is there already changes no object, and is a write all the same.
        for name in ["sacker_status_writes_total", "sacker_tag_changes_total"] {
            seen.insert(name.to_owned(), operator.metric(name).to_string());
        }
        seen
    };
    let (mut before, mut since) = (look().await, Instant::now());
    while since.elapsed() < QUIET {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = look().await;
        if now != before {
            let changed: Vec<_> =
                now.iter().filter(|(name, state)| before.get(*name) != Some(*state)).collect();
            assert!(Instant::now() + QUIET < deadline, "it does not become quiet: {changed:#?}");
            (before, since) = (now, Instant::now());
        }
    }
    tier::summary(&format!(
        "R13 points={} ending={ending} deaths={deaths} violations=0 quiet={QUIET:?} seconds={}",
        all.len(),
        began.elapsed().as_secs()
    ));
    operator.terminate();
    assert_eq!(operator.wait(PATIENCE), Some(0), "{}", operator.log());
}

#[tokio::test]
async fn death_before_any_step_changes_nothing() {
    every_point(".before").await;
}

#[tokio::test]
async fn death_after_any_step_changes_nothing() {
    every_point(".after").await;
}
