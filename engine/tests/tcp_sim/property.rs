//! Whatever the two applications do and the link does to them, in whatever order: what arrives is what was sent, in order, as far as it arrives, and every
//! frame comes back.

use crate::{
    endpoint::{check, filled},
    link::{Faults, LinkConfig},
    network::{HostConfig, IFACE, Idle, Network},
};
use framewire::{
    buf::PoolConfig,
    proto::tcp::{LossDetection, TcpOptions, TcpState, congestion::Algorithm},
    socket::{TcpListener, TcpRecvError, TcpSendError, TcpStream},
    time::Duration,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Action {
    Send {
        side: usize,
        bytes: usize,
    },
    /// At most so many buffers.
    Recv {
        side: usize,
        buffers: usize,
    },
    /// Takes a buffer and puts its second half back.
    RecvHalf {
        side: usize,
    },
    Shutdown {
        side: usize,
    },
    Close {
        side: usize,
    },
    Abort {
        side: usize,
    },
    Wait {
        us: u64,
    },
    /// The host's link becomes narrower or wider: segments are cut anew and overlap those before.
    Mtu {
        side: usize,
        mtu: usize,
    },
    /// The links do this from now on.
    Weather(Weather),
}

#[derive(Clone, Copy, Debug)]
struct Weather {
    loss: f64,
    duplicate: f64,
    corrupt: f64,
    reorder: f64,
}

fn weather() -> impl Strategy<Value = Weather> {
    let part = || prop_oneof![Just(0.0), 0.0..0.3f64];
    (part(), part(), part(), part()).prop_map(|(loss, duplicate, corrupt, reorder)| Weather {
        loss,
        duplicate,
        corrupt,
        reorder,
    })
}

fn action() -> impl Strategy<Value = Action> {
    let side = 0..2usize;
    prop_oneof![
        8 => (side.clone(), prop_oneof![1..200usize, 1_400..3_000usize, 1..20_000usize]).prop_map(|(side, bytes)| Action::Send { side, bytes }),
        8 => (side.clone(), 1..20usize).prop_map(|(side, buffers)| Action::Recv { side, buffers }),
        2 => side.clone().prop_map(|side| Action::RecvHalf { side }),
        1 => side.clone().prop_map(|side| Action::Shutdown { side }),
        10 => prop_oneof![1..3_000u64, 1_000..500_000u64].prop_map(|us| Action::Wait { us }),
        1 => (side.clone(), 576..9_000usize).prop_map(|(side, mtu)| Action::Mtu { side, mtu }),
        2 => weather().prop_map(Action::Weather),
    ]
}

/// How it ends.
fn ending() -> impl Strategy<Value = Action> {
    let side = 0..2usize;
    prop_oneof![
        6 => Just(Action::Wait { us: 1 }),
        1 => side.clone().prop_map(|side| Action::Close { side }),
        1 => side.prop_map(|side| Action::Abort { side }),
    ]
}

/// What a run is made of.
#[derive(Clone, Debug)]
struct Setting {
    mtu: usize,
    chunk_bytes: usize,
    /// Completions come up to so much later, out of order.
    jitter_us: u64,
    options: TcpOptions,
    weather: Weather,
}

fn setting() -> impl Strategy<Value = Setting> {
    let host = (prop_oneof![Just(576usize), Just(1500), Just(9000)], prop_oneof![Just(2048usize), Just(4096)]);
    let jitter = prop_oneof![Just(0u64), 0..20_000u64];
    let options = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 20..300u32).prop_map(
        |(nodelay, new_reno, by_sack, at_once, recv_frames_max)| TcpOptions {
            nodelay,
            congestion: if new_reno { Algorithm::NewReno } else { Algorithm::Cubic },
            loss_detection: if by_sack { LossDetection::Sack } else { LossDetection::Rack },
            delayed_ack: Duration::from_millis(if at_once { 0 } else { 40 }),
            recv_frames_max,
            ..TcpOptions::default()
        },
    );
    (host, jitter, options, weather()).prop_map(|((mtu, chunk_bytes), jitter_us, options, weather)| Setting {
        mtu,
        chunk_bytes,
        jitter_us,
        options,
        weather,
    })
}

