//! One network namespace: made, entered, and removed with everything in it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    panic,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::tcp::force_receive_buffer;

/// Where iproute2 keeps named namespaces.
const RUN_DIR: &str = "/run/netns";
/// Namespace names are `fw-<pid>-<number>-<label>`: whose process is gone can be swept.
const PREFIX: &str = "fw-";

/// A network namespace with a name of its own; removed when dropped, with the processes still in it.
#[derive(Debug)]
pub struct NetNs {
    name: String,
    file: File,
}

impl NetNs {
    /// Makes a namespace named after this process, a number and `label`, with `lo` up. The first call in a process also removes
    /// namespaces that dead test processes left.
    ///
    /// # Errors
    /// `ip netns` refuses: no CAP_SYS_ADMIN, or no iproute2.
    pub fn create(label: &str) -> Result<Self> {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(|| {
            sweep();
        });
        let name = format!("{PREFIX}{}-{}-{label}", std::process::id(), super::next_number());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        // From here on, dropping the value removes the name.
        let file = File::open(Path::new(RUN_DIR).join(&name));
        let file = file.with_context(|| format!("cannot open the namespace {name}")).inspect_err(|_| remove(&name))?;
        let ns = Self { name, file };
        ns.ip(&["link", "set", "lo", "up"])?;
        Ok(ns)
    }

    /// The name, for `ip netns exec NAME …` by hand.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `f` inside the namespace, on a thread that ends with it. A socket that `f` returns stays in the namespace. `/sys` still shows
    /// the caller's interfaces; `/proc/sys/net` and `/proc/thread-self/net` show the namespace's. A panic in `f` is passed on.
    ///
    /// # Panics
    /// When `f` does, or when the kernel refuses `setns` (no CAP_SYS_ADMIN).
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    // SAFETY: setns reads its two integers only; `self.file` keeps the descriptor open, and the thread that is moved
                    // is this one alone.
                    let moved = unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNET) };
                    assert!(moved == 0, "setns({}): {}", self.name, io::Error::last_os_error());
                    f()
                })
                .join()
                .unwrap_or_else(|payload| panic::resume_unwind(payload))
        })
    }

    /// A command that will run inside the namespace, with a `/sys` that shows it (by `ip netns exec`, which replaces itself: the
    /// child's process id is the program's).
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a command inside the namespace to its end and returns what it wrote to standard output.
    ///
    /// # Errors
    /// It cannot start or does not exit with 0; the error holds the command and what it wrote to standard error.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        run(self.command(program).args(args))
    }

    /// `ip -n NAME ARGS`.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.name]).args(args))
    }

    /// Sets a sysctl of the namespace, e.g. `net.ipv4.tcp_congestion_control`.
    ///
    /// # Errors
    /// There is no such key here, or the kernel refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys").join(key.replace('.', "/"));
        self.enter(|| fs::write(path, value)).with_context(|| format!("sysctl {key}={value} in {}", self.name))
    }

    /// A UDP socket bound inside the namespace.
    ///
    /// # Errors
    /// Whatever `bind` refuses.
    pub fn udp(&self, address: impl Into<SocketAddr>) -> io::Result<UdpSocket> {
        let address = address.into();
        self.enter(|| UdpSocket::bind(address))
    }

    /// A UDP socket of this namespace that waits so long for each datagram and holds 16 MiB of them: its reader may have to wait for a core.
    ///
    /// # Errors
    /// As [`Self::udp`], and whatever `SO_RCVBUFFORCE` refuses (no CAP_NET_ADMIN).
    pub fn udp_sink(&self, address: impl Into<SocketAddr>, timeout: Duration) -> io::Result<UdpSocket> {
        let socket = self.udp(address)?;
        socket.set_read_timeout(Some(timeout))?;
        force_receive_buffer(&socket, 16 << 20)?;
        Ok(socket)
    }

    /// A TCP listener inside the namespace.
    ///
    /// # Errors
    /// Whatever `bind` or `listen` refuses.
    pub fn tcp_listen(&self, address: impl Into<SocketAddr>) -> io::Result<TcpListener> {
        let address = address.into();
        self.enter(|| TcpListener::bind(address))
    }

    /// A TCP connection opened from inside the namespace.
    ///
    /// # Errors
    /// Whatever `connect` refuses, or no answer within `timeout`.
    pub fn tcp_connect(&self, address: impl Into<SocketAddr>, timeout: Duration) -> io::Result<TcpStream> {
        let address = address.into();
        self.enter(|| TcpStream::connect_timeout(&address, timeout))
    }

    /// Pings `target` from inside the namespace with the system's `ping`: `count` requests of `size_bytes` of data, 10 ms apart. Lost answers are a
    /// result, not an error; one that comes later than twice the slowest (and than 10 ms) after the last request counts as lost.
    ///
    /// # Errors
    /// `ping` cannot run, or its summary cannot be read.
    pub fn ping(&self, target: IpAddr, count: u32, size_bytes: u32) -> Result<PingReport> {
        self.ping_with(target, count, size_bytes, &["-i", "0.01"])
    }

    /// As [`Self::ping`], each request as soon as the one before is answered (`ping -f`).
    ///
    /// # Errors
    /// As [`Self::ping`].
    pub fn ping_flood(&self, target: IpAddr, count: u32, size_bytes: u32) -> Result<PingReport> {
        self.ping_with(target, count, size_bytes, &["-f"])
    }

    /// As [`Self::ping`], until `count` requests are answered, however late, but `patience` at most; until then it sends on, 20 ms apart.
    ///
    /// # Errors
    /// As [`Self::ping`].
    pub fn ping_until(&self, target: IpAddr, count: u32, size_bytes: u32, patience: Duration) -> Result<PingReport> {
        self.ping_with(target, count, size_bytes, &["-i", "0.02", "-w", &patience.as_secs().to_string()])
    }

    fn ping_with(&self, target: IpAddr, count: u32, size_bytes: u32, pace: &[&str]) -> Result<PingReport> {
        let (count, size_bytes) = (count.to_string(), size_bytes.to_string());
        let output = self
            .command("ping")
            .args(pace)
            .args(["-n", "-q", "-W", "1", "-c", &count, "-s", &size_bytes, &target.to_string()])
            .output()
            .context("cannot run ping")?;
        let text = String::from_utf8_lossy(&output.stdout);
        PingReport::parse(&text).with_context(|| {
            format!("ping {target}: no summary in {text:?}, {}", String::from_utf8_lossy(&output.stderr).trim())
        })
    }

    /// One counter of `/sys/class/net/INTERFACE/statistics`, e.g. `rx_packets`.
    ///
    /// # Errors
    /// No such interface or counter.
    pub fn statistic(&self, interface: &str, counter: &str) -> Result<u64> {
        let text = self.run("cat", &[&format!("/sys/class/net/{interface}/statistics/{counter}")])?;
        text.trim().parse().with_context(|| format!("{interface} {counter}: {text:?}"))
    }

    /// One counter of this namespace's protocols as `/proc/net/snmp` and `/proc/net/netstat` name it, e.g. `Tcp` and `RetransSegs`.
    ///
    /// # Errors
    /// No such protocol or counter.
    pub fn protocol_counter(&self, protocol: &str, counter: &str) -> Result<u64> {
        let text = self.run("cat", &["/proc/net/snmp", "/proc/net/netstat"])?;
        // Two lines for each protocol: the names, and under them the values.
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
        let (names, values) = lines.next().zip(lines.next()).with_context(|| format!("no protocol {protocol}"))?;
        let mut columns = names.split(' ').zip(values.split(' '));
        let (_, value) =
            columns.find(|(name, _)| *name == counter).with_context(|| format!("no {protocol} {counter}"))?;
        value.parse().with_context(|| format!("{protocol} {counter}: {value:?}"))
    }

    /// TCP segments that this namespace's kernel sent though they bring nothing new: retransmissions, tail probes that repeat one (RFC 8985),
    /// and probes of a closed window. A machine that lets one end wait for a core makes the other send some, also on a link that loses nothing.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn tcp_segments_sent_again(&self) -> Result<u64> {
        Ok(self.protocol_counter("Tcp", "RetransSegs")? + self.protocol_counter("TcpExt", "TCPWinProbe")?)
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// The last lines of `ping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingReport {
    /// Requests sent.
    pub sent: u32,
    /// Answers received.
    pub received: u32,
}

