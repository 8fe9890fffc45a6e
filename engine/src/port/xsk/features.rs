//! What a driver can do with AF_XDP: the generic netlink family "netdev" (`Documentation/netlink/specs/netdev.yaml`, Linux 6.3).

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// `NETDEV_XDP_ACT_XSK_ZEROCOPY`.
const XSK_ZEROCOPY: u64 = 8;

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_A_DEV_XDP_ZC_MAX_SEGS: u16 = 4;

/// Bytes of `struct nlmsghdr` and `struct genlmsghdr`.
const HEADER_BYTES: usize = 16 + 4;

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
        // SAFETY: no pointers are passed; a valid result is a new descriptor that nobody else owns.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_GENERIC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let reply = ask(&socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0")?;
        let family = attribute(&reply, CTRL_ATTR_FAMILY_ID).ok_or(io::ErrorKind::InvalidData)?;
        let reply = ask(&socket, family as u16, NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes())?;
        Ok(Self {
            bits: attribute(&reply, NETDEV_A_DEV_XDP_FEATURES).ok_or(io::ErrorKind::InvalidData)?,
            zero_copy_pieces_max: attribute(&reply, NETDEV_A_DEV_XDP_ZC_MAX_SEGS).unwrap_or(0) as u32,
        })
    }
}

/// Sends one request with one attribute; returns the attributes of the answer.
fn ask(socket: &OwnedFd, family: u16, command: u8, kind: u16, value: &[u8]) -> io::Result<Vec<u8>> {
    let padded = value.len().next_multiple_of(4);
    let total = HEADER_BYTES + 4 + padded;
    let mut message = Vec::with_capacity(total);
    message.extend_from_slice(&(total as u32).to_ne_bytes());
    message.extend_from_slice(&family.to_ne_bytes());
    message.extend_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message.extend_from_slice(&[0; 8]); // sequence number and port: one question at a time on a socket of its own
    message.extend_from_slice(&[command, 1, 0, 0]);
    message.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(value);
    message.resize(total, 0);
    // SAFETY: pointer and length describe `message`, which outlives the call.
    if unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut reply = vec![0_u8; 8192];
    // SAFETY: pointer and length describe `reply`, which outlives the call. The kernel queued its answer within `send`.
    let n = unsafe { libc::recv(socket.as_raw_fd(), reply.as_mut_ptr().cast(), reply.len(), libc::MSG_DONTWAIT) };
    reply.truncate(usize::try_from(n).map_err(|_| io::Error::last_os_error())?);
    let (Some(length), Some(kind)) = (number(reply.get(..4)), number(reply.get(4..6))) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    if kind == libc::NLMSG_ERROR as u64 {
        let errno = number(reply.get(16..20)).unwrap_or(0) as u32 as i32;
        return Err(io::Error::from_raw_os_error(-errno));
    }
    reply.truncate(length as usize);
    reply.drain(..HEADER_BYTES.min(reply.len()));
    Ok(reply)
}

/// An integer attribute of 1 to 8 bytes.
fn attribute(mut rest: &[u8], wanted: u16) -> Option<u64> {
    loop {
        let length = number(rest.get(..2))? as usize;
        // The two upper bits are flags (`NLA_TYPE_MASK`).
        let kind = number(rest.get(2..4))? & 0x3fff;
        let value = rest.get(4..length)?;
        if kind == u64::from(wanted) {
            return number(Some(value));
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// A native-endian integer.
fn number(bytes: Option<&[u8]>) -> Option<u64> {
    Some(match bytes? {
        &[a] => u64::from(a),
        &[a, b] => u64::from(u16::from_ne_bytes([a, b])),
        &[a, b, c, d] => u64::from(u32::from_ne_bytes([a, b, c, d])),
        bytes => u64::from_ne_bytes(bytes.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others_and_truncation_is_no_panic() {
        let mut bytes = Vec::new();
        for (kind, value) in [(1_u16, &7_u32.to_ne_bytes()[..]), (0x8003, &9_u64.to_ne_bytes()), (4, &[5, 0])] {
            bytes.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        assert_eq!(attribute(&bytes, 1), Some(7));
        assert_eq!(attribute(&bytes, 3), Some(9));
        assert_eq!(attribute(&bytes, 4), Some(5));
        assert_eq!(attribute(&bytes, 2), None);
        for cut in 0..bytes.len() {
            let _ = attribute(&bytes[..cut], 4);
        }
        // A length of zero would loop for ever if it were believed.
        assert_eq!(attribute(&[0; 16], 4), None);
    }
}
