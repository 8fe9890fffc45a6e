//! Handles of buffers: numbers that look like pointers to C, and of scattered messages pointers that look like numbers to us: looked up, never followed.

use super::{
    links::{FirstLink, LinkTable, Places},
    types::ttUserMessage,
};
use crate::buf::{Frozen, TxBuf};
use std::rc::Rc;

/// What a handle was given out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `ttUserMessage`: a zero-copy buffer of the application's.
    Message,
    /// The same, in pieces.
    Scattered,
    /// `ttUserBuffer`: a buffer of the driver's to receive into.
    Driver,
}

/// A buffer of the application's. It is in one of the two places; in neither while a call that may give it back works on it, or when nothing has the slot.
#[derive(Debug)]
struct Slot {
    /// Odd, so that none is 0.
    generation: u32,
    kind: Kind,
    held: Option<TxBuf>,
    /// Parts of it are being sent, or were.
    lent: Option<Rc<Frozen>>,
    /// It is scattered: its handle is the first link's address.
    links: Option<FirstLink>,
}

impl Slot {
    #[inline]
    fn is(&self, kind: Kind, handle: Handle, scattered: bool) -> bool {
        let kind = if scattered && kind == Kind::Message { Kind::Scattered } else { kind };
        self.generation == handle.generation && self.kind == kind
    }

    /// Takes a buffer that was lent, if no part of it is being sent any more.
    #[cold]
    fn take_lent(&mut self) -> Option<TxBuf> {
        match Rc::try_unwrap(self.lent.take()?).and_then(|bytes| bytes.thaw().map_err(Rc::new)) {
            Ok(buf) => Some(buf),
            Err(bytes) => {
                self.lent = Some(bytes);
                None
            }
        }
    }

    /// Handles that were given out mean nothing from now on.
    #[inline]
    fn age(&mut self) {
        self.generation = self.generation.wrapping_add(2);
    }
}

/// All buffers that the application holds.
#[derive(Debug)]
pub(super) struct MessageTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    links: LinkTable,
    /// Of each frame: the slot that had it last.
    slot_of: Vec<u32>,
}

/// A live handle, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    index: u32,
    generation: u32,
}

const _: () = assert!(usize::BITS == 64, "a handle holds a generation of 32 bits and an index of 31");

impl Handle {
    /// The pointer's value: generation above, index below, and an odd number, so that no real pointer to a structure is one.
    pub(super) fn to_addr(self) -> usize {
        (self.generation as usize) << 32 | (self.index as usize) << 1 | 1
    }

    /// `None`: it is the address of a scattered message's first link, if of anything.
    #[inline]
    pub(super) fn from_addr(addr: usize) -> Option<Self> {
        (addr & 1 == 1).then_some(Self { index: (addr & 0xffff_ffff) as u32 >> 1, generation: (addr >> 32) as u32 })
    }
}

