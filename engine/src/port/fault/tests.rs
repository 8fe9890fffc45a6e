use super::*;
use crate::{
    buf::{HugePages, PoolConfig, Region},
    port::{MacAddr, mem},
};
use std::cell::RefCell;

const MS: Duration = Duration::from_millis(1);

struct Rig {
    pool: Pool,
    port: FaultPort<Box<dyn Port>>,
    nic: Rc<RefCell<mem::Nic>>,
    queue: TxQueue,
}

impl Rig {
    fn new(frames: usize, config: FaultConfig) -> Self {
        let pool = Pool::new(Region::map(frames, 2048, HugePages::Never).unwrap(), PoolConfig::default());
        let mut mem_config = mem::MemConfig::new("f0", MacAddr([2, 0, 0, 0, 0, 1]));
        mem_config.ring_entries = 64;
        mem_config.mtu = 9000;
        mem_config.tx_pieces_max = 8;
        let (port, nic) = mem::port(&pool, mem_config);
        let boxed: Box<dyn Port> = Box::new(port);
        Self { port: FaultPort::new(boxed, &pool, config), pool, nic, queue: TxQueue::with_limit(512) }
    }

    /// A packet of `pieces` descriptors of `len` bytes each, every byte `fill`.
    fn enqueue(&mut self, fill: u8, len: usize, pieces: usize) {
        for i in 0..pieces {
            let mut buf = self.pool.alloc_tx().unwrap();
            buf.put_slice(&vec![fill; len]).unwrap();
            let mut sealed = buf.seal().unwrap();
            if i + 1 < pieces {
                sealed.set_more();
            }
            self.queue.push(sealed).unwrap();
        }
    }

    /// One turn; what went out.
    fn turn(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.port.reap();
        let mut up = Vec::new();
        self.port.receive(now, &mut up, 64);
        assert!(up.is_empty());
        self.port.transmit(now, &mut self.queue);
        let mut sent = Vec::new();
        while let Some(packet) = self.nic.borrow_mut().take() {
            sent.push(packet.to_vec());
        }
        self.port.reap();
        assert!(self.pool.ledger().balances(), "{}", self.pool.ledger());
        sent
    }

    fn receive(&mut self, now: Instant, max: usize) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let n = self.port.receive(now, &mut out, max);
        assert_eq!(n, out.len());
        assert!(n <= max);
        self.port.refill();
        assert!(self.pool.ledger().balances(), "{}", self.pool.ledger());
        out.iter().map(|packet| packet.pieces().flatten().copied().collect()).collect()
    }

    fn close(mut self) -> FaultControl {
        let control = self.port.control();
        self.queue.truncate(0);
        self.port.close(Duration::ZERO);
        assert!(self.pool.ledger().is_whole(), "{}", self.pool.ledger());
        control
    }
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn only_tx(tx: Faults) -> FaultConfig {
    FaultConfig { tx, ..FaultConfig::new(1) }
}

fn only_rx(rx: Faults) -> FaultConfig {
    FaultConfig { rx, ..FaultConfig::new(1) }
}

#[test]
fn without_faults_everything_passes_unchanged() {
    let mut rig = Rig::new(256, FaultConfig::new(0));
    rig.port.refill();
    for i in 0..40 {
        rig.enqueue(i, 60 + i as usize, 1 + i as usize % 3);
        rig.nic.borrow_mut().inject(&[i; 3000]);
        let up = rig.receive(at(1), 64);
        assert_eq!(up, [vec![i; 3000]]);
        assert_eq!(rig.turn(at(1)), [vec![i; (60 + i as usize) * (1 + i as usize % 3)]]);
    }
    assert_eq!(rig.port.next_deadline(), None);
    let named: Vec<_> =
        rig.port.stats().iter().filter(|(name, value)| name.starts_with("fault_") && *value > 0).collect();
    assert_eq!(named, [("fault_rx_seen", 40), ("fault_tx_seen", 40)]);
    let control = rig.close();
    assert_eq!(control.rx_counts(), FaultCounts { seen: 40, ..FaultCounts::default() });
    assert_eq!(control.tx_counts(), FaultCounts { seen: 40, ..FaultCounts::default() });
}

