//! One core's loop.

use super::{
    Clock, IdleConfig, Remote, Stage, StageHistograms, StageSummary,
    idle::{self, Backoff, Idler},
    remote::Inbox,
};
use crate::{
    buf::{Ledger, Pool, PoolCounters, RxBuf, TxQueue},
    port::{Kick, Port, PortError, PortInfo, PortStats},
    proto::IfaceId,
    socket::{self, App, Net, Work},
    stack::{Asked, NeighbourWord, Stack, Stray, Usage},
    telemetry::Counters,
    time::Instant,
};
use std::{sync::Arc, time::Duration};

/// How long a stopping worker waits for its packets to be sent, unless told otherwise.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(1);
/// Packets taken from a port in one turn.
const RX_BURST: usize = 64;
/// Remote calls run in one turn.
const CALLS_PER_TURN: usize = 32;

/// A program that handles whole frames, without a stack.
pub trait FrameHandler: std::fmt::Debug {
    /// Takes all of `received` and puts what is to be sent into `egress`.
    fn handle_frames(&mut self, received: &mut Vec<RxBuf>, egress: &mut TxQueue);
}

/// What a worker runs.
pub enum Program {
    /// An application on a stack.
    Stack {
        /// The stack; its interface 0 is the worker's port.
        stack: Box<Stack>,
        /// The application.
        app: Box<dyn App>,
    },
    /// A layer-2 program.
    Frames {
        /// The program.
        handler: Box<dyn FrameHandler>,
        /// Descriptors for the port.
        egress: TxQueue,
    },
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stack { .. } => "Stack",
            Self::Frames { .. } => "Frames",
        })
    }
}

/// A worker's tunables.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerConfig {
    /// What it does when there is nothing to do.
    pub idle: IdleConfig,
    /// Measure how long the steps of a turn take.
    pub stage_histograms: bool,
}

/// Hears whom a worker's stack asks by ARP, before it asks.
pub type AskListener = Box<dyn FnMut(Vec<Asked>)>;

/// A worker: port, program and loop.
pub struct Worker {
    port: Box<dyn Port>,
    pool: Pool,
    program: Program,
    clock: Clock,
    received: Vec<RxBuf>,
    idler: Idler,
    backoff: Backoff,
    /// When the port wants to be kicked again.
    kick_again: Option<Instant>,
    remote: Inbox,
    /// The other workers on this interface.
    siblings: Vec<Remote>,
    ask_listener: Option<AskListener>,
    stages: Option<StageHistograms>,
    turns: u64,
    sleeps: u64,
    stopping: bool,
    patience: Duration,
}

/// A worker's figures at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What its port is.
    pub port: PortInfo,
    /// The port's counts.
    pub port_stats: PortStats,
    /// The stack's counts; zeros for a layer-2 program.
    pub counters: Counters,
    /// What the pool saw.
    pub pool: PoolCounters,
    /// Where the frames are.
    pub ledger: Ledger,
    /// What is in use of what is bounded.
    pub usage: Usage,
    /// Turns of the loop.
    pub turns: u64,
    /// Times it slept.
    pub sleeps: u64,
    /// How long the steps took, if measured.
    pub stages: Vec<StageSummary>,
}

/// What a worker says when it has stopped.
#[derive(Debug)]
pub struct WorkerReport {
    /// Its last figures; the ledger is that of after everything was given back.
    pub snapshot: Snapshot,
    /// Why it stopped, if not because it was told to.
    pub error: Option<PortError>,
}

impl Worker {
    /// A worker on `port`, whose frames are of `pool`.
    pub fn new(
        port: Box<dyn Port>,
        pool: Pool,
        program: Program,
        clock: Clock,
        remote: Remote,
        config: WorkerConfig,
    ) -> Self {
        Self {
            port,
            pool,
            program,
            clock,
            received: Vec::with_capacity(RX_BURST),
            idler: Idler::new(config.idle),
            backoff: Backoff::default(),
            kick_again: None,
            remote: Inbox(remote),
            siblings: Vec::new(),
            ask_listener: None,
            stages: config.stage_histograms.then(StageHistograms::new),
            turns: 0,
            sleeps: 0,
            stopping: false,
            patience: DEFAULT_PATIENCE,
        }
    }

    /// The stack, if the program has one.
    pub fn stack(&mut self) -> Option<&mut Stack> {
        match &mut self.program {
            Program::Stack { stack, .. } => Some(stack),
            Program::Frames { .. } => None,
        }
    }

