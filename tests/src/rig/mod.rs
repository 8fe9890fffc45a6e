//! Two network namespaces, a veth pair between them, and everything a test starts in them.
//!
//! ```text
//!  namespace fw-PID-N-eng                       namespace fw-PID-N-peer
//! +-----------------------------+              +------------------------------+
//! | engine (AF_XDP) 10.77.0.1   |     veth     | Linux stack 10.77.0.2/24     |
//! |              fd77::1     fw0 ============ peer0        fd77::2/64         |
//! | kernel, on request:         |   N queues   | ping, UDP and TCP clients    |
//! |      10.77.0.3, fd77::3     |   MTU        |                              |
//! +-----------------------------+              +------------------------------+
//! ```
//!
//! The kernel of the engine's side does **not** have the engine's address. Nothing appears in the namespace that the test
//! itself runs in. Every value here cleans up when dropped, also while a test unwinds; what a killed test left is removed
//! by the next one ([`NetNs::create`]).
//!
//! What was measured on Linux 6.18, and why the defaults of [`TopologyBuilder`] are what they are:
//!
//! * A kernel peer leaves `CHECKSUM_PARTIAL` on veth: the bytes hold only the pseudo-header sum. `ethtool -K peer0 tx off`
//!   makes them whole, and turns off TSO and UDP GSO with it. GSO super-frames are then cut before they reach the link.
//! * AF_XDP sends in copy mode enter `ndo_start_xmit` as an skb: they reach the peer's stack with or without NAPI there.
//!   `XDP_TX` and redirects into the veth do not: without NAPI on the peer each is counted in `xdp_tx_errors` and dropped. GRO
//!   on the peer is enough to give it NAPI; no program is needed.
//! * An skb goes through the peer's NAPI only if the sending veth has TSO off. That moves work, and costs about a sixth of the
//!   packet rate: the engine's side is left as it is.
//! * A program that is not `xdp.frags` is refused with `ERANGE` on an MTU of 9,000.

mod appliance;
mod c;
mod guest;
mod load;
mod netns;
mod packet;
mod process;
mod report;
mod tcp;
mod topology;
mod udp;

#[cfg(test)]
mod tests;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

pub use appliance::{Appliance, ECHO, configuration, framewire_binary};
pub use c::build_c;
pub use guest::{Guest, GuestAppliance, Wire, guest_peer};
pub use load::{EchoLoad, LOAD_WINDOW};
pub use netns::{NetNs, PingReport};
pub use packet::{PacketSocket, error_of_protocol};
pub use process::Process;
pub use report::Report;
pub use tcp::{Counting, StreamExt, StreamLoad, allow_open_files};
pub use topology::{
    ENGINE_INTERFACE, ENGINE_MAC, ENGINE_V4, ENGINE_V6, HOST_V4, HOST_V6, PEER_INTERFACE, PEER_MAC, PEER_V4, PEER_V6,
    PREFIX_V4, PREFIX_V6, SECOND_INTERFACE, SECOND_V4, Topology, TopologyBuilder,
};
pub use udp::{UdpClient, pattern};

/// Set to `1`, a test that lacks a capability fails. `scripts/test` sets it.
pub const NO_SKIP: &str = "FRAMEWIRE_TEST_NO_SKIP";

/// What the rig needs: capability numbers from `linux/capability.h`.
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (21, "CAP_SYS_ADMIN")];

/// Whether this process can make namespaces. Where it cannot, prints why and returns `false`, so that the test returns;
/// panics instead when [`NO_SKIP`] is `1`.
///
/// ```no_run
/// if !framewire_tests::rig::require_root() {
///     return;
/// }
/// ```
#[must_use]
pub fn require_root() -> bool {
    let Err(reason) = privileges() else { return true };
    assert!(env::var_os(NO_SKIP).is_none_or(|v| v != "1"), "{NO_SKIP}=1, and this test cannot run: {reason}");
    eprintln!("SKIPPED: {reason}; run as root, or see scripts/test");
    false
}

fn privileges() -> Result<(), String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|e| format!("cannot read /proc/self/status: {e}"))?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .ok_or("no CapEff in /proc/self/status")?;
    let missing: Vec<_> =
        CAPABILITIES.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        return Err(format!("missing {}", missing.join(", ")));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    match ["ip", "ethtool", "ping"].iter().find(|tool| !env::split_paths(&path).any(|dir| dir.join(tool).exists())) {
        None => Ok(()),
        Some(tool) => Err(format!("`{tool}` is not installed (scripts/packages lists what is needed)")),
    }
}

/// A number that no other call in this process has had: namespace and folder names are made from it and the process id.
fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A folder that is removed, with what it holds, when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes a new folder in the system's place for temporary files.
    ///
    /// # Errors
    /// Whatever `mkdir` refuses.
    pub fn create() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("framewire-{}-{}", std::process::id(), next_number()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
