//! Target `garbage_records`, see src/lib.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imlink_fuzz::garbage_records(data));
