//! Why there is no AF_XDP port, and what to do about it.

use crate::{buf::RegionError, ring::MapError};
use std::io;

/// Why there is no AF_XDP port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XskError {
    /// The configuration contradicts itself.
    #[error("{field}: {problem}")]
    Config {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no such interface here.
    #[error("no interface {interface:?} in this network namespace ({call}: {source}): `ip link` lists those there are")]
    NoInterface {
        /// Its name.
        interface: String,
        /// What noticed.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The interface has fewer queues.
    #[error(
        "{interface} has no queue {queue}: it has {queues}, numbered from 0; choose one of them, or `ethtool -L {interface} …` adds some"
    )]
    NoQueue {
        /// The interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
        /// How many there are.
        queues: u32,
    },
    /// The thread lacks a capability.
    #[error(
        "AF_XDP on {interface} queue {queue} needs {capability}, which this thread does not have: run as root, or give the program file \
         its capabilities (`setcap cap_net_raw,cap_net_admin,cap_bpf,cap_ipc_lock+ep PROGRAM`)"
    )]
    MissingCapability {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// Its name, as in capabilities(7).
        capability: &'static str,
    },
    /// The UMEM may not be locked in memory.
    #[error(
        "setsockopt(XDP_UMEM_REG) for {interface} queue {queue}: {source}: {bytes} bytes of frames exceed the locked-memory limit{}; grant \
         CAP_IPC_LOCK, raise the limit (`ulimit -l`, systemd LimitMEMLOCK=), or configure fewer frames",
        limit_bytes.map(|limit| format!(" of {limit} bytes")).unwrap_or_default()
    )]
    LockedMemory {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// Size of the UMEM.
        bytes: usize,
        /// `RLIMIT_MEMLOCK`, if it is known and not infinite.
        limit_bytes: Option<u64>,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another socket has the queue.
    #[error(
        "bind to {interface} queue {queue}: {source}, still after {tries} tries in {waited_ms} ms: another AF_XDP socket is bound to this queue \
         (`ss --xdp -ep` shows it); stop its program or choose another queue"
    )]
    Busy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// How often it was tried.
        tries: u32,
        /// For how long, in milliseconds.
        waited_ms: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// Zero-copy was required.
    #[error(
        "zero-copy is required, but bind(XDP_ZEROCOPY) to {interface} queue {queue} failed: {reason}; use a driver with AF_XDP zero-copy, or accept a \
         copy with zero_copy = \"prefer\""
    )]
    ZeroCopyRefused {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel said, with and without multi-buffer.
        reason: String,
    },
    /// The packets of this link do not fit one chunk.
    #[error(
        "MTU {mtu} of {interface} (queue {queue}) needs XDP_USE_SG: without it a chunk of {chunk_bytes} bytes carries at most MTU {mtu_max}, and {reason}; \
         `ip link set {interface} mtu {mtu_max}` or less also helps"
    )]
    MultiBufferNeeded {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// Its MTU.
        mtu: usize,
        /// The largest that needs no multi-buffer.
        mtu_max: usize,
        /// Size of a chunk.
        chunk_bytes: usize,
        /// Why there is no multi-buffer.
        reason: String,
    },
    /// The kernel refuses a call.
    #[error("{call} for {interface} queue {queue}: {source} ({advice})")]
    Refused {
        /// The call.
        call: &'static str,
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
        /// What to do about it.
        advice: &'static str,
    },
    /// A ring could not be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The UMEM's sizes are out of range.
    #[error(transparent)]
    Region(#[from] RegionError),
}
