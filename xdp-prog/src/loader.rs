//! Loads the programs, fills the maps, reads the counters.

use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::error::{Call, SteerError};
use crate::key::{AddressKey, IpProtocol, MODE_EVERYTHING, OWNED, PortKey, SHARED};
use crate::libbpf_log::LibbpfLog;
use crate::link::{AttachMode, AttachedMode, Attachment};
use crate::skeleton::{pass::PassSkelBuilder, steer::SteerSkelBuilder};
use crate::verdict::{Verdict, Verdicts};

/// Sizes that are fixed when the program is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SteerOptions {
    /// Receive queues of the interface, at most. Too low: [`SteerError::Queue`]; too high: 8 bytes each.
    pub max_queues: u32,
}

impl Default for SteerOptions {
    fn default() -> Self {
        Self { max_queues: 64 }
    }
}

/// Which frames are the engine's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Those to owned addresses and shared ports, and what belongs to them.
    #[default]
    Owned,
    /// Every frame: layer-2 services. The kernel gets nothing from a queue that has a socket.
    Everything,
}

/// The loaded steering program with its maps.
///
/// Dropping it detaches the program and closes the maps. It is `Send`, and no method blocks: one control thread uses it while the
/// workers run. Changes take effect with the next frame; none needs the program to be attached.
#[derive(Debug)]
pub struct Steer {
    // First, so that it is dropped first: no frame meets half the maps.
    attachment: Option<Attachment>,
    program: OwnedFd,
    xsks: MapHandle,
    addresses: MapHandle,
    ports: MapHandle,
    expected: MapHandle,
    verdicts: MapHandle,
    globals: MapHandle,
    /// What the maps hold, to keep the flags of an address right.
    address_flags: HashMap<AddressKey, u32>,
    shared_ports: HashMap<AddressKey, HashSet<PortKey>>,
}

impl Steer {
    /// Creates the maps and loads the program; nothing is attached yet.
    ///
    /// # Errors
    /// [`SteerError::NoQueues`]; [`Call::Load`] without CAP_BPF and CAP_NET_ADMIN or before Linux 5.18.
    pub fn load(options: &SteerOptions) -> Result<Self, SteerError> {
        if options.max_queues == 0 {
            return Err(SteerError::NoQueues);
        }
        let log = LibbpfLog::capture();
        let refused = |call| {
            let log = &log;
            move |error| SteerError::libbpf(call, &error, log.take())
        };
        let mut storage = MaybeUninit::uninit();
        let mut open = SteerSkelBuilder::default().open(&mut storage).map_err(refused(Call::Open))?;
        open.maps.xsks.set_max_entries(options.max_queues).map_err(refused(Call::Open))?;
        let skeleton = open.load().map_err(refused(Call::Load))?;
        // Own descriptors keep program and maps alive, so that the skeleton, which borrows, need not be kept.
        let duplicate = |map| MapHandle::try_from(map).map_err(refused(Call::Duplicate));
        Ok(Self {
            attachment: None,
            program: duplicate_fd(skeleton.progs.framewire_steer.as_fd())?,
            xsks: duplicate(&skeleton.maps.xsks)?,
            addresses: duplicate(&skeleton.maps.addresses)?,
            ports: duplicate(&skeleton.maps.ports)?,
            expected: duplicate(&skeleton.maps.expected)?,
            verdicts: duplicate(&skeleton.maps.verdicts)?,
            globals: duplicate(&skeleton.maps.bss)?,
            address_flags: HashMap::new(),
            shared_ports: HashMap::new(),
        })
    }

    /// Takes all that is sent to the address, of whatever protocol, with its ARP and neighbour discovery. The kernel must not have
    /// the address. A multicast group may be owned too, and is then lost to the kernel. VLAN tags make no difference.
    ///
    /// # Errors
    /// [`SteerError::Address`]; [`Call::MapUpdate`] (`E2BIG` above 1,024 addresses).
    pub fn own_address(&mut self, address: IpAddr) -> Result<(), SteerError> {
        self.change_flags(AddressKey::new(address)?, OWNED, 0)
    }

    /// Gives the address back; ports of it that are shared stay so. No error if it was not owned.
    ///
    /// # Errors
    /// As [`own_address`](Self::own_address).
    pub fn disown_address(&mut self, address: IpAddr) -> Result<(), SteerError> {
        self.change_flags(AddressKey::new(address)?, 0, OWNED)
    }

    /// Takes one (protocol, destination port) of an address that the kernel has, with the fragments of its datagrams and the ICMP
    /// errors about packets sent from it. The kernel goes on answering ARP and neighbour discovery for the address, and gets the answers;
    /// see [`ExpectedNeighbours`]. No error if it is shared already.
    ///
    /// # Errors
    /// [`SteerError::Address`]; [`SteerError::Protocol`]; [`Call::MapUpdate`] (`E2BIG` above 16,384 ports).
    pub fn share_port(&mut self, address: IpAddr, protocol: IpProtocol, port: u16) -> Result<(), SteerError> {
        let key = PortKey::new(address, protocol, port)?;
        if self.is_shared(&key) {
            return Ok(());
        }
        update(&self.ports, "ports", &key.to_bytes(), &1_u32.to_ne_bytes())?;
        self.change_flags(key.address, SHARED, 0).inspect_err(|_| {
            // Without the flag the entry has no effect; the first error is the one to report.
            let _ = delete(&self.ports, "ports", &key.to_bytes());
        })?;
        self.shared_ports.entry(key.address).or_default().insert(key);
        Ok(())
    }

