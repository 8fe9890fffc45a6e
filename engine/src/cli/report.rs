//! All counters as text, each with its sentence.

use super::{figures::Figures, number::grouped};
use crate::{runtime::Snapshot, service::Counts, telemetry::Counters};
use std::fmt::{self, Write};

/// Lines of one part: name, value, sentence.
type Line<'a> = (&'a str, u64, &'a str);

/// The figures, to print; `all`: also what is zero.
pub(super) fn text(figures: &Figures<'_>, all: bool) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_all(&mut out, figures, all);
    out
}

fn write_all(out: &mut String, figures: &Figures<'_>, all: bool) -> fmt::Result {
    writeln!(out, "== counters after {:.1} s", figures.uptime.as_secs_f64())?;
    let totals = figures.totals().values();
    let lines = Counters::NAMES.iter().zip(totals).map(|((name, help), value)| (*name, value, *help));
    part(out, "stack, all workers", lines.collect(), all)?;
    for (i, worker) in figures.workers.iter().enumerate() {
        if let Some(error) = &worker.error {
            writeln!(out, "worker {i} FAILED: {error}")?;
        }
        match &worker.snapshot {
            Some(snapshot) => write_worker(out, i, snapshot, all)?,
            None => writeln!(out, "worker {i} left no figures")?,
        }
    }
    if !figures.verdicts.is_empty() {
        let lines = figures.verdicts.iter().map(|&(name, help, value)| (name, value, help));
        part(out, "XDP program", lines.collect(), all)?;
    }
    for (i, label) in figures.board.labels().iter().enumerate() {
        let lines =
            Counts::NAMES.iter().zip(figures.board.totals(i)).map(|((name, help), value)| (*name, value, *help));
        part(out, &format!("service {label}"), lines.collect(), all)?;
    }
    write!(out, "{}", figures.ledger())
}

fn write_worker(out: &mut String, index: usize, snapshot: &Snapshot, all: bool) -> fmt::Result {
    let Snapshot { port, port_stats, counters: _, pool, ledger: _, usage, turns, sleeps, stages } = snapshot;
    let mut lines: Vec<Line<'_>> = port_stats.iter().map(|(name, value)| (name, value, port_help(name))).collect();
    lines.extend([
        ("bad_completions", pool.bad_completions, "Completions for an address that was not with the kernel to send."),
        ("bad_receives", pool.bad_receives, "Received descriptors for an address that was not lent."),
        ("alloc_failures", pool.alloc_failures, "Requests for a buffer that found none."),
        ("udp_sockets", usage.udp_sockets as u64, "Open UDP sockets."),
        ("raw_sockets", usage.raw_sockets as u64, "Open raw sockets."),
        ("neighbours", usage.neighbours as u64, "Entries of the neighbour cache."),
        ("neighbours_parked", usage.neighbours_parked as u64, "Packets that wait for a neighbour's answer."),
        ("reassembly_frames", usage.reassembly_frames as u64, "Frames held by reassembly."),
        ("turns", *turns, "Turns of the worker's loop."),
        ("sleeps", *sleeps, "Times that the worker slept."),
    ]);
    part(out, &format!("worker {index}, {} queue {}", port.name, port.queue), lines, all)?;
    if !stages.is_empty() {
        writeln!(
            out,
            "  {:<10} {:>12} {:>10} {:>10} {:>10} {:>10}",
            "stage", "turns", "p50 ns", "p99 ns", "p99.9 ns", "max ns"
        )?;
        for stage in stages {
            let [p50, p99, p999, max] = [stage.p50_ns, stage.p99_ns, stage.p999_ns, stage.max_ns].map(grouped);
            writeln!(
                out,
                "  {:<10} {:>12} {p50:>10} {p99:>10} {p999:>10} {max:>10}",
                stage.stage,
                grouped(stage.count)
            )?;
        }
    }
    Ok(())
}

fn part(out: &mut String, title: &str, mut lines: Vec<Line<'_>>, all: bool) -> fmt::Result {
    lines.retain(|(_, value, _)| all || *value > 0);
    writeln!(out, "{title}{}", if lines.is_empty() { ": all zero" } else { "" })?;
    for (name, value, help) in lines {
        writeln!(out, "  {name:<26} {:>18}  {help}", grouped(value))?;
    }
    Ok(())
}

