//! When to try again: per object, exponential with full jitter, reset on success; and intervals that do not march in
//! step. kube-rs has neither.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The first pause is at most this long.
const FIRST: Duration = Duration::from_secs(1);

/// No pause is longer than this. A ledger's recovery wakes its objects anyway; this is for what no event announces.
const LONGEST: Duration = Duration::from_mins(2);

#[derive(Debug, Clone, Copy)]
struct Entry {
    failures: u32,
    until: Duration,
}

/// The pauses of all objects of one controller, by uid.
#[derive(Debug, Default)]
pub struct Backoffs(Mutex<HashMap<String, Entry>>);

impl Backoffs {
    /// Notes a failure at `now` (monotonic) and returns the pause before the next try. A failure before the pause is over
    /// (a pass that something else triggered) does not lengthen it.
    pub fn failed(&self, uid: &str, now: Duration) -> Duration {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(uid.to_owned()).or_insert(Entry { failures: 0, until: now });
        if entry.failures == 0 || now >= entry.until {
            let pause = full_jitter(FIRST, LONGEST, entry.failures);
            *entry = Entry { failures: entry.failures.saturating_add(1), until: now + pause };
        }
        entry.until.saturating_sub(now)
    }

    /// Forgets the failures of an object: it succeeded, or it is gone.
    pub fn reset(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// A random pause up to `first * 2^failures`, at most `longest`, at least a tenth of `first`: a pause of nothing would
/// be a hot loop.
pub fn full_jitter(first: Duration, longest: Duration, failures: u32) -> Duration {
    let ceiling = first.saturating_mul(2_u32.saturating_pow(failures)).min(longest);
    let floor = first / 10;
    floor + ceiling.saturating_sub(floor).mul_f64(fastrand::f64())
}

/// `interval`, 10 % more or less.
pub fn jitter(interval: Duration) -> Duration {
    interval.mul_f64(fastrand::f64().mul_add(0.2, 0.9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_stay_bounded_and_reset() {
        let backoffs = Backoffs::default();
        let mut now = Duration::ZERO;
        for failures in 0..20 {
            let pause = backoffs.failed("a", now);
            let ceiling = FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST);
            assert!(pause <= ceiling && pause >= FIRST / 10, "{failures}: {pause:?}");
            now += pause;
        }
        backoffs.reset("a");
        assert!(backoffs.failed("a", now) <= FIRST);
    }

    #[test]
    fn a_spurious_pass_does_not_lengthen_the_pause() {
        let backoffs = Backoffs::default();
        let first = backoffs.failed("a", Duration::ZERO);
        let early = first / 2;
        for _ in 0..10 {
            assert_eq!(backoffs.failed("a", early), first.checked_sub(early).unwrap());
        }
        assert!(backoffs.failed("a", first) <= FIRST * 2);
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        for _ in 0..1000 {
            let interval = jitter(Duration::from_secs(30));
            assert!((Duration::from_secs(27)..=Duration::from_secs(33)).contains(&interval));
        }
    }
}
