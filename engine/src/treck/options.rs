//! Socket options.
//!
//! | level | option | value |
//! |---|---|---|
//! | `SOL_SOCKET` | `SO_BROADCAST SO_DONTROUTE SO_REUSEADDR SO_KEEPALIVE SO_OOBINLINE` | int, 0 or not |
//! | | `SO_SNDBUF SO_RCVBUF TM_SO_RCV_DGRAMS SO_SNDLOWAT SO_RCVLOWAT` | int > 0 |
//! | | `SO_SNDTIMEO SO_RCVTIMEO` | `struct timeval` |
//! | | `SO_LINGER` | `struct linger`, seconds |
//! | | `SO_ERROR SO_TYPE SO_ACCEPTCONN` | int, to get only |
//! | `IPPROTO_IP` | `IP_TTL` (1 to 255), `IP_TOS` (0 to 255) | int |
//! | | `IP_HDRINCL` (raw sockets) | int, 0 or not |
//! | `IPPROTO_TCP` (streams) | `TCP_NODELAY TCP_STDURG` | int, 0 or not |
//! | | `TCP_MAXSEG` (64 to 65,495; to get: what is used), `TCP_MAXRT` (s), `TCP_KEEPALIVE`, `TM_TCP_KEEPALIVE_INTV` (s), `TM_TCP_KEEPALIVE_CNT`, `TM_TCP_FINWT2TIME` (s), `TM_TCP_DELAY_ACK` (0 to 499 ms) | int |
//! | | `TM_TCP_RTO_DEF TM_TCP_RTO_MIN TM_TCP_RTO_MAX TM_TCP_PROBE_MIN TM_TCP_PROBE_MAX` (1 to 3,600,000 ms), `TM_TCP_MAX_REXMIT` (0 to 255; 0: no limit), `TM_TCP_PUSH_ALL` (0 or not) | int |
//! | `SOL_SOCKET`, `IPPROTO_TCP` | those of [`FIXED`] | int: the one value, another is `TM_EOPNOTSUPP` |
//! | `SOL_SOCKET` | those of [`HINTS`] | int: kept, see there |
//!
//! Multicast options and `TM_SO_SND_DGRAMS`: `TM_EOPNOTSUPP` in this version. All others, those of `IPPROTO_TCP` on datagram sockets, and `IP_HDRINCL` on sockets that are not raw: `TM_ENOPROTOOPT`. Null pointers: `TM_EFAULT`; a length or value out of range: `TM_EINVAL`.

use super::{
    datagrams::DatagramHandle,
    error::{Code, FAULT, INVALID, Outcome, UNSUPPORTED},
    face::Face,
    numbers as n,
    settings::{FIXED, HINTS, Options},
    sockets::{SocketId, pending_code},
    stream::Phase,
};
use crate::{socket::RxLimits, time::Duration};
use std::ffi::{c_char, c_int};

const NO_OPTION: Code = Code(n::TM_ENOPROTOOPT);

/// "For ever", where the engine wants a time.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
/// RFC 9293 section 3.8.6.3: an acknowledgment waits less than half a second.
const DELAYED_ACK_MS_MAX: c_int = 499;
/// Segments of fewer bytes are more header than data; of more, longer than IP carries.
const MSS_RANGE: std::ops::RangeInclusive<c_int> = 64..=65_495;

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
    } else if level == n::TM_SOL_SOCKET && option == n::TM_SO_LINGER {
        if length < size_of::<libc::linger>() as c_int {
            return Err(INVALID);
        }
        // SAFETY: as many bytes are there by the caller's promise.
        let linger = unsafe { value.cast::<libc::linger>().read_unaligned() };
        let seconds = u64::try_from(linger.l_linger).map_err(|_| INVALID)?;
        options.linger = (linger.l_onoff != 0).then(|| Duration::from_secs(seconds));
    } else {
        if length < size_of::<c_int>() as c_int {
            return Err(INVALID);
        }
        let of_stream = level == n::TM_IPPROTO_TCP;
        let of_raw = (level, option) == (n::TM_IPPROTO_IP, n::TM_IP_HDRINCL);
        if of_stream && !face.is_stream(id)? || of_raw && face.with_socket(id, |socket| socket.raw.is_none())? {
            return Err(NO_OPTION);
        }
        // SAFETY: as many bytes are there by the caller's promise.
        set_int(&mut options, level, option, unsafe { value.cast::<c_int>().read_unaligned() })?;
    }
    face.with_socket(id, |socket| socket.options = options)?;
    let applied = face.apply_options(id);
    // There may be room now, or enough to receive.
    face.ring(id);
    applied
}

