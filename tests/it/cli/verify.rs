//! `sacker verify`: what is whole passes, and each thing that is not is named.

use std::fs;

use super::home::{Home, PACKAGE, Ran};

/// A home with a package that has a history, and another package.
fn home() -> Home {
    let home = Home::with_two_versions();
    for version in ["1", "2", "1"] {
        home.run(&["tag", PACKAGE, version, "live"]).answer();
    }
    home.file("other", "other");
    home.run(&["add", "other", "other"]).answer();
    home
}

/// The findings of a run that found something.
#[track_caller]
fn findings(ran: &Ran) -> Vec<&str> {
    assert_eq!(ran.code, Some(5), "{ran:?}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let wrong =
        if lines.len() == 1 { "1 thing is".to_owned() } else { format!("{} things are", lines.len()) };
    assert!(ran.stderr.contains(&format!("error: corrupt: {wrong} wrong")), "{ran:?}");
    lines
}

fn ledger_file(home: &Home, key: &str) -> std::path::PathBuf {
    home.data().join("ledger").join(PACKAGE).join(key)
}

fn edit(home: &Home, key: &str, from: &str, to: &str) {
    let path = ledger_file(home, key);
    let text = fs::read_to_string(&path).expect("a record");
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).expect("edited");
}

#[test]
fn what_is_whole_passes() {
    let home = home();
    for (arguments, verified) in [
        (&["verify"][..], "2 packages, 3 versions, 1 tag, 3 events"),
        (&["verify", "--blobs"], "2 packages, 3 versions, 1 tag, 3 events, 3 blobs"),
        (&["verify", PACKAGE], "1 package, 2 versions, 1 tag, 3 events"),
        (&["verify", PACKAGE, "live"], "1 package, 0 versions, 1 tag, 3 events"),
    ] {
        let ran = home.run(arguments);
        assert_eq!(
            (ran.answer(), ran.stderr.as_str()),
            ("", format!("note: verified: {verified}\n").as_str()),
            "{arguments:?}"
        );
    }
    assert_eq!(home.run(&["verify", "nothing-such"]).code, Some(3));
    home.run(&["verify", PACKAGE, "nothing"])
        .fails(3, "error: package 'frontend-server' has no tag 'nothing'\nhint: its tags: live; see: sacker tags frontend-server");
}

#[test]
fn an_edited_or_removed_event_shows() {
    for (key, from, to, why) in [
        ("history/live/000000000001", "tester", "another", "event 2: the digest of the event before it"),
        ("history/live/000000000003", "tester", "another", "its event 3 is another than in the history"),
        ("history/live/000000000002", "\"to\":2", "\"to\":1", "event 3"),
    ] {
        let home = home();
        edit(&home, key, from, to);
        let ran = home.run(&["verify"]);
        let found = findings(&ran);
        assert!(found[0].starts_with("frontend-server\t"), "{ran:?}");
        assert!(found.iter().any(|line| line.contains("tag 'live'") && line.contains(why)), "{ran:?}");
        assert_eq!(home.run(&["verify", "other"]).code, Some(0));
    }
    let home = home();
    fs::remove_file(ledger_file(&home, "history/live/000000000002")).expect("removed");
    let ran = home.run(&["verify", PACKAGE, "live"]);
    assert!(findings(&ran)[0].contains("history of tag 'live'"), "{ran:?}");
}

#[test]
fn a_pointer_that_was_turned_back_shows() {
    let home = home();
    let old = fs::read(ledger_file(&home, "tags/live")).expect("the pointer");
    home.run(&["tag", PACKAGE, "2", "live"]).answer();
    fs::write(ledger_file(&home, "tags/live"), old).expect("turned back");
    let ran = home.run(&["verify"]);
    assert_eq!(
        findings(&ran),
        ["frontend-server\ttag 'live'\tit points where event 3 moved it, but 4 is the last"]
    );
}

#[test]
fn a_tag_without_a_version_shows() {
    let home = home();
    fs::write(ledger_file(&home, "tags/old"), r#"{"version": 9}"#).expect("written");
    let ran = home.run(&["verify"]);
    assert_eq!(findings(&ran), ["frontend-server\ttag 'old'\tit points to version 9, which does not exist"]);
    assert!(ran.stderr.contains("warning: package 'frontend-server', tag 'old': a 2015 client"), "{ran:?}");
}

#[test]
fn a_record_that_cannot_be_read_shows() {
    let home = home();
    fs::write(ledger_file(&home, "versions/2"), "{").expect("broken");
    let ran = home.run(&["verify"]);
    let found = findings(&ran);
    assert!(found[0].contains("frontend-server/versions/2"), "{ran:?}");
    fs::remove_file(ledger_file(&home, "versions/2")).expect("gone");
    fs::rename(ledger_file(&home, "versions/1"), ledger_file(&home, "versions/3")).expect("renamed");
    let ran = home.run(&["verify", PACKAGE]);
    assert!(
        findings(&ran)[0].starts_with("frontend-server\tversion 3\tthe numbers before it have a gap"),
        "{ran:?}"
    );
}

#[test]
fn a_blob_that_is_broken_or_lost_shows() {
    let home = home();
    fs::write(home.blob("one\n"), "eno\n").expect("flipped");
    fs::remove_file(home.blob("other")).expect("lost");
    assert_eq!(home.run(&["verify"]).code, Some(0), "the ledger itself is whole");
    let ran = home.run(&["verify", "--blobs"]);
    let mut found = findings(&ran);
    found.sort_unstable();
    assert!(found[0].starts_with("frontend-server\tversion 1, blob "), "{ran:?}");
    assert!(found[0].contains("\tthe blob's bytes have sha256 "), "{ran:?}");
    assert!(found[1].starts_with("other\tversion 1, blob "), "{ran:?}");
    assert!(found[1].ends_with("\tthe store does not have it"), "{ran:?}");
    fs::write(home.blob("two\n"), "two and more\n").expect("longer");
    let ran = home.run(&["verify", "--blobs"]);
    assert!(
        findings(&ran).iter().any(|line| line.contains("the blob has 13 bytes, 4 were recorded")),
        "{ran:?}"
    );
}
