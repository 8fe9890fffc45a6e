//! Starting and stopping workers on an AF_XDP interface.
//!
//! Order up: each worker opens its socket and starts its program; then the sockets go into the XSKMAP; then the XDP program is attached. Order down: the program is
//! detached first, so that no packet is steered to a socket that closes (some drivers crash on that); then the workers wind up.

use super::{Clock, Program, Remote, Snapshot, Worker, WorkerConfig, WorkerReport, worker::FrameHandler};
use crate::{
    buf::TxQueue,
    port::{
        DriverMode, Port, PortInfo,
        fault::{FaultConfig, FaultPort},
        pcap::{PcapConfig, PcapError, PcapPort},
        xsk::{NapiThreads, XdpMode, XskConfig, XskError, XskPort},
    },
    proto::route::{Route, RouteError},
    socket::{App, AppError, Net},
    stack::{Asked, IfaceConfig, NeighbourSource, RxChecksum, Stack, StackConfig},
    wire::Ipv4Net,
};
use crossbeam::channel;
use framewire_xdp::{
    AttachMode, AttachedMode, ExpectedNeighbours, IpProtocol, Mode, Steer, SteerError, SteerOptions, Verdicts,
};
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Which packets of the interface are the engine's. Everything else goes to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Steering {
    /// All packets to the engine's addresses, and ARP for them.
    #[default]
    Owned,
    /// The kernel has the addresses too: only these (IP protocol, destination port) are ours. The kernel answers ARP and gets the answers to it, but for those that the
    /// engine has just asked for.
    SharedPorts(Vec<(u8, u16)>),
    /// Every frame.
    Everything,
}

/// How to run an engine on one interface.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The interface's name.
    pub interface: String,
    /// Number of workers; worker `i` has queue `i`.
    pub queues: u32,
    /// Core of worker `i`; where there is none the worker is not pinned.
    pub cores: Vec<usize>,
    /// The engine's addresses with their networks.
    pub addresses: Vec<Ipv4Net>,
    /// 802.1Q VLAN that it lives in.
    pub vlan: Option<u16>,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Further routes: network and next hop.
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// Which packets are ours.
    pub steering: Steering,
    /// How the XDP program is attached.
    pub attach: AttachMode,
    /// Let the interface's receive work run in kernel threads on the workers' cores ([`NapiThreads`]). What the kernel refuses is said in
    /// [`PortInfo::fallback`].
    pub napi_threads: bool,
    /// The AF_XDP socket; interface and queue are filled in for each worker.
    pub xsk: XskConfig,
    /// Receive checksum policy.
    pub rx_checksum: RxChecksum,
    /// Limits of the stacks; the seed is replaced by a fresh one for each worker.
    pub stack: Option<StackConfig>,
    /// Idle policy and histograms.
    pub worker: WorkerConfig,
    /// Write every packet to this pcapng file; with several workers the queue's number is appended.
    pub capture: Option<PathBuf>,
    /// Break packets on purpose, for tests.
    pub faults: Option<FaultConfig>,
}

impl EngineConfig {
    /// One worker, no address, everything else at its default.
    pub fn new(interface: &str) -> Self {
        Self {
            interface: interface.into(),
            queues: 1,
            cores: Vec::new(),
            addresses: Vec::new(),
            vlan: None,
            gateway: None,
            routes: Vec::new(),
            steering: Steering::default(),
            attach: AttachMode::Auto,
            napi_threads: false,
            xsk: XskConfig::new(interface, 0),
            rx_checksum: RxChecksum::default(),
            stack: None,
            worker: WorkerConfig::default(),
            capture: None,
            faults: None,
        }
    }
}

/// What a worker runs.
pub enum WorkerProgram {
    /// An application on a stack.
    App(Box<dyn App>),
    /// A layer-2 program.
    Frames(Box<dyn FrameHandler>),
}

