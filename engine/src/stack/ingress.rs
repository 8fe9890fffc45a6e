//! The way in. Every check that fails counts one reason and drops the packet, which gives its frames back.

use super::{
    Asked, NeighbourSource, NeighbourWord, RxChecksum, Stack, TimerKey,
    egress::{IpSend, L4},
    tcp::IcmpError,
    udp::Delivery,
};
use crate::{
    buf::RxBuf,
    proto::{
        IfaceId,
        fragment::{FragmentError, FragmentKey, Inserted},
        neighbour::{Learned, TimerAction},
        tcp::Endpoints,
        udp::PendingError,
    },
    time::Duration,
    wire::{
        MacAddr, arp, checksum, ethernet,
        ethernet::ethertype,
        icmp::{self, kind, unreachable},
        ipv4::{self, HeaderError, OptionError, protocol},
        seq::SeqNum,
        udp,
    },
};
use std::net::{Ipv4Addr, SocketAddrV4};

/// RFC 5227 section 1.1, `ANNOUNCE_INTERVAL`.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// RFC 5227 section 1.1, `DEFEND_INTERVAL`.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// RFC 1812 section 4.3.2.3: an error quotes as much as fits 576 bytes in all.
const QUOTE_BYTES_MAX: usize = 576 - ipv4::HEADER_BYTES - icmp::HEADER_BYTES;
const DEFAULT_TTL: u8 = 64;

impl Stack {
    /// Any frame; most go by [`handle_plain`](Self::handle_plain).
    #[inline(never)]
    pub(super) fn handle_frame(&mut self, id: IfaceId, frame: RxBuf) {
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += frame.total_len() as u64;
        let Some(iface) = self.ifaces.get(usize::from(id.0)).filter(|iface| iface.up) else {
            self.counters.drop_interface_down += 1;
            return;
        };
        let Some(header) = ethernet::Header::parse(frame.as_slice()) else {
            self.counters.drop_frame_short += 1;
            return;
        };
        if header.dst != iface.mac && !header.dst.is_multicast() {
            self.counters.drop_not_our_mac += 1;
            return;
        }
        // VLAN 0 only carries a priority (IEEE 802.1Q section 9.6): the frame is untagged.
        if header.vlan.filter(|&vlan| vlan != 0) != iface.vlan {
            self.counters.drop_vlan += 1;
            return;
        }
        match header.ethertype {
            ethertype::IPV4 => self.handle_ipv4(id, &header, frame),
            ethertype::ARP => self.handle_arp(id, &frame.as_slice()[header.len..]),
            _ => self.counters.drop_ethertype += 1,
        }
    }

    fn handle_arp(&mut self, id: IfaceId, packet: &[u8]) {
        self.counters.arp_received += 1;
        let Some(packet) = arp::Packet::parse(packet) else {
            self.counters.drop_arp_malformed += 1;
            return;
        };
        let iface = &mut self.ifaces[usize::from(id.0)];
        let (mac, for_us) = (iface.mac, iface.has_address(packet.target_ip));
        if packet.sender_mac == mac || packet.sender_mac.is_multicast() {
            self.counters.drop_arp_source += 1;
            return;
        }
        if iface.has_address(packet.sender_ip) {
            self.defend(id, packet.sender_ip);
            return;
        }
        // RFC 5227 section 1.1: a probe has no sender address to learn.
        if !packet.sender_ip.is_unspecified() {
            let how = match packet.operation {
                arp::Operation::Reply if for_us => Learned::Reply,
                arp::Operation::Request if for_us => Learned::Request,
                _ => Learned::Gossip,
            };
            // Only stations of our own networks are neighbours: anything else is a spoofed sender.
            if iface.addresses.iter().any(|net| net.contains(packet.sender_ip)) {
                let word = NeighbourWord { iface: id, ip: packet.sender_ip, mac: packet.sender_mac, how };
                self.learn_neighbour(word);
                self.pass_on(word);
            }
        }
        if for_us && packet.operation == arp::Operation::Reply {
            self.note_asked(Asked::Answered(packet.sender_ip));
        }
        if for_us && packet.operation == arp::Operation::Request {
            let reply = arp::Packet {
                operation: arp::Operation::Reply,
                sender_mac: mac,
                sender_ip: packet.target_ip,
                target_mac: packet.sender_mac,
                target_ip: packet.sender_ip,
            };
            self.counters.arp_replies_sent += 1;
            self.send_arp(id, &reply, packet.sender_mac);
        }
    }

