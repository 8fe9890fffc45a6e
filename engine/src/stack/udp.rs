//! UDP sockets of a stack: their table, and the calls on them.

use super::{
    SendError, Stack, StackEvent,
    demux::Demux,
    dest::Fields,
    egress::{IpSend, L4},
    sockets::{Slot, Sockets, TableSocket},
};
use crate::{
    buf::{RxBuf, TxBuf},
    proto::{
        IfaceId,
        tcp::Stretch,
        udp::{Datagram, PendingError, RxLimits, UdpSocket},
    },
    wire::{checksum, ipv4, udp},
};
use rand_chacha::rand_core::RngCore;
use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddrV4},
};

/// Names a UDP socket of one stack. Stale handles are told from live ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UdpHandle {
    index: u32,
    generation: u32,
}

/// Why a socket could not be bound or connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Another socket has the port.
    #[error("address already in use")]
    InUse,
    /// It is not an address of this stack.
    #[error("address not available: no interface has it")]
    NotAvailable,
    /// No ephemeral port is free.
    #[error("no free port left")]
    NoPorts,
    /// There are as many sockets as there may be.
    #[error("too many sockets")]
    TooMany,
    /// The socket is bound already, or connected where it must not be.
    #[error("invalid for this socket's state")]
    State,
    /// No route leads there.
    #[error("no route to the host")]
    Unreachable,
    /// The handle names no open socket.
    #[error("no such socket")]
    BadSocket,
}

#[derive(Debug)]
pub(super) struct Bound {
    socket: UdpSocket,
    /// (local, remote) under which it is found while it is connected.
    connected: Option<(SocketAddrV4, SocketAddrV4)>,
}

impl TableSocket for Bound {
    type Handle = UdpHandle;

    fn handle(index: u32, generation: u32) -> UdpHandle {
        UdpHandle { index, generation }
    }

    fn place(UdpHandle { index, generation }: UdpHandle) -> (u32, u32) {
        (index, generation)
    }

    fn is_readable(&self) -> bool {
        self.socket.is_readable()
    }

    fn handle_error(&mut self, error: PendingError) {
        self.socket.handle_error(error);
    }

    fn readable(handle: UdpHandle) -> StackEvent {
        StackEvent::UdpReadable(handle)
    }

    fn error(handle: UdpHandle) -> StackEvent {
        StackEvent::UdpError(handle)
    }

    fn writable(handle: UdpHandle) -> StackEvent {
        StackEvent::UdpWritable(handle)
    }
}

/// All UDP sockets of a stack.
#[derive(Debug)]
pub(super) struct UdpTable {
    pub(super) sockets: Sockets<Bound>,
    demux: Demux,
}

impl UdpTable {
    pub(super) fn new(seeds: [u64; 4]) -> Self {
        Self { sockets: Sockets::new(), demux: Demux::new(seeds) }
    }

    #[inline]
    fn get(&self, handle: UdpHandle) -> Option<&UdpSocket> {
        self.sockets.get(handle).map(|bound| &bound.socket)
    }

    #[inline]
    fn get_mut(&mut self, handle: UdpHandle) -> Option<&mut UdpSocket> {
        self.sockets.get_mut(handle).map(|bound| &mut bound.socket)
    }

    fn set_connected(&mut self, handle: UdpHandle, endpoints: Option<(SocketAddrV4, SocketAddrV4)>) {
        let Some(bound) = self.sockets.get_mut(handle) else { return };
        let old = std::mem::replace(&mut bound.connected, endpoints);
        bound.socket.set_remote(endpoints.map(|(_, remote)| remote));
        if let Some((local, remote)) = old {
            self.demux.disconnect(local, remote);
        }
        if let Some((local, remote)) = endpoints {
            self.demux.connect(local, remote, handle.index);
        }
    }

    /// Delivers a payload from `from` to `local`, and queues an event for the socket if none is queued.
    pub(super) fn deliver(
        &mut self,
        local: SocketAddrV4,
        from: SocketAddrV4,
        buf: RxBuf,
        events: &mut VecDeque<StackEvent>,
    ) -> Delivery {
        let Some(index) = self.demux.find(local, from) else { return Delivery::NoSocket(buf) };
        if self.sockets.slot_at(index).is_none_or(|slot| !slot.hears(from)) {
            return Delivery::NoSocket(buf);
        }
        let datagram = Datagram { buf, from, to: *local.ip() };
        match self.take(index, events, |socket| socket.handle_datagram(datagram)) {
            true => Delivery::Delivered,
            false => Delivery::QueueFull,
        }
    }

