//! `sacker doctor`: one line per check, and the exit code of the first that failed.

use std::collections::BTreeMap;

use rstest::rstest;
use sacker::model::Sha256;

use super::home::{Home, PACKAGE, Ran};
use crate::support::faultgate::{Action, Gate, Match, Rule, ServerDate};
use crate::support::testbed;
use crate::support::unique;

/// The word of each check, and its text.
fn checks(ran: &Ran) -> BTreeMap<String, (String, String)> {
    let row = |line: &str| {
        let mut columns = line.split('\t').map(str::to_owned);
        let (word, what) = (columns.next().expect("a word"), columns.next().expect("a check"));
        (what, (word, columns.next().expect("a text")))
    };
    ran.stdout.lines().map(row).collect()
}

fn word<'a>(found: &'a BTreeMap<String, (String, String)>, check: &str) -> &'a str {
    found.get(check).map_or("not there", |(word, _)| word.as_str())
}

const ALL: [&str; 7] =
    ["blobs", "clock", "conditional writes", "hints for old readers", "ledger", "store", "times of versions"];

#[rstest]
fn all_is_well(#[values("file", "versitygw", "dynamodb")] name: &str) {
    let home = match name {
        "file" => Home::with_two_versions(),
        "versitygw" => {
            let Some(server) = testbed::versitygw() else { return };
            super::backends::home_on(&server)
        }
        _ => {
            let Some(home) = super::backends::home_on_tables() else { return };
            home
        }
    };
    home.run(&["init"]).answer();
    home.file("x", "x");
    home.run(&["add", PACKAGE, "x"]).answer();
    let ran = home.run(&["doctor"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let found = checks(&ran);
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), ALL, "{ran:?}");
    assert!(found.values().all(|(word, _)| word == "ok"), "{ran:?}");
}

/// R5: numbers of 2015 clients whose clocks were off; and a hint that lags, which is set right.
#[test]
fn what_is_odd_is_told_and_repaired() {
    let Some(server) = testbed::minio() else { return };
    let (bucket, store) = (unique("odd"), unique("store"));
    let home = Home::new()
        .with("SACKER_LEDGER", &server.uri(&bucket))
        .with("SACKER_STORE", &server.uri(&store))
        .with("AWS_ACCESS_KEY_ID", server.access_key)
        .with("AWS_SECRET_ACCESS_KEY", server.secret_key);
    home.run(&["init", "--no-probe"]).answer();
    home.file("x", "x");
    let version: i64 = home.run(&["add", "web", "x"]).answer().trim_end().parse().expect("a version");
    let (early, late, near) = (version - 600_000, version + 600_000, version + 120_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = server.client().await;
        for number in [early, late, near] {
            let body = format!("{{\"sha\": \"{}\", \"basename\": \"x\", \"mode\": 33188}}", Sha256::of(b"x"));
            let put = client.put_object().bucket(&bucket).key(format!("web/versions/{number}"));
            put.body(body.into_bytes().into()).send().await.expect("written");
        }
    });
    let ran = home.run(&["doctor", "--no-probe"]);
    assert_eq!(ran.code, Some(0), "warnings are no failure: {ran:?}");
    let found = checks(&ran);
    let (word_of_times, text) = &found["times of versions"];
    assert_eq!(word_of_times, "warning");
    assert!(text.starts_with("2 are off") && text.contains(&early.to_string()), "{text}");
    assert!(text.contains(&late.to_string()) && !text.contains(&near.to_string()), "{text}");
    assert_eq!(word(&found, "hints for old readers"), "warning", "{ran:?}");
    assert!(found["hints for old readers"].1.contains("--repair"), "{ran:?}");
    let repaired = home.run(&["doctor", "--no-probe", "--repair"]);
    assert_eq!(word(&checks(&repaired), "hints for old readers"), "ok", "{repaired:?}");
    let again = home.run(&["doctor", "--no-probe"]);
    assert_eq!(word(&checks(&again), "hints for old readers"), "ok", "{again:?}");
    assert_eq!(home.run(&["info", "web", "latest", "-o", "json"]).json()["version"], late);
}

#[test]
fn what_is_broken_is_told_with_its_exit_code() {
    let Some(server) = testbed::versitygw() else { return };
    let gate = Gate::start(&server.endpoint, 0);
    gate.know_secret(server.access_key, server.secret_key);
    let blobs = unique("store");
    let home = Home::new()
        .with("SACKER_LEDGER", &format!("s3://{}?endpoint={}", unique("ill"), gate.url()))
        .with("SACKER_STORE", &server.uri(&blobs))
        .with("AWS_ACCESS_KEY_ID", server.access_key)
        .with("AWS_SECRET_ACCESS_KEY", server.secret_key);
    home.run(&["init", "--no-probe"]).answer();
    home.file("x", "x");
    home.run(&["add", "web", "x"]).answer();

    // A blob that is gone.
    let blob = Sha256::of(b"x").to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = server.client().await;
        client.delete_object().bucket(&blobs).key(&blob).send().await.expect("deleted");
    });
    let ran = home.run(&["doctor", "--no-probe"]);
    assert_eq!((ran.code, word(&checks(&ran), "blobs")), (Some(5), "failed"), "{ran:?}");

    // A clock that is off, and a server that ignores conditions.
    gate.set_rules(vec![Rule::new(Match::default(), Action::RewriteDate(ServerDate::Offset(10)))]);
    let ran = home.run(&["doctor", "--no-probe"]);
    assert_eq!(word(&checks(&ran), "clock"), "warning", "{ran:?}");
    let strip = Action::Strip("if-none-match".to_owned());
    gate.set_rules(vec![Rule::new(Match::target("PutObject"), strip)]);
    let ran = home.run(&["doctor"]);
    assert_eq!((ran.code, word(&checks(&ran), "conditional writes")), (Some(2), "failed"), "{ran:?}");
    gate.close();
    let ran = home.run(&["doctor", "--timeout", "1s"]);
    assert_eq!((ran.code, word(&checks(&ran), "ledger")), (Some(7), "failed"), "{ran:?}");
}

/// `init` refuses a server that is broken, unless told not to look.
#[test]
fn init_refuses_a_broken_server() {
    let Some(server) = testbed::versitygw() else { return };
    let gate = Gate::start(&server.endpoint, 0);
    gate.know_secret(server.access_key, server.secret_key);
    gate.set_rules(vec![Rule::new(Match::target("PutObject"), Action::AcceptAbsentIfMatch)]);
    let home = Home::new()
        .with("SACKER_LEDGER", &format!("s3://{}?endpoint={}", unique("refused"), gate.url()))
        .with("AWS_ACCESS_KEY_ID", server.access_key)
        .with("AWS_SECRET_ACCESS_KEY", server.secret_key);
    let ran = home.run(&["init"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("exchange of an absent key is refused"), "{ran:?}");
    assert!(ran.stderr.contains("?single_writer=true"), "{ran:?}");
}
