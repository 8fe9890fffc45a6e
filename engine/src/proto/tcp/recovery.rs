//! Loss: how it is found (RFC 8985, 6675, 6582), repaired (RFC 9937, 6298), and taken back when it was none (RFC 3522, 2883).

use super::{
    congestion::{Ack, CongestionControl},
    prr::Prr,
    sender::{Delivered, Marks, Payload, Phase, Segment, Sender, TimerKind},
    spares::Spares,
    types::{LossDetection, NEVER},
};
use crate::{
    telemetry::Counters,
    time::{Duration, Instant},
    wire::{
        seq::SeqNum,
        tcp::{SACK_BLOCKS_MAX, SackBlocks},
    },
};
use smallvec::SmallVec;

/// RFC 5681 section 2 and RFC 6675 section 2: so many duplicates mean a loss.
pub(super) const DUP_THRESHOLD: u32 = 3;
/// RFC 8985 section 7.2: how long the peer may delay an acknowledgment.
const PEER_DELAYED_ACK_NS: u64 = 200_000_000;
/// Scheduling between the peer's acknowledgment and us takes that long on a busy machine: sooner is no sign of loss.
const PROBE_WAIT_NS_MIN: u64 = 2_000_000;
/// RFC 8985 section 6.2 step 4: recoveries after which a widened window shrinks again.
const REORDER_PERSIST: u8 = 16;

/// What RACK remembers (RFC 8985 section 5.3).
#[derive(Debug)]
pub(super) struct Rack {
    /// When the segment that was sent last, of those that arrived, was sent; its end.
    xmit: Instant,
    end: SeqNum,
    rtt_ns: u64,
    pub(super) min_rtt_ns: u64,
    /// Highest end that arrived.
    fack: SeqNum,
    reordering: bool,
    window_mult: u8,
    window_persist: u8,
    dsack_round: Option<SeqNum>,
}

/// One segment was sent after another; those of one burst have one time, and their order decides.
fn sent_after(at: Instant, end: SeqNum, other_at: Instant, other_end: SeqNum) -> bool {
    at > other_at || (at == other_at && end.gt(other_end))
}

impl Rack {
    pub(super) fn new(iss: SeqNum) -> Self {
        Self {
            xmit: Instant::ZERO,
            end: iss,
            rtt_ns: 0,
            min_rtt_ns: u64::MAX,
            fack: iss,
            reordering: false,
            window_mult: 1,
            window_persist: REORDER_PERSIST,
            dsack_round: None,
        }
    }

    /// A segment has arrived (RFC 8985 section 6.2, steps 1 to 3).
    #[inline(always)]
    pub(super) fn on_delivered(&mut self, segment: &Segment, now: Instant) {
        let rtt_ns = now.nanos_since(segment.sent_at);
        let resent = segment.marks.has(Marks::RESENT);
        let end = segment.end();
        if end.gt(self.fack) {
            self.fack = end;
        } else if !resent && end.lt(self.fack) {
            self.reordering = true;
        }
        // Back sooner than any round trip: that was the original's acknowledgment.
        if resent && self.min_rtt_ns != u64::MAX && rtt_ns < self.min_rtt_ns {
            return;
        }
        if sent_after(segment.sent_at, end, self.xmit, self.end) {
            (self.xmit, self.end, self.rtt_ns) = (segment.sent_at, end, rtt_ns);
        }
    }

    /// Section 6.2 step 4.
    fn reorder_window_ns(&self, eager: bool, srtt: Option<Duration>) -> u64 {
        if eager && !self.reordering || self.min_rtt_ns == u64::MAX {
            return 0;
        }
        let srtt_ns = srtt.map_or(u64::MAX, |srtt| srtt.as_nanos() as u64);
        (self.min_rtt_ns / 4).saturating_mul(u64::from(self.window_mult)).min(srtt_ns)
    }
}

/// An acknowledgment, as far as the sender cares.
#[derive(Debug)]
pub(super) struct AckInput<'a> {
    pub(super) ack: SeqNum,
    pub(super) sack: &'a SackBlocks,
    /// The timestamp of ours that it echoes, and how many milliseconds ago we sent that.
    pub(super) echo: Option<(u32, u32)>,
    /// It is a duplicate as RFC 5681 section 2 defines it.
    pub(super) duplicate: bool,
    pub(super) detection: LossDetection,
    /// It echoes congestion (RFC 3168).
    pub(super) congestion_echo: bool,
    /// The window was the limit when we sent last.
    pub(super) cwnd_limited: bool,
    pub(super) now: Instant,
}

