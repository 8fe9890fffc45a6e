//! SYN-RECEIVED of a passive open: small, since whoever sends SYNs makes us keep one (RFC 4987).

use super::{
    connection::{Connection, MSS_DEFAULT, MSS_MIN, Opening, window_scale},
    cookie::CookieOptions,
    host::Host,
    input::Incoming,
    types::{Ecn, Endpoints, TcpOptions, TcpState},
};
use crate::{
    time::Instant,
    wire::{
        seq::SeqNum,
        tcp::{Options, Repr, SackBlocks, Timestamps, flags},
    },
};

/// A SYN that was answered.
#[derive(Clone, Debug)]
pub struct HalfOpen {
    /// Both ends.
    pub ends: Endpoints,
    /// Our initial sequence number.
    pub iss: SeqNum,
    /// The peer's.
    pub irs: SeqNum,
    /// Largest IP packet on the path, in bytes.
    pub path_mtu: u16,
    /// Added to our clock in timestamps.
    pub ts_offset: u32,
    peer_mss: u16,
    peer_scale: Option<u8>,
    sack: bool,
    ecn: bool,
    ts_recent: Option<u32>,
    /// When the SYN-ACK was sent first, for the round-trip time.
    sent_at: Instant,
    /// How often it was sent again.
    pub retries: u8,
}

/// What a segment for a half-open connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfOpenReaction {
    /// The handshake is done: make the connection and give it this segment.
    Establish,
    /// The peer's SYN again: answer again.
    Answer,
    /// It is not acceptable: a bare acknowledgment says where we are (RFC 5961).
    Challenge,
    /// Answer with a reset.
    Reset,
    /// The peer has given up.
    Remove,
    /// Nothing.
    Ignore,
}

impl HalfOpen {
    /// What `segment`, an acceptable SYN, asks for. `iss` and `ts_offset` are ours.
    pub fn new(
        segment: &Incoming,
        ends: Endpoints,
        iss: SeqNum,
        ts_offset: u32,
        path_mtu: u16,
        ecn: Ecn,
        now: Instant,
    ) -> Self {
        let Incoming { header, options, .. } = segment;
        let both = flags::ECE | flags::CWR;
        Self {
            ends,
            iss,
            irs: header.seq,
            path_mtu,
            ts_offset,
            peer_mss: options.mss.unwrap_or(MSS_DEFAULT).max(MSS_MIN),
            peer_scale: options.window_scale,
            sack: options.sack_permitted,
            // RFC 3168 section 6.1.1.
            ecn: ecn != Ecn::Off && header.flags & both == both,
            ts_recent: options.timestamps.map(|ts| ts.value),
            sent_at: now,
            retries: 0,
        }
    }

    /// From the acknowledgment of a cookie: what the cookie and our echoed timestamp have kept.
    pub fn from_cookie(
        segment: &Incoming,
        ends: Endpoints,
        peer_mss: u16,
        kept: CookieOptions,
        ts_offset: u32,
        path_mtu: u16,
        now: Instant,
    ) -> Self {
        let Incoming { header, options, .. } = segment;
        Self {
            ends,
            iss: SeqNum(header.ack.0.wrapping_sub(1)),
            irs: SeqNum(header.seq.0.wrapping_sub(1)),
            path_mtu,
            ts_offset,
            peer_mss: peer_mss.max(MSS_MIN),
            peer_scale: kept.window_scale,
            sack: kept.sack_permitted,
            ecn: kept.ecn,
            ts_recent: options.timestamps.map(|ts| ts.value),
            sent_at: now,
            // Nobody knows when the SYN-ACK went.
            retries: 1,
        }
    }

    /// What a cookie cannot keep: (window scale, SACK, ECN).
    pub fn asked(&self) -> (Option<u8>, bool, bool) {
        (self.peer_scale, self.sack, self.ecn)
    }

    /// The MSS that the peer announced.
    pub fn peer_mss(&self) -> u16 {
        self.peer_mss
    }

    /// The peer sends timestamps.
    pub fn has_timestamps(&self) -> bool {
        self.ts_recent.is_some()
    }

