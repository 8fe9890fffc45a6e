//! Frozen bytes that several send at once.

use super::*;
use crate::buf::Frozen;

fn frozen(rig: &Rig, payload: &[u8]) -> Frozen {
    let mut buf = rig.stack.pool().alloc_contiguous(payload.len()).unwrap();
    buf.put_slice(payload).unwrap();
    buf.freeze()
}

#[test]
fn stretches_of_frozen_bytes_go_out_uncopied_any_number_of_times_at_once() {
    let mut rig = Rig::with(|config| config.tx_pieces_max = 17);
    rig.learn_peer();
    let (socket, to) = (rig.stack.udp_bind(any(7)).unwrap(), SocketAddrV4::new(PEER, 9));
    let payload: Vec<u8> = (0..9000).map(|i| (i / 3) as u8).collect();
    let (one, other) = (frozen(&rig, &payload), frozen(&rig, b"other"));
    let sends: [&[(&Frozen, usize, usize)]; 5] =
        [&[(&one, 0, 9000)], &[(&one, 5, 100)], &[(&other, 1, 3), (&one, 4000, 2000)], &[(&one, 0, 9000)], &[]];
    for send in sends {
        assert!(rig.stack.udp_send_shared(socket, send, to).unwrap());
    }
    assert!(!one.is_at_rest(0, 9000) && !other.is_at_rest(0, 5));
    let packets = rig.sent();
    assert!(one.is_at_rest(0, 9000));
    let mut packets = &packets[..];
    for send in sends {
        let expected: Vec<u8> =
            send.iter().flat_map(|&(bytes, from, len)| bytes.slices(from, len)).flatten().copied().collect();
        let (those, rest) = packets.split_at((expected.len() + 8).div_ceil(1480));
        packets = rest;
        assert_eq!(read_segment(US, PEER, &reassemble(those, 1500)), (SocketAddrV4::new(US, 7), to, expected));
    }
    assert!(packets.is_empty());
    assert_eq!(rig.stack.counters.bytes_copied_tx, 0);
    assert!(one.thaw().is_ok());
    drop(other);
    rig.whole();
}

#[test]
fn over_a_port_that_takes_no_pieces_a_copy_goes_out_and_is_counted() {
    let mut rig = Rig::new();
    rig.learn_peer();
    let (socket, to) = (rig.stack.udp_bind(any(7)).unwrap(), SocketAddrV4::new(PEER, 9));
    let bytes = frozen(&rig, &[7; 5000]);
    assert!(rig.stack.udp_send_shared(socket, &[(&bytes, 0, 5000)], to).unwrap());
    assert_eq!(rig.stack.counters.bytes_copied_tx, 5000);
    assert_eq!(read_segment(US, PEER, &reassemble(&rig.sent(), 1500)).2, [7; 5000]);
    drop(bytes);
    rig.whole();
}

#[test]
fn a_frame_with_too_many_descriptors_out_would_block() {
    let mut rig = Rig::with(|config| config.tx_pieces_max = 17);
    rig.learn_peer();
    let (socket, to) = (rig.stack.udp_bind(any(7)).unwrap(), SocketAddrV4::new(PEER, 9));
    let bytes = frozen(&rig, &[7; 100]);
    let mut held = Vec::new();
    while bytes.seal_range(0, 1, |piece| held.push(piece)).is_ok() {}
    assert!(!rig.stack.udp_send_shared(socket, &[(&bytes, 0, 100)], to).unwrap());
    assert!(rig.sent().is_empty());
    held.pop();
    assert!(rig.stack.udp_send_shared(socket, &[(&bytes, 0, 100)], to).unwrap());
    assert_eq!(rig.sent().len(), 1);
    drop((held, bytes));
    rig.whole();
}
