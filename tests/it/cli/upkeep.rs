//! `gc` and `prune`: dry by default, explained, and never without being asked.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use super::home::{Home, PACKAGE, files};
use crate::support::eventually;

/// Makes a blob so old that collection may condemn it.
#[expect(clippy::disallowed_methods, reason = "files keep the machine's time")]
fn age(home: &Home, content: &str) {
    let blob = File::options().write(true).open(home.blob(content)).expect("the blob");
    blob.set_modified(SystemTime::now() - Duration::from_hours(48)).expect("it is old now");
}

/// A home with three versions, the first of which was removed: its blob is garbage, and old.
fn home_with_garbage() -> Home {
    let home = Home::with_two_versions();
    home.file("app.jar", "three\n");
    home.run(&["add", PACKAGE, "app.jar"]).answer();
    let pruned = home.run(&["prune", PACKAGE, "--keep-last", "2", "--apply", "--yes"]);
    assert_eq!(pruned.answer(), format!("{PACKAGE}\t1\tremoved\n"), "{pruned:?}");
    age(&home, "one\n");
    home
}

#[test]
fn garbage_is_explained_condemned_and_deleted() {
    let home = home_with_garbage();
    let store = home.data().join("store");
    let one = home.blob("one\n").file_name().expect("a name").to_str().expect("UTF-8").to_owned();

    let dry = home.run(&["gc"]);
    let columns: Vec<&str> = dry.answer().trim_end().split('\t').collect();
    assert_eq!(
        (columns[0], columns[1], columns[3], columns[4]),
        (one.as_str(), "4", "condemn", "-"),
        "{dry:?}"
    );
    assert!(dry.stderr.contains("would delete 0 of 3 blobs and 0 leftovers; nothing was changed"), "{dry:?}");
    assert_eq!(files(&store).len(), 3, "a dry run writes nothing");
    let all = home.run(&["gc", "--all", "-o", "json"]).json();
    let verdicts: Vec<&str> = all
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item["verdict"].as_str().expect("a word"))
        .collect();
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == "referenced").count(), 2, "{all}");
    assert!(all.to_string().contains("by frontend-server@2"), "{all}");

    home.run(&["gc", "--delete"]).fails(
        2,
        "error: gc --delete asks first, and here is no terminal to ask on\nhint: if you are sure, run the same with --yes",
    );
    let condemned = home.run(&["gc", "--delete", "--yes"]);
    assert!(condemned.stderr.contains("deleted 0 of 3 blobs"), "{condemned:?}");
    assert!(home.run(&["gc"]).answer().contains("\tcondemned\t"));
    assert_eq!(home.run(&["gc", "--keep", &one]).answer(), "", "what is kept is referenced");
    let deleted = home.run(&["gc", "--delete", "--yes", "--period", "1ms"]);
    assert!(deleted.stderr.contains("deleted 1 of 3 blobs"), "{deleted:?}");
    assert!(!store.join(&one).exists());
    // Both versions that are left can be fetched.
    for version in ["2", "3"] {
        home.run(&["download", PACKAGE, version, "-o", "out"]).answer();
    }
}

#[test]
fn waiting_does_it_in_one_go() {
    let home = home_with_garbage();
    let ran = home.run(&["gc", "--delete", "--yes", "--wait", "--period", "1ms"]);
    assert!(ran.stderr.contains("deleted 1 of 3 blobs"), "{ran:?}");
}

#[test]
fn the_roots_are_all_ledgers_and_what_is_kept() {
    let home = home_with_garbage();
    // Another ledger with the same store still refers to the blob.
    let other = format!("file://{}", home.path("other").display());
    let store = format!("file://{}", home.data().join("store").display());
    home.run(&["--ledger", &other, "--store", &store, "init"]).answer();
    let empty = home.run(&["--ledger", &other, "--store", &store, "gc"]);
    assert_eq!(empty.code, Some(2), "{empty:?}");
    assert!(empty.stderr.contains("has not a single version"), "{empty:?}");
    // Perhaps a wrong name: the blobs of the right one would be garbage.
    let beside = home.run(&["gc", "--with-ledger", &other]);
    assert_eq!(beside.code, Some(2), "{beside:?}");
    assert!(beside.stderr.contains(&format!("ledger {other} has not a single version")), "{beside:?}");
    home.file("app.jar", "one\n");
    home.run(&["--ledger", &other, "--store", &store, "add", "elsewhere", "app.jar"]).answer();
    age(&home, "one\n");
    assert_eq!(home.run(&["gc", "--with-ledger", &other]).answer(), "");
    assert!(home.run(&["gc"]).answer().contains("\tcondemn\t"));
    let missing = format!("file://{}", home.path("missing").display());
    assert_eq!(home.run(&["gc", "--with-ledger", &missing]).code, Some(3));
    home.file("pins", "live\n");
    home.run(&["gc", "--keep-file", "pins"])
        .fails(2, "error: 'pins' line 1 is neither a sha256 nor a pinned spec");
    let short = home.run(&["gc", "--grace", "1h"]);
    assert_eq!(short.code, Some(2), "{short:?}");
    assert!(short.stderr.contains("shorter than"), "{short:?}");
}

