use super::*;
use proptest::prelude::*;

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const MAC_A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const MAC_B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn ip(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a01_0000 + n)
}

fn cache(config: NeighbourConfig) -> Neighbours<u32> {
    Neighbours::new(config, [1, 2, 3, 4])
}

fn state(n: &Neighbours<u32>, ip: Ipv4Addr) -> Option<NeighbourState> {
    n.iter().find(|view| view.ip == ip).map(|view| view.state)
}

fn learn(n: &mut Neighbours<u32>, ip: Ipv4Addr, mac: MacAddr, how: Learned, now: Instant) -> (Change, Vec<u32>) {
    let mut out = Vec::new();
    (n.learn(ip, mac, how, now, &mut out), out)
}

fn fire(n: &mut Neighbours<u32>, ip: Ipv4Addr, now: Instant) -> (TimerAction, Vec<u32>) {
    let mut dropped = Vec::new();
    (n.on_timer(ip, now, &mut dropped), dropped)
}

/// A cache in which `A` was asked for and answered at 0 ms.
fn resolved() -> Neighbours<u32> {
    let mut n = cache(NeighbourConfig::default());
    assert_eq!(n.lookup(A, at(0)), Lookup::Start);
    assert_eq!(learn(&mut n, A, MAC_A, Learned::Reply, at(0)), (Change::Resolved, vec![]));
    n
}

fn check_invariants(n: &Neighbours<u32>) {
    let NeighbourConfig { entries_max, parked_per_entry_max, parked_total_max, .. } = n.config;
    assert!(n.len() <= entries_max);
    assert_eq!(n.len() + n.free.len(), n.entries.len());
    assert_eq!(n.iter().map(|view| view.parked).sum::<usize>(), n.parked());
    assert!(n.parked() <= parked_total_max);
    for view in n.iter() {
        assert!(view.parked <= parked_per_entry_max);
        assert!(view.parked == 0 || matches!(view.state, NeighbourState::Incomplete(_)), "{view:?}");
    }
    let mut listed = 0;
    for list in &n.lists {
        let order: Vec<usize> = std::iter::successors(list.front(), |&at| n.entries[at].link.next()).collect();
        assert!(order.windows(2).all(|w| n.entries[w[0]].deadline <= n.entries[w[1]].deadline));
        listed += order.len();
    }
    assert_eq!(listed, n.iter().filter(|view| view.state != NeighbourState::Static).count());
    for (&ip, &at) in &n.by_ip {
        let entry = &n.entries[at];
        assert_eq!(entry.ip, ip);
        assert_eq!(entry.deadline.is_none(), entry.state == NeighbourState::Static);
    }
}

#[test]
fn ask_answer_send() {
    let mut n = cache(NeighbourConfig::default());
    assert_eq!(n.park(A, 0), Err(0), "nobody asks for it");
    assert_eq!(n.lookup(A, at(0)), Lookup::Start);
    assert_eq!(n.park(A, 1), Ok(()));
    assert_eq!(n.lookup(A, at(1)), Lookup::Pending);
    assert_eq!(n.park(A, 2), Ok(()));
    assert_eq!(n.parked(), 2);
    assert_eq!(learn(&mut n, A, MAC_A, Learned::Reply, at(2)), (Change::Resolved, vec![1, 2]));
    assert_eq!(n.parked(), 0);
    assert_eq!(n.lookup(A, at(3)), Lookup::Known(MAC_A));
    assert_eq!(n.park(A, 3), Err(3));
    assert_eq!(state(&n, A), Some(NeighbourState::Reachable));
}

#[test]
fn no_answer() {
    let mut n = cache(NeighbourConfig::default());
    n.lookup(A, at(0));
    n.park(A, 7).unwrap();
    assert_eq!(n.deadline(A), Some(at(1000)));
    assert_eq!(fire(&mut n, A, at(999)), (TimerAction::None, vec![]));
    assert_eq!(fire(&mut n, A, at(1000)), (TimerAction::Broadcast, vec![]));
    assert_eq!(fire(&mut n, A, at(2000)), (TimerAction::Broadcast, vec![]));
    assert_eq!(fire(&mut n, A, at(3000)), (TimerAction::Failed, vec![7]));
    assert_eq!(n.lookup(A, at(4000)), Lookup::Failed);
    assert_eq!(n.park(A, 8), Err(8));
    assert_eq!(n.lookup(A, at(6000)), Lookup::Start, "held long enough, though its timer is late");
    for ms in [7000, 8000, 9000] {
        fire(&mut n, A, at(ms));
    }
    assert_eq!(fire(&mut n, A, at(12_000)), (TimerAction::Expired, vec![]));
    assert!(n.is_empty());
    assert_eq!(fire(&mut n, A, at(12_000)), (TimerAction::None, vec![]));
}

