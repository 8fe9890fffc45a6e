//! Frames and their holders: every transition, random walks with the ledger checked at each step, and laws over random sizes.

mod laws;
mod runs_and_chains;
mod transitions;
mod walk;

use super::*;

/// A pool of 2,048-byte frames in plain memory.
fn pool(frames: usize, rx_reserve_frames: u32, run_frames: u32) -> Pool {
    sized_pool(frames, 2048, rx_reserve_frames, run_frames)
}

fn sized_pool(frames: usize, chunk_bytes: usize, rx_reserve_frames: u32, run_frames: u32) -> Pool {
    let region = Region::map(frames, chunk_bytes, HugePages::Never).unwrap();
    Pool::new(region, PoolConfig { rx_reserve_frames, run_frames })
}

fn tx(pool: &Pool, bytes: &[u8]) -> TxBuf {
    let mut buf = pool.alloc_contiguous(bytes.len()).unwrap();
    buf.put_slice(bytes).unwrap();
    buf
}

/// A received packet: one piece each, written by the device at the usual place.
fn rx(pool: &Pool, pieces: &[&[u8]]) -> RxBuf {
    let mut packet = None::<RxBuf>;
    for bytes in pieces {
        let at = pool.post_fill().unwrap() + HEADROOM_BYTES as u64;
        pool.kernel_write(at, bytes).unwrap();
        let piece = pool.adopt_rx(at, bytes.len() as u32).unwrap();
        match &mut packet {
            None => packet = Some(piece),
            Some(head) => head.append(piece).unwrap(),
        }
    }
    packet.unwrap()
}

fn joined<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    pieces.flatten().copied().collect()
}

fn on_the_wire(pool: &Pool, (addr, len, _): (u64, u32, bool)) -> Vec<u8> {
    let mut bytes = Vec::new();
    pool.kernel_read(addr, len, &mut bytes).unwrap();
    bytes
}

#[track_caller]
fn assert_whole(pool: &Pool) {
    let ledger = pool.ledger();
    assert!(ledger.is_whole(), "{ledger}");
    assert_eq!(pool.free(), pool.capacity());
}
