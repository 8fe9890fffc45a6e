//! Programs in C over the library's `trsocket.h`, from `engine/examples/c`: built with gcc, run on a veth pair, used by programs of Linux.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use framewire_tests::rig::{
    ENGINE_INTERFACE, ENGINE_V4, Process, StreamExt, TempDir, Topology, UdpClient, build_c, pattern, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a second copy of a packet may be on its way.
const RETRY: Duration = Duration::from_secs(5);
const MASK: &str = "255.255.255.0";
const ZERO_COPIED: &str = "copied: 0 bytes out, 0 in";

fn topology() -> Topology {
    Topology::builder().congestion_control("reno").build().expect("topology")
}

/// One of the programs, running on the engine's end of the pair.
struct Program {
    process: Process,
    folder: TempDir,
}

impl Program {
    /// Builds `engine/examples/c/<name>.c`, watched by the address sanitizer, and starts it; `args` come after its address. In them `FOLDER` is [`Self::files`].
    fn start(topology: &Topology, name: &str, args: &[&str]) -> Self {
        let folder = TempDir::create().expect("folder");
        let files = folder.path().join("files");
        fs::create_dir_all(&files).expect("folder");
        let program = build_c(&format!("examples/c/{name}.c"), folder.path()).expect(name);
        let mut command = topology.engine.command(program);
        command.args([ENGINE_INTERFACE, &ENGINE_V4.to_string(), MASK]);
        for arg in args {
            match *arg {
                "FOLDER" => command.arg(&files),
                arg => command.arg(arg),
            };
        }
        let process = Process::spawn(command).expect(name);
        process.wait_for("ready", TIMEOUT).expect("ready");
        Self { process, folder }
    }

    /// The folder that it serves.
    fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    fn add_file(&self, name: &str, content: &[u8]) {
        fs::write(self.files().join(name), content).expect("write");
    }

    /// Ends it, and returns what it wrote.
    fn stop(mut self) -> String {
        let status = self.process.stop(TIMEOUT).expect("it ends");
        assert!(status.success(), "{status}: {}", self.process.output());
        self.process.output()
    }
}

/// Runs a client in the peer's namespace, in `folder`.
fn client(topology: &Topology, folder: &Path, program: &str, args: &[&str]) -> Output {
    topology.peer.command(program).args(args).current_dir(folder).output().expect(program)
}

fn succeed(topology: &Topology, folder: &Path, program: &str, args: &[&str]) -> String {
    let output = client(topology, folder, program, args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {}: {out}{err}", output.status);
    out
}

#[test]
fn the_udp_echo_answers_uncopied() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let echo = Program::start(&topology, "udp_echo", &[]);
    let client = UdpClient::connect(&topology.peer, (ENGINE_V4, 7)).expect("connect");
    for len in [0, 1, 100, 1472] {
        client.exchange(&pattern(len, len as u64), TIMEOUT).expect("echo");
    }
    let output = echo.stop();
    assert!(output.contains(ZERO_COPIED), "{output}");
}

/// Somebody in the chat, behind socat or ncat.
struct Chatter(Process);

impl Chatter {
    fn join(topology: &Topology, program: &str, name: &str) -> Self {
        let mut command = topology.peer.command(program);
        match program {
            // After its input's end it waits for the server's.
            "socat" => command.args(["-t", "20", "-", &format!("TCP:{ENGINE_V4}:4000")]),
            _ => command.args([&ENGINE_V4.to_string(), "4000"]),
        };
        let mut chatter = Self(Process::spawn_with_input(command).expect(program));
        chatter.hear("* your name?");
        chatter.say(name);
        chatter
    }

    fn say(&mut self, line: &str) {
        self.0.write(format!("{line}\n").as_bytes()).expect("write");
    }

    fn hear(&self, line: &str) {
        self.0.wait_for(line, TIMEOUT).expect("a line");
    }

    fn has_heard(&self, line: &str) -> bool {
        self.0.output().contains(line)
    }
}

