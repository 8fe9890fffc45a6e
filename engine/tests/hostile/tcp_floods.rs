//! Floods of segments: whatever comes, memory stays within its budget, the answers within their rate, and a true client gets in.

use crate::{frames::*, rig::Rig, tcp_peer::*};
use framewire::{
    socket::{TcpState, TcpStream},
    time::Duration,
    wire::{ipv4, tcp::flags},
};
use std::net::{Ipv4Addr, SocketAddrV4};

/// One of the 65,000 stations of 10.0.0.0/16 that do not exist.
fn stranger(n: u32) -> SocketAddrV4 {
    let [_, _, c, d] = (512 + n % 60_000).to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(10, 0, c, d), 1024 + (n / 60_000) as u16)
}

fn count(heard: &[Heard], flags: u8) -> usize {
    heard.iter().filter(|heard| heard.has(flags)).count()
}

/// RFC 4987 section 3.6.
#[test]
fn a_syn_flood_leaves_room_for_a_true_client() {
    let mut rig = Rig::with(|_, iface| iface.addresses = vec!["10.0.0.1/16".parse().unwrap()]);
    rig.listen(64);
    let mut old = Peer::port(999).with_timestamps();
    let stream = old.connect(&mut rig);
    for n in 0..200_000 {
        rig.receive(&Peer::new(stranger(n)).syn().frame());
        if n % 64 == 0 {
            rig.sent();
        }
        if n % 1000 == 0 {
            rig.advance(Duration::from_millis(10));
            let usage = rig.stack.usage();
            assert!(usage.tcp_half_open <= 64 && usage.timers < 300 && usage.tcp_connections == 1, "{usage:?}");
        }
    }
    let counters = rig.stack.counters;
    assert!(counters.tcp_syn_cookies_sent > 190_000, "{counters:?}");
    for (port, clock) in [(1000, None), (1001, Some((77, 0)))] {
        let mut client = Peer { clock, ..Peer::port(port) };
        let stream = client.connect(&mut rig);
        let info = stream.info(&rig.net()).unwrap();
        assert_eq!((info.timestamps, info.sack), (clock.is_some(), clock.is_some()), "what a cookie can keep");
        client.talks(&mut rig, stream);
    }
    assert_eq!(rig.stack.counters.tcp_syn_cookies_accepted, 2);
    old.talks(&mut rig, stream);
    // Nobody answers: the half-open ones go, and with them all that the flood has left.
    rig.advance(Duration::from_secs(200));
    let usage = rig.stack.usage();
    assert_eq!((usage.tcp_half_open, usage.tcp_connections), (0, 3), "{usage:?}");
    assert_eq!(rig.stack.counters.tcp_half_open_expired, 64);
    old.connect_again(&mut rig, 1002);
    rig.finish();
}

impl Peer {
    /// Another connection from the same station, by the ordinary way.
    fn connect_again(&self, rig: &mut Rig, port: u16) {
        let before = rig.stack.counters.tcp_syn_cookies_sent;
        let mut client = Self::port(port);
        let stream = client.connect(rig);
        client.talks(rig, stream);
        assert_eq!(rig.stack.counters.tcp_syn_cookies_sent, before);
    }
}

/// A SYN-ACK is not larger than its SYN by more than options, and repeated a few times only: nobody gains from a forged source.
#[test]
fn a_syn_is_not_amplified() {
    let mut rig = Rig::listening(64);
    let syn = Peer::port(1000).syn().frame();
    rig.receive(&syn);
    let mut answers = rig.sent();
    for _ in 0..400 {
        rig.introduce(PEER, PEER_MAC);
        rig.advance(Duration::from_secs(1));
        answers.extend(rig.sent());
    }
    let answers: Vec<_> = segments(&answers).into_iter().map(|heard| heard.packet).collect();
    assert_eq!(answers.len(), 1 + 5);
    assert!(answers.iter().all(|answer| answer.len() <= syn.len() + 8), "{} answers to {}", answers.len(), syn.len());
    assert_eq!(rig.stack.usage().tcp_half_open, 0);
    rig.finish();
}

