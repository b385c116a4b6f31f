//! Interleavings that real servers show once in a million: replies lost, late writes, a 2015 client in between. The
//! objects are scripted; what they do in each case is what S3 may do.

mod removal;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::*;
use crate::error::Result;
use crate::exit::Exit;
use crate::ledger::{Children, Entry, Object, Put};
use crate::model::NewVersion;

/// What happens at one write.
#[derive(Debug)]
enum At {
    /// It goes through.
    Through,
    /// It is carried out, its reply is lost.
    LoseReply,
    /// It is not carried out, and nobody knows.
    LoseRequest,
    /// It is refused for lack of rights.
    Deny,
    /// First, somebody else writes this text to this key, unconditionally; then it goes through.
    Overwritten(&'static str, String),
    /// It goes through; then somebody else writes this text to this key.
    ThenOverwritten(&'static str, String),
}

/// Objects in memory with a script for the writes whose key contains `watched`.
#[derive(Debug)]
struct Scripted {
    inner: MemoryObjects,
    watched: &'static str,
    script: Mutex<VecDeque<At>>,
    /// What happens when the script is over.
    forever: Option<At>,
    denied_reads: Option<&'static str>,
    /// Reads of these keys are on their way for long.
    slow_reads: Option<&'static str>,
    writes: Mutex<u64>,
    /// Every read and write, such as `get <key>`.
    requests: Mutex<Vec<String>>,
}

impl Scripted {
    fn note(&self, method: &str, key: &str) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{method} {key}"));
    }

    async fn force(&self, key: &str, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.inner.put(key, bytes, Precondition::None, &BTreeMap::new()).await.expect("write");
    }
}

fn lost() -> Error {
    Error::new(Meaning::Unavailable, "write a record")
}

#[async_trait]
impl ConditionalObjects for Scripted {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        // As over a network, others get their turn between any two requests.
        tokio::task::yield_now().await;
        self.note("get", key);
        if self.slow_reads.is_some_and(|part| key.contains(part)) {
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
        }
        if self.denied_reads.is_some_and(|part| key.contains(part)) {
            let meaning = Meaning::Denied { action: "s3:GetObject".into(), resource: key.into() };
            return Err(Error::new(meaning, "read a record"));
        }
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str, start_after: &str, limit: usize) -> Result<Vec<Entry>> {
        self.note("list", prefix);
        // The question is on its way, too.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let listed = self.inner.list(prefix, start_after, limit).await;
        // The answer is on its way for as long as others need for several moves.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        listed
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
        tokio::task::yield_now().await;
        self.note("put", key);
        *self.writes.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let next = key
            .contains(self.watched)
            .then(|| self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front());
        let at = match &next {
            None => &At::Through,
            Some(Some(at)) => at,
            Some(None) => self.forever.as_ref().unwrap_or(&At::Through),
        };
        match at {
            At::Through => self.inner.put(key, bytes, precondition, metadata).await,
            At::LoseReply => {
                self.inner.put(key, bytes, precondition, metadata).await?;
                Err(lost())
            }
            At::LoseRequest => Err(lost()),
            At::Deny => {
                let meaning = Meaning::Denied { action: "s3:PutObject".into(), resource: key.into() };
                Err(Error::new(meaning, "write a record"))
            }
            At::Overwritten(other, text) => {
                self.force(other, text).await;
                self.inner.put(key, bytes, precondition, metadata).await
            }
            At::ThenOverwritten(other, text) => {
                let put = self.inner.put(key, bytes, precondition, metadata).await?;
                self.force(other, text).await;
                Ok(put)
            }
        }
    }

    async fn delete_probe(&self, key: &str) -> Result<()> {
        self.inner.delete_probe(key).await
    }

    fn default_numbering(&self) -> Numbering {
        self.inner.default_numbering()
    }

    async fn init(&self, options: &InitOptions) -> Result<Vec<String>> {
        self.inner.init(options).await
    }
}

const POINTER: &str = "p/tags/live";

