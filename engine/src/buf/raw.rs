//! Frame states, frame memory and who may touch it. This file and `region` are the only ones in `buf` with `unsafe`: every access to
//! frame memory goes through here, and every change of holder through [`Inner`]. The public values are in `pool` and `holders`.

use super::{PoolConfig, Region};
use std::{
    cell::Cell,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    rc::Rc,
};

/// One live Rust value (`TxBuf`, `RxBuf`, `Frozen`) holds the frame.
pub(super) const OWNED: u32 = 1;
/// A `Retained` holds it.
pub(super) const RETAINED: u32 = 2;
/// Lent to the kernel through the fill ring.
pub(super) const KERNEL_RX: u32 = 4;
/// One sealed descriptor in an egress queue (a count of up to [`PIECES_MAX`]).
pub(super) const QUEUED_ONE: u32 = 1 << 8;
pub(super) const QUEUED_MASK: u32 = 0xfff << 8;
/// One descriptor posted and not completed (a count).
pub(super) const KERNEL_TX_ONE: u32 = 1 << 20;
pub(super) const KERNEL_TX_MASK: u32 = 0xfff << 20;
/// Most descriptors at once on one frame: kept under both 12-bit counts.
pub(super) const PIECES_MAX: u32 = 0xfff;

pub(super) const NIL: u32 = u32::MAX;

/// What is known of one frame. While it is free, `next` links the free list; while it is part of a chain, `next`, `start`
/// and `len` describe the following and this piece.
pub(super) struct Meta {
    pub(super) state: Cell<u32>,
    pub(super) next: Cell<u32>,
    pub(super) start: Cell<u16>,
    pub(super) len: Cell<u16>,
}

pub(super) struct Inner {
    pub(super) base: *mut u8,
    pub(super) chunk_shift: u32,
    pub(super) metas: Box<[Meta]>,
    pub(super) free_head: Cell<u32>,
    pub(super) free_singles: Cell<u32>,
    /// First frame of the run area; its free frames are set bits in `run_bits`.
    pub(super) run_base: u32,
    pub(super) run_bits: Box<[Cell<u64>]>,
    pub(super) run_free: Cell<u32>,
    pub(super) run_hint: Cell<u32>,
    pub(super) config: PoolConfig,
    /// Frames that the port keeps with the device.
    pub(super) lent: Cell<u32>,
    pub(super) bad_completions: Cell<u64>,
    pub(super) bad_receives: Cell<u64>,
    pub(super) alloc_failures: Cell<u64>,
    pub(super) region: Region,
}

impl Inner {
    #[inline]
    pub(super) fn meta(&self, frame: u32) -> &Meta {
        debug_assert!((frame as usize) < self.metas.len());
        // SAFETY: frame numbers come from the free lists, from links between frames or from `locate`, which checks what the kernel says: all
        // are below the number of frames. The look-up is on every step of a packet's way, and the check would be a tenth of its cost.
        unsafe { self.metas.get_unchecked(frame as usize) }
    }

    #[inline]
    pub(super) fn chunk_bytes(&self) -> usize {
        1 << self.chunk_shift
    }

    pub(super) fn set(&self, frame: u32, holder: u32) {
        let state = &self.meta(frame).state;
        debug_assert_eq!(state.get() & holder, 0, "frame {frame} already has this holder");
        state.set(state.get() | holder);
    }

    /// Takes `amount` (a holder bit or one of a count) off the frame's state; the last holder frees it.
    #[inline]
    pub(super) fn release(&self, frame: u32, amount: u32) {
        let state = &self.meta(frame).state;
        debug_assert!(state.get() & mask_of(amount) != 0, "frame {frame} released twice");
        let left = state.get() - amount;
        state.set(left);
        if left == 0 {
            self.put(frame);
        }
    }

    #[cold]
    fn put_in_run(&self, frame: u32) {
        let bit = frame - self.run_base;
        let word = &self.run_bits[bit as usize / 64];
        word.set(word.get() | 1 << (bit % 64));
        self.run_free.set(self.run_free.get() + 1);
    }

