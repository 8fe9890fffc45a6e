//! Raw sockets.

use super::*;
use crate::{
    buf::{RxBuf, TxBuf},
    proto::{raw::RawSocket, udp::RxLimits},
    wire::icmp::{kind, unreachable},
};

/// For experiments (RFC 3692): no stack has it.
const UNKNOWN: u8 = 253;
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], rest].concat();
    let sum = !checksum::sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn echo(kind: u8, payload_bytes: usize) -> Vec<u8> {
    let rest: Vec<u8> = (0..payload_bytes + 4).map(|at| at as u8).collect();
    icmp(kind, 0, &rest)
}

/// An ICMP error about a packet of ours.
fn error_about(code: u8, mtu: u16, protocol: u8, dst: Ipv4Addr) -> Vec<u8> {
    let repr = ipv4::Repr { src: US, dst, payload_len: 8, ..ip_repr(protocol) };
    let mut ip = [0; 20];
    repr.write(&mut ip);
    icmp(kind::UNREACHABLE, code, &[&[0, 0][..], &mtu.to_be_bytes(), &ip, &[0; 8]].concat())
}

fn ip_packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ip_frame(ip_repr(protocol), payload)
}

/// The pieces of a datagram, in the order in which they are to arrive.
fn fragments(protocol: u8, payload: &[u8], piece_bytes: usize) -> Vec<Vec<u8>> {
    let piece = |(at, piece): (usize, &[u8])| {
        let offset = at * piece_bytes;
        let more = if offset + piece.len() < payload.len() { ipv4::MORE_FRAGMENTS } else { 0 };
        ip_frame(ipv4::Repr { flags_offset: (offset / 8) as u16 | more, ..ip_repr(protocol) }, piece)
    };
    payload.chunks(piece_bytes).enumerate().map(piece).collect()
}

fn bytes_of(buf: &RxBuf) -> Vec<u8> {
    buf.pieces().collect::<Vec<_>>().concat()
}

impl Rig {
    fn raw(&mut self, protocol: u8) -> RawHandle {
        self.stack.raw_open(protocol).unwrap()
    }

    /// Takes a packet: its payload, behind a header that is checked.
    fn take(&mut self, socket: RawHandle) -> Option<Vec<u8>> {
        let got = self.stack.raw_recv(socket)?;
        let bytes = bytes_of(&got.buf);
        let header = ipv4::Header::parse(&bytes, bytes.len()).unwrap();
        assert_eq!((header.src, header.dst, header.total_len), (PEER, US, bytes.len()));
        assert_eq!((got.from, got.to), (SocketAddrV4::new(PEER, 0), US));
        assert!(!header.is_fragment());
        Some(bytes[header.header_len..].to_vec())
    }

    fn buffer(&self, bytes: &[u8]) -> TxBuf {
        let mut buf = self.stack.pool().alloc_contiguous(bytes.len()).unwrap();
        buf.put_slice(bytes).unwrap();
        buf
    }

    fn change(&mut self, socket: RawHandle, change: impl FnOnce(&mut RawSocket)) {
        change(self.stack.raw_socket_mut(socket).unwrap());
    }
}

/// Header and payload of a sent packet.
fn read_ip(packet: &[u8]) -> (ipv4::Header, Vec<u8>) {
    let packet = &packet[ethernet::HEADER_BYTES..];
    let header = ipv4::Header::parse(packet, packet.len()).unwrap();
    assert_eq!(header.total_len, packet.len());
    (header, packet[header.header_len..].to_vec())
}

#[test]
fn an_echo_request_is_answered_and_heard() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let socket = rig.raw(protocol::ICMP);
    let request = echo(kind::ECHO_REQUEST, 56);
    rig.receive(&ip_packet(protocol::ICMP, &request));
    let sent = rig.sent();
    let (header, answer) = read_ip(&sent[0]);
    assert_eq!((sent.len(), header.dst, answer[0]), (1, PEER, kind::ECHO_REPLY));
    assert_eq!(answer[4..], request[4..]);
    assert_eq!(rig.stack.next_event(), Some(StackEvent::RawReadable(socket)));
    assert_eq!(rig.take(socket), Some(request));
    assert_eq!(rig.stack.counters.bytes_copied_rx, 20 + 8 + 56, "the answer has the request's frame");
    rig.whole();
}

