//! Packets that are ready to go, in order.

use super::Sealed;
use std::collections::VecDeque;

/// A bounded first-in-first-out queue of sealed descriptors; one packet is a run of descriptors of which all but the last say
/// [`Sealed::more`]. Its memory is taken once, at creation.
#[derive(Debug)]
pub struct TxQueue {
    pieces: VecDeque<Sealed>,
    limit: usize,
}

impl TxQueue {
    /// A queue of at most `limit` descriptors.
    pub fn with_limit(limit: usize) -> Self {
        Self { pieces: VecDeque::with_capacity(limit), limit }
    }

    /// Descriptors queued.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Descriptors that still fit.
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
    /// Gives it back when the queue is full.
    #[inline]
    pub fn push(&mut self, piece: Sealed) -> Result<(), Sealed> {
        if self.pieces.len() >= self.limit {
            return Err(piece);
        }
        self.pieces.push_back(piece);
        Ok(())
    }

    /// Takes the oldest descriptor.
    #[inline]
    pub fn pop(&mut self) -> Option<Sealed> {
        self.pieces.pop_front()
    }

    /// Puts back, in front, what was taken last: for a port that could not pass it on.
    ///
    /// # Errors
    /// Gives it back when the queue is full.
    pub fn unpop(&mut self, piece: Sealed) -> Result<(), Sealed> {
        if self.pieces.len() >= self.limit {
            return Err(piece);
        }
        self.pieces.push_front(piece);
        Ok(())
    }

    /// How many of the first descriptors, `at_most` so many, make up whole packets.
    #[inline]
    pub fn whole_packets(&self, at_most: usize) -> usize {
        let mut n = at_most.min(self.pieces.len());
        while n > 0 && self.pieces[n - 1].more() {
            n -= 1;
        }
        n
    }

    /// Takes back everything from descriptor number `len` on; what was taken is freed.
    pub fn truncate(&mut self, len: usize) {
        self.pieces.truncate(len);
    }

    /// The oldest descriptors first.
    pub fn iter(&self) -> impl Iterator<Item = &Sealed> {
        self.pieces.iter()
    }
}
