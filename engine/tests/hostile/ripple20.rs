//! CVE-2020-11896 to 11914 and 27336 to 27338, one test a row of the published table.

use crate::{frames::*, rig::Rig};
use framewire::{
    stack::SendError,
    wire::{
        MacAddr, checksum,
        ethernet::ethertype,
        ipv4::{self, protocol},
    },
};
use std::net::{Ipv4Addr, SocketAddrV4};

const IP_IN_IP: u8 = 4;

/// An ICMP error's (type, code, quote); its checksum is right.
fn error_of(frame: &[u8]) -> (u8, u8, &[u8]) {
    let header = ipv4::Header::parse(&frame[IP..], frame.len() - IP).unwrap();
    assert_eq!((header.protocol, header.src, header.dst), (protocol::ICMP, US, PEER));
    let message = &frame[L4..];
    assert_eq!(checksum::sum(message), 0xffff);
    (message[0], message[1], &message[8..])
}

/// An IPv4 packet to be tunnelled: its header says what `header_words`, `total` and `udp_len` say, and `bytes` come.
fn inner(header_words: u8, total: u16, udp_len: u16, bytes: usize) -> Vec<u8> {
    let mut packet = ip(repr(protocol::UDP), &vec![0x41; bytes])[IP..].to_vec();
    packet[0] = 0x40 | header_words;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[24..26].copy_from_slice(&udp_len.to_be_bytes());
    packet
}

#[test]
fn cve_2020_11896_tunnelled_length_shorter_than_what_came() {
    let mut rig = Rig::new();
    for port in 0..4 {
        rig.receive(&udp(4000 + port, ECHO_PORT, b"benign"));
    }
    let tunnelled = inner(5, 32, 12, 1000);
    let [first, second] = &fragments(repr(IP_IN_IP), &tunnelled, 512)[..] else { panic!("two fragments") };
    rig.receive(first);
    assert_eq!(rig.dropped(second, "drop_ip_protocol"), Vec::<Vec<u8>>::new(), "the header to quote is gone");
    // Whole, it is answered with protocol unreachable.
    let sent = rig.dropped(&ip(repr(IP_IN_IP), &tunnelled[..900]), "drop_ip_protocol");
    assert_eq!((error_of(&sent[0]).0, error_of(&sent[0]).1), (3, 2));
    // The same disagreement in a UDP datagram: 12 bytes said, 1,000 there.
    let mut segment = udp_segment(SocketAddrV4::new(PEER, 4), SocketAddrV4::new(US, ECHO_PORT), &[0x41; 1000]);
    segment[4..6].copy_from_slice(&12u16.to_be_bytes());
    let [first, second] = &fragments(repr(protocol::UDP), &segment, 512)[..] else { panic!("two fragments") };
    rig.receive(first);
    rig.dropped(second, "drop_udp_length");
    assert_eq!(rig.serve(), 4, "the benign ones");
    rig.finish();
}

fn ipv6(dst: MacAddr, next_header: u8, payload_len: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; 40];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&payload_len.to_be_bytes());
    header[6] = next_header;
    header[7] = 255;
    header[8..10].copy_from_slice(&[0xfe, 0x80]);
    header[24..26].copy_from_slice(&[0xff, 0x02]);
    header[39] = 1;
    link(dst, PEER_MAC, ethertype::IPV6, &[&header[..], payload].concat())
}

const ALL_NODES: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);

#[test]
fn cve_2020_11897_type_0_routing_header_across_fragments() {
    let mut rig = Rig::new();
    // Fragment header (next: routing), then the start of a type 0 routing header that claims 88 bytes.
    let first = [&[43, 0, 0, 1, 0, 0, 0, 9, 17, 10, 0, 5][..], &[0; 20]].concat();
    let second = [&[43, 0, 0, 24, 0, 0, 0, 9][..], &[0; 72]].concat();
    for part in [first, second] {
        assert!(rig.dropped(&ipv6(OUR_MAC, 44, part.len() as u16, &part), "drop_ethertype").is_empty());
    }
    rig.finish();
}

#[test]
fn cve_2020_11898_error_quotes_only_what_came() {
    let mut rig = Rig::new();
    // An inner header of 15 words and 100 bytes in all, with more than that there.
    let tunnelled = inner(15, 100, 8, 400);
    for frame in fragments(repr(IP_IN_IP), &tunnelled, 200) {
        rig.receive(&frame);
    }
    assert!(rig.sent().is_empty(), "no error about what was put together from fragments");
    for bytes in [0, 1, 7, 28, 100, 528, 529, 1480] {
        let frame = ip(repr(IP_IN_IP), &vec![0x42; bytes]);
        // Ethernet's padding is not quoted.
        let sent = rig.dropped(&[&frame[..], &[0xee; 18]].concat(), "drop_ip_protocol");
        let (kind, code, quote) = error_of(&sent[0]);
        assert_eq!((kind, code), (3, 2));
        assert_eq!(quote, &frame[IP..][..(20 + bytes).min(548)], "{bytes}");
    }
    rig.finish();
}

