//! A million frames: noise, noise behind right headers, and valid frames with some bytes changed, whole and in pieces.

use crate::{frames::*, rig::Rig};
use framewire::{
    time::Duration,
    wire::{MacAddr, arp::Operation, ipv4, ipv4::protocol},
};
use std::net::SocketAddrV4;

const FRAMES: usize = 1_000_000;
const BATCH: usize = 64;

fn valid() -> Vec<Vec<u8>> {
    let segment = udp_segment(SocketAddrV4::new(PEER, 4000), SocketAddrV4::new(US, ECHO_PORT), &[0x5a; 600]);
    let ours = ip(ipv4::Repr { src: US, dst: PEER, ..repr(protocol::UDP) }, &segment[..100])[IP..].to_vec();
    let mut frames = vec![
        arp(Operation::Request, PEER_MAC, PEER, US),
        arp(Operation::Reply, PEER_MAC, PEER, US),
        udp(4000, ECHO_PORT, b""),
        udp(4000, ECHO_PORT, &[0xa5; 1472]),
        udp(4000, 5, b"nobody"),
        ip_with_options(repr(protocol::UDP), &[7, 7, 4, 0, 0, 0, 0, 0], &segment),
        ping(&[1; 56]),
        icmp(3, 3, [0; 4], &ours),
        icmp(3, 4, [0, 0, 2, 0], &ours),
        icmp(11, 1, [0; 4], &ours),
        ip(repr(4), &ours),
        ip(repr(protocol::TCP), &[0; 20]),
        tagged(&udp(4000, ECHO_PORT, b"tagged"), 0),
    ];
    frames.extend(fragments(repr(protocol::UDP), &segment, 200));
    frames.extend(fragments(
        ipv4::Repr { id: 5, ..repr(protocol::ICMP) },
        &icmp_message(8, 0, [1; 4], &[2; 3000]),
        1480,
    ));
    frames
}

fn change(random: &mut Random, valid: &[Vec<u8>], frame: &mut Vec<u8>) {
    frame.clear();
    match random.below(16) {
        0 => noise(random, frame),
        1 | 2 => {
            noise(random, frame);
            frame.splice(..frame.len().min(14), [OUR_MAC.0, PEER_MAC.0].concat().into_iter().chain([8, 0]));
            frame.extend(std::iter::repeat_n(0, 20_usize.saturating_sub(frame.len() - 14)));
            frame[IP] = 0x45 + (random.below(12) == 0) as u8;
            let total = (frame.len() - IP) as u16;
            frame[IP + 2..IP + 4].copy_from_slice(&total.to_be_bytes());
            frame[IP + 9] = [1, 6, 17, 17][random.below(4)];
            frame[IP + 12..IP + 16].copy_from_slice(&PEER.octets());
            frame[IP + 16..IP + 20].copy_from_slice(&US.octets());
            fix_ip_checksum(frame);
        }
        _ => {
            frame.extend_from_slice(&valid[random.below(valid.len())]);
            // Half of the changes near the headers, where they matter.
            for _ in 0..random.below(6) {
                let at =
                    if random.below(2) == 0 { random.below(frame.len().min(64)) } else { random.below(frame.len()) };
                frame[at] = match random.below(4) {
                    0 => 0,
                    1 => 0xff,
                    2 => frame[at] ^ (1 << random.below(8)),
                    _ => random.next() as u8,
                };
            }
            match random.below(8) {
                0 => frame.truncate(random.below(frame.len() + 1)),
                1 => frame.extend(std::iter::repeat_n(0x99, random.below(40))),
                _ => {}
            }
            if random.below(4) > 0 && frame.len() > 14 {
                fix_ip_checksum(frame);
            }
            if random.below(4) == 0 && frame.len() > L4 && frame[IP + 9] == protocol::ICMP {
                fix_icmp_checksum(&mut frame[L4..]);
            }
        }
    }
}

fn noise(random: &mut Random, frame: &mut Vec<u8>) {
    let len = if random.below(4) == 0 { random.below(3000) } else { random.below(128) };
    frame.extend((0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()));
    frame.truncate(len);
}

fn pieces<'a>(random: &mut Random, mut frame: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = vec![];
    for _ in 0..random.below(5) {
        let (piece, rest) = frame.split_at(random.below(frame.len().min(80) + 1));
        pieces.push(piece);
        frame = rest;
    }
    pieces.push(frame);
    pieces
}

#[test]
fn a_million_frames() {
    let mut rig = Rig::with(|_, iface| iface.mtu = 3000);
    // A connected socket, so that some forged errors hit.
    let socket = rig.stack.udp_bind(SocketAddrV4::new(US, 6)).unwrap();
    rig.stack.udp_connect(socket, Some(SocketAddrV4::new(PEER, 4000))).unwrap();
    let mut random = Random(20);
    let valid = valid();
    let mut frame = Vec::with_capacity(4096);
    for at in 0..FRAMES {
        change(&mut random, &valid, &mut frame);
        if random.below(4) == 0 {
            rig.receive_pieces(&pieces(&mut random, &frame));
        } else {
            rig.receive(&frame);
        }
        if at % BATCH == 0 {
            rig.serve();
            rig.sent();
            // Now and then long enough for everything to time out.
            rig.advance(Duration::from_millis(if random.below(1000) == 0 { 40_000 } else { 5 }));
        }
        if at % 10_000 == 0 {
            rig.accounted();
            rig.introduce(PEER, PEER_MAC);
        }
    }
    let counters = rig.stack.counters;
    assert!(counters.rx_frames >= FRAMES as u64);
    // The mix reaches every parser and most refusals.
    let silent: Vec<_> = framewire::telemetry::Counters::NAMES
        .iter()
        .zip(counters.values())
        .filter(|((name, _), count)| name.starts_with("drop_") && !name.starts_with("drop_tx") && *count == 0)
        .map(|((name, _), _)| *name)
        .collect();
    // These take a flood of one kind, a connection, a raw socket or a second worker; `floods` and the tests of TCP and raw sockets have them.
    let elsewhere = |name: &&str| !name.starts_with("drop_tcp") && !name.starts_with("drop_raw");
    let silent: Vec<_> = silent.into_iter().filter(elsewhere).collect();
    assert_eq!(silent, ["drop_interface_down", "drop_fragment_budget", "drop_udp_queue_full", "drop_stray"]);
    assert!(counters.udp_rx_datagrams > 10_000 && counters.icmp_echo_replies > 1_000, "{counters:?}");
    assert!(counters.datagrams_reassembled > 100, "{counters:?}");
    let usage = rig.stack.usage();
    assert!(usage.neighbours <= 1024 && usage.reassembly_frames <= 512 && usage.timers < 100, "{usage:?}");
    // Ten minutes later nothing of it is left.
    rig.serve();
    rig.advance(Duration::from_secs(700));
    let usage = rig.stack.usage();
    assert_eq!((usage.reassembly_frames, usage.neighbours_parked, usage.neighbours), (0, 0, 0), "{usage:?}");
    rig.introduce(PEER, MacAddr([2, 0, 0, 0, 0, 9]));
    rig.finish();
}