impl fmt::Debug for WorkerProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::App(_) => "App",
            Self::Frames(_) => "Frames",
        })
    }
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No workers were asked for.
    #[error("queues: must be at least 1")]
    NoQueues,
    /// The AF_XDP socket.
    #[error("worker {worker}: {source}")]
    Port {
        /// Which worker.
        worker: usize,
        /// What went wrong.
        source: XskError,
    },
    /// The XDP program.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// The capture file.
    #[error("worker {worker}: {source}")]
    Capture {
        /// Which worker.
        worker: usize,
        /// What went wrong.
        source: PcapError,
    },
    /// Addresses or routes.
    #[error("worker {worker}: {source}")]
    Route {
        /// Which worker.
        worker: usize,
        /// What went wrong.
        source: RouteError,
    },
    /// The application.
    #[error("worker {worker}: the application did not start: {source}")]
    App {
        /// Which worker.
        worker: usize,
        /// What it says.
        source: AppError,
    },
    /// A core that this process may not run on.
    #[error("worker {worker}: cannot run on core {core}: not one of the cores this process may use ({allowed:?})")]
    Core {
        /// Which worker.
        worker: usize,
        /// The core asked for.
        core: usize,
        /// Those that there are.
        allowed: Vec<usize>,
    },
    /// The system's random source, an eventfd or a thread.
    #[error("{call}: {source}")]
    System {
        /// What was asked of the kernel.
        call: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// A worker's thread ended without a word.
    #[error("worker {worker}: its thread panicked while starting")]
    Panicked {
        /// Which worker.
        worker: usize,
    },
}

struct Started {
    info: PortInfo,
    socket: OwnedFd,
    ifindex: u32,
}

struct Seat {
    remote: Remote,
    /// Dropped or sent to once packets flow, or will not: the worker waits for it before its first turn.
    go: channel::Sender<Go>,
    thread: Option<JoinHandle<Option<WorkerReport>>>,
}

/// What a worker gets before its first turn.
#[derive(Default)]
struct Go {
    /// The letter boxes of the others.
    siblings: Vec<Remote>,
    /// To let in answers to addresses that the kernel has too.
    neighbours: Option<ExpectedNeighbours>,
}

/// Running workers. Dropping it stops them.
pub struct Engine {
    seats: Vec<Seat>,
    ports: Vec<PortInfo>,
    steer: Option<Steer>,
    napi_threads: Option<NapiThreads>,
}

/// What an engine says when it has stopped.
#[derive(Debug)]
pub struct EngineReport {
    /// One for each worker; `None` if its thread panicked.
    pub workers: Vec<Option<WorkerReport>>,
    /// What the XDP program counted.
    pub verdicts: Option<Verdicts>,
}

impl Engine {
    /// Starts the workers, each with the program that `programs` makes for it on its own thread, and attaches the XDP program. When this returns, packets flow.
    ///
    /// # Errors
    /// Whatever a worker or the XDP program could not start for; nothing is left behind then.
    pub fn start(
        config: EngineConfig,
        programs: impl Fn(usize) -> WorkerProgram + Send + Sync + 'static,
    ) -> Result<Self, EngineError> {
        if config.queues == 0 {
            return Err(EngineError::NoQueues);
        }
        let config = Arc::new(config);
        let programs = Arc::new(programs);
        let clock = Clock::start();
        let mut engine = Self { seats: Vec::new(), ports: Vec::new(), steer: None, napi_threads: None };
        let mut started = Vec::new();
        for worker in 0..config.queues as usize {
            let remote = Remote::new().map_err(|source| EngineError::System { call: "eventfd", source })?;
            let (report, answer) = channel::bounded(1);
            let (go, gate) = channel::bounded(1);
            let (config, programs, letters) = (config.clone(), programs.clone(), remote.clone());
            let thread = thread::Builder::new()
                .name(format!("fw-worker-{worker}"))
                .spawn(move || run_worker(worker, &config, &*programs, clock, letters, &report, &gate))
                .map_err(|source| EngineError::System { call: "starting a thread", source })?;
            // Workers start one after the other: what they allocate, and who fails first, does not depend on chance.
            let answer = answer.recv();
            engine.seats.push(Seat { remote, go, thread: Some(thread) });
            match answer {
                Ok(Ok(one)) => started.push(one),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(EngineError::Panicked { worker }),
            }
        }
        engine.attach(&config, started)?;
        for (i, seat) in engine.seats.iter().enumerate() {
            let others = engine.seats.iter().enumerate().filter(|(other, _)| *other != i);
            let siblings = others.map(|(_, other)| other.remote.clone()).collect();
            let neighbours = match (&config.steering, &engine.steer) {
                (Steering::SharedPorts(_), Some(steer)) => Some(steer.expected_neighbours()?),
                _ => None,
            };
            // A worker that panicked since is found by whoever looks at `failed_worker`.
            let _ = seat.go.send(Go { siblings, neighbours });
        }
        Ok(engine)
    }

