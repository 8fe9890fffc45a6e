//! The sending half: what waits, what is in flight, and what the peer has said about it.
//!
//! ```text
//!        una            nxt              end
//!  acked  │  in flight   │    waits       │
//!         └─ segments ───┴─── pending ────┘
//! ```
//!
//! A buffer that one segment can carry goes out as one descriptor, headers in its own head-room, and stays in the queue as [`Retained`]: the frame itself is the
//! retransmission. All other bytes (runs, chains, what must be cut or joined) are frozen in [`shared`](Sender::shared) and go out behind a frame of headers, so no
//! header is ever written between two segments' bytes.

use super::{
    super::deque::push_with,
    congestion::{Congestion, Window},
    prr::Prr,
    recovery::Rack,
    rtt::RttEstimator,
    spares::Spares,
    types::{NEVER, TcpOptions},
};
use crate::{
    buf::{Content, Frozen, Retained, TxBuf},
    time::Instant,
    wire::seq::SeqNum,
};
use std::{collections::VecDeque, rc::Rc};

/// Room for all headers of a segment in front of its payload; a buffer with less goes out behind a frame of headers.
const HEADROOM_MIN: usize = 128;

/// More is never in flight (RFC 7323 section 2.3).
const WINDOW_BYTES_MAX: u32 = 1 << 30;

/// What is known of a segment in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    /// The peer has it (RFC 2018).
    pub(super) const SACKED: u8 = 1;
    /// It is thought lost and not sent again since.
    pub(super) const LOST: u8 = 2;
    /// It was sent more than once.
    pub(super) const RESENT: u8 = 4;
    /// It ends with our FIN.
    pub(super) const FIN: u8 = 8;
    /// It carries the push flag.
    pub(super) const PUSH: u8 = 16;

    #[inline]
    pub(super) fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    #[inline]
    pub(super) fn set(&mut self, mark: u8) {
        self.0 |= mark;
    }

    #[inline]
    pub(super) fn clear(&mut self, mark: u8) {
        self.0 &= !mark;
    }
}

/// Where a segment's payload is.
#[derive(Debug)]
pub(super) enum Payload {
    /// In a frame that was sent with it.
    Kept(Retained),
    /// In that frame, now that nobody else holds it.
    Ready(TxBuf),
    /// Among the frozen bytes.
    Shared,
    /// It has none.
    None,
}

/// Frozen bytes: this connection's, or a part of some that many connections send.
#[derive(Debug)]
pub(super) enum Bytes {
    Own(Frozen),
    Common { bytes: Rc<dyn Content>, from: u32, len: u32 },
}

impl Bytes {
    pub(super) fn len(&self) -> u32 {
        match self {
            Self::Own(frozen) => frozen.total_len() as u32,
            Self::Common { len, .. } => *len,
        }
    }

    /// The bytes, and where in them ours begin.
    pub(super) fn frozen(&self) -> (&Frozen, usize) {
        match self {
            Self::Own(frozen) => (frozen, 0),
            Self::Common { bytes, from, .. } => (bytes.frozen(), *from as usize),
        }
    }
}

/// A segment in flight.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) seq: SeqNum,
    /// Sequence numbers that it takes: payload, and one for FIN.
    pub(super) len: u32,
    /// When it was sent last.
    pub(super) sent_at: Instant,
    pub(super) marks: Marks,
    pub(super) payload: Payload,
}

impl Segment {
    #[inline]
    pub(super) fn end(&self) -> SeqNum {
        self.seq + self.len
    }

    /// Payload bytes.
    pub(super) fn payload_len(&self) -> u32 {
        self.len - u32::from(self.marks.has(Marks::FIN))
    }
}

/// A buffer, or the rest of one, that was never sent.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) seq: SeqNum,
    pub(super) len: u32,
    /// `None`: the bytes are among the frozen ones.
    pub(super) buf: Option<TxBuf>,
    /// It was made by a copying call, which may add to it.
    pub(super) open: bool,
}

/// What the sender does about losses.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing is amiss.
    Open,
    /// Fast recovery, until `end` is acknowledged (RFC 6675, RFC 9937).
    Recovery { end: SeqNum, prr: Prr },
    /// After a time-out, until `end` is acknowledged.
    Loss { end: SeqNum },
}

/// What the retransmission timer is set for. There is one, as RFC 8985 section 8 has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerKind {
    Retransmit,
    TailProbe,
    Reorder,
    Persist,
}

