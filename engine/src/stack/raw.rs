//! Raw IPv4 sockets of a stack: their table, who hears a packet, and the calls on them.

use super::{
    BindError, SendError, Stack, StackEvent,
    egress::{IpSend, L4},
    sockets::{Sockets, TableSocket},
};
use crate::{
    buf::{Pool, RxBuf, TxBuf},
    proto::{
        raw::{ANY_PROTOCOL, RawSocket, WrittenHeader},
        rx_queue::Datagram,
        udp::{PendingError, RxLimits},
    },
    wire::{
        icmp::{self, kind, unreachable},
        ipv4::{self, protocol},
    },
};
use smallvec::SmallVec;
use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddrV4},
};

/// Names a raw socket of one stack. Stale handles are told from live ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawHandle {
    index: u32,
    generation: u32,
}

impl TableSocket for RawSocket {
    type Handle = RawHandle;

    fn handle(index: u32, generation: u32) -> RawHandle {
        RawHandle { index, generation }
    }

    fn place(RawHandle { index, generation }: RawHandle) -> (u32, u32) {
        (index, generation)
    }

    fn is_readable(&self) -> bool {
        self.is_readable()
    }

    fn handle_error(&mut self, error: PendingError) {
        self.handle_error(error);
    }

    fn readable(handle: RawHandle) -> StackEvent {
        StackEvent::RawReadable(handle)
    }

    fn error(handle: RawHandle) -> StackEvent {
        StackEvent::RawError(handle)
    }

    fn writable(handle: RawHandle) -> StackEvent {
        StackEvent::RawWritable(handle)
    }
}

/// All raw sockets of a stack.
#[derive(Debug)]
pub(super) struct RawTable {
    pub(super) sockets: Sockets<RawSocket>,
    /// Whose protocol is which, by protocol number; [`ANY_PROTOCOL`]'s hear all.
    by_protocol: Box<[Vec<u32>]>,
}

/// Sockets, by their number.
type Found = SmallVec<[u32; 8]>;

impl RawTable {
    pub(super) fn new() -> Self {
        Self { sockets: Sockets::new(), by_protocol: vec![Vec::new(); usize::from(u8::MAX) + 1].into() }
    }

    fn insert(&mut self, socket: RawSocket) -> RawHandle {
        let protocol = usize::from(socket.protocol);
        let handle = self.sockets.insert(socket);
        self.by_protocol[protocol].push(handle.index);
        handle
    }

    fn remove(&mut self, handle: RawHandle) -> bool {
        let Some(socket) = self.sockets.remove(handle) else { return false };
        self.by_protocol[usize::from(socket.protocol)].retain(|&index| index != handle.index);
        true
    }

    /// Sockets of `protocol` and of all protocols that `wanted` says yes to.
    fn find(&self, protocol: u8, wanted: impl Fn(&RawSocket) -> bool) -> Found {
        if self.sockets.len() == 0 {
            return Found::new();
        }
        let own: &[u32] = if protocol == ANY_PROTOCOL { &[] } else { &self.by_protocol[usize::from(protocol)] };
        let all = &self.by_protocol[usize::from(ANY_PROTOCOL)];
        own.iter().chain(all).copied().filter(|&index| self.sockets.at(index).is_some_and(&wanted)).collect()
    }

    /// Puts a packet into a socket's queue, and queues an event for the socket if none is queued.
    fn deliver(&mut self, index: u32, packet: Datagram, events: &mut VecDeque<StackEvent>) {
        let Some(slot) = self.sockets.slot_at(index) else { return };
        let Some(socket) = &mut slot.socket else { return };
        if socket.handle_packet(packet) {
            slot.list(index, events);
        }
    }

    /// Notes an error about a packet of `protocol` from `src` to `dst`; false if no connected socket sends such.
    pub(super) fn report(
        &mut self,
        protocol: u8,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        error: PendingError,
        events: &mut VecDeque<StackEvent>,
    ) -> bool {
        let found = self.find(protocol, |socket| socket.remote == Some(dst) && socket.hears(dst, src));
        for &index in &found {
            self.sockets.report_at(index, error, events);
        }
        !found.is_empty()
    }
}

