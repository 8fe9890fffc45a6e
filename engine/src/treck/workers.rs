//! The threaded way to run: worker threads turn the loop, and any thread may call.
//!
//! ```text
//!   queue ─┐ dealt   worker 0 ─┐ one inside the gate at a time: its queues' frames, timers, events, what is to be sent
//!   queue ─┼───────► worker 1 ─┼─► outside: the system calls that make the kernel send on its queues, and its sleep
//!   queue ─┘         …        ─┘
//! ```
//!
//! The stack is one, as any thread may call any socket, and takes a tenth of a microsecond for a packet; what workers share out among them is the kernel's work, ten times as much. They let those in first who wait at the
//! gate. One that finds nothing to do spins for a while and then sleeps on its queues' descriptors and its bell. Calls find the gate open or spin until it is: a system call is made only to wake a worker, when all sleep, or by a
//! call that has to wait for something. A worker that finds something for another's queue calls that one.

use super::{
    error::{Code, INVALID, Outcome, WOULD_BLOCK, explain, returned},
    face::{self, BEDROOM, Inside, Turner},
    gate::Bell,
    lock::pause,
    numbers as n,
    park::{Bed, wake_up},
    queue::{Done, Errands},
};
use crate::{
    runtime::{Backoff, IdleConfig, IdlePolicy, Idler},
    time::Instant,
};
use core_affinity::CoreId;
use std::{
    cell::Cell,
    ffi::c_int,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
    thread::{self, JoinHandle},
};

/// Most workers: as many as a word has bits.
const WORKERS_MAX: usize = u64::BITS as usize;

/// Wakes workers.
pub(super) static DOORBELL: Doorbell = Doorbell::new();

/// Where workers sleep.
static POSTS: [Post; WORKERS_MAX] = [const { Post { asleep: AtomicBool::new(false), bell: Bell::new() } }; WORKERS_MAX];

/// The workers' threads, for who stops them.
static THREADS: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// The calling thread is a worker's.
#[inline]
pub(super) fn is_worker() -> bool {
    IS_WORKER.get()
}

/// On a cache line of its own: whoever sleeps is looked at by the others.
#[repr(align(64))]
struct Post {
    /// The worker sleeps, or will after one more turn.
    asleep: AtomicBool,
    bell: Bell,
}

#[cold]
fn wake(workers: u64) {
    for post in bits(workers).filter_map(|at| POSTS.get(at)) {
        if post.asleep.swap(false, Ordering::SeqCst) {
            post.bell.ring();
        }
    }
}

fn bits(mut word: u64) -> impl Iterator<Item = usize> + Clone {
    std::iter::from_fn(move || {
        let at = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(at)
    })
}

/// For the threads that are not workers.
///
/// A worker says that it sleeps while it is inside the gate, and then turns once more. So a call either comes before that turn, which finds what it left to do, or sees
/// that all sleep: the gate orders them, and no fence is needed. Drivers, which tell of frames without entering the gate, need one.
pub(super) struct Doorbell {
    /// Workers run.
    hung: AtomicBool,
    /// None of them is awake: whoever leaves the gate wakes one.
    asleep: AtomicBool,
    /// Whom.
    chosen: AtomicU64,
}

impl Doorbell {
    const fn new() -> Self {
        Self { hung: AtomicBool::new(false), asleep: AtomicBool::new(false), chosen: AtomicU64::new(0) }
    }

    /// All workers sleep. To be asked inside the gate.
    #[inline]
    pub(super) fn sleeps(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Whom [`wake`](Self::wake) shall wake.
    pub(super) fn choose(&self, workers: u64) {
        self.chosen.fetch_or(workers, Ordering::Relaxed);
    }

    /// Wakes who was chosen.
    #[cold]
    pub(super) fn wake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        wake(self.chosen.swap(0, Ordering::Relaxed));
    }

    /// Wakes a worker if it sleeps, from outside the gate; false if there are none.
    pub(super) fn wake_from_outside(&self, worker: usize) -> bool {
        // After the driver's frame is where its `recv` will find it: with the fence in `fall_asleep` either the worker's last turn finds the frame, or this that it sleeps. The same
        // holds for `hung`, and for who sleeps in the bedroom when the workers have ended.
        fence(Ordering::SeqCst);
        let hung = self.is_hung();
        if hung {
            self.wake_from_inside(worker);
        }
        hung
    }

