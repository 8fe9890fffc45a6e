//! One stack against packets made by hand.

mod neighbours;
mod raw;
mod shared;
mod strays;
mod twins;

use super::*;
use crate::{
    buf::{HugePages, PoolConfig, Region},
    stack::SendError,
    wire::{
        MacAddr, arp, checksum, ethernet,
        ethernet::ethertype,
        ipv4::{self, protocol},
        udp,
    },
};
use std::net::SocketAddrV4;

const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const IFACE: IfaceId = IfaceId(0);

struct Rig {
    stack: Stack,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut IfaceConfig)) -> Self {
        let region = Region::map(512, 4096, HugePages::Never).unwrap();
        let pool = Pool::new(region, PoolConfig { rx_reserve_frames: 32, run_frames: 64 });
        let mut stack = Stack::new(pool, StackConfig::new([7; 32]), Instant::ZERO);
        let mut config = IfaceConfig::new("fw0", OUR_MAC, vec!["10.0.0.1/24".parse().unwrap()]);
        change(&mut config);
        stack.add_interface(config).unwrap();
        let mut rig = Self { stack, now: Instant::ZERO };
        // The announcements are not what most tests look at.
        rig.advance(Duration::from_secs(3));
        rig.sent();
        rig
    }

    fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(at) = self.stack.next_deadline().filter(|&at| at <= until) {
            self.now = self.now.max(at) + Duration::from_micros(100);
            self.stack.poll_timers(self.now);
        }
        self.now = self.now.max(until);
        self.stack.poll_timers(self.now);
    }

    fn receive(&mut self, frame: &[u8]) {
        let buf = self.stack.pool().rx_from_bytes(frame).unwrap();
        self.stack.ingress(self.now, IFACE, &mut vec![buf]);
    }

    /// Packets that wait to be sent, each put together from its pieces.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let (mut packets, mut packet) = (vec![], vec![]);
        while let Some(piece) = self.stack.egress(IFACE).pop() {
            packet.extend_from_slice(piece.as_slice());
            if !piece.more() {
                packets.push(std::mem::take(&mut packet));
            }
        }
        packets
    }

    fn learn_peer(&mut self) {
        self.receive(&arp_frame(arp::Operation::Request, PEER_MAC, PEER, US));
        assert_eq!(self.sent().len(), 1, "the ARP reply");
    }

    fn whole(self) {
        let pool = self.stack.pool().clone();
        assert!(pool.ledger().balances(), "{}", pool.ledger());
        drop(self.stack);
        assert!(pool.ledger().is_whole(), "{}", pool.ledger());
    }
}

fn arp_frame(operation: arp::Operation, mac: MacAddr, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Vec<u8> {
    let packet = arp::Packet { operation, sender_mac: mac, sender_ip, target_mac: MacAddr::default(), target_ip };
    let mut link = [0; 14];
    let to = if operation == arp::Operation::Request { MacAddr::BROADCAST } else { OUR_MAC };
    ethernet::write(&mut link, to, mac, ethertype::ARP);
    [&link[..], &packet.to_bytes()].concat()
}

fn ip_frame(repr: ipv4::Repr, payload: &[u8]) -> Vec<u8> {
    let mut link = [0; 14];
    ethernet::write(&mut link, OUR_MAC, PEER_MAC, ethertype::IPV4);
    let mut ip = [0; 20];
    ipv4::Repr { payload_len: payload.len() as u16, ..repr }.write(&mut ip);
    [&link[..], &ip, payload].concat()
}

fn ip_repr(protocol: u8) -> ipv4::Repr {
    ipv4::Repr { src: PEER, dst: US, protocol, tos: 0, ttl: 64, id: 9, flags_offset: 0, payload_len: 0 }
}

fn udp_segment(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() + 8) as u16;
    let mut header = [0; 8];
    let sum = checksum::add(checksum::pseudo_header(*from.ip(), *to.ip(), protocol::UDP, len), checksum::sum(payload));
    udp::write(&mut header, from.port(), to.port(), len, sum);
    [&header[..], payload].concat()
}

