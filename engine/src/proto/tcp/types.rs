//! Names and limits of TCP.

use super::{congestion::Algorithm, rtt::RtoConfig};
use crate::{
    buf::TxBuf,
    time::{Duration, Instant},
};
use std::{fmt, net::SocketAddrV4};

/// Never: for deadlines that are not set.
pub const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// Our timestamp at `now` for a connection whose clock is ahead by `offset` (RFC 7323 section 5.4: milliseconds).
#[inline]
pub fn timestamp(now: Instant, offset: u32) -> u32 {
    ((now.as_nanos() / 1_000_000) as u32).wrapping_add(offset)
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// Ours.
    pub local: SocketAddrV4,
    /// The peer's.
    pub remote: SocketAddrV4,
}

/// States of a connection (RFC 9293 section 3.3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcpState {
    /// There is none.
    #[default]
    Closed,
    /// Our SYN waits for its answer.
    SynSent,
    /// Both SYNs are under way.
    SynReceived,
    /// Data flows.
    Established,
    /// Our FIN is sent.
    FinWait1,
    /// Our FIN is acknowledged.
    FinWait2,
    /// The peer's FIN has come; the application may still send.
    CloseWait,
    /// Both FINs have crossed; ours is not acknowledged yet.
    Closing,
    /// The peer's FIN came first, ours is sent and not acknowledged.
    LastAck,
    /// Old segments die out.
    TimeWait,
}

impl TcpState {
    /// The application may still send.
    pub fn can_send(self) -> bool {
        matches!(self, Self::Established | Self::CloseWait)
    }

    /// The peer may still send.
    pub fn can_receive(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }

    /// Both SYNs are acknowledged.
    pub fn is_synchronized(self) -> bool {
        !matches!(self, Self::Closed | Self::SynSent | Self::SynReceived)
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Both sides finished.
    Finished,
    /// The peer, or we, reset it.
    Reset,
    /// Retransmissions, probes or keep-alives went unanswered.
    TimedOut,
    /// The peer does not listen there.
    Refused,
    /// The network said that the peer cannot be reached.
    Unreachable,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "finished",
            Self::Reset => "connection reset",
            Self::TimedOut => "connection timed out",
            Self::Refused => "connection refused",
            Self::Unreachable => "host unreachable",
        })
    }
}

/// What an application hears of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpEvent {
    /// The connection that we asked for is established.
    Connected,
    /// There is something to receive.
    Readable,
    /// A send that was refused may be tried again.
    Writable,
    /// An urgent byte came.
    Urgent,
    /// The peer has finished sending; what it sent can still be received.
    PeerFinished,
    /// Everything that was sent is acknowledged.
    Sent,
    /// It is over. What was received can still be taken.
    Closed(CloseReason),
}

/// When a connection is asked whether it still lives (RFC 9293 section 3.8.4; off by default, as that says).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Unanswered probes before the connection is given up.
    pub probes: u8,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(7200), interval: Duration::from_secs(75), probes: 9 }
    }
}

/// How lost segments are found when the peer sends SACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LossDetection {
    /// By time (RFC 8985).
    #[default]
    Rack,
    /// By three segments above (RFC 6675).
    Sack,
}

/// Explicit congestion notification (RFC 3168).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ecn {
    /// Never.
    Off,
    /// If the peer asks for it.
    #[default]
    Passive,
    /// We ask for it.
    Active,
}

/// Tunables of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Small segments go out at once (no Nagle).
    pub nodelay: bool,
    /// Probes of idle connections.
    pub keepalive: Option<Keepalive>,
    /// How long sent data may stay unacknowledged before the connection is given up (RFC 9293 section 3.8.3: at least 100 s unless the application asks for less).
    pub user_timeout: Duration,
    /// How long a connection attempt goes on (RFC 9293 section 3.8.3, R2 of a SYN: at least 3 minutes).
    pub connect_timeout: Duration,
    /// Most bytes accepted by `send` and not acknowledged yet.
    pub send_queue_bytes: u32,
    /// Most buffers and segments waiting or in flight: a buffer of one byte holds a frame as one of 1,460 does.
    pub send_frames_max: u32,
    /// Receive buffer at first, in bytes; it grows with what the application takes in a round trip.
    pub recv_queue_bytes: u32,
    /// The most that it grows to.
    pub recv_queue_bytes_max: u32,
    /// Most frames that received data may hold: a segment of one byte holds a frame as one of 1,460 does.
    pub recv_frames_max: u32,
    /// Congestion control.
    pub congestion: Algorithm,
    /// Loss detection for peers with SACK.
    pub loss_detection: LossDetection,
    /// Segments are spread over the round trip instead of sent in bursts.
    pub pacing: bool,
    /// How long an acknowledgment may wait for company; zero: none does (RFC 9293 section 3.8.6.3: below 500 ms).
    pub delayed_ack: Duration,
    /// The urgent pointer means the last urgent byte (RFC 1122 section 4.2.2.4) instead of the one behind it, as everybody does it (RFC 6093 section 3.1).
    pub standard_urgent_pointer: bool,
    /// The urgent byte stays in the stream (RFC 6093 section 6 recommends it).
    pub urgent_inline: bool,
    /// IP type of service; the two ECN bits are ours.
    pub tos: u8,
    /// IP time to live.
    pub ttl: u8,
    /// Largest segment, in payload bytes without options; the path's and the peer's limits hold besides.
    pub mss_max: u16,
    /// How long a closed socket may stay half closed without a word from the peer.
    pub fin_wait2: Duration,
    /// Bounds of the retransmission timer; `None`: [`TcpConfig::rto`].
    pub rto: Option<RtoConfig>,
    /// How often the same data is sent again, at most, before the connection is given up; 0: until `user_timeout` is over. Fewer than 3 give up on connections that only lost some packets.
    pub retransmissions_max: u8,
    /// Least time between probes of a closed window, which otherwise follow the retransmission timer (RFC 9293 section 3.8.6.1).
    pub probe_min: Duration,
    /// The most.
    pub probe_max: Duration,
    /// Every segment with data carries the push flag, not only the last of what waits (RFC 9293 section 3.9.1.2).
    pub push_all: bool,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            nodelay: false,
            keepalive: None,
            user_timeout: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(180),
            send_queue_bytes: 1 << 20,
            send_frames_max: 1024,
            recv_queue_bytes: 128 << 10,
            recv_queue_bytes_max: 4 << 20,
            recv_frames_max: 1024,
            congestion: Algorithm::default(),
            loss_detection: LossDetection::default(),
            pacing: false,
            delayed_ack: Duration::from_millis(40),
            standard_urgent_pointer: false,
            urgent_inline: false,
            tos: 0,
            ttl: 64,
            mss_max: u16::MAX,
            fin_wait2: Duration::from_secs(60),
            rto: None,
            retransmissions_max: 0,
            probe_min: Duration::ZERO,
            probe_max: Duration::MAX,
            push_all: false,
        }
    }
}

