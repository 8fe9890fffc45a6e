//! One connection's request on its way, and its answer, whoever carries them.

use super::{LoadError, number_request, request};
use std::time::Instant;

/// One connection, or one after another.
#[derive(Debug)]
pub(super) struct Lane<C> {
    pub(super) connection: Option<C>,
    /// When the request that is on its way was due.
    pub(super) due: Option<Instant>,
    request: Vec<u8>,
    requests: u64,
    sent: usize,
    received: usize,
}

impl<C> Lane<C> {
    pub(super) fn new(bytes: usize) -> Self {
        Self { connection: None, due: None, request: request(bytes), requests: 0, sent: 0, received: 0 }
    }

    /// The next request is on its way.
    pub(super) fn begin(&mut self, due: Instant) {
        (self.due, self.sent, self.received) = (Some(due), 0, 0);
        number_request(&mut self.request, self.requests);
        self.requests += 1;
    }

    /// What is still to be sent of it, and of which connection.
    pub(super) fn unsent(&self) -> (Option<&C>, &[u8]) {
        (self.connection.as_ref(), &self.request[self.sent..])
    }

    /// So much of it was sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// Whether nothing of it was sent yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.sent == 0
    }

    /// Bytes of the answer that have not come.
    pub(super) fn missing(&self) -> usize {
        self.request.len() - self.received
    }

    /// The next piece of the answer: whether it is complete.
    pub(super) fn accept(&mut self, piece: &[u8]) -> Result<bool, LoadError> {
        let end = self.received + piece.len();
        if self.due.is_none() || self.request.get(self.received..end) != Some(piece) {
            let number = self.requests.wrapping_sub(1);
            return Err(LoadError::Unexpected(format!("a wrong answer to request {number}")));
        }
        self.received = end;
        Ok(end == self.request.len())
    }
}
