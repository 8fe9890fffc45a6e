//! TCP: bulk over the kernel's sockets and over the engine's, and a server of the kernel's. Requests and connections are `gen`'s.

mod bulk;
mod engine_bulk;
mod kernel_bulk;
mod kernel_server;

pub(crate) use bulk::{BulkArgs, BulkResult, Direction};
pub(crate) use engine_bulk::EngineBulkArgs;
pub(crate) use kernel_bulk::KernelBulkArgs;
pub(crate) use kernel_server::KernelServerArgs;

use anyhow::Result;

/// The base line's server.
pub(crate) fn run_server(args: &KernelServerArgs) -> Result<()> {
    kernel_server::run(args)
}

/// Bulk over the kernel's sockets.
pub(crate) fn run_bulk(args: &KernelBulkArgs) -> Result<()> {
    kernel_bulk::run(args)
}

/// As [`run_bulk`], over an engine's socket.
pub(crate) fn run_engine_bulk(args: &EngineBulkArgs) -> Result<()> {
    engine_bulk::run(args)
}
