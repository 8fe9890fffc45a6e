//! Segments on their way out: what [`Host`] means for a stack.

use super::super::{
    SendError, Stack,
    dest::Destination,
    egress::{IpSend, L4},
};
use crate::{
    buf::{Pool, Retained, TxBuf},
    proto::{
        IfaceId,
        tcp::{Endpoints, Host, IpFields, Spares, Stretch, TcpConfig},
    },
    telemetry::Counters,
    time::Instant,
    wire::{
        checksum, ethernet,
        ipv4::{self, DONT_FRAGMENT},
        seq::SeqNum,
        tcp,
    },
};

/// Most bytes of Ethernet, IPv4 and TCP headers, in whole registers: what a VLAN, timestamps and three SACK blocks take fits, and so does the longest.
const HEADERS_BYTES_MAX: usize = 112;

/// The headers of segments that leave together. Each is a copy of these in which a few fields are its own.
#[derive(Debug)]
pub struct SegmentHeaders {
    /// They end with it.
    block: [u8; HEADERS_BYTES_MAX],
    len: usize,
    tcp_len: usize,
    iface: IfaceId,
    /// The sums of the IPv4 header without payload, and of pseudo-header and TCP header without payload, sequence number and flags.
    ip_sum: u16,
    tcp_sum: u16,
}

impl Default for SegmentHeaders {
    #[inline]
    fn default() -> Self {
        Self { block: [0; HEADERS_BYTES_MAX], len: 0, tcp_len: 0, iface: IfaceId(0), ip_sum: 0, tcp_sum: 0 }
    }
}

/// The IPv4 and the TCP header of a block.
#[inline]
fn parts(
    block: &mut [u8; HEADERS_BYTES_MAX],
    tcp_len: usize,
) -> Option<(&mut [u8; ipv4::HEADER_BYTES], &mut [u8; tcp::HEADER_BYTES])> {
    let (front, segment) = block.split_at_mut_checked(HEADERS_BYTES_MAX.checked_sub(tcp_len)?)?;
    Some((front.last_chunk_mut()?, segment.first_chunk_mut()?))
}

impl SegmentHeaders {
    /// Gives a copy its own fields.
    #[inline(always)]
    fn complete(
        &self,
        block: &mut [u8; HEADERS_BYTES_MAX],
        seq: SeqNum,
        flags: u8,
        payload_len: usize,
        payload_sum: u16,
    ) {
        let Some((network, segment)) = parts(block, self.tcp_len) else { return };
        let total = (ipv4::HEADER_BYTES + self.tcp_len + payload_len) as u16;
        ipv4::patch_len(network, total, u64::from(self.ip_sum) + payload_len as u64);
        let sum = u64::from(self.tcp_sum) + u64::from(payload_sum) + payload_len as u64;
        tcp::patch(segment, seq, flags, sum);
    }
}

impl Host for Stack {
    type Headers = SegmentHeaders;

