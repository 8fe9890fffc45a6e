//! TCP of a stack: the table of connections and listeners, and the calls on them.

mod armed;
mod calls;
mod egress;
mod ingress;
mod orphans;
#[cfg(test)]
mod tests;
mod time_wait;

pub(super) use ingress::IcmpError;

use armed::Armed;
use orphans::Orphans;
use time_wait::{Waiting, later};

use super::{BindError, Stack, StackEvent, TimerKey, demux::Demux, wheel::Wheel};
use crate::{
    proto::{
        rate::TokenBucket,
        tcp::{
            Connection, Endpoints, HalfOpen, Opening, Progress, Spares, TcpConfig, TcpOptions, TcpState, TimeWait,
            cookie::SynCookies, isn::IsnGenerator, ports::PortChooser,
        },
    },
    time::Instant,
};
use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddrV4},
    rc::Rc,
};

/// Segments that one connection sends before the next has its turn.
const SEGMENTS_PER_TURN: usize = 64;

/// Connections that are asked in one turn; the others are first in the next.
const CONNECTIONS_PER_TURN: usize = 1024;

/// A path is not believed to be narrower (RFC 5927 section 7): tiny segments are an amplifier. 512 bytes and 40 of headers.
const PATH_MTU_MIN: u16 = 552;

/// Names a connection of one stack. Stale handles are told from live ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpHandle {
    index: u32,
    generation: u32,
}

impl TcpHandle {
    /// One number for it, for tables outside.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }
}

/// Names a listener of one stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerHandle {
    index: u32,
    generation: u32,
}

impl ListenerHandle {
    /// One number for it, for tables outside.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }
}

/// Bits of [`Connection::listed`].
mod listed {
    /// In the queue of those that may have something to send.
    pub(super) const READY: u8 = 1;
    /// An event is queued.
    pub(super) const EVENT: u8 = 2;
    /// Peers find it.
    pub(super) const REACHABLE: u8 = 4;
    /// It counts as closed and not ended.
    pub(super) const ORPHAN: u8 = 8;
}

/// What a pair of endpoints leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Connection(u32),
    HalfOpen(u32),
    TimeWait(u32),
}

impl Entry {
    const INDEX_MASK: u32 = (1 << 30) - 1;

    fn pack(self) -> u32 {
        match self {
            Self::Connection(index) => index,
            Self::HalfOpen(index) => 1 << 30 | index,
            Self::TimeWait(index) => 2 << 30 | index,
        }
    }

    fn unpack(bits: u32) -> Self {
        let index = bits & Self::INDEX_MASK;
        match bits >> 30 {
            0 => Self::Connection(index),
            1 => Self::HalfOpen(index),
            _ => Self::TimeWait(index),
        }
    }
}

/// The connection `index` is asked in the next turn what it has to send.
#[inline(always)]
fn list_ready(connection: &mut Connection, index: u32, ready: &mut VecDeque<u32>) {
    if connection.listed & listed::READY == 0 {
        connection.listed |= listed::READY;
        ready.push_back(index);
    }
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// Of this connection and those before it.
    armed: Armed,
    connection: Option<Box<Connection>>,
}

impl Slot {
    /// Lists the connection where it has to be, and sets its timer.
    #[inline(always)]
    fn list(
        &mut self,
        index: u32,
        events: &mut VecDeque<StackEvent>,
        ready: &mut VecDeque<u32>,
        timers: &mut Wheel<TimerKey>,
    ) {
        let Some(connection) = &mut self.connection else { return };
        if connection.has_events() && connection.listed & listed::EVENT == 0 {
            connection.listed |= listed::EVENT;
            events.push_back(StackEvent::Tcp(TcpHandle { index, generation: self.generation }));
        }
        // One that is to be asked what it has to send has its timer set afterwards.
        if connection.listed & listed::READY == 0 {
            if connection.wants_to_send() {
                connection.listed |= listed::READY;
                ready.push_back(index);
            } else {
                let at = connection.poll_timeout();
                if self.armed.want(at) {
                    timers.arm(at, TimerKey::Tcp(index));
                }
            }
        }
    }
}

