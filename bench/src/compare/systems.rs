//! The systems that are compared, behind one trait.

use super::{
    Plan,
    bed::{Bed, DUT_ADDRESS, DUT_INTERFACE, DUT_NETWORK, ECHO_PORT, Running, Side},
};
use crate::{kernel_udp::Way, packet::Answer};
use anyhow::{Context, Result, ensure};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Our own, as it is called in reports.
pub(crate) const FRAMEWIRE: &str = "framewire";

/// Something that answers packets.
pub(crate) trait System: fmt::Debug {
    /// As it is called in reports.
    fn name(&self) -> &'static str;

    /// Why it cannot run on this machine, if so.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Starts it on the bed's system side; it answers when this returns.
    fn start(&self, bed: &Bed) -> Result<Running>;
}

/// Every system of a suite, base lines first.
pub(crate) fn of(plan: &Plan, answer: Answer) -> Vec<Box<dyn System>> {
    let framewire = Box::new(Framewire { appliance: Appliance::new(&plan.framewire), answer });
    match answer {
        Answer::Reflect => vec![Box::new(RawLoop { answer }), Box::new(TestpmdMacswap), framewire],
        Answer::Echo => {
            let kernel = [Way::Blocking, Way::Epoll, Way::IoUring, Way::Batched];
            let kernel = kernel.map(|way| Box::new(KernelUdp { way }) as Box<dyn System>);
            let mut all: Vec<Box<dyn System>> = vec![Box::new(RawLoop { answer })];
            all.extend(kernel);
            all.push(Box::new(SmoltcpPacket));
            all.extend(plan.netstack.clone().map(|netstack| Box::new(netstack) as Box<dyn System>));
            all.push(framewire);
            all
        }
    }
}

/// The raw AF_XDP loop of this program.
#[derive(Debug)]
struct RawLoop {
    answer: Answer,
}

impl System for RawLoop {
    fn name(&self) -> &'static str {
        "raw-loop"
    }

    fn start(&self, bed: &Bed) -> Result<Running> {
        let mut arguments = vec!["raw-loop", "--interface", DUT_INTERFACE];
        if self.answer == Answer::Echo {
            arguments.push("--udp-echo");
        }
        Running::start(bed.own_command(Side::Dut, &arguments), "ready")
    }
}

/// The kernel's sockets.
#[derive(Debug)]
struct KernelUdp {
    way: Way,
}

impl System for KernelUdp {
    fn name(&self) -> &'static str {
        match self.way {
            Way::Batched => "kernel-udp",
            Way::BatchedBlocking => "kernel-udp-batched-blocking",
            Way::Blocking => "kernel-udp-blocking",
            Way::Epoll => "kernel-udp-epoll",
            Way::IoUring => "kernel-udp-io-uring",
        }
    }

    fn start(&self, bed: &Bed) -> Result<Running> {
        bed.give_address_to_kernel(Side::Dut)?;
        // Without a program of its own the interface takes XDP frames only when it has NAPI, which GRO turns on (drivers/net/veth.c).
        bed.features(Side::Dut, &["gro", "on"])?;
        let listen = format!("{DUT_ADDRESS}:{ECHO_PORT}");
        let arguments = ["kernel-udp-echo", "--listen", &listen, "--way", self.way.name()];
        Running::start(bed.own_command(Side::Dut, &arguments), "ready")
    }
}

/// smoltcp on an AF_PACKET socket.
#[derive(Debug)]
struct SmoltcpPacket;

impl System for SmoltcpPacket {
    fn name(&self) -> &'static str {
        "smoltcp-af-packet"
    }

    fn start(&self, bed: &Bed) -> Result<Running> {
        // As for the kernel's sockets.
        bed.features(Side::Dut, &["gro", "on"])?;
        Running::start(bed.own_command(Side::Dut, &smoltcp_server(ECHO_PORT, "udp-echo")), "ready")
    }
}

/// Arguments of this program for smoltcp on the system's side.
pub(crate) fn smoltcp_server<'a>(port: &'a str, service: &'a str) -> [&'a str; 9] {
    let network = ["--interface", DUT_INTERFACE, "--address", DUT_NETWORK];
    ["smoltcp-server", network[0], network[1], network[2], network[3], "--port", port, "--service", service]
}

/// gVisor's netstack on an AF_PACKET socket, a program in Go (`bench/peers/netstack`).
#[derive(Clone, Debug)]
pub(crate) struct Netstack {
    program: PathBuf,
}

impl Netstack {
    pub(crate) fn new(program: PathBuf) -> Self {
        Self { program }
    }

