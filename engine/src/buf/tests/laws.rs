use super::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn contiguous_buffers_hold_what_was_asked_for(
        bytes in 0..=70_000usize,
        big in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        fill in any::<u8>(),
    ) {
        let chunk = if big { 4096 } else { 2048 };
        let pool = sized_pool(40, chunk, 0, 36);
        let mut buf = pool.alloc_contiguous(bytes).unwrap();
        prop_assert!(buf.capacity() >= bytes);
        prop_assert_eq!(buf.frame_count(), (bytes + HEADROOM_BYTES).div_ceil(chunk));
        prop_assert_eq!(pool.ledger().owned as usize, buf.frame_count());
        buf.set_len(bytes).unwrap();
        let expected: Vec<u8> = (0..bytes).map(|i| (i / 3) as u8 ^ fill).collect();
        buf.as_mut_slice().copy_from_slice(&expected);
        prop_assert!(buf.pieces().all(|piece| !piece.is_empty() && piece.len() <= chunk));
        prop_assert_eq!(joined(buf.pieces()), &expected[..]);
        prop_assert_eq!((buf.total_len(), buf.as_slice()), (bytes, &expected[..]));

        let cut = cut.index(bytes + 1);
        let frozen = buf.freeze();
        let mut sealed = Vec::new();
        for (offset, len) in [(0, cut), (cut, bytes - cut)] {
            frozen.seal_range(offset, len, |piece| sealed.push(piece)).unwrap();
        }
        prop_assert_eq!(joined(sealed.iter().map(Sealed::as_slice)), &expected[..]);
        drop(frozen);
        prop_assert!(pool.ledger().balances());
        let addrs: Vec<u64> = sealed.into_iter().map(|piece| piece.post().0).collect();
        for addr in addrs.iter().rev() {
            pool.complete_tx(*addr).unwrap();
        }
        assert_whole(&pool);
    }

    #[test]
    fn the_receive_reserve_is_left_by_senders(frames in 1..80u32, reserve in 0..100u32, runs in 0..100u32) {
        let pool = pool(frames as usize, reserve, runs);
        let singles = frames - runs.min(frames);
        let reserve = reserve.min(singles);
        prop_assert_eq!(pool.free_for_tx(), singles - reserve);
        let mut held: Vec<TxBuf> = std::iter::from_fn(|| pool.alloc_tx()).collect();
        prop_assert_eq!(held.len() as u32, singles - reserve);
        held.extend(std::iter::from_fn(|| pool.alloc_control()));
        prop_assert_eq!(held.len() as u32, singles - reserve / 8);
        let failures = pool.counters().alloc_failures;
        prop_assert_eq!(failures, 2);
        prop_assert_eq!(pool.is_scarce(), reserve >= 4);
        prop_assert_eq!(pool.post_fill(), None);
        prop_assert_eq!(pool.rx_from_bytes(b"x").is_some(), reserve >= 8);
        drop(held);
        prop_assert!(!pool.is_scarce());
        let lent: Vec<u64> = std::iter::from_fn(|| pool.post_fill()).collect();
        prop_assert_eq!(lent.len() as u32, singles - reserve / 4);
        prop_assert_eq!(pool.counters().alloc_failures, failures + u64::from(reserve < 8), "a pool that keeps its last is no failure of the fill ring");
        held = std::iter::from_fn(|| pool.alloc_control()).collect();
        prop_assert_eq!(held.len() as u32, reserve / 4 - reserve / 8, "an acknowledgment can be sent");
        drop(held);
        for addr in lent {
            pool.unfill(addr).unwrap();
        }
        assert_whole(&pool);
    }

    #[test]
    fn chains_read_as_one_stretch_of_bytes(
        lens in prop::collection::vec(prop_oneof![0..4usize, 0..=1792usize], 1..10),
        advance in 0..2000usize,
        truncate in 0..2000usize,
        windows in prop::collection::vec((0..20_000usize, 0..5_000usize), 8),
    ) {
        let pool = pool(12, 0, 0);
        let pieces: Vec<Vec<u8>> = lens.iter().enumerate().map(|(n, &len)| (0..len).map(|i| (i * 7 + n * 31) as u8).collect()).collect();
        let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let mut packet = rx(&pool, &slices);
        packet.advance(advance);
        packet.truncate(truncate);
        let first = &pieces[0][advance.min(lens[0])..];
        let first = &first[..first.len().min(truncate)];
        let oracle = [first.to_vec(), pieces[1..].concat()].concat();

        prop_assert_eq!(packet.as_slice(), first);
        prop_assert_eq!((packet.total_len(), packet.frame_count()), (oracle.len(), lens.len()));
        prop_assert_eq!(joined(packet.pieces()), &oracle[..]);
        for &(offset, len) in &windows {
            let mut to = vec![0xee; len];
            let n = packet.copy_to(offset, &mut to);
            let expected = &oracle[offset.min(oracle.len())..(offset + len).min(oracle.len()).max(offset.min(oracle.len()))];
            prop_assert_eq!((n, &to[..n]), (expected.len(), expected));
            prop_assert!(to[n..].iter().all(|&byte| byte == 0xee));
        }
        let frozen = packet.into_tx().freeze();
        for (offset, len) in windows {
            let mut sealed = Vec::new();
            let result = frozen.seal_range(offset, len, |piece| sealed.push(piece));
            if offset + len <= oracle.len() {
                prop_assert_eq!(result, Ok(sealed.len()));
                prop_assert_eq!(joined(sealed.iter().map(Sealed::as_slice)), &oracle[offset..offset + len]);
                let more = sealed.iter().filter(|piece| piece.more()).count();
                prop_assert_eq!(more, sealed.len().saturating_sub(1));
            } else if len > 0 {
                prop_assert_eq!((result, sealed.len()), (Err(NoSpace), 0));
            }
        }
        drop(frozen);
        assert_whole(&pool);
    }

    #[test]
    fn a_copied_in_packet_reads_back(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let pool = pool(1, 0, 0);
        let packet = pool.rx_from_bytes(&bytes);
        prop_assert_eq!(packet.is_some(), bytes.len() <= 1792);
        if let Some(packet) = packet {
            prop_assert_eq!(packet.as_slice(), &bytes[..]);
        }
        assert_whole(&pool);
    }
}
