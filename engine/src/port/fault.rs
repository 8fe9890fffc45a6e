//! Faults on purpose: a wrapper around any port that drops, duplicates, reorders, corrupts, shortens and delays packets, for tests and demonstrations.
//!
//! The same seed and the same calls give the same faults: randomness comes from a small generator with one stream per direction, time from
//! the `now` of the calls. A sent frame is never written: a fault that changes bytes works on a copy in a fresh frame, and if no frame is
//! free the packet passes as it is (counted). Held packets are bounded; beyond the bound they pass (counted).
//!
//! The faults of one packet are tried in this order: drop, truncate, corrupt, duplicate, reorder, delay.

mod rng;
#[cfg(test)]
mod tests;

use super::{Kick, Port, PortError, PortInfo, PortStats};
use crate::{
    buf::{Pool, RxBuf, Sealed, TxQueue},
    time::{Duration, Instant},
};
use rng::Rng;
use std::{
    cell::Cell,
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
    fmt,
    os::fd::BorrowedFd,
    rc::Rc,
};

/// How long a packet that is to be overtaken waits for the one that overtakes it.
const REORDER_PATIENCE: Duration = Duration::from_millis(10);
/// A packet that is sent keeps its Ethernet header when it is shortened: a device refuses less.
const TX_BYTES_MIN: usize = 14;
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

/// A packet as a direction knows it, with the two faults that differ between directions.
trait Packet: Sized {
    /// With at least one byte less; else as it was.
    fn shorten(self, pool: &Pool, random: u64) -> Changed<Self>;
    /// With one bit flipped.
    fn flip_bit(self, pool: &Pool, random: u64) -> Changed<Self>;
    fn copy(&self, pool: &Pool) -> Option<Self>;
}

enum Changed<T> {
    Yes(T),
    /// There is nothing to change.
    No(T),
    /// There was no frame for a copy.
    NoFrame(T),
}

struct Held<T> {
    due: Instant,
    /// Packets that are due at the same moment keep their order.
    serial: u64,
    packet: T,
}

impl<T> PartialEq for Held<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl<T> Eq for Held<T> {}
impl<T> PartialOrd for Held<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Held<T> {
    /// The earliest is the greatest: `BinaryHeap` gives that first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.serial).cmp(&(self.due, self.serial))
    }
}

/// One direction: decides and holds.
struct Lane<T> {
    rng: Rng,
    delayed: BinaryHeap<Held<T>>,
    /// Waits for the next packet to overtake it.
    overtaken: Option<Held<T>>,
    held_max: usize,
    serial: u64,
    counts: FaultCounts,
}

impl<T: Packet> Lane<T> {
    fn new(seed: u64, held_max: usize) -> Self {
        Self {
            rng: Rng::new(seed),
            delayed: BinaryHeap::new(),
            overtaken: None,
            held_max,
            serial: 0,
            counts: FaultCounts::default(),
        }
    }

    fn held(&self) -> usize {
        self.delayed.len() + usize::from(self.overtaken.is_some())
    }

    /// Puts one packet through `faults`; what is to go on now comes out of `pass`.
    fn put(&mut self, now: Instant, faults: &Faults, pool: &Pool, mut packet: T, mut pass: impl FnMut(T)) {
        // Every number is drawn for every packet, so that one fault's probability does not shift another's decisions.
        let Faults { drop, duplicate, reorder, corrupt, truncate, delay } = *faults;
        let rng = &mut self.rng;
        let [drop, truncate, corrupt, duplicate, reorder] =
            [drop, truncate, corrupt, duplicate, reorder].map(|probability| rng.chance(probability));
        let (truncate_at, corrupt_at, delay_draw) = (rng.next(), rng.next(), rng.next());
        let delay = delay.filter(|delay| rng.chance(delay.probability));

        self.counts.seen += 1;
        if drop {
            self.counts.dropped += 1;
            return;
        }
        if truncate {
            let changed = packet.shorten(pool, truncate_at);
            packet = Self::count(changed, &mut self.counts.truncated, &mut self.counts.no_frame);
        }
        if corrupt {
            let changed = packet.flip_bit(pool, corrupt_at);
            packet = Self::count(changed, &mut self.counts.corrupted, &mut self.counts.no_frame);
        }
        let twin = if duplicate { packet.copy(pool) } else { None };
        if duplicate {
            let counter = if twin.is_some() { &mut self.counts.duplicated } else { &mut self.counts.no_frame };
            *counter += 1;
        }

        let room = self.held() < self.held_max;
        let passed = if reorder && self.overtaken.is_none() && room {
            self.counts.reordered += 1;
            self.overtaken = Some(self.hold(now + REORDER_PATIENCE, packet));
            None
        } else if let Some(Delay { min, max, .. }) = delay
            && room
        {
            self.counts.delayed += 1;
            let spread = u64::try_from(max.saturating_sub(min).as_nanos()).unwrap_or(u64::MAX);
            let by = min + Duration::from_nanos(if spread == 0 { 0 } else { delay_draw % spread.saturating_add(1) });
            let held = self.hold(now + by, packet);
            self.delayed.push(held);
            None
        } else {
            self.counts.held_full += u64::from((reorder || delay.is_some()) && !room);
            Some(packet)
        };
        for packet in passed.into_iter().chain(twin) {
            pass(packet);
            if let Some(held) = self.overtaken.take() {
                pass(held.packet);
            }
        }
    }

    fn hold(&mut self, due: Instant, packet: T) -> Held<T> {
        self.serial += 1;
        Held { due, serial: self.serial, packet }
    }