/// Limits of a stack's TCP.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Most connections, those in TIME-WAIT apart.
    pub connections_max: usize,
    /// Most connections that their applications have closed and that still have something to deliver, or to wait for; the oldest is reset for the next. Fewer: data
    /// of slow peers is cut off when many connections are closed at once; more: peers that do not answer hold more frames.
    pub orphans_max: usize,
    /// Most connections in TIME-WAIT; the oldest go first.
    pub time_wait_max: usize,
    /// Twice the maximum segment lifetime (RFC 9293 section 3.4.2 says 4 minutes; one, as everywhere).
    pub time_wait: Duration,
    /// Retransmission timer.
    pub rto: RtoConfig,
    /// How often a SYN-ACK is sent again.
    pub syn_ack_retries: u8,
    /// Challenge ACKs of one connection per second (RFC 5961 section 7; not one limit for all, which an attacker could watch: CVE-2016-5696).
    pub challenge_acks_per_s: u8,
    /// Resets per second for segments that belong to no connection.
    pub resets_per_s: u32,
    /// Explicit congestion notification.
    pub ecn: Ecn,
    /// Answer with cookies when a listener's backlog overflows (RFC 4987).
    pub syn_cookies: bool,
    /// Received frames of all connections together, in hundredths of [the frames that data may hold](crate::buf::Pool::data_frames): the rest is for what is sent.
    pub rx_frames_percent: u8,
    /// What new connections begin with.
    pub options: TcpOptions,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            connections_max: 1 << 20,
            orphans_max: 1 << 16,
            time_wait_max: 1 << 16,
            time_wait: Duration::from_secs(60),
            rto: RtoConfig::default(),
            syn_ack_retries: 5,
            challenge_acks_per_s: 10,
            resets_per_s: 10_000,
            ecn: Ecn::default(),
            syn_cookies: true,
            rx_frames_percent: 50,
            options: TcpOptions::default(),
        }
    }
}

/// What is known of a connection: for `info` calls and reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// State.
    pub state: TcpState,
    /// Smoothed round-trip time; zero before the first sample.
    pub srtt: Duration,
    /// Least round-trip time seen of late.
    pub min_rtt: Duration,
    /// Retransmission time-out as of now.
    pub rto: Duration,
    /// Congestion window, in bytes.
    pub cwnd_bytes: u32,
    /// Slow-start threshold, in bytes.
    pub ssthresh_bytes: u32,
    /// Bytes in flight.
    pub in_flight_bytes: u32,
    /// Window that the peer offers, in bytes.
    pub send_window_bytes: u32,
    /// Window that we offer, in bytes.
    pub recv_window_bytes: u32,
    /// Payload bytes of a full segment.
    pub mss_bytes: u32,
    /// Segments sent again.
    pub retransmissions: u32,
    /// The peer understands SACK.
    pub sack: bool,
    /// Both send timestamps.
    pub timestamps: bool,
    /// Both understand ECN.
    pub ecn: bool,
    /// Scale of the peer's window and of ours.
    pub window_scales: (u8, u8),
}

/// Why a send was refused.
#[derive(Debug)]
pub enum SendRefusal {
    /// No room in the send queue now.
    WouldBlock(TxBuf),
    /// Longer than the send queue can ever hold, or empty.
    MessageSize(TxBuf),
    /// After `shutdown`.
    Shutdown,
    /// Not connected yet, or not any more.
    NotConnected,
    /// It ended like this.
    Closed(CloseReason),
}

/// Why there is nothing to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvRefusal {
    /// Nothing has come yet.
    WouldBlock,
    /// The peer has finished, and all of it was taken.
    Finished,
    /// Not connected.
    NotConnected,
    /// It ended like this.
    Closed(CloseReason),
}
