//! The way out: route, neighbour, headers, egress queue. What is not one small frame: [`packets`](super::packets).

use super::{Asked, Stack, dest::Destination};
use crate::{
    buf::TxBuf,
    proto::{IfaceId, neighbour::Lookup, udp::PendingError},
    wire::{MacAddr, arp, ethernet, ipv4, udp},
};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Why a send was refused.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No room in the egress queue or no frame for a header: the caller has the buffer back and may try again.
    #[error("would block")]
    WouldBlock(TxBuf),
    /// ICMP port unreachable came back for this socket; told once.
    #[error("connection refused")]
    ConnectionRefused,
    /// No route, or the next hop does not answer.
    #[error("host unreachable")]
    HostUnreachable,
    /// Longer than the protocol carries.
    #[error("message too long")]
    MessageSize,
    /// The socket has no peer and none was given.
    #[error("not connected")]
    NotConnected,
    /// A broadcast address without leave to broadcast.
    #[error("permission denied: the socket may not broadcast")]
    Broadcast,
    /// No frame for a copy.
    #[error("no buffers left")]
    NoBuffers,
    /// The handle names no open socket.
    #[error("no such socket")]
    BadSocket,
    /// What a raw socket was to send does not begin with an IPv4 header, as it says that it does.
    #[error("malformed IPv4 header")]
    Header,
}

impl From<PendingError> for SendError {
    fn from(error: PendingError) -> Self {
        match error {
            PendingError::Refused => Self::ConnectionRefused,
            PendingError::HostUnreachable => Self::HostUnreachable,
        }
    }
}

/// What goes in front of a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct IpSend {
    /// `None`: by the route.
    pub(super) src: Option<Ipv4Addr>,
    pub(super) dst: Ipv4Addr,
    pub(super) tos: u8,
    pub(super) ttl: u8,
    pub(super) broadcast: bool,
    pub(super) l4: L4,
}

/// The transport header.
#[derive(Clone, Copy, Debug)]
pub(super) enum L4 {
    /// A UDP header is put in front; its checksum is computed.
    Udp { src_port: u16, dst_port: u16 },
    /// The payload begins with the header of this protocol, checksum included.
    Ready { protocol: u8 },
    /// The payload begins with its IPv4 header, which lacks what [`Stack::complete_header`] fills in.
    Whole { protocol: u8 },
}

impl L4 {
    pub(super) fn protocol(self) -> u8 {
        match self {
            Self::Udp { .. } => ipv4::protocol::UDP,
            Self::Ready { protocol } | Self::Whole { protocol } => protocol,
        }
    }

    pub(super) fn header_bytes(self) -> usize {
        match self {
            Self::Udp { .. } => udp::HEADER_BYTES,
            Self::Ready { .. } | Self::Whole { .. } => 0,
        }
    }

    /// Length of the IPv4 header that is put in front.
    pub(super) fn ip_header_bytes(self) -> usize {
        match self {
            Self::Udp { .. } | Self::Ready { .. } => ipv4::HEADER_BYTES,
            Self::Whole { .. } => 0,
        }
    }
}

/// A packet that waits for its next hop's Ethernet address.
#[derive(Debug)]
pub(super) struct Parked {
    send: IpSend,
    buf: TxBuf,
}

/// Where a packet goes next.
pub(super) enum Way {
    Known(Destination),
    /// The neighbour is being asked: park.
    Pending(IfaceId, Ipv4Addr),
    Unreachable,
}

impl Stack {
    /// The address that packets to `dst` carry.
    pub fn source_for(&self, dst: Ipv4Addr) -> Option<Ipv4Addr> {
        let route = self.routes.lookup(dst)?;
        let iface = self.ifaces.get(usize::from(route.iface.0))?;
        route.source.or_else(|| iface.source_for(route.next_hop.unwrap_or(dst)))
    }

