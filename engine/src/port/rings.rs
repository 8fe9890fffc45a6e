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
    /// If other sockets use the pool too.
    share: Option<Share>,
    pub(super) stats: PortStats,
}

/// What of a shared pool this socket's side of the kernel holds.
#[derive(Debug)]
struct Share {
    /// Of each frame how many descriptors are posted here, and [`LENT`].
    held: Box<[u16]>,
    lent: u32,
    lent_max: u32,
}

/// The frame is lent to the kernel through this socket's fill ring. All other bits are a count, which the pool bounds by 4,095.
const LENT: u16 = 1 << 15;

impl Share {
    fn of(&mut self, pool: &Pool, addr: u64) -> Option<&mut u16> {
        self.held.get_mut(pool.frame_of(addr)? as usize)
    }

    fn lend(&mut self, pool: &Pool, addr: u64) {
        if let Some(held) = self.of(pool, addr) {
            *held = LENT;
            self.lent += 1;
        }
    }

    /// The kernel hands up what was lent here; false if it was not.
    fn take_back(&mut self, pool: &Pool, addr: u64) -> bool {
        let Some(held) = self.of(pool, addr).filter(|held| **held == LENT) else { return false };
        *held = 0;
        self.lent -= 1;
        true
    }

    fn post(&mut self, pool: &Pool, addr: u64) {
        if let Some(held) = self.of(pool, addr) {
            *held += 1;
        }
    }