impl MessageTable {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), links: LinkTable::new(), slot_of: Vec::new() }
    }

    /// Makes room for as many handles as there are frames, so that none is allocated for later.
    pub(super) fn reserve(&mut self, frames: usize) {
        self.slots.reserve(frames.saturating_sub(self.slots.len()));
        self.free.reserve(frames.saturating_sub(self.free.len()));
        self.links.reserve(frames);
        self.slot_of.resize(frames.max(self.slot_of.len()), u32::MAX);
    }

    /// A handle for a buffer that the application is given.
    pub(super) fn insert(&mut self, kind: Kind, buf: TxBuf) -> Handle {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            buf.frames().for_each(|frame| note_slot(&mut self.slot_of, frame, index));
            (slot.kind, slot.held) = (kind, Some(buf));
            return Handle { index, generation: slot.generation };
        }
        // Every slot in use holds at least one frame, and there are at most 2^24 of those.
        let index = self.slots.len() as u32;
        buf.frames().for_each(|frame| note_slot(&mut self.slot_of, frame, index));
        self.slots.push(Slot { generation: 1, kind, held: Some(buf), lent: None, links: None });
        Handle { index, generation: 1 }
    }

    /// The same for a scattered message: its handle is the address of a [`ttUserPacket`](super::types::ttUserPacket). `None`, and the buffer is freed, if there is no structure left.
    pub(super) fn insert_scattered(&mut self, mut buf: TxBuf) -> Option<ttUserMessage> {
        // The handle is known before the buffer is in its place.
        let handle = match self.free.last() {
            Some(&index) => Handle { index, generation: self.slots.get(index as usize)?.generation },
            None => Handle { index: self.slots.len() as u32, generation: 1 },
        };
        let links = self.links.describe(handle, &mut buf)?;
        let handle = self.insert(Kind::Message, buf);
        let slot = self.slot(handle)?;
        (slot.kind, slot.links) = (Kind::Scattered, Some(links));
        Some(self.links.address_of(links).cast())
    }

    /// A scattered message that is [taken](Self::take): where the application wants its pieces. `None` if the application has spoilt the links.
    pub(super) fn trimmed(&self, handle: Handle, buf: &mut TxBuf) -> Option<Places> {
        let slot = self.slots.get(handle.index as usize)?;
        self.links.trimmed(slot.links?, buf)
    }

    #[inline]
    fn slot(&mut self, handle: Handle) -> Option<&mut Slot> {
        self.slots.get_mut(handle.index as usize).filter(|slot| slot.generation == handle.generation)
    }

    /// The live handle that `addr` may be, and whether it is a scattered message's.
    #[inline]
    fn decode(&self, addr: usize) -> Option<(Handle, bool)> {
        match Handle::from_addr(addr) {
            Some(handle) => Some((handle, false)),
            None => Some((self.links.message_at(addr)?, true)),
        }
    }

    /// Takes the buffer of a live handle of that kind. The handle stays its own until it is [put back](Self::put_back) or [retired](Self::retire); meanwhile it is good
    /// for nothing else.
    #[inline]
    pub(super) fn take(&mut self, kind: Kind, addr: usize) -> Option<(Handle, TxBuf)> {
        let (handle, scattered) = self.decode(addr)?;
        let slot = self.slots.get_mut(handle.index as usize).filter(|slot| slot.is(kind, handle, scattered))?;
        let buf = slot.held.take().or_else(|| slot.take_lent())?;
        Some((handle, buf))
    }

    /// The buffer of a live handle of that kind, in its place, unless it is scattered or parts of it are being sent.
    #[inline(always)]
    pub(super) fn plain(&mut self, kind: Kind, addr: usize) -> Option<Plain<'_>> {
        let handle = Handle::from_addr(addr)?;
        let slot = self.slots.get_mut(handle.index as usize)?;
        slot.is(kind, handle, false).then_some(Plain { slot, free: &mut self.free, index: handle.index })
    }

    /// The live handle of that kind of a buffer that cannot be [taken](Self::take), since parts of it are being sent.
    pub(super) fn lent(&self, kind: Kind, addr: usize) -> Option<Handle> {
        let (handle, scattered) = self.decode(addr)?;
        let slot = self.slots.get(handle.index as usize).filter(|slot| slot.is(kind, handle, scattered))?;
        slot.lent.is_some().then_some(handle)
    }

    /// The bytes of the application's buffer that has the `len` bytes at `addr`, which lie in `frame`, and where in it they begin. `None`: no buffer has them all.
    pub(super) fn lend(&mut self, frame: u32, addr: usize, len: usize) -> Option<(Rc<Frozen>, usize)> {
        let slot = self.slots.get_mut(*self.slot_of.get(frame as usize)? as usize)?;
        let at = match (&slot.held, &slot.lent) {
            (Some(buf), _) => place_in(buf.pieces(), addr, len),
            (None, Some(bytes)) => place_in(bytes.pieces(), addr, len),
            (None, None) => None,
        }?;
        if let Some(buf) = slot.held.take() {
            slot.lent = Some(Rc::new(buf.freeze()));
        }
        slot.lent.as_ref().map(|bytes| (Rc::clone(bytes), at))
    }

    /// The application keeps the buffer, by the same handle.
    pub(super) fn put_back(&mut self, handle: Handle, buf: TxBuf) {
        if let Some(slot) = self.slot(handle) {
            slot.held = Some(buf);
        }
    }

    /// The handle means nothing from now on.
    #[inline]
    pub(super) fn retire(&mut self, handle: Handle) {
        if let Some(slot) = self.slot(handle) {
            slot.age();
            (slot.held, slot.lent) = (None, None);
            let links = slot.links.take();
            self.free.push(handle.index);
            if let Some(links) = links {
                self.links.free(links);
            }
        }
    }
}

/// A buffer, in its place.
pub(super) struct Plain<'a> {
    slot: &'a mut Slot,
    free: &'a mut Vec<u32>,
    index: u32,
}

impl Plain<'_> {
    #[inline(always)]
    pub(super) fn held(&mut self) -> &mut Option<TxBuf> {
        &mut self.slot.held
    }

    /// It is taken: the handle means nothing from now on.
    #[inline(always)]
    pub(super) fn retire(self) {
        self.slot.age();
        self.free.push(self.index);
    }
}

