//! A UDP socket (RFC 768, RFC 1122 section 4.1): who it talks to, what it has received, what went wrong.

use crate::buf::RxBuf;
use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddrV4},
};

/// A received datagram: its payload is the frame (or the chain of frames) that it came in.
#[derive(Debug)]
pub struct Datagram {
    /// The payload.
    pub buf: RxBuf,
    /// Who sent it.
    pub from: SocketAddrV4,
    /// Which of our addresses it was sent to.
    pub to: Ipv4Addr,
}

/// How much a socket may hold in its receive queue. A one-byte datagram holds a whole frame, so bytes alone would not bound memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxLimits {
    /// Payload bytes.
    pub bytes: usize,
    /// Frames.
    pub frames: usize,
}

impl Default for RxLimits {
    /// 1 MiB in at most 512 frames: bursts of a few hundred packets, and a bounded share of a pool of 4,096.
    fn default() -> Self {
        Self { bytes: 1 << 20, frames: 512 }
    }
}

/// Bytes and frames of a buffer.
#[inline(always)]
fn footprint(buf: &RxBuf) -> (usize, usize) {
    if buf.is_chain() { (buf.total_len(), buf.frame_count()) } else { (buf.len(), 1) }
}

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
    limits: RxLimits,
    queue: VecDeque<Datagram>,
    queued_bytes: usize,
    queued_frames: usize,
    error: Option<PendingError>,
}

impl UdpSocket {
    /// A socket bound to `local`.
    pub fn new(local: SocketAddrV4, limits: RxLimits) -> Self {
        Self {
            local,
            remote: None,
            ttl: 64,
            tos: 0,
            broadcast: false,
            limits,
            queue: VecDeque::new(),
            queued_bytes: 0,
            queued_frames: 0,
            error: None,
        }
    }

    /// There is room for `buf` in the queue.
    #[inline]
    pub fn has_room(&self, buf: &RxBuf) -> bool {
        let (bytes, frames) = footprint(buf);
        self.queued_bytes + bytes <= self.limits.bytes && self.queued_frames + frames <= self.limits.frames
    }

    /// Puts a datagram for which there [is room](Self::has_room) into the queue.
    #[inline]
    pub fn handle_datagram(&mut self, datagram: Datagram) {
        let (bytes, frames) = footprint(&datagram.buf);
        self.queued_bytes += bytes;
        self.queued_frames += frames;
        self.queue.push_back(datagram);
    }

    /// Takes the oldest datagram.
    #[inline]
    pub fn recv(&mut self) -> Option<Datagram> {
        let datagram = self.queue.pop_front()?;
        let (bytes, frames) = footprint(&datagram.buf);
        self.queued_bytes -= bytes;
        self.queued_frames -= frames;
        Some(datagram)
    }

    /// The oldest datagram, which stays in the queue.
    pub fn peek(&self) -> Option<&Datagram> {
        self.queue.front()
    }

    /// There is something to receive.
    #[inline]
    pub fn is_readable(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Datagrams, bytes and frames in the queue.
    pub fn queued(&self) -> (usize, usize, usize) {
        (self.queue.len(), self.queued_bytes, self.queued_frames)
    }

    /// Changes the limits; what is queued already stays.
    pub fn set_limits(&mut self, limits: RxLimits) {
        self.limits = limits;
    }

    /// The limits.
    pub fn limits(&self) -> RxLimits {
        self.limits
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
