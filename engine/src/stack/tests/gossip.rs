//! Two workers' stacks on one link: the answer comes to the one that did not ask.

use super::*;
use crate::proto::neighbour::Learned;

#[test]
fn an_answer_to_another_worker_sends_what_waited_here() {
    let (mut asks, mut hears) = (Rig::new(), Rig::new());
    hears.stack.share_neighbours();
    let socket = asks.stack.udp_bind(any(0)).unwrap();
    let mut buf = asks.stack.pool().alloc_tx().unwrap();
    buf.put_slice(b"waits").unwrap();
    asks.stack.udp_send_to(socket, buf, SocketAddrV4::new(PEER, 9)).unwrap();
    assert_eq!(asks.sent().len(), 1, "the question");

    hears.receive(&arp_frame(arp::Operation::Reply, PEER_MAC, PEER, US));
    assert!(hears.stack.has_neighbour_words());
    let words = hears.stack.take_neighbour_words();
    assert_eq!(words, [NeighbourWord { iface: IFACE, ip: PEER, mac: PEER_MAC, how: Learned::Reply }]);
    assert!(!hears.stack.has_neighbour_words());

    asks.stack.hear_neighbours(asks.now, &words);
    let sent = asks.sent();
    assert_eq!(sent.len(), 1, "what waited");
    assert_eq!(read_udp(&sent[0]).2, b"waits");
    asks.whole();
    hears.whole();
}

#[test]
fn nothing_is_kept_unless_wanted_nor_without_bound() {
    let mut rig = Rig::new();
    rig.learn_peer();
    assert!(!rig.stack.has_neighbour_words() && rig.stack.take_neighbour_words().is_empty());
    rig.stack.share_neighbours();
    for host in 2..=250 {
        rig.receive(&arp_frame(arp::Operation::Reply, PEER_MAC, Ipv4Addr::new(10, 0, 0, host), US));
    }
    // Of another network: not a neighbour.
    rig.receive(&arp_frame(arp::Operation::Reply, PEER_MAC, Ipv4Addr::new(10, 9, 9, 9), US));
    let words = rig.stack.take_neighbour_words();
    assert_eq!(words.len(), 64);
    let elsewhere = NeighbourWord { iface: IfaceId(7), ..words[0] };
    rig.stack.hear_neighbours(rig.now, &[elsewhere]);
    rig.whole();
}
