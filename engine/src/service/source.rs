//! `udp-source`: sends datagrams at a rate.

use super::{Counts, Service};
use crate::{
    buf::TxBuf,
    socket::{App, AppError, Event, FAIR_BATCH, Net, SendError, UdpSocket, Work},
    time::{Duration, Instant},
};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

/// Datagrams sent in one turn at most: as many as are received in one.
const BURST: usize = 64;
/// How far a paced source may fall behind and still catch up. Too short: pauses of the worker cost rate; too long: bursts after them.
const CATCH_UP: Duration = Duration::from_millis(10);
/// How often a next hop that does not answer is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How often the neighbour cache is looked at while the next hop is being asked for.
const RESOLVE_POLL: Duration = Duration::from_millis(1);
const NANOS_PER_S: u64 = 1_000_000_000;

/// What a [`UdpSource`] sends.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Where to.
    pub destination: SocketAddrV4,
    /// Where from; `None`: an unused port.
    pub local: Option<SocketAddrV4>,
    /// Size of each payload, at least [`UdpSource::HEADER_BYTES`].
    pub payload_bytes: usize,
    /// Datagrams per second; `None`: as many as go.
    pub rate_pps: Option<u64>,
    /// How many; `None`: no end.
    pub count: Option<u64>,
    /// Token of its timers.
    pub timer_token: u64,
}

impl SourceConfig {
    /// Payloads of 64 bytes, as many as go, without an end.
    pub fn new(destination: SocketAddrV4) -> Self {
        Self { destination, local: None, payload_bytes: 64, rate_pps: None, count: None, timer_token: 0 }
    }
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing yet was sent: the first datagram makes the stack ask for the next hop.
    First,
    /// The next hop is being asked for; what is sent before it answers would push itself out of the short queue that waits for it.
    Resolving { since: Instant },
    /// Sending.
    Running,
    /// A send failed; tried again when the timer fires.
    Pausing,
    /// All is sent.
    Done,
}

/// Sends datagrams that begin with a sequence number and the time of sending, both 64-bit and big-endian, the time in nanoseconds of the engine's
/// clock. Answers are counted.
#[derive(Debug)]
pub struct UdpSource {
    config: SourceConfig,
    socket: Option<UdpSocket>,
    state: State,
    /// Sent so far, and the number of the next.
    sequence: u64,
    /// Filled and refused; it goes first.
    waiting: Option<TxBuf>,
    /// The stack has said that there is no room, and not yet that there is again.
    blocked: bool,
    /// What pacing still allows, in packets × 10⁹.
    credit: u64,
    credited_at: Instant,
    timer_armed: bool,
    counts: Arc<Counts>,
}

impl UdpSource {
    /// What it writes at the front of each payload.
    pub const HEADER_BYTES: usize = 16;

    /// A source; it sends as soon as it is started.
    pub fn new(mut config: SourceConfig, counts: Arc<Counts>) -> Self {
        config.payload_bytes = config.payload_bytes.max(Self::HEADER_BYTES);
        Self {
            config,
            socket: None,
            state: State::First,
            sequence: 0,
            waiting: None,
            blocked: false,
            credit: 0,
            credited_at: Instant::ZERO,
            timer_armed: false,
            counts,
        }
    }

    /// A filled buffer; `None` if no frame is free.
    fn fill(&self, net: &Net<'_>) -> Option<TxBuf> {
        let mut buf = net.alloc_contiguous(self.config.payload_bytes)?;
        buf.set_len(self.config.payload_bytes).ok()?;
        let (header, rest) = buf.as_mut_slice().split_first_chunk_mut::<{ Self::HEADER_BYTES }>()?;
        header[..8].copy_from_slice(&self.sequence.to_be_bytes());
        header[8..].copy_from_slice(&net.now().as_nanos().to_be_bytes());
        // A frame's old contents are somebody else's.
        rest.fill(0);
        Some(buf)
    }

    /// Sends one; false if no more goes for now.
    fn send_one(&mut self, net: &mut Net<'_>, socket: UdpSocket) -> bool {
        let Some(buf) = self.waiting.take().or_else(|| self.fill(net)) else {
            self.counts.no_frame.add(1);
            return false;
        };
        match socket.send_to(net, buf, self.config.destination) {
            Ok(()) => {
                self.sequence += 1;
                self.counts.sent.add(1);
                self.counts.sent_payload_bytes.add(self.config.payload_bytes as u64);
                true
            }
            Err(SendError::WouldBlock(buf)) => {
                self.waiting = Some(buf);
                self.blocked = true;
                self.counts.would_block.add(1);
                false
            }
            // A port that nobody listens at yet: the next one may arrive.
            Err(SendError::ConnectionRefused) => {
                self.counts.send_errors.add(1);
                true
            }
            Err(_) => {
                self.counts.send_errors.add(1);
                self.state = State::Pausing;
                self.arm(net, RETRY);
                false
            }
        }
    }

