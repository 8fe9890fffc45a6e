//! How long the steps of a turn take: one histogram a step, off unless asked for.

use crate::{socket::Work, time::Instant};
use hdrhistogram::Histogram;

/// A step of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Completions and fill ring.
    Reap,
    /// RX ring to buffers.
    Receive,
    /// Protocols, up to the socket queues.
    Ingress,
    /// Timers.
    Timers,
    /// The application.
    App,
    /// Egress queue to TX ring.
    Transmit,
    /// The system call that wakes the kernel.
    Kick,
}

impl Stage {
    /// All, in the order of a turn.
    pub const ALL: [Self; 7] =
        [Self::Reap, Self::Receive, Self::Ingress, Self::Timers, Self::App, Self::Transmit, Self::Kick];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reap => "reap",
            Self::Receive => "receive",
            Self::Ingress => "ingress",
            Self::Timers => "timers",
            Self::App => "app",
            Self::Transmit => "transmit",
            Self::Kick => "kick",
        }
    }
}

/// One turn in this many, of those that had something to do, is measured. Reading the clock eight times costs about as much as handling three packets:
/// measuring every turn would cost over 2 % when turns are small.
const SAMPLE_EVERY: u32 = 16;

/// Histograms of the sampled turns, in nanoseconds.
#[derive(Clone, Debug)]
pub struct StageHistograms {
    histograms: Vec<Histogram<u64>>,
    countdown: u32,
    /// When the step that runs began, in a turn that is measured.
    last: Option<Instant>,
    /// What the steps of this turn took.
    turn: [u64; Stage::ALL.len()],
}

/// A histogram's figures, in nanoseconds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct StageSummary {
    /// The step.
    pub stage: &'static str,
    /// Turns measured.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// 99.9th percentile.
    pub p999_ns: u64,
    /// Longest.
    pub max_ns: u64,
}

impl Default for StageHistograms {
    fn default() -> Self {
        Self::new()
    }
}

impl StageHistograms {
    /// Empty ones: 1 ns to 1 s at two significant digits, about 20 KiB each.
    pub fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, 1_000_000_000, 2);
        let histograms = Stage::ALL.iter().filter_map(|_| histogram().ok()).collect();
        Self { histograms, countdown: SAMPLE_EVERY, last: None, turn: [0; Stage::ALL.len()] }
    }

    /// A turn begins.
    #[inline]
    pub(super) fn begin(&mut self, now: impl FnOnce() -> Instant) {
        self.last = (self.countdown == 0).then(now);
    }

    /// A step ended.
    #[inline]
    pub(super) fn end(&mut self, stage: Stage, now: impl FnOnce() -> Instant) {
        let Some(last) = self.last else { return };
        let now = now();
        self.last = Some(now);
        self.turn[stage as usize] = now.saturating_since(last).as_nanos() as u64;
    }

    /// The turn ended. Turns with nothing to do are forgotten: they would bury the others.
    #[inline]
    pub(super) fn finish(&mut self, work: Work) {
        if work == Work::None {
            return;
        }
        if self.last.is_none() {
            self.countdown -= 1;
            return;
        }
        self.countdown = SAMPLE_EVERY - 1;
        for (histogram, ns) in self.histograms.iter_mut().zip(std::mem::take(&mut self.turn)) {
            histogram.saturating_record(ns.max(1));
        }
    }

    /// Figures of every step.
    pub fn summaries(&self) -> Vec<StageSummary> {
        Stage::ALL
            .iter()
            .zip(&self.histograms)
            .map(|(stage, histogram)| StageSummary {
                stage: stage.name(),
                count: histogram.len(),
                p50_ns: histogram.value_at_quantile(0.5),
                p99_ns: histogram.value_at_quantile(0.99),
                p999_ns: histogram.value_at_quantile(0.999),
                max_ns: histogram.max(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_busy_turn_in_sixteen_is_measured() {
        let mut stages = StageHistograms::new();
        let mut now = 0;
        for turn in 0..320 {
            stages.begin(|| Instant::from_nanos(now));
            for stage in Stage::ALL {
                now += 100;
                stages.end(stage, || Instant::from_nanos(now));
            }
            stages.finish(if turn % 2 == 0 { Work::Some } else { Work::None });
        }
        for summary in stages.summaries() {
            assert_eq!(summary.count, 9, "{}", summary.stage);
            assert!((99..=101).contains(&summary.p50_ns), "{summary:?}");
        }
    }
}