#[test]
fn cve_2020_11899_ipv6_multicast_with_overlong_extension_headers() {
    let mut rig = Rig::new();
    let node_information_query = [139, 0, 0, 0, 0, 2, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    for payload_len in [0, 1, 16, 17, 0xffff] {
        rig.dropped(&ipv6(ALL_NODES, 58, payload_len, &node_information_query), "drop_ethertype");
        // A hop-by-hop header of 256 × 8 bytes of which 8 come.
        rig.dropped(&ipv6(ALL_NODES, 0, payload_len, &[58, 255, 5, 2, 0, 0, 1, 0]), "drop_ethertype");
    }
    rig.finish();
}

#[test]
fn cve_2020_11900_11902_cut_tunnels_and_quotes_of_tunnels() {
    let mut rig = Rig::with(|config, _| config.icmp_errors_burst = 10_000);
    let tunnelled = inner(5, 48, 28, 28);
    for cut in 0..=tunnelled.len() {
        rig.dropped(&ip(repr(IP_IN_IP), &tunnelled[..cut]), "drop_ip_protocol");
    }
    // Parameter problem that quotes a tunnel packet, whole and cut.
    let quoted = &ip(ipv4::Repr { src: US, dst: PEER, ..repr(IP_IN_IP) }, &tunnelled)[IP..];
    for cut in 0..=quoted.len() {
        let ignored = rig.stack.counters.icmp_errors_ignored;
        rig.receive(&icmp(12, 0, [20, 0, 0, 0], &quoted[..cut]));
        assert_eq!(rig.stack.counters.icmp_errors_ignored, ignored + 1, "cut at {cut}");
        assert!(rig.sent().is_empty());
    }
    rig.finish();
}

#[test]
fn cve_2020_11901_dns_answers_are_nobodys_business() {
    let mut rig = Rig::new();
    // A name that points to itself, a label past the end, RDLENGTH shorter than its name.
    let answers: [&[u8]; 3] = [
        &[0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 0xc0, 12, 0, 5, 0, 1],
        &[0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 63, b'a'],
        &[0, 1, 0x81, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 5, 0, 1, 0, 0, 0, 9, 0, 1, 9, b'a', b'b'],
    ];
    for answer in answers {
        let sent = rig.dropped(&udp(53, 33_333, answer), "drop_udp_no_socket");
        assert_eq!((error_of(&sent[0]).0, error_of(&sent[0]).1), (3, 3));
    }
    // For a socket they are bytes.
    let socket = rig.stack.udp_bind(SocketAddrV4::new(US, 33_333)).unwrap();
    rig.receive(&udp(53, 33_333, answers[0]));
    assert_eq!(rig.stack.udp_recv(socket).unwrap().buf.as_slice(), answers[0]);
    rig.finish();
}

#[test]
fn cve_2020_11903_11905_11908_dhcp_options_longer_than_the_packet() {
    let mut rig = Rig::new();
    let mut offer = vec![0; 240];
    (offer[0], offer[1], offer[2]) = (2, 1, 6);
    offer[236..].copy_from_slice(&[99, 130, 83, 99]);
    for option in [&[53, 1, 2, 12, 255][..], &[12, 200, b'a'], &[53]] {
        let segment = udp_segment(
            SocketAddrV4::new(PEER, 67),
            SocketAddrV4::new(Ipv4Addr::BROADCAST, 68),
            &[&offer, option].concat(),
        );
        let mut frame = ip(ipv4::Repr { dst: Ipv4Addr::BROADCAST, ..repr(protocol::UDP) }, &segment);
        frame[..6].fill(0xff);
        assert!(rig.dropped(&frame, "drop_udp_no_socket").is_empty(), "nothing is said about a broadcast");
    }
    rig.dropped(&ipv6(ALL_NODES, 17, 16, &[2, 35, 2, 34, 0, 16, 0, 0, 2, 0, 0, 1, 0, 24, 255, 255]), "drop_ethertype");
    rig.finish();
}

#[test]
fn cve_2020_11904_allocations_that_would_wrap() {
    let mut rig = Rig::new();
    let pool = rig.stack.pool().clone();
    let free = pool.free();
    for bytes in [usize::MAX, usize::MAX - 255, usize::MAX - 256, -1i32 as usize, i32::MAX as usize, 1 << 32, 1 << 28] {
        assert!(pool.alloc_contiguous(bytes).is_none(), "{bytes}");
    }
    assert_eq!(pool.alloc_contiguous(0).unwrap().len(), 0);
    let mut buf = pool.alloc_contiguous(65_508).unwrap();
    assert!(buf.set_len(usize::MAX).is_err() && buf.set_len(buf.capacity() + 1).is_err());
    buf.set_len(65_508).unwrap();
    let sent = rig.stack.udp_send_to(rig.echo, buf, SocketAddrV4::new(PEER, 9));
    assert!(matches!(sent, Err(SendError::MessageSize)), "one byte more than a datagram carries");
    assert_eq!(pool.free(), free);
    rig.finish();
}

#[test]
fn cve_2020_11906_short_link_headers() {
    let mut rig = Rig::new();
    let frame = udp(4000, ECHO_PORT, b"x");
    for cut in 0..14 {
        rig.dropped(&frame[..cut], "drop_frame_short");
    }
    for cut in 14..18 {
        rig.dropped(&tagged(&frame, 5)[..cut], "drop_frame_short");
    }
    rig.dropped(&tagged(&frame, 5)[..18], "drop_vlan");
    // 802.3: the type is a length, here beyond the end.
    for length in [0, 3, 46, 1500, 1535] {
        rig.dropped(&link(OUR_MAC, PEER_MAC, length, &[0xaa, 0xaa, 3]), "drop_ethertype");
    }
    rig.finish();
}

/// A SYN with a right checksum whatever its data offset, in words, says.
fn tcp(data_offset: u8, options: &[u8]) -> Vec<u8> {
    let mut segment =
        [&[0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 0, data_offset << 4, 2, 16, 0, 0, 0, 0, 0][..], options].concat();
    fix_tcp_checksum(PEER, US, &mut segment);
    segment
}

#[test]
fn cve_2020_11907_tcp_offset_beyond_the_segment() {
    let mut rig = Rig::new();
    for data_offset in (0..16).filter(|&words| words != 5) {
        assert!(rig.dropped(&ip(repr(protocol::TCP), &tcp(data_offset, &[])), "drop_tcp_header").is_empty());
    }
    for bytes in 0..20 {
        assert!(rig.dropped(&ip(repr(protocol::TCP), &tcp(5, &[])[..bytes]), "drop_tcp_header").is_empty());
    }
    // The one that is right is taken for what it is: an attempt at a closed port.
    let sent = rig.dropped(&ip(repr(protocol::TCP), &tcp(5, &[])), "drop_tcp_no_connection");
    assert_eq!(sent[0][L4 + 13], 0x14, "a reset");
    let mut frame = ip(repr(protocol::TCP), &tcp(15, &[]));
    frame[IP + 3] += 40;
    fix_ip_checksum(&mut frame);
    rig.dropped(&frame, "drop_ip_truncated");
    // Across fragments: 60 bytes of header in 32, and a header that is whole but lies in two pieces.
    for segment in [tcp(15, &[1; 12]), tcp(8, &[1; 12])] {
        let [first, second] = &fragments(repr(protocol::TCP), &segment, 24)[..] else { panic!("two fragments") };
        rig.receive(first);
        rig.dropped(second, "drop_tcp_header");
    }
    rig.finish();
}

#[test]
fn cve_2020_11909_header_lengths_and_options() {
    let mut rig = Rig::new();
    let segment = udp_segment(SocketAddrV4::new(PEER, 4000), SocketAddrV4::new(US, ECHO_PORT), b"x");
    let mut frame = ip(repr(protocol::UDP), &segment);
    for total in [0, 1, 19] {
        frame[IP + 2..IP + 4].copy_from_slice(&[0, total]);
        fix_ip_checksum(&mut frame);
        rig.dropped(&frame, "drop_ip_length");
    }
    for (options, reason) in [
        ([7, 0, 0, 0], "drop_ip_options"),
        ([7, 1, 0, 0], "drop_ip_options"),
        ([7, 5, 4, 0], "drop_ip_options"),
        ([1, 1, 1, 7], "drop_ip_options"),
        ([68, 255, 5, 0], "drop_ip_options"),
        ([131, 3, 200, 0], "drop_ip_source_route"),
        ([137, 3, 0, 0], "drop_ip_source_route"),
        ([1, 131, 7, 4], "drop_ip_source_route"),
    ] {
        assert!(rig.dropped(&ip_with_options(repr(protocol::UDP), &options, &segment), reason).is_empty());
    }
    rig.finish();
}

#[test]
fn cve_2020_11910_fragmentation_needed_with_a_cut_quote() {
    let mut rig = Rig::new();
    let send = |rig: &mut Rig| {
        let mut buf = rig.stack.pool().alloc_tx().unwrap();
        buf.put_slice(&[9; 200]).unwrap();
        rig.stack.udp_send_to(rig.echo, buf, SocketAddrV4::new(PEER, 4000)).unwrap();
        rig.sent()
    };
    let ours = send(&mut rig).remove(0)[IP..L4 + 8].to_vec();
    for cut in 0..ours.len() {
        rig.receive(&icmp(3, 4, [0, 0, 0, 68], &ours[..cut]));
    }
    let strangers = [(16..20, 200u8), (12..16, 200), (20..22, 1)];
    for (range, value) in strangers {
        let mut other = ours.clone();
        other[range].fill(value);
        rig.receive(&icmp(3, 4, [0, 0, 0, 68], &other));
    }
    let ignored = rig.stack.counters.icmp_errors_ignored;
    assert_eq!(ignored, ours.len() as u64 + 3);
    assert_eq!(send(&mut rig).len(), 1);
    // A whole quote of a live flow counts, but no MTU below 68.
    rig.receive(&icmp(3, 4, [0, 0, 0, 0], &ours));
    let sent = send(&mut rig);
    assert_eq!(sent.len(), 208usize.div_ceil(48));
    assert!(sent.iter().all(|frame| frame.len() <= 14 + 68));
    rig.finish();
}

#[test]
fn cve_2020_11911_unsolicited_address_mask_reply() {
    let mut rig = Rig::new();
    for kind in [0, 4, 5, 9, 10, 13, 14, 15, 16, 17, 18, 30, 165, 255] {
        assert!(rig.dropped(&icmp(kind, 0, [0, 1, 0, 1], &[255, 255, 255, 0]), "drop_icmp_type").is_empty(), "{kind}");
    }
    let addresses = rig.stack.interfaces()[0].addresses.clone();
    assert_eq!(addresses, ["10.0.0.1/24".parse().unwrap()], "no mask was taken over");
    rig.finish();
}

#[test]
fn cve_2020_11912_tcp_options_of_wrong_length() {
    let mut rig = Rig::new();
    // Beyond the end, or shorter than kind and length: the segment is dropped.
    for options in [[5, 255, 0, 0], [8, 255, 0, 0], [5, 0, 0, 0], [8, 1, 0, 0], [1, 1, 1, 8], [2, 5, 0, 0]] {
        assert!(rig.dropped(&ip(repr(protocol::TCP), &tcp(6, &options)), "drop_tcp_header").is_empty());
    }
    // Of a length that the kind does not have: as if it were not there.
    for options in [[5, 3, 0, 0], [8, 2, 0, 0], [5, 2, 8, 2], [2, 3, 5, 0], [3, 2, 4, 2], [2, 4, 0, 0]] {
        assert_eq!(rig.dropped(&ip(repr(protocol::TCP), &tcp(6, &options)), "drop_tcp_no_connection").len(), 1);
    }
    rig.finish();
}

#[test]
fn cve_2020_11913_27336_27337_27338_ipv6_cut_at_any_byte() {
    let mut rig = Rig::new();
    // Hop-by-hop, destination options, fragment, routing, then ICMPv6.
    let chain = [60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 43, 0, 0, 1, 0, 0, 0, 7, 58, 2, 0, 1, 0, 0, 0, 0];
    let frame = ipv6(OUR_MAC, 0, 200, &chain);
    for cut in 0..=frame.len() {
        rig.dropped(&frame[..cut], if cut < 14 { "drop_frame_short" } else { "drop_ethertype" });
    }
    rig.finish();
}

#[test]
fn cve_2020_11914_short_and_odd_arp() {
    let mut rig = Rig::new();
    let frame = arp(framewire::wire::arp::Operation::Request, PEER_MAC, PEER, US);
    for cut in 14..frame.len() {
        assert!(rig.dropped(&frame[..cut], "drop_arp_malformed").is_empty());
    }
    // Hardware type, protocol type, address sizes, operation.
    for (at, value) in [(1, 6), (2, 0x86), (4, 0), (4, 5), (4, 7), (4, 255), (5, 0), (5, 3), (5, 16), (5, 255), (7, 3)]
    {
        let mut odd = frame.clone();
        odd[14 + at] = value;
        assert!(rig.dropped(&odd, "drop_arp_malformed").is_empty(), "byte {at} = {value}");
    }
    rig.finish();
}
