//! The headers that nearly every packet has: untagged Ethernet and IPv4 without options, of a whole datagram. All fields lie at fixed places, so they are
//! read and checked at once. A packet of any other kind, malformed ones among them, is left to the views of the single layers.

use super::{MacAddr, be16, be32, be64, checksum, ethernet, ipv4};

/// Where the payload of IPv4 begins, in bytes.
pub const L4_AT: usize = ethernet::HEADER_BYTES + ipv4::HEADER_BYTES;
/// With what follows: a UDP header, or ports and sequence number of TCP.
const HEAD_BYTES: usize = L4_AT + 8;
/// In the first eight bytes of the IPv4 header: its version and length, the flag "more fragments", and the fragment's offset.
const KIND_MASK: u64 = 0xff00_0000_0000_3fff;
/// Those of a whole datagram without options: version 4, five words.
const WHOLE_WITHOUT_OPTIONS: u64 = 0x4500_0000_0000_0000;

/// What those headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain<'a> {
    /// Source and destination address, in the upper and the lower half.
    pub addresses: u64,
    /// Source and destination port, in the upper and the lower half, if the protocol has ports there.
    pub ports: u32,
    /// Protocol of the payload.
    pub protocol: u8,
    /// The payload of IPv4: at least 8 bytes.
    pub l4: &'a [u8],
}

impl<'a> Plain<'a> {
    /// Reads and checks the headers of a frame to `to`; `None` if it is to another, has other headers, is too short for them, or the checksum is wrong.
    #[inline(always)]
    pub fn parse(frame: &'a [u8], to: &MacAddr) -> Option<Self> {
        let head: &[u8; HEAD_BYTES] = frame.first_chunk()?;
        // The IPv4 header in three parts: up to the fragment's offset, up to the source, the destination.
        let (first, second, dst) = (be64(head, 14), be64(head, 22), u64::from(be32(head, 30)));
        let total_len = (first >> 32) as usize & 0xffff;
        let usual = be32(head, 0) == be32(&to.0, 0)
            && be16(head, 4) == be16(&to.0, 4)
            && be16(head, 12) == ethernet::ethertype::IPV4
            && first & KIND_MASK == WHOLE_WITHOUT_OPTIONS;
        if !usual || total_len < HEAD_BYTES - ethernet::HEADER_BYTES {
            return None;
        }
        let l4 = frame.get(L4_AT..ethernet::HEADER_BYTES + total_len)?;
        let (sum, carry) = first.overflowing_add(second);
        let (sum, carry) = sum.carrying_add(dst, carry);
        // After a carry the sum is small: it cannot carry again.
        (checksum::fold_fields(sum + u64::from(carry)) == 0xffff).then(|| Self {
            addresses: second << 32 | dst,
            ports: be32(head, L4_AT),
            protocol: (second >> 48) as u8,
            l4,
        })
    }

    /// The sum of the pseudo-header of UDP and TCP: all that the checksum field holds where a device is to finish it.
    #[inline]
    pub const fn pseudo_header_sum(&self) -> u16 {
        checksum::fold_fields(self.pseudo_header_total())
    }

    /// The sum of the pseudo-header of UDP and TCP, not folded; see [`checksum::fold_fields`].
    #[inline]
    pub const fn pseudo_header_total(&self) -> u64 {
        (self.addresses >> 32) + (self.addresses & 0xffff_ffff) + self.protocol as u64 + self.l4.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ethernet::ethertype;
    use proptest::prelude::*;

    const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn frame(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 30, 0, 7, 0x40, 0, 64, 17, 0, 0];
        frame.extend([10, 0, 0, 2, 10, 0, 0, 1, 0x30, 0x39, 0, 7, 0, 10, 0, 0, 0x5a, 0x5a]);
        change(&mut frame);
        let sum = !checksum::sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn what_is_plain_and_what_is_not() {
        let usual = frame(|_| ());
        let plain = Plain::parse(&usual, &US).unwrap();
        assert_eq!((plain.addresses, plain.ports), (0x0a00_0002_0a00_0001, 0x3039_0007));
        assert_eq!((plain.protocol, plain.l4.len()), (17, 10));
        assert!(Plain::parse(&frame(|frame| frame.resize(60, 0)), &US).is_some(), "padded");
        assert!(Plain::parse(&frame(|frame| frame[15] = 0xb9), &US).is_some(), "type of service");
        type Change = fn(&mut Vec<u8>);
        let others: [(&str, Change); 9] = [
            ("for somebody else", |frame| frame[5] = 2),
            ("ARP", |frame| frame[13] = 6),
            ("tagged", |frame| frame[12] = 0x81),
            ("version 6", |frame| frame[14] = 0x65),
            ("options", |frame| frame[14] = 0x46),
            ("more fragments", |frame| frame[20] = 0x20),
            ("a later fragment", |frame| frame[21] = 1),
            ("longer than what came", |frame| frame[17] = 31),
            ("no room for ports", |frame| frame[17] = 27),
        ];
        for (what, change) in others {
            assert_eq!(Plain::parse(&frame(change), &US), None, "{what}");
        }
        let mut wrong = frame(|_| ());
        wrong[24] ^= 1;
        assert_eq!(Plain::parse(&wrong, &US), None, "checksum");
        let short = frame(|_| ());
        (0..short.len()).for_each(|len| assert_eq!(Plain::parse(&short[..len], &US), None, "{len} bytes"));
    }

    proptest! {
        /// It says what the layers' own views say, or nothing.
        #[test]
        fn agrees_with_the_layers(mut bytes in prop::collection::vec(any::<u8>(), 42..80), usual in any::<bool>()) {
            if usual {
                bytes[..6].copy_from_slice(&US.0);
                bytes[12..15].copy_from_slice(&[8, 0, 0x45]);
                bytes[16] = 0;
                bytes[17] %= 70;
                bytes[20] &= 0x40;
                bytes[21] = 0;
                bytes[24..26].fill(0);
                let sum = !checksum::sum(&bytes[14..34]);
                bytes[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            if let Some(plain) = Plain::parse(&bytes, &US) {
                let link = ethernet::Header::parse(&bytes).unwrap();
                let ip = ipv4::Header::parse(&bytes[14..], bytes.len() - 14).unwrap();
                prop_assert_eq!((link.dst, link.ethertype, link.vlan), (US, ethertype::IPV4, None));
                prop_assert_eq!((ip.header_len, ip.is_fragment(), ip.protocol), (20, false, plain.protocol));
                prop_assert_eq!(u64::from(ip.src.to_bits()) << 32 | u64::from(ip.dst.to_bits()), plain.addresses);
                prop_assert_eq!(&bytes[34..34 + ip.payload_len()], plain.l4);
                let pseudo = checksum::pseudo_header(ip.src, ip.dst, ip.protocol, plain.l4.len() as u16);
                prop_assert_eq!(plain.pseudo_header_sum(), pseudo);
            } else if usual && bytes.len() >= 14 + usize::from(bytes[17]) && bytes[17] >= 28 {
                prop_assert!(false, "not taken for plain: {bytes:?}");
            }
        }
    }
}
