//! Stores: one conformance suite over every kind of store, and what only one kind can show.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use rstest::rstest;
use sacker::connect::Connect;
use sacker::error::{Error, Meaning, Missing, Result};
use sacker::exit::Exit;
use sacker::model::Sha256;
use sacker::store::{self, BlobFile, BlobReader, PutOutcome, Store, WHOLE};

use crate::support::canned::Canned;
use crate::support::testbed::{self, Hdfs, S3Server};
use crate::support::{self, eventually, unique};

pub(crate) mod collect;
mod digests;
mod hdfs;
mod parts;

const MIB: usize = 1 << 20;

/// The kinds of stores.
#[derive(Debug, Clone, Copy)]
enum Kind {
    File,
    Minio,
    Versitygw,
    Hdfs,
}

/// A store that nobody else uses, not yet set up.
struct Target {
    store: Arc<dyn Store>,
    /// The server, for looking behind the store's back.
    server: Option<S3Server>,
    hdfs: Option<Arc<Hdfs>>,
    place: String,
    folder: tempfile::TempDir,
}

impl Target {
    /// Nothing when the server is not there.
    async fn new(kind: Kind) -> Option<Self> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
        let (server, hdfs) = match kind {
            Kind::File => (None, None),
            Kind::Minio => (Some(testbed::minio()?), None),
            Kind::Versitygw => (Some(testbed::versitygw()?), None),
            Kind::Hdfs => (None, Some(testbed::hdfs()?)),
        };
        let place = match kind {
            Kind::File => folder.path().join("above/store").to_str().expect("UTF-8").to_owned(),
            Kind::Minio | Kind::Versitygw => unique("store"),
            Kind::Hdfs => format!("/stores/{}/store", unique("above")),
        };
        let (uri, connect) = Self::reach(server.as_ref(), hdfs.as_deref(), &place);
        Some(Self { store: open(&uri, &connect).await, server, hdfs, place, folder })
    }

    fn reach(server: Option<&S3Server>, hdfs: Option<&Hdfs>, place: &str) -> (String, Connect) {
        let unused = support::connect("unused", "unused");
        match (server, hdfs) {
            (Some(server), _) => (server.uri(&format!("{place}/some/prefix")), server.connect()),
            (None, Some(hdfs)) => (hdfs.uri(place), unused),
            (None, None) => (format!("file://{place}"), unused),
        }
    }

    /// The store's URI with these settings, and what it takes to reach it.
    fn with(&self, settings: &str) -> (String, Connect) {
        let (uri, connect) = Self::reach(self.server.as_ref(), self.hdfs.as_deref(), &self.place);
        let separator = if uri.contains('?') { '&' } else { '?' };
        (format!("{uri}{separator}{settings}"), connect)
    }

    /// What the store keeps a blob as.
    fn blob_name(&self, sha256: &Sha256) -> String {
        let name = sha256.to_string();
        if self.hdfs.is_some() { format!("{}/{name}", &name[..2]) } else { name }
    }

    /// Writes a file or object of the store, behind its back.
    async fn write(&self, name: &str, content: &[u8]) {
        match (&self.server, &self.hdfs) {
            (Some(server), _) => {
                let request = server.client().await.put_object().bucket(&self.place);
                let body = aws_sdk_s3::primitives::ByteStream::from(content.to_vec());
                request.key(format!("some/prefix/{name}")).body(body).send().await.expect("written");
            }
            (None, Some(hdfs)) => hdfs.write(&format!("{}/{name}", self.place), content).await,
            (None, None) => {
                let path = Path::new(&self.place).join(name);
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
                std::fs::write(path, content).expect("written");
            }
        }
    }

    /// The same, set up.
    async fn ready(kind: Kind) -> Option<Self> {
        let target = Self::new(kind).await?;
        target.store.init().await.expect("it can be set up");
        Some(target)
    }

    /// A local file with `size` bytes that differ from place to place, and its digest.
    fn file(&self, size: usize) -> (PathBuf, Sha256) {
        let bytes = content(size);
        let path = self.folder.path().join(format!("source-{size}"));
        std::fs::write(&path, &bytes).expect("written");
        (path, Sha256::of(&bytes))
    }

    /// What an upload that did not end well may have left: unfinished files, or parts that the server still keeps.
    async fn leftovers(&self) -> usize {
        if let Some(hdfs) = &self.hdfs {
            return hdfs.files(&format!("{}/_sacker", self.place)).await.len();
        }
        let Some(server) = &self.server else {
            // What collection keeps for itself (its lock, made by whoever replaces a blob) was not left by accident.
            let files = std::fs::read_dir(&self.place).into_iter().flatten();
            let names = files.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
            return names.filter(|name| name.len() != 64 && name != "_sacker").count();
        };
        let client = server.client().await;
        let uploads = client.list_multipart_uploads().bucket(&self.place).send().await.expect("listed");
        uploads.uploads().len()
    }
}