fn udp_frame(from_port: u16, to_port: u16, payload: &[u8]) -> Vec<u8> {
    let segment = udp_segment(SocketAddrV4::new(PEER, from_port), SocketAddrV4::new(US, to_port), payload);
    ip_frame(ip_repr(protocol::UDP), &segment)
}

/// What a sent UDP packet says, with every header and checksum checked.
fn read_udp(packet: &[u8]) -> (SocketAddrV4, SocketAddrV4, Vec<u8>) {
    let link = ethernet::Header::parse(packet).unwrap();
    assert_eq!((link.src, link.dst, link.ethertype), (OUR_MAC, PEER_MAC, ethertype::IPV4));
    let packet = &packet[link.len..];
    let ip = ipv4::Header::parse(packet, packet.len()).unwrap();
    assert_eq!((ip.total_len, ip.protocol, ip.is_fragment()), (packet.len(), protocol::UDP, false));
    read_segment(ip.src, ip.dst, &packet[ip.header_len..])
}

fn read_segment(src: Ipv4Addr, dst: Ipv4Addr, segment: &[u8]) -> (SocketAddrV4, SocketAddrV4, Vec<u8>) {
    let header = udp::Header::parse(segment, segment.len()).unwrap();
    assert_eq!(header.len, segment.len());
    let pseudo = checksum::pseudo_header(src, dst, protocol::UDP, header.len as u16);
    assert_eq!(checksum::add(pseudo, checksum::sum(segment)), 0xffff, "UDP checksum");
    (
        SocketAddrV4::new(src, header.src_port),
        SocketAddrV4::new(dst, header.dst_port),
        segment[udp::HEADER_BYTES..].to_vec(),
    )
}

fn any(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)
}

#[test]
fn echoes_every_size_in_the_frame_it_came_in() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    for size in 0..=1472 {
        let payload: Vec<u8> = (0..size).map(|i| (i * 7 + size) as u8).collect();
        rig.receive(&udp_frame(4000, 7, &payload));
        assert_eq!(rig.stack.next_event(), Some(StackEvent::UdpReadable(socket)));
        let datagram = rig.stack.udp_recv(socket).unwrap();
        assert_eq!((datagram.from, datagram.to), (SocketAddrV4::new(PEER, 4000), US));
        assert_eq!(datagram.buf.as_slice(), payload);
        rig.stack.udp_send_to(socket, datagram.buf.into_tx(), datagram.from).unwrap();
        let sent = rig.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(read_udp(&sent[0]), (SocketAddrV4::new(US, 7), SocketAddrV4::new(PEER, 4000), payload));
    }
    assert_eq!((rig.stack.counters.bytes_copied_rx, rig.stack.counters.bytes_copied_tx), (0, 0));
    rig.whole();
}

#[test]
fn a_changed_payload_gets_a_new_checksum() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    rig.receive(&udp_frame(4000, 7, b"hello"));
    let datagram = rig.stack.udp_recv(socket).unwrap();
    let mut buf = datagram.buf.into_tx();
    buf.as_mut_slice()[0] = b'J';
    rig.stack.udp_send_to(socket, buf, datagram.from).unwrap();
    assert_eq!(read_udp(&rig.sent()[0]).2, b"Jello");
    rig.whole();
}

#[test]
fn an_unbound_port_is_answered_within_the_rate_limit() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let frame = udp_frame(4000, 5, b"knock");
    rig.receive(&frame);
    let sent = rig.sent();
    let ip = ipv4::Header::parse(&sent[0][14..], sent[0].len() - 14).unwrap();
    let message = &sent[0][34..];
    assert_eq!((ip.protocol, ip.dst, message[0], message[1]), (protocol::ICMP, PEER, 3, 3));
    assert_eq!(checksum::sum(message), 0xffff);
    assert_eq!(&message[8..], &frame[14..], "quotes the whole small packet");
    for _ in 0..1000 {
        rig.receive(&frame);
    }
    assert_eq!(rig.sent().len(), 49, "the burst, less the first");
    assert_eq!(rig.stack.counters.icmp_errors_limited, 951);
    rig.whole();
}

