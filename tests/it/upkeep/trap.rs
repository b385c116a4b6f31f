//! The trap, step by step: collection condemned an old blob, somebody adds it again at the worst moment, collection
//! deletes it. A hook runs the writer between the marking of collection and its deletion.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use jiff::Timestamp;
use rstest::rstest;
use sacker::error::Result;
use sacker::exit::Exit;
use sacker::store::{Deletion, Listed, PutOutcome, StoredBlob, StoredManifest, Timing, Unfinished};
use sacker::upkeep::gc::Verdict;
use tokio::sync::Mutex;

use super::*;
use crate::support::eventually;

type Hook<'a> = Mutex<Option<BoxFuture<'a, ()>>>;

/// A store that lets somebody else go first, once, before a blob is deleted or hidden.
struct Hooked<'a> {
    inner: &'a dyn Collect,
    hook: Hook<'a>,
}

impl fmt::Debug for Hooked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Hooked<'_> {
    async fn let_go_first(&self) {
        if let Some(hook) = self.hook.lock().await.take() {
            hook.await;
        }
    }
}

#[async_trait]
impl Collect for Hooked<'_> {
    fn place(&self) -> String {
        self.inner.place()
    }
    fn timing(&self) -> Timing {
        self.inner.timing()
    }
    fn is_create_only(&self) -> bool {
        self.inner.is_create_only()
    }
    async fn is_versioned(&self) -> Result<bool> {
        self.inner.is_versioned().await
    }
    async fn now(&self) -> Result<Timestamp> {
        self.inner.now().await
    }
    fn list(&self) -> BoxStream<'_, Result<Listed>> {
        self.inner.list()
    }
    async fn delete(&self, blob: &StoredBlob) -> Result<Deletion> {
        self.let_go_first().await;
        self.inner.delete(blob).await
    }
    async fn hide(&self, blob: &StoredBlob) -> Result<Deletion> {
        self.let_go_first().await;
        self.inner.hide(blob).await
    }
    async fn restore(&self, blob: &StoredBlob) -> Result<()> {
        self.inner.restore(blob).await
    }
    async fn purge(&self, blob: &StoredBlob) -> Result<()> {
        self.inner.purge(blob).await
    }
    async fn unfinished(&self) -> Result<Vec<Unfinished>> {
        self.inner.unfinished().await
    }
    async fn discard(&self, unfinished: &Unfinished) -> Result<bool> {
        self.inner.discard(unfinished).await
    }
    async fn read_manifest(&self) -> Result<Option<StoredManifest>> {
        self.inner.read_manifest().await
    }
    async fn write_manifest(&self, bytes: Bytes, seen: Option<&str>) -> Result<String> {
        self.inner.write_manifest(bytes, seen).await
    }
}

/// A place with one blob that nobody refers to, old enough to be deleted by the next cycle.
async fn condemned(kind: Kind) -> Option<(Place, Blob, Rules)> {
    let place = Place::new(kind, "2s").await?;
    let blob = place.file("old", "an old blob");
    place.publisher().ensure(blob.file(), &|_| {}).await.expect("stored");
    let rules = Rules { period: Duration::ZERO, ..place.rules() };
    eventually("it is condemned", Duration::from_secs(20), async || {
        let report = place.cycle(&*place.collected, rules).await.expect("a cycle");
        report.blobs.iter().any(|(decision, _)| decision.verdict == Verdict::Condemn)
    })
    .await;
    Some((place, blob, rules))
}

async fn is_there(place: &Place, blob: &Blob) -> bool {
    place.store.head(&blob.sha256).await.expect("looked").is_some()
}

#[rstest]
#[tokio::test]
async fn whoever_adds_a_condemned_blob_at_the_last_moment_keeps_it(
    #[values(Kind::File, Kind::Unversioned, Kind::Versioned, Kind::CreateOnly, Kind::Hdfs)] kind: Kind,
) {
    let Some((place, blob, rules)) = condemned(kind).await else { return };
    let hook = async {
        place.publisher().publish(&package("p"), &blob.version(), blob.file()).await.expect("published");
    };
    let hooked = Hooked { inner: &*place.collected, hook: Mutex::new(Some(Box::pin(hook))) };
    let report = place.cycle(&hooked, rules).await.expect("a cycle");
    assert!(hooked.hook.lock().await.is_none(), "collection came as far as deleting it: {report:?}");
    assert_eq!(report.deleted(), 0);
    assert!(is_there(&place, &blob).await, "the version that was added has its blob");
    let report = place.cycle(&*place.collected, rules).await.expect("a cycle");
    assert!(report.blobs.iter().all(|(decision, _)| decision.verdict == Verdict::Referenced), "{report:?}");
}

