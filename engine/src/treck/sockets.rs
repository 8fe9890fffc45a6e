//! Descriptors, and what can be done with the datagram sockets behind them (streams: `stream`). The calls of the header are in `bsd`, `transfer` and `zero_copy`.

use super::{
    datagrams::DatagramHandle,
    error::{BAD_SOCKET, Code, HOST_UNREACHABLE, INVALID, MESSAGE_SIZE, NO_BUFFERS, Outcome, WOULD_BLOCK, note},
    events::Watch,
    face::{Face, Patience},
    lent::Lease,
    numbers as n,
    park::{Bed, Beds},
    settings::Options,
    stream::{Phase, Stream},
};
use crate::{
    buf::{RxBuf, TxBuf},
    socket::{Datagram, SendError},
    stack::Stack,
    time::{Duration, Instant},
};
use std::{
    collections::BTreeMap,
    ffi::c_int,
    net::{Ipv4Addr, SocketAddrV4},
    rc::Rc,
    sync::Arc,
};

/// Most descriptors: as many as there are ports.
pub(super) const SOCKETS_MAX: usize = 65_535;

/// A socket as its descriptor knows it.
#[derive(Debug)]
pub(super) struct Socket {
    /// Set once a UDP socket is bound, and once there is a stack for a raw one.
    pub(super) datagram: Option<DatagramHandle>,
    /// It is a raw socket, of this protocol.
    pub(super) raw: Option<u8>,
    /// Bound before there was a stack; asked of the stack when the first interface is opened.
    recorded: Option<SocketAddrV4>,
    /// It is a stream, and none of the other fields' sockets.
    pub(super) stream: Option<Box<Stream>>,
    /// Who wants to hear of events.
    pub(super) watch: Option<Watch>,
    pub(super) non_blocking: bool,
    pub(super) shut_rd: bool,
    pub(super) shut_wr: bool,
    pub(super) options: Options,
    pub(super) last_error: c_int,
    /// Who waits for something to happen here.
    pub(super) beds: Beds,
}

impl Socket {
    fn new(phase: Option<Phase>) -> Self {
        Self {
            datagram: None,
            raw: None,
            recorded: None,
            stream: phase.map(|phase| Box::new(Stream::new(phase))),
            watch: None,
            non_blocking: false,
            shut_rd: false,
            shut_wr: false,
            options: if phase.is_some() { Options::stream() } else { Options::datagram() },
            last_error: n::TM_ENOERROR,
            beds: Beds::new(),
        }
    }

    #[inline]
    fn patience(&self, flags: c_int, timeout: Duration) -> Patience {
        if self.non_blocking || flags & n::TM_MSG_DONTWAIT != 0 {
            Patience::None
        } else if timeout.is_zero() {
            Patience::Endless
        } else {
            Patience::For(timeout)
        }
    }

    pub(super) fn rx_patience(&self, flags: c_int) -> Patience {
        self.patience(flags, self.options.rx_timeout)
    }

    #[inline]
    pub(super) fn tx_patience(&self, flags: c_int) -> Patience {
        self.patience(flags, self.options.tx_timeout)
    }
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    socket: Option<Socket>,
}

/// What a send copies, when nothing else is left that could be refused.
#[derive(Clone, Copy)]
pub(super) struct Later<'a> {
    pub(super) len: usize,
    /// Makes the copy, and counts it.
    pub(super) copy: &'a dyn Fn(&mut Stack) -> Outcome<TxBuf>,
    /// The same bytes as they lie: then there is no copy. Of a stream they are one part, and not urgent; of a datagram it is a UDP socket's.
    pub(super) lease: Option<&'a Rc<Lease>>,
}

/// All descriptors. Number `sd` is slot `sd - 1`: 0 is never one.
#[derive(Debug)]
pub(super) struct SocketTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Whose an engine's datagram socket is.
    owners: BTreeMap<DatagramHandle, SocketId>,
}

impl SocketId {
    /// A number for the engine to keep; never 0.
    pub(super) fn tag(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index + 1)
    }

    /// The socket that a tag names, if it names one.
    pub(super) fn of_tag(tag: u64) -> Option<Self> {
        Some(Self { index: (tag as u32).checked_sub(1)?, generation: (tag >> 32) as u32 })
    }

    /// Its descriptor.
    pub(super) fn descriptor(self) -> c_int {
        self.index as c_int + 1
    }
}

