//! Where systems are compared: two namespaces and a veth pair, made anew for each system so that none finds another's leavings.
//!
//! ```text
//!   namespace "dut", core 1                namespace "peer", core 0
//!   system under load ── fwb0 ════ fwb1 ── generator
//!   198.18.0.1                             198.18.0.2        (RFC 2544's benchmarking range)
//! ```

use anyhow::{Context, Result, bail};
use framewire_tests::rig::{NetNs, Process};
use std::{
    fs::File,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::Command,
    time::Duration,
};

pub(crate) const DUT_INTERFACE: &str = "fwb0";
pub(crate) const DUT_ADDRESS: &str = "198.18.0.1";
pub(crate) const DUT_NETWORK: &str = "198.18.0.1/24";
pub(crate) const ECHO_PORT: &str = "7";
const DUT_MAC: &str = "02:00:00:00:00:01";
const PEER_INTERFACE: &str = "fwb1";
const PEER_ADDRESS: &str = "198.18.0.2";
const PEER_MAC: &str = "02:00:00:00:00:02";
const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Which core does what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) generator: usize,
    pub(crate) dut: usize,
}

/// Two connected namespaces; gone when dropped, with what runs in them.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) dut: NetNs,
    peer: NetNs,
    pub(crate) cores: Cores,
    program: PathBuf,
}

impl Bed {
    pub(crate) fn create(cores: Cores) -> Result<Self> {
        let (dut, peer) = (NetNs::create("dut")?, NetNs::create("peer")?);
        for ns in [&dut, &peer] {
            // No router solicitations among the packets that are counted.
            ns.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
        }
        let one_queue = ["numrxqueues", "1", "numtxqueues", "1"];
        let mut link = vec!["link", "add", DUT_INTERFACE, "address", DUT_MAC];
        link.extend(one_queue);
        link.extend(["type", "veth", "peer", "name", PEER_INTERFACE, "netns", peer.name(), "address", PEER_MAC]);
        link.extend(one_queue);
        dut.ip(&link)?;
        dut.ip(&["link", "set", DUT_INTERFACE, "up"])?;
        peer.ip(&["link", "set", PEER_INTERFACE, "up"])?;
        let program = std::env::current_exe().context("the path of this program")?;
        Ok(Self { dut, peer, cores, program })
    }

    /// Gives the kernel the address, and lets it know the generator's.
    pub(crate) fn give_address_to_kernel(&self) -> Result<()> {
        self.dut.ip(&["address", "add", DUT_NETWORK, "dev", DUT_INTERFACE])?;
        let neighbour =
            ["neighbour", "replace", PEER_ADDRESS, "lladdr", PEER_MAC, "dev", DUT_INTERFACE, "nud", "permanent"];
        self.dut.ip(&neighbour)?;
        // Without a program of its own the interface takes XDP frames only when it has NAPI, which GRO turns on (drivers/net/veth.c).
        self.dut.run("ethtool", &["-K", DUT_INTERFACE, "gro", "on"])?;
        Ok(())
    }

    /// This program in the system's namespace.
    pub(crate) fn own_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.dut.command(&self.program);
        command.args(arguments).args(["--core", &self.cores.dut.to_string()]);
        command
    }

    /// The generator's command.
    pub(crate) fn generator(&self) -> Command {
        let mut command = self.peer.command(&self.program);
        let core = self.cores.generator.to_string();
        let target = format!("{DUT_ADDRESS}:{ECHO_PORT}");
        command.args(["gen", "--json", "--interface", PEER_INTERFACE, "--core", &core]);
        command.args(["--target-mac", DUT_MAC, "--target", &target, "--source", &format!("{PEER_ADDRESS}:9000")]);
        command
    }
}

/// A system under load.
#[derive(Debug)]
pub(crate) struct Running {
    process: Process,
    /// What it said of itself when it was ready: modes bound and the like.
    pub(crate) about: String,
}

impl Running {
    /// Starts a command and waits until it prints a line with `ready`.
    pub(crate) fn start(command: Command, ready: &str) -> Result<Self> {
        let process = Process::spawn(prioritised(command))?;
        let about = process.wait_for(ready, START_TIMEOUT)?;
        Ok(Self { process, about })
    }

    /// Ends it as a user would.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.signal(libc::SIGINT);
        let status = self.process.wait(STOP_TIMEOUT)?;
        if !status.success() {
            bail!("it ended with {status}:\n{}", self.process.output());
        }
        Ok(())
    }
}

/// Gives the command a session of its own with the highest priority, so that other work on the machine disturbs it little, and has it killed
/// when this process dies. Where the rights are missing, it runs as it would have.
pub(crate) fn prioritised(mut command: Command) -> Command {
    let prepare = || {
        // SAFETY: three system calls that take integers.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::setsid();
            libc::setpriority(libc::PRIO_PROCESS, 0, -20);
        }
        // With autogroups (sched(7)) a nice value counts within its session only.
        if let Ok(mut file) = File::options().write(true).open("/proc/self/autogroup") {
            let _ = file.write_all(b"-20");
        }
        io::Result::Ok(())
    };
    // SAFETY: runs between fork and exec: system calls, and an `open` of a short path, which does not allocate.
    unsafe { command.pre_exec(prepare) };
    command
}
