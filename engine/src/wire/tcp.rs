//! The TCP header and its options (RFC 9293 section 3.1, RFC 7323, RFC 2018).

use super::{be16, be32, checksum, seq::SeqNum};

/// Length of a header without options, in bytes.
pub const HEADER_BYTES: usize = 20;
/// Longest header: 15 words.
pub const HEADER_BYTES_MAX: usize = 60;
const OPTION_BYTES_MAX: usize = HEADER_BYTES_MAX - HEADER_BYTES;

/// The control bits of a header's byte 13.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push what is there to the application.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// Congestion was experienced (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// The congestion window was reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// Option kinds (IANA), and their lengths where they are fixed.
mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NOP: u8 = 1;
    pub(super) const MSS: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const SACK: u8 = 5;
    pub(super) const TIMESTAMPS: u8 = 8;
}

/// NOP, NOP, and kind and length of the timestamps: the layout RFC 7323 appendix A recommends and nearly every segment has.
const NOP_NOP_TIMESTAMPS: u32 = 0x0101_080a;
/// SACK permitted in the place of the two NOPs.
const SACK_PERMITTED_TIMESTAMPS: u32 = 0x0402_080a;
/// NOP, NOP, and kind and length of SACK permitted.
const NOP_NOP_SACK_PERMITTED: u32 = 0x0101_0402;
/// Length of the header with timestamps and nothing else, in bytes.
const TIMESTAMPS_HEADER_BYTES: usize = HEADER_BYTES + TIMESTAMPS_BYTES;
const TIMESTAMPS_BYTES: usize = 12;
/// The byte of the data offset, reserved bits zero: of a header without options, and of one with timestamps.
const PLAIN_OFFSET: u8 = 5 << 4;
const PLAIN_OFFSET_TIMESTAMPS: u8 = 8 << 4;

/// Largest shift of the window (RFC 7323 section 2.3).
pub const WINDOW_SCALE_MAX: u8 = 14;
/// Most SACK blocks that 40 bytes of options hold (RFC 2018 section 3).
pub const SACK_BLOCKS_MAX: usize = 4;

/// A parsed header. Its options are in the segment's bytes `HEADER_BYTES..header_len`, for [`Options::parse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number of the first byte, or of the SYN.
    pub seq: SeqNum,
    /// Next sequence number the sender expects, if [`flags::ACK`] is set.
    pub ack: SeqNum,
    /// Control bits, see [`flags`].
    pub flags: u8,
    /// Window as in the header, not scaled.
    pub window: u16,
    /// Checksum as received, not verified: that takes a sum over the whole segment.
    pub checksum: u16,
    /// Urgent pointer, if [`flags::URG`] is set.
    pub urgent: u16,
    /// Length of the header with options, in bytes: 20 to 60, and no longer than what was received.
    pub header_len: usize,
}

impl Header {
    /// Reads a header from the start of `segment`, which holds the whole header; `None` if it does not, or if the data offset is below 5.
    #[inline]
    pub fn parse(segment: &[u8]) -> Option<Self> {
        let head: &[u8; HEADER_BYTES] = segment.first_chunk()?;
        let header_len = usize::from(head[12] >> 4) * 4;
        (header_len >= HEADER_BYTES && header_len <= segment.len()).then(|| Self {
            src_port: be16(head, 0),
            dst_port: be16(head, 2),
            seq: seq_at(head, 4),
            ack: seq_at(head, 8),
            flags: head[13],
            window: be16(head, 14),
            checksum: be16(head, 16),
            urgent: be16(head, 18),
            header_len,
        })
    }
}

/// A header that says only what nearly every one does: [`flags::ACK`], perhaps with [`flags::PSH`], and no options but timestamps in the usual layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainHeader {
    /// Sequence number of the first byte.
    pub seq: SeqNum,
    /// Next sequence number the sender expects.
    pub ack: SeqNum,
    /// Window as in the header, not scaled.
    pub window: u16,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// Checksum as in the header.
    pub checksum: u16,
    /// Length of the header with options, in bytes: 20 or 32.
    pub header_len: usize,
}

