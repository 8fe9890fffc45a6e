//! Traffic that goes on while something else is tested.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{NetNs, UdpClient, pattern};

/// Datagrams of an [`EchoLoad`] on their way at once: enough to keep both ends busy, less than any queue between them holds.
pub const LOAD_WINDOW: u64 = 64;
/// No load outlives this, whatever becomes of its test: longer than any test waits for all of its steps.
const LONGEST: Duration = Duration::from_secs(300);

/// One socket that keeps a window of datagrams on their way to an echo service; what is lost is replaced. Ends when dropped.
#[derive(Debug)]
pub struct EchoLoad {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl EchoLoad {
    /// Starts sending datagrams of `payload_bytes` from `ns`.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn start(ns: &NetNs, server: impl Into<SocketAddr>, payload_bytes: usize) -> Result<Self> {
        let client = UdpClient::connect(ns, server)?;
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = thread::spawn({
            let (stop, answered) = (stop.clone(), answered.clone());
            move || keep_full(&client, &pattern(payload_bytes, 4), &stop, &answered)
        });
        Ok(Self { stop, answered, thread: Some(thread) })
    }

    /// Answers so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until `more` further answers have come; returns how long that took.
    ///
    /// # Errors
    /// They have not come within `timeout`, or the load has ended.
    pub fn wait_for(&self, more: u64, timeout: Duration) -> Result<Duration> {
        let (begun, before) = (Instant::now(), self.answered());
        while self.answered() < before + more {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                bail!("the load has ended: after {LONGEST:?}, or with a wrong answer");
            }
            if begun.elapsed() > timeout {
                bail!("{} answers within {timeout:?}, not {more}", self.answered() - before);
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(begun.elapsed())
    }
}

impl Drop for EchoLoad {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keep_full(client: &UdpClient, payload: &[u8], stop: &AtomicBool, answered: &AtomicU64) {
    let begun = Instant::now();
    let mut outstanding = 0;
    while !stop.load(Ordering::Relaxed) && begun.elapsed() < LONGEST {
        while outstanding < LOAD_WINDOW {
            if client.send(payload).is_err() {
                // Nobody is there at the moment, or the link is down: that is what some tests are about.
                thread::sleep(Duration::from_millis(5));
                break;
            }
            outstanding += 1;
        }
        match client.receive(Duration::from_millis(20)) {
            Ok(answer) if answer == payload => {
                outstanding = outstanding.saturating_sub(1);
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(other) => panic!("{} bytes came back, not what was sent", other.len()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => outstanding = 0,
            Err(_) => outstanding = outstanding.saturating_sub(1),
        }
    }
}
