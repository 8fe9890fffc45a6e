//! How much gets through: against the standard response function, and as a table that is kept.

use crate::{
    endpoint::Plan,
    link::{Faults, LinkConfig},
    network::HostConfig,
    transfer::Transfer,
};
use framewire::{
    proto::tcp::{TcpOptions, congestion::Algorithm},
    time::Duration,
};
use std::fmt::Write as _;

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const SHORT_DELAY: Duration = Duration::from_micros(25);
/// Payload of a full segment with timestamps at an MTU of 1,500.
const MSS_BYTES: f64 = 1448.0;

fn host() -> HostConfig {
    HostConfig { frames: 8192, ..HostConfig::default() }
}

fn lossy(loss: f64) -> Faults {
    Faults { loss, ..Faults::default() }
}

/// One way; the link is never the limit.
fn wide(delay: Duration, faults: Faults) -> LinkConfig {
    LinkConfig::new(1_000_000_000, delay).with_faults(faults)
}

fn upload(bytes: u64, algorithm: Algorithm) -> (Plan, Plan) {
    let options = TcpOptions { congestion: algorithm, ..TcpOptions::default() };
    (Plan { options: options.clone(), ..Plan::client(bytes) }, Plan { options, ..Plan::server(0) })
}

/// 1 % random loss, 20 ms round trip: at least 0.9 of MSS/RTT·√(1.5/p) (RFC 3649 section 2 and RFC 5348 use the same function), no stall longer than one RTO.
fn one_percent(algorithm: Algorithm) {
    let response_bits_per_s = MSS_BYTES * 8.0 / 0.020 * (1.5f64 / 0.01).sqrt();
    for seed in 1..=5 {
        let links = (wide(MS * 10, lossy(0.01)), wide(MS * 10, Faults::default()));
        let transfer = Transfer::run(seed, host(), upload(20_000_000, algorithm), links, MINUTE * 5);
        let share = transfer.steady_bits_per_s() / response_bits_per_s;
        println!(
            "{algorithm:?}, seed {seed}: {:.2} Mbit/s, {share:.2} of the response function; stall {:?}; {} timeouts, {} retransmissions of {} lost",
            transfer.steady_bits_per_s() / 1e6,
            transfer.server.stall,
            transfer.counters[0].tcp_timeouts,
            transfer.counters[0].tcp_retransmissions,
            transfer.links[0].lost
        );
        assert!(share >= 0.9, "{algorithm:?}, seed {seed}: {share:.3} of the response function");
        let rto = transfer.client.info.rto.max(Duration::from_millis(200));
        assert!(transfer.server.stall <= rto, "{algorithm:?}, seed {seed}: stalled {:?}", transfer.server.stall);
        // Only what was lost is sent again, but for probes.
        let again = transfer.counters[0].tcp_retransmissions;
        assert!(
            again <= transfer.links[0].lost + transfer.links[0].lost / 10,
            "{again} for {}",
            transfer.links[0].lost
        );
    }
}

#[test]
fn cubic_at_one_percent() {
    one_percent(Algorithm::Cubic);
}

#[test]
fn new_reno_at_one_percent() {
    one_percent(Algorithm::NewReno);
}

/// One way of a link as short as a veth pair: a time-out of 200 ms is thousands of round trips.
fn short(faults: Faults) -> LinkConfig {
    LinkConfig::new(5_000_000_000, SHORT_DELAY).with_faults(faults)
}

/// A sender that handles acknowledgments in batches, and a receiver that answers at once.
fn busy_sender() -> (HostConfig, HostConfig) {
    (HostConfig { poll_every: SHORT_DELAY, ..host() }, host())
}

/// A retransmission that is lost again is found by time (RFC 8985), as long as anything that was sent after it arrives; and nothing is sent again that was not lost.
#[test]
fn losses_on_a_short_path() {
    for (loss, timeouts_max) in [(0.01, 0), (0.02, 0), (0.05, 4)] {
        let mut timeouts = 0;
        for seed in 1..=8 {
            let links = (short(lossy(loss)), short(Faults::default()));
            let transfer = Transfer::run_on(seed, busy_sender(), upload(20_000_000, Algorithm::Cubic), links, MINUTE);
            let (counters, lost) = (&transfer.counters[0], transfer.links[0].lost);
            println!(
                "{loss}, seed {seed}: {:.0} Mbit/s; stall {:?}; {} timeouts, {} probes, {} recoveries, {} retransmissions of {lost} lost",
                transfer.steady_bits_per_s() / 1e6,
                transfer.server.stall,
                counters.tcp_timeouts,
                counters.tcp_tail_probes,
                counters.tcp_fast_recoveries,
                counters.tcp_retransmissions,
            );
            timeouts += counters.tcp_timeouts;
            let needless = counters.tcp_retransmissions.saturating_sub(lost);
            assert!(needless <= 1, "{loss}, seed {seed}: {needless} needless retransmissions");
        }
        assert!(timeouts <= timeouts_max, "{loss}: {timeouts} time-outs");
    }
}

