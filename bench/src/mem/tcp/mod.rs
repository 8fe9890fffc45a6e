//! `mem-tcp`: what a TCP costs without a kernel, on one core.
//!
//! * `bulk`: two stacks on a link in memory, one sends, the other receives; both count.
//! * `receive`, `send`, `ack`: one stack against a scripted [`Peer`], in batches; only what the name says counts. All segments are in order, full-sized, and
//!   acknowledged every second one.

mod engine_host;
pub(crate) mod idle;
pub(super) mod peer;
mod smoltcp_bulk;
mod smoltcp_host;
mod smoltcp_loopback;

use super::{BATCH, FLOW, Subject, Turn, introduce, work_of_a_batch};
use crate::affinity;
use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use framewire::wire::checksum;
use peer::Peer;
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// Turns before the first that counts: enough for any slow start.
const WARM_UP_TURNS: usize = 500;
/// Batches of payloads that are summed and nothing else, and room for each payload.
const CHECKSUM_BATCHES: usize = 4000;
const FRAME_BYTES_MAX: usize = 2048;
/// Turns in which nothing moves before a run is given up.
const IDLE_TURNS_MAX: usize = 1000;

/// Which stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// The engine: a worker for each end, on `mem` ports
    Framewire,
    /// smoltcp on devices of preallocated buffers, between which frames pass for nothing
    Smoltcp,
    /// smoltcp as in its own loopback benchmark; for `bulk`
    SmoltcpLoopback,
}

impl System {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Framewire => "framewire",
            Self::Smoltcp => "smoltcp",
            Self::SmoltcpLoopback => "smoltcp-loopback",
        }
    }

    pub(crate) fn does(self, work: Work) -> bool {
        self != Self::SmoltcpLoopback || work == Work::Bulk
    }
}

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Both ends of a connection that carries data one way, acknowledgements included
    Bulk,
    /// Taking data segments, and acknowledging them
    Receive,
    /// Sending data segments
    Send,
    /// Taking acknowledgements of two segments each
    Ack,
}

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Receive => "receive",
            Self::Send => "send",
            Self::Ack => "ack",
        }
    }
}

/// Which checksums are looked at; all that is sent has right ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Checksum {
    /// Those of all that is received
    Verify,
    /// None
    Trust,
}

impl Checksum {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Trust => "trust",
        }
    }
}

/// Options of `mem-tcp`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MemTcpArgs {
    /// Stack
    #[arg(long, value_enum)]
    system: System,
    /// What counts
    #[arg(long, value_enum)]
    work: Work,
    /// Received checksums
    #[arg(long, value_enum, default_value = "verify")]
    checksum: Checksum,
    /// Data segments (for `ack`: acknowledgements), after a warm-up
    #[arg(long, default_value_t = 1_000_000)]
    segments: usize,
    /// Core to run on
    #[arg(long)]
    core: Option<usize>,
}

/// What a run gave. A "segment" of `ack` is an acknowledgement.
#[derive(Clone, Copy, Debug)]
struct TcpResult {
    /// Payload of a data segment.
    segment_bytes: usize,
    /// Segments that were counted.
    segments: u64,
    /// Median over batches; for `bulk`, the mean.
    ns_per_segment: f64,
}

/// Measures and prints.
pub(crate) fn run(args: &MemTcpArgs) -> Result<()> {
    affinity::pin(args.core)?;
    let result = measure(args)?;
    let TcpResult { segment_bytes, segments, ns_per_segment } = result;
    let gbit_per_second = segment_bytes as f64 * 8.0 / ns_per_segment;
    let (system, work) = (args.system.name(), args.work.name());
    let checksum_ns = checksum_ns(segment_bytes);
    println!(
        "{system} {work} of {segment_bytes} B: {ns_per_segment:.1} ns/segment, {gbit_per_second:.2} Gbit/s ({segments} segments); \
         the engine's checksum of so much: {checksum_ns:.1} ns"
    );
    Ok(())
}

/// What summing a payload takes by itself, in the same batches: a segment's time with it, and without.
fn checksum_ns(segment_bytes: usize) -> f64 {
    let frames = vec![0x5a; BATCH * FRAME_BYTES_MAX];
    let mut times_ns: Vec<f64> = (0..CHECKSUM_BATCHES)
        .map(|_| {
            let begun = Instant::now();
            for frame in frames.chunks(FRAME_BYTES_MAX) {
                black_box(checksum::sum(black_box(&frame[..segment_bytes.min(FRAME_BYTES_MAX)])));
            }
            begun.elapsed().as_nanos() as f64 / BATCH as f64
        })
        .collect();
    times_ns.sort_by(f64::total_cmp);
    times_ns[times_ns.len() / 2]
}

