//! The SackerTag controller: the one that writes tags.
//!
//! A pass is [`dereference`] (all reads) -> [`decide`] (pure) -> [`current`] (whether the object still says so) ->
//! [`apply`] (all writes) -> [`status`]. After a crash
//! anywhere the next pass reaches the same state, since each decides from the ledger and not from what it remembers.

mod apply;
mod cleanup;
mod current;
mod decide;
mod dereference;
mod follow;
mod history;
mod rival;
mod row;
mod seen;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{self, Event as Phase};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use self::apply::Applied;
use self::cleanup::Cleaned;
use self::current::Seen;
use self::decide::{Again, Decision, Plan};
use self::dereference::{Facts, Names, Trust};
use super::backoff::jitter;
use super::context::{Context, Kind, Name};
use super::driver::Reconcile;
use super::error::{Failure, is_status};
use super::events::{Severity, is_news};
use crate::api::conditions::{ConditionStatus, ConditionType, Progress, Summary, find};
use crate::api::{Reason, SackerTag, SackerTagStatus, TAG_FINALIZER, TAG_MANAGER, requested_at};
use crate::crash_point::{around, crash_point};
use crate::error::Error;
use crate::model::{EventKind, Version};

/// How often a lost race is read and decided again within one pass.
const ROUNDS: usize = 3;

/// After this long, the cache shows what it did not show yet.
const STALE: Duration = Duration::from_secs(2);

impl Reconcile for SackerTag {
    const NAME: Name = Name::Tag;
    const MANAGER: &'static str = TAG_MANAGER;

    fn objects(context: &Context) -> &Kind<Self> {
        &context.tags
    }

    fn let_go(metadata: ObjectMeta, context: Arc<Context>) -> BoxFuture<'static, Result<(), Failure>> {
        async move { remove_finalizer(&metadata, &context).await }.boxed()
    }

    fn reconcile(self: Arc<Self>, context: Arc<Context>) -> BoxFuture<'static, Result<Action, Failure>> {
        with_finalizer(self, context).boxed()
    }
}

/// The finalizer stands before the first write to the ledger, and goes after the last.
async fn with_finalizer(object: Arc<SackerTag>, context: Arc<Context>) -> Result<Action, Failure> {
    context.may_write()?;
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<SackerTag> = Api::namespaced(context.client.clone(), &namespace);
    let phase = |phase| async {
        match phase {
            Phase::Apply(object) => pass(&object, &context).await,
            Phase::Cleanup(object) => clean(&object, &context).await,
        }
    };
    let is_deleted = object.metadata.deletion_timestamp.is_some();
    let is_new = !is_deleted && !object.finalizers().iter().any(|finalizer| finalizer == TAG_FINALIZER);
    let step = finalizer::finalizer(&api, TAG_FINALIZER, object, phase);
    // Of a new object this adds the finalizer and does nothing else.
    let ended = if is_new { around("operator.finalizer.add", Box::pin(step)).await } else { step.await };
    if is_deleted && !matches!(ended, Err(finalizer::Error::CleanupFailed(_))) {
        crash_point("operator.finalizer.remove.after");
    }
    match ended {
        Ok(action) => Ok(action),
        Err(finalizer::Error::CleanupFailed(Failure::Waiting(again))) => Ok(Action::requeue(again)),
        Err(finalizer::Error::ApplyFailed(failure) | finalizer::Error::CleanupFailed(failure)) => {
            Err(failure)
        }
        // Gone, or already without our finalizer: what was wanted.
        Err(finalizer::Error::RemoveFinalizer(error) | finalizer::Error::AddFinalizer(error))
            if is_status(&error, 404) =>
        {
            Ok(Action::await_change())
        }
        // The cache was behind: somebody, perhaps our own last pass, has changed the list of finalizers.
        Err(finalizer::Error::RemoveFinalizer(error) | finalizer::Error::AddFinalizer(error))
            if is_status(&error, 422) =>
        {
            Ok(Action::requeue(jitter(STALE)))
        }
        Err(finalizer::Error::AddFinalizer(error)) => Err(Failure::api("add the finalizer")(error)),
        Err(finalizer::Error::RemoveFinalizer(error)) => Err(Failure::api("remove the finalizer")(error)),
        Err(error @ (finalizer::Error::UnnamedObject | finalizer::Error::InvalidFinalizer)) => {
            Err(Failure::Panicked(error.to_string()))
        }
    }
}

