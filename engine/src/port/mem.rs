//! An in-memory link: the same rings and pools as with AF_XDP, and a [`Nic`] in the kernel's place.
//!
//! [`link`] joins two ports back to back: a kick carries what one has posted into frames that the other has lent, as veth does
//! in the kernel. [`port`] gives a single port and its [`Nic`], for tests and benchmarks that play the wire themselves. The copy from frame to frame is the
//! wire's; it is not one of the engine's.

use super::{CopyMode, DriverMode, Kick, MacAddr, Port, PortError, PortInfo, PortStats, Rings};
use crate::{
    buf::{HEADROOM_BYTES, Pool, RxBuf, TxQueue},
    ring::{self, CompAddr, Consumer, FillAddr, PKT_CONTD, Producer, RxDesc, TxDesc},
    time::{Duration, Instant},
};
use std::{cell::RefCell, rc::Rc};

/// Ethernet header and one 802.1Q tag beyond the MTU.
const LINK_HEADER_BYTES_MAX: usize = 18;

/// What a port on an in-memory link is like.
#[derive(Clone, Debug)]
pub struct MemConfig {
    /// A name for messages.
    pub name: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Largest Ethernet payload, in bytes.
    pub mtu: usize,
    /// Entries of each ring, a power of two.
    pub ring_entries: u32,
    /// Most descriptors of one packet; 1: no multi-buffer.
    pub tx_pieces_max: usize,
}

impl MemConfig {
    /// MTU 1500, rings of 1,024, no multi-buffer.
    pub fn new(name: &str, mac: MacAddr) -> Self {
        Self { name: name.into(), mac, mtu: 1500, ring_entries: 1024, tx_pieces_max: 1 }
    }
}

/// Counts of the wire's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NicStats {
    /// Packets put into the RX ring.
    pub delivered: u64,
    /// Packets dropped because the fill ring was empty or the RX ring full.
    pub dropped_no_room: u64,
    /// Packets dropped because they were longer than the link carries, or their descriptors bad.
    pub dropped_invalid: u64,
}

/// The kernel's ends of a port's rings.
#[derive(Debug)]
pub struct Nic {
    pool: Pool,
    rx: Producer<RxDesc>,
    tx: Consumer<TxDesc>,
    fill: Consumer<FillAddr>,
    completion: Producer<CompAddr>,
    mtu: usize,
    scratch: Vec<u8>,
    /// Counts so far.
    pub stats: NicStats,
}

impl Nic {
    /// Delivers a packet to the port, as if it came from the wire; false if it was dropped (counted).
    #[inline]
    pub fn inject(&mut self, packet: &[u8]) -> bool {
        if packet.len() > self.mtu + LINK_HEADER_BYTES_MAX {
            self.stats.dropped_invalid += 1;
            return false;
        }
        let room = self.pool.chunk_bytes() - HEADROOM_BYTES;
        if packet.len() > room {
            return self.inject_pieces(packet, room);
        }
        let fill = self.fill.peek(1);
        let mut rx = self.rx.reserve(1);
        let (Some(FillAddr(addr)), 1) = (fill.get(0), rx.room()) else {
            self.stats.dropped_no_room += 1;
            return false;
        };
        let addr = addr + HEADROOM_BYTES as u64;
        if self.pool.kernel_write(addr, packet).is_err() {
            self.stats.dropped_invalid += 1;
            return false;
        }
        rx.push(RxDesc { addr, len: packet.len() as u32, options: 0 });
        fill.release();
        rx.commit();
        self.stats.delivered += 1;
        true
    }

    /// A packet longer than one frame holds.
    fn inject_pieces(&mut self, packet: &[u8], room: usize) -> bool {
        let pieces = packet.len().div_ceil(room) as u32;
        let fill = self.fill.peek(pieces);
        let mut rx = self.rx.reserve(pieces);
        if fill.len() < pieces || rx.room() < pieces {
            self.stats.dropped_no_room += 1;
            return false;
        }
        let mut rest = packet;
        for FillAddr(addr) in fill.iter() {
            let (now, later) = rest.split_at(rest.len().min(room));
            rest = later;
            let addr = addr + HEADROOM_BYTES as u64;
            if self.pool.kernel_write(addr, now).is_err() {
                self.stats.dropped_invalid += 1;
                return false;
            }
            let options = if rest.is_empty() { 0 } else { PKT_CONTD };
            rx.push(RxDesc { addr, len: now.len() as u32, options });
        }
        fill.release();
        rx.commit();
        self.stats.delivered += 1;
        true
    }

    /// Takes the next packet that the port has posted, and completes it; `None` if there is no whole one.
    pub fn take(&mut self) -> Option<&[u8]> {
        self.scratch.clear();
        let batch = self.tx.peek(u32::MAX);
        let count = batch.iter().position(|desc| desc.options & PKT_CONTD == 0)? as u32 + 1;
        let mut completion = self.completion.reserve(count);
        if completion.room() < count {
            return None;
        }
        for desc in batch.iter().take(count as usize) {
            if self.pool.kernel_read(desc.addr, desc.len, &mut self.scratch).is_err() {
                self.stats.dropped_invalid += 1;
            }
            completion.push(CompAddr(desc.addr));
        }
        batch.release_first(count);
        completion.commit();
        Some(&self.scratch)
    }

    /// Takes and completes everything that the port has posted without looking at it; returns how many descriptors.
    pub fn swallow(&mut self) -> usize {
        let batch = self.tx.peek(u32::MAX);
        let mut completion = self.completion.reserve(batch.len());
        let n = completion.room();
        for desc in batch.iter().take(n as usize) {
            completion.push(CompAddr(desc.addr));
        }
        batch.release_first(n);
        completion.commit() as usize
    }

