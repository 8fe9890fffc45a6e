//! `framewire serve`: from the start of the engine to its last figures.

use super::{
    Serve, engine,
    figures::{Figures, WorkerFigures},
    link::LinkWatch,
    report, say,
    summary::Summary,
};
use crate::{
    config::Config,
    runtime::{Engine, EngineReport, Worker},
    service::{self, Board},
};
use framewire_xdp::Verdict;
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    flag,
};
use std::{
    error::Error,
    fs::{self, OpenOptions},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How often signals, workers and the summary's time are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often it is looked whether packets come on queues that nobody listens at.
const QUEUES: Duration = Duration::from_secs(2);
/// How often the interface is looked at.
const LINK: Duration = Duration::from_millis(500);
/// How long a stop waits for what is queued to be sent.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between summaries with `-v`, if the configuration does not say.
const SUMMARY: Duration = Duration::from_secs(10);

/// Runs until told to stop; true if everything was clean and no frame is missing.
pub(super) fn run(config: &Config, arguments: &Serve) -> Result<bool, String> {
    if let Some(file) = &arguments.stats_json {
        check_writable(file)?;
    }
    let signals = Signals::install().map_err(|error| format!("cannot handle signals: {error}"))?;
    let interface = config.interface();
    let workers = interface.queues as usize;
    let board = Board::new(config.services(), workers);
    let programs = {
        let (services, board) = (config.services().to_vec(), board.clone());
        move |worker| engine::worker_program(service::program(&services, &board, worker, workers))
    };
    let started = Instant::now();
    let engine = Engine::start(engine::engine_config(config), programs).map_err(|error| chain(&error))?;
    let running = Running { config, board: &board, started, ports: engine.ports().to_vec() };
    running.banner(&engine);
    say("ready");
    let failure = running.watch(&engine, &signals, arguments.verbose).err();
    if let Some(failure) = &failure {
        tracing::error!("{failure}");
    }
    let figures = running.stopped(engine.stop(PATIENCE));
    say(report::text(&figures, arguments.verbose > 0));
    if let Some(file) = &arguments.stats_json {
        let text = format!("{:#}\n", figures.to_json());
        fs::write(file, text).map_err(|error| cannot_write(file, &error))?;
    }
    for (i, worker) in figures.workers.iter().enumerate() {
        if let Some(error) = &worker.error {
            tracing::error!("worker {i}: {error}");
        }
    }
    let clean = figures.is_clean() && failure.is_none();
    say(if clean { "stopped: all frames accounted for" } else { "stopped: NOT clean" });
    Ok(clean)
}

fn check_writable(file: &Path) -> Result<(), String> {
    let opened = OpenOptions::new().create(true).append(true).open(file);
    opened.map(drop).map_err(|error| cannot_write(file, &error))
}

fn cannot_write(file: &Path, error: &io::Error) -> String {
    format!("{}: cannot write the counters there: {error}", file.display())
}

/// An error with its causes, as far as it does not tell them itself.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

struct Signals {
    stop: Arc<AtomicBool>,
    print: Arc<AtomicBool>,
}

impl Signals {
    fn install() -> io::Result<Self> {
        let signals = Self { stop: Arc::default(), print: Arc::default() };
        for signal in [SIGINT, SIGTERM] {
            // Whoever asks a second time does not want to wait. The kernel then closes what is open and detaches the program. It must come first: it
            // looks at the flag that the next one sets.
            flag::register_conditional_shutdown(signal, 1, signals.stop.clone())?;
            flag::register(signal, signals.stop.clone())?;
        }
        flag::register(SIGUSR1, signals.print.clone())?;
        Ok(signals)
    }
}

struct Running<'a> {
    config: &'a Config,
    board: &'a Board,
    started: Instant,
    ports: Vec<crate::port::PortInfo>,
}

