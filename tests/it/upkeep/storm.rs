//! V9: eight writers beside collection, with times compressed to seconds. What nobody refers to any more is condemned and
//! deleted all the time, and about a third of the adds are of blobs that are condemned, as soon as there are some.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use rstest::rstest;
use sacker::model::{Removal, Version};
use sacker::store::Listed;
use sacker::upkeep::gc::{Manifest, Verdict};

use super::*;
use crate::support::tier;

const WRITERS: usize = 8;

/// Short enough for many lives of a blob, long enough for a busy machine: a writer that stalls for seconds between blob and
/// version breaks the rules, and what then happens proves nothing.
const GRACE: &str = "4s";

#[derive(Default)]
struct Shared {
    /// Versions that were acknowledged and that nobody began to remove.
    acknowledged: Mutex<BTreeMap<(PackageName, Version), Sha256>>,
    /// What a digest is the digest of.
    contents: Mutex<HashMap<Sha256, String>>,
    /// What the last cycle had condemned.
    condemned: Mutex<Vec<Sha256>>,
    adds: AtomicU64,
    again: AtomicU64,
    restored: AtomicU64,
    enough: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Adds until it is enough: new content, or what is condemned; and removes old versions, so that there is garbage.
async fn write(place: &Place, shared: &Shared, number: usize, mut random: fastrand::Rng) {
    let package = package(&format!("writer-{number}"));
    let mut mine: Vec<(Version, Sha256)> = Vec::new();
    let mut count = 0_u64;
    while !shared.enough.load(Ordering::Relaxed) {
        let candidates = lock(&shared.condemned).clone();
        let chosen = random.choice(&candidates).filter(|_| random.u8(..100) < 35).copied();
        let content = match chosen.and_then(|sha256| lock(&shared.contents).get(&sha256).cloned()) {
            Some(content) => {
                shared.again.fetch_add(1, Ordering::Relaxed);
                content
            }
            None => format!("{number} {count} {}", random.u64(..)),
        };
        count += 1;
        let blob = place.file(&format!("writer-{number}"), &content);
        lock(&shared.contents).insert(blob.sha256, content);
        // Some writers die between blob and version.
        if random.u8(..100) < 10 {
            place.publisher().ensure(blob.file(), &|_| {}).await.expect("stored");
            continue;
        }
        let published =
            place.publisher().publish(&package, &blob.version(), blob.file()).await.expect("published");
        let version = published.record.version;
        shared.adds.fetch_add(1, Ordering::Relaxed);
        shared.restored.fetch_add(u64::from(published.restored), Ordering::Relaxed);
        lock(&shared.acknowledged).insert((package.clone(), version), blob.sha256);
        mine.push((version, blob.sha256));
        while mine.len() > 5 {
            let (version, _) = mine.swap_remove(random.usize(..mine.len()));
            lock(&shared.acknowledged).remove(&(package.clone(), version));
            let at = Clock::now(&SystemClock);
            let removal = Removal { at, by: "tester".to_owned(), reason: None };
            place.ledgers[0].remove_version(&package, version, &removal).await.expect("removed");
        }
    }
}

/// Acknowledged versions whose blob is not there.
async fn dangling(place: &Place, shared: &Shared) -> Vec<String> {
    let acknowledged = lock(&shared.acknowledged).clone();
    let listed: Vec<Listed> = place.collected.list().try_collect().await.expect("listed");
    let there: std::collections::BTreeSet<Sha256> = listed
        .into_iter()
        .filter_map(|one| match one {
            Listed::Blob(blob) => Some(blob.sha256),
            Listed::Foreign(_) => None,
        })
        .collect();
    let mut dangling = Vec::new();
    for ((package, version), sha256) in acknowledged {
        if there.contains(&sha256) || place.store.head(&sha256).await.expect("looked").is_some() {
            continue;
        }
        // Somebody may have begun to remove it meanwhile.
        if lock(&shared.acknowledged).contains_key(&(package.clone(), version)) {
            dangling.push(format!("{package}@{version} {sha256}"));
        }
    }
    dangling
}

/// What came of storms.
#[derive(Debug, Default)]
struct Figures {
    adds: u64,
    again: u64,
    cycles: u64,
    deleted: u64,
    restored: u64,
    reuploaded: u64,
}

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.adds += other.adds;
        self.again += other.again;
        self.cycles += other.cycles;
        self.deleted += other.deleted;
        self.restored += other.restored;
        self.reuploaded += other.reuploaded;
    }
}

