//! Conditional objects: what the object ledger rests on, on real servers, with memory as the reference.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rstest::rstest;
use sacker::connect::Connect;
use sacker::error::{Meaning, Missing};
use sacker::exit::Exit;
use sacker::ledger::{
    Companion, ConditionalObjects, GitObjects, InitOptions, MemoryObjects, Precondition, Put, Revision,
    S3Objects, ZooKeeperObjects,
};
use sacker::model::{GitLocation, GitRemote, LedgerUri, Numbering};

use crate::support::canned::Canned;
use crate::support::git_http::GitHttp;
use crate::support::ledgers::git_connect;
use crate::support::process::Folder;
use crate::support::testbed::{self, S3Server};
use crate::support::{self, unique};

#[derive(Debug, Clone, Copy)]
enum Kind {
    Memory,
    Minio,
    Versitygw,
    ZooKeeper,
    Git,
}

impl Kind {
    /// An empty place that nobody else uses; nothing when the server is not there.
    async fn ready(self) -> Option<Arc<dyn ConditionalObjects>> {
        let place = format!("{}/in/here", unique("objects"));
        let on_s3 = async |server: S3Server| {
            let objects: Arc<dyn ConditionalObjects> = Arc::new(on(&server, &place, &server.connect()).await);
            objects
        };
        let objects = match self {
            Self::Memory => return Some(Arc::new(MemoryObjects::new(Numbering::Timestamp))),
            Self::Git => return git().await.map(|(objects, _)| objects),
            Self::Minio => on_s3(testbed::minio()?).await,
            Self::Versitygw => on_s3(testbed::versitygw()?).await,
            Self::ZooKeeper => Arc::new(on_nodes(&testbed::zookeeper()?.uri(&place), &Connect::default())),
        };
        let lines = objects.init(&InitOptions::default()).await.expect("set up");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(objects.init(&InitOptions::default()).await.expect("set up").is_empty());
        Some(objects)
    }
}

/// Nodes of a ZooKeeper ensemble.
pub(crate) fn on_nodes(uri: &str, connect: &Connect) -> ZooKeeperObjects {
    let LedgerUri::ZooKeeper(location) = uri.parse().expect("a URI") else { panic!("{uri} is not zk") };
    ZooKeeperObjects::open(&location, connect).expect("opened")
}

/// An empty repository of its own, and the folder that it is in.
async fn git() -> Option<(Arc<dyn ConditionalObjects>, Arc<Folder>)> {
    static FOLDERS: Mutex<Vec<Arc<Folder>>> = Mutex::new(Vec::new());
    testbed::git()?;
    let home = Arc::new(Folder::new("objects"));
    // Until the test process ends.
    FOLDERS.lock().expect("no test panics here").push(home.clone());
    let location = GitLocation { remote: GitRemote::File(home.path().join("r.git")), branch: "main".into() };
    let objects = GitObjects::open(&location, &git_connect(home.path())).expect("opened");
    let lines = objects.init(&InitOptions::default()).await.expect("set up");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(objects.init(&InitOptions::default()).await.expect("set up").is_empty());
    Some((Arc::new(objects), home))
}

async fn on(server: &S3Server, place: &str, connect: &Connect) -> S3Objects {
    let uri: LedgerUri = server.uri(place).parse().expect("a URI");
    let LedgerUri::S3(location) = uri else { panic!("{uri} is not S3") };
    S3Objects::open(&location, connect).await.expect("opened")
}

pub(crate) async fn put(
    objects: &dyn ConditionalObjects,
    key: &str,
    text: &str,
    precondition: Precondition,
) -> Put {
    let bytes = Bytes::from(text.to_owned());
    objects.put(key, bytes, precondition, &BTreeMap::new()).await.expect("answered")
}

pub(crate) async fn create(objects: &dyn ConditionalObjects, key: &str) -> Revision {
    match put(objects, key, key, Precondition::Absent).await {
        Put::Written(revision) => revision,
        Put::Refused => panic!("'{key}' is taken"),
    }
}

