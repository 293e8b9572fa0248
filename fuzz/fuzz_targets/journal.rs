#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| pongo_crashtest::fuzz::journal(data));
