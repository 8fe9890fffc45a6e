//! Where frames come from and go to. A [`Port`] is one queue of one interface: `xsk` (AF_XDP), [`mem`] (an in-memory link) or `user` (a driver
//! that the application supplies), perhaps wrapped by `fault` or `pcap`.
//!
//! A port moves buffers between its rings and a worker, knows nothing of what is in them, and belongs to one thread. Calls come in bursts, so
//! that a `Box<dyn Port>` costs one indirect call for up to 64 packets.

pub mod fault;
pub mod mem;
pub mod pcap;
mod rings;
pub mod user;
#[cfg(feature = "af-xdp")]
pub mod xsk;

pub use crate::wire::MacAddr;
pub use rings::{Leftovers, Rings};

use crate::{
    buf::{RxBuf, TxQueue},
    time::{Duration, Instant},
};
use std::{fmt, io, os::fd::BorrowedFd};

/// How the kernel's XDP hook runs for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverMode {
    /// In the driver.
    Native,
    /// After the driver has made a socket buffer (generic XDP): works everywhere, slower.
    Generic,
    /// There is no kernel behind this port.
    None,
}

/// Who copies between the device and the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMode {
    /// The device reads and writes the frames themselves.
    ZeroCopy,
    /// The kernel copies each packet once in each direction.
    Copy,
}

/// What a port turned out to be: printed at start and exported.
#[derive(Clone, Debug)]
pub struct PortInfo {
    /// The interface's name.
    pub name: String,
    /// Which implementation: `xsk`, `mem`, `user`.
    pub kind: &'static str,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Largest Ethernet payload, in bytes.
    pub mtu: usize,
    /// Which of the interface's queues.
    pub queue: u32,
    /// How the XDP hook runs.
    pub driver: DriverMode,
    /// Who copies.
    pub copy: CopyMode,
    /// Most descriptors that one packet may have when sending; 1 without multi-buffer support.
    pub tx_pieces_max: usize,
    /// Receive work runs in a kernel thread beside the worker.
    pub napi_thread: bool,
    /// Why it is not what was preferred, if it is not.
    pub fallback: Option<String>,
}

impl fmt::Display for PortInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, mac, mtu, queue, driver, copy, tx_pieces_max, napi_thread, fallback } = self;
        write!(f, "{name} queue {queue}: {kind}, mac {mac}, mtu {mtu}")?;
        match driver {
            DriverMode::Native => f.write_str(", native XDP")?,
            DriverMode::Generic => f.write_str(", generic XDP")?,
            DriverMode::None => {}
        }
        f.write_str(match copy {
            CopyMode::ZeroCopy => ", zero-copy",
            CopyMode::Copy => ", copy",
        })?;
        if *tx_pieces_max > 1 {
            write!(f, ", multi-buffer (up to {tx_pieces_max} pieces)")?;
        }
        if *napi_thread {
            f.write_str(", NAPI thread")?;
        }
        if let Some(reason) = fallback {
            write!(f, " [{reason}]")?;
        }
        Ok(())
    }
}

/// Counts of one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets handed to the stack.
    pub rx_packets: u64,
    /// Bytes of them.
    pub rx_bytes: u64,
    /// Packets posted to the TX ring.
    pub tx_packets: u64,
    /// Bytes of them.
    pub tx_bytes: u64,
    /// Descriptors that the kernel handed up and that were refused: not lent, out of range, or part of a broken chain.
    pub rx_bad_descriptors: u64,
    /// Bytes copied into frames because the driver received them into memory of its own.
    pub rx_copied_bytes: u64,
    /// Packets that were dropped because no frame was free to copy them into.
    pub rx_no_frame: u64,
    /// Packets that were dropped because the driver refused them.
    pub tx_refused: u64,
    /// Packets that can never be sent: longer than the ring or than the port's pieces.
    pub tx_unsendable: u64,
    /// System calls that woke the kernel to send.
    pub tx_kicks: u64,
    /// Of those, ended with a soft error (EAGAIN, EBUSY, ENOBUFS, ENETDOWN): work stays queued and is kicked again.
    pub tx_kicks_soft_errors: u64,
    /// System calls that woke the kernel to receive.
    pub rx_wakeups: u64,
    /// Kernel: packets dropped for other reasons (`rx_dropped`).
    pub kernel_rx_dropped: u64,
    /// Kernel: our fill descriptors were invalid.
    pub kernel_rx_invalid_descs: u64,
    /// Kernel: our TX descriptors were invalid.
    pub kernel_tx_invalid_descs: u64,
    /// Kernel: the RX ring was full.
    pub kernel_rx_ring_full: u64,
    /// Kernel: the fill ring was empty when a packet came.
    pub kernel_rx_fill_ring_empty: u64,
    /// Kernel: the TX ring was empty when it looked.
    pub kernel_tx_ring_empty: u64,
    /// Faults on purpose, of received and of sent packets, where the port has them.
    pub faults: Option<[fault::FaultCounts; 2]>,
    /// The capture, where there is one.
    pub capture: Option<pcap::PcapStats>,
}

