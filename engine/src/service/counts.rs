//! What services count, readable from other threads while they run.

use crate::config;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A count with one writer, its worker, and any number of readers. Counting is a plain addition: no locked instruction.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Counts `n` more. Only the worker that owns the tally calls this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The count as of some moment not long ago.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counts {
    ($($field:ident: $help:literal,)*) => {
        /// What one service on one worker counts; a service that has no use for a count leaves it at 0.
        /// Aligned so that two workers never write to one cache line (nor to a pair of lines that is fetched together).
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counts {
            $(#[doc = $help] pub $field: Tally,)*
        }

        impl Counts {
            /// Names and sentences, in the order of [`values`](Self::values).
            pub const NAMES: &'static [(&'static str, &'static str)] = &[$((stringify!($field), $help),)*];

            /// How many counts there are.
            pub const COUNT: usize = Self::NAMES.len();

            /// All values, in the order of [`NAMES`](Self::NAMES).
            pub fn values(&self) -> [u64; Self::COUNT] {
                [$(self.$field.get(),)*]
            }
        }
    };
}

counts! {
    received: "Packets, or buffers of a stream, that the service received.",
    received_payload_bytes: "Payload bytes of them; of a layer-2 service, all bytes.",
    sent: "Packets, or buffers of a stream, that the service sent.",
    sent_payload_bytes: "Payload bytes of them; of a layer-2 service, all bytes.",
    would_block: "Packets or buffers that waited because a queue or the frame pool had no room; sent later.",
    no_frame: "Times that no frame was free to fill.",
    dropped_no_room: "Packets dropped because the egress queue had no room.",
    dropped_short: "Frames dropped because they are shorter than an Ethernet header.",
    dropped_group: "Frames dropped because they are for a group of stations, whose address cannot be a sender's.",
    send_errors: "Sends that failed: peer refuses, host unreachable.",
    sequence_missing: "Sequence numbers skipped; late ones are not taken off.",
    sequence_late: "Packets with a number below the one expected: reordered or doubled.",
    sequence_restarts: "Times that a sender began again at 0.",
    sequence_absent: "Packets too short for a sequence number.",
    sequence_unwatched: "Packets of senders beyond the number that are kept track of.",
    completed: "Workers that have sent all they were to send.",
    connections_accepted: "Connections that peers opened.",
    connections_made: "Connections that the service opened.",
    connections_closed: "Connections that ended.",
    connections_failed: "Of those, ended by a reset, a time-out or an error.",
    connections_refused: "Connections reset because the service had as many as it may.",
    connect_errors: "Connections that could not even be tried; tried again later.",
    idle_timeouts: "Connections that made no progress for too long; closed, or told so first.",
    http_requests: "HTTP requests answered.",
    http_errors: "Of those, with a status of 400 or above.",
    mismatched_bytes: "Bytes of streams that are not what the pattern has there.",
}

/// The counts of every service on every worker.
#[derive(Clone, Debug)]
pub struct Board {
    labels: Arc<[String]>,
    /// By worker, then by service.
    counts: Arc<[Vec<Arc<Counts>>]>,
}

impl Board {
    /// A board of zeros for `services` on each of `workers` workers.
    pub fn new(services: &[config::Service], workers: usize) -> Self {
        Self {
            labels: services.iter().map(ToString::to_string).collect(),
            counts: (0..workers).map(|_| services.iter().map(|_| Arc::default()).collect()).collect(),
        }
    }

    /// What the services are, in order.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// One service on one worker.
    ///
    /// # Panics
    /// There is no such worker or service: the caller made the board for other numbers.
    pub fn counts(&self, worker: usize, service: usize) -> Arc<Counts> {
        self.counts[worker][service].clone()
    }

    /// One service's counts on one worker, in the order of [`Counts::NAMES`].
    pub fn values(&self, worker: usize, service: usize) -> [u64; Counts::COUNT] {
        self.counts.get(worker).and_then(|services| services.get(service)).map_or([0; Counts::COUNT], |c| c.values())
    }

    /// One service's counts, summed over all workers.
    pub fn totals(&self, service: usize) -> [u64; Counts::COUNT] {
        let mut totals = [0_u64; Counts::COUNT];
        for worker in 0..self.counts.len() {
            for (total, value) in totals.iter_mut().zip(self.values(worker, service)) {
                *total = total.wrapping_add(value);
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_over_workers() {
        let board = Board::new(&[config::Service::Reflect, config::Service::Reflect], 3);
        for worker in 0..3 {
            board.counts(worker, 1).sent.add(worker as u64 + 1);
        }
        let sent = Counts::NAMES.iter().position(|(name, _)| *name == "sent").unwrap();
        assert_eq!((board.totals(0)[sent], board.totals(1)[sent], board.values(2, 1)[sent]), (0, 6, 3));
        assert_eq!(board.values(9, 9), [0; Counts::COUNT]);
    }

    #[test]
    fn every_count_has_a_sentence() {
        for (name, help) in Counts::NAMES {
            assert!(help.ends_with('.') && help.len() > 15, "{name}");
        }
    }
}
