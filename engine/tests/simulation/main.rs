//! Two engines on an in-memory link with faults, turned by hand under a virtual clock: whatever the link does, every request is answered with the right
//! bytes, every frame comes back, and the same seed gives the same run.

mod ageing;
mod faults;
mod programs;
mod world;