#[test]
fn answers_ping_with_the_same_frame() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let mut echo = [&[8, 0, 0, 0, 1, 2, 3, 4][..], &[0xab; 56]].concat();
    let sum = !checksum::sum(&echo);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    rig.receive(&ip_frame(ip_repr(protocol::ICMP), &echo));
    let sent = rig.sent();
    let reply = &sent[0][34..];
    assert_eq!((reply[0], checksum::sum(reply)), (0, 0xffff));
    assert_eq!(&reply[4..], &echo[4..]);
    echo[10] ^= 1;
    rig.receive(&ip_frame(ip_repr(protocol::ICMP), &echo));
    assert_eq!((rig.sent().len(), rig.stack.counters.drop_icmp_malformed), (0, 1));
    rig.whole();
}

/// Payloads of sent fragments, put together; every header is checked.
fn reassemble(packets: &[Vec<u8>], mtu: usize) -> Vec<u8> {
    let mut whole = vec![];
    for (i, packet) in packets.iter().enumerate() {
        let packet = &packet[14..];
        let ip = ipv4::Header::parse(packet, packet.len()).unwrap();
        assert!(packet.len() <= mtu && ip.total_len == packet.len());
        assert_eq!((ip.fragment_offset(), ip.more_fragments()), (whole.len(), i + 1 < packets.len()));
        whole.extend_from_slice(&packet[ip.header_len..]);
    }
    whole
}

#[test]
fn a_large_buffer_goes_out_as_fragments_uncopied_and_comes_back_whole() {
    let mut rig = Rig::with(|config| config.tx_pieces_max = 17);
    rig.learn_peer();
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    let to = SocketAddrV4::new(PEER, 9);
    for size in [1473, 1480, 2953, 4096, 9000, 30_000, 65_507] {
        let payload: Vec<u8> = (0..size).map(|i| (i / 3) as u8).collect();
        let mut buf = rig.stack.pool().alloc_contiguous(size).unwrap();
        buf.put_slice(&payload).unwrap();
        rig.stack.udp_send_to(socket, buf, to).unwrap();
        let sent = rig.sent();
        assert_eq!(sent.len(), (size + 8).div_ceil(1480), "{size}");
        assert_eq!(read_segment(US, PEER, &reassemble(&sent, 1500)), (SocketAddrV4::new(US, 7), to, payload));
    }
    assert_eq!(rig.stack.counters.bytes_copied_tx, 0);
    rig.whole();
}

#[test]
fn without_scatter_gather_fragments_are_copied_and_counted() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    let payload: Vec<u8> = (0..9000).map(|i| i as u8).collect();
    let mut buf = rig.stack.pool().alloc_contiguous(payload.len()).unwrap();
    buf.put_slice(&payload).unwrap();
    rig.stack.udp_send_to(socket, buf, SocketAddrV4::new(PEER, 9)).unwrap();
    let sent = rig.sent();
    assert_eq!(read_segment(US, PEER, &reassemble(&sent, 1500)).2, payload);
    assert_eq!(rig.stack.counters.bytes_copied_tx, 9000);
    rig.whole();
}

#[test]
fn fragments_come_in_any_order_and_the_chain_goes_out_again() {
    let mut rig = Rig::with(|config| config.tx_pieces_max = 17);
    rig.learn_peer();
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    let payload: Vec<u8> = (0..5000).map(|i| (i / 5) as u8).collect();
    let segment = udp_segment(SocketAddrV4::new(PEER, 4000), SocketAddrV4::new(US, 7), &payload);
    let mut frames: Vec<_> = segment
        .chunks(1480)
        .enumerate()
        .map(|(i, part)| {
            let more = if (i + 1) * 1480 < segment.len() { ipv4::MORE_FRAGMENTS } else { 0 };
            ip_frame(ipv4::Repr { flags_offset: (i * 185) as u16 | more, ..ip_repr(protocol::UDP) }, part)
        })
        .collect();
    frames.rotate_left(2);
    for frame in &frames {
        rig.receive(frame);
    }
    let datagram = rig.stack.udp_recv(socket).unwrap();
    assert!(datagram.buf.is_chain());
    assert_eq!(datagram.buf.pieces().collect::<Vec<_>>().concat(), payload);
    rig.stack.udp_send_to(socket, datagram.buf.into_tx(), datagram.from).unwrap();
    let sent = rig.sent();
    assert_eq!(read_segment(US, PEER, &reassemble(&sent, 1500)).2, payload);
    assert_eq!((rig.stack.counters.bytes_copied_rx, rig.stack.counters.bytes_copied_tx), (0, 0));
    rig.whole();
}

