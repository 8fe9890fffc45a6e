//! `mem-tcp-idle`: what an established connection holds on which nothing happens.

use super::{Checksum, Work, engine_host::EngineServer, peer::Peer};
use crate::{
    allocator::{InUse, in_use},
    mem::{FLOW, introduce},
    packet::Flow,
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Ports used of each of the peer's addresses.
const PORTS: std::ops::Range<u16> = 1024..61_024;
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// Options of `mem-tcp-idle`.
#[derive(Args, Debug)]
pub(crate) struct IdleArgs {
    /// Connections
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
}

/// What it found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdleResult {
    pub(crate) connections: usize,
    /// Of memory from the allocator, tables and what they keep free included.
    pub(crate) bytes_per_connection: f64,
    pub(crate) blocks_per_connection: f64,
    /// Of the pool.
    pub(crate) frames_held: u32,
}

/// Measures and prints.
pub(crate) fn run(args: &IdleArgs) -> Result<()> {
    let result = measure(args.connections)?;
    let IdleResult { connections, bytes_per_connection, blocks_per_connection, frames_held } = result;
    println!(
        "{connections} idle connections: {bytes_per_connection:.1} bytes and {blocks_per_connection:.2} blocks each, \
         {frames_held} frames in all"
    );
    Ok(())
}

/// Opens them and counts.
pub(crate) fn measure(connections: usize) -> Result<IdleResult> {
    open(connections).map(|(_, result)| result)
}

/// As [`measure`]; and nanoseconds for each data segment that another connection among them receives.
pub(crate) fn measure_active(connections: usize, segments: usize) -> Result<(IdleResult, f64)> {
    let (mut server, result) = open(connections)?;
    let source = SocketAddrV4::new(FIRST_ADDRESS, PORTS.end + 1);
    // Opening so many takes seconds, after which a neighbour is asked whether it is still there: that is not what is measured.
    introduce(&mut server, Flow { source, ..FLOW })?;
    let mut peer = Peer::new(Flow { source, ..FLOW });
    super::establish(&mut server, &mut peer)?;
    Ok((result, super::steady(&mut server, &mut peer, Work::Receive, segments as u64)?.ns_per_segment))
}

fn open(connections: usize) -> Result<(EngineServer, IdleResult)> {
    ensure!(connections > 0, "--connections: at least one");
    let mut server = EngineServer::new(FLOW, Checksum::Verify)?;
    let addresses = connections.div_ceil(PORTS.len());
    let address = |number: usize| {
        let last = u8::try_from(number + 2).ok().filter(|last| *last < 255).context("--connections: too many")?;
        Ok::<_, anyhow::Error>(Ipv4Addr::new(198, 18, 0, last))
    };
    for number in 0..addresses {
        let source = SocketAddrV4::new(address(number)?, FLOW.source.port());
        introduce(&mut server, Flow { source, ..FLOW })?;
    }
    // One at first, so that what is allocated once is there.
    establish(&mut server, SocketAddrV4::new(address(0)?, PORTS.end))?;
    let (before, free) = (in_use(), server.free_frames());
    for number in 0..connections {
        let port = PORTS.start + (number % PORTS.len()) as u16;
        establish(&mut server, SocketAddrV4::new(address(number / PORTS.len())?, port))
            .with_context(|| format!("connection {number}"))?;
    }
    let InUse { bytes, blocks } = in_use();
    let accepted = server.accepted();
    ensure!(accepted == connections as u64 + 1, "{accepted} connections accepted, not {}", connections + 1);
    let each = |value: isize| value as f64 / connections as f64;
    let result = IdleResult {
        connections,
        bytes_per_connection: each(bytes - before.bytes),
        blocks_per_connection: each(blocks - before.blocks),
        frames_held: free.saturating_sub(server.free_frames()),
    };
    Ok((server, result))
}

fn establish(server: &mut EngineServer, source: SocketAddrV4) -> Result<()> {
    let mut peer = Peer::new(Flow { source, ..FLOW });
    super::establish(server, &mut peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_connections_hold_no_frames_and_at_most_a_kibibyte() {
        let result = measure(3000).unwrap();
        assert_eq!(result.frames_held, 0);
        assert!(result.bytes_per_connection > 100.0 && result.bytes_per_connection <= 1024.0, "{result:?}");
    }
}
