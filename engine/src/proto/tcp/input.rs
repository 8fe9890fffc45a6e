//! A segment arrives (RFC 9293 section 3.10.7).

use super::{
    connection::{Connection, MSS_DEFAULT, MSS_MIN, bits},
    host::Host,
    receiver::{Taken, Urgent, trim_back},
    recovery::AckInput,
    sender::TimerKind,
    types::{CloseReason, Ecn, NEVER, TcpState},
};
use crate::{
    buf::RxBuf,
    telemetry::Counters,
    time::{Duration, Instant},
    wire::{
        seq::SeqNum,
        tcp::{Header, Options, flags},
    },
};

/// RFC 7323 section 5.5: a timestamp older than 24 days may have wrapped.
const TIMESTAMP_LIFETIME: Duration = Duration::from_secs(24 * 86_400);

/// A segment as it came, payload apart.
#[derive(Debug)]
pub struct Incoming {
    /// Its header.
    pub header: Header,
    /// Its options.
    pub options: Options,
    /// IP said that congestion was experienced (RFC 3168).
    pub congestion: bool,
}

/// What the caller has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing but to ask for what is to be sent.
    None,
    /// Answer this segment with a reset: it belongs to no connection of ours.
    Reset,
}

impl Connection {
    /// Handles a segment that carries `payload` (without headers; perhaps empty).
    pub fn handle_segment(&mut self, segment: &Incoming, payload: RxBuf, host: &mut impl Host) -> Reaction {
        match self.state {
            TcpState::Closed => Reaction::Reset,
            TcpState::TimeWait => Reaction::None,
            TcpState::SynSent => self.in_syn_sent(segment, host),
            _ => self.in_synchronized(segment, payload, host),
        }
    }

    /// In-order data has come: the application hears, and the peer soon.
    #[inline(always)]
    pub(super) fn on_in_order(&mut self, len: u32, filled_hole: bool, now: Instant, counters: &mut Counters) {
        counters.tcp_rx_payload_bytes += u64::from(len);
        self.raise(bits::READABLE);
        let mss = self.receive.segment_bytes;
        self.ack_segments = self.ack_segments.saturating_add(if len >= 2 * mss { 2 } else { 1 });
        if filled_hole || self.ack_segments >= 2 || self.options.delayed_ack.is_zero() {
            self.ack_now = true;
        } else if self.ack_at == NEVER {
            self.ack_at = now + self.options.delayed_ack;
        }
    }

    /// Section 3.10.7.3.
    fn in_syn_sent(&mut self, segment: &Incoming, host: &mut impl Host) -> Reaction {
        let header = &segment.header;
        let has = |flag| header.flags & flag != 0;
        let acks = has(flags::ACK);
        let acceptable = acks && header.ack.gt(self.send.una) && header.ack.le(self.send.nxt);
        if acks && !acceptable {
            return if has(flags::RST) { Reaction::None } else { Reaction::Reset };
        }
        if has(flags::RST) {
            if acceptable {
                host.counters().tcp_resets_received += 1;
                self.finish(CloseReason::Refused, host);
            }
            return Reaction::None;
        }
        if !has(flags::SYN) {
            return Reaction::None;
        }
        let now = host.now();
        self.learn_syn(segment, host.config().ecn, now);
        self.heard_at = now;
        // RFC 7323 section 2.2: the window of a SYN is not scaled.
        self.send.set_window(header.seq, header.ack, u32::from(header.window));
        if !acceptable {
            // Simultaneous open.
            self.state = TcpState::SynReceived;
            self.syn_due = true;
            return Reaction::None;
        }
        self.send.una = header.ack;
        if let Some(rtt) = self.handshake_rtt(segment, now) {
            self.send.note_handshake(rtt);
        }
        self.established(host);
        self.ack_now = true;
        Reaction::None
    }

    /// What the peer's SYN says of it.
    pub(super) fn learn_syn(&mut self, segment: &Incoming, ecn: Ecn, now: Instant) {
        let Incoming { header, options, .. } = segment;
        self.receive.nxt = header.seq + 1;
        self.receive.edge = self.receive.nxt;
        self.receive.urgent_at = header.seq;
        self.last_ack_sent = self.receive.nxt;
        self.send.peer_mss = options.mss.unwrap_or(MSS_DEFAULT).max(MSS_MIN);
        self.send.sack = options.sack_permitted;
        match options.window_scale {
            Some(scale) => self.send.peer_scale = scale,
            None => (self.send.peer_scale, self.receive.scale) = (0, 0),
        }
        self.timestamps = options.timestamps.is_some();
        if let Some(timestamps) = options.timestamps {
            (self.ts_recent, self.ts_recent_at) = (timestamps.value, now);
        }
        // RFC 3168 section 6.1.1: a SYN has both flags, a SYN-ACK only ECE.
        let (ece, cwr) = (header.flags & flags::ECE != 0, header.flags & flags::CWR != 0);
        self.ecn =
            if header.flags & flags::ACK != 0 { self.ecn_asked && ece && !cwr } else { ecn != Ecn::Off && ece && cwr };
    }

