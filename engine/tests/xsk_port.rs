//! The AF_XDP port against the kernel: opening and closing, exact bytes out and in, and the errors. Needs root.
#![cfg(feature = "af-xdp")]

mod xsk_rig;

use framewire::{
    buf::TxQueue,
    port::{
        CopyMode, Kick, Port,
        xsk::{BusyPoll, LinkState, MultiBuffer, Wakeup, XdpMode, XskConfig, XskError, XskPort, ZeroCopy},
    },
    time::{Duration, Instant},
};
use framewire_xdp::{AttachMode, Mode, Steer, SteerOptions};
use std::time::Instant as Clock;
use xsk_rig::*;

const PATIENCE: Duration = Duration::from_secs(1);

fn refusal(config: XskConfig) -> XskError {
    match XskPort::open(config) {
        Err(error) => {
            println!("{error}");
            error
        }
        Ok((port, _)) => panic!("opened {}", port.info()),
    }
}

/// The kernel tells a changed carrier from a work queue of its own (`net/core/link_watch.c`), on a busy machine a while later.
fn wait_for_link(port: &XskPort, wanted: LinkState) {
    let begun = Clock::now();
    while port.link_state().unwrap() != wanted && begun.elapsed() < 10 * PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(port.link_state().unwrap(), wanted);
}

#[test]
fn closing_gives_every_frame_back_and_the_queue_free() {
    in_namespace(1500, || {
        for round in 0..5 {
            let (mut port, pool) = open(config());
            println!("{}", port.info());
            assert_eq!(port.info().copy, CopyMode::Copy);
            assert_eq!(port.info().mtu, 1500);
            assert!(port.info().fallback.is_some(), "zero-copy is preferred and veth has none");
            wait_for_link(&port, LinkState::Up);
            assert!(port.refill() > 0);
            let mut queue = TxQueue::with_limit(64);
            queue.push(frame(&pool, b"left behind", 0).seal().unwrap()).unwrap();
            port.transmit(Instant::ZERO, &mut queue);
            assert!(!pool.ledger().is_whole());
            // Every other round is dropped in the midst of it, and every buffer and pool that is left outlives the port.
            if round % 2 == 0 {
                port.close(PATIENCE);
                assert_eq!(port.stats().tx_packets, 1);
                assert_eq!(port.kick().unwrap(), Kick::Idle);
                assert_eq!(port.refill(), 0);
                assert!(port.socket().is_none());
            } else {
                drop(port);
            }
            let ledger = pool.ledger();
            assert!(ledger.is_whole(), "{ledger}");
            let kept = frame(&pool, b"outlives the port", 0);
            // The pool is alive, and still the queue is free for the next socket.
            let (_second, second_pool) = open(config());
            assert_eq!(kept.as_slice()[HEADER_BYTES..], *b"outlives the port");
            drop(kept);
            drop(pool);
            drop(_second);
            assert!(second_pool.ledger().is_whole());
        }
    });
}

#[test]
fn a_closed_port_leaves_no_descriptor_behind() {
    in_namespace(1500, || {
        let count = || {
            std::fs::read_dir("/proc/self/fd")
                .unwrap()
                .filter(|e| {
                    let target = std::fs::read_link(e.as_ref().unwrap().path());
                    target.is_ok_and(|t| t.to_string_lossy().contains("eventfd"))
                })
                .count()
        };
        let before = count();
        for _ in 0..3 {
            let (mut port, pool) = open(config());
            port.close(PATIENCE);
            drop((port, pool));
        }
        // Other tests of this process hold at most a few at a time.
        assert!(count() <= before + 8, "{} → {}", before, count());
    });
}

#[test]
fn single_frames_arrive_with_exact_bytes_from_any_offset() {
    in_namespace(1500, || {
        let (mut port, pool) = open(config());
        let peer = PacketSocket::on(PEER);
        let mut queue = TxQueue::with_limit(64);
        for (round, len) in [1, 2, 46, 63, 64, 65, 511, 1000, 1499, 1500].into_iter().cycle().take(200).enumerate() {
            let payload = pattern(len, round);
            queue.push(frame(&pool, &payload, round).seal().unwrap()).unwrap();
            flush(&mut port, &mut queue, &pool);
            let got = peer.receive().unwrap();
            assert_eq!(got[..HEADER_BYTES], ethernet_header());
            assert_eq!(got[HEADER_BYTES..], payload, "payload of {len} at offset {round}");
        }
        let stats = port.stats();
        assert_eq!((stats.tx_packets, stats.kernel_tx_invalid_descs), (200, 0));
        port.close(PATIENCE);
        assert!(pool.ledger().is_whole());
    });
}

