//! Instructions counted by callgrind: no clock, so no noise.

use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Two runs of different length: what is not done for each packet cancels out.
const COUNTS: [usize; 2] = [6_400, 12_800];

/// A function of this program, which nothing else is inlined into or from, and all that it calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Collect {
    Batch,
    Acks,
    Stage,
}

impl Collect {
    fn pattern(self) -> &'static str {
        match self {
            Self::Batch => "--toggle-collect=*work_of_a_batch*",
            Self::Acks => "--toggle-collect=*work_of_acks*",
            Self::Stage => "--toggle-collect=*work_of_a_stage*",
        }
    }
}

/// Instructions for each packet of this program run with these arguments, to which the number of packets is added.
pub(crate) fn instructions_each(collect: Collect, arguments: &[String]) -> Result<f64> {
    let [short, long] = COUNTS.map(|packets| count(collect, arguments, packets));
    let ((short, short_packets), (long, long_packets)) = (short?, long?);
    ensure!(
        long > short && long_packets > short_packets,
        "callgrind counted {short} and {long} instructions: it did not see the measured function"
    );
    Ok((long - short) as f64 / (long_packets - short_packets) as f64)
}

/// Instructions, and for how many packets.
fn count(collect: Collect, arguments: &[String], packets: usize) -> Result<(u64, u64)> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no", collect.pattern()]);
    command.arg(std::env::current_exe()?).args(arguments).arg(packets.to_string());
    let output = command.output().context("valgrind (Debian: valgrind; scripts/bench installs it)")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind ended with {}:\n{text}", output.status);
    let collected = text.lines().find_map(|line| line.split_once("Collected :")).context("no count from callgrind")?.1;
    let instructions = collected.trim().parse().with_context(|| format!("callgrind counted {collected:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let counted = said.split_once('(').and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    Ok((instructions, counted.with_context(|| format!("no number of packets in {said:?}"))?))
}