/// Removes our finalizer from an object that cannot be read as a SackerTag. What is not readable owns nothing that could
/// be found.
async fn remove_finalizer(metadata: &ObjectMeta, context: &Context) -> Result<(), Failure> {
    let finalizers = metadata.finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == TAG_FINALIZER) {
        return Ok(());
    }
    context.may_write()?;
    let others: Vec<_> = finalizers.iter().filter(|finalizer| *finalizer != TAG_FINALIZER).collect();
    // The resourceVersion makes it a compare-and-swap of the list.
    let version = &metadata.resource_version;
    let patch = Patch::Merge(json!({ "metadata": { "finalizers": others, "resourceVersion": version } }));
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let api: Api<PartialObjectMeta<SackerTag>> = Api::namespaced(context.client.clone(), &namespace);
    let name = metadata.name.clone().unwrap_or_default();
    let parameters = PatchParams::default();
    match around("operator.finalizer.force", api.patch(&name, &parameters, &patch)).await {
        Ok(_) => Ok(()),
        Err(error) if is_status(&error, 404) => Ok(()),
        Err(error) => Err(Failure::api("remove the finalizer")(error)),
    }
}

async fn pass(object: &SackerTag, context: &Context) -> Result<Action, Failure> {
    let previous = context.written.latest(object);
    let names = match Names::of(&object.spec) {
        Ok(names) => names,
        Err(summary) => {
            return settle(object, context, &previous, None, &Decision::idle(summary), None).await;
        }
    };
    let mut lost = None;
    let requested = requested_at(&object.metadata) != previous.last_handled_reconcile_at.as_deref();
    let mut trust = if requested { Trust::Ledger } else { Trust::Views };
    for _ in 0..ROUNDS {
        let mut facts = dereference::facts(context, object, &names, &previous, trust).await;
        if facts.is_awaited {
            context.polls.refresh(&object.spec.ledger, &names.package);
            return Ok(Action::await_change());
        }
        let mut decision = decision(context, &facts);
        if decision.plan != Plan::Nothing && std::mem::replace(&mut trust, Trust::Ledger) == Trust::Views {
            facts = dereference::facts(context, object, &names, &previous, trust).await;
            decision = self::decision(context, &facts);
        }
        if decision.plan != Plan::Nothing && current::look(context, object).await? != Seen::Current {
            return Ok(Action::requeue(jitter(STALE)));
        }
        let drifted = decision.summary.drifted.clone().filter(|_| decision.plan != Plan::Nothing);
        match apply::apply(context, object, &mut facts, &decision.plan).await {
            Ok(Applied::Done { change }) => {
                if let Some(note) = drifted {
                    // It is as it should be again: the condition would only say what was.
                    decision.summary.drifted = None;
                    announce(context, object, Severity::Warning, Reason::Drifted, &note);
                }
                return settle(object, context, &previous, Some(facts), &decision, change).await;
            }
            Ok(Applied::Lost(error)) => lost = Some(error),
            Err(Failure::Ledger(error)) => {
                // Whether it was written is decided anew by the next pass, from the ledger.
                let decision = row::ledger_failed(&error);
                facts.ledger = None;
                settle(object, context, &previous, Some(facts), &decision, None).await?;
                return Err(Failure::Ledger(error));
            }
            Err(other) => return Err(other),
        }
    }
    let error = lost.unwrap_or_else(|| Error::invalid("no round was made"));
    let decision = row::ledger_failed(&error);
    settle(object, context, &previous, None, &decision, None).await?;
    Err(Failure::Ledger(error))
}

fn decision(context: &Context, facts: &Facts) -> Decision {
    let now = context.clock.now();
    match &facts.ledger {
        Some(Ok(ledger)) => decide::decide(&facts.wish, &facts.cluster, Ok(&ledger.view), now),
        Some(Err(error)) => decide::decide(&facts.wish, &facts.cluster, Err(error), now),
        None => decide::before_ledger(&facts.wish, &facts.cluster).unwrap_or_else(|| {
            Decision::idle(Summary::unknown(Reason::Progressing, "the ledger has not been asked yet"))
        }),
    }
}