    /// Gives one port back. No error if it was not shared.
    ///
    /// # Errors
    /// As [`share_port`](Self::share_port).
    pub fn unshare_port(&mut self, address: IpAddr, protocol: IpProtocol, port: u16) -> Result<(), SteerError> {
        let key = PortKey::new(address, protocol, port)?;
        if !self.is_shared(&key) {
            return Ok(());
        }
        delete(&self.ports, "ports", &key.to_bytes())?;
        if let Some(ports) = self.shared_ports.get_mut(&key.address) {
            ports.remove(&key);
            if !ports.is_empty() {
                return Ok(());
            }
        }
        self.shared_ports.remove(&key.address);
        self.change_flags(key.address, 0, SHARED)
    }

    /// Who may let in the answers of neighbours to *shared* addresses.
    ///
    /// # Errors
    /// [`Call::Duplicate`].
    pub fn expected_neighbours(&self) -> Result<ExpectedNeighbours, SteerError> {
        let map = MapHandle::try_from(&self.expected)
            .map_err(|error| SteerError::libbpf(Call::Duplicate, &error, Vec::new()))?;
        Ok(ExpectedNeighbours { map })
    }

    /// Chooses which frames are the engine's; [`Mode::Owned`] after loading.
    ///
    /// # Errors
    /// [`Call::MapUpdate`].
    pub fn set_mode(&mut self, mode: Mode) -> Result<(), SteerError> {
        let word = match mode {
            Mode::Owned => 0,
            Mode::Everything => MODE_EVERYTHING,
        };
        update(&self.globals, "globals", &0_u32.to_ne_bytes(), &word.to_ne_bytes())
    }

    /// Hands the engine's frames of this receive queue to an AF_XDP socket. The socket must be bound to this queue of the interface:
    /// the kernel drops a frame that is redirected to one bound elsewhere. It leaves the map by itself when it is closed.
    ///
    /// # Errors
    /// [`SteerError::Queue`]; [`Call::MapUpdate`] when the descriptor is not an AF_XDP socket.
    pub fn set_socket(&mut self, queue_index: u32, socket: BorrowedFd<'_>) -> Result<(), SteerError> {
        self.check_queue(queue_index)?;
        update(&self.xsks, "xsks", &queue_index.to_ne_bytes(), &socket.as_raw_fd().to_ne_bytes())
    }

    /// Leaves this queue's frames to the kernel. No error if it had no socket.
    ///
    /// # Errors
    /// [`SteerError::Queue`]; [`Call::MapDelete`].
    pub fn clear_socket(&mut self, queue_index: u32) -> Result<(), SteerError> {
        self.check_queue(queue_index)?;
        delete(&self.xsks, "xsks", &queue_index.to_ne_bytes())
    }

    /// Attaches to the interface, in the calling thread's network namespace, until [`detach`](Self::detach), drop, or the end of the process.
    ///
    /// # Errors
    /// [`SteerError::AlreadyAttached`]; [`Call::LinkCreate`]: `EBUSY`/`EEXIST` another program is there, `ENODEV` no such interface,
    /// `EOPNOTSUPP` no native mode (only with [`AttachMode::Native`]), `EPERM`.
    pub fn attach(&mut self, ifindex: u32, mode: AttachMode) -> Result<AttachedMode, SteerError> {
        if let Some(attachment) = &self.attachment {
            return Err(SteerError::AlreadyAttached { ifindex: attachment.ifindex() });
        }
        let attachment = Attachment::new(self.program.as_fd(), ifindex, mode)?;
        Ok(self.attachment.insert(attachment).mode())
    }

    /// Detaches; the maps keep what they hold. No error if it was not attached.
    ///
    /// # Errors
    /// [`Call::LinkDetach`]; the link's descriptor is closed all the same.
    pub fn detach(&mut self) -> Result<(), SteerError> {
        self.attachment.take().map_or(Ok(()), Attachment::detach)
    }

    /// Where and how it is attached.
    pub fn attached(&self) -> Option<&Attachment> {
        self.attachment.as_ref()
    }

    /// The counters, summed over all CPUs, since [`load`](Self::load). One system call for each, so they are not of one instant.
    ///
    /// # Errors
    /// [`Call::MapLookup`].
    pub fn verdicts(&self) -> Result<Verdicts, SteerError> {
        let mut verdicts = Verdicts::default();
        for verdict in Verdict::ALL {
            let per_cpu = self
                .verdicts
                .lookup_percpu(&(verdict as u32).to_ne_bytes(), MapFlags::ANY)
                .map_err(|error| SteerError::libbpf(Call::MapLookup("verdicts"), &error, Vec::new()))?;
            for frames in per_cpu.iter().flatten().filter_map(|cpu| cpu.first_chunk()) {
                verdicts.add(verdict, u64::from_ne_bytes(*frames));
            }
        }
        Ok(verdicts)
    }

