//! The one loop that is worth the widest registers of the machine at hand: adding up words for a checksum.
//!
//! The loop is plain Rust; it is compiled once for each instruction set, and the processor decides at run time. `unsafe` is the calls of the compiled
//! variants, each behind the question whether the processor has its instructions.

/// Bytes that are added up together.
const BLOCK_BYTES: usize = 64;

/// The sum of all native 32-bit words in whole blocks of 64 bytes, and the bytes that are left. It cannot overflow below 2^34 bytes.
#[inline]
pub(crate) fn sum_words(bytes: &[u8]) -> (u64, &[u8]) {
    let (whole, rest) = bytes.split_at(bytes.len() & !(BLOCK_BYTES - 1));
    (sum_blocks(whole), rest)
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn sum_blocks(blocks: &[u8]) -> u64 {
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { sum_blocks_avx2(blocks) };
    }
    sum_blocks_plain(blocks)
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn sum_blocks(blocks: &[u8]) -> u64 {
    sum_blocks_plain(blocks)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_blocks_avx2(blocks: &[u8]) -> u64 {
    sum_blocks_plain(blocks)
}

/// Independent accumulators of 32-bit words, so that the compiler may use vector registers.
#[inline(always)]
fn sum_blocks_plain(blocks: &[u8]) -> u64 {
    let mut lanes = [0u64; BLOCK_BYTES / 4];
    for block in blocks.chunks_exact(BLOCK_BYTES) {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
            *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_variant_gives_the_same_sum(bytes in prop::collection::vec(any::<u8>(), 0..2000), skip in 0usize..8) {
            let bytes = &bytes[skip.min(bytes.len())..];
            let (sum, rest) = sum_words(bytes);
            let whole = &bytes[..bytes.len() - rest.len()];
            prop_assert!(rest.len() < BLOCK_BYTES);
            let words = whole.chunks_exact(4).map(|w| u64::from(u32::from_ne_bytes([w[0], w[1], w[2], w[3]])));
            prop_assert_eq!(sum, words.sum::<u64>());
            prop_assert_eq!(sum, sum_blocks_plain(whole));
        }
    }
}
