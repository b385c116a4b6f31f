//! Blobs of several parts: what is asked for how often, slow parts, and what one process leaves for the next.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sacker::exit::Exit;
use sacker::fetch::{Leftovers, Options, Patience, Target, copy, fetch_with};
use sacker::model::Sha256;
use tempfile::TempDir;

use super::faulty::{Fault, FaultyStore};
use super::{artifact, names, noise};

/// Bytes of a part.
const PART: usize = 8 << 20;

/// Five parts, the last of 12 bytes.
const SIZE: usize = 4 * PART + 12;

fn large() -> Bytes {
    Bytes::from(noise(SIZE))
}

fn options(retries: u32) -> Options {
    let patience = Patience { stall: Duration::from_mins(1), retries, ..Patience::default() };
    Options { patience, ..Options::default() }
}

/// With these no part is called slow, however busy the machine is: each is asked for once.
fn without_races() -> Options {
    let patience = Patience { stall: Duration::from_mins(1), retries: 0, slow: Duration::from_mins(1) };
    Options { patience, ..Options::default() }
}

fn partial(blob: &Bytes) -> String {
    format!(".sacker-{}.partial", Sha256::of(blob))
}

/// Whether a partial file says that its first part is there: a byte per part stands behind the blob's.
fn has_first_part(path: &Path) -> bool {
    let mut flag = [0];
    fs::File::open(path).is_ok_and(|file| file.read_exact_at(&mut flag, SIZE as u64).is_ok()) && flag == [1]
}

/// Whether the file in a directory is the blob, and alone there.
fn assert_is_there(directory: &Path, blob: &Bytes) {
    assert!(fs::read(directory.join("app.jar")).expect("the file") == *blob);
    assert_eq!(names(directory), ["app.jar"]);
}

/// A directory in which a fetch came to an end after two parts, since its store fell silent: later than the parts came, however
/// many requests were on their way meanwhile.
async fn interrupted(blob: &Bytes) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = FaultyStore::new(&[blob], &[Fault::None, Fault::None, Fault::StallAt(0)]);
    let target = Target::directory(directory.path());
    let patience = Patience { stall: Duration::from_secs(1), retries: 0, ..Patience::default() };
    let options = Options { patience, ..Options::default() };
    let error = fetch_with(&store, &artifact(blob), &target, &options, &|_| {})
        .await
        .expect_err("the store is silent");
    assert_eq!(Exit::from(&error), Exit::Unavailable, "{error}");
    assert_eq!(names(directory.path()), [partial(blob)], "what arrived stays");
    directory
}

#[tokio::test]
async fn each_part_is_asked_for_once() {
    let blob = large();
    let store = FaultyStore::new(&[&blob], &[Fault::None]).with_chunk(100_000);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let target = Target::directory(directory.path());
    let arrived = AtomicU64::new(0);
    let count = |bytes| {
        arrived.fetch_add(bytes, Ordering::SeqCst);
    };
    fetch_with(&store, &artifact(&blob), &target, &without_races(), &count).await.expect("the blob");
    assert_is_there(directory.path(), &blob);
    assert_eq!((store.asked(), arrived.load(Ordering::SeqCst)), (SIZE, SIZE as u64));
    assert!((2..=5).contains(&store.opened()), "{} requests", store.opened());
}

#[tokio::test]
async fn a_stream_gets_its_parts_in_order() {
    let blob = large();
    let store = FaultyStore::new(&[&blob], &[Fault::None, Fault::BreakAt(5 << 20), Fault::None]);
    let copied = tempfile::NamedTempFile::new().expect("a file");
    let writer = copied.reopen().expect("opened");
    let size = copy(&store, &artifact(&blob), writer, &|_| {}).await.expect("the blob");
    assert_eq!(size, SIZE as u64);
    assert!(fs::read(copied.path()).expect("read") == blob);
    assert!(store.asked() > SIZE, "what did not come is asked for again");
}

