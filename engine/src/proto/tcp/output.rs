//! What has to be sent now (RFC 9293 section 3.8): retransmissions, new data, FIN, acknowledgments, probes.

use super::{
    super::deque::push_with,
    connection::{Connection, Probe},
    header::Told,
    host::{Host, Stretch},
    sender::{Bytes, Marks, Payload, Phase, Segment},
    types::{NEVER, TcpState},
};
use crate::{
    time::{Duration, Instant},
    wire::{
        seq::SeqNum,
        tcp::{Options, Repr, SackBlocks, Timestamps, flags},
    },
};
use smallvec::SmallVec;
use std::collections::VecDeque;

/// Payload pieces of one segment: more are not joined.
const PIECES_MAX: usize = 16;
/// Segments that leave together under pacing.
const PACING_BURST: u32 = 10;

/// How far sending got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing more to send until something happens.
    Done,
    /// The budget is used up.
    More,
    /// The way out is full, or a frame is still with the kernel: ask again.
    Blocked,
}

/// Whether a segment went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Yes,
    Blocked,
}

/// What new segments that leave together have in common: none of it changes while they are sent.
struct Train<H> {
    /// Bytes of a full segment.
    mss: u32,
    /// Where the peer's window ends.
    edge: SeqNum,
    /// As if nothing before this were in flight.
    in_flight_from: SeqNum,
    cwnd_bytes: u32,
    /// All of them are to be pushed to the application.
    push_all: bool,
    /// When they are sent: behind what was sent again in the same moment.
    sent_at: Instant,
    /// The flags in `headers`, once those are written: for segments that are a frame's whole payload.
    flags: Option<u8>,
    headers: H,
}

/// What keeps the next new segment back.
enum Next {
    Segment(u32),
    Nothing,
    /// Too little of the peer's window is open.
    Window,
    Congestion,
    /// A small segment waits for company (RFC 896).
    Company,
}

impl Connection {
    /// Sends what is to be sent, at most `budget` segments.
    #[inline]
    pub fn poll_transmit(&mut self, host: &mut impl Host, budget: usize) -> Progress {
        if let Some(seq) = self.reset_due {
            return self.send_reset(seq, host);
        }
        match self.state {
            TcpState::Closed => Progress::Done,
            TcpState::SynSent | TcpState::SynReceived => self.send_syn(host),
            _ => self.send_synchronized(host, budget),
        }
    }

    /// Sends what the acknowledgment of a segment that was just handled lets go if it tells of a hole, before the next one is handled: limited transmit
    /// (RFC 3042, RFC 6675 section 5 step C) and what PRR allows. Of a batch of such acknowledgments the last one may begin a recovery, which allows no more
    /// than the retransmission, and if nothing is sent after that, its loss shows only by a time-out.
    pub fn poll_repair(&mut self, host: &mut impl Host, budget: usize) {
        if self.send.sacked_segments > 0 && self.closed.is_none() && self.state != TcpState::SynReceived {
            // What is left is listed as after any segment.
            self.send_data(host, budget);
        }
    }

    fn send_reset(&mut self, seq: SeqNum, host: &mut impl Host) -> Progress {
        let repr = self.repr(seq, flags::RST | flags::ACK, host);
        if !host.send_bare(&self.ends, self.ip(false), &repr) {
            return Progress::Blocked;
        }
        self.reset_due = None;
        self.ack_now = false;
        host.counters().tcp_resets_sent += 1;
        Progress::Done
    }