#[test]
fn use_after_a_while_is_verified() {
    let mut n = resolved();
    let epoch = n.epoch();
    assert_eq!(fire(&mut n, A, at(30_000)), (TimerAction::None, vec![]));
    assert_eq!(state(&n, A), Some(NeighbourState::Stale));
    assert_ne!(n.epoch(), epoch, "caches must look it up again, so that the use is noticed");
    let epoch = n.epoch();
    assert_eq!(n.lookup(A, at(40_000)), Lookup::Known(MAC_A));
    assert_eq!(n.deadline(A), Some(at(45_000)));
    assert_eq!(fire(&mut n, A, at(45_000)).0, TimerAction::Unicast(MAC_A));
    assert_eq!(n.lookup(A, at(45_500)), Lookup::Known(MAC_A));
    assert_eq!(learn(&mut n, A, MAC_A, Learned::Reply, at(45_600)).0, Change::None);
    assert_eq!(state(&n, A), Some(NeighbourState::Reachable));
    assert_eq!(n.epoch(), epoch, "the cached answer stayed right all the time");
    assert_eq!(n.lookup(A, at(75_600)), Lookup::Known(MAC_A));
    assert_eq!(state(&n, A), Some(NeighbourState::Delay), "also when the timer is late");
    assert_ne!(n.epoch(), epoch);
}

#[test]
fn a_neighbour_that_went_away_is_forgotten() {
    let mut n = resolved();
    fire(&mut n, A, at(30_000));
    n.lookup(A, at(30_000));
    let epoch = n.epoch();
    for ms in [35_000, 36_000, 37_000] {
        assert_eq!(fire(&mut n, A, at(ms)).0, TimerAction::Unicast(MAC_A));
    }
    assert_eq!(fire(&mut n, A, at(38_000)).0, TimerAction::Failed);
    assert_ne!(n.epoch(), epoch);
    assert_eq!(n.lookup(A, at(38_001)), Lookup::Start, "everybody is asked at once");
}

#[test]
fn progress_above_saves_the_probe() {
    let mut n = resolved();
    n.confirm(A, at(20_000));
    assert_eq!(n.deadline(A), Some(at(50_000)));
    fire(&mut n, A, at(50_000));
    n.lookup(A, at(50_001));
    n.confirm(A, at(50_002));
    assert_eq!(state(&n, A), Some(NeighbourState::Reachable));
    n.confirm(B, at(50_002));
    assert_eq!(n.len(), 1, "it creates nothing");
    n.lookup(B, at(50_003));
    n.confirm(B, at(50_004));
    assert_eq!(n.lookup(B, at(50_005)), Lookup::Pending, "there is no address to confirm");
}

#[test]
fn unused_entries_go() {
    let mut n = resolved();
    fire(&mut n, A, at(30_000));
    assert_eq!(n.deadline(A), Some(at(630_000)));
    assert_eq!(fire(&mut n, A, at(630_000)).0, TimerAction::Expired);
    assert!(n.is_empty());
}

#[test]
fn who_may_create_an_entry() {
    let mut n = cache(NeighbourConfig::default());
    assert_eq!(learn(&mut n, A, MAC_A, Learned::Gossip, at(0)).0, Change::None);
    assert_eq!(learn(&mut n, A, MAC_A, Learned::Reply, at(0)).0, Change::None, "nobody asked");
    assert!(n.is_empty());
    assert_eq!(learn(&mut n, A, MAC_A, Learned::Request, at(0)).0, Change::New);
    assert_eq!(state(&n, A), Some(NeighbourState::Stale));
    assert_eq!(n.lookup(A, at(1)), Lookup::Known(MAC_A));
    assert_eq!(state(&n, A), Some(NeighbourState::Delay));
    for bad in [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1]), MacAddr::default()] {
        assert_eq!(learn(&mut n, A, bad, Learned::Request, at(2)).0, Change::None);
    }
    for bad in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)] {
        assert_eq!(learn(&mut n, bad, MAC_A, Learned::Request, at(2)).0, Change::None);
    }
    assert_eq!(n.lookup(A, at(3)), Lookup::Known(MAC_A));
    assert_eq!(n.len(), 1);
}

