use super::*;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ (i / 251) as u8).collect()
}

#[test]
fn a_run_is_contiguous_and_sends_as_pieces_of_its_frames() {
    let pool = pool(16, 0, 8);
    let bytes = pattern(5000);
    let buf = tx(&pool, &bytes);
    assert_eq!((buf.as_slice(), buf.frame_count(), buf.is_single()), (&bytes[..], 3, false));
    let buf = buf.seal().unwrap_err();
    let buf = buf.seal_retained(b"h").unwrap_err();
    let frozen = buf.freeze();
    let mut sealed = Vec::new();
    assert_eq!(frozen.seal_range(100, 4000, |piece| sealed.push(piece)), Ok(3));
    assert_eq!(sealed.iter().map(Sealed::len).collect::<Vec<_>>(), [1692, 2048, 260]);
    assert_eq!(sealed.iter().map(Sealed::more).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(joined(sealed.iter().map(Sealed::as_slice)), bytes[100..4100]);
    drop(frozen);
    assert_eq!(pool.ledger().queued, 3);
    drop(sealed);
    assert_whole(&pool);
}

#[test]
fn a_range_outside_the_buffer_calls_nobody() {
    let pool = pool(8, 0, 8);
    let frozen = tx(&pool, &[1; 3000]).freeze();
    for (offset, len) in [(0, 3001), (2999, 2), (3001, 1), (usize::MAX, 1), (1, usize::MAX)] {
        let result = frozen.seal_range(offset, len, |_| panic!("{offset}+{len}"));
        assert_eq!(result, Err(NoSpace));
    }
    assert_eq!(frozen.seal_range(5, 0, |_| panic!("nothing to seal")), Ok(0));
    drop(frozen);
    assert_whole(&pool);
}

#[test]
fn descriptors_of_one_frame_are_limited_and_not_lost() {
    let pool = pool(1, 0, 0);
    let frozen = tx(&pool, b"abc").freeze();
    let mut queue = Vec::new();
    let mut addrs = Vec::new();
    for i in 0..4095 {
        let sealed = |piece: Sealed| if i % 2 == 0 { queue.push(piece) } else { addrs.push(piece.post().0) };
        assert_eq!(frozen.seal_range(i % 3, 1, sealed), Ok(1));
    }
    assert_eq!(frozen.seal_range(0, 1, drop), Err(NoSpace));
    addrs.extend(queue.into_iter().map(|piece| piece.post().0));
    assert_eq!(frozen.seal_range(0, 1, drop), Err(NoSpace));
    for addr in addrs {
        pool.complete_tx(addr).unwrap();
    }
    assert_eq!(pool.counters().bad_completions, 0);
    assert_eq!(frozen.seal_range(0, 3, drop), Ok(1));
    drop(frozen);
    assert_whole(&pool);
}

#[test]
fn a_run_gives_frames_back_as_it_is_consumed_but_never_its_last() {
    for chunk in [2048, 4096] {
        // The run ends with the region: nothing lies behind it.
        let frames = (256 + 70_000usize).div_ceil(chunk);
        let pool = sized_pool(frames, chunk, 0, frames as u32);
        let mut buf = pool.alloc_contiguous(70_000).unwrap();
        assert!(pool.alloc_contiguous(1793 + 2 * chunk).is_none());
        buf.set_len(buf.capacity()).unwrap();
        let bytes = pattern(buf.len());
        buf.as_mut_slice().copy_from_slice(&bytes);
        let mut at = 0;
        while !buf.is_empty() {
            buf.advance(9_999);
            at = (at + 9_999).min(bytes.len());
            assert_eq!(buf.as_slice(), &bytes[at..]);
            assert_eq!(pool.ledger().owned as usize, buf.frame_count());
            assert!(pool.ledger().balances());
        }
        assert!(buf.frame_count() >= 1);
        assert!(!format!("{buf:?}").is_empty());
        assert_eq!(buf.put_slice(b"x"), Err(NoSpace));
        buf.prepend_slice(b"front").unwrap();
        assert_eq!(buf.as_slice(), b"front");
        drop(buf);
        assert_whole(&pool);
    }
}

#[test]
fn a_whole_run_consumed_at_once_is_still_held() {
    let pool = sized_pool(18, 4096, 0, 18);
    let mut buf = pool.alloc_contiguous(18 * 4096 - 256).unwrap();
    buf.set_len(18 * 4096 - 256).unwrap();
    buf.advance(usize::MAX);
    assert_eq!((buf.len(), buf.frame_count(), pool.ledger().owned), (0, 1, 1));
    let frozen = buf.freeze();
    assert_eq!((frozen.pieces().count(), frozen.total_len()), (0, 0));
    drop(frozen);
    assert_whole(&pool);
}

#[test]
fn runs_are_found_in_gaps_and_around_the_end() {
    let pool = pool(140, 0, 130);
    let mut runs: Vec<_> = (0..43).map(|_| pool.alloc_contiguous(3 * 2048 - 256).unwrap()).collect();
    assert!(pool.alloc_contiguous(2 * 2048 - 256).is_none());
    assert_eq!(pool.counters().alloc_failures, 1);
    // Two neighbours in the middle make room for six; one at the very beginning only for three.
    drop(runs.drain(20..22));
    drop(runs.remove(0));
    assert!(pool.alloc_contiguous(7 * 2048 - 256).is_none());
    let six = pool.alloc_contiguous(6 * 2048 - 256).unwrap();
    let three = pool.alloc_contiguous(3 * 2048 - 256).unwrap();
    assert_eq!(pool.ledger().free, 11);
    drop((runs, six, three));
    assert_whole(&pool);
    // Longer than any area, than any count of frames, than any number.
    for bytes in [131 * 2048, 1 << 30, usize::MAX] {
        assert!(pool.alloc_contiguous(bytes).is_none());
    }
}

#[test]
fn chains_grow_split_and_count_pieces_without_bytes() {
    let pool = pool(8, 0, 0);
    let mut head = rx(&pool, &[b"ab", b"", b"cde"]);
    head.append(rx(&pool, &[b"f", b"gh"])).unwrap();
    assert_eq!((head.as_slice(), head.len(), head.total_len(), head.frame_count()), (&b"ab"[..], 2, 8, 5));
    assert_eq!(joined(head.pieces()), b"abcdefgh");
    head.advance(9);
    assert_eq!((head.len(), head.total_len(), head.frame_count()), (0, 6, 5));
    let (first, rest) = head.split_first();
    assert!(!first.is_chain() && first.is_empty());
    let rest = rest.unwrap();
    assert_eq!((rest.frame_count(), joined(rest.pieces())), (4, b"cdefgh".to_vec()));
    drop(first);
    assert_eq!(pool.ledger().owned, 4);
    let mut chain = rest.into_tx();
    assert_eq!(chain.put_slice(b"x"), Err(NoSpace), "a chain's end is not its first frame's");
    assert_eq!(chain.set_len(1), Err(NoSpace));
    let chain = chain.seal().unwrap_err();
    let frozen = chain.freeze();
    let mut posted = Vec::new();
    assert_eq!(frozen.seal_range(1, 4, |piece| posted.push(piece.post())), Ok(3));
    drop(frozen);
    assert_eq!(posted.iter().flat_map(|&piece| on_the_wire(&pool, piece)).collect::<Vec<_>>(), b"defg");
    assert_eq!(posted.iter().map(|piece| piece.2).collect::<Vec<_>>(), [true, true, false]);
    for (addr, ..) in posted {
        pool.complete_tx(addr).unwrap();
    }
    assert_whole(&pool);
}

#[test]
fn only_single_frames_of_one_pool_link() {
    let (pool, other) = (pool(8, 0, 4), pool(2, 0, 0));
    let mut head = rx(&pool, &[b"ab"]);
    let stranger = head.append(rx(&other, &[b"x"])).unwrap_err();
    assert_eq!(stranger.as_slice(), b"x");
    let run = tx(&pool, &[5; 3000]).into_rx();
    let mut run = head.append(run).unwrap_err();
    let tail = run.append(head).unwrap_err();
    assert_eq!((run.total_len(), tail.total_len()), (3000, 2));
    drop((run, tail, stranger));
    assert_whole(&pool);
    assert_whole(&other);
}

#[test]
fn pieces_of_a_chain_are_narrowed_and_widened_in_place() {
    let pool = pool(8, 0, 4);
    let mut buf = rx(&pool, &[b"first", b"", b"third"]).into_tx();
    let whole: Vec<_> = buf.places().collect();
    assert_eq!(whole.iter().map(|place| place.1).collect::<Vec<_>>(), [5, 0, 5]);
    let mut narrow = whole.clone();
    narrow[0] = (whole[0].0 + 2, 3);
    narrow[2].1 = 1;
    buf.set_places(&narrow).unwrap();
    assert_eq!((joined(buf.pieces()), buf.total_len()), (b"rstt".to_vec(), 4));
    for wrong in [&narrow[..2], &[], &[narrow[0], (2047, 2), narrow[2]], &[(usize::MAX, 2), narrow[1], narrow[2]]] {
        assert_eq!(buf.set_places(wrong), Err(NoSpace));
    }
    assert_eq!(joined(buf.pieces()), b"rstt");
    buf.set_places(&whole).unwrap();
    let mut visited = Vec::new();
    buf.each_piece_mut(|piece| {
        piece.make_ascii_uppercase();
        visited.push(piece.len());
    });
    assert_eq!((visited, joined(buf.pieces())), (vec![5, 0, 5], b"FIRSTTHIRD".to_vec()));
    // A run is one piece, which may lie anywhere in its frames.
    let mut run = tx(&pool, &pattern(5000));
    assert_eq!(run.places().count(), 1);
    run.set_places(&[(HEADROOM_BYTES + 2000, 3000)]).unwrap();
    assert_eq!(run.as_slice(), &pattern(5000)[2000..]);
    drop((buf, run));
    assert_whole(&pool);
}

#[test]
fn a_cut_chain_gives_the_frames_behind_back() {
    for (keep, frames, bytes) in [
        (0, 1, &b""[..]),
        (3, 1, b"fir"),
        (5, 1, b"first"),
        (6, 2, b"firsts"),
        (11, 2, b"firstsecond"),
        (99, 3, b"firstsecondx"),
    ] {
        let pool = pool(8, 0, 0);
        let mut packet = rx(&pool, &[b"first", b"second", b"x"]);
        packet.cut(keep);
        assert_eq!((joined(packet.pieces()), packet.frame_count()), (bytes.to_vec(), frames));
        assert_eq!(pool.ledger().owned, frames as u32);
        drop(packet);
        assert_whole(&pool);
    }
}
