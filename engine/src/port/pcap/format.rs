//! The blocks of a pcapng file (draft-ietf-opsawg-pcapng sections 4.1 to 4.6), little-endian.

use crate::port::MacAddr;
use std::io::{self, Write};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const LINKTYPE_ETHERNET: u16 = 1;

const OPT_END: u16 = 0;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_MACADDR: u16 = 6;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
const EPB_DROPCOUNT: u16 = 4;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;

/// Which way a packet went (bits 0 and 1 of `epb_flags`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received.
    Inbound = 1,
    /// Sent.
    Outbound = 2,
}

/// One packet on its way to the file.
#[derive(Debug)]
pub(super) struct Packet {
    direction: Direction,
    timestamp_ns: u64,
    snaplen: usize,
    original_len: usize,
    bytes: Vec<u8>,
    /// Packets that are missing before this one.
    pub(super) lost_before: u64,
}

impl Packet {
    pub(super) fn new(direction: Direction, timestamp_ns: u64, snaplen: usize, mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self { direction, timestamp_ns, snaplen, original_len: 0, bytes, lost_before: 0 }
    }

    pub(super) fn timestamp_ns(&self) -> u64 {
        self.timestamp_ns
    }

    /// The next piece of the packet.
    pub(super) fn append(&mut self, piece: &[u8]) {
        self.original_len += piece.len();
        let keep = piece.len().min(self.snaplen - self.bytes.len());
        self.bytes.extend_from_slice(&piece[..keep]);
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut options = Options::default();
        options.put(EPB_FLAGS, &(self.direction as u32).to_le_bytes());
        if self.lost_before > 0 {
            options.put(EPB_DROPCOUNT, &self.lost_before.to_le_bytes());
        }
        let mut fixed = [0; 20];
        // The interface's number is 0: it is the only one.
        fixed[4..12].copy_from_slice(&timestamp(self.timestamp_ns));
        fixed[12..16].copy_from_slice(&(self.bytes.len() as u32).to_le_bytes());
        fixed[16..20].copy_from_slice(&(self.original_len as u32).to_le_bytes());
        let padding = &[0; 3][..self.bytes.len().next_multiple_of(4) - self.bytes.len()];
        block(to, ENHANCED_PACKET, &[&fixed, &self.bytes, padding, options.end()])
    }
}

/// Section header and interface description.
pub(super) fn write_start(to: &mut impl Write, name: &str, mac: MacAddr, snaplen: u32) -> io::Result<()> {
    let mut options = Options::default();
    options.put(SHB_USERAPPL, concat!("framewire ", env!("CARGO_PKG_VERSION")).as_bytes());
    let mut section = Vec::new();
    section.extend_from_slice(&BYTE_ORDER_MAGIC.to_le_bytes());
    section.extend_from_slice(&1u16.to_le_bytes()); // version 1.0
    section.extend_from_slice(&0u16.to_le_bytes());
    section.extend_from_slice(&(-1i64).to_le_bytes()); // a section of unknown length
    block(to, SECTION_HEADER, &[&section, options.end()])?;

    let mut options = Options::default();
    options.put(IF_NAME, name.as_bytes());
    options.put(IF_MACADDR, &mac.0);
    options.put(IF_TSRESOL, &[9]); // nanoseconds
    let mut interface = Vec::new();
    interface.extend_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
    interface.extend_from_slice(&0u16.to_le_bytes());
    interface.extend_from_slice(&snaplen.to_le_bytes());
    block(to, INTERFACE_DESCRIPTION, &[&interface, options.end()])
}

/// Interface statistics: packets that passed, and those of them that are not in the file.
pub(super) fn write_statistics(to: &mut impl Write, at_ns: u64, passed: u64, dropped: u64) -> io::Result<()> {
    let mut options = Options::default();
    options.put(ISB_IFRECV, &passed.to_le_bytes());
    options.put(ISB_IFDROP, &dropped.to_le_bytes());
    let mut fixed = [0; 12];
    fixed[4..].copy_from_slice(&timestamp(at_ns));
    block(to, INTERFACE_STATISTICS, &[&fixed, options.end()])
}

/// High word first, each word little-endian.
fn timestamp(ns: u64) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&((ns >> 32) as u32).to_le_bytes());
    out[4..].copy_from_slice(&(ns as u32).to_le_bytes());
    out
}

/// A block around `parts`, which together are a multiple of 4 bytes.
fn block(to: &mut impl Write, kind: u32, parts: &[&[u8]]) -> io::Result<()> {
    let len = 12 + parts.iter().map(|part| part.len()).sum::<usize>();
    to.write_all(&kind.to_le_bytes())?;
    to.write_all(&(len as u32).to_le_bytes())?;
    for part in parts {
        to.write_all(part)?;
    }
    to.write_all(&(len as u32).to_le_bytes())
}

#[derive(Default)]
struct Options(smallvec::SmallVec<[u8; 64]>);

impl Options {
    fn put(&mut self, code: u16, value: &[u8]) {
        // Interface names are short; anything longer than the field holds is cut.
        let value = &value[..value.len().min(u16::MAX as usize)];
        self.0.extend_from_slice(&code.to_le_bytes());
        self.0.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn end(&mut self) -> &[u8] {
        self.put(OPT_END, &[]);
        &self.0
    }
}
