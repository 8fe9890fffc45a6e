//! A program that opens or accepts connections, sends a known stream on each, and checks the one that comes.

use framewire::{
    buf::{RxBuf, TxBuf},
    proto::tcp::{CloseReason, TcpEvent, TcpInfo, TcpOptions},
    socket::{App, AppError, Event, Net, TcpListener, TcpRecvError, TcpSendError, TcpStream},
    time::{Duration, Instant},
};
use std::{cell::RefCell, net::SocketAddrV4, rc::Rc, sync::OnceLock};

/// A prime, so that no two segments of a stream look the same for long.
const PERIOD: u64 = 65_521;
/// Longest stretch that [`content`] gives.
const STRETCH_BYTES_MAX: usize = 65_536;

/// Bytes `from..` of a stream. Both directions of a connection have their own.
pub(crate) fn content(salt: u64, from: u64, len: usize) -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut random = crate::random::Random::new(42);
        let period: Vec<u8> = (0..PERIOD).map(|_| random.next() as u8).collect();
        period.iter().copied().cycle().take(PERIOD as usize + STRETCH_BYTES_MAX).collect()
    });
    let at = ((from + salt * 7919) % PERIOD) as usize;
    &table[at..at + len]
}

/// Checks a received buffer against a stream; returns how many bytes it had.
pub(crate) fn check(salt: u64, mut from: u64, buf: &RxBuf) -> u64 {
    let begun = from;
    for piece in buf.pieces() {
        for part in piece.chunks(STRETCH_BYTES_MAX) {
            assert!(part == content(salt, from, part.len()), "wrong bytes from {from} on");
            from += part.len() as u64;
        }
    }
    from - begun
}

/// A buffer with the next bytes of a stream.
pub(crate) fn filled(net: &Net<'_>, salt: u64, from: u64, len: usize) -> Option<TxBuf> {
    let mut buf = net.alloc_contiguous(len)?;
    buf.put_slice(content(salt, from, len)).ok()?;
    Some(buf)
}

/// Who begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    /// Opens so many connections.
    Connect(SocketAddrV4, usize),
    /// Accepts them.
    Listen(u16),
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) role: Role,
    /// What each connection sends before it finishes.
    pub(crate) send_bytes: u64,
    /// In buffers of this size.
    pub(crate) chunk_bytes: usize,
    pub(crate) options: TcpOptions,
    /// Which stream is sent; the other is checked.
    pub(crate) salt: u64,
}

impl Plan {
    pub(crate) fn client(send_bytes: u64) -> Self {
        let role = Role::Connect("10.0.0.2:80".parse().unwrap(), 1);
        Self { role, send_bytes, chunk_bytes: 16_384, options: TcpOptions::default(), salt: 1 }
    }

    pub(crate) fn server(send_bytes: u64) -> Self {
        Self { role: Role::Listen(80), salt: 2, ..Self::client(send_bytes) }
    }
}

/// What came of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) received: u64,
    pub(crate) first_at: Option<Instant>,
    pub(crate) last_at: Option<Instant>,
    /// Longest time between two deliveries.
    pub(crate) stall: Duration,
    /// When bytes number 1/4 of all and 3/4 of all had come: between them nothing starts or ends.
    pub(crate) marks: Vec<(u64, Instant)>,
    pub(crate) finished: bool,
    pub(crate) closed: Option<CloseReason>,
    pub(crate) info: TcpInfo,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    sent: u64,
    refused: Option<TxBuf>,
    shut: bool,
}

pub(crate) type Outcomes = Rc<RefCell<Vec<Outcome>>>;

#[derive(Debug)]
pub(crate) struct Endpoint {
    plan: Plan,
    listener: Option<TcpListener>,
    connections: Vec<Connection>,
    outcomes: Outcomes,
}

