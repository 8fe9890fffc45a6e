//! Start-up, interfaces and routes.

use super::{
    driver::Functions,
    error::{Code, FAULT, INVALID, Outcome, UNSUPPORTED, WOULD_BLOCK, explain, note, returned},
    face::{self, Face, Inside, Patience, wait_for},
    interface::{self, CLOSE_PATIENCE, INTERFACES_MAX, Interface, MTU_RANGE, handle_of, net_of, own_net_of},
    numbers as n,
    park::On,
    types::{
        AddressArg, ip_of, network_order, read_address, tfSockaddr, tfSockaddrIn, ttDevCloseFunc, ttDevFreeRecvFunc,
        ttDevGetPhysAddrFunc, ttDevIoctlFunc, ttDevOpenFunc, ttDevRecvFunc, ttDevSendFunc, ttUserInterface,
        ttUserIpAddress, ttUserLinkLayer,
    },
};
use crate::{
    proto::{
        IfaceId,
        route::{Route, RouteError},
    },
    wire::{Ipv4Net, MacAddr},
};
use std::{
    ffi::{CStr, c_char, c_int},
    net::Ipv4Addr,
    ptr,
    rc::Rc,
};

/// The only link layer's handle.
const ETHERNET: usize = 0x7f1c_e7e7_0000_0001;
/// Longest interface name, as in the kernel (`IFNAMSIZ` less the zero).
const NAME_BYTES_MAX: usize = 15;

/// `int tfStartTreck(void)`: before every other call but `tfUseManualClock`. `TM_EALREADY` the second time.
#[unsafe(no_mangle)]
pub extern "C" fn tfStartTreck() -> c_int {
    let face = face::enter();
    // The thread that turns the loop, unless workers do.
    let started = face.start().inspect(|()| face.favour());
    returned(started)
}

/// `ttUserLinkLayer tfUseEthernet(void)`: the link layer for `tfAddInterface`.
#[unsafe(no_mangle)]
pub extern "C" fn tfUseEthernet() -> ttUserLinkLayer {
    ptr::without_provenance_mut(ETHERNET)
}

fn no_link_layer() -> ttUserLinkLayer {
    note(UNSUPPORTED);
    ptr::null_mut()
}

/// `ttUserLinkLayer tfUseAsyncPpp(void)`: null and `TM_EOPNOTSUPP`: there is Ethernet.
#[unsafe(no_mangle)]
pub extern "C" fn tfUseAsyncPpp() -> ttUserLinkLayer {
    no_link_layer()
}

/// `ttUserLinkLayer tfUseSlip(void)`: null and `TM_EOPNOTSUPP`: there is Ethernet.
#[unsafe(no_mangle)]
pub extern "C" fn tfUseSlip() -> ttUserLinkLayer {
    no_link_layer()
}

/// `ttUserInterface tfAddInterface(name, link, open, close, send, recv, freeRecv, ioctl, getPhysAddr, int *error)`. All functions null: `name` is a Linux interface. Otherwise they are the driver; `send`, `recv` and
/// `getPhysAddr` must be there. Null on failure, with `*error` (if not null): `TM_EINVAL` (not started, not Ethernet, name of more than 15 bytes, a function missing), `TM_EFAULT` (no name), `TM_EEXIST`, `TM_ENOBUFS` (16 interfaces).
///
/// # Safety
/// `name` is null or a string, `error` null or a variable; the functions stay callable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfAddInterface(
    name: *const c_char,
    link: ttUserLinkLayer,
    open: ttDevOpenFunc,
    close: ttDevCloseFunc,
    send: ttDevSendFunc,
    recv: ttDevRecvFunc,
    freeRecv: ttDevFreeRecvFunc,
    ioctl: ttDevIoctlFunc,
    getPhysAddr: ttDevGetPhysAddrFunc,
    error: *mut c_int,
) -> ttUserInterface {
    let functions = Functions { open, close, send, recv, free_recv: freeRecv, ioctl, phys_addr: getPhysAddr };
    let face = face::enter();
    // SAFETY: the caller's promise.
    let name = if name.is_null() { None } else { Some(unsafe { CStr::from_ptr(name) }) };
    let (code, handle) = match add_interface(&face, name, link, functions) {
        Ok(handle) => (n::TM_ENOERROR, handle),
        Err(code) => (note(code).0, ptr::null_mut()),
    };
    if !error.is_null() {
        // SAFETY: not null, the caller's variable.
        unsafe { error.write_unaligned(code) };
    }
    handle
}

