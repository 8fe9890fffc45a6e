//! The C face's threaded way over AF_XDP: the library's workers turn the loop, threads of a C program answer, and the Linux stack asks.

use std::{
    fs,
    io::{Read, Write},
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use framewire_tests::rig::{
    ENGINE_INTERFACE, ENGINE_V4, Process, SECOND_INTERFACE, SECOND_V4, StreamLoad, TempDir, Topology, UdpClient,
    build_c, pattern, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(20);
/// With a thread each; the last one, as its streams, sends from memory that the program keeps.
const UDP_PORTS: [u16; 4] = [7, 8, 9, USER_PORT];
const USER_PORT: u16 = 10;
const TCP_PORTS: [u16; 4] = [7, USER_PORT, 7, USER_PORT];
const ROUNDS: usize = 100;
const STREAMS: usize = TCP_PORTS.len();
const BLOCK_BYTES: usize = 20_000;

/// The program, with `workers`, on these interfaces.
fn start(topology: &Topology, folder: &TempDir, workers: usize, interfaces: &[(&str, Ipv4Addr)]) -> Process {
    let mut command =
        topology.engine.command(build_c("tests/c/threaded_echo.c", folder.path()).expect("threaded_echo"));
    command.arg(workers.to_string());
    for (name, address) in interfaces {
        command.args([*name, &address.to_string(), "255.255.255.0"]);
    }
    let echo = Process::spawn(command).expect("threaded_echo");
    echo.wait_for("ready", TIMEOUT).expect("ready");
    echo
}

/// Datagrams and streams to all ports at `addresses` at once; `meanwhile` runs beside them.
fn ask(topology: &Topology, addresses: &[Ipv4Addr], meanwhile: impl FnOnce()) {
    thread::scope(|scope| {
        for &address in addresses {
            // What waits for an ARP answer is copied if it lies in the program's memory: let there be one before.
            assert_eq!(topology.peer.ping(address.into(), 1, 56).expect("ping").received, 1);
            for port in UDP_PORTS {
                let client = UdpClient::connect(&topology.peer, (address, port)).expect("connect");
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        client.exchange(&pattern(1 + round * 14, round as u64), TIMEOUT).expect("echo");
                    }
                });
            }
            for (number, port) in TCP_PORTS.into_iter().enumerate() {
                let mut stream = topology.peer.tcp_connect((address, port), TIMEOUT).expect("connect");
                stream.set_read_timeout(Some(TIMEOUT)).expect("timeout");
                scope.spawn(move || {
                    let mut answer = vec![0; BLOCK_BYTES];
                    for round in 0..ROUNDS {
                        let block = pattern(BLOCK_BYTES, (number * ROUNDS + round) as u64);
                        stream.write_all(&block).expect("write");
                        stream.read_exact(&mut answer).expect("read");
                        assert!(answer == block, "port {port}, round {round}: other bytes came back");
                    }
                });
            }
        }
        meanwhile();
    });
}

/// Ends the program, and looks at what it counted: nothing copied, nothing lost, all memory given back.
fn stop(mut echo: Process, addresses: usize, streams: usize) {
    let status = echo.stop(TIMEOUT).expect("it ends");
    let output = echo.output();
    assert!(status.success(), "{status}: {output}");
    for line in ["accept: error 0", ", 0 not given back", "copied: 0 bytes", "frames: 0 missing"] {
        assert!(output.contains(line), "no {line:?} in: {output}");
    }
    assert!(!output.contains("lent: 0"), "{output}");
    for at in 0..UDP_PORTS.len() {
        let line = format!("datagrams {at}: {} answers, error 0", addresses * ROUNDS);
        assert!(output.contains(&line), "no {line:?} in: {output}");
    }
    for at in 0..streams {
        let line = format!("stream {at}: answered, error 0");
        assert!(output.contains(&line), "no {line:?} in: {output}");
    }
}

fn topology(queues: u32) -> Topology {
    Topology::builder().queues(queues).congestion_control("reno").build().expect("topology")
}

#[test]
fn threads_of_a_c_program_answer_udp_and_tcp_at_once() {
    if !require_root() {
        return;
    }
    let topology = topology(1);
    let folder = TempDir::create().expect("folder");
    let echo = start(&topology, &folder, 1, &[(ENGINE_INTERFACE, ENGINE_V4)]);
    ask(&topology, &[ENGINE_V4], || ());

    // Each frame that comes goes out again and waits for its acknowledgment: more would do so than there are.
    let loads: Vec<_> = (0..STREAMS as u64)
        .map(|number| StreamLoad::start(&topology.peer, (ENGINE_V4, 7), number).expect("connect"))
        .collect();
    for load in &loads {
        load.wait_for(4 << 20, TIMEOUT).expect("echo");
    }
    for load in loads {
        load.finish().expect("all of it");
    }
    stop(echo, 1, 2 * STREAMS);
}

