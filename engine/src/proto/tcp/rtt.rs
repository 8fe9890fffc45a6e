//! How long to wait for an acknowledgement (RFC 6298), and how short the way is at best (RFC 8985).

use std::time::Duration;

/// The clock's granularity `G` of RFC 6298 section 2: timers fire up to 65 µs late and a busy worker may take longer to come round. Shorter:
/// connections whose round trips are all alike time out early; longer: losses on fast links are noticed late.
const GRANULARITY_US: u32 = 1000;
/// RFC 6298 section 5.7: what the timer starts from when data follows a SYN that timed out.
const AFTER_SYN_TIMEOUT_US: u32 = 3_000_000;
/// Longest round trip that is believed: scaled by 8 it still fits 32 bits.
const SAMPLE_US_MAX: u32 = u32::MAX / 8;
/// Samples in each half of the window of the minimum, so that it covers one to two times as many. Fewer: a standing queue is soon taken for the
/// path's own delay; more: it takes longer to notice that the path became longer.
const HALF_WINDOW_SAMPLES: u16 = 8192;

/// Bounds of the retransmission timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtoConfig {
    /// Before there is a sample. RFC 6298 section 2.1: 1 s.
    pub initial: Duration,
    /// Never shorter. RFC 6298 section 2.4 asks for 1 s; 200 ms is what others use.
    pub min: Duration,
    /// Never longer, back-off included. RFC 6298 section 2.5: at least 60 s.
    pub max: Duration,
}

impl Default for RtoConfig {
    fn default() -> Self {
        Self { initial: Duration::from_secs(1), min: Duration::from_millis(200), max: Duration::from_secs(60) }
    }
}

/// Round-trip times of one connection and the timeout that follows from them.
///
/// Karn's rule is the caller's: no samples from segments sent twice, unless a timestamp tells which one was answered.
#[derive(Clone, Copy, Debug)]
pub struct RttEstimator {
    /// SRTT times 8, in µs; 0: no sample yet.
    srtt_8_us: u32,
    /// RTTVAR times 4, in µs.
    rttvar_4_us: u32,
    initial_us: u32,
    min_us: u32,
    max_us: u32,
    /// Minima of the half window before this one and of this one; `u32::MAX`: without samples.
    min_rtt_us: [u32; 2],
    samples_left: u16,
    backoffs: u8,
}

impl RttEstimator {
    /// Without samples. Bounds are rounded to µs, and a maximum below the minimum counts as the minimum.
    pub fn new(config: RtoConfig) -> Self {
        let min_us = micros(config.min).max(1);
        Self {
            srtt_8_us: 0,
            rttvar_4_us: 0,
            initial_us: micros(config.initial),
            min_us,
            max_us: micros(config.max).max(min_us),
            min_rtt_us: [u32::MAX; 2],
            samples_left: HALF_WINDOW_SAMPLES,
            backoffs: 0,
        }
    }

    /// Other bounds from now on.
    pub fn set_bounds(&mut self, config: RtoConfig) {
        let Self { initial_us, min_us, max_us, .. } = Self::new(config);
        (self.initial_us, self.min_us, self.max_us) = (initial_us, min_us, max_us);
    }

    /// Takes in a measured round trip. The back-off stays: an acknowledgement of new data ends it, see [`reset_back_off`](Self::reset_back_off).
    pub fn sample(&mut self, rtt: Duration) {
        self.sample_us(u64::from(micros(rtt)));
    }

    /// The same in nanoseconds.
    #[inline]
    pub fn sample_ns(&mut self, rtt_ns: u64) {
        self.sample_us(rtt_ns / 1000);
    }

    #[inline]
    fn sample_us(&mut self, rtt_us: u64) {
        let rtt_us = rtt_us.clamp(1, u64::from(SAMPLE_US_MAX)) as u32;
        if self.srtt_8_us == 0 {
            //= RFC 6298 2.2: SRTT <- R, RTTVAR <- R/2
            self.srtt_8_us = rtt_us * 8;
            self.rttvar_4_us = rtt_us * 2;
        } else {
            //= RFC 6298 2.3: RTTVAR <- 3/4 RTTVAR + 1/4 |SRTT - R'|, then SRTT <- 7/8 SRTT + 1/8 R'
            self.rttvar_4_us = self.rttvar_4_us - self.rttvar_4_us / 4 + (self.srtt_8_us / 8).abs_diff(rtt_us);
            self.srtt_8_us = (self.srtt_8_us - self.srtt_8_us / 8 + rtt_us).max(8);
        }
        self.min_rtt_us[1] = self.min_rtt_us[1].min(rtt_us);
        self.samples_left -= 1;
        if self.samples_left == 0 {
            self.min_rtt_us = [self.min_rtt_us[1], u32::MAX];
            self.samples_left = HALF_WINDOW_SAMPLES;
        }
    }