    /// Stack and application, if the program is one.
    pub fn stack_and_app(&mut self) -> Option<(&mut Stack, &mut dyn App)> {
        match &mut self.program {
            Program::Stack { stack, app } => Some((stack, app.as_mut())),
            Program::Frames { .. } => None,
        }
    }

    /// The worker's frames.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The worker's port.
    pub fn port(&mut self) -> &mut dyn Port {
        self.port.as_mut()
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Names the workers on the other queues of this interface: they are told what ARP says here.
    pub fn set_siblings(&mut self, siblings: Vec<Remote>) {
        if let Program::Stack { stack, .. } = &mut self.program
            && !siblings.is_empty()
        {
            stack.share_neighbours();
            stack.share_strays(siblings.len());
        }
        self.siblings = siblings;
    }

    /// From now on `listener` hears whom the stack asks by ARP, before it asks.
    pub fn set_ask_listener(&mut self, listener: AskListener) {
        if let Program::Stack { stack, .. } = &mut self.program {
            stack.tell_asked();
            self.ask_listener = Some(listener);
        }
    }

    /// Makes [`run`](Self::run) return after this turn.
    pub fn request_stop(&mut self) {
        self.stopping = true;
    }

    /// As [`request_stop`](Self::request_stop); what is queued then has so long to be sent.
    pub fn request_stop_within(&mut self, patience: Duration) {
        self.patience = patience;
        self.stopping = true;
    }

    /// How long [`finish`](Self::finish) should wait for what is queued.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Turns until told to stop or the port breaks.
    ///
    /// # Errors
    /// The port is broken.
    pub fn run(&mut self) -> Result<(), PortError> {
        while !self.stopping {
            let now = self.clock.now();
            match self.turn(now)? {
                Work::Some => self.idler.busy(),
                Work::None => self.rest(now),
            }
        }
        Ok(())
    }

    /// One turn at time `now`.
    ///
    /// # Errors
    /// The port is broken.
    #[inline]
    pub fn turn(&mut self, now: Instant) -> Result<Work, PortError> {
        self.turns += 1;
        // Before packets: what another worker heard from ARP is often about the sender of the next one.
        let mut worked = if self.remote.is_empty() { 0 } else { self.run_calls() };
        let clock = self.clock;
        let clock = || clock.now();
        if let Some(stages) = &mut self.stages {
            stages.begin(clock);
        }
        worked += self.port.reap();
        self.port.refill();
        end(&mut self.stages, Stage::Reap, clock);
        let received = self.port.receive(now, &mut self.received, RX_BURST);
        worked += received;
        end(&mut self.stages, Stage::Receive, clock);
        match &mut self.program {
            Program::Stack { stack, app } => {
                stack.ingress(now, PORT_IFACE, &mut self.received);
                if stack.has_neighbour_words() {
                    tell(&self.siblings, &stack.take_neighbour_words());
                }
                if stack.has_strays() {
                    hand_over(&self.siblings, stack.take_strays());
                }
                end(&mut self.stages, Stage::Ingress, clock);
                worked += stack.poll_timers(now);
                end(&mut self.stages, Stage::Timers, clock);
                worked += usize::from(socket::drive(stack, app.as_mut()) == Work::Some);
                end(&mut self.stages, Stage::App, clock);
                if stack.has_asked()
                    && let Some(listener) = &mut self.ask_listener
                {
                    listener(stack.take_asked());
                }
                worked += self.port.transmit(now, stack.egress(PORT_IFACE));
                stack.egress_drained(PORT_IFACE);
            }
            Program::Frames { handler, egress } => {
                if !self.received.is_empty() {
                    handler.handle_frames(&mut self.received, egress);
                }
                end(&mut self.stages, Stage::App, clock);
                worked += self.port.transmit(now, egress);
            }
        }
        end(&mut self.stages, Stage::Transmit, clock);
        let pending = self.port.kick()? == Kick::Pending;
        end(&mut self.stages, Stage::Kick, clock);
        if let Some(stages) = &mut self.stages {
            stages.finish(if worked > 0 { Work::Some } else { Work::None });
        }
        self.kick_again = None;
        if worked > 0 {
            self.backoff.busy();
            return Ok(Work::Some);
        }
        if pending {
            self.kick_again = self.backoff.pause(now);
        }
        Ok(if pending && self.kick_again.is_none() { Work::Some } else { Work::None })
    }

    fn run_calls(&mut self) -> usize {
        let remote = Remote::clone(&self.remote);
        let mut count = 0;
        while count < CALLS_PER_TURN
            && let Some(call) = remote.take()
        {
            call(self);
            count += 1;
        }
        count
    }

    /// The turn did nothing.
    fn rest(&mut self, now: Instant) {
        let stack_deadline = match &self.program {
            Program::Stack { stack, .. } => stack.next_deadline(),
            Program::Frames { .. } => None,
        };
        let deadline = [stack_deadline, self.port.next_deadline(), self.kick_again].into_iter().flatten().min();
        let Some(sleep) = self.idler.idle(now, deadline) else {
            std::hint::spin_loop();
            return;
        };
        if !self.remote.fall_asleep() {
            return;
        }
        self.sleeps += 1;
        match self.port.wait_fd() {
            Some(fd) => idle::wait(&[fd, self.remote.bell()], sleep),
            // A port that nobody rings for is looked at every millisecond.
            None => idle::wait(&[self.remote.bell()], sleep.min(Duration::from_millis(1))),
        }
        self.remote.wake_up();
    }

    /// The figures of now.
    pub fn snapshot(&self) -> Snapshot {
        let (counters, usage) = match &self.program {
            Program::Stack { stack, .. } => (stack.counters, stack.usage()),
            Program::Frames { .. } => (Counters::default(), Usage::default()),
        };
        Snapshot {
            port: self.port.info().clone(),
            port_stats: self.port.stats(),
            counters,
            pool: self.pool.counters(),
            ledger: self.pool.ledger(),
            usage,
            turns: self.turns,
            sleeps: self.sleeps,
            stages: self.stages.as_ref().map(StageHistograms::summaries).unwrap_or_default(),
        }
    }

    /// Winds up: the application says goodbye, what is queued is sent (for at most `patience`), every frame comes back.
    pub fn finish(mut self, patience: Duration, error: Option<PortError>) -> WorkerReport {
        self.remote.close();
        if let Program::Stack { stack, app } = &mut self.program {
            app.stop(&mut Net::new(stack));
        }
        if error.is_none() {
            let until = self.clock.now() + patience;
            while self.clock.now() < until {
                self.port.reap();
                let egress = match &mut self.program {
                    Program::Stack { stack, .. } => {
                        // Connections that the application has just closed have a FIN to send.
                        stack.flush();
                        stack.egress(PORT_IFACE)
                    }
                    Program::Frames { egress, .. } => egress,
                };
                let now = self.clock.now();
                let done = egress.is_empty();
                self.port.transmit(now, egress);
                if self.port.kick().is_err() || done {
                    break;
                }
            }
        }
        let mut snapshot = self.snapshot();
        let Self { mut port, pool, program, received, .. } = self;
        drop((program, received));
        port.close(patience);
        snapshot.port_stats = port.stats();
        drop(port);
        snapshot.ledger = pool.ledger();
        snapshot.pool = pool.counters();
        WorkerReport { snapshot, error }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("port", &self.port).field("program", &self.program).finish_non_exhaustive()
    }
}

fn tell(siblings: &[Remote], words: &[NeighbourWord]) {
    for sibling in siblings {
        let words = words.to_vec();
        // One that has stopped needs no neighbours; one that is that far behind asks again.
        let _ = sibling.post(move |worker| {
            let now = worker.now();
            if let Some(stack) = worker.stack() {
                stack.hear_neighbours(now, &words);
            }
        });
    }
}

fn hand_over(siblings: &[Remote], strays: Vec<Arc<Stray>>) {
    let strays = Arc::new(strays);
    for sibling in siblings {
        let strays = Arc::clone(&strays);
        // Lost where a sibling has stopped or is that far behind, as packets may be.
        let _ = sibling.post(move |worker| {
            let now = worker.now();
            if let Some(stack) = worker.stack() {
                strays.iter().for_each(|stray| stack.hear_stray(now, stray));
            }
        });
    }
}

/// The stack's interface that is the worker's port.
const PORT_IFACE: IfaceId = IfaceId(0);

#[inline]
fn end(stages: &mut Option<StageHistograms>, stage: Stage, now: impl FnOnce() -> Instant) {
    if let Some(stages) = stages {
        stages.end(stage, now);
    }
}