    fn send_syn(&mut self, host: &mut impl Host) -> Progress {
        if !self.syn_due {
            return Progress::Done;
        }
        let now = host.now();
        let answers = self.state == TcpState::SynReceived;
        let mut bits = flags::SYN;
        if answers {
            bits |= flags::ACK;
        }
        if self.ecn_asked && !answers && self.send.rtt.backoffs() == 0 {
            // RFC 3168 section 6.1.1; a repeated SYN does without (section 6.1.1.1).
            bits |= flags::ECE | flags::CWR;
        }
        if answers {
            self.receive.advertise(&self.options, host);
        } else {
            // The peer's sequence numbers are not known yet: the window counts from its first byte.
            self.receive.edge = self.receive.nxt + self.receive.limit.min(u32::from(u16::MAX));
        }
        let repr = Repr {
            src_port: self.ends.local.port(),
            dst_port: self.ends.remote.port(),
            seq: self.send.una,
            ack: if answers { self.receive.nxt } else { SeqNum(0) },
            flags: bits,
            window: self.receive.window().min(u32::from(u16::MAX)) as u16,
            urgent: 0,
            options: Options {
                mss: Some(self.path_mss),
                window_scale: (!answers || self.receive.scale > 0 || self.send.peer_scale > 0)
                    .then_some(self.receive.scale),
                sack_permitted: !answers || self.send.sack,
                timestamps: self
                    .timestamps
                    .then(|| Timestamps { value: self.timestamp(now), echo: if answers { self.ts_recent } else { 0 } }),
                sack: SackBlocks::EMPTY,
            },
        };
        // A way that is not known yet is asked for; the timer tries again whatever became of this one.
        host.send_bare(&self.ends, self.ip(false), &repr);
        self.syn_due = false;
        self.send.nxt = self.send.una + 1;
        self.send.sent_at = now;
        if self.send.timer_at == NEVER {
            self.send.timer_at = now + self.send.rtt.rto();
        }
        self.last_ack_sent = self.receive.nxt;
        Progress::Done
    }

    #[inline]
    fn send_synchronized(&mut self, host: &mut impl Host, budget: usize) -> Progress {
        // Data has no SACK blocks, but the acknowledgment number: before it, or the peer hears that what it sent again has come and not what came
        // after the hole, and takes that for lost (RFC 8985 section 6.2).
        if self.ack_now && self.has_blocks_to_tell() && self.send_acks(host) == Progress::Blocked {
            return Progress::Blocked;
        }
        let progress = if self.state == TcpState::TimeWait { Progress::Done } else { self.send_data(host, budget) };
        // Acknowledgments go even while data waits: the peer must not.
        match self.send_acks(host) {
            Progress::Done => progress,
            other => other,
        }
    }

    #[inline]
    fn send_data(&mut self, host: &mut impl Host, budget: usize) -> Progress {
        let mut left = budget;
        if self.probe != Probe::None && self.send_probe(host) == Sent::Blocked {
            return Progress::Blocked;
        }
        while let Some(at) = self.send.first_lost() {
            if left == 0 {
                return Progress::More;
            }
            let len = self.send.segments[at].len;
            let in_flight = self.send.in_flight();
            if in_flight > 0 && in_flight + len > self.send.window.cwnd_bytes {
                break;
            }
            if self.resend(at, host) == Sent::Blocked {
                return Progress::Blocked;
            }
            left -= 1;
        }
        self.send_new(host, &mut left)
    }

    #[inline]
    fn send_new(&mut self, host: &mut impl Host, left: &mut usize) -> Progress {
        if self.send.pending.is_empty() && (!self.send.fin_queued || self.send.fin_sent) {
            return Progress::Done;
        }
        let now = host.now();
        self.restart_after_idle(now);
        self.send.cwnd_limited = false;
        let first = self.send.segments.is_empty();
        let before = self.send.nxt;
        let (mut train, pacing) = (self.train(now), self.options.pacing);
        let progress = loop {
            let len = match self.next_segment(&train, false, host) {
                Next::Segment(len) => len,
                Next::Congestion => {
                    self.send.cwnd_limited = true;
                    break Progress::Done;
                }
                Next::Window => {
                    self.arm_persist(now);
                    break Progress::Done;
                }
                Next::Nothing | Next::Company => break Progress::Done,
            };
            if *left == 0 {
                break Progress::More;
            }
            if pacing && self.send.pace_at > now {
                break Progress::Done;
            }
            if self.send_segment(len, &mut train, host) == Sent::Blocked {
                // If the way stays blocked for good (nobody answers ARP), the timer notices.
                self.arm_persist(now);
                break Progress::Blocked;
            }
            *left -= 1;
            if pacing {
                self.pace(len, now);
            }
        };
        if self.send.nxt != before {
            self.note_sent(before, host);
            self.send.sent_at = now;
            if first {
                self.send.waiting_since = now;
                self.send.timer_from(now);
            } else if self.send.timer != super::sender::TimerKind::Reorder {
                self.send.set_timer(now);
            }
        }
        progress
    }

    /// RFC 5681 section 4.1.
    fn restart_after_idle(&mut self, now: Instant) {
        let idle = now.saturating_since(self.send.sent_at);
        if self.send.segments.is_empty() && idle > self.send.rtt.base_rto() {
            use super::congestion::CongestionControl;
            let rto = self.send.rtt.base_rto();
            self.send.congestion.on_idle(now, idle, rto, &mut self.send.window);
        }
    }

