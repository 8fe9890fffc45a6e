//! Which socket a packet is for: hash look-ups under a key that peers do not know.

use ahash::RandomState;
use hashbrown::HashMap;
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    num::NonZeroU32,
};

/// Places of [`Recent`]: so many flows that take turns stay fast.
const RECENT: usize = 64;

/// What was found lately: a direct-mapped cache of a table's answers. Two keys in one place cost a look into the table, no more.
#[derive(Debug)]
struct Recent(Box<[(u128, u32); RECENT]>);

impl Recent {
    /// No key is that long.
    const NONE: (u128, u32) = (u128::MAX, 0);

    fn new() -> Self {
        Self(Box::new([Self::NONE; RECENT]))
    }

    /// By addresses and ports, of which peers choose the lower bits anyhow.
    #[inline(always)]
    fn place(&mut self, key: u128) -> &mut (u128, u32) {
        &mut self.0[(key as usize ^ (key >> 16) as usize ^ (key >> 64) as usize) % RECENT]
    }

    /// What `look` found for `key`, now or before.
    #[inline(always)]
    fn find(&mut self, key: u128, look: impl FnOnce() -> Option<u32>) -> Option<u32> {
        let place = self.place(key);
        if place.0 == key {
            return Some(place.1);
        }
        let socket = look()?;
        *place = (key, socket);
        Some(socket)
    }

    /// The answer for `key` may have changed.
    fn forget(&mut self, key: u128) {
        *self.place(key) = Self::NONE;
    }

    fn forget_all(&mut self) {
        self.0.fill(Self::NONE);
    }
}

/// Bound and connected endpoints of one protocol.
#[derive(Debug)]
pub(super) struct Demux {
    /// Sockets bound to a port of all addresses, by port: one load for the usual server.
    any: Box<[Option<NonZeroU32>]>,
    /// (local address, local port).
    bound: HashMap<u64, u32, RandomState>,
    /// See [`connected_key`].
    connected: HashMap<u128, u32, RandomState>,
    /// Answers of `connected`.
    recent_connected: Recent,
    /// Answers of [`find_bound`](Self::find_bound).
    recent_bound: Recent,
    /// How many bound sockets have a port.
    ports: HashMap<u16, u32, RandomState>,
}

fn bound_key(local: SocketAddrV4) -> u64 {
    u64::from(local.ip().to_bits()) << 16 | u64::from(local.port())
}

/// In the order of a received packet's headers: remote and local address, remote and local port.
fn connected_key(local: SocketAddrV4, remote: SocketAddrV4) -> u128 {
    let addresses = u64::from(remote.ip().to_bits()) << 32 | u64::from(local.ip().to_bits());
    let ports = u32::from(remote.port()) << 16 | u32::from(local.port());
    packet_key(addresses, ports)
}

/// The same of a packet's source and destination addresses and ports.
#[inline(always)]
fn packet_key(addresses: u64, ports: u32) -> u128 {
    u128::from(addresses) << 32 | u128::from(ports)
}

impl Demux {
    pub(super) fn new(seeds: [u64; 4]) -> Self {
        let state = || RandomState::with_seeds(seeds[0], seeds[1], seeds[2], seeds[3]);
        Self {
            any: vec![None; 1 << 16].into(),
            bound: HashMap::with_hasher(state()),
            connected: HashMap::with_hasher(state()),
            recent_connected: Recent::new(),
            recent_bound: Recent::new(),
            ports: HashMap::with_hasher(state()),
        }
    }

    /// The socket for a packet from `remote` to `local`: connected before bound to the address before bound to any.
    #[inline(always)]
    pub(super) fn find(&self, local: SocketAddrV4, remote: SocketAddrV4) -> Option<u32> {
        if !self.connected.is_empty()
            && let Some(&socket) = self.connected.get(&connected_key(local, remote))
        {
            return Some(socket);
        }
        if !self.bound.is_empty()
            && let Some(&socket) = self.bound.get(&bound_key(local))
        {
            return Some(socket);
        }
        self.any[usize::from(local.port())].map(|socket| socket.get() - 1)
    }

    /// The socket bound to `local`: to the address before to any.
    pub(super) fn find_bound(&self, local: SocketAddrV4) -> Option<u32> {
        find_bound(&self.any, &self.bound, local)
    }

    /// Some socket has `local`, or has its port at any address while `local` is one, or the other way round.
    pub(super) fn is_taken(&self, local: SocketAddrV4) -> bool {
        if local.ip().is_unspecified() {
            return self.port_in_use(local.port());
        }
        self.bound.contains_key(&bound_key(local)) || self.any[usize::from(local.port())].is_some()
    }

    /// Some socket has the port, at whatever address.
    pub(super) fn port_in_use(&self, port: u16) -> bool {
        self.ports.contains_key(&port)
    }

