//! Answers to "how do I reach this address", remembered while they hold.

use crate::{
    buf::{NoSpace, TxBuf},
    proto::IfaceId,
    wire::{
        MacAddr, checksum, ethernet,
        ipv4::{self, DONT_FRAGMENT},
        udp,
    },
};
use std::net::Ipv4Addr;

/// Slots: a power of two. Few, so that what is in use of the table stays in the first-level cache; a miss costs two hash look-ups, no more.
const SLOTS: usize = 256;

/// How to reach an address right now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination {
    pub(super) iface: IfaceId,
    pub(super) source: Ipv4Addr,
    pub(super) next_hop: MacAddr,
    pub(super) mtu: u16,
}

/// Ethernet and IPv4 headers of datagrams to an address, with room for UDP's: each is a copy of these in which a few fields are its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headers {
    /// They end with it; its length is that of whole registers.
    block: [u8; BLOCK_BYTES],
    fields: Fields,
    /// The sums of the IPv4 header without UDP header and payload, and of the pseudo-header without a length.
    ip_sum: u16,
    pseudo_sum: u16,
}

/// What such headers were written for, beside the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) src: Ipv4Addr,
    pub(super) tos: u8,
    pub(super) ttl: u8,
}

const BLOCK_BYTES: usize = 48;
/// Length of Ethernet, IPv4 and UDP headers.
const HEADERS_BYTES: usize = ethernet::HEADER_BYTES + ipv4::HEADER_BYTES + udp::HEADER_BYTES;
const PAD_BYTES: usize = BLOCK_BYTES - HEADERS_BYTES;

impl Headers {
    const NONE: Self = Self {
        block: [0; BLOCK_BYTES],
        fields: Fields { src: Ipv4Addr::UNSPECIFIED, tos: 0, ttl: 0 },
        ip_sum: 0,
        pseudo_sum: 0,
    };

    /// `own` is our Ethernet address on the way.
    fn new(fields: Fields, dst: Ipv4Addr, next_hop: MacAddr, own: MacAddr) -> Self {
        let mut headers = Self { fields, ..Self::NONE };
        let Fields { src, tos, ttl } = fields;
        if let Some((link, rest)) = headers.block[PAD_BYTES..].split_first_chunk_mut()
            && let Some(ip) = rest.first_chunk_mut()
        {
            ethernet::write(link, next_hop, own, ethernet::ethertype::IPV4);
            let protocol = ipv4::protocol::UDP;
            // RFC 6864: an atomic datagram's identification means nothing.
            let (id, flags_offset, payload_len) = (0, DONT_FRAGMENT, 0);
            ipv4::Repr { src, dst, protocol, tos, ttl, id, flags_offset, payload_len }.write(ip);
            headers.ip_sum = !ipv4::checksum_of(ip);
            headers.pseudo_sum = checksum::pseudo_header(src, dst, protocol, 0);
        }
        headers
    }

    /// Puts them in front of a payload.
    ///
    /// # Errors
    /// There is no room in front of it.
    #[inline(always)]
    pub(super) fn prepend(
        &self,
        buf: &mut TxBuf,
        payload_sum: u16,
        src_port: u16,
        dst_port: u16,
    ) -> Result<(), NoSpace> {
        let datagram = (buf.len() + udp::HEADER_BYTES) as u16;
        let block = buf.prepend_block(&self.block, HEADERS_BYTES)?;
        let (front, header) = block.split_last_chunk_mut().ok_or(NoSpace)?;
        let ip = front.last_chunk_mut().ok_or(NoSpace)?;
        ipv4::patch_len(ip, ipv4::HEADER_BYTES as u16 + datagram, u64::from(self.ip_sum) + u64::from(datagram));
        // The length is in the pseudo-header, too.
        let sum = u64::from(self.pseudo_sum) + u64::from(datagram) + u64::from(payload_sum);
        udp::write(header, src_port, dst_port, datagram, sum);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    epoch: u64,
    addr: Ipv4Addr,
    destination: Destination,
    headers: Headers,
}

impl Slot {
    /// No epoch is that late.
    const EMPTY: Self = Self {
        epoch: u64::MAX,
        addr: Ipv4Addr::UNSPECIFIED,
        destination: Destination {
            iface: IfaceId(0),
            source: Ipv4Addr::UNSPECIFIED,
            next_hop: MacAddr([0; 6]),
            mtu: 0,
        },
        headers: Headers::NONE,
    };
}

impl Slot {
    #[cold]
    fn write_headers(&mut self, fields: Fields, own: MacAddr) {
        self.headers = Headers::new(fields, self.addr, self.destination.next_hop, own);
    }
}

/// A direct-mapped cache. An entry holds while the epoch (of routes and neighbours) is the one it was made in.
#[derive(Debug)]
pub(super) struct DestCache {
    slots: Box<[Slot; SLOTS]>,
    key: u64,
    generation: u64,
}

impl DestCache {
    pub(super) fn new(key: u64) -> Self {
        Self { slots: Box::new([Slot::EMPTY; SLOTS]), key: key | 1, generation: 0 }
    }

    /// A keyed multiplicative hash: a peer cannot choose addresses that share a slot without knowing the key, and a shared slot costs only a miss.
    #[inline]
    fn slot(&self, addr: Ipv4Addr) -> usize {
        ((u64::from(addr.to_bits()).wrapping_mul(self.key).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 56) as usize % SLOTS
    }

    #[inline]
    pub(super) fn get(&self, addr: Ipv4Addr, epoch_of: impl Fn(IfaceId) -> u64) -> Option<Destination> {
        let slot = &self.slots[self.slot(addr)];
        (slot.addr == addr && slot.epoch == epoch_of(slot.destination.iface) + self.generation)
            .then_some(slot.destination)
    }

    /// As [`get`](Self::get), with the headers of a UDP datagram whose fields `fields_of` tells, given the address that it is sent from by itself. `epoch_of`: `None` if
    /// datagrams have other headers there. `mac_of`: our Ethernet address.
    #[inline(always)]
    pub(super) fn headers(
        &mut self,
        addr: Ipv4Addr,
        epoch_of: impl Fn(IfaceId) -> Option<u64>,
        mac_of: impl Fn(IfaceId) -> Option<MacAddr>,
        fields_of: impl Fn(Ipv4Addr) -> Fields,
    ) -> Option<(IfaceId, u16, &Headers)> {
        let at = self.slot(addr);
        let slot = &mut self.slots[at];
        let iface = slot.destination.iface;
        if slot.addr != addr || slot.epoch != epoch_of(iface)? + self.generation {
            return None;
        }
        let fields = fields_of(slot.destination.source);
        if slot.headers.fields != fields {
            slot.write_headers(fields, mac_of(iface)?);
        }
        Some((iface, slot.destination.mtu, &slot.headers))
    }

    /// Something was sent to `addr` not long ago, whatever holds now.
    pub(super) fn remembers(&self, addr: Ipv4Addr) -> bool {
        let slot = &self.slots[self.slot(addr)];
        slot.addr == addr && slot.epoch != Slot::EMPTY.epoch
    }

    pub(super) fn put(&mut self, addr: Ipv4Addr, epoch: u64, destination: Destination) {
        let (at, epoch) = (self.slot(addr), epoch + self.generation);
        self.slots[at] = Slot { epoch, addr, destination, headers: Headers::NONE };
    }

    /// Forgets everything: addresses or path MTUs changed.
    pub(super) fn clear(&mut self) {
        self.generation += 1;
    }
}
