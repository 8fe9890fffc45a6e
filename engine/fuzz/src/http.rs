//! The HTTP service and a client, on two stacks that hand each other their frames.

use arbitrary::Unstructured;
use framewire::{
    buf::{HugePages, Pool, PoolConfig, Region},
    config::HttpPage,
    proto::IfaceId,
    service::{Counts, HttpConfig, HttpServer},
    socket::{App, Net, TcpOptions, drive},
    stack::{IfaceConfig, Stack, StackConfig},
    time::{Duration, Instant},
    wire::MacAddr,
};
use std::{cell::OnceCell, net::SocketAddrV4, sync::Arc};

const IFACE: IfaceId = IfaceId(0);
const SERVER: &str = "10.0.0.2:80";
/// Rounds of frames after each piece of a request: an answer takes fewer.
const ROUNDS: usize = 200;

/// The frames of both, which all runs share: mapping them takes longer than a run.
fn pools() -> [Pool; 2] {
    let pool = || {
        let region = Region::map(1024, 2048, HugePages::Never).expect("memory");
        Pool::new(region, PoolConfig { rx_reserve_frames: 64, run_frames: 0 })
    };
    thread_local! { static POOLS: OnceCell<[Pool; 2]> = const { OnceCell::new() } }
    POOLS.with(|pools| pools.get_or_init(|| [pool(), pool()]).clone())
}

fn stack(last: u8, pool: Pool) -> Stack {
    let mut stack = Stack::new(pool, StackConfig::new([last; 32]), Instant::ZERO);
    let net = format!("10.0.0.{last}/24").parse().expect("a network");
    stack.add_interface(IfaceConfig::new("mem", MacAddr([2, 0, 0, 0, 0, last]), vec![net])).expect("an interface");
    stack
}

fn carry(from: &mut Stack, to: &mut Stack, now: Instant) -> bool {
    from.set_now(now);
    from.flush();
    let mut moved = false;
    while let Some(piece) = from.egress(IFACE).pop() {
        assert!(!piece.more(), "without scatter-gather a packet is one piece");
        to.ingress(now, IFACE, &mut vec![to.pool().rx_from_bytes(piece.as_slice()).expect("frames")]);
        moved = true;
    }
    from.egress_drained(IFACE);
    moved
}

/// Any bytes for the service, in any pieces.
pub fn http(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let page =
        |path: &str, body: &str| HttpPage { path: path.into(), body: body.into(), content_type: "text/plain".into() };
    let config = HttpConfig {
        index: 0,
        local: SERVER.parse().expect("an address"),
        backlog: 4,
        connections_max: 4,
        root: None,
        pages: vec![page("/", "hello\n"), page("/long", &"line\n".repeat(2_000)), page("/a b", "space")],
        content_bytes_max: 1 << 16,
        idle_timeout: Duration::from_secs(10),
        options: TcpOptions::default(),
    };
    let pools = pools();
    let (mut client, mut server) = (stack(1, pools[0].clone()), stack(2, pools[1].clone()));
    let mut service = HttpServer::new(config, Arc::new(Counts::default()));
    service.start(&mut Net::new(&mut server)).expect("started");
    let mut now = Instant::from_millis(1);
    let to: SocketAddrV4 = SERVER.parse().expect("an address");
    let stream = Net::new(&mut client).tcp_connect(to).expect("a port");
    let mut answer = Vec::new();
    loop {
        for _ in 0..ROUNDS {
            now = now + Duration::from_micros(500);
            client.poll_timers(now);
            server.poll_timers(now);
            let moved = carry(&mut client, &mut server, now);
            drive(&mut server, &mut service);
            let moved = carry(&mut server, &mut client, now) | moved;
            while let Ok(buf) = stream.recv(&mut Net::new(&mut client)) {
                answer.extend(buf.pieces().flatten());
            }
            if !moved {
                break;
            }
        }
        if input.is_empty() {
            break;
        }
        let len = input.arbitrary_len::<u8>().unwrap_or(0).clamp(1, 4_000).min(input.len());
        let Ok(piece) = input.bytes(len) else { break };
        if stream.send_slice(&mut Net::new(&mut client), piece).is_err() {
            break;
        }
    }
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "an answer: {:?}", String::from_utf8_lossy(&answer));
    service.stop(&mut Net::new(&mut server));
    drop((service, client, server));
    assert!(pools.iter().all(|pool| pool.ledger().is_whole()), "every frame came back");
}
