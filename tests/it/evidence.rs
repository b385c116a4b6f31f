//! `docs/track-record.md` names the tests that carry its claims: each of them exists, and no row of the decision table is
//! without.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn track_record() -> String {
    fs::read_to_string(root().join("docs/track-record.md")).expect("the track record")
}

/// Every Rust file below a directory.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory").filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names of all functions and modules of the product and its tests.
fn defined() -> BTreeSet<String> {
    let mut files = Vec::new();
    for directory in ["src", "tests"] {
        sources(&root().join(directory), &mut files);
    }
    let mut names = BTreeSet::new();
    for file in files {
        for line in fs::read_to_string(file).expect("a source").lines() {
            let mut words = line.split_whitespace().skip_while(|word| !["fn", "mod"].contains(word)).skip(1);
            if let Some(word) = words.next() {
                let end = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
                names.insert(word[..end].to_owned());
            }
        }
    }
    names
}

#[test]
fn every_test_that_the_track_record_names_exists() {
    let names = defined();
    let record = track_record();
    let quoted = record.split('`').skip(1).step_by(2);
    let paths: Vec<&str> = quoted.filter(|quoted| quoted.contains("::")).collect();
    assert!(paths.len() > 40, "{paths:?}");
    let missing: Vec<_> =
        paths.iter().filter(|path| !path.split("::").all(|part| names.contains(part))).collect();
    assert!(missing.is_empty(), "docs/track-record.md names what does not exist: {missing:#?}");
}

#[test]
fn every_row_of_the_decision_table_has_its_tests() {
    let units = fs::read_to_string(root().join("src/controller/tag/tests.rs")).expect("the unit tests");
    let reference = fs::read_to_string(root().join("docs/api/sackertag.md")).expect("the reference");
    let record = track_record();
    for row in 1..=15 {
        let cell = format!("| {row} | ");
        assert!(reference.contains(&cell), "docs/api/sackertag.md does not have row {row}");
        assert!(units.contains(&format!("\"row {row} ")), "row {row} has no unit test");
        let table = record.split_once("### The decision table").expect("the table").1;
        let line = table.lines().find(|line| line.starts_with(&cell));
        assert!(
            line.is_some_and(|line| line.contains("`operator::")),
            "row {row} has no test on an API server"
        );
    }
}
