//! A server and a client on two stacks that hand each other their frames.

use super::*;
use crate::{
    buf::{HugePages, Pool, PoolConfig, Region},
    proto::IfaceId,
    socket::{TcpRecvError, drive},
    stack::{IfaceConfig, Stack, StackConfig},
    wire::MacAddr,
};
use std::{fs, path::Path};

const IFACE: IfaceId = IfaceId(0);
const SERVER: &str = "10.0.0.2:80";
const LARGE: usize = 300_000;

struct Rig {
    client: Stack,
    server: Stack,
    http: HttpServer,
    counts: Arc<Counts>,
    now: Instant,
}

fn stack(last: u8) -> Stack {
    let pool = Pool::new(
        Region::map(2048, 2048, HugePages::Never).unwrap(),
        PoolConfig { rx_reserve_frames: 64, run_frames: 0 },
    );
    let mut stack = Stack::new(pool, StackConfig::new([last; 32]), Instant::ZERO);
    let mac = MacAddr([2, 0, 0, 0, 0, last]);
    let mut config = IfaceConfig::new("mem", mac, vec![format!("10.0.0.{last}/24").parse().unwrap()]);
    config.tx_pieces_max = 17;
    stack.add_interface(config).unwrap();
    stack
}

fn large() -> String {
    (0..LARGE).map(|i| char::from(b'a' + (i % 23) as u8)).collect()
}

fn config() -> HttpConfig {
    let page =
        |path: &str, body: &str| HttpPage { path: path.into(), body: body.into(), content_type: "text/plain".into() };
    HttpConfig {
        index: 0,
        local: SERVER.parse().unwrap(),
        backlog: 16,
        connections_max: 8,
        root: None,
        pages: vec![page("/", "hello\n"), page("/large", &large()), page("/empty", ""), page("/a b", "space")],
        content_bytes_max: 1 << 20,
        idle_timeout: Duration::from_secs(10),
        options: TcpOptions { nodelay: true, ..TcpOptions::default() },
    }
}

impl Rig {
    fn new(config: HttpConfig) -> Self {
        let counts = Arc::new(Counts::default());
        let mut http = HttpServer::new(config, Arc::clone(&counts));
        let mut server = stack(2);
        http.start(&mut Net::new(&mut server)).unwrap();
        Self { client: stack(1), server, http, counts, now: Instant::from_millis(1) }
    }

    fn carry(from: &mut Stack, to: &mut Stack, now: Instant) -> bool {
        from.flush();
        let (mut packet, mut moved) = (Vec::new(), false);
        while let Some(piece) = from.egress(IFACE).pop() {
            packet.extend_from_slice(piece.as_slice());
            if !piece.more() {
                let frame = to.pool().rx_from_bytes(&packet).unwrap();
                to.ingress(now, IFACE, &mut vec![frame]);
                packet.clear();
                moved = true;
            }
        }
        from.egress_drained(IFACE);
        moved
    }

    /// Until nobody has anything to say.
    fn settle(&mut self) {
        for _ in 0..2_000 {
            self.client.set_now(self.now);
            self.server.set_now(self.now);
            let sent = Self::carry(&mut self.client, &mut self.server, self.now);
            drive(&mut self.server, &mut self.http);
            let answered = Self::carry(&mut self.server, &mut self.client, self.now);
            while self.client.next_event().is_some() {}
            if !sent && !answered {
                return;
            }
        }
        panic!("they never stop talking");
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(10);
            self.client.poll_timers(self.now);
            self.server.poll_timers(self.now);
            self.settle();
        }
    }

    fn connect(&mut self) -> TcpStream {
        // Nagle's algorithm would join what tests cut.
        let options = TcpOptions { nodelay: true, ..TcpOptions::default() };
        let any = "0.0.0.0:0".parse().unwrap();
        let stream = Net::new(&mut self.client).tcp_connect_with(any, SERVER.parse().unwrap(), options).unwrap();
        self.settle();
        stream
    }

    fn send(&mut self, stream: TcpStream, bytes: &[u8]) {
        for bytes in bytes.chunks(1400) {
            let mut net = Net::new(&mut self.client);
            let mut buf = net.alloc().unwrap();
            buf.put_slice(bytes).unwrap();
            stream.send(&mut net, buf).unwrap();
        }
        self.settle();
    }

    /// Everything that comes, and whether the server has finished.
    fn read(&mut self, stream: TcpStream) -> (Vec<u8>, bool) {
        let mut got = Vec::new();
        for _ in 0..100 {
            loop {
                match stream.recv(&mut Net::new(&mut self.client)) {
                    Ok(buf) => got.extend(buf.pieces().flatten()),
                    Err(TcpRecvError::WouldBlock) => break,
                    Err(_) => return (got, true),
                }
            }
            // Delayed acknowledgments, and what waits for windows.
            self.pass(Duration::from_millis(10));
        }
        (got, false)
    }

    fn ask(&mut self, stream: TcpStream, request: &str) -> (String, bool) {
        self.send(stream, request.as_bytes());
        let (got, ended) = self.read(stream);
        (String::from_utf8(got).unwrap(), ended)
    }

    /// What a new connection is answered.
    fn once(&mut self, request: &str) -> (String, bool) {
        let stream = self.connect();
        let answer = self.ask(stream, request);
        stream.close(&mut Net::new(&mut self.client));
        self.settle();
        answer
    }

    /// The server closes: no frame may be missing, and none was copied.
    fn finish(mut self) -> Arc<Counts> {
        self.http.stop(&mut Net::new(&mut self.server));
        self.settle();
        let pools = [self.client.pool().clone(), self.server.pool().clone()];
        for stack in [&self.client, &self.server] {
            assert_eq!((stack.counters.bytes_copied_tx, stack.counters.bytes_copied_rx), (0, 0));
        }
        drop((self.client, self.server, self.http));
        for pool in pools {
            assert!(pool.ledger().is_whole(), "{}", pool.ledger());
        }
        self.counts
    }
}

