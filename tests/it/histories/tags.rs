//! The check of a tag by its events: writes are totally ordered by `seq`, reads tell `seq`, so one order is given, and
//! it must agree with real time. A change that lost counts as a read of what it found.
//!
//! Exact for what tells `seq`, O(n log n). A read that tells no `seq` is only checked to have been possible; the search in
//! `register` checks those exactly.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use sacker::model::{Event, Version, verify_chain};

use super::history::{Answer, Call, Expectation, Operation, Truth, shown};

/// The place of an operation in the order: by event, and its write before its reads.
type Place = (u64, bool);

/// Everything that is wrong with one tag.
pub(crate) fn check(operations: &[Operation], package: &str, tag: &str, truth: &Truth) -> Vec<String> {
    let none = Vec::new();
    let events = truth.events.get(tag).unwrap_or(&none);
    let mut wrong = Vec::new();
    if let Err(broken) = verify_chain(events) {
        wrong.push(format!("the chain of '{tag}' is broken at {broken}"));
    }
    let of_tag = || operations.iter().filter(|operation| operation.call.is_about(package, tag));

    let own = own_events(events);
    let mut moved: HashSet<u64> = HashSet::new();
    let mut placed: Vec<(&Operation, Place)> = Vec::new();
    let mut unplaced: Vec<(&Operation, Option<i64>)> = Vec::new();
    for operation in of_tag() {
        if operation.called > operation.returned {
            wrong.push(format!("answered before it was called: {}", shown(operation)));
        }
        let event = match &operation.call {
            Call::Tag { id, .. } => own.get(id.as_str()).copied(),
            _ => None,
        };
        if let Some(event) = event {
            if !moved.insert(event.seq) {
                wrong.push(format!("event {} belongs to two changes: {}", event.seq, shown(operation)));
            }
            wrong.extend(check_write(operation, event));
            placed.push((operation, (event.seq, false)));
            continue;
        }
        match &operation.answer {
            Some(Answer::Changed { .. }) => {
                wrong.push(format!("an acknowledged change without its event: {}", shown(operation)));
            }
            Some(Answer::Tag { seq: Some(seq), version } | Answer::Conflict { seq: Some(seq), version }) => {
                let says = match seq {
                    0 => Some(None),
                    seq => events
                        .binary_search_by_key(seq, |event| event.seq)
                        .ok()
                        .map(|at| number(events[at].to)),
                };
                if says != Some(*version) {
                    wrong.push(format!("event {seq} says {says:?}, not what was read: {}", shown(operation)));
                }
                placed.push((operation, (*seq, true)));
            }
            Some(Answer::Tag { seq: None, version } | Answer::Conflict { seq: None, version }) => {
                unplaced.push((operation, *version));
            }
            _ => {}
        }
    }
    for event in events.iter().filter(|event| !moved.contains(&event.seq)) {
        wrong.push(format!("event {} of '{tag}' without its change: {}", event.seq, event.canonical()));
    }
    wrong.extend(order(&placed));
    wrong.extend(check_possible(&placed, &unplaced, events));
    wrong
}

/// Events by the id that the change was called with: its own, or its reason where the client made the id itself.
fn own_events(events: &[Event]) -> HashMap<&str, &Event> {
    let by_id = events.iter().map(|event| (event.id.as_str(), event));
    let by_reason = events.iter().filter_map(|event| Some((event.reason.as_deref()?, event)));
    by_reason.chain(by_id).collect()
}

fn number(version: Option<Version>) -> Option<i64> {
    version.map(Version::get)
}

/// A change that made `event`: it asked for it, was told so, and what it demanded held.
fn check_write(operation: &Operation, event: &Event) -> Vec<String> {
    let Call::Tag { to, expected, .. } = &operation.call else { return Vec::new() };
    let mut wrong = Vec::new();
    let mut says =
        |what: &str| wrong.push(format!("{what} (event {}): {}", event.canonical(), shown(operation)));
    if number(event.to) != *to {
        says("its event says something else than was asked for");
    }
    let held = match expected {
        Expectation::Any => true,
        Expectation::Version(version) => number(event.from) == Some(*version),
        Expectation::Seq(seq) => event.seq == seq + 1,
    };
    if !held {
        says("what it demanded did not hold");
    }
    match &operation.answer {
        Some(Answer::Changed { seq, from, to: told }) => {
            if seq.is_some_and(|seq| seq != event.seq) || *from != number(event.from) || told != to {
                says("it was told something else than its event");
            }
        }
        Some(Answer::Tag { seq, version }) => {
            if seq.is_some_and(|seq| seq != event.seq) || version != to {
                says("it was told something else than its event");
            }
        }
        Some(Answer::Failed { is_open: false, .. } | Answer::Conflict { .. }) => {
            says("false failure: its event exists");
        }
        Some(Answer::Failed { is_open: true, .. }) | None => {}
        Some(_) => says("no answer to a change"),
    }
    wrong
}

/// What was called after something else had returned must not come before it in the order.
fn order(placed: &[(&Operation, Place)]) -> Vec<String> {
    let mut by_call = placed.to_vec();
    by_call.sort_by_key(|(operation, _)| operation.called);
    let mut under_way: BinaryHeap<Reverse<(u64, Place)>> = BinaryHeap::new();
    let mut furthest: Place = (0, false);
    let mut wrong = Vec::new();
    for (operation, place) in by_call {
        while let Some(Reverse((returned, finished))) = under_way.peek().copied()
            && returned < operation.called
        {
            furthest = furthest.max(finished);
            under_way.pop();
        }
        if place < furthest {
            wrong.push(format!("event {} was known before the call: {}", furthest.0, shown(operation)));
        }
        under_way.push(Reverse((operation.returned, place)));
    }
    wrong
}

/// A read without `seq` must have been possible: some event that could have been the newest at the time says so.
fn check_possible(
    placed: &[(&Operation, Place)],
    unplaced: &[(&Operation, Option<i64>)],
    events: &[Event],
) -> Vec<String> {
    // Finished before each read's call: the least event. Called before its return: the last.
    let mut returns: Vec<(u64, u64)> =
        placed.iter().map(|(operation, place)| (operation.returned, place.0)).collect();
    let mut calls: Vec<(u64, u64)> = placed
        .iter()
        .filter(|(_, place)| !place.1)
        .map(|(operation, place)| (operation.called, place.0))
        .collect();
    for times in [&mut returns, &mut calls] {
        times.sort_unstable();
        let mut highest = 0;
        for (_, seq) in times {
            highest = highest.max(*seq);
            *seq = highest;
        }
    }
    let before = |times: &[(u64, u64)], at: u64| {
        let count = times.partition_point(|(time, _)| *time < at);
        count.checked_sub(1).map_or(0, |place| times[place].1)
    };
    let mut wrong = Vec::new();
    for (operation, version) in unplaced {
        let least = before(&returns, operation.called);
        let last = before(&calls, operation.returned.saturating_add(1));
        let says = |event: &Event| number(event.to) == *version;
        let within = |event: &&Event| (least..=last).contains(&event.seq);
        let first = usize::try_from(least.saturating_sub(1)).unwrap_or(0).min(events.len());
        let none_yet = least == 0 && version.is_none();
        if !none_yet && !events[first..].iter().take_while(|event| event.seq <= last).filter(within).any(says)
        {
            wrong.push(format!("no event from {least} to {last} says so: {}", shown(operation)));
        }
    }
    wrong
}
