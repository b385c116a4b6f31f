//! Verified download against a store that misbehaves: the destination is absent, old, or right, and nothing else is left.

mod faulty;
mod parts;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rstest::rstest;
use sacker::error::{Meaning, Result};
use sacker::exit::Exit;
use sacker::fetch::{Artifact, Fetched, Options, Patience, Target, copy, fetch, fetch_with};
use sacker::model::Sha256;
use sacker::store::Store;
use tempfile::TempDir;

use self::faulty::{Fault, FaultyStore};

/// Bytes that compress and repeat like a real file: not at all.
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Long enough for several pieces and more than the queue between network and disk holds.
const SIZE: usize = 5_000_003;

const HASTE: Patience =
    Patience { stall: Duration::from_millis(50), retries: 2, slow: Duration::from_mins(1) };

fn hasty() -> Options {
    Options { patience: HASTE, ..Options::default() }
}

fn blob() -> Bytes {
    noise(SIZE).into()
}

fn artifact(blob: &Bytes) -> Artifact {
    Artifact {
        label: "frontend-server@23".to_owned(),
        sha256: Sha256::of(blob),
        size: Some(blob.len() as u64),
        basename: Some("app.jar".to_owned()),
        mode: Some(0o100_644),
    }
}

async fn get(store: &dyn Store, artifact: &Artifact, target: impl AsRef<Path>) -> Result<Fetched> {
    fetch_with(store, artifact, &Target::at(target)?, &hasty(), &|_| {}).await
}

/// Everything in a directory, by name.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .expect("the directory is there")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("the file is there").mode() & 0o7777
}

/// A directory with an old file at the destination, which must survive every failure.
fn with_old_file() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("app.jar");
    fs::write(&path, "old").expect("the old file is written");
    (directory, path)
}

#[rstest]
#[case::nothing(&[Fault::None], 1)]
#[case::resets(&[Fault::BreakAt(0), Fault::BreakAt(70_001), Fault::None], 3)]
#[case::cut(&[Fault::EndAt(1_500_000), Fault::EndAt(SIZE - 1), Fault::None], 3)]
#[case::stalls(&[Fault::StallAt(0), Fault::StallAt(1_234_567), Fault::None], 3)]
#[case::silence_after_the_last_byte(&[Fault::StallAt(SIZE)], 1)]
#[case::reset_after_the_last_byte(&[Fault::BreakAt(SIZE)], 1)]
#[case::many_resets_with_progress(&[
    Fault::BreakAt(1_100_000), Fault::BreakAt(2_200_000), Fault::BreakAt(3_300_000), Fault::BreakAt(4_400_000), Fault::None,
], 5)]
#[case::away_for_a_while(&[Fault::BreakAt(1000), Fault::Away, Fault::None], 3)]
#[tokio::test]
async fn passing_faults_are_survived(#[case] script: &[Fault], #[case] opened: usize) {
    let blob = blob();
    let store = FaultyStore::new(&[&blob], script);
    let (directory, path) = with_old_file();
    let arrived = AtomicU64::new(0);
    let count = |bytes| {
        arrived.fetch_add(bytes, Ordering::SeqCst);
    };
    let target = Target::at(directory.path()).expect("a directory");
    let fetched = fetch_with(&store, &artifact(&blob), &target, &hasty(), &count).await.expect("the blob");

    let expected =
        Fetched { path: path.clone(), size: SIZE as u64, sha256: Sha256::of(&blob), already_there: false };
    assert_eq!(fetched, expected);
    assert_eq!(arrived.load(Ordering::SeqCst), SIZE as u64, "no byte is fetched twice");
    assert_eq!(store.opened(), opened);
    assert!(fs::read(&path).expect("the file") == blob);
    assert_eq!(mode(&path), 0o644);
    assert_eq!(names(directory.path()), ["app.jar"]);
}