/// Writes the status, tells what changed, and says when to look again.
async fn settle(
    object: &SackerTag,
    context: &Context,
    previous: &SackerTagStatus,
    facts: Option<Facts>,
    decision: &Decision,
    change: Option<(EventKind, Option<Version>)>,
) -> Result<Action, Failure> {
    let now = context.clock.now();
    let (ledger, error) = match facts.and_then(|facts| facts.ledger) {
        Some(Ok(ledger)) => (Some(ledger), None),
        Some(Err(error)) => (None, Some(error)),
        None => (None, None),
    };
    let status = status::status(object, previous, ledger.as_ref(), decision, now);
    super::status::write(context, TAG_MANAGER, object, previous, &status).await?;
    tell(context, object, previous, &status, decision, change);
    match (decision.again, error) {
        (Again::Backoff, Some(error)) => Err(Failure::Ledger(error)),
        (Again::Backoff, None) | (Again::OnChange, _) => Ok(Action::await_change()),
        (Again::After(pause), _) => Ok(Action::requeue(jitter(pause))),
        (Again::At(time), _) => {
            Ok(Action::requeue(exactly(Duration::try_from(time.duration_since(now)).unwrap_or_default())))
        }
        (Again::In(left), _) => Ok(Action::requeue(exactly(left))),
    }
}

/// The time left, rounded up a little: a pass that comes early would only wait again.
fn exactly(left: Duration) -> Duration {
    left + Duration::from_millis(5)
}

/// Events: on transitions only.
fn tell(
    context: &Context,
    object: &SackerTag,
    previous: &SackerTagStatus,
    status: &SackerTagStatus,
    decision: &Decision,
    change: Option<(EventKind, Option<Version>)>,
) {
    let to = status.version.map_or_else(|| "nowhere".to_owned(), |version| version.to_string());
    match change {
        Some((EventKind::Move, from)) => {
            let from = from.map_or_else(|| "nowhere".to_owned(), |version| version.to_string());
            let note =
                format!("moved '{}' of '{}' from {from} to {to}", object.spec.tag, object.spec.package);
            announce(context, object, Severity::Normal, Reason::Moved, &note);
        }
        Some((EventKind::Adopt, _)) => {
            let note = format!("took over '{}' of '{}' at {to}", object.spec.tag, object.spec.package);
            announce(context, object, Severity::Normal, Reason::Adopted, &note);
        }
        _ => {
            let summary = &decision.summary;
            let before = find(&previous.conditions, ConditionType::Ready).map(|ready| ready.reason.as_str());
            if is_news(before, summary) {
                let bad = summary.progress == Progress::Stalled || summary.ready == ConditionStatus::Unknown;
                let severity = if bad { Severity::Warning } else { Severity::Normal };
                announce(context, object, severity, summary.reason, &summary.message);
            }
        }
    }
}

/// Publishes an event about a SackerTag.
fn announce(context: &Context, object: &SackerTag, severity: Severity, reason: Reason, note: &str) {
    context.events.publish(object.object_ref(&()), severity, reason, note, context.clock.now());
}

async fn clean(object: &SackerTag, context: &Context) -> Result<Action, Failure> {
    // Its successor has the same owner string: what is given up here would be taken from that one.
    if current::look(context, object).await? == Seen::Replaced {
        return Err(Failure::Waiting(jitter(STALE)));
    }
    let previous = context.written.latest(object);
    let (summary, result) = match cleanup::clean(context, object).await {
        Ok(Cleaned::Done) => {
            crash_point("operator.finalizer.remove.before");
            return Ok(Action::await_change());
        }
        Ok(Cleaned::NotYet(summary, again)) => (Some(summary), Failure::Waiting(again)),
        Err((failure, summary)) => (summary, failure),
    };
    if let Some(summary) = summary {
        let decision = Decision::idle(summary);
        let status = status::status(object, &previous, None, &decision, context.clock.now());
        super::status::write(context, TAG_MANAGER, object, &previous, &status).await?;
    }
    // An error keeps the finalizer where it is.
    Err(result)
}
