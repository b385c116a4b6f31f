//! What operations cost: requests counted by the gate on MinIO and DynamoDB Local, and the capacity that DynamoDB says they
//! consumed. More is a regression, less is to be pinned here. Views are counted in `many`.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt as _;
use sacker::connect::Connect;
use sacker::ledger::{self, InitOptions, Ledger};
use sacker::model::{
    Actor, Change, EventSource, NewVersion, PackageName, Sha256, Spec, TagChange, TagName, Version,
};

use crate::support::faultgate::{Entry, Gate, operations};
use crate::support::{testbed, unique};

/// A ledger behind a gate.
struct Meter {
    gate: Gate,
    ledger: Arc<dyn Ledger>,
    uri: String,
    connect: Connect,
}

impl Meter {
    async fn new(gate: Gate, uri: String, connect: Connect) -> Self {
        let ledger = open(&uri, &connect).await;
        ledger.init(&InitOptions::default()).await.expect("init");
        // What the process knows of the ledger since its init is not what an ordinary one knows.
        let ledger = open(&uri, &connect).await;
        gate.take_log();
        Self { gate, ledger, uri, connect }
    }

    async fn on_dynamo() -> Option<Self> {
        let server = testbed::dynamodb()?;
        let gate = Gate::start(&server.endpoint, 1);
        let uri = server.behind(&gate).uri(&unique("costs"));
        Some(Self::new(gate, uri, server.connect()).await)
    }

    async fn on_s3() -> Option<Self> {
        let server = testbed::minio()?;
        let gate = Gate::start(&server.endpoint, 1);
        let uri = server.behind(&gate).uri(&unique("costs"));
        Some(Self::new(gate, uri, server.connect()).await)
    }

    /// Another process: it has read nothing yet.
    async fn another(&self) -> Arc<dyn Ledger> {
        open(&self.uri, &self.connect).await
    }

    /// The requests since the last call.
    fn calls(&self) -> String {
        operations(&self.gate.take_log())
    }

    /// The requests since the last call, and the capacity units they consumed. Each said what it consumed.
    fn consumed(&self) -> (String, f64) {
        let log = self.gate.take_log();
        let units = log.iter().map(|entry| entry.capacity.expect("every request asks for it")).sum();
        (operations(&log), units)
    }

    /// The requests since the last call with the place of each below the package: `put tags/live`, `list versions/`.
    fn places(&self, package: &PackageName) -> String {
        let place = |entry: &Entry| {
            let mut parameters = url::form_urlencoded::parse(entry.query.as_bytes());
            let prefix = parameters.find(|(name, _)| name == "prefix").map(|(_, prefix)| prefix.into_owned());
            let key = prefix.unwrap_or_else(|| entry.path.clone());
            let (_, below) = key
                .split_once(&format!("/{package}/"))
                .unwrap_or_else(|| key.trim_start_matches('/').split_once('/').unwrap_or(("", &key)));
            // The number of a version is a time here.
            let below = match below.strip_prefix("versions/") {
                Some(number) if !number.is_empty() => "versions/N".to_owned(),
                _ => below.to_owned(),
            };
            let operation = match entry.operation.as_str() {
                "GetObject" => "get",
                "PutObject" => "put",
                "ListObjectsV2" => "list",
                other => other,
            };
            format!("{operation} {below}")
        };
        self.gate.take_log().iter().map(place).collect::<Vec<_>>().join(", ")
    }
}

async fn open(uri: &str, connect: &Connect) -> Arc<dyn Ledger> {
    ledger::open(&uri.parse().expect("a URI"), connect).await.expect("open")
}

fn new_version() -> NewVersion {
    let id = uuid::Uuid::new_v4().to_string();
    NewVersion {
        sha256: Sha256::of(id.as_bytes()),
        size: 36,
        basename: "app.jar".into(),
        mode: 0o100_644,
        metadata: BTreeMap::new(),
        added_by: "ci".into(),
        if_latest: None,
        add_id: id,
    }
}

fn moving(to: Version) -> TagChange {
    let actor = Actor { by: "alice".into(), reason: None, source: EventSource::Cli };
    TagChange::new(Change::Move { to, hold: None }, actor)
}

