//! What goes where: every row of the README's table, by `BPF_PROG_TEST_RUN`.

mod rig;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use framewire_xdp::{Call, IpProtocol, Mode, SteerError, Verdict};
use rig::frame::*;
use rig::{Rig, XDP_PASS, XDP_REDIRECT, run, steer};

const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OWNED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const SHARED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const KERNEL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

const PEER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const OWNED6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const SHARED6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
const KERNEL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 10);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const PORT: u16 = 4433;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// Owned and shared addresses of both families; UDP port 4433 of the shared ones is ours.
fn rig() -> Option<Rig> {
    let mut rig = Rig::new()?;
    for address in [IpAddr::V4(OWNED), IpAddr::V6(OWNED6)] {
        rig.steer.own_address(address).unwrap();
    }
    for address in [IpAddr::V4(SHARED), IpAddr::V6(SHARED6)] {
        rig.steer.share_port(address, IpProtocol::UDP, PORT).unwrap();
    }
    Some(rig)
}

fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0xff, low)
}

fn udp4(destination: Ipv4Addr, port: u16) -> Vec<u8> {
    eth(IPV4, &ip4(PEER, destination, UDP, &ports(9, port)))
}

fn udp6(destination: Ipv6Addr, port: u16) -> Vec<u8> {
    eth(IPV6, &ip6(PEER6, destination, UDP, &ports(9, port)))
}

#[test]
fn owned_addresses_are_ours_whole() {
    let Some(rig) = rig() else { return };
    for protocol in [ICMP, TCP, UDP, 4, 47, 50, 255] {
        assert_eq!(rig.verdict(&eth(IPV4, &ip4(PEER, OWNED, protocol, &[]))), Verdict::RedirectedOwned);
        assert_eq!(rig.verdict(&eth(IPV6, &ip6(PEER6, OWNED6, protocol, &[]))), Verdict::RedirectedOwned);
        assert_eq!(rig.verdict(&eth(IPV4, &ip4(PEER, KERNEL, protocol, &[]))), Verdict::PassedNotOurs);
        assert_eq!(rig.verdict(&eth(IPV6, &ip6(PEER6, KERNEL6, protocol, &[]))), Verdict::PassedNotOurs);
    }
    let fragment = Ip4 {
        source: PEER,
        destination: OWNED,
        protocol: UDP,
        identification: 5,
        fragment: 100,
        option_words: 10,
        payload: b"later fragment",
    };
    assert_eq!(rig.verdict(&eth(IPV4, &fragment.build())), Verdict::RedirectedOwned);
    let fragment = fragment6(UDP, 800, false, 5, b"later fragment");
    assert_eq!(rig.verdict(&eth(IPV6, &ip6(PEER6, OWNED6, FRAGMENT, &fragment))), Verdict::RedirectedOwned);
}

#[test]
fn broadcast_multicast_and_other_ethertypes_are_the_kernels() {
    let Some(rig) = rig() else { return };
    assert_eq!(rig.verdict(&udp4(Ipv4Addr::BROADCAST, PORT)), Verdict::PassedNotOurs);
    assert_eq!(rig.verdict(&udp4(Ipv4Addr::new(224, 0, 0, 251), PORT)), Verdict::PassedNotOurs);
    assert_eq!(rig.verdict(&udp6(ALL_NODES, PORT)), Verdict::PassedNotOurs);
    for ethertype in [0x88cc, 0x0026, 0x9100, 0x8847] {
        assert_eq!(rig.verdict(&eth(ethertype, &ip4(PEER, OWNED, UDP, &ports(9, PORT)))), Verdict::PassedEthertype);
    }
}

#[test]
fn an_owned_group_is_ours() {
    let Some(mut rig) = rig() else { return };
    let group = Ipv4Addr::new(239, 1, 2, 3);
    assert_eq!(rig.verdict(&udp4(group, 1)), Verdict::PassedNotOurs);
    rig.steer.own_address(group.into()).unwrap();
    assert_eq!(rig.verdict(&udp4(group, 1)), Verdict::RedirectedOwned);
}