#[derive(Debug)]
struct Listener {
    local: SocketAddrV4,
    backlog: usize,
    options: Rc<TcpOptions>,
    accept: VecDeque<TcpHandle>,
    half_open: usize,
    /// Until then a cookie that it sent may come back.
    cookies_until: Instant,
    listed: bool,
    tag: u64,
}

#[derive(Debug)]
struct ListenerSlot {
    generation: u32,
    listener: Option<Listener>,
}

#[derive(Debug)]
struct HalfOpenSlot {
    half: HalfOpen,
    listener: ListenerHandle,
    /// When the SYN-ACK goes again.
    again_at: Instant,
}

/// A slab: values by number, numbers used again.
#[derive(Debug)]
struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    const fn new() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }

    fn insert(&mut self, item: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self.items[index as usize] = Some(item);
            return index;
        }
        self.items.push(Some(item));
        (self.items.len() - 1) as u32
    }

    fn get(&self, index: u32) -> Option<&T> {
        self.items.get(index as usize)?.as_ref()
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.items.get_mut(index as usize)?.as_mut()
    }

    fn remove(&mut self, index: u32) -> Option<T> {
        let item = self.items.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(item)
    }

    fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }
}

/// All that a stack keeps of TCP.
#[derive(Debug)]
pub(super) struct TcpTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    listeners: Vec<ListenerSlot>,
    half_open: Slab<HalfOpenSlot>,
    /// Timers by number of the half-open connection.
    half_open_armed: Vec<Armed>,
    time_wait: Slab<Waiting>,
    /// In the order in which they are looked at; an entry whose time is not the one's own is passed over.
    time_wait_order: VecDeque<(u32, Instant)>,
    time_wait_armed: Armed,
    demux: Demux,
    orphans: Orphans,
    /// Connections that may have something to send, each once.
    ready: VecDeque<u32>,
    /// The connection that the last segments of this batch were for: listed once, after all of them.
    taken_for: Option<u32>,
    pub(super) spares: Spares,
    /// Frames that received data holds, over all connections.
    pub(super) rx_frames: u32,
    /// The most that it may hold.
    rx_frames_max: u32,
    rx_frames_percent: u8,
    isn: IsnGenerator,
    cookies: SynCookies,
    ports: PortChooser,
    resets: TokenBucket,
    /// What new connections begin with.
    options: Rc<TcpOptions>,
}

impl TcpTable {
    pub(super) fn new(mut seeds: impl FnMut() -> [u64; 4], config: &TcpConfig, data_frames: u32) -> Self {
        let mut pair = || {
            let [a, b, ..] = seeds();
            [a, b]
        };
        let mut this = Self {
            isn: IsnGenerator::new(pair()),
            cookies: SynCookies::new(pair()),
            ports: PortChooser::new(pair()),
            demux: Demux::new(seeds()),
            slots: Vec::new(),
            free: Vec::new(),
            listeners: Vec::new(),
            half_open: Slab::new(),
            half_open_armed: Vec::new(),
            time_wait: Slab::new(),
            time_wait_order: VecDeque::new(),
            time_wait_armed: Armed::NONE,
            orphans: Orphans::default(),
            ready: VecDeque::new(),
            taken_for: None,
            spares: Spares::default(),
            rx_frames: 0,
            rx_frames_max: 0,
            rx_frames_percent: config.rx_frames_percent.min(100),
            resets: TokenBucket::new(config.resets_per_s, config.resets_per_s),
            options: Rc::new(config.options.clone()),
        };
        this.set_data_frames(data_frames);
        this
    }

    /// Data may hold as many frames from now on.
    pub(super) fn set_data_frames(&mut self, frames: u32) {
        self.rx_frames_max = (u64::from(frames) * u64::from(self.rx_frames_percent) / 100) as u32;
    }

