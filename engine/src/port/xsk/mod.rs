//! AF_XDP: one socket on one queue of one interface, with a UMEM of its own or one that several share.
//!
//! xsk-rs makes the UMEM and the socket, binds it and keeps the lifetimes. The four rings are mapped a second time from the socket's
//! descriptor ([`ring::Offsets`](crate::ring::Offsets)) and moved by [`Rings`] alone. The XDP program is somebody else's: it takes the
//! descriptor ([`XskPort::socket`]) into its XSKMAP and must be detached before the port is closed.
//!
//! Here is the edge: this module reads the clock, sleeps while a queue is busy, and makes system calls.

mod config;
mod error;
mod features;
mod kick;
mod napi;
mod netdev;
mod netlink;
mod socket;

pub use config::{BusyPoll, MultiBuffer, Wakeup, XdpMode, XskConfig, ZeroCopy};
pub use error::XskError;
pub use kick::{Kicked, Kicker};
pub use napi::{NapiError, NapiThreads};
pub use netdev::LinkState;

use self::{
    config::CHUNK_BYTES_MAX,
    features::Features,
    kick::Line,
    netdev::Netdev,
    socket::{Family, Socket, UmemMemory},
};
use super::{CopyMode, DriverMode, Kick, Port, PortError, PortInfo, PortStats, Rings};
use crate::{
    buf::{Pool, Region, RxBuf, TxQueue},
    ring::Offsets,
    time::{Duration, Instant},
};
use caps::{CapSet, Capability};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
    thread, time,
};
use xsk_rs::config::BindFlags;

/// Descriptors of one packet in copy mode: the kernel takes one more than `MAX_SKB_FRAGS` (17 unless configured higher), but only of drivers
/// that accept a linear part (`xsk_build_skb` in `net/xdp/xsk.c`).
const COPY_PIECES_MAX: usize = 17;

/// Descriptors after which a kick makes no further `sendto` call: in copy mode the kernel sends them within the call, 2 µs and more each, while the RX ring fills.
/// Too low: the TX ring fills up (a burst of 64 with one call of 32 a kick loses 15 % of the rate on veth); too high: one kick delays the turn until
/// received packets are lost (they were, with 512, and a lost request costs its sender a time-out).
const KICK_DESCS: u32 = 128;

/// Packets that one `sendto` may send where the kernel lets us choose (copy mode, `XDP_MAX_TX_SKB_BUDGET`). On veth 64 and more are equally fast.
const TX_BUDGET_PACKETS: u32 = 128;
/// The same where it does not (`TX_BATCH_SIZE` in `net/xdp/xsk.c`).
const TX_BUDGET_DEFAULT_PACKETS: u32 = 32;

/// Pause between two looks at the completion ring while closing.
const CLOSE_PAUSE: time::Duration = time::Duration::from_micros(50);

#[derive(Debug)]
struct Open {
    // Dropped first: the rings' mappings keep the socket open.
    rings: Rings,
    socket: Socket,
}

/// Frames, and the sockets on them.
#[derive(Clone, Debug)]
struct Frames {
    pool: Pool,
    family: Rc<Family>,
    /// Packets may consist of several descriptors.
    multi_buffer: bool,
}

/// Frames that further sockets may use: see [`XskPort::sharing`].
#[derive(Clone, Debug)]
pub struct SharedFrames {
    frames: Frames,
    config: XskConfig,
}

impl SharedFrames {
    /// Sockets that are open on them.
    pub fn sockets(&self) -> u32 {
        self.frames.family.sockets()
    }

    /// How many there are.
    pub fn frames(&self) -> u32 {
        self.config.frames
    }
}

/// An AF_XDP socket and its frames.
///
/// Dropping it closes it without patience.
#[derive(Debug)]
pub struct XskPort {
    info: PortInfo,
    config: XskConfig,
    netdev: Netdev,
    frames: Frames,
    wakeup: Wakeup,
    /// Every kick also polls the device.
    busy_polling: bool,
    /// Packets that one `sendto` sends in copy mode.
    tx_budget: u32,
    line: Line,
    open: Option<Open>,
    /// Counts of a closed port.
    last_stats: PortStats,
}

