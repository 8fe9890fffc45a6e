//! The suites without a kernel: nanoseconds and instructions a packet.

use super::{
    Plan,
    bed::run_to_end,
    progress::Progress,
    report::{Better, Measured, Rounds},
};
use crate::{
    mem::{Collect, MemSystem, Work, c_send, instructions_each, tcp},
    stop::StopFlag,
};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use std::{process::Command, time::Duration};

/// UDP payloads, in bytes.
const SIZES: [usize; 2] = [64, 1472];
const IDLE_CONNECTIONS: [usize; 2] = [10_000, 100_000];
/// Packets for each second that a figure may take: enough for a median of thousands of batches.
const PACKETS_PER_SECOND: f64 = 1e6;
const PATIENCE: Duration = Duration::from_secs(120);

/// What runs of this program with certain arguments show.
#[derive(Debug)]
pub(super) struct Case {
    scenario: String,
    systems: Vec<&'static str>,
    /// Without the system, and without the number of packets, whose option comes last.
    arguments: Vec<String>,
    /// Printed after the figure.
    unit: &'static str,
    better: Better,
    instructions_unit: &'static str,
    /// What callgrind counts; nothing with several threads, which it lets take turns.
    collect: Option<Collect>,
    /// The generator's core, not the systems'.
    beside_worker: bool,
}

/// What is missing for such a suite.
pub(super) fn check(plan: &Plan, cases: &[Case]) -> Result<()> {
    let any = cases.iter().any(|case| !case.systems.is_empty());
    ensure!(any, "none of --systems {} is in it", plan.only.join(","));
    let valgrind = Command::new("valgrind").arg("--version").output();
    ensure!(valgrind.is_ok(), "valgrind is not installed (Debian: valgrind; scripts/bench installs it)");
    Ok(())
}

/// How many steps [`run`] has.
pub(super) fn steps(plan: &Plan, cases: &[Case]) -> u64 {
    let runs = |(index, case): (usize, &Case)| plan.rounds + usize::from(case.counted(plan, index).is_some());
    cases.iter().enumerate().map(|numbered| (runs(numbered) * numbered.1.systems.len()) as u64).sum()
}

/// All of them, one after the other.
pub(super) fn run(
    plan: &Plan,
    suite: &str,
    cases: &[Case],
    stop: &StopFlag,
    progress: &Progress,
) -> Result<Vec<Rounds>> {
    let mut all = Vec::new();
    for (index, case) in cases.iter().enumerate().filter(|(_, case)| !case.systems.is_empty()) {
        all.push(case.times(plan, suite, stop, progress)?);
        if let Some(collect) = case.counted(plan, index) {
            all.push(case.instructions(suite, collect, progress)?);
        }
    }
    Ok(all)
}

/// Of the suite `mem-tcp`: what idle connections hold. Counted once: the count is the same each time.
pub(super) fn idle_connections(plan: &Plan, suite: &str) -> Result<Vec<Rounds>> {
    let system = tcp::System::Framewire.name();
    if !plan.wants(system) {
        return Ok(Vec::new());
    }
    let rounds = |connections| {
        let result = tcp::idle::measure(connections)?;
        let mut notes = vec![format!("{:.2} allocations each", result.blocks_per_connection)];
        notes.extend((result.frames_held > 0).then(|| format!("{} frames held", result.frames_held)));
        Ok(Rounds {
            suite: suite.into(),
            scenario: format!("{connections} idle connections"),
            unit: "bytes/connection",
            better: Better::Lower,
            axis: None,
            systems: vec![Measured::new(system, vec![result.bytes_per_connection])],
            notes,
        })
    };
    IDLE_CONNECTIONS.into_iter().map(rounds).collect()
}

/// The suite `mem`.
pub(super) fn udp(plan: &Plan) -> Vec<Case> {
    let case = |work: Work, size: usize| Case {
        scenario: format!("{} {size} B", work.name()),
        systems: wanted(plan, MemSystem::value_variants().iter().map(|system| system.name())),
        arguments: strings(&["mem", "--work", work.name(), "--payload-bytes", &size.to_string(), "--packets"]),
        unit: "ns/packet",
        better: Better::Lower,
        instructions_unit: "instructions/packet",
        collect: Some(Collect::Batch),
        beside_worker: false,
    };
    Work::value_variants().iter().flat_map(|&work| SIZES.map(|size| case(work, size))).collect()
}

/// The suite `mem-tcp`.
pub(super) fn tcp(plan: &Plan) -> Vec<Case> {
    let case = |work: tcp::Work, checksum: tcp::Checksum| {
        let (unit, better) = match work {
            tcp::Work::Bulk => ("Gbit/s", Better::Higher),
            tcp::Work::Receive | tcp::Work::Send | tcp::Work::Ack => ("ns/segment", Better::Lower),
        };
        let how = if checksum == tcp::Checksum::Trust { ", checksums trusted" } else { "" };
        let systems = tcp::System::value_variants().iter().filter(|system| system.does(work));
        Case {
            scenario: format!("{}{how}", work.name()),
            systems: wanted(plan, systems.map(|system| system.name())),
            arguments: strings(&["mem-tcp", "--work", work.name(), "--checksum", checksum.name(), "--segments"]),
            unit,
            better,
            instructions_unit: "instructions/segment",
            collect: Some(if work == tcp::Work::Ack { Collect::Acks } else { Collect::Batch }),
            beside_worker: false,
        }
    };
    let checksums = tcp::Checksum::value_variants();
    let works = tcp::Work::value_variants().iter();
    works.flat_map(|&work| checksums.iter().map(move |&checksum| case(work, checksum))).collect()
}

