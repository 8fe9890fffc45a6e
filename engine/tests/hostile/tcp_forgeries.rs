//! Segments and ICMP errors that somebody else made up: a blind attacker gains nothing, and no more answers than the rates allow.

use crate::{frames::*, rig::Rig, tcp_peer::*};
use framewire::{
    socket::{TcpState, TcpStream},
    time::Duration,
    wire::tcp::flags,
};

fn established(clock: bool) -> (Rig, Peer, TcpStream) {
    let mut rig = Rig::listening(8);
    let peer = Peer::port(2000);
    let mut peer = if clock { peer.with_timestamps() } else { peer };
    let stream = peer.connect(&mut rig);
    peer.talks(&mut rig, stream);
    (rig, peer, stream)
}

/// A segment of the attacker, who knows the ports, and says of the rest what he is told to.
fn forged(peer: &Peer, flags: u8, seq_offset: u32, ack_offset: u32) -> Segment {
    peer.segment(flags, b"").with(|segment| {
        segment.seq = segment.seq.wrapping_add(seq_offset);
        segment.ack = segment.ack.wrapping_add(ack_offset);
        segment.options.clear();
    })
}

/// RFC 5961 section 3.2; RFC 9293 section 3.10.7.4.
#[test]
fn resets_that_are_not_exact() {
    for clock in [false, true] {
        let (mut rig, mut peer, stream) = established(clock);
        let window = rig.window(stream);
        for n in 1..1000_u32 {
            // In the window: a challenge, at most ten a second. Outside: nothing.
            rig.receive(&forged(&peer, RST, n * (window / 1000), 0).frame());
            let heard = peer.hear(&mut rig);
            assert!(heard.len() <= 1 && heard.iter().all(|heard| heard.header.ack.0 == peer.nxt && !heard.has(RST)));
            rig.receive(&forged(&peer, RST | ACK, window + n * 1_000_003, 0).frame());
            rig.receive(&forged(&peer, RST, 0_u32.wrapping_sub(n), 0).frame());
            assert!(peer.hear(&mut rig).is_empty());
        }
        let counters = rig.stack.counters;
        assert_eq!((counters.tcp_challenge_acks, counters.tcp_challenge_acks_limited), (10, 989));
        assert_eq!(counters.drop_tcp_reset, 3 * 999);
        peer.talks(&mut rig, stream);
        rig.receive(&forged(&peer, RST, 0, 0).frame());
        assert_eq!(stream.state(&rig.net()), TcpState::Closed);
        rig.finish();
    }
}

/// RFC 5961 section 4.2: whatever its number, a SYN on a connection brings a challenge and no more.
#[test]
fn syns_on_a_connection() {
    for clock in [false, true] {
        let (mut rig, mut peer, stream) = established(clock);
        let mut challenges = 0;
        for n in 0..1000_u32 {
            let flags = [SYN, SYN | ACK, SYN | FIN, SYN | FIN | URG | flags::PSH][n as usize % 4];
            rig.receive(&forged(&peer, flags, n.wrapping_mul(4_294_967), 0).frame());
            let heard = peer.hear(&mut rig);
            assert!(heard.iter().all(|heard| heard.header.flags & (SYN | RST) == 0));
            challenges += heard.len();
        }
        assert!((1..=11).contains(&challenges), "{challenges}");
        peer.talks(&mut rig, stream);
        rig.finish();
    }
}

/// RFC 5961 section 7 without its flaw (CVE-2016-5696): what is spent on one connection is not missing on another.
#[test]
fn challenges_are_limited_for_each_connection_alone() {
    let (mut rig, mut peer, stream) = established(false);
    let mut other = Peer::port(2001);
    let other_stream = other.connect(&mut rig);
    for n in 0..10_000_u32 {
        rig.receive(&forged(&peer, RST, 1 + n, 0).frame());
    }
    assert_eq!(peer.hear(&mut rig).len(), 1, "one acknowledgment for what came together");
    for _ in 0..10 {
        rig.receive(&forged(&other, RST, 1, 0).frame());
        assert_eq!(other.hear(&mut rig).len(), 1, "its own ten");
    }
    rig.receive(&forged(&other, RST, 1, 0).frame());
    assert!(other.hear(&mut rig).is_empty());
    rig.advance(Duration::from_millis(1001));
    rig.receive(&forged(&other, RST, 1, 0).frame());
    assert_eq!(other.hear(&mut rig).len(), 1, "a new second");
    peer.talks(&mut rig, stream);
    other.talks(&mut rig, other_stream);
    rig.finish();
}

