//! `http`: static content by HTTP/1.1 (RFC 9110, RFC 9112).
//!
//! Requests are read where they lie, in the frame that they came in; only one that is cut by the end of a frame is gathered. Small responses are copied
//! into frames, several of a pipeline into one; the bodies of large ones lie in frames since the start, and go out from there to any number of
//! connections.
//!
//! Nothing that a peer does makes a connection hold more than one received frame, one frame to send, [`REQUEST_BYTES_MAX`] of a request, and the send queue. A
//! response is prepared only when the one before it has gone, so who does not read is not read from.

mod date;
mod request;
mod site;
#[cfg(test)]
mod tests;

use super::{
    Counts, Service,
    tcp::{Base, Gauge, Next},
};
use crate::{
    buf::{RxBuf, TxBuf},
    config::HttpPage,
    socket::{App, AppError, Event, Net, TcpEvent, TcpOptions, TcpSendError, TcpStream, Work},
    time::{Duration, Instant},
};
use date::Date;
use request::{Answer, Parsed, parse};
use site::{Body, Persistence, Site, Status};
use std::{net::SocketAddrV4, path::PathBuf, sync::Arc};

/// Longest request that is read; what a client sends is a tenth of it.
const REQUEST_BYTES_MAX: usize = 8192;
/// Requests of one connection answered in one turn at most.
const REQUESTS_PER_TURN: usize = 64;
/// How often it is looked for idle connections; so much later than said they may be closed.
const IDLE_POLL: Duration = Duration::from_millis(500);

/// What an [`HttpServer`] serves, and to whom.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Its number among the worker's [`Services`](super::Services).
    pub index: u32,
    /// Where it listens.
    pub local: SocketAddrV4,
    /// Most connections that wait to be accepted.
    pub backlog: usize,
    /// Most connections.
    pub connections_max: usize,
    /// Folder to serve.
    pub root: Option<PathBuf>,
    /// Pages to serve; they go before files of the same path.
    pub pages: Vec<HttpPage>,
    /// Most bytes of all content.
    pub content_bytes_max: usize,
    /// A connection that makes no progress for so long is closed.
    pub idle_timeout: Duration,
    /// What connections begin with.
    pub options: TcpOptions,
}

/// Answers GET and HEAD.
#[derive(Debug)]
pub struct HttpServer {
    config: HttpConfig,
    base: Base<Exchange>,
    /// Since the start.
    site: Option<Site>,
    date: Date,
    idle_check_at: Instant,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Requests are answered.
    #[default]
    Open,
    /// The last response has been written.
    Closing,
    /// What comes is dropped until the peer has finished too: a reset could overtake the last response (RFC 9112 section 9.6).
    Lingering,
}

/// A response under way.
#[derive(Clone, Copy, Debug)]
struct Response {
    answer: Answer,
    head_written: bool,
    /// Bytes of the body that are written.
    at: usize,
}

/// One connection.
#[derive(Debug, Default)]
struct Exchange {
    /// Received and not read yet.
    input: Option<RxBuf>,
    /// The beginning of a request that frames cut.
    gathered: Vec<u8>,
    response: Option<Response>,
    /// Being filled, or refused by the send queue.
    output: Option<TxBuf>,
    phase: Phase,
}

/// What the connections of a server share.
struct Context<'a, 'n> {
    net: &'a mut Net<'n>,
    stream: TcpStream,
    site: &'a Site,
    date: &'a mut Date,
    gauge: &'a mut Gauge,
    counts: &'a Counts,
}

impl HttpServer {
    /// A server; it loads its content and listens when it is started.
    pub fn new(config: HttpConfig, counts: Arc<Counts>) -> Self {
        let base = Base::new(config.index, config.options.clone(), config.connections_max, counts);
        Self { config, base, site: None, date: Date::new(), idle_check_at: Instant::ZERO }
    }

