//! Whatever arrives, the program answers PASS or REDIRECT: cut frames, random frames, stored malformed ones.

mod rig;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use framewire_xdp::{IpProtocol, Verdict};
use rig::frame::*;
use rig::{Rig, XDP_PASS, XDP_REDIRECT, run};

const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OWNED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const SHARED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const PEER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const OWNED6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const SHARED6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
const OWNED6_GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 7);
const PORT: u16 = 4433;

/// The kernel takes no shorter frame for a test run, and a driver delivers none.
const MIN_FRAME_BYTES: usize = 14;

fn rig() -> Option<Rig> {
    let mut rig = Rig::new()?;
    for address in [IpAddr::V4(OWNED), IpAddr::V6(OWNED6)] {
        rig.steer.own_address(address).unwrap();
    }
    for address in [IpAddr::V4(SHARED), IpAddr::V6(SHARED6)] {
        rig.steer.share_port(address, IpProtocol::UDP, PORT).unwrap();
    }
    let expected = rig.steer.expected_neighbours().unwrap();
    for neighbour in [IpAddr::V4(PEER), IpAddr::V6(PEER6)] {
        expected.expect(neighbour).unwrap();
    }
    Some(rig)
}

/// A frame that is ours, the verdict for it, and how many of its bytes the decision needs.
fn frames_of_ours() -> Vec<(Vec<u8>, Verdict, usize)> {
    let to_port = ports(9, PORT);
    let from_port = ports(PORT, 9);
    let options = |source, destination, payload: &[u8]| {
        let (protocol, option_words) = (UDP, 10);
        Ip4 { source, destination, protocol, identification: 1, fragment: 0, option_words, payload }.build()
    };
    let six = |destination, next_header, payload: &[u8]| eth(IPV6, &ip6(PEER6, destination, next_header, payload));
    let chain = extension(
        ROUTING,
        1,
        &extension(AUTHENTICATION, 0, &authentication(FRAGMENT, 4, &fragment6(UDP, 0, true, 1, &to_port))),
    );
    let quoted6 = ip6(SHARED6, PEER6, DESTINATION_OPTIONS, &extension(UDP, 1, &from_port));
    vec![
        (eth(IPV4, &ip4(PEER, OWNED, UDP, &to_port)), Verdict::RedirectedOwned, 34),
        (eth(QINQ, &tag(1, VLAN, &tag(2, IPV4, &ip4(PEER, OWNED, UDP, &to_port)))), Verdict::RedirectedOwned, 42),
        (eth(IPV4, &ip4(PEER, SHARED, UDP, &to_port)), Verdict::RedirectedPort, 38),
        (eth(IPV4, &options(PEER, SHARED, &to_port)), Verdict::RedirectedPort, 78),
        (eth(ARP, &arp(1, PEER, OWNED)), Verdict::RedirectedNeighbour, 42),
        (eth(ARP, &arp(2, PEER, SHARED)), Verdict::RedirectedNeighbour, 42),
        (
            eth(IPV4, &ip4(PEER, SHARED, ICMP, &icmp(3, &options(SHARED, PEER, &from_port)))),
            Verdict::RedirectedIcmpError,
            34 + 8 + 60 + 4,
        ),
        (six(OWNED6, UDP, &to_port), Verdict::RedirectedOwned, 54),
        (six(SHARED6, UDP, &to_port), Verdict::RedirectedPort, 58),
        (six(SHARED6, HOP_BY_HOP, &chain), Verdict::RedirectedPort, 54 + 16 + 8 + 24 + 8 + 4),
        (six(OWNED6_GROUP, ICMPV6, &icmp(135, &OWNED6.octets())), Verdict::RedirectedNeighbour, 78),
        (six(SHARED6, ICMPV6, &icmp(136, &PEER6.octets())), Verdict::RedirectedNeighbour, 78),
        (six(SHARED6, ICMPV6, &icmp(1, &quoted6)), Verdict::RedirectedIcmpError, 54 + 8 + 40 + 16 + 4),
    ]
}

#[test]
fn a_frame_cut_within_its_headers_is_the_kernels() {
    let Some(rig) = rig() else { return };
    for (frame, verdict, needed_bytes) in frames_of_ours() {
        for length in MIN_FRAME_BYTES..=frame.len() {
            let expected = if length < needed_bytes { Verdict::PassedShort } else { verdict };
            assert_eq!(rig.verdict(&frame[..length]), expected, "{length} of {} bytes of {frame:02x?}", frame.len());
        }
    }
}

