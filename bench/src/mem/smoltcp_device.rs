//! A device for smoltcp: frames in preallocated memory, so that neither side of it costs more than the write of a frame.

use super::BATCH;
use smoltcp::{
    phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken},
    time::Instant,
};

pub(super) const FRAME_BYTES: usize = 1536;
/// A batch, and room for what else there may be.
pub(super) const FRAMES: usize = 2 * BATCH;

/// Frames in preallocated memory, from `begin` to `end`.
pub(super) struct Slots {
    frames: Vec<[u8; FRAME_BYTES]>,
    lens: Vec<usize>,
    begin: usize,
    end: usize,
}

impl Slots {
    pub(super) fn clear(&mut self) {
        (self.begin, self.end) = (0, 0);
    }

    /// In the order in which they were put in.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.frames
            .iter()
            .zip(&self.lens)
            .skip(self.begin)
            .take(self.end - self.begin)
            .map(|(frame, &len)| &frame[..len])
    }

    /// False if there is no room.
    pub(super) fn push(&mut self, frame: &[u8]) -> bool {
        let Some(slot) = self.frames.get_mut(self.end) else { return false };
        slot[..frame.len()].copy_from_slice(frame);
        self.lens[self.end] = frame.len();
        self.end += 1;
        true
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self { frames: vec![[0; FRAME_BYTES]; FRAMES], lens: vec![0; FRAMES], begin: 0, end: 0 }
    }
}

#[derive(Default)]
pub(super) struct Memory {
    pub(super) received: Slots,
    pub(super) sent: Slots,
    /// Who counts checksums.
    pub(super) checksum: ChecksumCapabilities,
}

impl Device for Memory {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Free<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Free<'_>)> {
        if self.received.begin == self.received.end || self.sent.end == FRAMES {
            return None;
        }
        let number = self.received.begin;
        self.received.begin += 1;
        Some((Received(&self.received.frames[number][..self.received.lens[number]]), Free(&mut self.sent)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Free<'_>> {
        (self.sent.end < FRAMES).then_some(Free(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities.checksum = self.checksum.clone();
        capabilities
    }
}

pub(super) struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(super) struct Free<'a>(&'a mut Slots);

impl TxToken for Free<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let number = self.0.end;
        self.0.end += 1;
        self.0.lens[number] = len;
        f(&mut self.0.frames[number][..len])
    }
}
