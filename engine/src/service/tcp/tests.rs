//! TCP services on workers that are linked in memory.

use crate::{
    buf::PoolConfig,
    config::{Service, StreamOptions, TcpFlow, TcpListen},
    service::{
        Board,
        tests::{CLIENT, ECHO, Pair, get, pool},
    },
    time::Duration,
};
use std::net::{Ipv4Addr, SocketAddrV4};

const STEP: Duration = Duration::from_micros(50);

fn at(port: u16) -> TcpListen {
    TcpListen { local: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port), backlog: 64, connections_max: 100 }
}

fn echo(port: u16) -> Service {
    Service::TcpEcho { listen: at(port), options: StreamOptions { nodelay: true, ..StreamOptions::default() } }
}

fn sink(port: u16) -> Service {
    Service::TcpSink { listen: at(port), options: StreamOptions::default(), verify: true }
}

fn flow(bytes: u64) -> TcpFlow {
    TcpFlow { payload_bytes: None, bytes, rate_bps: 0, counting: true }
}

fn source(port: u16, connections: u64, flow: TcpFlow) -> Service {
    let destination = SocketAddrV4::new(ECHO, port);
    Service::TcpSource { destination, local: None, connections, flow, options: StreamOptions::default() }
}

/// Turns until the count is as wanted.
fn until(pair: &mut Pair, done: impl Fn(&Board, &Board) -> bool) {
    for _ in 0..400 {
        if done(&pair.left_board, &pair.right_board) {
            return;
        }
        pair.turn(100, STEP);
    }
    panic!("left {:?}\nright {:?}", pair.left_board.totals(0), pair.right_board.totals(0));
}

fn nothing_copied(pair: Pair) {
    for report in pair.finish() {
        let counters = report.snapshot.counters;
        assert_eq!((counters.bytes_copied_rx, counters.bytes_copied_tx), (0, 0));
    }
}

#[test]
fn what_is_sent_arrives_and_nothing_is_copied() {
    for (connections, payload_bytes) in [(1, None), (1, Some(1)), (1, Some(100)), (20, None), (3, Some(1448))] {
        let bytes = if payload_bytes == Some(1) { 3_001 } else { 300_001 };
        let flow = TcpFlow { payload_bytes, ..flow(bytes) };
        let mut pair = Pair::new(&[source(9, connections, flow)], &[sink(9)]);
        until(&mut pair, |left, right| {
            get(left, 0, "completed") == 1 && get(right, 0, "connections_closed") == connections
        });
        let right = &pair.right_board;
        assert_eq!(get(right, 0, "received_payload_bytes"), connections * bytes, "{payload_bytes:?}");
        assert_eq!((get(right, 0, "mismatched_bytes"), get(right, 0, "connections_failed")), (0, 0));
        assert_eq!(get(&pair.left_board, 0, "connections_made"), connections);
        nothing_copied(pair);
    }
}

#[test]
fn a_sink_finds_wrong_bytes() {
    let zeros = TcpFlow { counting: false, ..flow(8_000) };
    let mut pair = Pair::new(&[source(9, 1, zeros)], &[sink(9)]);
    until(&mut pair, |left, _| get(left, 0, "completed") == 1);
    pair.turn(10, STEP);
    // The last byte of each number but the first is not zero, nor are some before it.
    assert!(get(&pair.right_board, 0, "mismatched_bytes") >= 999 - 3);
    nothing_copied(pair);
}

#[test]
fn every_byte_comes_back_in_the_frame_that_it_came_in() {
    for connections in [1, 10] {
        let mut pair = Pair::new(&[source(7, connections, flow(200_000))], &[echo(7)]);
        until(&mut pair, |left, _| get(left, 0, "completed") == 1);
        pair.turn(200, STEP);
        let right = &pair.right_board;
        assert_eq!(get(right, 0, "received_payload_bytes"), connections * 200_000);
        assert_eq!(get(right, 0, "sent_payload_bytes"), connections * 200_000);
        nothing_copied(pair);
    }
}

