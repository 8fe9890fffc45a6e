//! The BSD-shaped calls. Each returns -1 and stores its reason on the socket (`tfGetSocketError`).

use super::{
    error::{Code, FAULT, INVALID, Outcome, UNSUPPORTED, WOULD_BLOCK},
    face::{self, Face, Inside, Patience, wait_for, within},
    numbers as n,
    sockets::SocketId,
    stream::{IN_PROGRESS, Phase},
    types::{AddressArg, read_address, tfSockaddr, write_address},
};
use std::{
    ffi::{c_char, c_int, c_ulong, c_void},
    net::SocketAddrV4,
};

/// Longest backlog: each connection that waits costs memory.
const BACKLOG_MAX: c_int = 4096;

/// `int tfSocket(int family, int type, int protocol)`. Errors: `TM_EINVAL` before `tfStartTreck`, `TM_EAFNOSUPPORT`, `TM_EPROTONOSUPPORT` (a protocol that is not the type's; of a raw socket, one beyond 255),
/// `TM_ESOCKTNOSUPPORT`, `TM_EMFILE`, `TM_ENOBUFS` (256 raw sockets are open); there is no socket to store them on: see `tfGetLastError`.
#[unsafe(no_mangle)]
pub extern "C" fn tfSocket(family: c_int, r#type: c_int, protocol: c_int) -> c_int {
    let face = face::enter();
    let outcome = match (family, r#type, protocol) {
        _ if !face.is_started() => Err(INVALID),
        (family, _, _) if family != n::TM_AF_INET => Err(Code(n::TM_EAFNOSUPPORT)),
        (_, n::TM_SOCK_DGRAM, 0 | n::TM_IPPROTO_UDP) => face.open_socket(None),
        (_, n::TM_SOCK_STREAM, 0 | n::TM_IPPROTO_TCP) => face.open_socket(Some(Phase::Idle)),
        (_, n::TM_SOCK_RAW, protocol) => match u8::try_from(protocol) {
            Ok(protocol) => face.open_raw_socket(protocol),
            Err(_) => Err(Code(n::TM_EPROTONOSUPPORT)),
        },
        (_, n::TM_SOCK_DGRAM | n::TM_SOCK_STREAM, _) => Err(Code(n::TM_EPROTONOSUPPORT)),
        _ => Err(Code(n::TM_ESOCKTNOSUPPORT)),
    };
    outcome.unwrap_or_else(|code| face.failed(n::TM_SOCKET_ERROR, code))
}

/// Runs a call on a descriptor: 0, or -1 with the error stored.
pub(super) fn on_socket(sd: c_int, call: impl FnOnce(&mut Inside, SocketId) -> Outcome<c_int>) -> c_int {
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

/// `int tfListen(int sd, int backlog)`: at most `backlog` connections wait to be accepted or for the end of their handshake (1 to 4,096; beyond, SYN cookies answer). Not bound: at an unused port. Errors: `TM_EBADF`, `TM_EOPNOTSUPP` (a
/// datagram socket), `TM_EINVAL` (connected), `TM_EADDRINUSE`, `TM_EADDRNOTAVAIL`.
#[unsafe(no_mangle)]
pub extern "C" fn tfListen(sd: c_int, backlog: c_int) -> c_int {
    on_socket(sd, |face, id| face.listen(id, backlog.clamp(1, BACKLOG_MAX) as usize).map(|()| 0))
}

/// `int tfAccept(int sd, struct sockaddr *address, int *addressLength)`: the oldest connection that waits, as a descriptor of its own with the listener's options and blocking state; `address` may be null. Errors: `TM_EBADF`,
/// `TM_EOPNOTSUPP` (a datagram socket), `TM_EINVAL` (it does not listen), `TM_EFAULT`, `TM_EWOULDBLOCK` (also when `SO_RCVTIMEO` is over), `TM_EMFILE`.
///
/// # Safety
/// `address` is null or has room for `*addressLength` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfAccept(sd: c_int, address: *mut tfSockaddr, addressLength: *mut c_int) -> c_int {
    on_socket(sd, |face, id| {
        if !face.is_stream(id)? {
            return Err(UNSUPPORTED);
        }
        if !address.is_null() && addressLength.is_null() {
            return Err(FAULT);
        }
        let patience = within(face, face.with_socket(id, |socket| socket.rx_patience(0))?);
        let (new, remote) = wait_for(face, patience, id, |face| face.accept(id))?;
        if !address.is_null() {
            // SAFETY: the caller's promise, and not null.
            let _ = unsafe { write_address(remote, address, addressLength) };
        }
        Ok(new)
    })
}

