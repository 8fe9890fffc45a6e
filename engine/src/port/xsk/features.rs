//! What a driver can do with AF_XDP.

use super::netlink::{Netdevs, attribute};
use std::io;

/// `NETDEV_XDP_ACT_XSK_ZEROCOPY`.
const XSK_ZEROCOPY: u64 = 8;

const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_A_DEV_XDP_ZC_MAX_SEGS: u16 = 4;

/// What the kernel says of a driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    bits: u64,
    /// Most descriptors of a packet with zero-copy; 1: no multi-buffer. Zero if the kernel does not say (before 6.6).
    pub(super) zero_copy_pieces_max: u32,
}

impl Features {
    /// The driver has AF_XDP zero-copy.
    pub(super) fn zero_copy(self) -> bool {
        self.bits & XSK_ZEROCOPY != 0
    }

    /// Asks the kernel; an error means that it cannot say, not that there are none.
    pub(super) fn of(ifindex: u32) -> io::Result<Self> {
        let reply = Netdevs::open()?.ask(NETDEV_CMD_DEV_GET, &[(NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes())])?;
        Ok(Self {
            bits: attribute(&reply, NETDEV_A_DEV_XDP_FEATURES).ok_or(io::ErrorKind::InvalidData)?,
            zero_copy_pieces_max: attribute(&reply, NETDEV_A_DEV_XDP_ZC_MAX_SEGS).unwrap_or(0) as u32,
        })
    }
}