/// SYN and RST in turns: half-open connections come and go, and leave no timers behind.
#[test]
fn half_open_connections_that_reset_themselves() {
    let mut rig = Rig::listening(64);
    for n in 0..50_000u32 {
        let peer = Peer::port(1024 + (n % 60_000) as u16);
        rig.receive(&peer.syn().frame());
        rig.receive(&peer.segment(RST, b"").with(|segment| segment.seq = peer.nxt.wrapping_add(1)).frame());
        rig.sent();
        if n % 100 == 0 {
            rig.advance(Duration::from_millis(1));
        }
        let usage = rig.stack.usage();
        assert!(usage.tcp_half_open == 0 && usage.timers < 5_000, "{n}: {usage:?}");
    }
    rig.finish();
}

#[test]
fn acknowledgments_from_nowhere_are_answered_within_a_rate() {
    let mut rig = Rig::listening(64);
    let mut peer = Peer::port(999).with_timestamps();
    let stream = peer.connect(&mut rig);
    let mut random = Random(4);
    let mut resets = 0;
    for n in 0..100_000 {
        let stray = Peer::port(1024 + random.below(60_000) as u16);
        let stray = stray.segment([ACK, ACK | FIN, ACK | flags::PSH, FIN][n % 4], b"stray");
        let stray = stray.with(|segment| {
            (segment.seq, segment.ack) = (random.next() as u32, random.next() as u32);
            segment.to.set_port(if n % 2 == 0 { TCP_PORT } else { 81 });
        });
        rig.receive(&stray.frame());
        if n % 64 == 0 {
            resets += count(&segments(&rig.sent()), RST);
        }
    }
    resets += count(&segments(&rig.sent()), RST);
    assert!(resets <= 10_000, "{resets} resets at one instant");
    let counters = rig.stack.counters;
    assert!(counters.tcp_resets_limited >= 50_000 && counters.tcp_syn_cookies_accepted == 0, "{counters:?}");
    assert_eq!(rig.stack.usage().tcp_connections, 1);
    peer.talks(&mut rig, stream);
    rig.finish();
}

#[test]
fn a_scan_of_all_ports() {
    let mut rig = Rig::listening(64);
    let mut answers = [0; 2];
    for port in 1..=u16::MAX {
        let probe = Peer::port(40_000).syn().with(|segment| segment.to.set_port(port));
        rig.receive(&probe.frame());
        let heard = segments(&rig.sent());
        answers[0] += count(&heard, RST | ACK);
        answers[1] += count(&heard, SYN | ACK);
        for heard in heard.iter().filter(|heard| heard.has(RST)) {
            assert_eq!((heard.header.seq.0, heard.header.ack.0), (0, probe.seq.wrapping_add(1)));
        }
    }
    assert_eq!(answers, [10_000, 1], "resets, and the one port that is open");
    assert_eq!(rig.stack.counters.tcp_resets_limited, 65_534 - 10_000);
    rig.advance(Duration::from_secs(200));
    rig.finish();
}

