//! The Rust socket API: an [`App`] runs on a worker and calls the stack directly, with no lock and no copy.
//!
//! Every call is non-blocking. [`UdpSocket::send_to`] consumes a [`TxBuf`] and writes the headers into that very frame; [`UdpSocket::recv`] gives the frame
//! that the packet came in; [`RxBuf::into_tx`](crate::buf::RxBuf::into_tx) sends the same frame out again.
//!
//! ```
//! use framewire::socket::{App, AppError, Event, Net, UdpSocket};
//!
//! /// Answers every datagram with itself.
//! #[derive(Debug, Default)]
//! struct Echo {
//!     socket: Option<UdpSocket>,
//! }
//!
//! impl App for Echo {
//!     fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
//!         self.socket = Some(net.udp_bind("0.0.0.0:7".parse()?)?);
//!         Ok(())
//!     }
//!
//!     fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
//!         let Event::Readable(socket) = event else { return };
//!         while let Some(datagram) = socket.recv(net) {
//!             // Whoever asked gets the same frame back; if there is no room to send it is dropped, as UDP may.
//!             let _ = socket.reply(net, datagram);
//!         }
//!     }
//! }
//! ```
//!
//! Without a kernel, on an in-memory link and a clock turned by hand; what goes in and comes out is the same as over AF_XDP:
//!
//! ```
//! use framewire::{
//!     buf::{HugePages, Pool, PoolConfig, Region},
//!     port::{MacAddr, Port, mem},
//!     proto::IfaceId,
//!     socket::Net,
//!     stack::{IfaceConfig, Stack, StackConfig},
//!     time::Instant,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let host = |last: u8| -> Result<_, Box<dyn std::error::Error>> {
//!     let mac = MacAddr([2, 0, 0, 0, 0, last]);
//!     let pool = Pool::new(Region::map(256, 2048, HugePages::Never)?, PoolConfig { rx_reserve_frames: 32, run_frames: 0 });
//!     let mut stack = Stack::new(pool.clone(), StackConfig::new([last; 32]), Instant::ZERO);
//!     stack.add_interface(IfaceConfig::new("mem", mac, vec![format!("10.0.0.{last}/24").parse()?]))?;
//!     Ok((pool, stack, mem::MemConfig { ring_entries: 64, ..mem::MemConfig::new("mem", mac) }))
//! };
//! let ((pool_a, mut a, link_a), (pool_b, mut b, link_b)) = (host(1)?, host(2)?);
//! let (mut port_a, mut port_b) = mem::link(&pool_a, link_a, &pool_b, link_b);
//!
//! let server = Net::new(&mut b).udp_bind("0.0.0.0:7".parse()?)?;
//! let client = Net::new(&mut a).udp_bind("0.0.0.0:0".parse()?)?;
//! let mut net = Net::new(&mut a);
//! let mut buf = net.alloc().ok_or("no frame")?;
//! buf.put_slice(b"hello")?;
//! client.send_to(&mut net, buf, "10.0.0.2:7".parse()?)?;
//!
//! let mut answer = None;
//! for turn in 0..20 {
//!     let now = Instant::from_millis(turn);
//!     for (port, stack) in [(&mut port_a, &mut a), (&mut port_b, &mut b)] {
//!         port.reap();
//!         port.refill();
//!         let mut received = Vec::new();
//!         port.receive(now, &mut received, 64);
//!         stack.ingress(now, IfaceId(0), &mut received);
//!         stack.poll_timers(now);
//!         port.transmit(now, stack.egress(IfaceId(0)));
//!         port.kick()?;
//!     }
//!     if let Some(datagram) = server.recv(&mut Net::new(&mut b)) {
//!         server.reply(&mut Net::new(&mut b), datagram)?;
//!     }
//!     answer = answer.or_else(|| client.recv(&mut Net::new(&mut a)));
//! }
//! assert_eq!(answer.ok_or("no answer")?.buf.as_slice(), b"hello");
//! assert_eq!(a.counters.bytes_copied_tx + b.counters.bytes_copied_tx, 0);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod raw;
mod tcp;
#[cfg(test)]
mod tests;

pub use raw::{RawEvent, RawSocket};
pub use tcp::*;

pub use crate::{
    proto::udp::{Datagram, RxLimits},
    stack::{BindError, SendError},
};

use crate::{
    buf::{Frozen, TxBuf},
    stack::{Stack, StackEvent, UdpHandle},
    time::{Duration, Instant},
};
use std::{net::SocketAddrV4, ops::Range};

/// Events that one turn hands to the application at most; the rest waits for the next turn.
const EVENTS_PER_TURN: usize = 256;
/// Datagrams that [`UdpSocket::recv`] is expected to take for each event; a guide for applications that want to be fair to others.
pub const FAIR_BATCH: usize = 64;

/// Whatever an application could not start for.
pub type AppError = Box<dyn std::error::Error + Send + Sync>;

/// A program on a worker. All calls come from the worker's thread; none may block, since everything else on that core waits meanwhile.
pub trait App {
    /// Opens sockets. Called once, before the first packet.
    ///
    /// # Errors
    /// The engine does not start, and reports it.
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError>;