impl Running<'_> {
    fn banner(&self, engine: &Engine) {
        let interface = self.config.interface();
        say(format_args!("framewire {}", env!("CARGO_PKG_VERSION")));
        for (i, port) in self.ports.iter().enumerate() {
            let core = self.config.worker().cores.get(i).map_or("not pinned".into(), |core| format!("core {core}"));
            let memory = engine.remote(i).and_then(|remote| {
                let describe = |worker: &mut Worker| worker.pool().region().to_string();
                remote.call(describe).ok()
            });
            let memory = memory.map(|memory| format!("; {memory}")).unwrap_or_default();
            say(format_args!("  worker {i}: {port}; {core}{memory}"));
        }
        let mut addresses: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
        if let Some(vlan) = interface.vlan {
            addresses.push(format!("VLAN {vlan}"));
        }
        if let Some(gateway) = interface.gateway {
            addresses.push(format!("gateway {gateway}"));
        }
        if !addresses.is_empty() {
            say(format_args!("  addresses: {}", addresses.join(", ")));
        }
        for label in self.board.labels() {
            say(format_args!("  service: {label}"));
        }
        if let Some(file) = self.config.capture() {
            say(format_args!("  capture: {}", file.display()));
        }
        if self.config.faults().is_some() {
            say("  FAULTS ON PURPOSE: packets are broken as [faults] says");
        }
    }

    /// Until a signal, or until a worker ends by itself or the interface goes away: then says so.
    fn watch(&self, engine: &Engine, signals: &Signals, verbose: u8) -> Result<(), String> {
        let every = self.config.log().summary.unwrap_or(if verbose > 0 { SUMMARY } else { Duration::ZERO });
        let mut summary = Summary::default();
        let mut due = Instant::now() + every;
        let mut queues_due = Some(Instant::now() + QUEUES);
        let mtu = self.ports.first().map_or(0, |port| port.mtu);
        let mut link = LinkWatch::new(&self.config.interface().name, mtu).map_err(|error| error.to_string())?;
        let mut link_due = Instant::now();
        while !signals.stop.load(Ordering::Relaxed) {
            if Instant::now() >= link_due {
                link_due = Instant::now() + LINK;
                link.look()?;
            }
            if let Some(worker) = engine.failed_worker() {
                // It may be that its interface went away under it.
                return link.look().and(Err(format!("worker {worker} stopped by itself")));
            }
            if signals.print.swap(false, Ordering::Relaxed) {
                say(report::text(&self.now(engine), verbose > 0));
            }
            if !every.is_zero() && Instant::now() >= due {
                due = Instant::now() + every;
                say(summary.line(&self.now(engine)));
            }
            if let Some(due) = queues_due.filter(|due| Instant::now() >= *due) {
                queues_due = (!self.warn_of_other_queues(engine)).then_some(due + QUEUES);
            }
            thread::sleep(TICK);
        }
        Ok(())
    }

    /// Packets of ours on queues without a worker go to the kernel, which knows nothing of them: the most puzzling way to lose them. Said once.
    fn warn_of_other_queues(&self, engine: &Engine) -> bool {
        let lost = engine.verdicts().map_or(0, |verdicts| verdicts.get(Verdict::PassedNoSocket));
        if lost > 0 {
            let interface = self.config.interface();
            tracing::warn!(
                "{lost} packets for the engine came on queues of {name} that have no worker, and went to the kernel: raise interface.queues \
                 (now {queues}), or let the device use only these (`ethtool -L {name} combined {queues}` or `ethtool -X {name} equal {queues}`)",
                name = interface.name,
                queues = interface.queues,
            );
        }
        lost > 0
    }

    fn figures(&self, workers: Vec<WorkerFigures>, verdicts: Option<framewire_xdp::Verdicts>) -> Figures<'_> {
        Figures {
            config: self.config,
            ports: &self.ports,
            board: self.board,
            workers,
            verdicts: verdicts.map(|verdicts| verdicts.iter().collect()).unwrap_or_default(),
            uptime: self.started.elapsed(),
        }
    }

    fn now(&self, engine: &Engine) -> Figures<'_> {
        let workers = (0..self.ports.len())
            .map(|i| WorkerFigures {
                snapshot: engine.remote(i).and_then(|remote| remote.call(|worker| worker.snapshot()).ok()),
                error: None,
            })
            .collect();
        self.figures(workers, engine.verdicts())
    }

    fn stopped(&self, report: EngineReport) -> Figures<'_> {
        let workers = report.workers.into_iter().map(|worker| match worker {
            Some(report) => {
                WorkerFigures { snapshot: Some(report.snapshot), error: report.error.map(|error| chain(&error)) }
            }
            None => WorkerFigures { snapshot: None, error: Some("its thread panicked".into()) },
        });
        self.figures(workers.collect(), report.verdicts)
    }
}
