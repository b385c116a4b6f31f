//! What each action does, against a recorded exchange.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rstest::rstest;

use super::backend::{Backend, Client, DATE, Ended, Reply, ask, ask_with, content, request};
use crate::support::faultgate::{Action, Gate, Match, Refusal, Rule, ServerDate};

const SIZE: usize = 100_000;
const PATH: &str = "/bytes/100000";

fn gate(action: Action) -> (Backend, Gate) {
    let backend = Backend::start();
    let gate = Gate::start(&backend.url, 1);
    gate.set_rules(vec![Rule::new(Match::default(), action)]);
    (backend, gate)
}

/// The reply to a GET of `SIZE` bytes under this action, which must be counted and logged.
fn spoiled(action: Action) -> (Backend, Gate, Reply) {
    let name = action.name();
    let (backend, gate) = gate(action);
    let reply = ask(&gate.url(), "GET", PATH);
    assert_eq!(gate.hits().into_iter().collect::<Vec<_>>(), [(name, 1)]);
    let log = gate.log();
    assert_eq!((log.len(), log[0].action.as_str()), (1, name));
    (backend, gate, reply)
}

#[rstest]
#[case::truncate(Action::Truncate(70_000), 70_000, Ended::Closed)]
#[case::truncate_at_once(Action::Truncate(0), 0, Ended::Closed)]
#[case::truncate_beyond(Action::Truncate(SIZE as u64), SIZE, Ended::Whole)]
#[case::cut(Action::Cut, SIZE - 1, Ended::Closed)]
#[case::stall(Action::Stall(70_000), 70_000, Ended::Silent)]
#[case::reset(Action::Reset(70_000), 70_000, Ended::Reset)]
fn a_reply_ends_early(#[case] action: Action, #[case] length: usize, #[case] ended: Ended) {
    let (backend, gate, reply) = spoiled(action);
    assert_eq!((reply.status(), reply.header("content-length")), (200, Some("100000")));
    assert_eq!((reply.body.len(), reply.ended), (length, ended));
    assert!(reply.body == content(SIZE)[..length]);
    assert_eq!(backend.lines(), ["GET /bytes/100000"]);
    assert_eq!((gate.log()[0].status, gate.log()[0].bytes_out), (Some(200), length as u64));
}

#[test]
fn a_reply_without_a_body_is_withheld_as_a_whole() {
    let endings = [
        (Action::Truncate(5), Ended::Closed),
        (Action::Cut, Ended::Closed),
        (Action::Reset(0), Ended::Reset),
        (Action::Stall(0), Ended::Silent),
    ];
    for (action, ended) in endings {
        let (backend, gate) = gate(action);
        let reply = ask_with(&gate.url(), "PUT", "/key", "", b"body");
        assert_eq!(reply, Reply { head: String::new(), body: Vec::new(), ended });
        assert_eq!(backend.lines(), ["PUT /key"]);
        assert_eq!((gate.log()[0].status, gate.log()[0].bytes_in), (Some(200), 4));
    }
}

#[rstest]
#[case::longer(3, "100003", SIZE, Ended::Closed)]
#[case::shorter(-3, "99997", SIZE - 3, Ended::Whole)]
fn the_length_is_wrong(#[case] by: i64, #[case] said: &str, #[case] sent: usize, #[case] ended: Ended) {
    let (_backend, _gate, reply) = spoiled(Action::Length(by));
    assert_eq!(reply.header("content-length"), Some(said));
    assert_eq!((reply.body.len(), reply.ended), (sent, ended));
}

#[test]
fn a_byte_or_all_of_them_are_others() {
    let mut flipped = content(SIZE);
    flipped[99_999] ^= 1;
    let (.., reply) = spoiled(Action::Flip(99_999));
    assert!(reply.body == flipped && reply.ended == Ended::Whole);
    let (.., reply) = spoiled(Action::Swap(Bytes::from_static(b"another body")));
    assert_eq!((reply.body.as_slice(), reply.header("content-length")), (&b"another body"[..], Some("12")));
}

