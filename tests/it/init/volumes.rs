//! What stays in a volume between runs, and what pods of a node share: resuming, the cache, unpacked archives.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use sacker::model::{Sha256, VersionRecord};
use tar::{Builder, EntryType, Header};

use super::home::{Home, PACKAGE};
use super::{Place, Stays, behind_a_gate};
use crate::fetch::{names, noise};
use crate::support::eventually;
use crate::support::faultgate::{Action, Gate, Match, Rule};
use crate::support::tier;

/// Bytes of a part.
const PART: u64 = 8 << 20;

/// Five parts.
const LARGE: usize = 34 << 20;

/// How often a server was asked for a blob or a part of one.
fn requests(gate: &Gate) -> usize {
    gate.log().iter().filter(|entry| entry.operation == "GetObject").count()
}

/// Rules by which parts come until so many are there, and then a thousand bytes of each later one: wherever a request begins,
/// and for however many parts it is.
fn silent_after(parts: u64) -> Vec<Rule> {
    let rule = |part: u64| {
        let (begin, end) = (part * PART, parts * PART);
        // A request for the rest of a later part begins within those thousand bytes: most digits are the same.
        let (range, bytes) = if part < parts {
            (format!("bytes={begin}-*"), end - begin)
        } else {
            (format!("bytes={}*", begin / 10_000), 1000)
        };
        let matches = Match { header: Some(("range".to_owned(), range)), ..Match::target("GetObject") };
        Rule::new(matches, Action::Stall(bytes))
    };
    (0..(LARGE as u64).div_ceil(PART)).map(rule).collect()
}

fn spawn(home: &Home, arguments: &[&str]) -> Child {
    let mut command = home.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sacker-init starts")
}

/// R25: `kill -9` in the middle, and again: only what is missing is asked for.
#[tokio::test]
async fn a_killed_run_is_gone_on_with() {
    let bytes = noise(LARGE);
    let Some((home, gate, record)) = behind_a_gate(Place::Minio, &bytes, &[], Stays::Good).await else {
        return;
    };
    gate.set_rules(silent_after(3));
    let argument = format!("{}=app.jar", record.pinned());
    let partial = home.out().join(format!(".sacker-{}.partial", record.sha256));
    let mut child = spawn(&home, &[&argument]);
    let flags = |partial: &PathBuf| {
        let bytes = fs::read(partial).unwrap_or_default();
        bytes.get(LARGE..LARGE + 5).map_or(0, |flags| flags.iter().map(|flag| usize::from(*flag == 1)).sum())
    };
    eventually("three parts are there", Duration::from_secs(30), async || flags(&partial) >= 3).await;
    child.kill().expect("it is killed");
    child.wait().expect("it has ended");
    assert_eq!(home.names(), [format!(".sacker-{}.partial", record.sha256)]);

    assert_eq!(flags(&partial), 3);

    gate.set_rules(Vec::new());
    let before = gate.log().len();
    home.run(&[&argument]).expect(0, "that an earlier download left");
    assert_eq!(home.names(), ["app.jar"]);
    assert!(fs::read(home.out().join("app.jar")).expect("the file") == bytes);
    let log = gate.log();
    let again: Vec<_> = log[before..].iter().filter(|entry| entry.operation == "GetObject").collect();
    // On a busy machine a part may seem slow after 0.4 s, and what is missing of it is asked for twice: 20 MiB of 34 at most.
    let at_first = |started| started < log[before].started + Duration::from_millis(400);
    let first = again.iter().filter(|entry| at_first(entry.started)).count();
    let sent: u64 = again.iter().map(|entry| entry.bytes_out).sum();
    assert!((1..=2).contains(&first) && sent < 3 * PART, "only the two that were missing: {again:#?}");
}

fn cache(home: &Home) -> String {
    let path = home.path("cache");
    fs::create_dir_all(&path).expect("a directory");
    path.to_str().expect("UTF-8").to_owned()
}