/// A socket, for a call that sleeps meanwhile: the descriptor may be another's when it wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketId {
    index: u32,
    generation: u32,
}

impl SocketTable {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), owners: BTreeMap::new() }
    }

    #[inline]
    fn find(&self, sd: c_int) -> Option<SocketId> {
        let index = u32::try_from(sd).ok()?.checked_sub(1)?;
        let slot = self.slots.get(index as usize).filter(|slot| slot.socket.is_some())?;
        Some(SocketId { index, generation: slot.generation })
    }

    /// The socket of a descriptor.
    #[inline]
    pub(super) fn get_mut(&mut self, sd: c_int) -> Option<&mut Socket> {
        self.slots.get_mut(usize::try_from(sd).ok()?.checked_sub(1)?)?.socket.as_mut()
    }

    /// All streams.
    pub(super) fn streams(&self) -> Vec<SocketId> {
        let at = |(index, slot): (usize, &Slot)| SocketId { index: index as u32, generation: slot.generation };
        let is_stream = |slot: &Slot| slot.socket.as_ref().is_some_and(|socket| socket.stream.is_some());
        self.slots.iter().enumerate().filter(|(_, slot)| is_stream(slot)).map(at).collect()
    }

    /// Who waits for a socket.
    pub(super) fn beds(&self, id: SocketId) -> &[Arc<Bed>] {
        let slot = self.slots.get(id.index as usize).filter(|slot| slot.generation == id.generation);
        slot.and_then(|slot| slot.socket.as_ref()).map_or(&[], |socket| &socket.beds)
    }

    /// Who waits for any.
    pub(super) fn all_beds(&self) -> impl Iterator<Item = &Arc<Bed>> {
        self.slots.iter().filter_map(|slot| slot.socket.as_ref()).flat_map(|socket| &socket.beds)
    }

    /// The socket that has an engine's datagram socket.
    pub(super) fn owner(&self, datagram: DatagramHandle) -> Option<SocketId> {
        self.owners.get(&datagram).copied()
    }

    pub(super) fn own(&mut self, datagram: DatagramHandle, id: SocketId) {
        self.owners.insert(datagram, id);
    }

    #[inline]
    fn slot(&mut self, id: SocketId) -> Option<&mut Slot> {
        self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)
    }
}

impl Face {
    /// A new descriptor: of a stream in `phase`, or of a datagram socket.
    pub(super) fn open_socket(&self, phase: Option<Phase>) -> Outcome<c_int> {
        let mut sockets = self.sockets.try_borrow_mut().map_err(|_| WOULD_BLOCK)?;
        if let Some(index) = sockets.free.pop()
            && let Some(slot) = sockets.slots.get_mut(index as usize)
        {
            slot.socket = Some(Socket::new(phase));
            return Ok(index as c_int + 1);
        }
        if sockets.slots.len() >= SOCKETS_MAX {
            return Err(Code(n::TM_EMFILE));
        }
        sockets.slots.push(Slot { generation: 0, socket: Some(Socket::new(phase)) });
        Ok(sockets.slots.len() as c_int)
    }

    /// The socket of a descriptor.
    #[inline]
    pub(super) fn socket_id(&self, sd: c_int) -> Outcome<SocketId> {
        self.sockets.try_borrow().map_err(|_| WOULD_BLOCK)?.find(sd).ok_or(BAD_SOCKET)
    }

    #[inline]
    pub(super) fn with_socket<R>(&self, id: SocketId, f: impl FnOnce(&mut Socket) -> R) -> Outcome<R> {
        let mut sockets = self.sockets.try_borrow_mut().map_err(|_| WOULD_BLOCK)?;
        sockets.slot(id).and_then(|slot| slot.socket.as_mut()).map(f).ok_or(BAD_SOCKET)
    }

    /// Stores a call's error where `tfGetSocketError` finds it; -1 for the caller.
    #[cold]
    pub(super) fn failed(&self, sd: c_int, code: Code) -> c_int {
        if let Ok(id) = self.socket_id(sd) {
            let _ = self.with_socket(id, |socket| socket.last_error = code.0);
        }
        note(code);
        n::TM_SOCKET_ERROR
    }

