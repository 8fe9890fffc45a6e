//! What happens when nothing happens: retransmission, probes, keep-alive, and giving up.

use super::{
    connection::{Connection, MSS_DEFAULT, Probe, TIMESTAMP_BYTES},
    host::Host,
    sender::TimerKind,
    types::{CloseReason, NEVER, TcpState},
};
use crate::time::{Duration, Instant};

impl Connection {
    /// Timers that are due. Afterwards [`poll_transmit`](Self::poll_transmit) may have something.
    pub fn handle_timer(&mut self, host: &mut impl Host) {
        let now = host.now();
        if self.ack_at <= now {
            self.ack_at = NEVER;
            self.ack_now = true;
        }
        if self.send.pace_at <= now {
            self.send.pace_at = Instant::ZERO;
        }
        if self.close_at <= now {
            self.close_at = NEVER;
            let reason = match self.state {
                TcpState::SynSent | TcpState::SynReceived if self.soft_error => CloseReason::Unreachable,
                TcpState::SynSent | TcpState::SynReceived => CloseReason::TimedOut,
                // Half closed and silent: nobody is there to hear of it.
                _ => CloseReason::Finished,
            };
            self.finish(reason, host);
            return;
        }
        if self.keepalive_at <= now {
            self.keepalive_timeout(now, host);
        }
        if self.send.timer_at <= now {
            match self.state {
                TcpState::SynSent | TcpState::SynReceived => {
                    self.send.rtt.back_off();
                    self.send.timer_at = now + self.send.rtt.rto();
                    self.syn_due = true;
                    host.counters().tcp_retransmissions += 1;
                }
                _ => self.retransmission_timer(now, host),
            }
        }
    }

    fn retransmission_timer(&mut self, now: Instant, host: &mut impl Host) {
        let gives_up = now.saturating_since(self.send.waiting_since) >= self.options.user_timeout;
        let resent_max = u32::from(self.options.retransmissions_max);
        let resent_enough = resent_max != 0 && self.send.rtt.backoffs() >= resent_max;
        match self.send.timer {
            kind @ (TimerKind::Retransmit | TimerKind::Persist)
                if gives_up || (kind == TimerKind::Retransmit && resent_enough) =>
            {
                self.reset_due = Some(self.send.nxt);
                host.counters().tcp_user_timeouts += 1;
                self.finish(CloseReason::TimedOut, host);
            }
            TimerKind::Retransmit => {
                if self.send.segments.is_empty() {
                    self.send.timer_at = NEVER;
                    return;
                }
                self.send.retransmit_timeout(now, host.counters());
                // A path that swallows large segments and says nothing (RFC 2923 section 2.1): smaller ones.
                if self.send.rtt.backoffs() >= 3
                    && self.send.mss > MSS_DEFAULT
                    && self.send.segments.front().is_some_and(|first| first.len > u32::from(MSS_DEFAULT))
                {
                    host.counters().tcp_black_holes += 1;
                    self.path_mss = self.path_mss.min(MSS_DEFAULT + TIMESTAMP_BYTES);
                    self.set_mss();
                }
            }
            TimerKind::TailProbe => {
                self.probe = Probe::Tail;
                self.send.timer = TimerKind::Retransmit;
                self.send.timer_at = now + self.send.rtt.rto();
                self.send.rto_from = now;
            }
            TimerKind::Reorder => self.send.reorder_timeout(now, host.counters()),
            TimerKind::Persist => {
                self.probe = Probe::Window;
                self.send.rtt.back_off();
                self.send.timer_at = now + self.probe_timeout();
            }
        }
    }

    fn keepalive_timeout(&mut self, now: Instant, host: &mut impl Host) {
        let Some(keepalive) = self.options.keepalive else {
            self.keepalive_at = NEVER;
            return;
        };
        let silent = now.saturating_since(self.heard_at);
        if silent < keepalive.idle {
            self.keepalive_sent = 0;
            self.keepalive_at = self.heard_at + keepalive.idle;
            return;
        }
        // With data in flight, retransmissions ask often enough.
        if !self.send.segments.is_empty() || !self.send.pending.is_empty() {
            self.keepalive_at = now + keepalive.idle;
            return;
        }
        if self.keepalive_sent >= keepalive.probes {
            self.reset_due = Some(self.send.nxt);
            self.finish(CloseReason::TimedOut, host);
            return;
        }
        self.keepalive_sent += 1;
        self.keepalive_at = now + keepalive.interval;
        self.probe = Probe::Keepalive;
        host.counters().tcp_keepalive_probes += 1;
    }

    /// Waits for the peer's window, if that is what keeps data back (RFC 9293 section 3.8.6.1).
    pub(super) fn arm_persist(&mut self, now: Instant) {
        if self.send.segments.is_empty() && !(self.send.timer == TimerKind::Persist && self.send.timer_at != NEVER) {
            self.send.timer = TimerKind::Persist;
            self.send.timer_at = now + self.probe_timeout();
            self.send.waiting_since = now;
        }
    }

    fn probe_timeout(&self) -> Duration {
        self.send.rtt.rto().min(self.options.probe_max).max(self.options.probe_min)
    }
}
