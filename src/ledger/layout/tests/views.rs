//! Views of many packages with what an earlier call saw: what is read again, and what must not be believed any more.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::ledger::{Children, Object, ViewCache};
use crate::model::PackageView;

/// Objects in memory that count how they are read.
#[derive(Debug)]
struct Counted {
    inner: MemoryObjects,
    gets: AtomicUsize,
    lists: AtomicUsize,
}

impl Counted {
    /// Reads and listings since the last call.
    fn take(&self) -> (usize, usize) {
        (self.gets.swap(0, Ordering::Relaxed), self.lists.swap(0, Ordering::Relaxed))
    }
}

#[async_trait]
impl ConditionalObjects for Counted {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str, start_after: &str, limit: usize) -> Result<Vec<Entry>> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.inner.list(prefix, start_after, limit).await
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
        self.inner.put(key, bytes, precondition, metadata).await
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

/// A ledger, and what is known of it.
struct Bench {
    ledger: ObjectLedger<Counted>,
    known: ViewCache,
}

impl Bench {
    fn new(numbering: Numbering) -> Self {
        let uri = LedgerUri::File(FileLocation::at("/memory"));
        let inner = MemoryObjects::new(numbering);
        let counted = Counted { inner, gets: AtomicUsize::new(0), lists: AtomicUsize::new(0) };
        Self { ledger: ObjectLedger::new(uri, counted, Connect::default()), known: ViewCache::default() }
    }

    async fn write(&self, key: &str, text: String) {
        let none = BTreeMap::new();
        let put = self.ledger.objects.put(key, text.into(), Precondition::None, &none);
        put.await.expect("write");
    }

    async fn add(&self, package: &str, versions: impl Iterator<Item = i64>) {
        for version in versions {
            let sha = Sha256::of(version.to_string().as_bytes());
            let body = format!("{{\"sha\": \"{sha}\", \"basename\": \"app.jar\", \"mode\": 33188}}");
            self.write(&format!("{package}/versions/{version}"), body).await;
        }
    }

    async fn remove(&self, package: &str, version: i64) {
        let sha = Sha256::ZERO;
        let body = format!("{{\"sha\": \"{sha}\", \"basename\": \"app.jar\", \"mode\": 33188}}");
        self.write(&format!("{package}/versions/{version}"), body).await;
    }

    async fn tag(&self, package: &str, tag: &str, version: i64) {
        self.write(&format!("{package}/tags/{tag}"), format!("{{\"version\": {version}}}")).await;
    }

    /// The view with what is known, which must be the view of somebody who knows nothing; and what it cost.
    async fn look(&self, package: &str) -> (PackageView, (usize, usize)) {
        let package = PackageName::existing(package);
        self.ledger.objects.take();
        let view = self.ledger.views(std::slice::from_ref(&package), &self.known).await.pop();
        let cost = self.ledger.objects.take();
        let view = view.expect("one result").1.expect("view");
        assert_eq!(view, self.ledger.view(&package).await.expect("view"));
        (view, cost)
    }
}

fn numbers(view: &PackageView) -> Vec<i64> {
    view.recent.iter().map(|record| record.version.get()).collect()
}

#[tokio::test]
async fn a_quiet_sequence_costs_two_listings_whatever_its_length() {
    let bench = Bench::new(Numbering::Sequence);
    bench.tag("p", "live", 1).await;
    let mut highest = 0;
    for next in [1, 2, 9, 10, 11, 98, 99, 100, 104, 109, 110, 999, 1000, 1001, 1009, 1010, 2500] {
        bench.add("p", highest + 1..=next).await;
        highest = next;
        let (view, _) = bench.look("p").await;
        assert_eq!((view.version_count, numbers(&view)[0]), (next.unsigned_abs(), next));
        let (again, (gets, lists)) = bench.look("p").await;
        assert_eq!((again, gets), (view, 0), "{next}");
        // Where the newest are about to have a fourth digit, or just got it, both lengths are listed.
        let two_lengths = next > 998 && next - 9 < 1000;
        assert_eq!(lists, 2 + usize::from(two_lengths), "{next}");
    }
}

