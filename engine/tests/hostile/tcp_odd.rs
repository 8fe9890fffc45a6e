//! Peers that are allowed to be odd: windows that shrink, tiny segments, holes without end, overlapping bytes, sizes out of range.

use crate::{frames::Random, rig::Rig, tcp_peer::*};
use framewire::{
    socket::{TcpState, TcpStream},
    time::Duration,
};

fn text(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251 + seed) as u8).collect()
}

/// Our segments until `total` bytes have come, acknowledged one by one.
fn take_all(rig: &mut Rig, peer: &mut Peer, total: usize) -> Vec<u8> {
    let mut got = vec![];
    for _ in 0..20_000 {
        got.extend(peer.take(rig));
        if got.len() >= total {
            break;
        }
        rig.advance(Duration::from_millis(50));
    }
    got
}

/// Which of two is right nobody can know; every byte must be one that came for its place, and does not change once it was given to the application.
#[test]
fn overlapping_segments_with_other_content() {
    for (from, to) in
        [(0_usize, 100_usize), (50, 150), (99, 101), (100, 300), (150, 250), (199, 200), (0, 400), (250, 400)]
    {
        let mut rig = Rig::listening(8);
        let mut peer = Peer::port(2000);
        let stream = peer.connect(&mut rig);
        let held = peer.segment(ACK, &[1; 100]).with(|segment| segment.seq = segment.seq.wrapping_add(100));
        rig.receive(&held.frame());
        let far = peer.segment(ACK, &[2; 100]).with(|segment| segment.seq = segment.seq.wrapping_add(300));
        rig.receive(&far.frame());
        let over = peer.segment(ACK, &vec![9; to - from]);
        rig.receive(&over.with(|segment| segment.seq = segment.seq.wrapping_add(from as u32)).frame());
        rig.receive(&peer.segment(ACK, &[3; 400]).frame());
        peer.nxt = peer.nxt.wrapping_add(400);
        let got = rig.read(stream);
        assert_eq!(got.len(), 400, "{from}..{to}");
        for (at, byte) in got.iter().enumerate() {
            let said = match byte {
                1 => (100..200).contains(&at),
                2 => (300..400).contains(&at),
                9 => (from..to).contains(&at),
                _ => *byte == 3,
            };
            assert!(said, "{from}..{to}: {byte} at {at}");
        }
        let again = peer.segment(ACK, &[8; 400]).with(|segment| segment.seq = segment.seq.wrapping_sub(400));
        rig.receive(&again.frame());
        assert_eq!(rig.read(stream), b"");
        peer.talks(&mut rig, stream);
        rig.finish();
    }
}

/// Every other byte: at most so many holes are kept, and in the end the bytes are right.
#[test]
fn holes_without_end() {
    for clock in [None, Some((5, 0))] {
        let mut rig = Rig::listening(8);
        let mut peer = Peer { clock, ..Peer::port(2000) };
        let stream = peer.connect(&mut rig);
        let text = text(20_000, 3);
        let piece = |peer: &Peer, at: usize| {
            let end = (at + 10).min(text.len());
            peer.segment(ACK, &text[at..end]).with(|segment| segment.seq = segment.seq.wrapping_add(at as u32)).frame()
        };
        let start = peer.clone();
        for at in (10..text.len()).step_by(20) {
            rig.receive(&piece(&start, at));
            rig.sent();
        }
        let usage = rig.stack.usage();
        assert!(usage.tcp_rx_frames <= 33 && rig.stack.counters.drop_tcp_no_room > 900, "{usage:?}");
        for at in (0..text.len()).step_by(10) {
            rig.receive(&piece(&start, at));
            rig.sent();
        }
        assert!(rig.read(stream) == text);
        peer.nxt = peer.nxt.wrapping_add(text.len() as u32);
        peer.talks(&mut rig, stream);
        rig.finish();
    }
}

/// Any order, any cuts, any repetitions, cut bytes and all, with the FIN among them.
#[test]
fn any_order_of_any_pieces() {
    for seed in 0..200 {
        let mut rig = Rig::listening(8);
        let mut random = Random(seed);
        let mut peer = Peer::port(2000 + seed as u16).with_timestamps();
        let stream = peer.connect(&mut rig);
        let text = text(1 + random.below(40_000), seed as usize);
        let start = peer.clone();
        let mut got = vec![];
        let mut expected = 0;
        while expected < text.len() {
            // Mostly within reach, now and then what must come next.
            let at = match random.below(4) {
                0 => expected,
                1 => random.below(expected + 1),
                _ => (expected + random.below(10_000)).min(text.len() - 1),
            };
            let end = (at + 1 + random.below(1448)).min(text.len());
            let fin = if end == text.len() { FIN } else { 0 };
            let segment = start.segment(ACK | fin, &text[at..end]).with(|s| s.seq = s.seq.wrapping_add(at as u32));
            rig.receive(&segment.frame());
            if random.below(3) == 0 {
                got.extend(rig.read(stream));
            }
            for heard in start.hear(&mut rig) {
                expected = expected.max(heard.header.ack.0.wrapping_sub(start.nxt) as usize);
            }
        }
        got.extend(rig.read(stream));
        assert!(got == text, "seed {seed}: {} of {}", got.len(), text.len());
        peer.nxt = start.nxt.wrapping_add(text.len() as u32 + 1);
        assert_eq!(stream.state(&rig.net()), TcpState::CloseWait);
        rig.write(stream, b"to the end");
        assert_eq!(peer.take(&mut rig), b"to the end");
        rig.finish();
    }
}

