//! Instructions counted by callgrind: no clock, so no noise.

use super::{MemSystem, Work};
use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Two runs of different length: what is not done for each packet cancels out.
const PACKETS: [usize; 2] = [6_400, 12_800];

/// Instructions that stack and application execute for a packet.
pub(crate) fn instructions_per_packet(system: MemSystem, work: Work, payload_bytes: usize) -> Result<f64> {
    let [short, long] = PACKETS.map(|packets| count(system, work, payload_bytes, packets));
    let (short, long) = (short?, long?);
    ensure!(long > short, "callgrind counted {short} and {long} instructions: it did not see the measured function");
    Ok((long - short) as f64 / (PACKETS[1] - PACKETS[0]) as f64)
}

fn count(system: MemSystem, work: Work, payload_bytes: usize, packets: usize) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"]);
    command.arg("--toggle-collect=*work_of_a_batch*");
    command.arg(std::env::current_exe()?);
    command.args(["mem", "--system", system.name(), "--work", work.name()]);
    command.args(["--payload-bytes", &payload_bytes.to_string(), "--packets", &packets.to_string()]);
    let output = command.output().context("valgrind (Debian: valgrind; scripts/bench installs it)")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind ended with {}:\n{text}", output.status);
    let collected = text.lines().find_map(|line| line.split_once("Collected :")).context("no count from callgrind")?.1;
    collected.trim().parse().with_context(|| format!("callgrind counted {collected:?}"))
}
