//! Whole Ethernet frames and bare IP packets, from a kernel's raw sockets.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use super::NetNs;

/// An `AF_PACKET` socket on one interface: sees and sends whole frames.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens one on `interface` of `ns`.
    ///
    /// # Errors
    /// No such interface, or no CAP_NET_RAW.
    pub fn open(ns: &NetNs, interface: &str) -> io::Result<Self> {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        ns.enter(|| {
            let socket = new_socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(protocol))?;
            let name = std::ffi::CString::new(interface)?;
            // SAFETY: a zero-terminated string that outlives the call.
            let ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) };
            if ifindex == 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: all-zero bytes are a valid `sockaddr_ll`, a struct of integers.
            let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = ifindex.cast_signed();
            // SAFETY: pointer and length describe `address`, which outlives the call.
            let rc = unsafe {
                libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
            };
            if rc != 0 {
                return Err(io::Error::last_os_error());
            }
            let on: libc::c_int = 1;
            // SAFETY: pointer and length describe `on`, which outlives the call.
            let rc = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_PACKET,
                    libc::PACKET_AUXDATA,
                    (&raw const on).cast(),
                    size_of_val(&on) as libc::socklen_t,
                )
            };
            if rc == 0 { Ok(Self(socket)) } else { Err(io::Error::last_os_error()) }
        })
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// Whatever `send` refuses.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(&self.0, frame)
    }

    /// The next frame, incoming or outgoing, that `wanted` accepts.
    ///
    /// # Errors
    /// None within `timeout` (`TimedOut`), or whatever `recv` refuses.
    pub fn receive(&self, timeout: Duration, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            wait_readable(&self.0, left)?;
            let frame = receive_tagged(&self.0)?;
            if wanted(&frame) {
                return Ok(frame);
            }
        }
    }
}

/// Sends an IP packet of `protocol` from `ns` to `destination` and returns the error that comes back for it.
///
/// # Errors
/// The socket cannot be made, or nothing comes back within `timeout` (`TimedOut`).
pub fn error_of_protocol(ns: &NetNs, protocol: u8, destination: Ipv4Addr, timeout: Duration) -> io::Result<io::Error> {
    ns.enter(|| {
        let socket = new_socket(libc::AF_INET, libc::SOCK_RAW, i32::from(protocol))?;
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from(destination).to_be() },
            sin_zero: [0; 8],
        };
        // SAFETY: pointer and length describe `address`, which outlives the call.
        let rc = unsafe {
            libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
        };
        if rc != 0 {
            return Err(io::Error::last_os_error());
        }
        send(&socket, b"sixteen bytes...")?;
        wait_readable(&socket, timeout)?;
        let mut error: libc::c_int = 0;
        let mut len = size_of_val(&error) as libc::socklen_t;
        // SAFETY: pointer and length describe `error`, which outlives the call.
        unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                (&raw mut error).cast(),
                &raw mut len,
            )
        };
        Ok(io::Error::from_raw_os_error(error))
    })
}

/// One frame as it was on the wire: the kernel takes a VLAN tag out and tells it beside the frame.
fn receive_tagged(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut frame = vec![0u8; 1 << 16];
    // Words, for the alignment of a `cmsghdr`.
    let mut control = [0u64; 16];
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: all-zero bytes are a valid `msghdr`, a struct of integers and pointers.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the message describes `frame` and `control`, which outlive the call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    frame.truncate(usize::try_from(len).map_err(|_| io::Error::last_os_error())?);
    // SAFETY: `recvmsg` has filled in how much of `control` it wrote.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: null, or the first control message, which lies in `control`; PACKET_AUXDATA is the only one asked for.
    let auxiliary = unsafe {
        (!header.is_null() && (*header).cmsg_level == libc::SOL_PACKET && (*header).cmsg_type == libc::PACKET_AUXDATA)
            .then(|| libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned())
    };
    if let Some(auxiliary) = auxiliary.filter(|a| a.tp_status & libc::TP_STATUS_VLAN_VALID != 0) {
        let [high, low] = auxiliary.tp_vlan_tci.to_be_bytes();
        frame.splice(12..12, [0x81, 0x00, high, low]);
    }
    Ok(frame)
}

fn new_socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: socket takes three integers; a valid result is a new descriptor that nobody else owns.
    unsafe {
        let fd = libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length describe `bytes`, which outlives the call.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn wait_readable(socket: &OwnedFd, timeout: Duration) -> io::Result<()> {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one pollfd, alive for the call.
    match unsafe { libc::poll(&raw mut poll, 1, timeout_ms) } {
        1.. => Ok(()),
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Err(io::Error::last_os_error()),
    }
}
