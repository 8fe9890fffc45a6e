use framewire::buf::TxBuf;

fn misuse(mut buf: TxBuf) {
    let first = buf.as_mut_slice();
    let second = buf.as_mut_slice();
    first[0] = second[0];
}

fn main() {}
