//! What a firmware speaks: a table in flash, and its bytes on the wire.

use imlink_protocol::interface::Kind;
use imlink_protocol::key::are_distinct;
use imlink_protocol::limits::INTERFACE_LEN_MAX;
use imlink_protocol::{Fingerprint, Key};
use postcard::ser_flavors::Flavor;
use postcard::ser_flavors::Size;
use postcard_schema::schema::NamedType;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::ConfigError;

/// One thing that a firmware speaks about; made by [`interface!`](macro@crate::interface).
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What the path is used for.
    pub kind: Kind,
    /// The path backends use.
    pub path: &'static str,
    /// The key on the wire.
    pub key: Key,
    /// Type of the payload, `None` for raw bytes.
    pub schema: Option<&'static NamedType>,
}

/// All of them. On the wire it is what `imlink_protocol::interface` describes, up to 64 KiB.
pub type Interface = &'static [Entry];

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
/// assert_eq!(LAMP.len(), 4);
/// assert_eq!(SET, imlink_device_client::Key::for_path::<bool>("led/set"));
/// ```
///
/// Two entries of one kind with the same key do not compile:
///
/// ```compile_fail
/// imlink_device_client::interface! {
///     pub TWICE {
///         Call A = "echo";
///         Call B = "echo";
///     }
/// }
/// ```
#[macro_export]
macro_rules! interface {
    ($(#[$doc:meta])* $vis:vis $table:ident { $($kind:ident $name:ident = $path:literal $(: $payload:ty)?;)* }) => {
        $(
            #[doc = concat!("Key of `", $path, "`.")]
            $vis const $name: $crate::Key = $crate::__key!($path $(, $payload)?);
        )*
        $(#[$doc])*
        $vis static $table: $crate::Interface = {
            const ENTRIES: &[$crate::Entry] = &[$($crate::Entry {
                kind: $crate::Kind::$kind,
                path: $path,
                key: $name,
                schema: $crate::__schema!($($payload)?),
            },)*];
            const { assert!($crate::is_unambiguous(ENTRIES), "two entries of one kind have the same key: rename a path") };
            ENTRIES
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

/// Whether no two entries of one kind have the same key.
pub const fn is_unambiguous(entries: &[Entry]) -> bool {
    let mut i = 0;
    while i < entries.len() {
        let mut j = i + 1;
        while j < entries.len() {
            let same_kind = entries[i].kind as u8 == entries[j].kind as u8;
            if same_kind && !are_distinct(&[entries[i].key, entries[j].key]) {
                return false;
            }
            j += 1;
        }
        i += 1;
    }
    true
}

/// Bytes of the interface on the wire.
pub fn len(interface: Interface) -> usize {
    serialize(interface, Size::default()).unwrap_or(usize::MAX)
}

/// Its fingerprint: the first 16 bytes of SHA-256 over its bytes; none when it is empty.
pub fn fingerprint(interface: Interface) -> Fingerprint {
    let digest = match serialize(interface, Hash(Sha256::new())) {
        Ok(digest) if !interface.is_empty() => digest,
        _ => return Fingerprint::NONE,
    };
    digest.first_chunk().map_or(Fingerprint::NONE, |first| Fingerprint(*first))
}

/// Writes its bytes from `offset` on into `out` and returns how many.
pub fn chunk(interface: Interface, offset: usize, out: &mut [u8]) -> usize {
    serialize(interface, Chunk { skip: offset, out, filled: 0 }).unwrap_or(0)
}

pub(crate) fn check(interface: Interface) -> Result<(), ConfigError> {
    for entry in interface {
        imlink_protocol::id::check_path(entry.path).map_err(ConfigError::Path)?;
    }
    match len(interface) {
        len if len > INTERFACE_LEN_MAX => Err(ConfigError::InterfaceTooLong { len }),
        _ => Ok(()),
    }
}

pub(crate) fn lists(interface: Interface, kind: Kind, key: Key) -> bool {
    interface.is_empty() || interface.iter().any(|entry| entry.kind == kind && entry.key == key)
}

fn serialize<F: Flavor>(interface: Interface, output: F) -> postcard::Result<F::Output> {
    let mut serializer = postcard::Serializer { output };
    for entry in interface {
        (entry.kind, entry.key, entry.path).serialize(&mut serializer)?;
        match entry.schema {
            None => 0usize.serialize(&mut serializer)?,
            Some(schema) => {
                postcard::serialize_with_flavor::<_, _, usize>(schema, Size::default())?.serialize(&mut serializer)?;
                schema.serialize(&mut serializer)?;
            }
        }
    }
    serializer.output.finalize()
}

struct Hash(Sha256);

impl Flavor for Hash {
    type Output = [u8; 32];

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.update(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.try_extend(&[data])
    }

    fn finalize(self) -> postcard::Result<Self::Output> {
        Ok(self.0.finalize().into())
    }
}

struct Chunk<'a> {
    skip: usize,
    out: &'a mut [u8],
    filled: usize,
}

impl Flavor for Chunk<'_> {
    type Output = usize;

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        if self.skip > 0 {
            self.skip -= 1;
        } else if let Some(free) = self.out.get_mut(self.filled) {
            *free = data;
            self.filled += 1;
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Self::Output> {
        Ok(self.filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imlink_protocol::interface::{Entries, Entry as WireEntry};
    use std::vec;
    use std::vec::Vec;

    #[derive(postcard_schema::Schema, serde::Serialize)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Reading {
        celsius: f32,
        label: u16,
    }

    interface! {
        /// Of a test.
        pub(crate) TABLE {
            Message SET = "led/set": bool;
            Call ECHO = "echo";
            Event READING = "reading": Reading;
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol_whatever_the_chunk() {
        let schemas = [
            postcard::to_stdvec(<bool as postcard_schema::Schema>::SCHEMA).unwrap(),
            Vec::new(),
            postcard::to_stdvec(<Reading as postcard_schema::Schema>::SCHEMA).unwrap(),
        ];
        let mut expected = Vec::new();
        for (entry, schema) in TABLE.iter().zip(&schemas) {
            let entry = WireEntry { kind: entry.kind, key: entry.key, path: entry.path, schema };
            expected.extend(postcard::to_stdvec(&entry).unwrap());
        }
        assert_eq!(len(TABLE), expected.len());
        for size in [1, 7, 256] {
            let mut whole = Vec::new();
            while whole.len() < expected.len() {
                let mut part = vec![0; size];
                let len = chunk(TABLE, whole.len(), &mut part);
                whole.extend_from_slice(&part[..len]);
            }
            assert_eq!(whole, expected);
        }
        assert!(Entries::new(&expected).all(|entry| entry.is_ok()));
        let digest = Sha256::digest(&expected);
        assert_eq!(fingerprint(TABLE).0, digest[..16]);
        assert_eq!(fingerprint(&[]), Fingerprint::NONE);
    }

    #[test]
    fn keys_are_those_of_path_and_type() {
        assert_eq!((SET, ECHO), (Key::for_path::<bool>("led/set"), Key::raw("echo")));
        assert!(lists(TABLE, Kind::Call, ECHO) && !lists(TABLE, Kind::Message, ECHO));
        assert!(lists(&[], Kind::Call, ECHO), "without an interface keys are not checked");
        assert_ne!(READING, SET);
    }
}