impl PlainHeader {
    /// Reads a header from the start of `segment`; `None` if it is of another kind or not all there.
    #[inline(always)]
    pub fn parse(segment: &[u8]) -> Option<Self> {
        let head: &[u8; HEADER_BYTES] = segment.first_chunk()?;
        if head[13] & !flags::PSH != flags::ACK {
            return None;
        }
        let (timestamps, header_len) = if head[12] == PLAIN_OFFSET_TIMESTAMPS {
            let head: &[u8; TIMESTAMPS_HEADER_BYTES] = segment.first_chunk()?;
            if be32(head, 20) != NOP_NOP_TIMESTAMPS {
                return None;
            }
            (Some(Timestamps { value: be32(head, 24), echo: be32(head, 28) }), TIMESTAMPS_HEADER_BYTES)
        } else if head[12] == PLAIN_OFFSET {
            (None, HEADER_BYTES)
        } else {
            return None;
        };
        let (seq, ack) = (seq_at(head, 4), seq_at(head, 8));
        Some(Self { seq, ack, window: be16(head, 14), timestamps, checksum: be16(head, 16), header_len })
    }

    /// The folded sum of the header that this was read from, checksum field included.
    #[inline(always)]
    pub fn sum(&self, segment: &[u8]) -> u16 {
        if self.header_len == TIMESTAMPS_HEADER_BYTES
            && let Some(head) = segment.first_chunk::<TIMESTAMPS_HEADER_BYTES>()
        {
            return checksum::sum_header(head);
        }
        segment.first_chunk::<HEADER_BYTES>().map_or(0, checksum::sum_header)
    }
}

/// The timestamps option (RFC 7323 section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the value last received, if the segment has [`flags::ACK`].
    pub echo: u32,
}

/// Up to four ranges of received sequence numbers (RFC 2018): first, and one after the last.
#[derive(Clone, Copy, Default)]
pub struct SackBlocks {
    blocks: [(SeqNum, SeqNum); SACK_BLOCKS_MAX],
    len: u8,
}

impl SackBlocks {
    /// No blocks.
    pub const EMPTY: Self = Self { blocks: [(SeqNum(0), SeqNum(0)); SACK_BLOCKS_MAX], len: 0 };

