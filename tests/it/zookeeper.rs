//! What only ZooKeeper does: nodes and their names, several writes in one, sessions, and hands that edit.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::join_all;
use sacker::connect::Connect;
use sacker::error::{Error, Meaning, Missing};
use sacker::exit::Exit;
use sacker::ledger::{
    self, Companion, ConditionalObjects, InitOptions, Precondition, Put, Revision, ZooKeeperObjects,
};
use sacker::model::{Actor, Change, EventSource, PackageName, Sha256, Spec, TagChange, TagName};
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, CreateOptions, Permission};

use crate::histories::new_version;
use crate::objects::{create, keys, on_nodes, put};
use crate::support::faultgate::{TcpFault, TcpGate};
use crate::support::process::Folder;
use crate::support::testbed::{self, Server, ZooKeeperServer};
use crate::support::{environment, unique};

const OPEN: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());

/// An empty ledger's objects, its root node, and its server.
async fn ready() -> Option<(ZooKeeperObjects, String, ZooKeeperServer)> {
    let server = testbed::zookeeper()?;
    let root = unique("nodes");
    let objects = on_nodes(&server.uri(&root), &Connect::default());
    objects.init(&InitOptions::default()).await.expect("set up");
    Some((objects, format!("/{root}"), server))
}

/// All nodes below `root` with their names as they are.
async fn tree(client: &Client, root: &str) -> BTreeMap<String, usize> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = open.pop() {
        let names = client.list_children(&path).await.expect("listed");
        open.extend(names.iter().map(|name| format!("{path}/{name}")));
        found.insert(path, names.len());
    }
    found
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn no_node_has_more_than_a_thousand_numbers_below_it() {
    let Some((objects, root, server)) = ready().await else { return };
    let names: Vec<String> = (1..=2_345).map(|number| format!("web/versions/{number}")).collect();
    for some in names.chunks(100) {
        join_all(some.iter().map(|name| create(&objects, name))).await;
    }
    create(&objects, "web/history/live/000000001234").await;
    create(&objects, "web/tags/live").await;
    let nodes = tree(&server.client().await, &root).await;
    assert!(nodes.values().all(|count| *count <= 1000), "{nodes:?}");
    assert_eq!(nodes[&format!("{root}/web/versions")], 3, "999, 1,000 and 346 numbers");
    assert_eq!(nodes[&format!("{root}/web/versions/~2")], 346);
    assert!(nodes.contains_key(&format!("{root}/web/history/live/~000000001/=000000001234")));
    assert!(nodes.contains_key(&format!("{root}/web/tags/=live")));

    let mut sorted = names.clone();
    sorted.sort();
    let mut listed = Vec::new();
    let mut start = "web/versions/".to_owned();
    loop {
        let page = keys(&objects, "web/versions/", &start, 700).await;
        let is_last = page.len() < 700;
        listed.extend(page);
        if is_last {
            break;
        }
        start.clone_from(listed.last().expect("a full page"));
    }
    assert_eq!(listed, sorted, "in the order of texts, over all buckets");
    assert_eq!(keys(&objects, "web/versions/12", "web/versions/1299", 3).await, ["web/versions/13"; 0]);
    let twelve: Vec<String> =
        sorted.iter().filter(|key| key.starts_with("web/versions/12")).cloned().collect();
    assert_eq!(keys(&objects, "web/versions/12", "", 1000).await, twelve);
    let children = objects.children("web/", None).await.expect("listed").directories;
    assert_eq!(children, ["history", "tags", "versions"]);
    assert_eq!(objects.children("web/versions/", None).await.expect("listed").directories, [""; 0]);
}

#[tokio::test]
async fn a_key_may_be_the_beginning_of_others() {
    let Some((objects, ..)) = ready().await else { return };
    let names = ["a/b", "a/b/c", "a/b/c/7", "a/7/8", "a/7", "a/7000", "a/7000/x", "a"];
    for name in names {
        create(&objects, name).await;
    }
    let mut sorted = names.map(str::to_owned);
    sorted.sort();
    assert_eq!(keys(&objects, "", "", 100).await, sorted);
    for name in names {
        assert_eq!(objects.get(name).await.expect("read").expect("it is there").bytes, name);
    }
    assert_eq!(objects.children("a/", None).await.expect("listed").directories, ["7", "7000", "b"]);
}

