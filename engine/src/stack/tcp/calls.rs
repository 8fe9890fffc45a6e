//! The calls on connections.

use super::{TcpHandle, list_ready, listed};
use crate::{
    buf::{Content, RxBuf, TxBuf},
    proto::tcp::{Connection, RecvRefusal, SendRefusal, TcpEvent, TcpInfo, TcpOptions},
    stack::{Stack, StackEvent},
};
use std::{ops::Range, rc::Rc};

impl Stack {
    /// Sends a buffer on a connection, whole and uncopied.
    ///
    /// # Errors
    /// See [`SendRefusal`]; `None`: no such connection.
    #[inline]
    pub fn tcp_send(&mut self, handle: TcpHandle, buf: TxBuf) -> Option<Result<(), SendRefusal>> {
        match self.tcp_queue(handle, buf) {
            Ok(()) => Some(Ok(())),
            Err(buf) => self.tcp_refuse(handle, buf),
        }
    }

    /// As [`tcp_send`](Self::tcp_send).
    ///
    /// # Errors
    /// Gives the buffer back: [`tcp_refuse`](Self::tcp_refuse) tells why.
    #[inline(always)]
    pub fn tcp_queue(&mut self, handle: TcpHandle, buf: TxBuf) -> Result<(), TxBuf> {
        let Some(slot) = self.tcp.slots.get_mut(handle.index as usize) else { return Err(buf) };
        let Some(connection) = slot.connection.as_deref_mut() else { return Err(buf) };
        if slot.generation != handle.generation || connection.is_detached() {
            return Err(buf);
        }
        connection.send(buf, self.pool.is_scarce(), &mut self.tcp.spares)?;
        list_ready(connection, handle.index, &mut self.tcp.ready);
        Ok(())
    }

    /// Why a buffer could not be queued; see [`tcp_send`](Self::tcp_send).
    #[cold]
    pub fn tcp_refuse(&mut self, handle: TcpHandle, buf: TxBuf) -> Option<Result<(), SendRefusal>> {
        self.with_handle(handle, |connection, _| Err(connection.refuse(buf)))
    }

    /// As [`tcp_send`](Self::tcp_send), where the connection is open and takes what is held; otherwise `None`, and nothing happens.
    #[inline(always)]
    pub(crate) fn tcp_send_usual(&mut self, handle: TcpHandle, held: &mut Option<TxBuf>) -> Option<()> {
        let len = held.as_ref()?.total_len();
        let slot = self.tcp.slots.get_mut(handle.index as usize).filter(|slot| slot.generation == handle.generation)?;
        let connection = slot.connection.as_deref_mut()?;
        if !connection.state().can_send() || !connection.takes(len, self.pool.is_scarce()) {
            return None;
        }
        connection.enqueue(held.take()?, &mut self.tcp.spares);
        list_ready(connection, handle.index, &mut self.tcp.ready);
        Some(())
    }

    /// Sends part of bytes that other connections may send too.
    ///
    /// # Errors
    /// See [`SendRefusal`]; `Ok(false)`: no room, or not such a part.
    pub fn tcp_send_shared(
        &mut self,
        handle: TcpHandle,
        bytes: Rc<dyn Content>,
        range: Range<usize>,
    ) -> Option<Result<bool, SendRefusal>> {
        self.with_handle(handle, |connection, stack| connection.send_shared(bytes, range, stack))
    }

    /// As [`tcp_send`](Self::tcp_send), the last byte urgent.
    ///
    /// # Errors
    /// See [`SendRefusal`].
    pub fn tcp_send_urgent(&mut self, handle: TcpHandle, buf: TxBuf) -> Option<Result<(), SendRefusal>> {
        self.with_handle(handle, |connection, stack| connection.send_urgent(buf, stack))
    }

    /// Sends a copy of as much of `bytes` as there is room for.
    ///
    /// # Errors
    /// See [`SendRefusal`].
    pub fn tcp_send_slice(&mut self, handle: TcpHandle, bytes: &[u8]) -> Option<Result<usize, SendRefusal>> {
        self.with_handle(handle, |connection, stack| connection.send_slice(bytes, stack))
    }