async fn open(uri: &str, connect: &Connect) -> Arc<dyn Store> {
    store::open(&uri.parse().expect("a URI"), connect).await.expect("it opens")
}

/// Bytes in which every place looks different, so that a shifted or repeated part shows.
fn content(size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 8);
    let mut state = size as u64 | 1;
    while bytes.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 16).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Puts a file and counts what is reported as moved.
async fn put(store: &dyn Store, path: &Path, sha256: Sha256, size: u64) -> Result<(PutOutcome, u64)> {
    let moved = AtomicU64::new(0);
    let progress = |bytes| {
        moved.fetch_add(bytes, Ordering::Relaxed);
    };
    let outcome = store.put(BlobFile { path, sha256, size, scan: None }, &progress).await?;
    Ok((outcome, moved.load(Ordering::Relaxed)))
}

async fn collect(mut reader: BlobReader) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

fn is_absent_blob(error: &Error, sha256: Sha256) -> bool {
    *error.meaning() == Meaning::NotFound(Missing::Blob(sha256))
}

fn is_absent_backend(error: &Error) -> bool {
    matches!(error.meaning(), Meaning::NotFound(Missing::Backend(_)))
}

#[rstest]
#[tokio::test]
async fn init_is_idempotent(#[values(Kind::File, Kind::Minio, Kind::Versitygw, Kind::Hdfs)] kind: Kind) {
    let Some(target) = Target::new(kind).await else { return };
    let lines = target.store.init().await.expect("set up");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("created ") && lines[0].contains(&target.place), "{lines:?}");
    assert_eq!(target.store.init().await.expect("set up"), Vec::<String>::new());
}

#[rstest]
#[tokio::test]
async fn an_absent_blob_is_not_found(
    #[values(Kind::File, Kind::Minio, Kind::Versitygw, Kind::Hdfs)] kind: Kind,
) {
    let Some(target) = Target::ready(kind).await else { return };
    let absent = Sha256::of(b"absent");
    assert_eq!(target.store.head(&absent).await.expect("looked"), None);
    for offset in [0, 1] {
        let error = target.store.open(&absent, offset..u64::MAX).await.expect_err("absent");
        assert!(is_absent_blob(&error, absent), "{error:?}");
    }
}

#[rstest]
#[case::empty(0)]
#[case::one_byte(1)]
#[case::some(5 * MIB)]
#[case::one_request(64 * MIB)]
#[case::parts(64 * MIB + 1)]
#[tokio::test]
async fn what_is_put_comes_back(
    #[values(Kind::File, Kind::Minio, Kind::Versitygw, Kind::Hdfs)] kind: Kind,
    #[case] size: usize,
) {
    let Some(target) = Target::ready(kind).await else { return };
    let (path, sha256) = target.file(size);
    let before = jiff::Timestamp::try_from(std::time::UNIX_EPOCH).expect("a time");
    let (outcome, moved) = put(&*target.store, &path, sha256, size as u64).await.expect("put");
    assert_eq!((outcome, moved), (PutOutcome::Uploaded, size as u64));
    let info = target.store.head(&sha256).await.expect("looked").expect("it is there");
    assert_eq!(info.size, size as u64);
    assert!(info.modified.is_some_and(|modified| modified > before), "{info:?}");

    let reader = target.store.open(&sha256, WHOLE).await.expect("opened");
    assert_eq!(reader.size, size as u64);
    let bytes = collect(reader).await.expect("read");
    assert!(bytes == content(size), "other bytes came back");
    let mut offsets = vec![1, size / 2, size.saturating_sub(1), size];
    offsets.retain(|offset| *offset <= size);
    for offset in offsets {
        let reader = target.store.open(&sha256, offset as u64..u64::MAX).await.expect("opened");
        assert_eq!(reader.size, size as u64, "from {offset}");
        let rest = collect(reader).await.expect("read");
        assert!(rest == bytes[offset..], "from {offset}: {} bytes", rest.len());
    }
    let error = target.store.open(&sha256, size as u64 + 1..u64::MAX).await.expect_err("beyond the end");
    assert_eq!(Exit::from(&error), Exit::Usage, "{error:?}");
    assert_eq!(target.leftovers().await, 0);
}

