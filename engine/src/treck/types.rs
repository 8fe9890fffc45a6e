//! The types of the C face, laid out as `trsocket.h` has them and under the header's names.
#![allow(non_camel_case_types)]

use super::{
    error::{Code, FAULT, INVALID, Outcome},
    numbers as n,
};
use std::{
    ffi::{c_char, c_int, c_void},
    net::{Ipv4Addr, SocketAddrV4},
};

macro_rules! opaque {
    ($(#[$doc:meta] $tag:ident $pointer:ident;)*) => {$(
        #[$doc]
        #[derive(Debug)]
        #[repr(C)]
        pub struct $tag {
            _opaque: [u8; 0],
        }
        #[doc = concat!("Handle of a [`", stringify!($tag), "`]; null: none.")]
        pub type $pointer = *mut $tag;
    )*};
}

opaque! {
    /// A zero-copy buffer. A number with a generation, but for a scattered message: that is the address of its first [`ttUserPacket`]. Never dereferenced by us as it comes.
    tsUserMessage ttUserMessage;
    /// A driver's buffer. Never dereferenced.
    tsUserBuffer ttUserBuffer;
    /// An interface. Never dereferenced.
    tsUserInterface ttUserInterface;
    /// A link layer. Never dereferenced.
    tsUserLinkLayer ttUserLinkLayer;
}

/// An IPv4 address in network byte order.
pub type ttUserIpAddress = u32;

/// `int open(ttUserInterface)`
pub type ttDevOpenFunc = Option<unsafe extern "C" fn(ttUserInterface) -> c_int>;
/// `int close(ttUserInterface)`
pub type ttDevCloseFunc = Option<unsafe extern "C" fn(ttUserInterface) -> c_int>;
/// `int send(ttUserInterface, char *data, int length, int flag)`
pub type ttDevSendFunc = Option<unsafe extern "C" fn(ttUserInterface, *mut c_char, c_int, c_int) -> c_int>;
/// `int recv(ttUserInterface, char **data, int *length, ttUserBuffer *bufferHandle)`
pub type ttDevRecvFunc =
    Option<unsafe extern "C" fn(ttUserInterface, *mut *mut c_char, *mut c_int, *mut ttUserBuffer) -> c_int>;
/// `int freeRecv(ttUserInterface, char *data)`
pub type ttDevFreeRecvFunc = Option<unsafe extern "C" fn(ttUserInterface, *mut c_char) -> c_int>;
/// `int ioctl(ttUserInterface, int flag, void *option, int length)`
pub type ttDevIoctlFunc = Option<unsafe extern "C" fn(ttUserInterface, c_int, *mut c_void, c_int) -> c_int>;
/// `int getPhysAddr(ttUserInterface, char *mac)`: writes six bytes.
pub type ttDevGetPhysAddrFunc = Option<unsafe extern "C" fn(ttUserInterface, *mut c_char) -> c_int>;

/// `void fn(int sd, int events)`
pub type ttUserSocketCBFunc = Option<unsafe extern "C" fn(c_int, c_int)>;
/// `void fn(int sd, void *param, int events)`
pub type ttUserSocketCBParamFunc = Option<unsafe extern "C" fn(c_int, *mut c_void, c_int)>;

/// `void fn(char *userBuffer)`: frees memory of the application's.
pub type ttUserFreeFuncPtr = Option<unsafe extern "C" fn(*mut c_char)>;

/// `ttUserBlock`: a piece of a datagram in memory of the application's.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ttUserBlock {
    /// What the free function is called with.
    pub userBufferPtr: *mut c_char,
    /// The bytes.
    pub userDataPtr: *mut c_char,
    /// How many.
    pub userDataLength: c_int,
}

/// `ttUserBlock *`
pub type ttUserBlockPtr = *mut ttUserBlock;

/// `ttUserPacket`: a link of a scattered message.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ttUserPacket {
    /// The next link; null: the last.
    pub pktuLinkNextPtr: *mut ttUserPacket,
    /// The link's bytes.
    pub pktuLinkDataPtr: *mut c_char,
    /// How many.
    pub pktuLinkDataLength: c_int,
    /// On the first link: bytes of all links.
    pub pktuChainDataLength: c_int,
    /// On the first link: how many more there are.
    pub pktuLinkExtraCount: c_int,
}

/// `struct in_addr`: network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct tfInAddr {
    /// The address.
    pub s_addr: u32,
}

/// `struct sockaddr`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct tfSockaddr {
    /// Length; ignored on input.
    pub sa_len: u8,
    /// Family.
    pub sa_family: u8,
    /// The rest.
    pub sa_data: [c_char; 14],
}

/// `struct sockaddr_in`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct tfSockaddrIn {
    /// Length; ignored on input.
    pub sin_len: u8,
    /// `AF_INET`.
    pub sin_family: u8,
    /// Port in network byte order.
    pub sin_port: u16,
    /// Address.
    pub sin_addr: tfInAddr,
    /// Zero.
    pub sin_zero: [c_char; 8],
}

