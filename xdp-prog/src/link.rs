//! Attachment by `bpf_link`: an interface has the program exactly as long as somebody holds the link's file descriptor, so it
//! is gone when the process is, however it ends. The one module here with `unsafe`: libbpf-rs cannot pass the mode flags.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libbpf_rs::libbpf_sys;

use crate::error::{Call, SteerError};
use crate::libbpf_log::LibbpfLog;

/// How to attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// Native, or generic where the driver refuses native; [`Attachment::fallback_reason`] says why.
    #[default]
    Auto,
    /// In the driver, before an skb exists (`XDP_FLAGS_DRV_MODE`), or not at all.
    Native,
    /// After the skb is built (`XDP_FLAGS_SKB_MODE`): any driver, slower, copies.
    Generic,
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// After the skb is built.
    Generic,
}

impl AttachedMode {
    const fn flags(self) -> u32 {
        match self {
            Self::Native => libbpf_sys::XDP_FLAGS_DRV_MODE,
            Self::Generic => libbpf_sys::XDP_FLAGS_SKB_MODE,
        }
    }
}

impl fmt::Display for AttachedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// A program on an interface, for as long as this lives.
#[derive(Debug)]
pub struct Attachment {
    link: OwnedFd,
    ifindex: u32,
    mode: AttachedMode,
    fallback_reason: Option<SteerError>,
}

impl Attachment {
    /// The interface.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Native or generic.
    pub fn mode(&self) -> AttachedMode {
        self.mode
    }

    /// Why [`AttachMode::Auto`] did not get native mode.
    pub fn fallback_reason(&self) -> Option<&SteerError> {
        self.fallback_reason.as_ref()
    }

    pub(crate) fn new(program: BorrowedFd<'_>, ifindex: u32, mode: AttachMode) -> Result<Self, SteerError> {
        let attached = |mode, fallback_reason| {
            let link = create_link(program, ifindex, mode)?;
            Ok(Self { link, ifindex, mode, fallback_reason })
        };
        match mode {
            AttachMode::Native => attached(AttachedMode::Native, None),
            AttachMode::Generic => attached(AttachedMode::Generic, None),
            AttachMode::Auto => match attached(AttachedMode::Native, None) {
                Err(reason) if is_drivers_refusal(&reason) => attached(AttachedMode::Generic, Some(reason)),
                other => other,
            },
        }
    }

    /// Detaches now, also where a copy of the link's descriptor lives on (in a forked child).
    pub(crate) fn detach(self) -> Result<(), SteerError> {
        // SAFETY: takes a descriptor by value and touches no memory of ours; `link` is open until the end of this call.
        let result = unsafe { libbpf_sys::bpf_link_detach(self.link.as_raw_fd()) };
        match result {
            0.. => Ok(()),
            _ => Err(SteerError::kernel(Call::LinkDetach, Some(-result), format!("from interface {}", self.ifindex))),
        }
    }
}

/// Generic mode cannot help against missing rights, a missing interface or a program that is already there.
fn is_drivers_refusal(error: &SteerError) -> bool {
    !matches!(
        error.errno(),
        None | Some(libc::EPERM | libc::EACCES | libc::EBUSY | libc::EEXIST | libc::ENODEV | libc::EBADF)
    )
}

fn create_link(program: BorrowedFd<'_>, ifindex: u32, mode: AttachedMode) -> Result<OwnedFd, SteerError> {
    let call = Call::LinkCreate(mode);
    let target = format!("to interface {ifindex}");
    let Some(signed_ifindex) = i32::try_from(ifindex).ok().filter(|&index| index > 0) else {
        return Err(SteerError::kernel(call, Some(libc::ENODEV), target));
    };
    let options = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        flags: mode.flags(),
        ..Default::default()
    };
    // SAFETY: `options` is a valid bpf_link_create_opts of the size that it states and outlives the call, which keeps no pointer to it.
    let result =
        unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), signed_ifindex, libbpf_sys::BPF_XDP, &options) };
    match result {
        // SAFETY: a result that is not negative is a new descriptor that nobody else owns.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(result) }),
        _ => {
            let errno = -result;
            let holder = match (errno, attached_program(ifindex)) {
                (libc::EBUSY | libc::EEXIST, Ok(Some(holder))) => {
                    format!(", which has program id {} in {} mode", holder.program_id, holder.mode)
                }
                _ => String::new(),
            };
            Err(SteerError::kernel(call, Some(errno), target + &holder))
        }
    }
}

/// An XDP program on an interface, whoever attached it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedProgram {
    /// The kernel's number for it (`bpftool prog show id …`).
    pub program_id: u32,
    /// How it is attached; offloaded to hardware counts as native.
    pub mode: AttachedMode,
}

/// The XDP program that the interface has now, in the calling thread's network namespace.
///
/// # Errors
/// [`Call::Query`] when the interface does not exist or netlink refuses.
pub fn attached_program(ifindex: u32) -> Result<Option<AttachedProgram>, SteerError> {
    let refused = |errno| SteerError::kernel(Call::Query, Some(errno), format!("of interface {ifindex}"));
    let signed_ifindex = i32::try_from(ifindex).ok().filter(|&index| index > 0).ok_or_else(|| refused(libc::ENODEV))?;
    let mut options = libbpf_sys::bpf_xdp_query_opts {
        sz: size_of::<libbpf_sys::bpf_xdp_query_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let quiet = LibbpfLog::capture();
    // SAFETY: `options` is a valid bpf_xdp_query_opts of the size that it states; libbpf writes within it and keeps no pointer to it.
    let result = unsafe { libbpf_sys::bpf_xdp_query(signed_ifindex, 0, &mut options) };
    drop(quiet);
    if result < 0 {
        return Err(refused(-result));
    }
    Ok([
        (options.drv_prog_id, AttachedMode::Native),
        (options.hw_prog_id, AttachedMode::Native),
        (options.skb_prog_id, AttachedMode::Generic),
    ]
    .into_iter()
    .find(|&(program_id, _)| program_id != 0)
    .map(|(program_id, mode)| AttachedProgram { program_id, mode }))
}
