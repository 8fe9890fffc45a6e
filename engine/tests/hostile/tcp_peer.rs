//! A TCP peer made by hand: it says exactly what a test wants, and looks at every checksum that it hears.

use crate::{frames::*, rig::Rig};
use framewire::{
    socket::{Net, TcpListener, TcpStream},
    wire::{
        checksum, ethernet, ipv4,
        tcp::{Header, Options, flags},
    },
};
use std::net::{Ipv4Addr, SocketAddrV4};

pub(crate) const TCP_PORT: u16 = 80;
/// What the peers offer, unscaled.
pub(crate) const WINDOW: u16 = 60_000;

pub(crate) const ACK: u8 = flags::ACK;
pub(crate) const SYN: u8 = flags::SYN;
pub(crate) const FIN: u8 = flags::FIN;
pub(crate) const RST: u8 = flags::RST;
pub(crate) const URG: u8 = flags::URG;

/// A segment for us.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    /// Padded with zeros when written.
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Segment {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let offset = (5 + options.len() / 4) as u8;
        let mut bytes = Vec::with_capacity(60 + self.payload.len());
        bytes.extend(self.from.port().to_be_bytes());
        bytes.extend(self.to.port().to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([offset << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(options);
        bytes.extend(&self.payload);
        fix_tcp_checksum(*self.from.ip(), *self.to.ip(), &mut bytes);
        bytes
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        ip(ipv4::Repr { src: *self.from.ip(), dst: *self.to.ip(), ..repr(ipv4::protocol::TCP) }, &self.bytes())
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// A segment of ours, its checksum looked at.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) to: SocketAddrV4,
    pub(crate) header: Header,
    pub(crate) options: Options,
    pub(crate) payload: Vec<u8>,
    /// The IP packet, for ICMP errors that quote it.
    pub(crate) packet: Vec<u8>,
}

impl Heard {
    pub(crate) fn has(&self, flags: u8) -> bool {
        self.header.flags & flags == flags
    }
}

/// The TCP segments among these frames.
pub(crate) fn segments(frames: &[Vec<u8>]) -> Vec<Heard> {
    let parse = |frame: &Vec<u8>| {
        let packet = &frame[ethernet::Header::parse(frame)?.len..];
        let ip = ipv4::Header::parse(packet, packet.len()).ok()?;
        let segment = &packet[ip.header_len..ip.total_len];
        (ip.protocol == ipv4::protocol::TCP).then(|| {
            let pseudo = checksum::pseudo_header(ip.src, ip.dst, ipv4::protocol::TCP, segment.len() as u16);
            assert_eq!(checksum::add(pseudo, checksum::sum(segment)), 0xffff, "the checksum in {packet:02x?}");
            let header = Header::parse(segment).unwrap();
            Heard {
                to: SocketAddrV4::new(ip.dst, header.dst_port),
                header,
                options: Options::parse(&segment[20..header.header_len]).unwrap(),
                payload: segment[header.header_len..].to_vec(),
                packet: packet.to_vec(),
            }
        })
    };
    frames.iter().filter_map(parse).collect()
}

pub(crate) fn mss(bytes: u16) -> Vec<u8> {
    let [high, low] = bytes.to_be_bytes();
    vec![2, 4, high, low]
}

pub(crate) fn timestamps(value: u32, echo: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat()
}

pub(crate) fn sack(blocks: &[(u32, u32)]) -> Vec<u8> {
    let mut option = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
    option.extend(blocks.iter().flat_map(|(start, end)| [start.to_be_bytes(), end.to_be_bytes()].concat()));
    option
}

/// An end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) at: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    /// What it sends next.
    pub(crate) nxt: u32,
    /// What it expects next.
    pub(crate) rcv: u32,
    /// Its clock and what it echoes, if it sends timestamps.
    pub(crate) clock: Option<(u32, u32)>,
    pub(crate) window: u16,
}

impl Peer {
    pub(crate) fn new(at: SocketAddrV4) -> Self {
        let nxt = 0x7fff_ff00_u32.wrapping_add(u32::from(at.port()).wrapping_mul(0x0101_0101));
        Self { at, to: SocketAddrV4::new(US, TCP_PORT), nxt, rcv: 0, clock: None, window: WINDOW }
    }

    pub(crate) fn port(port: u16) -> Self {
        Self::new(SocketAddrV4::new(PEER, port))
    }

    pub(crate) fn with_timestamps(mut self) -> Self {
        self.clock = Some((5_000_000, 0));
        self
    }

    /// A segment as it would honestly send it now.
    pub(crate) fn segment(&self, flags: u8, payload: &[u8]) -> Segment {
        Segment {
            from: self.at,
            to: self.to,
            seq: self.nxt,
            ack: self.rcv,
            flags,
            window: self.window,
            urgent: 0,
            options: self.clock.map_or(vec![], |(value, echo)| timestamps(value, echo)),
            payload: payload.to_vec(),
        }
    }

    /// Its SYN: MSS 1460, SACK, and timestamps if it has a clock.
    pub(crate) fn syn(&self) -> Segment {
        let mut segment = self.segment(SYN, b"");
        segment.ack = 0;
        segment.options = [mss(1460), vec![4, 2, 1, 1], segment.options].concat();
        segment
    }

    /// Takes the SYN-ACK; the third segment of the handshake.
    pub(crate) fn answer(&mut self, heard: &Heard) -> Segment {
        assert!(heard.has(SYN | ACK) && heard.header.ack.0 == self.nxt.wrapping_add(1), "{heard:?}");
        self.nxt = heard.header.ack.0;
        self.rcv = heard.header.seq.0.wrapping_add(1);
        self.take_timestamp(heard);
        self.segment(ACK, b"")
    }

    fn take_timestamp(&mut self, heard: &Heard) {
        if let (Some((value, echo)), Some(told)) = (&mut self.clock, heard.options.timestamps) {
            *value = value.wrapping_add(1);
            *echo = told.value;
        }
    }

    /// What we have sent to it.
    pub(crate) fn hear(&self, rig: &mut Rig) -> Vec<Heard> {
        segments(&rig.sent()).into_iter().filter(|heard| heard.to == self.at).collect()
    }

    /// Shakes hands, with the SYN that it is given.
    pub(crate) fn connect_with(&mut self, rig: &mut Rig, syn: &Segment) -> TcpStream {
        rig.sent();
        rig.know(PEER);
        rig.receive(&syn.frame());
        let heard = self.hear(rig);
        let third = self.answer(heard.last().expect("a SYN-ACK"));
        rig.receive(&third.frame());
        rig.accept().expect("accepted")
    }

    pub(crate) fn connect(&mut self, rig: &mut Rig) -> TcpStream {
        let syn = self.syn();
        self.connect_with(rig, &syn)
    }

    /// Sends bytes in order.
    pub(crate) fn send(&mut self, rig: &mut Rig, bytes: &[u8]) {
        let segment = self.segment(ACK, bytes);
        rig.receive(&segment.frame());
        self.nxt = self.nxt.wrapping_add(bytes.len() as u32);
    }

    /// Takes what we send it as far as it is in order, and acknowledges it; returns the bytes.
    pub(crate) fn take(&mut self, rig: &mut Rig) -> Vec<u8> {
        let mut got = vec![];
        for heard in self.hear(rig) {
            self.take_timestamp(&heard);
            let old = self.rcv.wrapping_sub(heard.header.seq.0) as usize;
            if let Some(news) = heard.payload.get(old..).filter(|news| !news.is_empty()) {
                got.extend_from_slice(news);
                self.rcv = self.rcv.wrapping_add(news.len() as u32);
            }
        }
        if !got.is_empty() {
            rig.receive(&self.segment(ACK, b"").frame());
        }
        got
    }

    /// The connection still carries bytes both ways, and nothing but these.
    pub(crate) fn talks(&mut self, rig: &mut Rig, stream: TcpStream) {
        self.take(rig);
        rig.know(*self.at.ip());
        let question = format!("{} asks {}", self.at, self.nxt).into_bytes();
        self.send(rig, &question);
        assert_eq!(rig.read(stream), question, "what we received");
        rig.write(stream, &question);
        let mut got = self.take(rig);
        if got.is_empty() {
            rig.advance(framewire::time::Duration::from_secs(3));
            got = self.take(rig);
        }
        assert_eq!(got, question, "what the peer received");
    }
}

/// What an application does.
impl Rig {
    pub(crate) fn net(&mut self) -> Net<'_> {
        Net::new(&mut self.stack)
    }

    pub(crate) fn listen(&mut self, backlog: usize) -> TcpListener {
        let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, TCP_PORT);
        let listener = self.net().tcp_listen(at, backlog).unwrap();
        self.listener = Some(listener);
        listener
    }

    pub(crate) fn accept(&mut self) -> Option<TcpStream> {
        self.listener?.accept(&mut self.net())
    }

    /// A usual stack with a listener.
    pub(crate) fn listening(backlog: usize) -> Self {
        let mut rig = Self::new();
        rig.listen(backlog);
        rig
    }

    pub(crate) fn read(&mut self, stream: TcpStream) -> Vec<u8> {
        let mut got = vec![];
        while let Ok(buf) = stream.recv(&mut self.net()) {
            got.extend(buf.pieces().flatten());
        }
        got
    }

    pub(crate) fn write(&mut self, stream: TcpStream, bytes: &[u8]) {
        let mut buf = self.net().alloc_contiguous(bytes.len()).expect("frames");
        buf.put_slice(bytes).unwrap();
        stream.send(&mut self.net(), buf).expect("room");
    }
    /// Writes all of it, in buffers that mostly fit a segment.
    pub(crate) fn write_all(&mut self, stream: TcpStream, bytes: &[u8]) {
        for part in bytes.chunks(1500) {
            self.write(stream, part);
        }
    }

    /// The window that the peer knows of.
    pub(crate) fn window(&mut self, stream: TcpStream) -> u32 {
        stream.info(&self.net()).unwrap().recv_window_bytes
    }
}
