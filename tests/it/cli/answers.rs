//! The forms of an answer: what scripts read is a contract.

use std::process::Stdio;

use serde_json::json;

use super::home::{Home, PACKAGE};

#[test]
fn plain_lines() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "1", "live", "--reason", "the first release"]).answer();
    home.run(&["tag", PACKAGE, "2", "canary"]).answer();
    assert_eq!(home.run(&["list"]).answer(), "frontend-server\n");
    assert_eq!(home.run(&["versions", PACKAGE]).answer(), "1\n2\n");
    assert_eq!(home.run(&["tags", PACKAGE]).answer(), "canary\t2\nlive\t1\n");
    let history = home.run(&["history", PACKAGE, "live"]).answer().to_owned();
    let columns: Vec<_> = history.trim_end().split('\t').collect();
    assert_eq!(columns.len(), 9, "{history}");
    assert_eq!(
        [&columns[..2], &columns[3..]].concat(),
        ["live", "1", "move", "-", "1", "tester", "cli", "the first release"]
    );
    let info = home.run(&["info", PACKAGE, "live"]).answer().to_owned();
    let keys: Vec<_> = info.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(
        keys,
        [
            "package", "version", "sha256", "size", "basename", "mode", "tags", "added_at", "added_by",
            "pinned"
        ]
    );
    assert!(info.contains("basename\tapp.jar\n") && info.contains("size\t4\n"), "{info}");
}

#[test]
fn names() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    assert_eq!(home.run(&["list", "-o", "name"]).answer(), "frontend-server\n");
    assert_eq!(home.run(&["versions", PACKAGE, "-o", "name"]).answer(), "1\n2\n");
    assert_eq!(home.run(&["tags", PACKAGE, "-o", "name"]).answer(), "live\n");
    let pinned = home.run(&["info", PACKAGE, "live", "-o", "name"]).answer().to_owned();
    let spec: sacker::model::PinnedSpec = pinned.trim_end().parse().expect("a pinned spec");
    assert_eq!((spec.package.as_str(), spec.version.get()), (PACKAGE, 1));
}

#[test]
fn documents_have_every_key() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "2", "live"]).answer();

    assert_eq!(home.run(&["list", "-o", "json"]).json(), json!([{"package": PACKAGE}]));

    let mut info = home.run(&["info", PACKAGE, "live", "-o", "json"]).json();
    assert!(info["add_id"].is_string() && info["added_at"].is_string());
    (info["add_id"], info["added_at"]) = (json!(""), json!(""));
    let sha256 = "27dd8ed44a83ff94d557f9fd0412ed5a8cbca69ea04922d88c01184a07300a5a";
    assert_eq!(
        info,
        json!({
            "package": PACKAGE,
            "version": 2,
            "sha256": sha256,
            "size": 4,
            "basename": "app.jar",
            "mode": info["mode"],
            "metadata": {},
            "added_at": "",
            "added_by": "tester",
            "add_id": "",
            "tags": ["live"],
            "removed": null,
            "pinned": format!("{PACKAGE}@2+sha256:{sha256}"),
        })
    );
    assert_eq!(info["mode"].as_u64().expect("a number") & 0o170_000, 0o100_000, "a whole st_mode");

    let versions = home.run(&["versions", PACKAGE, "-o", "json"]).json();
    let numbers: Vec<_> =
        versions.as_array().expect("a list").iter().map(|item| item["version"].clone()).collect();
    assert_eq!(numbers, [json!(1), json!(2)]);
    assert_eq!((&versions[0]["tags"], &versions[1]["tags"]), (&json!([]), &json!(["live"])));

    let tags = home.run(&["tags", PACKAGE, "-o", "json"]).json();
    assert!(tags[0]["changed_at"].is_string());
    assert_eq!(
        tags,
        json!([{
            "package": PACKAGE, "tag": "live", "version": 2, "seq": 1, "owner": null, "hold": null,
            "changed_at": tags[0]["changed_at"], "changed_by": "tester",
        }])
    );

    let history = home.run(&["history", PACKAGE, "-o", "json"]).json();
    assert!(history[0]["at"].is_string() && history[0]["id"].is_string());
    assert_eq!(
        history,
        json!([{
            "package": PACKAGE, "tag": "live", "seq": 1, "at": history[0]["at"], "kind": "move", "from": null, "to": 2,
            "by": "tester", "source": "cli", "reason": null, "owner": null, "hold": null, "id": history[0]["id"],
            "prev": null,
        }])
    );
}

#[test]
fn yaml_says_the_same_as_json() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "2", "live"]).answer();
    for arguments in [
        vec!["info", PACKAGE, "live"],
        vec!["versions", PACKAGE],
        vec!["tags", PACKAGE],
        vec!["history", PACKAGE],
    ] {
        let json = home.run(&[&arguments[..], &["-o", "json"]].concat()).json();
        let yaml = home.run(&[&arguments[..], &["-o", "yaml"]].concat());
        let yaml: serde_json::Value = serde_saphyr::from_str(yaml.answer()).expect("YAML");
        assert_eq!(yaml, json, "{arguments:?}");
    }
}

