//! What lies between the operator and its API server goes wrong: watches fall silent, versions are too old, requests are
//! refused, lists are old, objects are replaced unseen. Every wish is fulfilled all the same, once, and nothing goes back.
//!
//! Tests and kubectl reach the API server directly; only the operator is behind the gate.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sacker::model::{EventKind, Version};
use serde_json::{Value, json};

use super::bench::{Bench, Conditions, say};
use super::process::Operator;
use crate::support::cluster::{Cluster, PATIENCE, TAG};
use crate::support::faultgate::{Action, Entry, Gate, Match, Refusal, Rule};
use crate::support::{eventually, tier};

/// How long everything may take to be as wished after the fault.
const LIMIT: Duration = Duration::from_secs(90);

/// How long nothing may be written once everything is as wished.
const QUIET: Duration = Duration::from_secs(10);

/// How late a stale watch is: it has caught up while nothing was written.
const LATE: Duration = QUIET.checked_div(2).expect("not by zero");

/// SackerTags with a tag each, all of one package, and the gate that the operator goes through.
struct Site<'a> {
    bench: Bench<'a>,
    gate: Gate,
    names: Vec<String>,
    start: Instant,
}

impl<'a> Site<'a> {
    /// So many SackerTags that wish for version 1. No operator runs yet.
    async fn new(cluster: &'a Cluster, test: &str, count: usize) -> Self {
        cluster.install_crds();
        let start = Instant::now();
        let gate = cluster.gate(tier::seed(test));
        let bench = Bench::on(cluster, None).await;
        bench.versions(2).await;
        let names: Vec<String> = (0..count).map(|number| format!("tag-{number}")).collect();
        let mut yaml = String::new();
        for name in &names {
            let _ = write!(yaml, "{}", bench.tag_yaml(&bench.namespace, name, name, "version: 1"));
        }
        cluster.kubectl_with(&["create", "-f", "-"], &yaml).success();
        Self { bench, gate, names, start }
    }

    fn operator(&self, watch_timeout: &str) -> Operator {
        let arguments = ["--cluster-name", "faults", "--watch-timeout", watch_timeout];
        let operator = Operator::start_through(self.bench.cluster, &self.gate, &arguments);
        operator.until_ready();
        operator
    }

    async fn wish(&self, version: i64) {
        for name in &self.names {
            let body = json!({ "spec": { "version": version } });
            self.bench.api.patch(TAG, &self.bench.namespace, name, body).await;
        }
    }

    async fn until(&self, version: i64) -> Duration {
        let Bench { namespace, .. } = &self.bench;
        self.bench.until_all_applied(namespace, self.names.len(), version, LIMIT).await
    }

    /// Whether each tag was moved like this and nothing else ever happened to it.
    async fn assert_moves(&self, versions: &[i64]) {
        let wanted: Vec<_> =
            versions.iter().map(|version| (EventKind::Move, Version::new(*version))).collect();
        for name in &self.names {
            let moves: Vec<_> =
                self.bench.history(name).await.iter().map(|event| (event.kind, event.to)).collect();
            assert_eq!(moves, wanted, "{name}");
        }
    }

    /// How many tags belong to a SackerTag that is not there, or to nobody.
    async fn orphans(&self) -> usize {
        let Bench { api, namespace, ledger, package, .. } = &self.bench;
        let objects = api.list(TAG, namespace).await;
        let owner = |object: &Value| {
            format!("k8s:faults/{namespace}/{}", object["metadata"]["name"].as_str().unwrap_or_default())
        };
        let owners: Vec<String> = objects.iter().map(owner).collect();
        let tags = ledger.tags(package).await.expect("tags");
        assert_eq!(tags.len(), self.names.len());
        tags.iter().filter(|tag| !owners.iter().any(|owner| tag.owner() == Some(owner))).count()
    }

    /// Waits until nothing was written for a while; how many writes came before.
    async fn until_quiet(&self) -> usize {
        let (mut seen, mut since, end) = (0, Instant::now(), Instant::now() + LIMIT);
        self.gate.take_log();
        while since.elapsed() < QUIET {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let writes = writes(&self.gate.log());
            if writes.len() != seen {
                (seen, since) = (writes.len(), Instant::now());
            }
            assert!(Instant::now() < end, "there is no end of writes: {writes:#?}");
        }
        seen
    }

    /// Says what was seen and ends the operator in order, which is the same process as before the fault.
    async fn end(&self, operator: &Operator, row: &str, figures: &str) {
        assert!(matches!(operator.get("/healthz"), Some((200, _))), "it has ended: {}", operator.log());
        let orphans = self.orphans().await;
        assert_eq!(orphans, 0);
        let (objects, seconds) = (self.names.len(), self.start.elapsed().as_secs());
        say(&format!("{row}, {objects} objects: {figures}"));
        tier::summary(&format!(
            "{row} objects={objects} {figures} orphans={orphans} doubled=0 violations=0 seconds={seconds}"
        ));
        operator.terminate();
        assert_eq!(operator.wait(PATIENCE), Some(0), "{}", operator.log());
    }
}

