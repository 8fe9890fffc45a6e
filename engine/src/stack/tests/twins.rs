//! The short way in and the general one leave the same behind: of each host there are two, of which one takes every frame by the general way. Both do and
//! hear the same, and must not differ in anything.

use super::*;
use crate::{
    proto::tcp::{LossDetection, TcpEvent, TcpOptions},
    socket::{Net, TcpListener, TcpStream, UdpSocket},
};
use proptest::prelude::*;

/// A host that takes frames as they are usually taken, and its twin, which takes them all by the general way.
struct Twins {
    hosts: [Stack; 2],
    now: Instant,
}

fn host(last: u8, change: impl Fn(&mut IfaceConfig)) -> Stack {
    let region = Region::map(512, 2048, HugePages::Never).unwrap();
    let pool = Pool::new(region, PoolConfig { rx_reserve_frames: 32, run_frames: 0 });
    let mut stack = Stack::new(pool, StackConfig::new([last; 32]), Instant::ZERO);
    let mac = MacAddr([2, 0, 0, 0, 0, last]);
    let mut config = IfaceConfig::new("mem", mac, vec![format!("10.0.0.{last}/24").parse().unwrap()]);
    change(&mut config);
    stack.add_interface(config).unwrap();
    for other in [1, 2] {
        let (ip, mac) = (Ipv4Addr::new(10, 0, 0, other), MacAddr([2, 0, 0, 0, 0, other]));
        stack.add_static_neighbour(IFACE, ip, mac).unwrap();
    }
    stack
}

impl Twins {
    fn new(last: u8, change: impl Fn(&mut IfaceConfig)) -> Self {
        Self { hosts: [host(last, &change), host(last, &change)], now: Instant::from_millis(1000) }
    }

    /// The same with both, which comes to the same.
    fn both<T: std::fmt::Debug + PartialEq>(&mut self, mut call: impl FnMut(&mut Net<'_>) -> T) -> T {
        let [usual, general] = self.hosts.each_mut().map(|stack| call(&mut Net::new(stack)));
        assert_eq!(usual, general);
        usual
    }

    fn receive(&mut self, frame: &[u8]) {
        let [usual, general] = &mut self.hosts;
        usual.ingress(self.now, IFACE, &mut usual.pool().rx_from_bytes(frame).into_iter().collect());
        general.set_now(self.now);
        if let Some(frame) = general.pool().rx_from_bytes(frame) {
            general.handle_frame(IFACE, frame);
        }
    }

    /// What both send now.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let [usual, general] = self.hosts.each_mut().map(|stack| {
            stack.flush();
            let packets: Vec<Vec<u8>> =
                std::iter::from_fn(|| stack.egress(IFACE).pop()).map(|piece| piece.as_slice().to_vec()).collect();
            stack.egress_drained(IFACE);
            packets
        });
        assert_eq!(usual, general);
        usual
    }

    /// The events that both tell now.
    fn events(&mut self) -> Vec<StackEvent> {
        let [usual, general] = self.hosts.each_mut().map(|stack| std::iter::from_fn(|| stack.next_event()).collect());
        assert_eq!(usual, general);
        usual
    }

    fn tcp_events(&mut self) -> Vec<TcpEvent> {
        let mut events = vec![];
        for event in self.events() {
            let StackEvent::Tcp(handle) = event else { continue };
            let [usual, general] =
                self.hosts.each_mut().map(|stack| std::iter::from_fn(|| stack.tcp_poll_event(handle)).collect());
            assert_eq!(usual, general);
            events.extend::<Vec<_>>(usual);
        }
        events
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        let [usual, general] = self.hosts.each_mut().map(|stack| (stack.poll_timers(self.now), stack.timers.len()));
        assert_eq!(usual, general, "timers");
    }

    /// Nothing tells them apart: counters, connections, queues, timers, frames.
    fn compare(&self) {
        let [usual, general] = &self.hosts;
        assert_eq!(usual.counters, general.counters);
        let [a, b] =
            [usual, general].map(|stack| format!("{:#?}", (stack.tcp.connections_to_look_at(), stack.usage())));
        for (a, b) in a.lines().zip(b.lines()) {
            assert_eq!(a, b);
        }
        assert_eq!(a.len(), b.len());
        assert_eq!(usual.timers.next_deadline(), general.timers.next_deadline());
        assert_eq!(format!("{}", usual.pool().ledger()), format!("{}", general.pool().ledger()));
    }
}

