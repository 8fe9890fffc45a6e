//! Services on workers that are linked in memory: real rings, real pools, a clock turned by hand.

use super::*;
use crate::{
    buf::{HugePages, Pool, PoolConfig, Region, TxQueue},
    port::{
        MacAddr,
        mem::{self, MemConfig, MemPort, Nic},
    },
    runtime::{Clock, Remote, Worker, WorkerConfig, WorkerReport},
    stack::{IfaceConfig, Stack, StackConfig},
    time::{Duration, Instant},
};
use std::{cell::RefCell, net::Ipv4Addr, rc::Rc};

pub(super) const ECHO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(10);

pub(super) fn pool(frames: usize, config: PoolConfig) -> Pool {
    Pool::new(Region::map(frames, 2048, HugePages::Never).unwrap(), config)
}

fn mem_config(host: u8) -> MemConfig {
    MemConfig { ring_entries: 256, ..MemConfig::new("mem", MacAddr([2, 0, 0, 0, 0, host])) }
}

/// A worker with a stack that has `addr`.
fn worker(port: MemPort, pool: Pool, addr: Ipv4Addr, program: super::Program) -> Worker {
    let super::Program::App(mut app) = program else { panic!("no application") };
    let mac = MacAddr([2, 0, 0, 0, 0, addr.octets()[3]]);
    let mut stack = Stack::new(pool.clone(), StackConfig::new([addr.octets()[3]; 32]), Instant::ZERO);
    stack.add_interface(IfaceConfig::new("mem", mac, vec![crate::wire::Ipv4Net::new(addr, 24).unwrap()])).unwrap();
    app.start(&mut Net::new(&mut stack)).unwrap();
    let program = crate::runtime::Program::Stack { stack: Box::new(stack), app };
    Worker::new(Box::new(port), pool, program, Clock::start(), Remote::new().unwrap(), WorkerConfig::default())
}

/// Two linked workers, and what their services count.
pub(super) struct Pair {
    left: Worker,
    right: Worker,
    pub(super) left_board: Board,
    pub(super) right_board: Board,
    now: Instant,
}

impl Pair {
    /// `left` is [`CLIENT`], `right` is [`ECHO`].
    pub(super) fn new(left: &[config::Service], right: &[config::Service]) -> Self {
        Self::with_pools(left, right, pool(2048, PoolConfig { rx_reserve_frames: 256, run_frames: 256 }))
    }

    pub(super) fn with_pools(left: &[config::Service], right: &[config::Service], left_pool: Pool) -> Self {
        let right_pool = pool(2048, PoolConfig { rx_reserve_frames: 256, run_frames: 256 });
        let (left_port, right_port) = mem::link(&left_pool, mem_config(2), &right_pool, mem_config(1));
        let (left_board, right_board) = (Board::new(left, 1), Board::new(right, 1));
        Self {
            left: worker(left_port, left_pool, CLIENT, program(left, &left_board, 0, 1)),
            right: worker(right_port, right_pool, ECHO, program(right, &right_board, 0, 1)),
            left_board,
            right_board,
            now: Instant::ZERO,
        }
    }

    pub(super) fn turn(&mut self, count: usize, step: Duration) {
        for _ in 0..count {
            self.now = self.now + step;
            self.left.turn(self.now).unwrap();
            self.right.turn(self.now).unwrap();
        }
    }

    /// Stops both; no frame may be missing.
    pub(super) fn finish(self) -> [WorkerReport; 2] {
        [self.left, self.right].map(|worker| {
            let report = worker.finish(PATIENCE, None);
            assert!(report.snapshot.ledger.is_whole(), "{}", report.snapshot.ledger);
            report
        })
    }
}

pub(super) fn get(board: &Board, service: usize, name: &str) -> u64 {
    let at = Counts::NAMES.iter().position(|(one, _)| *one == name).unwrap_or_else(|| panic!("no count {name}"));
    board.totals(service)[at]
}

fn echo(port: u16) -> config::Service {
    config::Service::UdpEcho { listen: SocketAddrV4::new(ECHO, port) }
}

fn sink(port: u16) -> config::Service {
    config::Service::UdpSink { listen: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port), sequence: true }
}

fn source(port: u16, payload_bytes: usize, rate_pps: u64, count: u64) -> config::Service {
    let destination = SocketAddrV4::new(ECHO, port);
    config::Service::UdpSource { destination, local: None, payload_bytes, rate_pps, count }
}

