//! Socket options of UDP sockets.
//!
//! | level | option | value |
//! |---|---|---|
//! | `SOL_SOCKET` | `SO_BROADCAST SO_DONTROUTE SO_REUSEADDR SO_DEBUG` | int, 0 or not |
//! | | `SO_SNDBUF SO_RCVBUF TM_SO_RCV_DGRAMS` | int > 0 |
//! | | `SO_SNDTIMEO SO_RCVTIMEO` | `struct timeval` |
//! | | `SO_ERROR SO_TYPE` | int, to get only |
//! | `IPPROTO_IP` | `IP_TTL` (1 to 255), `IP_TOS` (0 to 255) | int |
//!
//! Multicast options: `TM_EOPNOTSUPP` in this version. All others: `TM_ENOPROTOOPT`. Null pointers: `TM_EFAULT`; a length or value out of range: `TM_EINVAL`.

use super::{
    error::{Code, FAULT, INVALID, Outcome, UNSUPPORTED},
    face::Face,
    numbers as n,
    sockets::{Options, SocketId, pending_code},
};
use crate::{socket::RxLimits, time::Duration};
use std::ffi::{c_char, c_int};

const NO_OPTION: Code = Code(n::TM_ENOPROTOOPT);

/// Changes an option.
///
/// # Safety
/// `value` is null or points to `length` bytes.
pub(super) unsafe fn set(
    face: &Face,
    id: SocketId,
    level: c_int,
    option: c_int,
    value: *const c_char,
    length: c_int,
) -> Outcome<()> {
    if value.is_null() {
        return Err(FAULT);
    }
    let mut options = face.with_socket(id, |socket| socket.options)?;
    if level == n::TM_SOL_SOCKET && matches!(option, n::TM_SO_SNDTIMEO | n::TM_SO_RCVTIMEO) {
        if length < size_of::<libc::timeval>() as c_int {
            return Err(INVALID);
        }
        // SAFETY: as many bytes are there by the caller's promise.
        let time = duration_of(unsafe { value.cast::<libc::timeval>().read_unaligned() })?;
        *(if option == n::TM_SO_SNDTIMEO { &mut options.tx_timeout } else { &mut options.rx_timeout }) = time;
    } else {
        if length < size_of::<c_int>() as c_int {
            return Err(INVALID);
        }
        // SAFETY: as many bytes are there by the caller's promise.
        set_int(&mut options, level, option, unsafe { value.cast::<c_int>().read_unaligned() })?;
    }
    face.with_socket(id, |socket| socket.options = options)?;
    face.apply_options(id)
}

fn set_int(options: &mut Options, level: c_int, option: c_int, value: c_int) -> Outcome<()> {
    let size = || usize::try_from(value).ok().filter(|&size| size > 0).ok_or(INVALID);
    match (level, option) {
        (n::TM_SOL_SOCKET, n::TM_SO_BROADCAST) => options.broadcast = value != 0,
        (n::TM_SOL_SOCKET, n::TM_SO_DONTROUTE) => options.dont_route = value != 0,
        (n::TM_SOL_SOCKET, n::TM_SO_REUSEADDR) => options.reuse_address = value != 0,
        (n::TM_SOL_SOCKET, n::TM_SO_DEBUG) => options.debug = value != 0,
        (n::TM_SOL_SOCKET, n::TM_SO_SNDBUF) => options.tx_bytes_max = size()?,
        (n::TM_SOL_SOCKET, n::TM_SO_RCVBUF) => options.rx_limits = RxLimits { bytes: size()?, ..options.rx_limits },
        (n::TM_SOL_SOCKET, n::TM_SO_RCV_DGRAMS) => {
            options.rx_limits = RxLimits { frames: size()?, ..options.rx_limits }
        }
        (n::TM_SOL_SOCKET, n::TM_SO_ERROR | n::TM_SO_TYPE) => return Err(INVALID),
        (n::TM_IPPROTO_IP, n::TM_IP_TTL) => {
            options.ttl = u8::try_from(value).ok().filter(|&ttl| ttl > 0).ok_or(INVALID)?;
        }
        (n::TM_IPPROTO_IP, n::TM_IP_TOS) => options.tos = u8::try_from(value).map_err(|_| INVALID)?,
        _ => return Err(unknown(level, option)),
    }
    Ok(())
}

