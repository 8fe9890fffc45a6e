//! smoltcp with one TCP socket, as its documentation advises for throughput: data read and written in the socket's own buffers, one poll for all that came.

use super::{Checksum, Scripted};
use crate::{
    mem::{Subject, Turn, smoltcp_device::Memory},
    packet::Flow,
};
use anyhow::{Result, anyhow};
use framewire::port::MacAddr;
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy,
    socket::tcp,
    time::{Duration, Instant},
    wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr},
};
use std::net::{Ipv4Addr, SocketAddrV4};

/// A batch and a half of full segments: more makes it slower, because less of it stays in the cache.
const BUFFER_BYTES: usize = 128 << 10;

pub(super) struct Host {
    pub(super) device: Memory,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    now: Instant,
}

impl Host {
    pub(super) fn new(mac: MacAddr, address: Ipv4Addr, checksum: Checksum) -> Result<Self> {
        let mut device = Memory::default();
        if checksum == Checksum::Trust {
            device.checksum.tcp = phy::Checksum::Tx;
        }
        let now = Instant::ZERO;
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.0)));
        let mut interface = Interface::new(config, &mut device, now);
        let mut added = Ok(());
        interface.update_ip_addrs(|addresses| added = addresses.push(IpCidr::new(IpAddress::from(address), 24)));
        added.map_err(|_| anyhow!("no room for an address"))?;
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Ok(Self { device, interface, sockets, socket, now })
    }

    pub(super) fn listen(&mut self, port: u16) -> Result<()> {
        self.socket().listen(port).map_err(|error| anyhow!("listen: {error}"))
    }

    pub(super) fn connect(&mut self, remote: SocketAddrV4) -> Result<()> {
        let Self { interface, sockets, socket, .. } = self;
        let remote = (IpAddress::from(*remote.ip()), remote.port());
        let socket = sockets.get_mut::<tcp::Socket<'_>>(*socket);
        socket.connect(interface.context(), remote, 50_000).map_err(|error| anyhow!("connect: {error}"))
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    /// The clock goes on.
    pub(super) fn tick(&mut self) {
        self.now += Duration::from_micros(10);
    }

    pub(super) fn poll(&mut self) {
        self.interface.poll(self.now, &mut self.device, &mut self.sockets);
    }

    /// Takes all that is there; how many bytes.
    pub(super) fn take(&mut self) -> u64 {
        let socket = self.socket();
        let mut taken = 0;
        // Twice where it wraps.
        while socket.can_recv() {
            let received = socket.recv(|bytes| {
                std::hint::black_box(bytes.first());
                (bytes.len(), bytes.len())
            });
            let Ok(bytes) = received else { break };
            taken += bytes as u64;
        }
        taken
    }

    /// Sends so many bytes, or as many as there is room for; how many.
    pub(super) fn give(&mut self, bytes: usize) -> usize {
        let socket = self.socket();
        let mut given = 0;
        while given < bytes && socket.can_send() {
            let sent = socket.send(|room| {
                let len = room.len().min(bytes - given);
                std::hint::black_box(&mut room[..len]);
                (len, len)
            });
            match sent {
                Ok(len) if len > 0 => given += len,
                _ => break,
            }
        }
        given
    }
}

/// One host against the scripted peer.
pub(super) struct SmoltcpServer {
    host: Host,
    allowed: usize,
    handled: u64,
}

impl SmoltcpServer {
    pub(super) fn new(flow: Flow, checksum: Checksum) -> Result<Self> {
        let mut host = Host::new(flow.target_mac, *flow.target.ip(), checksum)?;
        host.listen(flow.target.port())?;
        Ok(Self { host, allowed: 0, handled: 0 })
    }
}

impl Turn for SmoltcpServer {
    fn work(&mut self) {
        self.host.tick();
        self.host.poll();
        self.handled += self.host.take();
        if self.allowed > 0 {
            let given = self.host.give(self.allowed);
            self.allowed -= given;
            self.handled += given as u64;
            self.host.poll();
        }
        self.host.device.received.clear();
    }
}

impl Subject for SmoltcpServer {
    fn inject(&mut self, frame: &[u8]) -> bool {
        self.host.device.received.push(frame)
    }

    fn drain(&mut self, look: &mut dyn FnMut(&[u8])) -> usize {
        let sent = &mut self.host.device.sent;
        let count = sent.iter().inspect(|frame| look(frame)).count();
        sent.clear();
        count
    }

    fn handled(&self) -> u64 {
        self.handled
    }
}

impl Scripted for SmoltcpServer {
    fn allow(&mut self, bytes: usize) {
        self.allowed = bytes;
    }
}