fn measure(args: &MemTcpArgs) -> Result<TcpResult> {
    let (checksum, segments) = (args.checksum, args.segments as u64);
    if args.work == Work::Bulk {
        let mut ends: Box<dyn Ends> = match args.system {
            System::Framewire => Box::new(engine_host::EngineEnds::new(checksum)?),
            System::Smoltcp => Box::new(smoltcp_bulk::SmoltcpEnds::new(checksum)?),
            System::SmoltcpLoopback => Box::new(smoltcp_loopback::SmoltcpLoopback::new(checksum)?),
        };
        return bulk(ends.as_mut(), segments);
    }
    let mut stack: Box<dyn Scripted> = match args.system {
        System::Framewire => Box::new(engine_host::EngineServer::new(FLOW, checksum)?),
        System::Smoltcp => Box::new(smoltcp_host::SmoltcpServer::new(FLOW, checksum)?),
        System::SmoltcpLoopback => bail!("--work {}: its device has one end only", args.work.name()),
    };
    scripted(stack.as_mut(), args.work, segments)
}

/// Two stacks and the link between them.
trait Ends: Turn {
    /// Payload bytes that the receiving application has taken.
    fn received_bytes(&self) -> u64;

    /// Data segments that the sending stack has sent, and the length of the longest.
    fn sent_segments(&mut self) -> (u64, usize);
}

fn bulk(ends: &mut dyn Ends, segments: u64) -> Result<TcpResult> {
    for _ in 0..WARM_UP_TURNS {
        work_of_a_batch(ends);
    }
    let (before, (first, segment_bytes)) = (ends.received_bytes(), ends.sent_segments());
    ensure!(before > 0 && segment_bytes > 0, "no connection, or nothing on it");
    let wanted = segments * segment_bytes as u64;
    let (mut last, mut idle, mut took) = (before, 0, Duration::ZERO);
    while last - before < wanted {
        let begun = Instant::now();
        work_of_a_batch(ends);
        took += begun.elapsed();
        let received = ends.received_bytes();
        idle = if received == last { idle + 1 } else { 0 };
        ensure!(idle < IDLE_TURNS_MAX, "it stalled after {} bytes", last - before);
        last = received;
    }
    let sent = ends.sent_segments().0 - first;
    let full = (last - before) / segment_bytes as u64;
    ensure!(sent <= full + full / 20 + 2 * BATCH as u64, "{sent} segments sent where {full} would do");
    Ok(TcpResult { segment_bytes, segments: full, ns_per_segment: took.as_nanos() as f64 / full as f64 })
}

/// A stack with a listening application, and the wire's end of its device. `handled` counts bytes that the application received or sent.
trait Scripted: Subject {
    /// The application may send so many bytes more.
    fn allow(&mut self, bytes: usize);
}

/// One batch's time and how much of what counts was in it.
type Batch = (Duration, usize);

fn scripted(stack: &mut dyn Scripted, work: Work, segments: u64) -> Result<TcpResult> {
    introduce(stack, FLOW)?;
    let mut peer = Peer::new(FLOW);
    establish(stack, &mut peer)?;
    steady(stack, &mut peer, work, segments)
}

/// On a connection that is there.
fn steady(stack: &mut dyn Scripted, peer: &mut Peer, work: Work, segments: u64) -> Result<TcpResult> {
    let mut times_ns = Vec::new();
    let (mut counted, mut number, mut idle) = (0, 0, 0);
    while counted < segments {
        let (took, count) = batch(stack, peer, work)?;
        idle = if count == 0 { idle + 1 } else { 0 };
        ensure!(idle < IDLE_TURNS_MAX, "it stalled after {counted} segments");
        number += 1;
        if number > WARM_UP_TURNS && count > 0 {
            times_ns.push(took.as_nanos() as f64 / count as f64);
            counted += count as u64;
        }
    }
    times_ns.sort_by(f64::total_cmp);
    let median = times_ns.get(times_ns.len() / 2).copied().unwrap_or(f64::NAN);
    Ok(TcpResult { segment_bytes: peer.segment_bytes(), segments: counted, ns_per_segment: median })
}

fn batch(stack: &mut dyn Scripted, peer: &mut Peer, work: Work) -> Result<Batch> {
    match work {
        Work::Receive => receive(stack, peer),
        Work::Send => Ok(send(stack, peer)?.0),
        Work::Ack => Ok(send(stack, peer)?.1),
        Work::Bulk => bail!("bulk has no scripted peer"),
    }
}