    fn count(changed: Changed<T>, done: &mut u64, no_frame: &mut u64) -> T {
        match changed {
            Changed::Yes(packet) => {
                *done += 1;
                packet
            }
            Changed::NoFrame(packet) => {
                *no_frame += 1;
                packet
            }
            Changed::No(packet) => packet,
        }
    }

    /// The next held packet whose time has come.
    fn due(&mut self, now: Instant) -> Option<Held<T>> {
        if let Some(held) = self.overtaken.take_if(|held| held.due <= now) {
            return Some(held);
        }
        if self.delayed.peek()?.due > now {
            return None;
        }
        self.delayed.pop()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.overtaken.iter().chain(self.delayed.peek()).map(|held| held.due).min()
    }

    fn clear(&mut self) {
        self.counts.dropped_at_close += self.held() as u64;
        self.delayed.clear();
        self.overtaken = None;
    }
}

impl<T> fmt::Debug for Lane<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lane({} held, {:?})", self.delayed.len() + usize::from(self.overtaken.is_some()), self.counts)
    }
}

/// The descriptors of one packet to send.
type TxPacket = Vec<Sealed>;

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
        self.inner.stats()
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

impl Packet for RxBuf {
    fn shorten(self, _pool: &Pool, random: u64) -> Changed<Self> {
        let total = self.total_len();
        if total == 0 {
            return Changed::No(self);
        }
        let mut keep = (random % total as u64) as usize;
        Changed::Yes(self.map_pieces(|piece| {
            piece.truncate(keep);
            keep -= piece.len();
        }))
    }

    fn flip_bit(self, _pool: &Pool, random: u64) -> Changed<Self> {
        let total = self.total_len();
        if total == 0 {
            return Changed::No(self);
        }
        let (mut at, bit) = flipped(random, total);
        Changed::Yes(self.map_pieces(|piece| {
            if let Some(byte) = piece.as_mut_slice().get_mut(at) {
                *byte ^= bit;
                at = usize::MAX;
            } else {
                at = at.saturating_sub(piece.len());
            }
        }))
    }

    fn copy(&self, pool: &Pool) -> Option<Self> {
        let mut copies = self.pieces().map(|piece| pool.rx_from_bytes(piece));
        let mut head = copies.next().unwrap_or_else(|| pool.rx_from_bytes(&[]))?;
        for tail in copies {
            head.append(tail?).ok()?;
        }
        Some(head)
    }
}

trait MapPieces {
    fn map_pieces(self, f: impl FnMut(&mut RxBuf)) -> Self;
}

impl MapPieces for RxBuf {
    /// Changes the pieces one by one; those that are left without bytes go, but for the first.
    fn map_pieces(self, mut f: impl FnMut(&mut RxBuf)) -> Self {
        let (mut head, mut rest) = self.split_first();
        f(&mut head);
        while let Some(chain) = rest {
            let (mut piece, next) = chain.split_first();
            f(&mut piece);
            if !piece.is_empty() {
                // Pieces of one chain are single frames of one pool, so they link.
                let _ = head.append(piece);
            }
            rest = next;
        }
        head
    }
}

/// Which byte of `total`, and which bit of it.
fn flipped(random: u64, total: usize) -> (usize, u8) {
    (((random >> 3) % total as u64) as usize, 1 << (random & 7))
}

impl Packet for TxPacket {
    fn shorten(mut self, pool: &Pool, random: u64) -> Changed<Self> {
        let total: usize = self.iter().map(Sealed::len).sum();
        if total <= TX_BYTES_MIN {
            return Changed::No(self);
        }
        let mut keep = TX_BYTES_MIN + (random % (total - TX_BYTES_MIN) as u64) as usize;
        for i in 0..self.len() {
            if keep <= self[i].len() {
                let Some(last) = sealed_copy(pool, &self[i].as_slice()[..keep], |_| {}) else {
                    return Changed::NoFrame(self);
                };
                self.truncate(i);
                self.push(last);
                break;
            }
            keep -= self[i].len();
        }
        Changed::Yes(self)
    }

    fn flip_bit(mut self, pool: &Pool, random: u64) -> Changed<Self> {
        let total: usize = self.iter().map(Sealed::len).sum();
        if total == 0 {
            return Changed::No(self);
        }
        let (mut at, bit) = flipped(random, total);
        for piece in &mut self {
            if at < piece.len() {
                let Some(mut copy) = sealed_copy(pool, piece.as_slice(), |bytes| bytes[at] ^= bit) else {
                    return Changed::NoFrame(self);
                };
                if piece.more() {
                    copy.set_more();
                }
                *piece = copy;
                break;
            }
            at -= piece.len();
        }
        Changed::Yes(self)
    }

    fn copy(&self, pool: &Pool) -> Option<Self> {
        self.iter()
            .map(|piece| {
                let mut copy = sealed_copy(pool, piece.as_slice(), |_| {})?;
                if piece.more() {
                    copy.set_more();
                }
                Some(copy)
            })
            .collect()
    }
}

/// `bytes` (of one frame at most) in a frame of their own, changed by `change`.
fn sealed_copy(pool: &Pool, bytes: &[u8], change: impl FnOnce(&mut [u8])) -> Option<Sealed> {
    let mut copy = pool.alloc_control()?;
    // What is too long for behind the head-room goes into it.
    let (front, back) = bytes.split_at(bytes.len().saturating_sub(copy.capacity()));
    copy.put_slice(back).ok()?;
    copy.prepend_slice(front).ok()?;
    change(copy.as_mut_slice());
    copy.seal().ok()
}
