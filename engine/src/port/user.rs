//! A port whose driver the application supplies: frames come and go through a [`Driver`], with no kernel and no privileges.
//!
//! Sending: the driver is given a frame piece by piece and reads it where it lies. With [`Completion::OnReturn`] a piece is free once
//! [`Driver::send`] returns. With [`Completion::ByDriver`] the frame's pieces stay as they are, held as if the kernel had them, until
//! [`SendCompleter::send_complete`] says that the oldest frame is done with; that call may come from any thread.
//!
//! Receiving: a driver that received into a buffer it got from the engine ([`Pool::alloc_contiguous`], [`TxBuf::into_rx`](crate::buf::TxBuf::into_rx)) hands that buffer up
//! uncopied. One that received into its own memory has it copied (counted in `rx_copied_bytes`) and is told when it may use it again.

#[cfg(test)]
mod tests;

use super::{CopyMode, DriverMode, Kick, MacAddr, Port, PortError, PortInfo, PortStats};
use crate::{
    buf::{HugePages, Pool, PoolConfig, Region, RegionError, RxBuf, TxQueue},
    time::{Duration, Instant},
};
use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// Ethernet header and one 802.1Q tag beyond the MTU.
const LINK_HEADER_BYTES_MAX: usize = 18;

/// A call of the driver failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the driver's {call} failed with code {code}")]
pub struct DriverError {
    /// Which of its functions.
    pub call: &'static str,
    /// What it returned.
    pub code: i32,
}

/// Whether a piece is the last of its Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// The frame ends here.
    Yes,
    /// The frame goes on in the next call.
    No,
}

/// What a driver did with a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// It took the piece.
    Sent,
    /// It has no room now; the same piece comes again later.
    Busy,
}

/// A received Ethernet frame.
#[derive(Debug)]
pub enum DriverFrame<'a> {
    /// In a buffer of the engine's, whose length is the frame's: goes up uncopied.
    Pooled(RxBuf),
    /// In memory of the driver's: is copied, then [`Driver::free_recv`] is called.
    Own(&'a [u8]),
}

/// When a sent frame's memory is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completion {
    /// As soon as [`Driver::send`] returns.
    #[default]
    OnReturn,
    /// When the driver says so: [`SendCompleter::send_complete`].
    ByDriver,
}

/// What the application supplies. All calls come from the worker's thread.
pub trait Driver: fmt::Debug {
    /// Makes the device ready.
    ///
    /// # Errors
    /// It cannot be used.
    fn open(&mut self) -> Result<(), DriverError>;

    /// Stops the device. After this it neither reads frames that it was given to send nor hands any up.
    fn close(&mut self);

    /// Sends one piece of an Ethernet frame. `data` may be read until the frame is complete (see [`Completion`]).
    ///
    /// # Errors
    /// The frame cannot be sent; its remaining pieces will not come. It is dropped and counted.
    fn send(&mut self, data: &[u8], last: Last) -> Result<SendOutcome, DriverError>;

    /// The next received frame, if there is one.
    fn recv(&mut self) -> Option<DriverFrame<'_>>;

    /// The memory of the last [`DriverFrame::Own`] is no longer needed.
    fn free_recv(&mut self) {}

    /// The device's Ethernet address; asked once, after `open`.
    fn phys_addr(&mut self) -> MacAddr;
}

/// What a [`UserPort`] is like.
#[derive(Clone, Debug)]
pub struct UserConfig {
    /// The interface's name.
    pub name: String,
    /// Largest Ethernet payload, in bytes.
    pub mtu: usize,
    /// When sent frames are free.
    pub completion: Completion,
    /// Most pieces of one frame that the driver takes.
    pub tx_pieces_max: usize,
    /// Most sent frames that the driver may hold, with [`Completion::ByDriver`]. Too low: it idles; too high: it may hold the whole pool.
    pub held_frames_max: usize,
}

impl UserConfig {
    /// MTU 1500, complete on return, up to 17 pieces a frame, up to 256 frames with the driver.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), mtu: 1500, completion: Completion::OnReturn, tx_pieces_max: 17, held_frames_max: 256 }
    }
}

/// A pool in ordinary memory, for ports without a kernel.
///
/// # Errors
/// Sizes out of range, or the memory is refused.
pub fn heap_pool(frames: usize, chunk_bytes: usize, config: PoolConfig) -> Result<Pool, RegionError> {
    Ok(Pool::new(Region::map(frames, chunk_bytes, HugePages::Never)?, config))
}