#[test]
fn a_byte_of_the_request_is_another() {
    let (backend, gate) = gate(Action::Damage(2));
    assert_eq!(ask_with(&gate.url(), "PUT", "/key", "", b"body").status(), 200);
    assert!(backend.take()[0].ends_with(b"\r\n\r\nboey"));
    assert_eq!(gate.log()[0].bytes_in, 4);
}

#[test]
fn a_request_or_its_reply_is_lost() {
    for (action, ended, arrives, status) in [
        (Action::DropBefore, Ended::Closed, false, None),
        (Action::DropReply, Ended::Closed, true, Some(200)),
        (Action::Swallow, Ended::Silent, true, Some(200)),
        (Action::Blackhole, Ended::Silent, false, None),
    ] {
        let (backend, gate, reply) = spoiled(action);
        assert_eq!(reply, Reply { head: String::new(), body: Vec::new(), ended });
        assert_eq!(backend.lines().len(), usize::from(arrives));
        assert_eq!(gate.log()[0].status, status);
    }
}

#[test]
fn a_duplicate_arrives_twice_and_is_answered_once() {
    let (backend, gate) = gate(Action::Duplicate);
    let reply = ask_with(&gate.url(), "PUT", "/key", "", b"body");
    assert_eq!((reply.status(), reply.header("x-count")), (200, Some("1")), "the first one's reply");
    gate.drain_blocking();
    let requests = backend.take();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0], requests[1]);
    assert!(requests[0].ends_with(b"\r\n\r\nbody"));
}

#[test]
fn what_is_delayed_arrives_also_when_its_client_has_gone() {
    const DELAY: Duration = Duration::from_millis(150);
    let (backend, gate) = gate(Action::Delay(DELAY));
    let start = Instant::now();
    assert_eq!(ask(&gate.url(), "PUT", "/patient").status(), 200);
    assert!(start.elapsed() >= DELAY);
    let mut client = Client::connect(&gate.url(), DELAY);
    client.send(&request("PUT", "/gone", "", b"body"));
    drop(client);
    gate.drain_blocking();
    assert_eq!(backend.lines(), ["PUT /patient", "PUT /gone"]);
}

#[tokio::test]
async fn what_is_held_waits_for_its_release() {
    let (backend, gate) = gate(Action::Hold);
    let mut client = Client::connect(&gate.url(), Duration::from_secs(20));
    client.send(&request("PUT", "/first", "", b""));
    crate::support::eventually("it is held", Duration::from_secs(20), async || gate.held() == 1).await;
    gate.set_rules(Vec::new());
    assert_eq!(ask(&gate.url(), "PUT", "/second").status(), 200);
    assert_eq!(gate.held(), 1, "new rules do not release it");
    gate.release();
    assert_eq!(client.receive(true).status(), 200);
    gate.drain().await;
    assert_eq!(gate.held(), 0);
    assert_eq!(backend.lines(), ["PUT /second", "PUT /first"], "overtaken");
}

#[test]
fn throttled_bytes_are_slow_in_both_directions() {
    const RATE: u64 = 100_000;
    let (_backend, gate) = gate(Action::Throttle(RATE));
    let slow = Duration::from_millis(400);
    let mut client = Client::connect(&gate.url(), Duration::from_secs(20));
    let start = Instant::now();
    client.send(&request("GET", "/bytes/50000", "", b""));
    let reply = client.receive(true);
    assert!(reply.ended == Ended::Whole && reply.body == content(50_000));
    assert!(start.elapsed() > slow, "{:?}", start.elapsed());
    let start = Instant::now();
    client.send(&request("PUT", "/key", "", &content(50_000)));
    assert_eq!(client.receive(true).status(), 200);
    assert!(start.elapsed() > slow, "{:?}", start.elapsed());
    let log = gate.log();
    assert_eq!((log[0].bytes_out, log[1].bytes_in), (50_000, 50_000));
}

