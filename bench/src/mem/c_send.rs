//! What `tfZeroCopySend` costs over the Rust call, and from a thread that is not the worker.
//!
//! Datagrams of a connected UDP socket, on a driver of the application's that takes every frame and is done with it at once. Only the sends count, neither getting the buffers nor, but for
//! [`From::Polled`], handing the frames to the driver.

use super::{BATCH, FLOW, WARM_UP_BATCHES, introduction};
use crate::{affinity, syscalls};
use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use framewire::{
    buf::{PoolConfig, TxBuf},
    port::{
        MacAddr, Port,
        user::{
            Completion, Driver, DriverError, DriverFrame, Last, SendCompleter, SendOutcome, UserConfig, UserPort,
            heap_pool,
        },
    },
    stack::{IfaceConfig, Stack, StackConfig, UdpHandle},
    time::{Duration, Instant as EngineInstant},
    treck::{
        bsd::{tfBind, tfBlockingState, tfConnect, tfSocket},
        events::tfRegisterSocketCB,
        numbers as n,
        start::{tfAddInterface, tfOpenInterface, tfStartTreck, tfUseEthernet},
        transfer::tfRecv,
        turning::{tfNotifyReceiveInterfaceIsr, tfPoll, tfSendCompleteInterface},
        types::{tfInAddr, tfSockaddrIn, ttUserBuffer, ttUserInterface, ttUserMessage},
        workers::tfStartWorkers,
        zero_copy::{tfGetZeroCopyBuffer, tfZeroCopySend},
    },
};
use std::{
    cell::RefCell,
    collections::VecDeque,
    ffi::{c_char, c_int},
    fs,
    net::SocketAddrV4,
    ptr,
    rc::Rc,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Payload of a datagram, in bytes: whatever it is, it is not touched.
const PAYLOAD_BYTES: usize = 64;
/// Printed after the figure.
pub(crate) const SYSTEM_CALLS_UNIT: &str = "system calls/100,000 sends";
const FRAMES: usize = 4096;
const FRAME_BYTES: usize = 4096;

/// Where sends come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    /// A callback: frames leave in the turn that called it
    Callback,
    /// The thread that turns the loop: each frame leaves at once, which counts
    Polled,
    /// Another thread than the worker, which spins
    Thread,
}

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CallSystem {
    /// `tfZeroCopySend`
    Framewire,
    /// The Rust call
    Rust,
}

impl CallSystem {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Framewire => "framewire",
            Self::Rust => "rust",
        }
    }

    pub(crate) fn does(self, from: From) -> bool {
        self == Self::Framewire || from != From::Thread
    }
}

impl From {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Polled => "polled",
            Self::Thread => "thread",
        }
    }
}

/// Options of `c-send`.
#[derive(Args, Debug)]
pub(crate) struct CSendArgs {
    /// The call
    #[arg(long, value_enum)]
    system: CallSystem,
    /// Where it comes from
    #[arg(long, value_enum)]
    from: From,
    /// Nanoseconds between two sends of `thread`; 0: none
    #[arg(long, default_value_t = 0)]
    gap_ns: u64,
    /// Sends, after a warm-up
    #[arg(long, default_value_t = 1_000_000)]
    packets: usize,
    /// Core to run on; the worker has the last one
    #[arg(long)]
    core: Option<usize>,
}