/// The requests that may have changed something. The lease is renewed all the time.
fn writes(log: &[Entry]) -> Vec<String> {
    let writes = log.iter().filter(|entry| entry.method != "GET" && !entry.path.contains("/leases"));
    writes
        .map(|entry| format!("{:?} {} {} {:?}", entry.started, entry.method, entry.path, entry.status))
        .collect()
}

/// How often SackerTags were listed.
fn lists(log: &[Entry]) -> usize {
    log.iter().filter(|entry| entry.operation == "get" && entry.path.ends_with("/sackertags")).count()
}

fn watches() -> Match {
    Match::target("watch")
}

/// The lists of our kinds, and not the reads of single objects.
fn our_lists() -> Match {
    Match { target: Some("get".into()), ..Match::path("/apis/sacker.dev/v1alpha1/*") }
}

#[tokio::test]
async fn watches_that_fall_silent_are_found_out() {
    let Some(cluster) = Cluster::start() else { return };
    let site = Site::new(&cluster, "silent watches", tier::figure(20, 500)).await;
    let operator = site.operator(tier::figure("10s", "60s"));
    site.until(1).await;
    site.gate.silence();
    let silent = Instant::now();
    site.wish(2).await;
    site.until(2).await;
    let converged = silent.elapsed();
    assert!(converged <= LIMIT, "{converged:?}");
    assert!(converged >= Duration::from_secs(5), "the watches were not silent: {converged:?}");
    site.assert_moves(&[1, 2]).await;
    site.end(&operator, "R8", &format!("fault=silence converged={converged:?}")).await;
}

#[tokio::test]
async fn a_watch_and_a_list_that_nobody_answers_are_asked_again() {
    let Some(cluster) = Cluster::start() else { return };
    let site = Site::new(&cluster, "unanswered requests", tier::figure(20, 500)).await;
    let tags = |operation: &str| Match { path: Some("/**/sackertags".into()), ..Match::target(operation) };
    // The first list of all, too: it is asked for again on another connection.
    site.gate.set_rules(vec![Rule::new(tags("get"), Action::Blackhole).times(2)]);
    let started = Instant::now();
    let arguments = ["--cluster-name", "faults", "--watch-timeout", "5s"];
    let operator = Operator::start_through(&cluster, &site.gate, &arguments);
    site.until(1).await;
    let listed = started.elapsed();
    assert_eq!(site.gate.hits()["blackhole"], 2);

    site.gate.set_rules(vec![Rule::new(tags("watch"), Action::Blackhole).times(1)]);
    site.gate.silence();
    let silent = Instant::now();
    site.wish(2).await;
    site.until(2).await;
    let converged = silent.elapsed();
    assert!(converged <= LIMIT && listed <= LIMIT, "{converged:?} {listed:?}");
    assert_eq!(site.gate.hits()["blackhole"], 3);
    site.assert_moves(&[1, 2]).await;
    site.end(&operator, "R8", &format!("fault=unanswered listed={listed:?} converged={converged:?}")).await;
}

#[tokio::test]
async fn a_version_that_is_too_old_leads_to_a_new_list() {
    let Some(cluster) = Cluster::start() else { return };
    let site = Site::new(&cluster, "410", tier::figure(20, 500)).await;
    // Each watch ends soon, so that the next one is asked for.
    let operator = site.operator("1s");
    site.until(1).await;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410,
        "message": "too old resource version: 1 (2)", "reason": "Expired",
    });
    // As the API server says it, in an event, and as others may, in the reply.
    let refusals = [Action::Status(Refusal::Gone), Action::Answer(410, status.to_string())];
    let rounds = tier::figure(2, 6);
    let (mut slowest, mut relists, mut moves) = (Duration::ZERO, usize::MAX, vec![1]);
    for round in 0..rounds {
        // From a watch that is open, and not from a list that is due anyway.
        site.gate.set_rules(Vec::new());
        site.gate.take_log();
        eventually("SackerTags are watched", PATIENCE, async || {
            let is_watch = |entry: &Entry| entry.operation == "watch" && entry.path.ends_with("/sackertags");
            site.gate.log().iter().any(|entry| is_watch(entry) && entry.status == Some(200))
        })
        .await;
        let refusal = &refusals[round % refusals.len()];
        site.gate.set_rules(vec![Rule::new(watches(), refusal.clone())]);
        // Not one watch is left that could tell.
        site.gate.silence();
        site.gate.take_log();
        let gone = Instant::now();
        let target = if round % 2 == 0 { 2 } else { 1 };
        moves.push(target);
        site.wish(target).await;
        site.until(target).await;
        slowest = slowest.max(gone.elapsed());
        relists = relists.min(lists(&site.gate.take_log()));
    }
    site.gate.set_rules(Vec::new());
    // Watches serve again.
    moves.push(2);
    site.wish(2).await;
    site.until(2).await;
    assert!(slowest <= LIMIT, "{slowest:?}");
    assert!(relists > 0, "it was not listed anew");
    site.assert_moves(&moves).await;
    site.end(&operator, "R8", &format!("fault=410 rounds={rounds} converged={slowest:?} relists={relists}"))
        .await;
}

