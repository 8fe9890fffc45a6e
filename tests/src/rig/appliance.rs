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

use super::{ENGINE_INTERFACE, ENGINE_V4, NetNs, PREFIX_V4, Process, Report, TempDir, netns::run};

/// Set to the path of a `framewire` program, that one is tested and nothing is built. `scripts/test` sets it.
const BINARY: &str = "FRAMEWIRE_BIN";
/// The line that `framewire serve` prints once its ports are bound and its XDP program is attached.
const READY: &str = "ready";
const START_TIMEOUT: Duration = Duration::from_secs(15);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// An echo service on UDP port 7 of all of the engine's addresses, to go into a [`configuration`].
pub const ECHO: &str = "[[service]]\nkind = \"udp-echo\"\nlisten = \"0.0.0.0:7\"\n";

/// A configuration for the engine's end of the pair, with its address: `interface` is further lines of `[[interface]]`, `rest` all other
/// tables, the services at least.
#[must_use]
pub fn configuration(interface: &str, rest: &str) -> String {
    let addresses = format!("addresses = [\"{ENGINE_V4}/{PREFIX_V4}\"]\n");
    let addresses = if interface.contains("addresses =") || rest.contains("\"reflect\"") { "" } else { &addresses };
    format!("[[interface]]\nname = \"{ENGINE_INTERFACE}\"\n{addresses}{interface}\n{rest}")
}

/// `framewire serve` running in a namespace; killed when dropped.
#[derive(Debug)]
pub struct Appliance {
    process: Process,
    folder: TempDir,
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
        let appliance = Self::spawn(ns, config, args, None)?;
        appliance.process.wait_for(READY, START_TIMEOUT)?;
        Ok(appliance)
    }

    /// Runs one that must refuse: returns its exit status and what it printed.
    ///
    /// # Errors
    /// It cannot be started, or still runs after 15 s.
    pub fn refused(ns: &NetNs, config: &str, args: &[&str]) -> Result<(ExitStatus, String)> {
        Self::spawn(ns, config, args, None)?.end()
    }

    /// As [`Self::refused`], without these capabilities, named as `setpriv` names them (`net_raw`).
    ///
    /// # Errors
    /// As [`Self::refused`].
    pub fn refused_without(ns: &NetNs, config: &str, capabilities: &[&str]) -> Result<(ExitStatus, String)> {
        let without: Vec<String> = capabilities.iter().map(|capability| format!("-{capability}")).collect();
        Self::spawn(ns, config, &[], Some(&format!("--bounding-set={}", without.join(","))))?.end()
    }

    fn spawn(ns: &NetNs, config: &str, args: &[&str], bounding_set: Option<&str>) -> Result<Self> {
        let folder = TempDir::create().context("cannot make a folder for the configuration")?;
        let file = folder.path().join("framewire.toml");
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let binary = framewire_binary()?;
        let mut command = match bounding_set {
            None => ns.command(binary),
            Some(set) => {
                let mut command = ns.command("setpriv");
                command.args([set, "--"]).arg(binary);
                command
            }
        };
        command.args(["serve", "-c"]).arg(&file).arg("--stats-json").arg(stats_file(&folder)).args(args);
        Ok(Self { process: Process::spawn(command)?, folder })
    }

    fn end(mut self) -> Result<(ExitStatus, String)> {
        let status = self.process.wait(START_TIMEOUT)?;
        Ok((status, self.process.output()))
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
        self.process.signal(libc::SIGTERM);
        self.wait()
    }

    /// Waits for it to end by itself, then as [`Self::stop`].
    ///
    /// # Errors
    /// As [`Self::stop`].
    pub fn wait(mut self) -> Result<Report> {
        let status = self.process.wait(STOP_TIMEOUT)?;
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
