//! The same verbs on real servers, and what a user reads when a server refuses or is down.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rstest::rstest;
use sacker::model::Sha256;

use super::home::{Home, PACKAGE};
use crate::support::faultgate::{Action, Gate, Match, Rule};
use crate::support::testbed::{self, S3Server};
use crate::support::{eventually, unique};

pub(super) fn s3(name: &str) -> Option<S3Server> {
    match name {
        "minio" => testbed::minio(),
        _ => testbed::versitygw(),
    }
}

/// A home whose ledger and store are these, reached with these keys.
fn home_with(ledger: &str, store: &str, access_key: &str, secret_key: &str) -> Home {
    Home::new()
        .with("SACKER_LEDGER", ledger)
        .with("SACKER_STORE", store)
        .with("AWS_ACCESS_KEY_ID", access_key)
        .with("AWS_SECRET_ACCESS_KEY", secret_key)
        .with("AWS_EC2_METADATA_DISABLED", "true")
}

/// A home whose ledger and store are buckets of their own.
pub(super) fn home_on(server: &S3Server) -> Home {
    let (ledger, store) = (server.uri(&unique("ledger")), server.uri(&unique("store")));
    home_with(&ledger, &store, server.access_key, server.secret_key)
}

/// A home whose ledger is in tables of its own, and whose store is a directory.
pub(super) fn home_on_tables() -> Option<Home> {
    let server = testbed::dynamodb()?;
    let home = home_with(&server.uri(&unique("ledger")), "", server.access_key, server.secret_key);
    let store = format!("file://{}", home.path("blobs").display());
    Some(home.with("SACKER_STORE", &store))
}

/// The gate holds the look for the blob, which comes between reading the file and sending it.
#[rstest]
#[case::known(true)]
#[case::not_known(false)]
#[tokio::test]
async fn a_file_that_changes_while_it_is_added_is_refused(
    #[values("minio", "versitygw")] name: &str,
    #[case] is_digest_given: bool,
) {
    let Some(server) = s3(name) else { return };
    let gate = Gate::start(&server.endpoint, 0);
    let bucket = unique("store");
    let store = server.behind(&gate).uri(&bucket);
    let home = home_with("", &store, server.access_key, server.secret_key);
    let ledger = format!("file://{}", home.path("ledger").display());
    let home = home.with("SACKER_LEDGER", &ledger);
    home.run(&["init"]).answer();
    let content = "sixteen letters\n".repeat(5 << 20);
    let file = home.file("app.jar", &content);
    let sha256 = Sha256::of(content.as_bytes()).to_string();

    gate.set_rules(vec![Rule::new(Match::method("HEAD"), Action::Hold).times(1)]);
    let given: &[&str] = if is_digest_given { &["--sha256", &sha256] } else { &[] };
    let adding = home
        .command(&[&["add", PACKAGE, "app.jar"], given].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sacker starts");
    eventually("the look for the blob", Duration::from_mins(1), async || gate.held() == 1).await;
    let change = OpenOptions::new().write(true).open(&file).expect("it opens");
    change.write_all_at(b"other letters", 40 << 20).expect("written");
    gate.release();
    let output = adding.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    let told = if is_digest_given { "the file has sha256" } else { "it changed meanwhile" };
    assert!(stderr.contains(told), "{stderr}");

    let list = server.client().await.list_objects_v2().bucket(&bucket).send().await.expect("listed");
    assert_eq!(list.contents().len(), 0, "nothing is visible");
    assert_eq!(home.run(&["list"]).answer(), "");
}

#[rstest]
fn the_story_of_the_old_readme(#[values("minio", "versitygw", "dynamodb")] name: &str) {
    let home = match name {
        "dynamodb" => home_on_tables(),
        name => s3(name).map(|server| home_on(&server)),
    };
    let Some(home) = home else { return };
    let missing = home.run(&["list"]);
    assert_eq!(missing.code, Some(3), "before init: {missing:?}");
    home.run(&["init"]).answer();
    let again = home.run(&["init"]);
    assert_eq!((again.answer(), again.stderr.as_str()), ("", "note: nothing to do: everything is there\n"));
    home.file("frontend-server.jar", "one\n");
    let one = home.run(&["add", PACKAGE, "frontend-server.jar"]).answer().trim_end().to_owned();
    home.file("frontend-server.jar", "two\n");
    let two = home.run(&["add", PACKAGE, "frontend-server.jar"]).answer().trim_end().to_owned();
    assert_eq!(home.run(&["versions", PACKAGE]).answer(), format!("{one}\n{two}\n"));
    home.run(&["tag", PACKAGE, &one, "live"]).answer();
    home.run(&["tag", PACKAGE, "latest", "canary"]).answer();
    assert_eq!(home.run(&["tags", PACKAGE]).answer(), format!("canary\t{two}\nlive\t{one}\n"));
    assert_eq!(home.run(&["list"]).answer(), "frontend-server\n");
    assert_eq!(home.run(&["info", PACKAGE, "live", "-o", "json"]).json()["version"].to_string(), one);
    assert_eq!(home.run(&["download", PACKAGE, "live", "-o", "-"]).answer(), "one\n");
    assert_eq!(home.run(&["download", PACKAGE, "latest", "-o", "out.jar"]).answer(), "out.jar\n");
    home.run(&["untag", PACKAGE, "canary", "--yes"]).answer();
    assert_eq!(home.run(&["tags", PACKAGE]).answer(), format!("live\t{one}\n"));
    assert_eq!(home.run(&["history", PACKAGE, "canary"]).answer().lines().count(), 2);
    let ran = home.run(&["info", PACKAGE, "canary"]);
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.ends_with("hint: its tags: live; see: sacker tags frontend-server\n"), "{ran:?}");
    assert_eq!(home.run(&["tag", PACKAGE, "latest", "live", "--if-version", &two]).code, Some(4));
    home.run(&["hold", PACKAGE, "live", "--reason", "freeze"]).answer();
    assert_eq!(home.run(&["tag", PACKAGE, "latest", "live"]).code, Some(4));
    home.run(&["release", PACKAGE, "live"]).answer();
    home.run(&["tag", PACKAGE, "latest", "live", "--if-version", &one]).answer();
}

#[rstest]
fn wrong_credentials_are_denied(#[values("minio", "versitygw")] name: &str) {
    let Some(server) = s3(name) else { return };
    let home = home_on(&server);
    home.run(&["init"]).answer();
    let home = home.with("AWS_SECRET_ACCESS_KEY", "not-the-secret");
    let ran = home.run(&["list"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(6), ""), "{ran:?}");
    assert!(!ran.stderr.contains("not-the-secret") && ran.stderr.contains("hint: "), "{ran:?}");
}

/// `refuses`: nobody listens. `silent`: connections are accepted by the kernel, and nothing is ever answered.
#[rstest]
fn a_server_that_is_down_ends_in_time(#[values("refuses", "silent")] how: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let _silent = (how == "silent").then_some(listener);
    let home = Home::new()
        .with("SACKER_LEDGER", &format!("s3://ledger?endpoint=http://127.0.0.1:{port}"))
        .with("AWS_ACCESS_KEY_ID", "key")
        .with("AWS_SECRET_ACCESS_KEY", "canary-of-a-secret")
        .with("AWS_EC2_METADATA_DISABLED", "true");
    let started = Instant::now();
    let ran = home.run(&["versions", PACKAGE, "--timeout", "2s", "-vv"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), ""), "{ran:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(ran.stderr.contains(" s after the start"), "{ran:?}");
    assert!(!ran.stderr.contains("canary-of-a-secret"), "{ran:?}");
}
