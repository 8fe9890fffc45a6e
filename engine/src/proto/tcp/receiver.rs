//! The receiving half: what has come, what is missing, and how much more may come.
//!
//! In-order frames go to the application's queue as they are; out-of-order frames are kept as they are. What holds memory is frames and not bytes, so the
//! advertised window is the smaller of the two (RFC 9293 section 3.8.6 leaves the choice to the receiver).

use super::{host::Host, spares::Spares, types::TcpOptions};
use crate::{
    buf::RxBuf,
    time::Instant,
    wire::{seq::SeqNum, tcp::SackBlocks},
};
use smallvec::SmallVec;
use std::collections::VecDeque;

/// Holes that are kept track of; a segment that would make one more is dropped and comes again.
const RUNS_MAX: usize = 32;
/// Blocks that are reported, newest first (RFC 2018 section 4).
const RECENT: usize = 4;

/// How long a round trip is taken for at least, and where none was measured, in [`Receiver::tune`].
const TUNE_NS_MIN: u64 = 100_000;
const TUNE_NS_DEFAULT: u64 = 100_000_000;

/// So many frames are never scarce: below, nobody computes what is.
const FRAMES_FEW: u32 = 8;

/// An out-of-order segment.
#[derive(Debug)]
pub(super) struct Held {
    seq: SeqNum,
    len: u32,
    buf: RxBuf,
}

/// What became of a segment's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The next bytes: so many are readable now.
    InOrder,
    /// Kept for later.
    OutOfOrder,
    /// All of it was here already.
    Duplicate,
    /// No memory for it, or too many holes.
    NoRoom,
}

/// The urgent byte (RFC 6093).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgent {
    None,
    /// Announced, and not here yet.
    Expected,
    /// Taken out of the stream and not read.
    Byte(u8),
    /// In the stream, or read.
    Passed,
}

/// Receiving half of a connection.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) nxt: SeqNum,
    /// Behind the last byte that the peer may send.
    pub(super) edge: SeqNum,
    pub(super) scale: u8,
    pub(super) queue: VecDeque<RxBuf>,
    pub(super) queued_bytes: u32,
    held: VecDeque<Held>,
    held_bytes: u32,
    /// Frames in both queues.
    pub(super) frames: u32,
    /// What is held, as disjoint ranges in order.
    runs: SmallVec<[(SeqNum, SeqNum); 2]>,
    /// Where the runs begin that changed last.
    recent: [SeqNum; RECENT],
    /// How many of these have changed since the peer was told.
    untold: u8,
    /// A duplicate to report (RFC 2883).
    dsack: Option<(SeqNum, SeqNum)>,
    /// Where the peer's FIN is.
    fin: Option<SeqNum>,
    /// Everything has come, FIN included.
    pub(super) finished: bool,
    /// Receive buffer, in bytes.
    pub(super) limit: u32,
    tune_since: Instant,
    taken_bytes: u32,
    /// Largest payload seen: what the peer takes for its segment size.
    pub(super) segment_bytes: u32,
    pub(super) urgent: Urgent,
    /// Where the urgent byte is or was.
    pub(super) urgent_at: SeqNum,
    /// The application took something since it was last told.
    pub(super) progress: bool,
}

impl Receiver {
    pub(super) fn new(irs: SeqNum, limit: u32, now: Instant) -> Self {
        Self {
            nxt: irs + 1,
            edge: irs + 1,
            scale: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            frames: 0,
            runs: SmallVec::new(),
            recent: [irs; RECENT],
            untold: 0,
            dsack: None,
            fin: None,
            finished: false,
            limit,
            tune_since: now,
            taken_bytes: 0,
            segment_bytes: 536,
            urgent: Urgent::None,
            urgent_at: irs,
            progress: false,
        }
    }

    /// Where the application reads next.
    pub(super) fn read_at(&self) -> SeqNum {
        SeqNum(self.nxt.0.wrapping_sub(self.queued_bytes).wrapping_sub(u32::from(self.finished)))
    }

    /// There is something out of order.
    pub(super) fn has_holes(&self) -> bool {
        !self.held.is_empty()
    }

    /// Neither data nor the FIN has come early.
    pub(super) fn is_in_order(&self) -> bool {
        self.held.is_empty() && self.fin.is_none()
    }

