//! `run`: systems side by side, in turns, on the same bed.

mod bed;
pub(crate) mod coverage;
mod growth;
mod html;
mod in_memory;
mod machine;
mod progress;
mod report;
mod stats;
mod systems;
mod tcp;
mod turns;
mod veth;

use crate::{
    generator::DEFAULT_WINDOW,
    packet::Answer,
    stop::{self, StopFlag},
};
use anyhow::{Context, Result, ensure};
use bed::Cores;
use clap::{Args, ValueEnum};
use in_memory::Case;
use machine::Machine;
use progress::Progress;
use report::{Entry, Rounds};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};
use systems::Netstack;
use turns::Contest;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Frames sent back with Ethernet addresses swapped
    Reflect,
    /// UDP datagrams sent back to their senders
    UdpEcho,
    /// UDP without a kernel, on one core: time and instructions a packet
    Mem,
    /// TCP without a kernel, on one core: throughput, time and instructions a segment
    MemTcp,
    /// The C face's send beside the Rust call, and from another thread
    CSend,
    /// One TCP connection, as many bytes as go
    TcpBulk,
    /// The same from a sender whose packets are lost
    TcpLoss,
    /// Requests and their answers over lasting TCP connections
    TcpRr,
    /// Connect, request, answer, close
    TcpCrr,
    /// HTTP requests over lasting connections
    Http,
    /// redis-benchmark's PING, which an echo answers as well
    Redis,
    /// Memory and time as the engine holds more connections, sockets, routes, neighbours, timers
    Growth,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Reflect => "reflect",
            Self::UdpEcho => "udp-echo",
            Self::Mem => "mem",
            Self::MemTcp => "mem-tcp",
            Self::CSend => "c-send",
            Self::TcpBulk => "tcp-bulk",
            Self::TcpLoss => "tcp-loss",
            Self::TcpRr => "tcp-rr",
            Self::TcpCrr => "tcp-crr",
            Self::Http => "http",
            Self::Redis => "redis",
            Self::Growth => "growth",
        }
    }

    fn how(self, plan: &Plan) -> How {
        match self {
            Self::Reflect => How::Veth(veth::contest(plan, Answer::Reflect)),
            Self::UdpEcho => How::Veth(veth::contest(plan, Answer::Echo)),
            Self::Mem => How::InMemory(in_memory::udp(plan)),
            Self::MemTcp => How::InMemory(in_memory::tcp(plan)),
            Self::CSend => How::InMemory(in_memory::c_send(plan)),
            Self::TcpBulk => How::Veth(tcp::bulk(plan)),
            Self::TcpLoss => How::Veth(tcp::loss(plan)),
            Self::TcpRr => How::Veth(tcp::requests(plan)),
            Self::TcpCrr => How::Veth(tcp::connections(plan)),
            Self::Http => How::Veth(tcp::http(plan)),
            Self::Redis => How::Veth(tcp::redis(plan)),
            Self::Growth => How::Growth,
        }
    }
}

/// How a suite is measured.
#[derive(Debug)]
enum How {
    /// On a veth pair between two namespaces.
    Veth(Contest),
    /// Without a kernel, on one core unless a scenario says otherwise.
    InMemory(Vec<Case>),
    /// The engine alone, on one core without a kernel.
    Growth,
}

/// How many others are compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Peers {
    /// Those of the distribution and of this program
    #[default]
    Usual,
    /// gVisor's netstack as well
    All,
}

/// Options of `run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Suites, all when none is named
    #[arg(value_enum)]
    suites: Vec<Suite>,
    /// Only these systems
    #[arg(long, value_delimiter = ',')]
    systems: Vec<String>,
    /// All but these systems
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Rounds: each system once in each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds measured for each figure
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds before each measurement
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Who is compared; `all` needs what scripts/bench builds when it is asked for them
    #[arg(long, value_enum, default_value_t)]
    peers: Peers,
    /// One short round: shows that everything works, not how fast
    #[arg(long)]
    quick: bool,
    /// Packets outstanding at most
    #[arg(long, default_value_t = DEFAULT_WINDOW)]
    window: u32,
    /// Core of the generator
    #[arg(long, default_value_t = 0)]
    generator_core: usize,
    /// Core of the systems
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The appliance's program; next to this one by default
    #[arg(long)]
    framewire: Option<PathBuf>,
    /// Where report.json, report.txt and report.html go
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
}

