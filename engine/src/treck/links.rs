//! Links of scattered messages: structures that the application reads and may trim, and beside them what we know ourselves. Nothing of ours is ever
//! found by what stands in a structure: the application may have written there.

use super::{messages::Handle, types::ttUserPacket};
use crate::buf::TxBuf;
use smallvec::SmallVec;
use std::{cell::Cell, ffi::c_char, ptr};

/// Fewest structures: as the one that was free the longest is taken, an address names another message after so many links at the earliest. 2 MiB, of which only what was used takes memory.
const LINKS_MIN: usize = 1 << 16;

const NIL: u32 = u32::MAX;

/// What a structure is used for.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The next link of its message, or the next free structure.
    next: u32,
    /// The message, if this is its first link.
    message: Option<Handle>,
}

/// All structures. They are mapped from the first message on until the process ends: a stale pointer reads old numbers, and never faults.
#[derive(Debug)]
pub(super) struct LinkTable {
    first: *mut ttUserPacket,
    count: usize,
    /// Of the structures that have been used.
    known: Vec<Known>,
    free_head: u32,
    free_tail: u32,
}

/// The first structure of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstLink(u32);

/// Where the pieces of a buffer lie: (offset in its frame, bytes).
pub(super) type Places = SmallVec<[(usize, usize); 8]>;

impl LinkTable {
    pub(super) const fn new() -> Self {
        Self { first: ptr::null_mut(), count: 0, known: Vec::new(), free_head: NIL, free_tail: NIL }
    }

    /// Maps the structures, more than there are frames, each of which is at most one link.
    pub(super) fn reserve(&mut self, frames: usize) {
        if !self.first.is_null() {
            return;
        }
        const WORDS: usize = size_of::<ttUserPacket>() / size_of::<u64>();
        const { assert!(size_of::<ttUserPacket>().is_multiple_of(size_of::<u64>())) };
        const { assert!(align_of::<ttUserPacket>() <= align_of::<u64>()) };
        let count = LINKS_MIN.max(frames + 1).min(NIL as usize);
        // Zeroes are mapped and not written, so memory is taken only where a structure is used.
        let words: Box<[Cell<u64>]> = vec![Cell::new(0u64); count * WORDS].into_boxed_slice();
        (self.first, self.count) = (Box::leak(words).as_mut_ptr().cast(), count);
    }

    fn take(&mut self) -> Option<u32> {
        if self.known.len() < self.count {
            self.known.push(Known { next: NIL, message: None });
            return Some(self.known.len() as u32 - 1);
        }
        let at = self.free_head;
        let known = self.known.get_mut(at as usize)?;
        self.free_head = std::mem::replace(&mut known.next, NIL);
        if self.free_head == NIL {
            self.free_tail = NIL;
        }
        Some(at)
    }

    /// Describes the pieces of `buf` by a chain of structures, which `message` has from now on. `None`: there are none left.
    pub(super) fn describe(&mut self, message: Handle, buf: &mut TxBuf) -> Option<FirstLink> {
        let (count, total) = buf.places().fold((0, 0), |(count, total), (_, bytes)| (count + 1, total + bytes));
        let mut taken: SmallVec<[u32; 8]> = SmallVec::new();
        for _ in 0..count {
            let Some(link) = self.take() else {
                taken.into_iter().for_each(|link| self.free(FirstLink(link)));
                return None;
            };
            taken.push(link);
        }
        let mut at = 0;
        buf.each_piece_mut(|piece| {
            let Some(&link) = taken.get(at) else { return };
            let next = taken.get(at + 1).copied();
            let (chain_bytes, extra) = if at == 0 { (total, count - 1) } else { (0, 0) };
            let written = ttUserPacket {
                pktuLinkNextPtr: next.map_or(ptr::null_mut(), |next| self.first.wrapping_add(next as usize)),
                pktuLinkDataPtr: piece.as_mut_ptr().cast(),
                pktuLinkDataLength: piece.len() as i32,
                pktuChainDataLength: chain_bytes as i32,
                pktuLinkExtraCount: extra,
            };
            // SAFETY: `link` is below `count`, the number of structures that were mapped; no reference to any of them exists.
            unsafe { self.first.add(link as usize).write(written) };
            if let Some(known) = self.known.get_mut(link as usize) {
                *known = Known { next: next.unwrap_or(NIL), message: (at == 0).then_some(message) };
            }
            at += 1;
        });
        taken.first().map(|&first| FirstLink(first))
    }

    /// What the application has for a handle.
    pub(super) fn address_of(&self, FirstLink(at): FirstLink) -> *mut ttUserPacket {
        self.first.wrapping_add(at as usize)
    }

    /// The message whose first link is at that address.
    pub(super) fn message_at(&self, addr: usize) -> Option<Handle> {
        let offset = addr.checked_sub(self.first.addr())?;
        let at = offset / size_of::<ttUserPacket>();
        let known = self.known.get(at).filter(|_| offset.is_multiple_of(size_of::<ttUserPacket>()))?;
        known.message
    }