#[test]
fn up_to_two_vlan_tags_are_skipped() {
    let Some(rig) = rig() else { return };
    let packet = ip4(PEER, OWNED, UDP, &ports(9, 1));
    for outer in [VLAN, QINQ] {
        assert_eq!(rig.verdict(&eth(outer, &tag(100, IPV4, &packet))), Verdict::RedirectedOwned);
        let double = tag(100, VLAN, &tag(200, IPV4, &packet));
        assert_eq!(rig.verdict(&eth(outer, &double)), Verdict::RedirectedOwned);
        let triple = tag(1, VLAN, &tag(2, VLAN, &tag(3, IPV4, &packet)));
        assert_eq!(rig.verdict(&eth(outer, &triple)), Verdict::PassedEthertype);
        let arp = tag(1, VLAN, &tag(2, ARP, &arp(REQUEST, PEER, OWNED)));
        assert_eq!(rig.verdict(&eth(outer, &arp)), Verdict::RedirectedNeighbour);
    }
    assert_eq!(rig.verdict(&eth(VLAN, &tag(1, IPV6, &udp6(SHARED6, PORT)[14..]))), Verdict::RedirectedPort);
}

#[test]
fn arp_about_owned_addresses_is_ours() {
    let Some(rig) = rig() else { return };
    let decide = |operation, sender, target| rig.verdict(&eth(ARP, &arp(operation, sender, target)));
    for operation in [REQUEST, REPLY] {
        assert_eq!(decide(operation, PEER, OWNED), Verdict::RedirectedNeighbour);
        assert_eq!(decide(operation, OWNED, OWNED), Verdict::RedirectedNeighbour, "gratuitous: a conflict");
        assert_eq!(decide(operation, OWNED, PEER), Verdict::RedirectedNeighbour, "a conflict");
        assert_eq!(decide(operation, PEER, SHARED), Verdict::PassedNotOurs, "the kernel answers for a shared address");
        assert_eq!(decide(operation, PEER, KERNEL), Verdict::PassedNotOurs);
        assert_eq!(decide(operation, PEER, PEER), Verdict::PassedNotOurs);
    }
    assert_eq!(decide(REQUEST, Ipv4Addr::UNSPECIFIED, OWNED), Verdict::RedirectedNeighbour, "an RFC 5227 probe");
}

#[test]
fn malformed_arp_is_the_kernels() {
    let Some(rig) = rig() else { return };
    // Hardware type, protocol type, hardware length, protocol length: one wrong each.
    for header in ["0006080006040001", "0001080606040001", "0001080007040001", "0001080006060001"] {
        let mut packet = arp(REQUEST, PEER, OWNED);
        packet[..8].copy_from_slice(&u64::from_str_radix(header, 16).unwrap().to_be_bytes());
        assert_eq!(rig.verdict(&eth(ARP, &packet)), Verdict::PassedMalformed, "{header}");
    }
}

#[test]
fn expected_answers_to_a_shared_address_are_ours() {
    let Some(rig) = rig() else { return };
    let reply = eth(ARP, &arp(REPLY, PEER, SHARED));
    let request = eth(ARP, &arp(REQUEST, PEER, SHARED));
    let other = eth(ARP, &arp(REPLY, KERNEL, SHARED));
    let advertisement = |target: Ipv6Addr| eth(IPV6, &ip6(PEER6, SHARED6, ICMPV6, &icmp(136, &target.octets())));

    let expected = rig.steer.expected_neighbours().unwrap();
    assert_eq!(rig.verdict(&reply), Verdict::PassedNotOurs, "nobody asked");
    expected.expect(PEER.into()).unwrap();
    expected.expect(PEER6.into()).unwrap();
    assert_eq!(rig.verdict(&reply), Verdict::RedirectedNeighbour);
    assert_eq!(rig.verdict(&request), Verdict::PassedNotOurs, "the kernel must answer");
    assert_eq!(rig.verdict(&other), Verdict::PassedNotOurs);
    assert_eq!(rig.verdict(&advertisement(PEER6)), Verdict::RedirectedNeighbour);
    assert_eq!(rig.verdict(&advertisement(KERNEL6)), Verdict::PassedNotOurs);
    assert_eq!(rig.verdict(&udp4(PEER, PORT)), Verdict::PassedNotOurs, "an expected neighbour's address is not ours");

    for neighbour in [PEER.into(), PEER6.into(), PEER.into()] {
        expected.forget(neighbour).unwrap();
    }
    assert_eq!(rig.verdict(&reply), Verdict::PassedNotOurs);
    assert_eq!(rig.verdict(&advertisement(PEER6)), Verdict::PassedNotOurs);
}

