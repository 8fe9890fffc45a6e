//! The load generator: XDP programs in the kernel (`bpf/generator.bpf.c`), driven and measured from here.
//!
//! It takes over its interface for as long as it runs: every frame that arrives there is counted and dropped, ARP requests for its
//! address are answered. Packets carry right checksums and a sequence number; a sample of the replies is checked byte by byte.

mod programs;

use crate::{
    affinity,
    packet::{Answer, Flow, HEADER_BYTES, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN},
    stop,
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use framewire::port::MacAddr;
use programs::{Counts, Programs};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    net::SocketAddrV4,
    thread,
    time::{Duration, Instant},
};

/// How often the measuring thread looks for a stall and drains samples.
const TICK: Duration = Duration::from_millis(20);
/// How long after the last packet replies are still waited for.
const GRACE: Duration = Duration::from_millis(100);

/// Options of `flood`.
#[derive(Args, Debug)]
pub(crate) struct GeneratorArgs {
    /// Interface to send from and to count replies on
    #[arg(long, short)]
    interface: String,
    /// Core to generate on
    #[arg(long)]
    core: Option<usize>,
    /// Ethernet address to send to
    #[arg(long, value_parser = parse_mac)]
    target_mac: MacAddr,
    /// Address and port to send to
    #[arg(long, default_value = "198.18.0.1:7")]
    target: SocketAddrV4,
    /// Address and port to send from; ARP requests for the address are answered
    #[arg(long, default_value = "198.18.0.2:9000")]
    source: SocketAddrV4,
    /// UDP payload, in bytes
    #[arg(long, default_value_t = 64)]
    payload_bytes: usize,
    /// What a right reply looks like
    #[arg(long, value_enum, default_value_t = Answer::Echo)]
    answer: Answer,
    /// Packets outstanding at most; 0: as many as there can be, whatever is lost
    #[arg(long, default_value_t = DEFAULT_WINDOW)]
    window: u32,
    /// Seconds before the measurement
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Seconds measured
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Check one reply in this many byte by byte; a power of two
    #[arg(long, default_value_t = 1024)]
    sample_every: u32,
    /// Print the result as one line of JSON
    #[arg(long)]
    json: bool,
}

/// A window that keeps every system busy and fits every queue on the way (the shortest is veth's ring of 256).
pub(crate) const DEFAULT_WINDOW: u32 = 256;

/// What the generator saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measurement {
    pub(crate) payload_bytes: usize,
    pub(crate) window: u32,
    /// Measured time, in seconds.
    pub(crate) seconds: f64,
    /// Packets sent in it.
    pub(crate) sent: u64,
    /// Right replies received in it.
    pub(crate) received: u64,
    /// Replies a second.
    pub(crate) packets_per_second: f64,
    /// Share of the time in which the window was full: what the generator has in hand.
    pub(crate) idle: f64,
    /// Packets without a reply since the warm-up, less at most a window. (In the warm-up an answerer may first have to ask who we are.)
    pub(crate) lost: u64,
    /// Frames of another size, with other addresses or ports.
    pub(crate) wrong: u64,
    /// Replies checked byte by byte.
    pub(crate) checked: u64,
    /// Of those, not right.
    pub(crate) refused: u64,
    /// What was wrong with the first of them.
    pub(crate) first_refusal: Option<String>,
}

/// Measures and prints.
pub(crate) fn run(args: &GeneratorArgs) -> Result<()> {
    let result = measure(args)?;
    if args.json {
        println!("{}", serde_json::to_string(&result)?);
        return Ok(());
    }
    println!(
        "{:.0} replies/s of {} B payload ({} sent, {} received in {:.3} s), generator idle {:.0} %, window {}",
        result.packets_per_second,
        result.payload_bytes,
        result.sent,
        result.received,
        result.seconds,
        result.idle * 100.0,
        result.window
    );
    println!(
        "lost {}, wrong {}, checked {} of which refused {}{}",
        result.lost,
        result.wrong,
        result.checked,
        result.refused,
        result.first_refusal.as_deref().map(|why| format!(" (first: {why})")).unwrap_or_default()
    );
    Ok(())
}

