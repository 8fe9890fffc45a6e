//! The loop, the clock, and what drivers tell from other threads.

use super::{
    error::{Code, FAULT, INVALID, Outcome, WOULD_BLOCK, note, returned},
    face,
    interface::{self, Shared},
    numbers as n,
    types::{tfStats, ttUserInterface},
};
use crate::telemetry::Counters;
use std::ffi::c_int;

/// `int tfUseManualClock(void)`: time stands still but for `tfTimerUpdateTo`. Before `tfStartTreck`, else `TM_EINVAL`. Random numbers have a fixed seed then, so that a run can be repeated: not for production. An addition of ours.
#[unsafe(no_mangle)]
pub extern "C" fn tfUseManualClock() -> c_int {
    let face = face::enter();
    if face.is_started() {
        return note(INVALID).0;
    }
    face.use_manual_clock();
    n::TM_ENOERROR
}

/// `int tfTimerUpdateTo(uint64_t nanoseconds)`: moves the manual clock; timers fire in `tfTimerExecute`. `TM_EINVAL` for a time in its past, and when the clock is not manual. An addition of ours.
#[unsafe(no_mangle)]
pub extern "C" fn tfTimerUpdateTo(nanoseconds: u64) -> c_int {
    let moved = face::enter().set_manual_clock(nanoseconds);
    if moved { n::TM_ENOERROR } else { note(INVALID).0 }
}

/// `uint64_t tfNextTimer(void)`: when `tfTimerExecute` has something to do, in nanoseconds of the clock: not later than the next timer, perhaps earlier. `UINT64_MAX`: no timer is set. An addition of ours.
#[unsafe(no_mangle)]
pub extern "C" fn tfNextTimer() -> u64 {
    face::enter().next_deadline().map_or(u64::MAX, |at| at.as_nanos())
}

/// `void tfTimerExecute(void)`: fires every timer that is due, and hands what they send to the drivers. Beside workers: nothing, which do it.
#[unsafe(no_mangle)]
pub extern "C" fn tfTimerExecute() {
    let face = face::enter();
    if face.may_turn() {
        face.run_timers();
    }
}

/// `int tfCheckReceiveInterface(ttUserInterface i)`: `TM_ENOERROR` if frames wait (the driver's `recv` is asked), else, and beside workers, `TM_EWOULDBLOCK`. `TM_EFAULT`, `TM_ENETDOWN`.
#[unsafe(no_mangle)]
pub extern "C" fn tfCheckReceiveInterface(i: ttUserInterface) -> c_int {
    let face = face::enter();
    let outcome = interface::find(&face, i).and_then(|interface| {
        interface.id.get().ok_or(Code(n::TM_ENETDOWN))?;
        if face.may_turn() && face.pull(&interface, face.now()) { Ok(()) } else { Err(WOULD_BLOCK) }
    });
    returned(outcome)
}

/// `int tfRecvInterface(ttUserInterface i)`: takes frames from the device, up to 64, handles them, and hands the answers to the drivers. `TM_ENOERROR` if there were any, else, and beside workers, `TM_EWOULDBLOCK`. `TM_EFAULT`, `TM_ENETDOWN`.
#[unsafe(no_mangle)]
pub extern "C" fn tfRecvInterface(i: ttUserInterface) -> c_int {
    let face = face::enter();
    let outcome: Outcome<()> = interface::find(&face, i).and_then(|interface| {
        interface.id.get().ok_or(Code(n::TM_ENETDOWN))?;
        if !face.may_turn() {
            return Err(WOULD_BLOCK);
        }
        let now = face.now();
        face.pull(&interface, now);
        let any = face.handle_pulled(&interface, now);
        face.tell();
        face.flush(now);
        if any {
            face::BEDROOM.ring_inside();
            Ok(())
        } else {
            Err(WOULD_BLOCK)
        }
    });
    returned(outcome)
}

/// `int tfPoll(void)`: one turn of everything: completions, receiving, timers, sending. 1 if there was something to do, else, and beside workers, 0. An addition of ours.
#[unsafe(no_mangle)]
pub extern "C" fn tfPoll() -> c_int {
    let face = face::enter();
    (face.may_turn() && face.turn().any()).into()
}

/// `int tfNotifyReceiveInterfaceIsr(ttUserInterface i)`: the driver has received something: wakes who sleeps in a blocking call. From any thread, also from a driver's function. `TM_EFAULT`.
#[unsafe(no_mangle)]
pub extern "C" fn tfNotifyReceiveInterfaceIsr(i: ttUserInterface) -> c_int {
    match Shared::of(i) {
        Some(shared) => {
            shared.notify();
            n::TM_ENOERROR
        }
        None => note(FAULT).0,
    }
}

/// `int tfSendCompleteInterface(ttUserInterface i, int lockFlag)`: the driver is done with the oldest frame that it was given to send. From any thread, also from within its `send`. `lockFlag` makes no difference. `TM_EFAULT`.
#[unsafe(no_mangle)]
pub extern "C" fn tfSendCompleteInterface(i: ttUserInterface, _lockFlag: c_int) -> c_int {
    match Shared::of(i) {
        Some(shared) => {
            shared.complete();
            n::TM_ENOERROR
        }
        None => note(FAULT).0,
    }
}

/// `int tfGetStats(tfStats *stats)`: frames in all and free, bytes copied, datagrams, drops. `TM_EFAULT`. An addition of ours.
///
/// # Safety
/// `stats` is null or a structure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfGetStats(stats: *mut tfStats) -> c_int {
    if stats.is_null() {
        return note(FAULT).0;
    }
    let face = face::enter();
    let told = face
        .with_stack(|stack| tfStats {
            framesTotal: stack.pool().capacity().into(),
            framesFree: stack.pool().free().into(),
            bytesCopiedTx: stack.counters.bytes_copied_tx,
            bytesCopiedRx: stack.counters.bytes_copied_rx,
            udpReceived: stack.counters.udp_rx_datagrams,
            udpSent: stack.counters.udp_tx_datagrams,
            dropped: dropped(&stack.counters),
            callsWoken: face.lounge.woken(),
        })
        .unwrap_or_default();
    // SAFETY: not null, the caller's structure.
    unsafe { stats.write_unaligned(told) };
    n::TM_ENOERROR
}

fn dropped(counters: &Counters) -> u64 {
    let values = counters.values();
    let named = Counters::NAMES.iter().zip(values);
    named.filter(|((name, _), _)| name.starts_with("drop_")).map(|(_, value)| value).sum()
}