    /// Something happened.
    fn handle_event(&mut self, net: &mut Net<'_>, event: Event);

    /// Called once each turn, for applications that send on their own account.
    fn poll(&mut self, net: &mut Net<'_>) -> Work {
        let _ = net;
        Work::None
    }

    /// The worker is about to stop: last words, buffers back.
    fn stop(&mut self, net: &mut Net<'_>) {
        let _ = net;
    }
}

/// Whether a call did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing to do: the worker may sleep until the next packet or timer.
    None,
    /// Something was done; there may be more.
    Some,
}

/// What an application hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The socket has datagrams. Told again each turn while it has.
    Readable(UdpSocket),
    /// A send that would have blocked may be tried again.
    Writable(UdpSocket),
    /// The network reported an error; the socket's next send returns it.
    Error(UdpSocket),
    /// A timer set with [`Net::set_timer`] is due.
    Timer(u64),
    /// Connections wait to be accepted. Told again each turn while they do.
    Acceptable(TcpListener),
    /// Something happened to a stream. [`TcpEvent::Readable`] is told when data comes, and again each turn as long as the application took some of it the
    /// turn before; one that stopped taking goes on when it wants to.
    Tcp(TcpStream, TcpEvent),
    /// Something happened to a raw socket.
    Raw(RawSocket, RawEvent),
}

/// The application's view of its worker's stack.
#[derive(Debug)]
pub struct Net<'a> {
    stack: &'a mut Stack,
}

impl<'a> Net<'a> {
    /// A view of `stack`.
    pub fn new(stack: &'a mut Stack) -> Self {
        Self { stack }
    }

    /// The time as of this turn.
    pub fn now(&self) -> Instant {
        self.stack.now()
    }

    /// An empty buffer of one frame to fill and send; `None` when only the receive reserve is left: try again after some completions.
    #[inline]
    pub fn alloc(&self) -> Option<TxBuf> {
        self.stack.pool().alloc_tx()
    }

    /// A buffer with room for `bytes` contiguous bytes, over several frames if need be.
    pub fn alloc_contiguous(&self, bytes: usize) -> Option<TxBuf> {
        self.stack.pool().alloc_contiguous(bytes)
    }

    /// Opens a UDP socket. Address `0.0.0.0`: all addresses of the engine; port 0: an unused one.
    ///
    /// # Errors
    /// The port is taken, the address not ours, or there are too many sockets.
    pub fn udp_bind(&mut self, local: SocketAddrV4) -> Result<UdpSocket, BindError> {
        self.stack.udp_bind(local).map(UdpSocket)
    }

    /// Asks for [`Event::Timer`] with `token` after `delay`.
    pub fn set_timer(&mut self, delay: Duration, token: u64) {
        self.stack.set_app_timer(delay, token);
    }

    /// A number that nobody outside can guess.
    pub fn random(&mut self) -> u64 {
        self.stack.random()
    }

    /// The stack itself, for what this view does not offer (routes, addresses, counters).
    pub fn stack(&mut self) -> &mut Stack {
        self.stack
    }
}

/// A UDP socket. It is a name: copy it freely; [`close`](Self::close) ends it, and calls on a closed one fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpSocket(UdpHandle);

impl UdpSocket {
    /// The oldest datagram, in the frame that it came in. Dropping it gives the frame back.
    #[inline]
    pub fn recv(self, net: &mut Net<'_>) -> Option<Datagram> {
        net.stack.udp_recv(self.0)
    }

    /// Copies the oldest datagram into `to`: (bytes copied, sender). What does not fit is lost, as with `recvfrom`. The copy is counted.
    pub fn recv_into(self, net: &mut Net<'_>, to: &mut [u8]) -> Option<(usize, SocketAddrV4)> {
        let datagram = self.recv(net)?;
        let n = datagram.buf.copy_to(0, to);
        net.stack.counters.bytes_copied_rx += n as u64;
        Some((n, datagram.from))
    }

    /// Sends the buffer to the connected peer.
    ///
    /// # Errors
    /// See [`SendError`]; only `WouldBlock` gives the buffer back.
    #[inline]
    pub fn send(self, net: &mut Net<'_>, buf: TxBuf) -> Result<(), SendError> {
        net.stack.udp_send(self.0, buf)
    }

    /// Sends the buffer to `to` as one datagram.
    ///
    /// # Errors
    /// See [`SendError`]; only `WouldBlock` gives the buffer back.
    #[inline]
    pub fn send_to(self, net: &mut Net<'_>, buf: TxBuf, to: SocketAddrV4) -> Result<(), SendError> {
        net.stack.udp_send_to(self.0, buf, to)
    }

