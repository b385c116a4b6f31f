//! Asking ledgers what changed: one task per SackerLedger, never one per object.
//!
//! A round reads every package that somebody with access asks for, compares it with what was seen before, and wakes only
//! those whom a change concerns. Rounds come at a jittered interval that grows while nothing changes; a package that is
//! new to us, or that we just changed, is read at once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::backoff::jitter;
use super::cluster::{self, Ledger};
use super::context::{Context, Name};
use super::index::Key;
use super::pool::OpenLedger;
use super::views::Seen;
use crate::api::conditions::{ConditionType, find};
use crate::api::{SackerLedger, SackerTagSpec, SackerTagStatus};
use crate::controller::duration;
use crate::error::{Meaning, Missing, Result};
use crate::ledger::ViewCache;
use crate::model::{AccessRule, LedgerUri, PackageName, PackageView, Verb};

/// Packages that are asked for in one call: what a ledger looks at at the same time, so that an outage shows after one
/// deadline.
const BATCH: usize = 16;

/// Calls at a time: far below the turns at a ledger, so that most are left to promotions.
const CALLS: usize = 2;

/// A quiet ledger is polled up to this many times slower.
const SLOWEST: f64 = 4.0;

/// How much slower it gets with each quiet round.
const SLOWER: f64 = 1.5;

/// The polls of all SackerLedgers, by name.
#[derive(Debug, Default)]
pub struct Polls(Mutex<HashMap<String, Poll>>);

#[derive(Debug)]
struct Poll {
    /// What the task was started for; another spec needs another task.
    subject: (String, Duration),
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

/// What a poll task shares with those who ask it for something.
#[derive(Debug, Default)]
struct Shared {
    urgent: Mutex<BTreeSet<PackageName>>,
    asked: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    polled: Option<Timestamp>,
    packages: usize,
}

impl Polls {
    fn polls(&self) -> std::sync::MutexGuard<'_, HashMap<String, Poll>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a package of a ledger as soon as possible.
    pub fn refresh(&self, ledger: &str, package: &PackageName) {
        if let Some(poll) = self.polls().get(ledger) {
            poll.shared.urgent.lock().unwrap_or_else(PoisonError::into_inner).insert(package.clone());
            poll.shared.asked.notify_one();
        }
    }

    /// When a ledger was last polled, and how many packages were asked for.
    pub fn state(&self, ledger: &str) -> (Option<Timestamp>, usize) {
        let polls = self.polls();
        let state = polls
            .get(ledger)
            .map(|poll| *poll.shared.state.lock().unwrap_or_else(PoisonError::into_inner))
            .unwrap_or_default();
        (state.polled, state.packages)
    }

    /// Starts, restarts or stops the poll of a SackerLedger as its spec asks. Idempotent.
    pub fn follow(&self, context: &Arc<Context>, name: &str, object: Option<&SackerLedger>) {
        let mut polls = self.polls();
        let subject = object.map(|object| (object.spec.ledger.clone(), interval(context, object)));
        if polls.get(name).map(|poll| &poll.subject) == subject.as_ref() {
            // Access may have changed: whoever is granted a package now should not wait for the next round.
            if let Some(poll) = polls.get(name) {
                poll.shared.asked.notify_one();
            }
            return;
        }
        polls.remove(name);
        context.views.forget(name);
        if let Some(subject) = subject {
            let shared = Arc::new(Shared::default());
            let task = run(Arc::downgrade(context), name.to_owned(), subject.1, shared.clone());
            let task = AbortOnDropHandle::new(tokio::spawn(task));
            polls.insert(name.to_owned(), Poll { subject, shared, _task: task });
        }
    }

    /// Stops all polls.
    pub fn stop(&self) {
        self.polls().clear();
    }
}

/// How often a ledger is polled: what its object says, else by what a poll costs there.
pub fn interval(context: &Context, object: &SackerLedger) -> Duration {
    let asked = object.spec.poll_interval.as_deref().and_then(duration::parse);
    let by_backend = || match object.spec.ledger.parse() {
        // Each poll lists there.
        Ok(LedgerUri::S3(_)) => Duration::from_mins(2),
        _ => Duration::from_secs(30),
    };
    asked.or(context.policy.poll_interval).unwrap_or_else(by_backend)
}

/// How long to wait before the next round.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    factor: f64,
}

impl Pace {
    fn next(&mut self, changed: bool) -> Duration {
        self.factor = if changed { 1.0 } else { (self.factor * SLOWER).min(SLOWEST) };
        jitter(self.interval.mul_f64(self.factor))
    }
}