#[tokio::test]
async fn requests_that_are_refused_are_made_again_and_nothing_twice() {
    let Some(cluster) = Cluster::start() else { return };
    let site = Site::new(&cluster, "429 and 500", tier::figure(500, 5_000)).await;
    let share = |share, refusal| Rule::new(Match::default().share(share), Action::Status(refusal));
    // Of what the first leaves, so that each is a twentieth of all.
    let rules = vec![share(0.05, Refusal::TooManyRequests), share(0.05 / 0.95, Refusal::Internal)];
    site.gate.set_rules(rules);
    let operator = site.operator("5s");
    let count = site.names.len();
    let applied = async |version| site.bench.count_applied(&site.bench.namespace, version).await;
    eventually("most are at 1", LIMIT, async || applied(1).await >= count * 9 / 10).await;
    site.wish(2).await;
    eventually("most are at 2", LIMIT, async || applied(2).await >= count * 9 / 10).await;
    let refused = site.gate.hits()["status"];
    let asked = site.gate.log().len();
    site.gate.set_rules(Vec::new());
    let converged = site.until(2).await;
    assert!(converged <= LIMIT, "{converged:?}");
    assert!(usize::try_from(refused).expect("small") * 20 >= asked, "{refused} of {asked} were refused");
    for name in &site.names {
        // Who was not served under the old wish yet begins with the new one.
        let moves: Vec<_> =
            site.bench.history(name).await.iter().map(|event| (event.kind, event.to)).collect();
        let to = |version| (EventKind::Move, Version::new(version));
        assert!(moves == [to(1), to(2)] || moves == [to(2)], "{name}: {moves:?}");
    }
    let figures = format!("fault=429,500 requests={asked} refused={refused} converged={converged:?}");
    site.end(&operator, "R8", &figures).await;
}

/// What a run without faults leads to, in an object and its tag.
async fn outcome(bench: &Bench<'_>, name: &str) -> Value {
    let object = bench.api.get(TAG, &bench.namespace, name).await.expect("it is there");
    let condition = |kind: &str| {
        let conditions = Conditions::of(&object);
        json!([conditions.has(kind), conditions.is(kind, "True"), conditions.reason(kind)])
    };
    let conditions = ["Ready", "Reconciling", "Stalled", "Drifted"].map(condition);
    json!({
        "finalizers": object["metadata"]["finalizers"],
        "spec": object["spec"]["version"],
        "status": object["status"]["version"],
        "conditions": conditions,
        "ledger": bench.points_at(name).await,
        "is owned": bench.owner_of(name).await == Some(format!("k8s:faults/{}/{name}", bench.namespace)),
    })
}

#[tokio::test]
async fn an_operator_that_starts_from_an_old_state_moves_nothing_back() {
    let Some(cluster) = Cluster::start() else { return };
    let site = Site::new(&cluster, "a stale start", tier::figure(20, 200)).await;
    let operator = site.operator("60s");
    site.until(1).await;
    operator.terminate();
    assert_eq!(operator.wait(PATIENCE), Some(0), "{}", operator.log());

    // What this one lists at its start is what the next one will be told.
    site.gate.set_rules(vec![Rule::new(our_lists(), Action::Stale(Duration::from_hours(1)))]);
    let operator = site.operator("60s");
    site.wish(2).await;
    site.until(2).await;
    site.until_quiet().await;
    let mut wanted = Vec::new();
    for name in &site.names {
        wanted.push(outcome(&site.bench, name).await);
    }
    operator.kill();

    // And what happened since comes late.
    site.gate.add_rule(Rule::new(watches(), Action::Stale(LATE)));
    let started = Instant::now();
    let operator = site.operator("60s");
    assert!(site.gate.hits()["stale"] > 0, "the lists were not stale");
    let writes = site.until_quiet().await;
    let quiet = started.elapsed();
    for (name, wanted) in site.names.iter().zip(&wanted) {
        assert_eq!(&outcome(&site.bench, name).await, wanted, "{name}");
    }
    site.assert_moves(&[1, 2]).await;
    site.end(&operator, "R13", &format!("fault=stale late={LATE:?} quiet={quiet:?} writes={writes}")).await;
}