    /// The retransmission timeout, with back-off.
    pub fn rto(&self) -> Duration {
        Duration::from_nanos(self.rto_ns())
    }

    /// The same in nanoseconds.
    #[inline]
    pub fn rto_ns(&self) -> u64 {
        if self.backoffs == 0 {
            return u64::from(self.base_rto_us()) * 1000;
        }
        //= RFC 6298 5.5: RTO <- RTO * 2, as often as it timed out, up to the maximum
        let factor = 1u64 << self.backoffs.min(31);
        (u64::from(self.base_rto_us()) * factor).min(u64::from(self.max_us)) * 1000
    }

    /// The retransmission timeout as if nothing had timed out.
    pub fn base_rto(&self) -> Duration {
        Duration::from_micros(u64::from(self.base_rto_us()))
    }

    #[inline]
    fn base_rto_us(&self) -> u32 {
        let rto_us = match self.srtt_8_us {
            0 => self.initial_us,
            //= RFC 6298 2.3: RTO <- SRTT + max (G, K*RTTVAR), K = 4
            srtt_8_us => (srtt_8_us / 8).saturating_add(self.rttvar_4_us.max(GRANULARITY_US)),
        };
        // Not `clamp`, which asks whether the bounds are in order: they are.
        rto_us.max(self.min_us).min(self.max_us)
    }

    /// The timer expired: the next timeout is twice as long.
    pub fn back_off(&mut self) {
        self.backoffs = self.backoffs.saturating_add(1);
    }

    /// New data was acknowledged, or the SYN.
    ///
    /// If the SYN had timed out and there is no sample for it, the timer starts from 3 s (RFC 6298 section 5.7): the initial one was too short.
    #[inline]
    pub fn reset_back_off(&mut self) {
        if self.backoffs != 0 && self.srtt_8_us == 0 {
            self.initial_us = self.initial_us.max(AFTER_SYN_TIMEOUT_US);
        }
        self.backoffs = 0;
    }

    /// How often the timer expired since new data was acknowledged.
    #[inline]
    pub fn backoffs(&self) -> u32 {
        u32::from(self.backoffs)
    }

    /// The smoothed round-trip time.
    pub fn srtt(&self) -> Option<Duration> {
        (self.srtt_8_us != 0).then(|| Duration::from_micros(u64::from(self.srtt_8_us / 8)))
    }

    /// The same in nanoseconds; 0: not known.
    #[inline]
    pub fn srtt_ns(&self) -> u64 {
        u64::from(self.srtt_8_us / 8) * 1000
    }

    /// The mean deviation of the round-trip time; zero without samples.
    pub fn rttvar(&self) -> Duration {
        Duration::from_micros(u64::from(self.rttvar_4_us / 4))
    }

