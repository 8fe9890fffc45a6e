use framewire::buf::Frozen;

fn misuse(frozen: Frozen) {
    frozen.as_mut_slice();
}

fn main() {}
