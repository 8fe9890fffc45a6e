//! TCP streams and listeners.

use super::Net;
use crate::{
    buf::{Frozen, RxBuf, TxBuf},
    proto::tcp::{Connection, RecvRefusal, SendRefusal},
    stack::{BindError, ListenerHandle, TcpHandle},
};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    ops::Range,
    rc::Rc,
};

pub use crate::proto::tcp::{
    CloseReason, Ecn, Keepalive, LossDetection, TcpConfig, TcpEvent, TcpInfo, TcpOptions, TcpState,
    congestion::Algorithm as CongestionAlgorithm,
};

/// Why a stream did not take a buffer.
#[derive(Debug, thiserror::Error)]
pub enum TcpSendError {
    /// No room in the send queue: the caller has the buffer back and hears of [`TcpEvent::Writable`].
    #[error("would block")]
    WouldBlock(TxBuf),
    /// No room in the send queue for a single byte, or no frame for it; [`TcpEvent::Writable`] follows.
    #[error("would block")]
    Full,
    /// Empty, or longer than the send queue can ever hold: the caller has the buffer back.
    #[error("message too long")]
    MessageSize(TxBuf),
    /// After `shutdown`.
    #[error("cannot send after shutdown")]
    Shutdown,
    /// Not connected yet, or not any more.
    #[error("not connected")]
    NotConnected,
    /// The peer reset the connection; told once.
    #[error("connection reset by peer")]
    Reset,
    /// The peer did not answer; told once.
    #[error("connection timed out")]
    TimedOut,
    /// Nobody listens there; told once.
    #[error("connection refused")]
    Refused,
    /// The network cannot reach the peer; told once.
    #[error("host unreachable")]
    Unreachable,
    /// The handle names no open stream.
    #[error("no such socket")]
    BadSocket,
}

/// Why a stream has nothing to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TcpRecvError {
    /// Nothing has come yet.
    #[error("would block")]
    WouldBlock,
    /// The peer has finished, and all that it sent was taken.
    #[error("end of stream")]
    Finished,
    /// Not connected yet, or not any more.
    #[error("not connected")]
    NotConnected,
    /// The peer reset the connection; told once.
    #[error("connection reset by peer")]
    Reset,
    /// The peer did not answer; told once.
    #[error("connection timed out")]
    TimedOut,
    /// Nobody listens there; told once.
    #[error("connection refused")]
    Refused,
    /// The network cannot reach the peer; told once.
    #[error("host unreachable")]
    Unreachable,
    /// The handle names no open stream.
    #[error("no such socket")]
    BadSocket,
}

impl From<SendRefusal> for TcpSendError {
    fn from(refusal: SendRefusal) -> Self {
        match refusal {
            SendRefusal::WouldBlock(buf) => Self::WouldBlock(buf),
            SendRefusal::MessageSize(buf) => Self::MessageSize(buf),
            SendRefusal::Shutdown => Self::Shutdown,
            SendRefusal::NotConnected | SendRefusal::Closed(CloseReason::Finished) => Self::NotConnected,
            SendRefusal::Closed(CloseReason::Reset) => Self::Reset,
            SendRefusal::Closed(CloseReason::TimedOut) => Self::TimedOut,
            SendRefusal::Closed(CloseReason::Refused) => Self::Refused,
            SendRefusal::Closed(CloseReason::Unreachable) => Self::Unreachable,
        }
    }
}

impl From<RecvRefusal> for TcpRecvError {
    fn from(refusal: RecvRefusal) -> Self {
        match refusal {
            RecvRefusal::WouldBlock => Self::WouldBlock,
            RecvRefusal::Finished => Self::Finished,
            RecvRefusal::NotConnected | RecvRefusal::Closed(CloseReason::Finished) => Self::NotConnected,
            RecvRefusal::Closed(CloseReason::Reset) => Self::Reset,
            RecvRefusal::Closed(CloseReason::TimedOut) => Self::TimedOut,
            RecvRefusal::Closed(CloseReason::Refused) => Self::Refused,
            RecvRefusal::Closed(CloseReason::Unreachable) => Self::Unreachable,
        }
    }
}

