//! Which part of a blob is asked for next, over how many connections, and when one is asked for a second time. Pure.
//!
//! Parts are started in order and no further ahead of the hash than the memory, or the page cache, should hold. One S3
//! connection brings 80 to 100 MB/s, so connections are added as long as that makes the whole faster; a part at the head
//! that is far behind the others' pace is raced by a second request for its remainder.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Connections at the beginning.
const FIRST_CONNECTIONS: usize = 2;

/// How long the pace with a number of connections is measured.
const ROUND: Duration = Duration::from_millis(200);

/// The same for the first number of them, which is only what others are compared with.
const FIRST_ROUND: Duration = Duration::from_millis(100);

/// How often to look whether a round is over, or a part slow.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// A pace counts as faster from this factor on.
const FASTER: f64 = 1.1;

/// A head part slower than the median by this factor is raced.
const STRAGGLES: f64 = 3.0;

/// How many finished parts the median is of.
const REMEMBERED: usize = 9;

/// A request should take so long at least, if the parts are there to be asked for: the 20 ms until its first byte, and what a
/// server does for each one whatever its size, are then a twentieth of it.
const REQUEST: Duration = Duration::from_millis(400);

/// Most bytes of a request.
const REQUEST_BYTES: u64 = 64 << 20;

/// Sizes that a plan keeps to, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Bytes of a part.
    pub(super) part: u64,
    /// How far a started part may reach beyond the end of the head's part.
    pub(super) ahead: u64,
    /// Most connections.
    pub(super) connections: usize,
}

/// A part that is coming in, with those that come after it by the same request.
#[derive(Debug, Clone)]
struct Running {
    index: usize,
    /// The end of the request: the first part that is not of it.
    until: usize,
    /// Nothing while the part would be too far ahead.
    since: Option<Duration>,
    started_at: u64,
    is_raced: bool,
}

/// One blob's parts.
#[derive(Debug)]
pub(super) struct Plan {
    size: u64,
    sizes: Sizes,
    /// Up to where each part was received.
    position: Vec<u64>,
    /// No part before this one is still to be asked for.
    next: usize,
    running: Vec<Running>,
    connections: usize,
    /// Bytes per second of the last finished parts.
    paces: VecDeque<f64>,
    round: Round,
}

/// One measurement of the whole pace.
#[derive(Debug, Default)]
struct Round {
    since: Duration,
    received: u64,
    /// The best pace so far, and how many connections it took.
    best: f64,
    enough: usize,
    /// More connections did not help.
    is_settled: bool,
    /// A connection had to wait for the head.
    is_held_up: bool,
}

impl Plan {
    /// `here` says how many bytes of each part are there already.
    pub(super) fn new(size: u64, sizes: Sizes, here: &[u64]) -> Self {
        let position = here.iter().zip(0_u64..).map(|(here, index)| index * sizes.part + here).collect();
        Self {
            size,
            sizes,
            position,
            next: 0,
            running: Vec::new(),
            connections: FIRST_CONNECTIONS.min(sizes.connections),
            paces: VecDeque::new(),
            round: Round::default(),
        }
    }

    /// The next part that should be asked for, at time `now`, while the hash is at `hashed`; nothing for now. The request
    /// for it is [`Plan::request`].
    pub(super) fn start(&mut self, hashed: u64, now: Duration) -> Option<usize> {
        while self.next < self.position.len() && !self.is_to_be_asked_for(self.next) {
            self.next += 1;
        }
        let index = self.next;
        if index >= self.position.len() || self.running.len() >= self.connections {
            return None;
        }
        if self.is_too_far_ahead(index, hashed) {
            self.round.is_held_up = true;
            return None;
        }
        let most = self.parts_of_a_request();
        let mut until = index + 1;
        while until < index + most && self.is_untouched(until) {
            until += 1;
        }
        self.next = until;
        let started_at = self.position[index];
        self.running.push(Running { index, until, since: Some(now), started_at, is_raced: false });
        Some(index)
    }

