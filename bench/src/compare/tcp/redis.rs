//! redis-benchmark's `PING`, which an echo answers as well: the request is an array of one string, and so is a valid answer.

use super::{Client, PORT, framewire_side, installed, kernel_echo, kernel_side, patience, target, turn_of, watched};
use crate::compare::{
    Plan,
    bed::{Bed, DUT_ADDRESS, Running, Side},
    report::Better,
    systems::{Appliance, FRAMEWIRE},
    turns::{Contender, Contest, Figure, Row, Turn},
};
use anyhow::{Context, Result, ensure};
use framewire::load::Percentiles;
use framewire_tests::rig::TempDir;
use std::{fmt, os::unix::fs::symlink};

/// The server by its other name: one program, which looks at how it is called. It comes with the client and starts by nobody's hand but ours.
const SERVER: &str = "/usr/bin/redis-check-rdb";

/// What is asked.
#[derive(Clone, Copy, Debug)]
struct Load {
    connections: usize,
    /// Requests that each connection has on their way.
    pipelined: usize,
    /// About so many are answered in a second: redis-benchmark counts requests, not time.
    per_second: f64,
}

const LOADS: [Load; 3] = [
    Load { connections: 1, pipelined: 1, per_second: 5e4 },
    Load { connections: 50, pipelined: 1, per_second: 1e5 },
    Load { connections: 50, pipelined: 16, per_second: 8e5 },
];

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, pipelined, .. } = self;
        write!(f, "PING, {connections} connections")?;
        if *pipelined > 1 { write!(f, ", {pipelined} at a time on each") } else { Ok(()) }
    }
}

/// The suite `redis`.
pub(in crate::compare) fn contest(plan: &Plan) -> Contest {
    let rows = LOADS.iter().flat_map(|load| {
        let rate = Row::new(load.to_string(), "requests/s", Better::Higher);
        [rate, Row::new(format!("{load} p99"), "µs", Better::Lower)]
    });
    let framewire = Framewire { appliance: Appliance::new(&plan.framewire) };
    Contest {
        rows: rows.collect(),
        contenders: vec![
            Box::new(Redis),
            Box::new(Kernel { spin: false }),
            Box::new(Kernel { spin: true }),
            Box::new(framewire),
        ],
    }
}

fn check() -> Result<()> {
    installed("redis-benchmark", "redis-tools")
}

/// redis itself, which understands the request.
#[derive(Debug)]
struct Redis;

impl Contender for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn check(&self) -> Result<()> {
        check()?;
        installed(SERVER, "redis-tools")
    }

    fn measure(&self, plan: &Plan) -> Result<Turn> {
        let bed = Bed::create(plan.cores)?;
        kernel_side(&bed, Side::Dut)?;
        kernel_side(&bed, Side::Peer)?;
        let folder = TempDir::create().context("making a folder")?;
        let program = folder.path().join("redis-server");
        symlink(SERVER, &program).with_context(|| format!("linking {}", program.display()))?;
        let mut command = bed.command(Side::Dut, &program);
        command.args(["--bind", DUT_ADDRESS, "--port", &PORT.to_string(), "--protected-mode", "no"]);
        command.args(["--save", "", "--appendonly", "no"]).arg("--dir").arg(folder.path());
        let server = Running::start(command, "Ready to accept connections")?;
        let figures = loads(plan, &bed)?;
        server.stop()?;
        Ok(Turn { about: Some("redis-server, nothing kept on a disk".into()), figures })
    }
}

/// This program's echo over epoll.
#[derive(Debug)]
struct Kernel {
    spin: bool,
}

impl Contender for Kernel {
    fn name(&self) -> &'static str {
        if self.spin { "kernel-spin" } else { "kernel" }
    }

    fn check(&self) -> Result<()> {
        check()
    }

    fn measure(&self, plan: &Plan) -> Result<Turn> {
        let bed = Bed::create(plan.cores)?;
        kernel_side(&bed, Side::Dut)?;
        kernel_side(&bed, Side::Peer)?;
        let spin: &[&str] = if self.spin { &["--spin"] } else { &[] };
        turn_of(kernel_echo(&bed, spin)?, || loads(plan, &bed))
    }
}