    /// A packet from `src` came from `mac`: whichever neighbour leads to `src` is there.
    fn learn_from_traffic(&mut self, id: IfaceId, src: Ipv4Addr, mac: MacAddr) {
        let Some(route) = self.routes.lookup(src).filter(|route| route.iface == id) else { return };
        let next_hop = route.next_hop.unwrap_or(src);
        if mac.is_multicast() {
            return;
        }
        let neighbours = &mut self.ifaces[usize::from(id.0)].neighbours;
        let mut resolved = Vec::new();
        neighbours.learn(next_hop, mac, Learned::Request, self.now, &mut resolved);
        neighbours.confirm(next_hop, self.now);
        self.arm_neighbours(id);
        self.send_parked(resolved);
    }

    /// Somebody else claims our address: RFC 5227 section 2.4 (b), defend at most once in ten seconds.
    fn defend(&mut self, id: IfaceId, addr: Ipv4Addr) {
        self.counters.arp_conflicts += 1;
        let iface = &mut self.ifaces[usize::from(id.0)];
        if iface.defended_at.is_some_and(|at| self.now.saturating_since(at) < DEFEND_INTERVAL) {
            return;
        }
        iface.defended_at = Some(self.now);
        self.announce_address(id, addr);
    }

    /// Timer: announces an interface's addresses, twice after each change.
    pub(super) fn announce(&mut self, id: IfaceId) {
        let Some(iface) = self.ifaces.get_mut(usize::from(id.0)) else { return };
        if iface.announcements_left == 0 {
            return;
        }
        iface.announcements_left -= 1;
        if iface.announcements_left > 0 {
            self.timers.arm(self.now + ANNOUNCE_INTERVAL, TimerKey::Announce(id));
        }
        for at in 0..self.ifaces[usize::from(id.0)].addresses.len() {
            let addr = self.ifaces[usize::from(id.0)].addresses[at].addr();
            self.announce_address(id, addr);
        }
    }

    fn announce_address(&mut self, id: IfaceId, addr: Ipv4Addr) {
        let packet = arp::Packet {
            operation: arp::Operation::Request,
            sender_mac: self.ifaces[usize::from(id.0)].mac,
            sender_ip: addr,
            target_mac: MacAddr::default(),
            target_ip: addr,
        };
        self.counters.arp_requests_sent += 1;
        self.send_arp(id, &packet, MacAddr::BROADCAST);
    }

    /// Timer: asks, gives up and forgets what is due on an interface.
    pub(super) fn neighbour_timer(&mut self, id: IfaceId) {
        loop {
            let Some(iface) = self.ifaces.get_mut(usize::from(id.0)) else { return };
            let Some(ip) = iface.neighbours.due(self.now) else { break };
            let mut dropped = Vec::new();
            match iface.neighbours.on_timer(ip, self.now, &mut dropped) {
                TimerAction::Broadcast => self.request(id, ip, MacAddr::BROADCAST),
                TimerAction::Unicast(mac) => self.request(id, ip, mac),
                TimerAction::Failed | TimerAction::Expired | TimerAction::None => {}
            }
            self.drop_parked(id, dropped);
        }
        self.arm_neighbours(id);
    }

    pub(super) fn arm_neighbours(&mut self, id: IfaceId) {
        if let Some(at) = self.ifaces.get_mut(usize::from(id.0)).and_then(|iface| iface.neighbours.arm()) {
            self.timers.arm(at, TimerKey::Neighbours(id));
        }
    }