/// R34: two pods of a node want one blob; it comes once. An entry that is spoilt is fetched again, and a pod that writes to its
/// file changes nobody else's.
#[tokio::test]
async fn pods_of_a_node_share_a_cache() {
    let bytes = noise(6 << 20);
    let Some((home, gate, record)) = behind_a_gate(Place::Minio, &bytes, &[], Stays::Good).await else {
        return;
    };
    let cache = cache(&home);
    let arguments = |to: &str| [format!("{}={to}", record.pinned()), "--cache".to_owned(), cache.clone()];
    let start = |to: &str| {
        let arguments = arguments(to);
        spawn(&home, &arguments.each_ref().map(String::as_str))
    };
    let children: Vec<Child> = ["a", "b", "c"].map(start).into();
    for mut child in children {
        assert_eq!(child.wait().expect("it ends").code(), Some(0));
    }
    assert_eq!(requests(&gate), 1, "one of them fetched it");
    assert_eq!(names(cache.as_ref()), [record.sha256.to_string()]);

    fs::write(home.out().join("a"), "changed").expect("written");
    assert!(fs::read(home.out().join("b")).expect("read") == bytes);
    let entry = PathBuf::from(&cache).join(record.sha256.to_string());
    assert!(fs::read(&entry).expect("read") == bytes);

    fs::write(&entry, "spoilt").expect("written");
    let run = |to: &str| {
        let arguments = arguments(to);
        home.run(&arguments.each_ref().map(String::as_str))
    };
    run("d").expect(0, "the cache has a spoilt entry");
    assert!(fs::read(home.out().join("d")).expect("read") == bytes);
    assert_eq!(requests(&gate), 2);
    run("e").expect(0, "");
    assert_eq!(requests(&gate), 2, "it is whole again");
}

/// R34: the process that fetches dies; the one that waits takes over.
#[tokio::test]
async fn who_waits_for_a_dead_process_takes_over() {
    let bytes = noise(LARGE);
    let Some((home, gate, record)) = behind_a_gate(Place::Minio, &bytes, &[], Stays::Good).await else {
        return;
    };
    gate.set_rules(silent_after(1));
    let cache = cache(&home);
    let first = format!("{}=a", record.pinned());
    let second = format!("{}=b", record.pinned());
    let mut writer = spawn(&home, &[&first, "--cache", &cache]);
    let partial = format!(".sacker-{}.partial", record.sha256);
    eventually("it fetches", Duration::from_secs(30), async || names(cache.as_ref()).contains(&partial))
        .await;
    let mut waiting = spawn(&home, &[&second, "--cache", &cache]);
    eventually("a part is there", Duration::from_secs(30), async || requests(&gate) >= 2).await;
    writer.kill().expect("it is killed");
    writer.wait().expect("it has ended");
    gate.set_rules(Vec::new());
    assert_eq!(waiting.wait().expect("it ends").code(), Some(0));
    assert!(fs::read(home.out().join("b")).expect("read") == bytes);
}

/// The least recently used entries go; a cache that cannot be written to costs nothing but itself.
#[tokio::test]
async fn a_cache_stays_as_small_as_asked_for() {
    let home = Home::file().await;
    let cache = cache(&home);
    let first = home.add(&noise(600 << 10)).await;
    let other = home.add(&noise(500 << 10)).await;
    for record in [&first, &other] {
        let argument = format!("{}=app.jar", record.pinned());
        home.run(&[&argument, "--cache", &cache, "--cache-size", "1Mi"]).expect(0, "");
    }
    assert_eq!(names(cache.as_ref()), [other.sha256.to_string()]);

    fs::remove_dir_all(&cache).expect("removed");
    let argument = format!("{}=again.jar", other.pinned());
    home.run(&[&argument, "--cache", &cache]).expect(8, &cache);
    home.run(&[&argument, "--cache", "cache"]).expect(2, "no absolute path");
    home.run(&[&argument, "--cache", &cache, "--cache-size", "many"]).expect(2, "is not bytes");
}

fn archive(name: &str, kind: EntryType, bytes: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.as_gnu_mut().expect("a GNU header").name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    builder.append(&header, bytes).expect("appended");
    builder.into_inner().expect("finished")
}

