//! Sends out of memory of the application's, with a function that frees it.

use super::{
    error::{FAULT, INVALID, Outcome, UNSUPPORTED, WOULD_BLOCK},
    face::{self, wait_for},
    numbers as n,
    sockets::Later,
    transfer::{PARTS_MAX, Parts, copy_of, send_datagram, total_of},
    types::{tfSockaddr, ttUserBlock, ttUserBlockPtr, ttUserFreeFuncPtr},
    zero_copy::{Leave, SEND_FLAGS, destination, may_send},
};
use crate::stack::Stack;
use smallvec::SmallVec;
use std::{
    ffi::{c_char, c_int},
    net::SocketAddrV4,
};

/// `int tfZeroCopyUserBufferSend(int sd, char *userBuffer, char *userData, int length, ttUserFreeFuncPtr freeFn, int flags)`: sends `length` bytes at `userData`, all or nothing, with the errors of [`tfZeroCopySend`](super::zero_copy::tfZeroCopySend) (`TM_EFAULT`: `userData` is null). Bytes in a buffer that the
/// application holds go out as they lie; all others are copied into frames, and counted. `freeFn(userBuffer)` is called once: when the bytes are no longer needed, and on every error but `TM_EWOULDBLOCK`.
///
/// # Safety
/// `userData` is null or points to `length` bytes; `freeFn` may be called with `userBuffer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfZeroCopyUserBufferSend(
    sd: c_int,
    userBuffer: *mut c_char,
    userData: *mut c_char,
    length: c_int,
    freeFn: ttUserFreeFuncPtr,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { send_user(sd, userBuffer, userData, length, freeFn, flags, Ok(None), SEND_FLAGS) }
}

/// `int tfZeroCopyUserBufferSendTo(..., int flags, const struct sockaddr *to, int toLength)`: the same with the destination of [`tfZeroCopySendTo`](super::zero_copy::tfZeroCopySendTo).
///
/// # Safety
/// As above, and `to` is null or points to `toLength` bytes.
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments, reason = "the C face's signature")]
pub unsafe extern "C" fn tfZeroCopyUserBufferSendTo(
    sd: c_int,
    userBuffer: *mut c_char,
    userData: *mut c_char,
    length: c_int,
    freeFn: ttUserFreeFuncPtr,
    flags: c_int,
    to: *const tfSockaddr,
    toLength: c_int,
) -> c_int {
    let known = SEND_FLAGS & !n::TM_MSG_OOB;
    // SAFETY: the caller's promise.
    unsafe { send_user(sd, userBuffer, userData, length, freeFn, flags, destination(to, toLength), known) }
}

/// # Safety
/// As the two above.
#[allow(clippy::too_many_arguments, reason = "two calls of C with as many")]
unsafe fn send_user(
    sd: c_int,
    user_buffer: *mut c_char,
    user_data: *mut c_char,
    length: c_int,
    free_fn: ttUserFreeFuncPtr,
    flags: c_int,
    to: Outcome<Option<SocketAddrV4>>,
    flags_known: c_int,
) -> c_int {
    let mut face = face::enter();
    let outcome = (|| {
        if user_data.is_null() {
            return Err(FAULT);
        }
        let id = face.socket_id(sd)?;
        let len = usize::try_from(length).ok().filter(|&len| len > 0).ok_or(INVALID)?;
        let parts = Parts::from_slice(&[(user_data.cast(), len)]);
        let Leave { stream, to, patience, .. } = may_send(&face, id, flags, flags_known & !n::TM_MSG_SCATTERED, to)?;
        let urgent = flags & n::TM_MSG_OOB != 0;
        let shared = face.sends_shared(id)? && !urgent;
        let lease = if shared { face.lease(&parts, free_fn, std::iter::once(user_buffer))? } else { None };
        if stream {
            // SAFETY: not null, and `length` bytes by the caller's promise.
            let copy = |stack: &mut Stack| unsafe { copy_of(stack, &parts) };
            let (mut made, later) = (None, Some(Later { len, copy: &copy, lease: lease.as_ref() }));
            wait_for(&mut face, patience, id, |face| face.stream_send_buffer(id, &mut made, later, urgent, patience))?;
            lease.iter().for_each(|lease| lease.mark_sent());
            face.after_send(patience);
        } else {
            // SAFETY: as above.
            unsafe { send_datagram(&mut face, id, &parts, lease.as_ref(), to, flags, patience) }?;
            lease.iter().for_each(|lease| lease.mark_sent());
        }
        Ok(lease.is_some())
    })();
    let result = match outcome {
        Ok(_) => length,
        Err(code) => face.failed(sd, code),
    };
    // It may call the API, which must not look like a call from within a call.
    drop(face);
    if is_done_with(outcome)
        && let Some(free_fn) = free_fn
    {
        // SAFETY: the application's function, called once with what it was given for.
        unsafe { free_fn(user_buffer) };
    }
    result
}

