use framewire::buf::Retained;

fn misuse(kept: Retained) {
    kept.as_mut_slice();
}

fn main() {}
