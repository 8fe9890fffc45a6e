//! ARP, both ways, with the Linux stack on the other end; VLAN.

use std::{net::Ipv4Addr, time::Duration};

use framewire_tests::rig::{
    Appliance, ECHO, ENGINE_MAC, ENGINE_V4, PEER_INTERFACE, PEER_MAC, PEER_V4, PacketSocket, Topology, UdpClient,
    configuration, pattern, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(2);
const BROADCAST: [u8; 6] = [0xff; 6];

/// An ARP packet (RFC 826) for Ethernet and IPv4 as it lies in a frame without VLAN tag.
struct Arp {
    to: [u8; 6],
    operation: u16,
    sender: ([u8; 6], Ipv4Addr),
    target: Ipv4Addr,
}

impl Arp {
    fn of(frame: &[u8]) -> Option<Self> {
        if frame.len() < 42 || frame[12..14] != [8, 6] {
            return None;
        }
        let mac = |at: usize| <[u8; 6]>::try_from(&frame[at..at + 6]).expect("six bytes");
        let ip = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).expect("four bytes"));
        let operation = u16::from_be_bytes([frame[20], frame[21]]);
        Some(Self { to: mac(0), operation, sender: (mac(22), ip(28)), target: ip(38) })
    }
}

#[test]
fn the_kernel_finds_the_engine() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let wire = PacketSocket::open(&topology.peer, PEER_INTERFACE).expect("packet socket");
    let appliance = Appliance::start(&topology.engine, &configuration("", ECHO)).expect("appliance");

    // RFC 5227 section 2.3: an announcement is a request with sender and target address alike.
    let announcement = wire.receive(TIMEOUT, |frame| Arp::of(frame).is_some()).expect("an ARP packet at start");
    let arp = Arp::of(&announcement).expect("ARP");
    assert_eq!((arp.to, arp.operation), (BROADCAST, 1));
    assert_eq!((arp.sender, arp.target), ((ENGINE_MAC, ENGINE_V4), ENGINE_V4));

    let report = topology.peer.ping(ENGINE_V4.into(), 5, 56).expect("ping");
    assert_eq!((report.sent, report.received), (5, 5));
    let answer = wire.receive(TIMEOUT, |frame| Arp::of(frame).is_some_and(|arp| arp.operation == 2)).expect("a reply");
    let arp = Arp::of(&answer).expect("ARP");
    assert_eq!((arp.to, arp.sender, arp.target), (PEER_MAC, (ENGINE_MAC, ENGINE_V4), PEER_V4));

    let entry = topology.peer.ip(&["neighbour", "show", &ENGINE_V4.to_string()]).expect("ip neighbour");
    assert!(entry.contains("lladdr 02:66:77:00:00:01"), "{entry}");
    assert!(["REACHABLE", "DELAY", "STALE", "PROBE"].iter().any(|state| entry.contains(state)), "{entry}");

    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert!(report.counter("arp_replies_sent").expect("counter") >= 1);
    assert_eq!(report.counter("icmp_echo_replies").expect("counter"), 5);
    assert_eq!(report.verdict("redirected_owned").expect("verdict"), 5);
}

#[test]
fn the_engine_finds_the_kernel() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let sink = topology.peer.udp_sink((PEER_V4, 9), TIMEOUT).expect("sink");
    let wire = PacketSocket::open(&topology.peer, PEER_INTERFACE).expect("packet socket");
    let source = "[[service]]\nkind = \"udp-source\"\ndestination = \"10.77.0.2:9\"\ncount = 100\nrate_pps = 10_000\n";
    let appliance = Appliance::start(&topology.engine, &configuration("", source)).expect("appliance");

    let asks = |frame: &[u8]| Arp::of(frame).is_some_and(|arp| arp.operation == 1 && arp.target == PEER_V4);
    let request = Arp::of(&wire.receive(TIMEOUT, asks).expect("a request")).expect("ARP");
    assert_eq!((request.to, request.sender), (BROADCAST, (ENGINE_MAC, ENGINE_V4)));
    for expected in 0..100u64 {
        let mut datagram = [0; 2048];
        let (len, from) = sink.recv_from(&mut datagram).expect("a datagram");
        assert_eq!((len, from.ip()), (64, ENGINE_V4.into()));
        assert_eq!(datagram[..8], expected.to_be_bytes(), "also the first, which waited for the answer");
    }
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(report.service(0, "sent").expect("sent"), 100);
    assert_eq!(report.service(0, "completed").expect("completed"), 1);
}