/// Sends pieces of one large buffer behind headers in frames of their own.
fn chains_arrive(mtu: usize) {
    in_namespace(mtu, move || {
        let (mut port, pool) = open(config());
        assert!(port.info().tx_pieces_max > 1, "{}", port.info());
        let peer = PacketSocket::on(PEER);
        let bytes = pattern(65_536, mtu);
        let mut buffer = pool.alloc_contiguous(bytes.len()).expect("a run is free");
        buffer.put_slice(&bytes).unwrap();
        let frozen = buffer.freeze();
        let mut queue = TxQueue::with_limit(64);
        let (mut offset, mut pieces_max) = (0, 0);
        while offset < bytes.len() {
            let len = (mtu - offset % 3).min(bytes.len() - offset);
            let mut header = frame(&pool, &[], 0).seal().unwrap();
            header.set_more();
            queue.push(header).unwrap();
            let pieces = frozen.seal_range(offset, len, |piece| queue.push(piece).unwrap()).unwrap();
            pieces_max = pieces_max.max(1 + pieces);
            flush(&mut port, &mut queue, &pool);
            let got = peer.receive().unwrap();
            assert_eq!(got[..HEADER_BYTES], ethernet_header());
            assert!(got[HEADER_BYTES..] == bytes[offset..offset + len], "{len} bytes from {offset}");
            offset += len;
        }
        assert!(pieces_max >= if mtu > 4096 { 3 } else { 2 });
        assert_eq!(port.stats().kernel_tx_invalid_descs, 0);
        drop(frozen);
        port.close(PATIENCE);
        assert!(pool.ledger().is_whole(), "{}", pool.ledger());
    });
}

#[test]
fn chains_arrive_at_mtu_1500() {
    chains_arrive(1500);
}

#[test]
fn chains_arrive_at_mtu_9000() {
    chains_arrive(9000);
}

#[test]
fn as_many_pieces_as_promised_arrive() {
    in_namespace(1500, || {
        let (mut port, pool) = open(config());
        let peer = PacketSocket::on(PEER);
        let mut queue = TxQueue::with_limit(64);
        let count = port.info().tx_pieces_max;
        let mut sent = ethernet_header().to_vec();
        let mut header = frame(&pool, &[], 0).seal().unwrap();
        header.set_more();
        queue.push(header).unwrap();
        for i in 1..count {
            let mut piece = pool.alloc_tx().unwrap();
            piece.put_slice(&pattern(40 + i, i)).unwrap();
            sent.extend_from_slice(piece.as_slice());
            let mut piece = piece.seal().unwrap();
            if i < count - 1 {
                piece.set_more();
            }
            queue.push(piece).unwrap();
        }
        flush(&mut port, &mut queue, &pool);
        assert_eq!(peer.receive().unwrap(), sent);
        assert_eq!(port.stats().kernel_tx_invalid_descs, 0);
    });
}

#[test]
fn both_wakeup_policies_send() {
    in_namespace(1500, || {
        for wakeup in [Wakeup::OnRequest, Wakeup::Always] {
            let (mut port, pool) = open(XskConfig { wakeup, ..config() });
            let peer = PacketSocket::on(PEER);
            let mut queue = TxQueue::with_limit(512);
            for i in 0..128 {
                queue.push(frame(&pool, &pattern(100, i), 0).seal().unwrap()).unwrap();
            }
            flush(&mut port, &mut queue, &pool);
            for i in 0..128 {
                assert_eq!(peer.receive().unwrap()[HEADER_BYTES..], pattern(100, i));
            }
            println!("{wakeup:?}: {:?}", port.stats());
        }
    });
}

