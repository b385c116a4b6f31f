//! Tags: moving, guarding, taking over, holding, removing, and what the history says of it.

use sacker::error::Meaning;

use super::home::{Home, PACKAGE};

fn live(home: &Home) -> String {
    home.run(&["info", PACKAGE, "live", "-o", "json"]).json()["version"].to_string()
}

#[test]
fn a_tag_is_moved_and_moved_again() {
    let home = Home::with_two_versions();
    let notes = |arguments: &[&str]| {
        let ran = home.run(arguments);
        assert_eq!(ran.answer(), "");
        ran.stderr
    };
    let tag = "note: tag 'live' of package 'frontend-server'";
    assert_eq!(notes(&["tag", PACKAGE, "1", "live"]), format!("{tag} now points to version 1\n"));
    assert_eq!(notes(&["tag", PACKAGE, "1", "live"]), format!("{tag} already points to version 1\n"));
    assert_eq!(notes(&["tag", PACKAGE, "latest", "live"]), format!("{tag} moved from version 1 to 2\n"));
    assert_eq!(live(&home), "2");
    let moved = home.run(&["tag", PACKAGE, "1", "live", "-o", "json"]).json();
    assert_eq!((&moved["version"], &moved["seq"]), (&1.into(), &3.into()));
}

/// The 2015 client stored the word that was typed.
#[test]
fn a_word_is_never_stored_as_a_version() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "latest", "canary"]).answer();
    home.run(&["tag", PACKAGE, "canary", "live"]).answer();
    assert_eq!(home.run(&["tags", PACKAGE]).answer(), "canary\t2\nlive\t2\n");
    let pointer =
        std::fs::read_to_string(home.data().join("ledger/frontend-server/tags/live")).expect("a pointer");
    let pointer: serde_json::Value = serde_json::from_str(&pointer).expect("JSON");
    assert_eq!(pointer["version"], 2);
}

#[test]
fn a_tag_needs_a_version_that_exists() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "7", "live"]).fails(
        3,
        "error: package 'frontend-server' has no version 7\n\
         hint: its newest versions: 2, 1; see: sacker versions frontend-server",
    );
    home.run(&["tag", PACKAGE, "lvie", "canary"]).fails(
        3,
        "error: package 'frontend-server' has no tag 'lvie'\n\
         hint: it has no tags; set one with: sacker tag frontend-server latest lvie",
    );
    assert_eq!(home.run(&["tags", PACKAGE]).answer(), "");
}

#[test]
fn swapped_arguments_are_recognised() {
    Home::with_two_versions().run(&["tag", PACKAGE, "live", "2"]).fails(
        2,
        "error: tag '2' is not allowed: it reads as a version number\n\
         hint: the version comes first: sacker tag frontend-server 2 live",
    );
}

#[test]
fn reserved_names_are_refused() {
    let home = Home::with_two_versions();
    for tag in ["latest", "Latest", "v2", "-x", "a/b", ""] {
        let ran = home.run(&["tag", PACKAGE, "1", "--", tag]);
        assert_eq!(ran.code, Some(2), "{tag}: {ran:?}");
    }
    home.run(&["tag", PACKAGE, "1", "latest"]).fails(
        2,
        "error: tag 'latest' is not allowed: 'latest' is reserved: it always is the newest version\n\
         hint: choose a tag of your own, such as: sacker tag frontend-server 1 live",
    );
}

#[test]
fn latest_is_no_tag_that_could_be_held_or_removed() {
    let home = Home::with_two_versions();
    for command in [
        &["untag", PACKAGE, "latest", "--yes"][..],
        &["hold", PACKAGE, "latest", "--reason", "x"],
        &["release", PACKAGE, "latest"],
        &["disown", PACKAGE, "latest", "--yes"],
        &["history", PACKAGE, "latest"],
    ] {
        home.run(command).fails(2, "error: 'latest' is not a stored tag: it always is the newest version");
    }
    assert_eq!(home.run(&["history", PACKAGE]).answer(), "");
    home.file("app.jar", "three\n");
    home.run(&["add", PACKAGE, "app.jar"]).answer();
    assert_eq!(home.run(&["info", PACKAGE, "latest", "-o", "json"]).json()["version"], 3);
}