impl Net<'_> {
    /// Listens at `local` (address `0.0.0.0`: all of ours; port 0: an unused one). At most `backlog` connections wait to be accepted or for the end of
    /// their handshake; beyond, SYN cookies answer (RFC 4987).
    ///
    /// # Errors
    /// Somebody listens there already, or the address is not ours.
    pub fn tcp_listen(&mut self, local: SocketAddrV4, backlog: usize) -> Result<TcpListener, BindError> {
        self.stack.tcp_listen(local, backlog).map(TcpListener)
    }

    /// Connects to `remote` from a port of the engine's choice. [`TcpEvent::Connected`] or [`TcpEvent::Closed`] tells how it went.
    ///
    /// # Errors
    /// No route, no port, or too many connections.
    pub fn tcp_connect(&mut self, remote: SocketAddrV4) -> Result<TcpStream, BindError> {
        self.tcp_connect_from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), remote)
    }

    /// As [`tcp_connect`](Self::tcp_connect), from `local`: address `0.0.0.0` by the route, port 0 an unused one.
    ///
    /// # Errors
    /// Also: the pair of endpoints is in use, or the address not ours.
    pub fn tcp_connect_from(&mut self, local: SocketAddrV4, remote: SocketAddrV4) -> Result<TcpStream, BindError> {
        self.stack.tcp_connect(local, remote, None).map(TcpStream)
    }

    /// As [`tcp_connect_from`](Self::tcp_connect_from), with tunables of its own from the first segment on.
    ///
    /// # Errors
    /// The same.
    pub fn tcp_connect_with(
        &mut self,
        local: SocketAddrV4,
        remote: SocketAddrV4,
        options: TcpOptions,
    ) -> Result<TcpStream, BindError> {
        self.stack.tcp_connect(local, remote, Some(options)).map(TcpStream)
    }
}

/// A listening socket. It is a name: copy it freely; [`close`](Self::close) ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpListener(pub(super) ListenerHandle);

impl TcpListener {
    /// The oldest connection that waits.
    pub fn accept(self, net: &mut Net<'_>) -> Option<TcpStream> {
        net.stack.tcp_accept(self.0).map(TcpStream)
    }

    /// Where it listens; `None` if it is closed.
    pub fn local_addr(self, net: &Net<'_>) -> Option<SocketAddrV4> {
        net.stack.tcp_listener_addr(self.0)
    }

    /// Connections that wait to be accepted.
    pub fn waiting(self, net: &Net<'_>) -> usize {
        net.stack.tcp_acceptable(self.0)
    }

    /// What connections accepted from now on begin with.
    pub fn set_options(self, net: &mut Net<'_>, options: TcpOptions) {
        net.stack.tcp_set_listener_options(self.0, options);
    }

    /// Stops listening; connections that nobody accepted are reset.
    pub fn close(self, net: &mut Net<'_>) {
        net.stack.tcp_close_listener(self.0);
    }

    /// A number of the application's own for it: connections that it accepts begin with that, and keep it through all their events.
    pub fn set_tag(self, net: &mut Net<'_>, tag: u64) {
        net.stack.tcp_set_listener_tag(self.0, tag);
    }

    /// See [`set_tag`](Self::set_tag).
    pub fn tag(self, net: &Net<'_>) -> Option<u64> {
        net.stack.tcp_listener_tag(self.0)
    }

    /// One number for it, for tables of the application's.
    pub fn to_bits(self) -> u64 {
        self.0.to_bits()
    }
}

/// A connection. It is a name: copy it freely; after [`close`](Self::close) or [`abort`](Self::abort) calls on it fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpStream(pub(super) TcpHandle);

impl TcpStream {
    /// Sends the whole buffer. Its frame is the segment, and the retransmission too: nothing is copied.
    ///
    /// # Errors
    /// See [`TcpSendError`]; only `WouldBlock` and `MessageSize` give the buffer back.
    #[inline]
    pub fn send(self, net: &mut Net<'_>, buf: TxBuf) -> Result<(), TcpSendError> {
        match net.stack.tcp_queue(self.0, buf) {
            Ok(()) => Ok(()),
            Err(buf) => self.send_refused(net, buf),
        }
    }

