//! What `setsockopt` changes of a socket.

use super::numbers as n;
use crate::{
    proto::tcp::rtt::RtoConfig,
    socket::{Keepalive, RxLimits, TcpOptions},
    time::Duration,
};
use std::ffi::c_int;

/// Options that are kept for source compatibility, since what they ask for is so in any case. (level, option, default, least, most).
pub(super) const HINTS: &[(c_int, c_int, c_int, c_int, c_int)] = &[
    // There is nothing to trace.
    (n::TM_SOL_SOCKET, n::TM_SO_DEBUG, 0, 0, c_int::MAX),
    // Copying sends fill the last segment that waits, however small or large they are.
    (n::TM_SOL_SOCKET, n::TM_SO_SNDAPPEND, 128, 0, c_int::MAX),
];

/// Options of which there is one value: another is refused. (level, option, value).
pub(super) const FIXED: &[(c_int, c_int, c_int)] = &[
    // Received frames are never joined by copying: queues are bounded in frames too.
    (n::TM_SOL_SOCKET, n::TM_SO_RCVCOPY, 0),
    (n::TM_IPPROTO_TCP, n::TM_TCP_NOPUSH, 0),
    // The stack's, not the connection's.
    (n::TM_IPPROTO_TCP, n::TM_TCP_2MSLTIME, 60),
    (n::TM_IPPROTO_TCP, n::TM_TCP_SEL_ACK, 1),
    (n::TM_IPPROTO_TCP, n::TM_TCP_WND_SCALE, 1),
    (n::TM_IPPROTO_TCP, n::TM_TCP_TS, 1),
    (n::TM_IPPROTO_TCP, n::TM_TCP_SLOW_START, 1),
];

/// Low-water mark for sending (4.4BSD's `sb_lowat`), in bytes.
const TX_LOW_WATER_BYTES: usize = 2048;

/// What `setsockopt` changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) ttl: u8,
    pub(super) tos: u8,
    pub(super) broadcast: bool,
    /// `IP_HDRINCL`, of raw sockets.
    pub(super) header_included: bool,
    pub(super) dont_route: bool,
    pub(super) reuse_address: bool,
    pub(super) rx_limits: RxLimits,
    /// Longest datagram that a non-blocking send takes; of a stream, its send queue.
    pub(super) tx_bytes_max: usize,
    /// The application chose the receive buffer: it does not grow by itself.
    pub(super) rx_bytes_fixed: bool,
    /// Zero: for ever.
    pub(super) rx_timeout: Duration,
    pub(super) tx_timeout: Duration,
    pub(super) rx_low_water_bytes: usize,
    pub(super) tx_low_water_bytes: usize,
    /// `SO_LINGER`: how long closing waits.
    pub(super) linger: Option<Duration>,
    pub(super) urgent_inline: bool,
    pub(super) standard_urgent_pointer: bool,
    pub(super) keepalive_on: bool,
    pub(super) keepalive: Keepalive,
    pub(super) nodelay: bool,
    /// Zero: the path's.
    pub(super) mss_max: u16,
    pub(super) user_timeout: Duration,
    pub(super) delayed_ack: Duration,
    pub(super) fin_wait2: Duration,
    pub(super) rto: RtoConfig,
    /// Of data; 0: no limit.
    pub(super) retransmissions_max: u8,
    pub(super) probe_min: Duration,
    pub(super) probe_max: Duration,
    pub(super) push_all: bool,
    /// Values of [`HINTS`].
    pub(super) hints: [c_int; HINTS.len()],
}

impl Options {
    /// Of a new datagram socket.
    pub(super) fn datagram() -> Self {
        let tcp = TcpOptions::default();
        let mut hints = [0; HINTS.len()];
        for (value, (_, _, default, ..)) in hints.iter_mut().zip(HINTS) {
            *value = *default;
        }
        Self {
            ttl: 64,
            tos: 0,
            broadcast: false,
            header_included: false,
            dont_route: false,
            reuse_address: false,
            rx_limits: RxLimits::default(),
            tx_bytes_max: 1 << 16,
            rx_bytes_fixed: false,
            rx_timeout: Duration::ZERO,
            tx_timeout: Duration::ZERO,
            rx_low_water_bytes: 1,
            tx_low_water_bytes: TX_LOW_WATER_BYTES,
            linger: None,
            urgent_inline: tcp.urgent_inline,
            standard_urgent_pointer: tcp.standard_urgent_pointer,
            keepalive_on: false,
            keepalive: Keepalive::default(),
            nodelay: tcp.nodelay,
            mss_max: 0,
            user_timeout: tcp.user_timeout,
            delayed_ack: tcp.delayed_ack,
            fin_wait2: tcp.fin_wait2,
            rto: RtoConfig::default(),
            retransmissions_max: tcp.retransmissions_max,
            probe_min: RtoConfig::default().min,
            probe_max: RtoConfig::default().max,
            push_all: tcp.push_all,
            hints,
        }
    }

    /// Of a new stream.
    pub(super) fn stream() -> Self {
        let tcp = TcpOptions::default();
        let rx_limits = RxLimits { bytes: tcp.recv_queue_bytes as usize, frames: tcp.recv_frames_max as usize };
        Self { rx_limits, tx_bytes_max: tcp.send_queue_bytes as usize, ..Self::datagram() }
    }

    /// The engine's words for them.
    pub(super) fn tcp(&self) -> TcpOptions {
        let defaults = TcpOptions::default();
        let bytes = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let rx_bytes = bytes(self.rx_limits.bytes);
        TcpOptions {
            nodelay: self.nodelay,
            keepalive: self.keepalive_on.then_some(self.keepalive),
            user_timeout: self.user_timeout,
            connect_timeout: self.user_timeout.min(defaults.connect_timeout),
            send_queue_bytes: bytes(self.tx_bytes_max),
            recv_queue_bytes: rx_bytes,
            recv_queue_bytes_max: if self.rx_bytes_fixed { rx_bytes } else { defaults.recv_queue_bytes_max },
            recv_frames_max: bytes(self.rx_limits.frames),
            delayed_ack: self.delayed_ack,
            standard_urgent_pointer: self.standard_urgent_pointer,
            urgent_inline: self.urgent_inline,
            tos: self.tos,
            ttl: self.ttl,
            mss_max: if self.mss_max == 0 { defaults.mss_max } else { self.mss_max },
            fin_wait2: self.fin_wait2,
            rto: Some(self.rto),
            retransmissions_max: self.retransmissions_max,
            probe_min: self.probe_min,
            probe_max: self.probe_max,
            push_all: self.push_all,
            ..defaults
        }
    }
}
