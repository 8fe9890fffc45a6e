//! TCP (RFC 9293), without IO.

pub mod congestion;
pub mod prr;
pub mod rtt;