#[test]
fn a_changed_address_is_used_and_verified() {
    for how in [Learned::Gossip, Learned::Request, Learned::Reply] {
        let mut n = resolved();
        let epoch = n.epoch();
        assert_eq!(learn(&mut n, A, MAC_B, how, at(5)).0, Change::MacChanged);
        assert_eq!(state(&n, A), Some(NeighbourState::Stale), "{how:?}: nobody asked, so it is not believed for long");
        assert_ne!(n.epoch(), epoch);
        assert_eq!(n.lookup(A, at(6)), Lookup::Known(MAC_B));
        assert_eq!(fire(&mut n, A, at(5006)).0, TimerAction::Unicast(MAC_B));
        let epoch = n.epoch();
        assert_eq!(learn(&mut n, A, MAC_A, Learned::Reply, at(5007)).0, Change::MacChanged);
        assert_eq!(state(&n, A), Some(NeighbourState::Reachable));
        assert_ne!(n.epoch(), epoch);
    }
}

#[test]
fn repeating_what_is_known_proves_nothing() {
    let mut n = resolved();
    for how in [Learned::Gossip, Learned::Request, Learned::Reply] {
        assert_eq!(learn(&mut n, A, MAC_A, how, at(20_000)).0, Change::None);
        assert_eq!(n.deadline(A), Some(at(30_000)), "{how:?}");
    }
}

#[test]
fn hints_resolve_what_is_asked_for() {
    for how in [Learned::Gossip, Learned::Request] {
        let mut n = cache(NeighbourConfig::default());
        n.lookup(A, at(0));
        n.park(A, 1).unwrap();
        assert_eq!(learn(&mut n, A, MAC_A, how, at(1)), (Change::Resolved, vec![1]));
        assert_eq!(state(&n, A), Some(NeighbourState::Delay));
    }
    let mut n = cache(NeighbourConfig { probes_max: 1, ..NeighbourConfig::default() });
    n.lookup(A, at(0));
    assert_eq!(fire(&mut n, A, at(1000)).0, TimerAction::Failed);
    assert_eq!(learn(&mut n, A, MAC_A, Learned::Gossip, at(1001)).0, Change::Resolved);
    assert_eq!(n.lookup(A, at(1002)), Lookup::Known(MAC_A));
}

#[test]
fn configured_entries_stay() {
    let mut n = cache(NeighbourConfig { entries_max: 2, ..NeighbourConfig::default() });
    n.lookup(A, at(0));
    n.park(A, 1).unwrap();
    n.add_static(A, MAC_A).unwrap();
    assert_eq!((n.parked(), n.counters().parked_dropped), (0, 1));
    n.add_static(B, MAC_B).unwrap();
    assert_eq!(n.add_static(ip(1), MAC_B), Err(TableFull));
    assert_eq!(n.lookup(ip(1), at(0)), Lookup::Full);
    for how in [Learned::Gossip, Learned::Request, Learned::Reply] {
        assert_eq!(learn(&mut n, A, MAC_B, how, at(5)).0, Change::None);
        assert_eq!(learn(&mut n, ip(2), MAC_B, how, at(5)).0, Change::None);
    }
    n.confirm(A, at(6));
    assert_eq!((n.deadline(A), n.arm()), (None, None));
    assert_eq!(fire(&mut n, A, at(u64::from(u32::MAX))).0, TimerAction::None);
    assert_eq!(n.lookup(A, at(7)), Lookup::Known(MAC_A));
    let epoch = n.epoch();
    n.remove(A, &mut Vec::new());
    assert_ne!(n.epoch(), epoch);
    assert_eq!(n.lookup(A, at(8)), Lookup::Start);
}

