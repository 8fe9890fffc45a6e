//! What can be done with the streams and listeners behind descriptors. The calls of the header are in `bsd`, `transfer` and `zero_copy`.
//!
//! ```text
//!   Idle ─bind─► Idle ─listen─► Listening ─accept─► (another descriptor) Open
//!     └─connect─► Open ─tfClose─► Closing ─FIN acknowledged─► (the descriptor is free)
//!                   └─reset, time-out, told once─► Open, but not connected ─connect─► Open
//! ```

use super::{
    error::{BAD_SOCKET, Code, INVALID, MESSAGE_SIZE, Outcome, UNSUPPORTED, WOULD_BLOCK},
    face::Face,
    numbers as n,
    settings::Options,
    sockets::{SocketId, no_network},
};
use crate::{
    proto::tcp::SendRefusal,
    socket::{CloseReason, TcpEvent, TcpState},
    stack::{ListenerHandle, Stack, TcpHandle},
};
use std::net::{Ipv4Addr, SocketAddrV4};

pub(super) const NOT_CONNECTED: Code = Code(n::TM_ENOTCONN);
pub(super) const IN_PROGRESS: Code = Code(n::TM_EINPROGRESS);
pub(super) const SHUT_DOWN: Code = Code(n::TM_ESHUTDOWN);
const CONNECTED: Code = Code(n::TM_EISCONN);
const ALREADY: Code = Code(n::TM_EALREADY);
const IN_USE: Code = Code(n::TM_EADDRINUSE);

const NOWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
/// RFC 6335: the dynamic range.
const EPHEMERAL_FIRST: u16 = 49_152;

/// Where a stream is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Neither connected nor listening.
    Idle,
    /// Listens, with that backlog, as soon as there is a stack.
    Promised(usize),
    Listening(ListenerHandle),
    /// Connecting, connected, or ended and perhaps with something left to read or to tell.
    Open(TcpHandle),
    /// The application has closed it; what it sent is still being delivered.
    Closing(TcpHandle),
}

/// A stream as its descriptor knows it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) phase: Phase,
    /// What it is bound to; port 0: not bound.
    local: SocketAddrV4,
    pub(super) shut_rd: bool,
    pub(super) shut_wr: bool,
    /// A call has returned how the connection ended.
    told: bool,
    /// An urgent byte was announced and neither read nor passed.
    pub(super) urgent: bool,
    /// It was peeked at.
    pub(super) urgent_byte: Option<u8>,
    /// Bytes accepted for sending.
    pub(super) sent_bytes: u64,
    /// Some of them were not reported as acknowledged.
    pub(super) unconfirmed: bool,
}

/// What a receive would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    Data(TcpHandle),
    /// The end of the stream.
    Finished,
    Nothing,
    Refused(Refusal),
}

/// Why there is no data to be had or to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Plain(Code),
    /// It ended like this; told once.
    Ended(CloseReason),
}

/// What an established connection that has ended is told as.
pub(super) fn reason_code(reason: CloseReason) -> Option<Code> {
    Some(Code(match reason {
        CloseReason::Finished => return None,
        CloseReason::Reset => n::TM_ECONNRESET,
        CloseReason::TimedOut => n::TM_ETIMEDOUT,
        CloseReason::Refused => n::TM_ECONNREFUSED,
        CloseReason::Unreachable => n::TM_EHOSTUNREACH,
    }))
}

impl Stream {
    pub(super) fn new(phase: Phase) -> Self {
        Self {
            phase,
            local: NOWHERE,
            shut_rd: false,
            shut_wr: false,
            told: false,
            urgent: false,
            urgent_byte: None,
            sent_bytes: 0,
            unconfirmed: false,
        }
    }

    /// The error for a refusal, which thereby is told.
    pub(super) fn tell(&mut self, refusal: Refusal) -> Code {
        match refusal {
            Refusal::Plain(code) => code,
            Refusal::Ended(_) if std::mem::replace(&mut self.told, true) => NOT_CONNECTED,
            Refusal::Ended(reason) => reason_code(reason).unwrap_or(NOT_CONNECTED),
        }
    }

    /// `len` bytes were accepted for sending.
    #[inline]
    pub(super) fn note_sent(&mut self, len: usize) {
        self.sent_bytes += len as u64;
        self.unconfirmed |= len > 0;
    }

