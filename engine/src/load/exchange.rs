//! TCP requests over the kernel's sockets, by one edge-triggered epoll loop: on lasting connections, or on one each.

use super::{DRAIN, During, ExchangeOptions, ExchangeResult, Lane, LoadError, Pace, Tally, cpu_time, pin};
use rustix::{
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    io::Errno,
    net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt},
};
use std::{
    net::{SocketAddrV4, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

const EVENTS: usize = 256;
/// A service that does not take a connection within this time is not there.
const PATIENCE: Duration = Duration::from_secs(10);
/// A blocking wait ends now and then, to see whether the time is over.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

type Result<T> = std::result::Result<T, LoadError>;

/// Whether connections last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// One connection, many requests.
    Request,
    /// Connect, one request, its answer, close; all of that is the latency.
    Connection,
}

/// Exchanges requests for answers with an echo service, over TCP. Blocks, unless it is to `spin` or has a rate to keep.
///
/// # Errors
/// A wrong option, a refusal of the kernel or of the service, a wrong answer.
pub fn exchange_tcp(args: &ExchangeOptions, exchange: Exchange, spin: bool) -> Result<ExchangeResult> {
    args.check()?;
    pin(args.run.core)?;
    let idle = connect_idle(args)?;
    let mut client = Client::new(args, exchange)?;
    if exchange == Exchange::Request {
        client.connect_all()?;
    }
    let first = Instant::now();
    let (begin, end) = args.run.span(first);
    let mut pace = Pace::new(first, end, args.rate, args.connections);
    let mut tally = Tally::new(begin, end)?;
    let wait = if spin || args.rate.is_some() { NO_WAIT } else { WAIT };
    if args.rate.is_none() {
        for number in 0..args.connections {
            client.start(number, first, &mut pace)?;
        }
    }
    let mut cpu_at_end = None;
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        let now = Instant::now();
        while let Some(number) = pace.newly_due(now) {
            if client.lanes[number].due.is_none() {
                client.start(number, now, &mut pace)?;
            }
        }
        if now >= end {
            cpu_at_end.get_or_insert_with(cpu_time);
            if client.outstanding == 0 || now >= end + DRAIN {
                break;
            }
        }
        events.clear();
        match epoll::wait(&client.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).during("epoll_wait"),
        }
        for event in &events {
            let number = event.data.u64() as usize;
            if let Some(due) = client.advance(number)? {
                let now = Instant::now();
                tally.record(due, now);
                client.start(number, now, &mut pace)?;
            }
        }
    }
    tally.give_up_all(&mut pace, client.lanes.iter().map(|lane| lane.due));
    drop(idle);
    Ok(tally.result(cpu_at_end.unwrap_or_else(cpu_time)))
}

#[derive(Debug)]
struct Client {
    epoll: OwnedFd,
    target: SocketAddrV4,
    exchange: Exchange,
    lanes: Vec<Lane<OwnedFd>>,
    outstanding: usize,
    answer: Vec<u8>,
}

impl Client {
    fn new(args: &ExchangeOptions, exchange: Exchange) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).during("epoll_create1")?;
        let lanes = std::iter::repeat_with(|| Lane::new(args.bytes)).take(args.connections).collect();
        Ok(Self { epoll, target: args.target, exchange, lanes, outstanding: 0, answer: vec![0; args.bytes] })
    }

    /// Blocking, before anything is measured.
    fn connect_all(&mut self) -> Result<()> {
        for number in 0..self.lanes.len() {
            let socket = connect(self.target)?;
            socket.set_nonblocking(true).during("O_NONBLOCK")?;
            socket.set_nodelay(true).during("TCP_NODELAY")?;
            self.watch(number, socket.into())?;
        }
        Ok(())
    }

    fn watch(&mut self, number: usize, socket: OwnedFd) -> Result<()> {
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&self.epoll, &socket, EventData::new_u64(number as u64), interest).during("epoll_ctl")?;
        self.lanes[number].connection = Some(socket);
        Ok(())
    }

    /// Starts what is due on a free lane.
    fn start(&mut self, number: usize, now: Instant, pace: &mut Pace) -> Result<()> {
        let Some(due) = pace.start(number, now) else { return Ok(()) };
        let lane = &mut self.lanes[number];
        lane.begin(due);
        self.outstanding += 1;
        match self.exchange {
            Exchange::Request => send(lane).during("send"),
            Exchange::Connection => self.connect(number),
        }
    }

    fn connect(&mut self, number: usize) -> Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).during("socket")?;
        match net::connect(&socket, &self.target) {
            Ok(()) | Err(Errno::INPROGRESS) => self.watch(number, socket),
            Err(error) => Err(error).during(format_args!("connect to {}", self.target)),
        }
    }

    /// Does what the lane's socket is ready for; when its request was due, if the answer is complete.
    fn advance(&mut self, number: usize) -> Result<Option<Instant>> {
        let lane = &mut self.lanes[number];
        let (Some(due), Some(socket)) = (lane.due, &lane.connection) else { return Ok(None) };
        if self.exchange == Exchange::Connection && lane.is_fresh() {
            let outcome = sockopt::socket_error(socket).during("SO_ERROR")?;
            outcome.during(format_args!("connect to {}", self.target))?;
        }
        send(lane).during("send")?;
        if !receive(lane, &mut self.answer)? {
            return Ok(None);
        }
        lane.due = None;
        self.outstanding -= 1;
        if self.exchange == Exchange::Connection {
            // Closed, which takes it out of the epoll set.
            lane.connection = None;
        }
        Ok(Some(due))
    }
}

/// Sends what goes of the request.
fn send(lane: &mut Lane<OwnedFd>) -> rustix::io::Result<()> {
    while let (Some(socket), rest @ [_, ..]) = lane.unsent() {
        match net::send(socket, rest, SendFlags::NOSIGNAL) {
            Ok(sent) => lane.sent(sent),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the answer is complete now.
fn receive(lane: &mut Lane<OwnedFd>, answer: &mut [u8]) -> Result<bool> {
    while let Some(socket) = &lane.connection {
        let count = match net::recv(socket, &mut answer[..lane.missing()], RecvFlags::empty()) {
            Ok((0, _)) => return Err(LoadError::Unexpected("the service closed the connection".into())),
            Ok((count, _)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(error) => return Err(error).during("recv"),
        };
        if lane.accept(&answer[..count])? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn connect(target: SocketAddrV4) -> Result<TcpStream> {
    TcpStream::connect_timeout(&target.into(), PATIENCE).during(format_args!("connect to {target}"))
}

/// Connections on which nothing happens.
fn connect_idle(args: &ExchangeOptions) -> Result<Vec<TcpStream>> {
    (0..args.idle).map(|_| connect(args.target)).collect()
}
