//! Where calls wait beside workers: each for what happens on its own socket, and woken by nothing else.
//!
//! A call registers before it leaves the gate, in which it found that it must wait. So nothing that happens inside from then on is missed.

use super::{
    face::{BEDROOM, Face, Inside, Turner},
    sockets::SocketId,
    workers::is_worker,
};
use crate::time::Duration;
use smallvec::SmallVec;
use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Instant,
};

/// What a call waits for.
#[derive(Clone, Copy)]
pub(super) enum On<'a> {
    /// Something happens on this socket.
    One(SocketId),
    /// On any of these, or, if `restless`, anywhere.
    Each { sockets: &'a dyn Fn(&Face) -> Sockets, restless: bool },
    /// Anywhere.
    Any,
}

pub(super) type Sockets = SmallVec<[SocketId; 8]>;

impl From<SocketId> for On<'_> {
    fn from(id: SocketId) -> Self {
        Self::One(id)
    }
}

/// A thread that waits, or may.
#[derive(Debug)]
pub(super) struct Bed {
    thread: Thread,
    rung: AtomicBool,
}

impl Bed {
    fn new() -> Arc<Self> {
        Arc::new(Self { thread: thread::current(), rung: AtomicBool::new(false) })
    }
}

thread_local! {
    static OWN: Arc<Bed> = Bed::new();
}

/// Those who wait for a socket.
pub(super) type Beds = SmallVec<[Arc<Bed>; 1]>;

/// Those who wait for no socket's events, and those who are to be woken.
#[derive(Debug)]
pub(super) struct Lounge {
    restless: RefCell<Vec<Arc<Bed>>>,
    /// Rung by a worker, which wakes them when it has left the gate.
    rung: RefCell<Vec<Arc<Bed>>>,
    woken: Cell<u64>,
}

impl Lounge {
    pub(super) const fn new() -> Self {
        Self { restless: RefCell::new(Vec::new()), rung: RefCell::new(Vec::new()), woken: Cell::new(0) }
    }

    /// How many waiting calls were woken so far.
    pub(super) fn woken(&self) -> u64 {
        self.woken.get()
    }

    fn ring<'a>(&self, beds: impl IntoIterator<Item = &'a Arc<Bed>>) {
        for bed in beds {
            if bed.rung.swap(true, Ordering::Relaxed) {
                continue;
            }
            self.woken.set(self.woken.get() + 1);
            match self.rung.try_borrow_mut() {
                Ok(mut rung) if is_worker() => rung.push(bed.clone()),
                _ => bed.thread.unpark(),
            }
        }
    }

    /// Takes those whom a worker is to [wake](wake_up), in exchange for an empty list.
    pub(super) fn take_rung(&self, list: &mut Vec<Arc<Bed>>) {
        if let Ok(mut rung) = self.rung.try_borrow_mut() {
            std::mem::swap(list, &mut rung);
        }
    }
}

/// To be called outside the gate: those who wake want to enter.
pub(super) fn wake_up(rung: &mut Vec<Arc<Bed>>) {
    rung.drain(..).for_each(|bed| bed.thread.unpark());
}

impl Face {
    /// Something happened on this socket: whoever waits for it looks again.
    pub(super) fn ring(&self, id: SocketId) {
        if self.turner.get() == Turner::Callers {
            // One of those who wait turns the loop for the others.
            BEDROOM.ring_inside();
        } else if let Ok(sockets) = self.sockets.try_borrow() {
            self.lounge.ring(sockets.beds(id));
        }
    }

    /// Something happened that any of those who wait may wait for.
    pub(super) fn ring_all(&self) {
        BEDROOM.ring_inside();
        if let Ok(sockets) = self.sockets.try_borrow() {
            self.lounge.ring(sockets.all_beds());
        }
        self.ring_restless();
    }

    /// Something was done, somewhere.
    pub(super) fn ring_restless(&self) {
        if let Ok(restless) = self.lounge.restless.try_borrow() {
            self.lounge.ring(restless.iter());
        }
    }

    /// A send that finds no frame waits for all who have some.
    fn is_out_of_frames(&self) -> bool {
        self.pool.try_borrow().is_ok_and(|pool| pool.as_ref().is_some_and(|pool| pool.free_for_tx() == 0))
    }
}

/// Beside workers: leaves the gate and waits until something has happened `on` what was said, or for `at_most`. May return early.
pub(super) fn lie_down(face: &mut Inside, on: On<'_>, at_most: Duration) {
    // Also where a thread ends and calls from a destructor.
    let bed = OWN.try_with(Arc::clone).unwrap_or_else(|_| Bed::new());
    bed.rung.store(false, Ordering::Relaxed);
    let (sockets, restless) = match on {
        On::One(id) => (Sockets::from_slice(&[id]), false),
        On::Each { sockets, restless } => (sockets(face), restless),
        On::Any => (Sockets::new(), true),
    };
    let restless = restless || face.is_out_of_frames();
    for &id in &sockets {
        if face.with_socket(id, |socket| socket.beds.push(bed.clone())).is_err() {
            // It is gone: time to look again.
            bed.rung.store(true, Ordering::Relaxed);
        }
    }
    if restless && let Ok(mut list) = face.lounge.restless.try_borrow_mut() {
        list.push(bed.clone());
    }
    let until = Instant::now().checked_add(at_most);
    face.outside(|| {
        while !bed.rung.load(Ordering::Relaxed) {
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => break,
                Some(left) => thread::park_timeout(left),
                None => thread::park(),
            }
        }
    });
    let own = |other: &Arc<Bed>| Arc::ptr_eq(other, &bed);
    for &id in &sockets {
        // Those of a socket that was closed are gone.
        let _ = face.with_socket(id, |socket| socket.beds.retain(|other| !own(other)));
    }
    if restless && let Ok(mut list) = face.lounge.restless.try_borrow_mut() {
        list.retain(|other| !own(other));
    }
}
