//! Two stacks that hand each other their frames.

use super::*;
use crate::{
    buf::{HugePages, Pool, PoolConfig, Region, TxBuf},
    proto::IfaceId,
    socket::{Net, TcpEvent, TcpRecvError, TcpSendError, TcpStream},
    stack::{IfaceConfig, StackConfig},
    time::Duration,
    wire::MacAddr,
};

const IFACE: IfaceId = IfaceId(0);

type Lose = Box<dyn FnMut(usize, &[u8]) -> bool>;

struct Pair {
    hosts: [Stack; 2],
    now: Instant,
    /// Drops the frames that it says to.
    lose: Lose,
}

fn host(last: u8, mtu: usize) -> Stack {
    let region = Region::map(2048, 2048, HugePages::Never).unwrap();
    let pool = Pool::new(region, PoolConfig { rx_reserve_frames: 64, run_frames: 256 });
    let mut stack = Stack::new(pool, StackConfig::new([last; 32]), Instant::ZERO);
    let mac = MacAddr([2, 0, 0, 0, 0, last]);
    let mut config = IfaceConfig::new("mem", mac, vec![format!("10.0.0.{last}/24").parse().unwrap()]);
    (config.mtu, config.tx_pieces_max) = (mtu, 17);
    stack.add_interface(config).unwrap();
    stack
}

fn at(last: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), port)
}

impl Pair {
    fn new() -> Self {
        Self { hosts: [host(1, 1500), host(2, 1500)], now: Instant::from_millis(1000), lose: Box::new(|_, _| false) }
    }

    /// Carries frames until nobody sends any more.
    fn settle(&mut self) {
        for _ in 0..200 {
            let mut moved = false;
            for from in 0..2 {
                self.hosts[from].set_now(self.now);
                self.hosts[from].flush();
                let mut packets: Vec<Vec<u8>> = vec![];
                let mut packet = vec![];
                while let Some(piece) = self.hosts[from].egress(IFACE).pop() {
                    packet.extend_from_slice(piece.as_slice());
                    if !piece.more() {
                        packets.push(std::mem::take(&mut packet));
                    }
                }
                for packet in packets {
                    moved = true;
                    if (self.lose)(from, &packet) {
                        continue;
                    }
                    let to = &mut self.hosts[1 - from];
                    let frame = to.pool().rx_from_bytes(&packet).unwrap();
                    to.ingress(self.now, IFACE, &mut vec![frame]);
                }
                self.hosts[from].egress_drained(IFACE);
            }
            if !moved {
                return;
            }
        }
        panic!("they never stop talking");
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while self.now < end {
            self.now = (self.now + Duration::from_millis(1)).min(end);
            for host in &mut self.hosts {
                host.poll_timers(self.now);
            }
            self.settle();
        }
    }

    fn net(&mut self, host: usize) -> Net<'_> {
        Net::new(&mut self.hosts[host])
    }

    fn connect(&mut self) -> (TcpStream, TcpStream) {
        let listener = self.net(1).tcp_listen(at(2, 7), 16).unwrap();
        let client = self.net(0).tcp_connect(at(2, 7)).unwrap();
        self.settle();
        let server = listener.accept(&mut self.net(1)).expect("accepted");
        assert_eq!(
            (client.state(&self.net(0)), server.state(&self.net(1))),
            (TcpState::Established, TcpState::Established)
        );
        (client, server)
    }

    fn buf(&mut self, host: usize, bytes: &[u8]) -> TxBuf {
        let mut buf = self.net(host).alloc_contiguous(bytes.len()).unwrap();
        buf.put_slice(bytes).unwrap();
        buf
    }

    fn read(&mut self, host: usize, stream: TcpStream) -> Vec<u8> {
        let mut got = vec![];
        while let Ok(buf) = stream.recv(&mut self.net(host)) {
            got.extend(buf.pieces().flatten());
        }
        got
    }

    fn whole(self) {
        for host in self.hosts {
            let pool = host.pool().clone();
            assert_eq!((host.counters.bytes_copied_tx, host.counters.bytes_copied_rx), (0, 0));
            drop(host);
            assert!(pool.ledger().is_whole(), "{}", pool.ledger());
        }
    }
}

