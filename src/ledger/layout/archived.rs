//! Which events are known to be in the history, per process: spares a read per move of a tag that this process moved or
//! looked at before.
//!
//! Rows of the history are create-only and never deleted, so what was seen there once stays there. Bounded; forgetting
//! costs a read. Not responsible for whose event has a number (the row decides).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{Event, PackageName, TagName};

/// Tags that are remembered, about 200 bytes each.
const MOST: usize = 10_000;

/// The newest event of each tag that was seen in the history.
#[derive(Debug, Default)]
pub(super) struct Archived(Mutex<HashMap<(PackageName, TagName), (u64, String)>>);

impl Archived {
    /// The history has this event under its number.
    pub(super) fn remember(&self, package: &PackageName, tag: &TagName, event: &Event) {
        let mut seen = self.lock();
        if seen.len() >= MOST {
            // Simple, and rare: as many reads as there are tags, spread over their next moves.
            seen.clear();
        }
        let newest = seen.entry((package.clone(), tag.clone())).or_default();
        if newest.0 <= event.seq {
            *newest = (event.seq, event.id.clone());
        }
    }

    /// Whether the history is known to have this event under its number.
    pub(super) fn has(&self, package: &PackageName, tag: &TagName, event: &Event) -> bool {
        let key = (package.clone(), tag.clone());
        self.lock().get(&key).is_some_and(|(seq, id)| *seq == event.seq && *id == event.id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(PackageName, TagName), (u64, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::adopt_legacy;

    #[test]
    fn only_the_very_event_counts() {
        let event = |id: &str| adopt_legacy(None, None, Timestamp::UNIX_EPOCH, id.to_owned());
        let (package, tag) = (PackageName::existing("p"), TagName::existing("live"));
        let archived = Archived::default();
        archived.remember(&package, &tag, &event("a"));
        assert!(archived.has(&package, &tag, &event("a")));
        assert!(!archived.has(&package, &tag, &event("b")), "another has its number");
        assert!(!archived.has(&package, &TagName::existing("other"), &event("a")));
        let next = adopt_legacy(Some(&event("a")), None, Timestamp::UNIX_EPOCH, "c".to_owned());
        archived.remember(&package, &tag, &next);
        archived.remember(&package, &tag, &event("a"));
        assert!(archived.has(&package, &tag, &next), "the newest stays");
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let event = adopt_legacy(None, None, Timestamp::UNIX_EPOCH, "a".to_owned());
        let archived = Archived::default();
        for number in 0..MOST * 2 + 5 {
            archived.remember(&PackageName::existing("p"), &TagName::existing(format!("t{number}")), &event);
        }
        assert!(archived.lock().len() <= MOST);
    }
}
