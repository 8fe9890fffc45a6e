//! What an AF_XDP port is asked to be.

use super::XskError;
use crate::buf::{HEADROOM_BYTES, HugePages, PoolConfig};
use std::time::Duration;

/// Ethernet header and one 802.1Q tag beyond the MTU, in bytes.
pub(super) const LINK_HEADER_BYTES_MAX: usize = 18;

/// Whether the device must read and write the frames itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroCopy {
    /// Refuse to open without.
    Required,
    /// Try it, and let the kernel copy where the driver refuses; `PortInfo::fallback` says why.
    #[default]
    Prefer,
    /// Let the kernel copy.
    Off,
}

/// Where the XDP program of this interface runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    #[default]
    Native,
    /// After the socket buffer is built. It never goes with zero-copy: the frames of a zero-copy queue do not pass there.
    Generic,
}

/// Whether packets may consist of several descriptors (`XDP_USE_SG`, Linux 6.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MultiBuffer {
    /// If the kernel (and, with zero-copy, the driver) can. It costs packets of one descriptor nothing (measured on veth).
    #[default]
    Auto,
    /// Refuse to open without.
    Always,
    /// Never. The MTU must fit one chunk, and what lies in several frames must be copied before it is sent.
    Off,
}

/// When the kernel is woken by a system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wakeup {
    /// When it says so in the rings (`XDP_USE_NEED_WAKEUP`).
    #[default]
    OnRequest,
    /// On every turn with something to send: for drivers whose flag cannot be trusted.
    Always,
}

/// Preferred busy polling: the driver's NAPI runs in this thread's system calls, not in interrupts. Only with zero-copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// `SO_BUSY_POLL`: how long one call polls, in microseconds. Too high: one call delays the whole turn.
    pub duration_us: u32,
    /// `SO_BUSY_POLL_BUDGET`: packets per call. Too low: more calls; above 64 needs CAP_NET_ADMIN and few drivers profit.
    pub budget_packets: u32,
}

impl Default for BusyPoll {
    /// 20 µs and 64 packets, the values of the kernel's AF_XDP page and one turn's burst.
    fn default() -> Self {
        Self { duration_us: 20, budget_packets: 64 }
    }
}

/// The two sizes of a frame that AF_XDP's aligned mode takes on machines with pages of 4,096 bytes.
const CHUNK_BYTES_MIN: usize = 2048;
pub(super) const CHUNK_BYTES_MAX: usize = 4096;

/// What an AF_XDP port is asked to be. [`new`](Self::new) gives the defaults.
#[derive(Clone, Debug)]
pub struct XskConfig {
    /// The interface's name, in the calling thread's network namespace.
    pub interface: String,
    /// Which of its queues.
    pub queue: u32,
    /// Frames in the UMEM. More than the fill ring takes, or nothing is left to send with.
    pub frames: u32,
    /// Size of a frame in bytes: 2048 or 4096; `None`: 2048 where that holds the MTU's packets, else 4096. Small frames stay in the caches: in copy mode
    /// over veth, UDP echo is about 6 % faster with them.
    pub chunk_bytes: Option<usize>,
    /// Entries of the RX ring, as of all rings a power of two. Too low: bursts longer than a turn are dropped (`kernel_rx_ring_full`). With the fill ring it
    /// decides how many frames go round: over veth, 4,096 of them cost 3 to 5 % against 1,024, which stay in the second-level cache. A device that
    /// keeps thousands of descriptors of its own wants more.
    pub rx_ring_entries: u32,
    /// Entries of the TX ring. Too low: the egress queue waits; too high: queueing delay behind a slow link.
    pub tx_ring_entries: u32,
    /// Entries of the fill ring, at least twice the RX ring's: the RX ring's worth waits there for us while as many are lent to the device.
    /// Too low: `kernel_rx_fill_ring_empty`; too high: frames idle.
    pub fill_ring_entries: u32,
    /// Entries of the completion ring, at least the TX ring's: the kernel stops sending when a completion has no room.
    pub completion_ring_entries: u32,
    /// Pages under the UMEM; with [`HugePages::Prefer`] base pages are the fallback.
    pub huge_pages: HugePages,
    /// How the frames are divided.
    pub pool: PoolConfig,
    /// Zero-copy or not.
    pub zero_copy: ZeroCopy,
    /// Where the XDP program runs.
    pub xdp_mode: XdpMode,
    /// When to wake the kernel.
    pub wakeup: Wakeup,
    /// Packets of several descriptors.
    pub multi_buffer: MultiBuffer,
    /// Preferred busy polling, if the socket is bound zero-copy.
    pub busy_poll: Option<BusyPoll>,
    /// Other sockets are to [share](super::XskPort::sharing) the frames. It costs a look at a table for each descriptor.
    pub shares_frames: bool,
    /// How long to try again while the queue is busy: the kernel releases a closed socket's queue a little later.
    pub busy_retry: Duration,
}

