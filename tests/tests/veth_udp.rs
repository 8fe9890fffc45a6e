//! Ping and UDP echo, with the Linux stack asking.

use std::{io::ErrorKind, net::Ipv4Addr, time::Duration};

use framewire_tests::rig::{
    Appliance, ECHO, ENGINE_V4, NetNs, Topology, UdpClient, configuration, error_of_protocol, pattern, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(2);
/// Payload of the largest UDP datagram in one Ethernet frame.
const FRAME_PAYLOAD_BYTES: usize = 1472;
/// Payload of the largest UDP datagram that IPv4 can carry.
const PAYLOAD_BYTES_MAX: usize = 65_507;
/// Room for a burst that comes while the worker has no core: each ring entry is a packet that the kernel need not drop.
const DEEP_RINGS: &str = "rings = { rx = 2048 }\nframes = 16384\n";
/// A port that nobody has bound.
const UNBOUND_PORT: u16 = 4711;

fn connect(peer: &NetNs, port: u16) -> UdpClient {
    UdpClient::connect(peer, (ENGINE_V4, port)).expect("connect")
}

#[test]
fn a_flood_of_pings_is_answered() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration("", ECHO)).expect("appliance");
    let report = topology.peer.ping_flood(ENGINE_V4.into(), 10_000, 56).expect("ping");
    assert_eq!((report.sent, report.received), (10_000, 10_000));
    let large = topology.peer.ping_flood(ENGINE_V4.into(), 100, 60_000).expect("ping");
    assert_eq!((large.sent, large.received), (100, 100), "in 41 fragments each");
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(report.counter("icmp_echo_replies").expect("counter"), 10_100);
}

#[test]
fn datagrams_of_every_size_come_back_uncopied() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration("", ECHO)).expect("appliance");
    let client = connect(&topology.peer, 7);
    for len in 0..=FRAME_PAYLOAD_BYTES {
        client.exchange(&pattern(len, len as u64), TIMEOUT).expect("echo");
    }
    let report = appliance.stop().expect("stop");
    report.check().expect("clean: 0 bytes copied, ledger whole");
    let count = FRAME_PAYLOAD_BYTES as u64 + 1;
    assert_eq!(
        (report.service(0, "received").expect("received"), report.service(0, "sent").expect("sent")),
        (count, count)
    );
    let bytes = (0..count).sum::<u64>();
    assert_eq!(report.counter("udp_rx_payload_bytes").expect("counter"), bytes);
    assert_eq!(report.counter("udp_tx_payload_bytes").expect("counter"), bytes);
    assert_eq!(report.drops().expect("drops"), 0, "{:#}", report.stats);
}

/// Datagrams beyond a frame: as fragments, as frames of several pieces, and both.
fn big_datagrams(mtu: u32, sizes: &[usize]) {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().mtu(mtu).build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration("", ECHO)).expect("appliance");
    let client = connect(&topology.peer, 7);
    for &len in sizes {
        client.exchange(&pattern(len, len as u64), TIMEOUT).expect("echo");
    }
    let report = appliance.stop().expect("stop");
    report.check().expect("clean: 0 bytes copied, ledger whole");
    assert_eq!(report.service(0, "sent").expect("sent"), sizes.len() as u64);
    assert_eq!(report.drops().expect("drops"), 0, "{:#}", report.stats);
}

#[test]
fn big_datagrams_come_back_in_fragments() {
    big_datagrams(1500, &[1473, 1480, 2952, 2953, 4000, 4096, 8192, 20_000, 40_001, 65_506, PAYLOAD_BYTES_MAX]);
}

#[test]
fn big_datagrams_come_back_over_jumbo_frames() {
    let around_a_chunk = [3_500, 3_600, 3_700, 3_754, 3_755, 3_798, 3_799, 3_800, 3_801, 3_840, 3_841, 4_096, 4_097];
    let around_the_mtu = [8_000, 8_191, 8_192, 8_193, 8_971, 8_972, 8_973, 17_944, 30_000, 65_506, PAYLOAD_BYTES_MAX];
    big_datagrams(9000, &[&[0, 1, 64, 1472, 1473][..], &around_a_chunk, &around_the_mtu].concat());
}

#[test]
fn a_thousand_sockets_at_once() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration(DEEP_RINGS, ECHO)).expect("appliance");
    let clients: Vec<UdpClient> = (0..1000).map(|_| connect(&topology.peer, 7)).collect();
    // So that no datagram waits for ARP, where the kernel keeps few.
    clients[0].exchange(b"first", TIMEOUT).expect("echo");
    for turn in 0..3u64 {
        for (i, client) in clients.iter().enumerate() {
            client.send(&pattern(i, turn)).expect("send");
        }
        for (i, client) in clients.iter().enumerate() {
            assert_eq!(client.receive(TIMEOUT).expect("an answer"), pattern(i, turn), "socket {i}");
        }
    }
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(report.service(0, "sent").expect("sent"), 3001);
}

