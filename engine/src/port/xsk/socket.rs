//! The UMEM and the socket: made, bound, woken and closed. xsk-rs does the work; its queues are kept for their lifetimes and never used.

use super::{BusyPoll, XskConfig, XskError, config::CHUNK_BYTES_MAX};
use crate::buf::{HugePages, Pages, Region};
use std::{
    cell::RefCell,
    error::Error,
    io,
    num::NonZeroU32,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr::{self, NonNull},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};
use xsk_rs::{
    CompQueue, FillQueue, RxQueue, Socket as XskSocket, TxQueue, Umem,
    config::{BindFlags, FrameSize, LibxdpFlags, QueueSize, SocketConfig, UmemConfig},
    socket::XdpStatistics,
};

/// What an explicit huge page holds.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// `XDP_MAX_TX_SKB_BUDGET` (`include/uapi/linux/if_xdp.h`; Linux 6.18 has it): packets that one `sendto` sends in copy mode, 32 by default.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// `SO_PREFER_BUSY_POLL` and `SO_BUSY_POLL_BUDGET` (`include/uapi/asm-generic/socket.h`, Linux 5.11).
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;

/// Longest pause between two tries to bind.
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Memory for frames, registered with a socket that is not bound yet.
pub(super) struct UmemMemory {
    pub(super) umem: Umem,
    pub(super) base: NonNull<u8>,
    pub(super) pages: Pages,
    /// Why there are no huge pages.
    pub(super) fallback: Option<String>,
}

impl UmemMemory {
    pub(super) fn new(config: &XskConfig) -> Result<Self, XskError> {
        let mut fallback = None;
        if config.huge_pages == HugePages::Prefer {
            if config.umem_bytes().is_multiple_of(HUGE_PAGE_BYTES) {
                match Self::with_pages(config, Pages::Huge) {
                    // Not enough huge pages. All else would come again with base pages, and is reported from there.
                    Err(_) => fallback = Some("no 2 MiB pages free for the frames: base pages".into()),
                    ok => return ok,
                }
            } else {
                fallback = Some("the frames do not fill whole 2 MiB pages: base pages".into());
            }
        }
        Self::with_pages(config, Pages::Base).map(|memory| Self { fallback, ..memory })
    }

    fn with_pages(config: &XskConfig, pages: Pages) -> Result<Self, XskError> {
        let wrong = |field| move |problem: String| XskError::Config { field, problem };
        let queue_size = |field, entries| QueueSize::new(entries).map_err(|e| wrong(field)(e.to_string()));
        let chunk_bytes = config.chunk_bytes.unwrap_or(CHUNK_BYTES_MAX) as u32;
        let umem_config = UmemConfig::builder()
            .frame_size(FrameSize::new(chunk_bytes).map_err(|e| wrong("chunk_bytes")(e.to_string()))?)
            .frame_headroom(0)
            .fill_queue_size(queue_size("fill_ring_entries", config.fill_ring_entries)?)
            .comp_queue_size(queue_size("completion_ring_entries", config.completion_ring_entries)?)
            .build()
            .map_err(|e| wrong("chunk_bytes")(e.to_string()))?;
        let frames = NonZeroU32::new(config.frames).ok_or_else(|| wrong("frames")("there are none".into()))?;
        let (umem, frames) =
            Umem::new(umem_config, frames, pages == Pages::Huge).map_err(|e| refused_umem(config, kernel_error(&e)))?;
        let Some(first) = frames.first() else { return Err(wrong("frames")("there are none".into())) };
        // SAFETY: `first` is of this UMEM, and neither the kernel nor anybody else has been told of the memory yet.
        let data = unsafe { umem.data(first) }.contents().as_ptr().addr();
        // The mapping is xsk-rs's, made by mmap; the first frame's data is all it shows of it.
        let base = ptr::with_exposed_provenance_mut(data - first.addr());
        let base = NonNull::new(base).ok_or_else(|| wrong("frames")("no memory".into()))?;
        Ok(Self { umem, base, pages, fallback: None })
    }
}

