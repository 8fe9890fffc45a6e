//! CUBIC (RFC 9438): after congestion the window follows a cubic function of time, flat around where it was, whatever the round-trip time.

use super::{Ack, Before, CongestionControl, Episode, Window, hystart::HyStart, restart_after_idle};
use crate::time::{Duration, Instant};

/// RFC 9438 section 5: `C`, in segments per s³.
const C: f64 = 0.4;
/// RFC 9438 section 4.6: what is left of the window after congestion.
const BETA: f64 = 0.7;
/// RFC 9438 section 4.3: additive increase with which Reno, backing off by [`BETA`], gets the same mean window.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
/// Most segments an acknowledgement counts for in slow start. RFC 9406 section 4.2 says 8 without pacing; but receivers that merge what arrives (GRO)
/// acknowledge 64 KiB, 45 usual segments, at once, and with 8 the window would grow by as little per round trip.
const SLOW_START_SEGMENTS_MAX: u32 = 64;
/// RFC 3465 section 2.3: after a timeout an acknowledgement may cover much that arrived long ago.
const SLOW_START_SEGMENTS_MAX_AFTER_TIMEOUT: u32 = 1;

/// CUBIC's state.
#[derive(Clone, Debug, Default)]
pub struct Cubic {
    epoch: Option<Epoch>,
    last_ack: Instant,
    /// `W_max`: where the plateau is, in bytes; 0: unknown, it is where congestion avoidance starts.
    w_max_bytes: u32,
    /// `cwnd_prior`: the window before the last reduction, in bytes.
    cwnd_prior_bytes: u32,
    before: Option<Before>,
    /// `W_max` to go with `before`.
    w_max_before_bytes: u32,
    hystart: HyStart,
    episode: Episode,
}

/// A stretch of congestion avoidance.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    /// When it started, pauses taken out.
    start: Instant,
    /// `K`: how long after the start the function comes to its plateau, in s; negative after an undo beyond it.
    k_s: f32,
    /// What the window has grown by less than a byte.
    rest_bytes: f32,
    /// `W_est`: the window of Reno, in segments.
    w_est_segments: f64,
}

/// In the unit of the RFC's formulas.
fn segments(bytes: u32, window: &Window) -> f64 {
    f64::from(bytes) / f64::from(window.mss_bytes.max(1))
}

impl Cubic {
    fn start_epoch(&mut self, now: Instant, window: &Window) -> Epoch {
        if self.w_max_bytes == 0 {
            self.w_max_bytes = window.cwnd_bytes;
        }
        let [w_max, cwnd] = [self.w_max_bytes, window.cwnd_bytes].map(|bytes| segments(bytes, window));
        //= RFC 9438 4.2: K = cubic root of ((W_max - cwnd_epoch) / C)
        let k_s = ((w_max - cwnd) / C).cbrt() as f32;
        //= RFC 9438 4.3: W_est is set equal to cwnd_epoch
        Epoch { start: now, k_s, rest_bytes: 0.0, w_est_segments: cwnd }
    }

    /// What held sending back is the window.
    #[inline(never)]
    fn grow(&mut self, ack: &Ack, window: &mut Window) {
        let mut acked_bytes = ack.acked_bytes;
        if window.ssthresh_bytes == u32::MAX {
            //= RFC 9406 4.3: for the initial slow start only
            self.hystart.on_ack(acked_bytes, ack.in_flight_bytes, ack.srtt, SLOW_START_SEGMENTS_MAX, window);
            return;
        }
        if window.in_slow_start() {
            acked_bytes = window.slow_start(
                acked_bytes,
                match self.episode {
                    Episode::Timeout => SLOW_START_SEGMENTS_MAX_AFTER_TIMEOUT,
                    _ => SLOW_START_SEGMENTS_MAX,
                },
            );
        }
        if !window.in_slow_start() {
            self.avoid_congestion(ack, acked_bytes, window);
        }
    }

