//! What datagram sockets (UDP, raw) keep until the application takes it.

use super::fifo::Fifo;
use crate::buf::RxBuf;
use std::net::{Ipv4Addr, SocketAddrV4};

/// A received datagram: its bytes are the frame (or the chain of frames) that it came in.
#[derive(Debug)]
pub struct Datagram {
    /// The payload; of a raw socket, IPv4 header and payload.
    pub buf: RxBuf,
    /// Who sent it; of a raw socket, port 0.
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

/// Datagrams in the order in which they came, within limits.
#[derive(Debug)]
pub(super) struct RxQueue {
    pub(super) limits: RxLimits,
    datagrams: Fifo<Datagram>,
    bytes: usize,
    frames: usize,
}

impl RxQueue {
    pub(super) fn new(limits: RxLimits) -> Self {
        Self { limits, datagrams: Fifo::new(), bytes: 0, frames: 0 }
    }

    pub(super) fn has_room(&self, buf: &RxBuf) -> bool {
        let (bytes, frames) = footprint(buf);
        self.bytes + bytes <= self.limits.bytes && self.frames + frames <= self.limits.frames
    }

    /// Appends a datagram of so many bytes in so many frames, which `make` makes; false, and it does not, if there is no room.
    #[inline(always)]
    pub(super) fn push_with(
        &mut self,
        (bytes, frames): (usize, usize),
        make: impl FnOnce() -> Option<Datagram>,
    ) -> bool {
        let (bytes, frames) = (self.bytes + bytes, self.frames + frames);
        if bytes > self.limits.bytes || frames > self.limits.frames {
            return false;
        }
        (self.bytes, self.frames) = (bytes, frames);
        self.datagrams.push_with(make);
        true
    }

    /// Appends a datagram; false, and it is gone, if there is no room.
    #[inline]
    pub(super) fn push(&mut self, datagram: Datagram) -> bool {
        self.push_with(footprint(&datagram.buf), || Some(datagram))
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Datagram> {
        let datagram = self.datagrams.pop()?;
        let (bytes, frames) = footprint(&datagram.buf);
        self.bytes -= bytes;
        self.frames -= frames;
        Some(datagram)
    }

    pub(super) fn peek(&self) -> Option<&Datagram> {
        self.datagrams.front()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Datagrams, bytes and frames.
    pub(super) fn usage(&self) -> (usize, usize, usize) {
        (self.datagrams.len(), self.bytes, self.frames)
    }
}