impl XskPort {
    /// Makes a UMEM and a socket on the queue, and a pool of the UMEM's frames. To be called on the thread that will use them, in the
    /// interface's network namespace.
    ///
    /// What is only preferred and cannot be had is said in [`PortInfo::fallback`].
    ///
    /// # Errors
    /// A configuration that contradicts itself, an interface or queue that is not there, a missing capability, or the kernel's refusal.
    pub fn open(config: XskConfig) -> Result<(Self, Pool), XskError> {
        let netdev = netdev_of(&config)?;
        let config = config.for_mtu(netdev.mtu);
        let features = Features::of(netdev.ifindex).ok();
        let Bound { family, socket, multi_buffer, mut fallbacks } = bind(&config, &netdev, features, None)?;
        let UmemMemory { umem, base, pages, fallback } = &family.memory;
        let chunk_bytes = config.chunk_bytes.unwrap_or(CHUNK_BYTES_MAX);
        fallbacks.extend(fallback.clone());
        // SAFETY: the UMEM is mapped with this many bytes at `base` as long as a clone of `umem` lives, on pages; nothing but the pool
        // touches it from here on, as xsk-rs's frame descriptors are gone.
        let region =
            unsafe { Region::external(*base, config.frames as usize, chunk_bytes, *pages, Box::new(umem.clone())) }?;
        let pool = Pool::new(region, config.pool);
        let port = Self::new(
            config,
            netdev,
            features,
            Frames { pool: pool.clone(), family, multi_buffer },
            socket,
            fallbacks,
        )?;
        Ok((port, pool))
    }

