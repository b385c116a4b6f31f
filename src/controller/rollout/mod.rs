//! The rollout controller: a moved tag rolls the pods, and one ReplicaSet has one sha.
//!
//! It looks after Deployments, StatefulSets and DaemonSets that ask for it with a label. What they pin is read from the views
//! of the polls, and written as annotations of their pod template; everything else in a workload is somebody else's. A
//! workload whose ledger is away keeps what it has.

mod apply;
mod pins;
mod workload;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::core::DeserializeGuard;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::pins::{Known, Outcome, Wish, decide};
use self::workload::{Id, Kind, Templated, Workload};
use super::CONCURRENCY;
use super::backoff::full_jitter;
use super::cluster::{self, Ledger};
use super::context::{Context, Name};
use super::error::{Failure, place};
use super::events::Severity;
use super::index::Key;
use super::status::CORRECTIONS;
use super::watch::Change;
use crate::api::{ROLLOUT_ENABLED, ROLLOUT_LABEL, Reason};
use crate::model::{PackageName, Spec, Verb};

/// The watch's selector: of others nothing but metadata is ever read.
pub(super) fn selector() -> String {
    format!("{ROLLOUT_LABEL}={ROLLOUT_ENABLED}")
}

/// The shortest pause between two attempts to find those that left.
const SWEEP: Duration = Duration::from_secs(1);

/// The workloads that ask for it, and which of them are to be looked at.
#[derive(Debug, Default)]
pub struct Rollouts {
    state: Mutex<State>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    workloads: BTreeMap<Id, Arc<Workload>>,
    /// To be looked at: also those that left.
    due: BTreeSet<Id>,
    /// Why pins stay as they are, by key, so that only what is new is said.
    said: HashMap<Id, BTreeMap<String, Reason>>,
    /// What was last written, and when.
    written: HashMap<Id, (BTreeMap<String, String>, Duration)>,
}

impl Rollouts {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, concerned: impl Fn(&Id, &Workload) -> bool) {
        let mut state = self.state();
        let found: Vec<Id> = state
            .workloads
            .iter()
            .filter(|(id, workload)| concerned(id, workload))
            .map(|(id, _)| id.clone())
            .collect();
        if !found.is_empty() {
            state.due.extend(found);
            self.asked.notify_one();
        }
    }

    fn wake_one(&self, id: Id) {
        self.state().due.insert(id);
        self.asked.notify_one();
    }

    /// What is known about a package has changed.
    pub fn wake_package(&self, ledger: &str, package: &str) {
        self.wake(|_, workload| {
            workload.ledger == ledger && workload.packages().any(|other| other == package)
        });
    }

    /// A SackerLedger has changed.
    pub fn wake_ledger(&self, ledger: &str) {
        self.wake(|_, workload| workload.ledger == ledger);
    }

    /// A namespace's labels have changed.
    pub fn wake_namespace(&self, namespace: &str) {
        self.wake(|id, _| id.namespace == namespace);
    }

    /// The packages of a ledger that are asked for, with who asks.
    pub fn packages(&self, ledger: &str) -> Vec<(String, Vec<Key>)> {
        let mut packages: BTreeMap<String, Vec<Key>> = BTreeMap::new();
        for (id, workload) in &self.state().workloads {
            for package in workload.packages().filter(|_| workload.ledger == ledger) {
                let who = (id.namespace.clone(), id.name.clone());
                packages.entry(package.to_owned()).or_default().push(who);
            }
        }
        packages.into_iter().collect()
    }

    /// A watch told of a change.
    pub(super) fn changed<K: Templated>(&self, change: &Change<DeserializeGuard<K>>)
    where
        DeserializeGuard<K>: kube::Resource<DynamicType = ()>,
    {
        let Some(object) = change.object() else { return };
        let id = Id::of::<K>(object);
        let now = change.after.as_deref().and_then(|object| object.0.as_ref().ok()).map(Workload::of);
        let mut state = self.state();
        match now {
            Some(now) => {
                if state.workloads.get(&id).is_some_and(|before| **before == now) {
                    return;
                }
                state.workloads.insert(id.clone(), Arc::new(now));
            }
            None => {
                state.workloads.remove(&id);
            }
        }
        state.due.insert(id);
        drop(state);
        self.asked.notify_one();
    }

    /// Those that are due and not in `running`, at most `room`.
    fn take(&self, running: &BTreeSet<Id>, room: usize) -> Vec<Id> {
        let mut state = self.state();
        let taken: Vec<Id> =
            state.due.iter().filter(|id| !running.contains(id)).take(room).cloned().collect();
        for id in &taken {
            state.due.remove(id);
        }
        taken
    }

    /// Forgets what is kept about a workload that left.
    fn forget(&self, id: &Id) {
        let mut state = self.state();
        state.said.remove(id);
        state.written.remove(id);
    }

    /// Those of `news` that were not the last word about their pin. All others of the workload are well.
    fn new_to(&self, id: &Id, news: Vec<News>) -> Vec<News> {
        let now = news.iter().map(|news| (news.key.clone(), news.reason)).collect();
        let before = self.state().said.insert(id.clone(), now).unwrap_or_default();
        news.into_iter().filter(|news| before.get(&news.key) != Some(&news.reason)).collect()
    }

    /// How long a write has to wait that somebody else undid: two who disagree must not roll pods in circles.
    fn pause(&self, id: &Id, pins: &BTreeMap<String, String>, now: Duration) -> Option<Duration> {
        let state = self.state();
        let (written, when) = state.written.get(id)?;
        let rest = CORRECTIONS.checked_sub(now.saturating_sub(*when))?;
        (written == pins && !rest.is_zero()).then_some(rest)
    }
}