    /// Takes posted packets from `self` and delivers them to `to`, at most `limit`.
    pub fn carry(&mut self, to: &mut Self, limit: usize) -> usize {
        let mut carried = 0;
        while carried < limit {
            let whole = self.carry_whole(to, limit - carried);
            carried += whole;
            // What comes next, if anything does, is in pieces.
            if carried == limit || !self.carry_next(to) {
                break;
            }
            carried += 1;
        }
        carried
    }

    /// As [`carry`](Self::carry), up to the first packet that has several pieces on this side or would have on the other: each is copied from frame to frame.
    fn carry_whole(&mut self, to: &mut Self, limit: usize) -> usize {
        let bytes_max = (self.mtu.min(to.mtu) + LINK_HEADER_BYTES_MAX).min(to.pool.chunk_bytes() - HEADROOM_BYTES);
        let posted = self.tx.peek(u32::try_from(limit).unwrap_or(u32::MAX));
        let mut completed = self.completion.reserve(posted.len());
        let lent = to.fill.peek(posted.len());
        let mut delivered = to.rx.reserve(lent.len());
        let (mut carried, mut filled) = (0, 0);
        for TxDesc { addr, len, options } in posted.iter() {
            if options & PKT_CONTD != 0 || len as usize > bytes_max || completed.room() == 0 {
                break;
            }
            carried += 1;
            completed.push(CompAddr(addr));
            let room = delivered.room() > 0;
            let Some(FillAddr(frame)) = lent.get(filled).filter(|_| room) else {
                to.stats.dropped_no_room += 1;
                continue;
            };
            let to_addr = frame + HEADROOM_BYTES as u64;
            match self.pool.kernel_copy(addr, len, &to.pool, to_addr) {
                Ok(()) => {
                    delivered.push(RxDesc { addr: to_addr, len, options: 0 });
                    filled += 1;
                }
                Err(_) => self.stats.dropped_invalid += 1,
            }
        }
        posted.release_first(carried);
        completed.commit();
        lent.release_first(filled);
        to.stats.delivered += u64::from(delivered.commit());
        carried as usize
    }

    /// Takes one packet, whatever its pieces, and delivers it; false if there is no whole one.
    fn carry_next(&mut self, to: &mut Self) -> bool {
        let mtu = self.mtu;
        let Some(packet) = self.take() else { return false };
        if packet.len() <= mtu + LINK_HEADER_BYTES_MAX {
            to.inject(packet);
        } else {
            to.stats.dropped_invalid += 1;
        }
        true
    }
}

/// A port whose wire is a [`Nic`].
#[derive(Debug)]
pub struct MemPort {
    info: PortInfo,
    rings: Rings,
    nic: Rc<RefCell<Nic>>,
    peer: Option<Rc<RefCell<Nic>>>,
}

/// A single port and its wire side.
pub fn port(pool: &Pool, config: MemConfig) -> (MemPort, Rc<RefCell<Nic>>) {
    let (rx_producer, rx) = ring::heap(config.ring_entries, 0);
    let (tx, tx_consumer) = ring::heap(config.ring_entries, 0);
    let (fill, fill_consumer) = ring::heap(config.ring_entries, 0);
    let (completion_producer, completion) = ring::heap(config.ring_entries, 0);
    let nic = Rc::new(RefCell::new(Nic {
        pool: pool.clone(),
        rx: rx_producer,
        tx: tx_consumer,
        fill: fill_consumer,
        completion: completion_producer,
        mtu: config.mtu,
        scratch: Vec::with_capacity(config.mtu + LINK_HEADER_BYTES_MAX),
        stats: NicStats::default(),
    }));
    let info = PortInfo {
        name: config.name,
        kind: "mem",
        mac: config.mac,
        mtu: config.mtu,
        queue: 0,
        driver: DriverMode::None,
        copy: CopyMode::ZeroCopy,
        tx_pieces_max: config.tx_pieces_max.max(1),
        napi_thread: false,
        fallback: None,
    };
    let rings = Rings::new(pool.clone(), rx, tx, fill, completion);
    (MemPort { info, rings, nic: nic.clone(), peer: None }, nic)
}

/// Two ports back to back.
pub fn link(pool_a: &Pool, a: MemConfig, pool_b: &Pool, b: MemConfig) -> (MemPort, MemPort) {
    let (mut a, nic_a) = port(pool_a, a);
    let (mut b, nic_b) = port(pool_b, b);
    a.peer = Some(nic_b);
    b.peer = Some(nic_a);
    (a, b)
}

impl Port for MemPort {
    fn info(&self) -> &PortInfo {
        &self.info
    }

    fn reap(&mut self) -> usize {
        self.rings.reap()
    }

    fn refill(&mut self) -> usize {
        self.rings.refill()
    }

    fn receive(&mut self, _now: Instant, out: &mut Vec<RxBuf>, max: usize) -> usize {
        self.rings.receive(out, max)
    }

    fn transmit(&mut self, _now: Instant, queue: &mut TxQueue) -> usize {
        self.rings.transmit(queue)
    }

    fn kick(&mut self) -> Result<Kick, PortError> {
        if let Some(peer) = &self.peer {
            self.nic.borrow_mut().carry(&mut peer.borrow_mut(), usize::MAX);
        }
        Ok(if self.rings.tx_outstanding() == 0 { Kick::Idle } else { Kick::Pending })
    }

    fn stats(&self) -> PortStats {
        self.rings.stats
    }

    fn close(&mut self, _patience: Duration) {
        self.nic.borrow_mut().swallow();
        self.rings.reap();
        self.rings.reclaim();
    }
}