#[test]
fn a_stale_read_is_an_earlier_reply() {
    let (backend, gate) = gate(Action::Stale(Duration::from_millis(300)));
    let url = gate.url();
    let count = |path: &str, headers: &str, body: &[u8]| {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let reply = ask_with(&url, method, path, headers, body);
        reply.header("x-count").and_then(|count| count.parse::<usize>().ok()).expect("a count")
    };
    let start = Instant::now();
    assert_eq!(count("/bytes/1", "", b""), 1);
    assert_eq!(count("/bytes/2", "", b""), 2, "another question");
    if count("/bytes/1", "", b"") != 1 {
        assert!(start.elapsed() > Duration::from_millis(300), "the reply was young enough");
    }
    assert_eq!(gate.hits()["stale"], 1, "only what was stale counts");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(count("/bytes/1", "", b""), 3, "too old to be given again");

    // DynamoDB says itself what must not be stale.
    let target = "X-Amz-Target: DynamoDB_20120810.GetItem\r\n";
    let strong = br#"{"TableName":"t","ConsistentRead":true}"#;
    let (first, second) = (count("/", target, strong), count("/", target, strong));
    assert!(first < second, "{first} {second}");
    let weak = br#"{"TableName":"t"}"#;
    let (first, second) = (count("/", target, weak), count("/", target, weak));
    assert_eq!(first, second);
    let write = "X-Amz-Target: DynamoDB_20120810.PutItem\r\n";
    let (first, second) = (count("/", write, weak), count("/", write, weak));
    assert!(first < second, "{first} {second}");
    backend.take();
}

#[test]
fn headers_are_removed_and_the_date_is_another() {
    let conditions = "If-Match: \"a\"\r\nIf-None-Match: *\r\nX-Other: 1\r\n";
    for (action, gone, stays) in [
        (Action::ConditionOn, vec!["If-Match", "If-None-Match"], vec!["X-Other"]),
        (Action::Strip("x-other".to_owned()), vec!["X-Other"], vec!["If-Match", "If-None-Match"]),
    ] {
        let (backend, gate) = gate(action);
        assert_eq!(ask_with(&gate.url(), "PUT", "/key", conditions, b"").status(), 200);
        let request = String::from_utf8(backend.take().remove(0)).expect("text");
        assert!(gone.iter().all(|name| !request.contains(name)), "{request}");
        assert!(stays.iter().all(|name| request.contains(name)), "{request}");
        assert_eq!(gate.log()[0].if_none_match.as_deref(), Some("*"), "the log has what the client said");
    }
    let (.., plain) = spoiled(Action::Delay(Duration::ZERO));
    assert_eq!(plain.header("date"), Some(DATE));
    let (.., late) = spoiled(Action::RewriteDate(ServerDate::Offset(-600)));
    assert_eq!(late.header("date"), Some("Sat, 01 Aug 2026 11:50:00 GMT"));
    let (.., fixed) = spoiled(Action::RewriteDate(ServerDate::Fixed("never".into())));
    assert_eq!(fixed.header("date"), Some("never"));
}

#[test]
fn a_redirect_keeps_path_and_query() {
    let (backend, gate) = gate(Action::Redirect(307, "http://elsewhere:1".to_owned()));
    let reply = ask(&gate.url(), "GET", "/a%2Fb?c=d");
    assert_eq!((reply.status(), reply.header("location")), (307, Some("http://elsewhere:1/a%2Fb?c=d")));
    assert_eq!(backend.lines(), [""; 0]);
}

