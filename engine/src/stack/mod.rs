//! One core's stack: ties the protocol machines together.
//!
//! ```text
//!   ingress(batch of RxBuf) ─► Ethernet ─► ARP | IPv4 ─► reassembly ─► ICMP | UDP | raw ─► socket queues, events
//!   (packets that are as nearly all are: `plain`, in one go)
//!   socket calls ─► route ─► neighbour ─► headers into the frame's own head-room ─► egress queue of the interface
//!   poll_timers(now) ─► neighbours, reassembly, application timers
//! ```
//!
//! It knows no port and no clock: a worker hands it received buffers and the time, and takes sealed descriptors from [`Stack::egress`].
#![forbid(unsafe_code)]

mod asked;
mod demux;
mod dest;
mod egress;
mod gossip;
mod iface;
mod ingress;
mod packets;
mod plain;
mod raw;
mod sockets;
mod stray;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;
mod wheel;

pub use asked::Asked;
pub use egress::SendError;
pub use gossip::NeighbourWord;
pub use iface::{IfaceConfig, Interface, NeighbourSource, RxChecksum};
pub use raw::RawHandle;
pub use stray::Stray;
pub use tcp::{ListenerHandle, TcpHandle};
pub use udp::{BindError, UdpHandle};

use crate::{
    buf::{Pool, RxBuf, TxQueue},
    proto::{
        IfaceId,
        fragment::{FragmentConfig, Reassembler},
        ip_id::IpIds,
        neighbour::{NeighbourConfig, TableFull},
        path_mtu::PathMtus,
        rate::TokenBucket,
        route::{Route, RouteError, Routes},
        tcp::TcpConfig,
        udp::RxLimits,
    },
    telemetry::Counters,
    time::{Duration, Instant},
    wire::{Ipv4Net, MacAddr},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use std::{collections::VecDeque, net::Ipv4Addr, ops::RangeInclusive};

/// Timers fired in one turn at most; the rest waits for the next.
const TIMERS_PER_TURN: usize = 64;

/// How soon a blocked connection tries again when nothing else happens.
const RETRY: Duration = Duration::from_micros(100);

/// Limits and tunables of a stack.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// Seed of everything that must not be guessed: hashes, ports, identifications. From the system's random source in production.
    pub seed: [u8; 32],
    /// Ports for sockets that do not choose one (RFC 6335: the dynamic range).
    pub ephemeral_ports: RangeInclusive<u16>,
    /// Most UDP sockets.
    pub udp_sockets_max: usize,
    /// Most raw sockets. Each gets a copy of what it hears, but one.
    pub raw_sockets_max: usize,
    /// Receive limits of new UDP and raw sockets.
    pub udp_rx_limits: RxLimits,
    /// ICMP errors per second, and how many at once.
    pub icmp_errors_per_s: u32,
    /// See `icmp_errors_per_s`.
    pub icmp_errors_burst: u32,
    /// ARP tunables.
    pub neighbours: NeighbourConfig,
    /// Reassembly tunables.
    pub fragments: FragmentConfig,
    /// TCP limits, and what its connections begin with.
    pub tcp: TcpConfig,
}

impl StackConfig {
    /// The defaults with the given seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            ephemeral_ports: 49_152..=65_535,
            udp_sockets_max: 65_536,
            raw_sockets_max: 256,
            udp_rx_limits: RxLimits::default(),
            icmp_errors_per_s: 1_000,
            icmp_errors_burst: 50,
            neighbours: NeighbourConfig::default(),
            fragments: FragmentConfig::default(),
            tcp: TcpConfig::default(),
        }
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimerKey {
    Neighbours(IfaceId),
    Reassembly,
    Announce(IfaceId),
    App(u64),
    /// A connection, by its number.
    Tcp(u32),
    /// A half-open connection, by its number.
    TcpHalfOpen(u32),
    TcpTimeWait,
}

