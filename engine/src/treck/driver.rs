//! A driver made of the application's C functions.

use super::{
    error::{Code, WOULD_BLOCK},
    face,
    messages::Kind,
    numbers as n,
    types::{
        ttDevCloseFunc, ttDevFreeRecvFunc, ttDevGetPhysAddrFunc, ttDevIoctlFunc, ttDevOpenFunc, ttDevRecvFunc,
        ttDevSendFunc, ttUserBuffer, ttUserInterface,
    },
};
use crate::{
    buf::TxBuf,
    port::{
        MacAddr,
        user::{Driver, DriverError, DriverFrame, Last, SendOutcome},
    },
};
use std::{
    ffi::{c_char, c_int},
    ptr,
};

/// Longest frame that a driver may hand up in its own memory: beyond the largest MTU it is certainly not a length.
const OWN_FRAME_BYTES_MAX: c_int = 65_536;

/// The functions given to `tfAddInterface`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Functions {
    pub(super) open: ttDevOpenFunc,
    pub(super) close: ttDevCloseFunc,
    pub(super) send: ttDevSendFunc,
    pub(super) recv: ttDevRecvFunc,
    pub(super) free_recv: ttDevFreeRecvFunc,
    pub(super) ioctl: ttDevIoctlFunc,
    pub(super) phys_addr: ttDevGetPhysAddrFunc,
}

impl Functions {
    /// No function at all: the name is a Linux interface's.
    pub(super) fn is_none(&self) -> bool {
        self.open.is_none()
            && self.close.is_none()
            && self.send.is_none()
            && self.recv.is_none()
            && self.free_recv.is_none()
            && self.ioctl.is_none()
            && self.phys_addr.is_none()
    }

    /// Tells the driver what it may want to know, if it does; what it answers makes no difference. It may call the API: nothing may be borrowed.
    pub(super) fn tell<T>(&self, interface: ttUserInterface, flag: c_int, mut option: T) {
        if let Some(ioctl) = self.ioctl {
            // SAFETY: the application's function, called with the interface that it was given for and a variable of the type that the header says for `flag`.
            let _ = unsafe { ioctl(interface, flag, (&raw mut option).cast(), size_of::<T>() as c_int) };
        }
    }

    /// What a driver cannot do without is there.
    pub(super) fn is_driver(&self) -> bool {
        self.send.is_some() && self.recv.is_some() && self.phys_addr.is_some()
    }
}

/// See the module. Its functions are called while this thread is inside the gate; they may call the API, where what is in use by the call that called them answers
/// `TM_EWOULDBLOCK`.
#[derive(Debug)]
pub(super) struct CDriver {
    functions: Functions,
    interface: ttUserInterface,
    mac: MacAddr,
    /// What `recv` handed up in memory of its own, until `freeRecv`.
    own: *mut c_char,
}

impl CDriver {
    pub(super) fn new(functions: Functions, interface: ttUserInterface) -> Self {
        Self { functions, interface, mac: MacAddr::default(), own: ptr::null_mut() }
    }

    /// A frame that lies in a buffer got from `tfGetDriverBuffer`: `data` may be anywhere in it. `None` if it is not within the buffer, whose frame is then freed.
    fn pooled(buf: TxBuf, data: *mut c_char, len: c_int) -> Option<DriverFrame<'static>> {
        let mut buf = buf;
        let _ = buf.set_len(buf.capacity());
        let offset = data.addr().checked_sub(buf.as_slice().as_ptr().addr())?;
        let len = usize::try_from(len).ok().filter(|&len| len > 0)?;
        if offset.checked_add(len)? > buf.len() {
            return None;
        }
        buf.advance(offset);
        buf.truncate(len);
        Some(DriverFrame::Pooled(buf.into_rx()))
    }
}