    #[inline(always)]
    pub(super) fn put(&self, frame: u32) {
        if frame >= self.run_base {
            self.put_in_run(frame);
        } else {
            self.meta(frame).next.set(self.free_head.get());
            self.free_head.set(frame);
            self.free_singles.set(self.free_singles.get() + 1);
        }
    }

    /// Takes a free frame for `holder`, leaving `reserve` frames.
    #[inline]
    pub(super) fn take(&self, holder: u32, reserve: u32) -> Option<u32> {
        if self.free_singles.get() <= reserve {
            self.alloc_failures.set(self.alloc_failures.get() + 1);
            return None;
        }
        let frame = self.free_head.get();
        let meta = self.meta(frame);
        self.free_head.set(meta.next.get());
        self.free_singles.set(self.free_singles.get() - 1);
        debug_assert_eq!(meta.state.get(), 0);
        meta.state.set(holder);
        meta.next.set(NIL);
        Some(frame)
    }

    /// Takes `count` neighbouring frames of the run area.
    pub(super) fn take_run(&self, count: u32) -> Option<u32> {
        let total = self.metas.len() as u32 - self.run_base;
        if count == 0 || self.run_free.get() < count {
            self.alloc_failures.set(self.alloc_failures.get() + 1);
            return None;
        }
        // Next fit: from where the last run ended, once around. A run does not wrap.
        let hint = self.run_hint.get();
        let first = self.find_run(hint, total, count).or_else(|| self.find_run(0, (hint + count).min(total), count));
        let Some(first) = first else {
            self.alloc_failures.set(self.alloc_failures.get() + 1);
            return None;
        };
        for bit in first..first + count {
            let word = &self.run_bits[bit as usize / 64];
            word.set(word.get() & !(1 << (bit % 64)));
            let meta = self.meta(self.run_base + bit);
            meta.state.set(OWNED);
            meta.next.set(NIL);
        }
        self.run_free.set(self.run_free.get() - count);
        self.run_hint.set((first + count) % total);
        Some(self.run_base + first)
    }

    pub(super) fn find_run(&self, from: u32, to: u32, count: u32) -> Option<u32> {
        let mut length = 0;
        let mut bit = from;
        while bit < to {
            let word = self.run_bits[bit as usize / 64].get();
            if word == 0 && bit.is_multiple_of(64) {
                length = 0;
                bit += 64;
                continue;
            }
            if word >> (bit % 64) & 1 == 1 {
                length += 1;
                if length == count {
                    return Some(bit + 1 - count);
                }
            } else {
                length = 0;
            }
            bit += 1;
        }
        None
    }

    /// The frame and the offset in it of an address from a ring, if it lies in the region.
    #[inline]
    pub(super) fn locate(&self, addr: u64) -> Option<(u32, usize)> {
        let frame = usize::try_from(addr >> self.chunk_shift).ok().filter(|&f| f < self.metas.len())?;
        Some((frame as u32, addr as usize & (self.chunk_bytes() - 1)))
    }

    /// Bytes of one frame that its holder may read.
    ///
    /// # Safety
    /// The caller's value holds the frame in a way that excludes writers for `'a`, and the extent lies within it.
    #[inline]
    unsafe fn extent<'a>(&self, extent: Extent) -> &'a [u8] {
        debug_assert!(extent.start as usize + extent.len as usize <= self.chunk_bytes());
        // SAFETY: in range, no writer: the caller's promise.
        unsafe {
            let at = self.base.add(((extent.frame as usize) << self.chunk_shift) + extent.start as usize);
            std::slice::from_raw_parts(at, extent.len as usize)
        }
    }

