//! UDP requests over the engine's sockets.

use super::{ANY, Carrier, refused, run_on};
use crate::{
    load::{DRAIN, ExchangeOptions, ExchangeResult, LoadError, Pace, Tally, Window, cpu_time},
    socket::{App, AppError, Event, Net, SendError, UdpSocket, Work},
};
use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

/// Requests that are started in one turn at most, so that their answers are taken in between.
const BURST: usize = 64;

type Result<T> = std::result::Result<T, LoadError>;

/// As [`exchange_udp`](crate::load::exchange_udp), over the engine's sockets. A request is one frame.
///
/// # Errors
/// A wrong option, an engine that does not start, a wrong answer.
pub fn exchange_udp_on(carrier: &Carrier, args: &ExchangeOptions) -> Result<ExchangeResult> {
    args.check()?;
    args.check_not_idle()?;
    Window::new(args.bytes)?;
    let options = args.clone();
    run_on(carrier, &args.run, move |outcome| {
        Box::new(Client { args: options.clone(), outcome: Some(outcome), run: None })
    })?
}

#[derive(Debug)]
struct Client {
    args: ExchangeOptions,
    outcome: Option<mpsc::Sender<Result<ExchangeResult>>>,
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    sockets: Vec<UdpSocket>,
    window: Window,
    pace: Pace,
    tally: Tally,
    next_socket: usize,
    paced: bool,
    cpu_at_end: Option<Duration>,
}

impl Run {
    fn begin(args: &ExchangeOptions, net: &mut Net<'_>) -> Result<Self> {
        let mut sockets = Vec::with_capacity(args.connections);
        for _ in 0..args.connections {
            let socket = net.udp_bind(ANY).map_err(|error| refused("bind", &error))?;
            socket.connect(net, args.target).map_err(|error| refused("connect", &error))?;
            sockets.push(socket);
        }
        let first = Instant::now();
        let (begin, end) = args.run.span(first);
        // One paced sequence for all: a request waits for no socket.
        let (pace, tally) = (Pace::new(first, end, args.rate, 1), Tally::new(begin, end)?);
        let (window, paced) = (Window::new(args.bytes)?, args.rate.is_some());
        let mut run = Self { sockets, window, pace, tally, next_socket: 0, paced, cpu_at_end: None };
        if !paced {
            for socket in 0..run.sockets.len() {
                run.send(net, socket, first)?;
            }
        }
        Ok(run)
    }

    /// A request that finds no room on its way out is lost, like one that is lost later.
    fn send(&mut self, net: &mut Net<'_>, socket: usize, due: Instant) -> Result<()> {
        let Self { sockets, window, tally, .. } = self;
        let request = window.next(socket, due, tally);
        let Some(mut buf) = net.alloc() else { return Ok(()) };
        buf.put_slice(request).map_err(|error| refused("--bytes: more than a frame holds", &error))?;
        match sockets[socket].send(net, buf) {
            Ok(()) | Err(SendError::WouldBlock(_) | SendError::NoBuffers | SendError::HostUnreachable) => Ok(()),
            Err(error) => Err(refused("send", &error)),
        }
    }

    fn receive(&mut self, net: &mut Net<'_>, socket: UdpSocket) -> Result<()> {
        while let Some(datagram) = socket.recv(net) {
            let now = Instant::now();
            let answered = {
                let mut pieces = datagram.buf.pieces();
                match (pieces.next(), pieces.next()) {
                    (Some(answer), None) => self.window.answered(answer, now, &mut self.tally)?,
                    _ => return Err(LoadError::Unexpected("an answer in pieces".into())),
                }
            };
            drop(datagram);
            if let Some(socket) = answered
                && !self.paced
                && now < self.pace.end()
            {
                self.send(net, socket, now)?;
            }
        }
        Ok(())
    }

    /// Whether it is over.
    fn turn(&mut self, net: &mut Net<'_>) -> Result<bool> {
        let (now, end) = (Instant::now(), self.pace.end());
        if self.paced {
            for _ in 0..BURST {
                let Some(due) = self.pace.start(0, now) else { break };
                self.send(net, self.next_socket, due)?;
                self.next_socket = (self.next_socket + 1) % self.sockets.len();
            }
        } else {
            while let Some(socket) = self.window.give_up(now, &mut self.tally) {
                if now < end {
                    self.send(net, socket, now)?;
                }
            }
        }
        if now >= end {
            self.cpu_at_end.get_or_insert_with(cpu_time);
        }
        Ok(now >= end && (self.window.outstanding == 0 || now >= end + DRAIN))
    }

    fn result(&mut self) -> ExchangeResult {
        self.window.give_up_all(&mut self.tally);
        self.tally.result(self.cpu_at_end.unwrap_or_else(cpu_time))
    }
}

impl Client {
    fn tell(&mut self, result: Result<ExchangeResult>) {
        if let Some(outcome) = self.outcome.take() {
            // Nobody listens any more only if the time was up.
            let _ = outcome.send(result);
        }
    }
}

impl App for Client {
    fn start(&mut self, net: &mut Net<'_>) -> std::result::Result<(), AppError> {
        self.run = Some(Run::begin(&self.args, net)?);
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        let Some(run) = &mut self.run else { return };
        let heard = match event {
            Event::Readable(socket) => run.receive(net, socket),
            Event::Error(_) => Err(LoadError::Unexpected("nobody listens there".into())),
            Event::Writable(_) | Event::Timer(_) | Event::Acceptable(_) | Event::Tcp(..) | Event::Raw(..) => Ok(()),
        };
        if let Err(error) = heard {
            self.tell(Err(error));
        }
    }

    fn poll(&mut self, net: &mut Net<'_>) -> Work {
        let Some(run) = self.run.as_mut().filter(|_| self.outcome.is_some()) else { return Work::None };
        match run.turn(net) {
            Ok(false) => {}
            Ok(true) => {
                let result = run.result();
                self.tell(Ok(result));
            }
            Err(error) => self.tell(Err(error)),
        }
        Work::None
    }

    fn stop(&mut self, net: &mut Net<'_>) {
        for socket in self.run.take().into_iter().flat_map(|run| run.sockets) {
            socket.close(net);
        }
    }
}
