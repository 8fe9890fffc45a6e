//! The configuration file: TOML, read and checked once into an opaque [`Config`].
//!
//! Whatever is wrong with a file (syntax, an unknown key, a wrong type, a value out of range, two values that contradict each other) is
//! reported with file, line, column and field, all of it in one go:
//!
//! ```text
//! appliance.toml:12:8: interface.frames: must be from 64 to 4194304, not 12
//! appliance.toml:15:1: interface.adresses: unknown key; did you mean `addresses`?
//! ```
//!
//! To say where, the reader walks TOML's spanned tree by itself: a derived deserialiser stops at the first error and does not know the
//! field's path. Nothing here asks the machine (interfaces, cores, files): a configuration is right or wrong everywhere alike.
#![forbid(unsafe_code)]

mod error;
mod read;
mod schema;
mod service;
#[cfg(test)]
mod tests;

pub use error::{ConfigError, Problem};
pub use service::{Congestion, Ecn, HttpPage, Service, StreamOptions, Tcp, TcpFlow, TcpListen, Transport};

use crate::wire::Ipv4Net;
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

/// A configuration that was found right. Only [`load`](Self::load) and [`parse`](Self::parse) make one.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    interfaces: Vec<Interface>,
    worker: Worker,
    tcp: Tcp,
    services: Vec<Service>,
    log: Log,
    capture: Option<PathBuf>,
    faults: Option<Faults>,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is wrong: then every problem found.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text),
            Err(source) => Err(ConfigError::Read { file, source }),
        }
    }

    /// Reads `text`; `file` is for messages.
    ///
    /// # Errors
    /// Every problem found.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        schema::read(text).map_err(|problems| ConfigError::Invalid { file: file.into(), problems })
    }

    /// The interfaces: exactly one for now.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The interface.
    pub fn interface(&self) -> &Interface {
        &self.interfaces[0]
    }

    /// How workers run.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Limits of TCP.
    pub fn tcp(&self) -> &Tcp {
        &self.tcp
    }

    /// What the workers do; each worker runs all of it. Never empty; [`Service::Reflect`] is always alone.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// What is told meanwhile.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// A pcapng file for every packet.
    pub fn capture(&self) -> Option<&Path> {
        self.capture.as_deref()
    }

    /// Faults on purpose.
    pub fn faults(&self) -> Option<&Faults> {
        self.faults.as_ref()
    }
}

/// One `[[interface]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// How many of its queues are used, from 0 on; each has a worker.
    pub queues: u32,
    /// The engine's addresses with their networks.
    pub addresses: Vec<Ipv4Net>,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Further routes: network and next hop.
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// 802.1Q VLAN.
    pub vlan: Option<u16>,
    /// Checksums of received packets.
    pub rx_checksum: RxChecksum,
    /// Where the XDP program runs.
    pub xdp_mode: XdpMode,
    /// Whether the device must read and write the frames itself.
    pub zero_copy: ZeroCopy,
    /// Packets of several descriptors.
    pub multi_buffer: MultiBuffer,
    /// Which packets are the engine's.
    pub steering: Steering,
    /// Receive work in kernel threads on the workers' cores.
    pub napi_threads: bool,
    /// Frames of each worker.
    pub frames: u32,
    /// Size of a frame, in bytes; `None`: by the MTU.
    pub frame_bytes: Option<usize>,
    /// Frames of each worker set aside for buffers larger than a frame.
    pub run_frames: u32,
    /// Frames of each worker that senders leave to receiving.
    pub rx_reserve_frames: u32,
    /// Ring sizes.
    pub rings: Rings,
    /// Huge pages for the frames.
    pub huge_pages: HugePages,
    /// `SO_BUSY_POLL` in microseconds, where the socket is bound zero-copy; 0: off.
    pub busy_poll_us: u32,
}

/// Entries of an AF_XDP socket's rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Received packets.
    pub rx: u32,
    /// Packets to send.
    pub tx: u32,
    /// Frames lent for receiving.
    pub fill: u32,
    /// Frames that were sent.
    pub completion: u32,
}

/// What to do about the checksums of received UDP packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxChecksum {
    /// Drop wrong ones.
    Verify,
    /// Take also those with the pseudo-header's sum alone (a local sender left the rest to a device that does not exist).
    Partial,
    /// Look at none.
    Trust,
}

/// Where the XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver; where it refuses, after the socket buffer is built.
    Auto,
    /// In the driver or not at all.
    Native,
    /// After the socket buffer is built.
    Generic,
}

/// Whether the device must read and write the frames itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroCopy {
    /// Refuse to start without.
    Required,
    /// Where the driver can.
    Prefer,
    /// The kernel copies.
    Off,
}

/// Whether packets may consist of several descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MultiBuffer {
    /// If kernel and driver can.
    Auto,
    /// Refuse to start without.
    Always,
    /// Never.
    Off,
}

/// Which packets of the interface are the engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// All to its addresses.
    Owned,
    /// The kernel has the addresses too; only the services' ports are the engine's.
    Shared,
    /// Every frame.
    Everything,
}

/// Huge pages for the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// If there are any.
    Prefer,
    /// Base pages.
    Never,
}

/// `[worker]`: how all workers run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Core of each worker; empty: not pinned.
    pub cores: Vec<usize>,
    /// What to do when there is nothing to do.
    pub idle: Idle,
    /// How long [`Idle::Adaptive`] spins before it sleeps.
    pub spin: Duration,
    /// Measure how long the steps of a turn take.
    pub stage_histograms: bool,
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Look again at once.
    Spin,
    /// Spin for a while, then sleep.
    Adaptive,
    /// Sleep.
    Sleep,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Which messages go to stderr.
    pub level: Level,
    /// How often a one-line summary is printed; zero: never. `None`: not said.
    pub summary: Option<Duration>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What failed.
    Error,
    /// What is not as it should be.
    Warn,
    /// What happens.
    Info,
    /// Details.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `[faults]`: packets broken on purpose, for test rigs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// The same seed gives the same faults.
    pub seed: u64,
    /// For received packets.
    pub rx: FaultRates,
    /// For sent packets.
    pub tx: FaultRates,
}

/// How often a packet suffers what: probabilities from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaultRates {
    /// It vanishes.
    pub drop: f64,
    /// It comes twice.
    pub duplicate: f64,
    /// The next one overtakes it.
    pub reorder: f64,
    /// One bit of it flips.
    pub corrupt: f64,
    /// It loses its end.
    pub truncate: f64,
    /// It comes later.
    pub delay: f64,
    /// By at least this.
    pub delay_min: Duration,
    /// By at most this.
    pub delay_max: Duration,
}
