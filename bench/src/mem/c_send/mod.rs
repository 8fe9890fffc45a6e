//! What `tfZeroCopySend` costs over the Rust call, and from a thread that is not the worker.
//!
//! A connected UDP socket or a TCP connection, on a driver of the application's that takes every frame and is done with it at once. Only the sends count, neither getting the buffers nor what
//! acknowledges them nor, but for [`From::Polled`], handing the frames to the driver.

mod c_call;
mod from_thread;
mod rust_call;

pub(super) use c_call::{address, buffer, send};

use super::{BATCH, FLOW, WARM_UP_BATCHES, introduction, tcp::peer::Peer};
use crate::affinity;
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use std::time::Instant;

/// Payload of a send, in bytes: whatever it is, it is not touched.
const PAYLOAD_BYTES: usize = 64;
/// Printed after the figure.
pub(crate) const SYSTEM_CALLS_UNIT: &str = "system calls/100,000 sends";
const FRAMES: usize = 4096;
const FRAME_BYTES: usize = 4096;

/// Where sends come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    /// A callback: frames leave in the turn that called it
    Callback,
    /// The thread that turns the loop: each frame leaves at once, which counts
    Polled,
    /// Another thread than the worker, which spins
    Thread,
}

/// What is sent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum On {
    /// A connected UDP socket
    #[default]
    Datagrams,
    /// A TCP connection without Nagle's algorithm
    Stream,
}

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CallSystem {
    /// `tfZeroCopySend`
    Framewire,
    /// The Rust call
    Rust,
}

impl CallSystem {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Framewire => "framewire",
            Self::Rust => "rust",
        }
    }

    pub(crate) fn does(self, from: From) -> bool {
        self == Self::Framewire || from != From::Thread
    }
}

impl On {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Datagrams => "datagrams",
            Self::Stream => "stream",
        }
    }
}

impl From {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Polled => "polled",
            Self::Thread => "thread",
        }
    }
}

/// Options of `c-send`.
#[derive(Args, Debug)]
pub(crate) struct CSendArgs {
    /// The call
    #[arg(long, value_enum)]
    system: CallSystem,
    /// Where it comes from
    #[arg(long, value_enum)]
    from: From,
    /// What it sends on
    #[arg(long, value_enum, default_value_t)]
    on: On,
    /// Nanoseconds between two sends of `thread`; 0: none
    #[arg(long, default_value_t = 0)]
    gap_ns: u64,
    /// Sends, after a warm-up
    #[arg(long, default_value_t = 1_000_000)]
    packets: usize,
    /// Core to run on; the worker has the last one
    #[arg(long)]
    core: Option<usize>,
}

/// Measures and prints.
pub(crate) fn run(args: &CSendArgs) -> Result<()> {
    ensure!(args.system.does(args.from), "--from thread: the Rust call is for the worker's own thread");
    ensure!(args.on == On::Datagrams || args.from != From::Thread, "--on stream: from a callback or polled");
    let batches = args.packets.div_ceil(BATCH).max(1);
    let (name, from, on, packets) = (args.system.name(), args.from.name(), args.on.name(), batches * BATCH);
    if args.from == From::Thread {
        let found = from_thread::measure(args.core, batches, args.gap_ns)?;
        println!("{name} {from}: {:.1} ns/send ({packets} sends)", found.p50_ns);
        println!(
            "mean {:.1} ns, p99 {:.1} ns, with a buffer {:.1} ns; {:.1} {SYSTEM_CALLS_UNIT}, {} refusals; the worker slept {} times and lost its core {} times",
            found.mean_ns,
            found.p99_ns,
            found.with_buffer_ns,
            found.system_calls as f64 * 1e5 / packets as f64,
            found.refused,
            found.worker.slept,
            found.worker.lost_core
        );
        return Ok(());
    }
    affinity::pin(args.core)?;
    let mut times_ns = match args.system {
        CallSystem::Framewire => c_call::batches(args.on, args.from, batches)?,
        CallSystem::Rust => rust_call::batches(args.on, args.from, batches)?,
    };
    println!("{name} {from} {on}: {:.1} ns/send ({packets} sends)", quantile(&mut times_ns, 0.5));
    Ok(())
}

pub(super) fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len().max(1) - 1) as f64 * q) as usize).copied().unwrap_or(f64::NAN)
}

/// The part that is measured: its own function, by whose name callgrind knows it.
#[inline(never)]
fn work_of_a_batch(send: &mut dyn FnMut()) {
    send();
}

fn timed(send: &mut dyn FnMut()) -> f64 {
    let begun = Instant::now();
    work_of_a_batch(send);
    begun.elapsed().as_nanos() as f64 / BATCH as f64
}

/// Lets a scripted client open the connection: `say` brings what it says to the stack, and returns what the stack answers.
fn establish(peer: &mut Peer, mut say: impl FnMut(&[u8]) -> Vec<Vec<u8>>) -> Result<()> {
    for frame in say(&peer.syn()) {
        peer.hear(&frame).map_err(anyhow::Error::msg)?;
    }
    ensure!(peer.is_connected(), "no answer to the SYN");
    say(peer.ack());
    Ok(())
}
