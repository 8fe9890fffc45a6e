//! Where a ring lies: heap memory, or a mapping of a socket's.

use super::{
    Consumer, Entry, Producer,
    sync::{Arc, AtomicU32, UnsafeCell},
};
use crossbeam::utils::CachePadded;
use std::{any::Any, fmt};

/// The shared parts of one ring and what keeps them in place.
pub(super) struct Memory<T> {
    pub(super) producer: *const AtomicU32,
    pub(super) consumer: *const AtomicU32,
    pub(super) flags: *const AtomicU32,
    pub(super) entries: *const UnsafeCell<T>,
    /// Number of entries, a power of two.
    pub(super) size: u32,
    /// Keeps the memory alive.
    pub(super) _keep: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the pointers stay valid wherever the value is (`_keep`); the indices are atomics, and the entries are touched only under the
// single-producer single-consumer protocol that `Producer` and `Consumer` (neither `Clone`) keep.
unsafe impl<T: Send> Send for Memory<T> {}

impl<T> fmt::Debug for Memory<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ring of {}", self.size)
    }
}

struct Heap<T> {
    producer: CachePadded<AtomicU32>,
    consumer: CachePadded<AtomicU32>,
    flags: CachePadded<AtomicU32>,
    entries: Box<[UnsafeCell<T>]>,
}

// SAFETY: shared between exactly one `Producer` and one `Consumer`, which order their accesses to `entries` by the two indices.
unsafe impl<T: Send> Sync for Heap<T> {}

/// Both ends of a ring of `size` entries in heap memory, whose indices begin at `first_index` (any value: they wrap at 2^32).
///
/// # Panics
/// `size` is not a power of two, or over 2^31.
pub fn heap<T: Entry + Send>(size: u32, first_index: u32) -> (Producer<T>, Consumer<T>) {
    assert!(size.is_power_of_two(), "a ring of {size} entries: must be a power of two");
    let heap = Arc::new(Heap {
        producer: CachePadded::new(AtomicU32::new(first_index)),
        consumer: CachePadded::new(AtomicU32::new(first_index)),
        flags: CachePadded::new(AtomicU32::new(0)),
        entries: (0..size).map(|_| UnsafeCell::new(T::default())).collect(),
    });
    let memory = || Memory {
        producer: &raw const *heap.producer,
        consumer: &raw const *heap.consumer,
        flags: &raw const *heap.flags,
        entries: heap.entries.as_ptr(),
        size,
        _keep: keep(heap.clone()),
    };
    (Producer::new(memory()), Consumer::new(memory()))
}

#[cfg(not(loom))]
fn keep<T: Send + 'static>(heap: Arc<Heap<T>>) -> Arc<dyn Any + Send + Sync> {
    heap
}

/// loom's `Arc` does not unsize by itself.
#[cfg(loom)]
fn keep<T: Send + 'static>(heap: Arc<Heap<T>>) -> Arc<dyn Any + Send + Sync> {
    let outer: std::sync::Arc<dyn Any + Send + Sync> = std::sync::Arc::new(heap);
    Arc::from_std(outer)
}
