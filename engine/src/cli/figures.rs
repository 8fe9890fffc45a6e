//! The figures of all workers at one moment, as JSON.

use crate::{
    buf::Ledger,
    config::Config,
    port::{CopyMode, DriverMode, PortInfo},
    runtime::Snapshot,
    service::{Board, Counts},
    telemetry::Counters,
};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// One worker.
#[derive(Debug)]
pub(super) struct WorkerFigures {
    /// `None`: it has died without a word.
    pub(super) snapshot: Option<Snapshot>,
    /// Why it stopped, if it was not told to.
    pub(super) error: Option<String>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Figures<'a> {
    pub(super) config: &'a Config,
    /// What the ports turned out to be when the engine started.
    pub(super) ports: &'a [PortInfo],
    pub(super) board: &'a Board,
    pub(super) workers: Vec<WorkerFigures>,
    /// The XDP program's counters: name, sentence, value.
    pub(super) verdicts: Vec<(&'static str, &'static str, u64)>,
    pub(super) uptime: Duration,
}

impl Figures<'_> {
    pub(super) fn snapshots(&self) -> impl Iterator<Item = &Snapshot> {
        self.workers.iter().filter_map(|worker| worker.snapshot.as_ref())
    }

    /// The stacks' counters over all workers.
    pub(super) fn totals(&self) -> Counters {
        let mut totals = Counters::default();
        for snapshot in self.snapshots() {
            totals.add(&snapshot.counters);
        }
        totals
    }

    /// All pools together.
    pub(super) fn ledger(&self) -> Ledger {
        self.snapshots().fold(Ledger::default(), |sum, Snapshot { ledger, .. }| Ledger {
            capacity: sum.capacity + ledger.capacity,
            free: sum.free + ledger.free,
            owned: sum.owned + ledger.owned,
            retained: sum.retained + ledger.retained,
            queued: sum.queued + ledger.queued,
            kernel_tx: sum.kernel_tx + ledger.kernel_tx,
            kernel_rx: sum.kernel_rx + ledger.kernel_rx,
        })
    }

    /// Every worker reports, none failed, and every pool has all its frames: what a stopped engine must show.
    pub(super) fn is_clean(&self) -> bool {
        self.workers.iter().all(|worker| worker.error.is_none() && worker.snapshot.is_some())
            && self.snapshots().all(|snapshot| snapshot.ledger.is_whole())
    }

    /// Everything, for programs.
    pub(super) fn to_json(&self) -> Value {
        let ledger = self.ledger();
        let services: Vec<Value> = (0..self.board.labels().len()).map(|i| self.service(i)).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "interface": self.config.interface().name,
            "uptime_s": self.uptime.as_secs_f64(),
            "clean": self.is_clean(),
            "totals": named(Counters::NAMES, &self.totals().values()),
            "ports": self.ports.iter().enumerate().map(|(i, port)| self.port(i, port)).collect::<Vec<_>>(),
            "verdicts": self.verdicts.iter().map(|(name, _, value)| ((*name).into(), json!(value))).collect::<Map<_, _>>(),
            "ledger": {
                "capacity": ledger.capacity,
                "free": ledger.free,
                "held": ledger.held(),
                "whole": self.snapshots().all(|snapshot| snapshot.ledger.is_whole()),
            },
            "services": services,
            "workers": (0..self.workers.len()).map(|i| self.worker(i)).collect::<Vec<_>>(),
        })
    }

    fn port(&self, worker: usize, port: &PortInfo) -> Value {
        let stats = self.workers.get(worker).and_then(|worker| worker.snapshot.as_ref()).map(|s| s.port_stats);
        json!({
            "worker": worker,
            "name": port.name,
            "kind": port.kind,
            "mac": port.mac.to_string(),
            "mtu": port.mtu,
            "queue": port.queue,
            "driver": match port.driver {
                DriverMode::Native => "native",
                DriverMode::Generic => "generic",
                DriverMode::None => "none",
            },
            "copy": match port.copy {
                CopyMode::ZeroCopy => "zero-copy",
                CopyMode::Copy => "copy",
            },
            "tx_pieces_max": port.tx_pieces_max,
            "napi_thread": port.napi_thread,
            "fallback": port.fallback,
            "stats": stats.map(|stats| stats.iter().map(|(name, value)| (name.into(), json!(value))).collect::<Map<_, _>>()),
        })
    }

    fn service(&self, service: usize) -> Value {
        json!({
            "service": self.board.labels()[service],
            "kind": self.config.services().get(service).map(|service| service.kind()),
            "counts": named(Counts::NAMES, &self.board.totals(service)),
            "by_worker": (0..self.workers.len())
                .map(|worker| named(Counts::NAMES, &self.board.values(worker, service)))
                .collect::<Vec<_>>(),
        })
    }

    fn worker(&self, index: usize) -> Value {
        let worker = &self.workers[index];
        let mut value = json!({
            "worker": index,
            "core": self.config.worker().cores.get(index),
            "error": worker.error,
        });
        if let (Some(snapshot), Some(map)) = (&worker.snapshot, value.as_object_mut()) {
            let Snapshot { port: _, port_stats: _, counters, pool, ledger, usage, turns, sleeps, stages } = snapshot;
            map.insert("turns".into(), json!(turns));
            map.insert("sleeps".into(), json!(sleeps));
            map.insert("counters".into(), named(Counters::NAMES, &counters.values()));
            map.insert(
                "pool".into(),
                json!({
                    "bad_completions": pool.bad_completions,
                    "bad_receives": pool.bad_receives,
                    "alloc_failures": pool.alloc_failures,
                }),
            );
            map.insert(
                "frames".into(),
                json!({
                    "capacity": ledger.capacity,
                    "free": ledger.free,
                    "owned": ledger.owned,
                    "retained": ledger.retained,
                    "queued": ledger.queued,
                    "kernel_tx": ledger.kernel_tx,
                    "kernel_rx": ledger.kernel_rx,
                    "whole": ledger.is_whole(),
                }),
            );
            map.insert(
                "usage".into(),
                json!({
                    "udp_sockets": usage.udp_sockets,
                    "raw_sockets": usage.raw_sockets,
                    "neighbours": usage.neighbours,
                    "neighbours_parked": usage.neighbours_parked,
                    "routes": usage.routes,
                    "reassembly_frames": usage.reassembly_frames,
                    "timers": usage.timers,
                }),
            );
            map.insert("stages".into(), json!(stages));
        }
        value
    }
}

