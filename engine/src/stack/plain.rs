//! The way in of nearly every packet: a datagram for a socket that has room, or a segment that its connection expects, in the headers that are usual. All
//! that is known of such a packet is read once, and nothing changes before it is clear that it is one.
//!
//! Left to [`handle_frame`](Stack::handle_frame), which counts what is wrong: tagged frames and interfaces with a VLAN, chains of frames, IP options, fragments,
//! broadcasts, wrong or unfinished checksums, packets that no socket is there for, interfaces that learn neighbours from traffic; of TCP what
//! [`Connection::predicts`](crate::proto::tcp::Connection::predicts) does not expect. What both may take leaves the same behind (tested).

use super::{Interface, NeighbourSource, RxChecksum, Stack, ingress::acceptable_source};
use crate::{
    buf::RxBuf,
    proto::{IfaceId, udp::Datagram},
    wire::{
        checksum,
        ipv4::protocol,
        plain::{L4_AT, Plain},
        udp,
    },
};
use std::net::{Ipv4Addr, SocketAddrV4};

impl Interface {
    /// A plain packet may be for this host, as far as it is up to the frame and the addresses.
    #[inline(always)]
    fn takes(&mut self, plain: &Plain) -> bool {
        let usual = self.up && self.vlan.is_none() && self.neighbour_source == NeighbourSource::Arp;
        usual
            && plain.dst_mac == self.mac.0
            && (self.last_addresses == Some(plain.addresses) || self.has_right_addresses(plain))
    }

    /// Remembers the answer if it is yes: packets come in trains.
    fn has_right_addresses(&mut self, plain: &Plain) -> bool {
        let (src, dst) =
            (Ipv4Addr::from_bits((plain.addresses >> 32) as u32), Ipv4Addr::from_bits(plain.addresses as u32));
        let right =
            self.has_address(dst) && acceptable_source(src) && !self.has_address(src) && !self.is_broadcast(src);
        if right {
            self.last_addresses = Some(plain.addresses);
        }
        right
    }
}

impl Stack {
    /// Takes a plain packet that all is right with.
    ///
    /// # Errors
    /// Gives back any other as it was; nothing is counted.
    #[inline(always)]
    pub(super) fn handle_plain(&mut self, id: IfaceId, frame: RxBuf) -> Result<(), RxBuf> {
        let Some(iface) = self.ifaces.get_mut(usize::from(id.0)) else { return Err(frame) };
        let Some(plain) = Plain::parse(frame.as_slice()) else { return Err(frame) };
        if frame.is_chain() || !iface.takes(&plain) {
            return Err(frame);
        }
        let policy = iface.rx_checksum;
        match plain.protocol {
            protocol::UDP => self.handle_plain_udp(&plain, policy, frame),
            protocol::TCP => self.handle_plain_tcp(&plain, policy, frame),
            _ => Err(frame),
        }
    }

    #[inline(always)]
    fn handle_plain_udp(&mut self, plain: &Plain, policy: RxChecksum, mut frame: RxBuf) -> Result<(), RxBuf> {
        let frame_bytes = frame.len() as u64;
        let Some((header, rest)) = frame.as_slice()[L4_AT..].split_first_chunk() else { return Err(frame) };
        let header = udp::Header::of(header);
        let payload_bytes = plain.l4_len - udp::HEADER_BYTES;
        let Some(payload) = rest.get(..payload_bytes).filter(|_| header.len == plain.l4_len) else { return Err(frame) };
        let Some((index, slot)) = self.udp.find_again(plain.addresses, plain.ports) else { return Err(frame) };
        let payload_sum = if header.checksum == 0 {
            self.counters.checksums_absent += 1;
            None
        } else if policy == RxChecksum::Trust {
            self.counters.checksums_not_verified += 1;
            None
        } else {
            let payload_sum = checksum::sum(payload);
            let total = plain.pseudo_header_total() + u64::from(header.sum()) + u64::from(payload_sum);
            if checksum::fold_fields(total) != 0xffff {
                return Err(frame);
            }
            Some(payload_sum)
        };
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += frame_bytes;
        frame.narrow(L4_AT + udp::HEADER_BYTES, payload_bytes);
        if let Some(sum) = payload_sum {
            frame.set_payload_sum(sum);
        }
        let from = SocketAddrV4::new(Ipv4Addr::from_bits((plain.addresses >> 32) as u32), header.src_port);
        let to = Ipv4Addr::from_bits(plain.addresses as u32);
        if slot.take(index, Datagram { buf: frame, from, to }, &mut self.events) {
            self.counters.udp_rx_datagrams += 1;
            self.counters.udp_rx_payload_bytes += payload_bytes as u64;
        } else {
            self.counters.drop_udp_queue_full += 1;
        }
        Ok(())
    }
}