#[test]
fn a_version_that_is_no_plain_number_is_explained() {
    let home = Home::with_two_versions();
    for (typed, version) in [("v2", "2"), ("002", "2")] {
        home.run(&["info", PACKAGE, typed]).fails(
            2,
            &format!(
                "error: tag '{typed}' is not allowed: it reads as a version number\n\
                 hint: versions are plain numbers: {version}"
            ),
        );
    }
}

#[test]
fn compare_and_swap() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    home.run(&["tag", PACKAGE, "2", "live", "--if-version", "2"]).fails(
        4,
        "error: tag 'live' of package 'frontend-server': expected version 2, found version 1\n\
         hint: see who moved it with: sacker history frontend-server live",
    );
    home.run(&["tag", PACKAGE, "2", "live", "--if-version", "1"]).answer();
    assert_eq!(live(&home), "2");
    home.run(&["tag", PACKAGE, "1", "live", "--if-version", "one"])
        .fails(2, &format!("error: --if-version: version 'one' is not a number from 1 to {}", i64::MAX));
}

#[test]
fn a_dry_run_decides_and_changes_nothing() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    let ran = home.run(&["tag", PACKAGE, "2", "live", "--dry-run"]);
    assert_eq!(ran.answer(), "");
    assert_eq!(
        ran.stderr,
        "note: would point tag 'live' of package 'frontend-server' to version 2; it points to version 1\n"
    );
    assert_eq!(home.run(&["tag", PACKAGE, "2", "live", "--dry-run", "--if-version", "2"]).code, Some(4));
    assert_eq!(home.run(&["tag", PACKAGE, "3", "live", "--dry-run"]).code, Some(3));
    home.run(&["hold", PACKAGE, "live", "--reason", "freeze"]).answer();
    assert_eq!(home.run(&["tag", PACKAGE, "2", "live", "--dry-run"]).code, Some(4));
    assert_eq!(live(&home), "1");
    assert_eq!(home.run(&["history", PACKAGE, "live"]).answer().lines().count(), 2);
}

#[tokio::test]
async fn somebody_elses_tag_is_left_alone_unless_taken_over() {
    let home = Home::with_two_versions();
    home.robot_moves(1).await.expect("the robot moves it");
    let refused = "error: tag 'live' of package 'frontend-server' is owned by 'k8s:prod/web/frontend-live'\n\
                   hint: change the SackerTag that owns it: kubectl -n web edit sackertag frontend-live\n\
                   hint: or, to go back and let nobody move it forward again: sacker rollback frontend-server live\n\
                   hint: or add --take-over: the owner then leaves the tag to you";
    home.run(&["tag", PACKAGE, "2", "live"]).fails(4, refused);
    home.run(&["untag", PACKAGE, "live", "--yes"]).fails(4, refused);
    let taken = home.run(&["tag", PACKAGE, "2", "live", "--take-over"]);
    assert_eq!(taken.answer(), "");
    assert!(
        taken
            .stderr
            .ends_with("note: it is yours now; to hand it back: sacker disown frontend-server live\n"),
        "{taken:?}"
    );
    let owner = home.run(&["tags", PACKAGE, "-o", "json"]).json()[0]["owner"].clone();
    assert_eq!(owner, "cli:tester");
    // The robot now finds an owner that is not itself, and other people are not kept out.
    assert!(matches!(home.robot_moves(1).await, Err(Meaning::Owned { .. })));
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    home.run(&["untag", PACKAGE, "live", "--yes"]).answer();
    home.robot_moves(2).await.expect("nobody owns a tag that was removed");
}