    /// Takes the payload of a segment, which lies within the window (the caller trimmed it) and begins at `seq`.
    #[inline]
    pub(super) fn take(
        &mut self,
        mut seq: SeqNum,
        mut buf: RxBuf,
        options: &TcpOptions,
        host: &mut impl Host,
    ) -> Taken {
        let mut len = buf.total_len() as u32;
        self.segment_bytes = self.segment_bytes.max(len);
        if seq.lt(self.nxt) {
            let old = self.nxt.since(seq);
            if old >= len {
                self.dsack = Some((seq, seq + len));
                return Taken::Duplicate;
            }
            self.dsack = Some((seq, self.nxt));
            buf = trim_front(buf, old as usize);
            (seq, len) = (self.nxt, len - old);
        }
        let frames = buf.frame_count() as u32;
        while self.frames + frames > self.frames_max(options, host.rx_frames_left()) {
            // What comes next in order goes before what only may be needed later.
            if seq != self.nxt || !self.forget_last_held(host) {
                return Taken::NoRoom;
            }
        }
        if seq == self.nxt {
            // What is held and lies beneath is here twice: the frames in the queue stay, the later ones go.
            self.nxt = seq + len;
            self.push(buf, seq, len, options, host);
            if !self.held.is_empty() {
                self.take_held(options, host);
            }
            self.take_fin();
            return Taken::InOrder;
        }
        self.hold(seq, len, buf, host)
    }

    /// The next `len` bytes, in one frame, are within the window, and frames are not getting scarce.
    #[inline(always)]
    pub(super) fn has_room_for_next(&self, len: u32, options: &TcpOptions, rx_frames_left: u32) -> bool {
        let frames_max = options.recv_frames_max.min(self.frames_share(rx_frames_left));
        len <= self.window() && self.frames < frames_max / 2
    }

    /// Takes the payload of the next segment, for which there [is room](Self::has_room_for_next), where nothing is out of order and no urgent byte is awaited.
    #[inline(always)]
    pub(super) fn take_next(&mut self, buf: RxBuf, len: u32, spares: &mut Spares) {
        spares.received.equip(&mut self.queue);
        self.frames += 1;
        self.queued_bytes += len;
        self.nxt += len;
        self.segment_bytes = self.segment_bytes.max(len);
        self.queue.push_back(buf);
    }

    /// Most frames that may be held: as many as are left to others, so that a stream which nobody reads cannot take them all.
    #[inline]
    fn frames_max(&self, options: &TcpOptions, rx_frames_left: u32) -> u32 {
        self.frames_share(rx_frames_left).min(options.recv_frames_max.saturating_mul(2))
    }

    #[inline]
    fn frames_share(&self, rx_frames_left: u32) -> u32 {
        self.frames.saturating_add(rx_frames_left) / 2
    }

    /// Appends to the application's queue.
    #[inline]
    fn push(&mut self, buf: RxBuf, seq: SeqNum, len: u32, options: &TcpOptions, host: &mut impl Host) {
        host.spares().received.equip(&mut self.queue);
        if self.urgent == Urgent::Expected && self.urgent_at.in_window(seq, len) {
            self.push_urgent(buf, self.urgent_at.since(seq) as usize, options, host);
            return;
        }
        self.queued_bytes += len;
        // Small segments hold whole frames: when frames get scarce, they are put together.
        if self.frames > FRAMES_FEW
            && self.frames > options.recv_frames_max.min(self.frames_max(options, host.rx_frames_left())) / 2
            && !buf.is_chain()
            && let Some(last) = self.queue.pop_back()
        {
            let room = if last.is_chain() { 0 } else { 512 };
            if buf.len() <= room && self.read_mark_differs(seq) {
                let mut last = last.into_tx();
                if last.put_slice(buf.as_slice()).is_ok() {
                    host.counters().tcp_rx_bytes_coalesced += u64::from(len);
                    self.queue.push_back(last.into_rx());
                    return;
                }
                self.queue.push_back(last.into_rx());
            } else {
                self.queue.push_back(last);
            }
        }
        let frames = buf.frame_count() as u32;
        self.frames += frames;
        host.charge_rx_frames(frames as i32);
        self.queue.push_back(buf);
    }

    /// Joining bytes at `seq` to those before must not hide the urgent mark.
    fn read_mark_differs(&self, seq: SeqNum) -> bool {
        self.urgent == Urgent::None || self.urgent_at != seq
    }

