//! Memory of the application's that is sent as it lies, and the functions that free it.
//!
//! ```text
//!   a send ─► Lease ─acknowledged, or queued as descriptors─► returning ─no descriptor out─► the free function, in a turn of the loop
//! ```

use super::{
    error::{Outcome, WOULD_BLOCK},
    face::{self, Face},
    transfer::Parts,
};
use crate::{
    buf::{Content, Frozen},
    proto::tcp::Stretch,
};
use smallvec::SmallVec;
use std::{cell::Cell, ffi::c_char, fmt, rc::Rc};

/// What the application frees its memory with.
pub(super) type FreeFn = unsafe extern "C" fn(*mut c_char);

/// A stretch of a buffer that the application holds.
#[derive(Clone, Debug)]
struct Part {
    bytes: Rc<Frozen>,
    from: usize,
    len: usize,
}

/// Whose free functions are to be called, and what with.
#[derive(Clone, Debug)]
struct Loan {
    first: Part,
    rest: SmallVec<[Part; 2]>,
    free_fn: Option<FreeFn>,
    buffers: SmallVec<[*mut c_char; 2]>,
}

impl Loan {
    fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    fn is_at_rest(&self) -> bool {
        self.parts().all(|part| part.bytes.is_at_rest(part.from, part.len))
    }
}

/// The bytes of one send. When nobody has it any more they need not be sent again.
pub(super) struct Lease {
    loan: Loan,
    /// It was sent: the free function is ours to call.
    sent: Cell<bool>,
}

impl Lease {
    /// The bytes.
    pub(super) fn stretches(&self) -> SmallVec<[Stretch<'_>; 4]> {
        self.loan.parts().map(|part| (&*part.bytes, part.from, part.len)).collect()
    }

    /// The bytes of a send of one part, in its [`Content`].
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        self.loan.first.from..self.loan.first.from + self.loan.first.len
    }

    /// From now on the free function is called when the bytes are at rest.
    pub(super) fn mark_sent(&self) {
        self.sent.set(true);
    }
}

impl Content for Lease {
    fn frozen(&self) -> &Frozen {
        &self.loan.first.bytes
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("loan", &self.loan).field("sent", &self.sent).finish()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.sent.get() || self.loan.free_fn.is_none() {
            return;
        }
        // Whoever drops the last one is inside the gate already.
        if let Ok(mut returning) = face::enter().returning.try_borrow_mut() {
            returning.push_back(Returning(self.loan.clone()));
        }
    }
}

/// Memory that is waited for until no descriptor of it is out.
pub(super) struct Returning(Loan);

impl Face {
    /// The parts, to be sent as they lie, if all of them are in buffers that the application holds; `free_fn` will be called for each of `buffers`.
    pub(super) fn lease(
        &self,
        parts: &Parts,
        free_fn: Option<FreeFn>,
        buffers: impl Iterator<Item = *mut c_char>,
    ) -> Outcome<Option<Rc<Lease>>> {
        let pool = self.pool.try_borrow().map_err(|_| WOULD_BLOCK)?;
        let Some(pool) = pool.as_ref() else { return Ok(None) };
        let mut messages = self.messages.try_borrow_mut().map_err(|_| WOULD_BLOCK)?;
        let mut lend = |&(first, len): &(*mut u8, usize)| {
            let (bytes, from) = messages.lend(pool.frame_at(first.addr())?, first.addr(), len)?;
            Some(Part { bytes, from, len })
        };
        let mut lent: SmallVec<[Part; 3]> = SmallVec::new();
        for part in parts.iter().filter(|(_, len)| *len > 0) {
            let Some(part) = lend(part) else { return Ok(None) };
            lent.push(part);
        }
        let mut lent = lent.into_iter();
        let Some(first) = lent.next() else { return Ok(None) };
        let loan = Loan { first, rest: lent.collect(), free_fn, buffers: buffers.collect() };
        Ok(Some(Rc::new(Lease { loan, sent: Cell::new(false) })))
    }

    /// Some memory waits to be given back.
    pub(super) fn is_waiting_for_rest(&self) -> bool {
        self.returning.try_borrow().is_ok_and(|returning| !returning.is_empty())
    }

    /// Some memory can be given back.
    pub(super) fn has_rested(&self) -> bool {
        self.returning.try_borrow().is_ok_and(|returning| returning.iter().any(|loan| loan.0.is_at_rest()))
    }

    /// Gives back what is at rest: the application's functions run. True if there was any.
    pub(super) fn give_back(&self) -> bool {
        let mut left = self.returning.try_borrow().map_or(0, |returning| returning.len());
        let (mut at, mut any) = (0, false);
        while left > 0 {
            let Ok(mut returning) = self.returning.try_borrow_mut() else { break };
            left -= 1;
            if returning.get(at).is_some_and(|loan| !loan.0.is_at_rest()) {
                at += 1;
                continue;
            }
            let Some(Returning(Loan { first, rest, free_fn: Some(free_fn), buffers })) = returning.remove(at) else {
                break;
            };
            drop(returning);
            // So that the function can send or free the buffer at once.
            drop((first, rest));
            any = true;
            for buffer in buffers {
                // SAFETY: the application's function, called once with what it was given for; nothing of the face is borrowed.
                unsafe { free_fn(buffer) };
            }
        }
        any
    }
}
