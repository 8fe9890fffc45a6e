//! Looking for the highest rate that a host keeps up with.

use super::{ExchangeResult, LoadError};
use serde::Serialize;
use std::fmt;

/// Each rate is so many times the one before, until one is too high.
const GROWTH: f64 = 1.5;
/// Then the gap between the highest that was kept up with and the lowest that was not is halved so many times.
const HALVINGS: u32 = 4;
/// Rates that are tried at most: from 1,000 a second these reach over 10^9.
const STEPS_MAX: usize = 40;

/// What it means to keep up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Answers a second, as a share of the requests offered.
    pub answered_min: f64,
    /// Requests without an answer, as a share of those offered.
    pub lost_max: f64,
    /// 99th percentile, in microseconds; `None`: any.
    pub p99_us_max: Option<f64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answered_min: 0.98, lost_max: 0.001, p99_us_max: None }
    }
}

/// One rate that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Requests a second that were due.
    pub offered: f64,
    /// Whether the host kept up.
    pub kept_up: bool,
    /// What came of it.
    #[serde(flatten)]
    pub result: ExchangeResult,
}

impl Limits {
    fn hold(&self, offered: f64, result: &ExchangeResult) -> bool {
        let lost = result.unanswered as f64 / (result.exchanges.max(result.unanswered).max(1)) as f64;
        result.per_second >= offered * self.answered_min
            && lost <= self.lost_max
            && self.p99_us_max.is_none_or(|most| result.p99_us <= most)
    }
}

/// What a sweep found.
#[derive(Clone, Debug, Serialize)]
pub struct Knee {
    /// All that was tried, in this order.
    pub steps: Vec<Step>,
    /// Highest rate that the host kept up with; `None`: not even with the first.
    pub knee: Option<f64>,
}

impl fmt::Display for Knee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>9}",
            "offered/s", "answered/s", "p50 µs", "p99 µs", "p99.9 µs", "max µs", "lost"
        )?;
        for Step { offered, kept_up, result } in &self.steps {
            let ExchangeResult { per_second, p50_us, p99_us, p999_us, max_us, unanswered, .. } = result;
            let mark = if *kept_up { "" } else { "  too much" };
            writeln!(
                f,
                "{offered:>12.0} {per_second:>12.0} {p50_us:>10.1} {p99_us:>10.1} {p999_us:>10.1} {max_us:>10.1} {unanswered:>9}{mark}"
            )?;
        }
        match self.knee {
            Some(knee) => write!(f, "the knee: {knee:.0}/s"),
            None => f.write_str("no rate that it keeps up with"),
        }
    }
}

/// Tries rates from `first` upwards, and narrows down where it becomes too much.
///
/// # Errors
/// Those of `measure`.
pub fn sweep(
    first: f64,
    limits: &Limits,
    mut measure: impl FnMut(f64) -> Result<ExchangeResult, LoadError>,
) -> Result<Knee, LoadError> {
    let mut knee = Knee { steps: Vec::new(), knee: None };
    let mut attempt = |offered: f64, knee: &mut Knee| {
        let result = measure(offered)?;
        let kept_up = limits.hold(offered, &result);
        knee.steps.push(Step { offered, kept_up, result });
        if kept_up {
            knee.knee = Some(knee.knee.map_or(offered, |highest: f64| highest.max(offered)));
        }
        Ok::<bool, LoadError>(kept_up)
    };
    let mut rate = first;
    let mut too_much = None;
    while too_much.is_none() && knee.steps.len() < STEPS_MAX {
        if attempt(rate, &mut knee)? {
            rate *= GROWTH;
        } else {
            too_much = Some(rate);
        }
    }
    let (Some(mut low), Some(mut high)) = (knee.knee, too_much) else { return Ok(knee) };
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if attempt(middle, &mut knee)? { low = middle } else { high = middle }
    }
    Ok(knee)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Percentiles;

    /// A host that answers up to `capacity` requests a second, and takes ten times as long from 80 % of it on.
    fn host(capacity: f64) -> impl FnMut(f64) -> Result<ExchangeResult, LoadError> {
        move |offered| {
            let latency = if offered > capacity * 0.8 { 1000.0 } else { 100.0 };
            Ok(ExchangeResult {
                exchanges: offered as u64,
                unanswered: 0,
                per_second: offered.min(capacity),
                p50_us: latency,
                p99_us: latency,
                p999_us: latency,
                max_us: latency,
                latency_us: Percentiles::default(),
                busy: 1.0,
            })
        }
    }

    #[test]
    fn the_knee_is_found_to_some_percent() {
        for capacity in [1500.0, 70_000.0, 3.3e6] {
            let found = sweep(1000.0, &Limits::default(), host(capacity)).unwrap().knee.unwrap();
            assert!((0.95..=1.03).contains(&(found / capacity)), "{found} of {capacity}");
        }
    }

    #[test]
    fn latency_is_a_limit_if_it_is_to_be() {
        let limits = Limits { p99_us_max: Some(500.0), ..Limits::default() };
        let found = sweep(1000.0, &limits, host(100_000.0)).unwrap().knee.unwrap();
        assert!((0.74..=0.8).contains(&(found / 1e5)), "{found}");
    }

    #[test]
    fn a_host_that_is_too_slow_for_the_first_rate_has_no_knee() {
        let found = sweep(1000.0, &Limits::default(), host(10.0)).unwrap();
        assert_eq!((found.knee, found.steps.len()), (None, 1));
        assert!(found.to_string().contains("too much"), "{found}");
    }

    #[test]
    fn a_host_without_an_end_does_not_keep_it_for_ever() {
        let found = sweep(1000.0, &Limits::default(), host(f64::INFINITY)).unwrap();
        assert_eq!(found.steps.len(), STEPS_MAX);
    }

    #[test]
    fn lost_requests_are_not_kept_up_with() {
        let mut slow = host(1e9);
        let lossy =
            |offered| slow(offered).map(|result| ExchangeResult { unanswered: result.exchanges / 100, ..result });
        assert_eq!(sweep(1000.0, &Limits::default(), lossy).unwrap().knee, None);
    }
}
