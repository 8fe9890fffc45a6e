//! One connection: its state, and the calls of the application.

use super::{
    congestion::{Congestion, Window},
    host::Host,
    path::path_mss,
    receiver::{Receiver, Urgent},
    rtt::RttEstimator,
    sender::{Pending, Phase, Sender},
    spares::Spares,
    types::{CloseReason, Endpoints, NEVER, RecvRefusal, SendRefusal, TcpEvent, TcpInfo, TcpOptions, TcpState},
};
use crate::{
    buf::{Content, RxBuf, TxBuf},
    time::Instant,
    wire::seq::SeqNum,
};
use std::rc::Rc;

/// IP and TCP headers without options.
pub(super) const HEADERS_BYTES: u16 = 40;
/// The timestamps option with its padding.
pub(super) const TIMESTAMP_BYTES: u16 = 12;
/// What a peer takes that does not say (RFC 9293 section 3.7.1).
pub(super) const MSS_DEFAULT: u16 = 536;
/// Less is not believed: a tiny MSS makes us send crumbs (CVE-2019-11479).
pub(super) const MSS_MIN: u16 = 88;

/// Events that wait to be told, as bits.
pub(super) mod bits {
    pub(in super::super) const CONNECTED: u8 = 1;
    pub(in super::super) const READABLE: u8 = 2;
    pub(in super::super) const WRITABLE: u8 = 4;
    pub(in super::super) const URGENT: u8 = 8;
    pub(in super::super) const PEER_FINISHED: u8 = 16;
    pub(in super::super) const SENT: u8 = 32;
    pub(in super::super) const CLOSED: u8 = 64;
}

/// What has to be sent though no data asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    None,
    /// RFC 8985 section 7.3.
    Tail,
    /// Into a closed window, or a small segment into a small one (RFC 9293 section 3.8.6.1).
    Window,
    /// RFC 9293 section 3.8.4.
    Keepalive,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    pub(super) ends: Endpoints,
    pub(super) state: TcpState,
    pub(super) options: Rc<TcpOptions>,
    pub(super) send: Sender,
    pub(super) receive: Receiver,
    /// Largest payload that the path carries, without options.
    pub(super) path_mss: u16,
    pub(super) timestamps: bool,
    pub(super) ecn: bool,
    /// We ask for ECN in our SYN.
    pub(super) ecn_asked: bool,
    /// The application has closed it.
    pub(super) detached: bool,
    pub(super) ts_offset: u32,
    pub(super) ts_recent: u32,
    pub(super) ts_recent_at: Instant,
    pub(super) last_ack_sent: SeqNum,
    pub(super) ack_now: bool,
    /// The window has grown enough to be told of.
    pub(super) window_due: bool,
    /// The network said that the peer cannot be reached; only the end of the attempt makes that true (RFC 9293 section 3.9.2.2).
    pub(super) soft_error: bool,
    /// In-order segments that no acknowledgment has covered yet.
    pub(super) ack_segments: u8,
    pub(super) ack_at: Instant,
    /// Duplicates to send, one for each out-of-order segment: a peer without SACK counts them.
    pub(super) dup_acks_owed: u8,
    /// Congestion was experienced: echoed until the peer says that it has reduced (RFC 3168 section 6.1.3).
    pub(super) ecn_echo: bool,
    pub(super) syn_due: bool,
    /// The sequence number of a reset to send.
    pub(super) reset_due: Option<SeqNum>,
    pub(super) probe: Probe,
    /// RFC 5961 section 7, per connection.
    pub(super) challenges_from: Instant,
    pub(super) challenges: u8,
    pub(super) heard_at: Instant,
    pub(super) keepalive_at: Instant,
    pub(super) keepalive_sent: u8,
    /// The end of a connection attempt, or of half-closed silence.
    pub(super) close_at: Instant,
    pub(super) events: u8,
    pub(super) closed: Option<CloseReason>,
    /// `closed` was returned by a call.
    pub(super) closed_told: bool,
    /// The application's own number for it.
    pub tag: u64,
    /// For whoever keeps connections: on which of his lists it is.
    pub listed: u8,
}

