//! `counts`: instructions a packet by callgrind, held against those that are kept in a file. No clock, so a regression shows on any machine.

use crate::mem::{Collect, instructions_each, stages};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// Of the compiler that built this program.
const COMPILER: &str = env!("FRAMEWIRE_BENCH_RUSTC");
/// Another compiler's counts are another matter; so much more is a regression all the same.
const OTHER_COMPILER_PERCENT: f64 = 25.0;

/// Options of `counts`.
#[derive(Args, Debug)]
pub(crate) struct CountsArgs {
    /// Where they are kept
    #[arg(long, default_value = "bench/counts.toml")]
    file: PathBuf,
    /// Keep what is counted now
    #[arg(long)]
    write: bool,
    /// How much more than is kept is too much, in percent
    #[arg(long, default_value_t = 5.0)]
    tolerance: f64,
}

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    compiler: String,
    /// By what is counted, for each packet, segment or acknowledgement.
    instructions: BTreeMap<String, f64>,
}

/// Counts, and compares or keeps.
pub(crate) fn run(args: &CountsArgs) -> Result<()> {
    // Read first: what is missing is told before the minute is spent.
    let kept = if args.write { None } else { Some(read(&args.file)?) };
    let mut counted = BTreeMap::new();
    for (name, collect, arguments) in cases() {
        let count = instructions_each(collect, &arguments).with_context(|| name.clone())?;
        println!("{name:<28} {count:>10.1}");
        counted.insert(name, count);
    }
    let Some(kept) = kept else {
        return fs::write(&args.file, text(&counted)).with_context(|| format!("writing {}", args.file.display()));
    };
    let tolerance = if kept.compiler == COMPILER {
        args.tolerance
    } else {
        println!("kept by {}, counted by {COMPILER}: {OTHER_COMPILER_PERCENT} % more is allowed", kept.compiler);
        OTHER_COMPILER_PERCENT
    };
    let Verdict { wrong, fewer } = compare(&kept.instructions, &counted, tolerance);
    fewer.iter().for_each(|line| println!("{line}"));
    ensure!(wrong.is_empty(), "{}\nif that is meant: framewire-bench counts --write", wrong.join("\n"));
    println!("no more instructions than are kept ({tolerance} % allowed)");
    Ok(())
}

/// What is counted: name, function, arguments of this program.
fn cases() -> Vec<(String, Collect, Vec<String>)> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let mut cases = Vec::new();
    for (name, _) in stages::ALL {
        cases.push((format!("stage {name}"), Collect::Stage, words(&["stage", "--name", name, "--packets"])));
    }
    for (work, bytes) in [("receive", "64"), ("send", "64"), ("echo", "64"), ("echo", "1472")] {
        let arguments = ["mem", "--system", "framewire", "--work", work, "--payload-bytes", bytes, "--packets"];
        cases.push((format!("udp {work} {bytes} B"), Collect::Batch, words(&arguments)));
    }
    for (name, work) in stages::TCP {
        let collect = if *name == "tcp-ack" { Collect::Acks } else { Collect::Batch };
        let arguments = ["mem-tcp", "--system", "framewire", "--work", work.name(), "--segments"];
        cases.push((name.replace('-', " "), collect, words(&arguments)));
    }
    cases
}

fn read(file: &Path) -> Result<Kept> {
    let text = fs::read_to_string(file).with_context(|| format!("{} (counts --write makes it)", file.display()))?;
    toml::from_str(&text).with_context(|| file.display().to_string())
}

fn text(counted: &BTreeMap<String, f64>) -> String {
    let mut text = format!(
        "# Instructions for each packet, segment or acknowledgement, counted by callgrind on the release build.\n\
         # scripts/bench counts holds a build against them; scripts/bench counts --write keeps new ones.\n\
         compiler = \"{COMPILER}\"\n\n[instructions]\n"
    );
    for (name, count) in counted {
        let _ = writeln!(text, "\"{name}\" = {count:.1}");
    }
    text
}

#[derive(Debug, Default, PartialEq)]
struct Verdict {
    wrong: Vec<String>,
    /// Worth keeping: `counts --write`.
    fewer: Vec<String>,
}

fn compare(kept: &BTreeMap<String, f64>, counted: &BTreeMap<String, f64>, tolerance_percent: f64) -> Verdict {
    let mut verdict = Verdict::default();
    for (name, &count) in counted {
        let Some(&before) = kept.get(name) else {
            verdict.wrong.push(format!("{name}: {count:.1} instructions, and none kept"));
            continue;
        };
        let percent = (count / before - 1.0) * 100.0;
        let line = format!("{name}: {count:.1} instructions, {before:.1} kept ({percent:+.1} %)");
        // Half an instruction is what rounding in the file can be.
        if percent > tolerance_percent && count - before > 0.5 {
            verdict.wrong.push(line);
        } else if percent < -tolerance_percent {
            verdict.fewer.push(line);
        }
    }
    let gone = kept.keys().filter(|name| !counted.contains_key(*name));
    verdict.wrong.extend(gone.map(|name| format!("{name}: kept, and counted no more")));
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, f64)]) -> BTreeMap<String, f64> {
        counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn more_is_wrong_and_fewer_is_told() {
        let kept = counts(&[("a", 100.0), ("b", 100.0), ("c", 100.0), ("small", 1.0)]);
        let Verdict { wrong, fewer } =
            compare(&kept, &counts(&[("a", 106.0), ("b", 104.0), ("c", 90.0), ("small", 1.4)]), 5.0);
        assert_eq!(wrong, ["a: 106.0 instructions, 100.0 kept (+6.0 %)"]);
        assert_eq!(fewer, ["c: 90.0 instructions, 100.0 kept (-10.0 %)"]);
    }

    #[test]
    fn what_is_new_or_gone_is_wrong() {
        let Verdict { wrong, .. } = compare(&counts(&[("old", 1.0)]), &counts(&[("new", 1.0)]), 5.0);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }

    #[test]
    fn what_is_written_can_be_read() {
        let counted = counts(&[("stage reap", 12.34), ("udp echo 64 B", 500.0)]);
        let kept: Kept = toml::from_str(&text(&counted)).unwrap();
        assert_eq!(kept.compiler, COMPILER);
        assert_eq!(kept.instructions, counts(&[("stage reap", 12.3), ("udp echo 64 B", 500.0)]));
    }

    #[test]
    fn the_file_holds_what_is_counted() {
        let kept = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("counts.toml")).unwrap();
        let names: Vec<String> = kept.instructions.into_keys().collect();
        let mut counted: Vec<String> = cases().into_iter().map(|(name, ..)| name).collect();
        counted.sort();
        assert_eq!(names, counted);
    }
}