impl Sender {
    /// All that an acceptable acknowledgment means for what is in flight.
    #[inline]
    pub(super) fn handle_ack(&mut self, ack: &AckInput<'_>, counters: &mut Counters, spares: &mut Spares) -> Delivered {
        let now = ack.now;
        let in_flight_before = self.in_flight();
        let mut told = Delivered { dsack: self.reports_duplicate(ack), ..Delivered::default() };
        if ack.ack.gt(self.una) {
            self.acknowledge(ack.ack, now, &mut told, spares);
            self.waiting_since = now;
            self.timer_from(now);
        }
        if !ack.sack.is_empty() {
            self.take_sacks(ack, &mut told);
        }
        self.take_rtt(ack, &told);
        if told.dsack {
            counters.tcp_dsacks_received += 1;
        }
        self.notice_needless(ack, &told, counters);
        self.probe_answered(ack, &told);
        let lost_before = self.lost_bytes;
        if self.sack {
            match ack.detection {
                LossDetection::Rack => {
                    self.widen_reorder_window(ack, &told);
                    self.detect_by_time(now);
                }
                LossDetection::Sack => self.detect_by_sack(),
            }
        } else {
            self.detect_by_duplicates(ack, &told);
        }
        told.lost = self.lost_bytes.saturating_sub(lost_before);
        self.react(ack, &told, in_flight_before, counters);
        if self.timer == TimerKind::TailProbe && (self.sacked_segments > 0 || !matches!(self.phase, Phase::Open)) {
            // RFC 8985 section 7.2: no probe where there is other evidence.
            self.set_timer(now);
        }
        told
    }

    /// Nothing is lost, sent again, reported by SACK or in doubt, and an acknowledgment of all up to `ack` (without blocks, and not a duplicate) is for whole
    /// segments in the order in which they were sent. [`handle_ack`](Self::handle_ack) then comes down to [`handle_calm_ack`](Self::handle_calm_ack), or to nothing
    /// if `ack` is not new.
    #[inline(always)]
    pub(super) fn is_calm(&self, ack: SeqNum) -> bool {
        let Some(first) = self.segments.front() else { return false };
        self.lost_bytes | self.sacked_segments | self.dup_acks == 0
            && matches!(self.phase, Phase::Open)
            && self.timer != TimerKind::Reorder
            && self.probe.is_none()
            && self.eifel.is_none()
            && self.shared.is_empty()
            && self.resent_end.le(self.una)
            && self.rack.dsack_round.is_none()
            && self.rack.fack.le(self.una)
            && self.rack.xmit <= first.sent_at
            && (ack == self.una || first.end().le(ack))
    }

    /// What [`handle_ack`](Self::handle_ack) does with a new acknowledgment while everything [is calm](Self::is_calm).
    #[inline(always)]
    pub(super) fn handle_calm_ack(&mut self, ack: SeqNum, now: Instant, spares: &mut Spares) {
        let in_flight_before = self.nxt.since(self.una);
        let acked = ack.since(self.una);
        (self.una, self.resent_end) = (ack, ack);
        let first_sent_at = self.segments.front().map_or(now, |first| first.sent_at);
        let mut last = (now, ack);
        while let Some(segment) = self.segments.front_mut()
            && segment.end().le(ack)
        {
            last = (segment.sent_at, segment.end());
            match std::mem::replace(&mut segment.payload, Payload::None) {
                Payload::Kept(kept) => kept.let_go(),
                other => drop(other),
            }
            // Nothing is left of it to be dropped.
            std::mem::forget(self.segments.pop_front());
        }
        let (last_sent_at, last_end) = last;
        if self.segments.front().is_some_and(|first| first.seq.lt(ack)) {
            self.acknowledge_partly(ack, &mut Delivered::default());
        }
        spares.segments.strip(&mut self.segments);
        self.rack.fack = last_end;
        if sent_after(last_sent_at, last_end, self.rack.xmit, self.rack.end) {
            (self.rack.xmit, self.rack.end) = (last_sent_at, last_end);
            self.rack.rtt_ns = now.nanos_since(last_sent_at);
        }
        (self.waiting_since, self.rto_from) = (now, now);
        self.set_timer_with(now, self.sack);
        self.note_rtt(first_sent_at, last_sent_at, now);
        let ack = Ack {
            now,
            acked_bytes: acked,
            in_flight_bytes: in_flight_before,
            srtt: self.rtt.srtt(),
            cwnd_limited: self.cwnd_limited,
        };
        self.congestion.on_ack(&ack, &mut self.window);
    }