fn text(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251 + seed) as u8).collect()
}

#[test]
fn bytes_go_both_ways_and_everybody_leaves() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect();
    let question = text(1000, 1);
    let buf = pair.buf(0, &question);
    client.send(&mut pair.net(0), buf).unwrap();
    pair.settle();
    let frame = server.recv(&mut pair.net(1)).unwrap();
    assert_eq!(frame.as_slice(), question);
    server.send(&mut pair.net(1), frame.into_tx()).unwrap();
    pair.settle();
    assert_eq!(pair.read(0, client), question);
    client.shutdown(&mut pair.net(0));
    pair.settle();
    assert_eq!(server.recv(&mut pair.net(1)).unwrap_err(), TcpRecvError::Finished);
    assert_eq!(server.state(&pair.net(1)), TcpState::CloseWait);
    server.close(&mut pair.net(1));
    pair.settle();
    assert_eq!(client.state(&pair.net(0)), TcpState::TimeWait);
    assert_eq!(client.recv(&mut pair.net(0)).unwrap_err(), TcpRecvError::Finished);
    client.close(&mut pair.net(0));
    assert_eq!(pair.hosts[0].usage().tcp_connections, 0);
    assert_eq!(pair.hosts[0].usage().tcp_time_wait, 1);
    assert_eq!(pair.hosts[1].usage().tcp_connections, 0);
    pair.advance(Duration::from_secs(61));
    assert_eq!(pair.hosts[0].usage().tcp_time_wait, 0);
    pair.whole();
}

#[test]
fn large_buffers_are_cut_and_not_copied() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect();
    let sent = text(60_000, 3);
    let buf = pair.buf(0, &sent);
    client.send(&mut pair.net(0), buf).unwrap();
    let mut got = vec![];
    for _ in 0..100 {
        pair.settle();
        got.extend(pair.read(1, server));
        pair.advance(Duration::from_millis(1));
    }
    assert!(got == sent, "{} of {}", got.len(), sent.len());
    client.close(&mut pair.net(0));
    server.close(&mut pair.net(1));
    pair.settle();
    pair.whole();
}

