//! A Linux interface by its name: an AF_XDP socket on each of its queues, and the program that steers one address to them. All sockets of all interfaces share the frames of the first.

use super::{
    error::{Code, Outcome, explain},
    interface::POOL,
    numbers as n,
};
use crate::{
    buf::Pool,
    port::{
        DriverMode, Port,
        xsk::{SharedFrames, XskConfig, XskError, XskPort},
    },
};
use framewire_xdp::{AttachMode, AttachedMode, Steer, SteerError, SteerOptions};
use std::{fmt, net::Ipv4Addr};

/// Frames for the first socket, and for each further one on the same interface.
const FRAMES: u32 = 4096;
const FRAMES_PER_QUEUE: u32 = 1024;
/// Frames lent to a socket before it is known how many there will be.
const LENT_AT_FIRST: u32 = 64;

/// What steers packets to an interface's sockets.
pub(super) struct Steering(Steer);

/// Sockets that the frames of `frames` are enough for.
pub(super) fn sockets_max(frames: u32) -> u32 {
    lendable(frames) / LENT_AT_FIRST
}

/// Of so many frames, those that devices may keep.
pub(super) fn lendable(frames: u32) -> u32 {
    frames.saturating_sub(POOL.run_frames) / 2
}

/// Frames for an interface's sockets.
#[derive(Clone)]
pub(super) enum Frames {
    /// There are none yet.
    ToBeMade,
    /// Of drivers of the application's: the kernel is to be told of them.
    OfDrivers(Pool),
    Shared(SharedFrames),
}

impl Frames {
    /// How many, and how many sockets use them.
    fn count(&self) -> Option<(u32, u32)> {
        match self {
            Self::ToBeMade => None,
            Self::OfDrivers(pool) => Some((pool.capacity(), 0)),
            Self::Shared(shared) => Some((shared.frames(), shared.sockets())),
        }
    }
}

/// An interface's sockets and what steers packets to them.
pub(super) struct Opened {
    pub(super) ports: Vec<XskPort>,
    /// The frames, if they were [to be made](Frames::ToBeMade).
    pub(super) pool: Option<Pool>,
    pub(super) steering: Steering,
}

/// Opens a socket on each of an interface's queues, on `frames`, and then lets the program steer `address` to them.
pub(super) fn open(name: &str, address: Ipv4Addr, mut frames: Frames) -> Outcome<Opened> {
    let refused = |error: XskError| explain(code_of(&error), error);
    let queues = XskPort::queues(name).map_err(refused)?;
    if let Some((frames, open)) = frames.count()
        && open + queues > sockets_max(frames)
    {
        let why = format_args!(
            "interface {name}: {frames} frames are not enough for {open} sockets and {queues} more: open the interface with the most queues first"
        );
        return Err(explain(Code(n::TM_ENOMEM), why));
    }
    let mut pool = None;
    let mut ports: Vec<XskPort> = Vec::with_capacity(queues as usize);
    for queue in 0..queues {
        let config = || XskConfig {
            frames: FRAMES + FRAMES_PER_QUEUE * (queues - 1),
            pool: POOL,
            shares_frames: true,
            ..XskConfig::new(name, queue)
        };
        let port = match &frames {
            Frames::Shared(frames) => XskPort::open_sharing(frames, name, queue).map_err(refused)?,
            Frames::OfDrivers(pool) => XskPort::open_on(pool, config()).map_err(refused)?,
            Frames::ToBeMade => {
                let (port, made) = XskPort::open(config()).map_err(refused)?;
                pool = Some(made);
                port
            }
        };
        frames = Frames::Shared(port.sharing());
        ports.push(port);
    }
    let refused = |error: SteerError| explain(steer_code_of(&error), format_args!("interface {name}: {error}"));
    let ifindex = ports.first().map_or(0, XskPort::ifindex);
    let mut steer = Steer::load(&SteerOptions::default()).map_err(refused)?;
    steer.own_address(address.into()).map_err(refused)?;
    for (queue, port) in (0..).zip(&mut ports) {
        // Frames must be lent before the first packet comes.
        port.lend_at_most(LENT_AT_FIRST);
        port.refill();
        if let Some(socket) = port.socket() {
            steer.set_socket(queue, socket).map_err(refused)?;
        }
    }
    let mode = steer.attach(ifindex, AttachMode::Auto).map_err(refused)?;
    for port in &mut ports {
        port.set_driver_mode(match mode {
            AttachedMode::Native => DriverMode::Native,
            AttachedMode::Generic => DriverMode::Generic,
        });
        tracing::info!("{}", port.info());
    }
    Ok(Opened { ports, pool, steering: Steering(steer) })
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
