//! TCP (RFC 9293), without IO: segments, timers and calls come in; segments and events go out.
//!
//! ```text
//!             handle_segment ─► input ───┐                      ┌─► sender   (pending, in flight, frozen bytes)
//!   Host      handle_timer ──► connection ┼─ Connection ─────────┼─► receiver (in order, out of order, window)
//!  (clock,    send, recv … ──────────────┘                      └─► recovery (RACK-TLP, SACK, NewReno, time-outs)
//!   frames,   poll_transmit ◄─ output ◄─ what has to go now            └─► congestion (CUBIC, NewReno), prr, rtt
//!   way out)  poll_event, poll_timeout
//! ```
//!
//! The states of RFC 9293 that need little have a type of their own: [`HalfOpen`] is SYN-RECEIVED of a passive open, [`TimeWait`] is TIME-WAIT; a listener is
//! the table that keeps them. The seven states in which data may flow differ only in which FINs were seen, so [`Connection`] is one type for them.
//!
//! Nearly all segments of an established connection take a shorter way with the same end, see [`predicted`]. The retransmit queue is the application's own
//! frames: see [`sender`].

pub mod congestion;
mod connection;
pub mod cookie;
mod half_open;
mod header;
mod host;
mod input;
pub mod isn;
mod output;
mod path;
pub mod ports;
mod predicted;
pub mod prr;
mod receiver;
mod recovery;
pub mod rtt;
mod sender;
mod spares;
mod time_wait;
mod timers;
mod types;

pub use connection::{Connection, Opening};
pub use half_open::{HalfOpen, HalfOpenReaction};
pub use host::{Host, IpFields, Stretch};
pub use input::{Incoming, Reaction};
pub use output::Progress;
pub use spares::Spares;
pub use time_wait::{TimeWait, TimeWaitReaction};
pub use types::{
    CloseReason, Ecn, Endpoints, Keepalive, LossDetection, NEVER, RecvRefusal, SendRefusal, TcpConfig, TcpEvent,
    TcpInfo, TcpOptions, TcpState, timestamp,
};
