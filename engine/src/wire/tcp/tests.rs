use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;

const SRC: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const DST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn plain() -> Repr {
    Repr {
        src_port: 0x1234,
        dst_port: 80,
        seq: SeqNum(0xdead_beef),
        ack: SeqNum(0xcafe_f00d),
        flags: flags::ACK | flags::PSH,
        window: 0xfedc,
        urgent: 0,
        options: Options::default(),
    }
}

fn blocks(count: u32) -> SackBlocks {
    let mut blocks = SackBlocks::EMPTY;
    for n in 0..count {
        blocks.push(SeqNum(n * 100), SeqNum(n * 100 + 50));
    }
    blocks
}

/// A whole segment with `payload`.
fn segment(repr: &Repr, payload: &[u8]) -> Vec<u8> {
    let mut header = [0xee; HEADER_BYTES_MAX];
    let pseudo = checksum::pseudo_header(SRC, DST, 6, (repr.header_len() + payload.len()) as u16);
    let len = repr.write(&mut header, checksum::add(pseudo, checksum::sum(payload)));
    assert_eq!(len, repr.header_len());
    assert!(header[len..].iter().all(|byte| *byte == 0xee), "nothing written behind the header");
    [&header[..len], payload].concat()
}

fn checksum_is_right(segment: &[u8]) -> bool {
    let pseudo = checksum::pseudo_header(SRC, DST, 6, segment.len() as u16);
    checksum::add(pseudo, checksum::sum(segment)) == 0xffff
}

/// RFC 9293 figure 1, byte by byte.
#[test]
fn layout() {
    let repr = Repr { urgent: 0x0506, flags: flags::ACK | flags::URG, ..plain() };
    let bytes = segment(&repr, b"");
    assert_eq!(
        bytes[..16],
        [0x12, 0x34, 0, 80, 0xde, 0xad, 0xbe, 0xef, 0xca, 0xfe, 0xf0, 0x0d, 0x50, 0x30, 0xfe, 0xdc],
    );
    assert_eq!(bytes[18..], [5, 6]);
    assert!(checksum_is_right(&bytes));
}