    /// Opens a socket on the frames of a pool that is there already, as that of ports without a kernel, and registers them with the kernel. How many there are, of which size and how they are divided, is the pool's to say.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(pool: &Pool, config: XskConfig) -> Result<Self, XskError> {
        let config = XskConfig { frames: pool.capacity(), chunk_bytes: Some(pool.chunk_bytes()), ..config };
        let netdev = netdev_of(&config)?;
        let features = Features::of(netdev.ifindex).ok();
        let family = Rc::new(Family::of_region(pool.region(), &config)?);
        let Bound { family, socket, multi_buffer, fallbacks } = bind(&config, &netdev, features, Some(&family))?;
        Self::new(config, netdev, features, Frames { pool: pool.clone(), family, multi_buffer }, socket, fallbacks)
    }

    /// What another socket needs to [share](Self::open_sharing) this one's frames, also when this one is closed. To be asked of one that was configured to ([`XskConfig::shares_frames`]).
    pub fn sharing(&self) -> SharedFrames {
        SharedFrames { frames: self.frames.clone(), config: self.config.clone() }
    }

    /// Opens a socket on another queue, of the same interface or of another, on the frames of those before. Its sizes are theirs. Its modes are those of the sockets that are
    /// open; if none is any more, the frames are registered with the kernel anew, and the modes chosen as in [`open`](Self::open).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_sharing(with: &SharedFrames, interface: &str, queue: u32) -> Result<Self, XskError> {
        let config = XskConfig { interface: interface.into(), queue, ..with.config.clone() };
        let wrong = |problem: &str| XskError::Config { field: "shares_frames", problem: problem.into() };
        if !config.shares_frames {
            return Err(wrong("is off: the kernel's frames could not be told apart"));
        }
        let netdev = netdev_of(&config)?;
        let features = Features::of(netdev.ifindex).ok();
        if with.sockets() == 0 {
            let Bound { family, socket, multi_buffer, fallbacks } =
                bind(&config, &netdev, features, Some(&with.frames.family))?;
            let frames = Frames { pool: with.frames.pool.clone(), family, multi_buffer };
            return Self::new(config, netdev, features, frames, socket, fallbacks);
        }
        let mtu_max = config.single_buffer_mtu_max();
        if netdev.mtu > mtu_max && !with.frames.multi_buffer {
            return Err(XskError::MultiBufferNeeded {
                interface: interface.into(),
                queue,
                mtu: netdev.mtu,
                mtu_max,
                chunk_bytes: config.chunk_bytes.unwrap_or(CHUNK_BYTES_MAX),
                reason: "the sockets that it shares frames with have none".into(),
            });
        }
        // The modes are those of the first socket (`xsk_bind` in `net/xdp/xsk.c`).
        let socket =
            Socket::bind(&config, &with.frames.family, BindFlags::empty()).map_err(|e| e.into_xsk_error(&config))?;
        Self::new(config, netdev, features, with.frames.clone(), socket, Vec::new())
    }

    /// Maps the rings of a bound socket.
    fn new(
        config: XskConfig,
        netdev: Netdev,
        features: Option<Features>,
        frames: Frames,
        socket: Socket,
        mut fallbacks: Vec<String>,
    ) -> Result<Self, XskError> {
        let refused = |call, source, advice| XskError::Refused {
            call,
            interface: config.interface.clone(),
            queue: config.queue,
            source,
            advice,
        };
        let zero_copy =
            socket.is_zero_copy().map_err(|e| refused("getsockopt(XDP_OPTIONS)", e, "Linux 5.3 or newer is needed"))?;
        let mut busy_polling = false;
        match config.busy_poll {
            Some(_) if !zero_copy => fallbacks.push("no busy polling: the socket copies".into()),
            Some(busy_poll) => match socket.set_busy_poll(busy_poll) {
                Ok(()) => busy_polling = true,
                Err(e) => fallbacks.push(format!("no busy polling: setsockopt(SO_PREFER_BUSY_POLL): {e}")),
            },
            None => {}
        }
        let mut tx_budget = KICK_DESCS;
        if !zero_copy {
            tx_budget = TX_BUDGET_PACKETS.min(config.tx_ring_entries);
            if socket.set_tx_budget(tx_budget).is_err() {
                // An older kernel has no such option: several calls do the same.
                tx_budget = TX_BUDGET_DEFAULT_PACKETS;
            }
        }

        let offsets = Offsets::of(socket.as_fd())?;
        // SAFETY: the sizes are those that the rings were made with just now, and xsk-rs's own handles on them are never used.
        let (rx, tx, fill, completion) = unsafe {
            (
                offsets.rx(socket.as_fd(), config.rx_ring_entries)?,
                offsets.tx(socket.as_fd(), config.tx_ring_entries)?,
                offsets.fill(socket.as_fd(), config.fill_ring_entries)?,
                offsets.completion(socket.as_fd(), config.completion_ring_entries)?,
            )
        };
        let info = PortInfo {
            name: config.interface.clone(),
            kind: "xsk",
            mac: netdev.mac,
            mtu: netdev.mtu,
            queue: config.queue,
            driver: match config.xdp_mode {
                XdpMode::Native => DriverMode::Native,
                XdpMode::Generic => DriverMode::Generic,
            },
            copy: if zero_copy { CopyMode::ZeroCopy } else { CopyMode::Copy },
            tx_pieces_max: match (frames.multi_buffer, zero_copy) {
                (false, _) => 1,
                (true, false) => COPY_PIECES_MAX,
                (true, true) => features.map_or(1, |f| f.zero_copy_pieces_max.max(1) as usize),
            },
            napi_thread: false,
            fallback: (!fallbacks.is_empty()).then(|| fallbacks.join("; ")),
        };
        let rings = Rings::new(frames.pool.clone(), rx, tx, fill, completion);
        let rings = if config.shares_frames { rings.sharing() } else { rings };
        Ok(Self {
            info,
            netdev,
            frames,
            wakeup: config.wakeup,
            busy_polling,
            tx_budget,
            line: Line::default(),
            open: Some(Open { rings, socket }),
            last_stats: PortStats::default(),
            config,
        })
    }

    /// The interface's index, to attach the XDP program to.
    pub fn ifindex(&self) -> u32 {
        self.netdev.ifindex
    }

    /// Whether the link carries packets now.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn link_state(&self) -> io::Result<LinkState> {
        self.netdev.link_state()
    }

    /// Notes how the XDP program came to be attached, for [`PortInfo::driver`].
    pub fn set_driver_mode(&mut self, driver: DriverMode) {
        self.info.driver = driver;
    }

    /// Of frames that are [shared](Self::sharing), lends the device no more than so many, and no more than the fill ring takes; returns how many that is.
    pub fn lend_at_most(&mut self, frames: u32) -> u32 {
        self.open.as_mut().map_or(0, |open| open.rings.lend_at_most(frames))
    }

    /// Queues of an interface of the calling thread's network namespace; 1 if the driver does not say.
    ///
    /// # Errors
    /// [`XskError::NoInterface`].
    pub fn queues(interface: &str) -> Result<u32, XskError> {
        Ok(Netdev::open(interface, 0)?.queues().unwrap_or(1))
    }

    /// The socket, for the XSKMAP and for `poll`; `None` once it is closed.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|open| open.socket.as_fd())
    }

    /// Waits until the device has let go of the frames of a zero-copy queue: the kernel unbinds it some time after the socket is closed, and
    /// until then a new socket finds the queue busy.
    fn wait_for_device(&self) -> bool {
        let mut probe = self.config.clone();
        probe.frames = 1;
        let Ok(memory) = UmemMemory::new(&probe) else { return false };
        let Ok(family) = Family::new(memory, &probe) else { return false };
        Socket::bind(&probe, &Rc::new(family), BindFlags::XDP_COPY).is_ok()
    }
}

