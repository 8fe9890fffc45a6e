use super::*;
use std::rc::Rc;

#[test]
fn a_region_checks_its_sizes_and_says_what_it_is_made_of() {
    for (frames, chunk) in [(0, 2048), (1, 1024), (1, 3000), (1, 8192), (Region::MAX_FRAMES + 1, 2048)] {
        let error = Region::map(frames, chunk, HugePages::Never).unwrap_err();
        let named = if chunk == 2048 { frames } else { chunk };
        assert!(error.to_string().contains(&named.to_string()), "{error}");
    }
    let region = Region::map(3, 4096, HugePages::Never).unwrap();
    assert_eq!((region.frames(), region.chunk_bytes(), region.pages()), (3, 4096, Pages::Base));
    let huge = Region::map(1024, 2048, HugePages::Prefer).unwrap();
    assert_ne!(format!("{huge:?}"), format!("{region:?}"));
}

#[test]
fn external_memory_is_kept_until_the_last_buffer_is_gone() {
    let memory = Region::map(2, 2048, HugePages::Never).unwrap();
    let base = memory.base();
    let alive = Rc::new(());
    // SAFETY: `memory` is mapped for as long as it is kept alive with the region, and used through this pool only.
    let region = unsafe { Region::external(base, 2, 2048, Pages::Base, Box::new((memory, alive.clone()))) }.unwrap();
    let pool = Pool::new(region, PoolConfig::default());
    let buf = tx(&pool, b"still here");
    drop(pool);
    assert_eq!(Rc::strong_count(&alive), 2);
    assert_eq!(buf.as_slice(), b"still here");
    drop(buf);
    assert_eq!(Rc::strong_count(&alive), 1);
}

#[test]
fn a_buffer_is_written_sealed_posted_and_completed() {
    let pool = pool(2, 0, 0);
    let mut buf = pool.alloc_tx().unwrap();
    assert!(buf.is_empty() && buf.is_single() && !buf.is_chain());
    assert_eq!(buf.capacity(), 2048 - 256);
    buf.put_slice(b"payload").unwrap();
    *buf.prepend::<4>().unwrap() = *b"head";
    buf.prepend_slice(b"eth ").unwrap();
    assert_eq!((buf.as_slice(), buf.len(), buf.capacity()), (&b"eth headpayload"[..], 15, 1800));
    assert_eq!(pool.ledger().owned, 1);
    let sealed = buf.seal().unwrap();
    assert_eq!((sealed.as_slice(), sealed.len(), sealed.more()), (&b"eth headpayload"[..], 15, false));
    assert_eq!((pool.ledger().owned, pool.ledger().queued), (0, 1));
    let posted = sealed.post();
    assert_eq!((posted.0 % 2048, posted.1, posted.2), (248, 15, false));
    assert_eq!((pool.ledger().queued, pool.ledger().kernel_tx), (0, 1));
    assert_eq!(on_the_wire(&pool, posted), b"eth headpayload");
    pool.complete_tx(posted.0).unwrap();
    assert_whole(&pool);
}

#[test]
fn what_is_dropped_at_any_stage_is_free() {
    let pool = pool(4, 0, 0);
    drop(tx(&pool, b"x"));
    drop(tx(&pool, b"x").seal().unwrap());
    drop(tx(&pool, b"x").freeze());
    drop(tx(&pool, b"x").seal_retained(b"h").unwrap());
    drop(rx(&pool, &[b"x", b"y"]));
    drop(rx(&pool, &[b"x", b"y"]).into_tx());
    drop(tx(&pool, b"x").into_rx());
    assert_whole(&pool);
}

