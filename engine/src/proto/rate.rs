//! A token bucket: how often something may happen, such as sending ICMP errors (RFC 1812 section 4.3.2.8).

use crate::time::Instant;

const NANOS_PER_S: u64 = 1_000_000_000;

/// Lets `burst` events through at once and `rate_per_s` a second for good.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    rate_per_s: u32,
    /// Tokens times 10⁹, so that elapsed nanoseconds times the rate add up without rounding.
    credit: u64,
    credit_max: u64,
    last: Instant,
}

impl TokenBucket {
    /// A full bucket. A rate of 0 never refills, a burst of 0 lets nothing through.
    pub fn new(rate_per_s: u32, burst: u32) -> Self {
        let credit_max = u64::from(burst) * NANOS_PER_S;
        Self { rate_per_s, credit: credit_max, credit_max, last: Instant::ZERO }
    }

    /// Takes a token, if there is one.
    #[inline]
    pub fn take(&mut self, now: Instant) -> bool {
        let elapsed_ns = now.saturating_since(self.last).as_nanos() as u64;
        let earned = elapsed_ns.saturating_mul(u64::from(self.rate_per_s));
        self.credit = self.credit.saturating_add(earned).min(self.credit_max);
        self.last = self.last.max(now);
        match self.credit.checked_sub(NANOS_PER_S) {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;
    use proptest::prelude::*;

    #[test]
    fn burst_then_rate() {
        let mut bucket = TokenBucket::new(10, 3);
        let at = Instant::from_millis;
        assert_eq!((0..5).filter(|_| bucket.take(at(1000))).count(), 3);
        assert!(!bucket.take(at(1099)));
        assert!(bucket.take(at(1100)));
        assert!(!bucket.take(at(1100)));
        assert_eq!((0..9).filter(|_| bucket.take(at(999_999))).count(), 3, "no more than the burst after a pause");
        assert!(!bucket.take(at(500)), "a clock that steps back gives nothing");
        assert!(!bucket.take(at(999_999)));
    }

    #[test]
    fn zeroes() {
        assert!(!TokenBucket::new(1000, 0).take(Instant::from_millis(99_999)));
        let mut bucket = TokenBucket::new(0, 1);
        assert!(bucket.take(Instant::ZERO));
        assert!(!bucket.take(Instant::from_nanos(u64::MAX)));
    }

    proptest! {
        /// Over any stretch, no more than burst + rate × time goes through, and a steady asker gets nearly all of that.
        #[test]
        fn keeps_the_rate(rate in 1u32..1_000_000, burst in 1u32..1000, steps in prop::collection::vec(0u64..50_000_000, 1..400)) {
            let mut bucket = TokenBucket::new(rate, burst);
            let (mut now, mut elapsed_ns, mut taken) = (Instant::from_millis(7), 0u64, 0u64);
            for step_ns in steps {
                now = now + Duration::from_nanos(step_ns);
                elapsed_ns += step_ns;
                taken += u64::from(bucket.take(now));
                let allowed = u64::from(burst) + u64::from(rate) * elapsed_ns / NANOS_PER_S;
                prop_assert!(taken <= allowed, "{} of {}", taken, allowed);
            }
            while bucket.take(now) {}
            let pause = Duration::from_nanos(NANOS_PER_S.div_ceil(u64::from(rate)));
            prop_assert!(bucket.take(now + pause));
        }
    }
}
