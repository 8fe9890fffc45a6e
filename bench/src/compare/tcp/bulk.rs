//! One connection, as many bytes as go.

use super::{
    Client, PORT, engine_client, framewire_side, installed, kernel_side, patience, result_of, stall_note, target,
};
use crate::{
    compare::{
        Plan,
        bed::{Bed, DUT_ADDRESS, Running, Side, run_to_end},
        report::Better,
        systems::{Appliance, FRAMEWIRE, smoltcp_server},
        turns::{Contender, Contest, Figure, Row, Turn},
    },
    tcp::BulkResult,
};
use anyhow::{Context, Result};
use serde_json::Value;

/// Ethernet's, what fits a frame of 4,096 bytes, and jumbo.
const MTUS: [u32; 3] = [1500, 3498, 9000];

/// Who sends to whom; the kernel's systems have the kernel at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Same,
    FromKernel,
    ToKernel,
}

impl Path {
    const ALL: [Self; 3] = [Self::Same, Self::FromKernel, Self::ToKernel];

    fn suffix(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::FromKernel => ", kernel sends",
            Self::ToKernel => ", kernel receives",
        }
    }
}

/// The suite `tcp-bulk`.
pub(in crate::compare) fn contest(plan: &Plan) -> Contest {
    let row = |mtu: u32, path: Path| {
        let row = Row::new(format!("MTU {mtu}{}", path.suffix()), "Gbit/s", Better::Higher);
        row.over(format!("throughput over the MTU{}", path.suffix()), "MTU, bytes", f64::from(mtu))
    };
    let kernel = |kernel: Kernel| Box::new(kernel) as Box<dyn Contender>;
    let mut contenders: Vec<_> =
        [Kernel::Offload, Kernel::OffloadSendfile, Kernel::Gro, Kernel::Plain].map(kernel).into();
    contenders.extend(["zerocopy", "io-uring"].map(|way| Box::new(KernelZeroCopy { way }) as Box<dyn Contender>));
    contenders.push(Box::new(Smoltcp));
    contenders.push(Box::new(Framewire { appliance: Appliance::new(&plan.framewire) }));
    Contest { rows: MTUS.iter().flat_map(|&mtu| Path::ALL.map(|path| row(mtu, path))).collect(), contenders }
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
        // Whole seconds only, which a quick run does not have twice.
        let (seconds, warm_up) = (plan.seconds.ceil(), if plan.quick { 0.0 } else { plan.warm_up.ceil() });
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
        installed("iperf3", "iperf3")
    }

    fn measure(&self, plan: &Plan) -> Result<Turn> {
        let mut figures = Vec::new();
        for mtu in MTUS {
            let figure = Figure::from(self.load(plan, mtu).with_context(|| format!("MTU {mtu}"))?);
            figures.extend(Path::ALL.map(|_| figure.clone()));
        }
        Ok(Turn { about: None, figures })
    }
}

/// This program's server and client on the kernel's sockets, with segmentation offload; the client sends without a copy.
#[derive(Debug)]
struct KernelZeroCopy {
    /// As `tcp-bulk --way` calls it.
    way: &'static str,
}

impl KernelZeroCopy {
    fn load(&self, plan: &Plan, mtu: u32) -> Result<Figure> {
        let bed = Bed::with_mtu(plan.cores, mtu)?;
        for side in [Side::Dut, Side::Peer] {
            kernel_side(&bed, side)?;
            bed.features(side, Kernel::Offload.features())?;
        }
        let server = bed.own_command(Side::Dut, &["kernel-tcp-server", "--work", "sink", "--listen", &target()]);
        let server = Running::start(server, "ready")?;
        let command = ["tcp-bulk", "--target", &target(), "--direction", "send", "--way", self.way];
        let result: BulkResult = result_of(plan, bed.own_command(Side::Peer, &command))?;
        server.stop()?;
        let copied = result.kernel_copied.filter(|&share| share > 0.0);
        let note = copied.map(|share| format!("the kernel copied {:.0} % of the sends all the same", share * 100.0));
        Ok(Figure { note, ..result.gbit_per_second.into() })
    }
}

impl Contender for KernelZeroCopy {
    fn name(&self) -> &'static str {
        if self.way == "io-uring" { "kernel-io-uring" } else { "kernel-zerocopy" }
    }

    fn measure(&self, plan: &Plan) -> Result<Turn> {
        let mut figures = Vec::new();
        for mtu in MTUS {
            let figure = self.load(plan, mtu).with_context(|| format!("MTU {mtu}"))?;
            figures.extend(Path::ALL.map(|_| figure.clone()));
        }
        let about = if self.way == "io-uring" { "IORING_OP_SEND_ZC" } else { "send with MSG_ZEROCOPY" };
        Ok(Turn { about: Some(format!("{about}, segmentation offload as of kernel-offload")), figures })
    }
}

