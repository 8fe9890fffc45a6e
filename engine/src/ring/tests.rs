//! Rings against an oracle, against a hostile other end, with two threads, and (under `--cfg loom`) under every interleaving.

#[cfg(loom)]
mod interleavings;

#[cfg(not(loom))]
mod one_thread;
#[cfg(not(loom))]
mod two_threads;
