//! Floods: whatever comes, memory stays within its budget and what others do survives.

use crate::{frames::*, rig::Rig};
use framewire::{
    proto::neighbour::NeighbourState,
    time::Duration,
    wire::{MacAddr, arp::Operation, ipv4, ipv4::protocol},
};
use std::net::{Ipv4Addr, SocketAddrV4};

fn station(n: u32) -> (Ipv4Addr, MacAddr) {
    let [_, _, c, d] = n.to_be_bytes();
    (Ipv4Addr::new(10, 0, c, d), MacAddr([2, 0, 0, 9, c, d]))
}

/// The usual stack in a network of 65,534 stations.
fn wide() -> Rig {
    Rig::with(|_, iface| iface.addresses = vec!["10.0.0.1/16".parse().unwrap()])
}

#[test]
fn fragments_of_one_source_do_not_cost_another_its_datagram() {
    let mut rig = Rig::new();
    let friend = Ipv4Addr::new(10, 0, 0, 3);
    rig.introduce(friend, MacAddr([2, 0, 0, 0, 0, 3]));
    let segment = udp_segment(SocketAddrV4::new(friend, 4), SocketAddrV4::new(US, ECHO_PORT), &[0x33; 2000]);
    let parts = fragments(ipv4::Repr { src: friend, ..repr(protocol::UDP) }, &segment, 1480);
    rig.receive(&parts[0]);
    for id in 0..20_000 {
        rig.receive(&fragment(id, 0, true, &[0; 1480]));
        rig.receive(&fragment(id, 2960, true, &[0; 8]));
        assert!(rig.stack.usage().reassembly_frames <= 512);
    }
    rig.accounted();
    assert!(rig.stack.usage().reassembly_frames <= 33, "16 datagrams of the flood's two fragments, and the friend's");
    rig.receive(&parts[1]);
    assert_eq!(rig.serve(), 1, "the friend's datagram");
    rig.finish();
}

#[test]
fn fragments_of_many_sources_stay_within_the_budget() {
    let mut rig = wide();
    for n in 0..20_000u32 {
        let part = ipv4::Repr { src: station(256 + n).0, id: n as u16, flags_offset: ipv4::MORE_FRAGMENTS, ..repr(17) };
        rig.receive(&ip(part, &[0; 64]));
        assert!(rig.stack.usage().reassembly_frames <= 64 && rig.stack.usage().timers < 20);
    }
    rig.accounted();
    rig.advance(Duration::from_secs(31));
    assert_eq!(rig.stack.usage().reassembly_frames, 0);
    rig.finish();
}

#[test]
fn many_tiny_fragments_of_one_datagram() {
    let mut rig = Rig::new();
    for at in 0..8_000 {
        rig.receive(&fragment(1, at * 8, true, &[0; 8]));
    }
    assert!(rig.stack.usage().reassembly_frames <= 128);
    rig.finish();
}

#[test]
fn arp_flood_leaves_the_neighbour_in_use_alone() {
    let mut rig = wide();
    let ask = |rig: &mut Rig, n: u32| {
        rig.receive(&udp(4000, ECHO_PORT, &n.to_be_bytes()));
        rig.serve();
        rig.sent().iter().filter(|frame| frame[..6] == PEER_MAC.0 && frame.ends_with(&n.to_be_bytes())).count()
    };
    assert_eq!(ask(&mut rig, 0), 1);
    for n in 1..30_000 {
        let (addr, mac) = station(256 + n);
        rig.receive(&arp(Operation::Request, mac, addr, US));
        if n % 1000 == 0 {
            assert_eq!(ask(&mut rig, n), 1, "answered at once, with nobody asked");
            rig.advance(Duration::from_millis(100));
            rig.sent();
        }
        rig.sent();
    }
    let usage = rig.stack.usage();
    assert!(usage.neighbours <= 1024 && usage.timers < 20, "{usage:?}");
    assert_eq!((usage.neighbours_parked, rig.stack.counters.drop_tx_neighbour_queue), (0, 0));
    rig.finish();
}

#[test]
fn pings_from_stations_that_do_not_exist() {
    let mut rig = wide();
    rig.receive(&udp(4000, ECHO_PORT, b"use it"));
    rig.serve();
    for n in 0..30_000 {
        rig.receive(&ip(
            ipv4::Repr { src: station(256 + n).0, ..repr(protocol::ICMP) },
            &icmp_message(8, 0, [0; 4], b"x"),
        ));
        rig.sent();
        if n % 100 == 0 {
            rig.advance(Duration::from_millis(10));
        }
        let usage = rig.stack.usage();
        assert!(usage.neighbours <= 1024 && usage.neighbours_parked <= 256 && usage.timers < 50, "{usage:?}");
    }
    let known = rig.stack.interfaces()[0].neighbours().iter().find(|neighbour| neighbour.ip == PEER);
    assert_eq!(known.and_then(|neighbour| neighbour.mac), Some(PEER_MAC), "the one in use");
    rig.advance(Duration::from_secs(10));
    assert_eq!(rig.stack.usage().neighbours_parked, 0);
    let incomplete = |state| matches!(state, NeighbourState::Incomplete(_) | NeighbourState::Failed);
    assert!(!rig.stack.interfaces()[0].neighbours().iter().any(|neighbour| incomplete(neighbour.state)));
    rig.finish();
}

#[test]
fn icmp_errors_keep_their_rate() {
    let mut rig = Rig::new();
    let frame = udp(4000, 5, b"knock");
    let mut sent = 0;
    for _ in 0..10_000 {
        rig.receive(&frame);
        sent += rig.sent().len() as u64;
        rig.advance(Duration::from_micros(100));
    }
    assert!((1_000..=1_050).contains(&sent), "50 at once and 1,000 in a second, not {sent}");
    assert_eq!(rig.stack.counters.icmp_errors_limited, 10_000 - sent);
    rig.finish();
}

#[test]
fn a_socket_that_nobody_reads_holds_its_share_only() {
    let mut rig = Rig::new();
    let slow = rig.stack.udp_bind(SocketAddrV4::new(US, 99)).unwrap();
    let free = rig.stack.pool().free();
    for _ in 0..5_000 {
        rig.receive(&udp(4000, 99, b"x"));
    }
    assert_eq!(free - rig.stack.pool().free(), 512);
    assert_eq!(rig.stack.counters.drop_udp_queue_full, 5_000 - 512);
    assert_eq!(rig.stack.event_count(), 1);
    assert!(rig.stack.udp_close(slow));
    assert_eq!(rig.stack.pool().free(), free);
    rig.finish();
}