    /// It is a stream.
    #[inline]
    pub(super) fn is_stream(&self, id: SocketId) -> Outcome<bool> {
        self.with_socket(id, |socket| socket.stream.is_some())
    }

    /// Closes a datagram socket: what it had received is freed, whoever waits on it gets `TM_EBADF`.
    pub(super) fn close_datagram(&self, id: SocketId) -> Outcome<()> {
        let datagram = self.with_socket(id, |socket| socket.datagram)?;
        if let Some(datagram) = datagram {
            self.with_stack(|stack| datagram.close(stack))?;
            self.sockets.try_borrow_mut().map_err(|_| WOULD_BLOCK)?.owners.remove(&datagram);
        }
        self.free_socket(id)
    }

    /// The descriptor names nothing from now on.
    pub(super) fn free_socket(&self, id: SocketId) -> Outcome<()> {
        self.ring(id);
        let mut sockets = self.sockets.try_borrow_mut().map_err(|_| WOULD_BLOCK)?;
        if let Some(slot) = sockets.slot(id)
            && slot.socket.take().is_some()
        {
            slot.generation = slot.generation.wrapping_add(1);
            sockets.free.push(id.index);
        }
        Ok(())
    }

    /// Binds a socket that is not bound yet.
    pub(super) fn bind_socket(&self, id: SocketId, local: SocketAddrV4) -> Outcome<()> {
        if self.is_stream(id)? {
            return self.bind_stream(id, local);
        }
        if self.with_socket(id, |socket| socket.raw.is_some())? {
            return self.bind_raw(id, *local.ip());
        }
        let (bound, options) =
            self.with_socket(id, |socket| (socket.datagram.is_some() || socket.recorded.is_some(), socket.options))?;
        if bound {
            return Err(INVALID);
        }
        match self.with_stack(|stack| open_udp(stack, local, options)) {
            Ok(udp) => {
                let udp = udp?;
                self.with_socket(id, |socket| socket.datagram = Some(udp))?;
                self.sockets.try_borrow_mut().map_err(|_| WOULD_BLOCK)?.own(udp, id);
                Ok(())
            }
            // No interface yet: the port is promised, an address cannot be.
            Err(Code(n::TM_ENETDOWN)) => self.record(id, local),
            Err(code) => Err(code),
        }
    }

    fn record(&self, id: SocketId, local: SocketAddrV4) -> Outcome<()> {
        if !local.ip().is_unspecified() {
            return Err(Code(n::TM_EADDRNOTAVAIL));
        }
        let mut sockets = self.sockets.try_borrow_mut().map_err(|_| WOULD_BLOCK)?;
        let mut recorded = sockets.slots.iter().filter_map(|slot| slot.socket.as_ref()?.recorded);
        if local.port() != 0 && recorded.any(|other| other.port() == local.port()) {
            return Err(Code(n::TM_EADDRINUSE));
        }
        let socket = sockets.slot(id).and_then(|slot| slot.socket.as_mut()).ok_or(BAD_SOCKET)?;
        socket.recorded = Some(local);
        Ok(())
    }

    /// Asks the stack for what was promised while there was none: those with a port first, so that no ephemeral one takes it.
    pub(super) fn bind_recorded(&self) {
        let Ok(mut sockets) = self.sockets.try_borrow_mut() else { return };
        for fixed in [true, false] {
            let SocketTable { slots, owners, .. } = &mut *sockets;
            for (index, slot) in slots.iter_mut().enumerate() {
                let id = SocketId { index: index as u32, generation: slot.generation };
                let Some(socket) = slot.socket.as_mut() else { continue };
                let Some(local) = socket.recorded.filter(|local| (local.port() != 0) == fixed) else { continue };
                match self.with_stack(|stack| open_udp(stack, local, socket.options)) {
                    Ok(Ok(udp)) => {
                        socket.datagram = Some(udp);
                        owners.insert(udp, id);
                    }
                    Ok(Err(code)) | Err(code) => socket.last_error = code.0,
                }
                socket.recorded = None;
            }
        }
        let raw = |(index, slot): (usize, &Slot)| {
            let protocol = slot.socket.as_ref()?.raw?;
            Some((SocketId { index: index as u32, generation: slot.generation }, protocol))
        };
        let promised: Vec<_> = sockets.slots.iter().enumerate().filter_map(raw).collect();
        drop(sockets);
        for (id, protocol) in promised {
            if let Err(code) = self.open_raw(id, protocol) {
                let _ = self.with_socket(id, |socket| socket.last_error = code.0);
            }
        }
        self.listen_promised();
    }

