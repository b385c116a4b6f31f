//! The process: what it waits for, how it ends, what it tells about itself.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::bench::{Bench, say, shared};
use super::process::Operator;
use crate::support::cluster::{Cluster, LEDGER, PACKAGE, PATIENCE, TAG};
use crate::support::faultgate::{Action, Entry, Gate, Match, Rule};
use crate::support::{eventually, testbed, unique};

/// How long a stop may take.
const STOP: Duration = Duration::from_secs(20);

#[tokio::test]
async fn it_waits_for_its_kinds_and_says_so() {
    let Some(cluster) = Cluster::start() else { return };
    let operator = Operator::start(&cluster, &["--cluster-name", "testbed"]);
    eventually("it is alive and lists what it waits for", PATIENCE, async || {
        matches!(operator.get("/healthz"), Some((200, _)))
            && matches!(operator.get("/readyz"), Some((503, text)) if text.contains(&LEDGER.resource_name()))
    })
    .await;
    cluster.install_crds();
    operator.until_ready();
    let bench = Bench::on(&cluster, None).await;
    bench.versions(1).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    assert_eq!(bench.owner_of("live").await, Some(format!("k8s:testbed/{}/live", bench.namespace)));

    // An operator that does nothing ends at once.
    let start = Instant::now();
    operator.terminate();
    assert_eq!(operator.wait(STOP), Some(0), "{}", operator.log());
    say(&format!("an idle operator ended {:?} after SIGTERM", start.elapsed()));

    // The resolver alone shows what is there, and writes no tag.
    let resolver = Operator::start(&cluster, &["--controllers", "resolver,ledger"]);
    resolver.until_ready();
    bench.add().await;
    bench.apply_package("mirror", "");
    bench.apply_tag("live", "version: 2");
    let place = (PACKAGE, bench.namespace.as_str(), "mirror");
    let shows = |object: &serde_json::Value| object["status"]["latest"]["version"] == 2;
    bench.api.until(place, "version 2", PATIENCE, shows).await;
    assert_eq!(bench.points_at("live").await, Some(1));

    // Missing its lease, a second one waits; it takes over when the first one ends.
    let second = Operator::start(&cluster, &["--cluster-name", "testbed", "--identity", "second"]);
    second.until_ready();
    resolver.terminate();
    assert_eq!(resolver.wait(STOP), Some(0), "{}", resolver.log());
    bench.until_applied("live", 2).await;
    second.terminate();
    assert_eq!(second.wait(STOP), Some(0), "{}", second.log());
}

#[tokio::test]
async fn it_stops_in_order_with_fifty_promotions_under_way() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let operator = Operator::start(&cluster, &["--cluster-name", "testbed"]);
    operator.until_ready();
    let bench = Bench::on(&cluster, None).await;
    bench.versions(2).await;
    let yaml = |version: i64| {
        let tag = |number: i64| {
            let name = format!("tag-{number}");
            bench.tag_yaml(&bench.namespace, &name, &name, &format!("version: {version}"))
        };
        (0..50).map(tag).collect::<String>()
    };
    cluster.apply(&yaml(1));
    for number in 0..50 {
        bench.until_applied(&format!("tag-{number}"), 1).await;
    }
    // Stopped in the middle of the second wave.
    let wave = yaml(2);
    std::thread::scope(|scope| {
        let applying = scope.spawn(|| cluster.apply(&wave));
        let end = Instant::now() + PATIENCE;
        let moved = operator.metric("sacker_tag_changes_total");
        while operator.metric("sacker_tag_changes_total") < moved + 5 {
            assert!(Instant::now() < end, "no promotion began");
            std::thread::sleep(Duration::from_millis(5));
        }
        let start = Instant::now();
        operator.terminate();
        assert_eq!(operator.wait(STOP), Some(0), "{}", operator.log());
        say(&format!("an operator with 50 promotions under way ended {:?} after SIGTERM", start.elapsed()));
        applying.join().expect("kubectl ends");
    });
    // What the status says is true, for each: no half-written one.
    for object in bench.api.list(TAG, &bench.namespace).await {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let shown = object["status"]["version"].as_i64();
        let found = bench.points_at(name).await;
        assert!(shown == found || (shown, found) == (Some(1), Some(2)), "{name}: {shown:?}, but {found:?}");
        assert!(bench.history(name).await.len() <= 2);
    }
    let next = Operator::start(&cluster, &["--cluster-name", "testbed"]);
    for number in 0..50 {
        let name = format!("tag-{number}");
        bench.until_applied(&name, 2).await;
        assert_eq!((bench.points_at(&name).await, bench.history(&name).await.len()), (Some(2), 2));
    }
    next.terminate();
    assert_eq!(next.wait(STOP), Some(0), "{}", next.log());
}

