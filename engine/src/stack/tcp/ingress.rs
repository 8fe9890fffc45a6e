//! Segments on their way in: which connection, half-open or old one, or listener they are for.

use super::{
    super::{RxChecksum, Stack, StackEvent, TimerKey, ingress::splits_header},
    Entry, HalfOpenSlot, ListenerHandle, PATH_MTU_MIN, SEGMENTS_PER_TURN, Waiting,
    armed::Armed,
    later, listed,
};
use crate::{
    buf::RxBuf,
    proto::{
        IfaceId,
        tcp::{
            Endpoints, HalfOpen, HalfOpenReaction, Host, Incoming, IpFields, Reaction, TcpState, TimeWaitReaction,
            cookie, timestamp,
        },
    },
    time::Instant,
    wire::{
        checksum,
        ipv4::{self, protocol},
        plain::{L4_AT, Plain},
        seq::SeqNum,
        tcp::{self, Header, Options, PlainHeader, Repr, Timestamps, flags},
    },
};
use std::{net::SocketAddrV4, rc::Rc};

/// IP fields of segments without a connection.
const PLAIN: IpFields = IpFields { tos: 0, ttl: 64 };
/// "Congestion experienced" (RFC 3168 section 5).
const CE: u8 = 0b11;

/// A segment that its connection [predicts](crate::proto::tcp::Connection::predicts).
pub(in crate::stack) struct ExpectedSegment {
    /// The connection's number.
    connection: u32,
    header: PlainHeader,
    payload_len: usize,
    payload_sum: Option<u16>,
}

impl Stack {
    /// A TCP segment begins at `at` behind its IP header's length.
    pub(in crate::stack) fn handle_tcp(&mut self, id: IfaceId, ip: &ipv4::Header, at: usize, mut packet: RxBuf) {
        let start = at;
        let at = at + ip.header_len;
        let received = ip.payload_len();
        let head = packet.as_slice().get(at..).unwrap_or_default();
        let Some(header) = Header::parse(head) else {
            if splits_header(&packet, at, tcp::HEADER_BYTES) {
                self.counters.drop_chain_header += 1;
            } else {
                self.counters.drop_tcp_header += 1;
            }
            return;
        };
        let header_len = header.header_len;
        let Some(options) = Options::parse(&head[tcp::HEADER_BYTES..header_len]) else {
            self.counters.drop_tcp_header += 1;
            return;
        };
        let segment = Incoming { header, options, congestion: ip.tos & CE == CE };
        let header = &segment.header;
        if !self.tcp_checksum_acceptable(id, ip, header, at, received, &mut packet) {
            self.counters.drop_tcp_checksum += 1;
            return;
        }
        self.counters.tcp_rx_segments += 1;
        let ends = Endpoints {
            local: SocketAddrV4::new(ip.dst, header.dst_port),
            remote: SocketAddrV4::new(ip.src, header.src_port),
        };
        match self.tcp.demux.find_connected(ends.local, ends.remote).map(Entry::unpack) {
            Some(Entry::Connection(index)) => {
                let payload_len = packet.total_len();
                let reaction = self.with_connection(index, |connection, stack| {
                    let reaction = connection.handle_segment(&segment, packet, stack);
                    if !segment.options.sack.is_empty() {
                        connection.poll_repair(stack, SEGMENTS_PER_TURN);
                    }
                    connection.poll_blocks(stack);
                    reaction
                });
                if reaction == Some(Reaction::Reset) {
                    self.send_reset(&ends, &segment, payload_len);
                }
            }
            Some(Entry::HalfOpen(index)) => self.for_half_open(index, &segment, packet),
            Some(Entry::TimeWait(index)) => self.for_time_wait(index, &segment, packet),
            None => {
                // Behind fragments the headers are gone.
                let headers_len = if ip.header_len > 0 { at - start + header_len } else { 0 };
                self.for_listener(&ends, &segment, packet, Before { iface: id, headers_len, iss_min: None });
            }
        }
    }