/// How a connection begins.
#[derive(Debug)]
pub struct Opening {
    /// Both ends.
    pub ends: Endpoints,
    /// Our initial sequence number.
    pub iss: SeqNum,
    /// Added to our clock in timestamps (RFC 7323 section 5.4).
    pub ts_offset: u32,
    /// Largest IP packet on the path, in bytes.
    pub path_mtu: u16,
    /// Tunables.
    pub options: Rc<TcpOptions>,
}

impl Connection {
    pub(super) fn new(opening: Opening, irs: SeqNum, host: &impl Host) -> Self {
        let now = host.now();
        let Opening { ends, iss, ts_offset, path_mtu, options } = opening;
        let rtt = RttEstimator::new(options.rto.unwrap_or(host.config().rto));
        let mut send = Sender::new(iss, Congestion::new(options.congestion), rtt, now);
        let path_mss = path_mss(path_mtu, &options);
        send.mss = path_mss.min(MSS_DEFAULT);
        let mut receive = Receiver::new(irs, options.recv_queue_bytes.min(options.recv_queue_bytes_max), now);
        receive.scale = window_scale(options.recv_queue_bytes_max);
        Self {
            ends,
            state: TcpState::SynSent,
            options,
            send,
            receive,
            path_mss,
            timestamps: true,
            ecn: false,
            ecn_asked: false,
            detached: false,
            ts_offset,
            ts_recent: 0,
            ts_recent_at: now,
            last_ack_sent: irs + 1,
            ack_now: false,
            window_due: false,
            soft_error: false,
            ack_segments: 0,
            ack_at: NEVER,
            dup_acks_owed: 0,
            ecn_echo: false,
            syn_due: false,
            reset_due: None,
            probe: Probe::None,
            challenges_from: now,
            challenges: 0,
            heard_at: now,
            keepalive_at: NEVER,
            keepalive_sent: 0,
            close_at: NEVER,
            events: 0,
            closed: None,
            closed_told: false,
            tag: 0,
            listed: 0,
        }
    }

    /// An active open: a SYN is due.
    pub fn open(opening: Opening, host: &impl Host) -> Self {
        let mut connection = Self::new(opening, SeqNum(0), host);
        connection.syn_due = true;
        connection.ecn_asked = host.config().ecn == super::types::Ecn::Active;
        connection.close_at = host.now() + connection.options.connect_timeout;
        connection
    }

    /// Its two ends.
    pub fn endpoints(&self) -> &Endpoints {
        &self.ends
    }

    /// Its state.
    pub fn state(&self) -> TcpState {
        self.state
    }

    /// The application has closed it.
    pub fn is_detached(&self) -> bool {
        self.detached
    }

    /// How it ended, if it has.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Tunables.
    pub fn options(&self) -> &Rc<TcpOptions> {
        &self.options
    }

    /// Changes the tunables. What belongs to the handshake holds for connections made later.
    pub fn set_options(&mut self, options: Rc<TcpOptions>, host: &impl Host) {
        if options.congestion != self.options.congestion {
            self.send.congestion = Congestion::new(options.congestion);
        }
        if options.rto != self.options.rto {
            self.send.rtt.set_bounds(options.rto.unwrap_or(host.config().rto));
        }
        // A smaller buffer takes no room back that the peer was told of: the window closes as data comes (RFC 9293 section 3.8.6).
        self.receive.limit = self.receive.limit.max(options.recv_queue_bytes).min(options.recv_queue_bytes_max);
        self.options = options;
        self.set_mss();
        self.arm_keepalive(host.now());
    }

    /// Payload bytes of a full segment.
    pub fn mss(&self) -> usize {
        usize::from(self.send.mss)
    }

    /// Bytes that `send` takes now.
    pub fn send_room(&self) -> usize {
        if self.can_queue() { self.send.room(&self.options) as usize } else { 0 }
    }

    /// Bytes taken by `send` that the peer has not acknowledged.
    pub fn unacked_bytes(&self) -> usize {
        self.send.queued_bytes() as usize
    }

    /// Bytes that `recv` would give.
    pub fn waiting_bytes(&self) -> usize {
        self.receive.queued_bytes as usize
    }