/// `int tfConnect(int sd, const struct sockaddr *address, int addressLength)`. A stream: makes a connection, and waits for it if it blocks. Errors: `TM_EBADF`, `TM_EFAULT`, `TM_EINVAL`, `TM_EAFNOSUPPORT`, `TM_EOPNOTSUPP` (it listens), `TM_EALREADY` (it is being made),
/// `TM_EISCONN`, how the last one failed (once), `TM_EADDRNOTAVAIL` (port 0), `TM_EHOSTUNREACH`, `TM_EADDRINUSE`, `TM_ENOBUFS`; `TM_EINPROGRESS` if it may not wait, or `SO_SNDTIMEO` is over; `TM_ECONNREFUSED`, `TM_ETIMEDOUT`.
///
/// A datagram socket: from now on it sends to that peer and hears only it. `AF_UNSPEC`: to nobody again. Errors: `TM_EBADF`, `TM_EFAULT`, `TM_EINVAL`,
/// `TM_EAFNOSUPPORT`, `TM_EADDRNOTAVAIL` (port 0), `TM_EHOSTUNREACH`.
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
        if face.is_stream(id)? {
            return connect(face, id, remote.ok_or(Code(n::TM_EAFNOSUPPORT))?).map(|()| 0);
        }
        face.connect_socket(id, remote).map(|()| 0)
    })
}

fn connect(face: &mut Inside, id: SocketId, remote: SocketAddrV4) -> Outcome<()> {
    let begun = face.begin_connect(id, remote);
    if begun != Err(IN_PROGRESS) {
        return begun;
    }
    let patience = within(face, face.with_socket(id, |socket| socket.tx_patience(0))?);
    face.after_send(patience);
    if patience == Patience::None {
        return begun;
    }
    wait_for(face, patience, id, |face| face.connect_result(id)).map_err(|code| {
        // It goes on without us.
        if code == WOULD_BLOCK { IN_PROGRESS } else { code }
    })
}

/// `int tfShutdown(int sd, int how)`. Afterwards sends are refused with `TM_ESHUTDOWN` (`SHUT_WR`: a stream's peer reads the end after what was sent), receives return 0 (`SHUT_RD`: what comes is thrown away). Errors: `TM_EBADF`, `TM_EINVAL`,
/// `TM_ENOTCONN`; a reset or time-out that was not told yet.
#[unsafe(no_mangle)]
pub extern "C" fn tfShutdown(sd: c_int, how: c_int) -> c_int {
    on_socket(sd, |face, id| {
        let (rd, wr) = match how {
            n::TM_SHUT_RD => (true, false),
            n::TM_SHUT_WR => (false, true),
            n::TM_SHUT_RDWR => (true, true),
            _ => return Err(INVALID),
        };
        if face.is_stream(id)? {
            face.shutdown_stream(id, rd, wr)?;
            face.after_send(within(face, face.with_socket(id, |socket| socket.tx_patience(0))?));
        } else {
            face.endpoints(id)?.1.ok_or(Code(n::TM_ENOTCONN))?;
            face.with_socket(id, |socket| {
                socket.shut_rd |= rd;
                socket.shut_wr |= wr;
            })?;
        }
        face.ring(id);
        Ok(0)
    })
}

/// `int tfClose(int sd)`: closes it; what it had received is freed, and who waits in a call on it gets `TM_EBADF`. What was sent on a stream is still delivered: until then, or until that has failed, the descriptor stays taken, sends on it are `TM_ESHUTDOWN`, another
/// `tfClose` is `TM_EALREADY`, all else `TM_EBADF`; then `TM_CB_CLOSE_COMPLT` tells. `SO_LINGER` with zero seconds, and data that nobody has read, reset the connection. With more seconds a blocking socket waits for so long: `TM_ETIMEDOUT` if that is not enough; delivery goes on.
#[unsafe(no_mangle)]
pub extern "C" fn tfClose(sd: c_int) -> c_int {
    on_socket(sd, |face, id| {
        if !face.is_stream(id)? {
            face.close_datagram(id)?;
            return Ok(0);
        }
        let (patience, linger) = face.with_socket(id, |socket| (socket.tx_patience(0), socket.options.linger))?;
        let closed = face.close_stream(id)?;
        face.after_send(within(face, patience));
        face.ring(id);
        if let Some(time) = linger
            && !closed
            && within(face, patience) != Patience::None
        {
            let gone = |face: &Face| if face.is_closing(id) { Err(WOULD_BLOCK) } else { Ok(()) };
            wait_for(face, Patience::For(time), id, gone).map_err(|_| Code(n::TM_ETIMEDOUT))?;
        }
        Ok(0)
    })
}