/// Packets that the XDP program saw on each queue of the engine's end.
fn packets_by_queue(topology: &Topology, queues: u32) -> Vec<u64> {
    let text = topology.engine.run("ethtool", &["-S", ENGINE_INTERFACE]).expect("ethtool");
    let count = |queue| {
        let name = format!("rx_queue_{queue}_xdp_packets:");
        let line = text.lines().find_map(|line| line.trim().strip_prefix(&name).map(str::trim).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name} in: {text}")).parse().expect("a number")
    };
    (0..queues).map(count).collect()
}

#[test]
fn workers_share_the_queues_of_one_interface() {
    if !require_root() {
        return;
    }
    for (queues, workers) in [(2, 2), (4, 4), (4, 1)] {
        let topology = topology(queues);
        let folder = TempDir::create().expect("folder");
        let mut echo = start(&topology, &folder, workers, &[(ENGINE_INTERFACE, ENGINE_V4)]);
        let before = packets_by_queue(&topology, queues);
        // Stopped and started while the program's threads wait in calls.
        ask(&topology, &[ENGINE_V4], || {
            for _ in 0..5 {
                thread::sleep(Duration::from_millis(50));
                echo.signal(libc::SIGUSR1);
            }
        });
        echo.wait_for("restarted", TIMEOUT).expect("restarted");
        let packets: Vec<u64> =
            packets_by_queue(&topology, queues).iter().zip(before).map(|(now, before)| now - before).collect();
        assert!(packets.iter().filter(|&&packets| packets > 0).count() > 1, "all came on one queue: {packets:?}");
        stop(echo, 1, STREAMS);
    }
}

/// How often the program's workers have gone to sleep.
fn sleeps(program: &Process) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", program.pid())).expect("threads");
    let status = tasks.map(|task| fs::read_to_string(task.expect("a thread").path().join("status")).expect("status"));
    let count = |status: String| {
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map_or("", str::trim);
        let sleeps = || value("voluntary_ctxt_switches:").parse::<u64>().expect("a number");
        if value("Name:").starts_with("fw-worker") { sleeps() } else { 0 }
    };
    status.map(count).sum()
}

#[test]
fn a_worker_whose_device_sends_nothing_sleeps_between_its_tries() {
    if !require_root() {
        return;
    }
    let topology = topology(1);
    let folder = TempDir::create().expect("folder");
    let echo = start(&topology, &folder, 1, &[(ENGINE_INTERFACE, ENGINE_V4)]);
    let load = StreamLoad::start(&topology.peer, (ENGINE_V4, TCP_PORTS[0]), 3).expect("connect");
    for _ in 0..3 {
        load.wait_for(1 << 20, TIMEOUT).expect("echo");
        topology.set_engine_link(false).expect("down");
        // What is sent again waits in the TX ring, and the kernel takes nothing (ENETDOWN).
        let (before, begun) = (sleeps(&echo), Instant::now());
        while sleeps(&echo) < before + 500 {
            assert!(begun.elapsed() < TIMEOUT, "the worker does not sleep: {before}, {}", sleeps(&echo));
            thread::sleep(Duration::from_millis(10));
        }
        topology.set_engine_link(true).expect("up");
    }
    load.wait_for(1 << 20, TIMEOUT).expect("echo");
    load.finish().expect("all of it");
    drop(echo);
}

#[test]
fn the_only_interface_is_closed_and_opened_again_beside_workers() {
    if !require_root() {
        return;
    }
    for (queues, workers) in [(1, 1), (4, 2)] {
        let topology = topology(queues);
        let folder = TempDir::create().expect("folder");
        let mut echo = start(&topology, &folder, workers, &[(ENGINE_INTERFACE, ENGINE_V4)]);
        ask(&topology, &[ENGINE_V4], || ());
        for time in 1..=2 {
            echo.signal(libc::SIGUSR2);
            echo.wait_for(&format!("reopened {time}"), TIMEOUT).expect("reopened");
            ask(&topology, &[ENGINE_V4], || ());
        }
        stop(echo, 3, 3 * STREAMS);
    }
}

#[test]
fn workers_share_two_interfaces() {
    if !require_root() {
        return;
    }
    let topology = topology(1);
    topology.add_pair().expect("a second pair");
    for workers in [2, 4] {
        let folder = TempDir::create().expect("folder");
        let interfaces = [(ENGINE_INTERFACE, ENGINE_V4), (SECOND_INTERFACE, SECOND_V4)];
        let mut echo = start(&topology, &folder, workers, &interfaces);
        ask(&topology, &[ENGINE_V4, SECOND_V4], || ());
        // The second interface's socket keeps the frames that both share.
        echo.signal(libc::SIGUSR2);
        echo.wait_for("reopened 1", TIMEOUT).expect("reopened");
        ask(&topology, &[ENGINE_V4], || ());
        stop(echo, 3, 3 * STREAMS);
    }
}
