use framewire::buf::RxBuf;

fn misuse(packet: RxBuf) {
    let _out = packet.into_tx();
    let _ = packet.as_slice();
}

fn main() {}
