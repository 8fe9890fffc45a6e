//! Handles of buffers: numbers that look like pointers to C, and of scattered messages pointers that look like numbers to us: looked up, never followed.

use super::{
    links::{FirstLink, LinkTable, Places},
    types::ttUserMessage,
};
use crate::buf::TxBuf;

/// What a handle was given out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `ttUserMessage`: a zero-copy buffer of the application's.
    Message,
    /// `ttUserBuffer`: a buffer of the driver's to receive into.
    Driver,
}

#[derive(Debug)]
enum State {
    Free,
    /// The application has it.
    Held(Kind, TxBuf),
    /// A call that may give it back works on it.
    Taken(Kind),
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    state: State,
    /// It is scattered: its handle is the first link's address.
    links: Option<FirstLink>,
}

/// All buffers that the application holds.
#[derive(Debug)]
pub(super) struct MessageTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    links: LinkTable,
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

    fn from_addr(addr: usize) -> Option<Self> {
        (addr & 1 == 1).then_some(Self { index: (addr & 0xffff_ffff) as u32 >> 1, generation: (addr >> 32) as u32 })
    }
}

impl MessageTable {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), links: LinkTable::new() }
    }

    /// Makes room for as many handles as there are frames, so that none is allocated for later.
    pub(super) fn reserve(&mut self, frames: usize) {
        self.slots.reserve(frames.saturating_sub(self.slots.len()));
        self.free.reserve(frames.saturating_sub(self.free.len()));
        self.links.reserve(frames);
    }

    /// A handle for a buffer that the application is given.
    pub(super) fn insert(&mut self, kind: Kind, buf: TxBuf) -> Handle {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.state = State::Held(kind, buf);
            return Handle { index, generation: slot.generation };
        }
        // Every slot in use holds at least one frame, and there are at most 2^24 of those.
        let index = self.slots.len() as u32;
        self.slots.push(Slot { generation: 1, state: State::Held(kind, buf), links: None });
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
        self.slot(handle)?.links = Some(links);
        Some(self.links.address_of(links).cast())
    }

    /// A scattered message that is [taken](Self::take): where the application wants its pieces. `Some(None)` if the application has spoilt the links, `None` if it is not scattered.
    pub(super) fn trimmed(&self, handle: Handle, buf: &mut TxBuf) -> Option<Option<Places>> {
        let slot = self.slots.get(handle.index as usize)?;
        Some(self.links.trimmed(slot.links?, buf))
    }

    fn slot(&mut self, handle: Handle) -> Option<&mut Slot> {
        self.slots.get_mut(handle.index as usize).filter(|slot| slot.generation == handle.generation)
    }

    /// Takes the buffer of a live handle of that kind. The handle stays its own until it is [put back](Self::put_back) or [retired](Self::retire); meanwhile it is good
    /// for nothing else.
    pub(super) fn take(&mut self, kind: Kind, addr: usize) -> Option<(Handle, TxBuf)> {
        let (handle, scattered) = match Handle::from_addr(addr) {
            Some(handle) => (handle, false),
            None => (self.links.message_at(addr)?, true),
        };
        let slot = self.slot(handle).filter(|slot| slot.links.is_some() == scattered)?;
        match std::mem::replace(&mut slot.state, State::Taken(kind)) {
            State::Held(is, buf) if is == kind => Some((handle, buf)),
            other => {
                slot.state = other;
                None
            }
        }
    }

    /// The application keeps the buffer, by the same handle.
    pub(super) fn put_back(&mut self, handle: Handle, buf: TxBuf) {
        if let Some(slot) = self.slot(handle)
            && let State::Taken(kind) = slot.state
        {
            slot.state = State::Held(kind, buf);
        }
    }

    /// The handle means nothing from now on.
    pub(super) fn retire(&mut self, handle: Handle) {
        if let Some(slot) = self.slot(handle) {
            slot.state = State::Free;
            slot.generation = slot.generation.wrapping_add(1).max(1);
            let links = slot.links.take();
            self.free.push(handle.index);
            if let Some(links) = links {
                self.links.free(links);
            }
        }
    }
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
}
