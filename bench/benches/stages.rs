//! `cargo bench -p framewire-bench`: the steps of a turn by criterion, on a `mem` port. The same code as `framewire-bench stage`, whose modules stand here
//! because a program's cannot be imported.
// Of these modules not all is used here; criterion_group! documents nothing.
#![allow(dead_code, unused_imports, missing_docs)]

#[path = "../src/affinity.rs"]
mod affinity;
#[path = "../src/allocator.rs"]
mod allocator;
#[path = "../src/mem/mod.rs"]
mod mem;
#[path = "../src/packet.rs"]
mod packet;
#[path = "../src/syscalls.rs"]
mod syscalls;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mem::{
    BATCH,
    stages::{ALL, TCP, batch},
    tcp::OnConnection,
};
use std::time::Duration;

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stage");
    for (name, make) in ALL {
        let mut stage = make().unwrap_or_else(|why| panic!("{name}: {why:#}"));
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(*name, |bencher| {
            bencher.iter_custom(|batches| {
                let run = || batch(stage.as_mut()).unwrap_or_else(|why| panic!("{name}: {why:#}"));
                std::iter::repeat_with(run).take(usize::try_from(batches).unwrap_or(usize::MAX)).sum()
            });
        });
    }
    for (name, work) in TCP {
        let mut connection = OnConnection::new(*work).unwrap_or_else(|why| panic!("{name}: {why:#}"));
        // A batch may be shorter than others: an iteration is a segment.
        group.throughput(Throughput::Elements(1));
        group.bench_function(*name, |bencher| {
            bencher.iter_custom(|segments| {
                let (mut total, mut counted) = (Duration::ZERO, 0);
                while counted < segments {
                    let (took, count) = connection.batch().unwrap_or_else(|why| panic!("{name}: {why:#}"));
                    total += took;
                    counted += count as u64;
                }
                total.mul_f64(segments as f64 / counted as f64)
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = stages
}
criterion_main!(benches);
