//! Programs that people use, against the engine's `http`, `tcp-echo` and `tcp-source`.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::Output,
    thread,
    time::Duration,
};

use framewire_tests::rig::{
    Appliance, Counting, ENGINE_V4, PEER_V4, Process, Report, TempDir, Topology, configuration, pattern, require_root,
};

const TIMEOUT: Duration = Duration::from_secs(10);
const ECHO_PORT: u16 = 7;
const MEMORY: &str = "rings = { rx = 2048, tx = 2048 }\nframes = 16384\n";
/// What a page looks for beside itself, with lengths from below a segment to many of them.
const ASSETS: [(&str, usize); 6] = [
    ("style.css", 700),
    ("app.js", 20_011),
    ("logo.png", 1448),
    ("photo.jpg", 400_003),
    ("font.woff2", 65_536),
    ("empty.txt", 0),
];

fn topology() -> Topology {
    Topology::builder().congestion_control("reno").build().expect("topology")
}

/// A web server with [`ASSETS`] and a small page, and an echo.
struct Web {
    topology: Topology,
    appliance: Appliance,
    /// What is served, and where clients may write.
    folder: TempDir,
}

impl Web {
    fn start() -> Self {
        let folder = TempDir::create().expect("folder");
        let root = folder.path().join("www");
        fs::create_dir(&root).expect("folder");
        fs::write(root.join("index.html"), page()).expect("write");
        for (number, (name, len)) in ASSETS.iter().enumerate() {
            fs::write(root.join(name), pattern(*len, number as u64)).expect("write");
        }
        let services = format!(
            "[[service]]\nkind = \"http\"\nlisten = \"{ENGINE_V4}:80\"\nroot = \"{}\"\n\
             pages = [{{ path = \"/health\", body = \"ok\\n\" }}]\n\
             [[service]]\nkind = \"tcp-echo\"\nlisten = \"{ENGINE_V4}:{ECHO_PORT}\"\n",
            root.display()
        );
        let topology = topology();
        let appliance = Appliance::start(&topology.engine, &configuration(MEMORY, &services)).expect("appliance");
        Self { topology, appliance, folder }
    }

    fn url(path: &str) -> String {
        format!("http://{ENGINE_V4}/{path}")
    }

