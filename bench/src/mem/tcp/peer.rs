//! A scripted TCP client on the wire: it opens one connection, sends full segments in order, and acknowledges every second one it hears. It checks
//! what it hears: addresses, checksums, order.

use crate::packet::{Flow, fold, sum};
use anyhow::Result;

const ETHERNET_BYTES: usize = 14;
const TCP_AT: usize = ETHERNET_BYTES + 20;
const MSS: u16 = 1460;
const WINDOW_SCALE: u8 = 7;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
/// NOP, NOP, timestamps: what a segment carries once both sides agreed on them.
const TIMESTAMPS_BYTES: usize = 12;

#[derive(Debug)]
pub(in crate::mem) struct Peer {
    flow: Flow,
    next: u32,
    /// First byte that the stack has not acknowledged.
    unacked: u32,
    /// Next byte expected from the stack; none before its SYN.
    expected: Option<u32>,
    /// Up to where the stack's bytes were acknowledged.
    acked: u32,
    /// What the stack allows beyond `unacked`, and its scale.
    window_bytes: usize,
    window_scale: u8,
    /// Most payload that the stack takes in a segment, options not counted.
    mss: usize,
    /// The stack's last timestamp, if it sends any.
    timestamp: Option<u32>,
    clock: u32,
    offers_timestamps: bool,
    frame: Vec<u8>,
}

impl Peer {
    pub(in crate::mem) fn new(flow: Flow) -> Self {
        let first = 0xffff_0000; // wraps soon
        Self {
            flow,
            next: first,
            unacked: first,
            expected: None,
            acked: 0,
            window_bytes: 0,
            window_scale: 0,
            mss: 536,
            timestamp: None,
            clock: 1000,
            offers_timestamps: true,
            frame: Vec::with_capacity(2048),
        }
    }

    /// One that need not hear every segment.
    pub(in crate::mem) fn without_timestamps(flow: Flow) -> Self {
        Self { offers_timestamps: false, ..Self::new(flow) }
    }

    /// The stack has sent that many bytes, which nobody has looked at.
    pub(in crate::mem) fn take(&mut self, bytes: usize) {
        self.expected = self.expected.map(|expected| expected.wrapping_add(bytes as u32));
    }

    pub(in crate::mem) fn is_connected(&self) -> bool {
        self.expected.is_some()
    }

    /// Payload of a full segment to the stack; the stack's own are as long.
    pub(in crate::mem) fn segment_bytes(&self) -> usize {
        self.mss.min(usize::from(MSS)) - if self.timestamp.is_some() { TIMESTAMPS_BYTES } else { 0 }
    }

    /// What the stack has not acknowledged.
    pub(in crate::mem) fn unacked_bytes(&self) -> usize {
        self.next.wrapping_sub(self.unacked) as usize
    }

    /// What may be sent now.
    pub(in crate::mem) fn window_bytes(&self) -> usize {
        self.window_bytes.saturating_sub(self.unacked_bytes())
    }

    pub(in crate::mem) fn syn(&mut self) -> Vec<u8> {
        let mut options = vec![2, 4];
        options.extend(MSS.to_be_bytes());
        if self.offers_timestamps {
            options.extend([4, 2, 8, 10]);
            options.extend(self.clock.to_be_bytes());
            options.extend([0, 0, 0, 0]);
        } else {
            options.extend([1, 1, 4, 2]);
        }
        options.extend([1, 3, 3, WINDOW_SCALE]);
        self.build(SYN, &options, 0, 0xffff);
        self.next = self.next.wrapping_add(1);
        self.frame.clone()
    }

    /// Acknowledges all that was heard.
    pub(in crate::mem) fn ack(&mut self) -> &[u8] {
        self.acked = self.expected.unwrap_or(0);
        self.established(ACK, 0)
    }

    /// The next full segment.
    pub(in crate::mem) fn data(&mut self) -> &[u8] {
        self.established(ACK | PSH, self.segment_bytes())
    }

    /// Acknowledges every second segment that was heard since the last time, and the last.
    pub(in crate::mem) fn acks(&mut self) -> Vec<Vec<u8>> {
        let (end, step) = (self.expected.unwrap_or(0), 2 * self.segment_bytes() as u32);
        let mut acks = Vec::new();
        while self.acked != end {
            self.acked = self.acked.wrapping_add(step.min(end.wrapping_sub(self.acked)));
            acks.push(self.established(ACK, 0).to_owned());
        }
        acks
    }

    fn established(&mut self, flags: u8, payload_bytes: usize) -> &[u8] {
        self.clock = self.clock.wrapping_add(1);
        let mut options = Vec::new();
        if let Some(echo) = self.timestamp {
            options.extend([1, 1, 8, 10]);
            options.extend(self.clock.to_be_bytes());
            options.extend(echo.to_be_bytes());
        }
        self.build(flags, &options, payload_bytes, 0xffff);
        self.next = self.next.wrapping_add(payload_bytes as u32);
        &self.frame
    }