    /// A part whose request is there already, and that is no longer too far ahead.
    pub(super) fn resume(&mut self, hashed: u64, now: Duration) -> Option<usize> {
        let waits =
            |running: &Running| running.since.is_none() && !self.is_too_far_ahead(running.index, hashed);
        let Some(at) = self.running.iter().position(waits) else {
            self.round.is_held_up |= self.running.iter().any(|running| running.since.is_none());
            return None;
        };
        let running = &mut self.running[at];
        running.since = Some(now);
        running.started_at = self.position[running.index];
        Some(running.index)
    }

    /// The bytes to ask for with a part that was started.
    pub(super) fn request(&self, index: usize) -> Range<u64> {
        let until = self.running.iter().find(|running| running.index == index).map(|running| running.until);
        self.position[index]..self.end(until.unwrap_or(index + 1) - 1)
    }

    fn is_too_far_ahead(&self, index: usize, hashed: u64) -> bool {
        let head = hashed / self.sizes.part * self.sizes.part + self.sizes.part;
        self.end(index) > head.saturating_add(self.sizes.ahead)
    }

    fn is_to_be_asked_for(&self, index: usize) -> bool {
        let is_running = |running: &Running| (running.index..running.until).contains(&index);
        self.position[index] < self.end(index) && !self.running.iter().any(is_running)
    }

    /// Whether nothing of a part is there or on its way.
    fn is_untouched(&self, index: usize) -> bool {
        let begin = index as u64 * self.sizes.part;
        self.position.get(index) == Some(&begin) && self.is_to_be_asked_for(index)
    }