/// What libxdp returned, as the error it stands for.
fn kernel_error(error: &(dyn Error + 'static)) -> io::Error {
    let source = error.source().and_then(|e| e.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    source.map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

fn refused_umem(config: &XskConfig, source: io::Error) -> XskError {
    let (interface, queue) = (config.interface.clone(), config.queue);
    let (call, advice) = match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            return XskError::MissingCapability {
                interface,
                queue,
                capability: "CAP_NET_RAW (in the network namespace's user namespace)",
            };
        }
        Some(libc::ENOBUFS) => {
            let (bytes, limit_bytes) = (config.umem_bytes(), locked_memory_limit());
            return XskError::LockedMemory { interface, queue, bytes, limit_bytes, source };
        }
        Some(libc::EAFNOSUPPORT) => ("socket(AF_XDP)", "the kernel was built without CONFIG_XDP_SOCKETS"),
        Some(libc::EMFILE | libc::ENFILE) => ("socket(AF_XDP)", "too many open files: raise `ulimit -n`"),
        Some(libc::ENOMEM) => ("mmap or setsockopt(XDP_UMEM_REG)", "not enough memory: configure fewer frames"),
        _ => ("setsockopt(XDP_UMEM_REG)", "Linux 5.4 or newer is needed"),
    };
    XskError::Refused { call, interface, queue, source, advice }
}

fn locked_memory_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable and outlives the call.
    let rc = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (rc == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Which step to a bound socket was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Memory that had been registered before was to be registered anew.
    Register,
    Bind,
}

/// A bind that failed.
#[derive(Debug)]
pub(super) struct BindError {
    step: Step,
    pub(super) source: io::Error,
    pub(super) tries: u32,
    pub(super) waited: Duration,
}

impl BindError {
    pub(super) fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }

    /// Other flags would make no difference.
    pub(super) fn is_final(&self) -> bool {
        self.step == Step::Register || matches!(self.errno(), libc::EBUSY | libc::EPERM | libc::EACCES | libc::ENODEV)
    }

    pub(super) fn into_xsk_error(self, config: &XskConfig) -> XskError {
        let (interface, queue) = (config.interface.clone(), config.queue);
        let Self { step, source, tries, waited } = self;
        if step == Step::Register {
            return refused_umem(config, source);
        }
        let (call, advice) = match source.raw_os_error() {
            Some(libc::EBUSY) => {
                return XskError::Busy { interface, queue, tries, waited_ms: waited.as_millis() as u64, source };
            }
            Some(libc::EPERM | libc::EACCES) => {
                return XskError::MissingCapability { interface, queue, capability: "CAP_NET_RAW" };
            }
            Some(libc::ENOMEM) => ("setsockopt(XDP_RX_RING, XDP_TX_RING)", "not enough memory: make the rings smaller"),
            Some(libc::ENODEV) => ("bind", "the interface went away meanwhile"),
            Some(libc::ENETDOWN) => ("bind", "the interface is down: `ip link set … up`"),
            Some(libc::EINVAL) => {
                ("bind", "no such queue, or a bind flag that this kernel does not know; try multi_buffer = \"off\"")
            }
            Some(libc::EOPNOTSUPP) => ("bind", "the driver has no AF_XDP support for what was asked"),
            _ => ("bind", "see `dmesg`, and net/xdp/xsk.c for what the error stands for"),
        };
        XskError::Refused { call, interface, queue, source, advice }
    }
}

fn set_option<T: Copy>(fd: RawFd, level: libc::c_int, option: libc::c_int, value: T) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which outlives the call.
    let rc = unsafe {
        libc::setsockopt(fd, level, option, (&raw const value).cast(), size_of_val(&value) as libc::socklen_t)
    };
    if rc != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// See [`Socket::wake_tx`].
