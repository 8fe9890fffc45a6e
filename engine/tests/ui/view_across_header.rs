use framewire::buf::TxBuf;

fn misuse(mut buf: TxBuf) -> u8 {
    let payload = buf.as_slice();
    let _ = buf.prepend::<14>();
    payload[0]
}

fn main() {}
