//! The check of `latest`: a maximum register that `add` raises. It never goes backwards, it is never behind what was
//! acknowledged before the call, and never ahead of what had been called for.
//!
//! Exact, O(n log n). Removed versions are out of it.

use std::collections::HashMap;

use super::history::{Answer, Call, Operation, Truth, shown};

/// What happens to the register, in the order in which it counts at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// A read begins, so what was finished before is its least value.
    ReadCalled(usize),
    /// Somebody was told this value.
    Told(i64),
}

/// Everything that is wrong with the answers of `latest` for one package.
pub(crate) fn check(operations: &[Operation], package: &str, truth: &Truth) -> Vec<String> {
    let mut wrong = Vec::new();
    let of_sha: HashMap<&str, i64> =
        truth.versions.iter().map(|visible| (visible.sha.as_str(), visible.version)).collect();
    // When each version was first asked for: before that nobody can have read it.
    let mut asked: HashMap<i64, u64> = HashMap::new();
    let mut steps: Vec<(u64, Step)> = Vec::new();
    let mut reads: Vec<(&Operation, i64)> = Vec::new();
    for operation in operations.iter().filter(|operation| operation.call.package() == package) {
        match (&operation.call, &operation.answer) {
            (Call::Add { sha, .. }, answer) => {
                if let Some(version) = of_sha.get(sha.as_str()) {
                    asked.insert(*version, operation.called);
                }
                if let Some(Answer::Version(Some(version))) = answer {
                    asked.entry(*version).or_insert(operation.called);
                    steps.push((operation.returned, Step::Told(*version)));
                }
            }
            (Call::Latest { .. }, Some(Answer::Version(read))) => {
                let read = read.unwrap_or(0);
                steps.push((operation.called, Step::ReadCalled(reads.len())));
                steps.push((operation.returned, Step::Told(read)));
                reads.push((operation, read));
                if operation.called > operation.returned {
                    wrong.push(format!("answered before it was called: {}", shown(operation)));
                }
            }
            _ => {}
        }
    }
    for (operation, read) in &reads {
        match asked.get(read) {
            _ if *read == 0 => {}
            None => wrong.push(format!("nobody added what was read: {}", shown(operation))),
            Some(asked) if *asked > operation.returned => {
                wrong.push(format!("read before its add was called: {}", shown(operation)));
            }
            Some(_) => {}
        }
    }
    steps.sort_unstable();
    let mut highest = 0;
    for (_, step) in steps {
        match step {
            Step::Told(version) => highest = highest.max(version),
            Step::ReadCalled(place) if reads[place].1 < highest => {
                wrong.push(format!(
                    "behind version {highest}, known before the call: {}",
                    shown(reads[place].0)
                ));
            }
            Step::ReadCalled(_) => {}
        }
    }
    wrong
}
