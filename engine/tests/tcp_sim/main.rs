//! TCP in a simulated network: hosts, links and a clock in this process, everything decided by a seed. The same seed gives the same run, packet by packet.
//!
//! `FRAMEWIRE_SIM_TRACE=1` prints every frame that a link takes, with its fate.

mod endpoint;
mod goodput;
mod link;
mod network;
mod property;
mod random;
mod scenarios;
mod transfer;
mod udp;