impl Stack {
    /// Gives a packet to every raw socket that hears it: one gets the frames that it came in, the others copies, which are counted. `packet` begins behind its
    /// IP header, which is taken back (of a datagram put together from fragments: made anew, without options).
    ///
    /// # Errors
    /// Gives it back as it was if nobody hears it. One whose queue is full hears it all the same, and it is counted.
    #[cold]
    pub(super) fn deliver_raw(&mut self, ip: &ipv4::Header, mut packet: RxBuf) -> Result<(), RxBuf> {
        let hearers = self.raw.find(ip.protocol, |socket| socket.hears(ip.src, ip.dst));
        if hearers.is_empty() || !take_header_back(ip, &mut packet) {
            return Err(packet);
        }
        let mut with_room = self.with_room(&hearers, &packet);
        let Some(last) = with_room.pop() else { return Ok(()) };
        self.deliver_copies(ip, &packet, &with_room);
        self.counters.raw_rx_packets += 1;
        self.raw.deliver(last, datagram(ip, packet), &mut self.events);
        Ok(())
    }

    /// As [`deliver_raw`](Self::deliver_raw), but the packet's own frames are still needed: all get copies.
    pub(super) fn deliver_raw_copies(&mut self, ip: &ipv4::Header, packet: &mut RxBuf) {
        let hearers = self.raw.find(ip.protocol, |socket| socket.hears(ip.src, ip.dst));
        if hearers.is_empty() || !take_header_back(ip, packet) {
            return;
        }
        let with_room = self.with_room(&hearers, packet);
        self.deliver_copies(ip, packet, &with_room);
        packet.advance(header_bytes(ip));
    }

    /// Those of `hearers` whose queues have room; the others' loss is counted.
    fn with_room(&mut self, hearers: &Found, packet: &RxBuf) -> Found {
        let sockets = &self.raw.sockets;
        let room = |&index: &u32| sockets.at(index).is_some_and(|socket| socket.has_room(packet));
        let with_room: Found = hearers.iter().copied().filter(room).collect();
        self.counters.drop_raw_queue_full += (hearers.len() - with_room.len()) as u64;
        with_room
    }

    fn deliver_copies(&mut self, ip: &ipv4::Header, packet: &RxBuf, to: &[u32]) {
        for &index in to {
            let Some(copy) = copy_of(&self.pool, packet) else {
                self.counters.drop_raw_no_memory += 1;
                continue;
            };
            self.counters.bytes_copied_rx += copy.total_len() as u64;
            self.counters.raw_rx_packets += 1;
            self.raw.deliver(index, datagram(ip, copy), &mut self.events);
        }
    }

    /// An ICMP error that quotes neither TCP nor UDP: it is about a packet of a raw socket, or of nobody.
    pub(super) fn handle_raw_error(&mut self, header: &icmp::Header, quote: &[u8]) -> bool {
        let Some((protocol, src, dst)) = read_quote(quote) else { return false };
        if !self.is_our_address(src) {
            return false;
        }
        let sends = |socket: &RawSocket| socket.local.is_unspecified() || socket.local == src;
        match (header.kind, header.code) {
            (kind::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED) => {
                // Only where a packet was sent not long ago: a socket that is not connected fits any quote.
                let known = !self.raw.find(protocol, sends).is_empty() && self.dest.remembers(dst);
                if known && self.path_mtus.handle_too_big(dst, header.low, self.now) {
                    self.dest.clear();
                }
                known
            }
            (kind::UNREACHABLE, unreachable::PORT | unreachable::PROTOCOL) => {
                self.raw.report(protocol, src, dst, PendingError::Refused, &mut self.events)
            }
            (kind::UNREACHABLE, _) => {
                self.raw.report(protocol, src, dst, PendingError::HostUnreachable, &mut self.events)
            }
            _ => !self.raw.find(protocol, sends).is_empty(),
        }
    }

