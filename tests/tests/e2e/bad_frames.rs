//! Bytes that are no frames
