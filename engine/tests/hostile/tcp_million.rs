//! A million segments against connections in every state: noise behind right headers, numbers near and far, cut and changed, most with a right checksum so
//! that they get deep. Two streams are attacked blindly only, and must carry their bytes all the while.

use crate::{frames::*, rig::Rig, tcp_peer::*};
use framewire::{
    socket::{TcpOptions, TcpState, TcpStream},
    time::Duration,
    wire::{ipv4, tcp::flags},
};
use std::net::SocketAddrV4;

const SEGMENTS: usize = 1_000_000;
const BATCH: usize = 64;
const TARGETS: usize = 24;
/// So that what applications send leaves frames for the rest.
const SEND_QUEUE_BYTES: u32 = 16 << 10;

/// A connection under fire: what its true peer knows, and our end.
struct Target {
    peer: Peer,
    stream: TcpStream,
}

struct Fight {
    rig: Rig,
    random: Random,
    targets: Vec<Target>,
    port: u16,
    /// States in which a target has been.
    seen: [bool; 11],
}

impl Fight {
    fn new(seed: u64) -> Self {
        let mut rig = Rig::with(|config, iface| {
            iface.mtu = 1500;
            config.tcp.time_wait_max = 200;
            config.tcp.challenge_acks_per_s = 100;
            config.tcp.options.send_queue_bytes = SEND_QUEUE_BYTES;
        });
        rig.listen(16);
        Self { rig, random: Random(seed), targets: vec![], port: 10_000, seen: [false; 11] }
    }

    fn next_port(&mut self) -> u16 {
        self.port = if self.port == 60_000 { 10_000 } else { self.port + 1 };
        self.port
    }

    /// A new connection, opened by either side; perhaps only as far as our SYN.
    fn open(&mut self) {
        self.rig.know(PEER);
        let mut peer = Peer::port(self.next_port());
        peer.nxt = self.random.next() as u32;
        if self.random.below(2) == 0 {
            peer = peer.with_timestamps();
        }
        if self.random.below(3) == 0 {
            let stream = self.rig.net().tcp_connect(peer.at).unwrap();
            // Others may have their turn first.
            let Some(syn) = peer_syn(&mut self.rig, &mut peer) else {
                stream.abort(&mut self.rig.net());
                return;
            };
            if self.random.below(3) > 0 {
                let answer = peer.syn().with(|segment| (segment.flags, segment.ack) = (SYN | ACK, syn));
                self.rig.receive(&answer.frame());
                peer.nxt = peer.nxt.wrapping_add(1);
                peer.rcv = syn;
            }
            self.targets.push(Target { peer, stream });
            return;
        }
        let syn = peer.syn();
        self.rig.receive(&syn.frame());
        // The backlog may be full of others: then next time.
        let Some(heard) = peer.hear(&mut self.rig).pop().filter(|heard| heard.has(SYN | ACK)) else { return };
        if heard.header.ack.0 != peer.nxt.wrapping_add(1) {
            return;
        }
        let third = peer.answer(&heard);
        self.rig.receive(&third.frame());
        while let Some(stream) = self.rig.accept() {
            if stream.peer_addr(&self.rig.net()) == Some(peer.at) {
                self.targets.push(Target { peer: peer.clone(), stream });
            } else {
                stream.abort(&mut self.rig.net());
            }
        }
    }

