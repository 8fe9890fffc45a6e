//! A service's connections, in a slab that the stream's tag indexes: no hashing, no search.

use crate::{socket::TcpStream, time::Instant};
use std::collections::VecDeque;

const NONE: u32 = u32::MAX;

/// One connection and what the service keeps for it.
#[derive(Debug)]
pub(in crate::service) struct Conn<T> {
    pub(in crate::service) stream: TcpStream,
    pub(in crate::service) state: T,
}

#[derive(Debug)]
struct Slot<T> {
    conn: Option<Conn<T>>,
    /// It stands in `queue`.
    queued: bool,
    touched: Instant,
    older: u32,
    newer: u32,
}

/// All connections of one service on one worker: by slot, by the time of their last progress, and those that wait for their turn.
#[derive(Debug)]
pub(in crate::service) struct Conns<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    queue: VecDeque<u32>,
    oldest: u32,
    newest: u32,
}

impl<T> Conns<T> {
    pub(in crate::service) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), queue: VecDeque::new(), oldest: NONE, newest: NONE }
    }

    pub(in crate::service) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(in crate::service) fn insert(&mut self, now: Instant, stream: TcpStream, state: T) -> u32 {
        let conn = Some(Conn { stream, state });
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize].conn = conn;
            slot
        } else {
            self.slots.push(Slot { conn, queued: false, touched: now, older: NONE, newer: NONE });
            (self.slots.len() - 1) as u32
        };
        self.link(slot, now);
        slot
    }

    #[inline]
    pub(in crate::service) fn get_mut(&mut self, slot: u32) -> Option<&mut Conn<T>> {
        self.slots.get_mut(slot as usize)?.conn.as_mut()
    }

    pub(in crate::service) fn remove(&mut self, slot: u32) -> Option<Conn<T>> {
        let conn = self.slots.get_mut(slot as usize)?.conn.take()?;
        self.unlink(slot);
        self.free.push(slot);
        Some(conn)
    }

    /// It has made progress.
    #[inline]
    pub(in crate::service) fn touch(&mut self, slot: u32, now: Instant) {
        if self.get_mut(slot).is_none() {
            return;
        }
        if self.newest == slot {
            self.slots[slot as usize].touched = now;
            return;
        }
        self.unlink(slot);
        self.link(slot, now);
    }

    /// The one without progress for longest, and since when.
    pub(in crate::service) fn oldest(&self) -> Option<(u32, Instant)> {
        self.slots.get(self.oldest as usize).map(|slot| (self.oldest, slot.touched))
    }

    fn link(&mut self, slot: u32, now: Instant) {
        let newest = self.newest;
        let one = &mut self.slots[slot as usize];
        (one.touched, one.older, one.newer) = (now, newest, NONE);
        match self.slots.get_mut(newest as usize) {
            Some(before) => before.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let (older, newer) = (self.slots[slot as usize].older, self.slots[slot as usize].newer);
        match self.slots.get_mut(older as usize) {
            Some(one) => one.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(one) => one.older = older,
            None => self.newest = older,
        }
    }

    /// Lets it have a turn of its own, without an event.
    #[inline]
    pub(in crate::service) fn enqueue(&mut self, slot: u32) {
        if let Some(one) = self.slots.get_mut(slot as usize)
            && !std::mem::replace(&mut one.queued, true)
        {
            self.queue.push_back(slot);
        }
    }

    pub(in crate::service) fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// The next that waits for its turn.
    pub(in crate::service) fn dequeue(&mut self) -> Option<u32> {
        loop {
            let slot = self.queue.pop_front()?;
            let one = &mut self.slots[slot as usize];
            one.queued = false;
            if one.conn.is_some() {
                return Some(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        buf::{HugePages, Pool, PoolConfig, Region},
        socket::Net,
        stack::{IfaceConfig, Stack, StackConfig},
        wire::MacAddr,
    };

    fn streams(count: usize) -> Vec<TcpStream> {
        let pool = Pool::new(Region::map(64, 2048, HugePages::Never).unwrap(), PoolConfig::default());
        let mut stack = Stack::new(pool, StackConfig::new([1; 32]), Instant::ZERO);
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        stack.add_interface(IfaceConfig::new("mem", mac, vec!["10.0.0.1/24".parse().unwrap()])).unwrap();
        (0..count).map(|_| Net::new(&mut stack).tcp_connect("10.0.0.2:7".parse().unwrap()).unwrap()).collect()
    }

    #[test]
    fn progress_orders_connections() {
        let at = Instant::from_millis;
        let mut conns = Conns::new();
        for (i, stream) in streams(4).into_iter().enumerate() {
            assert_eq!(conns.insert(at(i as u64), stream, i), i as u32);
        }
        assert_eq!(conns.oldest(), Some((0, at(0))));
        conns.touch(0, at(10));
        assert_eq!(conns.oldest(), Some((1, at(1))));
        conns.touch(0, at(11));
        assert_eq!(conns.remove(2).unwrap().state, 2);
        assert!(conns.remove(2).is_none() && conns.remove(9).is_none());
        conns.touch(2, at(12));
        assert_eq!(conns.remove(1).unwrap().state, 1);
        assert_eq!(conns.oldest(), Some((3, at(3))));
        assert_eq!((conns.remove(3).unwrap().state, conns.oldest()), (3, Some((0, at(11)))));
        assert_eq!((conns.remove(0).unwrap().state, conns.oldest(), conns.len()), (0, None, 0));
    }

    #[test]
    fn a_turn_is_had_once_and_by_those_who_are_still_there() {
        let mut conns = Conns::new();
        for stream in streams(3) {
            conns.insert(Instant::ZERO, stream, ());
        }
        for slot in [0, 1, 0, 2, 7] {
            conns.enqueue(slot);
        }
        conns.remove(1);
        assert_eq!((conns.queue_len(), conns.dequeue(), conns.dequeue(), conns.dequeue()), (3, Some(0), Some(2), None));
    }
}
