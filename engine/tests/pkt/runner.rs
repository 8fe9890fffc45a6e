//! Runs a script: one stack, a clock turned by hand, and a NIC that is two vectors.

mod calls;

use crate::{
    connection::{Connection, OUR_SERVICE_PORT},
    script::{Icmp, Line, Packet, Script, Settings, Step, When, number, parse_duration},
    segment::{IcmpError, OUR_MAC, PEER, PEER_MAC, Segment},
};
use framewire::{
    buf::{HugePages, Pool, PoolConfig, Region, RxBuf},
    proto::{
        IfaceId,
        tcp::{TcpEvent, TcpOptions},
    },
    socket::{App, AppError, Event, Net, TcpListener, TcpStream, drive},
    stack::{IfaceConfig, Stack, StackConfig},
    telemetry::Counters,
    time::{Duration, Instant},
    wire::MacAddr,
};
use std::{collections::VecDeque, fmt::Write as _, path::Path};

const IFACE: IfaceId = IfaceId(0);
/// Where the peer's connections come from unless the script says otherwise.
const PEER_PORT: u16 = 4000;
/// By when the interface's announcements are over: scripts begin there.
const BEGIN: Duration = Duration::from_secs(5);

/// What the application was told, in order.
#[derive(Debug, Default)]
struct Log {
    acceptable: bool,
    events: Vec<(TcpStream, TcpEvent)>,
}

impl App for Log {
    fn start(&mut self, _: &mut Net<'_>) -> Result<(), AppError> {
        Ok(())
    }

    fn handle_event(&mut self, _: &mut Net<'_>, event: Event) {
        match event {
            Event::Acceptable(_) => self.acceptable = true,
            Event::Tcp(stream, event) => self.events.push((stream, event)),
            _ => {}
        }
    }
}

/// One of the connections that the script is about.
#[derive(Debug)]
struct Peer {
    connection: Connection,
    stream: Option<TcpStream>,
}

struct Runner {
    stack: Stack,
    now: Instant,
    log: Log,
    listener: Option<TcpListener>,
    listener_options: TcpOptions,
    peers: Vec<Peer>,
    /// The one that lines are about.
    current: usize,
    settings: Settings,
    /// What we sent and the script has not asked for yet.
    sent: VecDeque<(Instant, Segment)>,
    /// What has come and was not handed over yet.
    arrived: Vec<RxBuf>,
    nic_holds: bool,
    /// Address, and what its bytes said when they were posted.
    in_nic: Vec<(u64, Vec<u8>)>,
    counters_before: Counters,
    trace: String,
}

/// Runs the script in `path`.
///
/// # Errors
/// What went otherwise than the script says: file and line, what was expected, what happened, and everything before.
pub(crate) fn run_file(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    run_text(&path.display().to_string(), &text)
}

pub(crate) fn run_text(name: &str, text: &str) -> Result<(), String> {
    let script = Script::parse(text).map_err(|(line, error)| format!("{name}:{line}: {error}"))?;
    let mut runner = Runner::new(script.settings).map_err(|error| format!("{name}: {error}"))?;
    for line in &script.lines {
        if let Err(error) = runner.run(line) {
            return Err(format!("{name}:{}: {}\n  {error}\n{}", line.number, line.text, runner.trace));
        }
    }
    let trace = std::mem::take(&mut runner.trace);
    runner.finish().map_err(|error| format!("{name}: at the end: {error}\n{trace}"))
}

