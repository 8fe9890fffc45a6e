use framewire::buf::TxBuf;

fn misuse(buf: &TxBuf) -> TxBuf {
    buf.clone()
}

fn main() {}