#[test]
fn neighbour_discovery_about_owned_addresses_is_ours() {
    let Some(rig) = rig() else { return };
    let decide = |destination, kind, target: Ipv6Addr| {
        rig.verdict(&eth(IPV6, &ip6(PEER6, destination, ICMPV6, &icmp(kind, &target.octets()))))
    };
    assert_eq!(decide(solicited_node(OWNED6), 135, OWNED6), Verdict::RedirectedNeighbour);
    assert_eq!(decide(ALL_NODES, 136, OWNED6), Verdict::RedirectedNeighbour, "another holder defends it");
    assert_eq!(decide(OWNED6, 135, OWNED6), Verdict::RedirectedOwned, "unreachability probe");
    assert_eq!(decide(OWNED6, 136, PEER6), Verdict::RedirectedOwned, "answer to us");
    assert_eq!(decide(OWNED6, 137, PEER6), Verdict::RedirectedOwned, "redirect");
    assert_eq!(decide(solicited_node(KERNEL6), 135, KERNEL6), Verdict::PassedNotOurs);
    assert_eq!(decide(solicited_node(SHARED6), 135, SHARED6), Verdict::PassedNotOurs);
    assert_eq!(decide(SHARED6, 135, SHARED6), Verdict::PassedNotOurs);
    assert_eq!(decide(ALL_NODES, 134, OWNED6), Verdict::PassedNotOurs, "router advertisement: the kernel needs it");
    assert_eq!(decide(ALL_NODES, 130, OWNED6), Verdict::PassedNotOurs, "multicast listener query");
    let behind_options = extension(ICMPV6, 0, &icmp(135, &OWNED6.octets()));
    let frame = eth(IPV6, &ip6(PEER6, solicited_node(OWNED6), HOP_BY_HOP, &behind_options));
    assert_eq!(rig.verdict(&frame), Verdict::RedirectedNeighbour);
}

#[test]
fn shared_ports_are_ours_the_rest_the_kernels() {
    let Some(mut rig) = rig() else { return };
    assert_eq!(rig.verdict(&udp4(SHARED, PORT)), Verdict::RedirectedPort);
    assert_eq!(rig.verdict(&udp6(SHARED6, PORT)), Verdict::RedirectedPort);
    assert_eq!(rig.verdict(&udp4(SHARED, PORT + 1)), Verdict::PassedNotOurs);
    assert_eq!(rig.verdict(&udp6(SHARED6, PORT + 1)), Verdict::PassedNotOurs);
    assert_eq!(rig.verdict(&udp4(SHARED, PORT.swap_bytes())), Verdict::PassedNotOurs);
    assert_eq!(rig.verdict(&udp4(KERNEL, PORT)), Verdict::PassedNotOurs);

    let all = [IpProtocol::TCP, IpProtocol::UDP, IpProtocol::DCCP, IpProtocol::SCTP, IpProtocol::UDP_LITE];
    for protocol in all.into_iter().filter(|&protocol| protocol != IpProtocol::UDP) {
        let frame = eth(IPV4, &ip4(PEER, SHARED, protocol.0, &ports(9, PORT)));
        assert_eq!(rig.verdict(&frame), Verdict::PassedNotOurs, "{protocol}");
        rig.steer.share_port(SHARED.into(), protocol, PORT).unwrap();
        assert_eq!(rig.verdict(&frame), Verdict::RedirectedPort, "{protocol}");
    }
    for protocol in [ICMP, 47, 50, ICMPV6] {
        let frame = eth(IPV4, &ip4(PEER, SHARED, protocol, &ports(9, PORT)));
        assert_eq!(rig.verdict(&frame), Verdict::PassedNotOurs, "{protocol}");
    }
    // The last port to go takes the address along.
    for protocol in all {
        assert_eq!(rig.verdict(&eth(IPV4, &ip4(PEER, SHARED, protocol.0, &ports(9, PORT)))), Verdict::RedirectedPort);
        rig.steer.unshare_port(SHARED.into(), protocol, PORT).unwrap();
        rig.steer.unshare_port(SHARED.into(), protocol, PORT).unwrap();
        assert_eq!(rig.verdict(&eth(IPV4, &ip4(PEER, SHARED, protocol.0, &ports(9, PORT)))), Verdict::PassedNotOurs);
    }
}

#[test]
fn owning_and_sharing_one_address_are_independent() {
    let Some(mut rig) = rig() else { return };
    rig.steer.own_address(SHARED.into()).unwrap();
    assert_eq!(rig.verdict(&udp4(SHARED, 1)), Verdict::RedirectedOwned);
    rig.steer.disown_address(SHARED.into()).unwrap();
    assert_eq!(rig.verdict(&udp4(SHARED, 1)), Verdict::PassedNotOurs);
    assert_eq!(rig.verdict(&udp4(SHARED, PORT)), Verdict::RedirectedPort);
    rig.steer.disown_address(OWNED.into()).unwrap();
    rig.steer.disown_address(OWNED.into()).unwrap();
    assert_eq!(rig.verdict(&udp4(OWNED, 1)), Verdict::PassedNotOurs);
}

