use crate::ring::{FillAddr, TxDesc, heap};
use std::thread;

const ITEMS: u64 = 1_000_000;

/// Both ends on threads of their own, in batches of changing size; the indices wrap on the way.
#[test]
fn a_million_entries_arrive_once_each_and_in_order() {
    for size in [1, 2, 64, 1024] {
        let items = if size < 64 { ITEMS / 20 } else { ITEMS };
        let (mut producer, mut consumer) = heap(size, u32::MAX - 1000);
        let sender = thread::spawn(move || {
            let mut next = 0;
            while next < items {
                let mut reservation = producer.reserve((next % 37) as u32 + 1);
                while next < items && reservation.push(TxDesc { addr: next, len: !next as u32, options: next as u32 }) {
                    next += 1;
                }
                if reservation.commit() == 0 {
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < items {
            let batch = consumer.peek((expected % 23) as u32 + 1);
            for desc in batch.iter() {
                assert_eq!(desc, TxDesc { addr: expected, len: !expected as u32, options: expected as u32 });
                expected += 1;
            }
            let empty = batch.is_empty();
            batch.release();
            if empty {
                thread::yield_now();
            }
        }
        assert!(consumer.peek(1).is_empty());
        sender.join().unwrap();
    }
}

/// A frame goes round and round between two rings, as between fill and RX.
#[test]
fn two_rings_back_to_back_keep_a_fixed_number_of_tokens() {
    const TOKENS: u32 = 48;
    let (mut out, mut far_in) = heap(64, 0);
    let (mut far_out, mut back) = heap(64, u32::MAX);
    let mut first = out.reserve(TOKENS);
    for token in 0..TOKENS {
        assert!(first.push(FillAddr(u64::from(token))));
    }
    first.commit();
    let rounds = ITEMS / 2;
    let far = thread::spawn(move || {
        let mut moved = 0;
        while moved < rounds {
            let batch = far_in.peek(16);
            let n = batch.len();
            let mut reservation = far_out.reserve(n);
            assert_eq!(reservation.room(), n, "there are fewer tokens than entries");
            batch.iter().for_each(|token| assert!(reservation.push(token)));
            reservation.commit();
            batch.release();
            moved += u64::from(n);
            if n == 0 {
                thread::yield_now();
            }
        }
    });
    let mut expected = 0;
    while !far.is_finished() || !back.peek(1).is_empty() {
        let batch = back.peek(32);
        let mut reservation = out.reserve(batch.len());
        for token in batch.iter() {
            assert_eq!(token, FillAddr(expected));
            expected = (expected + 1) % u64::from(TOKENS);
            assert!(reservation.push(token));
        }
        reservation.commit();
        batch.release();
        thread::yield_now();
    }
    far.join().unwrap();
}