/// Something that an application wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackEvent {
    /// The socket has datagrams to receive. Told again each turn while it has.
    UdpReadable(UdpHandle),
    /// A send that would have blocked may be tried again.
    UdpWritable(UdpHandle),
    /// The network reported an error for the socket; its next call returns it.
    UdpError(UdpHandle),
    /// As [`UdpReadable`](Self::UdpReadable), of a raw socket.
    RawReadable(RawHandle),
    /// As [`UdpWritable`](Self::UdpWritable), of a raw socket.
    RawWritable(RawHandle),
    /// As [`UdpError`](Self::UdpError), of a raw socket.
    RawError(RawHandle),
    /// A timer of the application is due.
    Timer(u64),
    /// A connection has events: take them with [`Stack::tcp_poll_event`].
    Tcp(TcpHandle),
    /// A listener has connections to accept.
    TcpAcceptable(ListenerHandle),
}

/// One core's protocol stack.
#[derive(Debug)]
pub struct Stack {
    pool: Pool,
    now: Instant,
    ifaces: Vec<Interface>,
    routes: Routes,
    dest: dest::DestCache,
    path_mtus: PathMtus,
    udp: udp::UdpTable,
    raw: raw::RawTable,
    tcp: tcp::TcpTable,
    reassembler: Reassembler,
    ip_ids: IpIds,
    icmp_errors: TokenBucket,
    timers: wheel::Wheel<TimerKey>,
    due: Vec<TimerKey>,
    events: VecDeque<StackEvent>,
    /// `None`: nobody wants them.
    words: Option<Vec<NeighbourWord>>,
    asked: Option<Vec<Asked>>,
    strays: Option<stray::Strays>,
    rng: ChaCha8Rng,
    config: StackConfig,
    /// Counts so far.
    pub counters: Counters,
}

impl Stack {
    /// A stack whose buffers come from `pool`; the clock shows `now`.
    pub fn new(pool: Pool, config: StackConfig, now: Instant) -> Self {
        let mut rng = ChaCha8Rng::from_seed(config.seed);
        let mut seeds = || [rng.next_u64(), rng.next_u64(), rng.next_u64(), rng.next_u64()];
        Self {
            routes: Routes::new(seeds()),
            dest: dest::DestCache::new(seeds()[0]),
            path_mtus: PathMtus::new(seeds()),
            udp: udp::UdpTable::new(seeds()),
            raw: raw::RawTable::new(),
            tcp: tcp::TcpTable::new(&mut seeds, &config.tcp, pool.data_frames()),
            reassembler: Reassembler::new(config.fragments.clone(), seeds()),
            ip_ids: IpIds::new(seeds()),
            icmp_errors: TokenBucket::new(config.icmp_errors_per_s, config.icmp_errors_burst),
            timers: wheel::Wheel::new(now),
            due: Vec::with_capacity(TIMERS_PER_TURN),
            events: VecDeque::new(),
            words: None,
            asked: None,
            strays: None,
            ifaces: Vec::new(),
            counters: Counters::default(),
            pool,
            now,
            rng,
            config,
        }
    }