    /// Opens a raw socket for an IP protocol number; 0 hears every protocol that a raw socket can hear. It hears at once.
    ///
    /// # Errors
    /// There are too many.
    pub fn raw_open(&mut self, protocol: u8) -> Result<RawHandle, BindError> {
        if self.raw.sockets.len() >= self.config.raw_sockets_max {
            return Err(BindError::TooMany);
        }
        Ok(self.raw.insert(RawSocket::new(protocol, self.config.udp_rx_limits)))
    }

    /// Binds a socket to one of our addresses, or (unspecified) to all again.
    ///
    /// # Errors
    /// It is no address of ours, or there is no such socket.
    pub fn raw_bind(&mut self, handle: RawHandle, local: Ipv4Addr) -> Result<(), BindError> {
        if !local.is_unspecified() && !self.is_our_address(local) {
            return Err(BindError::NotAvailable);
        }
        self.raw.sockets.get_mut(handle).ok_or(BindError::BadSocket)?.local = local;
        Ok(())
    }

    /// Connects a socket: it sends to `remote` by default and hears only it. `None`: to nobody again.
    ///
    /// # Errors
    /// No route, or there is no such socket.
    pub fn raw_connect(&mut self, handle: RawHandle, remote: Option<Ipv4Addr>) -> Result<(), BindError> {
        let no_route = remote.is_some_and(|remote| self.source_for(remote).is_none());
        let socket = self.raw.sockets.get_mut(handle).ok_or(BindError::BadSocket)?;
        if no_route {
            return Err(BindError::Unreachable);
        }
        socket.remote = remote;
        Ok(())
    }

    /// Closes a socket; what it had received is freed. False if the handle names no open socket.
    pub fn raw_close(&mut self, handle: RawHandle) -> bool {
        self.raw.remove(handle)
    }

    /// The socket's state.
    pub fn raw_socket(&self, handle: RawHandle) -> Option<&RawSocket> {
        self.raw.sockets.get(handle)
    }

    /// The socket's options and limits, to change. Its protocol stays as it is: the table knows it by that.
    pub fn raw_socket_mut(&mut self, handle: RawHandle) -> Option<&mut RawSocket> {
        self.raw.sockets.get_mut(handle)
    }

    /// Changes a socket's receive limits.
    pub fn raw_set_limits(&mut self, handle: RawHandle, limits: RxLimits) {
        if let Some(socket) = self.raw.sockets.get_mut(handle) {
            socket.set_limits(limits);
        }
    }

    /// Takes the oldest packet, which begins with its IPv4 header.
    pub fn raw_recv(&mut self, handle: RawHandle) -> Option<Datagram> {
        self.raw.sockets.get_mut(handle)?.recv()
    }

    /// After an event was handled: lists the socket again if it still has something, so that it is told again.
    pub fn raw_relist(&mut self, handle: RawHandle) {
        self.raw.sockets.relist(handle, &mut self.events);
    }

    /// Sends `buf` to the connected peer. See [`raw_send_to`](Self::raw_send_to).
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn raw_send(&mut self, handle: RawHandle, buf: TxBuf) -> Result<(), SendError> {
        let socket = self.raw.sockets.get(handle).ok_or(SendError::BadSocket)?;
        let remote = socket.remote.ok_or(SendError::NotConnected)?;
        self.raw_send_to(handle, buf, remote)
    }

    /// Sends `buf` as one datagram of the socket's protocol to `to`. The header goes into the buffer's own head-room; a buffer larger than the path's packets becomes
    /// fragments.
    ///
    /// With the socket's `header_included` the buffer begins with its IPv4 header, whose destination counts and not `to`; as raw(7) says, total length and checksum are filled in,
    /// and so are source and identification where they are 0. Such a packet is never divided.
    ///
    /// # Errors
    /// See [`SendError`]; only [`SendError::WouldBlock`] gives the buffer back.
    pub fn raw_send_to(&mut self, handle: RawHandle, buf: TxBuf, to: Ipv4Addr) -> Result<(), SendError> {
        let socket = self.raw.sockets.get_mut(handle).ok_or(SendError::BadSocket)?;
        if let Some(error) = socket.take_error() {
            return Err(error.into());
        }
        let bound = Some(socket.local).filter(|ip| !ip.is_unspecified());
        let mut send = IpSend {
            src: bound,
            dst: to,
            tos: socket.tos,
            ttl: socket.ttl,
            broadcast: socket.broadcast,
            l4: L4::Ready { protocol: socket.protocol },
        };
        if socket.header_included {
            let header = WrittenHeader::parse(buf.as_slice()).map_err(|_| SendError::Header)?;
            send.src = Some(header.src).filter(|src| !src.is_unspecified()).or(bound);
            send.dst = header.dst;
            send.l4 = L4::Whole { protocol: header.protocol };
        }
        if buf.total_len() + send.l4.ip_header_bytes() > ipv4::TOTAL_BYTES_MAX {
            return Err(SendError::MessageSize);
        }
        match self.send_ip(send, buf) {
            Ok(()) => {
                self.counters.raw_tx_packets += 1;
                Ok(())
            }
            Err(SendError::WouldBlock(buf)) => {
                self.counters.send_would_block += 1;
                self.raw.sockets.block(handle);
                Err(SendError::WouldBlock(buf))
            }
            Err(other) => Err(other),
        }
    }

