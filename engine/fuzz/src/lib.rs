//! What the fuzzers do with a stack: each function takes any bytes at all, and panics where something is wrong.
//!
//! ```text
//!   frames         any frames, some with right addresses, lengths and checksums   ─► nothing panics, every frame is accounted for
//!   segments       a peer's segments in any order, cut and repeated, and any time ─► the streams hold the bytes that were sent, or end
//!   http           any bytes for the HTTP service, in any pieces                  ─► it answers HTTP, or closes
//!   configuration  any text                                                       ─► a configuration, or errors that name a line
//! ```
//!
//! Stack, peer and books are those of `tests/hostile`.

#[path = "../../tests/hostile/frames.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod frames;
mod http;
#[path = "../../tests/hostile/rig.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod rig;
mod segments;
#[path = "../../tests/hostile/tcp_peer.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod tcp_peer;

pub use http::http;
pub use segments::segments;

use arbitrary::{Result, Unstructured};
use frames::{
    IP, L4, OUR_MAC, PEER, PEER_MAC, US, fix_icmp_checksum, fix_ip_checksum, fix_tcp_checksum, ip, link, repr,
};
use framewire::{
    buf::Pool,
    config::Config,
    time::Duration,
    wire::{ethernet::ethertype, ipv4},
};
use rig::Rig;

/// Longer ones do not fit the frames of the rig.
const FRAME_BYTES_MAX: usize = 2000;

/// A stack with a listener, on frames that all runs share: mapping them takes longer than a run.
fn rig() -> Rig {
    thread_local! { static POOL: Pool = Rig::pool() }
    let mut rig = Rig::on(POOL.with(Pool::clone), |_, _| ());
    rig.listen(4);
    rig
}

/// Any frames, and time that passes between them.
pub fn frames(input: &[u8]) {
    let mut rig = rig();
    let mut input = Unstructured::new(input);
    while !input.is_empty() && step(&mut rig, &mut input).is_ok() {
        rig.serve();
        rig.sent();
        rig.accounted();
    }
    while let Some(stream) = rig.accept() {
        stream.abort(&mut rig.net());
    }
    rig.finish();
}

fn step(rig: &mut Rig, input: &mut Unstructured<'_>) -> Result<()> {
    match input.int_in_range(0..=9)? {
        // As it comes.
        0 => rig.receive(&bytes(input)?),
        // In several buffers.
        1 => {
            let frame = bytes(input)?;
            let at = input.int_in_range(0..=frame.len())?;
            let pieces: Vec<&[u8]> =
                [&frame[..at], &frame[at..]].into_iter().filter(|piece| !piece.is_empty()).collect();
            if !pieces.is_empty() {
                rig.receive_pieces(&pieces);
            }
        }
        2 => rig.receive(&link(OUR_MAC, PEER_MAC, ethertype::ARP, &bytes(input)?)),
        // An IP packet whose header's checksum is right, whatever else it says.
        3 => {
            let mut frame = link(OUR_MAC, PEER_MAC, ethertype::IPV4, &bytes(input)?);
            fix_ip_checksum(&mut frame);
            rig.receive(&frame);
        }
        // One with a right header.
        4..=6 => {
            let protocol = *input.choose(&[ipv4::protocol::ICMP, ipv4::protocol::TCP, ipv4::protocol::UDP])?;
            let frame = ip(repr(protocol), &bytes(input)?);
            rig.receive(&with_right_checksum(frame, protocol));
        }
        7 => {
            let (id, flags_offset) = (input.int_in_range(0..=3)?, input.arbitrary()?);
            rig.receive(&ip(ipv4::Repr { id, flags_offset, ..repr(ipv4::protocol::UDP) }, &bytes(input)?));
        }
        8 => {
            while let Some(stream) = rig.accept() {
                let _ = rig.read(stream);
            }
        }
        _ => rig.advance(Duration::from_millis(input.int_in_range(1..=40_000)?)),
    }
    Ok(())
}

fn bytes(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let len = input.arbitrary_len::<u8>()?.min(FRAME_BYTES_MAX);
    input.bytes(len).map(<[u8]>::to_vec)
}

/// The transport's checksum made right too.
fn with_right_checksum(mut frame: Vec<u8>, protocol: u8) -> Vec<u8> {
    debug_assert_eq!(frame[IP], 0x45, "no options");
    match protocol {
        ipv4::protocol::ICMP => fix_icmp_checksum(&mut frame[L4..]),
        ipv4::protocol::TCP => fix_tcp_checksum(PEER, US, &mut frame[L4..]),
        // None, which RFC 768 allows.
        _ => {
            if let Some(sum) = frame.get_mut(L4 + 6..L4 + 8) {
                sum.fill(0);
            }
        }
    }
    frame
}

/// Any text as a configuration file.
pub fn configuration(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Err(error) = Config::parse("fuzz.toml", text) {
        let shown = error.to_string();
        assert!(shown.lines().any(|line| line.contains("fuzz.toml:")), "says where: {shown}");
    }
}
