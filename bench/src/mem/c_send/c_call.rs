//! The C call: one stack in a process, and a driver of plain functions.

use super::{BATCH, FLOW, From, On, PAYLOAD_BYTES, Peer, WARM_UP_BATCHES, establish, introduction, timed};
use anyhow::{Result, bail, ensure};
use framewire::treck::{
    bsd::{tfAccept, tfBind, tfBlockingState, tfConnect, tfGetSocketError, tfListen, tfSetsockopt, tfSocket},
    events::tfRegisterSocketCB,
    numbers as n,
    start::{tfAddInterface, tfOpenInterface, tfStartTreck, tfUseEthernet},
    transfer::tfRecv,
    turning::{tfNotifyReceiveInterfaceIsr, tfPoll, tfSendCompleteInterface, tfTimerUpdateTo, tfUseManualClock},
    types::{tfInAddr, tfSockaddrIn, ttUserBuffer, ttUserInterface, ttUserMessage},
    zero_copy::{tfGetZeroCopyBuffer, tfZeroCopySend},
};
use std::{
    cell::RefCell,
    collections::VecDeque,
    ffi::{c_char, c_int},
    mem,
    net::SocketAddrV4,
    ptr, slice,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

static INBOX: Mutex<VecDeque<Vec<u8>>> = Mutex::new(VecDeque::new());
/// The frame that the stack looks at.
static OWN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Frames are to be kept in `HEARD`.
static LISTENING: AtomicBool = AtomicBool::new(false);
static HEARD: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A batch, for the callback that sends it, and what that found.
#[derive(Debug, Default)]
struct Batch {
    socket: c_int,
    handles: Vec<usize>,
    sent: usize,
    took_ns: Option<f64>,
}

thread_local! {
    static NEXT: RefCell<Batch> = RefCell::default();
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "C" fn sink_send(interface: ttUserInterface, data: *mut c_char, length: c_int, flag: c_int) -> c_int {
    if LISTENING.load(Ordering::Relaxed) {
        // SAFETY: the library's frame.
        lock(&HEARD).push(unsafe { slice::from_raw_parts(data.cast(), length as usize) }.to_owned());
    }
    if flag & n::TM_USER_BUFFER_LAST != 0 {
        tfSendCompleteInterface(interface, 0);
    }
    n::TM_ENOERROR
}

unsafe extern "C" fn sink_recv(
    _interface: ttUserInterface,
    data: *mut *mut c_char,
    length: *mut c_int,
    _buffer: *mut ttUserBuffer,
) -> c_int {
    let Some(frame) = lock(&INBOX).pop_front() else { return n::TM_EWOULDBLOCK };
    let mut own = lock(&OWN);
    *own = frame;
    // SAFETY: the library's variables; the frame stays where it is until the next call.
    unsafe {
        *length = own.len() as c_int;
        *data = own.as_mut_ptr().cast();
    }
    n::TM_ENOERROR
}

unsafe extern "C" fn sink_mac(_interface: ttUserInterface, mac: *mut c_char) -> c_int {
    // SAFETY: the library's room for six bytes.
    unsafe { mac.cast::<[u8; 6]>().write(FLOW.target_mac.0) };
    n::TM_ENOERROR
}

pub(in crate::mem) fn address(of: SocketAddrV4) -> tfSockaddrIn {
    tfSockaddrIn {
        sin_len: 0,
        sin_family: n::TM_AF_INET as u8,
        sin_port: of.port().to_be(),
        sin_addr: tfInAddr { s_addr: u32::from_ne_bytes(of.ip().octets()) },
        sin_zero: [0; 8],
    }
}

/// The stack up, and a connected UDP socket on it that knows its neighbour.
pub(super) fn socket(on: On) -> Result<c_int> {
    if on == On::Stream {
        // What is sent is acknowledged at once, so that nothing is taken for lost when this thread loses its core.
        ensure!(tfUseManualClock() == n::TM_ENOERROR, "tfUseManualClock");
    }
    ensure!(tfStartTreck() == n::TM_ENOERROR, "tfStartTreck");
    let mut error = 0;
    let [ip, mask] = [*FLOW.target.ip(), [255, 255, 255, 0].into()].map(|ip| u32::from_ne_bytes(ip.octets()));
    // SAFETY: the name is a string, the functions are a driver's.
    let interface = unsafe {
        tfAddInterface(
            c"sink".as_ptr(),
            tfUseEthernet(),
            None,
            None,
            Some(sink_send),
            Some(sink_recv),
            None,
            None,
            Some(sink_mac),
            &raw mut error,
        )
    };
    ensure!(error == n::TM_ENOERROR, "tfAddInterface: {error}");
    lock(&INBOX).push_back(introduction(FLOW));
    let opened = tfOpenInterface(interface, ip, mask, 0, 1);
    ensure!(opened == n::TM_ENOERROR, "tfOpenInterface: {opened}");
    // From now on the driver is asked only when there is something.
    tfNotifyReceiveInterfaceIsr(interface);
    let socket = tfSocket(n::TM_AF_INET, n::TM_SOCK_DGRAM, 0);
    let (local, remote, bytes) = (address(FLOW.target), address(FLOW.source), size_of::<tfSockaddrIn>() as c_int);
    // SAFETY: both are addresses of that length.
    let ready = unsafe {
        tfBind(socket, (&raw const local).cast(), bytes) == 0
            && tfConnect(socket, (&raw const remote).cast(), bytes) == 0
    };
    ensure!(ready && tfBlockingState(socket, n::TM_BLOCKING_OFF) == 0, "the socket");
    while tfPoll() != 0 {}
    Ok(socket)
}

pub(in crate::mem) fn buffer() -> Option<usize> {
    let mut data = ptr::null_mut();
    // SAFETY: a variable of ours.
    let handle = unsafe { tfGetZeroCopyBuffer(PAYLOAD_BYTES as c_int, &raw mut data) };
    (!handle.is_null()).then_some(handle.addr())
}

pub(in crate::mem) fn send(socket: c_int, handle: usize) -> bool {
    let handle: ttUserMessage = ptr::without_provenance_mut(handle);
    tfZeroCopySend(socket, handle, PAYLOAD_BYTES as c_int, 0) == PAYLOAD_BYTES as c_int
}

fn send_batch(batch: &mut Batch) {
    let Batch { socket, handles, sent, took_ns } = batch;
    *took_ns = Some(timed(&mut || {
        while let Some(handle) = handles.pop() {
            *sent += usize::from(send(*socket, handle));
        }
    }));
}

/// Something came: the time for a batch.
extern "C" fn on_received(socket: c_int, _events: c_int) {
    let mut payload = [0u8; 2048];
    // SAFETY: there is room for as many bytes.
    while unsafe { tfRecv(socket, payload.as_mut_ptr().cast(), payload.len() as c_int, 0) } > 0 {}
    NEXT.with_borrow_mut(send_batch);
}

fn bring(frame: &[u8]) {
    lock(&INBOX).push_back(frame.to_owned());
    while tfPoll() != 0 {}
}

/// A connection that the peer has opened.
fn stream(peer: &mut Peer) -> Result<c_int> {
    let listener = tfSocket(n::TM_AF_INET, n::TM_SOCK_STREAM, 0);
    let (local, bytes, on) = (address(FLOW.target), size_of::<tfSockaddrIn>() as c_int, 1);
    // SAFETY: an address and a variable of these lengths.
    let ready = unsafe {
        tfBind(listener, (&raw const local).cast(), bytes) == 0
            && tfSetsockopt(
                listener,
                n::TM_IPPROTO_TCP,
                n::TM_TCP_NODELAY,
                (&raw const on).cast(),
                size_of_val(&on) as c_int,
            ) == 0
    };
    ensure!(ready && tfListen(listener, 1) == 0, "the listener");
    establish(peer, |frame| {
        LISTENING.store(true, Ordering::Relaxed);
        bring(frame);
        LISTENING.store(false, Ordering::Relaxed);
        mem::take(&mut *lock(&HEARD))
    })?;
    // SAFETY: nobody wants the address.
    let stream = unsafe { tfAccept(listener, ptr::null_mut(), ptr::null_mut()) };
    ensure!(stream > 0 && tfBlockingState(stream, n::TM_BLOCKING_OFF) == 0, "no connection");
    Ok(stream)
}

pub(super) fn batches(on: On, from: From, batches: usize) -> Result<Vec<f64>> {
    let mut socket = socket(on)?;
    let mut peer = Peer::without_timestamps(FLOW);
    if on == On::Stream {
        socket = stream(&mut peer)?;
    }
    if from == From::Callback {
        ensure!(tfRegisterSocketCB(socket, Some(on_received), n::TM_CB_RECV) == 0, "tfRegisterSocketCB");
    }
    let mut times_ns = Vec::with_capacity(batches);
    for number in 0..WARM_UP_BATCHES + batches {
        let handles: Vec<_> = (0..BATCH).map_while(|_| buffer()).collect();
        ensure!(handles.len() == BATCH, "the pool is empty");
        let mut batch = Batch { socket, handles, ..Batch::default() };
        if from == From::Callback {
            NEXT.set(batch);
            lock(&INBOX).push_back(if on == On::Stream { peer.data().to_owned() } else { FLOW.frame(PAYLOAD_BYTES) });
            tfPoll();
            batch = NEXT.take();
        } else {
            send_batch(&mut batch);
        }
        let Some(took) = batch.took_ns.filter(|_| batch.sent == BATCH) else {
            bail!("{} sends of batch {number} of {BATCH} went: error {}", batch.sent, tfGetSocketError(socket))
        };
        while tfPoll() != 0 {}
        if on == On::Stream {
            peer.take(BATCH * PAYLOAD_BYTES);
            ensure!(tfTimerUpdateTo((number as u64 + 1) * 10_000) == n::TM_ENOERROR, "tfTimerUpdateTo");
            bring(peer.ack());
        }
        if number >= WARM_UP_BATCHES {
            times_ns.push(took);
        }
    }
    Ok(times_ns)
}