fn note_slot(slot_of: &mut [u32], frame: u32, index: u32) {
    if let Some(slot) = slot_of.get_mut(frame as usize) {
        *slot = index;
    }
}

/// Where among the bytes of all `pieces` the `len` at `addr` are.
fn place_in<'a>(pieces: impl Iterator<Item = &'a [u8]>, addr: usize, len: usize) -> Option<usize> {
    let (mut at, mut found, mut covered) = (0, None, 0);
    for piece in pieces {
        let begin = piece.as_ptr().addr();
        match found {
            None => {
                if let Some(skip) = addr.checked_sub(begin).filter(|&skip| skip < piece.len()) {
                    (found, covered) = (Some(at + skip), piece.len() - skip);
                }
            }
            // The next frame of a run; a link elsewhere is not what the application means.
            Some(_) if covered < len && begin == addr + covered => covered += piece.len(),
            Some(_) => break,
        }
        at += piece.len();
    }
    found.filter(|_| covered >= len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{buf::PoolConfig, port::user::heap_pool};

    #[test]
    fn stale_forged_and_foreign_handles_are_known() {
        let pool = heap_pool(8, 2048, PoolConfig::default()).expect("memory");
        let buf = || pool.alloc_tx().expect("a frame");
        let mut table = MessageTable::new();
        let first = table.insert(Kind::Message, buf());
        let addr = first.to_addr();
        assert!(table.take(Kind::Driver, addr).is_none(), "of another kind");
        for forged in [0, 1, addr - 1, addr + 1, addr + 2, addr ^ 1 << 32, usize::MAX] {
            assert!(table.take(Kind::Message, forged).is_none(), "{forged:#x}");
        }
        let (handle, taken) = table.take(Kind::Message, addr).expect("live");
        assert!(table.take(Kind::Message, addr).is_none(), "in use by a call");
        table.put_back(handle, taken);
        let (handle, taken) = table.take(Kind::Message, addr).expect("live again");
        drop(taken);
        table.retire(handle);
        let second = table.insert(Kind::Message, buf());
        assert_eq!(second.index, first.index);
        assert!(table.take(Kind::Message, addr).is_none(), "stale");
        assert!(table.take(Kind::Message, second.to_addr()).is_some());
        table.retire(second);
        assert!(pool.ledger().is_whole());
    }

    #[test]
    fn bytes_are_found_by_where_they_lie_and_lent_until_they_are_at_rest() {
        let config = PoolConfig { run_frames: 4, ..PoolConfig::default() };
        let pool = heap_pool(8, 2048, config).expect("memory");
        let mut table = MessageTable::new();
        table.reserve(8);
        let mut run = pool.alloc_contiguous(4000).expect("a run");
        run.set_len(4000).expect("room");
        let begin = run.as_slice().as_ptr().addr();
        let handle = table.insert(Kind::Message, run).to_addr();
        let frame = |addr| pool.frame_at(addr).expect("in the pool");
        for (at, len) in [(4000usize, 1), (0, 4001), (3999, 2)] {
            assert!(table.lend(frame(begin + at), begin + at, len).is_none(), "{len} at {at}");
        }
        assert!(table.lend(frame(begin - 1), begin - 1, 4).is_none(), "in front of the data");
        assert!(table.lent(Kind::Message, handle).is_none());
        let (bytes, at) =
            table.lend(frame(begin + 1700), begin + 1700, 2300).expect("in the run's second frame, and third");
        assert_eq!((at, bytes.total_len()), (1700, 4000));
        assert!(table.take(Kind::Message, handle).is_none(), "it is lent");
        assert!(table.lent(Kind::Driver, handle).is_none() && table.lent(Kind::Message, handle).is_some());
        let mut sealed = Vec::new();
        bytes.seal_range(at, 100, |piece| sealed.push(piece)).expect("in range");
        drop(bytes);
        assert!(table.take(Kind::Message, handle).is_none(), "a descriptor is out");
        sealed.clear();
        let (taken, buf) = table.take(Kind::Message, handle).expect("at rest");
        assert!(table.lend(frame(begin), begin, 1).is_none(), "a call works on it");
        table.put_back(taken, buf);
        let (bytes, _) = table.lend(frame(begin), begin, 1).expect("again");
        let lent = table.lent(Kind::Message, handle).expect("lent");
        table.retire(lent);
        assert!(table.lent(Kind::Message, handle).is_none() && table.lend(frame(begin), begin, 1).is_none());
        assert!(!pool.ledger().is_whole(), "whoever sends it has it still");
        drop(bytes);
        assert!(pool.ledger().is_whole());
    }
}
