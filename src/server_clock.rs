//! What a server's clock says, learned from the `Date` of its answers; and what to do about a clock of ours that differs.
//!
//! Versions of a timestamp ledger are numbers of the *server's* clock, since that is the one clock which writers share.
//! Not responsible for where a `Date` comes from (an interceptor of the AWS clients), nor for leases and deadlines, which
//! need no wall time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::error::{Error, Result};

/// A clock that is further off than this is worth a warning.
pub const NOTABLE_SKEW: SignedDuration = SignedDuration::from_secs(2);

/// From here on the clock is plainly wrong, and nothing is numbered unless asked for: whatever else this machine writes
/// (times in histories, signatures) is wrong too.
pub const REFUSED_SKEW: SignedDuration = SignedDuration::from_mins(1);

/// What is known widens by this part of its age: two clocks that are kept by NTP drift apart by at most 500 ppm each.
const DRIFT: u32 = 1000;

/// By how much the server's clock may be ahead of the `Date` it sends. The header has whole seconds, and some servers (those
/// on fasthttp, versitygw among them, and nginx) make it once a second rather than once an answer.
pub const DATE_LAG: Duration = Duration::from_secs(2);

/// Bounds of (the server's Unix time - our monotonic time). The monotonic clock is the base because it never jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    low: SignedDuration,
    high: SignedDuration,
    /// When they were right, on the monotonic clock.
    at: Duration,
}

impl Bounds {
    /// The server answered with this `Date` between `sent` and `received`.
    fn of(date: Timestamp, sent: Duration, received: Duration) -> Option<Self> {
        let date = date.as_duration();
        let low = date.checked_sub(received.try_into().ok()?)?;
        let high = date.checked_add(DATE_LAG.try_into().ok()?)?.checked_sub(sent.try_into().ok()?)?;
        Some(Self { low, high, at: received })
    }

    /// The same knowledge at `now`.
    fn aged(self, now: Duration) -> Self {
        let drift = SignedDuration::try_from(now.saturating_sub(self.at) / DRIFT).unwrap_or_default();
        Self {
            low: self.low.saturating_sub(drift),
            high: self.high.saturating_add(drift),
            at: self.at.max(now),
        }
    }

    /// What both say; only `newer` where they contradict each other, as after a step of either clock.
    fn and(self, newer: Self) -> Self {
        let older = self.aged(newer.at);
        let both = Self {
            low: older.low.max(newer.low),
            high: older.high.min(newer.high),
            at: older.at.max(newer.at),
        };
        if both.low <= both.high { both } else { newer }
    }

    /// `local` moved by as little as possible to where the server's clock can be, and the earliest that it can be.
    fn correct(self, local: Timestamp, monotonic: Duration) -> Option<(Timestamp, Timestamp)> {
        let aged = self.aged(monotonic);
        let base = SignedDuration::try_from(monotonic).ok()?;
        let low = Timestamp::from_duration(aged.low.checked_add(base)?).ok()?;
        let high = Timestamp::from_duration(aged.high.checked_add(base)?).ok()?;
        Some((local.clamp(low, high), low))
    }
}

/// The time by a server's clock, and how far our own is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTime {
    /// Our own time as long as the server's may be the same; else the nearest that the server's can be.
    pub time: Timestamp,
    /// Our own clock minus `time`: zero, or how far ours is ahead at least (behind: negative).
    pub skew: SignedDuration,
    /// The earliest that the server's can be.
    pub earliest: Timestamp,
}

impl ServerTime {
    /// `one minute ahead of`, for messages.
    pub fn words(&self) -> String {
        let seconds = self.skew.unsigned_abs().as_secs_f64();
        let side = if self.skew.is_negative() { "behind" } else { "ahead of" };
        format!("{seconds:.1} s {side}")
    }

    /// A time that the server's clock has come to: for what must not happen too early.
    pub fn reached(&self) -> Timestamp {
        if self.skew.is_zero() { self.time } else { self.earliest }
    }

    /// Whether the difference is worth a warning.
    pub fn is_notable(&self) -> bool {
        self.skew.abs() > NOTABLE_SKEW
    }

    /// # Errors
    /// `Invalid` when our clock is off by [`REFUSED_SKEW`] or more.
    pub fn check(&self) -> Result<()> {
        if self.skew.abs() < REFUSED_SKEW {
            return Ok(());
        }
        let rule = format!("this machine's clock is {} the server's", self.words());
        Err(Error::invalid(rule).with_hint(
            "set the clock right, or add with --allow-skew: the version is numbered by the server's clock then",
        ))
    }
}

/// One server's clock, as far as its answers told.
#[derive(Debug)]
pub struct ServerClock {
    clock: Arc<dyn Clock>,
    known: Mutex<Option<Bounds>>,
}

impl ServerClock {
    /// Nothing is known yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// The monotonic time: to be taken before a request is sent.
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Takes note of an answer with this `Date`, which came just now to what was sent at `sent`.
    pub fn observe(&self, date: Timestamp, sent: Duration) {
        let Some(newer) = Bounds::of(date, sent, self.clock.monotonic()) else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(known.map_or(newer, |older| older.and(newer)));
    }

    /// The time now; nothing before the first answer.
    pub fn now(&self) -> Option<ServerTime> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let local = self.clock.now();
        let (time, earliest) = known?.correct(local, self.clock.monotonic())?;
        Some(ServerTime { time, skew: local.duration_since(time), earliest })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(text: &str) -> Timestamp {
        text.parse().expect(text)
    }

    /// Clocks that stand where they are put.
    #[derive(Debug)]
    struct Standing(Mutex<(Timestamp, Duration)>);