/// Reads an option; `*length` becomes its size.
///
/// # Safety
/// `value` is null or has room for `*length` bytes.
pub(super) unsafe fn get(
    face: &Face,
    id: SocketId,
    level: c_int,
    option: c_int,
    value: *mut c_char,
    length: *mut c_int,
) -> Outcome<()> {
    if value.is_null() || length.is_null() {
        return Err(FAULT);
    }
    // SAFETY: not null, the caller's variable.
    let room = unsafe { length.read_unaligned() };
    let options = face.with_socket(id, |socket| socket.options)?;
    let timeout = match (level, option) {
        (n::TM_SOL_SOCKET, n::TM_SO_SNDTIMEO) => Some(options.tx_timeout),
        (n::TM_SOL_SOCKET, n::TM_SO_RCVTIMEO) => Some(options.rx_timeout),
        _ => None,
    };
    let size = if timeout.is_some() { size_of::<libc::timeval>() } else { size_of::<c_int>() } as c_int;
    if room < size {
        return Err(INVALID);
    }
    match timeout {
        Some(time) => {
            let time = libc::timeval {
                tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
                tv_usec: time.subsec_micros().into(),
            };
            // SAFETY: there is room for it.
            unsafe { value.cast::<libc::timeval>().write_unaligned(time) };
        }
        None => {
            let number = get_int(face, id, options, level, option)?;
            // SAFETY: there is room for it.
            unsafe { value.cast::<c_int>().write_unaligned(number) };
        }
    }
    // SAFETY: not null, the caller's variable.
    unsafe { length.write_unaligned(size) };
    Ok(())
}

fn get_int(face: &Face, id: SocketId, options: Options, level: c_int, option: c_int) -> Outcome<c_int> {
    let size = |size: usize| c_int::try_from(size).unwrap_or(c_int::MAX);
    Ok(match (level, option) {
        (n::TM_SOL_SOCKET, n::TM_SO_BROADCAST) => options.broadcast.into(),
        (n::TM_SOL_SOCKET, n::TM_SO_DONTROUTE) => options.dont_route.into(),
        (n::TM_SOL_SOCKET, n::TM_SO_REUSEADDR) => options.reuse_address.into(),
        (n::TM_SOL_SOCKET, n::TM_SO_DEBUG) => options.debug.into(),
        (n::TM_SOL_SOCKET, n::TM_SO_SNDBUF) => size(options.tx_bytes_max),
        (n::TM_SOL_SOCKET, n::TM_SO_RCVBUF) => size(options.rx_limits.bytes),
        (n::TM_SOL_SOCKET, n::TM_SO_RCV_DGRAMS) => size(options.rx_limits.frames),
        (n::TM_SOL_SOCKET, n::TM_SO_TYPE) => n::TM_SOCK_DGRAM,
        (n::TM_SOL_SOCKET, n::TM_SO_ERROR) => {
            let udp = face.with_socket(id, |socket| socket.udp)?;
            let take = |udp| face.with_stack(|stack| stack.udp_socket_mut(udp).and_then(|socket| socket.take_error()));
            udp.map(take).transpose()?.flatten().map_or(n::TM_ENOERROR, |error| pending_code(error).0)
        }
        (n::TM_IPPROTO_IP, n::TM_IP_TTL) => options.ttl.into(),
        (n::TM_IPPROTO_IP, n::TM_IP_TOS) => options.tos.into(),
        _ => return Err(unknown(level, option)),
    })
}

fn unknown(level: c_int, option: c_int) -> Code {
    match (level, option) {
        (
            n::TM_IPPROTO_IP,
            n::TM_IP_MULTICAST_IF | n::TM_IP_MULTICAST_TTL | n::TM_IP_ADD_MEMBERSHIP | n::TM_IP_DROP_MEMBERSHIP,
        ) => UNSUPPORTED,
        _ => NO_OPTION,
    }
}

/// A time of C's as one of ours.
pub(super) fn duration_of(time: libc::timeval) -> Outcome<Duration> {
    let seconds = u64::try_from(time.tv_sec).map_err(|_| INVALID)?;
    let micros = u32::try_from(time.tv_usec).ok().filter(|&micros| micros < 1_000_000).ok_or(INVALID)?;
    Ok(Duration::new(seconds, micros * 1000))
}