    /// The hook for pacing: half as much again as the window in a round trip, in bursts.
    fn pace(&mut self, len: u32, now: Instant) {
        let Some(srtt) = self.send.rtt.srtt() else { return };
        let window = &self.send.window;
        let factor = if window.in_slow_start() { 2 } else { 1 };
        let rate = u64::from(window.cwnd_bytes.max(1)) * factor * 5 / 4;
        let gap_ns = srtt.as_nanos() as u64 * u64::from(len) / rate.max(1);
        let burst_ns = gap_ns * u64::from(PACING_BURST);
        let from = self.send.pace_at.max(Instant::from_nanos(now.as_nanos().saturating_sub(burst_ns)));
        self.send.pace_at = from + Duration::from_nanos(gap_ns);
    }

    fn train<H: Default>(&self, now: Instant) -> Train<H> {
        let send = &self.send;
        Train {
            mss: u32::from(send.mss),
            edge: send.una + send.wnd,
            in_flight_from: send.una + send.not_in_flight(),
            cwnd_bytes: send.window.cwnd_bytes,
            push_all: self.options.push_all,
            sent_at: now.max(send.resent_at),
            flags: None,
            headers: H::default(),
        }
    }

    /// How long the next segment of new data is, and whether it may go.
    #[inline(always)]
    fn next_segment<H>(&self, train: &Train<H>, forced: bool, host: &impl Host) -> Next {
        let send = &self.send;
        let mss = train.mss;
        let Some(first) = send.pending.front() else {
            return if send.fin_queued && !send.fin_sent { Next::Segment(0) } else { Next::Nothing };
        };
        let usable = train.edge.diff(send.nxt).max(0) as u32;
        let more = send.pending.len() > 1;
        let mut len = first.len.min(mss);
        if len < mss && more && !self.options.nodelay && host.pieces_max(&self.ends) > 2 {
            len = self.joined_len(mss, host.pieces_max(&self.ends));
        }
        if len > usable {
            // RFC 9293 section 3.8.6.2.1: at least half the largest window, or all there is when the override timer fires.
            if usable == 0 || (!forced && usable < send.wnd_max / 2) {
                return Next::Window;
            }
            len = usable;
        }
        if forced {
            return Next::Segment(len);
        }
        let in_flight = send.nxt.diff(train.in_flight_from);
        if in_flight > 0 && in_flight as u32 + len > train.cwnd_bytes {
            return Next::Congestion;
        }
        // Minshall's variant of Nagle's algorithm: one small segment at a time, unless there is more behind it or nothing will follow.
        let last = send.nxt + len == send.end;
        if len < mss && last && !self.options.nodelay && !send.fin_queued && send.small_end.gt(send.una) {
            return Next::Company;
        }
        Next::Segment(len)
    }

    #[inline(never)]
    fn next_forced(&self, host: &impl Host) -> Next {
        self.next_segment(&self.train::<()>(host.now()), true, host)
    }

    /// How many bytes of the first pending buffers one segment can take in `pieces_max` descriptors with the headers'.
    fn joined_len(&self, mss: u32, pieces_max: usize) -> u32 {
        let (mut len, mut pieces) = (0, 1);
        for at in 0..self.send.pending.len() {
            // A run's piece may lie over two frames.
            pieces += if self.send.pending[at].buf.is_some() { 1 } else { 2 };
            if pieces > pieces_max.min(PIECES_MAX) || len >= mss {
                break;
            }
            len += self.pending_len(at);
        }
        len.clamp(self.pending_len(0).min(mss), mss)
    }

    #[inline(never)]
    fn send_alone(&mut self, len: u32, host: &mut impl Host) -> Sent {
        let before = self.send.nxt;
        let mut train = self.train(host.now());
        let sent = self.send_segment(len, &mut train, host);
        if sent == Sent::Yes {
            self.note_sent(before, host);
        }
        sent
    }