    /// The headers are stripped in one go, once it is known whose the packet is.
    #[inline(always)]
    fn handle_ipv4(&mut self, id: IfaceId, link: &ethernet::Header, mut packet: RxBuf) {
        let at = link.len;
        let received = packet.total_len() - at;
        let header = match ipv4::Header::parse(&packet.as_slice()[at..], received) {
            Ok(header) => header,
            Err(error) => {
                match error {
                    HeaderError::Truncated if splits_header(&packet, at, ip_header_bytes(&packet, at)) => {
                        self.counters.drop_chain_header += 1;
                    }
                    HeaderError::Truncated => self.counters.drop_ip_truncated += 1,
                    HeaderError::Version => self.counters.drop_ip_version += 1,
                    HeaderError::Length => self.counters.drop_ip_length += 1,
                    HeaderError::Checksum => self.counters.drop_ip_checksum += 1,
                }
                return;
            }
        };
        if header.header_len > ipv4::HEADER_BYTES
            && let Err(error) =
                ipv4::options_acceptable(&packet.as_slice()[at + ipv4::HEADER_BYTES..at + header.header_len])
        {
            match error {
                OptionError::Length => self.counters.drop_ip_options += 1,
                OptionError::SourceRoute => self.counters.drop_ip_source_route += 1,
            }
            return;
        }
        // Ethernet pads short frames: what is beyond the total length is no part of the packet.
        if packet.is_chain() {
            if received != header.total_len {
                self.counters.drop_chain_trailing += 1;
                return;
            }
        } else {
            packet.truncate(at + header.total_len);
        }
        let iface = &self.ifaces[usize::from(id.0)];
        if !acceptable_source(header.src) || iface.has_address(header.src) || iface.is_broadcast(header.src) {
            self.counters.drop_ip_source += 1;
            return;
        }
        let group = if iface.has_address(header.dst) {
            // RFC 1122 section 3.3.6: a unicast address in a link-layer broadcast is somebody's mistake.
            if link.dst.is_multicast() {
                self.counters.drop_ip_not_ours += 1;
                return;
            }
            Group::Unicast
        } else if iface.is_broadcast(header.dst) || header.dst.is_multicast() {
            Group::Many
        } else {
            self.counters.drop_ip_not_ours += 1;
            return;
        };
        if iface.neighbour_source == NeighbourSource::Traffic {
            self.learn_from_traffic(id, header.src, link.src);
        }
        if header.is_fragment() {
            packet.advance(at);
            self.handle_fragment(id, header, packet, group);
            return;
        }
        self.handle_transport(id, &header, at, packet, group);
    }

    /// `packet`'s IP header (of no bytes, if it was put together from fragments) begins at `at`.
    #[inline(always)]
    pub(super) fn handle_transport(
        &mut self,
        id: IfaceId,
        header: &ipv4::Header,
        at: usize,
        mut packet: RxBuf,
        group: Group,
    ) {
        match header.protocol {
            protocol::UDP => self.handle_udp(id, header, at, packet, group),
            protocol::TCP if group == Group::Unicast => self.handle_tcp(id, header, at, packet),
            protocol::TCP => self.counters.drop_tcp_group += 1,
            protocol::ICMP => {
                packet.advance(at + header.header_len);
                self.handle_icmp(id, header, packet, group);
            }
            _ => {
                packet.advance(at + header.header_len);
                let Err(mut packet) = self.deliver_raw(header, packet) else { return };
                self.counters.drop_ip_protocol += 1;
                if packet.retreat(header.header_len) {
                    self.send_unreachable(unreachable::PROTOCOL, header, &packet, group);
                }
            }
        }
    }

