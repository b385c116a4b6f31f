//! What a comparison says about its floor and its goal, by the noise rules. Pure.
//!
//! Two kinds: pairs, of which a ratio and its interval are known, and a figure, which is exact or a deadline. A pair counts only
//! if the machine was as fast before and after it as at its best.

use super::stats::{Interval, bootstrap};

/// A pair is dropped when its canary is slower than the best by more than this.
const CANARY: f64 = 0.05;

/// Which way a comparison is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// A floor to stay above, or below, and a goal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) better: Better,
    pub(crate) floor: Option<f64>,
    pub(crate) goal: Option<f64>,
}

impl Bounds {
    /// At least these.
    pub(crate) fn at_least(floor: impl Into<Option<f64>>, goal: impl Into<Option<f64>>) -> Self {
        Self { better: Better::Higher, floor: floor.into(), goal: goal.into() }
    }

    /// At most these.
    pub(crate) fn at_most(floor: impl Into<Option<f64>>, goal: impl Into<Option<f64>>) -> Self {
        Self { better: Better::Lower, floor: floor.into(), goal: goal.into() }
    }
}

/// One measured ratio, and the slower canary before and after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) ratio: f64,
    pub(crate) canary: f64,
}

/// What was measured.
#[derive(Debug, Clone)]
pub(crate) enum Measured {
    /// Ratios of pairs.
    Pairs(Vec<Ratio>),
    /// A figure and its unit.
    Figure(f64, &'static str),
    /// Nothing, and why.
    Missing(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    GoalMet,
    FloorMet,
    /// Where there is no floor.
    GoalMissed,
    Failed,
    /// There is no bound to meet.
    Printed,
    Noisy,
    Missing,
}

impl Verdict {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::GoalMet => "goal met",
            Self::FloorMet => "floor met, goal missed",
            Self::GoalMissed => "goal missed",
            Self::Failed => "**below the floor**",
            Self::Printed => "",
            Self::Noisy => "noisy",
            Self::Missing => "missing",
        }
    }
}

/// What came of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) interval: Option<Interval>,
    pub(crate) kept: usize,
    pub(crate) dropped: usize,
}

/// Whether a machine that did so well around a pair was as fast as at its best.
fn is_calm(canary: f64, best: f64) -> bool {
    canary >= best * (1.0 - CANARY)
}

/// Whether pairs are missing: there are neither as many calm ones as are wanted, nor so many others that these could not be the
/// most. `canaries` are those of the pairs so far.
pub(crate) fn is_undecided(canaries: &[f64], best: f64, wanted: usize) -> bool {
    let calm = canaries.iter().filter(|&&canary| is_calm(canary, best)).count();
    calm < wanted && canaries.len() - calm <= wanted
}

/// Judges by the bad end of the interval. `best` is the run's best canary.
pub(crate) fn judge(measured: &Measured, bounds: Bounds, best: f64, seed: u64) -> Judgement {
    let none = |verdict| Judgement { verdict, interval: None, kept: 0, dropped: 0 };
    match measured {
        Measured::Missing(_) => none(Verdict::Missing),
        Measured::Figure(figure, _) => none(verdict(*figure, bounds)),
        Measured::Pairs(ratios) => {
            let is_calm = |ratio: &&Ratio| is_calm(ratio.canary, best);
            let kept: Vec<f64> = ratios.iter().filter(is_calm).map(|ratio| ratio.ratio).collect();
            let dropped = ratios.len() - kept.len();
            if dropped > kept.len() {
                // What was seen all the same, for whoever reads it.
                let all: Vec<f64> = ratios.iter().map(|ratio| ratio.ratio).collect();
                let interval = Some(bootstrap(&all, seed));
                return Judgement { verdict: Verdict::Noisy, interval, kept: kept.len(), dropped };
            }
            let interval = bootstrap(&kept, seed);
            let bad = if bounds.better == Better::Higher { interval.low } else { interval.high };
            Judgement { verdict: verdict(bad, bounds), interval: Some(interval), kept: kept.len(), dropped }
        }
    }
}

fn verdict(figure: f64, bounds: Bounds) -> Verdict {
    let meets = |bound: f64| match bounds.better {
        Better::Higher => figure >= bound,
        Better::Lower => figure <= bound,
    };
    match (bounds.floor, bounds.goal) {
        (None, None) => Verdict::Printed,
        (Some(floor), _) if !meets(floor) => Verdict::Failed,
        (Some(_), Some(goal)) if !meets(goal) => Verdict::FloorMet,
        (None, Some(goal)) if !meets(goal) => Verdict::GoalMissed,
        _ => Verdict::GoalMet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(ratios: &[f64], canaries: &[f64]) -> Measured {
        let pairs = ratios.iter().zip(canaries);
        Measured::Pairs(pairs.map(|(&ratio, &canary)| Ratio { ratio, canary }).collect())
    }

    #[test]
    fn the_bad_end_counts() {
        let spread = pairs(&[0.6, 1.0, 1.4], &[1.0; 3]);
        assert_eq!(judge(&spread, Bounds::at_least(0.9, 1.1), 1.0, 1).verdict, Verdict::Failed);
        assert_eq!(judge(&spread, Bounds::at_most(1.1, 0.9), 1.0, 1).verdict, Verdict::Failed);
        assert_eq!(judge(&spread, Bounds::at_least(0.5, 1.1), 1.0, 1).verdict, Verdict::FloorMet);
        assert_eq!(judge(&spread, Bounds::at_most(2.0, 1.5), 1.0, 1).verdict, Verdict::GoalMet);
        assert_eq!(judge(&spread, Bounds::at_least(None, None), 1.0, 1).verdict, Verdict::Printed);
        assert_eq!(judge(&spread, Bounds::at_least(None, 2.0), 1.0, 1).verdict, Verdict::GoalMissed);
    }

    #[test]
    fn pairs_with_a_slow_canary_are_dropped_and_too_many_of_them_are_noise() {
        let one = judge(&pairs(&[1.0, 9.0, 1.0], &[1.0, 0.94, 0.96]), Bounds::at_most(2.0, None), 1.0, 1);
        assert_eq!((one.verdict, one.kept, one.dropped), (Verdict::GoalMet, 2, 1));
        let two = judge(&pairs(&[1.0, 9.0, 1.0], &[1.0, 0.5, 0.5]), Bounds::at_most(2.0, None), 1.0, 1);
        assert_eq!((two.verdict, two.kept, two.dropped), (Verdict::Noisy, 1, 2));
    }

    #[test]
    fn pairs_are_run_until_enough_count_or_most_do_not() {
        assert!(is_undecided(&[], 1.0, 2));
        assert!(is_undecided(&[1.0, 0.5, 0.5], 1.0, 2));
        assert!(!is_undecided(&[1.0, 0.5, 0.96], 1.0, 2));
        assert!(!is_undecided(&[0.5, 0.5, 0.5], 1.0, 2));
    }

    #[test]
    fn figures_are_as_they_are() {
        let size = Measured::Figure(11.0, "MB");
        assert_eq!(judge(&size, Bounds::at_most(12.0, 10.0), 1.0, 1).verdict, Verdict::FloorMet);
        assert_eq!(judge(&size, Bounds::at_most(10.0, 9.0), 1.0, 1).verdict, Verdict::Failed);
        let missing = Measured::Missing("no aria2".into());
        assert_eq!(judge(&missing, Bounds::at_most(1.0, 1.0), 1.0, 1).verdict, Verdict::Missing);
    }
}