#[test]
fn as_many_services_as_there_may_be() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let ports: Vec<u16> = (0..64).map(|i| 7000 + i).collect();
    let services: String = ports.iter().map(|port| ECHO.replace(":7\"", &format!(":{port}\""))).collect();
    let appliance = Appliance::start(&topology.engine, &configuration("", &services)).expect("appliance");
    for &port in &ports {
        connect(&topology.peer, port).exchange(&pattern(100, port.into()), TIMEOUT).expect("echo");
    }
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    for service in 0..ports.len() {
        assert_eq!(report.service(service, "received").expect("received"), 1, "service {service}");
    }
}

#[test]
fn unreachable_ports_and_protocols_are_told() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration("", ECHO)).expect("appliance");
    let client = connect(&topology.peer, UNBOUND_PORT);
    client.send(b"anybody?").expect("send");
    let error = client.receive(TIMEOUT).expect_err("nobody listens there");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    // 253 is for experiments (RFC 3692): no stack has it.
    let error = error_of_protocol(&topology.peer, 253, ENGINE_V4, TIMEOUT).expect("an answer");
    assert_eq!(error.raw_os_error(), Some(92), "ENOPROTOOPT, not {error}");
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(report.counter("drop_udp_no_socket").expect("counter"), 1);
    assert_eq!(report.counter("drop_ip_protocol").expect("counter"), 1);
    assert_eq!(report.counter("icmp_errors_sent").expect("counter"), 2);
}

#[test]
fn unreachable_ports_are_told_at_a_bounded_rate() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration(DEEP_RINGS, ECHO)).expect("appliance");
    // So that no datagram waits for ARP, where the kernel keeps few.
    connect(&topology.peer, 7).exchange(b"before the scan", TIMEOUT).expect("echo");
    let scanner = topology.peer.udp((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
    for port in 10_000..11_500 {
        scanner.send_to(b"?", (ENGINE_V4, port)).expect("send");
    }
    connect(&topology.peer, 7).exchange(b"after the scan", TIMEOUT).expect("echo");
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    let sent = report.counter("icmp_errors_sent").expect("counter");
    let limited = report.counter("icmp_errors_limited").expect("counter");
    assert_eq!(report.counter("drop_udp_no_socket").expect("counter"), 1500);
    assert!(sent > 0 && limited > sent, "{sent} sent, {limited} not: RFC 1812 section 4.3.2.8 wants a limit");
}

/// What a peer with checksum offload on leaves in its packets is no checksum.
#[test]
fn half_checksums_are_taken_only_on_request() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().peer_checksum_offload().build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration("", ECHO)).expect("appliance");
    let client = connect(&topology.peer, 7);
    client.send(b"half a checksum").expect("send");
    client.receive(Duration::from_millis(300)).expect_err("a wrong checksum was taken for right");
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(report.counter("drop_udp_checksum").expect("counter"), 1);

    let partial = configuration("rx_checksum = \"partial\"\n", ECHO);
    let appliance = Appliance::start(&topology.engine, &partial).expect("appliance");
    for len in [0, 1, 2, 63, 64, 1471, 1472] {
        client.exchange(&pattern(len, 3), TIMEOUT).expect("echo");
    }
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(report.counter("checksums_partial_accepted").expect("counter"), 7);
    assert_eq!(report.counter("drop_udp_checksum").expect("counter"), 0);
}

/// Everything arrives in the end if 1 % of everything goes wrong both ways, and what goes wrong is never taken for right.
#[test]
fn a_bad_link_loses_packets_and_nothing_else() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let rates = "drop = 0.01\nduplicate = 0.01\nreorder = 0.01\ncorrupt = 0.01\ntruncate = 0.01\ndelay = 0.01\ndelay_max_us = 2000\n";
    let faults = format!("[faults]\nseed = 7\n[faults.rx]\n{rates}[faults.tx]\n{rates}");
    let appliance =
        Appliance::start(&topology.engine, &configuration("", &format!("{ECHO}{faults}"))).expect("appliance");
    let client = connect(&topology.peer, 7);
    let mut again = 0;
    for number in 0..2000u64 {
        let payload = [&number.to_be_bytes()[..], &pattern(number as usize % 1400, number)].concat();
        let mut tries = 0;
        'answered: loop {
            tries += 1;
            assert!(tries < 20, "datagram {number} never came back");
            client.send(&payload).expect("send");
            // What comes back late or twice is of an earlier number; the same number with other bytes would be a lie.
            while let Ok(answer) = client.receive(Duration::from_millis(20)) {
                if answer.starts_with(&number.to_be_bytes()) {
                    assert!(answer == payload, "datagram {number} came back changed");
                    break 'answered;
                }
            }
            again += 1;
        }
    }
    assert!(again > 0, "no fault in 4,000 packets");
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert!(report.drops().expect("drops") > 0);
}
