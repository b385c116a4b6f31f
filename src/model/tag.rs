//! What a change does to a tag: the one decision that every ledger runs before its compare-and-swap.
//!
//! Pure: the backends read the current state, ask [`next_event`], and commit the answer on condition that nothing
//! changed meanwhile.

use std::fmt;

use jiff::Timestamp;

use super::{Event, EventKind, EventSource, Hold, TagName, Version};
use crate::error::Meaning;

/// A tag as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagState {
    /// The tag.
    pub tag: TagName,
    /// Where it points; nothing when it was removed, or when a 2015 client wrote a word where a number belongs.
    pub version: Option<Version>,
    /// The event that put it there; nothing when a 2015 client wrote it since.
    pub event: Option<Event>,
}

impl TagState {
    /// Whether it is set, be it to nothing: without an event a 2015 client wrote it, and what it wrote is there.
    pub fn is_there(&self) -> bool {
        self.version.is_some() || self.event.is_none()
    }

    /// The number of the last event, 0 for a tag that only 2015 clients wrote.
    pub fn seq(&self) -> u64 {
        self.event.as_ref().map_or(0, |event| event.seq)
    }

    /// Who owns the tag.
    pub fn owner(&self) -> Option<&str> {
        self.event.as_ref()?.owner.as_deref()
    }

    /// The hold in force.
    pub fn hold(&self) -> Option<&Hold> {
        self.event.as_ref()?.hold.as_ref()
    }
}

/// What is to be done to a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Point it to this version; with a hold in the same step if a reason for one is given.
    Move {
        /// The version, which must exist.
        to: Version,
        /// Hold the tag there, for this reason.
        hold: Option<String>,
    },
    /// Remove it.
    Untag,
    /// Hold it where it is, for this reason.
    Hold {
        /// Why nothing may move it.
        reason: String,
    },
    /// End the hold.
    Release,
    /// Take ownership of it as it is.
    Adopt,
    /// Give up ownership.
    Disown,
}

/// What the caller believes about the tag; anything else is a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is there.
    Any,
    /// The tag points to this version.
    Version(Version),
    /// The tag's last event has this number; 0 means that it has none.
    Seq(u64),
}

/// With what right the caller acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// As nobody in particular: refused on a tag that a robot owns.
    Nobody,
    /// As this owner: refused on a tag that someone else owns; owns it afterwards.
    Owner(String),
    /// Whoever owns it: this owner does afterwards.
    TakeOver(String),
}

/// Owners with this prefix are people: they keep robots out, and not each other.
const PEOPLE: &str = "cli:";

impl Claim {
    fn allows(&self, owner: Option<&str>) -> bool {
        match (self, owner) {
            (_, None) | (Self::TakeOver(_), _) => true,
            (Self::Nobody, Some(owner)) => owner.starts_with(PEOPLE),
            (Self::Owner(me), Some(owner)) => me == owner,
        }
    }

    fn owner_after(&self, owner: Option<&str>) -> Option<String> {
        match self {
            Self::Nobody => owner.map(str::to_owned),
            Self::Owner(me) | Self::TakeOver(me) => Some(me.clone()),
        }
    }
}

/// Who acts, and why: what the history will say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Who asked.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// Through what.
    pub source: EventSource,
}

/// One request to change one tag. The id is fresh per request and stays the same over its retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagChange {
    /// What to do.
    pub change: Change,
    /// What must hold before.
    pub expected: Expected,
    /// With what right.
    pub claim: Claim,
    /// Who and why.
    pub actor: Actor,
    /// The id of the event this makes.
    pub id: String,
}

impl TagChange {
    /// A change by `actor` with no expectation, as nobody in particular.
    pub fn new(change: Change, actor: Actor) -> Self {
        Self {
            change,
            expected: Expected::Any,
            claim: Claim::Nobody,
            actor,
            id: uuid::Uuid::new_v4().to_string(),
        }
    }

    /// Only if the tag is as `expected`.
    #[must_use]
    pub fn expecting(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }

    /// With this right.
    #[must_use]
    pub fn claiming(mut self, claim: Claim) -> Self {
        self.claim = claim;
        self
    }
}

/// What the ledger holds for a tag right now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Current {
    /// Where the tag points.
    pub version: Option<Version>,
    /// The last event of its history, also when the tag was removed since.
    pub last: Option<Event>,
}

