//! Bytes that tell their position: each aligned group of eight is its own number, big-endian.

const GROUP_BYTES: u64 = 8;

/// Writes the bytes of a stream from `position` on.
pub(crate) fn write(position: u64, to: &mut [u8]) {
    let (mut at, mut rest) = (position, to);
    while !rest.is_empty() {
        let skip = (at % GROUP_BYTES) as usize;
        let group = (at / GROUP_BYTES).to_be_bytes();
        let n = (group.len() - skip).min(rest.len());
        let (now, later) = rest.split_at_mut(n);
        now.copy_from_slice(&group[skip..skip + n]);
        at += n as u64;
        rest = later;
    }
}

/// How many of `bytes` are not what a stream has from `position` on.
pub(crate) fn count_wrong(position: u64, bytes: &[u8]) -> u64 {
    let (mut at, mut rest, mut wrong) = (position, bytes, 0);
    while !rest.is_empty() {
        let skip = (at % GROUP_BYTES) as usize;
        let group = (at / GROUP_BYTES).to_be_bytes();
        let n = (group.len() - skip).min(rest.len());
        let (now, later) = rest.split_at(n);
        if now != &group[skip..skip + n] {
            wrong += now.iter().zip(&group[skip..]).filter(|(a, b)| a != b).count() as u64;
        }
        at += n as u64;
        rest = later;
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_writes_the_same_stream() {
        let mut whole = [0; 100];
        write(0, &mut whole);
        assert_eq!(whole[..24], *b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02");
        for from in 0..40 {
            for len in [0, 1, 7, 8, 9, 33] {
                let mut cut = vec![0xaa; len];
                write(from as u64, &mut cut);
                assert_eq!(cut, whole[from..from + len]);
                assert_eq!(count_wrong(from as u64, &cut), 0);
            }
        }
        let mut spoilt = whole;
        spoilt[17] ^= 1;
        spoilt[99] ^= 1;
        assert_eq!(count_wrong(0, &spoilt), 2);
    }
}
