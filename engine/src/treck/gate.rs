//! One lock for the whole C face, which a thread may take again inside a call of its own, and the place where blocked threads sleep.

use super::{
    bias::{self, Bias},
    lock::{Lock, pause},
};
use std::{
    cell::Cell,
    fmt, io,
    marker::PhantomData,
    ops::Deref,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// [`pause`]s before a thread that comes back all the time looks again whether the others have gone: half a microsecond, or less. Too few: it gets in between two calls of one that sends packet after packet, which waits each time; too
/// many: what one call left to do waits.
const GONE_PAUSES: u32 = 4;
/// How often it looks before it takes its turn among them: up to twenty microseconds. A call inside is shorter, but for one that copies a lot or whose thread lost its core.
const POLITE_LOOKS: u32 = 40;

/// What a [`Gate`] guards.
pub(super) trait Guarded {
    /// The thread inside is about to leave. True: [`after_leaving`](Self::after_leaving) shall be called when it has.
    #[inline]
    fn before_leaving(&self) -> bool {
        false
    }

    /// For system calls, which would keep the others waiting.
    fn after_leaving() {}
}

/// A value that one thread at a time uses, and, on a cache line of its own, who that is. The thread that is inside may enter again (a driver's function that calls back), so all that is to be had
/// is a shared reference: what changes is in cells.
#[repr(align(64))]
pub(super) struct Gate<T> {
    lock: Lock,
    bias: Bias,
    /// The thread inside, by [`token`]; 0: none.
    owner: AtomicUsize,
    /// How often that thread has entered.
    depth: Cell<u32>,
    /// How often any thread has since one entered politely. Changed by who has the lock.
    visits: AtomicU32,
    value: T,
}

// SAFETY: `depth` and `value` are reached through an `Entered` alone, and those exist on one thread at a time: the first is made with `lock` held or by the favourite of
// `bias`, never both, more are made only by the thread that has it, and none is `Send`. The lock orders one thread's use before the next one's. The value may therefore hold `Rc`s and `Cell`s as long
// as no clone leaves it past the last `Entered`, which its private type sees to, and nothing in it may be bound to the thread that made it.
unsafe impl<T> Sync for Gate<T> {}

/// How a thread came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// It took the lock, and gives it up.
    Locked,
    Favoured,
    /// It was inside already, and is so once more.
    Nested,
    /// It was inside already.
    Uncounted,
}

/// The calling thread is inside.
pub(super) struct Entered<'a, T: Guarded> {
    gate: &'a Gate<T>,
    how: How,
    /// It stays with its thread.
    thread: PhantomData<*const ()>,
}

/// A number for the calling thread that no other living thread has, and that is not 0.
#[inline]
pub(super) fn token() -> usize {
    thread_local! { static PLACE: u8 = const { 0 } }
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}

impl<T: Guarded> Gate<T> {
    pub(super) const fn new(value: T) -> Self {
        Self {
            lock: Lock::new(),
            bias: Bias::new(AtomicUsize::new(0), AtomicUsize::new(0)),
            owner: AtomicUsize::new(0),
            depth: Cell::new(0),
            visits: AtomicU32::new(0),
            value,
        }
    }

