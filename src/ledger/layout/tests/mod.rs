//! What the 2015 client leaves behind, and what happens when a writer dies half way: written raw, read through the
//! ledger.

mod blind;
mod faults;
mod views;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::error::{Error, Meaning};
use crate::ledger::{MemoryObjects, Precondition};
use crate::model::{
    Actor, Change, EventKind, EventSource, Expected, FileLocation, Numbering, Sha256, verify_chain,
};

fn ledger(numbering: Numbering) -> ObjectLedger<MemoryObjects> {
    let uri = LedgerUri::File(FileLocation::at("/memory"));
    ObjectLedger::new(uri, MemoryObjects::new(numbering), Connect::default())
}

async fn write(ledger: &ObjectLedger<MemoryObjects>, key: &str, text: &str) {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    ledger.objects.put(key, bytes, Precondition::None, &BTreeMap::new()).await.expect("write");
}

async fn text(ledger: &ObjectLedger<MemoryObjects>, key: &str) -> String {
    let object = ledger.objects.get(key).await.expect("read").expect("there");
    String::from_utf8(object.bytes.to_vec()).expect("text")
}

fn package() -> PackageName {
    PackageName::new("cluster/role/env/job").expect("an allowed name")
}

fn live() -> TagName {
    TagName::new("live").expect("an allowed tag")
}

fn version(number: i64) -> Version {
    Version::new(number).expect("positive")
}

/// A bucket as the 2015 client leaves it: two versions, `latest` and a tag set by its `tag` command.
async fn bucket_of_2015() -> ObjectLedger<MemoryObjects> {
    let ledger = ledger(Numbering::Timestamp);
    let sha = Sha256::of(b"x");
    for version in ["1795223159828", "1795223160000"] {
        let body = format!("{{\"sha\": \"{sha}\", \"basename\": \"app.jar\", \"mode\": 33188}}");
        let metadata = BTreeMap::from([("commit".to_owned(), "abc".to_owned())]);
        let key = format!("cluster/role/env/job/versions/{version}");
        ledger.objects.put(&key, body.into(), Precondition::Absent, &metadata).await.expect("write");
    }
    write(&ledger, "cluster/role/env/job/tags/latest", "{\"version\": 1795223159828}").await;
    write(&ledger, "cluster/role/env/job/tags/live", "{\"version\": \"1795223159828\"}").await;
    ledger
}

fn change(change: Change) -> TagChange {
    TagChange::new(change, Actor { by: "alice".into(), reason: None, source: EventSource::Cli })
}

fn moving(to: Version) -> TagChange {
    change(Change::Move { to, hold: None })
}

#[tokio::test]
async fn old_records_are_read_with_their_metadata() {
    let ledger = bucket_of_2015().await;
    let records = ledger.versions(&package()).await.expect("versions");
    assert_eq!(records.len(), 2);
    assert_eq!(
        (records[0].basename.as_str(), records[0].mode, records[0].size),
        ("app.jar", 0o100_644, None)
    );
    assert_eq!(records[0].metadata, BTreeMap::from([("commit".to_owned(), "abc".to_owned())]));
    let latest = ledger.latest(&package()).await.expect("latest");
    assert_eq!(latest.version, version(1_795_223_160_000), "the hint lags, the listing does not");
}

#[tokio::test]
async fn a_tag_that_is_text_is_read_and_then_written_as_a_number() {
    let ledger = bucket_of_2015().await;
    let (old, new) = (version(1_795_223_159_828), version(1_795_223_160_000));
    let tags = ledger.tags(&package()).await.expect("tags");
    assert_eq!((tags.len(), tags[0].version, tags[0].seq()), (1, Some(old), 0));
    let outcome =
        ledger.change_tag(&package(), &live(), &moving(new).expecting(Expected::Seq(0))).await.expect("move");
    assert_eq!(outcome.previous, Some(old));
    assert!(text(&ledger, "cluster/role/env/job/tags/live").await.starts_with("{\"version\":1795223160000,"));
    let events = ledger.history(&package(), &live()).await.expect("history");
    verify_chain(&events).expect("one chain");
    let story: Vec<_> = events.iter().map(|event| (event.kind, event.source, event.to)).collect();
    assert_eq!(
        story,
        [(EventKind::Adopt, EventSource::Legacy, Some(old)), (EventKind::Move, EventSource::Cli, Some(new))]
    );
}

#[tokio::test]
async fn what_cannot_hold_leaves_no_trace_on_an_old_tag() {
    let ledger = bucket_of_2015().await;
    let before = text(&ledger, "cluster/role/env/job/tags/live").await;
    for expected in [Expected::Seq(3), Expected::Version(version(7))] {
        let wanted = moving(version(1_795_223_160_000)).expecting(expected);
        let error = ledger.change_tag(&package(), &live(), &wanted).await.expect_err("it cannot hold");
        assert!(matches!(error.meaning(), Meaning::Conflict { .. }), "{error}");
    }
    assert_eq!(text(&ledger, "cluster/role/env/job/tags/live").await, before);
}

