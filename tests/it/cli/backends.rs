//! The same verbs on real servers, and what a user reads when a server refuses or is down.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use rstest::rstest;

use super::home::{Home, PACKAGE};
use crate::support::testbed::{self, S3Server};
use crate::support::unique;

fn server(name: &str) -> Option<S3Server> {
    match name {
        "minio" => testbed::minio(),
        _ => testbed::versitygw(),
    }
}

/// A home whose ledger and store are buckets of their own.
fn home_on(server: &S3Server) -> Home {
    Home::new()
        .with("SACKER_LEDGER", &server.uri(&unique("ledger")))
        .with("SACKER_STORE", &server.uri(&unique("store")))
        .with("AWS_ACCESS_KEY_ID", server.access_key)
        .with("AWS_SECRET_ACCESS_KEY", server.secret_key)
        .with("AWS_EC2_METADATA_DISABLED", "true")
}

#[rstest]
fn the_story_of_the_old_readme(#[values("minio", "versitygw")] name: &str) {
    let Some(server) = server(name) else { return };
    let home = home_on(&server);
    let missing = home.run(&["list"]);
    assert_eq!(missing.code, Some(3), "before init: {missing:?}");
    home.run(&["init"]).answer();
    home.file("frontend-server.jar", "one\n");
    let one = home.run(&["add", PACKAGE, "frontend-server.jar"]).answer().trim_end().to_owned();
    home.file("frontend-server.jar", "two\n");
    let two = home.run(&["add", PACKAGE, "frontend-server.jar"]).answer().trim_end().to_owned();
    assert_eq!(home.run(&["versions", PACKAGE]).answer(), format!("{one}\n{two}\n"));
    home.run(&["tag", PACKAGE, &one, "live"]).answer();
    home.run(&["tag", PACKAGE, "latest", "canary"]).answer();
    assert_eq!(home.run(&["tags", PACKAGE]).answer(), format!("canary\t{two}\nlive\t{one}\n"));
    assert_eq!(home.run(&["list"]).answer(), "frontend-server\n");
    assert_eq!(home.run(&["download", PACKAGE, "live", "-o", "-"]).answer(), "one\n");
    assert_eq!(home.run(&["download", PACKAGE, "latest", "-o", "out.jar"]).answer(), "out.jar\n");
    home.run(&["untag", PACKAGE, "canary", "--yes"]).answer();
    assert_eq!(home.run(&["tags", PACKAGE]).answer(), format!("live\t{one}\n"));
    let ran = home.run(&["info", PACKAGE, "canary"]);
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.ends_with("hint: its tags: live; see: sacker tags frontend-server\n"), "{ran:?}");
}

#[rstest]
fn wrong_credentials_are_denied(#[values("minio", "versitygw")] name: &str) {
    let Some(server) = server(name) else { return };
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
    assert!(ran.stderr.contains("given up after 2 s"), "{ran:?}");
    assert!(!ran.stderr.contains("canary-of-a-secret"), "{ran:?}");
}