#[tokio::test]
async fn a_part_that_hangs_is_asked_for_again_before_its_time_is_over() {
    let blob = large();
    let store = FaultyStore::new(&[&blob], &[Fault::None, Fault::StallAt(PART + 1_000_000), Fault::None]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let start = Instant::now();
    fetch_with(&store, &artifact(&blob), &Target::directory(directory.path()), &options(0), &|_| {})
        .await
        .expect("the blob");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_is_there(directory.path(), &blob);
    assert!(store.asked() > SIZE, "what did not come is asked for again");
}

#[tokio::test]
async fn what_arrived_is_not_asked_for_again() {
    let blob = large();
    let directory = interrupted(&blob).await;
    let store = FaultyStore::new(&[&blob], &[Fault::None]);
    let arrived = AtomicU64::new(0);
    let count = |bytes| {
        arrived.fetch_add(bytes, Ordering::SeqCst);
    };
    let target = Target::directory(directory.path());
    fetch_with(&store, &artifact(&blob), &target, &without_races(), &count).await.expect("the blob");
    assert_is_there(directory.path(), &blob);
    assert_eq!(arrived.load(Ordering::SeqCst), SIZE as u64, "with what was there");
    assert!(store.asked() < SIZE, "{} bytes", store.asked());
}

#[tokio::test]
async fn what_arrived_is_not_trusted() {
    let blob = large();
    let directory = interrupted(&blob).await;
    let path = directory.path().join(partial(&blob));
    let mut file = fs::OpenOptions::new().write(true).open(&path).expect("opened");
    file.seek(SeekFrom::Start(1_000)).expect("there");
    let other = if blob[1_000] == b'x' { b'y' } else { b'x' };
    file.write_all(&[other]).expect("spoilt");
    drop(file);
    let store = FaultyStore::new(&[&blob], &[Fault::None]);
    let target = Target::directory(directory.path());
    fetch_with(&store, &artifact(&blob), &target, &options(0), &|_| {}).await.expect("the blob");
    assert_is_there(directory.path(), &blob);
    assert!(store.asked() > SIZE + SIZE / 3, "what was missing, and then everything: {}", store.asked());
}

#[tokio::test]
async fn what_no_process_left_is_not_gone_on_with() {
    let blob = large();
    for damage in ["link", "mode", "name", "cut"] {
        let directory = interrupted(&blob).await;
        let path = directory.path().join(partial(&blob));
        match damage {
            "link" => fs::hard_link(&path, directory.path().join("held")).expect("linked"),
            "mode" => {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
                fs::set_permissions(&path, mode).expect("set");
            }
            "name" => {
                fs::rename(&path, directory.path().join("elsewhere")).expect("renamed");
                std::os::unix::fs::symlink("elsewhere", &path).expect("linked");
            }
            _ => fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .expect("opened")
                .set_len(9_000_000)
                .expect("cut"),
        }
        let store = FaultyStore::new(&[&blob], &[Fault::None]);
        let target = Target::directory(directory.path());
        fetch_with(&store, &artifact(&blob), &target, &without_races(), &|_| {}).await.expect("the blob");
        assert!(fs::read(directory.path().join("app.jar")).expect("the file") == blob, "{damage}");
        assert_eq!(store.asked(), SIZE, "{damage}");
    }
}

#[tokio::test]
async fn another_blob_takes_the_place_and_a_wanted_one_keeps_it() {
    let (blob, small) = (large(), Bytes::from_static(b"small"));
    for (wanted, stays) in [(None, false), (Some(Sha256::of(&blob)), true)] {
        let directory = interrupted(&blob).await;
        let store = FaultyStore::new(&[&small], &[Fault::None]);
        let options = Options { leftovers: Arc::new(Leftovers::but_for(wanted)), ..options(0) };
        let target = Target::directory(directory.path());
        fetch_with(&store, &artifact(&small), &target, &options, &|_| {}).await.expect("the blob");
        assert_eq!(names(directory.path()).contains(&partial(&blob)), stays);
    }
}

#[tokio::test]
async fn who_is_cancelled_leaves_what_arrived_if_that_is_wanted() {
    let blob = large();
    for (keep_when_cancelled, left) in [(true, vec![partial(&blob)]), (false, vec![])] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = FaultyStore::new(&[&blob], &[Fault::None, Fault::StallAt(PART + 1)]);
        let options = Options { keep_when_cancelled, ..options(0) };
        let target = Target::directory(directory.path());
        let artifact = artifact(&blob);
        let fetching = fetch_with(&store, &artifact, &target, &options, &|_| {});
        let some = async {
            let start = Instant::now();
            while !has_first_part(&directory.path().join(partial(&blob))) {
                assert!(start.elapsed() < Duration::from_secs(20), "nothing arrives");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            _ = fetching => panic!("a part hangs"),
            () = some => {}
        }
        assert_eq!(names(directory.path()), left);
    }
}