/// What an acknowledgment told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivered {
    /// Bytes that it acknowledged cumulatively.
    pub(super) acked: u32,
    /// Bytes that are known to have arrived, and were not before.
    pub(super) delivered: u32,
    /// Bytes newly acknowledged by SACK.
    pub(super) sacked: u32,
    /// When the segments that it acknowledges, sent once, went out: the first and the last of them.
    pub(super) sent: Option<(Instant, Instant)>,
    /// Some of what it acknowledges was sent more than once.
    pub(super) resent: bool,
    /// It reported duplicates (RFC 2883).
    pub(super) dsack: bool,
    /// Bytes that it showed to be lost.
    pub(super) lost: u32,
}

/// Sending half of a connection.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) una: SeqNum,
    pub(super) nxt: SeqNum,
    /// Behind the last byte that the application gave.
    pub(super) end: SeqNum,
    /// The peer's window, in bytes from `una`.
    pub(super) wnd: u32,
    pub(super) wnd_max: u32,
    wl1: SeqNum,
    wl2: SeqNum,
    pub(super) peer_scale: u8,
    /// The peer's MSS option, or the default.
    pub(super) peer_mss: u16,
    /// Payload bytes of a full segment.
    pub(super) mss: u16,
    pub(super) pending: VecDeque<Pending>,
    pub(super) segments: VecDeque<Segment>,
    pub(super) shared: VecDeque<(SeqNum, Bytes)>,
    /// The application has finished.
    pub(super) fin_queued: bool,
    pub(super) fin_sent: bool,
    /// Behind the last small segment (Minshall's `snd_sml`).
    pub(super) small_end: SeqNum,
    /// Behind the last urgent byte.
    pub(super) urgent_end: Option<SeqNum>,
    pub(super) window: Window,
    pub(super) congestion: Congestion,
    pub(super) rtt: RttEstimator,
    pub(super) rack: Rack,
    pub(super) phase: Phase,
    pub(super) sacked_bytes: u32,
    pub(super) sacked_segments: u32,
    pub(super) lost_bytes: u32,
    /// The peer understands SACK.
    pub(super) sack: bool,
    /// Behind the last segment that was sent more than once, if that is in flight.
    pub(super) resent_end: SeqNum,
    /// When a segment was last sent more than once.
    pub(super) resent_at: Instant,
    /// Where to begin to look for lost segments.
    pub(super) lost_from: SeqNum,
    /// The congestion window was what stopped us when we sent last.
    pub(super) cwnd_limited: bool,
    /// Duplicate acknowledgments of a peer without SACK.
    pub(super) dup_acks: u32,
    /// The blocks of the last acknowledgment, so that telling them again costs nothing.
    sacks_seen: [(SeqNum, SeqNum); 4],
    /// Our timestamp in the first retransmission of an episode (RFC 3522), and whether undoing is possible at all.
    pub(super) eifel: Option<u32>,
    /// Retransmissions of the episode that no D-SACK has called needless.
    pub(super) undo_segments: Option<u32>,
    /// The tail probe's end (RFC 8985 section 7.4), and whether it was a retransmission.
    pub(super) probe: Option<(SeqNum, bool)>,
    pub(super) timer_at: Instant,
    pub(super) timer: TimerKind,
    /// When the retransmission timer began to run (RFC 6298 section 5).
    pub(super) rto_from: Instant,
    /// When something was last sent, for idle restarts.
    pub(super) sent_at: Instant,
    /// When the oldest data in flight (or the first probe of a closed window) was first left unanswered.
    pub(super) waiting_since: Instant,
    pub(super) retransmissions: u32,
    /// ECN: the window was reduced; tell the peer with the next new data (RFC 3168 section 6.1.2).
    pub(super) cwr: bool,
    /// The last reduction for an ECN echo holds until here.
    pub(super) ecn_end: SeqNum,
    /// A send was refused; the application wants to hear of room.
    pub(super) wants_room: bool,
    /// Pacing: not before.
    pub(super) pace_at: Instant,
}