#[test]
fn what_is_lost_comes_again_from_the_same_frames() {
    for every in [2, 3, 7, 20] {
        let mut pair = Pair::new();
        let (client, server) = pair.connect();
        let mut count = 0;
        pair.lose = Box::new(move |_, packet| {
            count += 1;
            packet.len() > 100 && count % every == 0
        });
        let sent: Vec<Vec<u8>> = (0..200).map(|i| text(1 + i * 37 % 1448, i)).collect();
        let mut queue = sent.iter();
        let mut waiting: Option<TxBuf> = None;
        let mut got = vec![];
        for _ in 0..20_000 {
            loop {
                let Some(buf) = waiting.take().or_else(|| queue.next().map(|bytes| pair.buf(0, bytes))) else { break };
                match client.send(&mut pair.net(0), buf) {
                    Ok(()) => {}
                    Err(TcpSendError::WouldBlock(buf)) => {
                        waiting = Some(buf);
                        break;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            pair.settle();
            got.extend(pair.read(1, server));
            if queue.len() == 0 && waiting.is_none() && client.unacked_bytes(&pair.net(0)) == 0 {
                break;
            }
            pair.advance(Duration::from_millis(1));
        }
        assert!(got == sent.concat(), "every {every}: {} of {}", got.len(), sent.concat().len());
        assert!(pair.hosts[0].counters.tcp_retransmissions > 0);
        client.close(&mut pair.net(0));
        server.close(&mut pair.net(1));
        pair.advance(Duration::from_secs(120));
        assert_eq!(pair.hosts[0].usage().tcp_connections + pair.hosts[1].usage().tcp_connections, 0);
        pair.whole();
    }
}

#[test]
fn shared_bytes_go_to_many_and_are_free_afterwards() {
    let mut pair = Pair::new();
    let listener = pair.net(1).tcp_listen(at(2, 7), 16).unwrap();
    let content = text(20_000, 9);
    let shared = Rc::new(pair.buf(0, &content).freeze());
    let mut streams = vec![];
    for _ in 0..5 {
        let client = pair.net(0).tcp_connect(at(2, 7)).unwrap();
        pair.settle();
        streams.push((client, listener.accept(&mut pair.net(1)).unwrap()));
        client.send_shared(&mut pair.net(0), &shared, 100..20_000).unwrap();
        client.send_shared(&mut pair.net(0), &shared, 0..1).unwrap();
    }
    assert!(matches!(streams[0].0.send_shared(&mut pair.net(0), &shared, 0..20_001), Err(TcpSendError::Full)));
    let wanted = [&content[100..], &content[..1]].concat();
    let mut got = vec![vec![]; 5];
    for _ in 0..100 {
        for (i, (_, server)) in streams.iter().enumerate() {
            let bytes = pair.read(1, *server);
            got[i].extend(bytes);
        }
        pair.advance(Duration::from_millis(1));
    }
    assert!(got.iter().all(|got| *got == wanted));
    assert_eq!(Rc::strong_count(&shared), 1);
    drop(shared);
    pair.whole();
}

#[test]
fn tiny_buffers_are_bounded_by_frames() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect();
    // Nobody answers, so that nothing is acknowledged.
    pair.lose = Box::new(|from, _| from == 1);
    let options = client.options(&pair.net(0)).unwrap();
    client.set_options(&mut pair.net(0), crate::socket::TcpOptions { send_frames_max: 10, ..options });
    for _ in 0..10 {
        let buf = pair.buf(0, b"x");
        client.send(&mut pair.net(0), buf).unwrap();
    }
    let buf = pair.buf(0, b"x");
    assert!(matches!(client.send(&mut pair.net(0), buf), Err(TcpSendError::WouldBlock(_))));
    assert_eq!(client.send_room(&pair.net(0)), 0);
    pair.lose = Box::new(|_, _| false);
    pair.advance(Duration::from_secs(3));
    let buf = pair.buf(0, b"x");
    client.send(&mut pair.net(0), buf).unwrap();
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.read(1, server).len(), 11);
    pair.whole();
}

#[test]
fn bytes_are_counted_once_and_the_end_is_told_to_who_takes() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect();
    let mut count = 0;
    // The first data segment is lost: what follows is kept out of order.
    pair.lose = Box::new(move |_, packet| {
        count += u32::from(packet.len() > 100);
        packet.len() > 100 && count == 1
    });
    for i in 0..8 {
        let buf = pair.buf(0, &text(1000, i));
        client.send(&mut pair.net(0), buf).unwrap();
    }
    client.shutdown(&mut pair.net(0));
    pair.advance(Duration::from_secs(3));
    assert_eq!(pair.hosts[1].counters.tcp_rx_payload_bytes, 8000);
    let Some(StackEvent::Tcp(handle)) = pair.hosts[1].next_event().and_then(|event| match event {
        StackEvent::TcpAcceptable(_) => pair.hosts[1].next_event(),
        other => Some(other),
    }) else {
        panic!("an event of the stream")
    };
    while pair.hosts[1].tcp_poll_event(handle).is_some() {}
    // It takes exactly what there is, and does not ask for more: the stream's end is still to come.
    while server.waiting_bytes(&pair.net(1)) > 0 {
        drop(server.recv(&mut pair.net(1)).unwrap());
    }
    pair.hosts[1].tcp_relist(handle);
    assert_eq!(pair.hosts[1].tcp_poll_event(handle), Some(TcpEvent::Readable));
    pair.hosts[1].tcp_relist(handle);
    assert_eq!(pair.hosts[1].tcp_poll_event(handle), None);
    pair.whole();
}