#[test]
fn a_lost_fragment_times_out_with_a_message() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let repr = ipv4::Repr { flags_offset: ipv4::MORE_FRAGMENTS, ..ip_repr(protocol::UDP) };
    rig.receive(&ip_frame(repr, &[0; 1480]));
    assert_eq!(rig.stack.usage().reassembly_frames, 1);
    rig.advance(Duration::from_secs(31));
    assert_eq!((rig.stack.usage().reassembly_frames, rig.stack.counters.drop_fragment_timeout), (0, 1));
    let sent = rig.sent();
    let message = sent.iter().map(|p| &p[34..]).find(|m| m[0] == 11).expect("time exceeded");
    assert_eq!((message[1], checksum::sum(message)), (1, 0xffff));
    rig.whole();
}

#[test]
fn a_full_egress_queue_gives_the_buffer_back_and_tells_of_room() {
    let mut rig = Rig::with(|config| config.egress_limit = 4);
    rig.learn_peer();
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    let to = SocketAddrV4::new(PEER, 9);
    for _ in 0..4 {
        let buf = rig.stack.pool().alloc_tx().unwrap();
        rig.stack.udp_send_to(socket, buf, to).unwrap();
    }
    let mut buf = rig.stack.pool().alloc_tx().unwrap();
    buf.put_slice(b"again").unwrap();
    let Err(SendError::WouldBlock(buf)) = rig.stack.udp_send_to(socket, buf, to) else { panic!("must block") };
    rig.stack.egress_drained(IFACE);
    assert_eq!(rig.stack.next_event(), None, "no room yet");
    assert_eq!(rig.sent().len(), 4);
    rig.stack.egress_drained(IFACE);
    assert_eq!(rig.stack.next_event(), Some(StackEvent::UdpWritable(socket)));
    rig.stack.udp_send_to(socket, buf, to).unwrap();
    assert_eq!(read_udp(&rig.sent()[0]).2, b"again");
    rig.whole();
}

#[test]
fn connected_sockets_hear_their_peer_only_and_learn_of_refusal() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let server = rig.stack.udp_bind(any(7)).unwrap();
    let socket = rig.stack.udp_bind(any(0)).unwrap();
    let port = rig.stack.udp_socket(socket).unwrap().local.port();
    assert!((49_152..=65_535).contains(&port));
    rig.stack.udp_connect(socket, Some(SocketAddrV4::new(PEER, 9))).unwrap();
    rig.receive(&udp_frame(8, port, b"stranger"));
    assert!(rig.stack.udp_recv(socket).is_none());
    rig.receive(&udp_frame(9, port, b"friend"));
    assert_eq!(rig.stack.udp_recv(socket).unwrap().buf.as_slice(), b"friend");
    rig.sent();
    rig.stack.udp_send(socket, rig.stack.pool().alloc_tx().unwrap()).unwrap();
    let packet = rig.sent().remove(0);
    let mut error = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &packet[14..42]].concat();
    let sum = !checksum::sum(&error);
    error[2..4].copy_from_slice(&sum.to_be_bytes());
    // A quote that is cut says nothing.
    let mut cut = error[..error.len() - 1].to_vec();
    cut[2..4].fill(0);
    let sum = !checksum::sum(&cut);
    cut[2..4].copy_from_slice(&sum.to_be_bytes());
    rig.receive(&ip_frame(ip_repr(protocol::ICMP), &cut));
    assert_eq!(rig.stack.counters.icmp_errors_ignored, 1);
    rig.receive(&ip_frame(ip_repr(protocol::ICMP), &error));
    let buf = rig.stack.pool().alloc_tx().unwrap();
    assert!(matches!(rig.stack.udp_send(socket, buf), Err(SendError::ConnectionRefused)));
    let buf = rig.stack.pool().alloc_tx().unwrap();
    assert!(rig.stack.udp_send(socket, buf).is_ok(), "told once");
    assert!(rig.stack.udp_close(socket) && !rig.stack.udp_close(socket));
    assert!(rig.stack.udp_socket(socket).is_none() && rig.stack.udp_socket(server).is_some());
    rig.whole();
}

