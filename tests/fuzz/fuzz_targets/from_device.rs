//! Target `from_device`, see src/lib.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imlink_fuzz::from_device(data));
