//! Uploads in parts whose last request has no clear end: what is there afterwards decides, and only if it is young.

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use rstest::rstest;
use sacker::store::{PutOutcome, WHOLE};

use super::{Kind, MIB, collect, content, open, put};
use crate::stores::Target;
use crate::support::eventually;
use crate::support::faultgate::{Action, Gate, Match, Rule, ServerDate};

const SIZE: usize = 65 * MIB;

/// The last request of an upload.
fn complete(action: Action) -> Rule {
    Rule::new(Match::target("CompleteMultipartUpload"), action)
}

/// A gate before the server of `target`, and the URI of its store through it.
pub(super) fn through_a_gate(target: &Target, rules: Vec<Rule>) -> (Gate, String) {
    let server = target.server.as_ref().expect("a server");
    let gate = Gate::start(&server.endpoint, 1);
    gate.set_rules(rules);
    let uri = server.uri(&format!("{}/some/prefix", target.place));
    let uri = uri.replace(&server.endpoint, &gate.url());
    (gate, uri)
}

#[rstest]
#[tokio::test]
async fn a_lost_reply_to_the_last_request_is_no_failure(#[values(Kind::Minio, Kind::Versitygw)] kind: Kind) {
    let Some(target) = Target::ready(kind).await else { return };
    let (path, sha256) = target.file(SIZE);
    let (gate, uri) = through_a_gate(&target, vec![complete(Action::DropReply).times(1)]);
    let store = open(&uri, &target.server.as_ref().expect("a server").connect()).await;
    let (outcome, _) = put(&*store, &path, sha256, SIZE as u64).await.expect("it is there");
    assert_eq!(outcome, PutOutcome::Uploaded);
    assert_eq!(gate.hits().get("drop_reply"), Some(&1));
    let bytes = collect(target.store.open(&sha256, WHOLE).await.expect("opened")).await.expect("read");
    assert!(bytes == content(SIZE));
}

/// Collection may be about to delete the old blob: whoever refers to it because "it is there" would refer to nothing.
///
/// Only on MinIO: versitygw itself answers that such an upload is complete.
#[tokio::test]
async fn an_old_blob_is_not_taken_for_an_upload_that_was_given_up() {
    let Some(target) = Target::ready(Kind::Minio).await else { return };
    let (path, sha256) = target.file(SIZE);
    put(&*target.store, &path, sha256, SIZE as u64).await.expect("put");
    let server = target.server.as_ref().expect("a server");
    // Older than half of the grace, and not so much that signatures, which follow the server's time, are refused.
    let later = Rule::new(Match::method("HEAD"), Action::RewriteDate(ServerDate::Offset(8 * 60)));
    let (gate, uri) = through_a_gate(&target, vec![complete(Action::Hold).times(1), later]);
    let store = open(&(uri + "&grace=10m"), &server.connect()).await;
    let give_up = async {
        eventually("the last request", Duration::from_mins(1), async || gate.held() == 1).await;
        let client = server.client().await;
        let key = format!("some/prefix/{sha256}");
        // MinIO lists only those of one key that it is asked for.
        let listed = client.list_multipart_uploads().bucket(&target.place).prefix(&key).send().await;
        let listed = listed.expect("listed");
        let id =
            listed.uploads().first().and_then(|upload| upload.upload_id()).expect("the upload is listed");
        let abort = client.abort_multipart_upload().bucket(&target.place).key(&key).upload_id(id);
        abort.send().await.expect("given up");
        gate.release();
    };
    let upload = pin!(put(&*store, &path, sha256, SIZE as u64));
    let outcome = match select(upload, pin!(give_up)).await {
        Either::Left((outcome, _)) => panic!("it ended before the last request: {outcome:?}"),
        Either::Right(((), upload)) => upload.await,
    };
    let error = outcome.expect_err("the blob that is there is too old");
    assert!(error.to_string().contains("store the blob"), "{error}");
    target.store.head(&sha256).await.expect("looked").expect("the old one is untouched");
}
