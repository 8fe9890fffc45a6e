//! Sends that leave the payload where it is (Documentation/networking/msg_zerocopy.rst, io_uring_prep_send_zc(3)).
//!
//! The kernel says afterwards when it no longer needs the memory, and whether it copied it all the same, as it must where a packet is
//! delivered on the same machine. The blocks sent are never changed, so the same few serve again before that is known; a program with data of
//! its own would have to wait.

use super::{BLOCK_BYTES, PATIENCE};
use anyhow::{Context, Result, bail, ensure};
use io_uring::{IoUring, cqueue, opcode, types::Fd};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::{
    io, mem,
    net::TcpStream,
    os::fd::{AsRawFd, RawFd},
};

/// Sends of which the kernel may still use the memory.
const OUTSTANDING_MAX: u32 = 64;
/// include/uapi/linux/errqueue.h.
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;

/// What the kernel told: sends, and those of them that it copied.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    sends: u64,
    copied: u64,
}

impl Told {
    fn share(self) -> Option<f64> {
        (self.sends > 0).then(|| self.copied as f64 / self.sends as f64)
    }
}

/// `MSG_ZEROCOPY`.
#[derive(Debug)]
pub(super) struct Flagged<'a> {
    stream: &'a TcpStream,
    block: Vec<u8>,
    outstanding: u32,
    told: Told,
}

impl<'a> Flagged<'a> {
    pub(super) fn new(stream: &'a TcpStream) -> Result<Self> {
        let on: libc::c_int = 1;
        let size = size_of_val(&on) as libc::socklen_t;
        // SAFETY: pointer and size describe `on`.
        let rc = unsafe {
            libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ZEROCOPY, (&raw const on).cast(), size)
        };
        if rc != 0 {
            return Err(io::Error::last_os_error()).context("SO_ZEROCOPY (Linux 4.14 or newer is needed)");
        }
        Ok(Self { stream, block: vec![0x5a; BLOCK_BYTES], outstanding: 0, told: Told::default() })
    }

    /// Share of the sends that the kernel copied, of those that it has told of.
    pub(super) fn copied(&mut self) -> Option<f64> {
        while self.outstanding > 0 && self.wait().is_ok() {}
        self.told.share()
    }

    pub(super) fn send(&mut self) -> Result<usize> {
        while self.outstanding >= OUTSTANDING_MAX {
            self.wait()?;
        }
        loop {
            let flags = libc::MSG_ZEROCOPY | libc::MSG_NOSIGNAL;
            // SAFETY: pointer and length describe the block, which lives as long as the socket is used, and is never written.
            let sent =
                unsafe { libc::send(self.stream.as_raw_fd(), self.block.as_ptr().cast(), self.block.len(), flags) };
            if let Ok(sent) = usize::try_from(sent) {
                self.outstanding += 1;
                return Ok(sent);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // Too many notifications that nobody has read (net.core.optmem_max).
                Some(libc::ENOBUFS) if self.outstanding > 0 => self.wait()?,
                _ => return Err(error).context("send with MSG_ZEROCOPY"),
            }
        }
    }

    /// Until there is a notification, and all that there are.
    fn wait(&mut self) -> Result<()> {
        let mut polled = [PollFd::new(self.stream, PollFlags::empty())];
        let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let ready = rustix::event::poll(&mut polled, Some(&patience)).context("poll")?;
        ensure!(ready > 0, "no notification of a send within {PATIENCE:?}");
        ensure!(polled[0].revents() & (PollFlags::HUP | PollFlags::NVAL) == PollFlags::empty(), "the connection ended");
        while self.notification()? {}
        Ok(())
    }

    fn notification(&mut self) -> Result<bool> {
        let mut control = [0_u64; 16];
        // SAFETY: all-zero bytes are a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the header describes `control`, aligned for any control message.
        if unsafe { libc::recvmsg(self.stream.as_raw_fd(), &raw mut message, flags) } < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Ok(false),
                _ => Err(error).context("recvmsg with MSG_ERRQUEUE"),
            };
        }
        // SAFETY: the kernel filled the header; the first control message, if any, lies within `control`.
        let extended = unsafe {
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            ensure!(!head.is_null(), "an empty notification");
            libc::CMSG_DATA(head).cast::<libc::sock_extended_err>().read_unaligned()
        };
        if extended.ee_origin != SO_EE_ORIGIN_ZEROCOPY {
            bail!("an error on the connection: {}", io::Error::from_raw_os_error(extended.ee_errno as i32));
        }
        // A range of sends, both ends included.
        let sends = extended.ee_data.wrapping_sub(extended.ee_info).wrapping_add(1);
        self.outstanding = self.outstanding.saturating_sub(sends);
        self.told.sends += u64::from(sends);
        if extended.ee_code == SO_EE_CODE_ZEROCOPY_COPIED {
            self.told.copied += u64::from(sends);
        }
        Ok(true)
    }
}

