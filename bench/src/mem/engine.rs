//! The engine: a worker as in production, on a `mem` port whose wire is in our hands.

use super::{BATCH, Subject, Turn, Work};
use crate::packet::Flow;
use anyhow::Result;
use framewire::{
    buf::{HugePages, Pool, PoolConfig, Region},
    port::{
        Port,
        mem::{self, MemConfig, Nic},
    },
    proto::IfaceId,
    runtime::{Clock, Program, Remote, Worker, WorkerConfig},
    socket::{self, App, AppError, Event, Net, UdpSocket},
    stack::{IfaceConfig, Stack, StackConfig},
    time::{Duration, Instant},
};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddrV4,
    rc::Rc,
};

/// The default of the engine: a UMEM of 16 MiB.
const FRAMES: usize = 4096;
const FRAME_BYTES: usize = 4096;
const RX_RESERVE_FRAMES: u32 = 1024;
pub(super) const SEED: [u8; 32] = [7; 32];

#[derive(Debug)]
pub(super) struct Engine {
    worker: Worker,
    nic: Rc<RefCell<Nic>>,
    handled: Rc<Cell<u64>>,
    now: Instant,
}

impl Engine {
    pub(super) fn new(flow: Flow, work: Work, payload_bytes: usize) -> Result<Self> {
        Self::with(flow, work, payload_bytes, StackConfig::new(SEED), |_, _| Ok(()))
    }

    /// With a stack that holds what `fill` puts into it.
    pub(super) fn with(
        flow: Flow,
        work: Work,
        payload_bytes: usize,
        config: StackConfig,
        fill: impl FnOnce(&mut Stack, IfaceId) -> Result<()>,
    ) -> Result<Self> {
        let region = Region::map(FRAMES, FRAME_BYTES, HugePages::Prefer)?;
        let pool = Pool::new(region, PoolConfig { rx_reserve_frames: RX_RESERVE_FRAMES, run_frames: 0 });
        let (mut port, nic) = mem::port(&pool, MemConfig::new("mem", flow.target_mac));
        port.refill();
        let now = Instant::ZERO;
        let mut stack = Stack::new(pool.clone(), config, now);
        let network = format!("{}/24", flow.target.ip()).parse().map_err(anyhow::Error::msg)?;
        let iface = stack.add_interface(IfaceConfig::new("mem", flow.target_mac, vec![network]))?;
        fill(&mut stack, iface)?;
        let handled = Rc::new(Cell::new(0));
        let mut app =
            Application { work, payload_bytes, flow, socket: None, peer: flow.source, handled: handled.clone() };
        app.start(&mut Net::new(&mut stack)).map_err(anyhow::Error::from_boxed)?;
        let program = Program::Stack { stack: Box::new(stack), app: Box::new(app) };
        let worker =
            Worker::new(Box::new(port), pool, program, Clock::start(), Remote::new()?, WorkerConfig::default());
        let mut engine = Self { worker, nic, handled, now };
        // What the stack says when an interface comes up is no part of what is measured.
        for _ in 0..100 {
            engine.now = engine.now + Duration::from_millis(100);
            engine.turn();
            engine.drain(&mut |_| {});
        }
        engine.handled.set(0);
        Ok(engine)
    }

    fn turn(&mut self) {
        // A mem port has no call that fails; were there one, the counts would not add up.
        let _ = self.worker.turn(self.now);
    }
}

impl Turn for Engine {
    fn work(&mut self) {
        self.now = self.now + Duration::from_micros(10);
        self.turn();
    }
}

impl Subject for Engine {
    fn inject(&mut self, frame: &[u8]) -> bool {
        self.nic.borrow_mut().inject(frame)
    }

    fn drain(&mut self, look: &mut dyn FnMut(&[u8])) -> usize {
        let mut count = 0;
        let mut nic = self.nic.borrow_mut();
        while let Some(frame) = nic.take() {
            look(frame);
            count += 1;
        }
        count
    }

    fn handled(&self) -> u64 {
        self.handled.get()
    }
}

#[derive(Debug)]
struct Application {
    work: Work,
    payload_bytes: usize,
    flow: Flow,
    socket: Option<UdpSocket>,
    peer: SocketAddrV4,
    handled: Rc<Cell<u64>>,
}

impl App for Application {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        self.socket = Some(net.udp_bind(self.flow.target)?);
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        let Event::Readable(socket) = event else { return };
        let mut handled = self.handled.get();
        while let Some(datagram) = socket.recv(net) {
            match self.work {
                Work::Echo => {
                    if socket.reply(net, datagram).is_err() {
                        continue;
                    }
                }
                Work::Receive | Work::Send => {
                    std::hint::black_box(datagram.buf.as_slice().first());
                }
            }
            handled += 1;
        }
        self.handled.set(handled);
    }

    fn poll(&mut self, net: &mut Net<'_>) -> socket::Work {
        if self.work != Work::Send {
            return socket::Work::None;
        }
        let Some(socket) = self.socket else { return socket::Work::None };
        let mut handled = self.handled.get();
        for _ in 0..BATCH {
            let Some(mut buf) = net.alloc() else { break };
            if buf.set_len(self.payload_bytes).is_err() {
                break;
            }
            buf.as_mut_slice()[..8].copy_from_slice(&handled.to_ne_bytes());
            if socket.send_to(net, buf, self.peer).is_err() {
                break;
            }
            handled += 1;
        }
        self.handled.set(handled);
        socket::Work::Some
    }
}
