//! Rings of an AF_XDP socket, mapped a second time from its descriptor (the first mapping is xsk-rs's own).

use super::{
    CompAddr, Consumer, Entry, FillAddr, Producer, RxDesc, TxDesc,
    memory::Memory,
    sync::{Arc, AtomicU32},
};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
};

/// Which of a socket's rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Received descriptors.
    Rx,
    /// Descriptors to send.
    Tx,
    /// Frames lent for receiving.
    Fill,
    /// Frames that were sent.
    Completion,
}

impl Role {
    fn page_offset(self) -> libc::off_t {
        match self {
            Self::Rx => libc::XDP_PGOFF_RX_RING as libc::off_t,
            Self::Tx => libc::XDP_PGOFF_TX_RING as libc::off_t,
            Self::Fill => libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t,
            Self::Completion => libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t,
        }
    }
}

/// A ring could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The kernel does not say where the rings are.
    #[error("getsockopt(SOL_XDP, XDP_MMAP_OFFSETS): {0} (is it an AF_XDP socket, on Linux 5.4 or newer?)")]
    Offsets(#[source] io::Error),
    /// The answer has another size than this kernel interface's.
    #[error("getsockopt(SOL_XDP, XDP_MMAP_OFFSETS) answered {0} bytes: Linux 5.4 or newer is needed")]
    OffsetsSize(u32),
    /// The mapping was refused.
    #[error("mmap of the {role:?} ring ({bytes} bytes): {source}")]
    Map {
        /// The ring.
        role: Role,
        /// Size asked for.
        bytes: usize,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Where the kernel put the indices of a socket's rings (`struct xdp_mmap_offsets`).
#[derive(Clone, Copy)]
pub struct Offsets(libc::xdp_mmap_offsets);

impl std::fmt::Debug for Offsets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Offsets")
    }
}

impl Offsets {
    /// Asks the kernel.
    ///
    /// # Errors
    /// Not an AF_XDP socket, or a kernel before 5.4.
    pub fn of(socket: BorrowedFd<'_>) -> Result<Self, MapError> {
        // SAFETY: all-zero bytes are a valid `xdp_mmap_offsets`, a struct of integers.
        let mut offsets: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&offsets) as libc::socklen_t;
        // SAFETY: pointer and length describe `offsets`, which outlives the call.
        let rc = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_XDP,
                libc::XDP_MMAP_OFFSETS,
                (&raw mut offsets).cast(),
                &raw mut len,
            )
        };
        if rc != 0 {
            return Err(MapError::Offsets(io::Error::last_os_error()));
        }
        if len as usize != size_of_val(&offsets) {
            return Err(MapError::OffsetsSize(len));
        }
        Ok(Self(offsets))
    }

    fn ring(&self, role: Role) -> &libc::xdp_ring_offset {
        match role {
            Role::Rx => &self.0.rx,
            Role::Tx => &self.0.tx,
            Role::Fill => &self.0.fr,
            Role::Completion => &self.0.cr,
        }
    }

    /// Maps the RX ring of `size` entries.
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    ///
    /// # Safety
    /// `size` must be the size the ring was created with, and nothing else in this process may consume from it.
    pub unsafe fn rx(&self, socket: BorrowedFd<'_>, size: u32) -> Result<Consumer<RxDesc>, MapError> {
        self.map(socket, Role::Rx, size).map(Consumer::new)
    }

    /// Maps the TX ring of `size` entries.
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    ///
    /// # Safety
    /// As for [`rx`](Self::rx): nothing else may produce into it.
    pub unsafe fn tx(&self, socket: BorrowedFd<'_>, size: u32) -> Result<Producer<TxDesc>, MapError> {
        self.map(socket, Role::Tx, size).map(Producer::new)
    }

    /// Maps the fill ring of `size` entries.
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    ///
    /// # Safety
    /// As for [`tx`](Self::tx).
    pub unsafe fn fill(&self, socket: BorrowedFd<'_>, size: u32) -> Result<Producer<FillAddr>, MapError> {
        self.map(socket, Role::Fill, size).map(Producer::new)
    }

    /// Maps the completion ring of `size` entries.
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    ///
    /// # Safety
    /// As for [`rx`](Self::rx).
    pub unsafe fn completion(&self, socket: BorrowedFd<'_>, size: u32) -> Result<Consumer<CompAddr>, MapError> {
        self.map(socket, Role::Completion, size).map(Consumer::new)
    }

    fn map<T: Entry>(&self, socket: BorrowedFd<'_>, role: Role, size: u32) -> Result<Memory<T>, MapError> {
        assert!(size.is_power_of_two(), "a ring of {size} entries: must be a power of two");
        let at = self.ring(role);
        let bytes = at.desc as usize + size as usize * size_of::<T>();
        // SAFETY: a new shared mapping at an address of the kernel's choosing; the kernel checks offset and length against the ring.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_raw_fd(),
                role.page_offset(),
            )
        };
        let base = NonNull::new(base.cast::<u8>())
            .filter(|p| p.as_ptr().cast() != libc::MAP_FAILED)
            .ok_or_else(|| MapError::Map { role, bytes, source: io::Error::last_os_error() })?;
        let mapping = Mapping { base, bytes };
        let index = |offset: u64| {
            // SAFETY: the kernel's offsets lie below `desc`, inside the mapping, and are aligned for a `u32`.
            unsafe { base.as_ptr().add(offset as usize).cast::<AtomicU32>().cast_const() }
        };
        Ok(Memory {
            producer: index(at.producer),
            consumer: index(at.consumer),
            flags: index(at.flags),
            // SAFETY: `desc` is inside the mapping, which has room for `size` entries behind it; `UnsafeCell<T>` is transparent.
            entries: unsafe { base.as_ptr().add(at.desc as usize).cast() },
            size,
            _keep: Arc::new(mapping),
        })
    }
}

struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: an address range; nothing is accessed through this value but by unmapping it once.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this base and length; the ring end that pointed into it is gone.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
