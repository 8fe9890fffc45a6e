//! Bulk over a kernel socket, in blocks as large as iperf3's.

mod zero_copy;

use super::bulk::{BulkArgs, BulkResult, Direction};
use crate::affinity;
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

const BLOCK_BYTES: usize = 128 << 10;
/// A connection that does nothing for so long does not work.
const PATIENCE: Duration = Duration::from_secs(10);

/// How it sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// write and read
    #[default]
    Copy,
    /// send with MSG_ZEROCOPY
    Zerocopy,
    /// io_uring's IORING_OP_SEND_ZC
    IoUring,
}

/// Options of `tcp-bulk`.
#[derive(Args, Debug)]
pub(crate) struct KernelBulkArgs {
    #[command(flatten)]
    pub(crate) bulk: BulkArgs,
    /// How to send
    #[arg(long, value_enum, default_value_t)]
    pub(crate) way: Way,
}

pub(super) fn run(args: &KernelBulkArgs) -> Result<()> {
    args.bulk.run.check()?;
    affinity::pin(args.bulk.run.core)?;
    args.bulk.print(&measure(args)?)
}

fn measure(args: &KernelBulkArgs) -> Result<BulkResult> {
    let KernelBulkArgs { bulk: options, way } = args;
    let mut stream = TcpStream::connect_timeout(&options.target.into(), PATIENCE)
        .with_context(|| format!("connecting to {}", options.target))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    ensure!(
        *way == Way::Copy || options.direction == Direction::Send,
        "--way: only what is sent can go without a copy"
    );
    match way {
        Way::Copy => {
            let mut block = vec![0x5a; BLOCK_BYTES];
            steps(options, || match options.direction {
                Direction::Send => Ok(stream.write(&block)?),
                Direction::Receive => Ok(stream.read(&mut block)?),
            })
        }
        Way::Zerocopy => {
            let mut sender = zero_copy::Flagged::new(&stream)?;
            let result = steps(options, || sender.send())?;
            Ok(BulkResult { kernel_copied: sender.copied(), ..result })
        }
        Way::IoUring => {
            let mut sender = zero_copy::Uring::new(&stream)?;
            let result = steps(options, || sender.send())?;
            Ok(BulkResult { kernel_copied: sender.copied(), ..result })
        }
    }
}

/// Does `step`, which returns how many bytes it moved, for as long as is asked.
fn steps(args: &BulkArgs, mut step: impl FnMut() -> Result<usize>) -> Result<BulkResult> {
    let (begin, end) = args.run.span(Instant::now());
    let (mut bytes, mut longest_stall, mut last) = (0, Duration::ZERO, begin);
    loop {
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
            return Ok(BulkResult::new(bytes, now - begin, longest_stall));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewire::load::RunOptions;
    use std::{net::TcpListener, thread};

    #[test]
    fn every_way_sends_what_the_other_side_receives() {
        for &way in Way::value_variants() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let std::net::SocketAddr::V4(target) = listener.local_addr().unwrap() else { panic!("no IPv4") };
            let sink = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut block, mut bytes) = (vec![0; BLOCK_BYTES], 0);
                loop {
                    match stream.read(&mut block).unwrap() {
                        0 => return bytes,
                        count => {
                            assert!(block[..count].iter().all(|byte| *byte == 0x5a));
                            bytes += count as u64;
                        }
                    }
                }
            });
            let run = RunOptions { seconds: 0.2, warm_up: 0.0, ..RunOptions::default() };
            let bulk = BulkArgs { target, direction: Direction::Send, run };
            let result = measure(&KernelBulkArgs { bulk, way }).unwrap_or_else(|why| panic!("{way:?}: {why:#}"));
            let received = sink.join().unwrap();
            assert_eq!(received, result.bytes, "{way:?}");
            assert_eq!(result.kernel_copied.is_some(), way != Way::Copy, "{way:?}: {result:?}");
        }
    }
}
