//! The steps of a turn one by one, on a `mem` port: what each costs for a packet.

use super::{BATCH, FLOW, tcp};
use crate::affinity;
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use framewire::{
    buf::{HugePages, Pool, PoolConfig, Region, RxBuf, TxQueue},
    port::{
        Port,
        mem::{self, MemConfig, MemPort, Nic},
    },
    proto::IfaceId,
    stack::{IfaceConfig, Stack, StackConfig, UdpHandle},
    time::{Duration, Instant},
    wire::{checksum, ethernet, ipv4, seq::SeqNum, tcp as tcp_wire, udp},
};
use std::{cell::RefCell, hint::black_box, rc::Rc, time};

const PAYLOAD_BYTES: usize = 64;
/// Payload of a full TCP segment with timestamps.
const SEGMENT_BYTES: usize = 1448;
const NOW: Instant = Instant::ZERO;

/// Something of which a batch is timed at a time.
pub(crate) trait Stage {
    /// Not timed: puts everything where a batch of it finds it.
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    /// A batch of [`BATCH`].
    fn run(&mut self);
}

/// How a stage is made.
pub(crate) type Make = fn() -> Result<Box<dyn Stage>>;

/// By name, in the order of a packet's way.
pub(crate) const ALL: &[(&str, Make)] = &[
    ("reap", || Ok(Box::new(OnPort::new(Step::Reap)?))),
    ("refill", || Ok(Box::new(OnPort::new(Step::Refill)?))),
    ("receive", || Ok(Box::new(OnPort::new(Step::Receive)?))),
    ("parse-udp", || Ok(Box::new(ParseUdp(FLOW.frame(PAYLOAD_BYTES))))),
    ("parse-tcp", || Ok(Box::new(ParseTcp::new()))),
    ("ingress-udp", || Ok(Box::new(Ingress::new(1)?))),
    ("ingress-udp-among-10000", || Ok(Box::new(Ingress::new(10_000)?))),
    ("build-udp", || Ok(Box::new(BuildUdp))),
    ("build-tcp", || Ok(Box::new(BuildTcp))),
    ("post", || Ok(Box::new(OnPort::new(Step::Post)?))),
    ("checksum-64", || Ok(Box::new(Checksum(vec![0x5a; 64])))),
    ("checksum-1448", || Ok(Box::new(Checksum(vec![0x5a; SEGMENT_BYTES])))),
    ("memcpy-1448", || Ok(Box::new(Memcpy { from: vec![0x5a; SEGMENT_BYTES], to: vec![0; SEGMENT_BYTES] }))),
];

/// Prepares a batch and runs it; what it took.
pub(crate) fn batch(stage: &mut dyn Stage) -> Result<time::Duration> {
    stage.prepare()?;
    let begun = time::Instant::now();
    work_of_a_stage(stage);
    Ok(begun.elapsed())
}

/// For callgrind to know it by its name.
#[inline(never)]
fn work_of_a_stage(stage: &mut dyn Stage) {
    black_box(2);
    stage.run();
}

struct Checksum(Vec<u8>);

impl Stage for Checksum {
    fn run(&mut self) {
        for _ in 0..BATCH {
            black_box(checksum::sum(black_box(&self.0)));
        }
    }
}

