//! What `[[service]]` and `[tcp]` say.

use std::{fmt, net::SocketAddrV4, path::PathBuf, time::Duration};

/// One `[[service]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// Answers each datagram with itself.
    UdpEcho {
        /// Where it listens; address `0.0.0.0`: all of the engine's.
        listen: SocketAddrV4,
    },
    /// Counts datagrams and drops them.
    UdpSink {
        /// Where it listens; address `0.0.0.0`: all of the engine's.
        listen: SocketAddrV4,
        /// Look at the sequence numbers that a `udp-source` writes.
        sequence: bool,
    },
    /// Sends datagrams. Rate and count are for all workers together.
    UdpSource {
        /// Where to.
        destination: SocketAddrV4,
        /// Where from; `None`: an unused port.
        local: Option<SocketAddrV4>,
        /// Size of the payload.
        payload_bytes: usize,
        /// Datagrams per second; 0: as many as go.
        rate_pps: u64,
        /// How many; 0: no end.
        count: u64,
    },
    /// Sends every frame back with its Ethernet addresses swapped.
    Reflect,
    /// Sends the bytes of each connection back.
    TcpEcho {
        /// Where and how it listens.
        listen: TcpListen,
        /// What connections begin with.
        options: StreamOptions,
    },
    /// Counts the bytes of connections and drops them.
    TcpSink {
        /// Where and how it listens.
        listen: TcpListen,
        /// What connections begin with.
        options: StreamOptions,
        /// Compare the bytes with the pattern that a `tcp-source` writes.
        verify: bool,
    },
    /// Sends bytes to a peer that it connects to. Numbers are for all workers together.
    TcpSource {
        /// Where to.
        destination: SocketAddrV4,
        /// Where from; `None`: unused ports.
        local: Option<SocketAddrV4>,
        /// How many connections.
        connections: u64,
        /// What is sent.
        flow: TcpFlow,
        /// What connections begin with.
        options: StreamOptions,
    },
    /// Sends bytes to whoever connects.
    TcpSourceListen {
        /// Where and how it listens.
        listen: TcpListen,
        /// What is sent.
        flow: TcpFlow,
        /// What connections begin with.
        options: StreamOptions,
    },
    /// Serves files and pages by HTTP/1.1.
    Http {
        /// Where and how it listens.
        listen: TcpListen,
        /// What connections begin with.
        options: StreamOptions,
        /// Folder whose files are served as they are when the service starts.
        root: Option<PathBuf>,
        /// Pages given in the configuration.
        pages: Vec<HttpPage>,
        /// Most bytes that all files and pages may take together.
        content_bytes_max: usize,
        /// A connection that makes no progress for so long is closed.
        idle_timeout: Duration,
    },
}

/// Where and how a service takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpListen {
    /// Where; address `0.0.0.0`: all of the engine's.
    pub local: SocketAddrV4,
    /// Most connections, of each worker, that wait to be accepted.
    pub backlog: usize,
    /// Most connections of each worker; more are reset.
    pub connections_max: usize,
}

/// What connections of a service begin with. `None`: the engine's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// Small segments go out at once.
    pub nodelay: bool,
    /// Silence before the peer is asked whether it still lives.
    pub keepalive: Option<Duration>,
    /// Most bytes sent and not acknowledged.
    pub send_queue_bytes: Option<u32>,
    /// Most bytes received and not taken.
    pub recv_queue_bytes_max: Option<u32>,
    /// Congestion control.
    pub congestion: Option<Congestion>,
}

/// Congestion control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// CUBIC (RFC 9438).
    Cubic,
    /// NewReno (RFC 5681).
    NewReno,
}

/// What a `tcp-source` sends on each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlow {
    /// Size of each buffer; `None`: a full segment.
    pub payload_bytes: Option<usize>,
    /// How many bytes; 0: no end.
    pub bytes: u64,
    /// Bits per second, over all connections; 0: as many as go.
    pub rate_bps: u64,
    /// Write the position in the stream, so that a `tcp-sink` can verify it; else zeros.
    pub counting: bool,
}

/// A page given in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpPage {
    /// Its path, from `/` on.
    pub path: String,
    /// What is sent.
    pub body: String,
    /// `Content-Type`.
    pub content_type: String,
}

