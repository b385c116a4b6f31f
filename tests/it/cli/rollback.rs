//! `sacker rollback`: back to where the tag was before, held in the same write.

use sacker::error::Meaning;

use super::home::{Home, PACKAGE};

/// Adds versions until there are four, and moves `live` through 1, 2, 3.
fn home() -> Home {
    let home = Home::with_two_versions();
    for content in ["third", "fourth"] {
        let file = home.file(content, content);
        home.run(&["add", PACKAGE, file.to_str().expect("UTF-8")]).answer();
    }
    for version in ["1", "2", "3"] {
        home.run(&["tag", PACKAGE, version, "live"]).answer();
    }
    home
}

fn live(home: &Home) -> String {
    home.run(&["tags", PACKAGE]).answer().to_owned()
}

#[test]
fn it_goes_back_and_holds_and_a_second_one_goes_further_back() {
    let home = home();
    let plan = home.run(&["rollback", PACKAGE, "live", "--dry-run"]);
    assert_eq!(
        plan.stderr,
        "note: would roll tag 'live' of package 'frontend-server' back from version 3 to 2, and hold it\n"
    );
    assert_eq!(live(&home), "live\t3\n");

    let back = home.run(&["rollback", PACKAGE, "live", "--reason", "incident 4711", "-o", "json"]);
    let state = back.json();
    assert_eq!((&state["version"], &state["seq"]), (&2.into(), &4.into()), "one write");
    assert_eq!((&state["hold"]["by"], &state["hold"]["reason"]), (&"tester".into(), &"incident 4711".into()));
    assert!(
        back.stderr.starts_with(
            "note: tag 'live' of package 'frontend-server' was rolled back from version 3 to 2\n"
        ),
        "{back:?}"
    );
    assert!(back.stderr.ends_with("to let it move again: sacker release frontend-server live\n"), "{back:?}");

    // Two people at once: the second does not go back twice.
    let again = home.run(&["rollback", PACKAGE, "live"]);
    assert_eq!(again.code, Some(4), "{again:?}");
    assert!(again.stderr.contains("is held by 'tester'"), "{again:?}");
    assert!(again.stderr.contains("hint: end the hold with: sacker release frontend-server live"));

    home.run(&["release", PACKAGE, "live"]).answer();
    home.run(&["rollback", PACKAGE, "live"]).answer();
    assert_eq!(live(&home), "live\t1\n", "and not forward to 3");
    let history = home.run(&["history", PACKAGE, "live", "-o", "json"]).json();
    assert_eq!(history[5]["hold"]["reason"], "rolled back from version 2 to 1");
    assert_eq!(history[5]["reason"], serde_json::Value::Null);

    home.run(&["release", PACKAGE, "live"]).answer();
    home.run(&["rollback", PACKAGE, "live"]).fails(
        3,
        "error: no earlier version of tag 'live' of package 'frontend-server'\n\
         hint: name a version: sacker rollback frontend-server live --to VERSION; see: sacker versions frontend-server",
    );
}

#[test]
fn a_version_that_was_removed_is_passed_over() {
    let home = home();
    home.run(&["remove", PACKAGE, "2", "--yes"]).answer();
    let back = home.run(&["rollback", PACKAGE, "live"]);
    assert_eq!(back.answer(), "");
    assert!(back.stderr.starts_with("note: version 2 was removed, so further back\n"), "{back:?}");
    assert_eq!(live(&home), "live\t1\n");
}

#[test]
fn a_version_can_be_named_and_a_move_meanwhile_is_noticed() {
    let home = home();
    home.run(&["rollback", PACKAGE, "live", "--if-version", "2"]).fails(
        4,
        "error: tag 'live' of package 'frontend-server': expected version 2, found version 3\n\
         hint: see who moved it with: sacker history frontend-server live",
    );
    home.run(&["rollback", PACKAGE, "live", "--to", "1", "--if-version", "3"]).answer();
    assert_eq!(live(&home), "live\t1\n");
    home.run(&["release", PACKAGE, "live"]).answer();
    // Where it is already: only the hold is new.
    let stays = home.run(&["rollback", PACKAGE, "live", "--to", "1", "--reason", "stay"]);
    assert!(
        stays.stderr.contains("already points to version 1\nnote: it is held there by 'tester'"),
        "{stays:?}"
    );
    for dry in [&[][..], &["--dry-run"]] {
        home.run(&[&["release", PACKAGE, "live"][..], &[]].concat()).answer();
        let missing = home.run(&[&["rollback", PACKAGE, "live", "--to", "9"][..], dry].concat());
        assert_eq!(missing.code, Some(3), "{missing:?}");
        assert!(missing.stderr.contains("has no version 9"), "{missing:?}");
    }
    home.run(&["rollback", PACKAGE, "live", "--to", "back"])
        .fails(2, "error: --to: version 'back' is not a number from 1 to 9223372036854775807");
    home.run(&["rollback", PACKAGE, "liev"])
        .fails(3, "error: package 'frontend-server' has no tag 'liev'\nhint: did you mean 'live'?");
    assert_eq!(home.run(&["rollback", PACKAGE, "latest"]).code, Some(2));
}

#[tokio::test]
async fn a_robots_tag_is_rolled_back_and_stays_the_robots() {
    let home = Home::with_two_versions();
    for version in [1, 2] {
        home.robot_moves(version).await.expect("its own tag");
    }
    // Without a hold it is a move as any other.
    let refused = home.run(&["rollback", PACKAGE, "live", "--no-hold"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("is owned by 'k8s:prod/web/frontend-live'"), "{refused:?}");
    let state = home.run(&["rollback", PACKAGE, "live", "-o", "json"]).json();
    assert_eq!((&state["version"], &state["owner"]), (&1.into(), &"k8s:prod/web/frontend-live".into()));
    assert!(matches!(home.robot_moves(2).await, Err(Meaning::Held(_))));
    home.run(&["release", PACKAGE, "live"]).answer();
    home.robot_moves(2).await.expect("its own tag again");

    let own = self::home();
    let back = own.run(&["rollback", PACKAGE, "live", "--no-hold"]);
    assert_eq!(
        back.stderr,
        "note: tag 'live' of package 'frontend-server' was rolled back from version 3 to 2\n"
    );
}
