//! The Internet checksum (RFC 1071): one's-complement sums of 16-bit words.
//!
//! Sums are kept folded to 16 bits in network order of the words, so that they add: the sum of a whole is [`add`] over its parts, where
//! every part but the last has an even length.

use crate::simd;
use std::net::Ipv4Addr;

/// The folded sum of `bytes`; an odd last byte is padded with zero.
#[inline(always)]
pub fn sum(bytes: &[u8]) -> u16 {
    // One's-complement addition does not care about byte order, nor about the words' length (RFC 1071 section 2): add native words, swap once.
    if bytes.len() >= VECTOR_BYTES_MIN { sum_long(bytes) } else { sum_short(0, bytes) }
}

#[inline(never)]
fn sum_long(bytes: &[u8]) -> u16 {
    let (total, rest) = simd::sum_words(bytes);
    sum_short(total, rest)
}

/// Adds `bytes` to `total`, word by word, and folds.
#[inline(always)]
fn sum_short(mut total: u64, bytes: &[u8]) -> u16 {
    let (longs, mut rest) = bytes.as_chunks::<8>();
    let (blocks, longs) = longs.as_chunks::<4>();
    let mut carries = 0;
    for block in blocks {
        let mut carry = false;
        for &long in block {
            (total, carry) = total.carrying_add(u64::from_ne_bytes(long), carry);
        }
        carries += u64::from(carry);
    }
    for &long in longs {
        let (sum, carry) = total.overflowing_add(u64::from_ne_bytes(long));
        total = sum;
        carries += u64::from(carry);
    }
    // At most seven bytes are left: with the total brought down to its halves' sum, adding them cannot overflow.
    total = (total & 0xffff_ffff) + (total >> 32) + carries;
    if let [a, b, c, d, last @ ..] = rest {
        total += u64::from(u32::from_ne_bytes([*a, *b, *c, *d]));
        rest = last;
    }
    if let [a, b, last @ ..] = rest {
        total += u64::from(u16::from_ne_bytes([*a, *b]));
        rest = last;
    }
    if let [last] = rest {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    u16::from_be(fold(total))
}

/// From here on vector registers pay for setting them up.
const VECTOR_BYTES_MIN: usize = 256;

/// The folded sum of a header of 20 bytes.
#[inline]
pub fn sum_20(header: &[u8; 20]) -> u16 {
    sum_header(header)
}

/// The folded sum of a header of `N` bytes, a multiple of 4.
#[inline(always)]
pub fn sum_header<const N: usize>(header: &[u8; N]) -> u16 {
    u16::from_be(fold(header_total(header)))
}

/// The sum of native words of a header of `N` bytes, a multiple of 4, not folded.
#[inline(always)]
fn header_total<const N: usize>(header: &[u8; N]) -> u64 {
    const { assert!(N.is_multiple_of(4)) };
    let (longs, rest) = header.as_chunks::<8>();
    let (mut total, mut carry) = (0, false);
    for long in longs {
        (total, carry) = u64::from_ne_bytes(*long).carrying_add(total, carry);
    }
    let last = rest.first_chunk().map_or(0, |word| u64::from(u32::from_ne_bytes(*word)));
    (total, carry) = last.carrying_add(total, carry);
    // After a carry it is small: it cannot carry again.
    total + u64::from(carry)
}

/// Folds a sum of words in host order, such as header fields added up.
#[inline]
pub const fn fold_fields(total: u64) -> u16 {
    fold(total)
}

/// The one's-complement sum of two folded sums.
#[inline]
pub const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    // The carry comes back in at the low end; it cannot carry again.
    sum + carry as u16
}

/// The sum of the second part of something whose first part has an odd length: its bytes sit in the other halves of the words.
#[inline]
pub const fn shifted(sum: u16) -> u16 {
    sum.swap_bytes()
}

/// Adding a number to itself with its halves swapped leaves, in the upper half, the halves' sum with the carry brought back in.
#[inline]
const fn fold(total: u64) -> u16 {
    let halves = (total.wrapping_add(total.rotate_left(32)) >> 32) as u32;
    (halves.wrapping_add(halves.rotate_left(16)) >> 16) as u16
}

/// The sum of the pseudo-header of UDP and TCP over IPv4 (RFC 768, RFC 9293 section 3.1). `len` is that of header and data.
#[inline]
pub fn pseudo_header(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u16) -> u16 {
    let (src, dst) = (src.to_bits(), dst.to_bits());
    let total = u64::from(src) + u64::from(dst) + u64::from(protocol) + u64::from(len);
    fold(total)
}

/// Sums over the pieces of a chain, whatever the pieces' lengths.
pub fn sum_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> u16 {
    let (mut total, mut odd) = (0, false);
    for piece in pieces {
        let part = sum(piece);
        total = add(total, if odd { shifted(part) } else { part });
        odd ^= piece.len() % 2 == 1;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 section 3's own numerical example.
    #[test]
    fn rfc_1071_example() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    fn oracle(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for word in bytes.chunks(2) {
            total += u32::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]));
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    proptest! {
        #[test]
        fn same_as_word_by_word(bytes in prop::collection::vec(any::<u8>(), 0..4000), skip in 0usize..8) {
            let bytes = &bytes[skip.min(bytes.len())..];
            prop_assert_eq!(sum(bytes), oracle(bytes));
            if let Some(header) = bytes.first_chunk() {
                prop_assert_eq!(sum_20(header), oracle(header));
            }
        }

        #[test]
        fn pieces_add_up(bytes in prop::collection::vec(any::<u8>(), 1..2000), cuts in prop::collection::vec(1usize..300, 1..20)) {
            let mut rest = &bytes[..];
            let mut pieces = vec![];
            for cut in cuts {
                let (piece, later) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = later;
            }
            pieces.push(rest);
            prop_assert_eq!(sum_pieces(pieces.into_iter()), oracle(&bytes));
        }
    }

    #[test]
    fn all_ones_does_not_overflow() {
        assert_eq!(sum(&vec![0xff; 65_536]), 0xffff);
        assert_eq!(add(0xffff, 0xffff), 0xffff);
    }
}
