//! Frames that a device itself reads and writes: the appliance in a guest whose virtio-net driver has AF_XDP zero-copy, the Linux stack on the other
//! end of the wire. `scripts/vm-test` makes the guest's kernel and initramfs and runs these; each boots a guest of its own.

use std::{
    net::Shutdown,
    thread,
    time::{Duration, Instant},
};

use framewire_tests::rig::{
    Counting, ECHO, ENGINE_INTERFACE, ENGINE_MAC, ENGINE_V4, EchoLoad, Guest, NetNs, PEER_INTERFACE, PEER_MAC, PEER_V4,
    PREFIX_V4, Report, StreamExt, StreamLoad, UdpClient, Wire, configuration, guest_peer, pattern,
};

/// Everything is emulated, on cores that others use too.
const TIMEOUT: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(120);
const REQUIRED: &str = "zero_copy = \"required\"\n";
const MIB: u64 = 1 << 20;
/// Payload of the largest UDP datagram in one Ethernet frame, and of the largest that IPv4 can carry.
const FRAME_PAYLOAD_BYTES: usize = 1472;
const PAYLOAD_BYTES_MAX: usize = 65_507;
const ICMP_HEADER_BYTES: u64 = 8;

/// A `[[service]]` that listens for TCP: kind, port, and further lines.
fn tcp_service(kind: &str, port: u16, rest: &str) -> String {
    format!("[[service]]\nkind = \"{kind}\"\nlisten = \"{ENGINE_V4}:{port}\"\n{rest}")
}

fn boot(queues: u32) -> (NetNs, Guest) {
    let peer = guest_peer(queues).expect("a namespace with a tap");
    let begun = Instant::now();
    let guest = Guest::boot(&peer, queues).expect("a guest");
    println!("  a guest with {queues} queues is up after {:.1} s", begun.elapsed().as_secs_f64());
    (peer, guest)
}

/// Pings until `count` are answered, however late; returns how many were sent.
fn ping(peer: &NetNs, count: u32, size_bytes: u32) -> u64 {
    let report = peer.ping_until(ENGINE_V4.into(), count, size_bytes, TIMEOUT).expect("ping");
    assert!(report.received >= count, "{size_bytes} bytes: {report:?}");
    report.sent.into()
}

/// Whether the driver sends one descriptor a packet with zero-copy, as virtio-net does today.
fn one_descriptor(report: &Report) -> bool {
    report.stats["ports"][0]["tx_pieces_max"] == 1
}

/// What holds of every clean stop of a zero-copy engine. `copied_bytes`: payload that was too large for one packet, and had to be copied behind its headers
/// if a packet is one descriptor.
fn check(guest: &Guest, report: &Report, copied_bytes: u64) {
    for port in report.stats["ports"].as_array().expect("ports") {
        // The kernel's own account: getsockopt(XDP_OPTIONS).
        assert_eq!((&port["copy"], &port["driver"]), (&"zero-copy".into(), &"native".into()), "{}", report.output);
    }
    assert!(report.output.contains("zero-copy"), "{}", report.output);
    report.check_copying(if one_descriptor(report) { copied_bytes } else { 0 }).expect("clean: ledger whole");
    let console = guest.console();
    assert!(!["BUG:", "WARNING:", "Oops", "Call Trace"].iter().any(|word| console.contains(word)), "{console}");
}

#[test]
#[ignore = "needs a guest: scripts/vm-test"]
fn pings_and_datagrams_of_every_size_come_back() {
    let (peer, guest) = boot(1);
    let appliance = guest.start_appliance(&configuration(REQUIRED, ECHO)).expect("appliance");
    println!("  {}", appliance.output().replace('\n', "\n  "));
    let pings = ping(&peer, 200, 56) + ping(&peer, 20, FRAME_PAYLOAD_BYTES as u32);
    let client = UdpClient::connect(&peer, (ENGINE_V4, 7)).expect("connect");
    let sizes: Vec<usize> = (0..=FRAME_PAYLOAD_BYTES).step_by(7).chain([1471, FRAME_PAYLOAD_BYTES]).collect();
    for &len in &sizes {
        client.exchange(&pattern(len, len as u64), TIMEOUT).expect("echo");
    }
    let load = EchoLoad::start(&peer, (ENGINE_V4, 7), 64).expect("load");
    load.wait_for(2_000, TIMEOUT).expect("a window of datagrams at once");
    drop(load);
    let report = appliance.stop().expect("stop");
    check(&guest, &report, 0);
    assert_eq!(report.drops().expect("drops"), 0, "{:#}", report.stats);
    assert_eq!(report.counter("icmp_echo_replies").expect("counter"), pings, "late or not, none is lost");
    assert!(report.service(0, "sent").expect("sent") >= sizes.len() as u64 + 2_000);
}

