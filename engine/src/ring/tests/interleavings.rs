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
    model(|| {
        let (mut producer, mut consumer) = heap(2, u32::MAX);
        let sender = thread::spawn(move || {
            let mut next = 1;
            while next <= 3 {
                let mut reservation = producer.reserve(2);
                while next <= 3 && reservation.push(FillAddr(next)) {
                    next += 1;
                }
                if reservation.commit() == 0 {
                    thread::yield_now();
                }
            }
        });
        let mut expected = 1;
        while expected <= 3 {
            let batch = consumer.peek(2);
            let empty = batch.is_empty();
            for FillAddr(value) in batch.iter() {
                assert_eq!(value, expected);
                expected += 1;
            }
            batch.release();
            if empty {
                thread::yield_now();
            }
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

/// Why it must look again: index and flag are not ordered against each other (store, then load), here as in the kernel.
#[test]
#[should_panic(expected = "deadlock")]
fn looking_at_the_flag_only_once_may_miss_it() {
    model(|| {
        let (mut producer, consumer) = heap(2, 0);
        let alarm = Arc::new(Notify::new());
        let bell = alarm.clone();
        let kernel = thread::spawn(move || sleeping_consumer(consumer, &alarm, 1));
        let mut reservation = producer.reserve(1);
        assert!(reservation.push(FillAddr(7)));
        reservation.commit();
        if producer.needs_wakeup() {
            bell.notify();
        }
        kernel.join().unwrap();
    });
}