#[test]
fn ports_are_found_behind_ipv4_options() {
    let Some(rig) = rig() else { return };
    for option_words in 0..=10 {
        let payload = ports(9, PORT);
        let packet = Ip4 {
            source: PEER,
            destination: SHARED,
            protocol: UDP,
            identification: 0,
            fragment: 0x4000,
            option_words,
            payload: &payload,
        };
        assert_eq!(rig.verdict(&eth(IPV4, &packet.build())), Verdict::RedirectedPort, "IHL {}", 5 + option_words);
    }
}

#[test]
fn later_ipv4_fragments_follow_their_first() {
    let Some(rig) = rig() else { return };
    let decide = |source, identification, fragment, port| {
        let payload = ports(9, port);
        let protocol = UDP;
        let packet =
            Ip4 { source, destination: SHARED, protocol, identification, fragment, option_words: 0, payload: &payload };
        rig.verdict(&eth(IPV4, &packet.build()))
    };
    assert_eq!(decide(PEER, 7, 185, 0), Verdict::PassedFragmentUnknown, "before its first");
    assert_eq!(decide(PEER, 7, MORE_FRAGMENTS, PORT), Verdict::RedirectedPort);
    assert_eq!(decide(PEER, 7, MORE_FRAGMENTS | 185, 0), Verdict::RedirectedFragment);
    assert_eq!(decide(PEER, 7, 370, 0), Verdict::RedirectedFragment);
    assert_eq!(decide(PEER, 8, 370, 0), Verdict::PassedFragmentUnknown, "another datagram");
    assert_eq!(decide(KERNEL, 7, 370, 0), Verdict::PassedFragmentUnknown, "another source");
    assert_eq!(decide(PEER, 7, 0, PORT), Verdict::RedirectedPort, "a whole datagram changes nothing");
    assert_eq!(decide(PEER, 7, 370, 0), Verdict::RedirectedFragment);
    assert_eq!(decide(PEER, 7, MORE_FRAGMENTS, PORT + 1), Verdict::PassedNotOurs, "the identification is used again");
    assert_eq!(decide(PEER, 7, 370, 0), Verdict::PassedFragmentUnknown);
}

#[test]
fn later_ipv6_fragments_follow_their_first() {
    let Some(rig) = rig() else { return };
    let decide = |next_header, offset_bytes, more, identification, port| {
        let payload = fragment6(next_header, offset_bytes, more, identification, &ports(9, port));
        rig.verdict(&eth(IPV6, &ip6(PEER6, SHARED6, FRAGMENT, &payload)))
    };
    assert_eq!(decide(UDP, 1448, false, 70_000, 0), Verdict::PassedFragmentUnknown);
    assert_eq!(decide(UDP, 0, true, 70_000, PORT), Verdict::RedirectedPort);
    assert_eq!(decide(UDP, 1448, true, 70_000, 0), Verdict::RedirectedFragment);
    assert_eq!(decide(255, 2896, false, 70_000, 0), Verdict::RedirectedFragment, "its next header does not count");
    assert_eq!(decide(UDP, 1448, true, 70_001, 0), Verdict::PassedFragmentUnknown);
    assert_eq!(decide(UDP, 0, false, 70_002, PORT), Verdict::RedirectedPort, "an atomic fragment");
    assert_eq!(decide(UDP, 8, false, 70_002, 0), Verdict::PassedFragmentUnknown);
    assert_eq!(decide(UDP, 0, true, 70_000, PORT + 1), Verdict::PassedNotOurs);
    assert_eq!(decide(UDP, 1448, true, 70_000, 0), Verdict::PassedFragmentUnknown);
}