    /// The stack's socket; one that was not bound is bound to an unused port.
    fn bound(&self, id: SocketId) -> Outcome<DatagramHandle> {
        match self.with_socket(id, |socket| (socket.datagram, socket.raw))? {
            (Some(datagram), _) => return Ok(datagram),
            (None, Some(protocol)) => return self.open_raw(id, protocol),
            (None, None) => {}
        }
        self.bind_socket(id, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
        self.with_socket(id, |socket| socket.datagram)?.ok_or(Code(n::TM_ENETDOWN))
    }

    /// Connects to `remote`, or to nobody.
    pub(super) fn connect_socket(&self, id: SocketId, remote: Option<SocketAddrV4>) -> Outcome<()> {
        let Some(remote) = remote else {
            return match self.with_socket(id, |socket| socket.datagram)? {
                Some(datagram) => self.with_stack(|stack| datagram.connect(stack, None))?,
                None => Ok(()),
            };
        };
        let remote = self.checked_destination(id, remote)?;
        self.with_stack(|_| ()).map_err(no_network)?;
        let datagram = self.bound(id)?;
        self.with_stack(|stack| datagram.connect(stack, Some(remote)))?
    }

    /// (local, remote) endpoints.
    pub(super) fn endpoints(&self, id: SocketId) -> Outcome<(SocketAddrV4, Option<SocketAddrV4>)> {
        if self.is_stream(id)? {
            return match self.stream_endpoints(id) {
                Err(Code(n::TM_ENETDOWN)) => Ok((SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), None)),
                other => other,
            };
        }
        let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let (datagram, recorded) = self.with_socket(id, |socket| (socket.datagram, socket.recorded))?;
        let Some(datagram) = datagram else { return Ok((recorded.unwrap_or(nowhere), None)) };
        self.with_stack(|stack| {
            let (local, remote) = datagram.endpoints(stack)?;
            let source =
                remote.filter(|_| local.ip().is_unspecified()).and_then(|remote| stack.source_for(*remote.ip()));
            Ok((SocketAddrV4::new(source.unwrap_or(*local.ip()), local.port()), remote))
        })?
    }

    /// Hands new options to the stack's socket.
    pub(super) fn apply_options(&self, id: SocketId) -> Outcome<()> {
        let (datagram, phase, options) = self.with_socket(id, |socket| {
            (socket.datagram, socket.stream.as_deref().map(|stream| stream.phase), socket.options)
        })?;
        match phase {
            Some(Phase::Listening(handle)) => {
                return self.with_stack(|stack| stack.tcp_set_listener_options(handle, options.tcp()));
            }
            Some(Phase::Open(handle) | Phase::Closing(handle)) => {
                return self.with_stack(|stack| stack.tcp_set_options(handle, options.tcp()));
            }
            _ => {}
        }
        match datagram {
            Some(datagram) => self.with_stack(|stack| datagram.apply(stack, options)),
            None => Ok(()),
        }
    }

