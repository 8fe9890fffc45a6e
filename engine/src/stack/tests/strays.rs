//! Packets on the wrong worker's queue.

use super::*;

/// Workers with one address.
fn workers<const N: usize>() -> [Rig; N] {
    std::array::from_fn(|_| {
        let mut rig = Rig::new();
        rig.learn_peer();
        rig.stack.share_strays(N - 1);
        rig
    })
}

/// What `finder` has found is looked at by the others, in their order.
fn ask_others(workers: &mut [Rig], finder: usize) -> usize {
    let strays = workers[finder].stack.take_strays();
    for (_, other) in workers.iter_mut().enumerate().filter(|&(i, _)| i != finder) {
        strays.iter().for_each(|stray| other.stack.hear_stray(other.now, stray));
    }
    strays.len()
}

#[test]
fn a_datagram_finds_the_socket_of_another_worker() {
    let mut all = workers::<3>();
    let socket = all[1].stack.udp_bind(any(4321)).unwrap();
    all[0].receive(&udp_frame(9, 4321, b"an answer"));
    assert!(all[0].stack.has_strays());
    assert_eq!(ask_others(&mut all, 0), 1);
    let datagram = all[1].stack.udp_recv(socket).unwrap();
    assert_eq!((datagram.buf.as_slice(), datagram.from), (&b"an answer"[..], SocketAddrV4::new(PEER, 9)));
    drop(datagram);
    for worker in &mut all {
        assert_eq!(worker.sent(), [] as [Vec<u8>; 0], "nobody refuses it");
        assert!(!worker.stack.has_strays());
    }
    let counters = &all[0].stack.counters;
    assert_eq!((counters.strays_handed_over, counters.drop_udp_no_socket), (1, 0));
    assert_eq!(counters.bytes_copied_strays, (ipv4::HEADER_BYTES + udp::HEADER_BYTES + 9) as u64);
    all.into_iter().for_each(Rig::whole);
}

#[test]
fn what_nobody_knows_is_refused_once() {
    let mut all = workers::<4>();
    let reset_me = [0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0, 0, 0, 0, 0, 0];
    let mut segment = reset_me;
    let sum = checksum::add(checksum::pseudo_header(PEER, US, protocol::TCP, 20), checksum::sum(&segment));
    segment[16..18].copy_from_slice(&(!sum).to_be_bytes());
    let frames = [udp_frame(9, 4321, b"?"), ip_frame(ip_repr(protocol::TCP), &segment)];
    for frame in frames {
        all[2].receive(&frame);
        assert_eq!(ask_others(&mut all, 2), 1);
        let sent: Vec<usize> = all.iter_mut().map(|worker| worker.sent().len()).collect();
        assert_eq!(sent, [0, 0, 0, 1], "the last to be asked answers");
    }
    assert_eq!(all.each_ref().map(|worker| worker.stack.counters.drop_udp_no_socket), [0, 0, 0, 1]);
    assert_eq!(all.each_ref().map(|worker| worker.stack.counters.tcp_resets_sent), [0, 0, 0, 1]);
    all.into_iter().for_each(Rig::whole);
}

#[test]
fn an_icmp_error_reaches_the_worker_that_sent() {
    let mut all = workers::<2>();
    let socket = all[1].stack.udp_bind(any(4321)).unwrap();
    all[1].stack.udp_connect(socket, Some(SocketAddrV4::new(PEER, 9))).unwrap();
    let mut buf = all[1].stack.pool().alloc_tx().unwrap();
    buf.put_slice(b"hello").unwrap();
    all[1].stack.udp_send(socket, buf).unwrap();
    let quoted = all[1].sent().remove(0);
    let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&quoted[ethernet::HEADER_BYTES..]);
    let sum = !checksum::sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    all[0].receive(&ip_frame(ip_repr(protocol::ICMP), &message));
    assert_eq!(ask_others(&mut all, 0), 1);
    assert_eq!(all.each_ref().map(|worker| worker.stack.counters.icmp_errors_received), [0, 1]);
    assert_eq!(all.each_ref().map(|worker| worker.stack.counters.icmp_errors_ignored), [0, 0]);
    all.into_iter().for_each(Rig::whole);
}

#[test]
fn a_worker_alone_refuses_at_once_and_a_flood_is_bounded() {
    let mut alone = Rig::new();
    alone.learn_peer();
    alone.stack.share_strays(0);
    alone.receive(&udp_frame(9, 4321, b"?"));
    assert!(!alone.stack.has_strays());
    assert_eq!(alone.sent().len(), 1);
    alone.whole();

    let [mut flooded, other] = workers::<2>();
    for port in 1..=2_000 {
        flooded.receive(&udp_frame(9, port, b"?"));
    }
    assert_eq!(flooded.stack.take_strays().len(), 1_000);
    assert_eq!(flooded.stack.counters.drop_stray, 1_000);
    assert_eq!(flooded.sent().len(), 0);
    flooded.whole();
    other.whole();
}

#[test]
fn a_stray_that_finds_no_frame_is_counted() {
    let [mut finder, mut owner] = workers::<2>();
    let socket = owner.stack.udp_bind(any(4321)).unwrap();
    finder.receive(&udp_frame(9, 4321, b"?"));
    let pool = owner.stack.pool().clone();
    let taken: Vec<_> = std::iter::from_fn(|| pool.rx_from_bytes(b"taken")).collect();
    let strays = finder.stack.take_strays();
    owner.stack.hear_stray(owner.now, &strays[0]);
    assert_eq!(owner.stack.counters.drop_stray, 1);
    assert!(owner.stack.udp_recv(socket).is_none());
    drop(taken);
    finder.whole();
    owner.whole();
}
