//! Datagrams that the short way (of UDP: one frame, the way known, no VLAN) is not for: payloads that come with their own header, fragments, runs, chains, and bytes that several send.

use super::{
    SendError, Stack,
    dest::Destination,
    egress::{IpSend, L4, Way},
};
use crate::{
    buf::TxBuf,
    proto::tcp::Stretch,
    wire::{
        checksum, ethernet,
        ipv4::{self, DONT_FRAGMENT, MORE_FRAGMENTS},
        udp,
    },
};
use smallvec::SmallVec;
use std::net::Ipv4Addr;

/// How a datagram becomes packets.
#[derive(Clone, Copy)]
struct Plan {
    src: Ipv4Addr,
    /// Bytes of all packets, without their IPv4 headers.
    datagram_bytes: usize,
    /// Most of those in one packet.
    packet_bytes: usize,
    packets: usize,
    ip_bytes: usize,
    l4_bytes: usize,
    /// Identification of its fragments.
    id: u16,
}

impl Plan {
    /// The IPv4 header of the packet with bytes `offset .. offset + len`.
    fn header(&self, send: &IpSend, offset: usize, len: usize) -> [u8; ipv4::HEADER_BYTES] {
        let more = if offset + len < self.datagram_bytes { MORE_FRAGMENTS } else { 0 };
        let mut ip = [0; ipv4::HEADER_BYTES];
        ipv4::Repr {
            src: self.src,
            dst: send.dst,
            protocol: send.l4.protocol(),
            tos: send.tos,
            ttl: send.ttl,
            id: self.id,
            flags_offset: if self.packets == 1 { DONT_FRAGMENT } else { (offset / 8) as u16 | more },
            payload_len: len as u16,
        }
        .write(&mut ip);
        ip
    }

    /// The transport header for a payload with that sum.
    fn l4_header(&self, send: &IpSend, payload_sum: impl FnOnce() -> u16) -> [u8; udp::HEADER_BYTES] {
        let mut header = [0; udp::HEADER_BYTES];
        if let L4::Udp { src_port, dst_port } = send.l4 {
            let len = self.datagram_bytes as u16;
            let pseudo = checksum::pseudo_header(self.src, send.dst, ipv4::protocol::UDP, len);
            udp::write(&mut header, src_port, dst_port, len, checksum::add(pseudo, payload_sum()));
        }
        header
    }
}

impl Stack {
    /// How `payload_bytes` in at most `pieces` pieces go. `None`: there is no room now.
    fn plan(
        &mut self,
        to: &Destination,
        send: &IpSend,
        payload_bytes: usize,
        pieces: usize,
        one_frame: bool,
    ) -> Result<Option<Plan>, SendError> {
        let iface = &self.ifaces[usize::from(to.iface.0)];
        let frame_bytes = self.pool.frame_payload_bytes();
        // What must be copied, for want of scatter-gather or because it is in too many pieces, goes into as many frames as the port takes for a packet.
        let copy_bytes_max = if one_frame { usize::MAX } else { iface.tx_pieces_max.saturating_mul(frame_bytes) };
        let (ip_bytes, l4_bytes) = (send.l4.ip_header_bytes(), send.l4.header_bytes());
        let mtu = usize::from(to.mtu).min(copy_bytes_max.saturating_add(ip_bytes));
        let datagram_bytes = payload_bytes + l4_bytes;
        if datagram_bytes + ip_bytes > ipv4::TOTAL_BYTES_MAX {
            return Err(SendError::MessageSize);
        }
        let packet_bytes = if datagram_bytes + ip_bytes <= mtu {
            datagram_bytes.max(1)
        } else if ip_bytes == 0 {
            // raw(7): who writes headers divides packets.
            return Err(SendError::MessageSize);
        } else {
            // RFC 791: all fragments but the last carry a multiple of 8 bytes.
            mtu.saturating_sub(ipv4::HEADER_BYTES) & !7
        };
        if packet_bytes == 0 {
            return Err(SendError::MessageSize);
        }
        let packets = datagram_bytes.div_ceil(packet_bytes).max(1);
        let copy_frames = packet_bytes.div_ceil(frame_bytes);
        // Each packet is a header and its pieces, or copies of them; a cut within a piece makes one more of it.
        let descriptors = packets * (1 + copy_frames) + pieces;
        if iface.egress.limit() < descriptors {
            return Err(SendError::MessageSize);
        }
        if iface.egress.room() < descriptors || (self.pool.free_for_control() as usize) < packets * copy_frames {
            return Ok(None);
        }
        let src = send.src.unwrap_or(to.source);
        let id = if packets > 1 { self.ip_ids.next(src, send.dst, send.l4.protocol()) } else { 0 };
        Ok(Some(Plan { src, datagram_bytes, packet_bytes, packets, ip_bytes, l4_bytes, id }))
    }

