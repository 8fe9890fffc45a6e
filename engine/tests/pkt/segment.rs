//! TCP segments in Ethernet frames, read and written without the engine's own code, so that both cannot be wrong in the same way.

use std::fmt;

pub(crate) const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const US: [u8; 4] = [10, 0, 0, 1];
pub(crate) const PEER: [u8; 4] = [10, 0, 0, 2];

pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;
pub(crate) const URG: u8 = 32;
/// Letters of scripts, from bit 0 on.
pub(crate) const FLAG_LETTERS: &str = "FSRP.UEW";

const IP: usize = 14;
const TCP: usize = IP + 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) mss: Option<u16>,
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack_permitted: bool,
    pub(crate) timestamps: Option<(u32, u32)>,
    pub(crate) sack: Vec<(u32, u32)>,
    /// Bytes that go in front of the others as they are.
    pub(crate) raw: Vec<u8>,
}

impl Options {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.raw.clone();
        if let Some(mss) = self.mss {
            bytes.extend([2, 4]);
            bytes.extend(mss.to_be_bytes());
        }
        if let Some(scale) = self.window_scale {
            bytes.extend([1, 3, 3, scale]);
        }
        if self.sack_permitted {
            bytes.extend([1, 1, 4, 2]);
        }
        if let Some((value, echo)) = self.timestamps {
            bytes.extend([1, 1, 8, 10]);
            bytes.extend([value.to_be_bytes(), echo.to_be_bytes()].concat());
        }
        if !self.sack.is_empty() {
            bytes.extend([1, 1, 5, 2 + 8 * self.sack.len() as u8]);
            for (from, to) in &self.sack {
                bytes.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
            }
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn parse(mut bytes: &[u8]) -> Result<Self, String> {
        let mut options = Self::default();
        let be16 = |b: &[u8]| u16::from_be_bytes([b[0], b[1]]);
        let be32 = |b: &[u8]| u32::from_be_bytes([b[0], b[1], b[2], b[3]]);
        while let Some(&kind) = bytes.first() {
            if kind == 0 {
                break;
            }
            if kind == 1 {
                bytes = &bytes[1..];
                continue;
            }
            let len = usize::from(*bytes.get(1).ok_or("an option without a length")?);
            let body = bytes.get(2..len).ok_or(format!("option {kind} of {len} bytes runs out of the header"))?;
            match (kind, body.len()) {
                (2, 2) => options.mss = Some(be16(body)),
                (3, 1) => options.window_scale = Some(body[0]),
                (4, 0) => options.sack_permitted = true,
                (5, n) if n > 0 && n % 8 == 0 => {
                    options.sack = body.chunks(8).map(|block| (be32(block), be32(&block[4..]))).collect();
                }
                (8, 8) => options.timestamps = Some((be32(body), be32(&body[4..]))),
                _ => return Err(format!("option {kind} of {len} bytes")),
            }
            bytes = &bytes[len..];
        }
        Ok(options)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    pub(crate) options: Options,
    pub(crate) payload: Vec<u8>,
    /// The two ECN bits of the IP header (RFC 3168).
    pub(crate) ecn: u8,
}

impl Segment {
    /// The frame from the peer to us.
    pub(crate) fn frame(&self, checksum_is_right: bool) -> Vec<u8> {
        let options = self.options.bytes();
        let mut tcp = Vec::with_capacity(20 + options.len() + self.payload.len());
        tcp.extend(self.src_port.to_be_bytes());
        tcp.extend(self.dst_port.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([(((20 + options.len()) / 4) << 4) as u8, self.flags]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0, 0]);
        tcp.extend(self.urgent.to_be_bytes());
        tcp.extend(&options);
        tcp.extend(&self.payload);
        let sum = !sum(&[&pseudo_header(PEER, US, tcp.len()), &tcp]);
        let sum = if checksum_is_right { sum } else { sum ^ 0x5555 };
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        [&link(PEER_MAC, OUR_MAC)[..], &ip(PEER, US, 6, self.ecn, tcp.len()), &tcp].concat()
    }

    /// Reads a frame that we sent; `None` if it is no TCP.
    ///
    /// # Errors
    /// It is wrong: how.
    pub(crate) fn parse(frame: &[u8]) -> Result<Option<Self>, String> {
        if frame.get(12..14) != Some(&[8, 0]) || frame.len() < TCP || frame[IP + 9] != 6 {
            return Ok(None);
        }
        if frame[..6] != PEER_MAC || frame[6..12] != OUR_MAC {
            return Err("wrong Ethernet addresses".into());
        }
        let be16 = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let be32 = |at: usize| u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        if frame[IP] != 0x45 || usize::from(be16(IP + 2)) != frame.len() - IP {
            return Err("wrong IP length".into());
        }
        if frame[IP + 12..IP + 16] != US || frame[IP + 16..IP + 20] != PEER {
            return Err("wrong IP addresses".into());
        }
        if be16(IP + 6) != 0x4000 {
            return Err("fragmented, or allowed to be".into());
        }
        let tcp = frame.get(TCP..).filter(|tcp| tcp.len() >= 20).ok_or("TCP header cut")?;
        let wrong = |sum: u16| sum != 0xffff;
        if wrong(sum(&[&frame[IP..TCP]])) || wrong(sum(&[&pseudo_header(US, PEER, tcp.len()), tcp])) {
            return Err("wrong checksum".into());
        }
        let header_len = usize::from(tcp[12] >> 4) * 4;
        let options = tcp.get(20..header_len).ok_or("TCP header longer than the packet")?;
        Ok(Some(Self {
            src_port: be16(TCP),
            dst_port: be16(TCP + 2),
            seq: be32(TCP + 4),
            ack: be32(TCP + 8),
            flags: tcp[13],
            window: be16(TCP + 14),
            urgent: be16(TCP + 18),
            options: Options::parse(options)?,
            payload: tcp[header_len..].to_vec(),
            ecn: frame[IP + 1] & 3,
        }))
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Flags in letters.
pub(crate) fn letters(flags: u8) -> String {
    FLAG_LETTERS.chars().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1).map(|(_, letter)| letter).collect()
}

fn link(from: [u8; 6], to: [u8; 6]) -> [u8; IP] {
    let mut header = [0; IP];
    header[..6].copy_from_slice(&to);
    header[6..12].copy_from_slice(&from);
    header[12] = 8;
    header
}

fn ip(src: [u8; 4], dst: [u8; 4], protocol: u8, tos: u8, payload: usize) -> Vec<u8> {
    let mut header = vec![0x45, tos, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    header[2..4].copy_from_slice(&(20 + payload as u16).to_be_bytes());
    header.extend(src);
    header.extend(dst);
    let sum = !sum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

fn pseudo_header(src: [u8; 4], dst: [u8; 4], len: usize) -> Vec<u8> {
    [&src[..], &dst, &[0, 6], &(len as u16).to_be_bytes()].concat()
}

/// RFC 1071, word by word; every part but the last has an even length.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// An ICMP error of the peer, or of a router of its address, about a segment of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IcmpError {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) mtu: u16,
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) seq: u32,
    /// TCP bytes of the quoted segment.
    pub(crate) tcp_len: usize,
}

impl IcmpError {
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut icmp = vec![self.kind, self.code, 0, 0, 0, 0];
        icmp.extend(self.mtu.to_be_bytes());
        icmp.extend(ip(US, PEER, 6, 0, self.tcp_len));
        icmp.extend(self.src_port.to_be_bytes());
        icmp.extend(self.dst_port.to_be_bytes());
        icmp.extend(self.seq.to_be_bytes());
        let sum = !sum(&[&icmp]);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        [&link(PEER_MAC, OUR_MAC)[..], &ip(PEER, US, 1, 0, icmp.len()), &icmp].concat()
    }
}

impl fmt::Display for Options {
    /// As in scripts, with the raw numbers of timestamps and SACK blocks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut items = vec![];
        items.extend(self.mss.map(|mss| format!("mss {mss}")));
        items.extend(self.sack_permitted.then(|| "sackOK".into()));
        items.extend(self.timestamps.map(|(value, echo)| format!("TS val {value} ecr {echo}")));
        items.extend(self.window_scale.map(|scale| format!("wscale {scale}")));
        if !self.sack.is_empty() {
            let blocks: Vec<_> = self.sack.iter().map(|(from, to)| format!("{from}:{to}")).collect();
            items.push(format!("sack {}", blocks.join(" ")));
        }
        if !self.raw.is_empty() {
            items.push(format!("raw {:02x?}", self.raw));
        }
        write!(f, "<{}>", items.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_round_trip() {
        let options = Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((1, 0xffff_ffff)),
            sack: vec![(5, 9), (20, 30)],
            raw: vec![],
        };
        assert_eq!(Options::parse(&options.bytes()), Ok(options));
        assert!(
            Options::parse(&[2]).is_err() && Options::parse(&[2, 9, 0]).is_err() && Options::parse(&[5, 3, 0]).is_err()
        );
    }

    #[test]
    fn frames_are_read_back() {
        let options = Options { timestamps: Some((7, 8)), ..Options::default() };
        let segment = Segment {
            src_port: 4000,
            dst_port: 80,
            seq: 9,
            flags: ACK,
            payload: vec![1; 33],
            options,
            ..Default::default()
        };
        let mut frame = segment.frame(true);
        assert!(Segment::parse(&frame).is_err(), "it goes the wrong way");
        frame[..6].copy_from_slice(&PEER_MAC);
        frame[6..12].copy_from_slice(&OUR_MAC);
        // Swapping the addresses leaves both sums as they are.
        let (src, dst): ([u8; 4], [u8; 4]) = (PEER, US);
        frame[26..30].copy_from_slice(&dst);
        frame[30..34].copy_from_slice(&src);
        assert_eq!(Segment::parse(&frame), Ok(Some(segment)));
        frame[60] ^= 1;
        assert_eq!(Segment::parse(&frame), Err("wrong checksum".into()));
    }
}
