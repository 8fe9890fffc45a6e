//! `tcp-source`: sends bytes, to a peer that it connects to or to whoever connects.

use super::{Base, FRAMES_POLL, Frames, pattern};
use crate::{
    buf::TxBuf,
    service::{Counts, Service},
    socket::{
        App, AppError, Event, FAIR_BATCH, Net, TcpEvent, TcpOptions, TcpRecvError, TcpSendError, TcpStream, Work,
    },
    time::{Duration, Instant},
};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

/// Buffers that one connection fills in one turn at most.
const BURST: usize = 64;
/// Connections opened in one turn at most.
const DIAL_BATCH: u64 = 64;
/// Before a connection that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How far a paced source may fall behind and still catch up. Too short: pauses of the worker cost rate; too long: bursts after them.
const CATCH_UP: Duration = Duration::from_millis(10);
const NANOS_PER_S: u64 = 1_000_000_000;

/// What a [`TcpSource`] sends, and to whom.
#[derive(Clone, Debug)]
pub struct TcpSourceConfig {
    /// Its number among the worker's [`Services`](super::super::Services).
    pub index: u32,
    /// Who its peers are.
    pub peers: Peers,
    /// Size of each buffer; `None`: a full segment.
    pub payload_bytes: Option<usize>,
    /// How many bytes on each connection, which is then closed; `None`: no end.
    pub bytes: Option<u64>,
    /// Bytes per second, over all connections; `None`: as many as go.
    pub rate_bytes_per_s: Option<u64>,
    /// Write the position in the stream; else zeros.
    pub counting: bool,
    /// What connections begin with.
    pub options: TcpOptions,
}

/// Who a source sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// It connects.
    Connect {
        /// Where to.
        destination: SocketAddrV4,
        /// Where from; `None`: unused ports.
        local: Option<SocketAddrV4>,
        /// How many connections.
        connections: u64,
    },
    /// Whoever connects.
    Listen {
        /// Where it listens.
        local: SocketAddrV4,
        /// Most connections that wait to be accepted.
        backlog: usize,
        /// Most connections.
        connections_max: usize,
    },
}

/// Sends bytes as fast as windows, frames and the rate allow. What peers send is counted and dropped.
#[derive(Debug)]
pub struct TcpSource {
    config: TcpSourceConfig,
    base: Base<Sending>,
    /// Connections that are still to be opened, from `dial_at` on.
    to_dial: u64,
    dial_at: Instant,
    /// Connections whose bytes are all acknowledged.
    done: u64,
    /// What pacing still allows, in bytes × 10⁹.
    credit: u64,
    credited_at: Instant,
}

#[derive(Debug, Default)]
struct Sending {
    /// Filled and refused; it goes first.
    waiting: Option<TxBuf>,
    /// Bytes taken by the stream.
    position: u64,
    /// All is sent, and the peer told so.
    finished: bool,
}

/// What a connection waits for after its share of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Event,
    Turn,
    Frames,
    Credit,
    Failed,
}

impl TcpSource {
    /// A source; it connects or listens when it is started.
    pub fn new(config: TcpSourceConfig, counts: Arc<Counts>) -> Self {
        let (to_dial, connections_max) = match config.peers {
            Peers::Connect { connections, .. } => (connections, usize::MAX),
            Peers::Listen { connections_max, .. } => (0, connections_max),
        };
        let base = Base::new(config.index, config.options.clone(), connections_max, counts);
        Self { config, base, to_dial, dial_at: Instant::ZERO, done: 0, credit: 0, credited_at: Instant::ZERO }
    }

    fn dial(&mut self, net: &mut Net<'_>) -> Work {
        let Peers::Connect { destination, local, .. } = self.config.peers else { return Work::None };
        if self.to_dial == 0 || net.now() < self.dial_at {
            return Work::None;
        }
        let local = local.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        for _ in 0..self.to_dial.min(DIAL_BATCH) {
            let Ok(stream) = net.tcp_connect_with(local, destination, self.base.options.clone()) else {
                self.base.counts.connect_errors.add(1);
                self.retry(net);
                break;
            };
            self.to_dial -= 1;
            self.base.adopt(net, stream, Sending::default());
        }
        Work::Some
    }

