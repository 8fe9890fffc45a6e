//! What Framewire's tests stand on beside the engine itself.
//!
//! * [`rig`]: two network namespaces joined by a veth pair, processes in them, and the appliance under test.
//!

pub mod rig;