/// Tells a [`UserPort`] that sent frames are done with; works from any thread.
#[derive(Clone, Debug, Default)]
pub struct SendCompleter(Arc<Completed>);

impl SendCompleter {
    /// The driver is done with the `frames` oldest Ethernet frames that it holds. They are free at the worker's next [`Port::reap`]; a number beyond what it holds is ignored.
    pub fn send_complete(&self, frames: u32) {
        // Saturating: an application that calls too often must not wrap around to "none". Relaxed is enough: the worker only counts, and
        // whoever needs the order between threads passes the frame itself along with it.
        let count = &self.0.by_any;
        let _ = count.fetch_update(Ordering::Release, Ordering::Relaxed, |n| Some(n.saturating_add(frames)));
    }

    /// The same by callers that no two of are here at once, nor any while the port [reaps](Port::reap): without an atomic read-modify-write, which waits for all stores before it.
    #[inline(always)]
    pub(crate) fn send_complete_alone(&self, frames: u32) {
        let count = &self.0.by_one;
        count.store(count.load(Ordering::Relaxed).saturating_add(frames), Ordering::Relaxed);
    }
}

/// Sent frames that are done with, to be reaped.
#[derive(Debug, Default)]
struct Completed {
    by_any: AtomicU32,
    by_one: AtomicU32,
}

impl Completed {
    fn take(&self) -> u32 {
        let by_one = self.by_one.load(Ordering::Relaxed);
        if by_one != 0 {
            self.by_one.store(0, Ordering::Relaxed);
        }
        let by_any = match self.by_any.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.by_any.swap(0, Ordering::Acquire),
        };
        by_one.saturating_add(by_any)
    }
}

/// A piece that the driver holds.
#[derive(Clone, Copy, Debug)]
struct HeldPiece {
    addr: u64,
    last: Last,
}

/// A port over a [`Driver`].
#[derive(Debug)]
pub struct UserPort {
    info: PortInfo,
    driver: Box<dyn Driver>,
    pool: Pool,
    completion: Completion,
    held: VecDeque<HeldPiece>,
    held_frames: usize,
    held_frames_max: usize,
    completed: Arc<Completed>,
    /// The driver refused a piece: the rest of that frame goes the same way.
    skip_rest: bool,
    is_open: bool,
    stats: PortStats,
}

impl UserPort {
    /// Opens the driver.
    ///
    /// # Errors
    /// What its `open` says.
    pub fn open(mut driver: Box<dyn Driver>, pool: &Pool, config: UserConfig) -> Result<Self, DriverError> {
        let UserConfig { name, mtu, completion, tx_pieces_max, held_frames_max } = config;
        driver.open()?;
        let info = PortInfo {
            name,
            kind: "user",
            mac: driver.phys_addr(),
            mtu,
            queue: 0,
            driver: DriverMode::None,
            copy: CopyMode::ZeroCopy,
            tx_pieces_max: tx_pieces_max.max(1),
            napi_thread: false,
            fallback: None,
        };
        Ok(Self {
            info,
            driver,
            pool: pool.clone(),
            completion,
            held: VecDeque::new(),
            held_frames: 0,
            held_frames_max: held_frames_max.max(1),
            completed: Arc::default(),
            skip_rest: false,
            is_open: true,
            stats: PortStats::default(),
        })
    }

    /// For the driver's side to say that sent frames are done with.
    pub fn send_completer(&self) -> SendCompleter {
        SendCompleter(self.completed.clone())
    }

    /// From now on `completer` tells, what it has told so far apart: for a driver's side that outlives its ports.
    pub(crate) fn complete_by(&mut self, SendCompleter(completed): SendCompleter) {
        completed.take();
        self.completed = completed;
    }

    /// Ethernet frames that the driver holds.
    pub fn held_frames(&self) -> usize {
        self.held_frames
    }

    fn complete_oldest(&mut self) -> usize {
        let mut pieces = 0;
        while let Some(HeldPiece { addr, last }) = self.held.pop_front() {
            // The address was posted by this port and not completed, so it is good; were it not, the pool counts it.
            let _ = self.pool.complete_tx(addr);
            pieces += 1;
            if last == Last::Yes {
                self.held_frames -= 1;
                break;
            }
        }
        pieces
    }

