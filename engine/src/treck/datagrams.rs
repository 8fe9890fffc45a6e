//! The stack's sockets behind datagram descriptors: UDP and raw ones, which the calls treat alike.

use super::{
    error::{BAD_SOCKET, Code, INVALID, Outcome, WOULD_BLOCK},
    face::Face,
    numbers as n,
    settings::Options,
    sockets::{Socket, SocketId, pending_code},
};
use crate::{
    buf::TxBuf,
    proto::{raw::WrittenHeader, udp::PendingError},
    socket::{Datagram, SendError},
    stack::{RawHandle, Stack, UdpHandle},
    wire::{ipv4, udp::PAYLOAD_BYTES_MAX},
};
use std::{
    ffi::c_int,
    net::{Ipv4Addr, SocketAddrV4},
};

/// A datagram socket of the stack. Raw sockets have no ports: theirs are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DatagramHandle {
    Udp(UdpHandle),
    Raw(RawHandle),
}

impl DatagramHandle {
    /// (local, remote) endpoints.
    pub(super) fn endpoints(self, stack: &Stack) -> Outcome<(SocketAddrV4, Option<SocketAddrV4>)> {
        let ends = match self {
            Self::Udp(udp) => stack.udp_socket(udp).map(|socket| (socket.local, socket.remote)),
            Self::Raw(raw) => stack.raw_socket(raw).map(|socket| {
                let at = |ip| SocketAddrV4::new(ip, 0);
                (at(socket.local), socket.remote.map(at))
            }),
        };
        ends.ok_or(BAD_SOCKET)
    }

    pub(super) fn apply(self, stack: &mut Stack, options: Options) {
        match self {
            Self::Udp(udp) => {
                if let Some(socket) = stack.udp_socket_mut(udp) {
                    (socket.ttl, socket.tos, socket.broadcast) = (options.ttl, options.tos, options.broadcast);
                    socket.set_limits(options.rx_limits);
                }
            }
            Self::Raw(raw) => {
                if let Some(socket) = stack.raw_socket_mut(raw) {
                    (socket.ttl, socket.tos, socket.broadcast) = (options.ttl, options.tos, options.broadcast);
                    socket.header_included = options.header_included;
                    socket.set_limits(options.rx_limits);
                }
            }
        }
    }

    pub(super) fn connect(self, stack: &mut Stack, remote: Option<SocketAddrV4>) -> Outcome<()> {
        Ok(match self {
            Self::Udp(udp) => stack.udp_connect(udp, remote),
            Self::Raw(raw) => stack.raw_connect(raw, remote.map(|remote| *remote.ip())),
        }?)
    }

    pub(super) fn close(self, stack: &mut Stack) {
        match self {
            Self::Udp(udp) => stack.udp_close(udp),
            Self::Raw(raw) => stack.raw_close(raw),
        };
    }

    pub(super) fn peek(self, stack: &Stack) -> Option<&Datagram> {
        match self {
            Self::Udp(udp) => stack.udp_socket(udp)?.peek(),
            Self::Raw(raw) => stack.raw_socket(raw)?.peek(),
        }
    }

    pub(super) fn recv(self, stack: &mut Stack) -> Option<Datagram> {
        match self {
            Self::Udp(udp) => stack.udp_recv(udp),
            Self::Raw(raw) => stack.raw_recv(raw),
        }
    }

    /// Datagrams and bytes that wait.
    pub(super) fn queued(self, stack: &Stack) -> (usize, usize) {
        let queued = match self {
            Self::Udp(udp) => stack.udp_socket(udp).map(|socket| socket.queued()),
            Self::Raw(raw) => stack.raw_socket(raw).map(|socket| socket.queued()),
        };
        queued.map_or((0, 0), |(datagrams, bytes, _)| (datagrams, bytes))
    }

    pub(super) fn has_error(self, stack: &Stack) -> bool {
        match self {
            Self::Udp(udp) => stack.udp_socket(udp).is_some_and(|socket| socket.has_error()),
            Self::Raw(raw) => stack.raw_socket(raw).is_some_and(|socket| socket.has_error()),
        }
    }

    pub(super) fn take_error(self, stack: &mut Stack) -> Option<PendingError> {
        match self {
            Self::Udp(udp) => stack.udp_socket_mut(udp)?.take_error(),
            Self::Raw(raw) => stack.raw_socket_mut(raw)?.take_error(),
        }
    }

    /// Where a datagram for `to`, or for the connected peer, goes.
    pub(super) fn destination(self, stack: &mut Stack, to: Option<SocketAddrV4>) -> Outcome<SocketAddrV4> {
        match self {
            Self::Udp(udp) => {
                let socket = stack.udp_socket_mut(udp).ok_or(BAD_SOCKET)?;
                destination_of(to, socket.remote, || socket.take_error())
            }
            Self::Raw(raw) => {
                let socket = stack.raw_socket_mut(raw).ok_or(BAD_SOCKET)?;
                let peer = socket.remote.map(|ip| SocketAddrV4::new(ip, 0));
                destination_of(to, peer, || socket.take_error())
            }
        }
    }

