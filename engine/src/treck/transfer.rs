//! The copying calls that send and receive.

use super::{
    bsd::on_socket,
    error::{Code, FAULT, INVALID, NO_BUFFERS, Outcome, UNSUPPORTED, WOULD_BLOCK},
    face::{Inside, Patience, wait_for, within},
    lent::Lease,
    numbers as n,
    sockets::{Later, SocketId},
    stream::{Incoming, Refusal},
    types::{tfSockaddr, write_address},
    zero_copy::destination,
};
use crate::{buf::TxBuf, stack::Stack, wire::ipv4::TOTAL_BYTES_MAX};
use smallvec::SmallVec;
use std::{
    ffi::{c_int, c_void},
    net::SocketAddrV4,
    rc::Rc,
};

/// Most parts of a `readv` or `writev`, as everywhere (`IOV_MAX`).
pub(super) const PARTS_MAX: usize = 1024;

/// Where the application's bytes are: (first, how many), none of them null with a length.
pub(super) type Parts = SmallVec<[(*mut u8, usize); 4]>;

/// One part.
fn one_part(data: *mut c_void, length: c_int) -> Outcome<Parts> {
    let len = usize::try_from(length).map_err(|_| INVALID)?;
    if data.is_null() && len > 0 {
        return Err(FAULT);
    }
    Ok(SmallVec::from_slice(&[(data.cast(), len)]))
}

/// # Safety
/// `vector` is null or points to `count` structures.
unsafe fn parts_of(vector: *const libc::iovec, count: c_int) -> Outcome<Parts> {
    let count = usize::try_from(count).ok().filter(|&count| count <= PARTS_MAX).ok_or(INVALID)?;
    if vector.is_null() && count > 0 {
        return Err(FAULT);
    }
    let mut total = 0usize;
    let mut parts = Parts::new();
    for at in 0..count {
        // SAFETY: within the array by the caller's promise; no alignment is asked of it.
        let libc::iovec { iov_base, iov_len } = unsafe { vector.add(at).read_unaligned() };
        if iov_base.is_null() && iov_len > 0 {
            return Err(FAULT);
        }
        total = total.checked_add(iov_len).filter(|&total| total <= c_int::MAX as usize).ok_or(INVALID)?;
        parts.push((iov_base.cast(), iov_len));
    }
    Ok(parts)
}

pub(super) fn total_of(parts: &Parts) -> usize {
    parts.iter().map(|(_, len)| len).sum()
}

/// `int tfSend(int sd, const void *data, int length, int flags)`: copies (counted). On a datagram socket the order of errors is that of `tfZeroCopySend`, with `TM_EFAULT` for a null pointer. On a stream: `TM_EBADF`, `TM_EFAULT`, `TM_EINVAL`, `TM_ESHUTDOWN`, `TM_ENOTCONN`
/// (a reset or time-out once as such), `TM_EWOULDBLOCK`, `TM_ENOBUFS`; what does not wait takes as much as there is room for and says how much that was. `MSG_OOB`: the last byte is urgent.
///
/// # Safety
/// `data` is null or points to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfSend(sd: c_int, data: *const c_void, length: c_int, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { send(sd, || one_part(data.cast_mut(), length), flags, || Ok(None)) }
}

/// `int tfSendTo(int sd, const void *data, int length, int flags, const struct sockaddr *to, int toLength)`. A null `to` means the connected peer; on a connected socket an address is `TM_EISCONN`, on a stream that is not `TM_ENOTCONN`.
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
    unsafe { send(sd, || one_part(data.cast_mut(), length), flags, || destination(to, toLength)) }
}

/// `int tfWrite(int sd, const void *data, int length)`: `tfSend` without flags.
///
/// # Safety
/// As [`tfSend`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfWrite(sd: c_int, data: *const c_void, length: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { send(sd, || one_part(data.cast_mut(), length), 0, || Ok(None)) }
}

/// `int tfWritev(int sd, const struct iovec *vector, int count)`: `tfSend` of up to 1,024 parts, of a datagram socket as one datagram. `TM_EINVAL` also for more parts, or more than `INT_MAX` bytes.
///
/// # Safety
/// `vector` is null or points to `count` structures, each of which describes readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfWritev(sd: c_int, vector: *const libc::iovec, count: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { send(sd, || parts_of(vector, count), 0, || Ok(None)) }
}

