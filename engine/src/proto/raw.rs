//! A raw IPv4 socket: it hears the packets of a protocol that the engine does not consume, and sends any.
//!
//! As in 4.4BSD: ICMP (whether the engine answers it or not) and protocols unknown to the engine are heard, TCP and UDP never. What is received begins with the
//! IPv4 header as it came, in network byte order (4.4BSD changes two of its fields to the host's).

use super::{
    rx_queue::{Datagram, RxLimits, RxQueue},
    udp::PendingError,
};
use crate::{
    buf::RxBuf,
    wire::{checksum, ipv4},
};
use std::net::Ipv4Addr;

/// The protocol number that stands for all.
pub const ANY_PROTOCOL: u8 = 0;

/// One socket.
#[derive(Debug)]
pub struct RawSocket {
    /// What it hears, and what it puts into headers: an IP protocol number, or [`ANY_PROTOCOL`].
    pub protocol: u8,
    /// Bound address: it hears what was sent there, and sends from there. Unspecified: all of ours.
    pub local: Ipv4Addr,
    /// The only peer that it talks to, if connected.
    pub remote: Option<Ipv4Addr>,
    /// Time to live of what it sends.
    pub ttl: u8,
    /// Type of service of what it sends.
    pub tos: u8,
    /// May send to broadcast addresses.
    pub broadcast: bool,
    /// What it sends begins with its IPv4 header (`IP_HDRINCL`).
    pub header_included: bool,
    queue: RxQueue,
    error: Option<PendingError>,
}

impl RawSocket {
    /// A socket for `protocol`, bound to no address.
    pub fn new(protocol: u8, limits: RxLimits) -> Self {
        Self {
            protocol,
            local: Ipv4Addr::UNSPECIFIED,
            remote: None,
            ttl: 64,
            tos: 0,
            broadcast: false,
            header_included: false,
            queue: RxQueue::new(limits),
            error: None,
        }
    }

    /// It hears packets of its protocol from `src` to `dst`.
    pub fn hears(&self, src: Ipv4Addr, dst: Ipv4Addr) -> bool {
        (self.local.is_unspecified() || self.local == dst) && self.remote.is_none_or(|remote| remote == src)
    }

    /// There is room for `buf` in the queue.
    pub fn has_room(&self, buf: &RxBuf) -> bool {
        self.queue.has_room(buf)
    }

    /// Puts a packet into the queue; false, and it is gone, if there is no [room](Self::has_room).
    pub fn handle_packet(&mut self, packet: Datagram) -> bool {
        self.queue.push(packet)
    }

    /// Takes the oldest packet.
    pub fn recv(&mut self) -> Option<Datagram> {
        self.queue.pop()
    }

    /// The oldest packet, which stays in the queue.
    pub fn peek(&self) -> Option<&Datagram> {
        self.queue.peek()
    }

    /// There is something to receive.
    pub fn is_readable(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Packets, bytes and frames in the queue.
    pub fn queued(&self) -> (usize, usize, usize) {
        self.queue.usage()
    }

    /// Changes the limits; what is queued already stays.
    pub fn set_limits(&mut self, limits: RxLimits) {
        self.queue.limits = limits;
    }

    /// Notes an error for the next call.
    pub fn handle_error(&mut self, error: PendingError) {
        self.error = Some(error);
    }

    /// Takes the noted error.
    pub fn take_error(&mut self) -> Option<PendingError> {
        self.error.take()
    }

    /// An error is noted.
    pub fn has_error(&self) -> bool {
        self.error.is_some()
    }
}

/// An IPv4 header that an application wrote is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed IPv4 header")]
pub struct MalformedHeader;

/// The header at the start of a packet that an application wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenHeader {
    header_len: usize,
    /// Source; unspecified: the engine's choice.
    pub src: Ipv4Addr,
    /// Destination: where the packet goes.
    pub dst: Ipv4Addr,
    /// Identification; 0: the engine's choice.
    pub id: u16,
    /// Protocol.
    pub protocol: u8,
}

