//! The C face: a Treck-style zero-copy socket API over the engine, for programs in C. `include/trsocket.h` is its other half, with the reference of every call.
//!
//! ```text
//!   trsocket.h ─► bsd, transfer, zero_copy, user_memory, select, options, inet     calls on sockets and buffers
//!              ─► events                                    calls back
//!              ─► start, turning, workers                   interfaces, routes, the loop, the clock, threads that turn the loop
//!                    │
//!                    ▼
//!              straight      the way of a plain zero-copy send: one look at each table
//!                    ▼
//!                  face      sockets, streams, messages, interfaces, the stack: all behind one gate; turn: the loop; park: where calls wait
//!                    ▼
//!                  interface ─► queue, each a worker's ─► xdp (a Linux interface by its name) or driver (the application's functions)
//! ```
//!
//! One process has one stack. Whoever calls enters the gate, a lock that the same thread may take again when a driver's function calls back. A call that must wait
//! turns the loop itself, and leaves the gate while it sleeps. With workers only these turn the loop, each for its own queues, and who must wait sleeps until something has happened on its socket.
//!
//! Handles are numbers, never pointers: a stale, forged or foreign one is told from a live one without touching memory. Pointers that the application gives are
//! checked for null and otherwise believed, as in C they must be.
#![allow(non_snake_case, reason = "the C face's names")]

mod bias;
pub mod bsd;
mod datagrams;
mod driver;
pub mod error;
pub mod events;
mod face;
mod flow;
mod gate;
pub mod inet;
mod interface;
mod lent;
mod links;
mod lock;
mod messages;
pub mod numbers;
mod options;
mod park;
mod queue;
mod select;
mod settings;
mod sockets;
pub mod start;
mod straight;
mod stream;
pub mod transfer;
mod turn;
pub mod turning;
pub mod types;
pub mod user_memory;
pub mod workers;
#[cfg(feature = "af-xdp")]
mod xdp;
pub mod zero_copy;
