//! How connections between the engine and the Linux stack begin and end: half-close, resets, refusals, closed windows, killed peers.

use std::{
    env,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use framewire_tests::rig::{
    Appliance, Counting, ENGINE_V4, Process, Report, StreamExt, Topology, configuration, pattern, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(5);
const ECHO_PORT: u16 = 7;
const SOURCE_PORT: u16 = 19;
const UNBOUND_PORT: u16 = 4711;

/// A service of this kind on its port, with further keys.
fn service(kind: &str, port: u16, keys: &str) -> String {
    format!("[[service]]\nkind = \"{kind}\"\nlisten = \"{ENGINE_V4}:{port}\"\n{keys}\n")
}

fn topology() -> Topology {
    Topology::builder().congestion_control("reno").build().expect("topology")
}

fn start(topology: &Topology, services: &[String]) -> Appliance {
    Appliance::start(&topology.engine, &configuration("frames = 8192\n", &services.concat())).expect("appliance")
}

fn connect(topology: &Topology, port: u16) -> TcpStream {
    let stream = topology.peer.tcp_connect((ENGINE_V4, port), TIMEOUT).expect("connect");
    stream.set_read_timeout(Some(TIMEOUT)).expect("timeout");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

fn exchange(mut stream: &TcpStream, block: &[u8]) {
    stream.write_all(block).expect("write");
    let mut answer = vec![0; block.len()];
    stream.read_exact(&mut answer).expect("read");
    assert!(answer == block, "other bytes came back");
}

/// Reads until the connection ends, and says how.
fn read_to_error(mut stream: &TcpStream) -> Result<u64, ErrorKind> {
    let (mut block, mut bytes) = (vec![0; 1 << 16], 0);
    loop {
        match stream.read(&mut block) {
            Ok(0) => return Ok(bytes),
            Ok(len) => bytes += len as u64,
            Err(error) => return Err(error.kind()),
        }
    }
}

/// Returns when the engine has handled all that was sent to it before: the answer to a ping comes behind it.
fn settle(topology: &Topology) {
    assert_eq!(topology.peer.ping(ENGINE_V4.into(), 1, 56).expect("ping").received, 1);
}

fn counts(report: &Report, service: usize) -> (u64, u64, u64) {
    let count = |name| report.service(service, name).expect(name);
    (count("connections_accepted"), count("connections_closed"), count("connections_failed"))
}

#[test]
fn a_peer_that_has_finished_still_gets_its_answer() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let appliance = start(
        &topology,
        &[
            service("tcp-echo", ECHO_PORT, ""),
            service("tcp-source", SOURCE_PORT, "pattern = \"count\"\nbytes = 1_000_000"),
        ],
    );
    // The peer finishes first: all that it sent before comes back behind its FIN.
    let stream = connect(&topology, ECHO_PORT);
    let block = pattern(200_000, 1);
    thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&block).expect("write");
            stream.shutdown(Shutdown::Write).expect("shutdown");
        });
        let mut answer = Vec::new();
        (&stream).read_to_end(&mut answer).expect("read");
        assert!(answer == block, "{} bytes came back", answer.len());
    });
    // The engine finishes first: it still takes, and drops, what the peer sends.
    let mut stream = connect(&topology, SOURCE_PORT);
    assert_eq!(stream.read_counting_to_end(&mut Counting::new(0)).expect("source"), 1_000_000);
    drop(stream.write_all(b"late"));
    drop(stream);
    // Nothing said, either way.
    let silent = connect(&topology, ECHO_PORT);
    silent.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(read_to_error(&silent), Ok(0));

    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(counts(&report, 0), (2, 2, 0));
    assert_eq!(counts(&report, 1), (1, 1, 0));
    let reasons = ["tcp_after_close", "tcp_no_connection"];
    report.drops_only_beside_repeats(&topology.peer, &reasons).expect("no other drop");
}

#[test]
fn a_reset_ends_a_connection_at_once() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let limited = service("tcp-echo", ECHO_PORT + 1000, "connections_max = 1");
    let services = [service("tcp-echo", ECHO_PORT, ""), service("tcp-source", SOURCE_PORT, ""), limited];
    let appliance = start(&topology, &services);
    // From the peer: idle, and in the middle of a transfer.
    let idle = connect(&topology, ECHO_PORT);
    exchange(&idle, b"hello");
    idle.reset_on_close().expect("linger");
    drop(idle);
    let busy = connect(&topology, SOURCE_PORT);
    let mut block = [0; 4096];
    (&busy).read_exact(&mut block).expect("the source sends");
    busy.reset_on_close().expect("linger");
    drop(busy);
    // From the engine: one connection more than the service may have.
    let first = connect(&topology, ECHO_PORT + 1000);
    exchange(&first, b"first");
    // The kernel may tell already when it connects.
    let second = topology.peer.tcp_connect((ENGINE_V4, ECHO_PORT + 1000), TIMEOUT);
    let ended = second.map_err(|error| error.kind()).and_then(|stream| read_to_error(&stream));
    assert_eq!(ended, Err(ErrorKind::ConnectionReset));
    exchange(&first, b"still there");
    settle(&topology);
    drop(first);

    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!(counts(&report, 0), (1, 1, 1));
    assert_eq!(counts(&report, 1), (1, 1, 1));
    assert_eq!(counts(&report, 2), (1, 1, 0));
    assert_eq!(report.service(2, "connections_refused").expect("refused"), 1);
    let total = |name| report.counter(name).expect(name);
    assert_eq!(total("tcp_resets_received"), 2);
    assert_eq!(total("tcp_resets_sent"), 1);
}

