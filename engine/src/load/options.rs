//! What is asked, and how often.

use super::LoadError;
use clap::Args;
use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

/// Each request must say which one it is, so that an answer to another is noticed.
const BYTES_MIN: usize = 8;
const BYTES_MAX: usize = 1 << 20;

/// Options of every load.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// Seconds measured
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Seconds before that
    #[arg(long, default_value_t = 0.5)]
    pub warm_up: f64,
    /// Core to run on
    #[arg(long)]
    pub core: Option<usize>,
    /// Print the result as one line of JSON
    #[arg(long)]
    pub json: bool,
}

impl Default for RunOptions {
    /// As on the command line.
    fn default() -> Self {
        Self { seconds: 2.0, warm_up: 0.5, core: None, json: false }
    }
}

impl RunOptions {
    /// Whether they can be.
    ///
    /// # Errors
    /// Names what cannot.
    pub fn check(&self) -> Result<(), LoadError> {
        let most = 1e6;
        if self.seconds > 0.0 && self.seconds < most && (0.0..most).contains(&self.warm_up) {
            return Ok(());
        }
        Err(LoadError::Option("--seconds: must be above 0, --warm-up at least 0".into()))
    }

    /// When measuring begins and ends, if the load begins at `first`.
    #[must_use]
    pub fn span(&self, first: Instant) -> (Instant, Instant) {
        let begin = first + Duration::from_secs_f64(self.warm_up);
        (begin, begin + Duration::from_secs_f64(self.seconds))
    }
}

/// Options of clients that exchange requests for answers of the same length, with an echo service.
#[derive(Args, Clone, Debug)]
pub struct ExchangeOptions {
    /// The echo service
    #[arg(long, short)]
    pub target: SocketAddrV4,
    /// Request and answer, in bytes
    #[arg(long, default_value_t = 64)]
    pub bytes: usize,
    /// Connections (UDP: sockets), each with one request outstanding
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// TCP connections beside those, on which nothing happens
    #[arg(long, default_value_t = 0)]
    pub idle: usize,
    /// Requests a second over all connections, latency counted from when each was due; without it, each connection's next request
    /// follows the answer
    #[arg(long)]
    pub rate: Option<f64>,
    /// How long, and where
    #[command(flatten)]
    pub run: RunOptions,
}

impl ExchangeOptions {
    /// With the defaults of the command line.
    #[must_use]
    pub fn new(target: SocketAddrV4) -> Self {
        let (bytes, connections, idle, rate) = (64, 1, 0, None);
        Self { target, bytes, connections, idle, rate, run: RunOptions::default() }
    }

    /// Whether they can be.
    ///
    /// # Errors
    /// Names the first that cannot.
    pub fn check(&self) -> Result<(), LoadError> {
        let wrong = |text: String| Err(LoadError::Option(text));
        if !(BYTES_MIN..=BYTES_MAX).contains(&self.bytes) {
            return wrong(format!("--bytes {}: must be {BYTES_MIN} to {BYTES_MAX}", self.bytes));
        }
        if self.connections == 0 {
            return wrong("--connections: at least one".into());
        }
        if self.rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
            return wrong("--rate: must be above 0".into());
        }
        self.run.check()
    }

    /// Where no connections without traffic can be.
    pub(super) fn check_not_idle(&self) -> Result<(), LoadError> {
        if self.idle == 0 {
            return Ok(());
        }
        Err(LoadError::Option("--idle: over TCP and the kernel's sockets only".into()))
    }
}

/// What requests carry: `[number][pattern]`.
#[must_use]
pub fn request(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 31 + 7) as u8).collect()
}

/// Makes it the request of this number.
#[inline]
pub fn number_request(request: &mut [u8], number: u64) {
    if let Some(head) = request.first_chunk_mut() {
        *head = number.to_be_bytes();
    }
}
