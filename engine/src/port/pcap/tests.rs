use super::*;
use crate::{
    buf::{HugePages, Pool, PoolConfig},
    port::{MacAddr, mem},
};
use std::{cell::RefCell, path::Path, rc::Rc};

/// A block as read back: type, body and the options behind its fixed part.
#[derive(Debug)]
struct Block {
    kind: u32,
    body: Vec<u8>,
}

impl Block {
    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.body[at..at + 2].try_into().unwrap())
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.body[at..at + 4].try_into().unwrap())
    }

    fn option(&self, mut at: usize, code: u16) -> Option<Vec<u8>> {
        loop {
            let (this, len) = (self.u16(at), self.u16(at + 2) as usize);
            if this == code {
                return Some(self.body[at + 4..at + 4 + len].to_vec());
            }
            if this == 0 {
                assert_eq!(len, 0);
                assert_eq!(at + 4, self.body.len(), "nothing after the last option");
                return None;
            }
            at += 4 + len.next_multiple_of(4);
        }
    }
}

fn read(path: &Path) -> Vec<Block> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let len = word(4) as usize;
        assert_eq!(len % 4, 0);
        assert_eq!(word(len - 4) as usize, len, "both lengths of a block agree");
        blocks.push(Block { kind: word(0), body: rest[8..len - 4].to_vec() });
        rest = &rest[len..];
    }
    blocks
}

#[derive(Debug, PartialEq)]
struct Captured {
    ns: u64,
    original_len: u32,
    bytes: Vec<u8>,
    flags: u32,
    lost_before: u64,
}

fn packets(blocks: &[Block]) -> Vec<Captured> {
    blocks
        .iter()
        .filter(|block| block.kind == 6)
        .map(|block| {
            assert_eq!(block.u32(0), 0);
            let len = block.u32(12) as usize;
            let options = 20 + len.next_multiple_of(4);
            let number = |bytes: Vec<u8>| u64::from_le_bytes(bytes.try_into().unwrap());
            Captured {
                ns: u64::from(block.u32(4)) << 32 | u64::from(block.u32(8)),
                original_len: block.u32(16),
                bytes: block.body[20..20 + len].to_vec(),
                flags: u32::from_le_bytes(block.option(options, 2).unwrap().try_into().unwrap()),
                lost_before: block.option(options, 4).map_or(0, number),
            }
        })
        .collect()
}

struct Rig {
    pool: Pool,
    port: PcapPort<mem::MemPort>,
    nic: Rc<RefCell<mem::Nic>>,
    queue: TxQueue,
    path: PathBuf,
}

impl Rig {
    fn new(name: &str, change: impl FnOnce(&mut PcapConfig)) -> Self {
        let region = crate::buf::Region::map(512, 2048, HugePages::Never).unwrap();
        let pool = Pool::new(region, PoolConfig::default());
        let mut mem_config = mem::MemConfig::new("tap0", MacAddr([2, 0, 0, 0, 0, 9]));
        mem_config.ring_entries = 32;
        mem_config.mtu = 4000;
        let (port, nic) = mem::port(&pool, mem_config);
        let path = std::env::temp_dir().join(format!("framewire-pcap-{}-{name}.pcapng", std::process::id()));
        let mut config = PcapConfig::new(&path, Duration::from_secs(1_700_000_000));
        change(&mut config);
        let port = PcapPort::create(port, config).unwrap();
        Self { pool, port, nic, queue: TxQueue::with_limit(256), path }
    }

    fn enqueue(&mut self, fill: u8, lens: &[usize]) {
        for (i, &len) in lens.iter().enumerate() {
            let mut buf = self.pool.alloc_tx().unwrap();
            buf.put_slice(&vec![fill; len]).unwrap();
            let mut sealed = buf.seal().unwrap();
            if i + 1 < lens.len() {
                sealed.set_more();
            }
            self.queue.push(sealed).unwrap();
        }
    }

    fn close(mut self) -> (Vec<Block>, PcapStats) {
        self.queue.truncate(0);
        self.port.close(Duration::ZERO);
        assert!(self.pool.ledger().is_whole(), "{}", self.pool.ledger());
        let blocks = read(&self.path);
        std::fs::remove_file(&self.path).unwrap();
        (blocks, self.port.capture_stats())
    }
}

