//! What becomes of the tag when its SackerTag is deleted.
//!
//! As little as possible stands in the way of the deletion: a namespace must be deletable while the ledger is down.
//! `Retain` gives up ownership if that works within 10 s; only `Delete` waits for the ledger, and says so.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;

use super::announce;
use super::apply::{actor, change_tag, disown};
use super::dereference::{Names, owner};
use crate::api::conditions::{ConditionStatus, Progress, Summary};
use crate::api::{DeletionPolicy, Reason, SackerTag};
use crate::controller::SLOW;
use crate::controller::backoff::jitter;
use crate::controller::cluster::{self, Ledger};
use crate::controller::context::Context;
use crate::controller::error::{Class, Failure, place};
use crate::controller::events::Severity;
use crate::controller::pool::OpenLedger;
use crate::crash_point::around;
use crate::error::{Error, Meaning};
use crate::model::{Change, Claim, Expected, TagChange, Verb};

/// How long the deletion of an object waits for its ledger to take note.
const RETAIN_WAITS: Duration = Duration::from_secs(10);

/// How often it asks again meanwhile.
const RETAIN_RETRY: Duration = Duration::from_secs(2);

/// What a step of the clean-up came to.
#[derive(Debug)]
pub(super) enum Cleaned {
    /// The object may go.
    Done,
    /// Not yet: say this, and look again after that.
    NotYet(Summary, Duration),
}

/// Settles the tag of an object that is being deleted. Idempotent; may be cancelled anywhere.
///
/// # Errors
/// `NotLeading`, and `Ledger` for what a later try may mend, with the summary to show.
pub(super) async fn clean(
    context: &Context,
    object: &SackerTag,
) -> std::result::Result<Cleaned, (Failure, Option<Summary>)> {
    // No validation may keep an object from being deleted: what has no valid name has nothing in the ledger.
    let Ok(names) = Names::of(&object.spec) else { return Ok(Cleaned::Done) };
    if object.spec.suspend {
        return Ok(Cleaned::Done);
    }
    let namespace = object.namespace().unwrap_or_default();
    let granted = |access: &[crate::model::AccessRule]| {
        cluster::denial(context, access, &namespace, &names.package, Verb::Tag).is_none()
    };
    let open = match cluster::ledger(context, &object.spec.ledger).await {
        // Without its ledger there is nothing that could be given up or removed.
        Ledger::Missing(_) => return Ok(Cleaned::Done),
        Ledger::Ready { access, .. } | Ledger::Down { access, .. } if !granted(&access) => {
            return Ok(Cleaned::Done);
        }
        Ledger::Ready { open, .. } => Ok(open),
        Ledger::Down { message, .. } | Ledger::NotReady(message) => Err(message),
    };
    match object.spec.deletion_policy {
        DeletionPolicy::Retain => retain(context, object, &names, open).await,
        DeletionPolicy::Delete => remove(context, object, &names, open).await,
    }
}

async fn retain(
    context: &Context,
    object: &SackerTag,
    names: &Names,
    open: std::result::Result<Arc<OpenLedger>, String>,
) -> std::result::Result<Cleaned, (Failure, Option<Summary>)> {
    let why = match open {
        Ok(open) => {
            context.may_write().map_err(|failure| (failure, None))?;
            let request = disown(context, object, owner(context, object));
            let giving_up = change_tag(&open, &names.package, &names.tag, &request);
            let giving_up = around("operator.tag.disown", giving_up);
            match tokio::time::timeout(RETAIN_WAITS, giving_up).await {
                Ok(Ok(outcome)) => {
                    if outcome.event.is_some() {
                        context.metrics.tag_changed("disown");
                        announce(
                            context,
                            object,
                            Severity::Normal,
                            Reason::Disowned,
                            "the tag stays, without owner",
                        );
                    }
                    return Ok(Cleaned::Done);
                }
                // Someone else's, or nobody's: there is nothing to give up.
                Ok(Err(error)) if is_settled(&error) => return Ok(Cleaned::Done),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the ledger did not answer in time".to_owned(),
            }
        }
        Err(message) => message,
    };
    let deleted = object.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    let waited = deleted
        .is_none_or(|deleted| context.clock.now().duration_since(deleted).unsigned_abs() >= RETAIN_WAITS);
    if waited {
        let note =
            format!("the tag still names this SackerTag as its owner: {why}; move it with --take-over");
        announce(context, object, Severity::Warning, Reason::OwnershipKept, &note);
        return Ok(Cleaned::Done);
    }
    let message = format!("giving up the tag, for at most 10 s: {why}");
    let summary = Summary::new(ConditionStatus::False, Reason::Deleting, message, Progress::Reconciling);
    Ok(Cleaned::NotYet(summary, jitter(RETAIN_RETRY)))
}