/// Status line, fields and body of the first response, and the rest.
fn split(text: &str) -> (&str, &str, &str) {
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    let (status, fields) = head.split_once("\r\n").unwrap();
    (status, fields, rest)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_page_has_its_fields_and_the_connection_stays() {
    let mut rig = Rig::new(config());
    let stream = rig.connect();
    for _ in 0..3 {
        let (text, ended) = rig.ask(stream, GET);
        let (status, fields, body) = split(&text);
        assert_eq!((status, body, ended), ("HTTP/1.1 200 OK", "hello\n", false));
        assert!(
            fields.contains("Content-Length: 6\r\nContent-Type: text/plain")
                || fields.contains("Content-Type: text/plain\r\nContent-Length: 6"),
            "{fields}"
        );
        let date = fields.split_once("Date: ").unwrap().1;
        assert!(date[..29].ends_with(" GMT") && !date.starts_with('-'), "{fields}");
        assert!(!fields.contains("Connection:"), "{fields}");
    }
    let (text, _) = rig.ask(stream, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    let (status, fields, body) = split(&text);
    assert_eq!((status, body), ("HTTP/1.1 200 OK", ""));
    assert!(fields.contains("Content-Length: 6"), "{fields}");
    let counts = rig.finish();
    assert_eq!((counts.http_requests.get(), counts.http_errors.get(), counts.connections_accepted.get()), (4, 0, 1));
}

#[test]
fn a_large_body_is_sent_from_shared_frames_to_several_at_once() {
    let mut rig = Rig::new(config());
    let free = rig.server.pool().free();
    let streams = [rig.connect(), rig.connect(), rig.connect()];
    for stream in streams {
        rig.send(stream, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for stream in streams {
        let (got, ended) = rig.read(stream);
        let text = String::from_utf8(got).unwrap();
        let (_, fields, rest) = split(&text);
        assert!(fields.contains(&format!("Content-Length: {LARGE}")), "{fields}");
        assert!(rest[..LARGE] == large() && !ended);
        assert_eq!(split(&rest[LARGE..]).2, "hello\n");
    }
    rig.pass(Duration::from_millis(100));
    assert_eq!(rig.server.pool().free(), free);
    rig.finish();
}

#[test]
fn pipelined_requests_are_answered_in_order_and_together() {
    let mut rig = Rig::new(config());
    let stream = rig.connect();
    let (text, _) = rig
        .ask(stream, &format!("{GET}GET /empty HTTP/1.1\r\nHost: x\r\n\r\nGET /no HTTP/1.1\r\nHost: x\r\n\r\n{GET}"));
    let (first, _, rest) = split(&text);
    let (second, fields, rest) = split(rest.strip_prefix("hello\n").unwrap());
    assert!(fields.contains("Content-Length: 0"));
    let (third, _, rest) = split(rest);
    let (fourth, _, rest) = split(rest.strip_prefix("404 Not Found\n").unwrap());
    assert_eq!([first, second, third, fourth].map(|status| &status[9..12]), ["200", "200", "404", "200"]);
    assert_eq!(rest, "hello\n");
    assert_eq!(rig.counts.sent.get(), 1, "four small responses are one buffer");
    // More than a turn's worth, and more than a frame of answers.
    let (text, _) = rig.ask(stream, &GET.repeat(500));
    assert_eq!(text.matches("\r\n\r\nhello\n").count(), 500);
    let counts = rig.finish();
    assert_eq!((counts.http_requests.get(), counts.http_errors.get()), (504, 1));
}

#[test]
fn requests_may_be_cut_anywhere() {
    let mut rig = Rig::new(config());
    let stream = rig.connect();
    let two = format!("{GET}GET /empty HTTP/1.1\r\nHost: x\r\n\r\n");
    for cut in 1..two.len() {
        rig.send(stream, &two.as_bytes()[..cut]);
        rig.send(stream, &two.as_bytes()[cut..]);
        let mut got = String::new();
        while let Ok(buf) = stream.recv(&mut Net::new(&mut rig.client)) {
            got.push_str(std::str::from_utf8(buf.as_slice()).unwrap());
        }
        assert_eq!(got.matches("HTTP/1.1 200 OK").count(), 2, "cut at {cut}: {got}");
    }
    for byte in GET.bytes() {
        rig.send(stream, &[byte]);
    }
    assert_eq!(split(std::str::from_utf8(&rig.read(stream).0).unwrap()).2, "hello\n");
    rig.finish();
}

#[test]
fn what_is_wrong_is_told() {
    let long = "x".repeat(9_000);
    let many: String = (0..100).map(|i| format!("X-{i}: y\r\n")).collect();
    let cases = [
        ("GET /no HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "404", false),
        ("GET /../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "404", false),
        ("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "405", false),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "405", true),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "405", false),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nGET".to_owned(), "200", true),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400", true),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".to_owned(), "400", true),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "400",
            true,
        ),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n".to_owned(), "400", true),
        ("GET x HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "400", true),
        ("GET /%4 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "400", true),
        ("\x01\x02\x03 / HTTP/1.1\r\n\r\n".to_owned(), "400", true),
        ("GET / HTTP/1.1\r\nHost x\r\n\r\n".to_owned(), "400", true),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n".to_owned(), "505", true),
        ("GET / FTP/1.0\r\nHost: x\r\n\r\n".to_owned(), "400", true),
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), "414", true),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"), "431", true),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"), "431", true),
    ];
    let mut rig = Rig::new(config());
    for (request, status, closes) in cases {
        let (text, ended) = rig.once(&request);
        let (line, fields, _) = split(&text);
        let shown = &request[..request.len().min(80)];
        assert_eq!((&line[9..12], ended), (status, closes), "{shown:?}: {text}");
        assert_eq!(fields.contains("Connection: close"), closes, "{shown:?}: {fields}");
        assert_eq!(fields.contains("Allow: GET, HEAD"), status == "405", "{shown:?}: {fields}");
    }
    rig.finish();
}

#[test]
fn who_asks_for_the_end_gets_it() {
    let mut rig = Rig::new(config());
    for (request, connection, ends) in [
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "Connection: close", true),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo , CLOSE\r\n\r\n", "Connection: close", true),
        ("GET / HTTP/1.0\r\n\r\n", "Connection: close", true),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "Connection: keep-alive", false),
        ("GET http://example.com HTTP/1.1\r\nHost: example.com\r\nConnection: keep-alive\r\n\r\n", "Content-", false),
        ("\r\nGET /?query=1 HTTP/1.1\r\nHost: x\r\n\r\n", "Content-", false),
    ] {
        let (text, ended) = rig.once(request);
        let (status, fields, body) = split(&text);
        assert_eq!((status, body, ended), ("HTTP/1.1 200 OK", "hello\n", ends), "{request}");
        assert!(fields.contains(connection), "{request}: {fields}");
    }
    assert_eq!(split(&rig.once("GET /a%20b HTTP/1.1\r\nHost: x\r\n\r\n").0).2, "space");
    // What follows the last request is not answered, and does not reset what is.
    let (text, ended) = rig.once(&format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n{}", GET.repeat(100)));
    assert_eq!((split(&text).2, ended), ("hello\n", true));
    // Who has finished asking is still answered.
    let stream = rig.connect();
    rig.send(stream, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.shutdown(&mut Net::new(&mut rig.client));
    rig.settle();
    let (got, ended) = rig.read(stream);
    assert!(ended && got.len() > LARGE);
    rig.finish();
}

#[test]
fn slow_readers_are_waited_for_and_hold_little() {
    let mut settings = config();
    settings.options.send_queue_bytes = 65_536;
    let mut rig = Rig::new(settings);
    let stream = rig.connect();
    let request = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
    let free = rig.server.pool().free();
    // Two hundred large responses are 60 MB.
    rig.send(stream, &request.repeat(200));
    rig.pass(Duration::from_secs(2));
    assert!(rig.server.pool().free() + 400 > free, "{} of {free} frames free", rig.server.pool().free());
    let mut wanted = 200;
    let mut got = 0;
    for _ in 0..20_000 {
        while let Ok(buf) = stream.recv(&mut Net::new(&mut rig.client)) {
            got += buf.total_len();
        }
        if got > 200 * LARGE {
            wanted = 0;
            break;
        }
        rig.pass(Duration::from_millis(10));
    }
    assert_eq!((wanted, rig.counts.http_requests.get()), (0, 200), "{got} bytes");
    rig.finish();
}

#[test]
fn who_does_nothing_is_closed() {
    let mut rig = Rig::new(config());
    let silent = rig.connect();
    let half = rig.connect();
    rig.send(half, b"GET / HTTP/1.1\r\nHo");
    let deaf = rig.connect();
    rig.send(deaf, &b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n".repeat(30));
    rig.pass(Duration::from_secs(8));
    let busy = rig.connect();
    assert!(!rig.ask(busy, GET).1);
    rig.pass(Duration::from_secs(4));
    assert_eq!(rig.read(silent), (vec![], true));
    let (text, ended) = rig.read(half);
    assert!(ended && text.starts_with(b"HTTP/1.1 408"), "{text:?}");
    assert!(!rig.ask(busy, GET).1);
    assert!(rig.counts.idle_timeouts.get() >= 3, "{}", rig.counts.idle_timeouts.get());
    rig.pass(Duration::from_secs(25));
    assert!(rig.ask_closed(busy) && rig.http.base.conns.len() == 0);
    rig.finish();
}

impl Rig {
    fn ask_closed(&mut self, stream: TcpStream) -> bool {
        self.read(stream).1
    }
}

#[test]
fn connections_have_a_limit() {
    let mut rig = Rig::new(config());
    let streams: Vec<TcpStream> = (0..10).map(|_| rig.connect()).collect();
    let answered = streams.iter().filter(|&&stream| {
        let alive = stream.state(&Net::new(&mut rig.client)) == crate::socket::TcpState::Established;
        alive && !rig.ask(stream, GET).0.is_empty()
    });
    assert_eq!(answered.count(), 8);
    assert_eq!(rig.finish().connections_refused.get(), 2);
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("framewire-http-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("sub/deep")).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_folder_is_served_and_nothing_beside_it() {
    let folder = Folder::new("site");
    folder.write("index.html", "<p>start");
    folder.write("x.css", "p{}");
    folder.write(".secret", "no");
    folder.write("sub/index.html", "sub");
    folder.write("sub/deep/d.bin", "deep");
    std::os::unix::fs::symlink("/etc/passwd", folder.0.join("link")).unwrap();
    let root = Some(folder.0.clone());
    let page = HttpPage { path: "/x.css".into(), body: "page".into(), content_type: "text/css".into() };
    let mut rig = Rig::new(HttpConfig { root, pages: vec![page], ..config() });
    let mut get = |path: &str| rig.once(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).0;
    for (path, status, holds, body) in [
        ("/", "200", "text/html; charset=utf-8", "<p>start"),
        ("/index.html", "200", "text/html", "<p>start"),
        ("/x.css", "200", "text/css", "page"),
        ("/sub/", "200", "text/html", "sub"),
        ("/sub", "301", "Location: /sub/", ""),
        ("/sub/deep/d.bin", "200", "application/octet-stream", "deep"),
        ("/sub/deep/", "404", "text/plain", "404 Not Found\n"),
        ("/.secret", "404", "text/plain", "404 Not Found\n"),
        ("/link", "404", "text/plain", "404 Not Found\n"),
        ("/sub/%2e%2e/index.html", "404", "text/plain", "404 Not Found\n"),
    ] {
        let text = get(path);
        let (line, fields, rest) = split(&text);
        assert_eq!((&line[9..12], rest), (status, body), "{path}");
        assert!(fields.contains(holds), "{path}: {fields}");
    }
    rig.finish();
}

#[test]
fn content_that_cannot_be_held_is_refused_at_start() {
    let start = |config: HttpConfig| {
        let mut server = stack(2);
        let mut http = HttpServer::new(config, Arc::default());
        http.start(&mut Net::new(&mut server)).unwrap_err().to_string()
    };
    let missing = start(HttpConfig { root: Some(Path::new("/nonexistent/www").into()), ..config() });
    assert!(missing.starts_with("http on 10.0.0.2:80: /nonexistent/www: cannot read it: No such file"), "{missing}");
    let small = start(HttpConfig { content_bytes_max: 1000, ..config() });
    assert!(small.contains("page /large: there is more content than content_bytes_max"), "{small}");
    let huge = HttpPage { path: "/h".into(), body: "h".repeat(900_000), content_type: "text/plain".into() };
    let few = start(HttpConfig { pages: vec![huge], ..config() });
    assert!(few.contains("page /h: content of 2 KiB and more takes frames, 503 of"), "{few}");
}