    pub(crate) fn serve(&self, bed: &Bed, service: &str) -> Result<Running> {
        let mut command = bed.dut.command(&self.program);
        command.args(["--interface", DUT_INTERFACE, "--address", DUT_NETWORK, "--port", ECHO_PORT]);
        command.args(["--service", service, "--core", &bed.cores.dut.to_string()]);
        Running::start(command, "ready")
    }
}

impl System for Netstack {
    fn name(&self) -> &'static str {
        "gvisor-af-packet"
    }

    fn check(&self) -> Result<()> {
        let program = self.program.display();
        ensure!(self.program.is_file(), "there is no {program}: scripts/bench --peers all builds it");
        Ok(())
    }

    fn start(&self, bed: &Bed) -> Result<Running> {
        // As for the kernel's sockets.
        bed.features(Side::Dut, &["gro", "on"])?;
        self.serve(bed, "udp-echo")
    }
}

/// DPDK's testpmd on its af_xdp driver.
#[derive(Debug)]
struct TestpmdMacswap;

impl System for TestpmdMacswap {
    fn name(&self) -> &'static str {
        "testpmd-macswap"
    }

    fn check(&self) -> Result<()> {
        let found = Command::new("dpdk-testpmd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        ensure!(
            found.is_ok(),
            "dpdk-testpmd is not installed (Debian: dpdk, librte-net-af-xdp23; scripts/bench does it)"
        );
        Ok(())
    }

    fn start(&self, bed: &Bed) -> Result<Running> {
        let cores = format!("{},{}", bed.cores.generator, bed.cores.dut);
        let mut command = bed.dut.command("dpdk-testpmd");
        // The main thread, which sleeps, shares the generator's core; the one that forwards has its own.
        command.args(["-l", &cores, "--main-lcore", &bed.cores.generator.to_string()]);
        command.args(["--no-huge", "-m", "512", "--no-pci", "--no-telemetry", "--no-shconf"]);
        command.args(["--vdev", &format!("net_af_xdp0,iface={DUT_INTERFACE}")]);
        command.args(["--", "--forward-mode=macswap", "--nb-cores=1", "--burst=64"]);
        // Fewer buffers than the default, which do not fit 512 MiB. With a period it does not read its standard input.
        command.args(["--total-num-mbufs=16384", "--stats-period", "3600"]);
        // Its first statistics: it forwards by then.
        let mut running = Running::start(command, "NIC statistics")?;
        running.about = "net_af_xdp driver with the program and the bind flags that it chooses, bursts of 64".into();
        Ok(running)
    }
}

/// `framewire serve`, on the system's side.
#[derive(Clone, Debug)]
pub(crate) struct Appliance {
    program: PathBuf,
}

impl Appliance {
    pub(crate) fn new(program: &Path) -> Self {
        Self { program: program.to_owned() }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let program = self.program.display();
        ensure!(
            self.program.is_file(),
            "there is no {program}: cargo build --release -p framewire, or --framewire PATH"
        );
        Ok(())
    }

    /// Starts it with these lines of TOML in `[[interface]]` and `[[service]]`.
    pub(crate) fn start(&self, bed: &Bed, interface: &str, service: &str) -> Result<Running> {
        let configuration = format!(
            "[[interface]]\nname = \"{DUT_INTERFACE}\"\n{interface}\n\n[[service]]\n{service}\n\n\
             [worker]\ncores = [{}]\nidle = \"spin\"\n",
            bed.cores.dut
        );
        let file = std::env::temp_dir().join(format!("{}.toml", bed.dut.name()));
        fs::write(&file, configuration).with_context(|| format!("writing {}", file.display()))?;
        let mut command = bed.dut.command(&self.program);
        command.arg("serve").arg("-c").arg(&file);
        let running = Running::start(command, "ready");
        let _ = fs::remove_file(&file);
        let mut running = running?;
        // Its banner tells what was bound.
        if let Some(worker) = running.line_with("worker 0: ") {
            running.about = worker;
        }
        Ok(running)
    }
}

/// The appliance with one of its services for packets.
#[derive(Debug)]
struct Framewire {
    appliance: Appliance,
    answer: Answer,
}

impl System for Framewire {
    fn name(&self) -> &'static str {
        FRAMEWIRE
    }

    fn check(&self) -> Result<()> {
        self.appliance.check()
    }

    fn start(&self, bed: &Bed) -> Result<Running> {
        match self.answer {
            Answer::Reflect => self.appliance.start(bed, "steering = \"everything\"", "kind = \"reflect\""),
            Answer::Echo => {
                let service = format!("kind = \"udp-echo\"\nlisten = \"{DUT_ADDRESS}:{ECHO_PORT}\"");
                self.appliance.start(bed, &format!("addresses = [\"{DUT_NETWORK}\"]"), &service)
            }
        }
    }
}
