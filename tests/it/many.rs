//! Ledgers with many packages: how many requests views and listings make, and how much of the tables they read.
//!
//! The packages are written past the ledger, as a 2015 client would have left them; requests are counted by faultgate.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use aws_sdk_s3::primitives::ByteStream;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use rstest::rstest;
use sacker::connect::Connect;
use sacker::ledger::{self, InitOptions, Ledger, ViewCache};
use sacker::model::{
    Actor, Change, EventSource, NewVersion, PackageName, PackageView, Sha256, TagChange, TagName, Version,
};
use std::sync::Arc;

use crate::support::faultgate::{Entry, Gate, operations};
use crate::support::ledgers::file_uri;
use crate::support::process::Folder;
use crate::support::{testbed, tier, unique};

/// Writers of the set-up.
const WRITERS: usize = 8;

async fn opened(uri: &str, connect: &Connect) -> Arc<dyn Ledger> {
    let ledger = ledger::open(&uri.parse().expect("a URI"), connect).await.expect("open");
    ledger.init(&InitOptions::default()).await.expect("init");
    ledger
}

fn name(index: usize) -> String {
    format!("package-{index:05}")
}

fn names(count: usize) -> Vec<PackageName> {
    (0..count).map(|index| PackageName::existing(name(index))).collect()
}

fn sha(index: usize, number: i64) -> String {
    Sha256::of(format!("{index} {number}").as_bytes()).to_string()
}

/// How many requests of each of these operations there are; there must be no others.
fn counts<const N: usize>(log: &[Entry], expected: [&str; N]) -> [usize; N] {
    let others: Vec<&str> =
        log.iter().map(|entry| entry.operation.as_str()).filter(|name| !expected.contains(name)).collect();
    assert!(others.is_empty(), "{others:?}");
    expected.map(|name| log.iter().filter(|entry| entry.operation == name).count())
}

/// All views, which must be there; what is told of the first package.
async fn all_views(ledger: &dyn Ledger, packages: &[PackageName], known: &ViewCache) -> PackageView {
    let views = ledger.views(packages, known).await;
    assert_eq!(views.len(), packages.len());
    let mut views: Vec<_> = views.into_iter().map(|(_, view)| view.expect("view")).collect();
    assert!(
        views.iter().all(|view| view.tags.len() == 2 && view.tags.iter().all(|tag| tag.record.is_some()))
    );
    views.swap_remove(0)
}

/// A move and an add in the first package.
async fn change(ledger: &dyn Ledger, to: i64) {
    let package = PackageName::existing(name(0));
    let actor = Actor { by: "alice".into(), reason: None, source: EventSource::Cli };
    let to = Version::new(to).expect("positive");
    let change = TagChange::new(Change::Move { to, hold: None }, actor);
    ledger.change_tag(&package, &TagName::existing("live"), &change).await.expect("move");
    let new = NewVersion {
        sha256: Sha256::of(b"new"),
        size: 3,
        basename: "app.jar".into(),
        mode: 0o100_644,
        metadata: std::collections::BTreeMap::new(),
        added_by: "ci".into(),
        if_latest: None,
        add_id: uuid::Uuid::new_v4().to_string(),
    };
    ledger.add(&package, &new).await.expect("add");
}