    /// A segment in plain headers, if its connection expects it; nothing has happened if it does not.
    #[inline(always)]
    pub(in crate::stack) fn expect_tcp(&mut self, plain: &Plain<'_>, policy: RxChecksum) -> Option<ExpectedSegment> {
        let header = PlainHeader::parse(plain.l4)?;
        let payload = plain.l4.get(header.header_len..)?;
        let found = self.tcp.demux.find_connected_again(plain.addresses, plain.ports).map(Entry::unpack);
        let Some(Entry::Connection(index)) = found else { return None };
        let connection = self.tcp.slots.get(index as usize)?.connection.as_deref()?;
        if !connection.predicts(&header, payload.len() as u32, self.tcp.rx_frames_left()) {
            return None;
        }
        let payload_sum = if policy == RxChecksum::Trust {
            self.counters.checksums_not_verified += 1;
            None
        } else if policy == RxChecksum::Partial && plain.pseudo_header_sum() == header.checksum {
            self.counters.checksums_partial_accepted += 1;
            None
        } else {
            let payload_sum = if payload.is_empty() { 0 } else { checksum::sum(payload) };
            let total = plain.pseudo_header_total() + u64::from(header.sum(plain.l4)) + u64::from(payload_sum);
            if checksum::fold_fields(total) != 0xffff {
                return None;
            }
            Some(payload_sum)
        };
        Some(ExpectedSegment { connection: index, header, payload_len: payload.len(), payload_sum })
    }

    /// Takes such a segment. [`list_taken`](Self::list_taken) has to follow the last one.
    #[inline(always)]
    pub(in crate::stack) fn take_tcp(&mut self, segment: &ExpectedSegment, frame: RxBuf) {
        let &ExpectedSegment { connection: index, ref header, payload_len, payload_sum } = segment;
        if self.tcp.taken_for != Some(index) {
            self.list_taken();
            self.tcp.taken_for = Some(index);
        }
        let Some(slot) = self.tcp.slots.get_mut(index as usize) else { return };
        let Some(connection) = slot.connection.as_deref_mut() else { return };
        self.counters.tcp_rx_segments += 1;
        connection.handle_predicted_ack(header, self.now, &mut self.counters, &mut self.tcp.spares);
        if payload_len > 0 {
            let payload = frame.narrowed(L4_AT + header.header_len, payload_len, payload_sum);
            self.tcp.rx_frames += 1;
            connection.take_predicted(payload, self.now, &mut self.counters, &mut self.tcp.spares);
        } else {
            frame.let_go();
        }
    }

    /// Lists the connection that the last segments were [taken](Self::take_tcp) for where it has to be.
    #[inline(never)]
    pub(in crate::stack) fn list_taken(&mut self) {
        let Some(index) = self.tcp.taken_for.take() else { return };
        let Some(slot) = self.tcp.slots.get_mut(index as usize) else { return };
        slot.list(index, &mut self.events, &mut self.tcp.ready, &mut self.timers);
    }

    /// Strips the headers, which begin at `at`, and looks at the checksum as the interface's policy says.
    fn tcp_checksum_acceptable(
        &mut self,
        id: IfaceId,
        ip: &ipv4::Header,
        header: &Header,
        at: usize,
        segment_len: usize,
        payload: &mut RxBuf,
    ) -> bool {
        let policy = self.ifaces[usize::from(id.0)].rx_checksum;
        if policy == RxChecksum::Trust {
            self.counters.checksums_not_verified += 1;
            payload.advance(at + header.header_len);
            return true;
        }
        let pseudo = checksum::pseudo_header(ip.src, ip.dst, protocol::TCP, segment_len as u16);
        // A sender that counts on a device to finish the sum leaves the pseudo-header's in the field.
        if policy == RxChecksum::Partial && header.checksum == pseudo {
            self.counters.checksums_partial_accepted += 1;
            payload.advance(at + header.header_len);
            return true;
        }
        let header_sum = checksum::sum(&payload.as_slice()[at..at + header.header_len]);
        payload.advance(at + header.header_len);
        let payload_sum =
            if payload.is_chain() { checksum::sum_pieces(payload.pieces()) } else { checksum::sum(payload.as_slice()) };
        let right = checksum::add(checksum::add(pseudo, header_sum), payload_sum) == 0xffff;
        if right {
            payload.set_payload_sum(payload_sum);
        }
        right
    }

