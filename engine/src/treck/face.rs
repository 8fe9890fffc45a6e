//! What the C face is made of, and its turn.
//!
//! ```text
//!   any thread ─► enter() ─► Face { sockets, messages, interfaces, stack }   one thread at a time, see `gate`
//!   turn:  reap → refill → receive (driver functions run) → ingress → timers → events (callbacks run) → flush → transmit (driver functions run) → kick
//! ```
//!
//! Everything is in cells: a driver's function that runs within a turn may call the API again, and finds what the turn uses borrowed. Such a call answers
//! `TM_EWOULDBLOCK` and changes nothing. Callbacks run with nothing borrowed: every call works there that need not wait.

use super::{
    error::{Code, Outcome, WOULD_BLOCK},
    gate::{Bedroom, Entered, Gate, Guarded, token},
    interface::Interface,
    lent::Returning,
    messages::MessageTable,
    numbers as n,
    sockets::{SocketId, SocketTable},
    workers::DOORBELL,
};
use crate::{
    buf::Pool,
    port::Kick,
    runtime::Clock,
    stack::{Stack, StackConfig},
    time::{Duration, Instant},
};
use smallvec::SmallVec;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    os::fd::{AsRawFd, RawFd},
    rc::Rc,
};

/// Packets taken from a port at once.
const RX_BURST: usize = 64;
/// Rounds of timers in one `tfTimerExecute`: bounds what a timer that starts another at once can do.
const TIMER_ROUNDS_MAX: usize = 256;
/// Longest sleep of a blocked call: bounds how late it notices what nobody rings for.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// Shortest sleep, when what can be done at once waits for a device that does not say when it is ready.
const SLEEP_MIN: Duration = Duration::from_micros(100);
/// Longest sleep while there is a driver that has never called `tfNotifyReceiveInterfaceIsr`: it has to be asked.
const SLEEP_UNNOTIFIED_MAX: Duration = Duration::from_millis(1);

/// Longest sleep of a blocked call while a worker turns the loop and wakes it.
const SLEEP_BESIDE_WORKER_MAX: Duration = Duration::from_secs(3600);

/// Who turns the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turner {
    /// Whoever calls.
    Callers,
    /// A worker that has not begun yet.
    Starting,
    /// The worker with this [`token`], and nobody else.
    Worker(usize),
    /// The same; it will end at its next turn.
    Stopping(usize),
}

