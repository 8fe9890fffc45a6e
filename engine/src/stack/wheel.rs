//! Timers: a hierarchical wheel (Varghese and Lauck, 1987, scheme 6).
//!
//! Eight levels of 64 slots; a slot of level 0 is one tick, one of level `n` is 64ⁿ ticks. 8 × 6 bits and the tick's 16 bits are the 64 of
//! [`Instant`], so no deadline is too far. Timers lie in one arena and slots are lists through it: memory grows with the most timers that were
//! ever armed together, and arming allocates nothing once it has grown.
//!
//! There is no cancelling. Owners keep their true deadline, arm one timer for it, and ignore (or re-arm) one that fires early.

use crate::time::Instant;
use std::fmt;

/// One tick is 2^16 = 65,536 ns. Longer: timers fire later than asked; shorter: an idle worker that sleeps until the next one wakes more often for nothing.
const TICK_SHIFT: u32 = 16;
const TICK_NS: u64 = 1 << TICK_SHIFT;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 8;
const TICK_MAX: u64 = u64::MAX >> TICK_SHIFT;
const NIL: u32 = u32::MAX;

struct Node<K> {
    tick: u64,
    key: K,
    next: u32,
}

/// First and last node of a list; first in, first out, so that a timer which always fires again cannot starve its slot.
#[derive(Clone, Copy)]
struct Slot {
    head: u32,
    tail: u32,
}

impl Slot {
    const EMPTY: Self = Self { head: NIL, tail: NIL };
}

/// A set of (deadline, key); keys may repeat.
pub(super) struct Wheel<K: Copy> {
    /// Nothing in the wheel is due before this tick. A timer lies at the level of the highest group of six bits in which its tick differs
    /// from this one: so all of a level's timers are due before those of the levels above, and a level's slots are due in index order.
    current: u64,
    occupied: [u64; LEVELS],
    slots: [[Slot; SLOTS]; LEVELS],
    nodes: Vec<Node<K>>,
    free: u32,
    len: usize,
}

impl<K: Copy> Wheel<K> {
    /// An empty wheel.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            current: now.as_nanos() >> TICK_SHIFT,
            occupied: [0; LEVELS],
            slots: [[Slot::EMPTY; SLOTS]; LEVELS],
            nodes: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    /// Timers armed.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Has `key` fire at `at`, or with the next [`expire`](Self::expire) if that is past. O(1).
    #[inline]
    pub(super) fn arm(&mut self, at: Instant, key: K) {
        // Rounded up, so that it does not fire early; the clock's last tick has no end to round up to.
        let tick = at.as_nanos().div_ceil(TICK_NS).clamp(self.current, TICK_MAX);
        let node = Node { tick, key, next: NIL };
        let index = if self.free == NIL {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = std::mem::replace(&mut self.nodes[index as usize], node).next;
            index
        };
        self.place(index);
        self.len += 1;
    }

    /// Appends the keys that are due at `now` to `out`, at most `budget`; returns how many. If that is `budget`, call again: the rest stay
    /// due. A key comes never before its time and at most one tick (65,536 ns) after it. Amortised O(1) per key and call.
    pub(super) fn expire(&mut self, now: Instant, budget: usize, out: &mut Vec<K>) -> usize {
        let now = now.as_nanos() >> TICK_SHIFT;
        let mut fired = 0;
        while let Some((level, slot, start)) = self.first_slot()
            && start <= now
        {
            self.current = start.max(self.current);
            if level > 0 {
                self.cascade(level, slot);
                continue;
            }
            while fired < budget {
                let index = self.slots[0][slot].head;
                if index == NIL {
                    break;
                }
                let node = &mut self.nodes[index as usize];
                out.push(node.key);
                self.slots[0][slot].head = std::mem::replace(&mut node.next, self.free);
                self.free = index;
                fired += 1;
            }
            if self.slots[0][slot].head != NIL {
                self.len -= fired;
                return fired;
            }
            self.slots[0][slot] = Slot::EMPTY;
            self.occupied[0] &= !(1 << slot);
        }
        // Every slot left starts later than now, so moving on keeps each timer at its level.
        self.current = now.max(self.current);
        self.len -= fired;
        fired
    }