    /// RFC 9293 section 3.10.7.2, and 3.10.7.1 if nobody listens; unless it is for another worker to say.
    #[cold]
    fn for_listener(&mut self, ends: &Endpoints, segment: &Incoming, mut packet: RxBuf, before: Before) {
        let Before { iface, headers_len, iss_min } = before;
        let has = |flag| segment.header.flags & flag != 0;
        let found = self.tcp.demux.find_bound(ends.local);
        let Some(index) = found else {
            let begins = has(flags::SYN) && !has(flags::ACK);
            if !begins && self.hand_over(iface, headers_len, &mut packet) {
                return;
            }
            self.counters.drop_tcp_no_connection += 1;
            self.send_reset(ends, segment, packet.total_len());
            return;
        };
        let handle = ListenerHandle { index, generation: self.tcp.listeners[index as usize].generation };
        if has(flags::RST) {
            if self.hand_over(iface, headers_len, &mut packet) {
                return;
            }
            self.counters.drop_tcp_no_connection += 1;
            return;
        }
        if has(flags::ACK) {
            if !has(flags::SYN) && self.accept_cookie(handle, ends, segment) {
                // The connection is there now; the segment may carry data.
                if let Some(Entry::Connection(index)) =
                    self.tcp.demux.find_connected(ends.local, ends.remote).map(Entry::unpack)
                {
                    self.with_connection(index, |connection, stack| connection.handle_segment(segment, packet, stack));
                }
                return;
            }
            if self.hand_over(iface, headers_len, &mut packet) {
                return;
            }
            self.counters.drop_tcp_no_connection += 1;
            self.send_reset(ends, segment, packet.total_len());
            return;
        }
        // A SYN with FIN, or from port 0, is nobody's honest attempt.
        if !has(flags::SYN) || has(flags::FIN) || ends.remote.port() == 0 {
            self.counters.drop_tcp_no_ack += 1;
            return;
        }
        self.answer_syn(handle, ends, segment, iss_min);
    }

    fn answer_syn(&mut self, handle: ListenerHandle, ends: &Endpoints, segment: &Incoming, iss_min: Option<SeqNum>) {
        let now = self.now;
        let path_mtu = self.tcp_path_mtu(*ends.remote.ip());
        let iss = self.tcp.isn.isn(ends.local, ends.remote, now);
        let iss = iss_min.filter(|min| min.gt(iss)).unwrap_or(iss);
        let ts_offset = self.tcp.isn.timestamp_offset(ends.local, ends.remote);
        let ecn = self.config.tcp.ecn;
        let connections = self.tcp.len();
        let Some(listener) = self.tcp.listener(handle) else { return };
        let options = Rc::clone(&listener.options);
        let waiting = listener.accept.len();
        let full = waiting + listener.half_open >= listener.backlog;
        let accept_full = waiting >= listener.backlog || connections >= self.config.tcp.connections_max;
        let mut half = HalfOpen::new(segment, *ends, iss, ts_offset, path_mtu, ecn, now);
        if full {
            if accept_full || !self.config.tcp.syn_cookies {
                self.counters.drop_tcp_backlog += 1;
                return;
            }
            listener.cookies_until = now + cookie::LIFETIME;
            half.iss = self.tcp.cookies.make(ends.local, ends.remote, half.irs, half.peer_mss(), now);
            let (scale, sack, ecn) = half.asked();
            let kept = cookie::pack_options(scale, sack, ecn);
            let value = cookie::timestamp_with(self.ts_value(0), kept);
            let repr = half.syn_ack(&options, value);
            self.counters.tcp_syn_cookies_sent += 1;
            self.send_bare(ends, PLAIN, &repr);
            return;
        }
        if accept_full {
            self.counters.drop_tcp_backlog += 1;
            return;
        }
        listener.half_open += 1;
        let repr = half.syn_ack(&options, self.ts_value(ts_offset));
        let again_at = now + self.config.tcp.rto.initial;
        let index = self.tcp.half_open.insert(HalfOpenSlot { half, listener: handle, again_at });
        self.tcp.demux.connect(ends.local, ends.remote, Entry::HalfOpen(index).pack());
        self.arm_half_open(index, again_at);
        // Lost, refused or on its way: the timer tries again.
        self.send_bare(ends, PLAIN, &repr);
    }