#[test]
fn what_the_engine_does_not_consume_comes_in_its_own_frame() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let (pings, experiments) = (rig.raw(protocol::ICMP), rig.raw(UNKNOWN));
    let timestamp = icmp(13, 0, &[0; 16]);
    let error = error_about(unreachable::PORT, 0, protocol::UDP, PEER);
    for message in [echo(kind::ECHO_REPLY, 3), timestamp, error] {
        rig.receive(&ip_packet(protocol::ICMP, &message));
        assert_eq!(rig.take(pings), Some(message));
    }
    rig.receive(&ip_packet(UNKNOWN, b"what is this"));
    assert_eq!(rig.take(experiments), Some(b"what is this".to_vec()));
    let counters = rig.stack.counters;
    assert_eq!((counters.bytes_copied_rx, counters.raw_rx_packets), (0, 4));
    assert_eq!((counters.drop_icmp_type, counters.drop_ip_protocol, counters.icmp_errors_ignored), (0, 0, 1));
    assert!(rig.sent().is_empty(), "no protocol unreachable: somebody heard it");
    rig.receive(&ip_packet(UNKNOWN + 1, b"and this"));
    assert_eq!(read_ip(&rig.sent()[0]).1[..2], [kind::UNREACHABLE, unreachable::PROTOCOL]);
    assert_eq!(rig.stack.counters.drop_ip_protocol, 1);
    rig.whole();
}

#[test]
fn udp_tcp_and_wrong_checksums_are_never_heard() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let sockets = [0, protocol::UDP, protocol::TCP, protocol::ICMP].map(|protocol| rig.raw(protocol));
    rig.receive(&udp_frame(9, 9, b"datagram"));
    rig.receive(&ip_packet(protocol::TCP, &[0; 20]));
    let mut message = echo(kind::ECHO_REPLY, 8);
    message[9] ^= 1;
    rig.receive(&ip_packet(protocol::ICMP, &message));
    assert!(sockets.iter().all(|&socket| rig.stack.raw_recv(socket).is_none()));
    assert_eq!(rig.stack.counters.drop_icmp_malformed, 1);
    rig.whole();
}

#[test]
fn all_who_hear_a_packet_get_it_and_all_but_one_a_copy() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let sockets = [0, UNKNOWN, UNKNOWN].map(|protocol| rig.raw(protocol));
    let payload = [7; 1000];
    rig.receive(&ip_packet(UNKNOWN, &payload));
    for socket in sockets {
        assert_eq!(rig.take(socket).as_deref(), Some(&payload[..]));
    }
    assert_eq!(rig.stack.counters.bytes_copied_rx, 2 * 1020);
    assert!(rig.stack.raw_close(sockets[1]) && !rig.stack.raw_close(sockets[1]));
    rig.receive(&ip_packet(UNKNOWN, &payload));
    assert!(rig.stack.raw_recv(sockets[1]).is_none() && rig.take(sockets[2]).is_some());
    assert_eq!(rig.stack.usage().raw_sockets, 2);
    rig.whole();
}

#[test]
fn bound_and_connected_sockets_hear_less() {
    let mut rig = Rig::new();
    rig.learn_peer();
    rig.stack.add_address(IFACE, "10.0.0.9/24".parse().unwrap()).unwrap();
    let [here, there, peer, other] = [(); 4].map(|()| rig.raw(UNKNOWN));
    rig.stack.raw_bind(here, US).unwrap();
    rig.stack.raw_bind(there, Ipv4Addr::new(10, 0, 0, 9)).unwrap();
    rig.stack.raw_connect(peer, Some(PEER)).unwrap();
    rig.stack.raw_connect(other, Some(Ipv4Addr::new(10, 0, 0, 3))).unwrap();
    assert_eq!(rig.stack.raw_bind(here, FAR), Err(BindError::NotAvailable));
    assert_eq!(rig.stack.raw_connect(here, Some(FAR)), Err(BindError::Unreachable));
    rig.receive(&ip_packet(UNKNOWN, b"x"));
    assert!(rig.take(here).is_some() && rig.take(peer).is_some());
    assert!(rig.take(there).is_none() && rig.take(other).is_none());
    // A broadcast is to no address of ours.
    rig.receive(&ip_frame(ipv4::Repr { dst: Ipv4Addr::BROADCAST, ..ip_repr(UNKNOWN) }, b"all"));
    assert!(rig.stack.raw_recv(here).is_none());
    assert_eq!(rig.stack.raw_recv(peer).unwrap().to, Ipv4Addr::BROADCAST);
    rig.whole();
}