fn measure(args: &GeneratorArgs) -> Result<Measurement> {
    ensure!(
        (PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&args.payload_bytes),
        "--payload-bytes {}: must be {PAYLOAD_BYTES_MIN} to {PAYLOAD_BYTES_MAX}",
        args.payload_bytes
    );
    ensure!(args.sample_every.is_power_of_two(), "--sample-every {}: must be a power of two", args.sample_every);
    affinity::pin(args.core)?;
    let flow = Flow {
        source_mac: interface_mac(&args.interface)?,
        target_mac: args.target_mac,
        source: args.source,
        target: args.target,
    };
    let mut programs = Programs::load(&args.interface, &flow, args)?;
    let stop = stop::flag()?;
    let mut checks = Checks::new(flow, args);

    let sending = programs.sender(&flow.frame(args.payload_bytes))?.start(stop.clone())?;
    let watched = (|| {
        programs.watch(Duration::from_secs_f64(args.warm_up), &stop, &mut checks)?;
        let (begin, begun) = (programs.counts(), Instant::now());
        programs.watch(Duration::from_secs_f64(args.seconds), &stop, &mut checks)?;
        anyhow::Ok((begin, programs.counts(), begun.elapsed()))
    })();
    stop.set();
    programs.stop();
    sending.join()?;
    let (begin, end, span) = watched?;
    thread::sleep(GRACE);
    let last = programs.counts();
    programs.drain(&mut checks)?;

    let seconds = span.as_secs_f64();
    let received = end.received - begin.received;
    if last.sent == 0 {
        bail!("nothing could be sent from {}: does its peer have an XDP program, or GRO on?", args.interface);
    }
    Ok(Measurement {
        payload_bytes: args.payload_bytes,
        window: args.window,
        seconds,
        sent: end.sent - begin.sent,
        received,
        packets_per_second: received as f64 / seconds,
        idle: Counts::idle_between(&begin, &end).as_secs_f64() / seconds,
        lost: (last.sent - begin.sent).saturating_sub(last.received - begin.received),
        wrong: last.wrong,
        checked: checks.checked,
        refused: checks.refused,
        first_refusal: checks.first_refusal,
    })
}

/// Samples checked so far.
#[derive(Debug)]
struct Checks {
    flow: Flow,
    payload_bytes: usize,
    answer: Answer,
    checked: u64,
    refused: u64,
    first_refusal: Option<String>,
}

impl Checks {
    fn new(flow: Flow, args: &GeneratorArgs) -> Self {
        let (payload_bytes, answer) = (args.payload_bytes, args.answer);
        Self { flow, payload_bytes, answer, checked: 0, refused: 0, first_refusal: None }
    }

    /// `sample` is the start of a buffer that the frame may not fill.
    fn check(&mut self, sample: &[u8]) {
        self.checked += 1;
        let frame = &sample[..sample.len().min(HEADER_BYTES + self.payload_bytes)];
        if let Err(why) = self.flow.check_reply(frame, self.payload_bytes, self.answer) {
            self.refused += 1;
            self.first_refusal.get_or_insert(why);
        }
    }
}

fn parse_mac(text: &str) -> Result<MacAddr> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().with_context(|| format!("{text}: six bytes like 02:00:00:00:00:01 are needed"))?;
        *byte = u8::from_str_radix(part, 16).with_context(|| format!("{text}: {part}"))?;
    }
    ensure!(parts.next().is_none(), "{text}: more than six bytes");
    Ok(MacAddr(bytes))
}

pub(crate) fn interface_mac(name: &str) -> Result<MacAddr> {
    let path = format!("/sys/class/net/{name}/address");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    parse_mac(text.trim())
}