#[test]
fn room_ends_at_the_frame_on_both_sides() {
    let pool = pool(1, 0, 0);
    let mut buf = pool.alloc_tx().unwrap();
    assert_eq!(buf.set_len(1793), Err(NoSpace));
    buf.set_len(1792).unwrap();
    assert_eq!(buf.put_slice(b"x"), Err(NoSpace));
    assert_eq!(buf.prepend_slice(&[0; 257]), Err(NoSpace));
    buf.prepend_slice(&[1; 250]).unwrap();
    assert_eq!(buf.prepend::<7>(), Err(NoSpace));
    assert_eq!(buf.len(), 2042);
    assert!(buf.prepend::<6>().is_ok());
    assert!(buf.prepend::<0>().is_ok());
    assert_eq!(buf.seal().unwrap().post().0, 0);
}

#[test]
fn an_empty_packet_is_not_sealed_because_the_kernel_would_never_complete_it() {
    let pool = pool(1, 0, 0);
    let buf = pool.alloc_tx().unwrap().seal().unwrap_err();
    let buf = buf.seal_retained(&[]).unwrap_err();
    let (sealed, kept) = buf.seal_retained(b"header only").unwrap();
    assert_eq!((sealed.len(), kept.len(), kept.is_empty()), (11, 0, true));
    drop((sealed, kept));
    // A packet cut down to nothing at the very end of its frame: its address would be the next frame's.
    let at = pool.post_fill().unwrap();
    let mut packet = pool.adopt_rx(at, 2048).unwrap();
    packet.advance(2048);
    assert!(packet.into_tx().seal().is_err());
    assert_whole(&pool);
}

#[test]
fn a_retained_payload_is_free_after_completion_and_drop_in_either_order() {
    for acknowledged_first in [true, false] {
        let pool = pool(2, 0, 0);
        let (sealed, kept) = tx(&pool, b"data").seal_retained(&[1; 54]).unwrap();
        assert_eq!((sealed.len(), kept.as_slice()), (58, &b"data"[..]));
        assert_eq!(pool.ledger().queued, 1);
        let (addr, ..) = sealed.post();
        if acknowledged_first {
            drop(kept);
            assert_eq!((pool.free(), pool.ledger().kernel_tx), (1, 1));
            pool.complete_tx(addr).unwrap();
        } else {
            pool.complete_tx(addr).unwrap();
            assert_eq!((pool.free(), pool.ledger().retained), (1, 1));
            drop(kept);
        }
        assert_whole(&pool);
    }
}

#[test]
fn a_retained_payload_is_writable_only_when_nobody_else_holds_it() {
    let pool = pool(2, 0, 0);
    let (sealed, kept) = tx(&pool, b"abcdef").seal_retained(&[1; 54]).unwrap();
    let kept = kept.try_exclusive().expect_err("in the egress queue");
    let (addr, ..) = sealed.post();
    let mut kept = kept.try_exclusive().expect_err("with the kernel");
    pool.complete_tx(addr).unwrap();
    kept.trim_front(2);
    let again = kept.try_exclusive().unwrap();
    let (sealed, kept) = again.seal_retained(&[2; 54]).unwrap();
    assert_eq!((&sealed.as_slice()[54..], kept.as_slice()), (&b"cdef"[..], &b"cdef"[..]));
    drop((sealed, kept));
    assert_whole(&pool);
}

#[test]
fn a_header_that_does_not_fit_gives_the_buffer_back_unchanged() {
    let pool = pool(1, 0, 0);
    let mut buf = tx(&pool, b"data");
    buf.set_payload_sum(9);
    let buf = buf.seal_retained(&[0; 257]).unwrap_err();
    assert_eq!((buf.as_slice(), buf.payload_sum()), (&b"data"[..], Some(9)));
}

#[test]
fn a_received_frame_goes_out_again_in_place() {
    let pool = pool(1, 0, 0);
    let mut packet = rx(&pool, &[&[7; 100]]);
    let place = packet.as_slice().as_ptr();
    packet.advance(42);
    packet.truncate(50);
    packet.as_mut_slice()[0] = 8;
    let mut out = packet.into_tx();
    *out.prepend::<42>().unwrap() = [9; 42];
    let sealed = out.seal().unwrap();
    assert_eq!((sealed.as_slice().as_ptr(), sealed.len()), (place, 92));
    assert_eq!((sealed.as_slice()[41], sealed.as_slice()[42], sealed.as_slice()[43]), (9, 8, 7));
    drop(sealed);
    assert_whole(&pool);
}

