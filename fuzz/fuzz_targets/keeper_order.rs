#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| procref::fuzzing::keeper_order(data));
