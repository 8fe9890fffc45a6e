//! The generator's packets, and what a right answer to one looks like.

use framewire::port::MacAddr;
use std::net::SocketAddrV4;

/// Ethernet, IPv4 without options, UDP.
pub(crate) const HEADER_BYTES: usize = 14 + 20 + 8;
/// Magic number and sequence number at the start of the payload.
pub(crate) const PAYLOAD_BYTES_MIN: usize = 16;
/// What fits an MTU of 1,500.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1472;

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"framewir");
const TTL: u8 = 64;

/// What the system under load does to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Answer {
    /// Ethernet addresses swapped, all else as it was.
    Reflect,
    /// Ethernet and IPv4 addresses and UDP ports swapped, payload as it was.
    Echo,
}

/// The two ends of the generator's traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) source_mac: MacAddr,
    pub(crate) target_mac: MacAddr,
    pub(crate) source: SocketAddrV4,
    pub(crate) target: SocketAddrV4,
}

impl Flow {
    /// A frame with sequence number 0 and right checksums.
    ///
    /// # Panics
    /// The payload is not between [`PAYLOAD_BYTES_MIN`] and [`PAYLOAD_BYTES_MAX`] bytes long.
    pub(crate) fn frame(&self, payload_bytes: usize) -> Vec<u8> {
        assert!((PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&payload_bytes), "a payload of {payload_bytes} bytes");
        let mut frame = Vec::with_capacity(HEADER_BYTES + payload_bytes);
        frame.extend(self.target_mac.0);
        frame.extend(self.source_mac.0);
        frame.extend([8, 0]);
        frame.extend([0x45, 0]);
        frame.extend(((28 + payload_bytes) as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, TTL, 17, 0, 0]);
        frame.extend(self.source.ip().octets());
        frame.extend(self.target.ip().octets());
        let ip_sum = !fold(sum(&frame[14..34]));
        frame[24..26].copy_from_slice(&ip_sum.to_be_bytes());
        frame.extend(self.source.port().to_be_bytes());
        frame.extend(self.target.port().to_be_bytes());
        frame.extend(((8 + payload_bytes) as u16).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(MAGIC.to_ne_bytes());
        frame.extend(0_u64.to_ne_bytes());
        frame.extend((PAYLOAD_BYTES_MIN..payload_bytes).map(fill_byte));
        let udp_sum = !fold(pseudo_sum(&frame) + sum(&frame[34..]));
        let udp_sum = if udp_sum == 0 { 0xffff } else { udp_sum };
        frame[40..42].copy_from_slice(&udp_sum.to_be_bytes());
        frame
    }

    /// Checks a reply to a packet of `payload_bytes`. Checksums count as right when they are, or when they hold only the pseudo-header's
    /// sum: that is what a kernel with transmit checksum offload puts on a link that is memory (`CHECKSUM_PARTIAL`).
    ///
    /// # Errors
    /// What is wrong first.
    pub(crate) fn check_reply(&self, frame: &[u8], payload_bytes: usize, answer: Answer) -> Result<(), String> {
        let bytes = HEADER_BYTES + payload_bytes;
        if frame.len() != bytes {
            return Err(format!("{} bytes long instead of {bytes}", frame.len()));
        }
        let same = |what: &str, at: std::ops::Range<usize>, expected: &[u8]| {
            let found = &frame[at];
            if found == expected { Ok(()) } else { Err(format!("{what} is {found:02x?} instead of {expected:02x?}")) }
        };
        let (from, to) = match answer {
            Answer::Reflect => (self.source, self.target),
            Answer::Echo => (self.target, self.source),
        };
        same("Ethernet destination", 0..6, &self.source_mac.0)?;
        same("Ethernet source", 6..12, &self.target_mac.0)?;
        same("ethertype, version and header length", 12..15, &[8, 0, 0x45])?;
        same("IPv4 total length", 16..18, &((28 + payload_bytes) as u16).to_be_bytes())?;
        same("protocol", 23..24, &[17])?;
        same("IPv4 source", 26..30, &from.ip().octets())?;
        same("IPv4 destination", 30..34, &to.ip().octets())?;
        same("source port", 34..36, &from.port().to_be_bytes())?;
        same("destination port", 36..38, &to.port().to_be_bytes())?;
        same("UDP length", 38..40, &((8 + payload_bytes) as u16).to_be_bytes())?;
        if fold(sum(&frame[14..34])) != 0xffff {
            return Err("the IPv4 header checksum is wrong".into());
        }
        let partial = u16::from_be_bytes([frame[40], frame[41]]) == fold(pseudo_sum(frame));
        if !partial && fold(pseudo_sum(frame) + sum(&frame[34..])) != 0xffff {
            return Err("the UDP checksum is wrong".into());
        }
        same("magic number", 42..50, &MAGIC.to_ne_bytes())?;
        let fill = &frame[HEADER_BYTES + PAYLOAD_BYTES_MIN..];
        match fill.iter().zip(PAYLOAD_BYTES_MIN..).position(|(&found, at)| found != fill_byte(at)) {
            None => Ok(()),
            Some(at) => Err(format!("payload byte {} was changed", PAYLOAD_BYTES_MIN + at)),
        }
    }
}

/// The ones' complement sum of everything under the UDP checksum with the sequence number 0, in this machine's byte order: what the
/// sender adds a sequence number to (RFC 1071, section 2: the sum does not depend on byte order).
pub(crate) fn checksum_base(frame: &[u8]) -> u32 {
    let mut frame = frame.to_owned();
    frame[40..42].fill(0);
    u32::from(u16::from_ne_bytes(fold(pseudo_sum(&frame) + sum(&frame[34..])).to_be_bytes()))
}

/// A pattern in which a shifted or repeated piece shows.
fn fill_byte(at: usize) -> u8 {
    (at ^ (at >> 8).wrapping_mul(31)) as u8
}

pub(crate) fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum()
}