pub(crate) async fn keys(
    objects: &dyn ConditionalObjects,
    prefix: &str,
    start_after: &str,
    limit: usize,
) -> Vec<String> {
    let entries = objects.list(prefix, start_after, limit).await.expect("listed");
    entries.into_iter().map(|entry| entry.key).collect()
}

#[rstest]
#[tokio::test]
async fn each_precondition_decides(
    #[values(Kind::Memory, Kind::Minio, Kind::Versitygw, Kind::ZooKeeper, Kind::Git)] kind: Kind,
) {
    let Some(objects) = kind.ready().await else { return };
    let objects = &*objects;
    assert_eq!(objects.get("a/b").await.expect("read"), None);
    let first = create(objects, "a/b").await;
    assert_eq!(put(objects, "a/b", "other", Precondition::Absent).await, Put::Refused);
    let Put::Written(second) = put(objects, "a/b", "second", Precondition::Revision(first.clone())).await
    else {
        panic!("the revision was right");
    };
    assert_ne!(first, second);
    assert_eq!(put(objects, "a/b", "third", Precondition::Revision(first.clone())).await, Put::Refused);
    // Servers differ here between 404 and 412.
    assert_eq!(put(objects, "a/c", "new", Precondition::Revision(first)).await, Put::Refused);
    // A server that keeps objects as files has a directory, or a file in the way, here.
    for absent in ["a/c", "a", "a/b/c"] {
        assert_eq!(objects.get(absent).await.expect("read"), None, "{absent}");
    }
    let object = objects.get("a/b").await.expect("read").expect("it is there");
    assert_eq!((object.bytes.as_ref(), object.revision), (&b"second"[..], second));
    assert!(matches!(put(objects, "a/b", "hint", Precondition::None).await, Put::Written(_)));
    assert_eq!(objects.get("a/b").await.expect("read").expect("it is there").bytes.as_ref(), b"hint");
}

#[rstest]
#[tokio::test]
async fn of_racing_writes_exactly_one_wins(
    #[values(Kind::Memory, Kind::Minio, Kind::Versitygw, Kind::ZooKeeper, Kind::Git)] kind: Kind,
) {
    let Some(objects) = kind.ready().await else { return };
    let objects = &*objects;
    for round in 0..25 {
        let key = format!("race/{round}");
        let text = |racer: usize| format!("racer {racer}");
        let texts: Vec<String> = (0..8).map(text).collect();
        let creates = texts.iter().map(|text| put(objects, &key, text, Precondition::Absent));
        let outcomes = futures::future::join_all(creates).await;
        let mut winners = outcomes.iter().enumerate().filter_map(|(racer, outcome)| match outcome {
            Put::Written(revision) => Some((racer, revision.clone())),
            Put::Refused => None,
        });
        let (winner, revision) = winners.next().expect("one wins");
        assert!(winners.next().is_none(), "round {round}: {outcomes:?}");
        let object = objects.get(&key).await.expect("read").expect("it is there");
        assert_eq!((object.bytes.as_ref(), &object.revision), (text(winner).as_bytes(), &revision));

        let precondition = || Precondition::Revision(revision.clone());
        let texts: Vec<String> = (8..16).map(text).collect();
        let exchanges = texts.iter().map(|text| put(objects, &key, text, precondition()));
        let outcomes = futures::future::join_all(exchanges).await;
        let winners = outcomes.iter().filter(|outcome| matches!(outcome, Put::Written(_))).count();
        assert_eq!(winners, 1, "round {round}: {outcomes:?}");
    }
}