    /// There are workers.
    #[inline]
    pub(super) fn is_hung(&self) -> bool {
        self.hung.load(Ordering::Relaxed)
    }

    /// The same from inside the gate, where nobody is just falling asleep, and if there are workers.
    #[inline]
    pub(super) fn wake_from_inside(&self, worker: usize) {
        if POSTS.get(worker).is_some_and(|post| post.asleep.load(Ordering::Relaxed)) {
            wake(1 << worker);
        }
    }
}

/// One of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Worker(usize);

impl Worker {
    /// From 0.
    pub(super) fn number(self) -> usize {
        self.0
    }

    fn bit(self) -> u64 {
        1 << self.0
    }

    fn post(self) -> &'static Post {
        // Numbers are below `WORKERS_MAX`.
        &POSTS[self.0 % WORKERS_MAX]
    }
}

/// What the workers know of each other, inside the gate. Sets of workers are words with a bit for each.
#[derive(Debug)]
pub(super) struct Crew {
    alive: Cell<u64>,
    asleep: Cell<u64>,
    /// Who has something to do that another one found.
    called: Cell<u64>,
    /// Of those, who is yet to be woken.
    to_wake: Cell<u64>,
    /// One that sleeps until the next timer is due, so that the others need not.
    timekeeper: Cell<Option<(Worker, Instant)>>,
}

impl Crew {
    pub(super) const fn new() -> Self {
        Self {
            alive: Cell::new(0),
            asleep: Cell::new(0),
            called: Cell::new(0),
            to_wake: Cell::new(0),
            timekeeper: Cell::new(None),
        }
    }

    pub(super) fn alive(&self) -> u64 {
        self.alive.get()
    }

    /// Their numbers.
    pub(super) fn members(&self) -> impl Iterator<Item = usize> + Clone {
        bits(self.alive.get())
    }

    /// They have something to do.
    pub(super) fn call(&self, workers: u64) {
        let sleepers = workers & self.asleep.get();
        self.called.set(self.called.get() | workers);
        if is_worker() {
            self.to_wake.set(self.to_wake.get() | sleepers);
        } else if sleepers != 0 {
            // Whoever leaves the gate does it.
            DOORBELL.choose(sleepers);
            DOORBELL.asleep.store(true, Ordering::Relaxed);
        }
    }

    /// Somebody has [called](Self::call) since the last time.
    pub(super) fn was_called(&self, worker: Worker) -> bool {
        let called = self.called.get();
        self.called.set(called & !worker.bit());
        called & worker.bit() != 0
    }

    /// The worker is about to sleep: whether it shall wake when the next timer is due, at `deadline`.
    pub(super) fn keeps_time(&self, worker: Worker, deadline: Instant) -> bool {
        if let Some((keeper, at)) = self.timekeeper.get()
            && keeper != worker
            && at <= deadline
        {
            return false;
        }
        self.timekeeper.set(Some((worker, deadline)));
        true
    }

