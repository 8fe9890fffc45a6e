//! Connections that their applications have closed while their peers have yet to acknowledge something.
//!
//! Nobody waits for them, and a peer that does not answer, or that answers and keeps its window closed, would have them hold frames for minutes. So there is a limit
//! to them, beyond which the oldest is reset.

use super::{Slot, TcpHandle, listed};
use crate::stack::Stack;
use std::collections::VecDeque;

/// Entries of connections that have ended are swept out when there are so many more than of others: fewer, and a few connections are swept over and over.
const SWEEP_MIN: usize = 64;

/// Closed connections in the order in which they were closed.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// Some of them may have ended meanwhile.
    order: VecDeque<TcpHandle>,
    /// Those that have not.
    len: usize,
}

impl Orphans {
    /// One that was counted has ended.
    pub(super) fn ended(&mut self) {
        self.len -= 1;
    }
}

/// It is one that was counted and has not ended.
fn is_orphan(slots: &[Slot], handle: TcpHandle) -> bool {
    let slot = slots.get(handle.index as usize).filter(|slot| slot.generation == handle.generation);
    let connection = slot.and_then(|slot| slot.connection.as_deref());
    connection.is_some_and(|connection| connection.listed & listed::ORPHAN != 0)
}

impl Stack {
    /// The application has closed a connection, which may have ended by that.
    pub(super) fn note_orphan(&mut self, handle: TcpHandle) {
        let Some(slot) = self.tcp.slots.get_mut(handle.index as usize) else { return };
        let Some(connection) = slot.connection.as_deref_mut() else { return };
        let orphaned = slot.generation == handle.generation
            && connection.is_detached()
            && connection.close_reason().is_none()
            && connection.listed & listed::ORPHAN == 0;
        if !orphaned {
            return;
        }
        connection.listed |= listed::ORPHAN;
        self.tcp.orphans.len += 1;
        self.tcp.orphans.order.push_back(handle);
        while self.tcp.orphans.len > self.config.tcp.orphans_max
            && let Some(oldest) = self.tcp.orphans.order.pop_front()
        {
            if is_orphan(&self.tcp.slots, oldest) {
                self.counters.tcp_orphans_reset += 1;
                self.with_connection(oldest.index, |connection, stack| connection.abort(stack));
            }
        }
        let (slots, orphans) = (&self.tcp.slots, &mut self.tcp.orphans);
        if orphans.order.len() >= orphans.len * 2 + SWEEP_MIN {
            orphans.order.retain(|&handle| is_orphan(slots, handle));
        }
    }
}
