//! Forged addresses, fragments that contradict each other, and what must not be guessable from outside.

use crate::{frames::*, rig::Rig};
use framewire::{
    time::Duration,
    wire::{MacAddr, arp, arp::Operation, ipv4, ipv4::protocol},
};
use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddrV4},
};

const EVIL_MAC: MacAddr = MacAddr([2, 0, 0, 6, 6, 6]);
const ANY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

#[test]
fn overlapping_fragments_discard_the_datagram() {
    // (offset, bytes) of the fragment that follows a first one of 64 bytes at 0 and a middle one of 64 at 128.
    for (id, (offset, bytes)) in [(56, 16), (64, 72), (120, 16), (136, 8), (0, 128), (8, 8)].into_iter().enumerate() {
        let mut rig = Rig::new();
        let id = id as u16;
        rig.receive(&fragment(id, 0, true, &[1; 64]));
        rig.receive(&fragment(id, 128, true, &[1; 64]));
        rig.receive(&fragment(id, offset, true, &vec![2; bytes]));
        let counters = rig.stack.counters;
        assert_eq!((counters.drop_fragment_overlap, counters.drop_fragment_discarded), (1, 2), "{offset}+{bytes}");
        assert_eq!(rig.stack.usage().reassembly_frames, 0);
        // What comes late of it is discarded, too.
        rig.receive(&fragment(id, 64, true, &[1; 64]));
        rig.receive(&fragment(id, 192, false, &[1; 8]));
        assert_eq!((rig.stack.counters.drop_fragment_overlap, rig.serve()), (3, 0));
        rig.finish();
    }
}

#[test]
fn fragments_that_cannot_be() {
    let mut rig = Rig::new();
    for (frame, what) in [
        (fragment(1, 0, true, &[]), "empty"),
        (fragment(2, 0, true, &[0; 7]), "not a multiple of eight"),
        (fragment(3, 8, true, &[0; 9]), "not a multiple of eight"),
        (fragment(4, 65_512, false, &[0; 8]), "ends beyond the largest datagram"),
        (fragment(5, 65_528, true, &[0; 1480]), "ends beyond the largest datagram"),
    ] {
        let refused = rig.stack.counters.drop_fragment_malformed;
        assert!(rig.dropped(&frame, "drop_fragment_malformed").is_empty());
        assert_eq!(rig.stack.counters.drop_fragment_malformed, refused + 1, "{what}");
    }
    // A first fragment that divides the TCP header, and a second that would overwrite it (RFC 1858).
    let first = ipv4::Repr { flags_offset: ipv4::MORE_FRAGMENTS, ..repr(protocol::TCP) };
    rig.dropped(&ip(first, &[0; 16]), "drop_fragment_malformed");
    rig.dropped(&ip(ipv4::Repr { flags_offset: 1, ..repr(protocol::TCP) }, &[0; 16]), "drop_fragment_malformed");
    // Two ends.
    rig.receive(&fragment(9, 64, false, &[0; 8]));
    rig.receive(&fragment(9, 128, false, &[0; 8]));
    assert_eq!(rig.stack.counters.drop_fragment_discarded, 1);
    rig.finish();
}

#[test]
fn a_spoofed_neighbour_comes_back() {
    let mut rig = Rig::new();
    let ask = |rig: &mut Rig| -> Vec<MacAddr> {
        rig.receive(&udp(4000, ECHO_PORT, b"where are you"));
        rig.serve();
        let to_peer = |frame: &Vec<u8>| (frame[12..14] == [8, 0]).then(|| MacAddr(*frame.first_chunk().unwrap()));
        rig.sent().iter().filter_map(to_peer).collect()
    };
    assert_eq!(ask(&mut rig), [PEER_MAC]);
    // An unsolicited answer for somebody unknown makes no entry.
    let before = rig.stack.usage().neighbours;
    rig.receive(&arp(Operation::Reply, EVIL_MAC, Ipv4Addr::new(10, 0, 0, 9), US));
    // Nor does a station of no network of ours, or a group's address.
    rig.receive(&arp(Operation::Request, EVIL_MAC, Ipv4Addr::new(192, 0, 2, 9), US));
    rig.receive(&arp(Operation::Request, MacAddr([3, 0, 0, 0, 0, 9]), Ipv4Addr::new(10, 0, 0, 9), US));
    assert_eq!((rig.stack.usage().neighbours, rig.stack.counters.drop_arp_source), (before, 1));
    rig.sent();
    // One for the peer is followed, as after a failover, but soon asked for; nobody answers there, so everybody is asked, and the peer answers.
    rig.receive(&arp(Operation::Reply, EVIL_MAC, PEER, US));
    let mut deceived = 0;
    for _ in 0..12 {
        deceived += ask(&mut rig).iter().filter(|&&mac| mac == EVIL_MAC).count();
        rig.advance(Duration::from_secs(1));
        for frame in rig.sent() {
            let asked = arp::Packet::parse(&frame[14..]).is_some_and(|packet| packet.target_ip == PEER);
            if asked && frame[..6] == [0xff; 6] {
                rig.receive(&arp(Operation::Reply, PEER_MAC, PEER, US));
            }
        }
    }
    assert!((1..=10).contains(&deceived), "{deceived}");
    assert_eq!(ask(&mut rig), [PEER_MAC]);
    rig.finish();
}

#[test]
fn our_own_address_is_defended_with_restraint() {
    let mut rig = Rig::new();
    for operation in [Operation::Request, Operation::Reply] {
        for _ in 0..1000 {
            rig.receive(&arp(operation, EVIL_MAC, US, US));
        }
    }
    assert_eq!((rig.stack.counters.arp_conflicts, rig.sent().len()), (2000, 1));
    rig.finish();
}

