//! Requests and answers over a link that does everything wrong.

use crate::{
    programs::{Client, Plan, Server},
    world::World,
};
use framewire::{
    port::fault::{Delay, FaultConfig, FaultCounts, Faults},
    telemetry::Counters,
    time::Duration,
};

/// One packet in a hundred suffers each of them.
const ONE_PERCENT: Faults = Faults {
    drop: 0.01,
    duplicate: 0.01,
    reorder: 0.01,
    corrupt: 0.01,
    truncate: 0.01,
    delay: Some(Delay { probability: 0.01, min: Duration::from_micros(100), max: Duration::from_millis(50) }),
};

const PLAN: Plan = Plan {
    requests: 3_000,
    body_bytes_max: 9_000,
    sockets: 4,
    pause: Duration::from_micros(100),
    retry: Duration::from_millis(200),
};

struct Outcome {
    counters: (Counters, Counters),
    faults: (FaultCounts, FaultCounts),
    retries: u64,
    late: u64,
    wrong: u64,
}

fn run(seed: u64, faults: Faults, plan: Plan) -> Outcome {
    let (client, tally) = Client::new(plan);
    let config = FaultConfig { rx: faults, tx: faults, ..FaultConfig::new(seed) };
    let mut world = World::new(config, client, Box::new(Server));
    world.run_until(Duration::from_secs(3600), || tally.borrow().answered == plan.requests);
    // What is still under way ends somewhere.
    world.run_for(Duration::from_secs(60));
    let faults = (world.faults.rx_counts(), world.faults.tx_counts());
    let counters = world.finish();
    let tally = tally.borrow();
    assert_eq!(tally.answered, plan.requests);
    Outcome { counters, faults, retries: tally.retries, late: tally.late, wrong: tally.wrong }
}

#[test]
fn every_request_is_answered_rightly_over_a_faulty_link() {
    for seed in [1, 2] {
        let outcome = run(seed, ONE_PERCENT, PLAN);
        for counts in [outcome.faults.0, outcome.faults.1] {
            let each = [
                counts.dropped,
                counts.duplicated,
                counts.reordered,
                counts.corrupted,
                counts.truncated,
                counts.delayed,
            ];
            let expected = counts.seen / 100;
            assert!(
                counts.seen > 10_000 && each.iter().all(|n| (expected / 2..expected * 2).contains(n)),
                "{counts:?}"
            );
        }
        assert!(outcome.retries > 100 && outcome.late > 10, "{} retries, {} late", outcome.retries, outcome.late);
        // Flips of one bit in two fragments of a datagram may cancel out in its 16-bit sum; a single flip never passes.
        assert!(outcome.wrong <= 2, "{}", outcome.wrong);
        let (client, server) = outcome.counters;
        assert!(client.datagrams_reassembled > 1_000 && server.datagrams_reassembled > 1_000);
        assert!(client.drop_fragment_duplicate > 0 && client.drop_fragment_timeout > 0);
        assert_eq!((server.bytes_copied_rx, server.bytes_copied_tx), (0, 0), "the server sends the frames that came");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let plan = Plan { requests: 500, ..PLAN };
    let (one, again, other) = (run(5, ONE_PERCENT, plan), run(5, ONE_PERCENT, plan), run(6, ONE_PERCENT, plan));
    assert_eq!((one.counters, one.faults, one.retries), (again.counters, again.faults, again.retries));
    assert_ne!(one.faults, other.faults);
}

#[test]
fn a_thousand_sockets_at_once() {
    let plan = Plan { requests: 5_000, sockets: 1_000, body_bytes_max: 1_400, pause: Duration::from_millis(1), ..PLAN };
    let clean = run(1, Faults::NONE, plan);
    assert_eq!((clean.counters.0.udp_rx_datagrams, clean.counters.1.udp_rx_datagrams), (5_000, 5_000));
    // All send before the server's Ethernet address is known, and only so many packets may wait for it.
    assert_eq!(clean.retries, clean.counters.0.drop_tx_neighbour_queue);
    let faulty = run(1, ONE_PERCENT, plan);
    assert!(faulty.retries > clean.retries);
    assert_eq!((clean.wrong, faulty.wrong), (0, 0));
}
