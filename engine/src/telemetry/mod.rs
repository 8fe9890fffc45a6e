//! What the engine tells of itself: counters with a sentence each, and latency histograms.
//!
//! Counters are plain integers in their worker; snapshots of them go to other threads.
#![forbid(unsafe_code)]

mod counters;

pub use counters::Counters;
