//! Bulk transfers: how fast, how steadily, and at what cost.

use crate::{
    endpoint::{Endpoint, Outcome, Plan},
    link::{LinkConfig, LinkCounts},
    network::{HostConfig, Network},
};
use framewire::{
    proto::tcp::CloseReason,
    telemetry::Counters,
    time::{Duration, Instant},
};

/// A finished transfer from host 0 (which connects) to host 1, and perhaps back.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) client: Outcome,
    pub(crate) server: Outcome,
    pub(crate) counters: Vec<Counters>,
    pub(crate) links: [LinkCounts; 2],
}

impl Transfer {
    /// Runs until both ends have closed in order; panics after `limit` of virtual time.
    pub(crate) fn run(
        seed: u64,
        host: HostConfig,
        plans: (Plan, Plan),
        links: (LinkConfig, LinkConfig),
        limit: Duration,
    ) -> Self {
        Self::run_on(seed, (host.clone(), host), plans, links, limit)
    }

    /// The same on hosts that differ.
    pub(crate) fn run_on(
        seed: u64,
        (client_host, server_host): (HostConfig, HostConfig),
        (client, server): (Plan, Plan),
        (to_b, to_a): (LinkConfig, LinkConfig),
        limit: Duration,
    ) -> Self {
        let (up_bytes, down_bytes) = (client.send_bytes, server.send_bytes);
        let ((client, client_outcomes), (server, server_outcomes)) = (Endpoint::new(client), Endpoint::new(server));
        let mut network = Network::pair(seed, (client_host, client), (server_host, server), to_b, to_a);
        let closed = |outcomes: &[Outcome]| outcomes.len() == 1 && outcomes[0].closed.is_some();
        network.run_until(limit, |network| {
            if network.now > Instant::ZERO + limit.saturating_sub(Duration::from_millis(1)) {
                println!("client {:?}\nserver {:?}", client_outcomes.borrow(), server_outcomes.borrow());
            }
            closed(&client_outcomes.borrow()) && closed(&server_outcomes.borrow())
        });
        network.assert_balanced();
        let links = [network.counts(0), network.counts(1)];
        let counters = network.finish();
        let (client, server) = (client_outcomes.borrow()[0].clone(), server_outcomes.borrow()[0].clone());
        let told = |outcome: &Outcome| Outcome { marks: vec![], ..outcome.clone() };
        let ends = (told(&client), told(&server));
        assert_eq!((client.received, server.received), (down_bytes, up_bytes), "{ends:#?}\n{counters:#?}");
        assert!(client.finished && server.finished, "{ends:#?}");
        assert_eq!([client.closed, server.closed], [Some(CloseReason::Finished); 2]);
        for counters in &counters {
            assert_eq!((counters.bytes_copied_tx, counters.bytes_copied_rx), (0, 0), "retransmissions included");
        }
        Self { client, server, counters, links }
    }

    /// Payload bits per second that arrived at the server, over the middle half of its bytes.
    pub(crate) fn steady_bits_per_s(&self) -> f64 {
        let marks = &self.server.marks;
        let at = |part: f64| {
            let from = (self.server.received as f64 * part) as u64;
            marks[marks.partition_point(|(bytes, _)| *bytes < from).min(marks.len() - 1)]
        };
        let (begin, end) = (at(0.25), at(0.75));
        (end.0 - begin.0) as f64 * 8.0 / end.1.saturating_since(begin.1).as_secs_f64()
    }
}
