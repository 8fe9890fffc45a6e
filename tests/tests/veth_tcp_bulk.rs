//! Content-checked streams between the engine and the Linux stack: all MTUs, lossy links, links that go down.

use std::{thread, time::Duration};

use framewire_tests::rig::{
    Appliance, Counting, ENGINE_V4, PEER_INTERFACE, PEER_V4, PREFIX_V4, Report, StreamExt, StreamLoad, Topology,
    TopologyBuilder, configuration, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(5);
/// A stream that stands still for so long is broken, however lossy the link.
const PATIENCE: Duration = Duration::from_secs(60);
const ECHO_PORT: u16 = 7;
const SINK_PORT: u16 = 9;
const SOURCE_PORT: u16 = 19;
/// Frames for a window of several megabytes both ways.
const MEMORY: &str = "rings = { rx = 2048, tx = 2048 }\nframes = 16384\n";
const MIB: u64 = 1 << 20;

/// The kernel's congestion control is pinned: what a machine has besides differs.
fn topology() -> TopologyBuilder {
    Topology::builder().congestion_control("reno")
}

/// An echo, a sink that compares and a source that counts to `source_bytes`.
fn services(source_bytes: u64) -> String {
    format!(
        "[[service]]\nkind = \"tcp-echo\"\nlisten = \"{ENGINE_V4}:{ECHO_PORT}\"\n\
         [[service]]\nkind = \"tcp-sink\"\nlisten = \"{ENGINE_V4}:{SINK_PORT}\"\nverify = true\n\
         [[service]]\nkind = \"tcp-source\"\nlisten = \"{ENGINE_V4}:{SOURCE_PORT}\"\npattern = \"count\"\nbytes = {source_bytes}\n"
    )
}

/// Runs `echo_bytes` through the echo, and `one_way_bytes` each way through sink and source, after one another.
fn transfer(topology: &Topology, echo_bytes: u64, one_way_bytes: u64) {
    let connect = |port| {
        let stream = topology.peer.tcp_connect((ENGINE_V4, port), TIMEOUT).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
    };
    let mut took = vec![connect(ECHO_PORT).echo(&Counting::new(1 << 40), echo_bytes).expect("echo")];

    let begun = std::time::Instant::now();
    let sink = connect(SINK_PORT);
    sink.write_counting(&mut Counting::new(0), one_way_bytes).expect("sink");
    sink.shutdown(std::net::Shutdown::Write).expect("shutdown");
    // The sink closes when it has everything.
    assert_eq!(sink.read_counting_to_end(&mut Counting::new(0)).expect("end"), 0);
    took.push(begun.elapsed());

    let begun = std::time::Instant::now();
    let came = connect(SOURCE_PORT).read_counting_to_end(&mut Counting::new(0)).expect("source");
    assert_eq!(came, one_way_bytes);
    took.push(begun.elapsed());
    println!("{echo_bytes} bytes to and fro, {one_way_bytes} to the engine, as many from it: {took:?}");
}

/// What the services counted of [`transfer`].
fn check_counts(report: &Report, echo_bytes: u64, one_way_bytes: u64) {
    report.check().expect("clean: 0 bytes copied, ledger whole");
    let count = |service, name| report.service(service, name).expect(name);
    assert_eq!((count(0, "received_payload_bytes"), count(0, "sent_payload_bytes")), (echo_bytes, echo_bytes));
    assert_eq!((count(1, "received_payload_bytes"), count(1, "mismatched_bytes")), (one_way_bytes, 0));
    assert_eq!(count(2, "sent_payload_bytes"), one_way_bytes);
    for service in 0..3 {
        assert_eq!((count(service, "connections_accepted"), count(service, "connections_closed")), (1, 1));
        assert_eq!(count(service, "connections_failed"), 0, "service {service}");
    }
    let total = |name| report.counter(name).expect(name);
    assert_eq!(total("tcp_rx_payload_bytes"), echo_bytes + one_way_bytes);
    assert_eq!(total("tcp_tx_payload_bytes"), echo_bytes + one_way_bytes);
    assert_eq!(total("tcp_connections_accepted"), 3);
    // An acknowledgment of our FIN that comes twice finds nothing any more, and is reset (RFC 9293 section 3.10.7.1).
    assert!(total("tcp_resets_sent") <= 3);
}

/// Bulk at an MTU, over a link that loses nothing by itself.
fn bulk(mtu: u32, echo_bytes: u64, one_way_bytes: u64) {
    if !require_root() {
        return;
    }
    let topology = topology().mtu(mtu).build().expect("topology");
    let appliance =
        Appliance::start(&topology.engine, &configuration(MEMORY, &services(one_way_bytes))).expect("appliance");
    transfer(&topology, echo_bytes, one_way_bytes);
    let report = appliance.stop().expect("stop");
    check_counts(&report, echo_bytes, one_way_bytes);
    report.drops_only_beside_repeats(&topology.peer, &[]).expect("no drop");
    let segments = report.counter("tcp_tx_segments").expect("segments");
    assert!(segments >= (echo_bytes + one_way_bytes).div_ceil(u64::from(mtu) - 40), "{segments} segments at MTU {mtu}");
}

#[test]
fn streams_keep_every_byte_at_mtu_1500() {
    bulk(1500, 64 * MIB, 64 * MIB);
}

#[test]
fn streams_keep_every_byte_at_mtu_3498() {
    bulk(3498, 32 * MIB, 32 * MIB);
}

#[test]
fn streams_keep_every_byte_at_mtu_9000() {
    bulk(9000, 64 * MIB, 64 * MIB);
}

/// An odd number of bytes, single bytes, and lengths around a segment: each on a connection of its own.
#[test]
fn short_streams_of_every_length_come_back() {
    if !require_root() {
        return;
    }
    let topology = topology().build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration("", &services(1))).expect("appliance");
    let lengths: Vec<u64> = (0..=64).chain(1440..=1465).chain([2895, 2896, 2897, 65_535, 65_536, 65_537]).collect();
    for &len in &lengths {
        let stream = topology.peer.tcp_connect((ENGINE_V4, ECHO_PORT), TIMEOUT).expect("connect");
        stream.set_read_timeout(Some(TIMEOUT)).expect("timeout");
        stream.echo(&Counting::new(len), len).unwrap_or_else(|error| panic!("{len} bytes: {error:#}"));
    }
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    report.drops_only_beside_repeats(&topology.peer, &[]).expect("no drop");
    assert_eq!(report.service(0, "connections_closed").expect("closed"), lengths.len() as u64);
    assert_eq!(report.service(0, "sent_payload_bytes").expect("bytes"), lengths.iter().sum::<u64>());
}

