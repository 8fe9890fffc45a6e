//! `framewire gen --engine`: the load generator on the engine's own sockets, against services of the Linux stack.

use std::{
    io::{Read, Write},
    thread,
    time::Duration,
};

use framewire_tests::rig::{
    ENGINE_INTERFACE, ENGINE_V4, PEER_V4, PREFIX_V4, Process, Topology, framewire_binary, require_root,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Echoes on port 7 of the peer, over both protocols; the threads go when the test's process does.
fn echo(topology: &Topology) {
    let socket = topology.peer.udp((PEER_V4, 7)).expect("bind");
    thread::spawn(move || {
        let mut datagram = [0; 2048];
        while let Ok((bytes, from)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&datagram[..bytes], from);
        }
    });
    let listener = topology.peer.tcp_listen((PEER_V4, 7)).expect("listen");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut block = [0; 4096];
                while let Ok(bytes @ 1..) = stream.read(&mut block) {
                    if stream.write_all(&block[..bytes]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

#[test]
fn the_generator_exchanges_requests_over_the_engines_sockets() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    echo(&topology);
    let (target, address) = (format!("{PEER_V4}:7"), format!("{ENGINE_V4}/{PREFIX_V4}"));
    for load in ["udp-rr", "tcp-rr", "tcp-crr"] {
        // Ten requests in all: as long as a busy machine's peer does not tell its address, 16 wait for it, and what is beyond them is lost.
        for rate in [&["--rate", "20"][..], &[]] {
            let mut command = topology.engine.command(framewire_binary().expect("the appliance"));
            command.args(["gen", load, "--target", &target, "--engine", ENGINE_INTERFACE, "--address", &address]);
            command.args(["--connections", "3", "--seconds", "0.5", "--warm-up", "0", "--json"]).args(rate);
            let mut gen_process = Process::spawn(command).expect("spawn");
            let status = gen_process.wait(PATIENCE).expect("gen");
            let output = gen_process.output();
            assert!(status.success(), "{load} {rate:?}: {output}");
            let line = output.lines().find(|line| line.starts_with('{')).expect("a result");
            let result: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(result["unanswered"], 0, "{load} {rate:?}: {output}");
            let exchanges = result["exchanges"].as_u64().expect("a number");
            // However slow the machine is, all that was due is counted.
            assert!(if rate.is_empty() { exchanges > 0 } else { exchanges == 10 }, "{load} {rate:?}: {output}");
        }
    }
}
