//! A connection whose peer says everything that a peer may say, and much that it may not.

use crate::{
    frames::PEER,
    rig::Rig,
    tcp_peer::{ACK, FIN, Heard, Peer, RST, SYN, URG, sack, timestamps},
};
use arbitrary::{Result, Unstructured};
use framewire::{
    socket::{TcpRecvError, TcpStream},
    time::Duration,
};

/// Bytes that either side has to say, at most.
const STREAM_BYTES: u32 = 1 << 16;

/// The byte at a position of the stream that the peer sends, or that it hears.
fn peer_says(position: u32) -> u8 {
    (position.wrapping_mul(31) >> 3) as u8
}

fn we_say(position: u32) -> u8 {
    (position.wrapping_mul(17) >> 2) as u8 ^ 0x5a
}

/// Segments of a peer in any order, with any holes and repetitions, and what the application does meanwhile. Whatever arrives of either stream must be what
/// was sent there.
pub fn segments(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let mut rig = crate::rig();
    let mut peer = Peer::port(4000);
    if input.ratio(1u8, 2u8).unwrap_or(false) {
        peer = peer.with_timestamps();
    }
    let stream = peer.connect(&mut rig);
    let mut dialogue =
        Dialogue { first: peer.nxt, heard_first: peer.rcv, peer, stream, read: 0, written: 0, urgent: false };
    while !input.is_empty() && dialogue.step(&mut rig, &mut input).is_ok() {
        dialogue.listen(&mut rig);
        rig.accounted();
    }
    dialogue.stream.abort(&mut rig.net());
    rig.finish();
}

struct Dialogue {
    peer: Peer,
    stream: TcpStream,
    /// Sequence numbers of both streams' first bytes.
    first: u32,
    heard_first: u32,
    /// Bytes that the application has read and written.
    read: u32,
    written: u32,
    /// The urgent byte is taken out of the stream, whose positions tell nothing from then on.
    urgent: bool,
}

impl Dialogue {
    fn step(&mut self, rig: &mut Rig, input: &mut Unstructured<'_>) -> Result<()> {
        match input.int_in_range(0..=9)? {
            0..=4 => self.speak(rig, input)?,
            5 => self.read(rig),
            6..=7 => {
                let len = input.int_in_range(1..=5_000u32)?.min(STREAM_BYTES - self.written);
                let text: Vec<u8> = (self.written..self.written + len).map(we_say).collect();
                if let Ok(sent) = self.stream.send_slice(&mut rig.net(), &text) {
                    self.written += sent as u32;
                }
            }
            8 => self.stream.shutdown(&mut rig.net()),
            _ => {
                rig.know(PEER);
                rig.advance(Duration::from_millis(input.int_in_range(1..=5_000)?));
            }
        }
        Ok(())
    }

    /// The peer sends a part of its stream, from near where it is, and acknowledges something near what it has heard.
    fn speak(&mut self, rig: &mut Rig, input: &mut Unstructured<'_>) -> Result<()> {
        let near = |input: &mut Unstructured<'_>, exact: u32| -> Result<u32> {
            Ok(match input.int_in_range(0..=3)? {
                0 | 1 => exact,
                2 => exact.wrapping_add_signed(input.int_in_range(-4_000..=4_000)?),
                _ => input.arbitrary()?,
            })
        };
        let seq = near(input, self.peer.nxt)?;
        let ack = near(input, self.peer.rcv)?;
        let begin = seq.wrapping_sub(self.first);
        let room = STREAM_BYTES.saturating_sub(begin);
        let len = input.int_in_range(0..=1_460u32)?.min(room);
        let payload: Vec<u8> = (begin..begin + len).map(peer_says).collect();
        let mut segment = self.peer.segment(ACK, &payload);
        (segment.seq, segment.ack) = (seq, ack);
        match input.int_in_range(0..=15)? {
            0 => segment.flags |= FIN,
            1 => segment.flags |= RST,
            2 => segment.flags |= SYN,
            3 => {
                segment.flags |= URG;
                segment.urgent = input.arbitrary()?;
                self.urgent = true;
            }
            4 => segment.window = input.arbitrary()?,
            5 => segment.options = sack(&[(near(input, self.peer.rcv)?, near(input, self.peer.rcv)?)]),
            6 => segment.options = timestamps(input.arbitrary()?, input.arbitrary()?),
            7 => segment.options = input.bytes(input.len().min(40))?.to_vec(),
            _ => {}
        }
        // The peer remembers what it has said in order.
        if seq == self.peer.nxt {
            self.peer.nxt = seq.wrapping_add(len);
        }
        rig.receive(&segment.frame());
        Ok(())
    }

    fn read(&mut self, rig: &mut Rig) {
        loop {
            match self.stream.recv(&mut rig.net()) {
                Ok(buf) => {
                    for &byte in buf.pieces().flatten() {
                        assert!(self.urgent || byte == peer_says(self.read), "byte {} of the peer's stream", self.read);
                        self.read += 1;
                    }
                }
                Err(TcpRecvError::WouldBlock | TcpRecvError::Finished) => return,
                Err(_) => return,
            }
        }
    }

    /// Looks at what we have sent; the peer acknowledges it some time.
    fn listen(&mut self, rig: &mut Rig) {
        for Heard { header, payload, .. } in self.peer.hear(rig) {
            let begin = header.seq.0.wrapping_sub(self.heard_first);
            // A SYN-ACK that is sent again, or the answer to a segment of no connection.
            if payload.is_empty() {
                continue;
            }
            for (position, &byte) in (begin..).zip(&payload) {
                assert!(position < self.written, "byte {position} of {} was never written", self.written);
                assert_eq!(byte, we_say(position), "byte {position} of our stream");
            }
            if header.seq.0 == self.peer.rcv {
                self.peer.rcv = self.peer.rcv.wrapping_add(payload.len() as u32);
            }
        }
    }
}