/// What a checksum is held against: the bytes are read once either way.
struct Memcpy {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Stage for Memcpy {
    fn run(&mut self) {
        for _ in 0..BATCH {
            black_box(&mut self.to).copy_from_slice(black_box(&self.from));
        }
    }
}

struct ParseUdp(Vec<u8>);

impl Stage for ParseUdp {
    fn run(&mut self) {
        for _ in 0..BATCH {
            let frame = black_box(self.0.as_slice());
            let parsed = ethernet::Header::parse(frame).and_then(|link| {
                let packet = &frame[link.len..];
                let header = ipv4::Header::parse(packet, packet.len()).ok()?;
                let datagram = &packet[header.header_len..header.total_len];
                Some((link, header, udp::Header::parse(datagram, datagram.len())?))
            });
            black_box(parsed);
        }
    }
}

struct ParseTcp(Vec<u8>);

impl ParseTcp {
    fn new() -> Self {
        let mut segment = [0; tcp_wire::HEADER_BYTES_MAX];
        let len = tcp_header().write(&mut segment, 0);
        Self(segment[..len].to_owned())
    }
}

impl Stage for ParseTcp {
    fn run(&mut self) {
        for _ in 0..BATCH {
            let segment = black_box(self.0.as_slice());
            let parsed = tcp_wire::Header::parse(segment).and_then(|header| {
                let options = tcp_wire::Options::parse(&segment[tcp_wire::HEADER_BYTES..header.header_len])?;
                Some((header, options))
            });
            black_box(parsed);
        }
    }
}

fn tcp_header() -> tcp_wire::Repr {
    let timestamps = Some(tcp_wire::Timestamps { value: 1000, echo: 900 });
    tcp_wire::Repr {
        src_port: 7,
        dst_port: 9000,
        seq: SeqNum(1),
        ack: SeqNum(2),
        flags: tcp_wire::flags::ACK,
        window: 1024,
        urgent: 0,
        options: tcp_wire::Options { timestamps, ..tcp_wire::Options::default() },
    }
}

fn ip_header(protocol: u8, payload_len: usize) -> ipv4::Repr {
    ipv4::Repr {
        src: *FLOW.target.ip(),
        dst: *FLOW.source.ip(),
        protocol,
        tos: 0,
        ttl: 64,
        id: 1,
        flags_offset: ipv4::DONT_FRAGMENT,
        payload_len: payload_len as u16,
    }
}

struct BuildUdp;

impl Stage for BuildUdp {
    fn run(&mut self) {
        let len = (udp::HEADER_BYTES + PAYLOAD_BYTES) as u16;
        for _ in 0..BATCH {
            let (mut link, mut ip, mut header) = ([0; 14], [0; 20], [0; 8]);
            let ip_repr = black_box(ip_header(ipv4::protocol::UDP, len.into()));
            let pseudo = checksum::pseudo_header(ip_repr.src, ip_repr.dst, ip_repr.protocol, len);
            udp::write(&mut header, 7, 9000, len, pseudo);
            ip_repr.write(&mut ip);
            ethernet::write(&mut link, FLOW.source_mac, FLOW.target_mac, ethernet::ethertype::IPV4);
            black_box((link, ip, header));
        }
    }
}

struct BuildTcp;

impl Stage for BuildTcp {
    fn run(&mut self) {
        for _ in 0..BATCH {
            let (mut link, mut ip, mut header) = ([0; 14], [0; 20], [0; tcp_wire::HEADER_BYTES_MAX]);
            let repr = black_box(tcp_header());
            let len = repr.header_len() + SEGMENT_BYTES;
            let ip_repr = black_box(ip_header(ipv4::protocol::TCP, len));
            let pseudo = checksum::pseudo_header(ip_repr.src, ip_repr.dst, ip_repr.protocol, len as u16);
            repr.write(&mut header, pseudo);
            ip_repr.write(&mut ip);
            ethernet::write(&mut link, FLOW.source_mac, FLOW.target_mac, ethernet::ethertype::IPV4);
            black_box((link, ip, header));
        }
    }
}

fn pool() -> Result<Pool> {
    let region = Region::map(4096, 2048, HugePages::Prefer)?;
    Ok(Pool::new(region, PoolConfig { rx_reserve_frames: 1024, run_frames: 0 }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Completions become free frames.
    Reap,
    /// Free frames become entries of the fill ring.
    Refill,
    /// Entries of the RX ring become buffers.
    Receive,
    /// Sealed buffers become entries of the TX ring.
    Post,
}

/// A step of the port's.
struct OnPort {
    step: Step,
    pool: Pool,
    port: MemPort,
    nic: Rc<RefCell<Nic>>,
    queue: TxQueue,
    received: Vec<RxBuf>,
    frame: Vec<u8>,
}

impl OnPort {
    fn new(step: Step) -> Result<Self> {
        let pool = pool()?;
        let (mut port, nic) = mem::port(&pool, MemConfig::new("mem", FLOW.target_mac));
        port.refill();
        let (queue, received) = (TxQueue::with_limit(BATCH), Vec::with_capacity(BATCH));
        Ok(Self { step, pool, port, nic, queue, received, frame: FLOW.frame(PAYLOAD_BYTES) })
    }

    fn inject(&self) -> Result<()> {
        let mut nic = self.nic.borrow_mut();
        ensure!((0..BATCH).all(|_| nic.inject(&self.frame)), "no room for a batch");
        Ok(())
    }

    fn fill_queue(&mut self) -> Result<()> {
        for _ in 0..BATCH {
            let mut buf = self.pool.alloc_tx().context("no frame left")?;
            buf.put_slice(&self.frame)?;
            let sealed = buf.seal().map_err(|_| anyhow!("an empty frame"))?;
            self.queue.push(sealed).map_err(|_| anyhow!("a full queue"))?;
        }
        Ok(())
    }
}

impl Stage for OnPort {
    fn prepare(&mut self) -> Result<()> {
        self.received.clear();
        self.nic.borrow_mut().swallow();
        if self.step != Step::Reap {
            self.port.reap();
        }
        if self.step != Step::Refill {
            self.port.refill();
        }
        match self.step {
            Step::Reap => {
                self.fill_queue()?;
                ensure!(self.port.transmit(NOW, &mut self.queue) == BATCH, "the TX ring is full");
                self.nic.borrow_mut().swallow();
            }
            Step::Refill => {
                self.inject()?;
                ensure!(self.port.receive(NOW, &mut self.received, BATCH) == BATCH, "a batch is not all there");
                self.received.clear();
            }
            Step::Receive => self.inject()?,
            Step::Post => self.fill_queue()?,
        }
        Ok(())
    }

    fn run(&mut self) {
        let done = match self.step {
            Step::Reap => self.port.reap(),
            Step::Refill => self.port.refill(),
            Step::Receive => self.port.receive(NOW, &mut self.received, BATCH),
            Step::Post => self.port.transmit(NOW, &mut self.queue),
        };
        black_box(done);
    }
}

/// Datagrams from the port's hands to a socket's queue: parsing, checksums, and finding the socket among others.
struct Ingress {
    pool: Pool,
    stack: Stack,
    iface: IfaceId,
    socket: UdpHandle,
    frame: Vec<u8>,
    batch: Vec<RxBuf>,
    now: Instant,
}

impl Ingress {
    fn new(sockets: u16) -> Result<Self> {
        let pool = pool()?;
        let mut stack = Stack::new(pool.clone(), StackConfig::new([7; 32]), NOW);
        let network = format!("{}/24", FLOW.target.ip()).parse().map_err(anyhow::Error::msg)?;
        let iface = stack.add_interface(IfaceConfig::new("mem", FLOW.target_mac, vec![network]))?;
        let socket = stack.udp_bind(FLOW.target)?;
        for number in 1..sockets {
            stack.udp_bind(std::net::SocketAddrV4::new(*FLOW.target.ip(), 1024 + number))?;
        }
        let batch = Vec::with_capacity(BATCH);
        Ok(Self { pool, stack, iface, socket, frame: FLOW.frame(PAYLOAD_BYTES), batch, now: NOW })
    }
}

impl Stage for Ingress {
    fn prepare(&mut self) -> Result<()> {
        while self.stack.udp_recv(self.socket).is_some() {}
        while self.stack.next_event().is_some() {}
        for _ in 0..BATCH {
            self.batch.push(self.pool.rx_from_bytes(&self.frame).context("no frame left")?);
        }
        self.now = self.now + Duration::from_micros(10);
        Ok(())
    }

    fn run(&mut self) {
        self.stack.ingress(self.now, self.iface, &mut self.batch);
    }
}

/// Options of `stage`.
#[derive(Args, Debug)]
pub(crate) struct StageArgs {
    /// Which one
    #[arg(long)]
    name: String,
    /// Packets
    #[arg(long, default_value_t = 1_000_000)]
    packets: usize,
    /// Core to run on
    #[arg(long)]
    core: Option<usize>,
}

/// Measures and prints.
pub(crate) fn run(args: &StageArgs) -> Result<()> {
    affinity::pin(args.core)?;
    let StageArgs { name, packets, .. } = args;
    let mut next: Box<dyn FnMut() -> Result<(time::Duration, usize)>> =
        if let Some((_, make)) = ALL.iter().find(|(known, _)| known == name) {
            let mut stage = make()?;
            Box::new(move || Ok((batch(stage.as_mut())?, BATCH)))
        } else if let Some((_, work)) = TCP.iter().find(|(known, _)| known == name) {
            let mut connection = tcp::OnConnection::new(*work)?;
            Box::new(move || connection.batch())
        } else {
            let names = ALL.iter().map(|(name, _)| *name).chain(TCP.iter().map(|(name, _)| *name));
            bail!("--name {name}: there are {}", names.collect::<Vec<_>>().join(" "));
        };
    let (mut times_ns, mut counted) = (Vec::new(), 0);
    while counted < *packets || times_ns.is_empty() {
        let (took, count) = next()?;
        ensure!(count > 0, "{name}: an empty batch after {counted} packets");
        times_ns.push(took.as_nanos() as f64 / count as f64);
        counted += count;
    }
    times_ns.sort_by(f64::total_cmp);
    println!("{name}: {:.1} ns each ({counted} packets)", times_ns[times_ns.len() / 2]);
    Ok(())
}

/// The stages of TCP: a connection against the scripted peer.
pub(crate) const TCP: &[(&str, tcp::Work)] =
    &[("tcp-receive", tcp::Work::Receive), ("tcp-send", tcp::Work::Send), ("tcp-ack", tcp::Work::Ack)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_does_batch_after_batch() {
        for (name, make) in ALL {
            let mut stage = make().unwrap_or_else(|why| panic!("{name}: {why:#}"));
            for number in 0..200 {
                batch(stage.as_mut()).unwrap_or_else(|why| panic!("{name}, batch {number}: {why:#}"));
            }
        }
    }

    #[test]
    fn every_stage_can_be_asked_for_by_name() {
        let names = ALL.iter().map(|(name, _)| *name).chain(TCP.iter().map(|(name, _)| *name));
        for name in names {
            run(&StageArgs { name: name.into(), packets: 500, core: None })
                .unwrap_or_else(|why| panic!("{name}: {why:#}"));
        }
        let error = run(&StageArgs { name: "nothing".into(), packets: 1, core: None }).unwrap_err();
        assert!(error.to_string().contains("tcp-ack"), "{error}");
    }

    #[test]
    fn what_comes_in_reaches_the_socket() {
        let mut ingress = Ingress::new(100).unwrap();
        batch(&mut ingress).unwrap();
        let received = std::iter::from_fn(|| ingress.stack.udp_recv(ingress.socket)).count();
        assert_eq!(received, BATCH);
    }
}
