//! A network namespace of the test's own: `fwa ─ veth ─ fwb`, both up, in a thread that has left the host's namespace.

use std::process::Command;

pub struct Veth {
    pub a_ifindex: u32,
    pub b_ifindex: u32,
}

/// Runs the test in a thread in a fresh namespace, which is gone with the thread. `None` where that needs rights that are missing.
pub fn in_netns<T: Send>(test: impl FnOnce(Veth) -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: takes a number; moves only this thread, which ends with the scope.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                let error = std::io::Error::last_os_error();
                return super::skip(&format!("unshare(CLONE_NEWNET): {error}; run as root"));
            }
            ip("link add fwa numrxqueues 2 numtxqueues 2 type veth peer name fwb");
            // Keeps the kernel's own multicast out of the counters.
            for interface in ["fwa", "fwb"] {
                ip(&format!("link set {interface} addrgenmode none"));
                ip(&format!("link set {interface} up"));
            }
            Some(test(Veth { a_ifindex: ifindex("fwa"), b_ifindex: ifindex("fwb") }))
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub fn ifindex(name: &str) -> u32 {
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: `name` is a string with its NUL.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert!(index > 0, "{name:?}: {}", std::io::Error::last_os_error());
    index
}

/// Runs `ip` with these words in the calling thread's namespace and gives what it prints.
#[track_caller]
pub fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().expect("`ip` (Debian: apt install iproute2)");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
