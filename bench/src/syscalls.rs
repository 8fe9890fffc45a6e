//! Counts what system calls a thread makes: all of them, one by one. A seccomp filter of the thread's holds each until a second thread has counted it.

use anyhow::{Context, Result, anyhow, ensure};
use std::{
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicI32, AtomicU64, Ordering},
    thread,
};

/// Not begun.
const NO_FD: RawFd = -1;
/// The kernel refused.
const REFUSED: RawFd = -2;

/// What was counted so far. Looking at it is no system call.
#[derive(Debug)]
pub(crate) struct Tally {
    all: AtomicU64,
    listener: AtomicI32,
}

impl Tally {
    /// System calls that the thread has made.
    pub(crate) fn count(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }
}

/// Runs `work` on a thread whose system calls are counted.
///
/// # Errors
/// The kernel refuses the filter (it needs Linux 5.5 with `CONFIG_SECCOMP_FILTER`), or what `work` says.
pub(crate) fn count<T: Send>(work: impl FnOnce(&Tally) -> Result<T> + Send) -> Result<T> {
    let tally = &Tally { all: AtomicU64::new(0), listener: AtomicI32::new(NO_FD) };
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            // From the filter on nothing but the store may come before the other thread listens: it would hold this one for ever.
            let begun = filter_all();
            tally.listener.store(*begun.as_ref().unwrap_or(&REFUSED), Ordering::Release);
            begun.context("seccomp(SECCOMP_SET_MODE_FILTER)")?;
            work(tally)
        });
        let listener = loop {
            match tally.listener.load(Ordering::Acquire) {
                NO_FD => thread::yield_now(),
                fd => break fd,
            }
        };
        let listened = if listener == REFUSED { Ok(()) } else { listen(listener, tally) };
        let worked = worker.join().map_err(|_| anyhow!("the thread that is counted panicked"))?;
        listened.context("counting system calls")?;
        worked
    })
}

/// From now on each of this thread's system calls waits for who listens.
fn filter_all() -> io::Result<RawFd> {
    let mut program = [libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_USER_NOTIF,
    }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    // SAFETY: no memory is involved. It concerns this thread alone.
    let denied = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if denied != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel copies the program, which outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const filter,
        )
    };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd as RawFd) }
}

/// Counts each call and lets it go on, until the thread has ended.
fn listen(fd: RawFd, tally: &Tally) -> Result<()> {
    // SAFETY: a fresh descriptor that nobody else owns.
    let listener = unsafe { OwnedFd::from_raw_fd(fd) };
    loop {
        let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one structure, which outlives the call.
        let ready = unsafe { libc::poll(&raw mut poll, 1, -1) };
        ensure!(ready >= 0 || interrupted(), "poll: {}", io::Error::last_os_error());
        if poll.revents & libc::POLLIN == 0 {
            if poll.revents & libc::POLLHUP != 0 {
                return Ok(());
            }
            continue;
        }
        // SAFETY: plain numbers, of which all zeroes are some; the kernel wants them.
        let mut call: libc::seccomp_notif = unsafe { mem::zeroed() };
        // SAFETY: the structure that the request is for, which outlives the call.
        if unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) } != 0 {
            // The thread was killed, or a signal came.
            continue;
        }
        tally.all.fetch_add(1, Ordering::Relaxed);
        let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        let mut answer = libc::seccomp_notif_resp { id: call.id, val: 0, error: 0, flags };
        // SAFETY: as above. It fails only for a thread that does not wait any more.
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
    }
}

fn interrupted() -> bool {
    io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn each_call_of_the_thread_counts_and_none_of_others() {
        let (calls, none, looked) = count(|tally| {
            let before = tally.count();
            for _ in 0..10 {
                // SAFETY: no memory is involved.
                unsafe { libc::syscall(libc::SYS_getppid) };
            }
            let after = tally.count();
            let looked = Instant::now();
            Ok((after - before, tally.count() - after, looked))
        })
        .expect("seccomp");
        assert!(looked.elapsed().as_nanos() > 0);
        assert_eq!((calls, none), (10, 0), "the clock is read without a system call");
    }
}
