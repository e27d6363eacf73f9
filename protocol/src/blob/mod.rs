//! Blobs: files in chunks, either way, below everything else on the same connection.
//!
//! ```text
//! message   what is said: Open, Chunk, Ack, Done
//! receiver  Receiver: what came, how far it is written, how much more may come
//! sender    Sender: what may be sent next
//! device    Transfers: the device's end, one transfer at a time
//! relay     Relay: the IM-server's end, between a device and a route
//! ```
//!
//! A receiver says from which byte on it wants the blob and up to which byte there is room for it, so a cut costs no
//! byte that was taken, and nothing that a sender does can make a receiver hold more than it offered. Nobody but the
//! receiver keeps anything over a cut. Like all of this crate the machines hold no payload.

mod device;
mod message;
mod receiver;
mod relay;
mod sender;
#[cfg(test)]
mod tests;

pub use device::{Answer, Subject, Transfers, Transmit, Work};
pub use message::{Ack, Action, BlobFrame, Chunk, Done, Kind, Open, Outcome, SIGNED_LEN, signed};
pub use receiver::Receiver;
pub use relay::Relay;
pub use sender::Sender;

use core::fmt;

/// Longest name of a blob, in bytes; of the same bytes as a device id.
pub const NAME_LEN_MAX: usize = 64;
/// Bytes of a signature: Ed25519.
pub const SIGNATURE_LEN: usize = 64;
/// Most bytes that are on the way to one receiver, whatever it offered.
pub const WINDOW_MAX: u32 = 64 * 1024;
/// Bytes that a `BlobChunk` adds to its bytes at most: length 3, kind 1, transfer 5, offset 5, length 3, and the longer
/// check, a tag of 16.
pub const CHUNK_OVERHEAD: usize = 33;
/// Longest `BlobOpen` in bytes, its length and check included.
pub const OPEN_LEN_MAX: usize = 3 + 1 + 5 + 1 + 1 + (1 + NAME_LEN_MAX) + 5 + 32 + (1 + SIGNATURE_LEN) + 16;

const _: () = assert!(OPEN_LEN_MAX <= crate::limits::RECEIVE_LIMIT_MIN);

/// The peer broke a rule of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BlobFault {
    /// A chunk is empty, not the next one, or more than there is room for.
    Chunk {
        /// Where the chunk begins.
        offset: u32,
        /// Its bytes.
        len: usize,
        /// Where the next one has to begin.
        expected: u32,
        /// Up to where there is room.
        limit: u32,
    },
    /// An acknowledgement of what was not sent, or one that takes back what was acknowledged.
    Ack {
        /// Offset given.
        offset: u32,
        /// Limit given.
        limit: u32,
    },
    /// A kind of frame that this end does not get, or a transfer that was not opened.
    Order,
}

impl fmt::Display for BlobFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunk { offset, len, expected, limit } => write!(
                f,
                "a chunk of {len} bytes at {offset}; the next one begins at {expected}, and there is room up to {limit}"
            ),
            Self::Ack { offset, limit } => {
                write!(f, "an acknowledgement up to {offset} with room up to {limit} that cannot be true")
            }
            Self::Order => f.write_str("a frame of a transfer that was not opened, or of its other end"),
        }
    }
}

impl core::error::Error for BlobFault {}

/// Where a chunk of `len` bytes at `offset` ends, if it has any, is the one that is `expected` and fits below `limit`.
fn end_of_chunk(offset: u32, len: usize, expected: u32, limit: u32) -> Result<u32, BlobFault> {
    let end = u32::try_from(len).ok().and_then(|len| offset.checked_add(len));
    let end = end.filter(|end| offset == expected && len > 0 && *end <= limit);
    end.ok_or(BlobFault::Chunk { offset, len, expected, limit })
}