/// What an interface is like now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number; an interface of the same name with another number is another one.
    pub ifindex: u32,
    /// Its MTU in bytes.
    pub mtu: usize,
    /// Whether it carries packets.
    pub state: LinkState,
}

/// Looks at an interface of the calling thread's network namespace.
///
/// # Errors
/// [`XskError::NoInterface`] if there is none of this name (any more).
pub fn link(interface: &str) -> Result<Link, XskError> {
    let netdev = Netdev::open(interface, 0)?;
    let gone = |source| XskError::NoInterface { interface: interface.into(), call: "ioctl(SIOCGIFFLAGS)", source };
    Ok(Link { ifindex: netdev.ifindex, mtu: netdev.mtu, state: netdev.link_state().map_err(gone)? })
}

/// The errors after which the same call is to be made again later.
fn is_soft(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::ENETDOWN | libc::ENOMEM | libc::EINTR)
    )
}

/// The interface that a new socket is configured for, if it may be one at all.
fn netdev_of(config: &XskConfig) -> Result<Netdev, XskError> {
    config.validate()?;
    let (interface, queue) = (|| config.interface.clone(), config.queue);
    if matches!(caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_RAW), Ok(false)) {
        return Err(XskError::MissingCapability { interface: interface(), queue, capability: "CAP_NET_RAW" });
    }
    let netdev = Netdev::open(&config.interface, queue)?;
    match netdev.queues().filter(|&queues| queue >= queues) {
        Some(queues) => Err(XskError::NoQueue { interface: interface(), queue, queues }),
        None => Ok(netdev),
    }
}

struct Bound {
    family: Rc<Family>,
    socket: Socket,
    multi_buffer: bool,
    fallbacks: Vec<String>,
}