#[test]
#[ignore = "needs a guest: scripts/vm-test"]
fn buffers_of_64_kib_arrive_whole() {
    const COUNT: u64 = 20;
    let (peer, guest) = boot(1);
    let source = format!(
        "[[service]]\nkind = \"udp-source\"\ndestination = \"{PEER_V4}:9\"\npayload_bytes = {PAYLOAD_BYTES_MAX}\n\
         rate_pps = 10\ncount = {COUNT}\n"
    );
    let sink = peer.udp_sink((PEER_V4, 9), TIMEOUT).expect("sink");
    let memory = "frames = 8192\nrun_frames = 2176\n";
    let config = configuration(&format!("{REQUIRED}{memory}"), &format!("{ECHO}{source}"));
    let appliance = guest.start_appliance(&config).expect("appliance");
    let mut datagram = vec![0xff; 1 << 16];
    for expected in 0..COUNT {
        let (len, _) = sink.recv_from(&mut datagram).expect("a datagram");
        assert_eq!((len, &datagram[..8]), (PAYLOAD_BYTES_MAX, &expected.to_be_bytes()[..]));
        // Behind the sequence number and the time there is nothing but zeros.
        assert!(datagram[16..len].iter().all(|&byte| byte == 0), "datagram {expected}");
    }
    let (ping_bytes, sizes) = (60_000, [1473, 2953, 4096, 20_000, PAYLOAD_BYTES_MAX]);
    let pings = ping(&peer, 5, ping_bytes);
    let client = UdpClient::connect(&peer, (ENGINE_V4, 7)).expect("connect");
    for len in sizes {
        client.exchange(&pattern(len, len as u64), TIMEOUT).expect("echo");
    }
    let report = appliance.stop().expect("stop");
    let pinged = pings * (ICMP_HEADER_BYTES + u64::from(ping_bytes));
    let copied = (COUNT as usize * PAYLOAD_BYTES_MAX + sizes.iter().sum::<usize>()) as u64 + pinged;
    check(&guest, &report, copied);
    assert_eq!(report.drops().expect("drops"), 0, "{:#}", report.stats);

    // The same buffers on a stream. A segment that is sent again is copied again.
    const STREAM_BYTES: u64 = 16 * 65_536;
    let stream = format!("pattern = \"count\"\npayload_bytes = 65536\nbytes = {STREAM_BYTES}\n");
    let interface = format!("{REQUIRED}{memory}");
    let appliance =
        guest.start_appliance(&configuration(&interface, &tcp_service("tcp-source", 19, &stream))).expect("appliance");
    let stream = peer.tcp_connect((ENGINE_V4, 19), TIMEOUT).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    assert_eq!(stream.read_counting_to_end(&mut Counting::new(0)).expect("source"), STREAM_BYTES);
    let report = appliance.stop().expect("stop");
    let copied = report.counter("bytes_copied_tx").expect("counter");
    assert!(!one_descriptor(&report) || copied >= STREAM_BYTES, "{copied} bytes were copied");
    check(&guest, &report, copied);

    if one_descriptor(&report) {
        // A frame cannot hold the packets of this MTU, and the driver takes no second one.
        guest.run(&format!("ip link set {ENGINE_INTERFACE} mtu 9000")).expect("mtu");
        let refused = format!("{:#}", guest.start_appliance(&config).expect_err("one descriptor a packet"));
        let reasons = ["MTU 9000 of fw0", "no multi-buffer with zero-copy"];
        assert!(reasons.iter().all(|reason| refused.contains(reason)), "{refused}");
    }
}

