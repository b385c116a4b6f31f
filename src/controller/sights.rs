//! Since when this process has seen each followed tag point where it points: time that passed, whatever any clock says.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::model::Version;

/// Where a followed tag points, and the ledger's time of the move that brought it there.
type Place = (Version, Option<Timestamp>);

/// By the uid of the SackerTag that follows: what it saw last, and when (monotonic) for the first time.
#[derive(Debug, Default)]
pub struct Sights(Mutex<HashMap<String, (Place, Duration)>>);

impl Sights {
    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Place, Duration)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long this has been seen at `now` (monotonic). Where it moved away and back meanwhile, the later move counts.
    pub(super) fn seen_for(&self, uid: &str, place: Place, now: Duration) -> Duration {
        let mut all = self.all();
        let first = match all.get(uid) {
            Some((known, first)) if *known == place => *first,
            _ => {
                all.insert(uid.to_owned(), (place, now));
                now
            }
        };
        now.saturating_sub(first)
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.all().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_move_begins_anew() {
        let sights = Sights::default();
        let second = Duration::from_secs(1);
        let at = |second| Timestamp::from_second(second).ok();
        let version = Version::FIRST;
        assert_eq!(sights.seen_for("a", (version, at(5)), second), Duration::ZERO);
        assert_eq!(sights.seen_for("a", (version, at(5)), second * 4), second * 3);
        assert_eq!(sights.seen_for("b", (version, at(5)), second * 4), Duration::ZERO);
        assert_eq!(sights.seen_for("a", (version, at(7)), second * 4), Duration::ZERO);
        sights.forget("b");
        assert_eq!(sights.seen_for("b", (version, at(5)), second * 9), Duration::ZERO);
    }
}