#[rstest]
#[tokio::test]
async fn the_second_put_sends_nothing(
    #[values(Kind::File, Kind::Minio, Kind::Versitygw, Kind::Hdfs)] kind: Kind,
) {
    let Some(target) = Target::ready(kind).await else { return };
    let (path, sha256) = target.file(MIB);
    put(&*target.store, &path, sha256, MIB as u64).await.expect("put");
    let again = put(&*target.store, &path, sha256, MIB as u64).await.expect("put");
    assert_eq!(again, (PutOutcome::AlreadyThere, 0));
}

#[tokio::test]
async fn what_a_killed_upload_left_is_removed() {
    let Some(target) = Target::ready(Kind::File).await else { return };
    std::fs::write(Path::new(&target.place).join(".unfinished-AbCdEf"), "left").expect("written");
    assert_eq!(target.leftovers().await, 1);
    let (path, sha256) = target.file(MIB);
    put(&*target.store, &path, sha256, MIB as u64).await.expect("put");
    assert_eq!(target.leftovers().await, 0);
}

#[rstest]
#[tokio::test]
async fn racing_puts_of_one_blob_all_succeed(
    #[values(Kind::File, Kind::Minio, Kind::Versitygw, Kind::Hdfs)] kind: Kind,
) {
    let Some(target) = Target::ready(kind).await else { return };
    let (path, sha256) = target.file(3 * MIB);
    let racers = (0..8).map(|_| put(&*target.store, &path, sha256, 3 * MIB as u64));
    for outcome in futures::future::join_all(racers).await {
        outcome.expect("put");
    }
    let bytes = collect(target.store.open(&sha256, WHOLE).await.expect("opened")).await.expect("read");
    assert!(bytes == content(3 * MIB));
    assert_eq!(target.leftovers().await, 0);
}

#[rstest]
#[case::one_request(MIB)]
#[case::parts(65 * MIB)]
#[tokio::test]
async fn a_file_that_is_not_what_was_promised_is_refused(
    #[values(Kind::File, Kind::Minio, Kind::Versitygw, Kind::Hdfs)] kind: Kind,
    #[case] size: usize,
) {
    let Some(target) = Target::ready(kind).await else { return };
    let (path, right) = target.file(size);
    let wrong = Sha256::of(b"something else");
    let length = size as u64;
    for (sha256, length) in [(wrong, length), (right, length - 1), (right, length + 1)] {
        let error = put(&*target.store, &path, sha256, length).await.expect_err("refused");
        assert_eq!(Exit::from(&error), Exit::Integrity, "{error:?}");
        assert_eq!(target.store.head(&sha256).await.expect("looked"), None);
        assert_eq!(target.leftovers().await, 0);
    }
}

#[rstest]
#[tokio::test]
async fn a_file_that_cannot_be_read_is_a_local_failure(
    #[values(Kind::File, Kind::Minio, Kind::Versitygw, Kind::Hdfs)] kind: Kind,
) {
    let Some(target) = Target::ready(kind).await else { return };
    let path = target.folder.path().join("none");
    let error = put(&*target.store, &path, Sha256::of(b""), 0).await.expect_err("no such file");
    assert_eq!(Exit::from(&error), Exit::LocalIo, "{error:?}");
    assert!(error.to_string().contains("none"), "{error}");
}

/// Whatever stands under the digest with another size cannot be the blob.
#[rstest]
#[tokio::test]
async fn a_damaged_blob_is_replaced(
    #[values(Kind::File, Kind::Minio, Kind::Versitygw, Kind::Hdfs)] kind: Kind,
) {
    let Some(target) = Target::ready(kind).await else { return };
    let (path, sha256) = target.file(1000);
    target.write(&target.blob_name(&sha256), b"short").await;
    assert_eq!(target.store.head(&sha256).await.expect("looked").map(|info| info.size), Some(5));
    let (outcome, _) = put(&*target.store, &path, sha256, 1000).await.expect("put");
    assert_eq!(outcome, PutOutcome::Uploaded);
    let bytes = collect(target.store.open(&sha256, WHOLE).await.expect("opened")).await.expect("read");
    assert!(bytes == content(1000));
}

