//! Contenders in turns (A B A B …), so that a machine that changes its speed changes it for all of them.

use super::{
    Plan,
    progress::Progress,
    report::{Axis, Better, Measured, Rounds},
};
use crate::stop::StopFlag;
use anyhow::{Context, Result, bail, ensure};
use framewire::load::Percentiles;
use std::{fmt, time::Instant};

/// One thing that is measured of every contender.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) scenario: String,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    pub(super) axis: Option<Axis>,
}

impl Row {
    pub(super) fn new(scenario: impl Into<String>, unit: &'static str, better: Better) -> Self {
        Self { scenario: scenario.into(), unit, better, axis: None }
    }

    /// Part of a plot over a number.
    pub(super) fn over(mut self, plot: impl Into<String>, name: &'static str, value: f64) -> Self {
        self.axis = Some(Axis { plot: plot.into(), name, value });
        self
    }
}

/// One contender's value in one row.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    pub(super) value: f64,
    /// What a reader of it must know.
    pub(super) note: Option<String>,
    /// If it was a latency or a rate of something that has one.
    pub(super) percentiles: Option<Percentiles>,
}

impl From<f64> for Figure {
    fn from(value: f64) -> Self {
        Self { value, note: None, percentiles: None }
    }
}

/// One turn of a contender.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// What it says of itself: modes bound and the like.
    pub(super) about: Option<String>,
    /// One for each row.
    pub(super) figures: Vec<Figure>,
}

/// Something that is compared.
pub(super) trait Contender: fmt::Debug {
    /// As it is called in reports.
    fn name(&self) -> &'static str;

    /// Why it cannot run on this machine, if so.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// On a fresh bed, one figure for each row.
    fn measure(&self, plan: &Plan) -> Result<Turn>;
}

/// A suite.
#[derive(Debug)]
pub(super) struct Contest {
    pub(super) rows: Vec<Row>,
    /// Base lines first.
    pub(super) contenders: Vec<Box<dyn Contender>>,
}

impl Contest {
    /// Without those that are not asked for.
    pub(super) fn only(mut self, plan: &Plan) -> Result<Self> {
        self.contenders.retain(|contender| plan.wants(contender.name()));
        ensure!(!self.contenders.is_empty(), "none of --systems {} is in it", plan.only.join(","));
        Ok(self)
    }

    /// What is missing.
    pub(super) fn check(&self) -> Result<()> {
        for contender in &self.contenders {
            contender.check().with_context(|| format!("{} (--systems leaves it out)", contender.name()))?;
        }
        Ok(())
    }

    /// How many steps [`Self::run`] has.
    pub(super) fn steps(&self, plan: &Plan) -> u64 {
        (plan.rounds * self.contenders.len()) as u64
    }

    /// All rounds.
    pub(super) fn run(&self, plan: &Plan, suite: &str, stop: &StopFlag, progress: &Progress) -> Result<Vec<Rounds>> {
        let Self { rows, contenders } = self;
        let mut rounds: Vec<Rounds> = rows
            .iter()
            .map(|row| Rounds {
                suite: suite.into(),
                scenario: row.scenario.clone(),
                unit: row.unit,
                better: row.better,
                axis: row.axis.clone(),
                systems: contenders.iter().map(|contender| Measured::new(contender.name(), Vec::new())).collect(),
                notes: Vec::new(),
            })
            .collect();
        let mut notes = vec![Notes::default(); rows.len()];
        for number in 1..=plan.rounds {
            for (index, contender) in contenders.iter().enumerate() {
                if stop.is_set() {
                    bail!("interrupted");
                }
                let name = contender.name();
                progress.begin(format!("{suite} round {number} of {} {name}", plan.rounds));
                let begun = Instant::now();
                let turn = contender.measure(plan).with_context(|| name)?;
                ensure!(turn.figures.len() == rows.len(), "{name}: {} figures, not {}", turn.figures.len(), rows.len());
                let mut line = format!("{suite} round {number} {name}, {:.1} s:", begun.elapsed().as_secs_f64());
                for ((rounds, notes), figure) in rounds.iter_mut().zip(&mut notes).zip(turn.figures) {
                    line += &format!(" {} {:.1} {};", rounds.scenario, figure.value, rounds.unit);
                    let measured = &mut rounds.systems[index];
                    measured.values.push(figure.value);
                    measured.percentiles.extend(figure.percentiles);
                    if let Some(note) = figure.note {
                        notes.add(name, number, note);
                    }
                    if number == 1 {
                        measured.about.clone_from(&turn.about);
                    }
                }
                progress.done(&line);
            }
        }
        for (rounds, notes) in rounds.iter_mut().zip(&notes) {
            rounds.notes = notes.lines();
        }
        Ok(rounds)
    }
}

/// What was noted of a row, each thing once for each system, with the rounds that it is true of.
#[derive(Clone, Debug, Default)]
struct Notes(Vec<(&'static str, String, Vec<String>)>);

impl Notes {
    fn add(&mut self, system: &'static str, round: usize, text: String) {
        match self.0.iter_mut().find(|note| (note.0, &note.1) == (system, &text)) {
            Some((.., rounds)) => rounds.push(round.to_string()),
            None => self.0.push((system, text, vec![round.to_string()])),
        }
    }

    fn lines(&self) -> Vec<String> {
        let line = |(system, text, rounds): &(&str, String, Vec<String>)| {
            format!("{system}, round{} {}: {text}", if rounds.len() > 1 { "s" } else { "" }, rounds.join(", "))
        };
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Notes;

    #[test]
    fn what_is_true_of_several_rounds_is_noted_once() {
        let mut notes = Notes::default();
        notes.add("nginx", 1, "busy".into());
        notes.add("framewire", 1, "busy".into());
        notes.add("nginx", 2, "a stall".into());
        notes.add("nginx", 3, "busy".into());
        assert_eq!(notes.lines(), ["nginx, rounds 1, 3: busy", "framewire, round 1: busy", "nginx, round 2: a stall"]);
    }
}
