//! A bare AF_XDP socket: xsk-rs for set-up and lifetime, the engine's typed rings for the data path, no pool, no holders.

use anyhow::{Context, Result, anyhow, ensure};
use framewire::ring::{CompAddr, Consumer, FillAddr, Offsets, Producer, RxDesc, TxDesc};
use framewire_xdp::{AttachMode, Mode, Steer, SteerOptions};
use std::{
    ffi::CString,
    fmt, io,
    num::NonZeroU32,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    ptr::NonNull,
    thread,
    time::Duration,
};
use xsk_rs::{
    CompQueue, FillQueue, RxQueue, Socket, TxQueue, Umem,
    config::{BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig},
};

/// `XDP_MAX_TX_SKB_BUDGET` (Linux 6.17, `include/uapi/linux/if_xdp.h`): packets that one `sendto` sends in copy mode; 32 without it.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// Sizes of a socket's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct XskConfig {
    pub(crate) frames: u32,
    pub(crate) chunk_bytes: u32,
    pub(crate) ring_entries: u32,
    /// Packets that one `sendto` may send, where the kernel lets it be set.
    pub(crate) tx_budget: u32,
}

impl Default for XskConfig {
    fn default() -> Self {
        Self { frames: 4096, chunk_bytes: 2048, ring_entries: 2048, tx_budget: 128 }
    }
}

/// What was bound.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) attached: String,
    pub(crate) zero_copy: bool,
    /// `None`: the kernel has no such option and sends 32.
    pub(crate) tx_budget: Option<u32>,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} XDP, {}", self.attached, if self.zero_copy { "zero-copy" } else { "copy" })?;
        match self.tx_budget {
            Some(budget) => write!(f, ", {budget} packets a sendto"),
            None => f.write_str(", 32 packets a sendto"),
        }
    }
}

/// A socket bound to queue 0 of an interface that gets every frame of it.
pub(crate) struct Xsk {
    // Dropped first: no frame is redirected to a socket that goes.
    _steer: Steer,
    pub(crate) rx: Consumer<RxDesc>,
    pub(crate) tx: Producer<TxDesc>,
    pub(crate) fill: Producer<FillAddr>,
    pub(crate) completion: Consumer<CompAddr>,
    pub(crate) bound: Bound,
    pub(crate) config: XskConfig,
    base: NonNull<u8>,
    fd: RawFd,
    _queues: (TxQueue, RxQueue, FillQueue, CompQueue),
    _umem: Umem,
}