#[test]
fn a_port_without_a_listener_refuses() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let appliance = start(&topology, &[service("tcp-echo", ECHO_PORT, "")]);
    for _ in 0..10 {
        let error = topology.peer.tcp_connect((ENGINE_V4, UNBOUND_PORT), TIMEOUT).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    }
    exchange(&connect(&topology, ECHO_PORT), b"this one does");
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    report.drops_only(&["tcp_no_connection"]).expect("no other drop");
    assert_eq!(report.counter("drop_tcp_no_connection").expect("counter"), 10);
    assert_eq!(report.counter("tcp_resets_sent").expect("counter"), 10);
}

/// A program that connects to `port`, reads nothing, and is killed: the kernel resets what is left unread.
#[test]
fn a_killed_peer_is_noticed() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let appliance = start(&topology, &[service("tcp-source", SOURCE_PORT, ""), service("tcp-echo", ECHO_PORT, "")]);
    for port in [SOURCE_PORT, ECHO_PORT] {
        let mut command = topology.peer.command("bash");
        let script = format!(
            "exec 3<>/dev/tcp/{ENGINE_V4}/{port} && echo hello >&3 && sleep 0.2 && echo connected && exec sleep 60"
        );
        command.args(["-c", &script]);
        let mut peer = Process::spawn(command).expect("bash");
        peer.wait_for("connected", TIMEOUT).expect("connected");
        peer.kill().expect("kill");
        settle(&topology);
    }
    thread::sleep(Duration::from_millis(100));
    let report = appliance.stop().expect("stop");
    report.check().expect("clean: what was queued for the dead is free");
    assert_eq!(counts(&report, 0), (1, 1, 1), "the source's");
    assert_eq!(counts(&report, 1), (1, 1, 1), "the echo's");
    assert_eq!(report.counter("tcp_resets_received").expect("counter"), 2);
}

/// The engine goes away while connections are open: its peers hear of it.
#[test]
fn a_stopped_engine_finishes_its_connections() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let appliance = start(&topology, &[service("tcp-echo", ECHO_PORT, "")]);
    let streams: Vec<TcpStream> = (0..50).map(|_| connect(&topology, ECHO_PORT)).collect();
    for stream in &streams {
        exchange(stream, b"hello");
    }
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    for stream in &streams {
        assert_eq!(read_to_error(stream), Ok(0));
    }
    assert_eq!(counts(&report, 0), (50, 50, 0));
}

/// How long a window stays closed: the minute that is asked for with FRAMEWIRE_LONG=1, else 20 s.
fn closed_for() -> Duration {
    Duration::from_secs(if env::var_os("FRAMEWIRE_LONG").is_some_and(|value| value == "1") { 60 } else { 20 })
}

/// A peer that does not read: the source's window stays closed; the echo closes its own in turn.
#[test]
fn a_closed_window_is_probed_until_it_opens() {
    if !require_root() {
        return;
    }
    const SOURCE_BYTES: u64 = 24 << 20;
    const ECHO_BYTES: u64 = 24 << 20;
    let topology = topology();
    let source = service("tcp-source", SOURCE_PORT, &format!("pattern = \"count\"\nbytes = {SOURCE_BYTES}"));
    let appliance = start(&topology, &[source, service("tcp-echo", ECHO_PORT, "")]);
    let from_source = connect(&topology, SOURCE_PORT);
    let echo = connect(&topology, ECHO_PORT);
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let (stream, closed) = (&echo, closed_for());
        scope.spawn(move || {
            let begun = Instant::now();
            stream.write_counting(&mut Counting::new(9), ECHO_BYTES).expect("write");
            tell.send(begun.elapsed()).expect("tell");
            stream.shutdown(Shutdown::Write).expect("shutdown");
        });
        thread::sleep(closed);
        assert!(told.try_recv().is_err(), "{ECHO_BYTES} bytes were taken while nobody read the answers");
        assert_eq!(echo.read_counting_to_end(&mut Counting::new(9)).expect("echo"), ECHO_BYTES);
        let took = told.recv().expect("written");
        assert!(took >= closed, "{took:?}");
    });
    assert_eq!(from_source.read_counting_to_end(&mut Counting::new(0)).expect("source"), SOURCE_BYTES);
    drop(from_source);
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    assert_eq!((counts(&report, 0), counts(&report, 1)), ((1, 1, 0), (1, 1, 0)));
    // From 200 ms on, each after twice as long: 6 within 20 s. More than 30 would be a flood.
    let sent = report.counter("tcp_window_probes").expect("counter");
    assert!((4..=30).contains(&sent), "{sent} probes into two closed windows for {:?}", closed_for());
    // The kernel's are bare acknowledgments of one byte before the window: refused, and answered.
    let received = report.counter("drop_tcp_out_of_window").expect("counter");
    assert!((3..=60).contains(&received), "{received} probes of the kernel's");
}