    /// Writes into a frame that is lent to the kernel, whose part the caller plays; false if it is not, or too short.
    #[inline]
    pub(super) fn device_write(&self, addr: u64, bytes: &[u8]) -> bool {
        match self.locate(addr) {
            Some((frame, start))
                if self.meta(frame).state.get() == KERNEL_RX && start + bytes.len() <= self.chunk_bytes() =>
            {
                // SAFETY: in range; the frame's only holder is the kernel, whose part the caller plays, so no reference to it
                // exists, and `bytes` cannot overlap it for the same reason.
                unsafe {
                    let at = self.base.add(((frame as usize) << self.chunk_shift) + start);
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len());
                }
                true
            }
            _ => false,
        }
    }

    /// Reads a frame that the kernel has to send; `None` if it has not, or the bytes run out of it.
    #[inline]
    pub(super) fn device_read<R>(&self, addr: u64, len: u32, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        match self.locate(addr) {
            Some((frame, start))
                if self.meta(frame).state.get() & KERNEL_TX_MASK != 0 && start + len as usize <= self.chunk_bytes() =>
            {
                // SAFETY: in range; a frame with the kernel to send is written by nobody, and the borrow ends before this returns.
                Some(read(unsafe { self.extent(Extent { frame, start: start as u16, len: len as u16 }) }))
            }
            _ => None,
        }
    }

    #[inline]
    pub(super) fn address(&self, frame: u32, start: u16) -> u64 {
        (u64::from(frame) << self.chunk_shift) + u64::from(start)
    }
}

const fn mask_of(amount: u32) -> u32 {
    match amount {
        QUEUED_ONE => QUEUED_MASK,
        KERNEL_TX_ONE => KERNEL_TX_MASK,
        bit => bit,
    }
}

/// A cached one's-complement sum of exactly the bytes of a buffer, 16 bits; `KNOWN` tells it from "not computed".
pub(super) const SUM_KNOWN: u32 = 1 << 16;

/// The core of `TxBuf`, `RxBuf`, `Frozen` and `Retained`: 24 bytes, neither `Send` nor `Clone`.
pub(super) struct Raw {
    pub(super) pool: Rc<Inner>,
    pub(super) frame: u32,
    pub(super) len: u32,
    pub(super) start: u16,
    /// Neighbouring frames that the bytes run over; 1 but for runs.
    pub(super) frames: u16,
    pub(super) sum: u32,
}
const _: () = assert!(size_of::<Raw>() == 24);

impl Raw {
    pub(super) fn new(pool: &Rc<Inner>, frame: u32, start: usize, len: usize) -> Self {
        Self { pool: pool.clone(), frame, len: len as u32, start: start as u16, frames: 1, sum: 0 }
    }

    /// Bytes from the start of the first frame to the end of the last.
    pub(super) fn span(&self) -> usize {
        self.frames as usize * self.pool.chunk_bytes()
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        debug_assert!(self.start as usize + self.len as usize <= self.span());
        // SAFETY: `frame .. frame + frames` lie in the region and `start + len` within them (every constructor and setter keeps that).
        // The value's holder bit is set, so no other value gives `&mut` to these bytes, and the kernel only reads them.
        unsafe {
            let at = self.pool.base.add(((self.frame as usize) << self.pool.chunk_shift) + self.start as usize);
            std::slice::from_raw_parts(at, self.len as usize)
        }
    }

