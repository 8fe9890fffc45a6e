//! Framewire: a poll-mode, kernel-bypass TCP/IP engine over AF_XDP whose buffers **are** the network's frames.
//!
//! An application fills a frame; [`send_to`](socket::UdpSocket::send_to) writes the headers into the frame's own head-room and puts its descriptor straight into
//! the socket's TX ring. What is received is the frame that the packet came in, and it can be sent out again as it is. No payload byte is copied in user
//! space. Each core runs its own loop to completion and shares nothing.
//!
//! ```text
//!   cli, service      the appliance; load its generator   treck     the C face (trsocket.h)
//!        │                                                  │
//!        ▼                                                  ▼
//!   runtime           worker loop, engine start and stop, idle policy, calls from other threads; the only clock
//!    │      │
//!    │      ▼
//!    │    socket      the Rust API: App, Net, UdpSocket, TcpStream, RawSocket
//!    │      ▼
//!    │    stack       ingress, demux, egress, timer wheel: one core's protocols tied together
//!    │      ▼
//!    │    proto       sans-IO machines: neighbour, route, fragment, UDP and raw sockets, TCP, rate limits
//!    │      ▼
//!    │    wire        header formats and checksums (`simd`: the loop that adds them up)
//!    ▼
//!   port              one queue of one interface: xsk (AF_XDP), mem, user, and the wrappers fault and pcap
//!    ▼
//!   ring              the four AF_XDP rings, typed
//!    ▼
//!   buf               frames, the pool, and the values that hold them (used by every room above)
//! ```
//!
//! A room uses those below it and nothing else. Nothing below `runtime` reads a clock or a random source: time and randomness are inputs. Everything but
//! [`port::xsk`](port) and the engine that starts it builds and tests without root, clang or libbpf (`--no-default-features`).
//!
//! Where to begin: [`socket`] for applications in Rust, [`runtime::Engine`](runtime) to run them, [`buf`] for what a buffer is.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod buf;
pub mod cli;
pub mod config;
pub mod load;
#[allow(unsafe_code)]
pub mod port;
pub mod proto;
#[allow(unsafe_code)]
pub mod ring;
pub mod runtime;
pub mod service;
#[allow(unsafe_code)]
mod simd;
pub mod socket;
pub mod stack;
pub mod telemetry;
pub mod time;
#[allow(unsafe_code)]
pub mod treck;
pub mod wire;
