//! R6: `sacker add` is killed at random points. No version is without its blob, every repetition works, and what was left
//! is told and removed by `sacker gc`.

use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rstest::rstest;

use super::home::{Home, PACKAGE};
use crate::support::testbed;
use crate::support::{eventually, tier, unique};

/// One byte more than goes in one request, so that S3 gets parts.
const SIZE: usize = (64 << 20) + 1;

/// A home on files, on files with the store in HDFS, or on versitygw (MinIO lists no unfinished uploads), whose store forgets after seconds.
fn home(name: &str) -> Option<Home> {
    let home = Home::new();
    if name != "s3" {
        let uri = |part: &str| format!("file://{}", home.path(part).display());
        let store = match name {
            "hdfs" => testbed::hdfs()?.uri(&format!("/killed/{}", unique("store"))),
            _ => uri("store"),
        };
        let (ledger, store) = (uri("ledger"), store + "?grace=2s");
        return Some(home.with("SACKER_LEDGER", &ledger).with("SACKER_STORE", &store));
    }
    let server = testbed::versitygw()?;
    let (ledger, store) = (server.uri(&unique("ledger")), server.uri(&unique("store")) + "&grace=2s");
    let home = home.with("SACKER_LEDGER", &ledger).with("SACKER_STORE", &store);
    let home =
        home.with("AWS_ACCESS_KEY_ID", server.access_key).with("AWS_SECRET_ACCESS_KEY", server.secret_key);
    Some(home.with("AWS_EC2_METADATA_DISABLED", "true"))
}

/// Other bytes in the same file: a blob of its own for every round.
fn change(path: &Path, round: u64) {
    let mut file = File::options().write(true).open(path).expect("the file");
    file.rewind().expect("at its beginning");
    file.write_all(&round.to_le_bytes()).expect("changed");
}

/// The versions, each fetched and verified; those that were looked at before are left out.
fn verify(home: &Home, known: &mut Vec<String>, seed: u64) {
    let versions = home.run(&["versions", PACKAGE]);
    // Before the first one there is no such package.
    let text = if versions.code == Some(3) { String::new() } else { versions.answer().to_owned() };
    for version in text.lines() {
        if known.iter().any(|it| it == version) {
            continue;
        }
        let fetched = home.run(&["-q", "download", PACKAGE, version, "-o", "fetched"]);
        assert_eq!(fetched.code, Some(0), "version {version} has no good blob, seed {seed}: {fetched:?}");
        fs::remove_file(home.work().join("fetched")).expect("it goes");
        known.push(version.to_owned());
    }
}

/// What uploads left, by `sacker gc`.
fn leftovers(home: &Home, arguments: &[&str]) -> usize {
    let items = home.run(&[&["-q", "gc", "--force", "-o", "json"], arguments].concat()).json();
    let items = items.as_array().expect("a list");
    items.iter().filter(|item| !item["unfinished"].is_null()).count()
}

#[rstest]
#[tokio::test]
async fn an_add_that_is_killed_leaves_nothing_wrong(#[values("file", "s3", "hdfs")] name: &str) {
    let Some(home) = home(name) else { return };
    let seed = tier::seed("an_add_that_is_killed_leaves_nothing_wrong");
    let kills = tier::figure(20, 200);
    let mut random = fastrand::Rng::with_seed(seed);
    home.run(&["init"]).answer();
    let path = home.file("app.jar", vec![7; SIZE]);
    let began = Instant::now();
    home.run(&["-q", "add", PACKAGE, "app.jar"]).answer();
    let whole = began.elapsed();

    let mut known = Vec::new();
    let (mut found, mut finished) = (0, 0);
    for round in 1..=kills {
        change(&path, round);
        let mut child = home
            .command(&["-q", "add", PACKAGE, "app.jar"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sacker starts");
        // The random moment is the point here, not a wait for something.
        tokio::time::sleep(whole.mul_f64(random.f64() * 1.05)).await;
        finished += u32::from(matches!(child.try_wait(), Ok(Some(_))));
        // SIGKILL; it may have ended by itself.
        let _ = child.kill();
        child.wait().expect("it ends");

        verify(&home, &mut known, seed);
        let left = leftovers(&home, &[]);
        found += left;
        if left > 0 && (name == "file" || round == kills) {
            // Parts of uploads, and files in HDFS, go by their age, since nobody can know whether their writer lives.
            eventually("leftovers are removed", Duration::from_secs(30), async || {
                leftovers(&home, &["--delete", "--yes"]);
                leftovers(&home, &[]) == 0
            })
            .await;
        }
        home.run(&["-q", "add", PACKAGE, "app.jar"]).answer();
        verify(&home, &mut known, seed);
    }
    eventually("nothing is left", Duration::from_secs(30), async || {
        leftovers(&home, &["--delete", "--yes"]);
        leftovers(&home, &[]) == 0
    })
    .await;
    assert!(found > 0, "no kill met an upload (seed {seed}, {finished} of {kills} had ended)");
    // What collection did meanwhile took no version its blob.
    let blobs = home.run(&["-q", "gc", "--all", "-o", "json"]).json();
    let versions = home.run(&["versions", PACKAGE, "-o", "json"]).json();
    for version in versions.as_array().expect("a list") {
        let its = |blob: &&serde_json::Value| blob["sha256"] == version["sha256"] && blob["size"] == SIZE;
        let found = blobs.as_array().expect("a list").iter().find(its);
        assert!(
            found.is_some_and(|blob| blob["verdict"] == "referenced"),
            "{version} has no blob, seed {seed}"
        );
    }
    let seconds = began.elapsed().as_secs();
    let figures = format!(
        "R6 backend={name} seed={seed} operations={} faults={kills} leftovers={found} violations=0 seconds={seconds}",
        kills * 2 + 1
    );
    if tier::is_soak() {
        tier::summary(&figures);
    } else {
        println!("{figures}");
    }
}
