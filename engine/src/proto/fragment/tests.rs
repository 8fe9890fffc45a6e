use super::*;
use crate::buf::{HugePages, Pool, PoolConfig, Region};
use proptest::prelude::*;

const FRAMES: usize = 256;
const NOW: Instant = Instant::from_millis(1000);

fn pool() -> Pool {
    Pool::new(Region::map(FRAMES, 2048, HugePages::Never).unwrap(), PoolConfig::default())
}

fn reassembler(config: FragmentConfig) -> Reassembler {
    Reassembler::new(config, [1, 2, 3, 4])
}

fn key(src: u8, id: u16) -> FragmentKey {
    FragmentKey { src: Ipv4Addr::new(10, 0, 0, src), dst: Ipv4Addr::new(10, 0, 1, 1), id, protocol: protocol::UDP }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// Everything the bookkeeping claims, recounted.
fn check_invariants(r: &Reassembler) {
    let live: Vec<usize> = std::iter::successors(r.by_age.front(), |&at| r.datagrams[at].by_age.next()).collect();
    assert_eq!(live.len(), r.by_key.len());
    assert_eq!(live.len() + r.free.len(), r.datagrams.len());
    assert!(live.windows(2).all(|w| r.datagrams[w[0]].deadline <= r.datagrams[w[1]].deadline));
    let frames = |at: &usize| r.datagrams[*at].pieces.iter().map(|p| p.buf.frame_count()).sum::<usize>();
    assert_eq!(live.iter().map(frames).sum::<usize>(), r.frames);
    assert!(r.frames <= r.config.frames_max && live.len() <= r.config.datagrams_max);
    assert_eq!(r.sources.values().map(|s| s.datagrams).sum::<usize>(), live.len());
    assert_eq!(r.sources.values().map(|s| s.frames).sum::<usize>(), r.frames);
    for at in live {
        let d = &r.datagrams[at];
        assert!(d.pieces.len() <= r.config.per_datagram_max);
        assert!(d.pieces.windows(2).all(|w| w[0].end() <= w[1].offset), "no overlap is ever held");
        assert!(d.poisoned || d.covered == d.pieces.iter().map(|p| p.len).sum::<usize>());
        assert!(!d.poisoned || d.pieces.is_empty());
    }
    for source in r.sources.values() {
        let own = std::iter::successors(source.by_age.front(), |&at| r.datagrams[at].by_age_of_source.next()).count();
        assert_eq!(own, source.datagrams);
        assert!(own <= r.config.per_source_max);
    }
}

struct Bench {
    pool: Pool,
    r: Reassembler,
}

impl Bench {
    fn new(config: FragmentConfig) -> Self {
        Self { pool: pool(), r: reassembler(config) }
    }

    fn put(&mut self, key: FragmentKey, offset: usize, len: usize, more: bool) -> Inserted {
        let payload = self.pool.rx_from_bytes(&bytes(len)).unwrap();
        let inserted = self.r.insert(key, offset, more, payload, &[0x45; 28], NOW);
        check_invariants(&self.r);
        inserted
    }

    fn refused(&mut self, offset: usize, len: usize, more: bool) -> Option<FragmentError> {
        match self.put(key(1, 1), offset, len, more) {
            Inserted::Refused(error) => Some(error),
            Inserted::Started | Inserted::Held | Inserted::Complete(_) => None,
        }
    }
}

#[test]
fn two_halves_either_way_round() {
    for first_last in [false, true] {
        let pool = pool();
        let mut r = reassembler(FragmentConfig::default());
        let data = bytes(2000);
        let parts = [(0, &data[..1480], true), (1480, &data[1480..], false)];
        let (a, b) = if first_last { (1, 0) } else { (0, 1) };
        let rx = |part: usize| pool.rx_from_bytes(parts[part].1).unwrap();
        let got = r.insert(key(1, 1), parts[a].0, parts[a].2, rx(a), &[], NOW);
        assert!(matches!(got, Inserted::Started));
        assert_eq!(r.arm(), Some(NOW + Duration::from_secs(30)));
        let got = r.insert(key(1, 1), parts[b].0, parts[b].2, rx(b), &[], NOW);
        let Inserted::Complete(whole) = got else { panic!("{got:?}") };
        assert_eq!(whole.pieces().flatten().copied().collect::<Vec<u8>>(), data);
        assert!(r.is_empty());
        assert_eq!(r.frames_held(), 0);
        drop(whole);
        assert!(pool.ledger().is_whole());
    }
}

#[test]
fn fragments_that_are_wrong_by_themselves() {
    let mut b = Bench::new(FragmentConfig::default());
    assert_eq!(b.refused(0, 12, true), Some(FragmentError::Misaligned));
    assert_eq!(b.refused(8, 0, false), Some(FragmentError::Misaligned));
    assert_eq!(b.refused(4, 8, true), Some(FragmentError::Misaligned));
    assert_eq!(b.refused(65_512, 8, false), Some(FragmentError::TooLong));
    assert_eq!(b.refused(65_528, 8, false), Some(FragmentError::TooLong));
    assert_eq!(b.refused(usize::MAX - 7, 8, false), Some(FragmentError::TooLong));
    assert!(b.r.is_empty(), "they leave nothing behind");
    assert_eq!(b.refused(65_512, 3, false), None, "the last three bytes of the largest datagram");
    let tcp = FragmentKey { protocol: protocol::TCP, ..key(1, 2) };
    for (offset, len) in [(0, 16), (8, 24), (16, 24)] {
        assert!(matches!(b.put(tcp, offset, len, true), Inserted::Refused(FragmentError::Tiny)), "{offset}");
    }
    assert!(matches!(b.put(tcp, 0, 24, true), Inserted::Started));
    drop(b.r);
    assert!(b.pool.ledger().is_whole());
}

#[test]
fn duplicates_do_no_harm() {
    let mut b = Bench::new(FragmentConfig::default());
    assert_eq!(b.refused(0, 16, true), None);
    assert_eq!(b.refused(0, 16, true), Some(FragmentError::Duplicate));
    assert_eq!(b.refused(32, 5, false), None);
    assert_eq!(b.refused(32, 5, false), Some(FragmentError::Duplicate));
    let Inserted::Complete(whole) = b.put(key(1, 1), 16, 16, true) else { panic!() };
    assert_eq!(whole.total_len(), 37);
}

#[test]
fn overlap_poisons_until_the_timeout() {
    for (offset, len, more) in
        [(8, 16, true), (24, 16, true), (8, 8, true), (0, 48, true), (16, 8, true), (24, 5, false)]
    {
        let mut b = Bench::new(FragmentConfig::default());
        assert_eq!(b.refused(0, 16, true), None);
        assert_eq!(b.refused(16, 16, true), None);
        let error = b.refused(offset, len, more).unwrap();
        assert!(matches!(error, FragmentError::Overlap | FragmentError::Inconsistent), "{offset} {len}: {error}");
        assert_eq!(b.r.frames_held(), 0);
        assert!(b.pool.ledger().is_whole());
        assert_eq!(b.refused(32, 8, false), Some(FragmentError::Poisoned));
        assert!(b.r.expire(NOW).is_none());
        assert_eq!(b.r.len(), 1);
        assert!(b.r.expire(NOW + Duration::from_secs(30)).is_none(), "nobody is told");
        assert!(b.r.is_empty());
        assert!(matches!(b.put(key(1, 1), 0, 16, true), Inserted::Started));
    }
}

#[test]
fn two_ends_poison() {
    // (offset, length, more) of the second last-fragment or of one beyond the end.
    for (offset, len, more) in [(32, 6, false), (40, 8, false), (16, 8, false), (40, 8, true), (32, 8, true)] {
        let mut b = Bench::new(FragmentConfig::default());
        assert_eq!(b.refused(32, 8, false), None);
        assert_eq!(b.refused(offset, len, more), Some(FragmentError::Inconsistent), "{offset} {len}");
        assert_eq!(b.refused(0, 32, true), Some(FragmentError::Poisoned));
    }
    let mut b = Bench::new(FragmentConfig::default());
    assert_eq!(b.refused(64, 8, true), None);
    assert_eq!(b.refused(32, 8, false), Some(FragmentError::Inconsistent), "an end before what was already there");
}

#[test]
fn timeout_tells_whether_the_first_had_come() {
    let mut b = Bench::new(FragmentConfig::default());
    let due = NOW + Duration::from_secs(30);
    assert_eq!(b.refused(0, 16, true), None);
    assert_eq!(b.refused(32, 16, true), None);
    assert!(matches!(b.put(key(1, 2), 16, 16, true), Inserted::Started));
    assert_eq!(b.r.arm(), Some(due));
    assert!(b.r.expire(Instant::from_nanos(due.as_nanos() - 1)).is_none());
    let (of, out) = b.r.expire(due).unwrap();
    assert_eq!((of, out.had_first, out.frames_freed, out.quote()), (key(1, 1), true, 2, &[0x45; 28][..]));
    let (of, out) = b.r.expire(due).unwrap();
    assert_eq!((of, out.had_first, out.frames_freed, out.quote()), (key(1, 2), false, 1, &[][..]));
    assert!(b.r.expire(due).is_none() && b.r.is_empty());
    assert!(b.pool.ledger().is_whole());
}

#[test]
fn one_timer_serves_all() {
    let mut b = Bench::new(FragmentConfig::default());
    assert_eq!(b.r.arm(), None);
    let later = NOW + Duration::from_secs(1);
    let due = NOW + Duration::from_secs(30);
    b.put(key(1, 1), 0, 16, true);
    b.put(key(1, 9), 0, 16, true);
    assert_eq!(b.r.arm(), Some(due));
    let payload = b.pool.rx_from_bytes(&bytes(16)).unwrap();
    b.r.insert(key(1, 2), 0, true, payload, &[], later);
    assert_eq!(b.r.arm(), None, "one is armed already");
    assert!(b.r.expire(later).is_none());
    assert_eq!(b.r.arm(), None);
    b.put(key(1, 9), 8, 16, true);
    let (first, _) = b.r.expire(due).unwrap();
    assert_eq!(first, key(1, 1));
    assert!(b.r.expire(due).is_none(), "9 was discarded: nothing to tell; 2 is not due");
    assert_eq!(b.r.arm(), Some(later + Duration::from_secs(30)));
    assert_eq!(b.r.len(), 1);
}

#[test]
fn too_many_fragments_of_one_datagram() {
    let mut b = Bench::new(FragmentConfig { per_datagram_max: 4, ..FragmentConfig::default() });
    for n in 0..4 {
        assert_eq!(b.refused(n * 16, 8, true), None);
    }
    assert_eq!(b.refused(64, 8, true), Some(FragmentError::Budget));
    assert_eq!(b.r.frames_held(), 0);
    assert_eq!(b.refused(80, 8, true), Some(FragmentError::Poisoned));
}

#[test]
fn a_source_evicts_its_own() {
    let config = FragmentConfig { datagrams_max: 8, per_source_max: 2, frames_max: 32, ..FragmentConfig::default() };
    let mut b = Bench::new(config);
    b.put(key(9, 1), 0, 16, true);
    // A flood of datagrams …
    for id in 0..100 {
        assert!(matches!(b.put(key(1, id), 0, 16, true), Inserted::Started));
    }
    assert_eq!((b.r.len(), b.r.evicted()), (3, 98));
    // … and one of fragments: a source may have 2 of 8 datagrams, so 8 of 32 frames.
    for n in 0..100 {
        b.put(key(1, n % 2), usize::from(n) * 16 + 32, 8, true);
        assert!(b.r.frames_held() <= 9);
    }
    assert!(matches!(b.put(key(9, 1), 16, 16, false), Inserted::Complete(_)), "the other source is not disturbed");
}

#[test]
fn from_many_sources_the_oldest_goes() {
    let config = FragmentConfig { datagrams_max: 4, frames_max: 6, ..FragmentConfig::default() };
    let mut b = Bench::new(config);
    for src in 0..6 {
        b.put(key(src, 1), 0, 16, true);
    }
    assert_eq!((b.r.len(), b.r.evicted()), (4, 2));
    assert!(b.r.by_key.get(&key(1, 1)).is_none());
    for n in 1..=5 {
        assert!(matches!(b.put(key(2, 1), n * 16, 8, true), Inserted::Held), "{n}");
    }
    assert_eq!((b.r.len(), b.r.frames_held()), (1, 6), "the newest went only after the older ones");
    assert!(matches!(b.put(key(2, 1), 200, 8, true), Inserted::Refused(FragmentError::Budget)));
    assert_eq!(b.r.frames_held(), 0);
}

#[test]
fn nothing_is_held_without_a_budget() {
    for config in [
        FragmentConfig { datagrams_max: 0, ..FragmentConfig::default() },
        FragmentConfig { per_source_max: 0, ..FragmentConfig::default() },
        FragmentConfig { per_datagram_max: 0, ..FragmentConfig::default() },
        FragmentConfig { frames_max: 0, ..FragmentConfig::default() },
    ] {
        let mut b = Bench::new(config.clone());
        assert_eq!(b.refused(0, 16, true), Some(FragmentError::Budget), "{config:?}");
        assert!(b.r.is_empty());
    }
}

/// Cuts `len` bytes at multiples of eight that `cuts` choose.
fn split(len: usize, cuts: &[usize]) -> Vec<(usize, usize)> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % len / 8 * 8).filter(|&cut| cut > 0).collect();
    at.extend([0, len]);
    // No piece longer than a frame holds.
    at.extend((0..len).step_by(1480));
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|w| (w[0], w[1])).collect()
}