    /// What applications do meanwhile.
    fn live(&mut self) {
        for at in 0..self.targets.len() {
            let stream = self.targets[at].stream;
            let state = stream.state(&self.rig.net());
            self.seen[state as usize] = true;
            match self.random.below(40) {
                0..10 => drop(self.rig.read(stream)),
                10..20 => {
                    let text = vec![7; 1 + self.random.below(3000)];
                    let _ = stream.send_slice(&mut self.rig.net(), &text);
                }
                20..23 => {
                    // The same frame goes back.
                    if let Ok(buf) = stream.recv(&mut self.rig.net()) {
                        let _ = stream.send(&mut self.rig.net(), buf.into_tx());
                    }
                }
                23 => {
                    let _ = stream.recv_urgent(&mut self.rig.net());
                    if let Ok(buf) = stream.recv(&mut self.rig.net()) {
                        stream.unrecv(&mut self.rig.net(), buf);
                    }
                }
                24 => {
                    if let Some(mut buf) = self.rig.net().alloc_contiguous(4000) {
                        buf.put_slice(&[9; 4000]).unwrap();
                        let _ = stream.send_urgent(&mut self.rig.net(), buf);
                    }
                }
                25 => stream.shutdown(&mut self.rig.net()),
                26 => {
                    let options = TcpOptions {
                        nodelay: self.random.below(2) == 0,
                        urgent_inline: self.random.below(2) == 0,
                        pacing: self.random.below(2) == 0,
                        send_queue_bytes: SEND_QUEUE_BYTES,
                        ..TcpOptions::default()
                    };
                    stream.set_options(&mut self.rig.net(), options);
                }
                _ => {}
            }
        }
        let target = self.random.below(self.targets.len().max(1));
        if target < self.targets.len() && self.random.below(4) == 0 {
            let Target { stream, .. } = self.targets.swap_remove(target);
            // What is closed keeps its frames until the peer has them or the time-out comes.
            if self.random.below(4) == 0 {
                stream.close(&mut self.rig.net());
            } else {
                stream.abort(&mut self.rig.net());
            }
        }
        self.targets.retain(|target| match target.stream.state(&self.rig.net()) {
            TcpState::Closed | TcpState::TimeWait => {
                target.stream.close(&mut self.rig.net());
                false
            }
            _ => true,
        });
        for _ in 0..4 {
            if self.targets.len() < TARGETS {
                self.open();
            }
        }
    }

    /// A number near one that matters.
    fn near(&mut self, number: u32) -> u32 {
        let far = self.random.next() as u32;
        match self.random.below(16) {
            0 => far,
            1 => number.wrapping_add(1 << 31),
            2 => number.wrapping_sub(far % 100_000),
            3 => number.wrapping_add(far % 100_000),
            4 => number.wrapping_sub(1),
            5 => number.wrapping_add(1),
            6 | 7 => number.wrapping_add(far % 3000),
            _ => number,
        }
    }

    fn options(&mut self, peer: &Peer) -> Vec<u8> {
        let mut options = match peer.clock {
            Some((value, echo)) if self.random.below(8) > 0 => {
                let (value, echo) = (self.near(value), if self.random.below(4) == 0 { self.near(echo) } else { echo });
                timestamps(if self.random.below(4) > 0 { peer.clock.unwrap().0 } else { value }, echo)
            }
            _ => vec![],
        };
        if self.random.below(3) == 0 {
            let blocks: Vec<_> =
                (0..1 + self.random.below(3)).map(|_| (self.near(peer.rcv), self.near(peer.rcv))).collect();
            options.extend(sack(&blocks));
        }
        if self.random.below(16) == 0 {
            options.extend((0..self.random.below(40)).map(|_| self.random.next() as u8));
        }
        options.truncate(40);
        options
    }

    /// A segment that a connection, half-open or listener may have to take seriously.
    fn segment(&mut self) -> Segment {
        let port = self.next_port();
        let peer = match self.random.below(16) {
            0 => Peer::port(port),
            _ if self.targets.is_empty() => Peer::port(port),
            _ => {
                let at = self.random.below(self.targets.len());
                self.targets[at].peer.clone()
            }
        };
        let flags = match self.random.below(32) {
            0 => self.random.next() as u8,
            1 => SYN,
            2 => SYN | ACK,
            3 => RST,
            4 | 5 => FIN | ACK,
            6 => ACK | URG,
            7 => ACK | flags::ECE | flags::CWR,
            8 => ACK | flags::PSH,
            _ => ACK,
        };
        let len = match self.random.below(8) {
            0..3 => 0,
            3 => 1,
            4 => 1460,
            _ => self.random.below(1500),
        };
        let mut segment = peer.segment(flags, &vec![self.random.next() as u8; len]);
        segment.seq = if flags & RST != 0 { self.near(segment.seq.wrapping_add(7)) } else { self.near(segment.seq) };
        segment.ack = self.near(segment.ack);
        segment.options = self.options(&peer);
        segment.window = [0, 1, 500, u16::MAX, WINDOW, self.random.next() as u16][self.random.below(6)];
        segment.urgent = self.random.next() as u16 >> self.random.below(16);
        segment
    }