/// Measures and prints.
pub(crate) fn run(args: &CSendArgs) -> Result<()> {
    ensure!(args.system.does(args.from), "--from thread: the Rust call is for the worker's own thread");
    let batches = args.packets.div_ceil(BATCH).max(1);
    let (name, from, packets) = (args.system.name(), args.from.name(), batches * BATCH);
    if args.from == From::Thread {
        let found = from_thread(args.core, batches, args.gap_ns)?;
        println!("{name} {from}: {:.1} ns/send ({packets} sends)", found.p50_ns);
        println!(
            "mean {:.1} ns, p99 {:.1} ns, with a buffer {:.1} ns; {:.1} {SYSTEM_CALLS_UNIT}, {} refusals; the worker slept {} times and lost its core {} times",
            found.mean_ns,
            found.p99_ns,
            found.with_buffer_ns,
            found.system_calls as f64 * 1e5 / packets as f64,
            found.refused,
            found.worker.slept,
            found.worker.lost_core
        );
        return Ok(());
    }
    affinity::pin(args.core)?;
    let mut times_ns = match args.system {
        CallSystem::Framewire => c_batches(args.from, batches)?,
        CallSystem::Rust => rust_batches(args.from, batches)?,
    };
    println!("{name} {from}: {:.1} ns/send ({packets} sends)", quantile(&mut times_ns, 0.5));
    Ok(())
}

pub(super) fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len().max(1) - 1) as f64 * q) as usize).copied().unwrap_or(f64::NAN)
}

/// The part that is measured: its own function, by whose name callgrind knows it.
#[inline(never)]
fn work_of_a_batch(send: &mut dyn FnMut()) {
    send();
}

fn timed(send: &mut dyn FnMut()) -> f64 {
    let begun = Instant::now();
    work_of_a_batch(send);
    begun.elapsed().as_nanos() as f64 / BATCH as f64
}

// ---- the Rust call

/// A driver that takes every frame, is done with it at once, and receives what it is given.
#[derive(Debug, Default)]
struct Sink {
    inbox: Rc<RefCell<VecDeque<Vec<u8>>>>,
    completer: Rc<RefCell<Option<SendCompleter>>>,
    own: Vec<u8>,
}

impl Driver for Sink {
    fn open(&mut self) -> Result<(), DriverError> {
        Ok(())
    }

    fn close(&mut self) {}

    fn send(&mut self, _data: &[u8], last: Last) -> Result<SendOutcome, DriverError> {
        if last == Last::Yes
            && let Some(completer) = &*self.completer.borrow()
        {
            completer.send_complete(1);
        }
        Ok(SendOutcome::Sent)
    }

    fn recv(&mut self) -> Option<DriverFrame<'_>> {
        self.own = self.inbox.borrow_mut().pop_front()?;
        Some(DriverFrame::Own(&self.own))
    }

    fn phys_addr(&mut self) -> MacAddr {
        FLOW.target_mac
    }
}

struct Rust {
    port: UserPort,
    stack: Stack,
    socket: UdpHandle,
    now: EngineInstant,
}

impl Rust {
    fn new() -> Result<Self> {
        let pool = heap_pool(FRAMES, FRAME_BYTES, PoolConfig::default())?;
        let sink = Sink::default();
        let (inbox, completer) = (sink.inbox.clone(), sink.completer.clone());
        let config = UserConfig { completion: Completion::ByDriver, ..UserConfig::new("sink") };
        let port = UserPort::open(Box::new(sink), &pool, config)?;
        *completer.borrow_mut() = Some(port.send_completer());
        let now = EngineInstant::ZERO;
        let mut stack = Stack::new(pool, StackConfig::new([7; 32]), now);
        let network = format!("{}/24", FLOW.target.ip()).parse().map_err(anyhow::Error::msg)?;
        stack.add_interface(IfaceConfig::new("sink", FLOW.target_mac, vec![network]))?;
        let socket = stack.udp_bind(FLOW.target)?;
        stack.udp_connect(socket, Some(FLOW.source))?;
        inbox.borrow_mut().push_back(introduction(FLOW));
        let mut rust = Self { port, stack, socket, now };
        for _ in 0..100 {
            rust.now = rust.now + Duration::from_millis(100);
            rust.turn();
        }
        Ok(rust)
    }

    fn turn(&mut self) {
        let mut received = Vec::new();
        self.port.reap();
        self.port.receive(self.now, &mut received, BATCH);
        self.stack.ingress(self.now, IFACE, &mut received);
        self.stack.poll_timers(self.now);
        self.transmit();
    }

