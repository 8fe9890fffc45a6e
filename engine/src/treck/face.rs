//! What the C face is made of, and how calls wait. Its turn: `turn`.
//!
//! ```text
//!   any thread ─► enter() ─► Face { sockets, messages, interfaces, stack }   one thread at a time, see `gate`
//! ```
//!
//! Everything is in cells: a driver's function that runs within a turn may call the API again, and finds what the turn uses borrowed. Such a call answers
//! `TM_EWOULDBLOCK` and changes nothing. Callbacks run with nothing borrowed: every call works there that need not wait.

use super::{
    error::{Code, Outcome, WOULD_BLOCK},
    gate::{Bedroom, Entered, Gate, Guarded},
    interface::Interface,
    lent::Returning,
    messages::MessageTable,
    numbers as n,
    park::{Lounge, On, lie_down},
    queue::Done,
    sockets::{SocketId, SocketTable},
    workers::{Crew, DOORBELL, is_worker},
};
#[cfg(feature = "af-xdp")]
use crate::port::xsk::SharedFrames;
use crate::{
    buf::Pool,
    runtime::{Backoff, Clock},
    stack::{Stack, StackConfig},
    time::{Duration, Instant},
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

/// Who turns the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turner {
    /// Whoever calls.
    Callers,
    /// The workers, and nobody else.
    Workers,
    /// The same; they will end at their next turn.
    Stopping,
}

/// The process's stack as C sees it.
pub(super) struct Face {
    started: Cell<bool>,
    manual_clock: Cell<bool>,
    manual_ns: Cell<u64>,
    clock: Cell<Option<Clock>>,
    pub(super) turner: Cell<Turner>,
    pub(super) crew: Crew,
    pub(super) lounge: Lounge,
    /// Another thread than a worker was inside since the last whole turn.
    pub(super) touched: Cell<bool>,
    /// What is sent goes to the driver at once: some interface's driver is the application's.
    eager: Cell<bool>,
    pub(super) pool: RefCell<Option<Pool>>,
    /// The same for further sockets: the pool is of a Linux interface.
    #[cfg(feature = "af-xdp")]
    pub(super) frames: RefCell<Option<SharedFrames>>,
    pub(super) stack: RefCell<Option<Box<Stack>>>,
    pub(super) interfaces: RefCell<Vec<Rc<Interface>>>,
    pub(super) sockets: RefCell<SocketTable>,
    pub(super) messages: RefCell<MessageTable>,
    /// Memory of the application's that was sent, to be given back when no descriptor of it is out.
    pub(super) returning: RefCell<VecDeque<Returning>>,
    /// Events are being told: what a callback's own calls bring waits.
    pub(super) telling: Cell<bool>,
    /// Sockets whose application has registered for what may be so already.
    pub(super) late: RefCell<Vec<SocketId>>,
}

static FACE: Gate<Face> = Gate::new(Face {
    started: Cell::new(false),
    manual_clock: Cell::new(false),
    manual_ns: Cell::new(0),
    clock: Cell::new(None),
    turner: Cell::new(Turner::Callers),
    crew: Crew::new(),
    lounge: Lounge::new(),
    touched: Cell::new(false),
    eager: Cell::new(false),
    pool: RefCell::new(None),
    #[cfg(feature = "af-xdp")]
    frames: RefCell::new(None),
    stack: RefCell::new(None),
    interfaces: RefCell::new(Vec::new()),
    sockets: RefCell::new(SocketTable::new()),
    messages: RefCell::new(MessageTable::new()),
    returning: RefCell::new(VecDeque::new()),
    telling: Cell::new(false),
    late: RefCell::new(Vec::new()),
});

pub(super) static BEDROOM: Bedroom = Bedroom::new();

impl Guarded for Face {
    /// Workers that sleep have something to do, perhaps.
    #[inline]
    fn before_leaving(&self) -> bool {
        if self.may_turn() {
            return false;
        }
        self.touched.set(true);
        let sleep = DOORBELL.sleeps();
        if sleep {
            self.choose_worker();
        }
        sleep
    }

