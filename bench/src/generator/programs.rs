//! Loading the generator's programs, running the sending one, reading their counters.

use super::{Checks, GeneratorArgs, TICK};
use crate::{
    packet::{self, Answer, Flow, MAGIC},
    stop::StopFlag,
    xsk::interface_index,
};
use anyhow::{Context, Result, bail};
use libbpf_rs::{
    Link, MapHandle, OpenObject, RingBufferBuilder, libbpf_sys,
    skel::{OpenSkel, SkelBuilder},
};
use std::{
    cell::RefCell,
    io, mem,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::thread::JoinHandleExt,
    },
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

#[allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all, clippy::undocumented_unsafe_blocks)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/generator.skel.rs"));
}
use skeleton::{GeneratorSkel, GeneratorSkelBuilder};

/// Frames that the kernel has ready at a time, and between two looks for other work (`TEST_XDP_MAX_BATCH` is 256).
const BATCH_FRAMES: u32 = 64;
/// Frames of one test run: as many as can be, for a run begins and ends with some 10 ms of sleep in the kernel. A signal ends it.
const RUN_FRAMES: i32 = i32::MAX;
/// Interrupts the sending thread.
const WAKE_SIGNAL: libc::c_int = libc::SIGUSR1;

/// A moment's counters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) wrong: u64,
    acknowledged: u64,
    idle_ns: u64,
}

impl Counts {
    /// How long the window was full.
    pub(super) fn idle_between(begin: &Self, end: &Self) -> Duration {
        Duration::from_nanos(end.idle_ns.saturating_sub(begin.idle_ns))
    }
}

/// The loaded programs; the receiving one is attached.
pub(super) struct Programs {
    // Before the object that it came from.
    _link: Link,
    skeleton: GeneratorSkel<'static>,
    samples: Rc<RefCell<Vec<Vec<u8>>>>,
    ring: libbpf_rs::RingBuffer<'static>,
    interface_index: u32,
}

impl Programs {
    pub(super) fn load(interface: &str, flow: &Flow, args: &GeneratorArgs) -> Result<Self> {
        let interface_index = interface_index(interface)?;
        let frame = flow.frame(args.payload_bytes);
        // One generator per process: its object lives as long as the process.
        let storage: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = GeneratorSkelBuilder::default().open(storage).context("the generator's programs")?;
        let constants = open.maps.rodata_data.as_deref_mut().context("no .rodata")?;
        let (from, to) = match args.answer {
            Answer::Reflect => (flow.source, flow.target),
            Answer::Echo => (flow.target, flow.source),
        };
        constants.frame_bytes = frame.len() as u32;
        constants.window = args.window;
        constants.sample_mask = args.sample_every - 1;
        constants.checksum_base = packet::checksum_base(&frame);
        constants.magic = MAGIC;
        constants.reply_addresses = u64::from_ne_bytes(concat(from.ip().octets(), to.ip().octets()));
        constants.reply_ports = u32::from_ne_bytes(concat(from.port().to_be_bytes(), to.port().to_be_bytes()));
        constants.own_address = u32::from_ne_bytes(flow.source.ip().octets());
        constants.own_mac = flow.source_mac.0;
        let skeleton =
            open.load().context("loading the generator's programs (CAP_BPF and CAP_NET_ADMIN are needed)")?;
        let link = skeleton
            .progs
            .framewire_count
            .attach_xdp(interface_index as i32)
            .with_context(|| format!("attaching the generator to {interface}"))?;
        let samples: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
        let map: &'static MapHandle = Box::leak(Box::new(MapHandle::try_from(&skeleton.maps.samples)?));
        let mut builder = RingBufferBuilder::new();
        let sink = samples.clone();
        builder.add(map, move |bytes| {
            sink.borrow_mut().push(bytes.to_vec());
            0
        })?;
        let ring = builder.build()?;
        Ok(Self { _link: link, skeleton, samples, ring, interface_index })
    }

    /// What sends copies of `frame`.
    pub(super) fn sender(&self, frame: &[u8]) -> Result<Sender> {
        let program = self.skeleton.progs.framewire_generate.as_fd().try_clone_to_owned()?;
        Ok(Sender { program, frame: frame.to_owned(), interface_index: self.interface_index })
    }