    pub(super) fn send_to(self, stack: &mut Stack, buf: TxBuf, to: SocketAddrV4) -> Result<(), SendError> {
        match self {
            Self::Udp(udp) => stack.udp_send_to(udp, buf, to),
            Self::Raw(raw) => stack.raw_send_to(raw, buf, *to.ip()),
        }
    }

    /// Lists it again if it still has something to receive.
    pub(super) fn relist(self, stack: &mut Stack) {
        match self {
            Self::Udp(udp) => stack.udp_relist(udp),
            Self::Raw(raw) => stack.raw_relist(raw),
        }
    }
}

impl Socket {
    /// Most bytes of a datagram.
    pub(super) fn datagram_bytes_max(&self) -> usize {
        match self.raw {
            None => PAYLOAD_BYTES_MAX,
            Some(_) if self.options.header_included => ipv4::TOTAL_BYTES_MAX,
            Some(_) => ipv4::TOTAL_BYTES_MAX - ipv4::HEADER_BYTES,
        }
    }
}

impl Face {
    /// A new descriptor of a raw socket. Before the first interface is opened it is promised only.
    pub(super) fn open_raw_socket(&self, protocol: u8) -> Outcome<c_int> {
        let sd = self.open_socket(None)?;
        let id = self.socket_id(sd)?;
        self.with_socket(id, |socket| socket.raw = Some(protocol))?;
        match self.open_raw(id, protocol) {
            Ok(_) | Err(Code(n::TM_ENETDOWN)) => Ok(sd),
            Err(code) => {
                self.free_socket(id)?;
                Err(code)
            }
        }
    }

    /// The stack's socket of a descriptor that has none yet.
    pub(super) fn open_raw(&self, id: SocketId, protocol: u8) -> Outcome<DatagramHandle> {
        let options = self.with_socket(id, |socket| socket.options)?;
        let handle = self.with_stack(|stack| {
            let handle = DatagramHandle::Raw(stack.raw_open(protocol)?);
            handle.apply(stack, options);
            Ok::<_, Code>(handle)
        })??;
        self.with_socket(id, |socket| socket.datagram = Some(handle))?;
        self.sockets.try_borrow_mut().map_err(|_| WOULD_BLOCK)?.own(handle, id);
        Ok(handle)
    }

    /// Binds a raw socket, again if it is bound, as in BSD.
    pub(super) fn bind_raw(&self, id: SocketId, local: Ipv4Addr) -> Outcome<()> {
        match self.with_socket(id, |socket| socket.datagram)? {
            Some(DatagramHandle::Raw(raw)) => Ok(self.with_stack(|stack| stack.raw_bind(raw, local))??),
            _ if local.is_unspecified() => Ok(()),
            _ => Err(Code(n::TM_EADDRNOTAVAIL)),
        }
    }

    /// A destination that the socket can have: where there are ports, one.
    pub(super) fn checked_destination(&self, id: SocketId, to: SocketAddrV4) -> Outcome<SocketAddrV4> {
        let raw = self.with_socket(id, |socket| socket.raw.is_some())?;
        if to.ip().is_unspecified() || to.port() == 0 && !raw {
            return Err(Code(n::TM_EADDRNOTAVAIL));
        }
        Ok(to)
    }

    /// The socket can send what the application goes on holding: raw ones cannot, who write into what they send.
    pub(super) fn sends_shared(&self, id: SocketId) -> Outcome<bool> {
        self.with_socket(id, |socket| socket.raw.is_none())
    }
}

/// What a raw socket with `IP_HDRINCL` sends begins with a header.
#[cold]
pub(super) fn check_written_header(buf: &TxBuf) -> Outcome<()> {
    if WrittenHeader::parse(buf.as_slice()).is_err() { Err(INVALID) } else { Ok(()) }
}

/// In the order of TRECK's table: where a datagram for `to`, or for the connected peer, goes; then what the network reported.
fn destination_of(
    to: Option<SocketAddrV4>,
    peer: Option<SocketAddrV4>,
    take_error: impl FnOnce() -> Option<PendingError>,
) -> Outcome<SocketAddrV4> {
    let to = match (to, peer) {
        (Some(_), Some(_)) => return Err(Code(n::TM_EISCONN)),
        (Some(to), None) => to,
        (None, Some(peer)) => peer,
        (None, None) => return Err(Code(n::TM_ENOTCONN)),
    };
    take_error().map_or(Ok(to), |error| Err(pending_code(error)))
}
