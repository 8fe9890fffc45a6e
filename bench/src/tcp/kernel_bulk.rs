//! Bulk over a kernel socket, in blocks as large as iperf3's.

use super::bulk::{BulkArgs, BulkResult, Direction};
use crate::affinity;
use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

const BLOCK_BYTES: usize = 128 << 10;
/// A connection that does nothing for so long does not work.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(args: &BulkArgs) -> Result<()> {
    args.check()?;
    affinity::pin(args.core)?;
    let mut stream = TcpStream::connect_timeout(&args.target.into(), PATIENCE)
        .with_context(|| format!("connecting to {}", args.target))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut block = vec![0x5a; BLOCK_BYTES];
    let mut step = || match args.direction {
        Direction::Send => stream.write(&block),
        Direction::Receive => stream.read(&mut block),
    };
    let begin = Instant::now() + Duration::from_secs_f64(args.warm_up);
    let end = begin + Duration::from_secs_f64(args.seconds);
    let (mut bytes, mut longest_stall, mut last) = (0, Duration::ZERO, begin);
    let took = loop {
        let moved = step().with_context(|| args.direction.name())?;
        ensure!(moved > 0, "the other side closed the connection");
        let now = Instant::now();
        if now < begin {
            continue;
        }
        bytes += moved as u64;
        longest_stall = longest_stall.max(now.saturating_duration_since(last));
        last = now;
        if now >= end {
            break now - begin;
        }
    };
    args.print(&BulkResult::new(bytes, took, longest_stall))
}