    /// RFC 2018: the blocks, in the order in which they were sent: the newest comes first in the option, and if several are news, those behind it would pass for
    /// reordered (RFC 8985 section 6.2 step 3).
    fn take_sacks(&mut self, ack: &AckInput<'_>, told: &mut Delivered) {
        let usable = |&(start, end): &(SeqNum, SeqNum)| start.lt(end) && start.gt(self.una) && end.le(self.nxt);
        let mut blocks: SmallVec<[_; SACK_BLOCKS_MAX]> = ack.sack.iter().filter(usable).collect();
        blocks.sort_unstable_by_key(|(start, _)| start.since(self.una));
        for &(start, end) in &blocks {
            self.selectively_acknowledge(start, end, ack.now, told);
        }
        self.remember_sacks(blocks.into_iter());
    }

    /// The handshake's round trip.
    pub(super) fn note_handshake(&mut self, rtt: Duration) {
        self.rtt.sample(rtt);
        self.rack.min_rtt_ns = rtt.as_nanos() as u64;
    }

    #[inline]
    fn take_rtt(&mut self, ack: &AckInput<'_>, told: &Delivered) {
        // Karn's algorithm (RFC 6298 section 3) for whole acknowledgments: one that answers a retransmission may be late for all that it covers. If it
        // echoes the original, it is the original's own only from a peer that would have reported the duplicate (RFC 4015 section 3.2 wants that sample:
        // without it, a path that became longer would time out for ever).
        let echoes_original = |first: u32| ack.echo.is_some_and(|(echo, _)| SeqNum(echo).lt(SeqNum(first)));
        if told.dsack || told.resent && !self.sack && self.eifel.is_some_and(echoes_original) {
            return;
        }
        if let Some((first, last)) = told.sent.filter(|_| !told.resent) {
            self.note_rtt(first, last, ack.now);
        } else if told.acked > 0
            && let Some((_, rtt_ms)) = ack.echo
        {
            // RFC 7323 section 4.1: a timestamp tells which transmission was answered.
            self.rtt.sample(Duration::from_millis(u64::from(rtt_ms)));
            self.rtt.reset_back_off();
        }
    }

    /// Segments, sent once each, were acknowledged together; when the first and the last of them went out.
    #[inline(always)]
    fn note_rtt(&mut self, first_sent_at: Instant, last_sent_at: Instant, now: Instant) {
        let last_ns = now.nanos_since(last_sent_at);
        self.rtt.sample_ns(now.nanos_since(first_sent_at));
        // RFC 6298 section 5.7: a measurement ends the back-off.
        self.rtt.reset_back_off();
        // The estimator's minimum forgets; before it has one, what was just seen is the least.
        self.rack.min_rtt_ns = self.rtt.min_rtt_ns().unwrap_or(self.rack.min_rtt_ns).min(last_ns);
    }

    /// RFC 2883 section 4: the first block lies below the acknowledgment, or within the second one.
    #[inline]
    fn reports_duplicate(&self, ack: &AckInput<'_>) -> bool {
        let mut blocks = ack.sack.iter();
        let Some((start, end)) = blocks.next() else { return false };
        if !start.lt(end) {
            return false;
        }
        end.le(ack.ack) || blocks.next().is_some_and(|(start2, end2)| start2.le(start) && end.le(end2))
    }

    /// The loss was none: Eifel (RFC 3522, 4015), or every retransmission was reported as a duplicate.
    #[inline]
    fn notice_needless(&mut self, ack: &AckInput<'_>, told: &Delivered, counters: &mut Counters) {
        let mut needless = false;
        if told.acked > 0
            && let Some(first) = self.eifel.take()
            && let Some((echo, _)) = ack.echo
        {
            needless = SeqNum(echo).lt(SeqNum(first));
        }
        if told.dsack
            && let Some(left) = &mut self.undo_segments
        {
            *left = left.saturating_sub(1);
            needless |= *left == 0;
        }
        if needless {
            counters.tcp_spurious_recoveries += 1;
            self.undo_segments = None;
            self.congestion.undo(&mut self.window);
            self.unmark_lost();
            self.phase = Phase::Open;
        }
    }