/// RFC 5961 section 5.2: data whose acknowledgment nobody can have meant is not taken.
#[test]
fn data_with_impossible_acknowledgments() {
    let (mut rig, mut peer, stream) = established(false);
    for offset in
        [1, 2, 100_000, 1 << 30, (1 << 31) - 1, 1 << 31, 0_u32.wrapping_sub(200_000), 0_u32.wrapping_sub(1 << 30)]
    {
        let segment = forged(&peer, ACK, 0, offset).with(|segment| segment.payload = b"injected".to_vec());
        rig.receive(&segment.frame());
        assert_eq!(rig.read(stream), b"", "acknowledging {offset:#x} from where we are");
    }
    assert_eq!(rig.stack.counters.drop_tcp_ack, 8);
    peer.talks(&mut rig, stream);
    rig.finish();
}

/// A forged timestamp from the future must not shut the true peer out (RFC 7323 section 5.3 with RFC 5961 section 5).
#[test]
fn timestamps_that_are_not_the_peers() {
    let (mut rig, mut peer, stream) = established(true);
    let (value, echo) = peer.clock.unwrap();
    let future = timestamps(value.wrapping_add(1 << 30), echo);
    // No good acknowledgment, or none; out of the window; a reset and a SYN.
    for (flags, seq, ack, payload) in [
        (ACK, 0, 1_000_000, &b"injected"[..]),
        (ACK, 0, 0_u32.wrapping_sub(1 << 30), b"injected"),
        (0, 0, 0, b"injected"),
        (ACK, 1 << 30, 0, b"injected"),
        (ACK, 0_u32.wrapping_sub(1 << 20), 0, b"injected"),
        (RST, 1, 0, b""),
        (SYN, 0, 0, b""),
        (SYN | ACK, 0_u32.wrapping_sub(5), 0, b"123456789"),
    ] {
        let segment = forged(&peer, flags, seq, ack).with(|segment| {
            segment.payload = payload.to_vec();
            segment.options = future.clone();
        });
        rig.receive(&segment.frame());
        rig.sent();
        assert_eq!(rig.read(stream), b"");
        peer.talks(&mut rig, stream);
    }
    // Going back in time, an old duplicate says (RFC 7323 section 5.3).
    let mut old = peer.segment(ACK, b"old");
    old.options = timestamps(value.wrapping_sub(10), echo);
    rig.receive(&old.frame());
    assert_eq!(rig.read(stream), b"");
    assert_eq!(rig.stack.counters.drop_tcp_paws, 1);
    // Without a timestamp it is not the peer (RFC 7323 section 3.2).
    old.options.clear();
    rig.receive(&old.frame());
    assert_eq!(rig.read(stream), b"");
    peer.talks(&mut rig, stream);
    // What they echo is nobody's: the round-trip time stays within reason.
    for echo in [0, 1, u32::MAX, echo.wrapping_add(1 << 29), echo.wrapping_sub(1 << 29)] {
        let segment = peer.segment(ACK, b"").with(|segment| {
            segment.options = timestamps(peer.clock.unwrap().0, echo);
        });
        rig.write(stream, b"time me");
        rig.sent();
        peer.rcv = peer.rcv.wrapping_add(7);
        let segment = segment.with(|segment| segment.ack = peer.rcv);
        rig.receive(&segment.frame());
    }
    let info = stream.info(&rig.net()).unwrap();
    assert!(info.rto < Duration::from_secs(2) && info.srtt < Duration::from_secs(1), "{info:?}");
    peer.talks(&mut rig, stream);
    rig.finish();
}