    /// Where the application wants the pieces of `buf` to begin and end, as the structures say now. `None` if a link reaches out of what it was given, or the links are not
    /// chained any more as they were.
    pub(super) fn trimmed(&self, FirstLink(first): FirstLink, buf: &mut TxBuf) -> Option<Places> {
        let mut places: Places = buf.places().collect();
        let (mut link, mut at, mut valid) = (first, 0, true);
        buf.each_piece_mut(|piece| {
            let (Some(known), Some(place)) = (self.known.get(link as usize), places.get_mut(at)) else {
                valid = false;
                return;
            };
            // SAFETY: `link` is below `count`, the number of structures that were mapped. Should another thread of the application's write there now, any value is as good: it is checked below.
            let said = unsafe { self.first.add(link as usize).read_volatile() };
            let next = if known.next == NIL { 0 } else { self.first.addr() + known.next as usize * size_of_val(&said) };
            let skip = said.pktuLinkDataPtr.addr().checked_sub(piece.as_ptr().cast::<c_char>().addr());
            let bytes = usize::try_from(said.pktuLinkDataLength).ok();
            match (skip, bytes) {
                (Some(skip), Some(bytes))
                    if skip <= piece.len() && bytes <= piece.len() - skip && said.pktuLinkNextPtr.addr() == next =>
                {
                    *place = (place.0 + skip, bytes);
                }
                _ => valid = false,
            }
            (link, at) = (known.next, at + 1);
        });
        (valid && link == NIL).then_some(places)
    }

    /// The structures of a message that is no more.
    pub(super) fn free(&mut self, FirstLink(first): FirstLink) {
        let mut at = first;
        while let Some(known) = self.known.get_mut(at as usize) {
            known.message = None;
            let next = std::mem::replace(&mut known.next, NIL);
            match self.known.get_mut(self.free_tail as usize) {
                Some(tail) => tail.next = at,
                None => self.free_head = at,
            }
            self.free_tail = at;
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        buf::{PoolConfig, RxBuf},
        port::user::heap_pool,
        treck::messages::{Kind, MessageTable},
    };

    fn pool() -> crate::buf::Pool {
        heap_pool(16, 2048, PoolConfig::default()).expect("memory")
    }

    fn chain(pool: &crate::buf::Pool, pieces: &[&[u8]]) -> TxBuf {
        let mut packet = None::<RxBuf>;
        for piece in pieces {
            let piece = pool.rx_from_bytes(piece).expect("a frame");
            match &mut packet {
                None => packet = Some(piece),
                Some(head) => head.append(piece).expect("frames of one pool"),
            }
        }
        packet.expect("a piece").into_tx()
    }

    #[test]
    fn only_the_first_link_of_a_live_message_is_a_handle() {
        let pool = pool();
        let mut table = MessageTable::new();
        table.reserve(16);
        let handle = table.insert_scattered(chain(&pool, &[b"one", b"two"])).expect("links");
        let addr = handle.addr();
        let step = size_of::<ttUserPacket>();
        for forged in [addr + step, addr - step, addr + 8, addr + 1, addr + 2 * step, addr + (LINKS_MIN + 1) * step] {
            assert!(table.take(Kind::Message, forged).is_none(), "{forged:#x}");
        }
        assert!(table.take(Kind::Driver, addr).is_none(), "of another kind");
        // The number that the slot would have is no handle of it.
        assert!(table.take(Kind::Message, 1 << 32 | 1).is_none());
        let (taken, buf) = table.take(Kind::Message, addr).expect("live");
        assert_eq!(taken.to_addr(), 1 << 32 | 1);
        assert!(table.take(Kind::Message, addr).is_none(), "in use by a call");
        table.retire(taken);
        assert!(table.take(Kind::Message, addr).is_none(), "stale");
        drop(buf);
        assert!(pool.ledger().is_whole());
    }

    #[test]
    fn structures_are_used_again_in_the_order_in_which_they_were_freed() {
        let pool = pool();
        let mut table = MessageTable::new();
        table.reserve(16);
        let mut seen = std::collections::HashSet::new();
        let mut first = None;
        for _ in 0..LINKS_MIN {
            let handle = table.insert_scattered(chain(&pool, &[b"x"])).expect("a link").addr();
            assert!(seen.insert(handle), "{handle:#x} again");
            first.get_or_insert(handle);
            let (taken, _) = table.take(Kind::Message, handle).expect("live");
            table.retire(taken);
        }
        let again = table.insert_scattered(chain(&pool, &[b"x"])).expect("a link").addr();
        assert_eq!(Some(again), first);
    }

    #[test]
    fn before_there_are_structures_there_is_no_message() {
        let pool = pool();
        let mut table = MessageTable::new();
        assert!(table.insert_scattered(chain(&pool, &[b"x", b"y"])).is_none());
        assert!(table.take(Kind::Message, 0).is_none());
        assert!(table.take(Kind::Message, 64).is_none());
        assert!(pool.ledger().is_whole());
    }
}