#[test]
fn sources_that_no_host_has() {
    let mut rig = Rig::new();
    let bad = ["10.0.0.1", "10.0.0.255", "255.255.255.255", "224.0.0.1", "239.255.255.255", "127.0.0.1", "0.0.0.0"];
    for src in bad.into_iter().chain(["0.1.2.3", "240.0.0.1"]).map(|src| src.parse().unwrap()) {
        assert!(rig.dropped(&udp_from(src, ECHO_PORT, ECHO_PORT, b"LAND"), "drop_ip_source").is_empty());
        assert!(rig.dropped(&udp_from(src, 4000, 5, b"no socket"), "drop_ip_source").is_empty());
        let ping = ip(ipv4::Repr { src, ..repr(protocol::ICMP) }, &icmp_message(8, 0, [0; 4], b"smurf"));
        assert!(rig.dropped(&ping, "drop_ip_source").is_empty());
    }
    rig.finish();
}

#[test]
fn errors_are_not_answered_with_errors_nor_sent_to_many() {
    let mut rig = Rig::new();
    // About every ICMP type there is: no error.
    for kind in (0..=255).filter(|&kind| kind != 8) {
        rig.receive(&icmp(kind, 0, [0; 4], &[0; 28]));
    }
    // About broadcasts and multicasts, of the link or of the network.
    let group = Ipv4Addr::new(224, 0, 0, 1);
    for dst in [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 0, 255), group] {
        for protocol in [protocol::UDP, protocol::TCP, 4] {
            let segment = udp_segment(SocketAddrV4::new(PEER, 4000), SocketAddrV4::new(dst, 5), b"knock");
            rig.receive(&ip(ipv4::Repr { dst, ..repr(protocol) }, &segment));
        }
        let ping = ip(ipv4::Repr { dst, ..repr(protocol::ICMP) }, &icmp_message(8, 0, [0; 4], b"smurf"));
        rig.dropped(&ping, "drop_icmp_type");
    }
    let mut frame = udp(4000, 5, b"knock");
    frame[..6].fill(0xff);
    rig.dropped(&frame, "drop_ip_not_ours");
    // About later fragments, and about datagrams whose first fragment did not come.
    rig.receive(&fragment(1, 1480, true, &[0; 64]));
    rig.receive(&fragment(2, 1480, false, &[0; 64]));
    rig.advance(Duration::from_secs(31));
    assert_eq!(rig.stack.counters.drop_fragment_timeout, 2);
    assert!(rig.sent().is_empty());
    assert_eq!((rig.stack.counters.icmp_errors_sent, rig.stack.counters.icmp_echo_replies), (0, 0));
    rig.finish();
}

/// How often a number of `sequence` is the one before plus `1..=step`.
fn successors(sequence: &[u16], step: u16) -> usize {
    sequence.windows(2).filter(|pair| (1..=step).contains(&pair[1].wrapping_sub(pair[0]))).count()
}

#[test]
fn ports_are_not_a_sequence() {
    let ports = |seed: u8| -> Vec<u16> {
        let mut rig = Rig::with(|config, _| config.seed = [seed; 32]);
        let ports = (0..1000)
            .map(|_| {
                let socket = rig.stack.udp_bind(ANY).unwrap();
                rig.stack.udp_socket(socket).unwrap().local.port()
            })
            .collect();
        rig.finish();
        ports
    };
    let (one, other) = (ports(1), ports(2));
    assert_eq!(one.iter().collect::<HashSet<_>>().len(), 1000, "no port twice");
    assert!(one.iter().all(|&port| port >= 49_152));
    assert!(successors(&one, 16) < 20, "{}", successors(&one, 16));
    // 16,384 ports in 16 ranges: about 62 in each.
    let mut ranges = [0; 16];
    one.iter().for_each(|port| ranges[usize::from((port - 49_152) >> 10)] += 1);
    assert!(ranges.iter().all(|n| (30..=100).contains(n)), "{ranges:?}");
    assert!(one.iter().zip(&other).filter(|(a, b)| a == b).count() < 10, "another seed, other ports");
}

#[test]
fn identifications_are_no_global_counter() {
    let identifications = |seed: u8| -> Vec<u16> {
        let mut rig = Rig::with(|config, _| config.seed = [seed; 32]);
        let mut seen = vec![];
        for host in 10..250 {
            let addr = Ipv4Addr::new(10, 0, 0, host);
            rig.introduce(addr, MacAddr([2, 0, 0, 0, 1, host]));
            let mut buf = rig.stack.pool().alloc_tx().unwrap();
            buf.put_slice(&[0; 2000]).unwrap();
            rig.stack.udp_send_to(rig.echo, buf, SocketAddrV4::new(addr, 9)).unwrap();
            let sent = rig.sent();
            let ids: HashSet<_> = sent.iter().map(|frame| u16::from_be_bytes([frame[IP + 4], frame[IP + 5]])).collect();
            assert_eq!((sent.len(), ids.len()), (2, 1));
            seen.extend(ids);
        }
        // Whole datagrams say nothing (RFC 6864).
        rig.receive(&udp(4000, ECHO_PORT, b"x"));
        rig.serve();
        assert_eq!(rig.sent()[0][IP + 4..IP + 8], [0, 0, 0x40, 0]);
        rig.finish();
        seen
    };
    let (one, other) = (identifications(1), identifications(2));
    assert!(one.iter().collect::<HashSet<_>>().len() > 230);
    assert!(successors(&one, 16) < 10, "{}", successors(&one, 16));
    assert!(one.iter().zip(&other).filter(|(a, b)| a == b).count() < 10, "another seed, other numbers");
}
