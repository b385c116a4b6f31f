//! The main job: `kubectl apply` of a SackerTag moves the tag, and the object says so.

use std::time::{Duration, Instant};

use sacker::model::{EventKind, EventSource};
use serde_json::{Value, json};

use super::bench::{Bench, Conditions, say};
use crate::support::cluster::{EVENT, LEDGER, PACKAGE, TAG};
use crate::support::{eventually, testbed};

/// How soon after `kubectl apply` the ledger must have changed.
const PROMPT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn applying_a_tag_moves_it_in_the_ledger_within_two_seconds() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    assert_eq!(bench.points_at("live").await, Some(1));

    let asked = Instant::now();
    bench.apply_tag("live", "version: 2");
    let accepted = Instant::now();
    eventually("the ledger says 2", Duration::from_secs(30), async || {
        bench.points_at("live").await == Some(2)
    })
    .await;
    let took = accepted.elapsed();
    say(&format!("the ledger changed {took:?} after kubectl apply, which took {:?}", accepted - asked));
    assert!(took <= PROMPT, "the ledger changed only {took:?} after kubectl apply");

    bench.until_applied("live", 2).await;
    let events = bench.history("live").await;
    let moves: Vec<_> = events.iter().map(|event| (event.kind, event.from, event.to)).collect();
    let version = |number| Some(super::bench::version(number));
    assert_eq!(
        moves,
        [(EventKind::Move, None, version(1)), (EventKind::Move, version(1), version(2))],
        "no other event"
    );
    let owner = bench.owner("live").await;
    for event in &events {
        assert_eq!(event.owner.as_ref(), Some(&owner));
        assert_eq!(event.source, EventSource::Operator);
        assert_eq!(event.by, format!("{}/live", bench.namespace));
    }
}

#[tokio::test]
async fn every_kind_of_ledger_is_served() {
    let Some(minio) = testbed::minio() else { return };
    let Some(s3) = Bench::on_s3(&minio.endpoint).await else { return };
    let Some(dynamodb) = Bench::on_dynamodb().await else { return };
    for (kind, bench) in [("s3", s3), ("dynamodb", dynamodb)] {
        bench.versions(2).await;
        bench.apply_tag("live", "version: 1");
        bench.apply_package("mirror", "");
        bench.until_applied("live", 1).await;
        bench.apply_tag("live", "version: 2");
        let accepted = Instant::now();
        eventually("the ledger says 2", Duration::from_secs(30), async || {
            bench.points_at("live").await == Some(2)
        })
        .await;
        let took = accepted.elapsed();
        say(&format!("{kind}: the ledger changed {took:?} after kubectl apply"));
        assert!(took <= PROMPT, "{kind}: the ledger changed only {took:?} after kubectl apply");
        bench.until_applied("live", 2).await;
        assert_eq!(bench.history("live").await.len(), 2);
        let shows = |object: &Value| object["status"]["tags"][0]["version"] == 2;
        bench.until_package("mirror", "the tag at 2", shows).await;
        bench.cluster.kubectl(&["-n", &bench.namespace, "delete", "stag", "live"]).success();
        assert_eq!((bench.points_at("live").await, bench.owner_of("live").await), (Some(2), None));
    }
}

#[tokio::test]
async fn who_asked_is_believed_only_where_a_policy_says_so() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    let forged = json!({
        "metadata": { "annotations": { "sacker.dev/requested-by": "the-boss" } },
        "spec": { "ledger": bench.ledger_name, "package": bench.package.as_str(), "tag": "live", "version": 1 },
    });
    bench.api.apply(TAG, &bench.namespace, "live", forged).await;
    bench.until_applied("live", 1).await;
    assert_eq!(bench.history("live").await[0].by, format!("{}/live", bench.namespace));
}

