//! An application's view: events, calls and their errors, what is counted.

use super::*;
use crate::{
    buf::{HugePages, Pool, PoolConfig, Region},
    proto::IfaceId,
    stack::{IfaceConfig, StackConfig},
    wire::{
        MacAddr, arp, checksum, ethernet,
        ethernet::ethertype,
        ipv4::{self, protocol},
        udp,
    },
};
use std::net::Ipv4Addr;

const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ALSO_US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const IFACE: IfaceId = IfaceId(0);

/// An application made of a closure.
struct Script<F>(F);

impl<F: FnMut(&mut Net<'_>, Event)> App for Script<F> {
    fn start(&mut self, _net: &mut Net<'_>) -> Result<(), AppError> {
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        (self.0)(net, event);
    }
}

struct Rig {
    stack: Stack,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut IfaceConfig)) -> Self {
        let region = Region::map(512, 2048, HugePages::Never).unwrap();
        let pool = Pool::new(region, PoolConfig { rx_reserve_frames: 32, run_frames: 64 });
        let mut stack = Stack::new(pool, StackConfig::new([3; 32]), Instant::ZERO);
        let addresses = ["10.0.0.1/24", "10.0.0.5/24"].map(|net| net.parse().unwrap());
        let mut config = IfaceConfig::new("fw0", OUR_MAC, addresses.to_vec());
        change(&mut config);
        stack.add_interface(config).unwrap();
        let mut rig = Self { stack, now: Instant::ZERO };
        for _ in 0..2 {
            rig.advance(Duration::from_secs(3));
        }
        let request = arp::Packet {
            operation: arp::Operation::Request,
            sender_mac: PEER_MAC,
            sender_ip: PEER,
            target_mac: MacAddr::default(),
            target_ip: US,
        };
        rig.receive(&link(ethertype::ARP, &request.to_bytes()));
        rig.sent();
        rig
    }

    fn net(&mut self) -> Net<'_> {
        Net::new(&mut self.stack)
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        self.stack.poll_timers(self.now);
    }

    fn receive(&mut self, frame: &[u8]) {
        let buf = self.stack.pool().rx_from_bytes(frame).unwrap();
        self.stack.ingress(self.now, IFACE, &mut vec![buf]);
    }

    /// (source, destination, payload) of the datagrams that wait to be sent.
    fn sent(&mut self) -> Vec<(SocketAddrV4, SocketAddrV4, Vec<u8>)> {
        let mut sent = vec![];
        while let Some(piece) = self.stack.egress(IFACE).pop() {
            let packet = &piece.as_slice()[14..];
            let Some(ip) = ipv4::Header::parse(packet, packet.len()).ok().filter(|ip| ip.protocol == protocol::UDP)
            else {
                continue;
            };
            let segment = &packet[ip.header_len..];
            let header = udp::Header::parse(segment, segment.len()).unwrap();
            let at = |ip, port| SocketAddrV4::new(ip, port);
            sent.push((at(ip.src, header.src_port), at(ip.dst, header.dst_port), segment[8..].to_vec()));
        }
        sent
    }

    /// The events of one turn.
    fn turn(&mut self) -> Vec<Event> {
        let mut events = vec![];
        drive(&mut self.stack, &mut Script(|_: &mut Net<'_>, event| events.push(event)));
        events
    }

    fn buf(&mut self, bytes: &[u8]) -> TxBuf {
        let mut buf = self.net().alloc().unwrap();
        buf.put_slice(bytes).unwrap();
        buf
    }

    fn whole(self) {
        let pool = self.stack.pool().clone();
        assert!(pool.ledger().balances(), "{}", pool.ledger());
        drop(self.stack);
        assert!(pool.ledger().is_whole(), "{}", pool.ledger());
    }
}

fn link(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; 14];
    ethernet::write(&mut header, OUR_MAC, PEER_MAC, ethertype);
    [&header[..], payload].concat()
}