    /// Sends `buf`, or what `later` copies there, as one datagram: to `to`, or to the connected peer. On would-block the buffer is back in its place, on every other outcome it is gone.
    pub(super) fn send_buffer(
        &self,
        id: SocketId,
        buf: &mut Option<TxBuf>,
        later: Option<Later<'_>>,
        to: Option<SocketAddrV4>,
        flags: c_int,
        patience: Patience,
    ) -> Outcome<()> {
        let (shut, datagram, dont_route, bytes_max) = self.with_socket(id, |socket| {
            let longest = socket.datagram_bytes_max();
            let bytes_max = if patience.is_none() { socket.options.tx_bytes_max.min(longest) } else { longest };
            (socket.shut_wr, socket.datagram, socket.options.dont_route, bytes_max)
        })?;
        if shut {
            return Err(Code(n::TM_ESHUTDOWN));
        }
        let datagram = match (datagram, to) {
            (Some(datagram), _) => datagram,
            (None, Some(_)) => self.bound(id).map_err(no_network)?,
            (None, None) => return Err(Code(n::TM_ENOTCONN)),
        };
        let at_once = self.sends_at_once(patience);
        let old_time = at_once || self.has_old_time();
        let dont_route = dont_route || flags & n::TM_MSG_DONTROUTE != 0;
        let mut relieved = false;
        let sent = loop {
            let sent = self.with_stack(|stack| {
                let to = datagram.destination(stack, to)?;
                // Where the way is known, the time makes no difference.
                if old_time && !stack.knows_way(*to.ip()) {
                    stack.set_now(self.now());
                }
                send_datagram(stack, datagram, buf, later, to, dont_route, bytes_max)
            });
            match sent.map_err(no_network).flatten() {
                Err(code) if !std::mem::replace(&mut relieved, true) && self.relieve(code) => {}
                sent => break sent,
            }
        };
        if sent.is_ok() && at_once {
            // A blocking sender may never call anything else, and needs the answers to its ARP requests.
            if patience.is_none() {
                self.hand_over(self.with_stack(|stack| stack.now()).unwrap_or(Instant::ZERO));
            } else {
                self.turn();
            }
        }
        sent
    }

    /// Frees, perhaps, what a send was refused for; false if there is nothing to be done.
    #[cold]
    fn relieve(&self, code: Code) -> bool {
        if code == WOULD_BLOCK && self.may_turn() {
            // The queue is full of what the port was not offered yet, perhaps.
            self.flush(self.now());
            return true;
        }
        let sent_frames = code == NO_BUFFERS && !self.telling.get();
        if sent_frames {
            // Sent frames may be done with.
            self.reclaim();
        }
        sent_frames
    }

    /// Copies the oldest datagram into the parts of `to`: (bytes, sender); no sender after a shutdown.
    pub(super) fn recv_copy(
        &self,
        id: SocketId,
        to: &mut [&mut [u8]],
        peek: bool,
    ) -> Outcome<(usize, Option<SocketAddrV4>)> {
        let (shut, datagram) = self.with_socket(id, |socket| (socket.shut_rd, socket.datagram))?;
        if shut {
            return Ok((0, None));
        }
        let datagram = datagram.ok_or(WOULD_BLOCK)?;
        self.with_stack(|stack| {
            let copied = if peek {
                datagram.peek(stack).map(|first| (copy_to_parts(&first.buf, to), first.from))
            } else {
                datagram.recv(stack).map(|first| (copy_to_parts(&first.buf, to), first.from))
            };
            let (bytes, from) = copied.ok_or_else(|| nothing_received(stack, datagram))?;
            stack.counters.bytes_copied_rx += bytes as u64;
            Ok((bytes, Some(from)))
        })?
    }

    /// The oldest datagram's own frame, cut to `bytes_max`; none after a shutdown. What does not lie in one piece, unless it may be `scattered`, or is only peeked at, is copied into a new buffer.
    pub(super) fn recv_buffer(
        &self,
        id: SocketId,
        bytes_max: usize,
        peek: bool,
        scattered: bool,
    ) -> Outcome<Option<(TxBuf, SocketAddrV4)>> {
        let (shut, datagram) = self.with_socket(id, |socket| (socket.shut_rd, socket.datagram))?;
        if shut {
            return Ok(None);
        }
        let datagram = datagram.ok_or(WOULD_BLOCK)?;
        self.with_stack(|stack| {
            let Some(first) = datagram.peek(stack) else { return Err(nothing_received(stack, datagram)) };
            if !peek && (scattered || !first.buf.is_chain()) {
                let Some(Datagram { mut buf, from, .. }) = datagram.recv(stack) else { return Err(WOULD_BLOCK) };
                buf.cut(bytes_max);
                return Ok(Some((buf.into_tx(), from)));
            }
            let (bytes, from) = (first.buf.total_len().min(bytes_max), first.from);
            let mut copy = stack.pool().alloc_contiguous(bytes).ok_or(NO_BUFFERS)?;
            copy.set_len(bytes).map_err(|_| NO_BUFFERS)?;
            first.buf.copy_to(0, copy.as_mut_slice());
            stack.counters.bytes_copied_rx += bytes as u64;
            if !peek {
                drop(datagram.recv(stack));
            }
            Ok(Some((copy, from)))
        })?
    }