    fn serve(&mut self, net: &mut Net<'_>, slot: u32, told_again: bool) {
        let next = self.exchange(net, slot);
        // Nobody is told again whose requests lie in a frame that was taken already.
        let told_again = told_again && !self.has_input(slot);
        self.base.follow(net, slot, next, told_again);
    }

    fn has_input(&mut self, slot: u32) -> bool {
        self.base.conns.get_mut(slot).is_some_and(|conn| conn.state.input.is_some() || conn.state.response.is_some())
    }

    fn exchange(&mut self, net: &mut Net<'_>, slot: u32) -> Next {
        let Some(site) = &self.site else { return Next::Failed };
        let Base { conns, gauge, counts, .. } = &mut self.base;
        let Some(conn) = conns.get_mut(slot) else { return Next::Event };
        let now = net.now();
        let mut cx = Context { net, stream: conn.stream, site, date: &mut self.date, gauge, counts };
        let (answered, next) = conn.state.run(&mut cx);
        if answered > 0 {
            counts.http_requests.add(answered);
            conns.touch(slot, now);
        }
        next
    }

    fn timer(&mut self, net: &mut Net<'_>) {
        self.base.disarm();
        if net.now() < self.idle_check_at {
            return;
        }
        while let Some((slot, touched)) = self.base.conns.oldest()
            && net.now().saturating_since(touched) >= self.config.idle_timeout
        {
            self.base.counts.idle_timeouts.add(1);
            self.expire(net, slot);
        }
        self.arm_idle(net);
    }

    /// A connection has made no progress for too long.
    fn expire(&mut self, net: &mut Net<'_>, slot: u32) {
        let now = net.now();
        let Some(conn) = self.base.conns.get_mut(slot) else { return };
        let (stream, exchange) = (conn.stream, &mut conn.state);
        if exchange.phase == Phase::Open && exchange.response.is_none() && !exchange.gathered.is_empty() {
            // RFC 9110 section 15.5.9; it has the same time again to take that.
            exchange.gathered = Vec::new();
            exchange.refuse_all(self.site.as_ref(), Status::RequestTimeout);
            self.base.conns.touch(slot, now);
            self.serve(net, slot, false);
        } else if stream.unacked_bytes(net) == 0 && exchange.output.is_none() {
            self.base.close(net, slot);
        } else {
            self.base.abort(net, slot);
        }
    }

    fn arm_idle(&mut self, net: &mut Net<'_>) {
        self.idle_check_at = net.now() + IDLE_POLL;
        net.set_timer(IDLE_POLL, u64::from(self.config.index));
    }
}

impl Exchange {
    /// Answers what has come; returns how many requests, and what to wait for.
    fn run(&mut self, cx: &mut Context<'_, '_>) -> (u64, Next) {
        let mut answered = 0;
        for _ in 0..REQUESTS_PER_TURN {
            match self.step(cx) {
                Ok(true) => answered += 1,
                Ok(false) => {}
                Err(next) => return (answered, next),
            }
        }
        // The rest of the pipeline waits, not what is answered already.
        let next = self.flush(cx).err().unwrap_or(Next::Turn);
        (answered, next)
    }

