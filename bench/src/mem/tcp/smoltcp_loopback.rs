//! smoltcp as in its own loopback benchmark: both sockets on one interface, and its `Loopback` device, which allocates each frame. Only the MTU
//! is Ethernet's, and checksums count, which that benchmark leaves out.

use super::{Checksum, Ends};
use crate::mem::{FLOW, Turn};
use anyhow::{Result, anyhow};
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{self, ChecksumCapabilities, Device, DeviceCapabilities, Loopback, Medium},
    socket::tcp,
    time::{Duration, Instant},
    wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr},
};

const BUFFER_BYTES: usize = 64 << 10;
const SEGMENT_BYTES: usize = 1460;

pub(super) struct SmoltcpLoopback {
    device: Link,
    interface: Interface,
    sockets: SocketSet<'static>,
    client: SocketHandle,
    server: SocketHandle,
    now: Instant,
    received_bytes: u64,
}

impl SmoltcpLoopback {
    pub(super) fn new(checksum: Checksum) -> Result<Self> {
        let mut device = Link { loopback: Loopback::new(Medium::Ethernet), checksum };
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(FLOW.target_mac.0)));
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        let address = IpAddress::from(*FLOW.target.ip());
        let mut added = Ok(());
        interface.update_ip_addrs(|addresses| added = addresses.push(IpCidr::new(address, 24)));
        added.map_err(|_| anyhow!("no room for an address"))?;
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let (mut client, mut server) = (tcp::Socket::new(buffer(), buffer()), tcp::Socket::new(buffer(), buffer()));
        server.listen(FLOW.target.port()).map_err(|error| anyhow!("listen: {error}"))?;
        let remote = (address, FLOW.target.port());
        client.connect(interface.context(), remote, 50_000).map_err(|error| anyhow!("connect: {error}"))?;
        let mut sockets = SocketSet::new(Vec::new());
        let (client, server) = (sockets.add(client), sockets.add(server));
        Ok(Self { device, interface, sockets, client, server, now: Instant::ZERO, received_bytes: 0 })
    }
}

impl Turn for SmoltcpLoopback {
    fn work(&mut self) {
        self.now += Duration::from_micros(10);
        self.interface.poll(self.now, &mut self.device, &mut self.sockets);
        let server = self.sockets.get_mut::<tcp::Socket<'_>>(self.server);
        while server.can_recv() {
            let received = server.recv(|bytes| {
                std::hint::black_box(bytes.first());
                (bytes.len(), bytes.len())
            });
            let Ok(bytes) = received else { break };
            self.received_bytes += bytes as u64;
        }
        let client = self.sockets.get_mut::<tcp::Socket<'_>>(self.client);
        while client.can_send() {
            let sent = client.send(|room| (std::hint::black_box(room).len(), ()));
            if sent.is_err() {
                break;
            }
        }
    }
}

impl Ends for SmoltcpLoopback {
    fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// What it sends cannot be seen; taken to be full.
    fn sent_segments(&mut self) -> (u64, usize) {
        (self.received_bytes / SEGMENT_BYTES as u64, SEGMENT_BYTES)
    }
}

struct Link {
    loopback: Loopback,
    checksum: Checksum,
}

impl Device for Link {
    type RxToken<'a> = <Loopback as Device>::RxToken<'a>;
    type TxToken<'a> = <Loopback as Device>::TxToken<'a>;

    fn receive(&mut self, now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.loopback.receive(now)
    }

    fn transmit(&mut self, now: Instant) -> Option<Self::TxToken<'_>> {
        self.loopback.transmit(now)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = self.loopback.capabilities();
        capabilities.max_transmission_unit = 1514;
        capabilities.checksum = ChecksumCapabilities::default();
        if self.checksum == Checksum::Trust {
            capabilities.checksum.tcp = phy::Checksum::Tx;
        }
        capabilities
    }
}