/// Binds as well as the configuration prefers: zero-copy before copy, with multi-buffer before without. On the memory of `again`, if there is one, whose sockets are all closed.
fn bind(
    config: &XskConfig,
    netdev: &Netdev,
    features: Option<Features>,
    again: Option<&Rc<Family>>,
) -> Result<Bound, XskError> {
    let mut fallbacks = Vec::new();
    let mtu_max = config.single_buffer_mtu_max();
    let multi_buffer_needed = |reason: String| XskError::MultiBufferNeeded {
        interface: config.interface.clone(),
        queue: config.queue,
        mtu: netdev.mtu,
        mtu_max,
        chunk_bytes: config.chunk_bytes.unwrap_or(CHUNK_BYTES_MAX),
        reason,
    };
    let modes: &[CopyMode] = match config.zero_copy {
        ZeroCopy::Required => &[CopyMode::ZeroCopy],
        ZeroCopy::Off => &[CopyMode::Copy],
        ZeroCopy::Prefer if config.xdp_mode == XdpMode::Generic => {
            fallbacks.push("copy: generic XDP has no zero-copy".into());
            &[CopyMode::Copy]
        }
        ZeroCopy::Prefer if features.is_some_and(|f| !f.zero_copy()) => {
            fallbacks.push("copy: the driver has no AF_XDP zero-copy".into());
            &[CopyMode::Copy]
        }
        // Seen with Linux 7.3: it takes a variable of its own for one of the kernel image's (`xsk_hdr` in `drivers/net/virtio_net.c`), so the device reads each packet's
        // header from memory that has nothing to do with it, and the host drops what comes with a header without sense.
        ZeroCopy::Prefer if netdev.has_module("virtio_net") => {
            fallbacks.push("copy: with zero-copy virtio_net as a module may send packets that the host drops".into());
            &[CopyMode::Copy]
        }
        ZeroCopy::Prefer => &[CopyMode::ZeroCopy, CopyMode::Copy],
    };
    let fits = netdev.mtu <= mtu_max;
    let gathers: &[bool] = match config.multi_buffer {
        MultiBuffer::Always => &[true],
        MultiBuffer::Auto if fits => &[true, false],
        MultiBuffer::Auto => &[true],
        MultiBuffer::Off if fits => &[false],
        MultiBuffer::Off => return Err(multi_buffer_needed("multi_buffer is \"off\"".into())),
    };
    // Linux 6.6 and newer say so: no need to be refused first.
    let one_piece = features.is_some_and(|f| f.zero_copy_pieces_max == 1) && config.multi_buffer == MultiBuffer::Auto;
    let mut last = XskError::Config { field: "zero_copy", problem: "leaves nothing to try".into() };
    for &mode in modes {
        const LIMIT: &str = "the driver has no multi-buffer with zero-copy";
        let gathers = match (mode, config.zero_copy) {
            (CopyMode::ZeroCopy, _) if one_piece && fits => {
                fallbacks.push(format!("{LIMIT}: what lies in several frames is copied before it is sent"));
                &[false]
            }
            (CopyMode::ZeroCopy, ZeroCopy::Required) if one_piece => return Err(multi_buffer_needed(LIMIT.into())),
            (CopyMode::ZeroCopy, _) if one_piece => {
                fallbacks.push(format!("copy: {LIMIT}, and MTU {} needs it", netdev.mtu));
                continue;
            }
            _ => gathers,
        };
        for &multi_buffer in gathers {
            let mut flags = match mode {
                CopyMode::ZeroCopy => BindFlags::XDP_ZEROCOPY,
                CopyMode::Copy => BindFlags::XDP_COPY,
            };
            flags.set(BindFlags::XDP_USE_NEED_WAKEUP, config.wakeup == Wakeup::OnRequest);
            flags.set(BindFlags::XDP_USE_SG, multi_buffer);
            // A UMEM remembers flags of a refused bind: each try has a fresh one.
            let family = match again {
                Some(family) => family.clone(),
                None => Rc::new(Family::new(UmemMemory::new(config)?, config)?),
            };
            match Socket::bind(config, &family, flags) {
                Ok(socket) => return Ok(Bound { family, socket, multi_buffer, fallbacks }),
                Err(e) if e.is_final() => return Err(e.into_xsk_error(config)),
                Err(e) => {
                    let with = if multi_buffer { " with XDP_USE_SG" } else { "" };
                    let what = match mode {
                        CopyMode::ZeroCopy => "zero-copy",
                        CopyMode::Copy => "copy",
                    };
                    fallbacks.push(format!("{what}{with} refused: {}", e.source));
                    last = e.into_xsk_error(config);
                }
            }
        }
    }
    if config.zero_copy == ZeroCopy::Required {
        let (interface, queue) = (config.interface.clone(), config.queue);
        return Err(XskError::ZeroCopyRefused { interface, queue, reason: fallbacks.join("; ") });
    }
    if !fits {
        return Err(multi_buffer_needed(fallbacks.join("; ")));
    }
    Err(last)
}

impl Open {
    /// Lets the kernel look at the fill ring if it asks for that, or poll the device.
    fn wake_receiving(&mut self, poll: bool) -> io::Result<()> {
        if !poll && !self.rings.fill_needs_wakeup() {
            return Ok(());
        }
        self.rings.stats.rx_wakeups += 1;
        match self.socket.wake_rx() {
            Err(e) if !is_soft(&e) => Err(e),
            _ => Ok(()),
        }
    }

