//! ARP for IPv4 over Ethernet (RFC 826), through `smoltcp::wire`.

use super::{MacAddr, ethernet};
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};
use std::net::Ipv4Addr;

/// Length of the packet, in bytes.
pub const PACKET_BYTES: usize = 28;

/// Request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Request or reply.
    pub operation: Operation,
    /// Who sends.
    pub sender_mac: MacAddr,
    /// Its address; unspecified in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Whom it is for.
    pub target_mac: MacAddr,
    /// The address asked for, or of the one who asked.
    pub target_ip: Ipv4Addr,
}

impl Packet {
    /// Reads a packet; `None` if it is cut or not IPv4 over Ethernet.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let packet = ArpPacket::new_checked(bytes).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_hardware_addr,
            target_protocol_addr,
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        let operation = match operation {
            ArpOperation::Request => Operation::Request,
            ArpOperation::Reply => Operation::Reply,
            ArpOperation::Unknown(_) => return None,
        };
        Some(Self {
            operation,
            sender_mac: MacAddr(source_hardware_addr.0),
            sender_ip: source_protocol_addr,
            target_mac: MacAddr(target_hardware_addr.0),
            target_ip: target_protocol_addr,
        })
    }

    /// The packet's bytes, without the Ethernet header.
    pub fn to_bytes(&self) -> [u8; PACKET_BYTES] {
        let mut bytes = [0; PACKET_BYTES];
        let operation = match self.operation {
            Operation::Request => ArpOperation::Request,
            Operation::Reply => ArpOperation::Reply,
        };
        ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: EthernetAddress(self.sender_mac.0),
            source_protocol_addr: self.sender_ip,
            target_hardware_addr: EthernetAddress(self.target_mac.0),
            target_protocol_addr: self.target_ip,
        }
        .emit(&mut ArpPacket::new_unchecked(&mut bytes[..]));
        bytes
    }
}

/// Shortest Ethernet frame that carries one.
pub const FRAME_BYTES: usize = ethernet::HEADER_BYTES + PACKET_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_cuts_and_odd_sizes() {
        let packet = Packet {
            operation: Operation::Request,
            sender_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            sender_ip: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: MacAddr::default(),
            target_ip: Ipv4Addr::new(10, 0, 0, 2),
        };
        let bytes = packet.to_bytes();
        assert_eq!(Packet::parse(&bytes), Some(packet));
        for cut in 0..bytes.len() {
            assert_eq!(Packet::parse(&bytes[..cut]), None, "cut at {cut}");
        }
        // CVE-2020-11914: hardware and protocol address sizes other than 6 and 4.
        for (at, size) in [(4, 0), (4, 5), (4, 255), (5, 0), (5, 3), (5, 255)] {
            let mut odd = bytes;
            odd[at] = size;
            assert_eq!(Packet::parse(&odd), None, "byte {at} = {size}");
        }
    }
}