    /// The program's descriptor, for `BPF_PROG_TEST_RUN` and `BPF_OBJ_GET_INFO_BY_FD`.
    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    fn check_queue(&self, queue_index: u32) -> Result<(), SteerError> {
        let max_queues = self.xsks.max_entries();
        if queue_index < max_queues { Ok(()) } else { Err(SteerError::Queue { queue_index, max_queues }) }
    }

    fn is_shared(&self, key: &PortKey) -> bool {
        self.shared_ports.get(&key.address).is_some_and(|ports| ports.contains(key))
    }

    fn change_flags(&mut self, address: AddressKey, set: u32, clear: u32) -> Result<(), SteerError> {
        let old = self.address_flags.get(&address).copied().unwrap_or(0);
        let new = (old | set) & !clear;
        if new == old {
            return Ok(());
        }
        if new == 0 {
            delete(&self.addresses, "addresses", address.as_bytes())?;
            self.address_flags.remove(&address);
        } else {
            update(&self.addresses, "addresses", address.as_bytes(), &new.to_ne_bytes())?;
            self.address_flags.insert(address, new);
        }
        Ok(())
    }
}

/// Lets in the ARP replies and neighbour advertisements that neighbours send to *shared* addresses, which are the kernel's otherwise. An owned address needs
/// none of this.
///
/// A neighbour is [expected](Self::expect) before it is asked, and [forgotten](Self::forget) once it has answered: in between the kernel does not hear its
/// answers to the kernel's own questions (it repeats them; XDP cannot deliver a frame twice). Of those that never answer, the oldest of 1,024 is forgotten for a new one.
///
/// Every worker may have one: it is `Send`, and each call is one system call.
#[derive(Debug)]
pub struct ExpectedNeighbours {
    map: MapHandle,
}

impl ExpectedNeighbours {
    /// This neighbour's answers are the engine's from now on.
    ///
    /// # Errors
    /// [`SteerError::Address`]; [`Call::MapUpdate`].
    pub fn expect(&self, neighbour: IpAddr) -> Result<(), SteerError> {
        update(&self.map, "expected", AddressKey::new(neighbour)?.as_bytes(), &1_u32.to_ne_bytes())
    }

    /// They are the kernel's again. No error if it was not expected.
    ///
    /// # Errors
    /// [`SteerError::Address`]; [`Call::MapDelete`].
    pub fn forget(&self, neighbour: IpAddr) -> Result<(), SteerError> {
        delete(&self.map, "expected", AddressKey::new(neighbour)?.as_bytes())
    }
}

/// A program that passes every frame, attached for as long as this lives. The peer of a veth interface that has an XDP program
/// must have one too.
#[derive(Debug)]
pub struct PassProgram {
    attachment: Attachment,
}

impl PassProgram {
    /// Loads and attaches it.
    ///
    /// # Errors
    /// As [`Steer::load`] and [`Steer::attach`].
    pub fn attach(ifindex: u32, mode: AttachMode) -> Result<Self, SteerError> {
        let program = {
            let log = LibbpfLog::capture();
            let mut storage = MaybeUninit::uninit();
            let open = PassSkelBuilder::default()
                .open(&mut storage)
                .map_err(|error| SteerError::libbpf(Call::Open, &error, log.take()))?;
            let skeleton = open.load().map_err(|error| SteerError::libbpf(Call::Load, &error, log.take()))?;
            duplicate_fd(skeleton.progs.framewire_pass.as_fd())?
        };
        // The link holds the program from here on.
        Ok(Self { attachment: Attachment::new(program.as_fd(), ifindex, mode)? })
    }

    /// Where and how it is attached.
    pub fn attached(&self) -> &Attachment {
        &self.attachment
    }

    /// Detaches it and reports what dropping would hide.
    ///
    /// # Errors
    /// [`Call::LinkDetach`].
    pub fn detach(self) -> Result<(), SteerError> {
        self.attachment.detach()
    }
}

fn duplicate_fd(fd: BorrowedFd<'_>) -> Result<OwnedFd, SteerError> {
    fd.try_clone_to_owned().map_err(|error| SteerError::kernel(Call::Duplicate, error.raw_os_error(), String::new()))
}

fn update(map: &MapHandle, name: &'static str, key: &[u8], value: &[u8]) -> Result<(), SteerError> {
    map.update(key, value, MapFlags::ANY).map_err(|error| SteerError::libbpf(Call::MapUpdate(name), &error, Vec::new()))
}

/// An entry that is not there is as good as deleted: a closed socket leaves its map by itself.
fn delete(map: &MapHandle, name: &'static str, key: &[u8]) -> Result<(), SteerError> {
    match map.delete(key).map_err(|error| SteerError::libbpf(Call::MapDelete(name), &error, Vec::new())) {
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}