    /// The oldest bytes that came, in their frame.
    ///
    /// # Errors
    /// See [`RecvRefusal`].
    #[inline]
    pub fn tcp_recv(&mut self, handle: TcpHandle) -> Option<Result<RxBuf, RecvRefusal>> {
        match self.tcp_take(handle) {
            Some(buf) => Some(Ok(buf)),
            None => self.tcp_recv_nothing(handle),
        }
    }

    /// The oldest bytes that came, in their frame, if there are any.
    #[inline(always)]
    pub fn tcp_take(&mut self, handle: TcpHandle) -> Option<RxBuf> {
        let slot = self.tcp.slots.get_mut(handle.index as usize)?;
        if slot.generation != handle.generation {
            return None;
        }
        let connection = slot.connection.as_deref_mut().filter(|connection| !connection.is_detached())?;
        let (buf, frames) = connection.take_received(&mut self.tcp.spares, self.now)?;
        self.tcp.rx_frames -= frames;
        if connection.after_recv() {
            list_ready(connection, handle.index, &mut self.tcp.ready);
        }
        Some(buf)
    }

    /// Why there is nothing to receive.
    #[inline(never)]
    fn tcp_recv_nothing(&mut self, handle: TcpHandle) -> Option<Result<RxBuf, RecvRefusal>> {
        self.with_handle(handle, |connection, stack| connection.recv(stack))
    }

    /// Copies what has come.
    ///
    /// # Errors
    /// See [`RecvRefusal`].
    pub fn tcp_recv_into(&mut self, handle: TcpHandle, to: &mut [u8]) -> Option<Result<usize, RecvRefusal>> {
        self.with_handle(handle, |connection, stack| {
            let received = connection.recv_into(to, stack);
            connection.after_recv();
            received
        })
    }

    /// Puts back what was received and not used.
    pub fn tcp_unrecv(&mut self, handle: TcpHandle, buf: RxBuf) {
        self.with_handle(handle, |connection, stack| connection.unrecv(buf, stack));
    }

    /// The urgent byte, once.
    pub fn tcp_recv_urgent(&mut self, handle: TcpHandle) -> Option<u8> {
        self.with_handle(handle, |connection, _| connection.recv_urgent())?
    }

    /// No more to send.
    pub fn tcp_shutdown(&mut self, handle: TcpHandle) {
        self.with_handle(handle, |connection, _| connection.shutdown());
    }

    /// The application has no more to do with it.
    pub fn tcp_close(&mut self, handle: TcpHandle) {
        self.with_handle(handle, |connection, stack| connection.close(stack));
        self.note_orphan(handle);
    }

    /// Resets it.
    pub fn tcp_abort(&mut self, handle: TcpHandle) {
        self.with_handle(handle, |connection, stack| connection.abort(stack));
    }

    /// Changes its tunables.
    pub fn tcp_set_options(&mut self, handle: TcpHandle, options: TcpOptions) {
        self.with_handle(handle, |connection, stack| connection.set_options(Rc::new(options), stack));
    }

    /// The application's own number for a connection.
    pub fn tcp_set_tag(&mut self, handle: TcpHandle, tag: u64) {
        self.with_handle(handle, |connection, _| connection.tag = tag);
    }

    /// A connection to look at.
    pub fn tcp_connection(&self, handle: TcpHandle) -> Option<&Connection> {
        self.tcp.get(handle)
    }

    /// What is known of it.
    pub fn tcp_info(&self, handle: TcpHandle) -> Option<TcpInfo> {
        self.tcp.get(handle).map(Connection::info)
    }

    /// Its next event.
    #[inline]
    pub fn tcp_poll_event(&mut self, handle: TcpHandle) -> Option<TcpEvent> {
        let slot = self.tcp.slots.get_mut(handle.index as usize)?;
        if slot.generation != handle.generation {
            return None;
        }
        slot.connection.as_mut()?.poll_event()
    }

    /// After an application has heard of data: it hears again next turn if it is taking and there is more.
    #[inline]
    pub fn tcp_relist(&mut self, handle: TcpHandle) {
        let Some(slot) = self.tcp.slots.get_mut(handle.index as usize) else { return };
        if slot.generation != handle.generation {
            return;
        }
        let Some(connection) = &mut slot.connection else { return };
        connection.relist();
        if connection.has_events() && connection.listed & listed::EVENT == 0 {
            connection.listed |= listed::EVENT;
            self.events.push_back(StackEvent::Tcp(handle));
        }
    }
}
