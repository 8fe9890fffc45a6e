//! Very many connections: at once, and one after the other.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use framewire_tests::rig::{
    Appliance, ENGINE_V4, Report, StreamExt, Topology, allow_open_files, configuration, pattern, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(10);
const ECHO_PORT: u16 = 7;
const SOURCE_PORT: u16 = 19;
/// Frames for a little data on every connection.
const MEMORY: &str = "rings = { rx = 2048, tx = 2048 }\nframes = 32768\n";

fn topology() -> Topology {
    let topology = Topology::builder().congestion_control("reno").build().expect("topology");
    // More ports than a kernel gives by itself, and those of finished connections again after a second.
    topology.peer.sysctl("net.ipv4.ip_local_port_range", "1024 65535").expect("ports");
    topology.peer.sysctl("net.ipv4.tcp_tw_reuse", "1").expect("reuse");
    topology
}

fn service(kind: &str, port: u16, keys: &str) -> String {
    format!("[[service]]\nkind = \"{kind}\"\nlisten = \"{ENGINE_V4}:{port}\"\nbacklog = 4096\n{keys}\n")
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((ENGINE_V4, port)), TIMEOUT).expect("connect");
    stream.set_read_timeout(Some(TIMEOUT)).expect("timeout");
    stream
}

fn check(report: &Report) {
    report.check().expect("clean: 0 bytes copied, ledger whole");
    // A machine that lets one end wait for a core makes the other send again.
    report.drops_only(&["tcp_out_of_window", "tcp_syn", "tcp_no_connection"]).expect("no other drop");
}

#[test]
fn ten_thousand_connections_are_open_at_once() {
    if !require_root() {
        return;
    }
    const CONNECTIONS: usize = 10_000;
    allow_open_files(CONNECTIONS as u64 + 200).expect("files");
    let topology = topology();
    let echo = service("tcp-echo", ECHO_PORT, "connections_max = 20_000");
    let appliance = Appliance::start(&topology.engine, &configuration(MEMORY, &echo)).expect("appliance");
    let begun = Instant::now();
    topology.peer.enter(|| {
        let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(ECHO_PORT)).collect();
        println!("{CONNECTIONS} connections made in {:?}", begun.elapsed());
        for turn in 0..2u64 {
            for (i, stream) in streams.iter_mut().enumerate() {
                stream.write_all(&pattern(1 + i % 1000, turn)).expect("write");
            }
            for (i, stream) in streams.iter_mut().enumerate() {
                let mut answer = vec![0; 1 + i % 1000];
                stream.read_exact(&mut answer).unwrap_or_else(|error| panic!("connection {i}: {error}"));
                assert!(answer == pattern(answer.len(), turn), "connection {i}: another one's bytes");
            }
        }
        println!("and each used twice after {:?}", begun.elapsed());
        for stream in &streams {
            stream.shutdown(Shutdown::Write).expect("shutdown");
        }
        for (i, stream) in streams.iter_mut().enumerate() {
            assert_eq!(stream.read(&mut [0; 16]).expect("the end"), 0, "connection {i}");
        }
    });
    let report = appliance.stop().expect("stop");
    println!("all closed after {:?}", begun.elapsed());
    check(&report);
    let count = |name| report.service(0, name).expect(name);
    let connections = CONNECTIONS as u64;
    assert_eq!((count("connections_accepted"), count("connections_closed")), (connections, connections));
    assert_eq!(count("connections_failed"), 0);
    let bytes: u64 = (0..connections).map(|i| 2 * (1 + i % 1000)).sum();
    assert_eq!(count("sent_payload_bytes"), bytes);
}

/// How a connection of [`churn`] ends.
#[derive(Clone, Copy)]
enum End {
    /// The peer finishes first.
    Peer,
    /// The engine finishes first, and keeps the endpoints in TIME-WAIT.
    Engine,
    /// The peer resets.
    Reset,
}

/// Opens, uses and closes `count` connections, one after the other.
fn churn(end: End, count: usize) {
    let mut block = [0; 64];
    for _ in 0..count {
        match end {
            End::Peer | End::Reset => {
                let mut stream = connect(ECHO_PORT);
                stream.write_all(b"ping").expect("write");
                stream.read_exact(&mut block[..4]).expect("read");
                assert_eq!(&block[..4], b"ping");
                if matches!(end, End::Reset) {
                    stream.reset_on_close().expect("linger");
                } else {
                    stream.shutdown(Shutdown::Write).expect("shutdown");
                    assert_eq!(stream.read(&mut block).expect("the end"), 0);
                }
            }
            End::Engine => {
                let mut stream = connect(SOURCE_PORT);
                let mut all = Vec::new();
                assert_eq!(stream.read_to_end(&mut all).expect("read"), 32);
            }
        }
    }
}

#[test]
fn a_hundred_thousand_connections_come_and_go() {
    if !require_root() {
        return;
    }
    // By four threads: one that waits for the engine leaves the core to another.
    const THREADS: usize = 4;
    const SHARE: [(End, usize); 3] = [(End::Peer, 12_000), (End::Engine, 12_000), (End::Reset, 1_000)];
    let topology = topology();
    let services = service("tcp-echo", ECHO_PORT, "") + &service("tcp-source", SOURCE_PORT, "bytes = 32");
    let appliance = Appliance::start(&topology.engine, &configuration(MEMORY, &services)).expect("appliance");
    let begun = Instant::now();
    for (end, count) in SHARE {
        topology.peer.enter(|| {
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(move || churn(end, count));
                }
            });
        });
        println!("{} connections after {:?}", THREADS * count, begun.elapsed());
    }
    let report = appliance.stop().expect("stop");
    check(&report);
    let count = |service, name| report.service(service, name).expect(name);
    let [peer, engine, reset] = SHARE.map(|(_, count)| (THREADS * count) as u64);
    assert_eq!(peer + engine + reset, 100_000);
    assert_eq!((count(0, "connections_accepted"), count(0, "connections_closed")), (peer + reset, peer + reset));
    assert_eq!((count(0, "connections_failed"), count(1, "connections_failed")), (reset, 0));
    assert_eq!((count(1, "connections_accepted"), count(1, "connections_closed")), (engine, engine));
    assert_eq!(report.counter("tcp_connections_accepted").expect("counter"), 100_000);
    assert_eq!(report.counter("tcp_resets_received").expect("counter"), reset);
}