#[test]
fn a_datagram_in_fragments_comes_whole() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let (one, two) = (rig.raw(UNKNOWN), rig.raw(UNKNOWN));
    let payload: Vec<u8> = (0..20_000u32).map(|at| (at * 7) as u8).collect();
    for frame in fragments(UNKNOWN, &payload, 1480).iter().rev() {
        rig.receive(frame);
    }
    for socket in [one, two] {
        assert_eq!(rig.take(socket).as_ref(), Some(&payload));
    }
    assert_eq!(rig.stack.counters.bytes_copied_rx, 20_020);
    let pings = rig.raw(protocol::ICMP);
    let request = echo(kind::ECHO_REQUEST, 5_000);
    for frame in fragments(protocol::ICMP, &request, 1480) {
        rig.receive(&frame);
    }
    assert_eq!(rig.take(pings), Some(request));
    assert_eq!(rig.sent().len(), 4, "the answer, in fragments");
    rig.whole();
}

#[test]
fn a_full_queue_and_an_empty_pool_are_counted() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let (small, other) = (rig.raw(UNKNOWN), rig.raw(UNKNOWN));
    rig.stack.raw_set_limits(small, RxLimits { bytes: 1 << 20, frames: 2 });
    for _ in 0..5 {
        rig.receive(&ip_packet(UNKNOWN, b"one more"));
    }
    assert_eq!(rig.stack.raw_socket(small).unwrap().queued(), (2, 56, 2));
    assert_eq!((rig.stack.raw_socket(other).unwrap().queued().0, rig.stack.counters.drop_raw_queue_full), (5, 3));
    assert!(rig.sent().is_empty(), "they are heard all the same");
    while rig.stack.raw_recv(small).is_some() {}
    let held: Vec<TxBuf> = std::iter::from_fn(|| rig.stack.pool().alloc_tx()).collect();
    rig.receive(&ip_packet(UNKNOWN, b"no frame for a copy"));
    assert_eq!(rig.stack.counters.drop_raw_no_memory, 1);
    drop(held);
    rig.whole();
}

#[test]
fn a_sent_payload_gets_its_header_in_its_own_frame() {
    let mut rig = Rig::new();
    let socket = rig.raw(UNKNOWN);
    rig.change(socket, |socket| (socket.ttl, socket.tos) = (3, 0x10));
    let refused = rig.stack.raw_send(socket, rig.buffer(b"x"));
    assert!(matches!(refused, Err(SendError::NotConnected)));
    // It waits for the ARP answer.
    rig.stack.raw_send_to(socket, rig.buffer(b"first"), PEER).unwrap();
    assert_eq!(rig.sent().len(), 1, "the ARP request");
    rig.receive(&arp_frame(arp::Operation::Reply, PEER_MAC, PEER, US));
    rig.stack.raw_connect(socket, Some(PEER)).unwrap();
    rig.stack.raw_send(socket, rig.buffer(b"")).unwrap();
    let big: Vec<u8> = (0..4_000u32).map(|at| at as u8).collect();
    rig.stack.raw_send(socket, rig.buffer(&big)).unwrap();
    let sent: Vec<_> = rig.sent().iter().map(|packet| read_ip(packet)).collect();
    let (header, payload) = &sent[0];
    assert_eq!((header.src, header.dst, header.protocol), (US, PEER, UNKNOWN));
    assert_eq!((header.ttl, header.tos, payload.as_slice()), (3, 0x10, &b"first"[..]));
    assert_eq!(sent[1].1, b"");
    assert_eq!(sent[2..].iter().flat_map(|(_, piece)| piece.clone()).collect::<Vec<_>>(), big);
    assert!(sent[2..].len() == 3 && sent[2..].iter().all(|(header, _)| header.is_fragment()));
    let too_long = rig.buffer(&[0; 65_516]);
    assert!(matches!(rig.stack.raw_send(socket, too_long), Err(SendError::MessageSize)));
    assert!(matches!(rig.stack.raw_send_to(socket, rig.buffer(b"x"), FAR), Err(SendError::HostUnreachable)));
    let all = Ipv4Addr::BROADCAST;
    assert!(matches!(rig.stack.raw_send_to(socket, rig.buffer(b"x"), all), Err(SendError::Broadcast)));
    rig.change(socket, |socket| socket.broadcast = true);
    rig.stack.raw_send_to(socket, rig.buffer(b"x"), all).unwrap();
    assert_eq!(rig.stack.counters.raw_tx_packets, 4);
    rig.whole();
}