    /// Our timestamp for a connection.
    fn ts_value(&self, offset: u32) -> u32 {
        timestamp(self.now, offset)
    }

    /// An acknowledgment without a connection may return a cookie. True if it did: the connection exists now.
    fn accept_cookie(&mut self, handle: ListenerHandle, ends: &Endpoints, segment: &Incoming) -> bool {
        if !self.config.tcp.syn_cookies {
            return false;
        }
        // None can come back unless some were sent of late: at other times nobody can guess one.
        if self.tcp.listener(handle).is_none_or(|listener| listener.cookies_until < self.now) {
            return false;
        }
        let header = &segment.header;
        let irs = SeqNum(header.seq.0.wrapping_sub(1));
        let iss = SeqNum(header.ack.0.wrapping_sub(1));
        let Some(mss) = self.tcp.cookies.check(ends.local, ends.remote, irs, iss, self.now) else { return false };
        let connections = self.tcp.len();
        let connections_max = self.config.tcp.connections_max;
        let Some(listener) = self.tcp.listener(handle) else { return false };
        if listener.accept.len() >= listener.backlog || connections >= connections_max {
            self.counters.drop_tcp_backlog += 1;
            return true;
        }
        let kept = match segment.options.timestamps {
            Some(Timestamps { echo, .. }) => cookie::unpack_options(echo),
            None => cookie::CookieOptions { window_scale: None, sack_permitted: false, ecn: false },
        };
        let path_mtu = self.tcp_path_mtu(*ends.remote.ip());
        // The timestamps of the cookie had no offset: what the peer echoes must go on from there.
        let half = HalfOpen::from_cookie(segment, *ends, mss, kept, 0, path_mtu, self.now);
        self.counters.tcp_syn_cookies_accepted += 1;
        self.establish(handle, &half, segment);
        true
    }

    /// Makes a connection of a half-open one and queues it for `accept`.
    fn establish(&mut self, handle: ListenerHandle, half: &HalfOpen, segment: &Incoming) -> Option<u32> {
        let listener = self.tcp.listener(handle)?;
        let (options, tag) = (Rc::clone(&listener.options), listener.tag);
        let mut connection = Box::new(half.establish(segment, options, self));
        connection.tag = tag;
        let index = self.insert_connection(connection);
        let ends = half.ends;
        self.tcp.demux.connect(ends.local, ends.remote, Entry::Connection(index).pack());
        self.counters.tcp_connections_accepted += 1;
        let connection = self.tcp.handle(index);
        let listener = self.tcp.listener(handle)?;
        listener.accept.push_back(connection);
        if !std::mem::replace(&mut listener.listed, true) {
            self.events.push_back(StackEvent::TcpAcceptable(handle));
        }
        self.settle(index);
        Some(index)
    }