#[test]
fn a_silent_neighbour_costs_no_frames() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let source = "[[service]]\nkind = \"udp-source\"\ndestination = \"10.77.0.99:9\"\n";
    let services = format!("{ECHO}{source}");
    let appliance = Appliance::start(&topology.engine, &configuration("", &services)).expect("appliance");
    let client = UdpClient::connect(&topology.peer, (ENGINE_V4, 7)).expect("connect");
    // Longer than three unanswered requests (RFC 1122 section 2.3.2.1: one a second).
    for turn in 0..16 {
        client.exchange(&pattern(512, turn), TIMEOUT).expect("others are served meanwhile");
        std::thread::sleep(Duration::from_millis(250));
    }
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert!(report.counter("drop_tx_neighbour_failed").expect("counter") >= 1);
}

/// A frame with an 802.1Q tag of VLAN 12.
fn tagged(to: [u8; 6], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&to[..], &PEER_MAC, &[0x81, 0x00, 0, 12], &ethertype.to_be_bytes(), packet].concat()
}

/// A UDP datagram without checksum (RFC 768 allows that) from port 5000 of [`PEER_V4`] to port 7 of [`ENGINE_V4`].
fn datagram(payload: &[u8]) -> Vec<u8> {
    let [total, udp] = [28, 8].map(|header| u16::try_from(header + payload.len()).expect("fits").to_be_bytes());
    let mut ip = [&[0x45, 0][..], &total, &[0, 1, 0, 0, 64, 17, 0, 0], &PEER_V4.octets(), &ENGINE_V4.octets()].concat();
    let sum: u32 = ip.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("one carry");
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&ip[..], &5000u16.to_be_bytes(), &7u16.to_be_bytes(), &udp, &[0, 0], payload].concat()
}

/// By hand: not every kernel has VLAN interfaces.
#[test]
fn vlan_frames_carry_their_tag() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration("vlan = 12\n", ECHO)).expect("appliance");
    let wire = PacketSocket::open(&topology.peer, PEER_INTERFACE).expect("packet socket");

    let question = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &PEER_MAC, &PEER_V4.octets(), &[0; 6], &ENGINE_V4.octets()].concat();
    wire.send(&tagged(BROADCAST, 0x0806, &question)).expect("send");
    let answer =
        [&[0, 1, 8, 0, 6, 4, 0, 2][..], &ENGINE_MAC, &ENGINE_V4.octets(), &PEER_MAC, &PEER_V4.octets()].concat();
    let header = [&PEER_MAC[..], &ENGINE_MAC, &[0x81, 0x00]].concat();
    let is_ours = |frame: &[u8]| frame.starts_with(&header) && frame[15] == 12;
    let frame = wire.receive(TIMEOUT, |frame| is_ours(frame) && frame[16..18] == [8, 6]).expect("an ARP reply");
    assert_eq!(frame[18..46], answer);

    let payload = pattern(200, 12);
    wire.send(&tagged(ENGINE_MAC, 0x0800, &datagram(&payload))).expect("send");
    wire.receive(TIMEOUT, |frame| is_ours(frame) && frame[16..18] == [8, 0] && frame.ends_with(&payload))
        .expect("an echo");

    assert_eq!(topology.peer.ping(ENGINE_V4.into(), 1, 56).expect("ping").received, 0, "untagged is not its VLAN's");
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(report.service(0, "sent").expect("sent"), 1);
    assert!(report.counter("drop_vlan").expect("counter") >= 1);
}
