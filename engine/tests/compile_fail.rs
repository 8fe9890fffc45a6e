//! What the frame types forbid must not compile: each file in `ui/` breaks one rule of `framewire::buf`.
//!
//! The expected messages are those of the compiler that the workspace is developed with. After a change of compiler, look at the difference and
//! run with `TRYBUILD=overwrite`.

use framewire::buf::{Frozen, Pool, Retained, RxBuf, Sealed, TxBuf, TxQueue};

#[test]
fn misuse_of_frames_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

/// Two impls fit a type that is `Send`, so that naming the trait without its parameter is ambiguous and this file does not compile. (Said this way and
/// not in `ui/`: the compiler's explanation would list every private type on the way to the `Rc`.)
trait NotSend<Proof> {
    const HOLDS: bool = true;
}
impl<T: ?Sized> NotSend<()> for T {}
impl<T: ?Sized + Send> NotSend<u8> for T {}

/// The same for `Sync`.
trait NotSync<Proof> {
    const HOLDS: bool = true;
}
impl<T: ?Sized> NotSync<()> for T {}
impl<T: ?Sized + Sync> NotSync<u8> for T {}

macro_rules! assert_one_thread {
    ($($name:ty),*) => { $(const _: () = assert!(<$name as NotSend<_>>::HOLDS && <$name as NotSync<_>>::HOLDS);)* };
}
assert_one_thread!(Pool, TxBuf, RxBuf, Frozen, Retained, Sealed, TxQueue);