#[test]
fn icmp_errors_about_our_packets_are_ours() {
    let Some(rig) = rig() else { return };
    let decide = |kind, quoted: &[u8]| rig.verdict(&eth(IPV4, &ip4(PEER, SHARED, ICMP, &icmp(kind, quoted))));
    let ours = ip4(SHARED, PEER, UDP, &ports(PORT, 9));
    for kind in [3, 11, 12] {
        assert_eq!(decide(kind, &ours), Verdict::RedirectedIcmpError);
        assert_eq!(
            decide(kind, &ip4(SHARED, PEER, UDP, &ports(9, PORT))),
            Verdict::PassedNotOurs,
            "source port counts"
        );
        assert_eq!(decide(kind, &ip4(SHARED, PEER, TCP, &ports(PORT, 9))), Verdict::PassedNotOurs);
        assert_eq!(decide(kind, &ip4(SHARED, PEER, ICMP, &ports(PORT, 9))), Verdict::PassedNotOurs);
        assert_eq!(decide(kind, &ip4(PEER, PEER, UDP, &ports(PORT, 9))), Verdict::PassedNotOurs, "not sent by us");
    }
    for kind in [0, 5, 8, 13] {
        assert_eq!(decide(kind, &ours), Verdict::PassedNotOurs, "type {kind}");
    }
    let payload = ports(PORT, 9);
    let with = |fragment, option_words| {
        Ip4 {
            source: SHARED,
            destination: PEER,
            protocol: UDP,
            identification: 1,
            fragment,
            option_words,
            payload: &payload,
        }
        .build()
    };
    assert_eq!(decide(3, &with(0, 10)), Verdict::RedirectedIcmpError);
    assert_eq!(decide(3, &with(185, 0)), Verdict::PassedNotOurs, "a later fragment has no ports");
    // Quoted version 6, quoted IHL 4.
    for first in [0x65, 0x44] {
        let mut broken = ours.clone();
        broken[0] = first;
        assert_eq!(decide(3, &broken), Verdict::PassedMalformed);
    }
}

#[test]
fn icmpv6_errors_about_our_packets_are_ours() {
    let Some(rig) = rig() else { return };
    let decide = |kind, quoted: &[u8]| rig.verdict(&eth(IPV6, &ip6(PEER6, SHARED6, ICMPV6, &icmp(kind, quoted))));
    let ours = ip6(SHARED6, PEER6, UDP, &ports(PORT, 9));
    for kind in 1..=4 {
        assert_eq!(decide(kind, &ours), Verdict::RedirectedIcmpError);
        assert_eq!(decide(kind, &ip6(SHARED6, PEER6, UDP, &ports(9, PORT))), Verdict::PassedNotOurs);
        assert_eq!(decide(kind, &ip6(PEER6, PEER6, UDP, &ports(PORT, 9))), Verdict::PassedNotOurs);
    }
    for kind in [0, 5, 128, 129, 137] {
        assert_eq!(decide(kind, &ours), Verdict::PassedNotOurs, "type {kind}");
    }
    let first = fragment6(UDP, 0, true, 1, &ports(PORT, 9));
    assert_eq!(decide(2, &ip6(SHARED6, PEER6, FRAGMENT, &first)), Verdict::RedirectedIcmpError);
    let later = fragment6(UDP, 8, true, 1, &ports(PORT, 9));
    assert_eq!(decide(2, &ip6(SHARED6, PEER6, FRAGMENT, &later)), Verdict::PassedNotOurs);
    let behind_options = extension(UDP, 3, &ports(PORT, 9));
    assert_eq!(decide(1, &ip6(SHARED6, PEER6, DESTINATION_OPTIONS, &behind_options)), Verdict::RedirectedIcmpError);
    let mut broken = ours;
    broken[0] = 0x40;
    assert_eq!(decide(1, &broken), Verdict::PassedMalformed);
}

#[test]
fn ports_are_found_behind_ipv6_extension_headers() {
    let Some(rig) = rig() else { return };
    let decide = |next_header, payload: &[u8]| rig.verdict(&eth(IPV6, &ip6(PEER6, SHARED6, next_header, payload)));
    let udp = ports(9, PORT);
    for kind in [HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS] {
        for extra in [0, 1, 255] {
            assert_eq!(decide(kind, &extension(UDP, extra, &udp)), Verdict::RedirectedPort, "{kind} of {extra}");
        }
    }
    for words in [1, 2, 4, 255] {
        assert_eq!(decide(AUTHENTICATION, &authentication(UDP, words, &udp)), Verdict::RedirectedPort);
    }
    let chain =
        |length: usize| (1..length).fold(extension(UDP, 0, &udp), |inner, _| extension(DESTINATION_OPTIONS, 0, &inner));
    assert_eq!(decide(DESTINATION_OPTIONS, &chain(8)), Verdict::RedirectedPort);
    assert_eq!(decide(DESTINATION_OPTIONS, &chain(9)), Verdict::PassedExtensionHeaders);
    // The second header is cut after its length, which points beyond the frame.
    assert_eq!(decide(DESTINATION_OPTIONS, &extension(DESTINATION_OPTIONS, 255, &[0, 255])), Verdict::PassedShort);
    assert_eq!(decide(59, &udp), Verdict::PassedNotOurs, "no next header");
    assert_eq!(decide(50, &udp), Verdict::PassedNotOurs, "ESP hides the port");
}

