//! Data of streams: what goes in and comes out of the connections behind descriptors.

use super::{
    error::{BAD_SOCKET, Code, HOST_UNREACHABLE, INVALID, MESSAGE_SIZE, NO_BUFFERS, Outcome, WOULD_BLOCK},
    face::{Face, Patience},
    lent::Lease,
    numbers as n,
    sockets::{Later, SocketId},
    stream::{Incoming, NOT_CONNECTED, Phase, Refusal, SHUT_DOWN},
};
use crate::{
    buf::{Content, TxBuf},
    proto::tcp::SendRefusal,
    socket::TcpOptions,
    stack::TcpHandle,
};
use std::{ffi::c_int, rc::Rc};

impl Face {
    /// Sends the whole of `buf`, or of what `later` copies there, or nothing. On would-block the buffer is back in its place, on every other outcome it is gone.
    pub(super) fn stream_send_buffer(
        &self,
        id: SocketId,
        buf: &mut Option<TxBuf>,
        later: Option<Later<'_>>,
        urgent: bool,
        patience: Patience,
    ) -> Outcome<()> {
        self.on_connection(id, |stream, options, stack| {
            let handle = stream.sender(stack).map_err(|refusal| stream.tell(refusal))?;
            let len = buf.as_ref().map_or(later.map_or(0, |later| later.len), TxBuf::total_len);
            let oversized = len > options.tx_bytes_max;
            if oversized {
                if patience == Patience::None {
                    return Err(MESSAGE_SIZE);
                }
                if stack.tcp_connection(handle).is_some_and(|connection| connection.unacked_bytes() > 0) {
                    return Err(WOULD_BLOCK);
                }
            }
            let lease = later.and_then(|later| later.lease);
            let taken = match (buf.take(), later) {
                (Some(taken), _) => Some(taken),
                (None, Some(_)) if lease.is_some() => None,
                (None, Some(later)) => Some((later.copy)(stack).map_err(|code| {
                    let room = stack.tcp_connection(handle).map_or(0, |connection| connection.send_room());
                    // In the order of TRECK's table.
                    if room < len && !oversized { WOULD_BLOCK } else { code }
                })?),
                (None, None) => return Err(NO_BUFFERS),
            };
            if oversized {
                // Longer than the queue: it is taken whole once the queue is empty.
                let longer = u32::try_from(len).map_err(|_| MESSAGE_SIZE)?;
                stack.tcp_set_options(handle, TcpOptions { send_queue_bytes: longer, ..options.tcp() });
            }
            let sent = match (taken, lease) {
                (Some(taken), _) if urgent => stack.tcp_send_urgent(handle, taken),
                (Some(taken), _) => stack.tcp_send(handle, taken),
                (None, Some(lease)) => {
                    let content: Rc<dyn Content> = Rc::<Lease>::clone(lease);
                    let sent = stack.tcp_send_shared(handle, content, lease.range());
                    if matches!(sent, Some(Ok(false))) {
                        if oversized {
                            stack.tcp_set_options(handle, options.tcp());
                        }
                        return Err(WOULD_BLOCK);
                    }
                    sent.map(|sent| sent.map(|_| ()))
                }
                (None, None) => return Err(NO_BUFFERS),
            };
            if oversized {
                stack.tcp_set_options(handle, options.tcp());
            }
            match sent {
                Some(Ok(())) => {
                    stream.note_sent(len);
                    Ok(())
                }
                Some(Err(SendRefusal::WouldBlock(back))) => {
                    *buf = Some(back);
                    Err(WOULD_BLOCK)
                }
                other => Err(stream.refused(other.and_then(Result::err))),
            }
        })
    }

    /// Copies as much of `bytes` as there is room for; returns how many. `Ok(0)` for bytes: nothing now.
    pub(super) fn stream_send_copy(&self, id: SocketId, bytes: &[u8]) -> Result<usize, Refusal> {
        let sent = self.on_connection(id, |stream, _, stack| {
            let handle = match stream.sender(stack) {
                Ok(handle) => handle,
                Err(refusal) => return Ok(Err(refusal)),
            };
            match stack.tcp_send_slice(handle, bytes) {
                Some(Ok(sent)) => {
                    stream.note_sent(sent);
                    Ok(Ok(sent))
                }
                Some(Err(SendRefusal::Closed(reason))) => Ok(Err(Refusal::Ended(reason))),
                _ => Ok(Err(Refusal::Plain(NOT_CONNECTED))),
            }
        });
        sent.unwrap_or_else(|code| Err(Refusal::Plain(code)))
    }