    /// Waits, and keeps the traffic going: when every packet of a window is lost, nothing would ever be sent again.
    pub(super) fn watch(&mut self, span: Duration, stop: &StopFlag, checks: &mut Checks) -> Result<()> {
        let end = Instant::now() + span;
        let mut before = self.counts();
        while !stop.is_set() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(TICK.min(left));
            let now = self.counts();
            if now.received == before.received && now.sent == before.sent && now.sent > now.acknowledged {
                self.acknowledge(now.sent);
            }
            before = now;
            self.drain(checks)?;
        }
        bail!("interrupted")
    }

    /// Checks the samples that have come.
    pub(super) fn drain(&mut self, checks: &mut Checks) -> Result<()> {
        self.ring.consume()?;
        for sample in self.samples.borrow_mut().drain(..) {
            checks.check(&sample);
        }
        Ok(())
    }

    pub(super) fn counts(&self) -> Counts {
        let Some(data) = self.skeleton.maps.bss_data.as_deref() else {
            return Counts { sent: 0, received: 0, wrong: 0, acknowledged: 0, idle_ns: 0 };
        };
        // SAFETY: `data` is mapped for as long as the skeleton lives; the programs write it at any time, hence the volatile reads of aligned words.
        unsafe {
            Counts {
                sent: (&raw const data.sender.sent).read_volatile(),
                received: (&raw const data.receiver.received).read_volatile(),
                wrong: (&raw const data.receiver.wrong).read_volatile(),
                acknowledged: (&raw const data.control.acknowledged).read_volatile(),
                idle_ns: (&raw const data.sender.idle_ns).read_volatile(),
            }
        }
    }

    fn acknowledge(&mut self, sent: u64) {
        if let Some(data) = self.skeleton.maps.bss_data.as_deref_mut() {
            // SAFETY: as in `counts`. The receiving program may write the same word: both values are right.
            unsafe { (&raw mut data.control.acknowledged).write_volatile(sent) };
        }
    }

    /// Has the sending program send no more.
    pub(super) fn stop(&mut self) {
        if let Some(data) = self.skeleton.maps.bss_data.as_deref_mut() {
            // SAFETY: as in `counts`; the programs only read this word.
            unsafe { (&raw mut data.control.stop).write_volatile(1) };
        }
    }
}

/// The thread that sends.
#[derive(Debug)]
pub(super) struct Sending {
    thread: JoinHandle<Result<()>>,
}

impl Sending {
    /// Ends it; the stop flag must be set.
    pub(super) fn join(self) -> Result<()> {
        // The signal may arrive just before the system call that it is to interrupt.
        while !self.thread.is_finished() {
            // SAFETY: the thread has not been joined, so its handle is valid; `Sender::start` has installed a handler.
            unsafe { libc::pthread_kill(self.thread.as_pthread_t(), WAKE_SIGNAL) };
            thread::sleep(Duration::from_millis(1));
        }
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// The sending program and its frame.
#[derive(Debug)]
pub(super) struct Sender {
    program: OwnedFd,
    frame: Vec<u8>,
    interface_index: u32,
}

impl Sender {
    /// Starts a thread, on the caller's core, that sends until the flag is set and [`Sending::join`] is called.
    pub(super) fn start(self, stop: StopFlag) -> Result<Sending> {
        // The flag is of no use; that there is a handler is.
        signal_hook::flag::register(WAKE_SIGNAL, Arc::default())?;
        Ok(Sending { thread: thread::Builder::new().name("send".into()).spawn(move || self.run(&stop))? })
    }

    fn run(&self, stop: &StopFlag) -> Result<()> {
        let context = libbpf_sys::xdp_md {
            data_end: self.frame.len() as u32,
            ingress_ifindex: self.interface_index,
            ..Default::default()
        };
        // SAFETY: all-zero bytes are a valid `bpf_test_run_opts`.
        let mut options: libbpf_sys::bpf_test_run_opts = unsafe { mem::zeroed() };
        options.sz = size_of_val(&options) as libbpf_sys::size_t;
        options.data_in = self.frame.as_ptr().cast();
        options.data_size_in = self.frame.len() as u32;
        options.ctx_in = (&raw const context).cast();
        options.ctx_size_in = size_of_val(&context) as u32;
        options.repeat = RUN_FRAMES;
        options.flags = libbpf_sys::BPF_F_TEST_XDP_LIVE_FRAMES;
        options.batch_size = BATCH_FRAMES;
        while !stop.is_set() {
            // SAFETY: `options` points at `frame` and `context`, which outlive the call and which it only reads.
            let rc = unsafe { libbpf_sys::bpf_prog_test_run_opts(self.program.as_raw_fd(), &mut options) };
            match -rc {
                0 | libc::EINTR => {}
                errno => {
                    return Err(io::Error::from_raw_os_error(errno))
                        .context("BPF_PROG_TEST_RUN with live frames (Linux 5.18 or newer is needed)");
                }
            }
        }
        Ok(())
    }
}

fn concat<const A: usize, const B: usize>(a: [u8; A], b: [u8; A]) -> [u8; B] {
    let mut both = [0; B];
    both[..A].copy_from_slice(&a);
    both[A..].copy_from_slice(&b);
    both
}