    /// Sends a payload as one IPv4 datagram.
    #[inline]
    pub(super) fn send_ip(&mut self, send: IpSend, buf: TxBuf) -> Result<(), SendError> {
        match self.remembered_way(send.dst) {
            Some(to) => self.send_to(to, send, buf),
            None => self.send_uncached(send, buf),
        }
    }

    /// How packets to `dst` went not long ago, if nothing changed since.
    #[inline]
    pub(super) fn remembered_way(&self, dst: Ipv4Addr) -> Option<Destination> {
        let epoch_base = self.routes.epoch();
        let ifaces = &self.ifaces;
        self.dest.get(dst, |id| ifaces.get(usize::from(id.0)).map_or(0, |i| epoch_base + i.neighbours.epoch()))
    }

    /// A packet to `dst` need not look for its way.
    #[inline]
    pub(crate) fn knows_way(&self, dst: Ipv4Addr) -> bool {
        self.remembered_way(dst).is_some()
    }

    /// How packets to `dst` go, if that is known now; if not, it is being asked.
    #[inline]
    pub(super) fn way_to(&mut self, dst: Ipv4Addr) -> Option<Destination> {
        self.remembered_way(dst).or_else(|| match self.find_way(dst, false) {
            Ok(Way::Known(to)) => Some(to),
            _ => None,
        })
    }

    #[cold]
    fn send_uncached(&mut self, send: IpSend, buf: TxBuf) -> Result<(), SendError> {
        match self.find_way(send.dst, send.broadcast)? {
            Way::Known(to) => self.send_to(to, send, buf),
            Way::Unreachable => Err(SendError::HostUnreachable),
            Way::Pending(id, next_hop) => {
                let iface = &mut self.ifaces[usize::from(id.0)];
                if matches!(send.l4, L4::Whole { .. }) && buf.total_len() > iface.mtu {
                    return Err(SendError::MessageSize);
                }
                let neighbours = &mut iface.neighbours;
                // A buffer that waits counts as sent: the caller does not see whether ARP was needed.
                if neighbours.park(next_hop, Parked { send, buf }).is_err() {
                    self.counters.drop_tx_neighbour_queue += 1;
                }
                Ok(())
            }
        }
    }

    pub(super) fn find_way(&mut self, dst: Ipv4Addr, may_broadcast: bool) -> Result<Way, SendError> {
        let broadcast_on = |ifaces: &[super::iface::Interface]| {
            ifaces.iter().position(|iface| iface.up && iface.is_broadcast(dst) && !iface.addresses.is_empty())
        };
        if let Some(at) = broadcast_on(&self.ifaces) {
            if !may_broadcast {
                return Err(SendError::Broadcast);
            }
            return Ok(self.link_way(at, dst, MacAddr::BROADCAST));
        }
        let Some(route) = self.routes.lookup(dst).copied() else {
            if dst.is_multicast()
                && let Some(at) = self.ifaces.iter().position(|iface| iface.up && !iface.addresses.is_empty())
            {
                return Ok(self.link_way(at, dst, multicast_mac(dst)));
            }
            return Ok(Way::Unreachable);
        };
        let id = route.iface;
        let at = usize::from(id.0);
        let Some(iface) = self.ifaces.get_mut(at).filter(|iface| iface.up) else { return Ok(Way::Unreachable) };
        if dst.is_multicast() {
            return Ok(self.link_way(at, dst, multicast_mac(dst)));
        }
        let next_hop = route.next_hop.unwrap_or(dst);
        let Some(source) = route.source.or_else(|| iface.source_for(next_hop)) else { return Ok(Way::Unreachable) };
        let way = match iface.neighbours.lookup(next_hop, self.now) {
            Lookup::Known(mac) => {
                let mtu = self.path_mtus.get(dst, self.now).unwrap_or(u16::MAX).min(clamp_u16(iface.mtu));
                let destination = Destination { iface: id, source, next_hop: mac, mtu };
                let epoch = self.routes.epoch() + iface.neighbours.epoch();
                self.dest.put(dst, epoch, destination);
                Way::Known(destination)
            }
            Lookup::Pending => Way::Pending(id, next_hop),
            Lookup::Start => {
                self.request(id, next_hop, MacAddr::BROADCAST);
                Way::Pending(id, next_hop)
            }
            Lookup::Failed | Lookup::Full => Way::Unreachable,
        };
        // Looking up may have started a state that needs a timer.
        self.arm_neighbours(id);
        Ok(way)
    }

