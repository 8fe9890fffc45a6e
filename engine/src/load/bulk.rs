//! As many bytes as go over TCP connections, by one edge-triggered epoll loop.

use super::{During, LoadError, RunOptions, pin};
use crate::service::pattern;
use clap::{Args, ValueEnum};
use rustix::{
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    io::Errno,
    net::{self, RecvFlags, SendFlags},
};
use serde::Serialize;
use std::{
    fmt,
    net::{SocketAddrV4, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

const BLOCK_BYTES: usize = 128 << 10;
/// Of a connection that echoes, what may be on its way.
const ECHO_WINDOW_BYTES: u64 = 1 << 20;
const EVENTS: usize = 256;
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// A service that does not take a connection, or moves nothing at all, for so long is not there.
const PATIENCE: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, LoadError>;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// To a sink
    Send,
    /// From a source
    Receive,
    /// To an echo service and back
    Echo,
}

/// Options of bulk.
#[derive(Args, Clone, Debug)]
pub struct BulkOptions {
    /// A sink, a source or an echo of bytes
    #[arg(long, short)]
    pub target: SocketAddrV4,
    /// Which way the bytes go
    #[arg(long, value_enum, default_value = "send")]
    pub direction: Direction,
    /// Connections
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Of what is received, check that each aligned group of eight bytes is its own number, as the appliance's tcp-source sends them; an echo is
    /// always checked
    #[arg(long)]
    pub numbered: bool,
    /// How long, and where
    #[command(flatten)]
    pub run: RunOptions,
}

/// What came of it. An echo counts what came back.
#[derive(Clone, Debug, Serialize)]
pub struct BulkResult {
    /// Over all connections.
    pub bytes: u64,
    /// The same, a second.
    pub gbit_per_second: f64,
    /// Of the connection that moved least.
    pub bytes_min: u64,
    /// Of the connection that moved most.
    pub bytes_max: u64,
    /// Connections.
    pub connections: usize,
}

impl fmt::Display for BulkResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, gbit_per_second, bytes_min, bytes_max, connections } = self;
        write!(
            f,
            "{gbit_per_second:.3} Gbit/s over {connections} connections ({bytes} bytes, {bytes_min} to {bytes_max} each)"
        )
    }
}

#[derive(Debug)]
struct Lane {
    socket: OwnedFd,
    /// Since it was connected.
    sent: u64,
    received: u64,
    /// Of `sent` or `received`, before the measured time.
    before: u64,
}

impl Lane {
    fn counted(&self, direction: Direction) -> u64 {
        if direction == Direction::Send { self.sent } else { self.received }
    }
}

/// Sends or receives as much as goes.
///
/// # Errors
/// A wrong option, a refusal of the kernel or of the service, a connection that ends, wrong bytes.
pub fn bulk_tcp(args: &BulkOptions) -> Result<BulkResult> {
    args.run.check()?;
    if args.connections == 0 {
        return Err(LoadError::Option("--connections: at least one".into()));
    }
    pin(args.run.core)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).during("epoll_create1")?;
    let mut lanes = Vec::with_capacity(args.connections);
    for number in 0..args.connections {
        let stream = TcpStream::connect_timeout(&args.target.into(), PATIENCE)
            .during(format_args!("connect to {}", args.target))?;
        stream.set_nonblocking(true).during("O_NONBLOCK")?;
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&epoll, &stream, EventData::new_u64(number as u64), interest).during("epoll_ctl")?;
        lanes.push(Lane { socket: stream.into(), sent: 0, received: 0, before: 0 });
    }
    let (mut begin, mut end) = args.run.span(Instant::now());
    let mut measuring = false;
    let mut last_moved = Instant::now();
    let mut block = vec![0; BLOCK_BYTES];
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        let now = Instant::now();
        if !measuring && now >= begin {
            measuring = true;
            // What is counted is counted from here, however late that is.
            (end, begin) = (now + (end - begin), now);
            lanes.iter_mut().for_each(|lane| lane.before = lane.counted(args.direction));
        }
        if now >= end {
            return Ok(result(args, &lanes, now - begin));
        }
        events.clear();
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&WAIT)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).during("epoll_wait"),
        }
        let mut moved = false;
        for event in &events {
            let number = event.data.u64() as usize;
            moved |= step(args, &epoll, number, &mut lanes[number], &mut block)?;
        }
        if moved {
            last_moved = now;
        } else if now.saturating_duration_since(last_moved) > PATIENCE {
            return Err(LoadError::Unexpected(format!("nothing moved for {PATIENCE:?}")));
        }
    }
}

fn result(args: &BulkOptions, lanes: &[Lane], took: Duration) -> BulkResult {
    let each = || lanes.iter().map(|lane| lane.counted(args.direction) - lane.before);
    let bytes = each().sum::<u64>();
    BulkResult {
        bytes,
        gbit_per_second: bytes as f64 * 8.0 / took.as_secs_f64() / 1e9,
        bytes_min: each().min().unwrap_or(0),
        bytes_max: each().max().unwrap_or(0),
        connections: lanes.len(),
    }
}

/// A block each way, so that no connection starves the others; whether anything moved. What has more to do is told again.
fn step(args: &BulkOptions, epoll: &OwnedFd, number: usize, lane: &mut Lane, block: &mut [u8]) -> Result<bool> {
    let (mut moved, mut more) = (false, false);
    if args.direction != Direction::Send {
        match net::recv(&lane.socket, &mut *block, RecvFlags::empty()) {
            Ok((0, _)) => return Err(LoadError::Unexpected("the service closed the connection".into())),
            Ok((count, _)) => {
                let checked = args.numbered || args.direction == Direction::Echo;
                if checked && pattern::count_wrong(lane.received, &block[..count]) > 0 {
                    return Err(LoadError::Unexpected(format!(
                        "wrong bytes after {} of connection {number}",
                        lane.received
                    )));
                }
                lane.received += count as u64;
                (moved, more) = (true, true);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error).during("recv"),
        }
    }
    if args.direction != Direction::Receive {
        let room = if args.direction == Direction::Echo {
            ECHO_WINDOW_BYTES.saturating_sub(lane.sent - lane.received).min(block.len() as u64) as usize
        } else {
            block.len()
        };
        if room > 0 {
            pattern::write(lane.sent, &mut block[..room]);
            match net::send(&lane.socket, &block[..room], SendFlags::NOSIGNAL) {
                Ok(count) => {
                    lane.sent += count as u64;
                    (moved, more) = (true, true);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error).during("send"),
            }
        }
    }
    if more {
        // Arms the edge again.
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::modify(epoll, &lane.socket, EventData::new_u64(number as u64), interest).during("epoll_ctl")?;
    }
    Ok(moved)
}
