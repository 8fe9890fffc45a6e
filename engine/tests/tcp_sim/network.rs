//! Hosts joined by links, in virtual time: an event queue and nothing else.
//!
//! A host is a [`Stack`], a program and a NIC. The NIC takes descriptors from the egress queue as a kernel would: it posts them, reads their bytes, and
//! completes them some time later. Until then nobody may write them, so what they say at completion is compared with what they said when posted.

use crate::{
    link::{Fate, LinkConfig, LinkCounts, Pipe, fragmentation_needed},
    random::Random,
};
use framewire::{
    buf::{HugePages, Ledger, Pool, PoolConfig, Region, RxBuf},
    proto::{IfaceId, tcp::Ecn},
    socket::{App, Net, Work, drive},
    stack::{IfaceConfig, Stack, StackConfig},
    telemetry::Counters,
    time::{Duration, Instant},
    wire::{MacAddr, ethernet},
};
use std::{cmp::Reverse, collections::BinaryHeap, net::Ipv4Addr};

pub(crate) const IFACE: IfaceId = IfaceId(0);
const ROUTER: [u8; 4] = [10, 0, 0, 254];
/// When a host whose program did something is turned next.
const TURN: Duration = Duration::from_micros(10);

/// What a host is made of.
#[derive(Clone, Debug)]
pub(crate) struct HostConfig {
    pub(crate) frames: usize,
    pub(crate) chunk_bytes: usize,
    pub(crate) pool: PoolConfig,
    pub(crate) mtu: usize,
    /// Most descriptors of a packet.
    pub(crate) tx_pieces_max: usize,
    /// Descriptors that the NIC holds at most.
    pub(crate) nic_descriptors_max: usize,
    /// How long it holds one; with `nic_jitter` up to that much longer, so that completions come out of order.
    pub(crate) nic_time: Duration,
    pub(crate) nic_jitter: Duration,
    /// What comes is looked at this often, so that it is handled in batches; zero: at once.
    pub(crate) poll_every: Duration,
    pub(crate) ecn: Ecn,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            frames: 4096,
            chunk_bytes: 2048,
            pool: PoolConfig { rx_reserve_frames: 512, run_frames: 1024 },
            mtu: 1500,
            tx_pieces_max: 17,
            nic_descriptors_max: 256,
            nic_time: Duration::from_micros(5),
            nic_jitter: Duration::ZERO,
            poll_every: Duration::ZERO,
            ecn: Ecn::default(),
        }
    }
}

pub(crate) struct Host {
    pub(crate) stack: Stack,
    pub(crate) addr: Ipv4Addr,
    mac: MacAddr,
    app: Box<dyn App>,
    config: HostConfig,
    received: Vec<RxBuf>,
    in_nic: usize,
    /// The largest MTU since something began to wait for the NIC.
    mtu_max: usize,
    random: Random,
    /// Its program has more to do, or packets or completions came.
    turn_at: Option<Instant>,
    pub(crate) no_frame_for_rx: u64,
}

impl Host {
    pub(crate) fn net(&mut self) -> Net<'_> {
        Net::new(&mut self.stack)
    }

    /// Something has come.
    fn wake(&mut self, now: Instant) {
        let every_ns = self.config.poll_every.as_nanos() as u64;
        let at = if every_ns == 0 { now } else { Instant::from_nanos(now.as_nanos().next_multiple_of(every_ns)) };
        self.turn_at = Some(self.turn_at.map_or(at, |turn_at| turn_at.min(at)));
    }

    /// Whether the NIC may be given a packet of so many bytes: one of an MTU that was since lowered may still have waited.
    fn takes(&mut self, ip_bytes: usize) -> bool {
        let mtu = self.stack.interfaces()[usize::from(IFACE.0)].mtu;
        self.mtu_max = self.mtu_max.max(mtu);
        let takes = ip_bytes <= self.mtu_max;
        if self.stack.egress(IFACE).is_empty() {
            self.mtu_max = mtu;
        }
        takes
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        // A timer that is due and was not fired waits for the next turn, not for this one.
        let timer = self.stack.next_deadline().map(|at| if at <= now { now + TURN } else { at });
        [self.turn_at, timer].into_iter().flatten().min()
    }
}