#[test]
fn people_chat() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let server = Program::start(&topology, "chat", &[]);
    let mut alice = Chatter::join(&topology, "socat", "alice");
    alice.hear("* welcome, alice");
    let mut bob = Chatter::join(&topology, "ncat", "alice");
    bob.hear("* that name is taken; yours?");
    bob.say("b:b");
    bob.hear("* a name is 1 to 16 characters");
    bob.say("bob");
    alice.hear("* bob has joined");
    let mut crowd: Vec<Chatter> =
        (0..12).map(|number| Chatter::join(&topology, ["socat", "ncat"][number % 2], &format!("c{number}"))).collect();
    for (number, one) in crowd.iter().enumerate() {
        one.hear(&format!("* welcome, c{number}"));
    }

    alice.say("hello, all");
    for one in crowd.iter().chain([&bob]) {
        one.hear("alice: hello, all");
    }
    // Everybody at once; each line reaches everybody else, and not who said it.
    for (number, one) in crowd.iter_mut().enumerate() {
        one.say(&format!("this is {number}."));
    }
    for (number, one) in crowd.iter().enumerate() {
        for other in (0..12).filter(|&other| other != number) {
            one.hear(&format!("c{other}: this is {other}."));
        }
        assert!(!one.has_heard(&format!("c{number}: ")), "c{number} heard itself");
    }
    assert!(!alice.has_heard("alice: "), "alice heard herself");

    // 512 bytes are a line, 513 are not, and the next line is one again.
    let longest = "x".repeat(512);
    bob.say(&longest);
    alice.hear(&format!("bob: {longest}"));
    bob.say(&"y".repeat(5000));
    bob.hear("* that line was too long");
    bob.say("sorry");
    alice.hear("bob: sorry");
    assert!(!alice.has_heard("yyy"), "an overlong line went on");

    // A client that has ended its own side leaves, with a last line that has no end.
    crowd[0].0.write(b"good-bye").expect("write");
    crowd[0].0.end_input();
    alice.hear("c0: good-bye");
    alice.hear("* c0 has left");
    crowd[0].0.wait(TIMEOUT).expect("the server ended its side too");
    // So does one that is killed, and one whose connection is reset.
    crowd[1].0.kill().expect("kill");
    alice.hear("* c1 has left");
    let mut rude = topology.peer.tcp_connect((ENGINE_V4, 4000), TIMEOUT).expect("connect");
    rude.write_all(b"rude\r\nhi\r\n").expect("write");
    alice.hear("rude: hi");
    rude.reset_on_close().expect("linger");
    drop(rude);
    alice.hear("* rude has left");
    server.stop();
    alice.hear("* good night");
    alice.0.end_input();
    alice.0.wait(TIMEOUT).expect("the connection was closed");
}

#[test]
fn who_does_not_listen_is_cut_off() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let server = Program::start(&topology, "chat", &[]);
    let bob = Chatter::join(&topology, "socat", "bob");
    bob.hear("* welcome, bob");
    let mut deaf = topology.peer.tcp_connect((ENGINE_V4, 4000), TIMEOUT).expect("connect");
    deaf.set_receive_buffer(4096).expect("buffer");
    deaf.write_all(b"deaf\n").expect("write");
    bob.hear("* deaf has joined");
    let mut loud = topology.peer.tcp_connect((ENGINE_V4, 4000), TIMEOUT).expect("connect");
    loud.write_all(b"loud\n").expect("write");
    // Until its receive buffer and the server's send queue are full. Who listens must be able to follow, or would be cut off too.
    let line = format!("{}\n", "z".repeat(500));
    let mut round = 0;
    while !bob.has_heard("* deaf has left") {
        assert!(round < 300, "30 MB were sent to one who does not read");
        loud.write_all(line.repeat(200).as_bytes()).expect("write");
        loud.write_all(format!("round {round}\n").as_bytes()).expect("write");
        bob.hear(&format!("loud: round {round}"));
        round += 1;
    }
    loud.write_all(b"done\n").expect("write");
    bob.hear("loud: done");
    server.stop();
}

const SIZES: [usize; 9] = [0, 1, 511, 512, 513, 1024, 5120, 100_000, 512 * 700];

#[test]
fn tftp_clients_read_and_write_files_of_every_size() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let server = Program::start(&topology, "tftp", &["FOLDER", "-w"]);
    let folder = TempDir::create().expect("folder");
    let engine = ENGINE_V4.to_string();
    for (number, size) in SIZES.into_iter().enumerate() {
        let content = pattern(size, number as u64);
        server.add_file("down", &content);
        succeed(&topology, folder.path(), "tftp", &["-m", "binary", &engine, "-c", "get", "down", "plain"]);
        assert!(fs::read(folder.path().join("plain")).expect("a file") == content, "{size} bytes by tftp");
        let large = ["--option", "blksize 1400", "--get", "-r", "down", "-l", "options", &engine];
        succeed(&topology, folder.path(), "atftp", &large);
        assert!(fs::read(folder.path().join("options")).expect("a file") == content, "{size} bytes by atftp");

        let (plain, options) = (format!("up-plain-{size}"), format!("up-options-{size}"));
        succeed(&topology, folder.path(), "tftp", &["-m", "binary", &engine, "-c", "put", "plain", &plain]);
        let large = ["--option", "blksize 1024", "--put", "-l", "plain", "-r", &options, &engine];
        succeed(&topology, folder.path(), "atftp", &large);
        for name in [plain, options] {
            assert!(fs::read(server.files().join(&name)).expect("a file") == content, "{name}");
        }
    }
    // What is not there, and what is there already.
    let refused = client(&topology, folder.path(), "tftp", &["-m", "binary", &engine, "-c", "get", "absent"]);
    assert!(String::from_utf8_lossy(&[refused.stdout, refused.stderr].concat()).contains("No such file"));
    let refused = client(&topology, folder.path(), "tftp", &["-m", "binary", &engine, "-c", "put", "plain", "down"]);
    assert!(String::from_utf8_lossy(&[refused.stdout, refused.stderr].concat()).contains("File exists"));
    let output = server.stop();
    assert!(output.contains(ZERO_COPIED), "{output}");
}

