//! The zero-copy family. Who owns a buffer after each outcome: the stack after success and after every error but two; the caller after `TM_EWOULDBLOCK`; nothing
//! is touched on `TM_EFAULT`.

use super::{
    datagrams::check_written_header,
    error::{Code, FAULT, INVALID, NO_BUFFERS, Outcome, WOULD_BLOCK, note, returned},
    face::{self, Face, Inside, Patience, wait_for, within},
    links::Places,
    messages::{Handle, Kind},
    numbers as n,
    sockets::SocketId,
    straight,
    types::{AddressArg, read_address, tfSockaddr, ttUserBuffer, ttUserMessage, write_address},
};
use crate::buf::{HEADROOM_BYTES, TxBuf};
use std::{
    ffi::{c_char, c_int},
    net::SocketAddrV4,
    ptr,
};

/// Flags of a zero-copy send that exist at all.
pub(super) const SEND_FLAGS: c_int = n::TM_MSG_DONTWAIT | n::TM_MSG_OOB | n::TM_MSG_DONTROUTE | n::TM_MSG_SCATTERED;
const RECV_FLAGS: c_int = n::TM_MSG_DONTWAIT | n::TM_MSG_PEEK | n::TM_MSG_SCATTERED;

/// Ethernet frames with a VLAN tag at the usual MTU, and two bytes in front so that the IP header is aligned.
const ETHERNET_BYTES: usize = 1518;
const ETHERNET_PAD: usize = 2;

/// Where the bytes of `buf` are, for the application to use until the handle is given back or sent.
fn data_of(buf: &mut TxBuf) -> *mut c_char {
    // Taken mutably: the application may write, and the stack must forget what it knew of the contents (the checksum).
    buf.as_mut_slice().as_mut_ptr().cast()
}

/// Gives the application a buffer.
fn hand_out(face: &Face, mut buf: TxBuf) -> Outcome<(ttUserMessage, *mut c_char)> {
    let data = data_of(&mut buf);
    let mut messages = face.messages.try_borrow_mut().map_err(|_| WOULD_BLOCK)?;
    let handle = messages.insert(Kind::Message, buf);
    Ok((ptr::without_provenance_mut(handle.to_addr()), data))
}

/// Gives the application a buffer in its pieces.
fn hand_out_scattered(face: &Face, mut buf: TxBuf) -> Outcome<(ttUserMessage, *mut c_char)> {
    let data = data_of(&mut buf);
    let mut messages = face.messages.try_borrow_mut().map_err(|_| WOULD_BLOCK)?;
    Ok((messages.insert_scattered(buf).ok_or(NO_BUFFERS)?, data))
}

fn alloc(face: &Face, size: c_int) -> Outcome<TxBuf> {
    let size = usize::try_from(size).ok().filter(|&size| size > 0).ok_or(INVALID)?;
    let pool = face.pool.try_borrow().map_err(|_| WOULD_BLOCK)?;
    let pool = pool.as_ref().ok_or(NO_BUFFERS)?;
    let mut buf = pool.alloc_contiguous(size).ok_or(NO_BUFFERS)?;
    buf.set_len(size).map_err(|_| NO_BUFFERS)?;
    Ok(buf)
}

/// `ttUserMessage tfGetZeroCopyBuffer(int size, char **dataPtrPtr)`: a buffer of `size` contiguous bytes; null for a size of 0 or less, one that is too large, when none is left,
/// or before the first interface is opened (the frames are the interface's).
///
/// # Safety
/// `data` is null or points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfGetZeroCopyBuffer(size: c_int, data: *mut *mut c_char) -> ttUserMessage {
    if data.is_null() {
        note(FAULT);
        return ptr::null_mut();
    }
    let face = face::enter();
    let mut got = alloc(&face, size);
    if got.is_err() && size > 0 && !face.is_nested() {
        // Sent frames may be done with.
        face.reclaim();
        got = alloc(&face, size);
    }
    match got.and_then(|buf| hand_out(&face, buf)) {
        Ok((handle, at)) => {
            // SAFETY: not null, and the caller's pointer variable.
            unsafe { data.write_unaligned(at) };
            handle
        }
        Err(code) => {
            note(code);
            ptr::null_mut()
        }
    }
}

/// `int tfFreeZeroCopyBuffer(ttUserMessage h)`: gives back a buffer that the caller owns. `TM_EFAULT` for a handle that is stale or none of ours; nothing is touched then.
#[unsafe(no_mangle)]
pub extern "C" fn tfFreeZeroCopyBuffer(h: ttUserMessage) -> c_int {
    free(Kind::Message, h.addr())
}