/// Frames from the peer reach the port, whatever they are made of.
fn frames_are_received(mtu: usize, config: XskConfig, attach: AttachMode, sizes: &'static [usize]) {
    in_namespace(mtu, move || {
        let (mut port, pool) = open(config);
        let mut steer = Steer::load(&SteerOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        steer.set_mode(Mode::Everything).unwrap();
        steer.set_socket(0, port.socket().unwrap()).unwrap();
        steer.attach(port.ifindex(), attach).unwrap_or_else(|e| panic!("{e}"));
        let peer = PacketSocket::on(PEER);
        let mut received = Vec::new();
        for round in 0..50 {
            port.refill();
            for &len in sizes {
                let mut sent = ethernet_header().to_vec();
                sent.extend(pattern(len, round));
                peer.send(&sent);
                let end = Clock::now() + Duration::from_secs(2);
                let got = loop {
                    port.kick().unwrap();
                    if port.receive(Instant::ZERO, &mut received, 64) > 0 {
                        break received.pop().unwrap();
                    }
                    assert!(Clock::now() < end, "no frame of {len}: {:?}", port.stats());
                };
                assert_eq!(got.total_len(), sent.len());
                assert!(got.pieces().collect::<Vec<_>>().concat() == sent, "frame of {len}");
                // The same frame out again: no copy, and the peer sees it.
                if !got.is_chain() {
                    let mut queue = TxQueue::with_limit(1);
                    queue.push(got.into_tx().seal().unwrap()).unwrap();
                    flush(&mut port, &mut queue, &pool);
                    assert_eq!(peer.receive().unwrap(), sent);
                }
            }
        }
        let stats = port.stats();
        assert_eq!(stats.rx_packets, 50 * sizes.len() as u64);
        assert_eq!((stats.rx_bad_descriptors, stats.kernel_rx_dropped, stats.kernel_rx_invalid_descs), (0, 0, 0));
        steer.detach().unwrap();
        port.close(PATIENCE);
        assert!(pool.ledger().is_whole(), "{}", pool.ledger());
        assert_eq!(port.stats().rx_packets, stats.rx_packets, "counts outlive the socket");
    });
}

#[test]
fn frames_are_received_native() {
    frames_are_received(1500, config(), AttachMode::Native, &[46, 64, 777, 1500]);
}

#[test]
fn frames_are_received_generic() {
    let config = XskConfig { xdp_mode: XdpMode::Generic, ..config() };
    frames_are_received(1500, config, AttachMode::Generic, &[46, 64, 777, 1500]);
}

#[test]
fn frames_are_received_into_chunks_of_2048() {
    let config = XskConfig { chunk_bytes: Some(2048), ..config() };
    frames_are_received(1500, config, AttachMode::Native, &[46, 1500]);
}

#[test]
fn frames_are_received_in_several_chunks_at_mtu_9000() {
    frames_are_received(9000, config(), AttachMode::Native, &[46, 3800, 3840, 4096, 9000]);
}

#[test]
fn a_missing_interface_is_named() {
    in_namespace(1500, || {
        let error = refusal(XskConfig { interface: "nonesuch".into(), ..config() });
        assert!(matches!(error, XskError::NoInterface { .. }));
        assert!(error.to_string().contains("\"nonesuch\"") && error.to_string().contains("os error 19"));
        for name in ["", "a-name-that-is-too-long", "a\0b"] {
            assert!(matches!(refusal(XskConfig { interface: name.into(), ..config() }), XskError::NoInterface { .. }));
        }
    });
}

#[test]
fn a_queue_out_of_range_is_refused_with_the_number_there_are() {
    in_namespace(1500, || {
        let error = refusal(XskConfig { queue: 1, ..config() });
        assert!(matches!(error, XskError::NoQueue { queue: 1, queues: 1, .. }), "{error:?}");
    });
}

#[test]
fn required_zero_copy_is_refused_by_veth_with_the_reason() {
    in_namespace(1500, || {
        let error = refusal(XskConfig { zero_copy: ZeroCopy::Required, ..config() });
        assert!(
            matches!(&error, XskError::ZeroCopyRefused { reason, .. } if reason.contains("os error 95")),
            "{error:?}"
        );
    });
}

#[test]
fn an_mtu_beyond_a_chunk_is_refused_without_multi_buffer() {
    in_namespace(9000, || {
        let error = refusal(XskConfig { multi_buffer: MultiBuffer::Off, ..config() });
        assert!(matches!(error, XskError::MultiBufferNeeded { mtu: 9000, mtu_max: 3822, .. }), "{error:?}");
        assert!(error.to_string().contains("XDP_USE_SG"));
    });
}

#[test]
fn without_multi_buffer_a_packet_has_one_piece() {
    in_namespace(1500, || {
        let (port, _pool) = open(XskConfig { multi_buffer: MultiBuffer::Off, ..config() });
        assert_eq!(port.info().tx_pieces_max, 1);
    });
}

#[test]
fn a_queue_in_use_is_busy_after_bounded_tries() {
    in_namespace(1500, || {
        let (_first, _pool) = open(config());
        let begun = Clock::now();
        let error = refusal(XskConfig { busy_retry: Duration::from_millis(200), ..config() });
        assert!(matches!(error, XskError::Busy { tries: 2.., .. }), "{error:?}");
        assert!((Duration::from_millis(200)..Duration::from_secs(3)).contains(&begun.elapsed()));
    });
}

#[test]
fn a_missing_capability_is_named() {
    in_namespace(1500, || {
        // Of this thread alone.
        caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_NET_RAW).unwrap();
        let error = refusal(config());
        assert!(matches!(error, XskError::MissingCapability { capability: "CAP_NET_RAW", .. }), "{error:?}");
    });
}