fn set_int(options: &mut Options, level: c_int, option: c_int, value: c_int) -> Outcome<()> {
    let size = || usize::try_from(value).ok().filter(|&size| size > 0).ok_or(INVALID);
    match (level, option) {
        (n::TM_SOL_SOCKET, n::TM_SO_BROADCAST) => options.broadcast = value != 0,
        (n::TM_SOL_SOCKET, n::TM_SO_DONTROUTE) => options.dont_route = value != 0,
        (n::TM_SOL_SOCKET, n::TM_SO_REUSEADDR) => options.reuse_address = value != 0,
        (n::TM_SOL_SOCKET, n::TM_SO_KEEPALIVE) => options.keepalive_on = value != 0,
        (n::TM_SOL_SOCKET, n::TM_SO_OOBINLINE) => options.urgent_inline = value != 0,
        (n::TM_SOL_SOCKET, n::TM_SO_RCVLOWAT) => options.rx_low_water_bytes = size()?,
        (n::TM_SOL_SOCKET, n::TM_SO_SNDLOWAT) => options.tx_low_water_bytes = size()?,
        (n::TM_SOL_SOCKET, n::TM_SO_SNDBUF) => options.tx_bytes_max = size()?,
        (n::TM_SOL_SOCKET, n::TM_SO_RCVBUF) => {
            options.rx_limits = RxLimits { bytes: size()?, ..options.rx_limits };
            options.rx_bytes_fixed = true;
        }
        (n::TM_SOL_SOCKET, n::TM_SO_RCV_DGRAMS) => {
            options.rx_limits = RxLimits { frames: size()?, ..options.rx_limits }
        }
        (n::TM_SOL_SOCKET, n::TM_SO_ERROR | n::TM_SO_TYPE | n::TM_SO_ACCEPTCONN) => return Err(INVALID),
        (n::TM_IPPROTO_IP, n::TM_IP_TTL) => {
            options.ttl = u8::try_from(value).ok().filter(|&ttl| ttl > 0).ok_or(INVALID)?;
        }
        (n::TM_IPPROTO_IP, n::TM_IP_TOS) => options.tos = u8::try_from(value).map_err(|_| INVALID)?,
        (n::TM_IPPROTO_IP, n::TM_IP_HDRINCL) => options.header_included = value != 0,
        (n::TM_IPPROTO_TCP, n::TM_TCP_NODELAY) => options.nodelay = value != 0,
        (n::TM_IPPROTO_TCP, n::TM_TCP_STDURG) => options.standard_urgent_pointer = value != 0,
        (n::TM_IPPROTO_TCP, n::TM_TCP_MAXSEG) => {
            options.mss_max = u16::try_from(value).ok().filter(|_| MSS_RANGE.contains(&value)).ok_or(INVALID)?;
        }
        (n::TM_IPPROTO_TCP, n::TM_TCP_MAXRT) => {
            options.user_timeout = match value {
                0 => Options::stream().user_timeout,
                -1 => FOR_EVER,
                _ => seconds(value)?,
            }
        }
        (n::TM_IPPROTO_TCP, n::TM_TCP_KEEPALIVE) => options.keepalive.idle = seconds(value)?,
        (n::TM_IPPROTO_TCP, n::TM_TCP_KEEPALIVE_INTV) => options.keepalive.interval = seconds(value)?,
        (n::TM_IPPROTO_TCP, n::TM_TCP_KEEPALIVE_CNT) => {
            options.keepalive.probes = u8::try_from(value).ok().filter(|&count| count > 0).ok_or(INVALID)?;
        }
        (n::TM_IPPROTO_TCP, n::TM_TCP_FINWT2TIME) => options.fin_wait2 = seconds(value)?,
        (n::TM_IPPROTO_TCP, n::TM_TCP_DELAY_ACK) => {
            let ms = u64::try_from(value).ok().filter(|_| value <= DELAYED_ACK_MS_MAX).ok_or(INVALID)?;
            options.delayed_ack = Duration::from_millis(ms);
        }
        (n::TM_IPPROTO_TCP, n::TM_TCP_RTO_DEF) => options.rto.initial = milliseconds(value)?,
        (n::TM_IPPROTO_TCP, n::TM_TCP_RTO_MIN) => options.rto.min = milliseconds(value)?,
        (n::TM_IPPROTO_TCP, n::TM_TCP_RTO_MAX) => options.rto.max = milliseconds(value)?,
        (n::TM_IPPROTO_TCP, n::TM_TCP_PROBE_MIN) => options.probe_min = milliseconds(value)?,
        (n::TM_IPPROTO_TCP, n::TM_TCP_PROBE_MAX) => options.probe_max = milliseconds(value)?,
        (n::TM_IPPROTO_TCP, n::TM_TCP_MAX_REXMIT) => {
            options.retransmissions_max = u8::try_from(value).map_err(|_| INVALID)?;
        }
        (n::TM_IPPROTO_TCP, n::TM_TCP_PUSH_ALL) => options.push_all = value != 0,
        _ if fixed(level, option).is_some() => {
            if fixed(level, option) != Some(value) {
                return Err(UNSUPPORTED);
            }
        }
        _ => {
            let at = hint(level, option).ok_or(unknown(level, option))?;
            let (.., least, most) = HINTS[at];
            if !(least..=most).contains(&value) {
                return Err(INVALID);
            }
            options.hints[at] = value;
        }
    }
    Ok(())
}