impl Runner {
    fn new(settings: Settings) -> Result<Self, String> {
        const RX_RESERVE: usize = 32;
        let run_frames = settings.frames / 2;
        let frames = settings.frames + run_frames + RX_RESERVE;
        let region = Region::map(frames, settings.chunk_bytes, HugePages::Never).map_err(|e| e.to_string())?;
        let config = PoolConfig { rx_reserve_frames: RX_RESERVE as u32, run_frames: run_frames as u32 };
        let pool = Pool::new(region, config);
        let mut config = StackConfig::new([7; 32]);
        let mut options = TcpOptions::default();
        for (name, value) in &settings.stack {
            let duration = || parse_duration(value);
            match name.as_str() {
                "time_wait" => config.tcp.time_wait = duration()?,
                "rto_min" => config.tcp.rto.min = duration()?,
                "ecn" => config.tcp.ecn = calls::ecn(value)?,
                "syn_cookies" => config.tcp.syn_cookies = value == "on",
                "syn_ack_retries" => config.tcp.syn_ack_retries = number(value)?,
                "challenge_acks_per_s" => config.tcp.challenge_acks_per_s = number(value)?,
                "resets_per_s" => config.tcp.resets_per_s = number(value)?,
                name => {
                    let words: Vec<_> = [name].into_iter().chain(value.split_whitespace()).collect();
                    calls::change_option(&mut options, &words)?;
                }
            }
        }
        config.tcp.options = options.clone();
        let mut stack = Stack::new(pool, config, Instant::ZERO);
        let address = "10.0.0.1/24".parse()?;
        let mut iface = IfaceConfig::new("pkt0", MacAddr(OUR_MAC), vec![address]);
        iface.mtu = settings.mtu;
        iface.tx_pieces_max = settings.pieces_max;
        stack.add_interface(iface).map_err(|e| e.to_string())?;
        stack.add_static_neighbour(IFACE, PEER.into(), MacAddr(PEER_MAC)).map_err(|e| format!("{e:?}"))?;
        let connection = Connection::new(PEER_PORT, OUR_SERVICE_PORT, settings.peer_isn);
        let mut runner = Self {
            now: Instant::ZERO,
            log: Log::default(),
            listener: None,
            listener_options: options,
            peers: vec![Peer { connection, stream: None }],
            current: 0,
            settings,
            sent: VecDeque::new(),
            arrived: vec![],
            nic_holds: false,
            in_nic: vec![],
            counters_before: Counters::default(),
            trace: String::new(),
            stack,
        };
        runner.advance_to(Instant::ZERO + BEGIN)?;
        runner.counters_before = runner.stack.counters;
        Ok(runner)
    }

    fn peer(&mut self) -> &mut Peer {
        &mut self.peers[self.current]
    }

    fn note(&mut self, text: &str) {
        let at = self.now.saturating_since(Instant::ZERO + BEGIN);
        let _ = writeln!(self.trace, "    {:>12.6}  {text}", at.as_secs_f64());
    }

    fn run(&mut self, line: &Line) -> Result<(), String> {
        let Line { when, step, .. } = line;
        if let Step::Out(packet) = step {
            return self.expect(*when, packet);
        }
        let wait = match when {
            When::After(wait) => *wait,
            When::Within(..) => return Err("a range of times is for packets that we send".into()),
        };
        self.advance_to(self.now + wait)?;
        match step {
            Step::In(packet) => self.receive(packet),
            Step::InIcmp(icmp) => self.receive_icmp(icmp),
            Step::Call(call) => {
                self.note(&line.text);
                self.call(call)
            }
            Step::Out(_) => Ok(()),
        }
    }

    // ---- time

    /// Turns the stack at every moment at which it wants to be, up to `until`.
    fn advance_to(&mut self, until: Instant) -> Result<(), String> {
        while let Some(at) = self.stack.next_deadline().filter(|&at| at <= until) {
            // What is due and was not fired is for the next turn.
            self.now = if at <= self.now { self.now + Duration::from_micros(10) } else { at };
            self.turn(vec![])?;
        }
        self.now = self.now.max(until);
        self.turn(vec![])
    }

    fn turn(&mut self, mut received: Vec<RxBuf>) -> Result<(), String> {
        self.stack.ingress(self.now, IFACE, &mut received);
        self.stack.poll_timers(self.now);
        drive(&mut self.stack, &mut self.log);
        self.transmit()
    }

    /// Takes what waits for the port.
    fn transmit(&mut self) -> Result<(), String> {
        let mut frame = vec![];
        while let Some(piece) = self.stack.egress(IFACE).pop() {
            frame.extend_from_slice(piece.as_slice());
            let said = piece.as_slice().to_vec();
            let (addr, _, more) = piece.post();
            self.in_nic.push((addr, said));
            if !more {
                self.take_sent(&std::mem::take(&mut frame))?;
            }
        }
        if !self.nic_holds {
            self.complete()?;
        }
        self.stack.egress_drained(IFACE);
        Ok(())
    }

    fn take_sent(&mut self, frame: &[u8]) -> Result<(), String> {
        let Some(segment) = Segment::parse(frame).map_err(|error| format!("we sent {error}: {frame:02x?}"))? else {
            return Ok(());
        };
        let ports = (segment.dst_port, segment.src_port);
        let known = self.peers.iter().position(|peer| {
            peer.connection.peer_port == ports.0
                && (peer.connection.our_port == ports.1 || peer.connection.our_port == 0)
        });
        let text = match known {
            Some(at) => {
                self.peers[at].connection.observe(&segment);
                self.peers[at].connection.describe(&segment, true)
            }
            None => format!("{segment:?}"),
        };
        self.note(&format!("> {text}"));
        self.sent.push_back((self.now, segment));
        Ok(())
    }

