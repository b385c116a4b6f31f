//! The oracle itself: each loss that it is there for, made by hand, must be noticed.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::site::Site;
use super::story::{Step, Story};
use crate::support::ledgers::Target;

/// Does this to a ledger on files with three versions and a tag that moved twice, and looks.
#[track_caller]
fn notices(expected: &str, doctor: impl FnOnce(&Site, &Path)) {
    let site = Site::open(Target::File).expect("files are always there");
    let mut story = Story::new(&site);
    story.have_versions(3);
    for version in story.versions() {
        story.have_tag("live", Some(version));
    }
    story.check("before");
    doctor(&site, &site.path("ledger").join(story.package.as_str()));
    let caught = catch_unwind(AssertUnwindSafe(|| story.check("doctored")));
    let message = caught.expect_err("the oracle accepts it");
    let message = message.downcast_ref::<String>().expect("a message");
    assert!(message.contains(expected), "{message}");
}

fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(path).expect("it is there");
    fs::write(path, change(text)).expect("it is changed");
}

fn event(package: &Path, seq: u64) -> PathBuf {
    package.join(format!("history/live/{seq:012}"))
}

#[test]
fn a_lost_version() {
    notices("acknowledged 3 is lost", |_, package| {
        fs::remove_file(package.join("versions/3")).expect("it goes");
    });
}

#[test]
fn two_versions_swapped() {
    notices("is another's", |_, package| {
        let (one, two) = (package.join("versions/1"), package.join("versions/2"));
        let text = fs::read_to_string(&one).expect("it is there");
        fs::copy(&two, &one).expect("swapped");
        fs::write(&two, text).expect("swapped");
    });
}

#[test]
fn a_second_version_of_one_add() {
    notices("nobody added version 4", |_, package| {
        fs::copy(package.join("versions/3"), package.join("versions/4")).expect("it is added");
    });
}

#[test]
fn a_lost_blob() {
    notices("has no blob", |site, _| {
        let mut blobs = fs::read_dir(site.path("store")).expect("there are blobs");
        fs::remove_file(blobs.next().expect("one").expect("an entry").path()).expect("it goes");
    });
}

#[test]
fn a_broken_blob() {
    notices("has a broken blob", |site, _| {
        let mut blobs = fs::read_dir(site.path("store")).expect("there are blobs");
        edit(&blobs.next().expect("one").expect("an entry").path(), |text| text.to_uppercase());
    });
}

#[test]
fn a_lost_event() {
    notices("is broken", |_, package| fs::remove_file(event(package, 2)).expect("it goes"));
}

#[test]
fn an_edited_event() {
    notices("is broken", |_, package| edit(&event(package, 2), |text| text.replace("crasher", "somebody")));
}

#[test]
fn a_pointer_set_back() {
    let old = |package: &Path| fs::read_to_string(event(package, 2)).expect("it is there");
    notices("and its history differ", |_, package| {
        let body = format!("{{\"version\":2,\"event\":{}}}", old(package));
        fs::write(package.join("tags/live"), body).expect("it is set back");
    });
}

#[test]
fn a_move_lost_with_its_event() {
    notices("an acknowledged move is lost", |_, package| {
        let old = fs::read_to_string(event(package, 2)).expect("it is there");
        fs::write(package.join("tags/live"), format!("{{\"version\":2,\"event\":{old}}}")).expect("set back");
        fs::remove_file(event(package, 3)).expect("it goes");
    });
}

#[test]
fn a_move_that_nobody_asked_for() {
    let site = Site::open(Target::File).expect("files are always there");
    let mut story = Story::new(&site);
    story.have_versions(1);
    story.have_tag("live", Some(story.newest()));
    let arguments = ["untag", story.package.as_str(), "live", "--yes"].map(str::to_owned);
    site.run(&arguments);
    let caught = catch_unwind(AssertUnwindSafe(|| story.check("doctored")));
    let message = caught.expect_err("the oracle accepts it");
    assert!(message.downcast_ref::<String>().expect("a message").contains("nobody asked for this"));
}

/// What was not acknowledged may be there once, or not at all.
#[test]
fn an_open_add_is_allowed_once() {
    let site = Site::open(Target::File).expect("files are always there");
    let mut story = Story::new(&site);
    let step = Step::Add(site.new_file(0));
    story.begin(&step);
    story.check("not there");
    let arguments = story.begin(&step);
    site.run(&arguments);
    site.run(&arguments);
    story.check("as often as it was begun");
    site.run(&arguments);
    let caught = catch_unwind(AssertUnwindSafe(|| story.check("doctored")));
    assert!(caught.is_err(), "three versions of two adds");
}
