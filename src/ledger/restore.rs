//! What an import hands to a ledger: a tag with its whole history, and the decision what of it is still to be written.
//!
//! Pure: the backends read what is there, ask [`TagDump::missing_from`], and create what it names. Not responsible for the
//! format of an export ([`crate::dump`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Event, EventKind, EventSource, TagName, TagState, Version};

/// What putting a record back came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// It was written, or what an interrupted import had left out.
    Written,
    /// The very same was there.
    AlreadyThere,
}

/// Where a tag points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pointer {
    /// Where its last event says; that event also says whether the tag was removed.
    Event,
    /// Where a client of 2015 put it since, or without any history; nothing for a word that names no version.
    Legacy(Option<Version>),
    /// Nowhere, although its last event says where: a client of 2015 deleted it.
    Deleted,
}

/// A tag with all that a ledger knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagDump {
    /// The tag.
    pub tag: TagName,
    /// Where it points.
    pub pointer: Pointer,
    /// Its history, oldest first.
    pub events: Vec<Event>,
}

/// What of a tag a ledger does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingParts {
    /// The positions of the events.
    pub events: Vec<usize>,
    /// Whether the pointer is to be written.
    pub pointer: bool,
}

impl MissingParts {
    /// Whether the ledger has it all.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && !self.pointer
    }
}