fn ip(dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; 20];
    let repr = ipv4::Repr {
        src: PEER,
        dst,
        protocol,
        tos: 0,
        ttl: 64,
        id: 1,
        flags_offset: 0,
        payload_len: payload.len() as u16,
    };
    repr.write(&mut header);
    link(ethertype::IPV4, &[&header[..], payload].concat())
}

/// From port 4000 of the peer.
fn datagram(dst: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u16 + 8;
    let sum = checksum::add(checksum::pseudo_header(PEER, dst, protocol::UDP, len), checksum::sum(payload));
    let mut header = [0; 8];
    udp::write(&mut header, 4000, port, len, sum);
    ip(dst, protocol::UDP, &[&header[..], payload].concat())
}

fn any(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)
}

fn peer(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(PEER, port)
}

#[test]
fn readable_is_told_each_turn_while_there_is_something() {
    let mut rig = Rig::new();
    let socket = rig.net().udp_bind(any(7)).unwrap();
    assert_eq!(rig.turn(), []);
    for text in [b"one", b"two"] {
        rig.receive(&datagram(US, 7, text));
    }
    assert_eq!(rig.turn(), [Event::Readable(socket)], "once for both");
    assert_eq!(rig.turn(), [Event::Readable(socket)], "nothing was taken");
    for text in [b"one", b"two"] {
        let mut taken = vec![];
        let work = drive(
            &mut rig.stack,
            &mut Script(|net: &mut Net<'_>, event| {
                assert_eq!(event, Event::Readable(socket));
                taken.push(socket.recv(net).unwrap().buf.as_slice().to_vec());
            }),
        );
        assert_eq!((work, taken), (Work::Some, vec![text.to_vec()]), "one at a time");
    }
    assert_eq!(rig.turn(), []);
    rig.whole();
}

#[test]
fn writable_follows_would_block() {
    let mut rig = Rig::with(|config| config.egress_limit = 4);
    let socket = rig.net().udp_bind(any(7)).unwrap();
    for _ in 0..4 {
        let buf = rig.buf(b"x");
        socket.send_to(&mut rig.net(), buf, peer(9)).unwrap();
    }
    for _ in 0..3 {
        let buf = rig.buf(b"the buffer comes back");
        let Err(SendError::WouldBlock(buf)) = socket.send_to(&mut rig.net(), buf, peer(9)) else { panic!("no room") };
        assert_eq!(buf.as_slice(), b"the buffer comes back");
    }
    assert_eq!(rig.turn(), []);
    assert_eq!(rig.sent().len(), 4);
    rig.stack.egress_drained(IFACE);
    assert_eq!(rig.turn(), [Event::Writable(socket)], "once");
    assert_eq!((rig.turn(), rig.stack.counters.send_would_block), (vec![], 3));
    rig.whole();
}

#[test]
fn an_error_is_told_and_returned_once() {
    let mut rig = Rig::new();
    let socket = rig.net().udp_bind(any(7)).unwrap();
    socket.connect(&mut rig.net(), peer(9)).unwrap();
    // Quotes what we would have sent: the peer's datagram with both ends exchanged.
    let mut quote = datagram(US, 9, b"")[14..42].to_vec();
    quote[12..16].copy_from_slice(&US.octets());
    quote[16..20].copy_from_slice(&PEER.octets());
    quote[20..24].copy_from_slice(&[0, 7, 0, 9]);
    let mut message = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &quote].concat();
    let sum = !checksum::sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    rig.receive(&ip(US, protocol::ICMP, &message));
    assert_eq!(rig.turn(), [Event::Error(socket)]);
    let buf = rig.buf(b"x");
    assert!(matches!(socket.send(&mut rig.net(), buf), Err(SendError::ConnectionRefused)));
    let buf = rig.buf(b"x");
    assert!(socket.send(&mut rig.net(), buf).is_ok());
    rig.whole();
}

