//! Rust SDK for backends: the binary backend link and HTTP
