//! Where a destination is reached: longest prefix match (RFC 1122 section 3.3.1, RFC 1812 section 5.2.4.3).

use super::IfaceId;
use crate::wire::Ipv4Net;
use ahash::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::net::Ipv4Addr;

/// Most routes in a table.
pub const ROUTES_MAX: usize = 4096;

/// One way to a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destinations it is for.
    pub net: Ipv4Net,
    /// The router to send to; `None`: the destinations are on the link.
    pub next_hop: Option<Ipv4Addr>,
    /// The interface to send from.
    pub iface: IfaceId,
    /// The source address to prefer.
    pub source: Option<Ipv4Addr>,
    /// The lowest wins among routes of one network.
    pub metric: u32,
}

/// Why a route was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There are [`ROUTES_MAX`] routes.
    #[error("the routing table is full ({ROUTES_MAX} routes): remove some, or aggregate their prefixes")]
    Full,
    /// A route to this network through this next hop is already there.
    #[error("a route to this network through this next hop exists: remove it first")]
    Duplicate,
    /// Nobody can be reached at this address.
    #[error("next hop {0} is not the address of one host")]
    NextHop(Ipv4Addr),
}

/// A routing table. A lookup costs one hash probe per prefix length that occurs, however many routes there are.
#[derive(Debug)]
pub struct Routes {
    /// By network, lowest metric first.
    nets: HashMap<(u32, u8), SmallVec<[Route; 1]>, RandomState>,
    /// Number of networks of each prefix length, and a bit for each length that has any.
    nets_of_len: [u16; 33],
    lens: u64,
    count: usize,
    epoch: u64,
}

impl Routes {
    /// An empty table; `hash_seeds` are secret.
    pub fn new(hash_seeds: [u64; 4]) -> Self {
        let [a, b, c, d] = hash_seeds;
        let nets = HashMap::with_hasher(RandomState::with_seeds(a, b, c, d));
        Self { nets, nets_of_len: [0; 33], lens: 0, count: 0, epoch: 0 }
    }

    /// Adds a route. Host bits of its network are ignored.
    ///
    /// # Errors
    /// See [`RouteError`]; nothing changed then.
    pub fn add(&mut self, route: Route) -> Result<(), RouteError> {
        let Route { net, next_hop, .. } = route;
        if let Some(hop) = next_hop
            && (hop.is_unspecified() || hop.is_multicast() || hop.is_broadcast())
        {
            return Err(RouteError::NextHop(hop));
        }
        if self.get(net).iter().any(|other| other.next_hop == next_hop) {
            return Err(RouteError::Duplicate);
        }
        if self.count >= ROUTES_MAX {
            return Err(RouteError::Full);
        }
        let len = net.prefix_len();
        let routes = self.nets.entry(key(net)).or_default();
        if routes.is_empty() {
            self.nets_of_len[usize::from(len)] += 1;
            self.lens |= 1 << len;
        }
        let at = routes.partition_point(|other| other.metric <= route.metric);
        routes.insert(at, Route { net: Ipv4Net::new(net.network(), len).unwrap_or(net), ..route });
        self.count += 1;
        self.epoch += 1;
        Ok(())
    }

    /// Removes the route to `net` through `next_hop`; false if there is none.
    pub fn remove(&mut self, net: Ipv4Net, next_hop: Option<Ipv4Addr>) -> bool {
        let Some(routes) = self.nets.get_mut(&key(net)) else { return false };
        let Some(at) = routes.iter().position(|route| route.next_hop == next_hop) else { return false };
        routes.remove(at);
        if routes.is_empty() {
            self.nets.remove(&key(net));
            let left = &mut self.nets_of_len[usize::from(net.prefix_len())];
            *left -= 1;
            if *left == 0 {
                self.lens &= !(1 << net.prefix_len());
            }
        }
        self.count -= 1;
        self.epoch += 1;
        true
    }

    /// The route to `dst`: of the longest prefix, then of the lowest metric, then the one added first.
    #[inline]
    pub fn lookup(&self, dst: Ipv4Addr) -> Option<&Route> {
        let mut lens = self.lens;
        while lens != 0 {
            let len = lens.ilog2();
            lens &= !(1 << len);
            let mask = u32::MAX.checked_shl(32 - len).unwrap_or(0);
            if let Some(routes) = self.nets.get(&(dst.to_bits() & mask, len as u8)) {
                return routes.first();
            }
        }
        None
    }

    /// All routes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.nets.values().flatten()
    }

    /// Number of routes.
    pub fn len(&self) -> usize {
        self.count
    }

    /// There are no routes.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Changes whenever an answer of [`lookup`](Self::lookup) may have changed: what was cached under another epoch must be looked up again.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    fn get(&self, net: Ipv4Net) -> &[Route] {
        self.nets.get(&key(net)).map_or(&[], |routes| routes)
    }
}

