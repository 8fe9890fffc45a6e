//! The program `framewire`: its command line, and what it prints.
//!
//! What it says about itself (banner, summaries, counters) goes to stdout, messages of the log and errors to stderr. A reader that goes away is
//! no reason to stop.
#![forbid(unsafe_code)]

#[cfg(feature = "af-xdp")]
mod engine;
#[cfg(any(feature = "af-xdp", test))]
mod figures;
#[cfg(feature = "af-xdp")]
mod link;
#[cfg(any(feature = "af-xdp", test))]
mod number;
#[cfg(any(feature = "af-xdp", test))]
mod report;
#[cfg(feature = "af-xdp")]
mod serve;
#[cfg(any(feature = "af-xdp", test))]
mod summary;

use crate::{
    config::{Config, Level},
    load,
};
use clap::{ArgAction, Args, Parser, Subcommand};
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};
use tracing_subscriber::filter::LevelFilter;

/// A poll-mode, zero-copy TCP/IP engine over AF_XDP.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the services of a configuration file until SIGINT or SIGTERM; SIGUSR1 prints the counters meanwhile.
    Serve(Serve),
    /// Load a host, any host, over the kernel's sockets or the engine's, and measure what it answers.
    Gen(load::GenArgs),
}

/// Arguments of `framewire serve`.
#[derive(Debug, Args)]
struct Serve {
    /// The configuration file (TOML; see the samples in `configs/`).
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Only check the configuration. Needs no privileges and touches no interface.
    #[arg(long)]
    check: bool,
    /// Say more: a summary every 10 s, counters that are zero, debug messages; twice: trace messages.
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// Write all counters to this file when stopping.
    #[arg(long, value_name = "FILE")]
    stats_json: Option<PathBuf>,
}

/// Runs the program on the process's arguments. The exit code is 0 after a clean stop, 1 if anything went wrong, 2 for a wrong command line.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Serve(arguments) => serve(&arguments),
        Command::Gen(arguments) => generate(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            // Of a stderr that is gone nobody can be told.
            let _ = writeln!(io::stderr(), "framewire: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Loads a host and says what came of it.
fn generate(arguments: &load::GenArgs) -> Result<bool, String> {
    let report = load::run(arguments).map_err(|error| error.to_string())?;
    if arguments.json() {
        say(serde_json::to_string(&report).map_err(|error| error.to_string())?);
    } else {
        say(report);
    }
    Ok(true)
}

/// Whether all went well to the end.
fn serve(arguments: &Serve) -> Result<bool, String> {
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        // One problem a line, each beginning with file and line, so that editors find them.
        Err(error) => return Err(format!("wrong configuration\n{error}")),
    };
    start_log(config.log().level, arguments.verbose);
    if arguments.check {
        let (interface, services) = (config.interface(), config.services().len());
        say(format_args!(
            "{}: valid: interface {}, {} worker(s), {services} service(s)",
            arguments.config.display(),
            interface.name,
            interface.queues
        ));
        return Ok(true);
    }
    #[cfg(feature = "af-xdp")]
    return serve::run(&config, arguments);
    #[cfg(not(feature = "af-xdp"))]
    Err("this build has no AF_XDP support (it was made without the feature `af-xdp`): only `serve --check` works"
        .into())
}

fn start_log(level: Level, verbose: u8) {
    let configured = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let asked = match verbose {
        0 => LevelFilter::OFF,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // It fails only if this process has a log already, which then stays.
    let _ = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(configured.max(asked)).try_init();
}

/// Prints a line to stdout.
fn say(line: impl std::fmt::Display) {
    let mut stdout = io::stdout().lock();
    // A reader that went away must not stop the engine.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line() {
        Arguments::command().debug_assert();
        let words = ["framewire", "serve", "-vv", "-c", "x.toml", "--check"];
        let Command::Serve(serve) = Arguments::parse_from(words).command else { panic!("not serve") };
        assert!(serve.check && serve.stats_json.is_none());
        assert_eq!((serve.verbose, serve.config), (2, PathBuf::from("x.toml")));
        assert!(Arguments::try_parse_from(["framewire", "serve"]).is_err(), "a file is needed");
        assert!(Arguments::try_parse_from(["framewire", "gen", "tcp-rr"]).is_err(), "a target is needed");
        let words = ["framewire", "gen", "udp-rr", "-t", "192.0.2.1:7", "--rate", "1e4", "--json"];
        let Command::Gen(load) = Arguments::parse_from(words).command else { panic!("not gen") };
        assert!(load.json());
    }

    #[test]
    fn a_wrong_configuration_is_told_by_file_and_line() {
        let serve = Serve { config: "/nonexistent".into(), check: true, verbose: 0, stats_json: None };
        assert!(super::serve(&serve).unwrap_err().contains("/nonexistent: cannot read it"));
    }
}
