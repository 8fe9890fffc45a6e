//! Attachment to real interfaces, in a namespace of the test's own.

mod rig;

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use framewire_xdp::{
    AttachMode, AttachedMode, Call, PassProgram, Steer, SteerError, SteerOptions, Verdict, attached_program,
};
use rig::frame::*;
use rig::netns::{Veth, ifindex, in_netns, ip};

const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OWNED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const KERNEL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// How long the kernel may take for what it does after a call returns or a process ends.
const PATIENCE: Duration = Duration::from_secs(5);

fn load() -> Steer {
    Steer::load(&SteerOptions::default()).unwrap()
}

fn mode_of(ifindex: u32) -> Option<AttachedMode> {
    attached_program(ifindex).unwrap().map(|program| program.mode)
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn attaches_in_each_mode_and_leaves_nothing() {
    in_netns(|Veth { a_ifindex, .. }| {
        let mut steer = load();
        for (mode, expected) in [
            (AttachMode::Native, AttachedMode::Native),
            (AttachMode::Generic, AttachedMode::Generic),
            (AttachMode::Auto, AttachedMode::Native),
        ] {
            assert_eq!(steer.attach(a_ifindex, mode).unwrap(), expected);
            assert_eq!(mode_of(a_ifindex), Some(expected));
            assert!(ip("link show fwa").contains("prog/xdp id"));
            let attachment = steer.attached().unwrap();
            assert_eq!((attachment.ifindex(), attachment.mode()), (a_ifindex, expected));
            assert!(attachment.fallback_reason().is_none());
            steer.detach().unwrap();
            assert!(steer.attached().is_none());
            assert_eq!(mode_of(a_ifindex), None);
            assert!(!ip("link show fwa").contains("xdp"));
        }
        steer.detach().unwrap();
    });
}

#[test]
fn drop_detaches() {
    in_netns(|Veth { a_ifindex, b_ifindex }| {
        let mut steer = load();
        steer.attach(a_ifindex, AttachMode::Native).unwrap();
        let pass = PassProgram::attach(b_ifindex, AttachMode::Native).unwrap();
        assert_eq!(pass.attached().mode(), AttachedMode::Native);
        assert_eq!((mode_of(a_ifindex), mode_of(b_ifindex)), (Some(AttachedMode::Native), Some(AttachedMode::Native)));
        drop(steer);
        drop(pass);
        eventually("both detached", || mode_of(a_ifindex).is_none() && mode_of(b_ifindex).is_none());
        PassProgram::attach(b_ifindex, AttachMode::Generic).unwrap().detach().unwrap();
        assert_eq!(mode_of(b_ifindex), None);
    });
}

#[test]
fn auto_falls_back_to_generic_and_says_why() {
    in_netns(|_| {
        // The loopback driver has no native XDP.
        let mut steer = load();
        assert_eq!(steer.attach(ifindex("lo"), AttachMode::Auto).unwrap(), AttachedMode::Generic);
        let reason = steer.attached().unwrap().fallback_reason().unwrap();
        assert_eq!(reason.errno(), Some(libc::EOPNOTSUPP));
        assert!(reason.to_string().contains("no native XDP"), "{reason}");
        steer.detach().unwrap();
        let error = steer.attach(ifindex("lo"), AttachMode::Native).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EOPNOTSUPP), "{error}");
    });
}

#[test]
fn a_taken_interface_is_refused_with_the_holder() {
    in_netns(|Veth { a_ifindex, .. }| {
        let mut first = load();
        first.attach(a_ifindex, AttachMode::Native).unwrap();
        assert!(matches!(
            first.attach(a_ifindex, AttachMode::Native),
            Err(SteerError::AlreadyAttached { ifindex }) if ifindex == a_ifindex
        ));
        let holder = attached_program(a_ifindex).unwrap().unwrap();
        for mode in [AttachMode::Native, AttachMode::Generic, AttachMode::Auto] {
            let error = load().attach(a_ifindex, mode).unwrap_err();
            assert!(matches!(error.errno(), Some(libc::EBUSY | libc::EEXIST)), "{error}");
            let text = error.to_string();
            assert!(text.contains(&format!("program id {}", holder.program_id)) && text.contains("ip link"), "{text}");
        }
        assert_eq!(attached_program(a_ifindex).unwrap(), Some(holder), "the holder is untouched");
    });
}

#[test]
fn a_missing_interface_is_refused() {
    in_netns(|_| {
        for missing in [0, 4_000_000, u32::MAX] {
            let error = load().attach(missing, AttachMode::Auto).unwrap_err();
            assert!(matches!(error.errno(), Some(libc::ENODEV | libc::EINVAL)), "{error}");
            assert!(matches!(error, SteerError::Kernel(refusal) if matches!(refusal.call, Call::LinkCreate(_))));
        }
    });
}

#[test]
fn an_interface_that_goes_takes_the_attachment_along() {
    in_netns(|Veth { a_ifindex, .. }| {
        let mut steer = load();
        steer.attach(a_ifindex, AttachMode::Native).unwrap();
        ip("link delete fwa");
        steer.detach().unwrap();
        ip("link add fwa type veth peer name fwb");
        steer.attach(ifindex("fwa"), AttachMode::Native).unwrap();
    });
}

