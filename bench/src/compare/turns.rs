//! Contenders in turns (A B A B …), so that a machine that changes its speed changes it for all of them.

use super::{
    Plan,
    report::{Better, Rounds},
};
use crate::stop::StopFlag;
use anyhow::{Context, Result, bail, ensure};
use std::fmt;

/// One thing that is measured of every contender.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) scenario: String,
    pub(super) unit: &'static str,
    pub(super) better: Better,
}

/// One contender's value in one row.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    pub(super) value: f64,
    /// What a reader of it must know.
    pub(super) note: Option<String>,
}

impl From<f64> for Figure {
    fn from(value: f64) -> Self {
        Self { value, note: None }
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

    /// All rounds.
    pub(super) fn run(&self, plan: &Plan, suite: &str, stop: &StopFlag) -> Result<Vec<Rounds>> {
        let Self { rows, contenders } = self;
        let mut rounds: Vec<Rounds> = rows
            .iter()
            .map(|row| Rounds {
                suite: suite.into(),
                scenario: row.scenario.clone(),
                unit: row.unit,
                better: row.better,
                systems: contenders.iter().map(|contender| (contender.name().to_owned(), Vec::new())).collect(),
                notes: Vec::new(),
            })
            .collect();
        for number in 1..=plan.rounds {
            for (index, contender) in contenders.iter().enumerate() {
                if stop.is_set() {
                    bail!("interrupted");
                }
                let name = contender.name();
                let turn = contender.measure(plan).with_context(|| name)?;
                ensure!(turn.figures.len() == rows.len(), "{name}: {} figures, not {}", turn.figures.len(), rows.len());
                let mut line = format!("{suite} round {number} {name}:");
                for (rounds, figure) in rounds.iter_mut().zip(turn.figures) {
                    line += &format!(" {} {:.1} {};", rounds.scenario, figure.value, rounds.unit);
                    rounds.systems[index].1.push(figure.value);
                    rounds.notes.extend(figure.note.map(|note| format!("{name}, round {number}: {note}")));
                    if let (1, Some(about)) = (number, &turn.about) {
                        rounds.notes.push(format!("{name}: {about}"));
                    }
                }
                eprintln!("{line}");
            }
        }
        Ok(rounds)
    }
}
