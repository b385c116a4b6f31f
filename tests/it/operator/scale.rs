//! Many objects: they are looked at quickly, cost nothing while nothing changes, and slow no promotion down.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use sacker::ledger::Ledger;
use sacker::model::{Actor, Change, EventSource, PackageName, TagChange, TagName, Version};
use serde_json::{Value, json};

use super::bench::{Bench, Conditions, version};
use super::process::Operator;
use crate::support::cluster::{CONFIG_MAP, Cluster, EVENT, Kind, PACKAGE, TAG};
use crate::support::faultgate::Gate;
use crate::support::{testbed, tier, unique};

/// SackerTags per package, each of a tag of its own.
const TAGS: usize = 5;

/// Writers that set the scene.
const WRITERS: usize = 16;

/// Requests that a read of one package takes on DynamoDB: its versions and its tags are two partitions of two tables of 2015.
const READS: usize = 2;

/// The operator's poll of a ledger where nothing changes comes up to this many times later (`src/controller/poll.rs`).
const SLOWEST: u32 = 4;

pub(super) fn package(index: usize) -> PackageName {
    PackageName::existing(format!("web/p{index}"))
}

fn tag(index: usize) -> String {
    format!("t{index}")
}

pub(super) async fn in_parallel<F: Future>(works: impl Iterator<Item = F>) {
    stream::iter(works).buffer_unordered(WRITERS).for_each(async |_| {}).await;
}

pub(super) async fn set(ledger: &dyn Ledger, package: &PackageName, tag: &str, to: i64) {
    let actor = Actor { by: "ann".into(), reason: None, source: EventSource::Cli };
    let change = TagChange::new(Change::Move { to: version(to), hold: None }, actor);
    ledger.change_tag(package, &TagName::existing(tag), &change).await.expect("a move");
}

pub(super) async fn add(ledger: &dyn Ledger, package: &PackageName) {
    let new = super::bench::new_version();
    ledger.add(package, &new).await.expect("add");
}

/// Two versions, the tags of the objects at the first, and one that no object is about.
async fn fill(ledger: &dyn Ledger, package: &PackageName) {
    add(ledger, package).await;
    add(ledger, package).await;
    for index in 0..TAGS {
        set(ledger, package, &tag(index), 1).await;
    }
    set(ledger, package, "free", 1).await;
}

pub(super) struct Scene<'a> {
    pub(super) bench: Bench<'a>,
    pub(super) packages: usize,
}

impl Scene<'_> {
    pub(super) async fn make(&self) {
        let Self { bench, packages } = self;
        let ledger = bench.ledger.as_ref();
        let all: Vec<PackageName> = (0..*packages).map(package).collect();
        in_parallel(all.iter().map(|package| fill(ledger, package))).await;
        let objects = (0..*packages).flat_map(|index| {
            let mirror = (PACKAGE, format!("p{index}"), json!({}));
            let wishes = (0..TAGS)
                .map(move |at| (TAG, format!("p{index}-t{at}"), json!({ "tag": tag(at), "version": 1 })));
            std::iter::once((index, mirror)).chain(wishes.map(move |wish| (index, wish)))
        });
        in_parallel(objects.map(async |(index, (kind, name, mut spec))| {
            spec["ledger"] = bench.ledger_name.as_str().into();
            spec["package"] = package(index).as_str().into();
            bench.api.apply(kind, &bench.namespace, &name, json!({ "spec": spec })).await;
        }))
        .await;
    }

    pub(super) fn count(&self) -> usize {
        self.packages * (TAGS + 1)
    }

    async fn list(&self) -> Vec<Value> {
        let mut all = self.bench.api.list(TAG, &self.bench.namespace).await;
        all.extend(self.bench.api.list(PACKAGE, &self.bench.namespace).await);
        all
    }

    /// How long until all are Ready.
    pub(super) async fn until_ready(&self, limit: Duration) -> Duration {
        let start = Instant::now();
        loop {
            let all = self.list().await;
            let is_ready = |object: &&Value| Conditions::of(object).is("Ready", "True");
            let ready = all.iter().filter(is_ready).count();
            if ready == self.count() {
                return start.elapsed();
            }
            assert!(start.elapsed() < limit, "{ready} of {} are Ready after {limit:?}", self.count());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The version of everything that the operator could write to.
    pub(super) async fn revisions(&self) -> BTreeMap<String, String> {
        let mut seen = BTreeMap::new();
        for kind in [TAG, PACKAGE, CONFIG_MAP, EVENT] {
            for object in self.bench.api.list(kind, &self.bench.namespace).await {
                let metadata = &object["metadata"];
                seen.insert(
                    format!("{kind:?} {}", metadata["name"]),
                    metadata["resourceVersion"].to_string(),
                );
            }
        }
        seen
    }

    /// How long until an object shows what was asked for.
    async fn latency(
        &self,
        (kind, name): (Kind, &str),
        limit: Duration,
        shows: impl FnMut(&Value) -> bool,
    ) -> Duration {
        let start = Instant::now();
        self.bench.api.until((kind, &self.bench.namespace, name), "the change", limit, shows).await;
        start.elapsed()
    }
}

/// The largest but one of a hundred, and so on.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[(times.len() * 99).div_ceil(100) - 1]
}

fn changes_a_ledger(operation: &str) -> bool {
    ["PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem"].contains(&operation)
}

