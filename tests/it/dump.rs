//! Export and import on real ledgers: export, wipe, import, export gives the same bytes (row R20).

mod place;

use std::io::Write as _;
use std::path::Path;

use futures::TryStreamExt as _;
use rstest::rstest;
use sacker::dump::{self, Entry, Import, PackagePlan, Reader, Totals};
use sacker::error::{Error, Meaning};
use sacker::ledger::{Ledger, Pointer, Restored, TagDump};
use sacker::model::{
    Actor, Change, Claim, EventSource, NewVersion, Numbering, PackageName, Removal, Sha256, Spec, TagChange,
    TagName, Version, verify_chain,
};
use sacker::verify::verify_package;

use place::{Kind, Place};

fn package(name: &str) -> PackageName {
    PackageName::existing(name)
}

fn tag(name: &str) -> TagName {
    TagName::existing(name)
}

fn actor() -> Actor {
    Actor { by: "alice".into(), reason: Some("because".into()), source: EventSource::Cli }
}

async fn add(ledger: &dyn Ledger, package: &PackageName, content: &str) -> Version {
    let new = NewVersion {
        sha256: Sha256::of(content.as_bytes()),
        size: content.len() as u64,
        basename: "app ä.jar".into(),
        mode: 0o100_755,
        metadata: [("commit".to_owned(), format!("c-{content}"))].into(),
        added_by: "ci".into(),
        if_latest: None,
        add_id: uuid::Uuid::new_v4().to_string(),
    };
    ledger.add(package, &new).await.expect("add").version
}

async fn change(ledger: &dyn Ledger, package: &PackageName, name: &str, change: Change) {
    let change = TagChange::new(change, actor());
    ledger.change_tag(package, &tag(name), &change).await.expect("the tag changes");
}

async fn move_to(ledger: &dyn Ledger, package: &PackageName, name: &str, to: Version) {
    change(ledger, package, name, Change::Move { to, hold: None }).await;
}

/// A ledger with everything that can be in one.
async fn fill(place: &Place) {
    let ledger = place.ledger.as_ref();
    let web = package("web/frontend");
    let mut versions = Vec::new();
    for content in ["one", "two", "three", "four"] {
        versions.push(add(ledger, &web, content).await);
    }
    add(ledger, &package("web"), "nested").await;
    for to in &versions[..3] {
        move_to(ledger, &web, "live", *to).await;
    }
    change(ledger, &web, "live", Change::Hold { reason: "freeze".into() }).await;
    let owner = Claim::Owner("k8s:prod/web/canary".into());
    let owned = TagChange::new(Change::Move { to: versions[1], hold: None }, actor()).claiming(owner);
    ledger.change_tag(&web, &tag("canary"), &owned).await.expect("owned");
    move_to(ledger, &web, "gone", versions[0]).await;
    change(ledger, &web, "gone", Change::Untag).await;
    move_to(ledger, &web, "again", versions[0]).await;
    change(ledger, &web, "again", Change::Untag).await;
    move_to(ledger, &web, "again", versions[2]).await;
    let at = "2026-11-21T10:00:00.123Z".parse().expect("a time");
    let removal = Removal { at, by: "bob".into(), reason: Some("contains a key".into()) };
    ledger.remove_version(&web, versions[3], &removal).await.expect("removed");
    // A 2015 client beside us: over our pointer, and away with it.
    for name in ["overwritten", "deleted"] {
        move_to(ledger, &web, name, versions[0]).await;
    }
    place.old_tag("web/frontend", "overwritten", Some(versions[1].get())).await;
    place.old_untag("web/frontend", "deleted").await;
    // And one that was there before us.
    let first = place.old_number();
    for number in [first, first + 1] {
        place.old_version("elder", number).await;
    }
    place.old_tag("elder", "live", Some(first)).await;
    place.old_tag("elder", "42", Some(first + 1)).await;
    place.old_tag("elder", "dangling", Some(first + 9)).await;
    place.old_tag("elder", "word", None).await;
}

