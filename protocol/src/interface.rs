//! An interface: the list of (kind, key, path, schema) that a firmware build speaks.
//!
//! ```text
//! interface    entry · entry · …            at most 64 KiB
//! entry        postcard encoding of Entry   kind, key, path, schema
//! fingerprint  first 16 bytes of SHA-256 over the interface
//! ```
//!
//! The schema is the postcard encoding of a `postcard-schema` named type, empty for raw bytes.

use serde::{Deserialize, Serialize};

use crate::frame::FrameError;
use crate::id::check_path;
use crate::key::Key;

/// What a path is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Kind {
    /// Stored message, backend → device.
    Message,
    /// Call, backend → device.
    Call,
    /// Event, device → backend.
    Event,
    /// Request, device → service.
    Request,
}

/// One thing that a firmware speaks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// What the path is used for.
    pub kind: Kind,
    /// The key on the wire.
    pub key: Key,
    /// The path backends use.
    pub path: &'a str,
    /// Schema of the payload, empty for raw bytes.
    pub schema: &'a [u8],
}

/// Reads the entries of an interface one after the other; ends after the first wrong one.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    /// The entries of `interface`.
    pub const fn new(interface: &'a [u8]) -> Self {
        Self { rest: interface }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match postcard::take_from_bytes::<Entry<'a>>(self.rest) {
            Ok((entry, rest)) if check_path(entry.path).is_ok() => {
                self.rest = rest;
                Some(Ok(entry))
            }
            _ => {
                self.rest = &[];
                Some(Err(FrameError::Body))
            }
        }
    }
}