#[tokio::test]
async fn dynamodb_operations_cost_two_requests_at_most() {
    let Some(meter) = Meter::on_dynamo().await else { return };
    let (ledger, frontend, live) =
        (&meter.ledger, PackageName::existing("frontend"), TagName::existing("live"));
    // (requests, capacity units as DynamoDB Local counts them)
    let cost = |requests: &str, units: f64| (requests.to_owned(), units);
    let mut versions = Vec::new();
    for units in [1.0, 2.0, 2.0] {
        versions.push(ledger.add(&frontend, &new_version()).await.expect("add").version);
        assert_eq!(meter.consumed(), cost("Query PutItem", units), "the first one reads nothing");
    }
    for version in &versions {
        ledger.change_tag(&frontend, &live, &moving(*version)).await.expect("move");
        assert_eq!(meter.consumed(), cost("GetItem TransactWriteItems", MOVE));
    }
    ledger.change_tag(&frontend, &live, &moving(versions[2])).await.expect("it is there already");
    assert_eq!(meter.consumed(), cost("GetItem GetItem", 2.0));
    ledger.tag(&frontend, &live).await.expect("tag");
    assert_eq!(meter.consumed(), cost("GetItem", 1.0));
    ledger.resolve(&frontend, &Spec::Tag(live.clone())).await.expect("resolve");
    assert_eq!(meter.consumed(), cost("GetItem GetItem", 2.0), "the tag, and its version's record");
    ledger.resolve(&frontend, &Spec::Version(versions[0])).await.expect("resolve");
    assert_eq!(meter.consumed(), cost("GetItem", 1.0));
    ledger.resolve(&frontend, &Spec::Latest).await.expect("resolve");
    assert_eq!(meter.consumed(), cost("Query", 1.0));
    ledger.history(&frontend, &live).await.expect("history");
    assert_eq!(meter.consumed(), cost("Query", 1.0));
}

/// A move: the tag's row is read, then the version's, the tag's and the event's rows are written in one transaction.
const MOVE: f64 = 9.0;

#[tokio::test]
async fn dynamodb_lists_packages_with_one_request_each() {
    let Some(meter) = Meter::on_dynamo().await else { return };
    for index in 0..PACKAGES {
        for _ in 0..2 {
            let package = PackageName::existing(format!("package-{index}"));
            meter.ledger.add(&package, &new_version()).await.expect("add");
        }
    }
    meter.consumed();
    let packages: Vec<_> = meter.ledger.packages().try_collect().await.expect("packages");
    assert_eq!(packages.len(), PACKAGES);
    let (calls, units) = meter.consumed();
    assert_eq!(calls, ["Scan"; PACKAGES + SEGMENTS].join(" "), "and one for the end of each segment");
    assert!((units - 30.0).abs() < f64::EPSILON, "a unit each: {units}");
}

const PACKAGES: usize = 30;

/// In how many parts DynamoDB is asked for packages.
const SEGMENTS: usize = 8;

#[tokio::test]
async fn s3_operations_cost_few_requests() {
    let Some(meter) = Meter::on_s3().await else { return };
    let (ledger, frontend, live) =
        (&meter.ledger, PackageName::existing("frontend"), TagName::existing("live"));
    let calls = || meter.places(&frontend);
    let mut versions = Vec::new();
    // The numbers come from the hint and from a look behind it, and the hint is raised.
    let add = "get tags/latest, list versions/, put versions/N, put tags/latest";
    versions.push(ledger.add(&frontend, &new_version()).await.expect("add").version);
    assert_eq!(
        calls(),
        format!("get _sacker/ledger.json, {add}"),
        "once in a process: how versions are numbered"
    );
    for _ in 0..2 {
        versions.push(ledger.add(&frontend, &new_version()).await.expect("add").version);
        assert_eq!(calls(), add);
    }

    ledger.change_tag(&frontend, &live, &moving(versions[0])).await.expect("first move");
    assert_eq!(
        calls(),
        "get tags/live, list history/live/, get versions/N, put tags/live, get versions/N, put tags/live, \
         put history/live/000000000001",
        "the name is reserved first, so that a removal sees it"
    );
    for (seq, version) in (2..).zip([versions[1], versions[2]]) {
        ledger.change_tag(&frontend, &live, &moving(version)).await.expect("move");
        let event = format!("put history/live/{seq:012}");
        assert_eq!(calls(), format!("get tags/live, get versions/N, put tags/live, {event}"));
    }
    let another = meter.another().await;
    another.change_tag(&frontend, &live, &moving(versions[0])).await.expect("move");
    assert_eq!(
        calls(),
        "get _sacker/ledger.json, get tags/live, get history/live/000000000003, get versions/N, put tags/live, \
         put history/live/000000000004",
        "once in a process: the probe's verdict; and it does not know yet that the last event is archived"
    );

    ledger.resolve(&frontend, &Spec::Tag(live.clone())).await.expect("resolve");
    assert_eq!(calls(), "get tags/live, get versions/N");
    ledger.resolve(&frontend, &Spec::Version(versions[0])).await.expect("resolve");
    assert_eq!(calls(), "get versions/N");
    ledger.resolve(&frontend, &Spec::Latest).await.expect("resolve");
    assert_eq!(calls(), "get tags/latest, list versions/, get versions/N");
}

#[tokio::test]
async fn s3_lists_packages_with_one_request_each() {
    let Some(meter) = Meter::on_s3().await else { return };
    for index in 0..PACKAGES {
        let package = PackageName::existing(format!("package-{index}"));
        meter.ledger.add(&package, &new_version()).await.expect("add");
    }
    meter.calls();
    let packages: Vec<_> = meter.ledger.packages().try_collect().await.expect("packages");
    assert_eq!(packages.len(), PACKAGES);
    assert_eq!(meter.calls(), ["ListObjectsV2"; PACKAGES + 1].join(" "), "and one for their names");
}
