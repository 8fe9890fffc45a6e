//! A UDP socket (RFC 768, RFC 1122 section 4.1): who it talks to, what it has received, what went wrong.

pub use super::rx_queue::{Datagram, RxLimits};

use super::rx_queue::RxQueue;
use std::net::SocketAddrV4;

/// A condition that the network reported for a socket; told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PendingError {
    /// ICMP port unreachable came back.
    #[error("connection refused: the peer has no socket at that port")]
    Refused,
    /// The next hop never answered, or ICMP says that the host cannot be reached.
    #[error("host unreachable")]
    HostUnreachable,
}

/// One socket.
#[derive(Debug)]
pub struct UdpSocket {
    /// Bound address; unspecified: all of ours. Port 0: not bound.
    pub local: SocketAddrV4,
    /// The only peer it talks to, if connected.
    pub remote: Option<SocketAddrV4>,
    /// Time to live of what it sends.
    pub ttl: u8,
    /// Type of service of what it sends.
    pub tos: u8,
    /// May send to broadcast addresses.
    pub broadcast: bool,
    queue: RxQueue,
    error: Option<PendingError>,
}

impl UdpSocket {
    /// A socket bound to `local`.
    pub fn new(local: SocketAddrV4, limits: RxLimits) -> Self {
        Self { local, remote: None, ttl: 64, tos: 0, broadcast: false, queue: RxQueue::new(limits), error: None }
    }

    /// Puts a datagram into the queue; false, and it is gone, if there is no room.
    #[inline]
    pub fn handle_datagram(&mut self, datagram: Datagram) -> bool {
        self.queue.push(datagram)
    }

    /// As [`handle_datagram`](Self::handle_datagram), of so many bytes in one frame, which `make` makes if there is room.
    #[inline(always)]
    pub fn handle_datagram_with(&mut self, bytes: usize, make: impl FnOnce() -> Option<Datagram>) -> bool {
        self.queue.push_with((bytes, 1), make)
    }

    /// Takes the oldest datagram.
    #[inline]
    pub fn recv(&mut self) -> Option<Datagram> {
        self.queue.pop()
    }

    /// The oldest datagram, which stays in the queue.
    pub fn peek(&self) -> Option<&Datagram> {
        self.queue.peek()
    }

    /// There is something to receive.
    #[inline]
    pub fn is_readable(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Datagrams, bytes and frames in the queue.
    pub fn queued(&self) -> (usize, usize, usize) {
        self.queue.usage()
    }

    /// Changes the limits; what is queued already stays.
    pub fn set_limits(&mut self, limits: RxLimits) {
        self.queue.limits = limits;
    }

    /// The limits.
    pub fn limits(&self) -> RxLimits {
        self.queue.limits
    }

    /// Notes an error for the next call.
    pub fn handle_error(&mut self, error: PendingError) {
        self.error = Some(error);
    }

    /// Takes the noted error.
    #[inline]
    pub fn take_error(&mut self) -> Option<PendingError> {
        self.error.take()
    }

    /// An error is noted.
    pub fn has_error(&self) -> bool {
        self.error.is_some()
    }

    /// Connects to `remote` or, with `None`, to nobody. Datagrams from others that were queued before stay (as in BSD).
    pub fn set_remote(&mut self, remote: Option<SocketAddrV4>) {
        self.remote = remote;
    }
}