/// The sentence of a port's counter.
fn port_help(name: &str) -> &'static str {
    match name {
        "rx_packets" => "Packets handed to the stack.",
        "rx_bytes" => "Bytes of them.",
        "tx_packets" => "Packets posted to the TX ring.",
        "tx_bytes" => "Bytes of them.",
        "rx_bad_descriptors" => "Descriptors that the kernel handed up and that were refused.",
        "rx_copied_bytes" => "Bytes copied into frames because the driver received them into memory of its own.",
        "rx_no_frame" => "Packets dropped because no frame was free to copy them into.",
        "tx_refused" => "Packets dropped because the driver refused them.",
        "tx_unsendable" => "Packets that can never be sent: longer than the ring or the port's pieces.",
        "tx_kicks" => "System calls that woke the kernel to send.",
        "tx_kicks_soft_errors" => "Of those, ended with a soft error and tried again.",
        "rx_wakeups" => "System calls that woke the kernel to receive.",
        "kernel_rx_dropped" => "Kernel: packets dropped for other reasons than the rings.",
        "kernel_rx_invalid_descs" => "Kernel: our fill descriptors were invalid.",
        "kernel_tx_invalid_descs" => "Kernel: our TX descriptors were invalid.",
        "kernel_rx_ring_full" => "Kernel: packets dropped because the RX ring was full.",
        "kernel_rx_fill_ring_empty" => "Kernel: the fill ring was empty when a packet came.",
        "kernel_tx_ring_empty" => "Kernel: the TX ring was empty when it looked.",
        "captured" => "Packets handed to the writer of the capture.",
        "capture_dropped" => {
            "Packets that are not in the capture: its writer was behind, or the file could not be written."
        }
        "capture_failed" => "1: the capture's file could not be written any more.",
        _ => name.strip_prefix("fault_rx_").or_else(|| name.strip_prefix("fault_tx_")).map_or("", fault_help),
    }
}

/// The sentence of a fault on purpose.
fn fault_help(fault: &str) -> &'static str {
    match fault {
        "seen" => "Faults on purpose: packets that could have had one.",
        "dropped" => "Faults on purpose: packets that vanished.",
        "duplicated" => "Faults on purpose: packets that came twice.",
        "reordered" => "Faults on purpose: packets that another one overtook.",
        "corrupted" => "Faults on purpose: packets of which a bit flipped.",
        "truncated" => "Faults on purpose: packets that lost their end.",
        "delayed" => "Faults on purpose: packets that came later.",
        "held_full" => "Faults on purpose: packets that passed at once because too many are held.",
        "no_frame" => "Faults on purpose: packets that passed unchanged because no frame was free for a copy.",
        "dropped_at_close" => "Faults on purpose: packets held when the port was closed.",
        _ => "",
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
        port::PortStats,
        service::Board,
    };
    use std::time::Duration;

    #[test]
    fn every_port_counter_has_a_sentence() {
        let all =
            PortStats { faults: Some(Default::default()), capture: Some(Default::default()), ..Default::default() };
        assert_eq!(all.iter().count(), PortStats::default().iter().count() + 2 * 10 + 3);
        for (name, _) in all.iter() {
            assert!(port_help(name).ends_with('.'), "{name}");
        }
    }

    #[test]
    fn zeros_are_left_out_unless_asked_for() {
        let config = config();
        let board = Board::new(config.services(), 2);
        let ports = [port(0), port(1)];
        let workers = vec![
            WorkerFigures { snapshot: Some(snapshot(0, 1_234_567)), error: None },
            WorkerFigures { snapshot: None, error: Some("sendto on eth1: gone".into()) },
        ];
        let figures = Figures {
            config: &config,
            ports: &ports,
            board: &board,
            workers,
            verdicts: vec![("redirected_owned", "Frames to an address.", 7)],
            uptime: Duration::from_millis(1_500),
        };
        let short = text(&figures, false);
        for expected in [
            "== counters after 1.5 s",
            "  rx_frames                           1,234,567  Ethernet frames taken from ports.",
            "  drop_udp_checksum                           1  UDP checksum wrong.",
            "worker 0, eth1 queue 0",
            "worker 1 FAILED: sendto on eth1: gone\nworker 1 left no figures",
            "redirected_owned                            7  Frames to an address.",
            "service udp-echo on 10.0.0.1:7: all zero",
            "64 frames: 64 free",
        ] {
            assert!(short.contains(expected), "{expected}\nin\n{short}");
        }
        assert!(!short.contains("drop_ip_checksum"), "{short}");
        let long = text(&figures, true);
        assert!(long.contains("drop_ip_checksum") && long.contains("sequence_missing"), "{long}");
    }
}