    /// For `TxBuf` and `RxBuf` only, which imply that `OWNED` is the frame's sole holder.
    #[inline]
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        debug_assert!(self.start as usize + self.len as usize <= self.span());
        debug_assert_eq!(self.pool.meta(self.frame).state.get(), OWNED);
        self.sum = 0;
        // SAFETY: in range as in `bytes`; the frame's only holder is the `TxBuf` or `RxBuf` that is borrowed mutably here, so nobody,
        // the kernel included, reads or writes these bytes meanwhile.
        unsafe {
            let at = self.pool.base.add(((self.frame as usize) << self.pool.chunk_shift) + self.start as usize);
            std::slice::from_raw_parts_mut(at, self.len as usize)
        }
    }

    /// As [`bytes_mut`](Self::bytes_mut), of each linked piece in turn, those without bytes too.
    pub(super) fn each_piece_mut(&mut self, mut visit: impl FnMut(&mut [u8])) {
        visit(self.bytes_mut());
        let mut at = self.next();
        while at != NIL {
            let meta = self.pool.meta(at);
            debug_assert_eq!(meta.state.get(), OWNED);
            // SAFETY: a piece lies within its frame (`append` and `set_places` keep that); its only holder is the value that is borrowed mutably here, as in `bytes_mut`.
            visit(unsafe {
                let at = self.pool.base.add(((at as usize) << self.pool.chunk_shift) + meta.start.get() as usize);
                std::slice::from_raw_parts_mut(at, meta.len.get() as usize)
            });
            at = meta.next.get();
        }
    }

    /// Where each linked piece lies: (offset in its frame or run, bytes), those without bytes too.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        let link = |at: u32| (at != NIL).then(|| self.pool.meta(at));
        let rest = std::iter::successors(link(self.next()), move |meta| link(meta.next.get()));
        std::iter::once((self.start as usize, self.len as usize))
            .chain(rest.map(|meta| (meta.start.get() as usize, meta.len.get() as usize)))
    }

    /// Says anew where each linked piece lies.
    pub(super) fn set_places(&mut self, places: &[(usize, usize)]) -> Result<(), NoSpace> {
        let Some((&(start, len), rest)) = places.split_first() else { return Err(NoSpace) };
        let fits = |span: usize, (start, len): (usize, usize)| {
            u16::try_from(start).is_ok() && start.checked_add(len).is_some_and(|end| end <= span)
        };
        let chunk = self.pool.chunk_bytes();
        if self.places().count() != places.len()
            || !fits(self.span(), (start, len))
            || !rest.iter().all(|&place| fits(chunk, place))
        {
            return Err(NoSpace);
        }
        (self.start, self.len, self.sum) = (start as u16, len as u32, 0);
        let mut at = self.next();
        for &(start, len) in rest {
            let meta = self.pool.meta(at);
            meta.start.set(start as u16);
            meta.len.set(len as u16);
            at = meta.next.get();
        }
        Ok(())
    }

    /// Keeps the first `n` bytes over all pieces, and gives up `holder` on the frames of the pieces behind.
    pub(super) fn cut(&mut self, n: usize, holder: u32) {
        let mut left = n.saturating_sub(self.len as usize);
        self.truncate(n);
        let mut last = self.frame;
        while left > 0 {
            let next = self.pool.meta(last).next.get();
            if next == NIL {
                return;
            }
            last = next;
            let len = &self.pool.meta(last).len;
            len.set(len.get().min(u16::try_from(left).unwrap_or(u16::MAX)));
            left -= usize::from(len.get());
        }
        let mut at = self.pool.meta(last).next.replace(NIL);
        if at != NIL {
            self.sum = 0;
        }
        while at != NIL {
            let next = self.pool.meta(at).next.get();
            self.pool.release(at, holder);
            at = next;
        }
    }

    #[inline]
    pub(super) fn prepend(&mut self, room: usize) -> Result<&mut [u8], NoSpace> {
        let start = (self.start as usize).checked_sub(room).ok_or(NoSpace)?;
        self.start = start as u16;
        self.len += room as u32;
        Ok(&mut self.bytes_mut()[..room])
    }

    #[inline(always)]
    pub(super) fn prepend_block<const N: usize>(
        &mut self,
        block: &[u8; N],
        header_bytes: usize,
    ) -> Result<&mut [u8; N], NoSpace> {
        if header_bytes > N || usize::from(self.start) < N {
            return Err(NoSpace);
        }
        self.start -= header_bytes as u16;
        self.len += header_bytes as u32;
        self.sum = 0;
        self.put_block(block, header_bytes)
    }

    /// Copies a block to where its last `inside` bytes are the first of the data, and all others lie in front of it.
    #[inline(always)]
    pub(super) fn put_block<const N: usize>(
        &mut self,
        block: &[u8; N],
        inside: usize,
    ) -> Result<&mut [u8; N], NoSpace> {
        let end = usize::from(self.start) + inside;
        if end < N || inside > self.len as usize {
            return Err(NoSpace);
        }
        debug_assert_eq!(self.pool.meta(self.frame).state.get(), OWNED);
        // SAFETY: the `N` bytes up to `end` lie in the frame, of which the data is a part; nobody else reads or writes them, as in `bytes_mut`.
        let at = unsafe {
            let end = self.pool.base.add(((self.frame as usize) << self.pool.chunk_shift) + end);
            &mut *end.sub(N).cast::<[u8; N]>()
        };
        *at = *block;
        Ok(at)
    }

    #[inline(always)]
    pub(super) fn advance(&mut self, n: usize) {
        let n = n.min(self.len as usize);
        let start = self.start as usize + n;
        if let Ok(start) = u16::try_from(start) {
            self.start = start;
        } else {
            self.leave_frames(start);
        }
        self.len -= n as u32;
        self.sum = 0;
    }

    /// The data begins `start` bytes into the run now.
    #[cold]
    fn leave_frames(&mut self, start: usize) {
        // Only a run is that long: the frames that are now in front of the data go back, but never the last, by which the value is known.
        let skip = (start >> self.pool.chunk_shift).min(self.frames as usize - 1);
        for frame in self.frame..self.frame + skip as u32 {
            self.pool.release(frame, OWNED);
        }
        self.frame += skip as u32;
        self.frames -= skip as u16;
        self.start = (start - (skip << self.pool.chunk_shift)) as u16;
    }

    /// The bytes, which lie in one frame, as a descriptor to be sent: one of the frame's queued count, and `also`, are its holders now in place of `OWNED`.
    #[inline(always)]
    pub(super) fn queue(&self, also: u32) -> Piece {
        let state = &self.pool.meta(self.frame).state;
        state.set(state.get() - OWNED + QUEUED_ONE + also);
        Piece { frame: self.frame, start: self.start, len: self.len as u16, more: false }
    }

    #[inline]
    pub(super) fn truncate(&mut self, n: usize) {
        if n < self.len as usize {
            self.len = n as u32;
            self.sum = 0;
        }
    }

    /// The piece after this one in its chain.
    #[inline]
    pub(super) fn next(&self) -> u32 {
        self.pool.meta(self.frame).next.get()
    }

    /// The frames of the run, then those of the chain.
    #[inline]
    pub(super) fn frame_numbers(&self) -> impl Iterator<Item = u32> {
        let link = |at: u32| (at != NIL).then_some(at);
        let rest = std::iter::successors(link(self.next()), move |&at| link(self.pool.meta(at).next.get()));
        (self.frame..self.frame + u32::from(self.frames)).chain(rest)
    }

    #[inline]
    pub(super) fn total_len(&self) -> usize {
        let mut total = self.len as usize;
        let mut at = self.next();
        while at != NIL {
            let meta = self.pool.meta(at);
            total += meta.len.get() as usize;
            at = meta.next.get();
        }
        total
    }

    /// Gives up `holder` on every frame of the run and of the chain.
    #[cold]
    pub(super) fn release_all(self, holder: u32) {
        let mut at = self.next();
        for frame in self.frame..self.frame + u32::from(self.frames) {
            self.pool.release(frame, holder);
        }
        while at != NIL {
            let next = self.pool.meta(at).next.get();
            self.pool.release(at, holder);
            at = next;
        }
    }

    /// The pieces of the run or chain, as slices.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        // SAFETY: extents come from the value's own frames, checked when they were taken or linked; it holds them all while it is borrowed.
        self.extents().map(|extent| unsafe { self.pool.extent(extent) })
    }

    pub(super) fn extents(&self) -> Extents<'_> {
        Extents {
            pool: &self.pool,
            frame: self.frame,
            start: self.start as usize,
            left: self.len as usize,
            next: self.next(),
        }
    }
}

