//! The system's allocator, and how much of it a thread has in use.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    // Constants without destructors: reading them allocates nothing.
    static BYTES: Cell<isize> = const { Cell::new(0) };
    static BLOCKS: Cell<isize> = const { Cell::new(0) };
}

/// What a thread has allocated and nobody has freed, or less what it freed of others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InUse {
    pub(crate) bytes: isize,
    pub(crate) blocks: isize,
}

/// This thread's.
pub(crate) fn in_use() -> InUse {
    InUse { bytes: BYTES.get(), blocks: BLOCKS.get() }
}

#[inline]
fn count(bytes: isize, blocks: isize) {
    BYTES.set(BYTES.get() + bytes);
    BLOCKS.set(BLOCKS.get() + blocks);
}

#[derive(Debug)]
pub(crate) struct Counting;

// SAFETY: every call goes to `System` as it came.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize, 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize, 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize), -1);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize, 0);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_does_not_count() {
        let before = in_use();
        let mut kept: Vec<u8> = Vec::with_capacity(1000);
        drop(Vec::<u8>::with_capacity(5000));
        assert_eq!(in_use(), InUse { bytes: before.bytes + 1000, blocks: before.blocks + 1 });
        kept.reserve_exact(3000);
        assert_eq!(in_use(), InUse { bytes: before.bytes + 3000, blocks: before.blocks + 1 });
        drop(kept);
        assert_eq!(in_use(), before);
    }
}
