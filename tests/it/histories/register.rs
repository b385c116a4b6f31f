//! The check of a tag without its events: a search for any order of the calls that explains every answer, of a register
//! that is read and exchanged (Wing and Gong 1993, with Lowe's memory of what was tried).
//!
//! Exponential in the worst case, so it runs on windows of at most a thousand calls. It knows nothing of `seq`, and so
//! checks the checker that trusts it.

use std::collections::HashSet;

use super::history::{Answer, Call, Expectation, Operation, Truth};

/// One call on the register. A value is a version, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) called: u64,
    pub(crate) returned: u64,
    pub(crate) what: Act,
}

/// What a call did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::option_option, reason = "not told, and told that there was nothing, are two things")]
pub(crate) enum Act {
    Read(Option<i64>),
    /// It wrote `to` over `from`; `from` is nothing where the call was not told.
    Write {
        from: Option<Option<i64>>,
        to: Option<i64>,
    },
}

impl Act {
    /// The register after it; nothing if it cannot happen now.
    #[expect(
        clippy::option_option,
        reason = "that it cannot happen, and that nothing is there after it, are two things"
    )]
    fn apply(self, value: Option<i64>) -> Option<Option<i64>> {
        match self {
            Self::Read(read) => (read == value).then_some(value),
            Self::Write { from, to } => from.is_none_or(|from| from == value).then_some(to),
        }
    }
}

/// The calls about one tag in one window, for [`is_linearizable`]. The events only tell which changes happened at all.
pub(crate) fn entries(
    operations: &[Operation],
    package: &str,
    tag: &str,
    truth: &Truth,
    window: usize,
) -> Vec<Entry> {
    let events = truth.events.get(tag).map(Vec::as_slice).unwrap_or_default();
    let made: HashSet<&str> = events
        .iter()
        .flat_map(|event| [Some(event.id.as_str()), event.reason.as_deref()])
        .flatten()
        .collect();
    let act = |operation: &Operation| match (&operation.call, &operation.answer) {
        (Call::Tag { to, .. }, Some(Answer::Changed { from, .. })) => {
            Some(Act::Write { from: Some(*from), to: *to })
        }
        (Call::Tag { to, expected, id, .. }, _) if made.contains(id.as_str()) => {
            let from = match expected {
                Expectation::Version(version) => Some(Some(*version)),
                Expectation::Any | Expectation::Seq(_) => None,
            };
            Some(Act::Write { from, to: *to })
        }
        (_, Some(Answer::Tag { version, .. } | Answer::Conflict { version, .. })) => {
            Some(Act::Read(*version))
        }
        _ => None,
    };
    let of_window = operations.iter().filter(|operation| operation.window == window);
    of_window
        .filter(|operation| operation.call.is_about(package, tag))
        .filter_map(|operation| {
            Some(Entry { called: operation.called, returned: operation.returned, what: act(operation)? })
        })
        .collect()
}

/// The calls and returns in the order of time, as a doubly linked list: what is taken into the order leaves it.
struct Timeline {
    next: Vec<usize>,
    previous: Vec<usize>,
}

impl Timeline {
    fn new(length: usize) -> Self {
        // Node 0 is the head; node `length + 1` the end.
        Self {
            next: (1..=length + 2).collect(),
            previous: (0..length + 2).map(|node| node.saturating_sub(1)).collect(),
        }
    }

    fn remove(&mut self, node: usize) {
        let (before, after) = (self.previous[node], self.next[node]);
        self.next[before] = after;
        self.previous[after] = before;
    }

    fn restore(&mut self, node: usize) {
        let (before, after) = (self.previous[node], self.next[node]);
        self.next[before] = node;
        self.previous[after] = node;
    }
}

/// Which calls are in the order already.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Taken(Box<[u64]>);

impl Taken {
    fn flip(&mut self, place: usize) {
        self.0[place / 64] ^= 1 << (place % 64);
    }
}

