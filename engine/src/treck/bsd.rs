//! The BSD-shaped calls. Each returns -1 and stores its reason on the socket (`tfGetSocketError`).

use super::{
    error::{Code, FAULT, INVALID, MESSAGE_SIZE, NO_BUFFERS, Outcome, UNSUPPORTED, WOULD_BLOCK},
    face::{self, Face, Inside, Patience, wait_for, within},
    numbers as n,
    sockets::{SocketId, no_network},
    types::{AddressArg, read_address, tfSockaddr, write_address},
    zero_copy::destination,
};
use crate::{buf::TxBuf, wire::udp::PAYLOAD_BYTES_MAX};
use std::{
    ffi::{c_char, c_int, c_ulong, c_void},
    net::SocketAddrV4,
};

/// `int tfSocket(int family, int type, int protocol)`. Errors: `TM_EINVAL` before `tfStartTreck`, `TM_EAFNOSUPPORT`, `TM_EPROTONOSUPPORT` (streams and raw sockets in this version; a protocol other than
/// UDP), `TM_ESOCKTNOSUPPORT`, `TM_EMFILE`; there is no socket to store them on: see `tfGetLastError`.
#[unsafe(no_mangle)]
pub extern "C" fn tfSocket(family: c_int, r#type: c_int, protocol: c_int) -> c_int {
    let face = face::enter();
    let outcome = match (family, r#type, protocol) {
        _ if !face.is_started() => Err(INVALID),
        (family, _, _) if family != n::TM_AF_INET => Err(Code(n::TM_EAFNOSUPPORT)),
        (_, n::TM_SOCK_DGRAM, 0 | n::TM_IPPROTO_UDP) => face.open_socket(),
        (_, n::TM_SOCK_DGRAM | n::TM_SOCK_STREAM | n::TM_SOCK_RAW, _) => Err(Code(n::TM_EPROTONOSUPPORT)),
        _ => Err(Code(n::TM_ESOCKTNOSUPPORT)),
    };
    outcome.unwrap_or_else(|code| face.failed(n::TM_SOCKET_ERROR, code))
}

/// Runs a call on a descriptor: 0, or -1 with the error stored.
fn on_socket(sd: c_int, call: impl FnOnce(&mut Inside, SocketId) -> Outcome<c_int>) -> c_int {
    let mut face = face::enter();
    let outcome = face.socket_id(sd).and_then(|id| call(&mut face, id));
    outcome.unwrap_or_else(|code| face.failed(sd, code))
}

/// `int tfBind(int sd, const struct sockaddr *address, int addressLength)`. Errors: `TM_EBADF`, `TM_EFAULT`, `TM_EINVAL` (bound already), `TM_EAFNOSUPPORT`, `TM_EADDRNOTAVAIL`,
/// `TM_EADDRINUSE`. Before the first interface is opened only `INADDR_ANY` can be bound.
///
/// # Safety
/// `address` is null or points to `addressLength` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfBind(sd: c_int, address: *const tfSockaddr, addressLength: c_int) -> c_int {
    on_socket(sd, |face, id| {
        // SAFETY: the caller's promise.
        match unsafe { read_address(address, addressLength) }? {
            AddressArg::V4(local) => face.bind_socket(id, local).map(|()| 0),
            AddressArg::Unspecified => Err(Code(n::TM_EAFNOSUPPORT)),
        }
    })
}

/// `int tfListen(int sd, int backlog)`: `TM_EOPNOTSUPP` on a datagram socket.
#[unsafe(no_mangle)]
pub extern "C" fn tfListen(sd: c_int, _backlog: c_int) -> c_int {
    on_socket(sd, |_, _| Err(UNSUPPORTED))
}

/// `int tfAccept(int sd, struct sockaddr *address, int *addressLength)`: `TM_EOPNOTSUPP` on a datagram socket.
///
/// # Safety
/// Nothing is read or written in this version.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfAccept(sd: c_int, _address: *mut tfSockaddr, _addressLength: *mut c_int) -> c_int {
    on_socket(sd, |_, _| Err(UNSUPPORTED))
}

/// `int tfConnect(int sd, const struct sockaddr *address, int addressLength)`: from now on the socket sends to that peer and hears only it. `AF_UNSPEC`: to nobody again. Errors: `TM_EBADF`, `TM_EFAULT`, `TM_EINVAL`,
/// `TM_EAFNOSUPPORT`, `TM_EADDRNOTAVAIL` (port 0), `TM_EHOSTUNREACH`, `TM_EADDRINUSE` (another socket has the same pair).
///
/// # Safety
/// `address` is null or points to `addressLength` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfConnect(sd: c_int, address: *const tfSockaddr, addressLength: c_int) -> c_int {
    on_socket(sd, |face, id| {
        // SAFETY: the caller's promise.
        let remote = match unsafe { read_address(address, addressLength) }? {
            AddressArg::V4(remote) => Some(remote),
            AddressArg::Unspecified => None,
        };
        face.connect_socket(id, remote).map(|()| 0)
    })
}