/// Runs, prints, and writes the report.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let plan = Plan::new(args)?;
    let stop = stop::flag()?;
    let machine = plan.describe(Machine::read());
    let mut text = format!("{machine}\n");
    print!("{text}");
    let progress = Progress::new(plan.suites.iter().map(|&suite| plan.steps(suite)).sum())?;
    let mut all: Vec<Rounds> = Vec::new();
    let begun = Instant::now();
    let mut took = Vec::new();
    for &suite in &plan.suites {
        let begun = Instant::now();
        let measured = plan.run(suite, &stop, &progress)?;
        if suite == Suite::Growth {
            let table = growth::table(&measured);
            progress.print(&table);
            text.push_str(&table);
            text.push('\n');
        }
        for scenario in measured {
            let table = scenario.table();
            progress.print(&table);
            text.push_str(&table);
            text.push('\n');
            all.push(scenario);
        }
        took.push(format!("{} {:.1} s", suite.name(), begun.elapsed().as_secs_f64()));
    }
    progress.finish();
    let took = format!("{:.0} s: {}", begun.elapsed().as_secs_f64(), took.join(", "));
    text += &format!("took {took}\n");
    let machine = machine.with("took", took.clone());
    let entries: Vec<Entry> = all.iter().map(Rounds::entry).collect();
    write(&args.output, "report.json", &(serde_json::to_string_pretty(&entries)? + "\n"))?;
    write(&args.output, "report.txt", &text)?;
    write(&args.output, "report.html", &html::page(machine.facts(), &all))?;
    println!("took {took}");
    Ok(())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

/// What to measure how.
#[derive(Debug)]
struct Plan {
    suites: Vec<Suite>,
    only: Vec<String>,
    without: Vec<String>,
    /// Shows that everything works, not how fast.
    quick: bool,
    rounds: usize,
    seconds: f64,
    warm_up: f64,
    window: u32,
    cores: Cores,
    framewire: PathBuf,
    netstack: Option<Netstack>,
}

impl Plan {
    fn new(args: &RunArgs) -> Result<Self> {
        ensure!(args.rounds > 0, "--rounds: at least one");
        ensure!(args.core != args.generator_core, "--core and --generator-core: two cores are needed");
        let suites = if args.suites.is_empty() { Suite::value_variants().to_owned() } else { args.suites.clone() };
        let framewire = match &args.framewire {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("framewire"),
        };
        let (rounds, seconds, warm_up) =
            if args.quick { (1, 0.3, 0.1) } else { (args.rounds, args.seconds, args.warm_up) };
        let plan = Self {
            suites,
            only: args.systems.clone(),
            without: args.without.clone(),
            quick: args.quick,
            rounds,
            seconds,
            warm_up,
            window: args.window,
            cores: Cores { generator: args.generator_core, dut: args.core },
            netstack: (args.peers == Peers::All).then(|| Netstack::new(framewire.with_file_name("netstack"))),
            framewire,
        };
        plan.suites.iter().try_for_each(|&suite| plan.check(suite))?;
        Ok(plan)
    }

    fn wants(&self, system: &str) -> bool {
        (self.only.is_empty() || self.only.iter().any(|name| name == system))
            && !self.without.iter().any(|name| name == system)
    }

    /// Why a suite cannot run here, said before the first minute is spent.
    fn check(&self, suite: Suite) -> Result<()> {
        match suite.how(self) {
            How::Veth(contest) => contest.only(self).and_then(|contest| contest.check()),
            How::InMemory(cases) => in_memory::check(self, &cases),
            How::Growth => growth::check(self),
        }
        .with_context(|| suite.name())
    }

    /// How it is run, beside where.
    fn describe(&self, machine: Machine) -> Machine {
        let Self { rounds, seconds, warm_up, window, cores, .. } = self;
        machine
            .with(
                "run",
                format!("{rounds} rounds in turns, {seconds} s each after {warm_up} s, {window} packets outstanding"),
            )
            .with(
                "pinning",
                format!("generator and clients on core {}, systems on core {}", cores.generator, cores.dut),
            )
    }

    fn steps(&self, suite: Suite) -> u64 {
        match suite.how(self) {
            How::Veth(contest) => contest.only(self).map_or(0, |contest| contest.steps(self)),
            How::InMemory(cases) => in_memory::steps(self, &cases),
            How::Growth => growth::steps(self),
        }
    }

    fn run(&self, suite: Suite, stop: &StopFlag, progress: &Progress) -> Result<Vec<Rounds>> {
        match suite.how(self) {
            How::Veth(contest) => {
                contest.only(self).and_then(|contest| contest.run(self, suite.name(), stop, progress))
            }
            How::InMemory(cases) => in_memory::run(self, suite.name(), &cases, stop, progress).and_then(|mut all| {
                if suite == Suite::MemTcp {
                    all.extend(in_memory::idle_connections(self, suite.name())?);
                }
                Ok(all)
            }),
            How::Growth => growth::run(self, suite.name(), stop, progress),
        }
        .with_context(|| suite.name())
    }
}
