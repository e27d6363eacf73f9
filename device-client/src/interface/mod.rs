//! What a firmware speaks: its bytes on the wire, made by the compiler.

mod encode;

use imlink_protocol::interface::Kind;
use imlink_protocol::{Fingerprint, Key};
use sha2::{Digest, Sha256};

pub use encode::{Entry, encode, len};

/// What a firmware speaks, made by [`interface!`](macro@crate::interface) in the form that
/// `imlink_protocol::interface` describes: up to 64 KiB of flash, 16 bytes of RAM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    bytes: &'static [u8],
}

/// States what a firmware speaks, and names the keys.
///
/// ```
/// imlink_device_client::interface! {
///     /// What this lamp speaks.
///     pub LAMP {
///         Message SET = "led/set": bool;       // a stored message with a typed payload
///         Message UPDATE = "firmware/chunk";   // raw bytes
///         Call ECHO = "echo";
///         Event TEMPERATURE = "temperature": f32;
///     }
/// }
/// assert_eq!(SET, imlink_device_client::Key::for_path::<bool>("led/set"));
/// ```
///
/// Two entries of one kind with the same key do not compile, nor does a path that does not have its form:
///
/// ```compile_fail
/// imlink_device_client::interface! {
///     pub TWICE {
///         Call A = "echo";
///         Call B = "echo";
///     }
/// }
/// ```
///
/// ```compile_fail
/// imlink_device_client::interface! { pub SPACED { Call A = "echo me"; } }
/// ```
#[macro_export]
macro_rules! interface {
    ($(#[$doc:meta])* $vis:vis $table:ident { $($kind:ident $name:ident = $path:literal $(: $payload:ty)?;)* }) => {
        $(
            #[doc = concat!("Key of `", $path, "`.")]
            $vis const $name: $crate::Key = $crate::__key!($path $(, $payload)?);
        )*
        $(#[$doc])*
        $vis const $table: $crate::Interface = {
            const ENTRIES: &[$crate::Entry] = &[$($crate::Entry {
                kind: $crate::Kind::$kind,
                path: $path,
                key: $name,
                schema: $crate::__schema!($($payload)?),
            },)*];
            static BYTES: [u8; $crate::len(ENTRIES)] = $crate::encode(ENTRIES);
            $crate::Interface::of(&BYTES)
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __key {
    ($path:literal) => {
        $crate::Key::raw($path)
    };
    ($path:literal, $payload:ty) => {
        $crate::Key::for_path::<$payload>($path)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __schema {
    () => {
        None
    };
    ($payload:ty) => {
        Some(<$payload as $crate::interface_schema::Schema>::SCHEMA)
    };
}

impl Interface {
    /// Of a firmware that states nothing: keys are not checked, and backends see keys instead of paths.
    pub const NONE: Self = Self { bytes: &[] };

    /// The interface of these bytes, as [`encode()`] makes them.
    pub const fn of(bytes: &'static [u8]) -> Self {
        Self { bytes }
    }

    /// Its bytes on the wire.
    pub const fn bytes(self) -> &'static [u8] {
        self.bytes
    }

    /// The first 16 bytes of SHA-256 over its bytes; none when it is empty.
    pub fn fingerprint(self) -> Fingerprint {
        if self.bytes.is_empty() {
            return Fingerprint::NONE;
        }
        let digest: [u8; 32] = Sha256::digest(self.bytes).into();
        digest.first_chunk().map_or(Fingerprint::NONE, |first| Fingerprint(*first))
    }

    /// The path of `key` among those of `kind`.
    pub const fn path(self, kind: Kind, key: Key) -> Option<&'static str> {
        let Some(path) = self.find(kind, key) else { return None };
        match core::str::from_utf8(path) {
            Ok(path) => Some(path),
            Err(_) => None,
        }
    }

    /// Whether `key` may be used for `kind`.
    pub(crate) fn allows(self, kind: Kind, key: Key) -> bool {
        self.bytes.is_empty() || self.find(kind, key).is_some()
    }

    const fn find(self, kind: Kind, key: Key) -> Option<&'static [u8]> {
        let mut rest = self.bytes;
        while let Some((entry, behind)) = split_entry(rest) {
            if entry.kind == kind as u8 && u32::from_le_bytes(entry.key) == u32::from_le_bytes(key.0) {
                return Some(entry.path);
            }
            rest = behind;
        }
        None
    }
}

/// An entry as it lies in the bytes.
struct Raw {
    kind: u8,
    key: [u8; 4],
    path: &'static [u8],
}

/// The entry at the start of `bytes`, and what follows it.
const fn split_entry(bytes: &'static [u8]) -> Option<(Raw, &'static [u8])> {
    let Some(([kind, key @ ..], rest)) = bytes.split_first_chunk::<5>() else { return None };
    let Some((path, rest)) = split_counted(rest) else { return None };
    let Some((_schema, rest)) = split_counted(rest) else { return None };
    Some((Raw { kind: *kind, key: *key, path }, rest))
}

/// Bytes with their length in front (a varint of up to 3 bytes), and what follows them.
const fn split_counted(bytes: &'static [u8]) -> Option<(&'static [u8], &'static [u8])> {
    let (mut rest, mut len, mut shift) = (bytes, 0, 0);
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        len |= ((*byte & 0x7f) as usize) << shift;
        shift += 7;
        if *byte & 0x80 == 0 {
            return rest.split_at_checked(len);
        }
        if shift > 14 {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use imlink_protocol::interface::{Entries, Entry as WireEntry};
    use postcard_schema::Schema;
    use std::vec::Vec;

    #[derive(Schema, serde::Serialize)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Reading {
        celsius: f32,
        label: u16,
    }

    /// Every form that a schema has.
    #[derive(Schema, serde::Serialize)]
    #[allow(dead_code, reason = "only its schema is used")]
    enum Everything {
        Nothing,
        Pair(u8, i64),
        One(Option<Reading>),
        Fields { text: &'static str, list: &'static [u16], array: [bool; 3], wide: u128 },
    }

    #[derive(Schema, serde::Serialize)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Wrapped(Everything);

    interface! {
        /// Of a test.
        pub(crate) TABLE {
            Message SET = "led/set": bool;
            Call ECHO = "echo";
            Event READING = "reading": Reading;
            Event EVERYTHING = "everything": Wrapped;
        }
    }

    fn wire(kind: Kind, key: Key, path: &str, schema: &[u8]) -> Vec<u8> {
        postcard::to_stdvec(&WireEntry { kind, key, path, schema }).unwrap()
    }

    fn schema<T: Schema>() -> Vec<u8> {
        postcard::to_stdvec(T::SCHEMA).unwrap()
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let expected = [
            wire(Kind::Message, SET, "led/set", &schema::<bool>()),
            wire(Kind::Call, ECHO, "echo", &[]),
            wire(Kind::Event, READING, "reading", &schema::<Reading>()),
            wire(Kind::Event, EVERYTHING, "everything", &schema::<Wrapped>()),
        ]
        .concat();
        assert_eq!(TABLE.bytes(), expected);
        assert!(schema::<Wrapped>().len() > 128, "a length of two bytes is covered");
        assert!(Entries::new(&expected).all(|entry| entry.is_ok()));
        let digest = Sha256::digest(&expected);
        assert_eq!(TABLE.fingerprint().0, digest[..16]);
        assert_eq!(Interface::NONE.fingerprint(), Fingerprint::NONE);
    }

    #[test]
    fn keys_are_those_of_path_and_type() {
        assert_eq!((SET, ECHO), (Key::for_path::<bool>("led/set"), Key::raw("echo")));
        assert!(TABLE.allows(Kind::Call, ECHO) && !TABLE.allows(Kind::Message, ECHO));
        assert_eq!(TABLE.path(Kind::Event, EVERYTHING), Some("everything"));
        assert!(Interface::NONE.allows(Kind::Call, ECHO), "without an interface keys are not checked");
        assert_ne!(READING, SET);
    }

    #[test]
    fn bytes_that_are_cut_end_the_search() {
        static BYTES: &[u8] = TABLE.bytes();
        for len in 0..BYTES.len() {
            let _ = Interface::of(&BYTES[..len]).path(Kind::Request, SET);
        }
        assert_eq!(
            Interface::of(&[0, 1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff]).path(Kind::Message, Key([1, 2, 3, 4])),
            None
        );
    }
}