#[test]
fn twenty_streams_at_once_are_not_mixed_up() {
    if !require_root() {
        return;
    }
    const STREAMS: u64 = 20;
    let topology = topology().build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration(MEMORY, &services(1))).expect("appliance");
    thread::scope(|scope| {
        for number in 0..STREAMS {
            let stream = topology.peer.tcp_connect((ENGINE_V4, ECHO_PORT), TIMEOUT).expect("connect");
            stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
            scope.spawn(move || stream.echo(&Counting::new(number << 40), 2 * MIB + number).expect("echo"));
        }
    });
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    let bytes = (0..STREAMS).map(|number| 2 * MIB + number).sum::<u64>();
    assert_eq!(report.service(0, "sent_payload_bytes").expect("bytes"), bytes);
    assert_eq!(report.service(0, "connections_failed").expect("failed"), 0);
}

/// The engine connects: to the kernel's own listener.
#[test]
fn a_source_delivers_to_a_kernel_server() {
    if !require_root() {
        return;
    }
    const BYTES: u64 = 16 * MIB;
    let topology = topology().build().expect("topology");
    let listener = topology.peer.tcp_listen((PEER_V4, 5001)).expect("listen");
    let source = format!(
        "[[service]]\nkind = \"tcp-source\"\ndestination = \"{PEER_V4}:5001\"\nconnections = 3\npattern = \"count\"\nbytes = {BYTES}\n"
    );
    let appliance = Appliance::start(&topology.engine, &configuration(MEMORY, &source)).expect("appliance");
    thread::scope(|scope| {
        for _ in 0..3 {
            let (stream, from) = listener.accept().expect("accept");
            assert_eq!(from.ip(), ENGINE_V4);
            stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
            scope.spawn(move || {
                assert_eq!(stream.read_counting_to_end(&mut Counting::new(0)).expect("source"), BYTES);
            });
        }
    });
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    report.drops_only_beside_repeats(&topology.peer, &[]).expect("no drop");
    let count = |name| report.service(0, name).expect(name);
    assert_eq!((count("connections_made"), count("completed"), count("connections_failed")), (3, 1, 0));
    assert_eq!(report.counter("tcp_connections_opened").expect("opened"), 3);
}

