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
};
use framewire_xdp::{AttachMode, AttachedMode, Steer, SteerError, SteerOptions};
use std::{fmt, net::Ipv4Addr};

const QUEUE: u32 = 0;

/// What steers packets to an interface's sockets.
pub(super) struct Steering(Steer);

/// Opens an interface's sockets, then lets the program steer `address` to them.
pub(super) fn open(name: &str, address: Ipv4Addr) -> Outcome<(Vec<XskPort>, Pool, Steering)> {
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
    Ok((vec![port], pool, Steering(steer)))
}

impl Steering {
    pub(super) fn change_address(&mut self, old: Option<Ipv4Addr>, new: Ipv4Addr) -> Outcome<()> {
        let refused = |error: SteerError| explain(steer_code_of(&error), error);
        self.0.own_address(new.into()).map_err(refused)?;
        match old.filter(|&old| old != new) {
            Some(old) => self.0.disown_address(old.into()).map_err(refused),
            None => Ok(()),
        }
    }

    /// No frame is steered to a socket that is being closed.
    pub(super) fn end(&mut self) {
        if let Err(error) = self.0.detach() {
            explain(steer_code_of(&error), error);
        }
    }
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steering")
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
