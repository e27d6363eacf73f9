//! The four bytes that stand for a path and the schema of its payload.

use core::fmt;

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

use crate::hex::Hex;

/// What a message, call, event or request is about: FNV-1a over path and payload schema as
/// `postcard-rpc` computes it, its 8 bytes folded to 4 (byte *i* = byte 2*i* xor byte 2*i*+1).
///
/// A key resists misuse, it proves nothing: payloads are still checked when decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Key(pub [u8; 4]);

impl Key {
    /// The key of `path` with payloads of type `T`.
    pub const fn for_path<T: Schema + ?Sized>(path: &str) -> Self {
        let b = postcard_schema::key::Key::for_path::<T>(path).to_bytes();
        Self([b[0] ^ b[1], b[2] ^ b[3], b[4] ^ b[5], b[6] ^ b[7]])
    }

    /// The key of `path` with raw bytes as payload.
    pub const fn raw(path: &str) -> Self {
        Self::for_path::<[u8]>(path)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

/// Whether no two of `keys` are equal; for `const` assertions over an interface's table.
pub const fn are_distinct(keys: &[Key]) -> bool {
    let mut i = 0;
    while i < keys.len() {
        let mut j = i + 1;
        while j < keys.len() {
            if u32::from_le_bytes(keys[i].0) == u32::from_le_bytes(keys[j].0) {
                return false;
            }
            j += 1;
        }
        i += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_depends_on_path_and_schema() {
        assert_ne!(Key::raw("led/set"), Key::raw("led/get"));
        assert_ne!(Key::raw("led/set"), Key::for_path::<bool>("led/set"));
        const DISTINCT: bool = are_distinct(&[Key::raw("a"), Key::raw("b")]);
        const _: () = assert!(DISTINCT);
        assert!(!are_distinct(&[Key::raw("a"), Key::raw("b"), Key::raw("a")]));
    }
}
