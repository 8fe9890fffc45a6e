//! The values that hold frames, one type per phase. Moving from phase to phase consumes the value; `Drop` gives the frame back.

use super::raw::{
    Extent, Hold, KERNEL_TX_MASK, KERNEL_TX_ONE, NIL, NoSpace, OWNED, PIECES_MAX, Piece, QUEUED_MASK, QUEUED_ONE,
    RETAINED, Raw, SUM_KNOWN, Sealed,
};
use std::{fmt, rc::Rc};

macro_rules! holder {
    ($(#[$doc:meta])* $name:ident, $holder:expr) => {
        $(#[$doc])*
        #[must_use = "dropping it gives the frame back"]
        pub struct $name(pub(super) Hold<{ $holder }>);

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
            #[inline]
            pub fn total_len(&self) -> usize {
                if self.0.next() == NIL {
                    return self.0.len as usize;
                }
                self.0.total_len()
            }

            /// Frames that dropping this would let go of.
            #[inline]
            pub fn frame_count(&self) -> usize {
                if self.0.next() == NIL {
                    return self.0.frames as usize;
                }
                // By the links and not by the extents: a piece without bytes holds its frame too.
                let link = |at: u32| (at != NIL).then_some(at);
                let linked = std::iter::successors(link(self.0.next()), |&at| link(self.0.pool.meta(at).next.get()));
                self.0.frames as usize + linked.count()
            }

            /// The pieces in order, as slices.
            pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
                self.0.pieces()
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
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Raw { frame, start, len, frames, .. } = &*self.0;
                write!(f, concat!(stringify!($name), "(frame {}+{} at {}, {} B)"), frame, frames - 1, start, len)
            }
        }
    };
}

holder!(
    /// A buffer to write and send: one frame with head-room, a run of neighbouring frames, or a chain that was received.
    TxBuf, OWNED);
holder!(
    /// A received packet: one frame, or a chain of them.
    RxBuf, OWNED);
holder!(
    /// Bytes that will not change any more and may be sent in pieces, any number of times.
    Frozen, OWNED);
holder!(
    /// A sent payload that a retransmit queue keeps.
    Retained, RETAINED);

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

    /// Bytes free in front of the data.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.0.start as usize
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

    /// Puts the last `header_bytes` bytes of `block` in front of the data, and gives the copy to be changed. All of the block is copied, for a copy of fixed length is
    /// the fastest: the head-room in front of the header has old contents afterwards, as it had before.
    ///
    /// # Errors
    /// The head-room has not room for all of the block, or the block no such header.
    #[inline]
    pub fn prepend_block<const N: usize>(
        &mut self,
        block: &[u8; N],
        header_bytes: usize,
    ) -> Result<&mut [u8; N], NoSpace> {
        self.0.prepend_block(block, header_bytes)
    }

    /// Like [`prepend`](Self::prepend), for headers whose size is not known when compiling: their bytes, to be written.
    ///
    /// # Errors
    /// The head-room is used up.
    #[inline]
    pub fn prepend_room(&mut self, bytes: usize) -> Result<&mut [u8], NoSpace> {
        self.0.prepend(bytes)
    }

    /// Puts a copy of a header in front of the data.
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

    /// Where each piece of a chain lies, those without bytes too: (offset in its frame, bytes). A run is one piece.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        self.0.places()
    }

    /// Says anew where each piece lies, in the order of [`places`](Self::places).
    ///
    /// # Errors
    /// There are not as many pieces, or one does not lie within its frame; nothing has changed.
    pub fn set_places(&mut self, places: &[(usize, usize)]) -> Result<(), NoSpace> {
        self.0.set_places(places)
    }

    /// Visits the bytes of each piece, to write, in the order of [`places`](Self::places).
    pub fn each_piece_mut(&mut self, visit: impl FnMut(&mut [u8])) {
        self.0.each_piece_mut(visit);
    }

    /// The bytes lie in one frame, so one descriptor can send them.
    #[inline]
    pub fn is_single(&self) -> bool {
        self.0.frames == 1 && !self.is_chain()
    }

    /// The finished packet, for an egress queue; its frame is free when the kernel has sent it.
    ///
    /// # Errors
    /// Gives the buffer back if it is a run or a chain ([`freeze`](Self::freeze) those), or has no bytes: the kernel refuses such a
    /// descriptor and never completes it (`xp_aligned_validate_desc` in `net/xdp/xsk_queue.h`).
    #[inline]
    pub fn seal(self) -> Result<Sealed, Self> {
        if !self.is_single() || self.is_empty() {
            return Err(self);
        }
        let raw = self.0.into_raw();
        let piece = raw.queue(0);
        Ok(Sealed { pool: raw.pool, piece })
    }

    /// Prepends `header` and seals; the payload stays readable for a retransmission.
    ///
    /// # Errors
    /// Gives the buffer back when the header does not fit, it is a run or a chain, or there are no bytes at all.
    pub fn seal_retained(mut self, header: &[u8]) -> Result<(Sealed, Retained), Self> {
        if !self.is_single() || self.len() + header.len() == 0 {
            return Err(self);
        }
        let payload_sum = self.payload_sum();
        if self.prepend_slice(header).is_err() {
            return Err(self);
        }
        self.seal_behind(header.len(), payload_sum)
    }

    /// As [`seal_retained`](Self::seal_retained), the headers being the buffer's first `header_bytes` bytes already. `payload_sum`: the payload's sum, if it is
    /// known, for [`payload_sum`](Self::payload_sum) of what is kept.
    ///
    /// # Errors
    /// Gives the buffer back if it is a run or a chain, or has not so many bytes.
    #[inline]
    pub fn seal_behind(self, header_bytes: usize, payload_sum: Option<u16>) -> Result<(Sealed, Retained), Self> {
        if self.len() < header_bytes {
            return Err(self);
        }
        let (start, len) = (self.0.start + header_bytes as u16, self.0.len - header_bytes as u32);
        let sealed = self.seal()?;
        sealed.pool.set(sealed.piece.frame, RETAINED);
        let sum = payload_sum.map_or(0, |sum| SUM_KNOWN | u32::from(sum));
        let kept = Raw { pool: sealed.pool.clone(), frame: sealed.piece.frame, len, start, frames: 1, sum };
        Ok((sealed, Retained(Hold::new(kept))))
    }

    /// The buffer as a packet received: for a driver that received into a frame it got from the engine.
    pub fn into_rx(self) -> RxBuf {
        RxBuf(self.0)
    }

    /// No more writing: pieces of it may now be sealed.
    pub fn freeze(self) -> Frozen {
        Frozen(self.0)
    }
}

