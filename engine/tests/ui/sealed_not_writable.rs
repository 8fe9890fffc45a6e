use framewire::buf::Sealed;

fn misuse(sealed: Sealed) {
    sealed.as_mut_slice();
}

fn main() {}
