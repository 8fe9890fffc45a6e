//! Two hosts, a link and a clock.

use framewire::{
    buf::{HugePages, Pool, PoolConfig, Region, RxBuf},
    port::{
        Port,
        fault::{FaultConfig, FaultControl, FaultPort},
        mem::{MemConfig, link},
    },
    proto::IfaceId,
    socket::{App, Work, drive},
    stack::{IfaceConfig, Stack, StackConfig},
    telemetry::Counters,
    time::{Duration, Instant},
    wire::MacAddr,
};
use std::net::Ipv4Addr;

pub(crate) const IFACE: IfaceId = IfaceId(0);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const SERVER_PORT: u16 = 7;
const FRAMES: usize = 4096;
/// How much time a turn takes in which something was done.
const TURN: Duration = Duration::from_micros(10);

pub(crate) struct Host {
    pub(crate) stack: Stack,
    app: Box<dyn App>,
    port: Box<dyn Port>,
    received: Vec<RxBuf>,
}

impl Host {
    fn turn(&mut self, now: Instant) -> bool {
        let mut worked = self.port.reap();
        self.port.refill();
        worked += self.port.receive(now, &mut self.received, 64);
        self.stack.ingress(now, IFACE, &mut self.received);
        worked += self.stack.poll_timers(now);
        worked += usize::from(drive(&mut self.stack, self.app.as_mut()) == Work::Some);
        worked += self.port.transmit(now, self.stack.egress(IFACE));
        self.stack.egress_drained(IFACE);
        self.port.kick().unwrap();
        worked > 0
    }

    fn next_deadline(&self) -> Option<Instant> {
        [self.stack.next_deadline(), self.port.next_deadline()].into_iter().flatten().min()
    }

    fn finish(mut self) -> Counters {
        let pool = self.stack.pool().clone();
        assert!(pool.ledger().balances(), "{}", pool.ledger());
        let counters = self.stack.counters;
        drop((self.stack, self.app, self.received));
        self.port.close(Duration::ZERO);
        drop(self.port);
        assert!(pool.ledger().is_whole(), "{}", pool.ledger());
        counters
    }
}

pub(crate) struct World {
    pub(crate) client: Host,
    pub(crate) server: Host,
    pub(crate) faults: FaultControl,
    pub(crate) now: Instant,
}

impl World {
    /// The link's faults are at the client's port.
    pub(crate) fn new(faults: FaultConfig, mut client: Box<dyn App>, mut server: Box<dyn App>) -> Self {
        let pool = || {
            let region = Region::map(FRAMES, 4096, HugePages::Never).unwrap();
            Pool::new(region, PoolConfig { rx_reserve_frames: 1024, run_frames: 512 })
        };
        let (pool_a, pool_b) = (pool(), pool());
        let config =
            |name: &str, last| MemConfig { tx_pieces_max: 17, ..MemConfig::new(name, MacAddr([2, 0, 0, 0, 0, last])) };
        let (port_a, port_b) = link(&pool_a, config("client", 1), &pool_b, config("server", 2));
        let port_a = FaultPort::new(port_a, &pool_a, faults);
        let faults = port_a.control();
        let host = |pool: &Pool, port: Box<dyn Port>, addr: &str, app: &mut Box<dyn App>| {
            let mut stack = Stack::new(pool.clone(), StackConfig::new([9; 32]), Instant::ZERO);
            let mut iface = IfaceConfig::new(&port.info().name, port.info().mac, vec![addr.parse().unwrap()]);
            iface.tx_pieces_max = port.info().tx_pieces_max;
            stack.add_interface(iface).unwrap();
            app.start(&mut framewire::socket::Net::new(&mut stack)).unwrap();
            (stack, port)
        };
        let (stack_b, port_b) = host(&pool_b, Box::new(port_b), "10.0.0.2/24", &mut server);
        let (stack_a, port_a) = host(&pool_a, Box::new(port_a), "10.0.0.1/24", &mut client);
        Self {
            client: Host { stack: stack_a, app: client, port: port_a, received: vec![] },
            server: Host { stack: stack_b, app: server, port: port_b, received: vec![] },
            faults,
            now: Instant::ZERO,
        }
    }

    /// Turns both until `done` says so; panics after `limit` of virtual time.
    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut() -> bool) {
        let end = self.now + limit;
        while !done() {
            assert!(self.now < end, "not done after {limit:?}");
            self.step(end);
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step(end);
        }
    }

    /// One turn of each, then on to the next moment at which something is to be done.
    fn step(&mut self, end: Instant) {
        let worked = self.client.turn(self.now) | self.server.turn(self.now);
        let soon = self.now + TURN;
        let next = [self.client.next_deadline(), self.server.next_deadline()].into_iter().flatten().min();
        self.now = if worked { soon } else { next.map_or(end, |at| at.clamp(soon, end.max(soon))) };
    }

    /// Both ledgers are whole; the counters of client and server.
    pub(crate) fn finish(self) -> (Counters, Counters) {
        (self.client.finish(), self.server.finish())
    }
}