/// RFC 9293 MUST-34: a window that is taken back.
#[test]
fn windows_that_shrink_to_nothing_and_come_back() {
    let mut rig = Rig::listening(8);
    let mut peer = Peer::port(2000).with_timestamps();
    let stream = peer.connect(&mut rig);
    let mut random = Random(2);
    let text = text(200_000, 1);
    rig.write_all(stream, &text);
    let mut got = vec![];
    for _ in 0..20_000 {
        peer.window = [0, 0, 1, 500, 1447, 1448, 5000, 60_000][random.below(8)];
        got.extend(peer.take(&mut rig));
        rig.receive(&peer.segment(ACK, b"").frame());
        rig.advance(Duration::from_millis(random.below(400) as u64));
        rig.know(*peer.at.ip());
        if got.len() == text.len() {
            break;
        }
    }
    peer.window = WINDOW;
    rig.receive(&peer.segment(ACK, b"").frame());
    got.extend(take_all(&mut rig, &mut peer, text.len() - got.len()));
    assert!(got == text, "{} of {}", got.len(), text.len());
    peer.talks(&mut rig, stream);
    rig.finish();
}

/// RFC 9293 section 3.8.6.1 and RFC 6429: the application may wait as long as it likes; what it has closed may not.
#[test]
fn a_closed_window_for_ever() {
    let mut rig = Rig::listening(8);
    let mut peer = Peer::port(2000).with_timestamps();
    let stream = peer.connect(&mut rig);
    rig.write(stream, b"an answer that nobody takes");
    peer.window = 0;
    rig.receive(&peer.segment(ACK, b"").frame());
    let silence = |rig: &mut Rig, peer: &Peer, seconds: u64| {
        for _ in 0..seconds {
            rig.know(*peer.at.ip());
            rig.advance(Duration::from_secs(1));
            rig.receive(&peer.segment(ACK, b"").frame());
        }
    };
    // It answers each probe.
    silence(&mut rig, &peer, 3000);
    assert_eq!(stream.state(&rig.net()), TcpState::Established);
    stream.close(&mut rig.net());
    silence(&mut rig, &peer, 1000);
    assert_eq!(rig.stack.usage().tcp_connections, 0, "given up after the user time-out");
    rig.finish();
}

/// RFC 9293 MUST-15, MUST-16; CVE-2019-11479.
#[test]
fn segment_sizes_out_of_range() {
    for size in [0, 1, 8, 87, 88, 536, 1460, 1461, u16::MAX] {
        let mut rig = Rig::listening(8);
        let mut peer = Peer::port(2000);
        let syn = peer.syn().with(|segment| segment.options = mss(size));
        let stream = peer.connect_with(&mut rig, &syn);
        let ours = stream.mss(&rig.net()).unwrap();
        match size {
            0 => assert_eq!(ours, 536, "as if it had not been said"),
            1..88 => assert!((76..=88).contains(&ours), "{ours}"),
            _ => assert_eq!(ours, usize::from(size.min(1460))),
        }
        let text = text(20_000, usize::from(size));
        rig.write_all(stream, &text);
        for heard in peer.clone().hear(&mut rig) {
            assert!(heard.payload.len() <= ours);
        }
        let got = take_all(&mut rig, &mut peer, text.len());
        assert!(got == text, "MSS {size}: {} of {}", got.len(), text.len());
        rig.finish();
    }
}

/// RFC 7323 section 2.3: a shift above 14 counts as 14.
#[test]
fn window_scales_out_of_range() {
    for shift in [0, 1, 14, 15, 128, 255] {
        let mut rig = Rig::listening(8);
        let mut peer = Peer::port(2000);
        let syn = peer.syn().with(|segment| segment.options.extend([1, 3, 3, shift]));
        peer.window = 4;
        let stream = peer.connect_with(&mut rig, &syn);
        let info = stream.info(&rig.net()).unwrap();
        assert_eq!((info.window_scales.0, info.send_window_bytes), (shift.min(14), 4 << shift.min(14)));
        peer.window = 4096;
        peer.talks(&mut rig, stream);
        rig.finish();
    }
}

/// RFC 9293 MUST-4, MUST-64: the same option many times, all of them, none of them, in every order: the last of a kind counts, and nothing else.
#[test]
fn options_in_heaps() {
    let kinds: [&[u8]; 9] = [
        &[2, 4, 2, 0],
        &[2, 4, 0, 1],
        &[3, 3, 7],
        &[3, 3, 0],
        &[4, 2],
        &[8, 10, 0, 0, 0, 9, 0, 0, 0, 0],
        &[5, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        &[253, 6, 1, 2, 3, 4],
        &[1],
    ];
    let mut random = Random(77);
    let mut rig = Rig::listening(8);
    for n in 0..2000_u16 {
        let mut options = vec![];
        loop {
            let kind = kinds[random.below(kinds.len())];
            if options.len() + kind.len() > 40 {
                break;
            }
            options.extend_from_slice(kind);
        }
        options.resize(40, 0);
        let has_timestamps = framewire::wire::tcp::Options::parse(&options).unwrap().timestamps.is_some();
        let mut peer = Peer { clock: has_timestamps.then_some((10, 0)), ..Peer::port(2000 + n) };
        let syn = peer.syn().with(|segment| segment.options = options);
        let stream: TcpStream = peer.connect_with(&mut rig, &syn);
        peer.talks(&mut rig, stream);
        stream.abort(&mut rig.net());
        rig.sent();
    }
    rig.finish();
}
