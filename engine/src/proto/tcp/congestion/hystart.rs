//! HyStart++ (RFC 9406): leaves the first slow start when round trips become longer, before the queue on the path overflows.

use super::Window;
use std::time::Duration;

/// RFC 9406 section 4.3, `MIN_RTT_THRESH` and `MAX_RTT_THRESH`, in µs.
const RTT_THRESH_US: std::ops::RangeInclusive<u32> = 4000..=16_000;
/// `MIN_RTT_DIVISOR`.
const RTT_DIVISOR: u32 = 8;
/// `N_RTT_SAMPLE`: acknowledgements in a round before its minimum counts.
const SAMPLES_MIN: u8 = 8;
/// `CSS_GROWTH_DIVISOR`.
const CONSERVATIVE_DIVISOR: u32 = 4;
/// `CSS_ROUNDS`.
const CONSERVATIVE_ROUNDS: u8 = 5;
const UNKNOWN: u32 = u32::MAX;

/// What is seen of the first slow start, in rounds: a round ends when all that was in flight at its start is acknowledged.
#[derive(Clone, Debug)]
pub(super) struct HyStart {
    round_left_bytes: u32,
    last_round_min_us: u32,
    round_min_us: u32,
    /// Conservative slow start: the round's minimum when it began.
    baseline_us: u32,
    samples: u8,
    /// Rounds of conservative slow start still to go; 0: in slow start proper.
    conservative_rounds: u8,
}

impl Default for HyStart {
    fn default() -> Self {
        Self {
            round_left_bytes: 0,
            last_round_min_us: UNKNOWN,
            round_min_us: UNKNOWN,
            baseline_us: UNKNOWN,
            samples: 0,
            conservative_rounds: 0,
        }
    }
}

impl HyStart {
    /// Grows the window on an acknowledgement in slow start and, if it is over, sets the threshold.
    ///
    /// `rtt` is the smoothed round-trip time: it rises later than the single samples the RFC means, never earlier.
    pub(super) fn on_ack(
        &mut self,
        acked_bytes: u32,
        in_flight_bytes: u32,
        rtt: Option<Duration>,
        segments_max: u32,
        window: &mut Window,
    ) {
        let round_ends = acked_bytes >= self.round_left_bytes;
        self.round_left_bytes = self.round_left_bytes.saturating_sub(acked_bytes);
        if let Some(rtt) = rtt {
            let rtt_us = u32::try_from(rtt.as_micros()).unwrap_or(UNKNOWN - 1);
            self.round_min_us = self.round_min_us.min(rtt_us);
            self.samples = self.samples.saturating_add(1);
        }
        let divisor = if self.conservative_rounds == 0 { 1 } else { CONSERVATIVE_DIVISOR };
        let counted = acked_bytes.min(window.mss_bytes.saturating_mul(segments_max));
        window.grow(counted / divisor);
        self.judge();
        if round_ends {
            self.next_round(in_flight_bytes.saturating_sub(acked_bytes), window);
        }
    }

    fn judge(&mut self) {
        if self.samples < SAMPLES_MIN || self.round_min_us == UNKNOWN {
            return;
        }
        if self.conservative_rounds == 0 {
            let last = self.last_round_min_us;
            let thresh = (last / RTT_DIVISOR).clamp(*RTT_THRESH_US.start(), *RTT_THRESH_US.end());
            if last != UNKNOWN && self.round_min_us >= last.saturating_add(thresh) {
                self.baseline_us = self.round_min_us;
                self.conservative_rounds = CONSERVATIVE_ROUNDS;
            }
        } else if self.round_min_us < self.baseline_us {
            // The queue went away again: it was jitter.
            self.baseline_us = UNKNOWN;
            self.conservative_rounds = 0;
        }
    }

    fn next_round(&mut self, in_flight_bytes: u32, window: &mut Window) {
        if self.conservative_rounds != 0 {
            self.conservative_rounds -= 1;
            if self.conservative_rounds == 0 {
                window.ssthresh_bytes = window.cwnd_bytes;
            }
        }
        self.last_round_min_us = self.round_min_us;
        self.round_min_us = UNKNOWN;
        self.samples = 0;
        self.round_left_bytes = in_flight_bytes;
    }
}
