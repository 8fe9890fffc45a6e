//! The engine's sources keep to the arrows, the `unsafe` files and the inputs of DESIGN section 1.

use std::path::Path;

#[test]
fn the_engine_keeps_its_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/src");
    let broken = framewire_tests::layering::check(&src).expect("engine/src can be read");
    assert!(broken.is_empty(), "{} lines break the layers:\n{}", broken.len(), broken.join("\n"));
}