/// The seventh of ten segments is lost, and its retransmission too. All acknowledgments that tell of it come in one batch; what each of them lets go
/// (limited transmit, RFC 3042) makes the peer tell of the second loss.
#[test]
fn a_batch_of_duplicates_keeps_the_stream_going() {
    let faults = Faults { drop_data: vec![6, 24], ..Faults::default() };
    let (sender, receiver) = busy_sender();
    let sender = HostConfig { poll_every: SHORT_DELAY * 4, ..sender };
    let links = (short(faults), short(Faults::default()));
    let transfer = Transfer::run_on(1, (sender, receiver), upload(1_000_000, Algorithm::Cubic), links, MINUTE);
    let counters = &transfer.counters[0];
    assert_eq!((counters.tcp_retransmissions, counters.tcp_timeouts), (2, 0), "{counters:#?}");
    assert!(transfer.server.stall < MS * 10, "{:?}", transfer.server.stall);
}

/// A clean link is filled, whatever its delay.
#[test]
fn a_clean_link_is_filled() {
    for (rate, delay, queue) in
        [(10_000_000, MS * 5, 64_000), (100_000_000, MS * 10, 400_000), (1_000_000_000, MS / 10, 400_000)]
    {
        let link = LinkConfig::new(rate, delay).with_queue(queue);
        let links = (link, LinkConfig::new(rate, delay));
        let transfer = Transfer::run(1, host(), upload(20_000_000, Algorithm::Cubic), links, MINUTE);
        let share = transfer.steady_bits_per_s() / rate as f64;
        println!("{rate} bit/s, {delay:?}: {share:.3}, {:?}", transfer.counters[0].tcp_timeouts);
        assert!(share > 0.9, "{rate} bit/s, {delay:?}: {share:.3} of the link");
        assert_eq!(transfer.counters[0].tcp_timeouts, 0);
    }
}

/// Reordering within a quarter of a round trip costs nothing (RFC 8985 section 3.3.2).
#[test]
fn a_little_reordering_is_no_loss() {
    let faults = Faults { reorder: 0.02, reorder_by: MS * 4, ..Faults::default() };
    let link = LinkConfig::new(50_000_000, MS * 10);
    let links = (link.clone().with_faults(faults), link);
    let transfer = Transfer::run(1, host(), upload(20_000_000, Algorithm::Cubic), links, MINUTE);
    let share = transfer.steady_bits_per_s() / 50e6;
    assert!(share > 0.85, "{share:.3} of the link; {} retransmissions", transfer.counters[0].tcp_retransmissions);
}

/// Named faults of the table.
fn cases() -> Vec<(&'static str, Duration, Faults)> {
    let reorder = |reorder| Faults { reorder, reorder_by: MS * 5, ..Faults::default() };
    let mut cases = vec![];
    for (name, delay) in [("2 ms", MS), ("20 ms", MS * 10), ("200 ms", MS * 100)] {
        cases.extend([0.0, 0.001, 0.01, 0.05].map(|loss| (name, delay, lossy(loss))));
    }
    cases.extend([0.1, 0.2, 0.3].map(|loss| ("20 ms", MS * 10, lossy(loss))));
    cases.extend([0.01, 0.1].map(|part| ("20 ms", MS * 10, reorder(part))));
    cases.push(("20 ms", MS * 10, Faults { duplicate: 0.05, ..Faults::default() }));
    cases.push(("20 ms", MS * 10, Faults { corrupt: 0.01, ..Faults::default() }));
    cases.push((
        "20 ms",
        MS * 10,
        Faults { loss: 0.02, duplicate: 0.02, corrupt: 0.02, reorder: 0.05, reorder_by: MS * 5, ..Faults::default() },
    ));
    cases
}

/// 100 Mbit/s with a queue of 256 KB, both directions at once, faults in both.
#[test]
fn table() {
    let mut table = String::from(
        "round trip  loss  dup   corrupt  reorder  up Mbit/s  down Mbit/s  again  lost  time-outs  spurious  stall ms\n",
    );
    for (round_trip, delay, faults) in cases() {
        let link = LinkConfig::new(100_000_000, delay).with_queue(256_000).with_faults(faults.clone());
        // As much as gives a figure, in bounded time.
        let bytes = if faults.loss >= 0.1 {
            200_000
        } else if faults.loss >= 0.05 {
            1_000_000
        } else {
            4_000_000
        };
        let plans = (Plan::client(bytes), Plan::server(bytes));
        let transfer = Transfer::run(7, host(), plans, (link.clone(), link), MINUTE * 30);
        let rate = |outcome: &crate::endpoint::Outcome| {
            let took = outcome.last_at.unwrap().saturating_since(outcome.first_at.unwrap());
            outcome.received as f64 * 8.0 / took.as_secs_f64() / 1e6
        };
        let sum = |of: fn(&framewire::telemetry::Counters) -> u64| transfer.counters.iter().map(of).sum::<u64>();
        let _ = writeln!(
            table,
            "{round_trip:>10}  {:>4}  {:>4}  {:>7}  {:>7}  {:>9.2}  {:>11.2}  {:>5}  {:>4}  {:>9}  {:>8}  {:>8}",
            faults.loss,
            faults.duplicate,
            faults.corrupt,
            faults.reorder,
            rate(&transfer.server),
            rate(&transfer.client),
            sum(|c| c.tcp_retransmissions),
            transfer.links.iter().map(|link| link.lost + link.overflowed + link.corrupted).sum::<u64>(),
            sum(|c| c.tcp_timeouts),
            sum(|c| c.tcp_spurious_recoveries),
            transfer.client.stall.max(transfer.server.stall).as_millis(),
        );
    }
    insta::assert_snapshot!("goodput", table);
}
