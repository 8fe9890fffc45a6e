//! `fw-tcp-bulk`: one connection of the engine's, as much as goes.

use super::bulk::{BulkArgs, BulkResult, Direction};
use anyhow::{Result, anyhow, bail, ensure};
use clap::Args;
use framewire::{
    load::{Carrier, run_on},
    socket::{App, AppError, Event, Net, TcpEvent, TcpRecvError, TcpSendError, TcpStream, Work},
};
use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

/// Buffers sent in one turn at most: as many packets as are received in one.
const BURST: usize = 64;
/// A connection that does nothing for so long does not work.
const PATIENCE: Duration = Duration::from_secs(10);

/// Options of `fw-tcp-bulk`.
#[derive(Args, Debug)]
pub(crate) struct EngineBulkArgs {
    #[command(flatten)]
    bulk: BulkArgs,
    #[command(flatten)]
    carrier: Carrier,
}

/// Where the application leaves what it has found out.
type Outcome<T> = mpsc::Sender<Result<T>>;

pub(super) fn run(args: &EngineBulkArgs) -> Result<()> {
    let options = args.bulk.clone();
    options.run.check()?;
    let result =
        run_on(&args.carrier, &args.bulk.run, move |outcome| Box::new(Client::new(options.clone(), outcome)))??;
    args.bulk.print(&result)
}

#[derive(Debug)]
struct Client {
    args: BulkArgs,
    outcome: Option<Outcome<BulkResult>>,
    stream: Option<TcpStream>,
    connected: bool,
    /// The stream has said that it has no room, and not yet that it has again.
    blocked: bool,
    /// Since it was connected.
    bytes: u64,
    /// When what goes through begins to count.
    begin: Option<Instant>,
    measured: Option<Measured>,
}

#[derive(Debug)]
struct Measured {
    begin: Instant,
    bytes_before: u64,
    bytes: u64,
    retransmissions_before: u64,
    /// When the last of them went through.
    last: Instant,
    longest_stall: Duration,
}

impl Client {
    fn new(args: BulkArgs, outcome: Outcome<BulkResult>) -> Self {
        Self {
            args,
            outcome: Some(outcome),
            stream: None,
            connected: false,
            blocked: false,
            bytes: 0,
            begin: None,
            measured: None,
        }
    }

    /// Full segments, or full frames where those are smaller, with what happens to lie there, but for a number of eight bytes.
    fn send(&mut self, net: &mut Net<'_>) -> Result<()> {
        let (Some(stream), true, false) = (self.stream, self.connected, self.blocked) else { return Ok(()) };
        let segment_bytes = stream.mss(net).unwrap_or(0);
        for _ in 0..BURST {
            let Some(mut buf) = net.alloc() else { break };
            let bytes = segment_bytes.min(buf.capacity());
            buf.set_len(bytes)?;
            if let Some(head) = buf.as_mut_slice().first_chunk_mut() {
                *head = self.bytes.to_be_bytes();
            }
            match stream.send(net, buf) {
                Ok(()) => self.bytes += bytes as u64,
                Err(TcpSendError::WouldBlock(_) | TcpSendError::Full) => {
                    self.blocked = true;
                    break;
                }
                Err(error) => return Err(anyhow!("send: {error}")),
            }
        }
        Ok(())
    }

    fn receive(&mut self, net: &mut Net<'_>, stream: TcpStream) -> Result<()> {
        loop {
            match stream.recv(net) {
                Ok(buf) => self.bytes += buf.total_len() as u64,
                Err(TcpRecvError::WouldBlock) => return Ok(()),
                Err(error) => bail!("receive: {error}"),
            }
        }
    }

    fn hear(&mut self, net: &mut Net<'_>, stream: TcpStream, event: TcpEvent) -> Result<()> {
        match event {
            TcpEvent::Connected => {
                self.connected = true;
                self.begin = Some(Instant::now() + Duration::from_secs_f64(self.args.run.warm_up));
            }
            TcpEvent::Writable => self.blocked = false,
            TcpEvent::Readable => self.receive(net, stream)?,
            TcpEvent::PeerFinished => bail!("the server closed the connection"),
            TcpEvent::Closed(reason) => bail!("the connection ended: {reason}"),
            TcpEvent::Urgent | TcpEvent::Sent => {}
        }
        Ok(())
    }

    /// What has got through: sent bytes count when they are acknowledged.
    fn through(&self, net: &Net<'_>) -> u64 {
        let unacked = self.stream.map_or(0, |stream| stream.unacked_bytes(net));
        self.bytes - if self.args.direction == Direction::Send { unacked as u64 } else { 0 }
    }

    fn turn(&mut self, net: &mut Net<'_>) -> Result<Option<BulkResult>> {
        if self.args.direction == Direction::Send {
            self.send(net)?;
        }
        let now = Instant::now();
        if self.begin.is_none_or(|begin| now < begin) {
            return Ok(None);
        }
        let bytes = self.through(net);
        let retransmissions = self.retransmissions(net);
        let measured = self.measured.get_or_insert(Measured {
            begin: now,
            bytes_before: bytes,
            bytes,
            retransmissions_before: retransmissions,
            last: now,
            longest_stall: Duration::ZERO,
        });
        if bytes > measured.bytes {
            measured.longest_stall = measured.longest_stall.max(now - measured.last);
            (measured.bytes, measured.last) = (bytes, now);
        }
        ensure!(now - measured.last < PATIENCE, "it stalled after {bytes} bytes");
        let took = now - measured.begin;
        let over = took.as_secs_f64() >= self.args.run.seconds;
        Ok(over.then(|| BulkResult {
            retransmissions: Some(retransmissions - measured.retransmissions_before),
            ..BulkResult::new(bytes - measured.bytes_before, took, measured.longest_stall)
        }))
    }

    fn retransmissions(&self, net: &Net<'_>) -> u64 {
        let info = self.stream.and_then(|stream| stream.info(net));
        info.map_or(0, |info| u64::from(info.retransmissions))
    }

    fn tell(&mut self, result: Result<BulkResult>) {
        if let Some(outcome) = self.outcome.take() {
            // Nobody listens any more only if the time was up.
            let _ = outcome.send(result);
        }
    }
}

impl App for Client {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        self.stream = Some(net.tcp_connect(self.args.target)?);
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        let Event::Tcp(stream, event) = event else { return };
        if let Err(error) = self.hear(net, stream, event) {
            self.tell(Err(error));
        }
    }

    fn poll(&mut self, net: &mut Net<'_>) -> Work {
        if self.outcome.is_some()
            && let Some(result) = self.turn(net).transpose()
        {
            self.tell(result);
        }
        Work::None
    }

    fn stop(&mut self, net: &mut Net<'_>) {
        if let Some(stream) = self.stream.take() {
            stream.abort(net);
        }
    }
}