    /// Appends the block from `first` up to `end`, which is not part of it; false, and nothing done, if there are four.
    #[inline]
    pub fn push(&mut self, first: SeqNum, end: SeqNum) -> bool {
        match self.blocks.get_mut(usize::from(self.len)) {
            Some(block) => {
                *block = (first, end);
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The blocks in their order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (SeqNum, SeqNum)> + '_ {
        self.as_slice().iter().copied()
    }

    /// The blocks in their order.
    #[inline]
    pub fn as_slice(&self) -> &[(SeqNum, SeqNum)] {
        self.blocks.get(..self.len()).unwrap_or_default()
    }

    /// How many there are, at most [`SACK_BLOCKS_MAX`].
    #[inline]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// There are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes all out.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

impl PartialEq for SackBlocks {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for SackBlocks {}

impl std::fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The options this stack knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size, in bytes; never 0 when parsed.
    pub mss: Option<u16>,
    /// Shift of the sender's windows, at most [`WINDOW_SCALE_MAX`] when parsed.
    pub window_scale: Option<u8>,
    /// The sender reads SACK blocks.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// What was received out of order, as the sender tells it: neither its order nor its place is checked.
    pub sack: SackBlocks,
}

impl Options {
    /// Reads the bytes between the fixed header and the data.
    ///
    /// Unknown options and known ones of a wrong length are skipped; of several of a kind the last counts. `None`: an option is shorter than
    /// two bytes or reaches beyond the end, and the segment is to be dropped.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if let Ok(usual) = <&[u8; TIMESTAMPS_BYTES]>::try_from(bytes)
            && be32(usual, 0) == NOP_NOP_TIMESTAMPS
        {
            let timestamps = Some(Timestamps { value: be32(usual, 4), echo: be32(usual, 8) });
            return Some(Self { timestamps, ..Self::default() });
        }
        Self::parse_any(bytes)
    }

    fn parse_any(mut bytes: &[u8]) -> Option<Self> {
        let mut options = Self::default();
        loop {
            bytes = match *bytes {
                [] | [kind::END, ..] => return Some(options),
                [kind::NOP, ref rest @ ..] => rest,
                [kind, len, ref rest @ ..] => {
                    let (body, rest) = rest.split_at_checked(usize::from(len).checked_sub(2)?)?;
                    options.read(kind, body);
                    rest
                }
                [_] => return None,
            };
        }
    }

    fn read(&mut self, kind: u8, body: &[u8]) {
        match (kind, body) {
            // A segment size of zero would divide the data into nothing: as if it had not been said.
            (kind::MSS, &[high, low]) => self.mss = Some(u16::from_be_bytes([high, low])).filter(|mss| *mss != 0),
            // RFC 7323 section 2.3: a greater shift is used as 14.
            (kind::WINDOW_SCALE, &[shift]) => self.window_scale = Some(shift.min(WINDOW_SCALE_MAX)),
            (kind::SACK_PERMITTED, []) => self.sack_permitted = true,
            (kind::TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                let (value, echo) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
                self.timestamps = Some(Timestamps { value, echo });
            }
            (kind::SACK, blocks) if blocks.len() % 8 == 0 => {
                self.sack.clear();
                for block in blocks.chunks_exact(8) {
                    self.sack.push(seq_at(block, 0), seq_at(block, 4));
                }
            }
            _ => {}
        }
    }

    /// There is nothing else beside timestamps, or not even these.
    #[inline]
    fn timestamps_alone(&self) -> bool {
        !(self.mss.is_some() | self.window_scale.is_some() | self.sack_permitted | !self.sack.is_empty())
    }

    /// Length without SACK blocks, in bytes: a multiple of 4, at most 20.
    #[inline]
    fn len_without_sack(&self) -> usize {
        let words = match (self.timestamps.is_some(), self.sack_permitted) {
            (true, _) => 3,
            (false, true) => 1,
            (false, false) => 0,
        };
        (words + usize::from(self.mss.is_some()) + usize::from(self.window_scale.is_some())) * 4
    }

    /// How many SACK blocks fit behind the other options.
    #[inline]
    fn sack_blocks_sent(&self) -> usize {
        self.sack.len().min((OPTION_BYTES_MAX - self.len_without_sack() - 4) / 8)
    }

    /// Length as written, in bytes: a multiple of 4, at most 40.
    #[inline]
    fn len(&self) -> usize {
        let blocks = self.sack_blocks_sent();
        self.len_without_sack() + if blocks == 0 { 0 } else { 4 + 8 * blocks }
    }

    /// Writes into the bytes after the fixed header; returns the length.
    fn write(&self, out: &mut [u8; OPTION_BYTES_MAX]) -> usize {
        let mut words = Words { out, len: 0 };
        if let Some(Timestamps { value, echo }) = self.timestamps {
            words.push(if self.sack_permitted { SACK_PERMITTED_TIMESTAMPS } else { NOP_NOP_TIMESTAMPS });
            words.push(value);
            words.push(echo);
        } else if self.sack_permitted {
            words.push(NOP_NOP_SACK_PERMITTED);
        }
        if let Some(mss) = self.mss {
            words.push(u32::from_be_bytes([kind::MSS, 4, 0, 0]) | u32::from(mss));
        }
        if let Some(shift) = self.window_scale {
            words.push(u32::from_be_bytes([kind::NOP, kind::WINDOW_SCALE, 3, shift.min(WINDOW_SCALE_MAX)]));
        }
        let blocks = self.sack_blocks_sent();
        if blocks != 0 {
            words.push(u32::from_be_bytes([kind::NOP, kind::NOP, kind::SACK, 2 + 8 * blocks as u8]));
            for (first, end) in self.sack.iter().take(blocks) {
                words.push(first.0);
                words.push(end.0);
            }
        }
        words.len
    }
}

/// Appends big-endian words; what does not fit is left out.
struct Words<'a> {
    out: &'a mut [u8; OPTION_BYTES_MAX],
    len: usize,
}

impl Words<'_> {
    #[inline]
    fn push(&mut self, word: u32) {
        if let Some(place) = self.out.get_mut(self.len..self.len + 4) {
            place.copy_from_slice(&word.to_be_bytes());
            self.len += 4;
        }
    }
}

/// A header to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgement number; 0 without [`flags::ACK`].
    pub ack: SeqNum,
    /// Control bits, see [`flags`].
    pub flags: u8,
    /// Window as it goes into the header, shifted already.
    pub window: u16,
    /// Urgent pointer; 0 without [`flags::URG`].
    pub urgent: u16,
    /// Options. SACK blocks are cut to what 40 bytes hold.
    pub options: Options,
}