    /// Sends a copy of one byte, urgent.
    pub(super) fn stream_send_urgent(&self, id: SocketId, byte: u8) -> Outcome<()> {
        let mut buf = self.on_connection(id, |stream, _, stack| {
            stream.sender(stack).map_err(|refusal| stream.tell(refusal))?;
            let mut buf = stack.pool().alloc_tx().ok_or(NO_BUFFERS)?;
            buf.put_slice(&[byte]).map_err(|_| NO_BUFFERS)?;
            Ok(Some(buf))
        })?;
        self.stream_send_buffer(id, &mut buf, None, true, Patience::None)?;
        self.with_stack(|stack| stack.counters.bytes_copied_tx += 1)
    }

    /// `MSG_DONTROUTE`: `TM_EHOSTUNREACH` if the peer of a stream that can be sent on is behind a gateway.
    pub(super) fn stream_may_route(&self, id: SocketId, flags: c_int) -> Outcome<()> {
        if flags & n::TM_MSG_DONTROUTE == 0 || !self.is_stream(id)? {
            return Ok(());
        }
        self.on_connection(id, |stream, _, stack| {
            let Some(connection) = stream.sender(stack).ok().and_then(|handle| stack.tcp_connection(handle)) else {
                return Ok(());
            };
            let route = stack.routes().lookup(*connection.endpoints().remote.ip());
            if route.is_some_and(|route| route.next_hop.is_some()) { Err(HOST_UNREACHABLE) } else { Ok(()) }
        })
        .or_else(|code| if code == NOT_CONNECTED { Ok(()) } else { Err(code) })
    }

    /// Bytes that a send takes now.
    pub(super) fn stream_room(&self, id: SocketId) -> Outcome<usize> {
        self.on_connection(id, |stream, _, stack| {
            let handle = stream.sender(stack).map_err(|_| NOT_CONNECTED)?;
            Ok(stack.tcp_connection(handle).map_or(0, |connection| connection.send_room()))
        })
    }

    /// See [`Stream::incoming`].
    pub(super) fn incoming(&self, id: SocketId) -> Outcome<Incoming> {
        self.on_connection(id, |stream, _, stack| Ok(stream.incoming(stack)))
    }

    /// The error for a refusal, which thereby is told.
    pub(super) fn tell_refusal(&self, id: SocketId, refusal: Refusal) -> Code {
        self.on_connection(id, |stream, _, _| Ok(stream.tell(refusal))).unwrap_or_else(|code| code)
    }

    /// Copies what has come into `to`; returns how many bytes.
    pub(super) fn stream_recv_copy(&self, handle: TcpHandle, to: &mut [u8]) -> Outcome<usize> {
        self.with_stack(|stack| match stack.tcp_recv_into(handle, to) {
            Some(Ok(bytes)) => bytes,
            _ => 0,
        })
    }

    /// Copies what has come and leaves it, `skip` bytes apart.
    pub(super) fn stream_peek(&self, handle: TcpHandle, mut skip: usize, to: &mut [u8]) -> Outcome<usize> {
        self.with_stack(|stack| {
            let mut done = 0;
            if let Some(connection) = stack.tcp_connection(handle) {
                for buf in connection.received() {
                    let len = buf.total_len();
                    if skip < len {
                        done += buf.copy_to(skip, &mut to[done..]);
                    }
                    skip = skip.saturating_sub(len);
                    if done == to.len() {
                        break;
                    }
                }
            }
            stack.counters.bytes_copied_rx += done as u64;
            done
        })
    }

    /// The next bytes in the frame that they came in, at most `bytes_max`; none at the end of the stream. What is only peeked at, and what is cut off a longer frame, is copied into a new
    /// buffer.
    pub(super) fn stream_recv_buffer(&self, id: SocketId, bytes_max: usize, peek: bool) -> Outcome<Option<TxBuf>> {
        self.on_connection(id, |stream, _, stack| {
            let handle = match stream.incoming(stack) {
                Incoming::Data(handle) => handle,
                Incoming::Finished => return Ok(None),
                Incoming::Nothing => return Err(WOULD_BLOCK),
                Incoming::Refused(refusal) => return Err(stream.tell(refusal)),
            };
            let first = stack.tcp_connection(handle).and_then(|connection| connection.peek());
            let first_len = first.map(|buf| buf.len()).ok_or(WOULD_BLOCK)?;
            if !peek && first_len <= bytes_max {
                let Some(Ok(buf)) = stack.tcp_recv(handle) else { return Err(WOULD_BLOCK) };
                let (buf, rest) = buf.split_first();
                if let Some(rest) = rest {
                    stack.tcp_unrecv(handle, rest);
                }
                return Ok(Some(buf.into_tx()));
            }
            let bytes = first_len.min(bytes_max);
            let mut copy = stack.pool().alloc_contiguous(bytes).ok_or(NO_BUFFERS)?;
            copy.set_len(bytes).map_err(|_| NO_BUFFERS)?;
            if let Some(first) = stack.tcp_connection(handle).and_then(|connection| connection.peek()) {
                first.copy_to(0, copy.as_mut_slice());
            }
            stack.counters.bytes_copied_rx += bytes as u64;
            if !peek && let Some(Ok(mut buf)) = stack.tcp_recv(handle) {
                buf.advance(bytes);
                stack.tcp_unrecv(handle, buf);
            }
            Ok(Some(copy))
        })
    }