fn free(kind: Kind, addr: usize) -> c_int {
    let face = face::enter();
    let freed = face.messages.try_borrow_mut().map_err(|_| WOULD_BLOCK).and_then(|mut messages| {
        let taken = messages.take(kind, addr);
        // What is being sent is freed when that is done.
        let handle = taken.as_ref().map(|(handle, _)| *handle).or_else(|| messages.lent(kind, addr));
        messages.retire(handle.ok_or(FAULT)?);
        drop(taken);
        Ok(())
    });
    returned(freed)
}

/// `int tfZeroCopySend(int sd, ttUserMessage h, int length, int flags)`: `send` of a zero-copy buffer, all of `length` or nothing. Errors in the order of TRECK's table.
#[unsafe(no_mangle)]
pub extern "C" fn tfZeroCopySend(sd: c_int, h: ttUserMessage, length: c_int, flags: c_int) -> c_int {
    if face::is_inside() { send_nested(sd, h, length, flags) } else { send_from_outside(sd, h, length, flags) }
}

/// From a function of the application's that we called. Apart from the other, for the sake of what each need not do.
#[inline(never)]
fn send_nested(sd: c_int, h: ttUserMessage, length: c_int, flags: c_int) -> c_int {
    let sent = face::inside().and_then(|face| straight::send::<false>(&face, h.addr(), (sd, length, flags), None));
    sent.unwrap_or_else(|| {
        send_generally(face::enter(), h, Asked { sd, length, flags, flags_known: SEND_FLAGS }, Ok(None))
    })
}

#[inline(never)]
fn send_from_outside(sd: c_int, h: ttUserMessage, length: c_int, flags: c_int) -> c_int {
    match face::enter_outermost() {
        Some(face) => send::<true>(face, h, (sd, length, flags), SEND_FLAGS, Ok(None)),
        None => send_nested(sd, h, length, flags),
    }
}

/// `int tfZeroCopySendTo(int sd, ttUserMessage h, int length, int flags, const struct sockaddr *to, int toLength)`: the same with a destination; a null one means the connected peer.
/// A bad address is found after the length and the flags: `TM_EINVAL`, `TM_EAFNOSUPPORT` or `TM_EADDRNOTAVAIL` (port 0).
///
/// # Safety
/// `to` is null or points to `toLength` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfZeroCopySendTo(
    sd: c_int,
    h: ttUserMessage,
    length: c_int,
    flags: c_int,
    to: *const tfSockaddr,
    toLength: c_int,
) -> c_int {
    // SAFETY: the caller's promise is this call's.
    let to = unsafe { destination(to, toLength) };
    send::<false>(face::enter(), h, (sd, length, flags), SEND_FLAGS & !n::TM_MSG_OOB, to)
}

/// Reads a destination; null is none. Whether the socket can have it is for [`Face::checked_destination`] to say.
///
/// # Safety
/// `to` is null or points to `to_length` bytes.
pub(super) unsafe fn destination(to: *const tfSockaddr, to_length: c_int) -> Outcome<Option<SocketAddrV4>> {
    if to.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    match unsafe { read_address(to, to_length) }? {
        AddressArg::V4(to) => Ok(Some(to)),
        AddressArg::Unspecified => Err(Code(n::TM_EAFNOSUPPORT)),
    }
}

/// What a call asks to be sent, beside the buffer and the destination.
#[derive(Clone, Copy)]
struct Asked {
    sd: c_int,
    length: c_int,
    flags: c_int,
    flags_known: c_int,
}

#[inline(always)]
fn send<const FOR_STREAMS: bool>(
    face: Inside,
    h: ttUserMessage,
    (sd, length, flags): (c_int, c_int, c_int),
    flags_known: c_int,
    to: Outcome<Option<SocketAddrV4>>,
) -> c_int {
    if let Ok(to) = to
        && let Some(sent) = straight::send::<FOR_STREAMS>(&face, h.addr(), (sd, length, flags), to)
    {
        return sent;
    }
    send_generally(face, h, Asked { sd, length, flags, flags_known }, to)
}