    /// The frames' pool.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The time as of the last call that brought one.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Moves the clock; it never runs backwards.
    pub fn set_now(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Adds an interface with its on-link routes and announces its addresses.
    pub fn add_interface(&mut self, config: IfaceConfig) -> Result<IfaceId, RouteError> {
        let id = IfaceId(u8::try_from(self.ifaces.len()).map_err(|_| RouteError::Full)?);
        let seeds = [self.rng.next_u64(), self.rng.next_u64(), self.rng.next_u64(), self.rng.next_u64()];
        let addresses = config.addresses.clone();
        self.ifaces.push(Interface::new(config, self.config.neighbours.clone(), seeds));
        for net in addresses {
            self.add_address(id, net)?;
        }
        Ok(id)
    }

    /// Gives an interface one more address: its network becomes on-link, and it is announced (RFC 5227 section 2.3).
    ///
    /// # Errors
    /// The routing table is full.
    pub fn add_address(&mut self, id: IfaceId, net: Ipv4Net) -> Result<(), RouteError> {
        let on_link = Ipv4Net::new(net.network(), net.prefix_len()).unwrap_or(net);
        match self.routes.add(Route { net: on_link, next_hop: None, iface: id, source: Some(net.addr()), metric: 0 }) {
            // Two addresses in one network share its route.
            Ok(()) | Err(RouteError::Duplicate) => {}
            Err(full) => return Err(full),
        }
        let iface = &mut self.ifaces[usize::from(id.0)];
        iface.forget_taken();
        if !iface.addresses.contains(&net) {
            iface.addresses.push(net);
        }
        iface.announcements_left = iface::ANNOUNCEMENTS;
        self.timers.arm(self.now, TimerKey::Announce(id));
        Ok(())
    }

    /// Takes an address away from an interface, with its on-link route if no other address needs it.
    pub fn remove_address(&mut self, id: IfaceId, addr: Ipv4Addr) -> bool {
        let Some(iface) = self.ifaces.get_mut(usize::from(id.0)) else { return false };
        let Some(at) = iface.addresses.iter().position(|net| net.addr() == addr) else { return false };
        iface.forget_taken();
        let net = iface.addresses.remove(at);
        if !iface
            .addresses
            .iter()
            .any(|other| other.network() == net.network() && other.prefix_len() == net.prefix_len())
            && let Some(on_link) = Ipv4Net::new(net.network(), net.prefix_len())
        {
            self.routes.remove(on_link, None);
        }
        self.dest.clear();
        true
    }

    /// Changes the largest IP packet that an interface sends, in bytes. False if there is no such interface.
    pub fn set_mtu(&mut self, id: IfaceId, mtu: usize) -> bool {
        let Some(iface) = self.ifaces.get_mut(usize::from(id.0)) else { return false };
        iface.mtu = mtu;
        self.dest.clear();
        self.tcp_mtu_changed(id);
        true
    }

    /// Configures the neighbour `ip` to be at `mac`, whatever ARP says. Packets that wait for it are dropped and counted.
    ///
    /// # Errors
    /// The interface's neighbour cache is full, or there is no such interface.
    pub fn add_static_neighbour(&mut self, id: IfaceId, ip: Ipv4Addr, mac: MacAddr) -> Result<(), TableFull> {
        let iface = self.ifaces.get_mut(usize::from(id.0)).ok_or(TableFull)?;
        let waiting = iface.neighbours.parked();
        iface.neighbours.add_static(ip, mac)?;
        self.counters.drop_tx_neighbour_queue += (waiting - iface.neighbours.parked()) as u64;
        Ok(())
    }

    /// Adds a route.
    ///
    /// # Errors
    /// The table is full or has it.
    pub fn add_route(&mut self, route: Route) -> Result<(), RouteError> {
        self.routes.add(route)
    }

    /// Removes a route; false if there is none such.
    pub fn remove_route(&mut self, net: Ipv4Net, next_hop: Option<Ipv4Addr>) -> bool {
        self.routes.remove(net, next_hop)
    }

    /// All routes.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// All interfaces, in the order of their numbers.
    pub fn interfaces(&self) -> &[Interface] {
        &self.ifaces
    }

    /// An interface to change.
    pub fn interface_mut(&mut self, id: IfaceId) -> Option<&mut Interface> {
        let iface = self.ifaces.get_mut(usize::from(id.0))?;
        // What it takes may change, and what is remembered of ways through it.
        iface.forget_taken();
        self.dest.clear();
        Some(iface)
    }

    /// Sealed descriptors that wait for an interface's port.
    pub fn egress(&mut self, id: IfaceId) -> &mut TxQueue {
        &mut self.ifaces[usize::from(id.0)].egress
    }

    /// Handles a batch of received frames of one interface. Takes all of them.
    pub fn ingress(&mut self, now: Instant, id: IfaceId, batch: &mut Vec<RxBuf>) {
        self.set_now(now);
        let mut frames = batch.drain(..);
        loop {
            if self.handle_plain(id, &mut frames) {
                continue;
            }
            self.list_taken();
            let Some(frame) = frames.next() else { break };
            self.handle_frame(id, frame);
        }
    }

    /// Fires due timers, a bounded number; returns how many.
    pub fn poll_timers(&mut self, now: Instant) -> usize {
        self.set_now(now);
        let mut due = std::mem::take(&mut self.due);
        let fired = self.timers.expire(self.now, TIMERS_PER_TURN, &mut due);
        for key in due.drain(..) {
            match key {
                TimerKey::Neighbours(id) => self.neighbour_timer(id),
                TimerKey::Reassembly => self.reassembly_timer(),
                TimerKey::Announce(id) => self.announce(id),
                TimerKey::App(token) => self.events.push_back(StackEvent::Timer(token)),
                TimerKey::Tcp(index) => self.tcp_timer(index),
                TimerKey::TcpHalfOpen(index) => self.half_open_timer(index),
                TimerKey::TcpTimeWait => self.time_wait_timer(),
            }
        }
        self.due = due;
        fired
    }

    /// When [`poll_timers`](Self::poll_timers) has something to do next, at the earliest.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.tcp.has_ready() {
            // A connection waits for room or for a frame that the kernel has: soon.
            return Some(self.now + RETRY);
        }
        self.timers.next_deadline()
    }

    /// Asks for a [`StackEvent::Timer`] with `token` after `delay`.
    pub fn set_app_timer(&mut self, delay: Duration, token: u64) {
        self.timers.arm(self.now + delay, TimerKey::App(token));
    }

    /// Takes the next event. Worker and application take at most as many as there were when the turn began, see [`event_count`](Self::event_count).
    #[inline]
    pub fn next_event(&mut self) -> Option<StackEvent> {
        while let Some(event) = self.events.pop_front() {
            let current = match event {
                StackEvent::Tcp(_) | StackEvent::TcpAcceptable(_) => self.tcp.event_is_current(event),
                StackEvent::UdpReadable(handle) => self.udp.sockets.readable_is_current(handle),
                StackEvent::UdpError(handle) => self.udp.sockets.error_is_current(handle),
                StackEvent::UdpWritable(handle) => self.udp.sockets.get(handle).is_some(),
                StackEvent::RawReadable(handle) => self.raw.sockets.readable_is_current(handle),
                StackEvent::RawError(handle) => self.raw.sockets.error_is_current(handle),
                StackEvent::RawWritable(handle) => self.raw.sockets.get(handle).is_some(),
                _ => true,
            };
            if current {
                return Some(event);
            }
        }
        None
    }

    /// Events that wait.
    #[inline]
    pub fn event_count(&self) -> usize {
        self.events.len()
    }

    /// Some egress queue got room again: sockets that were refused hear of it. The worker calls it after it has handed descriptors to the port.
    #[inline]
    pub fn egress_drained(&mut self, id: IfaceId) {
        let egress = &self.ifaces[usize::from(id.0)].egress;
        if (self.udp.sockets.has_blocked() || self.raw.sockets.has_blocked()) && egress.room() * 2 >= egress.limit() {
            self.udp.sockets.unblock(&mut self.events);
            self.raw.sockets.unblock(&mut self.events);
        }
    }

    /// To be called when devices keep [more or fewer frames](crate::buf::Pool::set_lent_frames) than before.
    pub fn lent_frames_changed(&mut self) {
        self.tcp.set_data_frames(self.pool.data_frames());
    }

    /// A number from the stack's random source, for applications and services.
    pub fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Frames, neighbours and reassembly in use, for `stats`.
    pub fn usage(&self) -> Usage {
        Usage {
            udp_sockets: self.udp.sockets.len(),
            raw_sockets: self.raw.sockets.len(),
            tcp_connections: self.tcp.len(),
            tcp_half_open: self.tcp.half_open_len(),
            tcp_time_wait: self.tcp.time_wait_len(),
            tcp_rx_frames: self.tcp.rx_frames,
            neighbours: self.ifaces.iter().map(|iface| iface.neighbours.len()).sum(),
            neighbours_parked: self.ifaces.iter().map(|iface| iface.neighbours.parked()).sum(),
            routes: self.routes.iter().count(),
            reassembly_frames: self.reassembler.frames_held(),
            reassembly_fragments: self.reassembler.fragments_held(),
            timers: self.timers.len(),
        }
    }
}

/// How much of what is bounded is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Open UDP sockets.
    pub udp_sockets: usize,
    /// Open raw sockets.
    pub raw_sockets: usize,
    /// TCP connections, those in TIME-WAIT apart.
    pub tcp_connections: usize,
    /// Connections whose handshake is under way.
    pub tcp_half_open: usize,
    /// Connections in TIME-WAIT.
    pub tcp_time_wait: usize,
    /// Frames held by received TCP data.
    pub tcp_rx_frames: u32,
    /// Entries of all neighbour caches.
    pub neighbours: usize,
    /// Packets that wait for a neighbour's answer.
    pub neighbours_parked: usize,
    /// Routes.
    pub routes: usize,
    /// Frames held by reassembly.
    pub reassembly_frames: usize,
    /// Fragments that those are.
    pub reassembly_fragments: usize,
    /// Armed timers.
    pub timers: usize,
}