async fn export(ledger: &dyn Ledger) -> String {
    let mut bytes = Vec::new();
    dump::export(ledger, None, &mut bytes, &|_| {}).await.expect("export");
    String::from_utf8(bytes).expect("UTF-8")
}

fn import_of(text: &str) -> Import {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    Import::new(tokio::fs::File::from_std(file), "the-file")
}

/// All three passes, as the command does them.
async fn import(ledger: &dyn Ledger, text: &str) -> Result<(Vec<PackagePlan>, Totals), Error> {
    let mut import = import_of(text);
    import.check(ledger.numbering().await?, &|_| {}).await?;
    let plans = import.plan(ledger, &|_| {}).await?;
    let mut written = Totals::default();
    let told = |plan: &PackagePlan| {
        written = written + plan.missing;
        Ok(())
    };
    import.write::<Error>(ledger, &plans, &|_| {}, told).await?;
    Ok((plans, written))
}

async fn packages(ledger: &dyn Ledger) -> Vec<PackageName> {
    let mut packages: Vec<PackageName> = ledger.packages().try_collect().await.expect("packages");
    packages.sort();
    packages
}

/// Row R20: the same bytes, numbers and histories, on the same kind of ledger and across kinds.
#[rstest]
#[case::file(Kind::File, Kind::File)]
#[case::dynamo(Kind::Dynamo, Kind::Dynamo)]
#[case::s3(Kind::Minio, Kind::Minio)]
#[case::s3_sequence(Kind::MinioSequence, Kind::MinioSequence)]
#[case::file_to_dynamo(Kind::File, Kind::Dynamo)]
#[case::dynamo_to_file(Kind::Dynamo, Kind::File)]
#[case::file_to_s3_sequence(Kind::File, Kind::MinioSequence)]
#[case::file_to_zookeeper(Kind::File, Kind::ZooKeeper)]
#[tokio::test]
async fn an_export_comes_back_as_it_was(#[case] from: Kind, #[case] to: Kind) {
    let (Some(source), Some(target)) = (Place::new(from).await, Place::new(to).await) else { return };
    fill(&source).await;
    let (old, new) = (source.ledger.as_ref(), target.ledger.as_ref());
    let first = export(old).await;
    assert_eq!(export(old).await, first, "an export is stable");

    let (plans, written) = import(new, &first).await.expect("import");
    assert_eq!(plans.iter().map(|plan| plan.is_there).collect::<Vec<_>>(), [false; 3]);
    assert_eq!((written.packages, written.versions), (3, 7));
    assert_eq!(export(new).await, first);

    let names = packages(old).await;
    assert_eq!(packages(new).await, names);
    for name in &names {
        assert_eq!(new.versions(name).await.expect("there"), old.versions(name).await.expect("here"));
        assert_eq!(new.tags(name).await.expect("there"), old.tags(name).await.expect("here"));
        assert_eq!(new.latest(name).await.expect("there"), old.latest(name).await.expect("here"));
        for tag in old.tags_ever(name).await.expect("tags") {
            let events = new.history(name, &tag).await.expect("there");
            verify_chain(&events).expect("one chain");
            assert_eq!(events, old.history(name, &tag).await.expect("here"), "{tag}");
        }
        let wrong = |findings: Vec<sacker::verify::Finding>| {
            findings.into_iter().filter(|found| found.is_wrong).map(|found| found.key).collect::<Vec<_>>()
        };
        let expected = if name.as_str() == "elder" { vec!["tag 'dangling'".to_owned()] } else { Vec::new() };
        assert_eq!(wrong(verify_package(new, name, None).await.expect("verify").findings), expected);
    }
    target.check_hint("web/frontend", new.latest(&names[2]).await.expect("latest").version).await;

    // Repeating it does no harm and writes nothing.
    let (plans, written) = import(new, &first).await.expect("again");
    assert_eq!((plans, written), (Vec::new(), Totals::default()));
    assert_eq!(export(new).await, first);

    // Life goes on: numbers, histories, and what a 2015 client left behind.
    let web = package("web/frontend");
    let added = add(new, &web, "five").await;
    assert!(new.versions(&web).await.expect("versions").iter().all(|record| record.version <= added));
    for name in ["overwritten", "deleted", "gone"] {
        let before = new.history(&web, &tag(name)).await.expect("history").len();
        move_to(new, &web, name, added).await;
        let events = new.history(&web, &tag(name)).await.expect("history");
        assert!(events.len() > before, "{name}");
        verify_chain(&events).expect("one chain");
    }
    let held = TagChange::new(Change::Move { to: added, hold: None }, actor());
    let refused = new.change_tag(&web, &tag("live"), &held).await.expect_err("it is held");
    assert!(matches!(refused.meaning(), Meaning::Held(_)), "{refused:?}");
    // An older export says nothing new, and does not turn anything back.
    let refused = import(new, &first).await.expect_err("the tags moved on");
    assert!(matches!(refused.meaning(), Meaning::Conflict { .. }), "{refused:?}");
}