#[rstest]
#[case::flipped_first(Fault::FlipAt(0), Exit::Integrity, "have sha256")]
#[case::flipped_last(Fault::FlipAt(SIZE - 1), Exit::Integrity, "have sha256")]
#[case::longer_than_said(Fault::TooLong(1), Exit::Integrity, "more than the 5000003 bytes")]
#[case::longer_than_recorded(Fault::Grown(10), Exit::Integrity, "has 5000013 bytes, 5000003 were recorded")]
#[case::shorter_than_recorded(Fault::Shrunk(10), Exit::Integrity, "has 4999993 bytes, 5000003 were recorded")]
#[case::always_cut(Fault::EndAt(1000), Exit::Unavailable, "it ended after 1000 of 5000003 bytes")]
#[case::always_reset(Fault::BreakAt(1000), Exit::Unavailable, "connection reset")]
#[case::always_silent(Fault::StallAt(1000), Exit::Unavailable, "no byte came for 50ms")]
#[case::forbidden(Fault::Denied, Exit::Denied, "s3:GetObject")]
#[tokio::test]
async fn lasting_faults_leave_the_old_file(
    #[case] fault: Fault,
    #[case] exit: Exit,
    #[case] message: &str,
    #[values(true, false)] size_known: bool,
) {
    let blob = blob();
    let store = FaultyStore::new(&[&blob], &[fault]);
    let mut artifact = artifact(&blob);
    if !size_known {
        artifact.size = None;
    }
    let (directory, path) = with_old_file();
    let error = get(&store, &artifact, directory.path()).await.expect_err("a failure");
    assert_eq!(Exit::from(&error), exit, "{error}");
    // Without a recorded size only the digest can tell.
    let by_digest = !size_known && matches!(fault, Fault::Grown(_) | Fault::Shrunk(_));
    let message = if by_digest { "have sha256" } else { message };
    assert!(error.to_string().contains(message), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("the file"), "old");
    assert_eq!(names(directory.path()), ["app.jar"]);

    let empty = tempfile::tempdir().expect("a temporary directory");
    get(&store, &artifact, empty.path()).await.expect_err("a failure");
    assert_eq!(names(empty.path()), [""; 0]);
}