#[test]
fn a_written_header_is_completed_and_kept() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let socket = rig.raw(0);
    rig.change(socket, |socket| socket.header_included = true);
    // With a router alert option, which is the writer's business, and a length and a checksum that are not.
    let mut packet =
        vec![0x46, 0x20, 0xff, 0xff, 0, 0, 0x40, 0, 9, UNKNOWN, 1, 2, 0, 0, 0, 0, 10, 0, 0, 2, 148, 4, 0, 0];
    packet.extend_from_slice(b"payload");
    rig.stack.raw_send_to(socket, rig.buffer(&packet), FAR).unwrap();
    let sent = rig.sent();
    let (header, payload) = read_ip(&sent[0]);
    assert_eq!((header.src, header.dst, header.protocol, header.header_len), (US, PEER, UNKNOWN, 24));
    assert_eq!((header.ttl, header.tos, header.dont_fragment()), (9, 0x20, true));
    assert_ne!(header.id, 0);
    assert_eq!((payload.as_slice(), &sent[0][34..38]), (&b"payload"[..], &[148, 4, 0, 0][..]));
    // What is written is not changed: another source, an identification, a fragment.
    let mut head = [0; 20];
    let repr = ipv4::Repr { src: FAR, dst: PEER, id: 77, flags_offset: ipv4::MORE_FRAGMENTS | 3, ..ip_repr(UNKNOWN) };
    repr.write(&mut head);
    rig.stack.raw_send_to(socket, rig.buffer(&[&head[..], b"fragment"].concat()), PEER).unwrap();
    let (header, _) = read_ip(&rig.sent()[0]);
    assert_eq!((header.src, header.id, header.fragment_offset(), header.more_fragments()), (FAR, 77, 24, true));
    rig.whole();
}

#[test]
fn a_written_header_that_is_none_or_too_long_is_refused() {
    let mut rig = Rig::new();
    let socket = rig.raw(UNKNOWN);
    rig.change(socket, |socket| socket.header_included = true);
    let mut packet = vec![0; 1501];
    ipv4::Repr { dst: PEER, ..ip_repr(UNKNOWN) }.write(packet.first_chunk_mut().unwrap());
    for cut in [0, 1, 19] {
        let buf = rig.buffer(&packet[..cut]);
        assert!(matches!(rig.stack.raw_send_to(socket, buf, PEER), Err(SendError::Header)), "{cut}");
    }
    // Neither before the next hop is known nor afterwards.
    for _ in 0..2 {
        let buf = rig.buffer(&packet);
        assert!(matches!(rig.stack.raw_send_to(socket, buf, PEER), Err(SendError::MessageSize)));
        rig.sent();
        rig.receive(&arp_frame(arp::Operation::Reply, PEER_MAC, PEER, US));
    }
    rig.stack.raw_send_to(socket, rig.buffer(&packet[..1500]), PEER).unwrap();
    assert_eq!(rig.sent()[0].len(), 1514);
    rig.whole();
}

#[test]
fn a_received_packet_goes_out_again_as_it_came_in_pieces() {
    let mut rig = Rig::with(|config| (config.mtu, config.tx_pieces_max) = (9000, 17));
    rig.learn_peer();
    let socket = rig.raw(UNKNOWN);
    let payload: Vec<u8> = (0..8_000u32).map(|at| (at * 3) as u8).collect();
    for frame in fragments(UNKNOWN, &payload, 1480) {
        rig.receive(&frame);
    }
    rig.change(socket, |socket| socket.header_included = true);
    let mut packet = rig.stack.raw_recv(socket).unwrap().buf;
    packet.as_mut_slice()[12..16].fill(0);
    packet.as_mut_slice()[16..20].copy_from_slice(&PEER.octets());
    rig.stack.raw_send_to(socket, packet.into_tx(), PEER).unwrap();
    let sent = rig.sent();
    let (header, back) = read_ip(&sent[0]);
    assert_eq!((sent.len(), header.src, header.dst, back == payload), (1, US, PEER, true));
    assert_eq!((rig.stack.counters.bytes_copied_rx, rig.stack.counters.bytes_copied_tx), (0, 0));
    rig.whole();
}