/// `int tfSend(int sd, const void *data, int length, int flags)`: copies (counted). On a datagram socket the order of errors is that of `tfZeroCopySend`, with `TM_EFAULT` for a null pointer.
///
/// # Safety
/// `data` is null or points to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfSend(sd: c_int, data: *const c_void, length: c_int, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { send(sd, data, length, flags, || Ok(None)) }
}

/// `int tfSendTo(int sd, const void *data, int length, int flags, const struct sockaddr *to, int toLength)`. A null `to` means the connected peer; on a connected socket an address is `TM_EISCONN`.
///
/// # Safety
/// `data` is null or points to `length` bytes, `to` is null or points to `toLength` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfSendTo(
    sd: c_int,
    data: *const c_void,
    length: c_int,
    flags: c_int,
    to: *const tfSockaddr,
    toLength: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { send(sd, data, length, flags, || destination(to, toLength)) }
}

/// `int tfWrite(int sd, const void *data, int length)`: `tfSend` without flags.
///
/// # Safety
/// As [`tfSend`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfWrite(sd: c_int, data: *const c_void, length: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { send(sd, data, length, 0, || Ok(None)) }
}

/// # Safety
/// `data` is null or points to `length` bytes.
unsafe fn send(
    sd: c_int,
    data: *const c_void,
    length: c_int,
    flags: c_int,
    to: impl FnOnce() -> Outcome<Option<SocketAddrV4>>,
) -> c_int {
    on_socket(sd, |face, id| {
        let len = usize::try_from(length).map_err(|_| INVALID)?;
        if data.is_null() && len > 0 {
            return Err(FAULT);
        }
        if flags & n::TM_MSG_OOB != 0 {
            return Err(UNSUPPORTED);
        }
        if flags & !(n::TM_MSG_DONTWAIT | n::TM_MSG_DONTROUTE) != 0 {
            return Err(INVALID);
        }
        let to = to()?;
        let bytes = if len == 0 || len > PAYLOAD_BYTES_MAX {
            &[]
        } else {
            // SAFETY: not null, and the caller says that `length` bytes are there; they do not change during the call.
            unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) }
        };
        let patience = within(face, face.with_socket(id, |socket| socket.tx_patience(flags))?);
        // Connected or not is found out before the length, as on the zero-copy calls.
        if to.is_none() && face.endpoints(id)?.1.is_none() {
            return Err(Code(n::TM_ENOTCONN));
        }
        if len > PAYLOAD_BYTES_MAX {
            return Err(MESSAGE_SIZE);
        }
        let mut buf = Some(copy_of(face, bytes)?);
        wait_for(face, patience, |face| face.send_buffer(id, &mut buf, to, flags, patience))?;
        Ok(length)
    })
}

/// A buffer with a copy of `bytes`.
fn copy_of(face: &Inside, bytes: &[u8]) -> Outcome<TxBuf> {
    let copy = || {
        face.with_stack(|stack| {
            let mut buf = stack.pool().alloc_contiguous(bytes.len()).ok_or(NO_BUFFERS)?;
            buf.put_slice(bytes).map_err(|_| NO_BUFFERS)?;
            stack.counters.bytes_copied_tx += bytes.len() as u64;
            Ok(buf)
        })
        .map_err(no_network)?
    };
    let copied = copy();
    if copied.is_err() && !face.is_nested() {
        // Sent frames may be done with.
        face.turn();
        return copy();
    }
    copied
}

/// `int tfRecv(int sd, void *data, int length, int flags)`: copies (counted) the oldest datagram; what does not fit is lost. 0 after `shutdown(SHUT_RD)`. Errors: `TM_EBADF`, `TM_EFAULT`, `TM_EINVAL`, `TM_EOPNOTSUPP` (`MSG_OOB`),
/// `TM_ECONNREFUSED` and `TM_EHOSTUNREACH` (once, connected sockets), `TM_EWOULDBLOCK`.
///
/// # Safety
/// `data` is null or has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfRecv(sd: c_int, data: *mut c_void, length: c_int, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { recv(sd, data, length, flags, None) }
}

/// `int tfRecvFrom(int sd, void *data, int length, int flags, struct sockaddr *from, int *fromLength)`: the same, and says who sent it; `from` may be null.
///
/// # Safety
/// `data` is null or has room for `length` bytes, `from` is null or has room for `*fromLength`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfRecvFrom(
    sd: c_int,
    data: *mut c_void,
    length: c_int,
    flags: c_int,
    from: *mut tfSockaddr,
    fromLength: *mut c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { recv(sd, data, length, flags, (!from.is_null()).then_some((from, fromLength))) }
}

