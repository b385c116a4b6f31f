//! The decision, row by row.

use std::time::Duration;

use jiff::Timestamp;

use super::decide::{
    Again, ClusterView, Decision, LedgerState, LedgerView, Mover, Plan, Pointer, Target, Wish, decide,
};
use crate::api::conditions::{ConditionStatus, Progress};
use crate::api::{DriftPolicy, Reason};
use crate::controller::SLOW;
use crate::error::{Error, Meaning, Missing};
use crate::model::{Expected, Hold, PackageName, Version};

const ME: &str = "k8s:here/web/live";

fn version(number: i64) -> Version {
    Version::new(number).expect("positive")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

const NOW: i64 = 1_000_000;

/// A situation to start from: target 2, the tag ours at 1 by our own move, everything granted.
struct Situation {
    wish: Wish,
    cluster: ClusterView,
    pointer: Option<Pointer>,
    target: Target,
}

impl Situation {
    fn new() -> Self {
        Self {
            wish: Wish {
                package: "frontend".into(),
                tag: "live".into(),
                me: ME.into(),
                cluster_prefix: "k8s:here/".into(),
                expected: None,
                drift: DriftPolicy::Enforce,
                was_applied: false,
            },
            cluster: ClusterView { suspended: false, ledger: LedgerState::Ready, denial: None, rival: None },
            pointer: Some(Pointer {
                version: Some(version(1)),
                expected: Expected::Seq(7),
                owner: Some(ME.into()),
                hold: None,
                mover: Mover::Us,
                own_write: Some(at(NOW - 3600)),
            }),
            target: Target::Version(version(2)),
        }
    }

    fn pointer(&mut self) -> &mut Pointer {
        self.pointer.as_mut().expect("there is one")
    }

    fn decide(&self) -> Decision {
        let view = LedgerView { pointer: self.pointer.clone(), target: self.target.clone() };
        decide(&self.wish, &self.cluster, Ok(&view), at(NOW))
    }

    fn fail(&self, meaning: Meaning) -> Decision {
        decide(&self.wish, &self.cluster, Err(&Error::new(meaning, "read the tag")), at(NOW))
    }
}

fn hold() -> Hold {
    Hold { at: at(5), by: "alice".into(), reason: "incident 7".into() }
}

type Change = fn(&mut Situation);

#[test]
fn nothing_is_written() {
    use ConditionStatus::{False, True, Unknown};
    use Progress::{Reconciling, Settled, Stalled};
    let rows: &[(&str, Change, ConditionStatus, Reason, Progress)] = &[
        (
            "row 1 suspended",
            |s| {
                s.cluster.suspended = true;
                s.cluster.denial = Some("no".into());
            },
            Unknown,
            Reason::Suspended,
            Settled,
        ),
        (
            "row 2 missing",
            |s| s.cluster.ledger = LedgerState::Missing("none".into()),
            False,
            Reason::LedgerNotFound,
            Reconciling,
        ),
        (
            "row 2 not ready",
            |s| s.cluster.ledger = LedgerState::NotReady("why".into()),
            False,
            Reason::LedgerNotReady,
            Reconciling,
        ),
        (
            "row 3 not granted",
            |s| s.cluster.denial = Some("no rule".into()),
            False,
            Reason::NotGranted,
            Stalled,
        ),
        (
            "row 3 before 4",
            |s| {
                s.cluster.denial = Some("no rule".into());
                s.cluster.rival = Some("a/b".into());
            },
            False,
            Reason::NotGranted,
            Stalled,
        ),
        (
            "row 3 before 5",
            |s| {
                s.cluster.denial = Some("no rule".into());
                s.cluster.ledger = LedgerState::Down("dead".into());
            },
            False,
            Reason::NotGranted,
            Stalled,
        ),
        ("row 4 rival", |s| s.cluster.rival = Some("other/live".into()), False, Reason::Conflict, Stalled),
        (
            "row 5 down",
            |s| s.cluster.ledger = LedgerState::Down("dead".into()),
            Unknown,
            Reason::LedgerUnavailable,
            Reconciling,
        ),
        (
            "row 6 followed absent",
            |s| s.target = Target::FollowedAbsent("none".into()),
            False,
            Reason::FollowedTagNotFound,
            Reconciling,
        ),
        ("row 7 soaking", |s| s.target = soaking(60), False, Reason::Soaking, Reconciling),
        (
            "row 8 version absent",
            |s| s.target = Target::Absent("package 'frontend' has no version 2".into()),
            False,
            Reason::VersionNotFound,
            Reconciling,
        ),
        (
            "row 8 before 9",
            |s| {
                s.target = Target::Absent("gone".into());
                s.pointer().owner = Some("cli:bob".into());
            },
            False,
            Reason::VersionNotFound,
            Reconciling,
        ),
        (
            "row 9 owned",
            |s| s.pointer().owner = Some("k8s:there/web/live".into()),
            False,
            Reason::Owned,
            Stalled,
        ),
        (
            "row 9 owned by a person",
            |s| s.pointer().owner = Some("cli:bob".into()),
            False,
            Reason::Owned,
            Stalled,
        ),
        (
            "row 9 owned in place",
            |s| {
                s.pointer().owner = Some("cli:bob".into());
                s.pointer().version = Some(version(2));
            },
            False,
            Reason::Owned,
            Stalled,
        ),
        (
            "row 9 owned by kin",
            |s| s.pointer().owner = Some("k8s:here/other/live".into()),
            False,
            Reason::Conflict,
            Stalled,
        ),
        ("row 10 held", |s| s.pointer().hold = Some(hold()), False, Reason::Held, Settled),
        (
            "row 10 held in place",
            |s| {
                s.pointer().hold = Some(hold());
                s.pointer().version = Some(version(2));
            },
            True,
            Reason::Applied,
            Settled,
        ),
        (
            "row 10 held in place without owner",
            |s| {
                s.pointer().hold = Some(hold());
                s.pointer().owner = None;
                s.pointer().version = Some(version(2));
            },
            True,
            Reason::Applied,
            Settled,
        ),
        ("row 12 in place", |s| s.pointer().version = Some(version(2)), True, Reason::Applied, Settled),
        (
            "row 12 before 13",
            |s| {
                s.pointer().version = Some(version(2));
                s.wish.expected = Some(version(1));
            },
            True,
            Reason::Applied,
            Settled,
        ),
        ("row 13 unexpected", |s| s.wish.expected = Some(version(9)), False, Reason::Conflict, Stalled),
        (
            "row 13 expected of nothing",
            |s| {
                s.wish.expected = Some(version(9));
                s.pointer = None;
            },
            False,
            Reason::Conflict,
            Stalled,
        ),
        (
            "row 13 before 14",
            |s| {
                s.wish.expected = Some(version(9));
                drift(s);
            },
            False,
            Reason::Conflict,
            Stalled,
        ),
        (
            "row 14 report",
            |s| {
                drift(s);
                s.wish.drift = DriftPolicy::Report;
            },
            False,
            Reason::Drifted,
            Settled,
        ),
        (
            "row 14 too early",
            |s| {
                drift(s);
                s.pointer().own_write = Some(at(NOW - 3));
            },
            False,
            Reason::Drifted,
            Reconciling,
        ),
    ];
    for (row, change, ready, reason, progress) in rows {
        let mut situation = Situation::new();
        change(&mut situation);
        let decision = situation.decide();
        assert_eq!(decision.plan, Plan::Nothing, "{row}");
        let summary = &decision.summary;
        assert_eq!((summary.ready, summary.reason, summary.progress), (*ready, *reason, *progress), "{row}");
        assert!(!summary.message.is_empty(), "{row}");
    }
}

fn drift(situation: &mut Situation) {
    situation.wish.was_applied = true;
    situation.pointer().mover = Mover::Other("'bob'".into());
}

#[test]
fn something_is_written() {
    let moved = || Plan::Move { to: version(2), expected: Expected::Seq(7) };
    let rows: &[(&str, Change, Plan)] = &[
        (
            "row 11 adopt",
            |s| {
                s.pointer().version = Some(version(2));
                s.pointer().owner = None;
            },
            Plan::Adopt(Expected::Seq(7)),
        ),
        ("row 14 enforce", drift, moved()),
        (
            "row 14 needs that we had applied it",
            |s| s.pointer().mover = Mover::Other("'bob'".into()),
            moved(),
        ),
        ("row 15 move", |_| {}, moved()),
        ("row 15 from where it was expected", |s| s.wish.expected = Some(version(1)), moved()),
        ("row 15 after our own move", |s| s.wish.was_applied = true, moved()),
        ("row 15 not ours yet", |s| s.pointer().owner = None, moved()),
        ("row 15 removed tag", |s| s.pointer().version = None, moved()),
    ];
    for (row, change, plan) in rows {
        let mut situation = Situation::new();
        change(&mut situation);
        let decision = situation.decide();
        assert_eq!(decision.plan, *plan, "{row}");
        assert_eq!(decision.summary.ready, ConditionStatus::True, "{row}: what to say once it is done");
    }
}

#[test]
fn a_tag_that_never_was_is_created_on_condition_that_it_still_is_not() {
    let mut situation = Situation::new();
    situation.pointer = None;
    assert_eq!(situation.decide().plan, Plan::Move { to: version(2), expected: Expected::Seq(0) });
}

#[test]
fn messages_say_what_to_do_and_name_who_is_in_the_way() {
    for (change, parts) in [
        ((|s| s.cluster.rival = Some("other/live".into())) as Change, &["SackerTag 'other/live'"][..]),
        (|s| s.pointer().owner = Some("k8s:here/other/x".into()), &["SackerTag 'other/x'"]),
        (|s| s.pointer().owner = Some("k8s:there/a/b".into()), &["'k8s:there/a/b'"]),
        (|s| s.pointer().hold = Some(hold()), &["'alice'", "incident 7", "sacker release"]),
        (|s| s.wish.expected = Some(version(9)), &["at version 1", "not at version 9"]),
        (
            |s| {
                drift(s);
                s.wish.drift = DriftPolicy::Report;
            },
            &["'bob'", "at version 1", "version 2"],
        ),
    ] {
        let mut situation = Situation::new();
        change(&mut situation);
        let message = situation.decide().summary.message;
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[test]
fn a_hold_shows_whatever_else_is_the_matter() {
    let mut situation = Situation::new();
    situation.pointer().hold = Some(hold());
    situation.pointer().owner = Some("cli:bob".into());
    let summary = situation.decide().summary;
    assert_eq!(summary.reason, Reason::Owned);
    assert!(summary.held.is_some_and(|held| held.contains("alice")));
}

#[test]
fn drift_is_named_and_undone_at_most_once_per_ten_seconds() {
    let mut situation = Situation::new();
    drift(&mut situation);
    let undone = situation.decide();
    assert!(undone.summary.drifted.is_some_and(|note| note.contains("'bob'")));

    situation.pointer().own_write = Some(at(NOW - 4));
    let waits = situation.decide();
    assert_eq!(waits.again, Again::At(at(NOW + 6)));
    assert!(waits.summary.drifted.is_some());
}

fn soaking(seconds: u64) -> Target {
    let until = at(NOW) + Duration::from_secs(seconds);
    Target::Soaking {
        version: version(2),
        followed: "canary".into(),
        until,
        left: Duration::from_secs(seconds),
    }
}

#[test]
fn soaking_is_looked_at_again_at_the_exact_time() {
    let mut situation = Situation::new();
    situation.target = soaking(61);
    assert_eq!(situation.decide().again, Again::In(Duration::from_secs(61)));
}

#[test]
fn failures_have_their_class() {
    let situation = Situation::new();
    let package = PackageName::existing("frontend");
    for (meaning, ready, reason, again) in [
        (Meaning::Unavailable, ConditionStatus::Unknown, Reason::LedgerUnavailable, Again::Backoff),
        (Meaning::Throttled, ConditionStatus::Unknown, Reason::LedgerUnavailable, Again::Backoff),
        (
            Meaning::Denied { action: "GetItem".into(), resource: "table".into() },
            ConditionStatus::False,
            Reason::Denied,
            Again::After(SLOW),
        ),
        (
            Meaning::Corrupt { why: "no JSON".into() },
            ConditionStatus::False,
            Reason::Corrupt,
            Again::After(SLOW),
        ),
        (
            Meaning::NotFound(Missing::Package(package)),
            ConditionStatus::False,
            Reason::PackageNotFound,
            Again::After(SLOW),
        ),
        (Meaning::Other, ConditionStatus::Unknown, Reason::Internal, Again::Backoff),
    ] {
        let decision = situation.fail(meaning);
        assert_eq!(decision.plan, Plan::Nothing);
        assert_eq!((decision.summary.ready, decision.summary.reason, decision.again), (ready, reason, again));
    }
}
