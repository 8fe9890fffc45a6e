use super::*;
use proptest::prelude::*;

const GOOD: &str = r#"[[interface]]
name = "eth1"
queues = 2
addresses = ["10.0.0.1/24", "192.0.2.9/31"]
gateway = "10.0.0.254"
routes = [{ net = "198.51.100.0/24", via = "10.0.0.253" }]
vlan = 12
rx_checksum = "partial"
xdp_mode = "native"
zero_copy = "required"
napi_threads = true
multi_buffer = "off"
frames = 8192
frame_bytes = 2048
run_frames = 1024
rx_reserve_frames = 512
rings = { rx = 1024, tx = 512, fill = 2048, completion = 1024 }
huge_pages = "never"
busy_poll_us = 20

[worker]
cores = [2, 3]
idle = "spin"
spin_us = 10
stage_histograms = true

[[service]]
kind = "udp-echo"
listen = "10.0.0.1:7"

[[service]]
kind = "udp-sink"
listen = "0.0.0.0:9"
sequence = true

[[service]]
kind = "udp-source"
destination = "198.51.100.7:9"
payload_bytes = 1472
rate_pps = 1_000
count = 10_000

[[service]]
kind = "tcp-echo"
listen = "10.0.0.1:7"
backlog = 16
connections_max = 99
nodelay = false
keepalive_s = 30
send_queue = 100_000
recv_queue_max = 200_000
congestion = "newreno"

[[service]]
kind = "tcp-sink"
listen = "0.0.0.0:9"
verify = true

[[service]]
kind = "tcp-source"
listen = "10.0.0.1:19"
payload_bytes = 1000
bytes = 5_000
rate_bps = 1_000_000
pattern = "count"

[tcp]
time_wait_s = 10
time_wait_max = 100
connections_max = 1000
orphans_max = 50
rto_min_ms = 50
syn_ack_retries = 3
syn_cookies = false
ecn = "active"

[log]
level = "debug"
summary_s = 5

[capture]
file = "/tmp/x.pcapng"

[faults]
seed = 7
rx = { drop = 0.01, delay = 1, delay_min_us = 5, delay_max_us = 10 }
"#;

const SMALL: &str = "[[interface]]\nname = \"eth1\"\naddresses = [\"10.0.0.1/24\"]\n\
                     [[service]]\nkind = \"udp-echo\"\nlisten = \"10.0.0.1:7\"\n";

