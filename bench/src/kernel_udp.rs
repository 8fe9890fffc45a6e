//! The kernel's own sockets as a UDP echo server: `recvmmsg` and `sendmmsg` in batches.

use crate::{affinity, stop};
use anyhow::{Context, Result};
use clap::Args;
use std::{
    io, mem,
    net::{SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

const BATCH: usize = 64;
const BUFFER_BYTES: usize = 2048;
/// Enough for any window of the generator, with the kernel's accounting of whole buffers: a small datagram counts for over 2 KiB.
const SOCKET_BUFFER_BYTES: libc::c_int = 16 << 20;

/// Options of `kernel-udp-echo`.
#[derive(Args, Debug)]
pub(crate) struct KernelUdpArgs {
    /// Address to listen on
    #[arg(long, short)]
    listen: SocketAddrV4,
    /// Core to run on
    #[arg(long)]
    core: Option<usize>,
    /// Block in recvmmsg (MSG_WAITFORONE) and do not spin over it (MSG_DONTWAIT)
    #[arg(long)]
    blocking: bool,
    /// SO_REUSEPORT, for several of these on one port
    #[arg(long)]
    reuse_port: bool,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(args: &KernelUdpArgs) -> Result<()> {
    affinity::pin(args.core)?;
    let socket = open(args)?;
    let stop = stop::flag()?;
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

    println!("ready: {} with recvmmsg/sendmmsg, {}", args.listen, if args.blocking { "blocking" } else { "spinning" });
    let flags = if args.blocking { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
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
    println!("echoed: {echoed}");
    Ok(())
}

fn open(args: &KernelUdpArgs) -> Result<UdpSocket> {
    let socket = if args.reuse_port { reuse_port(args.listen)? } else { UdpSocket::bind(args.listen)? };
    // A blocking recvmmsg must notice the stop flag.
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    for (option, name) in [(libc::SO_RCVBUFFORCE, "SO_RCVBUFFORCE"), (libc::SO_SNDBUFFORCE, "SO_SNDBUFFORCE")] {
        set_option(&socket, option, SOCKET_BUFFER_BYTES).context(name)?;
    }
    Ok(socket)
}

fn reuse_port(listen: SocketAddrV4) -> Result<UdpSocket> {
    use std::os::fd::FromRawFd;
    // SAFETY: no memory is passed; the descriptor is checked and owned by nobody else.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("socket");
        }
        UdpSocket::from_raw_fd(fd)
    };
    set_option(&socket, libc::SO_REUSEPORT, 1).context("SO_REUSEPORT")?;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: listen.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(listen.ip().octets()) },
        sin_zero: [0; 8],
    };
    // SAFETY: pointer and size describe `address`.
    let rc = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
    };
    if rc != 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("bind to {listen}"));
    }
    Ok(socket)
}

fn set_option(socket: &UdpSocket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: pointer and size describe `value`.
    let rc = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), size) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn soft(call: &str) -> Result<()> {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS) => Ok(()),
        _ => Err(error).context(call.to_owned()),
    }
}