#[test]
fn addresses_from_the_kernel_are_checked() {
    let pool = pool(4, 0, 0);
    let lent = pool.post_fill().unwrap();
    let (sent, ..) = tx(&pool, b"x").seal().unwrap().post();
    let beyond = [4 * 2048, u64::MAX, u64::MAX - 2047, 1 << 40];
    let never = (0..4).map(|frame| frame * 2048).filter(|&at| at != lent && at != sent & !2047);
    let strangers: Vec<u64> = beyond.into_iter().chain(never).collect();
    for &addr in strangers.iter().chain([&sent]) {
        assert_eq!(pool.adopt_rx(addr, 1).unwrap_err(), BadAddr(addr));
        assert_eq!(pool.unfill(addr), Err(BadAddr(addr)));
        assert_eq!(pool.kernel_write(addr, b"z"), Err(BadAddr(addr)));
    }
    for &addr in strangers.iter().chain([&lent]) {
        assert_eq!(pool.complete_tx(addr), Err(BadAddr(addr)));
        assert_eq!(pool.kernel_read(addr, 1, &mut Vec::new()), Err(BadAddr(addr)));
    }
    // The right frame, but out of its end.
    assert!(pool.adopt_rx(lent + 2000, 49).is_err());
    assert!(pool.adopt_rx(lent, u32::MAX).is_err());
    assert!(pool.kernel_write(lent + 2047, b"ab").is_err());
    assert!(pool.kernel_read(sent, 2048, &mut Vec::new()).is_err());
    let counters = pool.counters();
    assert_eq!((counters.bad_receives, counters.bad_completions), (9, 7));
    // Any offset within the chunk is the same frame; once only.
    pool.complete_tx((sent & !2047) + 2047).unwrap();
    assert!(pool.complete_tx(sent).is_err());
    let packet = pool.adopt_rx(lent + 2000, 48).unwrap();
    assert!(pool.adopt_rx(lent, 1).is_err());
    assert_eq!(packet.len(), 48);
    drop(packet);
    let lent = pool.post_fill().unwrap();
    pool.unfill(lent + 5).unwrap();
    assert_whole(&pool);
}

#[test]
fn completions_come_out_of_order_and_from_several_descriptors_of_a_frame() {
    let pool = pool(8, 0, 0);
    let frozen = tx(&pool, b"abcdefgh").freeze();
    let mut posted = Vec::new();
    for offset in [0, 2, 4] {
        frozen.seal_range(offset, 4, |piece| posted.push(piece.post().0)).unwrap();
    }
    let other = tx(&pool, b"x").seal().unwrap().post().0;
    assert_eq!(pool.ledger().kernel_tx, 2);
    drop(frozen);
    pool.complete_tx(other).unwrap();
    for addr in posted.iter().rev() {
        assert_eq!(pool.free(), 7);
        pool.complete_tx(*addr).unwrap();
    }
    assert!(pool.complete_tx(posted[0]).is_err());
    assert_whole(&pool);
}

#[test]
fn the_kernels_frames_can_be_taken_back_when_the_socket_is_gone() {
    let pool = pool(8, 0, 0);
    let _ = pool.post_fill().unwrap();
    let _ = tx(&pool, b"x").seal().unwrap().post();
    let (sealed, kept) = tx(&pool, b"y").seal_retained(b"h").unwrap();
    let _ = sealed.post();
    let queued = tx(&pool, b"z").seal().unwrap();
    assert_eq!(pool.reclaim_from_kernel(), 3);
    assert_eq!((pool.ledger().retained, pool.ledger().queued, pool.ledger().held()), (1, 1, 2));
    assert_eq!(kept.try_exclusive().unwrap().as_slice(), b"y");
    drop(queued);
    assert_whole(&pool);
}

