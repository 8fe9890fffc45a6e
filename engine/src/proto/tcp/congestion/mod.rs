//! How much may be in flight: congestion control (RFC 5681, RFC 9438).
//!
//! An algorithm is told what happened and changes a [`Window`]; it neither sends nor counts what is in flight. During fast recovery the window is
//! [`Prr`](super::prr::Prr)'s; the algorithm says where that ends (`ssthresh`). Counting is by bytes (RFC 3465).

mod cubic;
mod hystart;
mod new_reno;

pub use cubic::Cubic;
pub use new_reno::NewReno;

use crate::time::{Duration, Instant};

/// Largest congestion window, in bytes: the largest that can be advertised (RFC 7323 section 2.3).
const CWND_BYTES_MAX: u32 = 1 << 30;

/// How much may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Congestion window, in bytes.
    pub cwnd_bytes: u32,
    /// Below it, the window grows as in slow start; `u32::MAX` until the first congestion.
    pub ssthresh_bytes: u32,
    /// Largest segment sent (SMSS), in bytes.
    pub mss_bytes: u32,
}

impl Window {
    /// At the start of a connection: about ten segments (RFC 6928). A size of 0 counts as 1.
    pub fn initial(mss_bytes: u32) -> Self {
        let mss_bytes = mss_bytes.max(1);
        Self { cwnd_bytes: initial_bytes(mss_bytes), ssthresh_bytes: u32::MAX, mss_bytes }
    }

    /// The window is below the slow-start threshold.
    pub fn in_slow_start(&self) -> bool {
        self.cwnd_bytes < self.ssthresh_bytes
    }

    fn grow(&mut self, bytes: u32) {
        self.cwnd_bytes = self.cwnd_bytes.saturating_add(bytes).min(CWND_BYTES_MAX);
    }

    /// Slow start: grows by what was acknowledged, at most `segments_max` segments, up to the threshold. Returns how many acknowledged bytes are left
    /// for congestion avoidance.
    fn slow_start(&mut self, acked_bytes: u32, segments_max: u32) -> u32 {
        let missing = self.ssthresh_bytes.saturating_sub(self.cwnd_bytes);
        let counted = acked_bytes.min(self.mss_bytes.saturating_mul(segments_max));
        self.grow(counted.min(missing));
        counted.saturating_sub(missing)
    }

    /// The threshold after congestion: never below two segments (RFC 5681 equation 4, RFC 9438 section 4.6).
    fn reduce_to(&mut self, bytes: u32) {
        self.ssthresh_bytes = bytes.max(self.mss_bytes.saturating_mul(2));
    }
}

//= RFC 6928 2: min (10*MSS, max (2*MSS, 14600))
fn initial_bytes(mss_bytes: u32) -> u32 {
    mss_bytes.saturating_mul(10).min(mss_bytes.saturating_mul(2).max(14_600))
}

/// An acknowledgement of new data.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// When it came.
    pub now: Instant,
    /// Newly acknowledged bytes.
    pub acked_bytes: u32,
    /// What was in flight before it, in bytes.
    pub in_flight_bytes: u32,
    /// The smoothed round-trip time.
    pub srtt: Option<Duration>,
    /// The congestion window is what held sending back; a window that is not used up does not grow (RFC 9438 section 5.8).
    pub cwnd_limited: bool,
}

/// A congestion control algorithm.
///
/// Of [`on_congestion`](Self::on_congestion) and [`on_timeout`](Self::on_timeout) (`first`), the last one can be undone, and
/// [`on_recovered`](Self::on_recovered) ends it.
pub trait CongestionControl {
    /// New data was acknowledged, outside of fast recovery (after a timeout: during it, too): grows the window.
    fn on_ack(&mut self, ack: &Ack, window: &mut Window);

    /// Loss was found, or congestion reported, for the first time in this window of data: sets the threshold from what is in flight. The window is
    /// left to PRR.
    fn on_congestion(&mut self, now: Instant, in_flight_bytes: u32, window: &mut Window);

    /// The retransmission timer expired: the window is one segment. `first`: for this data; then the threshold is set, too (RFC 5681 section 3.1).
    fn on_timeout(&mut self, now: Instant, in_flight_bytes: u32, first: bool, window: &mut Window);

