//! HTTP requests over lasting connections, by wrk.

use super::{Client, framewire_side, installed, kernel_side, patience, turn_of, watched};
use crate::compare::{
    Plan,
    bed::{Bed, DUT_ADDRESS, Running, Side},
    report::Better,
    systems::{Appliance, FRAMEWIRE},
    turns::{Contender, Contest, Figure, Row, Turn},
};
use anyhow::{Context, Result, bail, ensure};
use framewire::load::Percentiles;
use framewire_tests::rig::TempDir;
use std::{
    fs,
    io::{Read, Write},
    net::SocketAddrV4,
    path::Path,
    time::Duration,
};

const PORT: u16 = 80;
/// Bodies, in bytes.
const SIZES: [usize; 2] = [128, 16_384];
const CONNECTIONS: usize = 64;

/// The suite `http`.
pub(in crate::compare) fn contest(plan: &Plan) -> Contest {
    let rows = SIZES.iter().flat_map(|size| {
        let scenario = format!("{size} B, {CONNECTIONS} connections");
        [Row::new(scenario.clone(), "requests/s", Better::Higher), Row::new(scenario + " p99", "µs", Better::Lower)]
    });
    let framewire = Framewire { appliance: Appliance::new(&plan.framewire) };
    Contest { rows: rows.collect(), contenders: vec![Box::new(Nginx), Box::new(framewire)] }
}

/// nginx, one worker, files kept open.
#[derive(Debug)]
struct Nginx;

impl Contender for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn check(&self) -> Result<()> {
        installed("nginx", "nginx-light")?;
        installed("wrk", "wrk")
    }

    fn measure(&self, plan: &Plan) -> Result<Turn> {
        let bed = Bed::create(plan.cores)?;
        kernel_side(&bed, Side::Dut)?;
        let folder = content()?;
        let path = folder.path();
        let file = path.join("nginx.conf");
        fs::write(&file, configuration(path)).with_context(|| format!("writing {}", file.display()))?;
        let mut command = bed.command(Side::Dut, "nginx");
        command.arg("-p").arg(path).arg("-c").arg(&file).args(["-e", "stderr"]);
        let server = Running::start(command, "start worker process ")?;
        kernel_side(&bed, Side::Peer)?;
        let figures = loads(plan, &bed)?;
        server.stop()?;
        Ok(Turn { about: Some("one worker, files kept open, sendfile".into()), figures })
    }
}

/// The appliance's `http`, with the same folder.
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
        installed("wrk", "wrk")
    }

    fn measure(&self, plan: &Plan) -> Result<Turn> {
        let bed = Bed::create(plan.cores)?;
        let folder = content()?;
        let root = folder.path().display();
        let service = format!("kind = \"http\"\nlisten = \"{DUT_ADDRESS}:{PORT}\"\nroot = \"{root}\"");
        let server = framewire_side(&bed, &self.appliance, &service, Client::Kernel, "")?;
        turn_of(server, || loads(plan, &bed))
    }
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 1; user root; pid {folder}/pid; error_log stderr notice;\n\
         events {{ worker_connections 4096; multi_accept on; accept_mutex off; }}\n\
         http {{\n\
           access_log off; sendfile on; tcp_nopush on; keepalive_timeout 600; keepalive_requests 1000000000;\n\
           open_file_cache max=16; open_file_cache_valid 600;\n\
           client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;\n\
           uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;\n\
           server {{ listen {DUT_ADDRESS}:{PORT} backlog=65535; root {folder}; }}\n\
         }}\n"
    )
}

/// A folder with one file of each size, named after it.
fn content() -> Result<TempDir> {
    let folder = TempDir::create().context("making a folder")?;
    for size in SIZES {
        let path = folder.path().join(size.to_string());
        fs::write(&path, body(size)).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(folder)
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|i| b'a' + (i % 26) as u8).collect()
}