    /// The SYN-ACK. `ts_value`: our timestamp.
    pub fn syn_ack(&self, options: &TcpOptions, ts_value: u32) -> Repr {
        let scale = window_scale(options.recv_queue_bytes_max);
        Repr {
            src_port: self.ends.local.port(),
            dst_port: self.ends.remote.port(),
            seq: self.iss,
            ack: self.irs + 1,
            flags: flags::SYN | flags::ACK | if self.ecn { flags::ECE } else { 0 },
            window: first_window(options),
            urgent: 0,
            options: Options {
                mss: Some(self.path_mtu.saturating_sub(40).min(options.mss_max).max(MSS_MIN)),
                window_scale: self.peer_scale.map(|_| scale),
                sack_permitted: self.sack,
                timestamps: self.ts_recent.map(|echo| Timestamps { value: ts_value, echo }),
                sack: SackBlocks::EMPTY,
            },
        }
    }

    /// A bare acknowledgment.
    pub fn challenge(&self, options: &TcpOptions, ts_value: u32) -> Repr {
        let mut repr = self.syn_ack(options, ts_value);
        repr.seq = self.iss + 1;
        repr.flags = flags::ACK;
        repr.options = Options { timestamps: repr.options.timestamps, ..Options::default() };
        repr
    }

    /// RFC 9293 section 3.10.7.4, SYN-RECEIVED state.
    pub fn handle_segment(&self, segment: &Incoming, payload_len: usize, options: &TcpOptions) -> HalfOpenReaction {
        let Incoming { header, options: told, .. } = segment;
        let has = |flag| header.flags & flag != 0;
        let next = self.irs + 1;
        if has(flags::SYN) && !has(flags::ACK | flags::RST) && header.seq == self.irs {
            return HalfOpenReaction::Answer;
        }
        if let (Some(recent), Some(ts)) = (self.ts_recent, told.timestamps)
            && SeqNum(ts.value).lt(SeqNum(recent))
            && !has(flags::RST)
        {
            return HalfOpenReaction::Challenge;
        }
        let within = header.seq.in_window(next, u32::from(first_window(options)).max(1));
        let overlaps = payload_len > 0 && (header.seq + payload_len as u32).gt(next) && header.seq.le(next);
        if !within && !overlaps {
            return if has(flags::RST) { HalfOpenReaction::Ignore } else { HalfOpenReaction::Challenge };
        }
        if has(flags::RST) {
            // RFC 5961 section 3.
            return if header.seq == next { HalfOpenReaction::Remove } else { HalfOpenReaction::Challenge };
        }
        if has(flags::SYN) {
            return HalfOpenReaction::Challenge;
        }
        if !has(flags::ACK) {
            return HalfOpenReaction::Ignore;
        }
        if header.ack != self.iss + 1 {
            return HalfOpenReaction::Reset;
        }
        HalfOpenReaction::Establish
    }

    /// The connection that it becomes. Give it the segment that established it next.
    pub fn establish(&self, segment: &Incoming, options: std::rc::Rc<TcpOptions>, host: &impl Host) -> Connection {
        let now = host.now();
        let opening =
            Opening { ends: self.ends, iss: self.iss, ts_offset: self.ts_offset, path_mtu: self.path_mtu, options };
        let mut connection = Connection::new(opening, self.irs, host);
        connection.state = TcpState::Established;
        connection.receive.edge = self.irs + 1 + u32::from(first_window(&connection.options));
        connection.timestamps = self.ts_recent.is_some();
        (connection.ts_recent, connection.ts_recent_at) = (self.ts_recent.unwrap_or(0), now);
        connection.ecn = self.ecn;
        connection.send.sack = self.sack;
        connection.send.peer_mss = self.peer_mss;
        match self.peer_scale {
            Some(scale) => connection.send.peer_scale = scale,
            None => connection.receive.scale = 0,
        }
        connection.send.una = self.iss + 1;
        connection.send.nxt = self.iss + 1;
        connection.send.sent_at = now;
        if self.retries == 0 {
            // RFC 6298 section 3: only what was sent once can be timed.
            connection.send.note_handshake(now.saturating_since(self.sent_at));
        }
        let window = u32::from(segment.header.window) << connection.send.peer_scale;
        connection.send.set_window(segment.header.seq, segment.header.ack, window);
        connection.begin(host);
        connection
    }
}

/// The window of a SYN-ACK, never scaled (RFC 7323 section 2.2).
fn first_window(options: &TcpOptions) -> u16 {
    options.recv_queue_bytes.min(options.recv_queue_bytes_max).min(u32::from(u16::MAX)) as u16
}