    /// Something to read, or the end of it.
    pub fn is_readable(&self) -> bool {
        !self.receive.queue.is_empty() || self.receive.finished || self.closed.is_some()
    }

    /// Nothing more will happen, and the application has closed it.
    pub fn is_over(&self) -> bool {
        self.detached
            && matches!(self.state, TcpState::Closed | TcpState::TimeWait)
            && self.reset_due.is_none()
            && !self.ack_now
    }

    #[inline]
    fn can_queue(&self) -> bool {
        !self.send.fin_queued
            && !self.detached
            && (self.state.can_send() || matches!(self.state, TcpState::SynSent | TcpState::SynReceived))
    }

    /// Takes a buffer whole; where frames are scarce only if nothing waits.
    ///
    /// # Errors
    /// It cannot be taken now: [`refuse`](Self::refuse) tells why.
    #[inline(always)]
    pub fn send(&mut self, buf: TxBuf, scarce: bool, spares: &mut Spares) -> Result<(), TxBuf> {
        if !self.takes(buf.total_len(), scarce) {
            return Err(buf);
        }
        self.enqueue(buf, spares);
        Ok(())
    }

    /// Takes a buffer that it [takes](Self::takes).
    #[inline(always)]
    pub(crate) fn enqueue(&mut self, buf: TxBuf, spares: &mut Spares) {
        self.send.enqueue(buf, false, spares);
    }

    /// A buffer of `len` bytes would be taken.
    #[inline(always)]
    pub(crate) fn takes(&self, len: usize, scarce: bool) -> bool {
        let waits = scarce && self.send.queued_bytes() > 0;
        len > 0 && len <= self.send.room(&self.options) as usize && !waits && self.closed.is_none() && self.can_queue()
    }

    /// Why a buffer cannot be taken now.
    #[cold]
    pub fn refuse(&mut self, buf: TxBuf) -> SendRefusal {
        if let Some(refusal) = self.refuse_send() {
            return refusal;
        }
        let len = buf.total_len();
        if len == 0 || len > self.options.send_queue_bytes as usize {
            return SendRefusal::MessageSize(buf);
        }
        self.send.wants_room = true;
        SendRefusal::WouldBlock(buf)
    }

    /// Sends `range` of bytes that other connections, or this one, may send too: nothing is copied, and they are free when the last is acknowledged.
    ///
    /// # Errors
    /// See [`SendRefusal`]; `Ok(false)`: no room, or the range is empty or not within the bytes.
    pub fn send_shared(
        &mut self,
        bytes: Rc<dyn Content>,
        range: std::ops::Range<usize>,
        host: &mut impl Host,
    ) -> Result<bool, SendRefusal> {
        if let Some(refusal) = self.refuse_send() {
            return Err(refusal);
        }
        if range.is_empty() || range.end > bytes.frozen().total_len() {
            return Ok(false);
        }
        if range.len() > self.send.room(&self.options) as usize {
            self.send.wants_room = true;
            return Ok(false);
        }
        self.send.enqueue_common(bytes, range.start as u32, range.len() as u32, host.spares());
        Ok(true)
    }

    /// As [`send`](Self::send); its last byte is urgent (RFC 9293 section 3.8.5).
    ///
    /// # Errors
    /// See [`SendRefusal`].
    pub fn send_urgent(&mut self, buf: TxBuf, host: &mut impl Host) -> Result<(), SendRefusal> {
        if let Err(buf) = self.send(buf, host.pool().is_scarce(), host.spares()) {
            return Err(self.refuse(buf));
        }
        self.send.urgent_end = Some(self.send.end);
        Ok(())
    }

    /// Copies bytes: first into the last buffer, if it was made by this call and has room in its segment, then into new ones.
    ///
    /// # Errors
    /// See [`SendRefusal`]; `Ok(0)`: no room, or no frames.
    pub fn send_slice(&mut self, bytes: &[u8], host: &mut impl Host) -> Result<usize, SendRefusal> {
        if let Some(refusal) = self.refuse_send() {
            return Err(refusal);
        }
        let room = self.send.room(&self.options) as usize;
        let bytes = &bytes[..bytes.len().min(room)];
        let mut done = self.send.append(bytes);
        while done < bytes.len() {
            let Some(mut buf) = host.pool().alloc_tx() else { break };
            let n = (bytes.len() - done).min(buf.capacity()).min(usize::from(self.send.mss));
            if buf.put_slice(&bytes[done..done + n]).is_err() {
                break;
            }
            self.send.enqueue(buf, true, host.spares());
            done += n;
        }
        if done == 0 {
            self.send.wants_room = true;
        }
        host.counters().bytes_copied_tx += done as u64;
        Ok(done)
    }