    /// How many parts are asked for at a time: more than one only where they come that fast, and no more than leave each
    /// connection its share of what may be ahead, and of what is left, so that all end at about the same time.
    fn parts_of_a_request(&self) -> usize {
        let share =
            if self.connections > 1 { self.sizes.ahead / self.connections as u64 } else { REQUEST_BYTES };
        let left = (self.position.len() - self.next) / self.connections;
        let most = (share.min(REQUEST_BYTES) / self.sizes.part).min(left as u64).max(1);
        let mut paces: Vec<f64> = self.paces.iter().copied().collect();
        paces.sort_unstable_by(f64::total_cmp);
        let median = paces.get(paces.len() / 2).copied().unwrap_or(0.0);
        #[expect(clippy::cast_precision_loss, reason = "a pace need not be exact")]
        let (part, most) = (self.sizes.part as f64, most as f64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a few")]
        let parts = (median * REQUEST.as_secs_f64() / part).clamp(1.0, most) as usize;
        parts
    }

    /// What is missing of a part.
    pub(super) fn missing(&self, index: usize) -> Range<u64> {
        self.position[index]..self.end(index)
    }

    /// How much of the bytes `offset..offset + length` of a part are new; they count as received from now on.
    pub(super) fn receive(&mut self, index: usize, offset: u64, length: u64) -> u64 {
        let until = (offset + length).min(self.end(index));
        let new = until.saturating_sub(self.position[index]);
        self.position[index] += new;
        self.round.received += new;
        new
    }

    /// A part is complete. `goes_on` says that its request does: with the next part of it, which waits for
    /// [`Plan::resume`], if there is one; returns whether there is. What else was asked for with the part is asked for anew.
    pub(super) fn finish(&mut self, index: usize, now: Duration, goes_on: bool) -> bool {
        let Some(at) = self.running.iter().position(|running| running.index == index) else { return false };
        let running = &mut self.running[at];
        let elapsed = running.since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let (started_at, until) = (running.started_at, running.until);
        let has_more = goes_on && index + 1 < until;
        if has_more {
            (running.index, running.since, running.is_raced) = (index + 1, None, false);
        } else {
            self.running.swap_remove(at);
            self.next = self.next.min(index + 1);
        }
        if let Some(pace) = pace(self.end(index) - started_at, elapsed) {
            self.paces.push_back(pace);
            if self.paces.len() > REMEMBERED {
                self.paces.pop_front();
            }
        }
        has_more
    }

    /// Whether all parts are complete.
    pub(super) fn is_complete(&self) -> bool {
        self.running.is_empty()
            && (self.next..self.position.len()).all(|index| self.missing(index).is_empty())
    }

    /// Measures the pace of the whole, and doubles the connections if the last ones helped. `is_held_up` says that bytes came
    /// faster than they were hashed: more connections cannot help then. Nor does a round tell anything in which one of them
    /// waited for a slow head.
    pub(super) fn measure(&mut self, now: Duration, is_held_up: bool) {
        let elapsed = now.saturating_sub(self.round.since);
        let is_first = self.round.best <= 0.0;
        if elapsed < if is_first { FIRST_ROUND } else { ROUND } {
            return;
        }
        let Some(now_pace) = pace(self.round.received, elapsed) else { return };
        self.round.since = now;
        self.round.received = 0;
        let is_held_up = std::mem::take(&mut self.round.is_held_up) || is_held_up;
        // With fewer parts on their way than connections, the number of these did not count.
        if self.round.is_settled || is_held_up || self.running.len() < self.connections {
            return;
        }
        if now_pace >= self.round.best * FASTER {
            (self.round.best, self.round.enough) = (now_pace, self.connections);
            self.connections = (2 * self.connections).min(self.sizes.connections);
        } else {
            // The last ones were of no use.
            self.connections = self.round.enough;
            self.round.is_settled = true;
        }
    }

    /// Bytes come faster than they are hashed: one connection less. What arrives at the head is hashed while it is in the
    /// core's cache, and what arrives elsewhere is not.
    pub(super) fn hold_back(&mut self) {
        self.connections = self.connections.saturating_sub(1).max(1);
        // Should that have been one too few, connections are added again.
        self.round = Round { since: self.round.since, received: self.round.received, ..Round::default() };
    }

    /// A part that should be asked for a second time, from where it is: the one that the hash waits for, when it is slow.
    /// None is called that before it was watched for `slow_after`.
    pub(super) fn race(&mut self, hashed: u64, now: Duration, slow_after: Duration) -> Option<usize> {
        let head = usize::try_from(hashed / self.sizes.part).ok()?;
        let mut paces: Vec<f64> = self.paces.iter().copied().collect();
        let position = &self.position;
        let pace_of = |running: &Running| {
            let watched = now.saturating_sub(running.since?);
            let received = position[running.index] - running.started_at;
            // Nothing at all is the slowest pace.
            (watched >= slow_after).then(|| pace(received, watched).unwrap_or(0.0))
        };
        paces.extend(self.running.iter().filter(|running| running.index != head).filter_map(pace_of));
        if paces.is_empty() {
            return None;
        }
        paces.sort_unstable_by(f64::total_cmp);
        let median = paces[paces.len() / 2];
        let slow = self.running.iter_mut().find(|running| running.index == head && !running.is_raced)?;
        let is_slow = pace_of(slow)? * STRAGGLES < median;
        slow.is_raced |= is_slow;
        is_slow.then_some(head)
    }

    fn end(&self, index: usize) -> u64 {
        ((index as u64 + 1) * self.sizes.part).min(self.size)
    }
}

/// Bytes per second; nothing where no time passed, or nothing came.
fn pace(bytes: u64, time: Duration) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a pace need not be exact")]
    let bytes = bytes as f64;
    (bytes > 0.0 && !time.is_zero()).then(|| bytes / time.as_secs_f64())
}