impl PortStats {
    /// Every count with its name, in a fixed order; those of faults and of a capture only where the port has them.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let Self {
            rx_packets,
            rx_bytes,
            tx_packets,
            tx_bytes,
            rx_bad_descriptors,
            rx_copied_bytes,
            rx_no_frame,
            tx_refused,
            tx_unsendable,
            tx_kicks,
            tx_kicks_soft_errors,
            rx_wakeups,
            kernel_rx_dropped,
            kernel_rx_invalid_descs,
            kernel_tx_invalid_descs,
            kernel_rx_ring_full,
            kernel_rx_fill_ring_empty,
            kernel_tx_ring_empty,
            faults,
            capture,
        } = *self;
        let faults = faults.into_iter().flat_map(fault::FaultCounts::named);
        let capture = capture.into_iter().flat_map(|capture| {
            [
                ("captured", capture.captured),
                ("capture_dropped", capture.dropped),
                ("capture_failed", u64::from(capture.failed)),
            ]
        });
        [
            ("rx_packets", rx_packets),
            ("rx_bytes", rx_bytes),
            ("tx_packets", tx_packets),
            ("tx_bytes", tx_bytes),
            ("rx_bad_descriptors", rx_bad_descriptors),
            ("rx_copied_bytes", rx_copied_bytes),
            ("rx_no_frame", rx_no_frame),
            ("tx_refused", tx_refused),
            ("tx_unsendable", tx_unsendable),
            ("tx_kicks", tx_kicks),
            ("tx_kicks_soft_errors", tx_kicks_soft_errors),
            ("rx_wakeups", rx_wakeups),
            ("kernel_rx_dropped", kernel_rx_dropped),
            ("kernel_rx_invalid_descs", kernel_rx_invalid_descs),
            ("kernel_tx_invalid_descs", kernel_tx_invalid_descs),
            ("kernel_rx_ring_full", kernel_rx_ring_full),
            ("kernel_rx_fill_ring_empty", kernel_rx_fill_ring_empty),
            ("kernel_tx_ring_empty", kernel_tx_ring_empty),
        ]
        .into_iter()
        .chain(faults)
        .chain(capture)
    }
}

/// What became of a wish to wake the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// Nothing is outstanding: no call is needed.
    Idle,
    /// The kernel works on it, or has to be kicked again on the next turn.
    Pending,
}

/// A port cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("{call} on {interface}: {source}")]
pub struct PortError {
    /// The interface.
    pub interface: String,
    /// The call that failed.
    pub call: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

/// One queue of one interface.
pub trait Port: fmt::Debug {
    /// What it is.
    fn info(&self) -> &PortInfo;

    /// Takes back frames that were sent; returns how many.
    fn reap(&mut self) -> usize;

    /// Lends free frames for receiving; returns how many.
    fn refill(&mut self) -> usize;

    /// Appends up to `max` received packets to `out`; returns how many.
    fn receive(&mut self, now: Instant, out: &mut Vec<RxBuf>, max: usize) -> usize;

    /// Posts whole packets from `queue` as far as there is room; returns how many descriptors.
    fn transmit(&mut self, now: Instant, queue: &mut TxQueue) -> usize;

    /// Wakes the kernel if it asks for it and something is outstanding. Soft errors are counted and tried again.
    ///
    /// # Errors
    /// The port is broken for good (the interface is gone, say).
    fn kick(&mut self) -> Result<Kick, PortError>;

    /// A descriptor that becomes readable when packets arrive, for a worker that sleeps; `None`: it has to look.
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The next moment at which the port itself has something to do (a delayed packet, say), for a worker that sleeps.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Counts so far.
    fn stats(&self) -> PortStats;

    /// Stops receiving and hands every frame back: after this the pool's ledger shows nothing with the kernel. Waits at most `patience` for packets that are still to be sent.
    fn close(&mut self, patience: Duration);
}

impl<P: Port + ?Sized> Port for Box<P> {
    fn info(&self) -> &PortInfo {
        (**self).info()
    }

    fn reap(&mut self) -> usize {
        (**self).reap()
    }

    fn refill(&mut self) -> usize {
        (**self).refill()
    }

    fn receive(&mut self, now: Instant, out: &mut Vec<RxBuf>, max: usize) -> usize {
        (**self).receive(now, out, max)
    }

    fn transmit(&mut self, now: Instant, queue: &mut TxQueue) -> usize {
        (**self).transmit(now, queue)
    }

    fn kick(&mut self) -> Result<Kick, PortError> {
        (**self).kick()
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        (**self).wait_fd()
    }

    fn next_deadline(&self) -> Option<Instant> {
        (**self).next_deadline()
    }

    fn stats(&self) -> PortStats {
        (**self).stats()
    }

    fn close(&mut self, patience: Duration) {
        (**self).close(patience);
    }
}
