use crate::ring::{
    Consumer, FillAddr, NEED_WAKEUP, Producer, RxDesc, Wake, heap,
    memory::Memory,
    sync::{Arc, AtomicU32, Ordering, UnsafeCell},
};
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Reserve so many, push so many, then commit or not.
    Produce { reserve: u32, push: u32, commit: bool },
    /// Look at so many, then give so many back or none.
    Consume { peek: u32, release: Option<u32> },
}

fn op() -> impl Strategy<Value = Op> {
    let n = || prop_oneof![0..8u32, 0..1100u32, Just(u32::MAX)];
    prop_oneof![
        (n(), 0..1100u32, any::<bool>()).prop_map(|(reserve, push, commit)| Op::Produce { reserve, push, commit }),
        (n(), proptest::option::of(n())).prop_map(|(peek, release)| Op::Consume { peek, release }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_ring_is_a_bounded_queue(
        log2 in 0..=10u32,
        before_wrap in 0..3000u32,
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let size = 1 << log2;
        let (mut producer, mut consumer) = heap(size, u32::MAX - before_wrap);
        prop_assert_eq!((producer.size(), consumer.size()), (size, size));
        let mut oracle = VecDeque::new();
        let mut next = 0;
        for op in ops {
            match op {
                Op::Produce { reserve, push, commit } => {
                    let free = size - oracle.len() as u32;
                    let mut reservation = producer.reserve(reserve);
                    prop_assert_eq!(reservation.room(), free.min(reserve));
                    let mut pushed = VecDeque::new();
                    for _ in 0..push {
                        if !reservation.push(FillAddr(next)) {
                            prop_assert_eq!(reservation.room(), 0);
                            break;
                        }
                        pushed.push_back(FillAddr(next));
                        next += 1;
                    }
                    prop_assert_eq!(pushed.len() as u32, push.min(free).min(reserve));
                    if commit {
                        prop_assert_eq!(reservation.commit() as usize, pushed.len());
                        oracle.append(&mut pushed);
                    }
                }
                Op::Consume { peek, release } => {
                    let batch = consumer.peek(peek);
                    let len = oracle.len().min(peek as usize);
                    prop_assert_eq!((batch.len() as usize, batch.is_empty()), (len, len == 0));
                    prop_assert!(batch.iter().eq(oracle.iter().copied().take(len)));
                    prop_assert_eq!(batch.get(len as u32), None);
                    if let Some(n) = release {
                        batch.release_first(n);
                        oracle.drain(..len.min(n as usize));
                    }
                }
            }
            prop_assert_eq!(producer.outstanding() as usize, oracle.len());
            prop_assert_eq!(consumer.available(u32::MAX) as usize, oracle.len());
        }
    }
}

#[test]
fn a_full_ring_takes_nothing_and_an_empty_one_gives_nothing() {
    let (mut producer, mut consumer) = heap(4, u32::MAX - 1);
    assert!(consumer.peek(1).is_empty());
    let mut reservation = producer.reserve(9);
    assert_eq!(reservation.room(), 4);
    assert!((0..4).all(|i| reservation.push(FillAddr(i))));
    assert!(!reservation.push(FillAddr(4)));
    assert_eq!(reservation.commit(), 4);
    assert_eq!((producer.reserve(1).room(), producer.free(1)), (0, 0));
    consumer.peek(4).release_first(1);
    assert_eq!(producer.free(1), 1);
}

#[test]
#[should_panic(expected = "power of two")]
fn a_size_that_is_no_power_of_two_is_refused() {
    let _ = heap::<FillAddr>(3, 0);
}

#[test]
fn the_wake_up_flag_is_the_consumers_to_set() {
    let (producer, mut consumer) = heap::<FillAddr>(2, 0);
    assert!(!producer.needs_wakeup());
    consumer.set_needs_wakeup(Wake::Needed);
    assert!(producer.needs_wakeup());
    consumer.set_needs_wakeup(Wake::NotNeeded);
    assert!(!producer.needs_wakeup());
}

/// Ring memory whose indices the test writes at will, with cells before and behind the entries that nobody may touch.
struct Hostile {
    indices: [AtomicU32; 3],
    cells: Box<[UnsafeCell<RxDesc>]>,
}

// SAFETY: `Memory` asks for it; the test stays on one thread.
unsafe impl Send for Hostile {}
// SAFETY: as above.
unsafe impl Sync for Hostile {}

const MARGIN: usize = 16;
const CANARY: RxDesc = RxDesc { addr: 0xdead_beef_dead_beef, len: 0xdead, options: 0xbeef };

impl Hostile {
    fn new(size: u32, first: u32) -> (Arc<Self>, impl Fn() -> Memory<RxDesc>) {
        let cell = |i: usize| {
            let inside = (MARGIN..MARGIN + size as usize).contains(&i);
            UnsafeCell::new(if inside { RxDesc::default() } else { CANARY })
        };
        let this = Arc::new(Self {
            indices: [AtomicU32::new(first), AtomicU32::new(first), AtomicU32::new(0)],
            cells: (0..size as usize + 2 * MARGIN).map(cell).collect(),
        });
        let at = this.clone();
        (this, move || Memory {
            producer: &raw const at.indices[0],
            consumer: &raw const at.indices[1],
            flags: &raw const at.indices[2],
            // From the whole allocation, so that the pointer may reach every cell of it.
            entries: at.cells.as_ptr().wrapping_add(MARGIN),
            size,
            _keep: at.clone(),
        })
    }

    fn margins_are_whole(&self) -> bool {
        let (front, rest) = self.cells.split_at(MARGIN);
        let back = &rest[rest.len() - MARGIN..];
        // SAFETY: one thread, and no reference into the cells exists.
        front.iter().chain(back).all(|cell| cell.with(|at| unsafe { at.read() }) == CANARY)
    }
}

proptest! {
    #[test]
    fn an_other_end_that_jumps_never_leads_outside(
        log2 in 0..=6u32,
        first in any::<u32>(),
        jumps in proptest::collection::vec((any::<bool>(), prop_oneof![any::<u32>(), 0..200u32, (u32::MAX - 200)..=u32::MAX], 0..150u32, any::<u32>()), 1..60),
    ) {
        let size = 1 << log2;
        let (hostile, memory) = Hostile::new(size, first);
        let mut producer = Producer::new(memory());
        let mut consumer = Consumer::new(memory());
        for (consuming, jump, wanted, flags) in jumps {
            hostile.indices[2].store(flags, Ordering::Relaxed);
            prop_assert_eq!(producer.needs_wakeup(), flags & NEED_WAKEUP != 0);
            if consuming {
                // The producer's index leaps, ahead or back.
                hostile.indices[0].fetch_add(jump, Ordering::Release);
                let batch = consumer.peek(wanted);
                prop_assert!(batch.len() <= size.min(wanted));
                prop_assert!(batch.iter().all(|desc| desc != CANARY));
                batch.release();
            } else {
                hostile.indices[1].fetch_add(jump, Ordering::Release);
                prop_assert!(producer.free(wanted) <= size);
                prop_assert!(producer.outstanding() <= size);
                let mut reservation = producer.reserve(wanted);
                prop_assert!(reservation.room() <= size.min(wanted));
                while reservation.push(RxDesc { addr: 1, len: 2, options: 3 }) {}
                prop_assert!(reservation.commit() <= size);
            }
            prop_assert!(hostile.margins_are_whole());
        }
    }
}
