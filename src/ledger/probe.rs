//! Whether a backend keeps its promises: what a probe checks, and what its findings mean. Pure; the backends run it.
//!
//! A probe is concurrent: servers exist whose conditional writes hold one after the other and break side by side.

use jiff::Timestamp;

use crate::error::{Error, Meaning, Result};
use crate::model::time;

/// How much a probe does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeOptions {
    /// How many writes race in one round.
    pub racers: u32,
    /// How many rounds of each race.
    pub rounds: u32,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self { racers: 8, rounds: 50 }
    }
}

/// One promise, and whether it held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub what: &'static str,
    /// What was seen instead; nothing if it held.
    pub broken: Option<String>,
    /// Whether the ledger rests on it. Other checks are for stores that forbid to overwrite blobs.
    pub decides: bool,
}

impl Check {
    /// A check that the ledger rests on.
    pub(super) fn new(what: &'static str, broken: Option<String>) -> Self {
        Self { what, broken, decides: true }
    }
}

/// What a probe found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeReport {
    /// In the order in which they ran.
    pub checks: Vec<Check>,
}

impl ProbeReport {
    /// Whether everything held that the ledger rests on.
    pub fn holds(&self) -> bool {
        self.why().is_none()
    }

    /// The first broken promise that the ledger rests on, in words.
    pub fn why(&self) -> Option<String> {
        self.checks
            .iter()
            .filter(|check| check.decides)
            .find_map(|check| check.broken.as_ref().map(|broken| format!("{}: {broken}", check.what)))
    }
}

/// What is remembered of a probe, in the ledger's own record.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// Whether conditional writes hold.
    pub holds: bool,
    /// When it was found.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// The first broken promise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Verdict {
    pub(super) fn of(report: &ProbeReport, at: Timestamp) -> Self {
        Self { holds: report.holds(), at: time::to_milliseconds(at), why: report.why() }
    }

    /// # Errors
    /// `Invalid` when conditional writes do not hold: two writers could then get one version, or fork a history.
    pub(super) fn check(&self, ledger: &str) -> Result<()> {
        if self.holds {
            return Ok(());
        }
        let why = self.why.as_deref().unwrap_or("no reason is recorded");
        let rule = format!(
            "the server's conditional writes are broken, so writers could overwrite each other: {why}"
        );
        Err(Error::new(Meaning::Invalid { rule: rule.into() }, "write to the ledger").with_key(ledger).with_hint(
            "use another server, or another release of it, and run 'sacker init' again; if there will never be more than one \
             writer at a time, say ?single_writer=true",
        ))
    }
}

/// Counts the winners of rounds in which exactly one should win.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rounds: u32,
    broken: u32,
    first: Option<String>,
}

impl Tally {
    /// Takes note of a round with `winners` of `racers`.
    pub(super) fn round(&mut self, winners: usize, racers: u32) {
        self.note(
            (winners != 1).then(|| format!("{winners} of {racers} writes won in round {}", self.rounds + 1)),
        );
    }

    /// Takes note of a round; `wrong` is what was wrong with it.
    pub(super) fn note(&mut self, wrong: Option<String>) {
        self.rounds += 1;
        if let Some(wrong) = wrong {
            self.broken += 1;
            self.first.get_or_insert(wrong);
        }
    }

    /// What was wrong; nothing if no round was.
    pub(super) fn broken(self) -> Option<String> {
        let Self { rounds, broken, first } = self;
        first.map(|first| format!("{first} (wrong in {broken} of {rounds} rounds)"))
    }
}

/// A failure that says something about the server's promises, in words.
///
/// # Errors
/// The failure itself, when it says nothing about them: no rights, no server, no time.
pub(super) fn finding(error: Error) -> Result<String> {
    match error.meaning() {
        Meaning::Denied { .. }
        | Meaning::Throttled
        | Meaning::Unavailable
        | Meaning::NotFound(_)
        | Meaning::Local { .. }
        | Meaning::Interrupted => Err(error),
        _ => Ok(match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_ledger_rests_on_decides() {
        let mut report = ProbeReport::default();
        assert!(report.holds());
        report.checks.push(Check { what: "parts", broken: Some("ignored".to_owned()), decides: false });
        assert!(report.holds());
        report.checks.push(Check::new("create again", Some("it was overwritten".to_owned())));
        assert_eq!(report.why().as_deref(), Some("create again: it was overwritten"));
        let verdict = Verdict::of(&report, Timestamp::UNIX_EPOCH);
        let error = verdict.check("s3://bucket").expect_err("broken");
        assert!(error.to_string().contains("create again: it was overwritten"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("?single_writer=true")), "{error:?}");
    }

    #[test]
    fn a_round_has_exactly_one_winner() {
        let mut good = Tally::default();
        good.round(1, 8);
        assert_eq!(good.broken(), None);
        for winners in [0, 2, 8] {
            let mut tally = Tally::default();
            for winners in [1, winners, 1, 3] {
                tally.round(winners, 8);
            }
            let expected = format!("{winners} of 8 writes won in round 2 (wrong in 2 of 4 rounds)");
            assert_eq!(tally.broken(), Some(expected));
        }
    }

    #[test]
    fn a_verdict_is_kept_as_json() {
        let verdict = Verdict { holds: false, at: Timestamp::UNIX_EPOCH, why: Some("x".to_owned()) };
        let json = serde_json::to_string(&verdict).expect("json");
        assert_eq!(json, r#"{"holds":false,"at":"1970-01-01T00:00:00.000Z","why":"x"}"#);
        assert_eq!(serde_json::from_str::<Verdict>(&json).expect("json"), verdict);
    }
}