/// RFC 7323 appendix A.
#[test]
fn timestamps_layout() {
    let timestamps = Some(Timestamps { value: 0x0102_0304, echo: 0x0506_0708 });
    let bytes = segment(&Repr { options: Options { timestamps, ..Options::default() }, ..plain() }, b"abc");
    assert_eq!(bytes[12], 0x80);
    assert_eq!(bytes[20..32], [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(checksum_is_right(&bytes));
}

#[test]
fn syn_layout() {
    let timestamps = Some(Timestamps { value: 1, echo: 0 });
    let options =
        Options { mss: Some(1460), window_scale: Some(7), sack_permitted: true, timestamps, sack: SackBlocks::EMPTY };
    let bytes = segment(&Repr { flags: flags::SYN, options, ..plain() }, b"");
    assert_eq!(bytes[20..], [4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 2, 4, 0x05, 0xb4, 1, 3, 3, 7]);
    assert!(checksum_is_right(&bytes));
    assert_eq!(Options::parse(&bytes[20..]), Some(options));
    let options = Options { timestamps: None, ..options };
    let bytes = segment(&Repr { options, ..plain() }, b"");
    assert_eq!(bytes[20..], [1, 1, 4, 2, 2, 4, 0x05, 0xb4, 1, 3, 3, 7]);
}

/// RFC 2018 section 3: four blocks, or three with timestamps.
#[test]
fn sack_blocks_are_cut_to_what_fits() {
    let timestamps = Some(Timestamps { value: 1, echo: 2 });
    for (timestamps, mss, fit) in
        [(None, None, 4), (timestamps, None, 3), (timestamps, Some(536), 2), (None, Some(536), 4)]
    {
        let options = Options { timestamps, mss, sack: blocks(4), ..Options::default() };
        let bytes = segment(&Repr { options, ..plain() }, b"");
        assert!(checksum_is_right(&bytes));
        let parsed = Options::parse(&bytes[20..]).unwrap();
        assert_eq!(parsed.sack.as_slice(), &blocks(4).as_slice()[..fit]);
        assert_eq!((parsed.timestamps, parsed.mss), (timestamps, mss));
    }
}

#[test]
fn fifth_block_is_refused() {
    let mut full = blocks(4);
    assert!(!full.push(SeqNum(1), SeqNum(2)));
    assert_eq!(full, blocks(4));
    full.clear();
    assert!(full.is_empty() && full == SackBlocks::EMPTY);
}

/// CVE-2020-11907: 20 ≤ data offset ≤ what came.
#[test]
fn data_offset() {
    let mut bytes = segment(&plain(), &[0; 40]);
    for offset in 0..16u8 {
        bytes[12] = offset << 4 | 0x0f; // reserved bits are ignored (RFC 9293 section 3.1)
        let len = usize::from(offset) * 4;
        assert_eq!(Header::parse(&bytes).map(|header| header.header_len), (len >= 20).then_some(len));
        if len >= 20 {
            assert!(Header::parse(&bytes[..len]).is_some());
            assert!(Header::parse(&bytes[..len - 1]).is_none());
        }
    }
    for len in 0..20 {
        assert!(Header::parse(&bytes[..len]).is_none());
    }
}

/// CVE-2020-11909, 11912: an option's length is at least 2 and no more than what remains.
#[test]
fn malformed_options() {
    for bytes in [
        &[2][..],
        &[2, 0, 5, 180],
        &[2, 1, 5, 180],
        &[2, 5, 5, 180],
        &[8, 10, 0, 0, 0, 0, 0, 0, 0],
        &[1, 1, 5, 10, 0, 0, 0, 0],
        &[1, 1, 5, 255, 0, 0, 0, 0],
        &[1, 1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[99, 0, 0, 0],
        &[99, 3, 0, 99],
    ] {
        assert_eq!(Options::parse(bytes), None, "{bytes:?}");
    }
}

#[test]
fn odd_options_are_skipped() {
    let none = Some(Options::default());
    assert_eq!(Options::parse(&[]), none);
    assert_eq!(Options::parse(&[0, 2, 0, 0]), none, "nothing counts after the end");
    assert_eq!(Options::parse(&[2, 3, 5, 1]), none, "an MSS of one byte");
    assert_eq!(Options::parse(&[2, 4, 0, 0]), none, "an MSS of zero");
    assert_eq!(Options::parse(&[3, 4, 7, 7]), none, "a shift of two bytes");
    assert_eq!(Options::parse(&[4, 3, 0, 0]), none, "SACK permitted with a body");
    assert_eq!(Options::parse(&[5, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), none, "a block of seven bytes");
    assert_eq!(Options::parse(&[5, 2, 1, 1]), none, "no blocks");
    assert_eq!(Options::parse(&[8, 9, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1]), none, "timestamps of seven bytes");
    assert_eq!(Options::parse(&[8, 11, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1]), none, "timestamps of nine bytes");
    let after_unknown = Options::parse(&[254, 4, 9, 9, 3, 3, 255, 2, 4, 0x05, 0xb4, 0]).unwrap();
    assert_eq!((after_unknown.mss, after_unknown.window_scale), (Some(1460), Some(14)), "RFC 7323 section 2.3");
    assert_eq!(Options::parse(&[2, 4, 0, 1, 2, 4, 0, 2]).unwrap().mss, Some(2), "the last counts");
}

/// The same options in another place than the fast path's.
#[test]
fn timestamps_anywhere() {
    let value = Some(Timestamps { value: 1, echo: 2 });
    for bytes in [
        &[8, 10, 0, 0, 0, 1, 0, 0, 0, 2][..],
        &[8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1],
        &[1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 0],
        &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
    ] {
        assert_eq!(Options::parse(bytes), Some(Options { timestamps: value, ..Options::default() }));
    }
}

prop_compose! {
    fn options()(
        mss in prop::option::of(1u16..),
        window_scale in prop::option::of(0u8..=14),
        sack_permitted: bool,
        timestamps in prop::option::of(any::<(u32, u32)>()),
        sack in prop::collection::vec(any::<(u32, u32)>(), 0..=4),
    ) -> Options {
        let mut blocks = SackBlocks::EMPTY;
        for (first, end) in sack {
            blocks.push(SeqNum(first), SeqNum(end));
        }
        let timestamps = timestamps.map(|(value, echo)| Timestamps { value, echo });
        Options { mss, window_scale, sack_permitted, timestamps, sack: blocks }
    }
}

prop_compose! {
    fn reprs()(
        ports: (u16, u16),
        numbers: (u32, u32),
        flags: u8,
        window: u16,
        urgent: u16,
        options in options(),
    ) -> Repr {
        let (seq, ack) = (SeqNum(numbers.0), SeqNum(numbers.1));
        Repr { src_port: ports.0, dst_port: ports.1, seq, ack, flags, window, urgent, options }
    }
}

proptest! {
    #[test]
    fn round_trip(repr in reprs(), payload in prop::collection::vec(any::<u8>(), 0..64)) {
        let bytes = segment(&repr, &payload);
        prop_assert!(checksum_is_right(&bytes));
        let header = Header::parse(&bytes).unwrap();
        prop_assert_eq!(header.header_len + payload.len(), bytes.len());
        prop_assert_eq!((header.src_port, header.dst_port), (repr.src_port, repr.dst_port));
        prop_assert_eq!((header.seq, header.ack), (repr.seq, repr.ack));
        prop_assert_eq!((header.flags, header.window, header.urgent), (repr.flags, repr.window, repr.urgent));
        let parsed = Options::parse(&bytes[HEADER_BYTES..header.header_len]).unwrap();
        prop_assert!(repr.options.sack.as_slice().starts_with(parsed.sack.as_slice()));
        prop_assert!(parsed.sack.len() + 4 > repr.options.sack.len(), "at least one of four");
        prop_assert_eq!(Options { sack: repr.options.sack, ..parsed }, repr.options);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Some(header) = Header::parse(&bytes) {
            prop_assert!((HEADER_BYTES..=bytes.len().min(HEADER_BYTES_MAX)).contains(&header.header_len));
        }
        if let Some(options) = Options::parse(&bytes) {
            prop_assert!(options.window_scale.is_none_or(|shift| shift <= WINDOW_SCALE_MAX));
            prop_assert!(options.mss != Some(0));
        }
    }

    /// Valid options with one byte changed, and cut anywhere.
    #[test]
    fn damaged(repr in reprs(), at in 0usize..40, value: u8, cut in 0usize..60) {
        let mut bytes = segment(&repr, b"");
        if let Some(byte) = bytes.get_mut(HEADER_BYTES + at) {
            *byte = value;
        }
        bytes.truncate(cut.max(HEADER_BYTES));
        if let Some(options) = Options::parse(&bytes[HEADER_BYTES..]) {
            prop_assert!(options.sack.len() * 8 + 2 <= bytes.len() - HEADER_BYTES || options.sack.is_empty());
        }
    }

    /// The fast path says the same as the slow one.
    #[test]
    fn fast_path(words: [u32; 2]) {
        let mut bytes = NOP_NOP_TIMESTAMPS.to_be_bytes().to_vec();
        bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        prop_assert_eq!(Options::parse(&bytes), Options::parse_any(&bytes));
    }
}
