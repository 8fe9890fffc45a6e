//! TCP requests over the engine's sockets.

use super::{ANY, Carrier, refused, run_on};
use crate::{
    load::{DRAIN, Exchange, ExchangeOptions, ExchangeResult, Lane, LoadError, Pace, Tally, cpu_time},
    socket::{App, AppError, Event, Net, TcpEvent, TcpOptions, TcpRecvError, TcpSendError, TcpStream, Work},
};
use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

type Result<T> = std::result::Result<T, LoadError>;

/// As [`exchange_tcp`](crate::load::exchange_tcp), over the engine's sockets.
///
/// # Errors
/// A wrong option, an engine that does not start, a refusal of the service, a wrong answer.
pub fn exchange_tcp_on(carrier: &Carrier, args: &ExchangeOptions, exchange: Exchange) -> Result<ExchangeResult> {
    args.check()?;
    args.check_not_idle()?;
    let options = args.clone();
    run_on(carrier, &args.run, move |outcome| Box::new(Client::new(options.clone(), exchange, outcome)))?
}

/// A stream, and whether it can send.
#[derive(Clone, Copy, Debug)]
struct Link {
    stream: TcpStream,
    connected: bool,
}

#[derive(Debug)]
struct Client {
    args: ExchangeOptions,
    exchange: Exchange,
    outcome: Option<mpsc::Sender<Result<ExchangeResult>>>,
    lanes: Vec<Lane<Link>>,
    connected: usize,
    outstanding: usize,
    /// Lanes whose request found no frame or no room.
    stuck: Vec<usize>,
    /// From when all is connected.
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    pace: Pace,
    tally: Tally,
    cpu_at_end: Option<Duration>,
}

impl Client {
    fn new(args: ExchangeOptions, exchange: Exchange, outcome: mpsc::Sender<Result<ExchangeResult>>) -> Self {
        let lanes = std::iter::repeat_with(|| Lane::new(args.bytes)).take(args.connections).collect();
        Self {
            args,
            exchange,
            outcome: Some(outcome),
            lanes,
            connected: 0,
            outstanding: 0,
            stuck: Vec::new(),
            run: None,
        }
    }

    fn connect(&mut self, net: &mut Net<'_>, number: usize) -> Result<()> {
        let options = TcpOptions { nodelay: true, ..TcpOptions::default() };
        let stream =
            net.tcp_connect_with(ANY, self.args.target, options).map_err(|error| refused("connect", &error))?;
        stream.set_tag(net, number as u64);
        self.lanes[number].connection = Some(Link { stream, connected: false });
        Ok(())
    }

    fn begin(&mut self, net: &mut Net<'_>) -> Result<()> {
        let args = &self.args;
        let first = Instant::now();
        let (begin, end) = args.run.span(first);
        let pace = Pace::new(first, end, args.rate, args.connections);
        self.run = Some(Run { pace, tally: Tally::new(begin, end)?, cpu_at_end: None });
        if args.rate.is_none() {
            for number in 0..self.lanes.len() {
                self.start_request(net, number, first)?;
            }
        }
        Ok(())
    }

    /// Starts what is due on a free lane.
    fn start_request(&mut self, net: &mut Net<'_>, number: usize, now: Instant) -> Result<()> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let Some(due) = run.pace.start(number, now) else { return Ok(()) };
        self.lanes[number].begin(due);
        self.outstanding += 1;
        match self.exchange {
            Exchange::Request => self.send(net, number),
            Exchange::Connection => self.connect(net, number),
        }
    }

    /// Sends what goes of the request, a segment a buffer.
    fn send(&mut self, net: &mut Net<'_>, number: usize) -> Result<()> {
        let lane = &mut self.lanes[number];
        let Some(stream) = lane.connection.filter(|link| link.connected).map(|link| link.stream) else { return Ok(()) };
        if lane.due.is_none() {
            return Ok(());
        }
        let most = stream.mss(net).unwrap_or(0);
        while let (_, rest @ [_, ..]) = lane.unsent() {
            let Some(mut buf) = net.alloc() else {
                self.stuck.push(number);
                return Ok(());
            };
            let piece = &rest[..rest.len().min(most).min(buf.capacity())];
            buf.put_slice(piece).map_err(|error| refused("a buffer", &error))?;
            let bytes = piece.len();
            match stream.send(net, buf) {
                Ok(()) => lane.sent(bytes),
                Err(TcpSendError::WouldBlock(_) | TcpSendError::Full) => return Ok(()),
                Err(error) => return Err(refused("send", &error)),
            }
        }
        Ok(())
    }

