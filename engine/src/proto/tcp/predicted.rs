//! Header prediction (V. Jacobson, 1990): the segments of which nearly all of an established connection's are.
//!
//! Such a segment is the next in order, its data (if it has any) fits the window and the frames that may be held, nothing is out of order, and what it
//! acknowledges is new or what is known already. It then passes all tests of RFC 9293 section 3.10.7.4 and RFC 7323 section 5.3, so they need not be made
//! one by one. Everything else is left to [`handle_segment`](Connection::handle_segment): other flags and options, SACK blocks, segments that are old, early or
//! only duplicate an acknowledgment, ECN (each segment may change its state), an announced urgent byte, a connection that its application has closed
//! or that is not established, one whose keep-alive probe is being answered, and data when frames get scarce.

use super::{connection::Connection, receiver::Urgent, recovery::AckInput, spares::Spares, types::TcpState};
use crate::{
    buf::RxBuf,
    telemetry::Counters,
    time::Instant,
    wire::{
        seq::SeqNum,
        tcp::{PlainHeader, SackBlocks},
    },
};

impl Connection {
    /// The segment, with so many bytes of payload in one frame, is one that [`handle_predicted_ack`](Self::handle_predicted_ack) and [`take_predicted`](Self::take_predicted) may
    /// handle. `rx_frames_left`:
    /// frames that received data may still take, over all connections.
    #[inline(always)]
    pub fn predicts(&self, header: &PlainHeader, payload_len: u32, rx_frames_left: u32) -> bool {
        let acked = header.ack.since(self.send.una);
        header.seq == self.receive.nxt
            && self.state == TcpState::Established
            && acked <= self.send.nxt.since(self.send.una)
            && (acked > 0 || payload_len > 0)
            && (payload_len == 0 || self.receive.has_room_for_next(payload_len, &self.options, rx_frames_left))
            && self.receive.is_in_order()
            && self.receive.urgent == Urgent::None
            && !self.ecn
            && !self.detached
            && self.keepalive_sent == 0
            && match header.timestamps {
                Some(ts) => self.timestamps && SeqNum(ts.value).ge(SeqNum(self.ts_recent)),
                None => !self.timestamps,
            }
    }

    /// What [`handle_segment`](Self::handle_segment) would do with the header of a segment that is [predicted](Self::predicts).
    #[inline(always)]
    pub fn handle_predicted_ack(
        &mut self,
        header: &PlainHeader,
        now: Instant,
        counters: &mut Counters,
        spares: &mut Spares,
    ) {
        self.heard_at = now;
        let window = u32::from(header.window) << self.send.peer_scale;
        self.on_window(header.seq, header.ack, window, now);
        if header.ack != self.send.una || !self.send.segments.is_empty() {
            self.handle_ack_in_flight(header, now, counters, spares);
        }
        // RFC 7323 section 5.3 R3; that it is not older is known.
        if let Some(ts) = header.timestamps
            && header.seq.le(self.last_ack_sent)
        {
            (self.ts_recent, self.ts_recent_at) = (ts.value, now);
        }
    }

    /// Something is in flight, or was.
    #[inline(never)]
    fn handle_ack_in_flight(
        &mut self,
        header: &PlainHeader,
        now: Instant,
        counters: &mut Counters,
        spares: &mut Spares,
    ) {
        if !self.send.is_calm(header.ack) {
            self.handle_ack_in_distress(header, now, counters, spares);
        } else if header.ack != self.send.una {
            self.send.handle_calm_ack(header.ack, now, spares);
            self.on_acknowledged();
        }
    }

    /// And then with its payload, if there is any. The frame that is held now is for the caller to count.
    #[inline(always)]
    pub fn take_predicted(&mut self, payload: RxBuf, now: Instant, counters: &mut Counters, spares: &mut Spares) {
        let len = payload.len() as u32;
        self.receive.take_next(payload, len, spares);
        self.on_in_order(len, false, now, counters);
    }

    /// An acknowledgment for a sender that has losses to find or to repair.
    #[inline(never)]
    fn handle_ack_in_distress(
        &mut self,
        header: &PlainHeader,
        now: Instant,
        counters: &mut Counters,
        spares: &mut Spares,
    ) {
        let echo = header.timestamps.and_then(|ts| self.ms_since_timestamp(ts.echo, now).map(|ms| (ts.echo, ms)));
        let input = AckInput {
            ack: header.ack,
            sack: &SackBlocks::EMPTY,
            echo,
            // It acknowledges something, or carries data.
            duplicate: false,
            detection: self.options.loss_detection,
            congestion_echo: false,
            cwnd_limited: self.send.cwnd_limited,
            now,
        };
        if self.send.handle_ack(&input, counters, spares).acked > 0 {
            self.on_acknowledged();
        }
    }
}