    /// The moment before which [`expire`](Self::expire) has nothing to do. Exact (the deadline rounded up to a tick) for what is due within
    /// the current 64 ticks (4.2 ms), else the start of the slot: calling `expire` then refines it.
    #[inline]
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.first_slot().map(|(_, _, start)| Instant::from_nanos(start << TICK_SHIFT))
    }

    /// Level, index and first tick of the slot that is due first.
    #[inline]
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        let shift = level as u32 * SLOT_BITS;
        let above = self.current >> (shift + SLOT_BITS) << SLOT_BITS;
        Some((level, slot as usize, (above | u64::from(slot)) << shift))
    }

    #[inline]
    fn place(&mut self, index: u32) {
        let tick = self.nodes[index as usize].tick;
        let level = ((tick ^ self.current) | 1).ilog2() / SLOT_BITS;
        let slot = (tick >> (level * SLOT_BITS)) as usize % SLOTS;
        let level = level as usize;
        self.occupied[level] |= 1 << slot;
        let slot = &mut self.slots[level][slot];
        if slot.head == NIL {
            slot.head = index;
        } else {
            self.nodes[slot.tail as usize].next = index;
        }
        slot.tail = index;
    }

    /// Moves a slot's timers to lower levels, now that the current tick is the slot's first.
    fn cascade(&mut self, level: usize, slot: usize) {
        self.occupied[level] &= !(1 << slot);
        let mut index = std::mem::replace(&mut self.slots[level][slot], Slot::EMPTY).head;
        while index != NIL {
            let next = std::mem::replace(&mut self.nodes[index as usize].next, NIL);
            self.place(index);
            index = next;
        }
    }
}

