//! Frames made by hand.

use framewire::wire::{
    MacAddr, arp, checksum, ethernet,
    ethernet::ethertype,
    ipv4::{self, protocol},
    udp,
};
use std::net::{Ipv4Addr, SocketAddrV4};

pub(crate) const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub(crate) const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const ECHO_PORT: u16 = 7;
/// Where the IP header of an untagged frame begins, and its payload if there are no options.
pub(crate) const IP: usize = 14;
pub(crate) const L4: usize = IP + 20;

pub(crate) fn link(dst: MacAddr, src: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; 14];
    ethernet::write(&mut header, dst, src, ethertype);
    [&header[..], payload].concat()
}

pub(crate) fn arp(operation: arp::Operation, mac: MacAddr, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Vec<u8> {
    let packet = arp::Packet { operation, sender_mac: mac, sender_ip, target_mac: MacAddr::default(), target_ip };
    let to = if operation == arp::Operation::Request { MacAddr::BROADCAST } else { OUR_MAC };
    link(to, mac, ethertype::ARP, &packet.to_bytes())
}

/// A header from the peer to us.
pub(crate) fn repr(protocol: u8) -> ipv4::Repr {
    ipv4::Repr { src: PEER, dst: US, protocol, tos: 0, ttl: 64, id: 0x77, flags_offset: 0, payload_len: 0 }
}

pub(crate) fn ip(repr: ipv4::Repr, payload: &[u8]) -> Vec<u8> {
    ip_with_options(repr, &[], payload)
}

/// `options` must be a multiple of four bytes.
pub(crate) fn ip_with_options(repr: ipv4::Repr, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut header = [0; 20];
    ipv4::Repr { payload_len: (options.len() + payload.len()) as u16, ..repr }.write(&mut header);
    header[0] = 0x45 + (options.len() / 4) as u8;
    let mut frame = link(OUR_MAC, PEER_MAC, ethertype::IPV4, &[&header[..], options, payload].concat());
    fix_ip_checksum(&mut frame);
    frame
}

/// Makes the IP header's checksum right, as far as the header is there.
pub(crate) fn fix_ip_checksum(frame: &mut [u8]) {
    let Some(&first) = frame.get(IP) else { return };
    let end = (IP + usize::from(first & 0x0f) * 4).min(frame.len());
    if end < IP + 12 {
        return;
    }
    frame[IP + 10..IP + 12].fill(0);
    let sum = !checksum::sum(&frame[IP..end]);
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
}

/// Makes an ICMP message's checksum right.
pub(crate) fn fix_icmp_checksum(message: &mut [u8]) {
    if message.len() >= 4 {
        message[2..4].fill(0);
        let sum = !checksum::sum(message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Makes a TCP segment's checksum right, as far as there is a field for it.
pub(crate) fn fix_tcp_checksum(src: Ipv4Addr, dst: Ipv4Addr, segment: &mut [u8]) {
    if segment.len() >= 18 {
        segment[16..18].fill(0);
        let pseudo = checksum::pseudo_header(src, dst, protocol::TCP, segment.len() as u16);
        let sum = !checksum::add(pseudo, checksum::sum(segment));
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
    }
}

pub(crate) fn udp_segment(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() + udp::HEADER_BYTES) as u16;
    let pseudo = checksum::pseudo_header(*from.ip(), *to.ip(), protocol::UDP, len);
    let mut header = [0; 8];
    udp::write(&mut header, from.port(), to.port(), len, checksum::add(pseudo, checksum::sum(payload)));
    [&header[..], payload].concat()
}

pub(crate) fn udp_from(src: Ipv4Addr, src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let segment = udp_segment(SocketAddrV4::new(src, src_port), SocketAddrV4::new(US, dst_port), payload);
    ip(ipv4::Repr { src, ..repr(protocol::UDP) }, &segment)
}

pub(crate) fn udp(src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
    udp_from(PEER, src_port, dst_port, payload)
}

pub(crate) fn icmp_message(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], &rest, payload].concat();
    fix_icmp_checksum(&mut message);
    message
}

pub(crate) fn icmp(kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    ip(repr(protocol::ICMP), &icmp_message(kind, code, rest, payload))
}

pub(crate) fn ping(payload: &[u8]) -> Vec<u8> {
    icmp(8, 0, [0x12, 0x34, 0, 1], payload)
}

/// Fragments of a datagram; the lengths of all but the last are multiples of eight.
pub(crate) fn fragments(repr: ipv4::Repr, payload: &[u8], per_packet: usize) -> Vec<Vec<u8>> {
    let parts = payload.chunks(per_packet).enumerate();
    let more = |at: usize| if (at + 1) * per_packet < payload.len() { ipv4::MORE_FRAGMENTS } else { 0 };
    parts
        .map(|(at, part)| ip(ipv4::Repr { flags_offset: (at * per_packet / 8) as u16 | more(at), ..repr }, part))
        .collect()
}

pub(crate) fn fragment(id: u16, offset_bytes: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let more = if more { ipv4::MORE_FRAGMENTS } else { 0 };
    ip(ipv4::Repr { id, flags_offset: (offset_bytes / 8) as u16 | more, ..repr(protocol::UDP) }, payload)
}

/// The frame with an 802.1Q tag.
pub(crate) fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &vlan.to_be_bytes(), &frame[12..]].concat()
}

/// A small deterministic source of numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
