//! The Rust call.

use super::{
    BATCH, FLOW, FRAME_BYTES, FRAMES, From, On, PAYLOAD_BYTES, Peer, WARM_UP_BATCHES, establish, introduction, timed,
};
use anyhow::{Result, bail, ensure};
use framewire::{
    buf::{PoolConfig, TxBuf},
    port::{
        MacAddr, Port,
        user::{
            Completion, Driver, DriverError, DriverFrame, Last, SendCompleter, SendOutcome, UserConfig, UserPort,
            heap_pool,
        },
    },
    socket::TcpOptions,
    stack::{IfaceConfig, Stack, StackConfig, TcpHandle, UdpHandle},
    time::{Duration, Instant},
};
use std::{cell::RefCell, collections::VecDeque, rc::Rc};

/// A driver that takes every frame, is done with it at once, and receives what it is given.
#[derive(Debug, Default)]
struct Sink {
    inbox: Rc<RefCell<VecDeque<Vec<u8>>>>,
    completer: Rc<RefCell<Option<SendCompleter>>>,
    /// Frames are kept here, if somebody listens.
    heard: Rc<RefCell<Option<Vec<Vec<u8>>>>>,
    own: Vec<u8>,
}

impl Driver for Sink {
    fn open(&mut self) -> Result<(), DriverError> {
        Ok(())
    }

    fn close(&mut self) {}

    fn send(&mut self, data: &[u8], last: Last) -> Result<SendOutcome, DriverError> {
        if let Some(heard) = &mut *self.heard.borrow_mut() {
            heard.push(data.to_owned());
        }
        if last == Last::Yes
            && let Some(completer) = &*self.completer.borrow()
        {
            completer.send_complete(1);
        }
        Ok(SendOutcome::Sent)
    }

    fn recv(&mut self) -> Option<DriverFrame<'_>> {
        self.own = self.inbox.borrow_mut().pop_front()?;
        Some(DriverFrame::Own(&self.own))
    }

    fn phys_addr(&mut self) -> MacAddr {
        FLOW.target_mac
    }
}

#[derive(Clone, Copy)]
enum Socket {
    Datagrams(UdpHandle),
    Stream(TcpHandle),
}

struct Rust {
    port: UserPort,
    stack: Stack,
    socket: Socket,
    inbox: Rc<RefCell<VecDeque<Vec<u8>>>>,
    heard: Rc<RefCell<Option<Vec<Vec<u8>>>>>,
    peer: Peer,
    now: Instant,
}

impl Rust {
    fn new(on: On) -> Result<Self> {
        let pool = heap_pool(FRAMES, FRAME_BYTES, PoolConfig::default())?;
        let sink = Sink::default();
        let (inbox, completer, heard) = (sink.inbox.clone(), sink.completer.clone(), sink.heard.clone());
        let config = UserConfig { completion: Completion::ByDriver, ..UserConfig::new("sink") };
        let port = UserPort::open(Box::new(sink), &pool, config)?;
        *completer.borrow_mut() = Some(port.send_completer());
        let now = Instant::ZERO;
        let mut stack = Stack::new(pool, StackConfig::new([7; 32]), now);
        let network = format!("{}/24", FLOW.target.ip()).parse().map_err(anyhow::Error::msg)?;
        stack.add_interface(IfaceConfig::new("sink", FLOW.target_mac, vec![network]))?;
        let socket = stack.udp_bind(FLOW.target)?;
        stack.udp_connect(socket, Some(FLOW.source))?;
        inbox.borrow_mut().push_back(introduction(FLOW));
        let socket = Socket::Datagrams(socket);
        let mut rust = Self { port, stack, socket, inbox, heard, peer: Peer::without_timestamps(FLOW), now };
        for _ in 0..100 {
            rust.now = rust.now + Duration::from_millis(100);
            rust.turn();
        }
        if on == On::Stream {
            rust.connect()?;
        }
        Ok(rust)
    }

    fn connect(&mut self) -> Result<()> {
        let listener = self.stack.tcp_listen(FLOW.target, 1)?;
        let options = TcpOptions { nodelay: true, ..TcpOptions::default() };
        self.stack.tcp_set_listener_options(listener, options);
        let mut peer = Peer::without_timestamps(FLOW);
        establish(&mut peer, |frame| {
            *self.heard.borrow_mut() = Some(Vec::new());
            self.inbox.borrow_mut().push_back(frame.to_owned());
            self.turn();
            self.heard.take().unwrap_or_default()
        })?;
        let Some(connection) = self.stack.tcp_accept(listener) else { bail!("no connection") };
        (self.socket, self.peer) = (Socket::Stream(connection), peer);
        Ok(())
    }

    #[inline(always)]
    fn send(&mut self, buf: TxBuf) -> bool {
        match self.socket {
            Socket::Datagrams(socket) => self.stack.udp_send(socket, buf).is_ok(),
            Socket::Stream(connection) => matches!(self.stack.tcp_send(connection, buf), Some(Ok(()))),
        }
    }

    /// What was sent arrives, where that is told.
    fn acknowledge(&mut self, bytes: usize) {
        if matches!(self.socket, Socket::Stream(_)) {
            self.peer.take(bytes);
            self.inbox.borrow_mut().push_back(self.peer.ack().to_owned());
            self.turn();
            while self.stack.next_event().is_some() {}
        }
    }

    fn turn(&mut self) {
        let mut received = Vec::new();
        self.port.reap();
        self.port.receive(self.now, &mut received, BATCH);
        self.stack.ingress(self.now, IFACE, &mut received);
        self.stack.poll_timers(self.now);
        self.transmit();
    }

    fn transmit(&mut self) {
        self.stack.flush();
        self.port.transmit(self.now, self.stack.egress(IFACE));
        self.stack.egress_drained(IFACE);
        let _ = self.port.kick();
    }

    fn buffer(&mut self) -> Result<TxBuf> {
        let Some(mut buf) = self.stack.pool().alloc_tx() else { bail!("the pool is empty") };
        buf.set_len(PAYLOAD_BYTES)?;
        Ok(buf)
    }
}

const IFACE: framewire::proto::IfaceId = framewire::proto::IfaceId(0);

pub(super) fn batches(on: On, from: From, batches: usize) -> Result<Vec<f64>> {
    let mut rust = Rust::new(on)?;
    let mut times_ns = Vec::with_capacity(batches);
    for number in 0..WARM_UP_BATCHES + batches {
        rust.now = rust.now + Duration::from_micros(10);
        let mut bufs = (0..BATCH).map(|_| rust.buffer()).collect::<Result<Vec<_>>>()?;
        let mut sent = 0;
        let took = timed(&mut || {
            while let Some(buf) = bufs.pop() {
                sent += usize::from(rust.send(buf));
                if from == From::Polled {
                    rust.transmit();
                }
            }
        });
        ensure!(sent == BATCH, "{sent} sends of a batch of {BATCH} were sent");
        rust.turn();
        rust.acknowledge(BATCH * PAYLOAD_BYTES);
        if number >= WARM_UP_BATCHES {
            times_ns.push(took);
        }
    }
    Ok(times_ns)
}
