//! Servers that do not take whoever asks for who that claims to be, and what a user reads then: their own words are captured
//! in `src/aws/error.rs`; here they really say them.

use std::fs;

use rstest::rstest;

use super::home::{Home, Ran};
use crate::support::testbed::{self, S3Server};
use crate::support::unique;

fn s3(name: &str) -> Option<S3Server> {
    if name == "minio" { testbed::minio() } else { testbed::versitygw() }
}

fn home(ledger: &str, key: &str, secret: &str) -> Home {
    Home::new()
        .with("SACKER_LEDGER", ledger)
        .with("AWS_ACCESS_KEY_ID", key)
        .with("AWS_SECRET_ACCESS_KEY", secret)
        .with("AWS_EC2_METADATA_DISABLED", "true")
}

#[track_caller]
fn expect(ran: &Ran, code: i32, hint: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{ran:?}");
    assert!(ran.stderr.contains(&format!("hint: {hint}")), "{ran:?}");
}

#[rstest]
fn an_unknown_key_and_a_wrong_secret(#[values("minio", "versitygw")] name: &str) {
    let Some(server) = s3(name) else { return };
    let ledger = server.uri(&unique("refusals"));
    home(&ledger, server.access_key, server.secret_key).run(&["init", "--no-probe"]).answer();
    let ran = home(&ledger, "nobody", "secret").run(&["versions", "web"]);
    expect(&ran, 6, "the server does not know this access key");
    let ran = home(&ledger, server.access_key, "wrong").run(&["versions", "web"]);
    expect(&ran, 6, "the secret is not that of the access key");
}

/// MinIO takes any region where it has none itself.
#[test]
fn another_region_is_named() {
    let Some(server) = testbed::versitygw() else { return };
    let ledger = server.uri(&unique("refusals"));
    home(&ledger, server.access_key, server.secret_key).run(&["init", "--no-probe"]).answer();
    let elsewhere = format!("{ledger}&region=eu-west-1");
    let ran = home(&elsewhere, server.access_key, server.secret_key).run(&["versions", "web"]);
    expect(&ran, 2, "write ?region=us-east-1 in the URI");
}

#[test]
fn a_key_that_cannot_be_one() {
    let Some(server) = testbed::dynamodb() else { return };
    let ran = home(&server.uri(&unique("refusals")), "no-key", "secret").run(&["list"]);
    expect(&ran, 6, "the server does not know this access key");
}

/// A session of the single sign-on that is over, in the file where `aws sso login` leaves it; and none at all.
#[test]
fn a_session_of_a_profile_that_is_over() {
    // The SHA-1 of `corp`, by which the session's file is called.
    const FILE: &str = ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";
    let home = Home::new()
        .with("SACKER_LEDGER", "s3://ledger?endpoint=http://127.0.0.1:1")
        .with("AWS_PROFILE", "work")
        .with("AWS_EC2_METADATA_DISABLED", "true");
    let profile = "[profile work]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = reader\n\
                   [sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://corp.example.com/start\n";
    fs::create_dir_all(home.path(".aws/sso/cache")).expect("created");
    fs::write(home.path(".aws/config"), profile).expect("written");
    let told = "log in again with: aws sso login --profile work (the profile 'work' has no SSO session, or it is over)";
    expect(&home.run(&["list"]), 6, told);
    let session = r#"{"accessToken": "canary-of-a-token", "expiresAt": "2020-01-01T00:00:00Z"}"#;
    fs::write(home.path(FILE), session).expect("written");
    let ran = home.run(&["-vv", "list"]);
    expect(&ran, 6, told);
    assert!(ran.stderr.contains("SSO") && !ran.stderr.contains("canary-of-a-token"), "{ran:?}");
}

#[test]
fn no_region_is_said_before_anything_is_asked() {
    let home = home("s3://ledger", "key", "secret");
    home.run(&["list"]).fails(
        2,
        "error: no AWS region is known\nhint: set AWS_REGION, or write ?region=<region> in the URI",
    );
}
