//! TCP (RFC 9293), without IO.

pub mod congestion;
pub mod cookie;
pub mod isn;
pub mod ports;
pub mod prr;
pub mod rtt;