    fn handle_fragment(&mut self, id: IfaceId, header: ipv4::Header, mut packet: RxBuf, group: Group) {
        self.counters.fragments_received += 1;
        // The header is not used again but for its addresses: what a time-exceeded message quotes is kept apart.
        let quote_len = (header.header_len + 8).min(packet.len());
        let mut quote = [0; ipv4::HEADER_BYTES_MAX + 8];
        quote[..quote_len].copy_from_slice(&packet.as_slice()[..quote_len]);
        packet.advance(header.header_len);
        let key = FragmentKey { src: header.src, dst: header.dst, id: header.id, protocol: header.protocol };
        let (offset, more) = (header.fragment_offset(), header.more_fragments());
        let inserted = self.reassembler.insert(key, offset, more, packet, &quote[..quote_len], self.now);
        self.count_fragments();
        match inserted {
            Inserted::Started => self.arm_reassembly(),
            Inserted::Held => {}
            Inserted::Complete(payload) => {
                self.counters.datagrams_reassembled += 1;
                self.handle_reassembled(id, &header, payload, group);
            }
            Inserted::Refused(error) => match error {
                FragmentError::Overlap | FragmentError::Poisoned => self.counters.drop_fragment_overlap += 1,
                FragmentError::Duplicate => self.counters.drop_fragment_duplicate += 1,
                FragmentError::Budget => self.counters.drop_fragment_budget += 1,
                FragmentError::TooLong
                | FragmentError::Misaligned
                | FragmentError::Tiny
                | FragmentError::Inconsistent => self.counters.drop_fragment_malformed += 1,
            },
        }
    }

    fn count_fragments(&mut self) {
        self.counters.fragments_joined = self.reassembler.fragments_joined();
        self.counters.drop_fragment_discarded = self.reassembler.fragments_discarded();
    }

    /// A whole datagram's payload, put together; its header is gone, so no error can quote it.
    fn handle_reassembled(&mut self, id: IfaceId, header: &ipv4::Header, payload: RxBuf, group: Group) {
        let header = header.of_reassembled(payload.total_len());
        self.handle_transport(id, &header, 0, payload, group);
    }

    /// Timer: gives up the datagrams whose fragments did not all come in time.
    pub(super) fn reassembly_timer(&mut self) {
        while let Some((key, timed_out)) = self.reassembler.expire(self.now) {
            self.counters.drop_fragment_timeout += 1;
            // RFC 1122 section 3.3.2: only if the first fragment had come; section 3.2.2: never about a broadcast.
            if timed_out.had_first && self.is_our_address(key.dst) {
                self.send_icmp_error(kind::TIME_EXCEEDED, 1, [0; 4], key.src, key.dst, timed_out.quote());
            }
        }
        self.count_fragments();
        self.arm_reassembly();
    }

    fn arm_reassembly(&mut self) {
        if let Some(at) = self.reassembler.arm() {
            self.timers.arm(at, TimerKey::Reassembly);
        }
    }

    #[inline(always)]
    fn handle_udp(&mut self, id: IfaceId, ip: &ipv4::Header, at: usize, mut packet: RxBuf, group: Group) {
        let received = ip.payload_len();
        let at = at + ip.header_len;
        let Some(header) = packet.as_slice().get(at..).and_then(|segment| udp::Header::parse(segment, received)) else {
            if splits_header(&packet, at, udp::HEADER_BYTES) {
                self.counters.drop_chain_header += 1;
            } else {
                self.counters.drop_udp_length += 1;
            }
            return;
        };
        if packet.is_chain() {
            if header.len != received {
                self.counters.drop_udp_length += 1;
                return;
            }
        } else {
            packet.truncate(at + header.len);
        }
        packet.advance(at + udp::HEADER_BYTES);
        if !self.udp_checksum_acceptable(id, ip, &header, &mut packet) {
            self.counters.drop_udp_checksum += 1;
            return;
        }
        let local = SocketAddrV4::new(ip.dst, header.dst_port);
        let from = SocketAddrV4::new(ip.src, header.src_port);
        let bytes = (header.len - udp::HEADER_BYTES) as u64;
        match self.udp.deliver(local, from, packet, &mut self.events) {
            Delivery::Delivered => {
                self.counters.udp_rx_datagrams += 1;
                self.counters.udp_rx_payload_bytes += bytes;
            }
            Delivery::QueueFull => self.counters.drop_udp_queue_full += 1,
            Delivery::NoSocket(mut packet) => {
                // Behind fragments the headers are gone.
                let headers_len = if ip.header_len > 0 { ip.header_len + udp::HEADER_BYTES } else { 0 };
                if group == Group::Unicast && self.hand_over(id, headers_len, &mut packet) {
                    return;
                }
                self.counters.drop_udp_no_socket += 1;
                if headers_len > 0 && packet.retreat(headers_len) {
                    self.send_unreachable(unreachable::PORT, ip, &packet, group);
                }
            }
        }
    }

