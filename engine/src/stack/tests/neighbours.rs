//! Neighbours: asking, answering, announcing; and two workers' stacks on one link, where the answer comes to the one that did not ask.

use super::*;
use crate::proto::neighbour::Learned;

#[test]
fn announces_its_address_twice_and_answers_arp() {
    let region = Region::map(64, 2048, HugePages::Never).unwrap();
    let pool = Pool::new(region, PoolConfig::default());
    let mut stack = Stack::new(pool, StackConfig::new([7; 32]), Instant::ZERO);
    stack.add_interface(IfaceConfig::new("fw0", OUR_MAC, vec!["10.0.0.1/24".parse().unwrap()])).unwrap();
    let mut rig = Rig { stack, now: Instant::ZERO };
    rig.advance(Duration::from_secs(10));
    let sent = rig.sent();
    assert_eq!(sent.len(), 2);
    for packet in sent {
        let arp = arp::Packet::parse(&packet[14..]).unwrap();
        assert_eq!((arp.sender_ip, arp.target_ip, arp.sender_mac), (US, US, OUR_MAC));
        assert_eq!(packet[..6], [0xff; 6]);
    }
    rig.receive(&arp_frame(arp::Operation::Request, PEER_MAC, PEER, US));
    let reply = arp::Packet::parse(&rig.sent()[0][14..]).unwrap();
    assert_eq!((reply.operation, reply.sender_ip, reply.target_mac), (arp::Operation::Reply, US, PEER_MAC));
    rig.receive(&arp_frame(arp::Operation::Request, PEER_MAC, PEER, Ipv4Addr::new(10, 0, 0, 77)));
    assert_eq!(rig.sent().len(), 0, "not for us");
    rig.whole();
}

#[test]
fn defends_its_address_once_in_ten_seconds() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.receive(&arp_frame(arp::Operation::Reply, PEER_MAC, US, PEER));
    }
    assert_eq!((rig.sent().len(), rig.stack.counters.arp_conflicts), (1, 3));
    rig.advance(Duration::from_secs(11));
    rig.receive(&arp_frame(arp::Operation::Reply, PEER_MAC, US, PEER));
    assert_eq!(rig.sent().len(), 1);
    rig.whole();
}

#[test]
fn asks_for_the_next_hop_and_sends_what_waited() {
    let mut rig = Rig::new();
    let socket = rig.stack.udp_bind(any(0)).unwrap();
    for text in [b"one", b"two"] {
        let mut buf = rig.stack.pool().alloc_tx().unwrap();
        buf.put_slice(text).unwrap();
        rig.stack.udp_send_to(socket, buf, SocketAddrV4::new(PEER, 9)).unwrap();
    }
    let sent = rig.sent();
    assert_eq!(sent.len(), 1, "one request for both");
    assert_eq!(arp::Packet::parse(&sent[0][14..]).unwrap().target_ip, PEER);
    rig.receive(&arp_frame(arp::Operation::Reply, PEER_MAC, PEER, US));
    let sent = rig.sent();
    assert_eq!(sent.iter().map(|p| read_udp(p).2).collect::<Vec<_>>(), [b"one", b"two"]);
    rig.whole();
}

#[test]
fn a_silent_next_hop_fails_and_the_connected_socket_hears_of_it() {
    let mut rig = Rig::new();
    let socket = rig.stack.udp_bind(any(0)).unwrap();
    rig.stack.udp_connect(socket, Some(SocketAddrV4::new(PEER, 9))).unwrap();
    rig.stack.udp_send(socket, rig.stack.pool().alloc_tx().unwrap()).unwrap();
    rig.advance(Duration::from_secs(4));
    assert_eq!(rig.sent().len(), 3, "three requests");
    assert_eq!(rig.stack.counters.drop_tx_neighbour_failed, 1);
    assert_eq!(rig.stack.next_event(), Some(StackEvent::UdpError(socket)));
    let buf = rig.stack.pool().alloc_tx().unwrap();
    assert!(matches!(rig.stack.udp_send(socket, buf), Err(SendError::HostUnreachable)));
    rig.whole();
}

