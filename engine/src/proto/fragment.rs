//! IPv4 reassembly (RFC 791 section 3.2, RFC 815). The frames that fragments arrived in become one chain: nothing is copied.
//!
//! What an attacker sends is bounded in every direction: frames, datagrams, fragments of one datagram, and the share that one source may
//! have of each. Overlapping fragments discard their datagram, as RFC 5722 says for IPv6; tiny first fragments are refused (RFC 1858).

use super::list::{Link, List};
use crate::{
    buf::RxBuf,
    time::{Duration, Instant},
    wire::ipv4::{HEADER_BYTES, HEADER_BYTES_MAX, TOTAL_BYTES_MAX, protocol},
};
use ahash::RandomState;
use hashbrown::HashMap;
use std::net::Ipv4Addr;

/// The longest payload that a datagram can have, in bytes.
const PAYLOAD_BYTES_MAX: usize = TOTAL_BYTES_MAX - HEADER_BYTES;
/// Header and eight bytes: what an ICMP error quotes (RFC 792).
const QUOTE_BYTES_MAX: usize = HEADER_BYTES_MAX + 8;

/// Limits of a reassembler.
#[derive(Clone, Debug)]
pub struct FragmentConfig {
    /// Datagrams in the making, discarded ones that are remembered included.
    pub datagrams_max: usize,
    /// Frames held. Too low: large datagrams under load fail; too high: a flood takes them from the receive ring.
    pub frames_max: usize,
    /// Fragments of one datagram. 65,535 bytes over an MTU of 1,500 are 45, over the least MTU (576) 119.
    pub per_datagram_max: usize,
    /// Datagrams of one source; of the frames it may hold the same share.
    pub per_source_max: usize,
    /// How long after its first fragment a datagram is given up.
    pub timeout: Duration,
}

impl Default for FragmentConfig {
    fn default() -> Self {
        Self {
            datagrams_max: 64,
            frames_max: 512,
            per_datagram_max: 128,
            per_source_max: 16,
            timeout: Duration::from_secs(30),
        }
    }
}

/// What the fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// Identification.
    pub id: u16,
    /// Protocol of the payload.
    pub protocol: u8,
}

/// What became of a fragment.
#[derive(Debug)]
pub enum Inserted {
    /// The first of a new datagram: a timer is needed ([`Reassembler::arm`]).
    Started,
    /// Kept; more are missing.
    Held,
    /// The datagram's payload, as a chain in order.
    Complete(RxBuf),
    /// Dropped.
    Refused(FragmentError),
}

/// Why a fragment was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// It overlaps another: the whole datagram is discarded.
    #[error("overlaps another fragment")]
    Overlap,
    /// The same stretch was there already; the first copy counts.
    #[error("received twice")]
    Duplicate,
    /// It ends beyond the largest datagram.
    #[error("ends beyond 65,535 bytes")]
    TooLong,
    /// Empty, or not a multiple of eight bytes though not the last.
    #[error("length is zero or not a multiple of 8")]
    Misaligned,
    /// It divides the transport header.
    #[error("divides the transport header")]
    Tiny,
    /// No room for it; if others of its datagram were held, the whole datagram is discarded.
    #[error("no room for reassembly")]
    Budget,
    /// Its datagram would have two ends: the whole datagram is discarded.
    #[error("contradicts where the datagram ends")]
    Inconsistent,
    /// Its datagram was discarded before.
    #[error("its datagram was discarded")]
    Poisoned,
}

/// A datagram that was given up.
#[derive(Clone, Copy, Debug)]
pub struct TimedOut {
    /// Its first fragment had come, so the source is to be told (RFC 1122 section 3.3.2).
    pub had_first: bool,
    /// Frames that are free again.
    pub frames_freed: usize,
    quote: Quote,
}

impl TimedOut {
    /// Header and first bytes of the first fragment, for the message.
    pub fn quote(&self) -> &[u8] {
        &self.quote.bytes[..self.quote.len]
    }
}

#[derive(Clone, Copy, Debug)]
struct Quote {
    bytes: [u8; QUOTE_BYTES_MAX],
    len: usize,
}

impl Quote {
    const NONE: Self = Self { bytes: [0; QUOTE_BYTES_MAX], len: 0 };

    fn of(from: &[u8]) -> Self {
        let len = from.len().min(QUOTE_BYTES_MAX);
        let mut quote = Self { len, ..Self::NONE };
        quote.bytes[..len].copy_from_slice(&from[..len]);
        quote
    }
}