#[tokio::test]
async fn a_blind_overwrite_and_a_delete_keep_hold_and_history() {
    let ledger = bucket_of_2015().await;
    let (old, new) = (version(1_795_223_159_828), version(1_795_223_160_000));
    ledger.change_tag(&package(), &live(), &moving(new)).await.expect("move");
    let hold = change(Change::Hold { reason: "incident".into() });
    ledger.change_tag(&package(), &live(), &hold).await.expect("hold");
    write(&ledger, "cluster/role/env/job/tags/live", &format!("{{\"version\": {old}}}")).await;
    let error = ledger.change_tag(&package(), &live(), &moving(new)).await.expect_err("held");
    assert!(matches!(error.meaning(), Meaning::Held(_)), "{error}");
    let events = ledger.history(&package(), &live()).await.expect("history");
    verify_chain(&events).expect("one chain");
    assert_eq!(events.last().map(|event| (event.kind, event.to)), Some((EventKind::Adopt, Some(old))));
}

#[tokio::test]
async fn a_word_for_a_version_can_be_listed_and_removed() {
    let ledger = bucket_of_2015().await;
    write(&ledger, "cluster/role/env/job/tags/word", "{\"version\": \"latest\"}").await;
    write(&ledger, "cluster/role/env/job/tags/42", "{\"version\": 1795223159828}").await;
    let names: Vec<String> =
        ledger.tags(&package()).await.expect("tags").iter().map(|state| state.tag.to_string()).collect();
    assert_eq!(names, ["42", "live", "word"]);
    for tag in ["word", "42"] {
        ledger.change_tag(&package(), &TagName::existing(tag), &change(Change::Untag)).await.expect("untag");
    }
    assert_eq!(ledger.tags(&package()).await.expect("tags").len(), 1);
}

#[tokio::test]
async fn a_foolish_hint_changes_nothing() {
    for hint in ["{\"version\": 9999999999999}", "{\"version\": \"live\"}", "not json", "{\"version\": 1}"] {
        let ledger = bucket_of_2015().await;
        write(&ledger, "cluster/role/env/job/tags/latest", hint).await;
        assert_eq!(
            ledger.latest(&package()).await.expect(hint).version,
            version(1_795_223_160_000),
            "{hint}"
        );
        let sequence = self::ledger(Numbering::Sequence);
        let new = NewVersion {
            sha256: Sha256::of(b"x"),
            size: 1,
            basename: "x".into(),
            mode: 0o100_644,
            metadata: BTreeMap::new(),
            added_by: "ci".into(),
            if_latest: None,
            add_id: "1".into(),
        };
        for number in 1..=5 {
            write(&sequence, "cluster/role/env/job/tags/latest", hint).await;
            assert_eq!(sequence.add(&package(), &new).await.expect(hint).version, version(number));
        }
    }
}

#[tokio::test]
async fn an_event_whose_writer_died_before_archiving_it_is_archived_by_the_next() {
    let ledger = bucket_of_2015().await;
    let (old, new) = (version(1_795_223_159_828), version(1_795_223_160_000));
    ledger.change_tag(&package(), &live(), &moving(new)).await.expect("move");
    let event =
        ledger.tag(&package(), &live()).await.expect("tag").and_then(|state| state.event).expect("an event");
    let next = crate::model::next_event(
        &crate::model::Current { version: Some(new), last: Some(event) },
        &moving(old),
        jiff::Timestamp::UNIX_EPOCH,
    );
    let Ok(crate::model::Next::Commit(next)) = next else { panic!("a move") };
    // The commit alone, as after a crash right behind it.
    let pointer = String::from_utf8(records::encode_pointer(&next, None).to_vec()).expect("text");
    write(&ledger, "cluster/role/env/job/tags/live", &pointer).await;
    let seen = ledger.history(&package(), &live()).await.expect("history");
    assert_eq!(seen.last(), Some(&*next));
    assert_eq!(text(&ledger, "cluster/role/env/job/history/live/000000000003").await, next.canonical());
    ledger.change_tag(&package(), &live(), &moving(new)).await.expect("move");
    let events = ledger.history(&package(), &live()).await.expect("history");
    verify_chain(&events).expect("one chain");
    assert_eq!(events.len(), 4);
}

#[tokio::test]
async fn a_record_edited_by_hand_is_corrupt_and_names_its_key() {
    let ledger = bucket_of_2015().await;
    for (key, bad) in [
        ("cluster/role/env/job/versions/1795223159828", "{\"sha\": \"xyz\"}"),
        ("cluster/role/env/job/versions/1795223159828", "not json"),
    ] {
        write(&ledger, key, bad).await;
        let error = ledger.version(&package(), version(1_795_223_159_828)).await.expect_err(bad);
        assert!(matches!(error.meaning(), Meaning::Corrupt { .. }), "{error}");
        assert_eq!(error.key(), Some(key));
    }
    write(&ledger, "cluster/role/env/job/tags/live", "{\"version\": [1]}").await;
    let error = ledger.tag(&package(), &live()).await.expect_err("corrupt");
    assert!(matches!(error.meaning(), Meaning::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_number_of_another_length_behind_the_hint_is_the_newest() {
    let ledger = ledger(Numbering::Timestamp);
    let sha = Sha256::of(b"x");
    // An import brought 1 to 9; a writer that may not touch the hint added by its clock.
    for number in (1..=9_i64).chain([1_795_223_159_828]) {
        let body = format!("{{\"sha\": \"{sha}\", \"basename\": \"app.jar\", \"mode\": 33188}}");
        write(&ledger, &format!("cluster/role/env/job/versions/{number}"), &body).await;
    }
    write(&ledger, "cluster/role/env/job/tags/latest", "{\"version\": 9}").await;
    assert_eq!(ledger.latest(&package()).await.expect("latest").version, version(1_795_223_159_828));
}
