//! How much may be sent on each acknowledgement during fast recovery: Proportional Rate Reduction (RFC 9937).
//!
//! What is in flight shrinks to `ssthresh` in the proportion in which data is delivered, so that sending never stops. If losses bring it lower,
//! it grows again: by what was delivered (conservative bound), or by a segment more (slow start) while acknowledgements show no further loss.

/// The account of one fast recovery. All numbers are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prr {
    /// `RecoverFS`; never 0.
    in_flight_at_start: u32,
    ssthresh: u32,
    /// `prr_delivered`.
    delivered: u32,
    /// `prr_out`.
    sent: u32,
}

impl Prr {
    /// At the start of recovery, before the acknowledgement that started it is given to [`on_ack`](Self::on_ack).
    ///
    /// `in_flight_at_start` is `RecoverFS`: what was sent and neither acknowledged nor SACKed before that acknowledgement, lost segments included.
    pub const fn new(in_flight_at_start: u32, ssthresh: u32) -> Self {
        let in_flight_at_start = if in_flight_at_start == 0 { 1 } else { in_flight_at_start };
        Self { in_flight_at_start, ssthresh, delivered: 0, sent: 0 }
    }

    /// On every acknowledgement, the first included: how many bytes may be sent now, new or again.
    ///
    /// `delivered`: newly acknowledged or SACKed; `in_flight`: the estimate after that, without what is lost; `safe`: `snd.una` advanced and no
    /// further loss was found. What is not sent now stays in the account. On leaving recovery, `cwnd` becomes `ssthresh`.
    pub fn on_ack(&mut self, delivered: u32, in_flight: u32, safe: bool, mss: u32) -> u32 {
        if delivered == 0 {
            return 0;
        }
        let mss = mss.max(1);
        self.delivered = self.delivered.saturating_add(delivered);
        let may_send = if in_flight > self.ssthresh {
            let target =
                (u64::from(self.delivered) * u64::from(self.ssthresh)).div_ceil(u64::from(self.in_flight_at_start));
            // Whole segments, as the RFC rounds up in its unit: what that is too much now, it is less later.
            let segments = target.saturating_sub(u64::from(self.sent)).div_ceil(u64::from(mss));
            u32::try_from(segments * u64::from(mss)).unwrap_or(u32::MAX)
        } else {
            let bound = self.delivered.saturating_sub(self.sent).max(delivered);
            let bound = if safe { bound.saturating_add(mss) } else { bound };
            bound.min(self.ssthresh - in_flight)
        };
        // The segment whose loss started recovery is sent again in any case.
        if self.sent == 0 { may_send.max(mss) } else { may_send }
    }

    /// Accounts for what was sent, new or again.
    pub fn on_sent(&mut self, bytes: u32) {
        self.sent = self.sent.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sends what it may, in whole segments; returns congestion window and flight before sending, and what was sent, in segments.
    fn ack(prr: &mut Prr, in_flight: &mut u32, safe: bool, mss: u32) -> (u32, u32, u32) {
        let before = *in_flight;
        let may_send = prr.on_ack(mss, before, safe, mss) / mss * mss;
        prr.on_sent(may_send);
        *in_flight += may_send;
        ((before + may_send) / mss, before / mss, may_send / mss)
    }

    /// RFC 6937 section 4, first example: the first of 20 segments is lost, the window is halved, and limited transmit sent two on the first two
    /// duplicate acknowledgements. From the third on, PRR sends on every other one.
    #[test]
    fn one_of_twenty_lost() {
        for mss in [1, 1460] {
            let mut prr = Prr::new(20 * mss, 10 * mss);
            let mut in_flight = 19 * mss; // 22 sent, 2 SACKed, 1 lost
            let mut rows = vec![];
            for _ in 3..=19 {
                in_flight -= mss;
                rows.push(ack(&mut prr, &mut in_flight, false, mss));
            }
            let column = |f: fn(&(u32, u32, u32)) -> u32| rows.iter().map(f).collect::<Vec<_>>();
            assert_eq!(column(|r| r.0), [19, 18, 18, 17, 17, 16, 16, 15, 15, 14, 14, 13, 13, 12, 12, 11, 10], "cwnd");
            assert_eq!(column(|r| r.1), [18, 18, 17, 17, 16, 16, 15, 15, 14, 14, 13, 13, 12, 12, 11, 11, 10], "pipe");
            assert_eq!(column(|r| r.2), [1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0], "sent");
        }
    }

    /// RFC 6937 section 4, second example: the first 15 of 20 are lost. Of what was sent 4 are in flight at the third duplicate acknowledgement,
    /// and each acknowledgement lets one go: no burst.
    #[test]
    fn fifteen_of_twenty_lost() {
        let mut prr = Prr::new(20, 10);
        let mut in_flight = 5;
        for _ in 17..=19 {
            in_flight -= 1;
            assert_eq!(ack(&mut prr, &mut in_flight, false, 1), (5, 4, 1));
        }
        // Then the retransmissions are acknowledged, without further loss: slow start up to ssthresh (PRR-SSRB).
        let mut sent = vec![];
        for _ in 0..10 {
            in_flight -= 1;
            sent.push(ack(&mut prr, &mut in_flight, true, 1).2);
        }
        assert_eq!(sent, [2, 2, 2, 2, 2, 1, 1, 1, 1, 1]);
        assert_eq!(in_flight, 10);
    }

    #[test]
    fn the_lost_segment_goes_at_once() {
        // Nothing is left between the flight and ssthresh, yet the first retransmission is not held back.
        assert_eq!(Prr::new(10_000, 5000).on_ack(100, 5000, false, 1000), 1000);
        assert_eq!(Prr::new(0, 0).on_ack(1, 0, false, 1000), 1000);
        let mut prr = Prr::new(10_000, 5000);
        prr.on_sent(1000);
        assert_eq!(prr.on_ack(100, 5000, false, 1000), 0);
    }

    #[test]
    fn nothing_delivered_nothing_sent() {
        let mut prr = Prr::new(10_000, 5000);
        assert_eq!(prr.on_ack(0, 1000, true, 1000), 0);
        assert_eq!(prr, Prr::new(10_000, 5000));
    }

    proptest! {
        /// The flight ends at ssthresh if there is always something to send, whatever the losses on the way.
        #[test]
        fn converges(start in 4u32..200, losses in prop::collection::vec(0u32..4, 400)) {
            let ssthresh = start / 2;
            let (mut prr, mut in_flight) = (Prr::new(start, ssthresh), start - 1);
            for (n, loss) in losses.into_iter().enumerate() {
                let loss = if n < 100 { loss.min(in_flight - 1) / 2 } else { 0 };
                in_flight -= 1 + loss.min(in_flight - 1);
                ack(&mut prr, &mut in_flight, loss == 0, 1);
                prop_assert!(in_flight >= 1 && in_flight < start);
            }
            prop_assert_eq!(in_flight, ssthresh);
        }

        #[test]
        fn any_numbers(start: u32, ssthresh: u32, acks in prop::collection::vec(any::<(u32, u32, bool, u32)>(), 1..50)) {
            let mut prr = Prr::new(start, ssthresh);
            for (delivered, in_flight, safe, mss) in acks {
                let may_send = prr.on_ack(delivered, in_flight, safe, mss);
                prop_assert!(delivered != 0 || may_send == 0);
                prr.on_sent(may_send);
            }
        }
    }
}