    fn attach(&mut self, config: &EngineConfig, started: Vec<Started>) -> Result<(), EngineError> {
        let mut steer = Steer::load(&SteerOptions { max_queues: config.queues })?;
        match &config.steering {
            Steering::Everything => steer.set_mode(Mode::Everything)?,
            Steering::Owned => {
                for net in &config.addresses {
                    steer.own_address(IpAddr::V4(net.addr()))?;
                }
            }
            Steering::SharedPorts(ports) => {
                for net in &config.addresses {
                    for &(protocol, port) in ports {
                        steer.share_port(IpAddr::V4(net.addr()), IpProtocol(protocol), port)?;
                    }
                }
            }
        }
        for one in &started {
            steer.set_socket(one.info.queue, one.socket.as_fd())?;
        }
        if let Some(first) = started.first() {
            let mode = match steer.attach(first.ifindex, config.attach)? {
                AttachedMode::Native => DriverMode::Native,
                AttachedMode::Generic => DriverMode::Generic,
            };
            let mut reasons = Vec::new();
            reasons.extend(steer.attached().and_then(|a| a.fallback_reason()).map(|e| format!("generic XDP: {e}")));
            if config.napi_threads {
                match NapiThreads::start(first.ifindex, &config.cores) {
                    Ok(threads) => self.napi_threads = Some(threads),
                    Err(error) => reasons.push(error.to_string()),
                }
            }
            self.ports = started.into_iter().map(|one| one.info).collect();
            for info in &mut self.ports {
                info.driver = mode;
                info.napi_thread = self.napi_threads.is_some();
                let all: Vec<_> = info.fallback.take().into_iter().chain(reasons.iter().cloned()).collect();
                info.fallback = (!all.is_empty()).then(|| all.join("; "));
            }
        }
        self.steer = Some(steer);
        Ok(())
    }

    /// What the workers' ports turned out to be.
    pub fn ports(&self) -> &[PortInfo] {
        &self.ports
    }

    /// The figures of all workers that still run.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.seats.iter().filter_map(|seat| seat.remote.call(|worker| worker.snapshot()).ok()).collect()
    }

    /// What the XDP program counted so far.
    pub fn verdicts(&self) -> Option<Verdicts> {
        self.steer.as_ref().and_then(|steer| steer.verdicts().ok())
    }

    /// The letter box of a worker.
    pub fn remote(&self, worker: usize) -> Option<&Remote> {
        self.seats.get(worker).map(|seat| &seat.remote)
    }

    /// The number of a worker that ended by itself, if one did; [`stop`](Self::stop) tells why.
    pub fn failed_worker(&self) -> Option<usize> {
        self.seats.iter().position(|seat| seat.thread.as_ref().is_some_and(JoinHandle::is_finished))
    }

    /// Detaches the XDP program, lets every worker send what it has queued (for at most `patience`), and closes the sockets.
    pub fn stop(mut self, patience: Duration) -> EngineReport {
        self.wind_up(patience)
    }

    fn wind_up(&mut self, patience: Duration) -> EngineReport {
        let verdicts = self.verdicts();
        // While its NAPI is still there.
        self.napi_threads = None;
        // From here on the kernel has all packets.
        self.steer = None;
        for seat in &self.seats {
            // A worker that has stopped by itself needs no telling.
            let _ = seat.remote.post(move |worker| worker.request_stop_within(patience));
            let _ = seat.go.try_send(Go::default());
        }
        let join = |seat: &mut Seat| seat.thread.take().and_then(|thread| thread.join().ok().flatten());
        EngineReport { workers: self.seats.iter_mut().map(join).collect(), verdicts }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.seats.is_empty() && self.seats.iter().any(|seat| seat.thread.is_some()) {
            self.wind_up(Duration::from_millis(100));
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({} workers)", self.seats.len())
    }
}

/// A worker's thread.
fn run_worker(
    index: usize,
    config: &EngineConfig,
    programs: &dyn Fn(usize) -> WorkerProgram,
    clock: Clock,
    remote: Remote,
    report: &channel::Sender<Result<Started, EngineError>>,
    gate: &channel::Receiver<Go>,
) -> Option<WorkerReport> {
    let mut worker = match build(index, config, programs, clock, remote) {
        Ok((worker, started)) => {
            // The starting thread waits for this.
            let _ = report.send(Ok(started));
            worker
        }
        Err(error) => {
            let _ = report.send(Err(error));
            return None;
        }
    };
    // Not before the XDP program is attached: the answer to an ARP request sent earlier would go to the kernel.
    let Go { siblings, neighbours } = gate.recv().unwrap_or_default();
    worker.set_siblings(siblings);
    if let Some(neighbours) = neighbours {
        worker.set_ask_listener(Box::new(move |asked| asked.into_iter().for_each(|one| let_in(&neighbours, one))));
    }
    let error = worker.run().err();
    let patience = worker.patience();
    Some(worker.finish(patience, error))
}