/// How much one storm does. Every cycle reads every version, so a longer storm costs more than several.
const ADDS: u64 = 2_000;
const CYCLES: u64 = 10;

/// Files in HDFS take several requests each, and every DataNode a sync to disk: a third in every run.
fn adds(kind: Kind) -> u64 {
    if kind == Kind::Hdfs { tier::figure(ADDS / 3, ADDS) } else { ADDS }
}

/// Many storms in a soak: 100,000 adds and 500 cycles in all.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_version_ever_loses_its_blob(
    #[values(Kind::File, Kind::Versioned, Kind::CreateOnly, Kind::Hdfs)] kind: Kind,
) {
    let seed = tier::seed("no_version_ever_loses_its_blob");
    let began = Instant::now();
    let mut all = Figures::default();
    for round in 0..tier::figure(1, 50) {
        let Some(place) = Place::new(kind, GRACE).await else { return };
        all += storm(&place, adds(kind), seed.wrapping_add(round)).await;
    }
    let Figures { adds, again, cycles, deleted, restored, reuploaded } = all;
    let seconds = began.elapsed().as_secs();
    let figures = format!(
        "V9 backend={kind:?} seed={seed} operations={adds} cycles={cycles} readds={again} deleted={deleted} \
         restored={restored} reuploaded={reuploaded} faults=0 violations=0 seconds={seconds}"
    );
    if tier::is_soak() {
        tier::summary(&figures);
    } else {
        println!("{figures}");
    }
}

/// Writers beside a collector, until there was enough of everything that can go wrong.
async fn storm(place: &Place, adds: u64, seed: u64) -> Figures {
    let shared = Shared::default();
    let rules = Rules { period: Duration::from_millis(300), max_percent: None, ..place.rules() };
    let mut random = fastrand::Rng::with_seed(seed);
    let writers = (0..WRITERS).map(|number| write(place, &shared, number, random.fork()));
    let collector = async {
        let (mut done, mut deleted, mut restored) = (0_u64, 0, 0);
        let has_enough = |deleted: u64| {
            let (total, again) = (shared.adds.load(Ordering::Relaxed), shared.again.load(Ordering::Relaxed));
            // Also of what can go wrong: deletions, and adds of condemned blobs.
            total >= adds && deleted >= adds / 20 && again * 10 >= total
        };
        while done < CYCLES || !has_enough(deleted) {
            let report = place.cycle(&*place.collected, rules).await.expect("a cycle");
            done += 1;
            deleted += report.deleted() as u64;
            let shown = |verdict| matches!(verdict, Verdict::Restore);
            restored += report.blobs.iter().filter(|(decision, _)| shown(decision.verdict)).count();
            let manifest = place.collected.read_manifest().await.expect("read");
            let manifest =
                manifest.map(|manifest| Manifest::decode(&manifest.bytes, "manifest").expect("ours"));
            *lock(&shared.condemned) = manifest.unwrap_or_default().blobs.into_keys().collect();
            let dangling = dangling(place, &shared).await;
            assert_eq!(dangling, Vec::<String>::new(), "after cycle {done}, seed {seed}");
        }
        shared.enough.store(true, Ordering::Relaxed);
        (done, deleted, restored)
    };
    let ((done, deleted, restored), _) = tokio::join!(collector, futures::future::join_all(writers));

    // In the end every version is looked at, one by one.
    let mut versions = 0;
    for number in 0..WRITERS {
        for record in place.ledgers[0].versions(&package(&format!("writer-{number}"))).await.expect("listed")
        {
            if !record.is_removed() {
                versions += 1;
                let head = place.store.head(&record.sha256).await.expect("looked");
                assert!(head.is_some(), "{}@{} dangles, seed {seed}", record.package, record.version);
            }
        }
    }
    let (total, again) = (shared.adds.load(Ordering::Relaxed), shared.again.load(Ordering::Relaxed));
    assert!(versions > 0, "nothing is left to look at");
    Figures {
        adds: total,
        again,
        cycles: done,
        deleted,
        restored: restored as u64,
        reuploaded: shared.restored.load(Ordering::Relaxed),
    }
}
