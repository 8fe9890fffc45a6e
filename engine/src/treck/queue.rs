//! One queue of an interface: its port, what came in there, and which worker it is dealt to.

use super::interface::Interface;
#[cfg(feature = "af-xdp")]
use crate::port::xsk::{Kicked, Kicker, XskPort};
use crate::{
    buf::{RxBuf, TxQueue},
    port::{Kick, Port, PortError, user::UserPort},
    time::{Duration, Instant},
    wire::{ethernet, ipv4},
};
#[cfg(feature = "af-xdp")]
use smallvec::SmallVec;
use std::{
    cell::{Cell, RefCell},
    ops::BitOrAssign,
};

/// Sent frames that a driver may hold.
pub(super) const HELD_FRAMES_MAX: usize = 256;
/// A driver that holds this many and has never said that one is done with is taken for one that is done when its `send` returns.
const QUIET_HELD_FRAMES: usize = HELD_FRAMES_MAX / 2;

/// Descriptors that wait for one of several queues: more would only wait here and not in the interface's own queue.
const OUTBOX_PIECES: usize = 256;

/// Where a queue's frames come from and go to.
#[derive(Debug)]
pub(super) enum Link {
    User(Box<UserPort>),
    #[cfg(feature = "af-xdp")]
    Xdp(Box<XskPort>),
}

impl Link {
    pub(super) fn port(&mut self) -> &mut dyn Port {
        match self {
            Self::User(port) => port.as_mut(),
            #[cfg(feature = "af-xdp")]
            Self::Xdp(port) => port.as_mut(),
        }
    }

    pub(super) fn close(&mut self, patience: Duration) {
        self.port().close(patience);
    }

    /// Posts what waits in `egress`, and wakes the kernel if it wants to be: now, or when the worker runs its errands. (descriptors posted, kick)
    #[inline(always)]
    fn send(
        &mut self,
        now: Instant,
        interface: &Interface,
        egress: &mut TxQueue,
        at: Place,
        errands: Option<&mut Errands>,
    ) -> Result<(usize, Kick), PortError> {
        let _ = (at, &errands);
        match self {
            // There is nobody to wake.
            Self::User(port) => Ok((feed(port, now, interface, egress), Kick::Idle)),
            #[cfg(feature = "af-xdp")]
            Self::Xdp(port) => {
                let sent = port.transmit(now, egress);
                let Some(errands) = errands else { return Ok((sent, port.kick()?)) };
                let (kick, kicker) = port.kick_later();
                errands.due.extend(kicker.map(|kicker| (at, kicker)));
                Ok((sent, kick))
            }
        }
    }
}

/// Hands over what waits; returns the number of descriptors.
#[inline(always)]
fn feed(port: &mut UserPort, now: Instant, interface: &Interface, egress: &mut TxQueue) -> usize {
    let sent = port.transmit(now, egress);
    // See `QUIET_HELD_FRAMES`.
    if port.held_frames() >= QUIET_HELD_FRAMES && !interface.completes() {
        port.send_completer().send_complete(port.held_frames() as u32);
    }
    sent
}

/// What was done, with one queue or in a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Something.
    pub(super) worked: bool,
    /// A device neither took nor finished any of the packets that it has to send. Nobody says when it can again.
    pub(super) stuck: bool,
}

impl Done {
    /// There was, or is, something to do.
    pub(super) fn any(self) -> bool {
        self.worked || self.stuck
    }
}

impl BitOrAssign for Done {
    fn bitor_assign(&mut self, other: Self) {
        self.worked |= other.worked;
        self.stuck |= other.stuck;
    }
}

/// A queue's interface and its number there.
pub(super) type Place = (usize, usize);

/// Whose queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    All,
    /// Those that are dealt to this worker.
    Of(usize),
}

impl Share {
    pub(super) fn has(self, queue: &Queue) -> bool {
        match self {
            Self::All => true,
            Self::Of(worker) => queue.worker.get() == worker,
        }
    }
}

/// System calls for a worker's queues, put off until it has left the gate.
#[derive(Debug, Default)]
pub(super) struct Errands {
    #[cfg(feature = "af-xdp")]
    due: SmallVec<[(Place, Kicker); 4]>,
    #[cfg(feature = "af-xdp")]
    done: SmallVec<[(Place, Kicked); 4]>,
}