#[test]
fn prune_says_what_it_would_do() {
    let home = Home::with_two_versions();
    for content in ["three\n", "four\n"] {
        home.file("app.jar", content);
        home.run(&["add", PACKAGE, "app.jar"]).answer();
    }
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    home.run(&["prune"]).fails(
        2,
        "error: nothing says what to keep\nhint: give --keep-last N, --keep-younger-than 30d, or both",
    );
    let dry = home.run(&["prune", "--keep-last", "2"]);
    assert_eq!(dry.answer(), format!("{PACKAGE}\t2\tremove\n"));
    assert!(dry.stderr.contains("would remove 1 version; nothing was changed"), "{dry:?}");
    let all = home.run(&["prune", "--keep-last", "2", "--all"]);
    assert_eq!(
        all.answer(),
        format!("{PACKAGE}\t1\ttagged\n{PACKAGE}\t2\tremove\n{PACKAGE}\t3\trecent\n{PACKAGE}\t4\tnewest\n")
    );
    assert_eq!(home.run(&["prune", "--keep-younger-than", "30d"]).answer(), "", "all are young");
    assert_eq!(home.run(&["prune", "--keep-last", "2", "--apply"]).code, Some(2));
    assert_eq!(home.run(&["versions", PACKAGE]).answer(), "1\n2\n3\n4\n");
    let done = home.run(&["prune", "--keep-last", "2", "--apply", "--yes", "--reason", "too many"]);
    assert_eq!(done.answer(), format!("{PACKAGE}\t2\tremoved\n"));
    assert_eq!(home.run(&["versions", PACKAGE]).answer(), "1\n3\n4\n");
    let versions = home.run(&["versions", PACKAGE, "--removed", "-o", "json"]).json();
    assert_eq!(versions[1]["removed"]["reason"], "too many");
}

#[test]
fn several_stores_are_written_read_and_collected() {
    let home = Home::new();
    let (ledger, first, second) = (home.path("ledger"), home.path("first"), home.path("second"));
    let uri = |path: &std::path::Path| format!("file://{}", path.display());
    let config = serde_json::json!({ "ledger": uri(&ledger), "store": [uri(&first), uri(&second)] });
    fs::write(home.path(".sacker.json"), config.to_string()).expect("written");
    home.run(&["init"]).answer();
    home.file("app.jar", "one\n");
    home.run(&["add", PACKAGE, "app.jar"]).answer();
    assert_eq!((files(&first).len(), files(&second).len()), (1, 1));
    fs::remove_file(&files(&first)[0]).expect("it goes");
    home.run(&["download", PACKAGE, "1", "-o", "out"]).answer();
    // One store is named once per flag.
    let flags = ["--store", &uri(&second), "--store", &uri(&first)];
    home.run(&[&flags[..], &["download", PACKAGE, "1", "-o", "other"][..]].concat()).answer();
    fs::remove_file(&files(&second)[0]).expect("it goes");
    let gone = home.run(&["download", PACKAGE, "1", "-o", "third"]);
    assert_eq!(gone.code, Some(3), "{gone:?}");
    assert!(gone.stderr.contains(&uri(&first)) && gone.stderr.contains(&uri(&second)), "{gone:?}");
    let all = home.run(&["gc", "--all", "-o", "json"]).json();
    assert_eq!(all.as_array().map(Vec::len), Some(0));
}

/// What a killed upload left is told and removed.
#[tokio::test]
async fn leftovers_are_listed_and_removed() {
    let home = Home::with_two_versions();
    let left = home.data().join("store/.unfinished-left");
    fs::write(&left, "left").expect("written");
    let listed = home.run(&["gc"]);
    assert!(listed.answer().starts_with(".unfinished-left\t4\t"), "{listed:?}");
    assert!(left.exists());
    home.run(&["gc", "--delete", "--yes"]).answer();
    eventually("it is gone", Duration::from_secs(5), async || !left.exists()).await;
}