/// All rows of one server.
fn loads(plan: &Plan, bed: &Bed) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for size in SIZES {
        look(bed, size).with_context(|| format!("the answer of {size} B"))?;
        figures.extend(load(plan, bed, size).with_context(|| format!("{size} B"))?);
    }
    Ok(figures)
}

/// Asks once and looks at the answer: wrk looks at no body.
fn look(bed: &Bed, size: usize) -> Result<()> {
    let address: SocketAddrV4 = format!("{DUT_ADDRESS}:{PORT}").parse()?;
    let mut stream = bed.peer.tcp_connect(address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /{size} HTTP/1.1\r\nHost: {DUT_ADDRESS}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no end of its head")?;
    let (head, found) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
    ensure!(found == body(size), "{} bytes, not the {size} expected; {head}", found.len());
    Ok(())
}

/// Requests a second, and the 99th percentile.
fn load(plan: &Plan, bed: &Bed, size: usize) -> Result<[Figure; 2]> {
    let seconds = plan.seconds.ceil();
    let mut command = bed.command(Side::Peer, "wrk");
    command.args(["--threads", "1", "--connections", &CONNECTIONS.to_string(), "--latency"]);
    command.args(["--duration", &format!("{seconds}s"), &format!("http://{DUT_ADDRESS}:{PORT}/{size}")]);
    let (output, note) = watched(command, patience(seconds)).context("wrk")?;
    let result = WrkResult::parse(&output).with_context(|| format!("no result in:\n{output}"))?;
    ensure!(!result.errors, "errors:\n{output}");
    let (rate, p99) = (Figure::from(result.per_second), Figure::from(result.p99_us));
    Ok([Figure { note: note.clone(), ..rate }, Figure { note, percentiles: Some(result.latency_us), ..p99 }])
}

#[derive(Debug, PartialEq)]
struct WrkResult {
    per_second: f64,
    p99_us: f64,
    latency_us: Percentiles,
    errors: bool,
}

impl WrkResult {
    fn parse(output: &str) -> Result<Self> {
        let after = |name: &str| {
            let line = output.lines().find_map(|line| line.trim().strip_prefix(name));
            line.map(str::trim).with_context(|| format!("no {name:?}"))
        };
        let percentiles = [(0.5, "50%"), (0.75, "75%"), (0.9, "90%"), (0.99, "99%")];
        let latency_us = percentiles.map(|(quantile, name)| Ok((quantile, microseconds(after(name)?)?)));
        let latency_us: Vec<(f64, f64)> = latency_us.into_iter().collect::<Result<_>>()?;
        Ok(Self {
            per_second: after("Requests/sec:")?.parse()?,
            p99_us: latency_us[3].1,
            latency_us: Percentiles(latency_us),
            errors: output.contains("Socket errors") || output.contains("Non-2xx"),
        })
    }
}

/// As wrk writes it: a number and a unit.
fn microseconds(text: &str) -> Result<f64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let scale = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => bail!("a latency of {text:?}"),
    };
    Ok(text[..text.len() - unit.len()].parse::<f64>()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_understood() {
        let output = "Running 2s test @ http://198.18.0.1:80/128\n  1 threads and 64 connections\n  \
                      Latency Distribution\n     50%  410.00us\n     75%  500.00us\n     90%  600.00us\n     99%    1.25ms\n  \
                      100 requests in 2.00s, 1.00MB read\nRequests/sec:  81234.56\nTransfer/sec:      1.00MB\n";
        let latency_us = Percentiles(vec![(0.5, 410.0), (0.75, 500.0), (0.9, 600.0), (0.99, 1250.0)]);
        let expected = WrkResult { per_second: 81_234.56, p99_us: 1250.0, latency_us, errors: false };
        assert_eq!(WrkResult::parse(output).unwrap(), expected);
        let failed = output.replace("Transfer", "  Non-2xx or 3xx responses: 3\nTransfer");
        assert!(WrkResult::parse(&failed).unwrap().errors);
        assert!(WrkResult::parse("Requests/sec: 1").is_err());
    }
}