impl Sender {
    pub(super) fn new(iss: SeqNum, congestion: Congestion, rtt: RttEstimator, now: Instant) -> Self {
        Self {
            una: iss,
            nxt: iss,
            end: iss + 1,
            wnd: 0,
            wnd_max: 0,
            wl1: SeqNum(0),
            wl2: iss,
            peer_scale: 0,
            peer_mss: 536,
            mss: 536,
            pending: VecDeque::new(),
            segments: VecDeque::new(),
            shared: VecDeque::new(),
            fin_queued: false,
            fin_sent: false,
            small_end: iss,
            urgent_end: None,
            window: Window::initial(536),
            congestion,
            rtt,
            rack: Rack::new(iss),
            phase: Phase::Open,
            sacked_bytes: 0,
            sacked_segments: 0,
            lost_bytes: 0,
            sack: false,
            resent_end: iss,
            resent_at: Instant::ZERO,
            lost_from: iss,
            cwnd_limited: false,
            dup_acks: 0,
            sacks_seen: [(iss, iss); 4],
            eifel: None,
            undo_segments: None,
            probe: None,
            timer_at: NEVER,
            timer: TimerKind::Retransmit,
            rto_from: now,
            sent_at: now,
            waiting_since: now,
            retransmissions: 0,
            cwr: false,
            ecn_end: iss,
            wants_room: false,
            pace_at: Instant::ZERO,
        }
    }

    /// Bytes that the application gave and the peer has not acknowledged.
    #[inline]
    pub(super) fn queued_bytes(&self) -> u32 {
        // `una` may be one past `end` when our FIN is acknowledged.
        if self.end.gt(self.una) { self.end.since(self.una) } else { 0 }
    }

    /// Bytes that may be queued now.
    #[inline]
    pub(super) fn room(&self, options: &TcpOptions) -> u32 {
        if self.frames() >= options.send_frames_max as usize {
            return 0;
        }
        options.send_queue_bytes.saturating_sub(self.queued_bytes())
    }

    /// There is so much room that telling of it is worth a call.
    pub(super) fn has_much_room(&self, options: &TcpOptions) -> bool {
        let frames_few = self.frames() <= options.send_frames_max as usize / 4 * 3;
        frames_few && self.room(options) >= options.send_queue_bytes / 4
    }

    /// What is queued, in frames: exact but for runs, whose segments count instead.
    #[inline]
    fn frames(&self) -> usize {
        self.pending.len() + self.segments.len()
    }