#[test]
fn every_datagram_comes_back_and_nothing_is_copied() {
    for payload_bytes in [16, 64, 1472] {
        let mut pair = Pair::new(&[source(7, payload_bytes, 0, 5_000)], &[echo(7)]);
        pair.turn(400, Duration::from_micros(50));
        let sent = get(&pair.left_board, 0, "sent");
        assert_eq!((sent, get(&pair.left_board, 0, "completed")), (5_000, 1));
        assert_eq!(get(&pair.right_board, 0, "received"), 5_000);
        assert_eq!(get(&pair.right_board, 0, "sent_payload_bytes"), 5_000 * payload_bytes as u64);
        assert_eq!(get(&pair.left_board, 0, "received"), 5_000);
        for report in pair.finish() {
            let counters = report.snapshot.counters;
            assert_eq!((counters.bytes_copied_rx, counters.bytes_copied_tx), (0, 0));
        }
    }
}

#[test]
fn several_services_share_a_worker() {
    // Paced: three bursts a turn are more than the other side takes from its port.
    let left = [source(7, 64, 100_000, 300), source(9, 100, 100_000, 200), source(8, 16, 100_000, 100)];
    let mut pair = Pair::new(&left, &[echo(7), sink(8), sink(9)]);
    pair.turn(200, Duration::from_micros(50));
    let board = &pair.right_board;
    assert_eq!([0, 1, 2].map(|service| get(board, service, "received")), [300, 100, 200]);
    assert_eq!([0, 1, 2].map(|service| get(board, service, "sent")), [300, 0, 0]);
    assert_eq!(get(board, 2, "received_payload_bytes"), 20_000);
    assert_eq!([0, 1, 2].map(|service| get(&pair.left_board, service, "received")), [300, 0, 0]);
    assert_eq!([1, 2].map(|service| get(board, service, "sequence_missing")), [0, 0]);
    pair.finish();
}

#[test]
fn a_large_payload_is_one_buffer_and_many_fragments() {
    let mut pair = Pair::new(&[source(9, 20_000, 10_000, 20)], &[sink(9)]);
    pair.turn(400, Duration::from_micros(50));
    assert_eq!(get(&pair.right_board, 0, "received_payload_bytes"), 20 * 20_000);
    assert_eq!(get(&pair.right_board, 0, "sequence_missing"), 0);
    pair.finish();
}

#[test]
fn a_rate_is_kept() {
    for (rate, step) in [(1_000, 100), (10_000, 1_000), (7, 50_000)] {
        let mut pair = Pair::new(&[source(9, 64, rate, 0)], &[sink(9)]);
        let step = Duration::from_micros(step);
        // Until the neighbour is known.
        pair.turn(20, step);
        let (before, begun) = (get(&pair.left_board, 0, "sent"), pair.now);
        pair.turn(2_000, step);
        let seconds = pair.now.saturating_since(begun).as_secs_f64();
        let sent = (get(&pair.left_board, 0, "sent") - before) as f64;
        let wanted = rate as f64 * seconds;
        // Slower turns than the catch-up time cannot keep the rate.
        if step < CATCH_UP_BOUND {
            assert!((sent - wanted).abs() <= 2.0 + wanted * 0.01, "{rate}: {sent} instead of {wanted}");
        } else {
            assert!(sent > 0.0 && sent <= wanted + 2.0, "{rate}: {sent} of {wanted}");
        }
        pair.finish();
    }
}
const CATCH_UP_BOUND: Duration = Duration::from_millis(10);

#[test]
fn a_source_without_frames_or_room_loses_no_number() {
    // So few frames that the pool runs dry, and a peer that is not turned: the egress queue fills.
    let small = pool(640, PoolConfig { rx_reserve_frames: 32, run_frames: 0 });
    let mut pair = Pair::with_pools(&[source(9, 1000, 0, 20_000)], &[sink(9)], small);
    pair.turn(10, Duration::from_micros(50));
    for _ in 0..50 {
        pair.now = pair.now + Duration::from_micros(1);
        pair.left.turn(pair.now).unwrap();
    }
    pair.turn(2_000, Duration::from_micros(50));
    assert_eq!(get(&pair.left_board, 0, "sent"), 20_000);
    let received = get(&pair.right_board, 0, "received");
    assert_eq!(received + get(&pair.right_board, 0, "sequence_missing"), 20_000, "each number was sent once");
    assert_eq!(get(&pair.right_board, 0, "sequence_late"), 0);
    pair.finish();
}

#[test]
fn a_source_waits_for_a_peer_that_does_not_answer() {
    let nobody = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 99), 9);
    let service =
        config::Service::UdpSource { destination: nobody, local: None, payload_bytes: 64, rate_pps: 0, count: 0 };
    let mut pair = Pair::new(&[service], &[sink(9)]);
    pair.turn(5_000, Duration::from_millis(1));
    let tried = get(&pair.left_board, 0, "sent") + get(&pair.left_board, 0, "send_errors");
    assert!((2..60).contains(&tried), "{tried} tries in five seconds");
    pair.finish();
}