#[test]
fn streams_that_nobody_reads_leave_frames_to_answer_with() {
    let mut pair = Pair::new();
    // As a port would.
    pair.hosts[1].pool().set_lent_frames(512);
    let pool = pair.hosts[1].pool().clone();
    let config = StackConfig::new([3; 32]);
    pair.hosts[1] = Stack::new(pool.clone(), config, Instant::ZERO);
    let mac = MacAddr([2, 0, 0, 0, 0, 2]);
    pair.hosts[1].add_interface(IfaceConfig::new("mem", mac, vec!["10.0.0.2/24".parse().unwrap()])).unwrap();
    assert_eq!(pool.data_frames(), 2048 - 256 - 64 - 512);
    let listener = pair.net(1).tcp_listen(at(2, 7), 16).unwrap();
    let clients: Vec<_> = (0..6).map(|_| pair.net(0).tcp_connect(at(2, 7)).unwrap()).collect();
    pair.settle();
    let servers: Vec<_> = clients.iter().map(|_| listener.accept(&mut pair.net(1)).expect("accepted")).collect();
    for _ in 0..400 {
        for client in &clients {
            if let Some(mut buf) = pair.net(0).alloc_contiguous(1400) {
                buf.put_slice(&[7; 1400]).unwrap();
                // A full queue gives it back.
                let _ = client.send(&mut pair.net(0), buf);
            }
        }
        pair.advance(Duration::from_millis(2));
    }
    let held = pair.hosts[1].usage().tcp_rx_frames;
    assert!((300..=pool.data_frames() / 2).contains(&held), "{held}");
    // Those with the device are free here.
    let left = pool.free_for_tx() - 512;
    assert!(left >= pool.data_frames() / 2, "{left}");
    drop((servers, clients, listener));
}

/// Of the streams that their application has closed only so many wait for peers that do not answer; the oldest goes first, with a reset. Those that ended do not count.
#[test]
fn closed_streams_that_wait_are_limited() {
    let mut pair = Pair::new();
    pair.hosts[0].config.tcp.orphans_max = 2;
    let listener = pair.net(1).tcp_listen(at(2, 7), 16).unwrap();
    let connect = |pair: &mut Pair, count: usize| -> Vec<(TcpStream, TcpStream)> {
        let one = |pair: &mut Pair| {
            let client = pair.net(0).tcp_connect(at(2, 7)).unwrap();
            pair.settle();
            (client, listener.accept(&mut pair.net(1)).expect("accepted"))
        };
        (0..count).map(|_| one(pair)).collect()
    };
    let part = |pair: &mut Pair, streams: &[(TcpStream, TcpStream)]| {
        for (client, _) in streams {
            let buf = pair.buf(0, b"last words");
            client.send(&mut pair.net(0), buf).unwrap();
            client.close(&mut pair.net(0));
        }
        pair.settle();
    };
    let streams = connect(&mut pair, 5);
    pair.lose = Box::new(|from, packet| from == 0 && packet[47] & crate::wire::tcp::flags::RST == 0);
    part(&mut pair, &streams);
    assert_eq!(pair.hosts[0].counters.tcp_orphans_reset, 3);
    let states: Vec<_> = streams.iter().map(|(_, server)| server.state(&pair.net(1))).collect();
    let (closed, open) = (TcpState::Closed, TcpState::Established);
    assert_eq!(states, [closed, closed, closed, open, open]);

    pair.lose = Box::new(|_, _| false);
    pair.advance(Duration::from_secs(2));
    for &(_, server) in &streams[3..] {
        assert_eq!(pair.read(1, server), b"last words");
        server.close(&mut pair.net(1));
    }
    pair.settle();
    let streams = connect(&mut pair, 2);
    part(&mut pair, &streams);
    assert_eq!(pair.hosts[0].counters.tcp_orphans_reset, 3);
    pair.whole();
}
