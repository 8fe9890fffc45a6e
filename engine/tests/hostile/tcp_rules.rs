//! Requirements of the RFCs that no attack shows.

use crate::{frames::*, rig::Rig, tcp_peer::*};
use framewire::{
    socket::{BindError, Keepalive, TcpOptions, TcpState},
    time::Duration,
    wire::{ipv4, tcp::flags},
};
use std::net::{Ipv4Addr, SocketAddrV4};

const PSH: u8 = flags::PSH;

/// RFC 9293 MUST-25, MUST-28, MUST-40, MUST-23; RFC 5681 section 4.2: what is so unless somebody asks otherwise.
#[test]
fn defaults() {
    let options = TcpOptions::default();
    assert_eq!(options.keepalive, None);
    assert!(Keepalive::default().idle >= Duration::from_secs(7200));
    assert!(options.delayed_ack < Duration::from_millis(500));
    assert!(options.connect_timeout >= Duration::from_secs(180) && options.user_timeout >= Duration::from_secs(100));
}

/// RFC 9293 MUST-60, MUST-61, MUST-65: nothing waits for a push, the last segment says it, and only a SYN says its MSS.
#[test]
fn pushes() {
    let mut rig = Rig::listening(8);
    let mut peer = Peer::port(2000);
    let stream = peer.connect(&mut rig);
    rig.write_all(stream, &[1; 7000]);
    let heard = peer.hear(&mut rig);
    assert_eq!(heard.iter().map(|heard| heard.payload.len()).sum::<usize>(), 7000);
    assert_eq!(heard.iter().position(|heard| heard.has(PSH)), Some(heard.len() - 1));
    assert!(heard.iter().all(|heard| heard.options.mss.is_none() && !heard.options.sack_permitted));
    stream.abort(&mut rig.net());
    rig.finish();
}

/// RFC 9293 MUST-58, MUST-59: what came together is acknowledged together, when all of it has been looked at.
#[test]
fn one_acknowledgment_for_a_burst() {
    let mut rig = Rig::listening(8);
    let mut peer = Peer::port(2000);
    let stream = peer.connect(&mut rig);
    for _ in 0..10 {
        peer.send(&mut rig, &[7; 1460]);
    }
    let heard = peer.hear(&mut rig);
    assert_eq!(heard.iter().map(|heard| heard.header.ack.0).collect::<Vec<_>>(), [peer.nxt]);
    assert_eq!(rig.read(stream).len(), 14_600);
    rig.finish();
}

/// RFC 9293 MUST-1: a window above 32,767 is no negative one.
#[test]
fn windows_have_no_sign() {
    let mut rig = Rig::listening(8);
    let mut peer = Peer { window: u16::MAX, ..Peer::port(2000) };
    let stream = peer.connect(&mut rig);
    assert_eq!(stream.info(&rig.net()).unwrap().send_window_bytes, 65_535);
    peer.talks(&mut rig, stream);
    rig.finish();
}

/// RFC 9293 MUST-48, MUST-49, MUST-50: what the application says of service and hops is in every packet; options of IP are none of TCP's business.
#[test]
fn fields_of_ip() {
    let mut rig = Rig::listening(8);
    let options = TcpOptions { tos: 0xb8, ttl: 17, ..TcpOptions::default() };
    rig.listener.unwrap().set_options(&mut rig.net(), options);
    let mut peer = Peer::port(2000);
    let stream = peer.connect(&mut rig);
    let segment = peer.segment(ACK, b"with options");
    rig.receive(&ip_with_options(repr(ipv4::protocol::TCP), &[7, 7, 4, 0, 0, 0, 0, 1], &segment.bytes()));
    peer.nxt = peer.nxt.wrapping_add(12);
    assert_eq!(rig.read(stream), b"with options");
    rig.write(stream, b"answer");
    let heard = peer.hear(&mut rig);
    assert!(!heard.is_empty() && heard.iter().all(|heard| (heard.packet[1], heard.packet[8]) == (0xb8, 17)));
    rig.finish();
}

