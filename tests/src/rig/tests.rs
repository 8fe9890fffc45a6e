//! The rig with the Linux stack at both ends.

use std::{
    io::{ErrorKind, Read, Write},
    net::IpAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(2);

fn exists(name: &str) -> bool {
    Path::new("/run/netns").join(name).exists()
}

#[test]
fn rig_kernels_reach_each_other_and_nothing_is_left() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().host_address().queues(2).congestion_control("reno").build().expect("topology");
    let names = [topology.engine.name().to_owned(), topology.peer.name().to_owned()];
    assert!(names.iter().all(|name| exists(name)));

    let report = topology.peer.ping(HOST_V4.into(), 5, 1400).expect("ping");
    assert_eq!(report, PingReport { sent: 5, received: 5 });
    let unowned = topology.peer.ping(ENGINE_V4.into(), 1, 56).expect("ping");
    assert_eq!(unowned.received, 0, "a kernel answers for the engine's address");

    let listener = topology.engine.tcp_listen((HOST_V4, 22)).expect("listen");
    let echo = thread::spawn(move || {
        let (mut stream, from) = listener.accept().expect("accept");
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).expect("read");
        stream.write_all(&bytes).expect("write");
        from
    });
    let mut stream = topology.peer.tcp_connect((HOST_V4, 22), TIMEOUT).expect("connect");
    stream.write_all(b"ping").expect("write");
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).expect("read");
    assert_eq!(&bytes, b"ping");
    assert_eq!(echo.join().expect("echo").ip(), IpAddr::from(PEER_V4));

    let control = topology.peer.run("cat", &["/proc/sys/net/ipv4/tcp_congestion_control"]).expect("cat");
    assert_eq!(control.trim(), "reno");
    for (ns, interface) in [(&topology.engine, ENGINE_INTERFACE), (&topology.peer, PEER_INTERFACE)] {
        let queues = ns.run("ls", &[&format!("/sys/class/net/{interface}/queues")]).expect("ls");
        assert_eq!(queues.split_whitespace().collect::<Vec<_>>(), ["rx-0", "rx-1", "tx-0", "tx-1"]);
        assert!(ns.statistic(interface, "rx_packets").expect("statistic") > 0);
    }
    assert!(!topology.has_xdp_program().expect("link show"));
    assert_eq!(topology.peer.protocol_counter("Tcp", "ActiveOpens").expect("counter"), 1);
    assert_eq!(topology.engine.protocol_counter("Tcp", "PassiveOpens").expect("counter"), 1);
    assert!(topology.peer.protocol_counter("Tcp", "TCPWinProbe").is_err(), "that is of TcpExt");
    topology.peer.tcp_segments_sent_again().expect("counters");

    drop(topology);
    assert!(!names.iter().any(|name| exists(name)), "{names:?} are left");
}

#[test]
fn rig_udp_answers_are_compared() {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().host_address().ipv6().mtu(9000).build().expect("topology");
    for server in [IpAddr::from(HOST_V4), IpAddr::from(HOST_V6)] {
        let socket = topology.engine.udp((server, 7)).expect("bind");
        let client = UdpClient::connect(&topology.peer, (server, 7)).expect("connect");
        let echo = thread::spawn(move || {
            let mut bytes = vec![0; 65536];
            for turn in 0..3 {
                let (len, from) = socket.recv_from(&mut bytes).expect("receive");
                bytes[0] ^= u8::from(turn == 2);
                socket.send_to(&bytes[..len], from).expect("send");
            }
        });
        client.exchange(&[], TIMEOUT).expect("empty datagram");
        client.exchange(&pattern(8000, 1), TIMEOUT).expect("8,000 bytes");
        let error = client.exchange(&pattern(100, 2), TIMEOUT).expect_err("a changed byte").to_string();
        assert!(error.contains("difference is at Some(0)"), "{error}");
        echo.join().expect("echo");
    }
    let nobody = UdpClient::connect(&topology.peer, (HOST_V4, 9)).expect("connect");
    nobody.send(b"x").expect("send");
    assert_eq!(nobody.receive(TIMEOUT).expect_err("port unreachable").kind(), ErrorKind::ConnectionRefused);
    let silent = UdpClient::connect(&topology.peer, (ENGINE_V4, 9)).expect("connect");
    silent.send(b"x").expect("send");
    assert_eq!(silent.receive(Duration::from_millis(50)).expect_err("nobody").kind(), ErrorKind::WouldBlock);
}