#[test]
#[ignore = "needs a guest: scripts/vm-test"]
fn streams_keep_every_byte() {
    const BYTES: u64 = 8 * MIB;
    let (peer, guest) = boot(1);
    let services = tcp_service("tcp-echo", 7, "")
        + &tcp_service("tcp-sink", 9, "verify = true\n")
        + &tcp_service("tcp-source", 19, &format!("pattern = \"count\"\nbytes = {BYTES}\n"));
    let memory = "rings = { rx = 1024, tx = 1024 }\nframes = 8192\n";
    let appliance =
        guest.start_appliance(&configuration(&format!("{REQUIRED}{memory}"), &services)).expect("appliance");
    let connect = |port| {
        let stream = peer.tcp_connect((ENGINE_V4, port), TIMEOUT).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
    };
    let mut took = Vec::new();
    took.push(connect(7).echo(&Counting::new(1 << 40), BYTES / 2).expect("echo"));

    let begun = Instant::now();
    let sink = connect(9);
    sink.write_counting(&mut Counting::new(0), BYTES).expect("sink");
    sink.shutdown(Shutdown::Write).expect("shutdown");
    // The sink closes when it has everything.
    assert_eq!(sink.read_counting_to_end(&mut Counting::new(0)).expect("end"), 0);
    took.push(begun.elapsed());

    let begun = Instant::now();
    assert_eq!(connect(19).read_counting_to_end(&mut Counting::new(0)).expect("source"), BYTES);
    took.push(begun.elapsed());
    println!("  {} bytes to and fro, {BYTES} to the engine, as many from it: {took:?}", BYTES / 2);

    let report = appliance.stop().expect("stop");
    // On a busy machine windows close and losses are suspected. Either may cut a buffer in two, which are copied behind their headers.
    let cuts = ["tcp_window_probes", "tcp_tail_probes", "tcp_retransmissions"];
    let cuts: u64 = cuts.iter().map(|name| report.counter(name).expect(name)).sum();
    let copied = report.counter("bytes_copied_tx").expect("counter");
    assert!(copied <= cuts * FRAME_PAYLOAD_BYTES as u64, "{copied} bytes copied: {:#}", report.stats["totals"]);
    check(&guest, &report, copied);
    let count = |service, name| report.service(service, name).expect(name);
    assert_eq!((count(0, "received_payload_bytes"), count(0, "sent_payload_bytes")), (BYTES / 2, BYTES / 2));
    assert_eq!((count(1, "received_payload_bytes"), count(1, "mismatched_bytes")), (BYTES, 0));
    assert_eq!(count(2, "sent_payload_bytes"), BYTES);
    assert_eq!((0..3).map(|service| count(service, "connections_failed")).sum::<u64>(), 0);
}

#[test]
#[ignore = "needs a guest: scripts/vm-test"]
fn a_killed_engine_leaves_the_queue_and_starts_again() {
    let (peer, guest) = boot(1);
    let config = configuration(REQUIRED, &(ECHO.to_owned() + &tcp_service("tcp-echo", 7, "")));
    let load = EchoLoad::start(&peer, (ENGINE_V4, 7), 512).expect("load");
    for round in 0..3 {
        let appliance = guest.start_appliance(&config).expect("appliance");
        if let Err(error) = load.wait_for(200, TIMEOUT) {
            let peer = ["link", "neighbour"].map(|what| peer.ip(&["-s", what]).unwrap_or_default());
            panic!("start {round}: {error:#}; the peer:\n{}\nthe guest:\n{}", peer.join("\n"), appliance.state());
        }
        let stream = StreamLoad::start(&peer, (ENGINE_V4, 7), round << 40).expect("stream");
        stream.wait_for(MIB / 4, TIMEOUT).expect("bytes");
        // In the middle of both.
        appliance.kill().expect("kill");
    }
    drop(load);
    // The driver has its own frames again, and the kernel the interface.
    guest.run(&format!("ip address add {ENGINE_V4}/{PREFIX_V4} dev {ENGINE_INTERFACE}")).expect("address");
    ping(&peer, 20, 56);
    guest.run(&format!("ip address flush dev {ENGINE_INTERFACE}")).expect("address");
    for _ in 0..2 {
        let appliance = guest.start_appliance(&config).expect("appliance");
        let client = UdpClient::connect(&peer, (ENGINE_V4, 7)).expect("connect");
        client.exchange(&pattern(1000, 1), TIMEOUT).expect("echo");
        check(&guest, &appliance.stop().expect("stop"), 0);
    }
}