    /// The urgent byte is at `at` in `buf`: it leaves the stream, or begins a buffer of its own if it stays.
    fn push_urgent(&mut self, buf: RxBuf, at: usize, options: &TcpOptions, host: &mut impl Host) {
        let mut byte = [0];
        buf.copy_to(at, &mut byte);
        let (head_len, tail_from) = if options.urgent_inline { (at, at) } else { (at, at + 1) };
        self.urgent = if options.urgent_inline { Urgent::Passed } else { Urgent::Byte(byte[0]) };
        let tail_len = buf.total_len() - tail_from;
        let mut parts: [Option<RxBuf>; 2] = [None, None];
        if head_len == 0 {
            parts[0] = (tail_len > 0).then(|| trim_front(buf, tail_from));
        } else if tail_len == 0 {
            parts[0] = Some(trim_back(buf, head_len));
        } else {
            // One frame has one owner: the bytes behind the mark are copied into another.
            let mut tail = vec![0; tail_len];
            buf.copy_to(tail_from, &mut tail);
            parts[1] = host.pool().rx_from_bytes(&tail);
            if parts[1].is_some() {
                host.counters().bytes_copied_rx += tail_len as u64;
                parts[0] = Some(trim_back(buf, head_len));
            } else {
                // No memory: rather forget where the mark was than lose bytes.
                self.urgent = Urgent::Passed;
                parts[0] = Some(buf);
            }
        }
        for part in parts.into_iter().flatten() {
            let frames = part.frame_count() as u32;
            self.frames += frames;
            self.queued_bytes += part.total_len() as u32;
            host.charge_rx_frames(frames as i32);
            self.queue.push_back(part);
        }
    }

    /// Moves what has become contiguous to the application's queue.
    fn take_held(&mut self, options: &TcpOptions, host: &mut impl Host) {
        while let Some(first) = self.held.front() {
            if first.seq.gt(self.nxt) {
                break;
            }
            let Some(Held { seq, len, buf }) = self.held.pop_front() else { break };
            let frames = buf.frame_count() as u32;
            self.frames -= frames;
            self.held_bytes -= len;
            host.charge_rx_frames(-(frames as i32));
            let end = seq + len;
            if end.le(self.nxt) {
                continue;
            }
            let old = self.nxt.since(seq);
            let at = self.nxt;
            self.nxt = end;
            self.push(trim_front(buf, old as usize), at, len - old, options, host);
        }
        let nxt = self.nxt;
        self.runs.retain(|(_, end)| end.gt(nxt));
        host.spares().held.strip(&mut self.held);
    }

    /// Keeps a segment beyond a hole.
    fn hold(&mut self, mut seq: SeqNum, mut len: u32, mut buf: RxBuf, host: &mut impl Host) -> Taken {
        let given = (seq, seq + len);
        let at = self.held.partition_point(|held| (held.seq + held.len).le(seq));
        if let Some(before) = self.held.get(at)
            && before.seq.le(seq)
        {
            let overlap = (before.seq + before.len).since(seq);
            if overlap >= len {
                self.dsack = Some(given);
                return Taken::Duplicate;
            }
            buf = trim_front(buf, overlap as usize);
            (seq, len) = (seq + overlap, len - overlap);
        }
        let mut at = self.held.partition_point(|held| held.seq.lt(seq));
        while let Some(after) = self.held.get(at)
            && (after.seq + after.len).le(seq + len)
        {
            // Covered by the new one.
            if let Some(covered) = self.held.remove(at) {
                self.forget(covered, host);
            }
            at = at.min(self.held.len());
        }
        if let Some(after) = self.held.get(at)
            && after.seq.lt(seq + len)
        {
            len = after.seq.since(seq);
            buf = trim_back(buf, len as usize);
        }
        if !self.note_run(seq, seq + len) {
            return Taken::NoRoom;
        }
        let frames = buf.frame_count() as u32;
        self.frames += frames;
        self.held_bytes += len;
        host.charge_rx_frames(frames as i32);
        host.spares().held.equip(&mut self.held);
        self.held.insert(at, Held { seq, len, buf });
        Taken::OutOfOrder
    }

    fn forget(&mut self, held: Held, host: &mut impl Host) {
        let frames = held.buf.frame_count() as u32;
        self.frames -= frames;
        self.held_bytes -= held.len;
        host.charge_rx_frames(-(frames as i32));
    }

