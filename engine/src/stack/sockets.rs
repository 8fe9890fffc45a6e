//! The table of one kind of datagram sockets: handles that go stale, events that are queued once, sends that were refused.

use super::StackEvent;
use crate::proto::udp::PendingError;
use std::{collections::VecDeque, mem};

/// What a table holds.
pub(super) trait TableSocket {
    /// Names one.
    type Handle: Copy;

    fn handle(index: u32, generation: u32) -> Self::Handle;
    /// Index and generation.
    fn place(handle: Self::Handle) -> (u32, u32);

    fn is_readable(&self) -> bool;
    fn handle_error(&mut self, error: PendingError);

    fn readable(handle: Self::Handle) -> StackEvent;
    fn error(handle: Self::Handle) -> StackEvent;
    fn writable(handle: Self::Handle) -> StackEvent;
}

#[derive(Debug)]
pub(super) struct Slot<S> {
    generation: u32,
    pub(super) socket: Option<S>,
    /// An event for it is queued.
    listed: bool,
    /// An error event for it is queued: a flood of ICMP errors must not pile up events.
    error_listed: bool,
    /// A send was refused; it wants to hear of room.
    blocked: bool,
}

/// All sockets of a kind.
#[derive(Debug)]
pub(super) struct Sockets<S> {
    slots: Vec<Slot<S>>,
    free: Vec<u32>,
    blocked: Vec<u32>,
}

impl<S: TableSocket> Slot<S> {
    /// Something came: queues an event if none is queued.
    #[inline(always)]
    pub(super) fn list(&mut self, index: u32, events: &mut VecDeque<StackEvent>) {
        if !self.listed {
            self.listed = true;
            events.push_back(S::readable(S::handle(index, self.generation)));
        }
    }
}

impl<S: TableSocket> Sockets<S> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), blocked: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, socket: S) -> S::Handle {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.socket = Some(socket);
            return S::handle(index, slot.generation);
        }
        let index = self.slots.len() as u32;
        let socket = Some(socket);
        self.slots.push(Slot { generation: 1, socket, listed: false, error_listed: false, blocked: false });
        S::handle(index, 1)
    }

    pub(super) fn remove(&mut self, handle: S::Handle) -> Option<S> {
        let slot = self.slot(handle)?;
        let socket = slot.socket.take()?;
        (slot.listed, slot.error_listed, slot.blocked) = (false, false, false);
        slot.generation = slot.generation.wrapping_add(1).max(1);
        self.free.push(S::place(handle).0);
        Some(socket)
    }

    #[inline]
    fn slot(&mut self, handle: S::Handle) -> Option<&mut Slot<S>> {
        let (index, generation) = S::place(handle);
        self.slots.get_mut(index as usize).filter(|slot| slot.generation == generation)
    }

    #[inline]
    pub(super) fn get(&self, handle: S::Handle) -> Option<&S> {
        let (index, generation) = S::place(handle);
        self.slots.get(index as usize).filter(|slot| slot.generation == generation)?.socket.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, handle: S::Handle) -> Option<&mut S> {
        self.slot(handle)?.socket.as_mut()
    }

    /// By the number under which it is found.
    #[inline(always)]
    pub(super) fn slot_at(&mut self, index: u32) -> Option<&mut Slot<S>> {
        self.slots.get_mut(index as usize)
    }

    /// The same, to look at.
    pub(super) fn at(&self, index: u32) -> Option<&S> {
        self.slots.get(index as usize)?.socket.as_ref()
    }

    /// A queued event still says something true; marks the socket as not listed.
    #[inline]
    pub(super) fn readable_is_current(&mut self, handle: S::Handle) -> bool {
        self.slot(handle).is_some_and(|slot| {
            slot.listed = false;
            slot.socket.as_ref().is_some_and(S::is_readable)
        })
    }

    /// The same for an error.
    pub(super) fn error_is_current(&mut self, handle: S::Handle) -> bool {
        self.slot(handle).is_some_and(|slot| {
            slot.error_listed = false;
            slot.socket.is_some()
        })
    }

    /// After an event was handled: lists the socket again if it still has something.
    #[inline]
    pub(super) fn relist(&mut self, handle: S::Handle, events: &mut VecDeque<StackEvent>) {
        if let Some(slot) = self.slot(handle)
            && slot.socket.as_ref().is_some_and(S::is_readable)
        {
            slot.list(S::place(handle).0, events);
        }
    }

    /// Notes an error, and queues an event unless one is queued; false if there is no such socket.
    pub(super) fn report_at(&mut self, index: u32, error: PendingError, events: &mut VecDeque<StackEvent>) -> bool {
        let Some(slot) = self.slots.get_mut(index as usize) else { return false };
        let Some(socket) = &mut slot.socket else { return false };
        socket.handle_error(error);
        if !mem::replace(&mut slot.error_listed, true) {
            events.push_back(S::error(S::handle(index, slot.generation)));
        }
        true
    }

    pub(super) fn has_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// There is room to send again.
    pub(super) fn unblock(&mut self, events: &mut VecDeque<StackEvent>) {
        for index in self.blocked.drain(..) {
            if let Some(slot) = self.slots.get_mut(index as usize)
                && mem::take(&mut slot.blocked)
                && slot.socket.is_some()
            {
                events.push_back(S::writable(S::handle(index, slot.generation)));
            }
        }
    }

    /// A send was refused.
    pub(super) fn block(&mut self, handle: S::Handle) {
        if let Some(slot) = self.slot(handle)
            && !mem::replace(&mut slot.blocked, true)
        {
            self.blocked.push(S::place(handle).0);
        }
    }
}
