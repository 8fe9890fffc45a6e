//! SYN cookies (RFC 4987 section 3.6): a listener whose queue is full keeps nothing of a SYN, but sends it in its own sequence number and timestamp,
//! and takes it from the acknowledgement.
//!
//! A cookie is 29 bits of a keyed hash over addresses, the peer's number, the time and the segment size, and three bits that say which size. So one
//! guess in 2²⁸ is right; the time is not sent, the two times that are possible are tried.

use super::isn::{SecretHash, purpose};
use crate::{
    time::{Duration, Instant},
    wire::{seq::SeqNum, tcp::WINDOW_SCALE_MAX},
};
use std::net::SocketAddrV4;

/// The counter in a cookie. Longer: a cookie seen elsewhere is good for longer; shorter: slow peers, whose SYN-ACK was lost, are refused.
const PERIOD_NS: u64 = 64_000_000_000;
/// No cookie is good for longer.
pub const LIFETIME: Duration = Duration::from_nanos(2 * PERIOD_NS);
/// Segment sizes a cookie can say, in bytes: smallest that an MTU of 128 leaves; RFC 9293's default; tunnels; PPPoE and friends; IPv6's
/// and IPv4's Ethernet; jumbo frames.
const MSS: [u16; 8] = [88, 536, 1220, 1360, 1400, 1440, 1460, 8960];
const MSS_BITS: u32 = 3;

/// Bits of a timestamp that carry options.
pub const OPTION_BITS: u32 = 6;
const OPTION_MASK: u32 = (1 << OPTION_BITS) - 1;
const WINDOW_SCALE_MASK: u32 = 0x0f;
const WINDOW_SCALE_NONE: u32 = 0x0f;
const SACK: u32 = 0x10;
const ECN: u32 = 0x20;

/// Makes and checks cookies.
#[derive(Clone, Debug)]
pub struct SynCookies {
    hash: SecretHash,
}

impl SynCookies {
    /// `key` is secret and random: who knows it can connect with forged addresses.
    pub fn new(key: [u64; 2]) -> Self {
        Self { hash: SecretHash::new(key) }
    }

    /// The initial sequence number to answer a SYN with. `mss` is what the peer said, in bytes; the cookie says the same or the next smaller one of
    /// eight, at least 88.
    pub fn make(&self, local: SocketAddrV4, remote: SocketAddrV4, peer_isn: SeqNum, mss: u16, now: Instant) -> SeqNum {
        let index = MSS.partition_point(|size| *size <= mss).saturating_sub(1) as u32;
        self.cookie(local, remote, peer_isn, index, now.as_nanos() / PERIOD_NS)
    }

    /// The peer's segment size in bytes, if `ack_minus_one`, which it acknowledges, is a cookie made for it no longer than 64 to 128 s ago.
    pub fn check(
        &self,
        local: SocketAddrV4,
        remote: SocketAddrV4,
        peer_isn: SeqNum,
        ack_minus_one: SeqNum,
        now: Instant,
    ) -> Option<u16> {
        let index = ack_minus_one.0 & ((1 << MSS_BITS) - 1);
        let period = now.as_nanos() / PERIOD_NS;
        let made_in = |period| self.cookie(local, remote, peer_isn, index, period) == ack_minus_one;
        let fresh = made_in(period) || period.checked_sub(1).is_some_and(made_in);
        MSS.get(index as usize).copied().filter(|_| fresh)
    }

    fn cookie(&self, local: SocketAddrV4, remote: SocketAddrV4, peer_isn: SeqNum, index: u32, period: u64) -> SeqNum {
        // 64 s times 2²⁹ are a thousand years.
        let more = u64::from(peer_isn.0) | u64::from(index) << 32 | period << (32 + MSS_BITS);
        let hash = self.hash.of(purpose::COOKIE, local, remote, more) as u32;
        SeqNum(hash << MSS_BITS | index)
    }
}

/// Options of a SYN that a timestamp carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieOptions {
    /// Shift of the peer's windows, at most 14.
    pub window_scale: Option<u8>,
    /// The peer reads SACK blocks.
    pub sack_permitted: bool,
    /// The peer asked for ECN.
    pub ecn: bool,
}

/// Options as the low [`OPTION_BITS`] bits of a timestamp, see [`timestamp_with`].
pub fn pack_options(window_scale: Option<u8>, sack_permitted: bool, ecn: bool) -> u32 {
    let scale = window_scale.map_or(WINDOW_SCALE_NONE, |shift| u32::from(shift.min(WINDOW_SCALE_MAX)));
    scale | if sack_permitted { SACK } else { 0 } | if ecn { ECN } else { 0 }
}

/// Options from the timestamp that the peer echoes. Whoever answers may have changed them, to no one's harm but its own.
pub fn unpack_options(timestamp: u32) -> CookieOptions {
    let scale = timestamp & WINDOW_SCALE_MASK;
    CookieOptions {
        window_scale: (scale != WINDOW_SCALE_NONE).then_some(scale as u8),
        sack_permitted: timestamp & SACK != 0,
        ecn: timestamp & ECN != 0,
    }
}