    /// A received frame out of the driver's memory.
    fn copy_in(pool: &Pool, stats: &mut PortStats, bytes: &[u8], bytes_max: usize) -> Option<RxBuf> {
        if bytes.is_empty() || bytes.len() > bytes_max {
            stats.rx_bad_descriptors += 1;
            return None;
        }
        let mut pieces = bytes.chunks(pool.frame_payload_bytes()).map(|piece| pool.rx_from_bytes(piece));
        let packet = (|| {
            let mut head = pieces.next()??;
            for tail in pieces {
                head.append(tail?).ok()?;
            }
            Some(head)
        })();
        match packet {
            Some(_) => stats.rx_copied_bytes += bytes.len() as u64,
            None => stats.rx_no_frame += 1,
        }
        packet
    }
}

impl Port for UserPort {
    fn info(&self) -> &PortInfo {
        &self.info
    }

    fn reap(&mut self) -> usize {
        let mut pieces = 0;
        for _ in 0..self.completed.take() {
            if self.held_frames == 0 {
                break;
            }
            pieces += self.complete_oldest();
        }
        pieces
    }

    fn refill(&mut self) -> usize {
        0
    }

    fn receive(&mut self, _now: Instant, out: &mut Vec<RxBuf>, max: usize) -> usize {
        let before = out.len();
        let bytes_max = self.info.mtu + LINK_HEADER_BYTES_MAX;
        // A frame that is dropped counts too, so that the work is bounded.
        for _ in 0..max {
            if !self.is_open {
                break;
            }
            let packet = match self.driver.recv() {
                None => break,
                Some(DriverFrame::Pooled(packet)) => {
                    let fits = (1..=bytes_max).contains(&packet.total_len());
                    self.stats.rx_bad_descriptors += u64::from(!fits);
                    fits.then_some(packet)
                }
                Some(DriverFrame::Own(bytes)) => {
                    let packet = Self::copy_in(&self.pool, &mut self.stats, bytes, bytes_max);
                    self.driver.free_recv();
                    packet
                }
            };
            if let Some(packet) = packet {
                self.stats.rx_packets += 1;
                self.stats.rx_bytes += packet.total_len() as u64;
                out.push(packet);
            }
        }
        out.len() - before
    }

    fn transmit(&mut self, _now: Instant, queue: &mut TxQueue) -> usize {
        let mut taken = 0;
        while self.is_open && self.held_frames < self.held_frames_max {
            let Some(piece) = queue.iter().next() else { break };
            let last = if piece.more() { Last::No } else { Last::Yes };
            let result = if self.skip_rest { Ok(SendOutcome::Sent) } else { self.driver.send(piece.as_slice(), last) };
            if result == Ok(SendOutcome::Busy) {
                break;
            }
            let Some(piece) = queue.pop() else { break };
            taken += 1;
            if result.is_err() {
                self.stats.tx_refused += 1;
                self.skip_rest = true;
                self.drop_begun_frame();
            }
            if self.skip_rest {
                self.skip_rest = last == Last::No;
                continue;
            }
            self.stats.tx_bytes += piece.len() as u64;
            self.stats.tx_packets += u64::from(last == Last::Yes);
            if self.completion == Completion::ByDriver {
                let (addr, _, _) = piece.post();
                self.held.push_back(HeldPiece { addr, last });
                self.held_frames += usize::from(last == Last::Yes);
            }
        }
        taken
    }

    fn kick(&mut self) -> Result<Kick, PortError> {
        // Nothing to wake: the driver works on its own.
        Ok(Kick::Idle)
    }

    fn stats(&self) -> PortStats {
        self.stats
    }

    fn close(&mut self, _patience: Duration) {
        if !self.is_open {
            return;
        }
        self.is_open = false;
        self.driver.close();
        // A closed driver reads no frame any more, so whatever it holds is free.
        while !self.held.is_empty() {
            self.complete_oldest();
        }
    }
}

impl UserPort {
    /// The driver refused a frame of which it already holds pieces: it will not complete those.
    fn drop_begun_frame(&mut self) {
        while self.held.back().is_some_and(|piece| piece.last == Last::No) {
            if let Some(HeldPiece { addr, .. }) = self.held.pop_back() {
                let _ = self.pool.complete_tx(addr);
            }
        }
    }
}

impl Drop for UserPort {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}
