//! Every valid frame cut at every length, and every length field set to what it must not be.

use crate::{frames::*, rig::Rig};
use framewire::{
    stack::StackConfig,
    wire::{arp::Operation, ipv4, ipv4::protocol},
};
use std::net::SocketAddrV4;

/// A field that says how long something is: where, and which of its bits.
struct Field {
    name: &'static str,
    at: usize,
    bytes: usize,
    mask: u16,
}

struct Sample {
    name: &'static str,
    frame: Vec<u8>,
    fields: Vec<Field>,
}

const IHL: Field = Field { name: "IHL", at: IP, bytes: 1, mask: 0x0f };
const TOTAL: Field = Field { name: "total length", at: IP + 2, bytes: 2, mask: 0xffff };
const OFFSET: Field = Field { name: "fragment offset", at: IP + 6, bytes: 2, mask: 0x1fff };
const UDP_LENGTH: Field = Field { name: "UDP length", at: L4 + 4, bytes: 2, mask: 0xffff };

fn byte(name: &'static str, at: usize) -> Field {
    Field { name, at, bytes: 1, mask: 0xff }
}

fn samples() -> Vec<Sample> {
    let arp_fields = || vec![byte("hlen", 14 + 4), byte("plen", 14 + 5)];
    let text = b"what is to be delivered";
    let segment = udp_segment(SocketAddrV4::new(PEER, 4000), SocketAddrV4::new(US, ECHO_PORT), text);
    // Record route, a no-op, a time stamp, the end.
    let options = [7, 7, 4, 0, 0, 0, 0, 1, 68, 8, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let ours = ip(ipv4::Repr { src: US, dst: PEER, ..repr(protocol::UDP) }, &segment)[IP..].to_vec();
    let parts = fragments(repr(protocol::UDP), &segment, 16);
    let ip_fields = || vec![IHL, TOTAL, OFFSET];
    let with = |mut fields: Vec<Field>, more: Vec<Field>| {
        fields.extend(more);
        fields
    };
    let sample = |name, frame, fields| Sample { name, frame, fields };
    vec![
        sample("ARP request", arp(Operation::Request, PEER_MAC, PEER, US), arp_fields()),
        sample("ARP reply", arp(Operation::Reply, PEER_MAC, PEER, US), arp_fields()),
        sample("UDP", udp(4000, ECHO_PORT, text), with(ip_fields(), vec![UDP_LENGTH])),
        sample(
            "UDP with options",
            ip_with_options(repr(protocol::UDP), &options, &segment),
            with(
                ip_fields(),
                vec![
                    byte("record route's length", L4 + 1),
                    byte("time stamp's length", L4 + 9),
                    Field { at: UDP_LENGTH.at + options.len(), ..UDP_LENGTH },
                ],
            ),
        ),
        sample("echo request", ping(text), ip_fields()),
        sample("ICMP error", icmp(3, 3, [0; 4], &ours), with(ip_fields(), vec![byte("quoted IHL", L4 + 8)])),
        sample("first fragment", parts[0].clone(), with(ip_fields(), vec![UDP_LENGTH])),
        sample("last fragment", parts[1].clone(), ip_fields()),
    ]
}

fn read(frame: &[u8], field: &Field) -> u16 {
    match field.bytes {
        1 => u16::from(frame[field.at]),
        _ => u16::from_be_bytes([frame[field.at], frame[field.at + 1]]),
    }
}

/// The frame with another value in the field; checksums that cover it are right.
fn write(sample: &Sample, field: &Field, value: u16) -> Vec<u8> {
    let mut frame = sample.frame.clone();
    let whole = read(&frame, field) & !field.mask | value & field.mask;
    match field.bytes {
        1 => frame[field.at] = whole as u8,
        _ => frame[field.at..field.at + 2].copy_from_slice(&whole.to_be_bytes()),
    }
    if sample.name.starts_with("ICMP") && field.at >= L4 {
        fix_icmp_checksum(&mut frame[L4..]);
    }
    if frame[12..14] == [8, 0] {
        fix_ip_checksum(&mut frame);
        // No UDP checksum, so that the length alone decides.
        let l4 = IP + usize::from(sample.frame[IP] & 0x0f) * 4;
        if frame[IP + 9] == protocol::UDP && frame.len() >= l4 + 8 && sample.name != "last fragment" {
            frame[l4 + 6..l4 + 8].fill(0);
        }
    }
    frame
}

fn roomy(config: &mut StackConfig) {
    config.icmp_errors_burst = 1_000_000;
}

/// Receives the frame, tagged or not; what it led to is accounted for and answered at once, so that frames do not hide one another.
fn take(rig: &mut Rig, frame: &[u8], vlan: Option<u16>, name: &str) {
    let before = rig.stack.counters;
    match vlan {
        Some(vlan) if frame.len() >= 12 => rig.receive(&tagged(frame, vlan)),
        _ => rig.receive(frame),
    }
    rig.serve();
    rig.sent();
    rig.accounted();
    let after = rig.stack.counters;
    assert_eq!(after.rx_frames, before.rx_frames + 1);
    let refused: u64 = crate::rig::drops_since(&before, &after)
        .iter()
        .filter(|(name, _)| *name != "drop_fragment_discarded")
        .map(|(_, count)| count)
        .sum();
    let taken = after.udp_rx_datagrams - before.udp_rx_datagrams + after.icmp_echo_replies - before.icmp_echo_replies;
    let consumed = after.arp_received
        + after.icmp_errors_ignored
        + after.icmp_errors_received
        + after.fragments_received
        - (before.arp_received + before.icmp_errors_ignored + before.icmp_errors_received + before.fragments_received);
    assert!(
        refused == 1 && taken == 0 || refused == 0 && taken + consumed >= 1,
        "{name}: {refused} refused, {taken} taken, {consumed} consumed"
    );
}

fn rig(vlan: Option<u16>) -> Rig {
    Rig::with(|config, iface| {
        roomy(config);
        iface.vlan = vlan;
    })
}

#[test]
fn every_cut() {
    for vlan in [None, Some(100)] {
        let mut rig = rig(vlan);
        for sample in samples() {
            for cut in 0..=sample.frame.len() {
                take(&mut rig, &sample.frame[..cut], vlan, sample.name);
                // The same with a total length that agrees, so that the next parser sees the cut.
                let mut agreeing = sample.frame[..cut].to_vec();
                if cut >= L4 && agreeing[12..14] == [8, 0] {
                    agreeing[IP + 2..IP + 4].copy_from_slice(&((cut - IP) as u16).to_be_bytes());
                    fix_ip_checksum(&mut agreeing);
                    if agreeing[IP + 9] == protocol::ICMP {
                        fix_icmp_checksum(&mut agreeing[L4..]);
                    }
                    take(&mut rig, &agreeing, vlan, sample.name);
                }
            }
            rig.alive();
        }
        rig.finish();
    }
}

#[test]
fn every_cut_into_pieces() {
    let mut rig = rig(None);
    for sample in samples() {
        for cut in 0..=sample.frame.len() {
            let (head, tail) = sample.frame.split_at(cut);
            for pieces in [vec![head, tail], vec![head, &[], tail], vec![head, tail, &[]], vec![head, tail, &[0]]] {
                rig.receive_pieces(&pieces);
                rig.serve();
                rig.sent();
                rig.accounted();
            }
        }
        rig.alive();
    }
    rig.finish();
}

#[test]
fn every_wrong_length() {
    for vlan in [None, Some(100)] {
        let mut rig = rig(vlan);
        for sample in samples() {
            for field in &sample.fields {
                let right = read(&sample.frame, field) & field.mask;
                for value in [0, 1, right.wrapping_sub(1), right.wrapping_add(1), field.mask, right] {
                    let name = format!("{} with {} {value}", sample.name, field.name);
                    take(&mut rig, &write(&sample, field, value), vlan, &name);
                }
            }
            rig.alive();
        }
        rig.finish();
    }
}

/// The samples themselves are what they are said to be: delivered, answered or held.
#[test]
fn the_samples_are_valid() {
    let mut rig = rig(None);
    for sample in samples() {
        let before = rig.stack.counters;
        rig.receive(&sample.frame);
        assert_eq!(crate::rig::drops_since(&before, &rig.stack.counters), [], "{}", sample.name);
    }
    let counters = rig.stack.counters;
    assert_eq!((counters.udp_rx_datagrams, counters.datagrams_reassembled), (3, 1));
    assert_eq!((counters.icmp_echo_replies, counters.icmp_errors_ignored), (1, 1));
    rig.finish();
}
