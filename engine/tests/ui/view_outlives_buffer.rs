use framewire::buf::RxBuf;

fn misuse(packet: RxBuf) -> u8 {
    let view = packet.as_slice();
    drop(packet);
    view[0]
}

fn main() {}
