//! One direction of a link: a queue, a rate, a delay, and what goes wrong.

use crate::random::Random;
use framewire::{
    time::{Duration, Instant},
    wire::{checksum, ethernet},
};

/// What goes wrong, each with a probability between 0 and 1 for every frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) loss: f64,
    /// The frame comes twice; the second copy up to `reorder_by` later.
    pub(crate) duplicate: f64,
    /// One byte anywhere in the frame is another, which a 16-bit sum always shows.
    pub(crate) corrupt: f64,
    /// The frame comes up to `reorder_by` later than it should, so that those behind overtake it.
    pub(crate) reorder: f64,
    pub(crate) reorder_by: Duration,
    /// Frames that are lost for certain: the number of the frame among those with TCP data that the link was given, from 0.
    pub(crate) drop_data: Vec<u64>,
}

/// What a router does about a packet that is too long for the next link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooLong {
    /// RFC 1191.
    Told,
    /// A black hole (RFC 2923 section 2.1).
    Silent,
}

/// One direction of a link.
#[derive(Clone, Debug)]
pub(crate) struct LinkConfig {
    /// Bits per second; 0: as fast as they come.
    pub(crate) rate_bits_per_s: u64,
    /// One way.
    pub(crate) delay: Duration,
    /// What waits for the wire at most, in bytes; a frame that finds no room is lost.
    pub(crate) queue_bytes: u64,
    /// From this many waiting bytes on, packets that can carry it are marked (RFC 3168).
    pub(crate) mark_from_bytes: Option<u64>,
    /// Longer packets need a fragmentation that nobody allows: they are lost, and their sender is told, or not.
    pub(crate) path_mtu: Option<(usize, TooLong)>,
    pub(crate) faults: Faults,
}

impl LinkConfig {
    pub(crate) fn new(rate_bits_per_s: u64, delay: Duration) -> Self {
        Self {
            rate_bits_per_s,
            delay,
            queue_bytes: u64::MAX,
            mark_from_bytes: None,
            path_mtu: None,
            faults: Faults::default(),
        }
    }

    pub(crate) fn with_queue(self, queue_bytes: u64) -> Self {
        Self { queue_bytes, ..self }
    }

    pub(crate) fn with_faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }
}

/// What happened to the frames of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkCounts {
    pub(crate) frames: u64,
    pub(crate) data_frames: u64,
    pub(crate) lost: u64,
    pub(crate) overflowed: u64,
    pub(crate) duplicated: u64,
    pub(crate) corrupted: u64,
    pub(crate) reordered: u64,
    pub(crate) marked: u64,
    pub(crate) too_long: u64,
    /// Most bytes that waited.
    pub(crate) backlog_bytes_max: u64,
}

/// What a link does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives then, and perhaps once more.
    Arrives {
        at: Instant,
        again: Option<Instant>,
    },
    Lost,
    Overflows,
    /// Longer than the path's MTU, and nobody says so.
    Vanishes,
    /// Longer than the path's MTU, which is given.
    TooLong(usize),
}

#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) config: LinkConfig,
    pub(crate) counts: LinkCounts,
    /// When the wire has sent everything it was given.
    free_at: Instant,
    random: Random,
}

impl Pipe {
    pub(crate) fn new(config: LinkConfig, seed: u64) -> Self {
        Self { config, counts: LinkCounts::default(), free_at: Instant::ZERO, random: Random::new(seed) }
    }

    fn backlog_bytes(&self, now: Instant) -> u64 {
        let wait_ns = u128::from(self.free_at.saturating_since(now).as_nanos() as u64);
        (wait_ns * u128::from(self.config.rate_bits_per_s) / 8_000_000_000) as u64
    }

