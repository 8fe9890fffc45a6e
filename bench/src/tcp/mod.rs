//! TCP: requests and their answers, connections a second, and bulk; over the kernel's sockets here, over the engine's beside it.

mod bulk;
mod engine;
mod kernel_bulk;
mod kernel_exchange;
mod kernel_server;
mod pace;
mod tally;

pub(crate) use bulk::{BulkArgs, BulkResult, Direction};
pub(crate) use engine::{EngineBulkArgs, EngineExchangeArgs};
pub(crate) use kernel_bulk::KernelBulkArgs;
pub(crate) use kernel_server::KernelServerArgs;
pub(crate) use tally::{ExchangeResult, Percentiles};

use anyhow::{Result, ensure};
use clap::Args;
use std::{net::SocketAddrV4, time::Duration};

/// Each request must say which one it is, so that an answer to another is noticed.
const BYTES_MIN: usize = 8;
const BYTES_MAX: usize = 1 << 20;
/// How long answers are waited for after the last request.
const DRAIN: Duration = Duration::from_secs(2);

/// Options of the clients that exchange requests for answers of the same length, with an echo service.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExchangeArgs {
    /// The echo service
    #[arg(long, short)]
    pub(crate) target: SocketAddrV4,
    /// Request and answer, in bytes
    #[arg(long, default_value_t = 64)]
    pub(crate) bytes: usize,
    /// Connections, each with one request outstanding
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    /// Requests a second over all connections, latency counted from when each was due; without it, each connection's next request
    /// follows the answer
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Seconds measured
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Seconds before that
    #[arg(long, default_value_t = 0.5)]
    pub(crate) warm_up: f64,
    /// Core to run on
    #[arg(long)]
    pub(crate) core: Option<usize>,
    /// Print the result as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl ExchangeArgs {
    fn check(&self) -> Result<()> {
        ensure!(
            (BYTES_MIN..=BYTES_MAX).contains(&self.bytes),
            "--bytes {}: must be {BYTES_MIN} to {BYTES_MAX}",
            self.bytes
        );
        ensure!(self.connections > 0, "--connections: at least one");
        ensure!(self.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()), "--rate: must be above 0");
        ensure!(self.seconds > 0.0 && self.warm_up >= 0.0, "--seconds: must be above 0, --warm-up at least 0");
        Ok(())
    }

    fn print(&self, result: &ExchangeResult) -> Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(result)?);
        } else {
            println!("{result}");
        }
        Ok(())
    }
}

/// Whether connections last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// One connection, many requests.
    Request,
    /// Connect, one request, its answer, close; all of that is the latency.
    Connection,
}

/// Options of `tcp-rr` and `tcp-crr`.
#[derive(Args, Debug)]
pub(crate) struct KernelExchangeArgs {
    #[command(flatten)]
    exchange: ExchangeArgs,
    /// Never block; with --rate it never does
    #[arg(long)]
    spin: bool,
}

/// Request and answer on lasting connections.
pub(crate) fn run_rr(args: &KernelExchangeArgs) -> Result<()> {
    kernel_exchange::run(args, Exchange::Request)
}

/// Connect, request, answer, close.
pub(crate) fn run_crr(args: &KernelExchangeArgs) -> Result<()> {
    kernel_exchange::run(args, Exchange::Connection)
}

/// The base line's server.
pub(crate) fn run_server(args: &KernelServerArgs) -> Result<()> {
    kernel_server::run(args)
}

/// Bulk over the kernel's sockets.
pub(crate) fn run_bulk(args: &KernelBulkArgs) -> Result<()> {
    kernel_bulk::run(args)
}

/// As [`run_rr`], over the engine's sockets.
pub(crate) fn run_engine_rr(args: &EngineExchangeArgs) -> Result<()> {
    engine::run_exchange(args, Exchange::Request)
}

/// As [`run_crr`], over the engine's sockets.
pub(crate) fn run_engine_crr(args: &EngineExchangeArgs) -> Result<()> {
    engine::run_exchange(args, Exchange::Connection)
}

/// As [`run_bulk`], over an engine's socket.
pub(crate) fn run_engine_bulk(args: &EngineBulkArgs) -> Result<()> {
    engine::run_bulk(args)
}

/// What requests carry: `[number][pattern]`.
fn request(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 31 + 7) as u8).collect()
}

/// Makes it the request of this number.
#[inline]
fn number_request(request: &mut [u8], number: u64) {
    if let Some(head) = request.first_chunk_mut() {
        *head = number.to_be_bytes();
    }
}