    fn refuse_send(&mut self) -> Option<SendRefusal> {
        if let Some(reason) = self.closed {
            if !std::mem::replace(&mut self.closed_told, true) && reason != CloseReason::Finished {
                return Some(SendRefusal::Closed(reason));
            }
            return Some(if self.send.fin_queued { SendRefusal::Shutdown } else { SendRefusal::NotConnected });
        }
        if self.send.fin_queued || self.detached {
            return Some(SendRefusal::Shutdown);
        }
        (!self.can_queue()).then_some(SendRefusal::NotConnected)
    }

    /// The oldest bytes that came, in their frame.
    ///
    /// # Errors
    /// See [`RecvRefusal`].
    #[inline]
    pub fn recv(&mut self, host: &mut impl Host) -> Result<RxBuf, RecvRefusal> {
        let now = host.now();
        if let Some((buf, frames)) = self.take_received(host.spares(), now) {
            host.charge_rx_frames(-(frames as i32));
            return Ok(buf);
        }
        if self.receive.finished {
            return Err(RecvRefusal::Finished);
        }
        Err(match self.closed {
            Some(reason) if !std::mem::replace(&mut self.closed_told, true) => RecvRefusal::Closed(reason),
            Some(_) => RecvRefusal::NotConnected,
            None if matches!(self.state, TcpState::SynSent | TcpState::SynReceived) => RecvRefusal::NotConnected,
            None => RecvRefusal::WouldBlock,
        })
    }

    /// The oldest bytes that came, if some did, and how many frames they hold: for a host that keeps the count itself.
    #[inline(always)]
    pub fn take_received(&mut self, spares: &mut Spares, now: Instant) -> Option<(RxBuf, u32)> {
        let taken = self.receive.pop(spares)?;
        self.receive.tune(self.send.rtt.srtt_ns(), self.options.recv_queue_bytes_max, now);
        Some(taken)
    }

    /// Copies what has come into `to`; returns how many bytes.
    ///
    /// # Errors
    /// See [`RecvRefusal`].
    pub fn recv_into(&mut self, to: &mut [u8], host: &mut impl Host) -> Result<usize, RecvRefusal> {
        let mut done = 0;
        while done < to.len() {
            // Not over the urgent mark: a reader must be able to stop there (RFC 6093 section 3.1).
            if done > 0 && self.at_mark() {
                break;
            }
            let buf = match self.recv(host) {
                Ok(buf) => buf,
                Err(_) if done > 0 => break,
                Err(refusal) => return Err(refusal),
            };
            let n = buf.copy_to(0, &mut to[done..]);
            done += n;
            if n < buf.total_len() {
                self.receive.unpop(super::receiver::trim_front(buf, n), host);
            }
        }
        host.counters().bytes_copied_rx += done as u64;
        Ok(done)
    }

    /// Puts back what was received and not used.
    pub fn unrecv(&mut self, buf: RxBuf, host: &mut impl Host) {
        self.receive.unpop(buf, host);
    }

    /// The first of what has come, to look at.
    pub fn peek(&self) -> Option<&RxBuf> {
        self.receive.queue.front()
    }

    /// All that has come and was not taken, oldest first, to look at.
    pub fn received(&self) -> impl Iterator<Item = &RxBuf> {
        self.receive.queue.iter()
    }

    /// The urgent byte, once.
    pub fn recv_urgent(&mut self) -> Option<u8> {
        match self.receive.urgent {
            Urgent::Byte(byte) => {
                self.receive.urgent = Urgent::Passed;
                Some(byte)
            }
            _ => None,
        }
    }

    /// Reading is at the urgent mark.
    pub fn at_mark(&self) -> bool {
        self.receive.urgent != Urgent::None && self.receive.read_at() == self.mark()
    }