/// The process's stack as C sees it.
pub(super) struct Face {
    started: Cell<bool>,
    manual_clock: Cell<bool>,
    manual_ns: Cell<u64>,
    clock: Cell<Option<Clock>>,
    pub(super) turner: Cell<Turner>,
    /// Another thread than the worker was inside since the worker's last whole turn.
    pub(super) touched: Cell<bool>,
    /// What is sent goes to the driver at once: some interface's driver is the application's.
    eager: Cell<bool>,
    pub(super) pool: RefCell<Option<Pool>>,
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
    touched: Cell::new(false),
    eager: Cell::new(false),
    pool: RefCell::new(None),
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
    /// A worker that sleeps has something to do, perhaps.
    #[inline]
    fn before_leaving(&self) -> bool {
        if self.may_turn() {
            return false;
        }
        self.touched.set(true);
        DOORBELL.sleeps()
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

    /// The calling thread turns the loop: there is no worker, or this is it.
    #[inline]
    pub(super) fn may_turn(&self) -> bool {
        match self.turner.get() {
            Turner::Callers => true,
            Turner::Starting => false,
            Turner::Worker(who) | Turner::Stopping(who) => who == token(),
        }
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

    pub(super) fn now(&self) -> Instant {
        match self.clock.get() {
            Some(clock) if !self.manual_clock.get() => clock.now(),
            _ => Instant::from_nanos(self.manual_ns.get()),
        }
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

    fn each_interface(&self, mut f: impl FnMut(&Interface) -> bool) -> bool {
        let mut any = false;
        let mut at = 0;
        while let Some(interface) = self.interface(at) {
            any |= f(&interface);
            at += 1;
        }
        any
    }

    /// One turn; true if there was something to do. Beside a worker it only takes back frames that are sent.
    pub(super) fn turn(&self) -> bool {
        if !self.may_turn() {
            return self.reap();
        }
        let now = self.now();
        let mut worked =
            self.each_interface(|interface| self.pull(interface, now) | self.handle_received(interface, now));
        worked |= self.with_stack(|stack| stack.poll_timers(now)).unwrap_or(0) > 0;
        worked |= self.tell();
        worked |= self.flush(now);
        if worked {
            BEDROOM.ring();
        }
        worked
    }

    /// Takes back frames that are sent; true if there were any.
    fn reap(&self) -> bool {
        self.each_interface(|interface| {
            let Ok(mut link) = interface.link.try_borrow_mut() else { return false };
            link.as_mut().is_some_and(|link| link.port().reap() > 0)
        })
    }

    /// For a call that finds no free frame: sends what waits and takes back what is sent. Nothing is received and nobody is called, as the application expects of a call that does not wait.
    pub(super) fn reclaim(&self) {
        if self.may_turn() {
            self.flush(self.now());
        }
        self.reap();
    }

    /// After a turn that did nothing: when the next timer is due. `None` if a driver has yet to take what is to be sent: then turns go on.
    pub(super) fn quiet_until(&self) -> Option<Option<Instant>> {
        let waits = self.each_interface(|interface| {
            let Some(id) = interface.id.get() else { return false };
            self.with_stack(|stack| !stack.egress(id).is_empty()).unwrap_or(false)
        });
        (!waits).then(|| self.next_deadline())
    }

    /// Whether a turn would do anything, without touching what other threads' calls use: they would have to fetch it back from this core. After [`quiet_until`](Self::quiet_until), with what it
    /// said.
    pub(super) fn has_work(&self, quiet_until: Option<Instant>) -> bool {
        let now = self.now();
        self.touched.replace(false)
            || quiet_until.is_some_and(|at| at <= now)
            || self.each_interface(|interface| self.pull(interface, now))
            || self.has_rested()
    }

    /// Takes what the port has received, to be handled later; true if anything waits.
    pub(super) fn pull(&self, interface: &Interface, now: Instant) -> bool {
        let Ok(mut received) = interface.received.try_borrow_mut() else { return false };
        let Ok(mut link) = interface.link.try_borrow_mut() else { return false };
        let Some(link) = link.as_mut() else { return false };
        let port = link.port();
        port.reap();
        port.refill();
        let room = RX_BURST.saturating_sub(received.len());
        port.receive(now, &mut received, room);
        !received.is_empty()
    }

    /// Hands up what was [pulled](Self::pull); true if there was anything.
    pub(super) fn handle_received(&self, interface: &Interface, now: Instant) -> bool {
        let Some(id) = interface.id.get() else { return false };
        let Ok(mut received) = interface.received.try_borrow_mut() else { return false };
        if received.is_empty() {
            return false;
        }
        self.with_stack(|stack| stack.ingress(now, id, &mut received)).is_ok()
    }

    /// Fires what is due, again until nothing is.
    pub(super) fn run_timers(&self) {
        let now = self.now();
        for _ in 0..TIMER_ROUNDS_MAX {
            if self.with_stack(|stack| stack.poll_timers(now)).unwrap_or(0) == 0 {
                break;
            }
        }
        self.tell();
        self.flush(now);
        BEDROOM.ring();
    }

    /// Hands what is to be sent to the ports; true if there was anything.
    pub(super) fn flush(&self, now: Instant) -> bool {
        let _ = self.with_stack(|stack| {
            stack.set_now(now);
            stack.flush();
        });
        self.hand_over(now)
    }

    /// The same for what is queued already: datagrams.
    pub(super) fn hand_over(&self, now: Instant) -> bool {
        self.each_interface(|interface| {
            let Some(id) = interface.id.get() else { return false };
            let Ok(mut link) = interface.link.try_borrow_mut() else { return false };
            let Some(link) = link.as_mut() else { return false };
            let sent = self.with_stack(|stack| {
                let sent = link.port().transmit(now, stack.egress(id));
                stack.egress_drained(id);
                sent
            });
            link.complete_for_quiet_driver(interface);
            match link.port().kick() {
                Ok(kick) => sent.is_ok_and(|sent| sent > 0) || kick == Kick::Pending,
                Err(error) => {
                    // The interface is gone: nothing goes there any more, and nobody waits for it.
                    super::error::explain(Code(n::TM_EIO), error);
                    let _ = self.with_stack(|stack| {
                        stack.egress(id).truncate(0);
                        if let Some(interface) = stack.interface_mut(id) {
                            interface.up = false;
                        }
                    });
                    false
                }
            }
        })
    }

    /// What follows a call that gave a stream something to send: a blocking caller may never call anything else, a user driver is fed at once, and all else goes with the next turn.
    pub(super) fn after_send(&self, patience: Patience) {
        if !self.sends_at_once(patience) {
            return;
        }
        if !patience.is_none() {
            self.turn();
        } else {
            self.flush(self.now());
        }
    }

    /// What follows a call that took something from a stream: its window may have opened.
    pub(super) fn after_receive(&self) {
        if self.sends_at_once(Patience::None) {
            self.flush(self.now());
        }
    }

    /// When the next timer is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let mut earliest = self.with_stack(|stack| stack.next_deadline()).unwrap_or(None);
        self.each_interface(|interface| {
            let link = interface.link.try_borrow_mut();
            if let Some(at) = link.ok().and_then(|mut link| link.as_mut()?.port().next_deadline()) {
                earliest = Some(earliest.map_or(at, |other| other.min(at)));
            }
            false
        });
        earliest
    }

    /// What a blocked call waits for: descriptors, and how long at most without a ring.
    pub(super) fn rest(&self) -> (SmallVec<[RawFd; 8]>, Duration) {
        let mut fds = SmallVec::new();
        let mut at_most = SLEEP_MAX;
        self.each_interface(|interface| {
            if let Some(fd) = interface
                .link
                .try_borrow_mut()
                .ok()
                .and_then(|mut link| Some(link.as_mut()?.port().wait_fd()?.as_raw_fd()))
            {
                fds.push(fd);
            } else if interface.id.get().is_some() && !interface.notifies() {
                at_most = SLEEP_UNNOTIFIED_MAX;
            }
            false
        });
        if self.is_waiting_for_rest() {
            // A device does not say when it has sent something.
            at_most = at_most.min(SLEEP_UNNOTIFIED_MAX);
        }
        if let Some(deadline) = self.next_deadline() {
            at_most = at_most.min(deadline.saturating_since(self.now()).max(SLEEP_MIN));
        }
        (fds, at_most)
    }
}

/// The patience that a call may have where it was made: none within a driver's function.
pub(super) fn within(face: &Inside, patience: Patience) -> Patience {
    if face.is_nested() { Patience::None } else { patience }
}

/// Calls `attempt` until it says something other than would-block, turning the loop between, and sleeping when the turn had nothing to do; beside a worker it sleeps until
/// that has done something.
///
/// # Errors
/// What `attempt` says; `TM_EWOULDBLOCK` when patience is over, when the call was made by one of the application's functions that we called, or when the clock is
/// manual and nothing is left to do until somebody moves it: nobody could.
#[inline]
pub(super) fn wait_for<R>(
    face: &mut Inside,
    patience: Patience,
    mut attempt: impl FnMut(&Face) -> Outcome<R>,
) -> Outcome<R> {
    let mut until = None;
    loop {
        let seen = BEDROOM.rings();
        match attempt(face) {
            Err(WOULD_BLOCK) => rest_once(face, within(face, patience), &mut until, seen)?,
            done => return done,
        }
    }
}

/// Turns the loop, or sleeps, once, of the time until `until`, which is set the first time.
#[cold]
fn rest_once(face: &mut Inside, patience: Patience, until: &mut Option<Instant>, seen: u64) -> Outcome<()> {
    let left = match patience {
        Patience::None => return Err(WOULD_BLOCK),
        Patience::Endless => Duration::MAX,
        Patience::For(time) => {
            let now = face.now();
            let until = *until.get_or_insert(now + time);
            if now >= until && !face.has_manual_clock() {
                return Err(WOULD_BLOCK);
            }
            until.saturating_since(now)
        }
    };
    let (fds, at_most) = if face.may_turn() {
        if face.turn() {
            return Ok(());
        }
        if face.has_manual_clock() {
            return Err(WOULD_BLOCK);
        }
        face.rest()
    } else {
        (SmallVec::new(), SLEEP_BESIDE_WORKER_MAX)
    };
    let at_most = at_most.min(left);
    // A ring by this thread's own turn or an earlier one only makes it look again.
    if at_most > Duration::ZERO {
        face.outside(|| BEDROOM.sleep(seen, &fds, at_most));
    }
    Ok(())
}

fn random_seed() -> Outcome<[u8; 32]> {
    let mut seed = [0u8; 32];
    // SAFETY: the kernel writes at most 32 bytes into `seed`. Requests of up to 256 bytes are not cut short (getrandom(2)).
    let got = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
    if got == seed.len() as isize { Ok(seed) } else { Err(Code(n::TM_EIO)) }
}
