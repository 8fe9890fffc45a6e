//! What the path says: how much fits a packet (RFC 1191), and that the peer cannot be reached (RFC 5927).

use super::{
    connection::{Connection, HEADERS_BYTES, MSS_MIN, TIMESTAMP_BYTES},
    host::Host,
    sender::Phase,
    types::{CloseReason, TcpOptions, TcpState},
};
use crate::wire::seq::SeqNum;

impl Connection {
    /// The path carries packets of at most `mtu` bytes from now on (RFC 1191).
    pub fn set_path_mtu(&mut self, mtu: u16) {
        self.path_mss = path_mss(mtu, &self.options);
        self.set_mss();
    }

    /// A packet was too large (RFC 1191 section 6.4): what is larger than the path now carries goes again, in smaller segments; that is no sign of congestion.
    pub fn handle_too_big(&mut self, mtu: u16) {
        let old = self.send.mss;
        self.set_path_mtu(mtu);
        if self.send.mss >= old {
            return;
        }
        let mss = u32::from(self.send.mss);
        let mut lost = false;
        for at in 0..self.send.segments.len() {
            lost |= self.send.segments[at].payload_len() > mss && self.send.mark_lost(at);
        }
        if lost && matches!(self.send.phase, Phase::Open) {
            self.send.phase = Phase::Loss { end: self.send.nxt };
        }
    }

    /// The MSS from what peer, path and options allow (RFC 9293 section 3.7.1).
    pub(super) fn set_mss(&mut self) {
        let options_bytes = if self.timestamps { TIMESTAMP_BYTES } else { 0 };
        let mss = self.path_mss.min(self.send.peer_mss).saturating_sub(options_bytes).max(MSS_MIN - TIMESTAMP_BYTES);
        self.send.mss = mss;
        self.send.window.mss_bytes = u32::from(mss);
    }

    /// An acceptable ICMP error came for it. Protocol and port unreachable end an attempt (RFC 9293 section 3.9.2.2), but no established connection
    /// (RFC 5927 section 4); network and host unreachable may pass.
    pub fn handle_unreachable(&mut self, refused: bool, host: &mut impl Host) {
        if matches!(self.state, TcpState::SynSent | TcpState::SynReceived) {
            if refused {
                self.finish(CloseReason::Refused, host);
            } else {
                self.soft_error = true;
            }
        }
    }

    /// A number that an ICMP error quotes is one of what is in flight (RFC 5927 section 4.1).
    pub fn is_in_flight(&self, seq: SeqNum) -> bool {
        seq.ge(self.send.una) && seq.lt(self.send.nxt)
    }
}

pub(super) fn path_mss(mtu: u16, options: &TcpOptions) -> u16 {
    mtu.saturating_sub(HEADERS_BYTES).min(options.mss_max).max(MSS_MIN)
}
