//! A C program over AF_XDP that closes its only interface and opens one again, while its sockets, its streams and its buffers stay.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream},
    time::Duration,
};

use framewire_tests::rig::{
    ENGINE_INTERFACE, ENGINE_V4, EchoLoad, Process, SECOND_INTERFACE, SECOND_V4, TempDir, Topology, UdpClient, build_c,
    pattern, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(20);
const MASK: &str = "255.255.255.0";
const ECHO_PORT: u16 = 7;
/// Whose answer is the datagram before.
const KEEP_PORT: u16 = 8;

/// `engine/tests/c/reopen.c` with these interfaces and addresses.
struct Program {
    process: Process,
    _folder: TempDir,
    opened: u32,
}

impl Program {
    /// Starts it, and waits until the first is open.
    fn start(topology: &Topology, places: &[(&str, Ipv4Addr)]) -> Self {
        Self::start_by(topology, &[], &[], places)
    }

    /// The same, by a program that takes another one and its arguments after its own, and with options.
    fn start_by(topology: &Topology, starter: &[&str], options: &[&str], places: &[(&str, Ipv4Addr)]) -> Self {
        let folder = TempDir::create().expect("folder");
        let built = build_c("tests/c/reopen.c", folder.path()).expect("reopen");
        let mut words = starter.iter().map(OsStr::new).chain([built.as_os_str()]);
        let mut command = topology.engine.command(words.next().expect("a program"));
        command.args(words).args(options);
        for (name, address) in places {
            command.args([*name, &address.to_string(), MASK]);
        }
        let process = Process::spawn(command).expect("reopen");
        let mut program = Self { process, _folder: folder, opened: 0 };
        program.wait_until_open();
        program
    }

    fn wait_until_open(&mut self) {
        self.opened += 1;
        self.process.wait_for(&format!("opened {}", self.opened), TIMEOUT).expect("opened");
    }

    fn ask_to_open(&mut self) {
        self.process.signal(libc::SIGUSR1);
    }

    /// Closes what is open, and opens the next.
    fn reopen(&mut self) {
        self.ask_to_open();
        self.wait_until_open();
    }

    fn close(&mut self) {
        self.process.signal(libc::SIGUSR2);
        self.process.wait_for("closed", TIMEOUT).expect("closed");
    }

    /// Ends it: nothing was copied, and all frames are there.
    fn stop(mut self) {
        let status = self.process.stop(TIMEOUT).expect("it ends");
        let output = self.process.output();
        assert!(status.success(), "{status}: {output}");
        for line in ["copied: 0 bytes", "frames: 0 missing of ", ", 0 streams left"] {
            assert!(output.contains(line), "no {line:?} in: {output}");
        }
    }
}

fn topology() -> Topology {
    Topology::builder().congestion_control("reno").build().expect("topology")
}

fn exchange_on(stream: &mut TcpStream, seed: u64) {
    let block = pattern(20_000, seed);
    let mut answer = vec![0; block.len()];
    stream.write_all(&block).expect("write");
    stream.read_exact(&mut answer).expect("read");
    assert!(answer == block, "other bytes came back");
}

fn connect(topology: &Topology, address: Ipv4Addr) -> TcpStream {
    let stream = topology.peer.tcp_connect((address, ECHO_PORT), TIMEOUT).expect("connect");
    stream.set_read_timeout(Some(TIMEOUT)).expect("timeout");
    stream
}

/// UDP and TCP with the program at `address`.
fn exchange(topology: &Topology, address: Ipv4Addr, seed: u64) {
    let client = UdpClient::connect(&topology.peer, (address, ECHO_PORT)).expect("connect");
    for len in [1, 100, 1000, 1472] {
        client.exchange(&pattern(len, seed), TIMEOUT).expect("echo");
    }
    let mut stream = connect(topology, address);
    exchange_on(&mut stream, seed);
    // The program has ended it too before it may lose the address.
    stream.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
}

/// What is kept for the datagram number `turn`.
fn kept(turn: u64) -> Vec<u8> {
    pattern(1200, 1000 + turn)
}

/// Hands the program datagram number `turn` to keep, and looks at the one before, which it has kept meanwhile.
fn change_kept(topology: &Topology, address: Ipv4Addr, turn: u64) {
    let client = UdpClient::connect(&topology.peer, (address, KEEP_PORT)).expect("connect");
    client.send(&kept(turn)).expect("send");
    if let Some(before) = turn.checked_sub(1) {
        assert!(client.receive(TIMEOUT).expect("an answer") == kept(before), "turn {turn}: it was written to");
    } else {
        // It has come when what was sent after it is answered.
        UdpClient::connect(&topology.peer, (address, ECHO_PORT))
            .expect("connect")
            .exchange(b"x", TIMEOUT)
            .expect("echo");
    }
}

#[test]
fn the_only_interface_is_closed_and_opened_again() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let mut program = Program::start(&topology, &[(ENGINE_INTERFACE, ENGINE_V4)]);
    // Goes on whenever there is an interface.
    let mut stream = connect(&topology, ENGINE_V4);
    for turn in 0..8 {
        exchange(&topology, ENGINE_V4, turn);
        exchange_on(&mut stream, turn);
        change_kept(&topology, ENGINE_V4, turn);
        program.reopen();
    }
    change_kept(&topology, ENGINE_V4, 8);
    drop(stream);
    program.stop();
}

