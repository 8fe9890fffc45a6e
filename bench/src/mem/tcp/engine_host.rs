//! The engine: workers as in production, on ports in memory.

use super::{Checksum, Ends, Scripted};
use crate::{
    mem::{BATCH, FLOW, Subject, Turn},
    packet::Flow,
};
use anyhow::Result;
use framewire::{
    buf::{HugePages, Pool, PoolConfig, Region},
    port::{
        MacAddr, Port,
        mem::{self, MemConfig, Nic},
    },
    runtime::{Clock, Program, Remote, Worker, WorkerConfig},
    socket::{self, App, AppError, Event, Net, TcpEvent, TcpListener, TcpOptions, TcpStream},
    stack::{IfaceConfig, RxChecksum, Stack, StackConfig},
    time::{Duration, Instant},
};
use std::{
    cell::{Cell, RefCell},
    net::{Ipv4Addr, SocketAddrV4},
    rc::Rc,
};

/// As the engine chooses for this MTU by itself.
const FRAMES: usize = 4096;
const FRAME_BYTES: usize = 2048;
const RX_RESERVE_FRAMES: u32 = 1024;
/// As much as smoltcp has here.
const SEND_QUEUE_BYTES: u32 = 128 << 10;
const BACKLOG: usize = 4096;

/// What an application and the measurement tell each other.
#[derive(Debug, Default)]
struct Shared {
    /// Payload bytes taken or sent.
    handled: Cell<u64>,
    /// Payload bytes that may be sent.
    allowed: Cell<usize>,
    accepted: Cell<u64>,
    /// Payload bytes of a full segment.
    segment_bytes: Cell<usize>,
}

/// Takes what comes and sends what is allowed, on the last connection.
#[derive(Debug)]
struct Application {
    role: Role,
    stream: Option<TcpStream>,
    shared: Rc<Shared>,
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Listen(SocketAddrV4),
    Connect(SocketAddrV4),
}

impl App for Application {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        let options = TcpOptions { send_queue_bytes: SEND_QUEUE_BYTES, ..TcpOptions::default() };
        match self.role {
            Role::Listen(local) => net.tcp_listen(local, BACKLOG)?.set_options(net, options),
            Role::Connect(remote) => {
                let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
                self.stream = Some(net.tcp_connect_with(any, remote, options)?);
            }
        }
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        match event {
            Event::Acceptable(listener) => self.accept(net, listener),
            Event::Tcp(stream, TcpEvent::Readable) => self.take(net, stream),
            Event::Tcp(_, TcpEvent::Closed(_)) => self.stream = None,
            _ => {}
        }
    }

    fn poll(&mut self, net: &mut Net<'_>) -> socket::Work {
        if self.shared.allowed.get() > 0 {
            self.give(net);
        }
        socket::Work::None
    }
}

impl Application {
    fn accept(&mut self, net: &mut Net<'_>, listener: TcpListener) {
        while let Some(stream) = listener.accept(net) {
            self.stream = Some(stream);
            self.shared.accepted.set(self.shared.accepted.get() + 1);
        }
    }

    fn take(&self, net: &mut Net<'_>, stream: TcpStream) {
        let mut handled = self.shared.handled.get();
        while let Ok(buf) = stream.recv(net) {
            std::hint::black_box(buf.as_slice().first());
            handled += buf.total_len() as u64;
        }
        self.shared.handled.set(handled);
    }

    /// A batch of full segments at most, of which it writes the first eight bytes.
    fn give(&self, net: &mut Net<'_>) {
        let Some((stream, bytes)) = self.stream.and_then(|stream| Some((stream, stream.mss(net)?))) else { return };
        let Shared { handled, allowed, segment_bytes, accepted: _ } = &*self.shared;
        segment_bytes.set(bytes);
        let (mut sent, most) = (0, BATCH.min(allowed.get() / bytes.max(1)));
        while sent < most {
            let Some(mut buf) = net.alloc() else { break };
            if buf.set_len(bytes).is_err() {
                break;
            }
            if let Some(head) = buf.as_mut_slice().first_chunk_mut() {
                *head = (handled.get() + sent as u64).to_be_bytes();
            }
            if stream.send(net, buf).is_err() {
                break;
            }
            sent += 1;
        }
        handled.set(handled.get() + (sent * bytes) as u64);
        if allowed.get() != usize::MAX {
            allowed.set(allowed.get() - sent * bytes);
        }
    }
}

fn pool() -> Result<Pool> {
    let region = Region::map(FRAMES, FRAME_BYTES, HugePages::Prefer)?;
    Ok(Pool::new(region, PoolConfig { rx_reserve_frames: RX_RESERVE_FRAMES, run_frames: 0 }))
}