    /// The urgent byte, once unless it is peeked at.
    pub(super) fn recv_urgent(&self, id: SocketId, peek: bool) -> Outcome<u8> {
        self.on_connection(id, |stream, options, stack| {
            let Phase::Open(handle) = stream.phase else { return Err(NOT_CONNECTED) };
            if options.urgent_inline {
                return Err(INVALID);
            }
            match stream.urgent_byte.take().or_else(|| stack.tcp_recv_urgent(handle)) {
                Some(byte) => {
                    stream.urgent = peek;
                    stream.urgent_byte = peek.then_some(byte);
                    Ok(byte)
                }
                None if stream.is_urgent(stack) => Err(WOULD_BLOCK),
                None => Err(INVALID),
            }
        })
    }

    /// Bytes to read before the urgent byte or its place.
    pub(super) fn bytes_to_mark(&self, id: SocketId) -> Outcome<Option<usize>> {
        self.on_connection(id, |stream, _, stack| {
            let Phase::Open(handle) = stream.phase else { return Err(NOT_CONNECTED) };
            Ok(stack.tcp_connection(handle).and_then(|connection| connection.bytes_to_mark()))
        })
    }

    /// Whether a receive, a send would not wait, and whether something exceptional is to be had.
    pub(super) fn stream_readiness(&self, id: SocketId) -> Outcome<[bool; 3]> {
        self.on_stream(id, |stream, options, stack| {
            let handle = match stream.phase {
                Phase::Idle | Phase::Promised(_) => return Ok([false; 3]),
                Phase::Listening(handle) => return Ok([stack.tcp_acceptable(handle) > 0, false, false]),
                Phase::Closing(_) => return Err(BAD_SOCKET),
                Phase::Open(handle) => handle,
            };
            let readable = match stream.incoming(stack) {
                Incoming::Data(_) => {
                    let waiting = stack.tcp_connection(handle).map_or(0, |connection| connection.waiting_bytes());
                    waiting >= options.rx_low_water_bytes
                        || stack.tcp_connection(handle).is_some_and(|connection| {
                            connection.close_reason().is_some() || !connection.state().can_receive()
                        })
                }
                Incoming::Finished => true,
                Incoming::Nothing | Incoming::Refused(Refusal::Plain(_)) => false,
                Incoming::Refused(Refusal::Ended(_)) => true,
            };
            let writable = match stream.sender(stack) {
                Ok(_) => {
                    let room = stack.tcp_connection(handle).map_or(0, |connection| connection.send_room());
                    room >= options.tx_low_water_bytes.min(options.tx_bytes_max).max(1)
                }
                Err(Refusal::Plain(code)) => code == SHUT_DOWN,
                Err(Refusal::Ended(_)) => true,
            };
            let failed = stream.has_error(stack);
            Ok([readable, writable, failed || stream.is_urgent(stack)])
        })
        .or_else(|code| if code == Code(n::TM_ENETDOWN) { Ok([false; 3]) } else { Err(code) })
    }

    /// (bytes to receive, bytes sent and acknowledged, bytes sent and not acknowledged)
    pub(super) fn stream_bytes(&self, id: SocketId) -> Outcome<(u64, u64, u64)> {
        self.on_stream(id, |stream, _, stack| {
            let (Phase::Open(handle) | Phase::Closing(handle)) = stream.phase else { return Ok((0, 0, 0)) };
            let connection = stack.tcp_connection(handle).ok_or(NOT_CONNECTED)?;
            let left = connection.unacked_bytes() as u64;
            Ok((connection.waiting_bytes() as u64, stream.sent_bytes.saturating_sub(left), left))
        })
        .or_else(|code| if code == Code(n::TM_ENETDOWN) { Ok((0, 0, 0)) } else { Err(code) })
    }
}