async fn remove(
    context: &Context,
    object: &SackerTag,
    names: &Names,
    open: std::result::Result<Arc<OpenLedger>, String>,
) -> std::result::Result<Cleaned, (Failure, Option<Summary>)> {
    let release = "to let the object go without it, set spec.deletionPolicy to Retain";
    let open = match open {
        Ok(open) => open,
        Err(message) => {
            let message = format!("the tag is removed as soon as possible: {message}; {release}");
            let summary = Summary::unknown(Reason::LedgerUnavailable, message);
            return Ok(Cleaned::NotYet(summary, jitter(Duration::from_secs(30))));
        }
    };
    match untag(context, object, names, &open).await {
        Ok(None) => Ok(Cleaned::Done),
        Ok(Some(note)) => {
            announce(context, object, Severity::Normal, note.0, &note.1);
            Ok(Cleaned::Done)
        }
        Err(Failure::Ledger(error)) => {
            let (class, reason) = place(error.meaning());
            let message = format!("the tag is removed as soon as possible: {error}; {release}");
            let summary = match class {
                Class::Transient => Summary::unknown(reason, message),
                Class::Stalled | Class::Waiting => {
                    announce(context, object, Severity::Warning, reason, &message);
                    return Ok(Cleaned::NotYet(Summary::waiting(reason, message), jitter(SLOW)));
                }
            };
            Err((Failure::Ledger(error), Some(summary)))
        }
        Err(other) => Err((other, None)),
    }
}

/// Removes the tag if it is ours and not held. Returns what to announce.
async fn untag(
    context: &Context,
    object: &SackerTag,
    names: &Names,
    open: &Arc<OpenLedger>,
) -> std::result::Result<Option<(Reason, String)>, Failure> {
    let (package, tag) = (&names.package, &names.tag);
    let me = owner(context, object);
    for _ in 0..3 {
        let state = open.call(|ledger| ledger.tag(package, tag)).await.map_err(Failure::Ledger)?;
        let Some(state) = state.filter(|state| state.owner() == Some(me.as_str())) else { return Ok(None) };
        let Some(version) = state.version else { return Ok(None) };
        context.may_write()?;
        let (request, announced) = if let Some(hold) = state.hold() {
            let note = format!("the tag is held by {hold}: it stays, without owner");
            (disown(context, object, me.clone()), (Reason::Held, note))
        } else {
            let change = TagChange::new(Change::Untag, actor(context, object))
                .expecting(Expected::Seq(state.seq()))
                .claiming(Claim::Owner(me.clone()));
            (change, (Reason::Untagged, format!("the tag was removed from version {version}")))
        };
        match around("operator.tag.untag", change_tag(open, package, tag, &request)).await {
            Ok(outcome) => {
                if let Some(event) = &outcome.event {
                    context.metrics.tag_changed(event.kind.as_str());
                }
                context.polls.refresh(&object.spec.ledger, package);
                return Ok(Some(announced));
            }
            // It moved meanwhile: look again whether it still is ours.
            Err(error) if matches!(error.meaning(), Meaning::Conflict { .. } | Meaning::Held(_)) => {}
            Err(error) if is_settled(&error) => return Ok(None),
            Err(error) => return Err(Failure::Ledger(error)),
        }
    }
    Err(Failure::Ledger(Error::new(Meaning::Throttled, "win the race for the tag")))
}

/// Whether an error says that there is nothing of ours to settle.
fn is_settled(error: &Error) -> bool {
    matches!(error.meaning(), Meaning::NotFound(_) | Meaning::Owned { .. } | Meaning::Invalid { .. })
}
