//! What can go wrong, and what to do about it.

use std::fmt;
use std::io;
use std::net::IpAddr;

use crate::key::IpProtocol;
use crate::link::AttachedMode;

/// Why steering could not be set up or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SteerError {
    /// The kernel refused a call.
    #[error(transparent)]
    Kernel(#[from] Box<KernelRefusal>),
    /// The unspecified, loopback or limited broadcast address.
    #[error("{0} cannot be steered: an unspecified, loopback or limited broadcast address is always the kernel's")]
    Address(IpAddr),
    /// Only TCP, UDP, UDP-Lite, SCTP and DCCP have ports where the program looks for them.
    #[error("IP protocol {0} has no ports; share TCP, UDP, UDP-Lite, SCTP or DCCP, or own the whole address")]
    Protocol(IpProtocol),
    /// A queue index at or above [`SteerOptions::max_queues`](crate::SteerOptions::max_queues).
    #[error("queue {queue_index} is beyond the {max_queues} that the steering map was made for; raise `max_queues`")]
    Queue {
        /// The queue asked for.
        queue_index: u32,
        /// How many the map holds.
        max_queues: u32,
    },
    /// `max_queues` is zero.
    #[error("`max_queues` is 0; it must be at least the number of the interface's receive queues")]
    NoQueues,
    /// This program is attached already; detach it first.
    #[error("this steering program is already attached to interface {ifindex}; detach it first")]
    AlreadyAttached {
        /// Where it is attached.
        ifindex: u32,
    },
}

impl SteerError {
    /// The errno of a kernel refusal.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel(refusal) => refusal.errno,
            _ => None,
        }
    }

    pub(crate) fn kernel(call: Call, errno: Option<i32>, detail: String) -> Self {
        Self::Kernel(Box::new(KernelRefusal { call, errno, detail, libbpf_log: Vec::new() }))
    }

    pub(crate) fn libbpf(call: Call, error: &libbpf_rs::Error, libbpf_log: Vec<String>) -> Self {
        let errno = errno_of(error);
        let detail = if errno.is_some() { String::new() } else { format!("{error:#}") };
        Self::Kernel(Box::new(KernelRefusal { call, errno, detail, libbpf_log }))
    }
}

/// The call that the kernel (or libbpf on the way to it) refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// Opening the object inside this binary.
    Open,
    /// Creating the maps and loading the program: `BPF_MAP_CREATE`, `BPF_PROG_LOAD`.
    Load,
    /// `BPF_MAP_UPDATE_ELEM` on the named map.
    MapUpdate(&'static str),
    /// `BPF_MAP_DELETE_ELEM` on the named map.
    MapDelete(&'static str),
    /// `BPF_MAP_LOOKUP_ELEM` on the named map.
    MapLookup(&'static str),
    /// `BPF_LINK_CREATE` with the attach type `BPF_XDP`.
    LinkCreate(AttachedMode),
    /// `BPF_LINK_DETACH`.
    LinkDetach,
    /// Asking over netlink which program an interface has.
    Query,
    /// Duplicating a file descriptor.
    Duplicate,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("bpf_object__open"),
            Self::Load => f.write_str("bpf_object__load (BPF_MAP_CREATE, BPF_PROG_LOAD)"),
            Self::MapUpdate(map) => write!(f, "BPF_MAP_UPDATE_ELEM on `{map}`"),
            Self::MapDelete(map) => write!(f, "BPF_MAP_DELETE_ELEM on `{map}`"),
            Self::MapLookup(map) => write!(f, "BPF_MAP_LOOKUP_ELEM on `{map}`"),
            Self::LinkCreate(mode) => write!(f, "BPF_LINK_CREATE (XDP, {mode} mode)"),
            Self::LinkDetach => f.write_str("BPF_LINK_DETACH"),
            Self::Query => f.write_str("netlink query for the XDP program (RTM_GETLINK)"),
            Self::Duplicate => f.write_str("dup"),
        }
    }
}

