//! io_uring: one request receives datagram after datagram into a ring of buffers; each is sent from the buffer that it came in.

use super::{BUFFER_BYTES, WAIT};
use crate::{stop::StopFlag, uring::BufferRing};
use anyhow::{Context, Result, ensure};
use io_uring::{
    IoUring, cqueue, opcode,
    types::{Fd, RecvMsgOut, SubmitArgs, Timespec},
};
use std::{
    io, mem,
    net::UdpSocket,
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    ptr,
};

const BUFFERS: u16 = 1024;
const GROUP: u16 = 0;
/// Of the request that receives; those that send have the buffer's number.
const RECEIVE: u64 = u64::MAX;

pub(super) struct Echo {
    // First: it goes before the memory that the kernel writes.
    ring: IoUring,
    buffers: BufferRing,
    /// What a datagram that is sent from a buffer is described by; at fixed addresses.
    messages: Pin<Box<[Message]>>,
    /// What a datagram that comes is described by: room for an address.
    template: Box<libc::msghdr>,
    fd: RawFd,
}

struct Message {
    header: libc::msghdr,
    vector: libc::iovec,
}

impl Echo {
    pub(super) fn new(socket: &UdpSocket) -> Result<Self> {
        let ring = IoUring::builder()
            .setup_cqsize(4 * u32::from(BUFFERS))
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(BUFFERS.into())
            .context("io_uring_setup (Linux 6.1 or newer is needed, and kernel.io_uring_disabled = 0)")?;
        let buffers = BufferRing::register(&ring, GROUP, BUFFERS, BUFFER_BYTES)?;
        // SAFETY: all-zero bytes are a valid `msghdr` and `iovec`.
        let message = || unsafe { mem::zeroed::<Message>() };
        let messages = Pin::new(std::iter::repeat_with(message).take(BUFFERS.into()).collect::<Box<[_]>>());
        // SAFETY: as above.
        let mut template: Box<libc::msghdr> = Box::new(unsafe { mem::zeroed() });
        template.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        Ok(Self { ring, buffers, messages, template, fd: socket.as_raw_fd() })
    }

    /// Datagrams echoed until the flag is set.
    pub(super) fn run(mut self, stop: &StopFlag, ready: impl Fn()) -> Result<u64> {
        self.receive()?;
        self.submit(0)?;
        ready();
        let mut echoed = 0;
        while !stop.is_set() {
            self.submit(1)?;
            let mut again = false;
            // Not more at a time than there is room for in the submission ring.
            let batch: Vec<cqueue::Entry> = self.ring.completion().take(BUFFERS.into()).collect();
            for entry in batch {
                if entry.user_data() == RECEIVE {
                    // Out of buffers, or the request was ended: it is made again.
                    again |= !cqueue::more(entry.flags());
                    let Some(buffer) = cqueue::buffer_select(entry.flags()) else { continue };
                    let received = check("recvmsg", entry.result())?;
                    self.send(buffer, received)?;
                } else {
                    echoed += u64::from(check("sendmsg", entry.result()).is_ok());
                    self.buffers.give_back(entry.user_data() as u16);
                }
            }
            self.buffers.publish();
            if again {
                self.receive()?;
            }
        }
        Ok(echoed)
    }

    fn receive(&mut self) -> Result<()> {
        let entry = opcode::RecvMsgMulti::new(Fd(self.fd), &raw const *self.template, GROUP).build().user_data(RECEIVE);
        // SAFETY: the template and the buffers live as long as the ring, which is dropped before them.
        unsafe { self.ring.submission().push(&entry) }.context("the submission ring is full")
    }

    fn send(&mut self, buffer: u16, bytes: usize) -> Result<()> {
        let received = self.buffers.filled(buffer, bytes);
        let parsed = RecvMsgOut::parse(received, &self.template).ok().context("a datagram without its header")?;
        ensure!(!parsed.is_payload_truncated(), "a datagram of over {BUFFER_BYTES} bytes");
        let (name, payload) = (parsed.name_data(), parsed.payload_data());
        let (name, name_bytes) = (name.as_ptr().cast_mut(), name.len());
        let (payload, payload_bytes) = (payload.as_ptr().cast_mut(), payload.len());
        let message = &mut self.messages[usize::from(buffer)];
        message.vector = libc::iovec { iov_base: payload.cast(), iov_len: payload_bytes };
        message.header.msg_name = name.cast();
        message.header.msg_namelen = name_bytes as libc::socklen_t;
        message.header.msg_iov = &raw mut message.vector;
        message.header.msg_iovlen = 1;
        let entry = opcode::SendMsg::new(Fd(self.fd), ptr::from_ref(&message.header)).build().user_data(buffer.into());
        // SAFETY: header, vector, name and payload stay as they are until the buffer is given back, after the send's completion; all of them
        // outlive the ring.
        unsafe { self.ring.submission().push(&entry) }.context("the submission ring is full")
    }

    /// Hands over what was asked for, and waits for so many completions, or for a while.
    fn submit(&self, wait: usize) -> Result<()> {
        let patience = Timespec::new().nsec(WAIT.subsec_nanos());
        let arguments = SubmitArgs::new().timespec(&patience);
        match self.ring.submitter().submit_with_args(wait, &arguments) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => Ok(()),
            Err(error) => Err(error).context("io_uring_enter"),
        }
    }
}

fn check(call: &str, result: i32) -> Result<usize> {
    match usize::try_from(result) {
        Ok(count) => Ok(count),
        Err(_) => Err(io::Error::from_raw_os_error(-result)).with_context(|| format!("{call} in io_uring")),
    }
}