#[test]
fn several_tftp_clients_read_at_once() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let server = Program::start(&topology, "tftp", &["FOLDER"]);
    let folder = TempDir::create().expect("folder");
    let contents: Vec<_> = (0..12).map(|number| pattern(300_000 + number, number as u64)).collect();
    let mut clients = Vec::new();
    for (number, content) in contents.iter().enumerate() {
        server.add_file(&format!("f{number}"), content);
        let mut command = topology.peer.command("tftp");
        let name = format!("f{number}");
        command.current_dir(folder.path()).args(["-m", "binary", &ENGINE_V4.to_string(), "-c", "get", &name]);
        clients.push(Process::spawn(command).expect("tftp"));
    }
    for (number, (client, content)) in clients.iter_mut().zip(&contents).enumerate() {
        assert!(client.wait(TIMEOUT).expect("it ends").success(), "{}", client.output());
        assert!(fs::read(folder.path().join(format!("f{number}"))).expect("a file") == *content, "f{number}");
    }
    server.stop();
}

/// A TFTP client that does what others do not.
struct Tftp {
    socket: UdpSocket,
}

const RRQ: u8 = 1;
const WRQ: u8 = 2;
const DATA: u8 = 3;
const ACK: u8 = 4;
const ERROR: u8 = 5;

impl Tftp {
    fn new(topology: &Topology) -> Self {
        let socket = topology.peer.udp(([0, 0, 0, 0], 0)).expect("bind");
        socket.set_read_timeout(Some(RETRY)).expect("timeout");
        Self { socket }
    }

    fn send(&self, packet: &[u8], to: impl Into<SocketAddr>) {
        self.socket.send_to(packet, to.into()).expect("send");
    }

    fn request(&self, opcode: u8, name: &str, mode: &str) {
        self.send(&[&[0, opcode], name.as_bytes(), &[0], mode.as_bytes(), &[0]].concat(), (ENGINE_V4, 69));
    }

    fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut packet = [0; 2048];
        let (len, from) = self.socket.recv_from(&mut packet).expect("a packet");
        (packet[..len].to_vec(), from)
    }

    /// The next packet is of this kind and has this number, of a block or an error; returns what is behind it.
    #[track_caller]
    fn expect(&self, opcode: u8, number: u8) -> (Vec<u8>, SocketAddr) {
        let (packet, from) = self.receive();
        assert_eq!(packet[..4], [0, opcode, 0, number], "{packet:?}");
        (packet[4..].to_vec(), from)
    }
}

