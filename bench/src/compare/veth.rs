//! Suites on a veth pair: packets a second that come back.

use super::{
    Plan,
    bed::{Bed, run_to_end},
    report::Better,
    systems::{self, System},
    turns::{Contender, Contest, Figure, Row, Turn},
};
use crate::{generator::Measurement, packet::Answer};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use std::time::Duration;

/// UDP payloads, in bytes.
const SIZES: [usize; 3] = [64, 512, 1472];
/// More packets than this in ten thousand without a reply are worth a note.
const LOSS_NOTE_PER_10000: u64 = 1;
/// A generator that waited less than this share of the time may have been what was measured.
const IDLE_NOTE: f64 = 0.10;

/// The systems of a suite, one row for each size.
pub(super) fn contest(plan: &Plan, answer: Answer) -> Contest {
    let row = |size: usize| {
        let row = Row::new(format!("{size} B"), "packets/s", Better::Higher);
        row.over("packets over their size", "UDP payload, bytes", size as f64)
    };
    let contender = |system| Box::new(UnderLoad { system, answer }) as Box<dyn Contender>;
    Contest { rows: SIZES.map(row).into(), contenders: systems::of(plan, answer).into_iter().map(contender).collect() }
}

/// A system that answers the generator's packets.
#[derive(Debug)]
struct UnderLoad {
    system: Box<dyn System>,
    answer: Answer,
}

impl Contender for UnderLoad {
    fn name(&self) -> &'static str {
        self.system.name()
    }

    fn check(&self) -> Result<()> {
        self.system.check()
    }

    fn measure(&self, plan: &Plan) -> Result<Turn> {
        let bed = Bed::create(plan.cores)?;
        let running = self.system.start(&bed)?;
        let mut figures = Vec::new();
        for size in SIZES {
            let result = load(plan, &bed, self.answer, size).with_context(|| format!("{size} B"))?;
            figures.push(Figure { note: note(&result), ..result.packets_per_second.into() });
        }
        let about = Some(running.about.clone());
        running.stop()?;
        Ok(Turn { about, figures })
    }
}

fn load(plan: &Plan, bed: &Bed, answer: Answer, payload_bytes: usize) -> Result<Measurement> {
    let mut command = bed.generator();
    command.args(["--answer", answer.to_possible_value().context("an unnamed answer")?.get_name()]);
    command.args(["--payload-bytes", &payload_bytes.to_string(), "--window", &plan.window.to_string()]);
    command.args(["--seconds", &plan.seconds.to_string(), "--warm-up", &plan.warm_up.to_string()]);
    let patience = Duration::from_secs_f64(plan.seconds + plan.warm_up) + Duration::from_secs(20);
    let output = run_to_end(command, patience).context("the generator")?;
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

/// What a reader of the figures must know.
fn note(result: &Measurement) -> Option<String> {
    if result.idle < IDLE_NOTE {
        return Some(format!("the generator waited {:.0} % of the time only", result.idle * 100.0));
    }
    let lost_per_10000 = result.lost * 10_000 / result.sent.max(1);
    (lost_per_10000 >= LOSS_NOTE_PER_10000).then(|| format!("{} packets without a reply", result.lost))
}
