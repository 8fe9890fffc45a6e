//! Applications on the engine's own sockets, with the Linux stack, or nginx, at the other end.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddrV4, TcpStream},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use framewire::{
    runtime::{Engine, EngineConfig, EngineReport, WorkerProgram},
    socket::{App, AppError, CloseReason, Event, Net, TcpEvent, TcpStream as Stream},
};
use framewire_tests::rig::{
    ENGINE_INTERFACE, ENGINE_V4, PEER_V4, PREFIX_V4, Process, StreamExt, TempDir, Topology, pattern, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(5);
const ECHO_PORT: u16 = 7;
const UNBOUND_PORT: u16 = 4711;

fn topology() -> Topology {
    Topology::builder().congestion_control("reno").build().expect("topology")
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

fn assert_finished(mut stream: &TcpStream) {
    assert_eq!(stream.read(&mut [0; 16]).map_err(|error| error.kind()), Ok::<_, ErrorKind>(0));
}

/// Where [`Dialling`] tells the test how it goes.
type Told = mpsc::Sender<String>;

/// Runs `app` as an engine of its own in the topology's namespace while `test` runs.
fn with_engine(
    topology: &Topology,
    app: impl Fn() -> Box<dyn App> + Send + Sync + 'static,
    test: impl FnOnce() + Send,
) {
    let mut config = EngineConfig::new(ENGINE_INTERFACE);
    config.addresses = vec![format!("{ENGINE_V4}/{PREFIX_V4}").parse().expect("address")];
    let report: EngineReport = topology.engine.enter(|| {
        let engine = Engine::start(config, move |_worker| WorkerProgram::App(app())).expect("engine");
        test();
        engine.stop(Duration::from_secs(1))
    });
    for worker in report.workers {
        let worker = worker.expect("the worker did not panic");
        assert!(worker.error.is_none(), "{:?}", worker.error);
        assert!(worker.snapshot.ledger.is_whole(), "{}", worker.snapshot.ledger);
        let counters = &worker.snapshot.counters;
        assert_eq!((counters.bytes_copied_tx, counters.bytes_copied_rx), (0, 0));
    }
}

/// Answers an urgent byte with the next one, urgent, and ordinary bytes with themselves.
#[derive(Debug)]
struct Urgent;

impl App for Urgent {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        net.tcp_listen(SocketAddrV4::new(ENGINE_V4, ECHO_PORT), 8)?;
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        match event {
            Event::Acceptable(listener) => while listener.accept(net).is_some() {},
            Event::Tcp(stream, TcpEvent::Urgent) => {
                if let (Some(byte), Some(mut buf)) = (stream.recv_urgent(net), net.alloc()) {
                    buf.put_slice(&[byte + 1]).expect("a byte fits");
                    stream.send_urgent(net, buf).expect("room");
                }
            }
            Event::Tcp(stream, TcpEvent::Readable) => {
                while let Ok(buf) = stream.recv(net) {
                    stream.send(net, buf.into_tx()).expect("room");
                }
            }
            Event::Tcp(stream, TcpEvent::PeerFinished | TcpEvent::Closed(_)) => stream.close(net),
            _ => {}
        }
    }
}

#[test]
fn an_urgent_byte_passes_both_ways() {
    if !require_root() {
        return;
    }
    let topology = topology();
    with_engine(
        &topology,
        || Box::new(Urgent),
        || {
            let stream = connect(&topology, ECHO_PORT);
            exchange(&stream, b"before");
            for byte in [1, 77, 200] {
                stream.send_urgent(byte).expect("urgent");
                assert_eq!(stream.receive_urgent(TIMEOUT).expect("urgent"), byte + 1);
                // The urgent byte is no part of the stream.
                exchange(&stream, b"between");
            }
            // In the midst of data.
            (&stream).write_all(b"abc").expect("write");
            stream.send_urgent(b'X').expect("urgent");
            (&stream).write_all(b"def").expect("write");
            assert_eq!(stream.receive_urgent(TIMEOUT).expect("urgent"), b'Y');
            let mut answer = [0; 6];
            (&stream).read_exact(&mut answer).expect("read");
            assert_eq!(&answer, b"abcdef");
            stream.shutdown(Shutdown::Write).expect("shutdown");
            assert_finished(&stream);
        },
    );
}

/// Connects to `0`, says how that went, and how it ended.
#[derive(Debug)]
struct Dialling(SocketAddrV4, Told);

impl App for Dialling {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        net.tcp_connect(self.0)?;
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        let Event::Tcp(stream, event) = event else { return };
        match event {
            TcpEvent::Connected => self.say("connected"),
            TcpEvent::Readable => self.read(net, stream),
            TcpEvent::PeerFinished => stream.close(net),
            TcpEvent::Closed(reason) => {
                self.say(&format!("closed: {reason}"));
                stream.close(net);
            }
            _ => {}
        }
    }
}

impl Dialling {
    fn say(&self, word: &str) {
        // The test may have heard enough.
        let _ = self.1.send(word.to_owned());
    }

    fn read(&self, net: &mut Net<'_>, stream: Stream) {
        while let Ok(buf) = stream.recv(net) {
            self.say(&String::from_utf8_lossy(buf.as_slice()));
        }
    }
}