    /// The number of the socket for a packet from `from` with these source and destination addresses and ports, in the upper and the lower halves.
    #[inline(always)]
    pub(super) fn find_again(&mut self, addresses: u64, ports: u32, from: SocketAddrV4) -> Option<u32> {
        let index = self.demux.find_again(addresses, ports)?;
        self.sockets.slot_at(index).filter(|slot| slot.hears(from)).map(|_| index)
    }

    /// Hands a socket's queue a datagram, and queues an event for the socket if none is queued; false if there is no room.
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        index: u32,
        events: &mut VecDeque<StackEvent>,
        hand: impl FnOnce(&mut UdpSocket) -> bool,
    ) -> bool {
        let Some(slot) = self.sockets.slot_at(index) else { return false };
        let Some(Bound { socket, .. }) = &mut slot.socket else { return false };
        let taken = hand(socket);
        if taken {
            slot.list(index, events);
        }
        taken
    }

    /// Notes an error that ICMP reported about a packet from `local` to `remote`; false if no connected socket sent it.
    pub(super) fn report(
        &mut self,
        local: SocketAddrV4,
        remote: SocketAddrV4,
        error: PendingError,
        events: &mut VecDeque<StackEvent>,
    ) -> bool {
        let Some(index) = self.demux.find_connected(local, remote) else { return false };
        self.sockets.report_at(index, error, events)
    }

    /// Some socket could have sent a packet from `local`.
    pub(super) fn has_local(&self, local: SocketAddrV4, remote: SocketAddrV4) -> bool {
        self.demux.find(local, remote).is_some()
    }
}

impl Slot<Bound> {
    /// There is a socket that takes datagrams from there: a connected one that was found by its port alone hears only its peer.
    #[inline(always)]
    fn hears(&self, from: SocketAddrV4) -> bool {
        self.socket.as_ref().is_some_and(|bound| bound.socket.remote.is_none_or(|remote| remote == from))
    }
}

/// What became of a datagram.
#[derive(Debug)]
pub(super) enum Delivery {
    Delivered,
    NoSocket(RxBuf),
    QueueFull,
}

impl Stack {
    /// Opens a UDP socket bound to `local`. Address unspecified: all of this stack's addresses. Port 0: an ephemeral port (RFC 6056: chosen at random).
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn udp_bind(&mut self, local: SocketAddrV4) -> Result<UdpHandle, BindError> {
        if self.udp.sockets.len() >= self.config.udp_sockets_max {
            return Err(BindError::TooMany);
        }
        if !local.ip().is_unspecified() && !self.is_our_address(*local.ip()) {
            return Err(BindError::NotAvailable);
        }
        let local = match local.port() {
            0 => SocketAddrV4::new(*local.ip(), self.ephemeral_port()?),
            _ if self.udp.demux.is_taken(local) => return Err(BindError::InUse),
            _ => local,
        };
        let handle = self
            .udp
            .sockets
            .insert(Bound { socket: UdpSocket::new(local, self.config.udp_rx_limits), connected: None });
        self.udp.demux.bind(local, handle.index);
        Ok(handle)
    }

    /// RFC 6056 section 3.3.1: a random start, then the next ones in turn.
    fn ephemeral_port(&mut self) -> Result<u16, BindError> {
        let (first, last) = (*self.config.ephemeral_ports.start(), *self.config.ephemeral_ports.end());
        let count = u32::from(last.saturating_sub(first)) + 1;
        let start = (self.rng.next_u64() % u64::from(count)) as u32;
        (0..count)
            .map(|step| first + ((start + step) % count) as u16)
            .find(|&port| !self.udp.demux.port_in_use(port))
            .ok_or(BindError::NoPorts)
    }

    /// Connects a socket: it sends to `remote` by default and hears only it. `None`: to nobody again.
    ///
    /// # Errors
    /// No route, or another socket is connected between the same endpoints.
    pub fn udp_connect(&mut self, handle: UdpHandle, remote: Option<SocketAddrV4>) -> Result<(), BindError> {
        let bound = self.udp.get(handle).ok_or(BindError::BadSocket)?.local;
        let endpoints = match remote {
            None => None,
            Some(remote) => {
                let source = match *bound.ip() {
                    any if any.is_unspecified() => self.source_for(*remote.ip()).ok_or(BindError::Unreachable)?,
                    addr => addr,
                };
                Some((SocketAddrV4::new(source, bound.port()), remote))
            }
        };
        if let Some((local, remote)) = endpoints
            && self.udp.demux.find_connected(local, remote).is_some_and(|other| other != handle.index)
        {
            return Err(BindError::InUse);
        }
        self.udp.set_connected(handle, endpoints);
        Ok(())
    }

