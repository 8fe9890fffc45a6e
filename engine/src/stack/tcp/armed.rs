//! Which timers of the wheel are set for one slot of a table.

use crate::{proto::tcp::NEVER, time::Instant};

/// The wheel cannot cancel: what it was told stays until it fires. So a slot remembers the next timer and the last one, and arms neither twice, whatever
/// deadlines come and go and whoever has the slot. Those between are forgotten, fire for nothing, and are few: they are not far off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    next: Instant,
    last: Instant,
}

impl Armed {
    pub(super) const NONE: Self = Self { next: NEVER, last: NEVER };

    /// Something is to be done at `at`. True: a timer has to be armed for it; else one fires before, and the caller comes back.
    #[inline]
    pub(super) fn want(&mut self, at: Instant) -> bool {
        if at >= self.next {
            return false;
        }
        if self.last == NEVER {
            self.last = self.next;
        }
        self.next = at;
        true
    }

    /// A timer has fired.
    #[inline]
    pub(super) fn fired(&mut self, now: Instant) {
        if self.next <= now {
            self.next = if self.last > now { self.last } else { NEVER };
            self.last = NEVER;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_deadlines_do_not_arm_the_far_one_again() {
        let at = Instant::from_millis;
        let mut armed = Armed::NONE;
        assert!(armed.want(at(7_200_000)) && !armed.want(at(7_200_000)) && !armed.want(NEVER));
        for now in (0..7_000_000).step_by(100) {
            // A delayed acknowledgment before a retransmission, then only the far one again.
            assert!(armed.want(at(now + 60)) && armed.want(at(now + 40)));
            armed.fired(at(now + 40));
            assert!(!armed.want(at(7_200_000)) && !armed.want(at(7_300_000)));
            armed.fired(at(now + 60));
        }
        armed.fired(at(7_200_000));
        assert!(armed.want(at(7_300_000)));
    }
}
