//! What is known of paths narrower than their first link (RFC 1191).

use crate::time::{Duration, Instant};
use ahash::RandomState;
use hashbrown::HashMap;
use std::net::Ipv4Addr;

/// Smallest believable MTU (RFC 791 section 3.1: every link carries 68 bytes). Less would let a forged message make us send crumbs.
pub const MTU_MIN: u16 = 68;
/// RFC 1191 section 6.3: after ten minutes a larger size is tried again.
const LIFETIME: Duration = Duration::from_secs(600);
/// Destinations remembered: a forged message needs a live flow to match, so few are ever needed.
const ENTRIES_MAX: usize = 1024;

/// Path MTUs by destination.
#[derive(Debug)]
pub struct PathMtus {
    entries: HashMap<Ipv4Addr, (u16, Instant), RandomState>,
}

impl PathMtus {
    /// An empty table under a keyed hash.
    pub fn new(seeds: [u64; 4]) -> Self {
        let state = RandomState::with_seeds(seeds[0], seeds[1], seeds[2], seeds[3]);
        Self { entries: HashMap::with_hasher(state) }
    }

    /// The path's MTU, if it is known to be narrower than the link.
    pub fn get(&mut self, dst: Ipv4Addr, now: Instant) -> Option<u16> {
        let &(mtu, until) = self.entries.get(&dst)?;
        if until <= now {
            self.entries.remove(&dst);
            return None;
        }
        Some(mtu)
    }

    /// Takes note of a "fragmentation needed" message about `dst`; true if that changed anything. A larger MTU than known is not believed.
    pub fn handle_too_big(&mut self, dst: Ipv4Addr, mtu: u16, now: Instant) -> bool {
        let mtu = mtu.max(MTU_MIN);
        if self.get(dst, now).is_some_and(|known| known <= mtu) {
            return false;
        }
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&dst) {
            self.entries.retain(|_, (_, until)| *until > now);
            if self.entries.len() >= ENTRIES_MAX {
                return false;
            }
        }
        self.entries.insert(dst, (mtu, now + LIFETIME));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinks_floors_and_expires() {
        let dst = Ipv4Addr::new(192, 0, 2, 1);
        let mut mtus = PathMtus::new([1, 2, 3, 4]);
        assert_eq!(mtus.get(dst, Instant::ZERO), None);
        assert!(mtus.handle_too_big(dst, 1400, Instant::ZERO));
        assert!(!mtus.handle_too_big(dst, 1450, Instant::ZERO), "larger is not believed");
        assert_eq!(mtus.get(dst, Instant::ZERO), Some(1400));
        assert!(mtus.handle_too_big(dst, 0, Instant::ZERO));
        assert_eq!(mtus.get(dst, Instant::ZERO), Some(MTU_MIN));
        assert_eq!(mtus.get(dst, Instant::ZERO + LIFETIME), None);
    }

    #[test]
    fn is_bounded() {
        let mut mtus = PathMtus::new([1, 2, 3, 4]);
        for host in 0..5_000 {
            mtus.handle_too_big(Ipv4Addr::from_bits(host), 1000, Instant::ZERO);
        }
        assert_eq!(mtus.entries.len(), ENTRIES_MAX);
    }
}
