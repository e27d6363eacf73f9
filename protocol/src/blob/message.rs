//! What is said about a transfer, the same both ways.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::message::named_codes;
#[cfg(feature = "blob")]
use crate::message::{FromDevice, ToDevice};

/// Any frame of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobFrame<'a> {
    /// What is to be transferred.
    #[serde(borrow)]
    Open(Open<'a>),
    /// Bytes of it.
    Chunk(Chunk<'a>),
    /// How far the receiver is.
    Ack(Ack),
    /// How it ended.
    Done(Done),
}

/// Opens a transfer, or answers one that was opened with [`Action::Want`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open<'a> {
    /// Number of the transfer in this session, counting up from 1; chosen by the IM-server.
    pub transfer: u32,
    /// Who sends.
    pub action: Action,
    /// What the blob is.
    pub kind: Kind,
    /// Its name, 1 … [`NAME_LEN_MAX`](super::NAME_LEN_MAX) bytes of `[A-Za-z0-9._:-]`.
    pub name: &'a str,
    /// Its length in bytes; 0 with [`Action::Want`].
    pub size: u32,
    /// SHA-256 over it; with [`Action::Want`] that of the version to be continued, or zeros.
    pub sha256: [u8; 32],
    /// Ed25519 signature over [`signed`], or nothing.
    pub signature: &'a [u8],
}

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Action {
    /// Who says this sends the blob.
    Give,
    /// Who says this wants the blob.
    Want,
}

named_codes! {
    /// What a blob is for.
    Kind {
        /// Nothing but a file.
        File = "file",
        /// An image to be booted: taken only with the signature of a pinned key.
        Firmware = "firmware",
    }
}

/// Bytes of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk<'a> {
    /// Number of the transfer.
    pub transfer: u32,
    /// Where they begin.
    pub offset: u32,
    /// At least one.
    pub bytes: &'a [u8],
}

/// How far a receiver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Number of the transfer; 0: the device takes part in transfers, and has room for `limit` bytes at once.
    pub transfer: u32,
    /// Everything before this byte is kept by the receiver, over a cut too.
    pub offset: u32,
    /// Bytes before this one may be sent.
    pub limit: u32,
}

/// How a transfer ended. From a receiver: what became of the blob; from a sender: it goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Number of the transfer.
    pub transfer: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// With [`Outcome::TooLarge`] the largest size that is taken, else 0.
    pub detail: u32,
}

named_codes! {
    /// How a transfer ended.
    Outcome {
        /// It is kept, and its hash was checked.
        Stored = "stored",
        /// It is kept, hash and signature were checked, and it will be booted next.
        Marked = "marked",
        /// Nobody waits for it any longer; what came stays for the next try.
        Cancelled = "cancelled",
        /// The device takes no part in transfers, or not in those of this kind.
        Unsupported = "unsupported",
        /// The device is busy with another transfer.
        Busy = "busy",
        /// Larger than the receiver can keep.
        TooLarge = "too-large",
        /// There is nothing of this name.
        NotFound = "not-found",
        /// What has this name is another version than the one to be continued.
        Changed = "changed",
        /// The bytes do not have the hash that was stated; they were dropped.
        Hash = "hash",
        /// The signature is missing or not that of a pinned key; nothing was taken.
        Signature = "signature",
        /// The receiver could not write, or the sender not read.
        Storage = "storage",
        /// The peer broke a rule of the transfer.
        Order = "order",
        /// The session ended. Said by an IM-server, never by a device.
        Disconnected = "disconnected",
    }
}

impl Outcome {
    /// Whether the blob arrived.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Stored | Self::Marked)
    }
}

/// Bytes that are signed.
pub const SIGNED_LEN: usize = 12 + 1 + 4 + 32;

/// What a signature is over: `imlink blob` · 0 · kind (1 byte) · size (4, little-endian) · SHA-256 of the blob.
pub fn signed(kind: Kind, size: u32, sha256: &[u8; 32]) -> [u8; SIGNED_LEN] {
    let mut text = [0; SIGNED_LEN];
    let parts: [&[u8]; 4] = [b"imlink blob\0", &[kind as u8], &size.to_le_bytes(), sha256];
    for (to, from) in text.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    text
}

impl<'a> BlobFrame<'a> {
    /// The same for the transfer of another number.
    pub fn of(self, transfer: u32) -> Self {
        match self {
            Self::Open(open) => Self::Open(Open { transfer, ..open }),
            Self::Chunk(chunk) => Self::Chunk(Chunk { transfer, ..chunk }),
            Self::Ack(ack) => Self::Ack(Ack { transfer, ..ack }),
            Self::Done(done) => Self::Done(Done { transfer, ..done }),
        }
    }
}

/// Either direction of a device's link has the frames of transfers among its own.
#[cfg(feature = "blob")]
macro_rules! carries_blobs {
    ($($direction:ident),*) => {$(
        impl<'a> From<BlobFrame<'a>> for $direction<'a> {
            fn from(frame: BlobFrame<'a>) -> Self {
                match frame {
                    BlobFrame::Open(open) => Self::BlobOpen(open),
                    BlobFrame::Chunk(chunk) => Self::BlobChunk(chunk),
                    BlobFrame::Ack(ack) => Self::BlobAck(ack),
                    BlobFrame::Done(done) => Self::BlobDone(done),
                }
            }
        }
    )*};
}

#[cfg(feature = "blob")]
carries_blobs!(FromDevice, ToDevice);