/// Three hundred streams of one byte a segment, which nobody reads.
#[test]
fn segments_of_one_byte_hold_no_more_than_their_share() {
    let mut rig = Rig::listening(512);
    let mut peers: Vec<(Peer, TcpStream)> = (0..300)
        .map(|n| {
            let mut peer = Peer::port(2000 + n).with_timestamps();
            let stream = peer.connect(&mut rig);
            (peer, stream)
        })
        .collect();
    let mut sent: Vec<Vec<u8>> = vec![vec![]; peers.len()];
    for round in 0..1500_u32 {
        for (at, (peer, _)) in peers.iter_mut().enumerate() {
            let byte = (round as u8).wrapping_mul(31).wrapping_add(at as u8);
            let (nxt, before) = (peer.nxt, rig.stack.counters);
            peer.send(&mut rig, &[byte]);
            if rig.stack.counters.drop_tcp_no_room + rig.stack.counters.drop_tcp_out_of_window
                == before.drop_tcp_no_room + before.drop_tcp_out_of_window
                && rig.stack.counters.tcp_window_probes_received == before.tcp_window_probes_received
            {
                sent[at].push(byte);
            } else {
                peer.nxt = nxt;
            }
        }
        rig.sent();
        let held = rig.stack.usage().tcp_rx_frames;
        assert!(held <= 1024, "half of 2,048 frames, not {held}");
    }
    rig.alive();
    for ((_, stream), sent) in peers.iter().zip(&sent) {
        assert!(!sent.is_empty());
        assert_eq!(&rig.read(*stream), sent, "what was accepted is what is read");
    }
    assert_eq!(rig.stack.usage().tcp_rx_frames, 0);
    for (peer, stream) in &mut peers {
        peer.talks(&mut rig, *stream);
    }
    rig.finish();
}

/// One stream alone: small segments are put together when frames get scarce.
#[test]
fn many_small_segments_end_in_few_frames() {
    let mut rig = Rig::listening(8);
    let mut peer = Peer::port(2000).with_timestamps();
    let stream = peer.connect(&mut rig);
    let mut text = vec![];
    for n in 0..40_000_u32 {
        let byte = (n ^ n >> 8) as u8;
        peer.send(&mut rig, &[byte]);
        text.push(byte);
        if n % 64 == 0 {
            rig.sent();
        }
    }
    let usage = rig.stack.usage();
    assert!(usage.tcp_rx_frames < 600, "{usage:?}");
    assert!(rig.stack.counters.tcp_rx_bytes_coalesced > 35_000);
    assert!(rig.read(stream) == text, "the bytes in their order");
    peer.talks(&mut rig, stream);
    rig.finish();
}

/// A hostile stream takes what it can get and keeps it: others still get bytes through.
#[test]
fn a_stream_that_nobody_reads_leaves_frames_for_others() {
    let mut rig = Rig::listening(8);
    let mut greedy = Peer::port(2000);
    greedy.connect(&mut rig);
    let mut modest = Peer::port(2001);
    let stream = modest.connect(&mut rig);
    // Beyond a hole, so that nothing is put together.
    for n in 1..5_000_u32 {
        let segment = greedy.segment(ACK, b"x").with(|segment| segment.seq = greedy.nxt.wrapping_add(n));
        rig.receive(&segment.frame());
        if n % 64 == 0 {
            rig.sent();
        }
    }
    rig.sent();
    modest.talks(&mut rig, stream);
    rig.finish();
}

#[test]
fn a_fin_flood() {
    let mut rig = Rig::listening(8);
    let mut peer = Peer::port(2000).with_timestamps();
    let stream = peer.connect(&mut rig);
    // Blind ones first, anywhere but in the window; then the true one, again and again.
    for n in 0..20_000_u32 {
        let blind = peer.segment(FIN | ACK, b"").with(|s| s.seq = s.seq.wrapping_add(n * 100_003 + 10_000_000));
        rig.receive(&blind.frame());
        if n % 64 == 0 {
            rig.sent();
        }
    }
    assert_eq!(stream.state(&rig.net()), TcpState::Established);
    peer.talks(&mut rig, stream);
    let fin = peer.segment(FIN | ACK, b"").frame();
    for n in 0..20_000 {
        rig.receive(&fin);
        if n % 64 == 0 {
            rig.sent();
        }
    }
    assert_eq!(stream.state(&rig.net()), TcpState::CloseWait);
    peer.nxt = peer.nxt.wrapping_add(1);
    rig.write(stream, b"still here");
    assert_eq!(peer.take(&mut rig), b"still here");
    rig.finish();
}

