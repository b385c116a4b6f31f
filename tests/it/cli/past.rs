//! `sacker resolve`: pinned specs, now and at a time in the past; `sacker remove`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sacker::clock::Clock;
use sacker::connect::Connect;
use sacker::ledger::{self, Ledger};
use sacker::model::{Actor, Change, EventSource, PackageName, TagChange, TagName, Version};

use super::home::{Home, PACKAGE};

/// A clock that stands at this hour of a day long ago.
#[derive(Debug)]
struct At(i64);

impl Clock for At {
    fn now(&self) -> Timestamp {
        let midnight: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        midnight + Duration::from_secs(self.0.unsigned_abs() * 3600)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

async fn at(home: &Home, hour: i64) -> Arc<dyn Ledger> {
    let uri = format!("file://{}", home.data().join("ledger").display());
    let connect = Connect { clock: Arc::new(At(hour)), ..Connect::default() };
    ledger::open(&uri.parse().expect("a URI"), &connect).await.expect("the ledger opens")
}

async fn change(home: &Home, hour: i64, change: Change) {
    let actor = Actor { by: "ann".into(), reason: None, source: EventSource::Cli };
    let (package, tag) = (PackageName::existing(PACKAGE), TagName::existing("live"));
    let change = TagChange::new(change, actor);
    at(home, hour).await.change_tag(&package, &tag, &change).await.expect("changed");
}

async fn move_to(home: &Home, hour: i64, to: i64) {
    change(home, hour, Change::Move { to: Version::new(to).expect("positive"), hold: None }).await;
}

fn pinned(home: &Home, version: &str) -> String {
    home.run(&["info", PACKAGE, version, "-o", "name"]).answer().to_owned()
}

#[test]
fn a_spec_becomes_a_pinned_spec() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    let (one, two) = (pinned(&home, "1"), pinned(&home, "2"));
    assert!(one.starts_with("frontend-server@1+sha256:"));
    for (what, expected) in [
        ("frontend-server@live", &one),
        ("frontend-server@1", &one),
        ("frontend-server@latest", &two),
        ("frontend-server", &two),
    ] {
        assert_eq!(home.run(&["resolve", what]).answer(), expected, "{what}");
    }
    home.run(&["resolve", "frontend-server@lvie"])
        .fails(3, "error: package 'frontend-server' has no tag 'lvie'\nhint: did you mean 'live'?");
}

#[tokio::test]
async fn a_tag_is_resolved_as_it_was() {
    let home = Home::with_two_versions();
    move_to(&home, 10, 1).await;
    move_to(&home, 12, 2).await;
    change(&home, 14, Change::Untag).await;
    move_to(&home, 16, 1).await;
    let (one, two) = (pinned(&home, "1"), pinned(&home, "2"));
    let resolve = |time: &str| home.run(&["resolve", "frontend-server@live", "--at", time]);
    for (time, expected) in [
        ("2026-01-01T10:00:00Z", &one),
        ("2026-01-01T12:30:00+01:00", &one),
        ("2026-01-01T13:00:00Z", &two),
        ("2026-01-01T16:00:00Z", &one),
        ("2026-01-02", &one),
        ("0s", &one),
    ] {
        assert_eq!(resolve(time).answer(), expected, "{time}");
    }
    resolve("2026-01-01T15:00:00Z").fails(
        3,
        "error: package 'frontend-server' has no tag 'live'\n\
         hint: at 2026-01-01T15:00:00.000Z it was not set: 'ann' removed it at 2026-01-01T14:00:00.000Z; see: sacker \
         history frontend-server live",
    );
    resolve("2026-01-01").fails(
        3,
        "error: package 'frontend-server' has no tag 'live'\n\
         hint: at 2026-01-01T00:00:00.000Z it had no history yet: its first event is of 2026-01-01T10:00:00.000Z",
    );
    resolve("soon").fails(
        2,
        "error: 'soon' is no time\n\
         hint: a time is such as 2026-11-21T10:00:00Z, 2026-11-21, or 3d for three days ago",
    );
    home.run(&["resolve", "frontend-server@1", "--at", "1h"]).fails(
        2,
        "error: a version names the same bytes at all times\n\
         hint: leave out --at: sacker resolve frontend-server@1",
    );
}

#[tokio::test]
async fn what_a_2015_client_did_has_no_time() {
    let home = Home::with_two_versions();
    move_to(&home, 10, 1).await;
    let tags = home.data().join("ledger").join(PACKAGE).join("tags");
    std::fs::write(tags.join("live"), r#"{"version": 2}"#).expect("written");
    std::fs::write(tags.join("old"), r#"{"version": "2"}"#).expect("written");
    let ran = home.run(&["resolve", "frontend-server@live", "--at", "1h"]);
    assert_eq!(ran.answer(), pinned(&home, "1"));
    assert!(ran.stderr.starts_with("warning: a 2015 client changed tag 'live' after event 1"), "{ran:?}");
    home.run(&["resolve", "frontend-server@old", "--at", "1h"]).fails(
        3,
        "error: package 'frontend-server' has no tag 'old'\n\
         hint: only 2015 clients wrote it, and when was not recorded; what it is now: sacker resolve frontend-server@old",
    );
}

#[test]
fn a_removed_version_is_gone_for_good() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    let tagged = "error: expected no tag on version 1 of package 'frontend-server', found tag 'live'\n\
                  hint: move the tag first, or remove it: sacker untag frontend-server live";
    for how in ["--yes", "--dry-run"] {
        let ran = home.run(&["remove", PACKAGE, "1", how]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""), "{ran:?}");
        assert!(ran.stderr.starts_with(tagged), "{ran:?}");
    }
    home.run(&["remove", PACKAGE, "2"]).fails(
        2,
        "error: remove asks first, and here is no terminal to ask on\n\
         hint: if you are sure: sacker remove frontend-server 2 --yes",
    );
    let dry = home.run(&["remove", PACKAGE, "2", "--dry-run"]);
    assert_eq!(
        (dry.answer(), dry.stderr.as_str()),
        ("", "note: would remove version 2 of package 'frontend-server' ('app.jar')\n")
    );
    let refused = home.run(&["remove", PACKAGE, "live", "--yes"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("hint: see which version that is with: sacker resolve frontend-server@live")
    );

    let before = pinned(&home, "2");
    let done = home.run(&["remove", PACKAGE, "2", "--yes", "--reason", "contains a key"]);
    assert_eq!(done.answer(), "");
    assert!(done.stderr.contains("until 'sacker gc' deletes them"), "{done:?}");
    let again = home.run(&["remove", PACKAGE, "2", "--yes"]);
    assert_eq!(
        (again.answer(), again.stderr.as_str()),
        ("", "note: version 2 of package 'frontend-server' was removed before\n")
    );
    assert_eq!(home.run(&["remove", PACKAGE, "3", "--yes"]).code, Some(3));
    assert_eq!(home.run(&["resolve", PACKAGE]).answer(), pinned(&home, "1"));
    assert_ne!(before, pinned(&home, "1"));
    let record = &home.run(&["versions", PACKAGE, "--removed", "-o", "json"]).json()[1];
    assert_eq!(record["removed"]["by"], "tester");
    assert_eq!(record["removed"]["reason"], "contains a key");
    home.file("app.jar", "three\n");
    assert_eq!(home.run(&["add", PACKAGE, "app.jar"]).answer(), "3\n", "its number is not used again");
}
