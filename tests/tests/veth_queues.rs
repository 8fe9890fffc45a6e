//! Several queues, each with a worker of its own.

use std::time::Duration;

use framewire_tests::rig::{
    Appliance, Counting, ECHO, ENGINE_INTERFACE, ENGINE_V4, EchoLoad, PEER_V4, Report, StreamExt, Topology, UdpClient,
    configuration, pattern, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(2);
/// Enough that a hash which leaves a queue of four without any is broken: (3/4)^256 is 10^-32.
const FLOWS: usize = 256;

fn echo_over_queues(queues: u32) -> Option<Report> {
    if !require_root() {
        return None;
    }
    let topology = Topology::builder().queues(queues).build().expect("topology");
    let config = configuration(&format!("queues = {queues}\n"), ECHO);
    let appliance = Appliance::start(&topology.engine, &config).expect("appliance");
    let clients: Vec<UdpClient> =
        (0..FLOWS).map(|_| UdpClient::connect(&topology.peer, (ENGINE_V4, 7)).expect("connect")).collect();
    // So that no datagram waits for ARP, where the kernel keeps few.
    clients[0].exchange(b"first", TIMEOUT).expect("echo");
    for turn in 0..4u64 {
        for (i, client) in clients.iter().enumerate() {
            client.send(&pattern(i, turn)).expect("send");
        }
        for (i, client) in clients.iter().enumerate() {
            let answer = client.receive(TIMEOUT).unwrap_or_else(|e| panic!("flow {i}, turn {turn}: {e}"));
            assert_eq!(answer, pattern(i, turn), "flow {i}");
        }
    }
    // More than a frame: the first fragment alone has ports, all must find the same worker.
    for client in &clients[..16] {
        client.exchange(&pattern(5000, 5), TIMEOUT).expect("echo in fragments");
    }
    assert_eq!(topology.peer.ping_flood(ENGINE_V4.into(), 1_000, 56).expect("ping").received, 1_000);
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(report.service(0, "sent").expect("sent"), 4 * FLOWS as u64 + 17);
    Some(report)
}

#[test]
fn two_queues_share_the_flows() {
    let Some(report) = echo_over_queues(2) else { return };
    let by_worker = report.by_worker("udp_rx_datagrams").expect("counters");
    assert!(by_worker.len() == 2 && by_worker.iter().all(|&count| count > 100), "{by_worker:?}");
}

#[test]
fn four_queues_share_the_flows() {
    let Some(report) = echo_over_queues(4) else { return };
    let by_worker = report.by_worker("udp_rx_datagrams").expect("counters");
    assert!(by_worker.len() == 4 && by_worker.iter().all(|&count| count > 50), "{by_worker:?}");
}

#[test]
fn sources_on_all_queues_find_the_neighbour() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().queues(4).build().expect("topology");
    let sink = topology.peer.udp_sink((PEER_V4, 9), TIMEOUT).expect("sink");
    let source = "[[service]]\nkind = \"udp-source\"\ndestination = \"10.77.0.2:9\"\nrate_pps = 4000\ncount = 400\n";
    let appliance = Appliance::start(&topology.engine, &configuration("queues = 4\n", source)).expect("appliance");
    // All workers must get the answer to their question, on whatever queue it comes in.
    let mut senders = std::collections::HashMap::new();
    for _ in 0..400 {
        let mut datagram = [0; 128];
        let (_, from) = sink.recv_from(&mut datagram).unwrap_or_else(|e| panic!("{e}; so far: {senders:?}"));
        *senders.entry(from.port()).or_insert(0) += 1;
    }
    assert_eq!(senders.values().copied().collect::<Vec<u32>>(), [100; 4], "{senders:?}");
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(report.service(0, "completed").expect("completed"), 4);
}

/// The cores that the NAPI threads of the engine's interface may run on, `napi/NAME-NUMBER` each, and whether all have real-time priority.
fn napi_threads() -> (Vec<String>, bool) {
    let mut cores = Vec::new();
    let mut real_time = true;
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("comm").starts_with(&format!("napi/{ENGINE_INTERFACE}-")) {
            let allowed = read("status")
                .lines()
                .find_map(|line| Some(line.strip_prefix("Cpus_allowed_list:")?.trim().to_owned()));
            cores.extend(allowed);
            // Field 41 of proc_pid_stat(5): the policy, 1 for SCHED_FIFO.
            real_time &= read("stat").split_whitespace().nth(40) == Some("1");
        }
    }
    cores.sort();
    (cores, real_time)
}

#[test]
fn receive_work_in_threads_runs_on_the_workers_cores_and_leaves_with_the_engine() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().queues(2).build().expect("topology");
    let config = configuration("queues = 2\nnapi_threads = true\n", &format!("{ECHO}[worker]\ncores = [0, 1]\n"));
    let appliance = Appliance::start(&topology.engine, &config).expect("appliance");
    assert!(appliance.process().output().contains("NAPI thread"), "{}", appliance.process().output());
    assert_eq!(napi_threads(), (vec!["0".into(), "1".into()], true));
    let load = EchoLoad::start(&topology.peer, (ENGINE_V4, 7), 700).expect("load");
    load.wait_for(5_000, Duration::from_secs(5)).expect("answers");
    drop(load);
    appliance.stop().expect("stop").check().expect("clean");
    assert_eq!(napi_threads(), (vec![], true));

    // The kernel ends them too: they are the XDP program's NAPI, which goes with the process.
    let appliance = Appliance::start(&topology.engine, &config).expect("appliance");
    assert_eq!(napi_threads().0.len(), 2);
    appliance.kill().expect("kill");
    assert_eq!(napi_threads(), (vec![], true));
}

/// The answer to a connection that we open comes in on a queue that the kernel's hash chooses, most often another worker's.
#[test]
fn connections_that_we_open_find_their_worker() {
    if !require_root() {
        return;
    }
    const BYTES: u64 = 256 << 10;
    let topology = Topology::builder().queues(4).congestion_control("reno").build().expect("topology");
    let listener = topology.peer.tcp_listen((PEER_V4, 5001)).expect("listen");
    let source = format!(
        "[[service]]\nkind = \"tcp-source\"\ndestination = \"{PEER_V4}:5001\"\nconnections = 16\npattern = \"count\"\nbytes = {BYTES}\n"
    );
    let appliance = Appliance::start(&topology.engine, &configuration("queues = 4\n", &source)).expect("appliance");
    std::thread::scope(|scope| {
        for _ in 0..16 {
            let (stream, _) = listener.accept().expect("accept");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
            scope.spawn(move || {
                assert_eq!(stream.read_counting_to_end(&mut Counting::new(0)).expect("source"), BYTES);
            });
        }
    });
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    let counts = ["tcp_connections_opened", "tcp_resets_sent"].map(|name| report.counter(name).expect(name));
    assert_eq!(counts, [16, 0]);
    // (3/4)^16 of all runs would do without, one in a hundred; but a connection has several segments to come in wrong.
    assert!(report.counter("strays_handed_over").expect("counter") > 0);
}

#[test]
fn several_loads_over_several_queues() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().queues(2).build().expect("topology");
    let appliance = Appliance::start(&topology.engine, &configuration("queues = 2\n", ECHO)).expect("appliance");
    let loads: Vec<EchoLoad> =
        (0..4).map(|i| EchoLoad::start(&topology.peer, (ENGINE_V4, 7), 1 + 400 * i).expect("load")).collect();
    for load in &loads {
        load.wait_for(5_000, Duration::from_secs(5)).expect("answers");
    }
    drop(loads);
    appliance.stop().expect("stop").check().expect("clean");
}
