//! Clients over the engine's own sockets: an application on one worker, that spins.

mod bulk;
mod exchange;

pub(super) use bulk::run as run_bulk;
pub(super) use exchange::run as run_exchange;

use super::BulkArgs;
use anyhow::{Context, Result, ensure};
use clap::Args;
use framewire::{
    load::ExchangeOptions,
    runtime::{Engine, EngineConfig, IdlePolicy, WorkerProgram},
    socket::App,
    stack::StackConfig,
    wire::Ipv4Net,
};
use std::{sync::mpsc, time::Duration};

/// The engine is given so long to start and to resolve its neighbour, beside the time that is measured.
const SLACK: Duration = Duration::from_secs(15);

/// Where the engine runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct LinkArgs {
    /// Interface to take over (queue 0)
    #[arg(long, short)]
    interface: String,
    /// The engine's address with its network
    #[arg(long)]
    address: Ipv4Net,
    /// Do not look at received checksums
    #[arg(long)]
    trust_checksums: bool,
}

/// Options of `fw-tcp-rr` and `fw-tcp-crr`.
#[derive(Args, Debug)]
pub(crate) struct EngineExchangeArgs {
    #[command(flatten)]
    pub(super) exchange: ExchangeOptions,
    #[command(flatten)]
    pub(super) link: LinkArgs,
}

/// Options of `fw-tcp-bulk`.
#[derive(Args, Debug)]
pub(crate) struct EngineBulkArgs {
    #[command(flatten)]
    pub(super) bulk: BulkArgs,
    #[command(flatten)]
    pub(super) link: LinkArgs,
}

/// Where an application leaves what it has found out.
type Outcome<T> = mpsc::Sender<Result<T>>;

/// Runs an application on an engine until it has an outcome, which it must within `seconds` and some more.
fn run<T: Send + 'static>(
    link: &LinkArgs,
    core: Option<usize>,
    seconds: f64,
    app: impl Fn(Outcome<T>) -> Box<dyn App> + Send + Sync + 'static,
) -> Result<T> {
    let mut config = EngineConfig::new(&link.interface);
    config.addresses = vec![link.address];
    config.cores = core.into_iter().collect();
    config.worker.idle.policy = IdlePolicy::Spin;
    if link.trust_checksums {
        config.rx_checksum = framewire::stack::RxChecksum::Trust;
    }
    let mut stack = StackConfig::new([0; 32]);
    // As the kernel's clients are set up: all ports, and those of TIME-WAIT again after a millisecond.
    stack.ephemeral_ports = 1024..=65_535;
    stack.tcp.time_wait = framewire::time::Duration::from_millis(1);
    config.stack = Some(stack);
    let (sender, receiver) = mpsc::channel();
    let engine = Engine::start(config, move |_worker| WorkerProgram::App(app(sender.clone())))?;
    let outcome = receiver.recv_timeout(Duration::from_secs_f64(seconds) + SLACK);
    let report = engine.stop(Duration::from_secs(1));
    for worker in report.workers.iter().flatten() {
        let counters = &worker.snapshot.counters;
        ensure!(worker.error.is_none(), "the worker failed: {:?}", worker.error);
        ensure!(
            counters.bytes_copied_tx == 0 && counters.bytes_copied_rx == 0,
            "{} bytes copied on the way out, {} on the way in",
            counters.bytes_copied_tx,
            counters.bytes_copied_rx
        );
    }
    outcome.context("the engine has no result")?
}