/// The same with a writer that only looks whether the blob is there, as sacker's own did: the test above can fail.
#[rstest]
#[tokio::test]
async fn whoever_only_looks_falls_into_the_trap(
    #[values(Kind::File, Kind::Unversioned, Kind::Versioned, Kind::Hdfs)] kind: Kind,
) {
    let Some((place, blob, rules)) = condemned(kind).await else { return };
    let hook = async {
        assert!(is_there(&place, &blob).await);
        place.ledgers[0].add(&package("p"), &blob.version()).await.expect("added");
    };
    let hooked = Hooked { inner: &*place.collected, hook: Mutex::new(Some(Box::pin(hook))) };
    place.cycle(&hooked, rules).await.expect("a cycle");
    assert!(!is_there(&place, &blob).await, "a version without its blob");
}

/// The writer looked before the blob was hidden and writes its version after: the last look finds that it is gone.
#[rstest]
#[tokio::test]
async fn the_last_look_stores_a_blob_again(
    #[values(Kind::File, Kind::Unversioned, Kind::Versioned, Kind::CreateOnly, Kind::Hdfs)] kind: Kind,
) {
    let Some((place, blob, rules)) = condemned(kind).await else { return };
    // In a refresh store this makes the blob young; taken away behind everybody's back all the same.
    let ensured = place.publisher().ensure(blob.file(), &|_| {}).await.expect("there");
    if kind == Kind::CreateOnly {
        assert_eq!(ensured.outcome, PutOutcome::AlreadyThere);
        let report = place.cycle(&*place.collected, rules).await.expect("a cycle");
        assert!(matches!(report.blobs[0].0.verdict, Verdict::Hide { .. }), "{report:?}");
    } else {
        assert_eq!(ensured.outcome, PutOutcome::Uploaded);
        let found =
            futures::TryStreamExt::try_collect::<Vec<_>>(place.collected.list()).await.expect("listed");
        let [Listed::Blob(found)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(place.collected.delete(found).await.expect("deleted"), Deletion::Done);
    }
    assert!(!is_there(&place, &blob).await);
    let published = place.publisher().record(&package("p"), &blob.version(), blob.file(), ensured).await;
    published.expect("published");
    assert!(is_there(&place, &blob).await);
}

#[tokio::test]
async fn what_is_hidden_and_referred_to_by_a_writer_that_cannot_look_comes_back() {
    let Some((place, blob, rules)) = condemned(Kind::CreateOnly).await else { return };
    place.cycle(&*place.collected, rules).await.expect("a cycle");
    assert!(!is_there(&place, &blob).await);
    place.ledgers[0].add(&package("p"), &blob.version()).await.expect("added");
    let report = place.cycle(&*place.collected, rules).await.expect("a cycle");
    assert_eq!(report.blobs[0].0.verdict, Verdict::Restore);
    assert!(is_there(&place, &blob).await);
}

#[tokio::test]
async fn collection_refuses_what_it_cannot_do_safely() {
    let Some(place) = Place::new(Kind::File, "24h").await else { return };
    let kept = BTreeMap::new();
    let cycle = Cycle {
        store: &*place.collected,
        ledgers: &place.ledgers,
        kept: &kept,
        rules: place.rules(),
        act: true,
        empty_ledgers: false,
    };
    let refused = async |cycle: &Cycle<'_>, why: &str| {
        let error = collect(cycle).await.expect_err(why);
        assert_eq!(Exit::from(&error), Exit::Usage, "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    };
    refused(&Cycle { ledgers: &[], ..cycle }, "no ledger says").await;
    let short = Rules { grace: Duration::from_hours(1), ..cycle.rules };
    refused(&Cycle { rules: short, ..cycle }, "is shorter than").await;
    collect(&cycle).await.expect("an empty store and an empty ledger are fine");
    let blob = place.file("blob", "content");
    place.publisher().ensure(blob.file(), &|_| {}).await.expect("stored");
    refused(&cycle, "has not a single version").await;

    let Some(place) = Place::new(Kind::Unversioned, "2s&create_only=true").await else { return };
    let cycle = Cycle { store: &*place.collected, ledgers: &place.ledgers, rules: place.rules(), ..cycle };
    refused(&cycle, "create-only and keeps no versions").await;
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_stops_it() {
    let Some((mut place, blob, rules)) = condemned(Kind::File).await else { return };
    let uri = file_uri(&place.folder.path().join("no-such-ledger"));
    place.ledgers.push(sacker::ledger::open(&uri, &Connect::default()).await.expect("it opens"));
    place.cycle(&*place.collected, rules).await.expect_err("one of two ledgers is not there");
    assert!(is_there(&place, &blob).await);
}