    /// Bytes to read before the urgent mark; `None` if there is none ahead.
    pub fn bytes_to_mark(&self) -> Option<usize> {
        let distance = self.mark().diff(self.receive.read_at());
        (self.receive.urgent != Urgent::None && distance >= 0).then_some(distance as usize)
    }

    fn mark(&self) -> SeqNum {
        // The byte that was taken out of the stream counts for the sequence numbers behind it.
        match self.receive.urgent {
            Urgent::Byte(_) | Urgent::Passed if !self.options.urgent_inline => self.receive.urgent_at + 1,
            _ => self.receive.urgent_at,
        }
    }

    /// No more to send: FIN follows what is queued.
    pub fn shutdown(&mut self) {
        if self.closed.is_none() {
            self.send.fin_queued = true;
        }
    }

    /// The application has no more to do with it. What is queued is still delivered; data that nobody will read resets it (RFC 2525 section 2.17).
    pub fn close(&mut self, host: &mut impl Host) {
        self.detached = true;
        self.events = 0;
        if self.closed.is_some() {
            self.receive.clear(host);
            return;
        }
        if self.state == TcpState::SynSent {
            self.finish(CloseReason::Finished, host);
            return;
        }
        if !self.receive.queue.is_empty() {
            self.abort(host);
            return;
        }
        self.receive.forget_held(host);
        self.send.fin_queued = true;
        if self.state == TcpState::FinWait2 {
            self.close_at = host.now() + self.options.fin_wait2;
        }
    }

    /// Ends it at once with a reset.
    pub fn abort(&mut self, host: &mut impl Host) {
        self.detached = true;
        if self.closed.is_none() {
            if self.state.is_synchronized() || self.state == TcpState::SynReceived {
                self.reset_due = Some(self.send.nxt);
            }
            self.finish(CloseReason::Reset, host);
        }
        self.receive.clear(host);
        self.events = 0;
    }