/// Frames as they were found or thought up, in hexadecimal, with what must become of them.
const STORED: &[(&str, Verdict)] = &[
    // Ethernet header alone, of each kind.
    ("020000000001 020000000002 0800", Verdict::PassedShort),
    ("020000000001 020000000002 86dd", Verdict::PassedShort),
    ("020000000001 020000000002 0806", Verdict::PassedShort),
    ("020000000001 020000000002 8100", Verdict::PassedShort),
    // A tag that announces a tag that is not there.
    ("020000000001 020000000002 8100 0001 88a8", Verdict::PassedShort),
    // IHL 15, and the frame ends after 20 bytes.
    ("020000000001 020000000002 0800 4f000014 00000000 40110000 c0000201 c0000209", Verdict::PassedShort),
    // Total length 0 and 65535: the program does not trust it, the engine checks it.
    ("020000000001 020000000002 0800 45000000 00000000 40110000 c0000201 c0000209 0009 1151", Verdict::RedirectedPort),
    ("020000000001 020000000002 0800 4500ffff 00000000 40110000 c0000201 c0000209 0009 1151", Verdict::RedirectedPort),
    // A first fragment too small for its ports.
    ("020000000001 020000000002 0800 45000016 00012000 40110000 c0000201 c0000209 0009", Verdict::PassedShort),
    // IP in IP to an owned address (CVE-2020-11896): the engine refuses it, with an ICMP error.
    ("020000000001 020000000002 0800 45000028 00000000 40040000 c0000201 c0000207 45000020", Verdict::RedirectedOwned),
    // The same to a shared one.
    ("020000000001 020000000002 0800 45000028 00000000 40040000 c0000201 c0000209 45000020", Verdict::PassedNotOurs),
    // ICMP error that quotes nothing, and one that quotes half a header.
    (
        "020000000001 020000000002 0800 4500001c 00000000 40010000 c0000201 c0000209 0300000000000000",
        Verdict::PassedShort,
    ),
    (
        "020000000001 020000000002 0800 45000026 00000000 40010000 c0000201 c0000209 0300000000000000 45000000000000004011",
        Verdict::PassedShort,
    ),
    // IPv6: routing header that claims 88 bytes and holds 8 (CVE-2020-11897).
    (
        "020000000001 020000000002 86dd 60000000 0008 2b 40 20010db8000000000000000000000001 \
         20010db8000000000000000000000009 11 0a 0000 00000000",
        Verdict::PassedShort,
    ),
    // IPv6: a fragment header that names itself as its next header.
    (
        "020000000001 020000000002 86dd 60000000 0008 2c 40 20010db8000000000000000000000001 \
         20010db8000000000000000000000009 2c 00 0001 00000001",
        Verdict::PassedShort,
    ),
    // Version 0 to an owned address: whole means whole.
    ("020000000001 020000000002 0800 00000000 00000000 00000000 00000000 c0000207", Verdict::RedirectedOwned),
    // ARP of 27 bytes (CVE-2020-11914).
    ("020000000001 020000000002 0806 0001080006040001 020000000002c0000201 000000000000c00002", Verdict::PassedShort),
];

#[test]
fn stored_malformed_frames() {
    let Some(rig) = rig() else { return };
    for (hexadecimal, verdict) in STORED {
        let digits: Vec<u32> = hexadecimal.chars().filter_map(|digit| digit.to_digit(16)).collect();
        let frame: Vec<u8> = digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
        assert_eq!(rig.verdict(&frame), *verdict, "{hexadecimal}");
    }
}

/// xorshift64*: the same frames on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

#[test]
fn random_frames_are_passed_or_redirected() {
    const FRAMES: u64 = 100_000;
    let Some(rig) = rig() else { return };
    let valid = frames_of_ours();
    let mut random = Random(0x5eed);
    for index in 0..FRAMES {
        // A valid frame with up to eight bytes changed, one in four cut or grown; every tenth is nothing but noise.
        let mut frame = valid[random.below(valid.len())].0.clone();
        let changes = if index % 10 == 0 { frame.len() } else { random.below(9) };
        for _ in 0..changes {
            let position = random.below(frame.len());
            frame[position] = random.next() as u8;
        }
        if random.below(4) == 0 {
            frame.resize(MIN_FRAME_BYTES + random.below(300), random.next() as u8);
        }
        let action = run(&rig.steer, &frame);
        assert!(action == XDP_PASS || action == XDP_REDIRECT, "action {action} for {frame:02x?}");
    }
    let verdicts = rig.steer.verdicts().unwrap();
    assert_eq!(verdicts.frames(), FRAMES, "one decision for each");
    for verdict in Verdict::ALL {
        // Deep chains do not arise by chance; a queue without socket is another test.
        let rare = matches!(
            verdict,
            Verdict::PassedExtensionHeaders | Verdict::RedirectedEverything | Verdict::PassedNoSocket
        );
        assert!(rare || verdicts.get(verdict) > 0, "{} never happened", verdict.name());
    }
}
