//! The way of a zero-copy send on which nothing is out of the ordinary: one look at each table, and what the Rust call does.

use super::{
    datagrams::DatagramHandle,
    error::Code,
    face::{Inside, Patience},
    messages::Kind,
    numbers as n,
    sockets::Socket,
    stream::Stream,
};
use crate::{
    buf::TxBuf,
    proto::tcp::SendRefusal,
    stack::{SendError, Stack, TcpHandle, UdpHandle},
    wire::udp::PAYLOAD_BYTES_MAX,
};
use std::{ffi::c_int, net::SocketAddrV4};

/// Sends the first `length` bytes of the message at `h` on socket `sd`, to `to` or to the connected peer. `None`: something is not as it mostly is, or the call would have to wait; nothing was
/// changed then, and the general way finds out what is to be done. Otherwise what the call returns.
#[inline(always)]
pub(super) fn send(
    face: &Inside,
    h: usize,
    (sd, length, flags): (c_int, c_int, c_int),
    to: Option<SocketAddrV4>,
) -> Option<c_int> {
    let len = usize::try_from(length).ok()?;
    if len == 0 || flags & !n::TM_MSG_DONTWAIT != 0 {
        return None;
    }
    let mut messages = face.messages.try_borrow_mut().ok()?;
    let mut sockets = face.sockets.try_borrow_mut().ok()?;
    let mut whole = face.stack.try_borrow_mut().ok()?;
    let (stack, socket) = (whole.as_deref_mut()?, sockets.get_mut(sd)?);
    let patience = if face.is_nested() { Patience::None } else { socket.tx_patience(flags) };
    let at_once = face.sends_at_once(patience);
    let mut sender = Sender::of(socket, stack, len, to)?;
    if let Sender::Datagrams(_, to) = sender
        && (at_once || face.has_old_time())
        // Where the way is known, the time makes no difference.
        && !stack.knows_way(*to.ip())
    {
        return None;
    }
    let (mut buf, message) = messages.take_plain(Kind::Message, h)?;
    let full_len = buf.len();
    if len > full_len {
        message.put_back(buf);
        return None;
    }
    buf.truncate(len);
    match sender.send(stack, buf, len) {
        Ok(()) => message.retire(),
        Err(Refused::WouldBlock(mut back)) => {
            let _ = back.set_len(full_len);
            message.put_back(back);
            return None;
        }
        Err(Refused::For(code)) => {
            message.retire();
            drop((messages, sockets, whole));
            return Some(face.failed(sd, code));
        }
    }
    if at_once {
        let (is_stream, now) = (matches!(sender, Sender::Stream(..)), stack.now());
        drop((messages, sockets, whole));
        if patience.is_none() && !is_stream {
            face.hand_over(now);
        } else {
            face.after_send(patience);
        }
    }
    Some(length)
}

/// Why nothing was sent.
enum Refused {
    WouldBlock(TxBuf),
    /// The buffer is gone.
    For(Code),
}

/// What sends.
enum Sender<'a> {
    Datagrams(UdpHandle, SocketAddrV4),
    Stream(TcpHandle, &'a mut Stream),
}

impl<'a> Sender<'a> {
    /// Nothing stands in the way of `len` bytes but, perhaps, what [`send`](Self::send) finds.
    #[inline(always)]
    fn of(socket: &'a mut Socket, stack: &Stack, len: usize, to: Option<SocketAddrV4>) -> Option<Self> {
        let Socket { datagram, stream, shut_wr, options, .. } = socket;
        if len > options.tx_bytes_max {
            return None;
        }
        match (datagram, stream) {
            (Some(DatagramHandle::Udp(udp)), _) if !*shut_wr && !options.dont_route && len <= PAYLOAD_BYTES_MAX => {
                let to = match (stack.udp_socket(*udp)?.remote, to) {
                    (Some(peer), None) => peer,
                    (None, Some(to)) if !to.ip().is_unspecified() && to.port() != 0 => to,
                    _ => return None,
                };
                Some(Self::Datagrams(*udp, to))
            }
            (None, Some(stream)) if to.is_none() => Some(Self::Stream(stream.sender(stack).ok()?, stream)),
            _ => None,
        }
    }

    #[inline(always)]
    fn send(&mut self, stack: &mut Stack, buf: TxBuf, len: usize) -> Result<(), Refused> {
        match self {
            Self::Datagrams(udp, to) => match stack.udp_send_to(*udp, buf, *to) {
                Ok(()) => Ok(()),
                Err(SendError::WouldBlock(back)) => Err(Refused::WouldBlock(back)),
                Err(other) => Err(Refused::For(other.into())),
            },
            Self::Stream(tcp, stream) => match stack.tcp_send(*tcp, buf) {
                Some(Ok(())) => {
                    stream.note_sent(len);
                    Ok(())
                }
                Some(Err(SendRefusal::WouldBlock(back) | SendRefusal::MessageSize(back))) => {
                    Err(Refused::WouldBlock(back))
                }
                other => Err(Refused::For(stream.refused(other.and_then(Result::err)))),
            },
        }
    }
}