    /// Writes the headers and queues the packets.
    pub(super) fn send_to(&mut self, to: Destination, send: IpSend, mut buf: TxBuf) -> Result<(), SendError> {
        let payload_bytes = buf.total_len();
        let Some(plan) = self.plan(&to, &send, payload_bytes, buf.frame_count(), buf.is_single())? else {
            return Err(SendError::WouldBlock(buf));
        };
        if let L4::Whole { .. } = send.l4 {
            self.complete_header(plan.src, &mut buf);
        }
        let l4_header = plan.l4_header(&send, || match buf.payload_sum().filter(|_| !buf.is_chain()) {
            Some(sum) => sum,
            None => checksum::sum_pieces(buf.pieces()),
        });
        let buf = if plan.packets == 1 && buf.is_single() {
            let ip = plan.header(&send, 0, plan.datagram_bytes);
            match self.send_in_place(to, &ip[..plan.ip_bytes], &l4_header[..plan.l4_bytes], buf) {
                Ok(()) => return Ok(()),
                // No head-room: with a frame of its own for the headers, then.
                Err(buf) => buf,
            }
        } else {
            buf
        };
        // Nobody else has descriptors of these frames, so there cannot be too many.
        self.send_packets(to, &send, &plan, &l4_header, &[(&buf.freeze(), 0, payload_bytes)]);
        Ok(())
    }

