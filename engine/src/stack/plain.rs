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
        be16, checksum,
        ipv4::protocol,
        plain::{L4_AT, Plain},
        udp,
    },
};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    vec::Drain,
};

impl Interface {
    /// It takes plain packets with these source and destination addresses, in the upper and the lower half. Packets come in trains, so a yes is remembered.
    #[inline(always)]
    fn takes(&mut self, addresses: u64) -> bool {
        addresses != 0 && *self.taken(addresses) == addresses || self.takes_now(addresses)
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
            *self.taken(addresses) = addresses;
        }
        takes
    }
}

/// A datagram that a socket is there for.
struct ExpectedDatagram {
    /// The socket's number.
    socket: u32,
    from: SocketAddrV4,
    to: Ipv4Addr,
    payload_bytes: usize,
    payload_sum: Option<u16>,
}

impl Stack {
    /// Takes the first of `frames` if it is a plain packet that all is right with; false if it is not: it stays, and nothing is counted.
    #[inline(always)]
    pub(super) fn handle_plain(&mut self, id: IfaceId, frames: &mut Drain<'_, RxBuf>) -> bool {
        let Some(frame) = frames.as_slice().first() else { return false };
        let Some(iface) = self.ifaces.get_mut(usize::from(id.0)) else { return false };
        let Some(plain) = Plain::parse(frame.as_slice(), &iface.mac) else { return false };
        if !frame.is_single() || !iface.takes(plain.addresses) {
            return false;
        }
        let (policy, frame_bytes) = (iface.rx_checksum, frame.len() as u64);
        match plain.protocol {
            protocol::UDP => {
                let Some(datagram) = self.expect_udp(&plain, policy) else { return false };
                self.take_udp(&datagram, frames);
            }
            protocol::TCP => {
                let Some(segment) = self.expect_tcp(&plain, policy) else { return false };
                let Some(frame) = frames.next() else { return false };
                self.take_tcp(&segment, frame);
            }
            _ => return false,
        }
        self.counters.rx_bytes += frame_bytes;
        self.counters.rx_frames += 1;
        true
    }

    #[inline(always)]
    fn expect_udp(&mut self, plain: &Plain<'_>, policy: RxChecksum) -> Option<ExpectedDatagram> {
        let (header, payload) = plain.l4.split_first_chunk::<{ udp::HEADER_BYTES }>()?;
        let (len, sum) = (be16(header, 4), be16(header, 6));
        if usize::from(len) != plain.l4.len() {
            return None;
        }
        let from = SocketAddrV4::new(Ipv4Addr::from_bits((plain.addresses >> 32) as u32), (plain.ports >> 16) as u16);
        let to = Ipv4Addr::from_bits(plain.addresses as u32);
        let socket = self.udp.find_again(plain.addresses, plain.ports, from)?;
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
                return None;
            }
            Some(payload_sum)
        };
        Some(ExpectedDatagram { socket, from, to, payload_bytes: payload.len(), payload_sum })
    }

    #[inline(always)]
    fn take_udp(&mut self, datagram: &ExpectedDatagram, frames: &mut Drain<'_, RxBuf>) {
        let &ExpectedDatagram { socket, from, to, payload_bytes, payload_sum } = datagram;
        let mut next =
            || frames.next().map(|frame| frame.narrowed(L4_AT + udp::HEADER_BYTES, payload_bytes, payload_sum));
        let taken = self.udp.take(socket, &mut self.events, |socket| {
            socket.handle_datagram_with(payload_bytes, || next().map(|buf| Datagram { buf, from, to }))
        });
        if taken {
            self.counters.udp_rx_datagrams += 1;
            self.counters.udp_rx_payload_bytes += payload_bytes as u64;
        } else {
            drop(next());
            self.counters.drop_udp_queue_full += 1;
        }
    }
}
