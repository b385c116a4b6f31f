//! Files that were read before they are stored: what changed since, or is damaged on its way, is never seen under the digest.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rstest::rstest;
use sacker::error::{Error, Meaning, Result};
use sacker::exit::Exit;
use sacker::model::Sha256;
use sacker::store::{BlobFile, PutOutcome, Scan, Store, WHOLE};

use super::parts::through_a_gate;
use super::{Kind, MIB, collect, content, open};
use crate::stores::Target;
use crate::support::faultgate::{Action, Match, Rule};

/// Above what is kept in memory and sent in one request; the last part is a short one.
const LARGE: usize = 65 * MIB;

/// Not in the first part, not in the last one.
const SOMEWHERE: u64 = 20 << 20;

fn scan(path: &Path) -> Scan {
    let size = path.metadata().expect("a file").len();
    let file = fs::File::open(path).expect("it opens");
    Scan::read(file, Some(size), &|_| {}, &mut |_| Ok(())).expect("it is read")
}

async fn put(store: &dyn Store, path: &Path, scan: &Scan) -> Result<PutOutcome> {
    let blob = BlobFile { path, sha256: scan.sha256, size: scan.size, scan: Some(scan) };
    store.put(blob, &|_| {}).await
}

/// Every write of bytes that says `header`.
fn bytes_with(header: &str, action: Action) -> Rule {
    let header = Some((header.to_owned(), "**".to_owned()));
    Rule::new(Match { method: Some("PUT".to_owned()), header, ..Match::default() }, action)
}

fn why(error: &Error) -> &str {
    match error.meaning() {
        Meaning::Corrupt { why } => why,
        other => panic!("{other:?}"),
    }
}

async fn holds(target: &Target, sha256: &Sha256, size: usize) {
    let bytes = collect(target.store.open(sha256, WHOLE).await.expect("opened")).await.expect("read");
    assert!(bytes == content(size), "other bytes came back");
}

async fn is_untouched(target: &Target, sha256: &Sha256) {
    assert_eq!(target.store.head(sha256).await.expect("looked"), None);
    assert_eq!(target.leftovers().await, 0);
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Byte,
    Longer,
    Shorter,
}

impl Change {
    fn make(self, path: &Path, size: usize) {
        let file = OpenOptions::new().write(true).open(path).expect("it opens");
        match self {
            Self::Byte => file.write_all_at(b"changed", SOMEWHERE).expect("written"),
            Self::Longer => file.write_all_at(b"longer", size as u64).expect("written"),
            Self::Shorter => file.set_len(SOMEWHERE).expect("cut"),
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_large_file_that_changed_since_it_was_read_is_refused(
    #[values(Kind::File, Kind::Minio, Kind::Versitygw, Kind::Hdfs)] kind: Kind,
    #[values(Change::Byte, Change::Longer, Change::Shorter)] change: Change,
) {
    let Some(target) = Target::ready(kind).await else { return };
    let (path, sha256) = target.file(LARGE);
    let scan = scan(&path);
    assert_eq!(scan.sha256, sha256);
    change.make(&path, LARGE);
    let error = put(&*target.store, &path, &scan).await.expect_err("refused");
    assert!(why(&error).ends_with("it changed meanwhile"), "{error:?}");
    assert_eq!(Exit::from(&error), Exit::Integrity);
    is_untouched(&target, &sha256).await;
}

/// What is sent is what was hashed: nobody reads the file again.
#[rstest]
#[tokio::test]
async fn a_small_file_may_change_once_it_was_read(
    #[values(Kind::File, Kind::Minio, Kind::Versitygw, Kind::Hdfs)] kind: Kind,
) {
    let Some(target) = Target::ready(kind).await else { return };
    let (path, sha256) = target.file(MIB);
    let scan = scan(&path);
    fs::write(&path, "something else").expect("written");
    assert_eq!(put(&*target.store, &path, &scan).await.expect("put"), PutOutcome::Uploaded);
    holds(&target, &sha256, MIB).await;
}

/// Each way of sending bytes has its own checksum, which the server compares.
#[rstest]
#[case::in_one_request(MIB, true, "x-amz-checksum-sha256")]
#[case::in_parts(LARGE, true, "x-amz-checksum-crc32")]
#[case::in_parts_read_only_now(LARGE, false, "x-amz-checksum-crc32")]
#[tokio::test]
async fn bytes_that_are_damaged_on_the_way_are_refused(
    #[values(Kind::Minio, Kind::Versitygw)] kind: Kind,
    #[case] size: usize,
    #[case] is_read_before: bool,
    #[case] header: &str,
) {
    let Some(target) = Target::ready(kind).await else { return };
    let (path, sha256) = target.file(size);
    let (gate, uri) = through_a_gate(&target, vec![bytes_with(header, Action::Damage(1000)).times(1)]);
    let store = open(&uri, &target.server.as_ref().expect("a server").connect()).await;
    let scan = scan(&path);
    let store_it = async || {
        if is_read_before {
            return put(&*store, &path, &scan).await;
        }
        super::put(&*store, &path, sha256, size as u64).await.map(|(outcome, _)| outcome)
    };
    let error = store_it().await.expect_err("refused");
    assert_eq!(why(&error), "the server received other bytes than were sent", "{error:?}");
    assert_eq!(Exit::from(&error), Exit::Integrity);
    assert_eq!(gate.hits().get("damage"), Some(&1));
    is_untouched(&target, &sha256).await;
    assert_eq!(store_it().await.expect("put"), PutOutcome::Uploaded);
    holds(&target, &sha256, size).await;
}

/// A server that knows no checksums says nothing of them; the bytes are compared here in any case.
#[tokio::test]
async fn a_server_without_checksums_gets_no_other_bytes() {
    let Some(target) = Target::ready(Kind::Minio).await else { return };
    let (path, sha256) = target.file(LARGE);
    let strip = |header: &str| Rule::new(Match::default(), Action::Strip(header.to_owned()));
    let rules = vec![strip("x-amz-checksum-crc32"), strip("x-amz-checksum-algorithm")];
    let (gate, uri) = through_a_gate(&target, rules);
    let server = target.server.as_ref().expect("a server");
    gate.know_secret(server.access_key, server.secret_key);
    let store = open(&uri, &server.connect()).await;
    let scan = scan(&path);
    Change::Byte.make(&path, LARGE);
    let error = put(&*store, &path, &scan).await.expect_err("refused");
    assert!(why(&error).ends_with("it changed meanwhile"), "{error:?}");
    is_untouched(&target, &sha256).await;
    fs::write(&path, content(LARGE)).expect("written");
    assert_eq!(put(&*store, &path, &scan).await.expect("put"), PutOutcome::Uploaded);
    holds(&target, &sha256, LARGE).await;
}