    /// The error for what the connection refused; `None`: there is no connection.
    #[cold]
    pub(super) fn refused(&mut self, refusal: Option<SendRefusal>) -> Code {
        match refusal {
            Some(SendRefusal::WouldBlock(_)) => WOULD_BLOCK,
            Some(SendRefusal::MessageSize(_)) => MESSAGE_SIZE,
            Some(SendRefusal::Shutdown) => SHUT_DOWN,
            Some(SendRefusal::Closed(reason)) => self.tell(Refusal::Ended(reason)),
            Some(SendRefusal::NotConnected) | None => NOT_CONNECTED,
        }
    }

    /// How it ended, if nobody was told yet; whoever asks is.
    pub(super) fn take_error(&mut self, stack: &Stack) -> Option<Code> {
        let Phase::Open(handle) = self.phase else { return None };
        let code = reason_code(stack.tcp_connection(handle)?.close_reason()?)?;
        (!std::mem::replace(&mut self.told, true)).then_some(code)
    }

    /// An end that nobody was told of.
    pub(super) fn has_error(&self, stack: &Stack) -> bool {
        let Phase::Open(handle) = self.phase else { return false };
        let reason = stack.tcp_connection(handle).and_then(|connection| connection.close_reason());
        !self.told && reason.is_some_and(|reason| reason_code(reason).is_some())
    }

    /// The connection, if data can be given to it.
    pub(super) fn sender(&self, stack: &Stack) -> Result<TcpHandle, Refusal> {
        if self.shut_wr || matches!(self.phase, Phase::Closing(_)) {
            return Err(Refusal::Plain(SHUT_DOWN));
        }
        let Phase::Open(handle) = self.phase else { return Err(Refusal::Plain(NOT_CONNECTED)) };
        let connection = stack.tcp_connection(handle).ok_or(Refusal::Plain(NOT_CONNECTED))?;
        match connection.close_reason() {
            Some(reason) => Err(Refusal::Ended(reason)),
            None if connection.state().is_synchronized() => Ok(handle),
            None => Err(Refusal::Plain(NOT_CONNECTED)),
        }
    }

    /// What a receive would find.
    pub(super) fn incoming(&self, stack: &mut Stack) -> Incoming {
        let handle = match self.phase {
            Phase::Open(handle) => handle,
            Phase::Closing(_) => return Incoming::Refused(Refusal::Plain(BAD_SOCKET)),
            _ => return Incoming::Refused(Refusal::Plain(NOT_CONNECTED)),
        };
        if self.shut_rd {
            return Incoming::Finished;
        }
        let Some(connection) = stack.tcp_connection(handle) else {
            return Incoming::Refused(Refusal::Plain(NOT_CONNECTED));
        };
        if connection.waiting_bytes() > 0 {
            return Incoming::Data(handle);
        }
        if let Some(reason) = connection.close_reason() {
            // Nothing is in the queue that this could take out.
            return match stack.tcp_recv(handle) {
                Some(Err(crate::proto::tcp::RecvRefusal::Finished)) => Incoming::Finished,
                _ => Incoming::Refused(Refusal::Ended(reason)),
            };
        }
        match connection.state().is_synchronized() {
            true if connection.is_readable() => Incoming::Finished,
            true => Incoming::Nothing,
            false => Incoming::Refused(Refusal::Plain(NOT_CONNECTED)),
        }
    }

    /// Payload bytes of a full segment, of a connection.
    pub(super) fn mss(&self, stack: &Stack) -> Option<usize> {
        let (Phase::Open(handle) | Phase::Closing(handle)) = self.phase else { return None };
        stack.tcp_connection(handle).map(|connection| connection.mss())
    }

    fn may_connect(&mut self, stack: &mut Stack) -> Outcome<()> {
        let handle = match self.phase {
            Phase::Idle => return Ok(()),
            Phase::Promised(_) | Phase::Listening(_) => return Err(UNSUPPORTED),
            Phase::Closing(_) => return Err(BAD_SOCKET),
            Phase::Open(handle) => handle,
        };
        let Some(connection) = stack.tcp_connection(handle) else { return Ok(()) };
        match connection.close_reason() {
            Some(_) => {
                if let Some(code) = self.take_error(stack) {
                    return Err(code);
                }
                stack.tcp_close(handle);
                self.phase = Phase::Idle;
                Ok(())
            }
            None if connection.state().is_synchronized() => Err(CONNECTED),
            None => Err(ALREADY),
        }
    }
}