/// What the pages say, in their order. Takes `face` by value: a caller from which it has never been borrowed keeps it in registers.
#[inline(never)]
fn send_generally(mut face: Inside, h: ttUserMessage, asked: Asked, to: Outcome<Option<SocketAddrV4>>) -> c_int {
    let taken = match face.messages.try_borrow_mut() {
        Ok(mut messages) => match messages.take(Kind::Message, h.addr()) {
            Some(taken) => Ok(taken),
            None if messages.lent(Kind::Message, h.addr()).is_some() => Err(WOULD_BLOCK),
            None => Err(FAULT),
        },
        Err(_) => Err(WOULD_BLOCK),
    };
    let (handle, buf) = match taken {
        Ok(taken) => taken,
        Err(code) => return face.failed(asked.sd, code),
    };
    let mut buf = Some(buf);
    let outcome = match Handle::from_addr(h.addr()) {
        Some(_) => send_plain(&mut face, &mut buf, asked, to),
        None => send_scattered(&mut face, handle, &mut buf, asked, to),
    };
    if let Ok(mut messages) = face.messages.try_borrow_mut() {
        match (outcome, buf) {
            (Err(WOULD_BLOCK), Some(buf)) => messages.put_back(handle, buf),
            // Ours by any other outcome; whatever is left of it is freed here.
            (_, left) => {
                drop(left);
                messages.retire(handle);
            }
        }
    }
    match outcome {
        Ok(()) => asked.length,
        Err(code) => face.failed(asked.sd, code),
    }
}

/// Sends the first bytes of a buffer in one piece. On would-block it is back as it was.
fn send_plain(
    face: &mut Inside,
    buf: &mut Option<TxBuf>,
    asked: Asked,
    to: Outcome<Option<SocketAddrV4>>,
) -> Outcome<()> {
    let full_len = buf.as_ref().map_or(0, TxBuf::len);
    let cut = |buf: &mut TxBuf, len: usize| {
        if len > buf.len() {
            return Err(INVALID);
        }
        buf.truncate(len);
        Ok(())
    };
    let outcome = send_cut(face, buf, asked, cut, to);
    if outcome == Err(WOULD_BLOCK)
        && let Some(buf) = buf
    {
        let _ = buf.set_len(full_len);
    }
    outcome
}

/// Sends the first bytes of a scattered message, as the application has trimmed it. On would-block it is back as it was.
fn send_scattered(
    face: &mut Inside,
    handle: Handle,
    buf: &mut Option<TxBuf>,
    asked: Asked,
    to: Outcome<Option<SocketAddrV4>>,
) -> Outcome<()> {
    let Some(whole) = buf.as_mut() else { return Err(FAULT) };
    // `None`: out of all bounds.
    let wanted = face.messages.try_borrow().ok().and_then(|messages| messages.trimmed(handle, whole));
    let whole: Places = whole.places().collect();
    let cut = |buf: &mut TxBuf, len: usize| {
        let sent = wanted.as_ref().and_then(|wanted| first_of(wanted, len)).ok_or(INVALID)?;
        if sent.len() > 1 && asked.flags & n::TM_MSG_SCATTERED == 0 {
            return Err(INVALID);
        }
        buf.set_places(&sent).map_err(|_| INVALID)
    };
    let outcome = send_cut(face, buf, asked, cut, to);
    if outcome == Err(WOULD_BLOCK)
        && let Some(buf) = buf
    {
        let _ = buf.set_places(&whole);
    }
    outcome
}

/// The first `len` bytes of `places`; `None` if there are not as many.
fn first_of(places: &Places, len: usize) -> Option<Places> {
    let mut left = len;
    let cut = places.iter().map(|&(start, bytes)| {
        let bytes = bytes.min(left);
        left -= bytes;
        (start, bytes)
    });
    let cut = cut.collect();
    (left == 0).then_some(cut)
}

/// Sends what `cut` leaves of `buf`.
fn send_cut(
    face: &mut Inside,
    buf: &mut Option<TxBuf>,
    Asked { sd, length, flags, flags_known }: Asked,
    cut: impl FnOnce(&mut TxBuf, usize) -> Outcome<()>,
    to: Outcome<Option<SocketAddrV4>>,
) -> Outcome<()> {
    let id = face.socket_id(sd)?;
    let len = usize::try_from(length).ok().filter(|&len| len > 0).ok_or(INVALID)?;
    if let Some(buf) = buf {
        cut(buf, len)?;
    }
    let Leave { stream, writes_header, to, patience } = may_send(face, id, flags, flags_known, to)?;
    if !stream {
        if writes_header && let Some(buf) = buf {
            check_written_header(buf)?;
        }
        return wait_for(face, patience, id, |face| face.send_buffer(id, buf, None, to, flags, patience));
    }
    let urgent = flags & n::TM_MSG_OOB != 0;
    wait_for(face, patience, id, |face| face.stream_send_buffer(id, buf, None, urgent, patience))?;
    face.after_send(patience);
    Ok(())
}

