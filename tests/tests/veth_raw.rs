//! Raw sockets, with the Linux stack at the other end.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use framewire::{
    buf::TxBuf,
    runtime::{Engine, EngineConfig, WorkerProgram},
    socket::{App, AppError, Event, Net, RawEvent, RawSocket, SendError},
    wire::{checksum, ipv4},
};
use framewire_tests::rig::{ENGINE_INTERFACE, ENGINE_V4, PEER_V4, PREFIX_V4, Topology, pattern, require_root};

const TIMEOUT: Duration = Duration::from_secs(5);
const ICMP: u8 = 1;
/// For experiments (RFC 3692): no stack has it.
const UNKNOWN: u8 = 253;
/// Payloads of pings: in one packet, and in two fragments out of one frame.
const SIZES: [usize; 6] = [0, 1, 56, 1472, 1473, 1700];

/// Pings the peer with every size, then sends it a protocol that it does not have.
#[derive(Debug)]
struct Ping {
    tell: mpsc::Sender<String>,
    sockets: Option<(RawSocket, RawSocket)>,
    /// Whether every other request brings its own IPv4 header.
    own_header: bool,
    at: usize,
}

fn echo_request(sequence: usize, own_header: bool, net: &Net<'_>) -> TxBuf {
    let mut message = vec![8, 0, 0, 0, 0x46, 0x57, 0, sequence as u8];
    message.extend(pattern(SIZES[sequence], sequence as u64));
    let sum = !checksum::sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut header = [0; ipv4::HEADER_BYTES];
    header[0] = 0x45;
    (header[8], header[9]) = (7, ICMP);
    header[16..20].copy_from_slice(&PEER_V4.octets());
    let header: &[u8] = if own_header { &header } else { &[] };
    let mut buf = net
        .alloc_contiguous(header.len() + message.len())
        .unwrap_or_else(|| panic!("no frame for {} bytes", message.len()));
    buf.put_slice(header).and_then(|()| buf.put_slice(&message)).expect("room");
    buf
}

impl Ping {
    fn ask(&mut self, net: &mut Net<'_>) {
        let Some((pings, unknown)) = self.sockets else { return };
        if self.at == SIZES.len() {
            let mut buf = net.alloc().expect("a frame");
            buf.put_slice(b"anybody?").expect("room");
            unknown.send(net, buf).expect("sent");
            return;
        }
        // What does not fit a packet cannot bring its header.
        let own_header = self.own_header && SIZES[self.at] <= 1472;
        pings.include_header(net, own_header);
        let request = echo_request(self.at, own_header, net);
        pings.send_to(net, request, PEER_V4).expect("sent");
    }

    fn receive(&mut self, net: &mut Net<'_>, socket: RawSocket) {
        while let Some(datagram) = socket.recv(net) {
            let packet = datagram.buf.pieces().collect::<Vec<_>>().concat();
            let header = ipv4::Header::parse(&packet, packet.len()).expect("an IPv4 header");
            assert_eq!((header.src, header.dst, header.total_len), (PEER_V4, ENGINE_V4, packet.len()));
            let message = &packet[header.header_len..];
            // Kinds other than the echo reply: the protocol unreachable of the end.
            if message[0] != 0 {
                continue;
            }
            assert_eq!(checksum::sum(message), 0xffff, "the ICMP checksum");
            assert_eq!(message[7], self.at as u8, "the sequence number");
            assert!(message[8..] == pattern(SIZES[self.at], self.at as u64), "other bytes came back");
            self.tell.send(format!("{} bytes", SIZES[self.at])).expect("the test listens");
            self.at += 1;
            self.ask(net);
        }
    }
}

impl App for Ping {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        let (pings, unknown) = (net.raw_open(ICMP)?, net.raw_open(UNKNOWN)?);
        unknown.connect(net, Some(PEER_V4))?;
        self.sockets = Some((pings, unknown));
        self.ask(net);
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        match event {
            Event::Raw(socket, RawEvent::Readable) => self.receive(net, socket),
            Event::Raw(socket, RawEvent::Error) => {
                let told = match socket.send(net, net.alloc().expect("a frame")) {
                    Err(SendError::ConnectionRefused) => "refused".to_owned(),
                    other => format!("{other:?}"),
                };
                self.tell.send(told).expect("the test listens");
            }
            _ => {}
        }
    }
}

fn ping(own_header: bool) {
    if !require_root() {
        return;
    }
    let topology = Topology::builder().build().expect("topology");
    let mut config = EngineConfig::new(ENGINE_INTERFACE);
    config.addresses = vec![format!("{ENGINE_V4}/{PREFIX_V4}").parse().expect("address")];
    let (tell, told) = mpsc::channel();
    let report = topology.engine.enter(move || {
        let start =
            move |_worker| WorkerProgram::App(Box::new(Ping { tell: tell.clone(), sockets: None, own_header, at: 0 }));
        let engine = Engine::start(config, start).expect("engine");
        let until = Instant::now() + TIMEOUT;
        let next = || told.recv_timeout(until.saturating_duration_since(Instant::now())).expect("an answer");
        for size in SIZES {
            assert_eq!(next(), format!("{size} bytes"));
        }
        assert_eq!(next(), "refused", "the kernel has no such protocol");
        engine.stop(Duration::from_secs(1))
    });
    for worker in report.workers {
        let worker = worker.expect("the worker did not panic");
        assert!(worker.error.is_none(), "{:?}", worker.error);
        assert!(worker.snapshot.ledger.is_whole(), "{}", worker.snapshot.ledger);
        let counters = &worker.snapshot.counters;
        assert_eq!((counters.bytes_copied_tx, counters.bytes_copied_rx), (0, 0));
        assert_eq!((counters.drop_raw_queue_full, counters.drop_raw_no_memory), (0, 0));
    }
}

#[test]
fn the_kernel_answers_our_pings_of_every_size_uncopied() {
    ping(false);
}

#[test]
fn the_kernel_answers_our_pings_with_headers_of_their_own() {
    ping(true);
}