impl Face {
    /// Runs `f` on a stream and the stack.
    ///
    /// # Errors
    /// `TM_EOPNOTSUPP` if it is none; `TM_ENETDOWN` before the first interface is opened.
    #[inline]
    pub(super) fn on_stream<R>(
        &self,
        id: SocketId,
        f: impl FnOnce(&mut Stream, &Options, &mut Stack) -> Outcome<R>,
    ) -> Outcome<R> {
        self.with_socket(id, |socket| {
            let options = &socket.options;
            let stream = socket.stream.as_deref_mut().ok_or(UNSUPPORTED)?;
            self.with_stack(|stack| f(stream, options, stack))?
        })?
    }

    /// As [`on_stream`](Self::on_stream), where without a network there is no connection.
    #[inline]
    pub(super) fn on_connection<R>(
        &self,
        id: SocketId,
        f: impl FnOnce(&mut Stream, &Options, &mut Stack) -> Outcome<R>,
    ) -> Outcome<R> {
        self.on_stream(id, f).map_err(|code| if code == Code(n::TM_ENETDOWN) { NOT_CONNECTED } else { code })
    }

    /// Local ports of all streams but `id`: of those that listen (true), and of the others.
    fn stream_ports(&self, id: SocketId) -> Outcome<Vec<(u16, bool)>> {
        let ids = self.sockets.try_borrow().map_err(|_| WOULD_BLOCK)?.streams();
        let mut ports = Vec::new();
        for other in ids.into_iter().filter(|&other| other != id) {
            let listens = self.with_socket(other, |socket| {
                matches!(
                    socket.stream.as_ref().map(|stream| stream.phase),
                    Some(Phase::Listening(_) | Phase::Promised(_))
                )
            })?;
            ports.push((self.stream_endpoints(other)?.0.port(), listens));
        }
        Ok(ports)
    }

    /// Binds a stream: the port is its own from now on, unless it says that it shares (`SO_REUSEADDR`) and nobody listens there.
    pub(super) fn bind_stream(&self, id: SocketId, local: SocketAddrV4) -> Outcome<()> {
        let (bound, reuse) = self.with_socket(id, |socket| {
            let stream = socket.stream.as_deref();
            (
                stream.is_none_or(|stream| stream.phase != Phase::Idle || stream.local != NOWHERE),
                socket.options.reuse_address,
            )
        })?;
        if bound {
            return Err(INVALID);
        }
        let ours = self.with_stack(|stack| local.ip().is_unspecified() || stack.is_our_address(*local.ip()));
        if !ours.unwrap_or(local.ip().is_unspecified()) {
            return Err(Code(n::TM_EADDRNOTAVAIL));
        }
        let taken = self.stream_ports(id)?;
        let port = match local.port() {
            0 => {
                let start = self.with_stack(Stack::random).unwrap_or(0);
                let count = u64::from(u16::MAX - EPHEMERAL_FIRST) + 1;
                let free = (0..count)
                    .map(|step| EPHEMERAL_FIRST + ((start.wrapping_add(step)) % count) as u16)
                    .find(|port| !taken.iter().any(|(other, _)| other == port));
                free.ok_or(Code(n::TM_EADDRNOTAVAIL))?
            }
            port if taken.iter().any(|&(other, listens)| other == port && (listens || !reuse)) => return Err(IN_USE),
            port => port,
        };
        self.with_socket(id, |socket| {
            if let Some(stream) = socket.stream.as_deref_mut() {
                stream.local = SocketAddrV4::new(*local.ip(), port);
            }
        })
    }