#[tokio::test]
async fn a_store_that_stays_away_is_asked_as_often_as_patience_says() {
    let blob = blob();
    let store = FaultyStore::new(&[&blob], &[Fault::BreakAt(1000), Fault::Away]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let error = get(&store, &artifact(&blob), directory.path()).await.expect_err("a failure");
    assert_eq!(Exit::from(&error), Exit::Unavailable, "{error}");
    assert_eq!(store.opened(), 1 + usize::try_from(HASTE.retries).expect("few"));
    assert_eq!(names(directory.path()), [""; 0]);
}

#[tokio::test]
async fn wrong_bytes_are_named() {
    let blob = blob();
    let store = FaultyStore::new(&[&blob], &[Fault::FlipAt(17)]);
    let artifact = artifact(&blob);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let error = get(&store, &artifact, directory.path()).await.expect_err("wrong bytes").to_string();
    assert!(error.contains("frontend-server@23"), "{error}");
    assert!(error.contains(&artifact.sha256.to_string()), "{error}");
}

#[tokio::test]
async fn a_blob_that_changes_while_it_is_read_is_refused() {
    let blob = blob();
    let store = FaultyStore::new(&[&blob], &[Fault::BreakAt(1000), Fault::Grown(1)]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let error = get(&store, &artifact(&blob), directory.path()).await.expect_err("a failure");
    assert_eq!(Exit::from(&error), Exit::Integrity, "{error}");
    assert_eq!(names(directory.path()), [""; 0]);
}

#[tokio::test]
async fn an_absent_blob_is_not_found() {
    let blob = blob();
    let store = FaultyStore::new(&[], &[]);
    let (directory, path) = with_old_file();
    let error = get(&store, &artifact(&blob), directory.path()).await.expect_err("no blob");
    assert_eq!(Exit::from(&error), Exit::NotFound, "{error}");
    assert!(error.to_string().contains("frontend-server@23 from file:///faulty"), "{error}");
    assert_eq!(fs::read_to_string(path).expect("the file"), "old");
}

#[rstest]
#[case(0)]
#[case(1)]
#[tokio::test]
async fn tiny_blobs(#[case] size: usize) {
    let blob = Bytes::from(vec![b'x'; size]);
    let store = FaultyStore::new(&[&blob], &[Fault::None]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("named");
    let fetched = get(&store, &artifact(&blob), &path).await.expect("the blob");
    assert_eq!(fetched.size, size as u64);
    assert!(fs::read(&path).expect("the file") == blob);
}

#[tokio::test]
async fn pieces_larger_than_the_queue_pass() {
    let blob = blob();
    let store = FaultyStore::new(&[&blob], &[Fault::None]).with_chunk(SIZE);
    let directory = tempfile::tempdir().expect("a temporary directory");
    get(&store, &artifact(&blob), directory.path()).await.expect("the blob");
}

#[rstest]
#[case(0o100_755, 0o755)]
#[case(0o100_640, 0o640)]
#[case(0o104_755, 0o755)]
#[case(0o102_777, 0o755)]
#[case(0o100_666, 0o644)]
#[case(0o101_777, 0o755)]
#[case(0, 0o644)]
#[tokio::test]
async fn the_mode_is_made_safe(#[case] recorded: u32, #[case] expected: u32) {
    let blob = Bytes::from_static(b"#!/bin/true\n");
    let store = FaultyStore::new(&[&blob], &[Fault::None]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let artifact = Artifact { mode: Some(recorded), ..artifact(&blob) };
    let fetched = get(&store, &artifact, directory.path()).await.expect("the blob");
    assert_eq!(mode(&fetched.path), expected);
}

#[tokio::test]
async fn the_right_file_is_kept_without_asking_the_store() {
    let blob = blob();
    let store = FaultyStore::new(&[&blob], &[Fault::None]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let artifact = artifact(&blob);
    let first = get(&store, &artifact, directory.path()).await.expect("the blob");
    let inode = fs::metadata(&first.path).expect("the file").ino();
    for size in [artifact.size, None] {
        let again = Artifact { size, ..artifact.clone() };
        let kept = get(&store, &again, directory.path()).await.expect("the file");
        assert!(kept.already_there);
        assert_eq!(kept.size, SIZE as u64);
    }
    assert_eq!(store.opened(), 1);
    assert_eq!(fs::metadata(&first.path).expect("the file").ino(), inode);
}

#[tokio::test]
async fn a_file_that_is_right_only_at_first_sight_is_replaced() {
    let blob = blob();
    let store = FaultyStore::new(&[&blob], &[Fault::None]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("app.jar");
    let elsewhere = directory.path().join("elsewhere");
    let wrong_bytes = || fs::write(&path, vec![0; SIZE]);
    let wrong_mode = || fs::set_permissions(&path, fs::Permissions::from_mode(0o666));
    // Whoever has the other name can change the bytes.
    let second_link = || fs::hard_link(&path, &elsewhere);
    let spoils: [&dyn Fn() -> std::io::Result<()>; 3] = [&wrong_bytes, &wrong_mode, &second_link];
    get(&store, &artifact(&blob), directory.path()).await.expect("the blob");
    for spoil in spoils {
        spoil().expect("the file is spoiled");
        let fetched = get(&store, &artifact(&blob), directory.path()).await.expect("the blob");
        assert!(!fetched.already_there);
        assert!(fs::read(&path).expect("the file") == blob);
        assert_eq!(mode(&path), 0o644);
    }
    assert_eq!(store.opened(), 4);
}

#[tokio::test]
async fn a_right_file_of_somebody_else_is_replaced() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give files away.
        return;
    }
    let blob = Bytes::from_static(b"bytes");
    let store = FaultyStore::new(&[&blob], &[Fault::None]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = get(&store, &artifact(&blob), directory.path()).await.expect("the blob").path;
    std::os::unix::fs::chown(&path, Some(12_345), None).expect("it is given away");
    let again = get(&store, &artifact(&blob), directory.path()).await.expect("the blob");
    assert!(!again.already_there);
    assert_eq!(fs::metadata(&path).expect("the file").uid(), 0);
}

#[tokio::test]
async fn what_is_no_regular_file_stays() {
    let blob = blob();
    let store = FaultyStore::new(&[&blob], &[Fault::None]);
    let outside = tempfile::tempdir().expect("a temporary directory");
    let victim = outside.path().join("victim");
    fs::write(&victim, "precious").expect("the victim is written");

    let link = |path: &Path| symlink(&victim, path).expect("a link");
    let dangling = |path: &Path| symlink("/nowhere/at/all", path).expect("a link");
    let fifo = |path: &Path| {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
    };
    let directory = |path: &Path| fs::create_dir(path).expect("a directory");
    let makers: [&dyn Fn(&Path); 4] = [&link, &dangling, &fifo, &directory];
    let kinds = ["a symbolic link", "a symbolic link", "a FIFO", "a directory"];
    for (make, kind) in makers.into_iter().zip(kinds) {
        let message = &format!("{kind} is there");
        let target = tempfile::tempdir().expect("a temporary directory");
        let path = target.path().join("app.jar");
        make(&path);
        let before = fs::symlink_metadata(&path).expect("it is there");
        let error = get(&store, &artifact(&blob), target.path()).await.expect_err(message);
        assert_eq!(Exit::from(&error), Exit::LocalIo);
        assert!(error.to_string().contains(message), "{error}");
        let after = fs::symlink_metadata(&path).expect("it is still there");
        assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
        assert_eq!(names(target.path()), ["app.jar"]);
    }
    assert_eq!(fs::read_to_string(&victim).expect("the victim"), "precious");
    assert_eq!(store.opened(), 0, "nothing is fetched that has no place");
}

#[tokio::test]
async fn hostile_names_reach_nothing() {
    let blob = Bytes::from_static(b"bytes");
    let store = FaultyStore::new(&[&blob], &[Fault::None]);
    let parent = tempfile::tempdir().expect("a temporary directory");
    let directory = parent.path().join("a/b");
    fs::create_dir_all(&directory).expect("directories");
    let long = "x".repeat(300);
    for hostile in ["../../x", "../x", "/etc/sacker-test", "a/b", "..", ".", "", "a\0b", "a\nb", &long] {
        let artifact = Artifact { basename: Some(hostile.to_owned()), ..artifact(&blob) };
        let error = get(&store, &artifact, &directory).await.expect_err(hostile);
        assert_eq!(Exit::from(&error), Exit::Integrity, "{error}");
        assert_eq!((names(parent.path()), names(&directory)), (vec!["a".to_owned()], Vec::new()));
        // The name was the only thing wrong with it.
        let named = directory.join("chosen");
        get(&store, &artifact, &named).await.expect("the blob");
        fs::remove_file(named).expect("it is there");
    }
    assert!(!Path::new("/etc/sacker-test").exists());
}

#[tokio::test]
async fn a_directory_behind_links_is_reached() {
    let blob = Bytes::from_static(b"bytes");
    let store = FaultyStore::new(&[&blob], &[Fault::None]);
    let parent = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(parent.path().join("real")).expect("a directory");
    symlink("real", parent.path().join("link")).expect("a link");
    let fetched = get(&store, &artifact(&blob), parent.path().join("link")).await.expect("the blob");
    assert_eq!(fetched.path, parent.path().join("link/app.jar"));
    assert_eq!(names(&parent.path().join("real")), ["app.jar"]);
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let blob = Bytes::from_static(b"bytes");
    let store = FaultyStore::new(&[&blob], &[Fault::None]);
    let parent = tempfile::tempdir().expect("a temporary directory");
    for target in ["missing/", "missing/app.jar"] {
        let error = get(&store, &artifact(&blob), parent.path().join(target)).await.expect_err(target);
        assert_eq!(Exit::from(&error), Exit::LocalIo);
        let expected = format!("'{}", parent.path().join("missing").display());
        assert!(error.to_string().contains(&expected), "{error}");
        assert_eq!(error.hint(), Some("create the directory, or mount a volume there"));
    }
    assert_eq!(store.opened(), 0);
}

#[tokio::test]
async fn a_dropped_fetch_leaves_nothing() {
    let blob = blob();
    let store = FaultyStore::new(&[&blob], &[Fault::StallAt(4_000_000)]);
    let (directory, path) = with_old_file();
    let patience = Patience { stall: Duration::from_mins(1), retries: 0, ..Patience::default() };
    let options = Options { patience, ..Options::default() };
    let target = Target::at(&path).expect("a file");
    let artifact = artifact(&blob);
    {
        let fetching = fetch_with(&store, &artifact, &target, &options, &|_| {});
        tokio::pin!(fetching);
        // Until the temporary file is there.
        let deadline = Instant::now() + Duration::from_secs(10);
        while names(directory.path()).len() < 2 {
            assert!(Instant::now() < deadline, "no temporary file appears");
            let turn = tokio::time::timeout(Duration::from_millis(1), &mut fetching).await;
            assert!(turn.is_err(), "the store is silent");
        }
        assert_eq!(mode(&directory.path().join(&names(directory.path())[0])), 0o600);
    }
    assert_eq!(names(directory.path()), ["app.jar"]);
    assert_eq!(fs::read_to_string(path).expect("the file"), "old");
}

#[tokio::test]
async fn leftovers_are_swept_and_living_files_are_not() {
    let blob = Bytes::from_static(b"bytes");
    let store = FaultyStore::new(&[&blob], &[Fault::None]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let temporary = |digit: char| format!(".sacker-{}.partial", digit.to_string().repeat(32));
    let (dead, alive, foreign) = (temporary('d'), temporary('a'), ".sacker-mine.partial".to_owned());
    for name in [&dead, &alive, &foreign] {
        fs::write(directory.path().join(name), "half").expect("a file");
    }
    let lock = fs::File::open(directory.path().join(&alive)).expect("the file");
    lock.lock().expect("the lock");
    get(&store, &artifact(&blob), directory.path()).await.expect("the blob");
    assert_eq!(names(directory.path()), [alive.clone(), foreign.clone(), "app.jar".to_owned()]);

    drop(lock);
    get(&store, &artifact(&blob), directory.path().join("other")).await.expect("the blob");
    assert_eq!(names(directory.path()), [foreign.clone(), "app.jar".to_owned(), "other".to_owned()]);

    // Also by a run that finds its file in place: maybe nobody comes after it.
    fs::write(directory.path().join(&dead), "half").expect("a file");
    let kept = get(&store, &artifact(&blob), directory.path()).await.expect("the blob");
    assert!(kept.already_there);
    assert_eq!(names(directory.path()), [foreign, "app.jar".to_owned(), "other".to_owned()]);
}

#[tokio::test]
async fn many_fetches_into_one_directory_do_not_disturb_each_other() {
    let blobs: Vec<_> = (0..20_u8).map(|number| Bytes::from(vec![number; 100_000])).collect();
    let references: Vec<_> = blobs.iter().collect();
    let store = FaultyStore::new(&references, &[Fault::None]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    // Twice the same, so that two also race for one name.
    let fetches = blobs.iter().chain(&blobs).map(|blob| {
        let artifact = Artifact { basename: Some(Sha256::of(blob).short()), ..artifact(blob) };
        let (store, path) = (&store, directory.path());
        async move { get(store, &artifact, path).await }
    });
    for fetched in futures::future::join_all(fetches).await {
        fetched.expect("the blob");
    }
    assert_eq!(names(directory.path()).len(), blobs.len());
    for blob in &blobs {
        assert!(fs::read(directory.path().join(Sha256::of(blob).short())).expect("the file") == *blob);
    }
}

#[tokio::test]
async fn a_copy_is_verified_at_its_end() {
    let blob = blob();
    let artifact = artifact(&blob);
    let store = FaultyStore::new(&[&blob], &[Fault::BreakAt(1_000_000), Fault::None]);
    let copied = tempfile::NamedTempFile::new().expect("a file");
    let writer = copied.reopen().expect("opened");
    assert_eq!(copy(&store, &artifact, writer, &|_| {}).await.expect("the blob"), SIZE as u64);
    assert!(fs::read(copied.path()).expect("read") == blob);

    let store = FaultyStore::new(&[&blob], &[Fault::FlipAt(SIZE - 1)]);
    let error = copy(&store, &artifact, std::io::sink(), &|_| {}).await.expect_err("wrong bytes");
    assert_eq!(Exit::from(&error), Exit::Integrity);
}

#[tokio::test]
async fn a_failing_writer_is_told_apart() {
    let blob = blob();
    let store = FaultyStore::new(&[&blob], &[Fault::None]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let error = copy(&store, &artifact(&blob), writer, &|_| {}).await.expect_err("a closed pipe");
    assert!(matches!(error.meaning(), Meaning::Local { .. }), "{error}");
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>());
    assert_eq!(source.map(std::io::Error::kind), Some(std::io::ErrorKind::BrokenPipe));
}

#[tokio::test]
async fn the_plain_form_has_the_usual_patience() {
    let blob = blob();
    let store = FaultyStore::new(&[&blob], &[Fault::BreakAt(9), Fault::None]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let target = Target::directory(directory.path());
    fetch(&store, &artifact(&blob), &target, &|_| {}).await.expect("the blob");
}