    impl Clock for Standing {
        fn now(&self) -> Timestamp {
            self.0.lock().expect("no panic").0
        }
        fn monotonic(&self) -> Duration {
            self.0.lock().expect("no panic").1
        }
    }

    fn standing(text: &str) -> (Arc<Standing>, ServerClock) {
        let clock = Arc::new(Standing(Mutex::new((at(text), SECOND * 100))));
        (clock.clone(), ServerClock::new(clock))
    }

    #[test]
    fn nothing_is_known_before_an_answer() {
        let (_, server) = standing("2026-11-21T12:00:00Z");
        assert_eq!(server.now(), None);
    }

    #[test]
    fn an_honest_clock_keeps_its_milliseconds() {
        let (clock, server) = standing("2026-11-21T12:00:00.437Z");
        server.observe(at("2026-11-21T12:00:00Z"), clock.monotonic());
        let found = server.now().expect("known");
        assert_eq!((found.time, found.skew), (clock.now(), SignedDuration::ZERO));
        assert_eq!(found.reached(), clock.now());
        assert!(!found.is_notable());
        found.check().expect("honest");
    }

    #[test]
    fn a_wrong_clock_is_moved_as_little_as_the_answer_allows() {
        for (local, corrected, skew) in [
            ("2026-11-21T12:10:00Z", "2026-11-21T12:00:02Z", 598),
            ("2026-11-21T11:50:00Z", "2026-11-21T12:00:00Z", -600),
            ("2026-11-21T12:00:04Z", "2026-11-21T12:00:02Z", 2),
            ("2026-11-21T12:00:04.5Z", "2026-11-21T12:00:02Z", 2),
        ] {
            let (clock, server) = standing(local);
            server.observe(at("2026-11-21T12:00:00Z"), clock.monotonic());
            let found = server.now().expect("known");
            assert_eq!(found.time, at(corrected), "{local}");
            assert_eq!(found.reached(), at("2026-11-21T12:00:00Z"), "{local}");
            assert_eq!(found.skew.as_secs(), skew, "{local}");
            assert_eq!(found.is_notable(), found.skew.abs() > SignedDuration::from_secs(2), "{local}");
            assert_eq!(found.check().is_err(), skew.abs() >= 60, "{local}");
        }
    }

    #[test]
    fn a_refusal_says_how_far_and_what_to_do() {
        let noon = at("2026-11-21T12:00:00Z");
        let time = ServerTime { time: noon, skew: SignedDuration::from_millis(-60_000), earliest: noon };
        let error = time.check().expect_err("off");
        assert_eq!(error.to_string(), "this machine's clock is 60.0 s behind the server's");
        assert!(error.hint().is_some_and(|hint| hint.contains("--allow-skew")), "{error:?}");
    }

    /// A jump of our own wall clock does not take what is known about the server's with it.
    #[test]
    fn the_server_is_known_over_a_jump_of_our_clock() {
        let (clock, server) = standing("2026-11-21T12:00:00.500Z");
        server.observe(at("2026-11-21T12:00:00Z"), clock.monotonic());
        *clock.0.lock().expect("no panic") = (at("2026-11-21T13:00:00Z"), SECOND * 110);
        let found = server.now().expect("known");
        assert!(found.time <= at("2026-11-21T12:00:12.020Z"), "{found:?}");
        found.check().expect_err("an hour off");
    }

    #[test]
    fn a_server_whose_clock_was_stepped_is_believed() {
        let (clock, server) = standing("2026-11-21T12:00:00.500Z");
        server.observe(at("2026-11-21T12:00:00Z"), clock.monotonic());
        server.observe(at("2026-11-21T15:00:00Z"), clock.monotonic());
        assert_eq!(server.now().expect("known").time, at("2026-11-21T15:00:00Z"));
    }

    proptest! {
        /// Whatever the answers were, also of a server that makes its date once a second, the corrected time of a clock that
        /// is off is within what one exchange leaves open of the server's true time; and a clock that is right is never
        /// touched.
        #[test]
        fn the_corrected_time_is_near_the_truth(
            offset_ms in -10_000_000_i64..10_000_000,
            skew_ms in prop_oneof![Just(0_i64), -1_000_000_i64..1_000_000],
            exchanges in prop::collection::vec((0_u64..5_000, 0_u64..400, 0_u64..400, 0_i64..1_000), 1..12),
        ) {
            // The server's clock: 2026 plus `offset` plus the monotonic time.
            let start = at("2026-11-21T12:00:00Z").as_millisecond() + offset_ms;
            let truth = |monotonic: Duration| start + i64::try_from(monotonic.as_millis()).expect("small");
            let clock = Arc::new(Standing(Mutex::new((at("2026-11-21T12:00:00Z"), Duration::ZERO))));
            let server = ServerClock::new(clock.clone());
            let mut now = Duration::ZERO;
            let put = |monotonic: Duration| {
                let local = Timestamp::from_millisecond(truth(monotonic) + skew_ms).expect("in range");
                *clock.0.lock().expect("no panic") = (local, monotonic);
            };
            let mut slowest = 0;
            for (pause, forth, back, stale) in exchanges {
                let sent = now + Duration::from_millis(pause);
                let made = (truth(sent + Duration::from_millis(forth)) - stale).div_euclid(1000);
                now = sent + Duration::from_millis(forth + back);
                put(now);
                server.observe(Timestamp::from_second(made).expect("in range"), sent);
                slowest = slowest.max(forth + back);
            }
            let found = server.now().expect("known");
            let off = found.time.as_millisecond() - truth(now);
            let open = 2_000 + i64::try_from(slowest).expect("small") + 1;
            prop_assert!(off.abs() <= open, "off by {off} ms, {open} ms were open");
            if skew_ms == 0 {
                prop_assert_eq!(found.skew, SignedDuration::ZERO);
            }
        }
    }
}
