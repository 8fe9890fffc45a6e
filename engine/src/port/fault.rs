//! Faults on purpose: a wrapper around any port that drops, duplicates, reorders, corrupts, shortens and delays packets, for tests and demonstrations.
//!
//! The same seed and the same calls give the same faults: randomness comes from a small generator with one stream per direction, time from
//! the `now` of the calls. A sent frame is never written: a fault that changes bytes works on a copy in a fresh frame, and if no frame is
//! free the packet passes as it is (counted). Held packets are bounded; beyond the bound they pass (counted).
//!
//! The faults of one packet are tried in this order: drop, truncate, corrupt, duplicate, reorder, delay.

mod lane;
mod packet;
mod rng;
#[cfg(test)]
mod tests;

use super::{Kick, Port, PortError, PortInfo, PortStats};
use crate::{
    buf::{Pool, RxBuf, TxQueue},
    time::{Duration, Instant},
};
use lane::Lane;
use packet::TxPacket;
use std::{cell::Cell, collections::VecDeque, os::fd::BorrowedFd, rc::Rc};

/// Descriptors taken from the stack's queue and not yet accepted by the wrapped port; it holds the largest packet and keeps the wait in the stack's queue.
const READY_PIECES: usize = 256;

/// Probabilities, each from 0 (never) to 1 (always), of what happens to a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// It vanishes.
    pub drop: f64,
    /// It comes twice.
    pub duplicate: f64,
    /// The next one overtakes it (or 10 ms pass).
    pub reorder: f64,
    /// One bit of it flips.
    pub corrupt: f64,
    /// It loses its end.
    pub truncate: f64,
    /// It comes later, and so perhaps out of order.
    pub delay: Option<Delay>,
}

impl Faults {
    /// No faults at all.
    pub const NONE: Self = Self { drop: 0.0, duplicate: 0.0, reorder: 0.0, corrupt: 0.0, truncate: 0.0, delay: None };

    /// Only losses.
    pub const fn loss(probability: f64) -> Self {
        Self { drop: probability, ..Self::NONE }
    }

    /// Every packet `by` later, in order.
    pub const fn latency(by: Duration) -> Self {
        Self { delay: Some(Delay { probability: 1.0, min: by, max: by }), ..Self::NONE }
    }
}

/// A delay, evenly distributed between two bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delay {
    /// How often.
    pub probability: f64,
    /// At least this long.
    pub min: Duration,
    /// At most this long.
    pub max: Duration,
}

/// What a [`FaultPort`] does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaultConfig {
    /// Where the randomness begins.
    pub seed: u64,
    /// Faults of received packets.
    pub rx: Faults,
    /// Faults of sent packets.
    pub tx: Faults,
    /// Most packets held back per direction. Too low: delays are cut short (counted); too high: the pool runs dry.
    pub held_packets_max: usize,
}

impl FaultConfig {
    /// No faults; up to 256 packets held per direction.
    pub const fn new(seed: u64) -> Self {
        Self { seed, rx: Faults::NONE, tx: Faults::NONE, held_packets_max: 256 }
    }
}

/// How often each fault happened in one direction, in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Packets that came in at this wrapper.
    pub seen: u64,
    /// Dropped.
    pub dropped: u64,
    /// Sent or received twice.
    pub duplicated: u64,
    /// Overtaken by another.
    pub reordered: u64,
    /// A bit flipped.
    pub corrupted: u64,
    /// Shortened.
    pub truncated: u64,
    /// Delayed.
    pub delayed: u64,
    /// To be delayed or reordered, but passed at once because too many are held.
    pub held_full: u64,
    /// To be changed or doubled, but passed as it was because no frame was free for the copy.
    pub no_frame: u64,
    /// Held when the port was closed, and dropped.
    pub dropped_at_close: u64,
}

impl FaultCounts {
    /// Their names where they are reported, of received and of sent packets.
    const NAMES: [(&'static str, &'static str); 10] = [
        ("fault_rx_seen", "fault_tx_seen"),
        ("fault_rx_dropped", "fault_tx_dropped"),
        ("fault_rx_duplicated", "fault_tx_duplicated"),
        ("fault_rx_reordered", "fault_tx_reordered"),
        ("fault_rx_corrupted", "fault_tx_corrupted"),
        ("fault_rx_truncated", "fault_tx_truncated"),
        ("fault_rx_delayed", "fault_tx_delayed"),
        ("fault_rx_held_full", "fault_tx_held_full"),
        ("fault_rx_no_frame", "fault_tx_no_frame"),
        ("fault_rx_dropped_at_close", "fault_tx_dropped_at_close"),
    ];

    /// Every count of both directions with its name, in a fixed order.
    pub(super) fn named([rx, tx]: [Self; 2]) -> impl Iterator<Item = (&'static str, u64)> {
        let both = Self::NAMES.into_iter().zip(rx.values().into_iter().zip(tx.values()));
        both.flat_map(|((rx_name, tx_name), (rx, tx))| [(rx_name, rx), (tx_name, tx)])
    }

    fn values(self) -> [u64; 10] {
        let Self {
            seen,
            dropped,
            duplicated,
            reordered,
            corrupted,
            truncated,
            delayed,
            held_full,
            no_frame,
            dropped_at_close,
        } = self;
        [seen, dropped, duplicated, reordered, corrupted, truncated, delayed, held_full, no_frame, dropped_at_close]
    }
}

#[derive(Debug)]
struct Shared {
    rx_faults: Cell<Faults>,
    tx_faults: Cell<Faults>,
    rx_counts: Cell<FaultCounts>,
    tx_counts: Cell<FaultCounts>,
}

/// The knobs and counts of a [`FaultPort`], to keep while the port itself is boxed away.
#[derive(Clone, Debug)]
pub struct FaultControl(Rc<Shared>);

