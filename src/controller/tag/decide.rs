//! What is to be done for one SackerTag: a pure function of what was read. No I/O, no clock.
//!
//! The rows are those of `docs/api/sackertag.md`; the first that matches wins. Rows 1 to 4 need nothing from the ledger
//! and are decided before it is asked: a namespace without access causes no ledger call at all.

use std::time::Duration;

use jiff::Timestamp;

use super::row;
use crate::api::DriftPolicy;
use crate::api::conditions::Summary;
use crate::error::Error;
use crate::model::{Expected, Hold, Version};

/// How often a tag that others keep moving is moved back, at most.
pub(super) const ENFORCE_INTERVAL: Duration = Duration::from_secs(10);

/// What the SackerTag wants, besides its target.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// The package, for messages.
    pub(super) package: String,
    /// The tag, for messages.
    pub(super) tag: String,
    /// Our owner string.
    pub(super) me: String,
    /// What every owner string of this cluster's SackerTags begins with.
    pub(super) cluster_prefix: String,
    /// Move only from there.
    pub(super) expected: Option<Version>,
    /// What to do if someone else moved it.
    pub(super) drift: DriftPolicy,
    /// Whether this generation of the spec was in force in the ledger before.
    pub(super) was_applied: bool,
}

/// The state of the SackerLedger that a SackerTag names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LedgerState {
    /// There is no such object.
    Missing(String),
    /// It is not ready, for this reason.
    NotReady(String),
    /// It is known to be down, as this message says.
    Down(String),
    /// It can be asked.
    Ready,
}

/// What Kubernetes says.
#[derive(Debug, Clone)]
pub(super) struct ClusterView {
    /// `spec.suspend`.
    pub(super) suspended: bool,
    /// The SackerLedger.
    pub(super) ledger: LedgerState,
    /// Why the namespace may not tag the package, if it may not.
    pub(super) denial: Option<String>,
    /// `<namespace>/<name>` of the SackerTag that has the better claim, if one has.
    pub(super) rival: Option<String>,
}

/// Who moved the tag to where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mover {
    /// This SackerTag.
    Us,
    /// Someone else, in words.
    Other(String),
}

/// The tag as it is in the ledger.
#[derive(Debug, Clone)]
pub(super) struct Pointer {
    /// Where it points; nothing if it was removed.
    pub(super) version: Option<Version>,
    /// What a compare-and-swap expects.
    pub(super) expected: Expected,
    /// Who owns it.
    pub(super) owner: Option<String>,
    /// The hold in force.
    pub(super) hold: Option<Hold>,
    /// Who moved it last.
    pub(super) mover: Mover,
    /// When we last changed it.
    pub(super) own_write: Option<Timestamp>,
}

/// Where the tag should point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// At this version, which exists.
    Version(Version),
    /// At a version that does not exist, as this message says.
    Absent(String),
    /// Where a tag points that does not exist.
    FollowedAbsent(String),
    /// At this version, but not yet.
    Soaking {
        /// The version.
        version: Version,
        /// The tag it is followed through.
        followed: String,
        /// When the time is over, by the ledger's clock.
        until: Timestamp,
        /// How long it takes until then, by whatever clock.
        left: Duration,
    },
}

/// What the ledger says.
#[derive(Debug, Clone)]
pub(super) struct LedgerView {
    /// The tag; nothing if it was never set.
    pub(super) pointer: Option<Pointer>,
    /// Where it should point.
    pub(super) target: Target,
}

/// What to do to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing.
    Nothing,
    /// Take ownership of the tag as it is.
    Adopt(Expected),
    /// Move it.
    Move {
        /// To this version.
        to: Version,
        /// If it still is like this.
        expected: Expected,
    },
}

/// When to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// When something changes: the object, its ledger, its namespace or its package.
    OnChange,
    /// Also after this long: what changes is nowhere to be seen from here.
    After(Duration),
    /// At this time.
    At(Timestamp),
    /// After exactly this long.
    In(Duration),
    /// Soon, with growing pauses: trying again may help.
    Backoff,
}