#[test]
fn timers_come_in_order_and_not_early() {
    let mut rig = Rig::new();
    for (millis, token) in [(30, 3), (10, 1), (20, 2), (10, 11)] {
        rig.net().set_timer(Duration::from_millis(millis), token);
    }
    rig.advance(Duration::from_millis(9));
    assert_eq!(rig.turn(), []);
    rig.advance(Duration::from_millis(2));
    assert_eq!(rig.turn(), [Event::Timer(1), Event::Timer(11)]);
    rig.advance(Duration::from_secs(1));
    assert_eq!(rig.turn(), [Event::Timer(2), Event::Timer(3)]);
    rig.whole();
}

#[test]
fn connected_sockets_hear_their_peer_and_disconnected_ones_everybody() {
    let mut rig = Rig::new();
    let socket = rig.net().udp_bind(any(7)).unwrap();
    let buf = rig.buf(b"x");
    assert!(matches!(socket.send(&mut rig.net(), buf), Err(SendError::NotConnected)));
    socket.connect(&mut rig.net(), peer(9)).unwrap();
    let far = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9);
    assert_eq!(socket.connect(&mut rig.net(), far), Err(BindError::Unreachable));
    rig.receive(&datagram(US, 7, b"a stranger"));
    assert!(socket.recv(&mut rig.net()).is_none());
    socket.connect(&mut rig.net(), peer(4000)).unwrap();
    rig.receive(&datagram(US, 7, b"the peer"));
    assert_eq!(socket.recv(&mut rig.net()).unwrap().from, peer(4000));
    let buf = rig.buf(b"hello");
    rig.sent();
    socket.send(&mut rig.net(), buf).unwrap();
    assert_eq!(rig.sent(), [(SocketAddrV4::new(US, 7), peer(4000), b"hello".to_vec())]);
    socket.connect(&mut rig.net(), peer(9)).unwrap();
    socket.disconnect(&mut rig.net()).unwrap();
    rig.receive(&datagram(US, 7, b"anybody"));
    assert!(socket.recv(&mut rig.net()).is_some());
    rig.whole();
}

#[test]
fn replies_come_from_the_address_that_was_asked() {
    let mut rig = Rig::new();
    let socket = rig.net().udp_bind(any(7)).unwrap();
    let broadcast = Ipv4Addr::new(10, 0, 0, 255);
    let group = Ipv4Addr::new(224, 0, 0, 9);
    for (asked, source) in [(US, US), (ALSO_US, ALSO_US), (Ipv4Addr::BROADCAST, US), (broadcast, US), (group, US)] {
        rig.receive(&datagram(asked, 7, b"?"));
        let question = socket.recv(&mut rig.net()).unwrap();
        assert_eq!(question.to, asked);
        socket.reply(&mut rig.net(), question).unwrap();
        assert_eq!(rig.sent(), [(SocketAddrV4::new(source, 7), peer(4000), b"?".to_vec())]);
    }
    rig.whole();
}

#[test]
fn broadcasts_need_leave() {
    let mut rig = Rig::new();
    let socket = rig.net().udp_bind(any(7)).unwrap();
    let all = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 255), 9);
    let buf = rig.buf(b"x");
    assert!(matches!(socket.send_to(&mut rig.net(), buf, all), Err(SendError::Broadcast)));
    socket.allow_broadcast(&mut rig.net());
    let buf = rig.buf(b"x");
    socket.send_to(&mut rig.net(), buf, all).unwrap();
    assert_eq!(rig.sent().len(), 1);
    rig.whole();
}

