//! The outcome of each row of the decision: plan, words, and when to look again. The order is in [`super::decide`].
//!
//! Messages hold no times that change from pass to pass: an equal status must stay equal.

use std::time::Duration;

use jiff::Timestamp;

use super::decide::{Again, Decision, Plan, Wish};
use crate::api::Reason;
use crate::api::conditions::{ConditionStatus, Progress, Summary};
use crate::controller::SLOW;
use crate::controller::error::{Class, place};
use crate::error::Error;
use crate::model::{Expected, Hold, Version, time};

fn points_at(version: Option<Version>) -> String {
    version.map_or_else(|| "nowhere".to_owned(), |version| format!("at version {version}"))
}

fn subject(wish: &Wish) -> String {
    format!("tag '{}' of package '{}'", wish.tag, wish.package)
}

/// Row 1.
pub(super) fn suspended() -> Decision {
    Decision::idle(Summary::new(
        ConditionStatus::Unknown,
        Reason::Suspended,
        "spec.suspend is set: the ledger is neither read nor changed",
        Progress::Settled,
    ))
}

/// Row 2.
pub(super) fn ledger_missing(message: &str) -> Decision {
    Decision::idle(Summary::waiting(Reason::LedgerNotFound, message))
}

/// Row 2.
pub(super) fn ledger_not_ready(message: &str) -> Decision {
    Decision::idle(Summary::waiting(Reason::LedgerNotReady, message))
}

/// Row 3.
pub(super) fn not_granted(message: &str) -> Decision {
    Decision::idle(Summary::stalled(Reason::NotGranted, message))
}

/// Row 4.
pub(super) fn rival(wish: &Wish, other: &str) -> Decision {
    Decision::idle(Summary::stalled(
        Reason::Conflict,
        format!("SackerTag '{other}' already has {}; delete one of the two", subject(wish)),
    ))
}

/// Row 5, where the ledger is known to be down: nobody asks it, its recovery wakes everyone.
pub(super) fn ledger_down(message: &str) -> Decision {
    Decision::idle(Summary::unknown(Reason::LedgerUnavailable, message))
}

/// Row 5, and every other failure of a read.
pub(super) fn ledger_failed(error: &Error) -> Decision {
    let (class, reason) = place(error.meaning());
    let message = match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    };
    let (summary, again) = match class {
        Class::Stalled => (Summary::stalled(reason, message), Again::After(SLOW)),
        Class::Waiting => (Summary::waiting(reason, message), Again::After(SLOW)),
        Class::Transient => (Summary::unknown(reason, message), Again::Backoff),
    };
    Decision { plan: Plan::Nothing, summary, again }
}

/// Row 6.
pub(super) fn followed_absent(message: &str) -> Decision {
    Decision::idle(Summary::waiting(Reason::FollowedTagNotFound, message))
}

/// Row 7.
pub(super) fn soaking(version: Version, followed: &str, until: Timestamp, left: Duration) -> Decision {
    let message = format!(
        "version {version} of '{followed}' soaks until {}; then the tag is moved",
        time::format(until)
    );
    Decision {
        plan: Plan::Nothing,
        summary: Summary::waiting(Reason::Soaking, message),
        again: Again::In(left),
    }
}

/// Row 8. The poll wakes the object when the package changes.
pub(super) fn version_absent(message: &str) -> Decision {
    Decision::idle(Summary::waiting(
        Reason::VersionNotFound,
        format!("{message}; the tag is moved as soon as it is there"),
    ))
}

/// Row 9.
pub(super) fn owned(wish: &Wish, owner: &str) -> Decision {
    let summary = match owner.strip_prefix(&wish.cluster_prefix) {
        Some(other) => Summary::stalled(
            Reason::Conflict,
            format!("SackerTag '{other}' owns {}; delete it there first", subject(wish)),
        ),
        None => Summary::stalled(
            Reason::Owned,
            format!("{} is owned by '{owner}'; its owner must give it up first", subject(wish)),
        ),
    };
    Decision::idle(summary)
}

/// Row 10.
pub(super) fn held(wish: &Wish, target: Version, in_place: bool, hold: &Hold) -> Decision {
    let summary = if in_place {
        Summary::ready(Reason::Applied, format!("{} points at version {target}", subject(wish)))
    } else {
        let message = format!("the tag is held by {hold}; only `sacker release` ends that");
        Summary::new(ConditionStatus::False, Reason::Held, message, Progress::Settled)
    };
    Decision::idle(summary)
}

fn applied(wish: &Wish, target: Version) -> Summary {
    Summary::ready(Reason::Applied, format!("{} points at version {target}", subject(wish)))
}

/// Row 11.
pub(super) fn adopt(wish: &Wish, target: Version, expected: Expected) -> Decision {
    Decision { plan: Plan::Adopt(expected), summary: applied(wish, target), again: Again::OnChange }
}

/// Row 12.
pub(super) fn in_place(wish: &Wish, target: Version) -> Decision {
    Decision::idle(applied(wish, target))
}

/// Row 13.
pub(super) fn unexpected(wish: &Wish, expected: Version, found: Option<Version>) -> Decision {
    Decision::idle(Summary::stalled(
        Reason::Conflict,
        format!(
            "{} points {}, not at version {expected} as spec.expectedVersion says; nothing was moved",
            subject(wish),
            points_at(found)
        ),
    ))
}

fn drifted(wish: &Wish, target: Version, found: Option<Version>, who: &str) -> String {
    format!("{} points {}, not at version {target}: moved by {who}", subject(wish), points_at(found))
}

/// Row 14, `Report`.
pub(super) fn drift_reported(wish: &Wish, target: Version, found: Option<Version>, who: &str) -> Decision {
    let message = drifted(wish, target, found, who);
    let mut summary =
        Summary::new(ConditionStatus::False, Reason::Drifted, message.clone(), Progress::Settled);
    summary.drifted = Some(message);
    Decision::idle(summary)
}

/// Row 14, `Enforce`, too early.
pub(super) fn drift_waits(
    wish: &Wish,
    target: Version,
    found: Option<Version>,
    who: &str,
    allowed: Timestamp,
) -> Decision {
    let message = drifted(wish, target, found, who);
    let mut summary = Summary::waiting(Reason::Drifted, message.clone());
    summary.drifted = Some(message);
    Decision { plan: Plan::Nothing, summary, again: Again::At(allowed) }
}

/// Row 14, `Enforce`.
pub(super) fn drift_undone(
    wish: &Wish,
    target: Version,
    expected: Expected,
    found: Option<Version>,
    who: &str,
) -> Decision {
    let mut decision = move_to(wish, target, expected);
    decision.summary.drifted = Some(drifted(wish, target, found, who));
    decision
}

/// Row 15.
pub(super) fn move_to(wish: &Wish, to: Version, expected: Expected) -> Decision {
    Decision { plan: Plan::Move { to, expected }, summary: applied(wish, to), again: Again::OnChange }
}
