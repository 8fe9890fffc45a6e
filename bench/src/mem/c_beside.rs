//! What a `tfZeroCopySend` costs beside workers that send at full rate over AF_XDP: whether it waits for their system calls.
//!
//! One thread sends as fast as it may, so that workers always have a kick to make; another sends now and then, and is timed. Both share the core.

use super::c_send::{address, buffer, quantile, send};
use crate::affinity;
use anyhow::{Context, Result, ensure};
use clap::Args;
use framewire::treck::{
    bsd::{tfBlockingState, tfConnect, tfSocket},
    numbers as n,
    start::{tfAddInterface, tfOpenInterface, tfStartTreck, tfUseEthernet},
    types::tfSockaddrIn,
    workers::{tfStartWorkers, tfStopWorkers},
    zero_copy::tfFreeZeroCopyBuffer,
};
use std::{
    ffi::{CString, c_int},
    net::{Ipv4Addr, SocketAddrV4},
    ptr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// UDP's port for what is thrown away.
const DISCARD_PORT: u16 = 9;
/// Until the neighbour is known and the workers are at their full rate.
const WARM_UP: Duration = Duration::from_millis(500);

/// Options of `c-beside`.
#[derive(Args, Debug)]
pub(crate) struct CBesideArgs {
    /// A Linux interface, all of whose queues are used
    #[arg(long)]
    interface: String,
    /// Our address there, in a network of 24 bits
    #[arg(long)]
    address: Ipv4Addr,
    /// Who is sent to, at port 9
    #[arg(long)]
    peer: Ipv4Addr,
    /// Workers
    #[arg(long, default_value_t = 1)]
    workers: c_int,
    /// Sends that are timed
    #[arg(long, default_value_t = 20_000)]
    packets: usize,
    /// Microseconds between two of them
    #[arg(long, default_value_t = 50)]
    gap_us: u64,
    /// Core of both threads; the workers have the last ones
    #[arg(long)]
    core: Option<usize>,
}

/// Measures and prints.
pub(crate) fn run(args: &CBesideArgs) -> Result<()> {
    ensure!(tfStartTreck() == n::TM_ENOERROR, "tfStartTreck");
    let name = CString::new(args.interface.as_str()).context("the interface's name")?;
    let mut error = 0;
    // SAFETY: the name is a string, and no functions mean a Linux interface.
    let interface = unsafe {
        tfAddInterface(name.as_ptr(), tfUseEthernet(), None, None, None, None, None, None, None, &raw mut error)
    };
    ensure!(error == n::TM_ENOERROR, "tfAddInterface: {error}");
    let [ip, mask] = [args.address, [255, 255, 255, 0].into()].map(|ip| u32::from_ne_bytes(ip.octets()));
    let opened = tfOpenInterface(interface, ip, mask, n::TM_DEV_RX_CSUM_PARTIAL, 1);
    ensure!(opened == n::TM_ENOERROR, "tfOpenInterface: {opened}");
    let started = tfStartWorkers(args.workers);
    ensure!(started == n::TM_ENOERROR, "tfStartWorkers: {started}");
    affinity::pin(args.core)?;
    let peer = SocketAddrV4::new(args.peer, DISCARD_PORT);
    let (busy, timed) = (socket(peer)?, socket(peer)?);
    let (goes_on, sent) = (AtomicBool::new(true), AtomicU64::new(0));
    let (mut times_ns, mut refused, mut rate_pps) = (Vec::with_capacity(args.packets), 0, 0.0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while goes_on.load(Ordering::Relaxed) {
                match try_send(busy) {
                    Some(_) => _ = sent.fetch_add(1, Ordering::Relaxed),
                    None => thread::yield_now(),
                }
            }
        });
        thread::sleep(WARM_UP);
        let (begun, before) = (Instant::now(), sent.load(Ordering::Relaxed));
        while times_ns.len() < args.packets {
            match try_send(timed) {
                Some(took) => times_ns.push(took.as_nanos() as f64),
                None => refused += 1,
            }
            thread::sleep(Duration::from_micros(args.gap_us));
        }
        rate_pps = (sent.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
        goes_on.store(false, Ordering::Relaxed);
    });
    tfStopWorkers();
    let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|q| quantile(&mut times_ns, q));
    println!(
        "beside {rate_pps:.0} packets/s: p50 {p50:.0} ns, p90 {p90:.0}, p99 {p99:.0}, p99.9 {p999:.0}; {refused} refusals"
    );
    Ok(())
}

/// A socket that does not wait, connected to `peer`.
fn socket(peer: SocketAddrV4) -> Result<c_int> {
    let socket = tfSocket(n::TM_AF_INET, n::TM_SOCK_DGRAM, 0);
    let remote = address(peer);
    // SAFETY: an address of that length.
    let connected = unsafe { tfConnect(socket, (&raw const remote).cast(), size_of::<tfSockaddrIn>() as c_int) };
    ensure!(connected == 0 && tfBlockingState(socket, n::TM_BLOCKING_OFF) == 0, "the socket");
    Ok(socket)
}

/// Sends a buffer: how long the sending took, if it was taken.
fn try_send(socket: c_int) -> Option<Duration> {
    let handle = buffer()?;
    let begun = Instant::now();
    let sent = send(socket, handle);
    let took = begun.elapsed();
    if !sent {
        tfFreeZeroCopyBuffer(ptr::without_provenance_mut(handle));
    }
    sent.then_some(took)
}