    /// Waits until no other thread is inside.
    #[inline]
    pub(super) fn enter(&self) -> Entered<'_, T> {
        let me = token();
        let how = if self.is_inside(me) {
            self.depth.set(self.depth.get() + 1);
            How::Nested
        } else {
            self.take(me)
        };
        Entered { gate: self, how, thread: PhantomData }
    }

    /// [Enters](Self::enter), unless the calling thread is inside already: then `None`. For less, where the caller lets the compiler see that it never was.
    #[inline(always)]
    pub(super) fn enter_outermost(&self) -> Option<Entered<'_, T>> {
        let me = token();
        (!self.is_inside(me)).then(|| Entered { gate: self, how: self.take(me), thread: PhantomData })
    }

    /// Only the thread itself ever stores its own token, so a relaxed load cannot mistake another's state for it.
    #[inline(always)]
    fn is_inside(&self, me: usize) -> bool {
        self.owner.load(Ordering::Relaxed) == me
    }

    /// [Enters](Self::enter) if the calling thread is inside already, for less.
    #[inline(always)]
    pub(super) fn inside(&self) -> Option<Entered<'_, T>> {
        self.is_inside(token()).then(|| Entered { gate: self, how: How::Uncounted, thread: PhantomData })
    }

    #[inline]
    fn take(&self, me: usize) -> How {
        if self.bias.enter(me) {
            self.settle(me);
            return How::Favoured;
        }
        self.lock.lock();
        self.bias.end();
        self.settle(me);
        self.visits.store(self.visits.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        How::Locked
    }

    /// [Enters](Self::enter) as a thread that comes back all the time: after those who wait, and when those who were inside have not come back for a while. One that took turns with them would make each of
    /// their calls wait.
    pub(super) fn enter_politely(&self) -> Entered<'_, T> {
        let mut seen = 0;
        for _ in 0..POLITE_LOOKS {
            let visits = self.visits.load(Ordering::Relaxed);
            if visits == seen && self.lock.is_idle() && self.lock.try_lock() {
                self.bias.end();
                self.settle(token());
                self.visits.store(0, Ordering::Relaxed);
                return Entered { gate: self, how: How::Locked, thread: PhantomData };
            }
            if visits != seen {
                seen = visits;
                for _ in 0..GONE_PAUSES {
                    pause();
                }
            }
            pause();
        }
        let entered = self.enter();
        self.visits.store(0, Ordering::Relaxed);
        entered
    }

    /// The thread has come in.
    #[inline]
    fn settle(&self, me: usize) {
        self.owner.store(me, Ordering::Relaxed);
        self.depth.set(1);
    }
}

impl<T: Guarded> Entered<'_, T> {
    #[inline]
    fn release(&mut self) {
        let afterwards = self.gate.value.before_leaving();
        self.gate.owner.store(0, Ordering::Relaxed);
        match self.how {
            How::Favoured => self.gate.bias.leave(),
            How::Locked => self.gate.lock.unlock(),
            How::Nested | How::Uncounted => {}
        }
        if afterwards {
            T::after_leaving();
        }
    }

    #[inline]
    fn is_outermost(&self) -> bool {
        matches!(self.how, How::Locked | How::Favoured)
    }

    /// The thread was inside already: this call was made by one of the application's functions that we called.
    #[inline]
    pub(super) fn is_nested(&self) -> bool {
        self.how == How::Uncounted || self.gate.depth.get() > 1
    }

    /// Leaves, runs `f`, enters again; nested calls cannot leave and do not run it. Taking `&mut self` ends every borrow of the value before.
    pub(super) fn outside(&mut self, f: impl FnOnce()) {
        if !self.is_outermost() || self.is_nested() {
            return;
        }
        self.release();
        f();
        self.how = self.gate.take(token());
    }

    /// From the next time on the calling thread comes and goes for less, until another one comes. For the thread that comes most, if threads share the gate at all; the first one that asks is it.
    pub(super) fn favour(&self) {
        if self.is_outermost() && bias::is_possible() {
            self.gate.bias.begin(token());
        }
    }
}

impl<T: Guarded> Deref for Entered<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.gate.value
    }
}

impl<T: Guarded> Drop for Entered<'_, T> {
    #[inline]
    fn drop(&mut self) {
        match self.how {
            How::Locked | How::Favoured => self.release(),
            How::Nested => self.gate.depth.set(self.gate.depth.get().saturating_sub(1)),
            How::Uncounted => {}
        }
    }
}

impl<T> fmt::Debug for Gate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

/// A descriptor that whoever sleeps in `ppoll` watches, and that others ring.
pub(super) struct Bell(OnceLock<OwnedFd>);

