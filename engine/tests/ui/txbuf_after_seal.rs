use framewire::buf::TxBuf;

fn misuse(buf: TxBuf) {
    let _sealed = buf.seal();
    let _ = buf.as_slice();
}

fn main() {}