    /// Takes what is there; starts the next request when the answer is complete.
    fn receive(&mut self, net: &mut Net<'_>, number: usize, stream: TcpStream) -> Result<()> {
        // An answer may be the last that the stream is there for.
        while self.lanes[number].connection.is_some_and(|link| link.stream == stream) {
            let lane = &mut self.lanes[number];
            let buf = match stream.recv(net) {
                Ok(buf) => buf,
                Err(TcpRecvError::WouldBlock) => return Ok(()),
                Err(error) => return Err(refused("receive", &error)),
            };
            let mut complete = false;
            for piece in buf.pieces() {
                complete = lane.accept(piece)?;
            }
            drop(buf);
            if complete {
                self.answered(net, number)?;
            }
        }
        Ok(())
    }

    fn answered(&mut self, net: &mut Net<'_>, number: usize) -> Result<()> {
        let lane = &mut self.lanes[number];
        let Some(due) = lane.due.take() else { return Ok(()) };
        self.outstanding -= 1;
        if self.exchange == Exchange::Connection
            && let Some(link) = lane.connection.take()
        {
            link.stream.close(net);
        }
        let now = Instant::now();
        if let Some(run) = &mut self.run {
            run.tally.record(due, now);
        }
        self.start_request(net, number, now)
    }

    fn hear(&mut self, net: &mut Net<'_>, stream: TcpStream, event: TcpEvent) -> Result<()> {
        let Some(number) = stream.tag(net).and_then(|tag| usize::try_from(tag).ok()) else { return Ok(()) };
        let link = self.lanes.get_mut(number).and_then(|lane| lane.connection.as_mut());
        let Some(link) = link.filter(|link| link.stream == stream) else { return Ok(()) };
        let ended = |what: String| Err(LoadError::Unexpected(what));
        match event {
            TcpEvent::Connected => {
                link.connected = true;
                self.connected += 1;
                self.send(net, number)
            }
            TcpEvent::Writable => self.send(net, number),
            TcpEvent::Readable => self.receive(net, number, stream),
            TcpEvent::PeerFinished => ended("the service closed the connection".into()),
            TcpEvent::Closed(reason) => ended(format!("the connection ended: {reason}")),
            TcpEvent::Urgent | TcpEvent::Sent => Ok(()),
        }
    }

    /// Whether it is over.
    fn turn(&mut self, net: &mut Net<'_>) -> Result<bool> {
        if self.run.is_none() {
            if self.exchange == Exchange::Connection || self.connected == self.lanes.len() {
                self.begin(net)?;
            }
            return Ok(false);
        }
        for number in std::mem::take(&mut self.stuck) {
            self.send(net, number)?;
        }
        let now = Instant::now();
        while let Some(number) = self.run.as_mut().and_then(|run| run.pace.newly_due(now)) {
            if self.lanes[number].due.is_none() {
                self.start_request(net, number, now)?;
            }
        }
        let Some(run) = &mut self.run else { return Ok(false) };
        let end = run.pace.end();
        if now >= end {
            run.cpu_at_end.get_or_insert_with(cpu_time);
        }
        Ok(now >= end && (self.outstanding == 0 || now >= end + DRAIN))
    }

    fn result(&mut self) -> Result<ExchangeResult> {
        let Some(Run { pace, tally, cpu_at_end }) = &mut self.run else {
            return Err(LoadError::Engine("it never began".into()));
        };
        tally.give_up_all(pace, self.lanes.iter().map(|lane| lane.due));
        Ok(tally.result(cpu_at_end.unwrap_or_else(cpu_time)))
    }

    fn tell(&mut self, result: Result<ExchangeResult>) {
        if let Some(outcome) = self.outcome.take() {
            // Nobody listens any more only if the time was up.
            let _ = outcome.send(result);
        }
    }
}

impl App for Client {
    fn start(&mut self, net: &mut Net<'_>) -> std::result::Result<(), AppError> {
        if self.exchange == Exchange::Request {
            for number in 0..self.lanes.len() {
                self.connect(net, number)?;
            }
        }
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        let Event::Tcp(stream, event) = event else { return };
        if let Err(error) = self.hear(net, stream, event) {
            self.tell(Err(error));
        }
    }

    fn poll(&mut self, net: &mut Net<'_>) -> Work {
        if self.outcome.is_none() {
            return Work::None;
        }
        match self.turn(net) {
            Ok(false) => {}
            Ok(true) => {
                let result = self.result();
                self.tell(result);
            }
            Err(error) => self.tell(Err(error)),
        }
        Work::None
    }

    fn stop(&mut self, net: &mut Net<'_>) {
        for Link { stream, .. } in self.lanes.iter_mut().filter_map(|lane| lane.connection.take()) {
            stream.close(net);
        }
    }
}
