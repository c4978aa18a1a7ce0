#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| procref_config::fuzzing::config(data));
