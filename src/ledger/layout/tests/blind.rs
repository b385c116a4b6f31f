//! Numbering by the server's clock, and writers that may not read.

use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::error::Result;
use crate::exit::Exit;
use crate::ledger::{Children, Entry, InitOptions, Object, Put};
use crate::model::NewVersion;
use crate::server_clock::ServerTime;

/// Objects in memory of a server with a clock of its own.
#[derive(Debug)]
struct Blind {
    inner: MemoryObjects,
    may_read: bool,
    server: Option<ServerTime>,
    /// How often the reply of a write of a version is lost, and how often the write itself.
    lost: Mutex<(u32, u32)>,
    /// Keys that were written to, whatever came of it.
    tried: Mutex<Vec<String>>,
    hint_denied: bool,
}

fn denied() -> Error {
    Error::new(Meaning::Denied { action: "s3:GetObject".into(), resource: "all".into() }, "read a record")
}

#[async_trait]
impl ConditionalObjects for Blind {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        if self.may_read { self.inner.get(key).await } else { Err(denied()) }
    }

    async fn list(&self, prefix: &str, start_after: &str, limit: usize) -> Result<Vec<Entry>> {
        if self.may_read { self.inner.list(prefix, start_after, limit).await } else { Err(denied()) }
    }

    async fn children(&self, prefix: &str, start_after: Option<&str>) -> Result<Children> {
        self.inner.children(prefix, start_after).await
    }

    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        precondition: Precondition,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Put> {
        self.tried.lock().expect("no panic").push(key.to_owned());
        let away = || Error::new(Meaning::Unavailable, "write a record");
        if key.contains("/versions/") {
            let (reply, request) = {
                let mut lost = self.lost.lock().expect("no panic");
                let now = *lost;
                *lost = if now.1 > 0 { (now.0, now.1 - 1) } else { (now.0.saturating_sub(1), 0) };
                (now.0 > 0, now.1 > 0)
            };
            if request {
                return Err(away());
            }
            let put = self.inner.put(key, bytes, precondition, metadata).await?;
            return if reply { Err(away()) } else { Ok(put) };
        }
        if self.hint_denied {
            return Err(denied());
        }
        self.inner.put(key, bytes, precondition, metadata).await
    }

    async fn delete_probe(&self, key: &str) -> Result<()> {
        self.inner.delete_probe(key).await
    }

    fn server_time(&self) -> Option<ServerTime> {
        self.server
    }

    fn default_numbering(&self) -> Numbering {
        self.inner.default_numbering()
    }

    async fn init(&self, options: &InitOptions) -> Result<Vec<String>> {
        self.inner.init(options).await
    }
}

const NOON: i64 = 1_795_262_400_000;

/// A timestamp ledger on a server where it is noon; the client's clock is off by so many seconds.
fn blind(may_read: bool, skew: i64) -> ObjectLedger<Blind> {
    let noon = jiff::Timestamp::from_millisecond(NOON).expect("in range");
    let server = ServerTime { time: noon, skew: jiff::SignedDuration::from_secs(skew), earliest: noon };
    let objects = Blind {
        inner: MemoryObjects::new(Numbering::Timestamp),
        may_read,
        server: Some(server),
        lost: Mutex::default(),
        tried: Mutex::default(),
        hint_denied: false,
    };
    let uri = LedgerUri::File(FileLocation::at("/memory"));
    let connect = Connect { deadline: Duration::from_millis(300), ..Connect::default() };
    ObjectLedger::new(uri, objects, connect)
}

fn new() -> NewVersion {
    NewVersion {
        sha256: Sha256::of(b"x"),
        size: 1,
        basename: "x".into(),
        mode: 0o100_644,
        metadata: BTreeMap::new(),
        added_by: "ci".into(),
        if_latest: None,
        add_id: uuid::Uuid::new_v4().to_string(),
    }
}

/// The numbers there are.
async fn numbers(ledger: &mut ObjectLedger<Blind>) -> Vec<i64> {
    ledger.objects.may_read = true;
    let records = ledger.versions(&package()).await.expect("versions");
    records.iter().map(|record| record.version.get()).collect()
}

#[tokio::test]
async fn versions_are_numbered_by_the_servers_clock() {
    for may_read in [true, false] {
        for skew in [0, 1, -30, 59] {
            let mut ledger = blind(may_read, skew);
            let added = ledger.add(&package(), &new()).await.expect("add");
            assert_eq!(added.version.get(), NOON, "{may_read} {skew}");
            assert_eq!(added.added_at.map(jiff::Timestamp::as_millisecond), Some(NOON));
            assert_eq!(numbers(&mut ledger).await, [NOON]);
        }
    }
}

