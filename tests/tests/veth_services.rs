//! Sink, source, reflector, capture file.

use std::{fs, process::Command, thread, time::Duration};

use framewire_tests::rig::{
    Appliance, ECHO, ENGINE_MAC, ENGINE_V4, PEER_INTERFACE, PEER_MAC, PEER_V4, PacketSocket, TempDir, Topology,
    UdpClient, configuration, pattern, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(2);
/// What a udp-source writes in front: sequence number and time.
const SOURCE_HEADER_BYTES: usize = 16;

#[test]
fn a_sink_counts_and_watches_the_sequence() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let sink = "[[service]]\nkind = \"udp-sink\"\nlisten = \"10.77.0.1:9\"\nsequence = true\n";
    let appliance = Appliance::start(&topology.engine, &configuration("", sink)).expect("appliance");
    let client = UdpClient::connect(&topology.peer, (ENGINE_V4, 9)).expect("connect");
    // 3 and 4 are missing, 2 comes again, and one has no number.
    for number in [0u64, 1, 2, 5, 2, 6] {
        client.send(&[&number.to_be_bytes()[..], &pattern(92, 1)].concat()).expect("send");
    }
    client.send(b"short").expect("send");
    // The answer to a ping behind them: they have been handled.
    assert_eq!(topology.peer.ping(ENGINE_V4.into(), 1, 56).expect("ping").received, 1);
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    let count = |name| report.service(0, name).expect("count");
    assert_eq!((count("received"), count("received_payload_bytes")), (7, 605));
    assert_eq!((count("sequence_missing"), count("sequence_late"), count("sequence_absent")), (2, 1, 1));
}

#[test]
fn a_source_keeps_its_rate() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let sink = topology.peer.udp_sink((PEER_V4, 9), TIMEOUT).expect("sink");
    let source = "[[service]]\nkind = \"udp-source\"\ndestination = \"10.77.0.2:9\"\nlocal = \"10.77.0.1:900\"\n\
                  payload_bytes = 1472\nrate_pps = 5000\ncount = 5000\n";
    let appliance = Appliance::start(&topology.engine, &configuration("", source)).expect("appliance");
    let mut datagram = [0xff; 2048];
    let mut sent_at_ns = Vec::new();
    for expected in 0..5000u64 {
        let (len, from) = sink.recv_from(&mut datagram).expect("a datagram");
        assert_eq!((len, from), (1472, (ENGINE_V4, 900).into()));
        assert_eq!(datagram[..8], expected.to_be_bytes());
        assert!(datagram[SOURCE_HEADER_BYTES..len].iter().all(|&byte| byte == 0), "another packet's bytes");
        sent_at_ns.push(u64::from_be_bytes(datagram[8..16].try_into().expect("eight bytes")));
    }
    assert!(sent_at_ns.is_sorted());
    let seconds = (sent_at_ns[4999] - sent_at_ns[0]) as f64 / 1e9;
    // On a busy machine it may fall behind; it must never run ahead.
    assert!((0.95..5.0).contains(&seconds), "5,000 at 5,000 a second took {seconds} s");
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(report.service(0, "sent").expect("sent"), 5000);
    assert_eq!(report.service(0, "sent_payload_bytes").expect("bytes"), 5000 * 1472);
}

/// Contiguous buffers of 64 KiB: headers go in front of each fragment, the payload stays where the application wrote it.
fn large_buffers(mtu: u32) {
    if !require_root() {
        return;
    }
    const PAYLOAD_BYTES: usize = 65_507;
    const COUNT: u64 = 50;
    let topology = Topology::builder().mtu(mtu).build().expect("topology");
    let sink = topology.peer.udp_sink((PEER_V4, 9), TIMEOUT).expect("sink");
    let source = format!(
        "[[service]]\nkind = \"udp-source\"\ndestination = \"10.77.0.2:9\"\npayload_bytes = {PAYLOAD_BYTES}\n\
         rate_pps = 100\ncount = {COUNT}\n"
    );
    let interface = "frames = 8192\nrun_frames = 4352\nmulti_buffer = \"always\"\n";
    let appliance = Appliance::start(&topology.engine, &configuration(interface, &source)).expect("appliance");
    let mut datagram = vec![0xff; 1 << 16];
    for expected in 0..COUNT {
        let (len, _) = sink.recv_from(&mut datagram).expect("a datagram");
        assert_eq!(len, PAYLOAD_BYTES);
        assert_eq!(datagram[..8], expected.to_be_bytes());
        assert!(datagram[SOURCE_HEADER_BYTES..len].iter().all(|&byte| byte == 0), "datagram {expected}");
    }
    let report = appliance.stop().expect("stop");
    report.check().expect("clean: 0 bytes copied, ledger whole");
    let per_datagram = (8 + PAYLOAD_BYTES as u64).div_ceil(u64::from(mtu - 20) / 8 * 8);
    assert_eq!(report.counter("fragments_sent").expect("counter"), COUNT * per_datagram);
    assert_eq!(report.drops().expect("drops"), 0, "{:#}", report.stats);
}

