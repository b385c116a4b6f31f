//! What the gate's handle and its connections have in common.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::watch;

use super::body::{Boxed, Hush};
use super::decide::Plan;
use super::exchange::POOL_IDLE;
use super::facts::Facts;
use super::log::{Log, lock};
use super::rule::{Action, Rule};
use super::upstream::{Connector, Upstream};

/// A reply that may be given again.
#[derive(Debug, Clone)]
pub(crate) struct Older {
    at: Instant,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) upstream: Upstream,
    pub(crate) client: Client<Connector, Boxed>,
    pub(crate) log: Arc<Log>,
    /// Whether clients are let in.
    pub(crate) open: watch::Sender<bool>,
    /// Requests that may still change something at the backend.
    pub(crate) pending: watch::Sender<usize>,
    pub(crate) held: watch::Sender<usize>,
    releases: watch::Sender<u64>,
    /// How often there was silence.
    silences: Arc<AtomicU64>,
    seed: u64,
    plan: Mutex<(Plan, Instant)>,
    hits: Mutex<BTreeMap<&'static str, u64>>,
    older: Mutex<HashMap<u64, Older>>,
    /// By access key id.
    secrets: Mutex<HashMap<String, String>>,
}

impl Shared {
    pub(crate) fn new(upstream: &Upstream, seed: u64, log: Arc<Log>) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .http1_preserve_header_case(true)
            .set_host(false)
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .build(upstream.connector());
        Self {
            upstream: upstream.clone(),
            client,
            log,
            open: watch::Sender::new(true),
            pending: watch::Sender::new(0),
            held: watch::Sender::new(0),
            releases: watch::Sender::new(0),
            silences: Arc::default(),
            seed,
            plan: Mutex::new((Plan::new(seed, Vec::new()), Instant::now())),
            hits: Mutex::default(),
            older: Mutex::default(),
            secrets: Mutex::default(),
        }
    }

    pub(crate) fn set_rules(&self, rules: Vec<Rule>) {
        *lock(&self.plan) = (Plan::new(self.seed, rules), Instant::now());
        lock(&self.older).clear();
    }

    pub(crate) fn add_rule(&self, rule: Rule) {
        lock(&self.plan).0.add(rule);
    }

    pub(crate) fn decide(&self, facts: &Facts) -> Vec<Action> {
        let mut plan = lock(&self.plan);
        let elapsed = plan.1.elapsed();
        plan.0.decide(facts, elapsed)
    }

    /// Counts an action that is being applied. A stale answer counts when it is one.
    pub(crate) fn hit(&self, action: &Action) {
        if !matches!(action, Action::Stale(_)) {
            self.count(action.name());
        }
    }

    pub(crate) fn count(&self, action: &'static str) {
        *lock(&self.hits).entry(action).or_default() += 1;
    }

    pub(crate) fn hits(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.hits).clone()
    }

    /// One more request is pending, until the guard is dropped.
    pub(crate) fn pending(self: &Arc<Self>) -> Counting {
        Counting::new(self, |shared| &shared.pending)
    }

    /// Waits until the next release.
    pub(crate) async fn hold(self: &Arc<Self>) {
        let mut releases = self.releases.subscribe();
        let held = Counting::new(self, |shared| &shared.held);
        // The sender lives as long as this.
        let _ = releases.changed().await;
        drop(held);
    }

    pub(crate) fn release(&self) {
        self.releases.send_modify(|releases| *releases += 1);
    }

    /// For a reply that begins now: whether there was silence since.
    pub(crate) fn hush(&self) -> Hush {
        Hush::new(self.silences.clone())
    }

    pub(crate) fn silence(&self) {
        self.silences.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn older(&self, question: u64, age: Duration) -> Option<Older> {
        lock(&self.older).get(&question).filter(|older| older.at.elapsed() < age).cloned()
    }

    pub(crate) fn keep(&self, question: u64, parts: &response::Parts, body: &Bytes) {
        let (status, headers) = (parts.status, parts.headers.clone());
        lock(&self.older).insert(question, Older { at: Instant::now(), status, headers, body: body.clone() });
    }

    pub(crate) fn know_secret(&self, access_key: &str, secret: &str) {
        lock(&self.secrets).insert(access_key.to_owned(), secret.to_owned());
    }

    pub(crate) fn secret(&self, access_key: &str) -> Option<String> {
        lock(&self.secrets).get(access_key).cloned()
    }
}

/// One in a count, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counting {
    shared: Arc<Shared>,
    count: fn(&Shared) -> &watch::Sender<usize>,
}

impl Counting {
    fn new(shared: &Arc<Shared>, count: fn(&Shared) -> &watch::Sender<usize>) -> Self {
        count(shared).send_modify(|count| *count += 1);
        Self { shared: shared.clone(), count }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        (self.count)(&self.shared).send_modify(|count| *count -= 1);
    }
}
