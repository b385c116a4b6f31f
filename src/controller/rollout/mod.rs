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

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::core::DeserializeGuard;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::pins::{Known, Outcome, Wish, decide};
use self::workload::{Id, Kind, Templated, Workload};
use super::CONCURRENCY;
use super::cluster::{self, Ledger};
use super::context::{Context, Name};
use super::error::{Failure, place};
use super::events::Severity;
use super::index::Key;
use super::watch::Change;
use crate::api::{ROLLOUT_LABEL, Reason};
use crate::model::{PackageName, Spec, Verb};

pub(super) use crate::api::ROLLOUT_LABEL as LABEL;

/// The value of the label that asks for the controller.
const ENABLED: &str = "enabled";

fn is_enabled(value: &str) -> bool {
    value == ENABLED
}

/// The watch's selector: others are not even read.
pub(super) fn selector() -> String {
    format!("{ROLLOUT_LABEL}={ENABLED}")
}

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
    /// What was said last about each pin, so that only what is new is said.
    said: HashMap<(Id, String), Reason>,
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
        let before = match now {
            Some(now) => {
                if state.workloads.get(&id).is_some_and(|before| **before == now) {
                    return;
                }
                state.workloads.insert(id.clone(), Arc::new(now))
            }
            None => state.workloads.remove(&id),
        };
        drop(before);
        state.due.insert(id);
        drop(state);
        self.asked.notify_one();
    }
}

/// Runs the controller until `stop`; passes under way are finished.
pub(super) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let rollouts = &context.rollouts;
    rollouts.wake(|_, _| true);
    while !stop.is_cancelled() {
        let due = std::mem::take(&mut rollouts.state().due);
        if due.is_empty() {
            tokio::select! {
                () = rollouts.asked.notified() => {}
                () = stop.cancelled() => {}
            }
            continue;
        }
        // A workload that is due again meanwhile is looked at in the next round: never by two at a time.
        futures::stream::iter(due)
            .for_each_concurrent(usize::from(CONCURRENCY), async |id| timed(&context, id).await)
            .await;
    }
}

/// One pass, measured; one that failed is made again later.
async fn timed(context: &Arc<Context>, id: Id) {
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
            let context = context.clone();
            tokio::spawn(async move {
                context.clock.sleep(pause).await;
                context.rollouts.wake_one(id);
            });
        }
    }
}

async fn pass(context: &Context, id: &Id) -> Result<(), Failure> {
    let found = context.rollouts.state().workloads.get(id).cloned();
    let Some(workload) = found else {
        context.rollouts.state().said.retain(|(other, _), _| other != id);
        return match id.kind {
            Kind::Deployment => apply::hand_back::<Deployment>(context, id).await,
            Kind::StatefulSet => apply::hand_back::<StatefulSet>(context, id).await,
            Kind::DaemonSet => apply::hand_back::<DaemonSet>(context, id).await,
        };
    };
    if workload.is_deleting {
        return Ok(());
    }
    let mut wanted = BTreeMap::new();
    let mut news = Vec::new();
    for (key, wish) in &workload.wishes {
        let now = workload.resolved.get(key);
        match outcome(context, id, &workload, wish, now.map(String::as_str)).await {
            Outcome::Pin(text) => {
                if now != Some(&text) {
                    let before = now.map_or_else(String::new, |before| format!(", {before} before"));
                    news.push((key, Reason::Pinned, format!("{key} is {text}{before}")));
                }
                context.rollouts.state().said.remove(&(id.clone(), key.clone()));
                wanted.insert(key.clone(), text);
            }
            kept => {
                // What the pods run stays what it is.
                wanted.extend(
                    now.filter(|_| workload.owned.contains(key)).map(|text| (key.clone(), text.clone())),
                );
                if let Outcome::Keep(reason, message) = kept {
                    let said = context.rollouts.state().said.insert((id.clone(), key.clone()), reason);
                    if said != Some(reason) {
                        news.push((key, reason, format!("{key} stays as it is: {message}")));
                    }
                }
            }
        }
    }
    let is_so = wanted.iter().all(|(key, text)| workload.resolved.get(key) == Some(text))
        && workload.owned.iter().all(|key| wanted.contains_key(key));
    if !is_so {
        apply::pins(context, id, &workload, &wanted).await?;
    }
    for (key, reason, message) in news {
        info!(workload = ?id, key, %reason, message, "rollout");
        let severity = if reason == Reason::Pinned { Severity::Normal } else { Severity::Warning };
        let about = id.reference(&workload.uid);
        context.events.publish(about, severity, reason, &message, context.clock.now());
    }
    Ok(())
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
