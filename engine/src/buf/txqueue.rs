//! Packets that are ready to go, in order.

use super::{
    Retained, Sealed, TxBuf,
    raw::{Hold, Inner, Piece, QUEUED_ONE, QueuedPiece, RETAINED},
};
use std::{fmt, rc::Rc};

/// A bounded first-in-first-out queue of sealed descriptors of one pool; one packet is a run of descriptors of which all but the last say
/// [`Sealed::more`]. Its memory is taken once, at creation.
pub struct TxQueue {
    /// Whose frames the pieces are of: known with the first.
    pool: Option<Rc<Inner>>,
    /// Those before `taken` have been taken: nearly always all are taken at once, so the rest moves to the front only when there is no room
    /// behind it, of which there is as much again as may be queued.
    pieces: Vec<Piece>,
    taken: usize,
    limit: usize,
}

impl TxQueue {
    /// A queue of at most `limit` descriptors.
    pub fn with_limit(limit: usize) -> Self {
        Self { pool: None, pieces: Vec::with_capacity(2 * limit), taken: 0, limit }
    }

    /// Descriptors queued.
    #[inline]
    pub fn len(&self) -> usize {
        self.pieces.len() - self.taken
    }

    /// Nothing is queued.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Descriptors that still fit.
    #[inline]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.len())
    }

    /// The most descriptors it takes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Appends one descriptor.
    ///
    /// # Errors
    /// Gives it back when the queue is full, or what is queued is of another pool.
    pub fn push(&mut self, sealed: Sealed) -> Result<(), Sealed> {
        if !self.admits(&sealed.pool) {
            return Err(sealed);
        }
        self.append(sealed.into_parts().1);
        Ok(())
    }

    /// Seals a finished packet and appends it; its frame is free when the kernel has sent it.
    ///
    /// # Errors
    /// Gives the buffer back, as [`push`](Self::push) or [`TxBuf::seal`] would.
    #[inline(always)]
    pub fn push_buf(&mut self, buf: TxBuf) -> Result<(), TxBuf> {
        if !self.admits_buf(&buf) {
            return Err(buf);
        }
        self.append(buf.0.into_raw().queue(0));
        Ok(())
    }

    /// As [`push_buf`](Self::push_buf), of a packet that was just written where it lies: it is read field by field, not moved as a whole, for which the processor would have to wait for what is still to be stored. False, and it is
    /// left there: as [`push_buf`](Self::push_buf) gives it back, or there is none.
    #[inline(always)]
    pub(crate) fn push_held(&mut self, held: &mut Option<TxBuf>) -> bool {
        let Some(buf) = held else { return false };
        if !self.admits_buf(buf) {
            return false;
        }
        let piece = buf.0.queue(0);
        self.append(piece);
        // The queue answers for its frame now.
        drop(held.take().map(|buf| buf.0.into_raw()));
        true
    }

    /// As [`push_held`](Self::push_held), of a payload that is kept for a retransmission, behind the last `header_bytes` bytes of `block`, to a copy of which `complete`
    /// gives what is their own: the payload's length and its [sum](TxBuf::payload_sum) are known then. All of the block is copied, see
    /// [`prepend_block`](TxBuf::prepend_block).
    ///
    /// `None`: the payload is left as it was, for the reasons of [`push_buf`](Self::push_buf) and [`prepend_block`](TxBuf::prepend_block).
    #[inline(always)]
    pub fn push_retained<const N: usize>(
        &mut self,
        held: &mut Option<TxBuf>,
        (block, header_bytes): (&[u8; N], usize),
        sum: impl FnOnce(&[u8]) -> u16,
        complete: impl FnOnce(&mut [u8; N], usize, u16),
    ) -> Option<Retained> {
        let buf = held.as_mut()?;
        if !self.admits_buf(buf) || header_bytes > N {
            return None;
        }
        let payload_sum = buf.payload_sum().unwrap_or_else(|| sum(buf.as_slice()));
        let payload_len = buf.len();
        complete(buf.0.put_block(block, 0).ok()?, payload_len, payload_sum);
        let payload = buf.0.queue(RETAINED);
        let (start, len) = (payload.start - header_bytes as u16, payload.len + header_bytes as u16);
        self.append(Piece { start, len, ..payload });
        let mut kept = Retained(Hold::new(held.take()?.0.into_raw()));
        kept.set_payload_sum(payload_sum);
        Some(kept)
    }

    /// Takes the oldest descriptor.
    #[inline]
    pub fn pop(&mut self) -> Option<Sealed> {
        let pool = self.pool.as_ref()?.clone();
        let piece = *self.queued().first()?;
        self.take(1);
        Some(Sealed { pool, piece })
    }

    /// Takes the first `n` descriptors and hands each to the kernel, see [`Sealed::post`]. Only ports call this.
    #[inline]
    pub fn post_first(&mut self, n: usize, mut post: impl FnMut(u64, u32, bool)) {
        let Some(pool) = &self.pool else { return };
        let n = n.min(self.len());
        for piece in &self.queued()[..n] {
            let (addr, len, more) = piece.post(pool);
            post(addr, len, more);
        }
        self.take(n);
    }

    #[inline(always)]
    fn queued(&self) -> &[Piece] {
        &self.pieces[self.taken..]
    }

    /// The first `n` descriptors, which somebody else answers for, are no longer queued.
    #[inline]
    fn take(&mut self, n: usize) {
        self.taken += n;
        if self.taken == self.pieces.len() {
            self.taken = 0;
            self.pieces.clear();
        }
    }

    #[inline(always)]
    fn append(&mut self, piece: Piece) {
        if self.pieces.len() == self.pieces.capacity() {
            self.close_ranks();
        }
        self.pieces.push(piece);
    }

    /// There is no room behind the last descriptor.
    #[cold]
    fn close_ranks(&mut self) {
        self.pieces.drain(..self.taken);
        self.taken = 0;
    }

    /// Puts back, in front, what was taken last: for a port that could not pass it on.
    ///
    /// # Errors
    /// See [`push`](Self::push).
    pub fn unpop(&mut self, sealed: Sealed) -> Result<(), Sealed> {
        if !self.admits(&sealed.pool) {
            return Err(sealed);
        }
        let piece = sealed.into_parts().1;
        match self.taken.checked_sub(1) {
            Some(at) => (self.pieces[at], self.taken) = (piece, at),
            None => self.pieces.insert(0, piece),
        }
        Ok(())
    }

    #[inline(always)]
    fn admits_buf(&mut self, buf: &TxBuf) -> bool {
        buf.is_single() && !buf.is_empty() && self.admits(&buf.0.pool)
    }

    /// There is room for a descriptor of a frame of `pool`.
    #[inline(always)]
    fn admits(&mut self, pool: &Rc<Inner>) -> bool {
        self.len() < self.limit && (self.pool.as_ref().is_some_and(|own| Rc::ptr_eq(own, pool)) || self.adopt(pool))
    }

    /// What is queued next is of another pool than what was before.
    #[cold]
    fn adopt(&mut self, pool: &Rc<Inner>) -> bool {
        let empty = self.is_empty();
        if empty {
            self.pool = Some(pool.clone());
        }
        empty
    }

    /// How many of the first descriptors, `at_most` so many, make up whole packets.
    #[inline]
    pub fn whole_packets(&self, at_most: usize) -> usize {
        let first = &self.queued()[..at_most.min(self.len())];
        first.iter().rposition(|piece| !piece.more).map_or(0, |last| last + 1)
    }

    /// Takes back everything from descriptor number `len` on; what was taken is freed.
    pub fn truncate(&mut self, len: usize) {
        let Some(pool) = &self.pool else { return };
        for piece in self.pieces.drain((self.taken + len).min(self.pieces.len())..) {
            pool.release(piece.frame, QUEUED_ONE);
        }
        self.take(0);
    }

    /// The oldest descriptors first.
    pub fn iter(&self) -> impl Iterator<Item = QueuedPiece<'_>> {
        let pool = self.pool.as_deref();
        self.queued().iter().filter_map(move |&piece| Some(QueuedPiece { pool: pool?, piece }))
    }
}

impl Drop for TxQueue {
    fn drop(&mut self) {
        self.truncate(0);
    }
}

impl fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TxQueue({} of {})", self.len(), self.limit)
    }
}