    /// Whether a receive would not wait, whether a send would not, and whether something exceptional is to be had.
    pub(super) fn readiness(&self, id: SocketId) -> Outcome<[bool; 3]> {
        if self.is_stream(id)? {
            return self.stream_readiness(id);
        }
        let (shut_rd, shut_wr, datagram) =
            self.with_socket(id, |socket| (socket.shut_rd, socket.shut_wr, socket.datagram))?;
        let Some(datagram) = datagram else { return Ok([shut_rd, true, false]) };
        self.with_stack(|stack| {
            let room = stack.interfaces().len();
            let may_send = (0..room).all(|at| stack.egress(crate::proto::IfaceId(at as u8)).room() > 0);
            let (readable, failed) = (datagram.queued(stack).0 > 0, datagram.has_error(stack));
            [shut_rd || readable || failed, shut_wr || may_send || failed, false]
        })
    }
}

/// Before the first interface is opened nobody can be reached.
pub(super) fn no_network(code: Code) -> Code {
    if code == Code(n::TM_ENETDOWN) { HOST_UNREACHABLE } else { code }
}

fn open_udp(stack: &mut Stack, local: SocketAddrV4, options: Options) -> Outcome<DatagramHandle> {
    let udp = DatagramHandle::Udp(stack.udp_bind(local)?);
    udp.apply(stack, options);
    Ok(udp)
}

fn copy_to_parts(buf: &RxBuf, to: &mut [&mut [u8]]) -> usize {
    let mut done = 0;
    for part in to {
        done += buf.copy_to(done, part);
    }
    done
}

fn nothing_received(stack: &mut Stack, datagram: DatagramHandle) -> Code {
    datagram.take_error(stack).map_or(WOULD_BLOCK, pending_code)
}

/// The code for what the network reported.
pub(super) fn pending_code(error: crate::proto::udp::PendingError) -> Code {
    use crate::proto::udp::PendingError;
    match error {
        PendingError::Refused => Code(n::TM_ECONNREFUSED),
        PendingError::HostUnreachable => HOST_UNREACHABLE,
    }
}

/// What TRECK's table has after reported errors: no route, too long, no room.
fn send_datagram(
    stack: &mut Stack,
    datagram: DatagramHandle,
    buf: &mut Option<TxBuf>,
    later: Option<Later<'_>>,
    to: SocketAddrV4,
    dont_route: bool,
    bytes_max: usize,
) -> Outcome<()> {
    if dont_route && stack.routes().lookup(*to.ip()).is_some_and(|route| route.next_hop.is_some()) {
        return Err(HOST_UNREACHABLE);
    }
    let len = buf.as_ref().map_or(later.map_or(0, |later| later.len), TxBuf::total_len);
    let reachable =
        |stack: &Stack| to.ip().is_multicast() || to.ip().is_broadcast() || stack.source_for(*to.ip()).is_some();
    if len > bytes_max {
        return Err(if reachable(stack) { MESSAGE_SIZE } else { HOST_UNREACHABLE });
    }
    if let (Some(Later { lease: Some(lease), .. }), DatagramHandle::Udp(udp)) = (later, datagram) {
        return match stack.udp_send_shared(udp, &lease.stretches(), to) {
            Ok(true) => Ok(()),
            Ok(false) => Err(WOULD_BLOCK),
            Err(other) => Err(other.into()),
        };
    }
    let taken = match (buf.take(), later) {
        (Some(taken), _) => taken,
        (None, Some(_)) if !reachable(stack) => return Err(HOST_UNREACHABLE),
        (None, Some(later)) => (later.copy)(stack)?,
        (None, None) => return Err(NO_BUFFERS),
    };
    match datagram.send_to(stack, taken, to) {
        Ok(()) => Ok(()),
        Err(SendError::WouldBlock(back)) => {
            *buf = Some(back);
            Err(WOULD_BLOCK)
        }
        Err(other) => Err(other.into()),
    }
}
