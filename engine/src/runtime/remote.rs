//! Calls from other threads into a worker.

use super::worker::Worker;
use crossbeam::queue::ArrayQueue;
use rustix::{
    event::{EventfdFlags, eventfd},
    io::{read, write},
};
use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

type Call = Box<dyn FnOnce(&mut Worker) + Send>;

/// Calls that wait at most; beyond it the caller is told to try again.
const CALLS_MAX: usize = 1024;

struct Shared {
    calls: ArrayQueue<Call>,
    /// The worker is about to sleep or sleeps: whoever queues a call must ring.
    asleep: AtomicBool,
    closed: AtomicBool,
    bell: OwnedFd,
}

/// A worker's letter box. Clone it for every thread that calls.
#[derive(Clone)]
pub struct Remote(Arc<Shared>);

/// The worker's end. Dropping it, also by a panic of the worker's thread, closes the letter box, so that no caller waits for ever.
#[derive(Debug)]
pub(super) struct Inbox(pub(super) Remote);

impl std::ops::Deref for Inbox {
    type Target = Remote;
    fn deref(&self) -> &Remote {
        &self.0
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Why a call was not queued or not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// Too many calls wait already.
    #[error("the worker has {CALLS_MAX} calls waiting: try again")]
    Full,
    /// The worker has stopped.
    #[error("the worker has stopped")]
    Stopped,
}

impl Remote {
    /// A letter box with nothing in it.
    ///
    /// # Errors
    /// The kernel gives no eventfd.
    pub fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(Shared {
            calls: ArrayQueue::new(CALLS_MAX),
            asleep: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            bell,
        })))
    }

    /// Queues `call` to be run on the worker's thread between two turns. A worker that stops before then drops it.
    ///
    /// # Errors
    /// The queue is full or the worker has stopped; `call` is dropped.
    pub fn post(&self, call: impl FnOnce(&mut Worker) + Send + 'static) -> Result<(), RemoteError> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(RemoteError::Stopped);
        }
        self.0.calls.push(Box::new(call)).map_err(|_| RemoteError::Full)?;
        // The queue's push is a sequentially consistent operation, and so are these: either the worker sees the call before it sleeps, or this sees that it
        // sleeps.
        if self.0.asleep.swap(false, Ordering::SeqCst) {
            self.ring();
        }
        // The worker may have closed since the first look, and have emptied the queue before this call was in it: then nobody else would ever drop it. It
        // may as well have run it and then stopped, so this is no error.
        if self.0.closed.load(Ordering::SeqCst) {
            self.drop_calls();
        }
        Ok(())
    }

    /// Runs `call` on the worker's thread and waits for its result.
    ///
    /// # Errors
    /// As for [`post`](Self::post), and when the worker stops before it runs the call.
    pub fn call<R: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Worker) -> R + Send + 'static,
    ) -> Result<R, RemoteError> {
        let (reply, answer) = crossbeam::channel::bounded(1);
        self.post(move |worker| {
            // The caller waits below; it cannot have gone.
            let _ = reply.send(call(worker));
        })?;
        answer.recv().map_err(|_| RemoteError::Stopped)
    }

    fn ring(&self) {
        // EAGAIN says that the counter is full: the bell rings already.
        let _ = write(&self.0.bell, &1u64.to_ne_bytes());
    }

    // ---- the worker's side

    pub(super) fn take(&self) -> Option<impl FnOnce(&mut Worker)> {
        self.0.calls.pop()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.calls.is_empty()
    }

    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }

    /// Says that the worker will sleep; false if a call came meanwhile.
    pub(super) fn fall_asleep(&self) -> bool {
        self.0.asleep.store(true, Ordering::SeqCst);
        if self.0.calls.is_empty() {
            return true;
        }
        self.0.asleep.store(false, Ordering::SeqCst);
        false
    }

    pub(super) fn wake_up(&self) {
        self.0.asleep.store(false, Ordering::SeqCst);
        // EAGAIN says that nobody rang.
        let _ = read(&self.0.bell, &mut [0u8; 8]);
    }

    /// No more calls: those that wait are dropped, so that their callers wake.
    pub(super) fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.drop_calls();
    }

    fn drop_calls(&self) {
        while self.0.calls.pop().is_some() {}
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({} calls waiting)", self.0.calls.len())
    }
}