/// `IORING_SEND_ZC_REPORT_USAGE` and `IORING_NOTIF_USAGE_ZC_COPIED` (include/uapi/linux/io_uring.h).
const REPORT_USAGE: u16 = 1 << 3;
const USAGE_COPIED: u32 = 1 << 31;

/// `IORING_OP_SEND_ZC`: one send at a time, since they must stay in order; its memory's notification may come later.
pub(super) struct Uring {
    ring: IoUring,
    fd: RawFd,
    block: Vec<u8>,
    outstanding: u32,
    told: Told,
}

impl Uring {
    pub(super) fn new(stream: &TcpStream) -> Result<Self> {
        let ring = IoUring::builder().setup_cqsize(4 * OUTSTANDING_MAX).setup_single_issuer().build(8);
        let ring = ring.context("io_uring_setup (Linux 6.0 or newer is needed, and kernel.io_uring_disabled = 0)")?;
        let block = vec![0x5a; BLOCK_BYTES];
        Ok(Self { ring, fd: stream.as_raw_fd(), block, outstanding: 0, told: Told::default() })
    }

    /// As [`Flagged::copied`].
    pub(super) fn copied(&mut self) -> Option<f64> {
        while self.outstanding > 0 {
            if self.ring.submit_and_wait(1).is_err() {
                break;
            }
            self.reap();
        }
        self.told.share()
    }

    pub(super) fn send(&mut self) -> Result<usize> {
        while self.outstanding >= OUTSTANDING_MAX {
            self.enter()?;
            self.reap();
        }
        let entry = opcode::SendZc::new(Fd(self.fd), self.block.as_ptr(), self.block.len() as u32)
            .flags(libc::MSG_NOSIGNAL)
            .zc_flags(REPORT_USAGE)
            .build();
        // SAFETY: the block lives until the last notification, and is never written.
        unsafe { self.ring.submission().push(&entry) }.context("the submission ring is full")?;
        loop {
            self.enter()?;
            if let Some(result) = self.reap() {
                let sent = usize::try_from(result);
                return sent.map_err(|_| io::Error::from_raw_os_error(-result)).context("IORING_OP_SEND_ZC");
            }
        }
    }

    fn enter(&self) -> Result<()> {
        match self.ring.submit_and_wait(1) {
            Err(error) if error.raw_os_error() != Some(libc::EINTR) => Err(error).context("io_uring_enter"),
            _ => Ok(()),
        }
    }

    /// The result of the send, if it is there, and all notifications.
    fn reap(&mut self) -> Option<i32> {
        let mut result = None;
        for entry in self.ring.completion() {
            if cqueue::notif(entry.flags()) {
                self.outstanding = self.outstanding.saturating_sub(1);
                self.told.sends += 1;
                self.told.copied += u64::from(entry.result() as u32 & USAGE_COPIED != 0);
            } else {
                result = Some(entry.result());
                self.outstanding += u32::from(cqueue::more(entry.flags()));
            }
        }
        result
    }
}
