//! `tfSelect`.

use super::{
    error::{INVALID, Outcome, WOULD_BLOCK},
    face::{self, Face, Patience, wait_for},
    options::duration_of,
    park::{On, Sockets},
    sockets::SOCKETS_MAX,
};
use smallvec::SmallVec;
use std::ffi::c_int;

const READ: usize = 0;
const WRITE: usize = 1;
const EXCEPT: usize = 2;

/// A set's words: 1,024 descriptors without taking memory.
type Words = SmallVec<[u32; 32]>;

/// See `tfSelect`.
///
/// # Safety
/// Each set is null or has `nfds` bits, rounded up to words; `timeout` is null or points to a structure.
pub(super) unsafe fn select(nfds: c_int, sets: [*mut u32; 3], timeout: *const libc::timeval) -> c_int {
    let mut face = face::enter();
    let outcome = (|| {
        let count = usize::try_from(nfds).ok().filter(|&count| count <= SOCKETS_MAX + 1).ok_or(INVALID)?;
        let patience = if timeout.is_null() {
            Patience::Endless
        } else {
            // SAFETY: not null, the caller's structure.
            Patience::For(duration_of(unsafe { timeout.read_unaligned() })?)
        };
        let words = count.div_ceil(32);
        let asked = sets.map(|set| {
            let word = |at| match set.is_null() {
                true => 0,
                // SAFETY: not null, and `nfds` bits by the caller's promise; no alignment is asked of it.
                false => unsafe { set.add(at).read_unaligned() },
            };
            (0..words).map(word).collect::<Words>()
        });
        let any = |set: usize| asked[set].iter().any(|&word| word != 0);
        // That there is room to send again no socket hears that was refused nothing.
        let on = On::Each { sockets: &|face| sockets_of(face, &asked, count), restless: any(WRITE) };
        let mut turned = false;
        let mut look = |face: &Face| {
            let found = ready(face, &asked, count)?;
            if found.0 > 0 {
                return Ok(found);
            }
            if !std::mem::replace(&mut turned, true) && face.turn().any() {
                let found = ready(face, &asked, count)?;
                if found.0 > 0 {
                    return Ok(found);
                }
            }
            Err(WOULD_BLOCK)
        };
        let outcome = wait_for(&mut face, patience, on, &mut look);
        let timed_out = super::bsd::timed_out(&outcome, patience);
        let (total, answer) = match outcome {
            Err(WOULD_BLOCK) if timed_out => (0, <[Words; 3]>::default()),
            other => other?,
        };
        for (set, answer) in sets.into_iter().zip(&answer) {
            for at in 0..words {
                if !set.is_null() {
                    // SAFETY: the caller's promise, as above.
                    unsafe { set.add(at).write_unaligned(answer.get(at).copied().unwrap_or(0)) };
                }
            }
        }
        Ok(total)
    })();
    outcome.unwrap_or_else(|code| face.failed(super::numbers::TM_SOCKET_ERROR, code))
}

/// The sockets of all sets.
fn sockets_of(face: &Face, asked: &[Words; 3], count: usize) -> Sockets {
    let is_asked = |at: usize| asked.iter().any(|set| set.get(at / 32).is_some_and(|word| word >> (at % 32) & 1 != 0));
    (0..count).filter(|&at| is_asked(at)).filter_map(|at| face.socket_id(at as c_int).ok()).collect()
}

/// How many of the asked are ready, and which.
fn ready(face: &Face, asked: &[Words; 3], count: usize) -> Outcome<(c_int, [Words; 3])> {
    let mut total = 0;
    let mut answer = <[Words; 3]>::default();
    for at in 0..count.div_ceil(32) {
        let bits_below_count = if count - at * 32 >= 32 { u32::MAX } else { (1 << (count - at * 32)) - 1 };
        let word = |set: usize| asked[set].get(at).copied().unwrap_or(0) & bits_below_count;
        let (read, write, except) = (word(READ), word(WRITE), word(EXCEPT));
        let mut any = read | write | except;
        let mut found = [0u32; 3];
        while any != 0 {
            let bit = any & any.wrapping_neg();
            any &= !bit;
            let sd = (at * 32) as c_int + bit.trailing_zeros() as c_int;
            let ready = face.readiness(face.socket_id(sd)?)?;
            for ((found, ready), asked) in found.iter_mut().zip(ready).zip([read, write, except]) {
                if ready {
                    *found |= asked & bit;
                }
            }
        }
        total += found.iter().map(|word| word.count_ones() as c_int).sum::<c_int>();
        for (answer, found) in answer.iter_mut().zip(found) {
            answer.push(found);
        }
    }
    Ok((total, answer))
}
