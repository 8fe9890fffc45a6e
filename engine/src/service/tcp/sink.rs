//! `tcp-sink`: counts the bytes of connections and drops them.

use super::{Base, Next, pattern};
use crate::{
    service::{Counts, Service},
    socket::{App, AppError, Event, FAIR_BATCH, Net, TcpEvent, TcpOptions, Work},
};
use std::{net::SocketAddrV4, sync::Arc};

/// Takes what comes, and closes when the peer has finished.
#[derive(Debug)]
pub struct TcpSink {
    listen: SocketAddrV4,
    backlog: usize,
    verify: bool,
    base: Base<Sinking>,
}

#[derive(Debug, Default)]
struct Sinking {
    position: u64,
}

impl TcpSink {
    /// A sink that will listen on `listen`. With `verify` the bytes must be those that a [`TcpSource`](super::TcpSource) counts with.
    pub fn new(
        index: u32,
        listen: SocketAddrV4,
        backlog: usize,
        connections_max: usize,
        options: TcpOptions,
        verify: bool,
        counts: Arc<Counts>,
    ) -> Self {
        Self { listen, backlog, verify, base: Base::new(index, options, connections_max, counts) }
    }

    fn serve(&mut self, net: &mut Net<'_>, slot: u32, told_again: bool) {
        let next = self.take(net, slot);
        self.base.follow(net, slot, next, told_again);
    }

    fn take(&mut self, net: &mut Net<'_>, slot: u32) -> Next {
        let Some(conn) = self.base.conns.get_mut(slot) else { return Next::Event };
        let (stream, counts) = (conn.stream, &*self.base.counts);
        let (mut received, mut bytes, mut wrong) = (0, 0, 0);
        let mut next = Next::Turn;
        for _ in 0..FAIR_BATCH {
            match stream.recv(net) {
                Ok(buf) => {
                    received += 1;
                    for piece in buf.pieces() {
                        if self.verify {
                            wrong += pattern::count_wrong(conn.state.position, piece);
                        }
                        conn.state.position += piece.len() as u64;
                        bytes += piece.len() as u64;
                    }
                }
                Err(error) => {
                    next = error.into();
                    break;
                }
            }
        }
        counts.received.add(received);
        counts.received_payload_bytes.add(bytes);
        counts.mismatched_bytes.add(wrong);
        next
    }
}

impl Service for TcpSink {}

impl App for TcpSink {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        self.base.listen(net, "tcp-sink", self.listen, self.backlog)
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        match event {
            Event::Acceptable(_) => {
                for slot in self.base.accept(net, Sinking::default) {
                    self.serve(net, slot, false);
                }
            }
            Event::Tcp(stream, event) => {
                let Some(slot) = self.base.slot(net, stream) else { return };
                match event {
                    TcpEvent::Readable | TcpEvent::PeerFinished => self.serve(net, slot, true),
                    TcpEvent::Closed(reason) => drop(self.base.ended(net, slot, reason)),
                    TcpEvent::Connected | TcpEvent::Writable | TcpEvent::Urgent | TcpEvent::Sent => {}
                }
            }
            Event::Readable(_) | Event::Writable(_) | Event::Error(_) | Event::Timer(_) | Event::Raw(..) => {}
        }
    }

    #[inline]
    fn poll(&mut self, net: &mut Net<'_>) -> Work {
        let waiting = self.base.conns.queue_len();
        for _ in 0..waiting.min(FAIR_BATCH) {
            let Some(slot) = self.base.conns.dequeue() else { break };
            self.serve(net, slot, false);
        }
        if waiting > 0 { Work::Some } else { Work::None }
    }

    fn stop(&mut self, net: &mut Net<'_>) {
        self.base.stop(net);
    }
}