#[test]
fn a_sum_is_forgotten_when_the_bytes_change() {
    let pool = pool(8, 0, 0);
    let known = |mut buf: TxBuf| {
        buf.set_payload_sum(0xabcd);
        assert_eq!(buf.payload_sum(), Some(0xabcd));
        buf
    };
    assert_eq!(tx(&pool, b"data").payload_sum(), None);
    type Change = fn(&mut TxBuf);
    let changes: [(&str, Change); 7] = [
        ("as_mut_slice", |buf| drop(buf.as_mut_slice().first_mut())),
        ("set_len", |buf| buf.set_len(2).unwrap()),
        ("put_slice", |buf| buf.put_slice(b"z").unwrap()),
        ("prepend", |buf| drop(buf.prepend::<2>().unwrap().first_mut())),
        ("prepend_slice", |buf| buf.prepend_slice(b"zz").unwrap()),
        ("advance", |buf| buf.advance(1)),
        ("truncate", |buf| buf.truncate(1)),
    ];
    for (name, change) in changes {
        let mut buf = known(tx(&pool, b"data"));
        change(&mut buf);
        assert_eq!(buf.payload_sum(), None, "{name}");
    }
    // It survives what does not change them.
    let mut buf = known(tx(&pool, b"data"));
    buf.truncate(4);
    assert_eq!(buf.payload_sum(), Some(0xabcd));
    let (sealed, mut kept) = buf.seal_retained(b"header").unwrap();
    assert_eq!(kept.payload_sum(), Some(0xabcd));
    kept.trim_front(1);
    assert_eq!(kept.payload_sum(), None);
    drop((sealed, kept));
    assert_eq!(known(tx(&pool, b"data")).freeze().payload_sum(), Some(0xabcd));

    let mut packet = rx(&pool, &[b"ab"]);
    packet.set_payload_sum(1);
    packet.append(rx(&pool, &[b"cd"])).unwrap();
    assert_eq!(packet.payload_sum(), None, "append");
    packet.set_payload_sum(2);
    let (head, tail) = packet.split_first();
    assert_eq!((head.payload_sum(), tail.unwrap().payload_sum()), (None, None), "split_first");
    let mut packet = rx(&pool, &[b"ab"]);
    packet.set_payload_sum(3);
    packet.as_mut_slice()[0] = 1;
    assert_eq!(packet.payload_sum(), None);
    drop((head, packet));
    assert_whole(&pool);
}

#[test]
fn a_queue_is_bounded_and_knows_whole_packets() {
    let pool = pool(8, 0, 0);
    let mut queue = TxQueue::with_limit(4);
    let piece = |more| {
        let mut sealed = tx(&pool, &[u8::from(more)]).seal().unwrap();
        if more {
            sealed.set_more();
        }
        sealed
    };
    for more in [false, true, true, false] {
        queue.push(piece(more)).unwrap();
    }
    assert_eq!((queue.len(), queue.room(), queue.limit()), (4, 0, 4));
    drop(queue.push(piece(false)).unwrap_err());
    drop(queue.unpop(piece(false)).unwrap_err());
    assert_eq!([0, 1, 2, 3, 4, 9].map(|n| queue.whole_packets(n)), [0, 1, 1, 1, 4, 4]);
    let first = queue.pop().unwrap();
    assert!(!first.more());
    queue.unpop(first).unwrap();
    assert!(queue.iter().map(|piece| piece.more()).eq([false, true, true, false]));
    queue.truncate(1);
    assert_eq!((queue.len(), pool.ledger().queued), (1, 1));
    drop(queue);
    assert_whole(&pool);
}

