//! The one loop that is worth the widest registers of the machine at hand: adding up words for a checksum.
//!
//! On x86-64 words are added in pairs by `pmaddwd`, three instructions for a whole register. It takes words as signed: each has 2^15 taken off first, by turning
//! its highest bit, and all of that is put back in the end. `unsafe` is the loads, and the call of what only some processors can, behind the
//! question whether this one can.

/// Bytes that are added up together, and what is left of a whole.
const BLOCK_BYTES: usize = 16;

/// The sum of all native 16-bit words in whole blocks of 16 bytes, and the bytes that are left. It cannot overflow below 2^48 bytes.
#[inline]
pub(crate) fn sum_words(bytes: &[u8]) -> (u64, &[u8]) {
    let (whole, rest) = bytes.split_at(bytes.len() & !(BLOCK_BYTES - 1));
    (sum_blocks(whole), rest)
}

#[cfg(target_arch = "x86_64")]
use x86::sum_blocks;

#[cfg(not(target_arch = "x86_64"))]
use sum_blocks_plain as sum_blocks;

/// As every processor can.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn sum_blocks_plain(blocks: &[u8]) -> u64 {
    let mut lanes = [0u64; BLOCK_BYTES / 2];
    for block in blocks.chunks_exact(BLOCK_BYTES) {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(2)) {
            *lane += u64::from(u16::from_ne_bytes([word[0], word[1]]));
        }
    }
    lanes.iter().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::BLOCK_BYTES;
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_madd_epi16, _mm_set1_epi16,
        _mm_setzero_si128, _mm_shuffle_epi32, _mm_xor_si128, _mm256_add_epi32, _mm256_castsi256_si128,
        _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi16, _mm256_setzero_si256,
        _mm256_xor_si256,
    };

    /// Summed at a time: 2^15 words of at most 2^15 are within 32 bits and a sign.
    const STRETCH_BYTES: usize = 1 << 16;
    /// What is taken off each word.
    const BIAS: u64 = 1 << 15;

    #[inline(always)]
    pub(super) fn sum_blocks(blocks: &[u8]) -> u64 {
        if blocks.len() > STRETCH_BYTES { sum_stretches(blocks) } else { sum_stretch(blocks) }
    }

    #[cold]
    fn sum_stretches(blocks: &[u8]) -> u64 {
        blocks.chunks(STRETCH_BYTES).map(sum_stretch).sum()
    }

    #[inline(always)]
    fn sum_stretch(blocks: &[u8]) -> u64 {
        let wide = std::arch::is_x86_feature_detected!("avx2");
        // SAFETY: the processor has AVX2; every one has SSE2.
        let sum = unsafe { if wide { sum_avx2(blocks) } else { sum_sse2(blocks) } };
        unbiased(sum, blocks)
    }

    fn unbiased(sum: i32, blocks: &[u8]) -> u64 {
        (blocks.len() as u64 / 2 * BIAS).wrapping_add_signed(i64::from(sum))
    }

    /// The sum of the words, each less the bias, in at most a stretch.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn sum_sse2(blocks: &[u8]) -> i32 {
        lanes_sum(add_sse2(_mm_setzero_si128(), blocks))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn add_sse2(mut lanes: __m128i, blocks: &[u8]) -> __m128i {
        let (bias, ones) = (_mm_set1_epi16(i16::MIN), _mm_set1_epi16(1));
        for block in blocks.chunks_exact(BLOCK_BYTES) {
            // SAFETY: a block is as long as the register, and the load takes any alignment.
            let words = unsafe { _mm_loadu_si128(block.as_ptr().cast()) };
            lanes = _mm_add_epi32(lanes, _mm_madd_epi16(_mm_xor_si128(words, bias), ones));
        }
        lanes
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn lanes_sum(lanes: __m128i) -> i32 {
        let halves = _mm_add_epi32(lanes, _mm_shuffle_epi32::<0b01_00_11_10>(lanes));
        _mm_cvtsi128_si32(_mm_add_epi32(halves, _mm_shuffle_epi32::<0b10_11_00_01>(halves)))
    }

    #[target_feature(enable = "avx2")]
    fn sum_avx2(blocks: &[u8]) -> i32 {
        let [mut a, mut b, mut c, mut d] = [_mm256_setzero_si256(); 4];
        let (registers, rest) = blocks.as_chunks();
        let (fours, registers) = registers.as_chunks();
        for [first, second, third, fourth] in fours {
            (a, b, c, d) = (add_avx2(a, first), add_avx2(b, second), add_avx2(c, third), add_avx2(d, fourth));
        }
        let (two, one) = registers.as_chunks();
        if let [[first, second], ..] = two {
            (a, b) = (add_avx2(a, first), add_avx2(b, second));
        }
        if let [last, ..] = one {
            c = add_avx2(c, last);
        }
        let lanes = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
        let lanes = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
        lanes_sum(add_sse2(lanes, rest))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_avx2(lanes: __m256i, words: &[u8; 32]) -> __m256i {
        let (bias, ones) = (_mm256_set1_epi16(i16::MIN), _mm256_set1_epi16(1));
        // SAFETY: there are as many bytes as in the register, and the load takes any alignment.
        let words = unsafe { _mm256_loadu_si256(words.as_ptr().cast()) };
        _mm256_add_epi32(lanes, _mm256_madd_epi16(_mm256_xor_si256(words, bias), ones))
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::simd::sum_blocks_plain;

        #[test]
        fn nothing_overflows() {
            for byte in [0, 0x7f, 0x80, 0xff] {
                // the words that are farthest from zero, and nearest
                for len in [STRETCH_BYTES, STRETCH_BYTES * 2 + 48] {
                    let bytes = vec![byte; len];
                    let stretch = &bytes[..STRETCH_BYTES];
                    // SAFETY: every x86-64 processor has SSE2.
                    let sum = unbiased(unsafe { sum_sse2(stretch) }, stretch);
                    assert_eq!(sum, sum_blocks_plain(stretch), "{byte} {len}");
                    assert_eq!(sum_blocks(&bytes), sum_blocks_plain(&bytes), "{byte} {len}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_sum_is_that_of_the_plain_loop(bytes in prop::collection::vec(any::<u8>(), 0..2000), skip in 0usize..8) {
            let bytes = &bytes[skip.min(bytes.len())..];
            let (sum, rest) = sum_words(bytes);
            let whole = &bytes[..bytes.len() - rest.len()];
            prop_assert!(rest.len() < BLOCK_BYTES);
            prop_assert_eq!(sum, sum_blocks_plain(whole));
            let words = whole.chunks_exact(2).map(|w| u64::from(u16::from_ne_bytes([w[0], w[1]])));
            prop_assert_eq!(sum, words.sum::<u64>());
        }
    }
}