#[inline]
pub(super) fn wake_tx(fd: RawFd) -> io::Result<()> {
    // SAFETY: a message of no bytes: the null pointers are not read.
    let rc = unsafe { libc::sendto(fd, ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// See [`Socket::wake_rx`].
#[inline]
pub(super) fn wake_rx(fd: RawFd) -> io::Result<()> {
    // SAFETY: a message of no bytes: the null pointers are not written.
    let rc = unsafe { libc::recvfrom(fd, ptr::null_mut(), 0, libc::MSG_DONTWAIT, ptr::null_mut(), ptr::null_mut()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

struct Queues {
    tx: TxQueue,
    _rx: RxQueue,
    _fill: Option<(FillQueue, CompQueue)>,
}

/// The sockets of a UMEM. Its descriptor is the first one's, and later ones name it to share the memory: so it has to stand for a socket that is bound as long as any is.
///
/// The kernel's side of a UMEM goes with its last socket. The next one registers the same memory anew, in the same place.
pub(super) struct Family {
    pub(super) memory: UmemMemory,
    seat: RefCell<Seat>,
}

struct Seat {
    /// The UMEM's descriptor: of the first socket, until others take its place.
    fd: Option<RawFd>,
    /// The sockets that are open, by their own descriptors.
    open: Vec<RawFd>,
    /// Whose socket `fd` stands for now.
    taken_by: Option<RawFd>,
    /// What it stands for when no socket is left: its number must stay taken until the UMEM is deleted.
    placeholder: OwnedFd,
}

impl Family {
    pub(super) fn new(memory: UmemMemory, config: &XskConfig) -> Result<Self, XskError> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(XskError::Refused {
                call: "eventfd",
                interface: config.interface.clone(),
                queue: config.queue,
                source: io::Error::last_os_error(),
                advice: "too many open files: raise `ulimit -n`",
            });
        }
        // SAFETY: a new descriptor that nobody else owns.
        let placeholder = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { memory, seat: RefCell::new(Seat { fd: None, open: Vec::new(), taken_by: None, placeholder }) })
    }

    /// On memory that libxdp has not mapped, which must stay as long as there are sockets: it is registered with the first.
    pub(super) fn of_region(region: &Region, config: &XskConfig) -> Result<Self, XskError> {
        // libxdp makes sockets for UMEMs that it has registered itself. This one has a single frame, and tells its descriptor, for `renew` to use, by a socket.
        let stand_in = XskConfig { frames: 1, huge_pages: HugePages::Never, ..config.clone() };
        let memory = UmemMemory { base: region.base(), pages: region.pages(), ..UmemMemory::new(&stand_in)? };
        let family = Rc::new(Self::new(memory, config)?);
        drop(Socket::bind(&stand_in, &family, BindFlags::XDP_COPY).map_err(|e| e.into_xsk_error(config))?);
        Rc::into_inner(family).ok_or_else(|| XskError::Config { field: "frames", problem: "are in use".into() })
    }

    /// How many are open.
    pub(super) fn sockets(&self) -> u32 {
        self.seat.borrow().open.len() as u32
    }

    fn join(&self, fd: RawFd) {
        let mut seat = self.seat.borrow_mut();
        if seat.open.is_empty() {
            (seat.fd, seat.taken_by) = (Some(fd), Some(fd));
        }
        seat.open.push(fd);
    }

    /// If all sockets are closed: puts a new one, on which the memory is registered, in the first one's place. libxdp takes the UMEM's descriptor for the next socket, and
    /// makes the fill and completion rings; RX and TX rings it remembers to have made there once (`rx_ring_setup_done` in `xsk_socket__create_shared`).
    fn renew(&self, config: &XskConfig) -> io::Result<()> {
        let seat = self.seat.borrow();
        let (Some(umem_fd), true) = (seat.fd, seat.open.is_empty()) else { return Ok(()) };
        // SAFETY: no pointers are passed; a valid result is a new descriptor that nobody else owns.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let memory = libc::xdp_umem_reg {
            addr: self.memory.base.as_ptr().expose_provenance() as u64,
            len: config.umem_bytes() as u64,
            chunk_size: config.chunk_bytes.unwrap_or(CHUNK_BYTES_MAX) as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        set_option(socket.as_raw_fd(), libc::SOL_XDP, libc::XDP_UMEM_REG, memory)?;
        set_option(socket.as_raw_fd(), libc::SOL_XDP, libc::XDP_RX_RING, config.rx_ring_entries)?;
        set_option(socket.as_raw_fd(), libc::SOL_XDP, libc::XDP_TX_RING, config.tx_ring_entries)?;
        replace(umem_fd, socket.as_raw_fd())
    }

    /// Takes away what [`renew`](Self::renew) made, as it was not bound.
    fn vacate(&self) {
        let seat = self.seat.borrow();
        if let (Some(umem_fd), true) = (seat.fd, seat.open.is_empty()) {
            // If it stays, the next one takes its place.
            let _ = replace(umem_fd, seat.placeholder.as_raw_fd());
        }
    }

    /// The socket is closed, but for what the UMEM's descriptor stands for.
    fn leave(&self, fd: RawFd) -> io::Result<()> {
        let mut seat = self.seat.borrow_mut();
        seat.open.retain(|&other| other != fd);
        let (Some(umem_fd), true) = (seat.fd, seat.taken_by == Some(fd)) else { return Ok(()) };
        let next = seat.open.first().copied();
        seat.taken_by = next;
        // xsk-rs leaves the first socket's descriptor to the UMEM, which lives as long as the pool; this closes the socket and leaves the number taken.
        let next = next.unwrap_or_else(|| seat.placeholder.as_raw_fd());
        replace(umem_fd, next)
    }
}

/// Closes what a UMEM's descriptor stands for; from now on it stands for what `by` does.
fn replace(umem_fd: RawFd, by: RawFd) -> io::Result<()> {
    // SAFETY: both descriptors are open; the one replaced is used by nobody but xsk-rs, to share the memory and to close it in the end.
    let rc = unsafe { libc::dup3(by, umem_fd, libc::O_CLOEXEC) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A bound socket.
pub(super) struct Socket {
    queues: Option<Queues>,
    fd: RawFd,
    family: Rc<Family>,
}

impl Socket {
    /// Binds, and tries again for a while if the queue is busy, or the memory still counted as that of sockets closed before.
    pub(super) fn bind(config: &XskConfig, family: &Rc<Family>, flags: BindFlags) -> Result<Self, BindError> {
        let begun = Instant::now();
        let (mut tries, mut pause) = (0, Duration::from_millis(1));
        loop {
            tries += 1;
            let (step, source) = match Self::bind_once(config, family, flags) {
                Ok(socket) => return Ok(socket),
                Err(refused) => refused,
            };
            let waited = begun.elapsed();
            let passes = matches!(
                (step, source.raw_os_error()),
                (Step::Bind, Some(libc::EBUSY)) | (Step::Register, Some(libc::ENOBUFS))
            );
            if !passes || waited >= config.busy_retry {
                return Err(BindError { step, source, tries, waited });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(BUSY_PAUSE_MAX);
        }
    }

    fn bind_once(config: &XskConfig, family: &Rc<Family>, flags: BindFlags) -> Result<Self, (Step, io::Error)> {
        family.renew(config).map_err(|e| (Step::Register, e))?;
        Self::bind_to(config, family, flags).map_err(|e| {
            family.vacate();
            (Step::Bind, e)
        })
    }

    fn bind_to(config: &XskConfig, family: &Rc<Family>, flags: BindFlags) -> io::Result<Self> {
        let socket_config = SocketConfig::builder()
            .rx_queue_size(QueueSize::new(config.rx_ring_entries).map_err(io::Error::other)?)
            .tx_queue_size(QueueSize::new(config.tx_ring_entries).map_err(io::Error::other)?)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(flags)
            .build();
        let interface = config.interface.parse().map_err(io::Error::other)?;
        // SAFETY: the loading of programs is inhibited.
        let (tx, rx, fill) = unsafe { XskSocket::new(socket_config, &family.memory.umem, &interface, config.queue) }
            .map_err(|e| kernel_error(&e))?;
        let fd = tx.fd().as_raw_fd();
        // SAFETY: `fd` is open. libxdp does not ask for close-on-exec, and a child that inherited it would keep the queue bound.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        family.join(fd);
        Ok(Self { queues: Some(Queues { tx, _rx: rx, _fill: fill }), fd, family: family.clone() })
    }

    /// The kernel's own account of whether it copies.
    pub(super) fn is_zero_copy(&self) -> io::Result<bool> {
        let mut options = libc::xdp_options { flags: 0 };
        let mut len = size_of_val(&options) as libc::socklen_t;
        // SAFETY: pointer and length describe `options`, which outlives the call.
        let rc = unsafe {
            libc::getsockopt(self.fd, libc::SOL_XDP, libc::XDP_OPTIONS, (&raw mut options).cast(), &raw mut len)
        };
        if rc != 0 { Err(io::Error::last_os_error()) } else { Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0) }
    }

    /// Lets one `sendto` send `packets` in copy mode.
    pub(super) fn set_tx_budget(&self, packets: u32) -> io::Result<()> {
        set_option(self.fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, packets)
    }

    pub(super) fn set_busy_poll(&self, busy_poll: BusyPoll) -> io::Result<()> {
        set_option(self.fd, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1)?;
        set_option(self.fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, busy_poll.duration_us)?;
        set_option(self.fd, libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, busy_poll.budget_packets)
    }

    /// Wakes the kernel to send.
    #[inline]
    pub(super) fn wake_tx(&self) -> io::Result<()> {
        wake_tx(self.fd)
    }

    /// Its number, for [`wake_tx`] and [`wake_rx`].
    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd
    }

    /// Wakes the kernel by `poll`. On a socket with preferred busy polling `sendto` polls the receiving NAPI and leaves it at that (`xsk_no_wakeup` in
    /// `net/xdp/xsk.c`): a driver that sends from another one, as virtio-net does, sends nothing.
    pub(super) fn wake_by_poll(&self) {
        let mut polled = libc::pollfd { fd: self.fd, events: libc::POLLOUT, revents: 0 };
        // SAFETY: the one structure is alive for the call, which does not wait. Its errors (a signal, say) are gone with the next kick.
        unsafe { libc::poll(&raw mut polled, 1, 0) };
    }

    /// Wakes the kernel to take frames from the fill ring, or lets it poll the device.
    #[inline]
    pub(super) fn wake_rx(&self) -> io::Result<()> {
        wake_rx(self.fd)
    }

    pub(super) fn statistics(&self) -> Option<XdpStatistics> {
        self.queues.as_ref()?.tx.fd().xdp_statistics().ok()
    }

    /// Closes the socket while the UMEM's memory stays. The rings mapped from it must be gone, or they keep it open.
    pub(super) fn close(&mut self) -> io::Result<()> {
        if self.queues.take().is_none() {
            return Ok(());
        }
        self.family.leave(self.fd)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Nobody is left to tell of an error; the UMEM closes the socket when the last frame is gone.
        let _ = self.close();
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the UMEM, which the queues keep alive; a `Socket` is closed only when it is given up.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Family")
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AF_XDP socket {}", self.fd)
    }
}
