//! What the services over TCP share: their connections, their share of the frames, opening and closing.

mod conns;
mod echo;
mod sink;
mod source;
#[cfg(test)]
mod tests;

pub(in crate::service) use conns::Conns;
pub use echo::TcpEcho;
pub use sink::TcpSink;
pub use source::{Peers, TcpSource, TcpSourceConfig};

use super::{Counts, pattern};
use crate::{
    config,
    socket::{
        AppError, CloseReason, CongestionAlgorithm, FAIR_BATCH, Keepalive, Net, TcpListener, TcpOptions, TcpRecvError,
        TcpStream,
    },
    time::Duration,
};
use std::{net::SocketAddrV4, sync::Arc};

/// Connections accepted in one turn at most.
const ACCEPT_BATCH: usize = 64;
/// Slot in the tag of a connection that nobody has accepted yet.
const UNACCEPTED: u32 = u32::MAX;
/// How often those are looked at that wait for frames, if no packet comes meanwhile.
const FRAMES_POLL: Duration = Duration::from_millis(1);
/// Between keep-alive probes (RFC 9293 section 3.8.4 leaves it to us; 75 s is what others use).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(75);

/// The tunables of a service's connections.
pub(super) fn tcp_options(wanted: &config::StreamOptions) -> TcpOptions {
    let mut options = TcpOptions { nodelay: wanted.nodelay, ..TcpOptions::default() };
    options.keepalive =
        wanted.keepalive.map(|idle| Keepalive { idle, interval: KEEPALIVE_INTERVAL.min(idle), ..Keepalive::default() });
    if let Some(bytes) = wanted.send_queue_bytes {
        options.send_queue_bytes = bytes;
    }
    if let Some(bytes) = wanted.recv_queue_bytes_max {
        options.recv_queue_bytes_max = bytes;
        options.recv_queue_bytes = options.recv_queue_bytes.min(bytes);
    }
    options.congestion = match wanted.congestion {
        Some(config::Congestion::Cubic) => CongestionAlgorithm::Cubic,
        Some(config::Congestion::NewReno) => CongestionAlgorithm::NewReno,
        None => CongestionAlgorithm::default(),
    };
    options
}

/// What a connection waits for after its share of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Next {
    /// An event.
    Event,
    /// Its next turn: there is more to do.
    Turn,
    /// Frames, or its own acknowledgments.
    Frames,
    /// Nothing: both sides have finished.
    Finished,
    /// Nothing: it failed.
    Failed,
}

impl From<TcpRecvError> for Next {
    fn from(error: TcpRecvError) -> Self {
        match error {
            TcpRecvError::WouldBlock => Self::Event,
            TcpRecvError::Finished => Self::Finished,
            _ => Self::Failed,
        }
    }
}

/// What one service has of one worker: its listener, its connections, its counts.
#[derive(Debug)]
pub(in crate::service) struct Base<T> {
    /// Number of the service, in the upper half of its streams' tags; its timers' token too.
    index: u32,
    pub(in crate::service) options: TcpOptions,
    connections_max: usize,
    listener: Option<TcpListener>,
    pub(in crate::service) conns: Conns<T>,
    pub(in crate::service) gauge: Gauge,
    timer_armed: bool,
    pub(in crate::service) counts: Arc<Counts>,
}

impl<T> Base<T> {
    pub(in crate::service) fn new(
        index: u32,
        options: TcpOptions,
        connections_max: usize,
        counts: Arc<Counts>,
    ) -> Self {
        let (conns, gauge) = (Conns::new(), Gauge::default());
        Self { index, options, connections_max, listener: None, conns, gauge, timer_armed: false, counts }
    }

    fn tag(&self, slot: u32) -> u64 {
        u64::from(self.index) << 32 | u64::from(slot)
    }

    pub(in crate::service) fn listen(
        &mut self,
        net: &mut Net<'_>,
        kind: &str,
        local: SocketAddrV4,
        backlog: usize,
    ) -> Result<(), AppError> {
        let listener = net.tcp_listen(local, backlog).map_err(|error| format!("{kind} on {local}: {error}"))?;
        listener.set_options(net, self.options.clone());
        listener.set_tag(net, self.tag(UNACCEPTED));
        self.listener = Some(listener);
        Ok(())
    }

    /// The slots of connections that have come; `made` makes what is kept for each.
    pub(in crate::service) fn accept(&mut self, net: &mut Net<'_>, mut made: impl FnMut() -> T) -> Vec<u32> {
        let Some(listener) = self.listener else { return Vec::new() };
        let mut slots = Vec::new();
        for _ in 0..ACCEPT_BATCH {
            let Some(stream) = listener.accept(net) else { break };
            if self.conns.len() >= self.connections_max {
                self.counts.connections_refused.add(1);
                stream.abort(net);
                continue;
            }
            self.counts.connections_accepted.add(1);
            slots.push(self.adopt(net, stream, made()));
        }
        slots
    }