/// The task. Ends with the context, or when its handle is dropped.
async fn run(context: Weak<Context>, name: String, interval: Duration, shared: Arc<Shared>) {
    let known = ViewCache::default();
    let mut pace = Pace { interval, factor: 1.0 };
    let mut due = tokio::time::Instant::now();
    loop {
        // Asked first, since a sleep that is over may still lose against a request: a busy ledger must be polled too.
        let is_due = tokio::time::Instant::now() >= due;
        let whole = is_due
            || tokio::select! {
                () = tokio::time::sleep_until(due) => true,
                () = shared.asked.notified() => false,
            };
        let Some(context) = context.upgrade() else { return };
        let mut urgent = std::mem::take(&mut *shared.urgent.lock().unwrap_or_else(PoisonError::into_inner));
        let (open, access) = match cluster::ledger(&context, &name).await {
            Ledger::Ready { open, access } => (open, access),
            // Its recovery, or its becoming ready, asks for a round.
            Ledger::Missing(_) | Ledger::NotReady(_) | Ledger::Down { .. } => {
                due = tokio::time::Instant::now() + jitter(interval);
                continue;
            }
        };
        let needed = needed(&context, &name, &access);
        // A package that was never seen is as urgent as one that somebody asks for.
        urgent.extend(needed.iter().filter(|package| context.views.get(&name, package).is_none()).cloned());
        let packages: Vec<PackageName> =
            needed.iter().filter(|package| whole || urgent.contains(*package)).cloned().collect();
        let changes = round(&context, &name, &open, &known, &packages, whole).await;
        if whole {
            context.views.retain(&name, &needed);
            known.retain(|package| needed.contains(package));
            due = tokio::time::Instant::now() + pace.next(changes > 0);
        } else if changes > 0 {
            pace.factor = 1.0;
        }
        // After a start every package is urgent, and nothing is left for a whole round.
        note(&context, &name, &shared, packages.len() == needed.len(), needed.len());
    }
}

/// Keeps what the ledger's status shows, and wakes its controller when that is worth a look.
fn note(context: &Context, name: &str, shared: &Shared, is_all: bool, packages: usize) {
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    let first = state.polled.is_none();
    if is_all {
        state.polled = Some(context.clock.now());
    }
    if std::mem::replace(&mut state.packages, packages) != packages || first {
        context.ledgers.queue.wake(&ObjectRef::new(name));
    }
}

/// The packages of a ledger that somebody with access asks for. Nobody else's cause a request.
fn needed(context: &Context, ledger: &str, access: &[AccessRule]) -> HashSet<PackageName> {
    let mut needed = HashSet::new();
    let mut collect = |packages: Vec<(String, Vec<Key>)>, verb: Verb| {
        for (package, objects) in packages {
            let Ok(package) = PackageName::new(package) else { continue };
            let granted =
                |(namespace, _): &Key| cluster::denial(context, access, namespace, &package, verb).is_none();
            if objects.iter().any(granted) {
                needed.insert(package);
            }
        }
    };
    if context.runs(Name::Resolver) {
        collect(context.packages.index.packages(ledger), Verb::Read);
    }
    if context.runs(Name::Rollout) {
        collect(context.rollouts.packages(ledger), Verb::Read);
    }
    if context.runs(Name::Tag) {
        collect(context.tags.index.packages(ledger), Verb::Tag);
    }
    needed
}

/// Reads packages, and wakes whom a change concerns. Returns the number of changed packages.
async fn round(
    context: &Arc<Context>,
    name: &str,
    open: &Arc<OpenLedger>,
    known: &ViewCache,
    packages: &[PackageName],
    whole: bool,
) -> u64 {
    let start = context.clock.monotonic();
    let look = |batch: Vec<PackageName>| async move { look(context, name, open, known, &batch).await };
    let mut reads = futures::stream::iter(batches(packages)).map(look).buffer_unordered(CALLS);
    let (mut changes, mut complete) = (0, true);
    while complete && let Some(views) = reads.next().await {
        for (package, view) in views {
            if let Err(error) = &view
                && matches!(error.meaning(), Meaning::Denied { .. } | Meaning::NotFound(Missing::Backend(_)))
            {
                // About this package, or about the whole ledger? Its controller finds out.
                context.doubt(name);
            }
            if let Err(error) = &view
                && complete
                && matches!(error.meaning(), Meaning::Throttled | Meaning::Unavailable)
            {
                tracing::info!(ledger = name, %error, "the poll is broken off");
                complete = false;
            }
            if let Some(seen) = Seen::of(view) {
                let concerned = concerned_tags(context, name, &package, &seen);
                if context.views.put(name, &package, seen) {
                    changes += 1;
                    context
                        .packages
                        .queue
                        .wake_all(context.packages.index.of_package(name, package.as_str()));
                    context.tags.queue.wake_all(concerned);
                    context.rollouts.wake_package(name, package.as_str());
                }
            }
        }
    }
    if whole || changes > 0 {
        context.metrics.polled(context.clock.monotonic().saturating_sub(start), changes, complete);
    }
    changes
}

