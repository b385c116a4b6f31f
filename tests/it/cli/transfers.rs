//! `add` and `download`: bytes in, the same bytes out, and nothing half-done in between.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::home::{Home, PACKAGE, files};
use crate::support::eventually;

fn sha256_of(content: &str) -> String {
    sacker::model::Sha256::of(content.as_bytes()).to_string()
}

#[test]
fn add_prints_only_the_number() {
    let home = Home::new();
    home.file("app.jar", "one\n");
    let first = home.run(&["add", PACKAGE, "app.jar"]);
    assert_eq!((first.answer(), first.stderr.as_str()), ("1\n", ""));
    // The same bytes again are another version, and one blob.
    assert_eq!(home.run(&["add", PACKAGE, "app.jar"]).answer(), "2\n");
    assert_eq!(files(&home.data().join("store")).len(), 1);
}

#[test]
fn add_records_what_the_file_is() {
    let home = Home::new();
    let file = home.file("app-1.2.jar", "bytes");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o750)).expect("a mode");
    symlink("app-1.2.jar", home.work().join("app.jar")).expect("a link");
    let record = home
        .run(&["add", PACKAGE, "app.jar", "--meta", "commit=abc", "--meta", "note=a=b", "-o", "json"])
        .json();
    assert_eq!(record["version"], 1);
    assert_eq!(record["basename"], "app.jar", "the name that was typed");
    assert_eq!(record["mode"], 0o100_750, "the mode of the file behind the link");
    assert_eq!((&record["size"], &record["sha256"]), (&5.into(), &sha256_of("bytes").into()));
    assert_eq!(record["metadata"], serde_json::json!({"commit": "abc", "note": "a=b"}));
    let renamed = home.run(&["add", PACKAGE, "app.jar", "--name", "server.jar", "-o", "json"]).json();
    assert_eq!(renamed["basename"], "server.jar");
}

#[test]
fn add_reads_standard_input() {
    let home = Home::new();
    let content = "piped\n".repeat(400_000);
    let ran = home.run_with_input(&["add", PACKAGE, "-", "--name", "piped.txt"], content.as_bytes());
    assert_eq!(ran.answer(), "1\n");
    let record = home.run(&["info", PACKAGE, "1", "-o", "json"]).json();
    assert_eq!((&record["basename"], &record["mode"]), (&"piped.txt".into(), &0o100_644.into()));
    assert_eq!((&record["size"], &record["sha256"]), (&content.len().into(), &sha256_of(&content).into()));
    assert_eq!(files(&home.temporary()), Vec::<std::path::PathBuf>::new(), "the copy is gone");
    home.run_with_input(&["add", PACKAGE, "-"], b"x")
        .fails(2, "error: what comes from standard input has no name\nhint: give it one with --name NAME");
}

#[test]
fn add_refuses_what_is_no_file() {
    let home = Home::new();
    fs::create_dir(home.work().join("dist")).expect("a directory");
    home.run(&["add", PACKAGE, "dist"]).fails(
        2,
        "error: 'dist' is a directory\n\
         hint: make one file of it: tar -C dist -cf - . | sacker add frontend-server - --name dist.tar",
    );
    home.run(&["add", PACKAGE, "missing.jar"])
        .fails(8, "error: cannot read 'missing.jar': no such file or directory");
    home.file("app.jar", "x");
    home.run(&["add", "app.jar", PACKAGE]).fails(
        8,
        "error: cannot read 'frontend-server': no such file or directory\n\
         hint: the package comes first: sacker add frontend-server app.jar",
    );
    for (arguments, rule) in [
        (
            &["add", "a//b", "app.jar"][..],
            "error: package name 'a//b' is not allowed: it must not begin or end",
        ),
        (&["add", "a/versions/b", "app.jar"], "the component 'versions' is reserved"),
        (&["add", PACKAGE, "app.jar", "--name", "../x"], "error: file name '../x' is not allowed"),
        (
            &["add", PACKAGE, "app.jar", "--meta", "commit"],
            "error: --meta 'commit' is not of the form KEY=VALUE",
        ),
        (
            &["add", PACKAGE, "app.jar", "--sha256", "abc"],
            "error: 'abc' is not a sha256: 64 hex digits are needed",
        ),
    ] {
        let ran = home.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
        assert!(ran.stderr.contains(rule), "{ran:?}");
    }
    assert!(!home.data().exists(), "nothing was tried");
}