    /// RFC 9438 sections 4.2 to 4.5.
    fn avoid_congestion(&mut self, ack: &Ack, acked_bytes: u32, window: &mut Window) {
        let mut epoch = match self.epoch {
            Some(epoch) => epoch,
            None => self.start_epoch(ack.now, window),
        };
        let [cwnd, acked, w_max, cwnd_prior] =
            [window.cwnd_bytes.max(1), acked_bytes, self.w_max_bytes, self.cwnd_prior_bytes]
                .map(|bytes| segments(bytes, window));
        let t_s = ack.now.saturating_since(epoch.start).as_secs_f64();
        let w_cubic = |t_s: f64| C * (t_s - f64::from(epoch.k_s)).powi(3) + w_max;

        //= RFC 9438 4.3: W_est = W_est + alpha_cubic * segments_acked / cwnd; alpha is 1 from cwnd_prior on
        let alpha = if epoch.w_est_segments < cwnd_prior { ALPHA } else { 1.0 };
        epoch.w_est_segments += alpha * acked / cwnd;

        let growth = if w_cubic(t_s) < epoch.w_est_segments {
            (epoch.w_est_segments - cwnd).max(0.0)
        } else {
            //= RFC 9438 4.2: the target is W_cubic(t + RTT), between cwnd and 1.5 * cwnd
            let rtt_s = ack.srtt.unwrap_or_default().as_secs_f64();
            let target = w_cubic(t_s + rtt_s).clamp(cwnd, 1.5 * cwnd);
            //= RFC 9438 4.4: cwnd grows by (target - cwnd) / cwnd for each segment acknowledged
            (target - cwnd) / cwnd * acked
        };
        // An acknowledgement of more than the window does not carry it beyond the target.
        let growth_bytes = growth.min(cwnd) * f64::from(window.mss_bytes) + f64::from(epoch.rest_bytes);
        epoch.rest_bytes = growth_bytes.fract() as f32;
        window.grow(growth_bytes as u32);
        self.epoch = Some(epoch);
    }

    /// `W_max` and threshold of RFC 9438 sections 4.6 and 4.7.
    fn reduce(&mut self, in_flight_bytes: u32, window: &mut Window) {
        self.before = Some(Before::of(window));
        self.w_max_before_bytes = self.w_max_bytes;
        self.cwnd_prior_bytes = window.cwnd_bytes;
        //= RFC 9438 4.7: fast convergence: who did not get as far as the last time leaves room for others
        self.w_max_bytes = if window.cwnd_bytes < self.w_max_bytes {
            (f64::from(window.cwnd_bytes) * (1.0 + BETA) / 2.0) as u32
        } else {
            window.cwnd_bytes
        };
        self.epoch = None;
        //= RFC 9438 4.6: ssthresh = flight_size * beta; of the window, if more is in flight
        window.reduce_to((f64::from(in_flight_bytes.min(window.cwnd_bytes)) * BETA) as u32);
    }
}

impl CongestionControl for Cubic {
    #[inline(always)]
    fn on_ack(&mut self, ack: &Ack, window: &mut Window) {
        let since_last_ns = ack.now.nanos_since(self.last_ack);
        self.last_ack = self.last_ack.max(ack.now);
        if !ack.cwnd_limited {
            //= RFC 9438 5.8: time in which the application is what limits does not count
            if let Some(epoch) = &mut self.epoch {
                epoch.start = epoch.start.plus_nanos(since_last_ns);
            }
            return;
        }
        self.grow(ack, window);
    }

    fn on_congestion(&mut self, _now: Instant, in_flight_bytes: u32, window: &mut Window) {
        self.reduce(in_flight_bytes, window);
        self.episode = Episode::FastRecovery;
    }

    fn on_timeout(&mut self, _now: Instant, in_flight_bytes: u32, first: bool, window: &mut Window) {
        if first {
            self.reduce(in_flight_bytes, window);
            //= RFC 9438 4.8: W_max is the window at which congestion avoidance starts, K = 0
            self.w_max_bytes = 0;
        }
        self.epoch = None;
        self.episode = Episode::Timeout;
        window.cwnd_bytes = window.mss_bytes;
    }

    fn on_recovered(&mut self, _now: Instant, window: &mut Window) {
        self.episode.finish(window);
    }

    fn on_idle(&mut self, now: Instant, idle: Duration, rto: Duration, window: &mut Window) {
        self.last_ack = self.last_ack.max(now);
        if restart_after_idle(idle, rto, window) {
            self.epoch = None;
        } else if let Some(epoch) = &mut self.epoch {
            epoch.start = epoch.start + idle;
        }
    }

    fn undo(&mut self, window: &mut Window) {
        if let Some(before) = self.before.take() {
            before.restore(window);
            self.w_max_bytes = self.w_max_before_bytes;
            // A new epoch with the old plateau starts at the same point of the same curve.
            self.epoch = None;
            self.episode = Episode::None;
        }
    }
}