#[test]
fn fragmentation_needed_narrows_the_path_of_a_live_flow_only() {
    let mut rig = Rig::with(|config| config.tx_pieces_max = 17);
    rig.learn_peer();
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    let send = |rig: &mut Rig| {
        let mut buf = rig.stack.pool().alloc_tx().unwrap();
        buf.put_slice(&[5; 1400]).unwrap();
        rig.stack.udp_send_to(socket, buf, SocketAddrV4::new(PEER, 9)).unwrap();
        rig.sent()
    };
    let packet = send(&mut rig).remove(0);
    let too_big = |quote: &[u8]| {
        let mut error = [&[3, 4, 0, 0, 0, 0, 3, 0][..], quote].concat();
        let sum = !checksum::sum(&error);
        error[2..4].copy_from_slice(&sum.to_be_bytes());
        ip_frame(ip_repr(protocol::ICMP), &error)
    };
    let mut foreign = packet[14..42].to_vec();
    foreign[21] = 8;
    rig.receive(&too_big(&foreign));
    assert_eq!(send(&mut rig).len(), 1, "port 8 is nobody's");
    rig.receive(&too_big(&packet[14..42]));
    assert_eq!(send(&mut rig).len(), 2, "1,428 bytes over an MTU of 768");
    rig.whole();
}

#[test]
fn vlan_interfaces_take_and_send_their_tag_only() {
    let mut rig = Rig::with(|config| config.vlan = Some(100));
    let tag = |frame: &[u8], vlan: u16| [&frame[..12], &[0x81, 0], &vlan.to_be_bytes(), &frame[12..]].concat();
    let request = arp_frame(arp::Operation::Request, PEER_MAC, PEER, US);
    rig.receive(&request);
    rig.receive(&tag(&request, 101));
    assert_eq!((rig.sent().len(), rig.stack.counters.drop_vlan), (0, 2));
    rig.receive(&tag(&request, 100));
    assert_eq!(&rig.sent()[0][12..18], [0x81, 0, 0, 100, 8, 6]);
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    rig.receive(&tag(&udp_frame(4000, 7, b"tagged"), 100));
    let datagram = rig.stack.udp_recv(socket).unwrap();
    rig.stack.udp_send_to(socket, datagram.buf.into_tx(), datagram.from).unwrap();
    let sent = rig.sent().remove(0);
    assert_eq!(&sent[12..18], [0x81, 0, 0, 100, 8, 0]);
    let untagged = [&sent[..12], &sent[16..]].concat();
    assert_eq!(read_udp(&untagged).2, b"tagged");
    rig.whole();
}

#[test]
fn checksum_policies() {
    let partial = |policy| {
        let mut rig = Rig::with(|config| config.rx_checksum = policy);
        rig.learn_peer();
        let socket = rig.stack.udp_bind(any(7)).unwrap();
        let mut frame = udp_frame(4000, 7, b"payload");
        let pseudo = checksum::pseudo_header(PEER, US, protocol::UDP, 15);
        frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
        rig.receive(&frame);
        let taken = rig.stack.udp_recv(socket).is_some();
        frame[40] ^= 0x55;
        rig.receive(&frame);
        let wrong_taken = rig.stack.udp_recv(socket).is_some();
        rig.whole();
        (taken, wrong_taken)
    };
    assert_eq!(partial(RxChecksum::Verify), (false, false));
    assert_eq!(partial(RxChecksum::Partial), (true, false));
    assert_eq!(partial(RxChecksum::Trust), (true, true));
}

#[test]
fn receive_queues_are_bounded_in_frames() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    rig.stack.udp_set_limits(socket, RxLimits { bytes: 1 << 20, frames: 10 });
    for _ in 0..20 {
        rig.receive(&udp_frame(4000, 7, b"x"));
    }
    assert_eq!(rig.stack.udp_socket(socket).unwrap().queued(), (10, 10, 10));
    assert_eq!(rig.stack.counters.drop_udp_queue_full, 10);
    rig.whole();
}

