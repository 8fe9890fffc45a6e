//! NewReno: slow start, and one segment more per round trip (RFC 5681), counted in bytes (RFC 3465).

use super::{Ack, Before, CongestionControl, Episode, Window, restart_after_idle};
use crate::time::{Duration, Instant};

/// RFC 3465 section 2.2: a delayed acknowledgement counts in full, one that covers more does not set off a burst.
const SLOW_START_SEGMENTS_MAX: u32 = 2;
/// RFC 3465 section 2.3: after a timeout an acknowledgement may cover much that arrived long ago.
const SLOW_START_SEGMENTS_MAX_AFTER_TIMEOUT: u32 = 1;

/// NewReno's state.
#[derive(Clone, Debug, Default)]
pub struct NewReno {
    /// Acknowledged since the window last grew in congestion avoidance, in bytes.
    acked_bytes: u32,
    episode: Episode,
    before: Option<Before>,
}

impl CongestionControl for NewReno {
    fn on_ack(&mut self, ack: &Ack, window: &mut Window) {
        if !ack.cwnd_limited {
            return;
        }
        let mut acked_bytes = ack.acked_bytes;
        if window.in_slow_start() {
            acked_bytes = window.slow_start(
                acked_bytes,
                match self.episode {
                    Episode::Timeout => SLOW_START_SEGMENTS_MAX_AFTER_TIMEOUT,
                    _ => SLOW_START_SEGMENTS_MAX,
                },
            );
        }
        //= RFC 3465 2.1: when a whole window was acknowledged, it grows by a segment
        self.acked_bytes = self.acked_bytes.saturating_add(acked_bytes);
        if self.acked_bytes >= window.cwnd_bytes {
            self.acked_bytes -= window.cwnd_bytes;
            window.grow(window.mss_bytes);
        }
    }

    fn on_congestion(&mut self, _now: Instant, in_flight_bytes: u32, window: &mut Window) {
        self.before = Some(Before::of(window));
        self.episode = Episode::FastRecovery;
        self.acked_bytes = 0;
        //= RFC 5681 equation 4: ssthresh = max (FlightSize / 2, 2*SMSS)
        window.reduce_to(in_flight_bytes / 2);
    }

    fn on_timeout(&mut self, now: Instant, in_flight_bytes: u32, first: bool, window: &mut Window) {
        if first {
            self.on_congestion(now, in_flight_bytes, window);
        }
        self.episode = Episode::Timeout;
        window.cwnd_bytes = window.mss_bytes;
    }

    fn on_recovered(&mut self, _now: Instant, window: &mut Window) {
        self.episode.finish(window);
    }

    fn on_idle(&mut self, _now: Instant, idle: Duration, rto: Duration, window: &mut Window) {
        if restart_after_idle(idle, rto, window) {
            self.acked_bytes = 0;
        }
    }

    fn undo(&mut self, window: &mut Window) {
        if let Some(before) = self.before.take() {
            before.restore(window);
            self.episode = Episode::None;
        }
    }
}
