//! Callbacks on sockets.

use super::{
    bsd::on_socket,
    datagrams::DatagramHandle::{self, Raw, Udp},
    error::{INVALID, WOULD_BLOCK},
    face::Face,
    numbers as n,
    sockets::SocketId,
    types::{ttUserSocketCBFunc, ttUserSocketCBParamFunc},
};
use crate::{
    socket::TcpEvent,
    stack::{ListenerHandle, Stack, StackEvent, TcpHandle},
};
use smallvec::SmallVec;
use std::ffi::{c_int, c_void};

/// Events told in one turn at most; the rest waits for the next.
const EVENTS_PER_TURN: usize = 256;

const ALL_EVENTS: c_int = n::TM_CB_CONNECT_COMPLT
    | n::TM_CB_ACCEPT
    | n::TM_CB_RECV
    | n::TM_CB_RECV_OOB
    | n::TM_CB_SEND_COMPLT
    | n::TM_CB_REMOTE_CLOSE
    | n::TM_CB_SOCKET_ERROR
    | n::TM_CB_RESET
    | n::TM_CB_CLOSE_COMPLT
    | n::TM_CB_WRITE_READY;

#[derive(Clone, Copy, Debug)]
enum Callback {
    Plain(unsafe extern "C" fn(c_int, c_int)),
    WithParam(unsafe extern "C" fn(c_int, *mut c_void, c_int), *mut c_void),
}

/// Who wants to hear of a socket, and of what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    callback: Callback,
    mask: c_int,
}

impl Watch {
    /// Tells what is wanted of `events`.
    fn call(self, sd: c_int, events: c_int) {
        let events = events & self.mask;
        if events == 0 {
            return;
        }
        match self.callback {
            // SAFETY: the application's function, called as its type says; it stays callable while it is registered. Nothing of the face is borrowed.
            Callback::Plain(function) => unsafe { function(sd, events) },
            // SAFETY: as above, with the pointer that was registered with it.
            Callback::WithParam(function, param) => unsafe { function(sd, param, events) },
        }
    }
}

