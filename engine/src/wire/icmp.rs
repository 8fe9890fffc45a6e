//! ICMP for IPv4 (RFC 792): the messages that the engine reads or sends.

use super::{be16, checksum};

/// Length of the header, in bytes: type, code, checksum and four bytes that depend on the type.
pub const HEADER_BYTES: usize = 8;

/// Message types (IANA).
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// Codes of [`kind::UNREACHABLE`].
pub mod unreachable {
    /// Host unreachable.
    pub const HOST: u8 = 1;
    /// Protocol unreachable.
    pub const PROTOCOL: u8 = 2;
    /// Port unreachable.
    pub const PORT: u8 = 3;
    /// Fragmentation needed and forbidden; the next hop's MTU is in the header (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
}

/// A parsed header. The checksum was not looked at: it covers the payload too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The last two bytes of the header: sequence number, or MTU.
    pub low: u16,
}

impl Header {
    /// Reads a header; `None` if it is cut.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let head: &[u8; HEADER_BYTES] = message.first_chunk()?;
        Some(Self { kind: head[0], code: head[1], low: be16(head, 6) })
    }
}

/// It is an error message: one that must not be answered by another (RFC 1122 section 3.2.2).
pub const fn is_error(kind: u8) -> bool {
    !matches!(kind, 0 | 8..=10 | 13..=18)
}

/// Writes an error message's header. `rest` is the header's last four bytes; `quote_sum` the sum of the quoted bytes.
pub fn write_error(header: &mut [u8; HEADER_BYTES], kind: u8, code: u8, rest: [u8; 4], quote_sum: u16) {
    header[0] = kind;
    header[1] = code;
    header[2..4].fill(0);
    header[4..].copy_from_slice(&rest);
    let sum = !checksum::add(checksum::sum(header), quote_sum);
    header[2..4].copy_from_slice(&sum.to_be_bytes());
}