fn add_interface(
    face: &Face,
    name: Option<&CStr>,
    link: ttUserLinkLayer,
    functions: Functions,
) -> Outcome<ttUserInterface> {
    let name = name.ok_or(FAULT)?.to_str().map_err(|_| INVALID)?;
    if !face.is_started() {
        return Err(explain(INVALID, "tfAddInterface: call tfStartTreck first"));
    }
    if link.addr() != ETHERNET {
        return Err(explain(INVALID, "tfAddInterface: the link layer is not the one of tfUseEthernet"));
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(explain(INVALID, format_args!("tfAddInterface: {name:?} has not 1 to {NAME_BYTES_MAX} bytes")));
    }
    if !functions.is_none() && !functions.is_driver() {
        return Err(explain(
            INVALID,
            "tfAddInterface: a driver needs send, recv and getPhysAddr; a Linux interface none at all",
        ));
    }
    let mut interfaces = face.interfaces.try_borrow_mut().map_err(|_| WOULD_BLOCK)?;
    if interfaces.iter().any(|other| other.name() == name) {
        return Err(explain(
            Code(n::TM_EEXIST),
            format_args!("tfAddInterface: there is an interface {name:?} already"),
        ));
    }
    let at = interfaces.len();
    if at >= INTERFACES_MAX {
        return Err(explain(
            super::error::NO_BUFFERS,
            format_args!("tfAddInterface: there are {INTERFACES_MAX} already"),
        ));
    }
    interfaces.push(Rc::new(Interface::new(at, name.into(), functions)));
    Ok(handle_of(at))
}

fn on_interface(i: ttUserInterface, call: impl FnOnce(&Inside, &Interface) -> Outcome<()>) -> c_int {
    let face = face::enter();
    returned(interface::find(&face, i).and_then(|interface| call(&face, &interface)))
}

/// `int tfOpenInterface(ttUserInterface i, ttUserIpAddress address, ttUserIpAddress mask, int flags, int buffersPerFrame)`: opens the device and gives it the address. `TM_EFAULT` (no interface), `TM_EINVAL`, `TM_EALREADY`; of a driver
/// what its `open` says; of a Linux interface `TM_EPERM`, `TM_ENXIO`, `TM_EBUSY`, `TM_ENOMEM`, `TM_EOPNOTSUPP`, `TM_EIO`: `tfGetLastErrorText` says what to do.
#[unsafe(no_mangle)]
pub extern "C" fn tfOpenInterface(
    i: ttUserInterface,
    address: ttUserIpAddress,
    mask: ttUserIpAddress,
    flags: c_int,
    buffersPerFrame: c_int,
) -> c_int {
    on_interface(i, |face, interface| {
        if buffersPerFrame < 1 {
            return Err(INVALID);
        }
        interface.open(face, own_net_of(ip_of(address), ip_of(mask))?, flags)
    })
}

/// `int tfNgOpenInterface(ttUserInterface i, const struct sockaddr *address, int prefixLength, int flags, int buffersPerFrame)`: the same with the address in a `sockaddr_in`, whose port means nothing. Also `TM_EFAULT` (null), `TM_EAFNOSUPPORT` (`AF_INET6`), `TM_EINVAL` (a prefix
/// that is not of 1 to 32 bits).
///
/// # Safety
/// `address` is null or points to the structure of its family.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfNgOpenInterface(
    i: ttUserInterface,
    address: *const tfSockaddr,
    prefixLength: c_int,
    flags: c_int,
    buffersPerFrame: c_int,
) -> c_int {
    on_interface(i, |face, interface| {
        // SAFETY: the caller's promise; a structure of another family is not read.
        let AddressArg::V4(address) = (unsafe { read_address(address, size_of::<tfSockaddrIn>() as c_int) })? else {
            return Err(Code(n::TM_EAFNOSUPPORT));
        };
        let ones = u32::try_from(prefixLength).ok().filter(|ones| (1..=32).contains(ones)).ok_or(INVALID)?;
        if buffersPerFrame < 1 {
            return Err(INVALID);
        }
        let mask = Ipv4Addr::from_bits(u32::MAX << (32 - ones));
        interface.open(face, own_net_of(*address.ip(), mask)?, flags)
    })
}

/// `int tfConfigInterface(ttUserInterface i, ttUserIpAddress address, ttUserIpAddress mask, int flags, int buffersPerFrame)`: gives an open interface another address in the old one's place, and other flags. `TM_EFAULT`, `TM_EINVAL`, `TM_ENETDOWN` (not open).
#[unsafe(no_mangle)]
pub extern "C" fn tfConfigInterface(
    i: ttUserInterface,
    address: ttUserIpAddress,
    mask: ttUserIpAddress,
    flags: c_int,
    buffersPerFrame: c_int,
) -> c_int {
    on_interface(i, |face, interface| {
        if buffersPerFrame < 1 {
            return Err(INVALID);
        }
        interface.configure(face, own_net_of(ip_of(address), ip_of(mask))?, flags)
    })
}