/// The memory is free now: it was copied, or never will be. `Ok(true)`: it is sent as it lies, and given back later.
fn is_done_with(outcome: Outcome<bool>) -> bool {
    !matches!(outcome, Ok(true) | Err(WOULD_BLOCK))
}

/// `int tfSocketScatteredSendTo(int sd, ttUserBlockPtr blocks, int count, ttUserFreeFuncPtr freeFn, int flags, const struct sockaddr *to, int toLength)`: sends 1 to 1,024 blocks as one datagram; a null `to` means the connected peer. Returns the
/// datagram's length. Blocks that all lie in buffers that the application holds go out as they lie, others are copied into frames, and counted; the array may be used again on return. `freeFn(userBufferPtr)` is called once for each block, when it is no longer needed and on every error but `TM_EWOULDBLOCK`; it is not called, and
/// nothing is read, when there is no array (`TM_EFAULT`) or `count` is out of range (`TM_EINVAL`). Errors in the order of [`tfZeroCopySend`](super::zero_copy::tfZeroCopySend): `TM_EFAULT` also for a block of null with a length, `TM_EINVAL` for a negative length, no bytes at all,
/// more than `INT_MAX`, and flags other than `MSG_DONTWAIT` and `MSG_DONTROUTE`; `TM_EOPNOTSUPP` on a stream.
///
/// # Safety
/// `blocks` is null or points to `count` structures, each of which describes readable bytes; `freeFn` may be called with each `userBufferPtr`; `to` is null or points to `toLength` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfSocketScatteredSendTo(
    sd: c_int,
    blocks: ttUserBlockPtr,
    count: c_int,
    freeFn: ttUserFreeFuncPtr,
    flags: c_int,
    to: *const tfSockaddr,
    toLength: c_int,
) -> c_int {
    let mut face = face::enter();
    let count = match usize::try_from(count) {
        _ if blocks.is_null() => return face.failed(sd, FAULT),
        Ok(count) if (1..=PARTS_MAX).contains(&count) => count,
        _ => return face.failed(sd, INVALID),
    };
    // SAFETY: within the array by the caller's promise; no alignment is asked of it.
    let block = |at: usize| unsafe { blocks.add(at).read_unaligned() };
    // Read once: the function that frees may use the array again.
    let blocks: SmallVec<[ttUserBlock; 8]> = (0..count).map(block).collect();
    let mut sent_bytes = 0;
    let outcome = (|| {
        if blocks.iter().any(|block| block.userDataPtr.is_null() && block.userDataLength > 0) {
            return Err(FAULT);
        }
        let id = face.socket_id(sd)?;
        let parts = parts_of(&blocks)?;
        if face.is_stream(id)? {
            return Err(UNSUPPORTED);
        }
        // SAFETY: the caller's promise.
        let to = unsafe { destination(to, toLength) };
        let Leave { to, patience, .. } = may_send(&face, id, flags, n::TM_MSG_DONTWAIT | n::TM_MSG_DONTROUTE, to)?;
        let buffers = blocks.iter().map(|block| block.userBufferPtr);
        let lease = if face.sends_shared(id)? { face.lease(&parts, freeFn, buffers)? } else { None };
        // SAFETY: the caller's promise.
        unsafe { send_datagram(&mut face, id, &parts, lease.as_ref(), to, flags, patience) }?;
        lease.iter().for_each(|lease| lease.mark_sent());
        sent_bytes = total_of(&parts) as c_int;
        Ok(lease.is_some())
    })();
    let result = match outcome {
        Ok(_) => sent_bytes,
        Err(code) => face.failed(sd, code),
    };
    drop(face);
    if is_done_with(outcome)
        && let Some(free_fn) = freeFn
    {
        for block in &blocks {
            // SAFETY: the application's function, called once for each block with what it was given for.
            unsafe { free_fn(block.userBufferPtr) };
        }
    }
    result
}

fn parts_of(blocks: &[ttUserBlock]) -> Outcome<Parts> {
    let mut total = 0usize;
    let mut parts = Parts::new();
    for block in blocks {
        let len = usize::try_from(block.userDataLength).map_err(|_| INVALID)?;
        total += len;
        parts.push((block.userDataPtr.cast(), len));
    }
    if (1..=c_int::MAX as usize).contains(&total) { Ok(parts) } else { Err(INVALID) }
}