    /// A frame with it, as it is or changed.
    fn frame(&mut self) -> Vec<u8> {
        let segment = self.segment();
        let (from, to) = (*segment.from.ip(), *segment.to.ip());
        let mut bytes = segment.bytes();
        let changed = self.random.below(3) == 0;
        if changed {
            for _ in 0..1 + self.random.below(4) {
                let at = self.random.below(bytes.len().min(60));
                bytes[at] = [0, 0xff, self.random.next() as u8][self.random.below(3)];
            }
            if self.random.below(4) == 0 {
                bytes.truncate(self.random.below(bytes.len() + 1));
            }
            if self.random.below(4) > 0 {
                fix_tcp_checksum(from, to, &mut bytes);
            }
        }
        ip(ipv4::Repr { src: from, dst: to, tos: self.random.below(4) as u8, ..repr(ipv4::protocol::TCP) }, &bytes)
    }

    /// True peers go on as if nothing happened: they take what comes and acknowledge it.
    fn answer(&mut self, heard: &[Heard]) {
        for heard in heard {
            let Some(target) = self.targets.iter_mut().find(|target| target.peer.at == heard.to) else { continue };
            let peer = &mut target.peer;
            if heard.has(SYN) {
                continue;
            }
            let end = heard.header.seq.0.wrapping_add(heard.payload.len() as u32 + u32::from(heard.has(FIN)));
            if end.wrapping_sub(peer.rcv) < 1 << 20 {
                peer.rcv = end;
            }
            if heard.has(ACK) && heard.header.ack.0.wrapping_sub(peer.nxt) < 1 << 20 {
                peer.nxt = heard.header.ack.0;
            }
            if let (Some((value, echo)), Some(told)) = (&mut peer.clock, heard.options.timestamps) {
                (*value, *echo) = (value.wrapping_add(1), told.value);
            }
        }
    }

    /// An ICMP error about something that we did send.
    fn icmp_error(&mut self, heard: &[Heard]) {
        if heard.is_empty() {
            return;
        }
        let quoted = &heard[self.random.below(heard.len())].packet;
        let mut quote = quoted[..quoted.len().min(28 + self.random.below(40))].to_vec();
        if self.random.below(4) == 0 {
            let at = self.random.below(quote.len());
            quote[at] ^= 1 << self.random.below(8);
        }
        let kind = [3, 3, 3, 11, 12][self.random.below(5)];
        let code = [4, self.random.below(16) as u8][self.random.below(2)];
        let mtu = [0_u32, 68, 552, 1000, 1400, 1500, 65_535][self.random.below(7)].to_be_bytes();
        self.rig.receive(&icmp(kind, code, [0, 0, mtu[2], mtu[3]], &quote));
    }
}

/// Hears our SYN; what the peer acknowledges with.
fn peer_syn(rig: &mut Rig, peer: &mut Peer) -> Option<u32> {
    let heard = peer.hear(rig);
    let syn = heard.iter().find(|heard| heard.has(SYN))?;
    let from = syn.packet[20..22].try_into().unwrap();
    peer.to = SocketAddrV4::new(US, u16::from_be_bytes(from));
    if let (Some((_, echo)), Some(told)) = (&mut peer.clock, syn.options.timestamps) {
        *echo = told.value;
    }
    Some(syn.header.seq.0.wrapping_add(1))
}

/// A segment for a stream from somebody who knows its ports and nothing else.
fn blind(random: &mut Random, peer: &Peer) -> Segment {
    let flags = [ACK, ACK, RST, SYN, FIN | ACK, ACK | URG, random.next() as u8][random.below(7)];
    let mut segment = peer.segment(flags, &vec![0xbb; random.below(1460)]);
    // Neither within the window, at most 4 MiB, nor so old that it reaches into it.
    segment.seq = peer.nxt.wrapping_add((8 << 20) + random.below((1 << 32) - (16 << 20)) as u32);
    segment.ack = random.next() as u32;
    segment.window = random.next() as u16;
    if random.below(2) == 0 {
        segment.options = timestamps(random.next() as u32, random.next() as u32);
    }
    segment
}

