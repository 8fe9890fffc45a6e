//! What Framewire's tests stand on beside the engine itself.
//!
//! * [`rig`]: two network namespaces joined by a veth pair, processes in them, and the appliance under test.
//! * [`layering`]: a small scanner of Rust sources, and the table of which room may use which (DESIGN section 1).
//! * [`rfc`]: which requirements of the RFCs have a test.
//!
//! The tests are in `tests/`: `layering.rs` and `tree.rs` read the sources; `veth_*.rs` run against the Linux stack.
//! With `FRAMEWIRE_LONG=1` a window stays closed for a minute instead of 20 s.

pub mod layering;
pub mod rfc;
pub mod rig;
