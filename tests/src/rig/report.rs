//! What an appliance left behind: its exit status, its counters, its output.

use std::process::ExitStatus;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use super::NetNs;

/// How an appliance ended.
#[derive(Debug)]
pub struct Report {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote with `--stats-json`.
    pub stats: Value,
    /// Everything it printed.
    pub output: String,
}

impl Report {
    /// A counter of the stack, summed over all workers, e.g. `udp_rx_datagrams`.
    ///
    /// # Errors
    /// No such counter: a misspelt one is never 0.
    pub fn counter(&self, name: &str) -> Result<u64> {
        self.number(&format!("/totals/{name}"))
    }

    /// A counter of the stack, for each worker.
    ///
    /// # Errors
    /// As [`Self::counter`].
    pub fn by_worker(&self, name: &str) -> Result<Vec<u64>> {
        (0..self.list("/workers")?.len()).map(|i| self.number(&format!("/workers/{i}/counters/{name}"))).collect()
    }

    /// A count of service `index` of the configuration, summed over all workers, e.g. `received`.
    ///
    /// # Errors
    /// As [`Self::counter`].
    pub fn service(&self, index: usize, name: &str) -> Result<u64> {
        self.number(&format!("/services/{index}/counts/{name}"))
    }

    /// A counter of the ports, summed over all of them, e.g. `rx_packets`.
    ///
    /// # Errors
    /// As [`Self::counter`].
    pub fn port(&self, name: &str) -> Result<u64> {
        (0..self.list("/ports")?.len()).map(|i| self.number(&format!("/ports/{i}/stats/{name}"))).sum()
    }

    /// A counter of the XDP program, e.g. `redirected_owned`.
    ///
    /// # Errors
    /// As [`Self::counter`].
    pub fn verdict(&self, name: &str) -> Result<u64> {
        self.number(&format!("/verdicts/{name}"))
    }

    /// The sum of all stack counters whose name begins with `drop_`: packets refused, whatever the reason.
    ///
    /// # Errors
    /// The counters are not in the statistics.
    pub fn drops(&self) -> Result<u64> {
        let totals = self.object("/totals")?;
        Ok(totals.iter().filter(|(name, _)| name.starts_with("drop_")).filter_map(|(_, value)| value.as_u64()).sum())
    }

    /// Packets were refused for these reasons (names of `drop_` counters without that prefix) at most.
    ///
    /// # Errors
    /// One was refused for another reason, or there is no such reason; says how many for which.
    pub fn drops_only(&self, reasons: &[&str]) -> Result<()> {
        for reason in reasons {
            self.counter(&format!("drop_{reason}"))?;
        }
        let others: Vec<String> = self
            .object("/totals")?
            .iter()
            .filter_map(|(name, count)| Some((name.strip_prefix("drop_")?, count.as_u64()?)))
            .filter(|(reason, count)| *count > 0 && !reasons.contains(reason))
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        ensure!(others.is_empty(), "packets were refused: {}; {:#}", others.join(", "), self.at("/totals")?);
        Ok(())
    }

    /// As [`Self::drops_only`]; what is outside of a window may be refused too, but no more of it than this peer's kernel sent again.
    ///
    /// # Errors
    /// As [`Self::drops_only`]; more was outside of the window.
    pub fn drops_only_beside_repeats(&self, peer: &NetNs, reasons: &[&str]) -> Result<()> {
        self.drops_only(&[reasons, &["tcp_out_of_window"]].concat())?;
        let (refused, repeats) = (self.counter("drop_tcp_out_of_window")?, peer.tcp_segments_sent_again()?);
        ensure!(refused <= repeats, "{refused} segments outside of the window, {repeats} were sent again");
        Ok(())
    }

    /// What holds of every clean stop: exit code 0, every frame of every worker free again, no payload byte copied, nothing
    /// for the kernel to complain about, and totals that are the sums of their parts.
    ///
    /// # Errors
    /// Says which of it does not hold.
    pub fn check(&self) -> Result<()> {
        self.check_copying(0)
    }

