//! TIME-WAIT (RFC 9293 section 3.6.1): what is left of a connection while its old segments die out.

use super::{
    input::Incoming,
    types::{Endpoints, timestamp},
};
use crate::{
    time::Instant,
    wire::{
        seq::SeqNum,
        tcp::{Options, Repr, SackBlocks, Timestamps, flags},
    },
};

/// The rest of a connection.
#[derive(Clone, Copy, Debug)]
pub struct TimeWait {
    /// Both ends.
    pub ends: Endpoints,
    /// What we would send next.
    pub snd_nxt: SeqNum,
    /// What we expect next.
    pub rcv_nxt: SeqNum,
    /// The peer's newest timestamp, if it sends any.
    pub ts_recent: Option<u32>,
    /// Added to our clock in timestamps.
    pub ts_offset: u32,
    /// When it is forgotten.
    pub expires: Instant,
}

/// What a segment means for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeWaitReaction {
    /// Nothing.
    Ignore,
    /// Acknowledge.
    Acknowledge,
    /// The peer's FIN again: acknowledge, and wait anew.
    Restart,
    /// A new connection begins: forget this one and treat the SYN as any (RFC 6191).
    Reuse,
}

impl TimeWait {
    /// RFC 9293 section 3.10.7.4, TIME-WAIT state.
    pub fn handle_segment(&self, segment: &Incoming) -> TimeWaitReaction {
        let Incoming { header, options, .. } = segment;
        let has = |flag| header.flags & flag != 0;
        // RFC 1337: a reset must not end TIME-WAIT.
        if has(flags::RST) {
            return TimeWaitReaction::Ignore;
        }
        if has(flags::SYN) && !has(flags::ACK) {
            let newer = match (self.ts_recent, options.timestamps) {
                (Some(recent), Some(ts)) if ts.value != recent => SeqNum(recent).lt(SeqNum(ts.value)),
                // RFC 6191 section 2: the same timestamp, or none, leaves it to the sequence number.
                _ => header.seq.gt(self.rcv_nxt),
            };
            return if newer { TimeWaitReaction::Reuse } else { TimeWaitReaction::Acknowledge };
        }
        if has(flags::FIN) && header.seq.lt(self.rcv_nxt) {
            return TimeWaitReaction::Restart;
        }
        // Whatever else is not exactly where we are hears where that is.
        if header.seq == self.rcv_nxt && !has(flags::SYN | flags::FIN) {
            TimeWaitReaction::Ignore
        } else {
            TimeWaitReaction::Acknowledge
        }
    }

    /// The acknowledgment.
    pub fn acknowledgment(&self, now: Instant) -> Repr {
        let value = timestamp(now, self.ts_offset);
        Repr {
            src_port: self.ends.local.port(),
            dst_port: self.ends.remote.port(),
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            flags: flags::ACK,
            window: 0,
            urgent: 0,
            options: Options {
                timestamps: self.ts_recent.map(|echo| Timestamps { value, echo }),
                sack: SackBlocks::EMPTY,
                ..Options::default()
            },
        }
    }

    /// The least initial sequence number of a connection between the same ends: none of its segments looks like an old one (RFC 9293 section 3.4.3).
    pub fn next_iss_min(&self) -> SeqNum {
        self.snd_nxt + 65_536
    }
}
