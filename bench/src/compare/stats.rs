//! What is said of repeated measurements.

use serde::{Deserialize, Serialize};

/// Below this an interval is as wide as the values are.
const COVERAGE: f64 = 0.95;

/// What became of one system's rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) n: usize,
}

impl Summary {
    /// `None` without values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let n = sorted.len();
        let median = f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2]);
        Some(Self { median, min, max, n })
    }
}

/// Where the true median lies, whatever the distribution: the narrowest pair of order statistics around the median that holds it with a
/// probability of at least 95 %. For fewer than six values that is the smallest and the largest, which hold it less often.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Probability that it holds the median, were the rounds independent.
    pub(crate) coverage: f64,
}

impl Interval {
    /// `None` without values.
    pub(crate) fn of_median(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        let n = sorted.len();
        // The median is below the smallest but `cut` of them if at most `cut` values are below it: each is with probability ½.
        let misses = |cut: usize| 2.0 * (0..=cut).map(|below| binomial(n, below)).sum::<f64>() / 2_f64.powi(n as i32);
        let narrowest = (0..n.div_ceil(2)).take_while(|&cut| 1.0 - misses(cut) >= COVERAGE).last();
        let cut = narrowest.unwrap_or(0);
        let (&low, &high) = (sorted.get(cut)?, sorted.get(n - 1 - cut)?);
        Some(Self { low, high, coverage: (1.0 - misses(cut)).max(0.0) })
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_owned();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn binomial(n: usize, k: usize) -> f64 {
    (0..k).fold(1.0, |product, i| product * (n - i) as f64 / (i + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(Summary::of(&[3.0, 1.0, 2.0]), Some(Summary { median: 2.0, min: 1.0, max: 3.0, n: 3 }));
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 3.0]), Some(Summary { median: 2.5, min: 1.0, max: 4.0, n: 4 }));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn intervals_are_those_of_the_sign_test() {
        let of = |n: u32| Interval::of_median(&(1..=n).map(f64::from).collect::<Vec<_>>());
        assert_eq!(of(0), None);
        assert_eq!(of(1), Some(Interval { low: 1.0, high: 1.0, coverage: 0.0 }));
        assert_eq!(of(5), Some(Interval { low: 1.0, high: 5.0, coverage: 0.9375 }));
        assert_eq!(of(6), Some(Interval { low: 1.0, high: 6.0, coverage: 0.96875 }));
        // Tables of the sign test: n = 10 leaves out one at each end, n = 20 five.
        let ten = of(10).unwrap();
        assert_eq!((ten.low, ten.high), (2.0, 9.0));
        assert!((ten.coverage - 0.978_5).abs() < 1e-4, "{ten:?}");
        let twenty = of(20).unwrap();
        assert_eq!((twenty.low, twenty.high), (6.0, 15.0));
    }
}
