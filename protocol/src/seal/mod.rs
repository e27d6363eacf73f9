//! The sealed link: who the device is, proved, and every byte behind that private.
//!
//! ```text
//! login    device ──Login──▶ route     Noise_IKpsk2_25519_ChaChaPoly_SHA256, the device's key, the route's key
//! attach   device ──Attach─▶ server    Noise_NNpsk0_25519_ChaChaPoly_SHA256, psk = the ticket's key
//!          device ◀─Answer── either    the second and last message of the handshake
//!          device ◀─Refuse── either    instead of it: nothing is proved, so it is only a hint
//!
//! record   length · sealed body · tag  every frame after the handshake
//! length   varint, 1–3 bytes           bytes of sealed body and tag; the tag's associated data
//! tag      16 bytes                    ChaCha20-Poly1305, nonce = 4 zero bytes · counter (8 bytes, LE)
//! ```
//!
//! The first record of the device is `Hello`, and before it opens the server keeps nothing: the first
//! handshake message can be replayed by anybody. Each direction counts its records from 0, never sends the
//! counter, and changes its key after every 2^20 records (Noise `REKEY`). A record that does not open ends the
//! connection.
//!
//! What is here is bytes in, bytes out. [`Initiator`] is the device's end, without heap; the responder is the
//! crate `imlink-seal`, made of another library, so that each checks the other.

#[cfg(feature = "seal")]
mod initiator;
mod message;
#[cfg(feature = "seal")]
mod primitives;
mod record;
#[cfg(all(test, feature = "seal"))]
mod vectors;

#[cfg(feature = "seal")]
pub use initiator::{Attach, Finished, Initiator, Login, MESSAGE_LEN_MAX};
pub use message::{Claim, FromStranger, Greeting, LoginClaim, REFUSE_LEN_MAX, ToStranger, take};
#[cfg(feature = "seal")]
pub use primitives::Portable;
pub use record::{Aead, Opened, Opener, REKEY_AFTER, Records, Sealer, TAG_LEN, nonce};

use core::fmt;

use crate::frame::FrameError;

pub use crate::key_pair::KEY_LEN;
/// Bytes of the mac in front of a login.
pub const MAC_LEN: usize = 16;
/// Noise pattern of a login.
pub const LOGIN_PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_SHA256";
/// Noise pattern of an attach.
pub const ATTACH_PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
/// What the prologue of a login begins with; version and tenant follow.
pub const LOGIN_PROLOGUE: &[u8] = b"imlink login";
/// What the prologue of an attach begins with; version and the SHA-256 of the ticket follow.
pub const ATTACH_PROLOGUE: &[u8] = b"imlink attach";
/// What is hashed, together with a route's public key, to the key of the mac in front of a login.
pub const MAC_LABEL: &[u8] = b"imlink login mac";

/// Why a handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SealError {
    /// Not a frame, or not one of the handshake.
    Frame(FrameError),
    /// The peer does not speak this version.
    Version {
        /// Its version.
        given: u8,
    },
    /// The peer answers as on a plain link: its port, or our configuration, is the wrong one.
    Plain,
    /// A handshake message does not open: a wrong key, or bytes changed on their way.
    Handshake,
    /// The handshake message does not fit the buffer.
    Buffer {
        /// Bytes needed.
        needed: usize,
    },
}

impl SealError {
    /// A short name for metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Frame(error) => error.name(),
            Self::Version { .. } => "version",
            Self::Plain => "plain",
            Self::Handshake => "handshake",
            Self::Buffer { .. } => "buffer",
        }
    }
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::Version { given } => {
                write!(f, "the peer speaks version {given} of the handshake, here it is {}", crate::VERSION)
            }
            Self::Plain => f.write_str("the peer speaks as on a plain link: use its sealed port"),
            Self::Handshake => f.write_str("the handshake does not open: a wrong key, or changed bytes"),
            Self::Buffer { needed } => write!(f, "the handshake needs a buffer of {needed} bytes"),
        }
    }
}

impl core::error::Error for SealError {}

impl From<FrameError> for SealError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}