#[test]
fn contradicting_ip_headers_are_the_kernels() {
    let Some(rig) = rig() else { return };
    for first in [0x44, 0x40, 0x65] {
        let mut frame = udp4(SHARED, PORT);
        frame[14] = first;
        assert_eq!(rig.verdict(&frame), Verdict::PassedMalformed, "{first:#x}");
    }
    let mut frame = udp6(SHARED6, PORT);
    frame[14] = 0x45;
    assert_eq!(rig.verdict(&frame), Verdict::PassedMalformed);
    // An IPv6 packet must not reach an owned IPv4 address by its mapped form.
    assert_eq!(rig.verdict(&udp6(OWNED.to_ipv6_mapped(), PORT)), Verdict::PassedMalformed);
}

#[test]
fn everything_mode_takes_every_frame() {
    let Some(mut rig) = rig() else { return };
    rig.steer.set_mode(Mode::Everything).unwrap();
    for frame in [udp4(KERNEL, 1), udp4(OWNED, 1), eth(0x88cc, &[]), eth(ARP, &arp(REQUEST, PEER, KERNEL))] {
        assert_eq!(rig.verdict(&frame), Verdict::RedirectedEverything);
    }
    rig.steer.set_mode(Mode::Owned).unwrap();
    assert_eq!(rig.verdict(&udp4(KERNEL, 1)), Verdict::PassedNotOurs);
}

#[test]
fn a_queue_without_socket_passes_and_is_counted() {
    let Some(mut rig) = rig() else { return };
    let frame = udp4(OWNED, 1);
    assert_eq!(run(&rig.steer, &frame), XDP_REDIRECT);
    rig.steer.clear_socket(0).unwrap();
    rig.steer.clear_socket(0).unwrap();
    assert_eq!(run(&rig.steer, &frame), XDP_PASS);
    rig.steer.set_socket(0, rig.socket.as_fd()).unwrap();
    assert_eq!(run(&rig.steer, &frame), XDP_REDIRECT);
    drop(rig.socket);
    assert_eq!(run(&rig.steer, &frame), XDP_PASS, "a closed socket leaves the map by itself");

    let verdicts = rig.steer.verdicts().unwrap();
    assert_eq!(verdicts.get(Verdict::RedirectedOwned), 4);
    assert_eq!(verdicts.get(Verdict::PassedNoSocket), 2);
    assert_eq!(verdicts.frames(), 4);
    rig.steer.clear_socket(0).unwrap();
}

#[test]
fn refused_arguments_say_why() {
    let Some(mut steer) = steer() else { return };
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = steer.set_socket(0, file.as_fd()).unwrap_err();
    assert!(error.to_string().contains("not an AF_XDP socket"), "{error}");
    assert!(matches!(&error, SteerError::Kernel(refusal) if refusal.call == Call::MapUpdate("xsks")));
    let error = steer.set_socket(64, file.as_fd()).unwrap_err();
    assert!(matches!(error, SteerError::Queue { queue_index: 64, max_queues: 64 }), "{error}");
    assert!(matches!(steer.clear_socket(64), Err(SteerError::Queue { .. })));
    assert!(matches!(steer.own_address(Ipv4Addr::BROADCAST.into()), Err(SteerError::Address(_))));
    assert!(matches!(steer.share_port(SHARED.into(), IpProtocol(47), 1), Err(SteerError::Protocol(_))));
}

#[test]
fn a_full_address_map_says_so() {
    let Some(mut steer) = steer() else { return };
    for index in 0..1024_u32 {
        steer.own_address(Ipv4Addr::from(0x0a00_0000 + index).into()).unwrap();
    }
    let error = steer.share_port(SHARED.into(), IpProtocol::UDP, PORT).unwrap_err();
    assert!(error.to_string().contains("1,024 addresses"), "{error}");
    steer.disown_address(Ipv4Addr::from(0x0a00_0000).into()).unwrap();
    steer.share_port(SHARED.into(), IpProtocol::UDP, PORT).unwrap();
}
