//! The base line: a raw AF_XDP loop that sends each received frame back from where it lies.
//!
//! It does what any such loop must and nothing else: 64 descriptors at a time, RX descriptor to TX descriptor, completion to
//! fill, one `sendto` a turn. No pool, no accounting, no checks of what the kernel hands up.

use crate::{
    affinity, stop,
    xsk::{Xsk, XskConfig, kick},
};
use anyhow::Result;
use clap::Args;
use framewire::ring::{CompAddr, FillAddr, TxDesc};

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Ethernet addresses swapped.
    SwapMac,
    /// Ethernet and IPv4 addresses and UDP ports swapped, when it is such a packet; both checksums stay right.
    UdpEcho,
}

/// Options of `raw-loop`.
#[derive(Args, Debug)]
pub(crate) struct ReflectArgs {
    /// Interface to take over (queue 0, every frame)
    #[arg(long, short)]
    interface: String,
    /// Core to run on
    #[arg(long)]
    core: Option<usize>,
    /// Swap IPv4 addresses and UDP ports too
    #[arg(long)]
    udp_echo: bool,
    /// Descriptors a turn
    #[arg(long, default_value_t = 64)]
    batch: u32,
    /// Packets that one sendto may send (Linux 6.17 and newer; 32 without)
    #[arg(long, default_value_t = XskConfig::default().tx_budget)]
    tx_budget: u32,
    /// Entries of each ring
    #[arg(long, default_value_t = XskConfig::default().ring_entries)]
    ring_entries: u32,
    /// Frames of 2048 bytes
    #[arg(long, default_value_t = XskConfig::default().frames)]
    frames: u32,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(args: &ReflectArgs) -> Result<()> {
    affinity::pin(args.core)?;
    let config = XskConfig {
        tx_budget: args.tx_budget,
        ring_entries: args.ring_entries,
        frames: args.frames.max(args.ring_entries),
        ..XskConfig::default()
    };
    let mut xsk = Xsk::open(&args.interface, config)?;
    println!("ready: {}", xsk.bound);
    let packets = match if args.udp_echo { Work::UdpEcho } else { Work::SwapMac } {
        Work::SwapMac => reflect(&mut xsk, args.batch, swap_macs),
        Work::UdpEcho => reflect(&mut xsk, args.batch, swap_udp),
    }?;
    println!("reflected: {packets}");
    Ok(())
}

/// # Errors
/// The interface is gone.
fn reflect(xsk: &mut Xsk, batch: u32, swap: impl Fn(&mut [u8])) -> Result<u64> {
    let stop = stop::flag()?;
    let (base, fd, mask) = (xsk.base(), xsk.fd(), !u64::from(xsk.config.chunk_bytes - 1));
    let Xsk { rx, tx, fill, completion, .. } = xsk;
    let mut packets = 0;
    while !stop.is_set() {
        let done = completion.peek(u32::MAX);
        if !done.is_empty() {
            // As many frames as there are ring entries are in use, so the fill ring always has room.
            let mut lend = fill.reserve(done.len());
            for CompAddr(addr) in done.iter() {
                lend.push(FillAddr(addr & mask));
            }
            let lent = lend.commit();
            done.release_first(lent);
        }

        let received = rx.peek(batch);
        if !received.is_empty() {
            let mut send = tx.reserve(received.len());
            for desc in received.iter().take(send.room() as usize) {
                // SAFETY: the kernel filled `len` bytes at `addr` of the UMEM and gave the frame to this side; nobody else has it.
                let frame = unsafe { std::slice::from_raw_parts_mut(base.add(desc.addr as usize), desc.len as usize) };
                swap(frame);
                send.push(TxDesc { addr: desc.addr, len: desc.len, options: desc.options });
            }
            let sent = send.commit();
            packets += u64::from(sent);
            received.release_first(sent);
        }
        if tx.needs_wakeup() && tx.outstanding() > 0 {
            kick(fd)?;
        }
    }
    Ok(packets)
}

#[inline]
fn swap_macs(frame: &mut [u8]) {
    if let Some(macs) = frame.first_chunk_mut::<12>() {
        let (destination, source) = macs.split_at_mut(6);
        destination.swap_with_slice(source);
    }
}

#[inline]
fn swap_udp(frame: &mut [u8]) {
    let Some(headers) = frame.first_chunk_mut::<38>() else { return };
    // IPv4 without options, UDP, not a fragment.
    if headers[12..15] != [8, 0, 0x45] || headers[23] != 17 || headers[20] & 0x3f != 0 || headers[21] != 0 {
        return;
    }
    let (destination, rest) = headers.split_at_mut(6);
    destination.swap_with_slice(&mut rest[..6]);
    let (source, destination) = headers[26..34].split_at_mut(4);
    source.swap_with_slice(destination);
    let (source, destination) = headers[34..38].split_at_mut(2);
    source.swap_with_slice(destination);
}