#[tokio::test]
async fn a_tag_that_was_taken_over_is_handed_back() {
    let home = Home::with_two_versions();
    home.robot_moves(1).await.expect("the robot moves it");
    home.run(&["tag", PACKAGE, "2", "live", "--take-over"]).answer();
    home.run(&["disown", PACKAGE, "live"]).fails(
        2,
        "error: disown asks first, and here is no terminal to ask on\n\
         hint: if you are sure: sacker disown frontend-server live --yes",
    );
    let disowned = home.run(&["disown", PACKAGE, "live", "--yes", "--reason", "over", "-o", "json"]);
    assert!(disowned.stderr.contains("'cli:tester' had it"), "{disowned:?}");
    let tag = disowned.json();
    assert_eq!((&tag["version"], &tag["owner"]), (&2.into(), &serde_json::Value::Null));
    let again = home.run(&["disown", PACKAGE, "live", "--yes"]);
    assert_eq!(
        (again.answer(), again.stderr.as_str()),
        ("", "note: tag 'live' of package 'frontend-server' has no owner\n")
    );
    home.robot_moves(1).await.expect("the robot has it again");
    // Also what a robot owns that does not run any more.
    home.run(&["disown", PACKAGE, "live", "--yes"]).answer();
    assert!(home.run(&["tags", PACKAGE, "-o", "json"]).json()[0]["owner"].is_null());
    let history = home.run(&["history", PACKAGE, "live"]).answer().to_owned();
    let kinds: Vec<_> = history.lines().filter_map(|line| line.split('\t').nth(3)).collect();
    assert_eq!(kinds, ["move", "move", "disown", "move", "disown"]);
}

#[test]
fn a_hold_that_is_replaced_is_named() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    home.run(&["hold", PACKAGE, "live", "--reason", "incident 4711"]).answer();
    let again = home.run(&["hold", PACKAGE, "live", "--reason", "freeze"]);
    assert!(again.stderr.contains("note: this replaces the hold by 'tester' since 2"), "{again:?}");
    assert!(again.stderr.ends_with(": incident 4711\n"), "{again:?}");
}

#[test]
fn the_history_of_a_package_has_its_removed_tags() {
    let home = Home::with_two_versions();
    let empty = home.run(&["history", PACKAGE]);
    assert_eq!(empty.answer(), "");
    assert!(empty.stderr.starts_with("note: no tag of package 'frontend-server'"), "{empty:?}");
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    home.run(&["tag", PACKAGE, "1", "canary"]).answer();
    home.run(&["untag", PACKAGE, "live", "--yes"]).answer();
    let history = home.run(&["history", PACKAGE]).answer().to_owned();
    let rows: Vec<_> = history.lines().map(|line| line.split('\t').collect::<Vec<_>>()).collect();
    let named: Vec<_> = rows.iter().map(|row| [row[0], row[3]].join(" ")).collect();
    assert_eq!(named, ["live move", "canary move", "live untag"]);
}

#[test]
fn a_held_tag_stays() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    let held = home.run(&["hold", PACKAGE, "live", "--reason", "incident 4711", "-o", "json"]).json();
    assert_eq!((&held["hold"]["by"], &held["hold"]["reason"]), (&"tester".into(), &"incident 4711".into()));
    for arguments in [&["tag", PACKAGE, "2", "live"][..], &["untag", PACKAGE, "live", "--yes"]] {
        let ran = home.run(arguments);
        assert_eq!(ran.code, Some(4), "{ran:?}");
        assert!(
            ran.stderr
                .starts_with("error: tag 'live' of package 'frontend-server' is held by 'tester' since 2")
        );
        assert!(
            ran.stderr
                .ends_with(": incident 4711\nhint: end the hold with: sacker release frontend-server live\n")
        );
    }
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    home.run(&["release", PACKAGE, "live", "--reason", "over"]).answer();
    assert!(home.run(&["release", PACKAGE, "live"]).stderr.ends_with("was not held\n"));
    home.run(&["tag", PACKAGE, "2", "live"]).answer();
    let kinds: Vec<_> = home
        .run(&["history", PACKAGE, "live"])
        .answer()
        .lines()
        .map(|line| line.split('\t').nth(3).expect("a kind").to_owned())
        .collect();
    assert_eq!(kinds, ["move", "hold", "release", "move"]);
    home.run(&["hold", PACKAGE, "live", "--reason", " "])
        .fails(2, "error: a hold needs a reason: whoever is stopped by it will read it");
}