#[test]
fn parking_is_bounded() {
    let config = NeighbourConfig { parked_per_entry_max: 2, parked_total_max: 3, ..NeighbourConfig::default() };
    let mut n = cache(config);
    n.lookup(A, at(0));
    n.lookup(B, at(0));
    assert_eq!([n.park(A, 1), n.park(A, 2), n.park(A, 3)], [Ok(()), Ok(()), Err(1)]);
    assert_eq!([n.park(B, 4), n.park(B, 5)], [Ok(()), Err(5)]);
    assert_eq!(n.park(A, 6), Err(2), "replacing the oldest needs no room");
    let mut dropped = Vec::new();
    n.remove(A, &mut dropped);
    assert_eq!((dropped, n.parked()), (vec![3, 6], 1));
    assert_eq!(n.park(B, 7), Ok(()));
    let mut none = cache(NeighbourConfig { parked_per_entry_max: 0, ..NeighbourConfig::default() });
    none.lookup(A, at(0));
    assert_eq!(none.park(A, 1), Err(1));
}

#[test]
fn a_flood_of_requests_evicts_only_itself() {
    let mut n = cache(NeighbourConfig { entries_max: 8, ..NeighbourConfig::default() });
    // Two in use, two idle, two being asked for.
    for i in 0..4 {
        n.lookup(ip(i), at(0));
        learn(&mut n, ip(i), MAC_A, Learned::Reply, at(0));
    }
    fire(&mut n, ip(2), at(30_000));
    fire(&mut n, ip(3), at(30_000));
    n.lookup(ip(4), at(30_000));
    n.lookup(ip(5), at(30_000));
    n.park(ip(4), 1).unwrap();
    let epoch = n.epoch();
    for i in 100..10_000 {
        assert_eq!(learn(&mut n, ip(i), MAC_B, Learned::Request, at(30_001)).0, Change::New);
        check_invariants(&n);
    }
    assert_eq!((0..6).filter(|&i| state(&n, ip(i)).is_some()).count(), 6);
    assert_eq!(n.epoch(), epoch, "and costs no cache anything");
    assert_eq!(n.parked(), 1);
}

#[test]
fn our_own_lookups_evict_in_order() {
    let mut n = cache(NeighbourConfig { entries_max: 4, probes_max: 1, ..NeighbourConfig::default() });
    learn(&mut n, ip(0), MAC_A, Learned::Request, at(0));
    for i in 1..3 {
        n.lookup(ip(i), at(0));
        learn(&mut n, ip(i), MAC_A, Learned::Reply, at(0));
    }
    fire(&mut n, ip(1), at(30_000));
    n.lookup(ip(3), at(30_000));
    n.park(ip(3), 9).unwrap();
    assert_eq!(n.len(), 4);
    let mut gone = Vec::new();
    for i in 10..14 {
        assert_eq!(n.lookup(ip(i), at(30_001)), Lookup::Start);
        gone.extend((0..4).filter(|&old| state(&n, ip(old)).is_none() && !gone.contains(&old)).collect::<Vec<_>>());
    }
    assert_eq!(gone, [0, 1, 3], "unused, idle, being asked for; never the one in use");
    assert_eq!((n.counters().evicted, n.counters().parked_dropped), (4, 1));
    assert_eq!(state(&n, ip(2)), Some(NeighbourState::Reachable));
}

#[test]
fn one_timer_serves_all() {
    let mut n = cache(NeighbourConfig::default());
    assert_eq!((n.arm(), n.due(at(0))), (None, None));
    n.lookup(A, at(0));
    assert_eq!((n.arm(), n.arm()), (Some(at(1000)), None));
    learn(&mut n, A, MAC_A, Learned::Reply, at(10));
    assert_eq!(n.arm(), None, "the one that is armed fires early and is moved on then");
    assert_eq!((n.due(at(1000)), n.arm()), (None, Some(at(30_010))));
    n.lookup(B, at(2000));
    assert_eq!(n.arm(), Some(at(3000)), "nearer than the one that is armed");
    assert_eq!(n.due(at(3000)), Some(B));
    assert_eq!(fire(&mut n, B, at(3000)).0, TimerAction::Broadcast);
    assert_eq!((n.due(at(3000)), n.arm()), (None, Some(at(4000))));
    learn(&mut n, B, MAC_B, Learned::Reply, at(3500));
    assert_eq!((n.due(at(30_010)), n.due(at(30_009))), (Some(A), None));
    assert_eq!(fire(&mut n, A, at(30_010)).0, TimerAction::None);
    assert_eq!((n.due(at(30_010)), n.arm()), (None, Some(at(33_500))));
}

