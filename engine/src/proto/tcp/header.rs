//! The header of what is sent now, and what it tells the peer.

use super::{
    connection::Connection,
    host::{Host, IpFields},
    types::NEVER,
};
use crate::wire::{
    seq::SeqNum,
    tcp::{Options, Repr, Timestamps, flags},
};

/// IP's codepoint for "may be marked instead of dropped" (RFC 3168 section 5).
const ECT_0: u8 = 0b10;
const ECN_BITS: u8 = 0b11;

/// What a segment has told the peer of what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The acknowledgment number.
    Number,
    /// SACK blocks too.
    All,
}

impl Connection {
    /// A segment with our acknowledgment has gone.
    #[inline]
    pub(super) fn acknowledged(&mut self, told: Told) {
        if told == Told::All || !self.has_blocks_to_tell() {
            self.ack_now = false;
            self.dup_acks_owed = 0;
        }
        self.ack_segments = 0;
        self.ack_at = NEVER;
        self.last_ack_sent = self.receive.nxt;
    }

    #[inline]
    pub(super) fn has_blocks_to_tell(&self) -> bool {
        self.send.sack && (self.receive.has_holes() || self.receive.owes_dsack())
    }

    /// How many SACK blocks fit into one header (RFC 2018 section 3).
    fn blocks_max(&self) -> usize {
        if self.timestamps { 3 } else { 4 }
    }

    /// Tells the peer what came out of order once that fills a header, before the next segment is handled. Of a batch whose segments lie in more
    /// blocks, one acknowledgment at its end could not tell, and the peer would take what it does not hear of for lost.
    #[inline]
    pub fn poll_blocks(&mut self, host: &mut impl Host) {
        if self.receive.blocks_untold() >= self.blocks_max() && self.send.sack && self.closed.is_none() {
            // What cannot be sent now is sent at the end of the turn.
            self.send_acks(host);
        }
    }

    pub(super) fn ip(&self, data: bool) -> IpFields {
        let ecn = if self.ecn && data { ECT_0 } else { 0 };
        IpFields { tos: self.options.tos & !ECN_BITS | ecn, ttl: self.options.ttl }
    }

    /// The header of a segment without data as of now.
    #[inline]
    pub(super) fn bare_repr(&mut self, seq: SeqNum, bits: u8, host: &mut impl Host) -> Repr {
        let mut repr = self.repr(seq, bits, host);
        if self.has_blocks_to_tell() {
            repr.options.sack = self.receive.sack_blocks(self.blocks_max());
        }
        repr
    }

    /// The header of a segment with data as of now. It has no SACK blocks: data and timestamps may fill the packet (RFC 6691 section 2), so the blocks follow
    /// in an acknowledgment of their own.
    #[inline]
    pub(super) fn repr(&mut self, seq: SeqNum, mut bits: u8, host: &mut impl Host) -> Repr {
        let timestamps =
            self.timestamps.then(|| Timestamps { value: self.timestamp(host.now()), echo: self.ts_recent });
        if self.ecn_echo {
            bits |= flags::ECE;
        }
        let mut urgent = 0;
        if let Some(end) = self.send.urgent_end {
            let pointer = end.diff(seq) - i32::from(self.options.standard_urgent_pointer);
            if end.gt(self.send.una) && pointer >= 0 && bits & flags::RST == 0 {
                bits |= flags::URG;
                urgent = pointer.min(i32::from(u16::MAX)) as u16;
            } else if end.le(self.send.una) {
                self.send.urgent_end = None;
            }
        }
        let window = self.receive.advertise(&self.options, host);
        Repr {
            src_port: self.ends.local.port(),
            dst_port: self.ends.remote.port(),
            seq,
            ack: self.receive.nxt,
            flags: bits,
            window,
            urgent,
            options: Options { timestamps, ..Options::default() },
        }
    }
}