#[test]
fn add_checks_a_digest_that_is_given() {
    let home = Home::new();
    home.file("app.jar", "one\n");
    let (right, wrong) = (sha256_of("one\n"), sha256_of("two\n"));
    assert_eq!(home.run(&["add", PACKAGE, "app.jar", "--sha256", &right]).answer(), "1\n");
    let refused = home.run(&["add", PACKAGE, "app.jar", "--sha256", &wrong]);
    let told = format!(
        "error: corrupt: the file has sha256 {right}, not {wrong} (cannot add the file: app.jar)\n\
         hint: nothing was added; is it the right file?"
    );
    refused.fails(5, &told);
    assert_eq!(home.run(&["versions", PACKAGE]).answer(), "1\n");
    assert_eq!(files(&home.data().join("store")).len(), 1, "nothing is stored under a wrong name");

    // Also where the store has the claimed blob already, so that nothing is sent.
    home.file("two.jar", "two\n");
    home.run(&["add", "other", "two.jar"]).answer();
    home.run(&["add", PACKAGE, "app.jar", "--sha256", &wrong]).fails(5, &told);
    assert_eq!(home.run(&["versions", PACKAGE]).answer(), "1\n");

    let piped = home.run_with_input(&["add", PACKAGE, "-", "--name", "x", "--sha256", &wrong], b"one\n");
    assert_eq!(piped.code, Some(5), "{piped:?}");
}

#[test]
fn add_on_condition_of_the_newest_version() {
    let home = Home::with_two_versions();
    home.file("app.jar", "three\n");
    home.run(&["add", PACKAGE, "app.jar", "--if-version", "1"]).fails(
        4,
        "error: package 'frontend-server': expected version 1 as the newest, found version 2\n\
         hint: see what there is with: sacker versions frontend-server",
    );
    assert_eq!(home.run(&["add", PACKAGE, "app.jar", "--if-version", "2"]).answer(), "3\n");
}

#[test]
fn a_dry_run_adds_nothing() {
    let home = Home::with_two_versions();
    home.file("app.jar", "three\n");
    let ran = home.run(&["add", PACKAGE, "app.jar", "--dry-run"]);
    assert_eq!(ran.answer(), "");
    let expected = format!(
        "note: would add 'app.jar' (6 bytes, sha256 {}) to package 'frontend-server', whose newest version is 2\n",
        sha256_of("three\n")
    );
    assert_eq!(ran.stderr, expected);
    assert_eq!(home.run(&["add", PACKAGE, "app.jar", "--dry-run", "--if-version", "1"]).code, Some(4));
    assert_eq!(home.run(&["versions", PACKAGE]).answer(), "1\n2\n");
    assert_eq!(files(&home.data().join("store")).len(), 2);
}

#[test]
fn download_puts_the_file_here_and_prints_where() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    for (spec, expected) in [("live", "one\n"), ("latest", "two\n"), ("1", "one\n"), ("2", "two\n")] {
        assert_eq!(home.run(&["download", PACKAGE, spec]).answer(), "app.jar\n");
        assert_eq!(fs::read_to_string(home.work().join("app.jar")).expect("the file"), expected, "{spec}");
    }
    let again = home.run(&["download", PACKAGE, "2"]);
    assert_eq!(again.answer(), "app.jar\n");
    assert_eq!(again.stderr, "note: 'app.jar' already is version 2 of 'frontend-server'\n");
}

#[test]
fn download_goes_where_it_is_told() {
    let home = Home::with_two_versions();
    fs::create_dir(home.work().join("out")).expect("a directory");
    assert_eq!(home.run(&["download", PACKAGE, "1", "-o", "my.jar"]).answer(), "my.jar\n");
    assert_eq!(home.run(&["download", PACKAGE, "1", "-o", "out"]).answer(), "out/app.jar\n");
    assert_eq!(home.run(&["download", PACKAGE, "1", "-o", "out/other.jar"]).answer(), "out/other.jar\n");
    for path in ["my.jar", "out/app.jar", "out/other.jar"] {
        assert_eq!(fs::read_to_string(home.work().join(path)).expect("the file"), "one\n", "{path}");
    }
    let piped = home.run(&["download", PACKAGE, "2", "-o", "-"]);
    assert_eq!((piped.answer(), piped.stderr.as_str()), ("two\n", ""));
    assert_eq!(home.run(&["download", PACKAGE, "1", "-o", "missing/app.jar"]).code, Some(8));
}

