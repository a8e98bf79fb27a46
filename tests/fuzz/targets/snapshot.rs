#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| backpropamine_tests::fuzz::snapshot(bytes));
