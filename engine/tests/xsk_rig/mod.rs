//! A network namespace of the test's own with one veth pair: the port on `fw0`, a packet socket on `fw1`. The namespace is
//! the test thread's alone and goes with it, so nothing is left behind.

#![allow(dead_code, reason = "each test binary uses its part of the rig")]

use framewire::{
    buf::{HugePages, Pool, PoolConfig, TxBuf, TxQueue},
    port::{
        Port,
        xsk::{XskConfig, XskPort},
    },
    time::Instant,
};
use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::Command,
    time::{Duration, Instant as Clock},
};

pub(crate) const PORT: &str = "fw0";
pub(crate) const PEER: &str = "fw1";
/// An EtherType for local experiments (IEEE 802): nobody else sends it.
pub(crate) const ETHER_TYPE: u16 = 0x88b5;
pub(crate) const HEADER_BYTES: usize = 14;

/// Runs `test` in a fresh namespace, on a thread of its own. Without the right to make one, the test fails if
/// FRAMEWIRE_TEST_NO_SKIP=1 and says that it was skipped otherwise.
pub(crate) fn in_namespace(mtu: usize, test: impl FnOnce() + Send + 'static) {
    let worker = std::thread::spawn(move || {
        // SAFETY: no pointers are passed; it concerns this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            let error = io::Error::last_os_error();
            assert!(
                std::env::var_os("FRAMEWIRE_TEST_NO_SKIP").is_none_or(|v| v != "1"),
                "unshare(CLONE_NEWNET): {error}: this test needs root"
            );
            eprintln!("SKIPPED: unshare(CLONE_NEWNET): {error}: this test needs root");
            return;
        }
        let mtu = mtu.to_string();
        ip(&["link", "add", PORT, "mtu", &mtu, "type", "veth", "peer", "name", PEER, "mtu", &mtu]);
        for interface in [PORT, PEER] {
            ip(&["link", "set", interface, "addrgenmode", "none"]);
            ip(&["link", "set", interface, "up"]);
        }
        test();
    });
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A small port: 8 MiB, rings of 512 and 1,024.
pub(crate) fn config() -> XskConfig {
    XskConfig {
        frames: 2048,
        rx_ring_entries: 512,
        tx_ring_entries: 512,
        fill_ring_entries: 1024,
        completion_ring_entries: 1024,
        huge_pages: HugePages::Never,
        pool: PoolConfig { rx_reserve_frames: 64, run_frames: 256 },
        ..XskConfig::new(PORT, 0)
    }
}

pub(crate) fn open(config: XskConfig) -> (XskPort, Pool) {
    XskPort::open(config).unwrap_or_else(|e| panic!("{e}"))
}

/// A frame for a broadcast of our own EtherType.
pub(crate) fn ethernet_header() -> [u8; HEADER_BYTES] {
    let mut header = [0xff; HEADER_BYTES];
    header[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    header[12..].copy_from_slice(&ETHER_TYPE.to_be_bytes());
    header
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + i / 251 + seed * 7) % 256) as u8).collect()
}

/// A frame to send whose payload begins `skip` bytes behind the usual place.
pub(crate) fn frame(pool: &Pool, payload: &[u8], skip: usize) -> TxBuf {
    let mut buffer = pool.alloc_tx().expect("a frame is free");
    buffer.put_slice(&vec![0; skip]).unwrap();
    buffer.put_slice(payload).unwrap();
    buffer.advance(skip);
    buffer.prepend_slice(&ethernet_header()).unwrap();
    buffer
}

/// Transmits and kicks until the queue is empty and everything is completed.
pub(crate) fn flush(port: &mut XskPort, queue: &mut TxQueue, pool: &Pool) {
    let end = Clock::now() + Duration::from_secs(5);
    while !queue.is_empty() || pool.ledger().kernel_tx > 0 {
        port.transmit(Instant::ZERO, queue);
        port.kick().unwrap();
        port.reap();
        assert!(Clock::now() < end, "not sent: {}; {:?}", pool.ledger(), port.stats());
    }
}

/// A packet socket on an interface, with a second's patience.
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    pub(crate) fn on(interface: &str) -> Self {
        let name = std::ffi::CString::new(interface).unwrap();
        // SAFETY: an address of the right family and size, on a descriptor made just now.
        unsafe {
            let protocol = ETHER_TYPE.to_be();
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol));
            assert!(fd >= 0, "socket(AF_PACKET): {}", io::Error::last_os_error());
            let socket = OwnedFd::from_raw_fd(fd);
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
            let rc = libc::bind(fd, (&raw const address).cast(), size_of_val(&address) as u32);
            assert_eq!(rc, 0, "bind: {}", io::Error::last_os_error());
            let patience = libc::timeval { tv_sec: 1, tv_usec: 0 };
            let size = size_of_val(&patience) as u32;
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const patience).cast(), size);
            Self(socket)
        }
    }

    pub(crate) fn receive(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0_u8; 65_536];
        // SAFETY: pointer and length describe `bytes`.
        let n = unsafe { libc::recv(self.0.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        bytes.truncate(usize::try_from(n).map_err(|_| io::Error::last_os_error())?);
        Ok(bytes)
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        // SAFETY: pointer and length describe `bytes`.
        let n = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        assert_eq!(n, bytes.len() as isize, "send: {}", io::Error::last_os_error());
    }
}