    /// RFC 8985 section 7.4.2.
    #[inline]
    fn probe_answered(&mut self, ack: &AckInput<'_>, told: &Delivered) {
        let Some((end, resent)) = self.probe else { return };
        if ack.ack.lt(end) {
            return;
        }
        let dup_without_sack = ack.duplicate && ack.sack.is_empty();
        if !resent || told.dsack || ack.ack.gt(end) || dup_without_sack {
            self.probe = None;
        }
        if resent && !told.dsack && ack.ack.gt(end) && matches!(self.phase, Phase::Open) {
            // The probe repaired a loss that nothing else had noticed.
            let in_flight = self.in_flight();
            self.congestion.on_congestion(ack.now, in_flight, &mut self.window);
            self.window.cwnd_bytes = self.window.cwnd_bytes.min(self.window.ssthresh_bytes);
            self.congestion.on_recovered(ack.now, &mut self.window);
        }
    }

    /// RFC 8985 section 6.2 step 4: duplicates mean that the window is too narrow.
    fn widen_reorder_window(&mut self, ack: &AckInput<'_>, told: &Delivered) {
        if self.rack.dsack_round.is_some_and(|round| ack.ack.ge(round)) {
            self.rack.dsack_round = None;
        }
        if told.dsack && self.rack.dsack_round.is_none() {
            self.rack.dsack_round = Some(self.nxt);
            self.rack.window_mult = self.rack.window_mult.saturating_add(1);
            self.rack.window_persist = REORDER_PERSIST;
        }
    }

    /// RFC 8985 section 6.2 step 5. Sets the reorder timer if a verdict has to wait.
    #[inline]
    pub(super) fn detect_by_time(&mut self, now: Instant) {
        // Where nothing is amiss, the oldest segment in flight was sent after the last one that arrived.
        let in_order = self.segments.front().is_none_or(|first| {
            !first.marks.has(Marks::RESENT) && !sent_after(self.rack.xmit, self.rack.end, first.sent_at, first.end())
        });
        if !in_order || self.timer == TimerKind::Reorder {
            self.look_at_times(now);
        }
    }

    fn look_at_times(&mut self, now: Instant) {
        let (xmit, end) = (self.rack.xmit, self.rack.end);
        let eager = !matches!(self.phase, Phase::Open) || self.sacked_segments >= DUP_THRESHOLD;
        let patience_ns = self.rack.rtt_ns + self.rack.reorder_window_ns(eager, self.rtt.srtt());
        let mut check_at = NEVER;
        for at in 0..self.segments.len() {
            let segment = &self.segments[at];
            if !sent_after(xmit, end, segment.sent_at, segment.end()) {
                if segment.marks.has(Marks::RESENT) {
                    continue;
                }
                // Those never sent again went out in order: the rest is younger.
                break;
            }
            if segment.marks.has(Marks::SACKED | Marks::LOST) {
                continue;
            }
            let lost_at = Instant::from_nanos(segment.sent_at.as_nanos().saturating_add(patience_ns));
            if lost_at <= now {
                self.mark_lost(at);
            } else {
                // The last of them decides when to look again (step 5: the maximum), so that there is one timer.
                check_at = if check_at == NEVER { lost_at } else { check_at.max(lost_at) };
            }
        }
        if check_at != NEVER {
            (self.timer_at, self.timer) = (check_at, TimerKind::Reorder);
        } else if self.timer == TimerKind::Reorder {
            self.set_timer(now);
        }
    }

    /// RFC 6675 section 4, `IsLost`: three segments, or more than two full ones' bytes, above it have arrived.
    fn detect_by_sack(&mut self) {
        let (mut segments, mut bytes) = (0, 0);
        for at in (0..self.segments.len()).rev() {
            let segment = &self.segments[at];
            if segment.marks.has(Marks::SACKED) {
                segments += 1;
                bytes += segment.len;
            } else if (segments >= DUP_THRESHOLD || bytes > (DUP_THRESHOLD - 1) * u32::from(self.mss))
                && !segment.marks.has(Marks::RESENT)
            {
                self.mark_lost(at);
            }
        }
    }