impl PingReport {
    fn parse(output: &str) -> Option<Self> {
        let line = output.lines().find(|line| line.contains("packets transmitted"))?;
        let mut numbers = line.split(',').map(|part| part.split_whitespace().next()?.parse().ok());
        Some(Self { sent: numbers.next()??, received: numbers.next()?? })
    }
}

/// Removes namespaces whose owning process is gone, with the processes in them; returns their names.
fn sweep() -> Vec<String> {
    let Ok(entries) = fs::read_dir(RUN_DIR) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let stale: Vec<_> = names.filter(|name| owner(name).is_some_and(|pid| !is_alive(pid))).collect();
    for name in &stale {
        remove(name);
    }
    stale
}

/// The process id in the name of a namespace of ours.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.splitn(3, '-');
    let pid = parts.next()?.parse().ok()?;
    let _number: u32 = parts.next()?.parse().ok()?;
    parts.next().map(|_label| pid)
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn remove(name: &str) {
    // Whatever still runs in a namespace of ours was started there by us, and would keep it alive.
    if let Ok(pids) = run(Command::new("ip").args(["netns", "pids", name])) {
        for pid in pids.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()) {
            // A closure in `enter` makes this process itself appear.
            if pid.unsigned_abs() != std::process::id() {
                // SAFETY: kill takes two integers and touches no memory.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
    }
    if let Err(error) = run(Command::new("ip").args(["netns", "del", name])) {
        eprintln!("rig: {error:#}");
    }
}

/// Runs a command to its end and returns its standard output.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_owner() {
        assert_eq!(owner("fw-4711-3-eng"), Some(4711));
        assert_eq!(owner("fw-4711-3-a-b"), Some(4711));
        for other in ["fw-4711-3", "fw-bench-3-eng", "fw-4711-x-eng", "fwdemo-4711-srv", "eth"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn ping_summaries_are_read() {
        let text = "\n--- 10.77.0.2 ping statistics ---\n5 packets transmitted, 4 received, +1 errors, 20% packet loss, time 40ms\n";
        assert_eq!(PingReport::parse(text), Some(PingReport { sent: 5, received: 4 }));
        assert_eq!(PingReport::parse("ping: unknown host"), None);
    }

    #[test]
    fn rig_sweeps_what_a_dead_process_left() {
        if !super::super::require_root() {
            return;
        }
        // The id of a child that has ended and been waited for belongs to nobody.
        let mut child = Command::new("true").spawn().expect("spawn true");
        let dead = child.id();
        child.wait().expect("wait");
        let name = format!("{PREFIX}{dead}-0-left");
        run(Command::new("ip").args(["netns", "add", &name])).expect("netns add");
        let mine = NetNs::create("kept").expect("namespace");
        sweep();
        assert!(!Path::new(RUN_DIR).join(&name).exists(), "{name} is still there");
        assert!(Path::new(RUN_DIR).join(mine.name()).exists(), "swept a living process's namespace");
    }
}
