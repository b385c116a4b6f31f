//! `sacker diff`: what a promotion would change, forward and back.

use super::home::{Home, PACKAGE};

fn home() -> Home {
    let home = Home::new();
    for (content, commit) in [("one\n", "aaa"), ("two, longer\n", "bbb"), ("three\n", "bbb")] {
        home.file("app.jar", content);
        home.run(&["add", PACKAGE, "app.jar", "--meta", &format!("commit={commit}")]).answer();
    }
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    home.run(&["tag", PACKAGE, "3", "canary"]).answer();
    home
}

#[test]
fn only_what_differs_is_printed() {
    let home = home();
    let ran = home.run(&["diff", PACKAGE, "live", "canary"]);
    let fields: Vec<Vec<&str>> = ran.answer().lines().map(|line| line.split('\t').collect()).collect();
    let of = |name: &str| fields.iter().find(|field| field[0] == name).map(|field| (field[1], field[2]));
    assert_eq!(of("version"), Some(("1", "3")));
    assert_eq!(of("size"), Some(("4", "6")));
    assert_eq!(of("tags"), Some(("live", "canary")));
    assert_eq!(of("metadata.commit"), Some(("aaa", "bbb")));
    assert_eq!((of("basename"), of("mode"), of("added_by"), of("package")), (None, None, None, None));
    assert_eq!(ran.stderr, "note: from live to canary is 2 versions forward\n");
    assert_eq!(home.run(&["-q", "diff", PACKAGE, "live", "canary"]).stderr, "");

    let same = home.run(&["diff", PACKAGE, "3", "canary"]);
    assert_eq!((same.answer(), same.stderr.as_str()), ("", "note: 3 and canary are the same version\n"));
    let back = home.run(&["diff", PACKAGE, "canary", "2"]);
    assert_eq!((back.code, back.stderr.as_str()), (Some(0), "note: from canary to 2 is 1 version back\n"));
    let names = home.run(&["diff", PACKAGE, "2", "3", "-o", "name"]);
    assert_eq!(names.answer(), "version\nsha256\nsize\ntags\nadded_at\n");
}

#[test]
fn the_document_has_both_versions_and_the_step() {
    let home = home();
    let document = home.run(&["diff", PACKAGE, "live", "latest", "-o", "json"]).json();
    assert_eq!(document["direction"], "forward");
    assert_eq!(document["versions"], serde_json::json!([2, 3]));
    assert_eq!((&document["from"]["version"], &document["to"]["version"]), (&1.into(), &3.into()));
    let info = home.run(&["info", PACKAGE, "live", "-o", "json"]).json();
    assert_eq!(document["from"], info);
    let changed = document["changed"].as_array().expect("a list");
    assert!(
        changed.contains(&serde_json::json!({ "field": "version", "from": "1", "to": "3" })),
        "{document:#}"
    );
    home.run(&["remove", PACKAGE, "2", "--yes"]).answer();
    let document = home.run(&["diff", PACKAGE, "latest", "live", "-o", "json"]).json();
    assert_eq!((&document["direction"], &document["versions"]), (&"back".into(), &serde_json::json!([3])));
}

#[test]
fn a_spec_that_is_not_there_is_named() {
    home()
        .run(&["diff", PACKAGE, "live", "canry"])
        .fails(3, "error: package 'frontend-server' has no tag 'canry'\nhint: did you mean 'canary'?");
}