fn close_first(rig: &mut Rig, peer: &mut Peer, stream: TcpStream) {
    stream.close(&mut rig.net());
    let fin = peer.hear(rig).into_iter().find(|heard| heard.has(FIN)).expect("a FIN");
    peer.rcv = fin.header.seq.0.wrapping_add(1);
    rig.receive(&peer.segment(FIN | ACK, b"").frame());
    peer.nxt = peer.nxt.wrapping_add(1);
    rig.sent();
}

/// RFC 9293 MUST-13, and a bound.
#[test]
fn the_table_of_time_wait_is_bounded() {
    let mut rig = Rig::with(|config, _| config.tcp.time_wait_max = 100);
    rig.listen(8);
    for n in 0..1000 {
        let mut peer = Peer::port(2000 + n);
        let stream = peer.connect(&mut rig);
        close_first(&mut rig, &mut peer, stream);
        rig.advance(Duration::from_micros(10));
        let usage = rig.stack.usage();
        assert!(usage.tcp_time_wait <= 100 && usage.tcp_connections == 0, "{usage:?}");
    }
    assert_eq!((rig.stack.usage().tcp_time_wait, rig.stack.counters.tcp_time_waits_cut), (100, 900));
    rig.advance(Duration::from_secs(59));
    assert_eq!(rig.stack.usage().tcp_time_wait, 100, "twice the segment lifetime");
    rig.advance(Duration::from_secs(2));
    assert_eq!(rig.stack.usage().tcp_time_wait, 0);
    rig.finish();
}

/// RFC 9293 section 3.10.7.4: a FIN again begins the wait anew, and a flood of them costs nothing else.
#[test]
fn fins_prolong_time_wait_and_nothing_else() {
    let mut rig = Rig::with(|config, _| config.tcp.time_wait_max = 4);
    rig.listen(8);
    let mut peers: Vec<Peer> = (2000..2004).map(Peer::port).collect();
    for peer in &mut peers {
        let stream = peer.connect(&mut rig);
        close_first(&mut rig, peer, stream);
        rig.advance(Duration::from_secs(1));
    }
    // The oldest says its FIN again and again for half a minute.
    let fin = peers[0].segment(FIN | ACK, b"").with(|segment| segment.seq = segment.seq.wrapping_sub(1)).frame();
    for _ in 0..30_000 {
        rig.receive(&fin);
        rig.advance(Duration::from_millis(1));
        rig.sent();
    }
    let usage = rig.stack.usage();
    assert!(usage.tcp_time_wait == 4 && usage.timers < 20, "{usage:?}");
    rig.advance(Duration::from_secs(32));
    assert_eq!(rig.stack.usage().tcp_time_wait, 1, "the prolonged one");
    // A younger one in the same place is not cut short by what was queued for those before.
    let mut young = Peer::port(3000);
    let stream = young.connect(&mut rig);
    close_first(&mut rig, &mut young, stream);
    rig.advance(Duration::from_secs(58));
    assert_eq!(rig.stack.usage().tcp_time_wait, 1, "the young one");
    rig.advance(Duration::from_secs(3));
    assert_eq!(rig.stack.usage().tcp_time_wait, 0);
    rig.finish();
}

/// Connections that come, are accepted and go: no timer of theirs stays.
#[test]
fn connections_leave_no_timers() {
    let mut rig = Rig::with(|config, _| {
        config.tcp.time_wait_max = 16;
        config.tcp.options.keepalive = Some(framewire::socket::Keepalive::default());
    });
    rig.listen(8);
    for n in 0..20_000_u32 {
        let mut peer = Peer::port(2000 + (n % 50_000) as u16);
        let stream = peer.connect(&mut rig);
        if n % 10 == 0 {
            rig.advance(Duration::from_secs(2));
        }
        stream.abort(&mut rig.net());
        rig.sent();
    }
    let usage = rig.stack.usage();
    assert!(usage.timers < 5_000, "{usage:?}");
    rig.finish();
}

