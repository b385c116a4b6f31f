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

use crate::support::faultgate::{Gate, operations};
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

    /// The requests since the last call with the place of each below the package: `PutObject tags/live`.
    fn places(&self, package: &PackageName) -> Vec<String> {
        let place = |path: &str| {
            let (_, below) = path.split_once(package.as_str()).unwrap_or(("", path));
            below.trim_start_matches('/').to_owned()
        };
        let log = self.gate.take_log();
        log.iter().map(|entry| format!("{} {}", entry.operation, place(&entry.path))).collect()
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
    let mut versions = Vec::new();
    for _ in 0..3 {
        versions.push(ledger.add(&frontend, &new_version()).await.expect("add").version);
        eprintln!("add {:?}", meter.consumed());
    }
    ledger.change_tag(&frontend, &live, &moving(versions[0])).await.expect("first move");
    eprintln!("first move {:?}", meter.consumed());
    ledger.change_tag(&frontend, &live, &moving(versions[1])).await.expect("move");
    eprintln!("move {:?}", meter.consumed());
    ledger.resolve(&frontend, &Spec::Tag(live.clone())).await.expect("resolve");
    eprintln!("resolve tag {:?}", meter.consumed());
    ledger.resolve(&frontend, &Spec::Version(versions[0])).await.expect("resolve");
    eprintln!("resolve version {:?}", meter.consumed());
    ledger.resolve(&frontend, &Spec::Latest).await.expect("resolve");
    eprintln!("resolve latest {:?}", meter.consumed());
    ledger.history(&frontend, &live).await.expect("history");
    eprintln!("history {:?}", meter.consumed());
}

#[tokio::test]
async fn dynamodb_lists_packages_with_one_request_each() {
    const PACKAGES: usize = 30;
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
    eprintln!("packages {} {units}", calls.split(' ').count());
}

#[tokio::test]
async fn s3_operations_cost_few_requests() {
    let Some(meter) = Meter::on_s3().await else { return };
    let (ledger, frontend, live) =
        (&meter.ledger, PackageName::existing("frontend"), TagName::existing("live"));
    let mut versions = Vec::new();
    for _ in 0..3 {
        versions.push(ledger.add(&frontend, &new_version()).await.expect("add").version);
        eprintln!("add {:?}", meter.places(&frontend));
    }
    ledger.change_tag(&frontend, &live, &moving(versions[0])).await.expect("first move");
    eprintln!("first move {:?}", meter.places(&frontend));
    for version in [versions[1], versions[2]] {
        ledger.change_tag(&frontend, &live, &moving(version)).await.expect("move");
        eprintln!("move {:?}", meter.places(&frontend));
    }
    let another = meter.another().await;
    another.change_tag(&frontend, &live, &moving(versions[0])).await.expect("move");
    eprintln!("move by another {:?}", meter.places(&frontend));
    ledger.resolve(&frontend, &Spec::Tag(live.clone())).await.expect("resolve");
    eprintln!("resolve tag {:?}", meter.places(&frontend));
    ledger.resolve(&frontend, &Spec::Version(versions[0])).await.expect("resolve");
    eprintln!("resolve version {:?}", meter.places(&frontend));
    ledger.resolve(&frontend, &Spec::Latest).await.expect("resolve");
    eprintln!("resolve latest {:?}", meter.places(&frontend));
    ledger.history(&frontend, &live).await.expect("history");
    eprintln!("history {:?}", meter.places(&frontend));
}

#[tokio::test]
async fn s3_lists_packages_with_one_request_each() {
    const PACKAGES: usize = 30;
    let Some(meter) = Meter::on_s3().await else { return };
    for index in 0..PACKAGES {
        let package = PackageName::existing(format!("package-{index}"));
        meter.ledger.add(&package, &new_version()).await.expect("add");
    }
    meter.calls();
    let packages: Vec<_> = meter.ledger.packages().try_collect().await.expect("packages");
    assert_eq!(packages.len(), PACKAGES);
    let calls = meter.calls();
    eprintln!("packages {} {calls}", calls.split(' ').count());
}