    /// Calls the kernel until it has taken the whole TX ring, takes no more, or needs no call; true if the ring is empty.
    fn wake_sending(&mut self, wakeup: Wakeup, busy_polling: bool) -> io::Result<bool> {
        let mut outstanding = self.rings.tx_outstanding();
        let enough = outstanding.saturating_sub(KICK_DESCS);
        while outstanding > enough {
            if wakeup == Wakeup::OnRequest && !self.rings.tx_needs_wakeup() {
                break;
            }
            self.rings.stats.tx_kicks += 1;
            match self.socket.wake_tx() {
                Ok(()) => {}
                Err(e) if is_soft(&e) => self.rings.stats.tx_kicks_soft_errors += 1,
                Err(e) => return Err(e),
            }
            let before = std::mem::replace(&mut outstanding, self.rings.tx_outstanding());
            if outstanding >= before && busy_polling {
                self.socket.wake_by_poll();
                outstanding = self.rings.tx_outstanding();
            }
            if outstanding >= before {
                break;
            }
        }
        Ok(outstanding == 0)
    }

    fn stats(&self) -> PortStats {
        let mut stats = self.rings.stats;
        if let Some(kernel) = self.socket.statistics() {
            stats.kernel_rx_dropped = kernel.rx_dropped();
            stats.kernel_rx_invalid_descs = kernel.rx_invalid_descs();
            stats.kernel_tx_invalid_descs = kernel.tx_invalid_descs();
            stats.kernel_rx_ring_full = kernel.rx_ring_full();
            stats.kernel_rx_fill_ring_empty = kernel.rx_fill_ring_empty_descs();
            stats.kernel_tx_ring_empty = kernel.tx_ring_empty_descs();
        }
        stats
    }
}

/// A closed port has nothing, takes nothing and sends nothing.
impl Port for XskPort {
    fn info(&self) -> &PortInfo {
        &self.info
    }

    fn reap(&mut self) -> usize {
        self.open.as_mut().map_or(0, |open| open.rings.reap())
    }

    fn refill(&mut self) -> usize {
        self.open.as_mut().map_or(0, |open| open.rings.refill())
    }

    fn receive(&mut self, _now: Instant, out: &mut Vec<RxBuf>, max: usize) -> usize {
        self.open.as_mut().map_or(0, |open| open.rings.receive(out, max))
    }

    fn transmit(&mut self, _now: Instant, queue: &mut TxQueue) -> usize {
        self.open.as_mut().map_or(0, |open| open.rings.transmit(queue))
    }

    fn kick(&mut self) -> Result<Kick, PortError> {
        let Some(open) = &mut self.open else { return Ok(Kick::Idle) };
        let result = match open.wake_receiving(self.busy_polling) {
            Ok(()) => open.wake_sending(self.wakeup, self.busy_polling).map_err(|e| ("sendto", e)),
            Err(e) => Err(("recvfrom", e)),
        };
        match result {
            Ok(true) => Ok(Kick::Idle),
            Ok(false) => Ok(Kick::Pending),
            Err((call, source)) => Err(PortError { interface: self.info.name.clone(), call, source }),
        }
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket()
    }

    fn stats(&self) -> PortStats {
        self.open.as_ref().map_or(self.last_stats, Open::stats)
    }

    /// Detach the XDP program first. What is not sent within `patience` (a link that is down, say) is given up; in copy mode the kernel
    /// may then still be sending a frame that is free again.
    fn close(&mut self, patience: Duration) {
        self.line.wait();
        let deadline = time::Instant::now().checked_add(patience);
        while self.open.as_ref().is_some_and(|open| open.rings.in_flight() > 0) {
            if self.reap() > 0 {
                continue;
            }
            // A broken port completes nothing more.
            if self.kick().is_err() || deadline.is_some_and(|deadline| time::Instant::now() >= deadline) {
                break;
            }
            if self.reap() == 0 {
                thread::sleep(CLOSE_PAUSE);
            }
        }
        let Some(open) = self.open.take() else { return };
        self.last_stats = open.stats();
        let Open { rings, mut socket } = open;
        let leftovers = rings.unmap();
        if let Err(error) = socket.close() {
            tracing::error!(interface = %self.info, %error, "dup3 over the AF_XDP socket: its frames stay with the kernel");
        } else if self.info.copy == CopyMode::ZeroCopy && !self.wait_for_device() {
            tracing::error!(interface = %self.info, "the device does not let go of the queue: its frames stay with the kernel");
        } else {
            leftovers.reclaim();
        }
    }
}

impl Drop for XskPort {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}