impl Repr {
    /// Length of the header as [`write`](Self::write) writes it, in bytes: a multiple of 4, 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        if self.options.timestamps_alone() {
            return if self.options.timestamps.is_some() { TIMESTAMPS_HEADER_BYTES } else { HEADER_BYTES };
        }
        HEADER_BYTES + self.options.len()
    }

    /// Writes header and options to the start of `out` and returns their length, in bytes. Bytes behind the header are not touched. See
    /// [`write_exact`](Self::write_exact).
    #[inline]
    pub fn write(&self, out: &mut [u8; HEADER_BYTES_MAX], pseudo_and_payload_sum: u16) -> usize {
        let len = self.header_len();
        self.write_exact(&mut out[..len.min(HEADER_BYTES_MAX)], pseudo_and_payload_sum);
        len
    }

    /// Writes header and options to `out`, which has [`header_len`](Self::header_len) bytes; with another length nothing is written.
    ///
    /// `pseudo_and_payload_sum` is the folded sum of the pseudo-header, whose length field counts this header too, and of the payload (see
    /// [`checksum`]); the checksum is computed from it.
    #[inline]
    pub fn write_exact(&self, out: &mut [u8], pseudo_and_payload_sum: u16) {
        let header_len = out.len();
        if header_len != self.header_len() {
            return;
        }
        let Some((head, rest)) = out.split_first_chunk_mut::<HEADER_BYTES>() else { return };
        let mut sum = u64::from(pseudo_and_payload_sum);
        if !self.options.timestamps_alone() {
            let mut options = [0; OPTION_BYTES_MAX];
            self.options.write(&mut options);
            rest.copy_from_slice(&options[..rest.len()]);
            sum += u64::from(checksum::sum(rest));
        } else if let Some(Timestamps { value, echo }) = self.options.timestamps
            && let Ok(rest) = <&mut [u8; TIMESTAMPS_BYTES]>::try_from(rest)
        {
            rest[..4].copy_from_slice(&NOP_NOP_TIMESTAMPS.to_be_bytes());
            rest[4..8].copy_from_slice(&value.to_be_bytes());
            rest[8..12].copy_from_slice(&echo.to_be_bytes());
            sum += u64::from(NOP_NOP_TIMESTAMPS) + u64::from(value) + u64::from(echo);
        }
        let ports = u32::from(self.src_port) << 16 | u32::from(self.dst_port);
        let control = ((header_len as u32) << 10 | u32::from(self.flags)) << 16 | u32::from(self.window);
        let urgent = u32::from(self.urgent);
        // Words of 32 bits add to the same one's-complement sum as their halves (RFC 1071 section 2); seven of them cannot overflow 64.
        sum += [ports, self.seq.0, self.ack.0, control, urgent].map(u64::from).iter().sum::<u64>();
        let sealed = u32::from(!checksum::fold_fields(sum)) << 16 | urgent;
        head[..4].copy_from_slice(&ports.to_be_bytes());
        head[4..8].copy_from_slice(&self.seq.0.to_be_bytes());
        head[8..12].copy_from_slice(&self.ack.0.to_be_bytes());
        head[12..16].copy_from_slice(&control.to_be_bytes());
        head[16..].copy_from_slice(&sealed.to_be_bytes());
    }
}

/// The checksum field of a header.
#[inline]
pub fn checksum_of(header: &[u8; HEADER_BYTES]) -> u16 {
    be16(header, 16)
}

/// Gives a header that is there a sequence number and flags. `sum` is that of pseudo-header, header and payload without these two.
#[inline]
pub fn patch(header: &mut [u8; HEADER_BYTES], seq: SeqNum, flags: u8, sum: u64) {
    header[4..8].copy_from_slice(&seq.0.to_be_bytes());
    header[13] = flags;
    let sum = sum + u64::from(seq.0) + u64::from(flags);
    header[16..18].copy_from_slice(&(!checksum::fold_fields(sum)).to_be_bytes());
}

#[inline]
const fn seq_at(bytes: &[u8], at: usize) -> SeqNum {
    SeqNum(be32(bytes, at))
}

#[cfg(test)]
mod tests;