    /// Sends `len` bytes of new data, or a FIN alone. [`note_sent`](Self::note_sent) has to follow the last segment of a train.
    #[inline(always)]
    fn send_segment<H: Host>(&mut self, len: u32, train: &mut Train<H::Headers>, host: &mut H) -> Sent {
        let seq = self.send.nxt;
        let (mut bits, mut marks) = (flags::ACK, Marks::default());
        if self.send.end == seq + len || train.push_all || self.send.cwr {
            (bits, marks) = self.special(len);
        }
        if self.send.pending.front().is_some_and(|first| first.len == len && first.buf.is_some()) {
            // An urgent pointer counts from each segment's own sequence number.
            if train.flags.is_none() || self.send.urgent_end.is_some() {
                self.write_headers(train, host);
            }
            let (Some(flags), Some(first)) = (train.flags, self.send.pending.front_mut()) else {
                return Sent::Blocked;
            };
            let Some(kept) = host.send_whole(&train.headers, seq, flags | bits, &mut first.buf) else {
                return Sent::Blocked;
            };
            // Its buffer is taken: nothing is left to be dropped.
            std::mem::forget(self.send.pending.pop_front());
            // Made in its place: payloads of several kinds would meet on the stack and be moved there.
            self.append_segment(len, marks, train, || Payload::Kept(kept), host);
        } else {
            let Some(payload) = self.send_other(len, bits, host) else { return Sent::Blocked };
            self.append_segment(len, marks, train, || payload, host);
        }
        if bits & flags::CWR != 0 {
            self.send.cwr = false;
        }
        Sent::Yes
    }

    /// Flags and marks of the next segment, where they are not what most have.
    #[inline(never)]
    fn special(&self, len: u32) -> (u8, Marks) {
        let last = self.send.end == self.send.nxt + len;
        let (mut bits, mut marks) = (flags::ACK, Marks::default());
        if last && self.send.fin_queued && !self.send.fin_sent {
            bits |= flags::FIN;
            marks.set(Marks::FIN);
        }
        if (last || self.options.push_all) && len > 0 {
            bits |= flags::PSH;
            marks.set(Marks::PUSH);
        }
        if self.send.cwr && len > 0 {
            bits |= flags::CWR;
        }
        (bits, marks)
    }

    /// The headers of segments that are a frame's whole payload.
    #[inline(never)]
    fn write_headers<H: Host>(&mut self, train: &mut Train<H::Headers>, host: &mut H) {
        let (ip, repr) = (self.ip(true), self.repr(self.send.nxt, flags::ACK, host));
        train.flags = host.write_headers(&mut train.headers, &self.ends, ip, &repr).then_some(repr.flags);
    }

    /// Sends a segment that is not one frame's payload; `None`: it could not go now.
    #[inline(never)]
    fn send_other(&mut self, len: u32, bits: u8, host: &mut impl Host) -> Option<Payload> {
        let seq = self.send.nxt;
        if len == 0 {
            let (ip, repr) = (self.ip(false), self.bare_repr(seq, bits, host));
            return host.send_bare(&self.ends, ip, &repr).then_some(Payload::None);
        }
        let (ip, repr) = (self.ip(true), self.repr(seq, bits, host));
        self.freeze(len);
        if !host.send_pieces(&self.ends, ip, &repr, &stretches(&self.send.shared, seq, len)) {
            return None;
        }
        self.consume_pending(len);
        Some(Payload::Shared)
    }

    /// A segment with the next `len` bytes was sent.
    #[inline(always)]
    fn append_segment<H>(
        &mut self,
        len: u32,
        marks: Marks,
        train: &Train<H>,
        payload: impl FnOnce() -> Payload,
        host: &mut impl Host,
    ) {
        let (seq, sent_at) = (self.send.nxt, train.sent_at);
        let taken = len + u32::from(marks.has(Marks::FIN));
        host.spares().segments.equip(&mut self.send.segments);
        push_with(&mut self.send.segments, || Segment { seq, len: taken, sent_at, marks, payload: payload() });
        self.send.nxt = seq + taken;
        if len < train.mss {
            self.send.small_end = self.send.nxt;
        }
        if marks.has(Marks::FIN) {
            self.send.fin_sent = true;
            self.state = match self.state {
                TcpState::CloseWait => TcpState::LastAck,
                _ => TcpState::FinWait1,
            };
        }
    }

    /// New segments were sent, all that follows `before`.
    fn note_sent(&mut self, before: SeqNum, host: &mut impl Host) {
        host.spares().pending.strip(&mut self.send.pending);
        let taken = self.send.nxt.since(before);
        if let Phase::Recovery { prr, .. } = &mut self.send.phase {
            prr.on_sent(taken);
        }
        let last = self.send.segments.back().map(|last| (last.marks.has(Marks::FIN), last.payload_len()));
        let (fin, last_payload_len) = last.unwrap_or_default();
        host.counters().tcp_tx_payload_bytes += u64::from(taken - u32::from(fin));
        self.acknowledged(if last_payload_len == 0 { Told::All } else { Told::Number });
    }

