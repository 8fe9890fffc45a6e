//! smoltcp on an interface of the kernel's, by its own AF_PACKET socket: a system call, a copy and an allocation a frame.

use crate::{
    affinity,
    generator::interface_mac,
    kernel_udp::enlarge_buffers,
    stop::{self, StopFlag},
    tcp::{BulkArgs, BulkResult, Direction},
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use framewire::wire::Ipv4Net;
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{Medium, RawSocket},
    socket::{tcp, udp},
    time::Instant as SmoltcpInstant,
    wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint},
};
use std::time::{Duration, Instant};

/// Of each direction of a TCP connection: more than a round trip on a veth needs.
const TCP_BUFFER_BYTES: usize = 512 << 10;
const UDP_BUFFER_BYTES: usize = 1 << 20;
const UDP_BUFFER_DATAGRAMS: usize = 512;
const PATIENCE: Duration = Duration::from_secs(10);
const LOCAL_PORT: u16 = 50_000;

/// Where it runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct HostArgs {
    /// Interface to send on and receive from; the kernel must have no address there
    #[arg(long, short)]
    interface: String,
    /// Its address with its network
    #[arg(long)]
    address: Ipv4Net,
}

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Service {
    /// Sends datagrams back
    UdpEcho,
    /// Takes what comes over one connection after the other
    TcpSink,
    /// Sends as much as goes over one connection after the other
    TcpSource,
    /// Sends back what comes over one connection after the other
    TcpEcho,
}

/// Options of `smoltcp-server`.
#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    host: HostArgs,
    /// Port
    #[arg(long)]
    port: u16,
    /// What to do
    #[arg(long, value_enum)]
    service: Service,
    /// Core to run on
    #[arg(long)]
    core: Option<usize>,
}

/// Options of `smoltcp-tcp-bulk`.
#[derive(Args, Debug)]
pub(crate) struct BulkClientArgs {
    #[command(flatten)]
    bulk: BulkArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run_server(args: &ServerArgs) -> Result<()> {
    affinity::pin(args.core)?;
    let stop = stop::flag()?;
    let mut host = Host::open(&args.host)?;
    let served = match args.service {
        Service::UdpEcho => {
            let socket = host.bind(args.port)?;
            host.ready(args);
            host.echo_datagrams(socket, &stop)
        }
        Service::TcpSink | Service::TcpSource | Service::TcpEcho => {
            let socket = host.add_tcp();
            host.ready(args);
            host.serve(socket, args.port, args.service, &stop)?
        }
    };
    println!("served: {served}");
    Ok(())
}

/// Measures and prints.
pub(crate) fn run_bulk(args: &BulkClientArgs) -> Result<()> {
    let options = &args.bulk;
    options.run.check()?;
    affinity::pin(options.run.core)?;
    let mut host = Host::open(&args.host)?;
    let socket = host.add_tcp();
    host.connect(socket, options)?;
    options.print(&host.bulk(socket, options)?)
}

struct Host {
    device: RawSocket,
    interface: Interface,
    sockets: SocketSet<'static>,
    /// What a source sends, and an echo keeps between receiving and sending.
    block: Vec<u8>,
}

impl Host {
    fn open(args: &HostArgs) -> Result<Self> {
        let name = &args.interface;
        let mut device =
            RawSocket::new(name, Medium::Ethernet).with_context(|| format!("an AF_PACKET socket on {name}"))?;
        enlarge_buffers(&device)?;
        let mac = EthernetAddress(interface_mac(name)?.0);
        let config = Config::new(HardwareAddress::Ethernet(mac));
        let mut interface = Interface::new(config, &mut device, SmoltcpInstant::now());
        let mut added = Ok(());
        let network = IpCidr::new(IpAddress::from(args.address.addr()), args.address.prefix_len());
        interface.update_ip_addrs(|addresses| added = addresses.push(network));
        added.map_err(|_| anyhow!("no room for an address"))?;
        Ok(Self { device, interface, sockets: SocketSet::new(Vec::new()), block: vec![0x5a; TCP_BUFFER_BYTES] })
    }

    fn ready(&self, args: &ServerArgs) {
        println!("ready: smoltcp over AF_PACKET on {}, port {}, spinning", args.host.interface, args.port);
    }

    fn poll(&mut self) {
        self.interface.poll(SmoltcpInstant::now(), &mut self.device, &mut self.sockets);
    }