#[test]
fn drop_rates_are_about_right_and_the_seed_decides() {
    let run = |seed| {
        let faults = Faults::loss(0.3);
        let mut rig = Rig::new(256, FaultConfig { seed, rx: faults, tx: faults, held_packets_max: 4 });
        rig.port.refill();
        let mut passed = Vec::new();
        for i in 0..2000u32 {
            rig.enqueue(i as u8, 60, 1);
            passed.push(rig.turn(at(0)).len());
            rig.nic.borrow_mut().inject(&[0; 60]);
            passed.push(rig.receive(at(0), 64).len());
        }
        let control = rig.close();
        (passed, control.rx_counts().dropped, control.tx_counts().dropped)
    };
    let (a, rx, tx) = run(42);
    assert!((500..700).contains(&rx), "{rx}");
    assert!((500..700).contains(&tx), "{tx}");
    assert_eq!(a, run(42).0);
    assert_ne!(a, run(43).0);
}

#[test]
fn sent_faults_never_touch_the_original_and_keep_pieces_apart() {
    let faults = Faults { corrupt: 1.0, duplicate: 1.0, ..Faults::NONE };
    let mut rig = Rig::new(64, only_tx(faults));
    let mut buf = rig.pool.alloc_tx().unwrap();
    buf.put_slice(&[7; 100]).unwrap();
    let (sealed, kept) = buf.seal_retained(&[9; 14]).unwrap();
    rig.queue.push(sealed).unwrap();
    let sent = rig.turn(at(0));
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0], sent[1]);
    let clean: Vec<u8> = [vec![9; 14], vec![7; 100]].concat();
    let bits: u32 = sent[0].iter().zip(&clean).map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!(bits, 1);
    assert_eq!(kept.as_slice(), [7; 100], "the retransmit queue still sees what was written");
    drop(kept);
    // The whole chunk of a frame, over three descriptors, is copied piece by piece.
    let mut run = rig.pool.alloc_tx().unwrap();
    run.set_len(run.capacity()).unwrap();
    run.prepend_slice(&[1; 256]).unwrap();
    let frozen = run.freeze();
    for _ in 0..2 {
        frozen
            .seal_range(0, 2048, |mut piece| {
                piece.set_more();
                rig.queue.push(piece).unwrap();
            })
            .unwrap();
    }
    frozen.seal_range(0, 100, |piece| rig.queue.push(piece).unwrap()).unwrap();
    drop(frozen);
    let sent = rig.turn(at(0));
    assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [4196, 4196]);
    let control = rig.close();
    assert_eq!((control.tx_counts().corrupted, control.tx_counts().duplicated), (2, 2));
}

#[test]
fn truncation_shortens_and_leaves_an_ethernet_header() {
    let faults = Faults { truncate: 1.0, ..Faults::NONE };
    let mut rig = Rig::new(128, FaultConfig { rx: faults, ..only_tx(faults) });
    rig.port.refill();
    for round in 0..200 {
        rig.enqueue(1, 50, 1 + round % 4);
        let [sent] = &rig.turn(at(0))[..] else { panic!("one packet") };
        assert!((14..50 * (1 + round % 4)).contains(&sent.len()));
        rig.nic.borrow_mut().inject(&[3; 5000]);
        let [up] = &rig.receive(at(0), 8)[..] else { panic!("one packet") };
        assert!(up.len() < 5000);
        assert!(up.iter().all(|&byte| byte == 3));
    }
    rig.enqueue(1, 14, 1);
    assert_eq!(rig.turn(at(0)), [vec![1; 14]]);
    let control = rig.close();
    assert_eq!((control.tx_counts().truncated, control.rx_counts().truncated), (200, 200));
}