/// The suite `c-send`.
pub(super) fn c_send(plan: &Plan) -> Vec<Case> {
    let case = |scenario: &str, on: c_send::On, from: c_send::From, gap_ns: u64| {
        let systems = c_send::CallSystem::value_variants().iter().filter(|system| system.does(from));
        let (on, gap_ns) = (on.name(), gap_ns.to_string());
        Case {
            scenario: scenario.into(),
            systems: wanted(plan, systems.map(|system| system.name())),
            arguments: strings(&["c-send", "--on", on, "--from", from.name(), "--gap-ns", &gap_ns, "--packets"]),
            unit: "ns/send",
            better: Better::Lower,
            instructions_unit: "instructions/send",
            collect: (from != c_send::From::Thread).then_some(Collect::Batch),
            beside_worker: from == c_send::From::Thread,
        }
    };
    let thread = |scenario, gap_ns| case(scenario, c_send::On::Datagrams, c_send::From::Thread, gap_ns);
    vec![
        case("callback", c_send::On::Datagrams, c_send::From::Callback, 0),
        case("callback, stream", c_send::On::Stream, c_send::From::Callback, 0),
        case("polled, with the driver's part", c_send::On::Datagrams, c_send::From::Polled, 0),
        case("polled, with the driver's part, stream", c_send::On::Stream, c_send::From::Polled, 0),
        thread("another thread, one after the other", 0),
        thread("another thread, every 5 us", 5_000),
        Case { unit: c_send::SYSTEM_CALLS_UNIT, ..thread("another thread, one after the other", 0) },
    ]
}

fn wanted(plan: &Plan, systems: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    systems.filter(|system| plan.wants(system)).collect()
}

fn strings(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
}

impl Case {
    /// How its instructions are counted, if they are: in a quick run, those of a suite's first case only, since callgrind takes seconds for each.
    fn counted(&self, plan: &Plan, index: usize) -> Option<Collect> {
        self.collect.filter(|_| !plan.quick || index == 0)
    }

    fn empty(&self, suite: &str, unit: &'static str, better: Better) -> Rounds {
        Rounds {
            suite: suite.into(),
            scenario: self.scenario.clone(),
            unit,
            better,
            axis: None,
            systems: self.systems.iter().map(|&system| Measured::new(system, Vec::new())).collect(),
            notes: Vec::new(),
        }
    }

    /// All rounds, by the clock.
    fn times(&self, plan: &Plan, suite: &str, stop: &StopFlag, progress: &Progress) -> Result<Rounds> {
        let mut times = self.empty(suite, self.unit, self.better);
        for _ in 0..plan.rounds {
            for (&system, Measured { values, .. }) in self.systems.iter().zip(&mut times.systems) {
                if stop.is_set() {
                    bail!("interrupted");
                }
                progress.begin(format!("{suite} {} {system}", self.scenario));
                values.push(self.time(plan, system).with_context(|| self.scenario.clone())?);
                progress.done("");
            }
        }
        Ok(times)
    }

    /// By callgrind. Counted once: the count is the same each time.
    fn instructions(&self, suite: &str, collect: Collect, progress: &Progress) -> Result<Rounds> {
        let mut instructions = self.empty(suite, self.instructions_unit, Better::Lower);
        for (&system, Measured { values, .. }) in self.systems.iter().zip(&mut instructions.systems) {
            progress.begin(format!("{suite} {} {system}, instructions", self.scenario));
            let count = instructions_each(collect, &self.arguments_for(system));
            values.push(count.with_context(|| self.scenario.clone())?);
            progress.done("");
        }
        Ok(instructions)
    }

    fn arguments_for(&self, system: &str) -> Vec<String> {
        let mut arguments = self.arguments.clone();
        arguments.splice(1..1, strings(&["--system", system]));
        arguments
    }

    fn time(&self, plan: &Plan, system: &str) -> Result<f64> {
        let mut command = Command::new(std::env::current_exe()?);
        let packets = (plan.seconds * PACKETS_PER_SECOND) as usize;
        command.args(self.arguments_for(system)).arg(packets.to_string());
        let core = if self.beside_worker { plan.cores.generator } else { plan.cores.dut };
        command.args(["--core", &core.to_string()]);
        let output = run_to_end(command, PATIENCE).with_context(|| system.to_owned())?;
        let before = output.split_once(&format!(" {}", self.unit)).map(|(before, _)| before);
        let figure = before.and_then(|text| text.split_whitespace().last()?.parse().ok());
        figure.with_context(|| format!("no figure in:\n{output}"))
    }
}