/// What to ask for in one call each: one package first, then twice as many each time. A ledger that fell silent since the
/// last round is found out by the first few requests, and not by as many as a round makes at its height.
fn batches(packages: &[PackageName]) -> Vec<Vec<PackageName>> {
    let mut batches = Vec::new();
    let (mut rest, mut size) = (packages, 1);
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(size.min(rest.len()));
        batches.push(batch.to_vec());
        (rest, size) = (later, (size * 2).min(BATCH));
    }
    batches
}

/// Reads some packages in one call.
async fn look(
    context: &Context,
    name: &str,
    open: &Arc<OpenLedger>,
    known: &ViewCache,
    packages: &[PackageName],
) -> Vec<(PackageName, Result<PackageView>)> {
    let mut views = open.views(packages, known).await;
    let is_gone = |(package, view): &(PackageName, Result<PackageView>)| {
        let was_there =
            || context.views.get(name, package).is_some_and(|seen| matches!(*seen, Seen::View(_)));
        view.as_ref().is_err_and(|error| matches!(error.meaning(), Meaning::NotFound(Missing::Package(_))))
            && was_there()
    };
    if views.iter().any(is_gone) {
        // Versions leave a tombstone, so packages do not vanish; mounts and buckets do.
        if let Err(error) = open.probe().await {
            let gone = views.iter_mut().filter(|entry| is_gone(entry));
            gone.for_each(|(_, view)| *view = Err(error.alike()));
        }
    }
    views
}

/// The SackerTags of a package that have not yet dealt with what was seen: those whose tag is not as their status says,
/// and those that wait for something or follow another tag. After a first look all, since that is what they waited for.
fn concerned_tags(context: &Context, ledger: &str, package: &PackageName, seen: &Seen) -> Vec<Key> {
    let is_first = context.views.get(ledger, package).is_none();
    let concerns = |(namespace, name): &Key| {
        let Some(object) = context.tags.cache.get(&ObjectRef::new(name).within(namespace)) else {
            return false;
        };
        let Some(spec) = object.spec() else { return false };
        is_first || spec.follow.is_some() || !is_settled(spec, object.status().as_ref(), seen)
    };
    context.tags.index.of_package(ledger, package.as_str()).into_iter().filter(concerns).collect()
}

fn is_settled(spec: &SackerTagSpec, status: Option<&SackerTagStatus>, seen: &Seen) -> bool {
    let (Seen::View(view), Some(status)) = (seen, status) else { return false };
    let ready = find(&status.conditions, ConditionType::Ready).is_some_and(|ready| ready.status == "True");
    let there = view.tags.iter().find(|view| view.state.tag.as_str() == spec.tag);
    ready
        && there.is_some_and(|there| {
            there.record.is_some()
                && there.state.version.map(crate::model::Version::get) == status.version
                && i64::try_from(there.state.seq()).ok() == status.seq
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_begins_with_few_packages_and_leaves_none_out() {
        for count in [0, 1, 2, 3, 31, 32, 100] {
            let packages: Vec<_> =
                (0..count).map(|number| PackageName::existing(format!("package-{number}"))).collect();
            let batches = batches(&packages);
            assert_eq!(batches.concat(), packages);
            let sizes: Vec<_> = batches.iter().map(Vec::len).collect();
            assert!(sizes.iter().zip([1, 2, 4, 8, 16]).all(|(size, most)| *size <= most), "{sizes:?}");
            assert!(sizes.iter().all(|size| (1..=BATCH).contains(size)), "{sizes:?}");
        }
    }

    #[test]
    fn a_quiet_ledger_is_polled_less_often_and_a_change_makes_it_fast_again() {
        let interval = Duration::from_secs(10);
        let mut pace = Pace { interval, factor: 1.0 };
        for _ in 0..10 {
            pace.next(false);
        }
        let slowest = pace.next(false);
        assert!(slowest >= Duration::from_secs(36) && slowest <= Duration::from_secs(44), "{slowest:?}");
        let fast = pace.next(true);
        assert!(fast >= Duration::from_secs(9) && fast <= Duration::from_secs(11), "{fast:?}");
    }
}