fn named(names: &[(&str, &str)], values: &[u64]) -> Value {
    names.iter().zip(values).map(|((name, _), value)| ((*name).to_owned(), json!(value))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        buf::PoolCounters,
        config::Config,
        port::{MacAddr, PortStats},
        runtime::StageSummary,
        stack::Usage,
    };

    pub(in crate::cli) fn config() -> Config {
        let text = "[[interface]]\nname = \"eth1\"\nqueues = 2\naddresses = [\"10.0.0.1/24\"]\n[worker]\ncores = [4, 5]\n\
                    [[service]]\nkind = \"udp-echo\"\nlisten = \"10.0.0.1:7\"\n";
        Config::parse("x.toml", text).unwrap()
    }

    pub(in crate::cli) fn port(queue: u32) -> PortInfo {
        PortInfo {
            name: "eth1".into(),
            kind: "xsk",
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            queue,
            driver: DriverMode::Native,
            copy: CopyMode::Copy,
            tx_pieces_max: 17,
            napi_thread: false,
            fallback: Some("zero-copy: the driver does not offer it".into()),
        }
    }

    pub(in crate::cli) fn snapshot(queue: u32, packets: u64) -> Snapshot {
        Snapshot {
            port: port(queue),
            port_stats: PortStats { rx_packets: packets, rx_bytes: packets * 100, ..PortStats::default() },
            counters: Counters { rx_frames: packets, drop_udp_checksum: 1, ..Counters::default() },
            pool: PoolCounters::default(),
            ledger: Ledger { capacity: 64, free: 64, ..Ledger::default() },
            usage: Usage::default(),
            turns: 10,
            sleeps: 2,
            stages: vec![StageSummary { stage: "reap", count: 3, p50_ns: 100, p99_ns: 200, p999_ns: 300, max_ns: 400 }],
        }
    }

    #[test]
    fn json_has_totals_and_workers() {
        let config = config();
        let board = Board::new(config.services(), 2);
        board.counts(1, 0).received.add(5);
        let ports = [port(0), port(1)];
        let workers = [3, 4].map(|n| WorkerFigures { snapshot: Some(snapshot(n - 3, n.into())), error: None }).into();
        let verdicts = vec![("redirected_owned", "Frames.", 7)];
        let mut figures = Figures {
            config: &config,
            ports: &ports,
            board: &board,
            workers,
            verdicts,
            uptime: Duration::from_secs(2),
        };
        let json = figures.to_json();
        let at = |pointer: &str| json.pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {json:#}")).clone();
        assert_eq!(at("/totals/rx_frames"), 7);
        assert_eq!(at("/workers/1/counters/rx_frames"), 4);
        assert_eq!(at("/workers/1/core"), 5);
        assert_eq!(at("/workers/0/stages/0/p99_ns"), 200);
        assert_eq!(at("/ports/1/stats/rx_packets"), 4);
        assert_eq!(at("/ports/0/driver"), "native");
        assert_eq!(at("/verdicts/redirected_owned"), 7);
        assert_eq!(at("/ledger"), json!({ "capacity": 128, "free": 128, "held": 0, "whole": true }));
        assert_eq!(at("/services/0/counts/received"), 5);
        assert_eq!(at("/services/0/by_worker/0/received"), 0);
        assert_eq!(at("/clean"), true);
        // One pool lends what another lacks: the sum looks whole, the engine is not.
        if let Some(snapshot) = &mut figures.workers[0].snapshot {
            snapshot.ledger.free = 63;
        }
        assert!(!figures.is_clean());
        figures.workers[0].snapshot = None;
        assert!(!figures.is_clean(), "a worker that says nothing is not clean");
    }
}