/// Runs the controller until `stop`; passes under way are finished. Those of one workload come one after the other.
pub(super) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let rollouts = &context.rollouts;
    rollouts.wake(|_, _| true);
    let mut running = BTreeSet::new();
    let mut passes = FuturesUnordered::new();
    // Also tried where nothing is due: who left while nobody looked is found once.
    passes.push(sweep(&context, &stop).map(|()| None).boxed());
    loop {
        if !stop.is_cancelled() {
            for id in rollouts.take(&running, usize::from(CONCURRENCY).saturating_sub(running.len())) {
                running.insert(id.clone());
                passes.push(timed(&context, id).map(Some).boxed());
            }
        }
        tokio::select! {
            Some(ended) = passes.next() => {
                if let Some(id) = ended {
                    running.remove(&id);
                }
            }
            () = rollouts.asked.notified(), if !stop.is_cancelled() => {}
            () = stop.cancelled(), if !stop.is_cancelled() => {}
            else => return,
        }
    }
}

/// Finds the workloads that left while no operator ran, and has them handed back.
async fn sweep(context: &Arc<Context>, stop: &CancellationToken) {
    let mut failures = 0;
    loop {
        match apply::left(context).await {
            Ok(left) => {
                for id in left {
                    context.rollouts.wake_one(id);
                }
                return;
            }
            Err(failure) => warn!(%failure, "the workloads that left cannot be listed"),
        }
        tokio::select! {
            () = context.clock.sleep(full_jitter(SWEEP, SWEEP * 60, failures)) => failures += 1,
            () = stop.cancelled() => return,
        }
    }
}

/// One pass, measured; one that failed is made again later.
async fn timed(context: &Arc<Context>, id: Id) -> Id {
    let start = context.clock.monotonic();
    let result = pass(context, &id).await;
    let time = context.clock.monotonic().saturating_sub(start);
    context.metrics.passed(Name::Rollout, time, result.as_ref().err().map(Failure::reason));
    let key = format!("{}/{}/{}", id.kind.as_str(), id.namespace, id.name);
    match result {
        Ok(()) => context.backoffs.reset(&key),
        Err(failure) => {
            warn!(workload = key, %failure, "failed");
            let pause = context.backoffs.failed(&key, context.clock.monotonic());
            wake_after(context, id.clone(), pause);
        }
    }
    id
}

