//! UDP requests over the kernel's sockets.
//!
//! At a constant rate requests leave when they are due, however many are without an answer; without a rate each socket has one outstanding, and gives it up
//! after [`LOST`].

use super::{
    DRAIN, During, ExchangeOptions, ExchangeResult, LoadError, Pace, Tally, cpu_time, number_request, pin, request,
};
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
    time::{Duration, Instant},
};

/// What fits a datagram.
const BYTES_MAX: usize = 65_507;
/// A request without an answer for so long has none.
const LOST: Duration = Duration::from_secs(1);
/// Requests that may be without an answer; when as many more were sent, an old one is lost.
const OUTSTANDING_MAX: usize = 1 << 16;
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
    if args.bytes > BYTES_MAX || args.idle > 0 {
        return Err(LoadError::Option(format!("--bytes: at most {BYTES_MAX} for UDP, and no --idle")));
    }
    pin(args.core)?;
    let mut client = Client::open(args)?;
    let first = Instant::now();
    let begin = first + Duration::from_secs_f64(args.warm_up);
    let end = begin + Duration::from_secs_f64(args.seconds);
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
            if client.outstanding == 0 || now >= end + DRAIN {
                break;
            }
        }
        client.receive(&mut events, args.rate.is_some(), end, &mut tally)?;
        if args.rate.is_none() {
            client.give_up(Instant::now(), end, &mut tally)?;
        }
    }
    client.slots.iter().filter_map(|slot| slot.due).for_each(|due| tally.lose(due));
    Ok(tally.result(cpu_at_end.unwrap_or_else(cpu_time)))
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    number: u64,
    socket: usize,
    /// `None`: answered, or never used.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Client {
    epoll: OwnedFd,
    sockets: Vec<UdpSocket>,
    /// By request number, modulo their number.
    slots: Vec<Slot>,
    next: u64,
    outstanding: usize,
    /// Below it, all are answered or given up; without a rate.
    oldest: u64,
    request: Vec<u8>,
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
        Ok(Self {
            epoll,
            sockets,
            slots: vec![Slot { number: 0, socket: 0, due: None }; OUTSTANDING_MAX],
            next: 0,
            outstanding: 0,
            oldest: 0,
            request: request(args.bytes),
            answer: vec![0; args.bytes + 1],
        })
    }

    /// A request that finds no room on its way out is lost, like one that is lost later.
    fn send(&mut self, socket: usize, due: Instant, tally: &mut Tally) -> Result<()> {
        let number = self.next;
        self.next += 1;
        number_request(&mut self.request, number);
        let index = number as usize % OUTSTANDING_MAX;
        let slot = &mut self.slots[index];
        if let Some(due) = slot.due.take() {
            tally.lose(due);
            self.outstanding -= 1;
        }
        *slot = Slot { number, socket, due: Some(due) };
        self.outstanding += 1;
        match self.sockets[socket].send(&self.request) {
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
                if self.answered(bytes, now, tally)? && !paced && now < end {
                    self.send(socket, now, tally)?;
                }
            }
        }
        Ok(())
    }

    /// Whether it was a request that somebody still waited for.
    fn answered(&mut self, bytes: usize, now: Instant, tally: &mut Tally) -> Result<bool> {
        let answer = &self.answer[..bytes];
        let wrong = |what: String| Err(LoadError::Unexpected(what));
        let Some(number) = answer.first_chunk().map(|head| u64::from_be_bytes(*head)) else {
            return wrong(format!("an answer of {bytes} bytes"));
        };
        if number >= self.next || bytes != self.request.len() || answer[8..] != self.request[8..] {
            return wrong(format!("a wrong answer of {bytes} bytes, numbered {number}"));
        }
        let slot = &mut self.slots[number as usize % OUTSTANDING_MAX];
        let Some(due) = slot.due.filter(|_| slot.number == number) else { return Ok(false) };
        slot.due = None;
        self.outstanding -= 1;
        tally.record(due, now);
        Ok(true)
    }

    /// Without a rate: what nobody will answer is lost, and its socket goes on.
    fn give_up(&mut self, now: Instant, end: Instant, tally: &mut Tally) -> Result<()> {
        while self.oldest < self.next {
            let slot = self.slots[self.oldest as usize % OUTSTANDING_MAX];
            if let Some(due) = slot.due.filter(|_| slot.number == self.oldest) {
                if now.saturating_duration_since(due) < LOST {
                    return Ok(());
                }
                self.slots[self.oldest as usize % OUTSTANDING_MAX].due = None;
                self.outstanding -= 1;
                tally.lose(due);
                if now < end {
                    self.send(slot.socket, now, tally)?;
                }
            }
            self.oldest += 1;
        }
        Ok(())
    }
}

fn is_soft(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused)
        || error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}