#[test]
fn large_buffers_leave_as_fragments() {
    large_buffers(1500);
}

#[test]
fn large_buffers_leave_as_fragments_of_several_pieces() {
    large_buffers(9000);
}

#[test]
fn a_reflector_swaps_addresses_and_touches_nothing_else() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let reflect = configuration("", "[[service]]\nkind = \"reflect\"\n");
    let appliance = Appliance::start(&topology.engine, &reflect).expect("appliance");
    let wire = PacketSocket::open(&topology.peer, PEER_INTERFACE).expect("packet socket");
    // 0x88b5 is for local experiments (IEEE 802): neither kernel looks into it.
    let frame =
        |to: [u8; 6], from: [u8; 6], len: usize| [&to[..], &from, &[0x88, 0xb5], &pattern(len, len as u64)].concat();
    for len in [46, 47, 64, 500, 1499, 1500] {
        wire.send(&frame(ENGINE_MAC, PEER_MAC, len)).expect("send");
        let expected = frame(PEER_MAC, ENGINE_MAC, len);
        wire.receive(TIMEOUT, |frame| frame == expected).unwrap_or_else(|e| panic!("{len} bytes: {e}"));
    }
    wire.send(&frame([0xff; 6], PEER_MAC, 46)).expect("send");
    wire.send(&frame(ENGINE_MAC, PEER_MAC, 48)).expect("send");
    wire.receive(TIMEOUT, |got| got == frame(PEER_MAC, ENGINE_MAC, 48)).expect("the one behind it");
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(report.service(0, "sent").expect("sent"), 7);
    assert!(report.service(0, "dropped_group").expect("count") >= 1);
}

#[test]
fn a_capture_file_holds_what_went_by() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let folder = TempDir::create().expect("folder");
    let file = folder.path().join("echo.pcapng");
    let capture = format!("{ECHO}[capture]\nfile = \"{}\"\n", file.display());
    let appliance = Appliance::start(&topology.engine, &configuration("", &capture)).expect("appliance");
    let client = UdpClient::connect(&topology.peer, (ENGINE_V4, 7)).expect("connect");
    for number in 0..50 {
        client.exchange(&pattern(300, number), TIMEOUT).expect("echo");
    }
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");

    let bytes = fs::read(&file).expect("the capture");
    let packets = captured_packets(&bytes);
    let frames = report.port("rx_packets").expect("rx") + report.port("tx_packets").expect("tx");
    assert_eq!(packets.len() as u64, frames);
    let count = |name| report.port(name).expect(name);
    assert_eq!((count("captured"), count("capture_dropped"), count("capture_failed")), (frames, 0, 0));
    for number in 0..50 {
        let payload = pattern(300, number);
        let with = packets.iter().filter(|packet| packet.ends_with(&payload)).count();
        assert_eq!(with, 2, "datagram {number}, in and out");
    }
}

/// The packets of a pcapng file (draft-ietf-opsawg-pcapng), little-endian; every block's two lengths are compared.
fn captured_packets(file: &[u8]) -> Vec<&[u8]> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes")) as usize;
    assert_eq!((word(0), word(8)), (0x0a0d_0d0a, 0x1a2b_3c4d), "a section header block comes first");
    let (mut at, mut packets, mut interfaces) = (0, Vec::new(), 0);
    while at < file.len() {
        let (kind, len) = (word(at), word(at + 4));
        assert!(len >= 12 && len % 4 == 0 && at + len <= file.len(), "block at {at}: length {len}");
        assert_eq!(word(at + len - 4), len, "block at {at}");
        match kind {
            1 => {
                assert_eq!(word(at + 8) & 0xffff, 1, "LINKTYPE_ETHERNET");
                interfaces += 1;
            }
            6 => {
                assert!(word(at + 8) < interfaces);
                packets.push(&file[at + 28..at + 28 + word(at + 20)]);
            }
            _ => {}
        }
        at += len;
    }
    packets
}

#[test]
fn counters_can_be_asked_for_meanwhile() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let config = configuration("", &format!("{ECHO}[log]\nsummary_s = 1\n[worker]\nstage_histograms = true\n"));
    let appliance = Appliance::start(&topology.engine, &config).expect("appliance");
    let client = UdpClient::connect(&topology.peer, (ENGINE_V4, 7)).expect("connect");
    for number in 0..20 {
        client.exchange(&pattern(100, number), TIMEOUT).expect("echo");
    }
    let pid = appliance.process().pid().to_string();
    assert!(Command::new("kill").args(["-USR1", &pid]).status().expect("kill").success());
    let line = appliance.process().wait_for("udp_rx_datagrams", TIMEOUT).expect("the counters");
    assert!(line.contains(" 20 "), "{line}");
    appliance.process().wait_for("packets/s", TIMEOUT).expect("a summary every second");
    thread::sleep(Duration::from_millis(100));
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    let stages = report.stats["workers"][0]["stages"].as_array().expect("stages");
    assert!(stages.iter().any(|stage| stage["stage"] == "ingress" && stage["count"].as_u64() > Some(0)), "{stages:?}");
}
