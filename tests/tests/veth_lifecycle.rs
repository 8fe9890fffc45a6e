//! The engine beside the kernel's own traffic, and every way in which it or its interface can go away.

use std::{
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};

use framewire_tests::rig::{
    Appliance, ECHO, ENGINE_INTERFACE, ENGINE_V4, EchoLoad, HOST_V4, LOAD_WINDOW, PEER_INTERFACE, PREFIX_V4, Topology,
    UdpClient, configuration, pattern, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(2);
/// How soon after a SIGKILL the kernel must have its traffic back.
const RECOVERY: Duration = Duration::from_secs(1);

/// Sends `blocks` blocks over TCP to the kernel beside the engine and compares what comes back.
fn tcp_conversation(topology: &Topology, blocks: u64) {
    let listener = topology.engine.tcp_listen((HOST_V4, 22)).expect("listen");
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        std::io::copy(&mut stream.try_clone().expect("clone"), &mut stream).expect("copy")
    });
    let mut stream = topology.peer.tcp_connect((HOST_V4, 22), TIMEOUT).expect("connect");
    stream.set_read_timeout(Some(TIMEOUT)).expect("timeout");
    for number in 0..blocks {
        let block = pattern(20_000, number);
        stream.write_all(&block).expect("write");
        let mut answer = vec![0; block.len()];
        stream.read_exact(&mut answer).expect("read");
        assert!(answer == block, "block {number}");
    }
    drop(stream);
    assert_eq!(echo.join().expect("echo"), 20_000 * blocks);
}

#[test]
fn the_kernels_own_traffic_is_untouched() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().host_address().build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration("", ECHO)).expect("appliance");
    let load = EchoLoad::start(&topology.peer, (ENGINE_V4, 7), 1472).expect("load");
    load.wait_for(1_000, TIMEOUT).expect("load");
    tcp_conversation(&topology, 300);
    assert_eq!(topology.peer.ping(HOST_V4.into(), 20, 1400).expect("ping").received, 20);
    load.wait_for(1_000, TIMEOUT).expect("the load still runs");
    drop(load);
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert!(report.verdict("passed_not_ours").expect("verdict") > 300);
    tcp_conversation(&topology, 10);
}

#[test]
fn a_killed_engine_leaves_the_interface_to_the_kernel() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().host_address().queues(2).build().expect("topology");
    let config = configuration("queues = 2\n", ECHO);
    let appliance = Appliance::start(&topology.engine, &config).expect("appliance");
    let load = EchoLoad::start(&topology.peer, (ENGINE_V4, 7), 512).expect("load");
    load.wait_for(1_000, TIMEOUT).expect("load");
    assert!(topology.has_xdp_program().expect("link show"));

    appliance.kill().expect("kill");
    let killed = Instant::now();
    while topology.has_xdp_program().expect("link show") {
        assert!(killed.elapsed() < RECOVERY, "the program is still attached after {:?}", killed.elapsed());
    }
    // Also what was the engine's a moment ago is the kernel's, if it has the address now.
    let address = format!("{ENGINE_V4}/{PREFIX_V4}");
    topology.engine.ip(&["address", "add", &address, "dev", ENGINE_INTERFACE]).expect("address");
    for target in [HOST_V4, ENGINE_V4] {
        assert_eq!(topology.peer.ping(target.into(), 1, 56).expect("ping").received, 1, "{target}");
    }
    assert!(killed.elapsed() < RECOVERY, "traffic flowed only after {:?}", killed.elapsed());
    topology.engine.ip(&["address", "del", &address, "dev", ENGINE_INTERFACE]).expect("address");

    let appliance = Appliance::start(&topology.engine, &config).expect("it starts again at once");
    load.wait_for(1_000, TIMEOUT).expect("and answers the same clients");
    drop(load);
    appliance.stop().expect("stop").check().expect("clean");
}

#[test]
fn stopping_under_load_is_clean() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let load = EchoLoad::start(&topology.peer, (ENGINE_V4, 7), 1000).expect("load");
    for _ in 0..3 {
        let appliance = Appliance::start(&topology.engine, &configuration("", ECHO)).expect("appliance");
        load.wait_for(500, TIMEOUT).expect("load");
        let begun = Instant::now();
        let report = appliance.stop().expect("stop");
        assert!(begun.elapsed() < TIMEOUT, "it took {:?} to stop", begun.elapsed());
        report.check().expect("clean under load");
        assert!(report.output.ends_with("stopped: all frames accounted for"), "{}", report.output);
        assert!(!topology.has_xdp_program().expect("link show"));
    }
}

#[test]
fn traffic_resumes_when_the_link_is_up_again() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration("", ECHO)).expect("appliance");
    let load = EchoLoad::start(&topology.peer, (ENGINE_V4, 7), 512).expect("load");
    load.wait_for(1_000, TIMEOUT).expect("load");
    for turn in 0..2 {
        topology.set_engine_link(false).expect("down");
        appliance.process().wait_for("fw0 is down", Duration::from_secs(3)).expect("it says so");
        let answered = load.answered();
        thread::sleep(Duration::from_millis(300));
        // What had come before may still wait for its reader.
        assert!(load.answered() <= answered + LOAD_WINDOW, "answers over a link that is down");
        topology.set_engine_link(true).expect("up");
        load.wait_for(1_000, Duration::from_secs(4)).unwrap_or_else(|error| panic!("turn {turn}: {error}"));
    }
    appliance.process().wait_for("fw0 is up again", Duration::from_secs(3)).expect("it says so");
    drop(load);
    appliance.stop().expect("stop").check().expect("clean");
}

#[test]
fn a_changed_mtu_is_told_and_breaks_nothing() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration("", ECHO)).expect("appliance");
    let client = UdpClient::connect(&topology.peer, (ENGINE_V4, 7)).expect("connect");
    for mtu in [9000, 1280, 1500] {
        topology.set_mtu(mtu).expect("mtu");
        let client = UdpClient::connect(&topology.peer, (ENGINE_V4, 7)).expect("connect");
        // At 1280 the engine's answers of up to 1500 bytes are too long for the other end: that is what the message is about.
        let sizes: &[usize] = if mtu == 1280 { &[0, 64, 1200] } else { &[0, 64, 1472, 3000, 9000, 30_000] };
        for &len in sizes {
            client.exchange(&pattern(len, mtu.into()), TIMEOUT).unwrap_or_else(|e| panic!("MTU {mtu}: {e:#}"));
        }
        if mtu != 1500 {
            let line = appliance.process().wait_for(&format!("MTU of fw0 is now {mtu}"), Duration::from_secs(3));
            let line = line.expect("it says so");
            assert!(line.contains("1500") && line.contains("restart"), "{line}");
        }
    }
    client.exchange(&pattern(1472, 1), TIMEOUT).expect("echo");
    appliance.stop().expect("stop").check().expect("clean");
}

#[test]
fn an_interface_that_goes_away_ends_the_engine() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration("", ECHO)).expect("appliance");
    let load = EchoLoad::start(&topology.peer, (ENGINE_V4, 7), 512).expect("load");
    load.wait_for(100, TIMEOUT).expect("load");
    topology.peer.ip(&["link", "delete", PEER_INTERFACE]).expect("delete");
    let report = appliance.wait().expect("it ends by itself");
    assert_eq!(report.status.code(), Some(1), "{}", report.output);
    assert!(report.output.contains("fw0 is gone"), "{}", report.output);
    assert_eq!(report.stats["ledger"]["whole"], true, "{:#}", report.stats);
}