#[tokio::test]
async fn names_that_zookeeper_refuses_are_kept() {
    let Some((objects, ..)) = ready().await else { return };
    let names = [
        "n/./a",
        "n/../a",
        "n/zookeeper/zookeeper",
        "n/a%b",
        "n/\u{1f600}/\u{1f600}",
        "n/\u{e000}\u{ffff}",
        "n/a\nb",
        "n/=a/=b",
        "n/~a/~b",
        "n/~/~",
        "n/.",
        "n/..",
    ];
    for name in names {
        create(&objects, name).await;
    }
    let mut sorted = names.map(str::to_owned);
    sorted.sort();
    assert_eq!(keys(&objects, "n/", "n/", 100).await, sorted);
    for name in ["", "/", "a//b", "/a", "a/"] {
        assert_eq!(objects.get(name).await.expect("read"), None, "{name:?}");
        let put = objects.put(name, text("{}"), Precondition::Absent, &BTreeMap::new()).await;
        assert_eq!(Exit::from(&put.expect_err("no node")), Exit::Usage, "{name:?}");
    }
}

#[tokio::test]
async fn writers_may_race_for_directories() {
    let Some((objects, ..)) = ready().await else { return };
    for round in 0..20 {
        let names: Vec<String> = (0..8).map(|racer| format!("r{round}/a/b/c/{racer}")).collect();
        join_all(names.iter().map(|name| create(&objects, name))).await;
        assert_eq!(keys(&objects, &format!("r{round}/"), "", 100).await, names);
    }
}

#[tokio::test]
async fn a_companion_is_written_with_its_pointer_or_not_at_all() {
    let Some((objects, root, server)) = ready().await else { return };
    let write = async |key: &str, precondition, companion: &str, expected| {
        let companion = Companion { key: companion.to_owned(), bytes: text("row"), precondition: expected };
        objects
            .put_with(key, text("pointer"), precondition, &BTreeMap::new(), companion)
            .await
            .expect("answered")
    };
    let (Put::Written(first), true) =
        write("p/tags/live", Precondition::Absent, "p/history/live/000000000001", Precondition::Absent).await
    else {
        panic!("both are new");
    };
    // One transaction made them, and all directories on the way.
    let client = server.client().await;
    let stat = async |path: &str| {
        client.check_stat(&format!("{root}{path}")).await.expect("answered").expect("it is there")
    };
    let pointer = stat("/p/tags/=live").await;
    assert_eq!(pointer.czxid, stat("/p/history/live/~000000000/=000000000001").await.czxid);
    assert_eq!(pointer.czxid, stat("/p").await.czxid);
    assert_eq!(objects.get("p/tags/live").await.expect("read").expect("it is there").revision, first);

    let exchange = || Precondition::Revision(first.clone());
    let refused =
        write("p/tags/live", Precondition::Absent, "p/history/live/000000000002", Precondition::Absent);
    assert_eq!(refused.await, (Put::Refused, false));
    assert_eq!(objects.get("p/history/live/000000000002").await.expect("read"), None);
    // The companion is there already: the pointer moves all the same.
    let (Put::Written(second), false) =
        write("p/tags/live", exchange(), "p/history/live/000000000001", Precondition::Absent).await
    else {
        panic!("the pointer is as expected, its companion is not");
    };
    assert_ne!(first, second);
    let stale = write("p/tags/live", exchange(), "p/history/live/000000000002", Precondition::Absent);
    assert_eq!(stale.await, (Put::Refused, false));
    let missing = Precondition::Revision(second.clone());
    let (Put::Written(_), false) =
        write("p/tags/live", Precondition::Revision(second), "p/history/live/000000000009", missing).await
    else {
        panic!("there is nothing for the companion to exchange");
    };
}

#[tokio::test]
async fn a_revision_never_comes_twice() {
    let Some((objects, root, server)) = ready().await else { return };
    let first = create(&objects, "a/b").await;
    server.client().await.delete(&format!("{root}/a/=b"), None).await.expect("deleted by hand");
    let second = create(&objects, "a/b").await;
    assert_ne!(first, second);
    for revision in ["", "x", "1", "1.x", "1.-1", "\"etag\""] {
        let precondition = Precondition::Revision(Revision(revision.to_owned()));
        assert_eq!(put(&objects, "a/b", "other", precondition).await, Put::Refused, "{revision}");
    }
    let Put::Written(third) = put(&objects, "a/b", "again", Precondition::None).await else {
        panic!("nothing is expected");
    };
    assert_eq!(objects.get("a/b").await.expect("read").expect("it is there").revision, third);
    assert!(matches!(put(&objects, "a/new", "x", Precondition::None).await, Put::Written(_)));
}