#[test]
fn sources_that_no_host_has_are_dropped() {
    let mut rig = Rig::new();
    rig.stack.udp_bind(any(7)).unwrap();
    let sources =
        [US, Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::LOCALHOST];
    for src in sources.into_iter().chain([Ipv4Addr::UNSPECIFIED]) {
        let segment = udp_segment(SocketAddrV4::new(src, 7), SocketAddrV4::new(US, 7), b"x");
        rig.receive(&ip_frame(ipv4::Repr { src, ..ip_repr(protocol::UDP) }, &segment));
    }
    assert_eq!(rig.stack.counters.drop_ip_source, 6);
    rig.whole();
}

#[test]
fn a_stranger_beyond_the_gateway_is_answered_through_it() {
    let mut rig = Rig::new();
    let gateway = Ipv4Addr::new(10, 0, 0, 254);
    let default = Ipv4Net::new(Ipv4Addr::UNSPECIFIED, 0).unwrap();
    rig.stack
        .add_route(Route { net: default, next_hop: Some(gateway), iface: IFACE, source: None, metric: 0 })
        .unwrap();
    rig.receive(&arp_frame(arp::Operation::Request, PEER_MAC, gateway, US));
    rig.sent();
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    let far = Ipv4Addr::new(192, 0, 2, 1);
    let segment = udp_segment(SocketAddrV4::new(far, 4000), SocketAddrV4::new(US, 7), b"far");
    rig.receive(&ip_frame(ipv4::Repr { src: far, ..ip_repr(protocol::UDP) }, &segment));
    let datagram = rig.stack.udp_recv(socket).unwrap();
    rig.stack.udp_send_to(socket, datagram.buf.into_tx(), datagram.from).unwrap();
    assert_eq!(read_udp(&rig.sent()[0]).1, SocketAddrV4::new(far, 4000));
    assert!(rig.stack.remove_route(default, Some(gateway)));
    let buf = rig.stack.pool().alloc_tx().unwrap();
    let refused = rig.stack.udp_send_to(socket, buf, SocketAddrV4::new(far, 4000));
    assert!(matches!(refused, Err(SendError::HostUnreachable)));
    rig.whole();
}

#[test]
fn bind_rules() {
    let mut rig = Rig::new();
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    assert_eq!(rig.stack.udp_bind(any(7)), Err(BindError::InUse));
    assert_eq!(rig.stack.udp_bind(SocketAddrV4::new(US, 7)), Err(BindError::InUse));
    assert_eq!(rig.stack.udp_bind(SocketAddrV4::new(PEER, 8)), Err(BindError::NotAvailable));
    rig.stack.udp_close(socket);
    assert!(rig.stack.udp_bind(SocketAddrV4::new(US, 7)).is_ok());
    assert_eq!(rig.stack.udp_bind(any(7)), Err(BindError::InUse));
    rig.whole();
}

#[test]
fn what_is_in_too_many_pieces_for_the_port_is_copied_whole() {
    let mut rig = Rig::with(|config| (config.mtu, config.tx_pieces_max) = (9000, 17));
    rig.learn_peer();
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    let payload: Vec<u8> = (0..8000).map(|i| (i / 7) as u8).collect();
    let segment = udp_segment(SocketAddrV4::new(PEER, 4000), SocketAddrV4::new(US, 7), &payload);
    for (i, part) in segment.chunks(80).enumerate() {
        let more = if (i + 1) * 80 < segment.len() { ipv4::MORE_FRAGMENTS } else { 0 };
        rig.receive(&ip_frame(ipv4::Repr { flags_offset: (i * 10) as u16 | more, ..ip_repr(protocol::UDP) }, part));
    }
    let datagram = rig.stack.udp_recv(socket).unwrap();
    assert_eq!(datagram.buf.frame_count(), 101);
    rig.stack.udp_send_to(socket, datagram.buf.into_tx(), datagram.from).unwrap();
    let sent = rig.sent();
    assert_eq!(sent.len(), 1, "fits the MTU");
    assert_eq!(read_udp(&sent[0]).2, payload);
    assert_eq!(rig.stack.counters.bytes_copied_tx, 8000);
    rig.whole();
}