#[test]
fn work_is_shared_out_whole() {
    for (total, workers) in [(10, 3), (3, 4), (7, 1), (0, 2)] {
        let shares: Vec<u64> = (0..workers).map(|worker| share(total, worker, workers)).collect();
        assert_eq!(shares.iter().sum::<u64>(), total, "{shares:?}");
        assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
    }
}

#[test]
fn sequence_numbers_tell_what_happened() {
    let board = Board::new(&[sink(9)], 1);
    let mut sink = UdpSink::new("0.0.0.0:9".parse().unwrap(), true, board.counts(0, 0));
    let pool = pool(64, PoolConfig::default());
    let mut arrive = |payload: &[u8], host: u16| {
        let from = SocketAddrV4::new(CLIENT, host);
        sink.check(&crate::socket::Datagram { buf: pool.rx_from_bytes(payload).unwrap(), from, to: ECHO });
    };
    for number in [5_u64, 6, 9, 7, 10, 0, 1, u64::MAX, 0] {
        arrive(&number.to_be_bytes(), 1);
    }
    arrive(&[0; 7], 1);
    for host in 2..2_000 {
        arrive(&[0; 8], host);
    }
    let count = |name| get(&board, 0, name);
    assert_eq!(count("sequence_missing"), 2 + (u64::MAX - 2));
    assert_eq!((count("sequence_late"), count("sequence_restarts"), count("sequence_absent")), (1, 1, 1));
    assert_eq!(count("sequence_unwatched"), 1_998 - 1_023);
}

/// A reflector alone on a port, its wire, and what it counts.
fn reflector(egress_limit: usize, pieces_max: usize) -> (Worker, Rc<RefCell<Nic>>, Pool, Board) {
    let services = [config::Service::Reflect];
    let board = Board::new(&services, 1);
    let super::Program::Frames(handler) = program(&services, &board, 0, 1) else { panic!("no frame handler") };
    let pool = pool(512, PoolConfig::default());
    let (port, nic) = mem::port(&pool, MemConfig { mtu: 9000, tx_pieces_max: pieces_max, ..mem_config(1) });
    let program = crate::runtime::Program::Frames { handler, egress: TxQueue::with_limit(egress_limit) };
    let remote = Remote::new().unwrap();
    let worker = Worker::new(Box::new(port), pool.clone(), program, Clock::start(), remote, WorkerConfig::default());
    (worker, nic, pool, board)
}

fn frame(bytes: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0];
    frame.extend((frame.len()..bytes).map(|i| i as u8));
    frame.truncate(bytes);
    frame
}

#[test]
fn reflected_frames_differ_only_in_their_addresses() {
    // 2,048-byte frames with 256 of head-room: the last two are chains of 2 and 5 pieces.
    let (mut worker, nic, _pool, board) = reflector(64, 17);
    worker.turn(Instant::ZERO).unwrap();
    for bytes in [14, 60, 1514, 1792, 1793, 9014] {
        let sent = frame(bytes);
        assert!(nic.borrow_mut().inject(&sent));
        worker.turn(Instant::from_millis(1)).unwrap();
        let mut nic = nic.borrow_mut();
        let came = nic.take().unwrap_or_else(|| panic!("{bytes} B did not come back"));
        assert_eq!((&came[..6], &came[6..12], &came[12..]), (&sent[6..12], &sent[..6], &sent[12..]), "{bytes} B");
    }
    assert_eq!((get(&board, 0, "received"), get(&board, 0, "sent")), (6, 6));
    assert_eq!(get(&board, 0, "sent_payload_bytes"), 14 + 60 + 1514 + 1792 + 1793 + 9014);
    let report = worker.finish(PATIENCE, None);
    assert!(report.snapshot.ledger.is_whole(), "{}", report.snapshot.ledger);
}

#[test]
fn what_cannot_be_reflected_is_counted() {
    let (mut worker, nic, pool, board) = reflector(3, 17);
    worker.turn(Instant::ZERO).unwrap();
    let mut broadcast = frame(60);
    broadcast[..6].fill(0xff);
    for packet in [frame(60), frame(9), broadcast, frame(1514), frame(9014), frame(60), frame(60)] {
        assert!(nic.borrow_mut().inject(&packet));
    }
    worker.turn(Instant::from_millis(1)).unwrap();
    let count = |name| get(&board, 0, name);
    assert_eq!((count("received"), count("sent")), (7, 3));
    // The chain of five and the last single frame found no room among three descriptors.
    assert_eq!((count("dropped_short"), count("dropped_group"), count("dropped_no_room")), (1, 1, 2));
    assert!(pool.ledger().balances());
    let report = worker.finish(PATIENCE, None);
    assert!(report.snapshot.ledger.is_whole(), "{}", report.snapshot.ledger);
}