#[test]
fn a_queue_keeps_to_one_pool_while_anything_is_queued() {
    let (pool, other) = (pool(4, 0, 0), pool(4, 0, 0));
    let mut queue = TxQueue::with_limit(4);
    queue.push(tx(&pool, b"one").seal().unwrap()).unwrap();
    drop(queue.push(tx(&other, b"two").seal().unwrap()).unwrap_err());
    drop(queue.pop());
    queue.push(tx(&other, b"two").seal().unwrap()).unwrap();
    assert_eq!((queue.len(), queue.iter().next().unwrap().as_slice()), (1, &b"two"[..]));
    drop(queue);
    assert_whole(&pool);
    assert_whole(&other);
}

#[test]
fn a_burst_is_posted_and_completed_like_one_after_the_other() {
    let pool = pool(8, 0, 2);
    let mut queue = TxQueue::with_limit(4);
    // The queue's memory is used around its end.
    for _ in 0..3 {
        queue.push(tx(&pool, b"gone").seal().unwrap()).unwrap();
        drop(queue.pop());
    }
    let (sealed, kept) = tx(&pool, b"kept").seal_behind(0, None).unwrap();
    queue.push(sealed).unwrap();
    for byte in 0..2 {
        queue.push(tx(&pool, &[byte]).seal().unwrap()).unwrap();
    }
    let run = tx(&pool, &[7; 3000]).freeze();
    assert!(run.seal_range(0, 1, |piece| queue.push(piece).unwrap()).is_ok());
    let mut posted = Vec::new();
    queue.post_first(9, |addr, len, more| posted.push((addr, len, more)));
    assert!(queue.is_empty() && pool.ledger().kernel_tx == 4);
    let bytes: Vec<_> = posted.iter().map(|&desc| on_the_wire(&pool, desc)).collect();
    assert_eq!(bytes, [b"kept".to_vec(), vec![0], vec![1], vec![7]]);
    // An address that nobody posted, and one that comes back twice, are counted and change nothing.
    let addrs = posted.iter().map(|desc| desc.0).chain([posted[1].0, u64::MAX]);
    assert_eq!((pool.complete_all(addrs), pool.counters().bad_completions), (4, 2));
    assert_eq!((pool.ledger().retained, pool.ledger().owned, pool.free()), (1, 2, 5));
    drop((kept, run));
    assert_whole(&pool);
}

#[test]
fn frames_are_lent_by_the_burst_and_copied_between_devices() {
    let (from, to) = (pool(4, 0, 0), pool(8, 4, 0));
    let mut lent = Vec::new();
    to.post_fills(100, |addr| lent.push(addr));
    assert_eq!((lent.len(), to.free(), to.counters().alloc_failures), (7, 1, 0), "a quarter of the reserve stays");
    let (addr, len, _) = tx(&from, b"hello").seal().unwrap().post();
    from.kernel_copy(addr, len, &to, lent[0] + 64).unwrap();
    assert_eq!(to.adopt_rx(lent[0] + 64, len).unwrap().as_slice(), b"hello");
    assert_eq!(from.kernel_copy(addr, len, &to, lent[0]), Err(BadAddr(lent[0])), "it is not lent any more");
    from.complete_tx(addr).unwrap();
    assert_eq!(from.kernel_copy(addr, len, &to, lent[1]), Err(BadAddr(addr)), "nobody sends it");
    lent[1..].iter().for_each(|&addr| to.unfill(addr).unwrap());
    assert_whole(&from);
    assert_whole(&to);
}

#[test]
fn a_ledger_reads_as_a_sentence() {
    let pool = pool(3, 0, 0);
    let _ = pool.post_fill().unwrap();
    let buf = tx(&pool, b"x");
    let text = pool.ledger().to_string();
    assert!(text.starts_with("3 frames: 1 free, 1 owned, 0 retained"), "{text}");
    assert_eq!(format!("{pool:?}"), "Pool(1 of 3 free)");
    assert_eq!(format!("{buf:?}"), "TxBuf(frame 1+0 at 256, 1 B)");
    assert!(pool.ledger().balances() && !pool.ledger().is_whole());
}