/// Why a tag cannot be put back: what the ledger has is no earlier state of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// What would have fitted.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl TagDump {
    /// A tag from what [`Ledger::tags`](super::Ledger::tags) shows of it (nothing: it is not set) and its history. Events
    /// that came after that look are left out. Nothing for a tag that never was.
    ///
    /// The second value says whether the two parts certainly belong together. If not, a client of 2015 interferes, or the
    /// tag moved between the two looks: whoever finds the same again knows which.
    pub fn of(tag: TagName, state: Option<&TagState>, mut events: Vec<Event>) -> Option<(Self, bool)> {
        let (pointer, certain) = match state {
            Some(TagState { event: Some(event), version, .. }) => {
                match events.iter().position(|there| there.id == event.id && there.seq == event.seq) {
                    Some(position) => {
                        events.truncate(position + 1);
                        (Pointer::Event, true)
                    }
                    // What is not in the history was never acknowledged: the next writer takes it for a 2015 client's.
                    None => (Pointer::Legacy(*version), false),
                }
            }
            Some(TagState { version, .. }) => (Pointer::Legacy(*version), false),
            None => match events.last()?.to {
                None => (Pointer::Event, true),
                Some(_) => (Pointer::Deleted, false),
            },
        };
        Some((Self { tag, pointer, events }, certain))
    }

    /// Where the tag points.
    pub fn version(&self) -> Option<Version> {
        match self.pointer {
            Pointer::Event => self.events.last().and_then(|event| event.to),
            Pointer::Legacy(version) => version,
            Pointer::Deleted => None,
        }
    }

    /// What of this tag is missing where `there` is all that there is of it. Whatever is there must be an earlier state of
    /// this tag: an import goes on where it was interrupted, and overwrites nothing else.
    ///
    /// # Errors
    /// What contradicts this tag.
    pub fn missing_from(&self, there: Option<&Self>) -> Result<MissingParts, Contradiction> {
        let nothing = Self { tag: self.tag.clone(), pointer: Pointer::Deleted, events: Vec::new() };
        let there = there.unwrap_or(&nothing);
        let own: BTreeMap<u64, &Event> = self.events.iter().map(|event| (event.seq, event)).collect();
        for found in &there.events {
            let own = own.get(&found.seq);
            if own.is_none_or(|own| own.canonical() != found.canonical()) {
                return Err(Contradiction {
                    expected: own.map_or_else(
                        || format!("no event {}", found.seq),
                        |own| format!("event {} with id '{}'", own.seq, own.id),
                    ),
                    found: format!("event {} with id '{}'", found.seq, found.id),
                });
            }
        }
        let known: BTreeSet<u64> = there.events.iter().map(|event| event.seq).collect();
        let missing = self.events.iter().enumerate().filter(|(_, event)| !known.contains(&event.seq));
        let events: Vec<usize> = missing.map(|(position, _)| position).collect();
        let same = events.is_empty() && there.pointer == self.pointer;
        let earlier = match (there.pointer, self.pointer) {
            // Nothing ever deletes a pointer but a client of 2015.
            (Pointer::Event, Pointer::Deleted) => there.version().is_none(),
            // The second: an import that was interrupted leaves a history without a pointer.
            (Pointer::Event | Pointer::Deleted, _) => true,
            // What that client wrote entered this history next.
            (Pointer::Legacy(version), _) => {
                events.first().map(|position| &self.events[*position]).is_some_and(|next| {
                    (next.kind, next.source) == (EventKind::Adopt, EventSource::Legacy) && next.to == version
                })
            }
        };
        if same || earlier {
            let pointer = !same && self.pointer != Pointer::Deleted;
            return Ok(MissingParts { events, pointer });
        }
        Err(Contradiction { expected: self.shown(), found: there.shown() })
    }

    /// Where the tag points, in words.
    fn shown(&self) -> String {
        let version =
            self.version().map_or_else(|| "no version".to_owned(), |version| format!("version {version}"));
        match (self.pointer, self.events.last()) {
            (Pointer::Event, Some(event)) => format!("{version} since event {}", event.seq),
            (Pointer::Legacy(_), _) => format!("{version} as a 2015 client wrote it"),
            (Pointer::Deleted | Pointer::Event, _) => "no tag".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{Actor, Change, Current, Next, TagChange, adopt_legacy, next_event};

    fn version(number: i64) -> Version {
        Version::new(number).expect("positive")
    }

    fn after(events: &[Event], change: Change) -> Event {
        let actor = Actor { by: "ann".into(), reason: None, source: EventSource::Cli };
        let current =
            Current { version: events.last().and_then(|event| event.to), last: events.last().cloned() };
        match next_event(&current, &TagChange::new(change, actor), Timestamp::UNIX_EPOCH) {
            Ok(Next::Commit(event)) => *event,
            other => panic!("{other:?}"),
        }
    }

    /// Moves to 1, 2, 3, ...
    fn moves(count: i64) -> Vec<Event> {
        let mut events = Vec::new();
        for to in 1..=count {
            events.push(after(&events, Change::Move { to: version(to), hold: None }));
        }
        events
    }

    fn dump(pointer: Pointer, events: &[Event]) -> TagDump {
        TagDump { tag: TagName::existing("live"), pointer, events: events.to_vec() }
    }

    fn state(version: Option<Version>, event: Option<&Event>) -> TagState {
        TagState { tag: TagName::existing("live"), version, event: event.cloned() }
    }

    #[test]
    fn a_tag_is_put_together_from_two_looks() {
        let events = moves(3);
        let mut untagged = events.clone();
        untagged.push(after(&events, Change::Untag));
        let of = |state: Option<&TagState>, events: &[Event]| {
            TagDump::of(TagName::existing("live"), state, events.to_vec())
                .map(|(dump, certain)| (dump.pointer, dump.events.len(), certain))
        };
        let second = state(Some(version(2)), Some(&events[1]));
        assert_eq!(of(Some(&second), &events), Some((Pointer::Event, 2, true)), "later events are left out");
        assert_eq!(of(Some(&second), &events[..1]), Some((Pointer::Legacy(Some(version(2))), 1, false)));
        let legacy = state(Some(version(7)), None);
        assert_eq!(of(Some(&legacy), &events), Some((Pointer::Legacy(Some(version(7))), 3, false)));
        assert_eq!(of(Some(&state(None, None)), &[]), Some((Pointer::Legacy(None), 0, false)));
        assert_eq!(of(None, &untagged), Some((Pointer::Event, 4, true)));
        assert_eq!(of(None, &events), Some((Pointer::Deleted, 3, false)));
        assert_eq!(of(None, &[]), None);
    }

    #[test]
    fn what_is_missing_is_written_and_nothing_else() {
        let events = moves(3);
        let whole = dump(Pointer::Event, &events);
        let missing = |events: &[usize], pointer| Ok(MissingParts { events: events.to_vec(), pointer });
        assert_eq!(whole.missing_from(None), missing(&[0, 1, 2], true));
        assert_eq!(whole.missing_from(Some(&whole)), missing(&[], false));
        // Interrupted at every step.
        for done in 1..=3 {
            let there = dump(Pointer::Deleted, &events[..done]);
            let rest: Vec<usize> = (done..3).collect();
            assert_eq!(whole.missing_from(Some(&there)), missing(&rest, true), "{done}");
        }
        let holes = dump(Pointer::Deleted, &[events[0].clone(), events[2].clone()]);
        assert_eq!(whole.missing_from(Some(&holes)), missing(&[1], true));
        // An older export was imported before.
        assert_eq!(whole.missing_from(Some(&dump(Pointer::Event, &events[..2]))), missing(&[2], true));
    }

    #[test]
    fn another_history_is_a_contradiction() {
        let (events, others) = (moves(3), moves(3));
        let whole = dump(Pointer::Event, &events);
        let refused =
            |own: &TagDump, there: &TagDump| own.missing_from(Some(there)).expect_err("contradicts");
        refused(&whole, &dump(Pointer::Event, &others));
        refused(&whole, &dump(Pointer::Event, &others[..1]));
        refused(&dump(Pointer::Event, &events[..2]), &whole);
        let mut edited = events.clone();
        edited[1].reason = Some("forged".into());
        refused(&whole, &dump(Pointer::Event, &edited));
        refused(&dump(Pointer::Deleted, &events), &whole);
    }

    #[test]
    fn what_a_2015_client_wrote_is_kept_unless_the_history_took_it_in() {
        let mut events = moves(1);
        let legacy = Pointer::Legacy(Some(version(7)));
        let before = dump(legacy, &events);
        events.push(adopt_legacy(events.last(), Some(version(7)), Timestamp::UNIX_EPOCH, "id".into()));
        let adopted = dump(Pointer::Event, &events);
        let rest = MissingParts { events: vec![1], pointer: true };
        assert_eq!(adopted.missing_from(Some(&before)), Ok(rest));
        let other = dump(Pointer::Legacy(Some(version(8))), &events[..1]);
        adopted.missing_from(Some(&other)).expect_err("it wrote something else");
        other.missing_from(Some(&before)).expect_err("two different writes");
        assert!(before.missing_from(Some(&before)).expect("the same").is_empty());
        let only = dump(legacy, &[]);
        assert!(only.missing_from(None).expect("nothing there").pointer);
    }
}
