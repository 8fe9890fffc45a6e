//! Changing and copying packets: a received one in place, one to send in fresh frames.

use super::lane::{Changed, Packet};
use crate::buf::{Pool, RxBuf, Sealed};

/// A packet that is sent keeps its Ethernet header when it is shortened: a device refuses less.
const TX_BYTES_MIN: usize = 14;

/// The descriptors of one packet to send.
pub(super) type TxPacket = Vec<Sealed>;

impl Packet for RxBuf {
    fn shorten(self, _pool: &Pool, random: u64) -> Changed<Self> {
        let total = self.total_len();
        if total == 0 {
            return Changed::No(self);
        }
        let mut keep = (random % total as u64) as usize;
        Changed::Yes(self.map_pieces(|piece| {
            piece.truncate(keep);
            keep -= piece.len();
        }))
    }

    fn flip_bit(self, _pool: &Pool, random: u64) -> Changed<Self> {
        let total = self.total_len();
        if total == 0 {
            return Changed::No(self);
        }
        let (mut at, bit) = flipped(random, total);
        Changed::Yes(self.map_pieces(|piece| {
            if let Some(byte) = piece.as_mut_slice().get_mut(at) {
                *byte ^= bit;
                at = usize::MAX;
            } else {
                at = at.saturating_sub(piece.len());
            }
        }))
    }

    fn copy(&self, pool: &Pool) -> Option<Self> {
        let mut copies = self.pieces().map(|piece| pool.rx_from_bytes(piece));
        let mut head = copies.next().unwrap_or_else(|| pool.rx_from_bytes(&[]))?;
        for tail in copies {
            head.append(tail?).ok()?;
        }
        Some(head)
    }
}

trait MapPieces {
    fn map_pieces(self, f: impl FnMut(&mut RxBuf)) -> Self;
}

impl MapPieces for RxBuf {
    /// Changes the pieces one by one; those that are left without bytes go, but for the first.
    fn map_pieces(self, mut f: impl FnMut(&mut RxBuf)) -> Self {
        let (mut head, mut rest) = self.split_first();
        f(&mut head);
        while let Some(chain) = rest {
            let (mut piece, next) = chain.split_first();
            f(&mut piece);
            if !piece.is_empty() {
                // Pieces of one chain are single frames of one pool, so they link.
                let _ = head.append(piece);
            }
            rest = next;
        }
        head
    }
}

/// Which byte of `total`, and which bit of it.
fn flipped(random: u64, total: usize) -> (usize, u8) {
    (((random >> 3) % total as u64) as usize, 1 << (random & 7))
}

impl Packet for TxPacket {
    fn shorten(mut self, pool: &Pool, random: u64) -> Changed<Self> {
        let total: usize = self.iter().map(Sealed::len).sum();
        if total <= TX_BYTES_MIN {
            return Changed::No(self);
        }
        let mut keep = TX_BYTES_MIN + (random % (total - TX_BYTES_MIN) as u64) as usize;
        for i in 0..self.len() {
            if keep <= self[i].len() {
                let Some(last) = sealed_copy(pool, &self[i].as_slice()[..keep], |_| {}) else {
                    return Changed::NoFrame(self);
                };
                self.truncate(i);
                self.push(last);
                break;
            }
            keep -= self[i].len();
        }
        Changed::Yes(self)
    }

    fn flip_bit(mut self, pool: &Pool, random: u64) -> Changed<Self> {
        let total: usize = self.iter().map(Sealed::len).sum();
        if total == 0 {
            return Changed::No(self);
        }
        let (mut at, bit) = flipped(random, total);
        for piece in &mut self {
            if at < piece.len() {
                let Some(mut copy) = sealed_copy(pool, piece.as_slice(), |bytes| bytes[at] ^= bit) else {
                    return Changed::NoFrame(self);
                };
                if piece.more() {
                    copy.set_more();
                }
                *piece = copy;
                break;
            }
            at -= piece.len();
        }
        Changed::Yes(self)
    }

    fn copy(&self, pool: &Pool) -> Option<Self> {
        self.iter()
            .map(|piece| {
                let mut copy = sealed_copy(pool, piece.as_slice(), |_| {})?;
                if piece.more() {
                    copy.set_more();
                }
                Some(copy)
            })
            .collect()
    }
}

/// `bytes` (of one frame at most) in a frame of their own, changed by `change`.
fn sealed_copy(pool: &Pool, bytes: &[u8], change: impl FnOnce(&mut [u8])) -> Option<Sealed> {
    let mut copy = pool.alloc_control()?;
    // What is too long for behind the head-room goes into it.
    let (front, back) = bytes.split_at(bytes.len().saturating_sub(copy.capacity()));
    copy.put_slice(back).ok()?;
    copy.prepend_slice(front).ok()?;
    change(copy.as_mut_slice());
    copy.seal().ok()
}