    /// Why a buffer could not be queued.
    #[cold]
    fn send_refused(self, net: &mut Net<'_>, buf: TxBuf) -> Result<(), TcpSendError> {
        match net.stack.tcp_refuse(self.0, buf) {
            Some(sent) => sent.map_err(TcpSendError::from),
            None => Err(TcpSendError::BadSocket),
        }
    }

    /// Sends `range` of frozen bytes, such as static content: any number of streams may send the same frames at once, and nothing is copied. They are free when
    /// the last holder lets go.
    ///
    /// # Errors
    /// See [`TcpSendError`]; `Full` when the range does not fit the send queue now.
    pub fn send_shared(self, net: &mut Net<'_>, bytes: &Rc<Frozen>, range: Range<usize>) -> Result<(), TcpSendError> {
        match net.stack.tcp_send_shared(self.0, Rc::<Frozen>::clone(bytes), range) {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => Err(TcpSendError::Full),
            Some(Err(refusal)) => Err(refusal.into()),
            None => Err(TcpSendError::BadSocket),
        }
    }

    /// As [`send`](Self::send); the last byte is urgent (RFC 6093).
    ///
    /// # Errors
    /// See [`TcpSendError`].
    pub fn send_urgent(self, net: &mut Net<'_>, buf: TxBuf) -> Result<(), TcpSendError> {
        match net.stack.tcp_send_urgent(self.0, buf) {
            Some(sent) => sent.map_err(TcpSendError::from),
            None => Err(TcpSendError::BadSocket),
        }
    }

    /// Sends a copy of as much of `bytes` as there is room for; returns how many. The copy is counted.
    ///
    /// # Errors
    /// See [`TcpSendError`]; without any room `Full`.
    pub fn send_slice(self, net: &mut Net<'_>, bytes: &[u8]) -> Result<usize, TcpSendError> {
        match net.stack.tcp_send_slice(self.0, bytes) {
            Some(Ok(0)) if !bytes.is_empty() => Err(TcpSendError::Full),
            Some(sent) => sent.map_err(TcpSendError::from),
            None => Err(TcpSendError::BadSocket),
        }
    }

    /// The next bytes of the stream, in the frame that they came in. Dropping it gives the frame back.
    ///
    /// # Errors
    /// See [`TcpRecvError`].
    #[inline]
    pub fn recv(self, net: &mut Net<'_>) -> Result<RxBuf, TcpRecvError> {
        match net.stack.tcp_take(self.0) {
            Some(buf) => Ok(buf),
            None => self.recv_nothing(net),
        }
    }

    /// Why there is nothing to receive.
    #[inline(never)]
    fn recv_nothing(self, net: &mut Net<'_>) -> Result<RxBuf, TcpRecvError> {
        match net.stack.tcp_recv(self.0) {
            Some(received) => received.map_err(TcpRecvError::from),
            None => Err(TcpRecvError::BadSocket),
        }
    }

    /// Copies the next bytes into `to`; returns how many. The copy is counted.
    ///
    /// # Errors
    /// See [`TcpRecvError`].
    pub fn recv_into(self, net: &mut Net<'_>, to: &mut [u8]) -> Result<usize, TcpRecvError> {
        match net.stack.tcp_recv_into(self.0, to) {
            Some(received) => received.map_err(TcpRecvError::from),
            None => Err(TcpRecvError::BadSocket),
        }
    }

    /// Puts received bytes back in front, if the application did not use them.
    pub fn unrecv(self, net: &mut Net<'_>, buf: RxBuf) {
        net.stack.tcp_unrecv(self.0, buf);
    }

    /// The urgent byte, once; not with [`TcpOptions::urgent_inline`].
    pub fn recv_urgent(self, net: &mut Net<'_>) -> Option<u8> {
        net.stack.tcp_recv_urgent(self.0)
    }

