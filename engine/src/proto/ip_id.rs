//! Identification of outgoing IPv4 datagrams (RFC 791 section 3.2, RFC 6864), chosen as RFC 7739 section 5.3 does for IPv6: unpredictable from outside, and
//! no single counter from which an observer could tell how much is sent to others.

use ahash::RandomState;
use std::net::Ipv4Addr;

const COUNTERS: usize = 1024;
/// A counter moves on by 1 to this many. Larger hides better how many datagrams were sent, but comes round sooner: at a mean of 2.5 an
/// identification recurs after some 26,000 datagrams.
const STEP_MAX: u16 = 4;

/// Gives out identifications.
#[derive(Debug)]
pub struct IpIds {
    hash: RandomState,
    counters: Box<[u16]>,
    drawn: u64,
}

impl IpIds {
    /// `seeds` are secret random numbers: who knows them can predict all.
    pub fn new(seeds: [u64; 4]) -> Self {
        let [a, b, c, d] = seeds;
        let hash = RandomState::with_seeds(a, b, c, d);
        let counters = (0..COUNTERS).map(|index| hash.hash_one(index) as u16).collect();
        Self { hash, counters, drawn: 0 }
    }

    /// The identification for the next datagram of this flow.
    #[inline]
    pub fn next(&mut self, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8) -> u16 {
        let flow = self.hash.hash_one((src.to_bits(), dst.to_bits(), protocol));
        self.drawn = self.drawn.wrapping_add(1);
        let step = 1 + self.hash.hash_one(self.drawn) as u16 % STEP_MAX;
        // Flows that share a counter are told apart by an offset of their own.
        let counter = &mut self.counters[flow as usize % COUNTERS];
        *counter = counter.wrapping_add(step);
        counter.wrapping_add((flow >> 32) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SRC: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn dst(n: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(0x0a00_0100 + n)
    }

    #[test]
    fn one_flow_does_not_repeat_soon() {
        let mut ids = IpIds::new([1, 2, 3, 4]);
        let seen: HashSet<u16> = (0..16_000).map(|_| ids.next(SRC, dst(0), 17)).collect();
        assert_eq!(seen.len(), 16_000);
    }

    #[test]
    fn steps_are_small_positive_and_varied() {
        let mut ids = IpIds::new([1, 2, 3, 4]);
        let mut last = ids.next(SRC, dst(0), 17);
        let mut steps = [0; STEP_MAX as usize + 1];
        for _ in 0..4000 {
            let id = ids.next(SRC, dst(0), 17);
            steps[usize::from(id.wrapping_sub(last))] += 1;
            last = id;
        }
        assert_eq!(steps[0], 0);
        assert!(steps[1..].iter().all(|&count| (800..1200).contains(&count)), "{steps:?}");
    }

    /// The idle scan: traffic to others must not show in the identifications that one peer sees, unless it happens to share the counter.
    #[test]
    fn other_flows_do_not_move_this_one() {
        let mut ids = IpIds::new([1, 2, 3, 4]);
        let before = ids.next(SRC, dst(0), 17);
        let others = (1..200).filter(|&n| {
            let own = ids.hash.hash_one((SRC.to_bits(), dst(0).to_bits(), 17u8)) as usize % COUNTERS;
            ids.hash.hash_one((SRC.to_bits(), dst(n).to_bits(), 17u8)) as usize % COUNTERS != own
        });
        let others: Vec<u32> = others.collect();
        assert!(others.len() > 150);
        for n in others {
            ids.next(SRC, dst(n), 17);
        }
        assert!((1..=STEP_MAX).contains(&ids.next(SRC, dst(0), 17).wrapping_sub(before)));
    }

    #[test]
    fn keys_and_flows_decide_where_it_starts() {
        let first = |seed, n, protocol| IpIds::new([seed, 2, 3, 4]).next(SRC, dst(n), protocol);
        let starts: HashSet<u16> = (0..200).map(|n| first(1, n, 17)).collect();
        assert!(starts.len() > 190, "{}", starts.len());
        let keyed: HashSet<u16> = (0..200).map(|seed| first(seed, 0, 17)).collect();
        assert!(keyed.len() > 190, "{}", keyed.len());
        assert_ne!(first(1, 0, 17), first(1, 0, 1));
        assert_eq!(first(1, 0, 17), first(1, 0, 17), "the same seeds give the same numbers");
    }
}
