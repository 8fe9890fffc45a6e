//! TCP (RFC 9293), without IO.
