//! Clocks: many writers in one millisecond (R2), and writers whose clocks are wrong (R5). Versions are numbered by the
//! server's clock, no two adds share one, and the newest never goes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use sacker::clock::{Clock, SystemClock};
use sacker::connect::Connect;
use sacker::exit::Exit;
use sacker::ledger::{self, Ledger};
use sacker::model::{PackageName, Version};

use crate::support::clock::Skewed;
use crate::support::faultgate::{Action, Gate, Match, Rule, ServerDate};
use crate::support::{testbed, tier};
use crate::write_only::{Place, new};

fn package() -> PackageName {
    PackageName::new("team/web").expect("an allowed name")
}

/// A clock that stands still.
#[derive(Debug)]
struct Frozen(Timestamp);

impl Clock for Frozen {
    fn now(&self) -> Timestamp {
        self.0
    }
    fn monotonic(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// One writer: what it added, and how many writes of a version each add took, as the gate's log says.
async fn write(
    writer: usize,
    adds: usize,
    place: &Place,
    frozen: Timestamp,
) -> Vec<(Version, String, usize)> {
    let gate = Gate::start(&place.server.endpoint, 0);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&frozen);
    let date = ServerDate::Fixed(date.expect("a date"));
    gate.set_rules(vec![Rule::new(Match::default(), Action::RewriteDate(date))]);
    // Every other one may not read.
    let credentials = if writer.is_multiple_of(2) { place.server.connect() } else { place.connect() };
    let connect = Connect { clock: Arc::new(Frozen(frozen)), ..credentials };
    let uri = format!("s3://{}/ledger?endpoint={}", place.bucket, gate.url()).parse().expect("a URI");
    let ledger = ledger::open(&uri, &connect).await.expect("opened");
    let mut added = Vec::new();
    for number in 0..adds {
        gate.take_log();
        let new = new(&format!("{writer} {number}"));
        let record = ledger.add(&package(), &new).await.expect("add");
        let writes = gate.take_log();
        let writes = writes.iter().filter(|entry| entry.method == "PUT" && entry.path.contains("/versions/"));
        added.push((record.version, new.add_id, writes.count()));
    }
    assert!(gate.hits()["rewrite_date"] > adds as u64, "the server's date stood still");
    added
}

#[rstest]
#[tokio::test]
async fn adds_of_one_millisecond_are_all_kept(#[values("minio", "versitygw")] name: &str) {
    let Some(place) = Place::new(name).await else { return };
    let (writers, adds) = (tier::figure(8, 32), tier::figure(100, 200));
    let second = SystemClock.now().as_second();
    let frozen = Timestamp::from_millisecond(second * 1000 + 500).expect("in range");
    let start = Instant::now();
    let added = join_all((0..writers).map(|writer| write(writer, adds, &place, frozen))).await;
    let seconds = start.elapsed().as_secs_f64();
    let added: Vec<_> = added.into_iter().flatten().collect();
    let ids: BTreeMap<Version, &String> = added.iter().map(|(version, id, _)| (*version, id)).collect();
    assert_eq!(ids.len(), writers * adds, "two adds got one number");
    let root = ledger::open(&place.ledger.parse().expect("a URI"), &place.server.connect()).await;
    let found = root.expect("opened").versions(&package()).await.expect("versions");
    let found: BTreeMap<Version, String> =
        found.into_iter().map(|record| (record.version, record.add_id.expect("an id"))).collect();
    assert_eq!(found.len(), writers * adds, "a version was lost");
    assert!(ids.iter().all(|(version, id)| found.get(version) == Some(*id)), "a version was overwritten");
    // Nobody ran ahead of the server's clock by more than the numbers that were needed.
    assert!(ids.keys().all(|version| version.get() >= frozen.as_millisecond()));
    let mut attempts: Vec<usize> = added.iter().map(|(_, _, attempts)| *attempts).collect();
    attempts.sort_unstable();
    let p99 = attempts[attempts.len() * 99 / 100];
    let most = attempts.last().copied().unwrap_or(0);
    let sum: usize = attempts.iter().sum();
    assert!(p99 <= 20, "p99 is {p99} attempts, at most {most}");
    let line = format!(
        "R2 backend={name} seed=0 operations={} faults=0 violations=0 seconds={seconds:.1} attempts={sum} p99={p99} most={most}",
        writers * adds
    );
    if tier::is_soak() { tier::summary(&line) } else { println!("{line}") }
}

/// Asks for the newest version until told to stop: how often it did, or where it went back.
async fn watch(ledger: &dyn Ledger, stop: &AtomicBool) -> usize {
    let (mut reads, mut newest) = (0, None);
    while !stop.load(Ordering::Relaxed) {
        match ledger.latest(&package()).await {
            Ok(record) => {
                assert!(Some(record.version) >= newest, "{} after {newest:?}", record.version);
                (reads, newest) = (reads + 1, Some(record.version));
            }
            Err(error) => assert!(error.is_not_found() && newest.is_none(), "{error:?}"),
        }
    }
    reads
}

#[rstest]
#[tokio::test]
async fn writers_with_wrong_clocks_do_no_harm(#[values("minio", "versitygw")] name: &str) {
    let Some(place) = Place::new(name).await else { return };
    let uri = place.ledger.parse().expect("a URI");
    let open = async |minutes: i64, allow_skew: bool, credentials: Connect| {
        let clock = Arc::new(Skewed(SignedDuration::from_mins(minutes)));
        let connect = Connect { clock, allow_skew, ..credentials };
        ledger::open(&uri, &connect).await.expect("opened")
    };
    let root = || place.server.connect();
    for minutes in [-10, 10] {
        for credentials in [root(), place.connect()] {
            let refused = open(minutes, false, credentials).await;
            let error = refused.add(&package(), &new("x")).await.expect_err("its clock is wrong");
            assert_eq!(Exit::from(&error), Exit::Usage, "{error:?}");
            assert!(error.hint().is_some_and(|hint| hint.contains("--allow-skew")), "{error:?}");
        }
    }
    let adds = tier::figure(15, 200);
    let stop = AtomicBool::new(false);
    let began = SystemClock.now().as_millisecond();
    let add = async |minutes: i64, credentials: Connect| {
        let ledger = open(minutes, true, credentials).await;
        let mut added = Vec::new();
        for number in 0..adds {
            let new = new(&format!("{minutes} {number}"));
            added.push((ledger.add(&package(), &new).await.expect("add").version, new.add_id));
        }
        added
    };
    let reader = open(0, false, root()).await;
    let writers = async {
        let added = futures::join!(
            add(-10, root()),
            add(0, root()),
            add(10, root()),
            add(-10, place.connect()),
            add(10, place.connect())
        );
        stop.store(true, Ordering::Relaxed);
        [added.0, added.1, added.2, added.3, added.4].concat()
    };
    let (added, one, two) = futures::join!(writers, watch(&*reader, &stop), watch(&*reader, &stop));
    assert!(one > 5 && two > 5, "the readers hardly read: {one}, {two}");
    let ended = SystemClock.now().as_millisecond();
    let found = reader.versions(&package()).await.expect("versions");
    let found: BTreeMap<Version, Option<String>> =
        found.into_iter().map(|record| (record.version, record.add_id)).collect();
    assert_eq!((found.len(), added.len()), (adds * 5, adds * 5), "a version was lost");
    for (version, id) in added {
        assert_eq!(found.get(&version), Some(&Some(id)), "version {version} was overwritten");
        // The server's Date has whole seconds.
        assert!((began - 1500..ended + 1500).contains(&version.get()), "{version} is not the server's time");
    }
    if tier::is_soak() {
        let seconds = (ended - began) / 1000;
        let line = format!(
            "R5 backend={name} seed=0 operations={} faults=0 violations=0 seconds={seconds}",
            adds * 5
        );
        tier::summary(&line);
    }
}

/// A clock that is off a little is worth a line on standard error, and no more than one.
#[test]
fn the_command_line_warns_and_refuses() {
    use crate::cli::home::Home;
    let Some(server) = testbed::versitygw() else { return };
    let gate = Gate::start(&server.endpoint, 0);
    let home = Home::new()
        .with("SACKER_LEDGER", &format!("s3://{}?endpoint={}", crate::support::unique("warn"), gate.url()))
        .with("AWS_ACCESS_KEY_ID", server.access_key)
        .with("AWS_SECRET_ACCESS_KEY", server.secret_key)
        .with("AWS_EC2_METADATA_DISABLED", "true");
    let home = {
        let store = format!("file://{}", home.path("blobs").display());
        home.with("SACKER_STORE", &store)
    };
    home.run(&["init", "--no-probe"]).answer();
    home.file("x", "x");
    let off = |seconds| {
        gate.set_rules(vec![Rule::new(Match::default(), Action::RewriteDate(ServerDate::Offset(seconds)))]);
    };
    off(10);
    let ran = home.run(&["add", "web", "x"]);
    ran.answer();
    assert_eq!(ran.stderr.matches("behind the server's").count(), 1, "{ran:?}");
    off(-600);
    let ran = home.run(&["add", "web", "x"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.stderr.contains("ahead of the server's") && ran.stderr.contains("--allow-skew"), "{ran:?}");
    home.run(&["add", "web", "x", "--allow-skew"]).answer();
    assert_eq!(home.run(&["versions", "web"]).answer().lines().count(), 2);
}