/// A sequence ledger with three versions of package `p`, whose deadline is short.
async fn scripted(
    watched: &'static str,
    script: impl IntoIterator<Item = At>,
    forever: Option<At>,
) -> ObjectLedger<Scripted> {
    let objects = Scripted {
        inner: MemoryObjects::new(Numbering::Sequence),
        watched: "never",
        script: Mutex::new(script.into_iter().collect()),
        forever,
        denied_reads: None,
        slow_reads: None,
        writes: Mutex::new(0),
        requests: Mutex::default(),
    };
    let uri = LedgerUri::File(FileLocation::at("/memory"));
    let connect = Connect { deadline: Duration::from_millis(300), ..Connect::default() };
    let mut ledger = ObjectLedger::new(uri, objects, connect);
    for _ in 0..3 {
        ledger.add(&p(), &new()).await.expect("add");
    }
    ledger.objects.watched = watched;
    ledger
}

/// The same, with a script for the exchange of a tag's first pointer: the write before it reserves the pointer.
async fn at_the_exchange(
    script: impl IntoIterator<Item = At>,
    forever: Option<At>,
) -> ObjectLedger<Scripted> {
    scripted(POINTER, std::iter::once(At::Through).chain(script), forever).await
}

fn p() -> PackageName {
    PackageName::new("p").expect("an allowed name")
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

/// The history, checked to be linear, as (kind, to) pairs.
async fn story(ledger: &ObjectLedger<Scripted>) -> Vec<(EventKind, Option<i64>)> {
    let events = ledger.history(&p(), &live()).await.expect("history");
    verify_chain(&events).expect("one chain");
    events.iter().map(|event| (event.kind, event.to.map(Version::get))).collect()
}

async fn points_to(ledger: &ObjectLedger<Scripted>) -> Option<i64> {
    ledger.tag(&p(), &live()).await.expect("tag").and_then(|state| state.version).map(Version::get)
}

#[tokio::test]
async fn a_lost_reply_is_recognised_as_success() {
    let ledger = at_the_exchange([At::LoseReply], None).await;
    ledger
        .change_tag(&p(), &live(), &moving(version(1)).expecting(Expected::Seq(0)))
        .await
        .expect("it happened");
    assert_eq!(story(&ledger).await, [(EventKind::Move, Some(1))]);
}

#[tokio::test]
async fn a_lost_request_is_sent_again() {
    let ledger = at_the_exchange([At::LoseRequest, At::LoseRequest], None).await;
    ledger.change_tag(&p(), &live(), &moving(version(1)).expecting(Expected::Seq(0))).await.expect("move");
    assert_eq!(story(&ledger).await, [(EventKind::Move, Some(1))]);
}

#[tokio::test]
async fn a_write_that_stays_in_doubt_says_so_with_its_id() {
    let ledger = at_the_exchange([], Some(At::LoseRequest)).await;
    let change = moving(version(1));
    let error = ledger.change_tag(&p(), &live(), &change).await.expect_err("no answer, ever");
    assert_eq!(error.meaning(), &Meaning::Unavailable);
    assert_eq!(error.unsettled(), Some(change.id.as_str()));
}

#[tokio::test]
async fn a_refusal_after_a_lost_reply_is_not_believed() {
    let ledger = at_the_exchange([At::LoseReply, At::Deny], None).await;
    ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect("it happened");
    let ledger = at_the_exchange([At::LoseRequest], Some(At::Deny)).await;
    let error = ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect_err("who knows");
    assert_eq!(Exit::from(&error), Exit::Unavailable, "{error}");
}

#[tokio::test]
async fn a_refusal_at_once_is_a_refusal() {
    let ledger = at_the_exchange([At::Deny], None).await;
    let error = ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect_err("denied");
    assert_eq!(Exit::from(&error), Exit::Denied, "{error}");
}

#[tokio::test]
async fn a_blind_overwrite_before_the_event_is_archived_does_not_break_the_chain() {
    // The pointer is written, a 2015 client overwrites it, then the event is archived and acknowledged.
    let ledger = at_the_exchange([At::ThenOverwritten(POINTER, "{\"version\": 3}".into())], None).await;
    ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect("acknowledged");
    assert_eq!(points_to(&ledger).await, Some(3));
    ledger.change_tag(&p(), &live(), &moving(version(2))).await.expect("move");
    let expected = [(EventKind::Move, Some(1)), (EventKind::Adopt, Some(3)), (EventKind::Move, Some(2))];
    assert_eq!(story(&ledger).await, expected);
}

#[tokio::test]
async fn an_event_that_lost_its_number_is_not_acknowledged() {
    // Meanwhile another writer has adopted the 2015 client's write under the number of ours.
    let adopted = adopt(None, 3);
    let rival = String::from_utf8(records::encode_pointer(&adopted, None).to_vec()).expect("text");
    let script = [At::Overwritten("p/history/live/000000000001", adopted.canonical())];
    let ledger = scripted("p/history/live/000000000001", script, None).await;
    ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect("decided again");
    assert_eq!(points_to(&ledger).await, Some(1));
    let told = story(&ledger).await;
    assert_eq!(told[0], (EventKind::Adopt, Some(3)));
    assert_eq!(told.last().map(|last| last.1), Some(Some(1)), "{told:?}");
    // And a rival's pointer back in place is not mistaken for a fork.
    ledger.objects.force(POINTER, &rival).await;
    ledger.change_tag(&p(), &live(), &moving(version(2))).await.expect("move");
    story(&ledger).await;
}

fn adopt(last: Option<&Event>, to: i64) -> Event {
    crate::model::adopt_legacy(last, Version::new(to), jiff::Timestamp::UNIX_EPOCH, "rival".into())
}

#[tokio::test]
async fn a_hold_survives_a_blind_overwrite_at_the_worst_moment() {
    let ledger = scripted(POINTER, [], None).await;
    ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect("move");
    ledger
        .objects
        .script
        .lock()
        .expect("whole")
        .push_back(At::ThenOverwritten(POINTER, "{\"version\": 3}".into()));
    let hold = change(Change::Hold { reason: "incident".into() });
    ledger.change_tag(&p(), &live(), &hold).await.expect("acknowledged");
    let error = ledger.change_tag(&p(), &live(), &moving(version(2))).await.expect_err("held");
    assert!(matches!(error.meaning(), Meaning::Held(_)), "{error}");
    story(&ledger).await;
}

#[tokio::test]
async fn a_delete_by_a_2015_client_cannot_restart_the_numbers() {
    let ledger = scripted(POINTER, [], None).await;
    ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect("move");
    ledger.objects.inner.remove(POINTER);
    ledger.change_tag(&p(), &live(), &moving(version(2))).await.expect("move");
    let expected = [(EventKind::Move, Some(1)), (EventKind::Untag, None), (EventKind::Move, Some(2))];
    assert_eq!(story(&ledger).await, expected);
}

#[tokio::test]
async fn adopting_ends_at_the_deadline_too() {
    let ledger = scripted(POINTER, [], Some(At::LoseRequest)).await;
    ledger.objects.force(POINTER, "{\"version\": 3}").await;
    ledger.change_tag(&p(), &live(), &moving(version(1))).await.expect_err("writes fail for ever");
    let writes = *ledger.objects.writes.lock().expect("whole");
    assert!(writes < 200, "{writes} writes within the deadline");
}

#[tokio::test]
async fn an_add_in_doubt_takes_no_second_number() {
    for script in [vec![At::LoseReply], vec![At::LoseRequest], vec![At::LoseReply, At::Deny]] {
        let ledger = scripted("p/versions/", script, None).await;
        let new = new();
        let added = ledger.add(&p(), &new).await.expect("add");
        assert_eq!(added.version, version(4));
        assert_eq!(ledger.versions(&p()).await.expect("versions").len(), 4);
        assert_eq!(ledger.version(&p(), version(4)).await.expect("version").add_id, Some(new.add_id));
    }
}

#[tokio::test]
async fn an_add_whose_outcome_cannot_be_read_is_open_and_not_denied() {
    let mut ledger = scripted("p/versions/", [At::LoseReply], None).await;
    ledger.objects.denied_reads = Some("p/versions/4");
    // Finding the newest number must not read what it may not: the hint is at 3, and 4 is asked for.
    let error = ledger.add(&p(), &new()).await.expect_err("denied while looking for the newest");
    assert_eq!(Exit::from(&error), Exit::Denied);
    let mut ledger = scripted("p/versions/", [At::LoseRequest], Some(At::Deny)).await;
    ledger.connect.deadline = Duration::from_millis(100);
    let error = ledger.add(&p(), &new()).await.expect_err("who knows");
    assert_eq!(Exit::from(&error), Exit::Unavailable, "{error}");
    assert!(error.unsettled().is_some());
}

#[tokio::test]
async fn a_record_that_no_reader_takes_is_not_written() {
    let ledger = scripted("never", [], None).await;
    let mut new = new();
    new.metadata = BTreeMap::from([("k".to_owned(), "x".repeat(2 << 20))]);
    let error = ledger.add(&p(), &new).await.expect_err("too large");
    assert!(matches!(error.meaning(), Meaning::Invalid { .. }), "{error}");
    ledger.add(&p(), &self::new()).await.expect("the package is not harmed");
}

#[tokio::test]
async fn a_foreign_number_in_a_sequence_is_listed_and_harms_nobody() {
    for number in [1_795_223_159_828, i64::MAX - 1] {
        let ledger = scripted("never", [], None).await;
        let body = format!("{{\"sha\": \"{}\", \"basename\": \"x\", \"mode\": 33188}}", Sha256::of(b"y"));
        ledger.objects.force(&format!("p/versions/{number}"), &body).await;
        ledger.objects.force("p/tags/latest", &format!("{{\"version\": {number}}}")).await;
        let newest = ledger.newest(&p(), 10).await.expect("newest");
        assert_eq!((newest.records.len(), newest.version_count), (4, 4));
        assert_eq!(ledger.latest(&p()).await.expect("latest").version.get(), number);
    }
}

#[tokio::test]
async fn a_client_that_may_not_read_the_numbering_does_not_guess_it() {
    let mut ledger = scripted("never", [], None).await;
    ledger.own = OnceCell::new();
    ledger.objects.denied_reads = Some(keys::LEDGER);
    let error = ledger.add(&p(), &new()).await.expect_err("it may be a sequence");
    assert!(matches!(error.meaning(), Meaning::Denied { .. }), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("s3:GetObject")), "{:?}", error.hint());
}