#[tokio::test]
async fn an_archive_is_unpacked_into_the_directory() {
    for place in [Place::File, Place::Minio] {
        let Some(home) = place.home().await else { return };
        let first =
            home.add_as(PACKAGE, &archive("bin/run", EntryType::Regular, b"one"), "app.tar", 0o644).await;
        let second =
            home.add_as(PACKAGE, &archive("bin/run", EntryType::Regular, b"two"), "app.tar", 0o644).await;
        let to = home.out().join("app");
        let arguments = |record: &VersionRecord| format!("{}={}", record.pinned(), to.display());
        home.run(&[&arguments(&first), "--extract"]).expect(0, "");
        assert_eq!(fs::read(to.join("bin/run")).expect("read"), b"one");
        home.run(&[&arguments(&second), "--extract", "--cache", &cache(&home)]).expect(0, "");
        assert_eq!(fs::read(to.join("bin/run")).expect("read"), b"two");
        assert_eq!(names(&to), [".sacker-unpacked", "bin"]);

        let hostile = home.add_as(PACKAGE, &archive("../x", EntryType::Regular, b""), "app.tar", 0o644).await;
        let before = names(&home.path(""));
        assert!(before.contains(&"cache".to_owned()));
        home.run(&[&arguments(&hostile), "--extract"])
            .expect(5, "its entry '../x' leads out of the directory");
        let ran = home.run(&[&arguments(&hostile), "--extract", "--cache", &cache(&home)]);
        assert!(!ran.expect(5, "leads out").stderr.contains("spoilt"), "{}", ran.stderr);
        let ran = home.run(&[&arguments(&hostile), "--extract", "--cache", &cache(&home)]);
        assert!(!ran.expect(5, "leads out").stderr.contains("spoilt"), "the entry is whole: {}", ran.stderr);
        assert_eq!(fs::read(to.join("bin/run")).expect("read"), b"two", "what was there stays");
        assert_eq!(names(&home.path("")), before);
    }
}

/// R23: the store truncates, flips, resets and stalls at random places; the file is absent, or exactly the bytes.
#[tokio::test]
async fn hostile_downloads_never_show_a_wrong_file() {
    let bytes = noise(9 << 20);
    let size = bytes.len() as u64;
    let mut random = fastrand::Rng::with_seed(tier::seed("hostile downloads"));
    let Some((home, gate, record)) = behind_a_gate(Place::Versitygw, &bytes, &[], Stays::Good).await else {
        return;
    };
    let argument = format!("{}=app.jar", record.pinned());
    let path = home.out().join("app.jar");
    let (mut whole, mut refused) = (0, 0);
    for round in 0..tier::figure(60, 300) {
        let mut rules = Vec::new();
        let count = random.u32(1..5);
        for _ in 0..count {
            let at = random.u64(0..size);
            let action = match random.u8(0..6) {
                0 => Action::Truncate(at),
                1 => Action::Flip(at),
                2 => Action::Reset(at),
                3 => Action::Stall(at),
                4 => Action::Answer(*random.choice(&[500, 503, 429, 404, 403]).expect("one"), String::new()),
                _ => Action::Throttle(random.u64(1..2_000_000)),
            };
            let matches = Match { nth: Some(random.u64(1..5)), ..Match::target("GetObject") };
            rules.push(Rule::new(matches, action));
        }
        if random.u8(0..3) == 0 {
            // It does not get better.
            let action = rules.last().map_or(Action::DropBefore, |rule: &Rule| rule.action.clone());
            rules.push(Rule::new(Match::target("GetObject"), action));
        }
        gate.set_rules(rules);
        let ran = home.run(&[&argument, "--stall-timeout", "300ms", "--timeout", "4s", "-q"]);
        if let Ok(found) = fs::read(&path) {
            assert!(found == bytes, "round {round}: {}", ran.stderr);
            assert_eq!(ran.code, Some(0), "round {round}: {}", ran.stderr);
            fs::remove_file(&path).expect("removed");
            whole += 1;
        } else {
            assert!(matches!(ran.code, Some(3 | 5 | 6 | 7)), "round {round}: {:?} {}", ran.code, ran.stderr);
            refused += 1;
        }
        let left = [format!(".sacker-{}.partial", record.sha256)];
        assert!(home.names().is_empty() || home.names() == left, "round {round}: {:?}", home.names());
    }
    gate.set_rules(Vec::new());
    home.run(&[&argument]).expect(0, "");
    assert!(Sha256::of(&fs::read(&path).expect("the file")) == record.sha256);
    assert_eq!(home.names(), ["app.jar"]);
    tier::summary(&format!("R23 whole={whole} refused={refused}"));
    assert!(whole > 0 && refused > 0, "both happen: {whole} and {refused}");
}