    fn fall_asleep(&self, worker: Worker) {
        worker.post().asleep.store(true, Ordering::Relaxed);
        self.asleep.set(self.asleep.get() | worker.bit());
        if self.alive.get() & !self.asleep.get() == 0 {
            DOORBELL.asleep.store(true, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }

    fn stay_awake(&self, worker: Worker) {
        worker.post().asleep.store(false, Ordering::Relaxed);
        self.asleep.set(self.asleep.get() & !worker.bit());
        if self.timekeeper.get().is_some_and(|(keeper, _)| keeper == worker) {
            self.timekeeper.set(None);
        }
        DOORBELL.asleep.store(false, Ordering::Relaxed);
    }
}

/// `int tfStartWorkers(int n)`: from now on `n` threads of the library's, the workers, turn the loop, and any thread may call. The queues of all interfaces, of those too that are opened later, are dealt to them in turn, so more workers than queues have nothing to do. Where the calling thread may use as many cores,
/// each runs on one of its own, from the last down; with another core beside them, they spin while there is something to do and 50 us beyond, and sleep otherwise. Callbacks and the drivers' functions run on any of them, one at a time. Errors: `TM_EINVAL` (`n` is not 1 to
/// 64, not started, or the clock is manual), `TM_EALREADY`, `TM_EIO` (no thread to be had). An addition of ours.
#[unsafe(no_mangle)]
pub extern "C" fn tfStartWorkers(n: c_int) -> c_int {
    returned(start(face::enter(), n))
}

fn start(face: Inside, count: c_int) -> Outcome<()> {
    let count = usize::try_from(count).ok().filter(|count| (1..=WORKERS_MAX).contains(count)).ok_or_else(|| {
        explain(INVALID, format_args!("tfStartWorkers: {count} is not a number from 1 to {WORKERS_MAX}"))
    })?;
    if !face.is_started() {
        return Err(explain(INVALID, "tfStartWorkers: call tfStartTreck first"));
    }
    if face.has_manual_clock() {
        return Err(explain(INVALID, "tfStartWorkers: with a manual clock the application turns the loop"));
    }
    if face.turner.get() != Turner::Callers {
        return Err(explain(Code(n::TM_EALREADY), "tfStartWorkers: workers run already"));
    }
    let refused = |error: io::Error| explain(Code(n::TM_EIO), format_args!("tfStartWorkers: {error}"));
    let (cores, idle) = places(&core_affinity::get_core_ids().unwrap_or_default(), count);
    let mut started = Vec::with_capacity(count);
    let outcome = (0..count).try_for_each(|number| {
        let worker = Worker(number);
        worker.post().bell.hang()?;
        // The new thread waits at the gate until this call is over.
        let core = cores.get(number).copied();
        let name = format!("fw-worker-{number}");
        started.push(thread::Builder::new().name(name).spawn(move || run(worker, core, idle))?);
        face.crew.alive.set(face.crew.alive.get() | worker.bit());
        Ok(())
    });
    face.turner.set(if outcome.is_ok() { Turner::Workers } else { Turner::Stopping });
    if let Err(error) = outcome {
        return join(face, started).and(Err(refused(error)));
    }
    *THREADS.lock().unwrap_or_else(PoisonError::into_inner) = started;
    DOORBELL.asleep.store(false, Ordering::Relaxed);
    DOORBELL.hung.store(true, Ordering::Relaxed);
    face.deal();
    // Who turned the loop while it waited sleeps from now on, and is woken by a worker.
    face.ring_all();
    Ok(())
}

/// A core for each of `count` workers, if there are as many, and what they do when there is nothing to do.
fn places(cores: &[CoreId], count: usize) -> (Vec<CoreId>, IdleConfig) {
    let mut idle = IdleConfig::default();
    if cores.len() <= count {
        // Spinning would only keep the others from running.
        idle.policy = IdlePolicy::Sleep;
    }
    let own = if cores.len() >= count { cores.iter().rev().take(count).copied().collect() } else { Vec::new() };
    (own, idle)
}

/// `int tfStopWorkers(void)`: the workers end their turns and then themselves; when this returns, who calls turns the loop, as before [`tfStartWorkers`]. Sockets, and calls that wait in them, go on. Errors: `TM_EINVAL` (none runs), `TM_EALREADY` (another thread stops them),
/// `TM_EWOULDBLOCK` (from a callback or a driver's function). An addition of ours.
#[unsafe(no_mangle)]
pub extern "C" fn tfStopWorkers() -> c_int {
    returned(stop(face::enter()))
}

fn stop(face: Inside) -> Outcome<()> {
    match face.turner.get() {
        Turner::Callers => return Err(explain(INVALID, "tfStopWorkers: no worker runs")),
        Turner::Stopping => return Err(Code(n::TM_EALREADY)),
        Turner::Workers => {}
    }
    if face.is_nested() {
        return Err(WOULD_BLOCK);
    }
    face.turner.set(Turner::Stopping);
    let threads = std::mem::take(&mut *THREADS.lock().unwrap_or_else(PoisonError::into_inner));
    join(face, threads)
}

/// Waits for workers, which are to stop.
fn join(face: Inside, threads: Vec<JoinHandle<()>>) -> Outcome<()> {
    let workers = face.crew.alive();
    drop(face);
    wake(workers);
    for thread in threads {
        // One that panicked has ended too.
        let _ = thread.join();
    }
    Ok(())
}

/// However a worker's thread ends, the others take over its queues, and after the last one callers turn the loop again.
struct Seat(Worker);

impl Drop for Seat {
    fn drop(&mut self) {
        let face = face::enter();
        face.crew.stay_awake(self.0);
        face.crew.alive.set(face.crew.alive() & !self.0.bit());
        face.crew.called.set(face.crew.called.get() & !self.0.bit());
        if face.crew.alive() != 0 {
            face.deal();
            return leave(face, &mut Chores::default());
        }
        face.turner.set(Turner::Callers);
        DOORBELL.hung.store(false, Ordering::Relaxed);
        face.ring_all();
        leave(face, &mut Chores::default());
        // A driver that found the doorbell hung has rung nobody.
        fence(Ordering::SeqCst);
        BEDROOM.ring();
    }
}

/// A worker's thread.
fn run(me: Worker, core: Option<CoreId>, idle: IdleConfig) {
    block_signals();
    if let Some(core) = core {
        core_affinity::set_for_current(core);
    }
    IS_WORKER.set(true);
    let mut idler = Idler::new(idle);
    let mut chores = Chores::default();
    let _seat = Seat(me);
    // What `Face::quiet_until` said since the last turn that did something.
    let mut quiet: Option<Option<Instant>> = None;
    let mut backoff = Backoff::default();
    // When to look again at a device that does not send what it has.
    let mut again: Option<Instant> = None;
    let mut slept = false;
    loop {
        let inside = face::enter_politely();
        inside.take_notice(&mut chores.errands);
        if std::mem::take(&mut slept) {
            inside.crew.stay_awake(me);
        }
        if inside.turner.get() == Turner::Stopping {
            return;
        }
        if quiet.is_none_or(|until| inside.has_work(me, until)) || (again.is_some() && inside.has_completed(me)) {
            let Done { mut worked, stuck } = inside.turn_of(me, &mut chores.errands);
            again = None;
            if worked {
                backoff.busy();
            } else if stuck {
                again = backoff.pause(inside.now());
                worked = again.is_none();
            }
            quiet = match again {
                _ if worked => None,
                Some(again) => Some(inside.next_deadline().into_iter().chain([again]).min()),
                None => inside.quiet_until(me),
            };
            if worked {
                idler.busy();
                inside.crew.stay_awake(me);
            }
            if worked || chores.errands.are_due() {
                leave(inside, &mut chores);
                continue;
            }
        }
        let deadline = quiet.unwrap_or_else(|| inside.next_deadline());
        // One without queues is called if there is something for it.
        if inside.has_queues(me) && idler.idle(inside.now(), deadline).is_none() {
            inside.crew.stay_awake(me);
            leave(inside, &mut chores);
            pause();
            continue;
        }
        if !me.post().asleep.load(Ordering::Relaxed) {
            // One more turn, after which whoever calls or notifies sees it.
            inside.crew.fall_asleep(me);
            leave(inside, &mut chores);
            quiet = None;
            continue;
        }
        let (fds, at_most) = inside.rest_of(me);
        let at_most = again.map_or(at_most, |at| at.saturating_since(inside.now()).min(at_most));
        leave(inside, &mut chores);
        me.post().bell.watch(&fds, at_most);
        (slept, quiet) = (true, None);
    }
}

/// What a worker does outside the gate.
#[derive(Debug, Default)]
struct Chores {
    rung: Vec<Arc<Bed>>,
    errands: Errands,
}

/// Leaves the gate, wakes those for whom something was found, and then makes the system calls for the worker's own queues.
fn leave(inside: Inside, chores: &mut Chores) {
    let workers = inside.crew.to_wake.take();
    inside.lounge.take_rung(&mut chores.rung);
    drop(inside);
    wake(workers);
    wake_up(&mut chores.rung);
    chores.errands.run();
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
