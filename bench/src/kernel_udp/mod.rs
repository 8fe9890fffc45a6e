//! The kernel's own sockets as a UDP echo server, in each of the ways there are to use them.

mod batched;
mod single;
mod uring;

use crate::{affinity, stop};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::{
    io,
    net::{SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

const BUFFER_BYTES: usize = 2048;
/// Enough for any window of the generator, with the kernel's accounting of whole buffers: a small datagram counts for over 2 KiB.
const SOCKET_BUFFER_BYTES: libc::c_int = 16 << 20;
/// A wait ends now and then: a signal between the look at the flag and the wait must not be missed.
const WAIT: Duration = Duration::from_millis(100);

/// How it asks the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// recvfrom and sendto, one datagram each, blocking
    Blocking,
    /// epoll_wait, then recvfrom and sendto for all that is there
    Epoll,
    /// recvmmsg and sendmmsg, spinning
    Batched,
    /// recvmmsg and sendmmsg, blocking until there is a datagram
    BatchedBlocking,
    /// io_uring: a multi-shot recvmsg into a ring of buffers, a sendmsg for each
    IoUring,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Epoll => "epoll",
            Self::Batched => "batched",
            Self::BatchedBlocking => "batched-blocking",
            Self::IoUring => "io-uring",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Blocking => "recvfrom/sendto, blocking",
            Self::Epoll => "epoll_wait, then recvfrom/sendto until nothing is left",
            Self::Batched => "recvmmsg/sendmmsg, spinning",
            Self::BatchedBlocking => "recvmmsg/sendmmsg, blocking",
            Self::IoUring => "io_uring, multi-shot recvmsg with a buffer ring, a sendmsg each",
        }
    }
}

/// Options of `kernel-udp-echo`.
#[derive(Args, Debug)]
pub(crate) struct KernelUdpArgs {
    /// Address to listen on
    #[arg(long, short)]
    listen: SocketAddrV4,
    /// How to ask the kernel
    #[arg(long, value_enum, default_value = "batched")]
    way: Way,
    /// Core to run on
    #[arg(long)]
    core: Option<usize>,
    /// SO_REUSEPORT, for several of these on one port
    #[arg(long)]
    reuse_port: bool,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(args: &KernelUdpArgs) -> Result<()> {
    affinity::pin(args.core)?;
    let socket = open(args)?;
    let stop = stop::flag()?;
    let ready = || println!("ready: {} with {}", args.listen, args.way.about());
    let echoed = match args.way {
        Way::Blocking => {
            ready();
            single::blocking(&socket, &stop)
        }
        Way::Epoll => {
            ready();
            single::epoll(&socket, &stop)
        }
        Way::Batched | Way::BatchedBlocking => {
            ready();
            batched::run(&socket, args.way == Way::BatchedBlocking, &stop)
        }
        Way::IoUring => uring::Echo::new(&socket)?.run(&stop, ready),
    }?;
    println!("echoed: {echoed}");
    Ok(())
}

fn open(args: &KernelUdpArgs) -> Result<UdpSocket> {
    let socket = if args.reuse_port { reuse_port(args.listen)? } else { UdpSocket::bind(args.listen)? };
    // Whoever blocks must notice the stop flag.
    socket.set_read_timeout(Some(WAIT))?;
    enlarge_buffers(&socket)?;
    Ok(socket)
}

/// So that no window of the generator overflows them.
pub(crate) fn enlarge_buffers(socket: &impl AsRawFd) -> Result<()> {
    for (option, name) in [(libc::SO_RCVBUFFORCE, "SO_RCVBUFFORCE"), (libc::SO_SNDBUFFORCE, "SO_SNDBUFFORCE")] {
        set_option(socket, option, SOCKET_BUFFER_BYTES).context(name)?;
    }
    Ok(())
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

fn set_option(socket: &impl AsRawFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
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
