//! The four AF_XDP rings, typed: a [`Producer`] or [`Consumer`] of [`TxDesc`], [`RxDesc`], [`FillAddr`] or [`CompAddr`].
//!
//! A ring is single-producer, single-consumer memory shared with the kernel (`net/xdp/xsk_queue.h`): two free-running 32-bit indices, a flags
//! word and a power-of-two array. Each end keeps its own copy of both indices and reads the other's only when its copy says full or
//! empty. The producer writes entries, then publishes its index with `Release`; the consumer reads that index with `Acquire`, then the entries, then
//! publishes its own with `Release`.
//!
//! [`Producer::reserve`] and [`Consumer::peek`] give guards; a guard dropped without `commit` or `release` changes nothing. Both ends can also
//! live in heap memory ([`heap`]), so that the same code runs without a kernel.
//!
//! Never here: frames' holders (that is `buf`), system calls but `mmap` (in `mapped`).

mod cursor;
#[cfg(all(target_os = "linux", not(loom)))]
mod mapped;
mod memory;
pub(crate) mod sync;
#[cfg(test)]
mod tests;

pub use cursor::{Batch, Consumer, Producer, Reservation, Wake};
#[cfg(all(target_os = "linux", not(loom)))]
pub use mapped::{MapError, Offsets, Role};
pub use memory::heap;

/// A type whose values lie in ring memory as they are.
///
/// # Safety
/// Plain old data with the kernel's layout: any bit pattern is a valid value.
pub unsafe trait Entry: Copy + Default + 'static {}

/// A packet piece to send (`struct xdp_desc`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxDesc {
    /// Byte address in the UMEM.
    pub addr: u64,
    /// Length in bytes.
    pub len: u32,
    /// [`PKT_CONTD`] or 0.
    pub options: u32,
}

/// A packet piece received (`struct xdp_desc`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxDesc {
    /// Byte address in the UMEM.
    pub addr: u64,
    /// Length in bytes.
    pub len: u32,
    /// [`PKT_CONTD`] or 0.
    pub options: u32,
}

/// A frame lent to the kernel.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FillAddr(pub u64);

/// A frame that the kernel has sent.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompAddr(pub u64);

/// `XDP_PKT_CONTD`: the packet goes on in the next descriptor.
pub const PKT_CONTD: u32 = 1;

/// `XDP_RING_NEED_WAKEUP` in a ring's flags word.
pub(crate) const NEED_WAKEUP: u32 = 1;

// SAFETY: `repr(C)` integers, layout of `struct xdp_desc`.
unsafe impl Entry for TxDesc {}
// SAFETY: as above.
unsafe impl Entry for RxDesc {}
// SAFETY: a `__u64`.
unsafe impl Entry for FillAddr {}
// SAFETY: a `__u64`.
unsafe impl Entry for CompAddr {}
const _: () = assert!(size_of::<TxDesc>() == 16 && size_of::<RxDesc>() == 16);