/// What to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The tag already is as asked: write nothing.
    Unchanged,
    /// Commit this event, on condition that the tag is still as it was read.
    Commit(Box<Event>),
}

struct Shown(Option<Version>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(version) => write!(f, "version {version}"),
            None => f.write_str("no version"),
        }
    }
}

/// Checks what the caller believes about the tag.
///
/// # Errors
/// `Conflict`, with what was expected and what is there.
pub fn check_expected(current: &Current, expected: Expected) -> Result<(), Meaning> {
    let seq = current.last.as_ref().map_or(0, |event| event.seq);
    match expected {
        Expected::Any => Ok(()),
        Expected::Version(version) if current.version == Some(version) => Ok(()),
        Expected::Version(version) => Err(Meaning::Conflict {
            expected: Shown(Some(version)).to_string(),
            found: Shown(current.version).to_string(),
        }),
        Expected::Seq(expected) if expected == seq => Ok(()),
        Expected::Seq(expected) => Err(Meaning::Conflict {
            expected: format!("event {expected}"),
            found: format!("event {seq} ({})", Shown(current.version)),
        }),
    }
}

/// The event that `change` makes of `current` at time `at`.
///
/// # Errors
/// `Conflict` when the expectation does not hold, `Owned` and `Held` when someone else's claim or a hold forbids
/// it, `Invalid` for a change of a tag that does not exist (the caller turns that into its `NotFound`).
pub fn next_event(current: &Current, change: &TagChange, at: Timestamp) -> Result<Next, Meaning> {
    let owner = current.last.as_ref().and_then(|event| event.owner.as_deref());
    let hold = current.last.as_ref().and_then(|event| event.hold.as_ref());
    let seq = current.last.as_ref().map_or(0, |event| event.seq);

    check_expected(current, change.expected)?;
    let moves = matches!(change.change, Change::Move { .. } | Change::Untag);
    let claims = matches!(change.change, Change::Adopt | Change::Disown);
    if (moves || claims) && !change.claim.allows(owner) {
        return Err(Meaning::Owned { owner: owner.unwrap_or_default().to_owned() });
    }
    // A move to where the tag already points is no move: it must succeed also under a hold, so that a repeated
    // request of a robot stays quiet.
    if let (true, Some(hold)) = (moves, hold) {
        let stays = matches!(change.change, Change::Move { to, .. } if current.version == Some(to));
        if !stays {
            return Err(Meaning::Held(hold.clone()));
        }
    }

    let at = super::time::to_milliseconds(at);
    let new_hold = |reason: &str| Hold { at, by: change.actor.by.clone(), reason: reason.to_owned() };
    let mut to = current.version;
    let mut owner_after = owner.map(str::to_owned);
    let mut hold_after = hold.cloned();
    let kind = match &change.change {
        Change::Move { to: target, hold: reason } => {
            owner_after = change.claim.owner_after(owner);
            if let (Some(reason), None) = (reason, hold) {
                hold_after = Some(new_hold(reason));
            }
            if current.version != Some(*target) {
                to = Some(*target);
                EventKind::Move
            } else if hold_after.as_ref() != hold {
                EventKind::Hold
            } else if owner_after.as_deref() != owner {
                EventKind::Adopt
            } else {
                return Ok(Next::Unchanged);
            }
        }
        // Nothing is left to own or hold; `seq` goes on if the tag is set again.
        Change::Untag => {
            if current.version.is_none() {
                return Ok(Next::Unchanged);
            }
            (to, owner_after, hold_after) = (None, None, None);
            EventKind::Untag
        }
        Change::Hold { reason } => {
            if current.version.is_none() {
                return Err(Meaning::Invalid { rule: "only an existing tag can be held".into() });
            }
            hold_after = Some(new_hold(reason));
            EventKind::Hold
        }
        Change::Release => {
            if hold.is_none() {
                return Ok(Next::Unchanged);
            }
            hold_after = None;
            EventKind::Release
        }
        Change::Adopt => {
            if current.version.is_none() {
                return Err(Meaning::Invalid { rule: "only an existing tag can be adopted".into() });
            }
            owner_after = change.claim.owner_after(owner);
            if owner_after.as_deref() == owner {
                return Ok(Next::Unchanged);
            }
            EventKind::Adopt
        }
        Change::Disown => {
            if owner.is_none() {
                return Ok(Next::Unchanged);
            }
            owner_after = None;
            EventKind::Disown
        }
    };
    Ok(Next::Commit(Box::new(Event {
        at,
        by: change.actor.by.clone(),
        from: current.version,
        hold: hold_after,
        id: change.id.clone(),
        kind,
        owner: owner_after,
        prev: current.last.as_ref().map(Event::digest),
        reason: change.actor.reason.clone(),
        seq: seq + 1,
        source: change.actor.source,
        to,
        extra: std::collections::BTreeMap::new(),
    })))
}