#[tokio::test]
async fn readiness_goes_before_the_work_that_is_under_way() {
    let Some(minio) = testbed::minio() else { return };
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let gate = Gate::start(&minio.endpoint, 1);
    let uri = format!("s3://{}?endpoint={}&versions=sequence", unique("ledger"), gate.url());
    let bench = Bench::with(&cluster, None, uri, &minio.connect(), None).await;
    bench.versions(2).await;
    let operator = Operator::start(&cluster, &["--cluster-name", "testbed"]);
    operator.until_ready();
    let yaml = |version: i64| {
        let tag = |number: i64| {
            let name = format!("tag-{number}");
            bench.tag_yaml(&bench.namespace, &name, &name, &format!("version: {version}"))
        };
        (0..50).map(tag).collect::<String>()
    };
    cluster.apply(&yaml(1));
    bench.until_all_applied(&bench.namespace, 50, 1, PATIENCE).await;

    // Every pass takes seconds from here on.
    let slow = Rule::new(Match::default(), Action::Delay(Duration::from_millis(300)));
    gate.set_rules(vec![slow]);
    gate.take_log();
    cluster.apply(&yaml(2));
    let is_write = |entry: &Entry| entry.method == "PUT";
    eventually("promotions are under way", PATIENCE, async || gate.log().iter().any(is_write)).await;
    let start = Instant::now();
    operator.terminate();
    eventually("it is not ready any more", PATIENCE, async || {
        !matches!(operator.get("/readyz"), Some((200, _)))
    })
    .await;
    let off = start.elapsed();
    let before = gate.log().iter().filter(|entry| is_write(entry)).count();
    assert!(operator.is_running(), "readiness went off with the process, after {off:?}: {}", operator.log());
    assert_eq!(operator.wait(STOP.saturating_sub(start.elapsed())), Some(0), "{}", operator.log());
    let ended = start.elapsed();
    let finished = gate.log().iter().filter(|entry| is_write(entry)).count() - before;
    assert!(finished > 0, "what was under way was finished");
    gate.set_rules(Vec::new());
    for object in bench.api.list(TAG, &bench.namespace).await {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let (shown, found) = (object["status"]["version"].as_i64(), bench.points_at(name).await);
        assert!(shown == found || (shown, found) == (Some(1), Some(2)), "{name}: {shown:?}, but {found:?}");
    }
    say(&format!(
        "after SIGTERM: not ready after {off:?}, ended after {ended:?}, {finished} writes meanwhile"
    ));
}

#[tokio::test]
async fn metrics_are_open_metrics_without_names() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    let record = bench.add().await;
    bench.apply_tag("live", "version: 2");
    bench.apply_package("mirror", "");
    bench.until_applied("live", 2).await;
    let operator = bench.operator.expect("the shared one");
    let (code, page) = operator.get("/metrics").expect("it answers");
    assert_eq!(code, 200);
    let (head, body) = page.split_once("\n\n").expect("head and body");
    assert!(
        head.to_lowercase().contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(body.ends_with("# EOF\n"), "it ends as OpenMetrics does");
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("sacker_"), "{line}");
        let (_, value) = line.rsplit_once(' ').expect("a value");
        value.parse::<f64>().expect("a number");
    }
    let shown = |name: &str| body.lines().any(|line| line.starts_with(name));
    for name in [
        "sacker_reconcile_total{",
        "sacker_reconcile_seconds_bucket{",
        "sacker_tag_changes_total{",
        "sacker_status_writes_total{",
        "sacker_polls_total{",
        "sacker_objects{",
        "sacker_leading 1",
    ] {
        assert!(shown(name), "{name} is missing:\n{body}");
    }
    assert!(operator.metric("sacker_tag_changes_total") >= 1);
    let sha = record.sha256.to_string();
    for secret in
        [bench.package.as_str(), "frontend", &sha, &sha[..12], &bench.namespace, &bench.ledger_name, "live"]
    {
        assert!(!body.contains(secret), "'{secret}' stands in the metrics");
    }
    assert_documented(body);
    let (code, _) = operator.get("/nonsense").expect("it answers");
    assert_eq!(code, 404);
}

/// The table of `docs/operations.md` has the metrics that are served, and no others.
fn assert_documented(body: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let documented: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `sacker_")?.split('`').next()).collect();
    let shown = body.lines().filter_map(|line| line.strip_prefix("# TYPE sacker_")?.split_once(' '));
    let mut shown: BTreeSet<String> = shown
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
        .collect();
    // Not there before the first failure.
    shown.insert("reconcile_failures_total".to_owned());
    assert_eq!(documented, shown.iter().map(String::as_str).collect());
}

#[test]
fn only_get_is_answered() {
    let Some((_, operator)) = shared() else { return };
    for path in ["/healthz", "/readyz", "/metrics"] {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let (code, _) = operator.ask(method, path).expect("it answers");
            assert_eq!(code, 405, "{method} {path}");
        }
    }
}