pub(super) fn within<T: PartialOrd + Debug + Copy>(what: &str, value: T, limit: T) {
    assert!(value <= limit, "{what}: {value:?}, at most {limit:?}");
}

/// R15 and the rows op-restart, op-idle and op-promote.
#[tokio::test]
async fn many_objects_start_quickly_and_cost_nothing_while_nothing_changes() {
    let Some(server) = testbed::dynamodb() else { return };
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let gate = Gate::start(&server.endpoint, 0);
    let name = unique("ledger");
    // Ours go past the gate: its log is the operator's.
    let bench = Bench::with(&cluster, None, server.uri(&name), &server.connect(), None).await;
    let poll = tier::figure(Duration::from_secs(2), Duration::from_secs(30));
    let seen = server.behind(&gate).uri(&name);
    let yaml = bench.ledger_yaml().replace(&bench.uri, &seen);
    cluster.apply(&yaml.replace("pollInterval: 1s", &format!("pollInterval: {}s", poll.as_secs())));
    let scene = Scene { bench, packages: tier::figure(100, 1_000) };
    scene.make().await;

    // Sets the scene: several writes per object, so what else runs on the machine decides how long it takes. R15 bounds the start that
    // finds everything as it should be.
    let first = Operator::start(&cluster, &[]);
    let adopted = scene.until_ready(Duration::from_mins(5)).await;
    first.kill();

    // Everything is as it should be already.
    let before = scene.revisions().await;
    gate.take_log();
    let start = Instant::now();
    let operator = Operator::start(&cluster, &[]);
    operator.until_ready();
    while operator.metric("sacker_reconcile_total") < scene.count() as u64 {
        within("a restart", start.elapsed(), Duration::from_mins(1));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let restarted = start.elapsed();
    // The first round of the poll is a part of the start.
    while operator.metric("sacker_polls_total") == 0 {
        within("a restart with its poll", start.elapsed(), Duration::from_mins(1));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(scene.revisions().await, before, "a restart writes");
    assert_eq!(operator.metric("sacker_status_writes_total"), 0);
    let wrote = gate.take_log().into_iter().filter(|entry| changes_a_ledger(&entry.operation)).count();
    assert_eq!(wrote, 0, "writes to the ledger by a restart");

    // A measurement, as long as it is said to be.
    let window = tier::figure(Duration::from_secs(20), Duration::from_mins(5));
    gate.take_log();
    let (cpu, polls) = (operator.cpu_time(), operator.metric("sacker_polls_total"));
    tokio::time::sleep(window).await;
    let cpu = operator.cpu_time().saturating_sub(cpu).as_secs_f64() / window.as_secs_f64();
    let polls = operator.metric("sacker_polls_total") - polls;
    let requests = gate.take_log().len();
    let memory = operator.memory() / 1024 / 1024;
    assert_eq!(scene.revisions().await, before, "something is written while nothing changes");
    assert!(polls > 0, "it polls");
    // One round may be under way at the beginning, and one at the end.
    let rounds = usize::try_from(polls).expect("a few") + 1;
    within("requests to the ledger", requests, rounds * scene.packages * READS);
    within("MiB of memory", memory, 96);

    // A promotion: from the edit to the ledger.
    let edits = tier::figure(20, 100);
    let mut promoted = Vec::new();
    for index in 0..edits {
        let name = format!("p{index}-t0");
        let start = Instant::now();
        let spec = json!({ "spec": { "version": 2 } });
        scene.bench.api.patch(TAG, &scene.bench.namespace, &name, spec).await;
        let (package, tag) = (package(index), TagName::existing("t0"));
        loop {
            let state = scene.bench.ledger.tag(&package, &tag).await.expect("read");
            if state.and_then(|state| state.version).map(Version::get) == Some(2) {
                break;
            }
            within("a promotion", start.elapsed(), Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        promoted.push(start.elapsed());
    }
    // The other way: from the ledger to the status.
    let moves = tier::figure(10, 50);
    let mut shown = Vec::new();
    let slowest = poll * SLOWEST + Duration::from_secs(10);
    for batch in (0..moves).collect::<Vec<_>>().chunks(WRITERS) {
        let works = batch.iter().map(async |index| {
            set(scene.bench.ledger.as_ref(), &package(*index), "free", 2).await;
            let is_free = |tag: &Value| tag["name"] == "free" && tag["version"] == 2;
            let shows = |object: &Value| {
                object["status"]["tags"].as_array().is_some_and(|tags| tags.iter().any(is_free))
            };
            scene.latency((PACKAGE, &format!("p{index}")), slowest, shows).await
        });
        shown.extend(futures::future::join_all(works).await);
    }
    let (promoted, shown) = (p99(promoted), p99(shown));
    tier::summary(&format!(
        "R15 packages={} tags={} adopted={adopted:.1?} restart={restarted:.1?} poll={poll:?} polls={polls} requests={requests} \
         cpu={:.1}% memory={memory}MiB promoted-p99={promoted:.0?} shown-p99={shown:.1?} violations=0",
        scene.packages,
        scene.packages * TAGS,
        cpu * 100.0,
    ));
    // On a machine that only does this; in a run beside other tests these two say nothing.
    if tier::is_soak() {
        within("share of a core", cpu, 0.03);
        within("from the edit to the ledger", promoted, Duration::from_secs(1));
        within("from the ledger to the status", shown, poll * SLOWEST + Duration::from_secs(1));
    }
}