fn key(net: Ipv4Net) -> (u32, u8) {
    (net.network().to_bits(), net.prefix_len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route(net: &str, hop: Option<&str>, metric: u32) -> Route {
        let next_hop = hop.map(|hop| hop.parse().unwrap());
        Route { net: net.parse().unwrap(), next_hop, iface: IfaceId(0), source: None, metric }
    }

    fn table(routes: &[Route]) -> Routes {
        let mut table = Routes::new([1, 2, 3, 4]);
        for &route in routes {
            table.add(route).unwrap();
        }
        table
    }

    fn hop(table: &Routes, dst: &str) -> Option<String> {
        table.lookup(dst.parse().unwrap()).map(|r| r.next_hop.map_or("link".into(), |hop| hop.to_string()))
    }

    #[test]
    fn longest_prefix_then_metric() {
        let mut t = table(&[
            route("0.0.0.0/0", Some("10.0.0.254"), 5),
            route("0.0.0.0/0", Some("10.0.0.253"), 4),
            route("10.0.0.9/24", None, 9),
            route("10.0.0.7/32", Some("10.0.0.2"), 9),
        ]);
        assert_eq!(hop(&t, "8.8.8.8").unwrap(), "10.0.0.253");
        assert_eq!(hop(&t, "10.0.0.1").unwrap(), "link");
        assert_eq!(hop(&t, "10.0.0.7").unwrap(), "10.0.0.2");
        assert!(t.remove("0.0.0.0/0".parse().unwrap(), Some("10.0.0.253".parse().unwrap())));
        assert_eq!(hop(&t, "8.8.8.8").unwrap(), "10.0.0.254");
        assert!(t.remove("10.0.0.1/24".parse().unwrap(), None), "host bits do not matter");
        assert_eq!(hop(&t, "10.0.0.1").unwrap(), "10.0.0.254");
        assert!(!t.remove("10.0.0.0/24".parse().unwrap(), None));
        assert!(t.remove("0.0.0.0/0".parse().unwrap(), Some("10.0.0.254".parse().unwrap())));
        assert_eq!(hop(&t, "10.0.0.1"), None);
        assert_eq!((t.len(), t.epoch()), (1, 7));
    }

    #[test]
    fn refusals_change_nothing() {
        let mut t = table(&[route("10.0.0.0/24", None, 1)]);
        let epoch = t.epoch();
        let again = route("10.0.0.3/24", None, 2);
        assert_eq!(t.add(again), Err(RouteError::Duplicate));
        for bad in ["0.0.0.0", "255.255.255.255", "224.0.0.1"] {
            assert_eq!(t.add(route("1.0.0.0/8", Some(bad), 1)), Err(RouteError::NextHop(bad.parse().unwrap())));
        }
        assert_eq!((t.len(), t.epoch()), (1, epoch));
        for n in 1..ROUTES_MAX as u32 {
            let net = Ipv4Net::new(Ipv4Addr::from_bits(n << 8), 24).unwrap();
            t.add(Route { net, ..route("0.0.0.0/0", None, 1) }).unwrap();
        }
        assert_eq!(t.add(route("9.9.9.9/32", None, 1)), Err(RouteError::Full));
        assert_eq!(t.iter().count(), ROUTES_MAX);
    }

    proptest! {
        /// Against a list that is scanned. Few bits of address, so that networks nest and repeat.
        #[test]
        fn agrees_with_a_scan(ops in prop::collection::vec((any::<bool>(), 0u32..16, 0u8..=32, 0u8..3, 0u32..3), 1..80), dsts in prop::collection::vec(0u32..16, 20)) {
            let spread = |bits: u32| Ipv4Addr::from_bits((bits & 3) | (bits >> 2) << 30);
            let mut table = Routes::new([1, 2, 3, 4]);
            let mut list: Vec<Route> = Vec::new();
            for (add, bits, len, hop, metric) in ops {
                let net = Ipv4Net::new(spread(bits), len).unwrap();
                let next_hop = (hop > 0).then(|| Ipv4Addr::new(10, 0, 0, hop));
                let same = |r: &Route| (r.net.network(), r.net.prefix_len(), r.next_hop) == (net.network(), len, next_hop);
                let at = list.iter().position(same);
                let epoch = table.epoch();
                if add {
                    let route = Route { net, next_hop, iface: IfaceId(1), source: None, metric };
                    prop_assert_eq!(table.add(route).is_ok(), at.is_none());
                    if at.is_none() { list.push(route); }
                } else {
                    prop_assert_eq!(table.remove(net, next_hop), at.is_some());
                    if let Some(at) = at { list.remove(at); }
                }
                prop_assert_eq!(table.epoch() != epoch, add == at.is_none());
                prop_assert_eq!(table.len(), list.len());
            }
            for dst in dsts {
                let dst = spread(dst);
                let want = list.iter().filter(|r| r.net.contains(dst)).map(|r| (r.net.prefix_len(), std::cmp::Reverse(r.metric))).max();
                let got = table.lookup(dst).map(|r| (r.net.prefix_len(), std::cmp::Reverse(r.metric)));
                prop_assert_eq!(got, want);
            }
        }
    }
}
