//! Where a tag pointed before, the way back.

use super::{Event, Version};

/// The versions that a tag, which points to `current`, came by, nearest first: where a rollback goes, and where the
/// next one would.
///
/// The way is what is left of a history when each return takes back what came after its target: of 1, 2, 3, 2 that is
/// 1, 2. A second rollback therefore goes further back and never forward again to what was rolled back.
pub fn earlier(history: &[Event], current: Option<Version>) -> Vec<Version> {
    let mut way: Vec<Version> = Vec::new();
    // A 2015 client moves a tag without an event, so where it points is the last step.
    for version in history.iter().filter_map(|event| event.to).chain(current) {
        match way.iter().position(|there| *there == version) {
            Some(place) => way.truncate(place + 1),
            None => way.push(version),
        }
    }
    if current.is_some() {
        way.pop();
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Actor, Change, Current, EventSource, Next, TagChange, next_event};

    fn version(number: i64) -> Version {
        Version::new(number).expect("positive")
    }

    /// The history of these moves; 0 removes the tag.
    fn history(moves: &[i64]) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        for to in moves {
            let change = match to {
                0 => Change::Untag,
                to => Change::Move { to: version(*to), hold: None },
            };
            let actor = Actor { by: "ann".into(), reason: None, source: EventSource::Cli };
            let current =
                Current { version: events.last().and_then(|event| event.to), last: events.last().cloned() };
            match next_event(&current, &TagChange::new(change, actor), jiff::Timestamp::UNIX_EPOCH) {
                Ok(Next::Commit(event)) => events.push(*event),
                other => panic!("{other:?}"),
            }
        }
        events
    }

    #[test]
    fn a_return_takes_back_what_came_after_its_target() {
        for (moves, current, expected) in [
            (&[][..], None, &[][..]),
            (&[1], Some(1), &[]),
            (&[1, 2], Some(2), &[1]),
            (&[1, 2, 3], Some(3), &[2, 1]),
            (&[1, 2, 3, 2], Some(2), &[1]),
            (&[1, 2, 3, 2, 3], Some(3), &[2, 1]),
            (&[1, 2, 3, 2, 4], Some(4), &[2, 1]),
            (&[1, 2, 1], Some(1), &[]),
            // Removed and set again: the way goes on.
            (&[1, 2, 0, 3], Some(3), &[2, 1]),
            // A 2015 client moved it since, or put it to nothing.
            (&[1, 2], Some(5), &[2, 1]),
            (&[1, 2], None, &[2, 1]),
        ] {
            let numbers: Vec<i64> =
                earlier(&history(moves), current.map(version)).into_iter().map(Version::get).collect();
            assert_eq!(numbers, expected, "{moves:?}, now {current:?}");
        }
    }
}
