use framewire::buf::{Frozen, Retained, Sealed};

fn misuse(sealed: Sealed, frozen: Frozen, kept: Retained) {
    sealed.as_slice()[0] = 1;
    frozen.as_slice()[0] = 1;
    kept.as_slice()[0] = 1;
}

fn main() {}