    fn handshake_rtt(&self, segment: &Incoming, now: Instant) -> Option<Duration> {
        // A SYN sent once can be timed; one that was repeated only by its timestamp.
        if self.send.rtt.backoffs() == 0 {
            return Some(now.saturating_since(self.send.sent_at));
        }
        let ago_ms = segment.options.timestamps.and_then(|timestamps| self.ms_since_timestamp(timestamps.echo, now));
        ago_ms.map(|ms| Duration::from_millis(u64::from(ms)))
    }

    fn established(&mut self, host: &mut impl Host) {
        self.begin(host);
        self.send.timer_at = NEVER;
        self.send.rtt.reset_back_off();
        self.raise(bits::CONNECTED);
        host.counters().tcp_connections_opened += 1;
    }

    /// Sections 3.10.7.4.
    fn in_synchronized(&mut self, segment: &Incoming, payload: RxBuf, host: &mut impl Host) -> Reaction {
        let Incoming { header, options, congestion } = segment;
        let now = host.now();
        let (mut seq, mut bits) = (header.seq, header.flags);
        if self.state == TcpState::SynReceived && bits & flags::SYN != 0 && seq + 1 == self.receive.nxt {
            // The other half of a simultaneous open: its SYN again, now with an acknowledgment.
            seq += 1;
            bits &= !flags::SYN;
        }
        let has = |flag| bits & flag != 0;
        let payload_len = payload.total_len() as u32;

        if self.timestamps {
            match options.timestamps {
                // RFC 7323 section 5.3 R1: an older duplicate.
                Some(ts)
                    if SeqNum(ts.value).lt(SeqNum(self.ts_recent))
                        && !has(flags::RST)
                        && now.saturating_since(self.ts_recent_at) < TIMESTAMP_LIFETIME =>
                {
                    host.counters().drop_tcp_paws += 1;
                    self.challenge(host);
                    return Reaction::None;
                }
                // Section 3.2: negotiated, hence in every segment but resets.
                None if !has(flags::RST | flags::SYN) => {
                    host.counters().drop_tcp_no_timestamp += 1;
                    return Reaction::None;
                }
                _ => {}
            }
        }

        let window = self.receive.window();
        let seq_len = payload_len + u32::from(has(flags::SYN)) + u32::from(has(flags::FIN));
        let offset = seq.diff(self.receive.nxt);
        let mut closed_window = false;
        let acceptable = if offset == 0 {
            // Into a closed window nothing fits, but what it acknowledges counts.
            closed_window = window == 0 && seq_len > 0;
            true
        } else if offset > 0 {
            // Empty segments may stand at the edge: the peer has filled the window and something in between was lost.
            (offset as u32) < window || (seq_len == 0 && offset as u32 == window)
        } else {
            seq_len > 0 && (seq + seq_len).gt(self.receive.nxt)
        };
        if !acceptable {
            if has(flags::RST) {
                host.counters().drop_tcp_reset += 1;
                return Reaction::None;
            }
            host.counters().drop_tcp_out_of_window += 1;
            if payload_len > 0 && offset < 0 {
                // Sent again though it had come: the peer missed our acknowledgment. It hears, and what it sent is reported (RFC 2883).
                self.receive.take(seq, payload, &self.options, host);
                self.ack_now = true;
            } else if seq_len > 0 && !has(flags::SYN) {
                self.ack_now = true;
            } else {
                self.challenge(host);
            }
            return Reaction::None;
        }

        if has(flags::RST) {
            return self.on_reset(offset, host);
        }
        // RFC 5961 section 4.
        if has(flags::SYN) {
            host.counters().drop_tcp_syn += 1;
            self.challenge(host);
            return Reaction::None;
        }
        if !has(flags::ACK) {
            host.counters().drop_tcp_no_ack += 1;
            return Reaction::None;
        }
        self.heard_at = now;
        if self.keepalive_sent > 0 {
            self.arm_keepalive(now);
        }
        if self.state == TcpState::SynReceived {
            if !(header.ack.gt(self.send.una) && header.ack.le(self.send.nxt)) {
                return Reaction::Reset;
            }
            let window = u32::from(header.window) << self.send.peer_scale;
            self.send.set_window(seq, header.ack, window);
            self.send.una = header.ack;
            self.established(host);
        }
        if !self.on_ack(seq, segment, payload_len, has(flags::FIN), now, host) {
            return Reaction::None;
        }
        // RFC 7323 section 5.3 R3, behind the tests of RFC 5961: who only guesses must not shut the peer out with a timestamp of the future.
        if let Some(ts) = options.timestamps
            && seq.le(self.last_ack_sent)
            && SeqNum(ts.value).ge(SeqNum(self.ts_recent))
        {
            (self.ts_recent, self.ts_recent_at) = (ts.value, now);
        }
        if self.closed.is_some() {
            return Reaction::None;
        }

        if has(flags::URG) {
            self.on_urgent_pointer(seq, header.urgent);
        }
        if self.ecn {
            if has(flags::CWR) {
                self.ecn_echo = false;
            }
            if *congestion && payload_len > 0 {
                self.ecn_echo = true;
                self.ack_now = true;
            }
        }
        if seq_len > 0 {
            if closed_window {
                host.counters().tcp_window_probes_received += 1;
                self.ack_now = true;
                return Reaction::None;
            }
            self.on_data(seq, payload, payload_len, has(flags::FIN), now, host);
        }
        Reaction::None
    }