fn fight(seed: u64, segments_total: usize) -> Fight {
    let mut fight = Fight::new(seed);
    let mut victims: Vec<(Peer, TcpStream)> = [None, Some((1, 0))]
        .into_iter()
        .zip(5000..)
        .map(|(clock, port)| {
            let mut peer = Peer { clock, ..Peer::port(port) };
            let stream = peer.connect(&mut fight.rig);
            (peer, stream)
        })
        .collect();
    // Frames that the network card has not given back yet.
    let mut held = vec![];
    for at in 0..segments_total {
        if fight.random.below(16) == 0 {
            let victim = fight.random.below(victims.len());
            let segment = blind(&mut fight.random, &victims[victim].0);
            fight.rig.receive(&segment.frame());
        } else {
            let frame = fight.frame();
            if fight.random.below(32) == 0 {
                let (head, tail) = frame.split_at(fight.random.below(frame.len()));
                fight.rig.receive_pieces(&[head, tail]);
            } else {
                fight.rig.receive(&frame);
            }
        }
        if at % BATCH == 0 {
            fight.live();
            fight.rig.serve();
            let frames = if fight.random.below(3) == 0 { fight.rig.post(&mut held) } else { fight.rig.sent() };
            if fight.random.below(4) == 0 {
                held.clear();
            }
            let heard = segments(&frames);
            fight.answer(&heard);
            fight.icmp_error(&heard);
            let long = fight.random.below(100) == 0;
            fight.rig.advance(Duration::from_millis(if long { 70_000 } else { fight.random.below(20) as u64 }));
        }
        if at % 5000 == 0 {
            held.clear();
            fight.rig.accounted();
            for (peer, stream) in &mut victims {
                // Their rates are spent on forgeries; and a peer is told what it missed.
                fight.rig.sent();
                fight.rig.advance(Duration::from_secs(2));
                peer.talks(&mut fight.rig, *stream);
            }
            let usage = fight.rig.stack.usage();
            assert!(
                usage.tcp_half_open <= 16 && usage.tcp_time_wait <= 200 && usage.tcp_rx_frames <= 1024,
                "{usage:?}"
            );
            assert!(usage.timers < 60_000 && usage.tcp_connections < 20_000, "{usage:?}");
        }
    }
    for (peer, stream) in &mut victims {
        peer.talks(&mut fight.rig, *stream);
        stream.close(&mut fight.rig.net());
    }
    fight
}

/// RFC 9293 MUST-2, MUST-3: every segment of ours has a right checksum, and none with a wrong one gets in.
#[test]
fn a_million_segments() {
    // Several fights, so that one that goes quiet does not spend them all.
    for seed in 0..4 {
        let mut fight = fight(seed, SEGMENTS / 4);
        let counters = fight.rig.stack.counters;
        let silent: Vec<_> = framewire::telemetry::Counters::NAMES
            .iter()
            .zip(counters.values())
            .filter(|((name, _), count)| name.starts_with("drop_tcp") && *count == 0)
            .map(|((name, _), _)| *name)
            .collect();
        // These take a flood of one kind, or an application that has gone: the other tests have them.
        let rare = ["drop_tcp_no_room", "drop_tcp_after_close", "drop_tcp_backlog", "drop_tcp_group"];
        let silent: Vec<_> = silent.into_iter().filter(|name| !rare.contains(name)).collect();
        assert!(silent.is_empty(), "what no segment was refused for: {silent:?}");
        let state = |state: TcpState| fight.seen[state as usize];
        for needed in
            [TcpState::SynSent, TcpState::Established, TcpState::FinWait1, TcpState::FinWait2, TcpState::CloseWait]
        {
            assert!(state(needed), "{needed:?} was never reached");
        }
        assert!(counters.tcp_connections_accepted > 100 && counters.tcp_connections_opened > 30, "{counters:?}");
        assert!(counters.tcp_resets_received > 10 && counters.tcp_retransmissions > 100, "{counters:?}");
        for target in std::mem::take(&mut fight.targets) {
            target.stream.abort(&mut fight.rig.net());
        }
        while let Some(stream) = fight.rig.accept() {
            stream.abort(&mut fight.rig.net());
        }
        // Half an hour later nothing of it is left.
        for _ in 0..1800 {
            fight.rig.know(PEER);
            fight.rig.sent();
            fight.rig.advance(Duration::from_secs(1));
        }
        let usage = fight.rig.stack.usage();
        assert_eq!(
            (usage.tcp_connections, usage.tcp_half_open, usage.tcp_time_wait, usage.tcp_rx_frames),
            (0, 0, 0, 0),
            "{usage:?}"
        );
        fight.rig.finish();
    }
}