    fn link_way(&self, at: usize, dst: Ipv4Addr, next_hop: MacAddr) -> Way {
        let iface = &self.ifaces[at];
        match iface.source_for(dst) {
            Some(source) => {
                Way::Known(Destination { iface: IfaceId(at as u8), source, next_hop, mtu: clamp_u16(iface.mtu) })
            }
            None => Way::Unreachable,
        }
    }

    /// Sends what waited for `next_hop`, which is known now.
    pub(super) fn send_parked(&mut self, parked: Vec<Parked>) {
        for Parked { send, buf } in parked {
            match self.find_way(send.dst, send.broadcast) {
                Ok(Way::Known(to)) => {
                    if self.send_to(to, send, buf).is_err() {
                        self.counters.drop_tx_no_memory += 1;
                    }
                }
                _ => self.counters.drop_tx_no_route += 1,
            }
        }
    }

    pub(super) fn drop_parked(&mut self, id: IfaceId, dropped: Vec<Parked>) {
        self.counters.drop_tx_neighbour_failed += dropped.len() as u64;
        for Parked { send, .. } in dropped {
            self.report_unreachable(id, send);
        }
    }

    fn report_unreachable(&mut self, id: IfaceId, send: IpSend) {
        let iface = &self.ifaces[usize::from(id.0)];
        let Some(src) = send.src.or_else(|| iface.source_for(send.dst)) else { return };
        let (error, events) = (PendingError::HostUnreachable, &mut self.events);
        match send.l4 {
            L4::Udp { src_port, dst_port } => {
                let (local, remote) = (SocketAddrV4::new(src, src_port), SocketAddrV4::new(send.dst, dst_port));
                self.udp.report(local, remote, error, events);
            }
            L4::Ready { protocol } | L4::Whole { protocol } => {
                self.raw.report(protocol, src, send.dst, error, events);
            }
        }
    }

    /// Asks who has `target`.
    pub(super) fn request(&mut self, id: IfaceId, target: Ipv4Addr, to: MacAddr) {
        let iface = &self.ifaces[usize::from(id.0)];
        let Some(sender_ip) = iface.source_for(target) else { return };
        let packet = arp::Packet {
            operation: arp::Operation::Request,
            sender_mac: iface.mac,
            sender_ip,
            target_mac: MacAddr::default(),
            target_ip: target,
        };
        self.counters.arp_requests_sent += 1;
        self.note_asked(Asked::Waiting(target));
        self.send_arp(id, &packet, to);
    }

    pub(super) fn send_arp(&mut self, id: IfaceId, packet: &arp::Packet, to: MacAddr) {
        let Some(mut buf) = self.pool.alloc_control() else {
            self.counters.drop_tx_no_memory += 1;
            return;
        };
        let iface = &mut self.ifaces[usize::from(id.0)];
        let written =
            buf.put_slice(&packet.to_bytes()).and_then(|()| iface.prepend_link(&mut buf, to, ethernet::ethertype::ARP));
        let bytes = buf.len() as u64;
        let pushed = written.is_ok() && buf.seal().is_ok_and(|sealed| iface.egress.push(sealed).is_ok());
        if pushed {
            self.counters.tx_frames += 1;
            self.counters.tx_bytes += bytes;
        } else {
            self.counters.drop_tx_no_memory += 1;
        }
    }
}

fn clamp_u16(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// RFC 1112 section 6.4: the low 23 bits of the group go into the Ethernet address.
fn multicast_mac(group: Ipv4Addr) -> MacAddr {
    let [_, b, c, d] = group.octets();
    MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d])
}