fn worker(
    (pool, mut port): (Pool, mem::MemPort),
    (mac, address): (MacAddr, Ipv4Addr),
    checksum: Checksum,
    (role, shared): (Role, &Rc<Shared>),
) -> Result<Worker> {
    port.refill();
    let mut stack = Stack::new(pool.clone(), StackConfig::new([7; 32]), Instant::ZERO);
    let network = format!("{address}/24").parse().map_err(anyhow::Error::msg)?;
    let mut iface = IfaceConfig::new("mem", mac, vec![network]);
    iface.rx_checksum = match checksum {
        Checksum::Verify => RxChecksum::Verify,
        Checksum::Trust => RxChecksum::Trust,
    };
    stack.add_interface(iface)?;
    let mut app = Application { role, stream: None, shared: shared.clone() };
    app.start(&mut Net::new(&mut stack)).map_err(anyhow::Error::from_boxed)?;
    let program = Program::Stack { stack: Box::new(stack), app: Box::new(app) };
    Ok(Worker::new(Box::new(port), pool, program, Clock::start(), Remote::new()?, WorkerConfig::default()))
}

/// One worker against the scripted peer.
#[derive(Debug)]
pub(super) struct EngineServer {
    worker: Worker,
    nic: Rc<RefCell<Nic>>,
    shared: Rc<Shared>,
    now: Instant,
}

impl EngineServer {
    pub(super) fn new(flow: Flow, checksum: Checksum) -> Result<Self> {
        let pool = pool()?;
        let (port, nic) = mem::port(&pool, MemConfig::new("mem", flow.target_mac));
        let shared = Rc::new(Shared::default());
        let own = (flow.target_mac, *flow.target.ip());
        let worker = worker((pool, port), own, checksum, (Role::Listen(flow.target), &shared))?;
        let mut server = Self { worker, nic, shared, now: Instant::ZERO };
        // What the stack says when an interface comes up is no part of what is measured.
        for _ in 0..100 {
            server.now = server.now + Duration::from_millis(100);
            server.work();
            server.drain(&mut |_| {});
        }
        Ok(server)
    }

    pub(super) fn accepted(&self) -> u64 {
        self.shared.accepted.get()
    }

    pub(super) fn free_frames(&self) -> u32 {
        self.worker.pool().free()
    }
}

impl Turn for EngineServer {
    fn work(&mut self) {
        self.now = self.now + Duration::from_micros(10);
        // A mem port has no call that fails; were there one, the counts would not add up.
        let _ = self.worker.turn(self.now);
    }
}

impl Subject for EngineServer {
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
        self.shared.handled.get()
    }
}

impl Scripted for EngineServer {
    fn allow(&mut self, bytes: usize) {
        self.shared.allowed.set(bytes);
    }
}

/// Two workers, each with a pool of its own, on a link that copies a frame like a wire.
#[derive(Debug)]
pub(super) struct EngineEnds {
    client: Worker,
    server: Worker,
    sending: Rc<Shared>,
    receiving: Rc<Shared>,
    now: Instant,
}

impl EngineEnds {
    pub(super) fn new(checksum: Checksum) -> Result<Self> {
        let (client_pool, server_pool) = (pool()?, pool()?);
        let client_link = MemConfig::new("client", FLOW.source_mac);
        let server_link = MemConfig::new("server", FLOW.target_mac);
        let (client_port, server_port) = mem::link(&client_pool, client_link, &server_pool, server_link);
        let (sending, receiving) = (Rc::new(Shared::default()), Rc::new(Shared::default()));
        sending.allowed.set(usize::MAX);
        let (from, to) = ((FLOW.source_mac, *FLOW.source.ip()), (FLOW.target_mac, *FLOW.target.ip()));
        let client = worker((client_pool, client_port), from, checksum, (Role::Connect(FLOW.target), &sending))?;
        let server = worker((server_pool, server_port), to, checksum, (Role::Listen(FLOW.target), &receiving))?;
        Ok(Self { client, server, sending, receiving, now: Instant::ZERO })
    }
}

impl Turn for EngineEnds {
    fn work(&mut self) {
        self.now = self.now + Duration::from_micros(10);
        for worker in [&mut self.client, &mut self.server] {
            // As above.
            let _ = worker.turn(self.now);
        }
    }
}

impl Ends for EngineEnds {
    fn received_bytes(&self) -> u64 {
        self.receiving.handled.get()
    }

    fn sent_segments(&mut self) -> (u64, usize) {
        let counters = self.client.stack().map(|stack| stack.counters).unwrap_or_default();
        (counters.tcp_tx_segments, self.sending.segment_bytes.get())
    }
}
