//! What exchanges took.

use super::{LoadError, Pace};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    time::{Duration, Instant},
};

/// Longer ones are counted as so long.
const LONGEST_NS: u64 = 100_000_000_000;

/// Of latencies: which are told.
const QUANTILES: [f64; 9] = [0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999];

/// Latencies: quantile and microseconds, the quantiles in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles(pub Vec<(f64, f64)>);

impl Percentiles {
    /// Those beyond which at least one measurement lies: the others would be the maximum under another name.
    fn of(times_ns: &Histogram<u64>) -> Self {
        let known = QUANTILES.iter().filter(|&&quantile| times_ns.len() as f64 * (1.0 - quantile) >= 1.0 - 1e-9);
        Self(known.map(|&quantile| (quantile, times_ns.value_at_quantile(quantile) as f64 / 1e3)).collect())
    }
}

/// What a client saw, and prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExchangeResult {
    /// Requests that were due in the measured time and whose latency is counted: datagrams that were lost are not among them.
    pub exchanges: u64,
    /// Requests without an answer within two seconds after that time; over TCP their latency is counted up to then.
    pub unanswered: u64,
    /// Answers a second.
    pub per_second: f64,
    /// Median latency, in microseconds.
    pub p50_us: f64,
    /// 99th percentile, in microseconds.
    pub p99_us: f64,
    /// 99.9th percentile, in microseconds.
    pub p999_us: f64,
    /// The longest, in microseconds.
    pub max_us: f64,
    /// As many percentiles as there were enough exchanges for.
    pub latency_us: Percentiles,
    /// Share of its core's time that the client used; 1 if it spins.
    pub busy: f64,
}

impl fmt::Display for ExchangeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exchanges, unanswered, per_second, p50_us, p99_us, p999_us, max_us, busy, latency_us: _ } = self;
        write!(
            f,
            "{per_second:.0}/s, p50 {p50_us:.1} µs, p99 {p99_us:.1} µs, p99.9 {p999_us:.1} µs, max {max_us:.1} µs \
             ({exchanges} exchanges, {unanswered} unanswered, client busy {:.0} %)",
            busy * 100.0
        )
    }
}

/// Counts exchanges and their latencies.
#[derive(Debug)]
pub struct Tally {
    begin: Instant,
    end: Instant,
    times_ns: Histogram<u64>,
    /// Ended within the measured time, whenever they began.
    ended: u64,
    unanswered: u64,
    cpu_at_begin: Option<Duration>,
}

impl Tally {
    /// Counts what is due from `begin` until before `end`.
    ///
    /// # Errors
    /// No histogram.
    pub fn new(begin: Instant, end: Instant) -> Result<Self, LoadError> {
        let times_ns = Histogram::new_with_bounds(1, LONGEST_NS, 3)
            .map_err(|error| LoadError::Unexpected(format!("a histogram of three digits: {error}")))?;
        Ok(Self { begin, end, times_ns, ended: 0, unanswered: 0, cpu_at_begin: None })
    }

    /// An exchange due at `due` ended at `now`.
    #[inline]
    pub fn record(&mut self, due: Instant, now: Instant) {
        if now >= self.begin {
            if now < self.end {
                self.ended += 1;
            }
            if self.cpu_at_begin.is_none() {
                self.cpu_at_begin = Some(cpu_time());
            }
        }
        if due >= self.begin && due < self.end {
            let took = now.saturating_duration_since(due).as_nanos();
            self.times_ns.saturating_record(u64::try_from(took).unwrap_or(LONGEST_NS));
        }
    }

    /// One that was due at `due` did not end until `now`, when nobody waits any longer.
    fn give_up(&mut self, due: Instant, now: Instant) {
        if due >= self.begin && due < self.end {
            self.unanswered += 1;
        }
        self.record(due, now);
    }

    /// A request that was due at `due` is known to be lost: no latency of it is counted.
    pub fn lose(&mut self, due: Instant) {
        if due >= self.begin && due < self.end {
            self.unanswered += 1;
        }
    }

    /// The end: counts what is without an answer on each connection, and what had to wait for it.
    pub fn give_up_all(&mut self, pace: &mut Pace, outstanding: impl Iterator<Item = Option<Instant>>) {
        let (now, end) = (Instant::now(), pace.end());
        for (connection, due) in outstanding.enumerate() {
            let Some(due) = due else { continue };
            self.give_up(due, now);
            while let Some(due) = pace.start(connection, end) {
                self.give_up(due, now);
            }
        }
    }

    /// What it came to; with what [`cpu_time`] said at the end of the measured time.
    #[must_use]
    pub fn result(&self, cpu_at_end: Duration) -> ExchangeResult {
        let us = |quantile: f64| self.times_ns.value_at_quantile(quantile) as f64 / 1e3;
        let seconds = (self.end - self.begin).as_secs_f64();
        let cpu = cpu_at_end.saturating_sub(self.cpu_at_begin.unwrap_or(cpu_at_end));
        ExchangeResult {
            exchanges: self.times_ns.len(),
            unanswered: self.unanswered,
            per_second: self.ended as f64 / seconds,
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: us(1.0),
            latency_us: Percentiles::of(&self.times_ns),
            busy: (cpu.as_secs_f64() / seconds).min(1.0),
        }
    }
}

/// What this process has used of its core.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_was_due_in_the_measured_time() {
        let begin = Instant::now();
        let ms = Duration::from_millis;
        let mut tally = Tally::new(begin, begin + ms(100)).unwrap();
        tally.record(begin, begin + ms(1)); // in it
        tally.record(begin + ms(99), begin + ms(101)); // due in it
        tally.record(begin + ms(100), begin + ms(101)); // after it
        tally.give_up(begin + ms(50), begin + ms(1050));
        let result = tally.result(cpu_time());
        assert_eq!((result.exchanges, result.unanswered), (3, 1));
        assert!((result.per_second - 10.0).abs() < 1e-9, "{result}");
        assert!((result.p50_us / 2000.0 - 1.0).abs() < 0.01, "{result}");
        assert!((result.max_us / 1e6 - 1.0).abs() < 0.01, "{result}");
    }

    #[test]
    fn percentiles_have_measurements_beyond_them() {
        let mut times_ns = Histogram::new(3).unwrap();
        (1..=100).for_each(|us| times_ns.record(us * 1000).unwrap());
        let Percentiles(points) = Percentiles::of(&times_ns);
        assert_eq!(points.iter().map(|(quantile, _)| *quantile).collect::<Vec<_>>(), [0.5, 0.75, 0.9, 0.95, 0.99]);
        assert!((points[4].1 / 99.0 - 1.0).abs() < 0.01, "{points:?}");
    }
}
