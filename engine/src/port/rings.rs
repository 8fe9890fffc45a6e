//! The four rings and the pool behind them: what `xsk` and `mem` have in common.

use super::PortStats;
use crate::{
    buf::{Pool, RxBuf, TxQueue},
    ring::{CompAddr, Consumer, FillAddr, PKT_CONTD, Producer, RxDesc, TxDesc},
};

/// Descriptors handled at a time by [`Rings::refill`]: below this much room it waits, so that the shared index moves once a batch.
const REFILL_BATCH: u32 = 32;

/// One socket's rings, seen from the engine's side.
#[derive(Debug)]
pub struct Rings {
    pool: Pool,
    rx: Consumer<RxDesc>,
    tx: Producer<TxDesc>,
    fill: Producer<FillAddr>,
    completion: Consumer<CompAddr>,
    /// The packet whose last piece has not come yet.
    partial: Option<RxBuf>,
    /// The rest of a packet that lost a piece is to be dropped.
    skip_rest: bool,
    /// Descriptors posted and not completed.
    in_flight: u32,
    pub(super) stats: PortStats,
}

impl Rings {
    /// Puts rings and pool together.
    pub fn new(
        pool: Pool,
        rx: Consumer<RxDesc>,
        tx: Producer<TxDesc>,
        fill: Producer<FillAddr>,
        completion: Consumer<CompAddr>,
    ) -> Self {
        pool.set_lent_frames(fill.size());
        Self {
            pool,
            rx,
            tx,
            fill,
            completion,
            partial: None,
            skip_rest: false,
            in_flight: 0,
            stats: PortStats::default(),
        }
    }

    /// The frames' pool.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Descriptors posted and not completed.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// The kernel asks to be woken for the TX ring.
    #[inline]
    pub fn tx_needs_wakeup(&self) -> bool {
        self.tx.needs_wakeup()
    }

    /// The kernel asks to be woken for the fill ring.
    #[inline]
    pub fn fill_needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }

    /// Descriptors that the kernel has not taken from the TX ring.
    pub fn tx_outstanding(&mut self) -> u32 {
        self.tx.outstanding()
    }

    /// See [`Port::reap`](super::Port::reap).
    #[inline]
    pub fn reap(&mut self) -> usize {
        if self.in_flight == 0 {
            return 0;
        }
        let batch = self.completion.peek(u32::MAX);
        let n = batch.len();
        if n == 0 {
            return 0;
        }
        // A bad address is counted by the pool.
        let good = self.pool.complete_all(batch.iter().map(|CompAddr(addr)| addr));
        batch.release();
        self.in_flight = self.in_flight.saturating_sub(good);
        n as usize
    }

    /// See [`Port::refill`](super::Port::refill).
    #[inline]
    pub fn refill(&mut self) -> usize {
        let room = self.fill.free(REFILL_BATCH);
        if room < REFILL_BATCH {
            return 0;
        }
        let mut reservation = self.fill.reserve(room);
        self.pool.post_fills(reservation.room(), |addr| {
            reservation.push(FillAddr(addr));
        });
        reservation.commit() as usize
    }

    /// See [`Port::receive`](super::Port::receive).
    #[inline]
    pub fn receive(&mut self, out: &mut Vec<RxBuf>, max: usize) -> usize {
        let batch = self.rx.peek(u32::try_from(max).unwrap_or(u32::MAX));
        if batch.is_empty() {
            return 0;
        }
        let before = out.len();
        let mut rx_bytes = 0;
        // No packet is half received.
        let mut between = self.partial.is_none() && !self.skip_rest;
        for desc in batch.iter() {
            let more = desc.options & PKT_CONTD != 0;
            let piece = self.pool.adopt_rx(desc.addr, desc.len);
            rx_bytes += if piece.is_ok() { u64::from(desc.len) } else { 0 };
            match piece {
                Ok(piece) if between && !more => out.push(piece),
                piece => {
                    self.stats.rx_bad_descriptors += u64::from(piece.is_err());
                    out.extend(join(&mut self.partial, &mut self.skip_rest, piece.ok(), more));
                    between = self.partial.is_none() && !self.skip_rest;
                }
            }
        }
        batch.release();
        let received = out.len() - before;
        self.stats.rx_bytes += rx_bytes;
        self.stats.rx_packets += received as u64;
        received
    }

    /// See [`Port::transmit`](super::Port::transmit).
    #[inline]
    pub fn transmit(&mut self, queue: &mut TxQueue) -> usize {
        if queue.is_empty() {
            return 0;
        }
        let wanted = u32::try_from(queue.len()).unwrap_or(u32::MAX);
        let room = self.tx.free(wanted);
        let n = queue.whole_packets(room as usize);
        if n == 0 {
            if room == self.tx.size() {
                self.drop_unsendable(queue);
            }
            return 0;
        }
        let mut reservation = self.tx.reserve(n as u32);
        let (mut tx_bytes, mut tx_packets) = (0, 0);
        queue.post_first(n, |addr, len, more| {
            tx_bytes += u64::from(len);
            tx_packets += u64::from(!more);
            reservation.push(TxDesc { addr, len, options: u32::from(more) * PKT_CONTD });
        });
        let posted = reservation.commit();
        self.stats.tx_bytes += tx_bytes;
        self.stats.tx_packets += tx_packets;
        self.in_flight += posted;
        posted as usize
    }

    /// The first packet has more pieces than the whole ring.
    #[cold]
    fn drop_unsendable(&mut self, queue: &mut TxQueue) {
        while queue.pop().is_some_and(|piece| piece.more()) {}
        self.stats.tx_unsendable += 1;
    }

    /// Forgets a half-received packet and takes back what the kernel still holds; only once the kernel has let go of the socket.
    pub fn reclaim(&mut self) -> u32 {
        self.partial = None;
        self.in_flight = 0;
        self.pool.reclaim_from_kernel()
    }
}

/// Puts the next piece (none: its descriptor was bad) behind those that came before; the packet, if that was its last. A packet that lost a piece is dropped.
#[inline(never)]
fn join(partial: &mut Option<RxBuf>, skip_rest: &mut bool, piece: Option<RxBuf>, more: bool) -> Option<RxBuf> {
    let Some(piece) = piece else {
        (*partial, *skip_rest) = (None, more);
        return None;
    };
    if *skip_rest {
        *skip_rest = more;
        return None;
    }
    let packet = match partial.take() {
        None => piece,
        Some(mut head) => {
            head.append(piece).ok()?;
            head
        }
    };
    if !more {
        return Some(packet);
    }
    *partial = Some(packet);
    None
}
