//! Worker loops and what starts and stops them: the only room that reads the clock.
//!
//! ```text
//!   one turn:  reap completions → refill → rx burst (≤ 64) → ingress → timers → application → egress → tx burst → kick
//! ```
//!
//! An [`Engine`] has one worker for each queue, each on a core of its own with its own port, frame pool, socket tables and random state; workers share nothing.
//! Other threads talk to a worker through a [`Remote`], a bounded queue of calls that it runs between turns.

#![forbid(unsafe_code)]

mod clock;
#[cfg(feature = "af-xdp")]
mod engine;
mod idle;
mod remote;
mod stages;
#[cfg(test)]
mod tests;
mod worker;

pub use clock::Clock;
#[cfg(feature = "af-xdp")]
pub use engine::{Engine, EngineConfig, EngineError, EngineReport, Steering, WorkerProgram};
pub(crate) use idle::{Backoff, Idler};
pub use idle::{IdleConfig, IdlePolicy};
pub use remote::{Remote, RemoteError};
pub use stages::{Stage, StageHistograms, StageSummary};
pub use worker::{AskListener, FrameHandler, Program, Snapshot, Worker, WorkerConfig, WorkerReport};