#[tokio::test]
async fn what_hands_made_is_told_apart() {
    let Some((objects, root, server)) = ready().await else { return };
    create(&objects, "a/b").await;
    let client = server.client().await;
    for (path, bytes) in [
        ("/a/notes", &b"by hand"[..]),
        ("/a/%41", b"no name of ours"),
        ("/a/=%zz", b"no name of ours"),
        ("/a/~x", b"no bucket of ours"),
        ("/a/=empty", b""),
    ] {
        client.create(&format!("{root}{path}"), bytes, &OPEN).await.expect("created by hand");
    }
    assert_eq!(keys(&objects, "a/", "a/", 10).await, ["a/b", "a/empty"]);
    assert_eq!(objects.get("a/notes").await.expect("read"), None, "a directory is no object");
    let error = objects.get("a/empty").await.expect_err("no record is empty");
    assert_eq!(Exit::from(&error), Exit::Integrity, "{error:?}");
    assert!(error.key().is_some_and(|key| key.ends_with(&format!("{root}/a/=empty"))), "{error:?}");
    assert_eq!(
        put(&objects, "a/empty", "x", Precondition::Absent).await,
        Put::Refused,
        "it is not overwritten"
    );
    for bytes in [Bytes::new(), Bytes::from(vec![b'x'; 1_000_001])] {
        let error = objects.put("a/c", bytes, Precondition::Absent, &BTreeMap::new()).await;
        assert_eq!(Exit::from(&error.expect_err("no record")), Exit::Usage);
    }
    let most = Bytes::from(vec![b'x'; 1_000_000]);
    let put =
        objects.put("a/c", most.clone(), Precondition::Absent, &BTreeMap::new()).await.expect("it fits");
    assert!(matches!(put, Put::Written(_)));
    assert_eq!(objects.get("a/c").await.expect("read").expect("it is there").bytes, most);
}

#[tokio::test]
async fn a_missing_root_is_named() {
    let Some(server) = testbed::zookeeper() else { return };
    let root = unique("missing");
    let objects = on_nodes(&server.uri(&root), &Connect::default());
    let any = || Precondition::Revision(Revision("1.0".to_owned()));
    let nothing = BTreeMap::new();
    let errors: Vec<Error> = vec![
        objects.get("a").await.map(|_| ()).expect_err("no root"),
        objects.list("a/", "a/", 10).await.map(|_| ()).expect_err("no root"),
        objects.children("", None).await.map(|_| ()).expect_err("no root"),
        objects.put("a", text("{}"), Precondition::Absent, &nothing).await.map(|_| ()).expect_err("no root"),
        objects
            .put("a/b", text("{}"), Precondition::Absent, &nothing)
            .await
            .map(|_| ())
            .expect_err("no root"),
        objects.put("a", text("{}"), any(), &nothing).await.map(|_| ()).expect_err("no root"),
        objects.put("a", text("{}"), Precondition::None, &nothing).await.map(|_| ()).expect_err("no root"),
    ];
    for error in errors {
        let missing = Missing::Backend(format!("node '/{root}' on {}", server.address));
        assert_eq!(*error.meaning(), Meaning::NotFound(missing), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.ends_with(&format!("/{root} init"))), "{error:?}");
    }
}

#[tokio::test]
async fn a_probe_leaves_nothing() {
    let Some((objects, root, server)) = ready().await else { return };
    let error = objects.delete_probe("a/b").await.expect_err("no key of a probe");
    assert_eq!(*error.meaning(), Meaning::Other);
    for key in ["_sacker/probe/1-x/0", "_sacker/probe/1-x/0-absent", "_sacker/probe/2-y/1"] {
        create(&objects, key).await;
    }
    for key in ["_sacker/probe/1-x/0", "_sacker/probe/1-x/0-absent", "_sacker/probe/1-x/0"] {
        objects.delete_probe(key).await.expect("deleted, or gone");
    }
    let nodes = tree(&server.client().await, &root).await;
    let expected = [
        "",
        "/_sacker",
        "/_sacker/probe",
        "/_sacker/probe/2-y",
        "/_sacker/probe/2-y/~",
        "/_sacker/probe/2-y/~/=1",
    ];
    assert_eq!(nodes.into_keys().collect::<Vec<_>>(), expected.map(|path| format!("{root}{path}")));
}

