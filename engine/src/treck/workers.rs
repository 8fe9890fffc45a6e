//! The threaded way to run: a worker thread turns the loop, and any thread may call.
//!
//! The worker is inside the gate for a turn at a time, and lets those in first who wait. Between turns in which nothing was to be done it spins for a while and then sleeps on the interfaces'
//! descriptors and the [`DOORBELL`]. Calls find the gate open or spin until it is: a system call is made only to wake a worker that sleeps, or by a call that has to wait for something.
//!
//! One stack has one worker: there is one stack, with one queue of one AF_XDP interface, so more workers would have nothing to do.

use super::{
    error::{Code, INVALID, Outcome, UNSUPPORTED, WOULD_BLOCK, explain, returned},
    face::{self, BEDROOM, Face, Inside, Turner},
    gate::{Bell, pause, token},
    numbers as n,
};
use crate::{
    runtime::{IdleConfig, IdlePolicy, Idler},
    time::Instant,
};
use std::{
    ffi::c_int,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread::{self, JoinHandle},
};

/// Wakes the worker.
pub(super) static DOORBELL: Doorbell = Doorbell::new();

/// The worker's thread, for who stops it.
static THREAD: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// See [`DOORBELL`].
///
/// The worker says that it sleeps while it is inside the gate, and then turns once more. So a call either comes before that turn, which finds what it left to do, or sees
/// that the worker sleeps: the gate orders them, and no fence is needed. Drivers, which tell of frames without entering the gate, need one.
pub(super) struct Doorbell {
    /// A worker runs.
    hung: AtomicBool,
    /// It sleeps, or will after one more turn.
    asleep: AtomicBool,
    bell: Bell,
}

impl Doorbell {
    const fn new() -> Self {
        Self { hung: AtomicBool::new(false), asleep: AtomicBool::new(false), bell: Bell::new() }
    }

