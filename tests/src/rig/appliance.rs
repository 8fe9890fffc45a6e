//! The `framewire` program under test.

use std::{
    env, fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::{NetNs, Process, TempDir, netns::run};

/// Set to the path of a `framewire` program, that one is tested and nothing is built. `scripts/test` sets it.
const BINARY: &str = "FRAMEWIRE_BIN";
/// Part of the line that `framewire serve` prints once its ports are bound and its XDP program is attached.
const READY: &str = "ready";
const START_TIMEOUT: Duration = Duration::from_secs(15);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// `framewire serve` running in a namespace; killed when dropped.
#[derive(Debug)]
pub struct Appliance {
    process: Process,
    folder: TempDir,
}

/// How an appliance ended.
#[derive(Debug)]
pub struct Report {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote with `--stats-json`.
    pub stats: Value,
    /// Everything it printed.
    pub output: String,
}

impl Report {
    /// The sum of all numbers under this key, at any depth: counters are per worker.
    ///
    /// # Errors
    /// No such key: a misspelt counter is never 0.
    pub fn counter(&self, name: &str) -> Result<u64> {
        sum(&self.stats, name).with_context(|| format!("no counter {name} in {:#}", self.stats))
    }
}

fn sum(value: &Value, name: &str) -> Option<u64> {
    let below: Vec<_> = match value {
        Value::Object(map) => {
            let here = map.get(name).and_then(Value::as_u64);
            here.into_iter().chain(map.values().filter_map(|v| sum(v, name))).collect()
        }
        Value::Array(list) => list.iter().filter_map(|v| sum(v, name)).collect(),
        _ => return None,
    };
    (!below.is_empty()).then(|| below.iter().sum())
}

impl Appliance {
    /// Runs `framewire serve` in `ns` with this configuration (TOML) and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be built or started, or ends or says nothing within 15 s; the error holds what it printed.
    pub fn start(ns: &NetNs, config: &str) -> Result<Self> {
        Self::start_with(ns, config, &[])
    }

    /// As [`Self::start`], with more arguments.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(ns: &NetNs, config: &str, args: &[&str]) -> Result<Self> {
        let appliance = Self::spawn(ns, config, args)?;
        appliance.process.wait_for(READY, START_TIMEOUT)?;
        Ok(appliance)
    }

    /// Runs one that must refuse: returns its exit status and what it printed.
    ///
    /// # Errors
    /// It cannot be started, or still runs after 15 s.
    pub fn refused(ns: &NetNs, config: &str, args: &[&str]) -> Result<(ExitStatus, String)> {
        let mut appliance = Self::spawn(ns, config, args)?;
        let status = appliance.process.wait(START_TIMEOUT)?;
        Ok((status, appliance.process.output()))
    }

    fn spawn(ns: &NetNs, config: &str, args: &[&str]) -> Result<Self> {
        let folder = TempDir::create().context("cannot make a folder for the configuration")?;
        let file = folder.path().join("framewire.toml");
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = ns.command(framewire_binary()?);
        command.args(["serve", "-c"]).arg(&file).arg("--stats-json").arg(stats_file(&folder)).args(args);
        Ok(Self { process: Process::spawn(command)?, folder })
    }

    /// The running program.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// SIGTERM; then its exit status, its counters and its output.
    ///
    /// # Errors
    /// It does not end within 10 s, or leaves no counters.
    pub fn stop(mut self) -> Result<Report> {
        let status = self.process.stop(STOP_TIMEOUT)?;
        let output = self.process.output();
        ensure!(status.signal().is_none(), "the appliance died of {status}; it wrote:\n{output}");
        let file = stats_file(&self.folder);
        let text =
            fs::read_to_string(&file).with_context(|| format!("{status}, and no counters; it wrote:\n{output}"))?;
        let stats = serde_json::from_str(&text).with_context(|| format!("counters that are not JSON: {text}"))?;
        Ok(Report { status, stats, output })
    }

    /// SIGKILL: no clean-up of any kind.
    ///
    /// # Errors
    /// It had ended before.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()
    }
}

fn stats_file(folder: &TempDir) -> PathBuf {
    folder.path().join("stats.json")
}

/// The `framewire` program of this build: the one `FRAMEWIRE_BIN` names, or the one beside the running test, which cargo first brings
/// up to date (once a process; cargo's own lock orders several).
///
/// # Errors
/// It does not build, or there is no cargo.
pub fn framewire_binary() -> Result<&'static Path> {
    static PATH: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PATH.get_or_init(|| find_or_build().map_err(|e| format!("{e:#}"))) {
        Ok(path) => Ok(path),
        Err(reason) => Err(anyhow!("{reason}")),
    }
}

fn find_or_build() -> Result<PathBuf> {
    if let Some(path) = env::var_os(BINARY).map(PathBuf::from) {
        ensure!(path.is_file(), "{BINARY}={} is not a file", path.display());
        return Ok(path);
    }
    // <target>/<profile>/deps/<test>, or <target>/<profile>/<program>
    let own = env::current_exe().context("where is this program?")?;
    let mut folder = own.parent().context("a program has a folder")?;
    if folder.ends_with("deps") || folder.ends_with("examples") {
        folder = folder.parent().context("deps has a parent")?;
    }
    let (Some(target), Some(profile)) = (folder.parent(), folder.file_name().and_then(|name| name.to_str())) else {
        bail!("{} is not in a cargo target folder; set {BINARY}", own.display());
    };
    let profile = if profile == "debug" { "dev" } else { profile };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--quiet",
            "--package",
            "framewire",
            "--bin",
            "framewire",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target))
    .with_context(|| format!("building the appliance; or set {BINARY}"))?;
    Ok(folder.join("framewire"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_workers() {
        let stats =
            serde_json::json!({ "workers": [{ "rx": { "packets": 3 } }, { "rx": { "packets": 4 } }], "name": "x" });
        assert_eq!(sum(&stats, "packets"), Some(7));
        assert_eq!(sum(&stats, "paquets"), None);
        assert_eq!(sum(&stats, "name"), None);
    }
}