#[test]
fn calls_on_a_closed_socket_fail_and_its_successor_is_another() {
    let mut rig = Rig::new();
    let old = rig.net().udp_bind(any(7)).unwrap();
    rig.receive(&datagram(US, 7, b"freed"));
    old.close(&mut rig.net());
    let new = rig.net().udp_bind(any(7)).unwrap();
    assert_ne!(old, new);
    assert_eq!(rig.turn(), [], "no event for the closed one, nor for its successor");
    let buf = rig.buf(b"x");
    assert!(matches!(old.send_to(&mut rig.net(), buf, peer(9)), Err(SendError::BadSocket)));
    let buf = rig.buf(b"x");
    assert!(matches!(old.send(&mut rig.net(), buf), Err(SendError::BadSocket)));
    assert!(old.recv(&mut rig.net()).is_none() && old.recv_into(&mut rig.net(), &mut [0; 9]).is_none());
    assert_eq!(old.connect(&mut rig.net(), peer(9)), Err(BindError::BadSocket));
    assert_eq!(old.disconnect(&mut rig.net()), Err(BindError::BadSocket));
    assert_eq!((old.local_addr(&rig.net()), new.local_addr(&rig.net())), (None, Some(any(7))));
    old.close(&mut rig.net());
    rig.receive(&datagram(US, 7, b"for the new one"));
    assert_eq!(rig.turn(), [Event::Readable(new)]);
    rig.whole();
}

#[test]
fn only_copies_are_counted_as_copies() {
    let mut rig = Rig::new();
    let socket = rig.net().udp_bind(any(7)).unwrap();
    rig.receive(&datagram(US, 7, b"not copied"));
    let datagram_in = socket.recv(&mut rig.net()).unwrap();
    socket.reply(&mut rig.net(), datagram_in).unwrap();
    let counters = rig.stack.counters;
    assert_eq!((counters.bytes_copied_rx, counters.bytes_copied_tx), (0, 0));
    let mut into = [0; 4];
    rig.receive(&datagram(US, 7, b"cut to four"));
    assert_eq!(socket.recv_into(&mut rig.net(), &mut into), Some((4, peer(4000))));
    assert_eq!(&into, b"cut ");
    assert!(socket.recv(&mut rig.net()).is_none(), "the rest is lost");
    socket.send_slice(&mut rig.net(), b"copied", peer(9)).unwrap();
    let counters = rig.stack.counters;
    assert_eq!((counters.bytes_copied_rx, counters.bytes_copied_tx), (4, 6));
    rig.whole();
}

#[test]
fn budgets_bound_sockets_senders_and_turns() {
    let mut rig = Rig::new();
    let sockets: Vec<_> = (0..300).map(|port| rig.net().udp_bind(any(1000 + port)).unwrap()).collect();
    sockets[0].set_rx_limits(&mut rig.net(), RxLimits { bytes: 10, frames: 8 });
    for (size, taken) in [(4, true), (4, true), (4, false), (2, true), (1, false), (0, true)] {
        let before = rig.stack.counters.udp_rx_datagrams;
        rig.receive(&datagram(US, 1000, &vec![0; size]));
        assert_eq!(rig.stack.counters.udp_rx_datagrams > before, taken, "{size}");
    }
    while sockets[0].recv(&mut rig.net()).is_some() {}
    rig.turn();
    for port in 0..300 {
        rig.receive(&datagram(US, 1000 + port, b"x"));
    }
    let first = rig.turn();
    assert_eq!(first.len(), EVENTS_PER_TURN);
    assert!(first.iter().zip(&sockets).all(|(event, socket)| *event == Event::Readable(*socket)));
    assert_eq!(
        rig.turn()[..44],
        sockets[256..].iter().map(|s| Event::Readable(*s)).collect::<Vec<_>>(),
        "the others first"
    );
    // A sender leaves the receive reserve alone.
    let hoard: Vec<_> = std::iter::from_fn(|| rig.net().alloc()).collect();
    assert!(matches!(sockets[0].send_slice(&mut rig.net(), b"x", peer(9)), Err(SendError::NoBuffers)));
    rig.receive(&datagram(US, 1000, b"still received"));
    drop(hoard);
    sockets[0].send_slice(&mut rig.net(), b"x", peer(9)).unwrap();
    rig.whole();
}