impl Bell {
    pub(super) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Makes it, unless it is there.
    ///
    /// # Errors
    /// The kernel gives no eventfd.
    pub(super) fn hang(&self) -> io::Result<()> {
        if self.0.get().is_some() {
            return Ok(());
        }
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns. If another thread was faster, this one is closed again.
        let _ = self.0.set(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(())
    }

    /// Wakes who watches it, or who will next.
    pub(super) fn ring(&self) {
        if let Some(bell) = self.0.get() {
            let one = 1u64;
            // SAFETY: eight bytes of `one` are read. A full counter (EAGAIN) means that it rings already.
            unsafe { libc::write(bell.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
        }
    }

    /// Sleeps until it rings, one of `fds` is readable, or `at_most` later; then it is silent. May return early.
    pub(super) fn watch(&self, fds: &[RawFd], at_most: Duration) {
        let Some(bell) = self.0.get() else { return };
        wait_readable(fds, bell.as_raw_fd(), at_most);
        let mut count = 0u64;
        // SAFETY: eight bytes of `count` are written. EAGAIN: it did not ring.
        unsafe { libc::read(bell.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}

/// Where blocked threads sleep. One of them, the watcher, sleeps in `ppoll` on the interfaces' descriptors and the bell; the others wait for it, or for
/// whoever else makes something happen, to ring. Without descriptors to watch (user drivers) all wait for a ring, and there is no bell.
pub(super) struct Bedroom {
    rings: AtomicU64,
    /// Those by the thread inside the gate, which alone changes it.
    rings_inside: AtomicU64,
    /// Who sleeps, or is about to: they say so inside the gate.
    sleepers: AtomicUsize,
    watched: Mutex<bool>,
    rang: Condvar,
    bell: Bell,
}

impl Bedroom {
    pub(super) const fn new() -> Self {
        Self {
            rings: AtomicU64::new(0),
            rings_inside: AtomicU64::new(0),
            sleepers: AtomicUsize::new(0),
            watched: Mutex::new(false),
            rang: Condvar::new(),
            bell: Bell::new(),
        }
    }

    /// Makes the bell that a watcher needs.
    ///
    /// # Errors
    /// The kernel gives no eventfd.
    #[cfg_attr(not(feature = "af-xdp"), allow(dead_code, reason = "user drivers have nothing to watch"))]
    pub(super) fn hang_bell(&self) -> io::Result<()> {
        self.bell.hang()
    }

    /// How often it rang: to be read inside the gate, before looking whether there is something to do, and given to [`sleep`](Self::sleep).
    pub(super) fn rings(&self) -> u64 {
        self.rings.load(Ordering::SeqCst).wrapping_add(self.rings_inside.load(Ordering::Relaxed))
    }

    /// Something happened: whoever sleeps looks again. From any thread.
    pub(super) fn ring(&self) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        // Either a sleeper sees the count above before it sleeps, or it is seen here: both are sequentially consistent.
        if self.sleepers.load(Ordering::SeqCst) != 0 {
            self.ring_sleepers();
        }
    }

    #[cold]
    fn ring_sleepers(&self) {
        // A sleeper looks at the count once more with the lock held, before it says that it watches.
        let watched = *self.lock();
        self.rang.notify_all();
        if watched {
            self.bell.ring();
        }
    }

    /// The same inside the gate, for less where nobody sleeps: who goes to sleep later has looked later, or is this thread, which finds the count changed.
    #[inline]
    pub(super) fn ring_inside(&self) {
        self.rings_inside.store(self.rings_inside.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if self.sleepers.load(Ordering::Relaxed) != 0 {
            self.ring_sleepers();
        }
    }

    /// By who is inside the gate, and will leave it only to [`sleep`](Self::sleep).
    pub(super) fn lie_down(&self) {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
    }

    /// By who lay down.
    pub(super) fn get_up(&self) {
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Sleeps until a ring after number `seen`, a readable descriptor, or `at_most` later. May return early.
    pub(super) fn sleep(&self, seen: u64, fds: &[RawFd], at_most: Duration) {
        let mut watched = self.lock();
        if self.rings() == seen {
            if self.bell.0.get().is_some() && !fds.is_empty() && !*watched {
                *watched = true;
                drop(watched);
                self.bell.watch(fds, at_most);
                *self.lock() = false;
                // One of the others watches from now on, if this one does not come back.
                self.rang.notify_all();
            } else {
                let _ = self.rang.wait_timeout(watched, at_most);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Errors (a signal, say) only make it short.
fn wait_readable(fds: &[RawFd], bell: RawFd, at_most: Duration) {
    let mut polled: smallvec::SmallVec<[libc::pollfd; 8]> =
        fds.iter().chain([&bell]).map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    let timeout = libc::timespec {
        tv_sec: at_most.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: at_most.subsec_nanos().into(),
    };
    // SAFETY: pointer and length describe `polled`, which outlives the call; so does `timeout`; the signal mask is left alone.
    unsafe {
        libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, &raw const timeout, std::ptr::null());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, sync::Arc, thread, time::Instant};

    impl<T> Guarded for Cell<T> {}
    impl<T> Guarded for RefCell<T> {}

    #[test]
    fn one_thread_at_a_time_and_that_one_again() {
        let gate = Arc::new(Gate::new(RefCell::new(0u64)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let gate = gate.clone();
                thread::spawn(move || {
                    for _ in 0..2_000 {
                        let outer = gate.enter();
                        let before = *outer.borrow();
                        let inner = gate.enter();
                        assert!(inner.is_nested() && outer.is_nested());
                        *inner.borrow_mut() = before + 1;
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(*gate.enter().borrow(), 8_000);
        assert!(!gate.enter().is_nested());
    }

    #[test]
    fn outside_lets_others_in_and_nested_calls_stay() {
        let gate = Arc::new(Gate::new(Cell::new(0)));
        let mut entered = gate.enter();
        let other = gate.clone();
        entered.outside(|| thread::spawn(move || other.enter().set(7)).join().expect("no panic"));
        assert_eq!(entered.get(), 7);
        let mut nested = gate.enter();
        nested.outside(|| panic!("a nested call must not leave"));
        drop(nested);
        assert!(!entered.is_nested());
    }

    #[test]
    fn the_favourite_is_one_of_many_once_another_thread_comes() {
        let gate = Arc::new(Gate::new(Cell::new(0u64)));
        gate.enter().favour();
        let mut entered = gate.enter();
        assert_eq!(entered.how, How::Favoured);
        let inside = gate.inside().expect("it is");
        inside.set(1);
        assert!(inside.is_nested() && !entered.is_nested());
        drop(inside);
        let other = thread::spawn({
            let gate = gate.clone();
            move || {
                assert!(gate.inside().is_none());
                let entered = gate.enter();
                entered.set(entered.get() + 1);
                assert_eq!(entered.how, How::Locked);
            }
        });
        // It gets in while the favourite is outside, for a moment.
        entered.outside(|| other.join().expect("no panic"));
        assert_eq!((entered.get(), entered.how), (2, How::Locked));
        drop(entered);
        gate.enter().favour();
        assert_eq!(gate.enter().how, How::Locked);
        assert!(gate.inside().is_none());
    }

    #[test]
    fn who_comes_back_all_the_time_lets_the_others_in() {
        let gate = Arc::new(Gate::new(Cell::new(0u64)));
        let (calls, rounds) = (4, 2_000);
        let callers: Vec<_> = (0..calls)
            .map(|_| {
                let gate = gate.clone();
                thread::spawn(move || (0..rounds).for_each(|_| gate.enter().set(gate.enter().get() + 1)))
            })
            .collect();
        // It ends only if they all get in.
        loop {
            let entered = gate.enter_politely();
            assert!(!entered.is_nested());
            if entered.get() == calls * rounds {
                break;
            }
        }
        for caller in callers {
            caller.join().expect("no panic");
        }
    }

    #[test]
    fn a_ring_wakes_sleepers_with_and_without_descriptors() {
        let room = Arc::new(Bedroom::new());
        room.hang_bell().expect("an eventfd");
        // A descriptor that never becomes readable: the bell of another room.
        let quiet = Arc::new(Bedroom::new());
        quiet.hang_bell().expect("an eventfd");
        let fd = quiet.bell.0.get().expect("hung").as_raw_fd();
        let begun = Instant::now();
        let sleepers: Vec<_> = [vec![], vec![fd], vec![fd]]
            .into_iter()
            .map(|fds| {
                room.lie_down();
                let (room, seen) = (room.clone(), room.rings());
                thread::spawn(move || {
                    while room.rings() == seen {
                        room.sleep(seen, &fds, Duration::from_secs(20));
                    }
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(20));
        room.ring();
        for sleeper in sleepers {
            sleeper.join().expect("no panic");
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
        (0..3).for_each(|_| room.get_up());
        // A ring between looking and sleeping is not lost.
        for ring in [Bedroom::ring, Bedroom::ring_inside] {
            let seen = room.rings();
            ring(&room);
            let begun = Instant::now();
            room.sleep(seen, &[], Duration::from_secs(20));
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
    }
}
