//! The suite `growth`: the engine alone, holding more and more.

use super::{
    Plan,
    bed::run_to_end,
    progress::Progress,
    report::{Axis, Better, Measured, Rounds, number},
    stats::Summary,
    systems::FRAMEWIRE,
};
use crate::{
    mem::growth::{GrowthResult, Of},
    stop::StopFlag,
};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use std::{fmt::Write, process::Command, time::Duration};

/// Opening a million connections takes seconds; more on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);
const PACKETS_PER_SECOND: f64 = 1e5;
/// Of a quick run.
const QUICK_COUNT_MAX: usize = 10_000;
const TIME_UNIT: &str = "ns/packet";
const MEMORY_UNIT: &str = "bytes each";

/// What is missing.
pub(super) fn check(plan: &Plan) -> Result<()> {
    ensure!(plan.wants(FRAMEWIRE), "--systems: there is only {FRAMEWIRE} in it");
    Ok(())
}

fn cases(plan: &Plan) -> impl Iterator<Item = (Of, usize)> {
    let most = if plan.quick { QUICK_COUNT_MAX } else { usize::MAX };
    let counts = |of: &Of| {
        of.counts().iter().map({
            let of = *of;
            move |&count| (of, count)
        })
    };
    Of::value_variants().iter().flat_map(counts).filter(move |&(_, count)| count <= most)
}

/// How many steps [`run`] has.
pub(super) fn steps(plan: &Plan) -> u64 {
    (plan.rounds * cases(plan).count()) as u64
}

/// All rounds: a row for the time and one for the memory of each.
pub(super) fn run(plan: &Plan, suite: &str, stop: &StopFlag, progress: &Progress) -> Result<Vec<Rounds>> {
    let cases: Vec<(Of, usize)> = cases(plan).collect();
    let rows = |&(of, count): &(Of, usize)| {
        [TIME_UNIT, MEMORY_UNIT].map(|unit| Rounds {
            suite: suite.into(),
            scenario: format!("{count} {}", of.name()),
            unit,
            better: Better::Lower,
            axis: Some(Axis { plot: format!("{unit}, {}", of.name()), name: of.name(), value: count as f64 }),
            systems: vec![Measured::new(FRAMEWIRE, Vec::new())],
            notes: Vec::new(),
        })
    };
    let mut all: Vec<[Rounds; 2]> = cases.iter().map(rows).collect();
    for round in 1..=plan.rounds {
        for (&(of, count), [time, memory]) in cases.iter().zip(&mut all) {
            if stop.is_set() {
                bail!("interrupted");
            }
            progress.begin(format!("{suite} round {round} of {} {count} {}", plan.rounds, of.name()));
            let result = measure(plan, of, count).with_context(|| format!("{count} {}", of.name()))?;
            time.systems[0].values.push(result.ns_per_packet);
            memory.systems[0].values.push(result.bytes_each);
            progress.done("");
        }
    }
    Ok(all.into_iter().flatten().collect())
}

/// In a process of its own, so that none finds another's memory.
fn measure(plan: &Plan, of: Of, count: usize) -> Result<GrowthResult> {
    let packets = (plan.seconds * PACKETS_PER_SECOND) as usize;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["growth", "--of", of.name(), "--count", &count.to_string()]);
    command.args(["--packets", &packets.to_string(), "--core", &plan.cores.dut.to_string()]);
    let output = run_to_end(command, PATIENCE)?;
    serde_json::from_str(output.trim()).with_context(|| format!("no result in:\n{output}"))
}

/// All of it in one table, which should be flat from top to bottom within each kind.
pub(super) fn table(all: &[Rounds]) -> String {
    let mut text = format!("growth {:>29} {:>12} {:>18}\n", TIME_UNIT, MEMORY_UNIT, "time, of the first");
    let mut first: Option<(&str, f64)> = None;
    for pair in all.chunks_exact(2) {
        let median = |rounds: &Rounds| Summary::of(&rounds.systems.first()?.values).map(|summary| summary.median);
        let (Some(time), Some(memory)) = (median(&pair[0]), median(&pair[1])) else { continue };
        let kind = pair[0].axis.as_ref().map_or("", |axis| axis.name);
        let base = first.filter(|(name, _)| *name == kind).map_or(time, |(_, base)| base);
        first = Some((kind, base));
        let scenario = &pair[0].scenario;
        let _ = writeln!(text, "  {scenario:<24} {:>9} {:>12} {:>18.2}", number(time), number(memory), time / base);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_each_kind_against_its_first() {
        let row = |count: usize, kind: &'static str, unit, value| Rounds {
            suite: "growth".into(),
            scenario: format!("{count} {kind}"),
            unit,
            better: Better::Lower,
            axis: Some(Axis { plot: unit.into(), name: kind, value: count as f64 }),
            systems: vec![Measured::new(FRAMEWIRE, vec![value])],
            notes: Vec::new(),
        };
        let pair = |count, kind, time| [row(count, kind, TIME_UNIT, time), row(count, kind, MEMORY_UNIT, 100.0)];
        let all = [pair(1, "routes", 50.0), pair(1000, "routes", 100.0), pair(1, "timers", 200.0)].concat();
        let table = table(&all);
        let last: Vec<&str> = table.lines().filter_map(|line| line.split_whitespace().last()).collect();
        assert_eq!(last, ["first", "1.00", "2.00", "1.00"], "{table}");
    }
}
