//! An interface as the stack sees it.

use super::egress::Parked;
use crate::{
    buf::{NoSpace, TxBuf, TxQueue},
    proto::neighbour::{NeighbourConfig, Neighbours},
    wire::{Ipv4Net, MacAddr, ethernet},
};
use std::net::Ipv4Addr;

/// How often an address is announced when it comes up (RFC 5227 section 1.1, `ANNOUNCE_NUM`).
pub(super) const ANNOUNCEMENTS: u8 = 2;

/// Pairs of addresses that are remembered: so many peers that take turns stay fast. Two in one place cost a look at the rules, no more.
const TAKEN_ADDRESSES: usize = 64;

/// What to do about the checksums of received UDP and TCP packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RxChecksum {
    /// Wrong ones are dropped.
    #[default]
    Verify,
    /// Right ones and those that hold only the pseudo-header's sum are taken: a local sender (veth, a virtual machine's host) left the rest to a device
    /// that does not exist. Counted.
    Partial,
    /// None is looked at: for links that are memory. Counted.
    Trust,
}

/// Where Ethernet addresses of neighbours are learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NeighbourSource {
    /// From ARP.
    #[default]
    Arp,
    /// Also from the packets that neighbours send: where the kernel has our address too, ARP answers are the kernel's, and only who asks us can be answered.
    /// Such a link's stations are trusted not to forge each other's addresses.
    Traffic,
}

/// How an interface is set up.
#[derive(Clone, Debug)]
pub struct IfaceConfig {
    /// A name for messages.
    pub name: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Largest IP packet, in bytes.
    pub mtu: usize,
    /// 802.1Q VLAN that it lives in.
    pub vlan: Option<u16>,
    /// Its addresses with their networks.
    pub addresses: Vec<Ipv4Net>,
    /// Receive checksum policy.
    pub rx_checksum: RxChecksum,
    /// Where neighbours are learned.
    pub neighbour_source: NeighbourSource,
    /// Most descriptors of a packet that the port can send; 1: no scatter-gather.
    pub tx_pieces_max: usize,
    /// Most descriptors that wait for the port.
    pub egress_limit: usize,
}

impl IfaceConfig {
    /// MTU 1500, no VLAN, checksums verified, no scatter-gather, 1,024 descriptors of egress queue.
    pub fn new(name: &str, mac: MacAddr, addresses: Vec<Ipv4Net>) -> Self {
        Self {
            name: name.into(),
            mac,
            mtu: 1500,
            vlan: None,
            addresses,
            rx_checksum: RxChecksum::Verify,
            neighbour_source: NeighbourSource::Arp,
            tx_pieces_max: 1,
            egress_limit: 1024,
        }
    }
}

/// An interface.
#[derive(Debug)]
pub struct Interface {
    /// A name for messages.
    pub name: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Largest IP packet, in bytes.
    pub mtu: usize,
    /// It may send and receive.
    pub up: bool,
    /// 802.1Q VLAN that it lives in.
    pub vlan: Option<u16>,
    /// Its addresses with their networks.
    pub addresses: Vec<Ipv4Net>,
    /// What to look at of received checksums.
    pub rx_checksum: RxChecksum,
    pub(super) neighbour_source: NeighbourSource,
    /// As [`IfaceConfig::tx_pieces_max`].
    pub tx_pieces_max: usize,
    pub(super) egress: TxQueue,
    pub(super) neighbours: Neighbours<Parked>,
    pub(super) announcements_left: u8,
    /// Source and destination addresses (in the upper and the lower halves) of plain packets that it took since something here has changed, each pair in its place of
    /// a direct-mapped cache; 0: none.
    pub(super) taken_addresses: Box<[u64; TAKEN_ADDRESSES]>,
    /// When it last defended an address (RFC 5227 section 2.4).
    pub(super) defended_at: Option<crate::time::Instant>,
}

impl Interface {
    pub(super) fn new(config: IfaceConfig, neighbours: NeighbourConfig, hash_seeds: [u64; 4]) -> Self {
        Self {
            name: config.name,
            mac: config.mac,
            mtu: config.mtu,
            up: true,
            vlan: config.vlan,
            addresses: Vec::new(),
            rx_checksum: config.rx_checksum,
            neighbour_source: config.neighbour_source,
            tx_pieces_max: config.tx_pieces_max.max(1),
            egress: TxQueue::with_limit(config.egress_limit),
            neighbours: Neighbours::new(neighbours, hash_seeds),
            announcements_left: 0,
            taken_addresses: Box::new([0; TAKEN_ADDRESSES]),
            defended_at: None,
        }
    }

    /// The place for a pair of addresses, by the source's.
    #[inline(always)]
    pub(super) fn taken(&mut self, addresses: u64) -> &mut u64 {
        &mut self.taken_addresses[(addresses >> 32) as usize % TAKEN_ADDRESSES]
    }

    /// Which packets it takes may change.
    pub(super) fn forget_taken(&mut self) {
        self.taken_addresses.fill(0);
    }

    /// It has this address.
    #[inline]
    pub fn has_address(&self, addr: Ipv4Addr) -> bool {
        self.addresses.iter().any(|net| net.addr() == addr)
    }

    /// `addr` is the limited broadcast address or the directed one of a network of this interface.
    pub fn is_broadcast(&self, addr: Ipv4Addr) -> bool {
        addr.is_broadcast() || self.addresses.iter().any(|net| net.broadcast() == Some(addr))
    }

    /// The address to send from to `next_hop`: the one in its network, else the first.
    pub fn source_for(&self, next_hop: Ipv4Addr) -> Option<Ipv4Addr> {
        let on_link = self.addresses.iter().find(|net| net.contains(next_hop));
        on_link.or(self.addresses.first()).map(|net| net.addr())
    }

    /// Known neighbours: (address, Ethernet address if known).
    pub fn neighbours(&self) -> &Neighbours<impl std::fmt::Debug> {
        &self.neighbours
    }

    /// Length of the Ethernet header with the VLAN tag, in bytes.
    pub(super) fn link_header_bytes(&self) -> usize {
        ethernet::HEADER_BYTES + if self.vlan.is_some() { ethernet::VLAN_TAG_BYTES } else { 0 }
    }
}

impl Interface {
    /// Puts the Ethernet header (with the VLAN tag, if it has one) in front of a packet.
    pub(super) fn prepend_link(&self, buf: &mut TxBuf, dst: MacAddr, ethertype: u16) -> Result<(), NoSpace> {
        match self.vlan {
            None => ethernet::write(buf.prepend()?, dst, self.mac, ethertype),
            Some(vlan) => ethernet::write_tagged(buf.prepend()?, dst, self.mac, vlan, ethertype),
        }
        Ok(())
    }
}