impl XskConfig {
    /// 4,096 frames (8 MiB at an MTU of 1500), RX and TX rings of 512, everything else as preferred as it can be.
    pub fn new(interface: impl Into<String>, queue: u32) -> Self {
        Self {
            interface: interface.into(),
            queue,
            frames: 4096,
            chunk_bytes: None,
            rx_ring_entries: 512,
            tx_ring_entries: 512,
            fill_ring_entries: 1024,
            completion_ring_entries: 1024,
            huge_pages: HugePages::default(),
            pool: PoolConfig::default(),
            zero_copy: ZeroCopy::default(),
            xdp_mode: XdpMode::default(),
            wakeup: Wakeup::default(),
            multi_buffer: MultiBuffer::default(),
            busy_poll: None,
            shares_frames: false,
            busy_retry: Duration::from_secs(1),
        }
    }

    /// Largest MTU whose packets fit one chunk (`xsk_rcv_check` in `net/xdp/xsk.c`: a longer one needs `XDP_USE_SG`).
    pub fn single_buffer_mtu_max(&self) -> usize {
        self.chunk_bytes.unwrap_or(CHUNK_BYTES_MAX).saturating_sub(HEADROOM_BYTES + LINK_HEADER_BYTES_MAX)
    }

    /// The same with the size of a frame settled for an interface of this MTU.
    pub(super) fn for_mtu(self, mtu: usize) -> Self {
        let small = Self { chunk_bytes: Some(CHUNK_BYTES_MIN), ..self.clone() };
        let fits = mtu <= small.single_buffer_mtu_max();
        Self { chunk_bytes: self.chunk_bytes.or(Some(if fits { CHUNK_BYTES_MIN } else { CHUNK_BYTES_MAX })), ..self }
    }

    pub(super) fn umem_bytes(&self) -> usize {
        self.frames as usize * self.chunk_bytes.unwrap_or(CHUNK_BYTES_MAX)
    }

    /// Checks what can be checked without the kernel.
    ///
    /// # Errors
    /// [`XskError::Config`], which names the field.
    pub fn validate(&self) -> Result<(), XskError> {
        let wrong = |field, problem: String| Err(XskError::Config { field, problem });
        if let Some(bytes) = self.chunk_bytes.filter(|&bytes| bytes != CHUNK_BYTES_MIN && bytes != CHUNK_BYTES_MAX) {
            return wrong("chunk_bytes", format!("{bytes} is neither 2048 nor 4096"));
        }
        for (field, entries) in [
            ("rx_ring_entries", self.rx_ring_entries),
            ("tx_ring_entries", self.tx_ring_entries),
            ("fill_ring_entries", self.fill_ring_entries),
            ("completion_ring_entries", self.completion_ring_entries),
        ] {
            // The upper bound keeps a ring's mapping, 16 bytes an entry, far below what the kernel can vmalloc.
            if !entries.is_power_of_two() || !(64..=1 << 20).contains(&entries) {
                return wrong(field, format!("{entries} is not a power of two from 64 to 1048576"));
            }
        }
        if self.fill_ring_entries < self.rx_ring_entries.saturating_mul(2) {
            return wrong(
                "fill_ring_entries",
                format!("must be at least twice rx_ring_entries ({})", self.rx_ring_entries),
            );
        }
        if self.completion_ring_entries < self.tx_ring_entries {
            return wrong(
                "completion_ring_entries",
                format!("must be at least tx_ring_entries ({})", self.tx_ring_entries),
            );
        }
        let lendable = self.frames.saturating_sub(self.pool.run_frames);
        if lendable <= self.fill_ring_entries {
            return wrong(
                "frames",
                format!(
                    "{} less the {} run frames leaves {lendable}: must be more than fill_ring_entries ({}), or none is left to send with",
                    self.frames, self.pool.run_frames, self.fill_ring_entries
                ),
            );
        }
        if self.zero_copy == ZeroCopy::Required && self.xdp_mode == XdpMode::Generic {
            return wrong(
                "zero_copy",
                "cannot be required together with generic XDP: run the program in native mode".into(),
            );
        }
        Ok(())
    }
}
