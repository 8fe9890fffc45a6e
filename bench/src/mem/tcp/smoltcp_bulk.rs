//! Two smoltcp hosts. A frame is written once by one and read in place by the other: the link itself costs nothing.

use super::{Checksum, Ends, smoltcp_host::Host};
use crate::mem::{FLOW, Turn};
use anyhow::Result;
use std::mem;

/// A frame that is longer has data in it.
const HEADERS_BYTES_MAX: usize = 14 + 20 + 60;

pub(super) struct SmoltcpEnds {
    client: Host,
    server: Host,
    received_bytes: u64,
    segments: u64,
    segment_bytes: usize,
}

impl SmoltcpEnds {
    pub(super) fn new(checksum: Checksum) -> Result<Self> {
        let mut client = Host::new(FLOW.source_mac, *FLOW.source.ip(), checksum)?;
        let mut server = Host::new(FLOW.target_mac, *FLOW.target.ip(), checksum)?;
        server.listen(FLOW.target.port())?;
        client.connect(FLOW.target)?;
        Ok(Self { client, server, received_bytes: 0, segments: 0, segment_bytes: 0 })
    }
}

impl Turn for SmoltcpEnds {
    fn work(&mut self) {
        let Self { client, server, .. } = self;
        client.tick();
        client.give(usize::MAX);
        client.poll();
        client.device.received.clear();
        for frame in client.device.sent.iter().filter(|frame| frame.len() > HEADERS_BYTES_MAX) {
            self.segments += 1;
            self.segment_bytes = self.segment_bytes.max(frame.len() - 14 - 20 - 20);
        }
        mem::swap(&mut client.device.sent, &mut server.device.received);
        server.tick();
        server.poll();
        server.device.received.clear();
        self.received_bytes += server.take();
        mem::swap(&mut server.device.sent, &mut client.device.received);
    }
}

impl Ends for SmoltcpEnds {
    fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    fn sent_segments(&mut self) -> (u64, usize) {
        (self.segments, self.segment_bytes)
    }
}
