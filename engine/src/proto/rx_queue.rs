//! What datagram sockets (UDP, raw) keep until the application takes it.

use crate::buf::RxBuf;
use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddrV4},
};

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
    datagrams: VecDeque<Datagram>,
    bytes: usize,
    frames: usize,
}

impl RxQueue {
    pub(super) fn new(limits: RxLimits) -> Self {
        Self { limits, datagrams: VecDeque::new(), bytes: 0, frames: 0 }
    }

    #[inline(always)]
    pub(super) fn has_room(&self, buf: &RxBuf) -> bool {
        let (bytes, frames) = footprint(buf);
        self.bytes + bytes <= self.limits.bytes && self.frames + frames <= self.limits.frames
    }

    #[inline(always)]
    pub(super) fn push(&mut self, datagram: Datagram) {
        let (bytes, frames) = footprint(&datagram.buf);
        self.bytes += bytes;
        self.frames += frames;
        self.datagrams.push_back(datagram);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Datagram> {
        let datagram = self.datagrams.pop_front()?;
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