    /// It is over: frames go back, the application hears why.
    pub(super) fn finish(&mut self, reason: CloseReason, host: &mut impl Host) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(reason);
        if self.state != TcpState::TimeWait {
            self.state = TcpState::Closed;
            // Nobody is left to acknowledge anything to; who waited for it would wait for ever.
            (self.ack_now, self.dup_acks_owed) = (false, 0);
        }
        self.send.clear(host.spares());
        self.receive.forget_held(host);
        if self.detached {
            self.receive.clear(host);
        }
        self.syn_due = false;
        self.probe = Probe::None;
        (self.ack_at, self.keepalive_at, self.close_at) = (NEVER, NEVER, NEVER);
        self.raise(bits::CLOSED);
    }

    pub(super) fn raise(&mut self, event: u8) {
        if !self.detached {
            self.events |= event;
        }
    }

    /// There are events to tell.
    pub fn has_events(&self) -> bool {
        self.events != 0
    }

    /// The next event to tell. `Closed` comes last.
    pub fn poll_event(&mut self) -> Option<TcpEvent> {
        let first = self.events & self.events.wrapping_neg();
        self.events &= !first;
        match first {
            bits::CONNECTED => Some(TcpEvent::Connected),
            bits::READABLE => {
                self.receive.progress = false;
                Some(TcpEvent::Readable)
            }
            bits::WRITABLE => Some(TcpEvent::Writable),
            bits::URGENT => Some(TcpEvent::Urgent),
            bits::PEER_FINISHED => Some(TcpEvent::PeerFinished),
            bits::SENT => Some(TcpEvent::Sent),
            bits::CLOSED => Some(TcpEvent::Closed(self.closed.unwrap_or(CloseReason::Finished))),
            _ => None,
        }
    }

    /// After the application has heard of data: tell it again if it is taking and there is more, be it the end of the stream, which was told of when data
    /// still stood before it.
    pub fn relist(&mut self) {
        if self.receive.progress && (!self.receive.queue.is_empty() || self.receive.finished) {
            self.raise(bits::READABLE);
        }
    }

    /// Something may have to be sent: the window for the peer, data, an acknowledgment.
    #[inline(always)]
    pub fn wants_to_send(&self) -> bool {
        self.ack_now
            || self.window_due
            || self.syn_due
            || self.reset_due.is_some()
            || self.dup_acks_owed > 0
            || self.probe != Probe::None
            || !self.send.pending.is_empty()
            || self.send.lost_bytes > 0
            || (self.send.fin_queued && !self.send.fin_sent)
    }

    /// The handshake is done: the initial window (RFC 6928).
    pub(super) fn begin(&mut self, host: &impl Host) {
        self.set_mss();
        self.send.window = Window::initial(u32::from(self.send.mss));
        self.state = TcpState::Established;
        self.close_at = NEVER;
        self.heard_at = host.now();
        self.arm_keepalive(host.now());
    }

    pub(super) fn arm_keepalive(&mut self, now: Instant) {
        self.keepalive_sent = 0;
        self.keepalive_at = match self.options.keepalive {
            Some(keepalive) if self.state.is_synchronized() => now + keepalive.idle,
            _ => NEVER,
        };
    }

    /// When [`handle_timer`](Self::handle_timer) has something to do.
    #[inline]
    pub fn poll_timeout(&self) -> Instant {
        let mut at = self.send.timer_at.min(self.ack_at).min(self.keepalive_at).min(self.close_at);
        if self.send.pace_at > Instant::ZERO {
            at = at.min(self.send.pace_at);
        }
        at
    }

    /// What is known of it.
    pub fn info(&self) -> TcpInfo {
        TcpInfo {
            state: self.state,
            srtt: self.send.rtt.srtt().unwrap_or_default(),
            min_rtt: self.send.rtt.min_rtt().unwrap_or_default(),
            rto: self.send.rtt.rto(),
            cwnd_bytes: self.send.window.cwnd_bytes,
            ssthresh_bytes: self.send.window.ssthresh_bytes,
            in_flight_bytes: self.send.in_flight(),
            send_window_bytes: self.send.wnd,
            recv_window_bytes: self.receive.window(),
            mss_bytes: u32::from(self.send.mss),
            retransmissions: self.send.retransmissions,
            sack: self.send.sack,
            timestamps: self.timestamps,
            ecn: self.ecn,
            window_scales: (self.send.peer_scale, self.receive.scale),
        }
    }

    /// For the compact form of TIME-WAIT: (what we send next, what we expect next, the newest timestamp of the peer, if it sends any).
    pub fn last_words(&self) -> (SeqNum, SeqNum, Option<u32>) {
        (self.send.nxt, self.receive.nxt, self.timestamps.then_some(self.ts_recent))
    }

    /// Our timestamp at `now` (RFC 7323 section 5.4: milliseconds).
    pub(super) fn timestamp(&self, now: Instant) -> u32 {
        super::types::timestamp(now, self.ts_offset)
    }

    /// Added to our clock in timestamps.
    pub fn timestamp_offset(&self) -> u32 {
        self.ts_offset
    }

    /// How many milliseconds ago we sent the timestamp that the peer echoes.
    #[inline]
    pub(super) fn ms_since_timestamp(&self, echo: u32, now: Instant) -> Option<u32> {
        let ago = self.timestamp(now).wrapping_sub(echo);
        (ago < 1 << 30).then_some(ago)
    }

    /// Bytes in the first pending buffers that could be joined in one segment.
    pub(super) fn pending_len(&self, at: usize) -> u32 {
        self.send.pending.get(at).map_or(0, |Pending { len, .. }| *len)
    }

    /// Recovery from a loss is under way.
    pub fn is_recovering(&self) -> bool {
        !matches!(self.send.phase, Phase::Open)
    }
}

/// The smallest scale that can offer `bytes` (RFC 7323 section 2.3).
pub(super) fn window_scale(bytes: u32) -> u8 {
    let mut scale = 0;
    while scale < 14 && bytes >> scale > u32::from(u16::MAX) {
        scale += 1;
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::Connection;

    #[test]
    fn an_idle_connection_is_small() {
        // With its slot, its place in the table of endpoints and an allocator's overhead it stays below 1 KiB.
        let bytes = size_of::<Connection>();
        assert!(bytes <= 896, "{bytes}");
    }
}
