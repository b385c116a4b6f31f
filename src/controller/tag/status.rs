//! What a SackerTag's status says after a pass. Pure.

use jiff::Timestamp;

use super::decide::{Decision, Target};
use super::dereference::LedgerFacts;
use super::history;
use crate::api::conditions::ConditionStatus;
use crate::api::{CandidateStatus, SackerTag, SackerTagStatus, requested_at};
use crate::model::{Version, VersionRecord, time};

/// The status of `object` after a pass that came to `decision`. Where the ledger was not asked or did not answer, what
/// was known of it stays.
pub(super) fn status(
    object: &SackerTag,
    previous: &SackerTagStatus,
    ledger: Option<&LedgerFacts>,
    decision: &Decision,
    now: Timestamp,
) -> SackerTagStatus {
    let generation = object.metadata.generation;
    let mut status = previous.clone();
    status.observed_generation = generation;
    status.conditions = decision.summary.conditions(&previous.conditions, generation, now);
    status.last_handled_reconcile_at = requested_at(&object.metadata).map(str::to_owned);
    if let Some(ledger) = ledger {
        show(&mut status, ledger);
    }
    // A ready SackerTag was in force with this spec: from now on, somebody else's move is drift.
    if decision.summary.ready == ConditionStatus::True {
        status.applied_generation = generation;
    }
    status
}

fn show(status: &mut SackerTagStatus, ledger: &LedgerFacts) {
    let state = ledger.state.as_ref();
    let record = ledger.record.as_ref();
    let moved =
        history::last_move(&ledger.events).filter(|_| state.is_some_and(|state| state.event.is_some()));
    status.version = state.and_then(|state| state.version).map(Version::get);
    status.sha256 = record.map(|record| record.sha256.to_string());
    status.short_sha256 = record.map(|record| record.sha256.short());
    status.basename = record.map(|record| record.basename.clone());
    status.mode = record.map(|record| i64::from(record.mode));
    status.size = record.and_then(size);
    status.seq = state.and_then(|state| i64::try_from(state.seq()).ok()).filter(|seq| *seq > 0);
    status.owner = state.and_then(|state| state.owner()).map(str::to_owned);
    status.previous_version = moved.and_then(|event| event.from);
    status.since = moved.map(|event| event.at.clone());
    status.by = moved.map(|event| event.by.clone());
    status.reason = moved.and_then(|event| event.reason.clone());
    status.events.clone_from(&ledger.events);
    status.candidate = match (&ledger.view.target, ledger.candidate) {
        (Target::Soaking { until, .. }, Some((version, since))) => Some(CandidateStatus {
            version: version.get(),
            since: time::format(since),
            ready_at: time::format(*until),
        }),
        _ => None,
    };
}

fn size(record: &VersionRecord) -> Option<i64> {
    record.size.and_then(|size| i64::try_from(size).ok())
}