/// `count` packages with `versions`, and the tags `live` and `old` at the last and the first of them.
async fn fill_bucket(client: &aws_sdk_s3::Client, bucket: &str, count: usize, versions: &[i64]) {
    let mut objects = Vec::new();
    for index in 0..count {
        let package = name(index);
        for version in versions {
            let sha = sha(index, *version);
            let body = format!("{{\"sha\": \"{sha}\", \"basename\": \"app.jar\", \"mode\": 33188}}");
            objects.push((format!("{package}/versions/{version}"), body));
        }
        let (first, last) = (versions[0], versions[versions.len() - 1]);
        for (tag, version) in [("live", last), ("old", first)] {
            objects.push((format!("{package}/tags/{tag}"), format!("{{\"version\": {version}}}")));
        }
    }
    let put = |(key, body): (String, String)| {
        let request = client.put_object().bucket(bucket).key(key).body(ByteStream::from(body.into_bytes()));
        async move { request.send().await.map(drop) }
    };
    stream::iter(objects).map(put).buffer_unordered(WRITERS).try_collect::<()>().await.expect("written");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_on_s3_cost_two_listings_a_package_and_a_read_per_change(
    #[values("timestamp", "sequence")] numbering: &str,
) {
    let Some(server) = testbed::minio() else { return };
    let count = tier::figure(50, 1000);
    let versions: Vec<i64> = match numbering {
        "sequence" => (1..=12).collect(),
        _ => (1..=12).map(|number| 1_795_223_159_000 + number).collect(),
    };
    let gate = Gate::start(&server.endpoint, 1);
    let bucket = unique("many");
    let uri = format!("s3://{bucket}?endpoint={}&versions={numbering}", gate.url());
    let ledger = opened(&uri, &server.connect()).await;
    fill_bucket(&server.client().await, &bucket, count, &versions).await;
    let (packages, known) = (names(count), ViewCache::default());
    let operations = ["ListObjectsV2", "GetObject"];

    gate.take_log();
    let start = Instant::now();
    let first_view = all_views(&*ledger, &packages, &known).await;
    let first_time = start.elapsed();
    assert_eq!((first_view.version_count, first_view.recent.len()), (12, PackageView::RECENT));
    let first = counts(&gate.take_log(), operations);
    if numbering == "timestamp" {
        // Once how the ledger numbers versions; then two pointers, the newest ten versions, and the one of `old`.
        assert_eq!(first, [2 * count, 1 + 13 * count], "the first call");
    }
    let start = Instant::now();
    assert_eq!(all_views(&*ledger, &packages, &known).await, first_view);
    let quiet_time = start.elapsed();
    let quiet = counts(&gate.take_log(), operations);
    assert_eq!(quiet, [2 * count, 0], "where nothing changed");

    change(&*ledger, versions[0]).await;
    gate.take_log();
    let changed = all_views(&*ledger, &packages, &known).await;
    assert_eq!(changed.version_count, 13);
    let log = gate.take_log();
    let [lists, reads] = counts(&log, operations);
    // The pointer and the new version; in a sequence also its number and whether there are more.
    let more = if numbering == "timestamp" { 0 } else { 2 };
    assert_eq!((lists, reads), (2 * count, 2 + more), "after one move and one add");

    let listed: Vec<PackageName> = ledger.packages().try_collect().await.expect("packages");
    assert_eq!(listed.len(), count);
    let [lists] = counts(&gate.take_log(), ["ListObjectsV2"]);
    // The names of packages, and of the ledger's own directory, come by the thousand.
    assert_eq!(lists, count + (count + 1).div_ceil(1000), "one listing a package");
    tier::summary(&format!(
        "VIEWS backend=s3-{numbering} packages={count} first_lists={} first_gets={} first_seconds={:.1} \
         quiet_lists={} quiet_gets={} quiet_seconds={:.1} list_packages={lists}",
        first[0],
        first[1],
        first_time.as_secs_f64(),
        quiet[0],
        quiet[1],
        quiet_time.as_secs_f64(),
    ));
}

fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn number(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Rows, 25 a request.
async fn fill_table(client: &aws_sdk_dynamodb::Client, table: &str, rows: Vec<Vec<(&str, AttributeValue)>>) {
    let request = |row: &Vec<(&str, AttributeValue)>| {
        let item = row.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let put = PutRequest::builder().set_item(Some(item)).build().expect("a row");
        WriteRequest::builder().put_request(put).build()
    };
    let batches: Vec<Vec<WriteRequest>> =
        rows.chunks(25).map(|rows| rows.iter().map(request).collect()).collect();
    let write = |batch: Vec<WriteRequest>| async move {
        let answer = client.batch_write_item().request_items(table, batch).send().await.expect("written");
        assert!(answer.unprocessed_items.is_none_or(|left| left.is_empty()), "this server takes all");
    };
    stream::iter(batches).map(write).buffer_unordered(WRITERS).collect::<()>().await;
}

fn version_row(index: usize, version: i64) -> Vec<(&'static str, AttributeValue)> {
    vec![
        ("package_name", text(name(index))),
        ("version", number(version)),
        ("basename", text("app.jar")),
        ("sha", text(sha(index, version))),
        ("mode", number(33188)),
        ("metadata", text("null")),
    ]
}

/// A ledger behind a gate.
struct Tables {
    gate: Gate,
    ledger: Arc<dyn Ledger>,
    /// Goes around both.
    client: aws_sdk_dynamodb::Client,
    prefix: String,
    /// How long it took to write the versions.
    set_up: Duration,
}

/// A ledger behind a gate, with `count` packages of `versions` versions each.
async fn tables(count: usize, versions: i64) -> Option<Tables> {
    let server = testbed::dynamodb()?;
    let gate = Gate::start(&server.endpoint, 1);
    let prefix = unique("many");
    let uri = format!("dynamo://us-east-1/{prefix}?endpoint={}", gate.url());
    let ledger = opened(&uri, &server.connect()).await;
    let client = sacker::aws::dynamo_client("us-east-1", Some(&server.endpoint), &server.connect()).await;
    let client = client.expect("a client");
    let start = Instant::now();
    let rows = (0..count).flat_map(|index| (1..=versions).map(move |version| version_row(index, version)));
    fill_table(&client, &prefix, rows.collect()).await;
    gate.take_log();
    Some(Tables { gate, ledger, client, prefix, set_up: start.elapsed() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_on_dynamodb_cost_two_queries_a_package_and_batches() {
    let count = tier::figure(50, 1000);
    let Some(Tables { gate, ledger, client, prefix, .. }) = tables(count, 12).await else { return };
    let row = |index: usize, tag: &str, version: i64| {
        vec![("package_name", text(name(index))), ("tag", text(tag)), ("version", number(version))]
    };
    let rows = (0..count).flat_map(|index| [row(index, "live", 12), row(index, "old", 1)]);
    fill_table(&client, &format!("{prefix}-tags"), rows.collect()).await;
    let (packages, known) = (names(count), ViewCache::default());
    let operations = ["Query", "BatchGetItem"];

    let start = Instant::now();
    let first_view = all_views(&*ledger, &packages, &known).await;
    let first_time = start.elapsed();
    assert_eq!((first_view.version_count, first_view.recent.len()), (12, PackageView::RECENT));
    let first = counts(&gate.take_log(), operations);
    assert_eq!(
        first,
        [2 * count, count.div_ceil(100)],
        "the versions that 'old' points to come by the hundred"
    );
    let start = Instant::now();
    assert_eq!(all_views(&*ledger, &packages, &known).await, first_view);
    let quiet_time = start.elapsed();
    let quiet = counts(&gate.take_log(), operations);
    assert_eq!(quiet, [2 * count, 0], "where nothing changed");

    change(&*ledger, 2).await;
    gate.take_log();
    assert_eq!(all_views(&*ledger, &packages, &known).await.version_count, 13);
    assert_eq!(counts(&gate.take_log(), operations), [2 * count, 1], "after one move and one add");
    tier::summary(&format!(
        "VIEWS backend=dynamo packages={count} first_queries={} first_batches={} first_seconds={:.1} \
         quiet_queries={} quiet_batches={} quiet_seconds={:.1}",
        first[0],
        first[1],
        first_time.as_secs_f64(),
        quiet[0],
        quiet[1],
        quiet_time.as_secs_f64(),
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listing_packages_on_dynamodb_reads_one_row_each() {
    let count = tier::figure(200, 10_000);
    let Some(Tables { gate, ledger, set_up, .. }) = tables(count, 20).await else { return };
    let start = Instant::now();
    let mut listed: Vec<PackageName> = ledger.packages().try_collect().await.expect("packages");
    let time = start.elapsed();
    listed.sort_unstable();
    assert_eq!(listed, names(count));
    let log = gate.take_log();
    assert!(log.iter().all(|entry| entry.operation == "Scan"), "{}", operations(&log));
    let rows: u64 = log.iter().map(|entry| entry.scanned.expect("a Scan says how many rows it read")).sum();
    let read = usize::try_from(rows).expect("few rows");
    assert!(read >= count && read * 10 <= count * 12, "{rows} rows for {count} packages");
    assert_eq!(log.len(), count + 8, "one request a package, and one a segment to find its end");
    tier::summary(&format!(
        "LIST backend=dynamo packages={count} versions=20 rows_read={rows} requests={} seconds={:.1} set_up_seconds={:.1}",
        log.len(),
        time.as_secs_f64(),
        set_up.as_secs_f64()
    ));
}

#[tokio::test]
async fn listing_packages_on_files_takes_less_than_a_second() {
    let count = tier::figure(1000, 10_000);
    let home = Folder::new("many");
    let ledger = opened(&file_uri(home.path()).to_string(), &Connect::default()).await;
    for index in 0..count {
        let versions = home.path().join(name(index)).join("versions");
        std::fs::create_dir_all(&versions).expect("a directory");
        for version in 1..=20 {
            let sha = sha(index, version);
            let body = format!("{{\"sha\": \"{sha}\", \"basename\": \"app.jar\", \"mode\": 33188}}");
            std::fs::write(versions.join(version.to_string()), body).expect("a file");
        }
    }
    let mut best = Duration::MAX;
    // The machine may be busy once.
    for _ in 0..3 {
        let start = Instant::now();
        let mut listed: Vec<PackageName> = ledger.packages().try_collect().await.expect("packages");
        best = best.min(start.elapsed());
        listed.sort_unstable();
        assert_eq!(listed, names(count));
    }
    assert!(best < Duration::from_secs(1), "{best:?}");
    tier::summary(&format!(
        "LIST backend=file packages={count} versions=20 seconds={:.2}",
        best.as_secs_f64()
    ));
}
