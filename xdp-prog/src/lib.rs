//! Framewire.
