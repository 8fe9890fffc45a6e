//! The ledger: every frame is in exactly one account, and the accounts add up.

use std::fmt;

/// Where all frames of a pool are, counted frame by frame (so it costs time in proportion to the pool: for tests, `stats` and shutdown).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Frames in the pool.
    pub capacity: u32,
    /// On the free list or in the free part of the run area, by walking them.
    pub free: u32,
    /// Held by a `TxBuf`, `RxBuf` or `Frozen` and nothing else.
    pub owned: u32,
    /// Held by a `Retained` and nothing else.
    pub retained: u32,
    /// Sealed, waiting in an egress queue (alone or with a `Retained` or `Frozen`).
    pub queued: u32,
    /// Posted to the TX ring, not yet completed (alone or together with other holders).
    pub kernel_tx: u32,
    /// Lent to the kernel through the fill ring.
    pub kernel_rx: u32,
}

impl Ledger {
    /// Frames somebody holds.
    pub fn held(&self) -> u32 {
        self.owned + self.retained + self.queued + self.kernel_tx + self.kernel_rx
    }

    /// No frame is lost and none is counted twice: `held + free == capacity`.
    pub fn balances(&self) -> bool {
        self.held() + self.free == self.capacity
    }

    /// It balances and every frame is free: what a stopped engine must show.
    pub fn is_whole(&self) -> bool {
        self.balances() && self.free == self.capacity
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { capacity, free, owned, retained, queued, kernel_tx, kernel_rx } = self;
        write!(
            f,
            "{capacity} frames: {free} free, {owned} owned, {retained} retained, {queued} queued, {kernel_tx} with the kernel to send, {kernel_rx} with the kernel to fill"
        )
    }
}
