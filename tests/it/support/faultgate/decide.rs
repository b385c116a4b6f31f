//! Which rules apply to a request. No I/O, no clock but the one it is given.
//!
//! A draw is a hash of the seed, the rule, the request's fingerprint and how often the rule has met that fingerprint; not
//! of the order in which requests arrive. So a seed gives the same faults to the same requests, however they interleave.

use std::collections::HashMap;
use std::time::Duration;

use sacker::model::Glob;

use super::facts::{Facts, hash};
use super::rule::{Action, Match, Rule};

/// The rules in force, with what they have counted since they were set.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    seed: u64,
    rules: Vec<Counted>,
}

#[derive(Debug)]
struct Counted {
    rule: Rule,
    /// Requests that the rule means, whatever the draw.
    met: u64,
    applied: u64,
    seen: HashMap<u64, u64>,
}

impl Plan {
    pub(crate) fn new(seed: u64, rules: Vec<Rule>) -> Self {
        let mut plan = Self { seed, rules: Vec::new() };
        for rule in rules {
            plan.add(rule);
        }
        plan
    }

    pub(crate) fn add(&mut self, rule: Rule) {
        self.rules.push(Counted { rule, met: 0, applied: 0, seen: HashMap::new() });
    }

    /// What happens to this request, which arrives `elapsed` after the rules were set. At most the last of the actions
    /// is one that does more than change.
    pub(crate) fn decide(&mut self, facts: &Facts, elapsed: Duration) -> Vec<Action> {
        let seed = self.seed;
        let mut actions: Vec<Action> = Vec::new();
        for (index, counted) in self.rules.iter_mut().enumerate() {
            if !counted.applies(seed, index, facts, elapsed) {
                continue;
            }
            actions.push(counted.rule.action.clone());
            if !counted.rule.action.only_changes() {
                break;
            }
        }
        actions
    }
}

impl Counted {
    fn applies(&mut self, seed: u64, index: usize, facts: &Facts, elapsed: Duration) -> bool {
        let matches = &self.rule.matches;
        let in_window = matches.window.is_none_or(|(from, until)| (from..until).contains(&elapsed));
        if !in_window || !means(matches, facts) {
            return false;
        }
        // What may not be stale is not a request that this rule has met.
        if matches!(self.rule.action, Action::Stale(_)) && !facts.may_be_stale {
            return false;
        }
        self.met += 1;
        let seen = self.seen.entry(facts.fingerprint).or_default();
        *seen += 1;
        let draw = draw(seed, index, facts.fingerprint, *seen);
        let applies = matches.nth.is_none_or(|nth| nth == self.met)
            && matches.times.is_none_or(|times| self.applied < times)
            && draw < matches.probability;
        self.applied += u64::from(applies);
        applies
    }
}

/// From 0 up to, and without, 1.
fn draw(seed: u64, index: usize, fingerprint: u64, seen: u64) -> f64 {
    let parts = [seed, index as u64, fingerprint, seen];
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what fits")]
    let draw = (hash(&bytes) >> 11) as f64 / (1_u64 << 53) as f64;
    draw
}

fn means(matches: &Match, facts: &Facts) -> bool {
    let fits = |pattern: &Option<String>, text: &str| {
        pattern.as_ref().is_none_or(|pattern| Glob::new(pattern.as_str()).matches(text))
    };
    let header = |(name, pattern): &(String, String)| {
        let value = facts.headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| Glob::new(pattern.as_str()).matches(value))
    };
    let identity = |identity: &String| facts.access_key == *identity || facts.user_agent.contains(identity);
    matches.method.as_ref().is_none_or(|method| *method == facts.method)
        && fits(&matches.path, &facts.path)
        && fits(&matches.query, &facts.query)
        && matches.target.as_ref().is_none_or(|target| *target == facts.operation)
        && matches.header.as_ref().is_none_or(header)
        && matches.identity.as_ref().is_none_or(identity)
}
