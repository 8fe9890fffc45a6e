//! The UDP header (RFC 768).

use super::{be16, checksum};

/// Length of the header, in bytes.
pub const HEADER_BYTES: usize = 8;
/// Most payload bytes of a datagram over IPv4 without options.
pub const PAYLOAD_BYTES_MAX: usize = 65_535 - 20 - HEADER_BYTES;

/// A parsed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source port; 0: none.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Length of header and payload, in bytes: at least 8, at most what was received.
    pub len: usize,
    /// Checksum as received; 0: the sender computed none.
    pub checksum: u16,
}

impl Header {
    /// Reads a header from the start of `datagram`, which has `received` bytes over all pieces; `None` if a length is wrong.
    #[inline]
    pub fn parse(datagram: &[u8], received: usize) -> Option<Self> {
        let head: &[u8; HEADER_BYTES] = datagram.first_chunk()?;
        let len = usize::from(be16(head, 4));
        (len >= HEADER_BYTES && len <= received).then(|| Self {
            src_port: be16(head, 0),
            dst_port: be16(head, 2),
            len,
            checksum: be16(head, 6),
        })
    }

    /// The one's-complement sum of the header with its checksum field.
    #[inline]
    pub fn sum(&self) -> u16 {
        let total = u32::from(self.src_port) + u32::from(self.dst_port) + self.len as u32 + u32::from(self.checksum);
        let total = (total & 0xffff) + (total >> 16);
        ((total & 0xffff) + (total >> 16)) as u16
    }
}

/// Writes a header. `sum` is the sum of pseudo-header and payload (see [`checksum`]), folded or not; the checksum is computed from it.
#[inline(always)]
pub fn write(header: &mut [u8; HEADER_BYTES], src_port: u16, dst_port: u16, len: u16, sum: impl Into<u64>) {
    let fields = [src_port, dst_port, len].map(u64::from);
    // RFC 768: a computed checksum of zero is sent as all ones, because zero says that there is none.
    let checksum = match !checksum::fold_fields(sum.into() + fields.iter().sum::<u64>()) {
        0 => 0xffff,
        other => other,
    };
    *header = (fields[0] << 48 | fields[1] << 32 | fields[2] << 16 | u64::from(checksum)).to_be_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let mut bytes = [0; 8];
        write(&mut bytes, 7, 9, 8, 0_u16);
        assert!(Header::parse(&bytes, 8).is_some());
        assert!(Header::parse(&bytes, 7).is_none());
        assert!(Header::parse(&bytes[..7], 7).is_none());
        bytes[5] = 7;
        assert!(Header::parse(&bytes, 8).is_none(), "shorter than the header");
        bytes[5] = 9;
        assert!(Header::parse(&bytes, 8).is_none(), "longer than what came");
    }

    #[test]
    fn zero_checksum_is_sent_as_ones() {
        let mut bytes = [0; 8];
        let header = Header { src_port: 1, dst_port: 2, len: 8, checksum: 0 };
        write(&mut bytes, 1, 2, 8, !header.sum());
        assert_eq!(&bytes[6..], [0xff, 0xff]);
    }
}