fn received(pool: &Pool, data: &[u8], in_two_frames: bool) -> RxBuf {
    let (head, tail) = data.split_at(if in_two_frames { data.len() / 2 } else { data.len() });
    let mut buf = pool.rx_from_bytes(head).unwrap();
    if !tail.is_empty() && !head.is_empty() {
        buf.append(pool.rx_from_bytes(tail).unwrap()).unwrap();
    } else if head.is_empty() {
        buf = pool.rx_from_bytes(tail).unwrap();
    }
    buf
}

proptest! {
    #[test]
    fn any_split_order_and_duplicates_give_the_bytes_back(
        len in 1usize..20_000,
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        order in prop::collection::vec(any::<u32>(), 64),
        twice in prop::collection::vec(any::<bool>(), 64),
        chained in prop::collection::vec(any::<bool>(), 64),
    ) {
        let pool = pool();
        let config = FragmentConfig { frames_max: 256, per_source_max: 64, ..FragmentConfig::default() };
        let mut r = reassembler(config);
        let data = bytes(len);
        let key = FragmentKey { protocol: 253, ..key(1, 1) };
        let parts = split(len, &cuts);
        let mut sequence: Vec<usize> = (0..parts.len()).collect();
        sequence.sort_by_key(|&part| order[part % order.len()]);
        let mut done = None;
        for (n, &part) in sequence.iter().enumerate() {
            let (from, to) = parts[part];
            for copy in 0..1 + usize::from(twice[part % twice.len()] && n + 1 < sequence.len()) {
                let buf = received(&pool, &data[from..to], chained[part % chained.len()]);
                let got = r.insert(key, from, to < len, buf, &[], NOW);
                check_invariants(&r);
                match got {
                    Inserted::Started => prop_assert!(n == 0 && copy == 0),
                    Inserted::Held => prop_assert_eq!(copy, 0),
                    Inserted::Refused(error) => prop_assert!(copy == 1 && error == FragmentError::Duplicate, "{}", error),
                    Inserted::Complete(whole) => {
                        prop_assert_eq!(n + 1, sequence.len());
                        done = Some(whole);
                    }
                }
            }
        }
        let whole = done.unwrap();
        prop_assert_eq!(whole.pieces().flatten().copied().collect::<Vec<u8>>(), data);
        prop_assert!(r.is_empty() && r.frames_held() == 0);
        drop(whole);
        prop_assert!(pool.ledger().is_whole());
    }

    #[test]
    fn hostile_fragments_stay_within_the_budget(
        frames_max in 1usize..24,
        datagrams_max in 1usize..6,
        per_source_max in 1usize..6,
        per_datagram_max in 1usize..8,
        steps in prop::collection::vec((0u8..4, 0u16..3, 0usize..12, 0usize..40, any::<bool>(), any::<bool>(), 0u64..3000), 1..200),
    ) {
        let pool = pool();
        let config = FragmentConfig { datagrams_max, frames_max, per_datagram_max, per_source_max, timeout: Duration::from_secs(5) };
        let mut r = reassembler(config);
        let mut now = NOW;
        let mut armed: Option<Instant> = None;
        for (src, id, slot, len, more, chained, wait_ms) in steps {
            // Mostly plausible, so that datagrams do become whole at times.
            let len = if more { len.div_ceil(8) * 8 } else { len };
            let buf = received(&pool, &bytes(len), chained);
            let got = r.insert(key(src, id), slot * 8, more, buf, &[0; 28], now);
            if let Inserted::Complete(whole) = got {
                prop_assert!(whole.frame_count() <= frames_max);
            }
            check_invariants(&r);
            prop_assert!(pool.ledger().owned as usize == r.frames_held(), "what was refused is free");
            armed = armed.or(r.arm());
            now = now + Duration::from_millis(wait_ms / 10);
            if armed.is_some_and(|at| at <= now) {
                while r.expire(now).is_some() {}
                check_invariants(&r);
                armed = r.arm();
            }
            prop_assert!(r.is_empty() || armed.is_some(), "a timer is armed while there is something to give up");
            prop_assert!(r.by_age.front().is_none_or(|at| r.datagrams[at].deadline > now));
        }
        now = now + Duration::from_secs(5);
        while r.expire(now).is_some() {}
        prop_assert!(r.is_empty());
        prop_assert!(pool.ledger().is_whole());
    }
}
