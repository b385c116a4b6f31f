//! What goes wrong before anything is asked of a backend, and what hostile names do.

use std::fs;

use sacker::model::{PackageName, Spec};

use super::home::{Home, PACKAGE};

#[test]
fn a_broken_configuration_names_file_and_line() {
    let home = Home::new();
    let path = home.path(".sacker.json");
    fs::write(&path, "{\n  \"ledger\": \"s3://abc\",\n  \"lodger\": true\n}\n").expect("a file");
    home.run(&["list"]).fails(
        2,
        &format!(
            "error: cannot use the configuration file '{}': line 3: unknown key 'lodger', expected 'ledger' or 'store'\n\
             hint: see 'sacker help config'",
            path.display()
        ),
    );
}

#[test]
fn the_old_configuration_file_is_used() {
    let home = Home::new();
    let uri = |name: &str| format!("file://{}", home.path(name).display());
    let content = serde_json::json!({"ledger": uri("old-ledger"), "store": uri("old-store")});
    fs::write(home.path(".sacker.json"), content.to_string()).expect("a file");
    let done = home.run(&["init"]).answer().to_owned();
    assert!(
        done.contains("ledger: created directory") && done.contains("store: created directory"),
        "{done}"
    );
    home.file("app.jar", "x");
    assert_eq!(home.run(&["add", PACKAGE, "app.jar"]).answer(), "1\n");
    assert!(home.path("old-ledger/frontend-server").is_dir());
    assert!(!home.data().exists());
    let again = home.run(&["init"]);
    assert_eq!((again.answer(), again.stderr.as_str()), ("", "note: nothing to do: everything is there\n"));
}

#[test]
fn flags_beat_everything_and_a_file_in_the_current_directory_nothing() {
    let home = Home::with_two_versions();
    home.file(".sacker.json", r#"{"ledger": "s3://somebody-elses"}"#);
    home.file("sacker.json", r#"{"ledger": "s3://somebody-elses"}"#);
    assert_eq!(home.run(&["list"]).answer(), "frontend-server\n");
    let elsewhere = format!("file://{}", home.path("elsewhere").display());
    let ran = home.run(&["list", "--ledger", &elsewhere]);
    ran.fails(
        3,
        &format!(
            "error: directory '{0}' does not exist\n\
             hint: if that is its right name, create it with: sacker --ledger file://{0} init",
            home.path("elsewhere").display()
        ),
    );
    // Nor is it taken for a ledger without this package.
    home.run(&["versions", PACKAGE, "--ledger", &elsewhere]).fails(3, ran.stderr.trim_end());
    home.file("app.jar", "x");
    home.run(&["add", PACKAGE, "app.jar", "--ledger", &elsewhere]).fails(
        2,
        "error: no store is configured, only a ledger (by --ledger)\n\
         hint: give --store URI, set SACKER_STORE, or see 'sacker help config'",
    );
    home.run(&["list", "--ledger", "bucket"]).fails(
        2,
        "error: --ledger: 'bucket' is not a ledger or store URI: it must look like 's3://bucket'\n\
             hint: see 'sacker help config'",
    );
}

#[test]
fn without_a_home_nothing_is_guessed() {
    let home = Home::new();
    let output = home.command(&["list"]).env_remove("HOME").output().expect("sacker starts");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(stderr.starts_with("error: no ledger is configured, and without HOME"), "{stderr}");
}

#[test]
fn hostile_names_are_refused_or_not_found() {
    let home = Home::with_two_versions();
    for package in [
        "",
        "/",
        "..",
        "../..",
        "../../etc/passwd",
        "a/../b",
        "a//b",
        "-x",
        "a\nb",
        "a\u{1b}[2Jb",
        "sacker:x",
        "_sacker",
        "tags",
    ] {
        for command in [
            vec!["info", "--", package, "latest"],
            vec!["versions", "--", package],
            vec!["tags", "--", package],
            vec!["history", "--", package],
            vec!["download", "--", package, "1"],
            vec!["untag", "--yes", "--", package, "live"],
            vec!["tag", "--", package, "1", "live"],
        ] {
            let ran = home.run(&command);
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{command:?}: {ran:?}");
            assert!(ran.stderr.contains("is not allowed"), "{command:?}: {ran:?}");
            assert!(!ran.stderr.contains('\u{1b}'), "{command:?}: {ran:?}");
        }
    }
    for spec in ["", "a\nb", "99999999999999999999", "007", "li/ve", "../x"] {
        let ran = home.run(&["info", PACKAGE, spec]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{spec}: {ran:?}");
    }
}

/// Names that a 2015 client wrote and that are not allowed any more can be read.
#[tokio::test]
async fn old_names_stay_readable() {
    let home = Home::with_two_versions();
    let (from, to) = (home.data().join("ledger/frontend-server"), home.data().join("ledger/-old"));
    fs::rename(from, to).expect("the package gets an old name");
    assert_eq!(home.run(&["list"]).answer(), "-old\n");
    assert_eq!(home.run(&["versions", "--", "-old"]).answer(), "1\n2\n");
    assert_eq!(home.run(&["download", "--", "-old", "1"]).answer(), "app.jar\n");
    home.file("x", "x");
    assert_eq!(home.run(&["add", "--", "-old", "x"]).code, Some(2));
    let ledger = home.ledger().await;
    let old = PackageName::existing("-old");
    assert_eq!(ledger.resolve(&old, &Spec::Latest).await.expect("it resolves").record.version.get(), 2);
}

#[test]
fn hostile_records_cannot_drive_the_terminal_or_leave_the_directory() {
    let home = Home::with_two_versions();
    let record = home.data().join("ledger/frontend-server/versions/2");
    let text = fs::read_to_string(&record).expect("the record");
    let hostile = text.replace("app.jar", "../\\u001b[2J\\u009b\\nforged\\tx");
    assert_ne!(text, hostile);
    fs::write(&record, hostile).expect("the record is spoilt");
    for format in [&[][..], &["-o", "table"], &["-o", "json"], &["-o", "yaml"], &["-o", "name"]] {
        for command in [&["info", PACKAGE, "2"][..], &["versions", PACKAGE]] {
            let ran = home.run(&[command, format].concat());
            let obeyed = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
            assert!(!ran.answer().chars().any(obeyed), "{ran:?}");
            assert!(!ran.stdout.lines().any(|line| line.starts_with("forged")), "{ran:?}");
        }
    }
    let ran = home.run(&["download", PACKAGE, "2"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(5), ""), "{ran:?}");
    assert!(!ran.stderr.contains('\u{1b}'), "{ran:?}");
    assert_eq!(home.run(&["download", PACKAGE, "2", "-o", "safe.jar"]).answer(), "safe.jar\n");
}

#[test]
fn a_corrupt_record_is_an_integrity_failure() {
    let home = Home::with_two_versions();
    fs::write(home.data().join("ledger/frontend-server/versions/2"), "{").expect("the record is spoilt");
    let ran = home.run(&["info", PACKAGE, "2"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(5), ""), "{ran:?}");
    assert!(ran.stderr.contains("frontend-server/versions/2"), "the key is named: {ran:?}");
}

#[test]
fn verbose_tells_what_lies_under_an_error() {
    let home = Home::new();
    let quiet = home.run(&["add", PACKAGE, "missing"]);
    assert!(!quiet.stderr.contains("caused by"), "{quiet:?}");
    let verbose = home.run(&["-v", "add", PACKAGE, "missing"]);
    assert_eq!(verbose.code, Some(8));
    assert!(verbose.stderr.contains("  caused by: No such file or directory"), "{verbose:?}");
}
