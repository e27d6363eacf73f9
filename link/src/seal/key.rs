//! Keys of nodes: X25519.

use std::fmt;
use std::str::FromStr;

use imlink_protocol::hex::{self, Hex};
use imlink_seal::public_key;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of either key.
const KEY_LEN: usize = 32;

/// A node's public key, 32 bytes; written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; KEY_LEN]);

/// A node's private key. It never shows in logs, and is wiped when dropped.
#[derive(Clone)]
pub struct NodeKey {
    private: Zeroizing<[u8; KEY_LEN]>,
    public: PublicKey,
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It has another form.
    #[error("a node key is 64 hexadecimal digits")]
    Form,
    /// The library has no X25519; never, as it is built.
    #[error("no X25519 in this build")]
    Unsupported,
}

impl NodeKey {
    /// The key of 32 bytes drawn at random.
    pub fn from_bytes(mut bytes: [u8; KEY_LEN]) -> Result<Self, KeyError> {
        let private = Zeroizing::new(bytes);
        bytes.zeroize();
        let public = public_key(&private).ok_or(KeyError::Unsupported)?;
        Ok(Self { private, public: PublicKey(public) })
    }

    /// Reads what [`NodeKey::to_hex`] wrote.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(hex::read(text.trim()).map_err(|_| KeyError::Form)?)
    }

    /// As it is kept in a file.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(Hex(&*self.private).to_string())
    }

    /// What others know it by.
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn private(&self) -> &[u8; KEY_LEN] {
        &self.private
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").field("public", &self.public.to_string()).finish_non_exhaustive()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        hex::read(text).map(Self).map_err(|_| KeyError::Form)
    }
}