#[derive(Debug)]
struct Piece {
    offset: usize,
    len: usize,
    buf: RxBuf,
}

impl Piece {
    fn end(&self) -> usize {
        self.offset + self.len
    }
}

#[derive(Debug)]
struct Datagram {
    key: FragmentKey,
    deadline: Instant,
    /// By offset, without overlap.
    pieces: Vec<Piece>,
    /// Bytes in `pieces`.
    covered: usize,
    /// Frames in `pieces`.
    frames: usize,
    /// Length of the whole, once the last fragment has come.
    end: Option<usize>,
    /// Discarded; remembered so that late fragments are, too.
    poisoned: bool,
    quote: Quote,
    by_age: Link,
    by_age_of_source: Link,
}

fn by_age(datagram: &mut Datagram) -> &mut Link {
    &mut datagram.by_age
}

fn by_age_of_source(datagram: &mut Datagram) -> &mut Link {
    &mut datagram.by_age_of_source
}

#[derive(Debug)]
struct Source {
    by_age: List,
    datagrams: usize,
    frames: usize,
}

impl Source {
    const NEW: Self = Self { by_age: List::EMPTY, datagrams: 0, frames: 0 };
}

/// Puts datagrams together.
#[derive(Debug)]
pub struct Reassembler {
    config: FragmentConfig,
    by_key: HashMap<FragmentKey, usize, RandomState>,
    sources: HashMap<Ipv4Addr, Source, RandomState>,
    /// Slots are reused, with the memory of their `pieces`.
    datagrams: Vec<Datagram>,
    free: Vec<usize>,
    /// Oldest first; as all have the same timeout, also by deadline.
    by_age: List,
    frames: usize,
    fragments: usize,
    joined: u64,
    discarded: u64,
    evicted: u64,
    armed: Option<Instant>,
}

impl Reassembler {
    /// A reassembler with nothing to do; `hash_seeds` are secret.
    pub fn new(config: FragmentConfig, hash_seeds: [u64; 4]) -> Self {
        let [a, b, c, d] = hash_seeds;
        let hash = RandomState::with_seeds(a, b, c, d);
        Self {
            config,
            by_key: HashMap::with_hasher(hash.clone()),
            sources: HashMap::with_hasher(hash),
            datagrams: Vec::new(),
            free: Vec::new(),
            by_age: List::EMPTY,
            frames: 0,
            fragments: 0,
            joined: 0,
            discarded: 0,
            evicted: 0,
            armed: None,
        }
    }

    /// Takes a fragment: `payload` is what its header promises, without the header, and goes to `offset_bytes` of the datagram's payload; `more` is its header's
    /// flag; `quote` its header and the first 8 bytes behind it.
    ///
    /// For room, the oldest datagrams are discarded: the source's own if it has its share, else anybody's.
    pub fn insert(
        &mut self,
        key: FragmentKey,
        offset_bytes: usize,
        more: bool,
        payload: RxBuf,
        quote: &[u8],
        now: Instant,
    ) -> Inserted {
        let piece = Piece { offset: offset_bytes, len: payload.total_len(), buf: payload };
        if let Err(error) = check(key.protocol, &piece, more) {
            return Inserted::Refused(error);
        }
        let (at, started) = match self.by_key.get(&key) {
            Some(&at) => (at, false),
            None => match self.start(key, now) {
                Some(at) => (at, true),
                None => return Inserted::Refused(FragmentError::Budget),
            },
        };
        match self.fit(at, piece, more) {
            Err(error @ (FragmentError::Overlap | FragmentError::Inconsistent)) => {
                self.poison(at);
                return Inserted::Refused(error);
            }
            // Without this fragment the datagram cannot become whole: what it holds is better free.
            Err(FragmentError::Budget) if started => {
                self.discard(at);
                return Inserted::Refused(FragmentError::Budget);
            }
            Err(FragmentError::Budget) => {
                self.poison(at);
                return Inserted::Refused(FragmentError::Budget);
            }
            Err(error) => return Inserted::Refused(error),
            Ok(()) => {}
        }
        let datagram = &mut self.datagrams[at];
        if offset_bytes == 0 {
            datagram.quote = Quote::of(quote);
        }
        // Pieces do not overlap and none ends beyond the end, so as many bytes as the whole has are the whole.
        if datagram.end == Some(datagram.covered) {
            return match self.join(at) {
                Some(payload) => Inserted::Complete(payload),
                None => Inserted::Refused(FragmentError::Inconsistent),
            };
        }
        if started { Inserted::Started } else { Inserted::Held }
    }