    /// Frames that received data may still take.
    #[inline]
    pub(super) fn rx_frames_left(&self) -> u32 {
        self.rx_frames_max.saturating_sub(self.rx_frames)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// All that is known of connections.
    #[cfg(test)]
    pub(super) fn connections_to_look_at(&self) -> impl std::fmt::Debug + '_ {
        (&self.slots, &self.ready, &self.time_wait, self.rx_frames)
    }

    pub(super) fn half_open_len(&self) -> usize {
        self.half_open.len()
    }

    pub(super) fn time_wait_len(&self) -> usize {
        self.time_wait.len()
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    fn get(&self, handle: TcpHandle) -> Option<&Connection> {
        let slot = self.slots.get(handle.index as usize).filter(|slot| slot.generation == handle.generation)?;
        slot.connection.as_deref().filter(|connection| !connection.is_detached())
    }

    fn handle(&self, index: u32) -> TcpHandle {
        let generation = self.slots.get(index as usize).map_or(0, |slot| slot.generation);
        TcpHandle { index, generation }
    }

    fn listener(&mut self, handle: ListenerHandle) -> Option<&mut Listener> {
        let slot = self.listeners.get_mut(handle.index as usize).filter(|slot| slot.generation == handle.generation)?;
        slot.listener.as_mut()
    }

    /// A queued event still says something true.
    pub(super) fn event_is_current(&mut self, event: StackEvent) -> bool {
        match event {
            StackEvent::Tcp(handle) => self
                .slots
                .get_mut(handle.index as usize)
                .filter(|slot| slot.generation == handle.generation)
                .and_then(|slot| slot.connection.as_mut())
                .is_some_and(|connection| {
                    connection.listed &= !listed::EVENT;
                    connection.has_events()
                }),
            StackEvent::TcpAcceptable(handle) => self.listener(handle).is_some_and(|listener| {
                listener.listed = false;
                !listener.accept.is_empty()
            }),
            _ => true,
        }
    }
}

impl Stack {
    /// Listens at `local` (address `0.0.0.0`: all of ours). At most `backlog` connections wait to be accepted or for the end of their handshake.
    ///
    /// # Errors
    /// Somebody listens there already, or the address is not ours.
    pub fn tcp_listen(&mut self, local: SocketAddrV4, backlog: usize) -> Result<ListenerHandle, BindError> {
        if !local.ip().is_unspecified() && !self.is_our_address(*local.ip()) {
            return Err(BindError::NotAvailable);
        }
        let port = match local.port() {
            0 => self.unused_listening_port().ok_or(BindError::NoPorts)?,
            port => port,
        };
        let local = SocketAddrV4::new(*local.ip(), port);
        if self.tcp.demux.is_taken(local) {
            return Err(BindError::InUse);
        }
        let listener = Listener {
            local,
            backlog: backlog.max(1),
            options: Rc::clone(&self.tcp.options),
            accept: VecDeque::new(),
            half_open: 0,
            cookies_until: Instant::ZERO,
            listed: false,
            tag: 0,
        };
        let index = match self.tcp.listeners.iter().position(|slot| slot.listener.is_none()) {
            Some(index) => {
                self.tcp.listeners[index].listener = Some(listener);
                index
            }
            None => {
                self.tcp.listeners.push(ListenerSlot { generation: 1, listener: Some(listener) });
                self.tcp.listeners.len() - 1
            }
        };
        self.tcp.demux.bind(local, index as u32);
        Ok(ListenerHandle { index: index as u32, generation: self.tcp.listeners[index].generation })
    }

    fn unused_listening_port(&mut self) -> Option<u16> {
        let range = self.config.ephemeral_ports.clone();
        let count = u64::from(range.end() - range.start()) + 1;
        let from = self.random() % count;
        (0..count)
            .map(|step| range.start() + ((from + step) % count) as u16)
            .find(|&port| !self.tcp.demux.port_in_use(port))
    }

    /// Changes what connections that a listener accepts from now on begin with.
    pub fn tcp_set_listener_options(&mut self, handle: ListenerHandle, options: TcpOptions) {
        if let Some(listener) = self.tcp.listener(handle) {
            listener.options = Rc::new(options);
        }
    }