#[test]
fn tftp_goes_on_where_packets_were_lost() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let server = Program::start(&topology, "tftp", &["FOLDER", "-w"]);
    let content = pattern(1300, 1);
    server.add_file("file", &content);

    // Lost: our acknowledgement, or its block; both come to the same. The request comes twice, and begins one transfer.
    let tftp = Tftp::new(&topology);
    tftp.request(RRQ, "file", "octet");
    tftp.request(RRQ, "file", "octet");
    let (first, port) = tftp.expect(DATA, 1);
    assert_eq!(tftp.expect(DATA, 1), (first, port), "again, when its time was over");
    tftp.send(&[0, ACK, 0, 1], port);
    let (second, _) = tftp.expect(DATA, 2);
    assert_eq!(second, content[512..1024]);
    // An old acknowledgement is not answered: the next block is 3 and not 2 once more.
    tftp.send(&[0, ACK, 0, 1], port);
    // A stranger does no harm.
    let stranger = Tftp::new(&topology);
    stranger.send(&[0, ACK, 0, 2], port);
    stranger.expect(ERROR, 5);
    tftp.send(&[0, ACK, 0, 2], port);
    let (third, _) = tftp.expect(DATA, 3);
    assert_eq!(third, content[1024..]);
    tftp.send(&[0, ACK, 0, 3], port);

    // Lost: the server's acknowledgements.
    let tftp = Tftp::new(&topology);
    tftp.request(WRQ, "new", "octet");
    let (_, port) = tftp.expect(ACK, 0);
    tftp.expect(ACK, 0);
    let block = |number: u8, bytes: &[u8]| [&[0, DATA, 0, number], bytes].concat();
    for (number, bytes) in [(1, &content[..512]), (2, &content[512..1024]), (3, &content[1024..])] {
        tftp.send(&block(number, bytes), port);
        tftp.expect(ACK, number);
        tftp.send(&block(number, bytes), port);
        tftp.expect(ACK, number);
    }
    assert!(fs::read(server.files().join("new")).expect("a file") == content, "other bytes were written");

    // A client that gives up leaves nothing behind.
    let tftp = Tftp::new(&topology);
    tftp.request(WRQ, "half", "octet");
    let (_, port) = tftp.expect(ACK, 0);
    tftp.send(&block(1, &content[..512]), port);
    tftp.expect(ACK, 1);
    tftp.send(&[&[0, ERROR, 0, 0][..], b"no more\0"].concat(), port);
    let begun = std::time::Instant::now();
    while server.files().join("half").exists() {
        assert!(begun.elapsed() < TIMEOUT, "half a file is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.stop();
}

#[test]
fn tftp_refuses_what_it_must() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let server = Program::start(&topology, "tftp", &["FOLDER", "-w"]);
    fs::write(server.folder.path().join("secret"), "secret").expect("write");
    server.add_file("file", b"file");
    fs::create_dir(server.files().join("folder")).expect("folder");
    let refusals: [(u8, &str, &str, u8); 10] = [
        (RRQ, "../secret", "octet", 2),
        (RRQ, "/../secret", "octet", 2),
        (RRQ, "folder/../../secret", "octet", 2),
        (RRQ, "folder/..", "octet", 2),
        (WRQ, "../new", "octet", 2),
        (RRQ, "folder", "octet", 2),
        (RRQ, "absent", "OCTET", 1),
        (WRQ, "file", "octet", 6),
        (RRQ, "file", "netascii", 4),
        (9, "file", "octet", 4),
    ];
    for (opcode, name, mode, code) in refusals {
        let tftp = Tftp::new(&topology);
        tftp.request(opcode, name, mode);
        let (packet, _) = tftp.receive();
        assert_eq!(packet[..4], [0, ERROR, 0, code], "{opcode} {name} {mode}: {packet:?}");
    }
    let tftp = Tftp::new(&topology);
    for junk in [&b""[..], b"\0", b"\0\x01", b"\0\x01file", b"\0\x01file\0", b"\0\x01file\0octet"] {
        tftp.send(junk, (ENGINE_V4, 69));
        if !junk.is_empty() {
            tftp.expect(ERROR, 4);
        }
    }
    // It still serves.
    tftp.request(RRQ, "file", "octet");
    assert_eq!(tftp.expect(DATA, 1).0, b"file");
    server.stop();
    assert_eq!(fs::metadata("/new").map_err(|error| error.kind()).err(), Some(std::io::ErrorKind::NotFound));
}

fn curl(topology: &Topology, folder: &Path, args: &[&str]) -> String {
    succeed(topology, folder, "curl", &[&["--silent", "--show-error", "--max-time", "60"], args].concat())
}

