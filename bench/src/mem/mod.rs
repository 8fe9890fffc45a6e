//! `mem`: what a stack itself costs, without a kernel: packets come from memory and go to memory on one core.
//!
//! A batch of 64 packets is put where the stack will find it, then the stack and an application do their work, then what was sent is taken
//! away. Only the middle part counts: by the clock for each batch, or by callgrind, which is told to collect inside [`work_of_a_batch`].

pub(crate) mod c_beside;
pub(crate) mod c_send;
mod callgrind;
mod engine;
pub(crate) mod growth;
mod smoltcp_device;
mod smoltcp_stack;
pub(crate) mod stages;
pub(crate) mod tcp;

pub(crate) use callgrind::{Collect, instructions_each};

use crate::{
    affinity,
    packet::{Answer, Flow, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN},
};
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use framewire::port::MacAddr;
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Instant,
};

/// Packets of a batch: what a worker takes in one turn.
pub(crate) const BATCH: usize = 64;
/// Batches before the first that counts.
const WARM_UP_BATCHES: usize = 200;

/// The peer and the stack.
const FLOW: Flow = Flow {
    source_mac: MacAddr([2, 0, 0, 0, 0, 2]),
    target_mac: MacAddr([2, 0, 0, 0, 0, 1]),
    source: SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, 2), 9000),
    target: SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, 1), 7),
};

/// What the application does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Takes every datagram and looks at it
    Receive,
    /// Sends datagrams of which it writes the first eight bytes
    Send,
    /// Sends every datagram back
    Echo,
}

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Send => "send",
            Self::Echo => "echo",
        }
    }

    fn packets_in(self) -> usize {
        if self == Self::Send { 0 } else { BATCH }
    }

    fn packets_out(self) -> usize {
        if self == Self::Receive { 0 } else { BATCH }
    }
}

/// Which stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MemSystem {
    /// The engine: a worker on a `mem` port
    Framewire,
    /// smoltcp on a device of preallocated buffers
    Smoltcp,
}

impl MemSystem {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Framewire => "framewire",
            Self::Smoltcp => "smoltcp",
        }
    }
}

/// Options of `mem`.
#[derive(Args, Debug)]
pub(crate) struct MemArgs {
    /// Stack
    #[arg(long, value_enum)]
    system: MemSystem,
    /// What the application does
    #[arg(long, value_enum)]
    work: Work,
    /// UDP payload, in bytes
    #[arg(long, default_value_t = 64)]
    payload_bytes: usize,
    /// Packets, after a warm-up
    #[arg(long, default_value_t = 1_000_000)]
    packets: usize,
    /// Core to run on
    #[arg(long)]
    core: Option<usize>,
}

/// Measures and prints.
pub(crate) fn run(args: &MemArgs) -> Result<()> {
    affinity::pin(args.core)?;
    let ns = ns_per_packet(args.system, args.work, args.payload_bytes, args.packets)?;
    let MemArgs { system, work, payload_bytes, packets, .. } = args;
    let packets = packets.div_ceil(BATCH).max(1) * BATCH;
    println!("{} {} of {payload_bytes} B: {ns:.1} ns/packet ({packets} packets)", system.name(), work.name());
    Ok(())
}

/// What a turn of is measured.
trait Turn {
    /// Stacks and applications do what there is to do, a batch of it.
    fn work(&mut self);
}

/// A stack with an application on it, and the wire's end of its device.
trait Subject: Turn {
    /// Puts a frame where the stack will receive it; false if there is no room.
    fn inject(&mut self, frame: &[u8]) -> bool;

    /// Takes what was sent; returns how many frames, and gives each to `look`.
    fn drain(&mut self, look: &mut dyn FnMut(&[u8])) -> usize;

    /// Datagrams that the application has received or sent so far.
    fn handled(&self) -> u64;
}

/// The part that is measured: its own function, by whose name callgrind knows it.
#[inline(never)]
fn work_of_a_batch(subject: &mut dyn Turn) {
    subject.work();
}

