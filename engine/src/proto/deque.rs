//! Appending to queues on a packet's way.

use std::collections::VecDeque;

/// Appends what `make` makes. Where there is room, as there nearly always is, nothing can unwind while the element exists: so it is built in its place, and not
/// on the stack first.
#[inline(always)]
pub(super) fn push_with<T>(queue: &mut VecDeque<T>, make: impl FnOnce() -> T) {
    if queue.len() < queue.capacity() {
        queue.push_back(make());
    } else {
        push_growing(queue, make());
    }
}

#[cold]
fn push_growing<T>(queue: &mut VecDeque<T>, element: T) {
    queue.extend([element]);
}