#[rstest]
#[tokio::test]
async fn listings_are_whole_and_in_order(
    #[values(Kind::Memory, Kind::Minio, Kind::Versitygw, Kind::ZooKeeper, Kind::Git)] kind: Kind,
) {
    let Some(objects) = kind.ready().await else { return };
    let objects = &*objects;
    // More than a page of S3, written side by side.
    let names: Vec<String> = (0..1100).map(|number| format!("p/versions/{number:04}")).collect();
    for some in names.chunks(50) {
        futures::future::join_all(some.iter().map(|name| create(objects, name))).await;
    }
    create(objects, "p/versionsx").await;
    create(objects, "p/tags/live").await;

    assert_eq!(keys(objects, "p/versions/", "p/versions/", 1000).await, names[..1000]);
    assert_eq!(keys(objects, "p/versions/", &names[999], 1000).await, names[1000..]);
    assert_eq!(keys(objects, "p/versions/", &names[41], 3).await, names[42..45]);
    // Between two keys, before all, and after all of them.
    assert_eq!(keys(objects, "p/versions/", "p/versions/0041x", 1).await, names[42..43]);
    assert_eq!(keys(objects, "p/versions/", "a", 1).await, names[..1]);
    assert_eq!(keys(objects, "p/versions/", "p/versions/9", 10).await, Vec::<String>::new());
    assert_eq!(keys(objects, "none/", "none/", 10).await, Vec::<String>::new());

    let entries = objects.list("p/tags/", "p/tags/", 10).await.expect("listed");
    let object = objects.get("p/tags/live").await.expect("read").expect("it is there");
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].revision, objects.lists_revisions().then_some(object.revision));
}

#[rstest]
#[tokio::test]
async fn children_are_the_names_right_below(
    #[values(Kind::Memory, Kind::Minio, Kind::Versitygw, Kind::ZooKeeper, Kind::Git)] kind: Kind,
) {
    let Some(objects) = kind.ready().await else { return };
    let objects = &*objects;
    for key in
        ["a/versions/1", "a/b/versions/1", "a.b/versions/1", "a0/versions/1", "plain", "ü b/versions/1"]
    {
        create(objects, key).await;
    }
    let below = async |prefix: &str| {
        let mut names = Vec::new();
        let mut after = None;
        loop {
            let page = objects.children(prefix, after.as_deref()).await.expect("listed");
            names.extend(page.directories);
            after = page.next;
            if after.is_none() {
                return names;
            }
        }
    };
    let mut top = below("").await;
    top.sort();
    assert_eq!(top, ["a", "a.b", "a0", "ü b"]);
    assert_eq!(below("a/").await, ["b", "versions"]);
    assert_eq!(below("a/versions/").await, Vec::<String>::new());
    assert_eq!(below("none/").await, Vec::<String>::new());

    // More than a page.
    let names: Vec<String> = (0..1050).map(|number| format!("{number:04}")).collect();
    for some in names.chunks(50) {
        let keys: Vec<String> = some.iter().map(|name| format!("many/{name}/versions/1")).collect();
        futures::future::join_all(keys.iter().map(|key| create(objects, key))).await;
    }
    assert_eq!(below("many/").await, names);
}

/// Package names are UTF-8 and may hold what means something in URLs.
#[rstest]
#[tokio::test]
async fn keys_are_taken_as_they_are(
    #[values(Kind::Memory, Kind::Minio, Kind::Versitygw, Kind::ZooKeeper, Kind::Git)] kind: Kind,
) {
    let Some(objects) = kind.ready().await else { return };
    let objects = &*objects;
    let names = [
        "k/a b", "k/a%20b", "k/a+b", "k/ä", "k/a&b=c", "k/a?b", "k/a#b", "k/'\"<>", "k/~", "k/日本",
        "k/=@:,;",
    ];
    for name in names {
        create(objects, name).await;
    }
    for name in names {
        let object =
            objects.get(name).await.expect("read").unwrap_or_else(|| panic!("'{name}' is not there"));
        assert_eq!(object.bytes.as_ref(), name.as_bytes());
    }
    let mut sorted = names.map(str::to_owned);
    sorted.sort();
    assert_eq!(keys(objects, "k/", "k/", 100).await, sorted);
}

#[rstest]
#[tokio::test]
async fn metadata_goes_as_headers_where_it_can(#[values(Kind::Minio, Kind::Versitygw)] kind: Kind) {
    let Some(objects) = kind.ready().await else { return };
    let pairs = [("commit", "4f2a91c"), ("who", "Jörg"), ("empty", ""), ("text", "a = b, c")];
    let metadata = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let bytes = Bytes::from_static(b"{}");
    let written = objects.put("m", bytes, Precondition::Absent, &metadata).await.expect("answered");
    assert!(matches!(written, Put::Written(_)));
    let found = objects.get("m").await.expect("read").expect("it is there").metadata;
    assert_eq!(found.get("commit").map(String::as_str), Some("4f2a91c"), "{found:?}");
    assert_eq!(found.get("text").map(String::as_str), Some("a = b, c"), "{found:?}");
    assert!(!found.contains_key("who"), "{found:?}");
}

