//! The command line of the generator.

use super::{
    BulkOptions, BulkResult, Exchange, ExchangeOptions, ExchangeResult, Knee, Limits, LoadError, bulk_tcp,
    exchange_tcp, exchange_udp, sweep,
};
#[cfg(feature = "af-xdp")]
use super::{Carrier, exchange_tcp_on, exchange_udp_on};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fmt;

/// Requests a second that a sweep begins with.
const FIRST_RATE: f64 = 1000.0;

/// Arguments of `framewire gen`.
#[derive(Args, Clone, Debug)]
pub struct GenArgs {
    #[command(subcommand)]
    load: Load,
}

#[derive(Clone, Debug, Subcommand)]
enum Load {
    /// UDP datagrams to an echo service and back.
    UdpRr(ExchangeArgs),
    /// Requests and answers over lasting TCP connections to an echo service.
    TcpRr(ExchangeArgs),
    /// Connect, one request, its answer, close.
    TcpCrr(ExchangeArgs),
    /// As many bytes as go over TCP connections.
    TcpBulk(BulkOptions),
}

#[derive(Args, Clone, Debug)]
struct ExchangeArgs {
    #[command(flatten)]
    options: ExchangeOptions,
    #[cfg(feature = "af-xdp")]
    #[command(flatten)]
    carrier: Carrier,
    /// Look for the highest rate that the service keeps up with, from --rate upwards; each rate is measured for --seconds
    #[arg(long)]
    sweep: bool,
    /// For --sweep: the longest 99th percentile that still counts as keeping up, in microseconds
    #[arg(long, requires = "sweep")]
    p99_us: Option<f64>,
    /// Never block; with a rate it never does
    #[arg(long)]
    spin: bool,
}

impl GenArgs {
    /// Whether the result is to be one line of JSON.
    #[must_use]
    pub fn json(&self) -> bool {
        match &self.load {
            Load::UdpRr(args) | Load::TcpRr(args) | Load::TcpCrr(args) => args.options.run.json,
            Load::TcpBulk(options) => options.run.json,
        }
    }
}

/// What a run found: a line or a table for people, JSON for programs.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// Of requests and answers.
    Exchange(ExchangeResult),
    /// Of a sweep.
    Sweep(Knee),
    /// Of bulk.
    Bulk(BulkResult),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(result) => result.fmt(f),
            Self::Sweep(knee) => knee.fmt(f),
            Self::Bulk(result) => result.fmt(f),
        }
    }
}

/// Does what the arguments say.
///
/// # Errors
/// A wrong option, a refusal of the kernel or of the service, a wrong answer.
pub fn run(args: &GenArgs) -> Result<Report, LoadError> {
    match &args.load {
        Load::UdpRr(args) => args.run(|options| args.udp(options)),
        Load::TcpRr(args) => args.run(|options| args.tcp(options, Exchange::Request)),
        Load::TcpCrr(args) => args.run(|options| args.tcp(options, Exchange::Connection)),
        Load::TcpBulk(options) => bulk_tcp(options).map(Report::Bulk),
    }
}

impl ExchangeArgs {
    fn udp(&self, options: &ExchangeOptions) -> Result<ExchangeResult, LoadError> {
        #[cfg(feature = "af-xdp")]
        if self.carrier.is_engine() {
            return exchange_udp_on(&self.carrier, options);
        }
        exchange_udp(options)
    }

    fn tcp(&self, options: &ExchangeOptions, exchange: Exchange) -> Result<ExchangeResult, LoadError> {
        #[cfg(feature = "af-xdp")]
        if self.carrier.is_engine() {
            return exchange_tcp_on(&self.carrier, options, exchange);
        }
        exchange_tcp(options, exchange, self.spin)
    }

    fn run(
        &self,
        measure: impl Fn(&ExchangeOptions) -> Result<ExchangeResult, LoadError>,
    ) -> Result<Report, LoadError> {
        self.options.check()?;
        if !self.sweep {
            return measure(&self.options).map(Report::Exchange);
        }
        let limits = Limits { p99_us_max: self.p99_us, ..Limits::default() };
        let first = self.options.rate.unwrap_or(FIRST_RATE);
        let at = |rate| measure(&ExchangeOptions { rate: Some(rate), ..self.options.clone() });
        sweep(first, &limits, at).map(Report::Sweep)
    }
}
