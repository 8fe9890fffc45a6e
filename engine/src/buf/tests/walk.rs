//! A random walk over all values and transitions, with a model of what each must contain.

use super::*;
use std::collections::HashMap;

const CHUNK: u64 = 2048;

/// A value and the bytes it must show.
type With<T> = Vec<(T, Vec<u8>)>;

struct Walk {
    pool: Pool,
    random: u64,
    tx: With<TxBuf>,
    rx: With<RxBuf>,
    frozen: With<Frozen>,
    sealed: With<Sealed>,
    kept: With<Retained>,
    sent: With<(u64, u32, bool)>,
    lent: Vec<u64>,
    bad: u64,
}

impl Walk {
    fn below(&mut self, n: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % n as u64) as usize
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        let len = self.below(n);
        let tag = self.random as u8;
        (0..len).map(|i| tag.wrapping_add((i / 5) as u8)).collect()
    }

    /// Takes a random one out.
    fn pick<T>(&mut self, from: fn(&mut Self) -> &mut Vec<T>) -> Option<T> {
        let len = from(self).len();
        (len > 0).then(|| {
            let at = self.below(len);
            from(self).swap_remove(at)
        })
    }

    fn step(&mut self) {
        match self.below(24) {
            0 | 1 => {
                let bytes = self.bytes(1793);
                if let Some(mut buf) = if self.below(2) == 0 { self.pool.alloc_tx() } else { self.pool.alloc_control() }
                {
                    buf.put_slice(&bytes).unwrap();
                    self.tx.push((buf, bytes));
                }
            }
            2 => {
                let bytes = self.bytes(20_000);
                if let Some(mut buf) = self.pool.alloc_contiguous(bytes.len()) {
                    buf.put_slice(&bytes).unwrap();
                    self.tx.push((buf, bytes));
                }
            }
            3 => {
                let Some((mut buf, mut bytes)) = self.pick(|w| &mut w.tx) else { return };
                let (from, to) = (self.below(3000), self.below(20_000));
                let chained = buf.total_len() - buf.len();
                let rest = bytes.split_off(bytes.len() - chained);
                buf.advance(from);
                bytes.drain(..from.min(bytes.len()));
                buf.truncate(to);
                bytes.truncate(to);
                bytes.extend(rest);
                self.tx.push((buf, bytes));
            }
            4 => {
                let Some((mut buf, bytes)) = self.pick(|w| &mut w.tx) else { return };
                let header = self.bytes(60);
                match buf.prepend_slice(&header) {
                    Ok(()) => self.tx.push((buf, [header, bytes].concat())),
                    Err(NoSpace) => self.tx.push((buf, bytes)),
                }
            }
            5 => {
                let Some((buf, bytes)) = self.pick(|w| &mut w.tx) else { return };
                let expected = buf.is_single() && !buf.is_empty();
                match buf.seal() {
                    Ok(sealed) => self.sealed.push((sealed, bytes)),
                    Err(buf) => {
                        assert!(!expected);
                        self.tx.push((buf, bytes));
                    }
                }
            }
            6 | 7 => {
                let Some((buf, bytes)) = self.pick(|w| &mut w.tx) else { return };
                let header = [0xaa; 54];
                match buf.seal_retained(&header) {
                    Ok((sealed, kept)) => {
                        self.sealed.push((sealed, [&header[..], &bytes].concat()));
                        self.kept.push((kept, bytes));
                    }
                    Err(buf) => self.tx.push((buf, bytes)),
                }
            }
            8 => {
                let Some((buf, bytes)) = self.pick(|w| &mut w.tx) else { return };
                self.frozen.push((buf.freeze(), bytes));
            }
            9 | 10 => {
                let Some((frozen, bytes)) = self.pick(|w| &mut w.frozen) else { return };
                let (offset, len) = (self.below(bytes.len() + 2), self.below(4000));
                let mut at = offset;
                let sealed = &mut self.sealed;
                let result = frozen.seal_range(offset, len, |piece| {
                    let n = piece.len();
                    sealed.push((piece, bytes[at..at + n].to_vec()));
                    at += n;
                });
                assert_eq!(result.is_ok(), len == 0 || offset + len <= bytes.len());
                assert!(result.is_err() || at == offset + len);
                self.frozen.push((frozen, bytes));
            }
            11 | 12 => {
                let Some((sealed, bytes)) = self.pick(|w| &mut w.sealed) else { return };
                self.sent.push((sealed.post(), bytes));
            }
            13 | 14 => {
                // The kernel completes in any order and may give any address within the frame.
                let Some(((addr, ..), _)) = self.pick(|w| &mut w.sent) else { return };
                let addr = addr / CHUNK * CHUNK + self.below(CHUNK as usize) as u64;
                self.pool.complete_tx(addr).unwrap();
            }
            15 => {
                let Some((kept, bytes)) = self.pick(|w| &mut w.kept) else { return };
                match kept.try_exclusive() {
                    Ok(buf) => self.tx.push((buf, bytes)),
                    Err(kept) => self.kept.push((kept, bytes)),
                }
            }
            16 => {
                let Some((mut kept, mut bytes)) = self.pick(|w| &mut w.kept) else { return };
                let n = self.below(500);
                kept.trim_front(n);
                bytes.drain(..n.min(bytes.len()));
                self.kept.push((kept, bytes));
            }
            17 => self.lent.extend(self.pool.post_fill()),
            18 => {
                let Some(addr) = self.pick(|w| &mut w.lent) else { return };
                let start = self.below(CHUNK as usize);
                let bytes = self.bytes(CHUNK as usize - start + 1);
                let addr = addr + start as u64;
                self.pool.kernel_write(addr, &bytes).unwrap();
                self.rx.push((self.pool.adopt_rx(addr, bytes.len() as u32).unwrap(), bytes));
            }
            19 => {
                let Some((mut head, mut bytes)) = self.pick(|w| &mut w.rx) else { return };
                if let Some((tail, more)) = self.pick(|w| &mut w.rx) {
                    match head.append(tail) {
                        Ok(()) => bytes.extend(more),
                        Err(tail) => self.rx.push((tail, more)),
                    }
                }
                self.rx.push((head, bytes));
            }
            20 => {
                let Some((packet, mut bytes)) = self.pick(|w| &mut w.rx) else { return };
                let (first, rest) = packet.split_first();
                let more = bytes.split_off(first.len());
                self.rx.push((first, bytes));
                self.rx.extend(rest.map(|rest| (rest, more)));
            }
            21 => {
                if self.below(3) == 0 {
                    let Some((buf, bytes)) = self.pick(|w| &mut w.tx) else { return };
                    self.rx.push((buf.into_rx(), bytes));
                } else {
                    let Some((packet, bytes)) = self.pick(|w| &mut w.rx) else { return };
                    self.tx.push((packet.into_tx(), bytes));
                }
            }
            22 => self.lie(),
            _ => match self.below(6) {
                0 => drop(self.pick(|w| &mut w.tx)),
                1 => drop(self.pick(|w| &mut w.rx)),
                2 => drop(self.pick(|w| &mut w.frozen)),
                3 => drop(self.pick(|w| &mut w.sealed)),
                4 => drop(self.pick(|w| &mut w.kept)),
                _ => {
                    if let Some(addr) = self.pick(|w| &mut w.lent) {
                        self.pool.unfill(addr).unwrap();
                    }
                }
            },
        }
    }

    /// The kernel hands back an address that it may not.
    fn lie(&mut self) {
        let addr = match self.below(3) {
            0 => u64::from(self.pool.capacity()) * CHUNK + self.random % 100_000,
            1 => self.random | 1 << 45,
            _ => self.below(self.pool.capacity() as usize * CHUNK as usize) as u64,
        };
        let frame = addr / CHUNK;
        if !self.sent.iter().any(|((sent, ..), _)| sent / CHUNK == frame) {
            assert_eq!(self.pool.complete_tx(addr), Err(BadAddr(addr)));
            self.bad += 1;
        }
        if !self.lent.iter().any(|lent| lent / CHUNK == frame) {
            assert!(self.pool.adopt_rx(addr, 0).is_err() && self.pool.unfill(addr).is_err());
            self.bad += 1;
        } else {
            assert!(self.pool.adopt_rx(addr, CHUNK as u32 + 1).is_err());
            self.bad += 1;
        }
    }

    fn check_ledger(&self) {
        let ledger = self.pool.ledger();
        assert!(ledger.balances(), "{ledger}");
        assert_eq!(ledger.free, self.pool.free());
        assert_eq!(ledger.kernel_rx as usize, self.lent.len());
        let mut on_the_way = HashMap::new();
        for ((addr, ..), _) in &self.sent {
            *on_the_way.entry(addr / CHUNK).or_insert(0) += 1;
        }
        assert_eq!(ledger.kernel_tx as usize, on_the_way.len());
        let counters = self.pool.counters();
        assert_eq!(counters.bad_completions + counters.bad_receives, self.bad);
    }

    fn check_contents(&self) {
        for (buf, bytes) in &self.tx {
            assert_eq!(&joined(buf.pieces()), bytes);
            assert!(buf.frame_count() >= 1);
        }
        for (packet, bytes) in &self.rx {
            assert_eq!(&joined(packet.pieces()), bytes);
        }
        for (frozen, bytes) in &self.frozen {
            assert_eq!(&joined(frozen.pieces()), bytes);
            assert_eq!(frozen.total_len(), bytes.len());
        }
        for (sealed, bytes) in &self.sealed {
            assert_eq!(sealed.as_slice(), bytes);
        }
        for (kept, bytes) in &self.kept {
            assert_eq!(kept.as_slice(), bytes);
        }
        for (posted, bytes) in &self.sent {
            assert_eq!(&on_the_wire(&self.pool, *posted), bytes);
        }
    }
}

#[test]
fn no_sequence_of_operations_loses_doubles_or_overwrites_a_frame() {
    for seed in 1..=24u64 {
        let mut walk = Walk {
            pool: pool(64, (seed % 5) as u32, 24),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            tx: vec![],
            rx: vec![],
            frozen: vec![],
            sealed: vec![],
            kept: vec![],
            sent: vec![],
            lent: vec![],
            bad: 0,
        };
        for step in 0..8_000 {
            walk.step();
            walk.check_ledger();
            if step % 64 == 0 {
                walk.check_contents();
            }
        }
        let Walk { pool, tx, rx, frozen, sealed, kept, sent, lent, .. } = walk;
        drop((tx, rx, frozen, sealed, kept));
        if seed % 2 == 0 {
            pool.reclaim_from_kernel();
        } else {
            sent.iter().for_each(|((addr, ..), _)| pool.complete_tx(*addr).unwrap());
            lent.iter().for_each(|addr| pool.unfill(*addr).unwrap());
        }
        assert_whole(&pool);
    }
}
