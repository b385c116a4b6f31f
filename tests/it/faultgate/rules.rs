//! Which requests a rule means, how draws depend on the seed, and how rules are written in YAML.

use std::collections::BTreeMap;
use std::time::Duration;

use super::backend::{Backend, Client, ask, ask_with, request};
use crate::support::faultgate::{Action, Gate, Match, Refusal, Rule, ServerDate, parse_rules};
use crate::support::tier;

fn mark() -> Action {
    Action::Answer(418, String::new())
}

#[test]
fn all_that_a_rule_names_must_hold() {
    let put = || Match::method("PUT");
    let signed = "Authorization: AWS4-HMAC-SHA256 Credential=AKIA1/20260801/us-east-1/s3/aws4_request, \
                  SignedHeaders=host, Signature=00\r\nUser-Agent: sacker/1.0 api/s3\r\n";
    let target = "X-Amz-Target: DynamoDB_20120810.PutItem\r\n";
    let identity = |identity: &str| Match { identity: Some(identity.into()), ..Match::default() };
    let query = |query: &str| Match { query: Some(query.into()), ..Match::default() };
    let header = |name: &str, value: &str| {
        let header = Some((name.into(), value.into()));
        Match { header, ..Match::default() }
    };
    let cases = [
        (put(), "PUT", "/a/b", "", true),
        (put(), "GET", "/a/b", "", false),
        (Match::path("/a/*"), "GET", "/a/b", "", true),
        (Match::path("/a/*"), "GET", "/a/b/c", "", false),
        (Match::path("/a/**"), "GET", "/a/b/c", "", true),
        (query("**prefix=x**"), "GET", "/a?list-type=2&prefix=x%2F", "", true),
        (query("**prefix=x**"), "GET", "/a?list-type=2&prefix=y", "", false),
        (Match::target("PutItem"), "POST", "/", target, true),
        (Match::target("GetItem"), "POST", "/", target, false),
        (Match::target("PutObject"), "PUT", "/bucket/key", "", true),
        (Match::target("ListObjectsV2"), "GET", "/bucket?list-type=2", "", true),
        (Match::target("watch"), "GET", "/api/v1/pods?watch=true", "", true),
        (header("if-none-match", "**"), "PUT", "/a", "If-None-Match: *\r\n", true),
        (header("if-none-match", "**"), "PUT", "/a", "", false),
        (header("if-match", "x*"), "PUT", "/a", "If-Match: xyz\r\n", true),
        (header("if-match", "x*"), "PUT", "/a", "If-Match: yz\r\n", false),
        (identity("AKIA1"), "GET", "/", signed, true),
        (identity("AKIA"), "GET", "/", signed, false),
        (identity("sacker/"), "GET", "/", signed, true),
        (Match { path: Some("/b".into()), ..put() }, "PUT", "/a", "", false),
        (Match::default(), "GET", "/", "", true),
    ];
    let backend = Backend::start();
    let gate = Gate::start(&backend.url, 1);
    for (index, (matches, method, path, headers, is_meant)) in cases.into_iter().enumerate() {
        gate.set_rules(vec![Rule::new(matches, mark())]);
        let body = if headers == target { &b"{}"[..] } else { b"" };
        let reply = ask_with(&gate.url(), method, path, headers, body);
        assert_eq!(reply.status() == 418, is_meant, "case {index}: {method} {path}");
    }
}

#[test]
fn rules_count_and_come_to_an_end() {
    let backend = Backend::start();
    let gate = Gate::start(&backend.url, 1);
    let statuses = |count: usize| -> Vec<u16> {
        (0..count).map(|_| ask(&gate.url(), "GET", "/bytes/1").status()).collect()
    };
    gate.set_rules(vec![Rule::new(Match { nth: Some(3), ..Match::default() }, mark())]);
    assert_eq!(statuses(5), [200, 200, 418, 200, 200]);
    gate.set_rules(vec![Rule::new(Match::default(), mark()).times(2)]);
    gate.add_rule(Rule::new(Match::default(), Action::Answer(419, String::new())).times(1));
    assert_eq!(statuses(5), [418, 418, 419, 200, 200], "a script: one rule after the other");
    let window = Some((Duration::from_millis(200), Duration::from_secs(1000)));
    gate.set_rules(vec![Rule::new(Match { window, ..Match::default() }, mark())]);
    let first = statuses(1)[0];
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(statuses(1), [418]);
    assert!(first == 200 || first == 418, "{first}");
    gate.set_rules(Vec::new());
    assert_eq!(statuses(2), [200, 200], "healed");
    assert_eq!(
        gate.hits()["answer"],
        gate.log().iter().filter(|entry| entry.action == "answer").count() as u64
    );
}