    /// RFC 5681 section 3.2 and RFC 6582, for a peer that says no more than how far it got.
    fn detect_by_duplicates(&mut self, ack: &AckInput<'_>, told: &Delivered) {
        if told.acked > 0 {
            self.dup_acks = match self.phase {
                // RFC 6582 section 3.2 step 3, partial: what arrived beyond stays counted.
                Phase::Recovery { .. } => self.dup_acks.saturating_sub(told.acked.div_ceil(u32::from(self.mss))),
                _ => 0,
            };
            if let Phase::Recovery { end, .. } = self.phase
                && self.una.lt(end)
                && self.segments.front().is_some_and(|first| !first.marks.has(Marks::RESENT))
            {
                self.mark_lost(0);
            }
        } else if ack.duplicate && !self.segments.is_empty() {
            // More than what is out cannot have arrived: a peer that acknowledges too often gains nothing (RFC 5681 section 3.2 warns of it).
            self.dup_acks = (self.dup_acks + 1).min(self.segments.len() as u32);
            if self.dup_acks >= DUP_THRESHOLD && matches!(self.phase, Phase::Open) {
                self.mark_lost(0);
            }
        }
    }

    /// What losses, echoes and progress do to the window.
    fn react(&mut self, ack: &AckInput<'_>, told: &Delivered, in_flight_before: u32, counters: &mut Counters) {
        let now = ack.now;
        let mss = u32::from(self.mss);
        match &self.phase {
            Phase::Recovery { end, .. } if self.una.ge(*end) => {
                self.phase = Phase::Open;
                self.dup_acks = 0;
                self.eifel = None;
                self.window.cwnd_bytes = self.window.ssthresh_bytes.max(mss);
                self.congestion.on_recovered(now, &mut self.window);
                if self.rack.window_persist > 0 {
                    self.rack.window_persist -= 1;
                } else {
                    self.rack.window_mult = 1;
                }
            }
            Phase::Loss { end } if self.una.ge(*end) => {
                self.phase = Phase::Open;
                self.congestion.on_recovered(now, &mut self.window);
                self.dup_acks = 0;
                self.eifel = None;
            }
            _ => {}
        }
        if matches!(self.phase, Phase::Open) && self.lost_bytes > 0 {
            self.enter_recovery(now, self.flight_size(told.acked), in_flight_before);
            counters.tcp_fast_recoveries += 1;
        } else if ack.congestion_echo && matches!(self.phase, Phase::Open) && self.una.gt(self.ecn_end) {
            // RFC 3168 section 6.1.2: as for a loss, once a round trip.
            self.congestion.on_congestion(now, in_flight_before, &mut self.window);
            self.window.cwnd_bytes = self.window.ssthresh_bytes.max(mss);
            self.congestion.on_recovered(now, &mut self.window);
            (self.cwr, self.ecn_end) = (true, self.nxt);
            counters.tcp_ecn_reductions += 1;
            return;
        }
        let in_flight = self.in_flight();
        match &mut self.phase {
            Phase::Recovery { prr, .. } => {
                // Without SACK a duplicate stands for a segment.
                let delivered = if self.sack || !ack.duplicate { told.delivered } else { mss };
                // RFC 9937 section 6, SafeACK: progress, and no loss beyond those known. With all that is known as the measure, a long list of losses would
                // be sent again at one segment for each delayed acknowledgment.
                let safe = told.acked > 0 && told.lost == 0;
                let budget = prr.on_ack(delivered, in_flight, safe, mss);
                self.window.cwnd_bytes = in_flight + budget;
            }
            Phase::Open | Phase::Loss { .. } if told.acked > 0 => {
                let ack = Ack {
                    now,
                    acked_bytes: told.acked,
                    in_flight_bytes: in_flight_before,
                    srtt: self.rtt.srtt(),
                    cwnd_limited: ack.cwnd_limited || matches!(self.phase, Phase::Loss { .. }),
                };
                self.congestion.on_ack(&ack, &mut self.window);
            }
            _ => {}
        }
    }

    /// RFC 5681's `FlightSize` before an acknowledgment of `acked` bytes: what is not acknowledged cumulatively, reported by SACK or not, but for what limited
    /// transmit has sent beyond the window (section 3.2 step 2).
    fn flight_size(&self, acked: u32) -> u32 {
        (self.nxt.since(self.una) + acked).min(self.window.cwnd_bytes)
    }