#[test]
fn a_table_has_a_header_and_no_trailing_blanks() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "2", "live"]).answer();
    let table = home.run(&["versions", PACKAGE, "-o", "table"]).answer().to_owned();
    assert!(table.starts_with("VERSION   TAGS   SIZE   SHA256         ADDED"), "{table}");
    assert_eq!(table.lines().count(), 3);
    assert!(table.lines().all(|line| line == line.trim_end()), "{table}");
    assert!(!table.contains('\u{1b}'), "no colour in a pipe");
    let colored = home.run(&["versions", PACKAGE, "-o", "table", "--color", "always"]).answer().to_owned();
    assert!(colored.starts_with("\u{1b}[1mVERSION"), "{colored}");
}

#[test]
fn colour_follows_the_variables_and_the_flag() {
    let colored = |home: &Home, flags: &[&str]| {
        let ran = home.run(&[&["info", PACKAGE, "live"], flags].concat());
        ran.stderr.contains('\u{1b}')
    };
    let home = Home::new();
    assert!(!colored(&home, &[]));
    assert!(colored(&home, &["--color", "always"]));
    let forced = Home::new().with("CLICOLOR_FORCE", "1");
    assert!(colored(&forced, &[]));
    assert!(!colored(&forced, &["--color", "never"]));
    let refused = Home::new().with("NO_COLOR", "1").with("CLICOLOR_FORCE", "1");
    assert!(!colored(&refused, &[]));
}

#[test]
fn notes_can_be_silenced_and_answers_cannot() {
    let home = Home::with_two_versions();
    let told = home.run(&["tag", PACKAGE, "1", "live"]);
    assert_eq!(
        (told.answer(), told.stderr.as_str()),
        ("", "note: tag 'live' of package 'frontend-server' now points to version 1\n")
    );
    let quiet = home.command(&["-q", "tag", PACKAGE, "2", "live"]).output().expect("sacker starts");
    assert!(quiet.status.success() && quiet.stderr.is_empty() && quiet.stdout.is_empty());
    let quiet = home.command(&["versions", PACKAGE, "-q"]).output().expect("sacker starts");
    assert_eq!((quiet.stdout.as_slice(), quiet.stderr.as_slice()), (b"1\n2\n".as_slice(), b"".as_slice()));
}

#[test]
fn the_local_default_is_noted_once() {
    let home = Home::with_two_versions();
    let output = home.command(&["list"]).output().expect("sacker starts");
    let note = format!("note: no ledger or store is configured; using '{}'\n", home.data().display());
    assert_eq!(String::from_utf8(output.stderr).expect("UTF-8"), note);
}

#[test]
fn an_empty_ledger_lists_nothing() {
    let home = Home::new();
    assert_eq!(home.run(&["list"]).answer(), "");
    assert_eq!(home.run(&["list", "-o", "json"]).json(), json!([]));
    assert!(!home.data().exists(), "a question creates nothing");
}

#[test]
fn lists_can_be_narrowed() {
    let home = Home::new();
    home.file("x", "x");
    for package in ["web/app", "web/api/v2", "webhook", "batch"] {
        home.run(&["add", package, "x"]).answer();
    }
    let list = |pattern: &str| {
        let mut lines: Vec<_> = home.run(&["list", pattern]).answer().lines().map(str::to_owned).collect();
        lines.sort();
        lines.join(" ")
    };
    assert_eq!(list("web"), "web/api/v2 web/app webhook");
    assert_eq!(list("web/"), "web/api/v2 web/app");
    assert_eq!(list("web/*"), "web/app");
    assert_eq!(list("web/**"), "web/api/v2 web/app");
    assert_eq!(list("nothing"), "");
}

/// `sacker list | head -1`, with more names than a pipe holds.
#[test]
fn a_reader_may_stop_early() {
    let home = Home::new();
    home.file("x", "x");
    for number in 0..40 {
        home.run(&["add", &format!("{}/{number}", "p".repeat(250)), "x"]).answer();
    }
    let mut child = home.command(&["-q", "list"]).stdout(Stdio::piped()).spawn().expect("sacker starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let script = format!("set -o pipefail; '{}' list | head -1", env!("CARGO_BIN_EXE_sacker"));
    let mut bash = std::process::Command::new("bash");
    let piped = bash.args(["-c", &script]).env("HOME", home.path("")).output().expect("bash starts");
    assert_eq!((piped.status.code(), piped.stdout.split(|byte| *byte == b'\n').count()), (Some(0), 2));
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let home = Home::with_two_versions();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let output = home.command(&["versions", PACKAGE]).stdout(full).output().expect("sacker starts");
    assert_eq!(output.status.code(), Some(8));
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(stderr.contains("error: cannot write to standard output: no space left on device"), "{stderr}");
}