#[cfg(feature = "af-xdp")]
impl Errands {
    /// To be called outside the gate.
    pub(super) fn run(&mut self) {
        self.done.extend(self.due.drain(..).map(|(at, kicker)| (at, kicker.run())));
    }

    pub(super) fn are_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// What became of those that were run.
    pub(super) fn told(&mut self) -> impl Iterator<Item = (Place, Kicked)> {
        self.done.drain(..)
    }
}

/// Without AF_XDP there are none.
#[cfg(not(feature = "af-xdp"))]
impl Errands {
    pub(super) fn run(&mut self) {}

    pub(super) fn are_due(&self) -> bool {
        false
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    link: RefCell<Link>,
    /// Taken from the port, not yet handled.
    received: RefCell<Vec<RxBuf>>,
    /// Of an interface with several queues: what goes out here.
    outbox: Option<RefCell<TxQueue>>,
    /// The device has sent something, or more of it, since this was last asked.
    completed: Cell<bool>,
    pub(super) worker: Cell<usize>,
}

impl Queue {
    /// An interface's queues.
    pub(super) fn of(links: Vec<Link>) -> Vec<Self> {
        let many = links.len() > 1;
        let queue = |link| Self {
            link: RefCell::new(link),
            received: RefCell::default(),
            outbox: many.then(|| RefCell::new(TxQueue::with_limit(OUTBOX_PIECES))),
            completed: Cell::new(false),
            worker: Cell::new(0),
        };
        links.into_iter().map(queue).collect()
    }

    /// Runs `f` on the port; `None` if a function of its driver's is just running.
    pub(super) fn with_link<R>(&self, f: impl FnOnce(&mut Link) -> R) -> Option<R> {
        self.link.try_borrow_mut().ok().map(|mut link| f(&mut link))
    }

    pub(super) fn into_link(self) -> Link {
        self.link.into_inner()
    }

    /// Takes what the port has received, so that up to `at_most` packets wait to be handled; true if any does.
    pub(super) fn pull(&self, now: Instant, at_most: usize) -> bool {
        let Ok(mut received) = self.received.try_borrow_mut() else { return false };
        let room = at_most.saturating_sub(received.len());
        self.with_link(|link| {
            let port = link.port();
            if port.reap() > 0 {
                self.completed.set(true);
            }
            port.refill();
            port.receive(now, &mut received, room);
        });
        !received.is_empty()
    }

    /// Hands what was [pulled](Self::pull) to `f`, if there is anything and it is not just being handled.
    pub(super) fn handle_received(&self, f: impl FnOnce(&mut Vec<RxBuf>)) -> bool {
        match self.received.try_borrow_mut() {
            Ok(mut received) if !received.is_empty() => {
                f(&mut received);
                true
            }
            _ => false,
        }
    }

    /// The device has sent something since [`send`](Self::send).
    pub(super) fn has_completed(&self) -> bool {
        self.completed.get()
    }

    /// Something waits to be sent on this queue alone.
    pub(super) fn has_mail(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.try_borrow().is_ok_and(|outbox| !outbox.is_empty()))
    }

    /// Posts what waits, in `egress` or, of one of several queues, in its own box, and wakes the kernel.
    ///
    /// # Errors
    /// The port is broken for good.
    #[inline(always)]
    pub(super) fn send(
        &self,
        now: Instant,
        interface: &Interface,
        egress: &mut TxQueue,
        at: Place,
        errands: Option<&mut Errands>,
    ) -> Result<Done, PortError> {
        let Ok(mut link) = self.link.try_borrow_mut() else { return Ok(Done::default()) };
        let (sent, kick) = match self.outbox.as_ref().map(RefCell::try_borrow_mut) {
            None => link.send(now, interface, egress, at, errands)?,
            Some(Ok(mut outbox)) => link.send(now, interface, &mut outbox, at, errands)?,
            Some(Err(_)) => return Ok(Done::default()),
        };
        let (pending, completed) = (kick == Kick::Pending, self.completed.replace(false));
        Ok(Done { worked: sent > 0 || (pending && completed), stuck: pending && !completed })
    }
}

impl Queue {
    /// As [`send`](Self::send) of an interface's only queue, if the driver is the application's and is not just running; false: nothing was done.
    #[inline(always)]
    pub(super) fn feed(&self, now: Instant, interface: &Interface, egress: &mut TxQueue) -> bool {
        match self.link.try_borrow_mut().as_deref_mut() {
            Ok(Link::User(port)) => {
                feed(port, now, interface, egress);
                true
            }
            _ => false,
        }
    }
}