#[tokio::test]
async fn rights_are_the_nodes_own() {
    let Some((objects, root, server)) = ready().await else { return };
    create(&objects, "a/b").await;
    let client = server.client().await;
    client.auth("digest", b"owner:owner").await.expect("taken");
    let (owner, anybody) = (AuthId::authed(), AuthId::anyone());
    let shut = [Acl::new(Permission::ALL, owner.clone())];
    let read_only = [Acl::new(Permission::ALL, owner), Acl::new(Permission::READ, anybody)];
    client.set_acl(&format!("{root}/a/=b"), &shut, None).await.expect("set");
    client
        .create(&format!("{root}/seen"), b"", &CreateMode::Persistent.with_acls(Acls::new(&read_only)))
        .await
        .expect("created");
    let nothing = BTreeMap::new();
    for (error, path) in [
        (objects.get("a/b").await.map(|_| ()).expect_err("shut"), "/a/=b"),
        (
            objects
                .put("seen/c", text("{}"), Precondition::Absent, &nothing)
                .await
                .map(|_| ())
                .expect_err("shut"),
            "/seen/=c",
        ),
        (
            objects.put("a/b", text("{}"), Precondition::None, &nothing).await.map(|_| ()).expect_err("shut"),
            "/a/=b",
        ),
    ] {
        assert_eq!(Exit::from(&error), Exit::Denied, "{error:?}");
        assert!(error.to_string().contains(&format!("{root}{path}")), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("SACKER_ZOOKEEPER_USER")), "{error:?}");
    }
    let connect = Connect {
        environment: environment(&[
            ("SACKER_ZOOKEEPER_USER", "owner"),
            ("SACKER_ZOOKEEPER_PASSWORD", "owner"),
        ]),
        ..Connect::default()
    };
    let known = on_nodes(&server.uri(root.trim_start_matches('/')), &connect);
    assert_eq!(known.get("a/b").await.expect("read").expect("it is there").bytes, "a/b");
}

/// What `acl=creator` makes is its creator's alone, and another's password opens nothing.
#[tokio::test]
async fn nodes_may_be_their_creators_alone() {
    let Some(server) = testbed::zookeeper() else { return };
    let uri = server.uri(&unique("own")) + "?acl=creator";
    let open = |user: &str| {
        let pairs = [("SACKER_ZOOKEEPER_USER", user), ("SACKER_ZOOKEEPER_PASSWORD", "secret")];
        on_nodes(&uri, &Connect { environment: environment(&pairs), ..Connect::default() })
    };
    let (own, other) = (open("ann"), open("bob"));
    own.init(&InitOptions::default()).await.expect("set up");
    create(&own, "a/b").await;
    assert_eq!(own.get("a/b").await.expect("read").expect("it is there").bytes, "a/b");
    for error in [
        other.get("a/b").await.map(|_| ()).expect_err("not his"),
        other.list("a/", "a/", 10).await.map(|_| ()).expect_err("not his"),
        other
            .put("c", text("{}"), Precondition::Absent, &BTreeMap::new())
            .await
            .map(|_| ())
            .expect_err("not his"),
    ] {
        assert_eq!(Exit::from(&error), Exit::Denied, "{error:?}");
        assert!(!format!("{error:?}{error}").contains("secret"), "{error:?}");
    }
}