    /// Fills in the header that a packet of [`L4::Whole`] begins with.
    pub(super) fn complete_header(&mut self, src: Ipv4Addr, packet: &mut TxBuf) {
        let Ok(mut header) = WrittenHeader::parse(packet.as_slice()) else { return };
        header.src = src;
        if header.id == 0 {
            header.id = self.ip_ids.next(src, header.dst, header.protocol);
        }
        let total_len = packet.total_len() as u16;
        header.complete(packet.as_mut_slice(), total_len);
    }
}

/// What a socket gets.
fn datagram(ip: &ipv4::Header, buf: RxBuf) -> Datagram {
    Datagram { buf, from: SocketAddrV4::new(ip.src, 0), to: ip.dst }
}

/// Length of the header that [`take_header_back`] puts in front.
fn header_bytes(ip: &ipv4::Header) -> usize {
    if ip.header_len > 0 { ip.header_len } else { ipv4::HEADER_BYTES }
}

/// Puts the IP header in front of a packet again. False if there is no room, which cannot be: a header was there.
fn take_header_back(ip: &ipv4::Header, packet: &mut RxBuf) -> bool {
    let payload_len = packet.total_len();
    if !packet.retreat(header_bytes(ip)) {
        return false;
    }
    if ip.header_len == 0
        && let Some(header) = packet.as_mut_slice().first_chunk_mut()
    {
        let ipv4::Header { src, dst, protocol, tos, ttl, id, .. } = *ip;
        let payload_len = payload_len as u16;
        ipv4::Repr { src, dst, protocol, tos, ttl, id, flags_offset: 0, payload_len }.write(header);
    }
    true
}

/// A copy in frames of its own, of which receiving keeps its reserve.
fn copy_of(pool: &Pool, packet: &RxBuf) -> Option<RxBuf> {
    let total = packet.total_len();
    let (mut whole, mut done): (Option<RxBuf>, usize) = (None, 0);
    while done < total {
        let mut buf = pool.alloc_tx()?;
        buf.set_len(buf.capacity().min(total - done)).ok()?;
        done += packet.copy_to(done, buf.as_mut_slice());
        match &mut whole {
            None => whole = Some(buf.into_rx()),
            Some(whole) => whole.append(buf.into_rx()).ok()?,
        }
    }
    whole
}

/// Protocol, source and destination of a quoted packet (IPv4 header and 8 bytes) that is neither TCP nor UDP.
fn read_quote(quote: &[u8]) -> Option<(u8, Ipv4Addr, Ipv4Addr)> {
    let head: &[u8; ipv4::HEADER_BYTES] = quote.first_chunk()?;
    let header_len = usize::from(head[0] & 0x0f) * 4;
    let sane = head[0] >> 4 == 4 && header_len >= ipv4::HEADER_BYTES && quote.len() >= header_len + 8;
    if !sane || matches!(head[9], protocol::TCP | protocol::UDP) {
        return None;
    }
    let src = Ipv4Addr::new(head[12], head[13], head[14], head[15]);
    let dst = Ipv4Addr::new(head[16], head[17], head[18], head[19]);
    Some((head[9], src, dst))
}