impl Driver for CDriver {
    fn open(&mut self) -> Result<(), DriverError> {
        if let Some(open) = self.functions.open {
            // SAFETY: the application's function, called with the interface that it was given for.
            check("open", unsafe { open(self.interface) })?;
        }
        let mut mac = [0u8; 6];
        if let Some(phys_addr) = self.functions.phys_addr {
            // SAFETY: as above; it writes six bytes, for which there is room.
            check("getPhysAddr", unsafe { phys_addr(self.interface, mac.as_mut_ptr().cast()) })
                .inspect_err(|_| self.close())?;
        }
        self.mac = MacAddr(mac);
        if self.mac.is_multicast() || self.mac == MacAddr::default() {
            self.close();
            return Err(DriverError { call: "getPhysAddr (no unicast address)", code: n::TM_EINVAL });
        }
        Ok(())
    }

    fn close(&mut self) {
        if let Some(close) = self.functions.close {
            // SAFETY: as in `open`. What it says cannot be helped any more.
            let _ = unsafe { close(self.interface) };
        }
    }

    fn send(&mut self, data: &[u8], last: Last) -> Result<SendOutcome, DriverError> {
        let Some(send) = self.functions.send else { return Err(DriverError { call: "send", code: n::TM_EOPNOTSUPP }) };
        let len = c_int::try_from(data.len()).unwrap_or(c_int::MAX);
        let flag = if last == Last::Yes { n::TM_USER_BUFFER_LAST } else { 0 };
        // SAFETY: as in `open`; it may read `len` bytes at `data`, and has no business writing there (the header says so).
        match Code(unsafe { send(self.interface, data.as_ptr().cast_mut().cast(), len, flag) }) {
            Code(n::TM_ENOERROR) => Ok(SendOutcome::Sent),
            WOULD_BLOCK => Ok(SendOutcome::Busy),
            Code(code) => Err(DriverError { call: "send", code }),
        }
    }

    fn recv(&mut self) -> Option<DriverFrame<'_>> {
        let recv = self.functions.recv?;
        // A frame that is no frame is freed and counted by the port as an empty one, but must not end the pulling: the driver may have more.
        let (mut data, mut len, mut handle): (*mut c_char, c_int, ttUserBuffer) = (ptr::null_mut(), 0, ptr::null_mut());
        // SAFETY: as in `open`; it writes to the three variables.
        if unsafe { recv(self.interface, &raw mut data, &raw mut len, &raw mut handle) } != n::TM_ENOERROR {
            return None;
        }
        if !handle.is_null() {
            let face = face::enter();
            let taken = face.messages.try_borrow_mut().ok().and_then(|mut messages| {
                let (handle, buf) = messages.take(Kind::Driver, handle.addr())?;
                messages.retire(handle);
                Some(buf)
            });
            // A handle that is none of ours is the driver's mistake: nothing of it is touched.
            return Some(taken.and_then(|buf| Self::pooled(buf, data, len)).unwrap_or(DriverFrame::Own(&[])));
        }
        self.own = data;
        if data.is_null() || !(1..=OWN_FRAME_BYTES_MAX).contains(&len) {
            return Some(DriverFrame::Own(&[]));
        }
        // SAFETY: `recv` said that there are `len` bytes, which stay until `freeRecv`; that is called after the port is done with them.
        Some(DriverFrame::Own(unsafe { std::slice::from_raw_parts(data.cast(), len as usize) }))
    }

    fn free_recv(&mut self) {
        let own = std::mem::replace(&mut self.own, ptr::null_mut());
        if let Some(free_recv) = self.functions.free_recv
            && !own.is_null()
        {
            // SAFETY: as in `open`; the pointer is what its `recv` gave, once.
            let _ = unsafe { free_recv(self.interface, own) };
        }
    }

    fn phys_addr(&mut self) -> MacAddr {
        self.mac
    }
}

fn check(call: &'static str, code: c_int) -> Result<(), DriverError> {
    if code == n::TM_ENOERROR { Ok(()) } else { Err(DriverError { call, code }) }
}
