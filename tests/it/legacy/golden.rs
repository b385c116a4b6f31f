//! Records exactly as the client of 2015 left them (`fixtures/`), read by every reader of ours, and written beside.

use std::process::{Command, Stdio};

use futures::TryStreamExt as _;

use super::*;

/// A ledger with the golden records. Its package is `frontend`, with two versions: the first and the second.
async fn golden(bed: Bed) -> (Bed, Version, Version) {
    let text =
        if bed.is_dynamo() { include_str!("fixtures/dynamo.json") } else { include_str!("fixtures/s3.json") };
    let fixtures: Vec<serde_json::Value> = serde_json::from_str(text).expect("the fixtures are JSON");
    for fixture in &fixtures {
        bed.peer.write_fixture(fixture).await;
    }
    let (one, two) = if bed.is_dynamo() { (1, 2) } else { (1_433_116_800_000, 1_433_116_900_000) };
    (Bed { package: PackageName::existing("frontend"), ..bed }, version(one), version(two))
}

pub(super) async fn records_are_read(bed: Bed) {
    let (bed, one, two) = golden(bed).await;
    let records = bed.ledger.versions(&bed.package).await.expect("they are listed");
    assert_eq!(records.iter().map(|record| record.version).collect::<Vec<_>>(), [one, two]);
    let expected = BTreeMap::from([("build".to_owned(), "7".to_owned()), ("commit".into(), "abc".into())]);
    assert_eq!((&records[0].metadata, records[0].mode), (&expected, 0o100_644));
    assert_eq!((&records[1].metadata, records[1].mode), (&BTreeMap::new(), 0o100_755));
    assert_eq!(records[1].basename, "two words.jar");
    for (record, content) in records.iter().zip(["one", "two"]) {
        assert_eq!(record.sha256, Sha256::of(content.as_bytes()));
        assert_eq!(&bed.ledger.version(&bed.package, record.version).await.expect("alone"), record);
        let name = record.version.to_string();
        assert_eq!(&bed.resolve(&name).await.expect("resolved"), record);
        assert_eq!(bed.peer.info("frontend", &name).await.expect("by their own client").sha, sha(content));
    }
    assert_eq!(bed.ledger.latest(&bed.package).await.expect("latest"), records[1]);
    let newest = bed.ledger.newest(&bed.package, 1).await.expect("newest");
    assert_eq!((newest.records.as_slice(), newest.version_count), (&records[1..], 2));
}

pub(super) async fn tags_are_read(bed: Bed) {
    let (bed, one, two) = golden(bed).await;
    let tags = bed.ledger.tags(&bed.package).await.expect("tags");
    let read: BTreeMap<&str, Option<Version>> =
        tags.iter().map(|state| (state.tag.as_str(), state.version)).collect();
    let gone = version(if bed.is_dynamo() { 9 } else { 1_433_110_000_000 });
    let expected = BTreeMap::from([
        ("42", Some(one)),
        ("canary", Some(two)),
        ("gone", Some(gone)),
        ("live", Some(one)),
        ("with space", Some(one)),
        ("word", None),
    ]);
    assert_eq!(read, expected);
    for (name, found) in
        [("live", Some(one)), ("canary", Some(two)), ("with space", Some(one)), ("word", None)]
    {
        assert_eq!(bed.resolve(name).await.ok().map(|record| record.version), found, "{name}");
        assert_eq!(bed.told(name).await, [], "{name}");
    }
    let view = bed.ledger.view(&bed.package).await.expect("the view");
    assert_eq!((view.version_count, view.latest.map(|record| record.version)), (2, Some(two)));
    assert_eq!(view.tags.len(), 6);
    assert_eq!(view.tags.iter().filter(|tag| tag.record.is_some()).count(), 4);
}

pub(super) async fn odd_tags_can_be_removed(bed: Bed) {
    let (bed, ..) = golden(bed).await;
    for name in ["42", "gone", "with space", "word"] {
        bed.untag(name).await;
        assert_eq!(bed.points_to(name).await, None, "{name}");
        assert_eq!(bed.events(name).await.last().and_then(|event| event.to), None, "{name}");
    }
    assert_eq!(bed.ledger.tags(&bed.package).await.expect("tags").len(), 2);
}