    /// The application's own number for it; connections that it accepts begin with it.
    pub fn tcp_set_listener_tag(&mut self, handle: ListenerHandle, tag: u64) {
        if let Some(listener) = self.tcp.listener(handle) {
            listener.tag = tag;
        }
    }

    /// See [`tcp_set_listener_tag`](Self::tcp_set_listener_tag).
    pub fn tcp_listener_tag(&self, handle: ListenerHandle) -> Option<u64> {
        let slot = self.tcp.listeners.get(handle.index as usize)?;
        slot.listener.as_ref().filter(|_| slot.generation == handle.generation).map(|listener| listener.tag)
    }

    /// Where it listens; `None` if it is closed.
    pub fn tcp_listener_addr(&self, handle: ListenerHandle) -> Option<SocketAddrV4> {
        let slot = self.tcp.listeners.get(handle.index as usize)?;
        slot.listener.as_ref().filter(|_| slot.generation == handle.generation).map(|listener| listener.local)
    }

    /// Connections that wait to be accepted.
    pub fn tcp_acceptable(&self, handle: ListenerHandle) -> usize {
        let slot = self.tcp.listeners.get(handle.index as usize);
        let listener = slot.filter(|slot| slot.generation == handle.generation).and_then(|slot| slot.listener.as_ref());
        listener.map_or(0, |listener| listener.accept.len())
    }

    /// The oldest connection that waits.
    pub fn tcp_accept(&mut self, handle: ListenerHandle) -> Option<TcpHandle> {
        loop {
            let connection = self.tcp.listener(handle)?.accept.pop_front()?;
            if self.tcp.get(connection).is_some() {
                return Some(connection);
            }
        }
    }

    /// Tells again of connections that wait, if some do.
    pub fn tcp_relist_listener(&mut self, handle: ListenerHandle) {
        if let Some(listener) = self.tcp.listener(handle)
            && !listener.accept.is_empty()
            && !std::mem::replace(&mut listener.listed, true)
        {
            self.events.push_back(StackEvent::TcpAcceptable(handle));
        }
    }

    /// Stops listening; who waits is reset.
    pub fn tcp_close_listener(&mut self, handle: ListenerHandle) {
        let Some(slot) = self.tcp.listeners.get_mut(handle.index as usize) else { return };
        if slot.generation != handle.generation {
            return;
        }
        let Some(listener) = slot.listener.take() else { return };
        slot.generation += 1;
        self.tcp.demux.unbind(listener.local);
        for connection in listener.accept {
            self.tcp_abort(connection);
        }
        for index in 0..self.tcp.half_open.items.len() as u32 {
            if self.tcp.half_open.get(index).is_some_and(|slot| slot.listener == handle) {
                self.remove_half_open(index);
            }
        }
    }

    /// Connects to `remote` from `local`: address `0.0.0.0` by the route, port 0 an unused one (RFC 6056).
    ///
    /// # Errors
    /// No route, no port, the pair is taken, the address not ours, or there are too many connections.
    pub fn tcp_connect(
        &mut self,
        local: SocketAddrV4,
        remote: SocketAddrV4,
        options: Option<TcpOptions>,
    ) -> Result<TcpHandle, BindError> {
        if self.tcp.len() >= self.config.tcp.connections_max {
            return Err(BindError::TooMany);
        }
        let to = *remote.ip();
        if to.is_unspecified() || to.is_broadcast() || to.is_multicast() || remote.port() == 0 {
            return Err(BindError::Unreachable);
        }
        let source = self.source_for(to).ok_or(BindError::Unreachable)?;
        let ip = if local.ip().is_unspecified() { source } else { *local.ip() };
        if !self.is_our_address(ip) {
            return Err(BindError::NotAvailable);
        }
        let port = match local.port() {
            0 => {
                let range = self.config.ephemeral_ports.clone();
                let demux = &self.tcp.demux;
                let taken = |port| {
                    let local = SocketAddrV4::new(ip, port);
                    demux.find_connected(local, remote).is_some() || demux.is_taken(local)
                };
                self.tcp.ports.choose(ip, remote, range, taken).ok_or(BindError::NoPorts)?
            }
            port => port,
        };
        let ends = Endpoints { local: SocketAddrV4::new(ip, port), remote };
        let mut iss = self.tcp.isn.isn(ends.local, remote, self.now);
        match self.tcp.demux.find_connected(ends.local, remote).map(Entry::unpack) {
            None => {}
            Some(Entry::TimeWait(index)) => {
                // RFC 9293 section 3.6.1: a connection may be opened from TIME-WAIT with a larger sequence number.
                if let Some(old) = self.tcp.time_wait.remove(index) {
                    iss = later(iss, &old.rest);
                }
            }
            Some(_) => return Err(BindError::InUse),
        }
        let opening = Opening {
            ends,
            iss,
            ts_offset: self.tcp.isn.timestamp_offset(ends.local, remote),
            path_mtu: self.tcp_path_mtu(to),
            options: options.map_or_else(|| Rc::clone(&self.tcp.options), Rc::new),
        };
        let connection = Box::new(Connection::open(opening, self));
        let index = self.insert_connection(connection);
        self.tcp.demux.connect(ends.local, remote, Entry::Connection(index).pack());
        self.settle(index);
        Ok(self.tcp.handle(index))
    }