/// `int tfCloseInterface(ttUserInterface i)`: sends what is queued, closes the device, and gives it back to the kernel; sockets and buffers stay. `TM_EFAULT`, `TM_ENETDOWN` (not open).
#[unsafe(no_mangle)]
pub extern "C" fn tfCloseInterface(i: ttUserInterface) -> c_int {
    let mut face = face::enter();
    let outcome = interface::find(&face, i).and_then(|interface| {
        // What waits for an ARP answer goes out too, if one comes. If not, closing goes on without.
        let _ = wait_for(&mut face, Patience::For(CLOSE_PATIENCE), On::Any, |face| {
            let parked = face.with_stack(|stack| stack.usage().neighbours_parked)?;
            if parked == 0 || interface.id.get().is_none() { Ok(()) } else { Err(WOULD_BLOCK) }
        });
        interface.close(&face)
    });
    returned(outcome)
}

fn id_of(interface: &Interface) -> Outcome<IfaceId> {
    interface.id.get().ok_or(Code(n::TM_ENETDOWN))
}

fn route_code(error: RouteError) -> Code {
    let code = match error {
        RouteError::Full => n::TM_ENOBUFS,
        RouteError::Duplicate => n::TM_EEXIST,
        RouteError::NextHop(_) => n::TM_EINVAL,
    };
    explain(Code(code), error)
}

fn add_route(face: &Face, interface: &Interface, net: Ipv4Net, gateway: Ipv4Addr, metric: u32) -> Outcome<()> {
    let iface = id_of(interface)?;
    // RFC 1812 section 2.2.5.1: the next hop must be on a network of the interface.
    if !interface.net().is_some_and(|own| own.contains(gateway)) {
        return Err(explain(
            HOST_UNREACHABLE,
            format_args!("gateway {gateway} is not on a network of {}", interface.name()),
        ));
    }
    let route = Route { net, next_hop: Some(gateway), iface, source: None, metric };
    face.with_stack(|stack| stack.add_route(route))?.map_err(route_code)
}

const HOST_UNREACHABLE: Code = super::error::HOST_UNREACHABLE;
const ANYWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// `int tfAddDefaultGateway(ttUserInterface i, ttUserIpAddress gateway)`. `TM_EFAULT`, `TM_ENETDOWN`, `TM_EHOSTUNREACH` (not on the interface's network), `TM_EINVAL`, `TM_EEXIST`.
#[unsafe(no_mangle)]
pub extern "C" fn tfAddDefaultGateway(i: ttUserInterface, gateway: ttUserIpAddress) -> c_int {
    on_interface(i, |face, interface| add_route(face, interface, net_of(ANYWHERE, ANYWHERE)?, ip_of(gateway), 0))
}

/// `int tfDelDefaultGateway(ttUserIpAddress gateway)`: `TM_EHOSTUNREACH` if there is none such.
#[unsafe(no_mangle)]
pub extern "C" fn tfDelDefaultGateway(gateway: ttUserIpAddress) -> c_int {
    let face = face::enter();
    let removed = net_of(ANYWHERE, ANYWHERE)
        .and_then(|net| face.with_stack(|stack| stack.remove_route(net, Some(ip_of(gateway)))));
    returned(removed.and_then(|removed| removed.then_some(()).ok_or(HOST_UNREACHABLE)))
}

/// `int tfAddStaticRoute(ttUserInterface i, ttUserIpAddress destination, ttUserIpAddress mask, ttUserIpAddress gateway, int hops)`: of routes to one network the one with the fewest hops is used. Errors as `tfAddDefaultGateway`; `TM_EINVAL` also for a mask with gaps
/// and negative hops.
#[unsafe(no_mangle)]
pub extern "C" fn tfAddStaticRoute(
    i: ttUserInterface,
    destination: ttUserIpAddress,
    mask: ttUserIpAddress,
    gateway: ttUserIpAddress,
    hops: c_int,
) -> c_int {
    on_interface(i, |face, interface| {
        let metric = u32::try_from(hops).map_err(|_| INVALID)?;
        add_route(face, interface, net_of(ip_of(destination), ip_of(mask))?, ip_of(gateway), metric)
    })
}

/// `int tfDelStaticRoute(ttUserIpAddress destination, ttUserIpAddress mask)`: takes away every route to that network that goes through a gateway. `TM_EHOSTUNREACH` if there is none, `TM_EINVAL`.
#[unsafe(no_mangle)]
pub extern "C" fn tfDelStaticRoute(destination: ttUserIpAddress, mask: ttUserIpAddress) -> c_int {
    let face = face::enter();
    let outcome = net_of(ip_of(destination), ip_of(mask)).and_then(|net| {
        face.with_stack(|stack| {
            let same = |route: &&Route| {
                route.net.network() == net.network()
                    && route.net.prefix_len() == net.prefix_len()
                    && route.next_hop.is_some()
            };
            let hops: Vec<_> = stack.routes().iter().filter(same).map(|route| route.next_hop).collect();
            let removed = hops.iter().filter(|&&hop| stack.remove_route(net, hop)).count();
            if removed > 0 { Ok(()) } else { Err(HOST_UNREACHABLE) }
        })?
    });
    returned(outcome)
}