    /// RFC 5961 section 3: only a reset exactly at the next sequence number is believed at once.
    fn on_reset(&mut self, offset: i32, host: &mut impl Host) -> Reaction {
        if offset != 0 {
            host.counters().drop_tcp_reset += 1;
            self.challenge(host);
            return Reaction::None;
        }
        host.counters().tcp_resets_received += 1;
        let reason = match self.state {
            TcpState::SynReceived => CloseReason::Refused,
            // Both FINs are out: nothing is lost by it.
            TcpState::Closing | TcpState::LastAck => CloseReason::Finished,
            _ => CloseReason::Reset,
        };
        self.finish(reason, host);
        Reaction::None
    }

    /// An acknowledgment that tells the true peer where we are (RFC 5961 sections 3 to 5), a limited number per second.
    fn challenge(&mut self, host: &mut impl Host) {
        let now = host.now();
        if now.saturating_since(self.challenges_from) >= Duration::from_secs(1) {
            (self.challenges_from, self.challenges) = (now, 0);
        }
        if self.challenges < host.config().challenge_acks_per_s {
            self.challenges += 1;
            self.ack_now = true;
            host.counters().tcp_challenge_acks += 1;
        } else {
            host.counters().tcp_challenge_acks_limited += 1;
        }
    }

    /// The fifth step. False: drop the segment.
    #[inline]
    fn on_ack(
        &mut self,
        seq: SeqNum,
        segment: &Incoming,
        payload_len: u32,
        fin: bool,
        now: Instant,
        host: &mut impl Host,
    ) -> bool {
        let header = &segment.header;
        let ack = header.ack;
        if ack.gt(self.send.nxt) {
            host.counters().drop_tcp_ack += 1;
            self.challenge(host);
            return false;
        }
        // RFC 5961 section 5.2.
        if ack.lt(self.send.una) {
            if self.send.una.since(ack) > self.send.wnd_max {
                host.counters().drop_tcp_ack += 1;
                self.challenge(host);
                return false;
            }
            return true;
        }
        let window = u32::from(header.window) << self.send.peer_scale;
        let advances = ack.gt(self.send.una);
        if !advances && self.send.segments.is_empty() {
            // The common case of a receiver: nothing in flight, nothing acknowledged.
            self.on_window(seq, ack, window, now);
            return true;
        }
        let duplicate = !advances && payload_len == 0 && !fin && window == self.send.wnd;
        let echo =
            segment.options.timestamps.and_then(|ts| self.ms_since_timestamp(ts.echo, now).map(|ms| (ts.echo, ms)));
        let input = AckInput {
            ack,
            sack: &segment.options.sack,
            echo,
            duplicate,
            detection: self.options.loss_detection,
            congestion_echo: self.ecn && header.flags & flags::ECE != 0,
            cwnd_limited: self.send.cwnd_limited,
            now,
        };
        self.on_window(seq, ack, window, now);
        let (counters, spares) = host.books();
        let told = self.send.handle_ack(&input, counters, spares);
        if told.acked == 0 {
            return true;
        }
        self.on_acknowledged();
        if self.send.fin_sent && self.send.una == self.send.nxt {
            self.on_fin_acknowledged(host);
        }
        true
    }

    /// Something was acknowledged: the application hears of room, and when all has arrived.
    #[inline(always)]
    pub(super) fn on_acknowledged(&mut self) {
        if self.send.wants_room && self.send.has_much_room(&self.options) {
            self.send.wants_room = false;
            self.raise(bits::WRITABLE);
        }
        if self.send.queued_bytes() == 0 {
            self.raise(bits::SENT);
        }
    }