#[test]
fn received_chains_are_corrupted_and_doubled_whole() {
    let mut rig = Rig::new(128, only_rx(Faults { corrupt: 1.0, duplicate: 1.0, ..Faults::NONE }));
    rig.port.refill();
    let packet: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
    let mut places = std::collections::BTreeSet::new();
    for _ in 0..50 {
        rig.nic.borrow_mut().inject(&packet);
        let up = rig.receive(at(0), 8);
        assert_eq!(up.len(), 2);
        assert_eq!(up[0], up[1]);
        let wrong: Vec<_> = (0..packet.len()).filter(|&i| up[0][i] != packet[i]).collect();
        assert_eq!(wrong.len(), 1);
        places.insert(wrong[0] / 1792);
    }
    assert_eq!(places.len(), 3, "every piece gets its share");
    rig.close();
}

#[test]
fn a_reordered_packet_is_overtaken_by_one_or_waits_out_its_patience() {
    let mut rig = Rig::new(64, only_tx(Faults { reorder: 1.0, ..Faults::NONE }));
    for fill in 1..=4 {
        rig.enqueue(fill, 60, 1);
    }
    let order: Vec<u8> = rig.turn(at(0)).iter().map(|packet| packet[0]).collect();
    assert_eq!(order, [2, 1, 4, 3]);
    rig.enqueue(5, 60, 1);
    assert!(rig.turn(at(0)).is_empty());
    assert_eq!(rig.port.next_deadline(), Some(at(10)));
    assert!(rig.turn(at(9)).is_empty());
    assert_eq!(rig.turn(at(10)), [vec![5; 60]]);
    assert_eq!(rig.close().tx_counts().reordered, 3);
}

#[test]
fn delays_keep_order_and_time_in_both_directions() {
    let mut rig = Rig::new(256, FaultConfig { rx: Faults::latency(20 * MS), ..only_tx(Faults::latency(5 * MS)) });
    rig.port.refill();
    for fill in 1..=3 {
        rig.enqueue(fill, 60, 1);
        rig.nic.borrow_mut().inject(&[fill; 60]);
    }
    assert!(rig.turn(at(0)).is_empty());
    assert_eq!(rig.port.next_deadline(), Some(at(5)));
    assert_eq!(rig.pool.ledger().queued, 3);
    assert!(rig.receive(at(4), 64).is_empty());
    let sent: Vec<u8> = rig.turn(at(5)).iter().map(|packet| packet[0]).collect();
    assert_eq!(sent, [1, 2, 3]);
    assert_eq!(rig.port.next_deadline(), Some(at(20)));
    // Only as many as asked for; the rest says that it waits.
    assert_eq!(rig.receive(at(20), 2), [vec![1; 60], vec![2; 60]]);
    assert_eq!(rig.port.next_deadline(), Some(at(20)));
    assert_eq!(rig.receive(at(20), 2), [vec![3; 60]]);
    assert_eq!(rig.port.next_deadline(), None);
    rig.close();
}

#[test]
fn spread_delays_lie_between_their_bounds() {
    let delay = Delay { probability: 0.5, min: 2 * MS, max: 8 * MS };
    let mut rig = Rig::new(512, only_tx(Faults { delay: Some(delay), ..Faults::NONE }));
    for _ in 0..60 {
        rig.enqueue(1, 60, 1);
    }
    let mut sent_at = Vec::new();
    for now in 0..=8 {
        sent_at.extend(rig.turn(at(now)).iter().map(|_| now));
    }
    assert_eq!(sent_at.len(), 60);
    assert_eq!(sent_at.iter().filter(|&&now| now == 1 || now == 2).count(), 0, "{sent_at:?}");
    assert!(sent_at.iter().filter(|&&now| now > 2).count() > 10);
    rig.close();
}

#[test]
fn held_packets_are_bounded_and_dropped_at_close() {
    let mut rig = Rig::new(64, FaultConfig { held_packets_max: 5, ..only_tx(Faults::latency(MS)) });
    for _ in 0..8 {
        rig.enqueue(1, 60, 1);
    }
    assert_eq!(rig.turn(at(0)).len(), 3);
    let counts = rig.close().tx_counts();
    assert_eq!((counts.delayed, counts.held_full, counts.dropped_at_close), (5, 3, 5));
}

