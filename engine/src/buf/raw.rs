//! The pool and the values that hold its frames. This file and `region` are the only ones in `buf` with `unsafe`; every access to frame
//! memory goes through [`Raw::bytes`] or [`Raw::bytes_mut`], and every change of holder through [`Inner`].

use super::{HEADROOM_BYTES, Ledger, Region};
use std::{cell::Cell, fmt, mem::ManuallyDrop, rc::Rc};

/// One live Rust value (`TxBuf`, `RxBuf`, `Frozen`) holds the frame.
const OWNED: u32 = 1;
/// A `Retained` holds it.
const RETAINED: u32 = 2;
/// Lent to the kernel through the fill ring.
const KERNEL_RX: u32 = 4;
/// One sealed descriptor in an egress queue (a count of up to [`PIECES_MAX`]).
const QUEUED_ONE: u32 = 1 << 8;
const QUEUED_MASK: u32 = 0xfff << 8;
/// One descriptor posted and not completed (a count).
const KERNEL_TX_ONE: u32 = 1 << 20;
const KERNEL_TX_MASK: u32 = 0xfff << 20;
/// Most descriptors at once on one frame: kept under both 12-bit counts.
const PIECES_MAX: u32 = 0xfff;

const NIL: u32 = u32::MAX;

/// What is known of one frame. While it is free, `next` links the free list; while it is part of a chain, `next`, `start`
/// and `len` describe the following and this piece.
struct Meta {
    state: Cell<u32>,
    next: Cell<u32>,
    start: Cell<u16>,
    len: Cell<u16>,
}

/// How a pool divides its frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolConfig {
    /// Frames that [`Pool::alloc_tx`] leaves alone, so that senders cannot starve receiving. Half of it is open to
    /// [`Pool::alloc_control`] (ARP, ICMP, acknowledgements). Too low: a busy sender stops the receive ring; too high: memory idles.
    pub rx_reserve_frames: u32,
    /// Frames at the end of the region set aside for buffers larger than a frame, which need neighbours. Zero: none can be had.
    pub run_frames: u32,
}

/// Counts of what went wrong at the pool's edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounters {
    /// Completions for an address that was not with the kernel to send.
    pub bad_completions: u64,
    /// Received descriptors for an address that was not lent, or that ran out of its chunk.
    pub bad_receives: u64,
    /// Requests for a buffer that found none (or only the reserve).
    pub alloc_failures: u64,
}

struct Inner {
    base: *mut u8,
    chunk_shift: u32,
    metas: Box<[Meta]>,
    free_head: Cell<u32>,
    free_singles: Cell<u32>,
    /// First frame of the run area; its free frames are set bits in `run_bits`.
    run_base: u32,
    run_bits: Box<[Cell<u64>]>,
    run_free: Cell<u32>,
    run_hint: Cell<u32>,
    config: PoolConfig,
    bad_completions: Cell<u64>,
    bad_receives: Cell<u64>,
    alloc_failures: Cell<u64>,
    region: Region,
}

impl Inner {
    fn meta(&self, frame: u32) -> &Meta {
        &self.metas[frame as usize]
    }

    fn chunk_bytes(&self) -> usize {
        1 << self.chunk_shift
    }

    fn set(&self, frame: u32, holder: u32) {
        let state = &self.meta(frame).state;
        debug_assert_eq!(state.get() & holder, 0, "frame {frame} already has this holder");
        state.set(state.get() | holder);
    }

    /// Takes `amount` (a holder bit or one of a count) off the frame's state; the last holder frees it.
    #[inline]
    fn release(&self, frame: u32, amount: u32) {
        let state = &self.meta(frame).state;
        debug_assert!(state.get() & mask_of(amount) != 0, "frame {frame} released twice");
        let left = state.get() - amount;
        state.set(left);
        if left == 0 {
            self.put(frame);
        }
    }

