//! What the tests share: the right to run, one frame through `BPF_PROG_TEST_RUN`, frames, a namespace with a veth pair.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses its part of the rig")]

pub mod frame;
pub mod netns;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use framewire_xdp::{Call, Steer, SteerError, SteerOptions, Verdict};
use libbpf_rs::libbpf_sys;

pub const XDP_PASS: u32 = 2;
pub const XDP_REDIRECT: u32 = 4;

/// The loaded program, or `None` (with a line that says so) where the test may be skipped for want of rights.
pub fn steer() -> Option<Steer> {
    match Steer::load(&SteerOptions::default()) {
        Ok(steer) => Some(steer),
        Err(SteerError::Kernel(refusal))
            if refusal.call == Call::Load && matches!(refusal.errno, Some(libc::EPERM | libc::EACCES)) =>
        {
            skip(&refusal.to_string())
        }
        Err(error) => panic!("{error}"),
    }
}

/// Prints why and gives `None`; fails where nothing may be skipped.
pub fn skip<T>(reason: &str) -> Option<T> {
    assert!(std::env::var_os("FRAMEWIRE_TEST_NO_SKIP").is_none_or(|value| value != "1"), "cannot run: {reason}");
    eprintln!("skipped: {reason}");
    None
}

/// A steering program with a socket on queue 0, the queue of every frame of a test run.
pub struct Rig {
    pub steer: Steer,
    pub socket: OwnedFd,
}

impl Rig {
    pub fn new() -> Option<Self> {
        let mut steer = steer()?;
        let socket = xdp_socket();
        steer.set_socket(0, socket.as_fd()).unwrap();
        Some(Self { steer, socket })
    }

    /// The one decision that the program counts for the frame. Checks that the return code fits it.
    #[track_caller]
    pub fn verdict(&self, frame: &[u8]) -> Verdict {
        let before = self.steer.verdicts().unwrap();
        let action = run(&self.steer, frame);
        let after = self.steer.verdicts().unwrap();
        let counted: Vec<_> =
            Verdict::ALL.into_iter().filter(|&verdict| after.get(verdict) != before.get(verdict)).collect();
        let &[decision] = counted.as_slice() else { panic!("{counted:?} counted for {frame:02x?}") };
        assert_eq!(after.get(decision), before.get(decision) + 1);
        let expected = if decision.name().starts_with("redirected") { XDP_REDIRECT } else { XDP_PASS };
        assert_eq!(action, expected, "{decision:?} for {frame:02x?}");
        decision
    }
}

/// An AF_XDP socket; it may stand in an XSKMAP without being bound.
pub fn xdp_socket() -> OwnedFd {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "socket(AF_XDP): {}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The program's return code for one frame, at least 14 bytes long (the kernel takes no shorter one).
#[track_caller]
pub fn run(steer: &Steer, frame: &[u8]) -> u32 {
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: frame.len() as u32,
        repeat: 1,
        ..Default::default()
    };
    // SAFETY: `data_in` is valid for `data_size_in` bytes and only read; no output is asked for.
    let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(steer.program().as_raw_fd(), &mut options) };
    assert_eq!(result, 0, "BPF_PROG_TEST_RUN of {} bytes: {}", frame.len(), std::io::Error::from_raw_os_error(-result));
    options.retval
}
