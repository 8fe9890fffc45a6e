use framewire::buf::Sealed;

fn misuse(sealed: Sealed) {
    sealed.post();
    sealed.post();
}

fn main() {}