    fn retry(&mut self, net: &mut Net<'_>) {
        self.dial_at = net.now() + RETRY;
        self.base.arm(net, RETRY);
    }

    /// A connection is gone: another one takes its place, unless its bytes have all arrived.
    fn gone(&mut self, net: &mut Net<'_>, sending: Option<Sending>) {
        if sending.is_some() && matches!(self.config.peers, Peers::Connect { .. }) {
            self.to_dial += 1;
            self.retry(net);
        }
    }

    /// All bytes of a connection are acknowledged.
    fn complete(&mut self, net: &mut Net<'_>, slot: u32) {
        self.base.close(net, slot);
        self.done += 1;
        if let Peers::Connect { connections, .. } = self.config.peers
            && self.done == connections
        {
            self.base.counts.completed.add(1);
        }
    }

    fn serve(&mut self, net: &mut Net<'_>, slot: u32) -> Next {
        let next = self.send(net, slot);
        match next {
            Next::Event => {}
            Next::Turn | Next::Frames | Next::Credit => self.base.conns.enqueue(slot),
            Next::Failed => {
                let sending = self.base.abort(net, slot);
                self.gone(net, sending);
            }
        }
        next
    }

    fn send(&mut self, net: &mut Net<'_>, slot: u32) -> Next {
        let Base { conns, gauge, counts, .. } = &mut self.base;
        let Some(conn) = conns.get_mut(slot).filter(|conn| !conn.state.finished) else { return Next::Event };
        let (stream, sending) = (conn.stream, &mut conn.state);
        let payload_bytes = payload_bytes(&self.config, net, stream);
        for _ in 0..BURST {
            let left = self.config.bytes.map_or(u64::MAX, |bytes| bytes - sending.position.min(bytes));
            if left == 0 {
                sending.finished = true;
                stream.shutdown(net);
                return Next::Event;
            }
            let n = left.min(payload_bytes as u64) as usize;
            let cost = n as u64 * NANOS_PER_S;
            if self.config.rate_bytes_per_s.is_some() && self.credit < cost {
                return Next::Credit;
            }
            let buf = match sending.waiting.take() {
                Some(buf) => buf,
                None if !gauge.allows(net, stream) => return Next::Frames,
                None => match fill(net, n, sending.position, self.config.counting) {
                    Some(buf) => buf,
                    None => {
                        counts.no_frame.add(1);
                        return Next::Frames;
                    }
                },
            };
            let bytes = buf.total_len() as u64;
            match stream.send(net, buf) {
                Ok(()) => {
                    sending.position += bytes;
                    self.credit = self.credit.saturating_sub(cost);
                    counts.sent.add(1);
                    counts.sent_payload_bytes.add(bytes);
                }
                Err(TcpSendError::WouldBlock(buf)) => {
                    sending.waiting = Some(buf);
                    counts.would_block.add(1);
                    return Next::Event;
                }
                Err(_) => {
                    counts.send_errors.add(1);
                    return Next::Failed;
                }
            }
        }
        Next::Turn
    }

    /// Takes what a peer sends, so that its window stays open.
    fn drain(&mut self, net: &mut Net<'_>, slot: u32) {
        let Some(conn) = self.base.conns.get_mut(slot) else { return };
        for _ in 0..FAIR_BATCH {
            match conn.stream.recv(net) {
                Ok(buf) => {
                    self.base.counts.received.add(1);
                    self.base.counts.received_payload_bytes.add(buf.total_len() as u64);
                }
                Err(TcpRecvError::WouldBlock | TcpRecvError::Finished) => return,
                Err(_) => {
                    let sending = self.base.abort(net, slot);
                    return self.gone(net, sending);
                }
            }
        }
    }