fn pseudo_sum(frame: &[u8]) -> u32 {
    sum(&frame[26..34]) + 17 + (frame.len() - 34) as u32
}

pub(crate) fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        Flow {
            source_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            target_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            source: "198.18.0.2:9000".parse().unwrap(),
            target: "198.18.0.1:7".parse().unwrap(),
        }
    }

    fn reflected(mut frame: Vec<u8>) -> Vec<u8> {
        let (destination, source) = frame[..12].split_at_mut(6);
        destination.swap_with_slice(source);
        frame
    }

    fn echoed(frame: Vec<u8>) -> Vec<u8> {
        let mut frame = reflected(frame);
        let (source, destination) = frame[26..34].split_at_mut(4);
        source.swap_with_slice(destination);
        let (source, destination) = frame[34..38].split_at_mut(2);
        source.swap_with_slice(destination);
        frame
    }

    #[test]
    fn right_replies_of_every_size_are_accepted() {
        for bytes in PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX {
            let frame = flow().frame(bytes);
            flow().check_reply(&reflected(frame.clone()), bytes, Answer::Reflect).unwrap();
            flow().check_reply(&echoed(frame), bytes, Answer::Echo).unwrap();
        }
    }

    #[test]
    fn a_reply_with_any_byte_changed_is_refused() {
        // Not fixed by the check: type of service, identification, fragment field and time to live, which a host may choose,
        // are under the IPv4 checksum; the sequence number is under UDP's.
        let frame = echoed(flow().frame(64));
        for at in 0..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 0x10;
            assert!(flow().check_reply(&changed, 64, Answer::Echo).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_reflection_is_no_echo() {
        let frame = reflected(flow().frame(64));
        assert!(flow().check_reply(&frame, 64, Answer::Echo).unwrap_err().contains("IPv4 source"));
    }

    #[test]
    fn checksum_base_plus_sequence_is_the_checksum() {
        for sequence in [0_u64, 1, 0xffff, 0x1_0000, u64::MAX, 0x0123_4567_89ab_cdef] {
            for bytes in [16, 17, 64, 1472] {
                let mut frame = echoed(flow().frame(bytes));
                let words = [sequence & 0xffff, sequence >> 16 & 0xffff, sequence >> 32 & 0xffff, sequence >> 48];
                let sum = fold(checksum_base(&frame) + words.iter().sum::<u64>() as u32);
                frame[50..58].copy_from_slice(&sequence.to_ne_bytes());
                frame[40..42].copy_from_slice(&match !sum {
                    0 => [0xff; 2],
                    checksum => checksum.to_ne_bytes(),
                });
                flow().check_reply(&frame, bytes, Answer::Echo).unwrap();
            }
        }
    }

    #[test]
    fn a_partial_checksum_is_accepted() {
        let mut frame = echoed(flow().frame(512));
        let partial = fold(pseudo_sum(&frame));
        frame[40..42].copy_from_slice(&partial.to_be_bytes());
        flow().check_reply(&frame, 512, Answer::Echo).unwrap();
    }
}