    /// Bytes that are thought to be in the network (RFC 6675's pipe).
    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        self.nxt.since(self.una).saturating_sub(self.not_in_flight())
    }

    /// Of those that were sent and are not acknowledged, bytes that are thought to be there or lost.
    #[inline]
    pub(super) fn not_in_flight(&self) -> u32 {
        if self.sacked_bytes | self.lost_bytes | self.dup_acks == 0 {
            return 0;
        }
        let dup = self.dup_acks.saturating_mul(u32::from(self.mss));
        self.sacked_bytes.saturating_add(self.lost_bytes).saturating_add(dup).min(WINDOW_BYTES_MAX)
    }

    /// Takes a buffer, which fits.
    #[inline(always)]
    pub(super) fn enqueue(&mut self, buf: TxBuf, open: bool, spares: &mut Spares) {
        let (len, whole) = (buf.total_len() as u32, buf.is_single() && buf.headroom() >= HEADROOM_MIN);
        let seq = self.end;
        self.end = seq + len;
        spares.pending.equip(&mut self.pending);
        if whole {
            push_with(&mut self.pending, || Pending { seq, len, buf: Some(buf), open });
        } else {
            self.enqueue_frozen(seq, len, buf, open);
        }
    }

    #[cold]
    fn enqueue_frozen(&mut self, seq: SeqNum, len: u32, buf: TxBuf, open: bool) {
        self.shared.push_back((seq, Bytes::Own(buf.freeze())));
        push_with(&mut self.pending, || Pending { seq, len, buf: None, open });
    }

    /// Takes `len` bytes from `from` on of frozen ones that others may send as well.
    pub(super) fn enqueue_common(&mut self, bytes: Rc<dyn Content>, from: u32, len: u32, spares: &mut Spares) {
        let seq = self.end;
        self.end = seq + len;
        spares.pending.equip(&mut self.pending);
        self.shared.push_back((seq, Bytes::Common { bytes, from, len }));
        push_with(&mut self.pending, || Pending { seq, len, buf: None, open: false });
    }

    /// Adds a copy of `bytes` to the last buffer as far as it is one of this kind and a segment has room; returns how many.
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let mss = usize::from(self.mss);
        let Some(Pending { len, buf: Some(buf), open: true, .. }) = self.pending.back_mut() else { return 0 };
        let room = mss.saturating_sub(buf.len()).min(buf.capacity() - buf.len());
        let n = room.min(bytes.len());
        if n == 0 || buf.put_slice(&bytes[..n]).is_err() {
            return 0;
        }
        *len += n as u32;
        self.end += n as u32;
        n
    }

    /// Freezes the bytes of the first pending buffer.
    pub(super) fn freeze_pending(&mut self, at: usize) {
        if let Some(Pending { seq, buf, open, .. }) = self.pending.get_mut(at)
            && let Some(buf) = buf.take()
        {
            *open = false;
            let seq = *seq;
            self.share(seq, buf);
        }
    }

    /// Puts bytes where pieces of them may be sent.
    pub(super) fn share(&mut self, seq: SeqNum, buf: TxBuf) {
        let at = self.shared.partition_point(|(start, _)| start.lt(seq));
        self.shared.insert(at, (seq, Bytes::Own(buf.freeze())));
    }

    /// Which segment begins at or covers `seq`; the number of segments if none does.
    pub(super) fn index_of(&self, seq: SeqNum) -> usize {
        self.segments.partition_point(|segment| segment.end().le(seq))
    }

    /// A time for a segment that is sent again now: after that of all that was sent in the same moment before, new or again, which its own end would not tell from
    /// what came after (RFC 8985 section 5.2 wants the order of transmissions).
    pub(super) fn time_of_resending(&mut self, now: Instant) -> Instant {
        let newest = self.segments.back().map_or(Instant::ZERO, |newest| newest.sent_at);
        self.resent_at = now.max(self.resent_at.max(newest).plus_nanos(1));
        self.resent_at
    }

    /// Takes note of the peer's window (RFC 9293 section 3.10.7.4, fifth step). True if it grew or opened.
    pub(super) fn update_window(&mut self, seq: SeqNum, ack: SeqNum, window: u32) -> bool {
        if self.wl1.lt(seq) || (self.wl1 == seq && self.wl2.le(ack)) {
            let old = self.wnd;
            (self.wnd, self.wl1, self.wl2) = (window, seq, ack);
            self.wnd_max = self.wnd_max.max(window);
            return window > old;
        }
        false
    }

    /// The first word from the peer: nothing came before it.
    pub(super) fn set_window(&mut self, seq: SeqNum, ack: SeqNum, window: u32) {
        (self.wnd, self.wl1, self.wl2) = (window, seq, ack);
        self.wnd_max = self.wnd_max.max(window);
    }

    /// Everything up to `ack` has arrived.
    pub(super) fn acknowledge(&mut self, ack: SeqNum, now: Instant, out: &mut Delivered, spares: &mut Spares) {
        out.acked = ack.since(self.una);
        self.una = ack;
        self.resent_end = self.resent_end.max(ack);
        while let Some(segment) = self.segments.front() {
            if segment.end().gt(ack) {
                break;
            }
            let len = segment.len;
            if segment.marks.has(Marks::SACKED) {
                self.sacked_bytes -= len;
                self.sacked_segments -= 1;
            } else {
                out.delivered += len;
                if segment.marks.has(Marks::LOST) {
                    self.lost_bytes -= len;
                }
                self.rack.on_delivered(segment, now);
                note_times(segment, out);
            }
            self.segments.pop_front();
        }
        if self.segments.front().is_some_and(|first| first.seq.lt(ack)) {
            self.acknowledge_partly(ack, out);
        }
        while let Some((start, bytes)) = self.shared.front() {
            if (*start + bytes.len()).gt(ack) {
                break;
            }
            self.shared.pop_front();
        }
        spares.segments.strip(&mut self.segments);
    }

    /// The first segment has arrived up to `ack`.
    #[cold]
    pub(super) fn acknowledge_partly(&mut self, ack: SeqNum, out: &mut Delivered) {
        let Some(segment) = self.segments.front_mut() else { return };
        let n = ack.since(segment.seq);
        segment.seq = ack;
        segment.len -= n;
        match &mut segment.payload {
            Payload::Kept(kept) => kept.trim_front(n as usize),
            Payload::Ready(buf) => buf.advance(n as usize),
            Payload::Shared | Payload::None => {}
        }
        if segment.marks.has(Marks::SACKED) {
            self.sacked_bytes -= n;
        } else {
            out.delivered += n;
            if segment.marks.has(Marks::LOST) {
                self.lost_bytes -= n;
            }
        }
    }

    /// The peer says that it has `start .. end` (RFC 2018). The caller has checked that it lies within what is in flight.
    pub(super) fn selectively_acknowledge(&mut self, start: SeqNum, end: SeqNum, now: Instant, out: &mut Delivered) {
        let mut from = start;
        for &(seen_start, seen_end) in &self.sacks_seen {
            if seen_start.le(start) && seen_end.gt(from) {
                from = seen_end;
            }
        }
        if from.ge(end) {
            return;
        }
        let mut at = self.index_of(from);
        // A block that begins within a segment does not cover it.
        while let Some(segment) = self.segments.get_mut(at) {
            if segment.end().gt(end) {
                break;
            }
            at += 1;
            if segment.marks.has(Marks::SACKED) || segment.seq.lt(start) {
                continue;
            }
            segment.marks.set(Marks::SACKED);
            if segment.marks.has(Marks::LOST) {
                segment.marks.clear(Marks::LOST);
                self.lost_bytes -= segment.len;
            }
            self.sacked_bytes += segment.len;
            self.sacked_segments += 1;
            out.delivered += segment.len;
            out.sacked += segment.len;
            self.rack.on_delivered(segment, now);
            note_times(segment, out);
        }
    }

    /// Remembers the blocks of this acknowledgment.
    pub(super) fn remember_sacks(&mut self, blocks: impl Iterator<Item = (SeqNum, SeqNum)>) {
        self.sacks_seen = [(self.una, self.una); 4];
        for (slot, block) in self.sacks_seen.iter_mut().zip(blocks) {
            *slot = block;
        }
    }

    /// Takes a segment for lost. True if that is news.
    pub(super) fn mark_lost(&mut self, at: usize) -> bool {
        let Some(segment) = self.segments.get_mut(at) else { return false };
        if segment.marks.has(Marks::SACKED | Marks::LOST) {
            return false;
        }
        segment.marks.set(Marks::LOST);
        self.lost_bytes += segment.len;
        if segment.seq.lt(self.lost_from) {
            self.lost_from = segment.seq;
        }
        true
    }

    /// Takes all that is not known to have arrived for lost: after a time-out. The peer may have thrown away what it reported by SACK (RFC 2018 section 8).
    pub(super) fn mark_all_lost(&mut self) {
        let reneged = self.segments.front().is_some_and(|first| first.marks.has(Marks::SACKED));
        for segment in &mut self.segments {
            if reneged && segment.marks.has(Marks::SACKED) {
                segment.marks.clear(Marks::SACKED);
                self.sacked_bytes -= segment.len;
                self.sacked_segments -= 1;
            }
            if !segment.marks.has(Marks::SACKED | Marks::LOST) {
                segment.marks.set(Marks::LOST);
                self.lost_bytes += segment.len;
            }
        }
        if reneged {
            self.sacks_seen = [(self.una, self.una); 4];
        }
        self.dup_acks = 0;
        self.lost_from = self.una;
    }

    /// The first lost segment.
    pub(super) fn first_lost(&mut self) -> Option<usize> {
        if self.lost_bytes == 0 {
            return None;
        }
        let from = self.index_of(self.lost_from.max(self.una));
        let at = (from..self.segments.len()).find(|&at| self.segments[at].marks.has(Marks::LOST))?;
        self.lost_from = self.segments[at].seq;
        Some(at)
    }

    /// Nothing is lost after all.
    pub(super) fn unmark_lost(&mut self) {
        if self.lost_bytes > 0 {
            for segment in &mut self.segments {
                segment.marks.clear(Marks::LOST);
            }
            self.lost_bytes = 0;
        }
        self.dup_acks = 0;
    }

    /// Everything is given up: the frames go back.
    pub(super) fn clear(&mut self, spares: &mut Spares) {
        self.pending.clear();
        self.segments.clear();
        self.shared = VecDeque::new();
        self.una = self.nxt;
        self.end = self.nxt;
        (self.sacked_bytes, self.sacked_segments, self.lost_bytes, self.dup_acks) = (0, 0, 0, 0);
        self.timer_at = NEVER;
        self.pace_at = Instant::ZERO;
        spares.pending.strip(&mut self.pending);
        spares.segments.strip(&mut self.segments);
    }
}

#[inline(always)]
fn note_times(segment: &Segment, out: &mut Delivered) {
    // Karn's algorithm (RFC 6298 section 3): what was sent twice says nothing about time.
    if segment.marks.has(Marks::RESENT) {
        out.resent = true;
    } else {
        let at = segment.sent_at;
        out.sent = Some(out.sent.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
    }
}