    /// Listens: at what it is bound to, or at an unused port.
    pub(super) fn listen(&self, id: SocketId, backlog: usize) -> Outcome<()> {
        let phase =
            self.with_socket(id, |socket| socket.stream.as_deref().map(|stream| (stream.phase, stream.local)))?;
        match phase.ok_or(UNSUPPORTED)? {
            (Phase::Idle | Phase::Promised(_), NOWHERE) => self.bind_stream(id, NOWHERE)?,
            (Phase::Idle | Phase::Promised(_), _) => {}
            // The backlog of a listener stays what it is.
            (Phase::Listening(_), _) => return Ok(()),
            (Phase::Open(_), _) => return Err(INVALID),
            (Phase::Closing(_), _) => return Err(BAD_SOCKET),
        }
        let listening = self.on_stream(id, |stream, options, stack| {
            let handle = stack.tcp_listen(stream.local, backlog)?;
            stack.tcp_set_listener_options(handle, options.tcp());
            stack.tcp_set_listener_tag(handle, id.tag());
            stream.phase = Phase::Listening(handle);
            Ok(())
        });
        if listening != Err(Code(n::TM_ENETDOWN)) {
            return listening;
        }
        self.with_socket(id, |socket| {
            if let Some(stream) = socket.stream.as_deref_mut() {
                stream.phase = Phase::Promised(backlog);
            }
        })
    }

    /// Listens where it was promised before there was a stack.
    pub(super) fn listen_promised(&self) {
        let Ok(ids) = self.sockets.try_borrow().map(|sockets| sockets.streams()) else { return };
        for id in ids {
            let phase = self.with_socket(id, |socket| socket.stream.as_deref().map(|stream| stream.phase));
            if let Ok(Some(Phase::Promised(backlog))) = phase
                && let Err(code) = self.listen(id, backlog)
            {
                let _ = self.with_socket(id, |socket| socket.last_error = code.0);
            }
        }
    }

    /// The oldest connection that waits: (its descriptor, its peer).
    pub(super) fn accept(&self, id: SocketId) -> Outcome<(std::ffi::c_int, SocketAddrV4)> {
        let (phase, options, non_blocking) = self.with_socket(id, |socket| {
            (socket.stream.as_deref().map(|stream| stream.phase), socket.options, socket.non_blocking)
        })?;
        let listener = match phase.ok_or(UNSUPPORTED)? {
            Phase::Listening(listener) => listener,
            Phase::Promised(_) => return Err(WOULD_BLOCK),
            Phase::Closing(_) => return Err(BAD_SOCKET),
            _ => return Err(INVALID),
        };
        if self.with_stack(|stack| stack.tcp_acceptable(listener))? == 0 {
            return Err(WOULD_BLOCK);
        }
        // A descriptor first: without one the connection goes on waiting.
        let sd = self.open_socket(Some(Phase::Idle))?;
        let new = self.socket_id(sd)?;
        let accepted = self.with_stack(|stack| {
            let handle = stack.tcp_accept(listener)?;
            stack.tcp_set_tag(handle, new.tag());
            let connection = stack.tcp_connection(handle)?;
            Some((handle, connection.endpoints().remote, connection.bytes_to_mark().is_some()))
        })?;
        let Some((handle, remote, urgent)) = accepted else {
            self.free_socket(new)?;
            return Err(WOULD_BLOCK);
        };
        self.with_socket(new, |socket| {
            (socket.options, socket.non_blocking) = (options, non_blocking);
            socket.stream = Some(Box::new(Stream { urgent, ..Stream::new(Phase::Open(handle)) }));
        })?;
        Ok((sd, remote))
    }

    /// Begins to connect: `TM_EINPROGRESS` if that is under way now.
    pub(super) fn begin_connect(&self, id: SocketId, remote: SocketAddrV4) -> Outcome<()> {
        let now = self.now();
        self.on_stream(id, |stream, options, stack| {
            stream.may_connect(stack)?;
            if remote.port() == 0 || remote.ip().is_unspecified() {
                return Err(Code(n::TM_EADDRNOTAVAIL));
            }
            stack.set_now(now);
            if options.dont_route && stack.routes().lookup(*remote.ip()).is_some_and(|route| route.next_hop.is_some()) {
                return Err(Code(n::TM_EHOSTUNREACH));
            }
            let handle = stack.tcp_connect(stream.local, remote, Some(options.tcp()))?;
            stack.tcp_set_tag(handle, id.tag());
            *stream = Stream { local: stream.local, ..Stream::new(Phase::Open(handle)) };
            Err(IN_PROGRESS)
        })
        .map_err(no_network)
    }

    /// Whether the connection is there: `TM_EWOULDBLOCK` while it is being made, the reason if there will be none.
    pub(super) fn connect_result(&self, id: SocketId) -> Outcome<()> {
        self.on_stream(id, |stream, _, stack| match stream.may_connect(stack) {
            Err(CONNECTED) => Ok(()),
            Err(ALREADY) => Err(WOULD_BLOCK),
            Err(code) => Err(code),
            Ok(()) => Err(NOT_CONNECTED),
        })
    }