    /// Closes a socket; what it had received is freed. False if the handle names no open socket.
    pub fn udp_close(&mut self, handle: UdpHandle) -> bool {
        let Some(socket) = self.udp.get(handle) else { return false };
        let local = socket.local;
        self.udp.set_connected(handle, None);
        self.udp.demux.unbind(local);
        self.udp.sockets.remove(handle).is_some()
    }

    /// The socket's state.
    pub fn udp_socket(&self, handle: UdpHandle) -> Option<&UdpSocket> {
        self.udp.get(handle)
    }

    /// The socket's options and limits, to change.
    pub fn udp_socket_mut(&mut self, handle: UdpHandle) -> Option<&mut UdpSocket> {
        self.udp.get_mut(handle)
    }

    /// Takes the oldest datagram.
    #[inline]
    pub fn udp_recv(&mut self, handle: UdpHandle) -> Option<Datagram> {
        self.udp.get_mut(handle)?.recv()
    }

    /// After an event was handled: lists the socket again if it still has something, so that it is told again.
    #[inline]
    pub fn udp_relist(&mut self, handle: UdpHandle) {
        self.udp.sockets.relist(handle, &mut self.events);
    }

    /// Changes a socket's receive limits.
    pub fn udp_set_limits(&mut self, handle: UdpHandle, limits: RxLimits) {
        if let Some(socket) = self.udp.get_mut(handle) {
            socket.set_limits(limits);
        }
    }

    /// Sends `buf` to the connected peer. See [`udp_send_to`](Self::udp_send_to).
    ///
    /// # Errors
    /// See [`SendError`].
    #[inline]
    pub fn udp_send(&mut self, handle: UdpHandle, buf: TxBuf) -> Result<(), SendError> {
        match self.udp.get(handle) {
            None => Err(SendError::BadSocket),
            Some(UdpSocket { remote: None, .. }) => Err(SendError::NotConnected),
            Some(UdpSocket { remote: Some(remote), .. }) => {
                let remote = *remote;
                self.udp_send_from(handle, buf, None, remote)
            }
        }
    }

    /// Sends `buf` as one datagram to `to`. The headers go into the buffer's own head-room; a buffer larger than the path's packets becomes fragments.
    ///
    /// # Errors
    /// See [`SendError`]; only [`SendError::WouldBlock`] gives the buffer back.
    #[inline]
    pub fn udp_send_to(&mut self, handle: UdpHandle, buf: TxBuf, to: SocketAddrV4) -> Result<(), SendError> {
        self.udp_send_from(handle, buf, None, to)
    }

    /// As [`udp_send_to`](Self::udp_send_to), from the given address of ours: how a server answers from the address that it was asked at.
    ///
    /// # Errors
    /// See [`SendError`].
    #[inline]
    pub fn udp_send_from(
        &mut self,
        handle: UdpHandle,
        buf: TxBuf,
        from: Option<Ipv4Addr>,
        to: SocketAddrV4,
    ) -> Result<(), SendError> {
        let mut held = Some(buf);
        self.udp_send_usual(handle, &mut held, from, |_| Some(to));
        match held {
            None => Ok(()),
            Some(buf) => self.udp_send_unusual(handle, buf, from, to),
        }
    }

