//! A whole release day through `sacker` alone, on every ledger: ten promotions, a rollback under its hold, a freeze, and a tag
//! that is taken over and handed back. Afterwards every question about it has the right answer.

use std::path::Path;

use jiff::{Timestamp, ToSpan as _};
use rstest::rstest;
use serde_json::{Value, json};

use super::backends::{home_on, home_on_tables, s3};
use super::home::{Home, PACKAGE, Ran};

/// A ledger in which `live` belongs to a SackerTag, which moved it to 1 and then to 2; there are three versions.
const BEFORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/transcripts/owned.jsonl");

const OWNER: &str = "k8s:prod/web/frontend-live";

/// What an event should be: kind, from, to, reason, the owner after it, why it is held after it.
type Told = (&'static str, i64, i64, Option<&'static str>, Option<&'static str>, Option<&'static str>);

/// What the day adds to the history of `live`, whose first two events are of the days before.
const DAY: [Told; 16] = [
    ("move", 2, 4, Some("release 4"), Some("cli:tester"), None),
    ("move", 4, 5, Some("release 5"), Some("cli:tester"), None),
    ("move", 5, 6, Some("release 6"), Some("cli:tester"), None),
    ("move", 6, 7, Some("release 7"), Some("cli:tester"), None),
    ("move", 7, 8, Some("release 8"), Some("cli:tester"), None),
    ("move", 8, 7, Some("incident 4711"), Some("cli:tester"), Some("incident 4711")),
    ("release", 7, 7, Some("fixed"), Some("cli:tester"), None),
    ("move", 7, 9, Some("release 9"), Some("cli:tester"), None),
    ("move", 9, 10, Some("release 10"), Some("cli:tester"), None),
    ("hold", 10, 10, Some("lunch"), Some("cli:tester"), Some("lunch")),
    ("release", 10, 10, None, Some("cli:tester"), None),
    ("move", 10, 11, Some("release 11"), Some("cli:tester"), None),
    ("move", 11, 12, Some("release 12"), Some("cli:tester"), None),
    ("move", 12, 13, Some("release 13"), Some("cli:tester"), None),
    ("disown", 13, 13, Some("the day is over"), None, None),
    ("move", 13, 3, Some("a last look"), None, None),
];

/// The ledger and the store as they were the evening before, and the ten versions of the day.
fn evening_before(home: &Home) {
    home.run(&["init", "-q", "--versions", "sequence"]).answer();
    home.run(&["import", BEFORE]).answer();
    // The bytes of the three versions that were imported.
    for content in ["1\n", "2\n", "3\n"] {
        home.file("app.jar", content);
        home.run(&["add", "bytes-of-before", "app.jar"]).answer();
    }
    for version in 4..=13 {
        home.file("app.jar", format!("{version}\n"));
        assert_eq!(home.run(&["add", PACKAGE, "app.jar"]).answer(), format!("{version}\n"));
    }
}

/// Moves `live` from one version to the next of the day.
fn promote(home: &Home, from: i64, to: i64, more: &[&str]) -> Ran {
    let (from, to) = (from.to_string(), to.to_string());
    let reason = format!("release {to}");
    home.run(&[&["tag", PACKAGE, &to, "live", "--if-version", &from, "--reason", &reason][..], more].concat())
}

/// The day, in the order of [`DAY`].
fn live_through(home: &Home) {
    assert_eq!(promote(home, 2, 4, &[]).code, Some(4), "it is the SackerTag's");
    promote(home, 2, 4, &["--take-over"]).answer();
    (4..8).for_each(|from| assert_eq!(promote(home, from, from + 1, &[]).answer(), ""));
    home.run(&["rollback", PACKAGE, "live", "--reason", "incident 4711"]).answer();
    let held = promote(home, 7, 9, &[]);
    assert_eq!(held.code, Some(4), "{held:?}");
    assert!(held.stderr.contains("is held by 'tester'") && held.stderr.contains("incident 4711"), "{held:?}");
    home.run(&["release", PACKAGE, "live", "--reason", "fixed"]).answer();
    promote(home, 7, 9, &[]).answer();
    promote(home, 9, 10, &[]).answer();
    home.run(&["hold", PACKAGE, "live", "--reason", "lunch"]).answer();
    assert_eq!(promote(home, 10, 11, &[]).code, Some(4));
    home.run(&["release", PACKAGE, "live"]).answer();
    (10..13).for_each(|from| assert_eq!(promote(home, from, from + 1, &[]).answer(), ""));
    home.run(&["disown", PACKAGE, "live", "--yes", "--reason", "the day is over"]).answer();
    assert_eq!(promote(home, 12, 9, &[]).code, Some(4), "it is not there any more");
    home.run(&["tag", PACKAGE, "3", "live", "--reason", "a last look"]).answer();
}

