//! A lock for short stays. Whoever finds it taken looks on for a while, which is no system call, and sleeps only when the thread inside stays for longer than stays are: then it has lost its core.

use std::{
    hint::spin_loop,
    ptr,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, and whoever leaves must wake one who sleeps, if there is any.
const SLEPT_FOR: u32 = 2;

/// Hints to the processor between two looks. Too few: the others' cache lines are taken away again and again; too many: the lock is free and nobody sees it.
const PAUSE: u32 = 4;
/// Looks before the clock is first read, and between readings.
const LOOKS: u32 = 64;
/// How long a thread looks on before it sleeps. The longest stays are a worker's whose drivers take some hundred frames: tens of microseconds. Too short: system calls, to sleep and to wake; too long: a core is kept
/// from others, among them perhaps the thread inside.
pub(super) const PATIENCE: Duration = Duration::from_micros(100);

/// A tenth of a microsecond, or less, in which this thread touches nothing that others need.
pub(super) fn pause() {
    for _ in 0..PAUSE {
        spin_loop();
    }
}

#[derive(Debug)]
pub(super) struct Lock {
    state: AtomicU32,
    /// Threads that found it taken.
    waiting: AtomicU32,
}

impl Lock {
    pub(super) const fn new() -> Self {
        Self { state: AtomicU32::new(FREE), waiting: AtomicU32::new(0) }
    }

    /// True: the caller is inside, and must [`unlock`](Self::unlock).
    #[inline]
    pub(super) fn try_lock(&self) -> bool {
        self.state.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    pub(super) fn lock(&self) {
        if !self.try_lock() {
            self.wait();
        }
    }

    /// By whoever is inside.
    #[inline]
    pub(super) fn unlock(&self) {
        if self.state.swap(FREE, Ordering::Release) == SLEPT_FOR {
            wake_one(&self.state);
        }
    }

    /// For who lets others in first: it is free and nobody waits. Looked at before it is tried: a try takes the cache line from the thread inside, which needs it to leave.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0 && self.state.load(Ordering::Relaxed) == FREE
    }

    #[cold]
    fn wait(&self) {
        // Only a hint for `is_idle`: no order is needed.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if !self.look_on() {
            while self.state.swap(SLEPT_FOR, Ordering::Acquire) != FREE {
                sleep_while(&self.state, SLEPT_FOR);
            }
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Spins until it is inside; false if that takes too long.
    fn look_on(&self) -> bool {
        let mut until = None;
        loop {
            for _ in 0..LOOKS {
                if self.state.load(Ordering::Relaxed) == FREE && self.try_lock() {
                    return true;
                }
                pause();
            }
            let now = Instant::now();
            if now >= *until.get_or_insert(now + PATIENCE) {
                return false;
            }
        }
    }
}

/// May return early.
fn sleep_while(word: &AtomicU32, is: u32) {
    // SAFETY: the kernel reads the word, which outlives the call; there is no time-out. Errors (it is not so any more, a signal) only make it short.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            is,
            ptr::null::<libc::timespec>(),
        );
    }
}

#[cold]
fn wake_one(word: &AtomicU32) {
    // SAFETY: the address alone matters, nothing is read there.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{Arc, atomic::AtomicU64},
        thread,
    };

    #[test]
    fn one_is_inside_at_a_time_and_who_sleeps_is_woken() {
        let (lock, inside) = (Arc::new(Lock::new()), Arc::new(AtomicU64::new(0)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (lock, inside) = (lock.clone(), inside.clone());
                thread::spawn(move || {
                    for round in 0..500 {
                        lock.lock();
                        let before = inside.load(Ordering::Relaxed);
                        if round % 100 == 0 {
                            // Long enough for the others to sleep.
                            thread::sleep(PATIENCE * 3);
                        }
                        inside.store(before + 1, Ordering::Relaxed);
                        lock.unlock();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(inside.load(Ordering::Relaxed), 2_000);
        assert!(lock.is_idle() && lock.try_lock() && !lock.is_idle() && !lock.try_lock());
        lock.unlock();
    }
}
