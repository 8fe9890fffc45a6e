//! The same loads over the engine's own sockets: an application on one worker of an engine that spins on an AF_XDP interface.

mod datagrams;
mod exchange;

pub use datagrams::exchange_udp_on;
pub use exchange::exchange_tcp_on;

use super::{DRAIN, LoadError, RunOptions};
use crate::{
    runtime::{Engine, EngineConfig, IdlePolicy, WorkerProgram},
    socket::App,
    stack::{RxChecksum, StackConfig},
    wire::Ipv4Net,
};
use clap::{Args, ValueEnum};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::mpsc,
    time::Duration,
};

/// The engine is given so long to start and to resolve its neighbour, beside the time that is measured.
const SLACK: Duration = Duration::from_secs(15);
/// Any port of any address of the engine's.
const ANY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

/// Which received checksums are right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Checksums {
    /// Those over all that came
    #[default]
    Verify,
    /// Those over the pseudo-header alone as well, which a kernel puts on a veth
    Partial,
    /// All
    Trust,
}

/// Where the engine's sockets are.
#[derive(Args, Clone, Debug)]
pub struct Carrier {
    /// Not over the kernel's sockets but over the engine's own, by AF_XDP on queue 0 of this interface
    #[arg(long = "engine", value_name = "INTERFACE", requires = "address")]
    interface: Option<String>,
    /// The engine's address there, with its network, which the kernel must not have
    #[arg(long, value_name = "ADDRESS/BITS", requires = "interface")]
    address: Option<Ipv4Net>,
    /// The engine's next hop to other networks
    #[arg(long, requires = "interface")]
    gateway: Option<Ipv4Addr>,
    /// Which received checksums are right, for the engine
    #[arg(long, value_enum, default_value_t, requires = "interface")]
    rx_checksum: Checksums,
}

impl Carrier {
    /// The engine's sockets at this address of an interface.
    #[must_use]
    pub fn new(interface: &str, address: Ipv4Net) -> Self {
        let interface = Some(interface.to_owned());
        Self { interface, address: Some(address), gateway: None, rx_checksum: Checksums::default() }
    }

    /// Whether it is the engine's sockets that were asked for.
    #[must_use]
    pub fn is_engine(&self) -> bool {
        self.interface.is_some()
    }

    fn config(&self, core: Option<usize>) -> Result<EngineConfig, LoadError> {
        let (Some(interface), Some(address)) = (&self.interface, self.address) else {
            return Err(LoadError::Option("--engine and --address: both are needed".into()));
        };
        let mut config = EngineConfig::new(interface);
        config.addresses = vec![address];
        config.gateway = self.gateway;
        config.cores = core.into_iter().collect();
        config.worker.idle.policy = IdlePolicy::Spin;
        config.rx_checksum = match self.rx_checksum {
            Checksums::Verify => RxChecksum::Verify,
            Checksums::Partial => RxChecksum::Partial,
            Checksums::Trust => RxChecksum::Trust,
        };
        let mut stack = StackConfig::new([0; 32]);
        // All ports, and those of TIME-WAIT again after a millisecond: who opens connections by the ten thousand a second needs them.
        stack.ephemeral_ports = 1024..=65_535;
        stack.tcp.time_wait = crate::time::Duration::from_millis(1);
        config.stack = Some(stack);
        Ok(config)
    }
}

/// Runs an application on an engine until it sends its outcome, which it must within the time of `run` and some more.
///
/// # Errors
/// The engine does not start, it copied payload bytes, its worker failed, or there is no outcome.
pub fn run_on<T: Send + 'static>(
    carrier: &Carrier,
    run: &RunOptions,
    app: impl Fn(mpsc::Sender<T>) -> Box<dyn App> + Send + Sync + 'static,
) -> Result<T, LoadError> {
    let wrong = |what: String| Err(LoadError::Engine(what));
    let (sender, receiver) = mpsc::channel();
    let engine = Engine::start(carrier.config(run.core)?, move |_worker| WorkerProgram::App(app(sender.clone())));
    let engine = engine.map_err(|error| LoadError::Engine(error.to_string()))?;
    let patience = Duration::from_secs_f64(run.warm_up + run.seconds) + DRAIN + SLACK;
    let outcome = receiver.recv_timeout(patience);
    let report = engine.stop(Duration::from_secs(1));
    for worker in report.workers.iter().flatten() {
        let counters = &worker.snapshot.counters;
        if let Some(error) = &worker.error {
            return wrong(format!("the worker failed: {error}"));
        }
        let (tx, rx) = (counters.bytes_copied_tx, counters.bytes_copied_rx);
        if (tx, rx) != (0, 0) {
            return wrong(format!("{tx} bytes copied on the way out, {rx} on the way in"));
        }
    }
    outcome.map_err(|_| LoadError::Engine(format!("no result within {patience:?}")))
}

/// What a call of the engine's refused.
fn refused(call: &str, error: &dyn std::fmt::Display) -> LoadError {
    LoadError::Engine(format!("{call}: {error}"))
}