#[test]
fn frames_that_come_and_go_at_closing_are_not_lost() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let mut program = Program::start(&topology, &[(ENGINE_INTERFACE, ENGINE_V4)]);
    let loads = [64, 1400].map(|len| EchoLoad::start(&topology.peer, (ENGINE_V4, ECHO_PORT), len).expect("load"));
    for _ in 0..8 {
        for load in &loads {
            load.wait_for(500, TIMEOUT).expect("answers");
        }
        program.reopen();
    }
    for load in &loads {
        load.wait_for(500, TIMEOUT).expect("answers");
    }
    drop(loads);
    program.stop();
}

#[test]
fn another_device_or_address_comes_in_its_place() {
    if !require_root() {
        return;
    }
    let topology = topology();
    topology.add_pair().expect("a second pair");
    let moved = Ipv4Addr::new(10, 77, 0, 9);
    let places = [(ENGINE_INTERFACE, ENGINE_V4), (SECOND_INTERFACE, SECOND_V4), (ENGINE_INTERFACE, moved)];
    let mut program = Program::start(&topology, &places);
    for turn in 0..7 {
        let (_, address) = places[turn as usize % places.len()];
        exchange(&topology, address, turn);
        change_kept(&topology, address, turn);
        program.reopen();
    }
    program.stop();
}

/// Its frames are not made for AF_XDP: the kernel is told of them when the other comes.
#[test]
fn an_interface_with_a_driver_of_the_programs_comes_first() {
    if !require_root() {
        return;
    }
    let topology = topology();
    topology.add_pair().expect("a second pair");
    let (driven, address) = (SECOND_V4, SECOND_V4.to_string());
    let driver = ["-d", SECOND_INTERFACE, &address, MASK];
    let mut program = Program::start_by(&topology, &[], &driver, &[(ENGINE_INTERFACE, ENGINE_V4)]);
    let mut streams = [ENGINE_V4, driven].map(|address| connect(&topology, address));
    for turn in 0..6 {
        for address in [ENGINE_V4, driven] {
            exchange(&topology, address, turn);
        }
        streams.iter_mut().for_each(|stream| exchange_on(stream, turn));
        // What came at one interface leaves by the other: frames are the same.
        change_kept(&topology, [ENGINE_V4, driven][turn as usize % 2], turn);
        program.reopen();
    }
    drop(streams);
    program.stop();
}

#[test]
fn a_device_that_vanished_is_replaced() {
    if !require_root() {
        return;
    }
    let topology = topology();
    topology.add_pair().expect("a second pair");
    let mut program = Program::start(&topology, &[(SECOND_INTERFACE, SECOND_V4)]);
    for turn in 0..3 {
        exchange(&topology, SECOND_V4, turn);
        change_kept(&topology, SECOND_V4, turn);
        topology.engine.ip(&["link", "delete", SECOND_INTERFACE]).expect("delete");
        topology.add_pair().expect("a second pair");
        program.reopen();
    }
    exchange(&topology, SECOND_V4, 3);
    program.stop();
}

#[test]
fn who_finds_the_queue_taken_opens_it_later() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let places = [(ENGINE_INTERFACE, ENGINE_V4)];
    let mut program = Program::start(&topology, &places);
    change_kept(&topology, ENGINE_V4, 0);
    program.close();
    let other = Program::start(&topology, &places);
    exchange(&topology, ENGINE_V4, 1);
    program.ask_to_open();
    let refusal = program.process.wait_for("refused with ", TIMEOUT).expect("a refusal");
    for part in ["bind to fw0 queue 0", "os error 16", "another AF_XDP socket is bound to this queue"] {
        assert!(refusal.contains(part), "no {part:?} in: {refusal}");
    }
    other.stop();
    program.reopen();
    exchange(&topology, ENGINE_V4, 2);
    change_kept(&topology, ENGINE_V4, 1);
    program.stop();
}

/// The kernel counts a closed socket's frames as locked a little longer, and they must not be counted twice.
#[test]
fn a_limit_on_locked_memory_that_allows_the_frames_once_is_enough() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let limited = ["prlimit", "--memlock=8388608:8388608", "setpriv", "--bounding-set=-ipc_lock"];
    let mut program = Program::start_by(&topology, &limited, &[], &[(ENGINE_INTERFACE, ENGINE_V4)]);
    for turn in 0..8 {
        exchange(&topology, ENGINE_V4, turn);
        program.reopen();
    }
    program.stop();
}
