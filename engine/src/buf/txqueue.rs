//! Packets that are ready to go, in order.

use super::{
    Sealed, TxBuf,
    raw::{Inner, Piece, QUEUED_ONE, QueuedPiece},
};
use std::{collections::VecDeque, fmt, rc::Rc};

/// A bounded first-in-first-out queue of sealed descriptors of one pool; one packet is a run of descriptors of which all but the last say
/// [`Sealed::more`]. Its memory is taken once, at creation.
pub struct TxQueue {
    /// Whose frames the pieces are of: known with the first.
    pool: Option<Rc<Inner>>,
    pieces: VecDeque<Piece>,
    limit: usize,
}

impl TxQueue {
    /// A queue of at most `limit` descriptors.
    pub fn with_limit(limit: usize) -> Self {
        Self { pool: None, pieces: VecDeque::with_capacity(limit), limit }
    }

    /// Descriptors queued.
    #[inline]
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Nothing is queued.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Descriptors that still fit.
    #[inline]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.pieces.len())
    }

    /// The most descriptors it takes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Appends one descriptor.
    ///
    /// # Errors
    /// Gives it back when the queue is full, or what is queued is of another pool.
    #[inline(always)]
    pub fn push(&mut self, sealed: Sealed) -> Result<(), Sealed> {
        let piece = self.admit(sealed)?;
        self.pieces.push_back(piece);
        Ok(())
    }

    /// [Seals](TxBuf::seal) a buffer and appends it, in one go.
    ///
    /// # Errors
    /// Gives it back where one of the two would.
    #[inline(always)]
    pub(crate) fn push_buf(&mut self, buf: TxBuf) -> Result<(), TxBuf> {
        if self.room() == 0 {
            return Err(buf);
        }
        match &self.pool {
            Some(own) if buf.is_of(own) => {
                let (_, piece) = buf.into_parts()?;
                self.pieces.push_back(piece);
                Ok(())
            }
            _ => self.push_first_buf(buf),
        }
    }

    #[cold]
    fn push_first_buf(&mut self, buf: TxBuf) -> Result<(), TxBuf> {
        if !self.is_empty() {
            return Err(buf);
        }
        let (pool, piece) = buf.into_parts()?;
        self.pool = Some(pool);
        self.pieces.push_back(piece);
        Ok(())
    }

    /// Takes the oldest descriptor.
    #[inline]
    pub fn pop(&mut self) -> Option<Sealed> {
        let pool = self.pool.as_ref()?;
        self.pieces.pop_front().map(|piece| Sealed { pool: pool.clone(), piece })
    }

    /// Takes the first `n` descriptors and hands each to the kernel, see [`Sealed::post`]. Only ports call this.
    #[inline]
    pub fn post_first(&mut self, n: usize, mut post: impl FnMut(u64, u32, bool)) {
        let Some(pool) = &self.pool else { return };
        let n = n.min(self.pieces.len());
        let (front, back) = self.pieces.as_slices();
        let in_front = n.min(front.len());
        for stretch in [&front[..in_front], &back[..n - in_front]] {
            for piece in stretch {
                let (addr, len, more) = piece.post(pool);
                post(addr, len, more);
            }
        }
        self.pieces.drain(..n);
    }

    /// Puts back, in front, what was taken last: for a port that could not pass it on.
    ///
    /// # Errors
    /// See [`push`](Self::push).
    pub fn unpop(&mut self, sealed: Sealed) -> Result<(), Sealed> {
        let piece = self.admit(sealed)?;
        self.pieces.push_front(piece);
        Ok(())
    }

    /// A descriptor that there is room for becomes the queue's.
    #[inline(always)]
    fn admit(&mut self, sealed: Sealed) -> Result<Piece, Sealed> {
        if self.pieces.len() >= self.limit {
            return Err(sealed);
        }
        match &self.pool {
            Some(own) if Rc::ptr_eq(own, &sealed.pool) => Ok(sealed.into_parts().1),
            _ => self.admit_first(sealed),
        }
    }

    #[cold]
    fn admit_first(&mut self, sealed: Sealed) -> Result<Piece, Sealed> {
        if !self.pieces.is_empty() {
            return Err(sealed);
        }
        let (pool, piece) = sealed.into_parts();
        self.pool = Some(pool);
        Ok(piece)
    }

    /// How many of the first descriptors, `at_most` so many, make up whole packets.
    #[inline]
    pub fn whole_packets(&self, at_most: usize) -> usize {
        let mut n = at_most.min(self.pieces.len());
        while n > 0 && self.pieces[n - 1].more {
            n -= 1;
        }
        n
    }

    /// Takes back everything from descriptor number `len` on; what was taken is freed.
    pub fn truncate(&mut self, len: usize) {
        let Some(pool) = &self.pool else { return };
        for piece in self.pieces.drain(len.min(self.pieces.len())..) {
            pool.release(piece.frame, QUEUED_ONE);
        }
    }

    /// The oldest descriptors first.
    pub fn iter(&self) -> impl Iterator<Item = QueuedPiece<'_>> {
        let pool = self.pool.as_deref();
        self.pieces.iter().filter_map(move |&piece| Some(QueuedPiece { pool: pool?, piece }))
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
