//! Which local port a connection gets: RFC 6056 section 3.3.4, algorithm 4 (double-hash port selection).
//!
//! For one peer, ports are taken in turn, so that the same one comes again as late as can be; where the turn starts, and in which steps it goes on, only
//! who has the key can tell.

use super::isn::{SecretHash, purpose};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    ops::RangeInclusive,
};

/// Counters shared by all peers. Fewer: who has one peer's ports sees more of what goes to others; more: memory.
const COUNTERS: usize = 256;

/// Chooses local ports.
#[derive(Clone, Debug)]
pub struct PortChooser {
    hash: SecretHash,
    counters: Box<[u32]>,
}

impl PortChooser {
    /// `key` is secret and random: who knows it can predict ports.
    pub fn new(key: [u64; 2]) -> Self {
        let hash = SecretHash::new(key);
        let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        //= RFC 6056 3.3.4: the table is initialized with random values
        let counters = (0..COUNTERS as u64).map(|n| hash.of(purpose::PORT_TABLE, nowhere, nowhere, n) as u32).collect();
        Self { hash, counters }
    }

    /// A port of `range` for a connection to `remote` that is not `taken`; `None` if all are. It asks for each port at most once.
    pub fn choose(
        &mut self,
        local: Ipv4Addr,
        remote: SocketAddrV4,
        range: RangeInclusive<u16>,
        mut taken: impl FnMut(u16) -> bool,
    ) -> Option<u16> {
        let first = u32::from(*range.start());
        let count = (u32::from(*range.end()) + 1).checked_sub(first)?;
        let local = SocketAddrV4::new(local, 0);
        let offset = self.hash.of(purpose::PORT_OFFSET, local, remote, 0) as u32;
        let index = self.hash.of(purpose::PORT_INDEX, local, remote, 0) as usize % COUNTERS;
        let counter = self.counters.get_mut(index)?;
        for _ in 0..count {
            let port = (first + offset.wrapping_add(*counter) % count) as u16;
            *counter = counter.wrapping_add(1);
            if !taken(port) {
                return Some(port);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn remote(host: u16, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from_bits(0x0a00_0000 + u32::from(host)), port)
    }

    /// RFC 6056 section 3.3.4: a port comes again only after all others, even if none stays taken.
    #[test]
    fn in_turn_for_one_peer() {
        let mut ports = PortChooser::new([1, 2]);
        let chosen: Vec<u16> =
            (0..1000).map(|_| ports.choose(LOCAL, remote(2, 80), 40_000..=40_999, |_| false).unwrap()).collect();
        assert_eq!(chosen.iter().collect::<HashSet<_>>().len(), 1000);
        assert_eq!(ports.choose(LOCAL, remote(2, 80), 40_000..=40_999, |_| false), Some(chosen[0]));
    }

    /// First ports for many peers spread evenly: of 16 equal parts each gets about its share.
    #[test]
    fn spread_across_peers() {
        let mut ports = PortChooser::new([1, 2]);
        let mut parts = [0; 16];
        for host in 0..16_000 {
            let port = ports.choose(LOCAL, remote(host, 443), 32_768..=65_535, |_| false).unwrap();
            parts[usize::from(port - 32_768) / 2048] += 1;
        }
        assert!(parts.iter().all(|part| (850..1150).contains(part)), "{parts:?}");
    }

    #[test]
    fn key_and_every_part_count() {
        let range = 1024..=65_535;
        let first = |key, local, remote| PortChooser::new(key).choose(local, remote, range.clone(), |_| false);
        let port = first([1, 2], LOCAL, remote(2, 80));
        assert_ne!(first([2, 2], LOCAL, remote(2, 80)), port);
        assert_ne!(first([1, 2], Ipv4Addr::new(10, 0, 0, 9), remote(2, 80)), port);
        assert_ne!(first([1, 2], LOCAL, remote(3, 80)), port);
        assert_ne!(first([1, 2], LOCAL, remote(2, 81)), port);
    }

    #[test]
    fn finds_the_last_one_and_gives_up() {
        let mut ports = PortChooser::new([1, 2]);
        let all: RangeInclusive<u16> = 0..=u16::MAX;
        assert_eq!(ports.choose(LOCAL, remote(2, 80), all.clone(), |port| port != 7), Some(7));
        let mut asked = HashSet::new();
        assert_eq!(ports.choose(LOCAL, remote(2, 80), all, |port| asked.insert(port)), None);
        assert_eq!(asked.len(), 65_536, "each asked for, once");
        let backwards = RangeInclusive::new(9, 3);
        assert_eq!(ports.choose(LOCAL, remote(2, 80), backwards, |_| false), None);
        assert_eq!(ports.choose(LOCAL, remote(2, 80), 5..=5, |_| false), Some(5));
    }

    proptest! {
        #[test]
        fn free_and_in_range(key: [u64; 2], first: u16, count in 0u16..500, free: u16, rounds in 1usize..20) {
            let mut ports = PortChooser::new(key);
            let last = first.saturating_add(count);
            let free = first + free % (last - first + 1).max(1);
            for _ in 0..rounds {
                prop_assert_eq!(ports.choose(LOCAL, remote(2, 80), first..=last, |port| port != free), Some(free));
                let any = ports.choose(LOCAL, remote(3, 80), first..=last, |_| false);
                prop_assert!(any.is_some_and(|port| (first..=last).contains(&port)));
            }
        }
    }
}