/// `int tfResetConnection(int sd)`: resets the stream's connection; what was not delivered is lost, and so is what was not received. The descriptor stays, not connected: close it, or connect again. Errors: `TM_EBADF`, `TM_EOPNOTSUPP` (a datagram socket), `TM_ENOTCONN`.
#[unsafe(no_mangle)]
pub extern "C" fn tfResetConnection(sd: c_int) -> c_int {
    on_socket(sd, |face, id| {
        face.reset_stream(id)?;
        face.after_send(within(face, face.with_socket(id, |socket| socket.tx_patience(0))?));
        face.ring(id);
        Ok(0)
    })
}

/// `int tfGetSocketError(int sd)`: the reason of the socket's last failing call, or how its connection ended if that came later; `TM_EBADF` for a bad descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn tfGetSocketError(sd: c_int) -> c_int {
    let face = face::enter();
    let error = face.socket_id(sd).and_then(|id| face.with_socket(id, |socket| socket.last_error));
    error.unwrap_or_else(|code| code.0)
}

/// `int tfIoctl(int sd, unsigned long request, int *value)`: `FIONBIO` (non-blocking if `*value` is not 0), `FIONREAD` (bytes that wait), `SIOCATMARK` (streams only, else `TM_EOPNOTSUPP`: 1 if reading has come to the urgent mark). Others: `TM_EINVAL`.
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
            n::TM_SIOCATMARK => {
                let at_mark = face.bytes_to_mark(id)? == Some(0);
                // SAFETY: as above.
                unsafe { value.write_unaligned(at_mark.into()) };
            }
            _ => return Err(INVALID),
        }
        Ok(0)
    })
}

fn waiting_bytes(face: &Face, id: SocketId) -> Outcome<c_int> {
    if face.is_stream(id)? {
        return Ok(saturated(face.stream_bytes(id)?.0));
    }
    let Some(datagram) = face.with_socket(id, |socket| socket.datagram)? else { return Ok(0) };
    let bytes = face.with_stack(|stack| datagram.queued(stack).1)?;
    Ok(saturated(bytes as u64))
}

fn saturated(bytes: u64) -> c_int {
    c_int::try_from(bytes).unwrap_or(c_int::MAX)
}

/// `int tfGetWaitingBytes(int sd)`: bytes that wait to be received. `TM_EBADF`.
#[unsafe(no_mangle)]
pub extern "C" fn tfGetWaitingBytes(sd: c_int) -> c_int {
    on_socket(sd, |face, id| waiting_bytes(face, id))
}

/// `int tfGetSendCompltBytes(int sd)`: bytes sent on the stream's connection that the peer has acknowledged, at most `INT_MAX`. `TM_EBADF`, `TM_EOPNOTSUPP` (a datagram socket).
#[unsafe(no_mangle)]
pub extern "C" fn tfGetSendCompltBytes(sd: c_int) -> c_int {
    on_socket(sd, |face, id| face.stream_bytes(id).map(|(_, complete, _)| saturated(complete)))
}

/// `int tfGetSendBytesLeft(int sd)`: bytes sent on the stream's connection that the peer has not acknowledged yet. `TM_EBADF`, `TM_EOPNOTSUPP` (a datagram socket).
#[unsafe(no_mangle)]
pub extern "C" fn tfGetSendBytesLeft(sd: c_int) -> c_int {
    on_socket(sd, |face, id| face.stream_bytes(id).map(|(.., left)| saturated(left)))
}

/// `int tfGetOobDataOffset(int sd)`: bytes to read before the place of the urgent byte. `TM_EBADF`, `TM_EOPNOTSUPP` (a datagram socket), `TM_ENOTCONN`, `TM_EINVAL` (there is none ahead).
#[unsafe(no_mangle)]
pub extern "C" fn tfGetOobDataOffset(sd: c_int) -> c_int {
    on_socket(sd, |face, id| face.bytes_to_mark(id)?.map(|bytes| saturated(bytes as u64)).ok_or(INVALID))
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