#[rstest]
#[tokio::test]
async fn an_object_over_the_limit_is_corrupt(#[values(Kind::Minio, Kind::Versitygw, Kind::Git)] kind: Kind) {
    let Some(objects) = kind.ready().await else { return };
    let most = Bytes::from(vec![b'x'; 1 << 20]);
    for (key, bytes, fits) in
        [("most", most.clone(), true), ("more", Bytes::from(vec![b'x'; (1 << 20) + 1]), false)]
    {
        let written =
            objects.put(key, bytes, Precondition::Absent, &BTreeMap::new()).await.expect("answered");
        assert!(matches!(written, Put::Written(_)));
        match objects.get(key).await {
            Ok(Some(object)) => assert!(fits && object.bytes == most),
            Ok(None) => panic!("'{key}' is not there"),
            Err(error) => {
                assert!(!fits);
                assert_eq!(Exit::from(&error), Exit::Integrity, "{error:?}");
            }
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_missing_bucket_is_named(#[values(Kind::Minio, Kind::Versitygw)] kind: Kind) {
    let server = match kind {
        Kind::Versitygw => testbed::versitygw(),
        _ => testbed::minio(),
    };
    let Some(server) = server else { return };
    let bucket = unique("missing");
    let objects = on(&server, &bucket, &server.connect()).await;
    let bytes = Bytes::from_static(b"{}");
    let any = Precondition::Revision(Revision("\"x\"".to_owned()));
    for error in [
        objects.get("a").await.map(|_| ()).expect_err("no bucket"),
        objects.list("a/", "a/", 10).await.map(|_| ()).expect_err("no bucket"),
        objects.children("", None).await.map(|_| ()).expect_err("no bucket"),
        objects
            .put("a", bytes.clone(), Precondition::Absent, &BTreeMap::new())
            .await
            .map(|_| ())
            .expect_err("none"),
        objects.put("a", bytes, any, &BTreeMap::new()).await.map(|_| ()).expect_err("none"),
    ] {
        let missing = Meaning::NotFound(Missing::Backend(format!("bucket '{bucket}'")));
        assert_eq!(*error.meaning(), missing, "{error:?}");
    }
}

/// A bucket on a server that gives every request the same answer.
async fn on_canned(canned: &Canned) -> S3Objects {
    let uri: LedgerUri = format!("s3://bucket?endpoint={}", canned.endpoint).parse().expect("a URI");
    let LedgerUri::S3(location) = uri else { panic!("{uri} is not S3") };
    S3Objects::open(&location, &support::connect("id", "secret")).await.expect("opened")
}

#[rstest]
#[case::away(Canned::with("503 Service Unavailable", ""))]
#[case::no_reply(Canned::raw(""))]
#[tokio::test]
async fn a_conditional_write_is_sent_once(#[case] canned: Canned) {
    let objects = on_canned(&canned).await;
    let bytes = Bytes::from_static(b"{}");
    let revision = Precondition::Revision(Revision("\"x\"".to_owned()));
    for (sent, precondition) in [(1, Precondition::Absent), (2, revision)] {
        let error = objects.put("a", bytes.clone(), precondition, &BTreeMap::new()).await.expect_err("away");
        assert_eq!(*error.meaning(), Meaning::Unavailable, "{error:?}");
        assert_eq!(canned.requests().len(), sent);
    }
}

/// Something in between, or a server of another kind, answers for every path.
#[tokio::test]
async fn a_404_of_another_kind_of_server_is_no_absent_key() {
    let canned = Canned::with("404 Not Found", "<html>not found</html>");
    let objects = on_canned(&canned).await;
    let bytes = Bytes::from_static(b"{}");
    let revision = Precondition::Revision(Revision("\"x\"".to_owned()));
    for error in [
        objects.get("a").await.map(|_| ()).expect_err("no answer"),
        objects.list("a/", "a/", 10).await.map(|_| ()).expect_err("no answer"),
        objects.put("a", bytes, revision, &BTreeMap::new()).await.map(|_| ()).expect_err("no answer"),
    ] {
        assert_eq!(Exit::from(&error), Exit::Unavailable, "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("NoSuchKey")), "{error:?}");
    }
}

#[tokio::test]
async fn a_writer_that_may_not_read_creates_blindly() {
    let Some(server) = testbed::versitygw() else { return };
    let bucket = unique("blind");
    let root = on(&server, &bucket, &server.connect()).await;
    root.init(&InitOptions::default()).await.expect("set up");
    let user = testbed::versitygw_user(&server);
    testbed::allow(&server, &bucket, &user, &["s3:PutObject"]).await;
    let writer = on(&server, &bucket, &support::connect(&user, &user)).await;
    let error = writer.get("a").await.expect_err("may not read");
    assert_eq!(Exit::from(&error), Exit::Denied, "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("s3:ListBucket")), "{error:?}");
    create(&writer, "a").await;
    assert_eq!(put(&writer, "a", "again", Precondition::Absent).await, Put::Refused);
    assert_eq!(root.get("a").await.expect("read").expect("it is there").bytes.as_ref(), b"a");
}

/// What git prints, run on a bare repository.
fn ask_git(repository: &Path, arguments: &[&str]) -> String {
    let mut option = std::ffi::OsString::from("--git-dir=");
    option.push(repository);
    let output = Command::new("git").arg(option).args(arguments).output().expect("git runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

async fn put_with(
    objects: &dyn ConditionalObjects,
    key: &str,
    text: &str,
    precondition: Precondition,
    companion: (&str, Precondition),
) -> (Put, bool) {
    let bytes = Bytes::from(text.to_owned());
    let companion =
        Companion { key: companion.0.to_owned(), bytes: bytes.clone(), precondition: companion.1 };
    objects.put_with(key, bytes, precondition, &BTreeMap::new(), companion).await.expect("answered")
}

#[tokio::test]
async fn a_companion_is_written_in_the_same_commit_or_left_out() {
    let Some((objects, home)) = git().await else { return };
    let objects = &*objects;
    let commits = || ask_git(&home.path().join("r.git"), &["rev-list", "--count", "main"]).trim().to_owned();
    assert_eq!(commits(), "1");
    let absent = || Precondition::Absent;
    let (put, together) = put_with(objects, "a/b", "1", absent(), ("a/c", absent())).await;
    assert!(matches!(put, Put::Written(_)) && together);
    assert_eq!(commits(), "2");
    assert_eq!(objects.get("a/c").await.expect("read").expect("it is there").bytes.as_ref(), b"1");
    let (put, together) = put_with(objects, "a/d", "2", absent(), ("a/c", absent())).await;
    assert!(matches!(put, Put::Written(_)) && !together, "its own precondition does not hold");
    let (put, together) = put_with(objects, "a/d", "3", absent(), ("a/e", absent())).await;
    assert_eq!((put, together), (Put::Refused, false));
    assert_eq!(objects.get("a/e").await.expect("read"), None);
    let (put, together) = put_with(objects, "a/f", "4", absent(), ("a/f/g", absent())).await;
    assert!(matches!(put, Put::Written(_)) && !together, "no file is a directory");
    assert_eq!(commits(), "4");
}

/// Writes of one client that come together are one push, and each is a commit of its own.
#[tokio::test]
async fn every_write_is_a_commit_and_the_tree_is_the_ledger() {
    let Some((objects, home)) = git().await else { return };
    let names: Vec<String> = (0..100).map(|number| format!("p/versions/{number}")).collect();
    futures::future::join_all(names.iter().map(|name| create(&*objects, name))).await;
    let repository = home.path().join("r.git");
    assert_eq!(ask_git(&repository, &["rev-list", "--count", "main"]).trim(), "101");
    assert_eq!(ask_git(&repository, &["rev-list", "--merges", "main"]), "");
    let listed = ask_git(&repository, &["ls-tree", "-r", "--name-only", "main"]);
    let (mut listed, mut names): (Vec<&str>, Vec<&str>) =
        (listed.lines().collect(), names.iter().map(String::as_str).collect());
    listed.sort_unstable();
    names.sort_unstable();
    assert_eq!(listed, names);
    ask_git(&repository, &["fsck", "--strict"]);
    objects.delete_probe("_sacker/probe/none").await.expect("it is not there");
    objects.delete_probe("p/versions/1").await.expect_err("no key of a probe");
    create(&*objects, "_sacker/probe/1-x/0").await;
    objects.delete_probe("_sacker/probe/1-x/0").await.expect("it goes");
    assert_eq!(objects.get("_sacker/probe/1-x/0").await.expect("read"), None);
}

/// As file and directory of one name cannot be, on files or in git.
#[tokio::test]
async fn a_file_is_no_directory() {
    let Some((objects, _home)) = git().await else { return };
    let objects = &*objects;
    create(objects, "a/b").await;
    for key in ["a", "a/b/c", "a//b", "/a", "a/"] {
        let bytes = Bytes::from_static(b"{}");
        let error = objects.put(key, bytes, Precondition::Absent, &BTreeMap::new()).await.expect_err("no");
        assert_eq!(Exit::from(&error), Exit::Usage, "{key}: {error:?}");
        assert_eq!(objects.get(key).await.expect("read"), None, "{key}");
    }
    assert_eq!(objects.get("a/b").await.expect("read").expect("it is there").bytes.as_ref(), b"a/b");
}

/// What happens to a clone.
type Spoil = fn(&Path);

/// A second client with a cache of its own, through smart HTTP, sees every write at once; a damaged cache is made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_is_current_and_can_be_lost() {
    let Some((objects, home)) = git().await else { return };
    let server = GitHttp::start(home.path());
    let cache = home.path().join("other/.cache/sacker/git");
    let connect = git_connect(&home.path().join("other"));
    let LedgerUri::Git(location) = server.uri("r.git").parse().expect("a URI") else { panic!("it is git") };
    let far = GitObjects::open(&location, &connect).expect("opened");
    for round in 0..3 {
        let key = format!("a/near-{round}");
        let revision = create(&*objects, &key).await;
        let object = far.get(&key).await.expect("read").expect("it is there");
        assert_eq!((object.bytes.as_ref(), &object.revision), (key.as_bytes(), &revision));
        let far_key = format!("a/far-{round}");
        create(&far, &far_key).await;
        assert!(objects.get(&far_key).await.expect("read").is_some(), "{far_key}");
        let exchanged = put(&far, &key, "other", Precondition::Revision(revision.clone())).await;
        assert!(matches!(exchanged, Put::Written(_)));
        assert_eq!(put(&*objects, &key, "third", Precondition::Revision(revision)).await, Put::Refused);
    }
    let clone = || {
        let mut clones =
            std::fs::read_dir(&cache).expect("a cache").map(|entry| entry.expect("an entry").path());
        clones.find(|path| path.is_dir()).expect("a clone")
    };
    let damages: [(&str, Spoil); 4] = [
        ("no HEAD", |clone| std::fs::remove_file(clone.join("HEAD")).expect("removed")),
        ("garbage in config", |clone| std::fs::write(clone.join("config"), "[core").expect("written")),
        ("no objects", |clone| std::fs::remove_dir_all(clone.join("objects")).expect("removed")),
        ("gone", |clone| std::fs::remove_dir_all(clone).expect("removed")),
    ];
    for (number, (damage, spoil)) in damages.into_iter().enumerate() {
        spoil(&clone());
        // By the client that used it, and by one that begins now.
        let fresh = GitObjects::open(&location, &connect).expect("opened");
        for (who, client) in [("old", &far), ("new", &fresh)] {
            let key = format!("b/{number}-{who}");
            create(client, &key).await;
            assert!(objects.get(&key).await.expect("read").is_some(), "{damage}, {who}");
            assert_eq!(client.list("a/", "a/", 100).await.expect("listed").len(), 6, "{damage}, {who}");
        }
    }
}
