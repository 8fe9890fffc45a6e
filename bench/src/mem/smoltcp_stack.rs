//! smoltcp, set up as its documentation advises for throughput: preallocated buffers with room for a batch, one poll for all of it,
//! datagrams read and written in the socket's own buffers, checksums in both directions as on a link without offload.

use super::{
    BATCH, Subject, Turn, Work,
    smoltcp_device::{FRAME_BYTES, FRAMES, Memory},
};
use crate::packet::Flow;
use anyhow::{Result, anyhow};
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    socket::udp,
    time::{Duration, Instant},
    wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint, IpListenEndpoint},
};

pub(super) struct Smoltcp {
    device: Memory,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    work: Work,
    peer: IpEndpoint,
    payload_bytes: usize,
    handled: u64,
    now: Instant,
}

impl Smoltcp {
    pub(super) fn new(flow: Flow, work: Work, payload_bytes: usize) -> Result<Self> {
        let mut device = Memory::default();
        let now = Instant::ZERO;
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(flow.target_mac.0)));
        let mut interface = Interface::new(config, &mut device, now);
        let address = IpAddress::from(*flow.target.ip());
        let mut added = Ok(());
        interface.update_ip_addrs(|addresses| added = addresses.push(IpCidr::new(address, 24)));
        added.map_err(|_| anyhow!("no room for an address"))?;
        let buffer = || {
            let metadata = vec![udp::PacketMetadata::EMPTY; FRAMES];
            udp::PacketBuffer::new(metadata, vec![0; FRAMES * FRAME_BYTES])
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        let endpoint = IpListenEndpoint { addr: None, port: flow.target.port() };
        socket.bind(endpoint).map_err(|error| anyhow!("bind: {error}"))?;
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        let peer = IpEndpoint::new(IpAddress::from(*flow.source.ip()), flow.source.port());
        Ok(Self { device, interface, sockets, socket, work, peer, payload_bytes, handled: 0, now })
    }

    fn apply(&mut self) {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.socket);
        match self.work {
            Work::Receive => {
                while let Ok((payload, _)) = socket.recv() {
                    std::hint::black_box(payload.first());
                    self.handled += 1;
                }
            }
            Work::Send => {
                for _ in 0..BATCH {
                    let Ok(payload) = socket.send(self.payload_bytes, self.peer) else { break };
                    payload[..8].copy_from_slice(&self.handled.to_ne_bytes());
                    self.handled += 1;
                }
            }
            Work::Echo => echo(socket, &mut self.handled),
        }
    }
}

/// One socket cannot lend a received datagram and take one to send at a time, so the payload goes through a buffer of the application's,
/// as in smoltcp's own examples.
fn echo(socket: &mut udp::Socket<'_>, handled: &mut u64) {
    let mut buffer = [0; FRAME_BYTES];
    while let Ok((bytes, from)) = socket.recv_slice(&mut buffer) {
        if socket.send_slice(&buffer[..bytes], from.endpoint).is_err() {
            break;
        }
        *handled += 1;
    }
}

impl Turn for Smoltcp {
    fn work(&mut self) {
        self.now += Duration::from_micros(10);
        // Takes in the whole batch; nothing waits to be sent yet.
        if self.work != Work::Send {
            self.interface.poll(self.now, &mut self.device, &mut self.sockets);
        }
        self.apply();
        if self.work != Work::Receive {
            self.interface.poll(self.now, &mut self.device, &mut self.sockets);
        }
        self.device.received.clear();
    }
}

impl Subject for Smoltcp {
    fn inject(&mut self, frame: &[u8]) -> bool {
        self.device.received.push(frame)
    }

    fn drain(&mut self, look: &mut dyn FnMut(&[u8])) -> usize {
        let sent = &mut self.device.sent;
        let count = sent.iter().inspect(|frame| look(frame)).count();
        sent.clear();
        count
    }

    fn handled(&self) -> u64 {
        self.handled
    }
}
