//! `udp-echo`: every datagram goes back in the frame that it came in.

use super::{Counts, Service};
use crate::socket::{App, AppError, Event, FAIR_BATCH, Net, SendError, UdpSocket};
use std::{net::SocketAddrV4, sync::Arc};

/// Answers every datagram with itself.
#[derive(Debug)]
pub struct UdpEcho {
    listen: SocketAddrV4,
    socket: Option<UdpSocket>,
    counts: Arc<Counts>,
}

impl UdpEcho {
    /// An echo service that will listen on `listen`.
    pub fn new(listen: SocketAddrV4, counts: Arc<Counts>) -> Self {
        Self { listen, socket: None, counts }
    }
}

impl Service for UdpEcho {
    fn socket(&self) -> Option<UdpSocket> {
        self.socket
    }
}

impl App for UdpEcho {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        self.socket = Some(super::bind(net, "udp-echo", self.listen)?);
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        let Event::Readable(socket) = event else { return };
        let (mut received, mut received_bytes, mut sent, mut sent_bytes) = (0, 0, 0, 0);
        for _ in 0..FAIR_BATCH {
            let Some(datagram) = socket.recv(net) else { break };
            let bytes = datagram.buf.total_len() as u64;
            received += 1;
            received_bytes += bytes;
            match socket.reply(net, datagram) {
                Ok(()) => {
                    sent += 1;
                    sent_bytes += bytes;
                }
                // UDP may lose: holding the answer would only let the next ones pile up behind it.
                Err(SendError::WouldBlock(_)) => self.counts.dropped_no_room.add(1),
                Err(_) => self.counts.send_errors.add(1),
            }
        }
        self.counts.received.add(received);
        self.counts.received_payload_bytes.add(received_bytes);
        self.counts.sent.add(sent);
        self.counts.sent_payload_bytes.add(sent_bytes);
    }
}