    /// Takes a frame; may change its bytes.
    pub(crate) fn pass(&mut self, now: Instant, frame: &mut [u8]) -> Fate {
        let Self { config: LinkConfig { faults, .. }, counts, random, .. } = self;
        counts.frames += 1;
        let has_data = tcp_payload_bytes(frame) > 0;
        let number = counts.data_frames;
        counts.data_frames += u64::from(has_data);
        if let Some((mtu, told)) = self.config.path_mtu
            && frame.len() > mtu + ethernet::HEADER_BYTES
        {
            counts.too_long += 1;
            return if told == TooLong::Told { Fate::TooLong(mtu) } else { Fate::Vanishes };
        }
        if has_data && faults.drop_data.contains(&number) || random.chance(faults.loss) {
            counts.lost += 1;
            return Fate::Lost;
        }
        if random.chance(faults.corrupt) {
            let at = random.below(frame.len() as u64) as usize;
            frame[at] ^= 1 + random.below(255) as u8;
            counts.corrupted += 1;
        }
        let backlog = self.backlog_bytes(now);
        if backlog.saturating_add(frame.len() as u64) > self.config.queue_bytes {
            self.counts.overflowed += 1;
            return Fate::Overflows;
        }
        self.counts.backlog_bytes_max = self.counts.backlog_bytes_max.max(backlog + frame.len() as u64);
        if self.config.mark_from_bytes.is_some_and(|from| backlog >= from) && mark(frame) {
            self.counts.marked += 1;
        }
        let sending_ns = match self.config.rate_bits_per_s {
            0 => 0,
            rate => (frame.len() as u64 * 8).saturating_mul(1_000_000_000) / rate,
        };
        self.free_at = self.free_at.max(now) + Duration::from_nanos(sending_ns);
        let mut at = self.free_at + self.config.delay;
        let Self { config: LinkConfig { faults, .. }, counts, random, .. } = self;
        if random.chance(faults.reorder) {
            counts.reordered += 1;
            at = at + random.up_to(faults.reorder_by);
        }
        let again = random.chance(faults.duplicate).then(|| at + random.up_to(faults.reorder_by));
        counts.duplicated += u64::from(again.is_some());
        Fate::Arrives { at, again }
    }
}

const IP: usize = ethernet::HEADER_BYTES;

fn is_ipv4(frame: &[u8]) -> bool {
    frame.len() >= IP + 20 && frame[12..14] == ethernet::ethertype::IPV4.to_be_bytes()
}

/// Bytes of TCP payload in an untagged frame of IPv4 without options, as all are that the simulated hosts send.
pub(crate) fn tcp_payload_bytes(frame: &[u8]) -> usize {
    if !is_ipv4(frame) || frame[IP + 9] != 6 || frame.len() < IP + 40 {
        return 0;
    }
    let total = usize::from(u16::from_be_bytes([frame[IP + 2], frame[IP + 3]]));
    total.saturating_sub(20 + usize::from(frame[IP + 32] >> 4) * 4)
}

/// Sets "congestion experienced" if the packet's sender can hear of it.
fn mark(frame: &mut [u8]) -> bool {
    if !is_ipv4(frame) || frame[IP + 1] & 3 == 0 {
        return false;
    }
    frame[IP + 1] |= 3;
    frame[IP + 10..IP + 12].fill(0);
    let sum = !checksum::sum(&frame[IP..IP + 20]);
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
    true
}

/// "Fragmentation needed" about `frame` (RFC 1191 section 4), from a router at `router` back to where the frame came from.
pub(crate) fn fragmentation_needed(frame: &[u8], mtu: usize, router: [u8; 4]) -> Vec<u8> {
    let quote = &frame[IP..frame.len().min(IP + 28)];
    let mut icmp = vec![3, 4, 0, 0, 0, 0];
    icmp.extend_from_slice(&(mtu as u16).to_be_bytes());
    icmp.extend_from_slice(quote);
    let sum = !checksum::sum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0];
    ip.extend_from_slice(&router);
    ip.extend_from_slice(&frame[IP + 12..IP + 16]);
    let total = (ip.len() + icmp.len()) as u16;
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    let sum = !checksum::sum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&frame[6..12], &frame[..6], &ethernet::ethertype::IPV4.to_be_bytes(), &ip, &icmp].concat()
}
