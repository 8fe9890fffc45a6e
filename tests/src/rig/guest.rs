//! A virtual machine with the appliance in it: QEMU, emulated in software, with the kernel and the initramfs that `scripts/vm-test` makes.
//!
//! ```text
//!  QEMU                                        namespace fw-PID-N-peer
//! +-----------------------------+             +------------------------------+
//! | engine (AF_XDP) 10.77.0.1   | virtio-net  | Linux stack 10.77.0.2/24     |
//! |  Linux, its driver       fw0 =========== tap peer0                       |
//! |  busybox sh                 |             | ping, UDP and TCP clients    |
//! +---- virtio-serial ----------+             +------------------------------+
//!            commands, output
//! ```
//!
//! The guest runs one shell that reads commands from a virtio-serial port; its console is kept as the output of the QEMU process. Zero-copy needs
//! `iommu_platform=on`: without it the driver has no DMA device, and refuses (`virtnet_xsk_pool_enable` in `drivers/net/virtio_net.c`).

use std::{
    env,
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::{
        net::{UnixListener, UnixStream},
        process::ExitStatusExt,
    },
    process::ExitStatus,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{ENGINE_INTERFACE, ENGINE_MAC, NetNs, PEER_INTERFACE, PEER_V4, PREFIX_V4, Process, Report, TempDir};

/// Paths of the kernel and the initramfs, set by `scripts/vm-test`.
const KERNEL: &str = "FRAMEWIRE_VM_KERNEL";
const INITRAMFS: &str = "FRAMEWIRE_VM_INITRAMFS";
/// Emulated, beside other work on the host's cores. Booting takes 12 s on an idle machine.
const BOOT_TIMEOUT: Duration = Duration::from_secs(180);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
const MEMORY_MIB: u32 = 512;

/// A namespace whose kernel is the guest's peer on the wire, with a tap for one guest.
///
/// # Errors
/// The first command that fails.
pub fn guest_peer(queues: u32) -> Result<NetNs> {
    let peer = NetNs::create("peer")?;
    for group in ["all", "default"] {
        peer.sysctl(&format!("net.ipv6.conf.{group}.disable_ipv6"), "1")?;
    }
    let mut tap = vec!["tuntap", "add", "dev", PEER_INTERFACE, "mode", "tap"];
    if queues > 1 {
        tap.push("multi_queue");
    }
    peer.ip(&tap)?;
    peer.ip(&["address", "add", &format!("{PEER_V4}/{PREFIX_V4}"), "dev", PEER_INTERFACE])?;
    peer.ip(&["link", "set", PEER_INTERFACE, "up"])?;
    Ok(peer)
}

/// What the guest's network interface is joined to.
#[derive(Debug, Clone, Copy)]
pub enum Wire {
    /// The tap of [`guest_peer`], with so many queues.
    Tap(u32),
    /// Another guest, which connects to this port of the namespace's loopback.
    Listen(u16),
    /// Another guest, which listens there.
    Connect(u16),
}

impl Wire {
    fn arguments(self, mac: [u8; 6]) -> [String; 4] {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        let (netdev, queues) = match self {
            Self::Tap(queues) => {
                let several = if queues > 1 { format!(",queues={queues}") } else { String::new() };
                (format!("tap,ifname={PEER_INTERFACE},script=no,downscript=no{several}"), queues)
            }
            Self::Listen(port) => (format!("socket,listen=127.0.0.1:{port}"), 1),
            Self::Connect(port) => (format!("socket,connect=127.0.0.1:{port}"), 1),
        };
        // Interrupts for each queue's two directions, the configuration and the control queue.
        let several = if queues > 1 { format!(",mq=on,vectors={}", 2 * queues + 2) } else { String::new() };
        let device = format!(
            "virtio-net-pci,netdev=wire,mac={mac},iommu_platform=on,disable-legacy=on,rx_queue_size=1024,romfile={several}"
        );
        ["-netdev".into(), format!("{netdev},id=wire"), "-device".into(), device]
    }
}

/// A running guest; killed when dropped.
#[derive(Debug)]
pub struct Guest {
    qemu: Process,
    control: Mutex<Control>,
    _folder: TempDir,
}

#[derive(Debug)]
struct Control {
    stream: BufReader<UnixStream>,
    commands: u32,
}

impl Guest {
    /// Boots a guest on the tap of `peer`, with as many cores as queues, and waits until it takes commands.
    ///
    /// # Errors
    /// No QEMU, kernel or initramfs (`scripts/vm-test` has them), or the guest does not come up; the error holds its console.
    pub fn boot(peer: &NetNs, queues: u32) -> Result<Self> {
        Self::boot_on(peer, Wire::Tap(queues), ENGINE_MAC)
    }

    /// As [`Self::boot`], on any wire and with any address.
    ///
    /// # Errors
    /// As [`Self::boot`].
    pub fn boot_on(ns: &NetNs, wire: Wire, mac: [u8; 6]) -> Result<Self> {
        let file = |name| env::var(name).with_context(|| format!("{name} is not set: this runs in scripts/vm-test"));
        let (kernel, initramfs) = (file(KERNEL)?, file(INITRAMFS)?);
        let folder = TempDir::create().context("cannot make a folder for the guest's socket")?;
        let socket = folder.path().join("control");
        let listener = UnixListener::bind(&socket).context("cannot listen for the guest")?;
        listener.set_nonblocking(true)?;

        let cores = if let Wire::Tap(queues) = wire { queues } else { 1 };
        let mut command = ns.command("qemu-system-x86_64");
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "q35"]);
        command.args(["-accel", "tcg", "-cpu", "max", "-m", &MEMORY_MIB.to_string(), "-smp", &cores.to_string()]);
        // Beside other work the emulated timer may be too late for the kernel's test of its interrupt, which ends in a panic.
        // `virtio_net` gives the device the address of a static empty header (`xsk_hdr`) for what AF_XDP sends zero-copy. In a module that comes to a wrong physical
        // address: with a kernel at random addresses sometimes of memory in use, and the tap drops whatever has such a header. At fixed ones it is beyond this
        // guest's memory, and reads as zeros.
        let options = "console=ttyS0 panic=-1 quiet no_timer_check nokaslr";
        command.args(["-kernel", &kernel, "-initrd", &initramfs, "-append", options]);
        command.args(["-serial", "stdio", "-device", "virtio-serial-pci"]);
        command.arg("-chardev").arg(format!("socket,id=control,path={}", socket.display()));
        command.args(["-device", "virtserialport,chardev=control,name=control"]);
        command.args(wire.arguments(mac));
        let mut qemu = Process::spawn(command)?;

        let begun = Instant::now();
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock && begun.elapsed() < COMMAND_TIMEOUT => {}
                Err(error) => bail!("QEMU does not start: {error}; it wrote:\n{}", qemu.output()),
            }
            if qemu.has_ended() {
                bail!("QEMU does not start; it wrote:\n{}", qemu.output());
            }
            thread::sleep(Duration::from_millis(20));
        };
        stream.set_nonblocking(false)?;
        let control = Mutex::new(Control { stream: BufReader::new(stream), commands: 0 });
        let guest = Self { qemu, control, _folder: folder };
        guest.run_within("uname -r", BOOT_TIMEOUT).context("the guest does not come up")?;
        Ok(guest)
    }

    /// Runs a shell command in the guest and returns its output, both streams.
    ///
    /// # Errors
    /// It does not end with 0 within two minutes; the error holds its output or the guest's console.
    pub fn run(&self, command: &str) -> Result<String> {
        self.run_within(command, COMMAND_TIMEOUT)
    }

    fn run_within(&self, command: &str, timeout: Duration) -> Result<String> {
        let (code, output) = self.attempt(command, timeout)?;
        ensure!(code == 0, "in the guest: {command}: exit code {code}; it wrote:\n{output}");
        Ok(output)
    }

    fn attempt(&self, command: &str, timeout: Duration) -> Result<(i32, String)> {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        control.attempt(command, timeout).with_context(|| {
            format!("in the guest: {command}: no answer within {timeout:?}; its console:\n{}", self.qemu.output())
        })
    }

    /// Runs `framewire serve` in the guest with this configuration (TOML), and waits until it is ready.
    ///
    /// # Errors
    /// It ends, or says nothing within 50 s of its own clock; the error holds what it printed.
    pub fn start_appliance(&self, config: &str) -> Result<GuestAppliance<'_>> {
        let number = super::next_number();
        self.run(&format!("cat >{number}.toml <<'END-OF-FILE'\n{config}\nEND-OF-FILE"))?;
        let pid = self.run(&format!(
            "framewire serve -c {number}.toml --stats-json {number}.json >{number}.log 2>&1 </dev/null & echo $!"
        ))?;
        let pid = pid.trim().parse().with_context(|| format!("not a process id: {pid:?}"))?;
        let appliance = GuestAppliance { guest: self, pid, number };
        // Its own time-out, as nothing else can be asked meanwhile. A process that has ended has no program, but still its number.
        let wait = format!(
            "for i in $(seq 500); do grep -q '^ready' {number}.log && break; [ -e /proc/{pid}/exe ] || break; usleep 100000; done; \
             grep '^ready' {number}.log"
        );
        self.run(&wait).with_context(|| format!("the appliance wrote:\n{}", appliance.output()))?;
        Ok(appliance)
    }

    /// What QEMU and the guest's console wrote.
    #[must_use]
    pub fn console(&self) -> String {
        self.qemu.output()
    }
}

