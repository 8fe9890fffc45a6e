//! The two ends of a ring.

use super::{
    Entry, NEED_WAKEUP,
    memory::Memory,
    sync::{AtomicU32, Ordering},
};

/// Cached indices over shared ones. All arithmetic wraps: the indices run through 2^32.
#[derive(Debug)]
struct Ends<T> {
    memory: Memory<T>,
    producer: u32,
    consumer: u32,
}

impl<T: Entry> Ends<T> {
    fn producer_index(&self) -> &AtomicU32 {
        // SAFETY: `memory` keeps the pointer valid, and an aligned `AtomicU32` shared with the other end is only ever used atomically.
        unsafe { &*self.memory.producer }
    }

    fn consumer_index(&self) -> &AtomicU32 {
        // SAFETY: as for `producer_index`.
        unsafe { &*self.memory.consumer }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as for `producer_index`.
        unsafe { &*self.memory.flags }
    }

    fn entry(&self, index: u32) -> &super::sync::UnsafeCell<T> {
        // SAFETY: the masked index is below `size`, the number of cells behind the pointer.
        unsafe { &*self.memory.entries.add((index & (self.memory.size - 1)) as usize) }
    }
}

/// The end that writes entries.
#[derive(Debug)]
pub struct Producer<T>(Ends<T>);

impl<T: Entry> Producer<T> {
    pub(super) fn new(memory: Memory<T>) -> Self {
        let mut ends = Ends { memory, producer: 0, consumer: 0 };
        ends.producer = ends.producer_index().load(Ordering::Relaxed);
        ends.consumer = ends.consumer_index().load(Ordering::Acquire);
        Self(ends)
    }

    /// Number of entries that the ring holds.
    pub fn size(&self) -> u32 {
        self.0.memory.size
    }

    fn cached_free(&self) -> u32 {
        // A consumer index ahead of the producer's would be the other end's fault: it counts as no room, never as wild writes.
        self.0.memory.size.saturating_sub(self.0.producer.wrapping_sub(self.0.consumer))
    }

    /// Entries that can be written now; looks at the other end only if fewer than `wanted` are known to be free.
    #[inline]
    pub fn free(&mut self, wanted: u32) -> u32 {
        if self.cached_free() < wanted {
            self.0.consumer = self.0.consumer_index().load(Ordering::Acquire);
        }
        self.cached_free()
    }

    /// Entries that the other end has not taken yet.
    pub fn outstanding(&mut self) -> u32 {
        self.size() - self.free(self.size())
    }

    /// Room for up to `wanted` entries (perhaps none); nothing is published until [`Reservation::commit`].
    #[inline]
    pub fn reserve(&mut self, wanted: u32) -> Reservation<'_, T> {
        let room = self.free(wanted).min(wanted);
        Reservation { written: 0, room, ring: self }
    }

    /// The other end asks to be woken by a system call.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        self.0.flags().load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }
}

/// Entries being written.
#[derive(Debug)]
#[must_use = "nothing is published without commit"]
pub struct Reservation<'a, T> {
    ring: &'a mut Producer<T>,
    room: u32,
    written: u32,
}

impl<T: Entry> Reservation<'_, T> {
    /// Entries that still fit.
    pub fn room(&self) -> u32 {
        self.room - self.written
    }

    /// Writes the next entry; false if the reservation is full (nothing was written).
    #[inline]
    pub fn push(&mut self, entry: T) -> bool {
        if self.written == self.room {
            return false;
        }
        let index = self.ring.0.producer.wrapping_add(self.written);
        // SAFETY: entries between the producer's index and `size` beyond the consumer's belong to this end alone.
        self.ring.0.entry(index).with_mut(|at| unsafe { at.write(entry) });
        self.written += 1;
        true
    }

    /// Publishes what was written; returns how many.
    #[inline]
    pub fn commit(self) -> u32 {
        let ends = &mut self.ring.0;
        ends.producer = ends.producer.wrapping_add(self.written);
        ends.producer_index().store(ends.producer, Ordering::Release);
        self.written
    }
}

/// The end that reads entries.
#[derive(Debug)]
pub struct Consumer<T>(Ends<T>);

impl<T: Entry> Consumer<T> {
    pub(super) fn new(memory: Memory<T>) -> Self {
        let mut ends = Ends { memory, producer: 0, consumer: 0 };
        ends.consumer = ends.consumer_index().load(Ordering::Relaxed);
        ends.producer = ends.producer_index().load(Ordering::Acquire);
        Self(ends)
    }

    /// Number of entries that the ring holds.
    pub fn size(&self) -> u32 {
        self.0.memory.size
    }

    fn cached_available(&self) -> u32 {
        // A producer index more than `size` ahead is the other end's fault: never read further than the ring.
        self.0.producer.wrapping_sub(self.0.consumer).min(self.0.memory.size)
    }

    /// Entries that can be read now; looks at the other end only if fewer than `wanted` are known.
    #[inline]
    pub fn available(&mut self, wanted: u32) -> u32 {
        if self.cached_available() < wanted {
            self.0.producer = self.0.producer_index().load(Ordering::Acquire);
        }
        self.cached_available()
    }

    /// Up to `wanted` entries (perhaps none); they stay in the ring until [`Batch::release`].
    #[inline]
    pub fn peek(&mut self, wanted: u32) -> Batch<'_, T> {
        let len = self.available(wanted).min(wanted);
        Batch { ring: self, len }
    }

    /// Sets or clears the wish to be woken by the producing end.
    pub fn set_needs_wakeup(&mut self, wake: Wake) {
        let value = match wake {
            Wake::Needed => NEED_WAKEUP,
            Wake::NotNeeded => 0,
        };
        self.0.flags().store(value, Ordering::Relaxed);
    }
}

/// Whether a consuming end sleeps until it is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The producer must wake it.
    Needed,
    /// It looks by itself.
    NotNeeded,
}

/// Entries being read.
#[derive(Debug)]
#[must_use = "nothing is taken without release"]
pub struct Batch<'a, T> {
    ring: &'a mut Consumer<T>,
    len: u32,
}

impl<T: Entry> Batch<'_, T> {
    /// Number of entries.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entry number `index`, oldest first.
    #[inline]
    pub fn get(&self, index: u32) -> Option<T> {
        (index < self.len).then(|| self.read(index))
    }

    /// All entries, oldest first.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = T> {
        (0..self.len).map(|index| self.read(index))
    }

    /// `index` is below the number of entries.
    #[inline]
    fn read(&self, index: u32) -> T {
        let at = self.ring.0.consumer.wrapping_add(index);
        // SAFETY: entries between the consumer's index and the producer's were published with Release and are not written again
        // before this end moves its index on.
        self.ring.0.entry(at).with(|at| unsafe { at.read() })
    }

    /// Gives the first `count` entries back to the producer.
    #[inline]
    pub fn release_first(self, count: u32) {
        let ends = &mut self.ring.0;
        ends.consumer = ends.consumer.wrapping_add(count.min(self.len));
        ends.consumer_index().store(ends.consumer, Ordering::Release);
    }

    /// Gives all entries back to the producer.
    #[inline]
    pub fn release(self) {
        let len = self.len;
        self.release_first(len);
    }
}
