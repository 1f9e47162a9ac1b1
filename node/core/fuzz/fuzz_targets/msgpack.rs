#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| node_core::fuzzing::run("msgpack", bytes));
