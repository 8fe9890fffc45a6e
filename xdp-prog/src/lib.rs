//! Framewire's XDP steering program and its typed loader.
//!
//! ```text
//!   NIC ─► framewire_steer (XDP, `bpf/steer.bpf.c`)
//!            │ destination in `addresses` / `ports`?
//!            ├─ ours ──► xsks[rx queue] ──► the worker's AF_XDP socket
//!            └─ else, or no socket on that queue ──► kernel (XDP_PASS)
//! ```
//!
//! [`Steer`] loads the program, fills its maps and attaches it with a `bpf_link`, which goes when the process does: after a
//! `SIGKILL` too the kernel has its traffic back. Put the sockets in ([`Steer::set_socket`]) *before* [`Steer::attach`], and
//! detach *before* closing them. `README.md` has the table of what goes where; [`Verdict`] counts it.
//!
//! [`PassProgram`] is the other end of a veth pair: without a program there, veth drops what is sent to it.
//!
//! Needs Linux 5.18 or newer (multi-buffer XDP) and CAP_BPF + CAP_NET_ADMIN.
//!
//! ```no_run
//! use framewire_xdp::{AttachMode, IpProtocol, Steer, SteerOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut steer = Steer::load(&SteerOptions::default())?;
//! steer.own_address("192.0.2.7".parse()?)?;
//! steer.share_port("192.0.2.1".parse()?, IpProtocol::UDP, 4433)?;
//! // steer.set_socket(queue_index, socket.as_fd())?; for every queue
//! let mode = steer.attach(3, AttachMode::Auto)?;
//! println!("attached in {mode} mode");
//! for (name, help, frames) in &steer.verdicts()? {
//!     println!("{name:28} {frames:>12}  {help}");
//! }
//! # Ok(())
//! # }
//! ```

mod error;
mod key;
mod libbpf_log;
mod link;
mod loader;
mod skeleton;
mod verdict;

pub use error::{Call, KernelRefusal, SteerError};
pub use key::IpProtocol;
pub use link::{AttachMode, AttachedMode, AttachedProgram, Attachment, attached_program};
pub use loader::{ExpectedNeighbours, Mode, PassProgram, Steer, SteerOptions};
pub use verdict::{Verdict, Verdicts};