#[test]
fn what_is_not_there_is_named() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    for verb in [
        &["hold", "--reason", "x"][..],
        &["release"],
        &["untag", "--yes"],
        &["disown", "--yes"],
        &["history"],
    ] {
        let command = [&verb[..1], &[PACKAGE, "liev"], &verb[1..]].concat();
        home.run(&command)
            .fails(3, "error: package 'frontend-server' has no tag 'liev'\nhint: did you mean 'live'?");
        let command = [&verb[..1], &["frontend-sever", "live"], &verb[1..]].concat();
        let ran = home.run(&command);
        assert_eq!(ran.code, Some(3), "{ran:?}");
        assert!(ran.stderr.starts_with("error: no package 'frontend-sever' in file://"), "{ran:?}");
        assert!(ran.stderr.ends_with("hint: did you mean 'frontend-server'?\n"), "{ran:?}");
    }
}

#[test]
fn a_tag_is_removed_only_when_that_is_sure() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    home.run(&["untag", PACKAGE, "live"]).fails(
        2,
        "error: untag asks first, and here is no terminal to ask on\nhint: if you are sure: sacker untag frontend-server live --yes",
    );
    home.run(&["untag", PACKAGE, "live", "--yes", "--reason", "not used"]).answer();
    assert_eq!(home.run(&["tags", PACKAGE]).answer(), "");
    assert_eq!(home.run(&["info", PACKAGE, "live"]).code, Some(3));
    // The history survives, and goes on when the tag is set again.
    home.run(&["tag", PACKAGE, "2", "live"]).answer();
    let history = home.run(&["history", PACKAGE, "live"]).answer().to_owned();
    let rows: Vec<Vec<_>> = history.lines().map(|line| line.split('\t').collect()).collect();
    let of = |row: &[&str]| [row[1], row[3], row[4], row[5], row[8]].join(" ");
    assert_eq!(of(&rows[0]), "1 move - 1 -");
    assert_eq!(of(&rows[1]), "2 untag 1 - not used");
    assert_eq!(of(&rows[2]), "3 move - 2 -");
}

#[test]
fn an_edited_history_is_shown_and_reported() {
    let home = Home::with_two_versions();
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    home.run(&["tag", PACKAGE, "2", "live"]).answer();
    let first = home.data().join("ledger/frontend-server/history/live/000000000001");
    let text = std::fs::read_to_string(&first).expect("the archived event");
    assert!(text.contains("tester"));
    std::fs::write(&first, text.replace("tester", "nobody")).expect("it is edited");
    let ran = home.run(&["history", PACKAGE, "live"]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(5), 2), "{ran:?}");
    assert!(ran.stderr.contains("event 2: the digest of the event before it does not match"), "{ran:?}");
}

#[test]
fn who_acts_comes_from_the_environment() {
    let home = Home::with_two_versions().with("SACKER_USER", "").with("GITHUB_ACTOR", "octo");
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    assert_eq!(home.run(&["tags", PACKAGE, "-o", "json"]).json()[0]["changed_by"], "octo");
}

/// What the 2015 client's `tag pkg latest live` left behind can be seen, and cleaned up.
#[test]
fn a_word_from_2015_can_be_removed_or_overwritten() {
    let home = Home::with_two_versions();
    let spoil = || {
        let tags = home.data().join("ledger/frontend-server/tags");
        std::fs::create_dir_all(&tags).expect("a directory");
        std::fs::write(tags.join("live"), r#"{"version": "latest"}"#).expect("a pointer");
    };
    spoil();
    assert_eq!(home.run(&["tags", PACKAGE]).answer(), "live\t-\n");
    assert!(home.run(&["tags", PACKAGE, "-o", "json"]).json()[0]["version"].is_null());
    assert_eq!(home.run(&["download", PACKAGE, "live"]).code, Some(3));
    home.run(&["untag", PACKAGE, "live", "--yes"]).answer();
    assert_eq!(home.run(&["tags", PACKAGE]).answer(), "");
    spoil();
    home.run(&["tag", PACKAGE, "2", "live"]).answer();
    assert_eq!(home.run(&["tags", PACKAGE]).answer(), "live\t2\n");
}