/// # Safety
/// The parts are the caller's, and readable.
unsafe fn send(
    sd: c_int,
    parts: impl FnOnce() -> Outcome<Parts>,
    flags: c_int,
    to: impl FnOnce() -> Outcome<Option<SocketAddrV4>>,
) -> c_int {
    on_socket(sd, |face, id| {
        let parts = parts()?;
        let stream = face.is_stream(id)?;
        if !stream && flags & n::TM_MSG_OOB != 0 {
            return Err(UNSUPPORTED);
        }
        if flags & !(n::TM_MSG_DONTWAIT | n::TM_MSG_DONTROUTE | n::TM_MSG_OOB) != 0 {
            return Err(INVALID);
        }
        let to = to()?.map(|to| face.checked_destination(id, to)).transpose()?;
        let patience = within(face, face.with_socket(id, |socket| socket.tx_patience(flags))?);
        let total = total_of(&parts);
        if stream {
            if to.is_some() {
                let connected = face.endpoints(id)?.1.is_some();
                return Err(Code(if connected { n::TM_EISCONN } else { n::TM_ENOTCONN }));
            }
            face.stream_may_route(id, flags)?;
            // SAFETY: the caller's promise; they do not change during the call.
            return unsafe { send_stream(face, id, &parts, flags, patience) }.map(|sent| sent as c_int);
        }
        // SAFETY: as above.
        unsafe { send_datagram(face, id, &parts, None, to, flags, patience) }?;
        Ok(total as c_int)
    })
}

/// Sends the parts as one datagram: as they lie, if there is a lease of them, else a copy.
///
/// # Safety
/// The parts are the caller's, and readable.
pub(super) unsafe fn send_datagram(
    face: &mut Inside,
    id: SocketId,
    parts: &Parts,
    lease: Option<&Rc<Lease>>,
    to: Option<SocketAddrV4>,
    flags: c_int,
    patience: Patience,
) -> Outcome<()> {
    // SAFETY: the caller's promise.
    let copy = |stack: &mut Stack| unsafe { copy_of(stack, parts) };
    let (mut made, later) = (None, Some(Later { len: total_of(parts), copy: &copy, lease }));
    wait_for(face, patience, id, |face| face.send_buffer(id, &mut made, later, to, flags, patience))
}

/// The bytes of a part from `skip` on.
///
/// # Safety
/// The part is readable, and stays as it is while the slice is used.
unsafe fn slice_of<'a>((first, len): (*mut u8, usize), skip: usize) -> &'a [u8] {
    if len <= skip {
        return &[];
    }
    // SAFETY: not null, and as many bytes are there by the caller's promise.
    unsafe { std::slice::from_raw_parts(first.add(skip).cast_const(), len - skip) }
}

/// Sends on a stream; returns how many bytes, fewer than all only if it may not wait any longer.
///
/// # Safety
/// The parts are readable, and do not change during the call.
unsafe fn send_stream(
    face: &mut Inside,
    id: SocketId,
    parts: &Parts,
    flags: c_int,
    patience: Patience,
) -> Outcome<usize> {
    let total = total_of(parts);
    let urgent = flags & n::TM_MSG_OOB != 0 && total > 0;
    let plain = total - usize::from(urgent);
    let mut done = 0;
    let outcome = wait_for(face, patience, id, |face| {
        loop {
            let (mut skip, mut bytes): (usize, &[u8]) = (done, &[]);
            for &part in parts {
                if skip < part.1 {
                    // SAFETY: the caller's promise.
                    bytes = unsafe { slice_of(part, skip) };
                    break;
                }
                skip -= part.1;
            }
            if urgent && done == plain {
                let byte = bytes.first().copied().unwrap_or(0);
                face.stream_send_urgent(id, byte).inspect(|()| done = total)?;
                return Ok(());
            }
            let bytes = &bytes[..bytes.len().min(plain - done)];
            match face.stream_send_copy(id, bytes) {
                Ok(_) if done == total => return Ok(()),
                Ok(0) if done > 0 && patience == Patience::None => return Ok(()),
                Ok(0) if face.stream_room(id)? > 0 && patience == Patience::None => return Err(NO_BUFFERS),
                Ok(0) => return Err(WOULD_BLOCK),
                Ok(sent) => done += sent,
                // What was taken is told; the next call tells why there is no more.
                Err(_) if done > 0 => return Ok(()),
                Err(refusal) => return Err(face.tell_refusal(id, refusal)),
            }
            if done == total {
                return Ok(());
            }
        }
    });
    if done > 0 || outcome.is_ok() {
        face.after_send(patience);
        return Ok(done);
    }
    outcome.map(|()| 0)
}