#[test]
fn endless_echoes_starve_nobody() {
    let mut pair = Pair::new(&[source(7, 8, flow(0))], &[echo(7)]);
    pair.turn(2_000, STEP);
    let before = get(&pair.left_board, 0, "received_payload_bytes");
    pair.turn(2_000, STEP);
    assert!(get(&pair.left_board, 0, "received_payload_bytes") > before + 100_000, "nobody starves");
    nothing_copied(pair);
}

#[test]
fn whoever_connects_is_sent_to() {
    let listen = Service::TcpSourceListen { listen: at(5), flow: flow(50_000), options: StreamOptions::default() };
    // A source that connects takes what its peer sends, and counts it.
    let mut pair = Pair::new(&[source(5, 3, flow(10))], &[listen]);
    until(&mut pair, |left, right| get(left, 0, "completed") == 1 && get(right, 0, "connections_closed") == 3);
    assert_eq!(get(&pair.right_board, 0, "connections_accepted"), 3);
    nothing_copied(pair);
}

#[test]
fn connections_beyond_the_limit_are_reset() {
    let listen = TcpListen { connections_max: 2, ..at(7) };
    let full = Service::TcpEcho { listen, options: StreamOptions::default() };
    let mut pair = Pair::new(&[source(7, 5, flow(0))], &[full]);
    pair.turn(400, STEP);
    assert_eq!(get(&pair.right_board, 0, "connections_accepted"), 2);
    assert_eq!(get(&pair.right_board, 0, "connections_refused"), 3);
    assert_eq!(get(&pair.left_board, 0, "connections_failed"), 3);
    nothing_copied(pair);
}

#[test]
fn a_rate_is_kept() {
    let paced = TcpFlow { rate_bps: 80_000_000, payload_bytes: Some(1000), ..flow(0) };
    let mut pair = Pair::new(&[source(9, 4, paced)], &[sink(9)]);
    pair.turn(200, STEP);
    let before = get(&pair.right_board, 0, "received_payload_bytes");
    pair.turn(10_000, STEP);
    let bytes = get(&pair.right_board, 0, "received_payload_bytes") - before;
    assert!((4_800_000..=5_200_000).contains(&bytes), "{bytes} in half a second at 10 MB/s");
    nothing_copied(pair);
}

#[test]
fn nobody_there_is_tried_again() {
    let mut pair = Pair::new(&[source(99, 2, flow(100))], &[sink(9)]);
    pair.turn(500, Duration::from_millis(10));
    let tried = get(&pair.left_board, 0, "connections_failed");
    assert!((4..=12).contains(&tried), "{tried} in five seconds");
    assert_eq!(get(&pair.left_board, 0, "completed"), 0);
    nothing_copied(pair);
}

#[test]
fn tcp_and_udp_services_share_a_worker_and_a_port() {
    let udp = Service::UdpSource {
        destination: SocketAddrV4::new(ECHO, 7),
        local: Some(SocketAddrV4::new(CLIENT, 7)),
        payload_bytes: 64,
        rate_pps: 20_000,
        count: 100,
    };
    let udp_echo = Service::UdpEcho { listen: SocketAddrV4::new(ECHO, 7) };
    let left = [udp, source(7, 2, flow(9_000)), source(9, 2, flow(9_000))];
    let mut pair = Pair::new(&left, &[udp_echo, sink(9), echo(7)]);
    until(&mut pair, |left, _| (0..3).all(|service| get(left, service, "completed") == 1));
    pair.turn(20, STEP);
    assert_eq!(
        [0, 1, 2].map(|service| get(&pair.right_board, service, "received_payload_bytes")),
        [6_400, 18_000, 18_000]
    );
    nothing_copied(pair);
}

#[test]
fn few_frames_slow_down_but_stop_nobody() {
    let small = pool(640, PoolConfig { rx_reserve_frames: 64, run_frames: 0 });
    let mut pair = Pair::with_pools(&[source(9, 6, flow(400_000))], &[sink(9)], small);
    until(&mut pair, |left, right| get(left, 0, "completed") == 1 && get(right, 0, "connections_closed") == 6);
    assert_eq!(get(&pair.right_board, 0, "received_payload_bytes"), 2_400_000);
    assert_eq!(get(&pair.right_board, 0, "mismatched_bytes"), 0);
    nothing_copied(pair);
}