/// A packet socket on the interface, to send frames as they are.
fn packet_socket(ifindex: u32) -> OwnedFd {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "socket(AF_PACKET): {}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: ifindex as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `address` is a sockaddr_ll of that length, only read.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    assert_eq!(result, 0, "bind: {}", std::io::Error::last_os_error());
    socket
}

fn send(socket: &OwnedFd, frame: &[u8]) {
    // SAFETY: `frame` is valid for its length and only read.
    let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    assert_eq!(sent, frame.len() as isize, "send: {}", std::io::Error::last_os_error());
}

#[test]
fn counts_what_arrives_on_the_wire() {
    in_netns(|Veth { a_ifindex, b_ifindex }| {
        for mode in [AttachMode::Native, AttachMode::Generic] {
            let mut steer = load();
            steer.own_address(OWNED.into()).unwrap();
            steer.attach(a_ifindex, mode).unwrap();
            let wire = packet_socket(b_ifindex);
            for _ in 0..20 {
                send(&wire, &eth(IPV4, &ip4(PEER, OWNED, UDP, &ports(1, 2))));
                send(&wire, &eth(IPV4, &ip4(PEER, KERNEL, UDP, &ports(1, 2))));
                send(&wire, &eth(ARP, &arp(1, PEER, OWNED)));
            }
            let count = |verdict| steer.verdicts().unwrap().get(verdict);
            eventually("60 frames counted", || {
                count(Verdict::RedirectedOwned) == 20
                    && count(Verdict::PassedNotOurs) == 20
                    && count(Verdict::RedirectedNeighbour) == 20
            });
            assert_eq!(count(Verdict::PassedNoSocket), 40, "no socket is bound: the kernel has them all");
        }
    });
}

#[test]
fn a_steer_is_used_from_another_thread() {
    in_netns(|Veth { a_ifindex, .. }| {
        let mut steer = load();
        steer.attach(a_ifindex, AttachMode::Native).unwrap();
        std::thread::spawn(move || {
            steer.own_address(OWNED.into()).unwrap();
            steer.set_socket(0, rig::xdp_socket().as_fd()).unwrap();
            steer.detach().unwrap();
        })
        .join()
        .unwrap();
        assert_eq!(mode_of(a_ifindex), None);
    });
}

/// Names the interface for the child of `a_killed_process_leaves_nothing`.
const CHILD_IFINDEX: &str = "FRAMEWIRE_TEST_CHILD_IFINDEX";

#[test]
fn a_killed_process_leaves_nothing() {
    if let Ok(ifindex) = std::env::var(CHILD_IFINDEX) {
        let mut steer = load();
        steer.attach(ifindex.parse().unwrap(), AttachMode::Native).unwrap();
        // Until the parent kills this process; bounded, in case it cannot.
        std::thread::sleep(Duration::from_secs(30));
        return;
    }
    in_netns(|Veth { a_ifindex, .. }| {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_killed_process_leaves_nothing"])
            .env(CHILD_IFINDEX, a_ifindex.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the child has attached", || mode_of(a_ifindex) == Some(AttachedMode::Native));
        child.kill().unwrap();
        child.wait().unwrap();
        let killed = Instant::now();
        eventually("nothing attached", || mode_of(a_ifindex).is_none());
        assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    });
}

/// Gives up all capabilities of the calling thread but these (numbers of `linux/capability.h`).
fn keep_capabilities(kept: &[u32]) {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    // _LINUX_CAPABILITY_VERSION_3, the calling thread.
    let header = Header { version: 0x2008_0522, pid: 0 };
    let mut data = [Data::default(); 2];
    for capability in kept {
        let word = &mut data[*capability as usize / 32];
        word.effective |= 1 << (capability % 32);
        word.permitted = word.effective;
    }
    // SAFETY: capset reads a header and, for version 3, two structs of three words.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    assert_eq!(result, 0, "capset: {}", std::io::Error::last_os_error());
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_BPF: u32 = 39;

#[test]
fn two_capabilities_suffice() {
    in_netns(|Veth { a_ifindex, .. }| {
        keep_capabilities(&[CAP_NET_ADMIN, CAP_BPF]);
        let mut steer = load();
        steer.own_address(OWNED.into()).unwrap();
        steer.attach(a_ifindex, AttachMode::Native).unwrap();
        steer.verdicts().unwrap();
        steer.detach().unwrap();
    });
}

#[test]
fn missing_rights_are_named() {
    in_netns(|_| {
        keep_capabilities(&[]);
        let refused = Steer::load(&SteerOptions::default()).map(drop).unwrap_err();
        assert!(matches!(refused.errno(), Some(libc::EPERM | libc::EACCES)), "{refused}");
        let text = refused.to_string();
        assert!(text.contains("CAP_BPF") && text.contains("CAP_NET_ADMIN") && text.contains("BPF_PROG_LOAD"), "{text}");
    });
}

#[test]
fn no_queues_is_refused() {
    assert!(matches!(Steer::load(&SteerOptions { max_queues: 0 }), Err(SteerError::NoQueues)));
}
