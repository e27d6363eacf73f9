//! Blobs: firmware images and files to this device, files of this device to whoever may fetch them.
//!
//! ```text
//! Runner ──chunks──▶ BlobState (one buffer) ──▶ Blobs::run ──▶ BlobSink    a partition, a folder
//!        ◀─chunks──                         ◀──            ◀── BlobSource  a log, a core dump
//! ```
//!
//! Chunks go below everything else: the server sends no more than the buffer holds, and the runner sends a chunk only
//! when nothing else is due. [`Blobs::run`] is a task of its own, so messages are handled while flash is erased. It
//! gives way between buffers; checking a signature is one step, about 20 million cycles of a Cortex-M3.
//!
//! A firmware image is taken only with the signature of a pinned key, which is checked before the first byte. At
//! the end the hash is computed over what was really written, read back. Only then [`BlobSink::finish`] is asked to
//! keep or mark it, and its answer is what the sender is told.

#[cfg(feature = "tokio")]
mod files;
#[cfg(feature = "flash")]
mod partition;

mod state;
mod verify;

#[cfg(feature = "tokio")]
pub use files::Files;
pub use imlink_protocol::blob::{Kind as BlobKind, Subject as Blob};
#[cfg(feature = "flash")]
pub use partition::{Image, Partition, PartitionError};

pub use state::{BlobState, Blobs};

/// Where blobs go that the server sends.
///
/// The calls come in order: `begin`, then `write` from the offset it gave on, without gaps, then `read` of all of it,
/// then `finish`, or `abort` when the hash does not fit. After a cut they go on where they were; `begin` comes again
/// only for another blob, or after a power-on.
pub trait BlobSink {
    /// Makes ready for `blob`. Gives how many of its bytes are there from an earlier power-on, 0 for none; what was
    /// kept of another blob may go. A firmware image comes here only with a good signature.
    async fn begin(&mut self, blob: &Blob) -> Result<u32, Refusal>;

    /// Writes `bytes` at `offset`. All writes but the last have the length of the [`BlobState`]'s buffer, unless
    /// `begin` gave an offset that is no multiple of it.
    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), StorageError>;

    /// Reads what was written.
    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), StorageError>;

    /// `blob` is all there and checked: keeps it, or marks it to be booted next.
    async fn finish(&mut self, blob: &Blob) -> Result<Kept, StorageError>;

    /// What was written does not have the hash that was stated: forgets it.
    async fn abort(&mut self, blob: &Blob);
}

/// Where blobs come from that are fetched from this device.
pub trait BlobSource {
    /// What has this name, and its length; `None` for nothing.
    async fn find(&mut self, name: &str) -> Option<(BlobKind, u32)>;

    /// Reads from what was found last.
    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), StorageError>;
}

/// What a [`BlobSink`] did with a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Kept {
    /// It is kept.
    Stored,
    /// It is kept and will be booted next.
    Marked,
}

/// Why a [`BlobSink`] does not take a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Refusal {
    /// None of this kind or name.
    Unsupported,
    /// Larger than there is room for.
    TooLarge {
        /// Largest size that is taken, in bytes.
        max: u32,
    },
    /// The storage failed.
    Storage,
}

/// The storage failed, or does not hold what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct StorageError;

impl core::fmt::Display for StorageError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the storage of a blob failed")
    }
}

impl core::error::Error for StorageError {}

/// Takes nothing and has nothing: for the side that a device does not use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl BlobSink for Nothing {
    async fn begin(&mut self, _: &Blob) -> Result<u32, Refusal> {
        Err(Refusal::Unsupported)
    }

    async fn write(&mut self, _: u32, _: &[u8]) -> Result<(), StorageError> {
        Err(StorageError)
    }

    async fn read(&mut self, _: u32, _: &mut [u8]) -> Result<(), StorageError> {
        Err(StorageError)
    }

    async fn finish(&mut self, _: &Blob) -> Result<Kept, StorageError> {
        Err(StorageError)
    }

    async fn abort(&mut self, _: &Blob) {}
}

impl BlobSource for Nothing {
    async fn find(&mut self, _: &str) -> Option<(BlobKind, u32)> {
        None
    }

    async fn read(&mut self, _: u32, _: &mut [u8]) -> Result<(), StorageError> {
        Err(StorageError)
    }
}