impl TxBuf {
    /// Its frames' indices in the pool.
    #[inline]
    pub fn frames(&self) -> impl Iterator<Item = u32> {
        self.0.frame_numbers()
    }
}

impl Retained {
    /// Drops it, in line: for an acknowledgment's usual way.
    #[inline(always)]
    pub(crate) fn let_go(self) {
        self.0.let_go();
    }
}

impl RxBuf {
    /// Drops it, in line: for an acknowledgment's usual way.
    #[inline(always)]
    pub(crate) fn let_go(self) {
        self.0.let_go();
    }

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

    /// The bytes lie in one frame.
    #[inline(always)]
    pub(crate) fn is_single(&self) -> bool {
        self.0.frames == 1 && !self.is_chain()
    }

    /// Of a [single](Self::is_single) frame's bytes only `n`, from `from` on, of which `sum` is the [sum](Self::payload_sum), if it is known. No more than there are.
    #[inline(always)]
    pub(crate) fn narrowed(self, from: usize, n: usize, sum: Option<u16>) -> Self {
        let raw = self.0.into_raw();
        let from = from.min(raw.len as usize);
        let n = n.min(raw.len as usize - from);
        let sum = sum.map_or(0, |sum| SUM_KNOWN | u32::from(sum));
        Self(Hold::new(Raw { start: raw.start.wrapping_add(from as u16), len: n as u32, sum, ..raw }))
    }

    /// Keeps only the first `n` bytes over all pieces; the pieces behind go back to the pool.
    pub fn cut(&mut self, n: usize) {
        self.0.cut(n, OWNED);
    }

    /// Takes back `n` bytes in front of the data, such as headers that were [advanced](Self::advance) over; false if the frame has not so many.
    pub fn retreat(&mut self, n: usize) -> bool {
        if n > self.0.start as usize {
            return false;
        }
        self.0.start -= n as u16;
        self.0.len += n as u32;
        self.0.sum = 0;
        true
    }

    /// Links `tail` (itself perhaps a chain) behind the last piece.
    ///
    /// # Errors
    /// Gives `tail` back if it is of another pool, or if either is a run: a link joins single frames.
    pub fn append(&mut self, tail: RxBuf) -> Result<(), RxBuf> {
        if !Rc::ptr_eq(&self.0.pool, &tail.0.pool) || self.0.frames != 1 || tail.0.frames != 1 {
            return Err(tail);
        }
        self.0.sum = 0;
        let tail = tail.0.into_raw();
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
    pub fn split_first(mut self) -> (RxBuf, Option<RxBuf>) {
        let next = self.0.next();
        if next == NIL {
            return (self, None);
        }
        self.0.sum = 0;
        let meta = self.0.pool.meta(next);
        let rest = RxBuf(Hold::new(Raw::new(&self.0.pool, next, meta.start.get() as usize, meta.len.get() as usize)));
        self.0.pool.meta(self.0.frame).next.set(NIL);
        (self, Some(rest))
    }

    /// The same frame, to send: no copy. Head-room is whatever lies before the data.
    #[inline]
    pub fn into_tx(self) -> TxBuf {
        TxBuf(self.0)
    }
}

impl Frozen {
    /// How many descriptors bytes `offset .. offset + len` take.
    pub fn count_pieces(&self, offset: usize, len: usize) -> usize {
        let mut count = 0;
        self.cut(offset, len, &mut |_, _| count += 1);
        count
    }

