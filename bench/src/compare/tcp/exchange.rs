//! Request and answer: over lasting connections, and over one each.

use super::{Client, engine_client, framewire_side, kernel_echo, kernel_side, result_of, target};
use crate::compare::{
    Plan,
    bed::{Bed, Side},
    report::Better,
    systems::{Appliance, FRAMEWIRE},
    turns::{Contender, Contest, Figure, Row, Turn},
};
use anyhow::{Context, Result, ensure};
use framewire::load::{Exchange, ExchangeResult};
use std::{fmt, process::Command};

/// What is asked of an echo service.
#[derive(Clone, Copy, Debug)]
struct Load {
    bytes: usize,
    connections: usize,
    /// Requests a second; without it, as many as are answered.
    rate: Option<u32>,
    metrics: &'static [Metric],
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B, {} at a time", self.bytes, self.connections)?;
        self.rate.map_or(Ok(()), |rate| write!(f, ", {rate}/s"))
    }
}

#[derive(Clone, Copy, Debug)]
enum Metric {
    Rate,
    P50,
    P99,
    P999,
}

impl Metric {
    fn row(self, load: Load, client: Client) -> Row {
        let (what, unit, better) = match self {
            Self::Rate => ("", "exchanges/s", Better::Higher),
            Self::P50 => (" p50", "µs", Better::Lower),
            Self::P99 => (" p99", "µs", Better::Lower),
            Self::P999 => (" p99.9", "µs", Better::Lower),
        };
        let row = Row::new(format!("{load}{}{what}", client.suffix()), unit, better);
        match self {
            Self::Rate => {
                let plot = format!("{} B{}, exchanges over connections", load.bytes, client.suffix());
                row.over(plot, "connections", load.connections as f64)
            }
            Self::P50 | Self::P99 | Self::P999 => row,
        }
    }

    fn of(self, result: &ExchangeResult) -> f64 {
        match self {
            Self::Rate => result.per_second,
            Self::P50 => result.p50_us,
            Self::P99 => result.p99_us,
            Self::P999 => result.p999_us,
        }
    }
}

const LATENCY: &[Metric] = &[Metric::P50, Metric::P99, Metric::P999];
const RATE_AND_LATENCY: &[Metric] = &[Metric::Rate, Metric::P50, Metric::P99, Metric::P999];
const REQUESTS: &[Load] = &[
    Load { bytes: 64, connections: 1, rate: None, metrics: RATE_AND_LATENCY },
    Load { bytes: 64, connections: 1, rate: Some(5_000), metrics: LATENCY },
    Load { bytes: 64, connections: 8, rate: None, metrics: &[Metric::Rate] },
    Load { bytes: 64, connections: 64, rate: None, metrics: &[Metric::Rate, Metric::P99] },
    Load { bytes: 64, connections: 512, rate: None, metrics: &[Metric::Rate, Metric::P99] },
    Load { bytes: 16_384, connections: 1, rate: None, metrics: LATENCY },
];
const CONNECTIONS: &[Load] = &[
    Load { bytes: 64, connections: 1, rate: None, metrics: RATE_AND_LATENCY },
    Load { bytes: 64, connections: 64, rate: None, metrics: &[Metric::Rate, Metric::P99] },
];

/// The suite `tcp-rr`.
pub(in crate::compare) fn requests(plan: &Plan) -> Contest {
    contest(plan, Exchange::Request, REQUESTS)
}

/// The suite `tcp-crr`.
pub(in crate::compare) fn connections(plan: &Plan) -> Contest {
    contest(plan, Exchange::Connection, CONNECTIONS)
}

fn contest(plan: &Plan, exchange: Exchange, loads: &'static [Load]) -> Contest {
    let metrics = |client: Client| {
        loads.iter().flat_map(move |&load| load.metrics.iter().map(move |metric| metric.row(load, client)))
    };
    let kernel = |spin| Box::new(Kernel { exchange, loads, spin });
    let appliance = Appliance::new(&plan.framewire);
    let framewire = Box::new(Framewire { appliance, exchange, loads });
    Contest {
        rows: Client::ALL.into_iter().flat_map(metrics).collect(),
        contenders: vec![kernel(false), kernel(true), framewire],
    }
}

