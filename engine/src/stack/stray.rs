//! Packets that came in on another worker's queue.
//!
//! A device chooses the queue by a hash or a rule of its own. What belongs to a connection follows the packet that began it, but the answer to what *we* begin
//! may come in anywhere, ICMP errors too, and a device may change its mind. So a packet that this stack knows nothing of goes, copied, to all other
//! workers; the last of them that does not know it either answers as a single stack would. Of the stack this takes a list; carrying the packets is `runtime`'s.

use super::{Stack, ingress::Group};
use crate::{
    buf::RxBuf,
    proto::{IfaceId, rate::TokenBucket},
    time::Instant,
    wire::ipv4,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Packets handed over in a second and at once: they are copied, and each costs every worker something.
const PER_S: u32 = 100_000;
const BURST: u32 = 1_000;

/// A packet that its finder knows nothing of.
#[derive(Debug)]
pub struct Stray {
    /// The link that it came in on; all workers number theirs alike.
    iface: IfaceId,
    /// From its IPv4 header on.
    packet: Box<[u8]>,
    /// Workers that have not looked at it.
    unasked: AtomicUsize,
}

/// What a stack that has siblings keeps.
#[derive(Debug)]
pub(super) struct Strays {
    siblings: usize,
    found: Vec<Arc<Stray>>,
    limit: TokenBucket,
    /// The one that is looked at now, found by another worker.
    visiting: Option<Arc<Stray>>,
}

impl Stack {
    /// From now on keeps for [`take_strays`](Self::take_strays) what may be one of `siblings` other workers'.
    pub fn share_strays(&mut self, siblings: usize) {
        let limit = TokenBucket::new(PER_S, BURST);
        self.strays = (siblings > 0).then(|| Strays { siblings, found: Vec::new(), limit, visiting: None });
    }

    /// Something was found since the last [`take_strays`](Self::take_strays).
    #[inline]
    pub fn has_strays(&self) -> bool {
        self.strays.as_ref().is_some_and(|strays| !strays.found.is_empty())
    }

    /// What was found since the last call, oldest first; every sibling is to hear of each.
    pub fn take_strays(&mut self) -> Vec<Arc<Stray>> {
        self.strays.as_mut().map(|strays| std::mem::take(&mut strays.found)).unwrap_or_default()
    }

    /// Looks at a packet that another worker found.
    pub fn hear_stray(&mut self, now: Instant, stray: &Arc<Stray>) {
        self.set_now(now);
        let Stray { iface, packet, .. } = &**stray;
        if self.strays.is_none() || usize::from(iface.0) >= self.ifaces.len() {
            return;
        }
        let Ok(header) = ipv4::Header::parse(packet, packet.len()) else { return };
        let Some(copy) = self.pool.rx_from_bytes(packet) else {
            self.counters.drop_stray += 1;
            return;
        };
        self.visit(Some(Arc::clone(stray)));
        self.handle_transport(*iface, &header, 0, copy, Group::Unicast);
        self.visit(None);
    }

    fn visit(&mut self, stray: Option<Arc<Stray>>) {
        if let Some(strays) = &mut self.strays {
            strays.visiting = stray;
        }
    }

    /// The packet at hand was found by another worker.
    pub(super) fn is_visiting(&self) -> bool {
        self.strays.as_ref().is_some_and(|strays| strays.visiting.is_some())
    }

    /// This stack knows nothing of `packet`, which begins behind `headers_len` bytes (0: they are lost). True if that is for others to say.
    pub(super) fn hand_over(&mut self, iface: IfaceId, headers_len: usize, packet: &mut RxBuf) -> bool {
        let Some(strays) = &mut self.strays else { return false };
        if let Some(stray) = &strays.visiting {
            // Nothing else is ordered by this count.
            return stray.unasked.fetch_sub(1, Ordering::Relaxed) > 1;
        }
        if headers_len == 0 {
            return false;
        }
        if !strays.limit.take(self.now) || !packet.retreat(headers_len) {
            self.counters.drop_stray += 1;
            return true;
        }
        let mut bytes = Vec::with_capacity(packet.total_len());
        packet.pieces().for_each(|piece| bytes.extend_from_slice(piece));
        packet.advance(headers_len);
        self.counters.strays_handed_over += 1;
        self.counters.bytes_copied_strays += bytes.len() as u64;
        let unasked = AtomicUsize::new(strays.siblings);
        strays.found.push(Arc::new(Stray { iface, packet: bytes.into(), unasked }));
        true
    }
}