    /// The NIC lets go of what it has.
    fn complete(&mut self) -> Result<(), String> {
        for (addr, said) in self.in_nic.drain(..) {
            let mut now = vec![];
            self.stack.pool().kernel_read(addr, said.len() as u32, &mut now).map_err(|e| e.to_string())?;
            if now != said {
                return Err(format!("a frame was written while it was in the NIC:\n  {said:02x?}\n  {now:02x?}"));
            }
            self.stack.pool().complete_tx(addr).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    // ---- packets

    fn inject(&mut self, frame: &[u8], more: bool) -> Result<(), String> {
        let pool = self.stack.pool().clone();
        let mut pieces = frame.chunks(pool.frame_payload_bytes()).map(|piece| pool.rx_from_bytes(piece));
        let mut packet = pieces.next().flatten().ok_or("no frame to receive into")?;
        for piece in pieces {
            packet.append(piece.ok_or("no frame to receive into")?).map_err(|_| "pieces do not join")?;
        }
        self.arrived.push(packet);
        if more {
            return Ok(());
        }
        let arrived = std::mem::take(&mut self.arrived);
        self.turn(arrived)
    }

    fn receive(&mut self, packet: &Packet) -> Result<(), String> {
        if !packet.in_burst {
            self.nothing_unexpected()?;
        }
        let now = self.now;
        let connection = &mut self.peer().connection;
        let segment = connection.segment(packet, now);
        let text = connection.describe(&segment, false);
        self.note(&format!("< {text}"));
        self.inject(&segment.frame(!packet.bad_checksum), packet.more)
    }

    fn receive_icmp(&mut self, icmp: &Icmp) -> Result<(), String> {
        self.nothing_unexpected()?;
        let connection = &self.peers[self.current].connection;
        let error = IcmpError {
            kind: icmp.kind,
            code: icmp.code,
            mtu: icmp.mtu,
            src_port: connection.our_port,
            dst_port: connection.peer_port,
            seq: connection.our_seq(icmp.seq),
            tcp_len: 20 + icmp.len as usize,
        };
        self.note(&format!("< {error:?}"));
        self.inject(&error.frame(), false)
    }

    fn expect(&mut self, when: When, packet: &Packet) -> Result<(), String> {
        let tolerance = self.settings.tolerance;
        let begun = self.sent.front().map_or(self.now, |_| self.now);
        let (earliest, latest) = match when {
            When::After(wait) => {
                // A timer that is to run for minutes may be a little off.
                let slack = tolerance.max(wait / 50);
                (wait.saturating_sub(slack), wait + slack)
            }
            When::Within(from, to) => (from, to),
        };
        while self.sent.is_empty() {
            let Some(at) = self.stack.next_deadline().filter(|&at| at <= begun + latest) else { break };
            self.now = if at <= self.now { self.now + Duration::from_micros(10) } else { at };
            self.turn(vec![])?;
        }
        let Some((at, got)) = self.sent.pop_front() else {
            self.advance_to(begun + latest)?;
            return match self.sent.is_empty() {
                true => Err(format!("nothing was sent in {latest:?}")),
                false => self.expect(When::After(Duration::ZERO), packet),
            };
        };
        let connection = &self.peers[self.current].connection;
        let text = connection.describe(&got, true);
        if (got.dst_port, got.src_port) != (connection.peer_port, connection.our_port) {
            return Err(format!("sent was a packet of another connection: {got:?}"));
        }
        if let Some(wrong) = connection.difference(packet, &got) {
            return Err(format!("{wrong} differ; sent was\n  > {text}"));
        }
        let after = at.saturating_since(begun);
        if after < earliest || after > latest {
            return Err(format!("sent {after:?} after the line before, not {earliest:?} to {latest:?}\n  > {text}"));
        }
        Ok(())
    }

    fn nothing_unexpected(&self) -> Result<(), String> {
        match self.sent.front() {
            None => Ok(()),
            Some((at, segment)) => {
                let text = self.peers[self.current].connection.describe(segment, true);
                let at = at.saturating_since(Instant::ZERO + BEGIN);
                Err(format!("sent at {:.6} and not expected:\n  > {text}", at.as_secs_f64()))
            }
        }
    }

    fn finish(mut self) -> Result<(), String> {
        self.nothing_unexpected()?;
        self.complete()?;
        let counters = self.stack.counters;
        if !self.settings.copies && (counters.bytes_copied_tx, counters.bytes_copied_rx) != (0, 0) {
            return Err(format!(
                "{} bytes copied on the way out, {} on the way in",
                counters.bytes_copied_tx, counters.bytes_copied_rx
            ));
        }
        let pool = self.stack.pool().clone();
        if !pool.ledger().balances() {
            return Err(format!("the ledger does not balance: {}", pool.ledger()));
        }
        drop(self);
        match pool.ledger().is_whole() {
            true => Ok(()),
            false => Err(format!("frames are missing: {}", pool.ledger())),
        }
    }
}