#[test]
fn download_restores_the_mode_without_what_is_dangerous() {
    let home = Home::new();
    let file = home.file("tool", "#!/bin/sh\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4777)).expect("a mode");
    home.run(&["add", PACKAGE, "tool"]).answer();
    fs::remove_file(&file).expect("it goes");
    home.run(&["download", PACKAGE, "1"]).answer();
    assert_eq!(file.metadata().expect("the file").mode() & 0o7777, 0o755);
}

#[test]
fn wrong_bytes_never_arrive() {
    let home = Home::with_two_versions();
    let blob = home.blob("two\n");
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).expect("a mode");
    fs::write(&blob, "TWO\n").expect("the blob is spoilt");
    let ran = home.run(&["download", PACKAGE, "2"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(5), ""), "{ran:?}");
    assert!(
        ran.stderr.ends_with("another version may be whole: sacker versions frontend-server\n"),
        "{ran:?}"
    );
    assert_eq!(files(&home.work()), Vec::<std::path::PathBuf>::new());
    assert_eq!(home.run(&["download", PACKAGE, "2", "-o", "-"]).code, Some(5));
    // What was there stays as it was.
    home.file("app.jar", "mine");
    assert_eq!(home.run(&["download", PACKAGE, "2"]).code, Some(5));
    assert_eq!(fs::read_to_string(home.work().join("app.jar")).expect("the file"), "mine");
}

#[test]
fn a_blob_that_is_gone_is_named_with_its_store() {
    let home = Home::with_two_versions();
    fs::remove_file(home.blob("two\n")).expect("it goes");
    let store = format!("file://{}", home.data().join("store").display());
    home.run(&["download", PACKAGE, "2"]).fails(
        3,
        &format!(
            "error: {store} has no blob {}\n\
             hint: is this the store it was added to? --store URI names another; adding the same file again restores it",
            sha256_of("two\n")
        ),
    );
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let home = Home::new();
    home.file("big", vec![7; 4 << 20]);
    home.run(&["add", PACKAGE, "big"]).answer();
    let mut child = home
        .command(&["download", PACKAGE, "1", "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sacker starts");
    let mut reader = BufReader::new(child.stdout.take().expect("it is piped"));
    assert!(!reader.fill_buf().expect("some bytes").is_empty());
    drop(reader);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until `sacker` copies standard input, then interrupts it.
#[tokio::test]
async fn an_interrupt_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let home = Home::new();
        let mut child = home
            .command(&["add", PACKAGE, "-", "--name", "x"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sacker starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(b"some bytes").expect("they are written");
        let arrived =
            async || files(&home.temporary()).iter().any(|path| path.metadata().is_ok_and(|it| it.len() > 0));
        eventually("the copy has begun", Duration::from_secs(20), arrived).await;
        kill_process(Pid::from_child(&child), signal).expect("the signal is sent");
        let output = child.wait_with_output().expect("it ends");
        drop(stdin);
        assert_eq!(output.status.code(), Some(130));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "error: interrupted\n");
        assert_eq!(files(&home.temporary()), Vec::<std::path::PathBuf>::new());
        assert_eq!(home.run(&["list"]).answer(), "");
    }
}

#[test]
fn eight_processes_add_at_once() {
    let home = Home::new();
    home.file("app.jar", "x");
    home.run(&["init"]).answer();
    let children: Vec<_> = (0..8)
        .map(|_| {
            home.command(&["-q", "add", PACKAGE, "app.jar"])
                .stdout(Stdio::piped())
                .spawn()
                .expect("sacker starts")
        })
        .collect();
    let mut numbers: Vec<u32> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().expect("it ends");
            String::from_utf8(output.stdout).expect("UTF-8").trim().parse().expect("a number")
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
}