/// RFC 2018 blocks that cover nothing, everything, each other or what was never sent (CVE-2019-11477 and its kin).
#[test]
fn sack_blocks_made_up() {
    let (mut rig, mut peer, stream) = established(true);
    let mut random = Random(9);
    let mut sent = vec![];
    let mut got = vec![];
    for round in 0..3000_u32 {
        if stream.send_room(&rig.net()) > 100_000 {
            let text: Vec<u8> = (0..1 + random.below(5000)).map(|_| random.next() as u8).collect();
            rig.write_all(stream, &text);
            sent.extend(text);
        }
        let una = peer.rcv;
        let flight = stream.info(&rig.net()).unwrap().in_flight_bytes;
        let mut edge = || match random.below(8) {
            0 => random.next() as u32,
            1 => una,
            2 => una.wrapping_sub(random.below(100_000) as u32),
            3 => una.wrapping_add(flight).wrapping_add(random.below(100_000) as u32),
            4 => una.wrapping_add(1 << 31),
            _ => una.wrapping_add(random.below(flight as usize + 2) as u32),
        };
        let blocks: Vec<_> = (0..1 + round % 3).map(|_| (edge(), edge())).collect();
        let mut segment = peer.segment(ACK, b"");
        segment.options = [timestamps(peer.clock.unwrap().0, peer.clock.unwrap().1), sack(&blocks)].concat();
        rig.receive(&segment.frame());
        let info = stream.info(&rig.net()).unwrap();
        assert!(info.cwnd_bytes >= 1448 && info.cwnd_bytes < 1 << 30, "{info:?}");
        if random.below(3) == 0 {
            got.extend(peer.take(&mut rig));
        } else {
            rig.sent();
        }
        rig.advance(Duration::from_millis(random.below(50) as u64));
    }
    for _ in 0..20_000 {
        if got.len() == sent.len() {
            break;
        }
        rig.know(*peer.at.ip());
        rig.advance(Duration::from_millis(200));
        got.extend(peer.take(&mut rig));
    }
    assert!(got == sent, "{} of {}", got.len(), sent.len());
    peer.talks(&mut rig, stream);
    rig.finish();
}

/// RFC 5681 section 3.2 and Savage's three attacks: dividing, repeating and anticipating acknowledgments.
#[test]
fn acknowledgments_that_want_more_than_is_due() {
    let (mut rig, mut peer, stream) = established(true);
    let text = vec![7; 400_000];
    rig.write_all(stream, &text);
    let heard = peer.hear(&mut rig);
    let first: usize = heard.iter().map(|heard| heard.payload.len()).sum();
    assert!(first <= 15_000, "ten segments at first, not {first} bytes");
    let before = stream.info(&rig.net()).unwrap().cwnd_bytes;
    // One segment acknowledged byte by byte: growth is by bytes (RFC 5681 section 3.1, RFC 3465).
    for n in 1..=1448_u32 {
        rig.receive(&peer.segment(ACK, b"").with(|segment| segment.ack = segment.ack.wrapping_add(n)).frame());
    }
    let after = stream.info(&rig.net()).unwrap().cwnd_bytes;
    assert!(after <= before + 2 * 1448, "{before} → {after}");
    // A thousand duplicates of it.
    peer.rcv = peer.rcv.wrapping_add(1448);
    rig.sent();
    for _ in 0..1000 {
        rig.receive(&peer.segment(ACK, b"").frame());
    }
    let burst: usize = peer.hear(&mut rig).iter().map(|heard| heard.payload.len()).sum();
    assert!(burst < 30_000, "{burst} bytes for nothing");
    // What has not been sent cannot be acknowledged.
    rig.receive(&peer.segment(ACK, b"").with(|segment| segment.ack = segment.ack.wrapping_add(300_000)).frame());
    assert!(stream.unacked_bytes(&rig.net()) > 390_000);
    stream.abort(&mut rig.net());
    rig.finish();
}

