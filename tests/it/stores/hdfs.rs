//! What only a store in HDFS can show: name services, safe mode, DataNodes that go, blobs that were taken out of sight.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use rstest::rstest;
use sacker::connect::Connect;
use sacker::error::Meaning;
use sacker::exit::Exit;
use sacker::fetch::{Artifact, Options, Patience, Target as Destination, fetch_with};
use sacker::model::Sha256;
use sacker::store::{self, Deletion, Listed, PutOutcome, Store, WHOLE};

use super::{Kind, MIB, Target, collect, content, open, put};
use crate::support::faultgate::{TcpFault, TcpGate};
use crate::support::testbed::{self, Hdfs};
use crate::support::{self, environment, eventually, unique};

fn patient() -> Options {
    Options {
        patience: Patience { stall: Duration::from_secs(5), retries: 2, ..Patience::default() },
        ..Options::default()
    }
}

fn artifact(bytes: &[u8]) -> Artifact {
    Artifact {
        label: "frontend-server@1".to_owned(),
        sha256: Sha256::of(bytes),
        size: Some(bytes.len() as u64),
        basename: Some("app.jar".to_owned()),
        mode: None,
    }
}

fn with_configuration(directory: &str) -> Connect {
    Connect { environment: environment(&[("HADOOP_CONF_DIR", directory)]), ..Connect::default() }
}

/// An HDFS that this test may break, and a store in it.
async fn own(settings: &[&str], data_nodes: usize) -> Option<(Hdfs, String)> {
    if !testbed::is_there("hdfs") {
        return None;
    }
    let hdfs = Hdfs::start(settings, data_nodes, &["-D", "dfs.datanode.hostname=127.0.0.2"]);
    let uri = hdfs.uri("/store");
    open(&uri, &Connect::default()).await.init().await.expect("set up");
    Some((hdfs, uri))
}

/// A blob of `size` bytes in a store.
async fn have(store: &dyn Store, size: usize) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, bytes) = (folder.path().join("blob"), content(size));
    fs::write(&path, &bytes).expect("written");
    put(store, &path, Sha256::of(&bytes), size as u64).await.expect("put");
    bytes
}

/// A directory with an old file at the destination, which must survive every failure.
fn with_old_file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a folder");
    let path = directory.path().join("app.jar");
    fs::write(&path, "old").expect("written");
    (directory, path)
}

fn names(directory: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
}

#[tokio::test]
async fn blobs_lie_below_their_first_two_digits() {
    let Some(target) = Target::ready(Kind::Hdfs).await else { return };
    let (path, sha256) = target.file(1000);
    put(&*target.store, &path, sha256, 1000).await.expect("put");
    let files = target.hdfs.as_ref().expect("HDFS").files(&target.place).await;
    let digits = sha256.to_string();
    assert_eq!(files, [format!("{}/{}/{digits}", target.place, &digits[..2])]);
}

/// What the Hadoop configuration calls a name service is one NameNode here, after one that is not there.
#[tokio::test]
async fn a_name_service_is_found_in_the_hadoop_configuration() {
    let Some(hdfs) = testbed::hdfs() else { return };
    let free = format!("127.0.0.1:{}", testbed::free_ports(1)[0]);
    let service = unique("service");
    let directory = hdfs.configuration(
        &service,
        &[
            (&format!("dfs.ha.namenodes.{service}"), "away,there"),
            (&format!("dfs.namenode.rpc-address.{service}.away"), &free),
            (&format!("dfs.namenode.rpc-address.{service}.there"), &hdfs.address()),
        ],
    );
    let uri = format!("hdfs://{service}/services/store");
    let store = open(&uri, &with_configuration(&directory)).await;
    store.init().await.expect("set up");
    let bytes = have(&*store, 1000).await;
    // It is the same as the one behind the address.
    let direct = open(&hdfs.uri("/services/store"), &Connect::default()).await;
    let reader = direct.open(&Sha256::of(&bytes), WHOLE).await.expect("opened");
    assert!(collect(reader).await.expect("read") == bytes);
}

#[tokio::test]
async fn a_broken_configuration_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("core-site.xml"), "<configuration><property>").expect("written");
    let connect = with_configuration(folder.path().to_str().expect("UTF-8"));
    let opened = store::open(&"hdfs://namenode:8020/store".parse().expect("a URI"), &connect).await;
    let error = opened.expect_err("it is no XML");
    assert_eq!(Exit::from(&error), Exit::Usage, "{error:?}");
}