/// One of the engine's connections, to do a batch at a time on.
#[derive(Debug)]
pub(crate) struct OnConnection {
    server: engine_host::EngineServer,
    peer: Peer,
    work: Work,
}

impl OnConnection {
    pub(crate) fn new(work: Work) -> Result<Self> {
        let (mut server, mut peer) = (engine_host::EngineServer::new(FLOW, Checksum::Verify)?, Peer::new(FLOW));
        introduce(&mut server, FLOW)?;
        establish(&mut server, &mut peer)?;
        Ok(Self { server, peer, work })
    }

    /// What it took, and how many segments there were in it.
    pub(crate) fn batch(&mut self) -> Result<(Duration, usize)> {
        batch(&mut self.server, &mut self.peer, self.work)
    }
}

fn establish(stack: &mut dyn Scripted, peer: &mut Peer) -> Result<()> {
    inject(stack, &peer.syn())?;
    stack.work();
    hear(stack, peer)?;
    ensure!(peer.is_connected(), "no answer to the SYN");
    inject(stack, peer.ack())?;
    stack.work();
    hear(stack, peer)?;
    Ok(())
}

fn inject(stack: &mut dyn Scripted, frame: &[u8]) -> Result<()> {
    ensure!(stack.inject(frame), "the device has no room for a frame");
    Ok(())
}

/// The peer takes what was sent; how many data segments there were.
fn hear(stack: &mut dyn Scripted, peer: &mut Peer) -> Result<usize> {
    let (mut data, mut wrong) = (0, None);
    stack.drain(&mut |frame| match peer.hear(frame) {
        Ok(payload_bytes) => data += usize::from(payload_bytes > 0),
        Err(why) => {
            wrong.get_or_insert(why);
        }
    });
    ensure!(wrong.is_none(), "a wrong segment: {}", wrong.unwrap_or_default());
    Ok(data)
}

/// As many segments as the window admits.
fn receive(stack: &mut dyn Scripted, peer: &mut Peer) -> Result<Batch> {
    let before = stack.handled();
    let count = BATCH.min(peer.window_bytes() / peer.segment_bytes());
    for _ in 0..count {
        inject(stack, peer.data())?;
    }
    let begun = Instant::now();
    work_of_a_batch(stack);
    let took = begun.elapsed();
    hear(stack, peer)?;
    let (handled, expected) = (stack.handled() - before, count * peer.segment_bytes());
    ensure!(handled == expected as u64, "the application saw {handled} bytes instead of {expected}");
    ensure!(peer.unacked_bytes() < 2 * peer.segment_bytes() + 1, "{} bytes not acknowledged", peer.unacked_bytes());
    Ok((took, count))
}

/// A batch of segments, and then what acknowledges them; as many as go.
fn send(stack: &mut dyn Scripted, peer: &mut Peer) -> Result<(Batch, Batch)> {
    stack.allow(BATCH * peer.segment_bytes());
    let mut parts = [(Duration::ZERO, 0); 2];
    let begun = Instant::now();
    work_of_a_batch(stack);
    parts[0] = (begun.elapsed(), hear(stack, peer)?);
    stack.allow(0);
    let acks = peer.acks();
    for ack in &acks {
        inject(stack, ack)?;
    }
    let begun = Instant::now();
    work_of_acks(stack);
    parts[1] = (begun.elapsed(), acks.len());
    // What the window had kept back.
    while hear(stack, peer)? > 0 {
        for ack in peer.acks() {
            inject(stack, &ack)?;
        }
        stack.work();
    }
    Ok(parts.into())
}

/// As [`work_of_a_batch`], for callgrind to tell them apart; were they the same, the compiler would make one of them.
#[inline(never)]
fn work_of_acks(stack: &mut dyn Scripted) {
    black_box(1);
    stack.work();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stack_does_every_work_and_is_checked() {
        for &system in System::value_variants() {
            for &work in Work::value_variants().iter().filter(|&&work| system.does(work)) {
                for &checksum in Checksum::value_variants() {
                    let args = MemTcpArgs { system, work, checksum, segments: 2000, core: None };
                    let what = || format!("{system:?} {work:?} {checksum:?}");
                    let result = measure(&args).unwrap_or_else(|why| panic!("{}: {why:#}", what()));
                    assert!(result.ns_per_segment > 0.0 && result.segments >= 2000, "{}: {result:?}", what());
                }
            }
        }
    }
}
