//! Memory for frames: who maps it, who unmaps it, what pages it is made of.

use std::{any::Any, fmt, io, ptr::NonNull};

/// Whether to try for explicit huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// 2 MiB pages from the kernel's pool if there are any, else transparent ones are asked for.
    #[default]
    Prefer,
    /// Base pages.
    Never,
}

/// What a region's memory came to be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Explicit 2 MiB pages (`MAP_HUGETLB`).
    Huge,
    /// Base pages, with `MADV_HUGEPAGE` accepted: the kernel may use transparent huge pages.
    Transparent,
    /// Base pages.
    Base,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Huge => "2 MiB pages",
            Self::Transparent => "base pages (no explicit huge pages free; transparent ones requested)",
            Self::Base => "base pages",
        })
    }
}

/// Why there is no region.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// The chunk size is not one that AF_XDP's aligned mode takes.
    #[error("a frame of {0} bytes: must be 2048 or 4096")]
    ChunkSize(usize),
    /// No frames at all, or more bytes than the address arithmetic holds.
    #[error("{0} frames: must be between 1 and {max}", max = Region::MAX_FRAMES)]
    FrameCount(usize),
    /// The kernel refused the memory.
    #[error("mmap of {bytes} bytes for frames: {source} (lower the number of frames, or raise the memory limit)")]
    Map {
        /// Size asked for.
        bytes: usize,
        /// What the kernel said.
        source: io::Error,
    },
}

enum Backing {
    Mapped,
    External(#[allow(dead_code, reason = "held for its Drop")] Box<dyn Any>),
}

/// Memory cut into chunks of one size.
pub struct Region {
    base: NonNull<u8>,
    frames: u32,
    chunk_bytes: usize,
    pages: Pages,
    backing: Backing,
}

impl Region {
    /// Most frames in a region: indices and ring addresses must stay well inside 32 bits of frames.
    pub const MAX_FRAMES: usize = 1 << 24;

    /// Maps anonymous memory for `frames` chunks of `chunk_bytes` (2048 or 4096) bytes each.
    ///
    /// # Errors
    /// A size out of range, or the kernel's refusal.
    pub fn map(frames: usize, chunk_bytes: usize, huge: HugePages) -> Result<Self, RegionError> {
        let (frames_u32, bytes) = Self::check(frames, chunk_bytes)?;
        const HUGE_BYTES: usize = 2 << 20;
        if huge == HugePages::Prefer
            && bytes.is_multiple_of(HUGE_BYTES)
            && let Ok(base) = map_anonymous(bytes, libc::MAP_HUGETLB)
        {
            return Ok(Self { base, frames: frames_u32, chunk_bytes, pages: Pages::Huge, backing: Backing::Mapped });
        }
        let base = map_anonymous(bytes, 0).map_err(|source| RegionError::Map { bytes, source })?;
        // SAFETY: the range was mapped just now with this length; the advice changes no contents.
        let advised = huge == HugePages::Prefer
            && unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) } == 0;
        let pages = if advised { Pages::Transparent } else { Pages::Base };
        Ok(Self { base, frames: frames_u32, chunk_bytes, pages, backing: Backing::Mapped })
    }

    /// Wraps memory that somebody else mapped, such as a UMEM; `keep` is dropped when the last buffer is gone.
    ///
    /// # Errors
    /// A size out of range.
    ///
    /// # Safety
    /// `base` must be valid for reads and writes of `frames * chunk_bytes` bytes for as long as `keep` lives, page aligned, and
    /// nothing in this process may form a reference into it but through the pool that takes this region.
    pub unsafe fn external(
        base: NonNull<u8>,
        frames: usize,
        chunk_bytes: usize,
        pages: Pages,
        keep: Box<dyn Any>,
    ) -> Result<Self, RegionError> {
        let (frames, _) = Self::check(frames, chunk_bytes)?;
        Ok(Self { base, frames, chunk_bytes, pages, backing: Backing::External(keep) })
    }

    fn check(frames: usize, chunk_bytes: usize) -> Result<(u32, usize), RegionError> {
        if chunk_bytes != 2048 && chunk_bytes != 4096 {
            return Err(RegionError::ChunkSize(chunk_bytes));
        }
        match u32::try_from(frames) {
            Ok(count) if (1..=Self::MAX_FRAMES).contains(&frames) => Ok((count, frames * chunk_bytes)),
            _ => Err(RegionError::FrameCount(frames)),
        }
    }

    /// Number of chunks.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Size of a chunk, in bytes.
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// What the memory is made of.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }
}

fn map_anonymous(bytes: usize, extra: libc::c_int) -> io::Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE | extra;
    // SAFETY: a new anonymous mapping at an address of the kernel's choosing touches no existing memory.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mmap returned the null page"))
}

impl Drop for Region {
    fn drop(&mut self) {
        if matches!(self.backing, Backing::Mapped) {
            // SAFETY: mapped in `map` with this base and length; the pool that owned the region is gone, so no value points into it.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.frames as usize * self.chunk_bytes) };
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames of {} B on {}", self.frames, self.chunk_bytes, self.pages)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({self})")
    }
}
