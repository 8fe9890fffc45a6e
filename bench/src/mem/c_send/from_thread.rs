//! From another thread than the worker, which spins.

use super::{
    BATCH, On, WARM_UP_BATCHES,
    c_call::{buffer, send, socket},
    quantile,
};
use crate::{affinity, syscalls};
use anyhow::{Result, ensure};
use framewire::treck::{numbers as n, workers::tfStartWorkers};
use std::{ffi::c_int, fs, time::Instant};

/// What was found.
pub(super) struct FromThread {
    pub(super) p50_ns: f64,
    pub(super) mean_ns: f64,
    pub(super) p99_ns: f64,
    /// Getting a buffer and sending it.
    pub(super) with_buffer_ns: f64,
    /// Of the thread that sends.
    pub(super) system_calls: u64,
    pub(super) refused: usize,
    /// From start to end, not of the counted sends only.
    pub(super) worker: Switches,
}

/// How often threads stopped running.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Switches {
    pub(super) slept: u64,
    pub(super) lost_core: u64,
}

impl Switches {
    /// Of the library's workers.
    fn of_workers() -> Result<Self> {
        let mut found = Self::default();
        for task in fs::read_dir("/proc/self/task")? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map_or("", str::trim);
            if value("Name:").starts_with("fw-worker") {
                found.slept += value("voluntary_ctxt_switches:").parse::<u64>()?;
                found.lost_core += value("nonvoluntary_ctxt_switches:").parse::<u64>()?;
            }
        }
        Ok(found)
    }
}

pub(super) fn measure(core: Option<usize>, batches: usize, gap_ns: u64) -> Result<FromThread> {
    let socket = socket(On::Datagrams)?;
    let started = tfStartWorkers(1);
    ensure!(started == n::TM_ENOERROR, "tfStartWorkers: {started}");
    let found = syscalls::count(|tally| {
        // Not before: the worker chooses among the cores of the thread that starts it.
        affinity::pin(core)?;
        Ok(send_all(socket, batches, gap_ns, tally))
    })?;
    Ok(FromThread { worker: Switches::of_workers()?, ..found })
}

fn send_all(socket: c_int, batches: usize, gap_ns: u64, tally: &syscalls::Tally) -> FromThread {
    let mut clock_ns: Vec<f64> = (0..10_000).map(|_| Instant::now().elapsed().as_nanos() as f64).collect();
    let clock_ns = quantile(&mut clock_ns, 0.5);
    let (count, warm_up) = (batches * BATCH, WARM_UP_BATCHES * BATCH);
    let (mut sends_ns, mut both_ns) = (Vec::with_capacity(count + warm_up), Vec::with_capacity(count + warm_up));
    let (mut calls_before, mut refused) = (0, 0);
    let mut last = Instant::now();
    while sends_ns.len() < count + warm_up {
        if sends_ns.len() == warm_up {
            calls_before = tally.count();
            refused = 0;
        }
        while (last.elapsed().as_nanos() as u64) < gap_ns {
            std::hint::spin_loop();
        }
        last = Instant::now();
        let Some(handle) = buffer() else {
            refused += 1;
            continue;
        };
        let begun = Instant::now();
        let mut sent = send(socket, handle);
        let ended = Instant::now();
        if sent {
            sends_ns.push((ended - begun).as_nanos() as f64 - clock_ns);
            both_ns.push((ended - last).as_nanos() as f64 - 2.0 * clock_ns);
        }
        while !sent {
            // The queue is full: the worker has not sent it yet.
            refused += 1;
            std::hint::spin_loop();
            sent = send(socket, handle);
        }
    }
    let system_calls = tally.count() - calls_before;
    let [mut sends_ns, mut both_ns] = [sends_ns, both_ns].map(|all| all[warm_up..].to_owned());
    FromThread {
        p50_ns: quantile(&mut sends_ns, 0.5),
        mean_ns: sends_ns.iter().sum::<f64>() / count as f64,
        p99_ns: quantile(&mut sends_ns, 0.99),
        with_buffer_ns: quantile(&mut both_ns, 0.5),
        system_calls,
        refused,
        worker: Switches::default(),
    }
}
