//! Text that shares the bytes it came in.

use bytes::Bytes;

/// A piece of text within a larger buffer; cloning and moving copy nothing.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Text(Bytes);

impl Text {
    /// The text that `bytes` are; bytes that are not UTF-8 are no text.
    pub(crate) fn shared(bytes: Bytes) -> Option<Self> {
        std::str::from_utf8(&bytes).is_ok().then_some(Self(bytes))
    }

    pub(crate) fn as_str(&self) -> &str {
        // Checked when it was made; checking again costs nanoseconds and needs no unsafe code.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}
