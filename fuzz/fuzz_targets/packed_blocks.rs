#![no_main]

mod support;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| support::run("packed_blocks", bytes));
