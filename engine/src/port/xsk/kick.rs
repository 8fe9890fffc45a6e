//! A kick's system calls, made apart from the port: by a thread that has left the lock under which the port, its rings and its pool are used.

use super::{KICK_DESCS, Wakeup, XskPort, is_soft, socket};
use crate::port::{Kick, PortError};
use std::{
    io,
    os::fd::RawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Says while a [`Kicker`] of a port is about: the port does not close meanwhile, and nobody else kicks it.
#[derive(Debug, Default)]
pub(super) struct Line(Arc<AtomicBool>);

impl Line {
    fn is_busy(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for the kicker, which makes a few system calls that do not wait.
    pub(super) fn wait(&self) {
        // After whatever it did with the descriptor.
        while self.0.load(Ordering::Acquire) {
            thread::sleep(super::CLOSE_PAUSE);
        }
    }
}

/// The system calls of one kick. It knows nothing but the socket's descriptor, which stays open while this lives, and may be sent to another thread.
#[derive(Debug)]
pub struct Kicker {
    line: Arc<AtomicBool>,
    fd: RawFd,
    receives: bool,
    sends: u32,
}

/// What became of a kick, to be told to [`XskPort::kicked`].
#[derive(Debug)]
#[must_use = "the port counts it, and may be broken"]
pub struct Kicked {
    line: Arc<AtomicBool>,
    rx_wakeups: u32,
    tx_kicks: u32,
    tx_soft_errors: u32,
    error: Option<(&'static str, io::Error)>,
}

impl Kicker {
    /// Makes the calls.
    pub fn run(self) -> Kicked {
        let line = self.line.clone();
        let mut told = Kicked { line, rx_wakeups: 0, tx_kicks: 0, tx_soft_errors: 0, error: None };
        if self.receives {
            told.rx_wakeups += 1;
            if let Err(error) = socket::wake_rx(self.fd)
                && !is_soft(&error)
            {
                told.error = Some(("recvfrom", error));
                return told;
            }
        }
        for _ in 0..self.sends {
            told.tx_kicks += 1;
            match socket::wake_tx(self.fd) {
                Ok(()) => break,
                Err(error) if is_soft(&error) => {
                    told.tx_soft_errors += 1;
                    // In copy mode also: it has sent as many as one call may, and there are more.
                    if error.raw_os_error() != Some(libc::EAGAIN) {
                        break;
                    }
                }
                Err(error) => {
                    told.error = Some(("sendto", error));
                    break;
                }
            }
        }
        told
    }
}

impl Drop for Kicker {
    fn drop(&mut self) {
        // Before the port closes the descriptor.
        self.line.store(false, Ordering::Release);
    }
}

impl XskPort {
    /// Like [`kick`](crate::port::Port::kick), but leaves the system calls, if any are to be made, to a [`Kicker`]. Until that is gone there is no other, and [`close`](crate::port::Port::close) waits.
    pub fn kick_later(&mut self) -> (Kick, Option<Kicker>) {
        let Some(open) = &mut self.open else { return (Kick::Idle, None) };
        let outstanding = open.rings.tx_outstanding();
        let kick = if outstanding == 0 { Kick::Idle } else { Kick::Pending };
        let receives = self.busy_polling || open.rings.fill_needs_wakeup();
        let sends = outstanding > 0 && (self.wakeup == Wakeup::Always || open.rings.tx_needs_wakeup());
        if !(receives || sends) || self.line.is_busy() {
            return (kick, None);
        }
        let sends = if sends { outstanding.min(KICK_DESCS).div_ceil(self.tx_budget) } else { 0 };
        let line = self.line.0.clone();
        line.store(true, Ordering::Relaxed);
        (kick, Some(Kicker { line, fd: open.socket.raw_fd(), receives, sends }))
    }

    /// Takes notice of a kick. One of a port that this one is not makes no difference.
    ///
    /// # Errors
    /// The port is broken for good.
    pub fn kicked(&mut self, told: Kicked) -> Result<(), PortError> {
        let Some(open) = self.open.as_mut().filter(|_| Arc::ptr_eq(&self.line.0, &told.line)) else { return Ok(()) };
        open.rings.stats.rx_wakeups += u64::from(told.rx_wakeups);
        open.rings.stats.tx_kicks += u64::from(told.tx_kicks);
        open.rings.stats.tx_kicks_soft_errors += u64::from(told.tx_soft_errors);
        match told.error {
            Some((call, source)) => Err(PortError { interface: self.info.name.clone(), call, source }),
            None => Ok(()),
        }
    }
}