/// `int tfRead(int sd, void *data, int length)`: `tfRecv` without flags.
///
/// # Safety
/// As [`tfRecv`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfRead(sd: c_int, data: *mut c_void, length: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { recv(sd, data, length, 0, None) }
}

/// # Safety
/// As [`tfRecvFrom`].
unsafe fn recv(
    sd: c_int,
    data: *mut c_void,
    length: c_int,
    flags: c_int,
    from: Option<(*mut tfSockaddr, *mut c_int)>,
) -> c_int {
    on_socket(sd, |face, id| {
        let len = usize::try_from(length).map_err(|_| INVALID)?;
        if (data.is_null() && len > 0) || from.is_some_and(|(_, length)| length.is_null()) {
            return Err(FAULT);
        }
        if flags & n::TM_MSG_OOB != 0 {
            return Err(UNSUPPORTED);
        }
        if flags & !(n::TM_MSG_DONTWAIT | n::TM_MSG_PEEK) != 0 {
            return Err(INVALID);
        }
        let patience = within(face, face.with_socket(id, |socket| socket.rx_patience(flags))?);
        let (bytes, sender) = wait_for(face, patience, |face| {
            let to = if len == 0 {
                &mut []
            } else {
                // A datagram is no longer than this: an application that says INT_MAX need not have it. `length` bytes are the caller's promise.
                // SAFETY: not null; nobody else uses them during the call; this slice ends before the attempt does.
                unsafe { std::slice::from_raw_parts_mut(data.cast::<u8>(), len.min(PAYLOAD_BYTES_MAX)) }
            };
            face.recv_copy(id, to, flags & n::TM_MSG_PEEK != 0)
        })?;
        if let (Some((from, from_length)), Some(sender)) = (from, sender) {
            // SAFETY: the caller's variables; the length is not null.
            unsafe { write_address(sender, from, from_length) }?;
        }
        Ok(bytes as c_int)
    })
}

/// `int tfShutdown(int sd, int how)`. A datagram socket must be connected (`TM_ENOTCONN`); afterwards sends are refused with `TM_ESHUTDOWN`, receives return 0.
#[unsafe(no_mangle)]
pub extern "C" fn tfShutdown(sd: c_int, how: c_int) -> c_int {
    on_socket(sd, |face, id| {
        let (rd, wr) = match how {
            n::TM_SHUT_RD => (true, false),
            n::TM_SHUT_WR => (false, true),
            n::TM_SHUT_RDWR => (true, true),
            _ => return Err(INVALID),
        };
        face.endpoints(id)?.1.ok_or(Code(n::TM_ENOTCONN))?;
        face.with_socket(id, |socket| {
            socket.shut_rd |= rd;
            socket.shut_wr |= wr;
        })?;
        face::BEDROOM.ring();
        Ok(0)
    })
}

/// `int tfClose(int sd)`: closes it; what it had received is freed, and who waits in a call on it gets `TM_EBADF`. A second close: `TM_EBADF`.
#[unsafe(no_mangle)]
pub extern "C" fn tfClose(sd: c_int) -> c_int {
    on_socket(sd, |face, id| {
        face.close_socket(id)?;
        face::BEDROOM.ring();
        Ok(0)
    })
}

/// `int tfGetSocketError(int sd)`: the reason of the socket's last failing call; `TM_EBADF` for a bad descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn tfGetSocketError(sd: c_int) -> c_int {
    let face = face::enter();
    let error = face.socket_id(sd).and_then(|id| face.with_socket(id, |socket| socket.last_error));
    error.unwrap_or_else(|code| code.0)
}

/// `int tfIoctl(int sd, unsigned long request, int *value)`: `FIONBIO` (non-blocking if `*value` is not 0), `FIONREAD` (bytes that wait). `SIOCATMARK` is for streams: `TM_EOPNOTSUPP`; others: `TM_EINVAL`.
///
/// # Safety
/// `value` is null or points to an int.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfIoctl(sd: c_int, request: c_ulong, value: *mut c_int) -> c_int {
    on_socket(sd, |face, id| {
        if value.is_null() {
            return Err(FAULT);
        }
        // The direction bit makes these numbers negative as ints; both spellings are meant.
        match request as c_int {
            n::TM_FIONBIO => {
                // SAFETY: not null, the caller's variable.
                let on = unsafe { value.read_unaligned() } != 0;
                face.with_socket(id, |socket| socket.non_blocking = on)?;
            }
            n::TM_FIONREAD => {
                let waiting = waiting_bytes(face, id)?;
                // SAFETY: as above.
                unsafe { value.write_unaligned(waiting) };
            }
            n::TM_SIOCATMARK => return Err(UNSUPPORTED),
            _ => return Err(INVALID),
        }
        Ok(0)
    })
}