impl Xsk {
    /// Binds, attaches the program, and lends the first `ring_entries` frames for receiving.
    pub(crate) fn open(interface: &str, config: XskConfig) -> Result<Self> {
        ensure!(config.frames >= config.ring_entries, "fewer frames than ring entries");
        let entries = QueueSize::new(config.ring_entries)?;
        let umem_config = UmemConfig::builder()
            .frame_size(FrameSize::new(config.chunk_bytes)?)
            .fill_queue_size(entries)
            .comp_queue_size(entries)
            .build()
            .map_err(|error| anyhow!("UMEM: {error}"))?;
        let frames = NonZeroU32::new(config.frames).context("no frames")?;
        let (umem, descs) = Umem::new(umem_config, frames, false)
            .map_err(|error| anyhow!("UMEM: {error}: {:?}", std::error::Error::source(&error)))?;
        let socket_config = SocketConfig::builder()
            .rx_queue_size(entries)
            .tx_queue_size(entries)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let name = Interface::new(CString::new(interface)?);
        let (tx_queue, rx_queue, rest) = bind(socket_config, &umem, &name)?;
        let (fill_queue, comp_queue) = rest.context("the UMEM has its rings already")?;
        let fd = tx_queue.fd().as_raw_fd();
        // SAFETY: `tx_queue`, which owns the descriptor, is kept in the same value and outlives this borrow.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let offsets = Offsets::of(borrowed)?;
        // SAFETY: the rings were made with this size just now, and xsk-rs's ends of them are never used.
        let (rx, tx, mut fill, completion) = unsafe {
            (
                offsets.rx(borrowed, config.ring_entries)?,
                offsets.tx(borrowed, config.ring_entries)?,
                offsets.fill(borrowed, config.ring_entries)?,
                offsets.completion(borrowed, config.ring_entries)?,
            )
        };
        let first = descs.first().context("no frames")?;
        // SAFETY: the frame belongs to this UMEM, and nobody else has it yet.
        let data = unsafe { umem.data(first) }.contents().as_ptr().cast_mut();
        // SAFETY: `addr` is the data's offset from the start of the same mapping.
        let base = NonNull::new(unsafe { data.sub(first.addr()) }).context("the UMEM is at address 0")?;

        let mut lend = fill.reserve(config.ring_entries);
        for frame in 0..config.ring_entries {
            lend.push(FillAddr(u64::from(frame) * u64::from(config.chunk_bytes)));
        }
        lend.commit();

        let tx_budget = set_tx_budget(fd, config.tx_budget).then_some(config.tx_budget);
        let zero_copy = is_zero_copy(fd).context("getsockopt(SOL_XDP, XDP_OPTIONS)")?;
        let mut steer = Steer::load(&SteerOptions::default())?;
        steer.set_mode(Mode::Everything)?;
        steer.set_socket(0, borrowed)?;
        let attached = steer.attach(interface_index(interface)?, AttachMode::Auto)?.to_string();
        Ok(Self {
            _steer: steer,
            rx,
            tx,
            fill,
            completion,
            bound: Bound { attached, zero_copy, tx_budget },
            config,
            base,
            fd,
            _queues: (tx_queue, rx_queue, fill_queue, comp_queue),
            _umem: umem,
        })
    }

    /// The start of frame memory.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd
    }
}

/// One `sendto` that sends what the TX ring holds. "Try again" in its various forms is no error.
#[inline]
pub(crate) fn kick(fd: RawFd) -> io::Result<()> {
    // SAFETY: no buffer and no address are passed.
    let rc = unsafe { libc::sendto(fd, std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
    if rc >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::ENETDOWN | libc::EINTR) => Ok(()),
        _ => Err(error),
    }
}

type Queues = (TxQueue, RxQueue, Option<(FillQueue, CompQueue)>);

/// The kernel frees a queue some time after its last socket was closed: EBUSY is tried again for two seconds.
fn bind(config: SocketConfig, umem: &Umem, name: &Interface) -> Result<Queues> {
    for _ in 0..40 {
        // SAFETY: the UMEM is not shared, and the program is not libxdp's.
        match unsafe { Socket::new(config, umem, name, 0) } {
            Ok(queues) => return Ok(queues),
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                if !source.contains("os error 16") {
                    return Err(anyhow!("AF_XDP socket: {error}: {source}"));
                }
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(anyhow!("AF_XDP socket: queue 0 is still busy after two seconds"))
}

fn set_tx_budget(fd: RawFd, packets: u32) -> bool {
    let size = size_of_val(&packets) as libc::socklen_t;
    // SAFETY: pointer and size describe `packets`.
    unsafe { libc::setsockopt(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, (&raw const packets).cast(), size) == 0 }
}

fn is_zero_copy(fd: RawFd) -> io::Result<bool> {
    let mut options: u32 = 0;
    let mut size = size_of_val(&options) as libc::socklen_t;
    // SAFETY: pointer and size describe `options` (`struct xdp_options`, one __u32).
    let rc =
        unsafe { libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_OPTIONS, (&raw mut options).cast(), &raw mut size) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(options & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

/// The interface's index in the calling thread's network namespace.
pub(crate) fn interface_index(name: &str) -> Result<u32> {
    let c_name = CString::new(name)?;
    // SAFETY: a NUL-terminated string.
    match unsafe { libc::if_nametoindex(c_name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()).with_context(|| format!("interface {name}")),
        index => Ok(index),
    }
}