    /// The first `len` pending bytes become frozen ones.
    fn freeze(&mut self, len: u32) {
        let (mut done, mut at) = (0, 0);
        while done < len && at < self.send.pending.len() {
            self.send.freeze_pending(at);
            done += self.pending_len(at);
            at += 1;
        }
    }

    #[inline]
    fn consume_pending(&mut self, len: u32) {
        let mut left = len;
        while left > 0
            && let Some(first) = self.send.pending.front_mut()
        {
            if first.len > left {
                first.seq += left;
                first.len -= left;
                return;
            }
            left -= first.len;
            self.send.pending.pop_front();
        }
    }

    /// Sends a segment again.
    fn resend<H: Host>(&mut self, at: usize, host: &mut H) -> Sent {
        let now = host.now();
        let mss = u32::from(self.send.mss);
        let Some(segment) = self.send.segments.get_mut(at) else { return Sent::Yes };
        let mut payload = std::mem::replace(&mut segment.payload, Payload::None);
        if let Payload::Kept(kept) = payload {
            payload = match kept.try_exclusive() {
                Ok(buf) => Payload::Ready(buf),
                // The kernel still has the frame from last time: writing headers into it now would change that packet.
                Err(kept) => {
                    segment.payload = Payload::Kept(kept);
                    host.counters().tcp_retransmissions_waited += 1;
                    return Sent::Blocked;
                }
            };
        }
        let (seq, payload_len) = (segment.seq, segment.payload_len());
        if payload_len > mss {
            // The path has become narrower.
            if let Payload::Ready(buf) = payload {
                self.send.share(seq, buf);
            }
            self.split(at, mss);
            payload = Payload::Shared;
        }
        let Some(segment) = self.send.segments.get(at) else { return Sent::Yes };
        let (marks, len, payload_len) = (segment.marks, segment.len, segment.payload_len());
        let mut bits = flags::ACK;
        if marks.has(Marks::FIN) {
            bits |= flags::FIN;
        }
        if marks.has(Marks::PUSH) {
            bits |= flags::PSH;
        }
        // RFC 3168 section 6.1.5: retransmissions are not ECN-capable.
        let ip = self.ip(false);
        let repr = self.repr(seq, bits, host);
        let (sent, payload) = match payload {
            Payload::Ready(buf) => {
                let (mut headers, mut held) = (H::Headers::default(), Some(buf));
                let known = host.write_headers(&mut headers, &self.ends, ip, &repr);
                let kept = known.then(|| host.send_whole(&headers, seq, repr.flags, &mut held)).flatten();
                match kept {
                    Some(kept) => (true, Payload::Kept(kept)),
                    None => (false, held.map_or(Payload::None, Payload::Ready)),
                }
            }
            Payload::Shared => {
                let sent = host.send_pieces(&self.ends, ip, &repr, &stretches(&self.send.shared, seq, payload_len));
                (sent, Payload::Shared)
            }
            other => (host.send_bare(&self.ends, ip, &repr), other),
        };
        let sent_at = if sent { self.send.time_of_resending(now) } else { now };
        let Some(segment) = self.send.segments.get_mut(at) else { return Sent::Yes };
        segment.payload = payload;
        if !sent {
            return Sent::Blocked;
        }
        segment.sent_at = sent_at;
        segment.marks.set(Marks::RESENT);
        self.send.resent_end = self.send.resent_end.max(segment.end());
        if segment.marks.has(Marks::LOST) {
            segment.marks.clear(Marks::LOST);
            self.send.lost_bytes -= len;
        }
        if let Phase::Recovery { prr, .. } = &mut self.send.phase {
            prr.on_sent(len);
        }
        if let Some(count) = &mut self.send.undo_segments {
            *count += 1;
            // RFC 3522 section 3.2 step 1: the timestamp of the first retransmission.
            if *count == 1 && self.timestamps {
                self.send.eifel = Some(self.timestamp(now));
            }
        }
        self.send.retransmissions += 1;
        host.counters().tcp_retransmissions += 1;
        if at == 0 {
            self.send.timer_after_resending(now);
        }
        self.acknowledged(Told::Number);
        Sent::Yes
    }