#[track_caller]
fn assert_told(event: &Value, seq: usize, told: &Told) {
    let (kind, from, to, reason, owner, held) = told;
    let expected = json!({
        "package": PACKAGE, "tag": "live", "seq": seq, "kind": kind, "from": from, "to": to, "by": "tester",
        "source": "cli", "reason": reason, "owner": owner,
    });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&event[key], value, "{key} of {event:#}");
    }
    assert_eq!(event["hold"]["reason"].as_str(), *held, "{event:#}");
}

/// Compares the history with [`DAY`], and gives it.
fn history_of(home: &Home) -> Vec<Value> {
    let history = home.run(&["history", PACKAGE, "live", "-o", "json"]).json();
    let events = history.as_array().expect("a list").clone();
    assert_eq!(events.len(), DAY.len() + 2, "{history:#}");
    assert_eq!((&events[1]["to"], &events[1]["owner"]), (&json!(2), &json!(OWNER)));
    for (index, told) in DAY.iter().enumerate() {
        assert_told(&events[index + 2], index + 3, told);
    }
    let promotions = DAY.iter().filter(|told| told.3.is_some_and(|reason| reason.starts_with("release ")));
    assert_eq!(promotions.count(), 10);
    events
}

fn at(event: &Value) -> Timestamp {
    event["at"].as_str().and_then(|at| at.parse().ok()).expect("a time")
}

/// Every event's moment has what it left, and the moment before has what was there before.
fn assert_resolved(home: &Home, events: &[Value]) {
    let resolve = |at: Timestamp| {
        home.run(&["resolve", "frontend-server@live", "--at", &at.to_string()]).answer().to_owned()
    };
    let pinned = |version: &Value| {
        home.run(&["info", PACKAGE, &version.to_string(), "-o", "name"]).answer().to_owned()
    };
    for pair in events.windows(2) {
        let [before, event] = pair else { panic!("a pair") };
        assert!(at(before) < at(event), "{pair:#?}");
        assert_eq!(resolve(at(event)), pinned(&event["to"]), "{event:#}");
        assert_eq!(resolve(at(event) - 1.millisecond()), pinned(&before["to"]), "{event:#}");
    }
    let long_ago = home.run(&["resolve", "frontend-server@live", "--at", "2024-01-01"]);
    assert_eq!(long_ago.code, Some(3), "{long_ago:?}");
}

#[rstest]
fn it_is_told_correctly(#[values("files", "dynamodb", "minio", "versitygw")] name: &str) {
    let home = match name {
        "files" => Some(Home::new()),
        "dynamodb" => home_on_tables(),
        name => s3(name).map(|server| home_on(&server)),
    };
    let Some(home) = home else { return };
    assert!(Path::new(BEFORE).exists());
    evening_before(&home);
    live_through(&home);

    let events = history_of(&home);
    assert_resolved(&home, &events);
    let tag = &home.run(&["tags", PACKAGE, "-o", "json"]).json()[0];
    assert_eq!((&tag["version"], &tag["seq"]), (&json!(3), &json!(18)));
    assert_eq!((&tag["owner"], &tag["hold"]), (&Value::Null, &Value::Null));
    let diff = home.run(&["diff", PACKAGE, "live", "latest", "-o", "json"]).json();
    assert_eq!(diff["direction"], "forward");
    assert_eq!(diff["versions"], json!((4..=13).collect::<Vec<_>>()));
    assert_eq!(home.run(&["verify", PACKAGE, "--blobs"]).answer(), "");
    assert_eq!(home.run(&["verify", PACKAGE, "live"]).answer(), "");
    assert_eq!(home.run(&["download", PACKAGE, "live", "-o", "-"]).answer(), "3\n");
}
