//! Run by `RUSTFLAGS="--cfg loom" cargo test -p framewire --no-default-features --lib --release ring::`.

use crate::ring::{FillAddr, Wake, heap};
use loom::{
    model,
    sync::{Arc, Notify},
    thread,
};

/// loom's cells report a read of an entry that is not ordered after its write, and a write over one that may still be read.
#[test]
fn entries_are_written_before_they_are_seen_and_read_before_they_are_overwritten() {
    // Two at a time, and the second pair lies where the first did. With up to three preemptions: every order there is takes hours.
    let mut bounded = loom::model::Builder::new();
    bounded.preemption_bound = Some(3);
    bounded.check(|| {
        let (mut producer, mut consumer) = heap(2, u32::MAX);
        let sender = thread::spawn(move || {
            for pair in [[1, 2], [3, 4]] {
                while producer.free(2) < 2 {
                    thread::yield_now();
                }
                let mut reservation = producer.reserve(2);
                assert!(pair.into_iter().all(|value| reservation.push(FillAddr(value))));
                assert_eq!(reservation.commit(), 2);
            }
        });
        for pair in [[1, 2], [3, 4]] {
            while consumer.available(2) < 2 {
                thread::yield_now();
            }
            let batch = consumer.peek(2);
            assert!(batch.iter().eq(pair.map(FillAddr)));
            batch.release();
        }
        sender.join().unwrap();
    });
}

#[test]
fn an_entry_that_was_not_released_is_seen_again() {
    model(|| {
        let (mut producer, mut consumer) = heap(1, 0);
        let sender = thread::spawn(move || {
            for value in [1, 2] {
                loop {
                    let mut reservation = producer.reserve(1);
                    if reservation.push(FillAddr(value)) {
                        reservation.commit();
                        break;
                    }
                    thread::yield_now();
                }
            }
        });
        for value in [1, 2] {
            for turn in 0..2 {
                let batch = loop {
                    if consumer.available(1) > 0 {
                        break consumer.peek(1);
                    }
                    thread::yield_now();
                };
                assert_eq!(batch.get(0), Some(FillAddr(value)));
                if turn == 1 {
                    batch.release();
                }
            }
        }
        sender.join().unwrap();
    });
}

/// The kernel's part: takes `count` entries, and sleeps when there is nothing after it has asked to be woken.
fn sleeping_consumer(mut consumer: crate::ring::Consumer<FillAddr>, alarm: &Notify, count: u32) {
    let mut taken = 0;
    while taken < count {
        if consumer.available(1) == 0 {
            consumer.set_needs_wakeup(Wake::Needed);
            if consumer.available(1) == 0 {
                alarm.wait();
            }
            consumer.set_needs_wakeup(Wake::NotNeeded);
            continue;
        }
        let batch = consumer.peek(1);
        taken += batch.len();
        batch.release();
    }
}

/// What the worker does: it looks at the flag on every turn for as long as something is outstanding.
#[test]
fn a_sleeping_consumer_is_woken_when_the_flag_is_looked_at_until_the_ring_is_empty() {
    model(|| {
        let (mut producer, consumer) = heap(2, 0);
        let alarm = Arc::new(Notify::new());
        let bell = alarm.clone();
        let kernel = thread::spawn(move || sleeping_consumer(consumer, &alarm, 1));
        let mut reservation = producer.reserve(1);
        assert!(reservation.push(FillAddr(7)));
        reservation.commit();
        while producer.outstanding() > 0 {
            if producer.needs_wakeup() {
                bell.notify();
            }
            thread::yield_now();
        }
        kernel.join().unwrap();
    });
}

/// Why it must look again: index and flag are not ordered against each other (store, then load), here as in the kernel. Some interleaving has the
/// consumer about to sleep and the producer not seeing that it must be woken.
#[test]
fn looking_at_the_flag_only_once_may_miss_it() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static MISSED: AtomicBool = AtomicBool::new(false);
    model(|| {
        let (mut producer, mut consumer) = heap(2, 0);
        let kernel = thread::spawn(move || {
            consumer.set_needs_wakeup(Wake::Needed);
            consumer.available(1) == 0
        });
        let mut reservation = producer.reserve(1);
        assert!(reservation.push(FillAddr(7)));
        reservation.commit();
        let wakes = producer.needs_wakeup();
        let sleeps = kernel.join().unwrap();
        MISSED.fetch_or(sleeps && !wakes, Ordering::Relaxed);
    });
    assert!(MISSED.load(Ordering::Relaxed));
}
