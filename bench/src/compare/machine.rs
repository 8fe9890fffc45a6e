//! What the figures were measured on.

use std::{fmt, fs};

/// Facts that explain a figure.
#[derive(Debug)]
pub(crate) struct Machine(Vec<(&'static str, String)>);

impl Machine {
    /// Adds what the run decides.
    pub(crate) fn with(mut self, name: &'static str, value: String) -> Self {
        self.0.push((name, value));
        self
    }

    pub(crate) fn facts(&self) -> &[(&'static str, String)] {
        &self.0
    }

    /// Asks `/proc` and `/sys`.
    pub(crate) fn read() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpu.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let guest =
            if field("flags").is_some_and(|flags| flags.contains("hypervisor")) { ", virtual machine" } else { "" };
        let kernel =
            [text("/proc/sys/kernel/osrelease"), text("/proc/sys/kernel/version")].map(Option::unwrap_or_default);
        Self(vec![
            ("cpu", format!("{}, {cores} cores{guest}", field("model name").unwrap_or_else(|| "unknown".into()))),
            ("kernel", kernel.join(" ")),
            (
                "governor",
                text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").unwrap_or_else(|| "none".into()),
            ),
            ("mitigations", mitigations()),
            ("huge pages", text("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_else(|| "none".into())),
            ("isolated", isolated()),
            ("load before", text("/proc/loadavg").unwrap_or_default()),
        ])
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            writeln!(f, "{name:<12} {value}")?;
        }
        Ok(())
    }
}

/// Cores that the scheduler leaves alone, and whether those here share their hardware.
fn isolated() -> String {
    let cores = text("/sys/devices/system/cpu/isolated").filter(|cores| !cores.is_empty());
    let threads = text("/sys/devices/system/cpu/smt/active").is_some_and(|active| active == "1");
    let sharing = if threads { "hyper-threads share cores" } else { "no hyper-threads" };
    format!("{}, {sharing}", cores.map_or("no cores".into(), |cores| format!("cores {cores}")))
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Those that cost something here: "Mitigation: …" of each vulnerability.
fn mitigations() -> String {
    let mut active: Vec<String> = fs::read_dir("/sys/devices/system/cpu/vulnerabilities")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let state = fs::read_to_string(entry.path()).ok()?;
            let how = state.trim().strip_prefix("Mitigation: ")?;
            Some(format!("{} ({how})", entry.file_name().to_string_lossy()))
        })
        .collect();
    active.sort();
    if active.is_empty() { "none".into() } else { active.join(", ") }
}