/// `int tfRegisterSocketCB(int sd, ttUserSocketCBFunc fn, int mask)`: `fn(sd, events)` is called in a turn of the loop when one of the events in `mask` happened, until another is registered. A null function or an empty mask: nobody is. What is so already
/// is told in the next turn. The function may call the API; what would have to wait there answers `TM_EWOULDBLOCK`. Errors: `TM_EBADF`, `TM_EINVAL` (a bit that is no event).
#[unsafe(no_mangle)]
pub extern "C" fn tfRegisterSocketCB(sd: c_int, r#fn: ttUserSocketCBFunc, mask: c_int) -> c_int {
    register(sd, r#fn.map(Callback::Plain), mask)
}

/// `int tfRegisterSocketCBParam(int sd, ttUserSocketCBParamFunc fn, void *param, int mask)`: the same for `fn(sd, param, events)`.
#[unsafe(no_mangle)]
pub extern "C" fn tfRegisterSocketCBParam(
    sd: c_int,
    r#fn: ttUserSocketCBParamFunc,
    param: *mut c_void,
    mask: c_int,
) -> c_int {
    register(sd, r#fn.map(|function| Callback::WithParam(function, param)), mask)
}

fn register(sd: c_int, callback: Option<Callback>, mask: c_int) -> c_int {
    on_socket(sd, |face, id| {
        if mask & !ALL_EVENTS != 0 {
            return Err(INVALID);
        }
        let watch = callback.filter(|_| mask != 0).map(|callback| Watch { callback, mask });
        face.with_socket(id, |socket| socket.watch = watch)?;
        if watch.is_some() {
            face.late.try_borrow_mut().map_err(|_| WOULD_BLOCK)?.push(id);
            // Whoever turns the loop tells it.
            super::face::BEDROOM.ring_inside();
        }
        Ok(0)
    })
}

impl Face {
    fn watch(&self, id: SocketId) -> Option<Watch> {
        self.with_socket(id, |socket| socket.watch).ok().flatten()
    }

    /// Takes what the stack has to tell: streams go on with closing, whoever registered is called, and memory that was sent is given back. True if there was anything. Within a callback: nothing.
    pub(super) fn tell(&self) -> bool {
        if self.telling.replace(true) {
            return false;
        }
        let mut any = self.give_back();
        let late = self.late.try_borrow_mut().map(|mut late| std::mem::take(&mut *late)).unwrap_or_default();
        any |= !late.is_empty();
        for id in late {
            if let Some(watch) = self.watch(id) {
                watch.call(id.descriptor(), self.standing_events(id));
            }
        }
        let count = self.with_stack(|stack| stack.event_count()).unwrap_or(0).min(EVENTS_PER_TURN);
        for _ in 0..count {
            let Ok(Some(event)) = self.with_stack(Stack::next_event) else { break };
            any = true;
            match event {
                StackEvent::Tcp(handle) => self.tell_tcp(handle),
                StackEvent::TcpAcceptable(handle) => self.tell_acceptable(handle),
                StackEvent::UdpReadable(udp) => self.tell_datagram(Udp(udp), n::TM_CB_RECV),
                StackEvent::UdpWritable(udp) => self.tell_datagram(Udp(udp), n::TM_CB_WRITE_READY),
                StackEvent::UdpError(udp) => self.tell_datagram(Udp(udp), n::TM_CB_SOCKET_ERROR),
                StackEvent::RawReadable(raw) => self.tell_datagram(Raw(raw), n::TM_CB_RECV),
                StackEvent::RawWritable(raw) => self.tell_datagram(Raw(raw), n::TM_CB_WRITE_READY),
                StackEvent::RawError(raw) => self.tell_datagram(Raw(raw), n::TM_CB_SOCKET_ERROR),
                StackEvent::Timer(_) => {}
            }
        }
        self.telling.set(false);
        any
    }

    fn tell_tcp(&self, handle: TcpHandle) {
        let taken = self.with_stack(|stack| {
            let tag = stack.tcp_connection(handle).map_or(0, |connection| connection.tag);
            let mut events: SmallVec<[TcpEvent; 8]> = SmallVec::new();
            while let Some(event) = stack.tcp_poll_event(handle) {
                events.push(event);
            }
            (SocketId::of_tag(tag), events)
        });
        // One that nobody has accepted has its listener's tag, which is a number of another socket, or none.
        let Ok((Some(id), events)) = taken else { return };
        self.ring(id);
        if self.is_closing(id) {
            self.tell_closing(id);
            return;
        }
        let bits = events.into_iter().fold(0, |bits, event| bits | self.handle_tcp_event(id, handle, event));
        if let Some(watch) = self.watch(id) {
            watch.call(id.descriptor(), bits);
            // A callback that took some and left some hears again.
            let _ = self.with_stack(|stack| stack.tcp_relist(handle));
        }
    }

    fn tell_closing(&self, id: SocketId) {
        if !self.advance_closing(id) {
            return;
        }
        let watch = self.watch(id);
        let freed = self.free_socket(id);
        if let (Some(watch), Ok(())) = (watch, freed) {
            watch.call(id.descriptor(), n::TM_CB_CLOSE_COMPLT);
        }
    }

    fn tell_acceptable(&self, handle: ListenerHandle) {
        let waiting = || self.with_stack(|stack| (stack.tcp_listener_tag(handle), stack.tcp_acceptable(handle)));
        let Ok((Some(tag), before)) = waiting() else { return };
        let Some(id) = SocketId::of_tag(tag) else { return };
        self.ring(id);
        let Some(watch) = self.watch(id) else { return };
        watch.call(id.descriptor(), n::TM_CB_ACCEPT);
        if waiting().is_ok_and(|(_, after)| after < before) {
            let _ = self.with_stack(|stack| stack.tcp_relist_listener(handle));
        }
    }

    fn tell_datagram(&self, handle: DatagramHandle, bit: c_int) {
        let id = self.sockets.try_borrow().ok().and_then(|sockets| sockets.owner(handle));
        let Some(id) = id else { return };
        self.ring(id);
        let Some(watch) = self.watch(id) else { return };
        let waiting = || self.with_stack(|stack| handle.queued(stack).0);
        let before = waiting();
        watch.call(id.descriptor(), bit);
        if bit == n::TM_CB_RECV && waiting().is_ok_and(|after| before.is_ok_and(|before| after < before)) {
            let _ = self.with_stack(|stack| handle.relist(stack));
        }
    }
}