/// What to do, and what to say about it once it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    /// What to do.
    pub(super) plan: Plan,
    /// What to say.
    pub(super) summary: Summary,
    /// When to look again.
    pub(super) again: Again,
}

impl Decision {
    pub(super) fn idle(summary: Summary) -> Self {
        Self { plan: Plan::Nothing, summary, again: Again::OnChange }
    }
}

/// Rows 1 to 4 and the known half of 5: what can be decided without the ledger. Nothing means: ask it.
pub(super) fn before_ledger(wish: &Wish, cluster: &ClusterView) -> Option<Decision> {
    if cluster.suspended {
        return Some(row::suspended());
    }
    match &cluster.ledger {
        LedgerState::Missing(message) => return Some(row::ledger_missing(message)),
        LedgerState::NotReady(message) => return Some(row::ledger_not_ready(message)),
        LedgerState::Down(_) | LedgerState::Ready => {}
    }
    if let Some(denial) = &cluster.denial {
        return Some(row::not_granted(denial));
    }
    if let Some(rival) = &cluster.rival {
        return Some(row::rival(wish, rival));
    }
    match &cluster.ledger {
        LedgerState::Down(message) => Some(row::ledger_down(message)),
        _ => None,
    }
}

/// All rows.
pub(super) fn decide(
    wish: &Wish,
    cluster: &ClusterView,
    ledger: Result<&LedgerView, &Error>,
    now: Timestamp,
) -> Decision {
    if let Some(decision) = before_ledger(wish, cluster) {
        return decision;
    }
    let ledger = match ledger {
        Ok(ledger) => ledger,
        Err(error) => return row::ledger_failed(error),
    };
    let pointer = ledger.pointer.as_ref();
    let hold = pointer.and_then(|pointer| pointer.hold.as_ref());
    let mut decision = decide_target(wish, ledger, now);
    // Whatever else is the matter, a hold is worth knowing.
    decision.summary.held = hold.map(|hold| format!("the tag is held by {hold}"));
    decision
}

fn decide_target(wish: &Wish, ledger: &LedgerView, now: Timestamp) -> Decision {
    let target = match &ledger.target {
        Target::FollowedAbsent(message) => return row::followed_absent(message),
        Target::Soaking { version, followed, until, left } => {
            return row::soaking(*version, followed, *until, *left);
        }
        Target::Absent(message) => return row::version_absent(message),
        Target::Version(version) => *version,
    };
    let Some(pointer) = &ledger.pointer else {
        return match wish.expected {
            Some(expected) => row::unexpected(wish, expected, None),
            None => row::move_to(wish, target, Expected::Seq(0)),
        };
    };
    let ours = pointer.owner.as_deref() == Some(wish.me.as_str());
    if let Some(owner) = pointer.owner.as_deref().filter(|_| !ours) {
        return row::owned(wish, owner);
    }
    let in_place = pointer.version == Some(target);
    if let Some(hold) = &pointer.hold {
        return row::held(wish, target, in_place, hold);
    }
    if in_place {
        return if ours { row::in_place(wish, target) } else { row::adopt(wish, target, pointer.expected) };
    }
    if let Some(expected) = wish.expected.filter(|expected| pointer.version != Some(*expected)) {
        return row::unexpected(wish, expected, pointer.version);
    }
    if let (true, Mover::Other(who)) = (wish.was_applied, &pointer.mover) {
        return decide_drift(wish, target, pointer, who, now);
    }
    row::move_to(wish, target, pointer.expected)
}

/// Row 14: someone else moved the tag after this very spec had been in force.
fn decide_drift(wish: &Wish, target: Version, pointer: &Pointer, who: &str, now: Timestamp) -> Decision {
    match wish.drift {
        DriftPolicy::Report => row::drift_reported(wish, target, pointer.version, who),
        DriftPolicy::Enforce => {
            let allowed = pointer.own_write.and_then(|at| at.checked_add(ENFORCE_INTERVAL).ok());
            match allowed.filter(|allowed| *allowed > now) {
                Some(allowed) => row::drift_waits(wish, target, pointer.version, who, allowed),
                None => row::drift_undone(wish, target, pointer.expected, pointer.version, who),
            }
        }
    }
}