    fn for_half_open(&mut self, index: u32, segment: &Incoming, packet: RxBuf) {
        let Some(slot) = self.tcp.half_open.get(index) else { return };
        let (handle, ends) = (slot.listener, slot.half.ends);
        let ts_value = self.ts_value(slot.half.ts_offset);
        let listeners = self.tcp.listeners.get(handle.index as usize);
        let Some(listener) =
            listeners.filter(|slot| slot.generation == handle.generation).and_then(|slot| slot.listener.as_ref())
        else {
            self.remove_half_open(index);
            self.send_reset(&ends, segment, packet.total_len());
            return;
        };
        match slot.half.handle_segment(segment, packet.total_len(), &listener.options) {
            HalfOpenReaction::Ignore => {}
            HalfOpenReaction::Reset => self.send_reset(&ends, segment, packet.total_len()),
            HalfOpenReaction::Remove => {
                self.counters.tcp_resets_received += 1;
                self.remove_half_open(index);
            }
            HalfOpenReaction::Answer => {
                let repr = slot.half.syn_ack(&listener.options, ts_value);
                self.send_bare(&ends, PLAIN, &repr);
            }
            HalfOpenReaction::Challenge => {
                let repr = slot.half.challenge(&listener.options, ts_value);
                if self.tcp.resets.take(self.now) {
                    self.counters.tcp_challenge_acks += 1;
                    self.send_bare(&ends, PLAIN, &repr);
                } else {
                    self.counters.tcp_challenge_acks_limited += 1;
                }
            }
            HalfOpenReaction::Establish => {
                if listener.accept.len() >= listener.backlog {
                    // The SYN-ACK will be sent again, and by then there may be room.
                    self.counters.drop_tcp_backlog += 1;
                    return;
                }
                let Some(mut half) = self.remove_half_open(index) else { return };
                // It may be another than when the SYN came.
                half.path_mtu = self.tcp_path_mtu(*ends.remote.ip());
                if let Some(index) = self.establish(handle, &half, segment) {
                    self.with_connection(index, |connection, stack| connection.handle_segment(segment, packet, stack));
                }
            }
        }
    }

    pub(super) fn remove_half_open(&mut self, index: u32) -> Option<HalfOpen> {
        let slot = self.tcp.half_open.remove(index)?;
        self.tcp.demux.disconnect(slot.half.ends.local, slot.half.ends.remote);
        if let Some(listener) = self.tcp.listener(slot.listener) {
            listener.half_open -= 1;
        }
        Some(slot.half)
    }

    fn arm_half_open(&mut self, index: u32, at: Instant) {
        let armed = &mut self.tcp.half_open_armed;
        if armed.len() <= index as usize {
            armed.resize(index as usize + 1, Armed::NONE);
        }
        if armed[index as usize].want(at) {
            self.timers.arm(at, TimerKey::TcpHalfOpen(index));
        }
    }

    /// Timer: a SYN-ACK has not been answered, or the number belongs to a later one by now.
    pub(in crate::stack) fn half_open_timer(&mut self, index: u32) {
        let now = self.now;
        let (retries_max, rto) = (self.config.tcp.syn_ack_retries, self.config.tcp.rto);
        if let Some(armed) = self.tcp.half_open_armed.get_mut(index as usize) {
            armed.fired(now);
        }
        let Some(slot) = self.tcp.half_open.get_mut(index) else { return };
        if slot.again_at > now {
            let at = slot.again_at;
            self.arm_half_open(index, at);
            return;
        }
        let listeners = &self.tcp.listeners;
        let listener = listeners
            .get(slot.listener.index as usize)
            .filter(|kept| kept.generation == slot.listener.generation)
            .and_then(|kept| kept.listener.as_ref());
        if slot.half.retries >= retries_max || listener.is_none() {
            self.counters.tcp_half_open_expired += 1;
            self.remove_half_open(index);
            return;
        }
        slot.half.retries += 1;
        slot.again_at = now + (rto.initial * (1 << slot.half.retries.min(16))).min(rto.max);
        let (ends, offset, again_at) = (slot.half.ends, slot.half.ts_offset, slot.again_at);
        let value = timestamp(now, offset);
        let repr = listener.map(|listener| slot.half.syn_ack(&listener.options, value));
        self.arm_half_open(index, again_at);
        if let Some(repr) = repr {
            self.counters.tcp_retransmissions += 1;
            self.send_bare(&ends, PLAIN, &repr);
        }
    }