#[rstest]
#[tokio::test]
async fn a_dropped_put_leaves_nothing(
    #[values(Kind::File, Kind::Minio, Kind::Versitygw, Kind::Hdfs)] kind: Kind,
) {
    let Some(target) = Target::ready(kind).await else { return };
    let (path, sha256) = target.file(80 * MIB);
    let moved = AtomicU64::new(0);
    let progress = |bytes| {
        moved.fetch_add(bytes, Ordering::Relaxed);
    };
    let blob = BlobFile { path: &path, sha256, size: 80 * MIB as u64, scan: None };
    let begun =
        eventually("some bytes moved", Duration::from_secs(30), async || moved.load(Ordering::Relaxed) > 0);
    tokio::select! {
        outcome = target.store.put(blob, &progress) => panic!("it ended before it was dropped: {outcome:?}"),
        () = begun => {}
    }
    if !matches!(kind, Kind::File) {
        // Whoever ends the process now waits for this, and no longer.
        let settled = tokio::time::timeout(Duration::from_secs(20), target.store.settle()).await;
        assert_eq!((settled, target.leftovers().await), (Ok(()), 0));
    }
    eventually("nothing is left", Duration::from_secs(30), async || target.leftovers().await == 0).await;
    assert_eq!(target.store.head(&sha256).await.expect("looked"), None);
    let outcome = put(&*target.store, &path, sha256, 80 * MIB as u64).await.expect("put again");
    assert_eq!(outcome, (PutOutcome::Uploaded, 80 * MIB as u64));
}

#[rstest]
#[tokio::test]
async fn a_missing_store_is_told_from_a_missing_blob(
    #[values(Kind::File, Kind::Minio, Kind::Versitygw, Kind::Hdfs)] kind: Kind,
) {
    let Some(target) = Target::new(kind).await else { return };
    let (path, sha256) = target.file(10);
    for error in [
        target.store.head(&sha256).await.expect_err("no store"),
        target.store.open(&sha256, WHOLE).await.expect_err("no store"),
    ] {
        assert!(is_absent_backend(&error), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("sacker init")), "{error:?}");
        assert!(error.to_string().contains(&target.place), "{error}");
    }
    let outcome = put(&*target.store, &path, sha256, 10).await;
    match kind {
        // The embedded default needs no setting up.
        Kind::File => assert_eq!(outcome.expect("put").0, PutOutcome::Uploaded),
        Kind::Minio | Kind::Versitygw | Kind::Hdfs => {
            let error = outcome.expect_err("no bucket");
            assert!(is_absent_backend(&error), "{error:?}");
        }
    }
}

#[rstest]
#[tokio::test]
async fn wrong_credentials_are_denied(
    #[values(Kind::Minio, Kind::Versitygw)] kind: Kind,
    #[values("testbed", "nobody")] access_key: &str,
) {
    let Some(target) = Target::ready(kind).await else { return };
    let (path, sha256) = target.file(10);
    let server = target.server.as_ref().expect("an S3 server");
    let stranger = open(&server.uri(&target.place), &support::connect(access_key, "wrong-secret")).await;
    for error in [
        stranger.head(&sha256).await.expect_err("denied"),
        stranger.open(&sha256, WHOLE).await.expect_err("denied"),
        stranger.init().await.expect_err("denied"),
        put(&*stranger, &path, sha256, 10).await.expect_err("denied"),
    ] {
        assert_eq!(Exit::from(&error), Exit::Denied, "{error:?}");
        assert!(error.hint().is_some(), "{error:?}");
        let text = format!("{error} {:?} {:?}", error.hint(), std::error::Error::source(&error));
        assert!(!text.contains("wrong-secret") && !text.contains("Signature="), "{text}");
    }
    assert_eq!(target.store.head(&sha256).await.expect("looked"), None);
}