    /// As [`Self::check`], of an engine that had to copy this many payload bytes on the way out: its port sends one descriptor a packet.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_copying(&self, tx_bytes: u64) -> Result<()> {
        ensure!(self.status.success(), "{}; it wrote:\n{}", self.status, self.output);
        ensure!(self.at("/clean")? == true, "not clean: {:#}", self.stats);
        let mut capacity = 0;
        for (i, worker) in self.list("/workers")?.iter().enumerate() {
            let frames = worker.get("frames").context("no ledger")?;
            ensure!(frames["whole"] == true && frames["free"] == frames["capacity"], "worker {i}: {frames}");
            ensure!(
                worker["pool"]["bad_completions"] == 0 && worker["pool"]["bad_receives"] == 0,
                "worker {i}: {worker:#}"
            );
            capacity += frames["capacity"].as_u64().context("capacity")?;
        }
        ensure!(
            self.number("/ledger/capacity")? == capacity && self.number("/ledger/held")? == 0,
            "{}",
            self.at("/ledger")?
        );
        for (name, expected) in [("bytes_copied_tx", tx_bytes), ("bytes_copied_rx", 0)] {
            ensure!(self.counter(name)? == expected, "{name} = {}, not {expected}", self.counter(name)?);
        }
        for name in ["rx_bad_descriptors", "kernel_rx_invalid_descs", "kernel_tx_invalid_descs"] {
            ensure!(self.port(name)? == 0, "{name} = {}", self.port(name)?);
        }
        for name in self.object("/totals")?.keys() {
            let parts: u64 = self.by_worker(name)?.iter().sum();
            ensure!(self.counter(name)? == parts, "{name}: {} in all, {parts} over workers", self.counter(name)?);
        }
        for (i, service) in self.list("/services")?.iter().enumerate() {
            let by_worker = service["by_worker"].as_array().context("by_worker")?;
            for name in self.object(&format!("/services/{i}/counts"))?.keys() {
                let parts: u64 = by_worker.iter().filter_map(|counts| counts[name].as_u64()).sum();
                ensure!(self.service(i, name)? == parts, "service {i}, {name}: {parts} over workers");
            }
        }
        Ok(())
    }

    fn at(&self, pointer: &str) -> Result<&Value> {
        self.stats.pointer(pointer).with_context(|| format!("no {pointer} in {:#}", self.stats))
    }

    fn number(&self, pointer: &str) -> Result<u64> {
        self.at(pointer)?.as_u64().with_context(|| format!("{pointer} is not a count"))
    }

    fn list(&self, pointer: &str) -> Result<&Vec<Value>> {
        self.at(pointer)?.as_array().with_context(|| format!("{pointer} is not a list"))
    }

    fn object(&self, pointer: &str) -> Result<&Map<String, Value>> {
        self.at(pointer)?.as_object().with_context(|| format!("{pointer} is not a table"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::process::ExitStatusExt;

    fn report() -> Report {
        let counters =
            |n: u64| json!({ "rx_frames": n, "drop_ip_version": n, "bytes_copied_tx": 0, "bytes_copied_rx": 0 });
        let worker = |n: u64| {
            json!({
                "counters": counters(n), "frames": { "capacity": 8, "free": 8, "whole": true },
                "pool": { "bad_completions": 0, "bad_receives": 0 },
            })
        };
        let stats = json!({
            "clean": true,
            "totals": counters(7),
            "ledger": { "capacity": 16, "free": 16, "held": 0 },
            "ports": [{ "stats": { "rx_bad_descriptors": 0, "kernel_rx_invalid_descs": 0, "kernel_tx_invalid_descs": 0, "rx_packets": 5 } }],
            "services": [{ "counts": { "received": 3 }, "by_worker": [{ "received": 1 }, { "received": 2 }] }],
            "workers": [worker(3), worker(4)],
        });
        Report { status: ExitStatus::from_raw(0), stats, output: String::new() }
    }

    #[test]
    fn counters_are_found_and_sums_compared() {
        let report = report();
        report.check().expect("a clean report");
        assert_eq!(report.counter("rx_frames").expect("total"), 7);
        assert_eq!(report.by_worker("rx_frames").expect("workers"), [3, 4]);
        assert_eq!((report.port("rx_packets").expect("port"), report.drops().expect("drops")), (5, 7));
        assert_eq!(report.service(0, "received").expect("service"), 3);
        assert!(report.counter("rx_farmes").is_err(), "a misspelt counter");
        report.drops_only(&["ip_version"]).expect("no other drop");
        assert!(report.drops_only(&[]).is_err() && report.drops_only(&["ip_version", "ip_versoin"]).is_err());
    }

    #[test]
    fn what_is_not_clean_is_told() {
        for (pointer, value) in [
            ("/clean", json!(false)),
            ("/totals/rx_frames", json!(8)),
            ("/totals/bytes_copied_rx", json!(1)),
            ("/workers/1/frames/free", json!(7)),
            ("/workers/0/pool/bad_receives", json!(1)),
            ("/ledger/capacity", json!(15)),
            ("/services/0/counts/received", json!(4)),
            ("/ports/0/stats/kernel_tx_invalid_descs", json!(1)),
        ] {
            let mut report = report();
            *report.stats.pointer_mut(pointer).expect("a field") = value;
            assert!(report.check().is_err(), "{pointer}");
        }
        let failed = Report { status: ExitStatus::from_raw(1 << 8), ..report() };
        assert!(failed.check().is_err(), "exit code 1");
    }
}