#[test]
fn a_refused_send_gives_the_buffer_back_and_tells_of_room() {
    let mut rig = Rig::with(|config| config.egress_limit = 8);
    rig.learn_peer();
    let socket = rig.raw(UNKNOWN);
    let buf = loop {
        match rig.stack.raw_send_to(socket, rig.buffer(b"again and again"), PEER) {
            Ok(()) => {}
            Err(SendError::WouldBlock(buf)) => break buf,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(buf.as_slice(), b"again and again");
    assert!(rig.sent().len() > 4);
    rig.stack.egress_drained(IFACE);
    assert_eq!(rig.stack.next_event(), Some(StackEvent::RawWritable(socket)));
    rig.stack.raw_send_to(socket, buf, PEER).unwrap();
    rig.whole();
}

#[test]
fn errors_that_come_back_are_told_once_to_whom_they_concern() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let (connected, other, pings) = (rig.raw(UNKNOWN), rig.raw(UNKNOWN), rig.raw(protocol::ICMP));
    rig.stack.raw_connect(connected, Some(PEER)).unwrap();
    rig.stack.raw_send(connected, rig.buffer(b"x")).unwrap();
    let refusal = error_about(unreachable::PROTOCOL, 0, UNKNOWN, PEER);
    rig.receive(&ip_packet(protocol::ICMP, &refusal));
    rig.receive(&ip_packet(protocol::ICMP, &refusal));
    assert_eq!(rig.stack.next_event(), Some(StackEvent::RawError(connected)));
    assert!(matches!(rig.stack.raw_send(connected, rig.buffer(b"x")), Err(SendError::ConnectionRefused)));
    rig.stack.raw_send(connected, rig.buffer(b"x")).unwrap();
    assert!(!rig.stack.raw_socket(other).unwrap().has_error());
    assert_eq!((rig.take(pings), rig.stack.counters.icmp_errors_received), (Some(refusal), 2));
    // The path's MTU shrinks for what is sent there, and only if something was.
    rig.receive(&ip_packet(protocol::ICMP, &error_about(unreachable::FRAGMENTATION_NEEDED, 600, UNKNOWN, FAR)));
    rig.receive(&ip_packet(protocol::ICMP, &error_about(unreachable::FRAGMENTATION_NEEDED, 600, UNKNOWN + 1, PEER)));
    assert_eq!(rig.stack.counters.icmp_errors_received, 2);
    rig.receive(&ip_packet(protocol::ICMP, &error_about(unreachable::FRAGMENTATION_NEEDED, 600, UNKNOWN, PEER)));
    rig.sent();
    rig.stack.raw_send(connected, rig.buffer(&[0; 1000])).unwrap();
    assert_eq!(rig.sent().len(), 2, "two fragments");
    // Cut quotes are nobody's.
    let whole = error_about(unreachable::PROTOCOL, 0, UNKNOWN, PEER);
    for len in 8..whole.len() {
        rig.receive(&ip_packet(protocol::ICMP, &icmp(kind::UNREACHABLE, unreachable::PROTOCOL, &whole[4..len])));
    }
    assert!(!rig.stack.raw_socket(connected).unwrap().has_error());
    // The next hop does not answer.
    let silent = Ipv4Addr::new(10, 0, 0, 3);
    rig.stack.raw_connect(connected, Some(silent)).unwrap();
    rig.stack.raw_send(connected, rig.buffer(b"x")).unwrap();
    rig.advance(Duration::from_secs(10));
    assert!(matches!(rig.stack.raw_send(connected, rig.buffer(b"x")), Err(SendError::HostUnreachable)));
    rig.whole();
}

#[test]
fn there_are_only_so_many() {
    let mut rig = Rig::new();
    let sockets: Vec<RawHandle> = std::iter::from_fn(|| rig.stack.raw_open(UNKNOWN).ok()).collect();
    assert_eq!((sockets.len(), rig.stack.raw_open(1)), (256, Err(BindError::TooMany)));
    assert!(rig.stack.raw_close(sockets[7]));
    let again = rig.stack.raw_open(1).unwrap();
    assert!(rig.stack.raw_socket(sockets[7]).is_none() && rig.stack.raw_socket(again).is_some());
    assert_eq!(rig.stack.raw_bind(sockets[7], US), Err(BindError::BadSocket));
    assert!(matches!(rig.stack.raw_send_to(sockets[7], rig.buffer(b"x"), PEER), Err(SendError::BadSocket)));
    rig.whole();
}