impl FaultControl {
    /// From now on, received packets suffer these.
    pub fn set_rx(&self, faults: Faults) {
        self.0.rx_faults.set(faults);
    }

    /// From now on, sent packets suffer these.
    pub fn set_tx(&self, faults: Faults) {
        self.0.tx_faults.set(faults);
    }

    /// What happened to received packets.
    pub fn rx_counts(&self) -> FaultCounts {
        self.0.rx_counts.get()
    }

    /// What happened to sent packets.
    pub fn tx_counts(&self) -> FaultCounts {
        self.0.tx_counts.get()
    }
}

/// A port with faults.
#[derive(Debug)]
pub struct FaultPort<P> {
    inner: P,
    pool: Pool,
    shared: Rc<Shared>,
    rx: Lane<RxBuf>,
    tx: Lane<TxPacket>,
    /// Received packets that go up in the next call.
    rx_ready: VecDeque<RxBuf>,
    rx_burst: Vec<RxBuf>,
    /// Descriptors that the wrapped port has not taken yet.
    tx_ready: TxQueue,
    /// Of the last call that told the time.
    now: Instant,
}

impl<P: Port> FaultPort<P> {
    /// Wraps `inner`, whose frames are of `pool`.
    pub fn new(inner: P, pool: &Pool, config: FaultConfig) -> Self {
        let FaultConfig { seed, rx, tx, held_packets_max } = config;
        let shared = Shared {
            rx_faults: Cell::new(rx),
            tx_faults: Cell::new(tx),
            rx_counts: Cell::default(),
            tx_counts: Cell::default(),
        };
        Self {
            inner,
            pool: pool.clone(),
            shared: Rc::new(shared),
            rx: Lane::new(seed, held_packets_max),
            tx: Lane::new(!seed, held_packets_max),
            rx_ready: VecDeque::new(),
            rx_burst: Vec::new(),
            tx_ready: TxQueue::with_limit(READY_PIECES),
            now: Instant::ZERO,
        }
    }

    /// Its knobs and counts.
    pub fn control(&self) -> FaultControl {
        FaultControl(self.shared.clone())
    }

    /// Moves what is due and what waits into the wrapped port.
    fn pump_tx(&mut self, now: Instant) {
        self.inner.transmit(now, &mut self.tx_ready);
        while let Some(held) = self.tx.due(now) {
            if held.packet.len() > self.tx_ready.room() {
                self.tx.delayed.push(held);
                break;
            }
            append(&mut self.tx_ready, held.packet);
        }
        self.inner.transmit(now, &mut self.tx_ready);
    }
}

/// Appends a packet that fits.
fn append(queue: &mut TxQueue, packet: TxPacket) {
    for piece in packet {
        // The caller has checked the room; were it wrong, the piece would be freed.
        let _ = queue.push(piece);
    }
}

impl<P: Port> Port for FaultPort<P> {
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
        self.now = now;
        self.pump_tx(now);
        while self.rx_ready.len() < max
            && let Some(held) = self.rx.due(now)
        {
            self.rx_ready.push_back(held.packet);
        }
        if self.rx_ready.len() < max {
            self.inner.receive(now, &mut self.rx_burst, max - self.rx_ready.len());
            let faults = self.shared.rx_faults.get();
            for packet in self.rx_burst.drain(..) {
                self.rx.put(now, &faults, &self.pool, packet, |packet| self.rx_ready.push_back(packet));
            }
            self.shared.rx_counts.set(self.rx.counts);
        }
        let n = max.min(self.rx_ready.len());
        out.extend(self.rx_ready.drain(..n));
        n
    }

    fn transmit(&mut self, now: Instant, queue: &mut TxQueue) -> usize {
        self.now = now;
        self.pump_tx(now);
        let faults = self.shared.tx_faults.get();
        let mut taken = 0;
        loop {
            let pieces = queue.iter().take_while(|piece| piece.more()).count() + 1;
            // Twice as many may come out, and one that was held besides.
            let held = self.tx.overtaken.as_ref().map_or(0, |held| held.packet.len());
            if pieces > queue.len() {
                break;
            }
            if 2 * pieces + held > READY_PIECES {
                // Larger than any port sends: let the port say so.
                if self.tx_ready.is_empty() {
                    taken += self.inner.transmit(now, queue);
                }
                break;
            }
            if 2 * pieces + held > self.tx_ready.room() {
                break;
            }
            let packet = std::iter::from_fn(|| queue.pop()).take(pieces).collect();
            taken += pieces;
            let ready = &mut self.tx_ready;
            self.tx.put(now, &faults, &self.pool, packet, |packet| append(ready, packet));
        }
        self.inner.transmit(now, &mut self.tx_ready);
        self.shared.tx_counts.set(self.tx.counts);
        taken
    }

    fn kick(&mut self) -> Result<Kick, PortError> {
        let kick = self.inner.kick()?;
        Ok(if self.tx_ready.is_empty() { kick } else { Kick::Pending })
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.wait_fd()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let waiting = !(self.rx_ready.is_empty() && self.tx_ready.is_empty());
        [waiting.then_some(self.now), self.rx.next_deadline(), self.tx.next_deadline(), self.inner.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn stats(&self) -> PortStats {
        PortStats { faults: Some([self.rx.counts, self.tx.counts]), ..self.inner.stats() }
    }

    fn close(&mut self, patience: Duration) {
        self.inner.transmit(self.now, &mut self.tx_ready);
        self.tx_ready.truncate(0);
        self.rx_ready.clear();
        self.rx.clear();
        self.tx.clear();
        self.shared.rx_counts.set(self.rx.counts);
        self.shared.tx_counts.set(self.tx.counts);
        self.inner.close(patience);
    }
}