/// The steering program shall let in the answer to what was asked, and no other. What the kernel refuses costs that answer: the stack asks again, and says so if nobody answers.
fn let_in(neighbours: &ExpectedNeighbours, asked: Asked) {
    let done = match asked {
        Asked::Waiting(neighbour) => neighbours.expect(IpAddr::V4(neighbour)),
        Asked::Answered(neighbour) => neighbours.forget(IpAddr::V4(neighbour)),
    };
    if let Err(error) = done {
        tracing::debug!("{error}");
    }
}

fn build(
    index: usize,
    config: &EngineConfig,
    programs: &dyn Fn(usize) -> WorkerProgram,
    clock: Clock,
    remote: Remote,
) -> Result<(Worker, Started), EngineError> {
    if let Some(&core) = config.cores.get(index) {
        pin(index, core)?;
    }
    let mut xsk = config.xsk.clone();
    xsk.interface.clone_from(&config.interface);
    xsk.queue = index as u32;
    if config.attach == AttachMode::Generic {
        xsk.xdp_mode = XdpMode::Generic;
    }
    let (port, pool) = XskPort::open(xsk).map_err(|source| EngineError::Port { worker: index, source })?;
    let no_socket = || EngineError::System { call: "AF_XDP socket", source: io::Error::other("closed at once") };
    let socket = port
        .socket()
        .ok_or_else(no_socket)?
        .try_clone_to_owned()
        .map_err(|source| EngineError::System { call: "dup of the AF_XDP socket", source })?;
    let started = Started { info: port.info().clone(), socket, ifindex: port.ifindex() };
    let info = started.info.clone();
    let mut port: Box<dyn Port> = Box::new(port);
    if let Some(faults) = &config.faults {
        port = Box::new(FaultPort::new(port, &pool, *faults));
    }
    if let Some(path) = &config.capture {
        let mut path = path.clone();
        if config.queues > 1 {
            path.as_mut_os_string().push(format!(".{index}"));
        }
        // The clock's origin on the calendar, for the packets' time stamps.
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
            - Duration::from_nanos(clock.now().as_nanos());
        let capture = PcapPort::create(port, PcapConfig::new(path, epoch));
        port = Box::new(capture.map_err(|source| EngineError::Capture { worker: index, source })?);
    }
    let program = match programs(index) {
        WorkerProgram::Frames(handler) => {
            Program::Frames { handler, egress: TxQueue::with_limit(config.xsk.tx_ring_entries as usize) }
        }
        WorkerProgram::App(mut app) => {
            let mut stack = build_stack(index, config, &info, &pool, clock)?;
            app.start(&mut Net::new(&mut stack)).map_err(|source| EngineError::App { worker: index, source })?;
            Program::Stack { stack: Box::new(stack), app }
        }
    };
    Ok((Worker::new(port, pool, program, clock, remote, config.worker), started))
}

fn build_stack(
    index: usize,
    config: &EngineConfig,
    info: &PortInfo,
    pool: &crate::buf::Pool,
    clock: Clock,
) -> Result<Stack, EngineError> {
    let seed = random_seed().map_err(|source| EngineError::System { call: "getrandom", source })?;
    let stack_config = StackConfig { seed, ..config.stack.clone().unwrap_or_else(|| StackConfig::new(seed)) };
    let mut stack = Stack::new(pool.clone(), stack_config, clock.now());
    let mut iface = IfaceConfig::new(&config.interface, info.mac, config.addresses.clone());
    iface.mtu = info.mtu;
    iface.vlan = config.vlan;
    iface.rx_checksum = config.rx_checksum;
    if matches!(config.steering, Steering::SharedPorts(_)) {
        iface.neighbour_source = NeighbourSource::Traffic;
    }
    iface.tx_pieces_max = info.tx_pieces_max;
    iface.egress_limit = config.xsk.tx_ring_entries as usize;
    let route_error = |source| EngineError::Route { worker: index, source };
    let id = stack.add_interface(iface).map_err(route_error)?;
    let gateway = config.gateway.and_then(|via| Some((Ipv4Net::new(Ipv4Addr::UNSPECIFIED, 0)?, via)));
    for (net, via) in config.routes.iter().copied().chain(gateway) {
        stack.add_route(Route { net, next_hop: Some(via), iface: id, source: None, metric: 0 }).map_err(route_error)?;
    }
    Ok(stack)
}

fn pin(worker: usize, core: usize) -> Result<(), EngineError> {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    match allowed.iter().find(|id| id.id == core) {
        Some(&id) if core_affinity::set_for_current(id) => Ok(()),
        _ => Err(EngineError::Core { worker, core, allowed: allowed.iter().map(|id| id.id).collect() }),
    }
}

/// 32 bytes from the system's random source.
fn random_seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(seed)
}
