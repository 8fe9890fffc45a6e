//! Raw IPv4 sockets.

use super::{BindError, Datagram, Net, RxLimits, SendError};
use crate::{buf::TxBuf, stack::RawHandle};
use std::net::Ipv4Addr;

/// What happened to a [`RawSocket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawEvent {
    /// It has packets. Told again each turn while it has.
    Readable,
    /// A send that would have blocked may be tried again.
    Writable,
    /// The network reported an error; the socket's next send returns it.
    Error,
}

/// A raw socket of one IP protocol. As in 4.4BSD it hears ICMP (what the engine answers, too) and protocols that the engine does not know, never TCP and UDP; what it
/// receives begins with the IPv4 header. It is a name: copy it freely; [`close`](Self::close) ends it, and calls on a closed one fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawSocket(pub(super) RawHandle);

impl Net<'_> {
    /// Opens a raw socket for an IP protocol number (IANA); 0 hears every protocol that a raw socket can hear.
    ///
    /// # Errors
    /// There are too many.
    pub fn raw_open(&mut self, protocol: u8) -> Result<RawSocket, BindError> {
        self.stack.raw_open(protocol).map(RawSocket)
    }
}

impl RawSocket {
    /// The oldest packet, in the frame that it came in, IPv4 header and all; `from` has port 0. If others heard it too they got copies, which were counted.
    #[inline]
    pub fn recv(self, net: &mut Net<'_>) -> Option<Datagram> {
        net.stack.raw_recv(self.0)
    }

    /// Sends the buffer to the connected peer.
    ///
    /// # Errors
    /// See [`SendError`]; only `WouldBlock` gives the buffer back.
    pub fn send(self, net: &mut Net<'_>, buf: TxBuf) -> Result<(), SendError> {
        net.stack.raw_send(self.0, buf)
    }

    /// Sends the buffer to `to` behind an IPv4 header, or as it is if it [begins with one](Self::include_header).
    ///
    /// # Errors
    /// See [`SendError`]; only `WouldBlock` gives the buffer back.
    pub fn send_to(self, net: &mut Net<'_>, buf: TxBuf, to: Ipv4Addr) -> Result<(), SendError> {
        net.stack.raw_send_to(self.0, buf, to)
    }

    /// Hears only what is sent to this address of ours, and sends from it; unspecified: any again.
    ///
    /// # Errors
    /// It is no address of ours.
    pub fn bind(self, net: &mut Net<'_>, local: Ipv4Addr) -> Result<(), BindError> {
        net.stack.raw_bind(self.0, local)
    }

    /// Talks to `remote` only, or (`None`) to everybody again.
    ///
    /// # Errors
    /// No route.
    pub fn connect(self, net: &mut Net<'_>, remote: Option<Ipv4Addr>) -> Result<(), BindError> {
        net.stack.raw_connect(self.0, remote)
    }

    /// Whether what it sends begins with its IPv4 header (`IP_HDRINCL`). Total length and checksum are filled in; source and identification if they are 0.
    pub fn include_header(self, net: &mut Net<'_>, included: bool) {
        if let Some(socket) = net.stack.raw_socket_mut(self.0) {
            socket.header_included = included;
        }
    }

    /// Time to live and type of service of what it sends.
    pub fn set_ttl_tos(self, net: &mut Net<'_>, ttl: u8, tos: u8) {
        if let Some(socket) = net.stack.raw_socket_mut(self.0) {
            (socket.ttl, socket.tos) = (ttl, tos);
        }
    }

    /// Lets it send to broadcast addresses.
    pub fn allow_broadcast(self, net: &mut Net<'_>) {
        if let Some(socket) = net.stack.raw_socket_mut(self.0) {
            socket.broadcast = true;
        }
    }

    /// Changes how much it may hold.
    pub fn set_rx_limits(self, net: &mut Net<'_>, limits: RxLimits) {
        net.stack.raw_set_limits(self.0, limits);
    }

    /// Closes it; what it had received is freed.
    pub fn close(self, net: &mut Net<'_>) {
        net.stack.raw_close(self.0);
    }
}