#[tokio::test]
async fn versions_that_are_removed_give_way_to_older_ones() {
    for (numbering, first) in [(Numbering::Sequence, 1), (Numbering::Timestamp, 1_795_223_159_001)] {
        let bench = Bench::new(numbering);
        bench.add("p", first..first + 40).await;
        bench.tag("p", "live", first).await;
        let newest = first + 39;
        for removed in [vec![newest], vec![newest - 3, newest - 4], (newest - 20..newest - 5).collect()] {
            bench.look("p").await;
            for version in removed {
                bench.remove("p", version).await;
            }
            let (view, _) = bench.look("p").await;
            assert_eq!((view.version_count, view.recent.len()), (40, 10));
            assert_eq!(view.latest, view.recent.first().cloned());
            assert_eq!(bench.look("p").await.1, (0, 2), "what was removed is known, too");
        }
        assert_eq!(numbers(&bench.look("p").await.0)[..3], [newest - 1, newest - 2, newest - 5]);
    }
}

#[tokio::test]
async fn versions_that_come_late_are_counted_in_the_end() {
    let bench = Bench::new(Numbering::Timestamp);
    bench.add("p", 1_795_223_159_001..1_795_223_159_021).await;
    bench.look("p").await;
    // An import, far behind what is listed.
    bench.add("p", std::iter::once(1_795_000_000_000)).await;
    let package = PackageName::existing("p");
    let mut looks = 0;
    loop {
        let views = bench.ledger.views(std::slice::from_ref(&package), &bench.known).await;
        if views[0].1.as_ref().expect("view").version_count == 21 {
            break;
        }
        looks += 1;
        assert!(looks <= 50, "never");
    }
}

#[tokio::test]
async fn numbers_of_several_lengths_in_a_timestamp_ledger_are_all_seen() {
    let bench = Bench::new(Numbering::Timestamp);
    // As an import leaves them.
    bench.add("p", 90..100).await;
    bench.look("p").await;
    bench.add("p", std::iter::once(1_795_223_159_001)).await;
    assert_eq!(numbers(&bench.look("p").await.0)[..2], [1_795_223_159_001, 99]);
}

#[tokio::test]
async fn a_tag_that_pointed_to_nothing_gets_its_version() {
    let bench = Bench::new(Numbering::Sequence);
    bench.add("p", 1..2).await;
    bench.tag("p", "live", 3).await;
    assert_eq!(bench.look("p").await.0.tags[0].record, None);
    bench.add("p", 2..4).await;
    let (view, _) = bench.look("p").await;
    assert_eq!(view.tags[0].record.as_ref().map(|record| record.version.get()), Some(3));
}

#[tokio::test]
async fn a_tag_that_comes_back_to_a_version_is_not_shown_what_was_removed_meanwhile() {
    let bench = Bench::new(Numbering::Sequence);
    bench.add("p", 1..30).await;
    bench.tag("p", "live", 1).await;
    assert!(bench.look("p").await.0.tags[0].record.is_some());
    bench.remove("p", 1).await;
    // A 2015 client looks at nothing.
    bench.tag("p", "live", 2).await;
    bench.tag("p", "other", 1).await;
    let (view, _) = bench.look("p").await;
    let records: Vec<_> = view.tags.iter().map(|tag| tag.record.is_some()).collect();
    assert_eq!(records, [true, false]);
}

#[tokio::test]
async fn a_broken_package_fails_alone_and_is_well_again() {
    let bench = Bench::new(Numbering::Sequence);
    for package in ["a", "b", "c"] {
        bench.add(package, 1..4).await;
        bench.tag(package, "live", 1).await;
    }
    let packages = ["a", "b", "c", "none"].map(PackageName::existing);
    let outcome = async || {
        let views = bench.ledger.views(&packages, &bench.known).await;
        let outcome =
            |(_, view): (_, Result<_>)| view.map(drop).map_err(|error| error.key().map(str::to_owned));
        views.into_iter().map(outcome).collect::<Vec<_>>()
    };
    bench.write("b/tags/live", "not json".into()).await;
    assert_eq!(outcome().await, [Ok(()), Err(Some("b/tags/live".to_owned())), Ok(()), Err(None)]);
    bench.tag("b", "live", 2).await;
    assert_eq!(outcome().await[1], Ok(()));
    assert_eq!(bench.known.len(), 3);
}

#[tokio::test]
async fn what_vanished_is_not_remembered() {
    let bench = Bench::new(Numbering::Sequence);
    bench.add("p", 1..4).await;
    bench.tag("p", "live", 1).await;
    bench.look("p").await;
    for key in ["p/versions/1", "p/versions/2", "p/versions/3"] {
        bench.ledger.objects.inner.remove(key);
    }
    let package = PackageName::existing("p");
    let views = bench.ledger.views(std::slice::from_ref(&package), &bench.known).await;
    assert!(views[0].1.as_ref().is_err_and(Error::is_not_found));
    assert!(bench.known.is_empty());
}
