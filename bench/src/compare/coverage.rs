//! `coverage`: whether a report has every system in every scenario that is kept in a file. How fast any was does not matter.

use super::{
    report::{Better, Entry},
    systems::FRAMEWIRE,
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// Options of `coverage`.
#[derive(Args, Debug)]
pub(crate) struct CoverageArgs {
    /// What `run --quick` wrote
    #[arg(long, default_value = "target/bench/report.json")]
    report: PathBuf,
    /// Where the systems of each scenario are kept
    #[arg(long, default_value = "bench/coverage.toml")]
    file: PathBuf,
    /// Systems that were left out
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Keep what the report has
    #[arg(long)]
    write: bool,
}

/// Systems by suite, and by scenario with its unit.
type Table = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Compares, or keeps.
pub(crate) fn run(args: &CoverageArgs) -> Result<()> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    let entries: Vec<Entry> =
        serde_json::from_str(&read(&args.report)?).with_context(|| args.report.display().to_string())?;
    if args.write {
        let text = text(&table(&entries));
        return fs::write(&args.file, text).with_context(|| format!("writing {}", args.file.display()));
    }
    let mut kept: Table = toml::from_str(&read(&args.file)?).with_context(|| args.file.display().to_string())?;
    let systems = kept.values_mut().flat_map(BTreeMap::values_mut);
    systems.for_each(|systems| systems.retain(|system| !args.without.contains(system)));
    let wrong: Vec<String> = compare(&kept, &table(&entries)).into_iter().chain(unsound(&entries)).collect();
    ensure!(wrong.is_empty(), "{}\nif that is meant: framewire-bench coverage --write", wrong.join("\n"));
    let figures = kept.values().flat_map(BTreeMap::values).map(BTreeSet::len).sum::<usize>();
    println!("all {figures} figures of {} suites are there", kept.len());
    Ok(())
}

fn table(entries: &[Entry]) -> Table {
    let mut table = Table::new();
    for Entry { suite, scenario, unit, systems, .. } in entries {
        let scenarios = table.entry(suite.clone()).or_default();
        scenarios.entry(format!("{scenario} ({unit})")).or_default().extend(systems.keys().cloned());
    }
    table
}

fn text(table: &Table) -> String {
    let mut text = String::from(
        "# Who is measured in which scenario of a quick run: scripts/test holds its run against this, and\n\
         # framewire-bench coverage --write keeps what a report has.\n",
    );
    for (suite, scenarios) in table {
        let _ = writeln!(text, "\n[{suite}]");
        for (scenario, systems) in scenarios {
            let systems: Vec<String> = systems.iter().map(|system| format!("\"{system}\"")).collect();
            let _ = writeln!(text, "\"{scenario}\" = [{}]", systems.join(", "));
        }
    }
    text
}

/// What only one of them has.
fn compare(kept: &Table, measured: &Table) -> Vec<String> {
    let flat = |table: &Table| -> BTreeSet<String> {
        let scenarios = table.iter().flat_map(|(suite, scenarios)| scenarios.iter().map(move |each| (suite, each)));
        let figure = |(suite, (scenario, systems)): (&String, (&String, &BTreeSet<String>))| {
            systems.iter().map(|system| format!("{suite}, {scenario}, {system}")).collect::<Vec<_>>()
        };
        scenarios.flat_map(figure).collect()
    };
    let (kept, measured) = (flat(kept), flat(measured));
    let missing = kept.difference(&measured).map(|figure| format!("missing: {figure}"));
    let more = measured.difference(&kept).map(|figure| format!("measured, and not kept: {figure}"));
    missing.chain(more).collect()
}

/// Figures that are none, and those of Framewire without a ratio to each of the others.
fn unsound(entries: &[Entry]) -> Vec<String> {
    let mut wrong = Vec::new();
    for Entry { suite, scenario, unit, better, systems, ratio, ratio_interval, latency_us } in entries {
        // Nothing at all may be the best that there is: bytes held.
        let is_figure = |value: f64| value.is_finite() && (value > 0.0 || (value == 0.0 && *better == Better::Lower));
        let mut tell = |system: &str, what: &str| wrong.push(format!("{suite}, {scenario} ({unit}), {system}: {what}"));
        for (system, summary) in systems {
            let sound = summary.n > 0 && [summary.min, summary.median, summary.max].iter().all(|&x| is_figure(x));
            if !(sound && summary.min <= summary.median && summary.median <= summary.max) {
                tell(system, &format!("{summary:?}"));
            }
            if system == FRAMEWIRE || !systems.contains_key(FRAMEWIRE) {
                continue;
            }
            match (ratio.get(system), ratio_interval.get(system)) {
                (Some(&ratio), Some(interval)) if (interval.low..=interval.high).contains(&ratio) => {}
                (ratio, interval) => tell(system, &format!("the ratio is {ratio:?}, its interval {interval:?}")),
            }
        }
        for (system, percentiles) in latency_us {
            if !systems.contains_key(system) || percentiles.values().any(|&us| !is_figure(us)) {
                tell(system, &format!("latencies {percentiles:?}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entries(value: serde_json::Value) -> Vec<Entry> {
        serde_json::from_value(value).unwrap()
    }

    fn one(median: f64, ratio: &serde_json::Value) -> Vec<Entry> {
        let summary = |median: f64| json!({"median": median, "min": 1.0, "max": 9.0, "n": 1});
        entries(json!([{
            "suite": "http", "scenario": "128 B", "unit": "requests/s", "better": "higher",
            "systems": {"framewire": summary(median), "nginx": summary(2.0)},
            "ratio": ratio, "ratio_interval": {"nginx": {"low": 1.0, "high": 2.0, "coverage": 0.9}}
        }]))
    }

    #[test]
    fn a_whole_report_passes_and_what_is_written_can_be_read() {
        let entries = one(3.0, &json!({"nginx": 1.5}));
        assert_eq!(unsound(&entries), Vec::<String>::new());
        let table = table(&entries);
        assert_eq!(toml::from_str::<Table>(&text(&table)).unwrap(), table);
        assert_eq!(compare(&table, &table), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_or_new_is_told() {
        let measured = table(&one(3.0, &json!({"nginx": 1.5})));
        let mut kept = measured.clone();
        let systems = kept.get_mut("http").unwrap().get_mut("128 B (requests/s)").unwrap();
        systems.remove("nginx");
        systems.insert("other".into());
        let told =
            ["missing: http, 128 B (requests/s), other", "measured, and not kept: http, 128 B (requests/s), nginx"];
        assert_eq!(compare(&kept, &measured), told);
        assert_eq!(compare(&kept, &Table::new()).len(), 2);
    }

    #[test]
    fn a_figure_or_a_ratio_that_is_none_is_told() {
        assert_eq!(unsound(&one(0.0, &json!({"nginx": 1.5}))).len(), 1);
        assert_eq!(unsound(&one(3.0, &json!({}))).len(), 1);
        assert_eq!(unsound(&one(3.0, &json!({"nginx": 2.5}))).len(), 1);
    }

    #[test]
    fn the_file_names_each_suite() {
        use clap::ValueEnum;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("coverage.toml");
        let kept: Table = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let mut suites: Vec<_> = super::super::Suite::value_variants().iter().map(|suite| suite.name()).collect();
        suites.sort_unstable();
        assert_eq!(kept.into_keys().collect::<Vec<_>>(), suites);
    }
}