#[test]
fn connecting_to_the_kernel_fails_and_succeeds_as_it_says() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let run = |port: u16, test: &mut (dyn FnMut(mpsc::Receiver<String>) + Send)| {
        let (tell, told) = mpsc::channel();
        with_engine(
            &topology,
            move || Box::new(Dialling(SocketAddrV4::new(PEER_V4, port), tell.clone())),
            || test(told),
        );
    };
    let hear = |told: &mpsc::Receiver<String>| told.recv_timeout(TIMEOUT).expect("a word from the engine");
    run(UNBOUND_PORT, &mut |told| assert_eq!(hear(&told), format!("closed: {}", CloseReason::Refused)));

    let listener = topology.peer.tcp_listen((PEER_V4, 5001)).expect("listen");
    run(5001, &mut |told| {
        let (mut stream, _) = listener.accept().expect("accept");
        assert_eq!(hear(&told), "connected");
        stream.write_all(b"welcome").expect("write");
        assert_eq!(hear(&told), "welcome");
        stream.reset_on_close().expect("linger");
        drop(stream);
        assert_eq!(hear(&told), format!("closed: {}", CloseReason::Reset));
    });
    run(5001, &mut |told| {
        let (stream, _) = listener.accept().expect("accept");
        assert_eq!(hear(&told), "connected");
        stream.shutdown(Shutdown::Write).expect("shutdown");
        assert_finished(&stream);
    });
}

/// Asks for `/body` again and again on one connection and compares what comes.
#[derive(Debug)]
struct Fetch {
    body: Vec<u8>,
    requests: usize,
    head: Vec<u8>,
    /// Bytes of the body that were compared; `None`: the head is not whole yet.
    at: Option<usize>,
    tell: Told,
}

impl Fetch {
    fn ask(&mut self, net: &mut Net<'_>, stream: Stream) {
        self.requests -= 1;
        let last = if self.requests == 0 { "Connection: close\r\n" } else { "" };
        let mut buf = net.alloc().expect("a frame");
        buf.put_slice(format!("GET /body HTTP/1.1\r\nHost: {PEER_V4}\r\n{last}\r\n").as_bytes()).expect("it fits");
        stream.send(net, buf).expect("room");
    }

    /// Takes the next bytes; true at the end of a response.
    fn take(&mut self, mut bytes: &[u8]) -> Result<bool, String> {
        if self.at.is_none() {
            // No head is longer than a few hundred bytes.
            while !self.head.ends_with(b"\r\n\r\n") {
                let Some((first, rest)) = bytes.split_first() else { return Ok(false) };
                self.head.push(*first);
                bytes = rest;
            }
            let head = String::from_utf8_lossy(&self.head).to_lowercase();
            let length = format!("content-length: {}\r\n", self.body.len());
            if !head.starts_with("http/1.1 200 ") || !head.contains(&length) {
                return Err(format!("not what was asked for: {head}"));
            }
            self.head.clear();
            self.at = Some(0);
        }
        let at = self.at.unwrap_or_default();
        let end = at + bytes.len();
        if self.body.get(at..end) != Some(bytes) {
            return Err(format!("other bytes between {at} and {end}"));
        }
        self.at = (end < self.body.len()).then_some(end);
        Ok(self.at.is_none())
    }
}

impl App for Fetch {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        net.tcp_connect(SocketAddrV4::new(PEER_V4, 80))?;
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        let Event::Tcp(stream, event) = event else { return };
        match event {
            TcpEvent::Connected => self.ask(net, stream),
            TcpEvent::Readable => {
                while let Ok(buf) = stream.recv(net) {
                    match buf.pieces().try_fold(false, |_, piece| self.take(piece)) {
                        Ok(false) => {}
                        Ok(true) if self.requests > 0 => self.ask(net, stream),
                        Ok(true) => self.tell.send("fetched".into()).expect("the test listens"),
                        Err(wrong) => self.tell.send(wrong).expect("the test listens"),
                    }
                }
            }
            TcpEvent::PeerFinished => stream.close(net),
            TcpEvent::Closed(reason) => self.tell.send(format!("closed: {reason}")).expect("the test listens"),
            _ => {}
        }
    }
}

/// nginx in the peer's namespace, with all its files in `folder`.
fn start_nginx(topology: &Topology, folder: &Path) -> Process {
    let at = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
        .concat();
    let config = format!(
        "daemon off;\nmaster_process off;\nuser root;\npid {at}/pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}\
         server {{ listen {PEER_V4}:80; root {at}; keepalive_requests 100000; }}\n}}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config).expect("write");
    let mut command = topology.peer.command("nginx");
    command.args(["-e", "stderr", "-p"]).arg(folder).arg("-c").arg(&file);
    let nginx = Process::spawn(command).expect("nginx");
    let begun = Instant::now();
    while topology.peer.tcp_connect((PEER_V4, 80), TIMEOUT).is_err() {
        assert!(begun.elapsed() < TIMEOUT, "nginx does not answer: {}", nginx.output());
        thread::sleep(Duration::from_millis(20));
    }
    nginx
}

#[test]
fn nginx_serves_a_client_on_the_engine() {
    if !require_root() {
        return;
    }
    const REQUESTS: usize = 200;
    let topology = topology();
    let folder = TempDir::create().expect("folder");
    let body = pattern(100_001, 8);
    fs::write(folder.path().join("body"), &body).expect("write");
    let mut nginx = start_nginx(&topology, folder.path());
    let (tell, told) = mpsc::channel();
    let fetch = move || -> Box<dyn App> {
        Box::new(Fetch { body: body.clone(), requests: REQUESTS, head: Vec::new(), at: None, tell: tell.clone() })
    };
    with_engine(&topology, fetch, move || {
        assert_eq!(told.recv_timeout(Duration::from_secs(20)).expect("a word from the engine"), "fetched");
    });
    nginx.stop(TIMEOUT).expect("stop");
}