impl WrittenHeader {
    /// Reads the header from `packet`, whose first piece must hold it.
    ///
    /// # Errors
    /// It is cut, not of version 4, shorter than 20 bytes, longer than the packet, or says no destination.
    pub fn parse(packet: &[u8]) -> Result<Self, MalformedHeader> {
        let head: &[u8; ipv4::HEADER_BYTES] = packet.first_chunk().ok_or(MalformedHeader)?;
        let header_len = usize::from(head[0] & 0x0f) * 4;
        let dst = Ipv4Addr::new(head[16], head[17], head[18], head[19]);
        if head[0] >> 4 != 4 || !(ipv4::HEADER_BYTES..=packet.len()).contains(&header_len) || dst.is_unspecified() {
            return Err(MalformedHeader);
        }
        let src = Ipv4Addr::new(head[12], head[13], head[14], head[15]);
        Ok(Self { header_len, src, dst, id: u16::from_be_bytes([head[4], head[5]]), protocol: head[9] })
    }

    /// Fills in what raw(7) says that the system does: source and identification (as they are in `self` now), total length and checksum.
    pub fn complete(&self, packet: &mut [u8], total_len: u16) {
        let Some(header) = packet.get_mut(..self.header_len) else { return };
        header[2..4].copy_from_slice(&total_len.to_be_bytes());
        header[4..6].copy_from_slice(&self.id.to_be_bytes());
        header[10..12].fill(0);
        header[12..16].copy_from_slice(&self.src.octets());
        let sum = !checksum::sum(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [u8; 28] {
        let mut bytes = [0; 28];
        let repr = ipv4::Repr {
            src: Ipv4Addr::UNSPECIFIED,
            dst: Ipv4Addr::new(10, 0, 0, 2),
            protocol: 89,
            tos: 0,
            ttl: 1,
            id: 0,
            flags_offset: ipv4::DONT_FRAGMENT,
            payload_len: 0,
        };
        repr.write(bytes.first_chunk_mut().unwrap());
        bytes
    }

    #[test]
    fn what_is_left_open_is_filled_in() {
        let mut packet = sample();
        let header = WrittenHeader::parse(&packet).unwrap();
        assert_eq!((header.src, header.id, header.protocol), (Ipv4Addr::UNSPECIFIED, 0, 89));
        WrittenHeader { src: Ipv4Addr::new(10, 0, 0, 1), id: 7, ..header }.complete(&mut packet, 28);
        let read = ipv4::Header::parse(&packet, 28).unwrap();
        assert_eq!((read.src, read.dst, read.id, read.ttl), (Ipv4Addr::new(10, 0, 0, 1), header.dst, 7, 1));
        assert!((read.total_len, read.header_len) == (28, 20) && read.dont_fragment());
    }

    #[test]
    fn headers_that_are_none_are_refused() {
        for cut in 0..20 {
            assert_eq!(WrittenHeader::parse(&sample()[..cut]), Err(MalformedHeader), "cut at {cut}");
        }
        for (at, value) in [(0, 0x65), (0, 0x44), (0, 0x48), (0, 0x4f)] {
            let mut packet = sample();
            packet[at] = value;
            assert_eq!(WrittenHeader::parse(&packet), Err(MalformedHeader), "{value:#x}");
        }
        let mut packet = sample();
        packet[0] = 0x47;
        assert!(WrittenHeader::parse(&packet).is_ok(), "options");
        packet[16..20].fill(0);
        assert_eq!(WrittenHeader::parse(&packet), Err(MalformedHeader), "no destination");
    }

    #[test]
    fn who_is_heard() {
        let [a, b, c] = [1, 2, 3].map(|host| Ipv4Addr::new(10, 0, 0, host));
        let mut socket = RawSocket::new(1, RxLimits::default());
        assert!(socket.hears(b, a) && socket.hears(c, a));
        socket.remote = Some(b);
        assert!(socket.hears(b, a) && !socket.hears(c, a));
        socket.local = c;
        assert!(!socket.hears(b, a) && socket.hears(b, c));
    }
}