    /// (local, remote) endpoints; remote only while it is connected.
    pub(super) fn stream_endpoints(&self, id: SocketId) -> Outcome<(SocketAddrV4, Option<SocketAddrV4>)> {
        let (phase, local) = self
            .with_socket(id, |socket| socket.stream.as_deref().map(|stream| (stream.phase, stream.local)))?
            .ok_or(UNSUPPORTED)?;
        let (Phase::Open(handle) | Phase::Closing(handle)) = phase else { return Ok((local, None)) };
        self.with_stack(|stack| {
            let Some(connection) = stack.tcp_connection(handle) else { return (local, None) };
            let ends = connection.endpoints();
            let lives = connection.state().is_synchronized() && connection.close_reason().is_none();
            (ends.local, lives.then_some(ends.remote))
        })
    }

    /// `shutdown` of a stream.
    pub(super) fn shutdown_stream(&self, id: SocketId, rd: bool, wr: bool) -> Outcome<()> {
        self.on_connection(id, |stream, _, stack| {
            let Phase::Open(handle) = stream.phase else { return Err(NOT_CONNECTED) };
            let connection = stack.tcp_connection(handle).ok_or(NOT_CONNECTED)?;
            if let Some(reason) = connection.close_reason() {
                return Err(stream.tell(Refusal::Ended(reason)));
            }
            if !connection.state().is_synchronized() {
                return Err(NOT_CONNECTED);
            }
            if wr {
                stream.shut_wr = true;
                stack.tcp_shutdown(handle);
            }
            if rd {
                stream.shut_rd = true;
                stream.discard(stack, handle);
            }
            Ok(())
        })
    }

    /// Resets the connection; the descriptor stays.
    pub(super) fn reset_stream(&self, id: SocketId) -> Outcome<()> {
        self.on_connection(id, |stream, _, stack| {
            let Phase::Open(handle) = stream.phase else { return Err(NOT_CONNECTED) };
            let ended = stack.tcp_connection(handle).is_none_or(|connection| connection.close_reason().is_some());
            if ended {
                return Err(NOT_CONNECTED);
            }
            stack.tcp_abort(handle);
            stream.phase = Phase::Idle;
            stream.told = true;
            Ok(())
        })
    }

    /// Closes a stream. True: the descriptor is free; false: what was sent is still being delivered.
    pub(super) fn close_stream(&self, id: SocketId) -> Outcome<bool> {
        let closed = self.on_stream(id, |stream, options, stack| {
            match stream.phase {
                Phase::Closing(_) => return Err(ALREADY),
                Phase::Idle | Phase::Promised(_) => {}
                Phase::Listening(handle) => stack.tcp_close_listener(handle),
                Phase::Open(handle) if options.linger.is_some_and(|time| time.is_zero()) => stack.tcp_abort(handle),
                Phase::Open(handle) => {
                    let delivers = stack.tcp_connection(handle).is_some_and(|connection| {
                        connection.close_reason().is_none()
                            && connection.state().is_synchronized()
                            && connection.waiting_bytes() == 0
                    });
                    if delivers {
                        stack.tcp_shutdown(handle);
                        stream.phase = Phase::Closing(handle);
                        if !stream.has_left(stack, handle) {
                            return Ok(false);
                        }
                    }
                    // Not connected any more, or with something that nobody will read: then this resets it.
                    stack.tcp_close(handle);
                }
            }
            Ok(true)
        });
        let closed = match closed {
            // There is no stack yet, hence nothing to end.
            Err(Code(n::TM_ENETDOWN)) => true,
            other => other?,
        };
        if closed {
            self.free_socket(id)?;
        }
        Ok(closed)
    }

    /// Goes on with closing: true if it is done and the descriptor may be freed.
    pub(super) fn advance_closing(&self, id: SocketId) -> bool {
        let done = self.on_stream(id, |stream, _, stack| {
            let Phase::Closing(handle) = stream.phase else { return Ok(false) };
            let left = stream.has_left(stack, handle);
            if left {
                stack.tcp_close(handle);
            }
            Ok(left)
        });
        done.unwrap_or(false)
    }