impl<K: Copy> fmt::Debug for Wheel<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wheel({} armed, next {:?})", self.len, self.next_deadline())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;
    use proptest::prelude::*;
    use std::{cmp::Reverse, collections::BinaryHeap};

    /// When a timer for `at` fires, in nanoseconds.
    fn fires_at(at: Instant) -> u64 {
        at.as_nanos().div_ceil(TICK_NS).min(TICK_MAX) << TICK_SHIFT
    }

    fn drain(wheel: &mut Wheel<u32>, now: Instant) -> Vec<u32> {
        let mut out = Vec::new();
        wheel.expire(now, usize::MAX, &mut out);
        out
    }

    #[test]
    fn never_early_and_at_most_a_tick_late() {
        let start = Instant::from_nanos(123_456_789);
        for after_ns in [0, 1, TICK_NS - 1, TICK_NS, TICK_NS + 1, 64 * TICK_NS, 4096 * TICK_NS + 7, 30_000_000_000] {
            let mut wheel = Wheel::new(start);
            let at = start + Duration::from_nanos(after_ns);
            wheel.arm(at, 7);
            if after_ns > 0 {
                assert!(drain(&mut wheel, Instant::from_nanos(at.as_nanos() - 1)).is_empty(), "{after_ns}");
            }
            assert_eq!(drain(&mut wheel, at + Duration::from_nanos(TICK_NS)), [7], "{after_ns}");
            assert!(wheel.len() == 0 && wheel.next_deadline().is_none());
        }
    }

    #[test]
    fn budget_leaves_the_rest_due_in_order() {
        let mut wheel = Wheel::new(Instant::ZERO);
        for key in 0..100 {
            wheel.arm(Instant::from_millis(10), key);
        }
        wheel.arm(Instant::from_millis(11), 100);
        let now = Instant::from_millis(20);
        let mut out = Vec::new();
        assert_eq!(wheel.expire(now, 30, &mut out), 30);
        assert_eq!(wheel.len(), 71);
        assert!(wheel.next_deadline().unwrap() <= now);
        // What is armed for the past meanwhile waits behind what was due before.
        wheel.arm(Instant::ZERO, 999);
        while wheel.expire(now, 30, &mut out) == 30 {}
        let mut want: Vec<u32> = (0..100).collect();
        want.extend([999, 100]);
        assert_eq!(out, want);
    }

    #[test]
    fn zero_budget_fires_nothing() {
        let mut wheel = Wheel::new(Instant::ZERO);
        wheel.arm(Instant::from_millis(1), 1);
        assert_eq!(wheel.expire(Instant::from_millis(9), 0, &mut Vec::new()), 0);
        assert_eq!(drain(&mut wheel, Instant::from_millis(9)), [1]);
    }

    #[test]
    fn the_end_of_time() {
        let mut wheel = Wheel::new(Instant::ZERO);
        wheel.arm(Instant::from_nanos(u64::MAX), 1);
        assert!(drain(&mut wheel, Instant::from_nanos(u64::MAX - TICK_NS)).is_empty());
        assert_eq!(drain(&mut wheel, Instant::from_nanos(u64::MAX)), [1]);
        wheel.arm(Instant::ZERO, 2);
        assert_eq!(drain(&mut wheel, Instant::from_nanos(u64::MAX)), [2]);
    }

    #[test]
    fn a_clock_that_steps_back_fires_nothing_early() {
        let mut wheel = Wheel::new(Instant::from_millis(1000));
        wheel.arm(Instant::from_millis(1001), 1);
        assert!(drain(&mut wheel, Instant::ZERO).is_empty());
        assert_eq!(drain(&mut wheel, Instant::from_millis(1002)), [1]);
    }

    #[test]
    fn memory_is_reused() {
        let mut wheel = Wheel::new(Instant::ZERO);
        for round in 0..1000u64 {
            for key in 0..10 {
                wheel.arm(Instant::from_millis(round * 7 + u64::from(key)), key);
            }
            drain(&mut wheel, Instant::from_millis(round * 7 + 20));
        }
        assert_eq!(wheel.nodes.len(), 10);
    }

    /// A waiting worker that sleeps until `next_deadline` gets there in few steps.
    #[test]
    fn sleeping_until_the_next_deadline_converges() {
        let mut wheel = Wheel::new(Instant::from_nanos(987_654_321));
        let at = Instant::from_millis(3_600_000);
        wheel.arm(at, 1);
        let mut wakes = 0;
        while let Some(next) = wheel.next_deadline() {
            wakes += 1;
            if !drain(&mut wheel, next).is_empty() {
                assert_eq!(next.as_nanos(), fires_at(at));
            }
        }
        assert!(wakes <= LEVELS, "{wakes}");
    }

    #[derive(Clone, Debug)]
    enum Op {
        Arm(u64),
        Advance(u64),
    }

    fn span() -> impl Strategy<Value = u64> {
        // Uniform in magnitude, so that every level is hit and jumps may cross all of them.
        (0u32..63, any::<u64>()).prop_map(|(bits, value)| value & ((1 << bits) - 1))
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        prop::collection::vec(prop_oneof![3 => span().prop_map(Op::Arm), 2 => span().prop_map(Op::Advance)], 1..300)
    }

    proptest! {
        #[test]
        fn agrees_with_a_heap(start in span(), ops in ops(), budget in prop_oneof![Just(usize::MAX), 1usize..5]) {
            let mut now = Instant::from_nanos(start);
            let mut wheel = Wheel::new(now);
            let mut heap = BinaryHeap::new();
            let mut armed = Vec::new();
            for op in ops {
                match op {
                    Op::Arm(after_ns) => {
                        let at = now + Duration::from_nanos(after_ns);
                        wheel.arm(at, armed.len() as u32);
                        heap.push(Reverse((fires_at(at), armed.len() as u32)));
                        armed.push(at);
                    }
                    Op::Advance(by_ns) => {
                        now = now + Duration::from_nanos(by_ns);
                        let mut out = Vec::new();
                        loop {
                            let before = out.len();
                            let fired = wheel.expire(now, budget, &mut out);
                            prop_assert!(fired <= budget);
                            prop_assert_eq!(fired, out.len() - before);
                            if fired < budget { break; }
                        }
                        let mut last = 0;
                        for &key in &out {
                            let due = fires_at(armed[key as usize]);
                            prop_assert!(armed[key as usize] <= now || now.as_nanos() > TICK_MAX << TICK_SHIFT, "fired early");
                            prop_assert!(due >= last, "out of order");
                            last = due;
                        }
                        let mut want = Vec::new();
                        while heap.peek().is_some_and(|Reverse((due, _))| *due <= now.as_nanos()) {
                            want.extend(heap.pop().map(|Reverse((_, key))| key));
                        }
                        out.sort_unstable();
                        want.sort_unstable();
                        prop_assert_eq!(out, want);
                    }
                }
                prop_assert_eq!(wheel.len(), heap.len());
                let earliest = heap.peek().map(|Reverse((due, _))| *due);
                let next = wheel.next_deadline().map(Instant::as_nanos);
                prop_assert_eq!(next.is_some(), earliest.is_some());
                prop_assert!(next <= earliest, "{:?} after {:?}", next, earliest);
            }
        }
    }
}