#[tokio::test]
async fn the_status_says_what_the_ledger_says() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    let record = bench.add().await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    bench.apply_tag("live", "version: 2, reason: release 2026-11");
    let object = bench.until_applied("live", 2).await;

    let status = &object["status"];
    let state = bench.state("live").await.expect("the tag");
    let event = state.event.expect("its event");
    let sha = record.sha256.to_string();
    assert_eq!(status["sha256"], sha.as_str());
    assert_eq!(status["basename"], "app.jar");
    assert_eq!(status["mode"], 0o100_755);
    assert_eq!(status["size"], record.size.expect("known"));
    assert_eq!(status["seq"], 2);
    assert_eq!(status["previousVersion"], 1);
    assert_eq!(status["owner"], bench.owner("live").await.as_str());
    assert_eq!(status["observedGeneration"], object["metadata"]["generation"]);
    let since: jiff::Timestamp = status["since"].as_str().expect("a time").parse().expect("RFC 3339");
    assert_eq!(since, event.at);

    let events = status["events"].as_array().expect("events");
    assert_eq!(events.len(), 2);
    assert_eq!(
        (&events[1]["seq"], &events[1]["kind"], &events[1]["to"]),
        (&json!(2), &json!("move"), &json!(2))
    );
    assert_eq!(events[1]["reason"], "release 2026-11");
    assert_eq!(event.reason.as_deref(), Some("release 2026-11"));

    let conditions = Conditions::of(&object);
    assert!(conditions.is("Ready", "True"));
    assert_eq!(conditions.reason("Ready"), "Applied");
    for abnormal in ["Reconciling", "Stalled", "Held", "Drifted"] {
        assert!(!conditions.has(abnormal), "{abnormal}");
    }
}

#[tokio::test]
async fn a_move_is_an_event_on_the_object() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(2).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    bench.apply_tag("live", "version: 2");
    let object = bench.until_applied("live", 2).await;
    let moved = |event: &&Value| {
        event["reason"] == "Moved"
            && event["regarding"]["name"] == "live"
            && event["regarding"]["uid"] == object["metadata"]["uid"]
    };
    let mut notes: Vec<String> = Vec::new();
    eventually("two events", Duration::from_secs(10), async || {
        let events = bench.api.list(EVENT, &bench.namespace).await;
        let found = events.iter().filter(moved);
        notes = found.map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect();
        notes.len() == 2
    })
    .await;
    notes.sort();
    assert!(notes[0].contains("from 1 to 2") && notes[1].contains("to 1"), "{notes:?}");
    let shown =
        bench.cluster.kubectl(&["-n", &bench.namespace, "events", "--for", "sackertag/live"]).success();
    assert!(shown.contains("Moved"), "{shown}");
}