struct World {
    network: Network,
    listener: TcpListener,
    streams: [Option<TcpStream>; 2],
    sent: [u64; 2],
    received: [u64; 2],
    /// The application finished sending, or let go of the socket.
    shut: [bool; 2],
    gone: [bool; 2],
    /// The peer's end of stream was read.
    finished: [bool; 2],
    broken: [bool; 2],
}

const DELAY: Duration = Duration::from_millis(3);

impl World {
    fn new(seed: u64, setting: Setting) -> Self {
        let Setting { mtu, chunk_bytes, jitter_us, options, weather } = setting;
        let host = HostConfig {
            frames: 1024,
            chunk_bytes,
            mtu,
            pool: PoolConfig { rx_reserve_frames: 128, run_frames: 256 },
            nic_jitter: Duration::from_micros(jitter_us),
            ..HostConfig::default()
        };
        let link = LinkConfig::new(20_000_000, DELAY).with_queue(100_000);
        let mut network =
            Network::pair(seed, (host.clone(), Box::new(Idle)), (host, Box::new(Idle)), link.clone(), link);
        let mut net = network.hosts[1].net();
        let listener = net.tcp_listen("0.0.0.0:80".parse().unwrap(), 4).unwrap();
        listener.set_options(&mut net, options.clone());
        let (local, remote) = ("0.0.0.0:0".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        let stream = network.hosts[0].net().tcp_connect_with(local, remote, options).unwrap();
        let mut world = Self {
            network,
            listener,
            streams: [Some(stream), None],
            sent: [0; 2],
            received: [0; 2],
            shut: [false; 2],
            gone: [false; 2],
            finished: [false; 2],
            broken: [false; 2],
        };
        world.set_weather(weather);
        world.network.transmit(0);
        world
    }

    fn set_weather(&mut self, Weather { loss, duplicate, corrupt, reorder }: Weather) {
        for pipe in &mut self.network.pipes {
            pipe.config.faults =
                Faults { loss, duplicate, corrupt, reorder, reorder_by: DELAY * 2, ..Faults::default() };
        }
    }

    /// The stream of a side whose application still has it.
    fn stream(&mut self, side: usize) -> Option<TcpStream> {
        if side == 1 && self.streams[1].is_none() {
            self.streams[1] = self.listener.accept(&mut self.network.hosts[1].net());
        }
        self.streams[side].filter(|_| !self.gone[side])
    }

    fn send(&mut self, side: usize, bytes: usize) {
        let Some(stream) = self.stream(side).filter(|_| !self.shut[side]) else { return };
        let mut net = self.network.hosts[side].net();
        // No memory is no error: the next one tries again.
        let Some(buf) = filled(&net, side as u64 + 1, self.sent[side], bytes) else { return };
        match stream.send(&mut net, buf) {
            Ok(()) => self.sent[side] += bytes as u64,
            Err(TcpSendError::WouldBlock(_)) => {}
            Err(TcpSendError::NotConnected) => assert!(self.received[side] == 0, "not connected in the middle"),
            Err(TcpSendError::Reset | TcpSendError::TimedOut) => self.broken[side] = true,
            Err(error) => panic!("side {side}: send gave {error:?}"),
        }
        self.network.transmit(side);
    }

    fn recv(&mut self, side: usize, buffers: usize, halves: bool) {
        let Some(stream) = self.stream(side) else { return };
        for _ in 0..buffers {
            let mut net = self.network.hosts[side].net();
            match stream.recv(&mut net) {
                Ok(mut buf) => {
                    assert!(!self.finished[side], "data behind the end");
                    if halves && !buf.is_chain() && buf.len() > 1 {
                        let half = buf.len() / 2;
                        let whole = check(2 - side as u64, self.received[side], &buf);
                        assert_eq!(whole, buf.len() as u64);
                        buf.advance(half);
                        self.received[side] += half as u64;
                        stream.unrecv(&mut net, buf);
                    } else {
                        self.received[side] += check(2 - side as u64, self.received[side], &buf);
                    }
                }
                Err(TcpRecvError::WouldBlock | TcpRecvError::NotConnected) => break,
                Err(TcpRecvError::Finished) => {
                    self.finished[side] = true;
                    break;
                }
                Err(TcpRecvError::Reset | TcpRecvError::TimedOut) => {
                    self.broken[side] = true;
                    break;
                }
                Err(error) => panic!("side {side}: recv gave {error:?}"),
            }
        }
        assert!(self.received[side] <= self.sent[1 - side], "more than was sent");
        self.network.transmit(side);
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Send { side, bytes } => self.send(side, bytes),
            Action::Recv { side, buffers } => self.recv(side, buffers, false),
            Action::RecvHalf { side } => self.recv(side, 1, true),
            Action::Shutdown { side } => {
                if let Some(stream) = self.stream(side) {
                    self.shut[side] = true;
                    stream.shutdown(&mut self.network.hosts[side].net());
                    self.network.transmit(side);
                }
            }
            Action::Close { side } | Action::Abort { side } => {
                if let Some(stream) = self.stream(side) {
                    let mut net = self.network.hosts[side].net();
                    match action {
                        Action::Abort { .. } => stream.abort(&mut net),
                        _ => stream.close(&mut net),
                    }
                    (self.shut[side], self.gone[side]) = (true, true);
                    self.network.transmit(side);
                }
            }
            Action::Wait { us } => self.network.run_for(Duration::from_micros(us)),
            Action::Mtu { side, mtu } => {
                self.network.transmit(side);
                assert!(self.network.hosts[side].stack.set_mtu(IFACE, mtu));
                self.network.transmit(side);
            }
            Action::Weather(weather) => self.set_weather(weather),
        }
        self.network.assert_balanced();
    }

