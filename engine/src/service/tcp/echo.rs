//! `tcp-echo`: every byte goes back in the frame that it came in.

use super::{Base, Frames, Next};
use crate::{
    buf::TxBuf,
    service::{Counts, Service},
    socket::{App, AppError, Event, FAIR_BATCH, Net, TcpEvent, TcpOptions, TcpSendError, Work},
};
use std::{net::SocketAddrV4, sync::Arc};

/// Frames that one peer may keep in our send queue, whatever they hold: a segment of one byte takes a frame as a full one does.
const FRAMES_MAX: u64 = 1024;
/// The same while frames are scarce, which received data alone can make them. Two full segments are acknowledged at once (RFC 5681 section 4.2); the
/// acknowledgment of one may wait, and with all connections at one for each such wait the queues would take minutes to drain.
const SCARCE_FRAMES_MAX: u64 = 2;
/// Frames after which [`Density`] forgets half of what it has seen.
const DENSITY_FRAMES: u64 = 256;

/// Sends the bytes of each connection back.
#[derive(Debug)]
pub struct TcpEcho {
    listen: SocketAddrV4,
    backlog: usize,
    base: Base<Echoing>,
}

#[derive(Debug, Default)]
struct Echoing {
    /// Received and refused by the send queue: nothing more is read until it is gone, so the window tells the peer to wait.
    waiting: Option<TxBuf>,
    density: Density,
}

/// Bytes per frame of late, to judge how many frames are behind so many bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Density {
    frames: u64,
    bytes: u64,
}

impl Density {
    fn add(&mut self, bytes: u64) {
        if self.frames >= DENSITY_FRAMES {
            (self.frames, self.bytes) = (self.frames / 2, self.bytes / 2);
        }
        self.frames += 1;
        self.bytes += bytes;
    }

    fn frames_of(self, bytes: u64) -> u64 {
        (bytes * self.frames).checked_div(self.bytes).unwrap_or(0)
    }
}

impl TcpEcho {
    /// An echo service that will listen on `listen`. `index` is its number among the worker's [`Services`](super::super::Services).
    pub fn new(
        index: u32,
        listen: SocketAddrV4,
        backlog: usize,
        connections_max: usize,
        options: TcpOptions,
        counts: Arc<Counts>,
    ) -> Self {
        Self { listen, backlog, base: Base::new(index, options, connections_max, counts) }
    }

    /// Gives a connection its share.
    fn serve(&mut self, net: &mut Net<'_>, slot: u32, told_again: bool) {
        let next = self.echo(net, slot);
        self.base.follow(net, slot, next, told_again);
    }

    fn echo(&mut self, net: &mut Net<'_>, slot: u32) -> Next {
        let Base { conns, gauge, counts, .. } = &mut self.base;
        let Some(conn) = conns.get_mut(slot) else { return Next::Event };
        let (stream, echoing) = (conn.stream, &mut conn.state);
        let (mut received, mut received_bytes, mut sent, mut sent_bytes) = (0, 0, 0, 0);
        let mut next = Next::Turn;
        for _ in 0..FAIR_BATCH {
            let buf = match echoing.waiting.take() {
                Some(buf) => buf,
                None => {
                    let held = echoing.density.frames_of(stream.unacked_bytes(net) as u64);
                    let held_max = match gauge.frames(net) {
                        Frames::Plenty => FRAMES_MAX,
                        Frames::Scarce => SCARCE_FRAMES_MAX,
                        Frames::None => 0,
                    };
                    if held >= held_max {
                        next = Next::Frames;
                        break;
                    }
                    match stream.recv(net) {
                        Ok(buf) => {
                            received += 1;
                            received_bytes += buf.total_len() as u64;
                            buf.into_tx()
                        }
                        Err(error) => {
                            next = error.into();
                            break;
                        }
                    }
                }
            };
            let bytes = buf.total_len() as u64;
            match stream.send(net, buf) {
                Ok(()) => {
                    echoing.density.add(bytes);
                    sent += 1;
                    sent_bytes += bytes;
                }
                Err(TcpSendError::WouldBlock(buf)) => {
                    echoing.waiting = Some(buf);
                    counts.would_block.add(1);
                    next = Next::Event;
                    break;
                }
                Err(_) => {
                    counts.send_errors.add(1);
                    next = Next::Failed;
                    break;
                }
            }
        }
        counts.received.add(received);
        counts.received_payload_bytes.add(received_bytes);
        counts.sent.add(sent);
        counts.sent_payload_bytes.add(sent_bytes);
        next
    }
}

impl Service for TcpEcho {}

impl App for TcpEcho {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        self.base.listen(net, "tcp-echo", self.listen, self.backlog)
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        match event {
            Event::Acceptable(_) => {
                for slot in self.base.accept(net, Echoing::default) {
                    // What came before it was accepted was told to nobody.
                    self.serve(net, slot, false);
                }
            }
            Event::Tcp(stream, event) => {
                let Some(slot) = self.base.slot(net, stream) else { return };
                match event {
                    TcpEvent::Readable | TcpEvent::Writable | TcpEvent::PeerFinished => self.serve(net, slot, true),
                    TcpEvent::Closed(reason) => drop(self.base.ended(net, slot, reason)),
                    TcpEvent::Connected | TcpEvent::Urgent | TcpEvent::Sent => {}
                }
            }
            Event::Timer(_) => self.base.disarm(),
            Event::Readable(_) | Event::Writable(_) | Event::Error(_) | Event::Raw(..) => {}
        }
    }

    #[inline]
    fn poll(&mut self, net: &mut Net<'_>) -> Work {
        for _ in 0..self.base.due(net) {
            let Some(slot) = self.base.conns.dequeue() else { break };
            self.serve(net, slot, false);
        }
        Work::None
    }

    fn stop(&mut self, net: &mut Net<'_>) {
        self.base.stop(net);
    }
}
