//! Interfaces: what `tfAddInterface` was told, and the port once it is open.

#[cfg(feature = "af-xdp")]
use super::xdp::{self, Frames, Steering};
use super::{
    driver::{CDriver, Functions},
    error::{Code, FAULT, INVALID, Outcome, WOULD_BLOCK, explain},
    face::{self, BEDROOM, Face},
    numbers as n,
    queue::{HELD_FRAMES_MAX, Link, Queue},
    types::{network_order, ttUserInterface},
    workers::DOORBELL,
};
use crate::{
    buf::PoolConfig,
    port::user::{Completion, SendCompleter, UserConfig, UserPort, heap_pool},
    proto::IfaceId,
    stack::{IfaceConfig, RxChecksum, Stack},
    time::Duration,
    wire::Ipv4Net,
};
use std::{
    cell::{Cell, RefCell},
    ffi::c_int,
    net::Ipv4Addr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Interfaces in one process. Few: each turn visits them all.
pub(super) const INTERFACES_MAX: usize = 16;
/// Smallest MTU (RFC 791 section 3.1) and the largest that a driver may be given.
pub(super) const MTU_RANGE: std::ops::RangeInclusive<c_int> = 68..=9_216;
const MTU_DEFAULT: usize = 1500;

/// Frames of the pool for user drivers: 16 MiB.
const HEAP_FRAMES: usize = 4096;
const HEAP_CHUNK_BYTES: usize = 4096;
/// Frames that senders leave for receiving, and frames for buffers larger than one: the largest datagram takes 17, so 60 of them at once.
pub(super) const POOL: PoolConfig = PoolConfig { rx_reserve_frames: 128, run_frames: 1024 };

/// How long closing waits for packets that are still to be sent.
pub(super) const CLOSE_PATIENCE: Duration = Duration::from_millis(500);

/// High bits of an interface's handle: no small number and no pointer is taken for one.
const HANDLE_MARK: usize = 0x7f1c_e000_0000_0001;

/// What other threads may touch without being inside.
#[derive(Debug)]
pub(super) struct Shared {
    /// The driver has called `tfNotifyReceiveInterfaceIsr`.
    notifies: AtomicBool,
    /// The driver has called `tfSendCompleteInterface`.
    completes: AtomicBool,
    /// The worker that its queue is dealt to.
    worker: AtomicUsize,
    completer: OnceLock<SendCompleter>,
}

static SHARED: [Shared; INTERFACES_MAX] = [const {
    Shared {
        notifies: AtomicBool::new(false),
        completes: AtomicBool::new(false),
        worker: AtomicUsize::new(0),
        completer: OnceLock::new(),
    }
}; INTERFACES_MAX];

impl Shared {
    /// Of the interface with that handle, if it could be one.
    pub(super) fn of(handle: ttUserInterface) -> Option<&'static Self> {
        SHARED.get(index_of(handle)?)
    }

    /// The driver has received something.
    pub(super) fn notify(&self) {
        self.notifies.store(true, Ordering::Relaxed);
        if face::is_inside() {
            self.wake_from_inside();
        } else {
            self.wake_from_outside();
        }
    }

    /// The driver is done with the oldest frame.
    #[inline(always)]
    pub(super) fn complete(&self) {
        self.completes.store(true, Ordering::Relaxed);
        if !face::is_inside() {
            return self.complete_from_outside();
        }
        if let Some(completer) = self.completer.get() {
            // One thread at a time is inside, and ports are reaped there.
            completer.send_complete_alone(1);
        }
        self.wake_from_inside();
    }

    #[inline(never)]
    fn complete_from_outside(&self) {
        if let Some(completer) = self.completer.get() {
            completer.send_complete(1);
        }
        self.wake_from_outside();
    }

    /// The driver has something for whoever turns the loop.
    #[inline(always)]
    fn wake_from_inside(&self) {
        if DOORBELL.is_hung() {
            DOORBELL.wake_from_inside(self.worker.load(Ordering::Relaxed));
        } else {
            BEDROOM.ring_inside();
        }
    }

    fn wake_from_outside(&self) {
        if !DOORBELL.wake_from_outside(self.worker.load(Ordering::Relaxed)) {
            BEDROOM.ring();
        }
    }
}