#[tokio::test]
async fn a_wrong_clock_is_refused_before_anything_is_written_unless_allowed() {
    for may_read in [true, false] {
        for skew in [60, -60, 600] {
            let mut ledger = blind(may_read, skew);
            let error = ledger.add(&package(), &new()).await.expect_err("wrong");
            assert_eq!(Exit::from(&error), Exit::Usage, "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("--allow-skew")), "{error:?}");
            assert_eq!(*ledger.objects.tried.lock().expect("no panic"), Vec::<String>::new());
            ledger.connect.allow_skew = true;
            assert_eq!(ledger.add(&package(), &new()).await.expect("allowed").version.get(), NOON);
        }
    }
}

/// The better a server's clock is known, the further a wrong clock may be set back.
#[tokio::test]
async fn a_writer_that_may_not_read_never_goes_back() {
    let mut ledger = blind(false, 0);
    ledger.add(&package(), &new()).await.expect("add");
    let earlier = jiff::Timestamp::from_millisecond(NOON - 700).expect("in range");
    ledger.objects.server =
        Some(ServerTime { time: earlier, skew: jiff::SignedDuration::ZERO, earliest: earlier });
    assert_eq!(ledger.add(&package(), &new()).await.expect("add").version.get(), NOON + 1);
}

#[tokio::test]
async fn a_reader_never_adds_below_what_is_there() {
    let ledger = blind(true, 0);
    // Somebody's clock was wrong once.
    let body = format!("{{\"sha\": \"{}\", \"basename\": \"x\", \"mode\": 33188}}", Sha256::of(b"x"));
    let key = keys::version(&package(), version(NOON + 5000));
    ledger.objects.inner.put(&key, body.into(), Precondition::Absent, &BTreeMap::new()).await.expect("put");
    assert_eq!(ledger.add(&package(), &new()).await.expect("add").version.get(), NOON + 5001);
}

#[tokio::test]
async fn a_writer_that_may_not_read_tells_old_readers_the_newest() {
    let mut ledger = blind(false, 0);
    for taken in 0..3 {
        let added = ledger.add(&package(), &new()).await.expect("add");
        assert_eq!(added.version.get(), NOON + taken);
    }
    let hint = ledger.objects.inner.get(&keys::latest_hint(&package())).await.expect("read").expect("there");
    assert_eq!(hint.bytes, records::encode_hint(Some(version(NOON + 2))));
    // One that may not even do that has added all the same, and asked once.
    ledger.objects.hint_denied = true;
    ledger.objects.tried.lock().expect("no panic").clear();
    ledger.add(&package(), &new()).await.expect("add");
    let hint = keys::latest_hint(&package());
    assert_eq!(ledger.objects.tried.lock().expect("no panic").iter().filter(|key| **key == hint).count(), 1);
    assert_eq!(numbers(&mut ledger).await.len(), 4);
}

/// While nobody knows, the same key is tried and no other.
#[tokio::test]
async fn a_request_that_was_lost_is_sent_again_to_the_same_key() {
    let mut ledger = blind(false, 0);
    *ledger.objects.lost.lock().expect("no panic") = (0, 3);
    assert_eq!(ledger.add(&package(), &new()).await.expect("add").version.get(), NOON);
    assert_eq!(numbers(&mut ledger).await, [NOON]);
}

/// At least once is what a writer gets that may not look: two versions of one file at worst, never a lost one.
#[tokio::test]
async fn a_lost_reply_makes_two_versions_of_one_file_at_worst() {
    let mut ledger = blind(false, 0);
    *ledger.objects.lost.lock().expect("no panic") = (1, 0);
    let new = new();
    assert_eq!(ledger.add(&package(), &new).await.expect("add").version.get(), NOON + 1);
    assert_eq!(numbers(&mut ledger).await, [NOON, NOON + 1]);
    let records = ledger.versions(&package()).await.expect("versions");
    assert!(records.iter().all(|record| record.add_id.as_ref() == Some(&new.add_id)), "they can be told");
}

#[tokio::test]
async fn a_reader_whose_reply_was_lost_makes_one_version() {
    let mut ledger = blind(true, 0);
    *ledger.objects.lost.lock().expect("no panic") = (1, 0);
    assert_eq!(ledger.add(&package(), &new()).await.expect("add").version.get(), NOON);
    assert_eq!(numbers(&mut ledger).await, [NOON]);
}
