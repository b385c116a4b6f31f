//! The history of a tag: one [`Event`] per change, chained by sha256 so that an edited or removed row shows.
//!
//! An event carries the whole state of its tag after it (version, owner, hold). The pointer of a tag therefore is
//! its last event, and a pointer that a 2015 client overwrote can be restored from the history.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Sha256, Version};

/// What an event did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The tag points to another version, or exists for the first time.
    Move,
    /// The tag was removed.
    Untag,
    /// The tag is held: no robot moves it.
    Hold,
    /// The hold ended.
    Release,
    /// An owner took the tag as it was, or a 2015 client's write entered the history.
    Adopt,
    /// The owner gave the tag up; it points where it pointed.
    Disown,
}

impl EventKind {
    /// The kind as it is stored and printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Move => "move",
            Self::Untag => "untag",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Adopt => "adopt",
            Self::Disown => "disown",
        }
    }
}

/// Through what an event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventSource {
    /// A person or script with the command line.
    Cli,
    /// The operator, for a SackerTag.
    Operator,
    /// An import of another ledger.
    Import,
    /// A client of 2015, which writes no events itself.
    Legacy,
}

impl EventSource {
    /// The source as it is stored and printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Operator => "operator",
            Self::Import => "import",
            Self::Legacy => "legacy",
        }
    }
}

/// A stop sign on a tag: until it is released, nothing moves the tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// When it was set.
    #[serde(with = "super::time")]
    pub at: Timestamp,
    /// Who set it.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' since {}: {}", self.by, super::time::format(self.at), self.reason)
    }
}

/// One row of a tag's history. `seq` counts 1, 2, 3, ... per package and tag, also over untag and re-tag.
///
/// The fields stand in alphabetical order, as they do in the canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the writer's clock; whole milliseconds.
    #[serde(with = "super::time")]
    pub at: Timestamp,
    /// Who asked for it.
    pub by: String,
    /// Where the tag pointed before; nothing for a tag that did not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Version>,
    /// The hold in force after the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// A fresh id per change: a writer whose reply was lost finds its own write by it.
    pub id: String,
    /// What it did.
    pub kind: EventKind,
    /// The owner after the event, such as `k8s:<cluster>/<namespace>/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The digest of the event before ([`Event::digest`]); nothing for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Sha256>,
    /// Why, in the words of whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The event's number in the tag's history, from 1.
    pub seq: u64,
    /// Through what it came.
    pub source: EventSource,
    /// Where the tag points after it; nothing after an untag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Version>,
    /// Fields of a later sacker: kept, so that the chain over them still holds.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Event {
    /// The canonical JSON: keys sorted, no white space, absent fields left out.
    pub fn canonical(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or(Value::Null);
        let mut text = String::new();
        write_canonical(&value, &mut text);
        text
    }

    /// The sha256 of the canonical JSON: what the next event carries as `prev`.
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.canonical().as_bytes())
    }
}

/// Sorts keys itself: whether `serde_json::Map` is sorted depends on a feature that any dependency may switch.
fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            text.push('{');
            for (position, (key, value)) in sorted.into_iter().enumerate() {
                if position > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

/// Where a history stops being one unbroken chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainBreak {
    /// The event at which it shows.
    pub seq: u64,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for ChainBreak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {}: {}", self.seq, self.why)
    }
}

/// Checks that `events`, in order, are one linear history from event 1: `seq` rises by 1, each `from` is the
/// `to` before it, each `prev` is the digest of the event before it.
///
/// # Errors
/// The first event that breaks the chain.
pub fn verify_chain(events: &[Event]) -> Result<(), ChainBreak> {
    let mut before: Option<&Event> = None;
    for event in events {
        let expected = before.map_or(1, |before| before.seq + 1);
        let broken = |why: String| Err(ChainBreak { seq: event.seq, why });
        if event.seq != expected {
            return broken(format!("seq is {}, expected {expected}", event.seq));
        }
        let from = before.and_then(|before| before.to);
        if event.from != from {
            return broken(format!("moves from {:?}, but the tag pointed to {from:?}", event.from));
        }
        if event.prev != before.map(Event::digest) {
            return broken(
                "the digest of the event before it does not match: a row was edited or removed".into(),
            );
        }
        before = Some(event);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, from: Option<i64>, to: Option<i64>, prev: Option<&Event>) -> Event {
        Event {
            at: "2026-11-21T10:00:00Z".parse().expect("a time"),
            by: "alice".into(),
            from: from.and_then(Version::new),
            hold: None,
            id: format!("id-{seq}"),
            kind: EventKind::Move,
            owner: None,
            prev: prev.map(Event::digest),
            reason: Some("größe \"x\"\n".into()),
            seq,
            source: EventSource::Cli,
            to: to.and_then(Version::new),
            extra: BTreeMap::new(),
        }
    }

    fn chain() -> Vec<Event> {
        let one = event(1, None, Some(1), None);
        let two = event(2, Some(1), Some(2), Some(&one));
        let three = event(3, Some(2), None, Some(&two));
        let four = event(4, None, Some(1), Some(&three));
        vec![one, two, three, four]
    }

    #[test]
    fn the_canonical_form_is_sorted_compact_and_fixed() {
        // Changing this text breaks the chain of every ledger that exists.
        let expected = "{\"at\":\"2026-11-21T10:00:00.000Z\",\"by\":\"alice\",\"id\":\"id-1\",\"kind\":\"move\",\
                        \"reason\":\"größe \\\"x\\\"\\n\",\"seq\":1,\"source\":\"cli\",\"to\":1}";
        assert_eq!(event(1, None, Some(1), None).canonical(), expected);
    }

    #[test]
    fn fields_of_a_later_sacker_stay_in_the_digest() {
        let text = event(1, None, Some(1), None)
            .canonical()
            .replace("\"kind\"", "\"approved\":{\"z\":1,\"a\":[2]},\"kind\"");
        let read: Event = serde_json::from_str(&text).expect("an event");
        assert!(
            read.canonical().starts_with("{\"approved\":{\"a\":[2],\"z\":1},\"at\""),
            "{}",
            read.canonical()
        );
        assert_ne!(read.digest(), event(1, None, Some(1), None).digest());
    }

    #[test]
    fn an_unbroken_chain_is_accepted() {
        verify_chain(&[]).expect("an empty one");
        verify_chain(&chain()).expect("a whole one");
    }

    #[test]
    fn every_doctored_chain_is_rejected() {
        type Doctor = fn(&mut Vec<Event>);
        let doctors: [(&str, Doctor); 7] = [
            ("a row removed from the middle", |chain| drop(chain.remove(1))),
            ("the first row removed", |chain| drop(chain.remove(0))),
            ("two rows swapped", |chain| chain.swap(1, 2)),
            ("a row twice", |chain| chain.insert(1, chain[1].clone())),
            ("an actor edited", |chain| chain[1].by = "mallory".into()),
            ("a target edited", |chain| chain[1].to = Version::new(9)),
            ("a forked chain", |chain| chain[2].from = Version::new(1)),
        ];
        for (what, doctor) in doctors {
            let mut doctored = chain();
            doctor(&mut doctored);
            verify_chain(&doctored).expect_err(what);
        }
    }
}
