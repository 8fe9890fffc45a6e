//! What was measured: the table and the JSON file.

use super::{
    stats::{Interval, Summary},
    systems::FRAMEWIRE,
};
use framewire::load::Percentiles;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Write};

/// Whether more or less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

impl Better {
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Higher => "more is better",
            Self::Lower => "less is better",
        }
    }
}

/// One row of `report.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) suite: String,
    pub(crate) scenario: String,
    pub(crate) unit: String,
    pub(crate) better: Better,
    pub(crate) systems: BTreeMap<String, Summary>,
    /// Framewire against each other system; above 1 it is ahead.
    pub(crate) ratio: BTreeMap<String, f64>,
    pub(crate) ratio_interval: BTreeMap<String, Interval>,
    /// By system and percentile ("p50"), in microseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) latency_us: BTreeMap<String, BTreeMap<String, f64>>,
}

/// Where a scenario stands among others that differ from it in one number: a plot over that number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    /// What all scenarios of a plot have in common.
    pub(crate) plot: String,
    /// Name and unit of the number.
    pub(crate) name: &'static str,
    pub(crate) value: f64,
}

/// One system's rounds in one scenario.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) system: String,
    /// Of round `i` at index `i`.
    pub(crate) values: Vec<f64>,
    /// Of each round in which latencies were measured along with the value.
    pub(crate) percentiles: Vec<Percentiles>,
    /// What it said of itself: modes bound and the like.
    pub(crate) about: Option<String>,
}

impl Measured {
    pub(crate) fn new(system: &str, values: Vec<f64>) -> Self {
        Self { system: system.into(), values, ..Self::default() }
    }

    /// The median over the rounds of each percentile that every round has.
    pub(crate) fn percentiles(&self) -> Percentiles {
        let Some(first) = self.percentiles.first() else { return Percentiles::default() };
        let median = |&(quantile, _): &(f64, f64)| {
            let of_round =
                |round: &Percentiles| round.0.iter().find(|(other, _)| *other == quantile).map(|(_, us)| *us);
            let all: Option<Vec<f64>> = self.percentiles.iter().map(of_round).collect();
            Some((quantile, Summary::of(&all?)?.median))
        };
        Percentiles(first.0.iter().filter_map(median).collect())
    }
}

/// All rounds of one scenario.
#[derive(Clone, Debug)]
pub(crate) struct Rounds {
    pub(crate) suite: String,
    pub(crate) scenario: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) axis: Option<Axis>,
    /// In the order in which they ran.
    pub(crate) systems: Vec<Measured>,
    /// What else is to be said, by line.
    pub(crate) notes: Vec<String>,
}

impl Rounds {
    /// `of` against `base`, round by round: above 1 `of` is ahead.
    fn ratios(&self, of: &str, base: &str) -> Option<Vec<f64>> {
        let values = |name: &str| self.systems.iter().find(|measured| measured.system == name).map(|m| &m.values);
        let pairs = values(of)?.iter().zip(values(base)?);
        Some(match self.better {
            Better::Higher => pairs.map(|(of, base)| of / base).collect(),
            Better::Lower => pairs.map(|(of, base)| base / of).collect(),
        })
    }

    /// Median of the ratios, and its interval. `None` where a round has none, as one of the two did nothing in it.
    pub(crate) fn ratio(&self, of: &str, base: &str) -> Option<(f64, Interval)> {
        let ratios = self.ratios(of, base)?;
        if !ratios.iter().all(|ratio| ratio.is_finite()) {
            return None;
        }
        Some((Summary::of(&ratios)?.median, Interval::of_median(&ratios)?))
    }

    pub(crate) fn entry(&self) -> Entry {
        let others = self.systems.iter().filter(|measured| measured.system != FRAMEWIRE);
        let ratios: Vec<_> =
            others.filter_map(|other| Some((other.system.clone(), self.ratio(FRAMEWIRE, &other.system)?))).collect();
        let systems = self.systems.iter();
        let named = |percentiles: Percentiles| percentiles.0.iter().map(|&(q, us)| (percentile_name(q), us)).collect();
        Entry {
            suite: self.suite.clone(),
            scenario: self.scenario.clone(),
            unit: self.unit.into(),
            better: self.better,
            systems: systems.clone().filter_map(|m| Some((m.system.clone(), Summary::of(&m.values)?))).collect(),
            ratio: ratios.iter().map(|(other, (median, _))| (other.clone(), *median)).collect(),
            ratio_interval: ratios.into_iter().map(|(other, (_, interval))| (other, interval)).collect(),
            latency_us: systems
                .filter(|measured| !measured.percentiles.is_empty())
                .map(|measured| (measured.system.clone(), named(measured.percentiles())))
                .collect(),
        }
    }

    /// Whose ratios are told: framewire's, or, without it, the first system's.
    pub(crate) fn subject(&self) -> &str {
        let first = self.systems.first().map_or(FRAMEWIRE, |measured| &measured.system);
        if self.systems.iter().any(|measured| measured.system == FRAMEWIRE) { FRAMEWIRE } else { first }
    }

