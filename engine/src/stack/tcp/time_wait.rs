//! The table of connections in TIME-WAIT: bounded, and forgotten in time.

use super::{Entry, Stack, TcpTable, TimerKey};
use crate::{proto::tcp::TimeWait, time::Instant, wire::seq::SeqNum};

/// A connection in TIME-WAIT.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) rest: TimeWait,
    /// When it is looked at: its end, unless that was put off since.
    pub(super) queued: Instant,
}

impl TcpTable {
    /// The queue's entry is the one's own.
    fn is_queued(&self, index: u32, until: Instant) -> bool {
        self.time_wait.get(index).is_some_and(|waiting| waiting.queued == until)
    }
}

impl Stack {
    pub(super) fn enter_time_wait(&mut self, rest: TimeWait) {
        if self.config.tcp.time_wait_max == 0 {
            return;
        }
        // The queue, too: it keeps the entry of one that was used again until its time comes.
        while (self.tcp.time_wait.len() >= self.config.tcp.time_wait_max
            || self.tcp.time_wait_order.len() >= self.config.tcp.time_wait_max.saturating_mul(2))
            && let Some((index, until)) = self.tcp.time_wait_order.pop_front()
        {
            if self.tcp.is_queued(index, until) && self.remove_time_wait(index) {
                self.counters.tcp_time_waits_cut += 1;
            }
        }
        let index = self.tcp.time_wait.insert(Waiting { rest, queued: rest.expires });
        self.tcp.demux.connect(rest.ends.local, rest.ends.remote, Entry::TimeWait(index).pack());
        if self.tcp.time_wait_armed.want(rest.expires) {
            self.timers.arm(rest.expires, TimerKey::TcpTimeWait);
        }
        self.tcp.time_wait_order.push_back((index, rest.expires));
    }

    pub(super) fn remove_time_wait(&mut self, index: u32) -> bool {
        let Some(Waiting { rest, .. }) = self.tcp.time_wait.remove(index) else { return false };
        self.tcp.demux.disconnect(rest.ends.local, rest.ends.remote);
        true
    }

    /// Timer: forgets connections in TIME-WAIT.
    pub(in crate::stack) fn time_wait_timer(&mut self) {
        let now = self.now;
        self.tcp.time_wait_armed.fired(now);
        while let Some(&(index, until)) = self.tcp.time_wait_order.front() {
            if until > now {
                if self.tcp.time_wait_armed.want(until) {
                    self.timers.arm(until, TimerKey::TcpTimeWait);
                }
                return;
            }
            self.tcp.time_wait_order.pop_front();
            if !self.tcp.is_queued(index, until) {
                continue;
            }
            match self.tcp.time_wait.get_mut(index) {
                Some(Waiting { rest, queued }) if rest.expires > now => {
                    *queued = rest.expires;
                    self.tcp.time_wait_order.push_back((index, rest.expires));
                }
                _ => {
                    self.remove_time_wait(index);
                }
            }
        }
    }
}

/// An initial sequence number beyond what the former connection used.
pub(super) fn later(iss: SeqNum, old: &TimeWait) -> SeqNum {
    if iss.gt(old.next_iss_min()) { iss } else { old.next_iss_min() }
}
