//! All writes to the ledger for one SackerTag, each a compare-and-swap from what the decision saw.

use std::sync::Arc;

use kube::ResourceExt as _;

use super::decide::Plan;
use super::dereference::{Facts, LedgerFacts, title};
use super::history;
use crate::api::{REQUESTED_BY, SackerTag};
use crate::controller::context::Context;
use crate::controller::error::Failure;
use crate::controller::pool::OpenLedger;
use crate::crash_point::around;
use crate::error::{Meaning, Result};
use crate::ledger::TagOutcome;
use crate::model::{
    Actor, Change, Claim, EventKind, EventSource, Expected, PackageName, TagChange, TagName, Version,
};

/// What carrying out a plan came to.
#[derive(Debug)]
pub(super) enum Applied {
    /// It is done, or there was nothing to do.
    Done {
        /// What was written, and where the tag pointed before.
        change: Option<(EventKind, Option<Version>)>,
    },
    /// The tag is not as it was read any more: read again, decide again.
    Lost(crate::error::Error),
}

/// Carries out `plan`, and makes `facts` show the tag as it is afterwards.
///
/// # Errors
/// `Ledger` for what trying again at once cannot help, `NotLeading`.
pub(super) async fn apply(
    context: &Context,
    object: &SackerTag,
    facts: &mut Facts,
    plan: &Plan,
) -> std::result::Result<Applied, Failure> {
    let (change, expected) = match plan {
        Plan::Nothing => return Ok(Applied::Done { change: None }),
        Plan::Adopt(expected) => (Change::Adopt, *expected),
        Plan::Move { to, expected } => (Change::Move { to: *to, hold: None }, *expected),
    };
    let (Some(open), Some(Ok(ledger))) = (&facts.open, &mut facts.ledger) else {
        return Ok(Applied::Done { change: None });
    };
    context.may_write()?;
    let request = TagChange::new(change, actor(context, object))
        .expecting(expected)
        .claiming(Claim::Owner(facts.wish.me.clone()));
    let changed = change_tag(open, &facts.names.package, &facts.names.tag, &request);
    let result = around("operator.tag.change", changed).await;
    // Whatever became of it, the view is old now.
    context.polls.refresh(&object.spec.ledger, &facts.names.package);
    match result {
        Ok(outcome) => {
            let written = outcome.event.as_ref().map(|event| event.kind);
            if let Some(kind) = written {
                context.metrics.tag_changed(kind.as_str());
            }
            let change = written.map(|kind| (kind, outcome.previous));
            adjust(ledger, outcome);
            Ok(Applied::Done { change })
        }
        Err(error) => match error.meaning() {
            Meaning::Conflict { .. } | Meaning::Held(_) | Meaning::Owned { .. } | Meaning::NotFound(_) => {
                Ok(Applied::Lost(error))
            }
            _ => Err(Failure::Ledger(error)),
        },
    }
}

/// One change of a tag.
///
/// # Errors
/// Those of [`crate::ledger::Ledger::change_tag`].
pub(super) async fn change_tag(
    open: &Arc<OpenLedger>,
    package: &PackageName,
    tag: &TagName,
    request: &TagChange,
) -> Result<TagOutcome> {
    open.call(|ledger| ledger.change_tag(package, tag, request)).await
}

/// Who the history will name.
pub(super) fn actor(context: &Context, object: &SackerTag) -> Actor {
    let stamped = object.annotations().get(REQUESTED_BY).filter(|_| context.policy.trust_requested_by);
    Actor {
        by: stamped.cloned().unwrap_or_else(|| title(object)),
        reason: object.spec.reason.clone(),
        source: EventSource::Operator,
    }
}

/// The request that gives up ownership, whatever the tag is like.
pub(super) fn disown(context: &Context, object: &SackerTag, me: String) -> TagChange {
    TagChange::new(Change::Disown, actor(context, object)).expecting(Expected::Any).claiming(Claim::Owner(me))
}

fn adjust(facts: &mut LedgerFacts, outcome: TagOutcome) {
    if let Some(event) = &outcome.event {
        facts.events = history::with(std::mem::take(&mut facts.events), history::shown(event));
    }
    facts.record.clone_from(&facts.target);
    facts.state = Some(outcome.state);
}