#[tokio::test]
async fn a_client_that_may_only_write_adds_by_its_clock() {
    let objects = Scripted {
        inner: MemoryObjects::new(Numbering::Timestamp),
        watched: "never",
        script: Mutex::default(),
        forever: None,
        denied_reads: Some(""),
        slow_reads: None,
        writes: Mutex::new(0),
        requests: Mutex::default(),
    };
    let uri = LedgerUri::File(FileLocation::at("/memory"));
    let mut ledger = ObjectLedger::new(uri, objects, Connect::default());
    let mut added = Vec::new();
    for _ in 0..20 {
        added.push(ledger.add(&p(), &new()).await.expect("add").version);
    }
    ledger.objects.denied_reads = None;
    added.sort_unstable();
    added.dedup();
    let listed: Vec<_> =
        ledger.versions(&p()).await.expect("versions").iter().map(|record| record.version).collect();
    assert_eq!(listed, added, "each add is one version");
    assert_eq!(listed.len(), 20);
}

#[tokio::test]
async fn a_place_of_2015_cannot_become_a_sequence() {
    let ledger = bucket_of_2015().await;
    let options = InitOptions { numbering: Some(Numbering::Sequence), ..InitOptions::default() };
    let error = ledger.init(&options).await.expect_err("its versions are timestamps");
    assert!(matches!(error.meaning(), Meaning::Conflict { .. }), "{error}");
    ledger.init(&InitOptions::default()).await.expect("as it is");
}

