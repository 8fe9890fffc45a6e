//! Initial sequence numbers (RFC 6528) and timestamp offsets (RFC 7323 section 5.4): they cannot be guessed from outside, and rise for the same pair of
//! sockets, so that old segments are told from new ones.

use crate::{time::Instant, wire::seq::SeqNum};
use siphasher::sip::SipHasher24;
use std::{fmt, net::SocketAddrV4};

/// RFC 9293 section 3.4.1: the clock behind initial sequence numbers ticks every 4 µs.
const TICK_NS: u64 = 4000;

/// A keyed hash of numbers that tells apart what it is used for (RFC 6528 section 3 allows any such function).
#[derive(Clone)]
pub(super) struct SecretHash(SipHasher24);

impl SecretHash {
    pub(super) fn new([first, second]: [u64; 2]) -> Self {
        Self(SipHasher24::new_with_keys(first, second))
    }

    /// The hash of a connection's addresses and `more`, for `purpose`.
    pub(super) fn of(&self, purpose: u8, local: SocketAddrV4, remote: SocketAddrV4, more: u64) -> u64 {
        let mut bytes = [0; 21];
        bytes[0] = purpose;
        bytes[1..5].copy_from_slice(&local.ip().octets());
        bytes[5..7].copy_from_slice(&local.port().to_be_bytes());
        bytes[7..11].copy_from_slice(&remote.ip().octets());
        bytes[11..13].copy_from_slice(&remote.port().to_be_bytes());
        bytes[13..].copy_from_slice(&more.to_be_bytes());
        self.0.hash(&bytes)
    }
}

/// Without the key, which would otherwise end up in a log.
impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

/// What hashes are for, so that one says nothing of the other.
pub(super) mod purpose {
    pub(in crate::proto::tcp) const ISN: u8 = 0;
    pub(in crate::proto::tcp) const TIMESTAMP: u8 = 1;
    pub(in crate::proto::tcp) const COOKIE: u8 = 2;
    pub(in crate::proto::tcp) const PORT_OFFSET: u8 = 3;
    pub(in crate::proto::tcp) const PORT_INDEX: u8 = 4;
    pub(in crate::proto::tcp) const PORT_TABLE: u8 = 5;
}

/// Gives out initial sequence numbers and timestamp offsets.
#[derive(Clone, Debug)]
pub struct IsnGenerator {
    hash: SecretHash,
}

impl IsnGenerator {
    /// `key` is secret and random: who knows it can predict all.
    pub fn new(key: [u64; 2]) -> Self {
        Self { hash: SecretHash::new(key) }
    }

    /// The initial sequence number of a connection opened `now`: for the same pair of sockets it rises by 1 every 4 µs.
    pub fn isn(&self, local: SocketAddrV4, remote: SocketAddrV4, now: Instant) -> SeqNum {
        //= RFC 6528 3: ISN = M + F(localip, localport, remoteip, remoteport, secretkey)
        let ticks = (now.as_nanos() / TICK_NS) as u32;
        SeqNum(self.hash.of(purpose::ISN, local, remote, 0) as u32) + ticks
    }

    /// What to add to the clock of a connection's timestamps, in its ticks of 1 ms: they tell neither uptime nor that two connections come from the
    /// same host, and rise for the same pair of sockets.
    pub fn timestamp_offset(&self, local: SocketAddrV4, remote: SocketAddrV4) -> u32 {
        self.hash.of(purpose::TIMESTAMP, local, remote, 0) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{collections::HashSet, net::Ipv4Addr};

    fn addr(host: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), port)
    }

    /// RFC 9293 MUST-8: one every 4 µs.
    #[test]
    fn rises_for_the_same_pair() {
        let isns = IsnGenerator::new([1, 2]);
        let at = |ns| isns.isn(addr(1, 80), addr(2, 5000), Instant::from_nanos(ns));
        for start_ns in [0, 1_000_000_007, u64::from(u32::MAX) * TICK_NS] {
            assert_eq!(at(start_ns + 4000).since(at(start_ns)), 1);
            assert_eq!(at(start_ns + 1_000_000_000).since(at(start_ns)), 250_000);
        }
    }

    /// Neighbouring pairs of sockets get numbers that have nothing in common: as many different upper bytes as random ones have.
    /// RFC 9293 MUST-9: who has not the key cannot tell one pair's number from another's.
    #[test]
    fn unrelated_across_pairs() {
        let isns = IsnGenerator::new([1, 2]);
        let now = Instant::from_millis(5);
        let all: Vec<u32> = (1..=1000).map(|port| isns.isn(addr(1, 80), addr(2, port), now).0).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 1000);
        let steps: HashSet<u32> = all.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        assert!(steps.len() > 990, "no pattern from one to the next");
        for bit in 0..32 {
            let ones = all.iter().filter(|isn| **isn >> bit & 1 == 1).count();
            assert!((400..600).contains(&ones), "bit {bit} is set in {ones} of 1,000");
        }
    }

    #[test]
    fn every_part_counts() {
        let isns = IsnGenerator::new([1, 2]);
        let now = Instant::ZERO;
        let isn = isns.isn(addr(1, 80), addr(2, 5000), now);
        for (local, remote) in [
            (addr(3, 80), addr(2, 5000)),
            (addr(1, 81), addr(2, 5000)),
            (addr(1, 80), addr(3, 5000)),
            (addr(1, 80), addr(2, 5001)),
            (addr(2, 5000), addr(1, 80)),
        ] {
            assert_ne!(isns.isn(local, remote, now), isn);
            assert_ne!(isns.timestamp_offset(local, remote), isns.timestamp_offset(addr(1, 80), addr(2, 5000)));
        }
        assert_ne!(IsnGenerator::new([1, 3]).isn(addr(1, 80), addr(2, 5000), now), isn, "the key");
        assert_ne!(isns.timestamp_offset(addr(1, 80), addr(2, 5000)), isn.0, "one tells nothing of the other");
    }

    proptest! {
        #[test]
        fn later_is_later(key: [u64; 2], ports: (u16, u16), ns in 0u64..1 << 60, later_ns in 4000u64..4000 << 31) {
            let isns = IsnGenerator::new(key);
            let at = |ns| isns.isn(addr(1, ports.0), addr(2, ports.1), Instant::from_nanos(ns));
            prop_assert!(at(ns).lt(at(ns + later_ns - 4000)) || later_ns < 8000);
        }
    }
}