    /// The kernel is done with a descriptor that was posted here; false if there is none.
    fn complete(&mut self, pool: &Pool, addr: u64) -> bool {
        let Some(held) = self.of(pool, addr).filter(|held| **held & !LENT != 0) else { return false };
        *held -= 1;
        true
    }
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
            share: None,
            stats: PortStats::default(),
        }
    }

    /// From the beginning on: the pool is shared with other sockets, so that what the kernel holds must be told apart; and no more than [`lend_at_most`](Self::lend_at_most) is lent.
    pub fn sharing(self) -> Self {
        let held = vec![0; self.pool.capacity() as usize].into_boxed_slice();
        Self { share: Some(Share { held, lent: 0, lent_max: self.fill.size() }), ..self }
    }

    /// Lends no more than so many frames, of a [shared](Self::sharing) pool, and no more than the fill ring takes; returns how many that is.
    pub fn lend_at_most(&mut self, frames: u32) -> u32 {
        let lent_max = frames.min(self.fill.size());
        if let Some(share) = &mut self.share {
            share.lent_max = lent_max;
        }
        lent_max
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
        let addrs = batch.iter().map(|CompAddr(addr)| addr);
        let good = match &mut self.share {
            None => self.pool.complete_all(addrs),
            Some(share) => self.pool.complete_all(addrs.filter(|&addr| share.complete(&self.pool, addr))),
        };
        batch.release();
        self.in_flight = self.in_flight.saturating_sub(good);
        n as usize
    }

    /// See [`Port::refill`](super::Port::refill).
    #[inline]
    pub fn refill(&mut self) -> usize {
        let room = self.fill.free(REFILL_BATCH);
        let room = match &self.share {
            Some(share) => room.min(share.lent_max.saturating_sub(share.lent)),
            None => room,
        };
        if room < REFILL_BATCH {
            return 0;
        }
        let mut reservation = self.fill.reserve(room);
        self.pool.post_fills(reservation.room(), |addr| {
            if let Some(share) = &mut self.share {
                share.lend(&self.pool, addr);
            }
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
        let (mut rx_bytes, mut bad) = (0, 0);
        // No packet is half received.
        let mut between = self.partial.is_none() && !self.skip_rest;
        for desc in batch.iter() {
            let more = desc.options & PKT_CONTD != 0;
            if !more && between {
                match adopt(&self.pool, &mut self.share, desc) {
                    Some(packet) => {
                        rx_bytes += u64::from(desc.len);
                        // Where there is room, nothing can unwind while the packet exists: so it is built in its place.
                        if out.len() < out.capacity() {
                            out.push(packet);
                        } else {
                            push_growing(out, packet);
                        }
                    }
                    None => bad += 1,
                }
                continue;
            }
            let piece = adopt(&self.pool, &mut self.share, desc);
            match piece {
                Some(_) => rx_bytes += u64::from(desc.len),
                None => bad += 1,
            }
            out.extend(join(&mut self.partial, &mut self.skip_rest, piece, more));
            between = self.partial.is_none() && !self.skip_rest;
        }
        batch.release();
        let received = out.len() - before;
        self.stats.rx_bytes += rx_bytes;
        self.stats.rx_bad_descriptors += bad;
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
            if let Some(share) = &mut self.share {
                share.post(&self.pool, addr);
            }
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
        Leftovers { pool: self.pool.clone(), share: self.share.take() }.reclaim()
    }

    /// Unmaps the rings, which keep their socket open, and forgets a half-received packet.
    pub fn unmap(self) -> Leftovers {
        Leftovers { pool: self.pool, share: self.share }
    }
}

#[cold]
fn push_growing(out: &mut Vec<RxBuf>, packet: RxBuf) {
    out.push(packet);
}

/// What a descriptor from the RX ring says was received; `None`: it says nothing that can be true.
#[inline(always)]
fn adopt(pool: &Pool, share: &mut Option<Share>, desc: RxDesc) -> Option<RxBuf> {
    if let Some(share) = share
        && !share.take_back(pool, desc.addr)
    {
        return None;
    }
    pool.adopt_rx(desc.addr, desc.len).ok()
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

/// What the kernel holds when a socket is to be closed.
#[derive(Debug)]
pub struct Leftovers {
    pool: Pool,
    share: Option<Share>,
}

impl Leftovers {
    /// Takes it back; only once the kernel has let go of the socket.
    pub fn reclaim(self) -> u32 {
        let Some(share) = self.share else { return self.pool.reclaim_from_kernel() };
        let mut reclaimed = 0;
        for (frame, held) in (0u32..).zip(share.held) {
            let addr = self.pool.address_of(frame);
            let lent = held & LENT != 0 && self.pool.unfill(addr).is_ok();
            let posted = (0..held & !LENT).filter(|_| self.pool.complete_tx(addr).is_ok()).count();
            reclaimed += u32::from(lent || posted > 0);
        }
        reclaimed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        buf::{HEADROOM_BYTES, PoolConfig},
        port::user::heap_pool,
        ring,
    };

    const LENT_FRAMES: u32 = 48;

    /// A socket's rings and the kernel's ends of them.
    struct Socket {
        rings: Rings,
        rx: Producer<RxDesc>,
        tx: Consumer<TxDesc>,
        fill: Consumer<FillAddr>,
        completion: Producer<CompAddr>,
    }

    fn socket(pool: &Pool) -> Socket {
        let (rx, rx_end) = ring::heap(64, 0);
        let (tx_end, tx) = ring::heap(64, 0);
        let (fill_end, fill) = ring::heap(64, 0);
        let (completion, completion_end) = ring::heap(64, 0);
        let mut rings = Rings::new(pool.clone(), rx_end, tx_end, fill_end, completion_end).sharing();
        assert_eq!(rings.lend_at_most(1000), 64, "as many as the ring takes");
        assert_eq!(rings.lend_at_most(LENT_FRAMES), LENT_FRAMES);
        assert_eq!((rings.refill(), rings.refill()), (LENT_FRAMES as usize, 0));
        Socket { rings, rx, tx, fill, completion }
    }

    impl Socket {
        /// Sends a packet; its address.
        fn send(&mut self) -> u64 {
            let mut buf = self.rings.pool().alloc_tx().expect("a frame");
            buf.put_slice(b"packet").expect("room");
            let mut queue = TxQueue::with_limit(1);
            queue.push(buf.seal().expect("bytes")).expect("room");
            assert_eq!(self.rings.transmit(&mut queue), 1);
            let batch = self.tx.peek(1);
            let TxDesc { addr, .. } = batch.get(0).expect("posted");
            batch.release();
            addr
        }

        fn complete(&mut self, addr: u64) {
            let mut reservation = self.completion.reserve(1);
            reservation.push(CompAddr(addr));
            reservation.commit();
            assert_eq!(self.rings.reap(), 1);
        }

        fn lent(&mut self) -> u64 {
            let batch = self.fill.peek(1);
            let FillAddr(addr) = batch.get(0).expect("lent");
            batch.release();
            addr
        }

        fn receive(&mut self, frame: u64) -> Vec<RxBuf> {
            let mut reservation = self.rx.reserve(1);
            reservation.push(RxDesc { addr: frame + HEADROOM_BYTES as u64, len: 60, options: 0 });
            reservation.commit();
            let mut got = Vec::new();
            self.rings.receive(&mut got, 8);
            got
        }
    }

    #[test]
    fn sockets_on_one_pool_tell_their_frames_apart() {
        let pool = heap_pool(256, 2048, PoolConfig::default()).expect("memory");
        let (mut one, mut other) = (socket(&pool), socket(&pool));
        let (ours, theirs) = (one.send(), other.send());

        // What the kernel has no business with here is refused and stays as it is.
        let frame = other.lent();
        assert!(one.receive(frame).is_empty());
        assert_eq!(one.rings.stats.rx_bad_descriptors, 1);
        one.complete(theirs);
        assert_eq!((one.rings.in_flight(), other.rings.in_flight()), (1, 1));
        assert_eq!(pool.ledger().kernel_tx, 2);

        // What is received is lent anew, in batches.
        assert_eq!(other.receive(frame).len(), 1);
        assert_eq!(other.rings.refill(), 0);

        // Closing one takes back its own alone.
        assert_eq!(one.rings.unmap().reclaim(), LENT_FRAMES + 1);
        let ledger = pool.ledger();
        assert_eq!(
            (ledger.kernel_tx, ledger.kernel_rx),
            (1, LENT_FRAMES - 1),
            "{ledger:?}; {ours:#x} was posted there"
        );
        other.complete(theirs);
        assert_eq!(other.rings.unmap().reclaim(), LENT_FRAMES - 1);
        assert!(pool.ledger().is_whole());
        assert_eq!(pool.free(), pool.capacity());
    }
}