impl Control {
    fn attempt(&mut self, command: &str, timeout: Duration) -> Result<(i32, String)> {
        self.commands += 1;
        let mark = format!("=== end of command {}:", self.commands);
        let stream = self.stream.get_mut();
        stream.set_write_timeout(Some(timeout))?;
        stream.write_all(format!("{{\n{command}\n}}; printf '\\n{mark} %s\\n' $?\n").as_bytes())?;
        let deadline = Instant::now() + timeout;
        let mut output = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.get_ref().set_read_timeout(Some(left))?;
            let mut line = Vec::new();
            ensure!(self.stream.read_until(b'\n', &mut line)? > 0, "the guest is gone");
            if let Some(code) = std::str::from_utf8(&line).ok().and_then(|line| line.strip_prefix(&mark)) {
                let code = code.trim().parse().map_err(|_| anyhow!("exit code {code:?}"))?;
                // The line break before the mark is ours.
                output.pop();
                return Ok((code, String::from_utf8_lossy(&output).into_owned()));
            }
            output.append(&mut line);
        }
    }
}

/// `framewire serve` running in a guest.
#[derive(Debug)]
pub struct GuestAppliance<'a> {
    guest: &'a Guest,
    pid: u32,
    number: u32,
}

impl GuestAppliance<'_> {
    /// Everything it printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.guest.run(&format!("cat {}.log", self.number)).unwrap_or_else(|error| format!("{error:#}"))
    }

    /// What it and its kernel say of themselves at the moment: for a test that fails.
    #[must_use]
    pub fn state(&self) -> String {
        let asked = self.guest.run(&format!(
            "kill -USR1 {0}; sleep 1; ip -s link show {ENGINE_INTERFACE}; grep virtio /proc/interrupts; cat /proc/{0}/wchan; dmesg | tail -n 20",
            self.pid
        ));
        format!("{}\n{}", asked.unwrap_or_else(|error| format!("{error:#}")), self.output())
    }

    /// Asks for its counters (SIGUSR1) until a line has `name` and `value` in front.
    ///
    /// # Errors
    /// None has within `timeout`; the error holds its output.
    pub fn wait_for_counter(&self, name: &str, value: &str, timeout: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.guest.run(&format!("kill -USR1 {}; usleep 300000", self.pid))?;
            let output = self.output();
            if output.lines().any(|line| line.split_whitespace().take(2).eq([name, value])) {
                return Ok(());
            }
            let last = output.rsplit("== ").next().unwrap_or_default();
            ensure!(begun.elapsed() < timeout, "no {name} = {value} within {timeout:?}; it wrote last:\n{last}");
        }
    }

    /// SIGTERM; then its exit status, its counters and its output.
    ///
    /// # Errors
    /// It does not end within two minutes, or leaves no counters.
    pub fn stop(self) -> Result<Report> {
        let Self { guest, pid, number } = self;
        let (code, _) = guest.attempt(&format!("kill -TERM {pid}; wait {pid}"), COMMAND_TIMEOUT)?;
        let output = self.output();
        let text = guest
            .run(&format!("cat {number}.json"))
            .with_context(|| format!("exit code {code}, no counters; it wrote:\n{output}"))?;
        let stats = serde_json::from_str(&text).with_context(|| format!("counters that are not JSON: {text}"))?;
        Ok(Report { status: ExitStatus::from_raw(code << 8), stats, output })
    }

    /// SIGKILL: no clean-up of any kind.
    ///
    /// # Errors
    /// It had ended before.
    pub fn kill(self) -> Result<()> {
        // 128 and the signal's number, says the shell.
        let (code, output) =
            self.guest.attempt(&format!("kill -KILL {pid}; wait {pid}", pid = self.pid), COMMAND_TIMEOUT)?;
        ensure!(code == 128 + libc::SIGKILL, "had ended before it was killed: {code} {output}");
        Ok(())
    }
}