    /// How many may be sent now, by count and by rate.
    fn allowance(&mut self, now: Instant) -> usize {
        let left = self.config.count.map_or(u64::MAX, |count| count - self.sequence.min(count));
        let paced = match self.config.rate_pps {
            None => u64::MAX,
            Some(rate) => {
                let passed = now.saturating_since(self.credited_at).min(CATCH_UP).as_nanos() as u64;
                self.credited_at = now;
                // A turn's worth may always come together, however low the rate.
                let most = (rate.saturating_mul(CATCH_UP.as_nanos() as u64)).max(NANOS_PER_S);
                self.credit = self.credit.saturating_add(passed.saturating_mul(rate)).min(most);
                self.credit / NANOS_PER_S
            }
        };
        left.min(paced).min(BURST as u64) as usize
    }

    fn run(&mut self, net: &mut Net<'_>, socket: UdpSocket) -> Work {
        if self.blocked {
            return Work::None;
        }
        let before = self.sequence;
        for _ in 0..self.allowance(net.now()) {
            if !self.send_one(net, socket) {
                break;
            }
        }
        let sent = self.sequence - before;
        if self.config.rate_pps.is_some() {
            self.credit = self.credit.saturating_sub(sent.saturating_mul(NANOS_PER_S));
        }
        if self.config.count == Some(self.sequence) {
            self.state = State::Done;
            self.counts.completed.add(1);
        } else if sent == 0
            && self.state == State::Running
            && let Some(rate) = self.config.rate_pps
        {
            // The worker may sleep: it must not sleep past the next one.
            let missing = NANOS_PER_S - self.credit.min(NANOS_PER_S);
            self.arm(net, Duration::from_nanos(missing.div_ceil(rate.max(1))));
        }
        if sent > 0 { Work::Some } else { Work::None }
    }

    /// The next hop's Ethernet address is known.
    fn next_hop_known(&self, net: &mut Net<'_>) -> bool {
        let destination = *self.config.destination.ip();
        let stack = net.stack();
        let Some(route) = stack.routes().lookup(destination) else { return false };
        let hop: Ipv4Addr = route.next_hop.unwrap_or(destination);
        let iface = stack.interfaces().get(usize::from(route.iface.0));
        iface.is_some_and(|iface| iface.neighbours().iter().any(|entry| entry.ip == hop && entry.mac.is_some()))
    }

    fn resolve(&mut self, net: &mut Net<'_>, since: Instant) -> Work {
        if self.next_hop_known(net) {
            self.state = State::Running;
            self.credit = 0;
            self.credited_at = net.now();
            return Work::Some;
        }
        // The first datagram is lost by now, or nobody answers: ask again with another.
        if net.now().saturating_since(since) > RETRY {
            self.state = State::First;
            return Work::Some;
        }
        self.arm(net, RESOLVE_POLL);
        Work::None
    }

    fn arm(&mut self, net: &mut Net<'_>, delay: Duration) {
        if !self.timer_armed {
            self.timer_armed = true;
            net.set_timer(delay, self.config.timer_token);
        }
    }
}

impl Service for UdpSource {
    fn socket(&self) -> Option<UdpSocket> {
        self.socket
    }
}

impl App for UdpSource {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        let local = self.config.local.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        self.socket = Some(super::bind(net, "udp-source", local)?);
        if self.config.count == Some(0) {
            self.state = State::Done;
            self.counts.completed.add(1);
        }
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        match event {
            Event::Readable(socket) => {
                for _ in 0..FAIR_BATCH {
                    let Some(answer) = socket.recv(net) else { break };
                    self.counts.received.add(1);
                    self.counts.received_payload_bytes.add(answer.buf.total_len() as u64);
                }
            }
            Event::Writable(_) => self.blocked = false,
            Event::Timer(_) => {
                self.timer_armed = false;
                if self.state == State::Pausing {
                    self.state = State::First;
                }
            }
            // The next send returns it.
            Event::Error(_) | Event::Acceptable(_) | Event::Tcp(..) | Event::Raw(..) => {}
        }
    }

    #[inline]
    fn poll(&mut self, net: &mut Net<'_>) -> Work {
        let Some(socket) = self.socket else { return Work::None };
        match self.state {
            State::Running => self.run(net, socket),
            State::First => {
                if self.config.count.is_some_and(|count| self.sequence >= count) {
                    self.state = State::Done;
                    self.counts.completed.add(1);
                } else if self.blocked || !self.send_one(net, socket) {
                    return Work::None;
                } else {
                    self.state = State::Resolving { since: net.now() };
                }
                Work::Some
            }
            State::Resolving { since } => self.resolve(net, since),
            State::Pausing | State::Done => Work::None,
        }
    }

    fn stop(&mut self, _net: &mut Net<'_>) {
        self.waiting = None;
        self.state = State::Done;
    }
}
