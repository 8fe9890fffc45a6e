//! Frames and the values that hold them.
//!
//! A [`Region`] is one stretch of memory cut into equal chunks (the UMEM, or heap memory for ports without a kernel). A [`Pool`] lends
//! its chunks, called frames, to one worker. Whoever may touch a frame holds a value that says so, and `Drop` gives it back:
//!
//! ```text
//!  free ─alloc─► TxBuf ─seal─► Sealed ─post─► kernel ─complete─► free              datagrams, control packets
//!                  │ └─seal_retained─► Sealed + Retained … free after completion AND drop, in either order
//!                  └─freeze─► Frozen ─seal_range─► Sealed pieces (runs and chains: many descriptors on the same bytes)
//!  free ─fill─► kernel ─adopt─► RxBuf ─drop─► free       RxBuf ─into_tx─► TxBuf   (the same frame out again, no copy)
//! ```
//!
//! One word of state per frame says who holds it: `OWNED` (one live value), `RETAINED` (a retransmit queue), `KERNEL_RX` (lent through the
//! fill ring), and two small counts: sealed descriptors that wait in an egress queue, and descriptors the kernel has. Zero is free. They are
//! counts and not bits because the pieces of one large buffer may share a chunk.
//!
//! Never here: rings, packets' meaning, clocks. `unsafe` lives in `raw` and `region` alone.

mod holders;
mod ledger;
mod pool;
mod raw;
mod region;
#[cfg(test)]
mod tests;
mod txqueue;

pub use holders::{Content, Frozen, Retained, RxBuf, TxBuf};
pub use ledger::Ledger;
pub use pool::{Pool, PoolConfig, PoolCounters};
pub use raw::{BadAddr, Extent, NoSpace, QueuedPiece, Sealed};
pub use region::{HugePages, Pages, Region, RegionError};
pub use txqueue::TxQueue;

/// Bytes in front of a payload that every buffer keeps for headers; the kernel's XDP head-room is the same size
/// (`XDP_PACKET_HEADROOM` in `include/uapi/linux/bpf.h`), so a received frame can be sent again with any header chain.
pub const HEADROOM_BYTES: usize = 256;
