//! Medians, ratios, the table and the JSON file.

use super::systems::FRAMEWIRE;
use serde::Serialize;
use std::{collections::BTreeMap, fmt::Write};

/// Whether more or less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One row of `report.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) suite: String,
    pub(crate) scenario: String,
    pub(crate) unit: String,
    pub(crate) better: Better,
    pub(crate) systems: BTreeMap<String, Summary>,
    /// Framewire against each other system; above 1 it is ahead.
    pub(crate) ratio: BTreeMap<String, f64>,
}

/// What became of one system's rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) n: usize,
}

impl Summary {
    /// `None` without values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_owned();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let n = sorted.len();
        let median = f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2]);
        Some(Self { median, min, max, n })
    }
}

/// All rounds of one scenario: the value of round `i` of each system at index `i`.
#[derive(Clone, Debug)]
pub(crate) struct Rounds {
    pub(crate) suite: String,
    pub(crate) scenario: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// In the order in which they ran.
    pub(crate) systems: Vec<(String, Vec<f64>)>,
    /// What else is to be said, by line.
    pub(crate) notes: Vec<String>,
}

impl Rounds {
    /// `of` against `base`, round by round: above 1 `of` is ahead.
    fn ratio(&self, of: &str, base: &str) -> Option<Summary> {
        let values = |name: &str| self.systems.iter().find(|(system, _)| system == name).map(|(_, values)| values);
        let pairs = values(of)?.iter().zip(values(base)?);
        let ratios: Vec<f64> = match self.better {
            Better::Higher => pairs.map(|(of, base)| of / base).collect(),
            Better::Lower => pairs.map(|(of, base)| base / of).collect(),
        };
        Summary::of(&ratios)
    }

    pub(crate) fn entry(&self) -> Entry {
        let summaries =
            self.systems.iter().filter_map(|(name, values)| Some((name.clone(), Summary::of(values)?))).collect();
        let others = self.systems.iter().map(|(name, _)| name).filter(|name| *name != FRAMEWIRE);
        let ratio = others.filter_map(|other| Some((other.clone(), self.ratio(FRAMEWIRE, other)?.median))).collect();
        Entry {
            suite: self.suite.clone(),
            scenario: self.scenario.clone(),
            unit: self.unit.into(),
            better: self.better,
            systems: summaries,
            ratio,
        }
    }

    /// The table of this scenario. Ratios are framewire's against each system, or, without it, the first system's.
    pub(crate) fn table(&self) -> String {
        let ours = if self.systems.iter().any(|(name, _)| name == FRAMEWIRE) {
            FRAMEWIRE
        } else {
            self.systems.first().map_or(FRAMEWIRE, |(name, _)| name)
        };
        let better = match self.better {
            Better::Higher => "more is better",
            Better::Lower => "less is better",
        };
        let mut text = format!("{}, {} ({}, {better})\n", self.suite, self.scenario, self.unit);
        let ratio_title = format!("{ours} ahead by [range]");
        let _ =
            writeln!(text, "  {:<18}{:>12}{:>12}{:>12}{:>4}   {ratio_title}", "system", "median", "min", "max", "n");
        for (name, values) in &self.systems {
            let Some(Summary { median, min, max, n }) = Summary::of(values) else { continue };
            let _ = write!(text, "  {name:<18}{:>12}{:>12}{:>12}{n:>4}", number(median), number(min), number(max));
            match self.ratio(ours, name).filter(|_| name != ours) {
                Some(Summary { median, min, max, .. }) => {
                    let _ = writeln!(text, "   {median:.3} [{min:.3}–{max:.3}]");
                }
                None => text.push('\n'),
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "  {note}");
        }
        text
    }
}

fn number(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(better: Better, ours: &[f64], other: &[f64]) -> Rounds {
        Rounds {
            suite: "s".into(),
            scenario: "64 B".into(),
            unit: "packets/s",
            better,
            systems: vec![("other".into(), other.to_vec()), (FRAMEWIRE.into(), ours.to_vec())],
            notes: Vec::new(),
        }
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(Summary::of(&[3.0, 1.0, 2.0]), Some(Summary { median: 2.0, min: 1.0, max: 3.0, n: 3 }));
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 3.0]), Some(Summary { median: 2.5, min: 1.0, max: 4.0, n: 4 }));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn above_one_is_ahead_either_way() {
        let faster = rounds(Better::Higher, &[20.0, 30.0, 40.0], &[10.0, 10.0, 10.0]).entry();
        assert_eq!(faster.ratio["other"], 3.0);
        let shorter = rounds(Better::Lower, &[10.0, 10.0, 20.0], &[20.0, 30.0, 20.0]).entry();
        assert_eq!(shorter.ratio["other"], 2.0);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // A machine that slows down from round to round changes both medians but not the ratio.
        let drift = rounds(Better::Higher, &[40.0, 20.0, 10.0], &[20.0, 10.0, 5.0]).entry();
        assert_eq!(drift.ratio["other"], 2.0);
    }

    #[test]
    fn the_file_has_the_agreed_form() {
        let entry = rounds(Better::Higher, &[2.0], &[1.0]).entry();
        let expected = serde_json::json!({
            "suite": "s", "scenario": "64 B", "unit": "packets/s", "better": "higher",
            "systems": {
                "framewire": {"median": 2.0, "min": 2.0, "max": 2.0, "n": 1},
                "other": {"median": 1.0, "min": 1.0, "max": 1.0, "n": 1}
            },
            "ratio": {"other": 2.0}
        });
        assert_eq!(serde_json::to_value(entry).unwrap(), expected);
    }

    #[test]
    fn the_table_names_the_range_of_the_ratio() {
        let table = rounds(Better::Higher, &[1500.0, 1000.0, 2000.0], &[1000.0; 3]).table();
        assert!(table.contains("1.500 [1.000–2.000]"), "{table}");
    }
}