/// The kernel's sockets at both ends.
#[derive(Debug)]
struct Kernel {
    exchange: Exchange,
    loads: &'static [Load],
    /// Neither end blocks.
    spin: bool,
}

impl Contender for Kernel {
    fn name(&self) -> &'static str {
        if self.spin { "kernel-spin" } else { "kernel" }
    }

    fn measure(&self, plan: &Plan) -> Result<Turn> {
        let bed = Bed::create(plan.cores)?;
        kernel_side(&bed, Side::Dut)?;
        kernel_side(&bed, Side::Peer)?;
        let spin: &[&str] = if self.spin { &["--spin"] } else { &[] };
        let server = kernel_echo(&bed, spin)?;
        let figures = all(self.loads, |load| {
            let command = bed.own_command(Side::Peer, &[&["gen", name(self.exchange)], spin].concat());
            exchange(plan, command, load)
        })?;
        let about = Some(server.about.clone());
        server.stop()?;
        // Whoever the client is, it is the kernel.
        Ok(Turn { about, figures: [figures.clone(), figures].concat() })
    }
}

/// The engine's sockets, in the appliance and in this program's clients.
#[derive(Debug)]
struct Framewire {
    appliance: Appliance,
    exchange: Exchange,
    loads: &'static [Load],
}

impl Framewire {
    fn against(&self, plan: &Plan, client: Client) -> Result<(String, Vec<Figure>)> {
        let bed = Bed::create(plan.cores)?;
        let service = format!("kind = \"tcp-echo\"\nlisten = \"{}\"", target());
        let server = framewire_side(&bed, &self.appliance, &service, client, "")?;
        let figures = all(self.loads, |load| {
            let command = match client {
                Client::Same => {
                    bed.own_command(Side::Peer, &[&["gen", name(self.exchange)], &engine_client()[..]].concat())
                }
                Client::Kernel => bed.own_command(Side::Peer, &["gen", name(self.exchange), "--spin"]),
            };
            exchange(plan, command, load)
        })?;
        let about = server.about.clone();
        server.stop()?;
        Ok((about, figures))
    }
}

impl Contender for Framewire {
    fn name(&self) -> &'static str {
        FRAMEWIRE
    }

    fn check(&self) -> Result<()> {
        self.appliance.check()
    }

    fn measure(&self, plan: &Plan) -> Result<Turn> {
        let mut turn = Turn::default();
        for client in Client::ALL {
            let (about, figures) = self.against(plan, client).with_context(|| format!("{client:?} client"))?;
            turn.about = Some(about);
            turn.figures.extend(figures);
        }
        Ok(turn)
    }
}

/// As `gen` calls it.
fn name(exchange: Exchange) -> &'static str {
    match exchange {
        Exchange::Request => "tcp-rr",
        Exchange::Connection => "tcp-crr",
    }
}

/// One figure for each metric of each load.
fn all(loads: &[Load], measure: impl Fn(&Load) -> Result<ExchangeResult>) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for load in loads {
        let result = measure(load).with_context(|| load.to_string())?;
        let mut of_load: Vec<_> = load.metrics.iter().map(|metric| Figure::from(metric.of(&result))).collect();
        // One curve for all of its rows.
        if let Some(last) = of_load.last_mut() {
            last.percentiles = Some(result.latency_us);
        }
        figures.extend(of_load);
    }
    Ok(figures)
}

fn exchange(plan: &Plan, mut command: Command, load: &Load) -> Result<ExchangeResult> {
    command.args(["--target", &target(), "--bytes", &load.bytes.to_string()]);
    command.args(["--connections", &load.connections.to_string()]);
    if let Some(rate) = load.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    let result: ExchangeResult = result_of(plan, command)?;
    ensure!(result.unanswered == 0, "{} of {} requests without an answer", result.unanswered, result.exchanges);
    Ok(result)
}