    /// The worker sleeps. To be asked inside the gate.
    #[inline]
    pub(super) fn sleeps(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Wakes the worker.
    #[cold]
    pub(super) fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    /// Wakes the worker if it sleeps, from outside the gate; false if there is no worker.
    pub(super) fn wake_from_outside(&self) -> bool {
        // After the driver's frame is where its `recv` will find it: with the fence in `fall_asleep` either the worker's last turn finds the frame, or this that it sleeps. The same
        // holds for `hung`, and for who sleeps in the bedroom when the worker has ended.
        fence(Ordering::SeqCst);
        if !self.hung.load(Ordering::Relaxed) {
            return false;
        }
        if self.asleep.load(Ordering::Relaxed) {
            self.wake();
        }
        true
    }

    fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn stay_awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

/// `int tfStartWorkers(int n)`: from now on a thread of the library's, the worker, turns the loop, and any thread may call. It runs on the last core that the calling thread may use; with another one beside it, it spins while there is something to do and 50 us beyond, and sleeps otherwise. Callbacks and the
/// drivers' `send`, `recv` and `freeRecv` run on it. `n` is 1: in this version there is one stack, with one queue. Errors: `TM_EINVAL` (`n` is less than 1, not started, or the clock is manual), `TM_EALREADY`, `TM_EOPNOTSUPP` (`n` is more
/// than 1), `TM_EIO` (no thread to be had). An addition of ours.
#[unsafe(no_mangle)]
pub extern "C" fn tfStartWorkers(n: c_int) -> c_int {
    returned(start(&face::enter(), n))
}

fn start(face: &Face, count: c_int) -> Outcome<()> {
    if count < 1 {
        return Err(explain(INVALID, format_args!("tfStartWorkers: {count} workers cannot run a stack")));
    }
    if !face.is_started() {
        return Err(explain(INVALID, "tfStartWorkers: call tfStartTreck first"));
    }
    if face.has_manual_clock() {
        return Err(explain(INVALID, "tfStartWorkers: with a manual clock the application turns the loop"));
    }
    if face.turner.get() != Turner::Callers {
        return Err(explain(Code(n::TM_EALREADY), "tfStartWorkers: a worker runs already"));
    }
    if count > 1 {
        return Err(explain(UNSUPPORTED, "tfStartWorkers: there is one stack with one queue, which one worker turns"));
    }
    let refused = |error| explain(Code(n::TM_EIO), format_args!("tfStartWorkers: {error}"));
    DOORBELL.bell.hang().map_err(refused)?;
    // The new thread waits at the gate until this call is over.
    let thread = thread::Builder::new().name("fw-worker".into()).spawn(run).map_err(refused)?;
    *THREAD.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    face.turner.set(Turner::Starting);
    DOORBELL.stay_awake();
    DOORBELL.hung.store(true, Ordering::Relaxed);
    // Who turned the loop while it waited sleeps from now on, and is woken by the worker.
    BEDROOM.ring();
    Ok(())
}

/// `int tfStopWorkers(void)`: the worker ends its turn and then itself; when this returns, who calls turns the loop, as before [`tfStartWorkers`]. Sockets, and calls that wait in them, go on. Errors: `TM_EINVAL` (none runs), `TM_EALREADY` (another thread stops it),
/// `TM_EWOULDBLOCK` (from a callback or a driver's function). An addition of ours.
#[unsafe(no_mangle)]
pub extern "C" fn tfStopWorkers() -> c_int {
    returned(stop(face::enter()))
}

fn stop(face: Inside) -> Outcome<()> {
    let who = match face.turner.get() {
        Turner::Callers => return Err(explain(INVALID, "tfStopWorkers: no worker runs")),
        Turner::Stopping(_) => return Err(Code(n::TM_EALREADY)),
        // It has no token yet, and needs none to see that it shall stop.
        Turner::Starting => 0,
        Turner::Worker(who) => who,
    };
    if face.is_nested() {
        return Err(WOULD_BLOCK);
    }
    face.turner.set(Turner::Stopping(who));
    let thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner).take();
    // Leaving wakes it.
    drop(face);
    if let Some(thread) = thread {
        // One that panicked has ended too.
        let _ = thread.join();
    }
    Ok(())
}

/// However the worker's thread ends, callers turn the loop again.
struct Seat;

impl Drop for Seat {
    fn drop(&mut self) {
        let face = face::enter();
        face.turner.set(Turner::Callers);
        DOORBELL.stay_awake();
        DOORBELL.hung.store(false, Ordering::Relaxed);
        drop(face);
        fence(Ordering::SeqCst);
        BEDROOM.ring();
    }
}

/// The worker's thread.
fn run() {
    block_signals();
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let mut idle = IdleConfig::default();
    match cores[..] {
        [.., last] if cores.len() > 1 => {
            core_affinity::set_for_current(last);
        }
        // Spinning would only keep the others from running.
        _ => idle.policy = IdlePolicy::Sleep,
    }
    let mut idler = Idler::new(idle);
    let _seat = Seat;
    // What `Face::quiet_until` said since the last turn that did something.
    let mut quiet: Option<Option<Instant>> = None;
    loop {
        let inside = face::enter_politely();
        match inside.turner.get() {
            Turner::Stopping(_) => return,
            Turner::Starting => inside.turner.set(Turner::Worker(token())),
            Turner::Worker(_) | Turner::Callers => {}
        }
        if quiet.is_none_or(|until| inside.has_work(until)) {
            if inside.turn() {
                quiet = None;
                idler.busy();
                DOORBELL.stay_awake();
                continue;
            }
            quiet = inside.quiet_until();
        }
        if idler.idle(inside.now(), quiet.unwrap_or_else(|| inside.next_deadline())).is_none() {
            DOORBELL.stay_awake();
            drop(inside);
            pause();
            continue;
        }
        if !DOORBELL.sleeps() {
            // One more turn, after which whoever calls or notifies sees it.
            DOORBELL.fall_asleep();
            quiet = None;
            continue;
        }
        let (fds, at_most) = inside.rest();
        drop(inside);
        DOORBELL.bell.watch(&fds, at_most);
        DOORBELL.stay_awake();
        quiet = None;
    }
}

/// Signals are the application's, on its own threads.
fn block_signals() {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the first call fills in the set; the second reads it, and changes this thread's mask alone.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
    }
}