    /// Fair weather until everything that was sent has been read, or the connection is over.
    fn settle(&mut self) {
        self.set_weather(Weather { loss: 0.0, duplicate: 0.0, corrupt: 0.0, reorder: 0.0 });
        for turn in 0..4_000 {
            for side in 0..2 {
                self.recv(side, 100, false);
            }
            if turn == 100 {
                for side in 0..2 {
                    self.act(&Action::Shutdown { side });
                }
            }
            let done = |world: &Self, side: usize| world.gone[side] || world.finished[side] || world.broken[side];
            if turn > 100 && done(self, 0) && done(self, 1) {
                break;
            }
            self.network.run_for(Duration::from_millis(50));
        }
        if self.gone != [false; 2] || self.broken != [false; 2] {
            // Who let go or was reset need not have everything.
            return;
        }
        let states = self.states();
        for side in 0..2 {
            assert!(self.finished[side], "side {side} never saw the end; {states:?}");
            assert_eq!(self.received[side], self.sent[1 - side], "side {side}; {states:?}");
        }
    }

    fn states(&mut self) -> Vec<Option<TcpState>> {
        let of = |side: usize, world: &mut Self| world.streams[side].map(|s| s.state(&world.network.hosts[side].net()));
        vec![of(0, self), of(1, self)]
    }
}

/// `PROPTEST_CASES` for long runs.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn any_interleaving(
        seed: u64,
        setting in setting(),
        actions in prop::collection::vec(action(), 1..80),
        end in ending(),
    ) {
        let mut world = World::new(seed, setting);
        for action in &actions {
            world.act(action);
        }
        world.act(&end);
        world.settle();
        for counters in world.network.finish() {
            prop_assert_eq!(counters.bytes_copied_tx, 0);
        }
    }
}
