//! Options and result of clients that send or receive as much as goes.

use anyhow::Result;
use clap::{Args, ValueEnum};
use framewire::load::RunOptions;
use serde::{Deserialize, Serialize};
use std::{net::SocketAddrV4, time::Duration};

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direction {
    /// To a sink
    Send,
    /// From a source
    Receive,
}

impl Direction {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
        }
    }
}

/// Options of clients for bulk.
#[derive(Args, Clone, Debug)]
pub(crate) struct BulkArgs {
    /// A sink or a source of bytes
    #[arg(long, short)]
    pub(crate) target: SocketAddrV4,
    /// What this side does
    #[arg(long, value_enum)]
    pub(crate) direction: Direction,
    /// How long, and where
    #[command(flatten)]
    pub(crate) run: RunOptions,
}

/// What such a client prints.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct BulkResult {
    pub(crate) bytes: u64,
    pub(crate) gbit_per_second: f64,
    /// Longest time without a byte.
    pub(crate) longest_stall_ms: f64,
    /// Segments that the engine sent again; `None` for a kernel, which is not asked.
    pub(crate) retransmissions: Option<u64>,
    /// Share of the sends without a copy that the kernel copied all the same.
    pub(crate) kernel_copied: Option<f64>,
}

impl BulkResult {
    pub(crate) fn new(bytes: u64, took: Duration, longest_stall: Duration) -> Self {
        let gbit_per_second = bytes as f64 * 8.0 / took.as_secs_f64() / 1e9;
        let longest_stall_ms = longest_stall.as_secs_f64() * 1e3;
        Self { bytes, gbit_per_second, longest_stall_ms, retransmissions: None, kernel_copied: None }
    }
}

impl BulkArgs {
    pub(crate) fn print(&self, result: &BulkResult) -> Result<()> {
        if self.run.json {
            println!("{}", serde_json::to_string(result)?);
        } else {
            let BulkResult { bytes, gbit_per_second, longest_stall_ms, retransmissions, kernel_copied } = result;
            let again = retransmissions.map_or(String::new(), |count| format!(", {count} retransmissions"));
            let copied = kernel_copied.map_or(String::new(), |share| format!(", {:.0} % copied", share * 100.0));
            println!(
                "{gbit_per_second:.3} Gbit/s ({bytes} bytes, longest stall {longest_stall_ms:.2} ms{again}{copied})"
            );
        }
        Ok(())
    }
}