/// How a socket may send.
pub(super) struct Leave {
    pub(super) stream: bool,
    /// What is sent begins with an IPv4 header.
    writes_header: bool,
    /// `None`: to the connected peer.
    pub(super) to: Option<SocketAddrV4>,
    pub(super) patience: Patience,
}

/// What is looked at after the buffer and before the socket's state: flags and destination.
pub(super) fn may_send(
    face: &Inside,
    id: SocketId,
    flags: c_int,
    flags_known: c_int,
    to: Outcome<Option<SocketAddrV4>>,
) -> Outcome<Leave> {
    let nested = face.is_nested();
    let (stream, writes_header, patience) = face.with_socket(id, |socket| {
        let writes_header = socket.raw.is_some() && socket.options.header_included;
        // None where the call cannot wait anyhow, see `within`.
        let patience = if nested { Patience::None } else { socket.tx_patience(flags) };
        (socket.stream.is_some(), writes_header, patience)
    })?;
    let out_of_place = if stream { n::TM_MSG_SCATTERED } else { n::TM_MSG_OOB };
    if flags & !flags_known != 0 || flags & out_of_place != 0 {
        return Err(INVALID);
    }
    let to = to?.map(|to| face.checked_destination(id, to)).transpose()?;
    if stream {
        if to.is_some() {
            let connected = face.endpoints(id)?.1.is_some();
            return Err(Code(if connected { n::TM_EISCONN } else { n::TM_ENOTCONN }));
        }
        face.stream_may_route(id, flags)?;
    }
    Ok(Leave { stream, writes_header, to, patience })
}

/// `int tfZeroCopyRecv(int sd, ttUserMessage *hPtr, char **dataPtrPtr, int maxLength, int flags)`: hands out the frame that the oldest datagram came in; the caller frees it or
/// sends it on. Returns the datagram's length; what is beyond `maxLength` is lost. For an empty datagram, and after `shutdown(SHUT_RD)`, 0 with a null handle.
///
/// # Safety
/// The pointers are null or point to variables.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfZeroCopyRecv(
    sd: c_int,
    hPtr: *mut ttUserMessage,
    dataPtrPtr: *mut *mut c_char,
    maxLength: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's promise, and nulls where no address is wanted.
    unsafe { recv(sd, hPtr, dataPtrPtr, maxLength, flags, None) }
}

/// `int tfZeroCopyRecvFrom(..., struct sockaddr *from, int *fromLength)`: the same, and says who sent it; `from` may be null.
///
/// # Safety
/// The pointers are null or point to variables; `from` has room for `*fromLength` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfZeroCopyRecvFrom(
    sd: c_int,
    hPtr: *mut ttUserMessage,
    dataPtrPtr: *mut *mut c_char,
    maxLength: c_int,
    flags: c_int,
    from: *mut tfSockaddr,
    fromLength: *mut c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { recv(sd, hPtr, dataPtrPtr, maxLength, flags, (!from.is_null()).then_some((from, fromLength))) }
}