    /// Visits the stretches of bytes `offset .. offset + len`; returns how many bytes were missing.
    fn cut(&self, offset: usize, len: usize, visit: &mut dyn FnMut(Extent, bool)) -> usize {
        let (mut skip, mut left) = (offset, len);
        for e in self.0.extents() {
            if left == 0 {
                break;
            }
            let from = skip.min(e.len as usize);
            skip -= from;
            let n = left.min(e.len as usize - from);
            if n > 0 {
                left -= n;
                visit(Extent { frame: e.frame, start: e.start + from as u16, len: n as u16 }, left > 0);
            }
        }
        left
    }

    /// The slices that bytes `offset .. offset + len` lie in.
    pub fn slices(&self, offset: usize, len: usize) -> impl Iterator<Item = &[u8]> {
        let (mut skip, mut left) = (offset, len);
        self.pieces().filter_map(move |piece| {
            let start = skip.min(piece.len());
            skip -= start;
            let n = left.min(piece.len() - start);
            left -= n;
            (n > 0).then(|| &piece[start..start + n])
        })
    }

    /// Seals bytes `offset .. offset + len` (over all pieces) as descriptors handed to `sink` in order; every one but the last says `more`.
    /// Returns how many there were.
    ///
    /// # Errors
    /// The range is not within the buffer or a frame already has too many descriptors; then `sink` was not called.
    pub fn seal_range(&self, offset: usize, len: usize, mut sink: impl FnMut(Sealed)) -> Result<usize, NoSpace> {
        let mut fits = true;
        let left = self.cut(offset, len, &mut |e, _| {
            let state = self.0.pool.meta(e.frame).state.get();
            fits &= state & QUEUED_MASK < PIECES_MAX * QUEUED_ONE
                && state / KERNEL_TX_ONE + (state & QUEUED_MASK) / QUEUED_ONE < PIECES_MAX;
        });
        if left > 0 || !fits {
            return Err(NoSpace);
        }
        let mut count = 0;
        self.cut(offset, len, &mut |e, more| {
            let state = &self.0.pool.meta(e.frame).state;
            state.set(state.get() + QUEUED_ONE);
            count += 1;
            let piece = Piece { frame: e.frame, start: e.start, len: e.len, more };
            sink(Sealed { pool: self.0.pool.clone(), piece });
        });
        Ok(count)
    }
}

impl Frozen {
    /// No descriptor of the frames that bytes `offset .. offset + len` lie in waits in a queue or is with the kernel.
    pub fn is_at_rest(&self, offset: usize, len: usize) -> bool {
        let mut rests = true;
        self.cut(offset, len, &mut |e, _| {
            rests &= self.0.pool.meta(e.frame).state.get() & (QUEUED_MASK | KERNEL_TX_MASK) == 0;
        });
        rests
    }

    /// The bytes, to write again.
    ///
    /// # Errors
    /// Gives itself back while a descriptor of its frames waits in a queue or is with the kernel.
    pub fn thaw(mut self) -> Result<TxBuf, Self> {
        if self.0.frame_numbers().any(|frame| self.0.pool.meta(frame).state.get() != OWNED) {
            return Err(self);
        }
        // Whoever shared the bytes may have written there since their sum was taken.
        self.0.sum = 0;
        Ok(TxBuf(self.0))
    }
}

/// Frozen bytes that several may send at once: they are held as long as anybody has the value.
pub trait Content: fmt::Debug {
    /// The bytes.
    fn frozen(&self) -> &Frozen;
}

impl Content for Frozen {
    fn frozen(&self) -> &Frozen {
        self
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
        Ok(TxBuf(Hold::new(self.0.into_raw())))
    }
}

impl Sealed {
    /// Number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.piece.len as usize
    }

    /// There are no bytes.
    pub fn is_empty(&self) -> bool {
        self.piece.len == 0
    }

    /// The packet goes on in the next descriptor.
    #[inline]
    pub fn more(&self) -> bool {
        self.piece.more
    }

    /// Says that the packet goes on in the next descriptor.
    pub fn set_more(&mut self) {
        self.piece.more = true;
    }

    /// Hands the descriptor to the kernel: (address, length, more). Only ports call this.
    #[inline]
    pub fn post(self) -> (u64, u32, bool) {
        let (pool, piece) = self.into_parts();
        piece.post(&pool)
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.pool.release(self.piece.frame, QUEUED_ONE);
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Piece { frame, start, len, more } = self.piece;
        write!(f, "Sealed(frame {frame} at {start}, {len} B{})", if more { ", more" } else { "" })
    }
}