enum What {
    Arrives { frame: Vec<u8>, host: usize },
    Completes { host: usize, addr: u64, said: Vec<u8> },
}

struct Event {
    at: Instant,
    /// What was queued first comes first.
    number: u64,
    what: What,
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Event {}

pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    pub(crate) pipes: Vec<Pipe>,
    /// From host, to host, by pipe.
    ways: Vec<(usize, usize, usize)>,
    events: BinaryHeap<Reverse<Event>>,
    numbers: u64,
    /// Empty vectors, to use again.
    spare: Vec<Vec<u8>>,
    seed: u64,
    trace: bool,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Instant::ZERO,
            hosts: vec![],
            pipes: vec![],
            ways: vec![],
            events: BinaryHeap::new(),
            numbers: 0,
            spare: vec![],
            seed,
            trace: std::env::var_os("FRAMEWIRE_SIM_TRACE").is_some(),
        }
    }

    /// Two hosts with a link between them: `to_b` carries what host 0 sends, `to_a` what host 1 does.
    pub(crate) fn pair(
        seed: u64,
        (host_a, app_a): (HostConfig, Box<dyn App>),
        (host_b, app_b): (HostConfig, Box<dyn App>),
        to_b: LinkConfig,
        to_a: LinkConfig,
    ) -> Self {
        let mut network = Self::new(seed);
        // The server first, so that it listens before anybody connects; numbers stay 0 and 1.
        let (a, b) = (network.add_host(host_a), network.add_host(host_b));
        let (to_b, to_a) = (network.add_pipe(to_b), network.add_pipe(to_a));
        network.join(a, b, to_b);
        network.join(b, a, to_a);
        network.start(b, app_b);
        network.start(a, app_a);
        network
    }

    /// A host of address 10.0.0.(1 + its number).
    pub(crate) fn add_host(&mut self, config: HostConfig) -> usize {
        let number = self.hosts.len();
        let last = number as u8 + 1;
        let mac = MacAddr([2, 0, 0, 0, 0, last]);
        let region = Region::map(config.frames, config.chunk_bytes, HugePages::Never).unwrap();
        let pool = Pool::new(region, config.pool);
        let mut seed = [last; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        let mut stack_config = StackConfig::new(seed);
        stack_config.tcp.ecn = config.ecn;
        let mut stack = Stack::new(pool, stack_config, self.now);
        let addr = Ipv4Addr::new(10, 0, 0, last);
        let mut iface = IfaceConfig::new(&format!("sim{number}"), mac, vec![format!("{addr}/24").parse().unwrap()]);
        iface.tx_pieces_max = config.tx_pieces_max;
        iface.mtu = config.mtu;
        stack.add_interface(iface).unwrap();
        self.hosts.push(Host {
            stack,
            addr,
            mac,
            app: Box::new(Idle),
            mtu_max: config.mtu,
            config,
            received: vec![],
            in_nic: 0,
            random: Random::new(self.seed ^ u64::from(last)),
            turn_at: Some(self.now),
            no_frame_for_rx: 0,
        });
        number
    }

    /// One direction of a link. Several pairs of hosts may share it.
    pub(crate) fn add_pipe(&mut self, config: LinkConfig) -> usize {
        self.pipes.push(Pipe::new(config, self.seed.wrapping_mul(31) + self.pipes.len() as u64));
        self.pipes.len() - 1
    }

    /// What host `from` sends to host `to` goes by `pipe`. They know each other's Ethernet addresses.
    pub(crate) fn join(&mut self, from: usize, to: usize, pipe: usize) {
        self.ways.push((from, to, pipe));
        let (addr, mac) = (self.hosts[to].addr, self.hosts[to].mac);
        self.hosts[from].stack.add_static_neighbour(IFACE, addr, mac).unwrap();
    }

    pub(crate) fn start(&mut self, host: usize, mut app: Box<dyn App>) {
        let host = &mut self.hosts[host];
        app.start(&mut host.net()).unwrap();
        host.app = app;
        host.turn_at = Some(self.now);
    }

    pub(crate) fn counts(&self, pipe: usize) -> LinkCounts {
        self.pipes[pipe].counts
    }

    fn push(&mut self, at: Instant, what: What) {
        self.numbers += 1;
        self.events.push(Reverse(Event { at, number: self.numbers, what }));
    }

    /// Goes on to the next moment at which something happens, at most to `end`, and does it.
    pub(crate) fn step(&mut self, end: Instant) {
        let event = self.events.peek().map(|Reverse(event)| event.at);
        let hosts = self.hosts.iter().filter_map(|host| host.deadline(self.now)).min();
        let next = [event, hosts].into_iter().flatten().min().unwrap_or(end);
        self.now = self.now.max(next.min(end));
        while let Some(Reverse(event)) = self.events.peek()
            && event.at <= self.now
            && let Some(Reverse(event)) = self.events.pop()
        {
            self.happen(event.what);
        }
        for host in 0..self.hosts.len() {
            let this = &self.hosts[host];
            if this.turn_at.is_some_and(|at| at <= self.now)
                || this.stack.next_deadline().is_some_and(|at| at <= self.now)
            {
                self.turn(host);
            }
        }
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Arrives { mut frame, host } => {
                let host = &mut self.hosts[host];
                match receive(host.stack.pool(), &frame) {
                    Some(packet) => host.received.push(packet),
                    None => host.no_frame_for_rx += 1,
                }
                host.wake(self.now);
                frame.clear();
                self.spare.push(frame);
            }
            What::Completes { host, addr, mut said } => {
                let host = &mut self.hosts[host];
                let len = said.len();
                host.stack.pool().kernel_read(addr, len as u32, &mut said).unwrap();
                assert_eq!(said[..len], said[len..], "a frame was written while it was in the NIC");
                host.stack.pool().complete_tx(addr).unwrap();
                host.in_nic -= 1;
                host.wake(self.now);
                said.clear();
                self.spare.push(said);
            }
        }
    }

    fn turn(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        host.stack.ingress(self.now, IFACE, &mut host.received);
        host.stack.poll_timers(self.now);
        let worked = drive(&mut host.stack, host.app.as_mut()) == Work::Some;
        host.turn_at = worked.then_some(self.now + TURN);
        self.transmit(number);
        self.hosts[number].stack.egress_drained(IFACE);
    }

    /// Does what a port does with the egress queue. For tests that call a socket between steps.
    pub(crate) fn transmit(&mut self, number: usize) {
        let mut frame = self.spare.pop().unwrap_or_default();
        loop {
            let mut said = self.spare.pop().unwrap_or_default();
            let host = &mut self.hosts[number];
            let room = host.config.nic_descriptors_max - host.in_nic;
            let goes_on = !frame.is_empty();
            // A packet is taken whole or not at all.
            if !goes_on && host.stack.egress(IFACE).whole_packets(room) == 0 {
                self.spare.extend([frame, said]);
                return;
            }
            let piece = host.stack.egress(IFACE).pop().expect("a whole packet");
            frame.extend_from_slice(piece.as_slice());
            said.extend_from_slice(piece.as_slice());
            let (addr, _, more) = piece.post();
            let HostConfig { nic_time, nic_jitter, .. } = host.config;
            let completes = self.now + nic_time + host.random.up_to(nic_jitter);
            host.in_nic += 1;
            self.push(completes, What::Completes { host: number, addr, said });
            if !more {
                let ip_bytes = frame.len() - ethernet::HEADER_BYTES;
                assert!(self.hosts[number].takes(ip_bytes), "a packet of {ip_bytes} bytes: {}", describe(&frame));
                self.send(number, &mut frame);
                frame.clear();
            }
        }
    }

    /// A frame leaves a host's NIC.
    fn send(&mut self, from: usize, frame: &mut [u8]) {
        let group = frame[0] & 1 == 1;
        for at in 0..self.ways.len() {
            let (way_from, to, pipe) = self.ways[at];
            if way_from != from || !group && frame[..6] != self.hosts[to].mac.0 {
                continue;
            }
            let fate = self.pipes[pipe].pass(self.now, frame);
            if self.trace {
                println!("{:?} {from}→{to} {} {fate:?}", self.now, describe(frame));
            }
            match fate {
                Fate::Lost | Fate::Overflows | Fate::Vanishes => {}
                Fate::TooLong(mtu) => {
                    let answer = fragmentation_needed(frame, mtu, ROUTER);
                    let at = self.now + self.pipes[pipe].config.delay * 2;
                    self.push(at, What::Arrives { frame: answer, host: from });
                }
                Fate::Arrives { at, again } => {
                    for at in [Some(at), again].into_iter().flatten() {
                        let mut copy = self.spare.pop().unwrap_or_default();
                        copy.extend_from_slice(frame);
                        self.push(at, What::Arrives { frame: copy, host: to });
                    }
                }
            }
        }
    }

    /// Goes on until `done` says so; panics after `limit` of virtual time.
    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.now < end, "not done after {limit:?}, at {:?}", self.now);
            self.step(end);
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step(end);
        }
    }

    /// Every host's books balance.
    pub(crate) fn assert_balanced(&self) {
        for host in &self.hosts {
            let ledger = host.stack.pool().ledger();
            assert!(ledger.balances(), "{}: {ledger}", host.addr);
        }
    }

    /// Ends everything: each ledger is whole. The hosts' counters.
    pub(crate) fn finish(mut self) -> Vec<Counters> {
        while let Some(Reverse(event)) = self.events.pop() {
            if let What::Completes { .. } = event.what {
                self.happen(event.what);
            }
        }
        self.assert_balanced();
        let end = |host: Host| {
            let pool = host.stack.pool().clone();
            let (counters, addr) = (host.stack.counters, host.addr);
            drop(host);
            let ledger: Ledger = pool.ledger();
            assert!(ledger.is_whole(), "{addr}: {ledger}");
            counters
        };
        self.hosts.into_iter().map(end).collect()
    }
}

