//! Medians and how sure they are. Pure.

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2_000;

/// A median, and the ends of its 90 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The middle value, or the mean of the two middle ones; not a number where there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The median, and by resampling between what it lies in nine of ten cases. The same seed gives the same interval.
pub(crate) fn bootstrap(values: &[f64], seed: u64) -> Interval {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| median(&values.iter().filter_map(|_| random.choice(values).copied()).collect::<Vec<_>>()))
        .collect();
    medians.sort_unstable_by(f64::total_cmp);
    Interval {
        median: median(values),
        low: medians[RESAMPLES / 20],
        high: medians[RESAMPLES - 1 - RESAMPLES / 20],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!(median(&[]).is_nan());
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn an_interval_holds_the_median_and_repeats_with_its_seed() {
        let values = [1.0, 1.1, 1.2, 1.3, 1.4, 9.0, 1.0];
        let interval = bootstrap(&values, 7);
        assert_eq!(interval, bootstrap(&values, 7));
        assert!(interval.low <= interval.median && interval.median <= interval.high);
        assert!(interval.low >= 1.0 && interval.high <= 9.0);
        let same = bootstrap(&[2.0; 7], 1);
        assert_eq!(same, Interval { median: 2.0, low: 2.0, high: 2.0 });
    }
}