#[test]
fn rig_cleans_up_after_a_panic() {
    if !require_root() {
        return;
    }
    let mut names = Vec::new();
    let mut pid = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let topology = Topology::builder().build().expect("topology");
        names.extend([topology.engine.name().to_owned(), topology.peer.name().to_owned()]);
        let mut sleep = topology.peer.command("sleep");
        sleep.arg("1000");
        let process = Process::spawn(sleep).expect("spawn");
        pid = process.pid();
        // As a test that fails: through a closure inside the namespace.
        topology.engine.enter(|| panic!("on purpose"));
    }));
    assert!(outcome.is_err());
    assert_eq!(names.len(), 2);
    assert!(!names.iter().any(|name| exists(name)), "{names:?} are left");
    assert!(!Path::new("/proc").join(pid.to_string()).exists(), "process {pid} is left");
}

#[test]
fn rig_processes_are_waited_for_and_stopped() {
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn(command).expect("spawn")
    };
    let mut process =
        shell("echo one; echo ready here >&2; trap 'echo bye; exit 3' TERM; while :; do sleep 0.01; done");
    assert_eq!(process.wait_for("ready", TIMEOUT).expect("line"), "ready here");
    process.wait_for("one", TIMEOUT).expect("an earlier line");
    let error = process.wait_for("never", Duration::from_millis(30)).expect_err("no such line").to_string();
    assert!(error.contains("in time") && error.contains("ready here"), "{error}");
    thread::sleep(Duration::from_millis(50)); // the trap is set
    assert_eq!(process.stop(TIMEOUT).expect("end").code(), Some(3));
    assert!(process.output().contains("bye"));

    let process = shell("echo only this");
    let error = process.wait_for("ready", TIMEOUT).expect_err("it ends").to_string();
    assert!(error.contains("before the end of its output") && error.contains("only this"), "{error}");
}

/// What the kernel peer really puts on the link: the bytes an AF_XDP socket would see.
#[test]
fn rig_peer_checksums_are_whole_unless_offloaded() {
    if !require_root() {
        return;
    }
    for offload in [false, true] {
        let mut builder = Topology::builder();
        if offload {
            builder = builder.peer_checksum_offload();
        }
        let topology = builder.build().expect("topology");
        topology.pin_engine_neighbour().expect("neighbour");
        let capture = topology.engine.enter(capture_socket);
        let client = UdpClient::connect(&topology.peer, (ENGINE_V4, 7)).expect("connect");
        client.send(&pattern(99, 3)).expect("send");
        let frame = next_udp_frame(&capture);
        assert_eq!(udp_sum(&frame[14..]) == 0xffff, !offload, "offload {offload}: {frame:02x?}");
    }
}

fn capture_socket() -> OwnedFd {
    let all = i32::from(0x0003u16.to_be()); // ETH_P_ALL
    // SAFETY: socket takes three integers; the descriptor it returns is ours alone.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, all);
        assert!(fd >= 0, "socket(AF_PACKET): {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    }
}

fn next_udp_frame(capture: &OwnedFd) -> Vec<u8> {
    let mut poll = libc::pollfd { fd: capture.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: one pollfd, alive for the call.
        assert!(unsafe { libc::poll(&raw mut poll, 1, 2000) } == 1, "no frame within 2 s");
        let mut frame = vec![0u8; 2048];
        // SAFETY: the buffer is as long as said and alive for the call.
        let len = unsafe { libc::recv(capture.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
        frame.truncate(usize::try_from(len).expect("recv"));
        if frame.len() > 34 && frame[12..14] == [8, 0] && frame[23] == 17 {
            return frame;
        }
    }
}

/// The one's complement sum over pseudo-header, UDP header and payload (RFC 768): 0xffff when the checksum holds.
fn udp_sum(packet: &[u8]) -> u16 {
    let udp = &packet[20..usize::from(u16::from_be_bytes([packet[2], packet[3]]))];
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0))).sum()
    };
    let mut sum = words(&packet[12..20]) + 17 + u32::try_from(udp.len()).expect("length") + words(udp);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}