    /// Looks at the checksum as the interface's policy says. The payload's sum stays with the buffer, so that sending it on need not compute it again.
    #[inline(always)]
    fn udp_checksum_acceptable(
        &mut self,
        id: IfaceId,
        ip: &ipv4::Header,
        header: &udp::Header,
        payload: &mut RxBuf,
    ) -> bool {
        if header.checksum == 0 {
            self.counters.checksums_absent += 1;
            return true;
        }
        let policy = self.ifaces[usize::from(id.0)].rx_checksum;
        if policy == RxChecksum::Trust {
            self.counters.checksums_not_verified += 1;
            return true;
        }
        let pseudo = checksum::pseudo_header(ip.src, ip.dst, protocol::UDP, header.len as u16);
        // A sender that counts on a device to finish the sum leaves the pseudo-header's in the field.
        if policy == RxChecksum::Partial && header.checksum == pseudo {
            self.counters.checksums_partial_accepted += 1;
            return true;
        }
        let payload_sum =
            if payload.is_chain() { checksum::sum_pieces(payload.pieces()) } else { checksum::sum(payload.as_slice()) };
        let right = checksum::add(checksum::add(pseudo, header.sum()), payload_sum) == 0xffff;
        if right {
            payload.set_payload_sum(payload_sum);
        }
        right
    }

    fn handle_icmp(&mut self, id: IfaceId, ip: &ipv4::Header, mut packet: RxBuf, group: Group) {
        let Some(header) = icmp::Header::parse(packet.as_slice()) else {
            if splits_header(&packet, 0, icmp::HEADER_BYTES) {
                self.counters.drop_chain_header += 1;
            } else {
                self.counters.drop_icmp_malformed += 1;
            }
            return;
        };
        if checksum::sum_pieces(packet.pieces()) != 0xffff {
            self.counters.drop_icmp_malformed += 1;
            return;
        }
        match header.kind {
            // RFC 1122 section 3.2.2.6: echo requests to broadcast and multicast may be ignored; answering makes a reflector.
            kind::ECHO_REQUEST if group == Group::Unicast => {
                // The answer goes out in the request's own frame.
                self.deliver_raw_copies(ip, &mut packet);
                self.send_echo_reply(ip, packet);
            }
            kind::UNREACHABLE | kind::TIME_EXCEEDED | kind::PARAMETER_PROBLEM => {
                let known = self.handle_icmp_error(&header, &packet);
                if !known && self.hand_over(id, ip.header_len, &mut packet) {
                    self.counters.icmp_errors_ignored -= 1;
                }
                // Of a stray its finder has told them.
                if !self.is_visiting() {
                    let _not_heard = self.deliver_raw(ip, packet);
                }
            }
            // Among them types 13 to 18: timestamp, information and address mask (CVE-2020-11911).
            _ => {
                if self.deliver_raw(ip, packet).is_err() {
                    self.counters.drop_icmp_type += 1;
                }
            }
        }
    }

    /// The request's own frame goes back as the reply.
    fn send_echo_reply(&mut self, ip: &ipv4::Header, mut packet: RxBuf) {
        let message = packet.as_mut_slice();
        message[0] = kind::ECHO_REPLY;
        message[1] = 0;
        message[2..4].fill(0);
        let sum = !checksum::sum_pieces(packet.pieces());
        packet.as_mut_slice()[2..4].copy_from_slice(&sum.to_be_bytes());
        let send = IpSend {
            src: Some(ip.dst),
            dst: ip.src,
            tos: ip.tos,
            ttl: DEFAULT_TTL,
            broadcast: false,
            l4: L4::Ready { protocol: protocol::ICMP },
        };
        match self.send_ip(send, packet.into_tx()) {
            Ok(()) => self.counters.icmp_echo_replies += 1,
            Err(_) => self.counters.drop_icmp_no_memory += 1,
        }
    }