/// What may happen on a link between two hosts, with either of which it begins.
#[derive(Clone, Debug)]
enum Step {
    /// An application sends so many bytes.
    Send(usize, usize),
    /// It takes at most so many buffers.
    Take(usize, usize),
    /// The oldest frame that a host has sent arrives.
    Carry(usize),
    /// It is lost.
    Lose(usize),
    /// It arrives, and stays to arrive again.
    Repeat(usize),
    /// The next one overtakes it.
    Swap(usize),
    /// All arrive.
    CarryAll(usize),
    Advance(u64),
    Finish(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = || 0usize..2;
    let step = prop_oneof![
        6 => (end(), prop_oneof![Just(1448usize), Just(1460), 1usize..1400, Just(1)]).prop_map(|(e, n)| Step::Send(e, n)),
        5 => (end(), 1usize..20).prop_map(|(e, n)| Step::Take(e, n)),
        8 => end().prop_map(Step::Carry),
        8 => end().prop_map(Step::CarryAll),
        1 => end().prop_map(Step::Lose),
        1 => end().prop_map(Step::Repeat),
        1 => end().prop_map(Step::Swap),
        4 => prop_oneof![0u64..3000, 1000u64..60_000, 100_000u64..500_000].prop_map(Step::Advance),
    ];
    (prop::collection::vec(step, 20..160), prop::option::of(end()))
        .prop_map(|(steps, finishes)| steps.into_iter().chain(finishes.map(Step::Finish)).collect())
}

/// Two hosts, each twice, and what is on its way.
struct Link {
    ends: [Twins; 2],
    streams: [TcpStream; 2],
    on_the_way: [Vec<Vec<u8>>; 2],
    given: [usize; 2],
    taken: [usize; 2],
    /// Frames arrive as [`unfinish`] makes them.
    unfinished: bool,
}

impl Link {
    fn new(options: &TcpOptions, policy: RxChecksum) -> Self {
        let mut ends = [1, 2].map(|last| Twins::new(last, |config| config.rx_checksum = policy));
        let server_at = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 7);
        let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let listener: TcpListener = ends[1].both(|net| {
            let listener = net.tcp_listen(server_at, 4).unwrap();
            listener.set_options(net, options.clone());
            listener
        });
        let client = ends[0].both(|net| net.tcp_connect_with(nowhere, server_at, options.clone()).unwrap());
        for _ in 0..3 {
            for from in [0, 1] {
                let sent = ends[from].sent();
                sent.iter().for_each(|frame| ends[1 - from].receive(frame));
            }
        }
        let server = ends[1].both(|net| listener.accept(net)).expect("accepted");
        Self {
            ends,
            streams: [client, server],
            on_the_way: [vec![], vec![]],
            given: [0; 2],
            taken: [0; 2],
            unfinished: policy == RxChecksum::Partial,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Send(end, bytes) => {
                let (stream, given) = (self.streams[end], self.given[end]);
                let sent = self.ends[end].both(|net| {
                    let mut buf = net.alloc()?;
                    buf.put_slice(&(0..bytes).map(|i| (given + i) as u8).collect::<Vec<_>>()).ok()?;
                    stream.send(net, buf).ok()
                });
                self.given[end] += if sent.is_some() { bytes } else { 0 };
            }
            Step::Take(end, most) => {
                let stream = self.streams[end];
                let bytes = self.ends[end].both(|net| {
                    let bufs = (0..most).map_while(|_| stream.recv(net).ok());
                    bufs.flat_map(|buf| buf.pieces().flatten().copied().collect::<Vec<_>>()).collect::<Vec<_>>()
                });
                for byte in bytes {
                    assert_eq!(byte, self.taken[end] as u8, "byte {} of the stream", self.taken[end]);
                    self.taken[end] += 1;
                }
            }
            Step::Carry(from) if !self.on_the_way[from].is_empty() => {
                let frame = self.on_the_way[from].remove(0);
                self.ends[1 - from].receive(&frame);
            }
            Step::CarryAll(from) => {
                for frame in std::mem::take(&mut self.on_the_way[from]) {
                    self.ends[1 - from].receive(&frame);
                }
            }
            Step::Lose(from) if !self.on_the_way[from].is_empty() => {
                self.on_the_way[from].remove(0);
            }
            Step::Repeat(from) if !self.on_the_way[from].is_empty() => {
                let frame = self.on_the_way[from][0].clone();
                self.ends[1 - from].receive(&frame);
            }
            Step::Swap(from) if self.on_the_way[from].len() > 1 => self.on_the_way[from].swap(0, 1),
            Step::Advance(us) => self.ends.iter_mut().for_each(|end| end.advance(Duration::from_micros(us))),
            Step::Finish(end) => {
                let stream = self.streams[end];
                self.ends[end].both(|net| stream.shutdown(net));
            }
            Step::Carry(_) | Step::Lose(_) | Step::Repeat(_) | Step::Swap(_) => {}
        }
        for (end, on_the_way) in self.ends.iter_mut().zip(&mut self.on_the_way) {
            end.tcp_events();
            on_the_way
                .extend(end.sent().into_iter().map(|frame| if self.unfinished { unfinish(frame) } else { frame }));
            end.compare();
        }
    }
}