/// Nobody listens; somebody accepts and stays silent.
#[rstest]
#[case::refused(false)]
#[case::silent(true)]
#[tokio::test]
async fn a_name_node_that_is_down_is_unavailable_within_the_deadline(#[case] silent: bool) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let uri = format!("hdfs://{}/store", listener.local_addr().expect("bound"));
    let _listener = silent.then_some(listener);
    let deadline = Duration::from_secs(2);
    let down = open(&uri, &Connect { deadline, ..support::connect("key", "secret") }).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("blob");
    fs::write(&path, b"blob").expect("written");
    let sha256 = Sha256::of(b"blob");
    let began = Instant::now();
    let (head, open, put) =
        tokio::join!(down.head(&sha256), down.open(&sha256, WHOLE), put(&*down, &path, sha256, 4));
    let took = began.elapsed();
    for error in [head.expect_err("down"), open.expect_err("down"), put.map(|_| ()).expect_err("down")] {
        assert_eq!(*error.meaning(), Meaning::Unavailable, "{error:?}");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        let expected = if silent { "no answer in time" } else { "connection refused" };
        assert!(cause.contains(expected), "{cause}");
    }
    assert!(took < deadline + Duration::from_secs(1), "{took:?}");
}

/// Without a DataNode it never leaves safe mode.
#[tokio::test]
async fn safe_mode_is_no_mistake_of_the_user() {
    if !testbed::is_there("hdfs") {
        return;
    }
    let hdfs = Hdfs::start(&["-D", "dfs.namenode.safemode.min.datanodes=1"], 0, &[]);
    let store = open(&hdfs.uri("/store"), &Connect::default()).await;
    let error = store.init().await.expect_err("nothing is changed in safe mode");
    assert_eq!(Exit::from(&error), Exit::Unavailable, "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("safe mode")), "{error:?}");
}

/// The library keeps a connection for three seconds after a whole block, with whatever its script was, and shows nobody.
async fn let_go_of_connections() {
    tokio::time::sleep(Duration::from_millis(3_100)).await;
}

/// R23: the connection to the DataNode breaks, stalls, and is taken up again; or it never gets better.
#[tokio::test]
async fn broken_connections_to_a_data_node_are_taken_up_again_or_told() {
    let Some((hdfs, uri)) = own(&[], 1).await else { return };
    let port = hdfs.data_nodes[0].ports()[1];
    let gate = TcpGate::start(&format!("127.0.0.1:{port}"), &format!("127.0.0.2:{port}")).expect("a gate");
    let by_name = hdfs.configuration("by-name", &[("dfs.client.use.datanode.hostname", "true")]);
    let deadline = Duration::from_secs(3);
    let store = open(&uri, &Connect { deadline, ..with_configuration(&by_name) }).await;
    // Two blocks, and more than is read ahead.
    let bytes = have(&*store, 24 * MIB).await;
    assert!(gate.connections() > 0, "the gate stands in the way");
    let artifact = artifact(&bytes);
    for script in [
        &[TcpFault::Reset(100_000)][..],
        &[TcpFault::Reset(0), TcpFault::Reset(5_000_000)],
        &[TcpFault::Blackhole],
        &[TcpFault::Delay(Duration::from_millis(1))],
    ] {
        let_go_of_connections().await;
        gate.script(script);
        let (directory, path) = with_old_file();
        let destination = Destination::at(directory.path()).expect("a directory");
        let fetched = fetch_with(&*store, &artifact, &destination, &patient(), &|_| {}).await;
        fetched.unwrap_or_else(|error| panic!("{script:?}: {error:?}"));
        assert!(fs::read(&path).expect("the file") == bytes, "{script:?}");
        assert_eq!(names(directory.path()), ["app.jar"], "{script:?}");
    }
    let_go_of_connections().await;
    for fault in [TcpFault::Reset(1_000), TcpFault::Blackhole, TcpFault::SwallowReply] {
        gate.set(fault);
        let (directory, path) = with_old_file();
        let destination = Destination::at(directory.path()).expect("a directory");
        let fetched = fetch_with(&*store, &artifact, &destination, &patient(), &|_| {}).await;
        let Err(error) = fetched else { panic!("{fault:?} does not keep the bytes away") };
        assert_eq!(Exit::from(&error), Exit::Unavailable, "{fault:?}: {error:?}");
        assert_eq!(fs::read(&path).expect("the file"), b"old", "{fault:?}");
        assert_eq!(names(directory.path()), ["app.jar"], "{fault:?}");
        gate.set(TcpFault::None);
    }
}

/// The connection to the NameNode breaks at any request of a put: the blob is there whole, or not at all.
#[tokio::test]
async fn a_put_through_a_broken_connection_to_the_name_node_is_whole_or_nothing() {
    let Some(target) = Target::ready(Kind::Hdfs).await else { return };
    let hdfs = target.hdfs.as_ref().expect("HDFS");
    let gate = TcpGate::start(&hdfs.address(), "127.0.0.1:0").expect("a gate");
    let deadline = Duration::from_secs(5);
    let uri = format!("hdfs://{}{}", gate.address(), target.place);
    let (mut whole, mut failed) = (0, 0);
    for bytes in (0..2_000).step_by(50) {
        let store = open(&uri, &Connect { deadline, ..Connect::default() }).await;
        gate.script(&[TcpFault::Reset(bytes)]);
        let (path, sha256) = target.file(1_000 + usize::try_from(bytes).expect("small"));
        let size = fs::metadata(&path).expect("the file").len();
        match put(&*store, &path, sha256, size).await {
            Ok(_) => whole += 1,
            Err(error) => {
                assert_eq!(*error.meaning(), Meaning::Unavailable, "{error:?}");
                failed += 1;
            }
        }
        store.settle().await;
        let info = target.store.head(&sha256).await.expect("looked");
        assert!(info.as_ref().is_none_or(|info| info.size == size), "{bytes}: {info:?}");
        let outcome = put(&*target.store, &path, sha256, size).await.expect("again");
        let reader = target.store.open(&sha256, WHOLE).await.expect("opened");
        assert!(Sha256::of(&collect(reader).await.expect("read")) == sha256, "{bytes}: {outcome:?}");
    }
    assert!(whole > 0 && failed > 0, "{whole} came through, {failed} failed");
}

#[tokio::test]
async fn a_data_node_that_is_killed_is_replaced_by_another_or_told() {
    const SIZE: usize = 48 * MIB;
    let Some((mut hdfs, uri)) = own(&["-D", "dfs.replication=2"], 2).await else { return };
    let store = open(&uri, &Connect { deadline: Duration::from_secs(5), ..Connect::default() }).await;
    let bytes = have(&*store, SIZE).await;
    let artifact = artifact(&bytes);
    // The first to die is the one that is read from: the other has to take over in the middle of a block, or of the next.
    for killed in 0..2 {
        let (directory, path) = with_old_file();
        let destination = Destination::at(directory.path()).expect("a directory");
        let arrived = AtomicU64::new(0);
        let data_node = &hdfs.data_nodes[killed];
        let progress = |length| {
            if arrived.fetch_add(length, Ordering::Relaxed) < MIB as u64 {
                data_node.process().kill();
            }
        };
        let fetched = fetch_with(&*store, &artifact, &destination, &patient(), &progress).await;
        if killed == 0 {
            fetched.expect("the other DataNode has every block");
            assert!(fs::read(&path).expect("the file") == bytes);
        } else {
            // Nobody has the rest: unless all of it was on its way already, that is said.
            let error = fetched.expect_err("no DataNode is left");
            assert_eq!(Exit::from(&error), Exit::Unavailable, "{error:?}");
            assert_eq!(fs::read(&path).expect("the file"), b"old");
        }
        // What arrived in whole parts before may stay for the next run.
        let here = names(directory.path());
        let others: Vec<_> = here.iter().filter(|name| !name.ends_with(".partial")).collect();
        assert_eq!(others, ["app.jar"]);
        assert!(killed == 1 || here.len() == 1, "{here:?}");
    }
    let (path, sha256) = (hdfs.configuration("source", &[]) + "/blob", Sha256::of(b"blob"));
    fs::write(&path, b"blob").expect("written");
    let error = put(&*store, path.as_ref(), sha256, 4).await.expect_err("no DataNode is left");
    assert_eq!(Exit::from(&error), Exit::Unavailable, "{error:?}");
    assert_eq!(store.head(&sha256).await.expect("looked"), None);

    hdfs.restart_data_node(1);
    eventually("the blob is readable again", Duration::from_mins(1), async || {
        let Ok(reader) = store.open(&artifact.sha256, WHOLE).await else { return false };
        reader.stream.try_fold(0, async |sum, chunk| Ok(sum + chunk.len())).await.is_ok_and(|sum| sum == SIZE)
    })
    .await;
}

/// A store with a short grace, and a blob whose directory can be looked at.
struct Old {
    target: Target,
    store: std::sync::Arc<dyn Store>,
    collected: std::sync::Arc<dyn store::Collect>,
}

impl Old {
    async fn new() -> Option<Self> {
        let target = Target::ready(Kind::Hdfs).await?;
        let (uri, connect) = target.with("grace=2s");
        let uri = uri.parse().expect("a URI");
        let store = store::open(&uri, &connect).await.expect("it opens");
        let collected = store::open_for_collection(&uri, &connect).await.expect("it opens");
        Some(Self { target, store, collected })
    }

    async fn blobs(&self) -> Vec<store::StoredBlob> {
        let all: Vec<Listed> = self.collected.list().try_collect().await.expect("listed");
        let blob = |listed| match listed {
            Listed::Blob(blob) => blob,
            Listed::Foreign(name) => panic!("{name}"),
        };
        all.into_iter().map(blob).collect()
    }
}

/// A collector died between taking a blob out of sight and deleting it. If what it took was what it had seen, it goes; if
/// somebody had written it again meanwhile, it comes back.
#[rstest]
#[case::as_it_was_seen(true)]
#[case::written_again(false)]
#[tokio::test]
async fn what_a_dead_collector_took_out_of_sight_goes_or_comes_back(#[case] as_seen: bool) {
    let Some(old) = Old::new().await else { return };
    let (path, sha256) = old.target.file(1000);
    put(&*old.store, &path, sha256, 1000).await.expect("put");
    let seen = old.blobs().await.remove(0);
    let taken = if as_seen { seen.revision.clone() } else { "1000-1".to_owned() };
    let place = &old.target.place;
    let client = old.target.hdfs.as_ref().expect("HDFS").client();
    client.mkdirs(&format!("{place}/_sacker/condemned"), 0o755, true).await.expect("made");
    let from = format!("{place}/{}", old.target.blob_name(&sha256));
    let to = format!("{place}/_sacker/condemned/{sha256}.{taken}.dead");
    client.rename(&from, &to, false).await.expect("renamed");
    assert_eq!(old.store.head(&sha256).await.expect("looked"), None);

    let found = old.collected.unfinished().await.expect("listed");
    assert_eq!(found.iter().map(|it| it.abandoned).collect::<Vec<_>>(), [true], "{found:?}");
    assert!(old.collected.discard(&found[0]).await.expect("ended"));
    assert_eq!(old.store.head(&sha256).await.expect("looked").is_some(), !as_seen);
    assert_eq!(old.target.leftovers().await, 0);
    assert!(!old.collected.discard(&found[0]).await.expect("twice is once"));
    if !as_seen {
        assert_eq!(old.blobs().await, [seen], "a rename changes nothing about its age");
    }
}

/// Writers that replace a blob all the time, and a collector that deletes what it saw all the time: what was written last is
/// there in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_is_written_again_beside_its_deletion_stays() {
    let seed = support::tier::seed("a_blob_that_is_written_again_beside_its_deletion_stays");
    let Some(old) = Old::new().await else { return };
    let (path, sha256) = old.target.file(1000);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut changed, mut deleted) = (0, 0);
    let rounds = support::tier::figure(100, 1_000);
    for round in 0..rounds {
        // Always an old one first, so that the writer writes.
        put(&*old.store, &path, sha256, 1000).await.expect("put");
        let hdfs = old.target.hdfs.as_ref().expect("HDFS");
        hdfs.make_old(&format!("{}/{}", old.target.place, &sha256.to_string()[..2])).await;
        let seen = old.blobs().await.remove(0);
        let pause = Duration::from_micros(random.u64(0..30_000));
        let collector = async {
            tokio::time::sleep(pause).await;
            old.collected.delete(&seen).await.expect("tried")
        };
        let writer = put(&*old.store, &path, sha256, 1000);
        let (deletion, outcome) = tokio::join!(collector, writer);
        assert_eq!(outcome.expect("put").0, PutOutcome::Uploaded, "round {round}, seed {seed}");
        changed += u32::from(deletion == Deletion::Changed);
        deleted += u32::from(deletion == Deletion::Done);
        // The deletion named the old one.
        let head = old.store.head(&sha256).await.expect("looked");
        assert!(head.is_some(), "round {round}, seed {seed}: {deletion:?} took the new one");
        assert_eq!(old.target.leftovers().await, 0, "round {round}, seed {seed}");
    }
    println!("{rounds} rounds, {deleted} deleted the old one first, {changed} met the new one");
}

/// More than one page of one directory, and what is no blob among blobs.
#[tokio::test]
async fn a_long_listing_is_whole() {
    const BLOBS: usize = 1_010;
    let Some(old) = Old::new().await else { return };
    let client = old.target.hdfs.as_ref().expect("HDFS").client();
    let directory = format!("{}/ab", old.target.place);
    let create = async |name: String| {
        let path = format!("{directory}/{name}");
        let mut file = client.create(&path, hdfs_native::WriteOptions::default()).await.expect("made");
        Box::pin(file.close()).await.expect("closed");
    };
    for number in 0..BLOBS {
        create(format!("ab{number:062x}")).await;
    }
    assert_eq!(old.blobs().await.len(), BLOBS);
    for foreign in ["readme".to_owned(), format!("cd{:062x}", 1)] {
        create(foreign).await;
    }
    let all: Vec<Listed> = old.collected.list().try_collect().await.expect("listed");
    let foreign = all.iter().filter(|listed| matches!(listed, Listed::Foreign(_))).count();
    assert_eq!((all.len(), foreign), (BLOBS + 2, 2));
}