/// The latest timestamp not after `timestamp` whose low bits are `packed` ([`pack_options`]): up to 63 ticks earlier, so that those of the
/// connection do not come before it.
pub fn timestamp_with(timestamp: u32, packed: u32) -> u32 {
    timestamp.wrapping_sub(timestamp.wrapping_sub(packed) & OPTION_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const PERIOD_S: u64 = 64;

    fn addr(host: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), port)
    }

    fn at(s: u64) -> Instant {
        Instant::from_millis(s * 1000)
    }

    #[test]
    fn says_the_segment_size() {
        let cookies = SynCookies::new([1, 2]);
        let (local, remote, isn) = (addr(1, 80), addr(2, 5000), SeqNum(77));
        for (mss, said) in [
            (0, 88),
            (87, 88),
            (88, 88),
            (535, 88),
            (536, 536),
            (1219, 536),
            (1399, 1360),
            (1452, 1440),
            (1459, 1440),
            (1460, 1460),
            (8959, 1460),
            (9000, 8960),
            (u16::MAX, 8960),
        ] {
            let cookie = cookies.make(local, remote, isn, mss, at(100));
            assert_eq!(cookies.check(local, remote, isn, cookie, at(100)), Some(said));
        }
    }

    #[test]
    fn expires() {
        let cookies = SynCookies::new([1, 2]);
        let (local, remote, isn) = (addr(1, 80), addr(2, 5000), SeqNum(77));
        let check = |made_s, now_s| {
            cookies.check(local, remote, isn, cookies.make(local, remote, isn, 1460, at(made_s)), at(now_s))
        };
        for start_s in [0, 10 * PERIOD_S] {
            assert_eq!(check(start_s, start_s + 2 * PERIOD_S - 1), Some(1460), "nearly 128 s old");
            assert_eq!(check(start_s, start_s + 2 * PERIOD_S), None);
            assert_eq!(check(start_s + PERIOD_S - 1, start_s + 2 * PERIOD_S - 1), Some(1460), "64 s old");
            assert_eq!(check(start_s, start_s + 33 * PERIOD_S), None, "no counter comes round");
        }
        assert_eq!(check(PERIOD_S, 0), None, "from the future");
    }

    #[test]
    fn is_for_one_peer_and_key() {
        let cookies = SynCookies::new([1, 2]);
        let (local, remote, isn, now) = (addr(1, 80), addr(2, 5000), SeqNum(77), at(5));
        let cookie = cookies.make(local, remote, isn, 1460, now);
        assert_eq!(cookies.check(addr(1, 81), remote, isn, cookie, now), None);
        assert_eq!(cookies.check(addr(3, 80), remote, isn, cookie, now), None);
        assert_eq!(cookies.check(local, addr(2, 5001), isn, cookie, now), None);
        assert_eq!(cookies.check(local, addr(3, 5000), isn, cookie, now), None);
        assert_eq!(cookies.check(local, remote, isn + 1, cookie, now), None);
        assert_eq!(SynCookies::new([2, 1]).check(local, remote, isn, cookie, now), None);
        for bit in 0..32 {
            assert_eq!(cookies.check(local, remote, isn, SeqNum(cookie.0 ^ 1 << bit), now), None, "bit {bit}");
        }
    }

    /// One in 2²⁸ is expected to hit.
    #[test]
    fn guesses_fail() {
        let cookies = SynCookies::new([1, 2]);
        let hits = (0..100_000u32)
            .map(|n| SeqNum(n.wrapping_mul(0x9e37_79b9)))
            .filter(|guess| cookies.check(addr(1, 80), addr(2, 5000), SeqNum(1), *guess, at(1000)).is_some())
            .count();
        assert_eq!(hits, 0);
    }

    #[test]
    fn options_in_a_timestamp() {
        for window_scale in (0..=14).map(Some).chain([None]) {
            for (sack_permitted, ecn) in [(false, false), (false, true), (true, false), (true, true)] {
                let packed = pack_options(window_scale, sack_permitted, ecn);
                assert!(packed <= OPTION_MASK);
                for now in [0, 5, 63, 64, 1_000_001, u32::MAX] {
                    let sent = timestamp_with(now, packed);
                    assert!(now.wrapping_sub(sent) < 64, "not ahead, and not far behind");
                    assert_eq!(unpack_options(sent), CookieOptions { window_scale, sack_permitted, ecn });
                }
            }
        }
        assert_eq!(unpack_options(pack_options(Some(200), false, false)).window_scale, Some(14));
    }

    proptest! {
        #[test]
        fn what_is_made_is_accepted(key: [u64; 2], host: u8, port: u16, isn: u32, mss: u16, ns in 0u64..1 << 62, later_s in 0u64..64) {
            let cookies = SynCookies::new(key);
            let (local, remote, now) = (addr(1, 80), addr(host, port), Instant::from_nanos(ns));
            let cookie = cookies.make(local, remote, SeqNum(isn), mss, now);
            let later = Instant::from_nanos(ns + later_s * 1_000_000_000);
            let said = cookies.check(local, remote, SeqNum(isn), cookie, later);
            prop_assert!(said.is_some_and(|said| said <= mss.max(88)));
        }

        #[test]
        fn any_timestamp(timestamp: u32) {
            prop_assert!(unpack_options(timestamp).window_scale.is_none_or(|shift| shift <= 14));
        }
    }
}