/// Connections that break are made again by readers; a write whose answer is lost is in doubt, and may be there.
#[tokio::test]
async fn a_lost_answer_is_doubt_and_a_lost_connection_is_made_again() {
    let Some((direct, root, server)) = ready().await else { return };
    let gate = TcpGate::start(&server.address, "127.0.0.1:0").expect("a gate");
    let connect = Connect { deadline: Duration::from_secs(8), ..Connect::default() };
    let uri = format!("zk://{}{root}", gate.address());
    let objects = on_nodes(&uri, &connect);
    create(&objects, "a/b").await;
    for bytes in [0, 1, 40, 41, 60, 100] {
        let (before, fresh) = (gate.connections(), on_nodes(&uri, &connect));
        gate.script(&[TcpFault::Reset(bytes)]);
        fresh.get("a/b").await.expect("read").expect("it is there");
        assert!(gate.connections() >= before + 2, "the connection of {bytes} bytes was not enough");
    }

    gate.set(TcpFault::SwallowReply);
    let started = Instant::now();
    let write = objects.put("a/c", text("{}"), Precondition::Absent, &BTreeMap::new()).await;
    let error = write.expect_err("no answer comes");
    assert_eq!(*error.meaning(), Meaning::Unavailable, "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    assert!(direct.get("a/c").await.expect("read").is_some(), "it was written all the same");
    gate.set(TcpFault::None);
    assert!(objects.get("a/c").await.expect("read").is_some(), "with another session");
    assert_eq!(put(&objects, "a/c", "x", Precondition::Absent).await, Put::Refused);

    gate.set(TcpFault::Blackhole);
    let started = Instant::now();
    let error = objects.get("a/b").await.expect_err("nobody answers");
    assert_eq!(Exit::from(&error), Exit::Unavailable, "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    gate.set(TcpFault::None);
    assert!(objects.get("a/b").await.expect("read").is_some());
}

/// Packets that the server received so far, as it says; the question itself is one of them.
fn received(server: &ZooKeeperServer) -> u64 {
    let mut stream = TcpStream::connect(&server.address).expect("it listens");
    stream.write_all(b"srvr").expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let row = answer.lines().find_map(|line| line.strip_prefix("Received: ")).expect("it counts");
    row.parse().expect("a number")
}

/// The requests of an operation, `sync` included. Pings of idle sessions count too, so the least of a few is taken.
async fn cost<T>(server: &ZooKeeperServer, mut operation: impl AsyncFnMut() -> T) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..4 {
        let before = received(server);
        operation().await;
        least = least.min(received(server) - before - 1);
    }
    least
}

/// As `docs/ledgers.md` has it. More is a regression, less is to be pinned here.
#[tokio::test]
async fn operations_cost_what_the_table_says() {
    if !testbed::is_there("zookeeper") {
        return;
    }
    let folder = Folder::new("zookeeper-costs");
    let process = Server::start("zookeeper", folder.path(), 1, &[], &[]);
    let server = ZooKeeperServer::of(&process);
    let uri = server.uri("costs").parse().expect("a URI");
    let ledger = ledger::open(&uri, &Connect::default()).await.expect("opened");
    ledger.init(&InitOptions::default()).await.expect("set up");
    let (web, live) = (PackageName::existing("web"), TagName::existing("live"));
    let mut numbers = Vec::new();
    for _ in 0..4 {
        numbers.push(
            ledger
                .add(&web, &new_version(0, &Sha256::of(b"x").to_string(), &unique("id")))
                .await
                .expect("added")
                .version,
        );
    }
    let moving = |to| {
        let actor = Actor { by: "ann".into(), reason: None, source: EventSource::Cli };
        TagChange::new(Change::Move { to, hold: None }, actor)
    };
    ledger.change_tag(&web, &live, &moving(numbers[0])).await.expect("moved");
    let mut costs = BTreeMap::new();
    let add = cost(&server, async || {
        ledger.add(&web, &new_version(0, &Sha256::of(b"x").to_string(), &unique("id"))).await.expect("added");
    });
    costs.insert("add", add.await);
    let mut round = 0;
    let tag_move = cost(&server, async || {
        round += 1;
        ledger.change_tag(&web, &live, &moving(numbers[round % 4])).await.expect("moved");
    });
    costs.insert("tag move", tag_move.await);
    costs.insert("tag", cost(&server, async || ledger.tag(&web, &live).await.expect("read")).await);
    let spec = Spec::Tag(live.clone());
    costs.insert(
        "resolve a tag",
        cost(&server, async || ledger.resolve(&web, &spec).await.expect("read")).await,
    );
    costs.insert("latest", cost(&server, async || ledger.latest(&web).await.expect("read")).await);
    costs.insert(
        "history of 5",
        cost(&server, async || ledger.history(&web, &live).await.expect("read")).await,
    );
    let packages = cost(&server, async || ledger.packages().try_collect::<Vec<_>>().await.expect("listed"));
    costs.insert("one package", packages.await);
    costs.insert("view", cost(&server, async || ledger.view(&web).await.expect("read")).await);
    let expected = [
        ("add", 8),
        ("tag move", 5),
        ("tag", 2),
        ("resolve a tag", 4),
        ("latest", 9),
        ("history of 5", 12),
        ("one package", 4),
        ("view", 21),
    ];
    assert_eq!(costs, BTreeMap::from(expected));
}