    fn bind(&mut self, port: u16) -> Result<SocketHandle> {
        let buffer = || {
            udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; UDP_BUFFER_DATAGRAMS], vec![0; UDP_BUFFER_BYTES])
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).map_err(|error| anyhow!("bind to {port}: {error}"))?;
        Ok(self.sockets.add(socket))
    }

    fn echo_datagrams(&mut self, socket: SocketHandle, stop: &StopFlag) -> u64 {
        let mut echoed = 0;
        while !stop.is_set() {
            self.poll();
            let socket = self.sockets.get_mut::<udp::Socket<'_>>(socket);
            while socket.can_send() {
                let Ok((bytes, from)) = socket.recv_slice(&mut self.block) else { break };
                echoed += u64::from(socket.send_slice(&self.block[..bytes], from.endpoint).is_ok());
            }
        }
        echoed
    }

    fn add_tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; TCP_BUFFER_BYTES]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        self.sockets.add(socket)
    }

    fn tcp(&mut self, socket: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(socket)
    }

    /// One connection after the other; how many bytes.
    fn serve(&mut self, handle: SocketHandle, port: u16, service: Service, stop: &StopFlag) -> Result<u64> {
        let mut served = 0;
        while !stop.is_set() {
            self.poll();
            let Self { sockets, block, .. } = self;
            let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
            if !socket.is_open() {
                socket.listen(port).map_err(|error| anyhow!("listen on {port}: {error}"))?;
            }
            if !socket.may_recv() && socket.may_send() && socket.state() != tcp::State::SynReceived {
                socket.close();
            }
            served += match service {
                Service::TcpSink => take(socket),
                Service::TcpSource => give(socket, block),
                Service::TcpEcho | Service::UdpEcho => echo(socket, block),
            } as u64;
        }
        Ok(served)
    }

    fn connect(&mut self, handle: SocketHandle, args: &BulkArgs) -> Result<()> {
        let remote = IpEndpoint::new(IpAddress::from(*args.target.ip()), args.target.port());
        let Self { interface, sockets, .. } = self;
        let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(interface.context(), remote, LOCAL_PORT).map_err(|error| anyhow!("connect: {error}"))?;
        let deadline = Instant::now() + PATIENCE;
        while !self.tcp(handle).may_send() {
            ensure!(self.tcp(handle).is_open(), "{} refused the connection", args.target);
            ensure!(Instant::now() < deadline, "no answer from {} within {PATIENCE:?}", args.target);
            self.poll();
        }
        Ok(())
    }

    fn bulk(&mut self, handle: SocketHandle, args: &BulkArgs) -> Result<BulkResult> {
        let (begin, end) = args.run.span(Instant::now());
        let (mut bytes, mut longest_stall, mut last) = (0, Duration::ZERO, Instant::now());
        loop {
            self.poll();
            let Self { sockets, block, .. } = self;
            let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
            let moved = match args.direction {
                Direction::Send => give(socket, block),
                Direction::Receive => take(socket),
            };
            let open = socket.may_send() && socket.may_recv();
            let now = Instant::now();
            if moved > 0 {
                if now >= begin {
                    bytes += moved as u64;
                    longest_stall = longest_stall.max(now.saturating_duration_since(last.max(begin)));
                }
                last = now;
            } else {
                ensure!(open, "the other side closed the connection");
                ensure!(now.saturating_duration_since(last) < PATIENCE, "nothing moved for {PATIENCE:?}");
            }
            if now >= end {
                if bytes == 0 {
                    bail!("nothing moved");
                }
                return Ok(BulkResult::new(bytes, now - begin, longest_stall));
            }
        }
    }
}

/// All that has come; how many bytes.
fn take(socket: &mut tcp::Socket<'_>) -> usize {
    let mut taken = 0;
    // Twice where it wraps.
    while socket.can_recv() {
        let Ok(bytes) = socket.recv(|bytes| (bytes.len(), std::hint::black_box(bytes).len())) else { break };
        taken += bytes;
    }
    taken
}

/// As much as there is room for; how many bytes.
fn give(socket: &mut tcp::Socket<'_>, block: &[u8]) -> usize {
    if socket.can_send() { socket.send_slice(block).unwrap_or(0) } else { 0 }
}

/// As much as there is and there is room for; how many bytes.
fn echo(socket: &mut tcp::Socket<'_>, block: &mut [u8]) -> usize {
    let room = (socket.send_capacity() - socket.send_queue()).min(block.len());
    if room == 0 || !socket.can_recv() || !socket.can_send() {
        return 0;
    }
    let received = socket.recv_slice(&mut block[..room]).unwrap_or(0);
    socket.send_slice(&block[..received]).unwrap_or(0)
}
