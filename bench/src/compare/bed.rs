//! Where systems are compared: two namespaces and a veth pair, made anew for each system so that none finds another's leavings.
//!
//! ```text
//!   namespace "dut", core 1                namespace "peer", core 0
//!   system under load ── fwb0 ════ fwb1 ── generator or client
//!   198.18.0.1                             198.18.0.2        (RFC 2544's benchmarking range)
//! ```

use anyhow::{Context, Result, bail, ensure};
use framewire_tests::rig::{NetNs, Process};
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::Command,
    time::Duration,
};

pub(crate) const DUT_INTERFACE: &str = Side::Dut.interface();
pub(crate) const DUT_ADDRESS: &str = Side::Dut.address();
pub(crate) const DUT_NETWORK: &str = Side::Dut.network();
pub(crate) const ECHO_PORT: &str = "7";
const MTU: u32 = 1500;
const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Which core does what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) generator: usize,
    pub(crate) dut: usize,
}

/// One end of the veth pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The system under load.
    Dut,
    /// The generator, or the client.
    Peer,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Dut, Self::Peer];

    pub(crate) const fn interface(self) -> &'static str {
        match self {
            Self::Dut => "fwb0",
            Self::Peer => "fwb1",
        }
    }

    pub(crate) const fn address(self) -> &'static str {
        match self {
            Self::Dut => "198.18.0.1",
            Self::Peer => "198.18.0.2",
        }
    }

    pub(crate) const fn network(self) -> &'static str {
        match self {
            Self::Dut => "198.18.0.1/24",
            Self::Peer => "198.18.0.2/24",
        }
    }

    const fn mac(self) -> &'static str {
        match self {
            Self::Dut => "02:00:00:00:00:01",
            Self::Peer => "02:00:00:00:00:02",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Dut => Self::Peer,
            Self::Peer => Self::Dut,
        }
    }
}

/// Two connected namespaces; gone when dropped, with what runs in them.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) dut: NetNs,
    pub(crate) peer: NetNs,
    pub(crate) cores: Cores,
    program: PathBuf,
}

impl Bed {
    /// With Ethernet's usual MTU.
    pub(crate) fn create(cores: Cores) -> Result<Self> {
        Self::with_mtu(cores, MTU)
    }

    pub(crate) fn with_mtu(cores: Cores, mtu: u32) -> Result<Self> {
        let (dut, peer) = (NetNs::create("dut")?, NetNs::create("peer")?);
        for ns in [&dut, &peer] {
            // No router solicitations among the packets that are counted.
            ns.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
        }
        let mtu = mtu.to_string();
        let one_queue = ["mtu", &mtu, "numrxqueues", "1", "numtxqueues", "1"];
        let mut link = vec!["link", "add", DUT_INTERFACE, "address", Side::Dut.mac()];
        link.extend(one_queue);
        link.extend(["type", "veth", "peer", "name", Side::Peer.interface(), "netns", peer.name()]);
        link.extend(["address", Side::Peer.mac()]);
        link.extend(one_queue);
        dut.ip(&link)?;
        let program = std::env::current_exe().context("the path of this program")?;
        let bed = Self { dut, peer, cores, program };
        for side in Side::BOTH {
            bed.ns(side).ip(&["link", "set", side.interface(), "up"])?;
        }
        Ok(bed)
    }

    pub(crate) fn ns(&self, side: Side) -> &NetNs {
        match side {
            Side::Dut => &self.dut,
            Side::Peer => &self.peer,
        }
    }

    fn core(&self, side: Side) -> usize {
        match side {
            Side::Dut => self.cores.dut,
            Side::Peer => self.cores.generator,
        }
    }

    /// Gives the kernel of this side its address, and lets it know the other side's.
    pub(crate) fn give_address_to_kernel(&self, side: Side) -> Result<()> {
        let (ns, interface, other) = (self.ns(side), side.interface(), side.other());
        ns.ip(&["address", "add", side.network(), "dev", interface])?;
        let neighbour = ["neighbour", "replace", other.address(), "lladdr", other.mac()];
        ns.ip(&[&neighbour[..], &["dev", interface, "nud", "permanent"]].concat())?;
        Ok(())
    }

    /// Sets features of this side's interface as ethtool(8) names them.
    pub(crate) fn features(&self, side: Side, features: &[&str]) -> Result<()> {
        self.ns(side).run("ethtool", &[&["-K", side.interface()], features].concat())?;
        Ok(())
    }

    /// Any program, kept on this side's core.
    pub(crate) fn command(&self, side: Side, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.ns(side).command("taskset");
        command.args(["-c", &self.core(side).to_string()]).arg(program);
        command
    }

    /// This program on one side.
    pub(crate) fn own_command(&self, side: Side, arguments: &[&str]) -> Command {
        let mut command = self.ns(side).command(&self.program);
        command.args(arguments).args(["--core", &self.core(side).to_string()]);
        command
    }

    /// The generator's command.
    pub(crate) fn generator(&self) -> Command {
        let (target, source) = (format!("{DUT_ADDRESS}:{ECHO_PORT}"), format!("{}:9000", Side::Peer.address()));
        let to = ["--target-mac", Side::Dut.mac(), "--target", &target, "--source", &source];
        let arguments = [&["flood", "--json", "--interface", Side::Peer.interface()], &to[..]].concat();
        self.own_command(Side::Peer, &arguments)
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
        let about = process.wait_for(ready, START_TIMEOUT)?.trim_start_matches("ready: ").to_owned();
        Ok(Self { process, about })
    }

    /// The first line that it has printed with this in it.
    pub(crate) fn line_with(&self, needle: &str) -> Option<String> {
        self.process.output().lines().find(|line| line.contains(needle)).map(|line| line.trim().to_owned())
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

/// Runs a command to its end; what it printed.
pub(crate) fn run_to_end(command: Command, patience: Duration) -> Result<String> {
    let mut process = Process::spawn(prioritised(command))?;
    let status = process.wait(patience)?;
    let output = process.output();
    ensure!(status.success(), "it ended with {status}:\n{output}");
    Ok(output)
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
