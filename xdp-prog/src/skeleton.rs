//! The skeletons that `build.rs` generates; nothing outside this module sees their shape.

#[allow(unreachable_pub, missing_docs, missing_debug_implementations, single_use_lifetimes, rust_2018_idioms)]
#[allow(clippy::all, clippy::undocumented_unsafe_blocks)]
pub(crate) mod steer {
    include!(concat!(env!("OUT_DIR"), "/steer.skel.rs"));
}

#[allow(unreachable_pub, missing_docs, missing_debug_implementations, single_use_lifetimes, rust_2018_idioms)]
#[allow(clippy::all, clippy::undocumented_unsafe_blocks)]
pub(crate) mod pass {
    include!(concat!(env!("OUT_DIR"), "/pass.skel.rs"));
}