    /// Gives up the oldest datagram that is due; call until `None`, then [`arm`](Self::arm).
    pub fn expire(&mut self, now: Instant) -> Option<(FragmentKey, TimedOut)> {
        if self.armed.is_some_and(|at| at <= now) {
            self.armed = None;
        }
        while let Some(at) = self.by_age.front()
            && self.datagrams[at].deadline <= now
        {
            let key = self.datagrams[at].key;
            if let Some(timed_out) = self.give_up(at) {
                return Some((key, timed_out));
            }
        }
        None
    }

    /// When to call [`expire`](Self::expire), unless an earlier answer of this is still to come. One timer does for all datagrams, so that the number of
    /// timers does not grow with the rate at which datagrams come and are completed.
    pub fn arm(&mut self) -> Option<Instant> {
        if self.armed.is_some() {
            return None;
        }
        self.armed = self.by_age.front().map(|at| self.datagrams[at].deadline);
        self.armed
    }

    /// Frames held.
    pub fn frames_held(&self) -> usize {
        self.frames
    }

    /// Fragments held.
    pub fn fragments_held(&self) -> usize {
        self.fragments
    }

    /// Fragments that became part of a whole datagram so far.
    pub fn fragments_joined(&self) -> u64 {
        self.joined
    }

    /// Fragments that were kept and then freed with their unfinished datagram so far.
    pub fn fragments_discarded(&self) -> u64 {
        self.discarded
    }

    /// Datagrams in the making, discarded ones that are remembered included.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Datagrams discarded so far to make room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// A slot for a new datagram.
    fn start(&mut self, key: FragmentKey, now: Instant) -> Option<usize> {
        if self.config.per_source_max == 0 {
            return None;
        }
        while let Some(source) = self.sources.get(&key.src)
            && source.datagrams >= self.config.per_source_max
        {
            self.evict(source.by_age.front()?);
        }
        while self.by_key.len() >= self.config.datagrams_max {
            self.evict(self.by_age.front()?);
        }
        let deadline = now + self.config.timeout;
        let at = self.free.pop().unwrap_or(self.datagrams.len());
        let new = |pieces| Datagram {
            key,
            deadline,
            pieces,
            covered: 0,
            frames: 0,
            end: None,
            poisoned: false,
            quote: Quote::NONE,
            by_age: Link::LOOSE,
            by_age_of_source: Link::LOOSE,
        };
        match self.datagrams.get_mut(at) {
            Some(slot) => *slot = new(std::mem::take(&mut slot.pieces)),
            None => self.datagrams.push(new(Vec::new())),
        }
        self.by_key.insert(key, at);
        self.by_age.push_back(&mut self.datagrams, at, by_age);
        let source = self.sources.entry(key.src).or_insert(Source::NEW);
        source.by_age.push_back(&mut self.datagrams, at, by_age_of_source);
        source.datagrams += 1;
        Some(at)
    }

    /// Puts a piece into its place, making room.
    fn fit(&mut self, at: usize, piece: Piece, more: bool) -> Result<(), FragmentError> {
        let datagram = &self.datagrams[at];
        if datagram.poisoned {
            return Err(FragmentError::Poisoned);
        }
        let pieces = &datagram.pieces;
        let place = pieces.partition_point(|other| other.offset < piece.offset);
        let (before, behind) = (place.checked_sub(1).and_then(|i| pieces.get(i)), pieces.get(place));
        let is_end = datagram.end == Some(piece.end());
        if behind.is_some_and(|other| (other.offset, other.len) == (piece.offset, piece.len)) && is_end != more {
            return Err(FragmentError::Duplicate);
        }
        let contradicts = match datagram.end {
            Some(end) if more => piece.end() >= end,
            Some(end) => piece.end() != end,
            None => !more && pieces.last().is_some_and(|last| last.end() > piece.end()),
        };
        if contradicts {
            return Err(FragmentError::Inconsistent);
        }
        if before.is_some_and(|other| other.end() > piece.offset)
            || behind.is_some_and(|other| other.offset < piece.end())
        {
            return Err(FragmentError::Overlap);
        }
        if pieces.len() >= self.config.per_datagram_max {
            return Err(FragmentError::Budget);
        }
        let frames = piece.buf.frame_count();
        self.make_room(at, frames)?;
        let datagram = &mut self.datagrams[at];
        datagram.covered += piece.len;
        datagram.frames += frames;
        if !more {
            datagram.end = Some(piece.end());
        }
        datagram.pieces.insert(place, piece);
        self.frames += frames;
        self.fragments += 1;
        if let Some(source) = self.sources.get_mut(&self.datagrams[at].key.src) {
            source.frames += frames;
        }
        Ok(())
    }