/// How many parts a blob has; one for an empty blob.
pub(super) fn count(size: u64, part: u64) -> usize {
    usize::try_from(size.div_ceil(part).max(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { part: 10, ahead: 20, connections: 4 };

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Receives the rest of a part.
    fn complete(plan: &mut Plan, index: usize, now: Duration) {
        let missing = plan.missing(index);
        assert_eq!(
            plan.receive(index, missing.start, missing.end - missing.start),
            missing.end - missing.start
        );
        plan.finish(index, now, false);
    }

    #[test]
    fn parts_that_come_fast_are_asked_for_together() {
        // Each of two connections has three parts of what may be ahead.
        let part = 4 << 20;
        let sizes = Sizes { part, ahead: 6 * part, connections: 2 };
        let mut plan = Plan::new(20 * part, sizes, &[0; 20]);
        assert_eq!(plan.start(0, at(0)), Some(0));
        assert_eq!(plan.request(0), 0..part, "nobody knows the pace yet");
        complete(&mut plan, 0, at(10));
        assert_eq!(plan.start(part, at(10)), Some(1));
        assert_eq!(plan.request(1), part..4 * part);
        assert_eq!(plan.start(part, at(10)), Some(4), "what is asked for already is passed over");
        plan.sizes.ahead = 3 * part;

        plan.receive(1, part, part);
        assert!(plan.finish(1, at(20), true), "the request has more");
        assert_eq!(plan.resume(part, at(20)), Some(2));
        assert_eq!(plan.resume(part, at(20)), None);
        plan.receive(4, 4 * part, part);
        assert!(plan.finish(4, at(30), true));
        assert_eq!(plan.resume(part, at(30)), None, "part 5 is too far ahead");
        assert_eq!(plan.resume(2 * part, at(30)), Some(5));
        assert_eq!(plan.start(2 * part, at(30)), None, "both connections are in use");

        // A second request for part 2 came first: the slow one is given up, with all it was for.
        plan.receive(2, 2 * part, part);
        assert!(!plan.finish(2, at(40), false));
        assert_eq!(plan.start(3 * part, at(40)), Some(3));
        assert_eq!(plan.request(3), 3 * part..4 * part, "parts 4 to 6 are on their way");
        plan.receive(3, 3 * part, part);
        assert!(!plan.finish(3, at(50), true), "its request ends there");
        assert_eq!(plan.start(4 * part, at(50)), Some(7));
    }

    #[test]
    fn the_last_requests_are_for_less_so_that_all_connections_end_together() {
        let part = 4 << 20;
        let sizes = Sizes { part, ahead: 100 * part, connections: 2 };
        let mut plan = Plan::new(11 * part, sizes, &[0; 11]);
        assert_eq!(plan.start(0, at(0)), Some(0));
        complete(&mut plan, 0, at(10));
        assert_eq!(plan.start(part, at(10)), Some(1));
        assert_eq!(plan.request(1), part..6 * part);
        assert_eq!(plan.start(part, at(10)), Some(6));
        assert_eq!(plan.request(6), 6 * part..8 * part);
    }

    #[test]
    fn parts_start_in_order_and_not_too_far_ahead() {
        let mut plan = Plan::new(95, SIZES, &[0; 10]);
        plan.connections = 9;
        let mut started = Vec::new();
        while let Some(index) = plan.start(0, at(0)) {
            started.push(index);
        }
        assert_eq!(started, [0, 1, 2], "the head and 20 bytes more");
        assert_eq!(plan.start(9, at(0)), None);
        assert_eq!(plan.start(10, at(0)), Some(3));
        assert_eq!(plan.missing(9), 90..95);
    }

    #[test]
    fn what_is_there_is_not_asked_for() {
        let mut plan = Plan::new(30, SIZES, &[10, 4, 10]);
        assert_eq!(plan.start(10, at(0)), Some(1));
        assert_eq!(plan.missing(1), 14..20);
        assert_eq!(plan.start(10, at(0)), None);
        assert!(!plan.is_complete());
        complete(&mut plan, 1, at(9));
        assert!(plan.is_complete());
        assert!(Plan::new(0, SIZES, &[0]).is_complete());
    }

    #[test]
    fn bytes_count_once() {
        let mut plan = Plan::new(30, SIZES, &[0; 3]);
        assert_eq!(plan.start(0, at(0)), Some(0));
        assert_eq!(plan.receive(0, 0, 4), 4);
        // A second request began at 2.
        assert_eq!(plan.receive(0, 2, 5), 3);
        assert_eq!(plan.receive(0, 4, 3), 0);
        assert_eq!(plan.receive(0, 7, 9), 3, "no further than the part");
        assert!(plan.missing(0).is_empty());
    }

    #[test]
    fn connections_are_added_while_that_helps() {
        let mut plan = Plan::new(1_000_000, Sizes { ahead: 1_000_000, ..SIZES }, &vec![0; 100_000]);
        plan.sizes.connections = 9;
        // Four bring more than two, eight no more than four.
        let mut counts = Vec::new();
        for round in 1..=5_u64 {
            while plan.start(0, at(round * 250)).is_some() {}
            counts.push(plan.running.len());
            plan.round.received = 1_000 * plan.running.len().min(4) as u64;
            plan.measure(at(round * 250), false);
            plan.running.clear();
        }
        assert_eq!(counts, [2, 4, 8, 4, 4]);
    }

    #[test]
    fn a_round_in_which_a_connection_waited_for_the_head_tells_nothing() {
        let mut plan = Plan::new(1_000, SIZES, &[0; 100]);
        while plan.start(0, at(0)).is_some() {}
        plan.round.received = 1_000;
        plan.measure(at(250), false);
        assert_eq!(plan.connections, 4);
        assert_eq!(
            (plan.start(0, at(250)), plan.start(0, at(250))),
            (Some(2), None),
            "part 3 is too far ahead"
        );
        assert_eq!(plan.start(10, at(400)), Some(3));
        plan.round.received = 10;
        plan.measure(at(500), false);
        assert_eq!(plan.connections, 4, "it was the head that was slow");
        plan.round.received = 10;
        plan.measure(at(750), false);
        assert_eq!(plan.connections, 2);
    }

    #[test]
    fn a_hash_that_cannot_keep_up_gets_no_more_connections() {
        let mut plan = Plan::new(1_000, Sizes { ahead: 1_000, ..SIZES }, &[0; 100]);
        for round in 1..=5_u64 {
            while plan.start(0, at(round * 250)).is_some() {}
            plan.round.received = 1_000 * round;
            plan.measure(at(round * 250), true);
        }
        assert_eq!(plan.connections, 2);
    }

    #[test]
    fn one_connection_is_enough_for_a_hash_that_cannot_keep_up() {
        let mut plan = Plan::new(1_000_000, Sizes { ahead: 1_000_000, ..SIZES }, &vec![0; 100_000]);
        plan.hold_back();
        plan.hold_back();
        assert_eq!((plan.start(0, at(0)), plan.start(0, at(0))), (Some(0), None));
        // It was not the hash for long.
        plan.round.received = 1_000;
        plan.measure(at(250), false);
        assert_eq!(plan.start(0, at(250)), Some(1));
    }

    #[test]
    fn a_slow_head_is_raced_once() {
        let mut plan = Plan::new(1_000, SIZES, &[0; 100]);
        plan.connections = 3;
        for index in 0..3 {
            assert_eq!(plan.start(0, at(0)), Some(index));
        }
        assert_eq!(plan.race(0, at(2_000), at(400)), None, "all are as slow");
        complete(&mut plan, 1, at(100));
        complete(&mut plan, 2, at(100));
        plan.receive(0, 0, 1);
        assert_eq!(plan.race(0, at(300), at(400)), None, "not watched for long enough");
        assert_eq!(plan.race(0, at(500), at(400)), Some(0));
        assert_eq!(plan.race(0, at(600), at(400)), None, "once is enough");
    }

    #[test]
    fn a_head_that_keeps_pace_is_not_raced() {
        let mut plan = Plan::new(1_000, SIZES, &[0; 100]);
        for index in 0..2 {
            assert_eq!(plan.start(0, at(0)), Some(index));
        }
        complete(&mut plan, 1, at(1_000));
        plan.receive(0, 0, 4);
        assert_eq!(plan.race(0, at(1_000), at(400)), None);
    }
}
