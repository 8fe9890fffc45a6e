//! Queues that no connection uses right now.
//!
//! A connection that has nothing in flight and nothing to read holds no queue: so an idle one is small, and a busy one allocates nothing, once
//! there were as many busy ones before.

use super::{
    receiver::Held,
    sender::{Pending, Segment},
};
use crate::buf::RxBuf;
use std::collections::VecDeque;

/// Empty queues kept of each kind.
const KEPT_MAX: usize = 4096;
/// Longer ones are not kept: memory that one busy moment took goes back.
const CAPACITY_MAX: usize = 1 << 14;
/// Elements that a new queue has room for.
const CAPACITY_MIN: usize = 8;

/// Empty queues of one kind.
#[derive(Debug)]
pub(super) struct Shelf<T>(Vec<VecDeque<T>>);

impl<T> Shelf<T> {
    /// Makes sure that `queue` has memory of its own.
    #[inline(always)]
    pub(super) fn equip(&mut self, queue: &mut VecDeque<T>) {
        if queue.capacity() == 0 {
            self.give(queue);
        }
    }

    #[inline(never)]
    fn give(&mut self, queue: &mut VecDeque<T>) {
        *queue = self.0.pop().unwrap_or_else(|| VecDeque::with_capacity(CAPACITY_MIN));
    }

    /// Takes the memory of `queue` if it is empty.
    #[inline(always)]
    pub(super) fn strip(&mut self, queue: &mut VecDeque<T>) {
        if queue.is_empty() && queue.capacity() > 0 {
            self.keep(std::mem::take(queue));
        }
    }

    #[inline(never)]
    fn keep(&mut self, queue: VecDeque<T>) {
        if self.0.len() < KEPT_MAX && queue.capacity() <= CAPACITY_MAX {
            self.0.push(queue);
        }
    }
}

/// The queues of all kinds.
#[derive(Debug)]
pub struct Spares {
    pub(super) pending: Shelf<Pending>,
    pub(super) segments: Shelf<Segment>,
    pub(super) received: Shelf<RxBuf>,
    pub(super) held: Shelf<Held>,
}

impl Default for Spares {
    fn default() -> Self {
        Self {
            pending: Shelf(Vec::new()),
            segments: Shelf(Vec::new()),
            received: Shelf(Vec::new()),
            held: Shelf(Vec::new()),
        }
    }
}
