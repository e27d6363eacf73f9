//! Target `attach`, see src/lib.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imlink_fuzz::attach(data));