    /// The table of this scenario.
    pub(crate) fn table(&self) -> String {
        let ours = self.subject();
        let mut text = format!("{}, {} ({}, {})\n", self.suite, self.scenario, self.unit, self.better.sentence());
        let ratio_title = format!("{ours} ahead by [interval]");
        let _ =
            writeln!(text, "  {:<18}{:>12}{:>12}{:>12}{:>4}   {ratio_title}", "system", "median", "min", "max", "n");
        for Measured { system, values, .. } in &self.systems {
            let Some(Summary { median, min, max, n }) = Summary::of(values) else { continue };
            let _ = write!(text, "  {system:<18}{:>12}{:>12}{:>12}{n:>4}", number(median), number(min), number(max));
            match self.ratio(ours, system).filter(|_| system != ours) {
                Some((median, Interval { low, high, .. })) => {
                    let _ = writeln!(text, "   {median:.3} [{low:.3}–{high:.3}]");
                }
                None => text.push('\n'),
            }
        }
        for Measured { system, about, .. } in &self.systems {
            if let Some(about) = about {
                let _ = writeln!(text, "  {system}: {about}");
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "  {note}");
        }
        text
    }
}

pub(crate) fn number(value: f64) -> String {
    match value {
        v if v >= 1000.0 => format!("{v:.0}"),
        v if v >= 1.0 || v == 0.0 => format!("{v:.1}"),
        v => format!("{v:.4}"),
    }
}

/// "p99.9" of 0.999.
pub(crate) fn percentile_name(quantile: f64) -> String {
    format!("p{}", (quantile * 1e6).round() / 1e4)
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
            axis: None,
            systems: vec![Measured::new("other", other.to_vec()), Measured::new(FRAMEWIRE, ours.to_vec())],
            notes: Vec::new(),
        }
    }

    #[test]
    fn above_one_is_ahead_either_way() {
        let faster = rounds(Better::Higher, &[20.0, 30.0, 40.0], &[10.0, 10.0, 10.0]).entry();
        assert_eq!(faster.ratio["other"], 3.0);
        let shorter = rounds(Better::Lower, &[10.0, 10.0, 20.0], &[20.0, 30.0, 20.0]).entry();
        assert_eq!(shorter.ratio["other"], 2.0);
    }

    /// JSON has no infinite numbers: the file could not be read again.
    #[test]
    fn a_round_in_which_nothing_was_done_has_no_ratio() {
        let silent = rounds(Better::Higher, &[20.0, 30.0, 40.0], &[10.0, 0.0, 10.0]).entry();
        assert!(silent.ratio.is_empty() && silent.ratio_interval.is_empty(), "{silent:?}");
        let both = rounds(Better::Higher, &[0.0], &[0.0]).entry();
        assert!(both.ratio.is_empty(), "{both:?}");
        let text = serde_json::to_string(&silent).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap().systems["other"].min, 0.0);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // A machine that slows down from round to round changes both medians but not the ratio.
        let drift = rounds(Better::Higher, &[40.0, 20.0, 10.0], &[20.0, 10.0, 5.0]).entry();
        assert_eq!(drift.ratio["other"], 2.0);
        assert_eq!(drift.ratio_interval["other"], Interval { low: 2.0, high: 2.0, coverage: 0.75 });
    }

    #[test]
    fn the_file_has_the_agreed_form() {
        let mut rounds = rounds(Better::Higher, &[2.0], &[1.0]);
        rounds.systems[1].percentiles = vec![Percentiles(vec![(0.5, 10.0), (0.9995, 20.0)])];
        let expected = serde_json::json!({
            "suite": "s", "scenario": "64 B", "unit": "packets/s", "better": "higher",
            "systems": {
                "framewire": {"median": 2.0, "min": 2.0, "max": 2.0, "n": 1},
                "other": {"median": 1.0, "min": 1.0, "max": 1.0, "n": 1}
            },
            "ratio": {"other": 2.0},
            "ratio_interval": {"other": {"low": 2.0, "high": 2.0, "coverage": 0.0}},
            "latency_us": {"framewire": {"p50": 10.0, "p99.95": 20.0}}
        });
        assert_eq!(serde_json::to_value(rounds.entry()).unwrap(), expected);
    }

    #[test]
    fn percentiles_are_those_that_every_round_has() {
        let round = |extra: &[(f64, f64)], us| Percentiles([&[(0.5, us)], extra].concat());
        let measured = Measured {
            percentiles: vec![round(&[], 1.0), round(&[(0.9999, 9.0)], 3.0), round(&[], 2.0)],
            ..Measured::new("x", vec![1.0; 3])
        };
        assert_eq!(measured.percentiles(), Percentiles(vec![(0.5, 2.0)]));
        assert_eq!([0.5, 0.9, 0.999, 0.9999].map(percentile_name), ["p50", "p90", "p99.9", "p99.99"]);
    }

    #[test]
    fn the_table_names_the_interval_of_the_ratio() {
        let table = rounds(Better::Higher, &[1500.0, 1000.0, 2000.0], &[1000.0; 3]).table();
        assert!(table.contains("1.500 [1.000–2.000]"), "{table}");
    }
}