/// The frame as a sender leaves it whose device is to finish the checksum of UDP or TCP: with the pseudo-header's sum alone.
fn unfinish(mut frame: Vec<u8>) -> Vec<u8> {
    let protocol = frame[23];
    let l4_len = u16::from_be_bytes([frame[16], frame[17]]).wrapping_sub(20);
    let address = |at: usize| Ipv4Addr::from_octets(*frame[at..].first_chunk().unwrap());
    let pseudo = checksum::pseudo_header(address(26), address(30), protocol, l4_len);
    let at = if protocol == protocol::TCP { 34 + 16 } else { 34 + 6 };
    if let Some(field) = frame.get_mut(at..at + 2) {
        field.copy_from_slice(&pseudo.to_be_bytes());
    }
    frame
}

fn policies() -> impl Strategy<Value = RxChecksum> {
    prop_oneof![Just(RxChecksum::Verify), Just(RxChecksum::Partial), Just(RxChecksum::Trust)]
}

#[test]
fn a_calm_stream_keeps_its_bytes() {
    for policy in [RxChecksum::Verify, RxChecksum::Partial] {
        let mut link = Link::new(&TcpOptions::default(), policy);
        for _ in 0..20 {
            use Step::{CarryAll, Send, Take};
            [Send(0, 1448), Send(0, 1448), CarryAll(0), Take(1, 9), CarryAll(1)]
                .iter()
                .for_each(|step| link.step(step));
        }
        assert_eq!(link.taken, [0, 20 * 2896]);
        assert_eq!(link.ends[1].hosts[0].counters.checksums_partial_accepted > 0, policy == RxChecksum::Partial);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn connections(steps in steps(), by_time: bool, nodelay: bool, small: bool, policy in policies()) {
        let mut options = TcpOptions { nodelay, ..TcpOptions::default() };
        options.loss_detection = if by_time { LossDetection::Rack } else { LossDetection::Sack };
        if small {
            // Windows close, and frames get scarce.
            (options.recv_queue_bytes, options.recv_queue_bytes_max, options.recv_frames_max) = (8000, 16_000, 12);
        }
        let mut link = Link::new(&options, policy);
        steps.iter().for_each(|step| link.step(step));
    }

    /// Datagrams and segments with whatever is wrong with them.
    #[test]
    fn any_frames(
        frames in prop::collection::vec((0usize..3, prop::collection::vec((0usize..80, 0u8..=255), 0..3), 0usize..90), 1..60),
        policy in policies(),
        mend in prop::bool::ANY,
        unfinished in prop::bool::ANY,
    ) {
        let mut twins = Twins::new(1, |config| config.rx_checksum = policy);
        let at = |port| SocketAddrV4::new(US, port);
        let sockets: Vec<UdpSocket> = twins.both(|net| {
            let unbound = net.udp_bind(super::any(7)).unwrap();
            let bound = net.udp_bind(at(8)).unwrap();
            let connected = net.udp_bind(at(9)).unwrap();
            connected.connect(net, SocketAddrV4::new(PEER, 1000)).unwrap();
            vec![unbound, bound, connected]
        });
        for (port, changes, len) in frames {
            let mut frame = udp_frame(1000, 7 + port as u16, &vec![0x5a; len % 40]);
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if mend {
                frame[24..26].fill(0);
                let sum = !checksum::sum(&frame[14..34]);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            if unfinished {
                frame = unfinish(frame);
            }
            if len > 60 {
                frame.resize(len, 0);
            }
            twins.receive(&frame);
            twins.events();
            twins.sent();
            twins.compare();
            for &socket in &sockets {
                twins.both(|net| socket.recv(net).map(|datagram| {
                    (datagram.buf.as_slice().to_vec(), datagram.buf.payload_sum(), datagram.from, datagram.to)
                }));
            }
        }
    }
}
