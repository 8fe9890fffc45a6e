//! One connection over a link that loses: what the system sends, a kernel receives, with SACK.

use super::{Client, PORT, framewire_side, kernel_side, result_of, stall_note, target};
use crate::{
    compare::{
        Plan,
        bed::{Bed, Running, Side},
        report::Better,
        systems::{Appliance, FRAMEWIRE, Netstack, System, smoltcp_server},
        turns::{Contender, Contest, Figure, Row, Turn},
    },
    tcp::BulkResult,
};
use anyhow::{Context, Result};

/// Of a hundred packets.
const LOSSES: [f64; 4] = [0.0, 0.1, 1.0, 5.0];

/// The suite `tcp-loss`.
pub(in crate::compare) fn contest(plan: &Plan) -> Contest {
    let row = |&percent: &f64| {
        let row = Row::new(format!("{percent} % lost"), "Gbit/s", Better::Higher);
        row.over("goodput over loss", "packets lost, %", percent)
    };
    let mut senders = vec![Sender::Kernel, Sender::Smoltcp];
    senders.extend(plan.netstack.clone().map(Sender::Netstack));
    senders.push(Sender::Framewire(Appliance::new(&plan.framewire)));
    let contenders = senders.into_iter().map(|sender| Box::new(sender) as Box<dyn Contender>);
    Contest { rows: LOSSES.iter().map(row).collect(), contenders: contenders.collect() }
}

/// Who sends.
#[derive(Debug)]
enum Sender {
    Kernel,
    Smoltcp,
    Netstack(Netstack),
    Framewire(Appliance),
}

impl Sender {
    /// On the system's side; the kernel on the other has its address.
    fn start(&self, bed: &Bed) -> Result<Running> {
        if let Self::Framewire(appliance) = self {
            let service = format!("kind = \"tcp-source\"\nlisten = \"{}\"", target());
            return framewire_side(bed, appliance, &service, Client::Kernel, "");
        }
        kernel_side(bed, Side::Peer)?;
        if let Self::Kernel = self {
            kernel_side(bed, Side::Dut)?;
            let arguments = ["kernel-tcp-server", "--work", "source", "--listen", &target()];
            return Running::start(bed.own_command(Side::Dut, &arguments), "ready");
        }
        for side in [Side::Dut, Side::Peer] {
            // As in `tcp-bulk`: frames as they are on a wire.
            bed.features(side, &["tx", "off", "tso", "off", "gso", "off", "gro", "off"])?;
        }
        if let Self::Netstack(netstack) = self {
            return netstack.serve(bed, "tcp-source");
        }
        Running::start(bed.own_command(Side::Dut, &smoltcp_server(&PORT.to_string(), "tcp-source")), "ready")
    }

    fn measure_at(&self, plan: &Plan, percent: f64) -> Result<(String, Figure)> {
        let bed = Bed::create(plan.cores)?;
        let server = self.start(&bed)?;
        let percent = percent.to_string();
        let lossy = ["lossy", "--interface", Side::Peer.interface(), "--percent", &percent];
        let lossy = Running::start(bed.own_command(Side::Peer, &lossy), "ready")?;
        let client = ["tcp-bulk", "--target", &target(), "--direction", "receive"];
        let result: BulkResult = result_of(plan, bed.own_command(Side::Peer, &client))?;
        let about = server.about.clone();
        lossy.stop()?;
        server.stop()?;
        Ok((about, Figure { note: stall_note(&result), ..result.gbit_per_second.into() }))
    }
}

impl Contender for Sender {
    fn name(&self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Smoltcp => "smoltcp-af-packet",
            Self::Netstack(netstack) => netstack.name(),
            Self::Framewire(_) => FRAMEWIRE,
        }
    }

    fn check(&self) -> Result<()> {
        match self {
            Self::Kernel | Self::Smoltcp => Ok(()),
            Self::Netstack(netstack) => netstack.check(),
            Self::Framewire(appliance) => appliance.check(),
        }
    }

    fn measure(&self, plan: &Plan) -> Result<Turn> {
        let mut turn = Turn::default();
        for percent in LOSSES {
            let (about, figure) = self.measure_at(plan, percent).with_context(|| format!("{percent} % lost"))?;
            turn.about = Some(about);
            turn.figures.push(figure);
        }
        Ok(turn)
    }
}