fn wake_after(context: &Arc<Context>, id: Id, pause: Duration) {
    let context = context.clone();
    tokio::spawn(async move {
        context.clock.sleep(pause).await;
        context.rollouts.wake_one(id);
    });
}

/// What is to be said about a pin.
struct News {
    key: String,
    reason: Reason,
    message: String,
}

/// What comes of all pins of a workload.
#[derive(Default)]
struct Look {
    /// What its pod template should say, as far as that is ours.
    wanted: BTreeMap<String, String>,
    /// What is new in it.
    pinned: Vec<News>,
    /// Why others stay as they are.
    kept: Vec<News>,
}

async fn pass(context: &Arc<Context>, id: &Id) -> Result<(), Failure> {
    let found = context.rollouts.state().workloads.get(id).cloned();
    let Some(workload) = found else {
        context.rollouts.forget(id);
        return match id.kind {
            Kind::Deployment => apply::hand_back::<Deployment>(context, id).await,
            Kind::StatefulSet => apply::hand_back::<StatefulSet>(context, id).await,
            Kind::DaemonSet => apply::hand_back::<DaemonSet>(context, id).await,
        };
    };
    if workload.is_deleting {
        return Ok(());
    }
    let look = look(context, id, &workload).await;
    let kept = context.rollouts.new_to(id, look.kept);
    tell(context, id, &workload, Severity::Warning, &kept);
    let is_so = look.wanted.iter().all(|(key, text)| workload.resolved.get(key) == Some(text))
        && workload.owned.iter().all(|key| look.wanted.contains_key(key));
    if is_so {
        return Ok(());
    }
    let now = context.clock.monotonic();
    if let Some(pause) = context.rollouts.pause(id, &look.wanted, now) {
        wake_after(context, id.clone(), pause);
        return Ok(());
    }
    if apply::pins(context, id, &workload, &look.wanted).await? {
        context.rollouts.state().written.insert(id.clone(), (look.wanted, now));
        tell(context, id, &workload, Severity::Normal, &look.pinned);
    }
    Ok(())
}

async fn look(context: &Context, id: &Id, workload: &Workload) -> Look {
    let mut look = Look::default();
    for (key, wish) in &workload.wishes {
        let now = workload.resolved.get(key);
        match outcome(context, id, workload, wish, now.map(String::as_str)).await {
            Outcome::Pin(text) => {
                if now != Some(&text) {
                    let before = now.map_or_else(String::new, |before| format!(", {before} before"));
                    let message = format!("{key} is {text}{before}");
                    look.pinned.push(News { key: key.clone(), reason: Reason::Pinned, message });
                }
                look.wanted.insert(key.clone(), text);
            }
            kept => {
                // What the pods run stays what it is.
                if let Some(text) = now.filter(|_| workload.owned.contains(key)) {
                    look.wanted.insert(key.clone(), text.clone());
                }
                if let Outcome::Keep(reason, message) = kept {
                    let message = format!("{key} stays as it is: {message}");
                    look.kept.push(News { key: key.clone(), reason, message });
                }
            }
        }
    }
    look
}

fn tell(context: &Context, id: &Id, workload: &Workload, severity: Severity, news: &[News]) {
    for News { reason, message, .. } in news {
        info!(workload = ?id, %reason, message, "rollout");
        let about = id.reference(&workload.uid);
        context.events.publish(about, severity, *reason, message, context.clock.now());
    }
}