/// RFC 9293 MUST-43, MUST-44, MUST-45, MUST-46: whose address a connection has, and to whom there can be none.
#[test]
fn local_addresses() {
    let second = Ipv4Addr::new(10, 0, 0, 77);
    let mut rig = Rig::with(|_, iface| iface.addresses.push("10.0.0.77/24".parse().unwrap()));
    let peer = SocketAddrV4::new(PEER, 80);
    let by_route = rig.net().tcp_connect(peer).unwrap();
    assert_eq!(by_route.local_addr(&rig.net()).map(|at| *at.ip()), Some(US));
    let told = rig.net().tcp_connect_from(SocketAddrV4::new(second, 5555), peer).unwrap();
    let sources: Vec<_> = segments(&rig.sent()).iter().map(|heard| heard.packet[12..16].to_vec()).collect();
    assert_eq!(sources, [US.octets().to_vec(), second.octets().to_vec()]);
    for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 5), Ipv4Addr::UNSPECIFIED] {
        let refused = rig.net().tcp_connect(SocketAddrV4::new(to, 80));
        assert!(matches!(refused, Err(BindError::Unreachable)), "{to}: {refused:?}");
    }
    for stream in [by_route, told] {
        stream.abort(&mut rig.net());
    }
    rig.finish();
}

/// RFC 9293 MUST-41, MUST-42: listening disturbs no connection, and connections of one port do not disturb each other or who listens there.
#[test]
fn many_connections_of_one_port() {
    let mut rig = Rig::listening(8);
    let mut peers: Vec<_> = (2000..2050).map(Peer::port).collect();
    let streams: Vec<_> = peers.iter_mut().map(|peer| peer.connect(&mut rig)).collect();
    let same = rig.net().tcp_listen(SocketAddrV4::new(US, TCP_PORT), 8);
    assert!(matches!(same, Err(BindError::InUse)));
    let other = rig.net().tcp_listen(SocketAddrV4::new(US, 81), 8).unwrap();
    for (peer, stream) in peers.iter_mut().zip(&streams) {
        peer.talks(&mut rig, *stream);
    }
    other.close(&mut rig.net());
    peers[0].talks(&mut rig, streams[0]);
    rig.finish();
}

/// RFC 9293 MUST-33, MUST-66: a closed window keeps out data, but neither the urgent pointer nor a reset.
#[test]
fn a_window_that_is_closed() {
    let mut rig = Rig::listening(8);
    let options = TcpOptions { recv_queue_bytes: 2000, recv_queue_bytes_max: 2000, ..TcpOptions::default() };
    rig.listener.unwrap().set_options(&mut rig.net(), options);
    let mut peer = Peer::port(2000);
    let stream = peer.connect(&mut rig);
    peer.send(&mut rig, &[1; 1000]);
    peer.send(&mut rig, &[2; 1000]);
    assert_eq!(peer.hear(&mut rig).last().map(|heard| heard.header.window), Some(0));
    rig.receive(&peer.segment(ACK | URG, b"x").with(|segment| segment.urgent = 1).frame());
    assert_eq!(stream.bytes_to_mark(&rig.net()), Some(2000), "announced");
    rig.receive(&peer.segment(RST, b"").frame());
    assert_eq!(stream.state(&rig.net()), TcpState::Closed);
    assert_eq!(rig.read(stream).len(), 2000);
    rig.finish();
}

/// RFC 9293 MUST-18; RFC 6298 section 3 (Karn): what was sent twice says nothing about the round trip.
#[test]
fn round_trips_of_what_was_sent_twice() {
    let mut rig = Rig::listening(8);
    let mut peer = Peer::port(2000);
    let syn = peer.syn().with(|segment| segment.options = mss(1460));
    let stream = peer.connect_with(&mut rig, &syn);
    peer.talks(&mut rig, stream);
    let before = stream.info(&rig.net()).unwrap();
    rig.write(stream, b"lost at first");
    rig.sent();
    rig.advance(Duration::from_secs(2));
    rig.sent();
    assert!(stream.info(&rig.net()).unwrap().retransmissions > 0);
    peer.rcv = peer.rcv.wrapping_add(13);
    rig.receive(&peer.segment(ACK, b"").frame());
    let after = stream.info(&rig.net()).unwrap();
    assert_eq!((after.srtt, after.in_flight_bytes), (before.srtt, 0));
    // RFC 6298 section 5.7: the back-off stays until something is measured.
    assert!(after.rto > before.rto);
    peer.talks(&mut rig, stream);
    assert_eq!(stream.info(&rig.net()).unwrap().rto, before.rto);
    rig.finish();
}