#[test]
fn without_scatter_gather_no_packet_is_larger_than_a_frame() {
    let mut rig = Rig::with(|config| config.mtu = 9000);
    rig.learn_peer();
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    let payload: Vec<u8> = (0..8000).map(|i| (i / 7) as u8).collect();
    let mut buf = rig.stack.pool().alloc_contiguous(payload.len()).unwrap();
    buf.put_slice(&payload).unwrap();
    rig.stack.udp_send_to(socket, buf, SocketAddrV4::new(PEER, 9)).unwrap();
    let sent = rig.sent();
    assert_eq!(sent.len(), 3);
    assert_eq!(read_segment(US, PEER, &reassemble(&sent, 3860)).2, payload);
    rig.whole();
}

#[test]
fn no_time_exceeded_about_a_broadcast_or_an_icmp_error() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let first = |dst, protocol| ipv4::Repr { dst, flags_offset: ipv4::MORE_FRAGMENTS, ..ip_repr(protocol) };
    rig.receive(&ip_frame(first(Ipv4Addr::new(10, 0, 0, 255), protocol::UDP), &[0; 1480]));
    rig.receive(&ip_frame(first(US, protocol::ICMP), &[3; 1480]));
    assert_eq!(rig.stack.usage().reassembly_fragments, 2);
    rig.advance(Duration::from_secs(31));
    assert_eq!((rig.stack.counters.drop_fragment_timeout, rig.stack.counters.drop_fragment_discarded), (2, 2));
    assert!(rig.sent().is_empty());
    rig.whole();
}

#[test]
fn a_flood_of_icmp_errors_queues_one_event() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let socket = rig.stack.udp_bind(any(0)).unwrap();
    rig.stack.udp_connect(socket, Some(SocketAddrV4::new(PEER, 9))).unwrap();
    rig.stack.udp_send(socket, rig.stack.pool().alloc_tx().unwrap()).unwrap();
    let packet = rig.sent().remove(0);
    let mut error = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &packet[14..42]].concat();
    let sum = !checksum::sum(&error);
    error[2..4].copy_from_slice(&sum.to_be_bytes());
    for round in 1..=2 {
        for _ in 0..1000 {
            rig.receive(&ip_frame(ip_repr(protocol::ICMP), &error));
        }
        assert_eq!(rig.stack.event_count(), 1);
        assert_eq!(rig.stack.next_event(), Some(StackEvent::UdpError(socket)));
        assert_eq!(rig.stack.counters.icmp_errors_received, round * 1000);
    }
    rig.whole();
}

#[test]
fn chains_with_divided_headers_are_told_from_cut_ones() {
    let mut rig = Rig::new();
    let receive = |rig: &mut Rig, frame: &[u8], cut: usize| {
        let mut head = rig.stack.pool().rx_from_bytes(&frame[..cut]).unwrap();
        head.append(rig.stack.pool().rx_from_bytes(&frame[cut..]).unwrap()).unwrap();
        rig.stack.ingress(rig.now, IFACE, &mut vec![head]);
    };
    let frame = udp_frame(4000, 7, b"payload");
    let echo = ip_frame(ip_repr(protocol::ICMP), &[8, 0, 0xf7, 0xff, 0, 0, 0, 0, 0, 0]);
    for (frame, cut) in [(&frame, 20), (&frame, 33), (&frame, 34), (&frame, 41), (&echo, 40)] {
        let before = rig.stack.counters.drop_chain_header;
        receive(&mut rig, frame, cut);
        assert_eq!(rig.stack.counters.drop_chain_header, before + 1, "cut at {cut}");
    }
    receive(&mut rig, &frame[..30], 20);
    assert_eq!(rig.stack.counters.drop_ip_truncated, 1);
    assert_eq!(rig.stack.counters.rx_bytes, 4 * 49 + 44 + 30, "bytes of all pieces");
    rig.whole();
}