    /// Reading has come to the urgent mark.
    pub fn at_mark(self, net: &Net<'_>) -> bool {
        net.stack.tcp_connection(self.0).is_some_and(Connection::at_mark)
    }

    /// Bytes to read before the urgent mark; `None` if there is none ahead.
    pub fn bytes_to_mark(self, net: &Net<'_>) -> Option<usize> {
        net.stack.tcp_connection(self.0)?.bytes_to_mark()
    }

    /// Bytes that wait to be received.
    pub fn waiting_bytes(self, net: &Net<'_>) -> usize {
        net.stack.tcp_connection(self.0).map_or(0, Connection::waiting_bytes)
    }

    /// There is something to receive, or the end of the stream.
    pub fn is_readable(self, net: &Net<'_>) -> bool {
        net.stack.tcp_connection(self.0).is_some_and(Connection::is_readable)
    }

    /// Bytes sent and not acknowledged.
    pub fn unacked_bytes(self, net: &Net<'_>) -> usize {
        net.stack.tcp_connection(self.0).map_or(0, Connection::unacked_bytes)
    }

    /// Bytes that [`send`](Self::send) takes now.
    pub fn send_room(self, net: &Net<'_>) -> usize {
        net.stack.tcp_connection(self.0).map_or(0, Connection::send_room)
    }

    /// No more to send: the peer reads the end of the stream after what is queued.
    pub fn shutdown(self, net: &mut Net<'_>) {
        net.stack.tcp_shutdown(self.0);
    }

    /// The application has no more to do with it. What is queued is still delivered; if something was left unread the peer is reset (RFC 2525 section 2.17).
    pub fn close(self, net: &mut Net<'_>) {
        net.stack.tcp_close(self.0);
    }

    /// Resets it: what is queued is lost.
    pub fn abort(self, net: &mut Net<'_>) {
        net.stack.tcp_abort(self.0);
    }

    /// Our end; `None` after `close`.
    pub fn local_addr(self, net: &Net<'_>) -> Option<SocketAddrV4> {
        net.stack.tcp_connection(self.0).map(|connection| connection.endpoints().local)
    }

    /// The peer's end; `None` after `close`.
    pub fn peer_addr(self, net: &Net<'_>) -> Option<SocketAddrV4> {
        net.stack.tcp_connection(self.0).map(|connection| connection.endpoints().remote)
    }

    /// Payload bytes of a full segment: a buffer of so many goes out as one descriptor.
    pub fn mss(self, net: &Net<'_>) -> Option<usize> {
        net.stack.tcp_connection(self.0).map(Connection::mss)
    }

    /// A number of the application's own, such as where it keeps what belongs to the stream.
    #[inline]
    pub fn set_tag(self, net: &mut Net<'_>, tag: u64) {
        net.stack.tcp_set_tag(self.0, tag);
    }

    /// See [`set_tag`](Self::set_tag); the listener's at first.
    #[inline]
    pub fn tag(self, net: &Net<'_>) -> Option<u64> {
        net.stack.tcp_connection(self.0).map(|connection| connection.tag)
    }

    /// Its state; `Closed` after `close`, whatever the engine still does for it.
    pub fn state(self, net: &Net<'_>) -> TcpState {
        net.stack.tcp_state(self.0)
    }

    /// How it ended, if it has.
    pub fn close_reason(self, net: &Net<'_>) -> Option<CloseReason> {
        net.stack.tcp_connection(self.0)?.close_reason()
    }

    /// Its tunables.
    pub fn options(self, net: &Net<'_>) -> Option<TcpOptions> {
        net.stack.tcp_connection(self.0).map(|connection| TcpOptions::clone(connection.options()))
    }

    /// Changes its tunables.
    pub fn set_options(self, net: &mut Net<'_>, options: TcpOptions) {
        net.stack.tcp_set_options(self.0, options);
    }

    /// Round-trip time, windows, retransmissions.
    pub fn info(self, net: &Net<'_>) -> Option<TcpInfo> {
        net.stack.tcp_info(self.0)
    }

    /// One number for it, for tables of the application's.
    pub fn to_bits(self) -> u64 {
        self.0.to_bits()
    }
}
