//! The verbs on a real ZooKeeper, and what a user reads when it is away, refuses, or was edited by hand.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use rstest::rstest;
use zookeeper_client::{Acl, AuthId, Client, Permission};

use super::home::{Home, PACKAGE};
use crate::support::testbed::{self, ZooKeeperServer};
use crate::support::unique;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A home whose ledger is below a node of its own, that node, and the server.
pub(super) fn home_on_nodes() -> Option<(Home, String, ZooKeeperServer)> {
    let server = testbed::zookeeper()?;
    let root = unique("cli");
    let home = Home::new().with("SACKER_LEDGER", &server.uri(&root));
    let store = format!("file://{}", home.path("blobs").display());
    Some((home.with("SACKER_STORE", &store), format!("/{root}"), server))
}

/// With two versions and a tag at the first.
fn with_a_tag() -> Option<(Home, String, ZooKeeperServer)> {
    let (home, root, server) = home_on_nodes()?;
    home.run(&["init"]).answer();
    for content in ["one\n", "two\n"] {
        home.file("app.jar", content);
        home.run(&["add", PACKAGE, "app.jar"]).answer();
    }
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    Some((home, root, server))
}

/// Works on nodes with a plain client.
fn by_hand(server: &ZooKeeperServer, work: impl AsyncFnOnce(Client)) {
    runtime().block_on(async { work(server.client().await).await });
}

#[test]
fn a_ledger_is_made_used_and_found_healthy() {
    let Some((home, root, _server)) = home_on_nodes() else { return };
    let missing = home.run(&["list"]);
    assert_eq!(missing.code, Some(3), "{missing:?}");
    assert!(missing.stderr.contains(&format!("node '{root}' on 127.0.0.1:")), "{missing:?}");
    assert!(missing.stderr.contains("create it with: sacker init"), "{missing:?}");
    let done = home.run(&["init"]);
    assert!(
        done.stderr.contains(&format!("created node '{root}'")) || done.answer().contains(&root),
        "{done:?}"
    );
    home.file("app.jar", "one\n");
    assert_eq!(home.run(&["add", PACKAGE, "app.jar"]).answer(), "1\n");
    home.run(&["tag", PACKAGE, "1", "live", "--reason", "first"]).answer();
    home.run(&["untag", PACKAGE, "live", "--yes"]).answer();
    assert_eq!(home.run(&["history", PACKAGE, "live"]).answer().lines().count(), 2);
    assert_eq!(home.run(&["list"]).answer(), format!("{PACKAGE}\n"));
    let doctor = home.run(&["doctor"]);
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
    assert!(doctor.stdout.contains("promises hold, also in parallel"), "{doctor:?}");
    home.run(&["verify", PACKAGE]).answer();
}

/// `refuses`: nobody listens. `silent`: connections are accepted by the kernel, and nothing is ever answered.
#[rstest]
fn a_server_that_is_away_ends_in_time(#[values("refuses", "silent")] how: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let _silent = (how == "silent").then_some(listener);
    let home = Home::new()
        .with("SACKER_LEDGER", &format!("zk://127.0.0.1:{port}/ledger"))
        .with("SACKER_ZOOKEEPER_USER", "ann")
        .with("SACKER_ZOOKEEPER_PASSWORD", "canary-of-a-secret");
    for arguments in [&["versions", PACKAGE][..], &["tag", PACKAGE, "1", "live"]] {
        let started = Instant::now();
        let ran = home.run(&[arguments, &["--timeout", "2s", "-vv"]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), ""), "{ran:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        assert!(ran.stderr.contains(&format!("zk://127.0.0.1:{port}/ledger")), "{ran:?}");
        assert!(ran.stderr.contains("hint: check that ZooKeeper listens on"), "{ran:?}");
        assert!(!ran.stderr.contains("canary-of-a-secret"), "{ran:?}");
    }
}

#[test]
fn a_node_that_is_shut_is_denied() {
    let Some((home, root, server)) = with_a_tag() else { return };
    by_hand(&server, async |client| {
        client.auth("digest", b"owner:canary-of-a-secret").await.expect("taken");
        let shut = [Acl::new(Permission::ALL, AuthId::authed())];
        client.set_acl(&format!("{root}/{PACKAGE}/tags/=live"), &shut, None).await.expect("set");
    });
    let ran = home.run(&["info", PACKAGE, "live"]);
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(ran.stderr.contains(&format!("{root}/{PACKAGE}/tags/=live")), "{ran:?}");
    assert!(ran.stderr.contains("hint: say who you are: SACKER_ZOOKEEPER_USER"), "{ran:?}");
    assert_eq!(home.run(&["tag", PACKAGE, "2", "live"]).code, Some(6));
    assert_eq!(home.run(&["versions", PACKAGE]).answer(), "1\n2\n", "other nodes are open");
    let home =
        home.with("SACKER_ZOOKEEPER_USER", "owner").with("SACKER_ZOOKEEPER_PASSWORD", "canary-of-a-secret");
    home.run(&["info", PACKAGE, "live"]).answer();
}