    pub(super) fn bind(&mut self, local: SocketAddrV4, socket: u32) {
        self.recent_bound.forget_all();
        let old = if local.ip().is_unspecified() {
            self.any[usize::from(local.port())].replace(NonZeroU32::MIN.saturating_add(socket)).map(NonZeroU32::get)
        } else {
            self.bound.insert(bound_key(local), socket)
        };
        if old.is_none() {
            *self.ports.entry(local.port()).or_default() += 1;
        }
    }

    pub(super) fn unbind(&mut self, local: SocketAddrV4) {
        self.recent_bound.forget_all();
        let old = if local.ip().is_unspecified() {
            self.any[usize::from(local.port())].take().map(NonZeroU32::get)
        } else {
            self.bound.remove(&bound_key(local))
        };
        if old.is_some()
            && let Some(count) = self.ports.get_mut(&local.port())
        {
            *count -= 1;
            if *count == 0 {
                self.ports.remove(&local.port());
            }
        }
    }

    pub(super) fn connect(&mut self, local: SocketAddrV4, remote: SocketAddrV4, socket: u32) {
        let key = connected_key(local, remote);
        self.recent_connected.forget(key);
        self.connected.insert(key, socket);
    }

    pub(super) fn disconnect(&mut self, local: SocketAddrV4, remote: SocketAddrV4) {
        let key = connected_key(local, remote);
        self.recent_connected.forget(key);
        self.connected.remove(&key);
    }

    pub(super) fn find_connected(&self, local: SocketAddrV4, remote: SocketAddrV4) -> Option<u32> {
        self.connected.get(&connected_key(local, remote)).copied()
    }

    /// As [`find`](Self::find), for a packet with these source and destination addresses and ports: packets come in trains, so recent answers are tried
    /// first.
    #[inline(always)]
    pub(super) fn find_again(&mut self, addresses: u64, ports: u32) -> Option<u32> {
        if !self.connected.is_empty()
            && let Some(socket) = self.find_connected_again(addresses, ports)
        {
            return Some(socket);
        }
        let local = SocketAddrV4::new(Ipv4Addr::from_bits(addresses as u32), ports as u16);
        let Self { any, bound, recent_bound, .. } = self;
        recent_bound.find(bound_key(local).into(), || find_bound(any, bound, local))
    }

    /// The same of connected sockets only.
    #[inline(always)]
    pub(super) fn find_connected_again(&mut self, addresses: u64, ports: u32) -> Option<u32> {
        let key = packet_key(addresses, ports);
        let Self { connected, recent_connected, .. } = self;
        recent_connected.find(key, || connected.get(&key).copied())
    }
}

/// The socket bound to `local`: to the address before to any.
fn find_bound(any: &[Option<NonZeroU32>], bound: &HashMap<u64, u32, RandomState>, local: SocketAddrV4) -> Option<u32> {
    let to_address = bound.get(&bound_key(local)).copied();
    to_address.or_else(|| any[usize::from(local.port())].map(|socket| socket.get() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(host: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), port)
    }

    #[test]
    fn the_most_specific_socket_wins() {
        let any = |port| SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
        let mut demux = Demux::new([1, 2, 3, 4]);
        assert_eq!(demux.find(at(1, 7), at(2, 9)), None);
        demux.bind(any(7), 1);
        assert_eq!(demux.find(at(1, 7), at(2, 9)), Some(1));
        demux.connect(at(1, 7), at(2, 9), 2);
        assert_eq!(demux.find(at(1, 7), at(2, 9)), Some(2));
        assert_eq!(demux.find(at(1, 7), at(2, 8)), Some(1));
        demux.disconnect(at(1, 7), at(2, 9));
        demux.unbind(any(7));
        demux.bind(at(1, 7), 3);
        assert_eq!(demux.find(at(1, 7), at(2, 9)), Some(3));
        assert_eq!(demux.find(at(4, 7), at(2, 9)), None);
        assert!(demux.is_taken(at(1, 7)) && demux.is_taken(any(7)) && !demux.is_taken(at(4, 7)));
    }

    proptest! {
        /// More endpoints than places, which come and go: what was found lately is never told when it holds no more.
        #[test]
        fn recent_answers_are_true(steps in prop::collection::vec((0usize..6, 1u8..8, 1u16..40, 0u32..9), 1..400)) {
            let mut demux = Demux::new([1, 2, 3, 4]);
            for (step, host, port, socket) in steps {
                let (local, remote) = (at(1, port % 3), at(host, port));
                let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port % 3);
                match step {
                    0 => demux.connect(local, remote, socket),
                    1 => demux.disconnect(local, remote),
                    2 => demux.bind(if host > 3 { any } else { local }, socket),
                    3 => demux.unbind(if host > 3 { any } else { local }),
                    _ => {}
                }
                for (host, port) in [(host, port), (2, 7), (3, 8), (2, 9)] {
                    let (local, remote) = (at(1, port % 3), at(host, port));
                    let key = connected_key(local, remote);
                    let found = demux.find_again((key >> 32) as u64, key as u32);
                    prop_assert_eq!(found, demux.find(local, remote));
                }
            }
        }
    }
}