    /// It is being closed and not done with that.
    pub(super) fn is_closing(&self, id: SocketId) -> bool {
        let closing = |stream: &Stream| matches!(stream.phase, Phase::Closing(_));
        self.with_socket(id, |socket| socket.stream.as_deref().is_some_and(closing)).unwrap_or(false)
    }

    /// What an event means to its application, as `TM_CB_…` bits; and keeps the stream going.
    pub(super) fn handle_tcp_event(&self, id: SocketId, handle: TcpHandle, event: TcpEvent) -> std::ffi::c_int {
        let mut error = None;
        let bits = self.on_stream(id, |stream, _, stack| {
            if stream.phase != Phase::Open(handle) {
                return Ok(0);
            }
            Ok(match event {
                TcpEvent::Connected => n::TM_CB_CONNECT_COMPLT,
                TcpEvent::Readable if stream.shut_rd => {
                    stream.discard(stack, handle);
                    0
                }
                TcpEvent::Readable => {
                    let waiting = stack.tcp_connection(handle).map_or(0, |connection| connection.waiting_bytes());
                    if waiting > 0 { n::TM_CB_RECV } else { 0 }
                }
                TcpEvent::Writable => n::TM_CB_WRITE_READY,
                TcpEvent::Urgent => {
                    stream.urgent = true;
                    n::TM_CB_RECV_OOB
                }
                TcpEvent::PeerFinished => n::TM_CB_REMOTE_CLOSE,
                TcpEvent::Sent => {
                    let all = stack.tcp_connection(handle).is_some_and(|connection| connection.unacked_bytes() == 0);
                    if all && std::mem::take(&mut stream.unconfirmed) { n::TM_CB_SEND_COMPLT } else { 0 }
                }
                TcpEvent::Closed(reason) => {
                    error = reason_code(reason);
                    match reason {
                        CloseReason::Finished => 0,
                        CloseReason::Reset => n::TM_CB_RESET | n::TM_CB_SOCKET_ERROR,
                        _ => n::TM_CB_SOCKET_ERROR,
                    }
                }
            })
        });
        if let Some(code) = error {
            let _ = self.with_socket(id, |socket| socket.last_error = code.0);
        }
        bits.unwrap_or(0)
    }

    /// What is so now, as `TM_CB_…` bits: for an application that registers late.
    pub(super) fn standing_events(&self, id: SocketId) -> std::ffi::c_int {
        let bits = self.on_stream(id, |stream, _, stack| {
            let handle = match stream.phase {
                Phase::Listening(handle) if stack.tcp_acceptable(handle) > 0 => return Ok(n::TM_CB_ACCEPT),
                Phase::Open(handle) => handle,
                _ => return Ok(0),
            };
            let mut bits = if stream.is_urgent(stack) { n::TM_CB_RECV_OOB } else { 0 };
            if stream.has_error(stack) {
                bits |= n::TM_CB_SOCKET_ERROR;
            }
            let Some(connection) = stack.tcp_connection(handle) else { return Ok(bits) };
            if connection.waiting_bytes() > 0 {
                bits |= n::TM_CB_RECV;
            }
            let finished = connection.close_reason().is_none() && !connection.state().can_receive();
            if finished && connection.state().is_synchronized() {
                bits |= n::TM_CB_REMOTE_CLOSE;
            }
            Ok(bits)
        });
        bits.unwrap_or(0)
    }
}

impl Stream {
    /// The peer has our FIN, or will never have it, or sends what nobody will read.
    fn has_left(&self, stack: &Stack, handle: TcpHandle) -> bool {
        stack.tcp_connection(handle).is_none_or(|connection| {
            connection.close_reason().is_some()
                || connection.waiting_bytes() > 0
                || matches!(connection.state(), TcpState::FinWait2 | TcpState::TimeWait | TcpState::Closed)
        })
    }

    /// There is urgent data to be had, or to come.
    pub(super) fn is_urgent(&self, stack: &Stack) -> bool {
        let Phase::Open(handle) = self.phase else { return false };
        self.urgent && stack.tcp_connection(handle).is_some_and(|connection| connection.bytes_to_mark().is_some())
    }

    /// Frees what nobody will read.
    fn discard(&self, stack: &mut Stack, handle: TcpHandle) {
        while let Some(Ok(buf)) = stack.tcp_recv(handle) {
            drop(buf);
        }
    }
}
