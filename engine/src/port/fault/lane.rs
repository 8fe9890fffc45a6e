//! One direction of a fault port: draws each packet's faults and holds what is to come later.

use super::{Delay, FaultCounts, Faults, rng::Rng};
use crate::{
    buf::Pool,
    time::{Duration, Instant},
};
use std::{cmp::Ordering, collections::BinaryHeap, fmt};

/// How long a packet that is to be overtaken waits for the one that overtakes it.
const REORDER_PATIENCE: Duration = Duration::from_millis(10);

/// A packet as a direction knows it, with the two faults that differ between directions.
pub(super) trait Packet: Sized {
    /// With at least one byte less; else as it was.
    fn shorten(self, pool: &Pool, random: u64) -> Changed<Self>;
    /// With one bit flipped.
    fn flip_bit(self, pool: &Pool, random: u64) -> Changed<Self>;
    fn copy(&self, pool: &Pool) -> Option<Self>;
}

pub(super) enum Changed<T> {
    Yes(T),
    /// There is nothing to change.
    No(T),
    /// There was no frame for a copy.
    NoFrame(T),
}

pub(super) struct Held<T> {
    due: Instant,
    /// Packets that are due at the same moment keep their order.
    serial: u64,
    pub(super) packet: T,
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
pub(super) struct Lane<T> {
    rng: Rng,
    pub(super) delayed: BinaryHeap<Held<T>>,
    /// Waits for the next packet to overtake it.
    pub(super) overtaken: Option<Held<T>>,
    held_max: usize,
    serial: u64,
    pub(super) counts: FaultCounts,
}

impl<T: Packet> Lane<T> {
    pub(super) fn new(seed: u64, held_max: usize) -> Self {
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
    pub(super) fn put(&mut self, now: Instant, faults: &Faults, pool: &Pool, mut packet: T, mut pass: impl FnMut(T)) {
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
    pub(super) fn due(&mut self, now: Instant) -> Option<Held<T>> {
        if let Some(held) = self.overtaken.take_if(|held| held.due <= now) {
            return Some(held);
        }
        if self.delayed.peek()?.due > now {
            return None;
        }
        self.delayed.pop()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.overtaken.iter().chain(self.delayed.peek()).map(|held| held.due).min()
    }

    pub(super) fn clear(&mut self) {
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