#[test]
fn without_a_frame_for_the_copy_the_packet_passes_as_it_is() {
    let all = Faults { corrupt: 1.0, truncate: 1.0, duplicate: 1.0, ..Faults::NONE };
    let mut rig = Rig::new(4, only_tx(all));
    rig.enqueue(6, 60, 4);
    assert_eq!(rig.pool.free(), 0);
    assert_eq!(rig.turn(at(0)), [vec![6; 240]]);
    let counts = rig.close().tx_counts();
    assert_eq!((counts.no_frame, counts.corrupted, counts.truncated, counts.duplicated), (3, 0, 0, 0));
}

#[test]
fn a_full_ring_pushes_back_and_loses_nothing() {
    let mut rig = Rig::new(1024, only_tx(Faults { duplicate: 1.0, ..Faults::NONE }));
    for i in 0..400u32 {
        rig.enqueue(i as u8, 60, 1);
    }
    let mut turns = 0;
    let mut sent = Vec::new();
    // The ring has 64 entries, which each turn empties once.
    while sent.len() < 800 {
        turns += 1;
        assert!(turns < 100);
        sent.extend(rig.turn(at(turns)).into_iter().map(|packet| packet[0]));
        assert!(rig.queue.len() + sent.len() <= 800);
    }
    assert!(turns > 6, "the ring was never full: {turns}");
    assert_eq!(rig.queue.len(), 0);
    let expected: Vec<u8> = (0..400u32).flat_map(|i| [i as u8, i as u8]).collect();
    assert_eq!(sent, expected);
    rig.close();
}

#[test]
fn waiting_descriptors_keep_the_worker_awake() {
    let mut rig = Rig::new(1024, FaultConfig::new(5));
    for i in 0..200u32 {
        rig.enqueue(i as u8, 60, 1);
    }
    let taken = rig.port.transmit(at(3), &mut rig.queue);
    assert!(taken > 64, "{taken}");
    assert_eq!(rig.port.kick().unwrap(), Kick::Pending);
    assert_eq!(rig.port.next_deadline(), Some(at(3)));
    rig.close();
}

#[test]
fn everything_at_once_keeps_the_ledger() {
    let some = Faults {
        drop: 0.1,
        duplicate: 0.2,
        reorder: 0.2,
        corrupt: 0.2,
        truncate: 0.2,
        delay: Some(Delay { probability: 0.3, min: Duration::ZERO, max: 3 * MS }),
    };
    for seed in 0..8 {
        let mut rig = Rig::new(160, FaultConfig { seed, rx: some, tx: some, held_packets_max: 10 });
        for now in 0..400 {
            rig.port.refill();
            for pieces in 1..4 {
                if rig.pool.free() > 40 && rig.queue.room() > 8 {
                    rig.enqueue(now as u8, 300, pieces);
                }
                rig.nic.borrow_mut().inject(&vec![now as u8; 1000 * pieces]);
            }
            let mut out = Vec::new();
            rig.port.receive(at(now), &mut out, 16);
            out.clear();
            rig.turn_rx_tolerant(at(now));
        }
        let control = rig.port.control();
        for counts in [control.rx_counts(), control.tx_counts()] {
            let FaultCounts { seen, dropped, duplicated, reordered, corrupted, truncated, delayed, .. } = counts;
            assert!(seen > 300, "{counts:?}");
            for count in [dropped, duplicated, reordered, corrupted, truncated, delayed] {
                assert!(count > 0, "{counts:?}");
            }
        }
        rig.close();
    }
}

impl Rig {
    fn turn_rx_tolerant(&mut self, now: Instant) {
        self.port.reap();
        self.port.transmit(now, &mut self.queue);
        self.nic.borrow_mut().swallow();
        self.port.reap();
        assert!(self.pool.ledger().balances(), "{}", self.pool.ledger());
    }
}