    fn earn(&mut self, now: Instant, rate: u64) {
        let passed = now.saturating_since(self.credited_at).min(CATCH_UP).as_nanos() as u64;
        self.credited_at = now;
        // One buffer must fit, however low the rate.
        let buffer = self.config.payload_bytes.unwrap_or(usize::from(u16::MAX)) as u64;
        let most = rate.saturating_mul(CATCH_UP.as_nanos() as u64).max(buffer.saturating_mul(NANOS_PER_S));
        self.credit = self.credit.saturating_add(passed.saturating_mul(rate)).min(most);
    }
}

/// Size of the next buffer: what goes out as one descriptor, unless the configuration says.
fn payload_bytes(config: &TcpSourceConfig, net: &mut Net<'_>, stream: TcpStream) -> usize {
    let frame_bytes = net.stack().pool().frame_payload_bytes();
    config.payload_bytes.unwrap_or_else(|| stream.mss(net).unwrap_or(1).clamp(1, frame_bytes))
}

/// A filled buffer; `None` if no frame is free.
fn fill(net: &Net<'_>, bytes: usize, position: u64, counting: bool) -> Option<TxBuf> {
    let mut buf = net.alloc_contiguous(bytes)?;
    buf.set_len(bytes).ok()?;
    if counting {
        pattern::write(position, buf.as_mut_slice());
    } else {
        // A frame's old contents are somebody else's.
        buf.as_mut_slice().fill(0);
    }
    Some(buf)
}

impl Service for TcpSource {}

impl App for TcpSource {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        match self.config.peers {
            Peers::Listen { local, backlog, .. } => self.base.listen(net, "tcp-source", local, backlog),
            Peers::Connect { connections, .. } => {
                if connections == 0 {
                    self.base.counts.completed.add(1);
                }
                Ok(())
            }
        }
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        match event {
            Event::Acceptable(_) => {
                for slot in self.base.accept(net, Sending::default) {
                    self.base.conns.enqueue(slot);
                }
            }
            Event::Tcp(stream, event) => {
                let Some(slot) = self.base.slot(net, stream) else { return };
                match event {
                    TcpEvent::Connected => {
                        self.base.counts.connections_made.add(1);
                        self.base.conns.enqueue(slot);
                    }
                    TcpEvent::Writable => self.base.conns.enqueue(slot),
                    TcpEvent::Readable | TcpEvent::PeerFinished => self.drain(net, slot),
                    TcpEvent::Sent => {
                        let finished = self.base.conns.get_mut(slot).is_some_and(|conn| conn.state.finished);
                        if finished && stream.unacked_bytes(net) == 0 {
                            self.complete(net, slot);
                        }
                    }
                    TcpEvent::Urgent => {}
                    TcpEvent::Closed(reason) => {
                        let sending = self.base.ended(net, slot, reason);
                        self.gone(net, sending);
                    }
                }
            }
            Event::Timer(_) => self.base.disarm(),
            Event::Readable(_) | Event::Writable(_) | Event::Error(_) | Event::Raw(..) => {}
        }
    }

    #[inline]
    fn poll(&mut self, net: &mut Net<'_>) -> Work {
        let mut work = self.dial(net);
        let waiting = self.base.conns.queue_len();
        if waiting == 0 {
            return work;
        }
        if let Some(rate) = self.config.rate_bytes_per_s {
            self.earn(net.now(), rate);
        }
        if self.base.gauge.frames(net) == Frames::None {
            self.base.arm(net, FRAMES_POLL);
            return work;
        }
        for _ in 0..waiting.min(FAIR_BATCH) {
            let Some(slot) = self.base.conns.dequeue() else { break };
            match self.serve(net, slot) {
                Next::Event | Next::Failed | Next::Turn => work = Work::Some,
                // The worker may sleep: it must not sleep past the next buffer.
                Next::Credit | Next::Frames => self.base.arm(net, FRAMES_POLL),
            }
        }
        work
    }

    fn stop(&mut self, net: &mut Net<'_>) {
        self.to_dial = 0;
        self.base.stop(net);
    }
}