    fn now(&self) -> Instant {
        self.now
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn config(&self) -> &TcpConfig {
        &self.config.tcp
    }

    #[inline]
    fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    #[inline]
    fn spares(&mut self) -> &mut Spares {
        &mut self.tcp.spares
    }

    #[inline]
    fn books(&mut self) -> (&mut Counters, &mut Spares) {
        (&mut self.counters, &mut self.tcp.spares)
    }

    fn rx_frames_left(&self) -> u32 {
        self.tcp.rx_frames_left()
    }

    fn charge_rx_frames(&mut self, frames: i32) {
        self.tcp.rx_frames = self.tcp.rx_frames.saturating_add_signed(frames);
    }

    fn pieces_max(&self, to: &Endpoints) -> usize {
        let route = self.routes.lookup(*to.remote.ip());
        route.and_then(|route| self.ifaces.get(usize::from(route.iface.0))).map_or(1, |iface| iface.tx_pieces_max)
    }

    fn send_bare(&mut self, to: &Endpoints, ip: IpFields, repr: &tcp::Repr) -> bool {
        let Some(way) = self.remembered_way(*to.remote.ip()) else { return self.send_bare_uncached(to, ip, repr) };
        if self.ifaces[usize::from(way.iface.0)].egress.room() == 0 {
            return false;
        }
        let Some(mut buf) = self.pool.alloc_control() else { return false };
        let Ok(headers) = buf.prepend_room(self.headers_len(&way, repr)) else { return false };
        self.put_headers(headers, to, ip, repr, 0, 0, &way);
        let bytes = buf.len() as u64;
        let pushed = self.ifaces[usize::from(way.iface.0)].egress.push_buf(buf).is_ok();
        debug_assert!(pushed, "there is room");
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += bytes;
        self.counters.tcp_tx_segments += 1;
        true
    }

    #[inline]
    fn write_headers(&mut self, headers: &mut SegmentHeaders, to: &Endpoints, ip: IpFields, repr: &tcp::Repr) -> bool {
        let Some(way) = self.way_to(*to.remote.ip()) else { return false };
        (headers.len, headers.tcp_len, headers.iface) = (self.headers_len(&way, repr), repr.header_len(), way.iface);
        let own = tcp::Repr { seq: SeqNum(0), flags: 0, ..*repr };
        let Some(out) = headers.block.get_mut(HEADERS_BYTES_MAX - headers.len..) else { return false };
        self.put_headers(out, to, ip, &own, 0, 0, &way);
        let Some((network, segment)) = parts(&mut headers.block, headers.tcp_len) else { return false };
        (headers.ip_sum, headers.tcp_sum) = (!ipv4::checksum_of(network), !tcp::checksum_of(segment));
        true
    }

    #[inline(always)]
    fn send_whole(
        &mut self,
        headers: &SegmentHeaders,
        seq: SeqNum,
        flags: u8,
        payload: &mut Option<TxBuf>,
    ) -> Option<Retained> {
        let egress = &mut self.ifaces[usize::from(headers.iface.0)].egress;
        let kept = egress.push_retained(payload, (&headers.block, headers.len), checksum::sum, |block, len, sum| {
            headers.complete(block, seq, flags, len, sum);
        })?;
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += (headers.len + kept.len()) as u64;
        self.counters.tcp_tx_segments += 1;
        Some(kept)
    }

    fn send_pieces(&mut self, to: &Endpoints, ip: IpFields, repr: &tcp::Repr, payload: &[Stretch<'_>]) -> bool {
        let Some(way) = self.way_to(*to.remote.ip()) else { return false };
        let at = usize::from(way.iface.0);
        let len: usize = payload.iter().map(|(_, _, len)| len).sum();
        let pieces: usize = payload.iter().map(|(frozen, from, len)| frozen.count_pieces(*from, *len)).sum();
        let copied = pieces + 1 > self.ifaces[at].tx_pieces_max;
        let descriptors = if copied { 1 } else { pieces + 1 };
        if self.ifaces[at].egress.room() < descriptors {
            return false;
        }
        let Some(mut head) = self.pool.alloc_control() else { return false };
        if copied {
            if head.set_len(len).is_err() {
                // A frame too small for the path's packets, and no scatter-gather: the configuration forbids it.
                self.counters.drop_tx_no_memory += 1;
                return true;
            }
            let mut done = 0;
            for (frozen, from, len) in payload {
                done += frozen.copy_to(*from, &mut head.as_mut_slice()[done..done + len]);
            }
            self.counters.bytes_copied_tx += len as u64;
        }
        let payload_sum =
            checksum::sum_pieces(payload.iter().flat_map(|&(frozen, from, len)| frozen.slices(from, len)));
        let headers_len = self.headers_len(&way, repr);
        let Ok(headers) = head.prepend_room(headers_len) else { return false };
        self.put_headers(headers, to, ip, repr, len, payload_sum, &way);
        let Ok(mut head) = head.seal() else { return false };
        let egress = &mut self.ifaces[at].egress;
        if copied {
            let _pushed = egress.push(head);
        } else {
            // A FIN whose data is acknowledged has none.
            if pieces > 0 {
                head.set_more();
            }
            let room = egress.len();
            let mut pushed = egress.push(head).is_ok();
            let mut left = pieces;
            for (frozen, from, len) in payload {
                pushed &= frozen
                    .seal_range(*from, *len, |mut piece| {
                        left -= 1;
                        if left > 0 {
                            piece.set_more();
                        }
                        // There is room for all: it was counted.
                        let _ = egress.push(piece);
                    })
                    .is_ok();
            }
            if !pushed {
                // A frame with too many descriptors out: later, then.
                egress.truncate(room);
                return false;
            }
        }
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += (headers_len + len) as u64;
        self.counters.tcp_tx_segments += 1;
        true
    }
}

impl Stack {
    /// As [`send_bare`](Host::send_bare), where the way has to be found first: the segment waits for a neighbour that is being asked.
    #[cold]
    fn send_bare_uncached(&mut self, to: &Endpoints, ip: IpFields, repr: &tcp::Repr) -> bool {
        let Some(mut buf) = self.pool.alloc_control() else { return false };
        let mut header = [0; tcp::HEADER_BYTES_MAX];
        let pseudo = pseudo_header(to, repr.header_len());
        let len = repr.write(&mut header, pseudo);
        if buf.put_slice(&header[..len]).is_err() {
            return false;
        }
        let send = IpSend {
            src: Some(*to.local.ip()),
            dst: *to.remote.ip(),
            tos: ip.tos,
            ttl: ip.ttl,
            broadcast: false,
            l4: L4::Ready { protocol: ipv4::protocol::TCP },
        };
        match self.send_ip(send, buf) {
            Ok(()) => {
                self.counters.tcp_tx_segments += 1;
                true
            }
            Err(SendError::WouldBlock(_)) => false,
            // Nobody to send it to: as good as lost on the way.
            Err(_) => {
                self.counters.drop_tx_no_route += 1;
                true
            }
        }
    }

    /// Length of Ethernet, IPv4 and TCP headers, in bytes.
    #[inline]
    fn headers_len(&self, way: &Destination, repr: &tcp::Repr) -> usize {
        self.ifaces[usize::from(way.iface.0)].link_header_bytes() + ipv4::HEADER_BYTES + repr.header_len()
    }

    /// Writes those headers to `out`, which is as long as they are.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "one call writes all headers of a segment")]
    fn put_headers(
        &self,
        out: &mut [u8],
        to: &Endpoints,
        ip: IpFields,
        repr: &tcp::Repr,
        payload_len: usize,
        payload_sum: u16,
        way: &Destination,
    ) {
        let iface = &self.ifaces[usize::from(way.iface.0)];
        let l4 = match iface.vlan {
            None => {
                let Some((link, rest)) = out.split_first_chunk_mut() else { return };
                ethernet::write(link, way.next_hop, iface.mac, ethernet::ethertype::IPV4);
                rest
            }
            Some(vlan) => {
                let Some((link, rest)) = out.split_first_chunk_mut() else { return };
                ethernet::write_tagged(link, way.next_hop, iface.mac, vlan, ethernet::ethertype::IPV4);
                rest
            }
        };
        let Some((network, l4)) = l4.split_first_chunk_mut() else { return };
        let tcp_len = l4.len() + payload_len;
        let header = ipv4::Repr {
            src: *to.local.ip(),
            dst: *to.remote.ip(),
            protocol: ipv4::protocol::TCP,
            tos: ip.tos,
            ttl: ip.ttl,
            // RFC 6864: an atomic datagram's identification means nothing.
            id: 0,
            flags_offset: DONT_FRAGMENT,
            payload_len: tcp_len as u16,
        };
        header.write(network);
        repr.write_exact(l4, checksum::add(pseudo_header(to, tcp_len), payload_sum));
    }
}

#[inline]
fn pseudo_header(to: &Endpoints, len: usize) -> u16 {
    checksum::pseudo_header(*to.local.ip(), *to.remote.ip(), ipv4::protocol::TCP, len as u16)
}