/// `rubbish` is no record, `empty` is nothing at all.
#[rstest]
fn a_record_edited_by_hand_is_named_and_never_overwritten(#[values("rubbish", "")] content: &str) {
    let Some((home, root, server)) = with_a_tag() else { return };
    let path = format!("{root}/{PACKAGE}/tags/=live");
    by_hand(&server, async |client| {
        client.set_data(&path, content.as_bytes(), None).await.expect("edited");
    });
    for arguments in [&["info", PACKAGE, "live"][..], &["tag", PACKAGE, "2", "live"]] {
        let ran = home.run(arguments);
        assert_eq!(ran.code, Some(5), "{ran:?}");
        assert!(ran.stderr.contains(&path), "{ran:?}");
    }
    by_hand(&server, async |client| {
        assert_eq!(client.get_data(&path).await.expect("read").0, content.as_bytes());
    });
    let versions = format!("{root}/{PACKAGE}/versions/~/=2");
    by_hand(&server, async |client| {
        client.set_data(&versions, content.as_bytes(), None).await.expect("edited");
    });
    let ran = home.run(&["info", PACKAGE, "2"]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stderr.contains(&versions), "{ran:?}");
}

#[test]
fn nodes_of_their_creator_need_to_know_who_that_is() {
    let Some((home, root, server)) = home_on_nodes() else { return };
    let home =
        home.with("SACKER_LEDGER", &format!("{}?acl=creator", server.uri(root.trim_start_matches('/'))));
    let ran = home.run(&["init"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("hint: set SACKER_ZOOKEEPER_USER and SACKER_ZOOKEEPER_PASSWORD"), "{ran:?}");
    let home = home.with("SACKER_ZOOKEEPER_USER", "ann");
    let half = home.run(&["init"]);
    assert_eq!(half.code, Some(2), "{half:?}");
    assert!(half.stderr.contains("SACKER_ZOOKEEPER_PASSWORD is not set"), "{half:?}");
    let home = home.with("SACKER_ZOOKEEPER_PASSWORD", "canary-of-a-secret");
    home.run(&["init"]).answer();
    home.file("app.jar", "one\n");
    home.run(&["add", PACKAGE, "app.jar"]).answer();
    assert_eq!(home.run(&["versions", PACKAGE]).answer(), "1\n");
    let home = home.with("SACKER_ZOOKEEPER_PASSWORD", "another-secret");
    let ran = home.run(&["versions", PACKAGE, "-vv"]);
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(ran.stderr.contains("hint: user 'ann' lacks the right"), "{ran:?}");
    assert!(!ran.stderr.contains("another-secret"), "{ran:?}");
}

/// Two of three servers are gone: the third has no majority, and is there for those who only read.
#[test]
fn an_ensemble_without_a_majority_is_read_only() {
    let Some(mut ensemble) = testbed::Ensemble::start() else { return };
    let home = Home::new().with("SACKER_LEDGER", &ensemble.uri(&unique("cli")));
    let store = format!("file://{}", home.path("blobs").display());
    let home = home.with("SACKER_STORE", &store);
    home.run(&["init"]).answer();
    home.file("app.jar", "one\n");
    assert_eq!(home.run(&["add", PACKAGE, "app.jar"]).answer(), "1\n");
    // With one of them gone nothing is lost, whichever it is.
    drop(ensemble.members.remove(0));
    home.run(&["tag", PACKAGE, "1", "live"]).answer();
    assert_eq!(home.run(&["versions", PACKAGE]).answer(), "1\n");
    drop(ensemble.members.remove(0));
    let last = ensemble.members[0].port();
    let end = Instant::now() + Duration::from_mins(1);
    let said = loop {
        // Until the last one has noticed, it is as good as away.
        let ran = home.run(&["versions", PACKAGE, "--timeout", "2s"]);
        if ran.code == Some(6) || Instant::now() > end {
            break ran;
        }
        assert_eq!(ran.code, Some(7), "{ran:?}");
    };
    assert_eq!(said.code, Some(6), "{said:?}");
    assert!(said.stderr.contains("hint: the server lost the others of its ensemble"), "{said:?}");
    let ran = home.run(&["tag", PACKAGE, "1", "canary", "--timeout", "2s"]);
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(ran.stderr.contains(&last.to_string()), "{ran:?}");
}