fn waiting_bytes(face: &Face, id: SocketId) -> Outcome<c_int> {
    let Some(udp) = face.with_socket(id, |socket| socket.udp)? else { return Ok(0) };
    let bytes = face.with_stack(|stack| stack.udp_socket(udp).map_or(0, |socket| socket.queued().1))?;
    Ok(c_int::try_from(bytes).unwrap_or(c_int::MAX))
}

/// `int tfBlockingState(int sd, int state)`: `TM_BLOCKING_ON` or `TM_BLOCKING_OFF`; else `TM_EINVAL`.
#[unsafe(no_mangle)]
pub extern "C" fn tfBlockingState(sd: c_int, state: c_int) -> c_int {
    on_socket(sd, |face, id| {
        let non_blocking = match state {
            n::TM_BLOCKING_ON => false,
            n::TM_BLOCKING_OFF => true,
            _ => return Err(INVALID),
        };
        face.with_socket(id, |socket| socket.non_blocking = non_blocking)?;
        Ok(0)
    })
}

/// `int tfGetsockname(int sd, struct sockaddr *address, int *addressLength)`: where it is bound; port 0 if it is not.
///
/// # Safety
/// `address` is null or has room for `*addressLength` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfGetsockname(sd: c_int, address: *mut tfSockaddr, addressLength: *mut c_int) -> c_int {
    on_socket(sd, |face, id| {
        let (local, _) = face.endpoints(id)?;
        // SAFETY: the caller's promise.
        unsafe { write_address(local, address, addressLength) }.map(|()| 0)
    })
}

/// `int tfGetpeername(int sd, struct sockaddr *address, int *addressLength)`: `TM_ENOTCONN` if it has no peer.
///
/// # Safety
/// As [`tfGetsockname`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfGetpeername(sd: c_int, address: *mut tfSockaddr, addressLength: *mut c_int) -> c_int {
    on_socket(sd, |face, id| {
        let remote = face.endpoints(id)?.1.ok_or(Code(n::TM_ENOTCONN))?;
        // SAFETY: the caller's promise.
        unsafe { write_address(remote, address, addressLength) }.map(|()| 0)
    })
}

/// `int tfSelect(int nfds, fd_set *readSet, fd_set *writeSet, fd_set *exceptSet, struct timeval *timeout)`: waits until a descriptor in a set is ready, and leaves those that are.
/// Returns how many; 0 on time-out. A null timeout: for ever; one of zero only looks (after one turn). Errors, by `tfGetLastError`: `TM_EINVAL` (`nfds` or the time out of range), `TM_EBADF` (a set names no open socket),
/// `TM_EWOULDBLOCK` (manual clock, or called from a driver's function: nothing is ready, and waiting would never end).
///
/// # Safety
/// The sets are null or have `nfds` bits, rounded up to words of 32; `timeout` is null or points to a structure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfSelect(
    nfds: c_int,
    readSet: *mut super::types::tfFdSet,
    writeSet: *mut super::types::tfFdSet,
    exceptSet: *mut super::types::tfFdSet,
    timeout: *const libc::timeval,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { super::select::select(nfds, [readSet.cast(), writeSet.cast(), exceptSet.cast()], timeout) }
}

/// `int tfGetsockopt(int sd, int level, int option, void *value, int *valueLength)`; see `options` for what there is.
///
/// # Safety
/// `value` is null or has room for `*valueLength` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfGetsockopt(
    sd: c_int,
    level: c_int,
    option: c_int,
    value: *mut c_void,
    valueLength: *mut c_int,
) -> c_int {
    on_socket(sd, |face, id| {
        // SAFETY: the caller's promise.
        unsafe { super::options::get(face, id, level, option, value.cast::<c_char>(), valueLength) }.map(|()| 0)
    })
}

/// `int tfSetsockopt(int sd, int level, int option, const void *value, int valueLength)`; see `options` for what there is.
///
/// # Safety
/// `value` is null or points to `valueLength` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfSetsockopt(
    sd: c_int,
    level: c_int,
    option: c_int,
    value: *const c_void,
    valueLength: c_int,
) -> c_int {
    on_socket(sd, |face, id| {
        // SAFETY: the caller's promise.
        unsafe { super::options::set(face, id, level, option, value.cast::<c_char>(), valueLength) }.map(|()| 0)
    })
}

/// A would-block that is meant as "time is over".
pub(super) fn timed_out<T>(outcome: &Outcome<T>, patience: Patience) -> bool {
    matches!(outcome, Err(WOULD_BLOCK)) && patience != Patience::Endless
}
