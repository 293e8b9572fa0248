#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| pongo_torture::fuzz::predicate(data));
