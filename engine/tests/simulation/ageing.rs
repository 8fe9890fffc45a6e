//! Neighbours over hours.

use crate::{
    programs::{Client, Plan, Server},
    world::{IFACE, SERVER, World},
};
use framewire::{port::fault::FaultConfig, telemetry::Counters, time::Duration, wire::MacAddr};

const HOURS: u64 = 4;

/// One request a second.
const STEADY: Plan = Plan {
    requests: HOURS * 3600,
    body_bytes_max: 100,
    sockets: 1,
    pause: Duration::from_secs(1),
    retry: Duration::from_millis(500),
};

fn drops(counters: &Counters) -> u64 {
    let counts = Counters::NAMES.iter().zip(counters.values());
    counts.filter(|((name, _), _)| name.starts_with("drop_")).map(|(_, count)| count).sum()
}

#[test]
fn neighbours_are_asked_again_for_hours_without_a_loss() {
    let (client, tally) = Client::new(STEADY);
    let mut world = World::new(FaultConfig::new(1), client, Box::new(Server));
    world.run_until(Duration::from_secs(3600 * (HOURS + 1)), || tally.borrow().answered == STEADY.requests);
    let (client, server) = world.finish();
    let tally = tally.borrow();
    assert_eq!((tally.retries, tally.wrong, tally.late), (0, 0, 0));
    assert_eq!((drops(&client), drops(&server)), (0, 0));
    // Each side asks when an answer is 35 s old, and once for the start.
    let expected = HOURS * 3600 / 36..HOURS * 3600 / 30;
    for counters in [client, server] {
        assert!(expected.contains(&counters.arp_requests_sent), "{}", counters.arp_requests_sent);
    }
}

/// Changes the server's Ethernet address after five minutes; how many requests were repeated for it within two minutes.
fn repeats_after_a_change(announced: bool) -> u64 {
    let (client, tally) = Client::new(STEADY);
    let mut world = World::new(FaultConfig::new(1), client, Box::new(Server));
    world.run_for(Duration::from_secs(300));
    assert_eq!(tally.borrow().retries, 0);
    let new = MacAddr([2, 0, 0, 0, 0, 99]);
    world.server.stack.interface_mut(IFACE).unwrap().mac = new;
    if announced {
        // An address that comes up is announced.
        assert!(world.server.stack.remove_address(IFACE, SERVER));
        world.server.stack.add_address(IFACE, "10.0.0.2/24".parse().unwrap()).unwrap();
    }
    world.run_for(Duration::from_secs(120));
    let retries = tally.borrow().retries;
    let answered = tally.borrow().answered;
    world.run_for(Duration::from_secs(60));
    assert_eq!(tally.borrow().retries, retries, "nothing is lost any more");
    assert!(tally.borrow().answered >= answered + 55);
    let known = world.client.stack.interfaces()[0].neighbours().iter().find(|neighbour| neighbour.ip == SERVER);
    assert_eq!(known.and_then(|neighbour| neighbour.mac), Some(new));
    world.finish();
    retries
}

#[test]
fn a_peer_that_changes_its_ethernet_address_is_followed() {
    assert!(repeats_after_a_change(true) <= 1, "announced");
    let silent = repeats_after_a_change(false);
    // Until the answer ages, two seconds of requests a second; never longer than 30 s of trust, 5 s of doubt and 3 s of asking.
    assert!((1..=2 * 40).contains(&silent), "{silent}");
}
