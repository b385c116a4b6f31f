//! The check of `add`: fetch-and-increment on ledgers that count, unique and rising numbers on those that take times.
//!
//! Exact, O(n log n). `add` of a client that may not read is out of it: its order is not promised.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::history::{Answer, Call, Operation, Truth, Visible, shown};

/// An `add` and the version that it made, if it made one.
struct Add<'a> {
    operation: &'a Operation,
    made: Option<i64>,
}

/// Everything that is wrong with the `add`s of one package; `is_dense` says that it counts 1, 2, 3, ...
pub(crate) fn check(operations: &[Operation], package: &str, truth: &Truth, is_dense: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut by_sha: HashMap<&str, Vec<&Visible>> = HashMap::new();
    for visible in &truth.versions {
        by_sha.entry(&visible.sha).or_default().push(visible);
    }
    let mut numbers: Vec<i64> = truth.versions.iter().map(|visible| visible.version).collect();
    numbers.sort_unstable();
    for pair in numbers.windows(2).filter(|pair| pair[0] == pair[1]) {
        wrong.push(format!("version {} is listed twice", pair[0]));
    }
    if is_dense {
        let mut expected = 1;
        for number in numbers {
            if number != expected {
                wrong.push(format!("version {number} is listed where {expected} belongs"));
            }
            expected = number + 1;
        }
    }

    let mut adds = Vec::new();
    let mut claimed: HashSet<i64> = HashSet::new();
    for operation in operations {
        let Call::Add { package: of, sha, id } = &operation.call else { continue };
        if of != package {
            continue;
        }
        // An `add` knows its own version by sha and id.
        let of_sha = by_sha.get(sha.as_str()).map(Vec::as_slice).unwrap_or_default();
        let made: Vec<&Visible> =
            of_sha.iter().copied().filter(|visible| id.is_empty() || visible.id == *id).collect();
        if made.len() > 1 {
            wrong.push(format!("one add made {} versions: {}", made.len(), shown(operation)));
        }
        let made = made.first().map(|visible| visible.version);
        if let Some(version) = made
            && !claimed.insert(version)
        {
            wrong.push(format!("version {version} belongs to two adds: {}", shown(operation)));
        }
        match &operation.answer {
            Some(Answer::Version(Some(told))) if made != Some(*told) => {
                wrong.push(format!(
                    "told {told}, but the version with its sha and id is {made:?}: {}",
                    shown(operation)
                ));
            }
            Some(Answer::Failed { is_open: false, .. }) if made.is_some() => {
                wrong.push(format!("false failure: version {made:?} exists: {}", shown(operation)));
            }
            Some(Answer::Version(Some(_)) | Answer::Failed { .. }) | None => {}
            Some(_) => wrong.push(format!("no answer to an add: {}", shown(operation))),
        }
        if operation.called > operation.returned {
            wrong.push(format!("answered before it was called: {}", shown(operation)));
        }
        adds.push(Add { operation, made });
    }
    for visible in truth.versions.iter().filter(|visible| !claimed.contains(&visible.version)) {
        wrong.push(format!(
            "nobody added version {} (sha {}, id {})",
            visible.version, visible.sha, visible.id
        ));
    }
    wrong.extend(order(&adds));
    wrong.extend(check_records(operations, package, truth));
    wrong
}

/// A version that was told to anybody is there, with the bytes of its writer.
fn check_records(operations: &[Operation], package: &str, truth: &Truth) -> Vec<String> {
    let shas: HashMap<i64, &str> =
        truth.versions.iter().map(|visible| (visible.version, visible.sha.as_str())).collect();
    let mut wrong = Vec::new();
    for operation in operations {
        let Call::Info { package: of, version } = &operation.call else { continue };
        if of != package {
            continue;
        }
        match &operation.answer {
            Some(Answer::Record { version: told, sha })
                if told != version || shas.get(version) != Some(&sha.as_str()) =>
            {
                wrong.push(format!("another record than was added: {}", shown(operation)));
            }
            Some(Answer::Version(None) | Answer::Failed { code: 3, .. }) => {
                wrong.push(format!("a version that is there was not found: {}", shown(operation)));
            }
            _ => {}
        }
    }
    wrong
}

/// An `add` that was called after another had returned has a higher number: the highest number that had returned before
/// each call, in one sweep.
fn order(adds: &[Add<'_>]) -> Vec<String> {
    let mut by_call: Vec<(&Operation, i64)> =
        adds.iter().filter_map(|add| Some((add.operation, add.made?))).collect();
    by_call.sort_by_key(|(operation, _)| operation.called);
    let mut under_way: BinaryHeap<Reverse<(u64, i64)>> = BinaryHeap::new();
    let mut highest = 0;
    let mut wrong = Vec::new();
    for (operation, version) in by_call {
        while let Some(Reverse((returned, finished))) = under_way.peek().copied()
            && returned < operation.called
        {
            highest = highest.max(finished);
            under_way.pop();
        }
        if version <= highest {
            wrong.push(format!("version {highest} had been given before the call: {}", shown(operation)));
        }
        under_way.push(Reverse((operation.returned, version)));
    }
    wrong
}