    fn insert_connection(&mut self, mut connection: Box<Connection>) -> u32 {
        connection.listed |= listed::REACHABLE;
        if let Some(index) = self.tcp.free.pop() {
            self.tcp.slots[index as usize].connection = Some(connection);
            return index;
        }
        self.tcp.slots.push(Slot { generation: 1, armed: Armed::NONE, connection: Some(connection) });
        (self.tcp.slots.len() - 1) as u32
    }

    /// Lends the connection to `call` together with the stack, and afterwards does what follows from it.
    #[inline]
    fn with_connection<R>(&mut self, index: u32, call: impl FnOnce(&mut Connection, &mut Self) -> R) -> Option<R> {
        let mut connection = self.tcp.slots.get_mut(index as usize)?.connection.take()?;
        let result = call(&mut connection, self);
        self.tcp.slots[index as usize].connection = Some(connection);
        self.settle(index);
        Some(result)
    }

    #[inline]
    fn with_handle<R>(&mut self, handle: TcpHandle, call: impl FnOnce(&mut Connection, &mut Self) -> R) -> Option<R> {
        let slot = self.tcp.slots.get(handle.index as usize)?;
        let open = slot.connection.as_ref().is_some_and(|connection| !connection.is_detached());
        if slot.generation != handle.generation || !open {
            return None;
        }
        self.with_connection(handle.index, call)
    }

    /// What a change to a connection entails: it is listed where it has to be, its timer is set, its end is noted.
    #[inline]
    fn settle(&mut self, index: u32) {
        let Some(slot) = self.tcp.slots.get_mut(index as usize) else { return };
        slot.list(index, &mut self.events, &mut self.tcp.ready, &mut self.timers);
        if slot.connection.as_ref().is_some_and(|connection| connection.close_reason().is_some()) {
            self.settle_end(index);
        }
    }

    /// A connection that has ended leaves the table of endpoints, and altogether if its application has closed it.
    #[cold]
    fn settle_end(&mut self, index: u32) {
        let Some(slot) = self.tcp.slots.get_mut(index as usize) else { return };
        let Some(connection) = &mut slot.connection else { return };
        if connection.listed & listed::ORPHAN != 0 {
            connection.listed &= !listed::ORPHAN;
            self.tcp.orphans.ended();
        }
        // A reset that is still to be sent needs nobody to find it.
        if connection.listed & listed::REACHABLE != 0 {
            connection.listed &= !listed::REACHABLE;
            let ends = *connection.endpoints();
            self.tcp.demux.disconnect(ends.local, ends.remote);
            if connection.state() == TcpState::TimeWait {
                let (snd_nxt, rcv_nxt, ts_recent) = connection.last_words();
                let ts_offset = connection.timestamp_offset();
                let expires = self.now + self.config.tcp.time_wait;
                self.enter_time_wait(TimeWait { ends, snd_nxt, rcv_nxt, ts_recent, ts_offset, expires });
            }
        }
        let slot = &mut self.tcp.slots[index as usize];
        if slot.connection.as_ref().is_some_and(|connection| connection.is_over()) {
            slot.connection = None;
            slot.generation = slot.generation.wrapping_add(1);
            self.tcp.free.push(index);
        }
    }