    /// The shortest of the last 8,192 to 16,384 samples (RFC 8985 section 6.2, step 1: a minimum over a window, as paths change).
    pub fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt_ns().map(Duration::from_nanos)
    }

    /// The same in nanoseconds.
    #[inline]
    pub fn min_rtt_ns(&self) -> Option<u64> {
        let min_us = self.min_rtt_us[0].min(self.min_rtt_us[1]);
        (min_us != u32::MAX).then(|| u64::from(min_us) * 1000)
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONFIG: RtoConfig =
        RtoConfig { initial: Duration::from_secs(1), min: Duration::from_millis(1), max: Duration::from_secs(60) };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn compact() {
        assert!(size_of::<RttEstimator>() <= 40);
    }

    /// RFC 6298 sections 2.1 to 2.3 on paper: 100 ms, then 140 ms, then 100 ms.
    #[test]
    fn rfc_6298_formulas() {
        let mut rtt = RttEstimator::new(CONFIG);
        assert_eq!((rtt.srtt(), rtt.rto()), (None, ms(1000)));
        rtt.sample(ms(100));
        assert_eq!((rtt.srtt(), rtt.rttvar(), rtt.rto()), (Some(ms(100)), ms(50), ms(300)));
        rtt.sample(ms(140));
        // 3/4 × 50 + 1/4 × 40 = 47.5; 7/8 × 100 + 1/8 × 140 = 105; 105 + 4 × 47.5 = 295
        assert_eq!((rtt.srtt(), rtt.rttvar(), rtt.rto()), (Some(ms(105)), us(47_500), ms(295)));
        rtt.sample(ms(100));
        // 3/4 × 47.5 + 1/4 × 5 = 36.875; 7/8 × 105 + 1/8 × 100 = 104.375
        assert_eq!((rtt.srtt(), rtt.rttvar(), rtt.rto()), (Some(us(104_375)), us(36_875), us(251_875)));
    }

    #[test]
    fn bounds() {
        let mut rtt = RttEstimator::new(RtoConfig { min: ms(200), ..CONFIG });
        for _ in 0..200 {
            rtt.sample(us(30));
        }
        assert_eq!((rtt.srtt(), rtt.rto()), (Some(us(30)), ms(200)), "RFC 6298 section 2.4");
        let mut rtt = RttEstimator::new(CONFIG);
        for _ in 0..200 {
            rtt.sample(ms(10));
        }
        assert_eq!(rtt.rto(), ms(11), "at least the clock's granularity on top");
        rtt.sample(Duration::from_secs(3600));
        assert_eq!(rtt.rto(), Duration::from_secs(60), "RFC 6298 section 2.5");
        let odd = RttEstimator::new(RtoConfig { min: ms(500), max: ms(100), initial: ms(1) });
        assert_eq!(odd.rto(), ms(500));
    }

    /// RFC 6298 sections 5.5 and 5.6.
    #[test]
    fn back_off_doubles_up_to_the_maximum() {
        let mut rtt = RttEstimator::new(CONFIG);
        rtt.sample(ms(100));
        let mut seen = vec![];
        for _ in 0..300 {
            seen.push(rtt.rto().as_millis());
            rtt.back_off();
        }
        assert_eq!(seen[..9], [300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 60000]);
        assert_eq!((seen[299], rtt.backoffs(), rtt.base_rto()), (60_000, 255, ms(300)));
        rtt.sample(ms(100));
        assert_eq!(rtt.backoffs(), 255, "a sample alone does not end it");
        rtt.reset_back_off();
        // 3/4 × 50 = 37.5
        assert_eq!((rtt.rto(), rtt.backoffs()), (ms(250), 0));
    }

    /// RFC 6298 section 5.7.
    #[test]
    fn syn_that_timed_out() {
        let mut rtt = RttEstimator::new(CONFIG);
        rtt.reset_back_off();
        assert_eq!(rtt.rto(), ms(1000), "the SYN did not time out");
        rtt.back_off();
        assert_eq!(rtt.rto(), ms(2000));
        rtt.reset_back_off();
        assert_eq!(rtt.rto(), ms(3000));
        rtt.sample(ms(100));
        assert_eq!(rtt.rto(), ms(300), "until there is a sample");
    }

    #[test]
    fn minimum_of_a_window() {
        let mut rtt = RttEstimator::new(CONFIG);
        assert_eq!(rtt.min_rtt(), None);
        rtt.sample(ms(5));
        for _ in 0..HALF_WINDOW_SAMPLES {
            rtt.sample(ms(9));
            assert_eq!(rtt.min_rtt(), Some(ms(5)));
        }
        for _ in 0..HALF_WINDOW_SAMPLES {
            rtt.sample(ms(9));
        }
        assert_eq!(rtt.min_rtt(), Some(ms(9)), "the short one is too long ago");
        rtt.sample(ms(7));
        assert_eq!(rtt.min_rtt(), Some(ms(7)));
    }

    proptest! {
        #[test]
        fn whatever_comes(samples in prop::collection::vec(any::<u64>(), 1..100)) {
            let mut rtt = RttEstimator::new(CONFIG);
            for nanos in samples {
                rtt.sample(Duration::from_nanos(nanos));
                rtt.back_off();
                prop_assert!(rtt.srtt().is_some() && rtt.min_rtt() <= Some(Duration::from_nanos(nanos).max(us(1))));
                prop_assert!((CONFIG.min..=CONFIG.max).contains(&rtt.rto()) && rtt.base_rto() <= rtt.rto());
            }
        }
    }
}
