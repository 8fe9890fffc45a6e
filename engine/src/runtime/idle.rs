//! What a worker does when there is nothing to do.

use crate::time::{Duration, Instant};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smallvec::SmallVec;
use std::os::fd::BorrowedFd;

/// The idle policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Look again at once: lowest latency, the core is always busy.
    Spin,
    /// Spin for a while, then sleep until a packet, a timer or a call comes.
    #[default]
    Adaptive,
    /// Sleep as soon as there is nothing to do.
    Sleep,
}

/// Policy and its tunables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleConfig {
    /// The policy.
    pub policy: IdlePolicy,
    /// How long `Adaptive` spins before it sleeps. Too short: a system call for every packet; too long: the core never rests.
    pub spin: Duration,
}

impl Default for IdleConfig {
    fn default() -> Self {
        Self { policy: IdlePolicy::Adaptive, spin: Duration::from_micros(50) }
    }
}

/// Longest sleep: bounds how late a worker notices what nobody wakes it for.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// Decides when to sleep.
#[derive(Debug)]
pub(crate) struct Idler {
    config: IdleConfig,
    idle_since: Option<Instant>,
}

impl Idler {
    pub(crate) fn new(config: IdleConfig) -> Self {
        Self { config, idle_since: None }
    }

    pub(crate) fn busy(&mut self) {
        self.idle_since = None;
    }

    /// Nothing was done in the turn that ended: how long to sleep, if at all.
    pub(crate) fn idle(&mut self, now: Instant, deadline: Option<Instant>) -> Option<Duration> {
        let since = *self.idle_since.get_or_insert(now);
        let rested = match self.config.policy {
            IdlePolicy::Spin => false,
            IdlePolicy::Adaptive => now.saturating_since(since) >= self.config.spin,
            IdlePolicy::Sleep => true,
        };
        let until = deadline.map_or(SLEEP_MAX, |at| at.saturating_since(now).min(SLEEP_MAX));
        // A timer that is due almost at once is not worth a system call.
        (rested && until > Duration::from_micros(10)).then_some(until)
    }
}

/// Turns in which a device that has packets to send took and finished none, before it is given time.
const FRUITLESS_TURNS: u32 = 256;
/// How long it is given first; twice as long each time, and so long at most.
const PAUSE_MIN: Duration = Duration::from_micros(50);
const PAUSE_MAX: Duration = Duration::from_millis(1);

/// Decides when to look again at a device that does not send what it has: its link is down, or its queue is full. Nobody says when that is over.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    fruitless_turns: u32,
}

impl Backoff {
    /// Something was done.
    pub(crate) fn busy(&mut self) {
        self.fruitless_turns = 0;
    }

    /// Nothing was done, and the device still has packets: when to look again, if not at once.
    pub(crate) fn pause(&mut self, now: Instant) -> Option<Instant> {
        self.fruitless_turns = self.fruitless_turns.saturating_add(1);
        let doublings = self.fruitless_turns.checked_sub(FRUITLESS_TURNS)?;
        let pause = PAUSE_MIN.saturating_mul(1 << doublings.min(5));
        Some(now + pause.min(PAUSE_MAX))
    }
}

/// Sleeps until one of `fds` is readable or the time is over. Errors (a signal, say) only make it short.
pub(super) fn wait(fds: &[BorrowedFd<'_>], timeout: Duration) {
    let mut polled: SmallVec<[PollFd<'_>; 4]> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    let _ = poll(&mut polled, Some(&timeout));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let at = Instant::from_nanos;
        let spin = Duration::from_micros(50);
        let mut idler = Idler::new(IdleConfig { policy: IdlePolicy::Spin, spin });
        assert_eq!(idler.idle(at(0), None), None);
        assert_eq!(idler.idle(at(1 << 40), None), None);
        let mut idler = Idler::new(IdleConfig { policy: IdlePolicy::Sleep, spin });
        assert_eq!(idler.idle(at(0), None), Some(SLEEP_MAX));
        let mut idler = Idler::new(IdleConfig { policy: IdlePolicy::Adaptive, spin });
        assert_eq!(idler.idle(at(0), None), None);
        assert_eq!(idler.idle(at(49_999), None), None);
        assert_eq!(idler.idle(at(50_000), Some(at(1_050_000))), Some(Duration::from_millis(1)));
        idler.busy();
        assert_eq!(idler.idle(at(60_000), None), None, "a packet starts the spinning anew");
        assert_eq!(idler.idle(at(200_000), Some(at(205_000))), None, "a timer is due at once");
    }

    #[test]
    fn a_device_that_does_not_send_is_given_more_and_more_time() {
        let now = Instant::from_nanos(1_000);
        let mut backoff = Backoff::default();
        assert!((1..FRUITLESS_TURNS).all(|_| backoff.pause(now).is_none()));
        let pauses: Vec<_> =
            (0..7).map(|_| backoff.pause(now).expect("a pause").saturating_since(now).as_micros()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1_000, 1_000]);
        backoff.busy();
        assert_eq!(backoff.pause(now), None);
    }
}
