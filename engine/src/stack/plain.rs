//! The way in of nearly every packet: a datagram for a socket that has room, or a segment that its connection expects, in the headers that are usual. All
//! that is known of such a packet is read once, and nothing changes before it is clear that it is one.
//!
//! Left to [`handle_frame`](Stack::handle_frame), which counts what is wrong: tagged frames and interfaces with a VLAN, chains of frames, IP options, fragments,
//! broadcasts, wrong checksums, packets that no socket is there for, interfaces that learn neighbours from traffic; of TCP what
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
    /// It takes plain packets with these source and destination addresses, in the upper and the lower half. Packets come in trains, so a yes is remembered.
    #[inline(always)]
    fn takes(&mut self, addresses: u64) -> bool {
        self.last_addresses == Some(addresses) || self.takes_now(addresses)
    }

    fn takes_now(&mut self, addresses: u64) -> bool {
        let (src, dst) = (Ipv4Addr::from_bits((addresses >> 32) as u32), Ipv4Addr::from_bits(addresses as u32));
        let takes = self.up
            && self.vlan.is_none()
            && self.neighbour_source == NeighbourSource::Arp
            && self.has_address(dst)
            && acceptable_source(src)
            && !self.has_address(src)
            && !self.is_broadcast(src);
        if takes {
            self.last_addresses = Some(addresses);
        }
        takes
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
        let Some(plain) = Plain::parse(frame.as_slice(), &iface.mac) else { return Err(frame) };
        if frame.is_chain() || !iface.takes(plain.addresses) {
            return Err(frame);
        }
        let policy = iface.rx_checksum;
        match plain.protocol {
            protocol::UDP => self.handle_plain_udp(&plain, policy, frame),
            protocol::TCP => self.handle_plain_tcp(&plain, policy, frame),
            _ => Err(frame),
        }
    }

    #[inline(never)]
    fn handle_plain_udp(&mut self, plain: &Plain, policy: RxChecksum, mut frame: RxBuf) -> Result<(), RxBuf> {
        let frame_bytes = frame.len() as u64;
        let Some((&[len_high, len_low, sum_high, sum_low], rest)) = frame.as_slice()[L4_AT + 4..].split_first_chunk()
        else {
            return Err(frame);
        };
        let (len, sum) = (u16::from_be_bytes([len_high, len_low]), u16::from_be_bytes([sum_high, sum_low]));
        let payload_bytes = plain.l4_len - udp::HEADER_BYTES;
        let Some(payload) = rest.get(..payload_bytes).filter(|_| usize::from(len) == plain.l4_len) else {
            return Err(frame);
        };
        let Some((index, slot)) = self.udp.find_again(plain.addresses, plain.ports) else { return Err(frame) };
        let payload_sum = if sum == 0 {
            self.counters.checksums_absent += 1;
            None
        } else if policy == RxChecksum::Trust {
            self.counters.checksums_not_verified += 1;
            None
        } else if policy == RxChecksum::Partial && plain.pseudo_header_sum() == sum {
            self.counters.checksums_partial_accepted += 1;
            None
        } else {
            let payload_sum = checksum::sum(payload);
            let header_total = u64::from(plain.ports) + u64::from(len) + u64::from(sum);
            if checksum::fold_fields(plain.pseudo_header_total() + header_total + u64::from(payload_sum)) != 0xffff {
                return Err(frame);
            }
            Some(payload_sum)
        };
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += frame_bytes;
        frame.narrow(L4_AT + udp::HEADER_BYTES, payload_bytes, payload_sum);
        let from = SocketAddrV4::new(Ipv4Addr::from_bits((plain.addresses >> 32) as u32), (plain.ports >> 16) as u16);
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