    #[inline(always)]
    pub(super) fn on_window(&mut self, seq: SeqNum, ack: SeqNum, window: u32, now: Instant) {
        let opened = self.send.update_window(seq, ack, window);
        if self.send.timer == TimerKind::Persist && self.send.timer_at != NEVER {
            // The peer answers its probes: it lives, however long it keeps the window closed (RFC 9293 section 3.8.6.1).
            // Nobody waits for a closed socket's data: it may not hold memory for ever (RFC 6429 section 4).
            if !self.detached {
                self.send.waiting_since = now;
            }
            if opened {
                self.send.timer_at = NEVER;
                self.send.rtt.reset_back_off();
            }
        }
    }

    fn on_fin_acknowledged(&mut self, host: &mut impl Host) {
        match self.state {
            TcpState::FinWait1 => {
                self.state = TcpState::FinWait2;
                if self.detached {
                    self.close_at = host.now() + self.options.fin_wait2;
                }
            }
            TcpState::Closing => self.enter_time_wait(host),
            TcpState::LastAck => self.finish(CloseReason::Finished, host),
            _ => {}
        }
    }

    fn enter_time_wait(&mut self, host: &mut impl Host) {
        self.state = TcpState::TimeWait;
        self.finish(CloseReason::Finished, host);
    }

    /// RFC 9293 section 3.8.5 and RFC 6093.
    fn on_urgent_pointer(&mut self, seq: SeqNum, pointer: u16) {
        // What everybody means is the byte before the pointer (RFC 6093 section 3.1).
        let behind = u32::from(!self.options.standard_urgent_pointer);
        if u32::from(pointer) < behind {
            return;
        }
        let at = seq + (u32::from(pointer) - behind);
        let known = self.receive.urgent != Urgent::None && at.le(self.receive.urgent_at);
        if known || at.lt(self.receive.nxt) {
            return;
        }
        (self.receive.urgent, self.receive.urgent_at) = (Urgent::Expected, at);
        self.raise(bits::URGENT);
    }

    /// The seventh and eighth steps: payload and FIN.
    #[inline]
    fn on_data(
        &mut self,
        seq: SeqNum,
        mut payload: RxBuf,
        mut len: u32,
        mut fin: bool,
        now: Instant,
        host: &mut impl Host,
    ) {
        if !self.state.can_receive() {
            // After the peer's FIN nothing can follow; its FIN again wants its acknowledgment again.
            self.ack_now = true;
            return;
        }
        let end = seq + len;
        if end.gt(self.receive.edge) {
            let beyond = end.since(self.receive.edge);
            fin = false;
            if beyond >= len {
                self.ack_now = true;
                return;
            }
            len -= beyond;
            payload = trim_back(payload, len as usize);
        }
        if len > 0 {
            if self.detached && end.gt(self.receive.nxt) {
                // Nobody will read it (RFC 2525 section 2.17).
                host.counters().drop_tcp_after_close += 1;
                self.reset_due = Some(self.send.nxt);
                self.finish(CloseReason::Reset, host);
                return;
            }
            let had_holes = self.receive.has_holes();
            let before = self.receive.nxt;
            match self.receive.take(seq, payload, &self.options, host) {
                Taken::InOrder => {
                    // With what was held behind it, and without what had come before; a FIN is no data.
                    let arrived = self.receive.nxt.since(before) - u32::from(self.receive.finished);
                    self.on_in_order(arrived, had_holes, now, host.counters());
                }
                Taken::OutOfOrder => {
                    host.counters().tcp_out_of_order += 1;
                    self.owe_duplicate();
                }
                Taken::Duplicate => {
                    host.counters().tcp_duplicates += 1;
                    self.ack_now = true;
                }
                Taken::NoRoom => {
                    host.counters().drop_tcp_no_room += 1;
                    self.ack_now = true;
                    return;
                }
            }
        }
        if fin {
            self.receive.note_fin(seq + len);
            self.ack_now = true;
        }
        if self.receive.finished {
            self.on_peer_finished(host);
        }
    }

    /// An out-of-order segment is acknowledged at once (RFC 5681 section 4.2), each with a duplicate of its own if the peer only counts those.
    fn owe_duplicate(&mut self) {
        self.ack_now = true;
        if !self.send.sack {
            self.dup_acks_owed = (self.dup_acks_owed + 1).min(8);
        }
    }

    fn on_peer_finished(&mut self, host: &mut impl Host) {
        self.ack_now = true;
        self.raise(bits::READABLE | bits::PEER_FINISHED);
        match self.state {
            TcpState::Established => self.state = TcpState::CloseWait,
            TcpState::FinWait1 => self.state = TcpState::Closing,
            TcpState::FinWait2 => self.enter_time_wait(host),
            _ => {}
        }
    }
}