/// Names with `/`, also those that break the key layout: `a/versions/b` is a package, and does not disturb `a`.
pub(super) async fn odd_names_are_packages(bed: Bed) {
    let (bed, ..) = golden(bed).await;
    for (name, content) in [("cluster/role/env/job", "job"), ("a", "a"), ("a/versions/b", "b")] {
        let package = PackageName::existing(name);
        let records = bed.ledger.versions(&package).await.expect(name);
        assert_eq!(records.len(), 1, "{name}");
        assert_eq!(records[0].sha256, Sha256::of(content.as_bytes()), "{name}");
        assert_eq!(bed.ledger.latest(&package).await.expect(name), records[0]);
    }
    let mut packages: Vec<PackageName> = bed.ledger.packages().try_collect().await.expect("they are listed");
    packages.sort();
    let names: Vec<&str> = packages.iter().map(PackageName::as_str).collect();
    // On S3 only the whole walk finds it, which also looks below every package's versions.
    let listed = ["a", "a/versions/b", "cluster/role/env/job", "frontend"];
    let listed = listed.into_iter().filter(|name| bed.is_dynamo() || *name != "a/versions/b");
    assert!(names.iter().copied().eq(listed), "{names:?}");
    let mut all: Vec<PackageName> = bed.ledger.all_packages().try_collect().await.expect("they are listed");
    all.retain(|package| package.as_str() != "a/tags");
    all.sort();
    let names: Vec<&str> = all.iter().map(PackageName::as_str).collect();
    assert_eq!(
        names,
        ["a", "a/versions/b", "cluster/role/env/job", "frontend"],
        "nothing is missed by a collection"
    );
    let error = bed.ledger.add(&PackageName::existing("a/versions/b"), &new_version("new", &[])).await;
    assert!(error.is_err(), "the name breaks a rule for new writes");
    let added = bed.ledger.add(&PackageName::existing("a"), &new_version("new", &[])).await.expect("added");
    assert_eq!(bed.peer.latest("a").await, Ok(added.version.get()));
}

pub(super) async fn the_command_line_shows_them(bed: Bed) {
    let (bed, one, two) = golden(bed).await;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sacker"));
        command.args(["--ledger", &bed.uri.to_string()]).args(arguments).env_clear().stdin(Stdio::null());
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            command.env(name, bed.connect.environment.get(name).unwrap_or_default());
        }
        let output = command.env("AWS_EC2_METADATA_DISABLED", "true").output().expect("sacker starts");
        let answer = String::from_utf8(output.stdout).expect("answers are text");
        (output.status.code(), answer, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let answer = |arguments: &[&str]| {
        let (code, answer, errors) = run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {errors}");
        answer
    };
    assert!(answer(&["list"]).lines().any(|line| line == "frontend"));
    assert_eq!(answer(&["versions", "frontend"]), format!("{one}\n{two}\n"));
    let tags = answer(&["tags", "frontend"]);
    assert!(tags.contains(&format!("live\t{one}\n")) && tags.contains(&format!("42\t{one}\n")), "{tags}");
    let info: serde_json::Value =
        serde_json::from_str(&answer(&["info", "frontend", "live", "-o", "json"])).expect("JSON");
    assert_eq!((&info["sha256"], &info["metadata"]["commit"]), (&sha("one").into(), &"abc".into()), "{info}");
    assert_eq!(answer(&["history", "frontend", "live"]), "");
    assert_eq!(run(&["info", "frontend", "word"]).0, Some(3));
    assert_eq!(run(&["info", "frontend", "gone"]).0, Some(3));
    answer(&["tag", "frontend", &two.to_string(), "live"]);
    assert_eq!(answer(&["history", "frontend", "live"]).lines().count(), 2);
    assert_eq!(bed.peer.info("frontend", "live").await.expect("it resolves").sha, sha("two"));
    answer(&["untag", "frontend", "42", "--yes"]);
}

/// Our writes leave theirs as they were, byte for byte.
pub(super) async fn they_can_be_written_beside(bed: Bed) {
    let (bed, one, two) = golden(bed).await;
    let before = [bed.peer.info("frontend", "live").await, bed.peer.info("frontend", "canary").await];
    let ours = bed.add("three").await;
    assert!(ours > two);
    bed.tag("fresh", ours).await;
    let after = [bed.peer.info("frontend", "live").await, bed.peer.info("frontend", "canary").await];
    assert_eq!(before, after);
    assert!(before.iter().all(Result::is_ok), "{before:?}");
    let tags = bed.peer.tags("frontend").await.expect("tags");
    assert_eq!((tags["live"].as_str(), tags["fresh"].as_str()), (&*one.to_string(), &*ours.to_string()));
    assert_eq!(bed.peer.latest("frontend").await, Ok(ours.get()));
}