    /// All that was sent before the loss is acknowledged. After fast recovery the window becomes the threshold (RFC 9937 section 6); after a timeout
    /// it goes on from where it is.
    fn on_recovered(&mut self, now: Instant, window: &mut Window);

    /// Sending starts again after `idle` without any: after more than a retransmission timeout from the initial window (RFC 5681 section 4.1).
    fn on_idle(&mut self, now: Instant, idle: Duration, rto: Duration, window: &mut Window);

    /// The last reaction was for nothing: back to what was before, once (RFC 4015, RFC 9438 section 4.9).
    fn undo(&mut self, window: &mut Window);
}

/// Which algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// NewReno (RFC 5681).
    NewReno,
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406).
    #[default]
    Cubic,
}

/// The algorithm of a connection.
#[derive(Clone, Debug)]
pub enum Congestion {
    /// See [`Algorithm::NewReno`].
    NewReno(NewReno),
    /// See [`Algorithm::Cubic`].
    Cubic(Cubic),
}

impl Congestion {
    /// At the start of a connection.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::NewReno => Self::NewReno(NewReno::default()),
            Algorithm::Cubic => Self::Cubic(Cubic::default()),
        }
    }

    /// Which one it is.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::NewReno(_) => Algorithm::NewReno,
            Self::Cubic(_) => Algorithm::Cubic,
        }
    }
}

impl CongestionControl for Congestion {
    #[inline]
    fn on_ack(&mut self, ack: &Ack, window: &mut Window) {
        match self {
            Self::NewReno(it) => it.on_ack(ack, window),
            Self::Cubic(it) => it.on_ack(ack, window),
        }
    }

    fn on_congestion(&mut self, now: Instant, in_flight_bytes: u32, window: &mut Window) {
        match self {
            Self::NewReno(it) => it.on_congestion(now, in_flight_bytes, window),
            Self::Cubic(it) => it.on_congestion(now, in_flight_bytes, window),
        }
    }

    fn on_timeout(&mut self, now: Instant, in_flight_bytes: u32, first: bool, window: &mut Window) {
        match self {
            Self::NewReno(it) => it.on_timeout(now, in_flight_bytes, first, window),
            Self::Cubic(it) => it.on_timeout(now, in_flight_bytes, first, window),
        }
    }

    fn on_recovered(&mut self, now: Instant, window: &mut Window) {
        match self {
            Self::NewReno(it) => it.on_recovered(now, window),
            Self::Cubic(it) => it.on_recovered(now, window),
        }
    }

    fn on_idle(&mut self, now: Instant, idle: Duration, rto: Duration, window: &mut Window) {
        match self {
            Self::NewReno(it) => it.on_idle(now, idle, rto, window),
            Self::Cubic(it) => it.on_idle(now, idle, rto, window),
        }
    }

    fn undo(&mut self, window: &mut Window) {
        match self {
            Self::NewReno(it) => it.undo(window),
            Self::Cubic(it) => it.undo(window),
        }
    }
}

/// What a connection recovers from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Episode {
    #[default]
    None,
    FastRecovery,
    Timeout,
}

impl Episode {
    /// Ends it; see [`CongestionControl::on_recovered`].
    fn finish(&mut self, window: &mut Window) {
        if std::mem::take(self) == Self::FastRecovery {
            window.cwnd_bytes = window.ssthresh_bytes.min(CWND_BYTES_MAX);
        }
    }
}

/// Window and threshold before a reaction that may turn out to be for nothing.
#[derive(Clone, Copy, Debug)]
struct Before {
    cwnd_bytes: u32,
    ssthresh_bytes: u32,
}

impl Before {
    fn of(window: &Window) -> Self {
        Self { cwnd_bytes: window.cwnd_bytes, ssthresh_bytes: window.ssthresh_bytes }
    }

    fn restore(self, window: &mut Window) {
        window.cwnd_bytes = window.cwnd_bytes.max(self.cwnd_bytes);
        window.ssthresh_bytes = self.ssthresh_bytes;
    }
}

/// RFC 5681 section 4.1: after a pause longer than a timeout nothing is known of the path any more. False: the pause was shorter.
fn restart_after_idle(idle: Duration, rto: Duration, window: &mut Window) -> bool {
    let restart = idle > rto;
    if restart {
        window.cwnd_bytes = window.cwnd_bytes.min(initial_bytes(window.mss_bytes));
    }
    restart
}

#[cfg(test)]
mod tests;