fn problems(text: &str) -> Vec<String> {
    match Config::parse("x.toml", text) {
        Ok(config) => panic!("taken as {config:?}"),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

/// The problems of [`GOOD`] with `from` replaced by `to`.
fn spoilt(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    problems(&GOOD.replacen(from, to, 1))
}

#[test]
fn every_key_arrives() {
    let config = Config::parse("x.toml", GOOD).unwrap();
    let interface = config.interface();
    assert_eq!(
        *interface,
        Interface {
            name: "eth1".into(),
            queues: 2,
            addresses: vec!["10.0.0.1/24".parse().unwrap(), "192.0.2.9/31".parse().unwrap()],
            gateway: Some([10, 0, 0, 254].into()),
            routes: vec![("198.51.100.0/24".parse().unwrap(), [10, 0, 0, 253].into())],
            vlan: Some(12),
            rx_checksum: RxChecksum::Partial,
            xdp_mode: XdpMode::Native,
            zero_copy: ZeroCopy::Required,
            multi_buffer: MultiBuffer::Off,
            steering: Steering::Owned,
            napi_threads: true,
            frames: 8192,
            frame_bytes: Some(2048),
            run_frames: 1024,
            rx_reserve_frames: 512,
            rings: Rings { rx: 1024, tx: 512, fill: 2048, completion: 1024 },
            huge_pages: HugePages::Never,
            busy_poll_us: 20,
        }
    );
    let worker =
        Worker { cores: vec![2, 3], idle: Idle::Spin, spin: Duration::from_micros(10), stage_histograms: true };
    assert_eq!(*config.worker(), worker);
    let listen = |text: &str| text.parse().unwrap();
    assert_eq!(
        config.services(),
        [
            Service::UdpEcho { listen: listen("10.0.0.1:7") },
            Service::UdpSink { listen: listen("0.0.0.0:9"), sequence: true },
            Service::UdpSource {
                destination: listen("198.51.100.7:9"),
                local: None,
                payload_bytes: 1472,
                rate_pps: 1000,
                count: 10_000
            },
            Service::TcpEcho {
                listen: TcpListen { local: listen("10.0.0.1:7"), backlog: 16, connections_max: 99 },
                options: StreamOptions {
                    nodelay: false,
                    keepalive: Some(Duration::from_secs(30)),
                    send_queue_bytes: Some(100_000),
                    recv_queue_bytes_max: Some(200_000),
                    congestion: Some(Congestion::NewReno),
                },
            },
            Service::TcpSink {
                listen: TcpListen { local: listen("0.0.0.0:9"), backlog: 1024, connections_max: 16_384 },
                options: StreamOptions::default(),
                verify: true,
            },
            Service::TcpSourceListen {
                listen: TcpListen { local: listen("10.0.0.1:19"), backlog: 1024, connections_max: 16_384 },
                flow: TcpFlow { payload_bytes: Some(1000), bytes: 5_000, rate_bps: 1_000_000, counting: true },
                options: StreamOptions::default(),
            },
        ]
    );
    let tcp = Tcp {
        time_wait: Some(Duration::from_secs(10)),
        time_wait_max: Some(100),
        connections_max: Some(1000),
        orphans_max: Some(50),
        rto_min: Some(Duration::from_millis(50)),
        syn_ack_retries: Some(3),
        syn_cookies: Some(false),
        ecn: Some(Ecn::Active),
    };
    assert_eq!(*config.tcp(), tcp);
    assert_eq!(*config.log(), Log { level: Level::Debug, summary: Some(Duration::from_secs(5)) });
    assert_eq!(config.capture(), Some(Path::new("/tmp/x.pcapng")));
    let rx = FaultRates {
        drop: 0.01,
        delay: 1.0,
        delay_min: Duration::from_micros(5),
        delay_max: Duration::from_micros(10),
        ..FaultRates::default()
    };
    assert_eq!(config.faults(), Some(&Faults { seed: 7, rx, tx: FaultRates::default() }));
}

#[test]
fn defaults_hold_together() {
    let config = Config::parse("x.toml", SMALL).unwrap();
    let interface = config.interface();
    assert_eq!((interface.queues, interface.frames, interface.frame_bytes), (1, 4096, None));
    assert_eq!(interface.rings, Rings { rx: 512, tx: 512, fill: 1024, completion: 1024 });
    assert_eq!((interface.rx_reserve_frames, interface.run_frames), (512, 0));
    assert_eq!((interface.zero_copy, interface.steering), (ZeroCopy::Prefer, Steering::Owned));
    assert_eq!(config.worker().idle, Idle::Adaptive);
    assert_eq!((config.capture(), config.faults()), (None, None));
    let reflect = "[[interface]]\nname = \"eth1\"\n[[service]]\nkind = \"reflect\"\n";
    assert_eq!(Config::parse("x.toml", reflect).unwrap().interface().steering, Steering::Everything);
}

#[test]
fn a_problem_names_file_line_column_and_field() {
    assert_eq!(
        spoilt("frames = 8192", "frames = 12"),
        ["x.toml:13:10: interface.frames: must be from 64 to 4194304, not 12"],
    );
    assert_eq!(
        spoilt("name = \"eth1\"", "nmae = \"eth1\""),
        [
            "x.toml:1:1: interface.name: missing: the interface's name, such as \"eth1\"",
            "x.toml:2:1: interface.nmae: unknown key; did you mean `name`?",
        ],
    );
    assert_eq!(
        spoilt("idle = \"spin\"", "idle = \"spn\""),
        [
            "x.toml:23:8: worker.idle: must be \"spin\" or \"adaptive\" or \"sleep\", not \"spn\"; did you mean \"spin\"?"
        ],
    );
    assert_eq!(
        spoilt("\"192.0.2.9/31\"", "\"ä\", 5"),
        [
            "x.toml:4:29: interface.addresses: must be an address with its prefix, such as \"10.0.0.1/24\", not \"ä\"",
            "x.toml:4:34: interface.addresses: must be a string: an address with its prefix, such as \"10.0.0.1/24\", not the number 5",
        ],
        "columns are characters"
    );
    assert_eq!(
        spoilt("level = \"debug\"", "level = \"debug\"\ncolour = true"),
        ["x.toml:79:1: log.colour: unknown key; known here: level, summary_s"],
    );
    assert_eq!(spoilt("[capture]", "[captures]")[0], "x.toml:81:2: captures: unknown key; did you mean `capture`?");
    assert_eq!(
        spoilt("sequence = true", "sequence = 1"),
        ["x.toml:34:12: service[1].sequence: must be true or false, not the number 1"],
    );
}

/// What follows from a wrong value (two cores for how many queues? which fill ring for it?) is not told.
#[test]
fn several_problems_come_in_one_go_and_in_order() {
    let found = problems(
        &GOOD
            .replace("queues = 2", "queues = \"two\"")
            .replace("rx = 1024", "rx = 1000")
            .replace("drop = 0.01", "drop = 2"),
    );
    let lines: Vec<&str> = found.iter().map(|line| line.split(": ").nth(1).unwrap()).collect();
    assert_eq!(lines, ["interface.queues", "interface.rings.rx", "faults.rx.drop"], "{found:#?}");
}

#[test]
fn syntax_errors_have_a_place() {
    let found = spoilt("queues = 2", "queues = = 2");
    assert!(found[0].starts_with("x.toml:3:10: not TOML: "), "{found:?}");
    let found = spoilt("vlan = 12", "vlan = 12\nvlan = 13");
    assert!(found[0].starts_with("x.toml:8:1: not TOML: duplicate key"), "{found:?}");
}

#[test]
fn empty_and_half_files() {
    let found = problems("");
    assert_eq!(
        found,
        ["x.toml:1:1: missing: [[interface]], the interface to run on", "x.toml:1:1: missing: [[service]], what to do"]
    );
    assert_eq!(
        problems("[interface]\nname = \"a\"\n[[service]]\nkind = \"reflect\""),
        ["x.toml:1:1: interface: must be a list of tables, not a table; write [[interface]]"]
    );
    let two = SMALL.replace("[[service]]", "[[interface]]\nname = \"b\"\n[[service]]");
    assert_eq!(problems(&two), ["x.toml:4:1: interface[1]: there may be only one interface for now"]);
}

/// (what is replaced in [`GOOD`], by what, the field that must be named, words of the message)
const CROSS_FIELD: &[(&str, &str, &str, &str)] = &[
    ("xdp_mode = \"native\"", "xdp_mode = \"generic\"", "interface.zero_copy", "xdp_mode = \"generic\""),
    ("zero_copy = \"required\"", "zero_copy = \"off\"", "interface.busy_poll_us", "zero_copy = \"off\""),
    ("rx = 1024", "rx = 1000", "interface.rings.rx", "power of two"),
    ("fill = 2048", "fill = 1024", "interface.rings.fill", "at least twice rings.rx (1024)"),
    ("completion = 1024", "completion = 256", "interface.rings.completion", "at least rings.tx (512)"),
    ("frames = 8192", "frames = 3584", "interface.frames", "more than 3584"),
    ("frame_bytes = 2048", "frame_bytes = 3000", "interface.frame_bytes", "2048 or 4096"),
    ("cores = [2, 3]", "cores = [2]", "worker.cores", "each of the 2 queues"),
    ("cores = [2, 3]", "cores = [2, 2]", "worker.cores", "twice"),
    ("gateway = \"10.0.0.254\"", "gateway = \"10.1.0.254\"", "interface.gateway", "network of one of"),
    ("gateway = \"10.0.0.254\"", "gateway = \"10.0.0.1\"", "interface.gateway", "own address"),
    ("198.51.100.0/24", "198.51.100.1/24", "interface.routes.net", "write \"198.51.100.0/24\""),
    ("198.51.100.0/24", "0.0.0.0/0", "interface.routes.net", "`gateway` gives already"),
    ("via = \"10.0.0.253\"", "vai = \"10.0.0.253\"", "interface.routes.vai", "did you mean `via`?"),
    ("10.0.0.1/24\"", "10.0.0.0/24\"", "interface.addresses", "network's own number"),
    ("10.0.0.1/24\"", "10.0.0.255/24\"", "interface.addresses", "broadcast"),
    ("10.0.0.1/24\"", "224.0.0.1/24\"", "interface.addresses", "multicast"),
    ("192.0.2.9/31", "10.0.0.1/31", "interface.addresses", "twice"),
    ("192.0.2.9/31", "192.0.2.9/33", "interface.addresses", "address with its prefix"),
    (
        "listen = \"10.0.0.1:7\"",
        "listen = \"10.0.0.2:7\"",
        "service[0].listen",
        "no address of eth1 (10.0.0.1, 192.0.2.9)",
    ),
    ("listen = \"10.0.0.1:7\"", "listen = \"10.0.0.1:0\"", "service[0].listen", "port must be from 1"),
    ("listen = \"10.0.0.1:7\"", "listen = \"239.1.1.1:7\"", "service[0].listen", "multicast"),
    ("listen = \"10.0.0.1:7\"", "listen = \"10.0.0.1\"", "service[0].listen", "an address and port"),
    ("listen = \"0.0.0.0:9\"", "listen = \"0.0.0.0:7\"", "service[1].listen", "another service has 10.0.0.1:7"),
    ("\"198.51.100.7:9\"", "\"10.0.0.1:9\"", "service[2].destination", "no loopback"),
    ("\"198.51.100.7:9\"", "\"10.0.0.255:9\"", "service[2].destination", "broadcast"),
    ("\"198.51.100.7:9\"", "\"198.51.100.7:0\"", "service[2].destination", "port"),
    ("payload_bytes = 1472", "payload_bytes = 15", "service[2].payload_bytes", "from 16 to 65507"),
    ("run_frames = 1024", "run_frames = 1024\nsteering = \"shared\"", "service[2].local", "missing"),
    ("count = 10_000", "local = \"10.0.0.1:99\"", "service[2].local", "more than one queue"),
    ("backlog = 16", "backlog = 0", "service[3].backlog", "from 1 to 65536"),
    ("connections_max = 99", "connection_max = 99", "service[3].connection_max", "did you mean `connections_max`?"),
    ("send_queue = 100_000", "send_queue = 1_000", "service[3].send_queue", "from 65536"),
    ("congestion = \"newreno\"", "congestion = \"newrno\"", "service[3].congestion", "did you mean \"newreno\"?"),
    ("verify = true", "verify = \"yes\"", "service[4].verify", "true or false"),
    ("listen = \"10.0.0.1:19\"", "listen = \"10.0.0.1:7\"", "service[5].listen", "another service has 10.0.0.1:7"),
    ("listen = \"10.0.0.1:19\"", "connections = 2", "service[5]", "either `destination`"),
    (
        "listen = \"10.0.0.1:19\"",
        "listen = \"10.0.0.1:19\"\ndestination = \"10.0.0.2:9\"",
        "service[5]",
        "either `destination`",
    ),
    (
        "listen = \"10.0.0.1:19\"",
        "destination = \"10.0.0.2:9\"\nlocal = \"10.0.0.1:19\"",
        "service[5].local",
        "more than one queue",
    ),
    ("payload_bytes = 1000", "payload_bytes = 300_000", "service[5].payload_bytes", "from 1 to 262144"),
    (
        "payload_bytes = 1000",
        "payload_bytes = 100_000\nsend_queue = 70_000",
        "service[5].payload_bytes",
        "at most send_queue (70000)",
    ),
    ("pattern = \"count\"", "pattern = \"random\"", "service[5].pattern", "\"zero\" or \"count\""),
    ("rto_min_ms = 50", "rto_min_ms = 0", "tcp.rto_min_ms", "from 1 to 1000"),
    ("ecn = \"active\"", "ecn = true", "tcp.ecn", "a string"),
    ("time_wait_s = 10", "time_wait = 10", "tcp.time_wait", "did you mean `time_wait_s`?"),
    ("delay_max_us = 10", "delay_max_us = 4", "faults.rx.delay_max_us", "at least delay_min_us"),
    ("vlan = 12", "vlan = 4095", "interface.vlan", "from 1 to 4094"),
    ("name = \"eth1\"", "name = \"sixteen-bytes-xx\"", "interface.name", "1 to 15 bytes"),
    ("file = \"/tmp/x.pcapng\"", "file = \"\"", "capture.file", "not empty"),
    ("file = \"/tmp/x.pcapng\"", "", "capture.file", "missing"),
];

#[test]
fn contradictions_and_impossible_values_are_told_at_their_field() {
    for (from, to, field, words) in CROSS_FIELD {
        let found = spoilt(from, to);
        let expected = |line: &String| line.contains(&format!(": {field}: ")) && line.contains(words);
        assert!(found.iter().any(expected), "{to}: no {field} … {words} in {found:#?}");
    }
}

#[test]
fn what_needs_another_field_says_so() {
    let reflect = SMALL.replace("udp-echo\"\nlisten = \"10.0.0.1:7\"", "reflect\"");
    Config::parse("x.toml", &reflect).unwrap();
    let owned = reflect.replace("[[service]]", "steering = \"owned\"\n[[service]]");
    assert!(problems(&owned)[0].contains("interface.steering: must be \"everything\""));
    let both = format!("{SMALL}[[service]]\nkind = \"reflect\"\n");
    assert!(problems(&both)[0].contains("service[1]: reflect takes every frame"), "{:?}", problems(&both));
    let nowhere = SMALL.replace("addresses = [\"10.0.0.1/24\"]\n", "");
    assert!(problems(&nowhere)[0].contains("interface.addresses: missing"), "{:?}", problems(&nowhere));
    let source = SMALL.replace("udp-echo\"\nlisten", "udp-source\"\npayload_bytes = 60000\ndestination");
    let found = problems(&source.replace("10.0.0.1:7", "10.0.0.2:7"));
    assert!(found[0].contains("lie in 30 neighbouring frames of 2048"), "{found:?}");
    let stream = source.replace("udp-source", "tcp-source").replace("60000", "64").replace("10.0.0.1:7", "10.0.0.2:7");
    let from = format!("{stream}local = \"10.0.0.1:99\"\nconnections = 2\n");
    assert!(problems(&from)[0].contains("service.connections: must be 1 with `local`"), "{:?}", problems(&from));
    let shared = stream.replace("[[service]]", "steering = \"shared\"\n[[service]]");
    assert!(problems(&shared)[0].contains("service.local: missing"), "{:?}", problems(&shared));
    let found = problems(&source.replace("60000", "64").replace("10.0.0.1:7", "10.9.0.2:7"));
    assert!(found[0].contains("no route to 10.9.0.2"), "{found:?}");
}

#[test]
fn http_has_something_to_serve() {
    let http = SMALL.replace("udp-echo", "http");
    assert!(problems(&http)[0].contains("service: must have something to serve"), "{:?}", problems(&http));
    let pages = "pages = [{ path = \"/a\", body = \"b\" }, { path = \"/c\", body = \"\", content_type = \"x/y\" }]\n";
    let text =
        format!("{http}root = \"/srv\"\nidle_timeout_s = 5\ncontent_bytes_max = 1000\nconnections_max = 7\n{pages}");
    let page = |path: &str, body: &str, kind: &str| HttpPage {
        path: path.into(),
        body: body.into(),
        content_type: kind.into(),
    };
    assert_eq!(
        Config::parse("x.toml", &text).unwrap().services(),
        [Service::Http {
            listen: TcpListen { local: "10.0.0.1:7".parse().unwrap(), backlog: 1024, connections_max: 7 },
            options: StreamOptions { nodelay: true, ..StreamOptions::default() },
            root: Some("/srv".into()),
            pages: vec![page("/a", "b", "text/plain; charset=utf-8"), page("/c", "", "x/y")],
            content_bytes_max: 1000,
            idle_timeout: Duration::from_secs(5),
        }]
    );
    for (from, to, field, words) in [
        ("\"/c\"", "\"/a\"", "service.pages[1].path", "is there twice"),
        ("\"/c\"", "\"c\"", "service.pages[1].path", "must begin with /"),
        ("\"x/y\"", "\"x\\r\\ny: z\"", "service.pages[1].content_type", "printable"),
        ("body = \"b\"", "bdy = \"b\"", "service.pages[0].bdy", "did you mean `body`?"),
        ("\"/srv\"", "\"\"", "service.root", "not empty"),
        ("idle_timeout_s = 5", "idle_timeout_s = 0", "service.idle_timeout_s", "from 1"),
    ] {
        let found = problems(&text.replacen(from, to, 1));
        assert!(found.iter().any(|line| line.contains(&format!(": {field}: ")) && line.contains(words)), "{found:#?}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/x.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/x.toml: cannot read it: No such file"), "{error}");
}

#[test]
fn every_sample_is_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        if let Err(error) = Config::load(&file) {
            panic!("{error}");
        }
    }
}