    /// Keeps a connection from now on.
    pub(in crate::service) fn adopt(&mut self, net: &mut Net<'_>, stream: TcpStream, state: T) -> u32 {
        let slot = self.conns.insert(net.now(), stream, state);
        stream.set_tag(net, self.tag(slot));
        slot
    }

    /// Where a stream is kept; `None`: nobody has accepted it yet, or it is closed.
    #[inline]
    pub(in crate::service) fn slot(&mut self, net: &Net<'_>, stream: TcpStream) -> Option<u32> {
        let slot = stream.tag(net)? as u32;
        self.conns.get_mut(slot).filter(|conn| conn.stream == stream).map(|_| slot)
    }

    /// Closes it; what is queued is still delivered.
    pub(in crate::service) fn close(&mut self, net: &mut Net<'_>, slot: u32) -> Option<T> {
        let conn = self.conns.remove(slot)?;
        self.counts.connections_closed.add(1);
        conn.stream.close(net);
        Some(conn.state)
    }

    /// Resets it.
    pub(in crate::service) fn abort(&mut self, net: &mut Net<'_>, slot: u32) -> Option<T> {
        let conn = self.conns.remove(slot)?;
        self.counts.connections_closed.add(1);
        self.counts.connections_failed.add(1);
        conn.stream.abort(net);
        Some(conn.state)
    }

    /// A connection has had its share, and `next` follows. `told_again`: at an event of which the stack tells those again who took something.
    #[inline]
    pub(in crate::service) fn follow(&mut self, net: &mut Net<'_>, slot: u32, next: Next, told_again: bool) {
        match next {
            Next::Event => {}
            Next::Turn if told_again => {}
            Next::Turn | Next::Frames => self.conns.enqueue(slot),
            Next::Finished => drop(self.close(net, slot)),
            Next::Failed => drop(self.abort(net, slot)),
        }
    }

    /// How many of the connections that wait for their turn, or for frames, shall have it now.
    #[inline]
    pub(in crate::service) fn due(&mut self, net: &mut Net<'_>) -> usize {
        let waiting = self.conns.queue_len();
        if waiting == 0 {
            return 0;
        }
        self.arm(net, FRAMES_POLL);
        if self.gauge.frames(net) == Frames::None { 0 } else { waiting.min(FAIR_BATCH) }
    }

    /// It is over.
    pub(in crate::service) fn ended(&mut self, net: &mut Net<'_>, slot: u32, reason: CloseReason) -> Option<T> {
        if reason != CloseReason::Finished {
            self.counts.connections_failed.add(1);
        }
        self.close(net, slot)
    }

    /// Asks for a timer, unless one is under way.
    pub(in crate::service) fn arm(&mut self, net: &mut Net<'_>, delay: Duration) {
        if !std::mem::replace(&mut self.timer_armed, true) {
            net.set_timer(delay, u64::from(self.index));
        }
    }

    /// The timer has fired.
    pub(in crate::service) fn disarm(&mut self) {
        self.timer_armed = false;
    }

    /// Closes everything.
    pub(in crate::service) fn stop(&mut self, net: &mut Net<'_>) {
        if let Some(listener) = self.listener.take() {
            listener.close(net);
        }
        while let Some((slot, _)) = self.conns.oldest() {
            self.close(net, slot);
        }
    }
}

/// How many frames of the pool are free, judged by the most that ever were.
///
/// What waits in send queues counts for no connection's receive budget, and frames that came in and go out again bypass the reserve for receiving:
/// a service that took them all would also take those that the acknowledgments must come in. So half is left alone.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::service) struct Gauge {
    most_free: u32,
}

/// How many frames there are to send with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Frames {
    /// Enough for everybody.
    Plenty,
    /// Enough for connections that hold none.
    Scarce,
    /// None.
    None,
}

impl Gauge {
    /// To be asked on a worker that runs: before that, its port has not taken its frames.
    #[inline]
    pub(in crate::service) fn frames(&mut self, net: &mut Net<'_>) -> Frames {
        let free = net.stack().pool().free_for_tx();
        self.most_free = self.most_free.max(free);
        match free {
            0 => Frames::None,
            free if free > self.most_free / 2 => Frames::Plenty,
            _ => Frames::Scarce,
        }
    }

    /// The connection may send another frame.
    #[inline]
    pub(in crate::service) fn allows(&mut self, net: &mut Net<'_>, stream: TcpStream) -> bool {
        match self.frames(net) {
            Frames::Plenty => true,
            Frames::Scarce => stream.unacked_bytes(net) == 0,
            Frames::None => false,
        }
    }
}
