//! One worker's counters. Every packet that is not delivered is counted in exactly one `drop_…`.

macro_rules! counters {
    ($($field:ident: $help:literal,)*) => {
        /// One worker's counters: what went through, what was refused and why, what was copied.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $(#[doc = $help] pub $field: u64,)*
        }

        impl Counters {
            /// Names and sentences, in the order of [`values`](Self::values).
            pub const NAMES: &'static [(&'static str, &'static str)] = &[$((stringify!($field), $help),)*];

            /// How many counters there are.
            pub const COUNT: usize = Self::NAMES.len();

            /// All values, in the order of [`NAMES`](Self::NAMES).
            pub fn values(&self) -> [u64; Self::COUNT] {
                [$(self.$field,)*]
            }

            /// Counters made of [`values`](Self::values).
            pub fn from_values(values: [u64; Self::COUNT]) -> Self {
                let [$($field,)*] = values;
                Self { $($field,)* }
            }

            /// Adds another worker's counters.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

counters! {
    rx_frames: "Ethernet frames taken from ports.",
    rx_bytes: "Bytes of those frames.",
    tx_frames: "Ethernet frames handed to egress queues.",
    tx_bytes: "Bytes of those frames.",
    udp_rx_datagrams: "UDP datagrams put into a socket's receive queue.",
    udp_tx_datagrams: "UDP datagrams accepted for sending.",
    udp_rx_payload_bytes: "Payload bytes of received datagrams.",
    udp_tx_payload_bytes: "Payload bytes of sent datagrams.",
    tcp_rx_segments: "TCP segments received with a right checksum.",
    tcp_tx_segments: "TCP segments handed to egress queues, retransmissions among them.",
    tcp_rx_payload_bytes: "Payload bytes accepted from TCP peers, each once.",
    tcp_tx_payload_bytes: "Payload bytes sent to TCP peers, each once.",
    tcp_rx_bytes_coalesced: "Payload bytes of small segments copied into the frame before, because frames were getting scarce.",
    tcp_connections_opened: "TCP connections that we opened.",
    tcp_connections_accepted: "TCP connections that peers opened.",
    tcp_retransmissions: "TCP segments sent again.",
    tcp_retransmissions_waited: "Retransmissions put off because the kernel still had the frame.",
    tcp_timeouts: "TCP retransmission time-outs.",
    tcp_tail_probes: "TCP tail loss probes (RFC 8985).",
    tcp_fast_recoveries: "TCP fast recoveries.",
    tcp_spurious_recoveries: "TCP recoveries taken back because nothing was lost (RFC 3522, RFC 2883).",
    tcp_ecn_reductions: "TCP congestion window reductions because of ECN.",
    tcp_dsacks_received: "TCP acknowledgments that reported duplicates (RFC 2883).",
    tcp_out_of_order: "TCP segments that came out of order and were kept.",
    tcp_duplicates: "TCP segments whose data had come before.",
    tcp_window_probes: "Probes sent into closed windows.",
    tcp_window_probes_received: "Data that came while our window was closed.",
    tcp_keepalive_probes: "TCP keep-alive probes sent.",
    tcp_user_timeouts: "TCP connections given up because the peer did not answer.",
    tcp_orphans_reset: "TCP connections reset after their application had closed them, because there were too many of those.",
    tcp_black_holes: "TCP connections that went to small segments because large ones vanished.",
    tcp_challenge_acks: "Challenge ACKs (RFC 5961).",
    tcp_challenge_acks_limited: "Challenge ACKs not sent because of the connection's limit.",
    tcp_resets_sent: "TCP resets sent.",
    tcp_resets_limited: "TCP resets not sent because of the rate limit.",
    tcp_resets_received: "TCP resets that ended a connection.",
    tcp_syn_cookies_sent: "SYN-ACKs with a cookie, because a listener's backlog was full (RFC 4987).",
    tcp_syn_cookies_accepted: "Connections made of a returned cookie.",
    tcp_time_waits_cut: "TIME-WAITs forgotten early because there were too many.",
    tcp_half_open_expired: "Half-open connections given up because the peer did not answer.",
    raw_rx_packets: "Packets put into a raw socket's receive queue, each copy for another socket among them.",
    raw_tx_packets: "Packets accepted from raw sockets for sending.",
    icmp_echo_replies: "Echo requests answered.",
    icmp_errors_sent: "ICMP error messages sent.",
    icmp_errors_limited: "ICMP error messages not sent because of the rate limit.",
    icmp_errors_not_sent: "ICMP error messages not sent for want of a frame, of room or of a route.",
    icmp_errors_received: "ICMP error messages that matched one of our sockets.",
    icmp_errors_ignored: "ICMP error messages whose quote is cut or matches nothing of ours.",
    arp_requests_sent: "ARP requests and announcements sent.",
    arp_replies_sent: "ARP replies sent.",
    arp_received: "ARP packets read.",
    arp_conflicts: "ARP packets from another station that claims one of our addresses.",
    fragments_received: "IPv4 fragments received.",
    fragments_sent: "IPv4 fragments sent.",
    datagrams_reassembled: "Datagrams put together from fragments.",
    fragments_joined: "Fragments that became part of those.",
    bytes_copied_tx: "Payload bytes copied in user space on the way out: 0 on the zero-copy calls.",
    strays_handed_over: "Packets that came in on the queue of a worker that knew nothing of them, and were copied for the others.",
    bytes_copied_strays: "Bytes of those packets.",
    bytes_copied_rx: "Payload bytes copied in user space on the way in: 0 on the zero-copy calls.",
    checksums_partial_accepted: "Packets accepted with only the pseudo-header's sum in the checksum field (receive policy `partial`).",
    checksums_not_verified: "UDP datagrams taken without looking at their checksum (receive policy `trust`).",
    checksums_absent: "UDP datagrams whose sender computed no checksum (RFC 768).",
    send_would_block: "Sends refused because the egress queue or the frame pool had no room; the caller kept the buffer.",
    drop_frame_short: "Frame shorter than its Ethernet header or VLAN tag.",
    drop_not_our_mac: "Frame for another station's Ethernet address.",
    drop_vlan: "Frame with a VLAN tag that is not the interface's, or without the one it has.",
    drop_ethertype: "Frame of a protocol that the engine does not speak.",
    drop_interface_down: "Frame for an interface that is down.",
    drop_chain_header: "Packet whose headers do not lie in its first piece.",
    drop_chain_trailing: "Packet of several pieces with bytes beyond its length.",
    drop_arp_malformed: "ARP packet cut, or with address sizes other than 6 and 4.",
    drop_arp_source: "ARP packet from our own or a group's Ethernet address.",
    drop_ip_truncated: "IPv4 packet shorter than its header or than it says.",
    drop_ip_version: "IPv4 ethertype with another version in the header.",
    drop_ip_length: "IPv4 header length or total length that contradicts the other.",
    drop_ip_checksum: "IPv4 header checksum wrong.",
    drop_ip_options: "IPv4 option cut or of an impossible length.",
    drop_ip_source_route: "IPv4 packet with a source route.",
    drop_ip_source: "IPv4 source that no host may have: broadcast, multicast, loopback, or our own address (LAND).",
    drop_ip_not_ours: "IPv4 destination that is not ours.",
    drop_ip_protocol: "IPv4 protocol that is not offered and that no raw socket hears; answered with protocol unreachable.",
    drop_fragment_overlap: "Fragment that overlaps another: the datagram is discarded (RFC 5722).",
    drop_fragment_duplicate: "Fragment that was there already.",
    drop_fragment_malformed: "Fragment that is empty, unaligned, too long, too short for its first header, or contradicts the datagram's end.",
    drop_fragment_budget: "Fragment dropped because reassembly has its share of memory in use.",
    drop_fragment_discarded: "Fragment that was kept and then freed with its unfinished datagram: overlap, time-out, or room for others.",
    drop_fragment_timeout: "Datagram given up because its fragments did not all come in time.",
    drop_icmp_malformed: "ICMP message cut or with a wrong checksum.",
    drop_icmp_type: "ICMP message of a type that is not answered and that no raw socket hears.",
    drop_icmp_no_memory: "Echo request not answered for want of a frame, of room in the egress queue or of a route.",
    drop_udp_length: "UDP length shorter than its header or longer than the packet.",
    drop_udp_checksum: "UDP checksum wrong.",
    drop_udp_no_socket: "UDP datagram for a port that nobody has bound; answered with port unreachable.",
    drop_udp_queue_full: "UDP datagram for a socket whose receive queue is full, in bytes or frames.",
    drop_raw_queue_full: "Packet, or copy of one, for a raw socket whose receive queue is full, in bytes or frames.",
    drop_raw_no_memory: "Copy for one more raw socket not made for want of a frame.",
    drop_tcp_header: "TCP header cut, of an impossible length, or with malformed options.",
    drop_tcp_checksum: "TCP checksum wrong.",
    drop_stray: "Packet for another worker, when too many were, or without a free frame there.",
    drop_tcp_no_connection: "TCP segment that belongs to no connection; answered with a reset.",
    drop_tcp_paws: "TCP segment with an old timestamp (RFC 7323).",
    drop_tcp_no_timestamp: "TCP segment without the timestamp that was agreed on (RFC 7323).",
    drop_tcp_out_of_window: "TCP segment outside the receive window.",
    drop_tcp_reset: "TCP reset that is not exactly where it must be (RFC 5961).",
    drop_tcp_syn: "TCP SYN for a connection that exists (RFC 5961).",
    drop_tcp_no_ack: "TCP segment without an acknowledgment.",
    drop_tcp_ack: "TCP acknowledgment of what was never sent, or long ago (RFC 5961).",
    drop_tcp_no_room: "TCP data without room: frames, holes or budget used up; it comes again.",
    drop_tcp_after_close: "TCP data for a closed socket; answered with a reset.",
    drop_tcp_backlog: "TCP connection attempt dropped because the listener's backlog is full.",
    drop_tcp_group: "TCP segment to or from a broadcast or multicast address.",
    drop_tx_neighbour_failed: "Packet given up because the next hop did not answer ARP.",
    drop_tx_neighbour_queue: "Packet given up because too many wait for the same next hop's ARP answer.",
    drop_tx_no_memory: "Packet given up for want of frames for its headers.",
    drop_tx_no_route: "Packet given up because its route went away while it waited.",
}

#[cfg(test)]
mod tests {
    use super::Counters;

    #[test]
    fn values_round_trip_and_add() {
        let mut counters = Counters { rx_frames: 3, drop_ip_source: 4, ..Counters::default() };
        assert_eq!(Counters::from_values(counters.values()), counters);
        counters.add(&Counters { rx_frames: 2, ..Counters::default() });
        assert_eq!((counters.rx_frames, counters.drop_ip_source), (5, 4));
    }

    #[test]
    fn every_counter_has_a_sentence() {
        for (name, help) in Counters::NAMES {
            assert!(help.ends_with('.') && help.len() > 15, "{name}");
        }
    }
}
