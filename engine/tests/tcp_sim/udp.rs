//! The simulator itself, seen with datagrams: what it says that it does is what happens.

use crate::{
    link::{Faults, LinkConfig},
    network::{HostConfig, Network},
};
use framewire::{
    socket::{App, AppError, Event, Net, UdpSocket, Work},
    time::{Duration, Instant},
};
use std::{cell::RefCell, net::SocketAddrV4, rc::Rc};

/// Sends numbered datagrams, `payload_bytes` each, one every `pause`.
#[derive(Debug)]
struct Numbers {
    socket: Option<UdpSocket>,
    left: u32,
    next: u32,
    payload_bytes: usize,
    pause: Duration,
}

impl App for Numbers {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        self.socket = Some(net.udp_bind("0.0.0.0:0".parse()?)?);
        net.set_timer(Duration::ZERO, 0);
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        if event != Event::Timer(0) || self.next == self.left {
            return;
        }
        let mut buf = net.alloc_contiguous(self.payload_bytes).unwrap();
        buf.set_len(self.payload_bytes).unwrap();
        buf.as_mut_slice().fill(self.next as u8);
        buf.as_mut_slice()[..4].copy_from_slice(&self.next.to_be_bytes());
        let to: SocketAddrV4 = "10.0.0.2:9".parse().unwrap();
        self.socket.unwrap().send_to(net, buf, to).unwrap();
        self.next += 1;
        net.set_timer(self.pause, 0);
    }
}

type Log = Rc<RefCell<Vec<(Instant, u32)>>>;

#[derive(Debug)]
struct Listener {
    log: Log,
    payload_bytes: usize,
}

impl App for Listener {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        net.udp_bind("0.0.0.0:9".parse()?)?;
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        let Event::Readable(socket) = event else { return };
        while let Some(datagram) = socket.recv(net) {
            let bytes = datagram.buf.pieces().collect::<Vec<_>>().concat();
            assert_eq!(bytes.len(), self.payload_bytes);
            let number = u32::from_be_bytes(*bytes.first_chunk().unwrap());
            assert!(bytes[4..].iter().all(|&byte| byte == number as u8), "corruption that the checksum did not show");
            self.log.borrow_mut().push((net.now(), number));
        }
    }

    fn poll(&mut self, _: &mut Net<'_>) -> Work {
        Work::None
    }
}

fn run(
    seed: u64,
    count: u32,
    payload_bytes: usize,
    pause: Duration,
    to_b: LinkConfig,
) -> (Vec<(Instant, u32)>, Network) {
    let log = Log::default();
    let numbers = Numbers { socket: None, left: count, next: 0, payload_bytes, pause };
    let listener = Listener { log: log.clone(), payload_bytes };
    let host = HostConfig { nic_jitter: Duration::from_micros(20), ..HostConfig::default() };
    let mut network = Network::pair(
        seed,
        (host.clone(), Box::new(numbers)),
        (host, Box::new(listener)),
        to_b,
        LinkConfig::new(0, Duration::ZERO),
    );
    let end = pause.max(Duration::from_micros(200)) * count + Duration::from_secs(10);
    network.run_for(end);
    let log = log.borrow().clone();
    (log, network)
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn rate_and_delay() {
    // 1,000 bytes with headers at 1 Mbit/s are 8 ms each; ten come at once.
    let link = LinkConfig::new(1_000_000, MS * 20);
    let (log, network) = run(1, 10, 958, Duration::from_nanos(1), link);
    assert_eq!(log.len(), 10);
    for pair in log.windows(2) {
        assert_eq!((pair[1].0.saturating_since(pair[0].0), pair[1].1), (MS * 8, pair[0].1 + 1));
    }
    let first = log[0].0.saturating_since(Instant::ZERO);
    assert!((MS * 28..MS * 30).contains(&first), "{first:?}: sending, way and the announcement in front");
    network.finish();
}

#[test]
fn a_full_queue_drops() {
    let link = LinkConfig::new(1_000_000, MS).with_queue(5_000);
    let (log, network) = run(1, 30, 958, Duration::from_nanos(1), link);
    let counts = network.counts(0);
    assert!(counts.backlog_bytes_max <= 5_000 && counts.overflowed > 15, "{counts:?}");
    assert_eq!(log.len() as u64 + counts.overflowed, 30);
    network.finish();
}

#[test]
fn faults_happen_as_often_as_asked() {
    let faults =
        Faults { loss: 0.1, duplicate: 0.05, corrupt: 0.05, reorder: 0.2, reorder_by: MS, ..Faults::default() };
    let link = LinkConfig::new(0, MS).with_faults(faults);
    let (log, network) = run(3, 4_000, 2_000, MS / 10, link.clone());
    let counts = network.counts(0);
    // Two fragments each.
    let near = |n: u64, want: u64| n.abs_diff(want) < want / 4;
    assert!(near(counts.lost, 800) && near(counts.duplicated, 360), "{counts:?}");
    assert!(near(counts.corrupted, 360) && near(counts.reordered, 1_440), "{counts:?}");
    assert!(log.windows(2).any(|pair| pair[1].1 < pair[0].1), "some overtake others");
    assert_eq!(run(3, 4_000, 2_000, MS / 10, link.clone()).0, log, "the same seed, the same run");
    assert_ne!(run(4, 4_000, 2_000, MS / 10, link).0, log, "another seed, another run");
    let counters = network.finish();
    assert_eq!(counters[0].bytes_copied_tx, 0);
}

#[test]
fn packets_in_several_pieces() {
    // A run of frames goes out as header frames and pieces, and arrives in chains.
    let log = Log::default();
    let numbers = Numbers { socket: None, left: 50, next: 0, payload_bytes: 8_000, pause: MS };
    let listener = Listener { log: log.clone(), payload_bytes: 8_000 };
    let host = HostConfig { mtu: 9_000, ..HostConfig::default() };
    let link = LinkConfig::new(0, MS);
    let mut network =
        Network::pair(1, (host.clone(), Box::new(numbers)), (host, Box::new(listener)), link.clone(), link);
    network.run_until(MS * 200, |_| log.borrow().len() == 50);
    assert_eq!(network.counts(0).frames, 51, "one announcement so far, and nothing fragmented");
    let counters = network.finish();
    assert_eq!((counters[0].bytes_copied_tx, counters[1].bytes_copied_rx), (0, 0));
}
