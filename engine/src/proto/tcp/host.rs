//! What a connection needs from whoever runs it.

use super::{Spares, TcpConfig, types::Endpoints};
use crate::{
    buf::{Frozen, Pool, Retained, TxBuf},
    telemetry::Counters,
    time::Instant,
    wire::{seq::SeqNum, tcp::Repr},
};

/// IP header fields that a segment asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpFields {
    /// Type of service with the ECN bits.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
}

/// A stretch of frozen bytes: the bytes, where it begins in them, how long it is.
pub type Stretch<'a> = (&'a Frozen, usize, usize);

/// Time, memory and the way out. The stack is one; tests have another.
pub trait Host {
    /// Headers as they go in front of a payload, from the link's on.
    type Headers: Default;

    /// The time.
    fn now(&self) -> Instant;
    /// The frames.
    fn pool(&self) -> &Pool;
    /// Limits.
    fn config(&self) -> &TcpConfig;
    /// Counts.
    fn counters(&mut self) -> &mut Counters;
    /// Queues for those who need one.
    fn spares(&mut self) -> &mut Spares;
    /// Both.
    fn books(&mut self) -> (&mut Counters, &mut Spares);
    /// Frames that received data may still take, over all connections.
    fn rx_frames_left(&self) -> u32;
    /// Received data took (or gave back, if negative) so many.
    fn charge_rx_frames(&mut self, frames: i32);
    /// Most pieces that the payload of one packet may lie in.
    fn pieces_max(&self, to: &Endpoints) -> usize;
    /// Sends a segment without payload. False: it could not go now.
    fn send_bare(&mut self, to: &Endpoints, ip: IpFields, repr: &Repr) -> bool;
    /// Writes down, where they stay, the headers of segments that are sent together; sequence number, flags and payload are each one's own. False: the way is not known now.
    fn write_headers(&mut self, headers: &mut Self::Headers, to: &Endpoints, ip: IpFields, repr: &Repr) -> bool;
    /// Sends a segment whose payload is the whole of one frame, which also gets the headers. `None`: it could not go now, and the payload is left where it is.
    fn send_whole(
        &mut self,
        headers: &Self::Headers,
        seq: SeqNum,
        flags: u8,
        payload: &mut Option<TxBuf>,
    ) -> Option<Retained>;
    /// Sends a segment whose payload lies in pieces, behind a frame with the headers. False: it could not go now.
    fn send_pieces(&mut self, to: &Endpoints, ip: IpFields, repr: &Repr, payload: &[Stretch<'_>]) -> bool;
}
