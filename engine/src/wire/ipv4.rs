//! The IPv4 header (RFC 791).

use super::{be16, checksum};
use std::net::Ipv4Addr;

/// Length of a header without options, in bytes.
pub const HEADER_BYTES: usize = 20;
/// Longest header: 15 words.
pub const HEADER_BYTES_MAX: usize = 60;
/// Largest datagram.
pub const TOTAL_BYTES_MAX: usize = 65_535;

/// Protocol numbers (IANA).
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
}

/// Flag: do not fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// Flag: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// A parsed and checked header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Type of service.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub id: u16,
    /// Length of the header with options, in bytes: 20 to 60.
    pub header_len: usize,
    /// Length of header and payload, in bytes: at least `header_len`, at most what was received.
    pub total_len: usize,
    flags_offset: u16,
}

/// Why a header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Shorter than a header, or than it says that it is.
    Truncated,
    /// Not version 4.
    Version,
    /// The header's length or the total length contradict each other or what was received.
    Length,
    /// The header's checksum is wrong.
    Checksum,
}

impl Header {
    /// Reads a header from the start of `packet`, of whose `received` bytes (over all pieces of a chain) `packet` is the first part and holds the whole header.
    ///
    /// # Errors
    /// See [`HeaderError`].
    #[inline]
    pub fn parse(packet: &[u8], received: usize) -> Result<Self, HeaderError> {
        let head: &[u8; HEADER_BYTES] = packet.first_chunk().ok_or(HeaderError::Truncated)?;
        if head[0] >> 4 != 4 {
            return Err(HeaderError::Version);
        }
        let header_len = usize::from(head[0] & 0x0f) * 4;
        let total_len = usize::from(be16(head, 2));
        if header_len < HEADER_BYTES || total_len < header_len {
            return Err(HeaderError::Length);
        }
        if packet.len() < header_len || received < total_len {
            return Err(HeaderError::Truncated);
        }
        let options = &packet[HEADER_BYTES..header_len];
        let options_sum = if options.is_empty() { 0 } else { checksum::sum(options) };
        if checksum::add(checksum::sum_20(head), options_sum) != 0xffff {
            return Err(HeaderError::Checksum);
        }
        Ok(Self {
            src: Ipv4Addr::new(head[12], head[13], head[14], head[15]),
            dst: Ipv4Addr::new(head[16], head[17], head[18], head[19]),
            protocol: head[9],
            tos: head[1],
            ttl: head[8],
            id: be16(head, 4),
            header_len,
            total_len,
            flags_offset: be16(head, 6),
        })
    }

    /// It is one of several fragments.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.flags_offset & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// More fragments follow this one.
    pub fn more_fragments(&self) -> bool {
        self.flags_offset & MORE_FRAGMENTS != 0
    }

    /// The sender forbids fragmentation.
    pub fn dont_fragment(&self) -> bool {
        self.flags_offset & DONT_FRAGMENT != 0
    }

    /// Offset of the payload in the whole datagram's payload, in bytes.
    pub fn fragment_offset(&self) -> usize {
        usize::from(self.flags_offset & OFFSET_MASK) * 8
    }

    /// The header of a datagram put together from fragments: its payload alone is left (a header length of 0).
    pub fn of_reassembled(&self, payload_len: usize) -> Self {
        Self { header_len: 0, total_len: payload_len, flags_offset: 0, ..*self }
    }

    /// Length of the payload, in bytes.
    #[inline]
    pub fn payload_len(&self) -> usize {
        self.total_len - self.header_len
    }
}

/// A header to write, without options.
#[derive(Clone, Copy, Debug)]
pub struct Repr {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Type of service.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub id: u16,
    /// Flags ([`DONT_FRAGMENT`], [`MORE_FRAGMENTS`]) and offset in units of 8 bytes.
    pub flags_offset: u16,
    /// Length of the payload, in bytes.
    pub payload_len: u16,
}