/// `[tcp]`: limits of each worker's TCP. `None`: the engine's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// How long a finished connection's endpoints rest.
    pub time_wait: Option<Duration>,
    /// Most connections at rest.
    pub time_wait_max: Option<usize>,
    /// Most connections.
    pub connections_max: Option<usize>,
    /// Most that were closed here and still have something to deliver.
    pub orphans_max: Option<usize>,
    /// Least retransmission time-out.
    pub rto_min: Option<Duration>,
    /// How often a SYN-ACK is sent again.
    pub syn_ack_retries: Option<u8>,
    /// Answer with cookies when a backlog overflows.
    pub syn_cookies: Option<bool>,
    /// Explicit congestion notification.
    pub ecn: Option<Ecn>,
}

/// Explicit congestion notification (RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecn {
    /// Never.
    Off,
    /// If the peer asks for it.
    Passive,
    /// We ask for it.
    Active,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl Service {
    /// Its name in the file.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UdpEcho { .. } => "udp-echo",
            Self::UdpSink { .. } => "udp-sink",
            Self::UdpSource { .. } => "udp-source",
            Self::Reflect => "reflect",
            Self::TcpEcho { .. } => "tcp-echo",
            Self::TcpSink { .. } => "tcp-sink",
            Self::TcpSource { .. } | Self::TcpSourceListen { .. } => "tcp-source",
            Self::Http { .. } => "http",
        }
    }

    /// Where it receives, if it binds an address of its own choice.
    pub fn local(&self) -> Option<SocketAddrV4> {
        match self {
            Self::UdpEcho { listen } | Self::UdpSink { listen, .. } => Some(*listen),
            Self::UdpSource { local, .. } | Self::TcpSource { local, .. } => *local,
            Self::TcpEcho { listen, .. }
            | Self::TcpSink { listen, .. }
            | Self::TcpSourceListen { listen, .. }
            | Self::Http { listen, .. } => Some(listen.local),
            Self::Reflect => None,
        }
    }

    /// What it speaks; `None`: whole frames.
    pub fn transport(&self) -> Option<Transport> {
        match self {
            Self::UdpEcho { .. } | Self::UdpSink { .. } | Self::UdpSource { .. } => Some(Transport::Udp),
            Self::TcpEcho { .. }
            | Self::TcpSink { .. }
            | Self::TcpSource { .. }
            | Self::TcpSourceListen { .. }
            | Self::Http { .. } => Some(Transport::Tcp),
            Self::Reflect => None,
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UdpEcho { listen } => write!(f, "udp-echo on {listen}"),
            Self::UdpSink { listen, sequence: false } => write!(f, "udp-sink on {listen}"),
            Self::UdpSink { listen, sequence: true } => write!(f, "udp-sink on {listen}, sequence checked"),
            Self::UdpSource { destination, local: _, payload_bytes, rate_pps, count } => {
                write!(f, "udp-source to {destination}, {payload_bytes} B")?;
                match rate_pps {
                    0 => f.write_str(", as fast as it goes")?,
                    rate => write!(f, ", {rate} packets/s")?,
                }
                if *count > 0 { write!(f, ", {count} packets") } else { Ok(()) }
            }
            Self::Reflect => f.write_str("reflect"),
            Self::TcpEcho { listen, options: _ } => write!(f, "tcp-echo on {}", listen.local),
            Self::TcpSink { listen, options: _, verify: false } => write!(f, "tcp-sink on {}", listen.local),
            Self::TcpSink { listen, options: _, verify: true } => write!(f, "tcp-sink on {}, verified", listen.local),
            Self::TcpSource { destination, local: _, connections, flow, options: _ } => {
                let plural = if *connections == 1 { "" } else { "s" };
                write!(f, "tcp-source to {destination}, {connections} connection{plural}, {flow}")
            }
            Self::TcpSourceListen { listen, flow, options: _ } => {
                write!(f, "tcp-source on {}, {flow}", listen.local)
            }
            Self::Http { listen, root, pages, .. } => {
                write!(f, "http on {}", listen.local)?;
                if let Some(root) = root {
                    write!(f, ", {}", root.display())?;
                }
                match pages.len() {
                    0 => Ok(()),
                    1 => f.write_str(", 1 page"),
                    n => write!(f, ", {n} pages"),
                }
            }
        }
    }
}

impl fmt::Display for TcpFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes {
            0 => f.write_str("without end")?,
            bytes => write!(f, "{bytes} B each")?,
        }
        match self.rate_bps {
            0 => f.write_str(", as fast as it goes"),
            rate => write!(f, ", {rate} bit/s"),
        }
    }
}