#[test]
fn both_directions_are_written_with_time_length_and_interface() {
    let mut rig = Rig::new("both", |_| {});
    rig.port.refill();
    rig.enqueue(1, &[61]);
    rig.enqueue(2, &[20, 30, 7]);
    assert_eq!(rig.port.transmit(Instant::from_nanos(5), &mut rig.queue), 4);
    rig.nic.borrow_mut().inject(&[3; 3000]);
    let mut up = Vec::new();
    assert_eq!(rig.port.receive(Instant::from_nanos(1 << 33), &mut up, 64), 1);
    drop(up);
    let (blocks, stats) = rig.close();

    assert_eq!(blocks.iter().map(|block| block.kind).collect::<Vec<_>>(), [0x0a0d_0d0a, 1, 6, 6, 6, 5]);
    let section = &blocks[0];
    assert_eq!((section.u32(0), section.u16(4), section.u16(6)), (0x1a2b_3c4d, 1, 0));
    assert_eq!(section.body[8..16], [0xff; 8]);
    assert!(section.option(16, 4).unwrap().starts_with(b"framewire "));
    let interface = &blocks[1];
    assert_eq!((interface.u16(0), interface.u32(4)), (1, 0));
    assert_eq!(interface.option(8, 2).unwrap(), b"tap0");
    assert_eq!(interface.option(8, 6).unwrap(), [2, 0, 0, 0, 0, 9]);
    assert_eq!(interface.option(8, 9).unwrap(), [9]);
    let epoch = 1_700_000_000_000_000_000;
    let expect = |ns, fill: u8, len: usize, flags| Captured {
        ns,
        original_len: len as u32,
        bytes: vec![fill; len],
        flags,
        lost_before: 0,
    };
    assert_eq!(
        packets(&blocks),
        [expect(epoch + 5, 1, 61, 2), expect(epoch + 5, 2, 57, 2), expect(epoch + (1 << 33), 3, 3000, 1)]
    );
    let end = &blocks[5];
    assert_eq!(end.option(12, 4).unwrap(), 3u64.to_le_bytes());
    assert_eq!(end.option(12, 5).unwrap(), 0u64.to_le_bytes());
    assert_eq!(stats, PcapStats { captured: 3, dropped: 0, failed: false });
}

#[test]
fn the_snap_length_cuts_and_the_original_length_stays() {
    let mut rig = Rig::new("snap", |config| config.snaplen_bytes = 33);
    rig.enqueue(1, &[20, 20]);
    rig.enqueue(2, &[33]);
    rig.port.transmit(Instant::ZERO, &mut rig.queue);
    let (blocks, _) = rig.close();
    let seen: Vec<_> = packets(&blocks).iter().map(|packet| (packet.bytes.len(), packet.original_len)).collect();
    assert_eq!(seen, [(33, 40), (33, 33)]);
    assert_eq!(blocks[1].u32(4), 33);
}

#[test]
fn only_what_the_port_took_is_written_and_the_rest_stays_queued_in_order() {
    let mut rig = Rig::new("full", |_| {});
    for fill in 0..100 {
        rig.enqueue(fill, &[60]);
    }
    let mut sent = Vec::new();
    let mut posted = Vec::new();
    while !rig.queue.is_empty() {
        posted.push(rig.port.transmit(Instant::ZERO, &mut rig.queue));
        assert_eq!(rig.queue.len(), 100 - posted.iter().sum::<usize>());
        while let Some(packet) = rig.nic.borrow_mut().take() {
            sent.push(packet[0]);
        }
        rig.port.reap();
    }
    assert_eq!(posted, [32, 32, 32, 4]);
    assert!(sent.iter().copied().eq(0..100));
    let (blocks, stats) = rig.close();
    assert!(packets(&blocks).iter().map(|packet| packet.bytes[0]).eq(0..100));
    assert_eq!((stats.captured, stats.dropped), (100, 0));
}

#[test]
fn what_the_writer_cannot_take_is_counted_in_the_file_and_passes_on_the_wire() {
    let mut rig = Rig::new("slow", |config| config.queue_packets = 1);
    let mut passed = 0;
    for round in 0..300 {
        for _ in 0..32 {
            rig.enqueue(round as u8, &[1500]);
        }
        rig.port.transmit(Instant::ZERO, &mut rig.queue);
        passed += rig.nic.borrow_mut().swallow();
        rig.port.reap();
    }
    assert_eq!(passed, 9600);
    let (blocks, stats) = rig.close();
    assert_eq!(stats.captured + stats.dropped, 9600);
    assert!(stats.dropped > 0, "a queue of one packet kept up with bursts of 32");
    let packets = packets(&blocks);
    assert_eq!(packets.len() as u64, stats.captured);
    let noted: u64 = packets.iter().map(|packet| packet.lost_before).sum();
    assert!(noted <= stats.dropped);
    let end = blocks.last().unwrap();
    assert_eq!(end.kind, 5);
    assert_eq!(end.option(12, 4).unwrap(), 9600u64.to_le_bytes());
    assert_eq!(end.option(12, 5).unwrap(), stats.dropped.to_le_bytes());
}

#[test]
fn an_unusable_file_is_named() {
    let region = crate::buf::Region::map(1, 2048, HugePages::Never).unwrap();
    let pool = Pool::new(region, PoolConfig::default());
    let (port, _nic) = mem::port(&pool, mem::MemConfig::new("x", MacAddr::default()));
    let error = PcapPort::create(port, PcapConfig::new("/nonexistent/dir/a.pcapng", Duration::ZERO)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("/nonexistent/dir/a.pcapng") && text.contains("No such file"), "{text}");

    let (port, _nic) = mem::port(&pool, mem::MemConfig::new("x", MacAddr::default()));
    let error = PcapPort::create(port, PcapConfig::new("/dev/full", Duration::ZERO)).unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
}

#[test]
fn a_capture_that_fails_later_only_counts() {
    let mut rig = Rig::new("later", |_| {});
    // As the writer does when the disk is full.
    rig.port.tap.shared.failed.store(true, Ordering::Relaxed);
    rig.enqueue(1, &[60]);
    assert_eq!(rig.port.transmit(Instant::ZERO, &mut rig.queue), 1);
    let (_, stats) = rig.close();
    assert_eq!(stats, PcapStats { captured: 0, dropped: 1, failed: true });
}