    /// Sends frozen bytes as one datagram, uncopied if the port takes so many pieces and the next hop is known; else a copy, which is counted. `Ok(false)`: there is no room now.
    pub(super) fn send_stretches(&mut self, send: IpSend, payload: &[Stretch<'_>]) -> Result<bool, SendError> {
        let way = match self.remembered_way(send.dst) {
            Some(to) => Way::Known(to),
            None => self.find_way(send.dst, send.broadcast)?,
        };
        let payload_bytes = payload.iter().map(|(_, _, len)| len).sum();
        match way {
            Way::Unreachable => Err(SendError::HostUnreachable),
            Way::Known(to) => {
                let pieces = payload.iter().map(|&(bytes, from, len)| bytes.count_pieces(from, len)).sum();
                let Some(plan) = self.plan(&to, &send, payload_bytes, pieces, false)? else { return Ok(false) };
                let slices = payload.iter().flat_map(|&(bytes, from, len)| bytes.slices(from, len));
                let l4_header = plan.l4_header(&send, || checksum::sum_pieces(slices));
                Ok(self.send_packets(to, &send, &plan, &l4_header, payload))
            }
            // What waits there is held in buffers of its own.
            Way::Pending(..) => {
                let mut copy = self.pool.alloc_contiguous(payload_bytes).ok_or(SendError::NoBuffers)?;
                for slice in payload.iter().flat_map(|&(bytes, from, len)| bytes.slices(from, len)) {
                    copy.put_slice(slice).map_err(|_| SendError::NoBuffers)?;
                }
                match self.send_ip(send, copy) {
                    Ok(()) => {
                        self.counters.bytes_copied_tx += payload_bytes as u64;
                        Ok(true)
                    }
                    Err(SendError::WouldBlock(_)) => Ok(false),
                    Err(refused) => Err(refused),
                }
            }
        }
    }

    /// Queues the packets of a plan. False: a frame has too many descriptors out, and nothing was queued.
    fn send_packets(
        &mut self,
        to: Destination,
        send: &IpSend,
        plan: &Plan,
        l4_header: &[u8],
        payload: &[Stretch<'_>],
    ) -> bool {
        let at = usize::from(to.iface.0);
        let pieces_max = self.ifaces[at].tx_pieces_max;
        let queued_before = self.ifaces[at].egress.len();
        let (mut tx_frames, mut tx_bytes, mut bytes_copied) = (0, 0, 0);
        let mut offset = 0;
        while offset < plan.datagram_bytes || offset == 0 {
            let len = plan.packet_bytes.min(plan.datagram_bytes - offset);
            let l4 = if offset == 0 { &l4_header[..plan.l4_bytes] } else { &[] };
            let from = offset.saturating_sub(plan.l4_bytes);
            let take = len - l4.len();
            let Some(mut head) = self.pool.alloc_control() else {
                self.counters.drop_tx_no_memory += 1;
                break;
            };
            let pieces: usize = cut(payload, from, take).map(|(bytes, from, len)| bytes.count_pieces(from, len)).sum();
            let copied = pieces + 1 > pieces_max;
            let mut tails: SmallVec<[TxBuf; 2]> = SmallVec::new();
            if copied {
                let mut done = fill(&mut head, payload, from, take);
                while done < take
                    && let Some(mut tail) = self.pool.alloc_control()
                {
                    done += fill(&mut tail, payload, from + done, take - done);
                    tails.push(tail);
                }
                bytes_copied += done as u64;
                if done < take {
                    self.counters.drop_tx_no_memory += 1;
                    break;
                }
            }
            let iface = &mut self.ifaces[at];
            let ip = plan.header(send, offset, len);
            let framed = head.prepend_slice(l4).and_then(|()| head.prepend_slice(&ip[..plan.ip_bytes]));
            if framed.and_then(|()| iface.prepend_link(&mut head, to.next_hop, ethernet::ethertype::IPV4)).is_err() {
                self.counters.drop_tx_no_memory += 1;
                break;
            }
            let copied_bytes = head.len() + tails.iter().map(TxBuf::len).sum::<usize>();
            tx_bytes += (copied_bytes + if copied { 0 } else { take }) as u64;
            if let Ok(mut sealed) = head.seal() {
                if !copied && take > 0 || !tails.is_empty() {
                    sealed.set_more();
                }
                let egress = &mut iface.egress;
                let mut pushed = egress.push(sealed).is_ok();
                let mut left = if copied { 0 } else { pieces };
                for (bytes, from, len) in cut(payload, from, take).filter(|_| !copied) {
                    let sealed = bytes.seal_range(from, len, |mut piece| {
                        left -= 1;
                        if left > 0 {
                            piece.set_more();
                        }
                        pushed &= egress.push(piece).is_ok();
                    });
                    pushed &= sealed.is_ok();
                }
                let mut left = tails.len();
                for tail in tails {
                    left -= 1;
                    if let Ok(mut tail) = tail.seal() {
                        if left > 0 {
                            tail.set_more();
                        }
                        pushed &= egress.push(tail).is_ok();
                    }
                }
                // Room for all descriptors was checked, but not how many each frame has already.
                if !pushed {
                    egress.truncate(queued_before);
                    return false;
                }
            }
            tx_frames += 1;
            offset += len.max(1);
        }
        self.counters.tx_bytes += tx_bytes;
        self.counters.tx_frames += tx_frames;
        self.counters.bytes_copied_tx += bytes_copied;
        if plan.packets > 1 {
            self.counters.fragments_sent += tx_frames;
        }
        true
    }

    /// One packet whose headers fit in front of its payload.
    fn send_in_place(
        &mut self,
        to: Destination,
        ip_header: &[u8],
        l4_header: &[u8],
        mut buf: TxBuf,
    ) -> Result<(), TxBuf> {
        let iface = &mut self.ifaces[usize::from(to.iface.0)];
        let headers = l4_header.len() + ip_header.len() + iface.link_header_bytes();
        if buf.headroom() < headers || iface.egress.room() == 0 {
            return Err(buf);
        }
        let written = buf
            .prepend_slice(l4_header)
            .and_then(|()| buf.prepend_slice(ip_header))
            .and_then(|()| iface.prepend_link(&mut buf, to.next_hop, ethernet::ethertype::IPV4));
        let bytes = buf.len() as u64;
        if written.is_ok()
            && let Ok(sealed) = buf.seal()
            && iface.egress.push(sealed).is_ok()
        {
            self.counters.tx_frames += 1;
            self.counters.tx_bytes += bytes;
        }
        Ok(())
    }
}

/// The stretches that bytes `from .. from + len` of a payload lie in.
fn cut<'a>(payload: &'a [Stretch<'a>], from: usize, len: usize) -> impl Iterator<Item = Stretch<'a>> {
    let (mut skip, mut left) = (from, len);
    payload.iter().filter_map(move |&(bytes, start, len)| {
        let skipped = skip.min(len);
        skip -= skipped;
        let taken = left.min(len - skipped);
        left -= taken;
        (taken > 0).then_some((bytes, start + skipped, taken))
    })
}

/// Fills an empty buffer with a copy of up to `len` bytes of a payload from `from` on; returns how many.
fn fill(buf: &mut TxBuf, payload: &[Stretch<'_>], from: usize, len: usize) -> usize {
    if buf.set_len(len.min(buf.capacity())).is_err() {
        return 0;
    }
    let to = buf.as_mut_slice();
    let mut done = 0;
    for (bytes, from, len) in cut(payload, from, to.len()) {
        done += bytes.copy_to(from, &mut to[done..done + len]);
    }
    done
}