    /// One step: true if a request was read.
    fn step(&mut self, cx: &mut Context<'_, '_>) -> Result<bool, Next> {
        self.write(cx)?;
        match self.phase {
            Phase::Open => {
                if let Some(answer) = self.next_request(cx.site) {
                    cx.counts.http_errors.add(u64::from(cx.site.page(answer.page).is_error));
                    self.response = Some(Response { answer, head_written: false, at: 0 });
                    return Ok(true);
                }
                match cx.stream.recv(cx.net) {
                    Ok(buf) => {
                        cx.counts.received.add(1);
                        cx.counts.received_payload_bytes.add(buf.total_len() as u64);
                        self.input = Some(buf);
                        Ok(false)
                    }
                    Err(error) => {
                        self.flush(cx)?;
                        Err(error.into())
                    }
                }
            }
            Phase::Closing => {
                self.flush(cx)?;
                cx.stream.shutdown(cx.net);
                (self.phase, self.input, self.gathered) = (Phase::Lingering, None, Vec::new());
                Ok(false)
            }
            Phase::Lingering => match cx.stream.recv(cx.net) {
                Ok(_dropped) => Ok(false),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Reads the next request, if it is all there.
    fn next_request(&mut self, site: &Site) -> Option<Answer> {
        loop {
            let bytes = self.input.as_ref()?.as_slice();
            let before = self.gathered.len();
            let taken = bytes.len().min(REQUEST_BYTES_MAX - before);
            let parsed = if before == 0 {
                parse(site, bytes)
            } else {
                self.gathered.extend_from_slice(&bytes[..taken]);
                // A request ends with a line: parsing again for less would cost a peer little and us much.
                if bytes[..taken].contains(&b'\n') { parse(site, &self.gathered) } else { Parsed::Partial }
            };
            match parsed {
                Parsed::Whole(used, answer) => {
                    self.gathered = Vec::new();
                    self.consume(used.saturating_sub(before));
                    return Some(answer);
                }
                Parsed::Partial if before + bytes.len() >= REQUEST_BYTES_MAX => {
                    let line = if before == 0 { bytes } else { &self.gathered };
                    let status = if line.contains(&b'\n') { Status::HeadersTooLarge } else { Status::UriTooLong };
                    return Some(refusal(site, status));
                }
                Parsed::Partial => {
                    if before == 0 {
                        self.gathered.extend_from_slice(bytes);
                    }
                    self.consume(taken);
                }
                Parsed::Wrong(status) => return Some(refusal(site, status)),
            }
        }
    }

    /// `bytes` of the first received piece have been read.
    fn consume(&mut self, bytes: usize) {
        let Some(mut input) = self.input.take() else { return };
        input.advance(bytes);
        self.input = if input.is_empty() { input.split_first().1 } else { Some(input) };
    }

    /// Answers with `status`, whatever has come.
    fn refuse_all(&mut self, site: Option<&Site>, status: Status) {
        self.response = site.map(|site| Response { answer: refusal(site, status), head_written: false, at: 0 });
    }

    /// Goes on with the response.
    fn write(&mut self, cx: &mut Context<'_, '_>) -> Result<(), Next> {
        let Some(mut response) = self.response else { return Ok(()) };
        let written = self.write_response(cx, &mut response);
        self.response = if written.is_ok() { None } else { Some(response) };
        if written.is_ok() && response.answer.persistence == Persistence::Close {
            self.phase = Phase::Closing;
        }
        written
    }

    fn write_response(&mut self, cx: &mut Context<'_, '_>, response: &mut Response) -> Result<(), Next> {
        let Answer { page, head_only, persistence } = response.answer;
        let page = cx.site.page(page);
        if !response.head_written {
            let head = page.head(persistence);
            let (output, _room) = self.room(cx, head.len())?;
            let at = output.len() + page.date_at;
            output.put_slice(head).map_err(|_| Next::Failed)?;
            let now = cx.net.now();
            output.as_mut_slice()[at..at + date::BYTES].copy_from_slice(cx.date.text(now));
            response.head_written = true;
        }
        if head_only {
            return Ok(());
        }
        match &page.body {
            Body::Small(body) => {
                while response.at < body.len() {
                    let (output, room) = self.room(cx, 1)?;
                    let n = room.min(body.len() - response.at);
                    output.put_slice(&body[response.at..response.at + n]).map_err(|_| Next::Failed)?;
                    response.at += n;
                }
            }
            Body::Shared { pieces, piece_bytes } => {
                self.flush(cx)?;
                while response.at < page.body_bytes {
                    let (piece, from) = (&pieces[response.at / piece_bytes], response.at % piece_bytes);
                    let to = piece.total_len();
                    match cx.stream.send_shared(cx.net, piece, from..to) {
                        Ok(()) => {
                            response.at += to - from;
                            cx.counts.sent.add(1);
                            cx.counts.sent_payload_bytes.add((to - from) as u64);
                        }
                        Err(TcpSendError::Full) => {
                            cx.counts.would_block.add(1);
                            return Err(Next::Event);
                        }
                        Err(_) => return Err(Next::Failed),
                    }
                }
            }
        }
        Ok(())
    }

    /// The buffer being filled, with room for `bytes`, and how much room that is.
    fn room(&mut self, cx: &mut Context<'_, '_>, bytes: usize) -> Result<(&mut TxBuf, usize), Next> {
        // More than a segment would be cut, and take a second descriptor.
        let segment = cx.stream.mss(cx.net).unwrap_or(usize::MAX);
        let room = |buf: &TxBuf| segment.min(buf.capacity()).saturating_sub(buf.len());
        if self.output.as_ref().is_some_and(|buf| room(buf) < bytes) {
            self.flush(cx)?;
        }
        let output = match self.output.take() {
            Some(output) => output,
            None if !cx.gauge.allows(cx.net, cx.stream) => return Err(Next::Frames),
            None => cx.net.alloc().ok_or(Next::Frames)?,
        };
        let room = room(&output).max(bytes);
        Ok((self.output.insert(output), room))
    }

    /// Sends what is filled.
    fn flush(&mut self, cx: &mut Context<'_, '_>) -> Result<(), Next> {
        let Some(output) = self.output.take() else { return Ok(()) };
        let bytes = output.total_len() as u64;
        match cx.stream.send(cx.net, output) {
            Ok(()) => {
                cx.counts.sent.add(1);
                cx.counts.sent_payload_bytes.add(bytes);
                Ok(())
            }
            Err(TcpSendError::WouldBlock(output)) => {
                self.output = Some(output);
                cx.counts.would_block.add(1);
                Err(Next::Event)
            }
            Err(_) => {
                cx.counts.send_errors.add(1);
                Err(Next::Failed)
            }
        }
    }
}

/// The answer after which nothing is read any more.
fn refusal(site: &Site, status: Status) -> Answer {
    Answer { page: site.status(status), head_only: false, persistence: Persistence::Close }
}

impl Service for HttpServer {}

impl App for HttpServer {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        let seeds = [net.random(), net.random(), net.random(), net.random()];
        let HttpConfig { local, backlog, root, pages, content_bytes_max, .. } = &self.config;
        let site = Site::load(root.as_deref(), pages, *content_bytes_max, net.stack().pool(), seeds)
            .map_err(|error| format!("http on {local}: {error}"))?;
        self.site = Some(site);
        self.base.listen(net, "http", *local, *backlog)?;
        self.arm_idle(net);
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        match event {
            Event::Acceptable(_) => {
                for slot in self.base.accept(net, Exchange::default) {
                    // What came before it was accepted was told to nobody.
                    self.serve(net, slot, false);
                }
            }
            Event::Tcp(stream, event) => {
                let Some(slot) = self.base.slot(net, stream) else { return };
                match event {
                    TcpEvent::Readable | TcpEvent::PeerFinished => self.serve(net, slot, true),
                    TcpEvent::Writable => {
                        // A quarter of the send queue has been taken.
                        self.base.conns.touch(slot, net.now());
                        self.serve(net, slot, true);
                    }
                    TcpEvent::Closed(reason) => drop(self.base.ended(net, slot, reason)),
                    TcpEvent::Connected | TcpEvent::Urgent | TcpEvent::Sent => {}
                }
            }
            Event::Timer(_) => self.timer(net),
            Event::Readable(_) | Event::Writable(_) | Event::Error(_) | Event::Raw(..) => {}
        }
    }

    #[inline]
    fn poll(&mut self, net: &mut Net<'_>) -> Work {
        for _ in 0..self.base.due(net) {
            let Some(slot) = self.base.conns.dequeue() else { break };
            self.serve(net, slot, false);
        }
        Work::None
    }

    fn stop(&mut self, net: &mut Net<'_>) {
        self.base.stop(net);
        self.site = None;
    }
}