/// A frame in as many buffers as it needs, as a port would receive it; `None` if there are none left.
fn receive(pool: &Pool, frame: &[u8]) -> Option<RxBuf> {
    let mut pieces = frame.chunks(pool.frame_payload_bytes()).map(|piece| pool.rx_from_bytes(piece));
    let mut packet = pieces.next()??;
    for piece in pieces {
        packet.append(piece?).ok()?;
    }
    Some(packet)
}

/// A line about a frame, for the trace.
fn describe(frame: &[u8]) -> String {
    let be32 = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
    let is_tcp = frame.len() >= 54 && frame[12..14] == [8, 0] && frame[23] == 6;
    if !is_tcp {
        return format!("{} B, type {:02x?}", frame.len(), &frame[12..14]);
    }
    let flags: String =
        "FSRP.UEW".chars().enumerate().filter(|(i, _)| frame[47] >> i & 1 == 1).map(|(_, c)| c).collect();
    let window = u16::from_be_bytes([frame[48], frame[49]]);
    let payload = crate::link::tcp_payload_bytes(frame);
    let options = frame.get(54..34 + usize::from(frame[46] >> 4) * 4).unwrap_or_default();
    format!("{flags} seq {} +{payload} ack {} win {window} options {options:02x?}", be32(38), be32(42))
}

/// A program that does nothing: its host is used from outside.
#[derive(Debug)]
pub(crate) struct Idle;

impl App for Idle {
    fn start(&mut self, _: &mut Net<'_>) -> Result<(), framewire::socket::AppError> {
        Ok(())
    }

    fn handle_event(&mut self, _: &mut Net<'_>, _: framewire::socket::Event) {}
}