    /// Adds a range to the runs; false if that would make too many.
    fn note_run(&mut self, start: SeqNum, end: SeqNum) -> bool {
        let first = self.runs.partition_point(|(_, e)| e.lt(start));
        let last = self.runs.partition_point(|(s, _)| s.le(end));
        let run = if first < last {
            let run = (self.runs[first].0, self.runs[last - 1].1.max(end));
            let run = if start.lt(run.0) { (start, run.1) } else { run };
            self.runs.drain(first + 1..last);
            self.runs[first] = run;
            run
        } else {
            if self.runs.len() >= RUNS_MAX {
                return false;
            }
            self.runs.insert(first, (start, end));
            (start, end)
        };
        let old = self.recent.iter().position(|&start| run.0 == start).unwrap_or(RECENT - 1);
        if old >= usize::from(self.untold) {
            self.untold += 1;
        }
        self.recent[..=old].rotate_right(1);
        self.recent[0] = run.0;
        true
    }

    /// Takes note of the peer's FIN at `at`. True if everything before it has come.
    pub(super) fn note_fin(&mut self, at: SeqNum) -> bool {
        self.fin = Some(at);
        self.take_fin()
    }

    fn take_fin(&mut self) -> bool {
        if self.fin == Some(self.nxt) && !self.finished {
            self.nxt += 1;
            self.finished = true;
            return true;
        }
        false
    }

    /// The blocks to report (RFC 2018 section 4, RFC 2883 section 4).
    pub(super) fn sack_blocks(&mut self, max: usize) -> SackBlocks {
        let mut blocks = SackBlocks::EMPTY;
        let mut left = max;
        if let Some((start, end)) = self.dsack.take() {
            blocks.push(start, end);
            left = left.saturating_sub(1);
        }
        self.untold = 0;
        if self.runs.is_empty() {
            return blocks;
        }
        let mut told: SmallVec<[SeqNum; RECENT]> = SmallVec::new();
        for &recent in &self.recent {
            if left == 0 {
                break;
            }
            // A run that has been joined to one before it goes by that one's beginning.
            let at = self.runs.partition_point(|(_, end)| end.le(recent));
            let Some(&(start, end)) = self.runs.get(at) else { continue };
            if start.gt(recent) || told.contains(&start) {
                continue;
            }
            told.push(start);
            // The FIN is part of the segment that it came with: without its number that segment would not look arrived.
            let fin = u32::from(self.fin == Some(end));
            blocks.push(start, end + fin);
            left -= 1;
        }
        blocks
    }

    /// How many blocks the next report begins with that the peer has not been told of.
    pub(super) fn blocks_untold(&self) -> usize {
        usize::from(self.untold) + usize::from(self.dsack.is_some())
    }

    /// A duplicate waits to be reported.
    pub(super) fn owes_dsack(&self) -> bool {
        self.dsack.is_some()
    }

    /// The oldest bytes, for the application, and how many frames they hold.
    #[inline(always)]
    pub(super) fn pop(&mut self, spares: &mut Spares) -> Option<(RxBuf, u32)> {
        let buf = self.queue.pop_front()?;
        let (frames, bytes) = (buf.frame_count() as u32, buf.total_len() as u32);
        self.frames -= frames;
        self.queued_bytes -= bytes;
        self.taken_bytes = self.taken_bytes.saturating_add(bytes);
        self.progress = true;
        spares.received.strip(&mut self.queue);
        Some((buf, frames))
    }

    /// Puts back what the application did not use.
    pub(super) fn unpop(&mut self, buf: RxBuf, host: &mut impl Host) {
        let (frames, bytes) = (buf.frame_count() as u32, buf.total_len() as u32);
        self.frames += frames;
        self.queued_bytes += bytes;
        self.taken_bytes = self.taken_bytes.saturating_sub(bytes);
        host.charge_rx_frames(frames as i32);
        host.spares().received.equip(&mut self.queue);
        self.queue.push_front(buf);
    }

    /// Grows the receive buffer with what the application takes in a round trip (of `srtt_ns`, 0: not known), so that the window is never the limit.
    #[inline]
    pub(super) fn tune(&mut self, srtt_ns: u64, max: u32, now: Instant) {
        let since_ns = now.nanos_since(self.tune_since);
        if since_ns < TUNE_NS_MIN || since_ns < if srtt_ns == 0 { TUNE_NS_DEFAULT } else { srtt_ns } {
            return;
        }
        if self.taken_bytes >= self.limit / 2 && self.limit < max {
            self.limit = self.limit.saturating_mul(2).min(max);
        }
        (self.tune_since, self.taken_bytes) = (now, 0);
    }

