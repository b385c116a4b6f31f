//! Time as a value that can be injected: wall time for records, monotonic time for deadlines.
//!
//! Everything that stamps a record takes a [`Clock`], so that tests can freeze or skew it without touching
//! the system clock. Not responsible for formatting; see [`crate::model::time`].

use std::fmt::Debug;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;

/// A source of wall and monotonic time.
pub trait Clock: Send + Sync + Debug {
    /// The wall time, for records and people. May jump.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary fixed start. Counts suspend and never goes backwards, so it is the one to
    /// measure deadlines and leases with.
    fn monotonic(&self) -> Duration;

    /// Waits. By the runtime's timers, unless a test has its own time.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

/// The system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        // CLOCK_BOOTTIME: a lease must also run out while a laptop or a stopped VM sleeps.
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}