#[tokio::test]
async fn an_object_that_was_replaced_unseen_is_as_if_it_had_been_seen() {
    let Some(cluster) = Cluster::start() else { return };
    // Half of them with the operator watching, the other half with none.
    let count = tier::figure(10, 100);
    let site = Site::new(&cluster, "an unseen replacement", count * 2).await;
    let Bench { api, namespace, .. } = &site.bench;
    let (seen, unseen) = site.names.split_at(count);
    let operator = site.operator("60s");
    site.until(1).await;
    let mut uids = Vec::new();
    for name in seen {
        uids.push(api.get(TAG, namespace, name).await.expect("it is there")["metadata"]["uid"].clone());
        api.delete(TAG, namespace, name).await;
        api.until_gone((TAG, namespace, name), PATIENCE).await;
        site.bench.apply_tag(name, "version: 2");
        site.bench.until_applied(name, 2).await;
    }
    operator.terminate();
    assert_eq!(operator.wait(PATIENCE), Some(0), "{}", operator.log());
    for name in unseen {
        uids.push(api.get(TAG, namespace, name).await.expect("it is there")["metadata"]["uid"].clone());
        api.delete(TAG, namespace, name).await;
        api.patch(TAG, namespace, name, json!({ "metadata": { "finalizers": null } })).await;
        api.until_gone((TAG, namespace, name), PATIENCE).await;
        site.bench.apply_tag(name, "version: 2");
    }
    let back = Instant::now();
    let operator = site.operator("60s");
    site.until(2).await;
    let converged = back.elapsed();
    let writes = site.until_quiet().await;
    for (name, uid) in site.names.iter().zip(&uids) {
        let object = api.get(TAG, namespace, name).await.expect("it is there");
        assert_ne!(&object["metadata"]["uid"], uid, "{name} is another");
        assert_eq!(outcome(&site.bench, name).await, outcome(&site.bench, &seen[0]).await, "{name}");
    }
    for (name, wanted) in [(&seen[0], "move disown move"), (&unseen[0], "move move")] {
        let history = site.bench.history(name).await;
        let kinds: Vec<_> = history.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds.join(" "), wanted, "{name}");
    }
    let figures = format!("fault=unobserved converged={converged:?} writes after={writes}");
    site.end(&operator, "R13", &figures).await;
}

#[tokio::test]
async fn the_deletion_of_an_old_object_takes_nothing_from_its_successor() {
    let Some(cluster) = Cluster::start() else { return };
    let site = Site::new(&cluster, "a stale deletion", tier::figure(5, 50)).await;
    let Bench { api, namespace, .. } = &site.bench;
    let operator = site.operator("60s");
    site.until(1).await;
    operator.terminate();
    assert_eq!(operator.wait(PATIENCE), Some(0), "{}", operator.log());
    // Somebody else keeps them, so that the next operator still sees how they are deleted.
    let keeper = "tests.sacker.dev/keeper";
    for name in &site.names {
        let object = api.get(TAG, namespace, name).await.expect("it is there");
        let mut finalizers = object["metadata"]["finalizers"].clone();
        finalizers.as_array_mut().expect("ours").push(keeper.into());
        let body =
            json!({ "metadata": { "finalizers": finalizers }, "spec": { "deletionPolicy": "Delete" } });
        api.patch(TAG, namespace, name, body).await;
        api.delete(TAG, namespace, name).await;
    }
    site.gate.set_rules(vec![Rule::new(our_lists(), Action::Stale(Duration::from_hours(1)))]);
    let operator = site.operator("60s");
    for name in &site.names {
        let is_done = |object: &Value| object["metadata"]["finalizers"] == json!([keeper]);
        api.until((TAG, namespace, name), "let go", PATIENCE, is_done).await;
        api.patch(TAG, namespace, name, json!({ "metadata": { "finalizers": null } })).await;
        api.until_gone((TAG, namespace, name), PATIENCE).await;
        site.bench.apply_tag(name, "version: 2");
    }
    site.until(2).await;
    operator.kill();

    site.gate.add_rule(Rule::new(watches(), Action::Stale(LATE)));
    let operator = site.operator("60s");
    assert!(site.gate.hits()["stale"] > 0, "the lists were not stale");
    let writes = site.until_quiet().await;
    site.until(2).await;
    for name in &site.names {
        let history = site.bench.history(name).await;
        let kinds: Vec<_> = history.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds.join(" "), "move untag move", "{name}");
        assert_eq!(outcome(&site.bench, name).await["is owned"], true, "{name}");
    }
    site.end(&operator, "R13", &format!("fault=stale deletion late={LATE:?} writes={writes}")).await;
}
