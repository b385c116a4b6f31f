//! Pauses between attempts: exponential, full jitter, bounded by a deadline.
//!
//! For loops that decide anew before each attempt (a lost compare-and-swap, an unsettled write). Plain repetition of one
//! request is the client library's own business; never both for one call.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;

/// The pauses of one operation.
#[derive(Debug)]
pub struct Backoff {
    clock: Arc<dyn Clock>,
    end: Duration,
    ceiling: Duration,
}

/// The first pause is at most this long: about one round trip within a region.
const FIRST: Duration = Duration::from_millis(10);

/// No pause is longer than this, so that a loop of racers keeps moving.
const LONGEST: Duration = Duration::from_secs(1);

impl Backoff {
    /// Pauses for an operation that must end within `deadline` from now.
    pub fn new(clock: Arc<dyn Clock>, deadline: Duration) -> Self {
        let end = clock.monotonic().saturating_add(deadline);
        Self { clock, end, ceiling: FIRST }
    }

    /// Waits a random time up to the current ceiling, which doubles. Returns false, at once, when the deadline would
    /// pass meanwhile: the caller then reports what it has.
    pub async fn pause(&mut self) -> bool {
        let pause = self.ceiling.mul_f64(fastrand::f64());
        self.ceiling = (self.ceiling * 2).min(LONGEST);
        if self.clock.monotonic() + pause >= self.end {
            return false;
        }
        self.clock.sleep(pause).await;
        true
    }
}