#[test]
fn parking_is_bounded() {
    let mut rig = Rig::new();
    let socket = rig.stack.udp_bind(any(0)).unwrap();
    for _ in 0..100 {
        let buf = rig.stack.pool().alloc_tx().unwrap();
        rig.stack.udp_send_to(socket, buf, SocketAddrV4::new(PEER, 9)).unwrap();
    }
    let most = rig.stack.config.neighbours.parked_per_entry_max as u64;
    assert_eq!(rig.stack.usage().neighbours_parked as u64, most);
    assert_eq!(rig.stack.counters.drop_tx_neighbour_queue, 100 - most);
    rig.whole();
}

#[test]
fn a_configured_neighbour_needs_no_arp_and_a_narrower_mtu_holds_at_once() {
    let mut rig = Rig::with(|config| config.tx_pieces_max = 17);
    rig.stack.add_static_neighbour(IFACE, PEER, PEER_MAC).unwrap();
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    let send = |rig: &mut Rig| {
        let mut buf = rig.stack.pool().alloc_tx().unwrap();
        buf.put_slice(&[3; 1000]).unwrap();
        rig.stack.udp_send_to(socket, buf, SocketAddrV4::new(PEER, 9)).unwrap();
        rig.sent().len()
    };
    assert_eq!(send(&mut rig), 1);
    assert!(rig.stack.set_mtu(IFACE, 576) && !rig.stack.set_mtu(IfaceId(9), 576));
    assert_eq!(send(&mut rig), 2);
    rig.receive(&arp_frame(arp::Operation::Reply, MacAddr([2, 9, 9, 9, 9, 9]), PEER, US));
    assert_eq!(send(&mut rig), 2);
    rig.whole();
}

#[test]
fn neighbours_may_be_learned_from_their_packets() {
    let mut rig = Rig::with(|config| config.neighbour_source = NeighbourSource::Traffic);
    let socket = rig.stack.udp_bind(any(7)).unwrap();
    for _ in 0..100 {
        rig.receive(&udp_frame(4000, 7, b"ask"));
        let datagram = rig.stack.udp_recv(socket).unwrap();
        rig.stack.udp_send_to(socket, datagram.buf.into_tx(), datagram.from).unwrap();
        assert_eq!(read_udp(&rig.sent()[0]).2, b"ask", "answered at once, no ARP");
        rig.advance(Duration::from_secs(7));
        assert!(rig.sent().len() <= 3, "probes may go unanswered");
    }
    rig.whole();
}

#[test]
fn an_answer_to_another_worker_sends_what_waited_here() {
    let (mut asks, mut hears) = (Rig::new(), Rig::new());
    hears.stack.share_neighbours();
    let socket = asks.stack.udp_bind(any(0)).unwrap();
    let mut buf = asks.stack.pool().alloc_tx().unwrap();
    buf.put_slice(b"waits").unwrap();
    asks.stack.udp_send_to(socket, buf, SocketAddrV4::new(PEER, 9)).unwrap();
    assert_eq!(asks.sent().len(), 1, "the question");

    hears.receive(&arp_frame(arp::Operation::Reply, PEER_MAC, PEER, US));
    assert!(hears.stack.has_neighbour_words());
    let words = hears.stack.take_neighbour_words();
    assert_eq!(words, [NeighbourWord { iface: IFACE, ip: PEER, mac: PEER_MAC, how: Learned::Reply }]);
    assert!(!hears.stack.has_neighbour_words());

    asks.stack.hear_neighbours(asks.now, &words);
    let sent = asks.sent();
    assert_eq!(sent.len(), 1, "what waited");
    assert_eq!(read_udp(&sent[0]).2, b"waits");
    asks.whole();
    hears.whole();
}

#[test]
fn nothing_is_kept_unless_wanted_nor_without_bound() {
    let mut rig = Rig::new();
    rig.learn_peer();
    assert!(!rig.stack.has_neighbour_words() && rig.stack.take_neighbour_words().is_empty());
    rig.stack.share_neighbours();
    for host in 2..=250 {
        rig.receive(&arp_frame(arp::Operation::Reply, PEER_MAC, Ipv4Addr::new(10, 0, 0, host), US));
    }
    // Of another network: not a neighbour.
    rig.receive(&arp_frame(arp::Operation::Reply, PEER_MAC, Ipv4Addr::new(10, 9, 9, 9), US));
    let words = rig.stack.take_neighbour_words();
    assert_eq!(words.len(), 64);
    let elsewhere = NeighbourWord { iface: IfaceId(7), ..words[0] };
    rig.stack.hear_neighbours(rig.now, &[elsewhere]);
    rig.whole();
}