#[tokio::test]
async fn tables_show_what_matters() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    let record = bench.add().await;
    bench.apply_tag("live", "version: 2, reason: because");
    bench.apply_package("frontend", "");
    bench.until_applied("live", 2).await;
    bench
        .until_package("frontend", "Ready with its tag", |object| {
            Conditions::of(object).is("Ready", "True") && object["status"]["tags"][0]["name"] == "live"
        })
        .await;

    let table = |words: &[&str]| {
        let mut arguments = vec!["-n", &bench.namespace, "get"];
        arguments.extend(words);
        let text = bench.cluster.kubectl(&arguments).success();
        let mut rows =
            text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let row = (rows.next().expect("a header"), rows.next().expect("a row"));
        assert_eq!(rows.next(), None, "one object");
        row
    };
    let (header, row) = table(&["stag"]);
    assert_eq!(header, ["NAME", "PACKAGE", "TAG", "VERSION", "SHA", "READY", "AGE"]);
    let sha = &record.sha256.to_string()[..12];
    assert_eq!(row[..6], ["live", "web/frontend", "live", "2", sha, "True"]);
    let (header, row) = table(&["stag", "-o", "wide"]);
    assert_eq!(
        header[..10],
        ["NAME", "PACKAGE", "TAG", "VERSION", "SHA", "READY", "AGE", "SINCE", "BY", "REASON"]
    );
    assert_eq!(row[8..10], [format!("{}/live", bench.namespace), "because".to_owned()]);

    let (header, row) = table(&["spkg"]);
    assert_eq!(header, ["NAME", "PACKAGE", "LATEST", "TAGS", "READY", "AGE"]);
    assert_eq!(row[..5], ["frontend", "web/frontend", "2", "live=2", "True"]);
    let (header, row) = table(&["spkg", "-o", "wide"]);
    assert_eq!(header[6..8], ["LEDGER", "VERSIONS"]);
    assert_eq!(row[6..8], [bench.ledger_name.clone(), "2".to_owned()]);

    let (header, row) = table(&["sledger", &bench.ledger_name]);
    assert_eq!(header[..3], ["NAME", "LEDGER", "READY"]);
    assert_eq!(row[..3], [bench.ledger_name.clone(), bench.uri.clone(), "True".to_owned()]);

    // Fields to select by, and the category.
    assert_eq!(table(&["stag", "--field-selector", "spec.tag=live,spec.package=web/frontend"]).1[0], "live");
    let none = ["-n", &bench.namespace, "get", "stag", "--field-selector", "spec.tag=canary", "-o", "name"];
    assert_eq!(bench.cluster.kubectl(&none).success(), "");
    let all = bench.cluster.kubectl(&["-n", &bench.namespace, "get", "sacker", "-o", "name"]).success();
    for name in ["sackertag.sacker.dev/live", "sackerpackage.sacker.dev/frontend"] {
        assert!(all.contains(name), "{all}");
    }
    let explained = bench.cluster.kubectl(&["explain", "sackertag.spec.deletionPolicy"]).success();
    assert!(explained.contains("Retain"), "{explained}");
}

#[tokio::test]
async fn kubectl_wait_never_returns_early() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(3).await;
    bench.apply_tag("live", "version: 1");
    bench.until_applied("live", 1).await;
    let wait = ["wait", "-n", &bench.namespace, "--for=condition=Ready", "--timeout=30s", "stag/live"];
    let mut slowest = Duration::ZERO;
    for round in 0..20 {
        let target = 1 + (round + 1) % 3;
        let start = Instant::now();
        bench.api.patch(TAG, &bench.namespace, "live", json!({ "spec": { "version": target } })).await;
        bench.cluster.kubectl(&wait).success();
        assert_eq!(bench.points_at("live").await, Some(target), "round {round}");
        slowest = slowest.max(start.elapsed());
    }
    say(&format!("20 waits for Ready, the slowest took {slowest:?}"));
    assert_eq!(bench.history("live").await.len(), 21, "one move each");
}

#[tokio::test]
async fn a_pass_can_be_asked_for() {
    let Some(bench) = Bench::new().await else { return };
    bench.versions(1).await;
    bench.apply_tag("live", "version: 1");
    bench.apply_package("frontend", "");
    bench.until_applied("live", 1).await;
    for round in ["first", "second"] {
        let annotation = format!("sacker.dev/reconcile-requested-at={round}");
        let objects = ["stag/live", "spkg/frontend", &format!("sledger/{}", bench.ledger_name)];
        let mut arguments = vec!["-n", &bench.namespace, "annotate", "--overwrite", &annotation];
        for object in objects {
            arguments.insert(4, object);
            bench.cluster.kubectl(&arguments).success();
            arguments.remove(4);
        }
        let names = [(TAG, "live"), (PACKAGE, "frontend"), (LEDGER, &bench.ledger_name)];
        for (kind, name) in names {
            let answers = |object: &Value| object["status"]["lastHandledReconcileAt"] == round;
            let limit = Duration::from_secs(10);
            bench.api.until((kind, &bench.namespace, name), "an answer", limit, answers).await;
        }
    }
    assert_eq!(bench.history("live").await.len(), 1, "a pass that finds nothing to do writes nothing");
}
