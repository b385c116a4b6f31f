//! How long blobs live without a reference, and what follows for those who write them.
//!
//! One length, the grace G, decides everything; whoever writes to a store and whoever collects its garbage must use the
//! same, so it is part of the store's URI. The reasoning is in `docs/adr/0009`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::server_clock::DATE_LAG;

/// G where nobody says otherwise.
const GRACE: Duration = Duration::from_hours(24);

/// Two times of a store that are closer than this may be in either order: one may be the time of an object, the other the
/// `Date` of an answer.
pub const RESOLUTION: Duration = DATE_LAG;

/// The times that follow from the grace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    grace: Duration,
}

impl Timing {
    /// The times of a store with this grace, or with the usual one.
    pub fn new(grace: Option<Duration>) -> Self {
        Self { grace: grace.unwrap_or(GRACE) }
    }

    /// G: an unreferenced blob is left alone for at least this long after it was last written.
    pub const fn grace(self) -> Duration {
        self.grace
    }

    /// G/2: a blob that is younger need not be written again by whoever wants to refer to it.
    pub fn fresh_for(self) -> Duration {
        self.grace / 2
    }

    /// T = G/24: the reference to a blob is written within this time after the blob was ensured, or it is ensured again.
    /// G/2 is much longer than T, so that collection never meets a blob whose reference is on its way.
    pub fn publish_within(self) -> Duration {
        self.grace / 24
    }

    /// Whether a blob that was written at `modified` need not be written again at `now`; both by the store's clock. What is
    /// not known is not fresh.
    pub fn is_fresh(self, modified: Option<Timestamp>, now: Option<Timestamp>) -> bool {
        let (Some(modified), Some(now)) = (modified, now) else { return false };
        let age = now.duration_since(modified).saturating_add(signed(RESOLUTION));
        age < signed(self.fresh_for())
    }
}

/// The stricter of two.
pub(super) fn strictest(timings: impl Iterator<Item = Timing>) -> Timing {
    timings.min_by_key(|timing| timing.grace).unwrap_or_else(|| Timing::new(None))
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "a time may be unknown")]
    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(seconds).expect("a time"))
    }

    #[test]
    fn a_blob_is_fresh_for_half_the_grace() {
        let timing = Timing::new(Some(Duration::from_secs(100)));
        for (modified, now, fresh) in [
            (at(1000), at(1000), true),
            (at(1000), at(1047), true),
            // What the server's dates leave open counts against it.
            (at(1000), at(1048), false),
            (at(1000), at(2000), false),
            // By a clock that was set back: collection measures by the same clock.
            (at(1000), at(900), true),
            (None, at(1000), false),
            (at(1000), None, false),
        ] {
            assert_eq!(timing.is_fresh(modified, now), fresh, "{modified:?} {now:?}");
        }
    }

    #[test]
    fn the_usual_times_are_a_day_and_an_hour() {
        let timing = Timing::new(None);
        assert_eq!(timing.grace(), Duration::from_hours(24));
        assert_eq!(timing.publish_within(), Duration::from_hours(1));
        assert!(timing.publish_within() * 2 < timing.fresh_for());
    }
}