    fn enter_recovery(&mut self, now: Instant, flight_size: u32, in_flight_before: u32) {
        self.congestion.on_congestion(now, flight_size, &mut self.window);
        let prr = Prr::new(in_flight_before, self.window.ssthresh_bytes);
        self.phase = Phase::Recovery { end: self.nxt, prr };
        self.eifel = None;
        self.undo_segments = Some(0);
        self.probe = None;
    }

    /// The reorder timer: what was in doubt is lost now.
    pub(super) fn reorder_timeout(&mut self, now: Instant, counters: &mut Counters) {
        let in_flight_before = self.in_flight();
        self.timer_at = NEVER;
        self.detect_by_time(now);
        if matches!(self.phase, Phase::Open) && self.lost_bytes > 0 {
            self.enter_recovery(now, self.flight_size(0), in_flight_before);
            counters.tcp_fast_recoveries += 1;
        }
        if let Phase::Recovery { prr, .. } = &mut self.phase {
            let in_flight = in_flight_before.saturating_sub(self.lost_bytes);
            let budget = prr.on_ack(0, in_flight, false, u32::from(self.mss));
            // Fast retransmit sends at least one segment (RFC 9937 section 6).
            self.window.cwnd_bytes = in_flight + budget.max(u32::from(self.mss));
        }
        if self.timer_at == NEVER {
            self.set_timer(now);
        }
    }

    /// The retransmission timer (RFC 6298 section 5.4 to 5.6, RFC 5681 section 3.1).
    pub(super) fn retransmit_timeout(&mut self, now: Instant, counters: &mut Counters) {
        counters.tcp_timeouts += 1;
        let first = !matches!(self.phase, Phase::Loss { .. });
        self.congestion.on_timeout(now, self.flight_size(0), first, &mut self.window);
        self.mark_all_lost();
        self.rtt.back_off();
        self.phase = Phase::Loss { end: self.nxt };
        self.probe = None;
        self.rto_from = now;
        if first {
            self.eifel = None;
            self.undo_segments = Some(0);
        }
        (self.timer_at, self.timer) = (now + self.rtt.rto(), TimerKind::Retransmit);
    }

    /// The retransmission timer starts over (RFC 6298 section 5.1 and 5.3): something was acknowledged, or is in flight where nothing was.
    #[inline(always)]
    pub(super) fn timer_from(&mut self, now: Instant) {
        self.rto_from = now;
        self.set_timer(now);
    }

    /// The same after the oldest segment was sent again. The reorder timer, if it runs, stays: with it the verdict over others is out (RFC 8985 section 8).
    pub(super) fn timer_after_resending(&mut self, now: Instant) {
        self.rto_from = now;
        if self.timer != TimerKind::Reorder || self.timer_at == NEVER {
            self.set_timer(now);
        }
    }

    /// Sets the timer for what is in flight now (RFC 8985 section 7.2).
    #[inline(always)]
    pub(super) fn set_timer(&mut self, now: Instant) {
        let calm = matches!(self.phase, Phase::Open) && self.sacked_segments == 0 && self.probe.is_none();
        self.set_timer_with(now, self.sack && calm);
    }

    /// The same where it is known whether a tail probe may be sent, as far as losses are concerned.
    #[inline(always)]
    fn set_timer_with(&mut self, now: Instant, may_probe: bool) {
        if self.segments.is_empty() {
            (self.timer_at, self.timer) = (NEVER, TimerKind::Retransmit);
            return;
        }
        let rto_at = self.rto_from.plus_nanos(self.rtt.rto_ns());
        (self.timer_at, self.timer) = (rto_at, TimerKind::Retransmit);
        let srtt_ns = self.rtt.srtt_ns();
        if may_probe && self.rtt.backoffs() == 0 && srtt_ns > 0 {
            let peers_delay_ns = if self.segments.len() == 1 { PEER_DELAYED_ACK_NS } else { 0 };
            let probe_at = now.plus_nanos((srtt_ns * 2 + peers_delay_ns).max(PROBE_WAIT_NS_MIN));
            if probe_at < rto_at {
                (self.timer_at, self.timer) = (probe_at, TimerKind::TailProbe);
            }
        }
    }
}