/// RFC 5927: an ICMP error must quote what is in flight, and even then only shrinks segments to a size that is still sensible.
#[test]
fn icmp_errors_that_nobody_caused() {
    let (mut rig, mut peer, stream) = established(true);
    let mss = stream.mss(&rig.net()).unwrap();
    rig.write_all(stream, &vec![1; 20_000]);
    let heard = peer.hear(&mut rig);
    let (una, nxt) =
        (peer.rcv, heard.last().map(|last| last.header.seq.0.wrapping_add(last.payload.len() as u32)).unwrap());
    let quote = |seq: u32| {
        let mut packet = heard[0].packet[..28].to_vec();
        packet[24..28].copy_from_slice(&seq.to_be_bytes());
        packet
    };
    let ignored = rig.stack.counters.icmp_errors_ignored;
    for seq in [una.wrapping_sub(1), nxt, nxt.wrapping_add(1), una.wrapping_add(1 << 31), 0, una.wrapping_sub(1 << 30)]
    {
        for mtu in [68, 0, 552, 1000] {
            rig.receive(&icmp(3, 4, [0, 0, (mtu >> 8) as u8, mtu as u8], &quote(seq)));
        }
    }
    assert_eq!(rig.stack.counters.icmp_errors_ignored, ignored + 24);
    assert_eq!(stream.mss(&rig.net()), Some(mss));
    // Hard errors do not end what is established (RFC 5927 section 5.2), however exact they are.
    for code in 0..16 {
        if code != 4 {
            rig.receive(&icmp(3, code, [0; 4], &quote(una)));
        }
    }
    rig.receive(&icmp(11, 0, [0; 4], &quote(una)));
    rig.receive(&icmp(12, 0, [0; 4], &quote(una)));
    assert_eq!(stream.state(&rig.net()), TcpState::Established);
    // In flight: believed, down to a floor.
    for mtu in [0, 1, 68, 200, 551] {
        rig.receive(&icmp(3, 4, [0, 0, (mtu >> 8) as u8, mtu as u8], &quote(una)));
        assert!(stream.mss(&rig.net()).unwrap() >= 500, "MTU {mtu}: {:?}", stream.mss(&rig.net()));
    }
    rig.receive(&icmp(3, 4, [0, 0, 0xff, 0xff], &quote(una)));
    assert!(stream.mss(&rig.net()).unwrap() <= mss, "no larger than the link");
    let mut got = 0;
    for _ in 0..200 {
        got += peer.take(&mut rig).len();
        rig.advance(Duration::from_millis(300));
    }
    assert_eq!(got, 20_000);
    peer.talks(&mut rig, stream);
    rig.finish();
}

/// RFC 9293 MUST-31 and RFC 6093: the pointer may say anything; the bytes stay what they are, but for the one it takes out.
#[test]
fn urgent_pointers_beyond_everything() {
    let (mut rig, mut peer, stream) = established(false);
    for pointer in [0, 1, 2, 100, 1460, 1461, 30_000, u16::MAX] {
        rig.receive(&peer.segment(ACK | URG, b"").with(|segment| segment.urgent = pointer).frame());
        let segment = peer.segment(ACK | URG, &[b'u'; 50]).with(|segment| segment.urgent = pointer);
        rig.receive(&segment.frame());
        peer.nxt = peer.nxt.wrapping_add(50);
        let got = rig.read(stream).len() + usize::from(stream.recv_urgent(&mut rig.net()).is_some());
        assert_eq!(got, 50, "pointer {pointer}");
        rig.sent();
    }
    // Far-off marks are reached as data comes; then everything is in order again.
    let mut got = 0;
    for _ in 0..70 {
        peer.send(&mut rig, &[b'x'; 1000]);
        got += rig.read(stream).len() + usize::from(stream.recv_urgent(&mut rig.net()).is_some());
        rig.sent();
    }
    assert_eq!(got, 70_000);
    peer.talks(&mut rig, stream);
    // A pointer without the flag means nothing.
    rig.receive(&peer.segment(ACK, b"").with(|segment| segment.urgent = 3).frame());
    peer.talks(&mut rig, stream);
    rig.finish();
}

/// A handshake whose last step somebody else tries to make.
#[test]
fn third_segments_guessed() {
    let mut rig = Rig::listening(8);
    let mut peer = Peer::port(2000);
    rig.receive(&peer.syn().frame());
    let syn_ack = peer.hear(&mut rig).remove(0);
    let mut random = Random(3);
    for _ in 0..100_000 {
        let guess = peer.segment(ACK, b"GET /").with(|segment| {
            (segment.seq, segment.ack) = (peer.nxt.wrapping_add(1), random.next() as u32);
        });
        rig.receive(&guess.frame());
        rig.sent();
    }
    assert!(rig.accept().is_none());
    let third = peer.answer(&syn_ack);
    rig.receive(&third.frame());
    let stream = rig.accept().expect("the true one");
    peer.talks(&mut rig, stream);
    rig.finish();
}