    /// Cuts a segment whose bytes are frozen after `len` payload bytes.
    fn split(&mut self, at: usize, len: u32) {
        let Some(segment) = self.send.segments.get_mut(at) else { return };
        let mut marks = segment.marks;
        let rest = Segment {
            seq: segment.seq + len,
            len: segment.len - len,
            sent_at: segment.sent_at,
            marks,
            payload: Payload::Shared,
        };
        marks.clear(Marks::FIN | Marks::PUSH);
        (segment.marks, segment.len, segment.payload) = (marks, len, Payload::Shared);
        self.send.segments.insert(at + 1, rest);
    }

    fn send_probe(&mut self, host: &mut impl Host) -> Sent {
        match self.probe {
            Probe::None => return Sent::Yes,
            Probe::Tail => {
                // RFC 8985 section 7.3: new data if there is some, else the last segment again.
                let new = matches!(self.next_forced(host), Next::Segment(len) if len > 0);
                let sent = if new && let Next::Segment(len) = self.next_forced(host) {
                    self.send_alone(len, host)
                } else if let Some(last) = self.send.segments.len().checked_sub(1) {
                    self.resend(last, host)
                } else {
                    self.probe = Probe::None;
                    return Sent::Yes;
                };
                if sent == Sent::Blocked {
                    return sent;
                }
                self.send.probe = Some((self.send.nxt, !new));
                host.counters().tcp_tail_probes += 1;
                self.send.set_timer(host.now());
            }
            Probe::Window => {
                if let Next::Segment(len) = self.next_forced(host)
                    && self.send.wnd > 0
                {
                    if self.send_alone(len, host) == Sent::Blocked {
                        return Sent::Blocked;
                    }
                    self.send.waiting_since = host.now();
                    self.send.timer_from(host.now());
                } else if !self.send_old(host) {
                    return Sent::Blocked;
                }
                host.counters().tcp_window_probes += 1;
            }
            Probe::Keepalive => {
                if !self.send_old(host) {
                    return Sent::Blocked;
                }
            }
        }
        self.probe = Probe::None;
        Sent::Yes
    }

    /// A segment without data before what the peer expects: it must answer (RFC 9293 section 3.8.4). So no byte of a frame is cut off for a probe.
    fn send_old(&mut self, host: &mut impl Host) -> bool {
        let seq = SeqNum(self.send.una.0.wrapping_sub(1));
        let repr = self.bare_repr(seq, flags::ACK, host);
        host.send_bare(&self.ends, self.ip(false), &repr)
    }

    /// Acknowledgments that no data has carried.
    #[inline]
    pub(super) fn send_acks(&mut self, host: &mut impl Host) -> Progress {
        if std::mem::take(&mut self.window_due) && self.receive.worth_telling(&self.options, host) {
            self.ack_now = true;
        }
        while self.ack_now || self.dup_acks_owed > 0 {
            let repr = self.bare_repr(self.send.nxt, flags::ACK, host);
            if !host.send_bare(&self.ends, self.ip(false), &repr) {
                return Progress::Blocked;
            }
            let owed = self.dup_acks_owed.saturating_sub(1);
            self.acknowledged(Told::All);
            self.dup_acks_owed = owed;
        }
        Progress::Done
    }

    /// The application has taken something: the peer hears of a window that was closed or nearly so.
    ///
    /// True if there may be something to send now; what the window is then is looked at when it is sent.
    #[inline]
    pub fn after_recv(&mut self) -> bool {
        let (window, receive) = (self.receive.window(), &self.receive);
        let free = receive.limit.saturating_sub(receive.queued_bytes);
        let step = receive.segment_bytes.min(receive.limit / 2);
        let due = window < receive.limit / 2 && free >= window + step && self.state.can_receive();
        self.window_due |= due;
        due
    }
}

/// Where `len` frozen bytes from `seq` on lie.
fn stretches(shared: &VecDeque<(SeqNum, Bytes)>, mut seq: SeqNum, len: u32) -> SmallVec<[Stretch<'_>; 4]> {
    let mut out = SmallVec::new();
    let mut left = len as usize;
    let mut at = shared.partition_point(|(start, bytes)| (*start + bytes.len()).le(seq));
    while left > 0
        && let Some((start, bytes)) = shared.get(at)
    {
        let skip = seq.since(*start) as usize;
        let n = left.min(bytes.len() as usize - skip);
        let (frozen, from) = bytes.frozen();
        out.push((frozen, from + skip, n));
        seq += n as u32;
        left -= n;
        at += 1;
    }
    out
}
