//! What a script's numbers count from: one connection's initial sequence numbers, timestamps and scales, learned from the packets that go by.

use crate::{
    script::{Condition, OptionList, Packet},
    segment::{self, ACK, Options, PSH, SYN, Segment},
};
use framewire::time::Instant;
use std::fmt::Write as _;

pub(crate) const OUR_SERVICE_PORT: u16 = 80;

/// Byte `at` of a stream, for both directions.
pub(crate) fn content(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) peer_port: u16,
    pub(crate) our_port: u16,
    peer_isn: u32,
    our_isn: Option<u32>,
    /// From the SYNs: ours and the peer's.
    our_scale: Option<u8>,
    peer_scale: Option<u8>,
    our_timestamps: bool,
    peer_timestamps: bool,
    /// What our timestamps count from, and the last one.
    our_clock: Option<u32>,
    our_last_timestamp: u32,
    /// The peer's last timestamp and when it was sent.
    peer_clock: (u32, Instant),
    peer_last_window: u32,
    /// Bytes that the application was given, and has sent.
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl Connection {
    pub(crate) fn new(peer_port: u16, our_port: u16, peer_isn: u32) -> Self {
        Self {
            peer_port,
            our_port,
            peer_isn,
            our_isn: None,
            our_scale: None,
            peer_scale: None,
            our_timestamps: false,
            peer_timestamps: false,
            our_clock: None,
            our_last_timestamp: 0,
            peer_clock: (0, Instant::ZERO),
            peer_last_window: 65_535,
            received: 0,
            sent: 0,
        }
    }

    /// The next connection of the same ports. Sequence numbers of the peer go on to count from the same one.
    pub(crate) fn forget(&mut self) {
        *self = Self { peer_clock: self.peer_clock, ..Self::new(self.peer_port, self.our_port, self.peer_isn) };
    }

    fn scales(&self) -> (u8, u8) {
        match (self.our_scale, self.peer_scale) {
            (Some(ours), Some(peers)) => (ours, peers),
            _ => (0, 0),
        }
    }

    /// Our sequence number `n` of the script, as on the wire.
    pub(crate) fn our_seq(&self, n: u32) -> u32 {
        self.our_isn.unwrap_or(0).wrapping_add(n)
    }

    /// The packet that the peer sends.
    pub(crate) fn segment(&mut self, packet: &Packet, now: Instant) -> Segment {
        let Packet { flags, seq, len, ack, window, urgent, options, ecn, in_burst: _, more: _, bad_checksum: _ } =
            packet;
        let is_syn = flags & SYN != 0;
        let window = match window {
            Some(Condition::Is(window)) => *window as u32,
            _ => self.peer_last_window,
        };
        self.peer_last_window = window;
        let scale = if is_syn { 0 } else { self.scales().1 };
        let list_forbids_timestamps = options.as_ref().is_some_and(|list| list.no_timestamps);
        let options = match options {
            Some(list) => self.options(list, is_syn, flags & ACK != 0),
            None => Options::default(),
        };
        let wants_timestamps = !is_syn && self.our_timestamps && self.peer_timestamps;
        let options = match options.timestamps {
            None if wants_timestamps && !list_forbids_timestamps => {
                Options { timestamps: Some((self.peer_time(now), self.our_last_timestamp)), ..options }
            }
            _ => options,
        };
        if is_syn {
            self.peer_scale = options.window_scale.map(|scale| scale.min(14));
            self.peer_timestamps = options.timestamps.is_some();
        }
        if let Some((value, _)) = options.timestamps {
            self.peer_clock = (value, now);
        }
        // The content of a stream begins behind the SYN.
        let first = u64::from(seq.wrapping_sub(1).wrapping_add(u32::from(is_syn)));
        Segment {
            src_port: self.peer_port,
            dst_port: self.our_port,
            seq: self.peer_isn.wrapping_add(*seq),
            ack: ack.map_or(0, |ack| self.our_seq(ack)),
            flags: *flags,
            window: u16::try_from(window >> scale).unwrap_or(u16::MAX),
            urgent: urgent.unwrap_or(0),
            options,
            payload: (0..u64::from(*len)).map(|at| content((first + at) & 0xffff_ffff)).collect(),
            ecn: ecn.unwrap_or(0),
        }
    }

    fn peer_time(&self, now: Instant) -> u32 {
        let (value, at) = self.peer_clock;
        value.wrapping_add(now.saturating_since(at).as_millis() as u32)
    }

    fn options(&self, list: &OptionList, is_syn: bool, has_ack: bool) -> Options {
        let exact = |condition: Condition| match condition {
            Condition::Is(n) => Some(n as u32),
            _ => None,
        };
        Options {
            mss: list.mss.and_then(exact).map(|mss| mss as u16),
            window_scale: list.window_scale.and_then(exact).map(|scale| scale as u8),
            sack_permitted: list.sack_permitted,
            timestamps: list.timestamps.map(|(value, echo)| {
                let echo = match (exact(echo), self.our_clock) {
                    _ if is_syn && !has_ack => 0,
                    (Some(n), Some(clock)) => clock.wrapping_add(n),
                    _ => self.our_last_timestamp,
                };
                (exact(value).unwrap_or(self.peer_clock.0), if is_syn { self.our_last_timestamp } else { echo })
            }),
            sack: list.sack.iter().map(|(from, to)| (self.our_seq(*from), self.our_seq(*to))).collect(),
            raw: list.raw.clone(),
        }
    }

    /// Takes note of what a packet of ours says about the connection.
    pub(crate) fn observe(&mut self, segment: &Segment) {
        if segment.has(SYN) && self.our_isn.is_none() {
            self.our_isn = Some(segment.seq);
            self.our_port = segment.src_port;
            self.our_scale = segment.options.window_scale;
            self.our_timestamps = segment.options.timestamps.is_some();
        }
        if let Some((value, _)) = segment.options.timestamps {
            self.our_clock.get_or_insert(value);
            self.our_last_timestamp = value;
        }
    }

    /// In what a packet of ours differs from what the script expects.
    pub(crate) fn difference(&self, want: &Packet, got: &Segment) -> Option<String> {
        let Packet { flags, seq, len, ack, window, urgent, options, ecn, in_burst: _, more: _, bad_checksum: _ } = want;
        let mut wrong = String::new();
        let mut check = |name: &str, holds: bool| {
            if !holds {
                let _ = write!(wrong, "{}{name}", if wrong.is_empty() { "" } else { ", " });
            }
        };
        // A push is the sender's own affair, unless the script says it.
        let looked_at = if flags & PSH == 0 { !PSH } else { 0xff };
        check("flags", got.flags & looked_at == *flags);
        check("sequence number", self.our_seq(*seq) == got.seq || self.our_isn.is_none());
        check("length", got.payload.len() == *len as usize);
        check("acknowledgment", ack.is_none_or(|ack| self.peer_isn.wrapping_add(ack) == got.ack));
        check("window", window.is_none_or(|window| window.holds(u64::from(self.our_window(got)))));
        check("urgent pointer", urgent.unwrap_or(0) == got.urgent);
        check("ECN bits", ecn.is_none_or(|ecn| ecn == got.ecn));
        check("options", options.as_ref().is_none_or(|list| self.options_agree(list, &got.options)));
        let first = u64::from(got.seq.wrapping_sub(self.our_seq(1)));
        let right = |(at, byte): (usize, &u8)| *byte == content(first + at as u64);
        // A keep-alive's byte before the stream's first is anybody's.
        check("payload", *seq == 0 || *seq > i32::MAX as u32 || got.payload.iter().enumerate().all(right));
        (!wrong.is_empty()).then_some(wrong)
    }

    fn our_window(&self, segment: &Segment) -> u32 {
        u32::from(segment.window) << if segment.has(SYN) { 0 } else { self.scales().0 }
    }

    fn options_agree(&self, want: &OptionList, got: &Options) -> bool {
        let number = |want: Option<Condition>, got: Option<u64>| match (want, got) {
            (None, None) => true,
            (Some(want), Some(got)) => want.holds(got),
            _ => false,
        };
        let blocks =
            want.sack.iter().map(|(from, to)| (self.peer_isn.wrapping_add(*from), self.peer_isn.wrapping_add(*to)));
        let timestamps = match (want.timestamps, got.timestamps) {
            (None, None) => true,
            (Some((value, echo)), Some(got)) => {
                let since = got.0.wrapping_sub(self.our_clock.unwrap_or(got.0));
                value.holds(u64::from(since)) && echo.holds(u64::from(got.1))
            }
            _ => false,
        };
        number(want.mss, got.mss.map(u64::from))
            && number(want.window_scale, got.window_scale.map(u64::from))
            && want.sack_permitted == got.sack_permitted
            && timestamps
            && blocks.eq(got.sack.iter().copied())
    }

    /// A packet of either direction in the script's own language.
    pub(crate) fn describe(&self, segment: &Segment, ours: bool) -> String {
        let (own, other) = match ours {
            true => (self.our_isn.unwrap_or(0), self.peer_isn),
            false => (self.peer_isn, self.our_isn.unwrap_or(0)),
        };
        let relative = |n: u32, base: u32| n.wrapping_sub(base) as i32;
        let len = segment.payload.len();
        let seq = relative(segment.seq, own);
        let mut text = match segment.ecn {
            0 => String::new(),
            1 => "[ect1] ".into(),
            2 => "[ect0] ".into(),
            _ => "[ce] ".into(),
        };
        let flags = segment::letters(segment.flags);
        let _ = write!(
            text,
            "{} {seq}:{}({len})",
            if flags.is_empty() { "-" } else { &flags },
            i64::from(seq) + len as i64
        );
        if segment.has(ACK) {
            let _ = write!(text, " ack {}", relative(segment.ack, other));
        }
        let scale = match ours {
            _ if segment.has(SYN) => 0,
            true => self.scales().0,
            false => self.scales().1,
        };
        let _ = write!(text, " win {}", u32::from(segment.window) << scale);
        if segment.urgent != 0 {
            let _ = write!(text, " urg {}", segment.urgent);
        }
        let mut options = segment.options.clone();
        for block in &mut options.sack {
            *block = (block.0.wrapping_sub(other), block.1.wrapping_sub(other));
        }
        if let (Some((value, echo)), Some(clock)) = (&mut options.timestamps, self.our_clock) {
            let number = if ours { value } else { echo };
            *number = number.wrapping_sub(clock);
        }
        if options != Options::default() {
            let _ = write!(text, " {options}");
        }
        text
    }
}
