//! A Linux interface by its name: an AF_XDP socket on its queue 0, and the program that steers one address to it.

use super::{
    error::{Code, Outcome, explain},
    interface::POOL,
    numbers as n,
};
use crate::{
    buf::Pool,
    port::{
        DriverMode, Port,
        xsk::{XskConfig, XskError, XskPort},
    },
    time::Duration,
};
use framewire_xdp::{AttachMode, AttachedMode, Steer, SteerError, SteerOptions};
use std::{fmt, net::Ipv4Addr};

const QUEUE: u32 = 0;

/// The socket and its steering.
pub(super) struct XdpLink {
    // Dropped first: no frame is steered to a socket that is being closed.
    steer: Steer,
    port: XskPort,
}

impl XdpLink {
    /// Opens the socket, then lets the program steer `address` to it.
    pub(super) fn open(name: &str, address: Ipv4Addr) -> Outcome<(Self, Pool)> {
        let config = XskConfig { pool: POOL, ..XskConfig::new(name, QUEUE) };
        let (mut port, pool) = XskPort::open(config).map_err(|error| explain(code_of(&error), error))?;
        let refused = |error: SteerError| explain(steer_code_of(&error), format_args!("interface {name}: {error}"));
        // Frames must be lent before the first packet comes.
        port.refill();
        let mut steer = Steer::load(&SteerOptions::default()).map_err(refused)?;
        steer.own_address(address.into()).map_err(refused)?;
        if let Some(socket) = port.socket() {
            steer.set_socket(QUEUE, socket).map_err(refused)?;
        }
        let mode = steer.attach(port.ifindex(), AttachMode::Auto).map_err(refused)?;
        port.set_driver_mode(match mode {
            AttachedMode::Native => DriverMode::Native,
            AttachedMode::Generic => DriverMode::Generic,
        });
        tracing::info!("{}", port.info());
        Ok((Self { steer, port }, pool))
    }

    pub(super) fn port(&mut self) -> &mut XskPort {
        &mut self.port
    }

    pub(super) fn change_address(&mut self, old: Option<Ipv4Addr>, new: Ipv4Addr) -> Outcome<()> {
        let refused = |error: SteerError| explain(steer_code_of(&error), error);
        self.steer.own_address(new.into()).map_err(refused)?;
        match old.filter(|&old| old != new) {
            Some(old) => self.steer.disown_address(old.into()).map_err(refused),
            None => Ok(()),
        }
    }

    pub(super) fn close(&mut self, patience: Duration) {
        if let Err(error) = self.steer.detach() {
            explain(steer_code_of(&error), error);
        }
        self.port.close(patience);
    }
}

impl fmt::Debug for XdpLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XdpLink({})", self.port.info())
    }
}

fn code_of(error: &XskError) -> Code {
    Code(match error {
        XskError::Config { .. } => n::TM_EINVAL,
        XskError::NoInterface { .. } | XskError::NoQueue { .. } => n::TM_ENXIO,
        XskError::MissingCapability { .. } => n::TM_EPERM,
        XskError::LockedMemory { .. } | XskError::Region(_) => n::TM_ENOMEM,
        XskError::Busy { .. } => n::TM_EBUSY,
        XskError::ZeroCopyRefused { .. } | XskError::MultiBufferNeeded { .. } => n::TM_EOPNOTSUPP,
        _ => n::TM_EIO,
    })
}

fn steer_code_of(error: &SteerError) -> Code {
    Code(match error.errno() {
        Some(libc::EPERM | libc::EACCES) => n::TM_EPERM,
        Some(libc::EBUSY | libc::EEXIST) => n::TM_EBUSY,
        _ => n::TM_EIO,
    })
}
