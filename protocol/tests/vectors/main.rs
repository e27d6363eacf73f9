//! Golden vectors: the bytes of every kind of message, of the handshakes and of tickets, pinned in `protocol/vectors/`.
//!
//! A difference is a change of the wire. New kinds and fields come at the end, with new vectors; then
//! `UPDATE_VECTORS=1 cargo test -p imlink-protocol --test vectors` writes the files. A vector that was
//! released is never changed.

mod backend;
mod device;
mod keys;
mod node;
mod sealed;
mod tickets;

use std::fmt::{Debug, Display, Write as _};
use std::path::Path;

use imlink_protocol::{Key, MessageId, frame};
use serde::{Deserialize, Serialize};

/// Largest frame in the vectors.
const MAX: usize = 70_000;

pub(crate) const KEY: Key = Key([0x1a, 0x2b, 0x3c, 0x4d]);
pub(crate) const ID: MessageId = MessageId::new(1_764_000_000_000, 42);
pub(crate) const PAYLOAD: &[u8] = b"16 bytes payload";

/// Vectors of one enum, as the text of their file.
#[derive(Default)]
pub(crate) struct Vectors {
    text: String,
    kinds: Vec<u8>,
}

impl Vectors {
    /// Adds `message` under `name` and checks that it comes back from its bytes.
    pub(crate) fn add<T: Serialize + Debug + PartialEq + for<'a> Comes<'a>>(mut self, name: &str, message: &T) -> Self {
        let mut bytes = vec![0; MAX];
        let len = frame::encode(message, &mut bytes).unwrap();
        let whole = frame::split(&bytes[..len], MAX).unwrap().unwrap();
        assert!(message.comes_from(whole.body), "{name} does not come back from its bytes");
        self.kinds.push(whole.body[0]);
        writeln!(self.text, "name:   {name}\nfields: {message:?}\nhex:    {}\n", hex(&bytes[..len])).unwrap();
        self
    }

    /// Compares with the file; `is_kind` tells whether bytes begin a message.
    pub(crate) fn check(self, file: &str, is_kind: impl Fn(&[u8]) -> bool) {
        let kinds = self.kinds.iter().max().unwrap() + 1;
        for kind in 0..kinds {
            assert!(self.kinds.contains(&kind), "{file} has no vector of kind {kind}");
        }
        let mut next = [0; 128];
        next[0] = kinds;
        assert!(!is_kind(&next), "{file} has no vector of kind {kinds}");
        compare(file, &self.text);
    }
}

/// Bytes as the files have them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// An entry with fields of its own: a name and a value in each line.
pub(crate) struct Entry(String);

impl Entry {
    pub(crate) fn new(name: &str) -> Self {
        Self(String::new()).text("name", name)
    }

    pub(crate) fn text(mut self, name: &str, value: impl Display) -> Self {
        writeln!(self.0, "{:<18}{value}", format!("{name}:")).unwrap();
        self
    }

    pub(crate) fn bytes(self, name: &str, value: &[u8]) -> Self {
        self.text(name, hex(value))
    }

    pub(crate) fn end(self) -> String {
        self.0 + "\n"
    }
}

/// Compares with the file, entry by entry.
pub(crate) fn compare(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file);
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let pinned = std::fs::read_to_string(&path).unwrap_or_default();
    for (pinned, now) in pinned.split("\n\n").zip(text.split("\n\n")) {
        assert_eq!(pinned, now, "{file}: the wire changed");
    }
    assert_eq!(pinned.len(), text.len(), "{file}: vectors were added or removed");
}

/// A message that can be compared with what its bytes say.
pub(crate) trait Comes<'a> {
    fn comes_from(&self, body: &'a [u8]) -> bool;
}

macro_rules! comes {
    ($($message:ident),*) => {
        $(impl<'a> crate::Comes<'a> for $message<'_> {
            fn comes_from(&self, body: &'a [u8]) -> bool {
                imlink_protocol::frame::decode::<$message<'_>>(body).is_ok_and(|message| message == *self)
            }
        })*
    };
}
pub(crate) use comes;

/// Whether these bytes begin a message.
pub(crate) fn begins<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> bool {
    postcard::take_from_bytes::<T>(bytes).is_ok()
}