/// A buffer with a copy of the parts, counted.
///
/// # Safety
/// They are readable.
pub(super) unsafe fn copy_of(stack: &mut Stack, parts: &Parts) -> Outcome<TxBuf> {
    let total = total_of(parts);
    let mut buf = stack.pool().alloc_contiguous(total).ok_or(NO_BUFFERS)?;
    for &part in parts {
        // SAFETY: the caller's promise.
        buf.put_slice(unsafe { slice_of(part, 0) }).map_err(|_| NO_BUFFERS)?;
    }
    stack.counters.bytes_copied_tx += total as u64;
    Ok(buf)
}

/// `int tfRecv(int sd, void *data, int length, int flags)`: copies (counted). A datagram socket: the oldest datagram; what does not fit is lost. A stream: what has come, up to the urgent mark; `MSG_WAITALL` waits for all of `length`; `MSG_OOB` is the urgent byte. 0 at the
/// end of a stream and after `shutdown(SHUT_RD)`. Errors: `TM_EBADF`, `TM_EFAULT`, `TM_EINVAL` (`MSG_OOB`: there is none, it was read, or it stays in line), `TM_EOPNOTSUPP` (`MSG_OOB` on a datagram socket), `TM_ENOTCONN` (a reset or
/// time-out once as such), `TM_ECONNREFUSED` and `TM_EHOSTUNREACH` (once, connected datagram sockets), `TM_EWOULDBLOCK`.
///
/// # Safety
/// `data` is null or has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfRecv(sd: c_int, data: *mut c_void, length: c_int, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { recv(sd, || one_part(data, length), flags, None) }
}

/// `int tfRecvFrom(int sd, void *data, int length, int flags, struct sockaddr *from, int *fromLength)`: the same, and says who sent it; `from` may be null. On a stream `*fromLength` becomes 0: there is one peer.
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
    unsafe { recv(sd, || one_part(data, length), flags, (!from.is_null()).then_some((from, fromLength))) }
}

/// `int tfRead(int sd, void *data, int length)`: `tfRecv` without flags.
///
/// # Safety
/// As [`tfRecv`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfRead(sd: c_int, data: *mut c_void, length: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { recv(sd, || one_part(data, length), 0, None) }
}

/// `int tfReadv(int sd, const struct iovec *vector, int count)`: `tfRecv` into up to 1,024 parts, one after the other. `TM_EINVAL` also for more parts, or more than `INT_MAX` bytes.
///
/// # Safety
/// `vector` is null or points to `count` structures, each of which describes writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfReadv(sd: c_int, vector: *const libc::iovec, count: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { recv(sd, || parts_of(vector, count), 0, None) }
}