    /// An ICMP error about a packet of ours. Believed only if the quote is long enough and matches a socket (CVE-2020-11910). True if it
    /// is about what this stack sent, believed or not.
    fn handle_icmp_error(&mut self, header: &icmp::Header, message: &RxBuf) -> bool {
        let quoted = &message.as_slice()[icmp::HEADER_BYTES..];
        let quote = Quote::parse(quoted);
        let matched = match quote {
            None => self.handle_raw_error(header, quoted),
            Some(quote) if !self.is_our_address(*quote.local.ip()) => false,
            Some(quote) if quote.protocol == protocol::UDP => self.handle_udp_error(header, quote.local, quote.remote),
            Some(quote) => self.handle_tcp_error(header, &quote),
        };
        if matched {
            self.counters.icmp_errors_received += 1;
        } else {
            self.counters.icmp_errors_ignored += 1;
        }
        matched || quote.is_some_and(|q| q.protocol == protocol::UDP && self.udp.has_local(q.local, q.remote))
    }

    fn handle_tcp_error(&mut self, header: &icmp::Header, quote: &Quote) -> bool {
        let error = match (header.kind, header.code) {
            (kind::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED) => IcmpError::TooBig(header.low),
            (kind::UNREACHABLE, unreachable::PORT | unreachable::PROTOCOL) => IcmpError::Refused,
            (kind::UNREACHABLE, _) => IcmpError::Unreachable,
            _ => IcmpError::Other,
        };
        self.tcp_icmp_error(&Endpoints { local: quote.local, remote: quote.remote }, quote.seq, error)
    }

    fn handle_udp_error(&mut self, header: &icmp::Header, local: SocketAddrV4, remote: SocketAddrV4) -> bool {
        match (header.kind, header.code) {
            (kind::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED) => {
                // A socket that is bound and not connected fits any quote: only where it has sent to is a live flow.
                let known = self.udp.has_local(local, remote) && self.dest.remembers(*remote.ip());
                if known && self.path_mtus.handle_too_big(*remote.ip(), header.low, self.now) {
                    self.dest.clear();
                }
                known
            }
            (kind::UNREACHABLE, unreachable::PORT | unreachable::PROTOCOL) => {
                self.udp.report(local, remote, PendingError::Refused, &mut self.events)
            }
            // RFC 1122 section 4.2.3.9 calls the others soft; a datagram socket is told, nothing is torn down.
            (kind::UNREACHABLE, _) => self.udp.report(local, remote, PendingError::HostUnreachable, &mut self.events),
            _ => self.udp.has_local(local, remote),
        }
    }

    /// Answers `packet`, which begins with its IP header, unless RFC 1122 section 3.2.2 forbids it.
    #[cold]
    fn send_unreachable(&mut self, code: u8, header: &ipv4::Header, packet: &RxBuf, group: Group) {
        if group == Group::Many || header.header_len == 0 || header.fragment_offset() > 0 {
            return;
        }
        let mut quote = [0; QUOTE_BYTES_MAX];
        let len = packet.len().min(QUOTE_BYTES_MAX);
        quote[..len].copy_from_slice(&packet.as_slice()[..len]);
        self.send_icmp_error(kind::UNREACHABLE, code, [0; 4], header.src, header.dst, &quote[..len]);
    }

