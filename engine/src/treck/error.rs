//! Error codes, and where the last one is kept.

use super::numbers as n;
use crate::stack::{BindError, SendError};
use std::{
    cell::{Cell, RefCell},
    ffi::{CString, c_char, c_int},
    fmt,
};

/// One of the `TM_E…` numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(pub(super) c_int);

pub(super) type Outcome<T> = Result<T, Code>;

pub(super) const WOULD_BLOCK: Code = Code(n::TM_EWOULDBLOCK);
pub(super) const FAULT: Code = Code(n::TM_EFAULT);
pub(super) const INVALID: Code = Code(n::TM_EINVAL);
pub(super) const BAD_SOCKET: Code = Code(n::TM_EBADF);
pub(super) const NO_BUFFERS: Code = Code(n::TM_ENOBUFS);
pub(super) const UNSUPPORTED: Code = Code(n::TM_EOPNOTSUPP);
pub(super) const HOST_UNREACHABLE: Code = Code(n::TM_EHOSTUNREACH);
pub(super) const MESSAGE_SIZE: Code = Code(n::TM_EMSGSIZE);

impl From<BindError> for Code {
    fn from(error: BindError) -> Self {
        Self(match error {
            BindError::InUse => n::TM_EADDRINUSE,
            BindError::NotAvailable | BindError::NoPorts => n::TM_EADDRNOTAVAIL,
            BindError::TooMany => n::TM_ENOBUFS,
            BindError::State => n::TM_EINVAL,
            BindError::Unreachable => n::TM_EHOSTUNREACH,
            BindError::BadSocket => n::TM_EBADF,
        })
    }
}

impl From<SendError> for Code {
    /// Drops the buffer that a would-block gives back: whoever wants it takes it out before.
    fn from(error: SendError) -> Self {
        Self(match error {
            SendError::WouldBlock(_) => n::TM_EWOULDBLOCK,
            SendError::ConnectionRefused => n::TM_ECONNREFUSED,
            SendError::HostUnreachable => n::TM_EHOSTUNREACH,
            SendError::MessageSize => n::TM_EMSGSIZE,
            SendError::NotConnected => n::TM_ENOTCONN,
            SendError::Broadcast => n::TM_EACCES,
            SendError::NoBuffers => n::TM_ENOBUFS,
            SendError::BadSocket => n::TM_EBADF,
            SendError::Header => n::TM_EINVAL,
        })
    }
}

thread_local! {
    static LAST: Cell<c_int> = const { Cell::new(n::TM_ENOERROR) };
    static TEXT: RefCell<CString> = RefCell::new(CString::default());
}

/// Notes the calling thread's last error, for calls that have no socket to store it on.
pub(super) fn note(code: Code) -> Code {
    LAST.set(code.0);
    code
}

/// Notes why an interface call failed, in words.
pub(super) fn explain(code: Code, why: impl fmt::Display) -> Code {
    // A name with a zero byte in it cannot come from a C string, so nothing is lost here.
    let text = CString::new(why.to_string()).unwrap_or_default();
    TEXT.with_borrow_mut(|kept| *kept = text);
    note(code)
}

/// The code for an interface call that returns it, which also is noted.
pub(super) fn returned(outcome: Outcome<()>) -> c_int {
    match outcome {
        Ok(()) => n::TM_ENOERROR,
        Err(code) => note(code).0,
    }
}

/// The error of this thread's last call that failed, of whatever kind; `TM_ENOERROR` if none has. For calls without a socket to ask: `tfSocket`,
/// `tfGetZeroCopyBuffer`, `tfSelect`. An addition of ours.
#[unsafe(no_mangle)]
pub extern "C" fn tfGetLastError() -> c_int {
    LAST.get()
}

/// Why this thread's last failing interface call failed, in words; "" if none has. Valid until the thread's next such failure. An addition of ours.
#[unsafe(no_mangle)]
pub extern "C" fn tfGetLastErrorText() -> *const c_char {
    TEXT.with_borrow(|text| text.as_ptr())
}