/// A stretch of bytes within one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Index of the frame.
    pub frame: u32,
    /// Offset of the first byte in the frame.
    pub start: u16,
    /// Number of bytes.
    pub len: u16,
}

pub(super) struct Extents<'a> {
    pool: &'a Inner,
    frame: u32,
    start: usize,
    left: usize,
    next: u32,
}

impl Iterator for Extents<'_> {
    type Item = Extent;
    fn next(&mut self) -> Option<Extent> {
        while self.left == 0 {
            if self.next == NIL {
                return None;
            }
            let meta = self.pool.meta(self.next);
            (self.frame, self.start, self.left) = (self.next, meta.start.get() as usize, meta.len.get() as usize);
            self.next = meta.next.get();
        }
        let chunk = self.pool.chunk_bytes();
        self.frame += (self.start / chunk) as u32;
        self.start %= chunk;
        let len = self.left.min(chunk - self.start);
        let extent = Extent { frame: self.frame, start: self.start as u16, len: len as u16 };
        self.start += len;
        self.left -= len;
        Some(extent)
    }
}

/// The header does not fit in front of the payload, or the payload not in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room left in the frame")]
pub struct NoSpace;

/// An address from a ring that is not what the ring may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {0:#x} from the kernel is outside the region or not with the kernel")]
pub struct BadAddr(pub u64);

