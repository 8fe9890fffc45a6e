//! The periodic one-line summary.

use super::{
    figures::Figures,
    number::{grouped, scaled},
};
use crate::{service::Counts, telemetry::Counters};

/// Sums over all workers that rates are made of.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    uptime_s: f64,
    rx_packets: u64,
    rx_bytes: u64,
    tx_packets: u64,
    tx_bytes: u64,
    dropped: u64,
}

impl Sums {
    fn of(figures: &Figures<'_>) -> Self {
        let mut sums = Self { uptime_s: figures.uptime.as_secs_f64(), ..Self::default() };
        for snapshot in figures.snapshots() {
            let stats = &snapshot.port_stats;
            sums.rx_packets += stats.rx_packets;
            sums.rx_bytes += stats.rx_bytes;
            sums.tx_packets += stats.tx_packets;
            sums.tx_bytes += stats.tx_bytes;
            sums.dropped += stats.kernel_rx_dropped + stats.kernel_rx_ring_full + stats.rx_no_frame + stats.tx_refused;
            sums.dropped += dropped(Counters::NAMES, &snapshot.counters.values());
        }
        let services = 0..figures.board.labels().len();
        sums.dropped += services.map(|i| dropped(Counts::NAMES, &figures.board.totals(i))).sum::<u64>();
        sums
    }
}

/// The sum of all counters that count drops.
fn dropped(names: &[(&str, &str)], values: &[u64]) -> u64 {
    names.iter().zip(values).filter(|((name, _), _)| name.starts_with("drop")).map(|(_, value)| value).sum()
}

/// Makes summaries of what happened since the one before.
#[derive(Debug, Default)]
pub(super) struct Summary {
    last: Sums,
}

impl Summary {
    /// One line: rates since the last one, drops since then, frames.
    pub(super) fn line(&mut self, figures: &Figures<'_>) -> String {
        let now = Sums::of(figures);
        let last = std::mem::replace(&mut self.last, now);
        let seconds = (now.uptime_s - last.uptime_s).max(1e-3);
        let rate = |now: u64, last: u64| now.saturating_sub(last) as f64 / seconds;
        let ledger = figures.ledger();
        format!(
            "{:.0} s: rx {}packets/s {}bit/s, tx {}packets/s {}bit/s, {} dropped, {} of {} frames free",
            now.uptime_s,
            scaled(rate(now.rx_packets, last.rx_packets)),
            scaled(8.0 * rate(now.rx_bytes, last.rx_bytes)),
            scaled(rate(now.tx_packets, last.tx_packets)),
            scaled(8.0 * rate(now.tx_bytes, last.tx_bytes)),
            grouped(now.dropped.saturating_sub(last.dropped)),
            grouped(ledger.free.into()),
            grouped(ledger.capacity.into()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::figures::{
            WorkerFigures,
            tests::{config, port, snapshot},
        },
        service::Board,
    };
    use std::time::Duration;

    #[test]
    fn rates_are_since_the_last_line() {
        let config = config();
        let board = Board::new(config.services(), 1);
        let ports = [port(0)];
        let mut summary = Summary::default();
        let mut line = |packets, seconds| {
            let workers = vec![WorkerFigures { snapshot: Some(snapshot(0, packets)), error: None }];
            let uptime = Duration::from_secs(seconds);
            let figures =
                Figures { config: &config, ports: &ports, board: &board, workers, verdicts: Vec::new(), uptime };
            summary.line(&figures)
        };
        let first = line(20_000_000, 10);
        assert_eq!(
            first,
            "10 s: rx 2.00 Mpackets/s 1.60 Gbit/s, tx 0 packets/s 0 bit/s, 1 dropped, 64 of 64 frames free"
        );
        board.counts(0, 0).dropped_no_room.add(1_000);
        let second = line(20_005_000, 20);
        assert_eq!(
            second,
            "20 s: rx 500 packets/s 400.0 kbit/s, tx 0 packets/s 0 bit/s, 1,000 dropped, 64 of 64 frames free"
        );
    }
}