/// The median over all batches.
pub(crate) fn ns_per_packet(system: MemSystem, work: Work, payload_bytes: usize, packets: usize) -> Result<f64> {
    ensure!(
        (PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&payload_bytes),
        "--payload-bytes {payload_bytes}: must be {PAYLOAD_BYTES_MIN} to {PAYLOAD_BYTES_MAX}"
    );
    let mut subject: Box<dyn Subject> = match system {
        MemSystem::Framewire => Box::new(engine::Engine::new(FLOW, work, payload_bytes)?),
        MemSystem::Smoltcp => Box::new(smoltcp_stack::Smoltcp::new(FLOW, work, payload_bytes)?),
    };
    ns_of(subject.as_mut(), work, payload_bytes, packets)
}

/// As [`ns_per_packet`], of a stack that is there.
fn ns_of(subject: &mut dyn Subject, work: Work, payload_bytes: usize, packets: usize) -> Result<f64> {
    introduce(subject, FLOW)?;
    let frame = FLOW.frame(payload_bytes);
    let batches = packets.div_ceil(BATCH).max(1);
    let mut times_ns = Vec::with_capacity(batches);
    let before = subject.handled();
    for number in 0..WARM_UP_BATCHES + batches {
        for _ in 0..work.packets_in() {
            ensure!(subject.inject(&frame), "the device has no room for a batch");
        }
        let begun = Instant::now();
        work_of_a_batch(subject);
        let took = begun.elapsed();
        if number >= WARM_UP_BATCHES {
            times_ns.push(took.as_nanos() as f64 / BATCH as f64);
        }
        // The first batch is checked byte by byte: a stack that drops or garbles is fast.
        let out = if number == 0 { check_sent(subject, work, payload_bytes)? } else { subject.drain(&mut |_| {}) };
        ensure!(out == work.packets_out(), "{} packets sent in a batch instead of {}", out, work.packets_out());
    }
    let handled = subject.handled() - before;
    let expected = ((WARM_UP_BATCHES + batches) * BATCH) as u64;
    ensure!(handled == expected, "the application saw {handled} datagrams instead of {expected}");
    times_ns.sort_by(f64::total_cmp);
    Ok(times_ns[times_ns.len() / 2])
}

fn check_sent(subject: &mut dyn Subject, work: Work, payload_bytes: usize) -> Result<usize> {
    let mut wrong = None;
    let out = subject.drain(&mut |frame| {
        if work == Work::Echo
            && let Err(why) = FLOW.check_reply(frame, payload_bytes, Answer::Echo)
        {
            wrong.get_or_insert(why);
        }
        if work == Work::Send && frame.len() != FLOW.frame(payload_bytes).len() {
            wrong.get_or_insert(format!("{} bytes long", frame.len()));
        }
    });
    ensure!(wrong.is_none(), "a wrong frame was sent: {}", wrong.unwrap_or_default());
    Ok(out)
}

/// The peer asks for the stack's Ethernet address: the stack will know the peer's.
fn introduction(flow: Flow) -> Vec<u8> {
    let mut request = Vec::with_capacity(42);
    request.extend([0xff; 6]);
    request.extend(flow.source_mac.0);
    request.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    request.extend(flow.source_mac.0);
    request.extend(flow.source.ip().octets());
    request.extend([0; 6]);
    request.extend(flow.target.ip().octets());
    request
}

fn introduce(subject: &mut dyn Subject, flow: Flow) -> Result<()> {
    ensure!(subject.inject(&introduction(flow)), "the device has no room for a frame");
    subject.work();
    let mut answered = false;
    subject.drain(&mut |frame| answered |= frame.get(12..14) == Some(&[8, 6]) && frame.get(21) == Some(&2));
    ensure!(answered, "the ARP request was not answered");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stack_does_every_work_and_is_checked() {
        for system in MemSystem::value_variants() {
            for work in Work::value_variants() {
                for payload_bytes in [PAYLOAD_BYTES_MIN, 64, PAYLOAD_BYTES_MAX] {
                    let ns = ns_per_packet(*system, *work, payload_bytes, 1000)
                        .unwrap_or_else(|why| panic!("{system:?} {work:?} {payload_bytes} B: {why:#}"));
                    assert!(ns > 0.0);
                }
            }
        }
    }
}
