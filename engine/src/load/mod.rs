//! The load generator: what asks a host, any host, for as much as it gives, or for a constant rate of it, and measures.
//!
//! It is a client on the kernel's sockets, on one thread, or on the engine's own, over AF_XDP. At a constant rate ([`Pace`]) a request is due when it is due, whatever became of those before it, and
//! its latency counts from then, so that a stall counts for all that it held up. [`sweep`] looks for the highest rate that a host keeps up with. Every
//! answer is compared with what was asked.
//!
//! `framewire gen` is its command line ([`GenArgs`]).
#![forbid(unsafe_code)]

mod bulk;
mod command;
mod datagrams;
#[cfg(feature = "af-xdp")]
mod engine;
mod exchange;
mod lane;
mod options;
mod pace;
mod sweep;
mod tally;
mod window;

pub use bulk::{BulkOptions, BulkResult, Direction, bulk_tcp};
pub use command::{GenArgs, Report, run};
pub use datagrams::exchange_udp;
#[cfg(feature = "af-xdp")]
pub use engine::{Carrier, exchange_tcp_on, exchange_udp_on, run_on};
pub use exchange::{Exchange, exchange_tcp};
pub use options::{ExchangeOptions, RunOptions, number_request, request};
pub use pace::Pace;
pub use sweep::{Knee, Limits, Step, sweep};
pub use tally::{ExchangeResult, Percentiles, Tally, cpu_time};

use lane::Lane;
use std::{fmt::Display, io, time::Duration};
use window::Window;

/// How long answers are waited for after the last request.
pub const DRAIN: Duration = Duration::from_secs(2);

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An option that cannot be.
    #[error("{0}")]
    Option(String),
    /// The kernel refused something.
    #[error("{call}: {source}")]
    Call {
        /// What was asked of it.
        call: String,
        /// Its answer.
        source: io::Error,
    },
    /// The engine did not start, or did what it must not.
    #[error("{0}")]
    Engine(String),
    /// The other side did what it must not.
    #[error("{0}")]
    Unexpected(String),
}

/// Says what was asked of the kernel.
trait During<T> {
    fn during(self, call: impl Display) -> Result<T, LoadError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, call: impl Display) -> Result<T, LoadError> {
        self.map_err(|error| LoadError::Call { call: call.to_string(), source: error.into() })
    }
}

/// Keeps the calling thread on this core; `None` leaves it as it is.
fn pin(core: Option<usize>) -> Result<(), LoadError> {
    let Some(id) = core else { return Ok(()) };
    let known = core_affinity::get_core_ids().unwrap_or_default();
    if known.iter().any(|core| core.id == id) && core_affinity::set_for_current(core_affinity::CoreId { id }) {
        return Ok(());
    }
    let known: Vec<usize> = known.iter().map(|core| core.id).collect();
    Err(LoadError::Option(format!("--core {id}: this process may run on {known:?}")))
}

#[cfg(test)]
mod tests;