    fn for_time_wait(&mut self, index: u32, segment: &Incoming, packet: RxBuf) {
        let Some(&Waiting { rest, .. }) = self.tcp.time_wait.get(index) else { return };
        match rest.handle_segment(segment) {
            TimeWaitReaction::Ignore => {}
            TimeWaitReaction::Acknowledge | TimeWaitReaction::Restart if !self.tcp.resets.take(self.now) => {
                self.counters.tcp_challenge_acks_limited += 1;
            }
            TimeWaitReaction::Acknowledge => {
                self.send_bare(&rest.ends, PLAIN, &rest.acknowledgment(self.now));
            }
            TimeWaitReaction::Restart => {
                if let Some(waiting) = self.tcp.time_wait.get_mut(index) {
                    waiting.rest.expires = self.now + self.config.tcp.time_wait;
                }
                self.send_bare(&rest.ends, PLAIN, &rest.acknowledgment(self.now));
            }
            TimeWaitReaction::Reuse => {
                if self.tcp.demux.find_bound(rest.ends.local).is_none() {
                    self.send_bare(&rest.ends, PLAIN, &rest.acknowledgment(self.now));
                    return;
                }
                self.remove_time_wait(index);
                // It begins a connection: nobody else's.
                let iss_min = Some(later(SeqNum(rest.snd_nxt.0), &rest));
                let before = Before { iface: IfaceId(0), headers_len: 0, iss_min };
                self.for_listener(&rest.ends, segment, packet, before);
            }
        }
    }

    /// RFC 9293 section 3.10.7.1: a reset for a segment that belongs to nothing.
    #[cold]
    pub(super) fn send_reset(&mut self, ends: &Endpoints, segment: &Incoming, payload_len: usize) {
        let header = &segment.header;
        if header.flags & flags::RST != 0 {
            return;
        }
        if !self.tcp.resets.take(self.now) {
            self.counters.tcp_resets_limited += 1;
            return;
        }
        let (seq, ack, bits) = if header.flags & flags::ACK != 0 {
            (header.ack, SeqNum(0), flags::RST)
        } else {
            let control = u32::from(header.flags & flags::SYN != 0) + u32::from(header.flags & flags::FIN != 0);
            (SeqNum(0), header.seq + (payload_len as u32 + control), flags::RST | flags::ACK)
        };
        let repr = Repr {
            src_port: ends.local.port(),
            dst_port: ends.remote.port(),
            seq,
            ack,
            flags: bits,
            window: 0,
            urgent: 0,
            options: Options::default(),
        };
        self.counters.tcp_resets_sent += 1;
        self.send_bare(ends, PLAIN, &repr);
    }

    /// An ICMP error about a segment of ours: its endpoints and sequence number. True if it is one of a connection's in flight (RFC 5927 section 4.1).
    pub(in crate::stack) fn tcp_icmp_error(&mut self, ends: &Endpoints, seq: SeqNum, error: IcmpError) -> bool {
        let Some(Entry::Connection(index)) = self.tcp.demux.find_connected(ends.local, ends.remote).map(Entry::unpack)
        else {
            return false;
        };
        let in_flight = self.tcp.slots[index as usize]
            .connection
            .as_ref()
            .is_some_and(|connection| connection.listed & listed::REACHABLE != 0 && connection.is_in_flight(seq));
        if !in_flight {
            return false;
        }
        match error {
            IcmpError::TooBig(mtu) => {
                let remote = *ends.remote.ip();
                // The table is everybody's: a guess at a TCP segment must not make crumbs of datagrams and acknowledgments either.
                if self.path_mtus.handle_too_big(remote, mtu.max(PATH_MTU_MIN), self.now) {
                    self.dest.clear();
                }
                let mtu = self.tcp_path_mtu(remote);
                self.with_connection(index, |connection, _| connection.handle_too_big(mtu));
            }
            IcmpError::Refused | IcmpError::Unreachable => {
                self.with_connection(index, |connection, stack| {
                    let attempt = matches!(connection.state(), TcpState::SynSent | TcpState::SynReceived);
                    if attempt {
                        connection.handle_unreachable(error == IcmpError::Refused, stack);
                    }
                });
            }
            IcmpError::Other => {}
        }
        true
    }
}

/// What came before a segment that belongs to no connection.
struct Before {
    iface: IfaceId,
    /// In front of its payload; 0: they are lost.
    headers_len: usize,
    /// What is left of the connection before: sequence numbers begin here at the least.
    iss_min: Option<SeqNum>,
}

/// What an ICMP error says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stack) enum IcmpError {
    /// The packet was too large for a link with this MTU.
    TooBig(u16),
    /// Nobody is at that port, or speaks that protocol.
    Refused,
    /// Network or host cannot be reached.
    Unreachable,
    /// Anything else.
    Other,
}