    /// Sends an error message to `to` from `from`, within the rate limit; never about an ICMP error (RFC 1122 section 3.2.2).
    fn send_icmp_error(&mut self, kind: u8, code: u8, rest: [u8; 4], to: Ipv4Addr, from: Ipv4Addr, quote: &[u8]) {
        if quotes_icmp_error(quote) {
            return;
        }
        if !self.icmp_errors.take(self.now) {
            self.counters.icmp_errors_limited += 1;
            return;
        }
        let Some(mut buf) = self.pool.alloc_control() else {
            self.counters.icmp_errors_not_sent += 1;
            return;
        };
        let mut header = [0; icmp::HEADER_BYTES];
        icmp::write_error(&mut header, kind, code, rest, checksum::sum(quote));
        let written = buf.put_slice(&header).and_then(|()| buf.put_slice(quote));
        let send = IpSend {
            src: self.is_our_address(from).then_some(from),
            dst: to,
            // RFC 1812 section 4.3.2.5: errors have precedence 6 (internetwork control).
            tos: 0xc0,
            ttl: DEFAULT_TTL,
            broadcast: false,
            l4: L4::Ready { protocol: protocol::ICMP },
        };
        match written.map(|()| self.send_ip(send, buf)) {
            Ok(Ok(())) => self.counters.icmp_errors_sent += 1,
            _ => self.counters.icmp_errors_not_sent += 1,
        }
    }
}

/// Whom a packet was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// One address of ours.
    Unicast,
    /// A broadcast or multicast address.
    Many,
}

/// RFC 1122 section 3.2.1.3: a source is one host's address.
pub(super) fn acceptable_source(src: Ipv4Addr) -> bool {
    !(src.is_multicast() || src.is_broadcast() || src.is_loopback() || src.octets()[0] == 0 || src.octets()[0] >= 240)
}

/// The header of `bytes` bytes at `at` is there, but its end lies in a later piece than the first.
#[cold]
pub(super) fn splits_header(packet: &RxBuf, at: usize, bytes: usize) -> bool {
    packet.len() < at + bytes && at + bytes <= packet.total_len()
}

/// How long the IPv4 header at `at` says that it is.
#[cold]
fn ip_header_bytes(packet: &RxBuf, at: usize) -> usize {
    let said = packet.as_slice().get(at).map_or(0, |&first| usize::from(first & 0x0f) * 4);
    said.max(ipv4::HEADER_BYTES)
}

/// `quote` (IP header and 8 bytes) is of an ICMP error, about which no other may be sent.
fn quotes_icmp_error(quote: &[u8]) -> bool {
    let header_len = quote.first().map_or(0, |&first| usize::from(first & 0x0f) * 4);
    quote.get(9) == Some(&protocol::ICMP) && quote.get(header_len).is_none_or(|&kind| icmp::is_error(kind))
}

/// What an ICMP error quotes of a UDP or TCP packet of ours: endpoints (ours, the peer's) and what follows the ports, which in TCP is the sequence number.
#[derive(Clone, Copy, Debug)]
struct Quote {
    protocol: u8,
    local: SocketAddrV4,
    remote: SocketAddrV4,
    seq: SeqNum,
}

impl Quote {
    /// `None` unless the IP header and 8 bytes behind it are there.
    fn parse(quote: &[u8]) -> Option<Self> {
        let head: &[u8; ipv4::HEADER_BYTES] = quote.first_chunk()?;
        let header_len = usize::from(head[0] & 0x0f) * 4;
        if head[0] >> 4 != 4 || header_len < ipv4::HEADER_BYTES || !matches!(head[9], protocol::UDP | protocol::TCP) {
            return None;
        }
        // A later fragment has no ports where they would be.
        if u16::from_be_bytes([head[6], head[7]]) & 0x1fff != 0 {
            return None;
        }
        let l4: &[u8; 8] = quote.get(header_len..)?.first_chunk()?;
        let src = Ipv4Addr::new(head[12], head[13], head[14], head[15]);
        let dst = Ipv4Addr::new(head[16], head[17], head[18], head[19]);
        Some(Self {
            protocol: head[9],
            local: SocketAddrV4::new(src, u16::from_be_bytes([l4[0], l4[1]])),
            remote: SocketAddrV4::new(dst, u16::from_be_bytes([l4[2], l4[3]])),
            seq: SeqNum(u32::from_be_bytes([l4[4], l4[5], l4[6], l4[7]])),
        })
    }
}
