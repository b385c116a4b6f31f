//! `sacker` with a store in HDFS: rights, damage, outages, and what a large blob costs.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::home::{Home, PACKAGE};
use crate::support::testbed::{self, Hdfs};
use crate::support::{tier, unique};

/// A home with its ledger in files and its store at `path`.
fn home(hdfs: &Hdfs, path: &str) -> Home {
    let home = Home::new();
    let ledger = format!("file://{}", home.path("ledger").display());
    home.with("SACKER_LEDGER", &ledger).with("SACKER_STORE", &hdfs.uri(path))
}

#[tokio::test]
async fn a_user_without_the_right_is_denied_and_told_which() {
    let Some(hdfs) = testbed::hdfs() else { return };
    let path = format!("/rights/{}", unique("store"));
    let home = home(&hdfs, &path);
    home.run(&["init"]).answer();
    home.file("app.jar", "bytes\n");
    home.run(&["add", PACKAGE, "app.jar"]).answer();
    hdfs.client().set_permission(&path, 0o700).await.expect("set");
    let home = home.with("HADOOP_USER_NAME", "mallory");
    home.file("app.jar", "other bytes\n");
    for arguments in [&["add", PACKAGE, "app.jar"][..], &["download", PACKAGE, "latest", "-o", "out"]] {
        let ran = home.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(6), ""), "{ran:?}");
        assert!(ran.stderr.contains("access denied: EXECUTE on ") && ran.stderr.contains(&path), "{ran:?}");
        assert!(ran.stderr.contains("hint: HDFS knows this client as 'mallory'"), "{ran:?}");
    }
    let doctor = home.run(&["doctor"]);
    assert!(doctor.stdout.contains("EXECUTE"), "{doctor:?}");
}

/// Whoever may write in the store's directory may write in those that others made below it.
#[tokio::test]
async fn several_users_write_to_one_store() {
    let Some(hdfs) = testbed::hdfs() else { return };
    let path = format!("/rights/{}", unique("store"));
    let home = home(&hdfs, &path);
    home.run(&["init"]).answer();
    hdfs.client().set_permission(&path, 0o777).await.expect("set");
    let mut home = home.with("HADOOP_USER_NAME", "alice");
    home.file("app.jar", "bytes\n");
    home.run(&["add", PACKAGE, "app.jar"]).answer();
    hdfs.make_old(&path).await;
    // The blob is old: it is replaced by another user's.
    home = home.with("HADOOP_USER_NAME", "bob");
    home.run(&["add", PACKAGE, "app.jar"]).answer();
    let owners: Vec<String> = {
        let entries = hdfs.client().list_status(&path, true).await.expect("listed");
        entries.into_iter().filter(|entry| !entry.isdir).map(|entry| entry.owner).collect()
    };
    assert_eq!(owners, ["bob"]);
}

#[tokio::test]
async fn other_bytes_under_a_digest_are_not_handed_out() {
    let Some(hdfs) = testbed::hdfs() else { return };
    let path = format!("/damage/{}", unique("store"));
    let home = home(&hdfs, &path);
    home.run(&["init"]).answer();
    home.file("app.jar", "bytes\n");
    home.run(&["add", PACKAGE, "app.jar"]).answer();
    let files = hdfs.files(&path).await;
    assert_eq!(files.len(), 1, "{files:?}");
    hdfs.write(&files[0], b"bites\n").await;
    let ran = home.run(&["download", PACKAGE, "latest", "-o", "out"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(5), ""), "{ran:?}");
    assert!(!home.work().join("out").exists());
    assert_eq!(home.run(&["verify", "--blobs"]).code, Some(5));
}

#[test]
fn a_name_node_that_is_away_ends_in_time() {
    let home = Home::new().with("SACKER_STORE", "hdfs://127.0.0.1:1/store");
    let ledger = format!("file://{}", home.path("ledger").display());
    let home = home.with("SACKER_LEDGER", &ledger);
    home.file("app.jar", "bytes\n");
    let started = Instant::now();
    let ran = home.run(&["add", PACKAGE, "app.jar", "--timeout", "2s", "-vv"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), ""), "{ran:?}");
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert!(ran.stderr.contains("connection refused"), "{ran:?}");
}

#[test]
fn a_name_node_in_safe_mode_is_told() {
    if !testbed::is_there("hdfs") {
        return;
    }
    let hdfs = Hdfs::start(&["-D", "dfs.namenode.safemode.min.datanodes=1"], 0, &[]);
    let ran = home(&hdfs, "/store").run(&["init"]);
    assert_eq!((ran.code, ran.stdout.contains("hdfs://")), (Some(7), false), "{ran:?}");
    assert!(ran.stderr.contains("hint: the NameNode is in safe mode"), "{ran:?}");
}

/// Runs `sacker` and measures: seconds, and MiB of memory at most.
fn measured(home: &Home, arguments: &[&str]) -> (f64, u64) {
    let began = Instant::now();
    let mut child = home.command(arguments).stdout(Stdio::null()).spawn().expect("sacker starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes: Option<u64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(kibibytes.unwrap_or(0));
        if let Some(ended) = child.try_wait().expect("it is waited for") {
            assert!(ended.success(), "{arguments:?}: {ended:?}");
            return (began.elapsed().as_secs_f64(), peak >> 10);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn noise(path: &Path, size: u64) {
    use std::io::Write as _;
    let mut file = fs::File::create(path).expect("a file");
    let mut random = fastrand::Rng::with_seed(size);
    let mut piece = vec![0; 1 << 20];
    for _ in 0..size >> 20 {
        random.fill(&mut piece);
        file.write_all(&piece).expect("written");
    }
}

/// 1 GiB at night.
#[test]
fn a_large_blob_goes_up_and_down_in_bounded_memory() {
    let Some(hdfs) = testbed::hdfs() else { return };
    let size: u64 = tier::figure(256 << 20, 1 << 30);
    let home = home(&hdfs, &format!("/large/{}", unique("store")));
    home.run(&["init"]).answer();
    noise(&home.work().join("large"), size);
    let (up, memory_up) = measured(&home, &["-q", "add", PACKAGE, "large"]);
    let (down, memory_down) = measured(&home, &["-q", "download", PACKAGE, "latest", "-o", "fetched"]);
    let (sent, fetched) = (home.work().join("large"), home.work().join("fetched"));
    assert_eq!(fs::metadata(&fetched).expect("the file").len(), size);
    assert!(fs::read(&sent).expect("read") == fs::read(&fetched).expect("read"));
    let figures = format!(
        "HDFS bytes={size} up_seconds={up:.1} down_seconds={down:.1} up_peak_mib={memory_up} \
         down_peak_mib={memory_down}"
    );
    if tier::is_soak() {
        tier::summary(&figures);
    } else {
        println!("{figures}");
    }
    assert!(memory_up < 64 && memory_down < 64, "{figures}");
}