/// smoltcp on AF_PACKET sockets.
#[derive(Debug)]
struct Smoltcp;

impl Smoltcp {
    fn load(&self, plan: &Plan, mtu: u32, path: Path) -> Result<(String, Figure)> {
        let bed = Bed::with_mtu(plan.cores, mtu)?;
        let service = if path == Path::ToKernel { "tcp-source" } else { "tcp-sink" };
        for side in [Side::Dut, Side::Peer] {
            // Frames as they are on a wire: none over the MTU, all with checksums.
            bed.features(side, &["tx", "off", "tso", "off", "gso", "off", "gro", "off"])?;
        }
        if path != Path::Same {
            kernel_side(&bed, Side::Peer)?;
        }
        let port = PORT.to_string();
        let server = Running::start(bed.own_command(Side::Dut, &smoltcp_server(&port, service)), "ready")?;
        let command = if path == Path::Same { "smoltcp-tcp-bulk" } else { "tcp-bulk" };
        let direction = if path == Path::ToKernel { "receive" } else { "send" };
        let mut command = bed.own_command(Side::Peer, &[command, "--target", &target(), "--direction", direction]);
        if path == Path::Same {
            command.args(["--interface", Side::Peer.interface(), "--address", Side::Peer.network()]);
        }
        let result: BulkResult = result_of(plan, command)?;
        let about = server.about.clone();
        server.stop()?;
        Ok((about, result.gbit_per_second.into()))
    }
}

impl Contender for Smoltcp {
    fn name(&self) -> &'static str {
        "smoltcp-af-packet"
    }

    fn measure(&self, plan: &Plan) -> Result<Turn> {
        every_path(|mtu, path| self.load(plan, mtu, path))
    }
}

/// A turn of a contender that is measured at every MTU and on every path.
fn every_path(load: impl Fn(u32, Path) -> Result<(String, Figure)>) -> Result<Turn> {
    let mut turn = Turn::default();
    for mtu in MTUS {
        for path in Path::ALL {
            let (about, figure) = load(mtu, path).with_context(|| format!("MTU {mtu}{}", path.suffix()))?;
            turn.about = Some(about);
            turn.figures.push(figure);
        }
    }
    Ok(turn)
}

/// The appliance, and this program's clients.
#[derive(Debug)]
struct Framewire {
    appliance: Appliance,
}

impl Framewire {
    fn load(&self, plan: &Plan, mtu: u32, path: Path) -> Result<(String, Figure)> {
        let bed = Bed::with_mtu(plan.cores, mtu)?;
        let (kind, client) = match path {
            Path::Same => ("tcp-sink", Client::Same),
            Path::FromKernel => ("tcp-sink", Client::Kernel),
            Path::ToKernel => ("tcp-source", Client::Kernel),
        };
        let service = format!("kind = \"{kind}\"\nlisten = \"{}\"", target());
        // An AF_XDP sender runs a veth peer's receive work after each packet, unless that has a thread; a kernel sender does so after a burst.
        let interface = if path == Path::Same { "napi_threads = true\nrings = { rx = 1024, tx = 1024 }" } else { "" };
        let server = framewire_side(&bed, &self.appliance, &service, client, interface)?;
        let mut command = match path {
            Path::Same => bed.own_command(Side::Peer, &[&["fw-tcp-bulk"], &engine_client()[..]].concat()),
            Path::FromKernel | Path::ToKernel => bed.own_command(Side::Peer, &["tcp-bulk"]),
        };
        let direction = if path == Path::ToKernel { "receive" } else { "send" };
        command.args(["--target", &target(), "--direction", direction]);
        let result: BulkResult = result_of(plan, command)?;
        let stall = stall_note(&result);
        let again = result.retransmissions.filter(|&count| count > 0).map(|count| format!("{count} retransmissions"));
        let notes: Vec<String> = stall.into_iter().chain(again).collect();
        let note = (!notes.is_empty()).then(|| notes.join(", "));
        let about = server.about.clone();
        server.stop()?;
        Ok((about, Figure { note, ..result.gbit_per_second.into() }))
    }
}

impl Contender for Framewire {
    fn name(&self) -> &'static str {
        FRAMEWIRE
    }

    fn check(&self) -> Result<()> {
        self.appliance.check()
    }

    fn measure(&self, plan: &Plan) -> Result<Turn> {
        every_path(|mtu, path| self.load(plan, mtu, path))
    }
}
