//! An address that the kernel has too: `steering = "shared"`.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use framewire_tests::rig::{
    Appliance, ENGINE_INTERFACE, HOST_V4, PEER_V4, PREFIX_V4, Topology, UdpClient, configuration, pattern, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(2);

/// A configuration with these services on the kernel's address.
fn shared(services: &str) -> String {
    configuration(&format!("addresses = [\"{HOST_V4}/{PREFIX_V4}\"]\nsteering = \"shared\"\n"), services)
}

fn local(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(HOST_V4, port)
}

#[test]
fn the_engine_has_its_ports_and_the_kernel_all_else() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().host_address().build().expect("topology");
    let services = format!(
        "[[service]]\nkind = \"udp-echo\"\nlisten = \"{}\"\n[[service]]\nkind = \"tcp-echo\"\nlisten = \"{}\"\n",
        local(7),
        local(7)
    );
    let appliance = Appliance::start(&topology.engine, &shared(&services)).expect("appliance");
    let kernels = topology.engine.udp((HOST_V4, 8)).expect("a kernel socket");
    kernels.set_read_timeout(Some(TIMEOUT)).expect("timeout");
    let listener = topology.engine.tcp_listen((HOST_V4, 22)).expect("a kernel listener");

    let (ours, others) =
        (UdpClient::connect(&topology.peer, local(7)).expect("connect"), topology.peer.udp((PEER_V4, 0)));
    let others = others.expect("bind");
    for turn in 0..20 {
        ours.exchange(&pattern(700, turn), TIMEOUT).expect("the engine's echo");
        others.send_to(&pattern(700, turn), local(8)).expect("send");
        let mut datagram = [0; 2048];
        let (len, _) = kernels.recv_from(&mut datagram).expect("the kernel's datagram");
        assert_eq!(datagram[..len], pattern(700, turn));
    }
    // Answers to the kernel's own questions are the kernel's.
    let report = topology.peer.ping(HOST_V4.into(), 3, 56).expect("ping");
    assert_eq!((report.sent, report.received), (3, 3), "the kernel answers");
    drop(topology.peer.tcp_connect(local(22), TIMEOUT).expect("the kernel's connection"));
    listener.accept().expect("accepted");
    drop(topology.peer.tcp_connect(local(7), TIMEOUT).expect("the engine's connection"));

    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(report.service(0, "received").expect("received"), 20);
    assert_eq!(report.service(1, "connections_accepted").expect("accepted"), 1);
    assert_eq!(report.counter("icmp_echo_replies").expect("counter"), 0);
}

#[test]
fn the_engine_finds_those_who_never_spoke_to_it() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().host_address().build().expect("topology");
    let sink = topology.peer.udp_sink((PEER_V4, 9), TIMEOUT).expect("sink");
    let services = format!(
        "[[service]]\nkind = \"udp-source\"\nlocal = \"{}\"\ndestination = \"{PEER_V4}:9\"\ncount = 100\nrate_pps = 1_000\n",
        local(5000)
    );
    let appliance = Appliance::start(&topology.engine, &shared(&services)).expect("appliance");
    for expected in 0..100u64 {
        let mut datagram = [0; 2048];
        let (len, from) = sink.recv_from(&mut datagram).expect("a datagram");
        assert_eq!((len, from), (64, local(5000).into()));
        assert_eq!(datagram[..8], expected.to_be_bytes(), "also the first, which waited for the answer");
    }
    // What the engine has heard is not kept from the kernel any longer.
    for neighbour in [PEER_V4, Ipv4Addr::new(10, 77, 0, 99)] {
        topology.engine.ip(&["neighbour", "flush", "dev", ENGINE_INTERFACE]).expect("flush");
        let report = topology.engine.ping(neighbour.into(), 2, 56).expect("ping");
        assert_eq!(report.received, if neighbour == PEER_V4 { 2 } else { 0 });
    }
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(report.service(0, "sent").expect("sent"), 100);
    assert!(report.counter("arp_requests_sent").expect("counter") >= 1);
    assert!(report.verdict("redirected_neighbour").expect("verdict") >= 1, "the answer was let in");
}
