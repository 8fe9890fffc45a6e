//! `recvmmsg` and `sendmmsg`: one system call for a batch.

use super::{BUFFER_BYTES, soft};
use crate::stop::StopFlag;
use anyhow::Result;
use std::{mem, net::UdpSocket, os::fd::AsRawFd};

const BATCH: usize = 64;

/// Datagrams echoed until the flag is set. Spins, or blocks until there is one.
pub(super) fn run(socket: &UdpSocket, blocking: bool, stop: &StopFlag) -> Result<u64> {
    let fd = socket.as_raw_fd();

    let mut buffers = vec![[0_u8; BUFFER_BYTES]; BATCH];
    // SAFETY: all-zero bytes are a valid `sockaddr_in`, `iovec` and `mmsghdr`.
    let mut addresses: Vec<libc::sockaddr_in> = vec![unsafe { mem::zeroed() }; BATCH];
    let mut vectors: Vec<libc::iovec> = buffers
        .iter_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: BUFFER_BYTES })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = vectors
        .iter_mut()
        .zip(&mut addresses)
        .map(|(vector, address)| {
            // SAFETY: as above.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_name = (&raw mut *address).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            message
        })
        .collect();

    let flags = if blocking { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
    let mut echoed = 0;
    while !stop.is_set() {
        // SAFETY: every header points to a live buffer and address of the sizes that it states; BATCH of them.
        let received = unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), BATCH as u32, flags, std::ptr::null_mut()) };
        let Ok(received) = usize::try_from(received) else {
            soft("recvmmsg")?;
            continue;
        };
        for message in &messages[..received] {
            // SAFETY: `msg_iov` points at this message's own vector, which nothing else touches.
            unsafe { (*message.msg_hdr.msg_iov).iov_len = message.msg_len as usize };
        }
        let mut sent = 0;
        while sent < received {
            // SAFETY: as above; `sent < received <= BATCH`.
            let count = unsafe { libc::sendmmsg(fd, messages[sent..].as_mut_ptr(), (received - sent) as u32, 0) };
            match usize::try_from(count) {
                Ok(count) => sent += count,
                Err(_) => soft("sendmmsg")?,
            }
            if stop.is_set() {
                break;
            }
        }
        echoed += sent as u64;
        for message in &mut messages[..received] {
            // SAFETY: as above.
            unsafe { (*message.msg_hdr.msg_iov).iov_len = BUFFER_BYTES };
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        }
    }
    Ok(echoed)
}