    #[cold]
    fn after_leaving() {
        DOORBELL.wake();
    }
}

pub(super) type Inside = Entered<'static, Face>;

/// Waits until no other thread is in the C face, then is.
#[inline]
pub(super) fn enter() -> Inside {
    FACE.enter()
}

/// [Enters](enter), if this call was not made by one of the application's functions that we called.
#[inline(always)]
pub(super) fn enter_outermost() -> Option<Inside> {
    FACE.enter_outermost()
}

/// This call was made by one of the application's functions that we called.
#[inline(always)]
pub(super) fn is_inside() -> bool {
    FACE.inside().is_some()
}

/// If this call was made by one of the application's functions that we called.
#[inline(always)]
pub(super) fn inside() -> Option<Inside> {
    FACE.inside()
}

/// Waits until no other thread is in the C face and none of the application's waits for it, then is: for the worker, between its turns.
pub(super) fn enter_politely() -> Inside {
    FACE.enter_politely()
}

/// Whether and how long a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    None,
    For(Duration),
    Endless,
}

impl Patience {
    #[inline]
    pub(super) fn is_none(self) -> bool {
        matches!(self, Self::None)
    }
}

impl Face {
    pub(super) fn start(&self) -> Outcome<()> {
        if self.started.replace(true) {
            return Err(Code(n::TM_EALREADY));
        }
        self.clock.set(Some(Clock::start()));
        Ok(())
    }

    pub(super) fn is_started(&self) -> bool {
        self.started.get()
    }

    pub(super) fn use_manual_clock(&self) {
        self.manual_clock.set(true);
    }

    pub(super) fn has_manual_clock(&self) -> bool {
        self.manual_clock.get()
    }

    /// Moves the manual clock; false if it does not go there.
    pub(super) fn set_manual_clock(&self, ns: u64) -> bool {
        let forward = self.manual_clock.get() && ns >= self.manual_ns.get();
        if forward {
            self.manual_ns.set(ns);
        }
        forward
    }

    /// The calling thread turns the loop: there are no workers, or this is one.
    #[inline]
    pub(super) fn may_turn(&self) -> bool {
        self.turner.get() == Turner::Callers || is_worker()
    }

    /// What this call sends goes to the driver before it returns: not within a callback, after which it all goes, and not beside a worker, which does it.
    #[inline]
    pub(super) fn sends_at_once(&self, patience: Patience) -> bool {
        (!patience.is_none() || self.eager.get()) && !self.telling.get() && self.may_turn()
    }

    /// The stack's idea of the time is old: the worker that keeps it right sleeps.
    pub(super) fn has_old_time(&self) -> bool {
        DOORBELL.sleeps() && !self.may_turn()
    }

    pub(super) fn be_eager(&self) {
        self.eager.set(true);
    }

    #[inline]
    pub(super) fn now(&self) -> Instant {
        if self.manual_clock.get() { self.manual_now() } else { self.clock_now() }
    }

    fn manual_now(&self) -> Instant {
        Instant::from_nanos(self.manual_ns.get())
    }

    #[inline(never)]
    fn clock_now(&self) -> Instant {
        self.clock.get().map_or_else(|| self.manual_now(), |clock| clock.now())
    }

    /// Creates the stack on `pool`, unless there is one.
    pub(super) fn create_stack(&self, pool: Pool) -> Outcome<()> {
        let mut stack = self.stack.try_borrow_mut().map_err(|_| WOULD_BLOCK)?;
        if stack.is_none() {
            // With a manual clock a run must be repeatable, so it has no secrets.
            let seed = if self.manual_clock.get() { [0x5a; 32] } else { random_seed()? };
            if let Ok(mut messages) = self.messages.try_borrow_mut() {
                messages.reserve(pool.capacity() as usize);
            }
            *stack = Some(Box::new(Stack::new(pool.clone(), StackConfig::new(seed), self.now())));
            *self.pool.try_borrow_mut().map_err(|_| WOULD_BLOCK)? = Some(pool);
        }
        Ok(())
    }

