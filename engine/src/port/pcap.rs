//! Packet capture: a wrapper around any port that writes what passes, in both directions, to a pcapng file
//! (draft-ietf-opsawg-pcapng) for Wireshark, tshark and tcpdump.
//!
//! The worker copies up to `snaplen_bytes` of a packet into a recycled buffer and hands it to a thread of its own through a bounded channel; it never waits
//! for the disk. What does not fit is dropped from the capture, never from the network, and counted: in the next packet's `epb_dropcount` and in the
//! interface statistics at the end of the file. A port that is not wrapped pays nothing.
//!
//! A packet to send is written when the wrapped port has taken it, so the file shows what went out, in order.

mod format;
#[cfg(test)]
mod tests;

use super::{Kick, Port, PortError, PortInfo, PortStats};
use crate::{
    buf::{RxBuf, Sealed, TxQueue},
    time::{Duration, Instant},
};
use crossbeam::channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
pub use format::Direction;
use format::Packet;
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::fd::BorrowedFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

/// Descriptors offered to the wrapped port at a time; more are copied in vain when its ring is full, fewer mean more calls.
const BURST_PIECES: usize = 64;

/// What to capture and where to.
#[derive(Clone, Debug)]
pub struct PcapConfig {
    /// The file; an existing one is replaced.
    pub path: PathBuf,
    /// Most bytes of each packet that are kept; 0: all.
    pub snaplen_bytes: u32,
    /// Packets that may wait for the disk. Too low: bursts are missing from the file (counted); too high: memory, up to this many times the packet size.
    pub queue_packets: usize,
    /// The time of day at the worker's [`Instant::ZERO`], since 1970.
    pub epoch: Duration,
}

impl PcapConfig {
    /// Whole packets, 4,096 of them waiting at most.
    pub fn new(path: impl Into<PathBuf>, epoch: Duration) -> Self {
        Self { path: path.into(), snaplen_bytes: 0, queue_packets: 4096, epoch }
    }
}

/// A capture could not begin.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// The file could not be created or its header not be written.
    #[error("capture file {}: {source} (does the directory exist, and may this user write there?)", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The thread that writes could not be started.
    #[error("starting the thread that writes the capture: {0}")]
    Thread(#[source] io::Error),
}

/// Counts of a capture, in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PcapStats {
    /// Handed to the writer.
    pub captured: u64,
    /// Not captured: the writer was behind, or the file could not be written.
    pub dropped: u64,
    /// The file could not be written any more.
    pub failed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    captured: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicBool,
}

/// A port whose traffic is written to a file.
#[derive(Debug)]
pub struct PcapPort<P> {
    inner: P,
    tap: Tap,
    burst: TxQueue,
    /// Copies of the packets in `burst`, with their numbers of descriptors.
    copies: Vec<(usize, Option<Packet>)>,
}

impl<P: Port> PcapPort<P> {
    /// Wraps `inner` and creates the file.
    ///
    /// # Errors
    /// The file cannot be created, or the thread not be started.
    pub fn create(inner: P, config: PcapConfig) -> Result<Self, PcapError> {
        let tap = Tap::create(inner.info(), config)?;
        Ok(Self { inner, tap, burst: TxQueue::with_limit(BURST_PIECES), copies: Vec::with_capacity(BURST_PIECES) })
    }

    /// Counts so far.
    pub fn capture_stats(&self) -> PcapStats {
        self.tap.stats()
    }

    /// Copies the packets of the burst before the wrapped port takes them.
    fn copy_burst(&mut self, now: Instant) {
        self.copies.clear();
        let mut at = self.burst.iter();
        while let Some(first) = at.next() {
            let mut packet = self.tap.begin(Direction::Outbound, now);
            let (mut count, mut piece) = (1, Some(first));
            while let Some(this) = piece {
                if let Some(packet) = &mut packet {
                    packet.append(this.as_slice());
                }
                piece = if this.more() { at.next() } else { None };
                count += usize::from(piece.is_some());
            }
            self.copies.push((count, packet));
        }
    }

    /// Offers one burst to the wrapped port; (descriptors posted, everything was taken).
    fn transmit_burst(&mut self, now: Instant, queue: &mut TxQueue, pieces: usize) -> (usize, bool) {
        for _ in 0..pieces {
            if let Some(piece) = queue.pop() {
                // It fits: `pieces` is at most the burst's limit.
                let _ = self.burst.push(piece);
            }
        }
        self.copy_burst(now);
        let posted = self.inner.transmit(now, &mut self.burst);
        let mut left = pieces - self.burst.len();
        for (count, packet) in self.copies.drain(..) {
            // What went without being posted was thrown away as unsendable.
            if count <= left && posted > 0 {
                left -= count;
                self.tap.send(packet);
            } else {
                self.tap.discard(packet);
            }
        }
        let all = self.burst.is_empty();
        let mut back: smallvec::SmallVec<[Sealed; BURST_PIECES]> = std::iter::from_fn(|| self.burst.pop()).collect();
        while let Some(piece) = back.pop() {
            // There is room: it was taken from there just now.
            let _ = queue.unpop(piece);
        }
        (posted, all)
    }
}

impl<P: Port> Port for PcapPort<P> {
    fn info(&self) -> &PortInfo {
        self.inner.info()
    }

    fn reap(&mut self) -> usize {
        self.inner.reap()
    }

    fn refill(&mut self) -> usize {
        self.inner.refill()
    }

    fn receive(&mut self, now: Instant, out: &mut Vec<RxBuf>, max: usize) -> usize {
        let before = out.len();
        let n = self.inner.receive(now, out, max);
        for received in &out[before..] {
            let mut packet = self.tap.begin(Direction::Inbound, now);
            if let Some(packet) = &mut packet {
                received.pieces().for_each(|piece| packet.append(piece));
            }
            self.tap.send(packet);
        }
        n
    }

