//! UDP requests over the kernel's sockets.
//!
//! At a constant rate requests leave when they are due, however many are without an answer; without a rate each socket has one outstanding, and gives it up
//! after a second.

use super::{DRAIN, During, ExchangeOptions, ExchangeResult, LoadError, Pace, Tally, Window, cpu_time, pin};
use rustix::{
    event::{
        Timespec,
        epoll::{self, Event, EventData, EventFlags},
    },
    io::Errno,
};
use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::OwnedFd,
    time::Instant,
};

const EVENTS: usize = 256;
/// How long a socket without a rate to keep waits for answers before it looks for lost ones.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

type Result<T> = std::result::Result<T, LoadError>;

/// Exchanges datagrams with an echo service. Answers to requests that were given up are not counted.
///
/// # Errors
/// A wrong option, a refusal of the kernel, a wrong answer.
pub fn exchange_udp(args: &ExchangeOptions) -> Result<ExchangeResult> {
    args.check()?;
    args.check_not_idle()?;
    pin(args.run.core)?;
    let mut client = Client::open(args)?;
    let first = Instant::now();
    let (begin, end) = args.run.span(first);
    // One paced sequence for all: a request waits for no socket.
    let mut pace = Pace::new(first, end, args.rate, 1);
    let mut tally = Tally::new(begin, end)?;
    if args.rate.is_none() {
        for socket in 0..client.sockets.len() {
            client.send(socket, first, &mut tally)?;
        }
    }
    let mut cpu_at_end = None;
    let mut next_socket = 0;
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        let now = Instant::now();
        while let Some(due) = args.rate.and_then(|_| pace.start(0, now)) {
            client.send(next_socket, due, &mut tally)?;
            next_socket = (next_socket + 1) % client.sockets.len();
        }
        if now >= end {
            cpu_at_end.get_or_insert_with(cpu_time);
            if client.window.outstanding == 0 || now >= end + DRAIN {
                break;
            }
        }
        client.receive(&mut events, args.rate.is_some(), end, &mut tally)?;
        if args.rate.is_none() {
            client.give_up(Instant::now(), end, &mut tally)?;
        }
    }
    client.window.give_up_all(&mut tally);
    Ok(tally.result(cpu_at_end.unwrap_or_else(cpu_time)))
}

#[derive(Debug)]
struct Client {
    epoll: OwnedFd,
    sockets: Vec<UdpSocket>,
    window: Window,
    answer: Vec<u8>,
}

impl Client {
    fn open(args: &ExchangeOptions) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).during("epoll_create1")?;
        let mut sockets = Vec::with_capacity(args.connections);
        for number in 0..args.connections {
            let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).during("bind")?;
            socket.connect(args.target).during(format_args!("connect to {}", args.target))?;
            socket.set_nonblocking(true).during("O_NONBLOCK")?;
            epoll::add(&epoll, &socket, EventData::new_u64(number as u64), EventFlags::IN).during("epoll_ctl")?;
            sockets.push(socket);
        }
        Ok(Self { epoll, sockets, window: Window::new(args.bytes)?, answer: vec![0; args.bytes + 1] })
    }

    fn send(&mut self, socket: usize, due: Instant, tally: &mut Tally) -> Result<()> {
        match self.sockets[socket].send(self.window.next(socket, due, tally)) {
            Err(error) if !is_soft(&error) => Err(error).during("send"),
            _ => Ok(()),
        }
    }

    /// Takes what has come. Without a rate a socket's next request follows.
    fn receive(&mut self, events: &mut Vec<Event>, paced: bool, end: Instant, tally: &mut Tally) -> Result<()> {
        events.clear();
        let wait = if paced { NO_WAIT } else { WAIT };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).during("epoll_wait"),
        }
        for event in events {
            let socket = event.data.u64() as usize;
            loop {
                let bytes = match self.sockets[socket].recv(&mut self.answer) {
                    Ok(bytes) => bytes,
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                        return Err(error).during("nobody listens there: recv");
                    }
                    Err(error) if is_soft(&error) => break,
                    Err(error) => return Err(error).during("recv"),
                };
                let now = Instant::now();
                if self.window.answered(&self.answer[..bytes], now, tally)?.is_some() && !paced && now < end {
                    self.send(socket, now, tally)?;
                }
            }
        }
        Ok(())
    }

    /// Without a rate: what nobody will answer is lost, and its socket goes on.
    fn give_up(&mut self, now: Instant, end: Instant, tally: &mut Tally) -> Result<()> {
        while let Some(socket) = self.window.give_up(now, tally) {
            if now < end {
                self.send(socket, now, tally)?;
            }
        }
        Ok(())
    }
}

fn is_soft(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused)
        || error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}
