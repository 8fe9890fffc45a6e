use framewire::buf::{Sealed, TxQueue};

fn misuse(queue: &mut TxQueue, sealed: Sealed) {
    let _ = queue.push(sealed);
    let _ = sealed.as_slice();
}

fn main() {}