impl Endpoint {
    pub(crate) fn new(plan: Plan) -> (Box<Self>, Outcomes) {
        let outcomes = Outcomes::default();
        (Box::new(Self { plan, listener: None, connections: vec![], outcomes: outcomes.clone() }), outcomes)
    }

    fn add(&mut self, stream: TcpStream) -> usize {
        self.connections.push(Connection { stream, sent: 0, refused: None, shut: false });
        self.outcomes.borrow_mut().push(Outcome::default());
        self.connections.len() - 1
    }

    fn send(&mut self, net: &mut Net<'_>, at: usize) {
        let Plan { send_bytes, chunk_bytes, salt, .. } = self.plan;
        let Connection { stream, sent, refused, shut } = &mut self.connections[at];
        while *sent < send_bytes && !*shut {
            let len = (send_bytes - *sent).min(chunk_bytes as u64) as usize;
            let Some(buf) = refused.take().or_else(|| filled(net, salt, *sent, len)) else {
                net.set_timer(Duration::from_millis(1), at as u64);
                return;
            };
            match stream.send(net, buf) {
                Ok(()) => *sent += len as u64,
                Err(TcpSendError::WouldBlock(buf)) => {
                    *refused = Some(buf);
                    return;
                }
                // Told by the event too.
                Err(TcpSendError::Reset | TcpSendError::TimedOut) => return,
                Err(error) => panic!("send: {error:?}"),
            }
        }
        if !*shut {
            *shut = true;
            stream.shutdown(net);
        }
    }

    fn receive(&mut self, net: &mut Net<'_>, at: usize) {
        let salt = 3 - self.plan.salt;
        let stream = self.connections[at].stream;
        let outcome = &mut self.outcomes.borrow_mut()[at];
        loop {
            match stream.recv(net) {
                Ok(buf) => {
                    outcome.received += check(salt, outcome.received, &buf);
                    let now = net.now();
                    outcome.first_at.get_or_insert(now);
                    if let Some(last) = outcome.last_at.replace(now) {
                        outcome.stall = outcome.stall.max(now.saturating_since(last));
                    }
                    outcome.marks.push((outcome.received, now));
                }
                Err(TcpRecvError::Finished) => {
                    outcome.finished = true;
                    return;
                }
                Err(TcpRecvError::WouldBlock | TcpRecvError::Reset | TcpRecvError::TimedOut) => return,
                Err(error) => panic!("recv: {error:?}"),
            }
        }
    }
}

impl App for Endpoint {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        match self.plan.role {
            Role::Listen(port) => {
                let listener = net.tcp_listen(SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, port), 1024)?;
                listener.set_options(net, self.plan.options.clone());
                self.listener = Some(listener);
            }
            Role::Connect(to, count) => {
                for _ in 0..count {
                    let local = SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0);
                    let stream = net.tcp_connect_with(local, to, self.plan.options.clone())?;
                    self.add(stream);
                }
            }
        }
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        let (stream, event) = match event {
            Event::Tcp(stream, event) => (stream, event),
            Event::Acceptable(listener) => {
                while let Some(stream) = listener.accept(net) {
                    let at = self.add(stream);
                    self.send(net, at);
                    self.receive(net, at);
                }
                return;
            }
            Event::Timer(at) => return self.send(net, at as usize),
            _ => return,
        };
        let Some(at) = self.connections.iter().position(|connection| connection.stream == stream) else { return };
        match event {
            TcpEvent::Connected | TcpEvent::Writable => self.send(net, at),
            TcpEvent::Readable | TcpEvent::PeerFinished => self.receive(net, at),
            TcpEvent::Closed(reason) => {
                self.receive(net, at);
                self.connections[at].refused = None;
                self.outcomes.borrow_mut()[at].closed = Some(reason);
                stream.close(net);
            }
            TcpEvent::Sent | TcpEvent::Urgent => {}
        }
        if let Some(info) = stream.info(net) {
            self.outcomes.borrow_mut()[at].info = info;
        }
    }
}
