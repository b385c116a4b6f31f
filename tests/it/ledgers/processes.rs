//! Eight real processes add to one package at the same time, on every target.

use std::collections::BTreeSet;
use std::process::Command;

use sacker::model::{Numbering, PackageName};

use crate::support::ledgers::Target;
use crate::support::process::Folder;
use crate::support::unique;

const PROCESSES: usize = 8;
const ADDS: usize = 50;

/// One process at a time per writer, each adding a file of its own: what eight CI jobs do.
fn writer(
    target_uri: &str,
    access: &[(String, String)],
    home: &std::path::Path,
    package: &str,
    writer: usize,
) -> Vec<i64> {
    let mut versions = Vec::new();
    for round in 0..ADDS {
        let file = home.join(format!("{writer}-{round}.jar"));
        std::fs::write(&file, format!("bytes of {writer} {round}")).expect("a file");
        let output = Command::new(env!("CARGO_BIN_EXE_sacker"))
            .env_clear()
            .env("HOME", home)
            .envs(access.iter().cloned())
            .args(["--quiet", "--ledger", target_uri, "--store", &format!("file://{}/store", home.display())])
            .args(["add", package])
            .arg(&file)
            .output()
            .expect("sacker runs");
        let answer = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        versions.push(
            answer
                .strip_suffix('\n')
                .and_then(|line| line.parse().ok())
                .unwrap_or_else(|| panic!("only a number: '{answer}'")),
        );
    }
    versions
}

fn eight_processes_add_fifty_each(target: Target) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let Some(opened) = runtime.block_on(target.open()) else { return };
    let home = Folder::new("processes");
    std::fs::create_dir(home.path().join("store")).expect("a store");
    let package = unique("processes");
    let uri = opened.uri.to_string();
    let access: Vec<(String, String)> = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), opened.connect.environment.get(name)?.to_owned())))
        .collect();
    let acknowledged: Vec<Vec<i64>> = std::thread::scope(|scope| {
        let start = |index| {
            let (uri, access, package) = (&uri, &access, &package);
            let home = home.path();
            scope.spawn(move || writer(uri, access, home, package, index))
        };
        let writers: Vec<_> = (0..PROCESSES).map(start).collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer")).collect()
    });
    for versions in &acknowledged {
        assert!(versions.is_sorted_by(|a, b| a < b), "the versions of one writer increase: {versions:?}");
    }
    let acknowledged: BTreeSet<i64> = acknowledged.into_iter().flatten().collect();
    assert_eq!(acknowledged.len(), PROCESSES * ADDS, "no number was given twice");
    let package = PackageName::new(package).expect("an allowed name");
    let records = runtime.block_on(opened.ledger.versions(&package)).expect("versions");
    let listed: BTreeSet<i64> = records.iter().map(|record| record.version.get()).collect();
    assert_eq!(listed, acknowledged, "what was acknowledged is there, and nothing else");
    let digests: BTreeSet<_> = records.iter().map(|record| record.sha256).collect();
    assert_eq!(digests.len(), PROCESSES * ADDS, "each version has the bytes of its own add");
    if opened.numbering == Numbering::Sequence {
        assert!(listed.into_iter().eq((1..).take(PROCESSES * ADDS)), "without a gap");
    }
}

#[test]
fn file() {
    eight_processes_add_fifty_each(Target::File);
}

#[test]
fn dynamo() {
    eight_processes_add_fifty_each(Target::Dynamo);
}

#[test]
fn minio() {
    eight_processes_add_fifty_each(Target::Minio);
}

#[test]
fn versitygw() {
    eight_processes_add_fifty_each(Target::Versitygw);
}
