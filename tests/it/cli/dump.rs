//! `sacker export` and `sacker import` as commands: files, pipes, questions, what they say.

use std::fs;

use super::home::{Home, PACKAGE};

/// A home with two versions, a moved tag and an export of them in `all.jsonl`.
fn exported() -> Home {
    let home = Home::with_two_versions();
    for version in ["1", "2"] {
        home.run(&["tag", PACKAGE, version, "live"]).answer();
    }
    let ran = home.run(&["export", "-o", "all.jsonl"]);
    assert_eq!(ran.answer(), "");
    assert_eq!(ran.stderr, "note: exported: 1 package, 2 versions, 1 tag, 2 events\n");
    home
}

/// A new ledger beside it: its URI.
fn other_ledger(home: &Home, name: &str) -> String {
    let uri = format!("file://{}", home.path(name).display());
    home.run(&["--ledger", &uri, "--store", &uri, "init"]).answer();
    uri
}

#[test]
fn an_export_is_imported_and_exported_again() {
    let home = exported();
    let first = fs::read_to_string(home.work().join("all.jsonl")).expect("the export");
    assert_eq!(home.run(&["export"]).answer(), first);
    assert_eq!(home.run(&["export", PACKAGE, "-o", "-"]).answer(), first);

    let uri = other_ledger(&home, "other");
    let dry = home.run(&["--ledger", &uri, "import", "all.jsonl", "--dry-run"]);
    assert_eq!(dry.answer(), "frontend-server\t2\t1\t2\n");
    assert_eq!(
        dry.stderr, "note: would write 2 of 2 versions and 1 of 1 tag, in 1 of 1 package\n",
        "and nothing was asked"
    );
    assert_eq!(home.run(&["--ledger", &uri, "list"]).answer(), "");
    let done = home.run(&["--ledger", &uri, "import", "all.jsonl"]);
    assert_eq!(done.answer(), "frontend-server\t2\t1\t2\n");
    assert_eq!(home.run(&["--ledger", &uri, "export"]).answer(), first);
    let again = home.run(&["--ledger", &uri, "import", "all.jsonl"]);
    assert_eq!(again.answer(), "", "nothing is missing, so nothing is asked");

    let piped = other_ledger(&home, "piped");
    assert_eq!(
        home.run_with_input(&["--ledger", &piped, "import", "-"], first.as_bytes()).answer(),
        done.answer()
    );
    assert_eq!(home.run(&["--ledger", &piped, "export"]).answer(), first);
    assert!(fs::read_dir(home.temporary()).expect("tmp").next().is_none(), "nothing is left behind");
}

#[test]
fn adding_to_a_package_asks_first() {
    let home = exported();
    let uri = other_ledger(&home, "other");
    home.run(&["--ledger", &uri, "import", "all.jsonl"]).answer();
    home.file("app.jar", "three\n");
    home.run(&["add", PACKAGE, "app.jar"]).answer();
    home.run(&["tag", PACKAGE, "3", "live"]).answer();
    home.run(&["export", "-o", "more.jsonl"]).answer();
    // The hint has the flags: without them it would write into another ledger.
    let refusal = |file: &str| {
        format!(
            "error: import would add to package 'frontend-server', which the ledger has already; it asks first, and \
             here is no terminal to ask on\n\
             hint: if you are sure: sacker --ledger {uri} import {file} --yes"
        )
    };
    home.run(&["--ledger", &uri, "import", "more.jsonl"]).fails(2, &refusal("more.jsonl"));
    let more = fs::read(home.work().join("more.jsonl")).expect("the export");
    home.run_with_input(&["--ledger", &uri, "import", "-"], &more).fails(2, &refusal("-"));
    assert_eq!(
        home.run(&["--ledger", &uri, "import", "more.jsonl", "--yes"]).answer(),
        "frontend-server\t1\t1\t1\n"
    );
    // And never back, with or without a yes.
    home.run(&["--ledger", &uri, "tag", PACKAGE, "1", "live"]).answer();
    let refused = home.run(&["--ledger", &uri, "import", "more.jsonl", "--yes"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(4), ""), "{refused:?}");
    assert!(refused.stderr.contains("tag 'live' of package 'frontend-server'"), "{refused:?}");
    assert!(refused.stderr.contains("hint: an import never overwrites"), "{refused:?}");
}

#[test]
fn what_is_no_whole_export_is_refused() {
    let home = exported();
    let text = fs::read_to_string(home.work().join("all.jsonl")).expect("the export");
    home.file("edited.jsonl", text.replace("tester", "another"));
    home.file("cut.jsonl", &text[..text.len() - 30]);
    home.file("other.jsonl", "{\"a\": 1}\n");
    home.file("empty.jsonl", "");
    let uri = other_ledger(&home, "other");
    for (file, code, message) in [
        ("edited.jsonl", 5, "error: corrupt: the lines before are not what was written"),
        ("cut.jsonl", 5, "error: corrupt: the line was cut off"),
        ("other.jsonl", 2, "error: this is no export of sacker"),
        ("empty.jsonl", 2, "error: this is no export of sacker"),
        ("absent.jsonl", 8, "error: cannot read 'absent.jsonl'"),
        (".", 2, "error: '.' is not a regular file"),
    ] {
        let ran = home.run(&["--ledger", &uri, "import", file, "--yes"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{ran:?}");
        assert!(ran.stderr.starts_with(message), "{ran:?}");
    }
    assert_eq!(home.run(&["--ledger", &uri, "list"]).answer(), "");
}

#[test]
fn a_failed_export_leaves_the_old_file() {
    let home = exported();
    let before = fs::read(home.work().join("all.jsonl")).expect("the export");
    assert_eq!(home.run(&["export", "nothing-such", "-o", "all.jsonl"]).code, Some(3));
    assert_eq!(fs::read(home.work().join("all.jsonl")).expect("the export"), before);
    assert_eq!(fs::read_dir(home.work()).expect("work").count(), 1, "and nothing beside it");
    home.run(&["export", "-o", "/dev/null"])
        .fails(2, "error: '/dev/null' is not a regular file\nhint: name a file, or write to standard output");
    assert_eq!(home.run(&["export", "-o", "no/such/directory"]).code, Some(8));
}
