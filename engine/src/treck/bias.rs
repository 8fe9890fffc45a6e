//! A lock's bias towards one thread: that one comes and goes by loads and stores, where a lock takes two atomic read-modify-writes (some ten nanoseconds). Another thread takes the lock, and then the bias away,
//! for good.
//!
//! ```text
//!   favourite   inside = 1 ── no barrier ── still mine? ─► in, else by the lock
//!   another     the lock ── whose = nobody's ── barrier on all cores ── wait while inside ─► in
//! ```
//!
//! Either the favourite sees that it is none any more, or the other one that it is inside. The barrier that each of the favourite's entries would need for that the kernel gives on its behalf, once: `membarrier(2)`.

use super::lock::{PATIENCE, pause};
use std::{
    ffi::{c_int, c_uint},
    sync::atomic::{AtomicUsize, Ordering, compiler_fence, fence},
    thread,
    time::Duration,
};

/// Nobody's yet.
const NOBODY: usize = 0;
/// Nobody's any more: a second favourite could not be told from the first one, which may be about to see that it is none.
const OVER: usize = usize::MAX;

/// Looks at whether the favourite has left, before sleeping between them.
const LOOKS: u32 = 1_000;

/// A word that threads share; in tests a model of one.
pub(super) trait Word {
    fn load(&self, order: Ordering) -> usize;
    fn store(&self, value: usize, order: Ordering);
    /// On the favourite's side: what is before it and what is behind it stay so, where the other side calls [`everywhere`](Self::everywhere).
    fn here();
    /// All threads of the process pass a full barrier.
    fn everywhere();
    /// Another thread is to go on.
    fn wait(times: u32);
}

impl Word for AtomicUsize {
    #[inline(always)]
    fn load(&self, order: Ordering) -> usize {
        self.load(order)
    }

    #[inline(always)]
    fn store(&self, value: usize, order: Ordering) {
        self.store(value, order);
    }

    #[inline(always)]
    fn here() {
        compiler_fence(Ordering::SeqCst);
    }

    fn everywhere() {
        fence(Ordering::SeqCst);
        if !membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED) && !membarrier(libc::MEMBARRIER_CMD_GLOBAL) {
            // It was there when the bias began, so a filter of system calls has come since. What can be overtaken is a store that its core has not written yet: within the next timer interrupt it has.
            thread::sleep(BARRIER_INSTEAD);
        }
    }

    fn wait(times: u32) {
        if times < LOOKS { pause() } else { thread::sleep(PATIENCE) }
    }
}

/// Some timer interrupts of the slowest kernel (100 a second).
const BARRIER_INSTEAD: Duration = Duration::from_millis(50);

fn membarrier(command: c_int) -> bool {
    let (flags, cpu): (c_uint, c_int) = (0, 0);
    // SAFETY: no memory is involved.
    unsafe { libc::syscall(libc::SYS_membarrier, command, flags, cpu) == 0 }
}

/// The kernel will give the barriers that a [`Bias`] needs. To be asked for before one begins.
pub(super) fn is_possible() -> bool {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
}

/// See the module. Threads are told apart by numbers other than 0 and `usize::MAX`.
pub(super) struct Bias<W = AtomicUsize> {
    whose: W,
    inside: W,
}

impl<W: Word> Bias<W> {
    /// `words`: both 0.
    pub(super) const fn new(whose: W, inside: W) -> Self {
        Self { whose, inside }
    }

    /// By the thread that has the lock: from when it gives that up it is the favourite, if there never was one.
    pub(super) fn begin(&self, me: usize) {
        if self.whose.load(Ordering::Relaxed) == NOBODY {
            self.whose.store(me, Ordering::Relaxed);
        }
    }

    /// True: the caller is the favourite, is inside, and must [`leave`](Self::leave). False: it must take the lock.
    #[inline(always)]
    pub(super) fn enter(&self, me: usize) -> bool {
        self.whose.load(Ordering::Relaxed) == me && self.enter_as_favourite(me)
    }

    #[inline(always)]
    fn enter_as_favourite(&self, me: usize) -> bool {
        self.inside.store(1, Ordering::Relaxed);
        W::here();
        let entered = self.whose.load(Ordering::Relaxed) == me;
        if !entered {
            self.leave();
        }
        entered
    }

    /// By a thread that has [`enter`](Self::enter)ed.
    #[inline(always)]
    pub(super) fn leave(&self) {
        self.inside.store(0, Ordering::Release);
    }

    /// By who has taken the lock, before it does anything inside: there is no favourite any more when this returns, and it is not inside.
    #[inline]
    pub(super) fn end(&self) {
        let whose = self.whose.load(Ordering::Relaxed);
        if whose != NOBODY && whose != OVER {
            self.revoke();
        }
    }