    /// Sends `range` of frozen bytes, such as static content, as one datagram to `to`: any number of sockets may send the same frames at once, uncopied where the port sends packets in
    /// pieces and the next hop is known; else a copy, which is counted. False: would block; an event tells when to try again.
    ///
    /// # Errors
    /// See [`SendError`]; `MessageSize` also for a range that is not within the bytes, never `WouldBlock`.
    pub fn send_shared(
        self,
        net: &mut Net<'_>,
        bytes: &Frozen,
        range: Range<usize>,
        to: SocketAddrV4,
    ) -> Result<bool, SendError> {
        if range.end > bytes.total_len() {
            return Err(SendError::MessageSize);
        }
        net.stack.udp_send_shared(self.0, &[(bytes, range.start, range.len())], to)
    }

    /// Sends a copy of `bytes`. The copy is counted.
    ///
    /// # Errors
    /// See [`SendError`]; without a frame `NoBuffers`.
    pub fn send_slice(self, net: &mut Net<'_>, bytes: &[u8], to: SocketAddrV4) -> Result<(), SendError> {
        let mut buf = net.alloc_contiguous(bytes.len()).ok_or(SendError::NoBuffers)?;
        buf.put_slice(bytes).map_err(|_| SendError::NoBuffers)?;
        net.stack.counters.bytes_copied_tx += bytes.len() as u64;
        self.send_to(net, buf, to)
    }

    /// Sends a received datagram's frame back to its sender, from the address that it was sent to.
    ///
    /// # Errors
    /// See [`SendError`].
    #[inline]
    pub fn reply(self, net: &mut Net<'_>, datagram: Datagram) -> Result<(), SendError> {
        let Datagram { buf, from, to } = datagram;
        // What came by broadcast or multicast is answered from the address that the route prefers.
        let source = net.stack.is_our_address(to).then_some(to);
        net.stack.udp_send_from(self.0, buf.into_tx(), source, from)
    }

    /// Talks to `remote` only, from now on.
    ///
    /// # Errors
    /// No route, or another socket has the same pair of endpoints.
    pub fn connect(self, net: &mut Net<'_>, remote: SocketAddrV4) -> Result<(), BindError> {
        net.stack.udp_connect(self.0, Some(remote))
    }

    /// Talks to everybody again.
    ///
    /// # Errors
    /// The socket is closed.
    pub fn disconnect(self, net: &mut Net<'_>) -> Result<(), BindError> {
        net.stack.udp_connect(self.0, None)
    }

    /// The address and port that it is bound to; `None` if it is closed.
    pub fn local_addr(self, net: &Net<'_>) -> Option<SocketAddrV4> {
        net.stack.udp_socket(self.0).map(|socket| socket.local)
    }

    /// Changes how much it may hold.
    pub fn set_rx_limits(self, net: &mut Net<'_>, limits: RxLimits) {
        net.stack.udp_set_limits(self.0, limits);
    }

    /// Lets it send to broadcast addresses.
    pub fn allow_broadcast(self, net: &mut Net<'_>) {
        if let Some(socket) = net.stack.udp_socket_mut(self.0) {
            socket.broadcast = true;
        }
    }

    /// Closes it; what it had received is freed.
    pub fn close(self, net: &mut Net<'_>) {
        net.stack.udp_close(self.0);
    }
}

/// Gives the application its share of a turn: the events that wait now, then its poll. For workers, and for tests that turn a stack by hand.
#[inline]
pub fn drive<A: App + ?Sized>(stack: &mut Stack, app: &mut A) -> Work {
    let mut work = Work::None;
    for _ in 0..stack.event_count().min(EVENTS_PER_TURN) {
        let Some(event) = stack.next_event() else { break };
        work = Work::Some;
        match event {
            StackEvent::UdpReadable(handle) => {
                app.handle_event(&mut Net::new(stack), Event::Readable(UdpSocket(handle)));
                stack.udp_relist(handle);
            }
            StackEvent::UdpWritable(handle) => {
                app.handle_event(&mut Net::new(stack), Event::Writable(UdpSocket(handle)))
            }
            StackEvent::UdpError(handle) => app.handle_event(&mut Net::new(stack), Event::Error(UdpSocket(handle))),
            StackEvent::RawReadable(handle) => {
                app.handle_event(&mut Net::new(stack), Event::Raw(RawSocket(handle), RawEvent::Readable));
                stack.raw_relist(handle);
            }
            StackEvent::RawWritable(handle) => {
                app.handle_event(&mut Net::new(stack), Event::Raw(RawSocket(handle), RawEvent::Writable));
            }
            StackEvent::RawError(handle) => {
                app.handle_event(&mut Net::new(stack), Event::Raw(RawSocket(handle), RawEvent::Error));
            }
            StackEvent::Timer(token) => app.handle_event(&mut Net::new(stack), Event::Timer(token)),
            StackEvent::Tcp(handle) => {
                while let Some(event) = stack.tcp_poll_event(handle) {
                    app.handle_event(&mut Net::new(stack), Event::Tcp(TcpStream(handle), event));
                }
                stack.tcp_relist(handle);
            }
            StackEvent::TcpAcceptable(handle) => {
                app.handle_event(&mut Net::new(stack), Event::Acceptable(TcpListener(handle)));
                stack.tcp_relist_listener(handle);
            }
        }
    }
    if app.poll(&mut Net::new(stack)) == Work::Some {
        work = Work::Some;
    }
    stack.flush();
    work
}
