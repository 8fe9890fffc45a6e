//! Receive work (NAPI) in kernel threads on the workers' cores (`Documentation/networking/napi.rst`, "Threaded NAPI").
//!
//! Usually it runs in the softirq of whoever rings the device. With veth that is the sender: its core does the receiver's work too, after each single
//! packet. In a thread of its own the work is done in batches, on the core of the worker that wants the packets, and the sender's core is free to send.

use super::netlink::{Netdevs, attribute};
use std::{fs, io, mem};

const NETDEV_CMD_NAPI_GET: u8 = 11;
const NETDEV_CMD_NAPI_SET: u8 = 14;
const NETDEV_A_NAPI_IFINDEX: u16 = 1;
const NETDEV_A_NAPI_ID: u16 = 2;
const NETDEV_A_NAPI_PID: u16 = 4;
/// Linux 6.17.
const NETDEV_A_NAPI_THREADED: u16 = 8;

/// Above every ordinary task: a worker that spins gives way at once.
const PRIORITY: libc::c_int = 1;

/// An interface whose receive work runs in threads. Dropping it gives the work back to the softirq.
#[derive(Debug)]
pub struct NapiThreads {
    netdevs: Netdevs,
    napis: Vec<u64>,
}

/// Why an interface's receive work could not be moved into threads.
#[derive(Debug, thiserror::Error)]
#[error("no NAPI threads: {call}: {source}: {advice}")]
pub struct NapiError {
    /// What was asked of the kernel.
    pub call: &'static str,
    /// What it said.
    pub source: io::Error,
    /// What to do.
    pub advice: &'static str,
}

impl NapiThreads {
    /// Moves the receive work of queue `i` into a thread on `cores[i]`, with real-time priority; on any core where `cores` ends.
    ///
    /// To be called once the XDP program is attached, since veth has no NAPI before, in the interface's network namespace.
    ///
    /// # Errors
    /// Linux 6.17 is needed, CAP_NET_ADMIN, and CAP_SYS_NICE for the priority.
    pub fn start(ifindex: u32, cores: &[usize]) -> Result<Self, NapiError> {
        let refused = |call, advice| move |source| NapiError { call, source, advice };
        let family = "the kernel's netlink family \"netdev\" is needed (Linux 6.3)";
        let netdevs = Netdevs::open().map_err(refused("netlink", family))?;
        let mut this = Self { netdevs, napis: Vec::new() };
        let mut found = this.list(ifindex)?;
        if found.is_empty() {
            let none = io::Error::from_raw_os_error(libc::ENOENT);
            return Err(refused("NAPI_GET", "the driver has no NAPI for this interface")(none));
        }
        for &(id, _) in &found {
            let attributes =
                [(NETDEV_A_NAPI_ID, &(id as u32).to_ne_bytes()[..]), (NETDEV_A_NAPI_THREADED, &[1, 0, 0, 0])];
            this.netdevs
                .tell(NETDEV_CMD_NAPI_SET, &attributes)
                .map_err(refused("NAPI_SET", "Linux 6.17 and CAP_NET_ADMIN are needed"))?;
            this.napis.push(id);
        }
        found = this.list(ifindex)?;
        // Drivers add the NAPI of each queue in the queues' order, and numbers grow (`napi_hash_add`).
        found.sort_unstable();
        for (queue, (_, pid)) in found.into_iter().enumerate() {
            settle(pid, cores.get(queue).copied())?;
        }
        Ok(this)
    }

    /// Number and thread of each NAPI instance.
    fn list(&self, ifindex: u32) -> Result<Vec<(u64, Option<i32>)>, NapiError> {
        let mut found = Vec::new();
        self.netdevs
            .list(NETDEV_CMD_NAPI_GET, &[(NETDEV_A_NAPI_IFINDEX, &ifindex.to_ne_bytes())], |entry| {
                let pid = attribute(entry, NETDEV_A_NAPI_PID).and_then(|pid| i32::try_from(pid).ok());
                found.extend(attribute(entry, NETDEV_A_NAPI_ID).map(|id| (id, pid)));
            })
            .map_err(|source| NapiError { call: "NAPI_GET", source, advice: "Linux 6.8 is needed" })?;
        Ok(found)
    }
}

impl Drop for NapiThreads {
    fn drop(&mut self) {
        for &id in &self.napis {
            let attributes = [(NETDEV_A_NAPI_ID, &(id as u32).to_ne_bytes()[..]), (NETDEV_A_NAPI_THREADED, &[0; 4])];
            // An interface that is gone has taken its threads with it.
            let _ = self.netdevs.tell(NETDEV_CMD_NAPI_SET, &attributes);
        }
    }
}

/// Gives a NAPI thread its priority and its core.
fn settle(pid: Option<i32>, core: Option<usize>) -> Result<(), NapiError> {
    let refused = |call, advice| move |source| NapiError { call, source, advice };
    // The kernel's number is that of the first PID namespace; in another it may be somebody else's.
    let is_napi =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("napi/"));
    let Some(pid) = pid.filter(is_napi) else {
        let hidden = io::Error::from_raw_os_error(libc::ESRCH);
        return Err(refused("NAPI_GET", "the kernel's threads must be visible: run in the host's PID namespace")(
            hidden,
        ));
    };
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the pointer is to a `sched_param` that outlives the call.
    if unsafe { libc::sched_setscheduler(pid, libc::SCHED_FIFO, &raw const parameters) } != 0 {
        return Err(refused("sched_setscheduler(SCHED_FIFO)", "CAP_SYS_NICE is needed")(io::Error::last_os_error()));
    }
    let Some(core) = core else { return Ok(()) };
    // SAFETY: all-zero bytes are an empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    if core >= libc::CPU_SETSIZE as usize {
        let invalid = io::Error::from_raw_os_error(libc::EINVAL);
        return Err(refused("sched_setaffinity", "the core's number is beyond 1023")(invalid));
    }
    // SAFETY: `core` is within the set; pointer and size describe it.
    let rc = unsafe {
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(pid, size_of_val(&set), &raw const set)
    };
    if rc != 0 {
        return Err(refused("sched_setaffinity", "no such core")(io::Error::last_os_error()));
    }
    Ok(())
}