    /// Runs `f` on the stack.
    ///
    /// # Errors
    /// `TM_ENETDOWN` before the first interface is opened; `TM_EWOULDBLOCK` if the call that called the application's function uses it.
    #[inline]
    pub(super) fn with_stack<R>(&self, f: impl FnOnce(&mut Stack) -> R) -> Outcome<R> {
        let mut stack = self.stack.try_borrow_mut().map_err(|_| WOULD_BLOCK)?;
        stack.as_mut().map(|stack| f(stack)).ok_or(Code(n::TM_ENETDOWN))
    }

    pub(super) fn interface(&self, at: usize) -> Option<Rc<Interface>> {
        self.interfaces.try_borrow().ok()?.get(at).cloned()
    }
}

/// The patience that a call may have where it was made: none within a driver's function.
pub(super) fn within(face: &Inside, patience: Patience) -> Patience {
    if face.is_nested() { Patience::None } else { patience }
}

/// Calls `attempt` until it says something other than would-block, turning the loop between, and sleeping when the turn had nothing to do; beside workers it sleeps until something
/// has happened `on` its socket.
///
/// # Errors
/// What `attempt` says; `TM_EWOULDBLOCK` when patience is over, when the call was made by one of the application's functions that we called, or when the clock is
/// manual and nothing is left to do until somebody moves it: nobody could.
#[inline]
pub(super) fn wait_for<'a, R>(
    face: &mut Inside,
    patience: Patience,
    on: impl Into<On<'a>>,
    mut attempt: impl FnMut(&Face) -> Outcome<R>,
) -> Outcome<R> {
    let mut waiting = Waiting::default();
    let on = on.into();
    loop {
        let seen = BEDROOM.rings();
        match attempt(face) {
            Err(WOULD_BLOCK) => rest_once(face, within(face, patience), on, &mut waiting, seen)?,
            done => return done,
        }
    }
}

/// What a call that waits remembers.
#[derive(Debug, Default)]
struct Waiting {
    /// When its patience is over; set the first time.
    until: Option<Instant>,
    backoff: Backoff,
}

/// Turns the loop, or sleeps, once.
#[cold]
fn rest_once(face: &mut Inside, patience: Patience, on: On<'_>, waiting: &mut Waiting, seen: u64) -> Outcome<()> {
    let left = match patience {
        Patience::None => return Err(WOULD_BLOCK),
        Patience::Endless => Duration::MAX,
        Patience::For(time) => {
            let now = face.now();
            let until = *waiting.until.get_or_insert(now + time);
            if now >= until && !face.has_manual_clock() {
                return Err(WOULD_BLOCK);
            }
            until.saturating_since(now)
        }
    };
    if !face.may_turn() {
        lie_down(face, on, left);
        return Ok(());
    }
    let Done { worked, stuck } = face.turn();
    if worked {
        waiting.backoff.busy();
        return Ok(());
    }
    let now = face.now();
    let again = if stuck { waiting.backoff.pause(now) } else { None };
    if stuck && again.is_none() {
        return Ok(());
    }
    if face.has_manual_clock() {
        return Err(WOULD_BLOCK);
    }
    let (fds, at_most) = face.rest();
    let at_most = again.map_or(at_most, |at| at.saturating_since(now).min(at_most)).min(left);
    // A ring by this thread's own turn or an earlier one only makes it look again.
    if at_most > Duration::ZERO {
        BEDROOM.lie_down();
        face.outside(|| BEDROOM.sleep(seen, &fds, at_most));
        BEDROOM.get_up();
    }
    Ok(())
}

fn random_seed() -> Outcome<[u8; 32]> {
    let mut seed = [0u8; 32];
    // SAFETY: the kernel writes at most 32 bytes into `seed`. Requests of up to 256 bytes are not cut short (getrandom(2)).
    let got = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
    if got == seed.len() as isize { Ok(seed) } else { Err(Code(n::TM_EIO)) }
}