    fn transmit(&mut self, now: Instant, queue: &mut TxQueue) -> usize {
        let mut posted = 0;
        while !queue.is_empty() {
            let pieces = queue.whole_packets(BURST_PIECES);
            if pieces == 0 {
                // A packet that no burst holds: unseen by the capture.
                let n = self.inner.transmit(now, queue);
                if n > 0 {
                    self.tap.count_dropped();
                }
                return posted + n;
            }
            let (n, all) = self.transmit_burst(now, queue, pieces);
            posted += n;
            if !all {
                break;
            }
        }
        posted
    }

    fn kick(&mut self) -> Result<Kick, PortError> {
        self.inner.kick()
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.wait_fd()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.inner.next_deadline()
    }

    fn stats(&self) -> PortStats {
        PortStats { capture: Some(self.tap.stats()), ..self.inner.stats() }
    }

    /// Also waits for the disk, so that the file is complete.
    fn close(&mut self, patience: Duration) {
        self.inner.close(patience);
        self.tap.finish();
    }
}

/// The worker's end of a capture.
#[derive(Debug)]
struct Tap {
    to_writer: Option<Sender<Packet>>,
    /// Buffers that come back to be filled again.
    spare: Receiver<Vec<u8>>,
    give_spare: Sender<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    snaplen: usize,
    epoch: Duration,
    /// Packets missing since the last one that was captured.
    gap: u64,
}

impl Tap {
    fn create(info: &PortInfo, config: PcapConfig) -> Result<Self, PcapError> {
        let PcapConfig { path, snaplen_bytes, queue_packets, epoch } = config;
        let start = |path: &PathBuf| {
            let mut file = BufWriter::with_capacity(1 << 18, File::create(path)?);
            format::write_start(&mut file, &info.name, info.mac, snaplen_bytes)?;
            file.flush()?;
            Ok(file)
        };
        let file = start(&path).map_err(|source| PcapError::File { path: path.clone(), source })?;
        let (to_writer, packets) = bounded(queue_packets.max(1));
        let (give_spare, spare) = bounded(queue_packets.max(1));
        let shared = Arc::new(Shared::default());
        let writer = Writer { file, path, packets, spare: give_spare.clone(), shared: shared.clone() };
        let thread = thread::Builder::new()
            .name("framewire-pcap".into())
            .spawn(move || writer.run())
            .map_err(PcapError::Thread)?;
        Ok(Self {
            to_writer: Some(to_writer),
            spare,
            give_spare,
            thread: Some(thread),
            shared,
            snaplen: if snaplen_bytes == 0 { usize::MAX } else { snaplen_bytes as usize },
            epoch,
            gap: 0,
        })
    }

    fn stats(&self) -> PcapStats {
        PcapStats {
            captured: self.shared.captured.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
        }
    }

    /// A buffer for a packet; `None` when it would be dropped anyway.
    fn begin(&self, direction: Direction, now: Instant) -> Option<Packet> {
        let sender = self.to_writer.as_ref()?;
        if sender.is_full() || self.shared.failed.load(Ordering::Relaxed) {
            return None;
        }
        let bytes = self.spare.try_recv().unwrap_or_default();
        let since_1970 = self.epoch + Duration::from_nanos(now.as_nanos());
        let timestamp_ns = u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX);
        Some(Packet::new(direction, timestamp_ns, self.snaplen, bytes))
    }

    fn send(&mut self, packet: Option<Packet>) {
        let (Some(mut packet), Some(sender)) = (packet, &self.to_writer) else {
            return self.count_dropped();
        };
        packet.lost_before = self.gap;
        match sender.try_send(packet) {
            Ok(()) => {
                self.gap = 0;
                self.shared.captured.fetch_add(1, Ordering::Relaxed);
            }
            Err(TrySendError::Full(packet) | TrySendError::Disconnected(packet)) => {
                self.discard(Some(packet));
                self.count_dropped();
            }
        }
    }

    /// Keeps the buffer of a packet that did not go.
    fn discard(&self, packet: Option<Packet>) {
        if let Some(packet) = packet {
            let _ = self.give_spare.try_send(packet.into_buffer());
        }
    }

    fn count_dropped(&mut self) {
        self.gap += 1;
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn finish(&mut self) {
        self.to_writer = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.shared.failed.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The thread that writes.
struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    packets: Receiver<Packet>,
    spare: Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self) {
        if let Err(error) = self.write_all() {
            self.shared.failed.store(true, Ordering::Relaxed);
            tracing::error!(file = %self.path.display(), %error, "capture stopped: the file cannot be written");
        }
    }

    fn write_all(&mut self) -> io::Result<()> {
        let mut last_ns = 0;
        loop {
            let packet = match self.packets.try_recv() {
                Ok(packet) => packet,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    // Idle: let readers see everything.
                    self.file.flush()?;
                    match self.packets.recv() {
                        Ok(packet) => packet,
                        Err(_) => break,
                    }
                }
            };
            last_ns = last_ns.max(packet.timestamp_ns());
            packet.write(&mut self.file)?;
            // Full: there are enough spare ones.
            let _ = self.spare.try_send(packet.into_buffer());
        }
        let (captured, dropped) = (&self.shared.captured, &self.shared.dropped);
        let dropped = dropped.load(Ordering::Relaxed);
        format::write_statistics(&mut self.file, last_ns, captured.load(Ordering::Relaxed) + dropped, dropped)?;
        self.file.flush()
    }
}