    /// Timer of a connection.
    pub(super) fn tcp_timer(&mut self, index: u32) {
        let now = self.now;
        if let Some(slot) = self.tcp.slots.get_mut(index as usize) {
            slot.armed.fired(now);
        }
        self.with_connection(index, |connection, stack| {
            // One that belongs to an earlier deadline, or to the slot's former tenant, says nothing.
            if connection.poll_timeout() <= now {
                connection.handle_timer(stack);
            }
        });
    }

    /// Sends what connections have to send, within the room of the egress queues. Call it once a turn, after the application.
    #[inline]
    pub fn flush(&mut self) {
        for _ in 0..self.tcp.ready.len().min(CONNECTIONS_PER_TURN) {
            let Some(index) = self.tcp.ready.pop_front() else { return };
            let Some(mut connection) = self.tcp.slots.get_mut(index as usize).and_then(|slot| slot.connection.take())
            else {
                continue;
            };
            let progress = connection.poll_transmit(self, SEGMENTS_PER_TURN);
            if progress == Progress::Done {
                connection.listed &= !listed::READY;
            } else {
                self.tcp.ready.push_back(index);
            }
            self.tcp.slots[index as usize].connection = Some(connection);
            self.settle_sent(index);
            if progress == Progress::Blocked && self.ifaces.iter().all(|iface| iface.egress.room() == 0) {
                return;
            }
        }
    }

    /// After sending: the timer, and the end if that was a reset or a last acknowledgment.
    #[inline]
    fn settle_sent(&mut self, index: u32) {
        let slot = &mut self.tcp.slots[index as usize];
        let Some(connection) = &mut slot.connection else { return };
        let at = connection.poll_timeout();
        if slot.armed.want(at) {
            self.timers.arm(at, TimerKey::Tcp(index));
        }
        if connection.close_reason().is_some() {
            self.settle_end(index);
        }
    }

    /// An interface carries packets of another size now: its connections keep to it.
    pub(super) fn tcp_mtu_changed(&mut self, id: crate::proto::IfaceId) {
        for index in 0..self.tcp.slots.len() as u32 {
            let slot = &self.tcp.slots[index as usize];
            let Some(to) = slot.connection.as_ref().map(|connection| *connection.endpoints().remote.ip()) else {
                continue;
            };
            if self.routes.lookup(to).is_some_and(|route| route.iface == id) {
                let mtu = self.tcp_path_mtu(to);
                self.with_connection(index, |connection, _| connection.handle_too_big(mtu));
            }
        }
    }

    /// Its state; `Closed` when nothing is left of it, not even TIME-WAIT.
    pub fn tcp_state(&self, handle: TcpHandle) -> TcpState {
        let Some(connection) = self.tcp.get(handle) else { return TcpState::Closed };
        let Endpoints { local, remote } = *connection.endpoints();
        match connection.state() {
            TcpState::TimeWait => match self.tcp.demux.find_connected(local, remote).map(Entry::unpack) {
                Some(Entry::TimeWait(_)) => TcpState::TimeWait,
                _ => TcpState::Closed,
            },
            state => state,
        }
    }

    /// Largest packet that goes to `to` as far as is known, in bytes.
    pub(super) fn tcp_path_mtu(&mut self, to: Ipv4Addr) -> u16 {
        let route = self.routes.lookup(to).map(|route| usize::from(route.iface.0));
        let link = route.and_then(|at| self.ifaces.get(at)).map_or(1500, |iface| iface.mtu);
        let path = self.path_mtus.get(to, self.now).unwrap_or(u16::MAX);
        path.max(PATH_MTU_MIN).min(u16::try_from(link).unwrap_or(u16::MAX))
    }
}
