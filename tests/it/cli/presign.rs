//! `sacker presign`: a URL that works for somebody without credentials, for its time, for that blob alone.

use std::process::Command;

use rstest::rstest;

use super::backends::{home_on, s3};
use super::home::{Home, PACKAGE};

/// What `curl` gets: the exit code, and the body or the headers.
fn curl(arguments: &[&str]) -> (Option<i32>, String) {
    let output =
        Command::new("curl").args(["-sS", "-q", "--fail"]).args(arguments).output().expect("curl runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[rstest]
fn whoever_has_the_url_can_fetch(#[values("minio", "versitygw")] name: &str) {
    let Some(server) = s3(name) else { return };
    let home = home_on(&server);
    home.run(&["init"]).answer();
    home.file("my app;1.jar", "one\n");
    home.run(&["add", PACKAGE, "my app;1.jar"]).answer();
    let signed = home.run(&["presign", PACKAGE, "latest"]);
    let url = signed.answer().trim_end();
    assert!(signed.stderr.contains("anybody with this URL can fetch"), "{signed:?}");
    assert!(!url.contains(server.secret_key), "{url}");
    assert_eq!(curl(&[url]), (Some(0), "one\n".to_owned()));
    let (_, headers) = curl(&["-D", "-", "-o", "/dev/null", url]);
    let disposition = headers.to_lowercase();
    assert!(disposition.contains("filename*=utf-8''my%20app%3b1.jar"), "{headers}");

    assert_eq!(
        curl(&[&url.replace("X-Amz-Signature=", "X-Amz-Signature=0")]).0,
        Some(22),
        "another signature"
    );
    let other = "0".repeat(64);
    let (begin, query) = url.split_once('?').expect("a query");
    let key = begin.rsplit('/').next().expect("a key");
    assert_eq!(curl(&[&format!("{}?{query}", begin.replace(key, &other))]).0, Some(22), "another blob");
    assert!(url.contains("X-Amz-Expires=3600"), "{url}");
    let short = home.run(&["presign", PACKAGE, "latest", "--expires", "10m"]);
    assert!(short.answer().contains("X-Amz-Expires=600"), "{short:?}");
}

#[test]
fn a_blob_that_is_gone_gets_no_url() {
    let Some(server) = s3("minio") else { return };
    let home = home_on(&server);
    home.run(&["init"]).answer();
    let sha256 = "f".repeat(64);
    home.file("app.jar", "one\n");
    home.run(&["add", PACKAGE, "app.jar"]).answer();
    let elsewhere = server.uri(&crate::support::unique("store"));
    home.run(&["--store", &elsewhere, "init"]).answer();
    let ran = home.run(&["--store", &elsewhere, "presign", PACKAGE, "latest"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""), "{ran:?}");
    assert!(ran.stderr.contains("has no blob") && !ran.stderr.contains(&sha256), "{ran:?}");
}

#[test]
fn a_store_of_files_signs_nothing() {
    let home = Home::with_two_versions();
    let ran = home.run(&["presign", PACKAGE, "latest"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    assert!(
        ran.stderr.contains("signs no URLs") && ran.stderr.contains("hint: fetch the file itself"),
        "{ran:?}"
    );
    let ran = home.run(&["presign", PACKAGE, "latest", "--expires", "8d"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("the longest that a signature is valid"), "{ran:?}");
}