#[test]
#[ignore = "needs a guest: scripts/vm-test"]
fn polled_and_sleeping_sockets_answer() {
    let (peer, guest) = boot(1);
    for (what, interface, worker) in [
        ("busy polling", "busy_poll_us = 20\n", ""),
        ("sleeping", "", "[worker]\nidle = \"sleep\"\n"),
        ("frames of 4,096 bytes", "frame_bytes = 4096\n", ""),
        ("2 MiB pages", "", ""),
    ] {
        if what == "2 MiB pages" {
            guest.run("sysctl -w vm.nr_hugepages=8").expect("huge pages");
        }
        let config = configuration(&format!("{REQUIRED}{interface}"), &format!("{ECHO}{worker}"));
        let appliance = guest.start_appliance(&config).expect(what);
        assert_eq!(appliance.output().contains("on 2 MiB pages"), what == "2 MiB pages", "{}", appliance.output());
        let client = UdpClient::connect(&peer, (ENGINE_V4, 7)).expect("connect");
        for len in [0, 64, FRAME_PAYLOAD_BYTES] {
            client.exchange(&pattern(len, len as u64), TIMEOUT).unwrap_or_else(|error| panic!("{what}: {error:#}"));
        }
        let load = EchoLoad::start(&peer, (ENGINE_V4, 7), 64).expect("load");
        load.wait_for(500, TIMEOUT).unwrap_or_else(|error| panic!("{what}: {error:#}"));
        drop(load);
        let report = appliance.stop().expect("stop");
        check(&guest, &report, 0);
    }
}

#[test]
#[ignore = "needs a guest: scripts/vm-test"]
fn a_link_that_goes_down_comes_back() {
    let (peer, guest) = boot(1);
    let source = format!("[[service]]\nkind = \"udp-source\"\ndestination = \"{PEER_V4}:9\"\nrate_pps = 1000\n");
    let appliance = guest.start_appliance(&configuration(REQUIRED, &format!("{ECHO}{source}"))).expect("appliance");
    let client = UdpClient::connect(&peer, (ENGINE_V4, 7)).expect("connect");
    for round in 0..3 {
        client.exchange(&pattern(1000, round), TIMEOUT).expect("echo");
        guest.run(&format!("ip link set {ENGINE_INTERFACE} down; sleep 1")).expect("down");
        guest.run(&format!("ip link set {ENGINE_INTERFACE} up")).expect("up");
    }
    client.exchange(&pattern(1000, 4), TIMEOUT).expect("echo");
    check(&guest, &appliance.stop().expect("stop"), 0);
}

#[test]
#[ignore = "needs a guest: scripts/vm-test"]
fn two_queues_have_a_worker_each() {
    const FLOWS: usize = 64;
    let (peer, guest) = boot(2);
    let appliance = guest.start_appliance(&configuration(&format!("{REQUIRED}queues = 2\n"), ECHO)).expect("appliance");
    let clients: Vec<UdpClient> =
        (0..FLOWS).map(|_| UdpClient::connect(&peer, (ENGINE_V4, 7)).expect("connect")).collect();
    for (i, client) in clients.iter().enumerate() {
        client.exchange(&pattern(i, 1), TIMEOUT).unwrap_or_else(|error| panic!("flow {i}: {error:#}"));
    }
    let report = appliance.stop().expect("stop");
    check(&guest, &report, 0);
    let by_worker = report.by_worker("udp_rx_datagrams").expect("counters");
    assert!(by_worker.len() == 2 && by_worker.iter().all(|&count| count > 0), "{by_worker:?}");
}

