#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| framewire_fuzz::frames(input));