/// The appliance's `tcp-echo`.
#[derive(Debug)]
struct Framewire {
    appliance: Appliance,
}

impl Contender for Framewire {
    fn name(&self) -> &'static str {
        FRAMEWIRE
    }

    fn check(&self) -> Result<()> {
        self.appliance.check()?;
        check()
    }

    fn measure(&self, plan: &Plan) -> Result<Turn> {
        let bed = Bed::create(plan.cores)?;
        let service = format!("kind = \"tcp-echo\"\nlisten = \"{}\"", target());
        let server = framewire_side(&bed, &self.appliance, &service, Client::Kernel, "")?;
        turn_of(server, || loads(plan, &bed))
    }
}

/// All rows of one server.
fn loads(plan: &Plan, bed: &Bed) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for load in LOADS {
        if plan.warm_up > 0.0 {
            measure(bed, load, plan.warm_up).with_context(|| format!("{load}, warm-up"))?;
        }
        figures.extend(measure(bed, load, plan.seconds).with_context(|| load.to_string())?);
    }
    Ok(figures)
}

/// Requests a second, and the 99th percentile.
fn measure(bed: &Bed, load: Load, seconds: f64) -> Result<[Figure; 2]> {
    let Load { connections, pipelined, per_second } = load;
    let requests = (seconds * per_second) as u64;
    let mut command = bed.command(Side::Peer, "redis-benchmark");
    command.args(["-h", DUT_ADDRESS, "-p", &PORT.to_string(), "-t", "ping_mbulk", "--csv"]);
    command.args(["-n", &requests.to_string(), "-c", &connections.to_string(), "-P", &pipelined.to_string()]);
    // A hundred times slower than expected is broken.
    let (output, busy) = watched(command, patience(seconds * 100.0)).context("redis-benchmark")?;
    let result = Csv::parse(&output).with_context(|| format!("no result in:\n{output}"))?;
    let (rate, p99) = (Figure::from(result.per_second), Figure::from(result.latency_us[2].1));
    let latency = Percentiles(result.latency_us.into());
    Ok([Figure { note: busy.clone(), ..rate }, Figure { note: busy, percentiles: Some(latency), ..p99 }])
}

/// `redis-benchmark --csv`: a line of names, a line for the test.
#[derive(Debug, PartialEq)]
struct Csv {
    per_second: f64,
    /// p50, p95, p99.
    latency_us: [(f64, f64); 3],
}

impl Csv {
    fn parse(output: &str) -> Result<Self> {
        let cells = |line: &str| line.split(',').map(|cell| cell.trim().trim_matches('"').to_owned()).collect();
        let names: Vec<String> =
            output.lines().find(|line| line.starts_with("\"test\"")).map(cells).context("names")?;
        let values: Vec<String> =
            output.lines().find(|line| line.starts_with("\"PING_MBULK\"")).map(cells).context("values")?;
        ensure!(names.len() == values.len(), "{} names for {} values", names.len(), values.len());
        let value = |name: &str| {
            let index = names.iter().position(|other| other == name).with_context(|| format!("no {name:?}"))?;
            values[index].parse::<f64>().with_context(|| format!("{name}: {:?}", values[index]))
        };
        let us = |name: &str| Ok::<f64, anyhow::Error>(value(name)? * 1e3);
        let latency_us = [(0.5, us("p50_latency_ms")?), (0.95, us("p95_latency_ms")?), (0.99, us("p99_latency_ms")?)];
        Ok(Self { per_second: value("rps")?, latency_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_benchmark_is_understood() {
        let output = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
                      \"PING_MBULK\",\"55710.31\",\"0.117\",\"0.032\",\"0.125\",\"0.250\",\"0.500\",\"5.087\"\n";
        let latency_us = [(0.5, 125.0), (0.95, 250.0), (0.99, 500.0)];
        assert_eq!(Csv::parse(output).unwrap(), Csv { per_second: 55_710.31, latency_us });
        assert!(Csv::parse("\"test\",\"rps\"\n").is_err());
        assert!(Csv::parse(&output.replace("p99_latency_ms", "other")).is_err());
    }
}
