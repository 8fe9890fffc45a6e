//! Datagrams on their way, by number: which are answered, which are lost.

use super::{LoadError, Tally, number_request, request};
use std::time::{Duration, Instant};

/// A request without an answer for so long has none.
const LOST: Duration = Duration::from_secs(1);
/// Requests that may be without an answer; when as many more were sent, an old one is lost.
const OUTSTANDING_MAX: usize = 1 << 16;
/// What fits a datagram.
const BYTES_MAX: usize = 65_507;

#[derive(Clone, Copy, Debug)]
struct Slot {
    number: u64,
    socket: usize,
    /// `None`: answered, or never used.
    due: Option<Instant>,
}

/// All requests of a run.
#[derive(Debug)]
pub(super) struct Window {
    /// By request number, modulo their number.
    slots: Vec<Slot>,
    next: u64,
    pub(super) outstanding: usize,
    /// Below it, all are answered or given up; without a rate.
    oldest: u64,
    request: Vec<u8>,
}

impl Window {
    /// For requests of so many bytes.
    pub(super) fn new(bytes: usize) -> Result<Self, LoadError> {
        if bytes > BYTES_MAX {
            return Err(LoadError::Option(format!("--bytes: at most {BYTES_MAX} for UDP")));
        }
        let slots = vec![Slot { number: 0, socket: 0, due: None }; OUTSTANDING_MAX];
        Ok(Self { slots, next: 0, outstanding: 0, oldest: 0, request: request(bytes) })
    }

    /// The next request, which leaves by this socket. One that finds no room on its way out is lost, like one that is lost later.
    pub(super) fn next(&mut self, socket: usize, due: Instant, tally: &mut Tally) -> &[u8] {
        let number = self.next;
        self.next += 1;
        number_request(&mut self.request, number);
        let slot = &mut self.slots[number as usize % OUTSTANDING_MAX];
        if let Some(due) = slot.due.take() {
            tally.lose(due);
            self.outstanding -= 1;
        }
        *slot = Slot { number, socket, due: Some(due) };
        self.outstanding += 1;
        &self.request
    }

    /// The socket of the request that this answers, if somebody still waited for it.
    pub(super) fn answered(
        &mut self,
        answer: &[u8],
        now: Instant,
        tally: &mut Tally,
    ) -> Result<Option<usize>, LoadError> {
        let bytes = answer.len();
        let wrong = |what: String| Err(LoadError::Unexpected(what));
        let Some(number) = answer.first_chunk().map(|head| u64::from_be_bytes(*head)) else {
            return wrong(format!("an answer of {bytes} bytes"));
        };
        if number >= self.next || bytes != self.request.len() || answer[8..] != self.request[8..] {
            return wrong(format!("a wrong answer of {bytes} bytes, numbered {number}"));
        }
        let slot = &mut self.slots[number as usize % OUTSTANDING_MAX];
        let Some(due) = slot.due.filter(|_| slot.number == number) else { return Ok(None) };
        slot.due = None;
        self.outstanding -= 1;
        tally.record(due, now);
        Ok(Some(slot.socket))
    }

    /// Without a rate: the socket of the oldest request that nobody will answer, which is lost. To be asked until there is none.
    pub(super) fn give_up(&mut self, now: Instant, tally: &mut Tally) -> Option<usize> {
        while self.oldest < self.next {
            let slot = &mut self.slots[self.oldest as usize % OUTSTANDING_MAX];
            let due = slot.due.filter(|_| slot.number == self.oldest);
            if due.is_some_and(|due| now.saturating_duration_since(due) < LOST) {
                return None;
            }
            self.oldest += 1;
            if let Some(due) = due {
                slot.due = None;
                self.outstanding -= 1;
                tally.lose(due);
                return Some(slot.socket);
            }
        }
        None
    }

    /// The end: what is without an answer has none.
    pub(super) fn give_up_all(&self, tally: &mut Tally) {
        self.slots.iter().filter_map(|slot| slot.due).for_each(|due| tally.lose(due));
    }
}