    /// Takes and sends what fits a packet from one frame to where the way is known and has room; `to`: where that is, of the socket. If it is not like that, or there is an error to tell first, nothing
    /// happens.
    #[inline(always)]
    pub(crate) fn udp_send_usual(
        &mut self,
        handle: UdpHandle,
        held: &mut Option<TxBuf>,
        from: Option<Ipv4Addr>,
        to: impl FnOnce(&UdpSocket) -> Option<SocketAddrV4>,
    ) -> Option<IfaceId> {
        let buf = held.as_mut()?;
        let socket = self.udp.get(handle).filter(|socket| !socket.has_error())?;
        let to = to(socket)?;
        let (route_epoch, ifaces) = (self.routes.epoch(), &self.ifaces);
        let (iface, mtu, headers) = self.dest.headers(
            *to.ip(),
            |id| {
                let iface = ifaces.get(usize::from(id.0)).filter(|iface| iface.vlan.is_none())?;
                Some(route_epoch + iface.neighbours.epoch())
            },
            |id| ifaces.get(usize::from(id.0)).map(|iface| iface.mac),
            |source| {
                let bound = if socket.local.ip().is_unspecified() { source } else { *socket.local.ip() };
                Fields { src: from.unwrap_or(bound), tos: socket.tos, ttl: socket.ttl }
            },
        )?;
        let egress = &mut self.ifaces[usize::from(iface.0)].egress;
        let payload_bytes = buf.len();
        if payload_bytes + udp::HEADER_BYTES + ipv4::HEADER_BYTES > usize::from(mtu)
            || !buf.is_single()
            || egress.room() == 0
        {
            return None;
        }
        let payload_sum = match buf.payload_sum() {
            Some(sum) => sum,
            None => checksum::sum(buf.as_slice()),
        };
        headers.prepend(buf, payload_sum, socket.local.port(), to.port()).ok()?;
        let bytes = buf.len() as u64;
        // There is room.
        let pushed = egress.push_held(held);
        debug_assert!(pushed, "one frame, and not empty");
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += bytes;
        self.udp_sent(payload_bytes);
        Some(iface)
    }

    #[cold]
    fn udp_send_unusual(
        &mut self,
        handle: UdpHandle,
        buf: TxBuf,
        from: Option<Ipv4Addr>,
        to: SocketAddrV4,
    ) -> Result<(), SendError> {
        let payload_bytes = buf.total_len();
        let send = self.udp_way(handle, payload_bytes, from, to)?;
        match self.send_ip(send, buf) {
            Ok(()) => {
                self.udp_sent(payload_bytes);
                Ok(())
            }
            Err(SendError::WouldBlock(buf)) => {
                self.udp_refused(handle);
                Err(SendError::WouldBlock(buf))
            }
            Err(other) => Err(other),
        }
    }

    /// Sends stretches of frozen bytes as one datagram to `to`; others may send the same bytes at the same time. They go out uncopied behind a frame of headers, but for datagrams that
    /// wait for the next hop's Ethernet address or are in more pieces than the port takes: copies of those, which are counted. `Ok(false)`: would block.
    ///
    /// # Errors
    /// See [`SendError`]; never [`SendError::WouldBlock`].
    pub fn udp_send_shared(
        &mut self,
        handle: UdpHandle,
        payload: &[Stretch<'_>],
        to: SocketAddrV4,
    ) -> Result<bool, SendError> {
        let payload_bytes = payload.iter().map(|(_, _, len)| len).sum();
        let send = self.udp_way(handle, payload_bytes, None, to)?;
        let sent = self.send_stretches(send, payload)?;
        if sent {
            self.udp_sent(payload_bytes);
        } else {
            self.udp_refused(handle);
        }
        Ok(sent)
    }

    /// What goes in front of a socket's datagram.
    #[inline]
    fn udp_way(
        &mut self,
        handle: UdpHandle,
        payload_bytes: usize,
        from: Option<Ipv4Addr>,
        to: SocketAddrV4,
    ) -> Result<IpSend, SendError> {
        let Some(socket) = self.udp.get_mut(handle) else { return Err(SendError::BadSocket) };
        if let Some(error) = socket.take_error() {
            return Err(error.into());
        }
        if payload_bytes > udp::PAYLOAD_BYTES_MAX {
            return Err(SendError::MessageSize);
        }
        let bound = Some(*socket.local.ip()).filter(|ip| !ip.is_unspecified());
        Ok(IpSend {
            src: from.or(bound),
            dst: *to.ip(),
            tos: socket.tos,
            ttl: socket.ttl,
            broadcast: socket.broadcast,
            l4: L4::Udp { src_port: socket.local.port(), dst_port: to.port() },
        })
    }

    #[inline]
    fn udp_sent(&mut self, payload_bytes: usize) {
        self.counters.udp_tx_datagrams += 1;
        self.counters.udp_tx_payload_bytes += payload_bytes as u64;
    }

    fn udp_refused(&mut self, handle: UdpHandle) {
        self.counters.send_would_block += 1;
        self.udp.sockets.block(handle);
    }

    /// It is the address of one of the interfaces.
    pub fn is_our_address(&self, addr: Ipv4Addr) -> bool {
        self.ifaces.iter().any(|iface| iface.has_address(addr))
    }
}
