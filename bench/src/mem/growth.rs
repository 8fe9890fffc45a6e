//! `growth`: what something costs that lies idle, and what it costs the rest: memory for each, and the time of a packet that has nothing to do with them.

use super::{FLOW, Work, engine, ns_of, tcp};
use crate::{affinity, allocator::in_use};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use framewire::{
    port::MacAddr,
    proto::{IfaceId, route::Route},
    socket::Net,
    stack::{Stack, StackConfig},
    time::Duration,
    wire::Ipv4Net,
};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddrV4};

const PAYLOAD_BYTES: usize = 64;
/// First port of the idle sockets.
const PORTS_FROM: usize = 1024;
/// Nothing of what is measured takes as long.
const FAR: Duration = Duration::from_secs(3600);

/// Of what there is more and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Of {
    /// TCP connections on which nothing happens; a data segment of another one is what is timed
    Connections,
    /// UDP sockets to which nothing comes; an echoed datagram is what is timed, here and below
    Sockets,
    /// Routes, none of which is taken
    Routes,
    /// Neighbours to which nothing goes
    Neighbours,
    /// Timers that are not due
    Timers,
}

impl Of {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Sockets => "sockets",
            Self::Routes => "routes",
            Self::Neighbours => "neighbours",
            Self::Timers => "timers",
        }
    }

    /// How many, up to what the engine takes or a machine may have.
    pub(crate) fn counts(self) -> &'static [usize] {
        match self {
            Self::Connections => &[1, 1_000, 10_000, 100_000, 1_000_000],
            Self::Sockets => &[1, 1_000, 10_000, 60_000],
            Self::Routes => &[1, 100, 1_000, 4_000],
            Self::Neighbours => &[1, 1_000, 10_000, 100_000],
            Self::Timers => &[1, 1_000, 100_000, 1_000_000],
        }
    }
}

/// Options of `growth`.
#[derive(Args, Debug)]
pub(crate) struct GrowthArgs {
    /// What there is much of
    #[arg(long, value_enum)]
    of: Of,
    /// How many
    #[arg(long)]
    count: usize,
    /// Packets timed
    #[arg(long, default_value_t = 100_000)]
    packets: usize,
    /// Core to run on
    #[arg(long)]
    core: Option<usize>,
}

/// What `growth` prints.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct GrowthResult {
    /// Memory from the allocator, tables and what they keep free included, divided by their number.
    pub(crate) bytes_each: f64,
    /// Median over batches of a packet's time.
    pub(crate) ns_per_packet: f64,
}

/// Measures and prints.
pub(crate) fn run(args: &GrowthArgs) -> Result<()> {
    affinity::pin(args.core)?;
    println!("{}", serde_json::to_string(&measure(args.of, args.count, args.packets)?)?);
    Ok(())
}

fn measure(of: Of, count: usize, packets: usize) -> Result<GrowthResult> {
    ensure!(count > 0, "--count: at least one");
    if of == Of::Connections {
        let (idle, ns_per_packet) = tcp::idle::measure_active(count, packets)?;
        return Ok(GrowthResult { bytes_each: idle.bytes_per_connection, ns_per_packet });
    }
    let mut config = StackConfig::new(engine::SEED);
    // Beside the one that is spoken to.
    config.neighbours.entries_max = config.neighbours.entries_max.max(2 * count);
    let mut bytes = 0;
    let mut engine = engine::Engine::with(FLOW, Work::Echo, PAYLOAD_BYTES, config, |stack, iface| {
        let before = in_use();
        for number in 0..count {
            add(of, stack, iface, number).with_context(|| format!("{} {number}", of.name()))?;
        }
        bytes = in_use().bytes - before.bytes;
        Ok(())
    })?;
    let ns_per_packet = ns_of(&mut engine, Work::Echo, PAYLOAD_BYTES, packets)?;
    Ok(GrowthResult { bytes_each: bytes as f64 / count as f64, ns_per_packet })
}

fn add(of: Of, stack: &mut Stack, iface: IfaceId, number: usize) -> Result<()> {
    // 10.0.0.0/8: nobody here is in it.
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + number as u32);
    match of {
        Of::Sockets => {
            let port = u16::try_from(PORTS_FROM + number).context("no port left")?;
            Net::new(stack).udp_bind(SocketAddrV4::new(*FLOW.target.ip(), port))?;
        }
        Of::Routes => {
            let net = Ipv4Net::new(address, 32).context("a prefix of 32 bits")?;
            let next_hop = Some(*FLOW.source.ip());
            stack.add_route(Route { net, next_hop, iface, source: None, metric: 0 })?;
        }
        Of::Neighbours => {
            let mac = MacAddr([2, 1, 0, (number >> 16) as u8, (number >> 8) as u8, number as u8]);
            stack.add_static_neighbour(iface, address, mac).context("no room")?;
        }
        Of::Timers => stack.set_app_timer(FAR + Duration::from_micros(number as u64), number as u64),
        Of::Connections => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_can_be_had_in_hundreds() {
        for &of in Of::value_variants() {
            let result = measure(of, 300, 1000).unwrap_or_else(|why| panic!("{of:?}: {why:#}"));
            assert!(result.ns_per_packet > 0.0, "{of:?}: {result:?}");
            assert!(result.bytes_each > 8.0 && result.bytes_each < 4096.0, "{of:?}: {result:?}");
        }
    }
}
