//! The C face's threaded way over AF_XDP: the library's worker turns the loop, threads of a C program answer, and the Linux stack asks.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use framewire_tests::rig::{
    ENGINE_INTERFACE, ENGINE_V4, Process, StreamLoad, TempDir, Topology, UdpClient, pattern, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(20);
/// With a thread each.
const UDP_PORTS: [u16; 3] = [7, 8, 9];
const ROUNDS: usize = 200;
const STREAMS: usize = 4;
const BLOCK_BYTES: usize = 20_000;

/// Builds `engine/tests/c/threaded_echo.c`, watched by the address sanitizer.
fn build(folder: &Path) -> PathBuf {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine");
    // Cargo puts the libraries of this test's build beside its executable.
    let own = std::env::current_exe().expect("this test");
    let libraries = own.parent().expect("its folder");
    assert!(libraries.join("libframewire.so").exists(), "no libframewire.so in {}", libraries.display());
    let program = folder.join("threaded_echo");
    let output = Command::new("gcc")
        .args(["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-fsanitize=address,undefined"])
        .arg("-I")
        .arg(engine.join("include"))
        .arg(engine.join("tests/c/threaded_echo.c"))
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(libraries)
        .args(["-lframewire", "-lpthread"])
        .arg(format!("-Wl,-rpath,{}", libraries.display()))
        .output()
        .expect("gcc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

#[test]
fn threads_of_a_c_program_answer_udp_and_tcp_at_once() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().congestion_control("reno").build().expect("topology");
    let folder = TempDir::create().expect("folder");
    let mut command = topology.engine.command(build(folder.path()));
    command.args([ENGINE_INTERFACE, &ENGINE_V4.to_string(), "255.255.255.0"]);
    let mut echo = Process::spawn(command).expect("threaded_echo");
    echo.wait_for("ready", TIMEOUT).expect("ready");

    thread::scope(|scope| {
        for port in UDP_PORTS {
            let client = UdpClient::connect(&topology.peer, (ENGINE_V4, port)).expect("connect");
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    client.exchange(&pattern(1 + round * 7, round as u64), TIMEOUT).expect("echo");
                }
            });
        }
        for number in 0..STREAMS {
            let mut stream = topology.peer.tcp_connect((ENGINE_V4, 7), TIMEOUT).expect("connect");
            stream.set_read_timeout(Some(TIMEOUT)).expect("timeout");
            scope.spawn(move || {
                let mut answer = vec![0; BLOCK_BYTES];
                for round in 0..ROUNDS {
                    let block = pattern(BLOCK_BYTES, (number * ROUNDS + round) as u64);
                    stream.write_all(&block).expect("write");
                    stream.read_exact(&mut answer).expect("read");
                    assert!(answer == block, "stream {number}, round {round}: other bytes came back");
                }
            });
        }
    });

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

    let status = echo.stop(TIMEOUT).expect("it ends");
    let output = echo.output();
    assert!(status.success(), "{status}: {output}");
    for line in ["accept: error 0", "copied: 0 bytes"] {
        assert!(output.contains(line), "no {line:?} in: {output}");
    }
    for at in 0..UDP_PORTS.len() {
        let line = format!("datagrams {at}: {ROUNDS} answers, error 0");
        assert!(output.contains(&line), "no {line:?} in: {output}");
    }
    for at in 0..2 * STREAMS {
        let line = format!("stream {at}: answered, error 0");
        assert!(output.contains(&line), "no {line:?} in: {output}");
    }
}
