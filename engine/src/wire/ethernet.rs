//! Ethernet II and 802.1Q.

use super::{MacAddr, be16};

/// Length of the untagged header, in bytes.
pub const HEADER_BYTES: usize = 14;
/// Length of one 802.1Q tag, in bytes.
pub const VLAN_TAG_BYTES: usize = 4;

/// What a frame carries.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service tag.
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// A parsed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// 802.1Q VLAN identifier (12 bits), if tagged.
    pub vlan: Option<u16>,
    /// Type of what follows the header and tag.
    pub ethertype: u16,
    /// Length of header and tag, in bytes.
    pub len: usize,
}

impl Header {
    /// Reads a header with at most one tag; `None` if the frame is shorter than its header.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let head: &[u8; HEADER_BYTES] = frame.first_chunk()?;
        let (dst, src) = (mac(head, 0), mac(head, 6));
        let ethertype = be16(head, 12);
        if ethertype != ethertype::VLAN {
            return Some(Self { dst, src, vlan: None, ethertype, len: HEADER_BYTES });
        }
        let tag: &[u8; VLAN_TAG_BYTES] = frame.get(HEADER_BYTES..)?.first_chunk()?;
        let vlan = Some(be16(tag, 0) & 0x0fff);
        Some(Self { dst, src, vlan, ethertype: be16(tag, 2), len: HEADER_BYTES + VLAN_TAG_BYTES })
    }
}

#[inline]
fn mac(head: &[u8; HEADER_BYTES], at: usize) -> MacAddr {
    MacAddr([head[at], head[at + 1], head[at + 2], head[at + 3], head[at + 4], head[at + 5]])
}

/// Writes an untagged header.
#[inline]
pub fn write(header: &mut [u8; HEADER_BYTES], dst: MacAddr, src: MacAddr, ethertype: u16) {
    header[..6].copy_from_slice(&dst.0);
    header[6..12].copy_from_slice(&src.0);
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
}

/// Writes a header with an 802.1Q tag (priority 0).
pub fn write_tagged(
    header: &mut [u8; HEADER_BYTES + VLAN_TAG_BYTES],
    dst: MacAddr,
    src: MacAddr,
    vlan: u16,
    ethertype: u16,
) {
    header[..6].copy_from_slice(&dst.0);
    header[6..12].copy_from_slice(&src.0);
    header[12..14].copy_from_slice(&ethertype::VLAN.to_be_bytes());
    header[14..16].copy_from_slice(&(vlan & 0x0fff).to_be_bytes());
    header[16..].copy_from_slice(&ethertype.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    #[test]
    fn round_trip_and_every_cut() {
        let mut plain = [0; 14];
        write(&mut plain, A, B, ethertype::IPV4);
        let want = Header { dst: A, src: B, vlan: None, ethertype: ethertype::IPV4, len: 14 };
        assert_eq!(Header::parse(&plain), Some(want));
        let mut tagged = [0; 18];
        write_tagged(&mut tagged, A, B, 100, ethertype::ARP);
        let want = Header { dst: A, src: B, vlan: Some(100), ethertype: ethertype::ARP, len: 18 };
        assert_eq!(Header::parse(&tagged), Some(want));
        for cut in 0..18 {
            assert_eq!(Header::parse(&tagged[..cut]), None, "cut at {cut}");
        }
    }
}
