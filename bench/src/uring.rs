//! A ring of buffers that io_uring receives into (`IORING_REGISTER_PBUF_RING`, Linux 5.19).

use anyhow::{Context, Result, ensure};
use io_uring::{IoUring, types::BufRingEntry};
use std::{
    alloc::{self, Layout},
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
};

const PAGE_BYTES: usize = 4096;

/// Buffers of one size. Must outlive the io_uring that it is registered with.
pub(crate) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    memory: Vec<u8>,
    buffers: u16,
    buffer_bytes: usize,
    tail: u16,
}

impl BufferRing {
    /// With all buffers in it. `buffers` must be a power of two.
    pub(crate) fn register(ring: &IoUring, group: u16, buffers: u16, buffer_bytes: usize) -> Result<Self> {
        ensure!(buffers.is_power_of_two(), "{buffers} buffers: no power of two");
        let layout = Layout::array::<BufRingEntry>(buffers.into())?.align_to(PAGE_BYTES)?;
        // SAFETY: the layout is of at least one entry.
        let entries = NonNull::new(unsafe { alloc::alloc_zeroed(layout) }.cast()).context("no memory")?;
        let memory = vec![0; usize::from(buffers) * buffer_bytes];
        let mut this = Self { entries, layout, memory, buffers, buffer_bytes, tail: 0 };
        (0..buffers).for_each(|buffer| this.give_back(buffer));
        this.publish();
        // SAFETY: the entries are page-aligned, as many as is said, and live until the ring is gone: the caller's promise.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, buffers, group, 0) }
            .context("IORING_REGISTER_PBUF_RING (Linux 5.19 or newer is needed)")?;
        Ok(this)
    }

    /// The start of a buffer that the kernel has filled and not been given back.
    pub(crate) fn filled(&self, buffer: u16, bytes: usize) -> &[u8] {
        let start = usize::from(buffer) * self.buffer_bytes;
        &self.memory[start..start + bytes.min(self.buffer_bytes)]
    }

    /// The kernel may use this buffer again, from the next [`Self::publish`] on.
    pub(crate) fn give_back(&mut self, buffer: u16) {
        let start = usize::from(buffer) * self.buffer_bytes;
        let address = self.memory[start..start + self.buffer_bytes].as_mut_ptr() as u64;
        let index = usize::from(self.tail & (self.buffers - 1));
        // SAFETY: the index is below the number of entries; the kernel reads this one only after the tail has passed it. The first entry's
        // reserved word, which is the tail, is not written here.
        let entry = unsafe { &mut *self.entries.as_ptr().add(index) };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    pub(crate) fn publish(&mut self) {
        // SAFETY: the pointer is to the ring's first entry, and the word that it gives is aligned and lives as long.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed once.
        unsafe { alloc::dealloc(self.entries.as_ptr().cast(), self.layout) };
    }
}