/// Nobody listens: known at once. Somebody accepts and stays silent: known at the deadline.
#[rstest]
#[case::refused(false)]
#[case::silent(true)]
#[tokio::test]
async fn a_server_that_is_down_is_unavailable_within_the_deadline(#[case] silent: bool) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let _listener = silent.then_some(listener);
    let deadline = Duration::from_secs(3);
    let connect = Connect { deadline, ..support::connect("key", "secret") };
    let down = open(&format!("s3://bucket?endpoint={endpoint}"), &connect).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("blob");
    std::fs::write(&path, b"blob").expect("written");
    let sha256 = Sha256::of(b"blob");

    let began = Instant::now();
    let (head, open, put) =
        tokio::join!(down.head(&sha256), down.open(&sha256, WHOLE), put(&*down, &path, sha256, 4));
    let took = began.elapsed();
    for error in [head.expect_err("down"), open.expect_err("down"), put.map(|_| ()).expect_err("down")] {
        assert_eq!(*error.meaning(), Meaning::Unavailable, "{error:?}");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        let expected = if silent { "no answer in time" } else { "connection refused" };
        // The backoff of a refused connection may also reach the deadline.
        assert!(cause.contains(expected) || cause.contains("no answer in time"), "{cause}");
    }
    assert!(took < deadline + Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_body_that_ends_early_is_unavailable() {
    let answer =
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: \"x\"\r\nConnection: close\r\n\r\nten bytes.";
    let endpoint = Canned::raw(answer).endpoint;
    let store = open(&format!("s3://bucket?endpoint={endpoint}"), &support::connect("key", "secret")).await;
    let reader = store.open(&Sha256::of(b""), WHOLE).await.expect("opened");
    assert_eq!(reader.size, 100);
    let error = collect(reader).await.expect_err("cut");
    assert_eq!(*error.meaning(), Meaning::Unavailable, "{error:?}");
}

#[tokio::test]
async fn another_part_than_the_one_asked_for_is_not_taken() {
    let endpoint = Canned::with("200 OK", "blob").endpoint;
    let store = open(&format!("s3://bucket?endpoint={endpoint}"), &support::connect("key", "secret")).await;
    let error = store.open(&Sha256::of(b"blob"), 2..u64::MAX).await.expect_err("the range was ignored");
    assert_eq!(*error.meaning(), Meaning::Other, "{error:?}");
}

#[tokio::test]
async fn a_server_that_asks_for_less_load_is_throttled() {
    let body = "<Error><Code>SlowDown</Code><Message>Less</Message></Error>";
    let endpoint = Canned::with("503 Slow Down", body).endpoint;
    let store = open(&format!("s3://bucket?endpoint={endpoint}"), &support::connect("key", "secret")).await;
    let error = store.open(&Sha256::of(b""), WHOLE).await.expect_err("throttled");
    assert_eq!(*error.meaning(), Meaning::Throttled, "{error:?}");
}

/// Whoever may only write cannot look first, and uploads.
#[tokio::test]
async fn a_writer_that_may_not_read_can_put() {
    let Some(target) = Target::ready(Kind::Versitygw).await else { return };
    let server = target.server.as_ref().expect("an S3 server");
    let user = testbed::versitygw_user(server);
    let actions = ["s3:PutObject", "s3:AbortMultipartUpload"];
    testbed::allow(server, &target.place, &user, &actions).await;

    let uri = server.uri(&format!("{}/some/prefix", target.place));
    let writer = open(&uri, &support::connect(&user, &user)).await;
    for size in [1000, 65 * MIB] {
        let (path, sha256) = target.file(size);
        let error = writer.head(&sha256).await.expect_err("may not look");
        assert_eq!(Exit::from(&error), Exit::Denied, "{error:?}");
        let error = writer.open(&sha256, WHOLE).await.expect_err("may not read");
        assert_eq!(Exit::from(&error), Exit::Denied, "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("s3:ListBucket")), "{error:?}");
        let (outcome, _) = put(&*writer, &path, sha256, size as u64).await.expect("may write");
        assert_eq!(outcome, PutOutcome::Uploaded);
        let bytes = collect(target.store.open(&sha256, WHOLE).await.expect("opened")).await.expect("read");
        assert!(bytes == content(size));
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_denied() {
    // Nobody, root included, makes directories there.
    let store = open("file:///sys/sacker-store", &support::connect("unused", "unused")).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("blob");
    std::fs::write(&path, b"blob").expect("written");
    for error in [
        store.init().await.expect_err("denied"),
        put(&*store, &path, Sha256::of(b"blob"), 4).await.map(|_| ()).expect_err("denied"),
    ] {
        assert_eq!(Exit::from(&error), Exit::Denied, "{error:?}");
        assert!(error.to_string().contains("/sys/sacker-store"), "{error}");
    }
}

#[tokio::test]
async fn no_credentials_says_what_was_tried() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let connect = Connect {
        environment: support::environment(&[
            ("HOME", home.path().to_str().expect("UTF-8")),
            ("AWS_REGION", "us-east-1"),
        ]),
        instance_metadata: false,
        ..Connect::default()
    };
    let store = open("s3://bucket?endpoint=http://127.0.0.1:1", &connect).await;
    let began = Instant::now();
    let error = store.head(&Sha256::of(b"")).await.expect_err("no credentials");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(Exit::from(&error), Exit::Denied, "{error:?}");
    let hint = error.hint().expect("a hint");
    assert!(hint.contains("AWS_ACCESS_KEY_ID") && hint.contains("the profile 'default'"), "{hint}");
}