    fn transmit(&mut self) {
        self.stack.flush();
        self.port.transmit(self.now, self.stack.egress(IFACE));
        self.stack.egress_drained(IFACE);
        let _ = self.port.kick();
    }

    fn buffer(&mut self) -> Result<TxBuf> {
        let Some(mut buf) = self.stack.pool().alloc_tx() else { bail!("the pool is empty") };
        buf.set_len(PAYLOAD_BYTES)?;
        Ok(buf)
    }
}

const IFACE: framewire::proto::IfaceId = framewire::proto::IfaceId(0);

fn rust_batches(from: From, batches: usize) -> Result<Vec<f64>> {
    let mut rust = Rust::new()?;
    let mut times_ns = Vec::with_capacity(batches);
    for number in 0..WARM_UP_BATCHES + batches {
        rust.now = rust.now + Duration::from_micros(10);
        let mut bufs = (0..BATCH).map(|_| rust.buffer()).collect::<Result<Vec<_>>>()?;
        let mut sent = 0;
        let took = timed(&mut || {
            while let Some(buf) = bufs.pop() {
                sent += usize::from(rust.stack.udp_send(rust.socket, buf).is_ok());
                if from == From::Polled {
                    rust.transmit();
                }
            }
        });
        ensure!(sent == BATCH, "{sent} datagrams of a batch of {BATCH} were sent");
        rust.turn();
        if number >= WARM_UP_BATCHES {
            times_ns.push(took);
        }
    }
    Ok(times_ns)
}

// ---- the C call: one stack in a process, and a driver of plain functions

static INBOX: Mutex<VecDeque<Vec<u8>>> = Mutex::new(VecDeque::new());
/// The frame that the stack looks at.
static OWN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A batch, for the callback that sends it, and what that found.
#[derive(Debug, Default)]
struct Batch {
    socket: c_int,
    handles: Vec<usize>,
    sent: usize,
    took_ns: Option<f64>,
}

