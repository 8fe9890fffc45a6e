//! Framewire.
pub mod buf;
pub mod port;
pub mod ring;
pub mod time;
pub mod wire;