#[test]
fn a_umem_beyond_the_locked_memory_limit_is_explained() {
    in_namespace(1500, || {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is writable and outlives the call.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) }, 0);
        let big = XskConfig { frames: 65_536, chunk_bytes: Some(4096), ..config() };
        caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_IPC_LOCK).unwrap();
        if limit.rlim_cur < 65_536 * 4096 {
            let error = refusal(big);
            assert!(matches!(error, XskError::LockedMemory { bytes: 0x1000_0000, .. }), "{error:?}");
        } else {
            assert!(XskPort::open(big).is_ok(), "the limit of {} allows it", limit.rlim_cur);
        }
    });
}

#[test]
fn busy_polling_is_for_zero_copy_only() {
    in_namespace(1500, || {
        let (port, _pool) = open(XskConfig { busy_poll: Some(BusyPoll::default()), ..config() });
        assert!(port.info().fallback.as_ref().is_some_and(|f| f.contains("busy polling")), "{}", port.info());
    });
}

#[test]
fn a_link_that_is_down_is_soft_and_an_interface_that_is_gone_is_not() {
    in_namespace(1500, || {
        let (mut port, pool) = open(config());
        let mut queue = TxQueue::with_limit(4);
        ip(&["link", "set", PEER, "down"]);
        wait_for_link(&port, LinkState::NoCarrier);
        ip(&["link", "set", PORT, "down"]);
        wait_for_link(&port, LinkState::Down);
        queue.push(frame(&pool, b"waits", 0).seal().unwrap()).unwrap();
        port.transmit(Instant::ZERO, &mut queue);
        assert_eq!(port.kick().unwrap(), Kick::Pending);
        assert!(port.stats().tx_kicks_soft_errors > 0);
        ip(&["link", "set", PORT, "up"]);
        ip(&["link", "set", PEER, "up"]);
        flush(&mut port, &mut queue, &pool);
        ip(&["link", "del", PORT]);
        queue.push(frame(&pool, b"too late", 0).seal().unwrap()).unwrap();
        port.transmit(Instant::ZERO, &mut queue);
        let error = port.kick().unwrap_err();
        println!("{error}");
        assert_eq!(error.call, "sendto");
        port.close(PATIENCE);
        assert!(pool.ledger().is_whole());
    });
}

#[test]
fn contradictions_name_the_field() {
    let wrong: [(&str, XskConfig); 7] = [
        ("chunk_bytes", XskConfig { chunk_bytes: Some(8192), ..config() }),
        ("rx_ring_entries", XskConfig { rx_ring_entries: 500, ..config() }),
        ("tx_ring_entries", XskConfig { tx_ring_entries: 0, ..config() }),
        ("fill_ring_entries", XskConfig { fill_ring_entries: 512, ..config() }),
        ("completion_ring_entries", XskConfig { completion_ring_entries: 256, ..config() }),
        ("frames", XskConfig { frames: 1280, ..config() }),
        ("zero_copy", XskConfig { zero_copy: ZeroCopy::Required, xdp_mode: XdpMode::Generic, ..config() }),
    ];
    for (wanted, config) in wrong {
        assert!(matches!(config.validate(), Err(XskError::Config { field, .. }) if field == wanted), "{wanted}");
    }
    config().validate().unwrap();
}