proptest! {
    /// Whatever a file holds: an answer, and each problem's place is in the file.
    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        check_places(&text);
    }

    /// As above, near to what is right.
    #[test]
    fn any_cut_and_patch_is_answered(at in 0..GOOD.len(), cut in 0..40_usize, patch in "[\\[\\]{}=\", .a-z0-9\n]{0,12}") {
        let text = format!("{}{patch}{}", &GOOD[..at], &GOOD[(at + cut).min(GOOD.len())..]);
        check_places(&text);
    }

    /// A misspelt key is never taken for another or passed over.
    #[test]
    fn no_key_is_silently_ignored(key in "[a-z_]{1,14}", table in 0..4_usize) {
        let header = ["[worker]\n", "[log]\n", "[faults]\n", "[[interface]]\n"][table];
        let known = ["cores", "idle", "spin_us", "stage_histograms", "level", "summary_s", "seed", "rx", "tx", "vlan", "name",
            "queues", "addresses", "gateway", "routes", "rings", "frames", "steering", "run_frames"];
        prop_assume!(!known.contains(&key.as_str()));
        let text = GOOD.replacen(header, &format!("{header}{key} = {{}}\n"), 1);
        prop_assert!(Config::parse("x.toml", &text).is_err());
    }
}

fn check_places(text: &str) {
    if let Err(ConfigError::Invalid { problems, .. }) = Config::parse("x.toml", text) {
        assert!(!problems.is_empty());
        let lines: Vec<&str> = text.split('\n').collect();
        for problem in problems {
            let line = lines.get(problem.line - 1).unwrap_or_else(|| panic!("{problem} in {text:?}"));
            assert!(problem.column <= line.chars().count() + 1, "{problem} in {text:?}");
            assert!(!problem.message.contains('\n'), "{problem:?}");
        }
    }
}