/// Whether some order of `entries` agrees with real time and explains every answer, from `initial` on.
pub(crate) fn is_linearizable(initial: Option<i64>, entries: &[Entry]) -> bool {
    if entries.iter().any(|entry| entry.called > entry.returned) {
        return false;
    }
    // A call and a return at the same instant overlap: calls first.
    let mut times: Vec<(u64, bool, usize)> = Vec::with_capacity(entries.len() * 2);
    for (place, entry) in entries.iter().enumerate() {
        times.push((entry.called, false, place));
        times.push((entry.returned, true, place));
    }
    times.sort_unstable();
    let mut timeline = Timeline::new(times.len());
    // The node of each call's return; nodes count from 1.
    let mut returns = vec![0; entries.len()];
    for (node, (_, is_return, place)) in times.iter().enumerate() {
        if *is_return {
            returns[*place] = node + 1;
        }
    }
    let end = times.len() + 1;
    let mut value = initial;
    let mut taken = Taken(vec![0; entries.len().div_ceil(64)].into());
    let mut tried: HashSet<(Taken, Option<i64>)> = HashSet::new();
    let mut stack: Vec<(usize, Option<i64>)> = Vec::new();
    let mut node = timeline.next[0];
    loop {
        if node == end {
            // Every call up to here was tried; with none left, all are in the order.
            if timeline.next[0] == end {
                return true;
            }
        } else {
            let (_, is_return, place) = times[node - 1];
            if !is_return {
                let after = entries[place].what.apply(value);
                if let Some(after) = after {
                    taken.flip(place);
                    if tried.insert((taken.clone(), after)) {
                        stack.push((node, value));
                        value = after;
                        timeline.remove(node);
                        timeline.remove(returns[place]);
                        node = timeline.next[0];
                        continue;
                    }
                    taken.flip(place);
                }
                node = timeline.next[node];
                continue;
            }
        }
        // A return whose call is not in the order: what was chosen before cannot be.
        let Some((chosen, before)) = stack.pop() else { return false };
        let (_, _, place) = times[chosen - 1];
        value = before;
        taken.flip(place);
        timeline.restore(returns[place]);
        timeline.restore(chosen);
        node = timeline.next[chosen];
    }
}

mod tests {
    use super::*;

    fn brute_force(value: Option<i64>, left: &[Entry]) -> bool {
        // What can come first: whatever was called before every other return.
        left.is_empty()
            || left.iter().enumerate().any(|(place, first)| {
                let mut rest = left.to_vec();
                rest.remove(place);
                rest.iter().all(|other| first.called <= other.returned)
                    && first.what.apply(value).is_some_and(|after| brute_force(after, &rest))
            })
    }

    fn random_history(random: &mut fastrand::Rng) -> Vec<Entry> {
        let value = |random: &mut fastrand::Rng| random.bool().then(|| random.i64(1..3));
        let count = random.usize(1..8);
        let entry = |_| {
            let called = random.u64(0..12);
            let what = match random.u8(0..3) {
                0 => Act::Read(value(random)),
                1 => Act::Write { from: None, to: value(random) },
                _ => Act::Write { from: Some(value(random)), to: value(random) },
            };
            Entry { called, returned: called + random.u64(0..8), what }
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn the_search_agrees_with_brute_force() {
        let seed = crate::support::tier::seed("histories::register");
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..crate::support::tier::figure(20_000, 500_000) {
            let entries = random_history(&mut random);
            let expected = brute_force(None, &entries);
            assert_eq!(is_linearizable(None, &entries), expected, "seed {seed}: {entries:?}");
            if expected { good += 1 } else { bad += 1 }
        }
        assert!(good > 1000 && bad > 1000, "{good} good and {bad} bad ones: the generator is lopsided");
    }

    #[test]
    fn a_window_of_a_thousand_calls_is_searched_in_time() {
        // Sixteen clients that all overlap with their neighbours; one stale read at the end makes it bad.
        let mut entries: Vec<Entry> = (0_u64..1000)
            .map(|number| {
                let turn = i64::try_from(number / 2).expect("small");
                let what = match number % 2 {
                    0 => Act::Write { from: None, to: Some(turn) },
                    _ => Act::Read(Some(turn)),
                };
                Entry { called: number * 10, returned: number * 10 + 80, what }
            })
            .collect();
        assert!(is_linearizable(None, &entries));
        entries.push(Entry { called: 100_000, returned: 100_001, what: Act::Read(Some(3)) });
        assert!(!is_linearizable(None, &entries));
    }
}