/// A [`Raw`] that gives up its holder bit `AS` when dropped.
pub(super) struct Hold<const AS: u32>(ManuallyDrop<Raw>);

impl<const AS: u32> Hold<AS> {
    /// `raw`'s frames must have the holder `AS`, which is this value's from now on.
    #[inline]
    pub(super) fn new(raw: Raw) -> Self {
        Self(ManuallyDrop::new(raw))
    }

    /// Drops it, in line.
    #[inline(always)]
    pub(super) fn let_go(self) {
        give_back(self.into_raw(), AS);
    }

    /// The core, whose holder bit somebody else now answers for.
    #[inline]
    pub(super) fn into_raw(self) -> Raw {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is neither used nor dropped again, so the core is taken out exactly once.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<const AS: u32> Deref for Hold<AS> {
    type Target = Raw;
    #[inline]
    fn deref(&self) -> &Raw {
        &self.0
    }
}

impl<const AS: u32> DerefMut for Hold<AS> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Raw {
        &mut self.0
    }
}

impl<const AS: u32> Drop for Hold<AS> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: nothing uses `self` after this, so the core is taken out exactly once.
        give_back(unsafe { ManuallyDrop::take(&mut self.0) }, AS);
    }
}

#[inline(always)]
fn give_back(raw: Raw, holder: u32) {
    // Nearly all are one frame. The two ways do not meet again: so the usual one saves no registers for the other.
    if raw.frames == 1 && raw.next() == NIL {
        raw.pool.release(raw.frame, holder);
    } else {
        raw.release_all(holder);
    }
}

/// Bytes of a frame that are to be sent: one of the frame's queued count stands for them.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) frame: u32,
    pub(super) start: u16,
    pub(super) len: u16,
    pub(super) more: bool,
}

impl Piece {
    /// Its place in the region, now with the kernel: (address, length, more).
    #[inline]
    pub(super) fn post(self, pool: &Inner) -> (u64, u32, bool) {
        let state = &pool.meta(self.frame).state;
        state.set(state.get() - QUEUED_ONE + KERNEL_TX_ONE);
        (pool.address(self.frame, self.start), u32::from(self.len), self.more)
    }
}

/// One finished descriptor of a packet.
#[must_use = "dropping it drops the packet"]
pub struct Sealed {
    pub(super) pool: Rc<Inner>,
    pub(super) piece: Piece,
}
const _: () = assert!(size_of::<Sealed>() == 24);

impl Sealed {
    /// Its pool, and the piece, for whose queued count somebody else now answers.
    #[inline]
    pub(super) fn into_parts(self) -> (Rc<Inner>, Piece) {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is neither used nor dropped again, so its only field with a destructor is moved out exactly once.
        (unsafe { std::ptr::read(&this.pool) }, this.piece)
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        QueuedPiece { pool: &self.pool, piece: self.piece }.as_slice()
    }
}

/// A descriptor in a queue, to look at.
#[derive(Clone, Copy)]
pub struct QueuedPiece<'a> {
    pub(super) pool: &'a Inner,
    pub(super) piece: Piece,
}

impl<'a> QueuedPiece<'a> {
    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &'a [u8] {
        let Piece { frame, start, len, more: _ } = self.piece;
        // SAFETY: within one frame (every constructor keeps that); the queued count, which the lender keeps for `'a`, keeps the frame from being written or freed.
        unsafe { self.pool.extent(Extent { frame, start, len }) }
    }

    /// The packet goes on in the next descriptor.
    pub fn more(&self) -> bool {
        self.piece.more
    }
}

impl std::fmt::Debug for QueuedPiece<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Piece { frame, start, len, more } = self.piece;
        write!(f, "QueuedPiece(frame {frame} at {start}, {len} B{})", if more { ", more" } else { "" })
    }
}
