//! Frames, built inside out: `eth(IPV4, &ip4(A, B, UDP, &udp(1, 2)))`. Checksums are zero: the program reads none.

use std::net::{Ipv4Addr, Ipv6Addr};

pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const VLAN: u16 = 0x8100;
pub const QINQ: u16 = 0x88a8;
pub const IPV6: u16 = 0x86dd;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;
pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const AUTHENTICATION: u8 = 51;
pub const DESTINATION_OPTIONS: u8 = 60;

/// DF, then MF, then the offset in units of 8 bytes.
pub const MORE_FRAGMENTS: u16 = 0x2000;

pub fn eth(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&[0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2], &ethertype.to_be_bytes()[..], payload].concat()
}

/// The part behind the tag protocol identifier: control, inner ethertype, payload.
pub fn tag(identifier: u16, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&identifier.to_be_bytes()[..], &ethertype.to_be_bytes(), payload].concat()
}

pub fn arp(operation: u16, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend([2, 0, 0, 0, 0, 2]);
    packet.extend(sender.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    packet
}

pub struct Ip4<'a> {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub identification: u16,
    pub fragment: u16,
    pub option_words: u8,
    pub payload: &'a [u8],
}

impl Ip4<'_> {
    pub fn build(&self) -> Vec<u8> {
        let header_bytes = 20 + usize::from(self.option_words) * 4;
        let mut packet = vec![0x45 + self.option_words, 0];
        packet.extend(((header_bytes + self.payload.len()) as u16).to_be_bytes());
        packet.extend(self.identification.to_be_bytes());
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([64, self.protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.resize(header_bytes, 1);
        packet.extend(self.payload);
        packet
    }
}

pub fn ip4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    Ip4 { source, destination, protocol, identification: 0, fragment: 0, option_words: 0, payload }.build()
}

pub fn ip6(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

/// Hop-by-hop, routing or destination options header of `8 + 8 * extra` bytes.
pub fn extension(next_header: u8, extra: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next_header, extra];
    header.resize(8 + usize::from(extra) * 8, 0);
    [&header, payload].concat()
}

/// Authentication header of `8 + 4 * words` bytes.
pub fn authentication(next_header: u8, words: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next_header, words];
    header.resize(8 + usize::from(words) * 4, 0);
    [&header, payload].concat()
}

pub fn fragment6(next_header: u8, offset_bytes: u16, more: bool, identification: u32, payload: &[u8]) -> Vec<u8> {
    let offset = (offset_bytes & 0xfff8) | u16::from(more);
    [&[next_header, 0], &offset.to_be_bytes()[..], &identification.to_be_bytes(), payload].concat()
}

/// A header with ports of any protocol that has them, and a payload.
pub fn ports(source: u16, destination: u16) -> Vec<u8> {
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), &[0, 16, 0, 0], b"datagram"].concat()
}

pub fn icmp(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0], body].concat()
}