/// The event that takes a 2015 client's write into the history, which ends with `last`: the pointer now says `found`,
/// or is gone. Owner and hold stay in force, since that client knows neither.
pub fn adopt_legacy(last: Option<&Event>, found: Option<Version>, at: Timestamp, id: String) -> Event {
    Event {
        at: super::time::to_milliseconds(at),
        by: "unknown (2015 client)".to_owned(),
        from: last.and_then(|event| event.to),
        hold: last.and_then(|event| event.hold.clone()),
        id,
        kind: if found.is_some() { EventKind::Adopt } else { EventKind::Untag },
        owner: last.and_then(|event| event.owner.clone()),
        prev: last.map(Event::digest),
        reason: None,
        seq: last.map_or(1, |event| event.seq + 1),
        source: EventSource::Legacy,
        to: found,
        extra: std::collections::BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::verify_chain;

    fn version(number: i64) -> Version {
        Version::new(number).expect("positive")
    }

    fn now() -> Timestamp {
        "2026-11-21T10:00:00.123456Z".parse().expect("a time")
    }

    fn change(change: Change) -> TagChange {
        TagChange::new(change, Actor { by: "alice".into(), reason: None, source: EventSource::Cli })
    }

    fn commit(current: &Current, change: &TagChange) -> Event {
        match next_event(current, change, now()).expect("allowed") {
            Next::Commit(event) => *event,
            Next::Unchanged => panic!("nothing to commit"),
        }
    }

    #[test]
    fn any_sequence_of_changes_makes_one_chain() {
        proptest::proptest!(|(steps in proptest::collection::vec((0_u8..7, 1_i64..4, 0_u8..3), 1..60))| {
            let mut current = Current::default();
            let mut events: Vec<Event> = Vec::new();
            for (what, number, who) in steps {
                let owner = format!("k8s:cluster/ns/{who}");
                let claim = match who {
                    0 => Claim::Nobody,
                    1 => Claim::Owner(owner),
                    _ => Claim::TakeOver(owner),
                };
                let to = version(number);
                let what = match what {
                    0 | 1 => Change::Move { to, hold: None },
                    2 => Change::Untag,
                    3 => Change::Hold { reason: "x".into() },
                    4 => Change::Release,
                    5 => Change::Adopt,
                    _ => Change::Disown,
                };
                let held = current.last.as_ref().is_some_and(|event| event.hold.is_some());
                if let Ok(Next::Commit(event)) = next_event(&current, &change(what).claiming(claim), now()) {
                    if held {
                        proptest::prop_assert_eq!(event.from, event.to, "a held tag moved");
                    }
                    current = Current { version: event.to, last: Some((*event).clone()) };
                    events.push(*event);
                }
            }
            proptest::prop_assert!(verify_chain(&events).is_ok());
        });
    }

    #[test]
    fn times_are_cut_to_milliseconds() {
        let event = commit(&Current::default(), &change(Change::Move { to: version(1), hold: None }));
        assert_eq!(super::super::time::format(event.at), "2026-11-21T10:00:00.123Z");
    }

    #[test]
    fn a_2015_clients_write_keeps_owner_and_hold() {
        let owned = change(Change::Move { to: version(1), hold: Some("incident".into()) })
            .claiming(Claim::Owner("k8s:c/n/x".into()));
        let first = commit(&Current::default(), &owned);
        let adopted = adopt_legacy(Some(&first), Some(version(2)), now(), "id".into());
        assert_eq!((adopted.kind, adopted.source, adopted.seq), (EventKind::Adopt, EventSource::Legacy, 2));
        assert_eq!(
            (adopted.owner.as_ref(), adopted.hold.as_ref()),
            (first.owner.as_ref(), first.hold.as_ref())
        );
        let deleted = adopt_legacy(Some(&adopted), None, now(), "id2".into());
        assert_eq!((deleted.kind, deleted.to), (EventKind::Untag, None));
        verify_chain(&[first, adopted, deleted]).expect("one chain");
    }
}
