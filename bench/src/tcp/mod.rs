//! TCP: requests and their answers, connections a second, and bulk; over the kernel's sockets here, over the engine's beside it.

mod bulk;
mod engine;
mod kernel_bulk;
mod kernel_server;

pub(crate) use bulk::{BulkArgs, BulkResult, Direction};
pub(crate) use engine::{EngineBulkArgs, EngineExchangeArgs};
pub(crate) use kernel_bulk::KernelBulkArgs;
pub(crate) use kernel_server::KernelServerArgs;

use anyhow::Result;
use clap::Args;
use framewire::load::{Exchange, ExchangeOptions, ExchangeResult, exchange_tcp};

/// Options of `tcp-rr` and `tcp-crr`.
#[derive(Args, Debug)]
pub(crate) struct KernelExchangeArgs {
    #[command(flatten)]
    exchange: ExchangeOptions,
    /// Never block; with --rate it never does
    #[arg(long)]
    spin: bool,
}

fn print(args: &ExchangeOptions, result: &ExchangeResult) -> Result<()> {
    if args.json {
        println!("{}", serde_json::to_string(result)?);
    } else {
        println!("{result}");
    }
    Ok(())
}

/// Request and answer on lasting connections.
pub(crate) fn run_rr(args: &KernelExchangeArgs) -> Result<()> {
    print(&args.exchange, &exchange_tcp(&args.exchange, Exchange::Request, args.spin)?)
}

/// Connect, request, answer, close.
pub(crate) fn run_crr(args: &KernelExchangeArgs) -> Result<()> {
    print(&args.exchange, &exchange_tcp(&args.exchange, Exchange::Connection, args.spin)?)
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
