//! What networks do to connections, one test each.

use crate::{
    endpoint::{Endpoint, Outcome, Plan, Role, check, filled},
    link::{Faults, LinkConfig, TooLong},
    network::{HostConfig, Idle, Network},
    transfer::Transfer,
};
use framewire::{
    buf::PoolConfig,
    proto::tcp::{CloseReason, Ecn, TcpOptions, TcpState},
    socket::{TcpRecvError, TcpSendError},
    time::{Duration, Instant},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn host() -> HostConfig {
    HostConfig { frames: 8192, ..HostConfig::default() }
}

fn both(link: LinkConfig) -> (LinkConfig, LinkConfig) {
    (link.clone(), link)
}

/// One way, with its payload at the server.
fn upload(host: HostConfig, bytes: u64, links: (LinkConfig, LinkConfig)) -> Transfer {
    Transfer::run(11, host, (Plan::client(bytes), Plan::server(0)), links, MINUTE * 10)
}

#[test]
fn a_narrow_path_is_found_by_icmp() {
    let link = LinkConfig::new(50_000_000, MS * 5);
    let narrow = LinkConfig { path_mtu: Some((1_200, TooLong::Told)), ..link.clone() };
    let transfer = upload(host(), 2_000_000, (narrow, link));
    // A window's worth at most is too long; then everything fits.
    assert!((1..=20).contains(&transfer.links[0].too_long), "{:?}", transfer.links[0]);
    assert_eq!(transfer.counters[0].tcp_timeouts, 0);
    assert_eq!(transfer.client.info.mss_bytes, 1_200 - 52);
}

#[test]
fn a_black_hole_is_got_out_of() {
    let link = LinkConfig::new(50_000_000, MS * 5);
    let narrow = LinkConfig { path_mtu: Some((1_200, TooLong::Silent)), ..link.clone() };
    let transfer = upload(host(), 2_000_000, (narrow, link));
    assert!(transfer.counters[0].tcp_black_holes >= 1);
    assert!(transfer.server.stall < SECOND * 5, "{:?}", transfer.server.stall);
}

#[test]
fn marks_instead_of_losses() {
    let link = LinkConfig::new(20_000_000, MS * 10).with_queue(400_000);
    let marking = LinkConfig { mark_from_bytes: Some(40_000), ..link.clone() };
    let host = HostConfig { ecn: Ecn::Active, ..host() };
    let transfer = upload(host, 20_000_000, (marking, link));
    let counts = transfer.links[0];
    assert!(counts.marked > 0 && counts.overflowed == 0, "{counts:?}");
    assert_eq!(transfer.counters[0].tcp_retransmissions, 0);
    assert!(transfer.counters[0].tcp_ecn_reductions > 0);
    assert!(counts.backlog_bytes_max < 200_000, "the queue stays short: {counts:?}");
    assert!(transfer.steady_bits_per_s() > 0.85 * 20e6, "{}", transfer.steady_bits_per_s());
}

#[test]
fn acknowledgments_are_lost() {
    let link = LinkConfig::new(20_000_000, MS * 10).with_queue(100_000);
    let lossy = link.clone().with_faults(Faults { loss: 0.3, ..Faults::default() });
    let transfer = upload(host(), 20_000_000, (link, lossy));
    assert!(transfer.steady_bits_per_s() > 0.8 * 20e6, "{}", transfer.steady_bits_per_s());
}

#[test]
fn long_fat_path() {
    // 2.5 MB in flight fill it: the receive buffer has to grow to that.
    let link = LinkConfig::new(100_000_000, MS * 100).with_queue(2_500_000);
    let pool = PoolConfig { rx_reserve_frames: 512, run_frames: 8_192 };
    let host = HostConfig { frames: 32_768, pool, ..host() };
    let options = TcpOptions {
        send_queue_bytes: 8 << 20,
        send_frames_max: 12_000,
        recv_frames_max: 12_000,
        ..TcpOptions::default()
    };
    let plans = (Plan { options: options.clone(), ..Plan::client(80_000_000) }, Plan { options, ..Plan::server(0) });
    let transfer = Transfer::run(11, host, plans, both(link), MINUTE * 5);
    let share = transfer.steady_bits_per_s() / 100e6;
    assert!(share > 0.8, "{share:.3} of the link");
}

#[test]
fn large_packets_in_many_pieces() {
    let link = LinkConfig::new(200_000_000, MS).with_faults(Faults { loss: 0.01, ..Faults::default() });
    let host = HostConfig { mtu: 9_000, ..host() };
    let plans = (
        Plan { chunk_bytes: 60_000, ..Plan::client(20_000_000) },
        Plan { chunk_bytes: 3_000, ..Plan::server(2_000_000) },
    );
    let transfer = Transfer::run(11, host, plans, both(link), MINUTE);
    assert!(transfer.counters[0].tcp_retransmissions > 5);
}

/// Two hosts send to a third over one link.
#[test]
fn two_flows_share_a_link() {
    let mut network = Network::new(5);
    let hosts = [(); 3].map(|()| network.add_host(host()));
    let shared = network.add_pipe(LinkConfig::new(20_000_000, MS * 10).with_queue(100_000));
    let back = network.add_pipe(LinkConfig::new(0, MS * 10));
    let mut outcomes = vec![];
    for &sender in &hosts[..2] {
        network.join(sender, hosts[2], shared);
        network.join(hosts[2], sender, back);
    }
    let (server, server_outcomes) = Endpoint::new(Plan::server(0));
    network.start(hosts[2], server);
    for &sender in &hosts[..2] {
        let to = Role::Connect("10.0.0.3:80".parse().unwrap(), 1);
        let (client, outcome) = Endpoint::new(Plan { role: to, ..Plan::client(60_000_000) });
        network.start(sender, client);
        outcomes.push(outcome);
    }
    network.run_for(SECOND * 30);
    let received: Vec<f64> = server_outcomes.borrow().iter().map(|outcome| outcome.received as f64).collect();
    let [a, b] = received[..] else { panic!("{received:?}") };
    // Jain's index: 1 is fair, 1/2 is one taking all.
    let fairness = (a + b) * (a + b) / (2.0 * (a * a + b * b));
    assert!(fairness > 0.9, "{a} and {b} bytes: {fairness:.3}");
    assert!((a + b) * 8.0 / 30.0 > 0.9 * 20e6, "{a} and {b} bytes");
    network.finish();
}

#[test]
fn many_connections() {
    let link = LinkConfig::new(100_000_000, MS * 5).with_queue(500_000).with_faults(Faults {
        loss: 0.01,
        reorder: 0.01,
        reorder_by: MS * 2,
        ..Faults::default()
    });
    let to = Role::Connect("10.0.0.2:80".parse().unwrap(), 400);
    let options = TcpOptions { send_queue_bytes: 32_768, ..TcpOptions::default() };
    let plan = |plan: Plan| Plan { options: options.clone(), chunk_bytes: 1_400, ..plan };
    let (client, outcomes) = Endpoint::new(Plan { role: to, ..plan(Plan::client(20_000)) });
    let (server, server_outcomes) = Endpoint::new(plan(Plan::server(10_000)));
    let host = HostConfig { frames: 32_768, ..host() };
    let mut network = Network::pair(3, (host.clone(), client), (host, server), link.clone(), link);
    let done = |outcomes: &[Outcome]| outcomes.len() == 400 && outcomes.iter().all(|outcome| outcome.closed.is_some());
    network.run_until(MINUTE * 5, |_| done(&outcomes.borrow()) && done(&server_outcomes.borrow()));
    for (outcomes, bytes) in [(&outcomes, 10_000), (&server_outcomes, 20_000)] {
        for outcome in outcomes.borrow().iter() {
            assert_eq!((outcome.received, outcome.closed), (bytes, Some(CloseReason::Finished)));
        }
    }
    network.finish();
}

/// Hardly any memory: slow, but nothing is lost and nothing hangs.
#[test]
fn starved_of_frames() {
    let link = LinkConfig::new(20_000_000, MS * 5).with_faults(Faults { loss: 0.02, ..Faults::default() });
    let host = HostConfig {
        frames: 128,
        pool: PoolConfig { rx_reserve_frames: 48, run_frames: 16 },
        nic_time: MS,
        ..HostConfig::default()
    };
    let plans = (
        Plan { chunk_bytes: 4_000, ..Plan::client(1_000_000) },
        Plan { chunk_bytes: 1_000, ..Plan::server(1_000_000) },
    );
    let transfer = Transfer::run(11, host, plans, both(link), MINUTE * 10);
    assert!(transfer.client.finished && transfer.server.finished);
}

/// The link is gone for a while.
#[test]
fn an_outage_is_survived() {
    let link = LinkConfig::new(10_000_000, MS * 10).with_queue(100_000);
    let ((client, outcomes), (server, server_outcomes)) =
        (Endpoint::new(Plan::client(10_000_000)), Endpoint::new(Plan::server(0)));
    let mut network = Network::pair(3, (host(), client), (host(), server), link.clone(), link);
    network.run_for(SECOND * 2);
    for pipe in &mut network.pipes {
        pipe.config.faults.loss = 1.0;
    }
    network.run_for(SECOND * 20);
    let before = server_outcomes.borrow()[0].received;
    for pipe in &mut network.pipes {
        pipe.config.faults.loss = 0.0;
    }
    let back = network.now;
    network.run_until(MINUTE, |_| server_outcomes.borrow()[0].received > before);
    // The time-out has doubled with the outage, so it is at most as long again.
    assert!(network.now.saturating_since(back) < SECOND * 21, "{:?}", network.now.saturating_since(back));
    network.run_until(MINUTE, |_| outcomes.borrow()[0].closed.is_some());
    assert_eq!(server_outcomes.borrow()[0].received, 10_000_000);
    network.finish();
}

/// Round trips become forty times as long: the time-outs were none, and are taken back.
#[test]
fn a_sudden_delay_is_no_loss() {
    let link = LinkConfig::new(10_000_000, MS * 10).with_queue(1_000_000);
    let ((client, outcomes), (server, server_outcomes)) =
        (Endpoint::new(Plan::client(20_000_000)), Endpoint::new(Plan::server(0)));
    let mut network = Network::pair(3, (host(), client), (host(), server), link.clone(), link);
    network.run_for(SECOND * 2);
    for pipe in &mut network.pipes {
        pipe.config.delay = MS * 400;
    }
    network.run_until(MINUTE * 2, |_| outcomes.borrow()[0].closed.is_some());
    assert_eq!(server_outcomes.borrow()[0].received, 20_000_000);
    let counters = network.finish();
    assert!(counters[0].tcp_timeouts > 0 && counters[0].tcp_spurious_recoveries > 0, "{:?}", counters[0]);
}

/// The peer's application reads a little now and then: the window closes and opens for a minute.
#[test]
fn a_slow_reader() {
    let link = LinkConfig::new(100_000_000, MS * 2);
    let mut network = Network::pair(3, (host(), Box::new(Idle)), (host(), Box::new(Idle)), link.clone(), link);
    let options = TcpOptions { recv_queue_bytes: 20_000, recv_queue_bytes_max: 20_000, ..TcpOptions::default() };
    let mut net = network.hosts[1].net();
    let listener = net.tcp_listen("0.0.0.0:80".parse().unwrap(), 4).unwrap();
    listener.set_options(&mut net, options);
    let stream = network.hosts[0].net().tcp_connect("10.0.0.2:80".parse().unwrap()).unwrap();
    network.transmit(0);
    network.run_for(MS * 20);
    let accepted = listener.accept(&mut network.hosts[1].net()).unwrap();
    let (mut sent, mut received) = (0, 0);
    let begun = network.now;
    while received < 1_000_000 {
        while sent < 1_000_000 {
            let mut net = network.hosts[0].net();
            let Some(buf) = filled(&net, 1, sent, 10_000) else { break };
            match stream.send(&mut net, buf) {
                Ok(()) => sent += 10_000,
                Err(TcpSendError::WouldBlock(_)) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        network.transmit(0);
        network.run_for(MS * 50);
        // A silence now and then that is longer than several probes.
        if received / 300_000 != (received + 3_000) / 300_000 {
            network.run_for(SECOND * 12);
        }
        for _ in 0..2 {
            let mut net = network.hosts[1].net();
            match accepted.recv(&mut net) {
                Ok(buf) => received += check(1, received, &buf),
                Err(TcpRecvError::WouldBlock) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        network.transmit(1);
        assert!(network.now.saturating_since(begun) < MINUTE * 5, "{received} of 1000000 bytes");
    }
    assert_eq!(stream.state(&network.hosts[0].net()), TcpState::Established);
    let counters = network.finish();
    assert!(counters[0].tcp_window_probes > 0);
    assert_eq!(counters[0].tcp_timeouts, 0, "a closed window is no loss");
}

/// The peer is gone without a word: told within the user timeout.
#[test]
fn a_dead_peer_is_noticed() {
    let link = LinkConfig::new(10_000_000, MS * 10);
    let options = TcpOptions { user_timeout: SECOND * 30, ..TcpOptions::default() };
    let plan = Plan { options, ..Plan::client(100_000_000) };
    let ((client, outcomes), (server, _)) = (Endpoint::new(plan), Endpoint::new(Plan::server(0)));
    let mut network = Network::pair(3, (host(), client), (host(), server), link.clone(), link);
    network.run_for(SECOND * 2);
    for pipe in &mut network.pipes {
        pipe.config.faults.loss = 1.0;
    }
    let gone = network.now;
    network.run_until(MINUTE * 3, |_| outcomes.borrow()[0].closed.is_some());
    assert_eq!(outcomes.borrow()[0].closed, Some(CloseReason::TimedOut));
    let after = network.now.saturating_since(gone);
    assert!((SECOND * 29..SECOND * 62).contains(&after), "{after:?}");
    assert!(network.now > Instant::ZERO);
    network.finish();
}
