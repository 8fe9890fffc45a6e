//! Protocol machines without IO: each owns its state and its rules, is told what arrived and what time it is, and answers what to do.
//!
//! Nothing here sends, sleeps, reads a clock or draws random numbers: time and hash keys are arguments. All state is bounded by its
//! configuration, whatever arrives; packets held here are values of [`buf`](crate::buf) (or of the caller's own type), so dropping one frees
//! its frames.
#![forbid(unsafe_code)]

mod deque;
mod fifo;
pub mod fragment;
pub mod ip_id;
mod list;
pub mod neighbour;
pub mod path_mtu;
pub mod rate;
pub mod raw;
pub mod route;
pub mod rx_queue;
pub mod tcp;
pub mod udp;

use std::fmt;

/// A network interface of this worker, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfaceId(pub u8);

impl fmt::Display for IfaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interface {}", self.0)
    }
}