/// Deals packets to several queues' boxes as far as there is room: all of a flow to the same, so that they stay in order.
pub(super) fn spread(egress: &mut TxQueue, queues: &[Queue]) {
    loop {
        let Some(flow) = egress.iter().next().map(|first| flow_of(first.as_slice())) else { return };
        let Some(queue) = queues.get(flow as usize % queues.len().max(1)) else { return };
        let Some(Ok(mut outbox)) = queue.outbox.as_ref().map(RefCell::try_borrow_mut) else { return };
        let pieces = egress.iter().take_while(|piece| piece.more()).count() + 1;
        if outbox.room() < pieces {
            return;
        }
        for _ in 0..pieces {
            let Some(piece) = egress.pop() else { return };
            // There is room.
            let _ = outbox.push(piece);
        }
    }
}

/// A number that all packets of a flow share. Fragments have no ports but the first, so those of a datagram go by its addresses.
fn flow_of(frame: &[u8]) -> u32 {
    const FRAGMENT: u16 = 0x3fff;
    let be16 = |at: usize| frame.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let be32 = |at: usize| u32::from(be16(at)) << 16 | u32::from(be16(at + 2));
    if be16(12) != ethernet::ethertype::IPV4 {
        return 0;
    }
    let ip = ethernet::HEADER_BYTES;
    let header_bytes = usize::from(frame.get(ip).map_or(0, |byte| byte & 0xf)) * 4;
    let protocol = frame.get(ip + 9).copied().unwrap_or(0);
    let has_ports = matches!(protocol, ipv4::protocol::TCP | ipv4::protocol::UDP) && be16(ip + 6) & FRAGMENT == 0;
    let ports = if has_ports { be32(ip + header_bytes) } else { 0 };
    // Multiplicative hashing: the upper bits of the product depend on all of the factors' (Knuth, volume 3, section 6.4).
    let mix = |hash: u32, word: u32| (hash ^ word).wrapping_mul(0x9e37_79b1).rotate_left(15);
    mix(mix(mix(u32::from(protocol), be32(ip + 12)), be32(ip + 16)), ports) >> 8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 frame of `protocol` with these ports behind an IP header of `words` words.
    fn frame(protocol: u8, words: u8, fragment: u16, ports: (u16, u16)) -> Vec<u8> {
        let mut frame = vec![0; ethernet::HEADER_BYTES];
        frame[12..14].copy_from_slice(&ethernet::ethertype::IPV4.to_be_bytes());
        let mut header = vec![0; usize::from(words) * 4];
        header[0] = 0x40 | words;
        header[6..8].copy_from_slice(&fragment.to_be_bytes());
        header[9] = protocol;
        header[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(header);
        frame.extend(ports.0.to_be_bytes());
        frame.extend(ports.1.to_be_bytes());
        frame
    }

    #[test]
    fn flows_are_told_apart_and_packets_of_one_are_not() {
        let udp = ipv4::protocol::UDP;
        let of = |ports| flow_of(&frame(udp, 5, 0x4000, ports));
        assert_eq!(of((1, 2)), of((1, 2)));
        // Options make no difference.
        assert_eq!(of((1, 2)), flow_of(&frame(udp, 7, 0, (1, 2))));
        let mut by_queue = [0; 4];
        (0..1_000).for_each(|port| by_queue[of((port, 7)) as usize % 4] += 1);
        assert!(by_queue.iter().all(|&flows| flows > 200), "{by_queue:?}");
        // What stands where ports would be in a fragment is data, and in ICMP something else.
        for (protocol, fragment) in [(udp, 0x2000), (udp, 0x00b9), (ipv4::protocol::ICMP, 0)] {
            let [one, other] = [(1, 2), (3, 4)].map(|ports| flow_of(&frame(protocol, 5, fragment, ports)));
            assert_eq!(one, other, "{protocol} {fragment:#x}");
        }
        // Not IPv4, or cut off.
        assert_eq!(flow_of(&[0; 60]), 0);
        let whole = frame(udp, 5, 0, (1, 2));
        (0..whole.len()).for_each(|len| _ = flow_of(&whole[..len]));
    }
}