/// # Safety
/// The parts are the caller's, and writable; `from` as [`tfRecvFrom`] says.
unsafe fn recv(
    sd: c_int,
    parts: impl FnOnce() -> Outcome<Parts>,
    flags: c_int,
    from: Option<(*mut tfSockaddr, *mut c_int)>,
) -> c_int {
    on_socket(sd, |face, id| {
        let parts = parts()?;
        if from.is_some_and(|(_, length)| length.is_null()) {
            return Err(FAULT);
        }
        let stream = face.is_stream(id)?;
        if !stream && flags & n::TM_MSG_OOB != 0 {
            return Err(UNSUPPORTED);
        }
        if flags & !(n::TM_MSG_DONTWAIT | n::TM_MSG_PEEK | n::TM_MSG_OOB | n::TM_MSG_WAITALL) != 0
            || (!stream && flags & n::TM_MSG_WAITALL != 0)
        {
            return Err(INVALID);
        }
        let peek = flags & n::TM_MSG_PEEK != 0;
        let patience = within(face, face.with_socket(id, |socket| socket.rx_patience(flags))?);
        if stream {
            if let Some((_, from_length)) = from {
                // SAFETY: the caller's variable, not null.
                unsafe { from_length.write_unaligned(0) };
            }
            if flags & n::TM_MSG_OOB != 0 {
                // SAFETY: the caller's promise.
                return unsafe { recv_urgent(face, id, &parts, peek) };
            }
            let all = flags & n::TM_MSG_WAITALL != 0 && !peek;
            // SAFETY: the caller's promise.
            return unsafe { recv_stream(face, id, &parts, peek, all, patience) }.map(|bytes| bytes as c_int);
        }
        let (bytes, sender) = wait_for(face, patience, id, |face| {
            // A datagram is no longer than this: an application that says INT_MAX need not have it. As many bytes as are told are the caller's promise.
            // SAFETY: nobody else uses them during the call; these slices end before the attempt does.
            let to = parts.iter().map(|&part| unsafe { slice_mut_of(part, 0, TOTAL_BYTES_MAX) });
            face.recv_copy(id, &mut to.collect::<SmallVec<[&mut [u8]; 4]>>(), peek)
        })?;
        if let (Some((from, from_length)), Some(sender)) = (from, sender) {
            // SAFETY: the caller's variables; the length is not null.
            unsafe { write_address(sender, from, from_length) }?;
        }
        Ok(bytes as c_int)
    })
}

/// The room of a part from `skip` on, at most `bytes_max`.
///
/// # Safety
/// The part is writable, and nobody else uses it while the slice lives.
unsafe fn slice_mut_of<'a>((first, len): (*mut u8, usize), skip: usize, bytes_max: usize) -> &'a mut [u8] {
    if len <= skip {
        return &mut [];
    }
    // SAFETY: not null, and as many bytes are there by the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(first.add(skip), (len - skip).min(bytes_max)) }
}

/// Receives from a stream; `all` waits until the parts are full.
///
/// # Safety
/// The parts are writable, and nobody else uses them during the call.
unsafe fn recv_stream(
    face: &mut Inside,
    id: SocketId,
    parts: &Parts,
    peek: bool,
    all: bool,
    patience: Patience,
) -> Outcome<usize> {
    let total = total_of(parts);
    let mut done = 0usize;
    let outcome = wait_for(face, patience, id, |face| {
        let handle = match face.incoming(id)? {
            Incoming::Data(handle) => handle,
            Incoming::Finished => return Ok(()),
            Incoming::Nothing if total == 0 => return Ok(()),
            Incoming::Nothing => return Err(WOULD_BLOCK),
            // What was copied is told; the next call tells why there is no more.
            Incoming::Refused(Refusal::Plain(_) | Refusal::Ended(_)) if done > 0 => return Ok(()),
            Incoming::Refused(refusal) => return Err(face.tell_refusal(id, refusal)),
        };
        let mut before = 0;
        for &part in parts {
            let skip = done.saturating_sub(before).min(part.1);
            before += part.1;
            // SAFETY: the caller's promise; the slice ends before the attempt does.
            let to = unsafe { slice_mut_of(part, skip, usize::MAX) };
            if to.is_empty() {
                continue;
            }
            let copied = if peek { face.stream_peek(handle, done, to)? } else { face.stream_recv_copy(handle, to)? };
            done += copied;
            if copied < to.len() {
                break;
            }
            // The mark ends a receive: the reader must be able to notice it.
            if !peek && face.bytes_to_mark(id)? == Some(0) {
                return Ok(());
            }
        }
        let at_mark = !peek && face.bytes_to_mark(id)? == Some(0);
        if all && done < total && !at_mark { Err(WOULD_BLOCK) } else { Ok(()) }
    });
    if done > 0 && !peek {
        face.after_receive();
    }
    if done > 0 { Ok(done) } else { outcome.map(|()| 0) }
}

/// # Safety
/// The parts are writable.
unsafe fn recv_urgent(face: &Inside, id: SocketId, parts: &Parts, peek: bool) -> Outcome<c_int> {
    let Some(&part) = parts.iter().find(|(_, len)| *len > 0) else { return Err(INVALID) };
    let byte = face.recv_urgent(id, peek)?;
    // SAFETY: the caller's promise; the part has room for a byte.
    if let Some(first) = unsafe { slice_mut_of(part, 0, 1) }.first_mut() {
        *first = byte;
    }
    Ok(1)
}