fn seconds(value: c_int) -> Outcome<Duration> {
    u64::try_from(value).ok().filter(|&seconds| seconds > 0).map(Duration::from_secs).ok_or(INVALID)
}

/// Up to an hour.
fn milliseconds(value: c_int) -> Outcome<Duration> {
    let ms = u64::try_from(value).ok().filter(|ms| (1..=3_600_000).contains(ms));
    ms.map(Duration::from_millis).ok_or(INVALID)
}

fn fixed(level: c_int, option: c_int) -> Option<c_int> {
    FIXED.iter().find(|&&(of_level, of_option, _)| (of_level, of_option) == (level, option)).map(|&(.., value)| value)
}

fn hint(level: c_int, option: c_int) -> Option<usize> {
    HINTS.iter().position(|&(of_level, of_option, ..)| (of_level, of_option) == (level, option))
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
    let timeval = |time: Duration| libc::timeval {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_usec: time.subsec_micros().into(),
    };
    let size = match (level, option) {
        (n::TM_SOL_SOCKET, n::TM_SO_SNDTIMEO | n::TM_SO_RCVTIMEO) => size_of::<libc::timeval>(),
        (n::TM_SOL_SOCKET, n::TM_SO_LINGER) => size_of::<libc::linger>(),
        _ => size_of::<c_int>(),
    } as c_int;
    if room < size {
        return Err(INVALID);
    }
    match (level, option) {
        // SAFETY: there is room for it.
        (n::TM_SOL_SOCKET, n::TM_SO_SNDTIMEO) => unsafe {
            value.cast::<libc::timeval>().write_unaligned(timeval(options.tx_timeout));
        },
        // SAFETY: there is room for it.
        (n::TM_SOL_SOCKET, n::TM_SO_RCVTIMEO) => unsafe {
            value.cast::<libc::timeval>().write_unaligned(timeval(options.rx_timeout));
        },
        (n::TM_SOL_SOCKET, n::TM_SO_LINGER) => {
            let seconds = options.linger.unwrap_or_default().as_secs();
            let linger = libc::linger {
                l_onoff: options.linger.is_some().into(),
                l_linger: c_int::try_from(seconds).unwrap_or(c_int::MAX),
            };
            // SAFETY: there is room for it.
            unsafe { value.cast::<libc::linger>().write_unaligned(linger) };
        }
        _ => {
            let number = get_int(face, id, &options, level, option)?;
            // SAFETY: there is room for it.
            unsafe { value.cast::<c_int>().write_unaligned(number) };
        }
    }
    // SAFETY: not null, the caller's variable.
    unsafe { length.write_unaligned(size) };
    Ok(())
}