impl Repr {
    /// Writes the header with its checksum. The total length must not exceed 65,535 bytes: callers check.
    #[inline]
    pub fn write(&self, header: &mut [u8; HEADER_BYTES]) {
        let total = self.payload_len.saturating_add(HEADER_BYTES as u16);
        // Added up from the fields: reading back what was written byte by byte would wait for the stores.
        let first = 0x4500_u64 << 48
            | u64::from(self.tos) << 48
            | u64::from(total) << 32
            | u64::from(self.id) << 16
            | u64::from(self.flags_offset);
        let second = u64::from(self.ttl) << 24 | u64::from(self.protocol) << 16;
        let (src, dst) = (self.src.to_bits(), self.dst.to_bits());
        let sum = (first >> 32) + (first & 0xffff_ffff) + second + u64::from(src) + u64::from(dst);
        let checksum = !checksum::fold_fields(sum);
        header[..8].copy_from_slice(&first.to_be_bytes());
        header[8..16].copy_from_slice(&((second | u64::from(checksum)) << 32 | u64::from(src)).to_be_bytes());
        header[16..].copy_from_slice(&dst.to_be_bytes());
    }
}

/// The checksum field of a header.
#[inline]
pub fn checksum_of(header: &[u8; HEADER_BYTES]) -> u16 {
    be16(header, 10)
}

/// Gives a header that is there another length, of header and payload. `sum` is that of the header with it.
#[inline]
pub fn patch_len(header: &mut [u8; HEADER_BYTES], total_len: u16, sum: u64) {
    header[2..4].copy_from_slice(&total_len.to_be_bytes());
    header[10..12].copy_from_slice(&(!checksum::fold_fields(sum)).to_be_bytes());
}

/// Whether the options of a header are acceptable: each within the header (RFC 1122 section 3.2.1.8), and no source route, which would let a sender steer packets
/// around filters.
pub fn options_acceptable(mut options: &[u8]) -> Result<(), OptionError> {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    while let Some((&kind, rest)) = options.split_first() {
        match kind {
            END => break,
            NOP => options = rest,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(OptionError::SourceRoute),
            _ => {
                let len = usize::from(*rest.first().ok_or(OptionError::Length)?);
                if len < 2 {
                    return Err(OptionError::Length);
                }
                options = options.get(len..).ok_or(OptionError::Length)?;
            }
        }
    }
    Ok(())
}

/// Why options were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionError {
    /// An option is shorter than two bytes or runs out of the header.
    Length,
    /// A source route.
    SourceRoute,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [u8; 28] {
        let repr = Repr {
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(10, 0, 0, 2),
            protocol: protocol::UDP,
            tos: 0,
            ttl: 64,
            id: 0x1234,
            flags_offset: MORE_FRAGMENTS | 5,
            payload_len: 8,
        };
        let mut bytes = [0; 28];
        repr.write(bytes.first_chunk_mut().unwrap());
        bytes
    }

    #[test]
    fn round_trip() {
        let bytes = sample();
        let header = Header::parse(&bytes, bytes.len()).unwrap();
        assert_eq!((header.header_len, header.total_len, header.id), (20, 28, 0x1234));
        assert!(header.is_fragment() && header.more_fragments() && !header.dont_fragment());
        assert_eq!(header.fragment_offset(), 40);
    }

    #[test]
    fn lengths_that_disagree_are_refused() {
        let good = sample();
        let with = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            Header::parse(&bytes, bytes.len())
        };
        assert_eq!(with(0, 0x44), Err(HeaderError::Length));
        assert_eq!(with(0, 0x65), Err(HeaderError::Version));
        assert_eq!(with(0, 0x4f), Err(HeaderError::Length), "header of 60 bytes in 28");
        assert_eq!(with(3, 19), Err(HeaderError::Length));
        assert_eq!(with(3, 29), Err(HeaderError::Truncated));
        assert_eq!(with(8, 63), Err(HeaderError::Checksum));
        for cut in 0..28 {
            assert!(Header::parse(&good[..cut], cut).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn options() {
        assert_eq!(options_acceptable(&[1, 1, 0, 77]), Ok(()));
        assert_eq!(options_acceptable(&[148, 4, 0, 0]), Ok(()), "router alert");
        assert_eq!(options_acceptable(&[7, 0]), Err(OptionError::Length));
        assert_eq!(options_acceptable(&[7, 1]), Err(OptionError::Length));
        assert_eq!(options_acceptable(&[7, 9, 0, 0]), Err(OptionError::Length));
        assert_eq!(options_acceptable(&[7]), Err(OptionError::Length));
        assert_eq!(options_acceptable(&[131, 3, 4]), Err(OptionError::SourceRoute));
        assert_eq!(options_acceptable(&[137, 3, 4]), Err(OptionError::SourceRoute));
    }
}