#[test]
fn refusals_are_in_the_words_of_each_server() {
    let dynamo = "X-Amz-Target: DynamoDB_20120810.TransactWriteItems\r\n";
    let body = br#"{"TransactItems":[{},{},{}]}"#;
    let cases = [
        (dynamo, "/", Refusal::Throttling, 400, "#ThrottlingException\""),
        (
            dynamo,
            "/",
            Refusal::ProvisionedThroughputExceeded,
            400,
            "#ProvisionedThroughputExceededException\"",
        ),
        (dynamo, "/", Refusal::TransactionConflict, 400, "{\"Code\":\"None\"},{\"Code\":\"None\"}]"),
        (dynamo, "/", Refusal::PreconditionFailed412, 400, "#ConditionalCheckFailedException\""),
        (dynamo, "/", Refusal::Internal, 500, "#InternalServerError\""),
        (dynamo, "/", Refusal::Forbidden, 400, "#AccessDeniedException\""),
        (dynamo, "/", Refusal::Expired, 400, "#ExpiredTokenException\""),
        ("", "/bucket/key", Refusal::SlowDown, 503, "<Code>SlowDown</Code>"),
        ("", "/bucket/key", Refusal::Internal, 500, "<Code>InternalError</Code>"),
        ("", "/bucket/key", Refusal::Unavailable, 503, "<Code>ServiceUnavailable</Code>"),
        ("", "/bucket/key", Refusal::Conflict409, 409, "<Code>ConditionalRequestConflict</Code>"),
        ("", "/bucket/key", Refusal::PreconditionFailed412, 412, "<Code>PreconditionFailed</Code>"),
        ("", "/bucket/key", Refusal::Forbidden, 403, "<Code>AccessDenied</Code>"),
        ("", "/bucket/key", Refusal::Expired, 403, "<Code>RequestTimeTooSkewed</Code>"),
        ("", "/apis/x", Refusal::TooManyRequests, 429, "\"reason\":\"TooManyRequests\""),
        ("", "/api/v1/pods", Refusal::Gone, 410, "\"reason\":\"Expired\""),
        ("", "/api/v1/pods", Refusal::Internal, 500, "\"kind\":\"Status\""),
        ("", "/api/v1/pods", Refusal::Conflict409, 409, "\"reason\":\"Conflict\""),
    ];
    let backend = Backend::start();
    let gate = Gate::start(&backend.url, 1);
    for (headers, path, refusal, status, words) in cases {
        gate.set_rules(vec![Rule::new(Match::default(), Action::Status(refusal))]);
        let reply = ask_with(&gate.url(), "POST", path, headers, body);
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!((reply.status(), &reply.ended), (status, &Ended::Whole), "{refusal:?}: {text}");
        assert!(text.contains(words), "{refusal:?}: {text}");
        assert_eq!(reply.header("retry-after"), (status == 429).then_some("1"));
    }
    gate.set_rules(vec![Rule::new(Match::default(), Action::SignatureExpired)]);
    assert_eq!(ask(&gate.url(), "GET", "/bucket/key").status(), 403);
    gate.set_rules(vec![Rule::new(Match::default(), Action::Answer(418, "tea".into()))]);
    assert_eq!(ask(&gate.url(), "GET", "/bucket/key").body, b"tea");
    assert_eq!(backend.lines(), [""; 0]);
}

#[test]
fn changes_and_one_fault_go_together() {
    let backend = Backend::start();
    let gate = Gate::start(&backend.url, 1);
    gate.set_rules(vec![
        Rule::new(Match::default(), Action::RewriteDate(ServerDate::Offset(60))),
        Rule::new(Match::method("PUT"), Action::ConditionOn),
        Rule::new(Match::default(), Action::Truncate(10)),
        Rule::new(Match::default(), Action::DropBefore),
    ]);
    let reply = ask(&gate.url(), "GET", PATH);
    assert_eq!((reply.header("date"), reply.body.len()), (Some("Sat, 01 Aug 2026 12:01:00 GMT"), 10));
    assert_eq!(gate.log()[0].action, "rewrite_date+truncate");
}

#[test]
fn a_closed_gate_lets_nobody_in() {
    let backend = Backend::start();
    let gate = Gate::start(&backend.url, 1);
    let mut before = Client::connect(&gate.url(), Duration::from_secs(20));
    before.send(&request("GET", "/bytes/1", "", b""));
    assert_eq!(before.receive(true).status(), 200);
    gate.close();
    assert_ne!(before.receive(true).ended, Ended::Silent, "its connection is ended");
    assert_eq!(backend.lines(), ["GET /bytes/1"]);
    let mut during = Client::connect(&gate.url(), Duration::from_secs(20));
    during.send(&request("GET", "/bytes/1", "", b""));
    assert_eq!(during.receive(true).head, "");
    assert_eq!(backend.lines(), [""; 0]);
    gate.open();
    assert_eq!(ask(&gate.url(), "GET", "/bytes/1").status(), 200);
}

#[test]
fn a_gate_whose_server_is_away_closes_the_connection() {
    let gate = Gate::start("http://127.0.0.1:1", 1);
    assert_eq!(ask(&gate.url(), "GET", "/").ended, Ended::Closed);
    assert_eq!(gate.log()[0].status, None);
}
