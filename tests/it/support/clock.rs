//! Clocks that are off, for what is given one.

use jiff::{SignedDuration, Timestamp};
use sacker::clock::{Clock, SystemClock};
use std::time::Duration;

/// A wall clock that is off by this much. Its monotonic time is right: that counts and never jumps, whatever the date is set to.
#[derive(Debug)]
pub(crate) struct Skewed(pub(crate) SignedDuration);

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        SystemClock.now() + self.0
    }
    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}
