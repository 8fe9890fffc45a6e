//! When requests are due.
//!
//! At a constant rate request `k` is due at `begin + k / rate` on connection `k mod connections`, whatever became of those before it, and
//! its latency counts from then: an answer that is late is late for every request that had to wait for it (no coordinated omission).

use std::time::{Duration, Instant};

/// When each request of a run is due.
#[derive(Debug)]
pub struct Pace {
    begin: Instant,
    end: Instant,
    /// `None`: the next one is due when the one before is answered.
    gap: Option<Duration>,
    /// Requests of all connections that have become due.
    due: u64,
    /// Requests started, by connection.
    started: Vec<u64>,
}

impl Pace {
    /// Requests are due from `begin` until before `end`, `rate` of them a second over all connections. Without a rate, a connection's next one is due when
    /// the one before is answered.
    #[must_use]
    pub fn new(begin: Instant, end: Instant, rate: Option<f64>, connections: usize) -> Self {
        let gap = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        Self { begin, end, gap, due: 0, started: vec![0; connections] }
    }

    /// No request is due from then on.
    #[must_use]
    pub fn end(&self) -> Instant {
        self.end
    }

    /// At a constant rate: the next connection of which another request has become due. Connections that are busy with one before start
    /// it with [`Self::start`] when they are free.
    #[inline]
    pub fn newly_due(&mut self, now: Instant) -> Option<usize> {
        let due = self.time(self.gap?, self.due);
        if due > now || due >= self.end {
            return None;
        }
        let connection = self.due % self.started.len() as u64;
        self.due += 1;
        Some(connection as usize)
    }

    /// The connection is free: when its next request was due, or `None` if none is yet.
    #[inline]
    pub fn start(&mut self, connection: usize, now: Instant) -> Option<Instant> {
        let Some(gap) = self.gap else { return (now < self.end).then_some(now) };
        let started = self.started[connection];
        let due = self.time(gap, started * self.started.len() as u64 + connection as u64);
        if due > now || due >= self.end {
            return None;
        }
        self.started[connection] = started + 1;
        Some(due)
    }

    #[inline]
    fn time(&self, gap: Duration, request: u64) -> Instant {
        self.begin + Duration::from_nanos((gap.as_nanos() as u64).saturating_mul(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_late_answer_delays_no_request_after_it() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin, begin + 10 * MS, Some(1000.0), 2);
        assert_eq!(pace.newly_due(begin), Some(0));
        assert_eq!(pace.start(0, begin), Some(begin));
        assert_eq!(pace.newly_due(begin), None);
        // The answer takes 5 ms: three requests of connection 1 have become due, and two more of connection 0.
        let now = begin + 5 * MS;
        let due: Vec<usize> = std::iter::from_fn(|| pace.newly_due(now)).collect();
        assert_eq!(due, [1, 0, 1, 0, 1]);
        assert_eq!(pace.start(0, now), Some(begin + 2 * MS));
        assert_eq!(pace.start(0, now), Some(begin + 4 * MS));
        assert_eq!(pace.start(0, now), None);
        assert_eq!(pace.start(1, now), Some(begin + MS));
    }

    #[test]
    fn nothing_is_due_after_the_end() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin, begin + 4 * MS, Some(1000.0), 1);
        let later = begin + 100 * MS;
        assert_eq!(std::iter::from_fn(|| pace.newly_due(later)).count(), 4);
        assert_eq!(std::iter::from_fn(|| pace.start(0, later)).count(), 4);
    }

    #[test]
    fn without_a_rate_a_free_connection_starts_at_once() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin, begin + 4 * MS, None, 1);
        assert_eq!(pace.newly_due(begin + MS), None);
        assert_eq!(pace.start(0, begin + MS), Some(begin + MS));
        assert_eq!(pace.start(0, begin + 4 * MS), None);
    }
}
