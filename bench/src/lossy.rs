//! A link that loses: an XDP program that drops packets at random in front of a kernel's stack.

use crate::{stop, xsk::interface_index};
use anyhow::{Context, Result, ensure};
use clap::Args;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use std::{mem::MaybeUninit, thread, time::Duration};

#[allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all, clippy::undocumented_unsafe_blocks)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/lossy.skel.rs"));
}

const TICK: Duration = Duration::from_millis(10);

/// Options of `lossy`.
#[derive(Args, Debug)]
pub(crate) struct LossyArgs {
    /// Interface whose received IPv4 packets are lost
    #[arg(long, short)]
    interface: String,
    /// How many of a hundred
    #[arg(long)]
    percent: f64,
    /// Core to wait on
    #[arg(long)]
    core: Option<usize>,
}

/// Loses until SIGINT or SIGTERM.
pub(crate) fn run(args: &LossyArgs) -> Result<()> {
    ensure!((0.0..=100.0).contains(&args.percent), "--percent: must be from 0 to 100");
    crate::affinity::pin(args.core)?;
    let stop = stop::flag()?;
    let mut storage = MaybeUninit::uninit();
    let mut open = skeleton::LossySkelBuilder::default().open(&mut storage).context("the program that loses")?;
    open.maps.rodata_data.as_deref_mut().context("no .rodata")?.lost_of_2_32 = threshold(args.percent);
    let skeleton = open.load().context("loading the program that loses (CAP_BPF and CAP_NET_ADMIN are needed)")?;
    let index = interface_index(&args.interface)? as i32;
    let link = skeleton.progs.framewire_lossy.attach_xdp(index);
    let link = link.with_context(|| format!("attaching the program that loses to {}", args.interface))?;
    println!("ready: {} % of what {} receives is lost", args.percent, args.interface);
    while !stop.is_set() {
        thread::sleep(TICK);
    }
    drop(link);
    let counts = &skeleton.maps.bss_data.as_deref().context("no .bss")?.counts;
    println!("lost: {} of {} packets", counts.lost, counts.lost + counts.passed);
    Ok(())
}

/// Below which of all 32-bit numbers a packet is lost.
fn threshold(percent: f64) -> u64 {
    (percent / 100.0 * 2_f64.powi(32)).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_half_and_everything() {
        assert_eq!([0.0, 50.0, 100.0].map(threshold), [0, 1 << 31, 1 << 32]);
    }
}