#[test]
fn curl_reads_files() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let server = Program::start(&topology, "http10", &["FOLDER"]);
    let folder = TempDir::create().expect("folder");
    let url = |path: &str| format!("http://{ENGINE_V4}/{path}");
    fs::write(server.folder.path().join("secret"), "secret").expect("write");
    for (number, size) in [0, 1, 1000, 1447, 1448, 1449, 100_003, 5 << 20].into_iter().enumerate() {
        let content = pattern(size, number as u64);
        server.add_file("file", &content);
        let head = curl(&topology, folder.path(), &["--dump-header", "-", "--output", "file", &url("file")]);
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {size}\r\n")), "{head}");
        assert!(fs::read(folder.path().join("file")).expect("a file") == content, "{size} bytes");
        let head = curl(&topology, folder.path(), &["--head", &url("file")]);
        assert!(head.contains(&format!("\r\nContent-Length: {size}\r\n")), "{head}");
    }
    server.add_file("index.html", b"<p>hello");
    fs::create_dir(server.files().join("folder")).expect("folder");
    assert_eq!(curl(&topology, folder.path(), &[&url("")]), "<p>hello");
    assert_eq!(curl(&topology, folder.path(), &[&url("%69ndex.html?query")]), "<p>hello");
    let status = |args: &[&str]| {
        let args = [&["--path-as-is", "--output", "answer", "--write-out", "%{http_code}"], args].concat();
        curl(&topology, folder.path(), &args)
    };
    assert_eq!(status(&[&url("absent")]), "404");
    assert_eq!(status(&[&url("folder")]), "404");
    assert_eq!(status(&[&url("folder/")]), "404");
    assert_eq!(status(&["--head", &url("absent")]), "404");
    assert_eq!(status(&[&url("../secret")]), "400");
    assert_eq!(status(&[&url("%2e%2e/secret")]), "400");
    assert_eq!(status(&[&url("folder/../../secret")]), "400");
    assert_eq!(status(&[&url("%zz")]), "400");
    assert_eq!(status(&["--request", "DELETE", &url("file")]), "405");
    // With a body that nobody reads: the answer gets there all the same.
    fs::write(folder.path().join("body"), pattern(1 << 20, 1)).expect("write");
    assert_eq!(status(&["--header", "Expect:", "--data-binary", "@body", &url("file")]), "405");
    assert_eq!(status(&["--header", &format!("Filler: {}", "x".repeat(6000)), &url("file")]), "400");
    let output = server.stop();
    assert!(output.contains("copied: 0 bytes out"), "{output}");
}

#[test]
fn many_clients_read_at_once() {
    if !require_root() {
        return;
    }
    const CLIENTS: usize = 30;
    let topology = topology();
    let server = Program::start(&topology, "http10", &["FOLDER", "8080"]);
    let folder = TempDir::create().expect("folder");
    let content = pattern(1_000_003, 5);
    server.add_file("file", &content);
    // Some leave in the middle, in both ways, and some never ask.
    let connect = || topology.peer.tcp_connect((ENGINE_V4, 8080), TIMEOUT).expect("connect");
    let silent: Vec<_> = (0..5).map(|_| connect()).collect();
    for number in 0..6 {
        let mut leaver = connect();
        leaver.write_all(b"GET /file HTTP/1.0\r\n\r\n").expect("write");
        leaver.read_exact(&mut [0; 1000]).expect("read");
        if number % 2 == 0 {
            leaver.reset_on_close().expect("linger");
        }
    }
    let url = format!("http://{ENGINE_V4}:8080/file?[1-{CLIENTS}]");
    let parallel = ["--parallel", "--parallel-immediate", "--parallel-max", "50", "--output", "file-#1"];
    curl(&topology, folder.path(), &[&parallel[..], &[&url]].concat());
    for number in 1..=CLIENTS {
        let got = fs::read(folder.path().join(format!("file-{number}"))).expect("a file");
        assert!(got == content, "client {number} got {} bytes", got.len());
    }
    drop(silent);
    let output = server.stop();
    assert!(output.contains("copied: 0 bytes out"), "{output}");
}

#[test]
fn a_request_may_come_in_pieces_and_nonsense_is_refused() {
    if !require_root() {
        return;
    }
    let topology = topology();
    let server = Program::start(&topology, "http10", &["FOLDER"]);
    server.add_file("file", b"content");
    let ask = |pieces: &[&[u8]]| {
        let mut stream = topology.peer.tcp_connect((ENGINE_V4, 80), TIMEOUT).expect("connect");
        stream.set_read_timeout(Some(TIMEOUT)).expect("timeout");
        stream.set_nodelay(true).expect("nodelay");
        for piece in pieces {
            stream.write_all(piece).expect("write");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer and its end");
        answer
    };
    let whole = ask(&[b"GET /fi", b"le HTTP/1.0\r\nA: b\r\n", b"\r", b"\n"]);
    assert!(whole.starts_with("HTTP/1.0 200 OK\r\n") && whole.ends_with("\r\n\r\ncontent"), "{whole}");
    for nonsense in [&b"\r\n\r\n"[..], b"GET\r\n\r\n", b"GET /file\r\n\r\n", b"GET /file FTP/1.0\r\n\r\n", b"a\0b"] {
        let answer = ask(&[nonsense]);
        assert!(answer.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{nonsense:?}: {answer}");
    }
    let absolute = ask(&[b"GET file HTTP/1.0\r\n\r\n"]);
    assert!(absolute.starts_with("HTTP/1.0 400 "), "{absolute}");
    server.stop();
}
