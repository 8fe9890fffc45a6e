//! Request and answer: over lasting connections, and over one each.

use super::{PORT, kernel_side, result_of, target};
use crate::{
    compare::{
        Plan,
        bed::{Bed, DUT_ADDRESS, Running, Side},
        report::Better,
        turns::{Contender, Contest, Figure, Row, Turn},
    },
    tcp::{Exchange, ExchangeResult},
};
use anyhow::{Context, Result, ensure};
use std::fmt;

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
    fn row(self, load: Load) -> Row {
        let (what, unit, better) = match self {
            Self::Rate => ("", "exchanges/s", Better::Higher),
            Self::P50 => (" p50", "µs", Better::Lower),
            Self::P99 => (" p99", "µs", Better::Lower),
            Self::P999 => (" p99.9", "µs", Better::Lower),
        };
        Row { scenario: format!("{load}{what}"), unit, better }
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
const REQUESTS: &[Load] = &[
    Load { bytes: 64, connections: 1, rate: None, metrics: LATENCY },
    Load { bytes: 64, connections: 1, rate: Some(5_000), metrics: LATENCY },
    Load { bytes: 64, connections: 64, rate: None, metrics: &[Metric::Rate, Metric::P99] },
    Load { bytes: 16_384, connections: 1, rate: None, metrics: LATENCY },
];
const CONNECTIONS: &[Load] = &[
    Load { bytes: 64, connections: 1, rate: None, metrics: LATENCY },
    Load { bytes: 64, connections: 64, rate: None, metrics: &[Metric::Rate, Metric::P99] },
];

/// The suite `tcp-rr`.
pub(in crate::compare) fn requests(_plan: &Plan) -> Contest {
    contest(Exchange::Request, REQUESTS)
}

/// The suite `tcp-crr`.
pub(in crate::compare) fn connections(_plan: &Plan) -> Contest {
    contest(Exchange::Connection, CONNECTIONS)
}

fn contest(exchange: Exchange, loads: &'static [Load]) -> Contest {
    let rows = loads.iter().flat_map(|&load| load.metrics.iter().map(move |metric| metric.row(load))).collect();
    let kernel = |spin| Box::new(Kernel { exchange, loads, spin }) as Box<dyn Contender>;
    Contest { rows, contenders: vec![kernel(false), kernel(true)] }
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
        let listen = format!("{DUT_ADDRESS}:{PORT}");
        let server = bed.own_command(Side::Dut, &[&["kernel-tcp-server", "--listen", &listen], spin].concat());
        let server = Running::start(server, "ready")?;
        let mut figures = Vec::new();
        for load in self.loads {
            let result = kernel_client(plan, &bed, self.exchange, load, spin).with_context(|| load.to_string())?;
            figures.extend(load.metrics.iter().map(|metric| Figure::from(metric.of(&result))));
        }
        let about = Some(server.about.clone());
        server.stop()?;
        Ok(Turn { about, figures })
    }
}

fn kernel_client(plan: &Plan, bed: &Bed, exchange: Exchange, load: &Load, more: &[&str]) -> Result<ExchangeResult> {
    let name = match exchange {
        Exchange::Request => "tcp-rr",
        Exchange::Connection => "tcp-crr",
    };
    let mut command = bed.own_command(Side::Peer, &[&[name, "--target", &target()], more].concat());
    command.args(["--bytes", &load.bytes.to_string(), "--connections", &load.connections.to_string()]);
    if let Some(rate) = load.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    let result: ExchangeResult = result_of(plan, command)?;
    ensure!(result.unanswered == 0, "{} of {} requests without an answer", result.unanswered, result.exchanges);
    Ok(result)
}
