//! A client that asks until it is answered, and a server that answers.

use crate::world::{SERVER, SERVER_PORT};
use framewire::{
    socket::{App, AppError, Event, Net, SendError, UdpSocket},
    time::Duration,
};
use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddrV4},
    rc::Rc,
};

/// Number of the request and hash of what follows.
const HEADER_BYTES: usize = 16;
const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// FNV-1a.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn body(number: u64, len: usize) -> impl Iterator<Item = u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(len)
}

/// Sizes from 0 to `most`, the ends included.
fn size(number: u64, most: usize) -> usize {
    match number % 16 {
        0 => 0,
        1 => most,
        2 => most.min(1472 - HEADER_BYTES),
        3 => most.min(1473 - HEADER_BYTES),
        _ => (number.wrapping_mul(0xd134_2543_de82_ef95) >> 20) as usize % (most + 1),
    }
}

fn message(number: u64, most: usize) -> Vec<u8> {
    let len = size(number, most);
    let header = [number.to_le_bytes(), hash(body(number, len)).to_le_bytes()].concat();
    header.into_iter().chain(body(number, len)).collect()
}

/// The number of a message whose contents are right.
fn check(bytes: &[u8], most: usize) -> Option<u64> {
    let number = u64::from_le_bytes(*bytes.first_chunk()?);
    (bytes == message(number, most)).then_some(number)
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: u64,
    pub(crate) retries: u64,
    /// Answers with wrong contents: as if they had not come.
    pub(crate) wrong: u64,
    /// Answers to what was answered already: duplicates.
    pub(crate) late: u64,
    pub(crate) wait: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) requests: u64,
    /// Largest body, in bytes.
    pub(crate) body_bytes_max: usize,
    /// One socket for each; requests go round.
    pub(crate) sockets: usize,
    /// A request for each socket is on its way at any time, and the next follows after this long.
    pub(crate) pause: Duration,
    pub(crate) retry: Duration,
}

#[derive(Debug)]
struct Lane {
    socket: UdpSocket,
    number: u64,
    waiting: bool,
}

#[derive(Debug)]
pub(crate) struct Client {
    plan: Plan,
    lanes: Vec<Lane>,
    next: u64,
    tally: Rc<RefCell<Tally>>,
}

impl Client {
    pub(crate) fn new(plan: Plan) -> (Box<Self>, Rc<RefCell<Tally>>) {
        let tally = Rc::<RefCell<Tally>>::default();
        (Box::new(Self { plan, lanes: vec![], next: 0, tally: tally.clone() }), tally)
    }

    fn ask(&mut self, net: &mut Net<'_>, lane: usize) {
        let Lane { socket, number, .. } = self.lanes[lane];
        let bytes = message(number, self.plan.body_bytes_max);
        match socket.send_slice(net, &bytes, SocketAddrV4::new(SERVER, SERVER_PORT)) {
            Ok(()) => {}
            // The timer tries again.
            Err(SendError::WouldBlock(_) | SendError::NoBuffers | SendError::HostUnreachable) => {
                self.tally.borrow_mut().wait += 1;
            }
            Err(error) => panic!("request {number}: {error}"),
        }
        net.set_timer(self.plan.retry, token(lane, number, true));
    }

    fn start_next(&mut self, net: &mut Net<'_>, lane: usize) {
        if self.next < self.plan.requests {
            (self.lanes[lane].number, self.lanes[lane].waiting) = (self.next, true);
            self.next += 1;
            self.ask(net, lane);
        }
    }
}

fn token(lane: usize, number: u64, retry: bool) -> u64 {
    number << 24 | (lane as u64) << 1 | u64::from(retry)
}

impl App for Client {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        for lane in 0..self.plan.sockets {
            let socket = net.udp_bind(SocketAddrV4::new(ANY, 0))?;
            self.lanes.push(Lane { socket, number: 0, waiting: false });
            self.start_next(net, lane);
        }
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        match event {
            Event::Readable(socket) => {
                while let Some(datagram) = socket.recv(net) {
                    let bytes = datagram.buf.pieces().collect::<Vec<_>>().concat();
                    let lane = self.lanes.iter().position(|lane| lane.socket == socket).unwrap();
                    let mut tally = self.tally.borrow_mut();
                    match check(&bytes, self.plan.body_bytes_max) {
                        None => tally.wrong += 1,
                        Some(number) if self.lanes[lane].waiting && number == self.lanes[lane].number => {
                            self.lanes[lane].waiting = false;
                            tally.answered += 1;
                            net.set_timer(self.plan.pause, token(lane, number, false));
                        }
                        Some(_) => tally.late += 1,
                    }
                }
            }
            Event::Timer(token) => {
                let (lane, number, retry) = ((token >> 1 & 0x7f_ffff) as usize, token >> 24, token & 1 == 1);
                let current = self.lanes[lane].number == number;
                if retry && current && self.lanes[lane].waiting {
                    self.tally.borrow_mut().retries += 1;
                    self.ask(net, lane);
                } else if !retry && current {
                    self.start_next(net, lane);
                }
            }
            Event::Writable(_) | Event::Error(_) | Event::Acceptable(_) | Event::Tcp(..) | Event::Raw(..) => {}
        }
    }
}

/// Sends every datagram back in the frames that it came in.
#[derive(Debug)]
pub(crate) struct Server;

impl App for Server {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        net.udp_bind(SocketAddrV4::new(ANY, SERVER_PORT))?;
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        if let Event::Readable(socket) = event {
            while let Some(datagram) = socket.recv(net) {
                // What cannot be sent is lost, and asked for again.
                let _ = socket.reply(net, datagram);
            }
        }
    }
}