#[tokio::test]
async fn histories_are_linear_while_the_tag_moves() {
    let ledger = scripted("never", [], None).await;
    let mover = async {
        for round in 0..200 {
            ledger.change_tag(&p(), &live(), &moving(version(1 + round % 3))).await.expect("move");
            tokio::task::yield_now().await;
        }
    };
    let reader = async {
        for _ in 0..200 {
            if let Ok(events) = ledger.history(&p(), &live()).await {
                verify_chain(&events).expect("one chain at any moment");
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(mover, reader);
}

#[tokio::test]
async fn writers_of_a_new_tag_take_each_other_for_nobody_else() {
    let (package, tag) = (p(), live());
    // The second one begins at each moment of the first one's change.
    for later in 0..150 {
        let ledger = scripted(POINTER, [], None).await;
        let (first, second) = (moving(version(1)), moving(version(2)));
        let (one, other) = tokio::join!(ledger.change_tag(&package, &tag, &first), async {
            for _ in 0..later {
                tokio::task::yield_now().await;
            }
            ledger.change_tag(&package, &tag, &second).await
        });
        one.expect("move");
        other.expect("move");
        let story = story(&ledger).await;
        let moves = story.iter().filter(|(kind, _)| *kind == EventKind::Move).count();
        assert_eq!((moves, story.len()), (2, 2), "{later} later, nobody else was there: {story:?}");
    }
}