/// What comes of one pin: decided from what is known, and asked of the ledger where that does not go back far enough.
async fn outcome(context: &Context, id: &Id, workload: &Workload, wish: &Wish, now: Option<&str>) -> Outcome {
    let Wish::Of(package, spec) = wish else { return decide(wish, now, &Known::Reading) };
    let (access, open, down) = match cluster::ledger(context, &workload.ledger).await {
        Ledger::Missing(message) => {
            return decide(wish, now, &Known::Nothing(Reason::LedgerNotFound, message));
        }
        Ledger::NotReady(message) => {
            return decide(wish, now, &Known::Nothing(Reason::LedgerNotReady, message));
        }
        Ledger::Down { message, access } => (access, None, Some(message)),
        Ledger::Ready { open, access } => (access, Some(open), None),
    };
    if let Some(denial) = cluster::denial(context, &access, &id.namespace, package, Verb::Read) {
        return Outcome::Keep(Reason::NotGranted, denial);
    }
    let (Some(open), None) = (open, &down) else {
        let message = down.unwrap_or_default();
        return decide(wish, now, &Known::Nothing(Reason::LedgerUnavailable, message));
    };
    let Some(seen) = context.views.get(&workload.ledger, package) else {
        context.polls.refresh(&workload.ledger, package);
        return decide(wish, now, &Known::Reading);
    };
    match decide(wish, now, &Known::Seen(&seen)) {
        Outcome::Ask => ask(&open, package, spec).await,
        decided => decided,
    }
}

async fn ask(open: &Arc<super::pool::OpenLedger>, package: &PackageName, spec: &Spec) -> Outcome {
    match open.call(|ledger| ledger.resolve(package, spec)).await {
        Ok(resolved) => Outcome::Pin(resolved.record.pinned().to_string()),
        Err(error) => Outcome::Keep(place(error.meaning()).1, error.to_string()),
    }
}

/// What a watch of workloads needs of their kind.
pub(super) trait Watched:
    Templated + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K: Templated + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Watched for K {}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        Id { kind: Kind::Deployment, namespace: "web".into(), name: name.into() }
    }

    fn pins(text: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("app".into(), text.into())])
    }

    #[test]
    fn one_that_runs_is_not_taken_a_second_time_and_stays_due() {
        let rollouts = Rollouts::default();
        for name in ["a", "b", "c"] {
            rollouts.wake_one(id(name));
        }
        let running = BTreeSet::from([id("a")]);
        assert_eq!(rollouts.take(&running, 1), [id("b")]);
        assert_eq!(rollouts.take(&running, 9), [id("c")]);
        assert_eq!(rollouts.take(&BTreeSet::new(), 9), [id("a")]);
        assert!(rollouts.take(&BTreeSet::new(), 9).is_empty());
    }

    #[test]
    fn only_the_same_write_waits() {
        let rollouts = Rollouts::default();
        let second = Duration::from_secs(1);
        assert_eq!(rollouts.pause(&id("a"), &pins("x"), second), None);
        rollouts.state().written.insert(id("a"), (pins("x"), second));
        assert_eq!(rollouts.pause(&id("a"), &pins("x"), second * 4), CORRECTIONS.checked_sub(second * 3));
        assert_eq!(rollouts.pause(&id("a"), &pins("y"), second * 4), None);
        assert_eq!(rollouts.pause(&id("a"), &pins("x"), second + CORRECTIONS), None);
        assert_eq!(rollouts.pause(&id("b"), &pins("x"), second * 4), None);
    }

    #[test]
    fn a_reason_is_said_once_and_again_after_all_was_well() {
        let rollouts = Rollouts::default();
        let bad = |reason| vec![News { key: "app".into(), reason, message: String::new() }];
        let said = |news| rollouts.new_to(&id("a"), news).len();
        assert_eq!(said(bad(Reason::NotGranted)), 1);
        assert_eq!(said(bad(Reason::NotGranted)), 0);
        assert_eq!(said(bad(Reason::LedgerUnavailable)), 1);
        assert_eq!(said(Vec::new()), 0);
        assert_eq!(said(bad(Reason::LedgerUnavailable)), 1);
    }
}
