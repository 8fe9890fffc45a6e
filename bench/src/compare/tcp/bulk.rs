//! One connection, as many bytes as go.

use super::{kernel_side, patience};
use crate::compare::{
    Plan,
    bed::{Bed, DUT_ADDRESS, Running, Side, run_to_end},
    report::Better,
    turns::{Contender, Contest, Figure, Row, Turn},
};
use anyhow::{Context, Result};
use serde_json::Value;

/// Ethernet's, what fits a frame of 4,096 bytes, and jumbo.
const MTUS: [u32; 3] = [1500, 3498, 9000];

/// The suite `tcp-bulk`.
pub(in crate::compare) fn contest(_plan: &Plan) -> Contest {
    let row = |mtu| Row { scenario: format!("MTU {mtu}"), unit: "Gbit/s", better: Better::Higher };
    let kernel = |kernel: Kernel| Box::new(kernel) as Box<dyn Contender>;
    let contenders = [Kernel::Offload, Kernel::OffloadSendfile, Kernel::Gro, Kernel::Plain].map(kernel).into();
    Contest { rows: MTUS.map(row).into(), contenders }
}

/// iperf3 at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    /// A veth's default: 64 KiB segments pass whole, without a checksum.
    Offload,
    /// As that, and the sender does not copy.
    OffloadSendfile,
    /// Each packet passes on its own; the receiver puts them together again.
    Gro,
    /// Each packet passes on its own.
    Plain,
}

impl Kernel {
    fn features(self) -> &'static [&'static str] {
        match self {
            Self::Offload | Self::OffloadSendfile => &["tso", "on", "gso", "on", "gro", "off"],
            Self::Gro => &["tso", "off", "gso", "off", "gro", "on"],
            Self::Plain => &["tso", "off", "gso", "off", "gro", "off"],
        }
    }

    fn load(self, plan: &Plan, mtu: u32) -> Result<f64> {
        let bed = Bed::with_mtu(plan.cores, mtu)?;
        for side in [Side::Dut, Side::Peer] {
            kernel_side(&bed, side)?;
            bed.features(side, self.features())?;
        }
        let mut server = bed.command(Side::Dut, "iperf3");
        server.args(["--server", "--one-off", "--bind", DUT_ADDRESS, "--forceflush"]);
        let _server = Running::start(server, "Server listening")?;
        // Whole seconds only.
        let (seconds, warm_up) = (plan.seconds.ceil(), plan.warm_up.ceil());
        let mut client = bed.command(Side::Peer, "iperf3");
        client.args([
            "--client",
            DUT_ADDRESS,
            "--json",
            "--time",
            &seconds.to_string(),
            "--omit",
            &warm_up.to_string(),
        ]);
        if self == Self::OffloadSendfile {
            client.arg("--zerocopy");
        }
        let output = run_to_end(client, patience(seconds + warm_up)).context("iperf3")?;
        let result: Value = serde_json::from_str(&output).with_context(|| format!("no JSON:\n{output}"))?;
        let bits = &result["end"]["sum_received"]["bits_per_second"];
        Ok(bits.as_f64().with_context(|| format!("no figure in:\n{output}"))? / 1e9)
    }
}

impl Contender for Kernel {
    fn name(&self) -> &'static str {
        match self {
            Self::Offload => "kernel-offload",
            Self::OffloadSendfile => "kernel-sendfile",
            Self::Gro => "kernel-gro",
            Self::Plain => "kernel",
        }
    }

    fn check(&self) -> Result<()> {
        super::installed("iperf3", "iperf3")
    }

    fn measure(&self, plan: &Plan) -> Result<Turn> {
        let figure = |mtu| self.load(plan, mtu).map(Figure::from).with_context(|| format!("MTU {mtu}"));
        Ok(Turn { about: None, figures: MTUS.into_iter().map(figure).collect::<Result<_>>()? })
    }
}