    fn build(&mut self, flags: u8, options: &[u8], payload_bytes: usize, window: u16) {
        let Self { flow, frame, .. } = self;
        let tcp_bytes = 20 + options.len() + payload_bytes;
        frame.clear();
        frame.extend(flow.target_mac.0);
        frame.extend(flow.source_mac.0);
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(((20 + tcp_bytes) as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(flow.source.ip().octets());
        frame.extend(flow.target.ip().octets());
        let ip_sum = !fold(sum(&frame[ETHERNET_BYTES..TCP_AT]));
        frame[24..26].copy_from_slice(&ip_sum.to_be_bytes());
        frame.extend(flow.source.port().to_be_bytes());
        frame.extend(flow.target.port().to_be_bytes());
        frame.extend(self.next.to_be_bytes());
        frame.extend(if flags & ACK == 0 { 0 } else { self.acked }.to_be_bytes());
        frame.extend([((20 + options.len()) << 2) as u8, flags]);
        frame.extend(window.to_be_bytes());
        frame.extend([0, 0, 0, 0]);
        frame.extend(options);
        frame.resize(frame.len() + payload_bytes, 0x5a);
        let tcp_sum = !tcp_sum(frame);
        frame[TCP_AT + 16..TCP_AT + 18].copy_from_slice(&tcp_sum.to_be_bytes());
    }

    /// Takes a frame of the stack's; the length of its payload.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::mem) fn hear(&mut self, frame: &[u8]) -> Result<usize, String> {
        if frame.get(12..14) != Some(&[8, 0]) {
            return Ok(0); // ARP
        }
        let total = frame.get(16..18).map_or(0, |bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
        let Some(frame) = frame.get(..ETHERNET_BYTES + total) else { return Err("shorter than it says".into()) };
        if total < 40 || frame[14] != 0x45 || frame[23] != 6 {
            return Err(format!("no TCP: {:02x?}", &frame[..frame.len().min(TCP_AT)]));
        }
        let flow = &self.flow;
        if frame[26..30] != flow.target.ip().octets()
            || frame[30..34] != flow.source.ip().octets()
            || frame[34..36] != flow.target.port().to_be_bytes()
            || frame[36..38] != flow.source.port().to_be_bytes()
        {
            return Err(format!("wrong addresses or ports: {:02x?}", &frame[26..38]));
        }
        if fold(sum(&frame[ETHERNET_BYTES..TCP_AT])) != 0xffff || tcp_sum(frame) != 0xffff {
            return Err("a wrong checksum".into());
        }
        let word = |at: usize| u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        let (sequence, ack, flags) = (word(TCP_AT + 4), word(TCP_AT + 8), frame[TCP_AT + 13]);
        let window = usize::from(u16::from_be_bytes([frame[TCP_AT + 14], frame[TCP_AT + 15]]));
        let header_bytes = usize::from(frame[TCP_AT + 12] >> 4) * 4;
        let Some((options, payload)) =
            frame[TCP_AT..].split_at_checked(header_bytes).and_then(|(header, rest)| Some((header.get(20..)?, rest)))
        else {
            return Err("a wrong header length".into());
        };
        if flags & (RST | FIN) != 0 {
            return Err(format!("a reset or an end: flags {flags:#x}"));
        }
        self.read_options(options, flags & SYN != 0);
        let expected = match self.expected {
            None if flags & SYN != 0 => {
                self.acked = sequence;
                sequence.wrapping_add(1)
            }
            None => return Err("no SYN".into()),
            Some(expected) if payload.is_empty() || sequence == expected => expected.wrapping_add(payload.len() as u32),
            Some(expected) => return Err(format!("sequence number {sequence} where {expected} is next")),
        };
        self.expected = Some(expected);
        if (ack.wrapping_sub(self.unacked) as usize) <= self.unacked_bytes() {
            self.unacked = ack;
            self.window_bytes = window << if flags & SYN == 0 { self.window_scale } else { 0 };
        }
        Ok(payload.len())
    }

    fn read_options(&mut self, mut options: &[u8], is_syn: bool) {
        while let [kind, rest @ ..] = options {
            match (*kind, rest) {
                (0, _) => break,
                (1, _) => {
                    options = rest;
                    continue;
                }
                (2, [4, high, low, ..]) if is_syn => self.mss = usize::from(u16::from_be_bytes([*high, *low])),
                (3, [3, scale, ..]) if is_syn => self.window_scale = *scale,
                (8, [10, a, b, c, d, ..]) if is_syn || self.timestamp.is_some() => {
                    self.timestamp = Some(u32::from_be_bytes([*a, *b, *c, *d]));
                }
                _ => {}
            }
            let len = rest.first().map_or(0, |len| usize::from(*len));
            options = options.get(len.max(2)..).unwrap_or_default();
        }
    }
}

/// Over pseudo-header, header and payload.
fn tcp_sum(frame: &[u8]) -> u16 {
    fold(sum(&frame[26..34]) + 6 + (frame.len() - TCP_AT) as u32 + sum(&frame[TCP_AT..]))
}
