//! The suite without a kernel: nanoseconds and instructions a packet.

use super::{
    Plan,
    bed::prioritised,
    report::{Better, Rounds},
};
use crate::{
    mem::{MemSystem, Work, instructions_per_packet},
    stop::StopFlag,
};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use framewire_tests::rig::Process;
use std::{process::Command, time::Duration};

/// UDP payloads, in bytes.
const SIZES: [usize; 2] = [64, 1472];
/// Packets for each second that a figure may take: enough for a median of thousands of batches.
const PACKETS_PER_SECOND: f64 = 1e6;
const PATIENCE: Duration = Duration::from_secs(120);

/// What is missing for this suite.
pub(super) fn check(plan: &Plan) -> Result<()> {
    ensure!(!wanted(plan).is_empty(), "none of --systems {} is in it", plan.only.join(","));
    let valgrind = Command::new("valgrind").arg("--version").output();
    ensure!(valgrind.is_ok(), "valgrind is not installed (Debian: valgrind; scripts/bench installs it)");
    Ok(())
}

fn wanted(plan: &Plan) -> Vec<MemSystem> {
    MemSystem::value_variants().iter().copied().filter(|system| plan.wants(system.name())).collect()
}

/// All rounds: for each work and size, one scenario by the clock and one by callgrind.
pub(super) fn run(plan: &Plan, suite: &str, stop: &StopFlag) -> Result<Vec<Rounds>> {
    let systems = wanted(plan);
    let mut scenarios = Vec::new();
    for &work in Work::value_variants() {
        for size in SIZES {
            let empty = |unit| Rounds {
                suite: suite.into(),
                scenario: format!("{} {size} B", work.name()),
                unit,
                better: Better::Lower,
                systems: systems.iter().map(|system| (system.name().to_owned(), Vec::new())).collect(),
                notes: Vec::new(),
            };
            let (mut times, mut instructions) = (empty("ns/packet"), empty("instructions/packet"));
            for _ in 0..plan.rounds {
                for (&system, (_, values)) in systems.iter().zip(&mut times.systems) {
                    if stop.is_set() {
                        bail!("interrupted");
                    }
                    values.push(time(plan, system, work, size)?);
                }
            }
            // Counted once: the count is the same each time.
            for (&system, (_, values)) in systems.iter().zip(&mut instructions.systems) {
                values.push(instructions_per_packet(system, work, size)?);
            }
            scenarios.extend([times, instructions]);
        }
    }
    Ok(scenarios)
}

fn time(plan: &Plan, system: MemSystem, work: Work, payload_bytes: usize) -> Result<f64> {
    let mut command = Command::new(std::env::current_exe()?);
    let packets = (plan.seconds * PACKETS_PER_SECOND) as usize;
    command.args(["mem", "--system", system.name(), "--work", work.name()]);
    command.args(["--payload-bytes", &payload_bytes.to_string(), "--packets", &packets.to_string()]);
    command.args(["--core", &plan.cores.dut.to_string()]);
    let mut process = Process::spawn(prioritised(command))?;
    let status = process.wait(PATIENCE)?;
    let output = process.output();
    ensure!(status.success(), "{} ended with {status}:\n{output}", system.name());
    let figure = output.split_once(": ").and_then(|(_, rest)| rest.split_once(" ns/packet")).map(|(figure, _)| figure);
    figure.and_then(|figure| figure.parse().ok()).with_context(|| format!("no figure in:\n{output}"))
}
