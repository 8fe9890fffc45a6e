//! The kernel's sockets as a TCP server: one epoll loop.

use crate::{affinity, stop};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use rustix::{
    event::{
        Timespec,
        epoll::{self, Event, EventData, EventFlags},
    },
    io::Errno,
    net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt},
};
use std::{
    net::SocketAddrV4,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

const BACKLOG: i32 = 65_535;
const BLOCK_BYTES: usize = 128 << 10;
const EVENTS: usize = 256;
/// A blocking wait ends now and then: a signal between the look at the flag and the wait must not be missed.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
const LISTENER: u64 = u64::MAX;

/// What it does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Sends back what comes
    Echo,
    /// Takes what comes
    Sink,
    /// Sends as much as goes
    Source,
}

/// Options of `kernel-tcp-server`.
#[derive(Args, Debug)]
pub(crate) struct KernelServerArgs {
    /// Address to listen on
    #[arg(long, short)]
    listen: SocketAddrV4,
    /// What to do
    #[arg(long, value_enum, default_value = "echo")]
    work: Work,
    /// Core to run on
    #[arg(long)]
    core: Option<usize>,
    /// Never block
    #[arg(long)]
    spin: bool,
}

/// Runs until SIGINT or SIGTERM.
pub(super) fn run(args: &KernelServerArgs) -> Result<()> {
    affinity::pin(args.core)?;
    let stop = stop::flag()?;
    let mut server = Server::listen(args.listen, args.work)?;
    println!("ready: {} over epoll, {}", args.listen, if args.spin { "spinning" } else { "blocking" });
    let mut events = Vec::with_capacity(EVENTS);
    let wait = if args.spin { NO_WAIT } else { WAIT };
    while !stop.is_set() {
        events.clear();
        match epoll::wait(&server.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        for event in &events {
            server.handle(*event)?;
        }
    }
    println!("accepted: {}", server.accepted);
    Ok(())
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    /// Read and not sent yet, since the peer does not read. While there is any, nothing more is read.
    pending: Vec<u8>,
}

#[derive(Debug)]
struct Server {
    epoll: OwnedFd,
    listener: OwnedFd,
    work: Work,
    /// By file descriptor.
    connections: Vec<Option<Connection>>,
    block: Vec<u8>,
    accepted: u64,
}

impl Server {
    fn listen(address: SocketAddrV4, work: Work) -> Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).context("socket")?;
        sockopt::set_socket_reuseaddr(&listener, true).context("SO_REUSEADDR")?;
        // Accepted sockets inherit it.
        sockopt::set_tcp_nodelay(&listener, true).context("TCP_NODELAY")?;
        net::bind(&listener, &address).with_context(|| format!("bind to {address}"))?;
        net::listen(&listener, BACKLOG).context("listen")?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create1")?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN).context("epoll_ctl")?;
        Ok(Self { epoll, listener, work, connections: Vec::new(), block: vec![0x5a; BLOCK_BYTES], accepted: 0 })
    }

    fn handle(&mut self, event: Event) -> Result<()> {
        let token = event.data.u64();
        if token == LISTENER {
            return self.accept();
        }
        let index = token as usize;
        let Some(Some(connection)) = self.connections.get_mut(index) else { return Ok(()) };
        let goes_on = match self.work {
            Work::Echo => echo(&self.epoll, connection, &mut self.block),
            Work::Sink => sink(connection, &mut self.block),
            Work::Source => source(connection, &self.block),
        };
        match goes_on {
            Ok(true) | Err(Errno::AGAIN | Errno::INTR) => {}
            // Finished, or reset by the peer: closing takes it out of the epoll set.
            Ok(false) | Err(_) => self.connections[index] = None,
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let socket = match net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => socket,
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Ok(()),
                Err(error) => return Err(error).context("accept4"),
            };
            let index = socket.as_raw_fd() as usize;
            let interest = if self.work == Work::Source { EventFlags::OUT } else { EventFlags::IN };
            epoll::add(&self.epoll, &socket, EventData::new_u64(index as u64), interest).context("epoll_ctl")?;
            if self.connections.len() <= index {
                self.connections.resize_with(index + 1, || None);
            }
            self.connections[index] = Some(Connection { socket, pending: Vec::new() });
            self.accepted += 1;
        }
    }
}

/// Whether the connection goes on; `AGAIN` says that it waits.
fn echo(epoll: &OwnedFd, connection: &mut Connection, block: &mut [u8]) -> rustix::io::Result<bool> {
    let Connection { socket, pending } = connection;
    if !pending.is_empty() {
        let sent = net::send(&*socket, pending, SendFlags::NOSIGNAL)?;
        pending.drain(..sent);
        if pending.is_empty() {
            watch(epoll, socket, EventFlags::IN)?;
        }
        return Ok(true);
    }
    let (received, _) = net::recv(&*socket, &mut *block, RecvFlags::empty())?;
    if received == 0 {
        return Ok(false);
    }
    let sent = match net::send(&*socket, &block[..received], SendFlags::NOSIGNAL) {
        Ok(sent) => sent,
        Err(Errno::AGAIN) => 0,
        Err(error) => return Err(error),
    };
    if sent < received {
        pending.extend_from_slice(&block[sent..received]);
        watch(epoll, socket, EventFlags::OUT)?;
    }
    Ok(true)
}

fn watch(epoll: &OwnedFd, socket: &OwnedFd, interest: EventFlags) -> rustix::io::Result<()> {
    epoll::modify(epoll, socket.as_fd(), EventData::new_u64(socket.as_raw_fd() as u64), interest)
}

fn sink(connection: &Connection, block: &mut [u8]) -> rustix::io::Result<bool> {
    Ok(net::recv(&connection.socket, block, RecvFlags::empty())?.0 > 0)
}

fn source(connection: &Connection, block: &[u8]) -> rustix::io::Result<bool> {
    net::send(&connection.socket, block, SendFlags::NOSIGNAL)?;
    Ok(true)
}
