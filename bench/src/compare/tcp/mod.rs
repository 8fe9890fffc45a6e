//! Suites on TCP over a veth pair.

mod bulk;
mod exchange;
mod http;
mod loss;
mod redis;

pub(super) use bulk::contest as bulk;
pub(super) use exchange::{connections, requests};
pub(super) use http::contest as http;
pub(super) use loss::contest as loss;
pub(super) use redis::contest as redis;

use super::{
    Plan,
    bed::{Bed, DUT_ADDRESS, DUT_NETWORK, Running, Side, run_to_end},
    systems::Appliance,
    turns::{Figure, Turn},
};
use crate::tcp::BulkResult;
use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// A pause that is worth a note: longer than any of a scheduler that gives the core to somebody else now and then.
const STALL_NOTE_MS: f64 = 100.0;
/// A client that was busy for more than this share of the time may have been what was measured.
const BUSY_NOTE: f64 = 0.95;
/// The kernel's default may pace (BBR) and then sends less than the link carries; `reno` is what every namespace may choose.
const CONGESTION_CONTROL: &str = "reno";
const PORT: u16 = 7;

fn target() -> String {
    format!("{DUT_ADDRESS}:{PORT}")
}

/// Makes a side the kernel's, fit for many connections.
fn kernel_side(bed: &Bed, side: Side) -> Result<()> {
    bed.give_address_to_kernel(side)?;
    let settings = [
        ("net.ipv4.tcp_congestion_control", CONGESTION_CONTROL),
        ("net.core.somaxconn", "65535"),
        ("net.ipv4.tcp_max_syn_backlog", "65535"),
        // Who opens tens of thousands of connections a second needs the ports of those in TIME_WAIT.
        ("net.ipv4.ip_local_port_range", "1024 65535"),
        ("net.ipv4.tcp_tw_reuse", "1"),
        ("net.ipv4.tcp_tw_reuse_delay", "1"),
    ];
    settings.iter().try_for_each(|(key, value)| bed.ns(side).sysctl(key, value))
}

/// This program's echo over epoll, on the kernel's side of the server.
fn kernel_echo(bed: &Bed, spin: &[&str]) -> Result<Running> {
    let server = bed.own_command(Side::Dut, &[&["kernel-tcp-server", "--listen", &target()], spin].concat());
    Running::start(server, "ready")
}

/// What `measure` finds of a server that runs, which ends then.
fn turn_of(server: Running, measure: impl FnOnce() -> Result<Vec<Figure>>) -> Result<Turn> {
    let figures = measure()?;
    let about = Some(server.about.clone());
    server.stop()?;
    Ok(Turn { about, figures })
}

/// Who is at the client's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// The same system as at the server's.
    Same,
    /// The kernel, spinning.
    Kernel,
}

impl Client {
    const ALL: [Self; 2] = [Self::Same, Self::Kernel];

    /// For the scenario.
    fn suffix(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Kernel => ", kernel client",
        }
    }
}

/// The appliance with this service and further lines of `[[interface]]`, and what faces it on the other side.
fn framewire_side(bed: &Bed, appliance: &Appliance, service: &str, client: Client, interface: &str) -> Result<Running> {
    let checksum = match client {
        Client::Same => "verify",
        // A kernel leaves checksums on a veth to a device that does not exist.
        Client::Kernel => "partial",
    };
    let interface = format!("addresses = [\"{DUT_NETWORK}\"]\nrx_checksum = \"{checksum}\"\n{interface}");
    if client == Client::Kernel {
        kernel_side(bed, Side::Peer)?;
    }
    appliance.start(bed, &interface, service)
}

/// Arguments of a client of this program on the engine.
fn engine_client() -> [&'static str; 4] {
    ["--engine", Side::Peer.interface(), "--address", Side::Peer.network()]
}

/// Runs one of this program's clients; what it prints as JSON.
fn result_of<T: DeserializeOwned>(plan: &Plan, mut command: Command) -> Result<T> {
    command.args(["--json", "--seconds", &plan.seconds.to_string(), "--warm-up", &plan.warm_up.to_string()]);
    let output = run_to_end(command, patience(plan.seconds + plan.warm_up)).context("the client")?;
    let line = output.lines().find(|line| line.starts_with('{')).with_context(|| format!("no result in:\n{output}"))?;
    Ok(serde_json::from_str(line)?)
}

/// A note if a connection stood still.
fn stall_note(result: &BulkResult) -> Option<String> {
    let stalled = result.longest_stall_ms > STALL_NOTE_MS;
    stalled.then(|| format!("nothing went through for {:.1} ms", result.longest_stall_ms))
}

fn patience(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds) + Duration::from_secs(20)
}

/// Runs somebody else's client to its end: what it printed, and a note if it had no time left.
fn watched(command: Command, patience: Duration) -> Result<(String, Option<String>)> {
    let (before, begun) = (cpu_time_of_children(), Instant::now());
    let output = run_to_end(command, patience)?;
    let busy = (cpu_time_of_children() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let note = format!("the client was busy for {:.0} % of the time", busy.min(1.0) * 100.0);
    Ok((output, (busy > BUSY_NOTE).then_some(note)))
}

/// What children used that have ended.
fn cpu_time_of_children() -> Duration {
    // SAFETY: all-zero bytes are a valid `rusage`, and getrusage fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec.unsigned_abs(), t.tv_usec.unsigned_abs() as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn installed(program: &str, package: &str) -> Result<()> {
    let found = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    ensure!(found.is_ok(), "{program} is not installed (Debian: {package}; scripts/bench does it)");
    Ok(())
}
