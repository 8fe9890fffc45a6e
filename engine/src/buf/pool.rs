//! The pool: takes frames, gives them to holders and to the kernel, and keeps the books.

use super::{
    HEADROOM_BYTES, Ledger, Region, RxBuf, TxBuf,
    raw::{BadAddr, Hold, Inner, KERNEL_RX, KERNEL_TX_MASK, KERNEL_TX_ONE, Meta, NIL, OWNED, QUEUED_MASK, Raw},
};
use std::{cell::Cell, fmt, rc::Rc};

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

/// One worker's frames. Cheap to clone; not `Send`: a pool and its buffers stay on their worker's thread.
#[derive(Clone)]
pub struct Pool(pub(super) Rc<Inner>);

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
            lent: Cell::new(0),
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

    /// Says how many frames a port keeps with the device to receive into.
    pub fn set_lent_frames(&self, frames: u32) {
        self.0.lent.set(frames);
    }

    /// Frames that data may hold, on its way in or out, for as long as applications and peers please: all but those for large buffers, those with the
    /// device, and the receive reserve.
    pub fn data_frames(&self) -> u32 {
        let PoolConfig { rx_reserve_frames, run_frames } = self.0.config;
        self.capacity().saturating_sub(run_frames.saturating_add(rx_reserve_frames).saturating_add(self.0.lent.get()))
    }

    /// Free frames, the run area included.
    pub fn free(&self) -> u32 {
        self.0.free_singles.get() + self.0.run_free.get()
    }

    /// Frames that [`alloc_tx`](Self::alloc_tx) would still give.
    pub fn free_for_tx(&self) -> u32 {
        self.0.free_singles.get().saturating_sub(self.0.config.rx_reserve_frames)
    }

    /// Frames that [`alloc_control`](Self::alloc_control) would still give.
    pub fn free_for_control(&self) -> u32 {
        self.0.free_singles.get().saturating_sub(self.0.config.rx_reserve_frames / 8)
    }

    /// Size of a frame, in bytes.
    pub fn chunk_bytes(&self) -> usize {
        self.0.chunk_bytes()
    }

    /// Most payload bytes that fit one frame behind the head-room.
    pub fn frame_payload_bytes(&self) -> usize {
        self.0.chunk_bytes() - HEADROOM_BYTES
    }

    /// The frame that the kernel's address `addr` lies in.
    #[inline]
    pub fn frame_of(&self, addr: u64) -> Option<u32> {
        self.0.locate(addr).map(|(frame, _)| frame)
    }

    /// The kernel's address of a frame's first byte.
    pub fn address_of(&self, frame: u32) -> u64 {
        self.0.address(frame, 0)
    }

    /// The memory and what it is made of.
    pub fn region(&self) -> &Region {
        &self.0.region
    }

    /// The frame that the byte at `address` in this process's memory lies in.
    pub fn frame_at(&self, address: usize) -> Option<u32> {
        let offset = address.checked_sub(self.0.base.addr())?;
        self.0.locate(offset as u64).map(|(frame, _)| frame)
    }

    /// An empty buffer for an application's data; `None` when only the receive reserve is left.
    #[inline]
    pub fn alloc_tx(&self) -> Option<TxBuf> {
        self.alloc(self.0.config.rx_reserve_frames)
    }

    /// An empty buffer for a packet that the stack itself must send; it may use all but an eighth of the receive reserve.
    #[inline]
    pub fn alloc_control(&self) -> Option<TxBuf> {
        self.alloc(self.0.config.rx_reserve_frames / 8)
    }

    /// More than a quarter of the receive reserve is in use: what waits to be sent or acknowledged should not hold still more frames.
    #[inline]
    pub fn is_scarce(&self) -> bool {
        self.0.free_singles.get() < self.0.config.rx_reserve_frames / 4 * 3
    }

    #[inline]
    fn alloc(&self, reserve: u32) -> Option<TxBuf> {
        let frame = self.0.take(OWNED, reserve)?;
        Some(TxBuf(Hold::new(Raw::new(&self.0, frame, HEADROOM_BYTES, 0))))
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
        Some(TxBuf(Hold::new(raw)))
    }

    /// A received buffer made of a copy of `bytes`, for ports that get their frames from elsewhere; `None` when no frame is left or it is longer than one holds.
    pub fn rx_from_bytes(&self, bytes: &[u8]) -> Option<RxBuf> {
        if bytes.len() > self.frame_payload_bytes() {
            return None;
        }
        let frame = self.0.take(OWNED, 0)?;
        let mut raw = Raw::new(&self.0, frame, HEADROOM_BYTES, bytes.len());
        raw.bytes_mut().copy_from_slice(bytes);
        Some(RxBuf(Hold::new(raw)))
    }

    // ---- the kernel's side: only ports call these

    /// Lends a frame to the kernel to receive into; the address is for the fill ring. See [`post_fills`](Self::post_fills).
    pub fn post_fill(&self) -> Option<u64> {
        let mut lent = None;
        self.post_fills(1, |addr| lent = Some(addr));
        lent
    }

    /// Lends up to `wanted` frames to the kernel to receive into; each address is for the fill ring. A quarter of the receive reserve stays: without an
    /// acknowledgment sent now and then, nothing that is received is of use.
    #[inline]
    pub fn post_fills(&self, wanted: u32, mut post: impl FnMut(u64)) {
        // The fill ring empties the pool on purpose at times: that is no failure to count.
        let free = self.0.free_singles.get();
        let count = wanted.min(free.saturating_sub(self.0.config.rx_reserve_frames / 4));
        let mut at = self.0.free_head.get();
        for _ in 0..count {
            let meta = self.0.meta(at);
            debug_assert_eq!(meta.state.get(), 0);
            meta.state.set(KERNEL_RX);
            let frame = std::mem::replace(&mut at, meta.next.replace(NIL));
            post(self.0.address(frame, 0));
        }
        self.0.free_head.set(at);
        self.0.free_singles.set(free - count);
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
                debug_assert_eq!(meta.next.get(), NIL);
                meta.state.set(OWNED);
                Ok(RxBuf(Hold::new(Raw::new(&self.0, frame, start, len as usize))))
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

    /// As [`complete_tx`](Self::complete_tx) of each of `addrs`; returns how many were good.
    #[inline]
    pub fn complete_all(&self, addrs: impl Iterator<Item = u64>) -> u32 {
        let (mut good, mut freed, mut head) = (0, 0, self.0.free_head.get());
        for addr in addrs {
            match self.0.locate(addr) {
                // The usual one: nobody else holds it. The list of free frames is put down once, in the end.
                Some((frame, _)) if frame < self.0.run_base && self.0.meta(frame).state.get() == KERNEL_TX_ONE => {
                    let meta = self.0.meta(frame);
                    meta.state.set(0);
                    meta.next.set(head);
                    head = frame;
                    freed += 1;
                }
                // Frees no frame of that list.
                _ => good += u32::from(self.complete_tx(addr).is_ok()),
            }
        }
        self.0.free_head.set(head);
        self.0.free_singles.set(self.0.free_singles.get() + freed);
        good + freed
    }

    /// Writes into a lent frame, as a device would: for ports that play the kernel's part in this process.
    ///
    /// # Errors
    /// The frame is not lent, or the bytes run out of it.
    pub fn kernel_write(&self, addr: u64, bytes: &[u8]) -> Result<(), BadAddr> {
        if self.0.device_write(addr, bytes) { Ok(()) } else { Err(BadAddr(addr)) }
    }

    /// Appends the bytes of a posted descriptor to `to`, as a device would read them.
    ///
    /// # Errors
    /// The frame is not with the kernel to send, or the bytes run out of it.
    pub fn kernel_read(&self, addr: u64, len: u32, to: &mut Vec<u8>) -> Result<(), BadAddr> {
        self.0.device_read(addr, len, |bytes| to.extend_from_slice(bytes)).ok_or(BadAddr(addr))
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

    /// Copies a posted descriptor's bytes to a frame that is lent to another device, as a wire between the two would.
    ///
    /// # Errors
    /// The frame of either address is not with its device to read or to write, or the bytes run out of it.
    pub fn kernel_copy(&self, addr: u64, len: u32, to: &Self, to_addr: u64) -> Result<(), BadAddr> {
        match self.0.device_read(addr, len, |bytes| to.0.device_write(to_addr, bytes)) {
            Some(true) => Ok(()),
            Some(false) => Err(BadAddr(to_addr)),
            None => Err(BadAddr(addr)),
        }
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