    /// How much the peer may send from `nxt` on, if it were told now.
    fn window_bytes(&self, options: &TcpOptions, host: &impl Host) -> u32 {
        let bytes = self.limit.saturating_sub(self.queued_bytes);
        let frames =
            options.recv_frames_max.min(self.frames_max(options, host.rx_frames_left())).saturating_sub(self.frames);
        bytes.min(frames.saturating_mul(self.segment_bytes).saturating_add(self.held_bytes))
    }

    /// Moves the edge on if that is worth telling (RFC 9293 section 3.8.6.2.2, silly windows), and gives the field of the header. The edge never retreats.
    pub(super) fn advertise(&mut self, options: &TcpOptions, host: &impl Host) -> u16 {
        if let Some(edge) = self.edge_worth_telling(options, host) {
            self.edge = edge;
        }
        let open = if self.edge.gt(self.nxt) { self.edge.since(self.nxt) } else { 0 };
        let field = ((u64::from(open) + (1 << self.scale) - 1) >> self.scale).min(u64::from(u16::MAX)) as u32;
        // What the field says is what the peer may send, rounding included.
        self.edge = self.edge.max(self.nxt + (field << self.scale));
        field as u16
    }

    /// The window could grow by a full segment or half the buffer.
    pub(super) fn worth_telling(&self, options: &TcpOptions, host: &impl Host) -> bool {
        self.edge_worth_telling(options, host).is_some()
    }

    /// Where it would end then.
    #[inline]
    fn edge_worth_telling(&self, options: &TcpOptions, host: &impl Host) -> Option<SeqNum> {
        let edge = self.nxt + self.window_bytes(options, host);
        (edge.gt(self.edge) && edge.since(self.edge) >= self.segment_bytes.min(self.limit / 2)).then_some(edge)
    }

    /// The window that the peer knows of.
    pub(super) fn window(&self) -> u32 {
        if self.edge.gt(self.nxt) { self.edge.since(self.nxt) } else { 0 }
    }

    /// Frees everything.
    pub(super) fn clear(&mut self, host: &mut impl Host) {
        host.charge_rx_frames(-(self.frames as i32));
        self.queue.clear();
        self.held.clear();
        self.runs = SmallVec::new();
        (self.frames, self.queued_bytes, self.held_bytes) = (0, 0, 0);
        host.spares().received.strip(&mut self.queue);
        host.spares().held.strip(&mut self.held);
    }

    /// Frees the last out-of-order segment; RFC 2018 section 8 allows that. False if there is none.
    fn forget_last_held(&mut self, host: &mut impl Host) -> bool {
        let Some(last) = self.held.pop_back() else { return false };
        match self.runs.last_mut() {
            Some(run) if run.0 != last.seq => run.1 = last.seq,
            _ => {
                self.runs.pop();
            }
        }
        host.counters().drop_tcp_no_room += 1;
        self.forget(last, host);
        true
    }

    /// Frees what is out of order: it cannot become readable any more, or memory is short (RFC 2018 section 8 allows that).
    pub(super) fn forget_held(&mut self, host: &mut impl Host) {
        while let Some(held) = self.held.pop_front() {
            self.forget(held, host);
        }
        self.runs.clear();
        host.spares().held.strip(&mut self.held);
    }
}

/// Forgets the first `n` bytes, over all pieces; `n` is less than there are.
pub(super) fn trim_front(mut buf: RxBuf, mut n: usize) -> RxBuf {
    while n >= buf.len() && buf.is_chain() {
        n -= buf.len();
        let (first, rest) = buf.split_first();
        let Some(rest) = rest else { return first };
        drop(first);
        buf = rest;
    }
    if n > 0 {
        buf.advance(n);
    }
    buf
}

/// Keeps the first `n` bytes, over all pieces.
pub(super) fn trim_back(buf: RxBuf, n: usize) -> RxBuf {
    if !buf.is_chain() {
        let mut buf = buf;
        if n < buf.len() {
            buf.truncate(n);
        }
        return buf;
    }
    let (mut whole, mut rest) = buf.split_first();
    let mut left = n.saturating_sub(whole.len());
    if n < whole.len() {
        whole.truncate(n);
    }
    while left > 0
        && let Some(buf) = rest.take()
    {
        let (mut piece, after) = buf.split_first();
        if piece.len() > left {
            piece.truncate(left);
        }
        left -= piece.len();
        if whole.append(piece).is_err() {
            break;
        }
        rest = after;
    }
    whole
}
