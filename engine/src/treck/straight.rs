//! The way of a zero-copy send on which nothing is out of the ordinary: one look at each table, and what the Rust call does.

use super::{
    datagrams::DatagramHandle,
    face::{Inside, Patience},
    messages::Kind,
    numbers as n,
    sockets::Socket,
    stream::{Phase, Stream},
};
use crate::{
    buf::TxBuf,
    proto::IfaceId,
    stack::{Stack, UdpHandle},
};
use std::{ffi::c_int, net::SocketAddrV4};

/// Sends the first `length` bytes of the message at `h` on socket `sd`, to `to` or to the connected peer. `None`: something is not as it mostly is, or the call would have to wait; nothing was
/// changed then, and the general way finds out what is to be done. Otherwise what the call returns.
///
/// `FOR_STREAMS`: datagrams are sent by a function of their own, for which nothing that streams have in registers must be put away.
#[inline(always)]
pub(super) fn send<const FOR_STREAMS: bool>(
    face: &Inside,
    h: usize,
    (sd, length, flags): (c_int, c_int, c_int),
    to: Option<SocketAddrV4>,
) -> Option<c_int> {
    if length <= 0 || flags & !n::TM_MSG_DONTWAIT != 0 {
        return None;
    }
    let len = length as usize;
    let mut messages = face.messages.try_borrow_mut().ok()?;
    let mut sockets = face.sockets.try_borrow_mut().ok()?;
    let mut whole = face.stack.try_borrow_mut().ok()?;
    let (stack, socket) = (whole.as_deref_mut()?, sockets.get_mut(sd)?);
    if len > socket.options.tx_bytes_max {
        return None;
    }
    let mut message = messages.plain(Kind::Message, h)?;
    let full_len = message.held().as_ref()?.len();
    if len > full_len {
        return None;
    }
    let sent_on = match socket {
        Socket { datagram: Some(DatagramHandle::Udp(udp)), shut_wr: false, options, .. } if !options.dont_route => {
            message.held().as_mut()?.truncate(len);
            // Where the way is known, as it usually is, it makes no difference how old the stack's time is.
            let iface = match FOR_STREAMS {
                true => send_datagram_apart(stack, *udp, message.held(), to),
                false => send_datagram(stack, *udp, message.held(), to),
            };
            if iface.is_none() {
                let _ = message.held().as_mut()?.set_len(full_len);
                return None;
            }
            iface
        }
        Socket { datagram: None, stream: Some(stream), .. } if to.is_none() => {
            let Stream { phase: Phase::Open(tcp), shut_wr: false, .. } = **stream else { return None };
            message.held().as_mut()?.truncate(len);
            if stack.tcp_send_usual(tcp, message.held()).is_none() {
                let _ = message.held().as_mut()?.set_len(full_len);
                return None;
            }
            stream.note_sent(len);
            None
        }
        _ => return None,
    };
    message.retire();
    // What is sent within a callback goes with all else after it.
    if !face.telling.get() {
        let waits = !face.is_nested() && !socket.non_blocking && flags == 0;
        let patience = if waits { socket.tx_patience(flags) } else { Patience::None };
        drop((messages, sockets));
        if waits {
            drop(whole);
            face.after_send(patience);
        } else if face.sends_at_once(Patience::None) {
            if sent_on.is_none() {
                stack.set_now(face.now());
                stack.flush();
            }
            let now = stack.now();
            if !face.feed(stack, sent_on, now) {
                drop(whole);
                face.hand_over(now);
            }
        }
    }
    Some(length)
}

#[inline(always)]
fn send_datagram(
    stack: &mut Stack,
    udp: UdpHandle,
    held: &mut Option<TxBuf>,
    to: Option<SocketAddrV4>,
) -> Option<IfaceId> {
    stack.udp_send_usual(udp, held, None, |socket| match (socket.remote, to) {
        (Some(peer), None) => Some(peer),
        (None, Some(to)) if !to.ip().is_unspecified() && to.port() != 0 => Some(to),
        _ => None,
    })
}

#[inline(never)]
fn send_datagram_apart(
    stack: &mut Stack,
    udp: UdpHandle,
    held: &mut Option<TxBuf>,
    to: Option<SocketAddrV4>,
) -> Option<IfaceId> {
    send_datagram(stack, udp, held, to)
}