fn get_int(face: &Face, id: SocketId, options: &Options, level: c_int, option: c_int) -> Outcome<c_int> {
    let size = |size: usize| c_int::try_from(size).unwrap_or(c_int::MAX);
    let seconds = |time: Duration| c_int::try_from(time.as_secs()).unwrap_or(c_int::MAX);
    let ms = |time: Duration| c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX);
    let (stream, raw) = (face.is_stream(id)?, face.with_socket(id, |socket| socket.raw.is_some())?);
    if level == n::TM_IPPROTO_TCP && !stream {
        return Err(NO_OPTION);
    }
    Ok(match (level, option) {
        (n::TM_SOL_SOCKET, n::TM_SO_BROADCAST) => options.broadcast.into(),
        (n::TM_SOL_SOCKET, n::TM_SO_DONTROUTE) => options.dont_route.into(),
        (n::TM_SOL_SOCKET, n::TM_SO_REUSEADDR) => options.reuse_address.into(),
        (n::TM_SOL_SOCKET, n::TM_SO_KEEPALIVE) => options.keepalive_on.into(),
        (n::TM_SOL_SOCKET, n::TM_SO_OOBINLINE) => options.urgent_inline.into(),
        (n::TM_SOL_SOCKET, n::TM_SO_RCVLOWAT) => size(options.rx_low_water_bytes),
        (n::TM_SOL_SOCKET, n::TM_SO_SNDLOWAT) => size(options.tx_low_water_bytes),
        (n::TM_SOL_SOCKET, n::TM_SO_ACCEPTCONN) => {
            let phase = face.with_socket(id, |socket| socket.stream.as_deref().map(|stream| stream.phase))?;
            matches!(phase, Some(Phase::Listening(_) | Phase::Promised(_))).into()
        }
        (n::TM_SOL_SOCKET, n::TM_SO_SNDBUF) => size(options.tx_bytes_max),
        (n::TM_SOL_SOCKET, n::TM_SO_RCVBUF) => size(options.rx_limits.bytes),
        (n::TM_SOL_SOCKET, n::TM_SO_RCV_DGRAMS) => size(options.rx_limits.frames),
        (n::TM_SOL_SOCKET, n::TM_SO_TYPE) if stream => n::TM_SOCK_STREAM,
        (n::TM_SOL_SOCKET, n::TM_SO_TYPE) if raw => n::TM_SOCK_RAW,
        (n::TM_SOL_SOCKET, n::TM_SO_TYPE) => n::TM_SOCK_DGRAM,
        (n::TM_SOL_SOCKET, n::TM_SO_ERROR) if stream => {
            let error = face.on_connection(id, |stream, _, stack| Ok(stream.take_error(stack)));
            error.ok().flatten().map_or(n::TM_ENOERROR, |code| code.0)
        }
        (n::TM_SOL_SOCKET, n::TM_SO_ERROR) => {
            let datagram = face.with_socket(id, |socket| socket.datagram)?;
            let take = |datagram: DatagramHandle| face.with_stack(|stack| datagram.take_error(stack));
            datagram.map(take).transpose()?.flatten().map_or(n::TM_ENOERROR, |error| pending_code(error).0)
        }
        (n::TM_IPPROTO_IP, n::TM_IP_TTL) => options.ttl.into(),
        (n::TM_IPPROTO_IP, n::TM_IP_TOS) => options.tos.into(),
        (n::TM_IPPROTO_IP, n::TM_IP_HDRINCL) if raw => options.header_included.into(),
        (n::TM_IPPROTO_TCP, n::TM_TCP_NODELAY) => options.nodelay.into(),
        (n::TM_IPPROTO_TCP, n::TM_TCP_STDURG) => options.standard_urgent_pointer.into(),
        (n::TM_IPPROTO_TCP, n::TM_TCP_MAXSEG) => {
            let used = face.on_connection(id, |stream, _, stack| Ok(stream.mss(stack)));
            used.ok().flatten().map_or_else(|| c_int::from(options.mss_max), size)
        }
        (n::TM_IPPROTO_TCP, n::TM_TCP_MAXRT) if options.user_timeout == FOR_EVER => -1,
        (n::TM_IPPROTO_TCP, n::TM_TCP_MAXRT) => seconds(options.user_timeout),
        (n::TM_IPPROTO_TCP, n::TM_TCP_KEEPALIVE) => seconds(options.keepalive.idle),
        (n::TM_IPPROTO_TCP, n::TM_TCP_KEEPALIVE_INTV) => seconds(options.keepalive.interval),
        (n::TM_IPPROTO_TCP, n::TM_TCP_KEEPALIVE_CNT) => options.keepalive.probes.into(),
        (n::TM_IPPROTO_TCP, n::TM_TCP_FINWT2TIME) => seconds(options.fin_wait2),
        (n::TM_IPPROTO_TCP, n::TM_TCP_DELAY_ACK) => ms(options.delayed_ack),
        (n::TM_IPPROTO_TCP, n::TM_TCP_RTO_DEF) => ms(options.rto.initial),
        (n::TM_IPPROTO_TCP, n::TM_TCP_RTO_MIN) => ms(options.rto.min),
        (n::TM_IPPROTO_TCP, n::TM_TCP_RTO_MAX) => ms(options.rto.max),
        (n::TM_IPPROTO_TCP, n::TM_TCP_PROBE_MIN) => ms(options.probe_min),
        (n::TM_IPPROTO_TCP, n::TM_TCP_PROBE_MAX) => ms(options.probe_max),
        (n::TM_IPPROTO_TCP, n::TM_TCP_MAX_REXMIT) => options.retransmissions_max.into(),
        (n::TM_IPPROTO_TCP, n::TM_TCP_PUSH_ALL) => options.push_all.into(),
        _ => match fixed(level, option) {
            Some(value) => value,
            None => options.hints[hint(level, option).ok_or(unknown(level, option))?],
        },
    })
}

fn unknown(level: c_int, option: c_int) -> Code {
    match (level, option) {
        (
            n::TM_IPPROTO_IP,
            n::TM_IP_MULTICAST_IF | n::TM_IP_MULTICAST_TTL | n::TM_IP_ADD_MEMBERSHIP | n::TM_IP_DROP_MEMBERSHIP,
        ) => UNSUPPORTED,
        // What is queued to be sent is bounded for all sockets of an interface together.
        (n::TM_SOL_SOCKET, n::TM_SO_SND_DGRAMS) => UNSUPPORTED,
        _ => NO_OPTION,
    }
}

/// A time of C's as one of ours.
pub(super) fn duration_of(time: libc::timeval) -> Outcome<Duration> {
    let seconds = u64::try_from(time.tv_sec).map_err(|_| INVALID)?;
    let micros = u32::try_from(time.tv_usec).ok().filter(|&micros| micros < 1_000_000).ok_or(INVALID)?;
    Ok(Duration::new(seconds, micros * 1000))
}