thread_local! {
    static NEXT: RefCell<Batch> = RefCell::default();
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn sink_send(interface: ttUserInterface, _data: *mut c_char, _length: c_int, flag: c_int) -> c_int {
    if flag & n::TM_USER_BUFFER_LAST != 0 {
        tfSendCompleteInterface(interface, 0);
    }
    n::TM_ENOERROR
}

unsafe extern "C" fn sink_recv(
    _interface: ttUserInterface,
    data: *mut *mut c_char,
    length: *mut c_int,
    _buffer: *mut ttUserBuffer,
) -> c_int {
    let Some(frame) = lock(&INBOX).pop_front() else { return n::TM_EWOULDBLOCK };
    let mut own = lock(&OWN);
    *own = frame;
    // SAFETY: the library's variables; the frame stays where it is until the next call.
    unsafe {
        *length = own.len() as c_int;
        *data = own.as_mut_ptr().cast();
    }
    n::TM_ENOERROR
}

unsafe extern "C" fn sink_mac(_interface: ttUserInterface, mac: *mut c_char) -> c_int {
    // SAFETY: the library's room for six bytes.
    unsafe { mac.cast::<[u8; 6]>().write(FLOW.target_mac.0) };
    n::TM_ENOERROR
}

pub(super) fn address(of: SocketAddrV4) -> tfSockaddrIn {
    tfSockaddrIn {
        sin_len: 0,
        sin_family: n::TM_AF_INET as u8,
        sin_port: of.port().to_be(),
        sin_addr: tfInAddr { s_addr: u32::from_ne_bytes(of.ip().octets()) },
        sin_zero: [0; 8],
    }
}

/// The stack up, and a connected socket on it that knows its neighbour.
fn c_socket() -> Result<c_int> {
    ensure!(tfStartTreck() == n::TM_ENOERROR, "tfStartTreck");
    let mut error = 0;
    let [ip, mask] = [*FLOW.target.ip(), [255, 255, 255, 0].into()].map(|ip| u32::from_ne_bytes(ip.octets()));
    // SAFETY: the name is a string, the functions are a driver's.
    let interface = unsafe {
        tfAddInterface(
            c"sink".as_ptr(),
            tfUseEthernet(),
            None,
            None,
            Some(sink_send),
            Some(sink_recv),
            None,
            None,
            Some(sink_mac),
            &raw mut error,
        )
    };
    ensure!(error == n::TM_ENOERROR, "tfAddInterface: {error}");
    lock(&INBOX).push_back(introduction(FLOW));
    let opened = tfOpenInterface(interface, ip, mask, 0, 1);
    ensure!(opened == n::TM_ENOERROR, "tfOpenInterface: {opened}");
    // From now on the driver is asked only when there is something.
    tfNotifyReceiveInterfaceIsr(interface);
    let socket = tfSocket(n::TM_AF_INET, n::TM_SOCK_DGRAM, 0);
    let (local, remote, bytes) = (address(FLOW.target), address(FLOW.source), size_of::<tfSockaddrIn>() as c_int);
    // SAFETY: both are addresses of that length.
    let ready = unsafe {
        tfBind(socket, (&raw const local).cast(), bytes) == 0
            && tfConnect(socket, (&raw const remote).cast(), bytes) == 0
    };
    ensure!(ready && tfBlockingState(socket, n::TM_BLOCKING_OFF) == 0, "the socket");
    while tfPoll() != 0 {}
    Ok(socket)
}

pub(super) fn buffer() -> Option<usize> {
    let mut data = ptr::null_mut();
    // SAFETY: a variable of ours.
    let handle = unsafe { tfGetZeroCopyBuffer(PAYLOAD_BYTES as c_int, &raw mut data) };
    (!handle.is_null()).then_some(handle.addr())
}

pub(super) fn send(socket: c_int, handle: usize) -> bool {
    let handle: ttUserMessage = ptr::without_provenance_mut(handle);
    tfZeroCopySend(socket, handle, PAYLOAD_BYTES as c_int, 0) == PAYLOAD_BYTES as c_int
}

fn send_batch(batch: &mut Batch) {
    let Batch { socket, handles, sent, took_ns } = batch;
    *took_ns = Some(timed(&mut || {
        while let Some(handle) = handles.pop() {
            *sent += usize::from(send(*socket, handle));
        }
    }));
}

/// A datagram came: the time for a batch.
extern "C" fn on_datagram(socket: c_int, _events: c_int) {
    let mut payload = [0u8; PAYLOAD_BYTES];
    // SAFETY: there is room for as many bytes.
    while unsafe { tfRecv(socket, payload.as_mut_ptr().cast(), payload.len() as c_int, 0) } > 0 {}
    NEXT.with_borrow_mut(send_batch);
}

fn c_batches(from: From, batches: usize) -> Result<Vec<f64>> {
    let socket = c_socket()?;
    if from == From::Callback {
        ensure!(tfRegisterSocketCB(socket, Some(on_datagram), n::TM_CB_RECV) == 0, "tfRegisterSocketCB");
    }
    let wake = FLOW.frame(PAYLOAD_BYTES);
    let mut times_ns = Vec::with_capacity(batches);
    for number in 0..WARM_UP_BATCHES + batches {
        let handles: Vec<_> = (0..BATCH).map_while(|_| buffer()).collect();
        ensure!(handles.len() == BATCH, "the pool is empty");
        let mut batch = Batch { socket, handles, ..Batch::default() };
        if from == From::Callback {
            NEXT.set(batch);
            lock(&INBOX).push_back(wake.clone());
            tfPoll();
            batch = NEXT.take();
        } else {
            send_batch(&mut batch);
        }
        let Some(took) = batch.took_ns.filter(|_| batch.sent == BATCH) else {
            bail!("{} datagrams of a batch of {BATCH} were sent", batch.sent)
        };
        while tfPoll() != 0 {}
        if number >= WARM_UP_BATCHES {
            times_ns.push(took);
        }
    }
    Ok(times_ns)
}

struct FromThread {
    p50_ns: f64,
    mean_ns: f64,
    p99_ns: f64,
    /// Getting a buffer and sending it.
    with_buffer_ns: f64,
    /// Of the thread that sends.
    system_calls: u64,
    refused: usize,
    /// From start to end, not of the counted sends only.
    worker: Switches,
}

/// How often threads stopped running.
#[derive(Clone, Copy, Debug, Default)]
struct Switches {
    slept: u64,
    lost_core: u64,
}

impl Switches {
    /// Of the library's workers.
    fn of_workers() -> Result<Self> {
        let mut found = Self::default();
        for task in fs::read_dir("/proc/self/task")? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map_or("", str::trim);
            if value("Name:").starts_with("fw-worker") {
                found.slept += value("voluntary_ctxt_switches:").parse::<u64>()?;
                found.lost_core += value("nonvoluntary_ctxt_switches:").parse::<u64>()?;
            }
        }
        Ok(found)
    }
}