/// Packets a second that come out of the tap, and that are echoed, with this interface configuration.
fn rates(peer: &NetNs, guest: &Guest, interface: &str) -> (f64, f64, Report) {
    const PERIOD: Duration = Duration::from_secs(4);
    let source = format!("[[service]]\nkind = \"udp-source\"\ndestination = \"{PEER_V4}:9\"\npayload_bytes = 64\n");
    let appliance = guest.start_appliance(&configuration(interface, &source)).expect("appliance");
    let came = || peer.statistic(PEER_INTERFACE, "rx_packets").expect("statistic");
    let (before, begun) = (came(), Instant::now());
    thread::sleep(PERIOD);
    let sent = (came() - before) as f64 / begun.elapsed().as_secs_f64();
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert!(sent > 0.0, "{} packets were sent and none came", report.service(0, "sent").expect("sent"));

    let appliance = guest.start_appliance(&configuration(interface, ECHO)).expect("appliance");
    let load = EchoLoad::start(peer, (ENGINE_V4, 7), 64).expect("load");
    load.wait_for(1, TIMEOUT).expect("an answer");
    let (before, begun) = (load.answered(), Instant::now());
    thread::sleep(PERIOD);
    let echoed = (load.answered() - before) as f64 / begun.elapsed().as_secs_f64();
    drop(load);
    appliance.stop().expect("stop").check().expect("clean");
    (sent, echoed, report)
}

#[test]
#[ignore = "needs a guest: scripts/vm-test"]
fn packets_per_second_with_and_without_a_copy() {
    let (peer, guest) = boot(1);
    // Somebody listens: else every datagram would be answered with an error.
    let _sink = peer.udp((PEER_V4, 9)).expect("bind");
    for (what, interface) in [("zero-copy", REQUIRED), ("copy", "zero_copy = \"off\"\n")] {
        let (sent, echoed, report) = rates(&peer, &guest, interface);
        assert_eq!(report.stats["ports"][0]["copy"], what);
        println!("  {what:<10} udp-source {sent:>8.0} packets/s, udp-echo {echoed:>8.0} packets/s");
    }
    // Left to itself the engine does not trust this driver as a module.
    let report = guest.start_appliance(&configuration("", ECHO)).expect("appliance").stop().expect("stop");
    let port = &report.stats["ports"][0];
    assert_eq!(port["copy"], "copy");
    assert!(port["fallback"].as_str().is_some_and(|why| why.contains("virtio_net")), "{port}");
}

#[test]
#[ignore = "needs two guests: scripts/vm-test --two"]
fn two_guests_back_to_back() {
    const PORT: u16 = 4711;
    const BYTES: u64 = 4 * MIB;
    let wire = NetNs::create("wire").expect("a namespace");
    let server = Guest::boot_on(&wire, Wire::Listen(PORT), ENGINE_MAC).expect("a guest");
    let client = Guest::boot_on(&wire, Wire::Connect(PORT), PEER_MAC).expect("another guest");
    let services = format!("[[service]]\nkind = \"udp-sink\"\nlisten = \"{ENGINE_V4}:9\"\nsequence = true\n")
        + &tcp_service("tcp-sink", 9, "verify = true\n");
    let sinks = server.start_appliance(&configuration(REQUIRED, &services)).expect("sinks");
    let source = |service: &str| {
        format!(
            "[[interface]]\nname = \"{ENGINE_INTERFACE}\"\naddresses = [\"{PEER_V4}/{PREFIX_V4}\"]\n{REQUIRED}\
             [[service]]\ndestination = \"{ENGINE_V4}:9\"\n{service}"
        )
    };
    // One after the other: a stream's burst may fill the receiver's RX ring, and a datagram is not sent again.
    let datagrams = "kind = \"udp-source\"\npayload_bytes = 1000\nrate_pps = 200\ncount = 600\n";
    let sources = client.start_appliance(&source(datagrams)).expect("udp-source");
    sinks.wait_for_counter("received", "600", PATIENCE).expect("datagrams");
    let sent = sources.stop().expect("stop");
    check(&client, &sent, 0);
    assert_eq!(sent.service(0, "sent").expect("sent"), 600);

    let stream = format!("kind = \"tcp-source\"\npattern = \"count\"\nbytes = {BYTES}\n");
    let sources = client.start_appliance(&source(&stream)).expect("tcp-source");
    sinks.wait_for_counter("received_payload_bytes", "4,194,304", PATIENCE).expect("a stream");
    check(&client, &sources.stop().expect("stop"), 0);

    let received = sinks.stop().expect("stop");
    check(&server, &received, 0);
    assert_eq!(received.service(0, "received").expect("received"), 600);
    assert_eq!(received.service(0, "sequence_missing").expect("missing"), 0);
    assert_eq!(received.service(1, "received_payload_bytes").expect("received"), BYTES);
    assert_eq!(received.service(1, "mismatched_bytes").expect("mismatched"), 0);
}