/// Both directions over a link that loses this part of all packets both ways.
fn lossy(percent: u32, echo_bytes: u64, one_way_bytes: u64) {
    if !require_root() {
        return;
    }
    let topology = topology().build().expect("topology");
    // The kernel waits at least 200 ms for an acknowledgment unless its route says otherwise, and doubles that up to two minutes: with so much
    // loss the test would be about that. Kernels before 6.15 know no other upper limit.
    let _ = topology.peer.sysctl("net.ipv4.tcp_rto_max_ms", "1000");
    let network = format!("{}/{PREFIX_V4}", std::net::Ipv4Addr::new(10, 77, 0, 0));
    let route = ["route", "change", &network, "dev", PEER_INTERFACE, "src", &PEER_V4.to_string(), "rto_min", "10ms"];
    topology.peer.ip(&route).expect("route");
    let rate = f64::from(percent) / 100.0;
    let faults = format!("[faults]\nseed = {percent}\n[faults.rx]\ndrop = {rate}\n[faults.tx]\ndrop = {rate}\n");
    let rest = services(one_way_bytes) + &faults + "[tcp]\nrto_min_ms = 10\n";
    let appliance = Appliance::start(&topology.engine, &configuration(MEMORY, &rest)).expect("appliance");
    transfer(&topology, echo_bytes, one_way_bytes);
    let report = appliance.stop().expect("stop");
    check_counts(&report, echo_bytes, one_way_bytes);
    assert!(report.counter("tcp_retransmissions").expect("counter") > 0);
    assert!(report.counter("tcp_out_of_order").expect("counter") > 0);
}

#[test]
fn streams_survive_a_loss_of_1_percent() {
    lossy(1, 16 * MIB, 16 * MIB);
}

#[test]
fn streams_survive_a_loss_of_5_percent() {
    lossy(5, 4 * MIB, 4 * MIB);
}

#[test]
fn streams_survive_a_loss_of_20_percent() {
    lossy(20, MIB / 4, MIB / 16);
}

/// Bits flip, packets come twice, late and cut: never a wrong byte.
#[test]
fn streams_survive_every_fault_at_once() {
    if !require_root() {
        return;
    }
    let topology = topology().build().expect("topology");
    let rates = "drop = 0.005\nduplicate = 0.01\nreorder = 0.01\ncorrupt = 0.005\ntruncate = 0.005\ndelay = 0.01\ndelay_max_us = 2000\n";
    let rest = services(4 * MIB) + &format!("[faults]\nseed = 3\n[faults.rx]\n{rates}[faults.tx]\n{rates}");
    let appliance = Appliance::start(&topology.engine, &configuration(MEMORY, &rest)).expect("appliance");
    transfer(&topology, 4 * MIB, 4 * MIB);
    let report = appliance.stop().expect("stop");
    check_counts(&report, 4 * MIB, 4 * MIB);
    assert!(report.counter("drop_tcp_checksum").expect("counter") > 0, "a flipped bit was taken");
    for fault in ["dropped", "duplicated", "reordered", "corrupted", "truncated", "delayed"] {
        for direction in ["rx", "tx"] {
            assert!(report.port(&format!("fault_{direction}_{fault}")).expect("counter") > 0, "{direction} {fault}");
        }
    }
}

#[test]
fn a_stream_goes_on_when_the_link_comes_back() {
    if !require_root() {
        return;
    }
    let topology = topology().build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration(MEMORY, &services(1))).expect("appliance");
    let load = StreamLoad::start(&topology.peer, (ENGINE_V4, ECHO_PORT), 5).expect("load");
    load.wait_for(MIB, TIMEOUT).expect("load");
    for turn in 0..3 {
        topology.set_engine_link(false).expect("down");
        thread::sleep(Duration::from_millis(500));
        let stalled = load.compared_bytes();
        thread::sleep(Duration::from_millis(100));
        assert_eq!(load.compared_bytes(), stalled, "bytes over a link that is down");
        topology.set_engine_link(true).expect("up");
        load.wait_for(4 * MIB, Duration::from_secs(6)).unwrap_or_else(|error| panic!("turn {turn}: {error}"));
    }
    let bytes = load.finish().expect("every byte came back");
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(report.service(0, "sent_payload_bytes").expect("bytes"), bytes);
    let count = |name| report.service(0, name).expect(name);
    assert_eq!((count("connections_accepted"), count("connections_failed")), (1, 0), "the same connection");
}
