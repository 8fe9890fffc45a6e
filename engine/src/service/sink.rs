//! `udp-sink`: counts datagrams and drops them.

use super::{Counts, Service};
use crate::socket::{App, AppError, Datagram, Event, FAIR_BATCH, Net, UdpSocket};
use ahash::RandomState;
use hashbrown::HashMap;
use std::{net::SocketAddrV4, sync::Arc};

/// Senders whose sequence is watched. More are only counted: senders choose their addresses, so their number is not ours to trust.
const SENDERS_MAX: usize = 1024;

/// Counts what comes, and drops it.
#[derive(Debug)]
pub struct UdpSink {
    listen: SocketAddrV4,
    check_sequence: bool,
    socket: Option<UdpSocket>,
    /// The number that each sender's next packet should have.
    expected: HashMap<SocketAddrV4, u64, RandomState>,
    counts: Arc<Counts>,
}

impl UdpSink {
    /// A sink that will listen on `listen`. With `check_sequence` the first 8 bytes of a payload are a big-endian number that goes up by one from
    /// packet to packet of one sender, as a [`UdpSource`](super::UdpSource) writes it.
    pub fn new(listen: SocketAddrV4, check_sequence: bool, counts: Arc<Counts>) -> Self {
        let expected = HashMap::with_hasher(RandomState::with_seeds(0, 0, 0, 0));
        Self { listen, check_sequence, socket: None, expected, counts }
    }

    pub(super) fn check(&mut self, datagram: &Datagram) {
        let counts = &*self.counts;
        let mut number = [0; 8];
        if datagram.buf.copy_to(0, &mut number) < number.len() {
            counts.sequence_absent.add(1);
            return;
        }
        let number = u64::from_be_bytes(number);
        let next = number.wrapping_add(1);
        if let Some(expected) = self.expected.get_mut(&datagram.from) {
            if number >= *expected {
                counts.sequence_missing.add(number - *expected);
                *expected = next;
            } else if number == 0 {
                counts.sequence_restarts.add(1);
                *expected = next;
            } else {
                counts.sequence_late.add(1);
            }
        } else if self.expected.len() < SENDERS_MAX {
            // Whoever was sending before we listened has missed nothing here.
            self.expected.insert(datagram.from, next);
        } else {
            counts.sequence_unwatched.add(1);
        }
    }
}

impl Service for UdpSink {
    fn socket(&self) -> Option<UdpSocket> {
        self.socket
    }
}

impl App for UdpSink {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        // Peers choose the keys: what they hash to must not be known to them.
        let seeds = [net.random(), net.random(), net.random(), net.random()];
        self.expected = HashMap::with_hasher(RandomState::with_seeds(seeds[0], seeds[1], seeds[2], seeds[3]));
        self.socket = Some(super::bind(net, "udp-sink", self.listen)?);
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        let Event::Readable(socket) = event else { return };
        let (mut received, mut bytes) = (0, 0);
        for _ in 0..FAIR_BATCH {
            let Some(datagram) = socket.recv(net) else { break };
            received += 1;
            bytes += datagram.buf.total_len() as u64;
            if self.check_sequence {
                self.check(&datagram);
            }
        }
        self.counts.received.add(received);
        self.counts.received_payload_bytes.add(bytes);
    }
}
