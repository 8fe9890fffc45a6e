//! What the kernel says of an interface, through `ioctl` on a socket of the network namespace it was opened in: sysfs would answer for the
//! namespace that mounted it.

use super::XskError;
use crate::port::MacAddr;
use std::{
    ffi::{CStr, c_void},
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

/// `ETHTOOL_GDRVINFO` (`include/uapi/linux/ethtool.h`).
const ETHTOOL_GDRVINFO: u32 = 0x03;
/// `ETHTOOL_GCHANNELS`.
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// Whether a link carries packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It does.
    Up,
    /// It is switched on, but there is no carrier.
    NoCarrier,
    /// It is switched off (`ip link set … up` switches it on).
    Down,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
#[derive(Default)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    _version: [u8; 32],
    _firmware: [u8; 32],
    _bus: [u8; 32],
    _erom: [u8; 32],
    _reserved: [u8; 12],
    _counts: [u32; 5],
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    cmd: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// One interface.
#[derive(Debug)]
pub(super) struct Netdev {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
    pub(super) ifindex: u32,
    pub(super) mac: MacAddr,
    pub(super) mtu: usize,
}

impl Netdev {
    /// Finds the interface in the calling thread's network namespace.
    pub(super) fn open(interface: &str, queue: u32) -> Result<Self, XskError> {
        let missing = |call| move |source| XskError::NoInterface { interface: interface.into(), call, source };
        let mut name = [0; libc::IFNAMSIZ];
        if interface.is_empty() || interface.len() >= libc::IFNAMSIZ || interface.bytes().any(|b| b == 0) {
            return Err(missing("its name")(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        for (to, from) in name.iter_mut().zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: no pointers are passed; a valid result is a new descriptor that nobody else owns.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return Err(missing("socket(AF_INET)")(io::Error::last_os_error()));
            }
            OwnedFd::from_raw_fd(fd)
        };
        let mut this = Self { socket, name, ifindex: 0, mac: MacAddr::default(), mtu: 0 };
        let reply = this.request(libc::SIOCGIFINDEX as libc::Ioctl, None).map_err(missing("ioctl(SIOCGIFINDEX)"))?;
        // SAFETY: SIOCGIFINDEX fills this member.
        this.ifindex = unsafe { reply.ifr_ifru.ifru_ifindex } as u32;
        let reply = this.request(libc::SIOCGIFMTU as libc::Ioctl, None).map_err(missing("ioctl(SIOCGIFMTU)"))?;
        // SAFETY: SIOCGIFMTU fills this member.
        this.mtu = usize::try_from(unsafe { reply.ifr_ifru.ifru_mtu }).unwrap_or(0);
        let reply = this.request(libc::SIOCGIFHWADDR as libc::Ioctl, None).map_err(missing("ioctl(SIOCGIFHWADDR)"))?;
        // SAFETY: SIOCGIFHWADDR fills this member.
        let address = unsafe { reply.ifr_ifru.ifru_hwaddr };
        if address.sa_family != libc::ARPHRD_ETHER && address.sa_family != libc::ARPHRD_LOOPBACK {
            return Err(XskError::Refused {
                call: "ioctl(SIOCGIFHWADDR)",
                interface: interface.into(),
                queue,
                source: io::Error::from_raw_os_error(libc::EAFNOSUPPORT),
                advice: "it is not an Ethernet interface; tunnels and the like have no Ethernet header",
            });
        }
        for (to, from) in this.mac.0.iter_mut().zip(address.sa_data) {
            *to = from as u8;
        }
        Ok(this)
    }

    /// Whether its driver is this one, loaded as a module: what is built in has no such file.
    pub(super) fn has_module(&self, driver: &str) -> bool {
        let mut info = DriverInfo { cmd: ETHTOOL_GDRVINFO, ..DriverInfo::default() };
        self.ethtool(&mut info).is_ok()
            && CStr::from_bytes_until_nul(&info.driver).is_ok_and(|name| name.to_bytes() == driver.as_bytes())
            && Path::new("/sys/module").join(driver).join("initstate").exists()
    }

    /// Queues in use, that is the numbers `bind` takes; `None` if the driver does not say.
    pub(super) fn queues(&self) -> Option<u32> {
        let mut channels = Channels { cmd: ETHTOOL_GCHANNELS, ..Channels::default() };
        self.ethtool(&mut channels).ok()?;
        let Channels { cmd: _, max: _, rx, tx, other: _, combined } = channels;
        Some(combined.saturating_add(rx.max(tx))).filter(|&queues| queues > 0)
    }

    pub(super) fn link_state(&self) -> io::Result<LinkState> {
        let reply = self.request(libc::SIOCGIFFLAGS as libc::Ioctl, None)?;
        // SAFETY: SIOCGIFFLAGS fills this member.
        let flags = libc::c_int::from(unsafe { reply.ifr_ifru.ifru_flags });
        Ok(match (flags & libc::IFF_UP != 0, flags & libc::IFF_RUNNING != 0) {
            (false, _) => LinkState::Down,
            (true, false) => LinkState::NoCarrier,
            (true, true) => LinkState::Up,
        })
    }

    /// `command` begins with the number of one, and has its form.
    fn ethtool<T>(&self, command: &mut T) -> io::Result<()> {
        self.request(libc::SIOCETHTOOL as libc::Ioctl, Some(std::ptr::from_mut(command).cast())).map(drop)
    }

    fn request(&self, request: libc::Ioctl, data: Option<*mut c_void>) -> io::Result<libc::ifreq> {
        // SAFETY: all-zero bytes are a valid `ifreq`, a struct of integers and a pointer.
        let mut ifreq: libc::ifreq = unsafe { mem::zeroed() };
        ifreq.ifr_name = self.name;
        if let Some(data) = data {
            ifreq.ifr_ifru.ifru_data = data.cast();
        }
        // SAFETY: `ifreq` outlives the call, as does what it points to; each request used here reads the name and writes a member of
        // `ifreq`, or the `Channels` or `DriverInfo` behind `ifru_data`, whose size its command fixes.
        let rc = unsafe { libc::ioctl(self.socket.as_raw_fd(), request, &raw mut ifreq) };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(ifreq) }
    }
}