/// A refused call: which, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRefusal {
    /// The call.
    pub call: Call,
    /// Its errno, where one is known.
    pub errno: Option<i32>,
    /// On what it was tried.
    pub detail: String,
    /// What libbpf said last (the verifier's log when the program was refused), oldest line first.
    pub libbpf_log: Vec<String>,
}

impl std::error::Error for KernelRefusal {}

impl fmt::Display for KernelRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.call)?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        if let Some(errno) = self.errno {
            write!(f, ": {}", io::Error::from_raw_os_error(errno))?;
        }
        if let Some(hint) = self.hint() {
            write!(f, "; {hint}")?;
        }
        for line in &self.libbpf_log {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

impl KernelRefusal {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match (self.call, self.errno?) {
            (_, libc::EPERM | libc::EACCES) => {
                "run as root, or with CAP_BPF and CAP_NET_ADMIN (AF_XDP sockets need CAP_NET_RAW too) of the initial user namespace"
            }
            (Call::LinkCreate(_), libc::EBUSY | libc::EEXIST) => {
                "another XDP program is attached (`ip link show` gives its id, `bpftool net` its name); stop its owner, \
                 or `ip link set dev IFACE xdp off` if it was attached without a link"
            }
            (Call::LinkCreate(AttachedMode::Native), libc::EOPNOTSUPP) => {
                "the driver has no native XDP, or not with its present features (LRO/HW-GRO); use generic mode or turn them off"
            }
            (Call::LinkCreate(AttachedMode::Native), libc::EINVAL | libc::ERANGE | libc::ENOSPC | libc::ENOMEM) => {
                "the driver refuses XDP as it is set up now: `dmesg` tells (often the MTU, LRO, or too few queues: `ethtool -L`)"
            }
            (Call::LinkCreate(_) | Call::Query, libc::ENODEV) => {
                "no such interface in this network namespace (`ip link show`)"
            }
            (Call::MapUpdate("xsks"), libc::EOPNOTSUPP | libc::ENOTSOCK | libc::EBADF) => {
                "the file descriptor is not an AF_XDP socket"
            }
            (Call::MapUpdate("addresses"), libc::E2BIG) => "the map holds 1,024 addresses",
            (Call::MapUpdate("ports"), libc::E2BIG) => "the map holds 16,384 ports; own the whole address instead",
            (Call::Load, libc::EINVAL | libc::EOPNOTSUPP) => {
                "the kernel is older than Linux 5.18, or built without CONFIG_XDP_SOCKETS"
            }
            (Call::Load, libc::ENOSYS) => "the kernel has no bpf(2), or a seccomp filter hides it",
            (Call::Load, libc::ENOMEM) => {
                "too little memory for the maps (a few MB), or RLIMIT_MEMLOCK before Linux 5.11"
            }
            _ => return None,
        })
    }
}

/// libbpf-rs keeps the number only in the text of the error at the chain's end.
fn errno_of(error: &libbpf_rs::Error) -> Option<i32> {
    let text = format!("{error:#}");
    let (_, tail) = text.rsplit_once("(os error ")?;
    tail.split_once(')')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use libbpf_rs::ErrorExt as _;

    #[test]
    fn errno_survives_libbpf_rs() {
        let error = libbpf_rs::Error::from_raw_os_error(libc::EBUSY).context("outer").context("outermost");
        assert_eq!(errno_of(&error), Some(libc::EBUSY));
        let error = libbpf_rs::Error::from(io::Error::other("no number"));
        assert_eq!(errno_of(&error), None);
    }

    #[test]
    fn a_refusal_names_call_errno_and_remedy() {
        let error =
            SteerError::kernel(Call::LinkCreate(AttachedMode::Native), Some(libc::EBUSY), "to interface 7".into());
        let text = error.to_string();
        for part in ["BPF_LINK_CREATE (XDP, native mode) to interface 7", "(os error 16)", "ip link show"] {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
        assert_eq!(error.errno(), Some(libc::EBUSY));
    }
}
