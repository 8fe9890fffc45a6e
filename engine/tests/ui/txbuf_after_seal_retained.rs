use framewire::buf::TxBuf;

fn misuse(mut buf: TxBuf) {
    let _pair = buf.seal_retained(&[0; 54]);
    buf.as_mut_slice();
}

fn main() {}