/// What happened to each path, in the order of its own requests.
fn fate(gate: &Gate, order: &[usize], writers: usize) -> BTreeMap<String, Vec<u16>> {
    gate.take_log();
    std::thread::scope(|scope| {
        for writer in 0..writers {
            scope.spawn(move || {
                let mut client = Client::connect(&gate.url(), Duration::from_secs(20));
                for path in order.iter().skip(writer).step_by(writers) {
                    // An id that is another one in each run does not matter.
                    let id = uuid::Uuid::new_v4();
                    client.send(&request("PUT", &format!("/key/{path}?id={id}"), "", b""));
                    client.receive(true);
                }
            });
        }
    });
    let mut fate: BTreeMap<String, Vec<u16>> = BTreeMap::new();
    for entry in gate.take_log() {
        fate.entry(entry.path).or_default().push(entry.status.expect("answered"));
    }
    fate
}

#[test]
fn a_seed_gives_the_same_faults_in_any_order() {
    let count = tier::figure(400, 4000);
    let seed = tier::seed("faults in any order");
    let backend = Backend::start();
    let rules = || {
        vec![
            Rule::new(Match::method("PUT").share(0.2), mark()),
            Rule::new(Match::default().share(0.3), Action::Answer(503, String::new())),
        ]
    };
    let run = |seed: u64, order: &[usize], writers: usize| {
        let gate = Gate::start(&backend.url, seed);
        gate.set_rules(rules());
        fate(&gate, order, writers)
    };
    // Each path three times.
    let mut order: Vec<usize> = (0..count * 3).map(|index| index % count).collect();
    let first = run(seed, &order, 1);
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    assert_eq!(run(seed, &order, 8), first, "shuffled, and by eight clients at once");
    assert_ne!(run(seed ^ 1, &order, 8), first, "another seed");
    let all: Vec<u16> = first.into_values().flatten().collect();
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let share = |status: u16| all.iter().filter(|found| **found == status).count() as f64 / all.len() as f64;
    assert!((share(418) - 0.2).abs() < 0.06, "{}", share(418));
    assert!((share(503) - 0.24).abs() < 0.06, "30 % of the other 80 %: {}", share(503));
}

#[test]
fn rules_are_written_in_yaml() {
    let text = "
- match: { method: PUT, path: '/bucket/**', probability: 0.5, times: 3, window: [1s, 1m 30s] }
  action: { delay: 200ms }
- match: { target: PutItem, header: [if-match, '*'], identity: AKIA1, nth: 2 }
  action: { status: provisioned_throughput_exceeded }
- action: { rewrite_date: { offset: -600 } }
- action: { redirect: [307, 'http://other:1'] }
- action: { swap: other }
- action: drop_reply
";
    let rules = parse_rules(text).expect("rules");
    let first = &rules[0].matches;
    assert_eq!((first.method.as_deref(), first.times), (Some("PUT"), Some(3)));
    assert_eq!(first.window, Some((Duration::from_secs(1), Duration::from_secs(90))));
    assert!((first.probability - 0.5).abs() < f64::EPSILON);
    assert!((rules[1].matches.probability - 1.0).abs() < f64::EPSILON, "every one where nothing is said");
    assert!(matches!(&rules[0].action, Action::Delay(delay) if *delay == Duration::from_millis(200)));
    assert!(matches!(&rules[1].action, Action::Status(Refusal::ProvisionedThroughputExceeded)));
    assert!(matches!(&rules[2].action, Action::RewriteDate(ServerDate::Offset(-600))));
    assert!(matches!(&rules[3].action, Action::Redirect(307, to) if to == "http://other:1"));
    assert!(matches!(&rules[4].action, Action::Swap(bytes) if **bytes == *b"other"));
    assert!(matches!(&rules[5].action, Action::DropReply));
    parse_rules("- action: explode").expect_err("no such action");
    parse_rules("- { match: { pathe: x }, action: hold }").expect_err("no such word");
}
