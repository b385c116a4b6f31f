//! Through the gate to real servers: signatures verify, the log tells what was asked, changed requests are signed anew.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use rstest::rstest;
use sacker::ledger::{self, InitOptions};
use sacker::model::{LedgerUri, PackageName};

use super::backend::content;
use crate::support::faultgate::{Action, Entry, Gate, Match, Rule, operations};
use crate::support::testbed::{self, S3Server};
use crate::support::unique;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Minio,
    Versitygw,
}

/// A gate in front of a server, a client of it, and a bucket; nothing where the server is missing.
async fn gated(kind: Kind) -> Option<(Gate, Client, String)> {
    let server: S3Server = match kind {
        Kind::Minio => testbed::minio()?,
        Kind::Versitygw => testbed::versitygw()?,
    };
    let gate = Gate::start(&server.endpoint, 1);
    let client = server.behind(&gate).client().await;
    let bucket = unique("gate");
    client.create_bucket().bucket(&bucket).send().await.expect("a bucket");
    gate.take_log();
    Some((gate, client, bucket))
}

#[rstest]
#[tokio::test]
async fn signed_requests_pass(#[values(Kind::Minio, Kind::Versitygw)] kind: Kind) {
    let Some((gate, client, bucket)) = gated(kind).await else { return };
    let key = "a b/€+c";
    let bytes = content(300_000);
    let put = client.put_object().bucket(&bucket).key(key).if_none_match("*");
    put.body(ByteStream::from(bytes.clone())).send().await.expect("put");
    let got = client.get_object().bucket(&bucket).key(key).send().await.expect("get");
    assert!(got.body.collect().await.expect("a body").to_vec() == bytes);
    let listed = client.list_objects_v2().bucket(&bucket).prefix("a b/").send().await.expect("list");
    assert_eq!(listed.key_count(), Some(1));

    let parts = [content(5 << 20), content(1000)];
    let upload = client.create_multipart_upload().bucket(&bucket).key("large").send().await.expect("begin");
    let id = upload.upload_id().expect("an id");
    let mut done = CompletedMultipartUpload::builder();
    for (number, part) in (1..).zip(&parts) {
        let upload = client.upload_part().bucket(&bucket).key("large").upload_id(id).part_number(number);
        let sent = upload.body(ByteStream::from(part.clone())).send().await.expect("a part");
        done = done.parts(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build());
    }
    let complete = client.complete_multipart_upload().bucket(&bucket).key("large").upload_id(id);
    complete.multipart_upload(done.build()).send().await.expect("complete");
    let got = client.get_object().bucket(&bucket).key("large").send().await.expect("get");
    assert!(got.body.collect().await.expect("a body").to_vec() == parts.concat());

    let log = gate.take_log();
    assert_eq!(
        operations(&log),
        "PutObject GetObject ListObjectsV2 CreateMultipartUpload UploadPart UploadPart CompleteMultipartUpload \
         GetObject"
    );
    let Entry { if_none_match, access_key, user_agent, status, bytes_in, .. } = &log[0];
    assert_eq!((if_none_match.as_deref(), access_key.as_str()), (Some("*"), "testbed"));
    assert!(user_agent.contains("aws-sdk-rust/"), "{user_agent}");
    assert_eq!((*status, *bytes_in >= 300_000, log[1].bytes_out), (Some(200), true, 300_000));
}

#[rstest]
#[tokio::test]
async fn a_server_that_does_not_heed_conditions(#[values(Kind::Minio, Kind::Versitygw)] kind: Kind) {
    let Some((gate, client, bucket)) = gated(kind).await else { return };
    let create = || client.put_object().bucket(&bucket).key("key").if_none_match("*").send();
    create().await.expect("created");
    let refused = create().await.expect_err("it is there").into_service_error();
    assert_eq!(refused.meta().code(), Some("PreconditionFailed"));
    gate.set_rules(vec![Rule::new(Match::method("PUT"), Action::ConditionOn)]);
    create().await.expect("overwritten");
    let replace = client.put_object().bucket(&bucket).key("key").if_match("\"00\"").send();
    replace.await.expect("overwritten");
    assert_eq!(gate.hits()["condition_on"], 2);
}

#[rstest]
#[tokio::test]
async fn a_server_that_takes_absence_for_a_match(#[values(Kind::Minio, Kind::Versitygw)] kind: Kind) {
    let Some((gate, client, bucket)) = gated(kind).await else { return };
    let replace = |key: &str| client.put_object().bucket(&bucket).key(key).if_match("\"00\"").send();
    replace("key").await.expect_err("nothing is there");
    gate.set_rules(vec![Rule::new(Match::default(), Action::AcceptAbsentIfMatch)]);
    replace("key").await.expect("accepted");
    let refused = replace("key").await.expect_err("now it is there").into_service_error();
    assert_eq!(refused.meta().code(), Some("PreconditionFailed"));
}

#[tokio::test]
async fn a_changed_request_without_a_known_secret_is_refused_and_says_why() {
    let Some(server) = testbed::minio() else { return };
    let gate = Gate::start(&server.endpoint, 1);
    let gated = S3Server { endpoint: gate.url(), ..server };
    gate.set_rules(vec![Rule::new(Match::default(), Action::Strip("host".into()))]);
    gated.client().await.list_buckets().send().await.expect_err("the signature is another's");
    let action = &gate.log()[0].action;
    assert!(action.contains("no secret known for 'testbed'"), "{action}");
}

#[tokio::test]
async fn dynamodb_passes_and_the_log_knows_the_keys() {
    let Some(server) = testbed::dynamodb() else { return };
    let gate = Gate::start(&server.endpoint, 1);
    let table = unique("t");
    let uri: LedgerUri = server.behind(&gate).uri(&table).parse().expect("a URI");
    let ledger = ledger::open(&uri, &server.connect()).await.expect("open");
    ledger.init(&InitOptions::default()).await.expect("init");
    gate.take_log();
    ledger.latest(&PackageName::existing("frontend")).await.expect_err("no version yet");
    let log = gate.take_log();
    assert_eq!(operations(&log), "Query");
    assert!(log[0].key.starts_with(&table) && log[0].key.contains("frontend"), "{}", log[0].key);
    assert_eq!((log[0].access_key.as_str(), log[0].status), ("testbed", Some(200)));
    assert_eq!((gate.about("frontend"), gate.about("backend")), (0, 0), "the log was taken");
    ledger.latest(&PackageName::existing("frontend")).await.expect_err("no version yet");
    assert_eq!((gate.about("frontend"), gate.about("backend")), (1, 0));
    tokio::time::timeout(Duration::from_secs(20), gate.drain()).await.expect("nothing is pending");
}