    #[inline]
    fn put(&self, frame: u32) {
        if frame >= self.run_base {
            let bit = frame - self.run_base;
            let word = &self.run_bits[bit as usize / 64];
            word.set(word.get() | 1 << (bit % 64));
            self.run_free.set(self.run_free.get() + 1);
        } else {
            self.meta(frame).next.set(self.free_head.get());
            self.free_head.set(frame);
            self.free_singles.set(self.free_singles.get() + 1);
        }
    }

    /// Takes a free frame for `holder`, leaving `reserve` frames.
    #[inline]
    fn take(&self, holder: u32, reserve: u32) -> Option<u32> {
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
    fn take_run(&self, count: u32) -> Option<u32> {
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

    fn find_run(&self, from: u32, to: u32, count: u32) -> Option<u32> {
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
    fn locate(&self, addr: u64) -> Option<(u32, usize)> {
        let frame = usize::try_from(addr >> self.chunk_shift).ok().filter(|&f| f < self.metas.len())?;
        Some((frame as u32, addr as usize & (self.chunk_bytes() - 1)))
    }

    fn address(&self, frame: u32, start: u16) -> u64 {
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
const SUM_KNOWN: u32 = 1 << 16;

/// The core of `TxBuf`, `RxBuf`, `Frozen` and `Retained`: 24 bytes, neither `Send` nor `Clone`.
struct Raw {
    pool: Rc<Inner>,
    frame: u32,
    len: u32,
    start: u16,
    /// Neighbouring frames that the bytes run over; 1 but for runs.
    frames: u16,
    sum: u32,
}
const _: () = assert!(size_of::<Raw>() == 24);

impl Raw {
    fn new(pool: &Rc<Inner>, frame: u32, start: usize, len: usize) -> Self {
        Self { pool: pool.clone(), frame, len: len as u32, start: start as u16, frames: 1, sum: 0 }
    }

    /// Bytes from the start of the first frame to the end of the last.
    fn span(&self) -> usize {
        self.frames as usize * self.pool.chunk_bytes()
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
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
    fn bytes_mut(&mut self) -> &mut [u8] {
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

    #[inline]
    fn prepend(&mut self, room: usize) -> Result<&mut [u8], NoSpace> {
        let start = (self.start as usize).checked_sub(room).ok_or(NoSpace)?;
        self.start = start as u16;
        self.len += room as u32;
        Ok(&mut self.bytes_mut()[..room])
    }

    fn advance(&mut self, n: usize) {
        let n = n.min(self.len as usize);
        let start = self.start as usize + n;
        if let Ok(start) = u16::try_from(start) {
            self.start = start;
        } else {
            // Only a run is that long: the frames that are now in front of the data go back.
            let skip = start >> self.pool.chunk_shift;
            for frame in self.frame..self.frame + skip as u32 {
                self.pool.release(frame, OWNED);
            }
            self.frame += skip as u32;
            self.frames -= skip as u16;
            self.start = (start - (skip << self.pool.chunk_shift)) as u16;
        }
        self.len -= n as u32;
        self.sum = 0;
    }

    fn truncate(&mut self, n: usize) {
        if n < self.len as usize {
            self.len = n as u32;
            self.sum = 0;
        }
    }

    /// The piece after this one in its chain.
    fn next(&self) -> u32 {
        self.pool.meta(self.frame).next.get()
    }

    fn total_len(&self) -> usize {
        let mut total = self.len as usize;
        let mut at = self.next();
        while at != NIL {
            let meta = self.pool.meta(at);
            total += meta.len.get() as usize;
            at = meta.next.get();
        }
        total
    }

    /// Gives up `OWNED` on every frame of the run and of the chain.
    #[inline]
    fn release_owned(&self) {
        let mut at = self.next();
        for frame in self.frame..self.frame + u32::from(self.frames) {
            self.pool.release(frame, OWNED);
        }
        while at != NIL {
            let next = self.pool.meta(at).next.get();
            self.pool.release(at, OWNED);
            at = next;
        }
    }

    fn extents(&self) -> Extents<'_> {
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

struct Extents<'a> {
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

/// One worker's frames. Cheap to clone; not `Send`: a pool and its buffers stay on their worker's thread.
#[derive(Clone)]
pub struct Pool(Rc<Inner>);

impl Pool {
    /// A pool of all frames of `region`. `config` is clamped to what the region holds.
    pub fn new(region: Region, config: PoolConfig) -> Self {
        let frames = region.frames();
        let run_frames = config.run_frames.min(frames);
        let config = PoolConfig { rx_reserve_frames: config.rx_reserve_frames.min(frames - run_frames), run_frames };
        let inner = Inner {
            base: region.base().as_ptr(),
            chunk_shift: region.chunk_bytes().trailing_zeros(),
            metas: (0..frames)
                .map(|_| Meta { state: Cell::new(0), next: Cell::new(NIL), start: Cell::new(0), len: Cell::new(0) })
                .collect(),
            free_head: Cell::new(NIL),
            free_singles: Cell::new(0),
            run_base: frames - run_frames,
            run_bits: (0..run_frames.div_ceil(64)).map(|_| Cell::new(0)).collect(),
            run_free: Cell::new(0),
            run_hint: Cell::new(0),
            config,
            bad_completions: Cell::new(0),
            bad_receives: Cell::new(0),
            alloc_failures: Cell::new(0),
            region,
        };
        for frame in (0..frames).rev() {
            inner.put(frame);
        }
        Self(Rc::new(inner))
    }

    /// Frames in the pool.
    pub fn capacity(&self) -> u32 {
        self.0.metas.len() as u32
    }

    /// Free frames, the run area included.
    pub fn free(&self) -> u32 {
        self.0.free_singles.get() + self.0.run_free.get()
    }

    /// Frames that [`alloc_tx`](Self::alloc_tx) would still give.
    pub fn free_for_tx(&self) -> u32 {
        self.0.free_singles.get().saturating_sub(self.0.config.rx_reserve_frames)
    }

    /// Size of a frame, in bytes.
    pub fn chunk_bytes(&self) -> usize {
        self.0.chunk_bytes()
    }

    /// Most payload bytes that fit one frame behind the head-room.
    pub fn frame_payload_bytes(&self) -> usize {
        self.0.chunk_bytes() - HEADROOM_BYTES
    }

    /// The memory and what it is made of.
    pub fn region(&self) -> &Region {
        &self.0.region
    }

    /// An empty buffer for an application's data; `None` when only the receive reserve is left.
    #[inline]
    pub fn alloc_tx(&self) -> Option<TxBuf> {
        self.alloc(self.0.config.rx_reserve_frames)
    }

    /// An empty buffer for a packet that the stack itself must send; it may use half of the receive reserve.
    #[inline]
    pub fn alloc_control(&self) -> Option<TxBuf> {
        self.alloc(self.0.config.rx_reserve_frames / 2)
    }

    #[inline]
    fn alloc(&self, reserve: u32) -> Option<TxBuf> {
        let frame = self.0.take(OWNED, reserve)?;
        Some(TxBuf(Raw::new(&self.0, frame, HEADROOM_BYTES, 0)))
    }

    /// A buffer with room for `bytes` contiguous bytes: one frame if that is enough, else a run of neighbours. Its length is 0.
    pub fn alloc_contiguous(&self, bytes: usize) -> Option<TxBuf> {
        if bytes <= self.frame_payload_bytes() {
            return self.alloc_tx();
        }
        let frames = u16::try_from((HEADROOM_BYTES.checked_add(bytes)?).div_ceil(self.0.chunk_bytes())).ok()?;
        let frame = self.0.take_run(u32::from(frames))?;
        let mut raw = Raw::new(&self.0, frame, HEADROOM_BYTES, 0);
        raw.frames = frames;
        Some(TxBuf(raw))
    }

    /// A received buffer made of a copy of `bytes`, for ports that get their frames from elsewhere; `None` when no frame is left or it is longer than one holds.
    pub fn rx_from_bytes(&self, bytes: &[u8]) -> Option<RxBuf> {
        if bytes.len() > self.frame_payload_bytes() {
            return None;
        }
        let frame = self.0.take(OWNED, 0)?;
        let mut raw = Raw::new(&self.0, frame, HEADROOM_BYTES, bytes.len());
        raw.bytes_mut().copy_from_slice(bytes);
        Some(RxBuf(raw))
    }

    // ---- the kernel's side: only ports call these

    /// Lends a frame to the kernel to receive into; the address is for the fill ring.
    #[inline]
    pub fn post_fill(&self) -> Option<u64> {
        // The fill ring empties the pool on purpose at times: that is no failure to count.
        if self.0.free_singles.get() == 0 {
            return None;
        }
        self.0.take(KERNEL_RX, 0).map(|frame| self.0.address(frame, 0))
    }

    /// Takes a frame back that was lent and not used, as when a socket closes.
    ///
    /// # Errors
    /// The address was not lent.
    pub fn unfill(&self, addr: u64) -> Result<(), BadAddr> {
        match self.0.locate(addr) {
            Some((frame, _)) if self.0.meta(frame).state.get() == KERNEL_RX => {
                self.0.release(frame, KERNEL_RX);
                Ok(())
            }
            _ => Err(BadAddr(addr)),
        }
    }

    /// Turns a received descriptor into a buffer. Any offset in the frame is taken; the frame is known by its chunk.
    ///
    /// # Errors
    /// The frame was not lent, or the bytes run out of it; counted.
    #[inline]
    pub fn adopt_rx(&self, addr: u64, len: u32) -> Result<RxBuf, BadAddr> {
        match self.0.locate(addr) {
            Some((frame, start))
                if self.0.meta(frame).state.get() == KERNEL_RX && start + len as usize <= self.0.chunk_bytes() =>
            {
                let meta = self.0.meta(frame);
                meta.state.set(OWNED);
                meta.next.set(NIL);
                Ok(RxBuf(Raw::new(&self.0, frame, start, len as usize)))
            }
            _ => {
                self.0.bad_receives.set(self.0.bad_receives.get() + 1);
                Err(BadAddr(addr))
            }
        }
    }

    /// Takes back a descriptor that the kernel has sent; the frame is free if nobody else holds it.
    ///
    /// # Errors
    /// The frame was not with the kernel to send; counted.
    #[inline]
    pub fn complete_tx(&self, addr: u64) -> Result<(), BadAddr> {
        match self.0.locate(addr) {
            Some((frame, _)) if self.0.meta(frame).state.get() & KERNEL_TX_MASK != 0 => {
                self.0.release(frame, KERNEL_TX_ONE);
                Ok(())
            }
            _ => {
                self.0.bad_completions.set(self.0.bad_completions.get() + 1);
                Err(BadAddr(addr))
            }
        }
    }

    /// Writes into a lent frame, as a device would: for ports that play the kernel's part in this process.
    ///
    /// # Errors
    /// The frame is not lent, or the bytes run out of it.
    pub fn kernel_write(&self, addr: u64, bytes: &[u8]) -> Result<(), BadAddr> {
        match self.0.locate(addr) {
            Some((frame, start))
                if self.0.meta(frame).state.get() == KERNEL_RX && start + bytes.len() <= self.0.chunk_bytes() =>
            {
                // SAFETY: in range; the frame's only holder is the kernel, whose part the caller plays, so no reference to it exists.
                // `bytes` cannot overlap it for the same reason.
                unsafe {
                    let at = self.0.base.add(((frame as usize) << self.0.chunk_shift) + start);
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len());
                }
                Ok(())
            }
            _ => Err(BadAddr(addr)),
        }
    }

    /// Appends the bytes of a posted descriptor to `to`, as a device would read them.
    ///
    /// # Errors
    /// The frame is not with the kernel to send, or the bytes run out of it.
    pub fn kernel_read(&self, addr: u64, len: u32, to: &mut Vec<u8>) -> Result<(), BadAddr> {
        match self.0.locate(addr) {
            Some((frame, start))
                if self.0.meta(frame).state.get() & KERNEL_TX_MASK != 0
                    && start + len as usize <= self.0.chunk_bytes() =>
            {
                // SAFETY: in range; a frame with the kernel to send is written by nobody, and the borrow ends before this returns.
                let bytes = unsafe {
                    let at = self.0.base.add(((frame as usize) << self.0.chunk_shift) + start);
                    std::slice::from_raw_parts(at, len as usize)
                };
                to.extend_from_slice(bytes);
                Ok(())
            }
            _ => Err(BadAddr(addr)),
        }
    }

    /// Takes back every frame that the kernel holds, in either direction. Only after the socket is closed, when the kernel reads and writes the region no more.
    pub fn reclaim_from_kernel(&self) -> u32 {
        let mut reclaimed = 0;
        for frame in 0..self.capacity() {
            let state = &self.0.meta(frame).state;
            let kernel = state.get() & (KERNEL_RX | KERNEL_TX_MASK);
            if kernel != 0 {
                reclaimed += 1;
                state.set(state.get() & !kernel);
                if state.get() == 0 {
                    self.0.put(frame);
                }
            }
        }
        reclaimed
    }

    /// What went wrong so far.
    pub fn counters(&self) -> PoolCounters {
        PoolCounters {
            bad_completions: self.0.bad_completions.get(),
            bad_receives: self.0.bad_receives.get(),
            alloc_failures: self.0.alloc_failures.get(),
        }
    }

    /// Counts every frame's holder.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger { capacity: self.capacity(), ..Ledger::default() };
        let mut at = self.0.free_head.get();
        while at != NIL && ledger.free <= ledger.capacity {
            ledger.free += 1;
            at = self.0.meta(at).next.get();
        }
        ledger.free += self.0.run_bits.iter().map(|word| word.get().count_ones()).sum::<u32>();
        for meta in &self.0.metas {
            match meta.state.get() {
                0 => {}
                s if s & KERNEL_TX_MASK != 0 => ledger.kernel_tx += 1,
                s if s & QUEUED_MASK != 0 => ledger.queued += 1,
                s if s & KERNEL_RX != 0 => ledger.kernel_rx += 1,
                s if s & OWNED != 0 => ledger.owned += 1,
                _ => ledger.retained += 1,
            }
        }
        ledger
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} of {} free)", self.free(), self.capacity())
    }
}

macro_rules! holder {
    ($(#[$doc:meta])* $name:ident, $release:expr) => {
        $(#[$doc])*
        #[must_use = "dropping it gives the frame back"]
        pub struct $name(Raw);

        impl $name {
            /// The bytes (of a chain: those of its first piece).
            #[inline]
            pub fn as_slice(&self) -> &[u8] {
                self.0.bytes()
            }

            /// Number of bytes (of a chain: in its first piece).
            #[inline]
            pub fn len(&self) -> usize {
                self.0.len as usize
            }

            /// There are no bytes.
            pub fn is_empty(&self) -> bool {
                self.0.len == 0
            }

            /// The bytes lie in more than one place.
            #[inline]
            pub fn is_chain(&self) -> bool {
                self.0.next() != NIL
            }

            /// Number of bytes over all pieces.
            pub fn total_len(&self) -> usize {
                self.0.total_len()
            }

            /// Frames that dropping this would let go of.
            pub fn frame_count(&self) -> usize {
                if self.is_chain() { self.0.extents().count() } else { self.0.frames as usize }
            }

            /// The pieces in order, as slices.
            pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
                self.0.extents().map(|e| {
                    // SAFETY: extents come from the chain's own metas, each checked when it was linked; all of its frames are held by
                    // this value, so nobody writes them while `self` is borrowed.
                    unsafe {
                        let at = self.0.pool.base.add(((e.frame as usize) << self.0.pool.chunk_shift) + e.start as usize);
                        std::slice::from_raw_parts(at, e.len as usize)
                    }
                })
            }

            /// Copies bytes of all pieces into `to`, from `offset` on; returns how many. A copy: callers count it.
            pub fn copy_to(&self, offset: usize, to: &mut [u8]) -> usize {
                let (mut skip, mut done) = (offset, 0);
                for piece in self.pieces() {
                    let from = skip.min(piece.len());
                    skip -= from;
                    let n = (piece.len() - from).min(to.len() - done);
                    to[done..done + n].copy_from_slice(&piece[from..from + n]);
                    done += n;
                }
                done
            }

            /// The one's-complement sum of exactly these bytes, if somebody computed it and nothing changed since (16 bits, as `wire::checksum` folds it).
            #[inline]
            pub fn payload_sum(&self) -> Option<u16> {
                (self.0.sum & SUM_KNOWN != 0).then_some(self.0.sum as u16)
            }

            /// Notes the sum of exactly these bytes.
            #[inline]
            pub fn set_payload_sum(&mut self, sum: u16) {
                self.0.sum = SUM_KNOWN | u32::from(sum);
            }

            #[inline]
            #[allow(dead_code, reason = "not every holder is turned into another")]
            fn into_raw(self) -> Raw {
                let this = ManuallyDrop::new(self);
                // SAFETY: `this` is neither used nor dropped again, so its only field is moved out exactly once.
                unsafe { std::ptr::read(&this.0) }
            }
        }

        impl Drop for $name {
            #[inline]
            fn drop(&mut self) {
                let release: fn(&Raw) = $release;
                release(&self.0);
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Raw { frame, start, len, frames, .. } = &self.0;
                write!(f, concat!(stringify!($name), "(frame {}+{} at {}, {} B)"), frame, frames - 1, start, len)
            }
        }
    };
}

holder!(
    /// A buffer to write and send: one frame with head-room, a run of neighbouring frames, or a chain that was received.
    TxBuf, |raw| raw.release_owned());
holder!(
    /// A received packet: one frame, or a chain of them.
    RxBuf, |raw| raw.release_owned());
holder!(
    /// Bytes that will not change any more and may be sent in pieces, any number of times.
    Frozen, |raw| raw.release_owned());
holder!(
    /// A sent payload that a retransmit queue keeps.
    Retained, |raw| raw.pool.release(raw.frame, RETAINED));

impl TxBuf {
    /// The bytes, to write.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }

    /// Most bytes that it holds from where its data begins.
    pub fn capacity(&self) -> usize {
        self.0.span() - self.0.start as usize
    }

    /// Says how many bytes it has. Bytes that nobody wrote since the frame was last free have old contents.
    ///
    /// # Errors
    /// More than [`capacity`](Self::capacity), or it is a chain.
    #[inline]
    pub fn set_len(&mut self, len: usize) -> Result<(), NoSpace> {
        if len > self.capacity() || self.is_chain() {
            return Err(NoSpace);
        }
        self.0.len = len as u32;
        self.0.sum = 0;
        Ok(())
    }

    /// Appends a copy of `bytes`.
    ///
    /// # Errors
    /// They do not fit, or it is a chain; nothing was written.
    pub fn put_slice(&mut self, bytes: &[u8]) -> Result<(), NoSpace> {
        let old = self.len();
        self.set_len(old.checked_add(bytes.len()).ok_or(NoSpace)?)?;
        self.0.bytes_mut()[old..].copy_from_slice(bytes);
        Ok(())
    }

    /// Makes room for a header of `N` bytes in front of the data and gives it to be written.
    ///
    /// # Errors
    /// The head-room is used up.
    #[inline]
    pub fn prepend<const N: usize>(&mut self) -> Result<&mut [u8; N], NoSpace> {
        // `prepend` returns exactly N bytes, so the conversion cannot fail; NoSpace stands in to stay free of panics.
        self.0.prepend(N)?.try_into().map_err(|_| NoSpace)
    }

    /// Like [`prepend`](Self::prepend), for a header whose size is not known when compiling.
    ///
    /// # Errors
    /// The head-room is used up.
    pub fn prepend_slice(&mut self, header: &[u8]) -> Result<(), NoSpace> {
        self.0.prepend(header.len())?.copy_from_slice(header);
        Ok(())
    }

    /// Forgets the first `n` bytes of the first piece.
    pub fn advance(&mut self, n: usize) {
        self.0.advance(n);
    }

    /// Keeps only the first `n` bytes of the first piece.
    pub fn truncate(&mut self, n: usize) {
        self.0.truncate(n);
    }

    /// The bytes lie in one frame, so one descriptor can send them.
    #[inline]
    pub fn is_single(&self) -> bool {
        self.0.frames == 1 && !self.is_chain()
    }

    /// The finished packet, for an egress queue; its frame is free when the kernel has sent it.
    ///
    /// # Errors
    /// Gives the buffer back if it is a run or a chain ([`freeze`](Self::freeze) those).
    #[inline]
    pub fn seal(self) -> Result<Sealed, Self> {
        if !self.is_single() {
            return Err(self);
        }
        let raw = self.into_raw();
        let state = &raw.pool.meta(raw.frame).state;
        state.set(state.get() - OWNED + QUEUED_ONE);
        Ok(Sealed { frame: raw.frame, start: raw.start, len: raw.len as u16, more: false, pool: raw.pool })
    }

    /// Prepends `header` and seals; the payload stays readable for a retransmission.
    ///
    /// # Errors
    /// Gives the buffer back when the header does not fit or it is a run or a chain.
    pub fn seal_retained(mut self, header: &[u8]) -> Result<(Sealed, Retained), Self> {
        if !self.is_single() {
            return Err(self);
        }
        let (start, len, sum) = (self.0.start, self.0.len, self.0.sum);
        if self.prepend_slice(header).is_err() {
            return Err(self);
        }
        let sealed = self.seal()?;
        sealed.pool.set(sealed.frame, RETAINED);
        let kept = Raw { pool: sealed.pool.clone(), frame: sealed.frame, len, start, frames: 1, sum };
        Ok((sealed, Retained(kept)))
    }

    /// No more writing: pieces of it may now be sealed.
    pub fn freeze(self) -> Frozen {
        Frozen(self.into_raw())
    }
}

impl RxBuf {
    /// The bytes of the first piece, to change in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }

    /// Forgets the first `n` bytes of the first piece.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        self.0.advance(n);
    }

    /// Keeps only the first `n` bytes of the first piece.
    #[inline]
    pub fn truncate(&mut self, n: usize) {
        self.0.truncate(n);
    }

    /// Links `tail` (itself perhaps a chain) behind the last piece.
    ///
    /// # Errors
    /// Gives `tail` back if it is of another pool.
    pub fn append(&mut self, tail: RxBuf) -> Result<(), RxBuf> {
        if !Rc::ptr_eq(&self.0.pool, &tail.0.pool) {
            return Err(tail);
        }
        let tail = tail.into_raw();
        let meta = self.0.pool.meta(tail.frame);
        meta.start.set(tail.start);
        meta.len.set(tail.len as u16);
        let mut last = self.0.frame;
        while self.0.pool.meta(last).next.get() != NIL {
            last = self.0.pool.meta(last).next.get();
        }
        self.0.pool.meta(last).next.set(tail.frame);
        Ok(())
    }

    /// Takes the first piece off the chain: (first, rest).
    pub fn split_first(self) -> (RxBuf, Option<RxBuf>) {
        let next = self.0.next();
        if next == NIL {
            return (self, None);
        }
        let meta = self.0.pool.meta(next);
        let rest = RxBuf(Raw::new(&self.0.pool, next, meta.start.get() as usize, meta.len.get() as usize));
        self.0.pool.meta(self.0.frame).next.set(NIL);
        (self, Some(rest))
    }

    /// The same frame, to send: no copy. Head-room is whatever lies before the data.
    #[inline]
    pub fn into_tx(self) -> TxBuf {
        TxBuf(self.into_raw())
    }
}

impl Frozen {
    /// Seals bytes `offset .. offset + len` (over all pieces) as descriptors handed to `sink` in order; every one but the last says `more`.
    /// Returns how many there were.
    ///
    /// # Errors
    /// The range is not within the buffer or a frame already has too many descriptors; then `sink` was not called.
    pub fn seal_range(&self, offset: usize, len: usize, mut sink: impl FnMut(Sealed)) -> Result<usize, NoSpace> {
        let cut = |visit: &mut dyn FnMut(Extent, bool)| {
            let (mut skip, mut left) = (offset, len);
            for e in self.0.extents() {
                let from = skip.min(e.len as usize);
                skip -= from;
                let n = left.min(e.len as usize - from);
                if n > 0 {
                    left -= n;
                    visit(Extent { frame: e.frame, start: e.start + from as u16, len: n as u16 }, left > 0);
                }
                if left == 0 {
                    break;
                }
            }
            left
        };
        let mut fits = true;
        let left = cut(&mut |e, _| {
            let state = self.0.pool.meta(e.frame).state.get();
            fits &= state & QUEUED_MASK < PIECES_MAX * QUEUED_ONE
                && state / KERNEL_TX_ONE + (state & QUEUED_MASK) / QUEUED_ONE < PIECES_MAX;
        });
        if left > 0 || !fits {
            return Err(NoSpace);
        }
        let mut count = 0;
        cut(&mut |e, more| {
            let state = &self.0.pool.meta(e.frame).state;
            state.set(state.get() + QUEUED_ONE);
            count += 1;
            sink(Sealed { pool: self.0.pool.clone(), frame: e.frame, start: e.start, len: e.len, more });
        });
        Ok(count)
    }
}

impl Retained {
    /// Forgets the first `n` bytes: they were acknowledged.
    pub fn trim_front(&mut self, n: usize) {
        self.0.advance(n);
    }

    /// The frame to write again, when neither a queue nor the kernel holds it.
    ///
    /// # Errors
    /// Gives itself back while they do.
    pub fn try_exclusive(self) -> Result<TxBuf, Self> {
        let state = &self.0.pool.meta(self.0.frame).state;
        if state.get() != RETAINED {
            return Err(self);
        }
        state.set(OWNED);
        Ok(TxBuf(self.into_raw()))
    }
}

/// One finished descriptor of a packet, in an egress queue.
#[must_use = "dropping it drops the packet"]
pub struct Sealed {
    pool: Rc<Inner>,
    frame: u32,
    start: u16,
    len: u16,
    more: bool,
}
const _: () = assert!(size_of::<Sealed>() == 24);

impl Sealed {
    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: within one frame (every constructor keeps that); the queued count keeps the frame from being written or freed.
        unsafe {
            let at = self.pool.base.add(((self.frame as usize) << self.pool.chunk_shift) + self.start as usize);
            std::slice::from_raw_parts(at, self.len as usize)
        }
    }

    /// Number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// There are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The packet goes on in the next descriptor.
    #[inline]
    pub fn more(&self) -> bool {
        self.more
    }

    /// Says that the packet goes on in the next descriptor.
    pub fn set_more(&mut self) {
        self.more = true;
    }

    /// Hands the descriptor to the kernel: (address, length, more). Only ports call this.
    #[inline]
    pub fn post(self) -> (u64, u32, bool) {
        let state = &self.pool.meta(self.frame).state;
        state.set(state.get() - QUEUED_ONE + KERNEL_TX_ONE);
        let posted = (self.pool.address(self.frame, self.start), u32::from(self.len), self.more);
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped, so the reference count it held is dropped here exactly once.
        unsafe { std::ptr::drop_in_place(&mut this.pool) };
        posted
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.pool.release(self.frame, QUEUED_ONE);
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frame, start, len, more, pool: _ } = self;
        write!(f, "Sealed(frame {frame} at {start}, {len} B{})", if *more { ", more" } else { "" })
    }
}
