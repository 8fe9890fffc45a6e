//! Suites on a veth pair: packets a second that come back.

use super::{
    Plan,
    bed::{Bed, prioritised},
    report::{Better, Rounds},
    systems::{self, System},
};
use crate::{generator::Measurement, packet::Answer, stop::StopFlag};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use framewire_tests::rig::Process;
use std::time::Duration;

/// UDP payloads, in bytes.
const SIZES: [usize; 3] = [64, 512, 1472];
/// More packets than this in ten thousand without a reply are worth a note.
const LOSS_NOTE_PER_10000: u64 = 1;
/// A generator that waited less than this share of the time may have been what was measured.
const IDLE_NOTE: f64 = 0.10;

/// What is missing for this suite.
pub(super) fn check(plan: &Plan, answer: Answer) -> Result<()> {
    let systems = wanted(plan, answer);
    ensure!(!systems.is_empty(), "none of --systems {} is in it", plan.only.join(","));
    for system in &systems {
        system.check().with_context(|| format!("{} (--systems leaves it out)", system.name()))?;
    }
    Ok(())
}

fn wanted(plan: &Plan, answer: Answer) -> Vec<Box<dyn System>> {
    let mut all = systems::of(answer, &plan.framewire);
    all.retain(|system| plan.wants(system.name()));
    all
}

/// All rounds, one scenario for each size.
pub(super) fn run(plan: &Plan, suite: &str, answer: Answer, stop: &StopFlag) -> Result<Vec<Rounds>> {
    let systems = wanted(plan, answer);
    let mut scenarios = SIZES.map(|size| Rounds {
        suite: suite.into(),
        scenario: format!("{size} B"),
        unit: "packets/s",
        better: Better::Higher,
        systems: systems.iter().map(|system| (system.name().to_owned(), Vec::new())).collect(),
        notes: Vec::new(),
    });
    for round in 0..plan.rounds {
        for (index, system) in systems.iter().enumerate() {
            if stop.is_set() {
                bail!("interrupted");
            }
            let name = system.name();
            let (about, results) = measure(plan, system.as_ref(), answer).with_context(|| name)?;
            eprintln!("{suite} round {} {name}: {}", round + 1, rates(&results));
            for (scenario, result) in scenarios.iter_mut().zip(&results) {
                scenario.systems[index].1.push(result.packets_per_second);
                scenario.notes.extend(note(name, round, result));
                if round == 0 {
                    scenario.notes.push(format!("{name}: {about}"));
                }
            }
        }
    }
    Ok(scenarios.into())
}

/// One system on a fresh bed, one figure for each size.
fn measure(plan: &Plan, system: &dyn System, answer: Answer) -> Result<(String, Vec<Measurement>)> {
    let bed = Bed::create(plan.cores)?;
    let running = system.start(&bed)?;
    let mut results = Vec::new();
    for size in SIZES {
        results.push(load(plan, &bed, answer, size).with_context(|| format!("{size} B"))?);
    }
    let about = running.about.clone();
    running.stop()?;
    Ok((about, results))
}

fn load(plan: &Plan, bed: &Bed, answer: Answer, payload_bytes: usize) -> Result<Measurement> {
    let mut command = bed.generator();
    command.args(["--answer", answer.to_possible_value().context("an unnamed answer")?.get_name()]);
    command.args(["--payload-bytes", &payload_bytes.to_string(), "--window", &plan.window.to_string()]);
    command.args(["--seconds", &plan.seconds.to_string(), "--warm-up", &plan.warm_up.to_string()]);
    let mut generator = Process::spawn(prioritised(command))?;
    let patience = Duration::from_secs_f64(plan.seconds + plan.warm_up) + Duration::from_secs(20);
    let status = generator.wait(patience)?;
    let output = generator.output();
    ensure!(status.success(), "the generator ended with {status}:\n{output}");
    let line = output.lines().find(|line| line.starts_with('{')).with_context(|| format!("no result in:\n{output}"))?;
    let result: Measurement = serde_json::from_str(line)?;
    ensure!(result.received > 0, "no replies ({} sent, {} wrong ones)", result.sent, result.wrong);
    ensure!(
        result.refused == 0 && result.wrong == 0,
        "wrong replies: {} of the wrong shape, {} of {} samples: {}",
        result.wrong,
        result.refused,
        result.checked,
        result.first_refusal.as_deref().unwrap_or("none")
    );
    Ok(result)
}

fn rates(results: &[Measurement]) -> String {
    let rate = |r: &Measurement| {
        format!("{} B {:.0}/s (generator idle {:.0} %)", r.payload_bytes, r.packets_per_second, r.idle * 100.0)
    };
    results.iter().map(rate).collect::<Vec<_>>().join(", ")
}

/// What a reader of the figures must know.
fn note(name: &str, round: usize, result: &Measurement) -> Option<String> {
    let round = round + 1;
    if result.idle < IDLE_NOTE {
        let idle = result.idle * 100.0;
        return Some(format!("{name}, round {round}: the generator waited {idle:.0} % of the time only"));
    }
    let lost_per_10000 = result.lost * 10_000 / result.sent.max(1);
    (lost_per_10000 >= LOSS_NOTE_PER_10000)
        .then(|| format!("{name}, round {round}: {} packets without a reply", result.lost))
}