#[inline]
fn index_of(handle: ttUserInterface) -> Option<usize> {
    let offset = handle.addr().wrapping_sub(HANDLE_MARK);
    (offset < INTERFACES_MAX * 2 && offset.is_multiple_of(2)).then_some(offset / 2)
}

/// The handle of interface number `at`.
pub(super) fn handle_of(at: usize) -> ttUserInterface {
    std::ptr::without_provenance_mut(HANDLE_MARK + at * 2)
}

/// One interface.
#[derive(Debug)]
pub(super) struct Interface {
    index: usize,
    name: String,
    functions: Functions,
    /// The stack's number for it; set while it is open.
    pub(super) id: Cell<Option<IfaceId>>,
    /// The number that it had when it was open before.
    old_id: Cell<Option<IfaceId>>,
    net: Cell<Option<Ipv4Net>>,
    /// What `tfSetIfMtu` asked for before it was opened.
    mtu: Cell<usize>,
    /// Empty while it is closed.
    pub(super) queues: RefCell<Vec<Queue>>,
    #[cfg(feature = "af-xdp")]
    steering: RefCell<Option<Steering>>,
}

impl Interface {
    pub(super) fn new(index: usize, name: String, functions: Functions) -> Self {
        Self {
            index,
            name,
            functions,
            id: Cell::new(None),
            old_id: Cell::new(None),
            net: Cell::new(None),
            mtu: Cell::new(MTU_DEFAULT),
            queues: RefCell::new(Vec::new()),
            #[cfg(feature = "af-xdp")]
            steering: RefCell::new(None),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn net(&self) -> Option<Ipv4Net> {
        self.net.get()
    }

    fn shared(&self) -> &'static Shared {
        &SHARED[self.index % INTERFACES_MAX]
    }

    /// Its queue is dealt to this worker.
    pub(super) fn belongs_to(&self, worker: usize) {
        self.shared().worker.store(worker, Ordering::Relaxed);
    }

    /// The driver says when it is done with a frame.
    pub(super) fn completes(&self) -> bool {
        self.shared().completes.load(Ordering::Relaxed)
    }

    /// Somebody rings when a frame comes.
    pub(super) fn notifies(&self) -> bool {
        self.shared().notifies.load(Ordering::Relaxed)
    }

    /// Opens it, and the stack with the first.
    pub(super) fn open(&self, face: &Face, net: Ipv4Net, flags: c_int) -> Outcome<()> {
        if self.id.get().is_some() {
            return Err(explain(Code(n::TM_EALREADY), format_args!("interface {}: it is open already", self.name)));
        }
        let rx_checksum = checksum_policy(flags)?;
        let mut slot = self.queues.try_borrow_mut().map_err(|_| WOULD_BLOCK)?;
        let mut links =
            if self.functions.is_none() { self.open_linux(face, net)? } else { vec![self.open_driver(face)?] };
        let info = links.first_mut().ok_or(Code(n::TM_ENXIO))?.port().info().clone();
        let mtu = if self.functions.is_none() { info.mtu.min(self.linux_mtu(info.mtu)) } else { info.mtu };
        let added = face.with_stack(|stack| match self.old_id.get() {
            Some(id) => {
                if let Some(interface) = stack.interface_mut(id) {
                    (interface.mac, interface.mtu, interface.up) = (info.mac, mtu, true);
                    interface.tx_pieces_max = info.tx_pieces_max.max(1);
                    interface.rx_checksum = rx_checksum;
                }
                stack.add_address(id, net).map(|()| id)
            }
            None => stack.add_interface(IfaceConfig {
                mtu,
                rx_checksum,
                tx_pieces_max: info.tx_pieces_max,
                ..IfaceConfig::new(&self.name, info.mac, vec![net])
            }),
        });
        match added {
            Ok(Ok(id)) => {
                self.id.set(Some(id));
                self.old_id.set(Some(id));
            }
            Ok(Err(error)) => {
                self.close_links(links);
                return Err(explain(NO_ROUTE_ROOM, format_args!("interface {}: {error}", self.name)));
            }
            Err(code) => {
                self.close_links(links);
                return Err(code);
            }
        }
        self.net.set(Some(net));
        if !self.functions.is_none() {
            face.be_eager();
        }
        *slot = Queue::of(links);
        drop(slot);
        face.deal();
        face.bind_recorded();
        face.ring_all();
        self.tell_driver(n::TM_DEV_SET_FLAGS, flags);
        self.tell_address(net);
        self.tell_driver(n::TM_DEV_SET_MTU, mtu as c_int);
        Ok(())
    }

    fn tell_driver<T>(&self, flag: c_int, option: T) {
        self.functions.tell(handle_of(self.index), flag, option);
    }

    fn tell_address(&self, net: Ipv4Net) {
        let mask = Ipv4Addr::from_bits(net.mask());
        self.tell_driver(n::TM_DEV_SET_ADDRESS, [network_order(net.addr()), network_order(mask)]);
    }

    /// The MTU to use on a Linux interface whose own is `link_mtu`.
    fn linux_mtu(&self, link_mtu: usize) -> usize {
        if self.mtu.get() == MTU_DEFAULT { link_mtu } else { self.mtu.get() }
    }

    fn open_driver(&self, face: &Face) -> Outcome<Link> {
        let has_stack = face.pool.try_borrow().map_err(|_| WOULD_BLOCK)?.is_some();
        if !has_stack {
            let pool = heap_pool(HEAP_FRAMES, HEAP_CHUNK_BYTES, POOL)
                .map_err(|error| explain(Code(n::TM_ENOMEM), format_args!("interface {}: {error}", self.name)))?;
            face.create_stack(pool)?;
        }
        let pool = face.pool.try_borrow().map_err(|_| WOULD_BLOCK)?.clone().ok_or(Code(n::TM_ENETDOWN))?;
        let config = UserConfig {
            mtu: self.mtu.get(),
            completion: Completion::ByDriver,
            held_frames_max: HELD_FRAMES_MAX,
            ..UserConfig::new(&self.name)
        };
        let driver = Box::new(CDriver::new(self.functions, handle_of(self.index)));
        let mut port = UserPort::open(driver, &pool, config).map_err(|error| {
            let code = if error.code > 200 { Code(error.code) } else { Code(n::TM_EIO) };
            explain(code, format_args!("interface {}: {error}", self.name))
        })?;
        port.complete_by(self.shared().completer.get_or_init(SendCompleter::default).clone());
        Ok(Link::User(Box::new(port)))
    }

    #[cfg(feature = "af-xdp")]
    fn open_linux(&self, face: &Face, net: Ipv4Net) -> Outcome<Vec<Link>> {
        let mut frames = face.frames.try_borrow_mut().map_err(|_| WOULD_BLOCK)?;
        // A stack has one pool.
        let place = match (frames.as_ref(), face.pool.try_borrow().map_err(|_| WOULD_BLOCK)?.as_ref()) {
            (Some(shared), _) => Frames::Shared(shared.clone()),
            (None, Some(pool)) => Frames::OfDrivers(pool.clone()),
            (None, None) => Frames::ToBeMade,
        };
        BEDROOM.hang_bell().map_err(|error| explain(Code(n::TM_EIO), format_args!("eventfd: {error}")))?;
        let xdp::Opened { ports, pool, steering } = xdp::open(&self.name, net.addr(), place)?;
        if let Some(pool) = pool {
            face.create_stack(pool)?;
        }
        if let Some(port) = ports.first() {
            *frames = Some(port.sharing());
        }
        *self.steering.try_borrow_mut().map_err(|_| WOULD_BLOCK)? = Some(steering);
        Ok(ports.into_iter().map(|port| Link::Xdp(Box::new(port))).collect())
    }

    #[cfg(not(feature = "af-xdp"))]
    fn open_linux(&self, _face: &Face, _net: Ipv4Net) -> Outcome<Vec<Link>> {
        let why = "the library was built without the feature `af-xdp`: give it a driver's functions";
        Err(explain(super::error::UNSUPPORTED, format_args!("interface {}: {why}", self.name)))
    }

    /// Sends what is queued, if the driver takes it, and closes the port.
    pub(super) fn close(&self, face: &Face) -> Outcome<()> {
        let id = self.id.get().ok_or(Code(n::TM_ENETDOWN))?;
        face.flush(face.now());
        let mut slot = self.queues.try_borrow_mut().map_err(|_| WOULD_BLOCK)?;
        face.with_stack(|stack| {
            if let Some(net) = self.net.get() {
                stack.remove_address(id, net.addr());
            }
            stack.egress(id).truncate(0);
            if let Some(interface) = stack.interface_mut(id) {
                interface.up = false;
            }
        })?;
        self.id.set(None);
        self.net.set(None);
        self.close_links(std::mem::take(&mut *slot).into_iter().map(Queue::into_link).collect());
        drop(slot);
        face.deal();
        face.ring_all();
        Ok(())
    }

    /// Steers nothing there any more, and closes the ports.
    fn close_links(&self, links: Vec<Link>) {
        #[cfg(feature = "af-xdp")]
        if let Some(mut steering) = self.steering.try_borrow_mut().ok().and_then(|mut steering| steering.take()) {
            steering.end();
        }
        for mut link in links {
            link.close(CLOSE_PATIENCE);
        }
    }

    /// Gives an open interface another address in the old one's place, and other flags.
    pub(super) fn configure(&self, face: &Face, net: Ipv4Net, flags: c_int) -> Outcome<()> {
        let id = self.id.get().ok_or(Code(n::TM_ENETDOWN))?;
        let rx_checksum = checksum_policy(flags)?;
        #[cfg(feature = "af-xdp")]
        if let Some(steering) = self.steering.try_borrow_mut().map_err(|_| WOULD_BLOCK)?.as_mut() {
            steering.change_address(self.net.get().map(Ipv4Net::addr), net.addr())?;
        }
        let added = face.with_stack(|stack| {
            if let Some(old) = self.net.get() {
                stack.remove_address(id, old.addr());
            }
            if let Some(interface) = stack.interface_mut(id) {
                interface.rx_checksum = rx_checksum;
            }
            stack.add_address(id, net)
        })?;
        self.net.set(Some(net));
        added.map_err(|error| explain(NO_ROUTE_ROOM, format_args!("interface {}: {error}", self.name)))?;
        self.tell_driver(n::TM_DEV_SET_FLAGS, flags);
        self.tell_address(net);
        Ok(())
    }

    pub(super) fn mtu(&self, face: &Face) -> usize {
        let of_stack = |stack: &mut Stack| Some(stack.interface_mut(self.id.get()?)?.mtu);
        face.with_stack(of_stack).ok().flatten().unwrap_or(self.mtu.get())
    }

    /// Changes the MTU: of a closed interface what it will have, of an open one to no more than its link carries.
    pub(super) fn set_mtu(&self, face: &Face, mtu: usize) -> Outcome<()> {
        let Some(id) = self.id.get() else {
            self.mtu.set(mtu);
            return Ok(());
        };
        let link_mtu = {
            let queues = self.queues.try_borrow().map_err(|_| WOULD_BLOCK)?;
            let link_mtu = |queue: &Queue| queue.with_link(|link| link.port().info().mtu).ok_or(WOULD_BLOCK);
            queues.first().map_or(Ok(0), link_mtu)?
        };
        if mtu > link_mtu {
            return Err(explain(
                INVALID,
                format_args!("interface {}: its link carries {link_mtu} bytes at most", self.name),
            ));
        }
        face.with_stack(|stack| {
            stack.set_mtu(id, mtu);
        })?;
        self.tell_driver(n::TM_DEV_SET_MTU, mtu as c_int);
        Ok(())
    }
}

const NO_ROUTE_ROOM: Code = Code(n::TM_ENOBUFS);

fn checksum_policy(flags: c_int) -> Outcome<RxChecksum> {
    let known = n::TM_DEV_RX_CSUM_PARTIAL | n::TM_DEV_RX_CSUM_TRUST | n::TM_DEV_SCATTER_SEND_ENB | n::TM_DEV_MCAST_ENB;
    if flags & !known != 0 {
        return Err(explain(INVALID, format_args!("flags {flags:#x}: of those {:#x} mean nothing", flags & !known)));
    }
    Ok(if flags & n::TM_DEV_RX_CSUM_TRUST != 0 {
        RxChecksum::Trust
    } else if flags & n::TM_DEV_RX_CSUM_PARTIAL != 0 {
        RxChecksum::Partial
    } else {
        RxChecksum::Verify
    })
}

/// The network of an address and a mask, both one host's.
pub(super) fn net_of(address: Ipv4Addr, mask: Ipv4Addr) -> Outcome<Ipv4Net> {
    let ones = mask.to_bits().leading_ones();
    let contiguous = mask.to_bits().checked_shl(ones).unwrap_or(0) == 0;
    let net = Ipv4Net::new(address, ones as u8).filter(|_| contiguous).ok_or(INVALID)?;
    Ok(net)
}

/// As [`net_of`], for an interface's own address.
pub(super) fn own_net_of(address: Ipv4Addr, mask: Ipv4Addr) -> Outcome<Ipv4Net> {
    let net = net_of(address, mask)?;
    let is_host =
        !address.is_unspecified() && !address.is_multicast() && !address.is_loopback() && address.octets()[0] < 240;
    let in_middle = net.prefix_len() > 30 || (address != net.network() && Some(address) != net.broadcast());
    if is_host && in_middle && net.prefix_len() > 0 {
        Ok(net)
    } else {
        Err(explain(INVALID, format_args!("{address} mask {mask} is not one host's address in its network")))
    }
}

/// The interface with that handle.
pub(super) fn find(face: &Face, handle: ttUserInterface) -> Outcome<std::rc::Rc<Interface>> {
    index_of(handle).and_then(|at| face.interface(at)).ok_or(FAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_known_from_other_pointers() {
        assert_eq!(index_of(handle_of(0)), Some(0));
        assert_eq!(index_of(handle_of(INTERFACES_MAX - 1)), Some(INTERFACES_MAX - 1));
        assert_eq!(index_of(handle_of(INTERFACES_MAX)), None);
        for forged in [0, 1, 2, HANDLE_MARK - 1, HANDLE_MARK + 1, usize::MAX] {
            assert_eq!(index_of(std::ptr::without_provenance_mut(forged)), None, "{forged:#x}");
        }
    }

    #[test]
    fn addresses_and_masks() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let own = |address, mask| own_net_of(ip(address), ip(mask)).map(|net| net.prefix_len());
        assert_eq!(own("10.0.0.1", "255.255.255.0"), Ok(24));
        assert_eq!(own("10.0.0.0", "255.255.255.254"), Ok(31));
        assert_eq!(own("10.0.0.1", "255.255.255.255"), Ok(32));
        for (address, mask) in [
            ("10.0.0.1", "255.0.255.0"),
            ("10.0.0.0", "255.255.255.0"),
            ("10.0.0.255", "255.255.255.0"),
            ("0.0.0.0", "255.0.0.0"),
            ("224.0.0.1", "255.0.0.0"),
            ("127.0.0.1", "255.0.0.0"),
            ("255.255.255.255", "255.255.255.255"),
            ("10.0.0.1", "0.0.0.0"),
        ] {
            assert_eq!(own(address, mask), Err(INVALID), "{address} {mask}");
        }
        assert_eq!(net_of(ip("0.0.0.0"), ip("0.0.0.0")).map(|net| net.prefix_len()), Ok(0));
    }
}