fn from_thread(core: Option<usize>, batches: usize, gap_ns: u64) -> Result<FromThread> {
    let socket = c_socket()?;
    let started = tfStartWorkers(1);
    ensure!(started == n::TM_ENOERROR, "tfStartWorkers: {started}");
    let found = syscalls::count(|tally| {
        // Not before: the worker chooses among the cores of the thread that starts it.
        affinity::pin(core)?;
        Ok(send_all(socket, batches, gap_ns, tally))
    })?;
    Ok(FromThread { worker: Switches::of_workers()?, ..found })
}

fn send_all(socket: c_int, batches: usize, gap_ns: u64, tally: &syscalls::Tally) -> FromThread {
    let mut clock_ns: Vec<f64> = (0..10_000).map(|_| Instant::now().elapsed().as_nanos() as f64).collect();
    let clock_ns = quantile(&mut clock_ns, 0.5);
    let (count, warm_up) = (batches * BATCH, WARM_UP_BATCHES * BATCH);
    let (mut sends_ns, mut both_ns) = (Vec::with_capacity(count + warm_up), Vec::with_capacity(count + warm_up));
    let (mut calls_before, mut refused) = (0, 0);
    let mut last = Instant::now();
    while sends_ns.len() < count + warm_up {
        if sends_ns.len() == warm_up {
            calls_before = tally.count();
            refused = 0;
        }
        while (last.elapsed().as_nanos() as u64) < gap_ns {
            std::hint::spin_loop();
        }
        last = Instant::now();
        let Some(handle) = buffer() else {
            refused += 1;
            continue;
        };
        let begun = Instant::now();
        let mut sent = send(socket, handle);
        let ended = Instant::now();
        if sent {
            sends_ns.push((ended - begun).as_nanos() as f64 - clock_ns);
            both_ns.push((ended - last).as_nanos() as f64 - 2.0 * clock_ns);
        }
        while !sent {
            // The queue is full: the worker has not sent it yet.
            refused += 1;
            std::hint::spin_loop();
            sent = send(socket, handle);
        }
    }
    let system_calls = tally.count() - calls_before;
    let [mut sends_ns, mut both_ns] = [sends_ns, both_ns].map(|all| all[warm_up..].to_owned());
    FromThread {
        p50_ns: quantile(&mut sends_ns, 0.5),
        mean_ns: sends_ns.iter().sum::<f64>() / count as f64,
        p99_ns: quantile(&mut sends_ns, 0.99),
        with_buffer_ns: quantile(&mut both_ns, 0.5),
        system_calls,
        refused,
        worker: Switches::default(),
    }
}