#[test]
fn connections_are_no_more_than_configured() {
    let mut rig = Rig::with(|config, _| config.tcp.connections_max = 10);
    rig.listen(64);
    let mut streams = vec![];
    for n in 0..40 {
        let mut peer = Peer::port(2000 + n);
        rig.receive(&peer.syn().frame());
        if let Some(heard) = peer.hear(&mut rig).first() {
            let third = peer.answer(heard);
            rig.receive(&third.frame());
        }
        streams.extend(rig.accept());
    }
    assert_eq!((streams.len(), rig.stack.usage().tcp_connections), (10, 10));
    for stream in streams {
        stream.abort(&mut rig.net());
    }
    rig.sent();
    let mut peer = Peer::port(3000);
    let stream = peer.connect(&mut rig);
    peer.talks(&mut rig, stream);
    rig.finish();
}

/// RFC 9293 MUST-57, MUST-63: our own address as the source, and groups on either side.
#[test]
fn land_and_groups() {
    let mut rig = Rig::listening(8);
    let own = SocketAddrV4::new(US, TCP_PORT);
    for flags in [SYN, SYN | ACK, ACK, RST] {
        let land = Peer::new(own).segment(flags, b"");
        assert!(rig.dropped(&land.frame(), "drop_ip_source").is_empty());
    }
    for source in [Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::LOCALHOST]
    {
        let syn = Peer::new(SocketAddrV4::new(source, 999)).syn();
        assert!(rig.dropped(&syn.frame(), "drop_ip_source").is_empty());
    }
    // A SYN to a broadcast address is not answered.
    for (to, mac) in [(Ipv4Addr::BROADCAST, [0xff; 6]), (Ipv4Addr::new(10, 0, 0, 255), [0xff; 6])] {
        let syn = Peer::port(1000).syn().with(|segment| segment.to.set_ip(to));
        let mut frame = ip(ipv4::Repr { dst: to, ..repr(ipv4::protocol::TCP) }, &syn.bytes());
        frame[..6].copy_from_slice(&mac);
        assert!(rig.dropped(&frame, "drop_tcp_group").is_empty());
    }
    let mut peer = Peer::port(1000);
    let stream = peer.connect(&mut rig);
    peer.talks(&mut rig, stream);
    rig.finish();
}

/// RFC 2018 section 8: frames run out behind a hole, and what fills the hole still gets in (a receiver may take back what it reported).
#[test]
fn a_hole_is_filled_whatever_lies_behind_it() {
    for options in [vec![], timestamps(9, 0)] {
        let mut rig = Rig::listening(8);
        let mut peer = Peer { clock: (!options.is_empty()).then_some((9, 0)), ..Peer::port(2000) };
        let stream = peer.connect(&mut rig);
        let text: Vec<u8> = (0..4000_u32).map(|n| (n * 7 + n / 256) as u8).collect();
        let byte = |peer: &Peer, n: usize| {
            peer.segment(ACK, &text[n..=n]).with(|segment| segment.seq = peer.nxt.wrapping_add(n as u32)).frame()
        };
        for n in 1..text.len() {
            rig.receive(&byte(&peer, n));
            rig.sent();
        }
        assert!(rig.stack.usage().tcp_rx_frames <= 512, "{:?}", rig.stack.usage());
        let mut got = vec![];
        // A sender that heard nothing: everything again, in order.
        for n in 0..text.len() {
            rig.receive(&byte(&peer, n));
            got.extend(rig.read(stream));
            let told = peer.hear(&mut rig);
            let blocks = told.iter().flat_map(|heard| heard.options.sack.iter().collect::<Vec<_>>());
            let past = |block: &(framewire::wire::seq::SeqNum, framewire::wire::seq::SeqNum)| {
                block.1.0.wrapping_sub(peer.nxt) as usize > text.len()
            };
            assert_eq!(blocks.filter(past).count(), 0, "no block beyond what was sent");
        }
        assert!(got == text, "{} of {}", got.len(), text.len());
        peer.nxt = peer.nxt.wrapping_add(text.len() as u32);
        peer.talks(&mut rig, stream);
        rig.finish();
    }
}