/// # Safety
/// As the two above.
unsafe fn recv(
    sd: c_int,
    handle: *mut ttUserMessage,
    data: *mut *mut c_char,
    bytes_max: c_int,
    flags: c_int,
    from: Option<(*mut tfSockaddr, *mut c_int)>,
) -> c_int {
    let mut face = face::enter();
    let scattered = flags & n::TM_MSG_SCATTERED != 0;
    let outcome = (|| {
        let id = face.socket_id(sd)?;
        if handle.is_null() || data.is_null() || from.is_some_and(|(_, length)| length.is_null()) {
            return Err(FAULT);
        }
        let bytes_max = usize::try_from(bytes_max).ok().filter(|&max| max > 0).ok_or(INVALID)?;
        let stream = face.is_stream(id)?;
        if flags & !RECV_FLAGS != 0 || (stream && scattered) {
            return Err(INVALID);
        }
        let peek = flags & n::TM_MSG_PEEK != 0;
        let patience = within(&face, face.with_socket(id, |socket| socket.rx_patience(flags))?);
        if stream {
            let got = wait_for(&mut face, patience, id, |face| face.stream_recv_buffer(id, bytes_max, peek))?;
            face.after_receive();
            return Ok(got.map(|buf| (buf, None)));
        }
        let received = |received: Option<(TxBuf, SocketAddrV4)>| received.map(|(buf, from)| (buf, Some(from)));
        wait_for(&mut face, patience, id, |face| face.recv_buffer(id, bytes_max, peek, scattered)).map(received)
    })();
    let outcome = outcome.and_then(|got| {
        let (mut h, mut at, mut length) = (ptr::null_mut(), ptr::null_mut(), 0);
        if let Some((buf, sender)) = got {
            if let Some((from, from_length)) = from {
                match sender {
                    // SAFETY: the caller's variables, checked for null above.
                    Some(sender) => unsafe { write_address(sender, from, from_length) }?,
                    // SAFETY: as above.
                    None => unsafe { from_length.write_unaligned(0) },
                }
            }
            length = buf.total_len() as c_int;
            if length > 0 {
                (h, at) = if scattered { hand_out_scattered(&face, buf) } else { hand_out(&face, buf) }?;
            }
        }
        // SAFETY: the caller's variables, checked for null above.
        unsafe {
            handle.write_unaligned(h);
            data.write_unaligned(at);
        }
        Ok(length)
    });
    match outcome {
        Ok(length) => length,
        Err(code) => face.failed(sd, code),
    }
}

/// `char *tfGetDriverBuffer(ttUserBuffer *h, int length, int alignment)`: a frame for a driver to receive `length` bytes into; its data begins at a multiple of `alignment`, a power of two up to 256.
/// Null if there is none. It goes up uncopied when the driver's `recv` returns it, or back with `tfFreeDriverBuffer`.
///
/// # Safety
/// `h` is null or points to a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfGetDriverBuffer(h: *mut ttUserBuffer, length: c_int, alignment: c_int) -> *mut c_char {
    let aligned = (1..=HEADROOM_BYTES as c_int).contains(&alignment) && alignment.count_ones() == 1;
    let size = usize::try_from(length).ok().filter(|&size| size > 0 && aligned);
    // Data begins at the head-room's end in a chunk, both of which are multiples of 256.
    // SAFETY: the caller's promise.
    unsafe { driver_buffer(h, size, 0) }
}

/// `char *tfGetEthernetBuffer(ttUserBuffer *h)`: the same for one Ethernet frame at an MTU of 1,500, placed so that its IP header is aligned.
///
/// # Safety
/// `h` is null or points to a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfGetEthernetBuffer(h: *mut ttUserBuffer) -> *mut c_char {
    // SAFETY: the caller's promise.
    unsafe { driver_buffer(h, Some(ETHERNET_BYTES), ETHERNET_PAD) }
}

/// # Safety
/// `h` is null or points to a variable.
unsafe fn driver_buffer(h: *mut ttUserBuffer, size: Option<usize>, pad: usize) -> *mut c_char {
    let outcome = (|| {
        if h.is_null() {
            return Err(FAULT);
        }
        let size = size.ok_or(INVALID)?;
        let face = face::enter();
        let pool = face.pool.try_borrow().map_err(|_| WOULD_BLOCK)?.clone().ok_or(NO_BUFFERS)?;
        // Receiving may use what senders must leave.
        let one_frame = size + pad <= pool.frame_payload_bytes();
        let buf = if one_frame { pool.alloc_control() } else { pool.alloc_contiguous(size.saturating_add(pad)) };
        let mut buf = buf.ok_or(NO_BUFFERS)?;
        buf.set_len(buf.capacity()).map_err(|_| NO_BUFFERS)?;
        buf.advance(pad);
        let data = data_of(&mut buf);
        let handle = face.messages.try_borrow_mut().map_err(|_| WOULD_BLOCK)?.insert(Kind::Driver, buf);
        // SAFETY: not null, and the caller's variable.
        unsafe { h.write_unaligned(ptr::without_provenance_mut(handle.to_addr())) };
        Ok(data)
    })();
    outcome.unwrap_or_else(|code| {
        note(code);
        ptr::null_mut()
    })
}

/// `int tfFreeDriverBuffer(ttUserBuffer h)`: gives back a driver's buffer that was not handed up. `TM_EFAULT` for a handle that is stale or none of ours. An addition of ours.
#[unsafe(no_mangle)]
pub extern "C" fn tfFreeDriverBuffer(h: ttUserBuffer) -> c_int {
    free(Kind::Driver, h.addr())
}