/// `int tfAddArpEntry(ttUserIpAddress address, const char *physAddr, int physAddrLength)`: a neighbour that is not asked for. `TM_EFAULT`, `TM_EINVAL` (not 6 bytes, not one station's), `TM_EHOSTUNREACH` (not on any
/// interface's network), `TM_EOPNOTSUPP` in this version.
///
/// # Safety
/// `physAddr` is null or points to `physAddrLength` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfAddArpEntry(
    address: ttUserIpAddress,
    physAddr: *const c_char,
    physAddrLength: c_int,
) -> c_int {
    let face = face::enter();
    let outcome = (|| {
        if physAddr.is_null() {
            return Err(FAULT);
        }
        if physAddrLength != size_of::<MacAddr>() as c_int {
            return Err(INVALID);
        }
        // SAFETY: six bytes by the caller's promise.
        let mac = MacAddr(unsafe { physAddr.cast::<[u8; 6]>().read_unaligned() });
        if mac.is_multicast() || mac == MacAddr::default() {
            return Err(INVALID);
        }
        face.add_neighbour(ip_of(address), mac)
    })();
    returned(outcome)
}

impl Face {
    fn add_neighbour(&self, ip: Ipv4Addr, mac: MacAddr) -> Outcome<()> {
        let interfaces = self.interfaces.try_borrow().map_err(|_| WOULD_BLOCK)?;
        let on_link = interfaces.iter().find(|interface| interface.net().is_some_and(|net| net.contains(ip)));
        let id = on_link.and_then(|interface| interface.id.get()).ok_or(HOST_UNREACHABLE)?;
        self.with_stack(|stack| stack.add_static_neighbour(id, ip, mac))?.map_err(|_| Code(n::TM_ENOBUFS))
    }
}

/// Answers about an interface, written to a variable of the caller's.
///
/// # Safety
/// `to` is null or a variable.
unsafe fn tell<T>(i: ttUserInterface, to: *mut T, what: impl FnOnce(&Face, &Interface) -> Outcome<T>) -> c_int {
    on_interface(i, |face, interface| {
        if to.is_null() {
            return Err(FAULT);
        }
        let value = what(face, interface)?;
        // SAFETY: not null, the caller's variable.
        unsafe { to.write_unaligned(value) };
        Ok(())
    })
}

fn own_net(interface: &Interface) -> Outcome<Ipv4Net> {
    interface.net().ok_or(Code(n::TM_ENETDOWN))
}

/// `int tfGetIpAddress(ttUserInterface i, ttUserIpAddress *address)`. `TM_EFAULT`, `TM_ENETDOWN`.
///
/// # Safety
/// `address` is null or a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfGetIpAddress(i: ttUserInterface, address: *mut ttUserIpAddress) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { tell(i, address, |_, interface| own_net(interface).map(|net| network_order(net.addr()))) }
}

/// `int tfGetNetMask(ttUserInterface i, ttUserIpAddress *mask)`. `TM_EFAULT`, `TM_ENETDOWN`.
///
/// # Safety
/// `mask` is null or a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfGetNetMask(i: ttUserInterface, mask: *mut ttUserIpAddress) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        tell(i, mask, |_, interface| own_net(interface).map(|net| network_order(Ipv4Addr::from_bits(net.mask()))))
    }
}

/// `int tfGetIfMtu(ttUserInterface i, int *mtu)`: largest IP packet, in bytes. `TM_EFAULT`.
///
/// # Safety
/// `mtu` is null or a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tfGetIfMtu(i: ttUserInterface, mtu: *mut c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { tell(i, mtu, |face, interface| Ok(interface.mtu(face) as c_int)) }
}

/// `int tfSetIfMtu(ttUserInterface i, int mtu)`: 68 to 9,216 bytes before it is opened (then a driver's frames may be as long), afterwards no more than its link carries. `TM_EFAULT`, `TM_EINVAL`.
#[unsafe(no_mangle)]
pub extern "C" fn tfSetIfMtu(i: ttUserInterface, mtu: c_int) -> c_int {
    on_interface(i, |face, interface| {
        if !MTU_RANGE.contains(&mtu) {
            return Err(INVALID);
        }
        interface.set_mtu(face, mtu as usize)
    })
}
