//! `fw-tcp-rr` and `fw-tcp-crr`: the same requests as over the kernel's sockets.

use super::{EngineExchangeArgs, Outcome};
use anyhow::{Result, anyhow, bail, ensure};
use framewire::{
    load::{DRAIN, Exchange, ExchangeOptions, ExchangeResult, Pace, Tally, cpu_time, number_request, request},
    socket::{App, AppError, Event, Net, TcpEvent, TcpOptions, TcpRecvError, TcpSendError, TcpStream, Work},
};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

/// Any port of any address of the engine's.
const ANY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

pub(in crate::tcp) fn run(args: &EngineExchangeArgs, exchange: Exchange) -> Result<()> {
    let options = args.exchange.clone();
    options.check()?;
    ensure!(options.idle == 0, "--idle: connections of the kernel's only");
    let seconds = options.warm_up + options.seconds + DRAIN.as_secs_f64();
    let result = super::run(&args.link, options.core, seconds, move |outcome| {
        Box::new(Client::new(options.clone(), exchange, outcome))
    })?;
    crate::tcp::print(&args.exchange, &result)
}

/// One connection, or one after another.
#[derive(Debug)]
struct Lane {
    stream: Option<TcpStream>,
    /// Whether the stream can send.
    connected: bool,
    /// When the request that is on its way was due.
    due: Option<Instant>,
    request: Vec<u8>,
    requests: u64,
    sent: usize,
    received: usize,
}

#[derive(Debug)]
struct Client {
    args: ExchangeOptions,
    exchange: Exchange,
    outcome: Option<Outcome<ExchangeResult>>,
    lanes: Vec<Lane>,
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
    fn new(args: ExchangeOptions, exchange: Exchange, outcome: Outcome<ExchangeResult>) -> Self {
        let lane = || Lane {
            stream: None,
            connected: false,
            due: None,
            request: request(args.bytes),
            requests: 0,
            sent: 0,
            received: 0,
        };
        let lanes = std::iter::repeat_with(lane).take(args.connections).collect();
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
        let stream = net.tcp_connect_with(ANY, self.args.target, options)?;
        stream.set_tag(net, number as u64);
        let lane = &mut self.lanes[number];
        (lane.stream, lane.connected) = (Some(stream), false);
        Ok(())
    }

    fn begin(&mut self, net: &mut Net<'_>) -> Result<()> {
        let args = &self.args;
        let first = Instant::now();
        let begin = first + Duration::from_secs_f64(args.warm_up);
        let end = begin + Duration::from_secs_f64(args.seconds);
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
        let lane = &mut self.lanes[number];
        (lane.due, lane.sent, lane.received) = (Some(due), 0, 0);
        number_request(&mut lane.request, lane.requests);
        lane.requests += 1;
        self.outstanding += 1;
        match self.exchange {
            Exchange::Request => self.send(net, number),
            Exchange::Connection => self.connect(net, number),
        }
    }

    /// Sends what goes of the request, a segment a buffer.
    fn send(&mut self, net: &mut Net<'_>, number: usize) -> Result<()> {
        let lane = &mut self.lanes[number];
        let (Some(stream), true, Some(_)) = (lane.stream, lane.connected, lane.due) else { return Ok(()) };
        let most = stream.mss(net).unwrap_or(0);
        while lane.sent < lane.request.len() {
            let rest = &lane.request[lane.sent..];
            let Some(mut buf) = net.alloc() else {
                self.stuck.push(number);
                return Ok(());
            };
            let piece = &rest[..rest.len().min(most).min(buf.capacity())];
            buf.put_slice(piece)?;
            match stream.send(net, buf) {
                Ok(()) => lane.sent += piece.len(),
                Err(TcpSendError::WouldBlock(_) | TcpSendError::Full) => return Ok(()),
                Err(error) => return Err(anyhow!("send: {error}")),
            }
        }
        Ok(())
    }

    /// Takes what is there; starts the next request when the answer is complete.
    fn receive(&mut self, net: &mut Net<'_>, number: usize, stream: TcpStream) -> Result<()> {
        // An answer may be the last that the stream is there for.
        while self.lanes[number].stream == Some(stream) {
            let lane = &mut self.lanes[number];
            let buf = match stream.recv(net) {
                Ok(buf) => buf,
                Err(TcpRecvError::WouldBlock) => return Ok(()),
                Err(error) => bail!("receive: {error}"),
            };
            for piece in buf.pieces() {
                let expected = lane.request.get(lane.received..lane.received + piece.len());
                let (bytes, at, request) = (piece.len(), lane.received, lane.requests.wrapping_sub(1));
                ensure!(expected == Some(piece), "wrong: {bytes} bytes at {at} of the answer to request {request}");
                lane.received += piece.len();
            }
            drop(buf);
            if lane.received == lane.request.len() {
                self.answered(net, number)?;
            }
        }
        Ok(())
    }

    fn answered(&mut self, net: &mut Net<'_>, number: usize) -> Result<()> {
        let lane = &mut self.lanes[number];
        let Some(due) = lane.due.take() else { bail!("an answer without a request") };
        self.outstanding -= 1;
        if self.exchange == Exchange::Connection
            && let Some(stream) = lane.stream.take()
        {
            stream.close(net);
        }
        let now = Instant::now();
        if let Some(run) = &mut self.run {
            run.tally.record(due, now);
        }
        self.start_request(net, number, now)
    }

    fn hear(&mut self, net: &mut Net<'_>, stream: TcpStream, event: TcpEvent) -> Result<()> {
        let Some(number) = stream.tag(net).and_then(|tag| usize::try_from(tag).ok()) else { return Ok(()) };
        let Some(lane) = self.lanes.get_mut(number).filter(|lane| lane.stream == Some(stream)) else { return Ok(()) };
        match event {
            TcpEvent::Connected => {
                lane.connected = true;
                self.connected += 1;
                self.send(net, number)
            }
            TcpEvent::Writable => self.send(net, number),
            TcpEvent::Readable => self.receive(net, number, stream),
            TcpEvent::PeerFinished => bail!("the server closed the connection"),
            TcpEvent::Closed(reason) => bail!("the connection ended: {reason}"),
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
        let Some(Run { pace, tally, cpu_at_end }) = &mut self.run else { bail!("it never began") };
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
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
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
        for stream in self.lanes.iter_mut().filter_map(|lane| lane.stream.take()) {
            stream.close(net);
        }
    }
}