    fn client(&self, program: &str, args: &[&str]) -> Output {
        let output = self.topology.peer.command(program).args(args).output().expect(program);
        assert!(
            output.status.success(),
            "{program} {args:?}: {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    fn curl(&self, args: &[&str]) -> String {
        let output = self.client("curl", &[&["--silent", "--show-error", "--max-time", "20"], args].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn connect(&self, port: u16) -> TcpStream {
        let stream = self.topology.peer.tcp_connect((ENGINE_V4, port), TIMEOUT).expect("connect");
        stream.set_read_timeout(Some(TIMEOUT)).expect("timeout");
        stream
    }

    fn stop(self) -> Report {
        let report = self.appliance.stop().expect("stop");
        report.check().expect("clean: 0 bytes copied, ledger whole");
        // Clients that hang up early, and retransmissions of a machine with too little time for both ends.
        let reasons = ["tcp_out_of_window", "tcp_after_close", "tcp_no_connection", "tcp_reset"];
        report.drops_only(&reasons).expect("no other drop");
        report
    }
}

fn page() -> String {
    let links: String = ASSETS.iter().map(|(name, _)| format!("<link href=\"{name}\">\n")).collect();
    format!("<!doctype html>\n<title>Framewire</title>\n{links}")
}

/// The next response of a connection: status, header fields by lower-case name, body.
fn response(from: &mut impl BufRead, head_only: bool) -> (u16, HashMap<String, String>, Vec<u8>) {
    let mut line = String::new();
    from.read_line(&mut line).expect("a status line");
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.unwrap_or_else(|| panic!("a status line, not {line:?}"));
    let mut fields = HashMap::new();
    loop {
        line.clear();
        from.read_line(&mut line).expect("a field");
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        fields.insert(name.to_lowercase(), value.to_owned());
    }
    assert_eq!(line, "\r\n", "the end of the fields");
    let length: usize = fields.get("content-length").and_then(|text| text.parse().ok()).expect("a length");
    let mut body = vec![0; if head_only { 0 } else { length }];
    from.read_exact(&mut body).expect("the body");
    (status, fields, body)
}

#[test]
fn curl_gets_what_is_there_on_one_connection() {
    if !require_root() {
        return;
    }
    let web = Web::start();
    // All files by one curl: one connection, kept alive.
    let files = |name: &str| web.folder.path().join(name).display().to_string();
    let mut args = vec!["--write-out".to_owned(), "%{http_code} %{num_connects}\n".to_owned()];
    for (name, _) in ASSETS {
        args.extend([Web::url(name), "--output".to_owned(), files(name)]);
    }
    let told = web.curl(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(told, "200 1\n".to_owned() + &"200 0\n".repeat(ASSETS.len() - 1));
    for (number, (name, len)) in ASSETS.iter().enumerate() {
        let got = fs::read(web.folder.path().join(name)).expect("what curl wrote");
        assert!(got == pattern(*len, number as u64), "{name}: {} bytes, or others", got.len());
    }
    assert_eq!(web.curl(&[&Web::url("")]), page());
    assert_eq!(web.curl(&[&Web::url("health")]), "ok\n");
    assert_eq!(web.curl(&["--http1.0", &Web::url("health")]), "ok\n");
    let head = web.curl(&["--head", &Web::url("photo.jpg")]).to_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n") && head.contains("content-length: 400003\r\n"), "{head}");
    let code = ["--output", "/dev/null", "--write-out", "%{http_code}"];
    assert_eq!(web.curl(&[&code[..], &[&Web::url("nothing")]].concat()), "404");
    assert_eq!(web.curl(&[&code[..], &["--data", "x=1", &Web::url("")]].concat()), "405");
    let long = format!("X-Long: {}", "x".repeat(20_000));
    assert_eq!(web.curl(&[&code[..], &["--header", &long, &Web::url("")]].concat()), "431");
    let report = web.stop();
    let count = |name| report.service(0, name).expect(name);
    assert_eq!((count("http_requests"), count("http_errors")), (ASSETS.len() as u64 + 7, 3));
    assert_eq!(count("connections_accepted"), 8);
    assert_eq!(count("connections_failed"), 0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    if !require_root() {
        return;
    }
    const ROUNDS: usize = 20;
    let web = Web::start();
    let mut stream = web.connect(80);
    let get = |path: &str| format!("GET /{path} HTTP/1.1\r\nHost: {ENGINE_V4}\r\n\r\n");
    let round: String = ASSETS.iter().map(|(name, _)| get(name)).collect::<String>() + &get("nothing") + &get("health");
    let requests = round.repeat(ROUNDS);
    thread::scope(|scope| {
        let mut writer = stream.try_clone().expect("clone");
        // Cut where it comes: 1,000 bytes end in the midst of a request.
        scope.spawn(move || {
            requests.as_bytes().chunks(1000).try_for_each(|part| writer.write_all(part)).expect("write")
        });
        let mut answers = BufReader::new(&stream);
        for _ in 0..ROUNDS {
            for (number, (name, len)) in ASSETS.iter().enumerate() {
                let (status, _, body) = response(&mut answers, false);
                assert!(
                    status == 200 && body == pattern(*len, number as u64),
                    "{status}, {} bytes of {name}",
                    body.len()
                );
            }
            assert_eq!(response(&mut answers, false).0, 404);
            let (status, _, body) = response(&mut answers, false);
            assert_eq!((status, body.as_slice()), (200, &b"ok\n"[..]));
        }
    });
    // What is no request is told so, and the connection ends.
    stream.write_all(b"good morning\r\n\r\n").expect("write");
    let mut answers = BufReader::new(&stream);
    assert_eq!(response(&mut answers, false).0, 400);
    assert_eq!(answers.read(&mut [0; 16]).expect("the end"), 0);
    drop(stream);
    let report = web.stop();
    let answered = (ROUNDS * (ASSETS.len() + 2)) as u64 + 1;
    assert_eq!(report.service(0, "http_requests").expect("requests"), answered);
    assert_eq!(report.service(0, "connections_accepted").expect("connections"), 1);
}

/// Six connections, as browsers have them: each asks for the page, then for its share of what the page names, waits as people do, and comes again; some
/// hang up in the middle of a picture.
#[test]
fn browsers_come_and_go() {
    if !require_root() {
        return;
    }
    let web = Web::start();
    thread::scope(|scope| {
        for visitor in 0..4_usize {
            for connection in 0..6_usize {
                let mut stream = web.connect(80);
                scope.spawn(move || browse(&mut stream, visitor, connection));
            }
        }
    });
    let report = web.stop();
    let count = |name| report.service(0, name).expect(name);
    assert_eq!((count("connections_accepted"), count("connections_closed")), (24, 24));
    assert!(count("http_requests") >= 24 * 4 * 3, "{} requests", count("http_requests"));
}

fn browse(stream: &mut TcpStream, visitor: usize, connection: usize) {
    let mut answers = BufReader::new(stream.try_clone().expect("clone"));
    let mut get = |stream: &mut TcpStream, method: &str, path: &str| {
        let request = format!(
            "{method} /{path} HTTP/1.1\r\nHost: {ENGINE_V4}\r\nConnection: keep-alive\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
             Accept: text/html,image/avif,*/*;q=0.8\r\nAccept-Language: en\r\nAccept-Encoding: gzip, deflate\r\nReferer: http://{ENGINE_V4}/\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("write");
        response(&mut answers, method == "HEAD")
    };
    for visit in 0..4_usize {
        let (status, _, body) = get(stream, "GET", "");
        assert_eq!((status, body), (200, page().into_bytes()));
        for step in 0..2 {
            let number = (visitor + connection + visit + 3 * step) % ASSETS.len();
            let (name, len) = ASSETS[number];
            let (status, _, body) = get(stream, "GET", name);
            assert!(status == 200 && body == pattern(len, number as u64), "{status}, {} bytes of {name}", body.len());
        }
        assert_eq!(get(stream, "GET", "favicon.ico").0, 404);
        assert_eq!(get(stream, "HEAD", "app.js").1["content-length"], "20011");
        thread::sleep(Duration::from_millis(20 * connection as u64));
    }
    if connection == 5 {
        stream.write_all(format!("GET /photo.jpg HTTP/1.1\r\nHost: {ENGINE_V4}\r\n\r\n").as_bytes()).expect("write");
        stream.read_exact(&mut [0; 1000]).expect("a part of it");
    }
}

#[test]
fn wrk_and_ab_find_no_error() {
    if !require_root() {
        return;
    }
    let web = Web::start();
    let run = |program: &str, args: &[&str]| String::from_utf8_lossy(&web.client(program, args).stdout).into_owned();
    for keep_alive in [&["-k"][..], &[]] {
        let url = Web::url("logo.png");
        let told = run("ab", &[keep_alive, &["-q", "-n", "3000", "-c", "20", &url]].concat());
        let figure = |name: &str| {
            let line =
                told.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {told}"));
            line.split_whitespace().next().expect("a figure").to_owned()
        };
        assert_eq!(
            (figure("Complete requests:").as_str(), figure("Failed requests:").as_str()),
            ("3000", "0"),
            "{told}"
        );
        assert_eq!(figure("HTML transferred:"), (3000 * 1448).to_string());
        println!("ab, 20 connections, {keep_alive:?}: {} requests/s", figure("Requests per second:"));
    }
    for path in ["health", "photo.jpg"] {
        let told = run("wrk", &["-t", "1", "-c", "50", "-d", "2s", &Web::url(path)]);
        let rate = told.lines().find_map(|line| line.strip_prefix("Requests/sec:")).expect("a rate").trim();
        println!("wrk, 50 connections, /{path}: {rate} requests/s");
        assert!(rate.parse::<f64>().expect("a number") > 50.0, "{told}");
        assert!(!told.contains("Socket errors") && !told.contains("Non-2xx"), "{told}");
    }
    let report = web.stop();
    assert!(report.service(0, "http_requests").expect("requests") > 6000);
    assert_eq!(report.service(0, "http_errors").expect("errors"), 0);
}

#[test]
fn socat_and_ncat_get_their_bytes_back() {
    if !require_root() {
        return;
    }
    const BYTES: usize = 4_000_037;
    let web = Web::start();
    let file = |name: &str| web.folder.path().join(name);
    let sent = pattern(BYTES, 5);
    fs::write(file("sent"), &sent).expect("write");
    for (program, args) in [
        ("socat", vec!["-t10".to_owned(), "-".to_owned(), format!("TCP:{ENGINE_V4}:{ECHO_PORT}")]),
        ("ncat", vec!["-w".to_owned(), "10".to_owned(), ENGINE_V4.to_string(), ECHO_PORT.to_string()]),
    ] {
        let status = web
            .topology
            .peer
            .command(program)
            .args(args)
            .stdin(File::open(file("sent")).expect("open"))
            .stdout(File::create(file("back")).expect("create"))
            .status()
            .expect(program);
        assert!(status.success(), "{program}: {status}");
        let back = fs::read(file("back")).expect("read");
        assert!(back == sent, "{program}: {} bytes came back", back.len());
    }
    let report = web.stop();
    let count = |name| report.service(1, name).expect(name);
    assert_eq!((count("sent_payload_bytes"), count("connections_failed")), (2 * BYTES as u64, 0));
}

#[test]
fn ncat_listens_to_the_engine() {
    if !require_root() {
        return;
    }
    const BYTES: u64 = 3_000_001;
    let topology = topology();
    let folder = TempDir::create().expect("folder");
    let file = folder.path().join("came");
    let mut command = topology.peer.command("sh");
    let script = format!("exec ncat -v -l --recv-only {PEER_V4} 5001 > '{}'", file.display());
    command.args(["-c", &script]);
    let mut ncat = Process::spawn(command).expect("ncat");
    ncat.wait_for("Listening", TIMEOUT).expect("ncat listens");
    let source = format!(
        "[[service]]\nkind = \"tcp-source\"\ndestination = \"{PEER_V4}:5001\"\npattern = \"count\"\nbytes = {BYTES}\n"
    );
    let appliance = Appliance::start(&topology.engine, &configuration("", &source)).expect("appliance");
    assert!(ncat.wait(TIMEOUT).expect("ncat ends").success());
    let report = appliance.stop().expect("stop");
    report.check().expect("clean");
    let came = fs::read(&file).expect("what ncat wrote");
    assert_eq!(came.len() as u64, BYTES);
    Counting::new(0).compare(&came).expect("what the source counts");
    assert_eq!(report.service(0, "completed").expect("completed"), 1);
}
