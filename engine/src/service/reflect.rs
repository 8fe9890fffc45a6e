//! `reflect`: every frame goes back to its sender, the same frame, with nothing but its Ethernet addresses swapped.

use super::Counts;
use crate::{
    buf::{RxBuf, TxQueue},
    runtime::FrameHandler,
};
use std::sync::Arc;

const ADDRESS_BYTES: usize = 6;

/// Swaps the Ethernet addresses of received frames and sends them.
#[derive(Debug)]
pub struct Reflect {
    counts: Arc<Counts>,
}

impl Reflect {
    /// A reflector.
    pub fn new(counts: Arc<Counts>) -> Self {
        Self { counts }
    }
}

/// What was done with one batch.
#[derive(Default)]
struct Batch {
    sent: u64,
    sent_bytes: u64,
    no_room: u64,
    short: u64,
    group: u64,
}

impl FrameHandler for Reflect {
    fn handle_frames(&mut self, received: &mut Vec<RxBuf>, egress: &mut TxQueue) {
        let mut batch = Batch::default();
        let (mut count, mut bytes) = (0, 0);
        for mut frame in received.drain(..) {
            count += 1;
            let chain = frame.is_chain();
            let frame_bytes = if chain { frame.total_len() } else { frame.len() } as u64;
            bytes += frame_bytes;
            let Some(addresses) = frame.as_mut_slice().first_chunk_mut::<{ 2 * ADDRESS_BYTES }>() else {
                batch.short += 1;
                continue;
            };
            // IEEE 802.3 section 3.2.3: a source address is never a group address, so there is nobody to answer as.
            if addresses[0] & 1 != 0 {
                batch.group += 1;
                continue;
            }
            let (destination, source) = addresses.split_at_mut(ADDRESS_BYTES);
            destination.swap_with_slice(source);
            let sent = if chain { send_chain(frame, egress) } else { send_single(frame, egress) };
            if sent {
                batch.sent += 1;
                batch.sent_bytes += frame_bytes;
            } else {
                batch.no_room += 1;
            }
        }
        let counts = &*self.counts;
        counts.received.add(count);
        counts.received_payload_bytes.add(bytes);
        counts.sent.add(batch.sent);
        counts.sent_payload_bytes.add(batch.sent_bytes);
        counts.dropped_no_room.add(batch.no_room);
        counts.dropped_short.add(batch.short);
        counts.dropped_group.add(batch.group);
    }
}

#[inline]
fn send_single(frame: RxBuf, egress: &mut TxQueue) -> bool {
    match frame.into_tx().seal() {
        Ok(sealed) => egress.push(sealed).is_ok(),
        Err(_) => false,
    }
}

/// A packet of several pieces: each piece is sealed again, all but the last saying that there is more; all of it or nothing.
#[cold]
fn send_chain(frame: RxBuf, egress: &mut TxQueue) -> bool {
    let frozen = frame.into_tx().freeze();
    let bytes = frozen.total_len();
    if frozen.count_pieces(0, bytes) > egress.room() {
        return false;
    }
    // The room was there, and pieces that were just received have no descriptors yet.
    frozen.seal_range(0, bytes, |piece| drop(egress.push(piece))).is_ok()
}
