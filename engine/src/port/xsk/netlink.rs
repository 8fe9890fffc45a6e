//! The generic netlink family "netdev" (`Documentation/netlink/specs/netdev.yaml`, Linux 6.3): questions about devices and their NAPI instances.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// Bytes of `struct nlmsghdr`, and of that with `struct genlmsghdr`.
const NLMSGHDR_BYTES: usize = 16;
const HEADER_BYTES: usize = NLMSGHDR_BYTES + 4;

/// A socket to the family, in the network namespace that it was opened in.
#[derive(Debug)]
pub(super) struct Netdevs {
    socket: OwnedFd,
    family: u16,
}

impl Netdevs {
    /// # Errors
    /// The kernel has no such family.
    pub(super) fn open() -> io::Result<Self> {
        // SAFETY: no pointers are passed; a valid result is a new descriptor that nobody else owns.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_GENERIC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let mut this = Self { socket, family: GENL_ID_CTRL };
        let reply = this.ask(CTRL_CMD_GETFAMILY, &[(CTRL_ATTR_FAMILY_NAME, b"netdev\0")])?;
        this.family = attribute(&reply, CTRL_ATTR_FAMILY_ID).ok_or(io::ErrorKind::InvalidData)? as u16;
        Ok(this)
    }

    /// Asks one question; returns the attributes of the answer.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn ask(&self, command: u8, attributes: &[(u16, &[u8])]) -> io::Result<Vec<u8>> {
        self.send(command, 0, attributes)?;
        let mut answer = None;
        self.receive(|attributes| answer = Some(attributes.to_vec()))?;
        answer.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Asks for a list; calls `each` with the attributes of each entry.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn list(&self, command: u8, attributes: &[(u16, &[u8])], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.send(command, libc::NLM_F_DUMP as u16, attributes)?;
        while self.receive(&mut each)? {}
        Ok(())
    }

    /// Orders something.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn tell(&self, command: u8, attributes: &[(u16, &[u8])]) -> io::Result<()> {
        self.send(command, libc::NLM_F_ACK as u16, attributes)?;
        self.receive(|_| ()).map(drop)
    }

    fn send(&self, command: u8, flags: u16, attributes: &[(u16, &[u8])]) -> io::Result<()> {
        let mut message = vec![0; HEADER_BYTES];
        for (kind, value) in attributes {
            message.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
            message.extend_from_slice(&kind.to_ne_bytes());
            message.extend_from_slice(value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        let total = message.len() as u32;
        message[..4].copy_from_slice(&total.to_ne_bytes());
        message[4..6].copy_from_slice(&self.family.to_ne_bytes());
        message[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16 | flags).to_ne_bytes());
        // Sequence number and port stay zero: one question at a time on a socket of its own.
        message[NLMSGHDR_BYTES..NLMSGHDR_BYTES + 2].copy_from_slice(&[command, 1]);
        // SAFETY: pointer and length describe `message`, which outlives the call.
        let rc = unsafe { libc::send(self.socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes one datagram of the answer; true if more belong to it.
    fn receive(&self, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut reply = vec![0_u8; 32 << 10];
        // SAFETY: pointer and length describe `reply`, which outlives the call. The kernel queues its answer, or the next part of it, within
        // the call before.
        let n =
            unsafe { libc::recv(self.socket.as_raw_fd(), reply.as_mut_ptr().cast(), reply.len(), libc::MSG_DONTWAIT) };
        reply.truncate(usize::try_from(n).map_err(|_| io::Error::last_os_error())?);
        messages(&reply, &mut each)
    }
}

/// Goes through the messages of a datagram; true unless it ends the answer.
fn messages(mut rest: &[u8], each: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    let mut more = false;
    while !rest.is_empty() {
        let field = |range| number(rest.get(range)).ok_or(io::ErrorKind::InvalidData);
        let (length, kind, flags) = (field(0..4)? as usize, field(4..6)?, field(6..8)?);
        let message = rest.get(..length).filter(|m| m.len() >= NLMSGHDR_BYTES).ok_or(io::ErrorKind::InvalidData)?;
        match kind as i32 {
            libc::NLMSG_DONE => return Ok(false),
            libc::NLMSG_ERROR => {
                return match number(message.get(16..20)).unwrap_or(0) as u32 as i32 {
                    0 => Ok(false),
                    errno => Err(io::Error::from_raw_os_error(-errno)),
                };
            }
            _ => each(message.get(HEADER_BYTES..).unwrap_or_default()),
        }
        more = flags & libc::NLM_F_MULTI as u64 != 0;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(more)
}

/// An integer attribute of 1 to 8 bytes.
pub(super) fn attribute(mut rest: &[u8], wanted: u16) -> Option<u64> {
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

    fn message(kind: i32, flags: i32, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; NLMSGHDR_BYTES];
        bytes.extend_from_slice(body);
        let total = bytes.len() as u32;
        bytes[..4].copy_from_slice(&total.to_ne_bytes());
        bytes[4..6].copy_from_slice(&(kind as u16).to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags as u16).to_ne_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_list_ends_with_its_end_and_an_error_is_the_kernel_s() {
        let entry = message(0x20, libc::NLM_F_MULTI, &[0, 0, 0, 0, 9, 9]);
        let mut seen = Vec::new();
        assert!(messages(&[entry.clone(), entry.clone()].concat(), &mut |a| seen.push(a.to_vec())).unwrap());
        assert_eq!(seen, [[9, 9], [9, 9]]);
        let end = message(libc::NLMSG_DONE, libc::NLM_F_MULTI, &0_i32.to_ne_bytes());
        assert!(!messages(&[entry, end].concat(), &mut |_| ()).unwrap());
        let single = message(0x20, 0, &[0; 4]);
        assert!(!messages(&single, &mut |_| ()).unwrap());
        let done = message(libc::NLMSG_ERROR, 0, &0_i32.to_ne_bytes());
        assert!(!messages(&done, &mut |_| ()).unwrap());
        let refused = message(libc::NLMSG_ERROR, 0, &(-libc::EPERM).to_ne_bytes());
        assert_eq!(messages(&refused, &mut |_| ()).unwrap_err().raw_os_error(), Some(libc::EPERM));
        for cut in 1..refused.len() {
            assert!(messages(&refused[..cut], &mut |_| ()).is_err());
        }
    }
}