    /// Discards others until `frames` more fit.
    fn make_room(&mut self, keep: usize, frames: usize) -> Result<(), FragmentError> {
        let FragmentConfig { datagrams_max, frames_max, per_source_max, .. } = self.config;
        let share = frames_max.saturating_mul(per_source_max) / datagrams_max.max(1);
        let share = share.clamp(1, frames_max.max(1));
        let src = self.datagrams[keep].key.src;
        while let Some(source) = self.sources.get(&src)
            && source.frames + frames > share
        {
            let oldest = source.by_age.front().filter(|&at| at != keep);
            let next = self.datagrams[keep].by_age_of_source.next();
            self.evict(oldest.or(next).ok_or(FragmentError::Budget)?);
        }
        while self.frames + frames > frames_max {
            let oldest = self.by_age.front().filter(|&at| at != keep);
            let next = self.datagrams[keep].by_age.next();
            self.evict(oldest.or(next).ok_or(FragmentError::Budget)?);
        }
        Ok(())
    }

    fn evict(&mut self, at: usize) {
        self.evicted += 1;
        self.discard(at);
    }

    /// Frees what a datagram holds and remembers it until its time is up.
    fn poison(&mut self, at: usize) {
        self.release(at);
        self.datagrams[at].poisoned = true;
    }

    fn give_up(&mut self, at: usize) -> Option<TimedOut> {
        let Datagram { ref pieces, frames, poisoned, quote, .. } = self.datagrams[at];
        let had_first = pieces.first().is_some_and(|piece| piece.offset == 0);
        self.discard(at);
        (!poisoned).then_some(TimedOut { had_first, frames_freed: frames, quote })
    }

    /// The pieces as one chain. Built from behind: appending walks what is appended to.
    fn join(&mut self, at: usize) -> Option<RxBuf> {
        let mut whole: Option<RxBuf> = None;
        let mut pieces = std::mem::take(&mut self.datagrams[at].pieces);
        self.fragments -= pieces.len();
        self.joined += pieces.len() as u64;
        while let Some(Piece { mut buf, .. }) = pieces.pop() {
            if let Some(tail) = whole.take()
                && buf.append(tail).is_err()
            {
                // Fragments from another worker's pool: the stack never mixes them.
                pieces.clear();
                break;
            }
            whole = Some(buf);
        }
        self.datagrams[at].pieces = pieces;
        self.discard(at);
        whole
    }

    /// Forgets a datagram and frees what it holds.
    fn discard(&mut self, at: usize) {
        self.release(at);
        let key = self.datagrams[at].key;
        self.by_key.remove(&key);
        self.by_age.unlink(&mut self.datagrams, at, by_age);
        if let Some(source) = self.sources.get_mut(&key.src) {
            source.by_age.unlink(&mut self.datagrams, at, by_age_of_source);
            source.datagrams -= 1;
            if source.datagrams == 0 {
                self.sources.remove(&key.src);
            }
        }
        self.free.push(at);
    }

    fn release(&mut self, at: usize) {
        let datagram = &mut self.datagrams[at];
        self.fragments -= datagram.pieces.len();
        self.discarded += datagram.pieces.len() as u64;
        datagram.pieces.clear();
        let frames = std::mem::take(&mut datagram.frames);
        self.frames -= frames;
        if let Some(source) = self.sources.get_mut(&datagram.key.src) {
            source.frames -= frames;
        }
    }
}

/// What is wrong with a fragment by itself.
fn check(protocol: u8, piece: &Piece, more: bool) -> Result<(), FragmentError> {
    if piece.len == 0 || !piece.offset.is_multiple_of(8) || more && !piece.len.is_multiple_of(8) {
        return Err(FragmentError::Misaligned);
    }
    if piece.offset > PAYLOAD_BYTES_MAX || piece.len > PAYLOAD_BYTES_MAX - piece.offset {
        return Err(FragmentError::TooLong);
    }
    let header_bytes = match protocol {
        protocol::TCP => 20,
        protocol::UDP | protocol::ICMP => 8,
        _ => 0,
    };
    // RFC 1858: neither a first fragment that ends within the header nor a later one that begins there.
    let first_is_tiny = piece.offset == 0 && more && piece.len < header_bytes;
    if first_is_tiny || piece.offset > 0 && piece.offset < header_bytes {
        return Err(FragmentError::Tiny);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
