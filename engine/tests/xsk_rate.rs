//! How fast one core sends over veth; `cargo test --release -p framewire --test xsk_rate -- --ignored --nocapture`. Needs root.
#![cfg(feature = "af-xdp")]

mod xsk_rig;

use framewire::{
    buf::{PoolConfig, TxQueue},
    port::{
        Port,
        xsk::{MultiBuffer, XskConfig},
    },
    time::{Duration, Instant},
};
use xsk_rig::*;

/// One turn's burst.
const BURST: usize = 64;

/// The CPU time of this thread: on a busy machine it tells more than the clock, and the kernel sends within our calls.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable and outlives the call.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Sends for `time`; returns packets that the kernel has completed per second of CPU time.
fn rate(payload_bytes: usize, pieces: usize, multi_buffer: MultiBuffer, time: Duration) -> f64 {
    let pool = PoolConfig { rx_reserve_frames: 64, run_frames: 0 };
    let (mut port, pool) = open(XskConfig { frames: 8192, pool, multi_buffer, ..XskConfig::new(PORT, 0) });
    port.refill();
    let mut queue = TxQueue::with_limit(BURST * pieces);
    let begun = cpu_time();
    let mut reaped = 0;
    while cpu_time() - begun < time {
        reaped += port.reap();
        while queue.room() >= pieces {
            let Some(mut head) = pool.alloc_tx() else { break };
            let body = if pieces > 1 { pool.alloc_tx() } else { None };
            match body {
                None => head.set_len(payload_bytes).unwrap(),
                Some(mut body) => {
                    head.prepend_slice(&ethernet_header()).unwrap();
                    let mut head = head.seal().unwrap();
                    head.set_more();
                    queue.push(head).unwrap();
                    body.set_len(payload_bytes).unwrap();
                    queue.push(body.seal().unwrap()).unwrap();
                    continue;
                }
            }
            head.prepend_slice(&ethernet_header()).unwrap();
            queue.push(head.seal().unwrap()).unwrap();
        }
        port.transmit(Instant::ZERO, &mut queue);
        port.kick().unwrap();
    }
    let elapsed = (cpu_time() - begun).as_secs_f64();
    queue.truncate(0);
    port.close(Duration::from_secs(1));
    let stats = port.stats();
    assert!(pool.ledger().is_whole(), "{}", pool.ledger());
    assert_eq!(stats.kernel_tx_invalid_descs, 0);
    assert!(reaped > 0);
    let packets = reaped as f64 / pieces as f64;
    println!(
        "{payload_bytes:>5} B × {pieces}, multi-buffer {multi_buffer:?}: {:.3} M packets/s, {:.2} Gbit/s, {:.1} packets a call, {} soft",
        packets / elapsed / 1e6,
        packets * (payload_bytes + HEADER_BYTES) as f64 * 8.0 / elapsed / 1e9,
        stats.tx_packets as f64 / stats.tx_kicks as f64,
        stats.tx_kicks_soft_errors,
    );
    packets / elapsed
}

#[test]
#[ignore = "a measurement: takes seconds and a quiet core"]
fn one_core_sends() {
    in_namespace(9000, || {
        let time = Duration::from_millis(1500);
        for _ in 0..3 {
            for payload_bytes in [50, 1486] {
                rate(payload_bytes, 1, MultiBuffer::Always, time);
                rate(payload_bytes, 2, MultiBuffer::Always, time);
            }
        }
    });
    in_namespace(1500, || {
        let time = Duration::from_millis(1500);
        for _ in 0..3 {
            for payload_bytes in [50, 1486] {
                let with = rate(payload_bytes, 1, MultiBuffer::Always, time);
                let without = rate(payload_bytes, 1, MultiBuffer::Off, time);
                println!("      {payload_bytes} B: with multi-buffer {:.2} of without", with / without);
            }
        }
    });
}