/// A flood leaves no timers behind, although entries come and go with each packet.
#[test]
fn a_flood_arms_one_timer() {
    let mut n = cache(NeighbourConfig { entries_max: 8, ..NeighbourConfig::default() });
    let armed = (0..100_000).filter(|&i| {
        learn(&mut n, ip(i), MAC_B, Learned::Request, at(u64::from(i) / 1000));
        n.arm().is_some()
    });
    assert_eq!(armed.count(), 1);
}

#[derive(Clone, Debug)]
enum Op {
    Lookup(u32),
    Park(u32),
    Learn(u32, u8, Learned),
    Confirm(u32),
    Static(u32),
    Remove(u32),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0u32..10;
    let how = prop_oneof![Just(Learned::Reply), Just(Learned::Request), Just(Learned::Gossip)];
    prop_oneof![
        4 => n.clone().prop_map(Op::Lookup),
        4 => n.clone().prop_map(Op::Park),
        4 => (n.clone(), 1u8..3, how).prop_map(|(n, mac, how)| Op::Learn(n, mac, how)),
        1 => n.clone().prop_map(Op::Confirm),
        1 => n.clone().prop_map(Op::Static),
        1 => n.prop_map(Op::Remove),
        4 => (0u64..40_000).prop_map(Op::Wait),
    ]
}

proptest! {
    /// Any sequence: bounds hold, no packet is lost or doubled, what is cached by epoch is what a lookup would say, and timers armed as told suffice.
    #[test]
    fn any_walk(entries_max in 1usize..8, per_entry in 0usize..4, total in 0usize..8, ops in prop::collection::vec(op(), 1..200)) {
        let config = NeighbourConfig { entries_max, parked_per_entry_max: per_entry, parked_total_max: total, ..NeighbourConfig::default() };
        let mut n = cache(config);
        let mut now = at(0);
        let mut timers: Vec<Instant> = Vec::new();
        let mut cached = std::collections::HashMap::<Ipv4Addr, (u64, MacAddr)>::new();
        let (mut given, mut returned) = (0u64, 0u64);
        for op in ops {
            let mut out = Vec::new();
            match op {
                Op::Lookup(i) => {
                    let known = n.lookup(ip(i), now);
                    prop_assert!(n.len() == entries_max || known != Lookup::Full);
                    if let Lookup::Known(mac) = known {
                        cached.insert(ip(i), (n.epoch(), mac));
                    }
                }
                Op::Park(i) => {
                    given += 1;
                    returned += u64::from(n.park(ip(i), 0).is_err());
                }
                Op::Learn(i, mac, how) => {
                    n.learn(ip(i), MacAddr([2, 0, 0, 0, 0, mac]), how, now, &mut out);
                }
                Op::Confirm(i) => {
                    n.confirm(ip(i), now);
                }
                Op::Static(i) => {
                    let added = n.add_static(ip(i), MAC_A);
                    prop_assert!(added.is_ok() || n.len() == entries_max);
                }
                Op::Remove(i) => n.remove(ip(i), &mut out),
                Op::Wait(ms) => {
                    now = now + Duration::from_millis(ms);
                    if timers.iter().any(|&timer| timer <= now) {
                        timers.retain(|&timer| timer > now);
                        while let Some(ip) = n.due(now) {
                            let action = n.on_timer(ip, now, &mut out);
                            prop_assert!(action != TimerAction::Expired || state(&n, ip).is_none());
                        }
                    }
                }
            }
            timers.extend(n.arm());
            returned += out.len() as u64;
            check_invariants(&n);
            prop_assert_eq!(given, returned + n.parked() as u64 + n.counters().parked_dropped);
            for view in n.iter().filter(|view| view.state != NeighbourState::Static) {
                let deadline = n.deadline(view.ip);
                prop_assert!(deadline > Some(now) && timers.iter().any(|&timer| Some(timer) <= deadline), "{:?}", view);
            }
            for (ip, (epoch, mac)) in &cached {
                if *epoch == n.epoch() {
                    let view = n.iter().find(|view| view.ip == *ip);
                    prop_assert_eq!(view.and_then(|view| view.mac), Some(*mac), "{} is cached", ip);
                    prop_assert_ne!(view.map(|view| view.state), Some(NeighbourState::Stale));
                }
            }
        }
    }
}
