//! One stack with an echo socket, and the books that must be right after everything.

use crate::frames::*;
use framewire::{
    buf::{HugePages, Pool, PoolConfig, Region, RxBuf, Sealed},
    proto::IfaceId,
    socket::TcpListener,
    stack::{IfaceConfig, Stack, StackConfig, StackEvent, UdpHandle},
    telemetry::Counters,
    time::{Duration, Instant},
    wire::{MacAddr, arp, checksum, ethernet, ipv4},
};
use std::net::{Ipv4Addr, SocketAddrV4};

const IFACE: IfaceId = IfaceId(0);

pub(crate) struct Rig {
    pub(crate) stack: Stack,
    pub(crate) now: Instant,
    pub(crate) echo: UdpHandle,
    pub(crate) listener: Option<TcpListener>,
    /// Was sent already, and nobody has looked at it.
    kept: Vec<Vec<u8>>,
    asked: u32,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(|_, _| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut StackConfig, &mut IfaceConfig)) -> Self {
        Self::on(Self::pool(), change)
    }

    pub(crate) fn pool() -> Pool {
        let region = Region::map(2048, 4096, HugePages::Never).unwrap();
        Pool::new(region, PoolConfig { rx_reserve_frames: 64, run_frames: 64 })
    }

    /// All frames of `pool` must be free.
    pub(crate) fn on(pool: Pool, change: impl FnOnce(&mut StackConfig, &mut IfaceConfig)) -> Self {
        let mut config = StackConfig::new([7; 32]);
        let mut iface = IfaceConfig::new("fw0", OUR_MAC, vec!["10.0.0.1/24".parse().unwrap()]);
        iface.tx_pieces_max = 17;
        change(&mut config, &mut iface);
        let mut stack = Stack::new(pool, config, Instant::ZERO);
        stack.add_interface(iface).unwrap();
        let echo = stack.udp_bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, ECHO_PORT)).unwrap();
        let mut rig = Self { stack, now: Instant::ZERO, echo, listener: None, kept: vec![], asked: 0 };
        // Past the announcements, with the peer known.
        rig.advance(Duration::from_secs(3));
        rig.sent();
        rig.introduce(PEER, PEER_MAC);
        rig
    }

    /// Has a station ask for us, and takes the answer.
    pub(crate) fn introduce(&mut self, addr: Ipv4Addr, mac: MacAddr) {
        let request = arp(arp::Operation::Request, mac, addr, US);
        self.receive(&self.tag(request));
        assert!(self.sent().iter().any(|frame| frame[..6] == mac.0), "the ARP reply");
    }

    /// The station at `addr` is known, however long it has been silent.
    pub(crate) fn know(&mut self, addr: Ipv4Addr) {
        let mut sent = self.sent();
        if addr == PEER {
            self.receive(&arp(arp::Operation::Request, PEER_MAC, PEER, US));
            sent.extend(self.sent());
        }
        self.kept = sent;
    }

    fn tag(&self, frame: Vec<u8>) -> Vec<u8> {
        match self.stack.interfaces()[0].vlan {
            Some(vlan) => tagged(&frame, vlan),
            None => frame,
        }
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(at) = self.stack.next_deadline().filter(|&at| at <= until) {
            self.now = self.now.max(at) + Duration::from_micros(100);
            self.stack.poll_timers(self.now);
        }
        self.now = self.now.max(until);
        self.stack.poll_timers(self.now);
    }

    pub(crate) fn receive(&mut self, frame: &[u8]) {
        self.receive_pieces(&[frame]);
    }

    /// A frame that the port received in several buffers.
    pub(crate) fn receive_pieces(&mut self, pieces: &[&[u8]]) {
        let pool = self.stack.pool().clone();
        let mut pieces = pieces.iter().map(|piece| pool.rx_from_bytes(piece).unwrap());
        let mut packet: RxBuf = pieces.next().unwrap();
        for piece in pieces {
            packet.append(piece).unwrap();
        }
        self.stack.ingress(self.now, IFACE, &mut vec![packet]);
    }

    /// The echo server: every datagram goes back to its sender.
    pub(crate) fn serve(&mut self) -> usize {
        let mut served = 0;
        while let Some(datagram) = self.stack.udp_recv(self.echo) {
            let from = self.stack.is_our_address(datagram.to).then_some(datagram.to);
            let _ = self.stack.udp_send_from(self.echo, datagram.buf.into_tx(), from, datagram.from);
            served += 1;
        }
        for _ in 0..self.stack.event_count() {
            match self.stack.next_event() {
                None | Some(StackEvent::UdpReadable(_) | StackEvent::UdpError(_) | StackEvent::UdpWritable(_)) => {}
                Some(StackEvent::Tcp(_) | StackEvent::TcpAcceptable(_)) => {}
                Some(StackEvent::RawReadable(_) | StackEvent::RawWritable(_) | StackEvent::RawError(_)) => {}
                Some(StackEvent::Timer(token)) => panic!("nobody set timer {token}"),
            }
        }
        served
    }

    /// What waits to be sent, each packet put together from its pieces.
    pub(crate) fn sent(&mut self) -> Vec<Vec<u8>> {
        self.stack.set_now(self.now);
        self.stack.flush();
        let (mut packets, mut packet) = (std::mem::take(&mut self.kept), vec![]);
        while let Some(piece) = self.stack.egress(IFACE).pop() {
            packet.extend_from_slice(piece.as_slice());
            if !piece.more() {
                packets.push(std::mem::take(&mut packet));
            }
        }
        assert!(packet.is_empty(), "a packet without an end");
        self.stack.egress_drained(IFACE);
        packets
    }

    /// As [`sent`](Self::sent), but the frames stay with the network card as long as `held` has them.
    pub(crate) fn post(&mut self, held: &mut Vec<Sealed>) -> Vec<Vec<u8>> {
        self.stack.set_now(self.now);
        self.stack.flush();
        let (mut packets, mut packet) = (std::mem::take(&mut self.kept), vec![]);
        while let Some(piece) = self.stack.egress(IFACE).pop() {
            packet.extend_from_slice(piece.as_slice());
            if !piece.more() {
                packets.push(std::mem::take(&mut packet));
            }
            held.push(piece);
        }
        self.stack.egress_drained(IFACE);
        packets
    }

    /// Receives a frame that must be dropped, for `reason` alone; returns what is sent about it.
    pub(crate) fn dropped(&mut self, frame: &[u8], reason: &str) -> Vec<Vec<u8>> {
        let before = self.stack.counters;
        self.receive(frame);
        assert_eq!(drops_since(&before, &self.stack.counters), [(reason, 1)], "frame {frame:02x?}");
        self.accounted();
        self.sent()
    }

    /// Ping and UDP echo are answered.
    pub(crate) fn alive(&mut self) {
        self.serve();
        self.sent();
        self.introduce(PEER, PEER_MAC);
        self.asked += 1;
        let text = format!("alive {:08}", self.asked);
        self.receive(&self.tag(ping(text.as_bytes())));
        self.receive(&self.tag(udp(4000, ECHO_PORT, text.as_bytes())));
        self.serve();
        let sent = self.sent();
        let answers: Vec<_> = sent
            .iter()
            .map(|frame| &frame[ethernet::Header::parse(frame).unwrap().len..])
            .filter(|packet| packet.ends_with(text.as_bytes()))
            .inspect(|packet| {
                let header = ipv4::Header::parse(packet, packet.len()).unwrap();
                assert_eq!((header.src, header.dst, header.total_len), (US, PEER, packet.len()));
                let pseudo = checksum::pseudo_header(US, PEER, 17, packet.len() as u16 - 20);
                let sum = checksum::sum(&packet[20..]);
                assert_eq!(if header.protocol == 17 { checksum::add(pseudo, sum) } else { sum }, 0xffff);
            })
            .map(|packet| (packet[9], packet[20]))
            .collect();
        assert_eq!(answers, [(1, 0), (17, 0)], "an echo reply and a datagram from port 7");
    }

    /// Every frame that came is accounted for once: it was delivered, consumed by a protocol, or dropped for one reason.
    pub(crate) fn accounted(&self) {
        let c = &self.stack.counters;
        let transport = c.udp_rx_datagrams
            + c.icmp_echo_replies
            + c.icmp_errors_received
            + c.icmp_errors_ignored
            + c.drop_udp_length
            + c.drop_udp_checksum
            + c.drop_udp_no_socket
            + c.drop_udp_queue_full
            + c.drop_icmp_malformed
            + c.drop_icmp_type
            + c.drop_icmp_no_memory
            + c.drop_tcp_header
            + c.drop_tcp_checksum
            + c.drop_tcp_group
            + c.tcp_rx_segments
            + c.drop_ip_protocol
            + c.drop_chain_header;
        let network = c.drop_ip_truncated
            + c.drop_ip_version
            + c.drop_ip_length
            + c.drop_ip_checksum
            + c.drop_ip_options
            + c.drop_ip_source_route
            + c.drop_ip_source
            + c.drop_ip_not_ours
            + c.drop_chain_trailing;
        // Of these, `drop_arp_malformed` and `drop_arp_source` are part.
        let link = c.arp_received
            + c.drop_interface_down
            + c.drop_frame_short
            + c.drop_not_our_mac
            + c.drop_vlan
            + c.drop_ethertype;
        assert_eq!(
            c.rx_frames + c.datagrams_reassembled,
            link + network + c.fragments_received + transport,
            "frames and whole datagrams are link, network, fragments and transport: {c:?}"
        );
        let held = self.stack.usage().reassembly_fragments as u64;
        let refused =
            c.drop_fragment_overlap + c.drop_fragment_duplicate + c.drop_fragment_malformed + c.drop_fragment_budget;
        assert_eq!(
            c.fragments_received,
            refused + c.fragments_joined + c.drop_fragment_discarded + held,
            "fragments are refused, joined, discarded or held: {c:?}"
        );
    }

    /// Alive, accounted for, and every frame comes back.
    pub(crate) fn finish(mut self) {
        self.alive();
        self.accounted();
        let pool = self.stack.pool().clone();
        assert!(pool.ledger().balances(), "{}", pool.ledger());
        drop(self.stack);
        assert!(pool.ledger().is_whole(), "{}", pool.ledger());
    }
}

/// The `drop_…` counters that moved, and by how much.
pub(crate) fn drops_since(before: &Counters, after: &Counters) -> Vec<(&'static str, u64)> {
    let names = Counters::NAMES.iter().map(|(name, _)| *name);
    names
        .zip(before.values().into_iter().zip(after.values()))
        .filter(|(name, (before, after))| name.starts_with("drop_") && before != after)
        .map(|(name, (before, after))| (name, after - before))
        .collect()
}
