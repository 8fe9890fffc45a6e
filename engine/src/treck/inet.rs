//! Addresses as text.

use super::{
    error::{Code, note},
    numbers as n,
    types::{ip_of, network_order, tfInAddr},
};
use std::{
    cell::Cell,
    ffi::{CStr, c_char, c_int, c_void},
    fmt::Write,
    net::{Ipv4Addr, Ipv6Addr},
    ptr,
};

/// `INADDR_NONE`
const ADDRESS_NONE: u32 = u32::MAX;
/// Longest text of an IPv6 address with its zero.
const TEXT_BYTES: usize = 46;

thread_local! {
    static NTOA: Cell<[u8; 16]> = const { Cell::new([0; 16]) };
}

/// # Safety
/// `text` is null or a string with its zero.
unsafe fn text_of<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null; the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

/// The classic forms: `a.b.c.d`, `a.b.c`, `a.b`, `a`, each part decimal, octal (0…) or hexadecimal (0x…).
fn parse_classic(text: &str) -> Option<Ipv4Addr> {
    // Whatever follows a blank is not looked at, as in 4.4BSD.
    let text = text.split_ascii_whitespace().next().filter(|first| text.starts_with(first))?;
    let mut parts = [0u32; 4];
    let mut count = 0;
    for part in text.split('.') {
        let (digits, radix) = match part {
            _ if part.starts_with("0x") || part.starts_with("0X") => (part.get(2..)?, 16),
            _ if part.len() > 1 && part.starts_with('0') => (part.get(1..)?, 8),
            _ => (part, 10),
        };
        if digits.starts_with('+') {
            return None;
        }
        *parts.get_mut(count)? = u32::from_str_radix(digits, radix).ok()?;
        count += 1;
    }
    let (last, leading) = parts.get(..count)?.split_last()?;
    let last_bits = 32 - 8 * leading.len() as u32;
    if leading.iter().any(|&part| part > 255) || u64::from(*last) >= 1 << last_bits {
        return None;
    }
    let high = leading.iter().enumerate().fold(0, |bits, (at, part)| bits | part << (24 - 8 * at));
    Some(Ipv4Addr::from_bits(high | last))
}

/// `in_addr_t tfInetAddr(const char *text)`: the address in network byte order; `INADDR_NONE` if it is none.
///
/// # Safety
/// `text` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfInetAddr(text: *const c_char) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { text_of(text) }.and_then(parse_classic).map_or(ADDRESS_NONE, network_order)
}

/// `int tfInetAton(const char *text, struct in_addr *address)`: 1, or 0 if it is no address.
///
/// # Safety
/// `text` is null or a string, `address` null or a structure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfInetAton(text: *const c_char, address: *mut tfInAddr) -> c_int {
    // SAFETY: the caller's promise.
    match unsafe { text_of(text) }.and_then(parse_classic) {
        Some(ip) if !address.is_null() => {
            // SAFETY: not null, the caller's structure.
            unsafe { address.write_unaligned(tfInAddr { s_addr: network_order(ip) }) };
            1
        }
        _ => 0,
    }
}

/// `char *tfInetNtoa(struct in_addr address)`: the address as text, valid until this thread's next call.
#[unsafe(no_mangle)]
pub extern "C" fn tfInetNtoa(address: tfInAddr) -> *mut c_char {
    let mut text = Fixed::<16>::new();
    let _ = write!(text, "{}", ip_of(address.s_addr));
    NTOA.with(|kept| {
        kept.set(text.bytes);
        kept.as_ptr().cast()
    })
}

/// `int tfInetPton(int family, const char *text, void *address)`: 1; 0 if it is no address; -1 (`TM_EAFNOSUPPORT`) for another family, (`TM_EFAULT`) for null pointers. IPv4 as four decimal numbers only.
///
/// # Safety
/// `text` is null or a string, `address` null or 4 (`AF_INET`) or 16 (`AF_INET6`) bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfInetPton(family: c_int, text: *const c_char, address: *mut c_void) -> c_int {
    if text.is_null() || address.is_null() {
        note(super::error::FAULT);
        return n::TM_SOCKET_ERROR;
    }
    // SAFETY: the caller's promise.
    let text = unsafe { text_of(text) }.unwrap_or("");
    match family {
        n::TM_AF_INET => text.parse::<Ipv4Addr>().map_or(0, |ip| {
            // SAFETY: not null; four bytes by the caller's promise.
            unsafe { address.cast::<[u8; 4]>().write_unaligned(ip.octets()) };
            1
        }),
        n::TM_AF_INET6 => text.parse::<Ipv6Addr>().map_or(0, |ip| {
            // SAFETY: not null; sixteen bytes by the caller's promise.
            unsafe { address.cast::<[u8; 16]>().write_unaligned(ip.octets()) };
            1
        }),
        _ => {
            note(Code(n::TM_EAFNOSUPPORT));
            n::TM_SOCKET_ERROR
        }
    }
}

/// `const char *tfInetNtop(int family, const void *address, char *text, int size)`: `text`, or null: `TM_EFAULT`, `TM_EAFNOSUPPORT`, `TM_EINVAL` (no room).
///
/// # Safety
/// `address` is null or 4 or 16 bytes, `text` null or `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfInetNtop(
    family: c_int,
    address: *const c_void,
    text: *mut c_char,
    size: c_int,
) -> *const c_char {
    let refuse = |code| {
        note(code);
        ptr::null()
    };
    if address.is_null() || text.is_null() {
        return refuse(super::error::FAULT);
    }
    let mut written = Fixed::<TEXT_BYTES>::new();
    let _ = match family {
        // SAFETY: not null; four bytes by the caller's promise.
        n::TM_AF_INET => write!(written, "{}", Ipv4Addr::from(unsafe { address.cast::<[u8; 4]>().read_unaligned() })),
        // SAFETY: not null; sixteen bytes by the caller's promise.
        n::TM_AF_INET6 => write!(written, "{}", Ipv6Addr::from(unsafe { address.cast::<[u8; 16]>().read_unaligned() })),
        _ => return refuse(Code(n::TM_EAFNOSUPPORT)),
    };
    if usize::try_from(size).is_ok_and(|size| size > written.len) {
        // SAFETY: the text and its zero fit into the caller's `size` bytes.
        unsafe { ptr::copy_nonoverlapping(written.bytes.as_ptr().cast(), text, written.len + 1) };
        text
    } else {
        refuse(super::error::INVALID)
    }
}

/// Text with a zero behind it.
struct Fixed<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Fixed<N> {
    fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Write for Fixed<N> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        // One byte stays zero.
        let room = self.bytes.get_mut(self.len..self.len + text.len() + 1).ok_or(std::fmt::Error)?;
        room[..text.len()].copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classic_forms() {
        for (text, want) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("10.1", Some("10.0.0.1")),
            ("10.1.515", Some("10.1.2.3")),
            ("0x7f.0.0.010", Some("127.0.0.8")),
            ("4294967295", Some("255.255.255.255")),
            ("10.0.0.1 behind", Some("10.0.0.1")),
            ("4294967296", None),
            ("256.0.0.1", None),
            ("1.2.3.4.5", None),
            ("1..2", None),
            ("+1.2", None),
            ("", None),
            (" 1.2.3.4", None),
            ("a.b", None),
        ] {
            assert_eq!(parse_classic(text), want.map(|want| want.parse().unwrap()), "{text}");
        }
    }
}