    #[cold]
    fn revoke(&self) {
        self.whose.store(OVER, Ordering::Relaxed);
        W::everywhere();
        let mut times = 0;
        // Its stays are ordered before ours by its last store.
        while self.inside.load(Ordering::Acquire) != 0 {
            W::wait(times);
            times = times.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(loom))]
    mod threads {
        use super::*;
        use crate::treck::lock::Lock;
        use std::{
            cell::Cell,
            sync::{Arc, Barrier},
        };

        /// A count that whoever is inside changes, in two steps.
        struct Counted {
            lock: Lock,
            bias: Bias,
            count: Cell<u64>,
        }

        // SAFETY: `count` is used by who is inside, one at a time: that is what is tested.
        unsafe impl Sync for Counted {}

        impl Counted {
            fn enter_and_count(&self, me: usize) -> bool {
                let favoured = self.bias.enter(me);
                if !favoured {
                    self.lock.lock();
                    self.bias.end();
                }
                self.count.set(self.count.get() + 1);
                if favoured {
                    self.bias.leave()
                } else {
                    self.lock.unlock()
                }
                favoured
            }
        }

        #[test]
        fn the_favourite_and_others_are_inside_one_at_a_time() {
            assert!(is_possible(), "membarrier(2), Linux 4.14");
            // Each round ends one bias, at another point of the favourite's way in and out.
            for round in 0..200 {
                let counted = Arc::new(Counted {
                    lock: Lock::new(),
                    bias: Bias::new(AtomicUsize::new(0), AtomicUsize::new(0)),
                    count: Cell::new(0),
                });
                counted.bias.begin(1);
                let start = Arc::new(Barrier::new(3));
                let others: Vec<_> = [2, 3]
                    .map(|me| {
                        let (counted, start) = (counted.clone(), start.clone());
                        thread::spawn(move || {
                            start.wait();
                            (0..round).for_each(|_| pause());
                            (0..100).for_each(|_| assert!(!counted.enter_and_count(me)));
                        })
                    })
                    .into();
                assert!(counted.enter_and_count(1));
                start.wait();
                for _ in 0..1_000 {
                    counted.enter_and_count(1);
                }
                others.into_iter().for_each(|other| other.join().expect("no panic"));
                assert!(!counted.enter_and_count(1), "it is over");
                counted.bias.begin(1);
                assert!(!counted.enter_and_count(1), "for good");
                assert_eq!(counted.count.get(), 1_203);
            }
        }
    }

    /// Run by `RUSTFLAGS="--cfg loom" cargo test -p framewire --no-default-features --lib --release bias::`.
    #[cfg(loom)]
    mod interleavings {
        use super::*;
        use loom::{
            cell::UnsafeCell,
            sync::{Arc, Mutex, atomic},
        };

        /// Where loom's threads are, a barrier everywhere orders as one on either side does.
        impl Word for atomic::AtomicUsize {
            fn load(&self, order: Ordering) -> usize {
                self.load(order)
            }

            fn store(&self, value: usize, order: Ordering) {
                self.store(value, order);
            }

            fn here() {
                atomic::fence(Ordering::SeqCst);
            }

            fn everywhere() {
                atomic::fence(Ordering::SeqCst);
            }

            fn wait(_times: u32) {
                loom::thread::yield_now();
            }
        }

        struct Counted {
            lock: Mutex<()>,
            bias: Bias<atomic::AtomicUsize>,
            /// loom reports two threads that use it without an order between them.
            count: UnsafeCell<u32>,
        }

        // SAFETY: `count` is used by who is inside, one at a time: that is what is tested.
        unsafe impl Sync for Counted {}

        impl Counted {
            fn enter_and_count(&self, me: usize) {
                // SAFETY: who is inside is alone there.
                let count = || self.count.with_mut(|count| unsafe { *count += 1 });
                if self.bias.enter(me) {
                    count();
                    self.bias.leave();
                } else {
                    let _locked = self.lock.lock().expect("no panic");
                    self.bias.end();
                    count();
                }
            }
        }

        #[test]
        fn the_favourite_and_others_are_inside_one_at_a_time() {
            let mut bounded = loom::model::Builder::new();
            bounded.preemption_bound = Some(3);
            bounded.check(|| {
                let bias = Bias::new(atomic::AtomicUsize::new(0), atomic::AtomicUsize::new(0));
                bias.begin(1);
                let counted = Arc::new(Counted { lock: Mutex::new(()), bias, count: UnsafeCell::new(0) });
                let others = [2, 3].map(|me| {
                    let counted = counted.clone();
                    loom::thread::spawn(move || counted.enter_and_count(me))
                });
                counted.enter_and_count(1);
                counted.enter_and_count(1);
                others.into_iter().for_each(|other| other.join().expect("no panic"));
                // SAFETY: the others have ended.
                assert_eq!(counted.count.with(|count| unsafe { *count }), 4);
            });
        }
    }
}
