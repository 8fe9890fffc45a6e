//! Answers to "how do I reach this address", remembered while they hold.

use crate::{proto::IfaceId, wire::MacAddr};
use std::net::Ipv4Addr;

/// Slots: a power of two. Few, so that the table stays in the first-level cache; a miss costs two hash look-ups, no more.
const SLOTS: usize = 256;

/// How to reach an address right now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination {
    pub(super) iface: IfaceId,
    pub(super) source: Ipv4Addr,
    pub(super) next_hop: MacAddr,
    pub(super) mtu: u16,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    addr: Ipv4Addr,
    epoch: u64,
    destination: Destination,
}

/// A direct-mapped cache. An entry holds while the epoch (of routes and neighbours) is the one it was made in.
#[derive(Debug)]
pub(super) struct DestCache {
    slots: Box<[Option<Slot>]>,
    key: u64,
    generation: u64,
}

impl DestCache {
    pub(super) fn new(key: u64) -> Self {
        Self { slots: vec![None; SLOTS].into(), key: key | 1, generation: 0 }
    }

    /// A keyed multiplicative hash: a peer cannot choose addresses that share a slot without knowing the key, and a shared slot costs only a miss.
    fn slot(&self, addr: Ipv4Addr) -> usize {
        ((u64::from(addr.to_bits()).wrapping_mul(self.key).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 56) as usize % SLOTS
    }

    #[inline]
    pub(super) fn get(&self, addr: Ipv4Addr, epoch_of: impl Fn(IfaceId) -> u64) -> Option<Destination> {
        let slot = self.slots[self.slot(addr)].as_ref()?;
        (slot.addr == addr && slot.epoch == epoch_of(slot.destination.iface) + self.generation)
            .then_some(slot.destination)
    }

    /// Something was sent to `addr` not long ago, whatever holds now.
    pub(super) fn remembers(&self, addr: Ipv4Addr) -> bool {
        self.slots[self.slot(addr)].as_ref().is_some_and(|slot| slot.addr == addr)
    }

    pub(super) fn put(&mut self, addr: Ipv4Addr, epoch: u64, destination: Destination) {
        let at = self.slot(addr);
        self.slots[at] = Some(Slot { addr, epoch: epoch + self.generation, destination });
    }

    /// Forgets everything: addresses or path MTUs changed.
    pub(super) fn clear(&mut self) {
        self.generation += 1;
    }
}