#[rstest]
#[case::file(Kind::File)]
#[case::dynamo(Kind::Dynamo)]
#[tokio::test]
async fn milliseconds_are_no_sequence(#[case] to: Kind) {
    let (Some(source), Some(target)) = (Place::new(Kind::Minio).await, Place::new(to).await) else { return };
    add(source.ledger.as_ref(), &package("web"), "one").await;
    let text = export(source.ledger.as_ref()).await;
    assert!(text.starts_with(r#"{"format":"sacker-export","revision":1,"versions":"timestamp"}"#));
    let refused = import(target.ledger.as_ref(), &text).await.expect_err("it would destroy the sequence");
    assert!(matches!(refused.meaning(), Meaning::Invalid { .. }), "{refused:?}");
    assert!(refused.hint().is_some_and(|hint| hint.contains("s3://")), "{refused:?}");
    assert_eq!(packages(target.ledger.as_ref()).await, []);
}

#[tokio::test]
async fn a_sequence_may_go_into_a_ledger_of_milliseconds() {
    let (Some(source), Some(target)) = (Place::new(Kind::File).await, Place::new(Kind::Minio).await) else {
        return;
    };
    let (old, new, web) = (source.ledger.as_ref(), target.ledger.as_ref(), package("web"));
    for content in ["one", "two"] {
        let version = add(old, &web, content).await;
        move_to(old, &web, "live", version).await;
    }
    let text = export(old).await;
    import(new, &text).await.expect("import");
    assert_eq!(new.versions(&web).await.expect("there"), old.versions(&web).await.expect("here"));
    let header = |text: &str| text.split_once('\n').expect("lines").0.to_owned();
    assert_ne!(header(&export(new).await), header(&text), "it says how the ledger numbers");
    let added = add(new, &web, "three").await;
    assert!(added.get() > 1_000_000_000_000, "{added}");
    assert_eq!(new.latest(&web).await.expect("latest").version, added);
}

/// A version line and its package, to be put into an export by hand.
async fn with_gap(ledger: &dyn Ledger) -> String {
    let text = export(ledger).await;
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains(r#""version":2,"sha256""#)).collect();
    resealed(&lines[..lines.len() - 1])
}

/// These lines with a last line that fits.
fn resealed(lines: &[&str]) -> String {
    let body: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    let count = |kind: &str| lines.iter().filter(|line| line.starts_with(kind)).count();
    let sha256 = Sha256::of(body.as_bytes());
    let end = format!(
        r#"{{"end":{{"packages":1,"versions":{},"tags":{},"events":{},"sha256":"{sha256}"}}}}"#,
        count(r#"{"version""#),
        count(r#"{"tag""#),
        count(r#"{"event""#),
    );
    format!("{body}{end}\n")
}

#[tokio::test]
async fn a_sequence_with_a_gap_is_refused() {
    let source = Place::new(Kind::File).await.expect("a directory");
    for content in ["one", "two", "three"] {
        add(source.ledger.as_ref(), &package("web"), content).await;
    }
    let text = with_gap(source.ledger.as_ref()).await;
    let target = Place::new(Kind::File).await.expect("a directory");
    let refused = import(target.ledger.as_ref(), &text).await.expect_err("a gap");
    assert!(refused.to_string().contains("version 3 after version 1"), "{refused}");
    import_of(&text).check(Numbering::Timestamp, &|_| {}).await.expect("no sequence, no gap");
}

async fn read_all(text: &[u8]) -> Result<Totals, Error> {
    let mut reader = Reader::open(text, "the-file").await?;
    while reader.next().await?.is_some() {}
    Ok(reader.totals())
}

#[tokio::test]
async fn a_damaged_file_is_refused_before_anything_is_written() {
    let source = Place::new(Kind::File).await.expect("a directory");
    fill(&source).await;
    let text = export(source.ledger.as_ref()).await;
    let whole = read_all(text.as_bytes()).await.expect("it is whole");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    assert_eq!(whole.versions + whole.tags + whole.events + 2, lines.len() as u64);

    let refused = async |bytes: &[u8], what: &str| {
        assert!(read_all(bytes).await.is_err(), "{what}");
    };
    for at in 0..lines.len() {
        let without: String =
            lines.iter().enumerate().filter(|(line, _)| *line != at).map(|(_, line)| *line).collect();
        refused(without.as_bytes(), &format!("without line {at}")).await;
        refused(lines[..at].concat().as_bytes(), &format!("cut off before line {at}")).await;
        let twice = [&lines[..=at], &lines[at..]].concat().concat();
        refused(twice.as_bytes(), &format!("line {at} twice")).await;
    }
    for at in (0..text.len()).step_by(3) {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        refused(&bytes, &format!("byte {at} changed")).await;
        refused(&bytes[..at], &format!("cut off at byte {at}")).await;
    }
    let long = format!("{}{}\n", lines[0], " ".repeat(dump::LINE_MAX + 1));
    let error = read_all(long.as_bytes()).await.expect_err("a long line");
    assert!(error.to_string().contains("too long"), "{error}");

    // The order that lines are in is checked too, not only the digest.
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("\"elder\"")).collect();
    let header = text.lines().next().expect("a header");
    let fitting = resealed(&[&[header], lines.as_slice()].concat());
    read_all(fitting.as_bytes()).await.expect("in order");
    let mut swapped = lines.clone();
    swapped.swap(0, 1);
    let error = read_all(resealed(&[&[header], swapped.as_slice()].concat()).as_bytes()).await;
    assert!(error.expect_err("not in order").to_string().contains("not in order"));

    let target = Place::new(Kind::File).await.expect("a directory");
    let cut = &text[..text.len() - 20];
    let error = import(target.ledger.as_ref(), cut).await.expect_err("cut off");
    assert!(matches!(error.meaning(), Meaning::Corrupt { .. }), "{error:?}");
    assert_eq!(packages(target.ledger.as_ref()).await, []);
}

#[rstest]
#[case::file(Kind::File)]
#[case::dynamo(Kind::Dynamo)]
#[case::s3(Kind::MinioSequence)]
#[tokio::test]
async fn a_conflict_is_found_before_anything_is_written(#[case] kind: Kind) {
    let (Some(source), Some(target)) = (Place::new(Kind::File).await, Place::new(kind).await) else { return };
    let (old, new) = (source.ledger.as_ref(), target.ledger.as_ref());
    let (early, web) = (package("early"), package("web"));
    add(old, &early, "one").await;
    let one = add(old, &web, "one").await;
    move_to(old, &web, "live", one).await;
    let text = export(old).await;
    add(new, &web, "another one").await;
    let refused = import(new, &text).await.expect_err("another record");
    assert!(matches!(refused.meaning(), Meaning::Conflict { .. }), "{refused:?}");
    assert_eq!(packages(new).await, std::slice::from_ref(&web), "nothing was written");

    // The ledger itself refuses as well, whatever was looked at before.
    let mut reader = Reader::open(text.as_bytes(), "the-file").await.expect("open");
    let mut conflicts = 0;
    while let Some(entry) = reader.next().await.expect("next") {
        if *entry.package() == web {
            let outcome = match entry {
                Entry::Version(record) => new.restore_version(&record).await,
                Entry::Tag(package, dump) => {
                    move_to(new, &package, "live", one).await;
                    new.restore_tag(&package, &dump).await
                }
            };
            assert!(matches!(outcome.expect_err("taken").meaning(), Meaning::Conflict { .. }));
            conflicts += 1;
        }
    }
    assert_eq!(conflicts, 2);
}

/// Copies the files of a ledger that an import would have written first.
fn copy_first(from: &Path, to: &Path, keys: &[String]) {
    for key in keys {
        let target = to.join(key);
        std::fs::create_dir_all(target.parent().expect("a parent")).expect("directories");
        std::fs::copy(from.join(key), target).expect("copied");
    }
}

#[tokio::test]
async fn an_interrupted_import_goes_on() {
    let source = Place::new(Kind::File).await.expect("a directory");
    let (old, web) = (source.ledger.as_ref(), package("web"));
    for content in ["one", "two", "three"] {
        let version = add(old, &web, content).await;
        move_to(old, &web, "live", version).await;
    }
    move_to(old, &web, "gone", Version::FIRST).await;
    change(old, &web, "gone", Change::Untag).await;
    let text = export(old).await;
    let whole = Place::new(Kind::File).await.expect("a directory");
    import(whole.ledger.as_ref(), &text).await.expect("import");
    let keys: Vec<String> = [
        "web/versions/1",
        "web/versions/2",
        "web/versions/3",
        "web/history/gone/000000000001",
        "web/history/gone/000000000002",
        "web/tags/gone",
        "web/history/live/000000000001",
        "web/history/live/000000000002",
        "web/history/live/000000000003",
        "web/tags/live",
        "web/tags/latest",
    ]
    .map(str::to_owned)
    .to_vec();
    for done in 0..=keys.len() {
        let target = Place::new(Kind::File).await.expect("a directory");
        copy_first(whole.path(), target.path(), &keys[..done]);
        import(target.ledger.as_ref(), &text).await.unwrap_or_else(|error| panic!("after {done}: {error}"));
        assert_eq!(export(target.ledger.as_ref()).await, text, "after {done}");
    }
}

/// Names that a file could name and no ledger may get.
#[rstest]
#[case::file(Kind::File)]
#[case::dynamo(Kind::Dynamo)]
#[tokio::test]
async fn hostile_names_are_refused(#[case] kind: Kind) {
    let Some(target) = Place::new(kind).await else { return };
    let source = Place::new(Kind::File).await.expect("a directory");
    add(source.ledger.as_ref(), &package("web"), "one").await;
    let record = source.ledger.latest(&package("web")).await.expect("latest");
    let names: &[&str] = match kind {
        Kind::Dynamo => &["sacker:history:web", ""],
        _ => &["../outside", "a/../../b", "_sacker/x", "a/versions/b", "a//b", "/absolute", ""],
    };
    for name in names {
        let mut record = record.clone();
        record.package = package(name);
        let refused = target.ledger.restore_version(&record).await.expect_err(name);
        assert!(matches!(refused.meaning(), Meaning::Invalid { .. }), "{name}: {refused:?}");
    }
    for name in ["latest", ""] {
        let dump = TagDump { tag: tag(name), pointer: Pointer::Legacy(Some(Version::FIRST)), events: vec![] };
        let refused = target.ledger.restore_tag(&package("web"), &dump).await.expect_err(name);
        assert!(matches!(refused.meaning(), Meaning::Invalid { .. }), "{name}: {refused:?}");
    }
    assert_eq!(target.ledger.restore_version(&record).await.expect("a good one"), Restored::Written);
    assert_eq!(target.ledger.restore_version(&record).await.expect("again"), Restored::AlreadyThere);
    let resolved = target.ledger.resolve(&package("web"), &Spec::Latest).await.expect("there");
    assert_eq!(resolved.record, record);
}