/// `struct in6_addr`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct tfIn6Addr {
    /// The address.
    pub s6_addr: [u8; 16],
}

/// `struct sockaddr_in6`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct tfSockaddrIn6 {
    /// Length; ignored on input.
    pub sin6_len: u8,
    /// `AF_INET6`.
    pub sin6_family: u8,
    /// Port in network byte order.
    pub sin6_port: u16,
    /// Flow label.
    pub sin6_flowinfo: u32,
    /// Address.
    pub sin6_addr: tfIn6Addr,
    /// Zone.
    pub sin6_scope_id: u32,
}

/// `struct sockaddr_storage`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct tfSockaddrStorage {
    /// Length; ignored on input.
    pub ss_len: u8,
    /// Family.
    pub ss_family: u8,
    /// To alignment.
    pub ss_pad: [c_char; 6],
    /// The rest, aligned.
    pub ss_align: [u64; 15],
}

/// `fd_set`: as many words as `TM_FD_SETSIZE` needs; only the bits below `nfds` are looked at.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct tfFdSet {
    /// Bit `n % 32` of word `n / 32` stands for descriptor `n`.
    pub fds_bits: [u32; FD_SETSIZE / 32],
}

/// `TM_FD_SETSIZE` unless the program defines another.
pub const FD_SETSIZE: usize = 1024;

/// What [`tfGetStats`](super::turning::tfGetStats) tells.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct tfStats {
    /// Frames in the pool; 0 before the first interface is opened.
    pub framesTotal: u64,
    /// Of those, free.
    pub framesFree: u64,
    /// Payload bytes copied on the way out: by `tfSend` and the like; 0 on zero-copy calls.
    pub bytesCopiedTx: u64,
    /// Payload bytes copied on the way in.
    pub bytesCopiedRx: u64,
    /// UDP datagrams put into receive queues.
    pub udpReceived: u64,
    /// UDP datagrams accepted for sending.
    pub udpSent: u64,
    /// Packets dropped, for whatever reason.
    pub dropped: u64,
    /// Times that a call which waited beside workers was woken: because something happened on its socket, not because its time was over.
    pub callsWoken: u64,
}

/// The address in a `ttUserIpAddress` or `s_addr`.
pub(super) fn ip_of(network_order: u32) -> Ipv4Addr {
    Ipv4Addr::from(network_order.to_ne_bytes())
}

/// The value for a `ttUserIpAddress` or `s_addr`.
pub(super) fn network_order(ip: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(ip.octets())
}

/// What an application gave as an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressArg {
    V4(SocketAddrV4),
    Unspecified,
}

/// Reads an address argument.
///
/// # Safety
/// `address` is null or points to `length` readable bytes.
pub(super) unsafe fn read_address(address: *const tfSockaddr, length: c_int) -> Outcome<AddressArg> {
    if address.is_null() {
        return Err(FAULT);
    }
    if length < size_of::<[u8; 2]>() as c_int {
        return Err(INVALID);
    }
    // SAFETY: readable for at least two bytes, by the caller's promise; no alignment is asked of it.
    let family = unsafe { address.cast::<[u8; 2]>().read_unaligned() }[1];
    match c_int::from(family) {
        n::TM_AF_UNSPEC => Ok(AddressArg::Unspecified),
        _ if length < size_of::<tfSockaddrIn>() as c_int => Err(INVALID),
        n::TM_AF_INET => {
            // SAFETY: as above, for the structure's size.
            let address = unsafe { address.cast::<tfSockaddrIn>().read_unaligned() };
            Ok(AddressArg::V4(SocketAddrV4::new(ip_of(address.sin_addr.s_addr), u16::from_be(address.sin_port))))
        }
        _ => Err(Code(n::TM_EAFNOSUPPORT)),
    }
}

/// Hands an address to the application, cut to the room it has; `length` becomes the whole size.
///
/// # Safety
/// `length` is null or points to an int; `address` is null or has room for that many bytes.
pub(super) unsafe fn write_address(to: SocketAddrV4, address: *mut tfSockaddr, length: *mut c_int) -> Outcome<()> {
    if address.is_null() || length.is_null() {
        return Err(FAULT);
    }
    let full = tfSockaddrIn {
        sin_len: size_of::<tfSockaddrIn>() as u8,
        sin_family: n::TM_AF_INET as u8,
        sin_port: to.port().to_be(),
        sin_addr: tfInAddr { s_addr: network_order(*to.ip()) },
        sin_zero: [0; 8],
    };
    // SAFETY: readable and writable by the caller's promise.
    let room = unsafe { length.read_unaligned() };
    let room = usize::try_from(room).map_err(|_| INVALID)?.min(size_of::<tfSockaddrIn>());
    // SAFETY: `room` is at most what the caller has there and at most the structure's size.
    unsafe {
        std::ptr::copy_nonoverlapping((&raw const full).cast::<u8>(), address.cast::<u8>(), room);
        length.write_unaligned(size_of::<tfSockaddrIn>() as c_int);
    }
    Ok(())
}
